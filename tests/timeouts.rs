//! Every time limit of the configuration: that it holds, and that whoever it hits is told its name.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgring::demo::cluster::Cluster;
use pgring::demo::sample::APP;

use support::raw::{self, Frame, Raw};
use support::{Config, Proxy, eventually};

/// Long enough to be told from nothing, short enough to wait for.
const SHORT: &str = "\"400ms\"";

fn start(section: &str, key: &str, value: &str) -> (Proxy, String) {
    start_with(Config::new().set(section, key, value))
}

fn start_with(config: Config) -> (Proxy, String) {
    let servers = support::servers(1);
    let name = support::database(&servers, "CREATE TABLE t (n int)");
    (Proxy::start(config.database(&name, &servers)), name)
}

fn login(proxy: &Proxy, name: &str) -> Raw {
    Raw::login(&proxy.address(), APP, name)
}

/// SQLSTATE, message and detail of the error among these.
#[track_caller]
fn told(frames: &[Frame]) -> String {
    let error = frames.iter().find(|frame| frame.tag == b'E').unwrap_or_else(|| panic!("{frames:?}"));
    [b'C', b'M', b'D'].iter().filter_map(|field| error.field(*field)).collect::<Vec<_>>().join(" ")
}

/// Statements in both protocols.
fn both(sql: &str) -> [Vec<u8>; 2] {
    [raw::query(sql), [raw::run(sql, &[]), raw::sync()].concat()]
}

#[test]
fn login_timeout() {
    let (proxy, name) = start("listen", "login_timeout", SHORT);
    // Each of them stops half-way.
    let startup = raw::startup(raw::V3_0, &[("user", APP.name), ("database", &name)]);
    let half_a_password = [&startup[..], b"p\0\0"].concat();
    for (sent, heard) in [(&startup, true), (&half_a_password, true), (&startup[..9].to_vec(), false)] {
        let mut raw = Raw::tcp(&proxy.address());
        raw.send(sent);
        let began = Instant::now();
        let frames = raw.rest();
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(frames.last().map(|last| last.tag), Some(raw::CLOSED));
        if heard {
            let told = told(&frames);
            assert!(told.starts_with("57014") && told.contains("login_timeout"), "{frames:?}");
        } else {
            // It may be no client of PostgreSQL's at all.
            assert_eq!(frames.len(), 1, "{frames:?}");
        }
    }
    eventually("the log names both", || {
        ["canceling authentication due to login_timeout", "login_timeout is over"]
            .iter()
            .all(|line| proxy.log().contains(line))
    });
}

#[test]
fn drain_timeout() {
    let (mut proxy, name) = start("listen", "drain_timeout", SHORT);
    let mut session = login(&proxy, &name);
    session.query("BEGIN");
    session.query("INSERT INTO t VALUES (1)");
    let mut busy = login(&proxy, &name);
    busy.send(&raw::query("SELECT pg_sleep(1000)"));
    proxy.signal(Signal::SIGTERM);
    for session in [&mut session, &mut busy] {
        let frames = session.rest();
        assert!(told(&frames).starts_with("57P01") && told(&frames).contains("drain_timeout"), "{frames:?}");
    }
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(proxy.log().contains("drain_timeout"));
}

#[test]
fn checkout_timeout() {
    let config = Config::new().set("pool", "size", "1").set("pool", "checkout_timeout", SHORT);
    let (proxy, name) = start_with(config);
    let mut holder = login(&proxy, &name);
    holder.query("BEGIN; SELECT 1");
    for statement in both("SELECT 1") {
        let mut waiter = login(&proxy, &name);
        let began = Instant::now();
        waiter.send(&statement);
        let frames = waiter.until(b'Z', 1);
        assert!(began.elapsed() >= Duration::from_millis(400));
        assert!(
            told(&frames).starts_with("53300") && told(&frames).contains("checkout_timeout"),
            "{frames:?}"
        );
    }
    holder.query("COMMIT");
    assert_eq!(login(&proxy, &name).value("SELECT 'free'"), "free");
}

#[test]
fn idle_timeout() {
    let config = Config::new().set("pool", "idle_timeout", SHORT).set("pool", "min_idle", "1");
    let (proxy, name) = start_with(config);
    let server = support::servers(1)[0];
    let mut sessions: Vec<Raw> = (0..3).map(|_| login(&proxy, &name)).collect();
    for session in &mut sessions {
        session.query("BEGIN; SELECT 1");
    }
    assert!(connections(server, &name) >= 3);
    for session in &mut sessions {
        session.query("COMMIT");
    }
    eventually("only min_idle is kept", || connections(server, &name) == 1);
    assert_eq!(sessions[0].value("SELECT 'undisturbed'"), "undisturbed");
}

/// A connection in use is not ended; it is not used again.
#[test]
fn max_lifetime() {
    let (proxy, name) = start("pool", "max_lifetime", SHORT);
    let mut session = login(&proxy, &name);
    let pid = "SELECT pg_backend_pid()";
    session.query("BEGIN");
    let old = session.value(pid);
    eventually("its time is over", || {
        session.value("SELECT now() < clock_timestamp() - interval '1 second'") == "t"
    });
    assert_eq!(session.value(pid), old);
    session.query("COMMIT");
    assert_ne!(session.value(pid), old);
    // Idle ones are closed without being asked for.
    let server = support::servers(1)[0];
    eventually("idle ones end too", || connections(server, &name) == 0);
}

/// The server's listener hangs; what is connected goes on.
#[test]
fn connect_timeout() {
    let servers = support::own_servers(1);
    let name = support::database(&[&servers[0]], "CREATE TABLE t (n int)");
    let config = Config::new().set("pool", "connect_timeout", SHORT).database(&name, &[&servers[0]]);
    let proxy = Proxy::start(config);
    let mut first = login(&proxy, &name);
    first.query("BEGIN; SELECT 1");
    let stopped = Stopped::new(servers[0].pid().unwrap());
    for statement in both("SELECT 1") {
        let mut second = login(&proxy, &name);
        second.send(&statement);
        let frames = second.until(b'Z', 1);
        assert!(
            told(&frames).starts_with("57P03") && told(&frames).contains("connect_timeout"),
            "{frames:?}"
        );
    }
    assert_eq!(first.value("SELECT 'undisturbed'"), "undisturbed");
    drop(stopped);
    assert_eq!(login(&proxy, &name).value("SELECT 'back'"), "back");
}

#[test]
fn query_timeout() {
    let (proxy, name) = start("pool", "query_timeout", SHORT);
    let mut session = login(&proxy, &name);
    for statement in both("SELECT pg_sleep(1000)") {
        session.send(&statement);
        let frames = session.until(b'Z', 1);
        assert!(told(&frames).starts_with("57014") && told(&frames).contains("query_timeout"), "{frames:?}");
        // Its own cancels and timeouts keep their names.
        session.query("SET statement_timeout = '50ms'");
        session.send(&statement);
        let frames = session.until(b'Z', 1);
        assert!(told(&frames).contains("statement timeout"), "{frames:?}");
        session.query("RESET statement_timeout");
        assert_eq!(session.value("SELECT 'goes on'"), "goes on");
    }
}

#[test]
fn query_timeout_without_a_sync() {
    let (proxy, name) = start("pool", "query_timeout", SHORT);
    let mut session = login(&proxy, &name);
    let slow = raw::run("SELECT pg_sleep(1000)", &[]);
    let refused = raw::bind("", "nosuch", &[]);
    // Asked for by a Flush, or by what is answered at once.
    for behind in [raw::flush(), refused] {
        session.send(&[&*slow, &behind].concat());
        let frames = session.until(b'E', 1);
        assert!(told(&frames).starts_with("57014") && told(&frames).contains("query_timeout"), "{frames:?}");
        session.send(&raw::sync());
        assert_eq!(session.until(b'Z', 1).len(), 1);
        assert_eq!(session.value("SELECT 'goes on'"), "goes on");
    }
    // The limit is the server's: a client may think between its messages.
    let pause = || std::thread::sleep(Duration::from_millis(800));
    let read = raw::run("SELECT 1", &[]);
    for batch in [vec![&*read, &read], vec![&*read, &raw::flush(), &read, &raw::flush()]] {
        for message in batch {
            session.send(message);
            pause();
        }
        session.send(&raw::sync());
        let frames = session.until(b'Z', 1);
        assert_eq!(frames.iter().filter(|frame| frame.tag == b'C').count(), 2, "{frames:?}");
    }
}

#[test]
fn query_timeout_in_a_copy_whose_client_has_stopped() {
    let (proxy, name) = start("pool", "query_timeout", SHORT);
    let copy = "COPY t FROM STDIN";
    let row = raw::copy_data(b"7\n");
    for (what, start, end) in [
        ("simple", raw::query(copy), vec![]),
        ("by Flush", [raw::run(copy, &[]), raw::flush()].concat(), raw::sync()),
        ("by Sync", [raw::run(copy, &[]), raw::sync()].concat(), raw::sync()),
    ] {
        let mut session = login(&proxy, &name);
        session.send(&start);
        session.until(b'G', 1);
        let began = Instant::now();
        session.send(&row);
        let frames = session.until(b'E', 1);
        assert!(told(&frames).starts_with("57014") && told(&frames).contains("query_timeout"), "{frames:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{what}: {:?}", began.elapsed());
        session.send(&[&*row, &raw::copy_done(), &end].concat());
        assert_eq!(session.until(b'Z', 1).len(), 1, "{what}");
        assert_eq!(session.value("SELECT count(*) FROM t"), "0", "{what}");
    }
    // Nothing can follow the half of a message.
    let mut session = login(&proxy, &name);
    session.send(&raw::query(copy));
    session.until(b'G', 1);
    let began = Instant::now();
    session.send(&row[..row.len() - 1]);
    let frames = session.rest();
    assert!(told(&frames).starts_with("57014") && told(&frames).contains("query_timeout"), "{frames:?}");
    let server = support::servers(1)[0];
    eventually("its server is gone", || {
        let busy = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND query = '{copy}' AND state = 'active'"
        );
        server.psql(APP, &name, &busy).unwrap().trim() == "0"
    });
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn idle_transaction_timeout() {
    let (proxy, name) = start("pool", "idle_transaction_timeout", SHORT);
    for statement in ["BEGIN", "BEGIN; INSERT INTO t VALUES (1)"] {
        let mut session = login(&proxy, &name);
        session.query(statement);
        let frames = session.rest();
        assert!(
            told(&frames).starts_with("25P03") && told(&frames).contains("idle_transaction_timeout"),
            "{frames:?}"
        );
    }
    let mut session = login(&proxy, &name);
    assert_eq!(session.value("SELECT count(*) FROM t"), "0");
    // A statement that takes longer is not idle.
    assert_eq!(session.value("BEGIN; SELECT 'busy' FROM pg_sleep(0.8)"), "busy");
}

#[test]
fn client_idle_timeout() {
    let (proxy, name) = start("pool", "client_idle_timeout", SHORT);
    let mut session = login(&proxy, &name);
    assert_eq!(session.value("SELECT 'busy' FROM pg_sleep(0.8)"), "busy");
    let frames = session.rest();
    assert!(
        told(&frames).starts_with("57P05") && told(&frames).contains("client_idle_timeout"),
        "{frames:?}"
    );
}

#[test]
fn health_timeout_and_failover_hold() {
    let servers = support::own_servers(1);
    let name = support::database(&[&servers[0]], "CREATE TABLE t (n int)");
    let config = Config::new()
        .set("health", "interval", "\"100ms\"")
        .set("health", "timeout", SHORT)
        .set("health", "failures", "1")
        .set("health", "failover_hold", SHORT)
        .database(&name, &[&servers[0]]);
    let proxy = Proxy::start(config);
    let mut session = login(&proxy, &name);
    assert_eq!(session.value("SELECT 1"), "1");
    // Every process of the server hangs: sockets stay open, and nobody answers.
    let postmaster = servers[0].pid().unwrap();
    let stopped: Vec<Stopped> =
        std::iter::once(postmaster).chain(children(postmaster)).map(Stopped::new).collect();
    let up = format!(
        "pgring_endpoint_up{{database=\"{name}\",endpoint=\"{}\",shard=\"s1\"}}",
        servers[0].address()
    );
    eventually("the endpoint is down", || proxy.metric(&up) == Some(0.0));
    assert!(proxy.log().contains("health.timeout"), "{}", proxy.log());
    session.send(&raw::query("SELECT 1"));
    let frames = session.until(b'Z', 1);
    assert!(told(&frames).starts_with("57P03") && told(&frames).contains("failover_hold"), "{frames:?}");
    drop(stopped);
    eventually("it is back", || proxy.metric(&up) == Some(1.0));
    assert_eq!(session.value("SELECT 'back'"), "back");
}

/// Connections that pgring has for clients.
fn connections(server: &Cluster, name: &str) -> usize {
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND usename = '{}' AND pid <> pg_backend_pid()",
        APP.name
    );
    server.psql(APP, name, &count).unwrap().trim().parse().unwrap()
}

/// A process that stands still until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: Pid) -> Stopped {
        kill(pid, Signal::SIGSTOP).unwrap();
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may be gone.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

fn children(parent: Pid) -> Vec<Pid> {
    let listed = std::process::Command::new("ps").args(["-axo", "pid=,ppid="]).output().unwrap();
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter_map(|line| {
            let (pid, ppid) = line.trim().split_once(' ')?;
            (ppid.trim().parse::<i32>().ok()? == parent.as_raw())
                .then(|| pid.parse().ok().map(Pid::from_raw))?
        })
        .collect()
}
