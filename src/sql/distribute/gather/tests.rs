//! A statement; what is fetched from where for each copy; what runs over the copies.

use std::cell::Cell;

use super::super::super::analyze::Context;
use super::super::super::schema::{
    Carriage, ColumnDetail, Function, Schema, Table, TableDetail, TableKind, TextOrder,
};
use super::super::super::shape::{KeySlot, KeyType};
use super::super::{Gather, Impossible, Source};
use super::plan;

/// `name type, name type`; the primary key's columns are marked with `!`.
fn table(name: &str, columns: &str, kind: TableKind) -> Table {
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    let mut table = Table {
        schema: schema.to_owned(),
        name: name.to_owned(),
        columns: Vec::new(),
        kind,
        detail: TableDetail { transparent: !name.starts_with("secret"), ..TableDetail::default() },
    };
    for (number, column) in columns.split(", ").enumerate() {
        let (name, type_name) = column.split_once(' ').unwrap_or((column, "text"));
        if type_name.ends_with('!') {
            table.detail.primary_key.push(number);
        }
        let type_name = type_name.trim_end_matches('!');
        table.columns.push(name.to_owned());
        table.detail.columns.push(detail(type_name));
        table.detail.carriage.push(match type_name {
            "public.mood[]" => Carriage::AsTexts,
            "public.pair[]" | "regclass" => Carriage::Never,
            _ => Carriage::Binary,
        });
    }
    table
}

fn detail(type_name: &str) -> ColumnDetail {
    ColumnDetail {
        type_name: type_name.to_owned(),
        builtin: !type_name.starts_with("public."),
        text_order: if type_name == "text" { TextOrder::Language } else { TextOrder::ByType },
        default_collation: true,
        not_null: false,
        default: None,
        generated: false,
        identity: false,
    }
}

fn schema() -> Schema {
    let by = |key| TableKind::Sharded { key, key_type: KeyType::Integer };
    let view = |definition: &str| TableKind::View { definition: definition.to_owned() };
    let mut tables = vec![
        table("users", "id bigint!, email text, name text, plan_id integer", by(0)),
        table(
            "jobs",
            "id bigint!, user_id bigint, name text, status public.mood, tags public.mood[], pairs public.pair[]",
            by(1),
        ),
        table("runs", "id bigint!, job_id bigint, user_id bigint, status text", by(2)),
        table("Mixed", "id bigint!, user_id bigint", by(1)),
        table("secret_notes", "id bigint!, user_id bigint, body text", by(1)),
        table("oids", "user_id bigint, relation regclass", by(0)),
        table("plans", "id integer!, name text", TableKind::Reference),
        table("settings", "key text!, value text", TableKind::Home),
        table("other.jobs", "id bigint!, note text", TableKind::Home),
        table(
            "active_jobs",
            "user_id bigint, id bigint, name text",
            view("SELECT jobs.user_id, jobs.id, jobs.name FROM public.jobs WHERE (jobs.name <> ''::text);"),
        ),
        table(
            "job_counts",
            "name text, n bigint",
            view(
                "SELECT j.name, count(*) AS n FROM public.jobs j WHERE (j.name <> ''::text) GROUP BY j.name;",
            ),
        ),
        table(
            "counts_of_counts",
            "n bigint, times bigint",
            view("SELECT job_counts.n, count(*) AS times FROM public.job_counts GROUP BY job_counts.n;"),
        ),
        table("note_counts", "n bigint", view("SELECT count(*) AS n FROM public.secret_notes;")),
        table("setting_keys", "key text", view("SELECT settings.key FROM public.settings;")),
        table("secret_counts", "n bigint", view("SELECT count(*) AS n FROM public.jobs;")),
    ];
    let mut unknown = table("unread", "", by(0));
    unknown.columns = vec!["user_id".to_owned(), "note".to_owned()];
    unknown.detail = TableDetail::default();
    tables.push(unknown);
    let function =
        |name: &str, immutable| Function { schema: "public".to_owned(), name: name.to_owned(), immutable };
    Schema::new(1, tables, vec![function("slugify", true), function("top_users", false)])
}

fn planned(sql: &str, schema: &Schema) -> Result<Gather, Impossible> {
    let search_path = ["public".to_owned()];
    let cx = Context {
        schema,
        search_path: &search_path,
        standard_conforming_strings: true,
        default_key: "user_id",
        unknown: &Cell::new(false),
    };
    plan(sql.as_bytes(), &cx)
}

fn shown(plan: &Result<Gather, Impossible>) -> String {
    let gather = match plan {
        Ok(gather) => gather,
        Err(impossible) => return format!("impossible: {}", impossible.message),
    };
    let mut lines = Vec::new();
    for shadow in &gather.tables {
        let source = match &shadow.source {
            Source::EachShard => "each".to_owned(),
            Source::AnyShard => "any".to_owned(),
            Source::Home => "home".to_owned(),
            Source::Owners(keys) => {
                let slot = |slot| match slot {
                    KeySlot::Literal(n) => format!("lit{n}"),
                    KeySlot::Param(n) => format!("${n}"),
                    KeySlot::ParamArray(n) => format!("${n}[]"),
                    other => format!("{other:?}"),
                };
                keys.iter().map(|key| slot(key.slot)).collect::<Vec<_>>().join(" ")
            }
        };
        lines.push(format!("{source}: {}", shadow.fetch.replace('"', "").replace("public.", "")));
        if !shadow.constraint.is_empty() {
            let key = shadow.constraint.split_once("ADD ").map_or("", |(_, key)| key);
            lines.push(key.replace('"', ""));
        }
    }
    lines.push(gather.sql.replace("pg_temp.\"pgring_", "\"@"));
    lines.join("\n")
}

/// Blocks of `> statement`, and what is expected of it; `# why`. `impossible: x` expects that `x` is in
/// the message.
fn check(blocks: &str) {
    let schema = schema();
    let mut wrong = Vec::new();
    for block in blocks.trim().split("\n\n") {
        let lines = || block.lines().filter(|line| !line.starts_with("# "));
        let statement: Vec<&str> = lines().filter_map(|line| line.strip_prefix("> ")).collect();
        let expect: Vec<&str> = lines().filter(|line| !line.starts_with("> ")).collect();
        let (statement, expect) = (statement.join("\n"), expect.join("\n"));
        let found = shown(&planned(&statement, &schema));
        let same = match expect.strip_prefix("impossible: ") {
            Some(part) => found.starts_with("impossible: ") && found.contains(part),
            None => found == expect,
        };
        if !same {
            wrong.push(format!("{statement}\n  found\n{found}\n  expects\n{expect}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn the_parts_of_a_copy() {
    let gather = planned("SELECT name, count(*) FROM users GROUP BY id", &schema()).expect("a plan");
    let [shadow] = gather.tables.as_slice() else { panic!("{gather:?}") };
    assert_eq!(
        shadow.create,
        "CREATE TEMPORARY TABLE \"pgring_1\" ON COMMIT DROP AS SELECT \"id\", \"name\" FROM \"public\".\"users\" \
         WITH NO DATA"
    );
    assert_eq!(shadow.constraint, "ALTER TABLE pg_temp.\"pgring_1\" ADD PRIMARY KEY (\"id\")");
    assert_eq!(shadow.copy, "COPY pg_temp.\"pgring_1\" (\"id\", \"name\") FROM STDIN (FORMAT binary)");
    assert_eq!(shadow.fetch, "SELECT \"id\", \"name\" FROM \"public\".\"users\" AS users");
    assert_eq!(gather.sql, "SELECT name, count(*) FROM pg_temp.\"pgring_1\" AS users GROUP BY id");
}

#[test]
fn columns() {
    check(
        r#"
> SELECT count(*) FROM runs
each: SELECT user_id FROM runs AS runs
SELECT count(*) FROM "@1" AS runs

> SELECT count(*) FROM plans p
any: SELECT id FROM plans AS p
SELECT count(*) FROM "@1" p

> SELECT * FROM runs ORDER BY status
each: SELECT id, job_id, user_id, status FROM runs AS runs
SELECT * FROM "@1" AS runs ORDER BY status

> SELECT r.*, u.name FROM runs r, users u
each: SELECT id, job_id, user_id, status FROM runs AS r
each: SELECT name FROM users AS u
SELECT r.*, u.name FROM "@1" r, "@2" u

> TABLE settings
home: SELECT key, value FROM settings AS settings
SELECT * FROM "@1" AS settings

> TABLE ONLY public.settings ORDER BY 1
home: SELECT key, value FROM ONLY settings AS settings
SELECT * FROM ONLY "@1" AS settings ORDER BY 1

# A row as a value has all columns.
> SELECT row_to_json(r) FROM runs r
each: SELECT id, job_id, user_id, status FROM runs AS r
SELECT row_to_json(r) FROM "@1" r

> SELECT r FROM runs AS r(a, b)
each: SELECT id, job_id, user_id, status FROM runs AS r
SELECT r FROM "@1" AS r(a, b)

> SELECT name FROM plans NATURAL JOIN users
any: SELECT id, name FROM plans AS plans
each: SELECT id, email, name, plan_id FROM users AS users
SELECT name FROM "@1" AS plans NATURAL JOIN "@2" AS users

> SELECT 1 FROM plans p WHERE EXISTS (SELECT * FROM users u WHERE u.plan_id = p.id)
any: SELECT id FROM plans AS p
each: SELECT plan_id FROM users AS u
SELECT 1 FROM "@1" p WHERE EXISTS (SELECT * FROM "@2" u WHERE u.plan_id = p.id)

# What is known of it is no more than its name.
> SELECT note FROM unread
each: SELECT * FROM unread AS unread
SELECT note FROM "@1" AS unread

> SELECT last_value FROM nowhere
impossible: "nowhere" is not known

> SELECT name FROM jobs
each: SELECT name FROM jobs AS jobs
SELECT name FROM "@1" AS jobs

> SELECT status FROM jobs
each: SELECT status FROM jobs AS jobs
SELECT status FROM "@1" AS jobs

> SELECT pairs FROM jobs
impossible: column "pairs" of table "jobs" cannot be copied

# An array of an enumeration is one of texts on its way.
> SELECT id, tags FROM jobs, ONLY jobs j WHERE 'x' = ANY (j.tags)
each: SELECT id, tags::text[] AS tags FROM jobs AS jobs
each: SELECT id, tags::text[] AS tags FROM ONLY jobs AS j WHERE ('x' = ANY (j.tags))
SELECT id, tags FROM (SELECT "id", "tags"::public.mood[] AS "tags" FROM "@1") AS jobs,  (SELECT "id", "tags"::public.mood[] AS "tags" FROM "@2") j WHERE 'x' = ANY (j.tags)

> SELECT tags FROM jobs GROUP BY id
impossible: the primary key of "jobs"

> SELECT relation FROM oids
impossible: type regclass

> SELECT count(*) FROM oids
each: SELECT user_id FROM oids AS oids
SELECT count(*) FROM "@1" AS oids
"#,
    );
}

#[test]
fn names() {
    check(
        r#"
> SELECT public.runs.id, runs.status FROM public.runs ORDER BY public . runs . id
each: SELECT id, status FROM runs AS runs
SELECT runs.id, runs.status FROM "@1" AS runs ORDER BY  runs . id

> SELECT public.runs.* FROM public.runs
each: SELECT id, job_id, user_id, status FROM runs AS runs
SELECT runs.* FROM "@1" AS runs

> SELECT public.runs.id FROM public.runs, (VALUES (1)) AS x WHERE EXISTS (SELECT 1 FROM users runs)
impossible: stands beside another

> SELECT note FROM jobs, other.jobs
impossible: two tables are known as "jobs"

> SELECT note FROM jobs j, other.jobs
each: SELECT user_id FROM jobs AS j
home: SELECT note FROM other.jobs AS jobs
SELECT note FROM "@1" j, "@2" AS jobs

> SELECT id FROM"Mixed"WHERE id>1
each: SELECT id FROM Mixed AS Mixed WHERE (id>1)
SELECT id FROM "@1" AS "Mixed" WHERE id>1

# A query in WITH hides a table, from where it is known on.
> WITH runs AS (SELECT id FROM users) SELECT * FROM runs
each: SELECT id FROM users AS users
WITH runs AS (SELECT id FROM "@1" AS users) SELECT * FROM runs

> WITH runs AS (SELECT id FROM runs) SELECT * FROM runs
each: SELECT id FROM runs AS runs
WITH runs AS (SELECT id FROM "@1" AS runs) SELECT * FROM runs

> WITH RECURSIVE t(id) AS (SELECT id FROM runs UNION SELECT r.job_id FROM runs r JOIN t ON t.id = r.id) SELECT * FROM t
each: SELECT id, job_id FROM runs AS runs
WITH RECURSIVE t(id) AS (SELECT id FROM "@1" AS runs UNION SELECT r.job_id FROM "@1" r JOIN t ON t.id = r.id) SELECT * FROM t

# Catalogs are read where the statement runs.
> SELECT c.relname, u.name FROM pg_class c JOIN users u ON u.name = c.relname
each: SELECT name FROM users AS u
SELECT c.relname, u.name FROM pg_class c JOIN "@1" u ON u.name = c.relname

> SELECT id -- FROM jobs
> FROM /* runs */ runs -- the end
> ;
each: SELECT id FROM runs AS runs
SELECT id -- FROM jobs
FROM /* runs */ "@1" AS runs

> SELECT count(DISTINCT name) FROM users UNION ALL (SELECT id FROM ONLY jobs) UNION ALL VALUES (3)
each: SELECT id, name FROM users AS users
each: SELECT id, name FROM ONLY jobs AS jobs
SELECT count(DISTINCT name) FROM "@1" AS users UNION ALL (SELECT id FROM ONLY "@2" AS jobs) UNION ALL VALUES (3)

> SELECT 'x' FROM runs a JOIN runs b USING (id)
each: SELECT id FROM runs AS a
SELECT 'x' FROM "@1" a JOIN "@1" b USING (id)
"#,
    );
}

#[test]
fn conditions() {
    check(
        r#"
> SELECT r.id FROM runs r WHERE r.status = 'x' AND id > $2 AND (r.job_id IS NULL OR r.job_id BETWEEN 1 AND 2)
each: SELECT id, job_id, status FROM runs AS r WHERE (r.status = 'x') AND (id > $2) AND ((r.job_id IS NULL OR r.job_id BETWEEN 1 AND 2))
SELECT r.id FROM "@1" r WHERE r.status = 'x' AND id > $2 AND (r.job_id IS NULL OR r.job_id BETWEEN 1 AND 2)

> SELECT id FROM runs WHERE (id BETWEEN 1 AND 2 AND status LIKE 'a%') AND CASE WHEN id = 1 AND true THEN true END GROUP BY id
each: SELECT id, status FROM runs AS runs WHERE (id BETWEEN 1 AND 2) AND (status LIKE 'a%') AND (CASE WHEN id = 1 AND true THEN true END)
PRIMARY KEY (id)
SELECT id FROM "@1" AS runs WHERE (id BETWEEN 1 AND 2 AND status LIKE 'a%') AND CASE WHEN id = 1 AND true THEN true END GROUP BY id

# Of the joined tables each has its own; what is about both stays where it is.
> SELECT u.name FROM users u JOIN runs r ON r.job_id = u.id AND r.status = 'x' WHERE u.name > 'b' AND r.id + u.id = 3
each: SELECT id, name FROM users AS u WHERE (u.name > 'b')
each: SELECT id, job_id, status FROM runs AS r WHERE (r.status = 'x')
SELECT u.name FROM "@1" u JOIN "@2" r ON r.job_id = u.id AND r.status = 'x' WHERE u.name > 'b' AND r.id + u.id = 3

> SELECT 1 FROM users u LEFT JOIN runs r ON r.job_id = u.id AND r.status = 'x' AND u.name = 'y' WHERE r.id IS NULL AND u.email > 'b'
each: SELECT id, email, name FROM users AS u WHERE (u.email > 'b')
each: SELECT id, job_id, status FROM runs AS r WHERE (r.status = 'x')
SELECT 1 FROM "@1" u LEFT JOIN "@2" r ON r.job_id = u.id AND r.status = 'x' AND u.name = 'y' WHERE r.id IS NULL AND u.email > 'b'

> SELECT 1 FROM users u RIGHT JOIN runs r ON r.job_id = u.id AND r.status = 'x' AND u.name = 'y' WHERE r.id = 1 AND u.email > 'b'
each: SELECT id, email, name FROM users AS u WHERE (u.name = 'y')
each: SELECT id, job_id, status FROM runs AS r WHERE (r.id = 1)
SELECT 1 FROM "@1" u RIGHT JOIN "@2" r ON r.job_id = u.id AND r.status = 'x' AND u.name = 'y' WHERE r.id = 1 AND u.email > 'b'

> SELECT 1 FROM users u FULL JOIN runs r ON r.job_id = u.id AND r.status = 'x' WHERE r.id = 1 AND u.name > 'b'
each: SELECT id, name FROM users AS u
each: SELECT id, job_id, status FROM runs AS r
SELECT 1 FROM "@1" u FULL JOIN "@2" r ON r.job_id = u.id AND r.status = 'x' WHERE r.id = 1 AND u.name > 'b'

> SELECT 1 FROM plans p LEFT JOIN (users u JOIN runs r ON r.status = 'x') ON p.id = u.plan_id WHERE r.id = 1
any: SELECT id FROM plans AS p
each: SELECT plan_id FROM users AS u
each: SELECT id, status FROM runs AS r WHERE (r.status = 'x')
SELECT 1 FROM "@1" p LEFT JOIN ("@2" u JOIN "@3" r ON r.status = 'x') ON p.id = u.plan_id WHERE r.id = 1

# Unqualified, a name may be of either table.
> SELECT 1 FROM users, runs WHERE status = 'x' AND name = 'y' AND id = 1
each: SELECT id, name FROM users AS users WHERE (name = 'y')
each: SELECT id, status FROM runs AS runs WHERE (status = 'x')
SELECT 1 FROM "@1" AS users, "@2" AS runs WHERE status = 'x' AND name = 'y' AND id = 1

> SELECT 1 FROM users JOIN runs USING (id) WHERE id = 1 AND runs.id = 2
lit1: SELECT id FROM users AS users WHERE (users.id = 1::bigint)
each: SELECT id FROM runs AS runs WHERE (runs.id = 2)
SELECT 1 FROM "@1" AS users JOIN "@2" AS runs USING (id) WHERE id = 1 AND runs.id = 2

# Each mention of a table asks for its rows.
> SELECT 1 FROM runs a, runs b WHERE a.status = 'x' AND b.status = 'y' AND b.id > 3
each: SELECT id, status FROM runs AS a WHERE ((a.status = 'x')) OR ((a.status = 'y') AND (a.id > 3))
SELECT 1 FROM "@1" a, "@1" b WHERE a.status = 'x' AND b.status = 'y' AND b.id > 3

> SELECT 1 FROM runs a, runs b WHERE a.status = 'x'
each: SELECT status FROM runs AS a
SELECT 1 FROM "@1" a, "@1" b WHERE a.status = 'x'

# In a sub-query, of its own tables.
> SELECT 1 FROM users u WHERE NOT EXISTS (SELECT 1 FROM runs r WHERE r.job_id = u.plan_id AND r.status = 'x' AND u.name = 'z')
each: SELECT name, plan_id FROM users AS u
each: SELECT job_id, status FROM runs AS r WHERE (r.status = 'x')
SELECT 1 FROM "@1" u WHERE NOT EXISTS (SELECT 1 FROM "@2" r WHERE r.job_id = u.plan_id AND r.status = 'x' AND u.name = 'z')

> SELECT 1 FROM runs WHERE id IN (SELECT plan_id FROM users) AND id = (SELECT 1)
each: SELECT id FROM runs AS runs
each: SELECT id, plan_id FROM users AS users
SELECT 1 FROM "@1" AS runs WHERE id IN (SELECT plan_id FROM "@2" AS users) AND id = (SELECT 1)

# What may come out otherwise another time, or on another server.
> SELECT 1 FROM runs WHERE random() < id AND nextval('s') > id AND slugify(status) = 'x' AND id = 'runs'::regclass AND lower(status) = 'y'
each: SELECT id, status FROM runs AS runs WHERE (lower(status) = 'y')
SELECT 1 FROM "@1" AS runs WHERE random() < id AND nextval('s') > id AND slugify(status) = 'x' AND id = 'runs'::regclass AND lower(status) = 'y'

> SELECT 1 FROM runs AS r(a) WHERE a = 1 AND job_id = 2
each: SELECT id, job_id, user_id, status FROM runs AS r
SELECT 1 FROM "@1" AS r(a) WHERE a = 1 AND job_id = 2

> SELECT "where" FROM (SELECT id AS where FROM runs) x WHERE "where" = 1 ORDER BY 1
each: SELECT id FROM runs AS runs
SELECT "where" FROM (SELECT id AS where FROM "@1" AS runs) x WHERE "where" = 1 ORDER BY 1
"#,
    );
}

#[test]
fn sources() {
    check(
        r#"
> SELECT count(*) FROM runs WHERE user_id IN (1, 2)
lit0 lit1: SELECT user_id FROM runs AS runs WHERE (user_id IN (1, 2))
SELECT count(*) FROM "@1" AS runs WHERE user_id IN (1, 2)

> SELECT 1 FROM runs r JOIN users u ON u.id = r.user_id, plans WHERE u.id = ANY($1)
$1[]: SELECT user_id FROM runs AS r WHERE (r.user_id = ANY($1))
$1[]: SELECT id FROM users AS u WHERE (u.id = ANY($1))
any: SELECT id FROM plans AS plans
SELECT 1 FROM "@1" r JOIN "@2" u ON u.id = r.user_id, "@3" AS plans WHERE u.id = ANY($1)

> SELECT 1 FROM runs a, runs b WHERE a.user_id = $1 AND b.user_id = 7
$1 lit1: SELECT user_id FROM runs AS a WHERE ((a.user_id = $1)) OR ((a.user_id = 7))
SELECT 1 FROM "@1" a, "@1" b WHERE a.user_id = $1 AND b.user_id = 7

# What follows for a table from another one's key.
> SELECT r.id FROM users u JOIN runs r ON r.user_id = u.id JOIN "Mixed" m ON m.user_id = u.id AND m.id = 3 WHERE u.id IN ('1', -2)
lit1 NegatedLiteral(2): SELECT id FROM users AS u WHERE (u.id IN ('1', -2))
lit1 NegatedLiteral(2): SELECT id, user_id FROM runs AS r WHERE (r.user_id = '1'::bigint OR r.user_id = (-2)::bigint)
lit1 NegatedLiteral(2): SELECT id, user_id FROM Mixed AS m WHERE (m.user_id = '1'::bigint OR m.user_id = (-2)::bigint) AND (m.id = 3)
SELECT r.id FROM "@1" u JOIN "@2" r ON r.user_id = u.id JOIN "@3" m ON m.user_id = u.id AND m.id = 3 WHERE u.id IN ('1', -2)

> SELECT 1 FROM runs a, runs b WHERE a.user_id = $1
each: SELECT user_id FROM runs AS a
SELECT 1 FROM "@1" a, "@1" b WHERE a.user_id = $1

> SELECT 1 FROM settings, users
home: SELECT key FROM settings AS settings
each: SELECT id FROM users AS users
SELECT 1 FROM "@1" AS settings, "@2" AS users
"#,
    );
}

#[test]
fn grouping() {
    check(
        r#"
> SELECT u.email, count(*) FROM users u JOIN runs r ON r.job_id = u.id GROUP BY 1, u.id
each: SELECT id, email FROM users AS u
PRIMARY KEY (id)
each: SELECT job_id FROM runs AS r
SELECT u.email, count(*) FROM "@1" u JOIN "@2" r ON r.job_id = u.id GROUP BY 1, u.id

> SELECT status, count(id) FROM runs GROUP BY 1
each: SELECT id, status FROM runs AS runs
SELECT status, count(id) FROM "@1" AS runs GROUP BY 1

> SELECT id AS n, status FROM runs GROUP BY n
each: SELECT id, status FROM runs AS runs
PRIMARY KEY (id)
SELECT id AS n, status FROM "@1" AS runs GROUP BY n
"#,
    );
}

#[test]
fn views() {
    check(
        r#"
# The union of what each shard's view holds.
> SELECT name FROM active_jobs WHERE id = 3
each: SELECT id, name FROM active_jobs AS active_jobs WHERE (id = 3)
SELECT name FROM "@1" AS active_jobs WHERE id = 3

> SELECT key FROM setting_keys, users
home: SELECT key FROM setting_keys AS setting_keys
each: SELECT id FROM users AS users
SELECT key FROM "@1" AS setting_keys, "@2" AS users

# Groups that several shards may have.
> SELECT n FROM job_counts c WHERE c.name = 'x'
each: SELECT name FROM jobs AS j WHERE ((j.name <> ''::text))
SELECT n FROM (SELECT j.name, count(*) AS n FROM "@1" j WHERE (j.name <> ''::text) GROUP BY j.name) c WHERE c.name = 'x'

> TABLE public.counts_of_counts
each: SELECT name FROM jobs AS j WHERE ((j.name <> ''::text))
SELECT * FROM (SELECT job_counts.n, count(*) AS times FROM (SELECT j.name, count(*) AS n FROM "@1" j WHERE (j.name <> ''::text) GROUP BY j.name) AS job_counts GROUP BY job_counts.n) AS counts_of_counts

> SELECT n FROM note_counts
impossible: its owner sees of "secret_notes"

> SELECT n FROM secret_counts
impossible: view "secret_counts" is materialized
"#,
    );
}

#[test]
fn not_over_copies() {
    check(
        r#"
> SELECT id FROM runs FOR UPDATE
impossible: changed or locked

> SELECT id FROM users WHERE EXISTS (SELECT 1 FROM runs FOR SHARE)
impossible: changed or locked

> WITH d AS (DELETE FROM runs RETURNING id) SELECT id FROM d
impossible: changed or locked

> DELETE FROM runs
impossible: changed or locked

> EXPLAIN SELECT id FROM runs
impossible: only a query

> SELECT id INTO t FROM runs
impossible: SELECT INTO

> SELECT ctid FROM runs
impossible: column "ctid"

> SELECT r.tableoid::regclass FROM runs r
impossible: column "tableoid"

> SELECT min(id) AS xmin FROM runs
each: SELECT id FROM runs AS runs
SELECT min(id) AS xmin FROM "@1" AS runs

> SELECT id FROM runs TABLESAMPLE system (10)
impossible: TABLESAMPLE

> SELECT top_users(), id FROM runs
impossible: function "top_users"

> SELECT query_to_xml('TABLE runs', true, true, ''), id FROM runs
impossible: "query_to_xml"

> SELECT pg_advisory_lock(id) FROM runs
impossible: "pg_advisory_lock"

> SELECT set_config('a.b', name, true) FROM users
impossible: "set_config"

> SELECT currval('s'), id FROM runs
impossible: "currval"

> SELECT pg_typeof(r) FROM runs r
impossible: the table's own type

> SELECT r::runs FROM runs r
impossible: the table's own type

> SELECT slugify(r) FROM runs r
impossible: the table's own type

> SELECT r.slugify FROM runs r
impossible: the table's own type

> SELECT a.b.runs.id FROM runs
impossible: too many parts

> SELECT current_query(), id FROM runs
impossible: "current_query" tells

> SELECT pg_column_size(status) FROM runs
impossible: "pg_column_size" tells

> SELECT 1; SELECT 2
impossible: cannot be read

> SELECT * FROM ONLY (runs)
impossible: cannot be read
"#,
    );
}
