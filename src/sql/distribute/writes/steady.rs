//! What would come out differently on two servers.
//!
//! Two questions. Of rows that are each on one shard: is anything evaluated *once* that is then one
//! value for the rows of all ([`Once`])? Of copies that must stay identical: does anything depend on
//! more than the copies, the text and its parameters ([`alike`])?

use std::ops::ControlFlow;

use sqlparser::ast::{Distinct, Expr, Function, ObjectName, Query, Select, TableFactor, Visit, Visitor};

use super::super::super::analyze::functions::{Steadiness, folds_in_any_order, is_aggregate, steadiness};
use super::super::super::analyze::names::object;
use super::super::super::analyze::opened::Opened;
use super::super::super::analyze::query::address;
use super::super::super::analyze::tokens::Tokens;
use super::super::super::lexer::tokenize;
use super::super::super::schema::{Schema, TableKind};
use super::super::Impossible;

/// Looks for what is evaluated once: sub-queries that read no sharded table, and functions in `FROM`.
/// A sub-query that does read one is about the rows of one key only, or the statement would not be
/// for each shard to run.
pub(super) struct Once<'o> {
    opened: &'o Opened<'o>,
    /// What is being looked at, for the message.
    what: &'static str,
    /// Sub-queries over sharded tables, too, are evaluated once.
    everything: bool,
}

impl<'o> Once<'o> {
    pub(super) fn new(opened: &'o Opened<'o>, what: &'static str) -> Once<'o> {
        Once { opened, what, everything: false }
    }

    /// The rows of sharded tables are given to each shard alike.
    pub(super) fn of_everything(self) -> Once<'o> {
        Once { everything: true, ..self }
    }

    pub(super) fn check(&mut self, part: &impl Visit) -> Result<(), Impossible> {
        let mut look = Look { once: self, around: Vec::new(), in_from: 0, in_order: Vec::new() };
        let found = match part.visit(&mut look) {
            ControlFlow::Continue(()) => return Ok(()),
            ControlFlow::Break(found) => found,
        };
        Err(match found {
            Found::Varying(name) => Impossible::new(
                format!(
                    "{}() in a sub-query or in FROM of {} would have another value on each shard",
                    name, self.what
                ),
                "Evaluate it first, and give its value as a parameter.",
            ),
            Found::Order(why) => Impossible::new(
                format!("{why} in a sub-query of {} may choose differently on each shard", self.what),
                "Run the sub-query first, and give what it finds as a parameter.",
            ),
        })
    }
}

enum Found {
    Varying(String),
    Order(&'static str),
}

struct Look<'l, 'o> {
    once: &'l Once<'o>,
    /// Of each query around: it reads a sharded table; and how deep in `FROM` it stands.
    around: Vec<(bool, usize)>,
    in_from: usize,
    /// Of each select around: its rows come in the same order everywhere.
    in_order: Vec<bool>,
}

impl Look<'_, '_> {
    /// One value for all rows of the statement would be meant here.
    fn is_once(&self) -> bool {
        self.in_from > 0 || self.around.last().is_some_and(|(sharded, _)| !sharded)
    }

    fn schema(&self) -> &Schema {
        self.once.opened.context().schema
    }

    /// Its rows are those of one table that is given to each shard alike.
    fn is_given(&self, select: &Select) -> bool {
        let [from] = select.from.as_slice() else { return false };
        let TableFactor::Table { name, args: None, .. } = &from.relation else { return false };
        let kind = self.once.opened.table(name).map(|table| &table.kind);
        let given = matches!(kind, Some(TableKind::Sharded { .. } | TableKind::Home));
        self.once.everything && given && from.joins.is_empty()
    }

    fn called(&self, name: &ObjectName) -> ControlFlow<Found> {
        let Some(name) = object(name) else { return ControlFlow::Break(Found::Varying(name.to_string())) };
        match steadiness(self.schema(), name.schema.as_deref(), &name.name) {
            Steadiness::Alike | Steadiness::Local => ControlFlow::Continue(()),
            Steadiness::Varying => ControlFlow::Break(Found::Varying(name.name)),
        }
    }
}

impl Visitor for Look<'_, '_> {
    type Break = Found;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Found> {
        let sharded = !self.once.everything && self.once.opened.sharded.contains(&address(query));
        self.around.push((sharded, std::mem::take(&mut self.in_from)));
        if sharded { ControlFlow::Continue(()) } else { limited(query) }
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<Found> {
        if let Some((_, in_from)) = self.around.pop() {
            self.in_from = in_from;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Found> {
        self.in_order.push(self.is_given(select));
        if self.is_once() { chosen(select) } else { ControlFlow::Continue(()) }
    }

    fn post_visit_select(&mut self, _select: &Select) -> ControlFlow<Found> {
        self.in_order.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Found> {
        self.in_from += 1;
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                self.called(name)
            }
            TableFactor::Table { sample: Some(_), .. } => ControlFlow::Break(Found::Order("TABLESAMPLE")),
            TableFactor::Table { name, .. } if !is_steady_view(self.once.opened, name) => {
                ControlFlow::Break(Found::Order("a view that sorts, limits or calls functions"))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_table_factor(&mut self, _factor: &TableFactor) -> ControlFlow<Found> {
        self.in_from = self.in_from.saturating_sub(1);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Found> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        if !self.is_once() {
            return ControlFlow::Continue(());
        }
        if function.over.is_some() || self.in_order.last() != Some(&true) {
            ordered(function)?;
        }
        self.called(&function.name)
    }
}

/// `LIMIT` and its like.
fn limited(query: &Query) -> ControlFlow<Found> {
    if query.limit_clause.is_some() || query.fetch.is_some() {
        ControlFlow::Break(Found::Order("LIMIT"))
    } else {
        ControlFlow::Continue(())
    }
}

fn chosen(select: &Select) -> ControlFlow<Found> {
    if matches!(select.distinct, Some(Distinct::On(_))) {
        ControlFlow::Break(Found::Order("DISTINCT ON"))
    } else if !select.named_window.is_empty() {
        ControlFlow::Break(Found::Order("a window"))
    } else {
        ControlFlow::Continue(())
    }
}

/// What a function makes of rows whose order is not known.
fn ordered(function: &Function) -> ControlFlow<Found> {
    let name = object(&function.name).map(|name| name.name).unwrap_or_default();
    if function.over.is_some() {
        ControlFlow::Break(Found::Order("a window"))
    } else if is_aggregate(&name) && !folds_in_any_order(&name) {
        ControlFlow::Break(Found::Order("an aggregate that depends on the order of rows, or may,"))
    } else {
        ControlFlow::Continue(())
    }
}

/// Whether an expression may be of many rows: an aggregate, a window, a function that is not known.
pub(super) fn may_fold(expr: &Expr) -> bool {
    struct Folds(usize);
    impl Visitor for Folds {
        type Break = ();
        fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            self.0 += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            self.0 -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(function) if self.0 == 0 => {
                    let name = object(&function.name).map(|name| name.name).unwrap_or_default();
                    let scalar = function.over.is_none()
                        && function.filter.is_none()
                        && function.within_group.is_empty()
                        && is_scalar(&name);
                    if scalar { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Folds(0)).is_break()
}

fn is_scalar(name: &str) -> bool {
    use super::super::super::analyze::functions::{Effect, effect};
    !name.is_empty() && effect(&Schema::default(), None, name) == Effect::Scalar
}

/// Whether a name means no view, or one that only picks, joins and compares.
fn is_steady_view(opened: &Opened<'_>, name: &ObjectName) -> bool {
    match opened.table(name).map(|table| &table.kind) {
        Some(TableKind::View { definition }) => is_steady_definition(opened.context().schema, definition, 0),
        _ => true,
    }
}

/// Told by its words: each that stands before a parenthesis must be known to do no harm.
fn is_steady_definition(schema: &Schema, definition: &str, depth: usize) -> bool {
    const MOST_VIEWS_DEEP: usize = 16;
    const HARMLESS: &[&str] = &[
        "all",
        "and",
        "any",
        "as",
        "between",
        "case",
        "else",
        "exists",
        "from",
        "in",
        "is",
        "join",
        "like",
        "not",
        "on",
        "or",
        "select",
        "some",
        "then",
        "using",
        "values",
        "when",
        "where",
        "with",
        "numeric",
        "varchar",
        "varying",
        "character",
        "bit",
        "timestamp",
        "time",
        "interval",
    ];
    let Ok(tokens) = tokenize(definition.as_bytes(), true) else { return false };
    let tokens = Tokens::new(definition.as_bytes(), tokens);
    depth < MOST_VIEWS_DEEP
        && (0..tokens.len()).all(|at| {
            let unsteady = tokens
                .is_one_of(at, &["limit", "fetch", "offset", "over", "window", "tablesample"])
                || tokens.are_words(at, &["distinct", "on"]);
            let call = tokens.is_mark(at + 1, "(") && !tokens.is_one_of(at, HARMLESS);
            let called = tokens.identifier(at).filter(|_| call);
            let steady = called.is_none_or(|name| {
                steadiness(schema, None, &name) != Steadiness::Varying
                    && (!is_aggregate(&name) || folds_in_any_order(&name))
            });
            let named = tokens.identifier(at);
            let views = named.iter().flat_map(|name| schema.named(name));
            let steady_below = views.filter_map(|table| match &table.kind {
                TableKind::View { definition: below } if below != definition => Some(below),
                _ => None,
            });
            !unsteady
                && steady
                && steady_below.into_iter().all(|below| is_steady_definition(schema, below, depth + 1))
        })
}

/// Whether a part of a statement over reference tables has the same outcome on every copy.
pub(super) fn alike(opened: &Opened<'_>, part: &impl Visit) -> bool {
    struct Alike<'s>(&'s Opened<'s>);
    impl Alike<'_> {
        fn called(&self, name: &ObjectName) -> ControlFlow<()> {
            let schema = self.0.context().schema;
            let steady = object(name)
                .map(|name| steadiness(schema, name.schema.as_deref(), &name.name))
                .is_some_and(|steady| steady == Steadiness::Alike);
            if steady { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }
    }
    impl Visitor for Alike<'_> {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            limited(query).map_break(|_| ())
        }

        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            chosen(select).map_break(|_| ())
        }

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            match factor {
                TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                    self.called(name)
                }
                // A view may hold anything.
                TableFactor::Table { name, sample, .. } => {
                    let table = self.0.table(name);
                    let view = table.is_some_and(|table| matches!(table.kind, TableKind::View { .. }));
                    if sample.is_some() || view { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                }
                _ => ControlFlow::Continue(()),
            }
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
            ordered(function).map_break(|_| ())?;
            self.called(&function.name)
        }
    }
    part.visit(&mut Alike(opened)).is_continue()
}
