//! What a session is, beside statements of several shards: settings of a transaction, temporary
//! tables, prepared results, notices, and nothing that is left on a server.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pgring::demo::cluster::{Cluster, SUPERUSER};
use pgring::demo::sample::APP;

use crate::support::raw::{self, Frame, Raw};
use crate::support::{self, Config, Proxy};

struct Stage {
    proxy: Proxy,
    name: String,
    servers: Vec<&'static Cluster>,
}

static STAGE: LazyLock<Stage> = LazyLock::new(Stage::new);

impl Stage {
    fn new() -> Stage {
        let servers = support::servers(3);
        let name = support::sample_database(&servers);
        Stage { proxy: Proxy::start(Config::new().database(&name, &servers)), name, servers }
    }

    fn session(&self) -> Raw {
        Raw::login(&self.proxy.address(), APP, &self.name)
    }

    /// On a server, without pgring.
    fn beside(&self, shard: usize) -> Raw {
        Raw::login(&self.servers[shard].address(), SUPERUSER, &self.name)
    }
}

/// Tables joined otherwise than by their keys.
const GATHERED: &str = "FROM users u JOIN jobs j ON j.id = u.id WHERE u.id < 0";

/// The SQLSTATE that a statement fails with.
fn code(frames: &[Frame]) -> String {
    frames.iter().find(|frame| frame.tag == b'E').map(Frame::code).unwrap_or_default()
}

#[test]
fn nothing_is_left_on_servers() {
    let mut session = STAGE.session();
    for statement in [
        "LISTEN abc",
        "UNLISTEN abc",
        "SELECT pg_advisory_lock(4711)",
        "CREATE TEMP TABLE left_behind (a int)",
        "SELECT 1 INTO TEMP left_behind",
        "SELECT set_config('work_mem', '66MB', false)",
        "SET work_mem = '63MB'",
        "DO $$ BEGIN PERFORM set_config('work_mem', '64MB', false); END $$",
        "LOAD 'plpgsql'",
        "PREPARE p AS SELECT 1",
        "DISCARD TEMP",
        "EXPLAIN ANALYZE SELECT pg_advisory_lock(4711)",
    ] {
        let answer = session.query(&format!("/* pgring: shard=all */ {statement}"));
        assert_eq!(code(&answer), "0A000", "{statement}: {answer:?}");
    }
    let answer = session.query("SELECT pg_advisory_lock(id) FROM users WHERE id < 20");
    assert_eq!(code(&answer), "0A000", "{answer:?}");
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert!((0..3).all(|shard| STAGE.beside(shard).value(held) == "0"));
}

#[test]
fn copies_are_worked_over_under_the_transactions_settings() {
    let mut session = STAGE.session();
    let zone = format!("SELECT current_setting('timezone') || count(*) {GATHERED}");
    for (begin, expected) in [
        ("BEGIN; SET LOCAL timezone = 'Asia/Tokyo'", "Asia/Tokyo0"),
        ("BEGIN; SELECT 1 FROM users WHERE id = 1; SET timezone = 'Asia/Seoul'", "Asia/Seoul0"),
    ] {
        for statement in begin.split("; ") {
            assert_eq!(code(&session.query(statement)), "", "{statement}");
        }
        let answer = session.query(&zone);
        assert!(answer.iter().all(|frame| frame.tag != b'S'), "{answer:?}");
        assert_eq!(session.value(&zone), expected);
        assert_eq!(session.value("SHOW timezone"), expected.trim_end_matches('0'));
        session.query("ROLLBACK");
    }
    session.query("SET default_transaction_read_only = on");
    assert_eq!(session.value(&zone), format!("{}0", session.value("SHOW timezone")));
    session.query("BEGIN");
    assert_eq!(code(&session.query(&zone)), "");
    session.query("ROLLBACK");
}

#[test]
fn copies_do_not_wait_for_their_own_transactions_locks() {
    // Whose locks nobody else waits for.
    let stage = Stage::new();
    let mut session = stage.session();
    session.query("BEGIN");
    assert_eq!(code(&session.query("LOCK TABLE jobs")), "");
    let answer = session.query(&format!("SELECT count(*) {GATHERED}"));
    assert_eq!(code(&answer), "0A000", "{answer:?}");
    session.query("ROLLBACK");
    assert_eq!(session.value(&format!("SELECT count(*) {GATHERED}")), "0");
}

#[test]
fn tables_of_a_shard_are_copied_as_of_one_moment() {
    let mut session = STAGE.session();
    for table in ["flip_a", "flip_b"] {
        session.query(&format!("CREATE TABLE {table} (user_id bigint NOT NULL, n int, v int)"));
        let rows: Vec<String> = (1..=30).map(|n| format!("({n}, {n}, 0)")).collect();
        let answer = session.query(&format!("INSERT INTO {table} VALUES {}", rows.join(", ")));
        assert_eq!(code(&answer), "", "{answer:?}");
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for shard in 0..3 {
            let mut writer = STAGE.beside(shard);
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    writer.query("UPDATE flip_a SET v = v + 1; UPDATE flip_b SET v = v + 1");
                }
            });
        }
        let unlike = "SELECT count(*) FROM flip_a a JOIN flip_b b ON a.n = b.n WHERE a.v <> b.v";
        let found: Vec<String> = (0..15).map(|_| session.value(unlike)).collect();
        over.store(true, Ordering::SeqCst);
        assert!(found.iter().all(|count| count == "0"), "{found:?}");
    });
}

#[test]
fn temporary_tables_are_not_mistaken() {
    let mut session = STAGE.session();
    assert_eq!(code(&session.query("CREATE TEMP TABLE app_settings (key text, value text)")), "");
    let shadowed =
        "SELECT s.key, count(*) FROM \"app_settings\" s, users u JOIN jobs j ON j.id = u.id GROUP BY 1";
    assert_eq!(code(&session.query(shadowed)), "0A000");
    assert_eq!(code(&session.query("SELECT count(*) FROM users")), "");
    session.query("DROP TABLE pg_temp.app_settings");
    assert_eq!(code(&session.query(shadowed)), "");
}

#[test]
fn results_are_as_they_were_told_and_notices_come_once() {
    let mut session = STAGE.session();
    // Their own tables, by the key that the sample has.
    assert_eq!(code(&session.query("CREATE TABLE grows (user_id bigint NOT NULL, a int)")), "");
    for describe in [raw::describe('S', "s"), [raw::bind("", "s", &[]), raw::describe('P', "")].concat()] {
        session.send(&[raw::parse("s", "SELECT * FROM grows"), describe, raw::sync()].concat());
        assert_eq!(code(&session.until(b'Z', 1)), "");
        let again = [raw::bind("", "s", &[]), raw::execute("", 0), raw::sync()].concat();
        session.send(&again);
        assert_eq!(code(&session.until(b'Z', 1)), "");
        assert_eq!(code(&session.query("ALTER TABLE grows ADD COLUMN b int")), "");
        session.send(&again);
        let refused = session.until(b'Z', 1);
        assert_eq!(code(&refused), "0A000", "{refused:?}");
        session.query("DEALLOCATE s");
        session.query("ALTER TABLE grows DROP COLUMN b");
    }
    let answer = session.query("DROP TABLE IF EXISTS never_was");
    let tags: Vec<u8> = answer.iter().map(|frame| frame.tag).collect();
    assert_eq!(tags, b"NCZ", "{answer:?}");
    session.query("DROP TABLE grows");
}

/// Given copies of a reference table's new values, no hint may leave out a shard.
#[test]
fn a_key_of_the_session_does_not_part_copies() {
    let stage = Stage::new();
    let mut session = stage.session();
    session.query("SET pgring.key = '7'");
    for change in [
        "UPDATE plans SET max_jobs = (SELECT count(*) FROM users)",
        "INSERT INTO plans (id, name, monthly_price, max_jobs) SELECT 900 + min(plan_id), 'new', 1, 1 FROM users",
    ] {
        assert_eq!(code(&session.query(change)), "", "{change}");
    }
    let held = "SELECT string_agg(id || ' ' || max_jobs, ',' ORDER BY id) FROM plans";
    let first = stage.beside(0).value(held);
    assert!(first.contains("901 1") && first.contains(" 600"), "{first}");
    assert!((1..3).all(|shard| stage.beside(shard).value(held) == first));
}

#[test]
fn a_row_that_changes_meanwhile_is_not_changed_by_what_was_read_before() {
    let stage = Stage::new();
    let owns = "SELECT count(*) FROM users WHERE id = 1";
    let shard = (0..3).find(|shard| stage.beside(*shard).value(owns) == "1").unwrap();
    let change = "UPDATE users SET name = name || (SELECT count(*) FROM jobs) WHERE id < 9";
    for (begin, expected) in [("", "40001"), ("BEGIN", "")] {
        let mut other = stage.beside(shard);
        other.query("BEGIN");
        other.query("UPDATE users SET name = 'other' WHERE id = 1");
        std::thread::scope(|scope| {
            let changing = scope.spawn(|| {
                let mut session = stage.session();
                session.query(begin);
                let answer = session.query(change);
                session.query("COMMIT");
                code(&answer)
            });
            let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
            support::eventually("it waits", || stage.beside(shard).value(waiting) != "0");
            other.query("COMMIT");
            assert_eq!(changing.join().unwrap(), expected, "{begin}");
        });
    }
    let name = stage.session().value("SELECT name FROM users WHERE id = 1");
    assert!(name.starts_with("other") && name.len() > 5, "{name}");
}
