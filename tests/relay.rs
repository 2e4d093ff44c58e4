//! The relay: what a client gets through pgring is what PostgreSQL itself would have answered,
//! message by message.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

use std::io::Write;
use std::time::Duration;

use pgring::demo::cluster::{Cluster, SUPERUSER};
use pgring::demo::sample::APP;

mod support;
use support::raw::{
    CLOSED, Frame, Raw, bind, cancel_request, close, copy_data, copy_done, copy_fail, describe, execute,
    flush, function_call, parse, query, run, sync,
};
use support::{Config, Proxy, database, eventually, servers};

/// On two shards, user 4 lives on the first and user 1 on the second.
const SCHEMA: &str = "
    CREATE TABLE t (user_id int NOT NULL, v text NOT NULL, PRIMARY KEY (user_id, v));
    CREATE TABLE home (v text);
    CREATE FUNCTION tell(text) RETURNS text LANGUAGE plpgsql
        AS $$BEGIN RAISE NOTICE 'told %', $1; RETURN $1; END$$;
    INSERT INTO t SELECT 4, 'row ' || n FROM generate_series(1, 5) n;";

const RESET: &str = "
    TRUNCATE t, home;
    INSERT INTO t SELECT 4, 'row ' || n FROM generate_series(1, 5) n;";

/// One database with one shard, one with two, and for each server a database that is only used
/// directly.
struct Stage {
    proxy: Proxy,
    one: String,
    two: String,
    /// Of the same contents, for comparison.
    plain: String,
}

impl Stage {
    fn new(change: impl FnOnce(Config) -> Config) -> Stage {
        let shards = servers(2);
        let one = database(&shards[..1], SCHEMA);
        let two = database(&shards, SCHEMA);
        let plain = database(&shards, SCHEMA);
        let config = Config::new().database(&one, &shards[..1]).database(&two, &shards);
        Stage { proxy: Proxy::start(change(config)), one, two, plain }
    }

    fn client(&self, database: &str) -> Raw {
        Raw::login(&self.proxy.address(), APP, database)
    }

    fn direct(&self) -> Raw {
        direct(&self.plain)
    }
}

fn first() -> &'static Cluster {
    servers(1)[0]
}

/// A connection to the first shard's server itself.
fn direct(database: &str) -> Raw {
    Raw::login(&first().address(), APP, database)
}

/// Bytes to write at once, and what to wait for before the next.
type Step = (Vec<u8>, u8, usize);

#[derive(Clone, Copy, PartialEq)]
enum Where {
    /// On one shard and on two, the statements having keys.
    Both,
    /// On one shard: they have none.
    One,
}

struct Row {
    name: &'static str,
    place: Where,
    steps: Vec<Step>,
}

/// One write, answered by so many `ReadyForQuery`.
fn ready(parts: &[Vec<u8>], count: usize) -> Step {
    (parts.concat(), b'Z', count)
}

fn row(name: &'static str, place: Where, steps: Vec<Step>) -> Row {
    Row { name, place, steps }
}

const READ: &str = "SELECT v FROM t WHERE user_id = 4 ORDER BY v";
const READ_1: &str = "SELECT v FROM t WHERE user_id = $1 ORDER BY v";
const WRITE_1: &str = "INSERT INTO t VALUES (4, $1)";

/// `Parse` to `Execute` of an insert.
fn insert(value: &str) -> Vec<u8> {
    run(WRITE_1, &[value])
}

fn fails() -> Vec<u8> {
    run("SELECT 1 / 0 FROM t WHERE user_id = 4", &[])
}

fn conversations() -> Vec<Row> {
    use Where::{Both, One};
    let q = |sql: &str| ready(&[query(sql)], 1);
    let mut rows = vec![
        // Simple.
        row("rows", Both, vec![q(READ)]),
        row("several statements", Both, vec![q(&format!("{READ}; INSERT INTO t VALUES (4, 'new'); {READ}"))]),
        row("an empty query", Both, vec![q(""), q(" -- nothing\n"), q(";;")]),
        row(
            "an error in the middle of a text",
            Both,
            vec![q(&format!("{READ}; SELECT 1/0 FROM t WHERE user_id = 4; {READ}"))],
        ),
        row("a syntax error", Both, vec![q("SELEC 1"), q("SELECT 1; FOO; SELECT 2")]),
        row(
            "an open string",
            One,
            vec![
                q("SELECT 'open"),
                ready(&[parse("x", "SELECT 'open"), sync()], 1),
                ready(&[describe('S', "x"), sync()], 1),
            ],
        ),
        row(
            "an implicit transaction that fails half-way is rolled back",
            Both,
            vec![q(
                "INSERT INTO t VALUES (4, 'lost'); INSERT INTO t VALUES (4, 'row 1'); INSERT INTO t VALUES (4, 'never')",
            )],
        ),
        row(
            "BEGIN in the middle of a text",
            Both,
            vec![
                q("INSERT INTO t VALUES (4, 'a'); BEGIN; INSERT INTO t VALUES (4, 'b')"),
                q("SELECT 1/0 FROM t WHERE user_id = 4"),
                q(READ),
                q("ROLLBACK"),
            ],
        ),
        row(
            "COMMIT in the middle of a text",
            One,
            vec![q("INSERT INTO t VALUES (4, 'kept'); COMMIT; INSERT INTO t VALUES (4, 'row 1')")],
        ),
        row(
            "an explicit transaction",
            Both,
            vec![
                q("BEGIN"),
                q("INSERT INTO t VALUES (4, 'x')"),
                q("SELECT 1/0 FROM t WHERE user_id = 4"),
                q(READ),
                q("COMMIT"),
                q(READ),
            ],
        ),
        row(
            "savepoints",
            Both,
            vec![
                q("BEGIN"),
                q("SAVEPOINT a"),
                q("INSERT INTO t VALUES (4, 'x')"),
                q("SAVEPOINT b"),
                q("INSERT INTO t VALUES (4, 'row 1')"),
                q("ROLLBACK TO b"),
                q("INSERT INTO t VALUES (4, 'y')"),
                q("RELEASE a"),
                q("COMMIT"),
            ],
        ),
        row(
            "warnings of transaction statements",
            Both,
            vec![q("COMMIT"), q("ROLLBACK"), q("BEGIN"), q("BEGIN"), q("COMMIT AND CHAIN"), q("ROLLBACK")],
        ),
        row(
            "SAVEPOINT outside a transaction",
            Both,
            vec![q("SAVEPOINT a"), q("RELEASE a"), q("ROLLBACK TO a")],
        ),
        row(
            "a notice",
            Both,
            vec![q("/* pgring: key=4 */ SELECT tell(v) FROM t WHERE user_id = 4 AND v < 'row 3'")],
        ),
        row(
            "parameters are reported",
            Both,
            vec![
                q("SET application_name = 'other'"),
                q("SET TimeZone = 'Asia/Tokyo'"),
                q("SHOW TimeZone"),
                q("RESET ALL"),
            ],
        ),
        // Extended.
        row(
            "the extended protocol",
            Both,
            vec![ready(
                &[
                    parse("s", READ_1),
                    describe('S', "s"),
                    bind("", "s", &["4"]),
                    describe('P', ""),
                    execute("", 0),
                    sync(),
                ],
                1,
            )],
        ),
        row(
            "an empty statement",
            Both,
            vec![ready(
                &[
                    parse("", ""),
                    describe('S', ""),
                    bind("", "", &[]),
                    describe('P', ""),
                    execute("", 0),
                    sync(),
                ],
                1,
            )],
        ),
        row(
            "a statement without rows",
            Both,
            vec![ready(
                &[
                    parse("", WRITE_1),
                    describe('S', ""),
                    bind("", "", &["new"]),
                    describe('P', ""),
                    execute("", 0),
                    sync(),
                ],
                1,
            )],
        ),
        row(
            "a row limit",
            Both,
            vec![ready(
                &[
                    parse("", READ_1),
                    bind("p", "", &["4"]),
                    execute("p", 2),
                    execute("p", 2),
                    execute("p", 2),
                    execute("p", 2),
                    sync(),
                ],
                1,
            )],
        ),
        row(
            "a suspended portal lives to the end of the transaction",
            Both,
            vec![
                q("BEGIN"),
                ready(&[parse("", READ_1), bind("p", "", &["4"]), execute("p", 2), sync()], 1),
                ready(&[execute("p", 2), sync()], 1),
                ready(&[close('P', "p"), sync()], 1),
                ready(&[execute("p", 2), sync()], 1),
                q("COMMIT"),
            ],
        ),
        row(
            "a portal does not outlive its Sync",
            Both,
            vec![
                ready(&[parse("", READ_1), bind("p", "", &["4"]), execute("p", 2), sync()], 1),
                ready(&[execute("p", 2), sync()], 1),
            ],
        ),
        row(
            "a portal's name is taken",
            Both,
            vec![ready(
                &[parse("", READ_1), bind("p", "", &["4"]), bind("p", "", &["4"]), execute("p", 0), sync()],
                1,
            )],
        ),
        row(
            "Flush has the answers so far sent",
            Both,
            vec![
                ([parse("f", READ_1), flush()].concat(), b'1', 1),
                ([describe('S', "f"), flush()].concat(), b'T', 1),
                ([bind("", "f", &["4"]), flush()].concat(), b'2', 1),
                ([describe('P', ""), flush()].concat(), b'T', 1),
                ([execute("", 3), flush()].concat(), b's', 1),
                ([execute("", 0), flush()].concat(), b'C', 1),
                ready(&[sync()], 1),
            ],
        ),
        row(
            "Flush after a BEGIN and an error",
            Both,
            vec![
                ([run("BEGIN", &[]), flush()].concat(), b'C', 1),
                ([fails(), flush()].concat(), b'E', 1),
                ready(&[insert("ignored"), sync()], 1),
                ready(&[run("ROLLBACK", &[]), sync()], 1),
            ],
        ),
        row("Flush without anything", Both, vec![ready(&[flush(), sync(), flush(), sync()], 2)]),
        row(
            "Close",
            Both,
            vec![
                ready(&[parse("c", READ_1), sync()], 1),
                ready(
                    &[
                        close('S', "c"),
                        close('S', "c"),
                        close('S', "never"),
                        close('P', "never"),
                        close('S', ""),
                        close('P', ""),
                        sync(),
                    ],
                    1,
                ),
                ready(&[bind("", "c", &["4"]), sync()], 1),
                ready(
                    &[
                        parse("c", "SELECT v FROM t WHERE user_id = $1 AND v = $2"),
                        describe('S', "c"),
                        sync(),
                    ],
                    1,
                ),
            ],
        ),
        row(
            "a statement closed in its own batch",
            Both,
            vec![ready(
                &[
                    parse("c", READ_1),
                    bind("p", "c", &["4"]),
                    close('S', "c"),
                    execute("p", 0),
                    close('P', "p"),
                    execute("p", 0),
                    sync(),
                ],
                1,
            )],
        ),
        row(
            "a statement that failed to parse does not exist",
            Both,
            vec![
                ready(
                    &[parse("bad", "SELECT nothing FROM t WHERE user_id = $1"), describe('S', "bad"), sync()],
                    1,
                ),
                ready(&[describe('S', "bad"), sync()], 1),
                ready(&[parse("bad", READ_1), describe('S', "bad"), sync()], 1),
            ],
        ),
        row(
            "a statement parsed after an error does not exist",
            Both,
            vec![
                ready(&[fails(), parse("late", READ_1), sync()], 1),
                ready(&[bind("", "late", &["4"]), sync()], 1),
            ],
        ),
        row(
            "a statement parsed before an error exists",
            Both,
            vec![
                ready(&[parse("early", READ_1), fails(), sync()], 1),
                ready(&[bind("", "early", &["4"]), execute("", 0), sync()], 1),
            ],
        ),
        row(
            "a name that is taken",
            Both,
            vec![
                ready(&[parse("twice", READ_1), parse("twice", READ_1), sync()], 1),
                ready(&[parse("twice", READ_1), sync()], 1),
                ready(&[bind("", "twice", &["4"]), execute("", 0), sync()], 1),
            ],
        ),
        row(
            "names that are not known",
            Both,
            vec![
                ready(&[bind("", "none", &[]), execute("", 0), sync()], 1),
                ready(&[describe('S', "none"), sync()], 1),
                ready(&[describe('P', "none"), sync()], 1),
                ready(&[execute("none", 0), sync()], 1),
            ],
        ),
        row(
            "the unnamed statement ends with a simple query",
            Both,
            vec![
                ready(&[parse("", READ_1), sync()], 1),
                q("SELECT 1"),
                ready(&[bind("", "", &["4"]), sync()], 1),
            ],
        ),
        row(
            "the unnamed statement is replaced",
            Both,
            vec![
                ready(
                    &[parse("", READ_1), parse("", WRITE_1), bind("", "", &["new"]), execute("", 0), sync()],
                    1,
                ),
                ready(&[bind("", "", &["newer"]), execute("", 0), sync()], 1),
            ],
        ),
        row("several commands in a Parse", Both, vec![ready(&[parse("", "SELECT 1; SELECT 2"), sync()], 1)]),
        row(
            "a syntax error in a Parse",
            Both,
            vec![ready(&[parse("x", "SELEC 1"), sync()], 1), ready(&[describe('S', "x"), sync()], 1)],
        ),
        row(
            "too few parameters",
            One,
            vec![ready(&[parse("", READ_1), bind("", "", &[]), execute("", 0), sync()], 1)],
        ),
        row(
            "a parameter that does not convert",
            One,
            vec![ready(&[parse("", READ_1), bind("", "", &["four"]), execute("", 0), sync()], 1)],
        ),
        // Pipelines.
        row(
            "many statements before one Sync",
            Both,
            vec![ready(&[(0..50).map(|n| insert(&format!("n{n}"))).collect::<Vec<_>>().concat(), sync()], 1)],
        ),
        row(
            "several Syncs in one write",
            Both,
            vec![ready(
                &[insert("a"), sync(), insert("row 1"), insert("b"), sync(), sync(), insert("c"), sync()],
                4,
            )],
        ),
        row(
            "simple queries in one write",
            Both,
            vec![ready(&[query(READ), query("SELECT 1/0 FROM t WHERE user_id = 4"), query(READ)], 3)],
        ),
        row(
            "simple and extended in one write",
            Both,
            vec![ready(&[insert("a"), sync(), query(READ), insert("b"), sync(), query(READ)], 4)],
        ),
        row(
            "a simple query before the Sync",
            Both,
            vec![ready(&[insert("a"), query(READ), insert("b"), sync()], 2)],
        ),
        row(
            "a simple query after an error before the Sync",
            Both,
            vec![ready(&[insert("a"), fails(), query(READ), insert("b"), sync()], 1)],
        ),
        row(
            "a transaction in one pipeline",
            Both,
            vec![ready(&[run("BEGIN", &[]), insert("a"), run("COMMIT", &[]), sync()], 1)],
        ),
        row(
            "a failed transaction in one pipeline",
            Both,
            vec![
                ready(&[run("BEGIN", &[]), insert("a"), fails(), run("COMMIT", &[]), sync()], 1),
                ready(&[run("COMMIT", &[]), sync()], 1),
            ],
        ),
        row(
            "a transaction over several Syncs",
            Both,
            vec![ready(
                &[
                    run("BEGIN", &[]),
                    sync(),
                    insert("a"),
                    sync(),
                    fails(),
                    sync(),
                    insert("b"),
                    sync(),
                    run("COMMIT", &[]),
                    sync(),
                ],
                5,
            )],
        ),
        row(
            "described before it is bound, by drivers",
            Both,
            vec![
                ready(&[parse("d", READ_1), describe('S', "d"), sync()], 1),
                ready(&[bind("", "d", &["4"]), execute("", 1), close('P', ""), sync()], 1),
                ready(&[close('S', "d"), sync()], 1),
            ],
        ),
        row(
            "described inside a transaction that has no shard yet",
            Both,
            vec![
                q("BEGIN"),
                ready(&[parse("d", READ_1), describe('S', "d"), sync()], 1),
                ready(&[bind("", "d", &["4"]), execute("", 0), sync()], 1),
                q("ROLLBACK"),
            ],
        ),
        // Function calls: int4pl and int4div.
        row(
            "a function call",
            Both,
            vec![
                ready(&[function_call(177, &["2", "3"])], 1),
                ready(&[function_call(154, &["2", "0"])], 1),
                ready(&[function_call(1, &[])], 1),
            ],
        ),
        row(
            "a function call in a transaction",
            One,
            vec![
                q("BEGIN"),
                ready(&[function_call(154, &["2", "0"])], 1),
                ready(&[function_call(177, &["2", "3"])], 1),
                q("ROLLBACK"),
            ],
        ),
        // COPY.
        row("COPY out", One, vec![q("COPY (SELECT * FROM t ORDER BY v) TO STDOUT")]),
        row(
            "COPY out by the extended protocol",
            One,
            vec![ready(&[run("COPY (SELECT * FROM t ORDER BY v) TO STDOUT", &[]), sync()], 1)],
        ),
        row(
            "an error in the middle of COPY out",
            One,
            vec![q("COPY (SELECT 1 / (3 - n) FROM generate_series(1, 5) n) TO STDOUT")],
        ),
        row(
            "COPY in",
            One,
            vec![
                (query("COPY t FROM STDIN"), b'G', 1),
                ready(
                    &[
                        copy_data(b"4\ta\n4\tb"),
                        copy_data(b"\n"),
                        copy_data(b""),
                        copy_data(b"4\tc\n"),
                        copy_done(),
                    ],
                    1,
                ),
            ],
        ),
        row(
            "COPY in without data",
            One,
            vec![(query("COPY t FROM STDIN"), b'G', 1), ready(&[copy_done()], 1)],
        ),
        row(
            "COPY in, everything in one write",
            One,
            vec![ready(&[query("COPY t FROM STDIN"), copy_data(b"4\ta\n"), copy_done(), query(READ)], 2)],
        ),
        row(
            "Flush and Sync within COPY in are ignored",
            One,
            vec![
                (query("COPY t FROM STDIN"), b'G', 1),
                ready(&[copy_data(b"4\ta\n"), flush(), sync(), copy_data(b"4\tb\n"), copy_done()], 1),
            ],
        ),
        row(
            "CopyFail",
            One,
            vec![
                (query("COPY t FROM STDIN"), b'G', 1),
                ready(&[copy_data(b"4\ta\n"), copy_fail("no more")], 1),
            ],
        ),
        row(
            "COPY in fails and the client goes on sending",
            One,
            vec![
                (query("COPY t FROM STDIN"), b'G', 1),
                ready(&[copy_data(b"four\ta\n"), copy_data(b"4\tb\n"), copy_data(b"4\tc\n"), copy_done()], 1),
                q(READ),
            ],
        ),
        row(
            "COPY in fails before it begins and data follow",
            One,
            vec![ready(
                &[query("COPY nothing FROM STDIN"), copy_data(b"4\tb\n"), copy_done(), query(READ)],
                2,
            )],
        ),
        row(
            "COPY in within a text",
            One,
            vec![
                (
                    query(
                        "INSERT INTO t VALUES (4, 'before'); COPY t FROM STDIN; INSERT INTO t VALUES (4, 'after')",
                    ),
                    b'G',
                    1,
                ),
                ready(&[copy_data(b"4\ta\n"), copy_done()], 1),
            ],
        ),
        row(
            "two COPY in within a text",
            One,
            vec![
                (query("COPY t FROM STDIN; COPY home FROM STDIN"), b'G', 1),
                (([copy_data(b"4\ta\n"), copy_done()]).concat(), b'G', 1),
                ready(&[copy_data(b"h\n"), copy_done()], 1),
            ],
        ),
        row(
            "COPY in within a transaction",
            One,
            vec![
                q("BEGIN"),
                (query("COPY t FROM STDIN"), b'G', 1),
                ready(&[copy_data(b"4\trow 1\n"), copy_done()], 1),
                q(READ),
                q("ROLLBACK"),
            ],
        ),
        row(
            "COPY in by the extended protocol, Sync before the data",
            One,
            vec![
                ([run("COPY t FROM STDIN", &[]), sync()].concat(), b'G', 1),
                ready(&[copy_data(b"4\ta\n"), copy_done(), sync()], 1),
            ],
        ),
        row(
            "COPY in by the extended protocol, Sync after the data",
            One,
            vec![
                ([run("COPY t FROM STDIN", &[]), flush()].concat(), b'G', 1),
                ready(&[copy_data(b"4\ta\n"), copy_done(), sync()], 1),
            ],
        ),
        row(
            "CopyFail by the extended protocol",
            One,
            vec![
                ([run("COPY t FROM STDIN", &[]), sync()].concat(), b'G', 1),
                ready(&[copy_data(b"4\ta\n"), copy_fail("no more"), sync()], 1),
                q(READ),
            ],
        ),
        row(
            "COPY in fails by the extended protocol",
            One,
            vec![
                ([run("COPY t FROM STDIN", &[]), sync()].concat(), b'G', 1),
                ready(&[copy_data(b"four\ta\n"), copy_data(b"4\tb\n"), copy_done(), sync()], 1),
                q(READ),
            ],
        ),
        row(
            "a query within COPY in",
            One,
            vec![
                (query("COPY t FROM STDIN"), b'G', 1),
                ready(&[copy_data(b"4\ta\n"), query("SELECT 1")], 1),
                q(READ),
            ],
        ),
        row(
            "data without a COPY",
            Both,
            vec![ready(&[copy_data(b"4\ta\n"), copy_done(), copy_fail("x"), query(READ)], 1)],
        ),
    ];
    // On two shards a COPY says where.
    let copy = "/* pgring: key=4 */ COPY t FROM STDIN";
    rows.extend([
        row(
            "COPY out by hint",
            Both,
            vec![q("/* pgring: key=4 */ COPY (SELECT * FROM t WHERE user_id = 4 ORDER BY v) TO STDOUT")],
        ),
        row(
            "COPY in by hint",
            Both,
            vec![(query(copy), b'G', 1), ready(&[copy_data(b"4\ta\n"), copy_done()], 1), q(READ)],
        ),
        row(
            "CopyFail by hint",
            Both,
            vec![
                (query(copy), b'G', 1),
                ready(&[copy_data(b"4\ta\n"), copy_fail("no more"), query(READ)], 2),
            ],
        ),
        row(
            "COPY in by hint and the extended protocol",
            Both,
            vec![
                ([run(copy, &[]), sync()].concat(), b'G', 1),
                ready(&[copy_data(b"4\ta\n"), copy_done(), sync()], 1),
            ],
        ),
        row(
            "COPY in by hint fails",
            Both,
            vec![
                (query(copy), b'G', 1),
                ready(&[copy_data(b"four\ta\n"), copy_data(b"4\tb\n"), copy_done(), query(READ)], 2),
            ],
        ),
        row(
            "COPY in by hint within a transaction",
            Both,
            vec![
                q("BEGIN"),
                (query(copy), b'G', 1),
                ready(&[copy_data(b"4\trow 1\n"), copy_done()], 1),
                q(READ),
                q("COMMIT"),
            ],
        ),
    ]);
    // An error at each position of a pipeline.
    for failing in 0..6 {
        let statements: Vec<Vec<u8>> =
            (0..6).map(|at| if at == failing { fails() } else { insert(&format!("p{at}")) }).collect();
        let (one, two) = statements.split_at(3);
        rows.push(row(
            "an error in a pipeline of two Syncs",
            Both,
            vec![ready(&[one.concat(), sync(), two.concat(), sync()], 2)],
        ));
    }
    for (name, bad) in [
        ("an error at Parse", [parse("", "SELECT nothing"), bind("", "", &[]), execute("", 0)].concat()),
        ("an error at Bind", [parse("", WRITE_1), bind("", "", &["a", "b"]), execute("", 0)].concat()),
        ("an error at Execute", [execute("none", 0)].concat()),
        ("an error at Describe", [describe('P', "none")].concat()),
        ("an error of an unknown statement", [bind("", "none", &[])].concat()),
    ] {
        rows.push(row(
            name,
            Both,
            vec![ready(&[insert("before"), bad.clone(), insert("after"), sync(), insert("next"), sync()], 2)],
        ));
        rows.push(row(
            name,
            Both,
            vec![ready(
                &[
                    run("BEGIN", &[]),
                    bad.clone(),
                    insert("after"),
                    sync(),
                    insert("next"),
                    sync(),
                    run("COMMIT", &[]),
                    sync(),
                ],
                3,
            )],
        ));
        rows.push(row(
            name,
            Both,
            vec![ready(
                &[
                    run("BEGIN", &[]),
                    insert("before"),
                    bad,
                    insert("after"),
                    sync(),
                    insert("next"),
                    sync(),
                    run("COMMIT", &[]),
                    sync(),
                ],
                3,
            )],
        ));
    }
    rows
}

fn converse(client: &mut Raw, steps: &[Step]) -> Vec<Vec<Frame>> {
    client.set_patience(Duration::from_secs(3));
    let mut answers: Vec<Vec<Frame>> = Vec::new();
    for (bytes, tag, count) in steps {
        if client.try_send(bytes).is_err() {
            break;
        }
        answers.push(client.until(*tag, *count));
    }
    // Whatever came before, the session is in step; or PostgreSQL has ended it.
    if client.try_send(&query("SELECT 'in step'")).is_ok() {
        answers.push(client.until(b'Z', 1));
    }
    answers
}

#[test]
fn conversations_are_what_they_are_with_postgresql() {
    let stage = Stage::new(|config| config);
    let mut differences = Vec::new();
    let mut observers =
        [&stage.plain, &stage.one, &stage.two].map(|database| (database.clone(), direct(database)));
    let mut contents = |database: &str| {
        let (_, observer) = observers.iter_mut().find(|(name, _)| name == database).unwrap();
        let contents = observer.query("SELECT * FROM t UNION ALL SELECT 0, v FROM home ORDER BY 1, 2");
        observer.query(RESET);
        contents
    };
    for Row { name, place, steps } in conversations() {
        let expected = converse(&mut stage.direct(), &steps);
        let kept = contents(&stage.plain);
        assert!(
            !format!("{expected:?}").contains("SILENCE"),
            "{name} waits for what never comes: {expected:?}"
        );
        for database in [&stage.one, &stage.two] {
            if place == Where::One && *database == stage.two {
                continue;
            }
            let shards = if *database == stage.one { "one shard" } else { "two shards" };
            let got = converse(&mut stage.client(database), &steps);
            for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
                if format!("{got:?}") != format!("{expected:?}") {
                    differences.push(format!(
                        "{name} ({shards}), step {at}:\n   pgring {got:?}\n   direct {expected:?}"
                    ));
                }
            }
            let left = contents(database);
            if left != kept {
                differences.push(format!("{name} ({shards}) left {left:?}\n   instead of {kept:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

/// Errors in `frames`, and how each batch ended: `0A000 T`, say.
fn summary(frames: &[Frame]) -> String {
    let told: Vec<String> = frames
        .iter()
        .filter_map(|frame| match frame.tag {
            b'E' => Some(frame.code()),
            b'Z' => Some(char::from(frame.body[0]).to_string()),
            b'C' => Some(String::from_utf8_lossy(&frame.body).trim_end_matches('\0').to_owned()),
            CLOSED => Some("closed".to_owned()),
            _ => None,
        })
        .collect();
    told.join(", ")
}

/// Bytes, how many `ReadyForQuery` answer them, and the [`summary`].
type Told = (Vec<u8>, usize, &'static str);

#[test]
fn a_refusal_of_pgrings_own_undoes_what_the_batch_did_before() {
    let stage = Stage::new(|config| config.set("routing", "cross_shard", "\"refuse\""));
    let elsewhere = run("INSERT INTO t VALUES (1, 'elsewhere')", &[]);
    let everywhere = run("SELECT count(*) FROM t", &[]);
    let rows: Vec<(&str, Vec<Told>)> = vec![
        (
            "another shard in a pipeline",
            vec![(
                [insert("a"), elsewhere.clone(), insert("b"), sync(), insert("kept"), sync()].concat(),
                2,
                "INSERT 0 1, 0A000, I, INSERT 0 1, I",
            )],
        ),
        (
            "all shards in a pipeline",
            vec![(
                [insert("a"), insert("b"), everywhere.clone(), insert("c"), sync(), insert("kept"), sync()]
                    .concat(),
                2,
                "INSERT 0 1, INSERT 0 1, 0A000, I, INSERT 0 1, I",
            )],
        ),
        (
            "a name that is taken",
            vec![
                ([parse("x", READ_1), sync()].concat(), 1, "I"),
                (
                    [insert("a"), parse("x", READ_1), insert("c"), sync(), insert("kept"), sync()].concat(),
                    2,
                    "INSERT 0 1, 42P05, I, INSERT 0 1, I",
                ),
            ],
        ),
        (
            "a simple query after a batch without Sync",
            vec![
                ([insert("a"), flush(), query("SELECT count(*) FROM t")].concat(), 1, "INSERT 0 1, 0A000, I"),
                ([insert("kept"), sync()].concat(), 1, "INSERT 0 1, I"),
            ],
        ),
        (
            "one text for two shards",
            vec![
                (query("INSERT INTO t VALUES (4, 'a'); INSERT INTO t VALUES (1, 'b')"), 1, "0A000, I"),
                ([insert("kept"), sync()].concat(), 1, "INSERT 0 1, I"),
            ],
        ),
        (
            "within a transaction",
            vec![
                (
                    [
                        run("BEGIN", &[]),
                        insert("a"),
                        elsewhere.clone(),
                        insert("b"),
                        run("COMMIT", &[]),
                        sync(),
                    ]
                    .concat(),
                    1,
                    "BEGIN, INSERT 0 1, 0A000, E",
                ),
                ([insert("c"), sync()].concat(), 1, "25P02, E"),
                ([run("COMMIT", &[]), sync()].concat(), 1, "ROLLBACK, I"),
                ([insert("kept"), sync()].concat(), 1, "INSERT 0 1, I"),
            ],
        ),
        (
            "within a transaction, by simple queries",
            vec![
                (query("BEGIN"), 1, "BEGIN, T"),
                (query("INSERT INTO t VALUES (4, 'a')"), 1, "INSERT 0 1, T"),
                (query("INSERT INTO t VALUES (1, 'b')"), 1, "0A000, E"),
                (query(READ), 1, "25P02, E"),
                (query("COMMIT"), 1, "ROLLBACK, I"),
                (query("INSERT INTO t VALUES (4, 'kept')"), 1, "INSERT 0 1, I"),
            ],
        ),
        (
            "before a transaction has a shard",
            vec![
                (query("BEGIN"), 1, "BEGIN, T"),
                ([everywhere, insert("a"), sync()].concat(), 1, "0A000, E"),
                ([run("COMMIT", &[]), sync()].concat(), 1, "ROLLBACK, I"),
                ([insert("kept"), sync()].concat(), 1, "INSERT 0 1, I"),
            ],
        ),
        (
            "a savepoint brings it back",
            vec![
                (query("BEGIN"), 1, "BEGIN, T"),
                (query("INSERT INTO t VALUES (4, 'kept')"), 1, "INSERT 0 1, T"),
                (query("SAVEPOINT s"), 1, "SAVEPOINT, T"),
                (query("INSERT INTO t VALUES (1, 'b')"), 1, "0A000, E"),
                (query("ROLLBACK TO s"), 1, "ROLLBACK, T"),
                (query("COMMIT"), 1, "COMMIT, I"),
            ],
        ),
    ];
    let mut observer = direct(&stage.two);
    for (name, steps) in rows {
        let mut client = stage.client(&stage.two);
        for (bytes, count, expected) in steps {
            client.send(&bytes);
            assert_eq!(summary(&client.until(b'Z', count)), expected, "{name}");
        }
        let left = observer.query("SELECT v FROM t WHERE v NOT LIKE 'row%'");
        let left: Vec<String> =
            left.iter().filter(|frame| frame.tag == b'D').flat_map(Frame::columns).collect();
        assert_eq!(left, ["kept"], "{name}");
        observer.query(RESET);
    }
}

#[test]
fn a_failed_copy_leaves_nobody_half_a_message() {
    let stage = Stage::new(|config| config.set("pool", "size", "1"));
    let mut copying = stage.client(&stage.one);
    let mut other = stage.client(&stage.one);
    copying.send(&query("COPY t FROM STDIN"));
    assert_eq!(copying.until(b'G', 1).len(), 1);
    let long = copy_data(&b"4\tlate\n".repeat(50_000));
    let (begun, rest) = long.split_at(100_000);
    copying.send(&[copy_data(b"four\tbad\n").as_slice(), begun].concat());
    assert_eq!(summary(&copying.until(b'Z', 1)), "22P02, I");

    assert_eq!(other.value("SELECT 'somebody else'"), "somebody else");
    copying.send(&[rest, &long, &copy_done(), &query("SELECT 'in step'")].concat());
    assert_eq!(summary(&copying.until(b'Z', 1)), "SELECT 1, I");
    assert_eq!(other.value("SELECT 'somebody else'"), "somebody else");
}

const MB: usize = 1024 * 1024;

/// The most memory the process has had so far.
fn peak(proxy: &Proxy) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<usize>().unwrap() * 1024
}

/// Runs `work`, during which the proxy must not need much memory.
#[track_caller]
fn in_little_memory<T>(proxy: &Proxy, work: impl FnOnce() -> T) -> T {
    let before = peak(proxy);
    let done = work();
    let grown = peak(proxy).saturating_sub(before);
    assert!(grown < 24 * MB, "grown by {} MB", grown / MB);
    done
}

#[test]
fn large_values_pass_in_constant_memory() {
    let stage = Stage::new(|config| config);
    for database in [&stage.one, &stage.two] {
        let mut client = stage.client(database);
        let little = |client: &mut Raw, bytes: &[u8]| {
            in_little_memory(&stage.proxy, || {
                client.send(bytes);
                client.until(b'Z', 1)
            })
        };

        let frames = little(
            &mut client,
            &query("SELECT repeat('x', 64 << 20) FROM t WHERE user_id = 4 AND v = 'row 1'"),
        );
        let row = frames.iter().find(|frame| frame.tag == b'D').unwrap();
        assert_eq!((row.body.len(), summary(&frames).as_str()), (64 * MB + 6, "SELECT 1, I"));

        let value = "y".repeat(64 * MB);
        for statement in ["", "named"] {
            let sql = "SELECT length($2::text) FROM t WHERE user_id = $1 AND v = 'row 1'";
            let bytes =
                [parse(statement, sql), bind("", statement, &["4", &value]), execute("", 0), sync()].concat();
            let frames = little(&mut client, &bytes);
            let row = frames.iter().find(|frame| frame.tag == b'D');
            assert_eq!(row.map(Frame::columns), Some(vec![(64 * MB).to_string()]), "{frames:?}");
        }

        let bytes = query(
            "SELECT n, 'a row of some length' FROM t, generate_series(1, 200000) n WHERE user_id = 4 AND v = 'row 1'",
        );
        let seen = in_little_memory(&stage.proxy, || {
            client.send(&bytes);
            client.count_until(b'Z', 1)
        });
        assert_eq!(seen[&'D'], 200_000);
    }

    let mut client = stage.client(&stage.one);
    let line = [vec![b'z'; MB - 1], vec![b'\n']].concat();
    let mut data = query("COPY home FROM STDIN");
    data.extend(copy_data(&line.repeat(64)));
    (0..64).for_each(|_| data.extend(copy_data(&line)));
    data.extend(copy_done());
    let frames = in_little_memory(&stage.proxy, || {
        client.send(&data);
        client.until(b'Z', 1)
    });
    assert_eq!(summary(&frames), "COPY 128, I");
    let seen = in_little_memory(&stage.proxy, || {
        client.send(&query("COPY home TO STDOUT"));
        client.count_until(b'Z', 1)
    });
    assert_eq!(seen[&'d'], 128);
}

#[test]
fn a_refused_value_is_not_read_as_messages() {
    let stage = Stage::new(|config| config);
    let value = "S\0\0\0\x04".repeat(MB);
    for database in [&stage.one, &stage.two] {
        let mut client = stage.client(database);
        let long = bind("", "s", &["4", &value]);
        client.send(&[parse("s", "SELECT length($2::text) FROM t WHERE user_id = $1"), sync()].concat());
        assert_eq!(summary(&client.until(b'Z', 1)), "I");
        // An error comes before it.
        let frames = in_little_memory(&stage.proxy, || {
            client.send(&[fails(), long.clone(), long.clone(), execute("", 0), sync()].concat());
            client.until(b'Z', 1)
        });
        assert_eq!(summary(&frames), "22012, I");
        // It is refused itself, in a failed transaction and without a statement.
        client.send(&[run("BEGIN", &[]), fails(), sync(), long.clone(), execute("", 0), sync()].concat());
        assert_eq!(summary(&client.until(b'Z', 2)), "BEGIN, 22012, E, 25P02, E");
        client.send(&[run("ROLLBACK", &[]), sync(), bind("", "none", &["4", &value]), sync()].concat());
        assert_eq!(summary(&client.until(b'Z', 2)), "ROLLBACK, I, 26000, I");
        assert_eq!(client.value("SELECT 'in step'"), "in step");
    }
}

/// Statements of this kind that run on the first server now.
fn running(observer: &mut Raw, database: &str, like: &str, and: &str) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND state = 'active' AND query LIKE '{like}' {and}"
    );
    observer.value(&sql).parse().unwrap()
}

fn observer() -> Raw {
    Raw::login(&first().address(), SUPERUSER, "postgres")
}

#[test]
fn a_client_that_does_not_read_stops_its_server() {
    let stage = Stage::new(|config| config);
    let mut observer = observer();
    let endless = "SELECT repeat('x', 1000) FROM generate_series(1, 500000)";
    let mut client = stage.client(&stage.one);
    let mut innocent = stage.client(&stage.one);
    in_little_memory(&stage.proxy, || {
        client.send(&query(endless));
        eventually("the server waits for its client", || {
            running(&mut observer, &stage.one, "SELECT repeat%", "AND wait_event = 'ClientWrite'") == 1
        });
        assert_eq!(innocent.value("SELECT 'undisturbed'"), "undisturbed");
    });
    drop(client);
    eventually("the statement has ended with its client", || {
        running(&mut observer, &stage.one, "SELECT repeat%", "") == 0
    });
    assert_eq!(innocent.value("SELECT 'undisturbed'"), "undisturbed");
}

#[test]
fn a_client_that_writes_long_before_it_reads_is_served() {
    let stage = Stage::new(|config| config);
    let padded = format!("SELECT 1 -- {}", "long ".repeat(200));
    let count = 20 * MB / padded.len();
    let mut client = stage.client(&stage.one);
    in_little_memory(&stage.proxy, || {
        client.send(&[run(&padded, &[]).repeat(count), sync()].concat());
        assert_eq!(client.count_until(b'Z', 1)[&'D'], count);
    });
    in_little_memory(&stage.proxy, || {
        client.send(&[run(&padded, &[]), sync()].concat().repeat(count));
        assert_eq!(client.count_until(b'Z', count)[&'D'], count);
    });
    in_little_memory(&stage.proxy, || {
        client.send(&query(&padded).repeat(count));
        assert_eq!(client.count_until(b'Z', count)[&'D'], count);
    });
}

#[test]
fn a_client_that_reads_while_it_writes_gets_more_than_the_sockets_hold() {
    let stage = Stage::new(|config| config);
    let mut client = stage.client(&stage.one);
    let mut writer = client.writer();
    let bytes = [run("SELECT repeat('x', 1000)", &[]).repeat(50_000), sync()].concat();
    in_little_memory(&stage.proxy, || {
        std::thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&bytes).unwrap());
            let seen = client.count_until(b'Z', 1);
            assert_eq!(seen.get(&'D'), Some(&50_000), "{seen:?}");
        });
    });
}

#[test]
fn prepared_statements_follow_their_clients_over_shared_servers() {
    let stage = Stage::new(|config| config.set("pool", "size", "1").set("pool", "prepared_statements", "5"));
    for database in [&stage.one, &stage.two] {
        let mut clients = [stage.client(database), stage.client(database)];
        // The same names, different texts; more than a server keeps.
        for (who, client) in clients.iter_mut().enumerate() {
            for number in 0..12 {
                let sql = format!("SELECT v || ' {who} {number}' FROM t WHERE user_id = $1 AND v = $2");
                client.send(&[parse(&format!("s{number}"), &sql), sync()].concat());
                assert_eq!(summary(&client.until(b'Z', 1)), "I");
            }
        }
        for round in 0..3 {
            for number in 0..12 {
                for (who, client) in clients.iter_mut().enumerate() {
                    let name = format!("s{number}");
                    client.send(&[bind("", &name, &["4", "row 1"]), execute("", 0), sync()].concat());
                    let frames = client.until(b'Z', 1);
                    let row = frames.iter().find(|frame| frame.tag == b'D').map(Frame::columns);
                    assert_eq!(row, Some(vec![format!("row 1 {who} {number}")]), "round {round}: {frames:?}");
                }
            }
        }
        // All of them in one pipeline: those that are needed stay long enough.
        let mut pipeline: Vec<u8> = (0..12)
            .flat_map(|n| [bind("", &format!("s{n}"), &["4", "row 2"]), execute("", 0)].concat())
            .collect();
        pipeline.extend(sync());
        clients[1].send(&pipeline);
        assert_eq!(clients[1].until(b'Z', 1).iter().filter(|frame| frame.tag == b'D').count(), 12);
        // The server's own view, asked for in a way that pgring does not see.
        let count = "/* pgring: key=4 */ DO $$ DECLARE n int; BEGIN
            EXECUTE 'SELECT count(*) FROM pg_prepared' || '_statements' INTO n;
            RAISE EXCEPTION USING MESSAGE = n; END $$";
        let frames = clients[0].query(count);
        let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
        let kept: usize = error.field(b'M').unwrap().parse().unwrap();
        assert!((1..=5).contains(&kept), "{kept} statements are kept on the server");
        // Asked for openly, it is the session's.
        let seen = "/* pgring: key=4 */ SELECT count(*) FROM pg_prepared_statements WHERE name ~ '^s[0-9]+$'";
        assert_eq!(clients[0].value(seen), "12");
    }
}

/// Sends a cancel request as any stranger may, and waits until pgring has hung up.
fn cancel(proxy: &Proxy, pid: u32, secret: &[u8]) {
    let mut raw = Raw::tcp(&proxy.address());
    raw.send(&cancel_request(pid, secret));
    assert_eq!(raw.byte(), CLOSED);
}

#[test]
fn a_cancel_ends_the_statement_whose_key_it_has() {
    use support::raw::{V3_0, V3_2};
    let stage = Stage::new(|config| config);
    let mut observer = observer();
    for (database, version) in
        [(&stage.one, V3_0), (&stage.one, V3_2), (&stage.two, V3_0), (&stage.two, V3_2)]
    {
        let login = || Raw::login_with(&stage.proxy.address(), APP, database, version, &[]);
        let (mut client, mut other) = (login(), login());
        // In a volatile place, so that it is user 4's shard that sleeps.
        let sleep = "SELECT pg_sleep(60) FROM t WHERE user_id = 4";
        client.send(&[parse("", sleep), bind("", "", &[]), execute("", 0), sync()].concat());
        eventually("the statement runs", || running(&mut observer, database, "SELECT pg_sleep%", "") == 1);

        let mut wrong = client.secret.clone();
        *wrong.last_mut().unwrap() ^= 1;
        let lines = stage.proxy.log().matches("with a wrong key").count();
        cancel(&stage.proxy, client.pid, &wrong);
        cancel(&stage.proxy, client.pid, &other.secret);
        cancel(&stage.proxy, client.pid, &client.secret.repeat(2));
        cancel(&stage.proxy, client.pid ^ 0x4000, &client.secret);
        cancel(&stage.proxy, u32::MAX, &client.secret);
        cancel(&stage.proxy, other.pid, &other.secret);
        eventually("the wrong keys have been seen", || {
            stage.proxy.log().matches("with a wrong key").count() == lines + 3
        });
        assert_eq!(other.value("SELECT 'undisturbed'"), "undisturbed");
        assert_eq!(running(&mut observer, database, "SELECT pg_sleep%", ""), 1);

        cancel(&stage.proxy, client.pid, &client.secret);
        assert_eq!(summary(&client.until(b'Z', 1)), "57014, I");
        assert_eq!(client.value("SELECT 'alive'"), "alive");
    }
}

#[test]
fn a_cancel_never_hits_a_later_statement() {
    let stage = Stage::new(|config| config.set("pool", "size", "1"));
    let mut client = stage.client(&stage.one);
    let mut other = stage.client(&stage.one);
    let short = "SELECT 'short', pg_sleep(0.002)";
    for round in 0..100 {
        // Its own next one, and one of whoever has the server now.
        assert_eq!(client.value("SELECT 'first'"), "first");
        cancel(&stage.proxy, client.pid, &client.secret);
        if round % 2 == 0 {
            assert_eq!(summary(&client.query(short)), "SELECT 1, I", "round {round}");
        } else {
            assert_eq!(summary(&other.query(short)), "SELECT 1, I", "round {round}");
        }
    }
    for round in 0..200 {
        // The cancel races with the end of its statement, and another client waits for the server.
        client.send(&query("SELECT 'first', pg_sleep(0.001)"));
        let mut request = Raw::tcp(&stage.proxy.address());
        other.send(&query(short));
        request.send(&cancel_request(client.pid, &client.secret));
        let frames = client.until(b'Z', 1);
        assert_eq!(request.byte(), CLOSED);
        assert!(
            ["SELECT 1, I", "57014, I"].contains(&summary(&frames).as_str()),
            "round {round}: {frames:?}"
        );
        assert_eq!(summary(&other.until(b'Z', 1)), "SELECT 1, I", "round {round}");
        assert_eq!(summary(&client.query("SELECT 'first', pg_sleep(0)")), "SELECT 1, I", "round {round}");
    }
}

#[test]
fn a_client_that_only_writes_is_held_up() {
    let stage = Stage::new(|config| config);
    let mut innocent = stage.client(&stage.two);
    // Answered by a server, and by pgring itself.
    for statement in ["SELECT 'an answer of some length'", "SHOW pgring.route"] {
        for bytes in [query(statement), run(statement, &[]), [run(statement, &[]), sync()].concat()] {
            let client = stage.client(&stage.two);
            let mut writer = client.writer();
            writer.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            let many = bytes.repeat(1000);
            in_little_memory(&stage.proxy, || {
                let mut written = 0;
                while writer.write_all(&many).is_ok() {
                    written += many.len();
                    assert!(written < 200 * MB, "pgring takes whatever {statement} is asked for");
                }
            });
            assert_eq!(innocent.value("SELECT 'undisturbed'"), "undisturbed");
        }
    }
}
