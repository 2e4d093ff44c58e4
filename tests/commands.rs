//! The command line as its user meets it.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::Signal;
use pgring::demo::account::Account;
use pgring::demo::cluster::free_port;
use pgring::demo::sample::{APP, WORTH_TRYING};
use pgring::demo::watchdog::{Spec, Watched};
use pgring::ring::Key;
use tempfile::TempDir;

mod support;
use support::{
    Config, Printed, database, eventually_within, processes_mentioning, psql, sample_database, servers,
    topology,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn pgring(arguments: &[&str]) -> Printed {
    Command::new(env!("CARGO_BIN_EXE_pgring"))
        .args(arguments)
        .env("PGRING_CONTROL_PASSWORD", "pgring")
        .output()
        .unwrap()
        .into()
}

fn file(directory: &TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_command_has_help_with_an_example() {
    let all = pgring(&["--help"]).expect_ok();
    for command in ["serve", "check", "demo", "ring", "explain"] {
        assert!(all.contains(command), "{all}");
        let help = pgring(&[command, "--help"]).expect_ok();
        assert!(help.contains(&format!("Example:\n  pgring {command} ")), "{help}");
    }
    assert!(!pgring(&["nonsense"]).ok);
    assert!(pgring(&["--version"]).expect_ok().starts_with("pgring "));
}

#[test]
fn check_finds_the_sample_configuration_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pgring.toml");
    let out = pgring(&["check", "--config", path.to_str().unwrap()]).expect_ok();
    assert!(out.contains("valid: novacron on 3 shards; users app, ops, monitor"), "{out}");
}

#[test]
fn check_prints_every_error_with_its_line_and_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[pool]\nsize = 0\nsise = 3\nidle_timeout = 5\n\n[listen]\ntls = \"require\"\n\n\
                [admin]\nusers = [\"nobody\"]\n\n[[user]]\nname = \"app\"\npassword = \"x\"\n\n\
                [[database]]\nname = \"d\"\nkey = \"k\"\n\
                [[database.shard]]\nname = \"a\"\nendpoints = [\"h:1\"]\n\
                [[database.shard]]\nname = \"a\"\nendpoints = [\"h:99999\"]\nweight = 0\n";
    let path = file(&directory, "bad.toml", text);
    let printed = pgring(&["check", "--config", &path]);
    assert!(!printed.ok);
    for (line, expect) in [
        (2, "pool.size"),
        (3, "did you mean \"size\""),
        (4, "idle_timeout"),
        (6, "tls_certificate"),
        (10, "nobody"),
        (23, "name"),
        (24, "99999"),
        (25, "weight"),
    ] {
        let start = format!("{path}:{line}: ");
        let found = printed.err.lines().any(|said| said.starts_with(&start) && said.contains(expect));
        assert!(found, "no line {start}… with {expect:?}:\n{}", printed.err);
    }
    for (name, text, expect) in
        [("syntax.toml", "[pool\nsize = 1\n", "syntax.toml:1: "), ("empty.toml", "", "database")]
    {
        let printed = pgring(&["check", "--config", &file(&directory, name, text)]);
        assert!(!printed.ok && printed.err.contains(expect), "{name}: {}", printed.err);
    }
    let missing = pgring(&["check", "--config", "/nowhere/pgring.toml"]);
    assert!(!missing.ok && missing.err.contains("/nowhere/pgring.toml"), "{}", missing.err);
    assert!(!missing.err.contains("Os {"), "{}", missing.err);
}

#[test]
fn check_connect_tells_good_servers_from_bad() {
    let shards = servers(2);
    let name = sample_database(&shards);
    let directory = tempfile::tempdir().unwrap();
    let good = Config::new().database(&name, &shards);
    let check = |config: &Config| {
        pgring(&["check", "--connect", "--config", &file(&directory, "pgring.toml", &config.to_toml())])
    };
    let printed = check(&good).expect_ok();
    for expect in [
        &*format!("ok    s1 {}  primary, PostgreSQL ", shards[0].address()),
        "the same schema on 2 shards: 5 sharded, 1 reference",
    ] {
        assert!(printed.contains(expect), "no {expect:?} in\n{printed}");
    }
    let nobody = format!("127.0.0.1:{}", free_port().unwrap());
    let twice = good.clone().replace(&shards[1].address(), &format!("localhost:{}", shards[0].port()));
    let wrong_password =
        good.clone().replace("password = \"app\"", "password = \"app\"\nserver_password = \"no\"");
    for (what, config, expect) in [
        (
            "nobody there",
            good.clone().replace(&shards[1].address(), &nobody),
            "start it or correct database[0].shard[1].endpoints",
        ),
        ("one server twice", twice, "is the same database as that of shard"),
        ("user's password", wrong_password, "user \"app\" cannot log in"),
        (
            "no database",
            good.clone().replace(&format!("name = \"{name}\""), "name = \"nowhere\""),
            "create the database \"nowhere\" there",
        ),
        (
            "own password",
            good.clone().set("control", "password", "\"wrong\""),
            "correct [control] user and password",
        ),
    ] {
        let printed = check(&config);
        assert!(!printed.ok, "{what} is found");
        assert!(printed.out.contains(expect), "{what}: no {expect:?} in\n{}", printed.out);
    }
    // What runs without a word of it in a statement.
    for server in &shards {
        let acting = "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
             CREATE FUNCTION f() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'; \
             CREATE TRIGGER touch BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION touch(); \
             CREATE RULE r AS ON DELETE TO notifications DO INSTEAD NOTHING; \
             ALTER TABLE users ADD c int DEFAULT f(), ADD CONSTRAINT k CHECK (f() > 0)";
        server.psql(pgring::demo::cluster::SUPERUSER, &name, acting).unwrap();
    }
    let printed = check(&good).expect_ok();
    for expect in [
        "warn  s1  table public.jobs has triggers",
        "warn  s1  table public.notifications has rules",
        "warn  s1  the default of public.users.c calls f()",
        "warn  s1  check k of table public.users calls f()",
    ] {
        assert!(printed.contains(expect), "no {expect:?} in\n{printed}");
    }
    // Whose transactions pgring's role could not finish.
    let stranger = good.clone().append("[[user]]\nname = \"postgres\"\npassword = \"postgres\"\n");
    let printed = check(&stranger);
    assert!(printed.out.contains("GRANT postgres TO pgring"), "{}", printed.out);
    assert!(!printed.out.contains("GRANT app"), "{}", printed.out);
    let differ = database(&shards[..1], "CREATE TABLE users (id bigint PRIMARY KEY)");
    pgring::demo::sample::create_database(shards[1], &differ).unwrap();
    let printed = check(&Config::new().database(&differ, &shards));
    assert!(!printed.ok && printed.out.contains("users"), "{}", printed.out);
}

#[test]
fn ring_tells_where_a_key_lives_and_what_a_change_moves() {
    let directory = tempfile::tempdir().unwrap();
    let config = |shards: usize| {
        let endpoints: Vec<Vec<String>> = (0..shards).map(|number| vec![format!("h{number}:1")]).collect();
        Config::new().database_at("shop", &endpoints).to_toml()
    };
    let (old, new) = (file(&directory, "old.toml", &config(3)), file(&directory, "new.toml", &config(4)));
    let printed = pgring(&["ring", "--config", &old, "--key", "42", "--with", &new]).expect_ok();
    let owner = topology(3).name(topology(3).owner(Key::Integer(42).hash())).to_owned();
    let moved: f64 = topology(3).ring.moves_to(&topology(4).ring).iter().map(|moves| moves.share).sum();
    let about_42 = printed.lines().find(|line| line.contains("as integer")).unwrap();
    assert!(about_42.contains(&owner), "{owner}: {printed}");
    for expect in ["s1", "s2", "s3", "s4", &*format!("{:.2}", moved * 100.0)] {
        assert!(printed.contains(expect), "no {expect:?} in\n{printed}");
    }
    let negative = pgring(&["ring", "--config", &old, "--key", "-1"]).expect_ok();
    let owner = topology(3).name(topology(3).owner(Key::Integer(-1).hash())).to_owned();
    assert!(negative.lines().any(|line| line.contains("as integer") && line.contains(&owner)), "{negative}");
}

#[test]
fn explain_says_where_a_statement_goes_and_why() {
    let shards = servers(3);
    let name = sample_database(&shards);
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "pgring.toml", &Config::new().database(&name, &shards).to_toml());
    let owner = |key: i64| topology(3).name(topology(3).owner(Key::Integer(key).hash())).to_owned();
    for shard in &shards {
        let function = "CREATE FUNCTION reader() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM users'";
        shard.psql(APP, &name, function).unwrap();
    }
    for (sql, expected) in [
        ("SELECT * FROM jobs WHERE user_id = 42", &*format!("shard {}", owner(42))),
        ("SELECT * FROM users WHERE id = 7", &*format!("shard {}", owner(7))),
        ("INSERT INTO jobs (user_id, name, schedule) VALUES (9, 'a', 'b')", &*format!("shard {}", owner(9))),
        ("SELECT * FROM app_settings", "shard s1"),
        ("SELECT * FROM plans", "any shard: reference tables only"),
        ("SELECT count(*) FROM users", "combined: "),
        ("SELECT * FROM users WHERE id = 1 OR true", "merged: "),
        ("EXPLAIN SELECT id FROM users ORDER BY id", "merged in order"),
        ("SELECT * FROM jobs a JOIN jobs b ON a.name = b.name", "the home shard runs: "),
        ("UPDATE users SET name = 'x'", "each shard runs: UPDATE users"),
        (
            "INSERT INTO users (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')",
            "split: each of the 5 rows",
        ),
        ("ALTER TABLE users ADD COLUMN extra int", "each shard runs: ALTER TABLE"),
        ("/* pgring: shard=s2 */ SELECT * FROM users", "shard s2"),
        ("COPY users FROM STDIN", "split: each row goes to the owner of its id"),
        ("COPY plans FROM STDIN", "replicated: "),
        ("COPY users TO STDOUT", "each shard runs: COPY users"),
        ("COPY (SELECT count(*) FROM users) TO STDOUT", "the home shard runs: "),
        ("COPY (DELETE FROM users RETURNING id) TO STDOUT", "refused: 0A000"),
        ("SELECT reader()", "refused: function \"reader\" may read any table"),
        ("/* pgring: shard=s9 */ SELECT * FROM users", "42704"),
        ("UPDATE users SET id = 4 WHERE id = 3", "refused: 0A000"),
        ("UPDATE users SET id = 4 WHERE id = 3", "hint: "),
    ] {
        let printed = pgring(&["explain", "--config", &path, sql]).expect_ok();
        assert!(printed.contains(expected), "{sql}: no {expected:?} in\n{printed}");
    }
    let broken = pgring(&["explain", "--config", &path, "SELECT 'unfinished"]);
    assert!(!broken.ok && broken.err.contains("unterminated"), "{}{}", broken.out, broken.err);
    let other = pgring(&["explain", "--config", &path, "--database", "nowhere", "SELECT 1"]);
    assert!(!other.ok && other.err.contains("there is no database \"nowhere\""), "{}", other.err);
}

/// Two demos that start at once may find the same port free.
static ONE_DEMO: Mutex<()> = Mutex::new(());

/// `pgring demo` on a free port, and what it has printed.
struct RunningDemo {
    watched: Watched,
    log: PathBuf,
    _directory: TempDir,
}

impl RunningDemo {
    fn start(arguments: &[&str]) -> RunningDemo {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let port = free_port().unwrap().to_string();
        let command = [env!("CARGO_BIN_EXE_pgring"), "demo", "--port", &port].into_iter();
        let watched = Watched::spawn(Spec {
            account: &Account::own(),
            command: command.chain(arguments.iter().copied()).map(Into::into).collect(),
            environment: Vec::new(),
            log: File::create(&log).unwrap(),
            last_signal: Signal::SIGKILL,
            remove: None,
        })
        .unwrap();
        let mut demo = RunningDemo { watched, log, _directory: directory };
        eventually_within(PATIENCE, "the banner is printed", || {
            assert!(demo.watched.ended().unwrap().is_none(), "{}", demo.printed());
            demo.printed().contains("Ctrl-C stops everything")
        });
        demo
    }

    fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn word_after(&self, heading: &str) -> String {
        let printed = self.printed();
        let line = printed.lines().find_map(|line| line.trim_start().strip_prefix(heading));
        line.unwrap_or_else(|| panic!("no {heading} in\n{printed}"))
            .split_whitespace()
            .next()
            .unwrap()
            .to_owned()
    }

    fn interrupt(mut self) -> String {
        self.watched.signal(Signal::SIGINT).unwrap();
        let status = self.watched.wait(PATIENCE).unwrap();
        assert_eq!(status.unwrap().code(), Some(0), "{}", self.printed());
        self.printed()
    }
}

#[test]
fn the_demo_works_as_its_banner_says_and_leaves_nothing() {
    let _one = ONE_DEMO.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let demo = RunningDemo::start(&["--shards", "2", "--replicas", "0"]);
    let dsn = demo.word_after("psql ");
    for (about, statement) in WORTH_TRYING {
        let printed = psql(&dsn, statement).expect_ok();
        assert!(!printed.trim().is_empty() || statement.starts_with("SHOW"), "{about}: {statement}");
    }
    let console = demo.word_after("console        psql ");
    assert!(psql(&console, "SHOW POOLS").expect_ok().contains("novacron"));
    let directory = Path::new(&demo.word_after("configuration")).parent().unwrap().to_owned();
    assert!(!processes_mentioning(directory.to_str().unwrap()).is_empty());
    let printed = demo.interrupt();
    assert!(
        !printed.contains(" WARN ") && !printed.contains(" ERROR "),
        "all is well, so nothing is warned of:\n{printed}"
    );
    assert_eq!(processes_mentioning(directory.to_str().unwrap()), Vec::<String>::new());
    assert!(!directory.exists());
}

#[test]
fn the_demo_keeps_what_it_is_told_to_keep() {
    let _one = ONE_DEMO.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Where the account that runs the servers can enter.
    let parent = tempfile::tempdir_in("/tmp").unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(parent.path(), everybody).unwrap();
    let kept = parent.path().join("demo");
    let arguments = ["--shards", "1", "--replicas", "0", "--dir", kept.to_str().unwrap()];
    let mark = "SELECT value FROM app_settings WHERE key = 'kept'";
    for round in 1..=2 {
        let demo = RunningDemo::start(&arguments);
        let dsn = demo.word_after("psql ");
        if round == 1 {
            psql(&dsn, "INSERT INTO app_settings VALUES ('kept', 'yes')").expect_ok();
        }
        assert_eq!(psql(&dsn, mark).expect_ok(), "yes\n");
        demo.interrupt();
        assert_eq!(processes_mentioning(kept.to_str().unwrap()), Vec::<String>::new());
        assert!(kept.join("pgring.toml").exists());
    }
}
