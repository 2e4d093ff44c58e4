//! Transactions that are opened late, and stay where they are.

use std::time::{Duration, Instant};

use crate::support::raw;
use crate::support::{self, Config};

use super::stage::{BOTH, SHARED, Stage, error, short};

#[test]
fn an_empty_transaction_uses_no_server() {
    let stage = Stage::new(Config::new());
    let mut session = stage.session();
    // The greeting may have needed one.
    let before = stage.connections();
    for protocol in BOTH {
        for statement in
            ["BEGIN", "SAVEPOINT a", "SET work_mem = '7MB'", "ROLLBACK TO a", "RELEASE a", "COMMIT"]
        {
            protocol.ask(&mut session, statement);
            let in_use = stage.proxy.metric("pgring_clients{state=\"active\"}");
            assert!(stage.connections() <= before, "{statement}: {in_use:?}");
        }
        for shard in 0..3 {
            let count = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'app' AND state LIKE 'idle in%'",
                stage.name
            );
            protocol.ask(&mut session, "BEGIN");
            assert_eq!(stage.directly(shard, &count), "0");
            protocol.ask(&mut session, "COMMIT");
        }
    }
}

#[test]
fn a_transaction_stays_on_its_shard() {
    let mut session = SHARED.session();
    for protocol in BOTH {
        for other in [
            "SELECT id FROM users WHERE id = {b}",
            "UPDATE users SET name = 'x' WHERE id = {b}",
            "SELECT * FROM app_settings",
        ] {
            let other = SHARED.fill(other);
            assert_eq!(protocol.short(&mut session, "BEGIN"), "BEGIN | T");
            let here = SHARED.fill("UPDATE users SET name = 'gone' WHERE id = {a}");
            assert_eq!(protocol.short(&mut session, &here), "UPDATE 1 | T");
            // What may run anywhere runs here.
            assert_eq!(protocol.short(&mut session, "SELECT count(*) FROM plans"), "3 | SELECT 1 | T");
            let answer = protocol.ask(&mut session, &other);
            assert_eq!(error(&answer).code(), "0A000");
            assert!(
                error(&answer).field(b'H').is_some() && error(&answer).field(b'M').unwrap().contains("s2")
            );
            assert_eq!(short(&answer), "E 0A000 | E");
            for refused in
                ["SELECT 1", "SELECT id FROM users WHERE id = 1", "SET work_mem = '7MB'", "SAVEPOINT s"]
            {
                assert_eq!(protocol.short(&mut session, refused), "E 25P02 | E", "{refused}");
            }
            assert_eq!(protocol.short(&mut session, "COMMIT"), "ROLLBACK | I");
            let name = protocol.short(&mut session, &SHARED.fill("SELECT name FROM users WHERE id = {a}"));
            assert!(!name.contains("gone"), "{name}");
        }
    }
}

#[test]
fn a_savepoint_revives_what_a_refusal_failed() {
    let mut session = SHARED.session();
    for protocol in BOTH {
        for early in [true, false] {
            let select = SHARED.fill("SELECT id FROM users WHERE id = {a}");
            let row = format!("{} | SELECT 1 | T", SHARED.fill("{a}"));
            assert_eq!(protocol.short(&mut session, "BEGIN"), "BEGIN | T");
            if early {
                assert_eq!(protocol.short(&mut session, "SAVEPOINT s"), "SAVEPOINT | T");
            }
            assert_eq!(protocol.short(&mut session, &select), row);
            if !early {
                assert_eq!(protocol.short(&mut session, "SAVEPOINT s"), "SAVEPOINT | T");
            }
            let other = SHARED.fill("SELECT id FROM users WHERE id = {b}");
            assert_eq!(protocol.short(&mut session, &other), "E 0A000 | E");
            assert_eq!(protocol.short(&mut session, "ROLLBACK TO s"), "ROLLBACK | T");
            assert_eq!(protocol.short(&mut session, &select), row);
            assert_eq!(protocol.short(&mut session, "SELECT count(*) FROM jobs"), "E 0A000 | E");
            assert_eq!(protocol.short(&mut session, "ROLLBACK TO SAVEPOINT s"), "ROLLBACK | T");
            assert_eq!(protocol.short(&mut session, "COMMIT"), "COMMIT | I");
        }
        // Refused before there was a shard: nothing is lost but the transaction.
        assert_eq!(protocol.short(&mut session, "BEGIN"), "BEGIN | T");
        assert_eq!(protocol.short(&mut session, "SELECT count(*) FROM jobs"), "E 0A000 | E");
        assert_eq!(protocol.short(&mut session, "SELECT 1"), "E 25P02 | E");
        assert_eq!(protocol.short(&mut session, "ROLLBACK"), "ROLLBACK | I");
    }
}

/// The `BEGIN` of the client, with all it says, is what the shard runs.
#[test]
fn what_was_said_before_the_first_statement_holds_on_the_shard() {
    let mut session = SHARED.session();
    for protocol in BOTH {
        for shard in ["{a}", "{b}", "{c}"] {
            let update = SHARED.fill(&format!("UPDATE users SET name = 'x' WHERE id = {shard}"));
            let select = SHARED.fill(&format!("SELECT current_setting('transaction_isolation'), current_setting('work_mem') FROM users WHERE id = {shard}"));
            for (begin, then, isolation) in [
                ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", "SAVEPOINT a", "serializable"),
                (
                    "START TRANSACTION READ ONLY",
                    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                    "repeatable read",
                ),
                ("BEGIN", "SET TRANSACTION READ ONLY", "read committed"),
            ] {
                protocol.ask(&mut session, begin);
                protocol.ask(&mut session, then);
                protocol.ask(&mut session, "SET LOCAL work_mem = '7MB'");
                assert_eq!(protocol.short(&mut session, &select), format!("{isolation},7MB | SELECT 1 | T"));
                assert_eq!(protocol.short(&mut session, &update), "E 25006 | E");
                assert_eq!(protocol.short(&mut session, "ROLLBACK"), "ROLLBACK | I");
                assert_eq!(protocol.short(&mut session, "SHOW work_mem"), "4MB | SHOW | I");
            }
        }
    }
}

#[test]
fn what_a_server_refuses_of_it_fails_the_transaction_and_runs_nothing() {
    let mut session = SHARED.session();
    let update = SHARED.fill("UPDATE users SET name = 'gone' WHERE id = {a}");
    for protocol in BOTH {
        for bad in ["SET LOCAL nonsense = 1", "SET work_mem = 'much'", "SET TRANSACTION SNAPSHOT 'none'"] {
            protocol.ask(&mut session, "BEGIN");
            let answer = protocol.short(&mut session, bad);
            if !answer.starts_with("E ") {
                let answer = protocol.short(&mut session, &update);
                assert!(answer.starts_with("E ") && answer.ends_with("| E"), "{bad}: {answer}");
            }
            assert_eq!(protocol.short(&mut session, &update), "E 25P02 | E", "{bad}");
            assert_eq!(protocol.short(&mut session, "COMMIT"), "ROLLBACK | I", "{bad}");
        }
        // The settings it would have made do not stand.
        protocol.ask(&mut session, "BEGIN");
        protocol.ask(&mut session, "SET my.good = '1'");
        protocol.ask(&mut session, "SET work_mem = 'much'");
        let answer = protocol.short(&mut session, "COMMIT");
        assert!(answer.starts_with("E "), "{answer}");
        assert_eq!(protocol.short(&mut session, "ROLLBACK").rsplit(' ').next(), Some("I"));
        let answer = protocol.short(&mut session, "SELECT current_setting('my.good', true)");
        assert!(!answer.starts_with('1'), "{answer}");
    }
    let name = session.value(&SHARED.fill("SELECT name FROM users WHERE id = {a}"));
    assert_ne!(name, "gone");
}

#[test]
fn a_client_that_vanishes_leaves_nothing_open() {
    let stage = Stage::new(Config::new().set("pool", "size", "2"));
    let update = stage.fill("UPDATE users SET name = 'gone' WHERE id = {a}");
    for leave in ["vanish", "terminate", "mid-statement", "unsynced"] {
        let mut holder = stage.session();
        holder.query("BEGIN");
        assert_eq!(short(&holder.query(&update)), "UPDATE 1 | T");
        let mut waiter = stage.session();
        waiter.send(&raw::query(&update.replace("gone", "mine")));
        match leave {
            "terminate" => holder.send(&raw::message(b'X', &[])),
            "mid-statement" => holder.send(&raw::query("SELECT pg_sleep(1000)")),
            "unsynced" => holder.send(&raw::run("SELECT 1", &[])),
            _ => {}
        }
        drop(holder);
        // The row's lock is the event.
        assert_eq!(short(&waiter.until(b'Z', 1)), "UPDATE 1 | I", "{leave}");
        assert_eq!(waiter.value(&stage.fill("SELECT name FROM users WHERE id = {a}")), "mine");
    }
    support::eventually("no server is left in a transaction", || {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'app' AND state <> 'idle'",
            stage.name
        );
        stage.directly(1, &count) == "0"
    });
}

/// Its work is undone, and its server serves the next.
#[test]
fn a_client_that_vanishes_without_a_sync_gives_back_its_server() {
    let stage = Stage::with_config(Config::new().set("pool", "size", "1"), "CREATE TABLE t (n int)");
    let pid = "SELECT pg_backend_pid()";
    let server = stage.session().value(pid);
    let insert = raw::run("INSERT INTO t VALUES (1)", &[]);
    let slow = raw::run("SELECT pg_sleep(1000)", &[]);
    let copy = raw::run("COPY t FROM STDIN", &[]);
    for (what, sent, reached) in [
        ("at work", [&*insert, &slow, &raw::flush()].concat(), b'C'),
        ("answered", [&*insert, &raw::flush()].concat(), b'C'),
        ("failed", [&*insert, &raw::run("SELECT 1/0", &[]), &raw::flush()].concat(), b'E'),
        ("before it asks", [&*insert, &raw::flush(), &insert].concat(), b'C'),
        (
            "at work after a batch",
            [&*raw::run("SELECT 1", &[]), &raw::sync(), &insert, &slow, &raw::flush()].concat(),
            b'Z',
        ),
        ("in a copy", [&*insert, &copy, &raw::flush(), &raw::copy_data(b"7\n")].concat(), b'G'),
    ] {
        let mut gone = stage.session();
        gone.send(&sent);
        gone.until(reached, 1);
        drop(gone);
        let began = Instant::now();
        let mut next = stage.session();
        assert_eq!(next.value(pid), server, "{what}");
        assert!(began.elapsed() < Duration::from_secs(2), "{what}: {:?}", began.elapsed());
        assert_eq!(next.value("SELECT count(*) FROM t"), "0", "{what}");
    }
    assert!(!stage.proxy.log().contains("could not be cancelled"), "{}", stage.proxy.log());
}

#[test]
fn a_pipeline_keeps_to_one_shard_between_syncs() {
    let mut session = SHARED.session();
    let (a, b) = (SHARED.fill("{a}"), SHARED.fill("{b}"));
    let select = "SELECT id FROM users WHERE id = $1";
    // With a Sync each, any shards.
    let sent: Vec<u8> = [&a, &b, &a]
        .iter()
        .flat_map(|key| [raw::run(select, &[key.as_str()]), raw::sync()].concat())
        .collect();
    session.send(&sent);
    let answer = short(&session.until(b'Z', 3));
    assert_eq!(answer, format!("{a} | SELECT 1 | I | {b} | SELECT 1 | I | {a} | SELECT 1 | I"));
    // Without, what was done is undone.
    let update = "UPDATE users SET name = 'gone' WHERE id = $1";
    session.send(&[raw::run(update, &[&a]), raw::run(update, &[&b]), raw::sync()].concat());
    assert_eq!(short(&session.until(b'Z', 1)), "UPDATE 1 | E 0A000 | I");
    for key in [a, b] {
        assert_ne!(session.value(&format!("SELECT name FROM users WHERE id = {key}")), "gone");
    }
}
