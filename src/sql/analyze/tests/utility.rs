//! Statements on the schema, and those that carry others.

use super::{check, check_under};

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
        ("CREATE RULE r AS ON INSERT TO app_settings DO ALSO (SELECT 1; SELECT 2)", "home", "semicolons in parentheses"),
        ("CREATE RULE r AS ON INSERT TO jobs DO ALSO (SELECT 1; SELECT 2)", "refused: a rule", "what it makes of a statement is not routed"),
        ("CREATE OR REPLACE RULE r AS ON UPDATE TO app_settings DO ALSO DELETE FROM jobs", "refused: a rule", "nor this"),
        ("CREATE TRIGGER t BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION touch()", "each", "it may change the row itself"),
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
fn filled_tables() {
    check(&[
        ("CREATE TABLE t (user_id, x) AS VALUES (1, 2)", "refused: filled at once", "each shard would have every row"),
        ("CREATE TABLE t AS SELECT 1 AS user_id", "refused: filled at once", "named in the query"),
        ("CREATE UNLOGGED TABLE t AS SELECT 1 user_id, 2", "refused: filled at once", "without AS"),
        ("CREATE TABLE t AS SELECT a.user_id FROM app_settings a", "refused: filled at once", "by its column's name"),
        ("CREATE TABLE t (x) AS SELECT 1, 2 AS user_id", "refused: filled at once", "the list names the first only"),
        ("CREATE TABLE t AS SELECT max(user_id) FROM app_settings", "refused: filled at once", "who knows what name PostgreSQL gives it"),
        ("CREATE TABLE t AS SELECT user_id AS owner FROM app_settings", "home", "it has another name"),
        ("CREATE TABLE t AS SELECT key FROM app_settings WHERE user_id = 3", "home", "only a condition"),
        ("CREATE TABLE t AS SELECT id, 2 FROM plans", "home", "a reference table's rows, once"),
        ("CREATE TABLE t AS TABLE plans", "home", "its columns are known"),
        ("CREATE TABLE t AS TABLE other.owned", "refused: filled at once", "one of its columns is the key"),
        ("CREATE TABLE t AS SELECT * FROM other.owned o", "refused: filled at once", "one of its columns is the key"),
        ("CREATE TABLE t AS SELECT count(*) FROM app_settings", "home", "no column's name"),
        ("CREATE TABLE t AS SELECT g * 2 AS x FROM generate_series(1, 3) g", "home", "a product"),
        ("CREATE TABLE t AS SELECT * FROM nosuch", "refused: cannot be told", "its columns are not known"),
        ("CREATE TABLE t AS SELECT x, y FROM nosuch", "home", "they are named"),
        ("CREATE TABLE t AS SELECT * FROM slugify('x')", "refused: cannot be told", "what it returns is not known"),
        ("CREATE TABLE t AS WITH a AS (SELECT 1 AS user_id) SELECT * FROM a", "refused: filled at once", "in WITH"),
        ("CREATE TABLE t AS EXECUTE p", "refused: cannot be told", "the statement is not here"),
        ("CREATE TEMP TABLE t AS SELECT 1 AS user_id", "home", "temporary"),
        ("CREATE TABLE plans AS SELECT 1 AS id", "refused: filled at once", "each copy would be made on its own"),
        ("CREATE TABLE t AS SELECT 1 AS user_id WITH NO DATA", "each", "no rows"),
        ("CREATE TABLE t AS SELECT * FROM jobs WITH NO DATA", "each", "no rows"),
        ("CREATE TABLE t AS SELECT name FROM jobs WITH NO DATA", "home", "no rows, no key"),
        ("SELECT 5 AS user_id INTO t", "refused: filled at once", "as CREATE TABLE AS"),
        ("SELECT key INTO t FROM app_settings", "home", "as CREATE TABLE AS"),
        ("SELECT * INTO t FROM other.owned", "refused: filled at once", "as CREATE TABLE AS"),
        ("SELECT 5 AS user_id INTO TEMP t", "home", "temporary"),
        ("SELECT 1 AS id INTO plans", "refused: filled at once", "as CREATE TABLE AS"),
    ]);
}

#[test]
fn configured_names() {
    check(&[
        ("CREATE TABLE s2.plans (id int)", "each", "the configuration says so of the name in any schema"),
        ("CREATE TABLE s2.users (id int)", "each", "its key is configured"),
        ("CREATE TABLE other.parts (id int)", "each", "by its full name"),
        ("CREATE TABLE parts (id int)", "home", "in another schema"),
        ("CREATE TABLE s2.users (id int, email text UNIQUE)", "each", "looked at when it runs"),
    ]);
    check_under(&["s2", "public"], true, &[
        ("CREATE TABLE plans (id int)", "each", "made in s2"),
    ]);
}

#[test]
fn tables_of_the_home_shard_stay_there() {
    check(&[
        ("ALTER TABLE app_settings ADD COLUMN user_id bigint", "refused: would be sharded by it", "its rows are at home"),
        ("ALTER TABLE app_settings ADD x int, ADD user_id bigint", "refused: would be sharded by it", "its rows are at home"),
        ("ALTER TABLE app_settings RENAME COLUMN key TO user_id", "refused: would be sharded by it", "its rows are at home"),
        ("ALTER TABLE app_settings RENAME TO plans", "refused: cannot become \"plans\"", "a copy would be missing"),
        ("ALTER TABLE app_settings SET SCHEMA other", "home", "its name says nothing there"),
        ("ALTER TABLE parts SET SCHEMA other", "refused: cannot become \"parts\"", "its name says something there"),
        ("ALTER TABLE made_a_moment_ago ADD COLUMN user_id bigint", "refused: would be sharded by it", "made at home"),
        ("ALTER TABLE app_settings RENAME COLUMN key TO name", "home", "any other name"),
        ("ALTER TABLE app_settings ADD owner bigint REFERENCES users", "refused: only a part", "a foreign key to rows elsewhere"),
        ("CREATE TABLE t (id int, owner bigint REFERENCES users (id))", "refused: only a part", "a foreign key to rows elsewhere"),
        ("CREATE TABLE t (id int, plan bigint REFERENCES plans (id))", "home", "there is a copy"),
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
