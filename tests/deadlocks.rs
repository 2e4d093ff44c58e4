//! Deadlocks that no single shard can see: one transaction gives way, the others go on, and nobody
//! who only waits is disturbed.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pgring::demo::cluster::Cluster;
use pgring::demo::sample::{APP, CONTROL};

mod support;
use support::raw::{Frame, Raw, bind, execute, parse, query, sync};
use support::{Config, Proxy, database, eventually, servers};

const SCHEMA: &str = "CREATE TABLE account (user_id bigint PRIMARY KEY, amount bigint NOT NULL);
    CREATE TABLE plans (id bigint PRIMARY KEY, made timestamptz DEFAULT clock_timestamp());";
/// How long finding one takes: `deadlock_timeout` and a second; and where others keep the machine busy.
const FOUND_WITHIN: Duration = Duration::from_secs(2);
const FOUND_AT_LAST: Duration = Duration::from_secs(6);
const ACCOUNTS: usize = 100;
const EACH: i64 = 1000;

struct Stage {
    proxies: Vec<Proxy>,
    shards: Vec<&'static Cluster>,
    name: String,
    /// Accounts of each shard.
    keys: Vec<Vec<i64>>,
}

impl Stage {
    fn new(shards: usize, proxies: usize) -> Stage {
        Stage::with(shards, proxies, "\"1s\"")
    }

    fn with(shards: usize, proxies: usize, timeout: &str) -> Stage {
        let shards = servers(shards);
        let name = database(&shards, SCHEMA);
        let config = || Config::new().set("routing", "deadlock_timeout", timeout).database(&name, &shards);
        let start = || Proxy::start(config());
        let proxies: Vec<Proxy> = (0..proxies).map(|_| start()).collect();
        let mut client = Raw::login(&proxies[0].address(), APP, &name);
        let rows: Vec<String> = (1..=ACCOUNTS).map(|key| format!("({key}, {EACH})")).collect();
        client.query(&format!("INSERT INTO account VALUES {}", rows.join(", ")));
        let keys = (1..=shards.len()).map(|shard| {
            let of =
                format!("/* pgring: shard=s{shard} */ SELECT string_agg(user_id::text, ' ') FROM account");
            let keys: Vec<i64> = client.value(&of).split(' ').map(|key| key.parse().unwrap()).collect();
            assert!(keys.len() > 4);
            keys
        });
        let keys = keys.collect();
        Stage { proxies, shards, name, keys }
    }

    fn client(&self, proxy: usize) -> Raw {
        Raw::login(&self.proxies[proxy].address(), APP, &self.name)
    }

    /// Takes from the `n`th account of a shard.
    fn take(&self, shard: usize, n: usize) -> String {
        format!("UPDATE account SET amount = amount - 1 WHERE user_id = {}", self.keys[shard][n])
    }

    fn sum(&self) -> String {
        self.client(0).value("SELECT sum(amount)::text FROM account")
    }

    /// So many wait for a lock on a shard.
    fn wait_until_blocked(&self, shard: usize, count: usize) {
        let blocked = "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                       WHERE NOT granted AND datname = current_database()";
        eventually("somebody waits", || {
            self.shards[shard].psql(CONTROL, &self.name, blocked).unwrap().trim() == count.to_string()
        });
    }

    /// Everything of the test is over on the servers.
    fn is_quiet(&self) -> bool {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid() \
                    AND datname = current_database() AND usename = 'app'";
        self.shards.iter().all(|shard| shard.psql(CONTROL, &self.name, busy).unwrap().trim() == "0")
    }
}

/// The error, if there is one.
fn error(frames: &[Frame]) -> Option<&Frame> {
    frames.iter().find(|frame| frame.tag == b'E')
}

#[track_caller]
fn ok(client: &mut Raw, sql: &str) {
    let frames = client.query(sql);
    assert!(error(&frames).is_none() && frames.last().unwrap().tag == b'Z', "{sql}: {frames:?}");
}

/// A transaction that holds one account and wants another; extended where the number is odd.
struct Transfer {
    client: Raw,
    wants: String,
    number: usize,
}

impl Transfer {
    fn begin(stage: &Stage, proxy: usize, number: usize, has: &str, wants: String) -> Transfer {
        let mut client = stage.client(proxy);
        ok(&mut client, "BEGIN");
        ok(&mut client, has);
        Transfer { client, wants, number }
    }

    fn ask(&mut self) {
        let sql = self.wants.as_str();
        let message = if self.number.is_multiple_of(2) {
            query(sql)
        } else {
            [parse("", sql), bind("", "", &[]), execute("", 0), sync()].concat()
        };
        self.client.send(&message);
    }

    fn answer(&mut self) -> Vec<Frame> {
        self.client.until(b'Z', 1)
    }
}

/// Each transfer holds an account and wants the next one's; the last one is the youngest, and falls.
/// How long that took.
fn circle(stage: &Stage, mut transfers: Vec<Transfer>) -> Duration {
    for transfer in &mut transfers {
        transfer.ask();
        std::thread::sleep(Duration::from_millis(50));
    }
    let closed = Instant::now();
    let mut victim = transfers.pop().unwrap();
    let frames = victim.answer();
    let took = closed.elapsed();
    let found = error(&frames).unwrap_or_else(|| panic!("{frames:?}"));
    assert_eq!(found.code(), "40P01", "{frames:?}");
    assert_eq!(found.field(b'M').unwrap(), "deadlock detected");
    assert_eq!(frames.last().unwrap().body, b"E");
    assert!(took < FOUND_AT_LAST, "it took {took:?}");
    assert!(took > Duration::from_millis(900), "after {took:?} it may have been no deadlock");
    let detail = found.field(b'D').unwrap();
    assert_eq!(detail.lines().count(), transfers.len() + 1, "{detail}");
    assert!(found.field(b'H').is_some());
    for transfer in transfers.iter().chain([&victim]) {
        assert!(detail.contains(&transfer.wants), "{detail}");
    }
    for shard in 1..=stage.shards.len() {
        assert!(detail.contains(&format!("On shard \"s{shard}\"")), "{detail}");
    }
    // The others go on before it has rolled back, one after the other.
    for transfer in transfers.iter_mut().rev() {
        let frames = transfer.answer();
        assert!(error(&frames).is_none(), "{frames:?}");
        ok(&mut transfer.client, "COMMIT");
    }
    assert_eq!(error(&victim.client.query("SELECT 1")).unwrap().code(), "25P02");
    ok(&mut victim.client, "ROLLBACK");
    ok(&mut victim.client, "SELECT 1");
    took
}

/// In a circle over all shards; the `n`th client is on the proxy it is told.
fn round(stage: &Stage, on: impl Fn(usize) -> usize) -> Duration {
    let count = stage.shards.len();
    let before: i64 = stage.sum().parse().unwrap();
    let transfers = (0..count).map(|n| {
        let wants = stage.take((n + 1) % count, 0);
        Transfer::begin(stage, on(n), n, &stage.take(n, 0), wants)
    });
    let took = circle(stage, transfers.collect());
    let taken = 2 * (i64::try_from(count).unwrap() - 1);
    assert_eq!(stage.sum(), (before - taken).to_string());
    eventually("nothing is left of it", || stage.is_quiet());
    took
}

/// Once in a few times it is found in time.
#[track_caller]
fn rounds(stage: &Stage, on: impl Fn(usize) -> usize) {
    let took: Vec<Duration> = (0..3).map(|_| round(stage, &on)).collect();
    println!("{took:?}");
    assert!(took.iter().any(|took| *took < FOUND_WITHIN), "it took {took:?}");
}

#[test]
fn two_sessions_over_two_shards() {
    rounds(&Stage::new(2, 1), |_| 0);
}

#[test]
fn three_sessions_over_three_shards() {
    rounds(&Stage::new(3, 1), |_| 0);
}

#[test]
fn each_half_in_a_proxy_of_its_own() {
    let stage = Stage::new(2, 2);
    rounds(&stage, |n| n);
    rounds(&Stage::new(3, 2), |n| n % 2);
    let left = "SELECT count(*) FROM pgring.waiting";
    eventually("nobody is published any more", || {
        stage.shards[0].psql(CONTROL, &stage.name, left).unwrap().trim() == "0"
    });
    // Nobody else may read what others run.
    let refused = stage.client(0).query("/* pgring: shard=s1 */ SELECT statement FROM pgring.waiting");
    assert_eq!(error(&refused).unwrap().code(), "42501");
}

/// A statement of several shards at once, against a transaction that has one part of it.
#[test]
fn a_statement_of_several_shards_is_a_transaction_too() {
    let stage = Stage::new(2, 1);
    let whole = "UPDATE account SET amount = amount + 1";
    // The older one has an account of the second shard and wants one of the first, which the whole
    // update has by then.
    let wants = stage.take(0, 1);
    let mut older = Transfer::begin(&stage, 0, 0, &stage.take(1, 0), wants);
    let mut younger = stage.client(0);
    younger.send(&query(whole));
    stage.wait_until_blocked(1, 1);
    // Its other half has come to its end meanwhile, or does with a lock on everything.
    std::thread::sleep(Duration::from_millis(200));
    older.ask();
    let frames = younger.until(b'Z', 1);
    assert_eq!(error(&frames).unwrap().code(), "40P01", "{frames:?}");
    assert_eq!(frames.last().unwrap().body, b"I");
    assert!(error(&older.answer()).is_none());
    ok(&mut older.client, "COMMIT");
    ok(&mut younger, whole);
}

/// A reader, and somebody who locks its table on the shards in the other order; the reader's answer.
fn read_against_locks(sql: &str) -> Vec<Frame> {
    let stage = Stage::new(2, 1);
    let lock = |shard: usize| format!("/* pgring: shard=s{shard} */ LOCK TABLE account");
    let mut older = Transfer::begin(&stage, 0, 0, &lock(2), lock(1));
    let mut reader = stage.client(0);
    reader.send(&query(sql));
    stage.wait_until_blocked(1, 1);
    std::thread::sleep(Duration::from_millis(200));
    older.ask();
    std::thread::scope(|scope| {
        let answer = scope.spawn(move || reader.until(b'Z', 1));
        let frames = older.answer();
        assert!(frames.len() > 1 && error(&frames).is_none(), "{frames:?}");
        ok(&mut older.client, "COMMIT");
        answer.join().unwrap()
    })
}

/// A read outside a transaction has its shards to itself one by one, so this is none ...
#[test]
fn a_read_that_comes_to_its_end_is_no_deadlock() {
    let frames = read_against_locks("SELECT user_id, pg_sleep(0.06) FROM account");
    assert_eq!(frames.iter().filter(|frame| frame.tag == b'D').count(), ACCOUNTS);
}

/// ... unless what one shard says has to wait for what the other one does not say.
#[test]
fn a_read_that_waits_for_its_other_half_is_one() {
    let frames = read_against_locks("SELECT user_id, repeat('x', 400000) FROM account ORDER BY user_id");
    assert_eq!(error(&frames).map(Frame::code).as_deref(), Some("40P01"), "{frames:?}");
}

/// One whose servers are asked one after the other has what it has on all of them.
#[test]
fn a_statement_that_goes_from_shard_to_shard_is_one_too() {
    let stage = Stage::new(2, 1);
    let insert = |shard: usize| format!("/* pgring: shard=s{shard} */ INSERT INTO plans VALUES (7)");
    let mut older = Transfer::begin(&stage, 0, 0, &insert(2), insert(1));
    let mut younger = stage.client(0);
    // What the first shard has computed is then given to the others.
    younger.send(&query("INSERT INTO plans (id) VALUES (7)"));
    stage.wait_until_blocked(1, 1);
    older.ask();
    let frames = younger.until(b'Z', 1);
    assert_eq!(error(&frames).map(Frame::code).as_deref(), Some("40P01"), "{frames:?}");
    assert!(error(&older.answer()).is_none());
    ok(&mut older.client, "COMMIT");
}

#[test]
fn a_savepoint_brings_the_victim_back() {
    let stage = Stage::new(3, 1);
    let mut older = Transfer::begin(&stage, 0, 0, &stage.take(0, 0), stage.take(1, 0));
    let mut younger = Transfer::begin(&stage, 0, 0, &stage.take(2, 0), stage.take(0, 0));
    ok(&mut younger.client, "SAVEPOINT s");
    ok(&mut younger.client, &stage.take(1, 0));
    older.ask();
    younger.ask();
    let frames = younger.answer();
    assert_eq!(error(&frames).unwrap().code(), "40P01", "{frames:?}");
    // What it has locked since the savepoint is free, and what it had before is not.
    assert!(error(&older.answer()).is_none());
    let mut third = stage.client(0);
    let locked = stage
        .client(0)
        .query(&format!("SELECT 1 FROM account WHERE user_id = {} FOR UPDATE NOWAIT", stage.keys[2][0]));
    assert_eq!(error(&locked).unwrap().code(), "55P03");
    ok(&mut older.client, "ROLLBACK");
    ok(&mut younger.client, "ROLLBACK TO s");
    ok(&mut younger.client, &younger.wants.clone());
    ok(&mut younger.client, "COMMIT");
    ok(&mut third, &stage.take(2, 0));
    assert_eq!(stage.sum(), (EACH * i64::try_from(ACCOUNTS).unwrap() - 3).to_string());
}

#[test]
fn waiting_is_no_deadlock() {
    let stage = Stage::new(2, 2);
    // All wait for one who does nothing: behind each other, on both shards, from both proxies.
    let mut idle = stage.client(0);
    for sql in ["BEGIN", &stage.take(0, 0), &stage.take(1, 0)] {
        ok(&mut idle, sql);
    }
    let mut waiting: Vec<Transfer> = (0..4)
        .map(|n| {
            let (has, wants) = (stage.take(n % 2, n + 1), stage.take(1 - n % 2, 0));
            Transfer::begin(&stage, n / 2, n, &has, wants)
        })
        .collect();
    waiting.iter_mut().for_each(Transfer::ask);
    std::thread::sleep(Duration::from_secs(4));
    ok(&mut idle, "COMMIT");
    // Two and two want the same, and which of them is first is the server's business.
    std::thread::scope(|scope| {
        for transfer in &mut waiting {
            scope.spawn(|| {
                let frames = transfer.answer();
                assert!(frames.len() > 1 && error(&frames).is_none(), "{frames:?}");
                ok(&mut transfer.client, "COMMIT");
            });
        }
    });
}

/// A session keeps its advisory locks whatever becomes of its transactions, and on a server that it may
/// ask nothing of just now.
#[test]
fn an_advisory_lock_of_a_session_counts() {
    let stage = Stage::new(2, 1);
    // What the owner of the lock has begun with, if it is in a transaction.
    for (inside, owner_is_older, owner_asks_first) in [
        (None, false, true),
        (None, false, false),
        (Some(stage.take(1, 1)), false, true),
        (Some(stage.take(0, 1)), false, true),
        (Some(stage.take(0, 1)), true, false),
        (Some(stage.take(1, 1)), true, true),
    ] {
        let what = format!("{inside:?}, {owner_is_older}, {owner_asks_first}");
        let (mut owner, mut other) = (stage.client(0), stage.client(0));
        ok(&mut owner, "SELECT pg_advisory_lock(9)");
        let begin_owner = |owner: &mut Raw| {
            if let Some(first) = &inside {
                ok(owner, "BEGIN");
                ok(owner, first);
            }
        };
        if owner_is_older {
            begin_owner(&mut owner);
        }
        ok(&mut other, "BEGIN");
        ok(&mut other, &stage.take(1, 0));
        if !owner_is_older {
            begin_owner(&mut owner);
        }
        let ask = |owner: &mut Raw, other: &mut Raw, owner_asks: bool| {
            if owner_asks {
                owner.send(&query(&stage.take(1, 0)));
                stage.wait_until_blocked(1, 1);
            } else {
                other.send(&query("SELECT pg_advisory_lock(9)"));
                stage.wait_until_blocked(0, 1);
            }
        };
        ask(&mut owner, &mut other, owner_asks_first);
        ask(&mut owner, &mut other, !owner_asks_first);
        let victim = if owner_is_older { &mut other } else { &mut owner };
        let frames = victim.until(b'Z', 1);
        assert_eq!(error(&frames).map(Frame::code).as_deref(), Some("40P01"), "{what}: {frames:?}");
        let end = |owner: &mut Raw| {
            if inside.is_some() {
                ok(owner, "ROLLBACK");
            }
            // It has what it locked, as with PostgreSQL.
            assert_eq!(owner.value("SELECT pg_advisory_unlock(9)"), "t", "{what}");
        };
        if owner_is_older {
            assert!(error(&owner.until(b'Z', 1)).is_none(), "{what}");
            end(&mut owner);
        } else {
            end(&mut owner);
            assert!(error(&other.until(b'Z', 1)).is_none(), "{what}");
        }
        ok(&mut other, "ROLLBACK");
    }
}

/// What a server finds itself is left to it.
#[test]
fn a_deadlock_within_a_shard_is_postgresqls() {
    let stage = Stage::new(2, 1);
    let mut pair: Vec<Transfer> = [(0, 1), (1, 0)]
        .map(|(has, wants)| {
            let mut transfer = Transfer::begin(&stage, 0, 0, &stage.take(0, has), stage.take(0, wants));
            // Both are on both shards.
            ok(&mut transfer.client, &stage.take(1, has));
            transfer
        })
        .into();
    pair.iter_mut().for_each(Transfer::ask);
    let answers: Vec<Vec<Frame>> = std::thread::scope(|scope| {
        let answering: Vec<_> = pair
            .iter_mut()
            .map(|transfer| {
                scope.spawn(|| {
                    let frames = transfer.answer();
                    ok(&mut transfer.client, "ROLLBACK");
                    frames
                })
            })
            .collect();
        answering.into_iter().map(|answer| answer.join().unwrap()).collect()
    });
    let errors: Vec<&Frame> = answers.iter().filter_map(|frames| error(frames)).collect();
    assert_eq!(errors.len(), 1, "{answers:?}");
    assert_eq!(errors[0].code(), "40P01");
    assert!(errors[0].field(b'D').unwrap().starts_with("Process "), "{errors:?}");
}

/// Clients that move money between random accounts for a while; how many of them fell. Where they
/// are impatient, waits end by themselves when they are just being looked at.
fn contention(stage: &Stage, ordered: bool, impatient: bool, seconds: u64) -> usize {
    let (fallen, moved) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let until = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for number in 0..8_usize {
            let (fallen, moved) = (&fallen, &moved);
            scope.spawn(move || {
                let mut client = stage.client(number % stage.proxies.len());
                let mut random = number as u64 + 1;
                if impatient {
                    ok(&mut client, &format!("SET lock_timeout = {}", 500 + 100 * number));
                }
                while Instant::now() < until {
                    let mut keys: Vec<u64> = Vec::new();
                    while keys.len() < 3 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let key = (random >> 33) % 12 + 1;
                        if !keys.contains(&key) {
                            keys.push(key);
                        }
                    }
                    if ordered {
                        keys = keys.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
                    }
                    ok(&mut client, "BEGIN");
                    let mut failed = None;
                    for (key, amount) in keys.iter().zip([1, 1, -2]) {
                        let update =
                            format!("UPDATE account SET amount = amount + {amount} WHERE user_id = {key}");
                        let frames = client.query(&update);
                        if let Some(error) = error(&frames) {
                            failed = Some(error.code());
                            break;
                        }
                    }
                    ok(&mut client, if failed.is_some() { "ROLLBACK" } else { "COMMIT" });
                    match failed.as_deref() {
                        None => _ = moved.fetch_add(1, Ordering::Relaxed),
                        Some("40P01") => _ = fallen.fetch_add(1, Ordering::Relaxed),
                        Some("55P03") if impatient => {}
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    assert!(moved.load(Ordering::Relaxed) > 20, "only {moved:?} went through");
    assert_eq!(stage.sum(), (EACH * i64::try_from(ACCOUNTS).unwrap()).to_string());
    fallen.into_inner()
}

/// `PGRING_SECONDS` makes it longer.
#[test]
fn who_locks_in_one_order_never_falls() {
    let seconds = std::env::var("PGRING_SECONDS").map_or(5, |seconds| seconds.parse().unwrap());
    assert_eq!(contention(&Stage::with(2, 2, "\"200ms\""), true, false, seconds), 0);
}

#[test]
fn who_locks_at_random_falls_and_goes_on() {
    let fallen = contention(&Stage::with(2, 2, "\"200ms\""), false, false, 8);
    assert!(fallen > 0, "there should have been a deadlock");
}

#[test]
fn a_verdict_that_comes_too_late_hits_nobody() {
    let fallen = contention(&Stage::with(2, 2, "\"200ms\""), false, true, 8);
    assert!(fallen > 0, "there should have been a deadlock");
}
