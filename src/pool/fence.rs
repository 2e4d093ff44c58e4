//! Ends what is under way with a primary that is none any more.
//!
//! Roles say where new transactions go. Those that have begun would go on where they are: with a
//! primary that was replaced but lives on, cut off from its successor, each of their commits would be
//! a lost write. So as soon as the successor is seen, or two claim to be primary, all connections to
//! the old one are ended; clients hear that their server was lost, or that the outcome is unknown.
//! A primary that only does not answer is left alone: it may be busy, and nobody has replaced it.

use super::health::{NoPrimary, Refusal, ShardSnapshot};
use super::shard::Shard;
use crate::config::Endpoint;
use std::sync::Weak;

/// Watches a shard for as long as it is there.
pub async fn watch(shard: Weak<Shard>) {
    let Some(mut changes) = shard.upgrade().map(|shard| shard.board.subscribe()) else { return };
    let mut trusted = Trusted::default();
    loop {
        {
            let Some(shard) = shard.upgrade() else { return };
            let snapshot = shard.board.load_full();
            for endpoint in trusted.deposed(&snapshot) {
                let ended = shard.registry.cut(&shard.database, &shard.name, &endpoint);
                if ended > 0 {
                    tracing::warn!(
                        database = shard.database,
                        "shard {} endpoint {endpoint} is primary no more: {ended} connections to it are ended",
                        shard.name
                    );
                }
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// The endpoints that transactions have been sent to as the primary's, and may still be under way; with
/// the timeline they were on. The same endpoint on a later one is another server: its name or its
/// address has moved on, and the connections there are have not.
#[derive(Debug, Default)]
struct Trusted(Vec<(Endpoint, Option<u32>)>);

impl Trusted {
    /// Those of them that must not be written to any more; each is named once.
    fn deposed(&mut self, now: &ShardSnapshot) -> Vec<Endpoint> {
        let primary = now.primary().ok().map(|endpoint| {
            (&endpoint.address, endpoint.health.probe.as_ref().and_then(|probe| probe.timeline))
        });
        let conflict = matches!(now.roles.primary, Err(NoPrimary::Conflict { .. }));
        let refused = |endpoint: &Endpoint| {
            now.roles.refused.iter().any(|(index, why)| {
                let writes = matches!(
                    why,
                    Refusal::Fenced { .. }
                        | Refusal::Conflict
                        | Refusal::DifferentSystem { .. }
                        | Refusal::Stranger(_)
                );
                writes && now.endpoints.get(index.index()).is_some_and(|at| at.address == *endpoint)
            })
        };
        let is_over = |(endpoint, timeline): &mut (Endpoint, Option<u32>)| match primary {
            Some((primary, now)) => primary != endpoint || now > *timeline,
            None => conflict || refused(endpoint),
        };
        let over = self.0.extract_if(.., is_over).map(|(endpoint, _)| endpoint).collect();
        if let Some((primary, timeline)) = primary
            && !self.0.iter().any(|(endpoint, _)| endpoint == primary)
        {
            self.0.push((primary.clone(), timeline));
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::health::board::{EndpointSnapshot, ShardSnapshot};
    use crate::pool::health::state::{Probe, ServerVersion};
    use crate::pool::health::{EndpointHealth, EndpointIndex, Purpose, ShardRoles};

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::Tcp { host: "h".to_owned(), port }
    }

    /// `0` primary, `0@2` on timeline 2; `none`; `fenced 1`: nobody, and 1 is refused for its timeline; `conflict 0 1`.
    fn snapshot(text: &str) -> ShardSnapshot {
        let mut words = text.split(' ');
        let first = words.next().unwrap();
        let named: Vec<EndpointIndex> = words.map(|word| EndpointIndex(word.parse().unwrap())).collect();
        let refuse = |why: Refusal| named.iter().map(|index| (*index, why.clone())).collect::<Vec<_>>();
        let (primary, refused) = match first {
            "none" => (Err(NoPrimary::NoneUp), Vec::new()),
            "fenced" => (
                Err(NoPrimary::Fenced { timeline: 2, claimants: named.clone() }),
                refuse(Refusal::Fenced { timeline: Some(1), seen: 2 }),
            ),
            "conflict" => (
                Err(NoPrimary::Conflict { timeline: Some(1), claimants: named.clone() }),
                refuse(Refusal::Conflict),
            ),
            index => {
                let index = index.split('@').next().unwrap();
                (Ok(EndpointIndex(index.parse().unwrap())), Vec::new())
            }
        };
        let timeline = first.split_once('@').map(|(_, timeline)| timeline.parse().unwrap());
        let probe = Probe {
            in_recovery: false,
            read_only: false,
            timeline,
            system_identifier: None,
            lsn: None,
            replayed_all: false,
            replay_age: None,
            server_version: ServerVersion(150_000),
            max_prepared_transactions: 0,
            server_encoding: "UTF8".to_owned(),
            stranger: None,
        };
        let at = |port| EndpointSnapshot {
            address: endpoint(port),
            purpose: Purpose::Serving,
            health: EndpointHealth { probe: Some(probe.clone()), ..EndpointHealth::default() },
        };
        ShardSnapshot {
            database: "db".to_owned(),
            shard: "s".to_owned(),
            endpoints: (0..3).map(at).collect(),
            roles: ShardRoles { primary, refused, ..ShardRoles::default() },
            generation: 0,
        }
    }

    #[test]
    fn who_is_deposed() {
        for steps in [
            // a failover, seen at once or through a time without
            &[("0", ""), ("1", "0"), ("1", "")][..],
            &[("0", ""), ("none", ""), ("1", "0")],
            // it only did not answer
            &[("0", ""), ("none", ""), ("0", "")],
            // the successor is known by its replicas only
            &[("0", ""), ("fenced 0", "0"), ("fenced 0", ""), ("1", "")],
            // who was never written to needs no end
            &[("0", ""), ("fenced 1", ""), ("0", "")],
            &[("0", ""), ("conflict 0 1", "0"), ("1", "")],
            // and back
            &[("0", ""), ("1", "0"), ("0", "1"), ("2", "0")],
            // its name has moved on
            &[("0@1", ""), ("0@1", ""), ("0@2", "0"), ("0@2", "")],
            &[("0", ""), ("0@2", "0"), ("1@3", "0")],
        ] {
            let mut trusted = Trusted::default();
            for (now, expect) in steps {
                let over: Vec<String> = trusted
                    .deposed(&snapshot(now))
                    .iter()
                    .map(|at| at.to_string().trim_start_matches("h:").to_owned())
                    .collect();
                assert_eq!(over.join(" "), *expect, "{now} of {steps:?}");
            }
        }
    }
}
