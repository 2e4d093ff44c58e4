//! `INSERT … SELECT` whose rows may belong on other shards than those they are read from: the query
//! is answered like any other, then its rows go to their owners.
//!
//! PostgreSQL, too, has the query's rows in the types that the query gives them, and converts them on
//! the way into the table. Only constants without a type take their column's at once.

use sqlparser::ast::{
    Expr, Insert, OnConflictAction, OnInsert, Query, SelectItem, SetExpr, Statement, TableObject, Value,
    Visit, Visitor,
};
use std::ops::{ControlFlow, Range};

use super::super::super::analyze::bridge;
use super::super::super::analyze::opened::{Opened, first_part};
use super::super::super::schema::{Table, TableKind};
use super::super::{Impossible, Transfer, Writers};
use super::replicate::is_constant_default;
use super::{gives_rows, modifications, not_utf8, outermost, steady};

/// `None`: it is none.
pub(super) fn plan(opened: &Opened<'_>) -> Option<Result<Transfer, Impossible>> {
    let (Some(Statement::Insert(insert)), with) = outermost(opened.tree) else { return None };
    let query = insert.source.as_deref()?;
    // Of rows that are written out, each value takes its column's type at once.
    (modifications(opened.tree) == 1 && !gives_rows(insert))
        .then(|| planned(opened, insert, query, with.is_some()))
}

fn not_read() -> Impossible {
    Impossible::new(
        "the query of the INSERT cannot be told apart from what stands around it",
        "Write INSERT INTO table (columns) SELECT …, or read the rows first.",
    )
}

fn planned(
    opened: &Opened<'_>,
    insert: &Insert,
    query: &Query,
    has_with: bool,
) -> Result<Transfer, Impossible> {
    let TableObject::TableName(name) = &insert.table else { return Err(not_read()) };
    let table = opened.table(name).ok_or_else(not_read)?;
    let columns = columns(insert, table)?;
    let (writers, key) = match table.kind {
        TableKind::Sharded { key, key_type } => {
            let position = columns.iter().position(|column| *column == key).ok_or_else(not_read)?;
            (Writers::Owners, Some((position, key_type)))
        }
        TableKind::Home => (Writers::Home, None),
        TableKind::Reference => {
            copies_alike(opened, insert, table, &columns)?;
            (Writers::Copies, None)
        }
        TableKind::View { .. } | TableKind::Sequence => return Err(not_read()),
    };
    if !query.locks.is_empty() {
        return Err(Impossible::new(
            "rows that are locked cannot be read for another shard",
            "Leave FOR UPDATE away, or lock the rows with a statement of its own.",
        ));
    }
    // They would be looked up where the rows go.
    if has_query(&insert.on) || has_query(&insert.returning) {
        return Err(Impossible::new(
            "a sub-query in ON CONFLICT or RETURNING of an INSERT with rows of several shards",
            "Read its value first, and give it as a parameter.",
        ));
    }
    let mut once = steady::Once::new(opened, "the INSERT");
    once.check(&insert.on)?;
    once.check(&insert.returning)?;
    let (begin, range) = cut(opened, insert, query)?;
    let text = |range: Range<usize>| opened.tokens.written(range).map(str::to_owned).ok_or_else(not_utf8);
    let mut written = text(range.clone())?;
    let mut head = text(begin..range.start)?;
    if has_with {
        let with = text(opened.range.start..begin)?;
        written = format!("{with} ({written})");
    } else if begin != opened.range.start {
        return Err(not_read());
    }
    head.push(' ');
    let each = match &insert.on {
        None => true,
        Some(OnInsert::OnConflict(conflict)) => {
            matches!(&conflict.action, OnConflictAction::DoUpdate(update) if update.selection.is_none())
        }
        Some(_) => false,
    };
    let as_given = !table.detail.has_triggers && !table.detail.columns.is_empty();
    Ok(Transfer {
        query: written,
        head,
        tail: if range.end < opened.range.end { text(range.end..opened.range.end)? } else { String::new() },
        writers,
        key,
        casts: casts(query, table, &columns)?,
        returns: insert.returning.is_some(),
        returns_each: insert.returning.is_some() && each && as_given,
    })
}

/// The columns that are given, by their place in the table.
fn columns(insert: &Insert, table: &Table) -> Result<Vec<usize>, Impossible> {
    if insert.columns.is_empty() {
        return Ok((0..table.columns.len()).collect());
    }
    let place = |column| {
        let name = first_part(column)?;
        table.columns.iter().position(|column| *column == name)
    };
    insert.columns.iter().map(place).collect::<Option<_>>().ok_or_else(not_read)
}

/// Every copy of the table must come out the same from the same rows.
fn copies_alike(
    opened: &Opened<'_>,
    insert: &Insert,
    table: &Table,
    columns: &[usize],
) -> Result<(), Impossible> {
    let schema = opened.context().schema;
    let detail = &table.detail;
    let given = |at: usize| !insert.columns.is_empty() && columns.contains(&at);
    let left_out = detail.columns.iter().enumerate().filter(|(at, _)| !given(*at));
    let constant = !detail.columns.is_empty()
        && left_out.map(|(_, column)| column).all(|column| is_constant_default(schema, column));
    if detail.has_triggers || !constant || !steady::alike(opened, &insert.on) {
        return Err(Impossible::new(
            format!("copies of reference table \"{}\" might not come out the same", table.name),
            "Give all columns that have a default, or read the rows first and insert them as constants.",
        ));
    }
    Ok(())
}

/// The token of `INSERT`, and those of the query.
fn cut(opened: &Opened<'_>, insert: &Insert, query: &Query) -> Result<(usize, Range<usize>), Impossible> {
    let (tokens, end) = (opened.tokens, opened.range.end);
    let begin = bridge::index_of(insert.insert_token.0.span).ok_or_else(not_read)?;
    let (_, mut at) = tokens.name(begin + 2, end).ok_or_else(not_read)?;
    if tokens.is_word(at, "as") {
        at += 2;
    }
    let opens_query =
        |at: usize| tokens.is_one_of(at, &["select", "with", "values", "table"]) || tokens.is_mark(at, "(");
    if tokens.is_mark(at, "(") && !opens_query(at + 1) {
        at = tokens.behind_parenthesis(at, end);
    }
    if tokens.is_word(at, "overriding") {
        at += 3;
    }
    // What stands behind it begins with a word that may be a name in the query, too.
    let behind = |at: &usize| {
        *at == end || tokens.are_words(*at, &["on", "conflict"]) || tokens.is_word(*at, "returning")
    };
    let is_query = |until: &usize| {
        let tree = bridge::parse(tokens, at..*until, &[]).ok();
        matches!(tree, Some(Statement::Query(parsed)) if *parsed == *query)
    };
    let until = (at + 1..=end).filter(behind).find(is_query).ok_or_else(not_read)?;
    Ok((begin, at..until))
}

/// Constants without a type: as texts they would not become what they are in the table.
fn casts(query: &Query, table: &Table, columns: &[usize]) -> Result<Vec<(usize, String)>, Impossible> {
    let mut body = &*query.body;
    while let SetExpr::Query(inner) = body {
        body = &inner.body;
    }
    let SetExpr::Select(select) = body else { return Ok(Vec::new()) };
    let mut casts = Vec::new();
    let mut by_place = true;
    for (at, item) in select.projection.iter().enumerate() {
        let expr = match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr,
            _ => {
                by_place = false;
                continue;
            }
        };
        if !is_untyped(expr) {
            continue;
        }
        let column = columns.get(at).and_then(|column| table.detail.columns.get(*column));
        let name = column.filter(|_| by_place).and_then(|column| bare_type(&column.type_name));
        casts.push((at, name.ok_or_else(not_read)?));
    }
    Ok(casts)
}

fn is_untyped(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_untyped(inner),
        Expr::Value(value) => {
            !matches!(value.value, Value::Number(..) | Value::Boolean(_) | Value::Placeholder(_))
        }
        _ => false,
    }
}

/// A type without its modifier, so that what is too long is still too long for the column.
fn bare_type(name: &str) -> Option<String> {
    if name.starts_with("character") || name.starts_with("text") {
        return Some("pg_catalog.text".to_owned());
    }
    // A bit string's, or an interval's fields, cannot be left away.
    if name.starts_with("bit") || name.starts_with("interval ") {
        return None;
    }
    let Some((before, rest)) = name.split_once('(') else { return Some(name.to_owned()) };
    rest.split_once(')').map(|(_, behind)| format!("{before}{behind}"))
}

fn has_query(part: &impl Visit) -> bool {
    struct Queries;
    impl Visitor for Queries {
        type Break = ();
        fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    part.visit(&mut Queries).is_break()
}
