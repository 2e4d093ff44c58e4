//! Conversations with pgring and, word for word, with PostgreSQL itself: who talks about one
//! shard's rows cannot tell them apart.

use pgring::demo::sample::APP;

use super::stage::{BOTH, Protocol, SHARED};
use crate::support::raw::{self, Frame, Raw};
use crate::support::{self};

/// Each line is a session; statements are separated by `¦`.
const CONVERSATIONS: &[&str] = &[
    // Empty transactions, and none.
    "BEGIN¦COMMIT",
    "BEGIN¦ROLLBACK",
    "BEGIN¦BEGIN¦COMMIT¦COMMIT¦ROLLBACK",
    "BEGIN¦SELECT id FROM users WHERE id = {a}¦BEGIN¦COMMIT¦COMMIT",
    "begin work¦end work¦start transaction¦abort¦ABORT¦END¦BEGIN TRANSACTION¦END TRANSACTION",
    "START TRANSACTION READ ONLY¦START TRANSACTION¦COMMIT",
    "BEGIN¦¦COMMIT",
    "BEGIN¦-- nothing¦SELECT 1¦COMMIT",
    "SAVEPOINT a¦RELEASE a¦ROLLBACK TO a¦ROLLBACK TO SAVEPOINT a",
    "COMMIT AND CHAIN¦ROLLBACK AND CHAIN",
    "SELECT 1¦COMMIT",
    // Failed transactions.
    "BEGIN¦SELECT 1/0 FROM users WHERE id = {a}¦SELECT 1¦SELECT id FROM users WHERE id = {a}¦COMMIT¦SELECT 1",
    "BEGIN¦SELECT 1/0¦SELECT 1¦BEGIN¦SAVEPOINT a¦ROLLBACK¦SELECT 1",
    "BEGIN¦SELEC¦SELECT 1¦COMMIT",
    "BEGIN¦SELECT nothing FROM users WHERE id = {a}¦SET work_mem = '1MB'¦COMMIT¦SHOW work_mem",
    "BEGIN¦SELECT 1/0¦ROLLBACK AND CHAIN¦SELECT 2¦COMMIT",
    "BEGIN¦SELECT 1/0¦COMMIT AND CHAIN¦SELECT 2¦COMMIT",
    // Savepoints.
    "BEGIN¦SAVEPOINT a¦ROLLBACK TO a¦RELEASE a¦RELEASE a¦ROLLBACK",
    "BEGIN¦SAVEPOINT a¦SELECT 1/0 FROM users WHERE id = {a}¦ROLLBACK TO a¦SELECT id FROM users WHERE id = {a}¦COMMIT",
    "BEGIN¦SAVEPOINT a¦UPDATE users SET name = 'x' WHERE id = {a}¦ROLLBACK TO SAVEPOINT a¦SELECT name FROM users WHERE id = {a}¦COMMIT",
    "BEGIN¦SAVEPOINT a¦SAVEPOINT b¦ROLLBACK TO a¦ROLLBACK TO b¦ROLLBACK",
    "BEGIN¦SAVEPOINT a¦SAVEPOINT a¦RELEASE a¦ROLLBACK TO a¦RELEASE a¦ROLLBACK TO a¦COMMIT",
    "BEGIN¦SAVEPOINT \"A\"¦ROLLBACK TO a¦ROLLBACK TO \"A\"¦COMMIT",
    "BEGIN¦SAVEPOINT A¦ROLLBACK TO \"a\"¦COMMIT",
    "BEGIN¦SELECT id FROM users WHERE id = {a}¦ROLLBACK TO nowhere¦ROLLBACK TO nowhere¦ROLLBACK",
    "BEGIN¦ROLLBACK TO nowhere¦SELECT 1¦COMMIT",
    "BEGIN¦RELEASE nowhere¦SELECT 1¦ROLLBACK",
    "BEGIN¦SAVEPOINT a¦SELECT id FROM users WHERE id = {a}¦SAVEPOINT b¦UPDATE users SET name = 'y' WHERE id = {a}¦ROLLBACK TO b¦RELEASE b¦SELECT name FROM users WHERE id = {a}¦RELEASE a¦ROLLBACK",
    // Isolation, access mode.
    "BEGIN ISOLATION LEVEL SERIALIZABLE¦SHOW transaction_isolation¦COMMIT¦SHOW transaction_isolation",
    "BEGIN READ ONLY¦UPDATE users SET name = 'x' WHERE id = {a}¦ROLLBACK",
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY, DEFERRABLE¦SELECT id FROM users WHERE id = {a}¦SHOW transaction_read_only¦SHOW transaction_deferrable¦COMMIT",
    "BEGIN¦SET TRANSACTION ISOLATION LEVEL SERIALIZABLE¦SHOW transaction_isolation¦COMMIT",
    "BEGIN¦SET TRANSACTION READ ONLY¦DELETE FROM notifications WHERE user_id = {a}¦ROLLBACK",
    "BEGIN¦SELECT id FROM users WHERE id = {a}¦SET TRANSACTION ISOLATION LEVEL SERIALIZABLE¦ROLLBACK",
    "SET TRANSACTION READ ONLY",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY¦UPDATE users SET name = 'x' WHERE id = {a}¦BEGIN READ WRITE¦SHOW transaction_read_only¦COMMIT¦RESET ALL¦SHOW transaction_read_only",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY¦SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, NOT DEFERRABLE¦SELECT id FROM users WHERE id = {a}¦SHOW transaction_isolation¦SHOW transaction_read_only¦RESET default_transaction_read_only¦SHOW transaction_isolation¦SHOW transaction_read_only",
    "BEGIN¦SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY¦ROLLBACK¦SHOW transaction_read_only¦BEGIN¦SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY¦COMMIT¦SHOW transaction_read_only",
    "SET default_transaction_isolation = 'serializable'¦BEGIN¦SHOW transaction_isolation¦COMMIT",
    "BEGIN¦SET CONSTRAINTS ALL DEFERRED¦SELECT 1¦COMMIT",
    // Chains.
    "BEGIN ISOLATION LEVEL REPEATABLE READ¦COMMIT AND CHAIN¦SHOW transaction_isolation¦COMMIT¦SHOW transaction_isolation",
    "BEGIN ISOLATION LEVEL REPEATABLE READ¦SELECT id FROM users WHERE id = {a}¦COMMIT AND CHAIN¦SHOW transaction_isolation¦ROLLBACK AND CHAIN¦SHOW transaction_isolation¦COMMIT¦SHOW transaction_isolation",
    "BEGIN¦SET TRANSACTION ISOLATION LEVEL SERIALIZABLE¦COMMIT AND CHAIN¦SHOW transaction_isolation¦COMMIT",
    "BEGIN READ ONLY¦SAVEPOINT a¦ROLLBACK AND CHAIN¦SHOW transaction_read_only¦ROLLBACK TO a¦COMMIT",
    "BEGIN¦COMMIT AND NO CHAIN¦SELECT 1",
    // Settings.
    "SHOW work_mem¦SET work_mem = '7MB'¦SHOW work_mem¦SELECT id FROM users WHERE id = {a}¦SHOW work_mem¦RESET work_mem¦SHOW work_mem",
    "SET work_mem TO '7MB'¦SET work_mem TO DEFAULT¦SHOW work_mem",
    "SET SESSION work_mem = 8192¦SHOW work_mem¦RESET ALL¦SHOW work_mem",
    "SET LOCAL work_mem = '7MB'¦SHOW work_mem",
    "BEGIN¦SET LOCAL work_mem = '7MB'¦SHOW work_mem¦COMMIT¦SHOW work_mem",
    "BEGIN¦SET work_mem = '7MB'¦SHOW work_mem¦ROLLBACK¦SHOW work_mem",
    "BEGIN¦SET work_mem = '7MB'¦COMMIT¦SHOW work_mem",
    "BEGIN¦SELECT id FROM users WHERE id = {a}¦SET work_mem = '7MB'¦COMMIT¦SHOW work_mem¦BEGIN¦SET work_mem = '9MB'¦SET LOCAL work_mem = '10MB'¦SHOW work_mem¦COMMIT¦SHOW work_mem",
    "BEGIN¦SET work_mem = '7MB'¦SAVEPOINT a¦SET work_mem = '8MB'¦SHOW work_mem¦ROLLBACK TO a¦SHOW work_mem¦COMMIT¦SHOW work_mem",
    "BEGIN¦SAVEPOINT a¦SET work_mem = '8MB'¦ROLLBACK TO a¦SHOW work_mem¦COMMIT¦SHOW work_mem",
    "BEGIN¦SAVEPOINT a¦SET LOCAL work_mem = '8MB'¦RELEASE a¦SHOW work_mem¦COMMIT¦SHOW work_mem",
    "SET work_mem = '7MB'¦BEGIN¦RESET work_mem¦SHOW work_mem¦ROLLBACK¦SHOW work_mem",
    "SET work_mem = '7MB'¦BEGIN¦RESET ALL¦SHOW work_mem¦COMMIT¦SHOW work_mem",
    "SET work_mem = '7MB'¦BEGIN¦RESET work_mem¦SET work_mem = '6MB'¦SAVEPOINT x¦RESET work_mem¦ROLLBACK TO x¦COMMIT¦SHOW work_mem",
    "SELECT set_config('work_mem', '7MB', false)¦SHOW work_mem¦SELECT set_config('work_mem', '8MB', true)¦SHOW work_mem",
    "BEGIN¦SELECT set_config('work_mem', '7MB', true)¦SHOW work_mem¦COMMIT¦SHOW work_mem",
    "BEGIN¦SELECT set_config('work_mem', '7MB', false)¦ROLLBACK¦SHOW work_mem",
    "SET my.own = 'it''s'¦SHOW my.own¦SELECT current_setting('my.own')¦BEGIN¦SET my.own = E'a\\nb'¦COMMIT¦SHOW my.own",
    "SHOW my.unknown¦SET nonsense = 1¦SHOW work_mem",
    "SET work_mem = 'much'¦SET work_mem = -5¦SHOW work_mem",
    "BEGIN¦SELECT id FROM users WHERE id = {a}¦SET nonsense = 1¦SELECT 1¦ROLLBACK",
    "SET TIME ZONE 'Europe/Berlin'¦SHOW TIME ZONE¦SHOW timezone¦SELECT timestamptz '2025-07-01 00:00:00Z'¦SET TIME ZONE LOCAL¦SHOW timezone",
    "SET TIME ZONE 3¦SHOW timezone¦SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE¦SHOW timezone¦SET TimeZone = 'UTC'¦SHOW timezone¦RESET TIME ZONE¦SHOW timezone",
    "SET DateStyle = 'German'¦SET DateStyle = 'YMD'¦SELECT id, date '2025-07-01' FROM users WHERE id = {a}¦SELECT id, date '2025-07-01' FROM users WHERE id = {b}¦SHOW DateStyle¦BEGIN¦SET DateStyle = 'SQL'¦COMMIT¦SELECT id, date '2025-07-01' FROM users WHERE id = {a}¦RESET DateStyle¦SHOW DateStyle",
    "SET DateStyle = 'German'¦SELECT date '2025-07-01'¦SET DateStyle = 'ISO, DMY'¦SELECT date '2025-07-01'¦SHOW DateStyle",
    "SET NAMES 'LATIN1'¦SHOW client_encoding¦RESET client_encoding¦SHOW client_encoding",
    "SET SCHEMA 'pg_catalog'¦SHOW search_path¦RESET search_path¦SHOW search_path",
    "SET search_path = pg_catalog¦SELECT id FROM public.users WHERE id = {a}¦SELECT id FROM users WHERE id = {a}¦RESET search_path¦SELECT id FROM users WHERE id = {a}",
    "SET search_path TO nowhere, \"$user\", public¦SELECT id FROM users WHERE id = {a}¦SHOW search_path",
    "BEGIN¦SET LOCAL search_path = nowhere¦SELECT id FROM users WHERE id = {a}¦ROLLBACK¦SELECT id FROM users WHERE id = {a}",
    "SET ROLE none¦SHOW role¦SET SESSION AUTHORIZATION DEFAULT¦SELECT session_user¦SET ROLE nobody",
    "SET extra_float_digits = 0¦SELECT 0.1::float8 + 0.2¦SET extra_float_digits = 3¦SELECT 0.1::float8 + 0.2",
    "SET application_name = 'me'¦SHOW application_name¦SELECT current_setting('application_name')",
    "SET statement_timeout = '10ms'¦SELECT pg_sleep(5)¦SET statement_timeout = 0¦SELECT 1",
    "SET standard_conforming_strings = off¦SELECT id, 'a\\'b' FROM users WHERE id = {a}¦SET standard_conforming_strings = on¦SELECT id, 'a\\' FROM users WHERE id = {a}",
    "SET standard_conforming_strings = off¦DISCARD ALL¦SELECT id, '\\' FROM users WHERE id = {a}",
    "SET standard_conforming_strings = off¦BEGIN¦SELECT id FROM users WHERE id = {a}¦RESET ALL¦SELECT id, '\\' FROM users WHERE id = {a}¦ROLLBACK¦SELECT id, '\\' FROM users WHERE id = {b} --' FROM users WHERE id = {a}",
    "BEGIN¦SAVEPOINT s¦SET search_path = nowhere¦ROLLBACK TO s¦SELECT id FROM users WHERE id = {a}¦COMMIT",
    "BEGIN¦SELECT id FROM users WHERE id = {a}¦SET LOCAL standard_conforming_strings = off¦SELECT id, '\\' FROM users WHERE id = {b} --' FROM users WHERE id = {a}¦ROLLBACK",
    // What outlives RESET and what does not.
    "SET work_mem = '7MB'¦DISCARD ALL¦SHOW work_mem",
    "BEGIN¦DISCARD ALL¦ROLLBACK",
    "BEGIN¦SELECT id FROM users WHERE id = {a}¦DISCARD ALL¦ROLLBACK",
    "DISCARD PLANS¦DISCARD SEQUENCES¦DISCARD TEMP",
    // Prepared statements and cursors of SQL's own.
    "PREPARE p AS SELECT 1¦EXECUTE p¦DEALLOCATE p¦EXECUTE p",
    "PREPARE p (int) AS SELECT $1 + 1¦EXECUTE p (2)¦PREPARE p AS SELECT 2¦DEALLOCATE ALL¦EXECUTE p (1)",
    "DEALLOCATE nowhere",
    "PREPARE p (bigint) AS SELECT id, id + 1 FROM users WHERE id = $1¦EXECUTE p({a})¦EXECUTE p({b})¦EXECUTE p('{c}')¦EXECUTE p({a}, 1)¦SELECT name, statement, parameter_types, from_sql FROM pg_prepared_statements WHERE from_sql¦DEALLOCATE p¦EXECUTE p({a})",
    "PREPARE p AS SELECT id FROM users WHERE id = $1¦BEGIN¦EXECUTE p({a})¦PREPARE q AS SELECT id FROM jobs WHERE user_id = {a} ORDER BY id¦EXECUTE q¦ROLLBACK¦EXECUTE p({b})¦EXECUTE q¦EXECUTE p({c})¦DISCARD ALL¦EXECUTE p({a})",
    "PREPARE p (bigint, text) AS UPDATE users SET name = $2 WHERE id = $1 RETURNING name¦BEGIN¦EXECUTE p({a}, 'x')¦SAVEPOINT s¦EXECUTE p({a}, 1/0)¦EXECUTE p({a}, 'y')¦ROLLBACK TO s¦EXECUTE p({a}, 'y')¦ROLLBACK¦EXECUTE p({b}, NULL || nothing)",
    "BEGIN¦DECLARE c CURSOR FOR SELECT id FROM jobs WHERE user_id = {a} ORDER BY id¦FETCH 1 FROM c¦MOVE 1 FROM c¦FETCH ALL FROM c¦CLOSE c¦COMMIT",
    "BEGIN¦DECLARE c CURSOR FOR SELECT id FROM jobs WHERE user_id = {a} ORDER BY id¦COMMIT¦FETCH c",
    "DECLARE c CURSOR FOR SELECT 1",
    "FETCH c¦CLOSE c",
    // Nothing else.
    "NOTIFY x¦UNLISTEN *¦LOCK TABLE app_settings",
    "SELECT id FROM users WHERE id = {a}¦COPY (SELECT id FROM users WHERE id = {a}) TO STDOUT",
    "VALUES (1, 'x'), (2, NULL)",
];

/// Several statements in one message are one implicit transaction.
const MESSAGES: &[&str] = &[
    "SELECT 1; SELECT 2",
    "SELECT 1; SELECT 1/0; SELECT 2",
    "BEGIN; SELECT 1; COMMIT",
    "BEGIN; SELECT id FROM users WHERE id = {a}; COMMIT¦SELECT 1",
    "BEGIN; SELECT 1/0¦SELECT 1¦ROLLBACK¦SELECT 1",
    "BEGIN; SELECT id FROM users WHERE id = {a}¦SELECT 1¦COMMIT",
    "SET work_mem = '7MB'; SELECT 1/0¦SHOW work_mem",
    "SET work_mem = '7MB'; SELECT 1¦SHOW work_mem",
    "BEGIN; SET work_mem = '7MB'; COMMIT; SELECT 1/0¦SHOW work_mem",
    "SET work_mem = '7MB'; ROLLBACK; SELECT 1¦SHOW work_mem",
    "BEGIN; SET LOCAL work_mem = '7MB'; SHOW work_mem; COMMIT; SHOW work_mem",
    "UPDATE users SET name = 'x' WHERE id = {a}; SELECT 1/0¦SELECT name FROM users WHERE id = {a}",
    "UPDATE users SET name = 'x' WHERE id = {a}; ROLLBACK¦SELECT name FROM users WHERE id = {a}",
    "BEGIN; UPDATE users SET name = 'x' WHERE id = {a}; SAVEPOINT s; ROLLBACK TO s; ROLLBACK¦SELECT name FROM users WHERE id = {a}",
    "BEGIN¦SELECT 1; SELECT 2¦COMMIT; SELECT 3¦SELECT 4",
    "BEGIN¦SET work_mem = '7MB'; SHOW work_mem¦ROLLBACK; SHOW work_mem",
    "BEGIN; SAVEPOINT a¦SELECT 1/0¦ROLLBACK TO a; SELECT 2¦COMMIT",
    "BEGIN; SELECT id FROM users WHERE id = {a}; SAVEPOINT a¦SELECT 1/0¦ROLLBACK TO a; SELECT id FROM users WHERE id = {a}¦COMMIT",
    "SET DateStyle = 'SQL'; SET DateStyle = 'DMY'; SELECT date '2025-07-01'¦SELECT id, date '2025-07-01' FROM users WHERE id = {a}",
    ";;SELECT 1;;",
    "COMMIT; BEGIN¦SELECT 1¦ROLLBACK",
    "BEGIN; BEGIN; COMMIT; COMMIT",
    "DISCARD ALL; SELECT 1",
];

/// What a client sees, but for what must differ: parameters may be reported with the statement
/// after the one that changed them, since that is the one that a server runs.
fn seen(frames: Vec<Frame>) -> Vec<String> {
    frames.into_iter().filter(|frame| frame.tag != b'S').map(|frame| format!("{frame:?}")).collect()
}

#[test]
fn pgring_talks_like_postgresql() {
    let servers = support::servers(3);
    let oracle = support::sample_database(&servers[..1]);
    let mut different = Vec::new();
    for protocol in BOTH {
        let extended = if protocol == Protocol::Simple { MESSAGES } else { &[] };
        for conversation in CONVERSATIONS.iter().chain(extended) {
            let mut pgring = SHARED.session();
            let mut postgresql = Raw::login(&servers[0].address(), APP, &oracle);
            for statement in SHARED.fill(conversation).split('¦') {
                let (mine, theirs) = (
                    seen(protocol.ask(&mut pgring, statement)),
                    seen(protocol.ask(&mut postgresql, statement)),
                );
                if mine != theirs {
                    different.push(format!(
                        "{protocol:?} {conversation}\n  at {statement}\n  pgring     {mine:?}\n  PostgreSQL {theirs:?}"
                    ));
                    break;
                }
            }
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

/// The same with everything sent at once, each statement with its `Sync`.
#[test]
fn pipelined_it_talks_like_postgresql_too() {
    let servers = support::servers(3);
    let oracle = support::sample_database(&servers[..1]);
    let mut different = Vec::new();
    for conversation in CONVERSATIONS {
        let text = SHARED.fill(conversation);
        let statements: Vec<&str> = text.split('¦').collect();
        let sent: Vec<u8> =
            statements.iter().flat_map(|statement| super::stage::extended(statement)).collect();
        let [mine, theirs] =
            [SHARED.session(), Raw::login(&servers[0].address(), APP, &oracle)].map(|mut session| {
                session.send(&sent);
                seen(session.until(b'Z', statements.len()))
            });
        if mine != theirs {
            different.push(format!("{conversation}\n  pgring     {mine:?}\n  PostgreSQL {theirs:?}"));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

/// And without any `Sync` but the last: one implicit transaction.
#[test]
fn a_pipeline_without_sync_is_one_transaction() {
    let servers = support::servers(3);
    let oracle = support::sample_database(&servers[..1]);
    let mut different = Vec::new();
    for pipeline in [
        "SELECT id FROM users WHERE id = {b}¦UPDATE users SET name = 'x' WHERE id = {b}¦SELECT 1/0",
        "UPDATE users SET name = 'x' WHERE id = {b}¦SELECT name FROM users WHERE id = {b}",
        "UPDATE users SET name = 'y' WHERE id = {b}¦ROLLBACK",
        "BEGIN¦UPDATE users SET name = 'z' WHERE id = {b}¦ROLLBACK",
        "BEGIN¦UPDATE users SET name = 'z' WHERE id = {b}¦COMMIT¦SELECT 1/0",
        "BEGIN¦SAVEPOINT a¦UPDATE users SET name = 'q' WHERE id = {b}¦ROLLBACK TO a¦COMMIT",
        "SELECT 1¦BEGIN¦SELECT 2",
        "UPDATE users SET name = 'r' WHERE id = {b}¦BEGIN¦SELECT 2¦ROLLBACK",
        "SET work_mem = '7MB'¦SELECT 1/0",
        "SET work_mem = '7MB'¦SHOW work_mem",
        "BEGIN¦SET work_mem = '8MB'¦COMMIT",
        "COMMIT¦SELECT 1",
        "SAVEPOINT a",
    ] {
        let text = SHARED.fill(pipeline);
        let sent: Vec<u8> =
            text.split('¦').flat_map(|statement| raw::run(statement, &[])).chain(raw::sync()).collect();
        let after = SHARED.fill("SELECT name FROM users WHERE id = {b}");
        let [mine, theirs] =
            [SHARED.session(), Raw::login(&servers[0].address(), APP, &oracle)].map(|mut session| {
                session.send(&sent);
                let mut all = seen(session.until(b'Z', 1));
                for statement in ["SHOW work_mem", "ROLLBACK", "SHOW work_mem", &after] {
                    all.extend(seen(session.query(statement)));
                }
                all
            });
        if mine != theirs {
            different.push(format!("{pipeline}\n  pgring     {mine:?}\n  PostgreSQL {theirs:?}"));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}
