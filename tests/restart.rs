//! Restarts that no client notices: one pgring takes over from another.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pgring::demo::sample::APP;

mod support;
use support::raw::{CLOSED, Frame, Raw, V3_0, V3_2, cancel_request, message, query};
use support::{
    Config, Proxy, connect, database, eventually, eventually_within, python, sample_database, servers,
};

/// Clients may use TCP or the Unix socket in the runtime directory's parent.
fn with_unix_socket(config: Config) -> Config {
    let address = format!("[\"127.0.0.1:{}\", \"unix:{}\"]", config.port, config.runtime.path().display());
    config.set("listen", "address", &address)
}

fn socket_file(config: &Config) -> PathBuf {
    config.runtime.path().join(format!(".s.PGSQL.{}", config.port))
}

/// Which of the processes of a configuration a session is in.
fn slot(client: &Raw) -> u32 {
    client.pid >> 26
}

/// The SQLSTATE of the answer's error, or its first column.
fn outcome(frames: &[Frame]) -> String {
    let error = frames.iter().find(|frame| frame.tag == b'E').map(Frame::code);
    let row = frames.iter().find(|frame| frame.tag == b'D').map(|frame| frame.columns().remove(0));
    error.or(row).unwrap_or_else(|| format!("{frames:?}"))
}

/// One client's visit: short transactions, and goodbye.
fn visit(mut client: Raw, database: &str, user: usize) {
    let frames = client.start_up(APP, database, V3_0, &[]);
    assert_eq!(frames.last().map(|last| last.tag), Some(b'Z'), "{frames:?}");
    for _ in 0..3 {
        for sql in ["BEGIN", &format!("SELECT id FROM users WHERE id = {user}"), "COMMIT"] {
            let frames = client.query(sql);
            assert_eq!(frames.last().map(|last| last.tag), Some(b'Z'), "{sql}: {frames:?}");
            assert!(frames.iter().all(|frame| frame.tag != b'E'), "{sql}: {frames:?}");
        }
    }
    client.send(&message(b'X', &[]));
    assert_eq!(client.frame().tag, CLOSED);
}

/// Replaces a running pgring, as an operator does; the old one's end is awaited.
fn replace(old: &mut Proxy, config: &Config) {
    let next = Proxy::start_beside(config.clone());
    let mut old = std::mem::replace(old, next);
    old.signal(Signal::SIGTERM);
    assert_eq!(old.wait().code(), Some(0), "{}", old.log());
}

#[test]
fn rolling_restarts_are_not_seen_by_clients_that_come_and_go() {
    for shards in [1, 3] {
        let shards = servers(shards);
        let name = sample_database(&shards);
        let config = with_unix_socket(Config::new().database(&name, &shards));
        let mut proxy = Proxy::start(config.clone());
        let (address, socket) = (proxy.address(), socket_file(&config));
        let (done, visits) = (AtomicBool::new(false), AtomicUsize::new(0));
        let [stop_file, progress] = ["stop", "progress"].map(|file| config.runtime.path().join(file));
        std::fs::write(&progress, "").unwrap();
        let driven = || std::fs::metadata(&progress).unwrap().len();
        std::thread::scope(|scope| {
            let _stop = OnDrop(|| {
                done.store(true, Ordering::Relaxed);
                std::fs::write(&stop_file, "").unwrap();
            });
            for number in 1..=6 {
                let (name, address, socket, done, visits) = (&name, &address, &socket, &done, &visits);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        let client = if number % 3 == 0 { Raw::unix(socket) } else { Raw::tcp(address) };
                        visit(client, name, number);
                        visits.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let driver = scope.spawn(|| {
                let dsn = proxy_dsn(&address, &name);
                let files = [&stop_file, &progress].map(|file| file.to_str().unwrap());
                python("restart.py", &[&[dsn.as_str()], &files[..]].concat()).expect_ok()
            });
            let come_and_go = |how_often: usize| {
                let (visited, drove) = (visits.load(Ordering::Relaxed), driven());
                eventually_within(Duration::from_secs(30), "clients come and go", || {
                    assert!(!driver.is_finished(), "the driver has failed");
                    visits.load(Ordering::Relaxed) >= visited + how_often && driven() > drove
                });
            };
            for _ in 0..4 {
                come_and_go(20);
                replace(&mut proxy, &config);
            }
            come_and_go(1);
            std::fs::write(&stop_file, "").unwrap();
            driver.join().unwrap();
        });
        assert_eq!(proxy.get("/readyz").0, 200);
    }
}

fn proxy_dsn(address: &str, database: &str) -> String {
    format!("postgres://{}:{}@{address}/{database}", APP.name, APP.password)
}

/// Runs at the end of a scope, also when that is left in a panic.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_finished_by_the_process_that_began_it() {
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let config = Config::new().database(&name, &shards);
    let mut old = Proxy::start(config.clone());
    let mut working = Raw::login(&old.address(), APP, &name);
    working.query("BEGIN");
    assert_eq!(outcome(&working.query("INSERT INTO t VALUES (1) RETURNING id")), "1");

    let next = Proxy::start_beside(config);
    old.signal(Signal::SIGTERM);
    eventually("the old one drains", || old.log().contains("draining"));
    for _ in 0..20 {
        let newcomer = Raw::login(&next.address(), APP, &name);
        assert_eq!((slot(&working), slot(&newcomer)), (0, 1), "new clients are the next process's");
    }
    eventually("the next one answers for both", || next.get("/readyz") == (200, "ready\n".to_owned()));
    assert_eq!(outcome(&working.query("INSERT INTO t VALUES (2) RETURNING id")), "2");
    assert_eq!(working.query("COMMIT").last().unwrap().tag, b'Z');
    // Nothing more comes from it: it is told to go, and the old process with it.
    let goodbye = working.rest();
    assert_eq!(goodbye.first().map(Frame::code).as_deref(), Some("57P01"), "{goodbye:?}");
    assert_eq!(old.wait().code(), Some(0), "{}", old.log());
    let client = connect(&next.dsn(APP, &name)).await;
    let rows = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 2);
}

#[test]
fn a_client_at_rest_is_told_to_go_and_one_at_work_only_near_the_end() {
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let config = Config::new().database(&name, &shards).set("listen", "drain_timeout", "\"8s\"");
    let mut proxy = Proxy::start(config);
    let mut resting = Raw::login(&proxy.address(), APP, &name);
    // The console's clients are treated alike.
    let mut looking_on = Raw::login(&proxy.address(), APP, "pgring");
    let working = Raw::login(&proxy.address(), APP, &name);
    let watching = Raw::login(&proxy.address(), APP, "pgring");
    let began = Instant::now();
    proxy.signal(Signal::SIGTERM);
    let at_work = |mut client: Raw, sql: &'static str, answer: &'static str| {
        std::thread::spawn(move || {
            let mut last = Instant::now();
            loop {
                // 57P01 comes after a statement's answer, never instead of it.
                client.send(&query(sql));
                let frames = client.until(b'Z', 1);
                if frames.first().is_some_and(|frame| frame.tag == b'E' && frame.code() == "57P01") {
                    return last;
                }
                assert_eq!(outcome(&frames), answer);
                last = Instant::now();
                std::thread::sleep(Duration::from_millis(10));
            }
        })
    };
    let both = [at_work(working, "SELECT 'done'", "done"), at_work(watching, "SHOW CONFIG", "cluster")];
    for client in [&mut resting, &mut looking_on] {
        let goodbye = client.rest();
        assert_eq!(goodbye.first().map(Frame::code).as_deref(), Some("57P01"), "{goodbye:?}");
        let rested = began.elapsed();
        assert!(rested < Duration::from_secs(5), "{rested:?}");
    }
    for worked in both {
        let worked = worked.join().unwrap() - began;
        assert!(worked > Duration::from_secs(5) && worked < Duration::from_secs(8), "{worked:?}");
    }
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(!proxy.log().contains("the drain_timeout is over"), "{}", proxy.log());
}

/// Sends a cancel request over a connection of its own, and waits for its end.
fn cancel(address: &str, client: &Raw) {
    let mut request = Raw::tcp(address);
    request.send(&cancel_request(client.pid, &client.secret));
    assert_eq!(request.byte(), CLOSED);
}

/// A statement that runs until it is cancelled; whether the cancel came to it.
fn is_cancelled(address: &str, client: &mut Raw, observer: &mut Raw) -> bool {
    let tag = format!("cancel me {}", client.pid);
    client.send(&query(&format!("SELECT pg_sleep(60) /* {tag} */")));
    let running = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{tag} *%' AND pid <> pg_backend_pid()"
    );
    eventually("the statement runs", || observer.value(&running) == "1");
    cancel(address, client);
    outcome(&client.until(b'Z', 1)) == "57014"
}

/// Logs in until the session is in this process.
fn login_in(address: &str, name: &str, wanted: u32, version: u32) -> Raw {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let client = Raw::login_with(address, APP, name, version, &[]);
        if slot(&client) == wanted {
            return client;
        }
        assert!(Instant::now() < deadline, "no connection comes to process {wanted}");
    }
}

#[test]
fn a_cancel_request_finds_the_process_that_runs_the_statement() {
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let config = Config::new().database(&name, &shards);
    let mut old = Proxy::start(config.clone());
    let mut of_old = [V3_0, V3_2].map(|version| login_in(&old.address(), &name, 0, version));
    let next = Proxy::start_beside(config);
    let address = next.address();
    let mut of_next = [V3_0, V3_2].map(|version| login_in(&address, &name, 1, version));
    let mut observer = login_in(&address, &name, 1, V3_0);

    // Either process may get the request.
    for _ in 0..8 {
        for client in of_old.iter_mut().chain(&mut of_next) {
            assert!(is_cancelled(&address, client, &mut observer));
        }
    }
    // A key of the one process means nothing in the other.
    let [one, _] = &mut of_old;
    let [other, _] = &mut of_next;
    other.send(&query("SELECT 'undisturbed', pg_sleep(0.3)"));
    let (pid, secret) = (other.pid, one.secret.clone());
    for pid in [pid, pid ^ 1 << 27, pid ^ 1 << 30] {
        let mut request = Raw::tcp(&address);
        request.send(&cancel_request(pid, &secret));
        assert_eq!(request.byte(), CLOSED);
    }
    assert_eq!(outcome(&other.until(b'Z', 1)), "undisturbed");

    // Only the next one gets it now; the statements are still the old one's.
    let [one, two] = &mut of_old;
    one.query("BEGIN");
    two.query("BEGIN");
    old.signal(Signal::SIGTERM);
    eventually("the old one drains", || old.log().contains("draining"));
    for client in [one, two] {
        assert!(is_cancelled(&address, client, &mut observer));
        client.query("ROLLBACK");
    }
    assert_eq!(old.wait().code(), Some(0));
    // Its key leads nowhere.
    cancel(&address, &of_old[0]);
}

#[test]
fn a_process_that_died_leaves_nothing_in_the_way() {
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let config = with_unix_socket(Config::new().database(&name, &shards));
    let peer = |slot: u32| config.runtime.path().join(format!("peers/test.{slot}.sock"));
    let mut dead = Proxy::start(config.clone());
    let key = Raw::login(&dead.address(), APP, &name);
    dead.signal(Signal::SIGKILL);
    dead.wait();
    assert!(peer(0).exists() && socket_file(&config).exists(), "nobody tidied up");

    let first = Proxy::start(config.clone());
    let second = Proxy::start_beside(config.clone());
    assert!(peer(0).exists() && peer(1).exists());
    cancel(&second.address(), &key);
    assert_eq!(first.stop().code(), Some(0));
    assert!(!peer(0).exists() && peer(1).exists() && socket_file(&config).exists());
    // The older of two may just as well be the one that dies.
    let mut client = Raw::unix(&socket_file(&config));
    assert_eq!(client.start_up(APP, &name, V3_0, &[]).last().unwrap().tag, b'Z');
    assert_eq!(client.value("SELECT 'served'"), "served");
    let mode = nix::sys::stat::stat(&config.runtime.path().join("peers")).unwrap().st_mode;
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_port_is_not_shared_with_strangers() {
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let config = with_unix_socket(Config::new().database(&name, &shards));
    let proxy = Proxy::start(config.clone());
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = format!("{:?}", elsewhere.path().join("peers"));
    for runtime_dir in ["\"off\"", &elsewhere] {
        let http = format!("\"127.0.0.1:{}\"", Config::new().http_port);
        let stranger = config.clone().set("listen", "runtime_dir", runtime_dir).set("http", "address", &http);
        let mut stranger = Proxy::spawn(stranger, &[]);
        assert_ne!(stranger.wait().code(), Some(0));
        assert!(stranger.log().contains("cannot listen on"), "{}", stranger.log());
    }
    // What is there but private to nobody is not used.
    let open = config.runtime.path().join("open");
    std::fs::create_dir(&open).unwrap();
    assert!(is_refused(config.clone(), &open, "its mode must be 0700"));
    drop(proxy);
}

fn is_refused(config: Config, runtime_dir: &Path, reason: &str) -> bool {
    let mut proxy = Proxy::spawn(config.set("listen", "runtime_dir", &format!("{runtime_dir:?}")), &[]);
    proxy.wait().code() != Some(0) && proxy.log().contains(reason)
}
