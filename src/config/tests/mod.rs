//! Files and what becomes of them.

mod problems;

use super::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The least a file must say; appended to what a row is about.
const REST: &str = r#"
[[user]]
name = "app"
password = "secret"
[[database]]
name = "shop"
[[database.shard]]
name = "s1"
endpoints = ["127.0.0.1:5432"]
"#;

const SAMPLE: &str = include_str!("../../../config/pgring.toml");

fn environment(name: &str) -> Option<OsString> {
    match name {
        "PASSWORD" => Some("from the environment".into()),
        "EMPTY" => Some("".into()),
        _ => None,
    }
}

fn parse_at(text: &str, origin: &Path) -> Result<Settings, Problems> {
    parse_with(text, origin, &environment)
}

fn good(text: &str) -> Settings {
    match parse_at(text, Path::new("/etc/pgring/pgring.toml")) {
        Ok(settings) => settings,
        Err(problems) => panic!("{text}\n{problems}"),
    }
}

fn good_with_rest(text: &str) -> Settings {
    good(&format!("{text}\n{REST}"))
}

/// Expects exactly these problems, each as `line: key: part of message; part of remedy`;
/// `-` stands for no line.
fn check(text: &str, expected: &[&str]) {
    let problems = match parse_at(text, Path::new("/etc/pgring/pgring.toml")) {
        Ok(_) => panic!("valid, without {expected:?}:\n{text}"),
        Err(Problems(problems)) => problems,
    };
    let shown = Problems(problems.clone()).to_string();
    assert_eq!(problems.len(), expected.len(), "{text}\nsays\n{shown}\nwithout\n{expected:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        let [line, key, what] = expected.splitn(3, ": ").collect::<Vec<_>>()[..] else {
            panic!("{expected}")
        };
        let (message, remedy) = what.split_once("; ").unwrap_or((what, ""));
        let found = problem.line.map_or("-".to_owned(), |line| line.to_string());
        let right = found == line
            && problem.key == key
            && problem.message.contains(message)
            && problem.remedy.contains(remedy)
            && !problem.remedy.is_empty();
        assert!(right, "{text}\nexpected {expected}\nfound    {problem}\nof\n{shown}");
    }
}

/// As [`check`], for what stands before users and databases.
fn check_with_rest(text: &str, expected: &[&str]) {
    check(&format!("{text}\n{REST}"), expected);
}

/// As [`check`], for a database that a user stands before on lines 1 to 3.
fn check_database(text: &str, expected: &[&str]) {
    check(&format!("[[user]]\nname = \"app\"\npassword = \"secret\"\n{text}"), expected);
}

#[test]
fn defaults() {
    let settings = good(REST);
    assert_eq!(settings.cluster, "pgring");
    assert_eq!(
        settings.listen,
        Listen {
            addresses: vec![ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 6432)))],
            max_clients: 10_000,
            login_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
            runtime_dir: RuntimeDir::Usual,
            tls: ListenTls::Disable,
        }
    );
    let keepalive = Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(15), count: 4 };
    assert_eq!(settings.tcp, Tcp { keepalive: Some(keepalive), user_timeout: None });
    assert_eq!(settings.http.address, Some(SocketAddr::from(([127, 0, 0, 1], 9464))));
    assert_eq!(settings.control, Control { user: "pgring".into(), password: None, given: false });
    assert_eq!(settings.admin, Admin { users: vec![], stats_users: vec![] });
    assert_eq!(
        settings.pool,
        Pool {
            mode: PoolMode::Transaction,
            size: 20,
            min_idle: 0,
            checkout_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(3600),
            connect_timeout: Duration::from_secs(5),
            query_timeout: None,
            idle_transaction_timeout: None,
            client_idle_timeout: None,
            prepared_statements: 500,
        }
    );
    assert_eq!(
        settings.health,
        Health {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            failures: 3,
            max_replica_lag: Duration::from_secs(10),
            failover_hold: Duration::from_secs(15),
        }
    );
    assert_eq!(
        settings.routing,
        Routing {
            reads: Reads::Primary,
            read_your_writes: true,
            read_your_writes_wait: Duration::from_millis(50),
            cross_shard: CrossShard::Allow,
            gather_memory_bytes: 64 << 20,
            gather_limit_bytes: 1 << 30,
            deadlock_timeout: Duration::from_secs(1),
        }
    );
    let database = settings.database("shop").unwrap();
    assert_eq!((database.virtual_nodes, database.home, &database.key), (1024, 0, &None));
    let shard = &database.shards[0];
    assert_eq!((shard.dbname.as_str(), shard.weight, shard.analytics.len()), ("shop", 1, 0));
    assert_eq!(shard.tls, ServerTls { mode: TlsMode::Prefer, ca: None });
    assert_eq!(settings.user("app").unwrap().server_password, None);
    assert_eq!(settings.user("nobody"), None);
}

#[test]
fn the_sample_says_the_defaults() {
    let (sample, defaults) = (good(SAMPLE), good(REST));
    assert_eq!(sample.cluster, defaults.cluster);
    assert_eq!(sample.listen, defaults.listen);
    assert_eq!(sample.tcp, defaults.tcp);
    assert_eq!(sample.http, defaults.http);
    assert_eq!(sample.control, Control { given: true, ..defaults.control });
    assert_eq!(sample.pool, defaults.pool);
    assert_eq!(sample.health, defaults.health);
    assert_eq!(sample.routing, defaults.routing);
    assert_eq!(sample.admin.users, ["ops"]);
    let [database] = &sample.databases[..] else { panic!("one database") };
    assert_eq!(database.virtual_nodes, defaults.databases[0].virtual_nodes);
    assert_eq!((database.home, database.shards.len()), (0, 3));
    assert!(database.shards.iter().all(|shard| shard.dbname == database.name && shard.weight == 1));
    assert_eq!(
        database.tables,
        [
            TableSetting { name: "users".into(), key: Some("id".into()), reference: false },
            TableSetting { name: "plans".into(), key: None, reference: true },
        ]
    );
}

#[test]
fn the_sample_has_every_key() {
    let origin = Path::new("pgring.toml");
    let (result, known) = section::read(SAMPLE, origin, &environment, validate::settings);
    assert!(result.is_ok());
    // With its commented keys, the sample must name everything a reader asks for.
    let uncommented: String = SAMPLE
        .lines()
        .map(|line| match line.trim_start().strip_prefix("# ") {
            Some(rest) if !rest.starts_with(' ') && rest.split_whitespace().nth(1) == Some("=") => {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let document: toml::Table = uncommented.parse().unwrap();
    fn collect(prefix: &str, value: &toml::Value, paths: &mut std::collections::BTreeSet<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    paths.insert(path.clone());
                    collect(&path, value, paths);
                }
            }
            toml::Value::Array(values) => values.iter().for_each(|value| collect(prefix, value, paths)),
            _ => {}
        }
    }
    let mut present = std::collections::BTreeSet::new();
    collect("", &toml::Value::Table(document), &mut present);
    present.remove("control.password.env");
    assert_eq!(known, present);
    assert!(known.len() > 50, "{known:?}");
}

#[test]
fn every_key_is_listed() {
    let origin = Path::new("pgring.toml");
    let (_, known) = section::read(SAMPLE, origin, &environment, validate::settings);
    let tables = ["listen", "tcp", "http", "control", "auth", "admin", "pool", "health", "routing"];
    let outside = |key: &&String| {
        let section = key.split('.').next().unwrap_or_default();
        section != "user" && section != "database" && !tables.contains(&key.as_str())
    };
    let listed: std::collections::BTreeSet<String> =
        listing::listing(&good(REST)).into_iter().map(|listed| listed.key.to_owned()).collect();
    assert_eq!(known.iter().filter(outside).cloned().collect::<std::collections::BTreeSet<_>>(), listed);
}

#[test]
fn values_arrive() {
    let settings = good_with_rest(
        r#"
        cluster = "eu-1"
        [listen]
        address = ["unix:run", "0.0.0.0:7000", "[::1]:7001"]
        max_clients = 0x10
        drain_timeout = "0"
        runtime_dir = "run"
        [tcp]
        keepalive_idle = "2m"
        keepalive_interval = "1s"
        keepalive_count = 127
        user_timeout = "1500ms"
        [http]
        address = "off"
        [control]
        user = "watcher"
        password = { env = "PASSWORD" }
        [pool]
        mode = "session"
        size = 1_000
        min_idle = 1000
        query_timeout = "30s"
        idle_transaction_timeout = "0s"
        [health]
        failover_hold = "0"
        [routing]
        reads = "prefer-replica"
        read_your_writes = false
        read_your_writes_wait = "0"
        cross_shard = "read-only"
        gather_memory = "1KiB"
        "#,
    );
    assert_eq!(settings.cluster, "eu-1");
    let shown: Vec<String> = settings.listen.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["unix:/etc/pgring/run:7000", "0.0.0.0:7000", "[::1]:7001"]);
    let socket = settings.listen.addresses[0].socket_file();
    assert_eq!(socket, Some(PathBuf::from("/etc/pgring/run/.s.PGSQL.7000")));
    assert_eq!((settings.listen.max_clients, settings.listen.drain_timeout), (16, Duration::ZERO));
    assert_eq!(settings.listen.runtime_dir, RuntimeDir::At(PathBuf::from("/etc/pgring/run")));
    let keepalive =
        Keepalive { idle: Duration::from_secs(120), interval: Duration::from_secs(1), count: 127 };
    let user_timeout = Some(Duration::from_millis(1500));
    assert_eq!(settings.tcp, Tcp { keepalive: Some(keepalive), user_timeout });
    assert_eq!(settings.http.address, None);
    assert_eq!(settings.control.password.unwrap().reveal(), "from the environment");
    assert!(settings.control.given);
    assert_eq!((settings.pool.mode, settings.pool.size), (PoolMode::Session, 1000));
    assert_eq!(settings.pool.query_timeout, Some(Duration::from_secs(30)));
    assert_eq!(settings.pool.idle_transaction_timeout, None);
    assert_eq!(settings.health.failover_hold, Duration::ZERO);
    assert_eq!(settings.routing.reads, Reads::PreferReplica);
    assert!(!settings.routing.read_your_writes);
    assert_eq!(settings.routing.read_your_writes_wait, Duration::ZERO);
    assert_eq!(settings.routing.cross_shard, CrossShard::ReadOnly);
    assert_eq!(settings.routing.gather_memory_bytes, 1024);
}

#[test]
fn the_control_password_has_a_default_variable() {
    let with = |name: &str| (name == "PGRING_CONTROL_PASSWORD").then(|| OsString::from("hidden"));
    let settings = parse_with(REST, Path::new("pgring.toml"), &with).unwrap();
    assert_eq!(settings.control.password.as_ref().map(Secret::reveal), Some("hidden"));
    assert!(!format!("{settings:?}").contains("hidden"), "secrets are not shown");
}

#[test]
fn files_are_relative_to_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let certificate = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    write("server.crt", certificate);
    write("ca.crt", certificate);
    write("server.key", "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n");
    write("password", "two words \r\n");
    let listen = "[listen]\ntls = \"allow\"\ntls_certificate = \"server.crt\"\ntls_key = \"server.key\"\ntls_client_ca = \"ca.crt\"\n";
    let rest = format!("{REST}tls = \"verify-full\"\ntls_ca = \"ca.crt\"\n")
        .replace("\"secret\"", "{ file = \"password\" }");
    write("pgring.toml", &format!("{listen}{rest}"));

    let settings =
        load(&directory.path().join("pgring.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    let files = TlsFiles {
        certificate: directory.path().join("server.crt"),
        key: directory.path().join("server.key"),
        client_ca: Some(directory.path().join("ca.crt")),
    };
    assert_eq!(settings.listen.tls, ListenTls::Allow(files));
    assert_eq!(settings.users[0].password.reveal(), "two words ");
    let tls = ServerTls { mode: TlsMode::VerifyFull, ca: Some(directory.path().join("ca.crt")) };
    assert_eq!(settings.databases[0].shards[0].tls, tls);

    // The key and the certificate swapped, and a directory for a file.
    let swapped =
        listen.replace(".crt", ".x").replace(".key", ".crt").replace(".x", ".key").replace("ca.key", ".");
    write("pgring.toml", &format!("{swapped}{rest}"));
    let problems = load(&directory.path().join("pgring.toml")).unwrap_err();
    let said: BTreeMap<&str, &str> =
        problems.0.iter().map(|problem| (problem.key.as_str(), problem.message.as_str())).collect();
    assert_eq!(said.len(), 3, "{problems}");
    assert!(said["listen.tls_certificate"].contains("has no CERTIFICATE"), "{problems}");
    assert!(said["listen.tls_key"].contains("has no PRIVATE KEY"), "{problems}");
    assert!(said["listen.tls_client_ca"].contains("cannot be read"), "{problems}");

    let problems = load(&directory.path().join("absent.toml")).unwrap_err();
    assert!(problems.to_string().contains("absent.toml: cannot be read: "), "{problems}");
    std::fs::write(directory.path().join("latin.toml"), b"cluster = \"gr\xf6\xdfe\"").unwrap();
    let problems = load(&directory.path().join("latin.toml")).unwrap_err();
    assert!(problems.to_string().contains("UTF-8"), "{problems}");
}
