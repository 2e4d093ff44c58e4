//! `INSERT … VALUES` with rows of several owners: cut between the rows.
//!
//! PostgreSQL gives each expression of a row the type of its column, whatever stands in the other
//! rows, so that rows mean the same in any company. With one exception: only where there is one row
//! may a function in it yield several.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Insert, OnConflictAction, OnInsert, SetExpr, Statement, TableObject, Values, Visit, Visitor, With,
};

use super::super::super::analyze::bridge::index_of;
use super::super::super::analyze::functions::yields_rows;
use super::super::super::analyze::names::{ident, object};
use super::super::super::analyze::opened::{Key, Opened, first_part};
use super::super::super::lexer::TokenKind;
use super::super::super::schema::TableKind;
use super::super::{Impossible, RowKey, Split};
use super::replicate::is_steady_token;
use super::{gives_rows, not_utf8, outermost, steady};

/// An `INSERT` that gives its rows itself, and the `WITH` before it.
#[derive(Clone, Copy)]
pub(super) struct Given<'o> {
    insert: &'o Insert,
    with: Option<&'o With>,
}

pub(super) fn insert<'o>(opened: &Opened<'o>) -> Option<Given<'o>> {
    match outermost(opened.tree) {
        (Some(Statement::Insert(insert)), with) if gives_rows(insert) => Some(Given { insert, with }),
        _ => None,
    }
}

pub(super) fn plan(opened: &Opened<'_>, given: Given<'_>) -> Result<Split, Impossible> {
    let Given { insert, with } = given;
    let tokens = opened.tokens;
    let not_read = || {
        Impossible::new(
            "the rows of the INSERT cannot be told apart",
            "Write INSERT INTO table (columns) VALUES (…), (…), with nothing between the rows but commas.",
        )
    };
    let values = bare_values(insert).ok_or_else(not_read)?;
    let TableObject::TableName(name) = &insert.table else { return Err(not_read()) };
    let table = opened.table(name).ok_or_else(not_read)?;
    let TableKind::Sharded { key, key_type } = table.kind else {
        return Err(Impossible::new(
            "an INSERT into a table that is not sharded reads sharded ones",
            "Read the rows first, and give their values as parameters.",
        ));
    };
    if opened.sharded_tables > 1 {
        return Err(Impossible::new(
            "a sub-select in an INSERT with rows of several shards reads sharded tables",
            "Read the values first and give them as parameters, or insert one shard's rows at a time.",
        ));
    }
    let position = if insert.columns.is_empty() {
        Some(key)
    } else {
        let key = table.columns.get(key);
        insert.columns.iter().position(|column| first_part(column).as_ref() == key)
    };
    let begin = index_of(insert.insert_token.0.span).ok_or_else(not_read)?;
    let at = tokens.find_word(begin + 3..opened.range.end, &["values"]).ok_or_else(not_read)?;
    let rows =
        position.and_then(|position| opened.rows(at, values, position, key_type)).ok_or_else(not_read)?;
    if rows.len() > 1 {
        let mut once = steady::Once::new(opened, "the INSERT");
        if let Some(with) = with {
            once.check(with)?;
        }
        once.check(&insert.on)?;
        once.check(&insert.returning)?;
    }
    if rows.len() > 1 && calls_for_rows(values) {
        return Err(Impossible::new(
            "set-returning functions are not allowed in VALUES",
            "Use INSERT … SELECT, a statement for each shard.",
        ));
    }
    let behind = rows.last().map_or(at + 1, |(row, _)| row.end);
    let returns = insert.returning.is_some();
    let each_returns = match &insert.on {
        None => true,
        Some(OnInsert::OnConflict(conflict)) => match &conflict.action {
            OnConflictAction::DoNothing => false,
            OnConflictAction::DoUpdate(update) => update.selection.is_none(),
        },
        Some(_) => false,
    };
    // A trigger may leave a row out; what is not known of the table may have one.
    let as_given = !table.detail.has_triggers && !table.detail.columns.is_empty();
    let key_column = table.detail.columns.get(key).map(|column| column.type_name.clone()).unwrap_or_default();
    let text = |range| tokens.written(range).map(str::to_owned).ok_or_else(not_utf8);
    Ok(Split {
        head: text(opened.range.start..at + 1)?,
        rows: rows
            .into_iter()
            .map(|(row, key)| Ok((text(row)?, row_key(opened, key, &key_column)?)))
            .collect::<Result<_, Impossible>>()?,
        key_column: key_column.clone(),
        key_type,
        tail: if behind < opened.range.end { text(behind..opened.range.end)? } else { String::new() },
        returns,
        returns_each: returns && each_returns && as_given,
    })
}

fn row_key(opened: &Opened<'_>, key: Key, key_column: &str) -> Result<RowKey, Impossible> {
    let tokens = opened.tokens;
    let range = match key {
        Key::Known(source) => return Ok(RowKey::Known(source)),
        Key::Computed(range) => range,
    };
    if key_column.is_empty() {
        return Err(Impossible::new(
            "the key of a row is not a constant",
            "Give it a constant or a parameter in each row.",
        ));
    }
    if !range.clone().all(|at| is_steady_token(tokens, at)) {
        return Err(Impossible::new(
            "a key that depends on the current time may be another one on each shard",
            "Compute it first, and give its value as a parameter.",
        ));
    }
    let number = |at: usize| std::str::from_utf8(tokens.raw(at)).ok()?.strip_prefix('$')?.parse().ok();
    let parameters = range.clone().filter(|at| tokens.kind(*at) == Some(TokenKind::Param));
    let parameters = parameters.filter_map(number).collect();
    let sql = tokens.written(range).map(str::to_owned).ok_or_else(not_utf8)?;
    Ok(RowKey::Computed { sql, parameters })
}

/// The rows, if no clause around them says anything of them.
fn bare_values(insert: &Insert) -> Option<&Values> {
    let query = insert.source.as_deref()?;
    let bare = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty();
    match &*query.body {
        SetExpr::Values(values) if bare && !values.explicit_row && !values.value_keyword => Some(values),
        _ => None,
    }
}

fn calls_for_rows(values: &Values) -> bool {
    struct Calls;
    impl Visitor for Calls {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let yields = match expr {
                Expr::Function(function) => {
                    object(&function.name).is_some_and(|name| yields_rows(&name.name))
                }
                Expr::Identifier(name) => yields_rows(&ident(name)),
                _ => false,
            };
            if yields { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    values.visit(&mut Calls).is_break()
}
