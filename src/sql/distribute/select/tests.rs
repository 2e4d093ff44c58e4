//! One table a topic: a query, and what the shards and the finish run.

use std::cell::Cell;

use super::super::{Combine, Count, Merge, Partial, Piece, Plan, SortKey};
use crate::sql::analyze::Context;
use crate::sql::schema::{ColumnDetail, Function, Schema, Table, TableDetail, TableKind, TextOrder};
use crate::sql::shape::KeyType;

/// `name:type`; a text's order behind a slash: `c` bytes (the default), `de` another language.
fn table(name: &str, columns: &[&str], kind: TableKind) -> Table {
    let detail = |column: &&str| {
        let (_, type_name) = column.split_once(':').unwrap_or((column, "bigint"));
        let (type_name, collation) = type_name.split_once('/').unwrap_or((type_name, ""));
        ColumnDetail {
            type_name: type_name.to_owned(),
            builtin: true,
            text_order: match (type_name, collation) {
                ("text", "de") => TextOrder::Language,
                ("text", "nocase") => TextOrder::Nondeterministic,
                ("text", _) => TextOrder::Bytes,
                _ => TextOrder::ByType,
            },
            default_collation: collation.is_empty(),
            not_null: false,
            default: None,
            generated: false,
            identity: false,
        }
    };
    let name_of = |column: &&str| column.split_once(':').unwrap_or((column, "")).0.to_owned();
    Table {
        schema: "public".to_owned(),
        name: name.to_owned(),
        columns: columns.iter().map(name_of).collect(),
        kind,
        detail: TableDetail { columns: columns.iter().map(detail).collect(), ..TableDetail::default() },
    }
}

fn schema() -> Schema {
    let by = |key| TableKind::Sharded { key, key_type: KeyType::Integer };
    let view = |definition: &str| TableKind::View { definition: definition.to_owned() };
    let tables = vec![
        table("users", &["id", "email:text", "name:text", "plan_id", "created_at:timestamptz"], by(0)),
        table(
            "jobs",
            &[
                "id",
                "user_id",
                "name:text",
                "status:text",
                "priority",
                "price:numeric",
                "created_at:timestamptz",
            ],
            by(1),
        ),
        table("notes", &["id", "user_id", "word:text/de", "nick:text/nocase", "read_at:timestamptz"], by(1)),
        table(
            "kinds",
            &[
                "user_id",
                "i2:int2",
                "i4:int4",
                "i8",
                "n:numeric",
                "f4:float4",
                "f8:float8",
                "v:interval",
                "m:money",
                "b:boolean",
            ],
            by(0),
        ),
        table("plans", &["id", "title:text", "price:numeric"], TableKind::Reference),
        table(
            "open_jobs",
            &["id", "user_id", "name:text"],
            view(
                "SELECT jobs.id, jobs.user_id, jobs.name FROM public.jobs WHERE (jobs.status = 'open'::text);",
            ),
        ),
    ];
    let function = Function { schema: "public".to_owned(), name: "slugify".to_owned(), immutable: true };
    Schema::new(1, tables, vec![function]).with_aggregates(["hll_agg".to_owned(), "median".to_owned()])
}

fn planned(sql: &str) -> Option<Plan> {
    let cx = Context {
        schema: &schema(),
        search_path: &["public".to_owned()],
        standard_conforming_strings: true,
        default_key: "user_id",
        unknown: &Cell::new(false),
    };
    super::plan(sql.as_bytes(), &cx)
}

fn count(count: Option<Count>) -> String {
    match count {
        None => "-".to_owned(),
        Some(Count::Literal(count)) => count.to_string(),
        Some(Count::Param(number)) => format!("${number}"),
    }
}

/// `merge SQL | keys | limit | offset`, `combine FETCH | FINISH | columns`
fn described(plan: Option<Plan>) -> String {
    match plan {
        None => "none".to_owned(),
        Some(Plan::Merge(Merge { sql, sort, limit, offset })) => {
            let key = |key: &SortKey| {
                let text = |is: bool, text: &'static str| if is { text } else { "" };
                format!(
                    "{}{}{}",
                    if key.descending { "desc" } else { "asc" },
                    text(key.nulls_first != key.descending, " nulls"),
                    text(!key.bytewise, " typed"),
                )
            };
            let sort: Vec<String> = sort.iter().map(key).collect();
            format!("merge {sql} | {} | {} | {}", sort.join(", "), count(limit), count(offset))
        }
        Some(Plan::Combine(Combine { fetch, columns, finish })) => {
            let piece = |piece: &Piece| match piece {
                Piece::Text(text) => text.replace("pgring_partial.", "").replace("pg_catalog.", ""),
                Piece::Source => "@".to_owned(),
                Piece::SumOf(column) => format!("sum[{}]", column + 1),
                Piece::Quotient { sum, count } => format!("avg[{}/{}]", sum + 1, count + 1),
                Piece::Spread { count, sum, squares, sample, root } => {
                    format!("spread[{} {} {} {sample} {root}]", count + 1, sum + 1, squares + 1)
                }
            };
            let column = |column: &Partial| match column {
                Partial::Group { default_collation: true, .. } => "g",
                Partial::Group { .. } => "g?",
                Partial::Aggregate { ordered: true, default_collation: false } => "a?",
                Partial::Aggregate { .. } => "a",
            };
            let columns: Vec<&str> = columns.iter().map(column).collect();
            let finish: String = finish.iter().map(piece).collect();
            format!("combine {fetch} | {finish} | {}", columns.join(" "))
        }
        Some(other) => format!("{other:?}"),
    }
}

// A row a line, however long: the tables are read down, not across.
#[rustfmt::skip]
mod rows;

fn check(rows: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (sql, expect) in rows {
        let found = described(planned(sql));
        if found != *expect {
            wrong += &format!("\n{sql}\n  expected {expect}\n  found    {found}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What the finish is once the columns' types are known.
fn rendered(sql: &str, types: &[u32], parameters: usize) -> Option<String> {
    match planned(sql) {
        Some(Plan::Combine(combine)) => combine.render(types, parameters),
        other => panic!("{}", described(other)),
    }
}

#[test]
fn types_decide_the_finish() {
    for (sql, types, expect) in [
        (
            "SELECT count(*) FROM jobs",
            &[20][..],
            "SELECT pg_catalog.sum(pgring_partial.c1)::pg_catalog.int8 \
             FROM pg_catalog.unnest($3) AS pgring_partial (c1)",
        ),
        (
            "SELECT avg(price) FROM jobs",
            &[1700, 20],
            "SELECT (pg_catalog.sum(pgring_partial.c1) / nullif(pg_catalog.sum(pgring_partial.c2), 0)) \
             FROM unnest($3, $4) AS pgring_partial (c1, c2)",
        ),
        (
            "SELECT avg(price) FROM jobs",
            &[701, 20],
            "SELECT (pg_catalog.sum(pgring_partial.c1) / \
             nullif(pg_catalog.sum(pgring_partial.c2), 0)::pg_catalog.float8) \
             FROM unnest($3, $4) AS pgring_partial (c1, c2)",
        ),
        // float4: its sum has lost digits
        ("SELECT avg(price) FROM jobs", &[700, 20], ""),
        // a type of the user's own
        ("SELECT sum(price) FROM jobs", &[16_400], ""),
        ("SELECT min(status) FROM jobs", &[16_400], ""),
        // arrays of arrays are no arrays of rows
        ("SELECT DISTINCT status FROM jobs", &[1009], ""),
        // its order is not the database's
        ("SELECT max(word) FROM notes", &[25], ""),
        (
            "SELECT max(word COLLATE \"C\") FROM notes",
            &[25],
            "SELECT pg_catalog.max(pgring_partial.c1 COLLATE \"C\") \
             FROM pg_catalog.unnest($3) AS pgring_partial (c1)",
        ),
        // not as many as there are columns
        ("SELECT count(*) FROM jobs", &[20, 20], ""),
    ] {
        assert_eq!(rendered(sql, types, 2).unwrap_or_default(), expect, "{sql} {types:?}");
    }
}

/// For a comparison with a PostgreSQL by hand: `STATEMENT`, or `STATEMENT<tab>TYPES`, a line.
#[test]
#[ignore = "prints the plans of the statements in the file that PGRING_STATEMENTS names"]
fn print() {
    let path = std::env::var("PGRING_STATEMENTS").unwrap();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let (sql, types) = line.split_once('\t').unwrap_or((line, ""));
        match planned(sql) {
            Some(Plan::Merge(merge)) => {
                let key = |key: &SortKey| format!("{} {} {}", key.descending, key.nulls_first, key.bytewise);
                let keys: Vec<String> = merge.sort.iter().map(key).collect();
                let (limit, offset) = (count(merge.limit), count(merge.offset));
                println!("\u{1}merge\t{sql}\t{}\t{}\t{limit}\t{offset}", merge.sql, keys.join(","));
            }
            Some(Plan::Combine(combine)) => {
                let types: Vec<u32> = types.split_whitespace().map(|oid| oid.parse().unwrap()).collect();
                let finish = combine.render(&types, 0).unwrap_or_default();
                println!("\u{1}combine\t{sql}\t{}\t{finish}", combine.fetch);
            }
            _ => println!("\u{1}none\t{sql}"),
        }
    }
}
