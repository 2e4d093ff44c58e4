//! A bank on three shards, behind two proxies, while everything dies: no money comes or goes, what was
//! acknowledged is whole, what was refused is nowhere.
//!
//! Proxies are killed, stopped for longer than the grace period, or end themselves at a step of a commit;
//! PostgreSQL servers are killed and started again. `PGRING_SEED` repeats what is left to chance,
//! `PGRING_SECONDS` makes it longer.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pgring::demo::cluster::{Cluster, SUPERUSER};
use pgring::demo::sample::{self, APP};
use pgring::ring::ShardId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::raw::{Raw, query};
use crate::support::{self, Config, Proxy, eventually_within};

const CLIENTS: u64 = 6;
/// Of each shard.
const ACCOUNTS: usize = 20;
const BALANCE: i64 = 1000;
/// A statement that hangs for longer has lost what it waits for.
const PATIENCE: Duration = Duration::from_secs(60);
/// After everything runs again: a grace period, a decider that is ended, a slow machine.
const HEALED: Duration = Duration::from_secs(60);

const TABLES: &str = "CREATE TABLE accounts (user_id bigint PRIMARY KEY, balance bigint NOT NULL);
                      CREATE TABLE transfers (user_id bigint NOT NULL, id bigint NOT NULL, amount bigint NOT NULL)";

/// Where a proxy may end itself.
const FAIL_POINTS: [&str; 10] = [
    "prepare:before:kill",
    "prepare:sent:kill",
    "prepare:after:kill",
    "commit:before:kill",
    "commit:sent:kill",
    "commit:after:kill",
    "commit-prepared:sent:kill",
    "commit-prepared:after:kill",
    "rollback:before:kill",
    "rollback-prepared:sent:kill",
];

/// What a client knows of a transfer.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Told {
    Committed,
    Refused,
    Unknown,
}

struct World<'w> {
    database: &'w str,
    accounts: &'w [i64],
    addresses: [String; 2],
    told: Mutex<BTreeMap<u64, Told>>,
    next: AtomicU64,
    over: AtomicBool,
}

#[test]
fn no_money_comes_or_goes() {
    let seconds = number("PGRING_SECONDS").unwrap_or(25);
    let seed = number("PGRING_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("PGRING_SEED={seed}");
    let mut servers = support::own_servers(3);
    let shards: Vec<&Cluster> = servers.iter().collect();
    let database = support::database(&shards, TABLES);
    let topology = support::topology(shards.len());
    let mut accounts = Vec::new();
    for (shard, server) in (0..).zip(&shards) {
        let keys = sample::owned_users(&topology, ShardId(shard));
        for key in &keys[..ACCOUNTS] {
            accounts.push(*key);
            server.psql(APP, &database, &format!("INSERT INTO accounts VALUES ({key}, {BALANCE})")).unwrap();
        }
    }
    let configs = [Config::new(), Config::new()]
        .map(|config| config.database(&database, &shards).set("routing", "deadlock_timeout", "\"500ms\""));
    let mut proxies = configs.each_ref().map(|config| Some(Proxy::start(config.clone())));
    let world = World {
        database: &database,
        accounts: &accounts,
        addresses: configs.each_ref().map(|config| format!("127.0.0.1:{}", config.port)),
        told: Mutex::default(),
        next: AtomicU64::new(1),
        over: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let world = &world;
            scope.spawn(move || be_a_client(world, StdRng::seed_from_u64(seed * 100 + client)));
        }
        let mut chance = StdRng::seed_from_u64(seed);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            std::thread::sleep(Duration::from_millis(chance.random_range(200..1500)));
            let at = chance.random_range(0..2);
            match chance.random_range(0..10) {
                0..5 => {
                    // Killed first: the next one finds no sockets to share.
                    proxies[at] = None;
                    proxies[at] = Some(start(&configs[at], &mut chance));
                }
                5..9 => {
                    let server = &mut servers[chance.random_range(0..3)];
                    server.crash().unwrap();
                    std::thread::sleep(Duration::from_millis(chance.random_range(0..1500)));
                    server.restart().unwrap();
                }
                _ => {
                    for signal in [Signal::SIGSTOP, Signal::SIGCONT] {
                        if let Some(proxy) = &mut proxies[at] {
                            proxy.signal(signal);
                        }
                        std::thread::sleep(Duration::from_secs(if signal == Signal::SIGSTOP {
                            7
                        } else {
                            0
                        }));
                    }
                }
            }
        }
        // Those that have ended themselves are needed again.
        for (proxy, config) in proxies.iter_mut().zip(&configs) {
            *proxy = None;
            *proxy = Some(Proxy::spawn(config.clone(), &[]));
        }
        std::thread::sleep(Duration::from_secs(3));
        world.over.store(true, Ordering::SeqCst);
    });
    settle(&servers, &database);
    check(&world, &servers);
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// A proxy that may be going to end itself.
fn start(config: &Config, chance: &mut StdRng) -> Proxy {
    let point = FAIL_POINTS[chance.random_range(0..FAIL_POINTS.len())];
    let environment = [("PGRING_FAIL_POINT", point)];
    Proxy::spawn(config.clone(), if chance.random_bool(0.6) { &environment } else { &[] })
}

fn be_a_client(world: &World<'_>, mut chance: StdRng) {
    let mut raw = None;
    while !world.over.load(Ordering::SeqCst) {
        let Some(connected) = raw.as_mut() else {
            raw = connect(world, chance.random_range(0..2));
            continue;
        };
        let id = world.next.fetch_add(1, Ordering::SeqCst);
        let (told, lives) = transfer(world, connected, id, &mut chance);
        world.told.lock().unwrap().insert(id, told);
        if !lives {
            raw = None;
        }
    }
}

fn connect(world: &World<'_>, at: usize) -> Option<Raw> {
    let address = &world.addresses[at];
    let stream = TcpStream::connect(address);
    if stream.is_err() {
        // Nobody there: it is being started, by the one who plays fate.
        std::thread::sleep(Duration::from_millis(100));
        return None;
    }
    drop(stream);
    std::panic::catch_unwind(|| {
        let mut raw = Raw::tcp(address);
        raw.set_patience(PATIENCE);
        let frames = raw.start_up(APP, world.database, crate::support::raw::V3_0, &[]);
        frames.last().is_some_and(|frame| frame.tag == b'Z').then_some(raw)
    })
    .ok()
    .flatten()
}

/// One transfer; and whether the connection is still of use.
fn transfer(world: &World<'_>, raw: &mut Raw, id: u64, chance: &mut StdRng) -> (Told, bool) {
    let mut account = || world.accounts[chance.random_range(0..world.accounts.len())];
    let (from, to) = (account(), account());
    let amount = chance.random_range(1..50);
    let steps = [
        "BEGIN".to_owned(),
        format!("UPDATE accounts SET balance = balance - {amount} WHERE user_id = {from}"),
        format!("INSERT INTO transfers VALUES ({from}, {id}, -{amount})"),
        format!("UPDATE accounts SET balance = balance + {amount} WHERE user_id = {to}"),
        format!("INSERT INTO transfers VALUES ({to}, {id}, {amount})"),
    ];
    for step in &steps {
        match run(raw, step) {
            Answer::Done(_) => {}
            Answer::Error(_) => {
                let lives = matches!(run(raw, "ROLLBACK"), Answer::Done(_));
                return (Told::Refused, lives);
            }
            Answer::Gone => return (Told::Refused, false),
        }
    }
    match run(raw, "COMMIT") {
        Answer::Done(tag) if tag == "COMMIT" => (Told::Committed, true),
        Answer::Done(_) => (Told::Refused, true),
        Answer::Error(code) if code == "08007" => (Told::Unknown, true),
        Answer::Error(_) => (Told::Refused, true),
        Answer::Gone => (Told::Unknown, false),
    }
}

enum Answer {
    /// With this tag.
    Done(String),
    /// With this SQLSTATE.
    Error(String),
    /// There is nobody any more.
    Gone,
}

fn run(raw: &mut Raw, sql: &str) -> Answer {
    if raw.try_send(&query(sql)).is_err() {
        return Answer::Gone;
    }
    let frames = raw.until(b'Z', 1);
    if frames.last().is_none_or(|frame| frame.tag != b'Z') {
        return Answer::Gone;
    }
    if let Some(error) = frames.iter().find(|frame| frame.tag == b'E') {
        return Answer::Error(error.code());
    }
    let tag = frames.iter().find(|frame| frame.tag == b'C').map(|frame| frame.body.clone());
    Answer::Done(String::from_utf8_lossy(&tag.unwrap_or_default()).trim_end_matches('\0').to_owned())
}

fn settle(servers: &[Cluster], database: &str) {
    eventually_within(HEALED, "nothing is in doubt", || {
        let count = "SELECT count(*) FROM pg_prepared_xacts";
        servers.iter().all(|server| server.psql(SUPERUSER, database, count).unwrap().trim() == "0")
    });
}

fn check(world: &World<'_>, servers: &[Cluster]) {
    let on_all = |sql: &str| -> Vec<String> {
        let lines = servers.iter().map(|server| server.psql(SUPERUSER, world.database, sql).unwrap());
        lines.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let total: i64 =
        on_all("SELECT sum(balance) FROM accounts").iter().map(|sum| sum.parse::<i64>().unwrap()).sum();
    let mut rows: BTreeMap<u64, (usize, i64)> = BTreeMap::new();
    for line in on_all("SELECT id || ' ' || amount FROM transfers") {
        let (id, amount) = line.split_once(' ').unwrap();
        let row = rows.entry(id.parse().unwrap()).or_default();
        *row = (row.0 + 1, row.1 + amount.parse::<i64>().unwrap());
    }
    let told = world.told.lock().unwrap();
    let count = |wanted: Told| told.values().filter(|told| **told == wanted).count();
    println!(
        "{} committed, {} refused, {} unknown",
        count(Told::Committed),
        count(Told::Refused),
        count(Told::Unknown)
    );
    for (id, told) in told.iter() {
        let found = rows.get(id).copied().unwrap_or_default();
        let right = match told {
            Told::Committed => found == (2, 0),
            Told::Refused => found == (0, 0),
            Told::Unknown => found == (2, 0) || found == (0, 0),
        };
        assert!(right, "transfer {id} was told {told:?}, and is {found:?}");
    }
    assert_eq!(total, BALANCE * i64::try_from(world.accounts.len()).unwrap());
    assert!(count(Told::Committed) > 0, "nothing went through at all");
}
