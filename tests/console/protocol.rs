//! The console under the extended protocol, byte by byte, and as tools ask it.

use pgring::demo::sample::APP;

use crate::pause::shown;
use crate::support::raw::{self, Raw};
use crate::support::{Proxy, connect, database, psql, psql_with, sample_database, servers};
use crate::{MONITOR, code, config};

fn console() -> (Proxy, Raw) {
    let shards = servers(1);
    let name = database(&shards, "");
    let proxy = Proxy::start(config().database(&name, &shards));
    let raw = Raw::login(&proxy.address(), APP, "pgring");
    (proxy, raw)
}

fn tags(frames: &[raw::Frame]) -> String {
    frames.iter().map(|frame| char::from(frame.tag)).collect()
}

#[test]
fn conversations() {
    let (_proxy, mut console) = console();
    let mut check = |sent: &[Vec<u8>], expect: &str| {
        console.send(&sent.concat());
        let readies = sent.iter().filter(|message| matches!(message[0], b'S' | b'Q')).count();
        let frames = console.until(b'Z', readies);
        let said: Vec<String> = frames
            .iter()
            .map(|frame| match frame.tag {
                b'E' => format!("E{}", frame.code()),
                b'Z' => format!("Z{}", char::from(frame.body[0])),
                b'C' => format!("C[{}]", String::from_utf8_lossy(&frame.body).trim_end_matches('\0')),
                b'N' => format!("N{}", frame.code()),
                tag => char::from(tag).to_string(),
            })
            .collect();
        assert_eq!(said.join(" "), expect);
    };
    let sync = raw::sync;
    // One command, twice.
    check(
        &[
            raw::parse("s", "SHOW VERSION"),
            raw::describe('S', "s"),
            raw::bind("", "s", &[]),
            raw::describe('P', ""),
            raw::execute("", 0),
            sync(),
        ],
        "1 t T 2 T D C[SHOW] ZI",
    );
    check(
        &[raw::bind("", "s", &[]), raw::execute("", 0), raw::bind("", "s", &[]), raw::execute("", 0), sync()],
        "2 D C[SHOW] 2 D C[SHOW] ZI",
    );
    // Rows in portions.
    check(
        &[
            raw::run("BEGIN", &[]),
            raw::parse("st", "SHOW STATE"),
            raw::bind("p", "st", &[]),
            raw::execute("p", 3),
            sync(),
        ],
        "1 2 C[BEGIN] 1 2 D D D s ZT",
    );
    check(&[raw::execute("p", 3), raw::execute("p", 3), sync()], "D C[SHOW] C[SHOW] ZT");
    check(&[raw::close('P', "p"), raw::execute("p", 0), sync()], "3 E34000 ZE");
    check(
        &[raw::query("SHOW VERSION"), raw::query("COMMIT"), raw::query("COMMIT")],
        "E25P02 ZE C[ROLLBACK] ZI N25P01 C[COMMIT] ZI",
    );
    // Errors at each position skip to the Sync, queries included.
    check(
        &[raw::parse("", "SHOW NOTHING"), raw::bind("", "", &[]), raw::execute("", 0), raw::flush(), sync()],
        "E42601 ZI",
    );
    check(&[raw::bind("", "nothing", &[]), raw::run("SHOW VERSION", &[]), sync()], "E26000 ZI");
    check(
        &[raw::execute("nothing", 0), raw::describe('S', "s"), sync(), raw::describe('S', "s"), sync()],
        "E34000 ZI t T ZI",
    );
    check(&[raw::parse("s", "SHOW VERSION"), sync()], "E42P05 ZI");
    check(&[raw::close('S', "s"), raw::close('S', "s"), raw::bind("", "s", &[]), sync()], "3 3 E26000 ZI");
    check(&[raw::run("SHOW VERSION", &["1"]), sync()], "1 E08P01 ZI");
    check(&[raw::run("RECONNECT nowhere", &[]), raw::run("SHOW VERSION", &[]), sync()], "1 2 E3D000 ZI");
    check(
        &[raw::run("BEGIN", &[]), raw::run("RECONNECT nowhere", &[]), sync(), raw::query("ROLLBACK")],
        "1 2 C[BEGIN] 1 2 E3D000 ZE C[ROLLBACK] ZI",
    );
    check(&[raw::run("RELOAD", &[]), raw::execute("", 0), sync()], "1 2 C[RELOAD] E55000 ZI");
    check(&[raw::run("", &[]), sync()], "1 2 I ZI");
    // Several in one message; none runs if one does not read.
    check(&[raw::query("BEGIN; SHOW VERSION; COMMIT;")], "C[BEGIN] T D C[SHOW] C[COMMIT] ZI");
    check(&[raw::query("BEGIN; SHOW NOTHING")], "E42601 ZI");
    check(&[raw::query(" ; ")], "I ZI");
    check(
        &[
            raw::query("SAVEPOINT a"),
            raw::query("BEGIN; SAVEPOINT a"),
            raw::query("KILL_CLIENT 4000000000"),
            raw::query("ROLLBACK TO a"),
            raw::query("RELEASE a; END"),
        ],
        "E25P01 ZI C[BEGIN] C[SAVEPOINT] ZT E42704 ZE C[ROLLBACK] ZT C[RELEASE] C[COMMIT] ZI",
    );
    // No COPY is under way, and there are no functions.
    check(&[raw::copy_data(b"x"), raw::copy_done(), raw::query("SELECT 1")], "T D C[SELECT 1] ZI");
    console.send(&raw::function_call(1, &[]));
    assert_eq!(tags(&console.until(b'Z', 1)), "EZ");
}

/// CVE-2026-6667 of PgBouncer: KILL without the right, whatever protocol it comes by.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_look_changes_nothing() {
    let shards = servers(1);
    let name = database(&shards, "");
    let proxy = Proxy::start(config().database(&name, &shards));
    let bystander = connect(&proxy.dsn(APP, &name)).await;
    bystander.batch_execute("SELECT 1").await.unwrap();
    let id = shown(&proxy, "CLIENTS", &format!("|{name}|"), "id");
    let monitor = connect(&proxy.dsn(MONITOR, "pgring")).await;
    let commands =
        pgring::admin::COMMANDS.iter().map(|info| info.name).filter(|name| !name.starts_with("SHOW "));
    for command in commands {
        for argument in [String::new(), format!(" {id}"), format!(" {name}"), format!(" \"{name}\"")] {
            let sql = format!("/* SHOW */ {command}{argument};");
            let Ok(_) = pgring::admin::parse(&sql) else { continue };
            assert_eq!(code(&monitor, &sql).await, "42501", "{sql}");
            let error = monitor.execute(&sql, &[]).await.unwrap_err();
            assert_eq!(error.as_db_error().unwrap().code().code(), "42501", "{sql} extended");
            assert_eq!(code(&monitor, &format!("SHOW STATE; {sql}")).await, "42501", "{sql} behind another");
        }
    }
    bystander.batch_execute("SELECT 1").await.unwrap();
    assert_eq!(shown(&proxy, "DATABASES", &name, "paused"), "0");
}

/// What prometheus-community/pgbouncer_exporter asks: it fails as a whole where two rows have the
/// same labels, and reads numbers from the columns it knows.
#[tokio::test(flavor = "multi_thread")]
async fn the_exporter_finds_what_it_looks_for() {
    let shards = servers(2);
    let name = sample_database(&shards);
    let proxy = Proxy::start(config().database(&name, &shards));
    for id in 1..20 {
        psql(&proxy.dsn(APP, &name), &format!("SELECT id FROM users WHERE id = {id}")).expect_ok();
    }
    let client = connect(&proxy.dsn(MONITOR, "pgring")).await;
    for (show, labels, numbers) in [
        (
            "DATABASES",
            &["name", "host", "port", "database", "force_user", "pool_mode"][..],
            &["pool_size", "max_connections", "current_connections", "paused", "disabled"][..],
        ),
        (
            "STATS_TOTALS",
            &["database"],
            &[
                "query_count",
                "query_time",
                "bytes_received",
                "bytes_sent",
                "wait_time",
                "xact_count",
                "xact_time",
                "client_parse_count",
                "server_parse_count",
                "bind_count",
            ],
        ),
        (
            "POOLS",
            &["database", "user"],
            &[
                "cl_active",
                "cl_active_cancel_req",
                "cl_waiting",
                "cl_waiting_cancel_req",
                "sv_active",
                "sv_active_cancel",
                "sv_being_canceled",
                "sv_idle",
                "sv_used",
                "sv_tested",
                "sv_login",
                "maxwait",
            ],
        ),
        ("LISTS", &["list"], &["items"]),
    ] {
        let rows = client.simple_query(&format!("SHOW {show};")).await.unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for row in &rows {
            let tokio_postgres::SimpleQueryMessage::Row(row) = row else { continue };
            let key: Vec<_> = labels.iter().map(|label| row.get(*label)).collect();
            assert!(seen.insert(format!("{key:?}")), "SHOW {show} has {key:?} twice");
            for number in numbers {
                let value = row.get(*number).unwrap();
                assert!(value.parse::<f64>().is_ok(), "SHOW {show}: {number} is {value:?}");
            }
        }
        assert!(!seen.is_empty(), "SHOW {show} is empty");
    }
    let config = client.prepare("SHOW CONFIG").await.unwrap();
    assert_eq!(config.columns().len(), 4);
    let each =
        ["|s1|", "|s2|"].map(|shard| shown(&proxy, "SHARD_POOLS", shard, "sv_idle").parse::<u32>().unwrap());
    assert!(each.iter().all(|idle| *idle > 0), "{each:?}");
    let together = shown(&proxy, "POOLS", &name, "sv_idle");
    assert_eq!(together, each.iter().sum::<u32>().to_string(), "both shards' together");
    assert_eq!(psql(&proxy.dsn(APP, "pgring"), "SHOW SHARD_POOLS").expect_ok().lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_connection_and_its_client_show() {
    let shards = servers(1);
    let name = database(&shards, "");
    let proxy = Proxy::start(config().database(&name, &shards));
    let client = connect(&proxy.dsn(APP, &name)).await;
    client.query("SELECT 1", &[]).await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let of_server = |column: &str| shown(&proxy, "SERVERS", &format!("|{name}|"), column);
    let of_client = |column: &str| shown(&proxy, "CLIENTS", &format!("|{name}|"), column);
    assert_eq!(of_server("remote_pid"), pid.to_string());
    assert_eq!(of_server("state"), "active");
    assert_eq!(of_client("state"), "idle in transaction");
    assert_eq!(of_server("link"), of_client("ptr"));
    assert_eq!(of_client("link"), of_server("ptr"));
    assert_eq!(of_server("port"), shards[0].port().to_string());
    assert_eq!(of_server("close_needed"), "0");
    assert!(of_server("prepared_statements").parse::<u32>().unwrap() > 0);
    let local = format!("{}:{}", of_server("local_addr"), of_server("local_port"));
    let seen = psql(
        &shards[0].dsn(pgring::demo::cluster::SUPERUSER, &name),
        &format!("SELECT host(client_addr) || ':' || client_port FROM pg_stat_activity WHERE pid = {pid}"),
    );
    assert_eq!(seen.expect_ok().trim(), local);
    assert_eq!(format!("{}:{}", of_client("local_addr"), of_client("local_port")), proxy.address());
    psql(&proxy.dsn(APP, "pgring"), "RECONNECT").expect_ok();
    assert_eq!(of_server("close_needed"), "1");
    client.batch_execute("SELECT pg_sleep(0.1); COMMIT").await.unwrap();
    let of_stats = |column: &str| shown(&proxy, "STATS", &name, column).parse::<u64>().unwrap();
    assert!(of_stats("total_xact_time") >= 100_000, "{}", of_stats("total_xact_time"));
    assert!(of_stats("total_xact_time") >= of_stats("total_query_time"));
    for column in [
        "total_query_count",
        "total_query_time",
        "total_received",
        "total_sent",
        "total_server_assignment_count",
    ] {
        assert!(of_stats(column) > 0, "{column}");
    }
    assert_eq!(shown(&proxy, "DATABASES", &name, "port"), shards[0].port().to_string());
    let columns = psql_with(&proxy.dsn(APP, "pgring"), &["-A", "-c", "SHOW SERVERS"], "").expect_ok();
    assert!(columns.starts_with("type|user|database|"), "{columns}");
}
