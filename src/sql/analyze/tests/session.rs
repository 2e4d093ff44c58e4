//! What a statement is to its session.

use super::*;
use crate::sql::{Access, ConfigCall, Hidden, Statement, Volatility};
use std::collections::HashSet;
use std::sync::Arc;

fn one(sql: &str) -> Statement {
    let mut statements = shape(sql).statements;
    assert_eq!(statements.len(), 1, "{sql}");
    statements.remove(0)
}

fn set(name: &str, local: bool, value: ValueSlot) -> Kind {
    Kind::Set { name: name.to_owned(), local, default: false, value: Some(value) }
}

fn config(calls: &[(&str, bool, ValueSlot)]) -> Kind {
    let call = |(name, local, value): &(&str, bool, ValueSlot)| ConfigCall {
        name: (*name).to_owned(),
        local: *local,
        value: *value,
    };
    Kind::SetConfig(calls.iter().map(call).collect())
}

fn default(name: &str) -> Kind {
    Kind::Set { name: name.to_owned(), local: false, default: true, value: None }
}

#[test]
fn kinds() {
    let reset = |name: &str| Kind::Reset { name: name.to_owned() };
    let rows = [
        ("BEGIN", Kind::Begin),
        ("begin isolation level serializable", Kind::Begin),
        ("START TRANSACTION READ ONLY", Kind::Begin),
        ("BEGIN WORK NOT DEFERRABLE, READ WRITE ISOLATION LEVEL REPEATABLE READ;", Kind::Begin),
        ("BEGIN ISOLATION LEVEL nonsense", Kind::Other),
        ("BEGIN READ ONLY,", Kind::Other),
        ("COMMIT nonsense", Kind::Other),
        ("ROLLBACK WORK AND", Kind::Other),
        ("SET TRANSACTION SNAPSHOT 'x'", Kind::SetTransaction),
        ("SET TRANSACTION nonsense", Kind::Other),
        ("COMMIT", Kind::Commit { chain: false }),
        ("END WORK", Kind::Commit { chain: false }),
        ("COMMIT AND CHAIN", Kind::Commit { chain: true }),
        ("COMMIT AND NO CHAIN", Kind::Commit { chain: false }),
        ("ROLLBACK", Kind::Rollback { chain: false }),
        ("ABORT TRANSACTION AND CHAIN", Kind::Rollback { chain: true }),
        ("SAVEPOINT A", Kind::Savepoint("a".to_owned())),
        ("SAVEPOINT \"A\"", Kind::Savepoint("A".to_owned())),
        ("ROLLBACK TO a", Kind::RollbackTo("a".to_owned())),
        ("ROLLBACK WORK TO SAVEPOINT a", Kind::RollbackTo("a".to_owned())),
        ("RELEASE SAVEPOINT a", Kind::Release("a".to_owned())),
        ("RELEASE a", Kind::Release("a".to_owned())),
        ("PREPARE TRANSACTION 'x'", Kind::TwoPhase),
        ("COMMIT PREPARED 'x'", Kind::TwoPhase),
        ("ROLLBACK PREPARED 'x'", Kind::TwoPhase),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", Kind::SetTransaction),
        ("SET CONSTRAINTS ALL DEFERRED", Kind::SetTransaction),
        ("SET search_path TO a, b", set("search_path", false, ValueSlot::Tokens(3, 6))),
        ("SET SESSION statement_timeout = 5000", set("statement_timeout", false, ValueSlot::Literal(0))),
        ("SET LOCAL work_mem = '4MB'", set("work_mem", true, ValueSlot::Literal(0))),
        ("SET DateStyle = ISO", set("datestyle", false, ValueSlot::Tokens(3, 4))),
        ("SET x.y TO on", set("x.y", false, ValueSlot::Tokens(5, 6))),
        ("SET pgring.key = '42'", set("pgring.key", false, ValueSlot::Literal(0))),
        ("SET geqo TO DEFAULT", default("geqo")),
        ("SET U&\"work\\005fmem\" = '4MB'", set("work_mem", false, ValueSlot::Literal(0))),
        ("SAVEPOINT U&\"d\\0061t\"", Kind::Savepoint("dat".to_owned())),
        ("SET TIME ZONE 'UTC'", set("timezone", false, ValueSlot::Literal(0))),
        ("SET TIME ZONE LOCAL", default("timezone")),
        ("SET TIME ZONE -5", set("timezone", false, ValueSlot::Tokens(3, 5))),
        ("SET NAMES 'UTF8'", set("client_encoding", false, ValueSlot::Literal(0))),
        ("SET ROLE app", set("role", false, ValueSlot::Tokens(2, 3))),
        ("SET role TO app", set("role", false, ValueSlot::Tokens(3, 4))),
        ("SET SESSION AUTHORIZATION 'app'", set("session_authorization", false, ValueSlot::Literal(0))),
        ("SET SESSION AUTHORIZATION DEFAULT", default("session_authorization")),
        ("SET SCHEMA 'a'", set("search_path", false, ValueSlot::Literal(0))),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            set("session characteristics", false, ValueSlot::Tokens(5, 7)),
        ),
        ("RESET ALL", Kind::ResetAll),
        ("RESET TimeZone", reset("timezone")),
        ("RESET SESSION AUTHORIZATION", reset("session_authorization")),
        ("SHOW server_version", Kind::Query),
        ("SHOW pgring.route", Kind::ShowOwn("pgring.route".to_owned())),
        ("DISCARD ALL", Kind::DiscardAll),
        ("DISCARD TEMP", Kind::Discard),
        ("EXECUTE p", Kind::Execute("p".to_owned())),
        ("DEALLOCATE p", Kind::Deallocate(Some("p".to_owned()))),
        ("DEALLOCATE PREPARE p", Kind::Deallocate(Some("p".to_owned()))),
        ("DEALLOCATE ALL", Kind::Deallocate(None)),
        ("DECLARE c CURSOR FOR SELECT 1", Kind::Declare("c".to_owned())),
        ("LISTEN x", Kind::Listen),
        ("CREATE TABLE t (a int)", Kind::Ddl),
        ("VACUUM jobs", Kind::Maintenance),
        ("CREATE INDEX CONCURRENTLY i ON jobs (id)", Kind::Maintenance),
        ("COPY app_settings FROM STDIN", Kind::CopyIn),
        ("COPY app_settings TO STDOUT", Kind::CopyOut),
        ("SELECT 1", Kind::Query),
        ("INSERT INTO app_settings VALUES (1)", Kind::Write),
        ("WITH d AS (DELETE FROM app_settings RETURNING *) SELECT * FROM d", Kind::Write),
        ("WITH d AS (SELECT 1) UPDATE app_settings SET value = 1", Kind::Write),
        ("SELECT * FROM app_settings FOR UPDATE", Kind::Query),
        ("EXPLAIN DELETE FROM app_settings", Kind::Query),
        (
            "SELECT set_config('Search_Path', 'a', false)",
            config(&[("search_path", false, ValueSlot::Literal(1))]),
        ),
        (
            "SELECT set_config('timezone', NULL, false)",
            config(&[("timezone", false, ValueSlot::Tokens(5, 6))]),
        ),
        (
            "SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new",
            config(&[("jit", false, ValueSlot::Literal(2))]),
        ),
        (
            "SELECT set_config('jit', 'off', false), pg_catalog.current_setting('a.b', true)",
            config(&[("jit", false, ValueSlot::Literal(1))]),
        ),
        ("SELECT current_setting('jit')", Kind::Query),
        ("SELECT set_config('jit', 'off', false), current_setting($1)", Kind::Query),
        ("SELECT set_config('jit', 'off', false), current_setting('a' || 'b')", Kind::Query),
        ("SELECT pg_catalog.set_config('role', $1, true)", config(&[("role", true, ValueSlot::Param(1))])),
    ];
    for (sql, kind) in rows {
        assert_eq!(one(sql).kind, kind, "{sql}");
    }
}

#[test]
fn pins() {
    let rows = [
        ("SELECT 1", None),
        ("CREATE TEMP TABLE t (a int)", Some(Pin::TemporaryTable)),
        ("CREATE TEMPORARY VIEW v AS SELECT 1", Some(Pin::TemporaryTable)),
        ("SELECT 1 INTO TEMP t", Some(Pin::TemporaryTable)),
        ("CREATE TEMP SEQUENCE s", Some(Pin::TemporaryTable)),
        ("LISTEN x", Some(Pin::Listen)),
        ("UNLISTEN x", None),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Some(Pin::HoldCursor)),
        ("DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", None),
        ("SELECT pg_advisory_lock(1)", Some(Pin::AdvisoryLock)),
        ("SELECT pg_try_advisory_lock_shared(1) FROM app_settings", Some(Pin::AdvisoryLock)),
        ("SELECT pg_advisory_xact_lock(1)", None),
        ("LOAD 'x'", Some(Pin::Load)),
        ("PREPARE p AS SELECT pg_advisory_lock(1)", None),
        ("SELECT set_config('a', 'b', false)", None),
        ("SELECT set_config('a', 'b' || 'c', false)", Some(Pin::Setting)),
        ("SELECT set_config('a', 'b', $1)", Some(Pin::Setting)),
        ("SELECT 1 AS n INTO LOCAL TEMPORARY TABLE t", Some(Pin::TemporaryTable)),
        ("WITH x AS (SELECT 1 AS n) SELECT n INTO TEMP t FROM x", Some(Pin::TemporaryTable)),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n INTO TEMP t FROM r",
            Some(Pin::TemporaryTable),
        ),
        ("(SELECT 1 AS n INTO TEMP t)", Some(Pin::TemporaryTable)),
        ("SELECT 1 AS n INTO pg_temp.t", Some(Pin::TemporaryTable)),
        ("SELECT 1 AS n INTO \"pg_temp\".t", Some(Pin::TemporaryTable)),
        ("SELECT 1 AS n INTO U&\"pg_tem\\0070\".t", Some(Pin::TemporaryTable)),
        ("SELECT 1 AS n INTO t", None),
        ("SELECT 1 AS into", None),
        ("INSERT INTO app_settings SELECT 1", None),
        (
            "CREATE OR REPLACE FUNCTION \"pg_temp\".f() RETURNS int LANGUAGE sql AS ''",
            Some(Pin::TemporaryTable),
        ),
        ("CREATE TABLE pg_temp_11.t (n int)", Some(Pin::TemporaryTable)),
        ("CREATE OPERATOR pg_temp.=== (function = int4eq)", Some(Pin::TemporaryTable)),
        ("CREATE TABLE U&\"pg_tem\\0070\".t (n int)", Some(Pin::TemporaryTable)),
        ("CREATE TABLE U&\"pg_tem!0070\" UESCAPE '!' .t (n int)", Some(Pin::Unread)),
        ("CREATE TABLE pg_temporal.t (n int)", None),
        ("SELECT \"pg_advisory_lock\"(5)", Some(Pin::AdvisoryLock)),
        ("SELECT U&\"pg_advisory_loc\\006B\"(5)", Some(Pin::AdvisoryLock)),
        ("EXECUTE p(pg_advisory_lock(5))", Some(Pin::AdvisoryLock)),
        ("CREATE TABLE t AS WITH q AS (SELECT set_config('a', 'b', false)) TABLE q", Some(Pin::Setting)),
        ("CREATE TABLE t (n bigint DEFAULT currval('s'))", None),
        ("UPDATE pg_settings SET setting = '8192' WHERE name = 'work_mem'", Some(Pin::Setting)),
        ("UPDATE ONLY pg_catalog.\"pg_settings\" SET setting = '8192'", Some(Pin::Setting)),
        ("SELECT * FROM pg_settings", None),
        ("SET seed = 0.5", Some(Pin::Seed)),
        ("SELECT set_config('seed', '0.5', false)", Some(Pin::Seed)),
        ("SELECT setseed(0.5)", Some(Pin::Seed)),
        ("SELECT pg_replication_origin_session_setup('o')", Some(Pin::Replication)),
        ("SELECT pg_catalog.pg_backup_start('b', true)", Some(Pin::Replication)),
        ("SELECT dblink_connect('c', 'dbname=x')", Some(Pin::Unread)),
        ("SELECT query_to_xml('SELECT set_config(''a'', ''b'', false)', true, true, '')", Some(Pin::Call)),
        ("SELECT * FROM ts_stat('SELECT to_tsvector(''a'')')", Some(Pin::Call)),
        ("CALL p()", Some(Pin::Call)),
        ("DO $$BEGIN END$$", Some(Pin::Call)),
    ];
    for (sql, pin) in rows {
        assert_eq!(one(sql).pin, pin, "{sql}");
        let alone = shape_of(sql, &Schema::one_shard(), &["public"], true);
        assert_eq!(alone.statements[0].pin, pin, "{sql} with one shard");
    }
    // What is made without a schema is temporary where the path says so.
    let under = |sql: &str, path: &[&str]| {
        shape_of(sql, &Schema::one_shard(), path, true).statements.pop().and_then(|last| last.pin)
    };
    for sql in [
        "CREATE TABLE t (n int)",
        "SELECT 1 AS n INTO t",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS ''",
    ] {
        assert_eq!(under(sql, &["nowhere", "pg_temp"]), Some(Pin::TemporaryTable), "{sql}");
        let after_set = format!("SET search_path = pg_temp; {sql}");
        assert_eq!(under(&after_set, &["public"]), Some(Pin::TemporaryTable), "{after_set}");
    }
    // Nothing is left of it after the transaction; but it may have changed how the next statement
    // is read, which matters where there is something to route.
    let local = "SELECT set_config('a', 'b' || 'c', true)";
    assert_eq!(one(local).pin, Some(Pin::Setting));
    assert_eq!(shape_of(local, &Schema::one_shard(), &["public"], true).statements[0].pin, None);
}

#[test]
fn access() {
    let reads = [
        "SELECT * FROM jobs WHERE user_id = 1",
        "SELECT count(*), lower(name) FROM plans GROUP BY 2",
        "SHOW x",
        "BEGIN",
        "COPY app_settings TO STDOUT",
        "EXPLAIN SELECT 1",
    ];
    for sql in reads {
        assert_eq!(one(sql).access, Access::Read, "{sql}");
    }
    let writes = [
        "SELECT * FROM jobs WHERE user_id = 1 FOR UPDATE",
        "SELECT * FROM (SELECT * FROM jobs WHERE user_id = 1 FOR SHARE) x",
        "SELECT nextval('x')",
        "SELECT unknown_function()",
        "SELECT txid_current()",
        "WITH d AS (DELETE FROM app_settings RETURNING *) SELECT * FROM d",
        "EXPLAIN ANALYZE DELETE FROM app_settings",
        "CREATE TABLE t (a int)",
        "COPY app_settings FROM STDIN",
        "SELECT 1 INTO t",
    ];
    for sql in writes {
        assert_eq!(one(sql).access, Access::Write, "{sql}");
    }
}

/// Of a database with one shard, where it is to be proven; and where it is not, everything may write.
#[test]
fn reads_are_proven() {
    let steady = ["lower", "slugify", "top_users", "inet_server_port", "txid_current"];
    let steady: HashSet<String> = steady.iter().map(|&name| name.to_owned()).collect();
    let hidden = [Hidden::Operator("###".to_owned()), Hidden::CastTo("mood".to_owned())];
    let proof = || {
        schema().with_volatility(Arc::new(Volatility::new(steady.clone(), hidden.clone()))).to_prove_reads()
    };
    for (sql, expect) in [
        ("SELECT * FROM jobs", true),
        ("SELECT random(), now(), inet_server_port()", true),
        ("SELECT * FROM top_users()", true),
        ("SELECT slugify(name) FROM active_jobs", true),
        ("EXPLAIN SELECT * FROM jobs", true),
        ("COPY (SELECT * FROM jobs) TO STDOUT", true),
        ("COPY (SELECT * FROM jobs) TO '/tmp/jobs'", false),
        ("COPY (SELECT * FROM jobs) TO PROGRAM 'cat'", false),
        ("SELECT txid_current()", false),
        ("SELECT unknown_function()", false),
        ("SELECT * FROM jobs FOR UPDATE", false),
        ("SELECT * FROM jobs FOR KEY SHARE", false),
        ("SELECT 1 ### 2 FROM jobs", false),
        ("SELECT name::mood FROM jobs", false),
        ("SELECT * FROM no_such_table", false),
        ("SELECT * FROM broken_view", false),
        ("SELECT * FROM pg_stat_activity", false),
        ("SELECT pg_advisory_lock(1)", false),
        ("SELECT set_config('a', lower('B'), false)", false),
        ("WITH d AS (DELETE FROM app_settings RETURNING *) SELECT * FROM d", false),
        ("SELECT 1 INTO t", false),
        ("SELECT 'not closed", false),
        ("INSERT INTO plans VALUES (1)", false),
    ] {
        let of = |schema: &Schema| shape_of(sql, schema, &["public"], true).statements[0].clone();
        let (proven, passed_on) = (of(&proof()), of(&Schema::one_shard()));
        assert_eq!(proven.access == Access::Read, expect, "{sql}");
        assert_eq!(proven.target, Target::Nothing, "{sql}");
        assert_eq!(
            (passed_on.kind, passed_on.pin, Access::Write),
            (proven.kind, proven.pin, passed_on.access),
            "{sql}"
        );
    }
    assert_eq!(one("SELECT top_users()").access, Access::Write, "its volatility is not known");
}

#[test]
fn one_shard_takes_everything() {
    let schema = Schema::one_shard();
    for sql in
        ["SELECT * FROM jobs", "SELEC (", "CALL f()", "COPY jobs FROM STDIN", "COMMIT PREPARED 'x'", "'"]
    {
        let shape = shape_of(sql, &schema, &["public"], true);
        assert!(shape.statements.iter().all(|s| s.target == Target::Nothing), "{sql}: {shape:?}");
    }
    let deep = format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert_eq!(shape_of(&deep, &schema, &["public"], true).statements[0].target, Target::Nothing);
}
