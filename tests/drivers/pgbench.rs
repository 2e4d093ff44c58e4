//! pgbench: many clients, its own statements and ones that carry the key.

use pgring::demo::account::Account;
use pgring::demo::binaries::Binaries;
use pgring::demo::sample::APP;
use pgring::ring::Key;

use crate::stage::{POOL, run};
use crate::support::{self, Config, Proxy};

struct Bench {
    proxy: Proxy,
    name: String,
}

/// Panics at an error of any of its 16 clients.
fn pgbench(dsn: &str, arguments: &[&str]) {
    let mut command = Account::own().command(&Binaries::find().unwrap().program("pgbench"));
    let printed = run(command.args(["-n", "-c", "16", "-j", "16"]).args(arguments).arg(dsn));
    assert!(printed.ok && !printed.err.contains("error"), "{arguments:?}\n{printed:?}");
    assert!(printed.out.contains("number of failed transactions: 0 "), "{arguments:?}\n{printed:?}");
}

const ACCOUNTS: i64 = 3000;

/// pgbench's tables on every shard, with the rows that belong there.
fn accounts(shards: usize) -> Bench {
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
    let config = Config::new().set("pool", "size", &POOL.to_string());
    Bench { proxy: Proxy::start(config.append(&toml)), name }
}

/// Its tables are made through pgring, as its programs run.
#[test]
fn pgbench_through_one_shard() {
    let servers = support::servers(1);
    let name = support::database(&servers, "");
    let config = Config::new().set("pool", "size", &POOL.to_string());
    let proxy = Proxy::start(config.database(&name, &servers));
    let dsn = proxy.dsn(APP, &name);
    for steps in ["dtgvp", "dtGvpf"] {
        let mut init = Account::own().command(&Binaries::find().unwrap().program("pgbench"));
        let printed = run(init.args(["-i", "-q", "-I", steps]).arg(&dsn));
        assert!(printed.ok && !printed.err.contains("error"), "{steps}: {printed:?}");
    }
    for mode in ["simple", "extended", "prepared"] {
        pgbench(&dsn, &["-M", mode, "-t", "50"]);
        pgbench(&dsn, &["-M", mode, "-t", "200", "--select-only"]);
        pgbench(&dsn, &["-M", mode, "-t", "10", "--connect"]);
    }
    let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history), \
                (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history), \
                (SELECT count(*) FROM pgbench_history)";
    assert_eq!(servers[0].psql(APP, &name, sums).unwrap().trim(), format!("t|t|{}", 16 * 60 * 3));
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
        pgbench(
            &dsn,
            &["-M", mode, "-t", "60", "-f", select.to_str().unwrap(), "-f", update.to_str().unwrap()],
        );
    }
    // Every account is as its history says.
    let wrong = "SELECT count(*) FROM pgbench_accounts a WHERE abalance <> \
                 (SELECT coalesce(sum(delta), 0) FROM pgbench_history h WHERE h.aid = a.aid)";
    let all = "SELECT count(*) > 0 FROM pgbench_history";
    for server in support::servers(3) {
        assert_eq!(server.psql(APP, &stage.name, &format!("{wrong}; {all}")).unwrap().trim(), "0\nt");
    }
}
