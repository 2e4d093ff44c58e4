//! What the schema says beside where rows are: tables that a query fills, names that the configuration
//! knows, rules, defaults, operators and casts that do more than a statement's words.

use pgring::demo::cluster::{Cluster, SUPERUSER};
use pgring::demo::sample::APP;
use pgring::ring::Key;

use crate::support::raw::{Frame, Raw};
use crate::support::{self, Config, Proxy, eventually};

struct Stage {
    proxy: Proxy,
    name: String,
    servers: Vec<&'static Cluster>,
}

const TABLES: &str = "
    CREATE TABLE t (user_id bigint NOT NULL, id integer NOT NULL, x bigint, tags text[], doc jsonb,
                    PRIMARY KEY (user_id, id));
    CREATE TABLE plans (id integer PRIMARY KEY, name text);
    INSERT INTO plans VALUES (1, 'a'), (2, 'b');
    CREATE SCHEMA s2;
    CREATE TYPE mood AS ENUM ('sad', 'ok');";

impl Stage {
    fn new() -> Stage {
        let servers = support::servers(3);
        let name = support::database(&servers, TABLES);
        servers[0].psql(APP, &name, "CREATE TABLE settings (key text PRIMARY KEY, value text)").unwrap();
        let stage = Stage { proxy: Proxy::start(Config::new().database(&name, &servers)), name, servers };
        let mut session = stage.session();
        let rows = (1..=30).map(|key| format!("({key}, 1, {key}), ({key}, 2, {key})"));
        let rows = rows.collect::<Vec<_>>().join(", ");
        assert_eq!(code(&session.query(&format!("INSERT INTO t (user_id, id, x) VALUES {rows}"))), "");
        stage
    }

    fn session(&self) -> Raw {
        Raw::login(&self.proxy.address(), APP, &self.name)
    }

    fn on_each(&self, sql: &str) {
        for server in &self.servers {
            server.psql(SUPERUSER, &self.name, sql).unwrap();
        }
    }

    /// What the servers say, in order.
    fn each_says(&self, sql: &str) -> Vec<String> {
        let says = |server: &&Cluster| server.psql(APP, &self.name, sql).unwrap().trim().to_owned();
        self.servers.iter().map(says).collect()
    }

    /// How many of the servers have it.
    fn count(&self, relation: &str) -> usize {
        let found = self.each_says(&format!("SELECT to_regclass('{relation}') IS NOT NULL"));
        found.iter().filter(|has| *has == "t").count()
    }
}

/// The SQLSTATE that a statement fails with.
fn code(frames: &[Frame]) -> String {
    frames.iter().find(|frame| frame.tag == b'E').map(Frame::code).unwrap_or_default()
}

fn check(session: &mut Raw, rows: &[(&str, &str)]) {
    for (sql, expect) in rows {
        let answer = session.query(sql);
        assert_eq!(code(&answer), *expect, "{sql}: {answer:?}");
        if *expect == "0A000" {
            let error = answer.iter().find(|frame| frame.tag == b'E').unwrap();
            assert!(error.field(b'H').is_some(), "{sql} has a hint");
        }
    }
}

/// A key of each shard, in their order.
fn keys() -> Vec<i64> {
    let topology = support::topology(3);
    let owned = |shard| (1..30).find(|key| topology.owner(Key::Integer(*key).hash()).index() == shard);
    (0..3).filter_map(owned).collect()
}

#[test]
fn a_filled_table_has_its_rows_once() {
    let stage = Stage::new();
    let mut session = stage.session();
    let empty =
        "CREATE TABLE l6 AS SELECT g::bigint AS user_id, 1 AS x FROM generate_series(1, 9) g WITH NO DATA";
    check(
        &mut session,
        &[
            ("CREATE TABLE l1 (user_id, x) AS VALUES (1, 2), (3, 4)", "0A000"),
            ("CREATE TABLE l2 AS SELECT 1 AS user_id", "0A000"),
            ("CREATE TABLE l3 (user_id, x) AS TABLE plans", "0A000"),
            ("SELECT 5 AS user_id INTO l4", "0A000"),
            ("CREATE TABLE l5 AS SELECT * FROM not_known", "0A000"),
            (empty, ""),
            ("INSERT INTO l6 SELECT g, 1 FROM generate_series(1, 9) g", ""),
            ("CREATE TABLE l7 AS SELECT * FROM t WITH NO DATA", ""),
            ("INSERT INTO l7 SELECT * FROM t", ""),
            ("CREATE TABLE l8 AS SELECT id, name FROM plans", ""),
        ],
    );
    for (sql, expect) in [
        ("SELECT count(*) FROM l6", "9"),
        ("SELECT count(*) FROM l7", "60"),
        ("SELECT count(*) FROM l8", "2"),
    ] {
        assert_eq!(session.value(sql), expect, "{sql}");
    }
    for (relation, servers) in [("l1", 0), ("l2", 0), ("l4", 0), ("l6", 3), ("l7", 3), ("l8", 1)] {
        assert_eq!(stage.count(relation), servers, "{relation}");
    }
}

#[test]
fn rows_of_the_home_shard_do_not_become_unreachable() {
    let stage = Stage::new();
    let mut session = stage.session();
    check(
        &mut session,
        &[
            ("ALTER TABLE settings ADD COLUMN user_id bigint", "0A000"),
            ("ALTER TABLE settings RENAME COLUMN key TO user_id", "0A000"),
            ("ALTER TABLE settings ADD COLUMN owner bigint", ""),
            ("BEGIN", ""),
            ("CREATE TABLE fresh (id int)", ""),
            ("ALTER TABLE fresh ADD COLUMN user_id bigint", "0A000"),
            ("ROLLBACK", ""),
            // A table of a name that is configured, in another schema.
            ("CREATE TABLE s2.plans (id int)", ""),
            ("INSERT INTO s2.plans VALUES (1)", ""),
            ("SET search_path = s2, public", ""),
            ("INSERT INTO plans VALUES (2)", ""),
            ("RESET search_path", ""),
        ],
    );
    assert_eq!(stage.each_says("SELECT count(*) FROM s2.plans"), ["2", "2", "2"]);
    assert_eq!(stage.each_says("SELECT count(*) FROM plans"), ["2", "2", "2"]);
}

#[test]
fn what_acts_without_a_word_is_refused() {
    let stage = Stage::new();
    let key = keys()[1];
    let mut session = stage.session();
    check(
        &mut session,
        &[
            ("CREATE RULE r AS ON INSERT TO t DO ALSO UPDATE plans SET name = 'x'", "0A000"),
            ("CREATE FUNCTION f_stab() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM t'", ""),
            ("CREATE TABLE dd (user_id bigint, x bigint DEFAULT f_stab())", "0A000"),
            ("ALTER TABLE t ALTER x SET DEFAULT f_stab()", "0A000"),
        ],
    );
    stage.on_each(
        "CREATE TABLE ruled (user_id bigint, x int);
         CREATE RULE r AS ON INSERT TO ruled DO ALSO INSERT INTO t (user_id, id) VALUES (NEW.user_id + 1, 99);
         CREATE DOMAIN counted AS bigint DEFAULT f_stab();
         CREATE TABLE dd (user_id bigint, x bigint DEFAULT f_stab(), y counted, z int DEFAULT 3);
         CREATE FUNCTION op(int, int) RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM t';
         CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = op);
         CREATE FUNCTION as_int(mood) RETURNS int STABLE LANGUAGE sql AS 'SELECT count(*)::int FROM t';
         CREATE CAST (mood AS int) WITH FUNCTION as_int(mood);
         GRANT ALL ON ruled, dd TO app",
    );
    eventually("the schema is read", || code(&session.query("SELECT 'ok'::mood::int")) == "0A000");
    let insert = |columns: &str, values: &str| format!("INSERT INTO dd ({columns}) VALUES ({key}, {values})");
    check(
        &mut session,
        &[
            (&format!("INSERT INTO ruled VALUES ({key}, 1)"), "0A000"),
            (&format!("DELETE FROM ruled WHERE user_id = {key}"), "0A000"),
            (&format!("SELECT * FROM ruled WHERE user_id = {key}"), ""),
            (&insert("user_id, x", "1"), "0A000"),
            (&insert("user_id, x, y", "1, DEFAULT"), "0A000"),
            (&insert("user_id, x, y", "1, 1"), ""),
            ("SELECT 1 ### 2", "0A000"),
            ("SELECT 1 # 2", ""),
            ("SELECT 'ok'::mood", ""),
        ],
    );
    assert_eq!(session.value("SELECT z FROM dd"), "3");
}

#[test]
fn the_size_of_a_sharded_table_is_not_one_shards() {
    let stage = Stage::new();
    check(
        &mut stage.session(),
        &[
            ("SELECT pg_total_relation_size('t')", "0A000"),
            ("SELECT pg_table_size('t'::regclass)", "0A000"),
            ("SELECT pg_relation_size('t_pkey')", "0A000"),
            ("/* pgring: shard=s2 */ SELECT pg_total_relation_size('t')", ""),
            ("SELECT pg_relation_size('settings')", ""),
            ("SELECT pg_relation_size('plans')", ""),
            ("SELECT relname, pg_table_size(oid) FROM pg_class", ""),
        ],
    );
}

#[test]
fn the_row_of_a_cursor_is_on_its_shard() {
    let stage = Stage::new();
    let mut session = stage.session();
    for key in keys() {
        let query = format!("SELECT id FROM t WHERE user_id = {key} ORDER BY id FOR NO KEY UPDATE");
        check(
            &mut session,
            &[
                ("BEGIN", ""),
                (&format!("DECLARE c CURSOR FOR {query}"), ""),
                ("FETCH c", ""),
                ("UPDATE t SET x = -1 WHERE CURRENT OF c", ""),
                ("FETCH c", ""),
                ("DELETE FROM t WHERE CURRENT OF c", ""),
                ("COMMIT", ""),
            ],
        );
        let left = format!("SELECT string_agg(id || ' ' || x, ',') FROM t WHERE user_id = {key}");
        assert_eq!(session.value(&left), "1 -1");
    }
    check(
        &mut session,
        &[
            ("BEGIN", ""),
            ("DECLARE c CURSOR FOR SELECT id FROM t", ""),
            ("FETCH c", ""),
            ("UPDATE t SET x = 0 WHERE CURRENT OF c", "0A000"),
            ("ROLLBACK", ""),
        ],
    );
    assert_eq!(session.value("SELECT count(*) FROM t WHERE x = -1"), "3");
}

#[test]
fn what_one_shard_has_is_not_refused_as_of_several() {
    let stage = Stage::new();
    let mut session = stage.session();
    let key = keys()[2];
    check(
        &mut session,
        &[
            ("DECLARE h CURSOR WITH HOLD FOR SELECT id FROM t", "0A000"),
            ("DECLARE h CURSOR FOR SELECT id FROM t", "25P01"),
            ("PREPARE p (bigint) AS SELECT count(*) FROM t WHERE user_id = $1", ""),
            ("EXECUTE p(1 + 2)", "0A000"),
            ("EXECUTE p(1.5)", "0A000"),
        ],
    );
    for argument in [format!("{key}"), format!("{key}.0"), format!("{key}.")] {
        assert_eq!(session.value(&format!("EXECUTE p({argument})")), "2", "{argument}");
    }
    let set = format!(
        "UPDATE t SET tags[2] = 'b', doc['a'] = '1' WHERE user_id = {key} AND id BETWEEN SYMMETRIC 2 AND 1"
    );
    check(&mut session, &[(&set, ""), ("UPDATE t SET tags[1] = 'a'", "")]);
    let read = format!("SELECT tags::text || doc FROM t WHERE user_id = {key} AND id = 1 FOR NO KEY UPDATE");
    assert_eq!(session.value(&read), "{a,b}{\"a\": 1}");
}

#[test]
fn what_is_made_in_a_transaction_is_changed_everywhere() {
    let stage = Stage::new();
    let mut session = stage.session();
    check(
        &mut session,
        &[
            ("BEGIN", ""),
            ("CREATE TABLE fresh (user_id bigint, x int)", ""),
            ("ALTER TABLE fresh ADD COLUMN y int", ""),
            ("CREATE INDEX fresh_x ON fresh (x)", ""),
            ("COMMENT ON TABLE fresh IS 'new'", ""),
            ("COMMIT", ""),
            ("INSERT INTO fresh (user_id) VALUES (1), (2), (3), (4), (5), (6)", ""),
        ],
    );
    let columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'fresh'::regclass AND attnum > 0";
    assert_eq!(stage.each_says(columns), ["3"; 3]);
    assert_eq!(stage.count("fresh_x"), 3);
    // Whose rows they are, and what is unique among them, is not known before.
    for statement in [
        "INSERT INTO newer VALUES (1)",
        "COPY newer FROM STDIN",
        "SELECT * FROM newer",
        "SELECT * FROM t JOIN newer USING (user_id)",
        "CREATE UNIQUE INDEX ON newer (x)",
    ] {
        check(
            &mut session,
            &[
                ("BEGIN", ""),
                ("CREATE TABLE newer (user_id bigint, x int)", ""),
                (statement, "0A000"),
                ("ROLLBACK", ""),
            ],
        );
    }
    check(&mut session, &[("BEGIN", ""), ("SELECT * FROM newer", "42P01"), ("ROLLBACK", "")]);
}
