//! Who counts as a writer: whatever may have written, in whatever way it was sent; and that answers stay in
//! step with what was asked on the way.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use pgring::demo::sample::APP;

use crate::stage::{Bank, said};
use crate::support::raw::{Raw, bind, copy_data, copy_done, execute, function_call, parse, query, run, sync};
use crate::support::{self, Proxy};

const DECISIONS: &str = "SELECT count(*) FROM pgring.decision";

struct World {
    bank: Bank<'static>,
    proxy: Proxy,
    /// Whoever counts decisions is alone.
    counting: Mutex<()>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let servers = support::servers(3);
    let bank = Bank::open(&servers);
    for (shard, _) in servers.iter().enumerate() {
        bank.on(
            shard,
            "CREATE TABLE log (user_id bigint, note text);
             CREATE FUNCTION debit() RETURNS int LANGUAGE sql VOLATILE AS
                 'INSERT INTO log VALUES (0, ''debit'') RETURNING 1';
             CREATE PROCEDURE charge() LANGUAGE sql AS 'INSERT INTO log VALUES (0, ''charge'')';
             CREATE FUNCTION note(int, int) RETURNS int LANGUAGE sql VOLATILE AS
                 'INSERT INTO log VALUES (0, ''note'') RETURNING 1';
             CREATE OPERATOR ### (FUNCTION = note, LEFTARG = int, RIGHTARG = int);
             CREATE AGGREGATE noted(int) (SFUNC = note, STYPE = int);
             CREATE FUNCTION plus(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
             CREATE OPERATOR |+| (FUNCTION = plus, LEFTARG = int, RIGHTARG = int);
             CREATE AGGREGATE added(int) (SFUNC = plus, STYPE = int);
             CREATE VIEW noting AS SELECT user_id, 1 ### 2 AS n FROM accounts;
             CREATE VIEW adding AS SELECT user_id, 1 |+| 2 AS n FROM accounts;
             CREATE TYPE marked AS (n int);
             CREATE FUNCTION mark(int) RETURNS marked LANGUAGE sql VOLATILE AS
                 'INSERT INTO log VALUES (0, ''mark''); SELECT ROW($1)::marked';
             CREATE CAST (int AS marked) WITH FUNCTION mark(int);
             CREATE DOMAIN sealed AS marked;",
        );
    }
    let proxy = Proxy::start(bank.config());
    World { bank, proxy, counting: Mutex::new(()) }
});

impl World {
    fn client(&self) -> Raw {
        Raw::login(&self.proxy.address(), APP, &self.bank.name)
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.counting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that have been made.
    fn decisions(&self) -> i64 {
        (0..3).map(|shard| self.bank.rows(shard, DECISIONS).parse::<i64>().unwrap()).sum()
    }
}

/// A statement on the first shard, or on more, then a change on the second: is that a change of several?
#[test]
fn whatever_may_write_is_a_writer() {
    let world = &*WORLD;
    let _alone = world.alone();
    let [a, b] = world.bank.keys;
    let update_b = world.bank.update(1, 0);
    let read_a = format!("SELECT balance FROM accounts WHERE user_id = {a}");
    let update_a = world.bank.update(0, 0);
    // A user's operators and casts may read any table.
    let told = "/* pgring: shard=s1 */";
    let cases: &[(&[&str], bool)] = &[
        (&[&update_a], true),
        (&[&read_a], false),
        (&[&format!("{read_a} FOR UPDATE")], true),
        (&["/* pgring: shard=s1 */ SELECT debit()"], true),
        (&["/* pgring: shard=s1 */ CALL charge()"], true),
        (&["/* pgring: shard=s1 */ DO $$ BEGIN INSERT INTO log VALUES (0, 'do'); END $$"], true),
        (&["/* pgring: shard=all */ SELECT debit()"], true),
        (&["/* pgring: shard=s1 */ EXPLAIN ANALYZE SELECT debit()"], true),
        (&["/* pgring: shard=s1 */ COPY (DELETE FROM log WHERE false RETURNING *) TO STDOUT"], true),
        (&["/* pgring: shard=all */ COPY (DELETE FROM log WHERE false RETURNING *) TO STDOUT"], true),
        (&[&format!("WITH d AS (DELETE FROM log WHERE user_id = {a} RETURNING 1) SELECT * FROM d")], true),
        (&[&format!("DECLARE c CURSOR FOR {read_a}"), "FETCH c", "CLOSE c"], false),
        (&["/* pgring: shard=s1 */ DECLARE c CURSOR FOR SELECT debit()", "FETCH c"], true),
        (&[&format!("PREPARE p1 AS {update_a}"), "EXECUTE p1"], true),
        (&[&format!("PREPARE p2 AS {read_a}"), "EXECUTE p2"], false),
        (&[&format!("{told} SELECT balance, 1 ### 2 FROM accounts WHERE user_id = {a}")], true),
        (
            &[&format!(
                "{told} SELECT 1 FROM accounts WHERE user_id = {a} ORDER BY 1 OPERATOR(public.###) balance::int"
            )],
            true,
        ),
        (&[&format!("SELECT * FROM noting WHERE user_id = {a}")], true),
        (&["/* pgring: shard=s1 */ SELECT * FROM noting"], true),
        (&["/* pgring: shard=s1 */ SELECT noted(1)"], true),
        (&[&format!("{told} SELECT balance::int::marked FROM accounts WHERE user_id = {a}")], true),
        (&[&format!("{told} SELECT CAST(1 AS sealed) FROM accounts WHERE user_id = {a}")], true),
        (&[&format!("{told} SELECT 1 |+| 2, balance # 1 FROM accounts WHERE user_id = {a}")], false),
        (&[&format!("SELECT * FROM adding WHERE user_id = {a}")], false),
        (&["/* pgring: shard=s1 */ SELECT added(1)"], false),
        (&["SAVEPOINT s", &update_a, "ROLLBACK TO s"], false),
        (&["SAVEPOINT s", &update_a, "RELEASE s"], true),
        // What is sent together is not undone by what stands before it.
        (&["SAVEPOINT s", &format!("ROLLBACK TO s; {update_a}")], true),
        (&["SAVEPOINT s", &update_a, "ROLLBACK AND CHAIN", &update_a, "SAVEPOINT t", "ROLLBACK TO t"], true),
        (&["SAVEPOINT s", &update_a, "COMMIT AND CHAIN", &read_a], true),
    ];
    for (statements, writes) in cases {
        let mut raw = world.client();
        let before = world.decisions();
        assert_eq!(said(&mut raw, "BEGIN"), "BEGIN T");
        for sql in *statements {
            let heard = said(&mut raw, sql);
            assert!(heard.ends_with(" T"), "{statements:?}: {sql}: {heard}");
        }
        assert_eq!(said(&mut raw, &update_b), "UPDATE 1 T", "{statements:?}");
        assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I", "{statements:?}");
        assert_eq!(world.decisions() > before, *writes, "{statements:?}");
        let _ = b;
    }
}

/// What PostgreSQL cannot prepare is undone with a savepoint or ended with a chain's link, or it is not;
/// the tag that the COMMIT has where two shards are changed behind that.
#[test]
fn what_cannot_be_prepared_counts_while_it_lasts() {
    let world = &*WORLD;
    let _alone = world.alone();
    let (update_a, update_b) = (world.bank.update(0, 0), world.bank.update(1, 0));
    let temporary = "/* pgring: shard=s1 */ CREATE TEMP TABLE unprepared (n int)";
    let cases: &[(&[&str], bool)] = &[
        (&["NOTIFY x"], false),
        (&["NOTIFY x", "COMMIT AND CHAIN"], true),
        (&["NOTIFY x", "ROLLBACK AND CHAIN"], true),
        (&["SAVEPOINT s", "NOTIFY x", "ROLLBACK TO s"], true),
        (&["SAVEPOINT s", "NOTIFY x", "RELEASE s"], false),
        (&["NOTIFY x", "SAVEPOINT s", "NOTIFY x", "ROLLBACK TO s"], false),
        (&["SAVEPOINT s", "LISTEN x", "ROLLBACK TO s"], true),
        (&["SAVEPOINT s", "ROLLBACK TO s; NOTIFY x", "ROLLBACK TO s"], false),
        (&["SAVEPOINT s", temporary, "ROLLBACK TO s"], false),
    ];
    for (statements, expect) in cases {
        let mut raw = world.client();
        assert_eq!(said(&mut raw, "BEGIN"), "BEGIN T");
        for sql in *statements {
            let heard = said(&mut raw, sql);
            assert!(heard.ends_with(" T"), "{statements:?}: {sql}: {heard}");
        }
        let both: Vec<String> = [&update_a, &update_b].iter().map(|sql| said(&mut raw, sql)).collect();
        let fine = both.iter().all(|heard| heard == "UPDATE 1 T");
        assert_eq!(fine, *expect, "{statements:?}: {both:?}");
        assert_eq!(
            said(&mut raw, "COMMIT"),
            if *expect { "COMMIT I" } else { "ROLLBACK I" },
            "{statements:?}"
        );
    }
}

/// The same by the extended protocol, several messages at once.
#[test]
fn what_is_pipelined_is_a_writer() {
    let world = &*WORLD;
    let _alone = world.alone();
    let update_a = world.bank.update(0, 0);
    let mut raw = world.client();
    let before = world.decisions();
    assert_eq!(said(&mut raw, "BEGIN"), "BEGIN T");
    assert_eq!(
        said(&mut raw, &format!("SELECT 1 FROM accounts WHERE user_id = {}", world.bank.keys[0])),
        "SELECT 1 T"
    );
    assert_eq!(said(&mut raw, "SAVEPOINT s"), "SAVEPOINT T");
    raw.send(&[run("ROLLBACK TO s", &[]), run(&update_a, &[]), sync()].concat());
    let answer = raw.until(b'Z', 1);
    assert!(answer.iter().all(|frame| frame.tag != b'E'), "{answer:?}");
    assert_eq!(said(&mut raw, &world.bank.update(1, 0)), "UPDATE 1 T");
    assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
    assert_eq!(world.decisions(), before + 1);
}

/// Large objects are written by FunctionCall.
#[test]
fn a_function_call_is_a_writer() {
    let world = &*WORLD;
    let _alone = world.alone();
    let mut raw = world.client();
    let before = world.decisions();
    assert_eq!(said(&mut raw, "BEGIN"), "BEGIN T");
    assert_eq!(said(&mut raw, &world.bank.update(1, 0)), "UPDATE 1 T");
    // lo_create(0)
    raw.send(&function_call(715, &["0"]));
    let answer = raw.until(b'Z', 1);
    assert!(answer.iter().any(|frame| frame.tag == b'V'), "{answer:?}");
    assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
    assert_eq!(world.decisions(), before + 1);
}

/// Outside a transaction nothing would make it end alike.
#[test]
fn a_query_that_writes_everywhere_needs_a_transaction() {
    let world = &*WORLD;
    let _alone = world.alone();
    let mut raw = world.client();
    assert_eq!(said(&mut raw, "/* pgring: shard=all */ SELECT debit()"), "0A000 I");
    assert_eq!(
        said(&mut raw, "/* pgring: shard=all */ COPY (DELETE FROM log RETURNING 1) TO STDOUT"),
        "0A000 I"
    );
}

/// The decision is asked for on the way, and its answer is nobody else's.
#[test]
fn answers_stay_in_step() {
    let world = &*WORLD;
    let _alone = world.alone();
    let topology = support::topology(3);
    let key = |shard| pgring::demo::sample::owned_users(&topology, pgring::ring::ShardId(shard))[0];
    let value = |shard| {
        format!("SELECT 'on {shard}' || ':' || count(*) FROM log WHERE user_id = {} AND false", key(shard))
    };
    let change = |shards: &[u16]| {
        let keys: Vec<String> = shards.iter().map(|shard| key(*shard).to_string()).collect();
        format!("UPDATE accounts SET balance = balance + 0 WHERE user_id IN ({})", keys.join(", "))
    };
    for statements in [
        vec![format!("{}; {}", change(&[0]), change(&[1]))],
        vec![change(&[0]), change(&[1, 2])],
        vec![change(&[2]), change(&[0, 1])],
        vec![change(&[0]), change(&[1]), change(&[2])],
        vec![change(&[0]), change(&[0, 1, 2])],
    ] {
        let mut raw = world.client();
        assert_eq!(said(&mut raw, "BEGIN"), "BEGIN T");
        for sql in &statements {
            let heard = said(&mut raw, sql);
            assert!(heard.ends_with(" T") && !heard.contains("0A000"), "{sql}: {heard}");
        }
        // Long enough for an answer that nobody waits for to come.
        std::thread::sleep(std::time::Duration::from_millis(50));
        for shard in [0, 1, 2, 0] {
            assert_eq!(raw.value(&value(shard)), format!("on {shard}:0"), "{statements:?}");
        }
        assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I", "{statements:?}");
    }
}

/// A pipeline's COPY on several shards is committed with its Sync, whatever else was read before that.
#[test]
fn a_gather_in_between_forgets_nobody() {
    let world = &*WORLD;
    let _alone = world.alone();
    let mut raw = world.client();
    let before = world.decisions();
    let [a, b] = world.bank.keys;
    let gathered = "SELECT count(*) FROM log x JOIN accounts y ON y.balance = x.user_id";
    raw.send(&[parse("g", gathered), bind("g", "g", &[]), sync()].concat());
    raw.until(b'Z', 1);
    raw.send(&[parse("", "COPY log FROM STDIN"), bind("", "", &[]), execute("", 0)].concat());
    raw.send(&copy_data(format!("{a}\tx\n{b}\ty\n").as_bytes()));
    raw.send(&copy_done());
    raw.send(&[bind("", "g", &[]), execute("", 0), sync()].concat());
    let answer = raw.until(b'Z', 1);
    let refused = answer.iter().any(|frame| frame.tag == b'E');
    let rows = raw
        .value(&format!("SELECT count(*)::text FROM log WHERE user_id IN ({a}, {b}) AND note IN ('x', 'y')"));
    if refused {
        assert_eq!((rows.as_str(), world.decisions()), ("0", before), "{answer:?}");
    } else {
        assert_eq!((rows.as_str(), world.decisions()), ("2", before + 1), "{answer:?}");
    }
}

/// In a transaction that only reads nobody writes, whatever it may look like.
#[test]
fn a_read_only_transaction_has_no_writers() {
    let world = &*WORLD;
    let _alone = world.alone();
    let mut raw = world.client();
    let before = world.decisions();
    assert_eq!(said(&mut raw, "BEGIN READ ONLY"), "BEGIN T");
    for shard in [0, 1] {
        let read = format!("SELECT balance FROM accounts WHERE user_id = {}", world.bank.keys[shard]);
        assert_eq!(said(&mut raw, &format!("DECLARE c{shard} CURSOR FOR {read}")), "DECLARE CURSOR T");
        assert_eq!(said(&mut raw, &format!("FETCH c{shard}")), "FETCH 1 T");
    }
    assert_eq!(said(&mut raw, "/* pgring: shard=s1 */ SELECT pg_is_in_recovery()"), "SELECT 1 T");
    assert_eq!(said(&mut raw, "COMMIT"), "COMMIT I");
    assert_eq!(world.decisions(), before);
    raw.send(&query("SELECT 1"));
    assert_eq!(raw.until(b'Z', 1).len(), 4);
}
