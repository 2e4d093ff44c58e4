//! Prepared statements, by `PREPARE` and by `Parse`: one space of names, which follows its session
//! from server to server.

use pgring::demo::sample::APP;

use super::stage::{BOTH, Protocol, SHARED, short};
use crate::support::raw::{self, Frame, Raw};
use crate::support::{self, Config, Proxy};

const SCHEMA: &str = "
    CREATE TABLE t (n int, v text);
    INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, NULL);";

/// Each line is a session; statements are separated by `¦`. What begins with `:` is `name text`
/// for a `Parse` of that name, with `!` for a `Bind` and `Execute` of it, with `-` for its `Close`.
const CONVERSATIONS: &[&str] = &[
    "PREPARE p AS SELECT 1¦EXECUTE p¦EXECUTE p;¦DEALLOCATE p¦EXECUTE p",
    "PREPARE p (int, text) AS SELECT * FROM t WHERE n = $1 OR v = $2¦EXECUTE p(1, 'two')¦EXECUTE p(1 + 1, NULL)¦EXECUTE p(1)¦EXECUTE p('x', 'y')¦EXECUTE p(nosuch, 'x')",
    "PREPARE p AS SELECT $1 + 1¦PREPARE p AS SELECT 2¦EXECUTE p(2)¦DEALLOCATE ALL¦EXECUTE p(1)¦PREPARE p AS SELECT 3¦EXECUTE p",
    "PREPARE \"P p\" AS SELECT 1¦EXECUTE \"P p\"¦EXECUTE p¦DEALLOCATE PREPARE \"P p\"¦DEALLOCATE PREPARE \"P p\"",
    "prepare P as select 1¦execute p¦EXECUTE \"P\"¦deallocate \"p\"",
    "PREPARE p AS SELEC 1¦PREPARE p AS SELECT * FROM nowhere¦PREPARE p AS SELECT nothing FROM t¦EXECUTE p¦PREPARE p AS SELECT 1¦EXECUTE p",
    "PREPARE p AS CREATE TABLE x (n int)¦PREPARE p¦EXECUTE¦DEALLOCATE¦DEALLOCATE nowhere¦DEALLOCATE PREPARE nowhere¦DEALLOCATE ALL",
    // Not transactional.
    "BEGIN¦PREPARE p AS SELECT 1¦ROLLBACK¦EXECUTE p",
    "BEGIN¦PREPARE p AS SELECT 1¦SELECT 1/0¦EXECUTE p¦DEALLOCATE p¦ROLLBACK¦EXECUTE p",
    "PREPARE p AS SELECT 1¦BEGIN¦DEALLOCATE p¦ROLLBACK¦EXECUTE p",
    "BEGIN¦SAVEPOINT s¦PREPARE p AS SELECT 1¦SELECT 1/0¦ROLLBACK TO s¦EXECUTE p¦COMMIT¦EXECUTE p",
    "PREPARE p (int) AS INSERT INTO t VALUES ($1)¦BEGIN¦EXECUTE p(7)¦SELECT count(*) FROM t¦ROLLBACK¦SELECT count(*) FROM t",
    "PREPARE p (int) AS SELECT 1 / $1¦EXECUTE p(1)¦EXECUTE p(0)¦EXECUTE p(1)¦BEGIN¦EXECUTE p(0)¦EXECUTE p(1)¦ROLLBACK¦EXECUTE p(1)",
    // Within other statements.
    "PREPARE p (int) AS SELECT * FROM t WHERE n = $1¦EXPLAIN (COSTS OFF) EXECUTE p(1)¦EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) EXECUTE p(1)¦CREATE TEMP TABLE made AS EXECUTE p(2)¦SELECT * FROM made¦EXPLAIN EXECUTE nowhere",
    "PREPARE p AS SELECT 1¦DISCARD ALL¦EXECUTE p¦PREPARE p AS SELECT 2¦DISCARD PLANS¦EXECUTE p",
    "CREATE FUNCTION pg_temp.run(text) RETURNS SETOF text LANGUAGE plpgsql AS $$BEGIN RETURN QUERY EXECUTE $1; END$$¦PREPARE p AS SELECT 'ran'::text¦SELECT pg_temp.run('EXECUTE p')",
    // An error does not touch what was prepared before it.
    "CREATE TABLE changing (n int)¦PREPARE p AS SELECT * FROM changing¦BEGIN¦EXECUTE p¦ALTER TABLE changing ADD m int¦SAVEPOINT s¦EXECUTE p¦ROLLBACK TO s¦EXECUTE p¦ROLLBACK¦EXECUTE p¦DROP TABLE changing",
    // One space of names.
    ":s SELECT $1::int + 1¦EXECUTE s(2)¦!s 5¦PREPARE s AS SELECT 1¦DEALLOCATE s¦!s 5¦EXECUTE s(1)",
    "PREPARE s (int) AS SELECT $1 + 1¦!s 5¦:s SELECT 1¦-s¦EXECUTE s(1)¦:s SELECT 2¦!s",
    ":s SELECT n FROM t WHERE n = $1¦!s¦!s 1 2¦!s 1¦EXECUTE s¦EXECUTE s(1, 2)",
    "!nowhere¦-nowhere¦:s SELEC¦!s¦:s SELECT 1¦:s SELECT 2¦!s",
    ":e EXECUTE p(1)¦PREPARE p (int) AS SELECT $1 + 1¦!e¦:f EXECUTE p(1)¦!f¦DEALLOCATE p¦!f¦PREPARE p (int) AS SELECT $1 + 2¦!f",
    ":m PREPARE p AS SELECT 4¦!m¦EXECUTE p¦!m¦:d DEALLOCATE p¦!d¦!d¦EXECUTE p",
    // The view.
    "SELECT name, statement, parameter_types, from_sql FROM pg_prepared_statements ORDER BY name",
    "PREPARE b (int, text) AS SELECT $1, $2;¦PREPARE a AS SELECT 1¦:c SELECT $1::date¦SELECT name, statement, parameter_types, from_sql FROM pg_prepared_statements ORDER BY name¦DEALLOCATE a¦SELECT p.name FROM pg_catalog.pg_prepared_statements AS p ORDER BY 1¦-c¦SELECT name FROM pg_prepared_statements, t ORDER BY 1",
    ":v SELECT name, statement, from_sql FROM pg_prepared_statements ORDER BY name¦!v¦PREPARE a AS SELECT 1¦!v¦EXECUTE a¦!v¦PREPARE w AS SELECT name FROM pg_prepared_statements ORDER BY name¦EXECUTE w¦DEALLOCATE ALL¦SELECT count(*) FROM pg_prepared_statements",
    // Pins are of what is executed.
    "PREPARE p AS SELECT pg_advisory_lock(4242)¦EXECUTE p¦SELECT pg_advisory_unlock(4242)",
];

/// Several statements in one message.
const MESSAGES: &[&str] = &[
    "PREPARE a AS SELECT 1; EXECUTE a; DEALLOCATE a¦EXECUTE a",
    "PREPARE a AS SELECT 1; EXECUTE a¦EXECUTE a¦EXECUTE a; EXECUTE a; PREPARE a AS SELECT 2",
    "PREPARE a AS SELECT 1; SELECT 1/0; PREPARE b AS SELECT 2¦EXECUTE a¦EXECUTE b",
    "PREPARE a AS SELECT 1¦DEALLOCATE a; PREPARE a AS SELECT 2; EXECUTE a¦EXECUTE a",
    "PREPARE a AS SELECT 1; PREPARE b AS SELECT ';'; DEALLOCATE ALL; PREPARE b AS SELECT 3¦EXECUTE b¦EXECUTE a",
    "PREPARE a AS SELECT 1¦DEALLOCATE nowhere; DEALLOCATE a¦EXECUTE a",
];

fn step(protocol: Protocol, session: &mut Raw, step: &str) -> Vec<Frame> {
    let sent = if let Some(parse) = step.strip_prefix(':') {
        let (name, text) = parse.split_once(' ').unwrap();
        [raw::parse(name, text), raw::describe('S', name), raw::sync()].concat()
    } else if let Some(run) = step.strip_prefix('!') {
        let mut words = run.split(' ');
        let name = words.next().unwrap();
        let parameters: Vec<&str> = words.collect();
        [raw::bind("", name, &parameters), raw::describe('P', ""), raw::execute("", 0), raw::sync()].concat()
    } else if let Some(name) = step.strip_prefix('-') {
        [raw::close('S', name), raw::sync()].concat()
    } else {
        return protocol.ask(session, step);
    };
    session.send(&sent);
    session.until(b'Z', 1)
}

fn seen(frames: &[Frame]) -> Vec<String> {
    frames.iter().filter(|frame| frame.tag != b'S').map(|frame| format!("{frame:?}")).collect()
}

fn one_shard(config: Config) -> (Proxy, String, String) {
    let servers = support::servers(1);
    let [mine, plain] = [(); 2].map(|()| support::database(&servers, SCHEMA));
    (Proxy::start(config.database(&mine, &servers)), mine, plain)
}

/// Each conversation with a session beside it that does the same with other statements of the same
/// names, so that every server connection has somebody else's.
fn compare(proxy: &Proxy, mine: &str, plain: &str, conversations: &[(Protocol, &str)]) {
    let postgresql = support::servers(1)[0].address();
    let mut different = Vec::new();
    for (protocol, conversation) in conversations {
        let mut session = Raw::login(&proxy.address(), APP, mine);
        let mut neighbour = Raw::login(&proxy.address(), APP, mine);
        let mut direct = Raw::login(&postgresql, APP, plain);
        for name in ["p", "s", "a", "b", "e"] {
            neighbour.query(&format!("PREPARE {name} AS SELECT 'not yours'"));
        }
        for statement in conversation.split('¦') {
            for name in ["p", "s", "a", "b", "e"] {
                neighbour.query(&format!("EXECUTE {name}"));
            }
            let [got, expected] = [&mut session, &mut direct].map(|it| seen(&step(*protocol, it, statement)));
            if got != expected {
                different.push(format!(
                    "{protocol:?} {conversation}\n  at {statement}\n  pgring     {got:?}\n  PostgreSQL {expected:?}"
                ));
                break;
            }
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn names_are_the_sessions_own() {
    for limit in ["500", "2", "1"] {
        let config = Config::new().set("pool", "size", "2").set("pool", "prepared_statements", limit);
        let (proxy, mine, plain) = one_shard(config);
        let both = BOTH.iter().flat_map(|protocol| CONVERSATIONS.iter().map(|it| (*protocol, *it)));
        let messages = MESSAGES.iter().map(|it| (Protocol::Simple, *it));
        compare(&proxy, &mine, &plain, &both.chain(messages).collect::<Vec<_>>());
    }
}

/// An error at each position of a pipeline leaves the names as PostgreSQL has them.
#[test]
fn an_error_anywhere_leaves_the_names_as_they_are() {
    let (proxy, mine, plain) = one_shard(Config::new().set("pool", "size", "2"));
    let postgresql = support::servers(1)[0].address();
    let parts = [
        raw::parse("one", "SELECT 1"),
        raw::run("PREPARE two AS SELECT 2", &[]),
        raw::close('S', "old"),
        raw::run("EXECUTE two", &[]),
        raw::run("DEALLOCATE older", &[]),
        raw::parse("three", "SELECT $1::int"),
        raw::run("SELECT count(*) FROM t", &[]),
        raw::close('S', "one"),
    ];
    for position in 0..=parts.len() {
        for failing in [raw::run("SELECT 1/0", &[]), raw::parse("x", "SELEC"), raw::bind("", "nowhere", &[])]
        {
            let mut pipeline: Vec<Vec<u8>> = parts.to_vec();
            pipeline.insert(position, failing);
            pipeline.push(raw::sync());
            let talks =
                [(proxy.address(), &mine), (postgresql.clone(), &plain)].map(|(address, database)| {
                    let mut session = Raw::login(&address, APP, database);
                    session.query("PREPARE old AS SELECT 'old'");
                    session.query("PREPARE older AS SELECT 'older'");
                    session.send(&pipeline.concat());
                    let mut frames = session.until(b'Z', 1);
                    for name in ["one", "two", "three(3)", "old", "older"] {
                        frames.extend(session.query(&format!("EXECUTE {name}")));
                    }
                    frames.extend(session.query("SELECT name FROM pg_prepared_statements ORDER BY 1"));
                    seen(&frames)
                });
            assert_eq!(talks[0], talks[1], "failing at {position}");
        }
    }
}

#[test]
fn a_fresh_session_never_meets_anothers_stale_plan() {
    let (proxy, mine, _) = one_shard(Config::new().set("pool", "size", "1"));
    let login = || Raw::login(&proxy.address(), APP, &mine);
    let columns = |frames: &[Frame]| frames.iter().find(|it| it.tag == b'D').map(|it| it.columns().len());
    let (mut old, mut changer) = (login(), login());
    let text = "SELECT * FROM t WHERE n = 1";
    old.query(&format!("PREPARE p AS {text}"));
    step(Protocol::Simple, &mut old, &format!(":s {text}"));
    assert_eq!(columns(&old.query("EXECUTE p")), Some(2));
    assert_eq!(columns(&step(Protocol::Simple, &mut old, "!s")), Some(2));
    for (added, begin, end) in [(3, "SELECT 1", "SELECT 1"), (4, "BEGIN", "COMMIT")] {
        changer.query(begin);
        changer.query(&format!("ALTER TABLE t ADD c{added} int"));
        changer.query(end);
        let mut fresh = login();
        fresh.query(&format!("PREPARE p AS {text}"));
        step(Protocol::Simple, &mut fresh, &format!(":s {text}"));
        for _ in 0..2 {
            assert_eq!(columns(&fresh.query("EXECUTE p")), Some(added));
            assert_eq!(columns(&step(Protocol::Simple, &mut fresh, "!s")), Some(added));
        }
    }
}

/// Who has changed the table without pgring is met once at most: the answer tells.
#[test]
fn a_stale_plan_is_not_met_again() {
    let (proxy, mine, _) = one_shard(Config::new().set("pool", "size", "1"));
    let login = || Raw::login(&proxy.address(), APP, &mine);
    let text = ":s SELECT * FROM t WHERE n = 1";
    let mut first = login();
    step(Protocol::Simple, &mut first, text);
    assert!(short(&step(Protocol::Simple, &mut first, "!s")).ends_with("SELECT 1 | I"));
    support::servers(1)[0].psql(APP, &mine, "ALTER TABLE t ADD w int").unwrap();
    assert_eq!(short(&step(Protocol::Simple, &mut first, "!s")), "E 0A000 | I");
    for session in [&mut login(), &mut first] {
        session.query("DEALLOCATE ALL");
        step(Protocol::Simple, session, text);
        assert!(short(&step(Protocol::Simple, session, "!s")).ends_with("SELECT 1 | I"));
    }
}

/// Sessions with the same names for other statements, on fewer servers than there are sessions.
#[test]
fn names_never_stray_to_another_session() {
    let config = Config::new().set("pool", "size", "3").set("pool", "prepared_statements", "4");
    let (proxy, mine, _) = one_shard(config);
    std::thread::scope(|scope| {
        for client in 0..12_usize {
            let (proxy, mine) = (&proxy, &mine);
            scope.spawn(move || {
                let mut session = Raw::login(&proxy.address(), APP, mine);
                let mut random = client * 7919 + 1;
                for round in 0..40 {
                    let own = format!("{client}.{round}");
                    session.query(&format!("PREPARE p (int) AS SELECT '{own}', 6 / $1"));
                    session.send(&[raw::parse("s", &format!("SELECT '{own}'::text")), raw::sync()].concat());
                    session.until(b'Z', 1);
                    for _ in 0..6 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        match random >> 33 & 7 {
                            0 => assert_eq!(short(&session.query("EXECUTE p(0)")), "E 22012 | I"),
                            1 => assert_eq!(short(&session.query("EXECUTE q")), "E 26000 | I"),
                            2 => assert_eq!(short(&session.query("PREPARE s AS SELECT 1")), "E 42P05 | I"),
                            3 => assert_eq!(
                                session.value(
                                    "SELECT string_agg(name, ',' ORDER BY name) FROM pg_prepared_statements"
                                ),
                                "p,s"
                            ),
                            4 => assert_eq!(session.value("EXECUTE s"), own),
                            5 => assert_eq!(
                                short(&step(Protocol::Simple, &mut session, "!p 2")),
                                format!("{own},3 | SELECT 1 | I")
                            ),
                            6 => assert_eq!(
                                short(&step(Protocol::Simple, &mut session, "!s")),
                                format!("{own} | SELECT 1 | I")
                            ),
                            _ => assert_eq!(session.value("EXECUTE p(3)"), own),
                        }
                    }
                    let all = ["DEALLOCATE ALL", "DISCARD ALL", "DEALLOCATE p"][random >> 40 & 1];
                    session.query(all);
                }
            });
        }
    });
}

#[test]
fn executing_is_routed_by_its_arguments() {
    let mut session = SHARED.session();
    session.query("PREPARE p (bigint) AS SELECT id FROM users WHERE id = $1");
    session.query("PREPARE q (bigint, text) AS UPDATE users SET name = $2 WHERE id = $1");
    for user in ["{a}", "{b}", "{c}", "{a}"].map(|it| SHARED.fill(it)) {
        for protocol in BOTH {
            for spelling in [user.clone(), format!("'{user}'")] {
                let answer = protocol.short(&mut session, &format!("EXECUTE p({spelling})"));
                assert_eq!(answer, format!("{user} | SELECT 1 | I"));
            }
            let analyzed = protocol.short(&mut session, &format!("EXPLAIN ANALYZE EXECUTE p({user})"));
            assert!(analyzed.contains("rows=1"), "{analyzed}");
            session.query("BEGIN");
            let updated = protocol.short(&mut session, &format!("EXECUTE q({user}, 'x')"));
            assert_eq!(updated, "UPDATE 1 | T");
            session.query("ROLLBACK");
        }
        session.send(&[raw::bind("", "p", &[&user]), raw::execute("", 0), raw::sync()].concat());
        assert_eq!(short(&session.until(b'Z', 1)), format!("{user} | SELECT 1 | I"));
    }
    let refused = SHARED.fill("EXECUTE q({a} + 0, 'x')");
    assert_eq!(short(&session.query(&refused)), "E 0A000 | I");
    let hinted = SHARED.fill("/* pgring: key={a} */ EXECUTE q({a} + 0, 'x')");
    session.query("BEGIN");
    assert_eq!(short(&session.query(&hinted)), "UPDATE 1 | T");
    session.query("ROLLBACK");
    let wrong = SHARED.fill("/* pgring: key={b} */ EXECUTE q({a}, 'x')");
    assert_eq!(short(&session.query(&wrong)), "E 0A000 | I");
    assert_eq!(short(&session.query("EXECUTE p(1, 2)")), "E 42601 | I");
    assert_eq!(short(&session.query("EXECUTE nowhere(1)")), "E 26000 | I");
}

/// A column of an answer.
fn column(answer: &[Frame], name: &str) -> Vec<String> {
    let described = answer.iter().find(|frame| frame.tag == b'T').unwrap();
    let mut rest = &described.body[2..];
    let mut names = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        rest = &rest[end + 19..];
    }
    let at = names.iter().position(|column| column == name).unwrap();
    answer.iter().filter(|frame| frame.tag == b'D').map(|row| row.columns()[at].clone()).collect()
}

#[test]
fn nothing_is_pinned_and_servers_keep_to_their_bound() {
    let config = Config::new().set("pool", "size", "1").set("pool", "prepared_statements", "3");
    let config = config.set("admin", "users", "[\"app\"]");
    let (proxy, mine, _) = one_shard(config);
    let mut session = Raw::login(&proxy.address(), APP, &mine);
    for number in 0..10 {
        session.query(&format!("PREPARE p{number} AS SELECT {number}"));
        session.send(
            &[raw::parse(&format!("s{number}"), &format!("SELECT {number} + 1")), raw::sync()].concat(),
        );
        session.until(b'Z', 1);
    }
    for number in 0..10 {
        assert_eq!(session.value(&format!("EXECUTE p{number}")), number.to_string());
        session.send(&[raw::bind("", &format!("s{number}"), &[]), raw::execute("", 0), raw::sync()].concat());
        assert_eq!(short(&session.until(b'Z', 1)), format!("{} | SELECT 1 | I", number + 1));
    }
    // Asked in a way that pgring does not see: the server's own view.
    let count =
        "SELECT query_to_xml('SELECT count(*) AS has FROM pg_prepared' || '_statements', true, false, '')";
    #[track_caller]
    fn has(session: &mut Raw, count: &str, number: usize) {
        let answer = session.value(count);
        assert!(answer.contains(&format!("<has>{number}</has>")), "{answer}");
    }
    has(&mut session, count, 3);
    let mut other = Raw::login(&proxy.address(), APP, &mine);
    assert_eq!(other.value("SELECT count(*) FROM pg_prepared_statements"), "0");
    assert_eq!(session.value("SELECT count(*) FROM pg_prepared_statements"), "20");
    session.query("PREPARE again AS SELECT 1");
    has(&mut session, count, 3);
    let mut console = Raw::login(&proxy.address(), APP, "pgring");
    let pinned = column(&console.query("SHOW CLIENTS"), "pinned");
    assert!(pinned.len() >= 2 && pinned.iter().all(String::is_empty), "{pinned:?}");
}

/// Two servers, one of which is always in somebody's hands: the session's next statement runs on
/// the other one than its last.
struct Displaced {
    proxy: Proxy,
    mine: String,
    rivals: [Raw; 2],
}

impl Displaced {
    fn new() -> Displaced {
        let (proxy, mine, _) = one_shard(Config::new().set("pool", "size", "2"));
        let mut rivals = [(); 2].map(|()| Raw::login(&proxy.address(), APP, &mine));
        rivals[0].query("BEGIN; SELECT 1");
        Displaced { proxy, mine, rivals }
    }

    fn session(&self) -> Raw {
        Raw::login(&self.proxy.address(), APP, &self.mine)
    }

    fn displace(&mut self) {
        assert_eq!(short(&self.rivals[1].query("BEGIN; SELECT 1")), "BEGIN | 1 | SELECT 1 | T");
        self.rivals[0].query("COMMIT");
        self.rivals.swap(0, 1);
    }
}

/// What a setting makes of a text, and another setting would not.
const READINGS: &[(&str, &str, &str, &str)] = &[
    (
        "SET timezone = 'UTC'",
        "SELECT extract(epoch FROM '2024-01-01 12:00'::timestamptz)::int",
        "SET timezone = 'Asia/Tokyo'",
        "1704110400",
    ),
    (
        "SET datestyle = 'ISO, DMY'",
        "SELECT '02/03/2024'::date - '2024-01-01'::date",
        "SET datestyle = 'ISO, MDY'",
        "61",
    ),
    (
        "SET intervalstyle = 'sql_standard'",
        "SELECT extract(epoch FROM '-1 2:03:04'::interval)::int",
        "SET intervalstyle = 'postgres'",
        "-93784",
    ),
    ("SET array_nulls = off", "SELECT ('{NULL}'::text[])[1] IS NULL", "SET array_nulls = on", "f"),
    (
        "SET standard_conforming_strings = off",
        "SELECT length('a\\\\b')",
        "SET standard_conforming_strings = on",
        "3",
    ),
    (
        "SET transform_null_equals = on",
        "SELECT count(*) FROM t WHERE v = NULL",
        "SET transform_null_equals = off",
        "1",
    ),
    (
        "RESET transform_null_equals",
        "SELECT count(*) FROM t WHERE v = NULL",
        "SET transform_null_equals = on",
        "0",
    ),
];

/// PostgreSQL reads a statement once. So does the session, on however many servers.
#[test]
fn a_statement_means_what_it_meant_when_it_was_prepared() {
    for protocol in BOTH {
        for &(set, text, later, expect) in READINGS {
            let mut stage = Displaced::new();
            let mut session = stage.session();
            let prepare = match protocol {
                Protocol::Simple => format!("PREPARE p AS {text}"),
                Protocol::Extended => format!(":p {text}"),
            };
            let execute = if protocol == Protocol::Simple { "EXECUTE p" } else { "!p" };
            let ask = |stage: &mut Displaced, session: &mut Raw, what: &str, expect: &str| {
                let answer = step(protocol, session, what);
                let row = answer.iter().find(|frame| frame.tag == b'D').map(|row| row.columns().join(","));
                assert_eq!(row.as_deref(), Some(expect), "{set}: {text}, {what}: {}", short(&answer));
                if answer.last().is_some_and(|ready| ready.body == b"I") {
                    stage.displace();
                }
            };
            session.query(set);
            step(protocol, &mut session, &prepare);
            session.query(later);
            stage.displace();
            for _ in 0..3 {
                ask(&mut stage, &mut session, execute, expect);
            }
            // In a transaction, and under a setting of its own.
            for local in ["SELECT 1", &later.replace("SET ", "SET LOCAL ")] {
                session.query("BEGIN");
                session.query(local);
                ask(&mut stage, &mut session, execute, expect);
                session.query("SELECT 1");
                ask(&mut stage, &mut session, execute, expect);
                session.query("COMMIT");
                stage.displace();
            }
            // Nothing of it is left, neither with the session nor for anybody else.
            let parameter = later.split_whitespace().nth(1).unwrap();
            let holds = session.value(&format!("SHOW {parameter}"));
            stage.displace();
            assert_eq!(session.value(&format!("SHOW {parameter}")), holds, "{later}");
            stage.displace();
            let mut other = stage.session();
            other.query(set);
            step(protocol, &mut other, &prepare);
            for _ in 0..3 {
                ask(&mut stage, &mut other, execute, expect);
            }
        }
    }
}

#[test]
fn a_statement_is_read_as_first_in_the_middle_of_a_pipeline() {
    let mut stage = Displaced::new();
    let mut session = stage.session();
    let (set, text, later, expect) = READINGS[0];
    session.query(set);
    step(Protocol::Extended, &mut session, &format!(":p {text}"));
    session.query(later);
    stage.displace();
    let behind =
        [raw::run("SELECT 1", &[]), raw::bind("", "p", &[]), raw::execute("", 0), raw::sync()].concat();
    session.send(&behind);
    assert_eq!(short(&session.until(b'Z', 1)), format!("1 | SELECT 1 | {expect} | SELECT 1 | I"));
    stage.displace();
    assert_eq!(session.value("SHOW timezone"), "Asia/Tokyo");
    // An error undoes what brought it about, too.
    stage.displace();
    session.send(
        &[
            raw::run("SELECT 2", &[]),
            raw::bind("", "p", &[]),
            raw::execute("", 0),
            raw::run("SELECT 1/0", &[]),
            raw::sync(),
        ]
        .concat(),
    );
    let answer = short(&session.until(b'Z', 1));
    assert_eq!(answer, format!("2 | SELECT 1 | {expect} | SELECT 1 | E 22012 | I"));
    assert_eq!(session.value("SHOW timezone"), "Asia/Tokyo");
}

#[test]
fn names_in_another_encoding_are_not_shared() {
    let stage = Displaced::new();
    let text = "SELECT 1 AS \u{e9}";
    let mut one = stage.session();
    one.query("SET client_encoding = 'LATIN1'");
    step(Protocol::Extended, &mut one, &format!(":p {text}"));
    let mut other = stage.session();
    step(Protocol::Extended, &mut other, &format!(":p {text}"));
    other.send(&[raw::describe('S', "p"), raw::sync()].concat());
    let described = other.until(b'Z', 1);
    let row = described.iter().find(|frame| frame.tag == b'T').unwrap();
    assert_eq!(row.names(), ["\\xc3\\xa9"]);
}
