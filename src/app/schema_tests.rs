//! Catalogs as they might be, and what routing makes of them.

use super::*;

/// One line a relation: `schema.name columns…`, a column being `name:type`; `foreign`, `view` or
/// `sequence` in front; `< schema.parent` behind.
fn catalog(lines: &[&str]) -> Catalog {
    let mut catalog =
        Catalog { encoding: "UTF8".to_owned(), collation: "C".to_owned(), ..Catalog::default() };
    for line in lines {
        let (line, parents) = line.split_once(" < ").unwrap_or((line, ""));
        let mut words = line.split_whitespace().peekable();
        let class = match *words.peek().unwrap() {
            "foreign" => Class::Foreign,
            "view" => Class::View("SELECT 1;".to_owned()),
            "sequence" => Class::Sequence,
            "function" => {
                let (schema, name) = words.nth(1).unwrap().split_once('.').unwrap();
                let immutable = words.next() == Some("immutable");
                catalog.routines.push(Routine { schema: schema.into(), name: name.into(), immutable });
                continue;
            }
            _ => Class::Table,
        };
        if class != Class::Table {
            words.next();
        }
        let (schema, name) = words.next().unwrap().split_once('.').unwrap();
        let columns = words.map(|word| {
            let (name, shown) = word.split_once(':').unwrap_or((word, "text"));
            let (shown, not_null) = shown.strip_suffix('!').map_or((shown, false), |shown| (shown, true));
            let type_name = match shown {
                "bigint" => "int8",
                "integer" => "int4",
                "nocase" => "text",
                other => other,
            };
            Column {
                name: name.to_owned(),
                shown: shown.to_owned(),
                key_type: key_type(type_name),
                collation: if shown == "nocase" { "nocase" } else { "" }.to_owned(),
                deterministic: shown != "nocase",
                not_null,
            }
        });
        let relation = Relation {
            schema: schema.to_owned(),
            name: name.to_owned(),
            class,
            columns: columns.collect(),
            parents: parents
                .split_whitespace()
                .map(|parent| catalog.relations.iter().position(|r| r.full_name() == parent).unwrap())
                .collect(),
            detail: TableDetail { has_triggers: name.ends_with("_triggered"), ..TableDetail::default() },
            calling_checks: Vec::new(),
        };
        catalog.relations.push(relation);
    }
    catalog
}

/// `table=column` or `table=reference`, after the database's key.
fn rules(text: &str) -> DatabaseRules {
    let mut words = text.split_whitespace();
    let key = words.next().filter(|key| *key != "-").map(str::to_owned);
    let tables = words.map(|word| {
        let (name, rule) = word.split_once('=').unwrap();
        let rule = match rule {
            "reference" => Rule::Reference,
            column => Rule::Key(column.to_owned()),
        };
        TableRule { name: name.to_owned(), rule }
    });
    DatabaseRules { key, tables: tables.collect() }
}

/// What each relation is, or the problems.
fn check(lines: &[&str], rule: &str, expect: &[&str]) {
    let shown: Vec<String> = match catalog(lines).judge(&rules(rule), 1) {
        Ok(found) => {
            let kind = |table: &Table| match &table.kind {
                TableKind::Sharded { key_type, .. } => {
                    format!("{} {key_type:?}", table.key_column().unwrap())
                }
                TableKind::Reference => "reference".to_owned(),
                TableKind::Home => "home".to_owned(),
                TableKind::View { .. } => "view".to_owned(),
                TableKind::Sequence => "sequence".to_owned(),
            };
            let tables = found.schema.tables();
            let shown = tables.map(|table| format!("{}.{}: {}", table.schema, table.name, kind(table)));
            shown.chain(found.warnings.iter().map(|text| format!("! {text}"))).collect()
        }
        Err(SchemaError::Unroutable(problems)) => problems,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(shown.len(), expect.len(), "{shown:#?}");
    for (shown, expect) in shown.iter().zip(expect) {
        assert!(shown.contains(expect), "{shown:?} should contain {expect:?}");
    }
}

#[test]
fn kinds() {
    check(
        &[
            "public.users id:bigint email",
            "public.jobs id:bigint user_id:bigint!",
            "public.plans id:integer",
            "public.app_settings name value",
            "public.tokens user_id:uuid",
            "public.names user_id:text",
            "view public.mine user_id:bigint",
            "sequence public.jobs_id_seq",
        ],
        "user_id users=id plans=reference",
        &[
            "public.users: id Integer",
            "public.jobs: user_id Integer",
            "public.plans: reference",
            "public.app_settings: home",
            "public.tokens: user_id Uuid",
            "public.names: user_id Text",
            "public.mine: view",
            "public.jobs_id_seq: sequence",
        ],
    );
    // a rule goes before the key column, a qualified one before one that is not
    check(
        &["public.users id:bigint user_id:bigint", "other.users id:bigint", "third.users id:bigint"],
        "user_id users=id other.users=reference",
        &["public.users: id Integer", "other.users: reference", "third.users: id Integer"],
    );
    check(&["public.t user_id:bigint"], "- ", &["public.t: home"]);
}

#[test]
fn inheritance() {
    // partitions follow their table's rule, however deep
    check(
        &["public.t id:bigint", "public.t_a id:bigint < public.t", "public.t_a_1 id:bigint < public.t_a"],
        "user_id t=id",
        &["public.t: id Integer", "public.t_a: id Integer", "public.t_a_1: id Integer"],
    );
    check(
        &["public.t id:bigint", "foreign public.t_f id:bigint user_id:bigint < public.t"],
        "user_id t=reference",
        &["t: reference", "t_f: reference"],
    );
    check(
        &["public.t user_id:bigint", "foreign public.t_f user_id:bigint < public.t"],
        "user_id",
        &["t: user_id Integer", "t_f: user_id Integer"],
    );
    // a child that is elsewhere than its parent
    check(
        &["public.base id:bigint", "public.child id:bigint user_id:bigint < public.base"],
        "user_id",
        &["table public.child (sharded by user_id) inherits from public.base (not sharded)"],
    );
    check(
        &["public.base id:bigint user_id:bigint", "public.child id:bigint user_id:bigint < public.base"],
        "user_id child=id",
        &["table public.child (sharded by id) inherits from public.base (sharded by user_id)"],
    );
}

#[test]
fn what_cannot_be_routed_is_said_all_at_once() {
    check(
        &[
            "public.a user_id:jsonb",
            "public.b user_id:nocase",
            "public.c id:bigint",
            "public.d user_id:bpchar",
            "public.fine user_id:bigint",
        ],
        "user_id c=owner_id",
        &[
            "key column user_id of table public.a is of type jsonb; a key is smallint,",
            "key column user_id of table public.b has the collation nocase",
            "table public.c has no column owner_id",
            "key column user_id of table public.d is of type bpchar",
        ],
    );
}

#[test]
fn warnings() {
    check(
        &["foreign public.f user_id:bigint", "view public.v user_id"],
        "user_id v=reference later=id app.plans=reference",
        &[
            "public.f: home",
            "public.v: view",
            "public.later: id Integer",
            "app.plans: reference",
            "! foreign table public.f has the column user_id",
            "! public.v is a view",
            "! [[database.table]] \"later\": there is no such table",
            "! [[database.table]] \"app.plans\": there is no such table",
        ],
    );
}

#[test]
fn differences() {
    let home = [
        "public.users id:bigint! email",
        "public.jobs id:bigint user_id:bigint",
        "public.settings name",
        "view public.mine user_id:bigint",
        "function public.score immutable",
    ];
    let compare_with = |lines: &[&str]| {
        let rules = rules("user_id users=id later=id");
        let expected = catalog(&home).judge(&rules, 1).unwrap();
        compare("s1", &expected, "s2", &catalog(lines))
            .iter()
            .map(|difference| match difference {
                Difference::Error(text) => format!("error {text}"),
                Difference::Warning(text) => format!("warning {text}"),
            })
            .collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(compare_with(&home), none);
    // a table of the home shard need not be elsewhere
    assert_eq!(compare_with(&[home[0], home[1], home[3], home[4]]), none);
    assert_eq!(
        compare_with(&["public.users id:bigint! email", "public.extra name", "public.later id:bigint"]),
        [
            "error shard s2 lacks table public.jobs",
            "warning shard s2 lacks view public.mine",
            "error shard s1 lacks table public.later",
            "warning table public.extra is on shard s2, but not on s1: no statement reaches it",
            "warning function public.score is missing on shard s2, or of another volatility",
        ]
    );
    for (users, expect) in [
        ("public.users email id:bigint!", "columns of table public.users are in another order on shard s2"),
        ("public.users id:integer! email", "column id of table public.users is integer NOT NULL on shard s2"),
        ("public.users id:bigint email", "is bigint on shard s2 and bigint NOT NULL on s1"),
        ("public.users id:bigint!", "table public.users has no column email on shard s2"),
        ("public.users id:bigint! email age", "has a column age on shard s2, but not on s1"),
    ] {
        let found = compare_with(&[users, home[1], home[2], home[3], home[4]]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("error ") && found[0].contains(expect), "{found:?}");
    }
}

#[test]
fn a_table_has_its_partitions_triggers() {
    let lines = [
        "public.t id:bigint",
        "public.t_a id:bigint < public.t",
        "public.t_a_triggered id:bigint < public.t_a",
        "public.t_b id:bigint < public.t",
    ];
    let found = catalog(&lines).judge(&rules("user_id t=id"), 1).unwrap();
    let triggered: Vec<bool> = found.schema.tables().map(|table| table.detail.has_triggers).collect();
    assert_eq!(triggered, [true, true, true, false]);
}

#[test]
fn text_orders() {
    use TextOrder::{Bytes, Language};
    for (encoding, provider, locale, expect) in [
        ("UTF8", "c", "C", Bytes),
        ("LATIN1", "c", "POSIX", Bytes),
        ("UTF8", "c", "C.UTF-8", Bytes),
        ("UTF8", "c", "C.utf8", Bytes),
        ("UTF8", "c", "en_US.UTF-8", Language),
        ("UTF8", "c", "C.UTF-8@posix", Language),
        ("UTF8", "i", "en-US", Language),
        // there is an ICU locale of this name, or what it takes for one
        ("UTF8", "i", "C", Language),
        ("UTF8", "b", "C.UTF-8", Bytes),
        ("UTF8", "b", "PG_UNICODE_FAST", Bytes),
        ("LATIN1", "b", "C", Bytes),
    ] {
        assert_eq!(text_order(encoding, provider, locale), expect, "{encoding} {provider} {locale}");
    }
}

#[test]
fn a_fingerprint_changes_with_any_change() {
    let one = catalog(&["public.users id:bigint email"]);
    assert_eq!(one.fingerprint(), catalog(&["public.users id:bigint email"]).fingerprint());
    for other in [
        "public.users id:bigint email!",
        "public.users email id:bigint",
        "public.users id:bigint",
        "public.usersi d:bigint email",
        "view public.users id:bigint email",
    ] {
        assert_ne!(one.fingerprint(), catalog(&[other]).fingerprint(), "{other}");
    }
    let mut detailed = one.clone();
    detailed.relations[0].detail.primary_key.push(0);
    assert_ne!(one.fingerprint(), detailed.fingerprint());
}
