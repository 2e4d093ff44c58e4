//! Statements of which every owner does its own part: the client's words, on each shard.
//!
//! The analysis has shown that rows of different keys have nothing to do with one another
//! (`colocated`). What is left to see is that nothing else would be one value, or one choice, for the
//! rows of all shards.

use sqlparser::ast::{Distinct, GroupByExpr, Query, Select, SelectItem, SetExpr, Statement};

use super::super::super::analyze::opened::Opened;
use super::super::{Each, Impossible};
use super::{outermost, returning, steady, written};

pub(super) fn plan(opened: &Opened<'_>) -> Result<Each, Impossible> {
    let tokens = opened.tokens;
    // A query whose rows are the answer must leave them as they are.
    let returns = match (outermost(opened.tree), opened.tree) {
        ((Some(modification), _), _) => returning(modification),
        ((None, _), Statement::Query(query)) => {
            if !passes_on(query) {
                return Err(Impossible::new(
                    "rows that several shards change cannot be folded, sorted or counted off in the same statement",
                    "Return the rows themselves (RETURNING), and fold or sort them in the application.",
                ));
            }
            true
        }
        _ => false,
    };
    if opened.range.clone().any(|at| tokens.identifier(at).as_deref() == Some("ctid")) {
        return Err(Impossible::new(
            "a row's place (ctid) says nothing across shards",
            "Name the rows by their key and their primary key.",
        ));
    }
    steady::Once::new(opened, "a statement on several shards").check(opened.tree)?;
    Ok(Each { sql: written(opened)?, returns })
}

/// A `SELECT` whose rows are those of the tables it names.
fn passes_on(query: &Query) -> bool {
    let bare = query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    match &*query.body {
        SetExpr::Select(select) => bare && is_plain(select),
        _ => false,
    }
}

fn is_plain(select: &Select) -> bool {
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, modifiers) if by.is_empty() && modifiers.is_empty());
    let distinct = !matches!(&select.distinct, None | Some(Distinct::All));
    let folds = select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => steady::may_fold(expr),
        SelectItem::ExprWithAliases { .. } => true,
        SelectItem::QualifiedWildcard(..) | SelectItem::Wildcard(_) => false,
    });
    !grouped && !distinct && !folds && select.having.is_none() && select.named_window.is_empty()
}
