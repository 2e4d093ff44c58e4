//! Pools that are too small, and time that is up.

use std::collections::VecDeque;

use crate::support::raw::{self, Raw};
use crate::support::{self, Config};

use super::stage::{BOTH, Stage, error, short};

#[test]
fn a_pool_without_a_free_connection_is_named() {
    let stage =
        Stage::new(Config::new().set("pool", "size", "1").set("pool", "checkout_timeout", "\"200ms\""));
    for protocol in BOTH {
        let mut holder = stage.session();
        protocol.ask(&mut holder, "BEGIN");
        protocol.ask(&mut holder, &stage.fill("SELECT id FROM users WHERE id = {a}"));
        let mut waiter = stage.session();
        let ask = stage.fill("SELECT id FROM users WHERE id = {a}");
        let answer = protocol.ask(&mut waiter, &ask);
        assert_eq!(short(&answer), "E 53300 | I");
        let message = error(&answer).field(b'M').unwrap();
        assert!(
            message.contains("s2") && message.contains(&stage.name) && message.contains("size 1"),
            "{message}"
        );
        // Other shards are not concerned, and a transaction that could not begin is failed.
        let other = stage.fill("SELECT id FROM users WHERE id = {b}");
        assert_eq!(protocol.short(&mut waiter, &other), stage.fill("{b} | SELECT 1 | I"));
        protocol.ask(&mut waiter, "BEGIN");
        assert_eq!(protocol.short(&mut waiter, &ask), "E 53300 | E");
        assert_eq!(protocol.short(&mut waiter, "SELECT 1"), "E 25P02 | E");
        assert_eq!(protocol.short(&mut waiter, "COMMIT"), "ROLLBACK | I");
        protocol.ask(&mut holder, "COMMIT");
        assert_eq!(protocol.short(&mut waiter, &ask), stage.fill("{a} | SELECT 1 | I"));
    }
}

#[test]
fn who_waits_longest_is_served_first() {
    let stage = Stage::new(Config::new().set("pool", "size", "1").set("pool", "checkout_timeout", "\"30s\""));
    let log = "CREATE TABLE arrivals (n serial, who int)";
    stage.directly(1, &format!("{log}; GRANT ALL ON arrivals, arrivals_n_seq TO app"));
    let mut holder = stage.session();
    holder.query("BEGIN");
    holder.query(&stage.fill("SELECT id FROM users WHERE id = {a}"));
    let mut waiters = VecDeque::new();
    for who in 0..12 {
        let mut waiter = stage.session();
        waiter
            .send(&raw::query(&format!("INSERT INTO arrivals (who) VALUES ({who}) /* pgring: shard=s2 */")));
        waiters.push_back(waiter);
        support::eventually("it waits", || waiting(&stage) == who + 1);
    }
    holder.query("COMMIT");
    for mut waiter in waiters {
        assert_eq!(short(&waiter.until(b'Z', 1)), "INSERT 0 1 | I");
    }
    let order = stage.directly(1, "SELECT string_agg(who::text, ' ' ORDER BY n) FROM arrivals");
    assert_eq!(order, "0 1 2 3 4 5 6 7 8 9 10 11");
}

/// Clients that wait for a connection to the second shard, says the console.
fn waiting(stage: &Stage) -> usize {
    let mut console = Raw::login(&stage.proxy.address(), pgring::demo::sample::APP, "pgring");
    let clients = console.query("SHOW CLIENTS");
    clients
        .iter()
        .filter(|frame| frame.tag == b'D' && frame.columns().contains(&"waiting".to_owned()))
        .count()
}

#[test]
fn the_limit_holds_for_the_process() {
    let stage = Stage::new(Config::new().set("pool", "size", "3"));
    let ask = stage.fill("SELECT count(*), pg_sleep(0.002) FROM pg_stat_activity a, users u WHERE datname = current_database() AND usename = 'app' AND u.id = {a}");
    std::thread::scope(|scope| {
        for number in 0..30 {
            let (stage, ask) = (&stage, &ask);
            scope.spawn(move || {
                let mut session = stage.session();
                for round in 0..15 {
                    let answer = BOTH[(number + round) % 2].short(&mut session, ask);
                    let count: usize =
                        answer.split(',').next().unwrap().parse().unwrap_or_else(|_| panic!("{answer}"));
                    assert!(count <= 3, "{count} connections");
                }
            });
        }
    });
}

#[test]
fn each_time_limit_has_its_error() {
    let timed = |key: &str| Stage::new(Config::new().set("pool", key, "\"300ms\""));

    let stage = timed("query_timeout");
    for protocol in BOTH {
        let mut session = stage.session();
        let sleep = stage.fill("SELECT pg_sleep(100) FROM users WHERE id = {a}");
        assert_eq!(protocol.short(&mut session, &sleep), "E 57014 | I");
        assert_eq!(protocol.short(&mut session, "SELECT 1"), "1 | SELECT 1 | I");
        protocol.ask(&mut session, "BEGIN");
        assert_eq!(protocol.short(&mut session, &sleep), "E 57014 | E");
        assert_eq!(protocol.short(&mut session, "ROLLBACK"), "ROLLBACK | I");
    }

    let stage = timed("idle_transaction_timeout");
    for protocol in BOTH {
        for first in ["SELECT 1", "BEGIN"] {
            let mut session = stage.session();
            protocol.ask(&mut session, "BEGIN");
            protocol.ask(&mut session, first);
            assert_eq!(short(&session.rest()), "E 25P03 | closed");
        }
        let mut other = stage.session();
        assert_eq!(protocol.short(&mut other, "SELECT 1"), "1 | SELECT 1 | I");
    }

    let stage = timed("client_idle_timeout");
    for protocol in BOTH {
        let mut session = stage.session();
        assert_eq!(protocol.short(&mut session, "SELECT 1"), "1 | SELECT 1 | I");
        assert_eq!(short(&session.rest()), "E 57P05 | closed");
    }
}
