//! Servers that go away.

use pgring::demo::sample::APP;

use crate::support::{self, Config, eventually};

use super::stage::{BOTH, Stage, error, short};
use crate::support::raw::{Raw, copy_data, flush, query, run, sync};

/// Ends all of the clients' server connections to a shard and waits until they are gone.
fn terminate(stage: &Stage, shard: usize) {
    let gone = |what: &str| {
        format!("SELECT {what} FROM pg_stat_activity WHERE datname = '{}' AND usename = 'app'", stage.name)
    };
    stage.directly(shard, &gone("count(pg_terminate_backend(pid))"));
    support::eventually("the backends are gone", || stage.directly(shard, &gone("count(*)")) == "0");
}

#[test]
fn nobody_notices_that_an_idle_server_connection_was_ended() {
    let stage = Stage::new(Config::new());
    for protocol in BOTH {
        let mut session = stage.session();
        for _ in 0..3 {
            let ask = stage.fill("SELECT id FROM users WHERE id = {a}");
            assert_eq!(protocol.short(&mut session, &ask), stage.fill("{a} | SELECT 1 | I"));
            terminate(&stage, 1);
            protocol.ask(&mut session, "BEGIN");
            terminate(&stage, 1);
            assert_eq!(protocol.short(&mut session, &ask), stage.fill("{a} | SELECT 1 | T"));
            assert_eq!(protocol.short(&mut session, "COMMIT"), "COMMIT | I");
        }
    }
}

#[test]
fn a_statement_whose_server_goes_fails_alone() {
    let stage = Stage::new(Config::new());
    for protocol in BOTH {
        let mut session = stage.session();
        let sleep = stage.fill("SELECT pg_sleep(1000) FROM users WHERE id = {a}");
        let asked = std::thread::scope(|scope| {
            let asking = scope.spawn(|| protocol.ask(&mut session, &sleep));
            support::eventually("it sleeps", || {
                let count = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'",
                    stage.name
                );
                stage.directly(1, &count) == "1"
            });
            terminate(&stage, 1);
            asking.join().unwrap()
        });
        assert!(matches!(error(&asked).code().as_str(), "57P01" | "08006"), "{asked:?}");
        assert!(short(&asked).ends_with("| I"), "{asked:?}");
        let ask = stage.fill("SELECT id FROM users WHERE id = {a}");
        assert_eq!(protocol.short(&mut session, &ask), stage.fill("{a} | SELECT 1 | I"));
    }
}

#[test]
fn a_transaction_whose_server_goes_is_failed_until_it_is_ended() {
    let stage = Stage::new(Config::new());
    for protocol in BOTH {
        let mut session = stage.session();
        let update = stage.fill("UPDATE users SET name = 'gone' WHERE id = {a}");
        protocol.ask(&mut session, "BEGIN");
        protocol.ask(&mut session, "SET LOCAL standard_conforming_strings = on");
        protocol.ask(&mut session, "ROLLBACK");
        protocol.ask(&mut session, "BEGIN");
        assert_eq!(protocol.short(&mut session, &update), "UPDATE 1 | T");
        let sleep = stage.fill("SELECT pg_sleep(1000) FROM users WHERE id = {a}");
        let asked = std::thread::scope(|scope| {
            let asking = scope.spawn(|| protocol.ask(&mut session, &sleep));
            support::eventually("it sleeps", || {
                let count = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'",
                    stage.name
                );
                stage.directly(1, &count) == "1"
            });
            terminate(&stage, 1);
            asking.join().unwrap()
        });
        assert!(matches!(error(&asked).code().as_str(), "57P01" | "08006"), "{asked:?}");
        assert!(short(&asked).ends_with("| E"), "nothing may run outside of it: {asked:?}");
        assert_eq!(protocol.short(&mut session, &update), "E 25P02 | E");
        assert_eq!(protocol.short(&mut session, "SELECT 1"), "E 25P02 | E");
        assert_eq!(protocol.short(&mut session, "COMMIT"), "ROLLBACK | I");
        let name = protocol.short(&mut session, &stage.fill("SELECT name FROM users WHERE id = {a}"));
        assert!(!name.contains("gone"), "{name}");
    }
}

/// What stands behind a `COMMIT` in its batch is lost by itself, and that is said.
#[test]
fn what_is_lost_behind_an_answered_commit_fails() {
    let stage = Stage::new(Config::new());
    let mut blocker = stage.session();
    BOTH[0].ask(&mut blocker, "BEGIN");
    let update = stage.fill("UPDATE users SET name = 'blocked' WHERE id = {a}");
    assert_eq!(BOTH[0].short(&mut blocker, &update), "UPDATE 1 | T");
    let mut session = stage.session();
    BOTH[0].ask(&mut session, "BEGIN");
    BOTH[0].ask(&mut session, &stage.fill("SELECT id FROM users WHERE id = {a}"));
    session.send(&[run("COMMIT", &[]), flush()].concat());
    let committed = session.until(b'C', 1);
    assert!(short(&committed).contains("COMMIT"), "{committed:?}");
    session.send(&[run(&update, &[]), sync()].concat());
    let waiting = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = '{}' AND wait_event_type = 'Lock'",
        stage.name
    );
    support::eventually("it waits, and is ended", || stage.directly(1, &waiting) == "1");
    let lost = session.until(b'Z', 1);
    assert!(matches!(error(&lost).code().as_str(), "57P01" | "08006" | "08007"), "{lost:?}");
    assert!(short(&lost).ends_with("| I"), "{lost:?}");
}

#[test]
fn a_transaction_that_idles_while_its_server_goes_does_not_go_on() {
    let stage = Stage::new(Config::new());
    for protocol in BOTH {
        let mut session = stage.session();
        let update = stage.fill("UPDATE users SET name = 'gone' WHERE id = {a}");
        protocol.ask(&mut session, "BEGIN");
        assert_eq!(protocol.short(&mut session, &update), "UPDATE 1 | T");
        terminate(&stage, 1);
        session.try_send(&query(&update)).ok();
        let answer = session.until(b'Z', 1);
        // As PostgreSQL ends the session; or an error, and the transaction is failed.
        assert!(matches!(error(&answer).code().as_str(), "57P01" | "08006"), "{answer:?}");
        assert!(short(&answer).ends_with("closed") || short(&answer).ends_with("| E"), "{answer:?}");
        let name = stage.session().value(&stage.fill("SELECT name FROM users WHERE id = {a}"));
        assert_ne!(name, "gone");
    }
}

/// A COPY whose client says goodbye, or the half of it, and goes, keeps no server and no session.
#[test]
fn a_client_that_goes_in_a_copy_lets_go_of_its_server() {
    let stage = Stage::with_config(Config::new().set("pool", "size", "1"), "CREATE TABLE t (n int)");
    let goodbyes: [&[u8]; 4] = [b"X\0\0\0\x04", b"X", b"X\0\0\0\x0ap", b""];
    for extended in [false, true] {
        for goodbye in goodbyes {
            let mut client = stage.session();
            let copy = "COPY t FROM STDIN";
            client.send(&if extended { run(copy, &[]) } else { query(copy) });
            if extended {
                client.send(&flush());
            }
            client.until(b'G', 1);
            client.send(&[&copy_data(b"1\n"), goodbye].concat());
            drop(client);
            // The pool has one: it is free again.
            assert_eq!(stage.session().value("SELECT count(*)::text FROM t"), "0", "{goodbye:?}");
        }
    }
    for goodbye in goodbyes {
        let mut client = stage.session();
        client.send(goodbye);
        drop(client);
    }
    let mut console = Raw::login(&stage.proxy.address(), APP, "pgring");
    eventually("no session is left", || {
        console.query("SHOW CLIENTS").iter().filter(|frame| frame.tag == b'D').count() == 1
    });
}
