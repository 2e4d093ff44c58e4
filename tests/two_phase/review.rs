//! What becomes of decisions and their witnesses.

use std::time::Duration;

use crate::stage::{Bank, said};
use crate::support::raw::Raw;
use crate::support::{self, Proxy, eventually_within};
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
