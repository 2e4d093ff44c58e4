//! Where statements run.

use crate::stage::{Shard, config, fill, shards, sql, start};
use crate::support::raw::{Raw, parse, query, run, sync};
use crate::support::{Proxy, connect, eventually, psql};
use pgring::demo::sample::APP;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::ToSql;

const SCRIPT: &str = "
CREATE TABLE one (a int);
INSERT INTO one VALUES (1);
CREATE TABLE noted (a int);
CREATE UNLOGGED TABLE unlogged (a int);
CREATE VIEW of_unlogged AS SELECT a FROM unlogged;
CREATE TABLE parted (a int) PARTITION BY LIST (a);
CREATE UNLOGGED TABLE part PARTITION OF parted DEFAULT;
CREATE SEQUENCE numbers;
CREATE FUNCTION bump() RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO noted VALUES (1) RETURNING a';
CREATE FUNCTION here() RETURNS text LANGUAGE sql STABLE AS 'SELECT current_setting(''port'')';
CREATE FUNCTION bumped(one) RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO noted VALUES (1) RETURNING a';
CREATE FUNCTION fixed(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE VIEW bumping AS SELECT current_setting('port') AS port, bump() AS b;
CREATE VIEW looking AS SELECT current_setting('port') AS port FROM one;
";

/// What a script of psql's prints last: the server's name; or the SQLSTATE.
fn place(proxy: &Proxy, name: &str, shards: &[Shard], script: &str) -> String {
    let printed = psql(&proxy.dsn(APP, name), &format!("\\set VERBOSITY sqlstate\n{script}"));
    if !printed.ok {
        return printed.err.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    }
    let last = printed.out.trim().lines().last().unwrap_or_default().to_owned();
    let known = shards.iter().map(|shard| shard.name_of(&last)).find(|name| *name != last);
    known.unwrap_or(last)
}

#[test]
fn of_a_database_with_one_shard() {
    let mut shards = shards(1, 2);
    let name = fill(&shards, SCRIPT);
    // The second replica is for analytical reads only.
    let analytics = shards[0].replicas.pop().unwrap();
    let all = config(&name, &shards);
    let all = all
        .replace("tls = \"disable\"", &format!("analytics = [{:?}]\ntls = \"disable\"", analytics.address()));
    let proxy = start(all.clone(), &shards);
    let endpoint_up = |page: &str| {
        page.lines().any(|line| {
            line.starts_with("pgring_endpoint_up")
                && line.contains(&analytics.address())
                && line.ends_with(" 1")
        })
    };
    eventually("the analytics endpoint is up", || endpoint_up(&proxy.get("/metrics").1));
    shards[0].replicas.push(analytics);
    let port = "SELECT current_setting('port')";
    let check = |proxy: &Proxy, script: &str, expect: &str| {
        assert_eq!(place(proxy, &name, &shards, script), expect, "{script}");
    };
    for (script, expect) in [
        ("SELECT current_setting('port')", "replica1"),
        ("SELECT current_setting('port') FROM one", "replica1"),
        ("SELECT current_setting('port') FROM one WHERE a = fixed(1) ORDER BY a LIMIT 1", "replica1"),
        ("WITH w AS (SELECT * FROM one) SELECT current_setting('port') FROM w", "replica1"),
        ("SELECT inet_server_port() IS NOT NULL, 1; SELECT current_setting('port')", "replica1"),
        ("SELECT here()", "replica1"),
        ("SELECT port FROM looking", "replica1"),
        ("COPY (SELECT current_setting('port')) TO STDOUT", "replica1"),
        // writes, locks, and what may
        ("SELECT current_setting('port') FROM one FOR UPDATE", "primary"),
        ("SELECT current_setting('port') FROM (SELECT * FROM one FOR SHARE) o", "primary"),
        (
            "WITH w AS (INSERT INTO noted VALUES (1) RETURNING a) SELECT current_setting('port') FROM w",
            "primary",
        ),
        ("SELECT current_setting('port') FROM (SELECT bump()) b", "primary"),
        ("SELECT port FROM bumping", "primary"),
        ("SELECT current_setting('port') FROM (SELECT (o).bumped FROM one o) b", "primary"),
        ("SELECT current_setting('port') FROM (SELECT nextval('numbers')) n", "primary"),
        ("SELECT current_setting('port') FROM (SELECT txid_current()) t", "primary"),
        ("SELECT current_setting('port') FROM (SELECT pg_advisory_xact_lock(1)) l", "primary"),
        ("SELECT current_setting('port') FROM (SELECT unknown()) l", "42883"),
        ("INSERT INTO noted VALUES (1) RETURNING current_setting('port')", "primary"),
        // each server has its own
        ("SELECT current_setting('port') FROM pg_stat_activity LIMIT 1", "primary"),
        ("SHOW port", "primary"),
        ("SELECT CASE WHEN pg_is_in_recovery() THEN 'a replica' ELSE 'the primary' END", "the primary"),
        // replicas do not have it
        ("SELECT count(*) FROM unlogged", "0"),
        ("SELECT count(*) FROM of_unlogged", "0"),
        ("SELECT count(*) FROM parted", "0"),
        ("BEGIN READ ONLY;\nSELECT a FROM unlogged;\nSELECT current_setting('port')", "primary"),
        ("BEGIN READ ONLY;\nSELECT 1;\nSELECT a FROM of_unlogged", "0A000"),
        // hints
        ("/* pgring: fresh */ SELECT current_setting('port')", "primary"),
        ("/* pgring: replica */ SELECT current_setting('port')", "replica1"),
        ("/* pgring: replica */ SELECT current_setting('port') FROM one FOR UPDATE", "primary"),
        ("/* pgring: analytical */ SELECT current_setting('port')", "replica2"),
        ("SET pgring.read = 'fresh'; \nSELECT current_setting('port')", "primary"),
        ("SET pgring.read = 'analytical';\nSELECT current_setting('port')", "replica2"),
        ("SET pgring.read = 'analytical';\n/* pgring: replica */ SELECT current_setting('port')", "replica1"),
        ("SET pgring.read = 'fresh';\nRESET pgring.read;\nSELECT current_setting('port')", "replica1"),
        // transactions are on one server
        ("BEGIN;\nSELECT current_setting('port')", "primary"),
        ("BEGIN READ ONLY;\nSELECT 1;\nSELECT current_setting('port')", "replica1"),
        ("BEGIN READ ONLY;\nSELECT 1;\nSELECT current_setting('port') FROM pg_class LIMIT 1", "replica1"),
        ("BEGIN;\nSET TRANSACTION READ ONLY;\nSELECT current_setting('port')", "replica1"),
        ("BEGIN READ ONLY;\nSET TRANSACTION READ WRITE;\nSELECT current_setting('port')", "primary"),
        ("SET default_transaction_read_only = on;\nBEGIN;\nSELECT current_setting('port')", "replica1"),
        ("BEGIN READ ONLY;\nDECLARE c CURSOR FOR SELECT current_setting('port');\nFETCH c", "replica1"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;\nSELECT current_setting('port')", "primary"),
        ("BEGIN READ ONLY;\nSELECT 1;\nINSERT INTO noted VALUES (1)", "25006"),
        ("BEGIN READ ONLY;\n/* pgring: fresh */ SELECT 1;\nSELECT current_setting('port')", "primary"),
        ("BEGIN READ ONLY;\nSELECT 1;\n/* pgring: fresh */ SELECT 1", "0A000"),
        ("BEGIN READ ONLY;\nSELECT 1;\nSELECT pg_try_advisory_lock(1)", "0A000"),
        ("BEGIN READ ONLY;\nSELECT 1;\nSELECT pg_advisory_xact_lock(1)", "0A000"),
        ("PREPARE l AS SELECT pg_advisory_xact_lock(1);\nBEGIN READ ONLY;\nSELECT 1;\nEXECUTE l", "0A000"),
        ("BEGIN READ ONLY;\nSELECT 1;\nDO 'BEGIN PERFORM pg_advisory_xact_lock(1); END'", "0A000"),
        (
            "BEGIN READ ONLY;\nSELECT pg_advisory_xact_lock_shared(1);\nSELECT current_setting('port')",
            "primary",
        ),
        (
            "BEGIN READ ONLY;\nSELECT 1;\nCOMMIT;\nINSERT INTO noted VALUES (1);\nBEGIN;\nSELECT current_setting('port')",
            "primary",
        ),
        ("BEGIN READ ONLY;\nSELECT 1;\nSAVEPOINT a;\nSELECT 1/0;", "22012"),
        // a session that keeps its server stays there
        ("CREATE TEMP TABLE mine (a int);\nSELECT current_setting('port')", "primary"),
        ("CREATE TEMP TABLE mine (a int);\nDROP TABLE mine;\nSELECT current_setting('port')", "replica1"),
        ("SET default_transaction_isolation = 'serializable';\nSELECT current_setting('port')", "primary"),
        (
            "SET application_name = 'x';\nSELECT current_setting('application_name'), 1;\nSELECT current_setting('port')",
            "replica1",
        ),
    ] {
        check(&proxy, script, expect);
    }
    assert_eq!(
        place(&proxy, &name, &shards, &format!("{port};\nSHOW pgring.route")),
        "shard s1: the database has one shard, on a replica"
    );
    drop(proxy);

    let primary = Proxy::start(all.clone().set("routing", "reads", "\"primary\""));
    check(&primary, port, "primary");
    check(&primary, "BEGIN READ ONLY;\nSELECT current_setting('port')", "primary");
    eventually("a hint is followed", || {
        place(&primary, &name, &shards, "/* pgring: replica */ SELECT current_setting('port')") == "replica1"
    });
    check(&primary, "/* pgring: replica */ SELECT port FROM bumping", "primary");
    check(&primary, "SET pgring.read = 'analytical';\nSELECT current_setting('port')", "replica2");
    check(
        &primary,
        "INSERT INTO noted VALUES (7);\n/* pgring: replica */ SELECT count(*) FROM noted WHERE a = 7;",
        "1",
    );
    drop(primary);

    // a database's own word counts
    let of_database = all.clone().replace("key = \"user_id\"", "key = \"user_id\"\nreads = \"primary\"");
    let of_database = Proxy::start(of_database);
    check(&of_database, port, "primary");
    drop(of_database);

    let session = Proxy::start(all.set("pool", "mode", "\"session\""));
    check(&session, port, "primary");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_the_extended_protocol() {
    let shards = shards(1, 1);
    let name = fill(&shards, SCRIPT);
    let proxy = start(config(&name, &shards), &shards);
    let client = connect(&proxy.dsn(APP, &name)).await;
    let port = "SELECT current_setting('port'), $1::int";
    for round in 0..3_i32 {
        let row = client.query_one(port, &[&round]).await.unwrap();
        assert_eq!(shards[0].name_of(row.get(0)), "replica1");
        // prepared where it is needed
        let write = "INSERT INTO noted VALUES ($1) RETURNING current_setting('port')";
        let wrote = client.query_one(write, &[&round]).await.unwrap();
        assert_eq!(shards[0].name_of(wrote.get(0)), "primary");
        let seen = client.query_one("SELECT count(*) FROM noted WHERE a = $1", &[&round]).await.unwrap();
        assert_eq!(seen.get::<_, i64>(0), 1, "{round}");
    }
    // each has its own Sync: read, write, read, sent together
    let statement =
        client.prepare("SELECT count(*), current_setting('port') FROM noted WHERE a = $1").await.unwrap();
    let insert = client.prepare("INSERT INTO noted VALUES ($1)").await.unwrap();
    for value in 100..120_i32 {
        let parameters: [&(dyn ToSql + Sync); 1] = [&value];
        let (before, wrote, after) = tokio::join!(
            client.query_one(&statement, &parameters),
            client.execute(&insert, &parameters),
            client.query_one(&statement, &parameters),
        );
        let (before, after) = (before.unwrap().get::<_, i64>(0), after.unwrap().get::<_, i64>(0));
        assert_eq!((before, wrote.unwrap(), after), (0, 1, 1));
    }
    let tx = "BEGIN READ ONLY";
    client.batch_execute(tx).await.unwrap();
    let row = client.query_one(port, &[&1]).await.unwrap();
    assert_eq!(shards[0].name_of(row.get(0)), "replica1");
    client.batch_execute("COMMIT").await.unwrap();
}

/// What a session has set of its reads counts for what it prepares, whoever has prepared the same before.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_prepares_for_itself() {
    let shards = shards(1, 1);
    let name = fill(&shards, SCRIPT);
    let proxy = start(config(&name, &shards), &shards);
    let place = async |client: &tokio_postgres::Client| {
        let row = client.query_one("SELECT current_setting('port') FROM one", &[]).await.unwrap();
        shards[0].name_of(row.get(0))
    };
    let fresh = connect(&proxy.dsn(APP, &name)).await;
    fresh.batch_execute("SET pgring.read = 'fresh'").await.unwrap();
    assert_eq!(place(&fresh).await, "primary");
    // Some of them share its thread.
    for _ in 0..8 {
        assert_eq!(place(&connect(&proxy.dsn(APP, &name)).await).await, "replica1");
    }
    assert_eq!(place(&fresh).await, "primary");
    let kept = fresh.prepare("SELECT current_setting('port') FROM one WHERE a > 0").await.unwrap();
    for (read, expect) in [("fresh", "primary"), ("replica", "replica1"), ("fresh", "primary")] {
        fresh.batch_execute(&format!("SET pgring.read = '{read}'")).await.unwrap();
        let row = fresh.query_one(&kept, &[]).await.unwrap();
        assert_eq!(shards[0].name_of(row.get(0)), expect, "{read}");
    }
}

/// Read and write in one batch with one `Sync`: one transaction, and so on the primary, wherever what
/// comes first could have been.
#[test]
fn a_pipeline_that_reads_and_writes_is_on_the_primary() {
    let shards = shards(1, 1);
    let name = fill(&shards, SCRIPT);
    let proxy = start(config(&name, &shards), &shards);
    let mut raw = Raw::login(&proxy.address(), APP, &name);
    let read = "SELECT current_setting('port')";
    let write = "INSERT INTO noted VALUES (42) RETURNING current_setting('port')";
    let mut places = |messages: &[Vec<u8>], syncs: usize| -> Vec<String> {
        raw.send(&messages.concat());
        let frames = raw.until(b'Z', syncs);
        let rows = frames.iter().filter(|frame| frame.tag == b'D');
        rows.map(|row| shards[0].name_of(&row.columns()[0])).collect()
    };
    assert_eq!(places(&[run(read, &[]), sync()], 1), ["replica1"]);
    assert_eq!(places(&[run(read, &[]), run(write, &[]), sync()], 1), ["primary", "primary"]);
    assert_eq!(places(&[run(read, &[]), sync(), run(write, &[]), sync()], 2), ["replica1", "primary"]);
    assert_eq!(places(&[run(write, &[]), sync(), query(read), run(read, &[]), sync()], 3).len(), 3);
    // what may still come is not known
    assert_eq!(places(&[run(read, &[]), parse("x", read), sync()], 1), ["primary"]);
}

#[test]
fn of_a_database_with_several_shards() {
    let shards = shards(2, 1);
    let name = fill(
        &shards,
        "CREATE TABLE users (id bigint PRIMARY KEY, n int);
         CREATE TABLE jobs (id bigint, user_id bigint);
         CREATE TABLE plans (id int);
         CREATE TABLE at_home (a int);",
    );
    let proxy = start(config(&name, &shards), &shards);
    let rows: Vec<String> = (1..=40).map(|id| format!("({id}, 0)")).collect();
    psql(&proxy.dsn(APP, &name), &format!("INSERT INTO users VALUES {}", rows.join(", "))).expect_ok();
    shards.iter().for_each(Shard::catch_up);
    for (script, expect, on_replicas) in [
        ("SELECT pg_is_in_recovery() FROM users WHERE id = 1", "t", true),
        ("SELECT pg_is_in_recovery() FROM users WHERE id = 2", "t", true),
        ("SELECT id, pg_is_in_recovery() FROM users ORDER BY id LIMIT 1", "1|t", true),
        ("SELECT count(*), sum(n) FROM users", "40|0", true),
        ("COPY (SELECT id, pg_is_in_recovery() FROM users WHERE id < 2) TO STDOUT", "1\tt", true),
        ("/* pgring: fresh */ SELECT id, pg_is_in_recovery() FROM users ORDER BY id LIMIT 1", "1|f", false),
        ("SELECT pg_is_in_recovery() FROM users WHERE id = 1 FOR UPDATE", "f", false),
        ("PREPARE p AS SELECT pg_is_in_recovery() FROM users WHERE id = $1;\nEXECUTE p(1)", "t", true),
        ("BEGIN;\nSELECT id, pg_is_in_recovery() FROM users ORDER BY id LIMIT 1", "1|f", false),
        (
            "BEGIN READ ONLY;\nSELECT 1 FROM users WHERE id = 1;\n\
             SELECT id, pg_is_in_recovery() FROM users ORDER BY id DESC LIMIT 1;\nCOMMIT",
            "40|t",
            true,
        ),
        // copied to a server that takes copies
        ("SELECT count(*) FROM users a JOIN users b ON a.n = b.n", "1600", false),
        ("BEGIN READ ONLY;\nSELECT count(*) FROM users a JOIN users b ON a.n = b.n", "1600", true),
        // its own writes on all of them
        ("UPDATE users SET n = 1;\nSELECT sum(n), count(*) FROM users", "40|40", true),
        ("BEGIN;\nUPDATE users SET n = 2;\nCOMMIT;\nSELECT sum(n), count(*) FROM users", "80|40", true),
        (
            "BEGIN;\nUPDATE users SET n = 3 WHERE id = 1;\nUPDATE users SET n = 3 WHERE id = 2;\n\
             UPDATE users SET n = 3 WHERE id = 3;\nCOMMIT;\nSELECT sum(n), count(*) FROM users",
            "83|40",
            true,
        ),
    ] {
        let printed = psql(&proxy.dsn(APP, &name), &format!("{script};\nSHOW pgring.route")).expect_ok();
        let lines: Vec<&str> = printed.trim().lines().collect();
        let [.., answer, route] = lines[..] else { panic!("{script}: {printed}") };
        assert_eq!((answer, route.ends_with("on a replica")), (expect, on_replicas), "{script}: {route}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_reads_and_the_rest_goes_on_when_they_are_gone() {
    let mut shards = shards(1, 2);
    let name = fill(&shards, SCRIPT);
    let all = config(&name, &shards);
    let proxy = start(all.clone(), &shards);
    // Ports of its own.
    let strict = config(&name, &shards).set("routing", "reads", "\"replica\"");
    let strict = start(strict, &shards);
    let places = async |proxy: &Proxy, count: usize| {
        let client = connect(&proxy.dsn(APP, &name)).await;
        let mut seen = BTreeSet::new();
        for _ in 0..count {
            let answer = client.simple_query("SELECT current_setting('port')").await.unwrap();
            let port = answer.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            });
            seen.insert(port.unwrap());
        }
        seen
    };
    let names =
        |seen: BTreeSet<String>| -> Vec<String> { seen.iter().map(|port| shards[0].name_of(port)).collect() };
    // Which is the faster one is a matter of chance, but not for long.
    let mut both = BTreeSet::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while both.len() < 2 && Instant::now() < deadline {
        both.extend(names(places(&proxy, 50).await));
    }
    assert_eq!(Vec::from_iter(both), ["replica1", "replica2"]);

    // One is gone: no error, nobody waits.
    shards[0].replicas[0].stop().unwrap();
    let gone = shards[0].replicas[0].port().to_string();
    let answer = tokio::task::block_in_place(|| {
        (0..20)
            .map(|_| psql(&proxy.dsn(APP, &name), "SELECT current_setting('port')").expect_ok())
            .collect::<Vec<_>>()
    });
    assert!(
        answer.iter().all(|port| shards[0].name_of(port.trim()) == "replica2"),
        "{answer:?} without {gone}"
    );

    // None is left: the primary, or where only replicas may be read, an error that says so.
    shards[0].replicas[1].stop().unwrap();
    let answer = psql(&proxy.dsn(APP, &name), "SELECT current_setting('port')").expect_ok();
    assert_eq!(shards[0].name_of(answer.trim()), "primary");
    let refused = psql(&strict.dsn(APP, &name), "SELECT 1");
    assert!(!refused.ok && refused.err.contains("shard \"s1\" has no healthy replica"), "{refused:?}");
    psql(&strict.dsn(APP, &name), "INSERT INTO noted VALUES (1);\n/* pgring: replica */ SELECT 1")
        .expect_ok();

    // It is back: so are reads.
    shards[0].replicas[1].restart().unwrap();
    eventually("reads are on the replica again", || {
        let answer = psql(&strict.dsn(APP, &name), "SELECT current_setting('port')");
        answer.ok && shards[0].name_of(answer.out.trim()) == "replica2"
    });
    assert_eq!(sql(&shards[0].replicas[1], "SELECT pg_is_in_recovery()"), "t");
}
