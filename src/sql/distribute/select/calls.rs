//! The aggregates, window functions and sub-queries of a query's own level.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Function, Query, SetExpr, Visit, Visitor};

use super::Question;
use super::inputs::{Inputs, Look};
use crate::sql::analyze::names::{ident, object};

/// How many there are.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) aggregates: usize,
    pub(super) windows: usize,
    pub(super) queries: usize,
    /// Whose level an aggregate belongs to is not known.
    pub(super) unclear: bool,
}

/// Those in a part of the query that is no condition on rows.
pub(super) fn calls(question: &Question<'_>, part: &impl Visit) -> Calls {
    let mut walk = Walk { question, calls: Calls::default(), around: Vec::new() };
    // The walk itself never ends early: `Break` cannot happen.
    let _: ControlFlow<()> = part.visit(&mut walk);
    walk.calls
}

struct Walk<'w, 'q> {
    question: &'w Question<'q>,
    calls: Calls,
    /// What the sub-queries around the current node select from, as far as it is known.
    around: Vec<Option<Inputs<'q>>>,
}

impl Visitor for Walk<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.calls.queries += 1;
        let known = query.with.is_none() && self.question.query.with.is_none();
        let inputs = match &*query.body {
            SetExpr::Select(select) if known => Inputs::of(select, None, self.question.cx),
            _ => None,
        };
        self.around.push(inputs);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.around.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let Some(name) = object(&function.name) else {
            self.calls.unclear = true;
            return ControlFlow::Continue(());
        };
        if function.over.is_some() {
            self.calls.windows += usize::from(self.around.is_empty());
        } else if self.question.folds(&name.name) {
            match self.around.last() {
                None => self.calls.aggregates += 1,
                // An aggregate belongs to the level of the columns that it folds.
                Some(Some(inputs)) if folds_own(function, inputs) => {}
                Some(_) => self.calls.unclear = true,
            }
        }
        ControlFlow::Continue(())
    }
}

/// Whether an aggregate's arguments name a column of these inputs, or none at all.
fn folds_own(function: &Function, inputs: &Inputs<'_>) -> bool {
    let mut names = Names { inputs, any: false, own: false };
    let complete = function.args.visit(&mut names).is_continue();
    complete && (names.own || !names.any)
}

struct Names<'n, 'q> {
    inputs: &'n Inputs<'q>,
    any: bool,
    own: bool,
}

impl Visitor for Names<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let look = match expr {
            Expr::Identifier(name) => self.inputs.look_up(None, &ident(name)),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, name] => self.inputs.look_up(Some((None, &ident(table))), &ident(name)),
                _ => Look::Unclear,
            },
            _ => return ControlFlow::Continue(()),
        };
        self.any = true;
        self.own |= matches!(look, Look::Column(_) | Look::Merged);
        ControlFlow::Continue(())
    }
}
