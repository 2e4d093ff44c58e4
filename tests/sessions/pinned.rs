//! State that cannot be moved keeps its server.

use std::time::Duration;

use crate::support::{self, Config};

use super::stage::{BOTH, SHARED, Stage};

#[test]
fn temporary_tables_stay_and_go_with_discard_all() {
    let stage = Stage::new(Config::new());
    for protocol in BOTH {
        let mut session = stage.session();
        let mut other = stage.session();
        let make = "CREATE TEMP TABLE mine (n int) /* pgring: shard=s1 */";
        assert_eq!(protocol.short(&mut session, make), "CREATE TABLE | I");
        assert_eq!(protocol.short(&mut session, "INSERT INTO mine VALUES (1), (2)"), "INSERT 0 2 | I");
        for _ in 0..3 {
            assert_eq!(protocol.short(&mut session, "SELECT count(*) FROM mine"), "2 | SELECT 1 | I");
            // Others' statements, and its own for other shards, do not come in between.
            assert_eq!(protocol.short(&mut other, "SELECT count(*) FROM mine"), "E 42P01 | I");
            let elsewhere = stage.fill("SELECT id FROM users WHERE id = {a}");
            assert_eq!(protocol.short(&mut session, &elsewhere), stage.fill("{a} | SELECT 1 | I"));
        }
        assert_eq!(protocol.short(&mut session, "DISCARD ALL"), "DISCARD ALL | I");
        assert_eq!(protocol.short(&mut session, "SELECT count(*) FROM mine"), "E 42P01 | I");
        // And with the session.
        assert_eq!(protocol.short(&mut session, make), "CREATE TABLE | I");
        drop(session);
        support::eventually("the table is gone with its session", || {
            stage.directly(0, "SELECT count(*) FROM pg_class WHERE relname = 'mine'") == "0"
        });
    }
}

#[test]
fn a_notification_comes_to_an_idle_listener() {
    for protocol in BOTH {
        let mut session = SHARED.session();
        assert_eq!(protocol.short(&mut session, "LISTEN news"), "LISTEN | I");
        // Its other statements do not end that.
        protocol.ask(&mut session, &SHARED.fill("SELECT id FROM users WHERE id = {a}"));
        session.set_patience(Duration::from_secs(10));
        assert_eq!(protocol.short(&mut SHARED.session(), "NOTIFY news, 'hello'"), "NOTIFY | I");
        let frame = session.frame();
        assert_eq!(frame.tag, b'A', "{frame:?}");
        assert!(frame.body.ends_with(b"news\0hello\0"), "{frame:?}");
        // No more after this.
        protocol.ask(&mut session, "DISCARD ALL");
        protocol.ask(&mut SHARED.session(), "NOTIFY news, 'again'");
        assert_eq!(protocol.short(&mut session, "SELECT 1"), "1 | SELECT 1 | I");
    }
}

#[test]
fn a_session_lock_is_held_until_it_is_given_back() {
    for (number, protocol) in BOTH.into_iter().enumerate() {
        let key = 4711 + number;
        let mut session = SHARED.session();
        let shard = "/* pgring: shard=s1 */";
        let take = format!("{shard} SELECT pg_advisory_lock({key})");
        let attempt = format!("{shard} SELECT pg_try_advisory_lock({key}), pg_advisory_unlock({key})");
        assert_eq!(protocol.short(&mut session, &take), " | SELECT 1 | I");
        for _ in 0..3 {
            let mut other = SHARED.session();
            assert!(protocol.short(&mut other, &attempt).contains("f,f"), "somebody else has the lock");
        }
        let release = format!("{shard} SELECT pg_advisory_unlock({key})");
        assert_eq!(protocol.short(&mut session, &release), "t | SELECT 1 | I");
        protocol.ask(&mut session, &take);
        protocol.ask(&mut session, "DISCARD ALL");
        assert!(protocol.short(&mut SHARED.session(), &attempt).contains("t,t"));
        protocol.ask(&mut session, &take);
        drop(session);
        support::eventually("the lock is gone with its session", || {
            protocol.short(&mut SHARED.session(), &attempt).contains("t,t")
        });
    }
}

/// Whatever shards sessions happen to be on, a lock's number is the same lock.
#[test]
fn advisory_locks_are_one_space() {
    for protocol in BOTH {
        for (take, attempt) in [
            ("SELECT pg_advisory_lock(99)", "SELECT pg_try_advisory_lock(99)"),
            ("SELECT pg_advisory_xact_lock(99)", "SELECT pg_try_advisory_xact_lock(99)"),
        ] {
            let mut session = SHARED.session();
            protocol.ask(&mut session, "BEGIN");
            assert_eq!(protocol.short(&mut session, take), " | SELECT 1 | T");
            for _ in 0..6 {
                let mut other = SHARED.session();
                assert_eq!(protocol.short(&mut other, attempt), "f | SELECT 1 | I", "{attempt}");
            }
            protocol.ask(&mut session, "COMMIT");
            protocol.ask(&mut session, "DISCARD ALL");
        }
    }
}

#[test]
fn a_cursor_with_hold_outlives_its_transaction() {
    for protocol in BOTH {
        let mut session = SHARED.session();
        let declare =
            SHARED.fill("DECLARE c CURSOR WITH HOLD FOR SELECT id FROM jobs WHERE user_id = {a} ORDER BY id");
        protocol.ask(&mut session, "BEGIN");
        assert_eq!(protocol.short(&mut session, &declare), "DECLARE CURSOR | T");
        assert_eq!(protocol.short(&mut session, "COMMIT"), "COMMIT | I");
        assert!(protocol.short(&mut session, "FETCH 1 FROM c").ends_with("FETCH 1 | I"));
        assert!(protocol.short(&mut session, "FETCH ALL FROM c").ends_with("FETCH 2 | I"));
        assert_eq!(protocol.short(&mut session, "CLOSE c"), "CLOSE CURSOR | I");
    }
}

#[test]
fn in_session_mode_a_session_keeps_its_server() {
    let stage = Stage::new(Config::new().set("pool", "mode", "\"session\"").set("pool", "size", "2"));
    let pid = stage.fill("SELECT pg_backend_pid() FROM users WHERE id = {a}");
    let (mut one, mut other) = (stage.session(), stage.session());
    let (first, second) = (one.value(&pid), other.value(&pid));
    assert_ne!(first, second);
    for _ in 0..3 {
        assert_eq!(one.value(&pid), first);
        assert_eq!(other.value(&pid), second);
    }
    // State that nothing follows is cleaned before the next one gets it.
    one.query(&stage.fill("SELECT set_config('my.' || 'own', 'one', false) FROM users WHERE id = {a}"));
    drop(one);
    let mut third = stage.session();
    let seen = stage.fill("SELECT coalesce(current_setting('my.own', true), '') FROM users WHERE id = {a}");
    assert_eq!(third.value(&seen), "");
}
