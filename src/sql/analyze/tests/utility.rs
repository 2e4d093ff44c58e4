//! Statements on the schema, and those that carry others.

use super::check;

#[test]
fn schema_changes() {
    check(&[
        ("CREATE TABLE t (id int, user_id bigint)", "each", "it has the key"),
        ("CREATE TABLE t (id int, \"user_id\" bigint)", "each", "quoted"),
        ("CREATE TABLE IF NOT EXISTS s.t (user_id bigint PRIMARY KEY, x int)", "each", "it has the key"),
        ("CREATE TABLE t (id int, x numeric(3,2))", "home", "it has not"),
        ("CREATE TABLE t (id int CHECK (user_id > 0))", "home", "not a column"),
        ("CREATE TABLE t (LIKE jobs INCLUDING ALL)", "each", "like a sharded one"),
        ("CREATE TABLE t (x int) INHERITS (jobs)", "each", "a child of a sharded one"),
        ("CREATE TABLE jobs_2026 PARTITION OF jobs FOR VALUES IN (1)", "each", "a partition of a sharded one"),
        ("CREATE TABLE plans (id int)", "each", "the snapshot says where"),
        ("CREATE TABLE t AS SELECT * FROM jobs WHERE user_id = 7", "refused: filled", "a part on each shard"),
        ("CREATE TABLE t AS SELECT * FROM app_settings", "home", "from the home shard"),
        ("CREATE TEMP TABLE t (user_id int)", "home", "temporary"),
        ("CREATE TEMPORARY TABLE jobs (id int)", "refused: temporary table", "it would hide the sharded one"),
        ("SELECT * INTO t FROM jobs WHERE user_id = 7", "refused: filled", "as CREATE TABLE AS"),
        ("SELECT * INTO TEMP t FROM app_settings", "home", "as CREATE TABLE AS"),
        ("SELECT s.* INTO t FROM app_settings s, jobs", "refused: from sharded tables", "whose rows are not all there"),
        ("CREATE INDEX ON jobs (name)", "each", "of a sharded table"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON public.jobs USING btree (name)", "each", "of a sharded table"),
        ("CREATE INDEX i ON app_settings (value)", "home", "of another"),
        ("CREATE VIEW v AS SELECT * FROM jobs", "each", "on a sharded table"),
        ("CREATE OR REPLACE VIEW v AS SELECT * FROM active_jobs", "each", "on a view on one"),
        ("CREATE VIEW v AS SELECT * FROM app_settings", "home", "on another"),
        ("CREATE MATERIALIZED VIEW v AS SELECT count(*) FROM jobs", "refused: materialized", "a part on each shard"),
        ("CREATE SEQUENCE s", "home", "sequences live at home"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; SELECT 2 $$", "each", "schema-wide"),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END; SELECT 1", "each; nothing", "semicolons within the body"),
        ("CREATE RULE r AS ON INSERT TO jobs DO ALSO (SELECT 1; SELECT 2)", "each", "semicolons in parentheses"),
        ("CREATE TYPE mood AS ENUM ('a')", "each", "schema-wide"),
        ("CREATE SCHEMA s", "each", "schema-wide"),
        ("CREATE EXTENSION hstore", "each", "schema-wide"),
        ("CREATE ROLE r", "each", "each server has its own"),
        ("CREATE DATABASE d", "refused: whole server", "no"),
        ("ALTER TABLE jobs ADD COLUMN x int", "each", "sharded"),
        ("ALTER TABLE IF EXISTS ONLY public.jobs ADD x int", "each", "sharded"),
        ("ALTER TABLE app_settings ADD COLUMN x int", "home", "not sharded"),
        ("ALTER TABLE plans ADD COLUMN x int", "each", "reference"),
        ("ALTER INDEX i RENAME TO j", "each", "its table is not known"),
        ("ALTER SYSTEM SET x = 1", "refused: whole server", "no"),
        ("DROP TABLE jobs", "each", "sharded"),
        ("DROP TABLE IF EXISTS jobs, users CASCADE", "each", "both sharded"),
        ("DROP TABLE app_settings", "home", "not sharded"),
        ("DROP TABLE jobs, app_settings", "refused: sharded tables and tables of the home", "of two kinds"),
        ("DROP VIEW active_jobs", "each", "a view on a sharded table"),
        ("DROP VIEW settings_view", "home", "a view of the home shard"),
        ("DROP INDEX i", "each", "its table is not known"),
        ("TRUNCATE jobs, users", "each", "sharded"),
        ("TRUNCATE TABLE ONLY app_settings RESTART IDENTITY", "home", "not sharded"),
        ("GRANT SELECT ON jobs TO app", "each", "sharded"),
        ("GRANT SELECT, INSERT ON TABLE app_settings TO app", "home", "not sharded"),
        ("GRANT admins TO app", "each", "roles"),
        ("GRANT ALL ON ALL TABLES IN SCHEMA public TO app", "each", "all of them"),
        ("REVOKE SELECT (name) ON jobs FROM app", "each", "sharded"),
        ("COMMENT ON TABLE jobs IS 'x'", "each", "sharded"),
        ("COMMENT ON COLUMN jobs.name IS 'x'", "each", "a column of a sharded one"),
        ("COMMENT ON COLUMN public.app_settings.value IS 'x'", "home", "of another"),
        ("COMMENT ON FUNCTION f() IS 'x'", "each", "schema-wide"),
    ]);
}

#[test]
fn maintenance() {
    check(&[
        ("VACUUM", "each", "all tables"),
        ("VACUUM (FULL, ANALYZE) jobs", "each", "sharded"),
        ("VACUUM FULL app_settings", "home", "not sharded"),
        ("ANALYZE jobs (name), users", "each", "sharded"),
        ("ANALYZE", "each", "all tables"),
        ("REINDEX TABLE CONCURRENTLY app_settings", "home", "not sharded"),
        ("REINDEX INDEX i", "each", "its table is not known"),
        ("CLUSTER jobs USING i", "each", "sharded"),
        ("REFRESH MATERIALIZED VIEW v", "home", "on the home shard only"),
        ("LOCK TABLE jobs IN EXCLUSIVE MODE", "each", "sharded"),
        ("LOCK app_settings", "home", "not sharded"),
        ("CHECKPOINT", "each", "all servers"),
    ]);
}

#[test]
fn carriers() {
    check(&[
        ("EXPLAIN SELECT * FROM jobs WHERE user_id = 7", "keys[lit0] colocated", "as its statement"),
        ("EXPLAIN ANALYZE VERBOSE DELETE FROM jobs WHERE user_id = 7", "keys[lit0] colocated", "as its statement"),
        ("EXPLAIN (ANALYZE, FORMAT json) SELECT * FROM jobs", "everywhere jobs.user_id", "as its statement"),
        ("EXPLAIN (SELECT 1)", "nothing", "no options"),
        ("EXPLAIN ANALYZE EXECUTE p(1)", "nothing", "a prepared one"),
        ("EXPLAIN EXPLAIN SELECT 1", "home", "nonsense is the server's to refuse"),
        ("DECLARE c CURSOR FOR SELECT * FROM jobs WHERE user_id = 7", "keys[lit0] colocated", "as its query"),
        ("DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT * FROM app_settings", "home", "as its query"),
        ("FETCH 10 FROM c", "nothing", "the transaction's shard"),
        ("COPY jobs TO STDOUT", "everywhere jobs.user_id", "all rows"),
        ("COPY jobs FROM STDIN", "everywhere jobs.user_id", "split by each row's key"),
        ("COPY jobs (id, user_id) FROM STDIN WITH (FORMAT csv)", "everywhere jobs.user_id", "split by each row's key"),
        ("COPY app_settings FROM STDIN", "home", "not sharded"),
        ("COPY plans TO STDOUT", "reference", "any copy"),
        ("COPY jobs TO '/tmp/x'", "refused: file", "one server's file"),
        ("COPY jobs FROM PROGRAM 'x'", "refused: file", "one server's program"),
        ("COPY (SELECT * FROM jobs WHERE user_id = 7) TO STDOUT", "keys[lit0] colocated", "as its query"),
        ("COPY (DELETE FROM jobs WHERE user_id = 7 RETURNING *) TO STDOUT", "keys[lit0] colocated", "as its statement"),
        ("PREPARE p AS SELECT * FROM jobs WHERE user_id = $1", "nothing", "any shard has the table"),
        ("PREPARE p AS SELECT * FROM jobs JOIN app_settings ON user_id = 1", "home", "the home shard has both"),
        ("PREPARE p AS SELECT * FROM jobs, app_settings", "home", "the home shard has both"),
        ("PREPARE p(int) AS SELECT * FROM app_settings", "home", "it is known"),
        ("EXECUTE p(1)", "nothing", "wherever what it executes does"),
        ("CALL f()", "refused: CALL", "any table"),
        ("DO $$ BEGIN END $$", "refused: DO", "any table"),
    ]);
}

#[test]
fn what_cannot_be_read() {
    check(&[
        ("SELEC * FROM jobs", "refused: cannot be read", "it names a sharded table"),
        ("SELEC * FROM app_settings", "home", "it does not"),
        ("SELEC query_to_xml('SELECT * FROM jobs')", "refused: cannot be read", "it may, in a string"),
        ("SELECT * FROM jobs WHERE (", "refused: cannot be read", "not SQL"),
        ("SELECT * FROM pg_class WHERE (", "catalog", "catalogs only"),
        ("SELECT * FROM jobs qualify WHERE user_id = 7", "refused: cannot be read", "another dialect's clause"),
        ("SELECT 'unterminated", "refused: unterminated quoted string", "no tokens"),
        ("SELECT * FROM jobs WHERE user_id = 7 garbage garbage", "refused: cannot be read", "what is left over"),
    ]);
}
