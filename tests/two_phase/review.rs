//! What becomes of decisions and their witnesses.

use std::time::{Duration, Instant};

use crate::stage::{Bank, said};
use crate::support::raw::Raw;
use crate::support::{self, Config, Proxy, eventually_within};
use pgring::demo::sample::APP;

const PATIENCE: Duration = Duration::from_secs(60);

/// As if an hour had gone by since.
const LATER: &str = "UPDATE pgring.decision SET since = since - interval '2 hours'";

#[test]
fn rows_go_when_nobody_needs_them() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    bank.begin_transfer(&mut raw, 1);
    assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
    // An abort row beside it.
    bank.rows(0, "INSERT INTO pgring.decision (xid, verdict) VALUES (gen_random_uuid(), 'abort')");
    let stages = || {
        bank.rows(0, "SELECT string_agg(stage || ' ' || verdict, ', ' ORDER BY verdict) FROM pgring.decision")
    };
    eventually_within(PATIENCE, "all have followed", || stages() == "fresh abort, settled commit");
    assert_eq!(bank.rows(1, "SELECT count(*) FROM pgring.applied"), "1");
    bank.rows(0, LATER);
    eventually_within(PATIENCE, "the decisions are gone", || stages().is_empty());
    assert_eq!(bank.rows(1, "SELECT count(*) FROM pgring.applied"), "0");
    assert_eq!(proxy.metric("pgring_two_phase_total{outcome=\"lost\"}"), Some(0.0));
}

/// A commit that a shard has lost its part of, or the decision of, is counted and said.
#[test]
fn what_was_lost_is_cried() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    bank.begin_transfer(&mut raw, 1);
    assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
    bank.rows(1, "DELETE FROM pgring.applied");
    bank.begin_transfer(&mut raw, 1);
    assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
    bank.rows(
        0,
        "DELETE FROM pgring.decision WHERE xid = (SELECT max(xid::text)::uuid FROM pgring.decision)",
    );
    bank.rows(1, "UPDATE pgring.applied SET made = made - interval '1 minute'");
    let lost = || proxy.metric("pgring_two_phase_total{outcome=\"lost\"}");
    eventually_within(PATIENCE, "both are counted", || lost() >= Some(2.0));
    let log = proxy.log();
    assert!(log.contains("a participant has lost its part"), "{log}");
    assert!(log.contains("the deciding shard has lost the decision"), "{log}");
    assert_eq!(bank.rows(0, "SELECT string_agg(stage, ' ') FROM pgring.decision"), "lost");
}

/// A pgring whose file lacks the deciding shard knows nothing of what was decided there.
#[test]
fn who_lacks_the_decider_does_not_judge() {
    let servers = support::servers(3);
    let bank = Bank::open(&servers);
    let whole = Proxy::start(bank.config());
    let mut raw = Raw::login(&whole.address(), APP, &bank.name);
    bank.begin_transfer(&mut raw, 1);
    assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
    let beside = || bank.rows(1, "SELECT count(*) FROM pgring.neighbour");
    eventually_within(PATIENCE, "the shards are known to be beside each other", || beside() == "3");
    drop(whole);
    bank.rows(1, "UPDATE pgring.applied SET made = made - interval '1 minute'");
    // It is told to do with fewer.
    (1..3).for_each(|shard| _ = bank.rows(shard, "DELETE FROM pgring.placement"));
    let config = Config::new().database(&bank.name, &servers[1..]);
    let lacking = Proxy::start(config.replace("\"s2\"", "\"s3\"").replace("\"s1\"", "\"s2\""));
    let lost = || lacking.metric("pgring_two_phase_total{outcome=\"lost\"}");
    // It listens to witnesses every five seconds.
    let until = Instant::now() + Duration::from_secs(15);
    while Instant::now() < until {
        assert_eq!(lost().unwrap_or_default(), 0.0, "{}", lacking.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(bank.rows(1, "SELECT cried FROM pgring.applied"), "f");
    // One that was not there any more when it was committed has not decided it.
    bank.rows(1, "UPDATE pgring.neighbour SET seen = seen - interval '2 hours'");
    eventually_within(PATIENCE, "it is judged", || lost() == Some(1.0));
}

/// However many rows cannot be judged: those behind them are.
#[test]
fn what_cannot_be_judged_holds_nothing_up() {
    let servers = support::servers(2);
    for (stage, then) in [("fresh", "settled"), ("settled", "")] {
        let bank = Bank::open(&servers);
        let proxy = Proxy::start(bank.config());
        let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
        bank.begin_transfer(&mut raw, 1);
        assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
        let ours = bank.rows(0, "SELECT xid FROM pgring.decision");
        let is_now = || bank.rows(0, &format!("SELECT stage FROM pgring.decision WHERE xid = '{ours}'"));
        // Of a shard that is not in the file any more.
        let others = "INSERT INTO pgring.decision (xid, verdict, owner, participants, stage, since)
                      SELECT gen_random_uuid(), 'commit', 'app', '{1/gone}', '$1', clock_timestamp() - interval '1 day'
                      FROM generate_series(1, 1500)";
        if stage == "settled" {
            eventually_within(PATIENCE, "it is settled", || is_now() == "settled");
        }
        bank.rows(0, &others.replace("$1", stage));
        if stage == "settled" {
            bank.rows(0, &format!("{LATER} WHERE xid = '{ours}'"));
        }
        eventually_within(PATIENCE, "its turn comes", || is_now() == then);
        assert_eq!(
            bank.rows(0, "SELECT count(*) FROM pgring.decision WHERE participants = '{1/gone}'"),
            "1500"
        );
    }
}
