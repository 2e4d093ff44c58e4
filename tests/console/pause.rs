//! `PAUSE`, `RESUME` and `KILL`, with clients at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pgring::demo::cluster::{Cluster, SUPERUSER};
use pgring::demo::sample::{APP, owned_users};
use pgring::ring::ShardId;
use tokio_postgres::{Client, NoTls};

use crate::support::raw::{self, Raw};
use crate::support::{
    Config, Proxy, connect, database, eventually, own_servers, psql, sample_database, servers, topology,
};
use crate::{code, config};

const TICKS: &str = "CREATE TABLE ticks (id bigserial)";

struct Stage {
    proxy: Proxy,
    name: String,
}

impl Stage {
    fn new(config: Config) -> Stage {
        let shards = servers(1);
        let name = database(&shards, TICKS);
        Stage { proxy: Proxy::start(config.database(&name, &shards)), name }
    }

    async fn client(&self) -> Client {
        connect(&self.proxy.dsn(APP, &self.name)).await
    }

    async fn admin(&self) -> Client {
        connect(&self.proxy.dsn(APP, "pgring")).await
    }

    fn directly(&self, sql: &str) -> String {
        servers(1)[0].psql(SUPERUSER, &self.name, sql).unwrap().trim().to_owned()
    }

    /// Sessions that clients have on the server.
    fn on_server(&self) -> String {
        self.directly(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'app'",
            self.name
        ))
    }

    /// A column of a `SHOW` for the row of this database.
    fn shown(&self, show: &str, column: &str) -> String {
        shown(&self.proxy, show, &self.name, column)
    }
}

/// A column of the first row that mentions a text.
pub(crate) fn shown(proxy: &Proxy, show: &str, row: &str, column: &str) -> String {
    let dsn = proxy.dsn(APP, "pgring");
    let printed = crate::support::psql_with(&dsn, &["-A", "-c", &format!("SHOW {show}")], "").expect_ok();
    let mut lines = printed.lines();
    let at = lines.next().unwrap().split('|').position(|name| name == column);
    let at = at.unwrap_or_else(|| panic!("SHOW {show} has no {column}"));
    let found = lines.find(|line| line.contains(row));
    found.map(|line| line.split('|').nth(at).unwrap().to_owned()).unwrap_or_default()
}

/// Clients that write in short transactions, of one statement and of several, until they are told
/// to end; the first error ends the test.
fn load(
    stage: &Stage,
    clients: usize,
) -> (Arc<AtomicBool>, Arc<AtomicU64>, Vec<tokio::task::JoinHandle<()>>) {
    let (ends, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let dsn = stage.proxy.dsn(APP, &stage.name);
    let tasks = (0..clients).map(|number| {
        let (ends, done, dsn) = (Arc::clone(&ends), Arc::clone(&done), dsn.clone());
        tokio::spawn(async move {
            let client = connect(&dsn).await;
            while !ends.load(Ordering::SeqCst) {
                if number % 2 == 0 {
                    client.query("INSERT INTO ticks DEFAULT VALUES", &[]).await.unwrap();
                } else {
                    client.batch_execute("BEGIN").await.unwrap();
                    client.batch_execute("INSERT INTO ticks DEFAULT VALUES").await.unwrap();
                    client.batch_execute("SELECT pg_sleep(0.002)").await.unwrap();
                    client.batch_execute("COMMIT").await.unwrap();
                }
                done.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let tasks = tasks.collect();
    (ends, done, tasks)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_at_work_wait_and_go_on() {
    // More clients than connections, and less patience for a connection than the pause lasts.
    let config = config().set("pool", "size", "3").set("pool", "checkout_timeout", "\"1500ms\"");
    let stage = Stage::new(config);
    let admin = stage.admin().await;
    let (ends, done, tasks) = load(&stage, 8);
    for round in 0..3 {
        let before = done.load(Ordering::SeqCst);
        eventually("they work", || done.load(Ordering::SeqCst) > before + 50);
        let pause = if round == 0 { "PAUSE".to_owned() } else { format!("PAUSE {}", stage.name) };
        let paused = tokio::time::timeout(Duration::from_secs(10), admin.batch_execute(&pause)).await;
        paused.expect("it becomes quiet").unwrap();
        // A server process takes note of its closed connection a moment later.
        let rows = stage.directly("SELECT count(*) FROM ticks");
        eventually("every server connection is closed", || stage.on_server() == "0");
        eventually("all of them wait", || stage.shown("POOLS", "cl_waiting") == "8");
        assert_eq!(stage.shown("DATABASES", "paused"), "1");
        assert_eq!(stage.shown("POOLS", "paused"), "1");
        tokio::time::sleep(Duration::from_millis(1600)).await;
        assert_eq!(stage.directly("SELECT count(*) FROM ticks"), rows, "nothing runs");
        assert_eq!(stage.on_server(), "0", "nothing is opened");
        admin.batch_execute(&pause.replace("PAUSE", "RESUME")).await.unwrap();
        assert_eq!(stage.shown("DATABASES", "paused"), "0");
    }
    let before = done.load(Ordering::SeqCst);
    eventually("they go on", || done.load(Ordering::SeqCst) > before + 50);
    ends.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_waits_for_what_is_open() {
    let stage = Stage::new(config());
    let (client, admin, other) = (stage.client().await, stage.admin().await, stage.admin().await);
    client.batch_execute("BEGIN; INSERT INTO ticks DEFAULT VALUES").await.unwrap();
    let pause = tokio::spawn(async move { code(&admin, "PAUSE").await });
    eventually("it is paused", || stage.shown("DATABASES", "paused") == "1");
    assert_eq!(code(&other, "PAUSE").await, "55000", "already");
    client.batch_execute("INSERT INTO ticks DEFAULT VALUES").await.unwrap();
    assert!(!pause.is_finished());
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(pause.await.unwrap(), "00000");
    assert_eq!(code(&other, "RESUME").await, "00000");
    for sql in ["RESUME", &*format!("RESUME {}", stage.name)] {
        assert_eq!(code(&other, sql).await, "55000", "{sql}: it is not paused");
    }
    // A second one of a database is answered like the first, and RESUME ends one that waits.
    client.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let admin = stage.admin().await;
    let sql = format!("PAUSE {}", stage.name);
    let pause = tokio::spawn(async move { code(&admin, &sql).await });
    eventually("it is paused", || stage.shown("DATABASES", "paused") == "1");
    assert_eq!(code(&other, &format!("RESUME {}", stage.name)).await, "00000");
    assert_eq!(pause.await.unwrap(), "57014");
    client.batch_execute("COMMIT").await.unwrap();
    for sql in ["PAUSE", "PAUSE", "RESUME"] {
        assert_eq!(code(&other, &format!("{sql} {}", stage.name)).await, "00000");
    }
    for (sql, expect) in [("PAUSE nowhere", "3D000"), ("RESUME nowhere", "3D000"), ("KILL nowhere", "3D000")]
    {
        assert_eq!(code(&other, sql).await, expect, "{sql}");
    }
    assert_eq!(code(&other, "PAUSE pgring").await, "0A000");
}

/// A row of each of two shards changes; the transaction that needs the second one would wait for the
/// RESUME, and the PAUSE for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_goes_on_to_other_shards() {
    let shards = servers(2);
    let name = sample_database(&shards);
    let proxy = Proxy::start(config().set("pool", "size", "2").database(&name, &shards));
    let admin = Arc::new(connect(&proxy.dsn(APP, "pgring")).await);
    let client = async || connect(&proxy.dsn(APP, &name)).await;
    let paused = |expect: &str| shown(&proxy, "DATABASES", &name, "paused") == expect;
    let begins = async |client: &Client, shard: usize| {
        client.batch_execute("BEGIN").await.unwrap();
        client.batch_execute(&change(shard)).await.unwrap();
    };
    for scope in [String::new(), format!(" {name}")] {
        let (open, new) = (client().await, client().await);
        begins(&open, 0).await;
        let (pausing, sql) = (Arc::clone(&admin), format!("PAUSE{scope}"));
        let pause = tokio::spawn(async move { code(&pausing, &sql).await });
        eventually("it is paused", || paused("1"));
        let new = tokio::spawn(async move { code(&new, &change(1)).await });
        eventually("who has none waits", || shown(&proxy, "POOLS", &name, "cl_waiting") == "1");
        for sql in [change(1), "SELECT count(*) FROM users".to_owned(), "COMMIT".to_owned()] {
            assert!(!pause.is_finished(), "{sql}");
            let answer = tokio::time::timeout(Duration::from_secs(10), code(&open, &sql)).await;
            assert_eq!(answer.as_deref(), Ok("00000"), "{sql}");
        }
        let quiet = tokio::time::timeout(Duration::from_secs(10), pause).await;
        assert_eq!(quiet.expect("nothing keeps it").unwrap(), "00000");
        let left =
            format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND usename = 'app'");
        for server in &shards {
            eventually("none is kept", || server.psql(SUPERUSER, &name, &left).unwrap().trim() == "0");
        }
        assert!(!new.is_finished());
        assert_eq!(code(&open, "BEGIN").await, "00000");
        assert_eq!(code(&admin, &format!("RESUME{scope}")).await, "00000");
        assert_eq!(new.await.unwrap(), "00000");
    }
    // A shard that is paused alone becomes quiet, whoever needs it.
    let (here, elsewhere) = (client().await, client().await);
    begins(&here, 1).await;
    begins(&elsewhere, 0).await;
    let (pausing, sql) = (Arc::clone(&admin), format!("PAUSE {name} s2"));
    let pause = tokio::spawn(async move { code(&pausing, &sql).await });
    eventually("it is paused", || shown(&proxy, "SHARD_POOLS", &format!("{name}|app|s2"), "paused") == "1");
    assert_eq!(code(&here, "SELECT count(*) FROM users").await, "00000");
    assert_eq!(code(&here, "COMMIT").await, "00000");
    assert_eq!(pause.await.unwrap(), "00000", "the other has no server there");
    let waits =
        tokio::spawn(async move { [code(&elsewhere, &change(1)).await, code(&elsewhere, "COMMIT").await] });
    eventually("it waits", || shown(&proxy, "POOLS", &name, "cl_waiting") == "1");
    assert_eq!(code(&admin, &format!("RESUME {name} s2")).await, "00000");
    assert_eq!(waits.await.unwrap(), ["00000", "00000"]);
}

/// A row of one of two shards changes.
fn change(shard: usize) -> String {
    let topology = topology(2);
    let user = owned_users(&topology, ShardId(u16::try_from(shard).unwrap()))[0];
    format!("UPDATE users SET name = name WHERE id = {user}")
}

#[tokio::test(flavor = "multi_thread")]
async fn in_session_mode_a_pause_waits_for_clients_to_leave() {
    let stage = Stage::new(config().set("pool", "mode", "\"session\""));
    let (client, admin) = (stage.client().await, stage.admin().await);
    client.batch_execute("SELECT 1").await.unwrap();
    let pause = tokio::spawn(async move { code(&admin, "PAUSE").await });
    eventually("it is paused", || stage.shown("DATABASES", "paused") == "1");
    client.batch_execute("SELECT 1").await.unwrap();
    assert!(!pause.is_finished());
    drop(client);
    assert_eq!(pause.await.unwrap(), "00000");
    eventually("its server process has ended", || stage.on_server() == "0");
}

/// As with PgBouncer: Ctrl-C takes a waiting PAUSE back, a console that is gone does not.
#[tokio::test(flavor = "multi_thread")]
async fn how_a_waiting_pause_ends() {
    let stage = Stage::new(config());
    let (client, admin) = (stage.client().await, stage.admin().await);
    client.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let cancel = admin.cancel_token();
    let pause = tokio::spawn(async move { code(&admin, "PAUSE").await });
    eventually("it is paused", || stage.shown("DATABASES", "paused") == "1");
    cancel.cancel_query(NoTls).await.unwrap();
    assert_eq!(pause.await.unwrap(), "57014");
    eventually("it goes on", || stage.shown("DATABASES", "paused") == "0");

    let mut admin = Raw::login(&stage.proxy.address(), APP, "pgring");
    let consoles =
        || psql(&stage.proxy.dsn(APP, "pgring"), "SHOW CLIENTS").expect_ok().matches("|pgring|").count();
    admin.send(&raw::query("PAUSE"));
    eventually("it is paused", || stage.shown("DATABASES", "paused") == "1");
    drop(admin);
    eventually("the console is gone", || consoles() == 1);
    assert_eq!(stage.shown("DATABASES", "paused"), "1");
    client.batch_execute("COMMIT").await.unwrap();
    eventually("it is quiet", || stage.on_server() == "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_may_be_cancelled_killed_or_leave() {
    let stage = Stage::new(config());
    let admin = stage.admin().await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::login(&stage.proxy.address(), APP, &stage.name);
        client.query("SELECT 1");
        clients.push(client);
    }
    let cancelled = stage.client().await;
    admin.batch_execute("PAUSE").await.unwrap();
    let waiting = || stage.shown("POOLS", "cl_waiting");
    let token = cancelled.cancel_token();
    let told = tokio::spawn(async move { code(&cancelled, "SELECT 1").await });
    clients.iter_mut().for_each(|client| client.send(&raw::query("SELECT 2")));
    eventually("all wait", || waiting() == "4");
    token.cancel_query(NoTls).await.unwrap();
    assert_eq!(told.await.unwrap(), "57014");
    drop(clients.pop());
    eventually("one has left", || waiting() == "2");
    let id = shown(&stage.proxy, "CLIENTS", "|waiting|", "id");
    admin.batch_execute(&format!("KILL_CLIENT {id}")).await.unwrap();
    eventually("one is killed", || waiting() == "1");
    // New clients are let in, and wait with their first statement.
    let new = stage.client().await;
    let value = tokio::spawn(async move { new.query_one("SELECT 42", &[]).await.unwrap().get::<_, i32>(0) });
    eventually("the new one waits", || waiting() == "2");
    admin.batch_execute("RESUME").await.unwrap();
    assert_eq!(value.await.unwrap(), 42);
    let ends: Vec<String> = clients.iter_mut().map(|client| format!("{:?}", client.frame())).collect();
    assert_eq!(ends.iter().filter(|frame| frame.contains("57P01")).count(), 1, "{ends:?}");
    assert_eq!(ends.iter().filter(|frame| frame.starts_with('T')).count(), 1, "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_a_pause_to_end() {
    let mut stage = Stage::new(config());
    let (open, held, admin) = (stage.client().await, stage.client().await, stage.admin().await);
    open.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let pause = tokio::spawn(async move { code(&admin, "PAUSE").await });
    eventually("it is paused", || stage.shown("DATABASES", "paused") == "1");
    let held = tokio::spawn(async move { code(&held, "SELECT 1").await });
    eventually("one is held", || stage.shown("POOLS", "cl_waiting") == "1");
    stage.proxy.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(pause.await.unwrap(), "57P01");
    assert_eq!(held.await.unwrap(), "57P01");
    open.batch_execute("COMMIT").await.unwrap();
    assert_eq!(stage.proxy.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_restarted_behind_a_pause() {
    let mut shards = own_servers(1);
    let name = database(&shards.iter().collect::<Vec<&Cluster>>(), TICKS);
    let proxy = Proxy::start(config().database(&name, &[&shards[0]]));
    let (client, admin) = (connect(&proxy.dsn(APP, &name)).await, connect(&proxy.dsn(APP, "pgring")).await);
    client.batch_execute("INSERT INTO ticks DEFAULT VALUES").await.unwrap();
    admin.batch_execute("PAUSE").await.unwrap();
    let held = tokio::spawn(async move { code(&client, "INSERT INTO ticks DEFAULT VALUES").await });
    eventually("it is held", || shown(&proxy, "POOLS", &name, "cl_waiting") == "1");
    shards[0].stop().unwrap();
    shards[0].restart().unwrap();
    admin.batch_execute("RESUME").await.unwrap();
    assert_eq!(held.await.unwrap(), "00000");
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_drops_clients_and_holds_new_ones() {
    let shards = servers(2);
    let (name, other) = (sample_database(&shards), database(&shards[..1], ""));
    let proxy = Proxy::start(config().database(&name, &shards).database(&other, &shards[..1]));
    let admin = connect(&proxy.dsn(APP, "pgring")).await;
    let bystander = connect(&proxy.dsn(APP, &other)).await;
    bystander.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let mut busy = Raw::login(&proxy.address(), APP, &name);
    let mut idle = Raw::login(&proxy.address(), APP, &name);
    busy.send(&raw::query("SELECT pg_sleep(60)"));
    idle.query("SELECT id FROM users WHERE id = 7");
    eventually("one is busy", || shown(&proxy, "SERVERS", "|active|", "state") == "active");
    admin.batch_execute(&format!("KILL {name}")).await.unwrap();
    for client in [&mut busy, &mut idle] {
        let told = client.rest();
        assert!(told.iter().any(|frame| frame.code() == "57P01"), "{told:?}");
    }
    let left = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND usename = 'app'");
    for server in &shards {
        eventually("its server processes have ended", || {
            server.psql(SUPERUSER, &name, &left).unwrap().trim() == "0"
        });
    }
    bystander.batch_execute("COMMIT").await.unwrap();
    let new = connect(&proxy.dsn(APP, &name)).await;
    let answer = tokio::spawn(async move { code(&new, "SELECT 1").await });
    eventually("it waits", || shown(&proxy, "POOLS", &name, "cl_waiting") == "1");
    admin.batch_execute(&format!("RESUME {name}")).await.unwrap();
    assert_eq!(answer.await.unwrap(), "00000");
}
