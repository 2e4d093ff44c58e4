//! The console: the database `pgring`, to psql and to drivers.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

use pgring::admin::COMMANDS;
use pgring::demo::cluster::Login;
use pgring::demo::sample::APP;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

mod support;

#[path = "console/pause.rs"]
mod pause;
#[path = "console/protocol.rs"]
mod protocol;

use support::{Config, Proxy, connect, database, eventually, psql, sample_database, servers};

const MONITOR: Login<'static> = Login { name: "monitor", password: "watching" };
const NEITHER: Login<'static> = Login { name: "neither", password: "nothing" };

fn config() -> Config {
    ["monitor\"\npassword = \"watching", "neither\"\npassword = \"nothing"]
        .iter()
        .fold(Config::new(), |config, user| config.append(&format!("[[user]]\nname = \"{user}\"\n")))
        .set("admin", "stats_users", "[\"monitor\"]")
}

fn shows() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|info| info.name).filter(|name| name.starts_with("SHOW "))
}

async fn code(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(_) => "00000".to_owned(),
        Err(error) => error.as_db_error().map_or_else(|| error.to_string(), |e| e.code().code().to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_show_answers_alike_under_both_protocols() {
    let shards = servers(2);
    let name = sample_database(&shards);
    let proxy = Proxy::start(config().database(&name, &shards));
    psql(&proxy.dsn(APP, &name), "SELECT id FROM users WHERE id = 7").expect_ok();
    let client = connect(&proxy.dsn(MONITOR, "pgring")).await;
    for show in shows() {
        let prepared = client.prepare(show).await.unwrap();
        let columns: Vec<&str> = prepared.columns().iter().map(|column| column.name()).collect();
        assert!(!columns.is_empty(), "{show}");
        let described = client.simple_query(show).await.unwrap();
        let simple = described.iter().find_map(|message| match message {
            SimpleQueryMessage::RowDescription(columns) => {
                Some(columns.iter().map(|column| column.name().to_owned()).collect::<Vec<_>>())
            }
            _ => None,
        });
        assert_eq!(simple.unwrap(), columns, "{show}");
        assert!(psql(&proxy.dsn(MONITOR, "pgring"), show).ok, "{show}");
        // Values arrive in the types that were described, in the format the driver asked for.
        for row in client.query(&prepared, &[]).await.unwrap() {
            for (at, column) in row.columns().iter().enumerate() {
                let read = match column.type_().name() {
                    "int4" => row.try_get::<_, Option<i32>>(at).map(drop),
                    "int8" => row.try_get::<_, Option<i64>>(at).map(drop),
                    // tokio-postgres has no type for it.
                    "numeric" => Ok(()),
                    _ => row.try_get::<_, Option<&str>>(at).map(drop),
                };
                assert!(read.is_ok(), "{show}: column {} of type {}", column.name(), column.type_());
            }
        }
    }
}

#[test]
fn the_shows_have_what_is_there() {
    let shards = servers(2);
    let name = sample_database(&shards);
    let proxy = Proxy::start(config().database(&name, &shards));
    psql(&proxy.dsn(APP, &name), "SELECT id FROM users WHERE id = 7").expect_ok();
    let show = |what: &str| psql(&proxy.dsn(APP, "pgring"), &format!("SHOW {what}")).expect_ok();
    for (what, expected) in [
        ("CLIENTS", "C|app|pgring|"),
        ("SERVERS", &*format!("S|app|{name}|")),
        ("POOLS", &*format!("{name}|app|")),
        ("SHARD_POOLS", &*format!("{name}|app|s")),
        ("SHARDS", &*format!("{name}|s2|{}|primary|yes|", shards[1].address())),
        ("RING", &*format!("{name}|s1|1|1024|0.5")),
        ("STATS", &*format!("{name}|")),
        ("ROUTES", "single|1"),
        ("DATABASES", &*format!("{name}|")),
        ("USERS", "monitor|"),
        ("CONFIG", "pool.size|20|20|yes"),
        ("VERSION", "pgring "),
        ("HELP", "RECONNECT [database]|"),
        ("STATE", "active|yes"),
    ] {
        assert!(show(what).contains(expected), "SHOW {what} has no {expected:?}:\n{}", show(what));
    }
    let passwords = show("CONFIG") + &show("USERS");
    assert!(!passwords.contains("watching") && !passwords.contains("nothing"), "{passwords}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_do_what() {
    let shards = servers(1);
    let name = database(&shards, "");
    let proxy = Proxy::start(config().database(&name, &shards));
    let monitor = connect(&proxy.dsn(MONITOR, "pgring")).await;
    for info in COMMANDS {
        let argument = if info.name == "KILL_CLIENT" { " 7" } else { "" };
        let expect = if info.name.starts_with("SHOW ") { "00000" } else { "42501" };
        assert_eq!(code(&monitor, &format!("{}{argument}", info.name)).await, expect, "{}", info.name);
    }
    let Err(error) = tokio_postgres::connect(&proxy.dsn(NEITHER, "pgring"), NoTls).await else {
        panic!("a user without rights was let in")
    };
    assert_eq!(error.as_db_error().unwrap().code().code(), "28000");
    let refused = psql(&proxy.dsn(APP, "pgring"), "SHOW NONSENSE");
    assert!(refused.err.contains("HINT:  SHOW HELP lists"), "{}", refused.err);
    let admin = connect(&proxy.dsn(APP, "pgring")).await;
    for (sql, expect) in [
        ("SHOW NONSENSE", "42601"),
        ("SELECT * FROM pg_class", "42601"),
        ("SELECT pg_catalog.version()", "00000"),
        ("SET pool.size = 3", "0A000"),
        ("BEGIN; ROLLBACK", "00000"),
        ("SHOW FDS", "0A000"),
        ("SUSPEND", "0A000"),
        ("KILL_CLIENT x", "42601"),
        ("RECONNECT nowhere", "3D000"),
        ("SELECT 1", "00000"),
        ("", "00000"),
        ("RELOAD", "00000"),
    ] {
        assert_eq!(code(&admin, sql).await, expect, "{sql}");
    }
}

async fn backend(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnect_replaces_servers_and_clients_notice_nothing() {
    let shards = servers(1);
    let name = database(&shards, "");
    let proxy = Proxy::start(config().database(&name, &shards));
    let (client, admin) = (connect(&proxy.dsn(APP, &name)).await, connect(&proxy.dsn(APP, "pgring")).await);
    let before = backend(&client).await;
    assert_eq!(backend(&client).await, before, "one connection serves");
    client.batch_execute("BEGIN").await.unwrap();
    let inside = backend(&client).await;
    admin.batch_execute(&format!("RECONNECT {name}")).await.unwrap();
    assert_eq!(backend(&client).await, inside, "a transaction keeps its server");
    client.batch_execute("COMMIT").await.unwrap();
    assert_ne!(backend(&client).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_client_ends_one() {
    let shards = servers(1);
    let name = database(&shards, "");
    let proxy = Proxy::start(config().database(&name, &shards));
    let admin = connect(&proxy.dsn(APP, "pgring")).await;
    let (victim, connection) =
        tokio_postgres::connect(&proxy.dsn(APP, &format!("{name}?application_name=victim")), NoTls)
            .await
            .unwrap();
    let victims = tokio::spawn(connection);
    let other = connect(&proxy.dsn(APP, &name)).await;
    victim.batch_execute("SELECT 1").await.unwrap();
    let clients = psql(&proxy.dsn(APP, "pgring"), "SHOW CLIENTS").expect_ok();
    let heading = admin.prepare("SHOW CLIENTS").await.unwrap();
    let at = |name: &str| heading.columns().iter().position(|column| column.name() == name).unwrap();
    let row = clients.lines().find(|row| row.contains("victim")).unwrap();
    let id = row.split('|').nth(at("id")).unwrap();
    assert_eq!(code(&admin, &format!("KILL_CLIENT {id}")).await, "00000");
    let told = victims.await.unwrap().unwrap_err();
    assert_eq!(told.as_db_error().unwrap().code().code(), "57P01");
    other.batch_execute("SELECT 1").await.unwrap();
    assert_eq!(code(&admin, &format!("KILL_CLIENT {id}")).await, "42704", "it is gone");
    assert_eq!(code(&admin, "SHOW STATE").await, "00000");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_the_process() {
    let shards = servers(1);
    let name = database(&shards, "");
    for (command, finishes) in [("SHUTDOWN", false), ("SHUTDOWN WAIT_FOR_SERVERS", true)] {
        let mut proxy = Proxy::start(config().database(&name, &shards));
        let client = connect(&proxy.dsn(APP, &name)).await;
        client.batch_execute("BEGIN; SELECT 1").await.unwrap();
        let admin = connect(&proxy.dsn(APP, "pgring")).await;
        assert_eq!(code(&admin, command).await, "00000", "{command} is acknowledged");
        if finishes {
            eventually("it drains", || proxy.log().contains("draining"));
            client.batch_execute("COMMIT").await.unwrap();
        }
        assert_eq!(proxy.wait().code(), Some(0), "{command}");
    }
}

#[test]
fn a_python_driver_may_use_it() {
    let shards = servers(1);
    let name = database(&shards, "");
    let proxy = Proxy::start(config().database(&name, &shards));
    let printed = support::python("console.py", &[&proxy.dsn(APP, "pgring")]).expect_ok();
    assert_eq!(printed.lines().count(), shows().count(), "{printed}");
}

/// With the options that each has by default, and whatever it asks when it connects.
#[test]
fn drivers_of_other_languages_may_use_it() {
    let shards = servers(1);
    let name = database(&shards, "");
    let proxy = Proxy::start(config().database(&name, &shards));
    let printed = support::node("console.js", &[&proxy.dsn(APP, "pgring")]).expect_ok();
    assert_eq!(printed, "postgres.js 4\nnode-postgres 4\n");
}
