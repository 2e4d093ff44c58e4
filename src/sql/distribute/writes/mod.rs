//! What several shards change: [`Each`](super::Each) its own rows, [`Split`](super::Split) by owner,
//! or all of them alike ([`Replicate`](super::Replicate)).
//!
//! - [`split`]: the rows of an `INSERT … VALUES`;
//! - [`each`]: statements of which every owner can do its own part;
//! - [`replicate`]: reference tables;
//! - [`supply`]: changes that need rows of other shards;
//! - [`transfer`]: `INSERT … SELECT` of rows that go to other shards;
//! - [`fold`]: queries over what a change returns;
//! - [`steady`]: what would come out differently on two servers.
//!
//! The measure is one PostgreSQL that holds all rows. What it evaluates once, but would be evaluated
//! once a shard here, must come out the same everywhere; what it evaluates for each row may be
//! volatile, as each row is on one shard. Which rows are changed must be for each shard to say alone.

mod each;
mod fold;
mod replicate;
mod split;
mod steady;
mod supply;
mod transfer;
#[cfg(test)]
#[rustfmt::skip]
mod tests;

use std::ops::ControlFlow;

use sqlparser::ast::{Insert, Query, SetExpr, Statement, Visit, Visitor, With};

use super::super::analyze::Context;
use super::super::analyze::opened::{Closed, Opened, open};
use super::super::shape::Target;
use super::carried::{current_rows, of_current_row};
use super::{Impossible, Plan};

pub(super) use replicate::is_constant_default;
pub use replicate::tells_the_time;

/// `None`: it changes nothing.
pub(super) fn plan(text: &[u8], cx: &Context<'_>) -> Option<Result<Plan, Impossible>> {
    match open(text, cx, planned) {
        Ok(outcome) => outcome,
        Err(Closed::NoModification) => None,
        Err(Closed::Unreadable) => Some(Err(Impossible::new(
            "the statement cannot be read by pgring's parser, and changes rows of several shards",
            "Say where it belongs with a comment: /* pgring: key=… */ or /* pgring: shard=… */.",
        ))),
    }
}

fn planned(opened: &Opened<'_>) -> Option<Result<Plan, Impossible>> {
    if modifications(opened.tree) == 0 {
        return None;
    }
    if current_rows(opened.tokens).next().is_some() {
        return Some(Err(of_current_row()));
    }
    Some(match opened.target {
        Target::Refused(message, hint) => Err(Impossible::new(message, hint)),
        Target::Reference => or_fold(opened, replicate::plan(opened).map(Plan::Replicate)),
        Target::Keys { home: true, .. } | Target::Everywhere { home: true, .. } => beyond(opened)
            .unwrap_or_else(|| {
                Err(Impossible::new(
                    "rows of several shards cannot be changed by what stands on the home shard",
                    "Read the tables of the home shard first, and give their values as parameters.",
                ))
            }),
        Target::Keys { colocated, .. } | Target::Everywhere { colocated, .. } => match split::insert(opened) {
            Some(insert) => split::plan(opened, insert).map(Plan::Split),
            None if *colocated => or_fold(opened, each::plan(opened).map(Plan::Each)),
            None => beyond(opened).unwrap_or_else(|| {
                Err(Impossible::new(
                    "which rows change cannot be told by each shard alone",
                    "Join the tables on their keys, or read the rows first and change them by their keys.",
                ))
            }),
        },
        Target::Nothing | Target::Catalog | Target::Home | Target::EachShard => Err(Impossible::new(
            "the statement changes no rows of several shards",
            "Leave out the hint that sends it to several.",
        )),
    })
}

/// What no shard can do with its own rows alone.
fn beyond(opened: &Opened<'_>) -> Option<Result<Plan, Impossible>> {
    let fold = || fold::plan(opened).map(|planned| planned.map(Plan::Fold));
    let transfer = || transfer::plan(opened).map(|planned| planned.map(Plan::Transfer));
    let supply = || supply::plan(opened).map(|planned| planned.map(Plan::Supply));
    fold().or_else(transfer).or_else(supply)
}

/// What one part of a statement can do may still have to be folded by another.
fn or_fold(opened: &Opened<'_>, planned: Result<Plan, Impossible>) -> Result<Plan, Impossible> {
    match planned {
        Err(why) => fold::plan(opened).map_or(Err(why), |planned| planned.map(Plan::Fold)),
        planned => planned,
    }
}

/// How many `INSERT`s, `UPDATE`s, `DELETE`s and `MERGE`s a tree has.
fn modifications(tree: &Statement) -> usize {
    struct Count(usize);
    impl Visitor for Count {
        type Break = ();
        fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
            self.0 += usize::from(!matches!(statement, Statement::Query(_)));
            ControlFlow::Continue(())
        }
    }
    let mut count = Count(0);
    // It never breaks off.
    let _: ControlFlow<()> = tree.visit(&mut count);
    count.0
}

/// The modification that the statement is, and the `WITH` before it.
fn outermost(tree: &Statement) -> (Option<&Statement>, Option<&With>) {
    match tree {
        Statement::Query(query) => (body(query), query.with.as_ref()),
        other => (Some(other), None),
    }
}

fn body(query: &Query) -> Option<&Statement> {
    match &*query.body {
        SetExpr::Insert(statement)
        | SetExpr::Update(statement)
        | SetExpr::Delete(statement)
        | SetExpr::Merge(statement) => Some(statement),
        _ => None,
    }
}

/// Whether a modification returns rows.
fn returning(modification: &Statement) -> bool {
    match modification {
        Statement::Insert(insert) => insert.returning.is_some(),
        Statement::Update(update) => update.returning.is_some(),
        Statement::Delete(delete) => delete.returning.is_some(),
        Statement::Merge(merge) => merge.output.is_some(),
        _ => true,
    }
}

/// The statement as it is written, without what stands around it.
fn written(opened: &Opened<'_>) -> Result<String, Impossible> {
    opened.tokens.written(opened.range.clone()).map(str::to_owned).ok_or_else(not_utf8)
}

fn not_utf8() -> Impossible {
    Impossible::new("the statement is not UTF-8", "Set client_encoding to UTF8.")
}

/// Whether an `INSERT` gives its rows itself.
fn gives_rows(insert: &Insert) -> bool {
    let mut query = insert.source.as_deref();
    loop {
        match query.map(|query| &*query.body) {
            Some(SetExpr::Query(inner)) => query = Some(inner),
            body => return matches!(body, Some(SetExpr::Values(_))),
        }
    }
}
