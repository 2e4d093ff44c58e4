//! Replicas that lag, and sessions that never notice.

use crate::stage::{Shard, config, fill, shards, sql, start};
use crate::support::{Proxy, connect, eventually, psql};
use pgring::demo::cluster::{Cluster, SUPERUSER};
use pgring::demo::sample::APP;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, SimpleQueryMessage};

/// How many pairs of a write and a read: `PGRING_READ_PAIRS`, or what a usual run has time for.
fn pairs() -> u64 {
    std::env::var("PGRING_READ_PAIRS").ok().and_then(|count| count.parse().ok()).unwrap_or(10_000)
}

fn pause(replica: &Cluster) {
    sql(replica, "SELECT pg_wal_replay_pause()");
    eventually("replay is paused", || sql(replica, "SELECT pg_get_wal_replay_pause_state()") == "paused");
}

fn resume(replica: &Cluster) {
    sql(replica, "SELECT pg_wal_replay_resume()");
}

/// The first row of an answer, its columns joined.
async fn row(client: &Client, statement: &str) -> String {
    let answer =
        client.simple_query(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    let found = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect::<Vec<_>>().join("|"))
        }
        _ => None,
    });
    found.unwrap_or_default()
}

const SCRIPT: &str = "CREATE TABLE kept (k int PRIMARY KEY, v int);
                      INSERT INTO kept SELECT k, 0 FROM generate_series(0, 99) k;";

#[tokio::test(flavor = "multi_thread")]
async fn a_session_sees_its_own_writes_and_others_what_they_are_told() {
    let shards = shards(1, 1);
    let name = fill(&shards, SCRIPT);
    let proxy = start(config(&name, &shards), &shards);
    let blind = start(config(&name, &shards).set("routing", "read_your_writes", "false"), &shards);
    let (one, other) = (connect(&proxy.dsn(APP, &name)).await, connect(&proxy.dsn(APP, &name)).await);
    let read = "SELECT v, pg_is_in_recovery() FROM kept WHERE k = 1";
    assert_eq!(row(&one, "SHOW pgring.lsn").await, "");
    pause(&shards[0].replicas[0]);
    one.batch_execute("UPDATE kept SET v = 1 WHERE k = 1").await.unwrap();
    let token = row(&one, "SHOW pgring.lsn").await;
    assert!(token.starts_with("s1=0/") && token.ends_with("@1"), "{token}");
    // Its own writes are on the primary only; nobody else's concern.
    assert_eq!(row(&one, read).await, "1|f");
    assert_eq!(
        row(&one, "/* pgring: replica */ SELECT v, pg_is_in_recovery() FROM kept WHERE k = 1").await,
        "1|f"
    );
    assert_eq!(row(&other, read).await, "0|t");
    // Told, it is.
    other.batch_execute(&format!("SET pgring.lsn = '{token}'")).await.unwrap();
    assert_eq!(row(&other, read).await, "1|f");
    assert_eq!(row(&other, "SHOW pgring.lsn").await, token);
    // For the rest of the session, as what it has written itself.
    other.batch_execute("DISCARD ALL").await.unwrap();
    assert_eq!(row(&other, read).await, "1|f");
    one.batch_execute("DISCARD ALL").await.unwrap();
    assert_eq!(row(&one, read).await, "1|f");
    // A newer timeline than is known here: what is taken for the primary may have been replaced.
    let later = token.replace("@1", "@2");
    other.batch_execute(&format!("SET pgring.lsn = '{later}'")).await.unwrap();
    for statement in [read, "/* pgring: fresh */ SELECT v FROM kept WHERE k = 1"] {
        let error = other.simple_query(statement).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.message(), "shard \"s1\" has no primary on timeline 2, which pgring.lsn is of");
    }
    other.batch_execute("RESET pgring.lsn").await.unwrap();
    assert_eq!(row(&other, read).await, "1|f");
    // Without, the replica's word counts: that the test can tell.
    let unseeing = connect(&blind.dsn(APP, &name)).await;
    unseeing.batch_execute("UPDATE kept SET v = 2 WHERE k = 1").await.unwrap();
    assert_eq!(row(&unseeing, read).await, "0|t");
    resume(&shards[0].replicas[0]);
    shards[0].catch_up();
    assert_eq!(row(&one, read).await, "2|t");
    for (statement, code) in [
        ("SET pgring.lsn = 'nonsense'", "22023"),
        ("SET pgring.lsn = 's9=0/1@1'", "42704"),
        ("BEGIN;SHOW pgring.lsn", "0A000"),
    ] {
        let error = other.simple_query(statement).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), code, "{statement}");
    }
    other.batch_execute("ROLLBACK").await.unwrap();
    other.batch_execute("BEGIN").await.unwrap();
    assert_eq!(other.simple_query("SHOW pgring.lsn").await.unwrap_err().code().unwrap().code(), "25001");
}

/// Where reads for replicas went, and why: `replica behind no-healthy-replica unknown-position`, and what
/// `SHOW STATS` makes of them.
#[tokio::test(flavor = "multi_thread")]
async fn reads_are_counted_by_what_became_of_them() {
    let mut shards = shards(1, 1);
    let name = fill(&shards, SCRIPT);
    let proxy = start(config(&name, &shards), &shards);
    let counts = || {
        let (_, page) = proxy.get("/metrics");
        let of = |outcome: &str| -> u64 {
            let named = |line: &&str| {
                line.starts_with("pgring_replica_reads_total{")
                    && line.contains(&format!("database=\"{name}\""))
                    && line.contains(&format!("outcome=\"{outcome}\""))
                    && line.contains("shard=\"s1\"")
            };
            page.lines()
                .find(named)
                .unwrap_or_else(|| panic!("{outcome}: {page}"))
                .rsplit(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap()
        };
        ["replica", "behind", "no-healthy-replica", "unknown-position"].map(of)
    };
    let client = connect(&proxy.dsn(APP, &name)).await;
    let read = "SELECT v FROM kept WHERE k = 1";
    let mut before = counts();
    let mut grown = |step: &str, expect: [u64; 4]| {
        let now = counts();
        let by: Vec<u64> = now.iter().zip(before).map(|(now, before)| now - before).collect();
        assert_eq!(by, expect, "{step}");
        before = now;
    };
    row(&client, read).await;
    for statement in ["BEGIN READ ONLY", read, read, "COMMIT"] {
        row(&client, statement).await;
    }
    row(&client, "/* pgring: fresh */ SELECT 1").await;
    grown("two were answered there, and one was not for it", [2, 0, 0, 0]);
    pause(&shards[0].replicas[0]);
    client.batch_execute("UPDATE kept SET v = 1 WHERE k = 1").await.unwrap();
    row(&client, read).await;
    grown("it has not replayed so far", [0, 1, 0, 0]);
    resume(&shards[0].replicas[0]);
    let revoke = "REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM public";
    shards[0].primary.psql(SUPERUSER, &name, revoke).unwrap();
    client.batch_execute("UPDATE kept SET v = 2 WHERE k = 1").await.unwrap();
    row(&client, read).await;
    grown("the primary does not say where its log is", [0, 0, 0, 1]);
    shards[0].replicas[0].stop().unwrap();
    let down = || {
        let (_, page) = proxy.get("/metrics");
        let replica = shards[0].replicas[0].address();
        page.lines().any(|l| l.starts_with("pgring_endpoint_up") && l.contains(&replica) && l.ends_with(" 0"))
    };
    eventually("the replica is down", down);
    let other = connect(&proxy.dsn(APP, &name)).await;
    row(&other, read).await;
    grown("there is none", [0, 0, 1, 0]);
    let console = connect(&proxy.dsn(APP, "pgring")).await;
    let stats = console.simple_query("SHOW STATS").await.unwrap();
    let of = |column: &str| {
        let of_database = stats.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.get("database") == Some(&name) => row.get(column),
            _ => None,
        });
        of_database.unwrap().to_owned()
    };
    let [replica, behind, none, position] = before;
    assert_eq!(of("total_replica_read_count"), replica.to_string());
    assert_eq!(of("total_replica_read_fallback_count"), (behind + none + position).to_string());
}

/// Positions of the old timeline are not compared with the new one's.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_after_a_failover() {
    let mut shards = shards(1, 2);
    let name = fill(&shards, SCRIPT);
    let proxy = start(config(&name, &shards).set("health", "failover_hold", "\"20s\""), &shards);
    let (one, other) = (connect(&proxy.dsn(APP, &name)).await, connect(&proxy.dsn(APP, &name)).await);
    one.batch_execute("UPDATE kept SET v = 7 WHERE k = 1").await.unwrap();
    let token = row(&one, "SHOW pgring.lsn").await;
    shards[0].catch_up();
    shards[0].primary.stop().unwrap();
    let (new, replica) = (&shards[0].replicas[0], &shards[0].replicas[1]);
    sql(new, "SELECT pg_promote()");
    let follow = format!(
        "ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port={} user={} password={}'",
        new.port(),
        SUPERUSER.name,
        SUPERUSER.password
    );
    sql(replica, &follow);
    sql(replica, "ALTER SYSTEM SET primary_slot_name = ''");
    sql(replica, "SELECT pg_reload_conf()");
    let read = "SELECT v, pg_is_in_recovery() FROM kept WHERE k = 1";
    let read_there = async |client: &Client| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let seen = row(client, read).await;
            assert!(Instant::now() < deadline, "still {seen} after the failover");
            assert!(seen.starts_with("7|"), "{seen}");
            if seen == "7|t" && row(client, "SHOW pgring.lsn").await.ends_with("@2") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    read_there(&one).await;
    other.batch_execute(&format!("SET pgring.lsn = '{token}'")).await.unwrap();
    read_there(&other).await;
    for value in 100..200 {
        one.batch_execute(&format!("UPDATE kept SET v = {value} WHERE k = 1")).await.unwrap();
        let seen = row(&one, read).await;
        assert!(seen.starts_with(&format!("{value}|")), "{seen}");
    }
}

/// Nobody is told of it, and its sessions read there.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_may_not_be_asked_answers_itself() {
    let shards = shards(1, 1);
    let name = fill(&shards, SCRIPT);
    let revoke = "REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM public";
    shards[0].primary.psql(SUPERUSER, &name, revoke).unwrap();
    shards[0].catch_up();
    let proxy = start(config(&name, &shards), &shards);
    let client = connect(&proxy.dsn(APP, &name)).await;
    let read = "SELECT v, pg_is_in_recovery() FROM kept WHERE k = 1";
    assert_eq!(row(&client, read).await, "0|t");
    for value in 1..5_i32 {
        client.batch_execute(&format!("UPDATE kept SET v = {value} WHERE k = 1")).await.unwrap();
        assert_eq!(row(&client, read).await, format!("{value}|f"));
        client.execute("UPDATE kept SET v = -v WHERE k = 1", &[]).await.unwrap();
        assert_eq!(row(&client, read).await, format!("-{value}|f"));
    }
    assert_eq!(client.simple_query("SHOW pgring.lsn").await.unwrap_err().code().unwrap().code(), "57P03");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_a_little_behind_is_waited_for() {
    let shards = shards(1, 1);
    let name = fill(&shards, SCRIPT);
    let config = config(&name, &shards).set("routing", "read_your_writes_wait", "\"5s\"");
    let proxy = start(config, &shards);
    let client = connect(&proxy.dsn(APP, &name)).await;
    let replica = &shards[0].replicas[0];
    pause(replica);
    client.batch_execute("UPDATE kept SET v = 1 WHERE k = 1").await.unwrap();
    let began = Instant::now();
    let soon = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        tokio::task::block_in_place(|| resume(replica));
    };
    let (seen, ()) = tokio::join!(row(&client, "SELECT v, pg_is_in_recovery() FROM kept WHERE k = 1"), soon);
    assert_eq!(seen, "1|t");
    assert!(began.elapsed() >= Duration::from_millis(300) && began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_replica_too_far_behind_serves_no_reads() {
    let shards = shards(1, 1);
    let name = fill(&shards, SCRIPT);
    let config = config(&name, &shards).set("health", "max_replica_lag", "\"500ms\"");
    let proxy = start(config, &shards);
    let place = || {
        let printed = psql(&proxy.dsn(APP, &name), "SELECT current_setting('port')").expect_ok();
        shards[0].name_of(printed.trim())
    };
    pause(&shards[0].replicas[0]);
    psql(&proxy.dsn(APP, &name), "UPDATE kept SET v = 1 WHERE k = 1").expect_ok();
    eventually("reads are on the primary", || place() == "primary");
    resume(&shards[0].replicas[0]);
    eventually("reads are on the replica again", || place() == "replica1");
}

/// Pauses and resumes the replicas' replay by turns until it is dropped.
struct Unsteady {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Unsteady {
    fn start(shards: &Arc<Vec<Shard>>) -> Unsteady {
        let over = Arc::new(AtomicBool::new(false));
        let (shards, stop) = (Arc::clone(shards), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                for (at, replica) in shards.iter().flat_map(|shard| &shard.replicas).enumerate() {
                    sql(replica, "SELECT pg_wal_replay_pause()");
                    std::thread::sleep(Duration::from_millis(20 + 15 * at as u64));
                    resume(replica);
                    std::thread::sleep(Duration::from_millis(30));
                }
            }
        });
        Unsteady { over, thread: Some(thread) }
    }
}

impl Drop for Unsteady {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One session writes, itself or another one reads; each way of writing by turns.
async fn work(dsn: String, worker: i32, pairs: u64, on_replicas: Arc<AtomicU64>) {
    let (own, other) = (connect(&dsn).await, connect(&dsn).await);
    let update = own.prepare("UPDATE kept SET v = $1 WHERE k = $2").await.unwrap();
    let select = own.prepare("SELECT v, pg_is_in_recovery() FROM kept WHERE k = $1").await.unwrap();
    for number in 1..=pairs {
        let value = i32::try_from(number).unwrap();
        let written = format!("UPDATE kept SET v = {value} WHERE k = {worker}");
        match number % 5 {
            0 => own.batch_execute(&written).await.unwrap(),
            1 => own.batch_execute(&format!("BEGIN; {written}; COMMIT")).await.unwrap(),
            2 => {
                own.batch_execute("BEGIN").await.unwrap();
                own.execute(&update, &[&value, &worker]).await.unwrap();
                own.batch_execute("COMMIT").await.unwrap();
            }
            _ => assert_eq!(own.execute(&update, &[&value, &worker]).await.unwrap(), 1),
        }
        let (seen, replica) = if number % 7 == 0 {
            let token = row(&own, "SHOW pgring.lsn").await;
            other.batch_execute(&format!("SET pgring.lsn = '{token}'")).await.unwrap();
            let read = format!("SELECT v, pg_is_in_recovery() FROM kept WHERE k = {worker}");
            let seen = row(&other, &read).await;
            (seen.trim_end_matches(['|', 't', 'f']).parse().unwrap(), seen.ends_with('t'))
        } else {
            let seen = own.query_one(&select, &[&worker]).await.unwrap();
            (seen.get::<_, i32>(0), seen.get(1))
        };
        assert_eq!(
            seen, value,
            "worker {worker} has read what was before its own write, on a replica: {replica}"
        );
        on_replicas.fetch_add(u64::from(replica), Ordering::Relaxed);
    }
}

async fn hammer(proxy: &Proxy, name: &str, shards: &Arc<Vec<Shard>>, pairs: u64) -> u64 {
    const WORKERS: u64 = 10;
    let on_replicas = Arc::new(AtomicU64::new(0));
    let unsteady = Unsteady::start(shards);
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let worker = i32::try_from(worker).unwrap();
            tokio::spawn(work(proxy.dsn(APP, name), worker, pairs / WORKERS, Arc::clone(&on_replicas)))
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    drop(unsteady);
    on_replicas.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_is_stale_on_one_shard() {
    let shards = Arc::new(shards(1, 2));
    let name = fill(&shards, SCRIPT);
    let config = config(&name, &shards).set("routing", "read_your_writes_wait", "\"10ms\"");
    let proxy = start(config, &shards);
    let on_replicas = hammer(&proxy, &name, &shards, pairs()).await;
    assert!(on_replicas > pairs() / 10, "only {on_replicas} reads were on a replica");
    assert!(on_replicas < pairs(), "no replica has ever been too far behind");
    println!("{} pairs, {on_replicas} of the reads on replicas", pairs());
}

/// The same over several shards: changes of one, and of all at once.
#[tokio::test(flavor = "multi_thread")]
async fn no_read_is_stale_on_several_shards() {
    let shards = Arc::new(shards(2, 1));
    let name = fill(&shards, "CREATE TABLE kept (k int PRIMARY KEY, v int);");
    let config = config(&name, &shards)
        .replace("name = \"users\"\nkey = \"id\"", "name = \"kept\"\nkey = \"k\"")
        .set("routing", "read_your_writes_wait", "\"10ms\"");
    let proxy = start(config, &shards);
    let rows: Vec<String> = (0..100).map(|k| format!("({k}, 0)")).collect();
    psql(&proxy.dsn(APP, &name), &format!("INSERT INTO kept VALUES {}", rows.join(", "))).expect_ok();
    let client = connect(&proxy.dsn(APP, &name)).await;
    let pairs = pairs() / 10;
    let all = async {
        for number in 1..=pairs / 10 {
            let value = i32::try_from(number).unwrap();
            client.batch_execute(&format!("UPDATE kept SET v = {value} WHERE k >= 50")).await.unwrap();
            let seen = row(&client, "SELECT min(v), max(v), count(*) FROM kept WHERE k >= 50").await;
            assert_eq!(seen, format!("{value}|{value}|50"));
        }
    };
    let (on_replicas, ()) = tokio::join!(hammer(&proxy, &name, &shards, pairs), all);
    assert!(on_replicas > 0, "no read was on a replica");
    println!("{pairs} pairs, {on_replicas} of the reads on replicas");
}
