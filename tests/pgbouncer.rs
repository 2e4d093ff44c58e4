//! PgBouncer's documented limits of transaction pooling, each as a test that pgring passes: the
//! rows of its feature map that say "Never", the conditions behind its "Yes", and what its manual
//! warns of. `docs/compatibility.md` has the table; a test holds the two against each other.
//!
//! What a session sees is compared, word for word, with what PostgreSQL itself answers, while
//! rivals with other settings take every server the session has just used: no two of its
//! statements run on the same one, unless pgring has the session keep it.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

use std::time::Duration;

use pgring::demo::cluster::{Login, SUPERUSER};
use pgring::demo::sample::APP;
use support::raw::{self, Frame, Raw};
use support::{Config, Proxy, eventually};

/// Two servers: one for the session, the other in a rival's hands.
fn config() -> Config {
    let Login { name, password } = SUPERUSER;
    Config::new()
        .set("pool", "size", "2")
        .set("pool", "checkout_timeout", "\"300ms\"")
        .append(&format!("[[user]]\nname = \"{name}\"\npassword = \"{password}\"\n"))
}

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 5) n;
    CREATE SCHEMA other; CREATE TABLE other.t (id int, w text); INSERT INTO other.t VALUES (1, 'elsewhere')";

/// A session through pgring, and who competes with it.
struct Contest {
    proxy: Proxy,
    database: String,
    session: Raw,
    /// The one that holds a server, and the one that takes the next.
    rivals: [Raw; 2],
}

impl Contest {
    fn new(parameters: &[(&str, &str)]) -> Contest {
        Contest::of(APP, parameters)
    }

    fn of(login: Login<'_>, parameters: &[(&str, &str)]) -> Contest {
        let servers = support::servers(1);
        let database = support::database(&servers, TABLES);
        let proxy = Proxy::start(config().database(&database, &servers));
        let rivals = [(); 2].map(|()| {
            let mut rival = Raw::login(&proxy.address(), login, &database);
            for dirt in ["SET work_mem = '3MB'", "SET DateStyle = 'German'", "SET search_path = other"] {
                rival.query(dirt);
            }
            rival
        });
        let session = Raw::login_with(&proxy.address(), login, &database, raw::V3_0, parameters);
        let mut contest = Contest { proxy, database, session, rivals };
        assert!(contest.rivals[0].hold());
        contest
    }

    fn another(&self) -> Raw {
        self.another_as(APP)
    }

    fn another_as(&self, login: Login<'_>) -> Raw {
        Raw::login(&self.proxy.address(), login, &self.database)
    }

    /// Somebody who needs no server of the pool's.
    fn directly(&self, sql: &str) {
        support::servers(1)[0].psql(APP, &self.database, sql).unwrap();
    }

    /// The server that the session has used is a rival's from now on, and the other is free;
    /// false if the session keeps its server.
    fn displace(&mut self) -> bool {
        if !self.rivals[1].hold() {
            self.rivals[1].query("ROLLBACK");
            return false;
        }
        self.rivals[0].query("COMMIT");
        self.rivals.swap(0, 1);
        true
    }

    fn ask(&mut self, sql: &str) -> String {
        let answer = seen(&self.session.query(sql));
        self.displace();
        answer
    }
}

trait Hold {
    /// Begins a transaction on whichever server is free; false if none is.
    fn hold(&mut self) -> bool;
}

impl Hold for Raw {
    fn hold(&mut self) -> bool {
        self.query("BEGIN");
        let frames = self.query("SELECT set_config('rival.was_here', 'yes', false)");
        !frames.iter().any(|frame| frame.tag == b'E')
    }
}

/// An answer, but for reports of parameters: they may come with the next statement.
fn seen(frames: &[Frame]) -> String {
    let said: Vec<String> =
        frames.iter().filter(|frame| frame.tag != b'S').map(|frame| format!("{frame:?}")).collect();
    said.join("\n    ")
}

fn simple(sql: &str) -> Vec<u8> {
    raw::query(sql)
}

fn extended(sql: &str) -> Vec<u8> {
    [raw::parse("", sql), raw::bind("", "", &[]), raw::describe('P', ""), raw::execute("", 0), raw::sync()]
        .concat()
}

/// Each step ends with its `ReadyForQuery`.
fn compare_steps(parameters: &[(&str, &str)], steps: &[(String, Vec<u8>)]) {
    let mut contest = Contest::new(parameters);
    let oracle = support::database(&support::servers(1), TABLES);
    let address = support::servers(1)[0].address();
    let mut postgresql = Raw::login_with(&address, APP, &oracle, raw::V3_0, parameters);
    for (name, bytes) in steps {
        contest.session.send(bytes);
        let mine = seen(&contest.session.until(b'Z', 1));
        postgresql.send(bytes);
        let theirs = seen(&postgresql.until(b'Z', 1));
        assert_eq!(mine, theirs, "at {name}");
        contest.displace();
    }
}

/// Statements, one after the other, by either protocol.
fn compare_with(parameters: &[(&str, &str)], statements: &[&str]) {
    for protocol in [simple, extended] {
        let steps: Vec<_> =
            statements.iter().map(|statement| ((*statement).to_owned(), protocol(statement))).collect();
        compare_steps(parameters, &steps);
    }
}

fn compare(statements: &[&str]) {
    compare_with(&[], statements);
}

/// Or everything here would prove nothing.
#[test]
fn the_session_is_moved_from_server_to_server() {
    let mut contest = Contest::new(&[]);
    let mut pids = Vec::new();
    for _ in 0..6 {
        pids.push(contest.session.value("SELECT pg_backend_pid()"));
        assert!(contest.displace());
    }
    assert!(pids.windows(2).all(|pair| pair[0] != pair[1]), "{pids:?}");
    assert!(pids.windows(3).all(|triple| triple[0] == triple[2]), "{pids:?}");
}

// The feature map.

#[test]
fn start_up_parameters() {
    compare_with(
        &[
            ("options", "-c work_mem=7MB -c search_path=other"),
            ("extra_float_digits", "0"),
            ("TimeZone", "Asia/Tokyo"),
            ("application_name", "me"),
            ("IntervalStyle", "iso_8601"),
        ],
        &[
            "SHOW work_mem",
            "SELECT * FROM t",
            "SELECT 0.1::float8 + 0.2, interval '1 day', timestamptz '2025-07-01 00:00Z'",
            "SET work_mem = '9MB'",
            "RESET work_mem",
            "SHOW work_mem",
            "DISCARD ALL",
            "SELECT w, current_setting('work_mem'), current_setting('application_name') FROM t",
        ],
    );
}

#[test]
fn set_and_reset() {
    compare(&[
        "SHOW work_mem",
        "SET work_mem = '7MB'",
        "SHOW work_mem",
        "SET statement_timeout = '1min'",
        "SET my.own = 'mine'",
        "SELECT current_setting('work_mem'), current_setting('statement_timeout'), current_setting('my.own')",
        "SET search_path = other",
        "SELECT * FROM t",
        "RESET search_path",
        "SELECT * FROM t WHERE id = 1",
        "BEGIN",
        "SET work_mem = '8MB'",
        "ROLLBACK",
        "SHOW work_mem",
        "SET DateStyle = 'SQL, DMY'",
        "SELECT date '2025-07-01'",
        "SET DateStyle = MDY",
        "SELECT date '2025-07-01'",
        "SET DateStyle = German",
        "SELECT date '2025-07-01'",
        "SELECT set_config('work_mem', '9MB', false)",
        "SHOW work_mem",
        "SELECT coalesce(current_setting('rival.was_here', true), '') <> 'yes'",
        "RESET ALL",
        "SELECT current_setting('work_mem'), current_setting('statement_timeout'), date '2025-07-01'",
    ]);
}

#[test]
fn listen() {
    let mut contest = Contest::new(&[]);
    contest.ask("LISTEN news");
    contest.ask("SELECT 1");
    contest.directly("NOTIFY news, 'hello'");
    contest.session.set_patience(Duration::from_secs(10));
    let frame = contest.session.frame();
    assert!(frame.tag == b'A' && frame.body.ends_with(b"news\0hello\0"), "{frame:?}");
    contest.ask("UNLISTEN *");
    contest.directly("NOTIFY news, 'unheard'");
    let answer = contest.ask("SELECT 'none since'");
    assert!(answer.starts_with("T "), "{answer}");
}

#[test]
fn cursors_without_hold() {
    compare(&[
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id",
        "FETCH 2 FROM c",
        "FETCH ALL FROM c",
        "COMMIT",
        "FETCH c",
    ]);
}

#[test]
fn cursors_with_hold() {
    compare(&[
        "DECLARE c CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY id",
        "FETCH 2 FROM c",
        "SELECT 1",
        "FETCH 2 FROM c",
        "CLOSE c",
        "FETCH c",
    ]);
}

#[test]
fn protocol_level_prepared_statements() {
    let run = |value: &str| [raw::bind("", "s", &[value]), raw::execute("", 0), raw::sync()].concat();
    let step = |name: &str, bytes: Vec<u8>| (name.to_owned(), bytes);
    compare_steps(
        &[],
        &[
            step(
                "Parse, Describe",
                [raw::parse("s", "SELECT v FROM t WHERE id = $1"), raw::describe('S', "s"), raw::sync()]
                    .concat(),
            ),
            step("Bind on another server", run("1")),
            step("and another", run("2")),
            step("Describe on another", [raw::describe('S', "s"), raw::sync()].concat()),
            step("the name is taken", [raw::parse("s", "SELECT 1"), raw::sync()].concat()),
            step("and stands", run("3")),
            step("Close", [raw::close('S', "s"), raw::sync()].concat()),
            step("it is gone", run("3")),
        ],
    );
}

/// Drivers that ask for the parameters' types before they bind.
#[test]
fn the_unnamed_statement_over_two_syncs() {
    let step = |name: &str, bytes: Vec<u8>| (name.to_owned(), bytes);
    compare_steps(
        &[],
        &[
            step(
                "Parse and Describe",
                [raw::parse("", "SELECT v FROM t WHERE id = $1"), raw::describe('S', ""), raw::sync()]
                    .concat(),
            ),
            step("Bind", [raw::bind("", "", &["1"]), raw::execute("", 0), raw::sync()].concat()),
            step("again", [raw::bind("", "", &["2"]), raw::execute("", 0), raw::sync()].concat()),
        ],
    );
}

#[test]
fn sql_level_prepare_and_deallocate() {
    compare(&[
        "PREPARE p (int) AS SELECT v FROM t WHERE id = $1",
        "EXECUTE p (1)",
        "EXECUTE p (2)",
        "PREPARE p AS SELECT 1",
        "DEALLOCATE p",
        "EXECUTE p (1)",
        "PREPARE p AS SELECT 1",
        "DEALLOCATE ALL",
        "EXECUTE p",
        "DEALLOCATE p",
    ]);
}

#[test]
fn temporary_tables_dropped_on_commit() {
    compare(&[
        "BEGIN",
        "CREATE TEMP TABLE mine (n int) ON COMMIT DROP",
        "INSERT INTO mine VALUES (1)",
        "SELECT * FROM mine",
        "COMMIT",
        "SELECT * FROM mine",
    ]);
}

#[test]
fn temporary_tables_that_stay() {
    compare(&[
        "CREATE TEMP TABLE kept (n int)",
        "CREATE TEMP TABLE emptied (n int) ON COMMIT DELETE ROWS",
        "INSERT INTO kept VALUES (1)",
        "SELECT * FROM kept",
        "BEGIN",
        "INSERT INTO emptied VALUES (1)",
        "SELECT * FROM emptied",
        "COMMIT",
        "SELECT * FROM emptied",
        "SELECT * FROM kept",
        "DROP TABLE kept, emptied",
        "SELECT * FROM kept",
    ]);
}

/// PgBouncer's "cached plan must not change result type": the session that prepared a statement
/// gets PostgreSQL's error, as without a pool; who prepares it later does not.
#[test]
fn plans_after_ddl() {
    let run = [raw::bind("", "s", &[]), raw::execute("", 0), raw::sync()].concat();
    let prepare =
        [raw::parse("s", "SELECT * FROM t WHERE id = 1"), raw::describe('S', "s"), raw::sync()].concat();
    let step = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    compare_steps(
        &[],
        &[
            step("prepare", &prepare),
            step("run", &run),
            step("run on another server", &run),
            step("another index", &raw::query("CREATE INDEX ON t (v)")),
            step("run", &run),
            step("another result", &raw::query("ALTER TABLE t ADD COLUMN more int")),
            step("close", &[raw::close('S', "s"), raw::sync()].concat()),
            step("prepare again", &prepare),
            step("run", &run),
            step("run on another server", &run),
        ],
    );
    // Nor is it another result where the statement has not been before.
    let portal =
        [raw::parse("s", "SELECT * FROM t WHERE id = 1"), raw::bind("", "s", &[]), raw::describe('P', "")];
    let portal = [portal.concat(), raw::execute("", 0), raw::sync()].concat();
    for prepare in [&prepare, &portal] {
        for (change, changed) in [
            ("ALTER TABLE t ADD COLUMN more int", true),
            ("ALTER TABLE t ALTER COLUMN v TYPE varchar(9)", true),
            ("ALTER TABLE t RENAME COLUMN v TO w", true),
            ("CREATE INDEX ON t (v)", false),
        ] {
            compare_steps(
                &[],
                &[
                    step("prepare", prepare),
                    step("elsewhere", &raw::query("SELECT 1")),
                    step(change, &raw::query(change)),
                    step("run where it was not prepared", &run),
                    step("run where it was", &run),
                    step("in a transaction", &raw::query("BEGIN")),
                    step("run in it", &run),
                    step(if changed { "it has failed" } else { "it goes on" }, &raw::query("SELECT 1")),
                    step("end", &raw::query("ROLLBACK")),
                    step("close", &[raw::close('S', "s"), raw::sync()].concat()),
                    step("prepare again", prepare),
                    step("run", &run),
                ],
            );
        }
    }
    // Somebody else's statement of the same text was planned before the change.
    let add = "ALTER TABLE t ADD COLUMN more int";
    for change in [&[add][..], &["BEGIN", add, "SELECT 1", "COMMIT"]] {
        let mut contest = Contest::new(&[]);
        let mut older = contest.another();
        for session in [&mut older, &mut contest.session] {
            session.send(&[&prepare[..], &run].concat());
            session.until(b'Z', 2);
        }
        contest.displace();
        for statement in change {
            contest.ask(statement);
        }
        let mut newer = contest.another();
        for _ in 0..4 {
            newer.send(&[raw::close('S', "s"), prepare.clone(), run.clone()].concat());
            let answer = newer.until(b'Z', 2);
            assert!(!answer.iter().any(|frame| frame.tag == b'E'), "{}", seen(&answer));
            let row = answer.iter().find(|frame| frame.tag == b'D').unwrap();
            assert_eq!(row.body[..2], [0, 3], "{row:?}");
            contest.displace();
        }
    }
}

#[test]
fn load() {
    // Who is not a superuser may load from one directory only.
    let mut contest = Contest::of(SUPERUSER, &[]);
    let reserved = "SET plpgsql.nonsense = 'x'";
    for _ in 0..2 {
        assert_eq!(contest.ask(reserved), "C SET\\x00\n    Z I", "no server has the library");
    }
    contest.ask("RESET plpgsql.nonsense");
    assert!(contest.ask("LOAD 'plpgsql'").contains("C LOAD"));
    for _ in 0..3 {
        let answer = contest.ask(reserved);
        assert!(answer.contains("C=\"42602\""), "{answer}");
    }
}

/// The library takes the prefix of a parameter that somebody has set there: who gets the server
/// next hears nothing of it.
#[test]
fn a_parameter_that_a_library_has_removed() {
    let mut contest = Contest::of(SUPERUSER, &[]);
    contest.session.query("SET plpgsql.nonsense = 'x'");
    contest.session.query("DO $$BEGIN NULL; END$$");
    let mut other = contest.another_as(SUPERUSER);
    assert_eq!(other.value("SELECT 'undisturbed'"), "undisturbed");
}

#[test]
fn session_level_advisory_locks() {
    let mut contest = Contest::new(&[]);
    contest.ask("SELECT pg_advisory_lock(4711)");
    // On one server twice, with the other sessions' statements between.
    contest.ask("SELECT pg_advisory_lock(4711)");
    let mut other = contest.rivals[0].value("SELECT pg_try_advisory_lock(4711)");
    assert_eq!(other, "f");
    for held in ["t", "t", "f"] {
        assert!(contest.ask("SELECT pg_advisory_unlock(4711)").contains(&format!("D [\"{held}\"]")));
    }
    other = contest.rivals[0].value("SELECT pg_try_advisory_xact_lock(4711)");
    assert_eq!(other, "t");
}

// What the manual warns of.

/// `server_reset_query` is not run in transaction pooling: what a client leaves is the next one's.
#[test]
fn nothing_is_left_for_the_next_client() {
    let servers = support::servers(1);
    let database = support::database(&servers, TABLES);
    let proxy = Proxy::start(config().set("pool", "size", "1").database(&database, &servers));
    let probe = "SELECT current_setting('work_mem'), current_setting('search_path'), current_user, \
        coalesce(current_setting('my.own', true), ''), (SELECT count(*) FROM pg_cursors), \
        (SELECT count(*) FROM pg_listening_channels()), to_regclass('mine') IS NULL, \
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
        current_setting('default_transaction_read_only'), current_setting('session_replication_role')";
    let mut fresh = Raw::login(&servers[0].address(), APP, &database);
    let expected = seen(&fresh.query(probe));
    for left in [
        "SET work_mem = '7MB'",
        "SET search_path = other",
        "SELECT set_config('my.own', 'x', false)",
        "CREATE TEMP TABLE mine (n int)",
        "LISTEN news",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT pg_advisory_lock(1)",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "BEGIN; SET LOCAL work_mem = '9MB'",
        "BEGIN; SELECT 1/0",
    ] {
        let mut leaver = Raw::login(&proxy.address(), APP, &database);
        leaver.query(left);
        drop(leaver);
        let mut next = Raw::login(&proxy.address(), APP, &database);
        let mut got = String::new();
        eventually("the only server is free", || {
            got = seen(&next.query(probe));
            !got.contains("53300")
        });
        // It was never set, and now is empty: the one thing PostgreSQL cannot undo, and no value.
        assert_eq!(got, expected, "{left}");
    }
}

/// PgBouncer does not see `DEALLOCATE` of a statement that was made by the protocol.
#[test]
fn deallocate_of_a_protocol_level_statement() {
    let step = |name: &str, bytes: Vec<u8>| (name.to_owned(), bytes);
    let run = || [raw::bind("", "s", &[]), raw::execute("", 0), raw::sync()].concat();
    for undo in ["DEALLOCATE s", "DEALLOCATE ALL", "DISCARD ALL"] {
        compare_steps(
            &[],
            &[
                step("Parse", [raw::parse("s", "SELECT 1"), raw::sync()].concat()),
                step("run", run()),
                step(undo, raw::query(undo)),
                step("it is gone", run()),
                step("and its name free", [raw::parse("s", "SELECT 2"), raw::sync()].concat()),
                step("run", run()),
            ],
        );
    }
}

/// `max_prepared_statements`: more of them than a server connection keeps.
#[test]
fn more_statements_than_a_server_keeps() {
    let servers = support::servers(1);
    let database = support::database(&servers, TABLES);
    let proxy = Proxy::start(config().set("pool", "prepared_statements", "3").database(&database, &servers));
    let mut session = Raw::login(&proxy.address(), APP, &database);
    let names: Vec<String> = (0..20).map(|number| format!("s{number}")).collect();
    for name in &names {
        session.send(
            &[raw::parse(name, &format!("SELECT '{name}', v FROM t WHERE id = $1")), raw::sync()].concat(),
        );
        assert!(!session.until(b'Z', 1).iter().any(|frame| frame.tag == b'E'));
    }
    let pipeline: Vec<u8> =
        names.iter().flat_map(|name| [raw::bind("", name, &["1"]), raw::execute("", 0)].concat()).collect();
    for _ in 0..3 {
        session.send(&[&pipeline[..], &raw::sync()].concat());
        let rows: Vec<String> = session
            .until(b'Z', 1)
            .iter()
            .filter(|frame| frame.tag == b'D')
            .map(|frame| frame.columns().remove(0))
            .collect();
        assert_eq!(rows, names);
    }
}

/// `ignore_startup_parameters`, `track_extra_parameters`: there is nothing to list.
#[test]
fn parameters_that_need_no_configuration() {
    compare_with(
        &[("extra_float_digits", "3"), ("geqo", "off"), ("options", "-c my.own=1")],
        &[
            "SHOW extra_float_digits",
            "SHOW geqo",
            "SHOW my.own",
            "SET geqo = on",
            "SET lock_timeout = '3s'",
            "SELECT current_setting('geqo'), current_setting('lock_timeout')",
            "SET TIME ZONE 'Europe/Berlin'",
            "SET IntervalStyle = 'iso_8601'",
            "SELECT timestamptz '2025-07-01 00:00Z', interval '1 day'",
        ],
    );
}

#[test]
fn several_statements_in_a_message() {
    compare(&["BEGIN", "INSERT INTO t VALUES (6, 'six')", "COMMIT", "SELECT count(*) FROM t"]);
    let steps: Vec<_> = [
        "SELECT 1; SELECT 2; SELECT 3",
        "SET work_mem = '7MB'; SELECT current_setting('work_mem')",
        "SHOW work_mem",
        "INSERT INTO t VALUES (7, 'seven'); SELECT 1/0; INSERT INTO t VALUES (8, 'eight')",
        "SELECT count(*) FROM t",
        "BEGIN; INSERT INTO t VALUES (9, 'nine'); COMMIT; SELECT 1/0",
        "SELECT count(*) FROM t",
        "SET work_mem = '9MB'; SELECT 1/0",
        "SHOW work_mem",
        "CREATE TEMP TABLE mine (n int); INSERT INTO mine VALUES (1); SELECT * FROM mine",
        "SELECT * FROM mine",
        "DISCARD TEMP",
        "SELECT * FROM mine",
    ]
    .iter()
    .map(|text| ((*text).to_owned(), raw::query(text)))
    .collect();
    compare_steps(&[], &steps);
}

#[test]
fn two_phase_commit() {
    let mut contest = Contest::new(&[]);
    // Its name is known to the whole server.
    let gid = &contest.database.clone();
    for (statement, answer) in [
        ("BEGIN".to_owned(), "C BEGIN\\x00\n    Z T"),
        ("INSERT INTO t VALUES (10, 'ten')".to_owned(), "C INSERT 0 1\\x00\n    Z T"),
        (format!("PREPARE TRANSACTION '{gid}'"), "C PREPARE TRANSACTION\\x00\n    Z I"),
        (format!("COMMIT PREPARED '{gid}'"), "C COMMIT PREPARED\\x00\n    Z I"),
    ] {
        assert_eq!(contest.ask(&statement), answer, "{statement}");
    }
    assert!(contest.ask("SELECT v FROM t WHERE id = 10").contains("ten"));
    assert!(contest.ask(&format!("ROLLBACK PREPARED '{gid}'")).contains("C=\"42704\""));
}

#[test]
fn copy() {
    let copied =
        |data: &[u8], end: Vec<u8>| [raw::query("COPY t FROM STDIN"), raw::copy_data(data), end].concat();
    let steps = [
        ("in", copied(b"11\televen\n", raw::copy_done())),
        ("a row that is wrong", copied(b"eleven\televen\n", raw::copy_done())),
        ("given up", copied(b"12\ttwelve\n", raw::copy_fail("no more"))),
        ("out", raw::query("COPY (SELECT * FROM t ORDER BY id) TO STDOUT")),
        ("afterwards", raw::query("SELECT count(*) FROM t")),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes));
    compare_steps(&[], &steps);
}

/// A role taken on with `SET ROLE` or `SET SESSION AUTHORIZATION` is the session's, not the server's.
#[test]
fn roles() {
    let servers = support::servers(1);
    let name = support::unique_name("role");
    let granted = format!("CREATE ROLE {name}; GRANT {name} TO app");
    servers[0].psql(SUPERUSER, "postgres", &granted).unwrap();
    let set = format!("SET ROLE {name}");
    compare(&[
        "SELECT session_user, current_user",
        &set,
        "SELECT session_user, current_user",
        "SET SESSION AUTHORIZATION app",
        "SELECT session_user, current_user",
        &set,
        "RESET ALL",
        "SELECT current_user",
        "RESET SESSION AUTHORIZATION",
        "SELECT current_user",
        &set,
        "BEGIN",
        "SET LOCAL ROLE app",
        "SELECT current_user",
        "COMMIT",
        "SELECT current_user",
        "RESET ROLE",
        "SELECT current_user",
    ]);
}

/// Every test here is in the manual's table, and every test the table names is somewhere.
#[test]
fn the_table_names_these_tests() {
    let page = include_str!("../docs/compatibility.md");
    let own = include_str!("pgbouncer.rs");
    let mut sources = String::new();
    for directory in ["tests", "tests/sessions"] {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "rs") {
                sources += &std::fs::read_to_string(entry.path()).unwrap();
            }
        }
    }
    let section = page.split("## PgBouncer's limits").nth(1).unwrap().split("\n## ").next().unwrap();
    let named: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_suffix("` |")?.rsplit_once('`').map(|(_, name)| name))
        .collect();
    for name in &named {
        assert!(sources.contains(&format!("fn {name}(")), "there is no test {name}");
    }
    let tests =
        own.split("#[test]\nfn ").skip(1).filter_map(|rest| rest.split_once('(').map(|(name, _)| name));
    for test in tests.filter(|test| !test.starts_with("the_")) {
        assert!(named.contains(&test), "{test} is not in the table");
    }
}
