//! The local cluster behind `pgring demo` and behind all other tests.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pgring::config;
use pgring::demo::cluster::{Cluster, SUPERUSER};
use pgring::demo::sample::{self, APP, DATABASE, USERS};
use pgring::demo::{Demo, DemoError, DemoOptions};
use pgring::ring::{Key, ShardId, Topology};

mod support;
use support::{eventually_within, processes_mentioning};

/// Ending servers takes a moment on a busy machine.
const END_PATIENCE: Duration = Duration::from_secs(20);

fn options(shards: u16, replicas: u16, dir: Option<&Path>) -> DemoOptions {
    DemoOptions { shards, replicas, dir: dir.map(Path::to_path_buf), port: 0 }
}

fn query(server: &Cluster, sql: &str) -> String {
    server.psql(APP, DATABASE, sql).unwrap().trim().to_owned()
}

#[tokio::test]
async fn the_samples_rows_lie_on_the_shards_that_own_their_users() {
    let demo = Demo::start(options(3, 0, None)).await.unwrap();
    let directory = demo.directory().to_path_buf();

    let mut users = 0;
    for (shard, id) in demo.shards().iter().zip(demo.topology().ids()) {
        let client = support::connect(&shard.primary.dsn(APP, DATABASE)).await;
        for (table, key) in [
            ("users", "id"),
            ("jobs", "user_id"),
            ("job_executions", "user_id"),
            ("notifications", "user_id"),
            ("audit_logs", "user_id"),
        ] {
            let rows = client.query(&format!("SELECT DISTINCT {key} FROM {table}"), &[]).await.unwrap();
            let mut keys: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
            keys.sort_unstable();
            assert_eq!(keys, sample::owned_users(demo.topology(), id), "{table} on {}", shard.name);
            if table == "users" {
                users += keys.len();
            }
        }
        assert_eq!(query(&shard.primary, "SELECT count(*) FROM plans"), "3");
        let home = query(&shard.primary, "SELECT to_regclass('app_settings') IS NOT NULL");
        assert_eq!(home, if id == demo.topology().home { "t" } else { "f" });
    }
    assert_eq!(i64::try_from(users).unwrap(), USERS);

    assert!(!processes_mentioning(directory.to_str().unwrap()).is_empty());
    demo.stop().await.unwrap();
    assert_eq!(processes_mentioning(directory.to_str().unwrap()), Vec::<String>::new());
    assert!(!directory.exists(), "a temporary directory is removed");
}

#[test]
fn new_ids_are_unique_over_the_shards() {
    let servers = support::servers(3);
    let (name, topology) = (support::sample_database(&servers), support::topology(3));
    let mut ids = Vec::new();
    for (server, shard) in servers.iter().zip(topology.ids()) {
        let user = sample::owned_users(&topology, shard)[0];
        let script = format!(
            "INSERT INTO audit_logs (user_id, entity_type, action) \
             SELECT {user}, 'user', 'login' FROM generate_series(1, 50); \
             SELECT id FROM audit_logs"
        );
        let printed = support::psql(&server.dsn(APP, &name), &script).expect_ok();
        ids.extend(printed.lines().map(str::to_owned));
    }
    let all = ids.len();
    assert_eq!(all, 2 * usize::try_from(USERS).unwrap() + 3 * 50);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn what_the_banner_suggests_works_on_the_users_shard() {
    let demo = Demo::start_blocking(&options(2, 0, None)).unwrap();
    let owner = demo.topology().owner(Key::Integer(42).hash());
    let primary = &demo.shards()[owner.index()].primary;
    let banner = demo.banner();
    for (_, statement) in sample::WORTH_TRYING {
        assert!(banner.contains(statement));
        if !statement.starts_with("SHOW pgring.") {
            assert!(!query(primary, statement).is_empty(), "{statement}");
        }
    }
    assert!(banner.contains(&demo.dsn()));
    places_rows_as(&config::load(demo.config_path()).unwrap(), demo.topology());
}

/// Would a pgring with these settings look for the sample's rows where they are?
fn places_rows_as(settings: &config::Settings, topology: &Topology) {
    let database = settings.database(DATABASE).unwrap();
    let home = ShardId(u16::try_from(database.home).unwrap());
    assert_eq!(&Topology::new(&database.weights(), database.virtual_nodes, home), topology);
}

#[test]
fn the_configurations_of_tests_and_compose_are_valid() {
    let servers = support::servers(3);
    let text = support::Config::new().database(DATABASE, &servers).to_toml();
    places_rows_as(&config::parse(&text, Path::new("pgring.toml")).unwrap(), &support::topology(3));

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/pgring.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    // What docker-compose.yml puts into the environment.
    let text = text.replace("{ env = \"PGRING_CONTROL_PASSWORD\" }", "\"pgring\"");
    places_rows_as(&config::parse(&text, &path).unwrap(), &support::topology(3));
}

#[test]
fn a_replica_follows_its_primary_even_when_that_has_moved() {
    let parent = tempfile::tempdir_in("/tmp").unwrap();
    open_to_all(parent.path());
    let dir = parent.path().join("demo");
    let demo = Demo::start_blocking(&options(1, 1, Some(&dir))).unwrap();
    let follows = |demo: &Demo, value: &str| {
        let shard = &demo.shards()[0];
        query(&shard.primary, &format!("INSERT INTO app_settings VALUES ('{value}', '')"));
        eventually_within(END_PATIENCE, "the replica has the row", || {
            let found = format!("SELECT count(*) FROM app_settings WHERE key = '{value}'");
            query(&shard.replicas[0], &found) == "1"
        });
        assert_eq!(query(&shard.replicas[0], "SELECT pg_is_in_recovery()"), "t");
    };
    follows(&demo, "first");
    demo.stop_blocking().unwrap();

    let other_shape = Demo::start_blocking(&options(2, 1, Some(&dir)));
    assert!(matches!(other_shape, Err(DemoError::OtherShape { shards: 1, replicas: 1, .. })));

    let demo = Demo::start_blocking(&options(1, 1, Some(&dir))).unwrap();
    assert_eq!(query(&demo.shards()[0].primary, "SELECT count(*) FROM users"), USERS.to_string());
    follows(&demo, "second");
}

#[test]
fn a_crashed_server_starts_again_on_its_port_with_what_was_acknowledged() {
    let mut server = support::own_servers(1).remove(0);
    let name = support::database(&[&server], "CREATE TABLE t (a integer)");
    let port = server.port();
    for round in 1..=3 {
        server.psql(APP, &name, &format!("INSERT INTO t VALUES ({round})")).unwrap();
        server.crash().unwrap();
        assert!(server.psql(APP, &name, "SELECT").is_err());
        server.restart().unwrap();
        assert_eq!(server.port(), port);
    }
    assert_eq!(server.psql(APP, &name, "SELECT count(*) FROM t").unwrap().trim(), "3");
    let data = server.data().to_path_buf();
    drop(server);
    assert!(!data.exists());
    assert_eq!(processes_mentioning(data.to_str().unwrap()), Vec::<String>::new());
}

#[test]
fn the_shared_servers_are_told_apart() {
    let servers = support::servers(3);
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    let mut identifiers: Vec<String> =
        servers.iter().map(|server| server.psql(SUPERUSER, "postgres", identifier).unwrap()).collect();
    identifiers.sort_unstable();
    identifiers.dedup();
    assert_eq!(identifiers.len(), 3, "two-phase commit names its participants by them");
    assert!(std::ptr::eq(servers[1], support::servers(2)[1]));
}

#[test]
fn a_port_in_use_is_said_before_anything_is_started() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = Demo::start_blocking(&DemoOptions { port, ..options(1, 0, None) });
    assert!(matches!(refused, Err(DemoError::PortTaken { .. })));
}

const HOLD: &str = "PGRING_TEST_HOLD_DEMO";

/// Not a test of its own: the process that the next one kills.
#[test]
fn holder() {
    if std::env::var_os(HOLD).is_none() {
        return;
    }
    let demo = Demo::start_blocking(&options(2, 1, None)).unwrap();
    let own = support::own_servers(1);
    println!("\nholding {} {}", demo.directory().display(), own[0].data().display());
    std::thread::park();
}

#[test]
fn nothing_runs_on_when_its_starter_is_killed() {
    let mut starter = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder", "--nocapture"])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(starter.stdout.take().unwrap());
    let line = output.lines().map(Result::unwrap).find(|line| line.starts_with("holding ")).unwrap();
    let mut words = line.split(' ').skip(1);
    let (demo, server) = (words.next().unwrap(), words.next().unwrap());
    assert!(!processes_mentioning(demo).is_empty());
    assert!(!processes_mentioning(server).is_empty());

    starter.kill().unwrap();
    starter.wait().unwrap();
    eventually_within(END_PATIENCE, "all servers have ended", || {
        processes_mentioning(demo).is_empty() && processes_mentioning(server).is_empty()
    });
    for data in [Path::new(server), &Path::new(demo).join("s1")] {
        eventually_within(END_PATIENCE, "data nobody asked to keep are removed", || !data.exists());
    }
    std::fs::remove_dir_all(demo).unwrap();
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
