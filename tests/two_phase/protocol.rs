//! What a commit leaves on its shards, and who takes part in it.

use crate::stage::{Bank, said};
use crate::support::raw::{Raw, query};
use crate::support::{self, Proxy};
use pgring::demo::sample::APP;

const DECISIONS: &str = "SELECT verdict || ' ' || owner || ' ' || cardinality(participants) || ' ' || stage \
                         FROM pgring.decision";
const WITNESSES: &str = "SELECT owner FROM pgring.applied";

#[test]
fn the_first_writer_decides() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    bank.begin_transfer(&mut raw, 30);
    assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
    assert_eq!(bank.balances(), [70, 130]);
    assert_eq!(bank.prepared(), 0);
    assert_eq!(bank.rows(0, DECISIONS), "commit app 1 fresh");
    assert_eq!([bank.rows(0, WITNESSES), bank.rows(1, WITNESSES)], ["", "app"]);
    assert_eq!(bank.rows(1, DECISIONS), "");
    assert_eq!(proxy.metric("pgring_two_phase_total{outcome=\"committed\"}"), Some(1.0));
    assert_eq!(proxy.metric("pgring_transactions_total{kind=\"two-phase\"}"), Some(1.0));
}

#[test]
fn one_writer_and_its_readers_need_no_decision() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    let read = format!("SELECT balance FROM accounts WHERE user_id = {}", bank.keys[0]);
    for level in ["READ COMMITTED", "SERIALIZABLE"] {
        for sql in [format!("BEGIN ISOLATION LEVEL {level}"), read.clone(), bank.update(1, 1), read.clone()] {
            said(&mut raw, &sql);
        }
        assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
    }
    assert_eq!(bank.balances(), [100, 102]);
    assert_eq!([bank.rows(0, DECISIONS), bank.rows(1, DECISIONS)], ["", ""]);
    assert_eq!(proxy.metric("pgring_transactions_total{kind=\"multi-read\"}"), Some(2.0));
}

/// `ROLLBACK TO` takes the decision with it, and the commit inserts it again.
#[test]
fn a_decision_that_was_undone_is_made_again() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    for (story, expect, decisions) in [
        // What was undone has not been written, and one writer needs no decision.
        ("wsWR", [101, 100], 0),
        ("wsWRW", [102, 101], 1),
        ("wWsR", [103, 102], 2),
        ("swWR", [103, 102], 2),
        ("swWRwW", [104, 103], 3),
        ("swWr", [105, 104], 4),
        ("sWwRwW", [106, 105], 5),
    ] {
        said(&mut raw, "BEGIN");
        for letter in story.chars() {
            let sql = match letter {
                'w' => bank.update(0, 1),
                'W' => bank.update(1, 1),
                's' => "SAVEPOINT a".to_owned(),
                'R' => "ROLLBACK TO a".to_owned(),
                _ => "RELEASE a".to_owned(),
            };
            let heard = said(&mut raw, &sql);
            assert!(heard.ends_with(" T"), "{story}: {sql}: {heard}");
        }
        assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I", "{story}");
        assert_eq!(bank.balances(), expect, "{story}");
        let count = bank.rows(0, "SELECT count(*) FROM pgring.decision WHERE participants IS NOT NULL");
        assert_eq!(count, decisions.to_string(), "{story}");
        assert_eq!(bank.rows(0, "SELECT count(*) FROM pgring.decision"), count, "{story}");
    }
    assert_eq!(bank.prepared(), 0);
}

/// It may then be another one's: names on the servers say whose, and recovery asks that one.
#[test]
fn who_decides_is_in_the_name() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let _other = Proxy::start(bank.config());
    for (step, balances) in [("commit:after", [101, 101]), ("prepare:after", [101, 101])] {
        let proxy = Proxy::start_to_fail(bank.config(), &format!("{step}:kill"));
        let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
        let steps = ["BEGIN", "SAVEPOINT a", &bank.update(1, 1), &bank.update(0, 1), "ROLLBACK TO a"];
        for sql in steps.into_iter().chain([&*bank.update(1, 1), &bank.update(0, 1), "SAVEPOINT b"]) {
            assert!(said(&mut raw, sql).ends_with(" T"), "{sql}");
        }
        raw.send(&query("COMMIT"));
        raw.rest();
        support::eventually_within(std::time::Duration::from_secs(60), "nothing is in doubt", || {
            bank.prepared() == 0
        });
        assert_eq!(bank.balances(), balances, "{step}");
    }
}

/// What each shard finds out only at its end fails all of them.
#[test]
fn what_fails_late_is_nowhere() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    for server in &servers {
        let script = "CREATE TABLE audit (user_id bigint, n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
                      CREATE TEMP TABLE unused (a int)";
        server.psql(APP, &bank.name, script).unwrap();
    }
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    for shard in [0, 1] {
        let twice = format!("INSERT INTO audit VALUES ({0}, 7), ({0}, 7)", bank.keys[shard]);
        bank.begin_transfer(&mut raw, 1);
        assert_eq!(said(&mut raw, &twice), "INSERT 0 2 T");
        assert_eq!(said(&mut raw, "COMMIT"), "23505 I");
        assert_eq!(said(&mut raw, "SELECT 1"), "SELECT 1 I");
        assert_eq!(bank.balances(), [100, 100]);
        assert_eq!(bank.prepared(), 0);
    }
    assert_eq!(proxy.metric("pgring_two_phase_total{outcome=\"aborted\"}"), Some(2.0));
}

/// What PostgreSQL cannot prepare is refused as a whole.
#[test]
fn what_cannot_be_prepared_is_refused() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    bank.begin_transfer(&mut raw, 1);
    let notify = "/* pgring: shard=s2 */ SELECT pg_notify('a', 'b')";
    assert_eq!(said(&mut raw, notify), "SELECT 1 T");
    assert_eq!(said(&mut raw, "COMMIT"), "0A000 I");
    assert_eq!((bank.balances(), bank.prepared()), ([100, 100], 0));
}

/// It is said as soon as it is known.
#[test]
fn what_cannot_be_prepared_is_refused_when_the_second_shard_joins() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let proxy = Proxy::start(bank.config());
    let read = format!("SELECT balance FROM accounts WHERE user_id = {}", bank.keys[0]);
    for what in [
        "LISTEN a",
        "NOTIFY a",
        "/* pgring: shard=s1 */ CREATE TEMPORARY TABLE mine (a int)",
        &format!("DECLARE c CURSOR WITH HOLD FOR {read}"),
    ] {
        for first in [true, false] {
            let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
            let mut steps = vec![bank.update(0, 1), bank.update(1, 1)];
            steps.insert(if first { 0 } else { 2 }, what.to_owned());
            said(&mut raw, "BEGIN");
            let (last, before) = steps.split_last().unwrap();
            for sql in before {
                assert!(said(&mut raw, sql).ends_with(" T"), "{steps:?}: {sql}");
            }
            assert_eq!(said(&mut raw, last), "0A000 E", "{steps:?}");
            assert_eq!(said(&mut raw, "COMMIT"), "ROLLBACK I", "{steps:?}");
        }
    }
    assert_eq!((bank.balances(), bank.prepared()), ([100, 100], 0));
}

/// What was said of constraints holds on a shard that joins late, too.
#[test]
fn constraints_are_deferred_everywhere() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let table = "CREATE TABLE once (user_id bigint, n int UNIQUE DEFERRABLE)";
    (0..2).for_each(|shard| _ = bank.on(shard, table));
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    let [a, b] = bank.keys;
    let twice = |key: i64| format!("INSERT INTO once VALUES ({key}, 1), ({key}, 1)");
    for early in [true, false] {
        said(&mut raw, "BEGIN");
        if early {
            assert_eq!(said(&mut raw, "SET CONSTRAINTS ALL DEFERRED"), "SET CONSTRAINTS T");
            assert_eq!(said(&mut raw, &bank.update(0, 1)), "UPDATE 1 T");
        } else {
            assert_eq!(said(&mut raw, &bank.update(0, 1)), "UPDATE 1 T");
            let set = said(&mut raw, "SET CONSTRAINTS ALL DEFERRED");
            assert_eq!(set, "SET CONSTRAINTS T");
        }
        for key in [a, b] {
            assert_eq!(said(&mut raw, &twice(key)), "INSERT 0 2 T", "{early}");
            let delete =
                format!("DELETE FROM once WHERE user_id = {key} AND ctid = (SELECT min(ctid) FROM once)");
            assert_eq!(said(&mut raw, &format!("/* pgring: key={key} */ {delete}")), "DELETE 1 T", "{early}");
        }
        assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I", "{early}");
        for key in [a, b] {
            said(&mut raw, &format!("DELETE FROM once WHERE user_id = {key}"));
        }
    }
}

/// A role for the transaction owns what is prepared, and is no more when that is committed.
#[test]
fn a_role_of_the_transactions_commits() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    for (shard, _) in servers.iter().enumerate() {
        bank.rows(
            shard,
            "DO $$ BEGIN CREATE ROLE teller; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$;
             GRANT teller TO app, pgring; GRANT ALL ON accounts TO teller",
        );
    }
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    for (sql, decisions) in [("SET LOCAL ROLE teller", 1), ("SET ROLE teller", 2)] {
        assert_eq!(said(&mut raw, "BEGIN"), "BEGIN T");
        assert_eq!(said(&mut raw, sql), "SET T");
        for sql in [bank.update(0, -1), bank.update(1, 1)] {
            assert_eq!(said(&mut raw, &sql), "UPDATE 1 T");
        }
        assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
        assert_eq!(bank.prepared(), 0);
        let owners = "SELECT count(*) FROM pgring.decision WHERE owner = 'teller'";
        assert_eq!(bank.rows(0, owners), decisions.to_string());
    }
    assert_eq!(raw.value("SELECT current_user::text"), "teller");
    assert_eq!(bank.balances(), [98, 102]);
}

/// Ordinary users can neither read decisions nor make one that counts for others.
#[test]
fn decisions_are_nobody_elses() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    bank.begin_transfer(&mut raw, 1);
    assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
    let xid = bank.rows(0, "SELECT xid FROM pgring.decision");
    for (sql, code) in [
        ("/* pgring: shard=s1 */ SELECT * FROM pgring.decision", "42501"),
        ("/* pgring: shard=s1 */ DELETE FROM pgring.applied", "42501"),
        (&format!("/* pgring: shard=s1 */ SELECT pgring.decide('{xid}')"), "23505"),
        (&format!("/* pgring: shard=s1 */ SELECT pgring.decided('{xid}', 'app', '{{}}')"), "55000"),
        (&format!("/* pgring: shard=s1 */ SELECT pgring.decided('{xid}', 'postgres', '{{}}')"), "42501"),
        (&format!("/* pgring: shard=s1 */ SELECT pgring.witness('{xid}', 'postgres')"), "42501"),
    ] {
        assert_eq!(said(&mut raw, sql), format!("{code} I"), "{sql}");
    }
}

/// A statement that writes on several shards is such a transaction by itself.
#[test]
fn single_statements_commit_alike() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    let [a, b] = bank.keys;
    assert_eq!(said(&mut raw, "UPDATE accounts SET balance = balance + 1"), "UPDATE 2 I");
    assert_eq!(said(&mut raw, "CREATE TABLE more (user_id bigint, n int)"), "CREATE TABLE I");
    assert_eq!(said(&mut raw, &format!("INSERT INTO more VALUES ({a}, 1), ({b}, 2)")), "INSERT 0 2 I");
    let decisions = "SELECT count(*) FROM pgring.decision WHERE cardinality(participants) = 1";
    assert_eq!(bank.rows(0, decisions), "3");
    // One shard alone needs none.
    assert_eq!(said(&mut raw, &format!("INSERT INTO more VALUES ({a}, 1), ({a}, 2)")), "INSERT 0 2 I");
    assert_eq!(bank.rows(0, decisions), "3");
    // A failure is everywhere.
    let insert = format!("INSERT INTO accounts VALUES ({b}, 1), (70000, 1), (70001, 1), (70002, 1)");
    assert_eq!(said(&mut raw, &insert), "23505 I");
    assert_eq!((bank.balances(), bank.prepared()), ([101, 101], 0));
    assert_eq!(bank.rows(0, decisions), "3");
}

/// `AND CHAIN` begins the next one with the same characteristics, and nothing of the last one's.
#[test]
fn a_chain_begins_anew() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    bank.begin_transfer(&mut raw, 1);
    assert_eq!(said(&mut raw, "COMMIT AND CHAIN"), "COMMIT T");
    assert_eq!(said(&mut raw, &bank.update(1, 1)), "UPDATE 1 T");
    assert_eq!(said(&mut raw, "COMMIT AND CHAIN"), "COMMIT T");
    for sql in [bank.update(0, 5), bank.update(1, 5)] {
        assert_eq!(said(&mut raw, &sql), "UPDATE 1 T");
    }
    assert_eq!(said(&mut raw, "ROLLBACK AND CHAIN"), "ROLLBACK T");
    assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
    assert_eq!((bank.balances(), bank.prepared()), ([99, 102], 0));
    assert_eq!(bank.rows(0, "SELECT count(*) FROM pgring.decision"), "1");
}

#[test]
fn a_clients_own_prepare_is_refused() {
    let servers = support::servers(2);
    let bank = Bank::open(&servers);
    let proxy = Proxy::start(bank.config());
    let mut raw = Raw::login(&proxy.address(), APP, &bank.name);
    bank.begin_transfer(&mut raw, 1);
    let frames = raw.query("PREPARE TRANSACTION 'mine'");
    let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
    assert_eq!(error.code(), "0A000");
    assert!(error.field(b'H').is_some());
    assert_eq!(said(&mut raw, "ROLLBACK"), "ROLLBACK I");
    assert_eq!((bank.balances(), bank.prepared()), ([100, 100], 0));
}
