//! Expressions: the sub-queries and function calls in them, wherever they are.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, Expr, Function, Ident, Query, Statement, TableFactor, Visit, Visitor, WindowSpec, WindowType,
};

use super::super::shape::Pin;
use super::functions::{Effect, effect, locks, may_fold, stronger};
use super::names::{ident, object};
use super::query::{Analyzer, Env, address};
use super::refusals::Refusal;
use super::scope::Scope;
use super::tokens::Name;

impl Analyzer<'_> {
    /// Sub-queries and function calls in expressions.
    pub(super) fn walk(&mut self, part: &impl Visit, scope: &Scope<'_>, env: &Env<'_>) {
        // The walk itself never ends early: `Break` cannot happen.
        let _: ControlFlow<()> = part.visit(&mut Walk { analyzer: self, scope, env, depth: 0 });
    }

    fn function(&mut self, function: &Function, scope: &Scope<'_>) {
        if let Some(WindowType::WindowSpec(window)) = &function.over {
            self.apart |= !self.is_own_window(window, scope);
        }
        let Some(name) = object(&function.name) else {
            self.refusals.unreadable();
            return;
        };
        self.folds |= function.over.is_some()
            || function.filter.is_some()
            || !function.within_group.is_empty()
            || effect(self.cx.schema, name.schema.as_deref(), &name.name) != Effect::Scalar;
        if function.over.is_none() && may_fold(self.cx.schema, name.schema.as_deref(), &name.name) {
            self.aggregates = true;
            self.apart |= scope.outer.is_some() && folds_outer(function, scope);
        }
        self.call(&name);
    }

    /// Whether no window has rows of several shards. Partitions are the named one's, if there is one.
    pub(super) fn is_own_window(&self, window: &WindowSpec, scope: &Scope<'_>) -> bool {
        window.window_name.is_some() || window.partition_by.iter().any(|by| self.is_key_of_row(by, scope))
    }

    /// `t.f` calls `f(t)` where `t` has no such column.
    fn attribute(&mut self, parts: &[Ident]) {
        if let Some(last) = parts.last().map(ident)
            && effect(self.cx.schema, None, &last) == Effect::UserDefined
        {
            self.writes |= !self.cx.schema.is_steady(&last);
            self.refusals.push(Refusal::user_function(&last));
        }
    }

    /// A call of this function, in an expression or in `FROM`.
    pub(super) fn call(&mut self, name: &Name) {
        self.at_primary |= locks(&name.name);
        // By itself it is a question about the server, and the primary's to answer.
        self.touched.catalog |= name.name == "pg_is_in_recovery";
        match effect(self.cx.schema, name.schema.as_deref(), &name.name) {
            Effect::Scalar | Effect::Aggregate => {}
            Effect::Opaque => self.writes |= !self.cx.schema.is_steady(&name.name),
            Effect::Home(pin) => {
                self.writes = true;
                self.touched.home = true;
                self.pin = stronger(self.pin, pin);
            }
            Effect::SetConfig => {
                self.writes = true;
                // Even for the transaction only: which parameter, and to what, is not followed here.
                self.pin = stronger(self.pin, Some(Pin::Setting));
            }
            // A hint may let these run, and then they may do anything.
            Effect::Reads => {
                self.writes = true;
                self.pin = stronger(self.pin, Some(Pin::Call));
                self.refusals.push(Refusal::reading_function(&name.name));
            }
            Effect::UserDefined => {
                self.writes |= !self.cx.schema.is_steady(&name.name);
                self.refusals.push(Refusal::user_function(&name.name));
            }
        }
    }
}

/// Whether an aggregate folds rows of a query around the one it stands in: none of the columns in its
/// arguments is of this level.
fn folds_outer(function: &Function, scope: &Scope<'_>) -> bool {
    struct Columns<'c> {
        scope: &'c Scope<'c>,
        any: bool,
    }
    impl Visitor for Columns<'_> {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
                return ControlFlow::Continue(());
            }
            self.any = true;
            if self.scope.is_here(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    let mut columns = Columns { scope, any: false };
    function.args.visit(&mut columns).is_continue() && columns.any
}

struct Walk<'w, 'a, 's> {
    analyzer: &'w mut Analyzer<'a>,
    scope: &'w Scope<'s>,
    env: &'w Env<'w>,
    /// Queries around the current node; what is in them is read by reading them.
    depth: usize,
}

impl Visitor for Walk<'_, '_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.depth == 0 {
            let output = self.analyzer.query(query, Some(self.scope), self.env);
            self.analyzer.outputs.insert(address(query), output);
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match expr {
            Expr::Function(function) => self.analyzer.function(function, self.scope),
            Expr::CompoundIdentifier(parts) => self.analyzer.attribute(parts),
            // `(t).f`, too.
            Expr::CompoundFieldAccess { access_chain, .. } => {
                for access in access_chain {
                    if let AccessExpr::Dot(Expr::Identifier(part)) = access {
                        self.analyzer.attribute(std::slice::from_ref(part));
                    }
                }
            }
            Expr::JsonAccess { .. }
            | Expr::Convert { .. }
            | Expr::Prefixed { .. }
            | Expr::Struct { .. }
            | Expr::Named { .. }
            | Expr::Dictionary(_)
            | Expr::Map(_)
            | Expr::MatchAgainst { .. }
            | Expr::OuterJoin(_)
            | Expr::Prior(_)
            | Expr::Lambda(_)
            | Expr::MemberOf(_)
            | Expr::RLike { .. }
            | Expr::InUnnest { .. } => self.analyzer.refusals.unreadable(),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, _factor: &TableFactor) -> ControlFlow<()> {
        if self.depth == 0 {
            self.analyzer.refusals.unreadable();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, _statement: &Statement) -> ControlFlow<()> {
        if self.depth == 0 {
            self.analyzer.refusals.unreadable();
        }
        ControlFlow::Continue(())
    }
}
