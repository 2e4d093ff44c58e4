//! Changes whose shards are given the rows that they lack: other shards' rows, or the home shard's.
//!
//! A row is changed, or not, by what all the rows of the other tables say: so each shard has them all,
//! and every sub-query over them comes to the same on each. A sub-query that chooses among rows, or
//! would come out differently from one time to the next, is answered once instead, if it is a query by
//! itself, and its rows are given to each shard.

use sqlparser::ast::{
    Ident, Merge, MergeAction, Query, SelectItem, SetExpr, Statement, ValueWithSpan, Visit, Visitor,
};
use std::ops::ControlFlow;

use super::super::super::analyze::bridge;
use super::super::super::analyze::opened::Opened;
use super::super::super::analyze::query::address;
use super::super::super::schema::TableKind;
use super::super::gather::{self, Apart};
use super::super::{Impossible, Supply, Writers};
use super::{modifications, outermost, replicate, returning, steady};

/// `None`: it lacks nothing.
pub(super) fn plan(opened: &Opened<'_>) -> Option<Result<Supply, Impossible>> {
    let (modification, with) = outermost(opened.tree);
    let modification = modification.filter(|_| modifications(opened.tree) == 1)?;
    if !matches!(modification, Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_)) {
        return None;
    }
    let (name, _) = replicate::target(modification)?;
    let writers = match opened.table(name)?.kind {
        TableKind::Sharded { .. } => Writers::Owners,
        TableKind::Home => Writers::Home,
        TableKind::Reference => Writers::Copies,
        TableKind::View { .. } | TableKind::Sequence => return None,
    };
    let planned = || {
        let mut apart = Vec::new();
        match writers {
            Writers::Home => {}
            Writers::Copies => replicate::comes_out_alike(opened, modification)?,
            Writers::Owners => {
                inserts_nothing(modification)?;
                apart = steadied(opened, modification, with.is_some())?;
            }
        }
        let (tables, sql, parameters) = gather::supplied(opened, writers, &apart)?;
        Ok(Supply { tables, sql, parameters, writers, returns: returning(modification) })
    };
    Some(planned())
}

/// The sub-queries that have to be answered apart, so that the rest comes out alike everywhere.
fn steadied(opened: &Opened<'_>, modification: &Statement, with: bool) -> Result<Vec<Apart>, Impossible> {
    let once = || steady::Once::new(opened, "a statement on several shards").of_everything();
    let why = match once().check(opened.tree) {
        Ok(()) => return Ok(Vec::new()),
        Err(why) => why,
    };
    let mut found = Found { opened, depth: 0, addresses: Vec::new(), apart: Vec::new() };
    // What WITH names is not known elsewhere.
    let flow = match modification {
        _ if with => return Err(why),
        Statement::Update(update) => {
            let assigned = update.assignments.visit(&mut found);
            if assigned.is_break() { assigned } else { update.selection.visit(&mut found) }
        }
        Statement::Delete(delete) => delete.selection.visit(&mut found),
        _ => return Err(why),
    };
    if flow.is_break() || once().but(found.addresses).check(opened.tree).is_err() {
        return Err(why);
    }
    Ok(found.apart)
}

/// Finds sub-queries that are not alike everywhere.
struct Found<'o> {
    opened: &'o Opened<'o>,
    depth: usize,
    addresses: Vec<usize>,
    apart: Vec<Apart>,
}

impl Visitor for Found<'_> {
    /// One is not understood.
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.depth += 1;
        let alike = || {
            let once = steady::Once::new(self.opened, "a statement on several shards");
            once.of_everything().check(query).is_ok()
        };
        if self.depth > 1 || alike() {
            return ControlFlow::Continue(());
        }
        match self.place_of(query) {
            Some(apart) => {
                self.addresses.push(address(query));
                self.apart.push(apart);
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        }
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

impl Found<'_> {
    /// Its tokens, and how many columns it has.
    fn place_of(&self, query: &Query) -> Option<Apart> {
        let (tokens, range) = (self.opened.tokens, self.opened.range);
        let mut first = First(None);
        let _: ControlFlow<()> = query.visit(&mut first);
        let is_it = |at: &usize| {
            let behind = tokens.behind_parenthesis(*at, range.end);
            let parsed = bridge::parse(tokens, at + 1..behind - 1, &[]).ok();
            matches!(parsed, Some(Statement::Query(parsed)) if *parsed == *query)
        };
        let opens = |at: &usize| tokens.is_mark(*at, "(") && tokens.is_one_of(at + 1, &["select", "with"]);
        let at = (range.start..first.0?).rev().filter(opens).find(is_it)?;
        let SetExpr::Select(select) = &*query.body else { return None };
        let one =
            |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
        let columns = select.projection.len();
        (columns > 0 && select.projection.iter().all(one) && query.locks.is_empty())
            .then(|| Apart { tokens: at + 1..tokens.behind_parenthesis(at, range.end) - 1, columns })
    }
}

/// The first token that the tree tells the place of.
struct First(Option<usize>);

impl Visitor for First {
    type Break = ();

    fn pre_visit_ident(&mut self, ident: &Ident) -> ControlFlow<()> {
        self.0 = self.0.into_iter().chain(bridge::index_of(ident.span)).min();
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        self.0 = self.0.into_iter().chain(bridge::index_of(value.span)).min();
        ControlFlow::Continue(())
    }
}

/// A row of the source that has no match on one shard may have one on another.
fn inserts_nothing(modification: &Statement) -> Result<(), Impossible> {
    let Statement::Merge(Merge { clauses, .. }) = modification else { return Ok(()) };
    if clauses.iter().any(|clause| matches!(clause.action, MergeAction::Insert(_))) {
        return Err(Impossible::new(
            "that a row has no match cannot be told by each shard alone",
            "Join on the key, or use INSERT … ON CONFLICT.",
        ));
    }
    Ok(())
}
