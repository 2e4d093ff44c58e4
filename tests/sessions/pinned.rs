//! State that cannot be moved keeps its server.

use std::time::Duration;

use crate::support::{self, Config};

use super::stage::{BOTH, ONE, Protocol, SHARED, Stage, short};
use crate::support::raw::{self, Frame, Raw};
use pgring::demo::cluster::SUPERUSER;
use pgring::demo::sample::APP;

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

/// Why the session keeps its server, says the console.
fn reason(stage: &Stage, application: &str) -> String {
    let mut console = Raw::login(&stage.proxy.address(), APP, "pgring");
    let frames = console.query("SHOW CLIENTS");
    let names = frames.iter().find(|frame| frame.tag == b'T').map(raw::Frame::names).unwrap();
    let at = |name: &str| names.iter().position(|known| known == name).unwrap();
    let (who, pinned) = (at("application_name"), at("pinned"));
    let rows = frames.iter().filter(|frame| frame.tag == b'D').map(raw::Frame::columns);
    rows.filter(|row| row[who] == application).map(|row| row[pinned].clone()).collect::<Vec<_>>().join(",")
}

/// Each line: what pins, the reason, and what undoes it; of a session over one shard.
const RELEASED: &[(&[&str], &str, &[&str])] = &[
    (&["CREATE TEMP TABLE t (n int)"], "temporary table", &["DROP TABLE t"]),
    (&["CREATE TABLE pg_temp.t (n int)"], "temporary table", &["DISCARD TEMP"]),
    (&["SELECT 1 AS n INTO TEMP t"], "temporary table", &["DROP TABLE t"]),
    (&["CREATE TEMP TABLE t AS SELECT 1"], "temporary table", &["DISCARD TEMPORARY"]),
    (&["CREATE TEMP VIEW v AS SELECT 1"], "temporary table", &["DROP VIEW v"]),
    (&["CREATE TEMPORARY SEQUENCE s"], "temporary table", &["DROP SEQUENCE s"]),
    (
        &["CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"],
        "temporary table",
        &["DROP FUNCTION pg_temp.f()"],
    ),
    (&["BEGIN", "CREATE TEMP TABLE t (n int) ON COMMIT DROP"], "temporary table", &["COMMIT"]),
    (&["BEGIN", "CREATE TEMP TABLE t (n int)"], "temporary table", &["ROLLBACK"]),
    (
        &["BEGIN", "LISTEN a", "SAVEPOINT s", "CREATE TEMP TABLE t ()"],
        "temporary table",
        &["ROLLBACK TO s", "ROLLBACK"],
    ),
    (&["LISTEN a", "LISTEN b"], "LISTEN", &["UNLISTEN a", "UNLISTEN b"]),
    (&["LISTEN a"], "LISTEN", &["UNLISTEN *"]),
    (&["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "COMMIT"], "cursor WITH HOLD", &["CLOSE c"]),
    (&["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "COMMIT"], "cursor WITH HOLD", &["CLOSE ALL"]),
    (
        &["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_lock(1)"],
        "advisory lock",
        &["SELECT pg_advisory_unlock(1)", "SELECT pg_advisory_unlock(1)"],
    ),
    (&["SELECT pg_try_advisory_lock_shared(2)"], "advisory lock", &["SELECT pg_advisory_unlock_shared(2)"]),
    (
        &["SELECT pg_advisory_lock(3), pg_advisory_lock(4)"],
        "advisory lock",
        &["SELECT pg_advisory_unlock_all()"],
    ),
    (&["LOAD 'plpgsql'"], "LOAD", &["DISCARD ALL"]),
    (&["SELECT setseed(0.5)"], "setseed", &["DISCARD ALL"]),
    (&["SELECT set_config('work_' || 'mem', '7MB', false)"], "set_config", &["DISCARD ALL"]),
    (&["DO $$BEGIN SET work_mem = '7MB'; END$$"], "DO", &["DISCARD ALL"]),
];

/// Whatever is left on a server connection that the next client could meet.
const LEFT: &str = "SELECT (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory') \
    || ' ' || (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()) \
    || ' ' || (SELECT count(*) FROM pg_listening_channels()) || ' ' || (SELECT count(*) FROM pg_cursors) \
    || ' ' || current_setting('work_mem')";

#[test]
fn a_pin_has_its_reason_and_ends_with_what_undoes_it() {
    let stage = Stage::single(Config::new().set("pool", "size", "1"));
    let clean = "0 0 0 0 4MB";
    let mut failures = Vec::new();
    for protocol in BOTH {
        for (number, (pin, why, undo)) in RELEASED.iter().enumerate() {
            let name = format!("{protocol:?}{number}");
            let mut session = stage.session_with(&[("application_name", &name)]);
            for statement in *pin {
                let answer = protocol.short(&mut session, statement);
                // Only superusers may, and it pins all the same.
                let denied = statement.starts_with("LOAD");
                assert!(denied || !answer.starts_with("E "), "{statement}: {answer}");
            }
            let mut seen = vec![reason(&stage, &name)];
            for (at, statement) in undo.iter().enumerate() {
                let answer = protocol.short(&mut session, statement);
                assert!(!answer.starts_with("E "), "{statement}: {answer}");
                if at + 1 < undo.len() {
                    seen.push(reason(&stage, &name));
                }
            }
            seen.push(reason(&stage, &name));
            let pinned = seen.pop();
            if seen.iter().any(|seen| seen != why && !(why == &"temporary table" && seen == "LISTEN"))
                || pinned.as_deref() != Some("")
            {
                failures.push(format!("{protocol:?} {pin:?} {undo:?}: {seen:?}, at last {pinned:?}"));
            }
            // The only connection of the pool is free, and clean.
            if pinned.as_deref() == Some("") {
                assert_eq!(stage.session().value(LEFT), clean, "{pin:?} {undo:?}");
            }
            drop(session);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_pins_is_gone_after_its_session() {
    let stage = Stage::single(Config::new().set("pool", "size", "1"));
    for protocol in BOTH {
        for discard in [true, false] {
            for (pin, ..) in RELEASED {
                let mut session = stage.session();
                for statement in *pin {
                    protocol.ask(&mut session, statement);
                }
                if discard {
                    protocol.ask(&mut session, "ROLLBACK");
                    assert_eq!(protocol.short(&mut session, "DISCARD ALL"), "DISCARD ALL | I");
                    assert_eq!(session.value(LEFT), "0 0 0 0 4MB", "{pin:?}");
                }
                drop(session);
                let mut next = stage.session();
                assert_eq!(next.value(LEFT), "0 0 0 0 4MB", "{pin:?}");
            }
        }
    }
}

/// A seed and a library outlive `DISCARD ALL`: their connection is not used again.
#[test]
fn what_discard_all_leaves_is_closed() {
    let stage = Stage::single(Config::new().set("pool", "size", "1"));
    let pid = "SELECT pg_backend_pid()";
    for pin in ["SELECT setseed(0.25)", "LOAD 'plpgsql'"] {
        for discard in [true, false] {
            let mut session = stage.session();
            session.query(pin);
            let kept = session.value(pid);
            assert_eq!(session.value(pid), kept);
            if discard {
                session.query("DISCARD ALL");
            }
            drop(session);
            assert_ne!(stage.session().value(pid), kept, "{pin}");
        }
    }
}

/// Two reasons: the one that ends leaves the other.
#[test]
fn a_listener_with_a_temporary_table_goes_on_listening() {
    for (stage, elsewhere) in [(&*ONE, "SELECT 1"), (&*SHARED, "SELECT id FROM users WHERE id = {a}")] {
        for protocol in BOTH {
            let mut session = stage.session();
            for statement in [
                "LISTEN two",
                "CREATE TEMP TABLE t (n int) /* pgring: shard=s1 */",
                elsewhere,
                "DROP TABLE t /* pgring: shard=s1 */",
                elsewhere,
            ] {
                let answer = protocol.short(&mut session, &stage.fill(statement));
                assert!(!answer.starts_with("E "), "{statement}: {answer}");
            }
            hear(stage, &mut session, "two");
        }
    }
}

/// A notification is sent, and comes to the idle session.
fn hear(stage: &Stage, session: &mut Raw, channel: &str) {
    session.set_patience(Duration::from_secs(10));
    let notify = format!("NOTIFY {channel}, 'hello'");
    assert_eq!(Protocol::Simple.short(&mut stage.session(), &notify), "NOTIFY | I");
    let frame = session.frame();
    assert_eq!(frame.tag, b'A', "{frame:?}");
    assert!(frame.body.ends_with(format!("{channel}\0hello\0").as_bytes()), "{frame:?}");
}

/// Whatever came between, on other shards and gone wrong.
#[test]
fn a_listener_hears_after_whatever_it_did_elsewhere() {
    let stage =
        Stage::new(Config::new().set("pool", "size", "2").set("pool", "checkout_timeout", "\"100ms\""));
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut holder = stage.session();
        holder.query("BEGIN");
        holder.query(&stage.fill("SELECT id FROM users WHERE id = {b}"));
        holders.push(holder);
    }
    for protocol in BOTH {
        for between in [
            &["SELECT id FROM users WHERE id = {a}"][..],
            // No connection is free there.
            &["SELECT id FROM users WHERE id = {b}"],
            &["BEGIN", "SELECT id FROM users WHERE id = {b}", "ROLLBACK"],
            &["SELECT 1/0 FROM users WHERE id = {a}"],
            &["BEGIN", "SELECT id FROM users WHERE id = {a}", "COMMIT"],
            &["BEGIN", "SELECT 1/0 FROM users WHERE id = {a}", "ROLLBACK"],
            &["BEGIN", "SET TIME ZONE 'Asia/Tokyo'", "ROLLBACK"],
            &["SELECT id FROM users"],
            &["SELECT id FROM users WHERE"],
            &["SET work_mem = '7MB'", "SELECT id FROM users WHERE id = {a}", "RESET ALL"],
        ] {
            let mut session = stage.session();
            assert_eq!(protocol.short(&mut session, "LISTEN news"), "LISTEN | I");
            for statement in between {
                protocol.ask(&mut session, &stage.fill(statement));
            }
            hear(&stage, &mut session, "news");
        }
        // Only described.
        let mut session = stage.session();
        assert_eq!(protocol.short(&mut session, "LISTEN news"), "LISTEN | I");
        session.send(
            &[
                raw::parse("x", &stage.fill("SELECT id FROM users WHERE id = {a}")),
                raw::describe('S', "x"),
                raw::sync(),
            ]
            .concat(),
        );
        session.until(b'Z', 1);
        hear(&stage, &mut session, "news");
    }
}

/// One that comes while pgring itself speaks with the server is not lost.
#[test]
fn a_notification_is_not_lost_to_what_pgring_asks() {
    let stage = Stage::single(Config::new());
    let mut session = stage.session();
    session.query("LISTEN news");
    let mut other = stage.session();
    let mut heard = 0;
    let mut sent = 0;
    for round in 0..60 {
        // Settings are brought in line, and pins are looked after, while others notify.
        let statement = if round % 2 == 0 { "SELECT pg_advisory_unlock_all()" } else { "UNLISTEN nothing" };
        other.send(&raw::query("NOTIFY news"));
        sent += 1;
        session.send(&raw::query(statement));
        let frames = session.until(b'Z', 1);
        heard += frames.iter().filter(|frame| frame.tag == b'A').count();
        other.until(b'Z', 1);
    }
    while heard < sent {
        let frame = session.frame();
        assert_eq!(frame.tag, b'A', "{heard} of {sent}: {frame:?}");
        heard += 1;
    }
}

#[test]
fn many_listeners_hear_at_once() {
    std::thread::scope(|scope| {
        for number in 0..16 {
            scope.spawn(move || {
                for round in 0..8 {
                    let mut session = SHARED.session();
                    let channel = format!("many_{number}_{round}");
                    BOTH[round % 2].ask(&mut session, &format!("LISTEN {channel}"));
                    BOTH[round % 2].ask(&mut session, &SHARED.fill("SELECT id FROM users WHERE id = {a}"));
                    hear(&SHARED, &mut session, &channel);
                }
            });
        }
    });
}

/// What one connection remembers of sequences is never another session's.
#[test]
fn currval_is_refused_once_and_then_right() {
    let stage = Stage::with_one("CREATE TABLE t (n serial, who text)");
    for protocol in BOTH {
        let (mut one, mut other) = (stage.session(), stage.session());
        let insert = "INSERT INTO t (who) VALUES ('x')";
        for asks in ["SELECT currval('t_n_seq')", "SELECT lastval()"] {
            protocol.ask(&mut one, "DISCARD ALL");
            assert_eq!(protocol.short(&mut one, insert), "INSERT 0 1 | I");
            assert_eq!(protocol.short(&mut one, asks), "E 0A000 | I");
            // What others did on the connection is forgotten.
            assert_eq!(protocol.short(&mut one, asks), "E 55000 | I");
            for _ in 0..3 {
                assert_eq!(protocol.short(&mut one, insert), "INSERT 0 1 | I");
                let mine = one.value("SELECT max(n) FROM t");
                assert_eq!(protocol.short(&mut other, insert), "INSERT 0 1 | I");
                assert_eq!(protocol.short(&mut one, asks), format!("{mine} | SELECT 1 | I"));
            }
        }
        // Within a transaction too.
        let mut third = stage.session();
        protocol.ask(&mut third, "BEGIN");
        protocol.ask(&mut third, insert);
        assert_eq!(protocol.short(&mut third, "SELECT lastval()"), "E 0A000 | E");
        protocol.ask(&mut third, "ROLLBACK");
        protocol.ask(&mut third, "BEGIN");
        protocol.ask(&mut third, insert);
        assert!(protocol.short(&mut third, "SELECT lastval()").ends_with("SELECT 1 | T"));
    }
    let answer = short(&SHARED.session().query("SELECT lastval()"));
    assert_eq!(answer, "E 0A000 | I");
}

#[test]
fn a_listener_knows_its_own_notifications_by_its_process_id() {
    let (mut session, mut other) = (ONE.session(), ONE.session());
    session.query("LISTEN whose");
    let heard = |frames: Vec<Frame>| {
        let notification = frames.iter().find(|frame| frame.tag == b'A').unwrap();
        u32::from_be_bytes(notification.body[..4].try_into().unwrap())
    };
    let own = session.query("NOTIFY whose, 'mine'");
    assert_eq!(heard(own), session.pid, "as its BackendKeyData says");
    other.query("NOTIFY whose, 'yours'");
    assert_ne!(heard(session.until(b'A', 1)), session.pid);
    session.query("DISCARD ALL");
}

/// What one client may leave on a server, as the next one would see it.
const BEHIND: &str = "SELECT coalesce((SELECT string_agg(name || '=' || setting, ',') FROM pg_settings
     WHERE source = 'session' AND name <> 'application_name'), ''),
     current_user, current_setting('work_mem'), current_setting('TimeZone'),
     coalesce((SELECT string_agg(relname, ',') FROM pg_class WHERE relnamespace = pg_my_temp_schema()), ''),
     coalesce((SELECT string_agg(proname, ',') FROM pg_proc WHERE pronamespace = pg_my_temp_schema()), ''),
     (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
     (SELECT count(*) FROM pg_cursors WHERE is_holdable),
     coalesce(current_setting('my.own', true), '')";

const CODE: &str = "CREATE TABLE t (n int);
    CREATE FUNCTION setter(text, text) RETURNS text LANGUAGE sql AS 'SELECT set_config($1, $2, false)';
    CREATE PROCEDURE sets(text, text) LANGUAGE plpgsql AS $$BEGIN PERFORM set_config($1, $2, false); END$$;
    CREATE PROCEDURE makes() LANGUAGE plpgsql AS $$BEGIN CREATE TEMP TABLE made (n int); END$$;
    CREATE PROCEDURE plain() LANGUAGE plpgsql AS $$BEGIN PERFORM 1; END$$;
    CREATE FUNCTION harmless() RETURNS int LANGUAGE plpgsql AS
        $$BEGIN UPDATE t SET n = 1; PERFORM set_config('my.own', 'x', true); RETURN 7; END$$;
    CREATE FUNCTION own(text) RETURNS text LANGUAGE sql AS $$SELECT set_config('my.own', $1, false)$$;
    CREATE FUNCTION outer_one() RETURNS text LANGUAGE plpgsql AS
        $$BEGIN RETURN setter('work_mem', '9MB'); END$$;
    CREATE FUNCTION runs(text) RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE $1; END$$;
    CREATE VIEW seen AS SELECT outer_one() AS v;
    CREATE VIEW seen_again AS SELECT upper(v) FROM seen;
    CREATE TABLE triggered (n int, v text DEFAULT setter('maintenance_work_mem', '9MB'));
    CREATE FUNCTION on_insert() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM outer_one(); RETURN new; END$$;
    CREATE TRIGGER on_insert BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION on_insert();";

/// A server connection at a time, for whoever needs one.
fn with_code() -> (support::Proxy, String) {
    let config = Config::new().set("pool", "size", "1").set("pool", "checkout_timeout", "\"2s\"");
    let servers = support::servers(1);
    let name = support::database(&servers, CODE);
    servers[0].psql(SUPERUSER, &name, "GRANT pg_monitor TO app").unwrap();
    (support::Proxy::start(config.database(&name, &servers)), name)
}

#[test]
fn code_and_odd_spellings_leave_nothing_for_the_next_client() {
    let (proxy, name) = with_code();
    let session = || Raw::login(&proxy.address(), APP, &name);
    let clean = short(&session().query(BEHIND));
    for script in [
        &["SET search_path = pg_temp", "CREATE TABLE x (n int)"][..],
        &["SET search_path = nowhere, pg_temp", "SELECT 1 AS n INTO x"],
        &["SET search_path = pg_temp", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 3'"],
        &["SET search_path = pg_temp; CREATE TABLE x (n int)"],
        &["SET search_path = U&'pg!005ftemp' UESCAPE '!'", "CREATE TABLE x (n int)"],
        &["SELECT 1 AS n INTO pg_temp.x"],
        &["SELECT 1 AS n INTO \"pg_temp\".x"],
        &["(SELECT 1 AS n INTO TEMP x)"],
        &["WITH x AS (SELECT 1 AS n) SELECT * INTO TEMP y FROM x"],
        &[
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n INTO TEMP x FROM r",
        ],
        &["CREATE TABLE U&\"pg_tem\\0070\".x (n int)"],
        &["CREATE TABLE U&\"pg_tem!0070\" UESCAPE '!' .x (n int)"],
        &["UPDATE pg_settings SET setting = '8192' WHERE name = 'work_mem'"],
        &["SELECT 1; UPDATE pg_catalog.pg_settings SET setting = '8192' WHERE name = 'work_mem'"],
        &["SET U&\"work\\005fmem\" = '9MB'"],
        &["SET U&\"work!005fmem\" UESCAPE '!' = '9MB'"],
        &["SELECT U&\"set_confi\\0067\"('work_mem', '9MB', false)"],
        &["SELECT U&\"pg_advisory_loc\\006B\"(5)"],
        &[
            "CREATE TABLE x1 AS WITH q AS (SELECT set_config('work_mem', '9MB', false)) SELECT * FROM q",
            "DROP TABLE x1",
        ],
        &[
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "SELECT query_to_xml('SELECT set_config(''work_mem'', ''9MB'', false)', true, true, '')",
        ],
        &["SELECT * FROM ts_stat('SELECT to_tsvector(set_config(''work_mem'', ''9MB'', false))')"],
        &["DO $$BEGIN NULL;-- why\nSET work_mem = '9MB'; END$$"],
        &["DO LANGUAGE plpgsql U&'BEGIN \\0053ET work_mem=''9MB''; END'"],
        &["DO LANGUAGE plpgsql E'BEGIN \\x53ET work_mem=''9MB''; END'"],
        &["DO $$BEGIN UPDATE pg_settings SET setting = 8192 WHERE name = 'work_mem'; END$$"],
        // Only what it has done tells.
        &["DO $$BEGIN PERFORM setter('work_mem', '9MB'); END$$"],
        &["DO $$BEGIN PERFORM setter('role', 'pg_monitor'); END$$"],
        &["CALL sets('work_mem', '9MB')"],
        &["CALL sets('role', 'pg_monitor')"],
        &["CALL makes()"],
        &["BEGIN", "CALL sets('work_mem', '9MB')", "COMMIT"],
        &["SELECT setter('work_mem', '9MB')"],
        &["SELECT setter('role', 'pg_monitor')"],
        &["SELECT setter('my.own', 'x')"],
        &["SELECT own('x')"],
        &["CALL sets('my.own', 'x')"],
        &["SELECT outer_one()"],
        &["SELECT * FROM public.\"seen\""],
        &["SELECT * FROM seen_again"],
        &["INSERT INTO triggered (n) VALUES (1)"],
        &["INSERT INTO triggered VALUES (1, 'x')"],
        &["SELECT runs('SET work_mem = ''9MB''')"],
        &["SELECT runs('CREATE TEMP TABLE made (n int)')"],
        &["BEGIN", "SELECT setter('work_mem', '9MB')", "SELECT 1", "COMMIT"],
        &["PREPARE p AS SELECT setter('work_mem', '9MB')", "EXECUTE p"],
        &["SELECT 1; SELECT setter('work_mem', '9MB')"],
        &["DECLARE c CURSOR WITH HOLD FOR SELECT setter('work_mem', '9MB')"],
        // Made meanwhile, and in the same transaction.
        &[
            "CREATE FUNCTION late() RETURNS text LANGUAGE sql AS 'SELECT set_config(''work_mem'', ''9MB'', false)'",
            "SELECT late()",
            "CREATE VIEW later AS SELECT late()",
            "SELECT * FROM later",
            "DROP FUNCTION late CASCADE",
        ],
        &[
            "BEGIN",
            "CREATE FUNCTION late() RETURNS text LANGUAGE sql AS 'SELECT set_config(''work_mem'', ''9MB'', false)'",
            "SELECT late()",
            "DROP FUNCTION late",
            "COMMIT",
        ],
        &[
            "CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS 'SELECT set_config(''work_mem'', ''9MB'', false)'",
            "SELECT pg_temp.f()",
            "DROP FUNCTION pg_temp.f",
        ],
        &["SELECT setter('TimeZone', 'Asia/Tokyo')"],
        &["SET TimeZone = 'UTC'", "SELECT setter('TimeZone', 'Asia/Tokyo')"],
        &["SET work_mem = '9MB'; CALL plain()"],
    ] {
        for protocol in BOTH {
            if protocol == Protocol::Extended
                && script.iter().any(|sql| sql.contains("; ") && !sql.contains("$$"))
            {
                continue;
            }
            let mut one = session();
            for sql in script {
                let answer = protocol.short(&mut one, sql);
                assert!(!format!("| {answer}").contains("| E "), "{sql}: {answer}");
            }
            drop(one);
            assert_eq!(short(&session().query(BEHIND)), clean, "after {script:?}");
        }
    }
    for (oid, arguments) in [(2880, &["5"][..]), (2078, &["work_mem", "9MB", "f"])] {
        let mut one = session();
        one.send(&raw::function_call(oid, arguments));
        assert_eq!(short(&one.until(b'Z', 1)), "I");
        drop(one);
        assert_eq!(short(&session().query(BEHIND)), clean, "after function {oid}");
    }
}

#[test]
fn code_that_leaves_nothing_keeps_no_server() {
    let (proxy, name) = with_code();
    for protocol in BOTH {
        let mut one = Raw::login(&proxy.address(), APP, &name);
        let mut other = Raw::login(&proxy.address(), APP, &name);
        one.query("SET work_mem = '9MB'");
        one.query("SET my.own = 'x'");
        one.query("SET ROLE pg_monitor");
        for sql in [
            "CALL plain()",
            "DO $$BEGIN UPDATE t SET n = 1; END$$",
            "SELECT query_to_xml('SELECT 1', true, true, '')",
            "SELECT setter('my.local', 'x') WHERE false",
            "SELECT harmless()",
            "SELECT runs('SELECT 1')",
        ] {
            one.query("RESET ROLE");
            let answer = protocol.short(&mut one, sql);
            assert!(!format!("| {answer}").contains("| E "), "{sql}: {answer}");
            assert_eq!(short(&other.query("SHOW work_mem")), "4MB | SHOW | I", "{sql}");
            assert_eq!(short(&one.query("SHOW work_mem")), "9MB | SHOW | I", "{sql}");
        }
        // What it has done stays with the session.
        one.query("CALL sets('maintenance_work_mem', '9MB')");
        assert_eq!(short(&one.query("SHOW maintenance_work_mem")), "9MB | SHOW | I");
        assert!(short(&other.query("SHOW maintenance_work_mem")).starts_with("E "));
        assert_eq!(protocol.short(&mut one, "RESET maintenance_work_mem"), "RESET | I");
        assert_eq!(short(&other.query("SHOW maintenance_work_mem")), "64MB | SHOW | I");
        one.query("SELECT setter('TimeZone', 'Asia/Tokyo')");
        assert_eq!(one.value("SHOW TimeZone"), "Asia/Tokyo");
        one.query("DISCARD ALL");
        assert_ne!(other.value("SHOW TimeZone"), "Asia/Tokyo");
    }
}

/// What a function sets that a query calls, or a procedure, is its session's alone, and stays with it.
#[test]
fn what_a_function_sets_is_its_sessions() {
    let (proxy, name) = with_code();
    for protocol in BOTH {
        for (calls, asks, expect, undone) in [
            (&["SELECT setter('work_mem', '9MB')"][..], "SHOW work_mem", "9MB", "RESET work_mem"),
            (&["SELECT * FROM seen"], "SHOW work_mem", "9MB", "RESET work_mem"),
            (&["INSERT INTO triggered VALUES (1, 'x')"], "SHOW work_mem", "9MB", "DISCARD ALL"),
            (&["SELECT own('mine')"], "SHOW my.own", "mine", "DISCARD ALL"),
            (&["SELECT setter('role', 'pg_monitor')"], "SELECT current_user", "pg_monitor", "DISCARD ALL"),
            // It had set these itself.
            (
                &["SET work_mem = '5MB'", "CALL sets('work_mem', '9MB')"],
                "SHOW work_mem",
                "9MB",
                "DISCARD ALL",
            ),
            (&["SET work_mem = '5MB'", "SELECT outer_one()"], "SHOW work_mem", "9MB", "DISCARD ALL"),
            (&["SET my.own = 'old'", "CALL sets('my.own', 'new')"], "SHOW my.own", "new", "DISCARD ALL"),
            (&["SET my.own = 'old'", "SELECT own('new')"], "SHOW my.own", "new", "DISCARD ALL"),
        ] {
            let mut one = Raw::login(&proxy.address(), APP, &name);
            let mut other = Raw::login(&proxy.address(), APP, &name);
            let clean = short(&other.query(BEHIND));
            for sql in calls {
                let answer = protocol.short(&mut one, sql);
                assert!(!format!("| {answer}").contains("| E "), "{sql}: {answer}");
            }
            assert_eq!(one.value(asks), expect, "{calls:?}");
            assert!(
                short(&other.query("SELECT 1")).starts_with("E "),
                "{calls:?}: the other one has to wait"
            );
            assert_eq!(one.value(asks), expect, "{calls:?}");
            let answer = protocol.short(&mut one, undone);
            assert!(!format!("| {answer}").contains("| E "), "{undone}: {answer}");
            assert_eq!(short(&other.query(BEHIND)), clean, "{calls:?}");
        }
    }
}

/// Where functions only set parameters that they name, the server is asked for those alone.
#[test]
fn what_functions_set_by_name_is_their_sessions() {
    let config = Config::new().set("pool", "size", "1").set("pool", "checkout_timeout", "\"2s\"");
    let servers = support::servers(1);
    let code = "CREATE FUNCTION sets(text) RETURNS void LANGUAGE plpgsql AS
            $$BEGIN PERFORM set_config('work_mem', $1, false); END$$;
        CREATE FUNCTION sets() RETURNS void LANGUAGE plpgsql AS $$BEGIN SET work_mem = '9MB'; END$$;
        CREATE FUNCTION own(text) RETURNS text LANGUAGE sql AS $$SELECT set_config('my.own', $1, false)$$;
        CREATE FUNCTION zone(text) RETURNS text LANGUAGE sql AS $$SELECT set_config('TimeZone', $1, false)$$;";
    let name = support::database(&servers, code);
    let proxy = support::Proxy::start(config.database(&name, &servers));
    let login = || Raw::login(&proxy.address(), APP, &name);
    let pid = login().value("SELECT pg_backend_pid()");
    let last = || {
        let ask = format!("SELECT query FROM pg_stat_activity WHERE pid = {pid}");
        servers[0].psql(SUPERUSER, &name, &ask).unwrap().trim().to_owned()
    };
    let clean = short(&login().query(BEHIND));
    for protocol in BOTH {
        for (calls, asks, kept) in [
            (&["SELECT sets()"][..], "SHOW work_mem", Some("9MB")),
            (&["SELECT sets('8MB')", "SELECT 1"], "SHOW work_mem", Some("8MB")),
            (&["BEGIN", "SELECT sets()", "SELECT 1", "COMMIT"], "SHOW work_mem", Some("9MB")),
            (&["SELECT own('mine')"], "SHOW my.own", Some("mine")),
            (&["SELECT zone('Asia/Tokyo')"], "SHOW TimeZone", Some("Asia/Tokyo")),
            // It had set this itself.
            (&["SET work_mem = '5MB'", "SELECT sets()"], "SHOW work_mem", Some("9MB")),
            (&["SET my.own = 'old'", "SELECT own('new')"], "SHOW my.own", Some("new")),
            // It is so anyway.
            (&["SELECT sets('4MB')"], "SHOW work_mem", None),
            (&["BEGIN", "SELECT sets()", "ROLLBACK"], "SHOW work_mem", None),
            (&["BEGIN", "SELECT sets()", "SELECT sets('4096kB')", "COMMIT"], "SHOW work_mem", None),
            (&["SELECT own('')"], "SELECT current_setting('my.own', true)", None),
        ] {
            let (mut one, mut other) = (login(), login());
            for sql in calls {
                let answer = protocol.short(&mut one, sql);
                assert!(!format!("| {answer}").contains("| E "), "{sql}: {answer}");
            }
            // What the server reports, or the session has set, takes the long question.
            if !calls[0].starts_with("SET") && asks != "SHOW TimeZone" {
                assert!(!last().contains("pg_settings"), "{calls:?}: {}", last());
            }
            if let Some(value) = kept {
                assert_eq!(one.value(asks), value, "{calls:?}");
                assert!(short(&other.query("SELECT 1")).starts_with("E "), "{calls:?}: another has it");
                assert_eq!(one.value(asks), value, "{calls:?}");
                one.query("DISCARD ALL");
            }
            assert_eq!(short(&other.query(BEHIND)), clean, "{calls:?}");
        }
    }
}

/// Nothing is asked after a function that can set nothing.
#[test]
fn a_function_that_sets_nothing_costs_nothing() {
    let (proxy, name) = with_code();
    let servers = support::servers(1);
    let mut one = Raw::login(&proxy.address(), APP, &name);
    let pid = one.value("SELECT pg_backend_pid()");
    let last = || {
        let ask = format!("SELECT query FROM pg_stat_activity WHERE pid = {pid}");
        servers[0].psql(SUPERUSER, &name, &ask).unwrap().trim().to_owned()
    };
    for (sql, alone) in [
        ("SELECT harmless()", true),
        ("INSERT INTO t VALUES (1)", true),
        ("SELECT upper(v) FROM triggered", true),
        ("SELECT outer_one() WHERE false", false),
    ] {
        for protocol in BOTH {
            protocol.ask(&mut one, sql);
            assert_eq!(last() == sql, alone, "{sql}: {}", last());
        }
    }
}

/// A statement of several shards may call one as well: nobody else meets what it has left there.
#[test]
fn what_a_trigger_sets_on_several_shards_is_forgotten() {
    let script = "CREATE TABLE t (user_id int PRIMARY KEY, v text);
        CREATE FUNCTION on_write() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN PERFORM set_config('work_mem', '9MB', false), set_config('my.own', 'x', false),
                pg_advisory_lock(4711);
              RETURN new; END$$;
        CREATE TRIGGER on_write BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION on_write();";
    let servers = support::servers(2);
    let name = support::database(&servers, script);
    let config = Config::new().database(&name, &servers).set("pool", "size", "1");
    let proxy = support::Proxy::start(config);
    let mut one = Raw::login(&proxy.address(), APP, &name);
    let mut other = Raw::login(&proxy.address(), APP, &name);
    assert_eq!(short(&one.query("INSERT INTO t VALUES (1, 'a'), (4, 'a')")), "INSERT 0 2 | I");
    assert_eq!(short(&one.query("UPDATE t SET v = 'b'")), "UPDATE 2 | I");
    for shard in ["s1", "s2"] {
        let ask = "SELECT current_setting('work_mem'), coalesce(current_setting('my.own', true), ''),
            (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())";
        let seen = short(&other.query(&format!("{ask} /* pgring: shard={shard} */")));
        assert_eq!(seen, "4MB,,0 | SELECT 1 | I", "{shard}");
    }
}

/// Whatever is in the temporary schema, a table or not, keeps its server until it is gone.
#[test]
fn what_is_in_the_temporary_schema_keeps_its_server() {
    let (proxy, name) = with_code();
    for protocol in BOTH {
        for (makes, drops) in [
            ("CREATE STATISTICS pg_temp.s ON n, v FROM triggered", "DROP STATISTICS pg_temp.s"),
            ("CREATE COLLATION pg_temp.c FROM \"C\"", "DROP COLLATION pg_temp.c"),
            ("CREATE DOMAIN pg_temp.d AS int", "DROP DOMAIN pg_temp.d"),
        ] {
            let mut one = Raw::login(&proxy.address(), APP, &name);
            let mut other = Raw::login(&proxy.address(), APP, &name);
            let answers = |session: &mut Raw, sql: &str| {
                let answer = protocol.short(session, sql);
                assert!(!format!("| {answer}").contains("| E "), "{sql}: {answer}");
            };
            answers(&mut one, makes);
            // What has it look for what is still there.
            answers(&mut one, "DROP TABLE IF EXISTS nowhere");
            assert!(short(&other.query("SELECT 1")).starts_with("E "), "{makes}: the other one has to wait");
            answers(&mut one, drops);
            answers(&mut other, "SELECT 1");
        }
    }
}
