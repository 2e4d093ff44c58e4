//! The rules of [`super::decide`], a row each.

use std::time::{Duration, Instant};

use super::super::state::{HealthSettings, Lsn, Observation, Probe, ProbeFailure, ServerVersion};
use super::*;

/// An endpoint: `P` primary, `R` replica, `O` read-only, `L` lagging replica, then `timeline`
/// (`?` unknown), then `@system` where it is not 7 (`@?` unknown); `A:` before it for an
/// analytics endpoint, `X` after all that for one that says it is another shard; `down`, `new` (not heard of), `shaky+…` failed once after that.
fn endpoint(text: &str) -> (Purpose, EndpointHealth) {
    let (purpose, text) = match text.strip_prefix("A:") {
        Some(rest) => (Purpose::Analytics, rest),
        None => (Purpose::Serving, text),
    };
    let settings = HealthSettings::default();
    let mut health = EndpointHealth::default();
    let failure = || Observation {
        at: Instant::now(),
        result: Err(ProbeFailure::Connect("connection refused".to_owned())),
    };
    if text == "new" {
        return (purpose, health);
    }
    if text == "down" {
        health.observe(&settings, failure(), None);
        return (purpose, health);
    }
    let (shaky, text) = match text.strip_prefix("shaky+") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (text, stranger) = match text.strip_suffix('X') {
        Some(rest) => (rest, Some(Stranger::Shard { says: "s2".to_owned(), expected: "s1".to_owned() })),
        None => (text, None),
    };
    let (server, system) = text.split_once('@').unwrap_or((text, "7"));
    let (role, timeline) = server.split_at(1);
    let probe = Probe {
        in_recovery: matches!(role, "R" | "L"),
        read_only: role == "O",
        timeline: timeline.parse().ok(),
        system_identifier: system.parse().ok(),
        lsn: Some(Lsn(1)),
        replayed_all: true,
        replay_age: None,
        server_version: ServerVersion(150_000),
        max_prepared_transactions: 0,
        server_encoding: "UTF8".to_owned(),
        stranger,
    };
    let lag = Duration::from_secs(if role == "L" { 60 } else { 0 });
    health.observe(&settings, Observation { at: Instant::now(), result: Ok(probe) }, Some(lag));
    if shaky {
        health.observe(&settings, failure(), None);
    }
    (purpose, health)
}

fn list(indexes: &[EndpointIndex]) -> String {
    indexes.iter().map(|index| index.0.to_string()).collect::<Vec<_>>().join(",")
}

fn show(roles: &ShardRoles) -> String {
    let primary = match &roles.primary {
        Ok(index) => index.0.to_string(),
        Err(NoPrimary::Unknown) => "unknown".to_owned(),
        Err(NoPrimary::NoneUp) => "none".to_owned(),
        Err(NoPrimary::Conflict { claimants, .. }) => format!("conflict {}", list(claimants)),
        Err(NoPrimary::Stranger { claimant, .. }) => format!("other shard {}", claimant.0),
        Err(NoPrimary::DifferentSystem(claimants)) => format!("strangers {}", list(claimants)),
        Err(NoPrimary::Fenced { timeline, claimants }) => format!("fenced<{timeline} {}", list(claimants)),
    };
    let refused: Vec<EndpointIndex> = roles.refused.iter().map(|(index, _)| *index).collect();
    let mut shown = format!("{primary} | {}", list(&roles.replicas));
    for (name, indexes) in [("analytics", &roles.analytics), ("refused", &refused)] {
        if !indexes.is_empty() {
            shown += &format!(" | {name} {}", list(indexes));
        }
    }
    shown
}

/// Steps separated by ` -> ` share one memory; each is a list of endpoints and what is expected.
fn check(steps: &[(&str, &str)]) {
    let mut memory = Memory::default();
    for (endpoints, expect) in steps {
        let endpoints: Vec<_> = endpoints.split_whitespace().map(endpoint).collect();
        let seen: Vec<Seen<'_>> = endpoints.iter().map(|(purpose, health)| (*purpose, health)).collect();
        memory.learn(&seen);
        assert_eq!(show(&decide(&memory, &seen)), *expect, "{steps:?}");
    }
}

#[test]
fn one_moment() {
    for (endpoints, expect) in [
        ("P1", "0 | "),
        ("R1", "none | 0"),
        ("down", "none | "),
        ("new", "unknown | "),
        ("P1 R1", "0 | 1"),
        ("R1 P1 R1", "1 | 0,2"),
        ("R1 R1", "none | 0,1"),
        ("P1 L1", "0 | "),
        ("P1 down", "0 | "),
        ("shaky+P1 R1", "0 | 1"),
        // nobody is named before everyone was heard
        ("P1 new", "unknown | "),
        ("new R1", "unknown | 1"),
        ("P1 A:new", "0 | "),
        // the highest timeline
        ("P1 P2", "1 |  | refused 0"),
        ("P3 P2", "0 |  | refused 1"),
        ("P3 P2 P2", "0 |  | refused 1,2"),
        // one timeline, two claimants
        ("P1 P1", "conflict 0,1 |  | refused 0,1"),
        ("P2 P1 P2", "conflict 0,2 |  | refused 1,0,2"),
        ("P? P?", "conflict 0,1 |  | refused 0,1"),
        ("P?", "0 | "),
        ("P? R?", "0 | 1"),
        // a timeline that cannot be read is not believed against one that can
        ("P? P1", "1 |  | refused 0"),
        ("P? R1", "fenced<1 0 | 1 | refused 0"),
        // one that yielded takes no writes, and still fences
        ("O1 P1", "1 | "),
        ("O2 P1", "fenced<2 1 |  | refused 1"),
        ("O1 R1", "none | 1"),
        // a replica that follows a newer timeline fences a primary
        ("P1 R2", "fenced<2 0 | 1 | refused 0"),
        ("P1 L2", "fenced<2 0 |  | refused 0"),
        ("P2 R1", "0 |  | refused 1"),
        ("P2 R?", "0 | 1"),
        // another shard, whose timeline and cluster say nothing of this one
        ("P1X", "other shard 0 |  | refused 0"),
        ("P1X R1X", "other shard 0 |  | refused 0,1"),
        ("P1 P2X", "0 |  | refused 1"),
        ("P3@8X R1 P1", "2 | 1 | refused 0"),
        ("R1X P1 A:R1X", "1 |  | refused 0,2"),
        ("R1X", "none |  | refused 0"),
        ("P1X P1 R2", "fenced<2 1 | 2 | refused 0,1"),
        ("A:P1X down", "none |  | refused 0"),
        // other clusters
        ("P1@8", "0 | "),
        ("P1@8 P1@9", "strangers 0,1 |  | refused 0,1"),
        ("P1@8 R1@9", "strangers 0,1 |  | refused 0,1"),
        ("P1@? R1@?", "0 | 1"),
        ("P1@? R1@8", "0 | 1"),
        // analytics
        ("P1 A:R1", "0 |  | analytics 1"),
        ("P1 A:L1", "0 | "),
        ("P1 A:P2", "0 |  | refused 1"),
        ("down A:P1", "none |  | refused 1"),
        ("P1 A:R1@8", "0 |  | refused 1"),
    ] {
        check(&[(endpoints, expect)]);
    }
}

#[test]
fn what_was_seen_is_remembered() {
    // start-up, then a failover, then the old primary comes back
    check(&[
        ("new new new", "unknown | "),
        ("P1 new new", "unknown | "),
        ("P1 R1 new", "unknown | 1"),
        ("P1 R1 R1", "0 | 1,2"),
        ("down R1 R1", "none | 1,2"),
        ("down P2 R1", "1 |  | refused 2"),
        ("down P2 R2", "1 | 2"),
        ("P1 P2 R2", "1 | 2 | refused 0"),
        ("P1 down R2", "fenced<2 0 | 2 | refused 0"),
        ("P1 down down", "fenced<2 0 |  | refused 0"),
        ("R2 P2 R2", "1 | 0,2"),
    ]);
    // an endpoint added later is no reason to doubt
    check(&[("P1", "0 | "), ("P1 new", "0 | "), ("P1 P2", "1 |  | refused 0")]);
    // the shard's cluster is known: another one is refused, and does not fence
    check(&[
        ("P1 R1", "0 | 1"),
        ("P1 R1@8", "0 |  | refused 1"),
        ("down P5@8", "none |  | refused 1"),
        ("P1 P5@8", "0 |  | refused 1"),
    ]);
    // strangers at start, until one goes
    check(&[("P1@8 P1@9", "strangers 0,1 |  | refused 0,1"), ("P1@8 down", "0 | ")]);
    // two primaries until one yields
    check(&[("P1 P1", "conflict 0,1 |  | refused 0,1"), ("P1 R1", "0 | 1")]);
}

#[test]
fn words() {
    let seen: Vec<_> = ["P1", "P2@8"].map(endpoint).into_iter().collect();
    let seen: Vec<Seen<'_>> = seen.iter().map(|(purpose, health)| (*purpose, health)).collect();
    let memory = Memory { complete: true, system_identifier: Some(7), timeline: Some(3) };
    let roles = decide(&memory, &seen);
    assert_eq!(
        roles.primary.unwrap_err().to_string(),
        "timeline 3 has been seen, and only older ones take writes"
    );
    let words: Vec<String> = roles.refused.iter().map(|(_, why)| why.to_string()).collect();
    assert_eq!(
        words,
        [
            "belongs to another cluster: its system identifier is 8, the shard's is 7",
            "takes writes on timeline 1, but timeline 3 has been seen"
        ]
    );
}
