//! A query over what a change in its `WITH` returns, where the change is made on several shards: they
//! make it first, and one of them runs the query over the rows that all of them return.
//!
//! PostgreSQL has a query see the tables as they were before the change, and of the change only what it
//! returns. So the query must read nothing that has been changed, and nothing that each shard has its
//! own part of. Nor may it call what is the home shard's (sequences, advisory locks, notifications):
//! it runs where the change does.

use sqlparser::ast::{Expr, ObjectName, Query, Statement, TableFactor, Visit, Visitor};
use std::collections::HashSet;
use std::ops::ControlFlow;

use super::super::super::analyze::bridge;
use super::super::super::analyze::functions::{Effect, effect};
use super::super::super::analyze::names::{ident, object};
use super::super::super::analyze::opened::Opened;
use super::super::super::analyze::tokens::Tokens;
use super::super::super::schema::TableKind;
use super::super::{Fold, Impossible};
use super::{modifications, not_utf8, returning};

/// `None`: it is none.
pub(super) fn plan(opened: &Opened<'_>) -> Option<Result<Fold, Impossible>> {
    let Statement::Query(query) = opened.tree else { return None };
    let with = query.with.as_ref()?;
    let first = with.cte_tables.first()?;
    let change = super::body(&first.query)?;
    let alone = modifications(opened.tree) == 1 && !with.recursive && first.query.with.is_none();
    (alone && returning(change)).then(|| planned(opened, query, change))
}

fn planned(opened: &Opened<'_>, query: &Query, change: &Statement) -> Result<Fold, Impossible> {
    let not_read = || {
        Impossible::new(
            "a query over what a change of several shards returns reads other tables, too",
            "Return the rows themselves, or read the other tables with another statement.",
        )
    };
    let tokens = opened.tokens;
    let start = opened.range.start;
    // WITH name [(columns)] AS [[NOT] MATERIALIZED] ( … )
    let mut at = start + 2;
    if tokens.is_mark(at, "(") {
        at = tokens.behind_parenthesis(at, opened.range.end);
    }
    at += 1;
    while tokens.is_one_of(at, &["not", "materialized"]) {
        at += 1;
    }
    if !tokens.is_word(start, "with") || !tokens.is_mark(at, "(") {
        return Err(not_read());
    }
    let behind = tokens.behind_parenthesis(at, opened.range.end);
    let body = at + 1..behind - 1;
    let parsed = bridge::parse(tokens, body.clone(), &[]).ok();
    let is_change = match &parsed {
        Some(Statement::Query(query)) => super::body(query) == Some(change),
        Some(statement) => statement == change,
        None => false,
    };
    if !is_change {
        return Err(not_read());
    }
    let mut reads = Reads { opened, names: HashSet::new(), inside: 0 };
    match query.visit(&mut reads) {
        ControlFlow::Break(Stranger::Table) => return Err(not_read()),
        ControlFlow::Break(Stranger::Function(name)) => return Err(not_called(&name)),
        ControlFlow::Continue(()) if calls_strangers(tokens, behind..opened.range.end) => {
            return Err(not_read());
        }
        ControlFlow::Continue(()) => {}
    }
    let text = |range| tokens.written(range).map(str::to_owned).ok_or_else(not_utf8);
    Ok(Fold {
        change: text(body)?,
        before: text(start..at + 1)?,
        behind: text(behind - 1..opened.range.end)?,
    })
}

/// What `FOR UPDATE` and system columns say is of rows of a table.
fn calls_strangers(tokens: &Tokens<'_>, mut range: std::ops::Range<usize>) -> bool {
    const SYSTEM: &[&str] = &["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];
    range.any(|at| {
        tokens.identifier(at).is_some_and(|name| SYSTEM.contains(&&*name))
            || tokens.is_word(at, "for") && tokens.is_one_of(at + 1, &["update", "share", "no", "key"])
    })
}

fn not_called(name: &str) -> Impossible {
    Impossible::new(
        format!(
            "{name}() is not each shard's to run, and a query over what a change of several shards returns runs on one of them"
        ),
        "Return the rows themselves, and call the function with another statement.",
    )
}

/// What the query must not have.
enum Stranger {
    Table,
    Function(String),
}

/// Finds a name in `FROM`, outside of the change, that is neither of a query in `WITH` nor of a
/// reference table; and a call of what is the home shard's, or not known.
struct Reads<'o> {
    opened: &'o Opened<'o>,
    names: HashSet<String>,
    /// In how many statements that change something.
    inside: usize,
}

impl Reads<'_> {
    fn call(&self, name: &ObjectName) -> ControlFlow<Stranger> {
        let Some(name) = object(name) else { return ControlFlow::Break(Stranger::Table) };
        match effect(self.opened.context().schema, name.schema.as_deref(), &name.name) {
            Effect::Scalar | Effect::Aggregate | Effect::Opaque => ControlFlow::Continue(()),
            Effect::Home(_) | Effect::SetConfig | Effect::Reads | Effect::UserDefined => {
                ControlFlow::Break(Stranger::Function(name.name))
            }
        }
    }
}

impl Visitor for Reads<'_> {
    type Break = Stranger;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Stranger> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.names.extend(ctes.map(|cte| ident(&cte.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Stranger> {
        self.inside += usize::from(!matches!(statement, Statement::Query(_)));
        ControlFlow::Continue(())
    }

    fn post_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Stranger> {
        self.inside -= usize::from(!matches!(statement, Statement::Query(_)));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Stranger> {
        match expr {
            Expr::Function(function) if self.inside == 0 => self.call(&function.name),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Stranger> {
        if self.inside > 0 {
            return ControlFlow::Continue(());
        }
        let name = match factor {
            TableFactor::Table { name, args: None, .. } => name,
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                return self.call(name);
            }
            _ => return ControlFlow::Continue(()),
        };
        let fine = match self.opened.table(name) {
            // One that is changed itself would have to be seen as it was.
            Some(table) => table.kind == TableKind::Reference && self.opened.sharded_tables > 0,
            None => object(name).is_some_and(|name| name.schema.is_none() && self.names.contains(&name.name)),
        };
        if fine { ControlFlow::Continue(()) } else { ControlFlow::Break(Stranger::Table) }
    }
}
