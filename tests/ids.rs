//! Keys that are computed first, ids that are made everywhere, and enumerations in reference tables.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

use pgring::demo::sample::APP;
use support::raw::{Raw, bind, execute, parse, sync};
use support::{Config, Proxy, database, eventually, psql, servers};

const SCHEMA: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE DOMAIN percent AS integer CHECK (VALUE BETWEEN 0 AND 100);
    CREATE TABLE t (user_id bigint, v text, n int);
    CREATE TABLE plans (id int PRIMARY KEY, mood mood DEFAULT 'ok', share percent,
                        made timestamptz DEFAULT clock_timestamp());";

fn three_shards() -> (Proxy, String, String) {
    let shards = servers(3);
    let name = database(&shards, SCHEMA);
    let proxy = Proxy::start(Config::new().database(&name, &shards));
    let dsn = proxy.dsn(APP, &name);
    (proxy, dsn, name)
}

fn ask(dsn: &str, script: &str) -> String {
    psql(dsn, script).expect_ok().trim().replace('\n', " ")
}

#[test]
fn a_computed_key_is_routed_by_its_value() {
    let (proxy, dsn, name) = three_shards();
    ask(
        &dsn,
        "INSERT INTO t VALUES (1 + 1, 'a'), (length('four'), 'b'), (6, 'c'), ('8'::text::bigint, 'd'), (9.5, 'e')",
    );
    ask(&dsn, "INSERT INTO t VALUES (10 + 1, 'f')");
    ask(&dsn, "BEGIN; INSERT INTO t VALUES (10 + 2, 'g'), (13, 'h'); COMMIT");
    let mut client = Raw::login(&proxy.address(), APP, &name);
    let text = "INSERT INTO t VALUES ($1 + 4, 'i'), ($1 + 5, $2)";
    client.send(&[parse("", text), bind("", "", &["10", "j"]), execute("", 0), sync()].concat());
    assert!(client.until(b'Z', 1).iter().any(|frame| frame.body.starts_with(b"INSERT 0 2")));
    for (key, value) in [
        (2, 'a'),
        (4, 'b'),
        (6, 'c'),
        (8, 'd'),
        (10, 'e'),
        (11, 'f'),
        (12, 'g'),
        (13, 'h'),
        (14, 'i'),
        (15, 'j'),
    ] {
        assert_eq!(ask(&dsn, &format!("SELECT v FROM t WHERE user_id = {key}")), value.to_string(), "{key}");
    }
    for (key, error) in [
        ("random()::int", "is not a constant"),
        ("extract(day FROM 'now'::timestamp)::int", "current time"),
        ("nullif(1, 1)", "NULL"),
        ("1 / 0", "division by zero"),
        ("lower('7')", "of type bigint"),
    ] {
        let refused = psql(&dsn, &format!("INSERT INTO t VALUES ({key}, 'x')"));
        assert!(!refused.ok && refused.err.contains(error), "{key}: {}", refused.err);
    }
    assert_eq!(ask(&dsn, "SELECT count(*) FROM t"), "10");
}

#[test]
fn ids_are_unique_over_shards() {
    let (_proxy, dsn, _) = three_shards();
    let is_there = || psql(&dsn, "SELECT pgring.next_id()").ok;
    eventually("pgring.next_id() is there", is_there);
    eventually("everywhere", || {
        (1..=3).all(|n| psql(&dsn, &format!("/* pgring: shard=s{n} */ SELECT pgring.next_id()")).ok)
    });
    ask(&dsn, "CREATE TABLE made (id bigint PRIMARY KEY DEFAULT pgring.next_id(), user_id bigint)");
    let rows: Vec<String> = (1..=300).map(|n| format!("({n})")).collect();
    ask(&dsn, &format!("INSERT INTO made (user_id) VALUES {}", rows.join(", ")));
    ask(&dsn, "INSERT INTO made VALUES (pgring.next_id(), 42)");
    assert_eq!(ask(&dsn, "SELECT count(DISTINCT id) FROM made"), "301");
    assert_eq!(ask(&dsn, "SELECT count(DISTINCT id >> 12 & 1023) FROM made"), "3");
    // More than a millisecond has room for, in the order of the calls.
    let many = "/* pgring: shard=s1 */ SELECT count(DISTINCT id), bool_and(id > before) FROM (SELECT id, \
                lag(id, 1, 0::bigint) OVER (ORDER BY n) AS before FROM (SELECT n, pgring.next_id() AS id \
                FROM generate_series(1, 20000) n OFFSET 0) a) b";
    assert_eq!(ask(&dsn, many), "20000|t");
}

#[test]
fn copies_hold_the_same_enumerations() {
    let (_proxy, dsn, _) = three_shards();
    let returned = ask(
        &dsn,
        "INSERT INTO plans (id, mood, share) VALUES (1, 'happy', 7), (2, NULL, NULL), (3, DEFAULT, 8)
         RETURNING id, mood, share, mood > 'ok'",
    );
    assert_eq!(returned, "1|happy|7|t 2||| 3|ok|8|f");
    ask(&dsn, "UPDATE plans SET mood = 'sad', share = 9, made = clock_timestamp() WHERE id = 1");
    ask(&dsn, "DELETE FROM plans WHERE id = 3 AND made < clock_timestamp()");
    let copies: Vec<String> = (1..=3)
        .map(|n| ask(&dsn, &format!("/* pgring: shard=s{n} */ SELECT * FROM plans ORDER BY id")))
        .collect();
    assert!(copies[0].starts_with("1|sad|9|"), "{copies:?}");
    assert!(copies.iter().all(|copy| *copy == copies[0]), "{copies:?}");
}
