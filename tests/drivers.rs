//! Programs and drivers as people use them.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

use std::sync::LazyLock;

use futures_util::{SinkExt, StreamExt};
use pgring::demo::account::Account;
use pgring::demo::binaries::Binaries;
use pgring::demo::sample::APP;
use pgring::ring::Key;
use support::{Config, Proxy, psql, psql_with, python};
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, NoTls};

struct Stage {
    proxy: Proxy,
    name: String,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let servers = support::servers(3);
    let name = support::sample_database(&servers);
    Stage { proxy: Proxy::start(Config::new().database(&name, &servers)), name }
});

fn dsn() -> String {
    STAGE.proxy.dsn(APP, &STAGE.name)
}

#[test]
fn psql_describes_the_schema() {
    for (command, expect) in [
        ("\\d", "job_executions"),
        ("\\dt", "app_settings"),
        ("\\dt+ users", "users"),
        ("\\d users", "idx_users_email_active"),
        ("\\d+ jobs", "FOREIGN KEY (user_id) REFERENCES users(id)"),
        ("\\d app_settings", "app_settings_pkey"),
        ("\\di", "idx_jobs_user_id_status"),
        ("\\ds", "jobs_id_seq"),
        ("\\dn", "public"),
        ("\\l", STAGE.name.as_str()),
        ("\\du", "app"),
        ("\\df", ""),
        ("\\dv", ""),
        ("\\dp users", "users"),
        ("\\conninfo", STAGE.name.as_str()),
        ("\\encoding", "UTF8"),
        ("\\sf pg_catalog.lower(text)", "lower"),
    ] {
        let printed = psql_with(&dsn(), &["-v", "ON_ERROR_STOP=1", "-c", command], "");
        assert!(printed.ok && printed.out.contains(expect), "{command}: {printed:?}");
        assert!(!printed.err.contains("ERROR"), "{command}: {printed:?}");
    }
}

/// The queries of psql 15's tab completion.
#[test]
fn psql_completes_names() {
    let script = r"
        SELECT c.relname, NULL::pg_catalog.text FROM pg_catalog.pg_class c
        WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') AND (c.relname) LIKE 'use%'
          AND pg_catalog.pg_table_is_visible(c.oid)
          AND c.relnamespace <> (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pg_catalog')
        UNION ALL
        SELECT NULL::pg_catalog.text, n.nspname FROM pg_catalog.pg_namespace n
        WHERE n.nspname LIKE 'use%' AND n.nspname NOT LIKE E'pg\\_%' LIMIT 1000;
        SELECT attname FROM pg_catalog.pg_attribute a, pg_catalog.pg_class c
        WHERE c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped AND (attname) LIKE 'ema%'
          AND (c.relname) = ('users') AND pg_catalog.pg_table_is_visible(c.oid);
        SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings WHERE pg_catalog.lower(name) LIKE 'search_p%';
    ";
    let printed = psql(&dsn(), script).expect_ok();
    assert!(
        printed.contains("users") && printed.contains("email") && printed.contains("search_path"),
        "{printed}"
    );
}

#[test]
fn psql_copies_in_and_out() {
    let rows = "\\copy app_settings FROM STDIN\none\t1\ntwo\tzwei\n\\.\n\
                \\copy (SELECT key, value FROM app_settings WHERE key IN ('one', 'two') ORDER BY key) TO STDOUT CSV\n\
                COPY app_settings (key, value) FROM STDIN CSV;\nthree,3\n\\.\n\
                DELETE FROM app_settings WHERE key IN ('one', 'two', 'three') RETURNING value;\n";
    let printed = psql(&dsn(), rows).expect_ok();
    assert!(printed.starts_with("one,1\ntwo,zwei\n"), "{printed}");
    assert_eq!(printed.lines().count(), 5, "{printed}");
    let out =
        psql(&dsn(), "\\copy (SELECT id FROM jobs WHERE user_id = 7 ORDER BY id) TO STDOUT").expect_ok();
    assert_eq!(out, "19\n20\n21\n");
    // What cannot be split yet says so, and the session goes on.
    let printed = psql_with(&dsn(), &["-A", "-t", "-f", "-"], "COPY users TO STDOUT;\nSELECT 'on';\n");
    assert!(printed.err.contains("HINT") && printed.out.contains("on"), "{printed:?}");
}

#[test]
fn psql_scripts() {
    let script = "\\set ON_ERROR_ROLLBACK on\nBEGIN;\nSELECT id FROM users WHERE id = 42;\nSELECT 1/0;\nSELECT id FROM jobs WHERE user_id = 42 ORDER BY id LIMIT 1;\nCOMMIT;\n\
                  SELECT :'HOST' <> '' AS h \\gset\n\\echo :h\nSELECT id FROM users WHERE id = 42 \\gdesc\n\\bind 42 \nSELECT 1;\n";
    let printed = psql_with(&dsn(), &["-q", "-A", "-t", "-f", "-"], script);
    assert!(printed.out.starts_with("42\n124\nt\nid|bigint\n"), "{printed:?}");
    assert!(printed.err.contains("division by zero"), "{printed:?}");
}

#[test]
fn psycopg_as_it_is_used() {
    let printed = python("drivers/psycopg3.py", &[&dsn()]).expect_ok();
    assert!(printed.ends_with("ok\n"), "{printed}");
}

#[tokio::test]
async fn tokio_postgres_as_it_is_used() {
    let mut client = support::connect(&dsn()).await;
    let statement = client
        .prepare("SELECT id, email, is_active, created_at::text FROM users WHERE id = $1")
        .await
        .unwrap();
    assert_eq!(statement.params(), [Type::INT8]);
    for id in 1..=30_i64 {
        let row = client.query_one(&statement, &[&id]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, String>(1)), (id, format!("user{id}@example.com")));
    }
    let ids: Vec<i64> = vec![5];
    let rows = client.query("SELECT id FROM users WHERE id = ANY($1)", &[&ids]).await.unwrap();
    assert_eq!(rows.len(), 1);

    // Futures polled together are a pipeline over several shards.
    let queries = (1..=20_i64).map(|id| {
        let client = &client;
        async move {
            client.query_one("SELECT id FROM users WHERE id = $1", &[&id]).await.unwrap().get::<_, i64>(0)
        }
    });
    let found = futures_util::future::join_all(queries).await;
    assert_eq!(found, (1..=20).collect::<Vec<i64>>());

    let transaction = client.transaction().await.unwrap();
    transaction.execute("UPDATE users SET name = 'x' WHERE id = $1", &[&9_i64]).await.unwrap();
    let portal = transaction
        .bind("SELECT id FROM job_executions WHERE user_id = $1 ORDER BY id", &[&9_i64])
        .await
        .unwrap();
    let mut seen = 0;
    loop {
        let rows = transaction.query_portal(&portal, 5).await.unwrap();
        seen += rows.len();
        if rows.len() < 5 {
            break;
        }
    }
    assert_eq!(seen, 12);
    transaction.rollback().await.unwrap();
    let row = client.query_one("SELECT name FROM users WHERE id = 9", &[]).await.unwrap();
    assert_ne!(row.get::<_, String>(0), "x");

    let mut sink = std::pin::pin!(client.copy_in("COPY app_settings FROM STDIN").await.unwrap());

    sink.send(bytes::Bytes::from_static(b"copied\tin\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 1);
    let mut out = std::pin::pin!(
        client
            .copy_out("COPY (SELECT value FROM app_settings WHERE key = 'copied') TO STDOUT")
            .await
            .unwrap()
    );

    assert_eq!(out.next().await.unwrap().unwrap(), "in\n");
    assert!(out.next().await.is_none());
    client.batch_execute("DELETE FROM app_settings WHERE key = 'copied'").await.unwrap();

    let cancel = client.cancel_token();
    let (cancelled, ()) =
        tokio::join!(client.batch_execute("SELECT pg_sleep(100) FROM users WHERE id = 1"), async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            cancel.cancel_query(NoTls).await.unwrap();
        });
    assert_eq!(cancelled.unwrap_err().code().unwrap().code(), "57014");
    client.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn tokio_postgres_is_notified() {
    let (client, mut connection) = tokio_postgres::connect(&dsn(), NoTls).await.unwrap();
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let Ok(AsyncMessage::Notification(notification)) = message {
                sender.send(notification.payload().to_owned()).unwrap();
            }
        }
    });
    client.batch_execute("LISTEN drivers").await.unwrap();
    let other = support::connect(&dsn()).await;
    other.batch_execute("NOTIFY drivers, 'hello'").await.unwrap();
    assert_eq!(received.recv().await.unwrap(), "hello");
}

/// Three seconds of pgbench with 16 clients; panics at an error.
fn pgbench(dsn: &str, arguments: &[&str]) {
    let mut command = Account::own().command(&Binaries::find().unwrap().program("pgbench"));
    let output =
        command.args(["-n", "-T", "3", "-c", "16", "-j", "2"]).args(arguments).arg(dsn).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !err.contains("error"), "{arguments:?}\n{out}\n{err}");
    assert!(out.contains("number of failed transactions: 0 "), "{arguments:?}\n{out}\n{err}");
}

const ACCOUNTS: i64 = 3000;

/// pgbench's tables on every shard, with the rows that belong there.
fn accounts(shards: usize) -> Stage {
    let servers = support::servers(shards);
    let schema = "CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88)); \
                  CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84)); \
                  CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84)); \
                  CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22)); \
                  INSERT INTO pgbench_branches VALUES (1, 0); \
                  INSERT INTO pgbench_tellers SELECT n, 1, 0 FROM generate_series(1, 10) n;";
    let name = support::database(&servers, schema);
    let topology = support::topology(shards);
    for (server, shard) in servers.iter().zip(topology.ids()) {
        let owned: Vec<String> = (1..=ACCOUNTS)
            .filter(|aid| topology.owner(Key::Integer(*aid).hash()) == shard)
            .map(|aid| format!("({aid}, 1, 0)"))
            .collect();
        server.psql(APP, &name, &format!("INSERT INTO pgbench_accounts VALUES {}", owned.join(","))).unwrap();
    }
    let mut toml = format!("[[database]]\nname = \"{name}\"\nkey = \"aid\"\n");
    for (number, server) in (1..).zip(&servers) {
        toml += &format!(
            "[[database.shard]]\nname = \"s{number}\"\nendpoints = [\"{}\"]\ntls = \"disable\"\n",
            server.address()
        );
    }
    Stage { proxy: Proxy::start(Config::new().append(&toml)), name }
}

#[test]
fn pgbench_through_one_shard() {
    let stage = accounts(1);
    for mode in ["simple", "extended", "prepared"] {
        // All of its transaction, TPC-B like.
        pgbench(&stage.proxy.dsn(APP, &stage.name), &["-M", mode]);
    }
}

#[test]
fn pgbench_through_three_shards() {
    let stage = accounts(3);
    let scripts = tempfile::tempdir().unwrap();
    let (select, update) = (scripts.path().join("select.sql"), scripts.path().join("update.sql"));
    let aid = format!("\\set aid random(1, {ACCOUNTS})\n");
    std::fs::write(&select, format!("{aid}SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"))
        .unwrap();
    let writing = "BEGIN;\nUPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n\
                   SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n\
                   INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, 1, CURRENT_TIMESTAMP);\nEND;\n";
    std::fs::write(&update, format!("{aid}{writing}")).unwrap();
    let dsn = stage.proxy.dsn(APP, &stage.name);
    for mode in ["simple", "extended", "prepared"] {
        pgbench(&dsn, &["-M", mode, "-f", select.to_str().unwrap(), "-f", update.to_str().unwrap()]);
    }
    // Every account is as its history says.
    let wrong = "SELECT count(*) FROM pgbench_accounts a WHERE abalance <> \
                 (SELECT coalesce(sum(delta), 0) FROM pgbench_history h WHERE h.aid = a.aid)";
    let all = "SELECT count(*) > 0 FROM pgbench_history";
    for server in support::servers(3) {
        assert_eq!(server.psql(APP, &stage.name, &format!("{wrong}; {all}")).unwrap().trim(), "0\nt");
    }
}
