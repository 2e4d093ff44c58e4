//! Servers that are lost, or cannot take part, while a transaction over several shards ends.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pgring::demo::cluster::{Cluster, SUPERUSER, Settings};
use pgring::demo::sample::APP;

use crate::stage::{Bank, said};
use crate::support::raw::{Frame, Raw, query};
use crate::support::{self, Config, Proxy, eventually_within};

const PATIENCE: Duration = Duration::from_secs(60);

/// Two servers of the test's own, which it may crash while a bank looks at them: by number.
struct Own {
    servers: Vec<Cluster>,
}

impl Own {
    fn new() -> Own {
        Own { servers: support::own_servers(2) }
    }

    /// Of the second server; it starts again.
    fn set_prepared_transactions(&mut self, count: u32) {
        let server = &mut self.servers[1];
        let set = format!("ALTER SYSTEM SET max_prepared_transactions = {count}");
        server.psql(SUPERUSER, "postgres", &set).unwrap();
        server.stop().unwrap();
        server.restart().unwrap();
    }

    fn bank(&self) -> Bank<'_> {
        Bank::open(&self.servers.iter().collect::<Vec<_>>())
    }
}

/// The SQLSTATE or the tag of an answer.
fn told(answer: &[Frame]) -> String {
    let of = |frame: &Frame| match frame.tag {
        b'E' => Some(frame.code()),
        b'C' => Some(String::from_utf8_lossy(&frame.body).trim_end_matches('\0').to_owned()),
        _ => None,
    };
    answer.iter().filter_map(of).collect::<Vec<_>>().join(" ")
}

/// A proxy stops at a step, the deciding server dies and comes back, the proxy goes on.
#[test]
fn a_decider_that_has_died_is_asked() {
    std::thread::scope(|scope| {
        for (step, expect) in
            [("commit:before", "08006"), ("commit:sent", "COMMIT"), ("commit:after", "COMMIT")]
        {
            scope.spawn(move || {
                let mut own = Own::new();
                let bank = own.bank();
                let (name, keys, config) = (bank.name.clone(), bank.keys, bank.config());
                let mut proxy = Proxy::start_to_fail(config, &format!("{step}:stop"));
                let mut raw = Raw::login(&proxy.address(), APP, &name);
                raw.set_patience(PATIENCE);
                bank.begin_transfer(&mut raw, 30);
                raw.send(&query("COMMIT"));
                eventually_within(PATIENCE, "it stops", || proxy.log().contains("fail point"));
                if step == "commit:sent" {
                    let decided = "SELECT count(*) FROM pgring.decision WHERE participants IS NOT NULL";
                    eventually_within(PATIENCE, "it is decided", || bank.rows(0, decided) == "1");
                }
                own.servers[0].crash().unwrap();
                own.servers[0].restart().unwrap();
                proxy.signal(Signal::SIGCONT);
                assert_eq!(told(&raw.until(b'Z', 1)), expect, "{step}");
                let servers = own.servers.iter().collect();
                let bank = Bank { servers, name, keys };
                let balances = if expect == "COMMIT" { [70, 130] } else { [100, 100] };
                // What is told is so by then, on every shard.
                assert_eq!((bank.balances(), bank.prepared()), (balances, 0), "{step}");
            });
        }
    });
}

/// Nobody guesses: the client is told that it is not known, and it is settled when the server is back.
#[test]
fn a_decider_that_stays_away_is_waited_for() {
    let mut own = Own::new();
    let bank = own.bank();
    let (name, keys, config) = (bank.name.clone(), bank.keys, bank.config());
    let mut proxy = Proxy::start_to_fail(config, "commit:before:stop");
    let mut raw = Raw::login(&proxy.address(), APP, &name);
    raw.set_patience(PATIENCE);
    bank.begin_transfer(&mut raw, 30);
    raw.send(&query("COMMIT"));
    eventually_within(PATIENCE, "it stops", || proxy.log().contains("fail point"));
    own.servers[0].crash().unwrap();
    proxy.signal(Signal::SIGCONT);
    assert_eq!(told(&raw.until(b'Z', 1)), "08007");
    assert_eq!(proxy.metric("pgring_two_phase_total{outcome=\"unknown\"}"), Some(1.0));
    eventually_within(PATIENCE, "it is in doubt", || proxy.metric("pgring_two_phase_in_doubt") == Some(1.0));
    let mut console = Raw::login(&proxy.address(), APP, "pgring");
    let rows = console.query("SHOW TRANSACTIONS");
    let row = rows.iter().find(|frame| frame.tag == b'D').map(|frame| frame.body.clone()).unwrap();
    let row = String::from_utf8_lossy(&row).into_owned();
    for expected in [&*name, "s1", "s2", "undecided", "shard s1: it cannot be reached"] {
        assert!(row.contains(expected), "{expected}: {row}");
    }
    assert!(proxy.metric("pgring_two_phase_oldest_seconds") > Some(1.0));
    // After a minute somebody is called.
    let complaint = "1 transactions are in doubt, waiting for: shard s1";
    assert!(!proxy.log().contains(complaint), "{}", proxy.log());
    eventually_within(2 * PATIENCE, "it is complained of", || proxy.log().contains(complaint));
    assert!(proxy.metric("pgring_two_phase_oldest_seconds") >= Some(60.0));
    own.servers[0].restart().unwrap();
    let bank = Bank { servers: own.servers.iter().collect(), name, keys };
    eventually_within(PATIENCE, "it is settled", || bank.prepared() == 0);
    assert_eq!(bank.balances(), [100, 100]);
    eventually_within(PATIENCE, "nothing is in doubt", || {
        proxy.metric("pgring_two_phase_in_doubt") == Some(0.0)
    });
    assert_eq!(proxy.metric("pgring_two_phase_total{outcome=\"recovered-abort\"}"), Some(1.0));
}

/// A participant that is lost after the commit point is committed when it is back; the client has heard success.
#[test]
fn a_participant_that_is_lost_after_the_decision_follows() {
    let mut own = Own::new();
    let bank = own.bank();
    let (name, keys, config) = (bank.name.clone(), bank.keys, bank.config());
    let mut proxy = Proxy::start_to_fail(config, "commit-prepared:before:stop");
    let mut raw = Raw::login(&proxy.address(), APP, &name);
    raw.set_patience(PATIENCE);
    bank.begin_transfer(&mut raw, 30);
    raw.send(&query("COMMIT"));
    eventually_within(PATIENCE, "it stops", || proxy.log().contains("fail point"));
    own.servers[1].crash().unwrap();
    proxy.signal(Signal::SIGCONT);
    assert_eq!(told(&raw.until(b'Z', 1)), "COMMIT");
    own.servers[1].restart().unwrap();
    let bank = Bank { servers: own.servers.iter().collect(), name, keys };
    eventually_within(PATIENCE, "it follows", || bank.prepared() == 0);
    assert_eq!(bank.balances(), [70, 130]);
    assert_eq!(proxy.metric("pgring_two_phase_total{outcome=\"recovered-commit\"}"), Some(1.0));
}

/// A participant that is lost before that fails the whole.
#[test]
fn a_participant_that_is_lost_before_the_decision_aborts() {
    std::thread::scope(|scope| {
        for step in ["prepare:before", "prepare:sent"] {
            scope.spawn(move || {
                let mut own = Own::new();
                let bank = own.bank();
                let (name, keys, config) = (bank.name.clone(), bank.keys, bank.config());
                let mut proxy = Proxy::start_to_fail(config, &format!("{step}:stop"));
                let mut raw = Raw::login(&proxy.address(), APP, &name);
                raw.set_patience(PATIENCE);
                bank.begin_transfer(&mut raw, 30);
                raw.send(&query("COMMIT"));
                eventually_within(PATIENCE, "it stops", || proxy.log().contains("fail point"));
                own.servers[1].crash().unwrap();
                own.servers[1].restart().unwrap();
                proxy.signal(Signal::SIGCONT);
                let answer = told(&raw.until(b'Z', 1));
                let bank = Bank { servers: own.servers.iter().collect(), name, keys };
                eventually_within(PATIENCE, "nothing is left", || bank.prepared() == 0);
                // It may have heard that all was prepared before the crash, and then it could commit.
                let balances = if answer == "COMMIT" { [70, 130] } else { [100, 100] };
                assert_eq!(bank.balances(), balances, "{step}: {answer}");
                assert!(answer == "08006" || step == "prepare:sent", "{step}: {answer}");
            });
        }
    });
}

/// No server is asked to do what it is not set up for, and that is said before anything is written.
#[test]
fn a_server_that_cannot_prepare_is_known() {
    let mut own = Own::new();
    own.set_prepared_transactions(0);
    let bank = own.bank();
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    assert_eq!(said(&mut raw, "BEGIN"), "BEGIN T");
    assert_eq!(said(&mut raw, &bank.update(0, 1)), "UPDATE 1 T");
    let frames = raw.query(&bank.update(1, 1));
    let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
    assert_eq!(error.code(), "0A000");
    assert!(error.field(b'M').unwrap().contains("max_prepared_transactions is 0"), "{error:?}");
    assert!(error.field(b'H').unwrap().contains("max_prepared_transactions"), "{error:?}");
    assert_eq!(said(&mut raw, "COMMIT"), "ROLLBACK I");
    assert_eq!(said(&mut raw, "UPDATE accounts SET balance = 0"), "0A000 I");
    let both =
        format!("{}; SELECT 1 FROM accounts WHERE user_id = {} FOR UPDATE", bank.update(0, 1), bank.keys[1]);
    for sql in ["BEGIN", &both] {
        said(&mut raw, sql);
    }
    let heard = said(&mut raw, "COMMIT");
    assert!(["0A000 I", "ROLLBACK I"].contains(&&*heard), "{heard}");
    raw.send(&query("COPY accounts FROM STDIN"));
    assert_eq!(told(&raw.until(b'Z', 1)), "0A000");
    assert_eq!(said(&mut raw, "SELECT 1"), "SELECT 1 I");
    assert_eq!(bank.balances(), [100, 100]);
    // One shard at a time is as ever.
    assert_eq!(said(&mut raw, &bank.update(1, 1)), "UPDATE 1 I");
    assert!(proxy.log().contains("max_prepared_transactions is 0"));
}

/// A place for files that is soon full. Only root can make one.
struct SmallDisk {
    at: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<SmallDisk> {
        let at = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m,mode=0777");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at.path()).status();
        mounted.is_ok_and(|status| status.success()).then_some(SmallDisk { at })
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut file = File::create(self.at.path().join("ballast")).unwrap();
        while file.write_all(&[0; 65536]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.at.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever has files open there keeps it a little longer.
        let _ = Command::new("umount").arg("--lazy").arg(self.at.path()).status();
    }
}

/// A shard that cannot write its log any more dies with what it was doing; nothing is half done.
#[test]
fn a_disk_runs_full() {
    let Some(disk) = SmallDisk::mount(80) else {
        println!("not tried: only root can mount a small disk");
        return;
    };
    let mut own = Own::new();
    let (log, moved) = (own.servers[1].data().join("pg_wal"), disk.at.path().join("pg_wal"));
    own.servers[1].crash().unwrap();
    for (program, arguments) in [("mv", [&log, &moved]), ("ln", [&moved, &log])] {
        let flag = if program == "ln" { "-sT" } else { "-T" };
        assert!(Command::new(program).arg(flag).args(arguments).status().unwrap().success());
    }
    own.servers[1].restart().unwrap();
    let bank = own.bank();
    bank.on(1, "CREATE TABLE ballast (user_id bigint, filler text)");
    bank.on(0, "CREATE TABLE ballast (user_id bigint, filler text)");
    let (name, keys) = (bank.name.clone(), bank.keys);
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &name);
    raw.set_patience(PATIENCE);
    disk.fill();
    let ballast = format!(
        "INSERT INTO ballast SELECT {}, string_agg(md5(n::text), '') FROM generate_series(1, 60000) n",
        bank.keys[1]
    );
    let transfer = ["BEGIN", &bank.update(0, -1), &bank.update(1, 1), &ballast, "COMMIT"].map(str::to_owned);
    let (mut least, mut unknown) = (0, 0);
    'full: for _ in 0..100 {
        for sql in &transfer {
            raw.send(&query(sql));
            let answer = told(&raw.until(b'Z', 1));
            match (sql.as_str(), answer.as_str()) {
                ("COMMIT", "COMMIT") => least += 1,
                ("COMMIT", "08007") => {
                    unknown = 1;
                    break 'full;
                }
                (_, answer) if answer.len() == 5 && answer != "BEGIN" => break 'full,
                _ => {}
            }
        }
    }
    assert!(least < 100, "it is not full");
    disk.empty();
    // It may have died, be at its crash recovery, or have given that up.
    let settled = |own: &Own| {
        let count = "SELECT count(*) FROM pg_prepared_xacts";
        own.servers
            .iter()
            .all(|server| server.psql(SUPERUSER, "postgres", count).is_ok_and(|n| n.trim() == "0"))
    };
    let until = Instant::now() + Duration::from_secs(20);
    while !settled(&own) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
    }
    if !settled(&own) {
        own.servers[1].crash().unwrap();
        own.servers[1].restart().unwrap();
        eventually_within(PATIENCE, "nothing is in doubt", || settled(&own));
    }
    let bank = Bank { servers: own.servers.iter().collect(), name, keys };
    let [left, right] = bank.balances();
    assert_eq!(left + right, 200);
    assert!((least..=least + unknown).contains(&(100 - left)), "{least} {unknown}: {left}");
}

/// A schema of that name that somebody else has made is not trusted with decisions.
#[test]
fn a_strangers_schema_is_not_used() {
    let own = Own::new();
    let bank = own.bank();
    bank.on(1, "CREATE SCHEMA pgring");
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    let frames = raw.query("UPDATE accounts SET balance = 0");
    let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
    assert_eq!(error.code(), "0A000");
    assert!(error.field(b'M').unwrap().contains("belongs to app"), "{error:?}");
    assert_eq!(bank.balances(), [100, 100]);
}

/// Three databases of one server: what is prepared there needs names of its own.
#[test]
fn shards_may_share_a_server() {
    let server = support::own_servers(1).remove(0);
    let names = [1, 2, 3].map(|_| support::unique_name("shared"));
    for name in &names {
        pgring::demo::sample::create_database(&server, name).unwrap();
        server.psql(APP, name, "CREATE TABLE t (user_id bigint, n int)").unwrap();
    }
    let mut toml = "[[database]]\nname = \"shared\"\nkey = \"user_id\"\n".to_owned();
    for (number, name) in names.iter().enumerate() {
        let (number, address) = (number + 1, server.address());
        toml += &format!(
            "[[database.shard]]\nname = \"s{number}\"\ndbname = \"{name}\"\nendpoints = [\"{address}\"]\ntls = \"disable\"\n"
        );
    }
    let proxy = Proxy::start(Config::new().append(&toml));
    let mut raw = Raw::login(&proxy.address(), APP, "shared");
    let rows: Vec<String> = (1..100).map(|key| format!("({key}, 1)")).collect();
    assert_eq!(said(&mut raw, &format!("INSERT INTO t VALUES {}", rows.join(", "))), "INSERT 0 99 I");
    let prepared = server.psql(SUPERUSER, "postgres", "SELECT count(*) FROM pg_prepared_xacts").unwrap();
    assert_eq!(prepared.trim(), "0");
    assert_eq!(raw.value("SELECT count(*)::text FROM t"), "99");
}

/// All places are taken: an error, and nothing is left.
#[test]
fn prepared_transactions_may_be_exhausted() {
    let mut own = Own::new();
    own.set_prepared_transactions(1);
    let bank = own.bank();
    bank.on(
        1,
        "CREATE TABLE other (a int); BEGIN; INSERT INTO other VALUES (1); PREPARE TRANSACTION 'by hand'",
    );
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    for _ in 0..2 {
        bank.begin_transfer(&mut raw, 30);
        assert_eq!(said(&mut raw, "COMMIT"), "53200 I");
        assert_eq!(bank.balances(), [100, 100]);
    }
    bank.on(1, "COMMIT PREPARED 'by hand'");
    bank.begin_transfer(&mut raw, 30);
    assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
    assert_eq!((bank.balances(), bank.prepared()), ([70, 130], 0));
}

/// A shard fails over while something is in doubt: what was prepared, and what was decided, is its successor's.
#[test]
fn a_shard_fails_over_in_doubt() {
    let cases = [
        ("prepare:after", 0, [100, 100]),
        ("prepare:after", 1, [100, 100]),
        ("commit:after", 0, [70, 130]),
        ("commit:after", 1, [70, 130]),
    ];
    std::thread::scope(|scope| {
        for (step, shard, balances) in cases {
            scope.spawn(move || {
                let mut own = Own::new();
                let bank = own.bank();
                let (name, keys) = (bank.name.clone(), bank.keys);
                let standby = synchronous_standby(&own.servers[shard]);
                let mut endpoints: Vec<Vec<String>> = own.servers.iter().map(|s| vec![s.address()]).collect();
                endpoints[shard].push(standby.address());
                let config = || Config::new().database_at(&name, &endpoints);
                let proxy = Proxy::start_to_fail(config(), &format!("{step}:kill"));
                let other = Proxy::start(config());
                let mut raw = Raw::login(&proxy.address(), APP, &name);
                bank.begin_transfer(&mut raw, 30);
                raw.send(&query("COMMIT"));
                raw.rest();
                own.servers[shard].crash().unwrap();
                standby.psql(SUPERUSER, "postgres", "SELECT pg_promote(true)").unwrap();
                let mut servers: Vec<&Cluster> = own.servers.iter().collect();
                servers[shard] = &standby;
                let bank = Bank { servers, name: name.clone(), keys };
                eventually_within(PATIENCE, "nothing is in doubt", || bank.prepared() == 0);
                assert_eq!(bank.balances(), balances, "{step} {shard}");
                let mut raw = Raw::login(&other.address(), APP, &name);
                raw.set_patience(PATIENCE);
                assert_eq!(said(&mut raw, "UPDATE accounts SET balance = balance + 1"), "UPDATE 2 I");
            });
        }
    });
}

/// A standby that has whatever its primary has acknowledged.
fn synchronous_standby(primary: &Cluster) -> Cluster {
    let data = primary.data().with_file_name(support::unique_name("standby"));
    let standby = primary.replica(&data, Settings { disposable: true, ..Settings::default() }).unwrap();
    let on_primary = |sql: &str| primary.psql(SUPERUSER, "postgres", sql).unwrap().trim().to_owned();
    on_primary("ALTER SYSTEM SET synchronous_standby_names = '*'");
    on_primary("SELECT pg_reload_conf()");
    let is_sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    eventually_within(PATIENCE, "the standby is synchronous", || on_primary(is_sync) == "1");
    standby
}
