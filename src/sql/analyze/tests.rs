//! One table a topic: a statement, what it must mean, and why.

use super::super::lexer::Lexed;
use super::super::schema::{
    CallingCast, CastWhen, ColumnDetail, Configured, Function, Schema, Table, TableDetail, TableKind,
    TextOrder,
};
use super::super::shape::{KeySlot, KeyType, Kind, Pin, Shape, Target, ValueSlot};
use super::{Context, analyze};

// A row a line, however long: the tables are read down, not across.
#[rustfmt::skip]
mod keys;
mod limits;
mod session;
#[rustfmt::skip]
mod utility;
#[rustfmt::skip]
mod writes;

pub(super) fn schema() -> Schema {
    fn table(name: &str, columns: &[&str], kind: TableKind) -> Table {
        let (schema, name) = name.split_once('.').unwrap_or(("public", name));
        Table {
            schema: schema.to_owned(),
            name: name.to_owned(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            kind,
            detail: TableDetail::default(),
        }
    }
    let acting = |name: &str, kind, detail| Table { detail, ..table(name, &["id", "user_id", "x"], kind) };
    let calling = |function: &str| TableDetail {
        calling_defaults: vec![("x".to_owned(), function.to_owned())],
        ..TableDetail::default()
    };
    let column = |type_name: &str| ColumnDetail {
        type_name: type_name.to_owned(),
        builtin: true,
        text_order: TextOrder::ByType,
        default_collation: true,
        not_null: false,
        default: None,
        generated: false,
        identity: false,
    };
    let moody = TableDetail {
        columns: vec![column("bigint"), column("bigint"), column("public.mood")],
        ..TableDetail::default()
    };
    let by = |key| TableKind::Sharded { key, key_type: KeyType::Integer };
    let view = |definition: &str| TableKind::View { definition: definition.to_owned() };
    let tables = vec![
        table("users", &["id", "email", "name", "plan_id", "created_at"], by(0)),
        table("jobs", &["id", "user_id", "name", "status", "priority", "created_at"], by(1)),
        table("job_executions", &["id", "job_id", "user_id", "status", "started_at"], by(2)),
        table("notifications", &["id", "user_id", "body", "read_at"], by(1)),
        table("audit_logs", &["id", "user_id", "action", "at"], by(1)),
        table("Mixed", &["id", "user_id"], by(1)),
        table("plans", &["id", "name", "price_cents"], TableKind::Reference),
        table("app_settings", &["key", "value"], TableKind::Home),
        table("other.jobs", &["id", "user_id"], TableKind::Home),
        table("other.owned", &["id", "user_id"], TableKind::Reference),
        acting("ruled", by(1), TableDetail { has_rules: true, ..TableDetail::default() }),
        acting("ruled_copy", TableKind::Reference, TableDetail { has_rules: true, ..TableDetail::default() }),
        acting("ruled_home", TableKind::Home, TableDetail { has_rules: true, ..TableDetail::default() }),
        acting("filled", by(1), calling("top_users")),
        acting("numbered", by(1), calling("uuid_generate_v9")),
        acting("moody", by(1), moody),
        table("jobs_id_seq", &[], TableKind::Sequence),
        table("documents", &["slug", "body"], TableKind::Sharded { key: 0, key_type: KeyType::Text }),
        table("devices", &["uid", "model"], TableKind::Sharded { key: 0, key_type: KeyType::Uuid }),
        table(
            "active_jobs",
            &["user_id", "id", "name"],
            view(
                "SELECT jobs.user_id, jobs.id, jobs.name FROM public.jobs WHERE (jobs.status = 'active'::text);",
            ),
        ),
        table(
            "busiest",
            &["user_id", "n"],
            view("SELECT jobs.user_id, count(*) AS n FROM public.jobs GROUP BY jobs.user_id LIMIT 10"),
        ),
        table(
            "only_five",
            &["user_id"],
            view("SELECT jobs.user_id FROM public.jobs WHERE (jobs.user_id = 5)"),
        ),
        table("settings_view", &["key"], view("SELECT app_settings.key FROM public.app_settings")),
        table("broken_view", &["key"], view("SELECT FROM WHERE")),
    ];
    let function =
        |name: &str, immutable| Function { schema: "public".to_owned(), name: name.to_owned(), immutable };
    let configured = [
        ("plans", Configured::Reference),
        ("users", Configured::Key("id".to_owned())),
        ("other.parts", Configured::Reference),
    ];
    Schema::new(1, tables, vec![function("slugify", true), function("top_users", false)])
        .with_configured(configured.map(|(name, said)| (name.to_owned(), said)))
        .with_calling(
            [("###".to_owned(), "top_users".to_owned())],
            [("int4", CastWhen::Said), ("text", CastWhen::Stored)]
                .map(|(target, when)| CallingCast {
                    source: "mood".to_owned(),
                    target: target.to_owned(),
                    when,
                    function: "top_users".to_owned(),
                })
                .to_vec(),
        )
}

fn shape_of(sql: &str, schema: &Schema, search_path: &[&str], standard: bool) -> Shape {
    let search_path: Vec<String> = search_path.iter().map(|&name| name.to_owned()).collect();
    let mut lexed = Lexed::default();
    lexed.lex(sql.as_bytes(), standard).unwrap_or_default();
    let cx = Context {
        schema,
        search_path: &search_path,
        standard_conforming_strings: standard,
        default_key: "user_id",
        unknown: &std::cell::Cell::new(false),
    };
    analyze(sql.as_bytes(), &lexed, &cx)
}

pub(super) fn shape(sql: &str) -> Shape {
    shape_of(sql, &schema(), &["public"], true)
}

fn slot(slot: KeySlot) -> String {
    match slot {
        KeySlot::Literal(n) => format!("lit{n}"),
        KeySlot::NegatedLiteral(n) => format!("-lit{n}"),
        KeySlot::LiteralArray(n) => format!("lit{n}[]"),
        KeySlot::Param(n) => format!("${n}"),
        KeySlot::ParamArray(n) => format!("${n}[]"),
        KeySlot::Null => "null".to_owned(),
    }
}

fn describe(target: &Target) -> String {
    match target {
        Target::Nothing => "nothing".to_owned(),
        Target::Catalog => "catalog".to_owned(),
        Target::Home => "home".to_owned(),
        Target::Reference => "reference".to_owned(),
        Target::Keys { keys, colocated, home } => {
            let mut slots: Vec<String> = keys.iter().map(|key| slot(key.slot)).collect();
            slots.sort();
            let mut text = format!("keys[{}]", slots.join(" "));
            if *colocated {
                text += " colocated";
            }
            if *home {
                text += " home";
            }
            text
        }
        Target::Everywhere { table, column, home, .. } => {
            format!("everywhere {table}.{column}{}", if *home { " home" } else { "" })
        }
        Target::EachShard => "each".to_owned(),
        Target::Refused(message, _) => format!("refused: {message}"),
    }
}

/// `refused: x` expects a refusal whose message contains `x`.
fn compare(sql: &str, shape: &Shape, expect: &str, why: &str) -> Option<String> {
    let found: Vec<String> = shape.statements.iter().map(|statement| describe(&statement.target)).collect();
    let found = found.join("; ");
    let same = match expect.strip_prefix("refused: ") {
        Some(part) => found.starts_with("refused: ") && found.contains(part),
        None => found == expect,
    };
    (!same).then(|| format!("{sql}\n    found   {found}\n    expects {expect}\n    because {why}"))
}

/// Rows of (statement, target, why).
pub(super) fn check(rows: &[(&str, &str, &str)]) {
    let schema = schema();
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(sql, expect, why)| {
            compare(sql, &shape_of(sql, &schema, &["public"], true), expect, why)
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

pub(super) fn check_under(path: &[&str], standard: bool, rows: &[(&str, &str, &str)]) {
    let schema = schema();
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(sql, expect, why)| compare(sql, &shape_of(sql, &schema, path, standard), expect, why))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
