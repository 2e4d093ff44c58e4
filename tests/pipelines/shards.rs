//! Random transactions over three shards, with and without a `Sync` between their statements: they end
//! as on one PostgreSQL, and everywhere.

use std::time::Duration;

use pgring::demo::cluster::SUPERUSER;
use pgring::demo::sample::APP;

use super::random::{Pipeline, Random, difference, heard, number, settled};
use crate::support::raw::{CLOSED, Raw, query, run, sync};
use crate::support::{Config, Proxy, database, eventually, servers};

const SCHEMA: &str = "CREATE TABLE t (user_id int NOT NULL, v text NOT NULL, PRIMARY KEY (user_id, v));";

const PIPELINES: u64 = 300;

/// A conversation of transactions. Outside of one, a batch keeps to one of the users: that what is
/// without a `Sync` is one transaction as well, and may not be on several shards, is tested elsewhere.
fn conversation(random: &mut Random, users: &[String; 3]) -> Pipeline {
    let mut pipeline = Pipeline::default();
    let (mut open, mut fresh, mut user) = (false, true, 0);
    for _ in 0..8 + random.below(25) {
        if open || fresh {
            user = random.below(3);
        }
        let id = &users[user];
        let text = match random.below(20) {
            0..=4 => format!("INSERT INTO t VALUES ({id}, 'new {}') ON CONFLICT DO NOTHING", random.below(9)),
            5..=6 => format!("UPDATE t SET v = v || '.' WHERE user_id = {id} AND v LIKE 'new%'"),
            7 => format!("DELETE FROM t WHERE user_id = {id} AND v > 'new 5'"),
            8..=9 => format!("SELECT v FROM t WHERE user_id = {id} ORDER BY v"),
            10 => format!("SELECT current_setting('lock_timeout') FROM t WHERE user_id = {id} LIMIT 1"),
            11 if random.below(3) == 0 => format!("INSERT INTO t VALUES ({id}, 'row 1')"),
            11 => "SET LOCAL lock_timeout = '4321ms'".to_owned(),
            12 => random.one_of(&["SAVEPOINT a", "SAVEPOINT b"]).to_owned(),
            13 => random.one_of(&["ROLLBACK TO a", "ROLLBACK TO b", "RELEASE a", "RELEASE b"]).to_owned(),
            14 if open => random.one_of(&["COMMIT AND CHAIN", "ROLLBACK AND CHAIN"]).to_owned(),
            _ if !open => "BEGIN".to_owned(),
            15..=16 => "COMMIT".to_owned(),
            17 => "ROLLBACK".to_owned(),
            _ => format!("INSERT INTO t VALUES ({id}, 'more {}') ON CONFLICT DO NOTHING", random.below(99)),
        };
        let divides = match &*text {
            "BEGIN" => {
                open = true;
                // One that begins in the middle of a batch stays where it began.
                if !fresh && random.below(12) != 0 {
                    pipeline.push("S", sync());
                }
                false
            }
            "COMMIT" | "ROLLBACK" => {
                open = false;
                random.below(12) != 0
            }
            _ => false,
        };
        fresh = false;
        match random.below(6) {
            0 => {
                pipeline.push(&format!("Q {text}"), query(&text));
                fresh = true;
            }
            _ => pipeline.push(&format!("R {text}"), run(&text, &[])),
        }
        if divides || random.below(4) == 0 {
            pipeline.push("S", sync());
            fresh = true;
        }
    }
    pipeline.push("S", sync());
    pipeline
}

#[test]
fn random_transactions_over_shards_end_as_on_one_postgresql() {
    let shards = servers(4);
    let (direct, shards) = (shards[3], &shards[..3]);
    let (plain, name) = (database(&[direct], SCHEMA), database(shards, SCHEMA));
    let proxy = Proxy::start(Config::new().database(&name, shards).set("pool", "size", "2"));
    let mut door = Raw::login(&proxy.address(), APP, &name);
    for user in 1..40 {
        door.query(&format!("INSERT INTO t VALUES ({user}, 'row 1')"));
    }
    let users = [1, 2, 3]
        .map(|shard| door.value(&format!("/* pgring: shard=s{shard} */ SELECT min(user_id)::text FROM t")));
    let rows = users.each_ref().map(|user| format!("({user}, 'row 1')")).join(", ");
    let mut watchers: Vec<Raw> =
        shards.iter().map(|shard| Raw::login(&shard.address(), SUPERUSER, &name)).collect();
    // Whatever is left open is met by whoever has its server next.
    let open = "SELECT count(*)::text FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'app' AND xact_start IS NOT NULL";

    let (seed, count) = (number("PGRING_TEST_SEED", 1), number("PGRING_TEST_PIPELINES", PIPELINES));
    let (mut answered, mut refused, mut wrong) = (0, 0, Vec::new());
    for seed in seed..seed + count {
        let mut random = Random::from_seed(seed);
        let pipeline = conversation(&mut random, &users);
        let ask = |address: &str, name: &str| {
            let reset = format!("INSERT INTO t VALUES {rows}");
            let mut client = Raw::login(address, APP, name);
            client.set_patience(Duration::from_secs(5));
            client.query("TRUNCATE t");
            client.query(&reset);
            let said = heard(&mut client, &pipeline.bytes);
            let is_refused = said.iter().any(|frame| frame.code() == "0A000");
            let left = match said.iter().any(|frame| frame.tag == CLOSED) {
                true => Vec::new(),
                false => Raw::login(address, APP, name).query("SELECT user_id, v FROM t ORDER BY 1, 2"),
            };
            ((settled(said), left), is_refused)
        };
        let (expected, _) = ask(&direct.address(), &plain);
        let (got, is_refused) = ask(&proxy.address(), &name);
        answered += expected.0.iter().filter(|frame| frame.tag == b'C').count();
        let words = || format!("seed {seed}:\n{}", pipeline.words.join("; "));
        if is_refused {
            refused += 1;
        } else if format!("{got:?}") != format!("{expected:?}") {
            wrong.push(format!("{}\n{}", words(), difference(&expected, &got)));
        }
        for watcher in &mut watchers {
            if watcher.value(open) != "0" {
                wrong.push(format!("{}\na transaction is left open on a shard", words()));
            }
        }
        if wrong.len() > 5 {
            break;
        }
    }
    eventually("nothing is prepared any more", || {
        watchers.iter_mut().all(|shard| shard.value("SELECT count(*)::text FROM pg_prepared_xacts") == "0")
    });
    println!("{answered} statements answered, {refused} conversations refused");
    assert!(wrong.is_empty(), "{} went otherwise:\n\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(refused * 5 < count, "{refused} were refused");
}
