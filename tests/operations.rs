//! What an operator does to a running pgring, and what failing servers do to it.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pgring::demo::cluster::{Cluster, Login, SUPERUSER};
use pgring::demo::sample::{APP, CONTROL};
use pgring::ring::{Key, ShardId};
use tokio_postgres::{Client, SimpleQueryMessage};

mod support;
use support::raw::Raw;
use support::{
    Config, Proxy, connect, database, eventually, eventually_within, own_servers, psql, psql_with,
    sample_database, servers, topology,
};

/// Probes that notice soon, and no waiting for a primary that will not come back by itself.
fn watchful(config: Config) -> Config {
    config
        .set("health", "interval", "\"100ms\"")
        .set("health", "timeout", "\"1s\"")
        .set("health", "failures", "2")
        .set("health", "failover_hold", "\"100ms\"")
}

/// A user of the sample that a shard owns.
fn user_of(shards: usize, shard: u16) -> i64 {
    (1..).find(|id| topology(shards).owner(Key::Integer(*id).hash()) == ShardId(shard)).unwrap()
}

fn user_row(id: i64) -> String {
    format!("SELECT id FROM users WHERE id = {id}")
}

/// The first value of the answer, or the SQLSTATE.
async fn ask(client: &Client, sql: &str) -> Result<String, String> {
    match client.simple_query(sql).await {
        Ok(messages) => Ok(messages
            .iter()
            .find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .unwrap_or_default()),
        Err(error) => Err(told(&error)),
    }
}

/// What a client was told must be fit for clients; its SQLSTATE, or what the driver says.
#[track_caller]
fn told(error: &tokio_postgres::Error) -> String {
    let Some(error) = error.as_db_error() else { return error.to_string() };
    let all = format!("{} {:?} {:?}", error.message(), error.detail(), error.hint());
    for secret in ["127.0.0.1", "Os {", "kind:", "Error(", "Some(\\\"", "(os error"] {
        assert!(!all.contains(secret), "told a client {secret:?}: {all}");
    }
    error.code().code().to_owned()
}

async fn login_error(dsn: &str) -> String {
    let Err(error) = tokio_postgres::connect(dsn, tokio_postgres::NoTls).await else {
        panic!("{dsn} was let in")
    };
    told(&error)
}

fn endpoint_up(proxy: &Proxy, name: &str, server: &Cluster, shard: &str) -> Option<f64> {
    let endpoint = server.address();
    proxy.metric(&format!(
        "pgring_endpoint_up{{database=\"{name}\",endpoint=\"{endpoint}\",shard=\"{shard}\"}}"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_down_at_the_start_costs_its_own_keys_only_and_is_served_once_it_is_up() {
    // The home shard is the harder case: schemas are read from it.
    for down in [2, 0] {
        let mut shards = own_servers(3);
        let name = sample_database(&shards.iter().collect::<Vec<_>>());
        let config = watchful(Config::new().database(&name, &shards.iter().collect::<Vec<_>>()));
        shards[down].stop().unwrap();
        let proxy = Proxy::start(config);
        let shard = format!("s{}", down + 1);
        eventually("the log says which shard is down", || {
            proxy.log().contains(&format!("shard {shard} has no primary"))
        });

        let client = connect(&proxy.dsn(APP, &name)).await;
        for number in 0..3_u16 {
            let user = user_of(3, number);
            let expect =
                if usize::from(number) == down { Err("57P03".to_owned()) } else { Ok(user.to_string()) };
            assert_eq!(ask(&client, &user_row(user)).await, expect, "{shard} is down");
        }
        assert_eq!(endpoint_up(&proxy, &name, &shards[down], &shard), Some(0.0));

        shards[down].restart().unwrap();
        eventually("it is up", || endpoint_up(&proxy, &name, &shards[down], &shard) == Some(1.0));
        let user = user_of(3, u16::try_from(down).unwrap());
        assert_eq!(ask(&client, &user_row(user)).await, Ok(user.to_string()), "{shard} is back");
        let home = "SELECT count(*) FROM app_settings";
        eventually_answer(&client, home, |answer| answer.is_ok()).await;
    }
}

async fn eventually_answer(client: &Client, sql: &str, good: impl Fn(&Result<String, String>) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = ask(client, sql).await;
        if good(&answer) {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_killed_while_serving_disturbs_no_other_and_is_served_again() {
    let mut shards = own_servers(2);
    let name = sample_database(&shards.iter().collect::<Vec<_>>());
    let proxy = Proxy::start(watchful(Config::new().database(&name, &shards.iter().collect::<Vec<_>>())));
    let (dead, alive) = (user_row(user_of(2, 1)), user_row(user_of(2, 0)));
    let other = connect(&proxy.dsn(APP, &name)).await;
    let inside = connect(&proxy.dsn(APP, &name)).await;
    let between = connect(&proxy.dsn(APP, &name)).await;
    ask(&other, "BEGIN").await.unwrap();
    ask(&other, &alive).await.unwrap();
    ask(&inside, "BEGIN").await.unwrap();
    ask(&inside, &dead).await.unwrap();
    ask(&between, &dead).await.unwrap();

    shards[1].crash().unwrap();
    let honest = |answer: &Result<String, String>| {
        matches!(answer.as_ref().map_err(String::as_str), Err("57P03" | "08006" | "57P01" | "57P02"))
    };
    // Nobody asked, and its transaction is gone: it hears so as soon as it asks, and stays.
    let answer = ask(&inside, "COMMIT").await;
    assert!(honest(&answer), "{answer:?}");
    ask(&inside, "ROLLBACK").await.unwrap();
    assert_eq!(ask(&inside, &alive).await.unwrap(), user_of(2, 0).to_string(), "the session goes on");
    let answer = ask(&between, &dead).await;
    assert!(honest(&answer), "{answer:?}");
    assert_eq!(ask(&between, &alive).await.unwrap(), user_of(2, 0).to_string(), "the session goes on");
    assert!(ask(&other, &alive).await.is_ok(), "a transaction on another shard goes on");
    ask(&other, "COMMIT").await.unwrap();
    eventually("the proxy knows", || endpoint_up(&proxy, &name, &shards[1], "s2") == Some(0.0));
    assert_eq!(ask(&between, &dead).await, Err("57P03".to_owned()));
    let (code, _) = proxy.get("/readyz");
    assert_eq!(code, 200, "one shard of two is served");

    shards[1].restart().unwrap();
    eventually("it is up again", || endpoint_up(&proxy, &name, &shards[1], "s2") == Some(1.0));
    assert!(ask(&between, &dead).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_for_health_say_what_is_missing() {
    let mut server = own_servers(1).remove(0);
    let name = database(&[&server], "CREATE TABLE t (id bigint)");
    let config = watchful(Config::new().database(&name, &[&server]));
    server.stop().unwrap();
    let proxy = Proxy::start_unready(config);
    let reason = format!("database {name}: no shard has a healthy primary\n");
    eventually("readiness has its reason", || proxy.get("/readyz") == (503, reason.clone()));
    assert_eq!(proxy.get("/healthz"), (200, "ok\n".to_owned()));
    server.restart().unwrap();
    eventually("it is ready", || proxy.get("/readyz") == (200, "ready\n".to_owned()));
    assert_eq!(proxy.get("/nothing").0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_users_pools_timeouts_and_endpoints_under_connected_clients() {
    let shards = servers(2);
    let name = sample_database(&shards);
    let base = watchful(Config::new()).database(&name, &shards);
    let reloaded = |proxy: &mut Proxy, config: Config| {
        let count = |proxy: &Proxy| proxy.log().matches("configuration reloaded").count();
        let before = count(proxy);
        proxy.reload(config);
        eventually("the reload is done", || count(proxy) > before);
        assert_eq!(proxy.metric("pgring_config_reload_success"), Some(1.0));
    };
    let mut proxy = Proxy::start(base.clone());
    let client = connect(&proxy.dsn(APP, &name)).await;
    let goes_on = async || assert_eq!(ask(&client, "SELECT 1").await, Ok("1".to_owned()));
    goes_on().await;

    // A user more, and gone again.
    let guest = Login { name: "guest", password: "guest's own" };
    assert_eq!(login_error(&proxy.dsn(guest, &name)).await, "28P01");
    let with_guest = "[[user]]\nname = \"guest\"\npassword = \"guest's own\"\nserver_password = \"app\"\n";
    for shard in &shards {
        shard.psql(SUPERUSER, "postgres", "CREATE ROLE guest LOGIN PASSWORD 'app'").unwrap();
    }
    reloaded(&mut proxy, base.clone().append(with_guest));
    let visitor = connect(&proxy.dsn(guest, &name)).await;
    assert_eq!(ask(&visitor, "SELECT current_user").await, Ok("guest".to_owned()));
    goes_on().await;
    reloaded(&mut proxy, base.clone());
    assert_eq!(login_error(&proxy.dsn(guest, &name)).await, "28P01");
    assert_eq!(ask(&visitor, "SELECT 1").await, Err("57P01".to_owned()), "a user who is gone is not served");
    goes_on().await;

    // Another password towards pgring.
    let changed = Login { name: APP.name, password: "another secret" };
    let other = "password = \"another secret\"\nserver_password = \"app\"";
    reloaded(&mut proxy, base.clone().replace("password = \"app\"", other));
    assert_eq!(login_error(&proxy.dsn(APP, &name)).await, "28P01");
    assert_eq!(ask(&connect(&proxy.dsn(changed, &name)).await, "SELECT 1").await, Ok("1".to_owned()));
    goes_on().await;

    // Pool size: a second client waits for the first one's connection, then not any more.
    let small = base.clone().set("pool", "size", "1").set("pool", "checkout_timeout", "\"200ms\"");
    reloaded(&mut proxy, small);
    let row = user_row(user_of(2, 0));
    ask(&client, "BEGIN").await.unwrap();
    ask(&client, &row).await.unwrap();
    let second = connect(&proxy.dsn(APP, &name)).await;
    assert_eq!(ask(&second, &row).await, Err("53300".to_owned()), "the pool is of size 1 now");
    reloaded(&mut proxy, base.clone());
    assert!(ask(&second, &row).await.is_ok(), "and of size 20 again");
    ask(&client, "COMMIT").await.unwrap();

    // A timeout, which holds for connected clients too.
    reloaded(&mut proxy, base.clone().set("pool", "idle_transaction_timeout", "\"200ms\""));
    ask(&second, "BEGIN").await.unwrap();
    ask(&second, &row).await.unwrap();
    eventually("the idle transaction is ended", || second.is_closed());
    reloaded(&mut proxy, base.clone());
    goes_on().await;

    // Administrators.
    let console = proxy.dsn(APP, "pgring");
    assert!(psql(&console, "SHOW VERSION").ok);
    reloaded(&mut proxy, base.clone().set("admin", "users", "[]"));
    assert_eq!(login_error(&console).await, "28000");
    reloaded(&mut proxy, base.clone());
    assert!(psql(&console, "SHOW VERSION").ok);

    // Endpoints: the same shard, another address of its server.
    reloaded(&mut proxy, base.clone().replace("127.0.0.1", "localhost"));
    eventually("the new endpoint is probed", || {
        let endpoint = shards[0].address().replace("127.0.0.1", "localhost");
        let label = format!("pgring_endpoint_up{{database=\"{name}\",endpoint=\"{endpoint}\",shard=\"s1\"}}");
        proxy.metric(&label) == Some(1.0)
    });
    assert_eq!(endpoint_up(&proxy, &name, shards[0], "s1"), None, "the old one is not shown any more");
    assert_eq!(ask(&client, &row).await, Ok(user_of(2, 0).to_string()));
}

#[test]
fn a_file_with_errors_changes_nothing_and_every_error_is_logged() {
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let good = Config::new().database(&name, &shards);
    let mut proxy = Proxy::start(good.clone());
    proxy.reload(good.clone().set("pool", "size", "0").set("pool", "sise", "3").set(
        "admin",
        "users",
        "[\"nobody\"]",
    ));
    eventually("the failure shows", || proxy.metric("pgring_config_reload_success") == Some(0.0));
    for error in ["pool.size", "did you mean \"size\"", "\"nobody\" is no [[user]]"] {
        eventually(error, || proxy.log().contains(error));
    }
    assert_eq!(psql(&proxy.dsn(APP, &name), "SELECT 1").expect_ok(), "1\n");
    assert!(psql(&proxy.dsn(APP, "pgring"), "SHOW CONFIG").expect_ok().contains("pool.size|20|"));
    let console = psql(&proxy.dsn(APP, "pgring"), "RELOAD");
    assert!(!console.ok && console.err.contains("pool.size"), "{}", console.err);
    proxy.reload(good);
    eventually("the repair shows", || proxy.metric("pgring_config_reload_success") == Some(1.0));
}

/// Where a thousand keys live: what `SHOW pgring.route` says after reading each.
fn routing(proxy: &Proxy, name: &str) -> Vec<String> {
    let script: String = (1..=1000)
        .map(|id| {
            format!(
                "SELECT 1 WHERE false AND EXISTS (SELECT FROM users WHERE id = {id});\nSHOW pgring.route;\n"
            )
        })
        .collect();
    psql(&proxy.dsn(APP, name), &script).expect_ok().lines().map(str::to_owned).collect()
}

#[test]
fn a_change_that_would_move_rows_waits() {
    let shards = servers(3);
    let (two, name) = (&shards[..2], sample_database(&shards));
    let good = watchful(Config::new().database(&name, two));
    let mut proxy = Proxy::start(good.clone());
    let before = routing(&proxy, &name);
    assert_eq!(before.len(), 1000, "{:?}", &before[..5]);
    let ratio = format!("pgring_ring_pending_moves_ratio{{database=\"{name}\"}}");
    assert_eq!(proxy.metric(&ratio), Some(0.0));
    let added = format!("[[database.shard]]\nname = \"s3\"\nendpoints = [\"{}\"]\n", shards[2].address());
    let key = "key = \"user_id\"\n";
    for (what, changed, least) in [
        ("weight", good.clone().replace("name = \"s2\"\n", "name = \"s2\"\nweight = 3\n"), 0.2),
        ("an added shard", good.clone().append(&added), 0.3),
        ("virtual_nodes", good.clone().replace(key, "key = \"user_id\"\nvirtual_nodes = 100\n"), 0.01),
        ("another name", good.clone().replace("name = \"s2\"", "name = \"s9\""), 0.4),
    ] {
        let warned = proxy.log().matches("It is pending").count();
        proxy.reload(changed);
        eventually("the log says so", || proxy.log().matches("It is pending").count() > warned);
        eventually("the metric says so", || proxy.metric(&ratio).is_some_and(|moves| moves > least));
        let ring = psql(&proxy.dsn(APP, "pgring"), "SHOW RING").expect_ok();
        assert!(
            ring.lines()
                .all(|row| row.rsplit('|').next().is_some_and(|moves| moves.parse::<f64>().unwrap() > least)),
            "{what}: {ring}"
        );
        assert_eq!(routing(&proxy, &name), before, "{what}");
    }
    proxy.reload(good);
    eventually("nothing is pending any more", || proxy.metric(&ratio) == Some(0.0));
    assert_eq!(routing(&proxy, &name), before);
}

#[test]
fn a_table_that_does_not_exist_yet_may_be_configured() {
    let shards = servers(2);
    let name = sample_database(&shards);
    let good = watchful(Config::new().database(&name, &shards));
    let mut proxy = Proxy::start(good.clone());
    let dsn = proxy.dsn(APP, &name);
    let with = |table: &str| {
        let said = format!("[[database.table]]\nname = \"{table}\"\nreference = true\n\n");
        let first = "[[database.shard]]\nname = \"s1\"";
        good.clone().replace(first, &(said + first))
    };
    proxy.reload(with("countries"));
    eventually("the log says so", || proxy.log().contains("tables that do not exist yet is in force"));
    eventually("it is made everywhere", || {
        psql(
            &dsn,
            "DROP TABLE IF EXISTS countries; CREATE TABLE countries (id int);\nINSERT INTO countries VALUES (1)",
        );
        let count = "SELECT count(*) FROM countries";
        shards.iter().all(|server| server.psql(APP, &name, count).is_ok_and(|count| count.trim() == "1"))
    });
    // One that is there has its rows where it has them.
    proxy.reload(with("app_settings"));
    eventually("the log says so", || proxy.log().contains("a table that exists would be sharded otherwise"));
    assert!(!proxy.log().contains("-0.0"), "{}", proxy.log());
    assert!(psql(&dsn, "SELECT count(*) > 0 FROM app_settings").expect_ok().contains('t'));
}

/// Whose rows a new table's are is not known before the schema has been read: until then nobody is told
/// that a row is in, which no key would find again.
#[tokio::test]
async fn a_schema_that_cannot_be_read_is_not_guessed() {
    let servers = servers(3);
    let name = sample_database(&servers);
    let proxy = Proxy::start(Config::new().database(&name, &servers));
    let client = connect(&proxy.dsn(APP, &name)).await;
    assert_eq!(ask(&client, &user_row(1)).await, Ok("1".to_owned()));
    client.batch_execute("CREATE TABLE early (user_id bigint, v int)").await.unwrap();
    let locker = connect(&servers[0].dsn(SUPERUSER, &name)).await;
    locker.batch_execute("BEGIN; LOCK TABLE pg_trigger IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let unread = || Err("57P03".to_owned());
    let create = "CREATE TABLE late (user_id bigint, v int)";
    assert_eq!(ask(&client, create).await, unread());
    assert_eq!(ask(&client, &user_row(1)).await, Ok("1".to_owned()));
    // It is dropped, and whoever makes it again may give it another key.
    client.batch_execute("DROP TABLE early").await.unwrap();
    assert_eq!(ask(&client, &user_row(1)).await, unread());
    // What needs no table goes on.
    client.batch_execute("BEGIN; ROLLBACK").await.unwrap();
    locker.batch_execute("ROLLBACK").await.unwrap();
    eventually_answer(&client, &user_row(1), |answer| *answer == Ok("1".to_owned())).await;
    client.batch_execute(create).await.unwrap();
    for key in 1..=4 {
        client.batch_execute(&format!("INSERT INTO late VALUES ({key}, {key})")).await.unwrap();
        let read = format!("SELECT v FROM late WHERE user_id = {key}");
        assert_eq!(ask(&client, &read).await, Ok(key.to_string()));
    }
}

#[test]
fn a_ring_without_rows_changes_at_once() {
    let shards = servers(3);
    let name = database(&shards, "CREATE TABLE users (id bigint PRIMARY KEY)");
    let two = watchful(Config::new().database(&name, &shards[..2]));
    let three = two.clone().append(&format!(
        "[[database.shard]]\nname = \"s3\"\nendpoints = [\"{}\"]\ntls = \"disable\"\n",
        shards[2].address()
    ));
    let mut proxy = Proxy::start(two);
    let before = routing(&proxy, &name);
    proxy.reload(three);
    eventually("the log says so", || proxy.log().contains("the new ring is in force"));
    let ring = || psql(&proxy.dsn(APP, "pgring"), "SHOW RING").expect_ok();
    eventually("it is stored", || stored(&shards, &name).iter().all(|text| text.contains("nodes\ts3\t1024")));
    eventually("all three shards are on the ring", || ring().lines().count() == 3);
    let after = routing(&proxy, &name);
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).collect::<Vec<_>>();
    assert!(moved.iter().all(|(_, after)| after.contains("s3")), "keys move to the new shard only");
    assert!((250..420).contains(&moved.len()), "{}", moved.len());
}

/// What `pgring check --connect` prints of a configuration.
fn checked(config: &Config) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pgring.toml");
    std::fs::write(&file, config.to_toml()).unwrap();
    let command = [env!("CARGO_BIN_EXE_pgring"), "check", "--connect", "--config"];
    let output = std::process::Command::new(command[0]).args(&command[1..]).arg(file).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until every server knows which shard it is.
fn named(shards: &[&Cluster], name: &str) {
    let own = "SELECT n.shard FROM pgring.shard JOIN pgring.shard_number n USING (number)";
    for (number, server) in (1..).zip(shards) {
        eventually("it has its name", || {
            server.psql(CONTROL, name, own).is_ok_and(|own| own.trim() == format!("s{number}"))
        });
    }
}

#[test]
fn a_server_that_says_it_is_another_shard_is_not_used() {
    let shards = servers(3);
    let name = sample_database(&shards);
    let good = watchful(Config::new().database(&name, &shards));
    let exchanged = watchful(Config::new().database(&name, &[shards[1], shards[0], shards[2]]));
    let mut proxy = Proxy::start(good.clone());
    named(&shards, &name);
    assert!(!checked(&good).contains("says that it is shard"));
    let (first, third) = (user_of(3, 0), user_of(3, 2));
    let row = |proxy: &Proxy, id: i64| psql(&proxy.dsn(APP, &name), &user_row(id));
    assert_eq!(row(&proxy, first).expect_ok().trim(), first.to_string());
    let words = |says: &str, expected: &str| {
        format!(
            "says that it is shard \"{says}\" (table pgring.shard), and the file has it as shard \"{expected}\""
        )
    };
    let is_refused = |proxy: &Proxy| {
        eventually("no server is used as the wrong shard", || {
            let (code, reasons) = proxy.get("/readyz");
            code == 503 && reasons.contains(&words("s2", "s1")) && reasons.contains(&words("s1", "s2"))
        });
        assert!(proxy.log().contains(&words("s2", "s1")), "{}", proxy.log());
        let shown = psql(&proxy.dsn(APP, "pgring"), "SHOW SHARDS").expect_ok();
        assert!(shown.contains(&words("s1", "s2")), "{shown}");
        let refused = row(proxy, first);
        assert!(
            !refused.ok && refused.err.contains("shard \"s1\" has no healthy primary"),
            "{}",
            refused.err
        );
        assert_eq!(row(proxy, third).expect_ok().trim(), third.to_string());
    };
    let at = |server: &Cluster| format!("{:?}", [server.address()]);
    let swapped = good.clone().replace(&at(shards[0]), "[\"…\"]").replace(&at(shards[1]), &at(shards[0]));
    proxy.reload(swapped.replace("[\"…\"]", &at(shards[1])));
    is_refused(&proxy);
    proxy.reload(good.clone());
    eventually("the right servers are used again", || row(&proxy, first).ok && proxy.get("/readyz").0 == 200);
    assert!(proxy.stop().success());
    // At the start as well, and whoever only looks.
    let proxy = Proxy::start_unready(exchanged.clone());
    is_refused(&proxy);
    let printed = checked(&exchanged);
    assert!(printed.contains(&words("s2", "s1")) && printed.contains(&words("s1", "s2")), "{printed}");
    // A database's only shard may be anybody's.
    let direct = watchful(Config::new().database(&name, &shards[1..2]));
    let direct = Proxy::start(direct);
    assert!(psql(&direct.dsn(APP, &name), "SELECT count(*) FROM users").ok);
    // Who forgets what it is is what the file says.
    for server in &shards[..2] {
        server.psql(CONTROL, &name, "DELETE FROM pgring.shard").unwrap();
    }
    eventually("both are taken as they are named", || proxy.get("/readyz").0 == 200);
}

/// What the servers have stored of the placement of rows.
fn stored(shards: &[&Cluster], name: &str) -> Vec<String> {
    let ask = |server: &&Cluster| server.psql(CONTROL, name, "SELECT text FROM pgring.placement");
    shards.iter().map(|server| ask(server).unwrap_or_default()).collect()
}

#[test]
fn a_placement_changed_while_nothing_runs_is_refused() {
    let shards = servers(3);
    let (two, name) = (&shards[..2], sample_database(&shards));
    let good = watchful(Config::new().database(&name, two));
    let proxy = Proxy::start(good.clone());
    eventually("both have stored it", || {
        stored(two, &name).iter().all(|text| text.contains("nodes\ts2\t1024"))
    });
    assert!(proxy.stop().success());
    // The same again is no change, nor is another spelling of it.
    let key = "key = \"user_id\"\n";
    let spelt = good.clone().replace(key, "key = \"user_id\"\nhome = \"s1\"\nvirtual_nodes = 1024\n");
    assert!(Proxy::start(spelt).stop().success());
    let added = format!("[[database.shard]]\nname = \"s3\"\nendpoints = [\"{}\"]\n", shards[2].address());
    for (changed, was, is) in [
        (
            good.clone().replace(key, "key = \"user_id\"\nvirtual_nodes = 512\n"),
            "nodes s1 1024",
            "nodes s1 512",
        ),
        (good.clone().replace(key, "key = \"user_id\"\nhome = \"s2\"\n"), "home s1", "home s2"),
        (good.clone().replace("reference = true", "key = \"id\""), "plans reference", "plans key id"),
        (good.clone().append(&added), "\"\"", "nodes s3 1024"),
    ] {
        let proxy = Proxy::start_unready(changed.clone());
        eventually("it is not ready and says why", || {
            let (code, reasons) = proxy.get("/readyz");
            code == 503 && [was, is, "placed otherwise"].iter().all(|word| reasons.contains(word))
        });
        let three = is.contains("s3");
        eventually("no shard is served", || {
            let shown = psql(&proxy.dsn(APP, "pgring"), "SHOW SHARDS").expect_ok();
            shown.lines().count() == if three { 3 } else { 2 }
                && shown.lines().all(|line| line.contains("placed otherwise"))
        });
        for id in 1..20 {
            assert!(!psql(&proxy.dsn(APP, &name), &user_row(id)).ok, "{is}");
        }
        assert!(proxy.log().contains("delete the row of pgring.placement"), "{}", proxy.log());
        let printed = checked(&changed);
        assert!([was, is].iter().all(|word| printed.contains(word)), "{printed}");
    }
    assert!(!checked(&good).contains("placed otherwise"));
    // What moves no rows: a table that is not there yet.
    let first = "[[database.shard]]\nname = \"s1\"";
    let table = "[[database.table]]\nname = \"countries\"\nreference = true\n\n";
    let more = good.clone().replace(first, &format!("{table}{first}"));
    assert!(Proxy::start(more).stop().success());
    assert!(stored(two, &name).iter().all(|text| text.contains("table\tcountries\treference")));
    // And who knows better.
    let proxy = Proxy::start_unready(good.replace(key, "key = \"user_id\"\nvirtual_nodes = 512\n"));
    for server in two {
        server.psql(CONTROL, &name, "DELETE FROM pgring.placement").unwrap();
    }
    eventually("the file's is in force", || proxy.get("/readyz").0 == 200);
    eventually("and stored", || stored(two, &name).iter().all(|text| text.contains("nodes\ts1\t512")));
}

#[test]
fn shards_without_rows_take_up_another_placement_at_the_start() {
    let shards = servers(2);
    let name = database(&shards, "CREATE TABLE users (id bigint PRIMARY KEY)");
    let good = watchful(Config::new().database(&name, &shards));
    let proxy = Proxy::start(good.clone());
    named(&shards, &name);
    eventually("it is stored", || stored(&shards, &name).iter().all(|text| text.contains("s2")));
    assert!(proxy.stop().success());
    let renamed = good.replace("name = \"s2\"", "name = \"s9\"\nweight = 2");
    let proxy = Proxy::start(renamed);
    assert!(stored(&shards, &name).iter().all(|text| text.contains("nodes\ts9\t2048")));
    assert!(proxy.log().contains("the file moves no rows"), "{}", proxy.log());
    assert!(psql(&proxy.dsn(APP, &name), "SELECT count(*) FROM users").ok);
}

#[test]
fn who_may_not_store_a_placement_serves_all_the_same() {
    let shards = servers(2);
    let name = sample_database(&shards);
    for server in &shards {
        server
            .psql(SUPERUSER, &name, "CREATE ROLE onlooker LOGIN PASSWORD 'looks' IN ROLE pg_monitor")
            .unwrap();
    }
    let good = watchful(Config::new().database(&name, &shards)).set("control", "user", "\"onlooker\"").set(
        "control",
        "password",
        "\"looks\"",
    );
    let proxy = Proxy::start(good.clone());
    eventually("it says so", || {
        proxy.log().contains("the placement of rows cannot be stored on every shard")
    });
    assert!(psql(&proxy.dsn(APP, &name), "SELECT count(*) FROM users").ok);
    assert!(proxy.stop().success());
    // It compares all the same.
    let text = "CREATE SCHEMA pgring; CREATE TABLE pgring.placement (text text); \
                INSERT INTO pgring.placement VALUES ('by hand'); \
                GRANT USAGE ON SCHEMA pgring TO onlooker; GRANT SELECT ON pgring.placement TO onlooker";
    shards[0].psql(SUPERUSER, &name, text).unwrap();
    let proxy = Proxy::start_unready(good);
    eventually("it compares", || proxy.get("/readyz").1.contains("by hand"));
    assert!(!psql(&proxy.dsn(APP, &name), "SELECT count(*) FROM users").ok);
}

fn refused(proxy: &Proxy) -> bool {
    TcpStream::connect(proxy.address()).is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_transactions_finish_and_turns_all_others_away() {
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let mut proxy = Proxy::start(Config::new().database(&name, &shards));
    let working = connect(&proxy.dsn(APP, &name)).await;
    let (idle, idle_connection) =
        tokio_postgres::connect(&proxy.dsn(APP, &name), tokio_postgres::NoTls).await.unwrap();
    ask(&working, "BEGIN").await.unwrap();
    ask(&working, "INSERT INTO t VALUES (1)").await.unwrap();
    ask(&working, "SELECT 1").await.unwrap();

    proxy.signal(Signal::SIGTERM);
    let goodbye = idle_connection.await.unwrap_err();
    assert_eq!(told(&goodbye), "57P01", "an idle client is told why");
    drop(idle);
    eventually("no new connection is taken", || refused(&proxy));
    assert_eq!(proxy.get("/readyz"), (503, "shutting down\n".to_owned()));
    assert_eq!(proxy.get("/healthz").0, 200);

    ask(&working, "INSERT INTO t VALUES (2)").await.unwrap();
    assert_eq!(ask(&working, "COMMIT").await, Ok(String::new()));
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
    let rows = shards[0].psql(APP, &name, "SELECT count(*) FROM t").unwrap();
    assert_eq!(rows.trim(), "2", "what was acknowledged is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_left_open_ends_with_drain_timeout() {
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let config = Config::new().database(&name, &shards).set("listen", "drain_timeout", "\"300ms\"");
    let mut proxy = Proxy::start(config);
    let client = connect(&proxy.dsn(APP, &name)).await;
    ask(&client, "BEGIN").await.unwrap();
    ask(&client, "INSERT INTO t VALUES (1)").await.unwrap();
    proxy.signal(Signal::SIGTERM);
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(proxy.log().contains("the drain_timeout is over"), "{}", proxy.log());
    eventually("it is rolled back", || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()";
        shards[0].psql(APP, &name, open).unwrap().trim() == "0"
    });
    assert_eq!(shards[0].psql(APP, &name, "SELECT count(*) FROM t").unwrap().trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_waits_for_nobody() {
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let config = Config::new().database(&name, &shards).set("listen", "drain_timeout", "\"1h\"");
    let mut proxy = Proxy::start(config.clone());
    let client = connect(&proxy.dsn(APP, &name)).await;
    ask(&client, "BEGIN; SELECT 1").await.unwrap();
    proxy.signal(Signal::SIGINT);
    assert_eq!(proxy.wait().code(), Some(0));

    // And while it drains.
    let mut proxy = Proxy::start(config);
    let client = connect(&proxy.dsn(APP, &name)).await;
    ask(&client, "BEGIN; SELECT 1").await.unwrap();
    proxy.signal(Signal::SIGTERM);
    eventually("it drains", || proxy.log().contains("draining"));
    proxy.signal(Signal::SIGINT);
    assert_eq!(proxy.wait().code(), Some(0));
}

/// Names of series, without their values.
fn series(page: &str) -> Vec<String> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happens_and_grow_with_the_configuration_only() {
    let shards = servers(2);
    let name = sample_database(&shards);
    let proxy = Proxy::start(watchful(Config::new().database(&name, &shards)));
    let client = connect(&proxy.dsn(APP, &name)).await;
    let idle = connect(&proxy.dsn(APP, &name)).await;
    let script = [
        (user_row(1), Ok("1".to_owned())),
        (user_row(2), Ok("2".to_owned())),
        ("SELECT count(*) FROM plans".to_owned(), Ok("3".to_owned())),
        ("SELECT count(*) > 0 FROM app_settings".to_owned(), Ok("t".to_owned())),
        ("SELECT count(*) FROM users".to_owned(), Ok("600".to_owned())),
        ("UPDATE users SET id = 4 WHERE id = 3".to_owned(), Err("0A000".to_owned())),
    ];
    for (sql, expect) in &script {
        assert_eq!(&ask(&client, sql).await, expect, "{sql}");
    }
    ask(&client, "BEGIN").await.unwrap();
    ask(&client, &user_row(1)).await.unwrap();
    let (_, page) = proxy.get("/metrics");
    for (sample, expect) in [
        ("pgring_clients{state=\"active\"}", 1.0),
        ("pgring_clients{state=\"idle\"}", 1.0),
        ("pgring_clients{state=\"waiting\"}", 0.0),
        ("pgring_routes_total{route=\"single\"}", 3.0),
        ("pgring_routes_total{route=\"subset\"}", 0.0),
        ("pgring_routes_total{route=\"all\"}", 1.0),
        ("pgring_routes_total{route=\"home\"}", 1.0),
        ("pgring_routes_total{route=\"reference\"}", 1.0),
        ("pgring_routes_total{route=\"refused\"}", 1.0),
        ("pgring_plan_cache_total{result=\"hit\"}", 2.0),
        ("pgring_transactions_total{kind=\"single\"}", 4.0),
        ("pgring_transactions_total{kind=\"multi-read\"}", 1.0),
        ("pgring_transactions_total{kind=\"two-phase\"}", 0.0),
        ("pgring_two_phase_total{outcome=\"committed\"}", 0.0),
        ("pgring_two_phase_in_doubt", 0.0),
        ("pgring_two_phase_oldest_seconds", 0.0),
        ("pgring_config_reload_success", 1.0),
    ] {
        assert_eq!(proxy.metric(sample), Some(expect), "{sample} in\n{page}");
    }
    for sample in ["pgring_config_reload_timestamp_seconds", "pgring_pool_wait_seconds_count"] {
        assert!(proxy.metric(sample).is_some_and(|value| value > 0.0), "{sample} in\n{page}");
    }
    let sum = |start: &str, has: &str| -> f64 {
        let lines = page.lines().filter(|line| line.starts_with(start) && line.contains(has));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    assert_eq!(sum("pgring_servers{", "state=\"active\""), 1.0, "{page}");
    assert!(sum("pgring_servers{", "state=\"idle\"") >= 1.0, "{page}");
    assert_eq!(sum("pgring_endpoint_up{", &name), 2.0, "{page}");
    assert!((sum("pgring_ring_share{", &name) - 1.0).abs() < 0.001, "{page}");
    assert!(sum("pgring_query_seconds_count{", "kind=\"read\"") >= 5.0, "{page}");
    assert!(page.contains("# TYPE pgring_replica_lag_seconds") || !page.contains("replica_lag"), "{page}");
    ask(&client, "COMMIT").await.unwrap();

    let before = series(&proxy.get("/metrics").1);
    for number in 0..500 {
        let sql = format!("SELECT id AS column_{number} FROM users WHERE id = {number}");
        ask(&idle, &sql).await.unwrap();
    }
    assert_eq!(series(&proxy.get("/metrics").1), before);
}

#[test]
fn logs_are_json_when_asked_for_and_hold_no_secret() {
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let config = watchful(Config::new())
        .append("[[user]]\nname = \"other\"\npassword = \"hush-hush\"\nserver_password = \"wrong-secret\"\n")
        .append("[[user]]\nname = \"another\"\npassword = \"app\"\nserver_password = \"wrong-secret\"\n")
        .database(&name, &shards);
    let environment = [("PGRING_LOG_FORMAT", "json"), ("PGRING_LOG", "trace")];
    let mut proxy = Proxy::spawn(config.clone(), &environment);
    eventually("it listens", || !refused(&proxy));
    for login in [
        Login { name: "other", password: "hush-hush" },
        Login { name: "other", password: "mistyped-secret" },
        Login { name: "nobody", password: "mistyped-secret" },
        APP,
    ] {
        psql_with(&proxy.dsn(login, &name), &["-c", "SELECT 1"], "");
    }
    proxy.reload(config.set("pool", "sise", "7"));
    eventually("the reload has failed", || proxy.metric("pgring_config_reload_success") == Some(0.0));
    proxy.signal(Signal::SIGTERM);
    proxy.wait();
    let log = proxy.log();
    // What the shell says that watches over the process is not pgring's.
    for line in log.lines().filter(|line| *line != "Terminated") {
        let end = line.len();
        assert!(line.starts_with("{\"timestamp\":\"") && line[end - 1..].starts_with('}'), "{line}");
        assert!(line.contains("\"level\":\"") && line.contains("\"message\":\""), "{line}");
    }
    for secret in ["hush-hush", "wrong-secret", "mistyped-secret"] {
        assert!(!log.contains(secret), "the log has {secret}");
    }
    assert!(log.contains("login failed"), "{log}");
}

/// Reloads, and waits until it has been done.
fn reload(proxy: &mut Proxy, config: Config) {
    let count = |proxy: &Proxy| proxy.log().matches("configuration reloaded").count();
    let before = count(proxy);
    proxy.reload(config);
    eventually("the reload is done", || count(proxy) > before);
}

/// What pgring does by itself on the shards it does as the file says now.
#[test]
fn a_reload_changes_the_control_roles_password_everywhere() {
    let shards = own_servers(2);
    let shards: Vec<&Cluster> = shards.iter().collect();
    let name = sample_database(&shards);
    let base = watchful(Config::new().database(&name, &shards));
    let mut proxy = Proxy::start(base.clone());
    // Who has been here keeps nothing alive.
    psql(&proxy.dsn(APP, &name), &user_row(1)).expect_ok();
    for shard in &shards {
        shard.psql(SUPERUSER, "postgres", "ALTER ROLE pgring PASSWORD 'another'").unwrap();
    }
    let before = shards[0].psql(SUPERUSER, "postgres", "SELECT clock_timestamp()").unwrap();
    reload(&mut proxy, base.set("control", "password", "\"another\""));
    let left = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'pgring' AND backend_start < '{}'",
        before.trim()
    );
    eventually_within(Duration::from_secs(30), "nothing goes on that has the old password", || {
        shards.iter().all(|shard| shard.psql(SUPERUSER, "postgres", &left).unwrap().trim() == "0")
    });
    let from = proxy.log().len();
    for shard in &shards {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pgring'";
        shard.psql(SUPERUSER, "postgres", end).unwrap();
        let table = "CREATE TABLE late (user_id bigint PRIMARY KEY)";
        shard.psql(APP, &name, table).unwrap();
    }
    let proxy = &proxy;
    let route = || {
        let script =
            format!("SELECT count(*) FROM late WHERE user_id = {};\nSHOW pgring.route;", user_of(2, 1));
        psql(&proxy.dsn(APP, &name), &script).out
    };
    eventually("the schema is read again", || route().contains("s2"));
    // Who recovers has had to connect again as well.
    std::thread::sleep(Duration::from_secs(3));
    let log = proxy.log();
    assert!(!log[from..].contains("password authentication failed"), "{}", &log[from..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_pool_is_first_of_all_for_those_who_wait() {
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let config = watchful(Config::new()).database(&name, &shards).set("pool", "checkout_timeout", "\"8s\"");
    let mut proxy = Proxy::start(config.clone().set("pool", "size", "1"));
    let holder = connect(&proxy.dsn(APP, &name)).await;
    ask(&holder, "BEGIN").await.unwrap();
    ask(&holder, "SELECT count(*) FROM t").await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let client = connect(&proxy.dsn(APP, &name)).await;
        waiting.push(tokio::spawn(async move {
            ask(&client, "SELECT 'served' FROM (SELECT count(*) FROM t) t").await
        }));
    }
    eventually("they wait", || proxy.metric("pgring_clients{state=\"waiting\"}") == Some(3.0));
    let began = Instant::now();
    reload(&mut proxy, config.set("pool", "size", "5"));
    for client in waiting {
        assert_eq!(client.await.unwrap(), Ok("served".to_owned()));
    }
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    ask(&holder, "COMMIT").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_is_open_when_all_places_are_taken() {
    let shards = servers(1);
    let name = database(&shards, "");
    let other = "[[user]]\nname = \"other\"\npassword = \"other\"\n";
    let config = Config::new().database(&name, &shards).append(other).set("listen", "max_clients", "1");
    let proxy = Proxy::start(config);
    let _only = connect(&proxy.dsn(APP, &name)).await;
    assert_eq!(login_error(&proxy.dsn(APP, &name)).await, "53300");
    assert!(psql(&proxy.dsn(APP, "pgring"), "SHOW CLIENTS").expect_ok().contains(&name));
    // Nobody else, and not without end: nobody has proven yet who they are.
    let stranger = Login { name: "other", password: "other" };
    assert_eq!(login_error(&proxy.dsn(stranger, "pgring")).await, "53300");
    let mut operators = Vec::new();
    let refused = loop {
        match tokio_postgres::connect(&proxy.dsn(APP, "pgring"), tokio_postgres::NoTls).await {
            Ok(operator) => operators.push(operator),
            Err(error) => break told(&error),
        }
        assert!(operators.len() < 50);
    };
    // The one that has just left may not have gone yet.
    assert!(refused == "53300" && (9..=10).contains(&operators.len()), "{refused} {}", operators.len());
}

/// It would have the server kept for it for as long as it stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_gone_is_not_served_on_a_server_that_was_kept_either() {
    let shards = servers(1);
    let name = database(&shards, "CREATE TABLE t (id bigint)");
    let base = Config::new().database(&name, &shards);
    let with = base.clone().append("[[user]]\nname = \"leaver\"\npassword = \"leaver\"\n");
    shards[0].psql(SUPERUSER, "postgres", "CREATE ROLE leaver LOGIN PASSWORD 'leaver'").unwrap();
    let mut proxy = Proxy::start(with);
    let leaver = Login { name: "leaver", password: "leaver" };
    let pinned = connect(&proxy.dsn(leaver, &name)).await;
    let inside = connect(&proxy.dsn(leaver, &name)).await;
    for client in [&pinned, &inside] {
        ask(client, "SELECT pg_advisory_lock_shared(77)").await.unwrap();
    }
    ask(&inside, "BEGIN").await.unwrap();
    reload(&mut proxy, base);
    assert_eq!(ask(&pinned, "SELECT 1").await, Err("57P01".to_owned()));
    assert_eq!(ask(&inside, "SELECT 1").await, Ok("1".to_owned()), "a transaction comes to its end");
    ask(&inside, "COMMIT").await.unwrap();
    assert_eq!(ask(&inside, "SELECT 1").await, Err("57P01".to_owned()));
    let kept = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77";
    eventually("no server is kept", || shards[0].psql(SUPERUSER, &name, kept).unwrap().trim() == "0");
}

/// What a client is told is what somebody has to look for.
#[test]
fn there_being_no_connection_has_different_reasons() {
    let shards = servers(1);
    let name = database(&shards, "");
    for role in ["few", "limited"] {
        shards[0]
            .psql(SUPERUSER, "postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD '{role}'"))
            .unwrap();
    }
    shards[0].psql(SUPERUSER, "postgres", "ALTER ROLE limited CONNECTION LIMIT 1").unwrap();
    let user = |name: &str| format!("[[user]]\nname = \"{name}\"\npassword = \"{name}\"\n");
    let config = Config::new().database(&name, &shards).append(&user("few")).append(&user("limited"));
    let config = config.set("pool", "checkout_timeout", "\"1500ms\"").set("pool", "size", "2");
    let proxy = Proxy::start(config);
    for (role, expect) in [
        ("few", "no server connection became free within checkout_timeout (1.5s)"),
        ("limited", "role \"limited\" has no connections left on shard \"s1\""),
    ] {
        let login = || Raw::login(&proxy.address(), Login { name: role, password: role }, &name);
        let mut holders: Vec<Raw> = (0..if role == "few" { 2 } else { 1 }).map(|_| login()).collect();
        for holder in &mut holders {
            holder.query("BEGIN");
            holder.query("SELECT 1");
        }
        let frames = login().query("SELECT 1");
        let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
        assert_eq!(error.code(), "53300");
        let message = error.field(b'M').unwrap();
        assert!(message.starts_with(expect), "{message}");
    }
}

/// It serves all the same: a client that does not check goes on.
#[test]
fn a_certificate_that_has_expired_is_told_of() {
    let shards = servers(1);
    let name = database(&shards, "");
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let config = Config::new()
        .database(&name, &shards)
        .set("listen", "tls", "\"allow\"")
        .set("listen", "tls_certificate", &format!("{:?}", at("server.crt")))
        .set("listen", "tls_key", &format!("{:?}", at("server.key")));
    let make = |until: i32| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        std::fs::write(at("server.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(at("server.key"), key.serialize_pem()).unwrap();
    };
    make(2999);
    let mut proxy = Proxy::start(config.clone());
    assert!(!proxy.log().contains("server.crt"), "{}", proxy.log());
    make(2002);
    reload(&mut proxy, config);
    let log = proxy.log();
    let line = log.lines().find(|line| line.contains("server.crt: the certificate has expired ("));
    assert!(line.is_some_and(|line| line.contains("WARN")), "{log}");
    let dsn = format!("{}?sslmode=require", proxy.dsn(APP, &name));
    assert_eq!(psql(&dsn, "SELECT 1").expect_ok(), "1\n");
}
