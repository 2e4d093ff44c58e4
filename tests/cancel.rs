//! Cancel requests against a busy pool: each ends the statement whose key it has, or none.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pgring::demo::sample::APP;

mod support;
use support::raw::{CLOSED, Frame, Raw, V3_0, V3_2, bind, cancel_request, execute, parse, query, sync};
use support::{Config, Proxy, sample_database, servers};

const CANCELS: usize = 1000;
const VICTIMS: usize = 8;
const INNOCENTS: usize = 16;

/// A statement of this client's that takes this long, with a tag in its answer.
fn statement(tag: &str, user: usize, milliseconds: usize) -> String {
    format!("SELECT '{tag}', pg_sleep({milliseconds} / 1000.0) FROM users WHERE id = {user}")
}

/// The same under either protocol.
fn written(sql: &str, is_simple: bool) -> Vec<u8> {
    if is_simple { query(sql) } else { [parse("", sql), bind("", "", &[]), execute("", 0), sync()].concat() }
}

/// The tag of the answer, or its SQLSTATE.
fn answer(frames: &[Frame]) -> String {
    assert_eq!(frames.last().map(|last| last.tag), Some(b'Z'), "{frames:?}");
    let error = frames.iter().find(|frame| frame.tag == b'E').map(Frame::code);
    let row = frames.iter().find(|frame| frame.tag == b'D').map(|frame| frame.columns().remove(0));
    error.or(row).unwrap_or_else(|| format!("{frames:?}"))
}

fn login(address: &str, database: &str, number: usize) -> Raw {
    Raw::login_with(address, APP, database, if number.is_multiple_of(2) { V3_0 } else { V3_2 }, &[])
}

/// Works without a pause, and is never cancelled.
fn innocent(address: &str, database: &str, number: usize, done: &AtomicBool) -> usize {
    let mut client = login(address, database, number);
    let mut round = 0;
    while !done.load(Ordering::Relaxed) {
        let tag = format!("innocent {number}.{round}");
        client.send(&written(&statement(&tag, number, round % 4), round.is_multiple_of(2)));
        let got = answer(&client.until(b'Z', 1));
        assert_eq!(got, tag, "a cancel hit a statement that nobody cancelled");
        round += 1;
    }
    round
}

/// Cancels its own statements, sooner and later; returns how many of them ended by that.
fn victim(address: &str, database: &str, number: usize, left: &AtomicUsize) -> usize {
    let mut client = login(address, database, number);
    let (mut cancelled, mut round) = (0, 0);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let tag = format!("victim {number}.{round}");
        let mut request = Raw::tcp(address);
        client.send(&written(&statement(&tag, number, round % 12), round.is_multiple_of(3)));
        if !round.is_multiple_of(4) {
            // While it waits for a server, or runs, or has just ended: from round to round another.
            std::thread::sleep(std::time::Duration::from_micros(700 * (round as u64 % 23)));
        }
        request.send(&cancel_request(client.pid, &client.secret));
        let got = answer(&client.until(b'Z', 1));
        assert!(got == tag || got == "57014", "{tag}: {got}");
        cancelled += usize::from(got == "57014");
        assert_eq!(request.byte(), CLOSED);
        // The request has been carried out: what comes now is not meant.
        let after = format!("after {tag}");
        client.send(&written(&statement(&after, number, 1), round.is_multiple_of(2)));
        assert_eq!(answer(&client.until(b'Z', 1)), after, "the cancel hit the next statement");
        round += 1;
    }
    cancelled
}

/// Cancels from all sides through so many processes in front of so many shards.
fn storm(shards: usize, processes: usize) {
    let shards = servers(shards);
    let name = sample_database(&shards);
    let config = Config::new().database(&name, &shards).set("pool", "size", "4").set(
        "pool",
        "checkout_timeout",
        "\"60s\"",
    );
    let mut proxies = vec![Proxy::start(config.clone())];
    while proxies.len() < processes {
        proxies.push(Proxy::start_beside(config.clone()));
    }
    let address = proxies[0].address();
    let (done, left) = (AtomicBool::new(false), AtomicUsize::new(CANCELS));
    let (cancelled, undisturbed) = std::thread::scope(|scope| {
        let (address, name, done, left) = (&address, &name, &done, &left);
        let innocents: Vec<_> = (1..=INNOCENTS)
            .map(|number| scope.spawn(move || innocent(address, name, number, done)))
            .collect();
        let victims: Vec<_> = (INNOCENTS + 1..=INNOCENTS + VICTIMS)
            .map(|number| scope.spawn(move || victim(address, name, number, left)))
            .collect();
        let victims: Vec<_> = victims.into_iter().map(|victim| victim.join()).collect();
        done.store(true, Ordering::Relaxed);
        let undisturbed: usize = innocents.into_iter().map(|innocent| innocent.join().unwrap()).sum();
        let cancelled: usize = victims.into_iter().map(|victim| victim.unwrap()).sum();
        (cancelled, undisturbed)
    });
    assert!(cancelled > CANCELS / 10, "only {cancelled} cancels came in time");
    assert!(undisturbed > CANCELS, "only {undisturbed} other statements ran beside them");
    if processes == 1 {
        return;
    }
    let log: String = proxies.iter().map(Proxy::log).collect();
    assert!(!log.contains("with a wrong key"), "{log}");
}

#[test]
fn a_thousand_cancels_on_one_shard_hit_nobody_else() {
    storm(1, 1);
}

#[test]
fn a_thousand_cancels_on_three_shards_hit_nobody_else() {
    storm(3, 1);
}

#[test]
fn a_thousand_cancels_through_two_processes_hit_nobody_else() {
    storm(1, 2);
    storm(3, 2);
}
