//! Errors of pgring's own, in the middle of what a server is doing.

use std::time::Duration;

use pgring::demo::sample::APP;

use crate::support::raw::{Raw, bind, describe, execute, flush, parse, query, run, sync};
use crate::support::{Config, Proxy, database, servers};

/// On two shards, user 4 lives on the first and user 1 on the second.
const SCHEMA: &str = "CREATE TABLE t (user_id int PRIMARY KEY, v text)";

fn two_shards() -> (Proxy, String) {
    let shards = servers(2);
    let name = database(&shards, SCHEMA);
    let config = Config::new().database(&name, &shards).set("routing", "cross_shard", "\"refuse\"");
    (Proxy::start(config), name)
}

fn tags(client: &mut Raw) -> String {
    let frames = client.until(b'Z', 1);
    let words = frames.iter().filter_map(|frame| match frame.tag {
        b'E' => Some(frame.code()),
        b'C' => Some(String::from_utf8_lossy(frame.body.trim_ascii_end()).trim_end_matches('\0').to_owned()),
        b'Z' => Some(String::from_utf8_lossy(&frame.body).into_owned()),
        _ => None,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_failed_transaction_is_not_committed_through_a_named_portal() {
    let (proxy, name) = two_shards();
    for (commit, answer, status) in [("COMMIT", "ROLLBACK I", "I"), ("COMMIT AND CHAIN", "ROLLBACK T", "T")] {
        for portal in ["", "named"] {
            let mut client = Raw::login(&proxy.address(), APP, &name);
            client.send(&[query("BEGIN"), query("INSERT INTO t VALUES (4, 'lost')")].concat());
            assert_eq!((tags(&mut client), tags(&mut client)), ("BEGIN T".into(), "INSERT 0 1 T".into()));
            client.send(&query("INSERT INTO t VALUES (1, 'elsewhere')"));
            assert_eq!(tags(&mut client), "0A000 E");
            client.send(&[parse("", commit), bind(portal, "", &[]), execute(portal, 0), sync()].concat());
            assert_eq!(tags(&mut client), answer, "{commit} through {portal:?}");
            client.send(&[query("ROLLBACK"), query("SELECT v FROM t WHERE user_id = 4")].concat());
            tags(&mut client);
            assert_eq!(tags(&mut client), "SELECT 0 I", "{commit} through {portal:?}, {status}");
        }
    }
}

#[test]
fn an_error_while_only_describing_fails_a_transaction_that_has_no_shard_yet() {
    let (proxy, name) = two_shards();
    for user in [4, 1] {
        let mut client = Raw::login(&proxy.address(), APP, &name);
        client.send(&query("BEGIN"));
        assert_eq!(tags(&mut client), "BEGIN T");
        let insert = format!("INSERT INTO t VALUES ({user}, 'lost')");
        client.send(
            &[
                parse("bad", "SELECT nothing FROM t WHERE user_id = 4"),
                describe('S', "bad"),
                flush(),
                run(&insert, &[]),
                sync(),
            ]
            .concat(),
        );
        assert_eq!(tags(&mut client), "42703 E", "user {user}");
        client.send(&[query(&insert), query("COMMIT")].concat());
        assert_eq!((tags(&mut client), tags(&mut client)), ("25P02 E".into(), "ROLLBACK I".into()));
    }
}

#[test]
fn an_error_of_pgrings_own_is_told_without_a_sync() {
    let (proxy, name) = two_shards();
    let mut client = Raw::login(&proxy.address(), APP, &name);
    client.set_patience(Duration::from_secs(5));
    let read = run("SELECT v FROM t WHERE user_id = 4", &[]);
    client.send(&[read, run("SELECT v FROM t WHERE v = 'of whom?'", &[]), flush()].concat());
    let frames = client.until(b'E', 1);
    assert_eq!(frames.last().unwrap().code(), "0A000", "{frames:?}");
    assert!(frames.iter().any(|frame| frame.tag == b'C'), "{frames:?}");
    client.send(&sync());
    assert_eq!(tags(&mut client), "I");
}

#[test]
fn many_answers_of_pgrings_own_do_not_stall_a_pipeline() {
    let (proxy, name) = two_shards();
    let mut client = Raw::login(&proxy.address(), APP, &name);
    client.set_patience(Duration::from_secs(10));
    let closes = crate::support::raw::close('S', "none").repeat(10_000);
    client.send(&[run("SELECT v FROM t WHERE user_id = 4", &[]), closes, sync()].concat());
    let frames = client.until(b'Z', 1);
    assert_eq!(frames.iter().filter(|frame| frame.tag == b'3').count(), 10_000);
}

#[test]
fn what_has_no_place_in_a_copy_ends_the_session_and_not_its_server() {
    let (proxy, name) = two_shards();
    let mut client = Raw::login(&proxy.address(), APP, &name);
    client.set_patience(Duration::from_secs(5));
    let copy = "COPY t FROM STDIN /* pgring: shard=s1 */";
    client.send(&[run(copy, &[]), flush(), query("SELECT 1")].concat());
    let frames = client.rest();
    assert_eq!(
        frames.iter().rev().find(|frame| frame.tag == b'E').map(|frame| frame.code()),
        Some("08P01".into()),
        "{frames:?}"
    );
    let mut next = Raw::login(&proxy.address(), APP, &name);
    assert_eq!(next.value("SELECT count(*) FROM t WHERE user_id = 4"), "0");
}

/// Conversations of batches (`|`) of statements (`;`), each of which ends with a `Sync`. In the
/// last but one of a batch pgring refuses what PostgreSQL refuses as well.
const CONVERSATIONS: [&str; 46] = [
    "BEGIN; SELECT 1/0 FROM t | COMMIT; INSERT 1; unknown",
    "BEGIN; SELECT 1/0 FROM t | ROLLBACK; INSERT 1; unknown",
    "BEGIN; READ | COMMIT; INSERT 1; unknown",
    "BEGIN; READ | ROLLBACK; INSERT 1; unknown",
    "BEGIN; READ | COMMIT; INSERT 1; portal",
    "BEGIN; INSERT 1 | COMMIT; INSERT 2; flush; unknown",
    "INSERT 1; unknown",
    "INSERT 1; flush; taken",
    "BEGIN; INSERT 1; COMMIT; INSERT 2; unknown",
    "BEGIN; INSERT 1; COMMIT; INSERT 2; query COMMIT; SELECT 1",
    "BEGIN; unknown | COMMIT; INSERT 1; unknown",
    "BEGIN; SELECT 1/0 FROM t | ROLLBACK; INSERT 1; taken",
    "BEGIN; READ | COMMIT; INSERT 1; two",
    "BEGIN | ROLLBACK; INSERT 1; unknown",
    "BEGIN; INSERT 1 | COMMIT AND CHAIN; INSERT 2; unknown | INSERT 3 | COMMIT",
    "READ; BEGIN; DISCARD ALL | INSERT 1 | ROLLBACK",
    "BEGIN; DISCARD ALL | INSERT 1 | ROLLBACK",
    "READ; BEGIN; unknown | INSERT 1 | ROLLBACK",
    "READ; BEGIN; flush; taken | INSERT 1 | COMMIT",
    "INSERT 1; BEGIN; unknown | ROLLBACK",
    "INSERT 1; BEGIN; COMMIT; unknown | INSERT 2",
    "READ; BEGIN; SAVEPOINT s; unknown | ROLLBACK TO s | INSERT 1 | COMMIT",
    "READ; BEGIN; SET application_name = 'kept'; SAVEPOINT s; INSERT 1; taken | ROLLBACK TO s | COMMIT | SHOW application_name",
    "READ; BEGIN; SET application_name = 'kept'; SAVEPOINT s; SELECT 1/0 FROM t | ROLLBACK TO s | COMMIT | SHOW application_name",
    "BEGIN; READ; SET timezone = 'Asia/Tokyo'; unknown | ROLLBACK",
    "BEGIN; READ; SET timezone = 'Asia/Tokyo' | query PREPARE taken AS SELECT 1 | query COMMIT",
    "BEGIN; INSERT 1; SAVEPOINT s; INSERT 2 | unknown | ROLLBACK TO s; INSERT 3 | COMMIT",
    "READ; BEGIN; query DISCARD ALL | INSERT 1 | ROLLBACK",
    "BEGIN; INSERT 1; COMMIT; query | INSERT 2",
    "READ; BEGIN; query | INSERT 1 | ROLLBACK",
    "parse READ; SELECT 1/0 FROM t; two | bind",
    "BEGIN; READ; COMMIT; DISCARD ALL; READ",
    "READ; BEGIN; ROLLBACK; DISCARD ALL | SHOW timezone",
    "SET timezone = 'Asia/Tokyo' | READ; BEGIN; COMMIT; DISCARD ALL; READ; SHOW timezone | SHOW timezone",
    "empty; DISCARD ALL | bind",
    "READ; DISCARD ALL | taken",
    "DISCARD ALL; READ",
    "BEGIN; SELECT 1/0 FROM t | parse SAVEPOINT s",
    "BEGIN; SELECT 1/0 FROM t | parse  | parse ROLLBACK | bind",
    "BEGIN; unknown | parse  | parse ROLLBACK | bind",
    "BEGIN; SELECT 1/0 FROM t | DISCARD ALL",
    "badly taken | taken",
    "BEGIN; INSERT 1; badly taken | COMMIT",
    "BEGIN ISOLATION LEVEL nonsense | INSERT 1",
    "query BEGIN READ ONLY READ WRITE; INSERT 1 | query COMMIT nonsense | ROLLBACK",
    "query BEGIN; query SET TRANSACTION ISOLATION LEVEL nonsense | INSERT 1 | COMMIT",
];

#[test]
fn what_pgring_refuses_undoes_what_postgresql_does() {
    let shards = servers(2);
    let schema = "CREATE TABLE t (user_id int NOT NULL, v text NOT NULL, PRIMARY KEY (user_id, v))";
    let one = database(&shards[..1], schema);
    let two = database(&shards, schema);
    let plain = database(&shards[..1], schema);
    let proxy = Proxy::start(Config::new().database(&one, &shards[..1]).database(&two, &shards));
    let mut wrong = Vec::new();
    for conversation in CONVERSATIONS {
        let hold = |address: &str, name: &str| {
            let mut direct = Raw::login(&shards[0].address(), APP, name);
            direct.query("TRUNCATE t");
            let mut client = Raw::login(address, APP, name);
            client.set_patience(Duration::from_secs(5));
            client.send(&[parse("taken", "SELECT 1"), sync()].concat());
            client.until(b'Z', 1);
            let mut told = Vec::new();
            for batch in conversation.split(" | ") {
                let statements: Vec<&str> = batch.split("; ").collect();
                let (mut bytes, mut ends) = (Vec::new(), 1);
                for statement in statements {
                    ends += usize::from(statement.starts_with("query"));
                    bytes.extend(asked(statement));
                }
                bytes.extend(sync());
                // Whatever ends the conversation: that it is over is answered as well.
                client.send(&bytes);
                let mut frames = client.until(b'Z', ends);
                // When a parameter's new value is told depends on PostgreSQL's version.
                frames.sort_by_key(|frame| frame.tag == b'S');
                told.push(format!("{frames:?}"));
            }
            drop(client);
            let left = format!("{:?}", direct.query("SELECT v FROM t ORDER BY v"));
            (told, left)
        };
        let expected = hold(&shards[0].address(), &plain);
        for name in [&one, &two] {
            let got = hold(&proxy.address(), name);
            if got != expected {
                wrong.push(format!("{conversation}\n  PostgreSQL: {expected:#?}\n  pgring: {got:#?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} were answered otherwise:\n{}", wrong.len(), wrong.join("\n"));
}

fn asked(statement: &str) -> Vec<u8> {
    match statement.split_once(' ').unwrap_or((statement, "")) {
        ("unknown", _) => [bind("", "nosuch", &[]), execute("", 0)].concat(),
        ("portal", _) => execute("nosuch", 0),
        ("taken", _) => parse("taken", "SELECT 2"),
        ("two", _) => parse("", "SELECT 1; SELECT 2"),
        ("flush", _) => flush(),
        ("badly", _) => parse("taken", "SELEC 2"),
        ("empty", _) => run("", &[]),
        ("parse", "READ") => parse("", READ),
        ("parse", text) => parse("", text),
        ("bind", _) => [bind("", "", &[]), execute("", 0)].concat(),
        ("query", text) => query(text),
        ("READ", _) => run(READ, &[]),
        ("INSERT", n) => run(&format!("INSERT INTO t VALUES (4, 'row {n}')"), &[]),
        _ => run(&statement.replace("FROM t", "FROM t WHERE user_id = 4"), &[]),
    }
}

const READ: &str = "SELECT v FROM t WHERE user_id = 4";
