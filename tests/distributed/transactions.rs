//! `BEGIN` to `COMMIT` over several shards, and what its servers have in common.

use std::sync::LazyLock;

use pgring::demo::sample::APP;

use crate::support::raw::{Raw, V3_0, bind, execute, parse, sync};
use crate::support::{self, Config, Proxy};

struct Stage {
    proxy: Proxy,
    name: String,
    /// The same on one PostgreSQL, without a proxy: its address, and the database.
    one: (String, String),
    /// A user of each shard.
    users: [String; 3],
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let servers = support::servers(3);
    let name = support::sample_database(&servers);
    let one = support::sample_database(&servers[..1]);
    let proxy = Proxy::start(Config::new().database(&name, &servers));
    let one = (servers[0].address(), one);
    let mut raw = Raw::login(&proxy.address(), APP, &name);
    let users =
        [1, 2, 3].map(|s| raw.value(&format!("/* pgring: shard=s{s} */ SELECT min(id)::text FROM users")));
    Stage { proxy, name, one, users }
});

impl Stage {
    fn client(&self) -> Raw {
        Raw::login(&self.proxy.address(), APP, &self.name)
    }

    fn insert(&self, shard: usize, name: &str) -> String {
        format!("INSERT INTO jobs (user_id, name, schedule) VALUES ({}, '{name}', 'x')", self.users[shard])
    }

    fn count(&self, name: &str) -> String {
        self.client().value(&format!("SELECT count(*)::text FROM jobs WHERE name = '{name}'"))
    }
}

/// The tag or the SQLSTATE, and the transaction's status.
fn said(raw: &mut Raw, sql: &str) -> String {
    let mut words = Vec::new();
    for frame in raw.query(sql) {
        match frame.tag {
            b'C' => words.push(String::from_utf8_lossy(&frame.body).trim_end_matches('\0').to_owned()),
            b'E' => words.push(frame.code()),
            b'Z' => words.push(String::from_utf8_lossy(&frame.body).into_owned()),
            _ => {}
        }
    }
    words.join(" ")
}

/// The same, with the warnings and the rows.
fn told(raw: &mut Raw, sql: &str) -> String {
    let mut words = Vec::new();
    for frame in raw.query(sql) {
        match frame.tag {
            b'D' => words.push(frame.columns().join(",")),
            b'N' => words.push(format!("warned {}", frame.code())),
            b'C' => words.push(String::from_utf8_lossy(&frame.body).trim_end_matches('\0').to_owned()),
            b'E' => words.push(frame.code()),
            b'Z' => words.push(String::from_utf8_lossy(&frame.body).into_owned()),
            _ => {}
        }
    }
    words.join(" ")
}

/// Transactions of a shard, and of several, say what they say on one PostgreSQL. `@1` to `@3` read a
/// row of that shard, `!1` to `!3` change one, and `#1` to `#3` are the keys of these rows.
#[track_caller]
fn alike(stories: &[&str]) {
    let stage = &*STAGE;
    let text = |step: &str| {
        let mut letters = step.chars();
        let kind = letters.next();
        let user = letters.as_str().parse::<usize>().ok().and_then(|at| stage.users.get(at - 1));
        match (kind, user) {
            (Some('@'), Some(id)) => format!("SELECT 1 FROM users WHERE id = {id}"),
            (Some('!'), Some(id)) => format!("UPDATE users SET name = name WHERE id = {id}"),
            _ => (1..)
                .zip(&stage.users)
                .fold(step.to_owned(), |step, (at, id)| step.replace(&format!("#{at}"), id)),
        }
    };
    let mut different = Vec::new();
    for story in stories {
        let (mut several, mut one) = (stage.client(), Raw::login(&stage.one.0, APP, &stage.one.1));
        for step in story.split(';').map(|step| text(step.trim())) {
            // Several statements of one message.
            let sql = step.replace(" & ", "; ");
            let (said, expected) = (told(&mut several, &sql), told(&mut one, &sql));
            if said != expected {
                different.push(format!("{story}: {sql}: {said}, on one PostgreSQL {expected}"));
                break;
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn characteristics_are_as_on_one_server() {
    const SHOW: &str = "SHOW transaction_read_only; SHOW transaction_isolation; SHOW transaction_deferrable";
    let stories: Vec<String> = [
        // said on several servers, on one that others join, and on none yet
        "BEGIN; @1; @2; SET TRANSACTION READ ONLY; COMMIT AND CHAIN; SHOW; !2; ROLLBACK",
        "BEGIN; @1; @2; SET transaction_read_only = on; COMMIT AND CHAIN; !2; COMMIT AND CHAIN; SHOW; !1",
        "BEGIN; @1; SET TRANSACTION READ ONLY; COMMIT AND CHAIN; @1; SHOW; !2; ROLLBACK",
        "BEGIN; @1; SET transaction_read_only TO on; ROLLBACK AND CHAIN; @1; !2; ROLLBACK",
        "BEGIN; SET TRANSACTION READ ONLY; COMMIT AND CHAIN; @1; SHOW; !2",
        "BEGIN; SET transaction_read_only = on; @1; @2; COMMIT AND CHAIN; SHOW; !2",
        "BEGIN; SET transaction_isolation = 'serializable'; @1; @2; ROLLBACK AND CHAIN; SHOW; @3; COMMIT",
        "BEGIN; SET LOCAL transaction_isolation = 'serializable'; COMMIT AND CHAIN; SHOW; @1; @2; SHOW",
        "BEGIN; SELECT set_config('transaction_isolation', 'serializable', true); COMMIT AND CHAIN; SHOW; @1; @2; SHOW",
        "BEGIN; SELECT set_config('transaction_read_only', 'on', false); @2; COMMIT AND CHAIN; @1; !2",
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; @1; @2; COMMIT AND CHAIN; @2; @1; SHOW",
        "BEGIN READ ONLY; @1; @2; COMMIT AND CHAIN; SET TRANSACTION READ WRITE; SHOW; !1; !2; COMMIT",
        // a failed one passes on what it has inherited
        "BEGIN READ ONLY; !1; ROLLBACK AND CHAIN; SHOW; !1; !2; ROLLBACK",
        "BEGIN; SET TRANSACTION READ ONLY; COMMIT AND CHAIN; !1; COMMIT AND CHAIN; SHOW; @2; !2; ROLLBACK AND CHAIN; @1; SHOW",
        "BEGIN ISOLATION LEVEL SERIALIZABLE; @1; @2; SELECT 1 / 0; ROLLBACK AND CHAIN; SHOW; @1; @3; SHOW",
        "BEGIN ISOLATION LEVEL SERIALIZABLE; @1; COMMIT AND CHAIN; SET TRANSACTION READ ONLY; @1; !1; COMMIT AND CHAIN; SHOW; @2; SHOW",
        "BEGIN READ ONLY; @1; !1; ROLLBACK AND CHAIN; !1; !2; COMMIT",
        "BEGIN; @1; SAVEPOINT a; SELECT 1 / 0; ROLLBACK AND CHAIN; @2; ROLLBACK TO a; ROLLBACK",
        // a BEGIN in a transaction says how that one is
        "BEGIN; START TRANSACTION READ ONLY; SHOW; !1",
        "BEGIN; BEGIN ISOLATION LEVEL SERIALIZABLE; SHOW; @1; @2; COMMIT AND CHAIN; SHOW; @1; SHOW",
        "BEGIN; @1; START TRANSACTION READ ONLY; @2; !2; ROLLBACK",
        "BEGIN; @1; BEGIN READ ONLY; COMMIT AND CHAIN; @2; !1; ROLLBACK",
        "BEGIN; @1; @2; START TRANSACTION READ ONLY; SHOW; !1; BEGIN READ ONLY; ROLLBACK",
        "BEGIN; @1; @2; BEGIN READ ONLY; @3; !3; ROLLBACK",
        "BEGIN; @1; @2; BEGIN; BEGIN WORK; !1; !2; COMMIT",
        "BEGIN; @1; @2; BEGIN ISOLATION LEVEL SERIALIZABLE; COMMIT",
        "BEGIN; @1; @2; BEGIN READ ONLY & SHOW transaction_read_only; !1",
        "BEGIN; SELECT count(*) FROM users & BEGIN READ ONLY & SELECT count(*) FROM users; !1",
        // a savepoint takes it back
        "BEGIN; @1; SAVEPOINT a; SET TRANSACTION READ ONLY; @2; ROLLBACK TO a; !2; !1; COMMIT",
        "BEGIN; !1; SAVEPOINT a; SET TRANSACTION READ ONLY; @2; RELEASE a; !2; SHOW; COMMIT",
        "BEGIN; SAVEPOINT a; SET TRANSACTION READ ONLY; RELEASE a; SHOW; !1; !2; COMMIT AND CHAIN; SHOW; !1",
        "BEGIN; @1; @2; SAVEPOINT a; SET TRANSACTION READ ONLY; COMMIT AND CHAIN; SHOW; !1",
        // what a server begins behind an end is not what there was before
        "BEGIN READ ONLY; @1; COMMIT & BEGIN & SHOW transaction_read_only; SHOW; !1; COMMIT",
        "BEGIN; SET default_transaction_read_only = on; @1; COMMIT AND CHAIN; SHOW; !1; ROLLBACK",
    ]
    .map(|story| story.replace("SHOW;", &format!("{SHOW};")).replace("; SHOW;", &format!("; {SHOW};")))
    .to_vec();
    alike(&stories.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn rows_are_locked_in_every_strength() {
    let strengths = ["UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE"];
    let stories = strengths.map(|strength| {
        format!(
            "BEGIN; SELECT name FROM users WHERE id = #1 FOR {strength}; \
             SELECT id FROM users u WHERE id IN (#1, #2, #3) ORDER BY id FOR {strength} OF u NOWAIT; \
             SELECT id FROM users WHERE id IN (#2, #3) ORDER BY id FOR {strength} SKIP LOCKED; \
             SELECT u.id FROM users u JOIN jobs j ON j.user_id = u.id WHERE u.id = #2 AND j.name = 'none' FOR {strength}; \
             !1; !2; COMMIT"
        )
    });
    alike(&stories.each_ref().map(String::as_str));
}

/// A server ends what was idle on it, whoever was at work elsewhere; and the client hears why.
#[test]
fn a_part_that_was_idle_for_too_long_is_told() {
    let stage = &*STAGE;
    let sleep = |shard: usize| format!("/* pgring: shard=s{shard} */ SELECT pg_sleep(1)");
    let mut raw = stage.client();
    let set = "SET idle_in_transaction_session_timeout = '500ms'";
    run(&mut raw, &[(set, "SET I"), ("BEGIN", "BEGIN T"), (&stage.insert(0, "idle"), "INSERT 0 1 T")]);
    run(
        &mut raw,
        &[
            (&sleep(2), "SELECT 1 T"),
            (&stage.insert(0, "idle"), "25P03 E"),
            ("COMMIT", "ROLLBACK I"),
            ("BEGIN", "BEGIN T"),
            (&stage.insert(0, "idle"), "INSERT 0 1 T"),
        ],
    );
    std::thread::sleep(std::time::Duration::from_secs(1));
    run(&mut raw, &[("SELECT 1", "25P03 E"), ("ROLLBACK", "ROLLBACK I"), ("SELECT 1", "SELECT 1 I")]);
    assert_eq!(stage.count("idle"), "0");
}

/// What would not be the same is refused, and nothing is left of it.
#[test]
fn characteristics_that_do_not_reach_everybody_are_refused() {
    let stage = &*STAGE;
    for (steps, refused) in [
        (&["SET TRANSACTION READ ONLY"][..], "0A000 E"),
        (&["BEGIN READ ONLY"], "0A000 E"),
        (&["SET LOCAL transaction_read_only = on"], "0A000 E"),
        (&["SET default_transaction_read_only = on", "COMMIT AND CHAIN"], "0A000 E"),
        (&["SAVEPOINT s", "SET TRANSACTION READ ONLY", "ROLLBACK TO s", "COMMIT"], "COMMIT I"),
    ] {
        let mut raw = stage.client();
        run(&mut raw, &[("BEGIN", "BEGIN T")]);
        for shard in [0, 1] {
            run(&mut raw, &[(&stage.insert(shard, "two"), "INSERT 0 1 T")]);
        }
        let last = steps.iter().map(|step| said(&mut raw, step)).last();
        assert_eq!(last.as_deref(), Some(refused), "{steps:?}");
        if refused.ends_with('E') {
            run(&mut raw, &[("ROLLBACK", "ROLLBACK I")]);
        }
    }
    assert_eq!(stage.count("two"), "2");
    // Where a server has begun it, nobody else joins.
    let mut raw = stage.client();
    let read = |shard: usize| format!("SELECT 1 FROM users WHERE id = {}", stage.users[shard]);
    run(&mut raw, &[("BEGIN READ ONLY", "BEGIN T"), (&read(0), "SELECT 1 T")]);
    run(
        &mut raw,
        &[
            ("SET default_transaction_read_only = on", "SET T"),
            ("COMMIT AND CHAIN", "COMMIT T"),
            (&read(1), "0A000 E"),
            ("ROLLBACK", "ROLLBACK I"),
        ],
    );
}

/// Who reads only, because the session says so, needs no decision, whatever it calls.
#[test]
fn by_default_read_only() {
    let stage = &*STAGE;
    for set in
        ["SET default_transaction_read_only = on", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"]
    {
        let mut raw = stage.client();
        run(&mut raw, &[(set, "SET I"), ("BEGIN", "BEGIN T")]);
        for shard in [0, 1] {
            let locks = format!("/* pgring: shard=s{} */ SELECT pg_advisory_xact_lock(7)", shard + 1);
            run(&mut raw, &[(&locks, "SELECT 1 T")]);
        }
        run(&mut raw, &[("COMMIT", "COMMIT I")]);
        // The next one says otherwise.
        run(&mut raw, &[("BEGIN READ WRITE", "BEGIN T")]);
        for shard in [0, 1] {
            run(&mut raw, &[(&stage.insert(shard, "anyway"), "INSERT 0 1 T")]);
        }
        run(&mut raw, &[("ROLLBACK", "ROLLBACK I")]);
    }
    assert_eq!(stage.count("anyway"), "0");
}

#[track_caller]
fn run(raw: &mut Raw, steps: &[(&str, &str)]) {
    for (sql, expected) in steps {
        assert_eq!(said(raw, sql), *expected, "{sql}");
    }
}

#[test]
fn one_that_has_to_be_aligned_first_joins_late() {
    let stage = &*STAGE;
    for extended in [false, true] {
        let mut raw = stage.client();
        run(&mut raw, &[("SET work_mem = '5432kB'", "SET I"), ("BEGIN", "BEGIN T")]);
        for shard in [0, 1, 2] {
            let insert = stage.insert(shard, "late");
            if extended {
                raw.send(&[parse("", &insert), bind("", "", &[]), execute("", 0), sync()].concat());
                let answer = raw.until(b'Z', 1);
                assert!(answer.iter().any(|frame| frame.tag == b'C'), "{answer:?}");
            } else {
                run(&mut raw, &[(&insert, "INSERT 0 1 T")]);
            }
        }
        run(&mut raw, &[("ROLLBACK", "ROLLBACK I")]);
        assert_eq!(stage.count("late"), "0");
    }
}

#[test]
fn no_savepoint_brings_a_lost_part_back() {
    let stage = &*STAGE;
    let mut raw = stage.client();
    run(
        &mut raw,
        &[
            ("BEGIN", "BEGIN T"),
            (&stage.insert(0, "lost"), "INSERT 0 1 T"),
            (&stage.insert(1, "lost"), "INSERT 0 1 T"),
            ("SAVEPOINT s", "SAVEPOINT T"),
        ],
    );
    let user =
        |shard: usize, what: &str| format!("SELECT {what} FROM users WHERE id = {}", stage.users[shard]);
    let pid = raw.value(&user(1, "pg_backend_pid()::text"));
    run(&mut raw, &[(&user(0, "1"), "SELECT 1 T")]);
    stage.client().query(&format!("/* pgring: shard=s2 */ SELECT pg_terminate_backend({pid})"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(said(&mut raw, "UPDATE jobs SET priority = 6 WHERE name = 'lost'").ends_with(" E"));
    run(
        &mut raw,
        &[
            ("ROLLBACK TO s", "3B001 E"),
            (&user(0, "1"), "25P02 E"),
            ("COMMIT", "ROLLBACK I"),
            ("SELECT 1", "SELECT 1 I"),
        ],
    );
    assert_eq!(stage.count("lost"), "0");
}

#[test]
fn settings_stay_with_the_session() {
    let stage = &*STAGE;
    let mut raw = stage.client();
    let read = |shard: usize| {
        format!("SELECT current_setting('work_mem') FROM users WHERE id = {}", stage.users[shard])
    };
    run(
        &mut raw,
        &[
            ("BEGIN", "BEGIN T"),
            (&stage.insert(0, "kept"), "INSERT 0 1 T"),
            (&stage.insert(1, "kept"), "INSERT 0 1 T"),
            ("SET work_mem = '7777kB'", "SET T"),
            ("COMMIT", "COMMIT I"),
        ],
    );
    let mut others: Vec<Raw> = (0..4).map(|_| stage.client()).collect();
    for shard in [0, 1, 2] {
        for other in &mut others {
            run(other, &[("BEGIN", "BEGIN T")]);
            assert_ne!(other.value(&read(shard)), "7777kB");
        }
        for other in &mut others {
            run(other, &[("COMMIT", "COMMIT I")]);
        }
        assert_eq!(raw.value(&read(shard)), "7777kB");
    }
}

#[test]
fn a_reset_goes_back_to_the_start_up() {
    let stage = &*STAGE;
    let options = [("TimeZone", "Asia/Tokyo")];
    let mut raw = Raw::login_with(&stage.proxy.address(), APP, &stage.name, V3_0, &options);
    for reset in ["RESET timezone", "RESET ALL", "SET timezone TO DEFAULT"] {
        run(
            &mut raw,
            &[
                ("BEGIN", "BEGIN T"),
                ("UPDATE jobs SET priority = priority WHERE name = 'nobody'", "UPDATE 0 T"),
                ("SET timezone = 'UTC'", "SET T"),
                (reset, if reset.starts_with("SET") { "SET T" } else { "RESET T" }),
            ],
        );
        assert_eq!(raw.value("SELECT current_setting('timezone')"), "Asia/Tokyo", "{reset}");
        run(&mut raw, &[("COMMIT", "COMMIT I")]);
        assert_eq!(raw.value("SELECT current_setting('timezone')"), "Asia/Tokyo", "{reset}");
    }
}

#[test]
fn its_characteristics_hold_where_it_joins_late() {
    let stage = &*STAGE;
    let mut raw = stage.client();
    let read = |shard: usize| format!("SELECT 1 FROM users WHERE id = {}", stage.users[shard]);
    for first in [read(1), "SELECT id FROM users WHERE id IN (1, 2, 3, 4, 5, 6)".to_owned()] {
        run(&mut raw, &[("BEGIN", "BEGIN T")]);
        raw.query(&first);
        run(
            &mut raw,
            &[
                ("SET transaction_read_only = on", "SET T"),
                (&stage.insert(0, "only"), "25006 E"),
                ("ROLLBACK", "ROLLBACK I"),
            ],
        );
    }
    assert_eq!(stage.count("only"), "0");
}

#[test]
fn what_it_makes_is_used_after_its_end() {
    let stage = &*STAGE;
    let mut raw = stage.client();
    let [a, b, _] = &stage.users;
    let insert = format!("INSERT INTO made (user_id, n) VALUES ({a}, 1), ({b}, 1)");
    run(
        &mut raw,
        &[
            ("BEGIN", "BEGIN T"),
            ("UPDATE jobs SET priority = priority WHERE name = 'nobody'", "UPDATE 0 T"),
            (
                "CREATE TABLE made (user_id bigint, n int, UNIQUE (user_id, n) DEFERRABLE INITIALLY DEFERRED)",
                "CREATE TABLE T",
            ),
            ("CREATE INDEX ON made (user_id)", "CREATE INDEX T"),
            ("SAVEPOINT s", "SAVEPOINT T"),
            (&insert, "0A000 E"),
            ("ROLLBACK TO s", "ROLLBACK T"),
            ("COMMIT", "COMMIT I"),
            (&insert, "INSERT 0 2 I"),
        ],
    );
    let on = |shard: usize| format!("/* pgring: shard=s{shard} */ SELECT count(*)::text FROM made");
    assert_eq!([1, 2, 3].map(|shard| raw.value(&on(shard))), ["1", "1", "0"]);

    // Errors of a COMMIT are told as they are.
    let more = format!("INSERT INTO made (user_id, n) VALUES ({a}, 2), ({b}, 1)");
    run(&mut raw, &[("BEGIN", "BEGIN T"), (&more, "INSERT 0 2 T"), ("COMMIT", "23505 I")]);
    run(&mut raw, &[("BEGIN", "BEGIN T"), (&more, "INSERT 0 2 T")]);
    raw.send(&[parse("", "COMMIT"), bind("", "", &[]), execute("", 0), sync()].concat());
    let answer = raw.until(b'Z', 1);
    let codes: Vec<String> =
        answer.iter().filter(|frame| frame.tag == b'E').map(|frame| frame.code()).collect();
    assert_eq!((codes, &answer.last().unwrap().body[..]), (vec!["23505".to_owned()], &b"I"[..]));
    assert_eq!(raw.value("SELECT count(*)::text FROM made"), "2");
    run(
        &mut raw,
        &[("CREATE INDEX CONCURRENTLY ON made (missing)", "42703 I"), ("DROP TABLE made", "DROP TABLE I")],
    );
}

#[test]
fn texts_are_read_as_its_servers_read_them() {
    let stage = &*STAGE;
    let mut raw = stage.client();
    let [a, b, _] = &stage.users;
    let text = format!("SELECT 1 FROM users WHERE id = {a} AND name <> 'x\\' OR id = {b} AND name <> '''");
    for end in ["ROLLBACK", "COMMIT"] {
        run(
            &mut raw,
            &[
                ("BEGIN", "BEGIN T"),
                ("UPDATE jobs SET priority = priority WHERE name = 'nobody'", "UPDATE 0 T"),
                ("SET standard_conforming_strings = off", "SET T"),
                (&text, "SELECT 1 T"),
                (end, &format!("{end} I")),
            ],
        );
        let expected = if end == "COMMIT" { "SELECT 1 I" } else { "42601 I" };
        run(&mut raw, &[(&text, expected)]);
    }
}

#[test]
fn a_change_of_the_schema_is_known_when_it_is_acknowledged() {
    let stage = &*STAGE;
    let mut raw = stage.client();
    let [a, b, _] = &stage.users;
    run(&mut raw, &[("CREATE TABLE wider (user_id bigint, n int)", "CREATE TABLE I")]);
    for (statement, values) in
        [("ALTER TABLE wider ADD COLUMN m int", "1, 2"), ("ALTER TABLE wider ADD COLUMN o int", "1, 2, 3")]
    {
        raw.send(&[parse("", statement), bind("", "", &[]), execute("", 0), sync()].concat());
        let answer = raw.until(b'Z', 1);
        assert!(answer.iter().any(|frame| frame.tag == b'C'), "{answer:?}");
        let insert = format!("INSERT INTO wider VALUES ({a}, {values}), ({b}, {values})");
        run(&mut raw, &[(&insert, "INSERT 0 2 I")]);
    }
    run(
        &mut raw,
        &[
            ("BEGIN", "BEGIN T"),
            ("SELECT count(*) FROM wider", "SELECT 1 T"),
            ("ALTER TABLE wider ADD COLUMN p int", "ALTER TABLE T"),
            ("COMMIT", "COMMIT I"),
            (&format!("INSERT INTO wider VALUES ({a}, 1, 2, 3, 4), ({b}, 1, 2, 3, 4)"), "INSERT 0 2 I"),
            ("DROP TABLE wider", "DROP TABLE I"),
        ],
    );
}

/// Programs repeat a transaction by its SQLSTATE.
#[test]
fn a_serialization_failure_is_one_wherever_it_is_found() {
    let stage = &*STAGE;
    let (mut one, mut other) = (stage.client(), stage.client());
    let read = format!("SELECT count(*) FROM jobs WHERE user_id = {}", stage.users[0]);
    for raw in [&mut one, &mut other] {
        run(raw, &[("BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN T"), (&read, "SELECT 1 T")]);
        run(raw, &[(&stage.insert(0, "torn"), "INSERT 0 1 T")]);
    }
    run(&mut other, &[("COMMIT", "COMMIT I")]);
    // With this the first shard is asked for the decision.
    let joins = said(&mut one, &stage.insert(1, "torn"));
    let ends = said(&mut one, "COMMIT");
    assert!(
        (&*joins, &*ends) == ("INSERT 0 1 T", "40001 I") || (&*joins, &*ends) == ("40001 E", "ROLLBACK I"),
        "{joins}, {ends}"
    );
    assert_eq!(stage.count("torn"), "1");
}

/// A server that says that it ends, and not that it has committed, has not.
#[test]
fn a_commit_whose_only_writer_was_ended_has_failed_for_certain() {
    let stage = &*STAGE;
    let mut raw = stage.client();
    let pid = format!("SELECT pg_backend_pid()::text FROM users WHERE id = {}", stage.users[0]);
    let read = format!("SELECT 1 FROM users WHERE id = {}", stage.users[1]);
    for reads_last in [true, false] {
        run(&mut raw, &[("BEGIN", "BEGIN T"), (&stage.insert(0, "ended"), "INSERT 0 1 T")]);
        let pid = raw.value(&pid);
        run(&mut raw, &[(&read, "SELECT 1 T")]);
        if !reads_last {
            run(&mut raw, &[(&stage.insert(0, "ended"), "INSERT 0 1 T")]);
        }
        let end = format!("/* pgring: shard=s1 */ SELECT pg_terminate_backend({pid}, 5000)");
        assert_eq!(said(&mut stage.client(), &end), "SELECT 1 I");
        let told = said(&mut raw, "COMMIT");
        // That of a server held by the session may have been seen before.
        assert!(told == "57P01 I" || (!reads_last && told == "57P01 E"), "{told}");
        raw.query("ROLLBACK");
        assert_eq!(stage.count("ended"), "0");
    }
}
