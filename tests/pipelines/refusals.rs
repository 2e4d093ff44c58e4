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
    (Proxy::start(Config::new().database(&name, &shards)), name)
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
