//! A statement, the plan it must have, and why.

use super::super::super::schema::{ColumnDetail, Giving, Schema, Table, TableDetail, TableKind, TextOrder};
use super::super::super::shape::{KeySlot, KeyType};
use super::super::{Piece, Plan, Replicate, RowKey};
use super::{Context, plan, tells_the_time};

/// `name type[=default]`, with `!` for NOT NULL and `#` for an identity.
fn column(written: &str) -> (String, ColumnDetail) {
    let (written, default) = written.split_once('=').map_or((written, None), |(left, right)| (left, Some(right)));
    let (name, type_name) = written.split_once(' ').unwrap_or((written, "text"));
    let identity = type_name.ends_with('#');
    let type_name = type_name.trim_end_matches('#').to_owned();
    let detail = ColumnDetail {
        builtin: !type_name.starts_with("public."),
        type_name,
        text_order: TextOrder::ByType,
        default_collation: true,
        not_null: false,
        default: default.filter(|default| !default.starts_with("generated")).map(str::to_owned),
        generated: default.is_some_and(|default| default.starts_with("generated")),
        identity,
    };
    (name.to_owned(), detail)
}

fn table(name: &str, kind: TableKind, columns: &[&str]) -> Table {
    let (names, details) = columns.iter().map(|&written| column(written)).unzip();
    let giving = |column: &ColumnDetail| match column.type_name.as_str() {
        "public.mood" => Giving::Label,
        other if column.builtin && !other.ends_with(']') => Giving::Bare,
        _ => Giving::Never,
    };
    let details: Vec<ColumnDetail> = details;
    let giving = details.iter().map(giving).collect();
    let detail = TableDetail { columns: details, giving, primary_key: vec![0], has_triggers: name == "watched", ..TableDetail::default() };
    Table { schema: "public".to_owned(), name: name.to_owned(), columns: names, kind, detail }
}

fn schema() -> Schema {
    let by = |key| TableKind::Sharded { key, key_type: KeyType::Integer };
    let view = |definition: &str| TableKind::View { definition: definition.to_owned() };
    let tables = vec![
        table("users", by(0), &["id bigint", "email text", "plan_id integer"]),
        table("jobs", by(1), &["id bigint#", "user_id bigint", "name text", "priority integer=5", "created_at timestamp with time zone=now()"]),
        table("old_jobs", by(1), &["id bigint#", "user_id bigint", "name text", "priority integer=5", "created_at timestamp with time zone=now()"]),
        table("watched", by(0), &["user_id bigint", "x text"]),
        table("plans", TableKind::Reference, &["id integer", "name text", "price numeric(8,2)=0", "twice numeric=generated price * 2", "tag text='none'::text"]),
        table("tags", TableKind::Reference, &["id integer=nextval('public.tags_id_seq'::regclass)", "name text", "made timestamp with time zone=now()"]),
        table("moods", TableKind::Reference, &["id integer#", "mood public.mood"]),
        table("shapes", TableKind::Reference, &["id integer#", "shape public.shape"]),
        table("sets", TableKind::Reference, &["id integer#", "members integer[]"]),
        table("app_settings", TableKind::Home, &["key text", "value text"]),
        table("cheap", view("SELECT plans.id FROM public.plans WHERE (plans.price < 5)"), &["id integer"]),
        table("one_plan", view("SELECT plans.id FROM public.plans LIMIT 1"), &["id integer"]),
    ];
    Schema::new(1, tables, Vec::new())
}

fn slot(slot: KeySlot) -> String {
    match slot {
        KeySlot::Literal(n) => format!("lit{n}"),
        KeySlot::NegatedLiteral(n) => format!("-lit{n}"),
        KeySlot::Param(n) => format!("${n}"),
        other => format!("{other:?}"),
    }
}

fn pieces(pieces: &[Piece]) -> String {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Source => "<>".to_owned(),
            other => format!("{other:?}"),
        })
        .collect()
}

fn describe(sql: &str) -> String {
    let schema = schema();
    let cx = Context {
        schema: &schema,
        search_path: &["public".to_owned()],
        standard_conforming_strings: true,
        default_key: "user_id",
        unknown: &std::cell::Cell::new(false),
    };
    let row_key = |key: &RowKey| match key {
        RowKey::Known(source) => slot(source.slot),
        RowKey::Computed { sql, parameters } => format!("[{sql}]{}", if parameters.is_empty() { String::new() } else { format!("{parameters:?}") }),
    };
    match plan(sql.as_bytes(), &cx) {
        None => "none".to_owned(),
        Some(Err(impossible)) => format!("no: {}", impossible.message),
        Some(Ok(Plan::Each(each))) => {
            assert_eq!(each.sql, sql.trim_end_matches(';'));
            if each.returns { "each returning".to_owned() } else { "each".to_owned() }
        }
        Some(Ok(Plan::Split(split))) => {
            let rows: Vec<String> = split.rows.iter().map(|(row, key)| format!("{row}@{}", row_key(key))).collect();
            let mut text = format!("{} | {}", split.head, rows.join(" "));
            if !split.tail.is_empty() {
                text = format!("{text} | {}", split.tail);
            }
            text + match (split.returns, split.returns_each) {
                (false, false) => "",
                (true, false) => " ; returns",
                (true, true) => " ; returns each",
                (false, true) => " ; ?",
            }
        }
        Some(Ok(Plan::Replicate(Replicate::Same(each)))) => {
            assert_eq!(each.sql, sql.trim_end_matches(';'));
            if each.returns { "same returning".to_owned() } else { "same".to_owned() }
        }
        Some(Ok(Plan::Replicate(Replicate::Insert { first, others_head, others_tail, columns, returning }))) => {
            let text = format!("{first} ; {others_head}/{columns}{others_tail}");
            if returning.is_empty() { text } else { format!("{text} ; {}", pieces(&returning)) }
        }
        Some(Ok(Plan::Supply(supply))) => {
            let read = |table: &super::super::Supplied| match &table.source {
                Some(source) => format!("{} {source:?}", table.fetch),
                None => table.fetch.clone(),
            };
            let reads: Vec<String> = supply.tables.iter().map(read).collect();
            format!("supply {:?} [{}] {}", supply.writers, reads.join("; "), supply.sql)
        }
        Some(Ok(Plan::Transfer(transfer))) => {
            let key = transfer.key.map(|(at, _)| format!(" by {at}")).unwrap_or_default();
            let casts: String = transfer.casts.iter().map(|(at, name)| format!(" {at}::{name}")).collect();
            let order = if transfer.returns_each { " ; in order" } else { "" };
            format!("transfer {:?}{key}{casts} [{}] {}{order}", transfer.writers, transfer.query, transfer.text(2, 1))
        }
        Some(Ok(Plan::Fold(fold))) => format!("fold [{}] {}", fold.change, fold.text(&["a".to_owned(), "b".to_owned()], 1)),
        Some(Ok(other)) => format!("{other:?}"),
    }
}

/// `no: x` expects a refusal whose message contains `x`.
fn check(rows: &[(&str, &str, &str)]) {
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(sql, expect, why)| {
            let found = describe(sql);
            let same = match expect.strip_prefix("no: ") {
                Some(part) => found.starts_with("no: ") && found.contains(part),
                None => found == *expect,
            };
            (!same).then(|| format!("{sql}\n    found   {found}\n    expects {expect}\n    because {why}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn what_changes_nothing() {
    check(&[
        ("SELECT * FROM jobs", "none", "a query"),
        ("VALUES (1), (2)", "none", "a query"),
        ("SELECT 1; DELETE FROM jobs", "none", "two statements"),
        ("TRUNCATE jobs", "none", "DDL"),
        ("", "none", "nothing"),
        ("SELECT \"insert\"(1) FROM jobs", "none", "a function of that name"),
    ]);
}

#[test]
fn rows_are_split() {
    check(&[
        ("INSERT INTO jobs (user_id, name) VALUES (7, 'a'), (8, 'b');", "INSERT INTO jobs (user_id, name) VALUES | (7, 'a')@lit0 (8, 'b')@lit2", "by their literals"),
        ("INSERT INTO jobs (name, user_id) VALUES ($1, $2), ($3, $4)", "INSERT INTO jobs (name, user_id) VALUES | ($1, $2)@$2 ($3, $4)@$4", "by their parameters"),
        ("INSERT INTO jobs VALUES (DEFAULT, -7, 'a'), (DEFAULT, 8::bigint, 'b')", "INSERT INTO jobs VALUES | (DEFAULT, -7, 'a')@-lit0 (DEFAULT, 8::bigint, 'b')@lit2", "by the table's order"),
        ("INSERT INTO jobs (user_id, name) VALUES (7, lower('A')), (8, 'b'), (CAST(9 AS bigint), 'c'), (10, 'd')", "INSERT INTO jobs (user_id, name) VALUES | (7, lower('A'))@lit0 (8, 'b')@lit2 (CAST(9 AS bigint), 'c')@lit4 (10, 'd')@lit6", "some with a tree, some without"),
        ("INSERT INTO jobs (user_id, priority) VALUES (7, random() * 9), (8, (SELECT id FROM plans LIMIT 1))", "INSERT INTO jobs (user_id, priority) VALUES | (7, random() * 9)@lit0 (8, (SELECT id FROM plans LIMIT 1))@lit2", "each is evaluated on one shard"),
        ("INSERT INTO jobs AS j (user_id) OVERRIDING SYSTEM VALUE VALUES (7), (8) ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING *", "INSERT INTO jobs AS j (user_id) OVERRIDING SYSTEM VALUE VALUES | (7)@lit0 (8)@lit1 | ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING * ; returns each", "what stands around the rows"),
        ("INSERT INTO jobs (user_id) VALUES (7), (8) ON CONFLICT DO NOTHING RETURNING id", "INSERT INTO jobs (user_id) VALUES | (7)@lit0 (8)@lit1 | ON CONFLICT DO NOTHING RETURNING id ; returns", "a row may be left out"),
        ("INSERT INTO jobs (user_id) VALUES (7), (8) ON CONFLICT (id) DO UPDATE SET name = 'x' WHERE jobs.name = 'y' RETURNING id", "INSERT INTO jobs (user_id) VALUES | (7)@lit0 (8)@lit1 | ON CONFLICT (id) DO UPDATE SET name = 'x' WHERE jobs.name = 'y' RETURNING id ; returns", "a row may be left out"),
        ("INSERT INTO watched VALUES (7, 'a'), (8, 'b') RETURNING x", "INSERT INTO watched VALUES | (7, 'a')@lit0 (8, 'b')@lit2 | RETURNING x ; returns", "a trigger may leave a row out"),
        ("WITH p AS (SELECT min(id) AS id FROM plans) INSERT INTO users (id, plan_id) VALUES (7, (SELECT id FROM p)), (8, 2)", "WITH p AS (SELECT min(id) AS id FROM plans) INSERT INTO users (id, plan_id) VALUES | (7, (SELECT id FROM p))@lit0 (8, 2)@lit1", "the same on every shard"),
        ("INSERT INTO jobs (user_id, name) VALUES /* a */ (7, 'a') /* b */ , -- c\n (8, '(') RETURNING id -- d", "INSERT INTO jobs (user_id, name) VALUES | (7, 'a')@lit0 (8, '(')@lit2 | RETURNING id ; returns each", "comments"),
        ("WITH p AS (SELECT random() AS r) INSERT INTO jobs (user_id, priority) VALUES (7, (SELECT r FROM p)), (8, 2)", "no: random()", "one value for both rows"),
        ("WITH p AS (SELECT id FROM plans LIMIT 1) INSERT INTO jobs (user_id, priority) VALUES (7, (SELECT id FROM p)), (8, 2)", "no: LIMIT", "one choice for both rows"),
        ("INSERT INTO jobs (user_id, name) VALUES (7, (SELECT email FROM users WHERE id = 7)), (8, 'x')", "no: sub-select", "it may be read elsewhere"),
        ("INSERT INTO jobs (user_id, priority) VALUES (7, generate_series(1, 3)), (8, 1)", "no: set-returning", "PostgreSQL refuses it"),
        ("INSERT INTO jobs (user_id) VALUES (7), (8) LIMIT 1", "no: told apart", "rows that are not inserted"),
        ("INSERT INTO jobs (user_id) (VALUES (7), (8))", "no: told apart", "in parentheses"),
        ("INSERT INTO jobs (user_id) VALUES (7), (1 + 1)", "INSERT INTO jobs (user_id) VALUES | (7)@lit0 (1 + 1)@[1 + 1]", "a computed key"),
        ("INSERT INTO jobs (name, user_id) VALUES (f(1, 2), length('a,)') + $2)", "INSERT INTO jobs (name, user_id) VALUES | (f(1, 2), length('a,)') + $2)@[length('a,)') + $2][2]", "one row; commas elsewhere"),
        ("INSERT INTO jobs (user_id, name) VALUES (7, 'a'), ('42'::text::int, 'b'), (1 - 1, 'c')", "INSERT INTO jobs (user_id, name) VALUES | (7, 'a')@lit0 ('42'::text::int, 'b')@['42'::text::int] (1 - 1, 'c')@[1 - 1]", "rows without a tree"),
        ("INSERT INTO jobs (user_id) VALUES (extract(year FROM 'now'::timestamp)::int)", "no: current time", "a word that is the clock's"),
        ("INSERT INTO jobs (user_id) VALUES (7), (random()::int)", "no: not a constant", "volatile"),
        ("INSERT INTO jobs (user_id, name) VALUES (7, 'x'), (8, (SELECT value FROM app_settings))", "no: home shard", "other shards lack it"),
    ]);
}

#[test]
fn a_split_statement_reads_as_it_did() {
    let schema = schema();
    let cx = Context {
        schema: &schema,
        search_path: &["public".to_owned()],
        standard_conforming_strings: true,
        default_key: "user_id",
        unknown: &std::cell::Cell::new(false),
    };
    let sql = b"INSERT INTO jobs (user_id) VALUES (7),(8),(9) RETURNING id";
    let Some(Ok(Plan::Split(split))) = plan(sql, &cx) else { panic!("it is split") };
    assert_eq!(split.text([0, 2]), "INSERT INTO jobs (user_id) VALUES (7), (9) RETURNING id");
    assert_eq!(split.text([1]), "INSERT INTO jobs (user_id) VALUES (8) RETURNING id");
}

#[test]
fn each_owner_does_its_part() {
    check(&[
        ("UPDATE jobs SET name = 'x'", "each", "all rows"),
        ("UPDATE jobs SET name = 'x' WHERE user_id IN (7, 8) RETURNING id;", "each returning", "rows of some keys"),
        ("DELETE FROM jobs WHERE priority > 3", "each", "all shards"),
        ("UPDATE jobs SET created_at = now(), priority = random() * 9", "each", "row by row"),
        ("UPDATE jobs SET name = u.email FROM users u WHERE u.id = jobs.user_id", "each", "joined on the keys"),
        ("UPDATE jobs SET name = p.name FROM plans p WHERE p.id = jobs.priority", "each", "joined with a copy"),
        ("UPDATE jobs SET name = v.n FROM (VALUES (7, 'a'), (8, 'b')) v (u, n) WHERE jobs.user_id = v.u", "each", "joined with values"),
        ("UPDATE jobs SET name = v.n FROM unnest($1::bigint[], $2::text[]) v (u, n) WHERE jobs.user_id = v.u", "each", "joined with values"),
        ("DELETE FROM jobs USING users WHERE users.id = jobs.user_id AND users.plan_id = 2", "each", "joined on the keys"),
        ("DELETE FROM jobs WHERE user_id IN (SELECT id FROM users WHERE plan_id = 2)", "each", "a key among keys"),
        ("DELETE FROM jobs WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = jobs.user_id)", "each", "correlated on the key"),
        ("DELETE FROM jobs WHERE priority IN (SELECT id FROM plans WHERE price > 3)", "each", "the same on every shard"),
        ("DELETE FROM jobs WHERE priority IN (SELECT id FROM cheap)", "each", "a view on a copy"),
        ("UPDATE jobs SET name = (SELECT o.name FROM old_jobs o WHERE o.user_id = jobs.user_id ORDER BY o.id LIMIT 1)", "each", "one choice a row, among its own"),
        ("INSERT INTO old_jobs SELECT * FROM jobs WHERE priority > 3", "each", "keys are carried over"),
        ("INSERT INTO old_jobs (user_id, name) SELECT user_id, string_agg(name, ',') FROM jobs GROUP BY user_id RETURNING id", "each returning", "grouped by the key"),
        ("INSERT INTO old_jobs (user_id, priority) SELECT user_id, random() * 9 FROM jobs ON CONFLICT DO NOTHING", "each", "row by row"),
        ("WITH gone AS (DELETE FROM jobs WHERE priority > 3 RETURNING *) INSERT INTO old_jobs SELECT * FROM gone", "each", "rows move to another table"),
        ("WITH gone AS (DELETE FROM jobs RETURNING *) SELECT id, name FROM gone", "each returning", "what is returned"),
        ("WITH x AS (SELECT user_id FROM jobs WHERE priority > 3) DELETE FROM old_jobs USING x WHERE x.user_id = old_jobs.user_id", "each", "a query that is read once, joined on the keys"),
        ("WITH x AS (SELECT user_id FROM jobs ORDER BY priority LIMIT 3) DELETE FROM old_jobs USING x WHERE x.user_id = old_jobs.user_id", "no: LIMIT", "three of all shards"),
        ("WITH a AS (DELETE FROM jobs), b AS (DELETE FROM old_jobs) SELECT 1", "no: by each shard alone", "one row"),
        ("MERGE INTO jobs j USING users u ON j.user_id = u.id WHEN MATCHED THEN UPDATE SET name = u.email WHEN NOT MATCHED THEN INSERT (user_id, name) VALUES (u.id, u.email)", "each", "joined on the keys"),
        ("MERGE INTO jobs j USING plans p ON j.priority = p.id WHEN MATCHED THEN DELETE", "each", "joined with a copy"),
        ("UPDATE jobs SET priority = (SELECT id FROM plans LIMIT 1)", "no: LIMIT", "one choice for all rows"),
        ("UPDATE jobs SET priority = (SELECT id FROM one_plan)", "no: a view", "one choice for all rows"),
        ("UPDATE jobs SET name = (SELECT string_agg(name, ',') FROM plans)", "no: order of rows", "copies may lie in another order"),
        ("UPDATE jobs SET priority = (SELECT random() * 9)", "no: random()", "one value for all rows"),
        ("UPDATE jobs SET priority = r FROM generate_series(1, (random() * 9)::int) r WHERE r = jobs.id", "no: random()", "one series for all rows"),
        ("UPDATE jobs SET created_at = (SELECT now())", "each", "as now() itself"),
        ("DELETE FROM jobs WHERE ctid = '(0,1)'", "no: ctid", "a place on one shard"),
        ("UPDATE jobs SET user_id = 8", "no: cannot be changed", "rows would move"),
        ("MERGE INTO jobs j USING plans p ON j.priority = p.id WHEN NOT MATCHED THEN INSERT (user_id) VALUES (7)", "no: by each shard alone", "no match here is no match at all"),
        ("UPDATE jobs SET name = 'x' WHERE CURRENT OF c", "no: ", "a cursor's row"),
    ]);
}

#[test]
fn copies_that_come_out_the_same() {
    check(&[
        ("INSERT INTO plans (id, name) VALUES (4, 'x'), ($1, upper($2)) RETURNING id", "same returning", "constants, and constant defaults"),
        ("INSERT INTO plans VALUES (4, 'x', 1 + 1)", "same", "arithmetic"),
        ("INSERT INTO plans (id, name) VALUES (4, DEFAULT)", "same", "constant defaults"),
        ("INSERT INTO tags (id, name, made) VALUES (1, 'x', '2026-01-01')", "same", "no default is needed"),
        ("INSERT INTO plans (id, name) VALUES (4, 'x') ON CONFLICT (id) DO UPDATE SET name = excluded.name", "same", "conflicts are the same"),
        ("INSERT INTO plans (id, name) SELECT id + 10, name FROM plans", "same", "each from its own copy"),
        ("UPDATE plans SET price = round(price * 1.1, 2) WHERE id = ANY($1)", "same", "of the row itself"),
        ("UPDATE plans SET price = (SELECT max(price) FROM plans)", "same", "of the copy"),
        ("UPDATE plans SET name = 'x' RETURNING now()", "same returning", "one shard's is returned"),
        ("DELETE FROM plans USING tags WHERE tags.id = plans.id", "same", "a match is a match"),
        ("MERGE INTO plans p USING tags t ON p.id = t.id WHEN MATCHED THEN UPDATE SET name = t.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (t.id, t.name)", "same", "constant defaults"),
        ("MERGE INTO tags t USING plans p ON p.id = t.id WHEN NOT MATCHED THEN INSERT (name) VALUES (p.name)", "no: proven", "a sequence"),
    ]);
}

#[test]
fn copies_of_what_one_shard_makes() {
    let given_tags = "pgring_given (\"id\", \"name\", \"made\")";
    let first = "RETURNING \"tags\".\"id\", \"tags\".\"name\", \"tags\".\"made\"";
    let insert = "INSERT INTO \"public\".\"tags\" (\"id\", \"name\", \"made\") OVERRIDING SYSTEM VALUE SELECT pgring_given.\"id\", pgring_given.\"name\", pgring_given.\"made\" FROM unnest(/3) AS";
    check(&[
        ("INSERT INTO tags (name) VALUES ('x')", &format!("INSERT INTO tags (name) VALUES ('x') {first} ; {insert} {given_tags}"), "a sequence"),
        ("INSERT INTO tags (name) VALUES ('x') RETURNING id, name AS n", &format!("INSERT INTO tags (name) VALUES ('x') {first} ; {insert} {given_tags} ; SELECT id, name AS n FROM (SELECT c1 AS \"id\", c2 AS \"name\", c3 AS \"made\" FROM <>) AS \"tags\""), "what is returned is made of what was inserted"),
        ("INSERT INTO tags AS t (name) VALUES ('x') ON CONFLICT DO NOTHING", &format!("INSERT INTO tags AS t (name) VALUES ('x') ON CONFLICT DO NOTHING {} ; {insert} {given_tags}", first.replace("\"tags\"", "\"t\"")), "under its alias"),
        ("INSERT INTO tags (name) VALUES ('x') ON CONFLICT (name) DO UPDATE SET made = now()", &format!("INSERT INTO tags (name) VALUES ('x') ON CONFLICT (name) DO UPDATE SET made = now() {first} ; {insert} {given_tags} ON CONFLICT (\"id\") DO UPDATE SET \"name\" = EXCLUDED.\"name\", \"made\" = EXCLUDED.\"made\""), "found by the primary key"),
        ("UPDATE tags SET made = now() WHERE name = 'x'", &format!("UPDATE tags SET made = now() WHERE name = 'x' {first} ; UPDATE \"public\".\"tags\" AS pgring_target SET \"made\" = pgring_given.\"made\" FROM unnest(/3) AS {given_tags} WHERE pgring_target.\"id\" = pgring_given.\"id\""), "found by the primary key"),
        ("DELETE FROM tags WHERE made < now() RETURNING tags.*", &format!("DELETE FROM tags WHERE made < now() {first} ; DELETE FROM \"public\".\"tags\" AS pgring_target USING unnest(/3) AS {given_tags} WHERE pgring_target.\"id\" = pgring_given.\"id\" ; SELECT tags.* FROM (SELECT c1 AS \"id\", c2 AS \"name\", c3 AS \"made\" FROM <>) AS \"tags\""), "found by the primary key"),
        ("INSERT INTO plans (id, name, price) VALUES (4, 'x', random())", "INSERT INTO plans (id, name, price) VALUES (4, 'x', random()) RETURNING \"plans\".\"id\", \"plans\".\"name\", \"plans\".\"price\", \"plans\".\"twice\", \"plans\".\"tag\" ; INSERT INTO \"public\".\"plans\" (\"id\", \"name\", \"price\", \"tag\") OVERRIDING SYSTEM VALUE SELECT pgring_given.\"id\", pgring_given.\"name\", pgring_given.\"price\", pgring_given.\"tag\" FROM unnest(/5) AS pgring_given (\"id\", \"name\", \"price\", \"twice\", \"tag\")", "a generated column is not given"),
        ("UPDATE tags SET made = 'now'", &format!("UPDATE tags SET made = 'now' {first} ; UPDATE \"public\".\"tags\" AS pgring_target SET \"made\" = pgring_given.\"made\" FROM unnest(/3) AS {given_tags} WHERE pgring_target.\"id\" = pgring_given.\"id\""), "a literal that is the clock's"),
        ("UPDATE plans SET name = t.name FROM tags t WHERE t.id > plans.id", "UPDATE plans SET name = t.name FROM tags t WHERE t.id > plans.id RETURNING \"plans\".\"id\", \"plans\".\"name\", \"plans\".\"price\", \"plans\".\"twice\", \"plans\".\"tag\" ; UPDATE \"public\".\"plans\" AS pgring_target SET \"name\" = pgring_given.\"name\" FROM unnest(/5) AS pgring_given (\"id\", \"name\", \"price\", \"twice\", \"tag\") WHERE pgring_target.\"id\" = pgring_given.\"id\"", "any of several matches"),
        ("INSERT INTO tags (name) VALUES ('x') RETURNING (SELECT count(*) FROM tags)", "no: RETURNING", "the table as it was before"),
        ("INSERT INTO tags (name) VALUES ('x') RETURNING tags", "no: RETURNING", "a row has the table's type"),
        ("INSERT INTO tags (name) VALUES ('x') RETURNING tags.xmin", "no: RETURNING", "not a column"),
        ("UPDATE tags SET id = id + 1, made = now()", "no: primary key", "the others would not find it"),
        ("UPDATE ONLY tags SET made = now()", "no: proven", "the others would not know of ONLY"),
        ("INSERT INTO moods (mood) VALUES ('happy')", "INSERT INTO moods (mood) VALUES ('happy') RETURNING \"moods\".\"id\", \"moods\".\"mood\"::pg_catalog.text ; INSERT INTO \"public\".\"moods\" (\"id\", \"mood\") OVERRIDING SYSTEM VALUE SELECT pgring_given.\"id\", pgring_given.\"mood\"::public.mood FROM unnest(/2) AS pgring_given (\"id\", \"mood\")", "an enumeration by its labels"),
        ("INSERT INTO shapes (shape) VALUES ('x')", "no: column \"shape\"", "its type may be another one on each shard"),
        ("INSERT INTO sets (members) VALUES ('{1}')", "no: column \"members\"", "arrays of arrays are one array"),
    ]);
}

#[test]
fn clocks() {
    for (text, expect) in [("now", true), (" TODAY 12:00", true), ("yesterday", true), ("2026-01-01", false), ("snow", false), ("", false)] {
        assert_eq!(tells_the_time(text.as_bytes()), expect, "{text}");
    }
}

#[test]
fn rows_that_other_shards_have_are_given() {
    const ALL: &str = "EachShard";
    let given = |columns: &str, arrays: &str, names: &str| format!("(SELECT {columns} FROM {} AS pgring_given ({names}))", if names.contains(',') { format!("unnest({arrays})") } else { format!("pg_catalog.unnest({arrays})") });
    let users = |columns: &str, condition: &str| format!("SELECT {columns} FROM \"public\".\"users\" AS {condition} {ALL}");
    let id = given("pgring_given.c1::bigint AS \"id\"", "$1", "c1");
    let behind = given("pgring_given.c1::bigint AS \"id\"", "$2", "c1");
    let both = given("pgring_given.c1::text AS \"email\", pgring_given.c2::integer AS \"plan_id\"", "$1, $2", "c1, c2");
    let settings = given("pgring_given.c1::text AS \"value\"", "$1", "c1");
    check(&[
        ("DELETE FROM jobs WHERE user_id NOT IN (SELECT id FROM users)", &format!("supply Owners [{}] DELETE FROM jobs WHERE user_id NOT IN (SELECT id FROM {id} AS users)", users("\"id\"", "users")), "all keys of all shards"),
        ("UPDATE jobs SET priority = (SELECT count(*) FROM users)", &format!("supply Owners [{}] UPDATE jobs SET priority = (SELECT count(*) FROM {id} AS users)", users("\"id\"", "users")), "counted over all shards"),
        ("UPDATE jobs SET priority = $1 WHERE id IN (SELECT u.id FROM users u WHERE u.plan_id = 3)", &format!("supply Owners [{}] UPDATE jobs SET priority = $1 WHERE id IN (SELECT u.id FROM {} u WHERE u.plan_id = 3)", users("\"id\", \"plan_id\"", "u WHERE (u.plan_id = 3)"), given("pgring_given.c1::bigint AS \"id\", pgring_given.c2::integer AS \"plan_id\"", "$2, $3", "c1, c2")), "behind the client's own parameter"),
        ("UPDATE jobs SET name = u.email FROM users u WHERE u.plan_id = jobs.priority", &format!("supply Owners [{}] UPDATE jobs SET name = u.email FROM {both} u WHERE u.plan_id = jobs.priority", users("\"email\", \"plan_id\"", "u")), "not joined on the keys"),
        ("DELETE FROM jobs USING users WHERE users.id = jobs.id AND jobs.user_id = $1", &format!("supply Owners [{}] DELETE FROM jobs USING {behind} AS users WHERE users.id = jobs.id AND jobs.user_id = $1", users("\"id\"", "users")), "only the joined table is given"),
        ("UPDATE jobs SET name = (SELECT value FROM app_settings)", &format!("supply Owners [SELECT \"value\" FROM \"public\".\"app_settings\" AS app_settings Home] UPDATE jobs SET name = (SELECT value FROM {settings} AS app_settings)"), "other shards lack it"),
        ("UPDATE app_settings SET value = u.email FROM users u WHERE u.plan_id = 3", &format!("supply Home [{}] UPDATE app_settings SET value = u.email FROM {both} u WHERE u.plan_id = 3", users("\"email\", \"plan_id\"", "u WHERE (u.plan_id = 3)")), "the home shard's own table stays"),
        ("DELETE FROM plans WHERE id IN (SELECT id FROM users)", &format!("supply Copies [{}] DELETE FROM plans WHERE id IN (SELECT id FROM {id} AS users)", users("\"id\"", "users")), "every copy by the same rows"),
        ("UPDATE plans SET name = u.email FROM users u WHERE u.id = plans.id", "no: every copy", "several rows may match one"),
        ("UPDATE tags SET made = now() WHERE id IN (SELECT id FROM users)", "no: every copy", "another moment on each shard"),
        ("DELETE FROM jobs WHERE id IN (SELECT id FROM jobs ORDER BY priority LIMIT 10)", "supply Owners [SELECT id FROM jobs ORDER BY priority LIMIT 10] DELETE FROM jobs WHERE id IN (SELECT pgring_given.c1 FROM pg_catalog.unnest($1) AS pgring_given (c1))", "ten of all shards"),
        ("DELETE FROM jobs USING users WHERE users.id = jobs.id AND (jobs.id, 1) IN (SELECT u.id, 1 FROM users u LIMIT 3)", &format!("supply Owners [{}; SELECT u.id, 1 FROM users u LIMIT 3] DELETE FROM jobs USING {id} AS users WHERE users.id = jobs.id AND (jobs.id, 1) IN (SELECT pgring_given.c1, pgring_given.c2 FROM unnest($2, $3) AS pgring_given (c1, c2))", users("\"id\"", "users")), "tables and a sub-query"),
        ("DELETE FROM jobs USING (SELECT id FROM users LIMIT 3) u WHERE u.id = jobs.id", "no: LIMIT", "in FROM"),
        ("DELETE FROM jobs WHERE id IN (SELECT * FROM users ORDER BY email LIMIT 10)", "no: LIMIT", "its columns are not counted"),
        ("UPDATE jobs SET priority = (SELECT count(*) FROM users WHERE random() < 0.5)", "supply Owners [SELECT count(*) FROM users WHERE random() < 0.5] UPDATE jobs SET priority = (SELECT pgring_given.c1 FROM pg_catalog.unnest($1) AS pgring_given (c1))", "once for all rows"),
        ("MERGE INTO jobs j USING users u ON u.plan_id = j.priority WHEN MATCHED THEN DELETE", &format!("supply Owners [{}] MERGE INTO jobs j USING {} u ON u.plan_id = j.priority WHEN MATCHED THEN DELETE", users("\"plan_id\"", "u"), given("pgring_given.c1::integer AS \"plan_id\"", "$1", "c1")), "each shard its own matches"),
        ("MERGE INTO jobs j USING users u ON u.plan_id = j.priority WHEN NOT MATCHED THEN INSERT (user_id) VALUES (u.id)", "no: no match", "no match here is no match at all"),
        ("WITH d AS (DELETE FROM old_jobs) DELETE FROM jobs USING users WHERE users.id = jobs.id", "no: by each shard alone", "two changes"),
    ]);
}

#[test]
fn rows_of_a_query_go_to_their_owners() {
    let into = |head: &str, columns: &str, tail: &str| format!("{head} SELECT {columns} FROM unnest($2, $3) AS pgring_given (c1, c2) {tail}");
    let plain = "pgring_given.c1, pgring_given.c2";
    check(&[
        ("INSERT INTO old_jobs (user_id) SELECT user_id FROM jobs LIMIT 5", &format!("transfer Owners by 0 [SELECT user_id FROM jobs LIMIT 5] {}", into("INSERT INTO old_jobs (user_id) ", plain, "")), "five of all shards"),
        ("INSERT INTO old_jobs (name, user_id) SELECT name, id FROM jobs RETURNING user_id", &format!("transfer Owners by 1 [SELECT name, id FROM jobs] {} ; in order", into("INSERT INTO old_jobs (name, user_id) ", plain, "RETURNING user_id")), "another column is the key"),
        ("INSERT INTO old_jobs AS o (user_id, name) SELECT id, 'x' FROM jobs ON CONFLICT (user_id) DO NOTHING", &format!("transfer Owners by 0 1::pg_catalog.text [SELECT id, 'x' FROM jobs] {}", into("INSERT INTO old_jobs AS o (user_id, name) ", "pgring_given.c1, pgring_given.c2::pg_catalog.text", "ON CONFLICT (user_id) DO NOTHING")), "a constant takes its column's type"),
        ("INSERT INTO old_jobs (user_id, created_at) SELECT id, '2024-01-01' FROM jobs", &format!("transfer Owners by 0 1::timestamp with time zone [SELECT id, '2024-01-01' FROM jobs] {}", into("INSERT INTO old_jobs (user_id, created_at) ", "pgring_given.c1, pgring_given.c2::timestamp with time zone", "")), "not as a text"),
        ("WITH a AS (SELECT id FROM users) INSERT INTO old_jobs (user_id) SELECT id + 1 FROM a", &format!("transfer Owners by 0 [WITH a AS (SELECT id FROM users) (SELECT id + 1 FROM a)] {}", into("INSERT INTO old_jobs (user_id) ", plain, "")), "WITH belongs to the query"),
        ("INSERT INTO app_settings SELECT name, name FROM jobs", &format!("transfer Home [SELECT name, name FROM jobs] {}", into("INSERT INTO app_settings ", plain, "")), "into the home shard"),
        ("INSERT INTO plans SELECT id, email FROM users", &format!("transfer Copies [SELECT id, email FROM users] {}", into("INSERT INTO plans ", plain, "")), "into every copy"),
        ("INSERT INTO tags (id, name) SELECT id, email FROM users", "no: might not come out the same", "a default that differs"),
        ("INSERT INTO old_jobs (user_id) SELECT id FROM jobs FOR UPDATE", "no: locked", "locks stay with their statement"),
        ("INSERT INTO old_jobs (user_id, name) SELECT id, name FROM jobs RETURNING (SELECT count(*) FROM plans)", "no: sub-query", "counted after the rows are there"),
        ("INSERT INTO old_jobs SELECT *, 'x' FROM jobs j LIMIT 3", "no: told apart", "which column is not seen"),
    ]);
}

#[test]
fn what_changes_return_is_folded() {
    let over = |before: &str, behind: &str| format!("{before} SELECT pgring_given.c1 AS \"a\", pgring_given.c2 AS \"b\" FROM unnest($2, $3) AS pgring_given (c1, c2) {behind}");
    check(&[
        ("WITH gone AS (DELETE FROM jobs RETURNING *) SELECT count(*) FROM gone", &format!("fold [DELETE FROM jobs RETURNING *] {}", over("WITH gone AS (", ") SELECT count(*) FROM gone")), "one count of all shards"),
        ("WITH gone (x, y) AS MATERIALIZED (DELETE FROM jobs RETURNING id, name) SELECT * FROM gone ORDER BY x", &format!("fold [DELETE FROM jobs RETURNING id, name] {}", over("WITH gone (x, y) AS MATERIALIZED (", ") SELECT * FROM gone ORDER BY x")), "one order of all shards"),
        ("WITH gone AS (DELETE FROM jobs RETURNING *), n AS (SELECT count(*) FROM gone) SELECT * FROM n, plans", &format!("fold [DELETE FROM jobs RETURNING *] {}", over("WITH gone AS (", "), n AS (SELECT count(*) FROM gone) SELECT * FROM n, plans")), "a reference table is as it was"),
        ("WITH x AS (DELETE FROM plans RETURNING *) SELECT * FROM x", &format!("fold [DELETE FROM plans RETURNING *] {}", over("WITH x AS (", ") SELECT * FROM x")), "of every copy the same"),
        ("WITH x AS (DELETE FROM plans RETURNING *) SELECT count(*) FROM x, plans", "no: other tables", "it is read as it was before"),
        ("WITH gone AS (DELETE FROM jobs RETURNING *) SELECT count(*) FROM gone, jobs", "no: other tables", "rows of other shards, as they were"),
        ("WITH a AS (SELECT 1), gone AS (DELETE FROM jobs RETURNING *) SELECT count(*) FROM gone", "no: folded", "the change may read what stands before it"),
        ("WITH gone AS (DELETE FROM jobs RETURNING *), more AS (DELETE FROM old_jobs) SELECT count(*) FROM gone", "no: by each shard alone", "two changes"),
        ("WITH gone AS (DELETE FROM jobs RETURNING *) SELECT pg_try_advisory_xact_lock(7) FROM gone", "no: pg_try_advisory_xact_lock()", "a lock is the home shard's"),
        ("WITH gone AS (DELETE FROM jobs RETURNING *), n AS (SELECT pg_catalog.pg_notify('c', id::text) FROM gone) SELECT count(*) FROM n", "no: pg_notify()", "who listens does so at home"),
        ("WITH gone AS (DELETE FROM jobs RETURNING *) SELECT n FROM gone, nextval('s') n", "no: nextval()", "so is a sequence"),
        ("WITH gone AS (DELETE FROM jobs RETURNING *) SELECT set_config('a.b', id::text, false) FROM gone", "no: set_config()", "the session is to have it"),
        ("WITH x AS (DELETE FROM plans RETURNING *) SELECT lo_create(0) FROM x", "no: lo_create()", "also of every copy"),
        ("WITH gone AS (DELETE FROM jobs RETURNING *) SELECT max(upper(name)), min(now()) FROM gone", &format!("fold [DELETE FROM jobs RETURNING *] {}", over("WITH gone AS (", ") SELECT max(upper(name)), min(now()) FROM gone")), "these are any server's"),
        ("WITH gone AS (DELETE FROM jobs) SELECT 1", "no: by each shard alone", "it returns nothing"),
    ]);
}
