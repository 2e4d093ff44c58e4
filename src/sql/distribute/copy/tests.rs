//! A `COPY`, what is read of it, and why.

use std::cell::Cell;

use super::super::super::analyze::Context;
use super::super::super::schema::{ColumnDetail, Schema, Table, TableDetail, TableKind, TextOrder};
use super::super::super::shape::KeyType;
use super::{CopyFormat, CopyKind, copy_in, copy_out};

fn table(name: &str, kind: TableKind, columns: &[(&str, &str, Option<&str>)]) -> Table {
    let detail = |(_, type_name, default): &(&str, &str, Option<&str>)| ColumnDetail {
        type_name: (*type_name).to_owned(),
        builtin: true,
        text_order: TextOrder::ByType,
        default_collation: true,
        not_null: false,
        default: default.map(str::to_owned),
        generated: *default == Some("generated"),
        identity: false,
    };
    Table {
        schema: "public".to_owned(),
        name: name.to_owned(),
        columns: columns.iter().map(|(name, ..)| (*name).to_owned()).collect(),
        kind,
        detail: TableDetail { columns: columns.iter().map(detail).collect(), ..TableDetail::default() },
    }
}

fn shown(format: &CopyFormat) -> String {
    let byte = |byte: u8| char::from(byte).escape_default().to_string();
    let text = |text: &[u8]| String::from_utf8_lossy(text).escape_default().to_string();
    let mut shown = match format.kind {
        CopyKind::Text => format!("text {} null={}", byte(format.delimiter), text(&format.null)),
        CopyKind::Csv => format!("csv {} null={} {}{}", byte(format.delimiter), text(&format.null), byte(format.quote), byte(format.escape)),
        CopyKind::Binary => "binary".to_owned(),
    };
    if format.header {
        shown += " header";
    }
    if let Some(default) = &format.default {
        shown += &format!(" default={}", text(default));
    }
    shown
}

fn describe(sql: &str) -> String {
    let sharded = TableKind::Sharded { key: 1, key_type: KeyType::Integer };
    let schema = Schema::new(1, vec![
        table("jobs", sharded.clone(), &[("id", "bigint", None), ("user_id", "bigint", None), ("name", "text", None)]),
        table("sums", sharded, &[("total", "bigint", Some("generated")), ("user_id", "bigint", None)]),
        table("plans", TableKind::Reference, &[("id", "integer", None), ("name", "text", Some("'x'::text"))]),
        table("tags", TableKind::Reference, &[("id", "integer", Some("nextval('s'::regclass)")), ("at", "date", Some("now()"))]),
        table("app_settings", TableKind::Home, &[("key", "text", None)]),
    ], Vec::new());
    let cx = Context {
        schema: &schema,
        search_path: &["public".to_owned()],
        standard_conforming_strings: true,
        default_key: "user_id",
        unknown: &Cell::new(false),
    };
    let text = sql.as_bytes();
    match (copy_in(text, &cx), copy_out(text, &cx)) {
        (Ok(copy), _) => {
            assert_eq!(copy.sql, sql.trim_end_matches(';'));
            let key = copy.key.map_or("all".to_owned(), |key| {
                let mut shown = key.field.to_string();
                if key.never_null { shown += " never null"; }
                if key.null_in_quotes { shown += " null in quotes"; }
                shown
            });
            let timed = if copy.timed { " timed" } else { "" };
            format!("{key}/{}{timed}: {}", copy.fields, shown(&copy.format))
        }
        (_, Ok(copy)) => {
            assert_eq!(copy.sql, sql.trim_end_matches(';'));
            format!("out{}: {}", copy.query.map(|query| format!(" [{query}]")).unwrap_or_default(), shown(&copy.format))
        }
        (Err(inward), Err(_)) => format!("no: {}", inward.message),
    }
}

#[test]
fn options() {
    let text = "text \\t null=\\\\N";
    let rows = [
        ("COPY jobs FROM STDIN", format!("1/3: {text}"), "the table's order"),
        ("COPY public.jobs (user_id, name) FROM STDIN;", format!("0/2: {text}"), "the list's order"),
        ("COPY sums FROM STDIN", format!("0/1: {text}"), "what is generated is not copied"),
        ("COPY jobs FROM STDIN WITH (FORMAT csv)", "1/3: csv , null= \\\"\\\"".to_owned(), "CSV"),
        ("COPY jobs FROM STDIN (FORMAT 'csv', HEADER, DELIMITER ';', NULL 'nil', QUOTE '''', ESCAPE '\\')", "1/3: csv ; null=nil \\'\\\\ header".to_owned(), "each option"),
        ("COPY jobs FROM STDIN WITH (FORMAT csv, HEADER match, FORCE_NULL (user_id, name))", "1 null in quotes/3: csv , null= \\\"\\\" header".to_owned(), "a list"),
        ("COPY jobs FROM STDIN WITH (FORMAT csv, FORCE_NOT_NULL *)", "1 never null/3: csv , null= \\\"\\\"".to_owned(), "all columns"),
        ("COPY jobs FROM STDIN WITH (HEADER false, FREEZE, ENCODING 'UTF-8', LOG_VERBOSITY verbose, ON_ERROR stop, DEFAULT '\\D')", format!("1/3: {text} default=\\\\D"), "what does not matter"),
        ("COPY jobs FROM STDIN WITH (DELIMITER E'\\x01')", "1/3: text \\u{1} null=\\\\N".to_owned(), "an escape string"),
        ("COPY jobs FROM STDIN WITH (FORMAT binary)", "1/3: binary".to_owned(), "binary"),
        ("COPY BINARY jobs FROM STDIN", "1/3: binary".to_owned(), "of old"),
        ("COPY jobs FROM STDIN BINARY", "1/3: binary".to_owned(), "of old"),
        ("COPY jobs FROM STDIN DELIMITERS '|'", "1/3: text | null=\\\\N".to_owned(), "of old"),
        ("COPY jobs FROM STDIN USING DELIMITERS '|' WITH NULL AS ''", "1/3: text | null=".to_owned(), "of old"),
        ("COPY jobs FROM STDIN WITH CSV HEADER DELIMITER AS '|' QUOTE '~' FORCE NOT NULL name, user_id", "1 never null/3: csv | null= ~~ header".to_owned(), "of old"),
        ("COPY jobs FROM STDIN CSV WHERE name = 'x' AND lower(name) <> 'y'", "1/3: csv , null= \\\"\\\"".to_owned(), "a condition"),
        ("COPY jobs FROM STDIN WITH (FORMAT csv) WHERE id > 3", "1/3: csv , null= \\\"\\\"".to_owned(), "a condition"),
        ("COPY plans FROM STDIN", format!("all/2: {text}"), "a reference table"),
        ("COPY plans (id) FROM STDIN", format!("all/1: {text}"), "a constant default"),
        ("COPY tags FROM STDIN", format!("all/2 timed: {text}"), "all is given, but a date may be 'now'"),
        ("COPY tags FROM STDIN BINARY", "all/2: binary".to_owned(), "no word is in binary"),
        ("COPY tags (at) FROM STDIN", "no: default of column \"id\"".to_owned(), "a sequence"),
        ("COPY jobs (id, name) FROM STDIN", "no: does not give its key".to_owned(), "no key"),
        ("COPY jobs FROM '/tmp/x'", "no: file".to_owned(), "a file of one server"),
        ("COPY jobs FROM PROGRAM 'x'", "no: file".to_owned(), "a program of one server"),
        ("COPY jobs FROM STDIN WITH (FORMAT parquet)", "no: FORMAT".to_owned(), "not known"),
        ("COPY jobs FROM STDIN WITH (ENCODING latin1)", "no: ENCODING".to_owned(), "keys would be other bytes"),
        ("COPY jobs FROM STDIN WITH (ON_ERROR ignore)", "no: ON_ERROR".to_owned(), "a bad key has no shard"),
        ("COPY jobs FROM STDIN WITH (REJECT_LIMIT 3)", "no: REJECT_LIMIT".to_owned(), "a limit for all shards"),
        ("COPY jobs FROM STDIN WITH (DELIMITER 'ab')", "no: DELIMITER".to_owned(), "two characters"),
        ("COPY jobs FROM STDIN WITH (DELIMITER 'a')", "no: DELIMITER".to_owned(), "an escape's letter"),
        ("COPY jobs FROM STDIN WITH (FORMAT csv, DELIMITER '\"')", "no: DELIMITER".to_owned(), "the quote"),
        ("COPY jobs FROM STDIN WITH (FORMAT csv, HEADER 2)", "no: HEADER".to_owned(), "not known"),
        ("COPY jobs FROM STDIN nonsense", "no: cannot be read".to_owned(), "not SQL"),
        ("COPY jobs FROM STDIN WHERE nextval('s') > 3", "no: nextval".to_owned(), "a sequence of the home shard"),
        ("COPY app_settings FROM STDIN", "no: ".to_owned(), "not on several shards"),
        ("COPY jobs TO STDOUT", format!("out: {text}"), "a table"),
        ("COPY jobs (id) TO STDOUT WITH (FORMAT csv, HEADER, FORCE_QUOTE *)", "out: csv , null= \\\"\\\" header".to_owned(), "options"),
        ("COPY jobs TO STDOUT CSV FORCE QUOTE name, id HEADER", "out: csv , null= \\\"\\\" header".to_owned(), "of old"),
        ("COPY (SELECT id, (1) FROM jobs) TO STDOUT WITH BINARY", "out [SELECT id, (1) FROM jobs]: binary".to_owned(), "a query"),
    ];
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
