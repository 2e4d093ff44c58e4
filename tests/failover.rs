//! Primaries that are lost, replaced or moved on purpose, and what clients notice of it.
//!
//! Replicas are promoted by hand here; under Patroni, with real networks, it is `make failover`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgring::demo::cluster::{Cluster, SUPERUSER, Settings};
use pgring::demo::sample::APP;

mod support;
use support::raw::{Frame, Raw, bind, execute, parse, query, sync};
use support::{Config, Proxy, eventually, eventually_within, own_servers, unique_name};

#[path = "two_phase/stage.rs"]
mod stage;
use stage::{Bank, said};

/// A slow machine, with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

const TABLE: &str = "CREATE TABLE t (user_id bigint PRIMARY KEY, note text)";

/// A primary and its replica, and a database on them.
struct Pair {
    old: Cluster,
    new: Cluster,
    name: String,
}

impl Pair {
    fn new() -> Pair {
        let old = own_servers(1).remove(0);
        let name = support::database(&[&old], TABLE);
        let new = replica(&old);
        Pair { old, new, name }
    }

    fn config(&self) -> Config {
        watchful().database_at(&self.name, &[vec![self.old.address(), self.new.address()]])
    }

    fn login(&self, proxy: &Proxy) -> Raw {
        let mut raw = Raw::login(&proxy.address(), APP, &self.name);
        raw.set_patience(PATIENCE);
        raw
    }

    fn rows(&self, server: &Cluster) -> String {
        server
            .psql(
                APP,
                &self.name,
                "SELECT coalesce(string_agg(user_id::text, ' ' ORDER BY user_id), '') FROM t",
            )
            .unwrap()
            .trim()
            .to_owned()
    }
}

fn watchful() -> Config {
    Config::new().set("health", "interval", "\"200ms\"").set("health", "timeout", "\"1s\"")
}

fn replica(primary: &Cluster) -> Cluster {
    let data = primary.data().with_file_name(unique_name("replica"));
    primary.replica(&data, Settings { disposable: true, ..Settings::default() }).unwrap()
}

fn superuser(server: &Cluster, sql: &str) -> String {
    server.psql(SUPERUSER, "postgres", sql).unwrap().trim().to_owned()
}

fn promote(server: &Cluster) {
    assert_eq!(superuser(server, "SELECT pg_promote(true)"), "t");
}

/// The replica has all that the primary has written.
fn catch_up(primary: &Cluster, replica: &Cluster) {
    let written = superuser(primary, "SELECT pg_current_wal_lsn()");
    let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
    eventually("the replica has all of it", || superuser(replica, &replayed) == "t");
}

/// The SQLSTATE of an answer, or its last tag.
fn told(frames: &[Frame]) -> String {
    let of = |frame: &Frame| match frame.tag {
        b'E' => Some(frame.code()),
        b'C' => Some(String::from_utf8_lossy(&frame.body).trim_end_matches('\0').to_owned()),
        _ => None,
    };
    let error = frames.iter().find(|frame| frame.tag == b'E').and_then(of);
    error.or_else(|| frames.iter().filter_map(of).next_back()).unwrap_or_else(|| format!("{frames:?}"))
}

fn insert(id: i64) -> String {
    format!("INSERT INTO t VALUES ({id})")
}

#[test]
fn clients_at_rest_do_not_notice_that_the_primary_was_lost() {
    let mut pair = Pair::new();
    let proxy = Proxy::start(pair.config());
    let mut client = pair.login(&proxy);
    client.query("SET TimeZone = 'Asia/Tokyo'");
    client.query("SET pgring.shard = 's1'");
    client.query("PREPARE of_sql AS SELECT $1::int + 1");
    let prepared = [parse("mine", "SELECT note FROM t WHERE user_id = $1"), sync()].concat();
    client.send(&prepared);
    client.until(b'Z', 1);
    assert_eq!(said(&mut client, "INSERT INTO t VALUES (1, 'kept')"), "INSERT 0 1 I");
    let mut others: Vec<Raw> = (0..40).map(|_| pair.login(&proxy)).collect();
    catch_up(&pair.old, &pair.new);

    pair.old.crash().unwrap();
    // They ask at once: there is no primary, and nobody knows that yet.
    for (id, other) in (100..).zip(&mut others) {
        other.send(&query(&insert(id)));
    }
    client.send(&[bind("", "mine", &["1"]), execute("", 0), sync()].concat());
    std::thread::sleep(Duration::from_millis(700));
    let promoted = Instant::now();
    promote(&pair.new);
    let answer = client.until(b'Z', 1);
    let waited = promoted.elapsed();
    assert_eq!(told(&answer), "SELECT 1", "{answer:?}\n{}", proxy.log());
    let row = answer.iter().find(|frame| frame.tag == b'D').unwrap();
    assert_eq!(row.columns(), ["kept"]);
    assert_eq!(client.value("EXECUTE of_sql(41)"), "42");
    assert_eq!(client.value("SHOW TimeZone"), "Asia/Tokyo");
    assert_eq!(client.value("SHOW pgring.shard"), "s1");
    for other in &mut others {
        assert_eq!(told(&other.until(b'Z', 1)), "INSERT 0 1");
    }
    println!("{waited:?} from the promotion to the first answer");
    // Who comes now is let in, too.
    assert_eq!(pair.login(&proxy).value("SELECT count(*) FROM t"), "41");
    // Nobody was sent to the old one, nor is when it is back.
    pair.old.restart().unwrap();
    eventually("it is refused", || proxy.log().contains("takes writes on timeline 1, but timeline 2"));
    assert_eq!(said(&mut client, &insert(2)), "INSERT 0 1 I");
    assert!(!pair.rows(&pair.old).contains('2'));
}

#[test]
fn a_client_that_comes_while_there_is_no_primary_waits() {
    let mut pair = Pair::new();
    let proxy = Proxy::start(pair.config());
    assert_eq!(pair.login(&proxy).value("SELECT 1"), "1");
    catch_up(&pair.old, &pair.new);
    pair.old.crash().unwrap();
    let (address, name) = (proxy.address(), pair.name.clone());
    let comes = std::thread::spawn(move || {
        let mut raw = Raw::login(&address, APP, &name);
        raw.set_patience(PATIENCE);
        said(&mut raw, &insert(1))
    });
    std::thread::sleep(Duration::from_millis(500));
    promote(&pair.new);
    assert_eq!(comes.join().unwrap(), "INSERT 0 1 I", "{}", proxy.log());
}

/// What was under way is told as it is.
#[test]
fn what_was_in_flight_fails_truthfully() {
    let mut pair = Pair::new();
    let proxy = Proxy::start(pair.config());
    let [mut reads, mut writes, mut commits, mut autocommits, mut open, mut extended, mut pinned] =
        [0; 7].map(|_| pair.login(&proxy));
    // A read that waits. Nobody has looked closely whether it is one: of one shard it is not asked.
    let mut keeper = Raw::login(&pair.old.address(), APP, &pair.name);
    keeper.query("CREATE TABLE kept (n int)");
    keeper.query("BEGIN; LOCK TABLE kept");
    reads.send(&query("SELECT * FROM kept"));
    assert_eq!(said(&mut writes, &format!("BEGIN; {}", insert(1))), "BEGIN INSERT 0 1 T");
    writes.send(&query("SELECT pg_sleep(60)"));
    assert_eq!(said(&mut open, &format!("BEGIN; {}", insert(2))), "BEGIN INSERT 0 1 T");
    extended.send(&[parse("mine", "INSERT INTO t VALUES ($1)"), sync()].concat());
    extended.until(b'Z', 1);
    assert_eq!(said(&mut extended, "BEGIN; SELECT 1"), "BEGIN SELECT 1 T");
    pinned.query("CREATE TEMPORARY TABLE mine (n int)");
    assert_eq!(said(&mut pinned, "BEGIN; SELECT 1"), "BEGIN SELECT 1 T");
    // Nobody will confirm these: they are durable here, and nowhere else.
    catch_up(&pair.old, &pair.new);
    superuser(&pair.old, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    superuser(&pair.old, "SELECT pg_reload_conf()");
    let waits = |count| {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        eventually("it waits for its standby", || superuser(&pair.old, waiting) == count);
    };
    // A session sees the new setting when it next begins.
    eventually("it is set", || superuser(&pair.old, "SHOW synchronous_standby_names") == "nobody");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(said(&mut commits, &format!("BEGIN; {}", insert(3))), "BEGIN INSERT 0 1 T");
    commits.send(&query("COMMIT"));
    autocommits.send(&query(&insert(4)));
    waits("2");

    pair.old.crash().unwrap();
    promote(&pair.new);
    assert!(["08006", "08007"].contains(&told(&reads.until(b'Z', 1)).as_str()));
    assert_eq!(told(&writes.until(b'Z', 1)), "08006");
    for client in [&mut commits, &mut autocommits] {
        let frames = client.until(b'Z', 1);
        assert_eq!(told(&frames), "08007", "{frames:?}");
        assert_eq!(frames.last().unwrap().body, b"I");
    }
    // Between statements of a transaction there is none to fail. The next one does.
    assert_eq!(said(&mut open, "COMMIT"), "08006 E");
    assert_eq!(said(&mut open, &insert(5)), "25P02 E");
    extended.send(&[bind("", "mine", &["6"]), execute("", 0), sync()].concat());
    assert_eq!(told(&extended.until(b'Z', 1)), "08006");
    assert_eq!(said(&mut extended, "COMMIT"), "ROLLBACK I", "as of any failed transaction");
    // What is pinned to its server goes with it.
    let goodbye = pinned.rest();
    assert_eq!(told(&goodbye), "08006", "{goodbye:?}");
    for client in [&mut writes, &mut open] {
        assert_eq!(said(client, "ROLLBACK"), "ROLLBACK I");
    }
    for client in [&mut reads, &mut writes, &mut commits, &mut autocommits, &mut open, &mut extended] {
        assert_eq!(client.value("SELECT 'on'"), "on", "sessions go on");
    }
}

/// It lives on, cut off from its successor, and believes in itself.
#[test]
fn a_primary_that_was_replaced_is_not_written_to_any_more() {
    let pair = Pair::new();
    let proxies = [Proxy::start(pair.config()), Proxy::start(pair.config())];
    let mut inside: Vec<Raw> = proxies.iter().map(|proxy| pair.login(proxy)).collect();
    let mut sleeping = pair.login(&proxies[0]);
    let mut resting = pair.login(&proxies[1]);
    assert_eq!(resting.value("SELECT 1"), "1");
    for (id, client) in (1..).zip(&mut inside) {
        assert_eq!(said(client, &format!("BEGIN; {}", insert(id))), "BEGIN INSERT 0 1 T");
    }
    sleeping.send(&query(&format!("{}; SELECT pg_sleep(60)", insert(3))));
    catch_up(&pair.old, &pair.new);
    promote(&pair.new);
    let lost = sleeping.until(b'Z', 1);
    assert!(["08006", "08007"].contains(&told(&lost).as_str()), "{lost:?}");
    let connected = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", pair.name);
    eventually("nobody is connected to it but who probes it", || {
        superuser(&pair.old, &format!("{connected} AND usename = 'app' AND state <> 'active'")) == "0"
    });
    // Whoever was in a transaction there has not been asked anything since.
    for client in &mut inside {
        assert_eq!(said(client, "COMMIT"), "08006 E");
        assert_eq!(said(client, "ROLLBACK"), "ROLLBACK I");
    }
    assert_eq!(said(&mut resting, &insert(10)), "INSERT 0 1 I");
    assert_eq!(said(&mut sleeping, &insert(11)), "INSERT 0 1 I");
    assert_eq!((pair.rows(&pair.old), pair.rows(&pair.new)), (String::new(), "10 11".to_owned()));
    for proxy in &proxies {
        assert!(proxy.log().contains("is primary no more"), "{}", proxy.log());
    }
}

/// Nor is it asked which tables there are: rows would go by what it does not know.
#[test]
fn a_primary_that_was_replaced_is_not_asked_for_the_schema() {
    let pair = Pair::new();
    let other = own_servers(1).remove(0);
    let name = support::database(&[&pair.old, &other], TABLE);
    catch_up(&pair.old, &pair.new);
    let shards = [vec![pair.old.address(), pair.new.address()], vec![other.address()]];
    let proxy = Proxy::start(watchful().database_at(&name, &shards));
    let mut raw = Raw::login(&proxy.address(), APP, &name);
    raw.set_patience(PATIENCE);
    assert_eq!(said(&mut raw, &insert(1)), "INSERT 0 1 I");
    catch_up(&pair.old, &pair.new);
    promote(&pair.new);
    eventually("it is replaced", || proxy.log().contains("is primary no more"));
    assert_eq!(said(&mut raw, "CREATE TABLE items (user_id bigint)"), "CREATE TABLE I");
    let keys: Vec<String> = (1..=20).map(|key| format!("({key})")).collect();
    assert_eq!(said(&mut raw, &format!("INSERT INTO items VALUES {}", keys.join(", "))), "INSERT 0 20 I");
    let here = |server: &Cluster| -> u32 {
        server.psql(APP, &name, "SELECT count(*) FROM items").unwrap().trim().parse().unwrap()
    };
    let (first, second) = (here(&pair.new), here(&other));
    assert!(first > 0 && second > 0 && first + second == 20, "{first} and {second}");
}

#[test]
fn two_primaries_on_one_timeline_are_both_refused() {
    let servers = own_servers(1);
    let mut twin = own_servers(1).remove(0); // a copy of the same template: one system identifier
    let name = support::database(&[&servers[0], &twin], TABLE);
    twin.stop().unwrap();
    let config = watchful()
        .set("health", "failover_hold", "\"300ms\"")
        .database_at(&name, &[vec![servers[0].address(), twin.address()]]);
    let proxy = Proxy::start(config);
    let [mut inside, mut resting] = [0; 2].map(|_| Raw::login(&proxy.address(), APP, &name));
    assert_eq!(said(&mut resting, &insert(1)), "INSERT 0 1 I");
    assert_eq!(said(&mut inside, &format!("BEGIN; {}", insert(2))), "BEGIN INSERT 0 1 T");
    twin.restart().unwrap();
    let conflict = || proxy.log().contains("2 endpoints take writes on timeline 1");
    eventually_within(PATIENCE, "it is seen", conflict);
    eventually("who is inside is ended", || proxy.log().contains("is primary no more"));
    assert_eq!(said(&mut inside, "COMMIT"), "08006 E", "a write is not accepted by one of two");
    let frames = resting.query(&insert(3));
    assert_eq!(told(&frames), "57P03", "{frames:?}");
    twin.stop().unwrap();
    eventually("the one that is left is primary", || said(&mut resting, &insert(4)) == "INSERT 0 1 I");
    assert_eq!(superuser(&servers[0], "SELECT 1"), "1");
}

/// Clients that write one row after the other, until they are told to end: every error they got, what
/// was acknowledged, and the longest they waited.
struct Writers {
    ends: AtomicBool,
    next: AtomicU64,
    acknowledged: Mutex<Vec<u64>>,
    errors: Mutex<Vec<String>>,
    longest: Mutex<Duration>,
}

impl Writers {
    fn new() -> Writers {
        Writers {
            ends: AtomicBool::new(false),
            next: AtomicU64::new(1),
            acknowledged: Mutex::default(),
            errors: Mutex::default(),
            longest: Mutex::default(),
        }
    }

    /// `key` makes a key of a number: the shard's, if there are several.
    fn write(&self, address: &str, name: &str, key: impl Fn(u64) -> u64) {
        let mut raw = Raw::login(address, APP, name);
        raw.set_patience(PATIENCE);
        while !self.ends.load(Ordering::SeqCst) {
            let id = key(self.next.fetch_add(1, Ordering::SeqCst));
            let began = Instant::now();
            let answers = if id.is_multiple_of(2) {
                vec![raw.query(&insert(i64::try_from(id).unwrap()))]
            } else {
                ["BEGIN".to_owned(), insert(i64::try_from(id).unwrap()), "COMMIT".to_owned()]
                    .map(|sql| raw.query(&sql))
                    .into()
            };
            let mut longest = self.longest.lock().unwrap();
            *longest = longest.max(began.elapsed());
            drop(longest);
            match answers.iter().flatten().find(|frame| frame.tag == b'E') {
                Some(error) => self.errors.lock().unwrap().push(format!("{error:?}")),
                None => self.acknowledged.lock().unwrap().push(id),
            }
        }
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }
}

/// `PAUSE`, promote, `RESUME`: nothing is lost, and nobody hears of it.
#[test]
fn a_planned_switchover_is_not_noticed() {
    let mut pair = Pair::new();
    let proxies = [Proxy::start(pair.config()), Proxy::start(pair.config())];
    let writers = Writers::new();
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (address, name, writers) = (proxies[client % 2].address(), &pair.name.clone(), &writers);
            let name = name.clone();
            scope.spawn(move || writers.write(&address, &name, |id| id));
        }
        let mut consoles: Vec<Raw> =
            proxies.iter().map(|proxy| Raw::login(&proxy.address(), APP, "pgring")).collect();
        eventually_within(PATIENCE, "they write", || writers.acknowledged() > 200);
        let both = |consoles: &mut Vec<Raw>, command: &str| {
            consoles.iter_mut().for_each(|console| console.send(&query(command)));
            for console in consoles {
                let frames = console.until(b'Z', 1);
                assert!(frames.iter().all(|frame| frame.tag != b'E'), "{command}: {frames:?}");
            }
        };
        both(&mut consoles, &format!("PAUSE {} s1", pair.name));
        catch_up(&pair.old, &pair.new);
        pair.old.stop().unwrap();
        promote(&pair.new);
        both(&mut consoles, &format!("RESUME {} s1", pair.name));
        let before = writers.acknowledged();
        eventually_within(PATIENCE, "they go on", || writers.acknowledged() > before + 200);
        writers.ends.store(true, Ordering::SeqCst);
    });
    let errors = writers.errors.lock().unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    let longest = *writers.longest.lock().unwrap();
    println!("{longest:?} was the longest wait of {} writes", writers.acknowledged());
    // Half a second where there is nothing else to do.
    assert!(longest < Duration::from_secs(20), "{longest:?}");
    let mut acknowledged = writers.acknowledged.lock().unwrap().clone();
    acknowledged.sort_unstable();
    let expect: Vec<String> = acknowledged.iter().map(u64::to_string).collect();
    assert_eq!(pair.rows(&pair.new), expect.join(" "), "acknowledged and there, once");
}

/// The old primary is still up, and no probe has been made since the pause began: `RESUME` makes one.
#[test]
fn after_a_pause_the_primary_is_the_one_there_is_then() {
    let pair = Pair::new();
    let config = pair.config().set("health", "interval", "\"1h\"");
    let proxy = Proxy::start(config);
    let mut client = pair.login(&proxy);
    assert_eq!(said(&mut client, &insert(1)), "INSERT 0 1 I");
    let mut console = Raw::login(&proxy.address(), APP, "pgring");
    assert_eq!(said(&mut console, &format!("PAUSE {}", pair.name)), "PAUSE I");
    catch_up(&pair.old, &pair.new);
    promote(&pair.new);
    client.send(&query(&insert(2)));
    assert_eq!(said(&mut console, &format!("RESUME {}", pair.name)), "RESUME I");
    assert_eq!(told(&client.until(b'Z', 1)), "INSERT 0 1");
    assert_eq!((pair.rows(&pair.old), pair.rows(&pair.new)), ("1".to_owned(), "1 2".to_owned()));
}

/// The old primary's machine is switched off, and answers neither yes nor no.
#[test]
fn a_resume_does_not_wait_for_what_was_replaced() {
    let pair = Pair::new();
    let config = pair.config().set("health", "interval", "\"1h\"").set("health", "timeout", "\"40s\"");
    let proxy = Proxy::start(config);
    let mut client = pair.login(&proxy);
    let mut console = Raw::login(&proxy.address(), APP, "pgring");
    console.set_patience(PATIENCE);
    assert_eq!(said(&mut client, &insert(1)), "INSERT 0 1 I");
    assert_eq!(said(&mut console, &format!("PAUSE {}", pair.name)), "PAUSE I");
    catch_up(&pair.old, &pair.new);
    promote(&pair.new);
    let _stopped = Stopped::all_of(&pair.old);
    let began = Instant::now();
    assert_eq!(said(&mut console, &format!("RESUME {}", pair.name)), "RESUME I");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(said(&mut client, &insert(2)), "INSERT 0 1 I");
    assert_eq!(pair.rows(&pair.new), "1 2");
}

/// One shard's pause is nobody else's.
#[test]
fn a_shard_is_paused_alone() {
    let servers = support::servers(2);
    let name = support::database(&servers, TABLE);
    let proxy = Proxy::start(watchful().database(&name, &servers));
    let [mut one, mut other, mut console] =
        [&name, &name, "pgring"].map(|name| Raw::login(&proxy.address(), APP, name));
    let hint = |shard: u8| format!("/* pgring: shard=s{shard} */ SELECT 'from {shard}'");
    assert_eq!(one.value(&hint(1)), "from 1");
    assert_eq!(other.value(&hint(2)), "from 2");
    for wrong in [format!("PAUSE {name} s3"), "PAUSE nowhere s1".to_owned()] {
        assert!(console.query(&wrong).iter().any(|frame| frame.tag == b'E'), "{wrong}");
    }
    assert_eq!(told(&console.query(&format!("RESUME {name} s2"))), "55000");
    assert_eq!(said(&mut console, &format!("PAUSE {name} s2")), "PAUSE I");
    other.send(&query(&hint(2)));
    assert_eq!(one.value(&hint(1)), "from 1");
    // Who comes is let in by the shard that is not paused.
    assert_eq!(Raw::login(&proxy.address(), APP, &name).value(&hint(1)), "from 1");
    // A RESUME of another extent is none of it.
    assert_eq!(told(&console.query(&format!("RESUME {name}"))), "55000");
    let mut third = Raw::login(&proxy.address(), APP, &name);
    third.send(&query("SELECT count(*) FROM t"));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(said(&mut console, &format!("RESUME {name} s2")), "RESUME I");
    assert_eq!(told(&other.until(b'Z', 1)), "SELECT 1");
    assert_eq!(told(&third.until(b'Z', 1)), "SELECT 1");
}

/// What is prepared on the old primary is prepared on the new one, and is finished there.
#[test]
fn a_transaction_in_doubt_is_finished_on_the_new_primary() {
    std::thread::scope(|scope| {
        // Which shard's primary is lost: the decider's (the first writer's), or the participant's.
        for (lost, step, expect) in
            [(0, "commit:after", [70, 130]), (1, "commit:after", [70, 130]), (1, "prepare:after", [100, 100])]
        {
            scope.spawn(move || {
                let mut servers = own_servers(2);
                let bank = Bank::open(&servers.iter().collect::<Vec<_>>());
                let (name, keys) = (bank.name.clone(), bank.keys);
                let replica = replica(&servers[lost]);
                let mut endpoints: Vec<Vec<String>> =
                    servers.iter().map(|server| vec![server.address()]).collect();
                endpoints[lost].push(replica.address());
                let config = || watchful().database_at(&name, &endpoints);
                let proxy = Proxy::start_to_fail(config(), &format!("{step}:kill"));
                let mut raw = Raw::login(&proxy.address(), APP, &name);
                bank.begin_transfer(&mut raw, 30);
                raw.send(&query("COMMIT"));
                raw.rest();
                assert_eq!(bank.prepared(), 1, "{step}");
                catch_up(&servers[lost], &replica);
                servers[lost].crash().unwrap();
                promote(&replica);
                let _other = Proxy::start(config());
                let now = [0, 1].map(|shard| if shard == lost { &replica } else { &servers[shard] });
                let bank = Bank { servers: now.to_vec(), name: name.clone(), keys };
                eventually_within(PATIENCE, "nothing is in doubt", || bank.prepared() == 0);
                assert_eq!(bank.balances(), expect, "{step}, shard {lost}");
            });
        }
    });
}

/// A decider that was replaced but lives on has not decided what its successor has: it is not asked.
#[test]
fn a_decider_that_was_replaced_is_not_asked() {
    let servers = own_servers(2);
    let bank = Bank::open(&servers.iter().collect::<Vec<_>>());
    let replica = replica(&servers[0]);
    let endpoints = [vec![servers[0].address(), replica.address()], vec![servers[1].address()]];
    let config = || watchful().database_at(&bank.name, &endpoints);
    // One that recovers, and has its connections to all of them already.
    let other = Proxy::start(config());
    let proxy = Proxy::start_to_fail(config(), "prepare:after:stop");
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    raw.set_patience(PATIENCE);
    bank.begin_transfer(&mut raw, 30);
    raw.send(&query("COMMIT"));
    eventually_within(PATIENCE, "it is prepared", || bank.prepared() == 1);
    catch_up(&servers[0], &replica);
    promote(&replica);
    // The decider's transaction was open on the old primary, so it is not on the new one.
    let now = Bank { servers: vec![&replica, &servers[1]], name: bank.name.clone(), keys: bank.keys };
    eventually_within(PATIENCE, "nothing is in doubt", || now.prepared() == 0);
    assert_eq!(now.balances(), [100, 100]);
    let aborts = "SELECT count(*) FROM pgring.decision WHERE verdict = 'abort'";
    assert_eq!((bank.rows(0, aborts).as_str(), now.rows(0, aborts).as_str()), ("0", "1"), "{}", other.log());
}

/// A server that has been told to take no writes says so, and that is heard.
#[test]
fn a_refused_write_has_the_server_looked_at() {
    let servers = own_servers(1);
    let name = support::database(&[&servers[0]], TABLE);
    let config = Config::new()
        .set("health", "interval", "\"1h\"")
        .set("health", "failover_hold", "\"100ms\"")
        .database(&name, &[&servers[0]]);
    let proxy = Proxy::start(config);
    let mut client = Raw::login(&proxy.address(), APP, &name);
    assert_eq!(said(&mut client, &insert(1)), "INSERT 0 1 I");
    superuser(&servers[0], "ALTER SYSTEM SET default_transaction_read_only = on");
    superuser(&servers[0], "SELECT pg_reload_conf()");
    eventually("it refuses", || told(&client.query(&insert(2))) == "25006");
    eventually("it is no primary", || told(&client.query("SELECT 1")) == "57P03");
}

/// Patroni is heard, though not believed: it says who leads long before the next probe.
#[test]
fn a_rumour_has_the_servers_looked_at() {
    let pair = Pair::new();
    let patroni = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = patroni.local_addr().unwrap();
    let leads = Arc::new(Mutex::new("old".to_owned()));
    let tells = Arc::clone(&leads);
    std::thread::spawn(move || {
        for stream in patroni.incoming() {
            let mut stream = stream.unwrap();
            // Whatever it asks for.
            let _ = stream.read(&mut [0; 1024]);
            let leader = tells.lock().unwrap().clone();
            let body = format!(
                "{{\"members\": [{{\"name\": \"{leader}\", \"role\": \"leader\", \"host\": \"h\", \"port\": 1}}]}}"
            );
            let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}");
        }
    });
    let config = pair.config().set("health", "interval", "\"8s\"").replace(
        "tls = \"disable\"",
        &format!("tls = \"disable\"\npatroni = [\"http://127.0.0.1:1\", \"http://{address}\"]"),
    );
    let proxy = Proxy::start(config);
    let mut client = pair.login(&proxy);
    assert_eq!(said(&mut client, &insert(1)), "INSERT 0 1 I");
    // It lies: the servers know better.
    let sees = |leader: &str| proxy.log().contains(&format!("by Patroni its leader is now {leader}"));
    *leads.lock().unwrap() = "liar".to_owned();
    eventually("it is heard", || sees("liar"));
    assert_eq!(said(&mut client, &insert(2)), "INSERT 0 1 I");
    assert_eq!(pair.rows(&pair.old), "1 2");
    catch_up(&pair.old, &pair.new);
    promote(&pair.new);
    *leads.lock().unwrap() = "new".to_owned();
    eventually("it is heard", || sees("new"));
    eventually_within(Duration::from_secs(4), "it is followed", || {
        proxy.log().contains(&format!("shard s1 has its primary: {}", pair.new.address()))
    });
    assert_eq!(said(&mut client, &insert(3)), "INSERT 0 1 I");
}

/// A port behind which another server can be put; connections that there are stay where they are.
struct Address {
    port: u16,
    target: Arc<Mutex<String>>,
}

impl Address {
    fn of(server: &Cluster) -> Address {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(Mutex::new(server.address()));
        let now = Arc::clone(&target);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (mut near, mut far) = (near.unwrap(), TcpStream::connect(&*now.lock().unwrap()).unwrap());
                let (mut back, mut forth) = (far.try_clone().unwrap(), near.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut near, &mut far);
                    let _ = far.shutdown(Shutdown::Both);
                });
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut back, &mut forth);
                    let _ = forth.shutdown(Shutdown::Both);
                });
            }
        });
        Address { port, target }
    }
}

/// One address for whoever is primary, and an old primary that nobody has told.
#[test]
fn an_address_that_moves_is_followed() {
    let pair = Pair::new();
    let address = Address::of(&pair.old);
    let proxy =
        Proxy::start(watchful().database_at(&pair.name, &[vec![format!("127.0.0.1:{}", address.port)]]));
    let [mut inside, mut resting] = [0; 2].map(|_| pair.login(&proxy));
    assert_eq!(said(&mut resting, &insert(1)), "INSERT 0 1 I");
    assert_eq!(said(&mut inside, &format!("BEGIN; {}", insert(2))), "BEGIN INSERT 0 1 T");
    catch_up(&pair.old, &pair.new);
    promote(&pair.new);
    *address.target.lock().unwrap() = pair.new.address();
    eventually("who is inside is ended", || proxy.log().contains("is primary no more"));
    assert_eq!(said(&mut inside, "COMMIT"), "08006 E");
    assert_eq!(said(&mut resting, &insert(3)), "INSERT 0 1 I");
    assert_eq!((pair.rows(&pair.old), pair.rows(&pair.new)), ("1".to_owned(), "1 3".to_owned()));
}

/// Processes that stand still until this is dropped.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn all_of(server: &Cluster) -> Stopped {
        let postmaster = server.pid().unwrap();
        let mut pids = vec![postmaster];
        kill(postmaster, Signal::SIGSTOP).unwrap();
        let listed = std::process::Command::new("ps").args(["-axo", "pid=,ppid="]).output().unwrap();
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            let Some((pid, parent)) = line.trim().split_once(' ') else { continue };
            if parent.trim().parse() == Ok(postmaster.as_raw()) {
                pids.push(Pid::from_raw(pid.parse().unwrap()));
            }
        }
        for pid in &pids {
            // It may have ended by itself.
            let _ = kill(*pid, Signal::SIGSTOP);
        }
        Stopped(pids)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGCONT);
        }
    }
}

/// It answers nobody, and is not gone either.
#[test]
fn a_primary_that_hangs_is_left_for_its_successor() {
    let pair = Pair::new();
    let proxy = Proxy::start(pair.config().set("pool", "size", "2"));
    let mut clients: Vec<Raw> = (0..6).map(|_| pair.login(&proxy)).collect();
    assert_eq!(said(&mut clients[0], &insert(1)), "INSERT 0 1 I");
    catch_up(&pair.old, &pair.new);
    let stopped = Stopped::all_of(&pair.old);
    // Two take what connections there are; the others wait for one.
    for (id, client) in (10..).zip(&mut clients) {
        client.send(&query(&insert(id)));
    }
    std::thread::sleep(Duration::from_secs(1));
    promote(&pair.new);
    let mut answers: Vec<String> = clients.iter_mut().map(|client| told(&client.until(b'Z', 1))).collect();
    answers.sort_unstable();
    let lost = answers.iter().filter(|answer| *answer == "08007").count();
    assert!(lost <= 2 && answers.iter().all(|a| a == "08007" || a == "INSERT 0 1"), "{answers:?}");
    drop(stopped);
    assert_eq!(said(&mut clients[0], &insert(99)), "INSERT 0 1 I");
}

/// So is a replica: whoever waits for it goes on with the primary, once it is known to be down.
#[test]
fn a_replica_that_hangs_is_left_to_those_who_ask_it() {
    let pair = Pair::new();
    let proxy =
        Proxy::start(pair.config().set("pool", "size", "2").set("routing", "reads", "\"prefer-replica\""));
    let mut clients: Vec<Raw> = (0..6).map(|_| pair.login(&proxy)).collect();
    let read = "SELECT current_setting('port')";
    let replica = pair.new.port().to_string();
    eventually("reads are on the replica", || clients[0].value(read) == replica);
    let stopped = Stopped::all_of(&pair.new);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for mut client in clients {
            let tell = tell.clone();
            scope.spawn(move || tell.send(client.value(read)).unwrap());
        }
        // Two have what connections there are.
        let primary = pair.old.port().to_string();
        for _ in 0..4 {
            assert_eq!(told.recv_timeout(PATIENCE).as_ref(), Ok(&primary));
        }
        drop(stopped);
        for _ in 0..2 {
            assert!(told.recv_timeout(PATIENCE).is_ok());
        }
    });
}

/// A shard that does not answer costs its own clients time, and nobody else.
#[test]
fn a_slow_shard_starves_no_other() {
    let servers = own_servers(2);
    let name = support::database(&servers.iter().collect::<Vec<_>>(), TABLE);
    let config = watchful()
        .set("pool", "size", "2")
        .set("pool", "checkout_timeout", "\"500ms\"")
        .set("health", "failover_hold", "\"1s\"")
        .database(&name, &servers.iter().collect::<Vec<_>>());
    let proxy = Proxy::start(config);
    let on = |shard: u8| format!("/* pgring: shard=s{shard} */ SELECT 'from {shard}'");
    let mut quick = Raw::login(&proxy.address(), APP, &name);
    let mut slow: Vec<Raw> = (0..20).map(|_| Raw::login(&proxy.address(), APP, &name)).collect();
    assert_eq!(quick.value(&on(1)), "from 1");
    for client in &mut slow[..2] {
        client.query("BEGIN");
        assert_eq!(client.value(&on(2)), "from 2");
    }
    let _stopped = Stopped::all_of(&servers[1]);
    for client in &mut slow {
        client.send(&query(&on(2)));
    }
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    let mut asked = 0;
    while began.elapsed() < Duration::from_secs(3) {
        let one = Instant::now();
        assert_eq!(quick.value(&on(1)), "from 1");
        longest = longest.max(one.elapsed());
        asked += 1;
    }
    println!("{asked} answers beside it, the slowest after {longest:?}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    let frames = slow[10].until(b'Z', 1);
    assert!(["53300", "57P03"].contains(&told(&frames).as_str()), "{frames:?}");
    let error = frames.iter().find(|frame| frame.tag == b'E').unwrap().field(b'M').unwrap();
    assert!(error.contains("s2"), "which pool: {error}");
}

/// A port before a server whose clients' logins are counted, and let in or not. What pgring asks for
/// itself is let in always.
struct Door {
    port: u16,
    rules: Arc<Rules>,
}

#[derive(Default)]
struct Rules {
    /// Logins are hung up on.
    refuses: AtomicBool,
    /// Logins get no answer, for now.
    holds: AtomicBool,
    logins: Mutex<Logins>,
    streams: Mutex<Vec<TcpStream>>,
}

#[derive(Default)]
struct Logins {
    begun: usize,
    let_in: usize,
    under_way: usize,
    /// When one more began: how many had been let in, and how many were under way.
    seen: Vec<(usize, usize)>,
}

/// A login takes so long.
const LOGIN: Duration = Duration::from_millis(100);

impl Door {
    fn of(server: &Cluster) -> Door {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (rules, target) = (Arc::<Rules>::default(), server.address());
        let known = Arc::clone(&rules);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (near, known, target) = (near.unwrap(), Arc::clone(&known), target.clone());
                // What fails does so because one of the two is gone.
                std::thread::spawn(move || known.meet(near, &target).ok());
            }
        });
        Door { port, rules }
    }
}

impl Rules {
    fn meet(&self, mut near: TcpStream, target: &str) -> std::io::Result<()> {
        let mut length = [0; 4];
        near.read_exact(&mut length)?;
        let mut startup = vec![0; u32::from_be_bytes(length) as usize - length.len()];
        near.read_exact(&mut startup)?;
        if startup.windows(9).any(|at| at == b"user\0app\0") {
            {
                let mut logins = self.logins.lock().unwrap();
                logins.begun += 1;
                logins.under_way += 1;
                let now = (logins.let_in, logins.under_way);
                logins.seen.push(now);
            }
            let refused = self.refuses.load(Ordering::SeqCst);
            while !refused && self.holds.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(10));
            }
            if !refused {
                std::thread::sleep(LOGIN);
            }
            let mut logins = self.logins.lock().unwrap();
            logins.under_way -= 1;
            if refused {
                return Ok(());
            }
            logins.let_in += 1;
            self.streams.lock().unwrap().push(near.try_clone()?);
        }
        let mut far = TcpStream::connect(target)?;
        far.write_all(&[&length[..], &startup].concat())?;
        let (mut back, mut forth) = (far.try_clone()?, near.try_clone()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut back, &mut forth);
            let _ = forth.shutdown(Shutdown::Both);
        });
        let copied = std::io::copy(&mut near, &mut far);
        far.shutdown(Shutdown::Both)?;
        copied.map(drop)
    }

    fn begin_anew(&self) {
        let mut logins = self.logins.lock().unwrap();
        *logins = Logins { under_way: logins.under_way, ..Logins::default() };
    }
}

/// Forty clients want a connection each: while it cannot be had few attempts are made, then one, and
/// then not many more at a time than have succeeded.
#[test]
fn a_server_that_returns_is_not_stormed() {
    let servers = support::servers(1);
    let name = support::database(&servers, TABLE);
    let door = Door::of(servers[0]);
    let rules = &door.rules;
    let config = watchful()
        .set("pool", "size", "50")
        .set("health", "failover_hold", "\"60s\"")
        .database_at(&name, &[vec![format!("127.0.0.1:{}", door.port)]]);
    let proxy = Proxy::start(config);
    let mut clients: Vec<Raw> = (0..40).map(|_| Raw::login(&proxy.address(), APP, &name)).collect();
    assert_eq!(clients[0].value("SELECT 1"), "1");

    rules.refuses.store(true, Ordering::SeqCst);
    rules.begin_anew();
    for stream in rules.streams.lock().unwrap().drain(..) {
        // It may have been closed already.
        let _ = stream.shutdown(Shutdown::Both);
    }
    for (id, client) in (0..).zip(&mut clients) {
        client.set_patience(PATIENCE);
        client.send(&query(&format!("BEGIN; {}; SELECT pg_sleep(0.3); COMMIT", insert(id))));
    }
    std::thread::sleep(Duration::from_secs(2));
    let tried = rules.logins.lock().unwrap().begun;
    assert!((2..=20).contains(&tried), "{tried} attempts while the server was away");

    // It is there again, and does not get on.
    rules.holds.store(true, Ordering::SeqCst);
    eventually("none is refused any more", || rules.logins.lock().unwrap().under_way == 0);
    rules.begin_anew();
    rules.refuses.store(false, Ordering::SeqCst);
    eventually("it is tried", || rules.logins.lock().unwrap().begun > 0);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(rules.logins.lock().unwrap().begun, 1, "one finds out whether it is back");
    rules.holds.store(false, Ordering::SeqCst);
    for client in &mut clients {
        assert_eq!(told(&client.until(b'Z', 1)), "COMMIT", "{}", proxy.log());
    }
    let logins = rules.logins.lock().unwrap();
    for (let_in, under_way) in &logins.seen {
        let most = 1 << (*let_in).min(20);
        assert!(*under_way <= most, "{under_way} logins at a time after {let_in}: {:?}", logins.seen);
    }
    println!("{tried} attempts while it was away, then {:?}", logins.seen);
    assert!(logins.let_in > 4, "they need more than a few: {:?}", logins.seen);
}
