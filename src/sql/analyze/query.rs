//! A statement's tables and conditions, from its tree.
//!
//! Everything is walked: each query, each expression and, in them, each sub-query, with the
//! scope it stands in. Which relations the walk has accounted for is compared afterwards with
//! those sqlparser's own visitor finds; one that was missed makes the statement unreadable.
//! So does every clause that PostgreSQL does not have: sqlparser reads many dialects, and what
//! it takes for another one's clause PostgreSQL takes for something else.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, Range};
use std::rc::Rc;

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Insert, JoinOperator, NamedWindowExpr, ObjectName, Query, Select,
    SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor,
    TableWithJoins, WildcardAdditionalOptions,
};

use super::super::schema::Table;
use super::super::shape::{KeySlot, KeySource, KeyType, Pin, Target};
use super::Context;
use super::bridge::{self, Depth};
use super::computed;
use super::conditions::unnested;
use super::facts::{Facts, NodeId, Outcome};
use super::literals::Literals;
use super::names::{ident, object};
use super::refusals::{Refusal, Refusals};
use super::scope::{Column, Level, Scope, Source};

/// A name is looked up among all of them.
const MOST_CTES: usize = 1000;

/// What a query yields to the one around it.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    /// `None`: not known.
    pub(super) columns: Option<Vec<Column>>,
    /// A condition on a column may be applied below the query: no row depends on another.
    pub(super) plain: bool,
    /// Rows of a sharded table are in it.
    pub(super) sharded: bool,
    /// A column that holds keys holds one in each row: none stands below an outer join.
    pub(super) solid: bool,
    /// What a modification returns: it runs whole, whatever is asked of its rows.
    pub(super) modifies: bool,
    /// Its rows depend only on rows of their own shard, though perhaps on several of them.
    pub(super) own: bool,
}

/// A query in `WITH`.
#[derive(Debug, Default)]
pub(super) struct Cte {
    /// Nothing while it is read: a recursive one refers to itself.
    pub(super) output: Option<Output>,
    pub(super) references: usize,
    /// The references' columns, and those they are copies of.
    pub(super) copies: Vec<(NodeId, NodeId)>,
}

/// The names that `WITH` has given, inner ones first.
#[derive(Clone, Copy)]
pub(super) struct Env<'e> {
    names: &'e [(String, usize)],
    outer: Option<&'e Env<'e>>,
}

impl Env<'_> {
    /// No `WITH`.
    pub(super) const EMPTY: Env<'static> = Env { names: &[], outer: None };

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let here = self.names.iter().rev().find(|(known, _)| known == name).map(|(_, cte)| *cte);
        here.or_else(|| self.outer.and_then(|outer| outer.find(name)))
    }
}

/// What a statement touches beside sharded tables.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Touched {
    pub(super) home: bool,
    pub(super) reference: bool,
    pub(super) catalog: bool,
    pub(super) reference_written: bool,
}

/// What a name in `FROM` turned out to be.
#[derive(Clone, Copy, Debug)]
pub(in crate::sql) enum Met<'a> {
    /// A table, view or sequence of the snapshot; a sharded table's place among the facts.
    Table(&'a Table, Option<NodeId>),
    /// A system catalog.
    Catalog,
    /// Not in the snapshot.
    Unknown,
    /// A query in `WITH`.
    Query,
}

/// What the analysis of a statement that reads says of its parts, not of the whole.
#[derive(Debug)]
pub(in crate::sql) struct Findings<'a> {
    /// By the [`address`] of the name in the tree.
    pub(in crate::sql) met: HashMap<usize, Met<'a>>,
    /// By [`NodeId::index`]: the keys beyond which no row of that table matters.
    pub(in crate::sql) keys: Vec<Option<Vec<KeySource>>>,
    /// Rows are modified or locked.
    pub(in crate::sql) changes: bool,
}

/// The analysis of one statement.
pub(in crate::sql) struct Analyzer<'a> {
    pub(super) cx: &'a Context<'a>,
    literals: Literals<'a>,
    pub(super) facts: Facts,
    pub(super) touched: Touched,
    pub(super) refusals: Refusals,
    /// Several owners cannot answer apart.
    pub(super) apart: bool,
    /// The outermost query's own tables are sharded.
    pub(super) outermost_sharded: bool,
    pub(super) writes: bool,
    /// Rows are modified or locked.
    pub(super) changes: bool,
    /// How many parts modify rows.
    pub(super) modifications: usize,
    pub(super) met: HashMap<usize, Met<'a>>,
    pub(super) pin: Option<Pin>,
    /// See [`Statement::at_primary`](crate::sql::Statement).
    pub(super) at_primary: bool,
    /// `SELECT … INTO`: is the table temporary?
    pub(super) into: Option<bool>,
    pub(super) outputs: HashMap<usize, Output>,
    pub(super) accounted: HashSet<usize>,
    /// Queries whose own tables are sharded.
    pub(super) sharded: HashSet<usize>,
    pub(super) ctes: Vec<Cte>,
    /// A select list folds rows.
    pub(super) folds: bool,
    /// A query has an aggregate, which is no window function.
    pub(super) aggregates: bool,
    pub(super) views: Vec<(Rc<Statement>, Depth)>,
    pub(super) views_deep: usize,
    /// Rows of an `INSERT` that the tree does not have: their tokens between the parentheses.
    pub(super) rows: Vec<Range<usize>>,
    /// The tokens of parameters that stand where a key does.
    pub(super) keyed: RefCell<HashSet<usize>>,
}

/// A tree node's identity, for as long as the tree stands.
pub(in crate::sql) fn address<T>(node: &T) -> usize {
    std::ptr::from_ref(node) as usize
}

impl<'a> Analyzer<'a> {
    pub(in crate::sql) fn new(cx: &'a Context<'a>, literals: Literals<'a>) -> Analyzer<'a> {
        Analyzer {
            cx,
            literals,
            facts: Facts::default(),
            touched: Touched::default(),
            refusals: Refusals::default(),
            apart: false,
            outermost_sharded: false,
            writes: false,
            changes: false,
            modifications: 0,
            met: HashMap::new(),
            pin: None,
            at_primary: false,
            into: None,
            outputs: HashMap::new(),
            accounted: HashSet::new(),
            sharded: HashSet::new(),
            ctes: Vec::new(),
            folds: false,
            aggregates: false,
            views: Vec::new(),
            views_deep: 0,
            rows: Vec::new(),
            keyed: RefCell::default(),
        }
    }

    /// The whole statement. Call once.
    pub(in crate::sql) fn read(&mut self, statement: &Statement) {
        match statement {
            Statement::Query(query) => {
                let output = self.query(query, None, &Env::EMPTY);
                self.outermost_sharded = output.sharded;
            }
            other => self.outermost_sharded = self.modification(other, &Env::EMPTY).sharded,
        }
        self.cross_check(statement);
    }

    /// Every relation of the tree must have been accounted for.
    pub(super) fn cross_check(&mut self, tree: &Statement) {
        let complete = sqlparser::ast::visit_relations(tree, |relation: &ObjectName| {
            if self.accounted.contains(&address(relation)) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        if complete.is_break() {
            self.refusals.unreadable();
        }
    }

    /// What is known at the end of the tree.
    fn conclude(&mut self) -> Option<Refusal> {
        for cte in &self.ctes {
            let Some(output) = &cte.output else { continue };
            // Two references to one query are not the same rows of it.
            let whole = output.plain || output.own || (self.writes && output.modifies);
            self.apart |= output.sharded && !(cte.references == 1 && whole);
            if cte.references == 1 && output.plain {
                for (copy, original) in &cte.copies {
                    self.facts.edge(*copy, *original);
                }
            }
        }
        for (view, depth) in std::mem::take(&mut self.views) {
            bridge::with_stack(depth, || drop(view));
        }
        self.refusals.first()
    }

    /// What is known of the statement's parts.
    pub(in crate::sql) fn findings(mut self) -> Result<Findings<'a>, Refusal> {
        match self.conclude() {
            Some(refusal) => Err(refusal),
            None => Ok(Findings { met: self.met, keys: self.facts.keys(), changes: self.changes }),
        }
    }

    /// Where the statement may run.
    pub(super) fn target(mut self) -> Target {
        if let Some(Refusal { message, hint }) = self.conclude() {
            return Target::Refused(message, hint);
        }
        let touched = self.touched;
        if touched.reference_written && self.modifications > 1 && touched.home {
            let refusal = Refusal::home_into_reference();
            return Target::Refused(refusal.message, refusal.hint);
        }
        match self.facts.outcome() {
            // Whatever is read, every shard has a copy to write.
            Outcome::Unsharded if touched.reference_written && touched.home => Target::copies(true),
            Outcome::Unsharded if touched.home => Target::Home,
            Outcome::Unsharded if touched.reference => Target::Reference,
            Outcome::Unsharded if touched.catalog => Target::Catalog,
            Outcome::Unsharded => Target::Nothing,
            _ if touched.reference_written && self.modifications > 1 => {
                let refusal = Refusal::sharded_into_reference();
                Target::Refused(refusal.message, refusal.hint)
            }
            _ if touched.reference_written => Target::copies(touched.home),
            Outcome::Missing { table, column, connected } => Target::Everywhere {
                table,
                column,
                colocated: connected && !self.apart && self.outermost_sharded && !touched.home,
                home: touched.home,
            },
            Outcome::Known { keys, connected } => Target::Keys {
                keys,
                colocated: connected && !self.apart && self.outermost_sharded && !touched.home,
                home: touched.home,
            },
        }
    }

    /// A constant of the text; a view's own are not in it.
    pub(super) fn constant(&self, expr: &Expr, key_type: KeyType) -> Option<KeySource> {
        if self.views_deep > 0 {
            return None;
        }
        let found = self.literals.constant(expr, key_type);
        self.note_keyed(found.as_ref(), expr);
        found
    }

    /// Whether any value is said to be the default.
    pub(super) fn says_default(&self) -> bool {
        let tokens = self.literals.tokens();
        (0..tokens.len()).any(|at| tokens.is_word(at, "default"))
    }

    /// Whether what an `INSERT` gives for identity columns is not what is stored.
    pub(super) fn overrides_identities(&self, insert: &Insert) -> bool {
        self.views_deep == 0
            && bridge::index_of(insert.insert_token.0.span)
                .is_some_and(|at| bridge::overrides_identities(self.literals.tokens(), at))
    }

    pub(super) fn array(&self, expr: &Expr, key_type: KeyType) -> Option<Vec<KeySource>> {
        if self.views_deep > 0 {
            return None;
        }
        let found = self.literals.array(expr, key_type);
        match unnested(expr) {
            // A cast of it all says of what type the elements are.
            Expr::Array(array) => {
                for (source, element) in found.iter().flatten().zip(&array.elem) {
                    self.note_keyed(Some(source), element);
                }
            }
            _ => self.note_keyed(found.iter().flatten().next(), expr),
        }
        found
    }

    fn note_keyed(&self, source: Option<&KeySource>, expr: &Expr) {
        if let Some(KeySource { slot: KeySlot::Param(_) | KeySlot::ParamArray(_), .. }) = source {
            self.keyed.borrow_mut().extend(self.literals.placeholder(expr));
        }
    }

    /// The constant at a position of a row that the tree does not have.
    pub(super) fn in_row(&self, row: Range<usize>, position: usize, key_type: KeyType) -> Option<KeySource> {
        let found = self.literals.in_row(row.clone(), position, key_type);
        if let (Some(KeySource { slot: KeySlot::Param(_), .. }), Some(value)) =
            (&found, computed::value_at(self.literals.tokens(), row, position))
        {
            self.keyed.borrow_mut().insert(value.start);
        }
        found
    }

    /// Whether the value there is no constant, but can be computed.
    pub(super) fn computed_in_row(&self, row: Range<usize>, position: usize) -> bool {
        self.literals.is_computed(row, position)
    }

    /// A query, wherever it stands.
    pub(super) fn query(&mut self, query: &Query, outer: Option<&Scope<'_>>, env: &Env<'_>) -> Output {
        let Query { with, body, order_by, limit_clause, fetch, locks, .. } = query;
        if query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
            || order_by.as_ref().is_some_and(|order| order.interpolate.is_some())
        {
            self.refusals.unreadable();
        }
        self.writes |= !locks.is_empty();
        self.changes |= !locks.is_empty();
        let mut names = Vec::new();
        if let Some(with) = with {
            if self.ctes.len() + with.cte_tables.len() > MOST_CTES {
                self.refusals.push(Refusal::too_many_tables());
                self.refusals.unreadable();
                return Output::default();
            }
            if with.recursive {
                for cte in &with.cte_tables {
                    names.push((ident(&cte.alias.name), self.new_cte()));
                }
            }
            for (index, cte) in with.cte_tables.iter().enumerate() {
                let mut output = self.query(&cte.query, outer, &Env { names: &names, outer: Some(env) });
                if cte.from.is_some() {
                    self.refusals.unreadable();
                }
                rename(&mut output.columns, cte.alias.columns.iter().map(|column| ident(&column.name)));
                if !with.recursive {
                    names.push((ident(&cte.alias.name), self.new_cte()));
                }
                let id = names[index].1;
                self.ctes[id].output = Some(output);
            }
        }
        let env = Env { names: &names, outer: Some(env) };
        let mut output = match &**body {
            SetExpr::Select(select) => self.select(select, query, outer, &env),
            other => {
                let output = self.set_expr(other, outer, &env);
                // ORDER BY sees the output's columns and nothing else.
                let level = Level { sources: vec![Source::default()], merged: Vec::new() };
                let scope = Scope { level: &level, visible: 0..1, outer };
                self.tail(query, &scope, &env);
                output
            }
        };
        if output.sharded {
            self.sharded.insert(address(query));
        }
        let unlimited = limit_clause.is_none() && fetch.is_none() && locks.is_empty();
        output.plain &= unlimited;
        output.own &= unlimited;
        output
    }

    fn new_cte(&mut self) -> usize {
        self.ctes.push(Cte::default());
        self.ctes.len() - 1
    }

    fn tail(&mut self, query: &Query, scope: &Scope<'_>, env: &Env<'_>) {
        self.walk(&query.order_by, scope, env);
        self.walk(&query.limit_clause, scope, env);
        self.walk(&query.fetch, scope, env);
    }

    fn set_expr(&mut self, body: &SetExpr, outer: Option<&Scope<'_>>, env: &Env<'_>) -> Output {
        match body {
            // Without the query around it there is nothing of it in the select's scope.
            SetExpr::Select(select) => self.select_alone(select, outer, env),
            SetExpr::Query(query) => self.query(query, outer, env),
            SetExpr::SetOperation { left, right, .. } => {
                let left = self.set_expr(left, outer, env);
                let right = self.set_expr(right, outer, env);
                let sharded = left.sharded || right.sharded;
                self.apart |= sharded;
                let unkeyed = |column: Column| Column { node: None, ..column };
                let columns = left.columns.map(|columns| columns.into_iter().map(unkeyed).collect());
                Output { columns, sharded, ..Output::default() }
            }
            SetExpr::Values(values) => {
                let level = Level::default();
                let scope = Scope { level: &level, visible: 0..0, outer };
                for row in &values.rows {
                    self.walk(&row.content, &scope, env);
                }
                let width = values.rows.first().map_or(0, |row| row.content.len());
                let columns = (1..=width).map(|n| Column { name: Some(format!("column{n}")), node: None });
                Output { columns: Some(columns.collect()), ..Output::default() }
            }
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => self.modification(statement, env),
            // The bridge makes a SELECT of it.
            SetExpr::Table(_) => {
                self.refusals.unreadable();
                Output::default()
            }
        }
    }

    fn select_alone(&mut self, select: &Select, outer: Option<&Scope<'_>>, env: &Env<'_>) -> Output {
        self.select_with(select, outer, env, |_, _, _| {})
    }

    fn select(&mut self, select: &Select, query: &Query, outer: Option<&Scope<'_>>, env: &Env<'_>) -> Output {
        self.select_with(select, outer, env, |analyzer, scope, env| analyzer.tail(query, scope, env))
    }

    fn select_with(
        &mut self,
        select: &Select,
        outer: Option<&Scope<'_>>,
        env: &Env<'_>,
        tail: impl FnOnce(&mut Self, &Scope<'_>, &Env<'_>),
    ) -> Output {
        if !is_postgresql(select) {
            self.refusals.unreadable();
        }
        if let Some(into) = &select.into {
            self.into = Some(into.temporary);
        }
        let mut level = Level::default();
        for item in &select.from {
            self.joined(item, &mut level, outer, env);
        }
        let everything = 0..level.sources.len();
        let scope = Scope { level: &level, visible: everything.clone(), outer };

        let aggregates_around = std::mem::replace(&mut self.aggregates, false);
        let folds_around = std::mem::replace(&mut self.folds, false);
        self.walk(&select.projection, &scope, env);
        let folds = std::mem::replace(&mut self.folds, folds_around);
        self.walk(&select.distinct, &scope, env);
        self.walk(&select.group_by, &scope, env);
        self.walk(&select.having, &scope, env);
        self.walk(&select.named_window, &scope, env);
        self.walk(&select.selection, &scope, env);
        tail(self, &scope, env);
        let aggregates = std::mem::replace(&mut self.aggregates, aggregates_around);
        self.apart |= select.named_window.iter().any(|window| match &window.1 {
            NamedWindowExpr::WindowSpec(window) => !self.is_own_window(window, &scope),
            NamedWindowExpr::NamedWindow(_) => true,
        });
        if let Some(condition) = &select.selection {
            self.condition(condition, &scope, &everything);
        }

        let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, modifiers) if by.is_empty() && modifiers.is_empty());
        let distinct = !matches!(&select.distinct, None | Some(Distinct::All));
        let is_key = |expr: &Expr| self.is_key_of_row(expr, &scope);
        let lists_key = || {
            select.projection.iter().any(|item| match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => is_key(expr),
                _ => false,
            })
        };
        let grouped_apart = match &select.group_by {
            GroupByExpr::Expressions(by, _) if grouped => by.iter().any(is_key),
            _ => !grouped && !aggregates && select.having.is_none(),
        };
        let own = grouped_apart
            && !by_sets(&select.group_by)
            && (!distinct || lists_key())
            && select.into.is_none();
        let output = Output {
            own: own && !matches!(select.distinct, Some(Distinct::On(_))),
            columns: self.projected(&select.projection, &scope),
            plain: !grouped
                && !distinct
                && !folds
                && !aggregates
                && select.having.is_none()
                && select.into.is_none(),
            sharded: level.sources.iter().any(|source| source.sharded),
            solid: joined_inner(&select.from)
                && !by_sets(&select.group_by)
                && level.sources.iter().all(Source::is_solid),
            modifies: false,
        };
        // Only now: within the query, its sources say so themselves.
        for source in level.sources.iter().filter(|source| source.optional) {
            for node in source.columns.iter().flatten().filter_map(|column| column.node) {
                self.facts.make_optional(node);
            }
        }
        output
    }

    /// The select list's columns; `None` where their number is not known.
    pub(super) fn projected(&mut self, items: &[SelectItem], scope: &Scope<'_>) -> Option<Vec<Column>> {
        let mut columns = Vec::new();
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    columns.push(Column { name: name_of(expr), node: self.own_key(expr, scope) });
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    columns.push(Column { name: Some(ident(alias)), node: self.own_key(expr, scope) });
                }
                SelectItem::Wildcard(options) => {
                    if !is_bare(options) {
                        self.refusals.unreadable();
                    }
                    if !scope.level.merged.is_empty() {
                        return None;
                    }
                    for source in &scope.level.sources {
                        columns.extend(source.columns.clone()?);
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    if !is_bare(options) {
                        self.refusals.unreadable();
                    }
                    let name = object(name)?;
                    let mut matching =
                        scope.level.sources.iter().filter(|source| source.name.as_ref() == Some(&name.name));
                    let source = matching.next().filter(|_| matching.next().is_none())?;
                    columns.extend(source.columns.clone()?);
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _) => return None,
                SelectItem::ExprWithAliases { .. } => {
                    self.refusals.unreadable();
                    return None;
                }
            }
        }
        Some(columns)
    }

    /// A key of this level's own tables: a condition on one of an outer level's, seen through
    /// this query, would not say anything about its rows.
    fn own_key(&self, expr: &Expr, scope: &Scope<'_>) -> Option<NodeId> {
        self.key(expr, scope).filter(|found| found.source.is_some()).map(|found| found.node)
    }

    /// Whether an expression is the key of a sharded table of which each row of this level has a row:
    /// rows that are alike in it lie on one shard.
    pub(super) fn is_key_of_row(&self, expr: &Expr, scope: &Scope<'_>) -> bool {
        self.key(expr, scope).is_some_and(|found| {
            let source = found.source.and_then(|source| scope.level.sources.get(source));
            !self.facts.is_optional(found.node) && source.is_some_and(|source| !source.optional)
        })
    }

    /// Marks a relation of the tree as seen.
    pub(super) fn account(&mut self, relation: &ObjectName) {
        self.accounted.insert(address(relation));
    }
}

/// Gives the first columns new names.
pub(super) fn rename(columns: &mut Option<Vec<Column>>, names: impl Iterator<Item = String>) {
    if let Some(columns) = columns {
        for (column, name) in columns.iter_mut().zip(names) {
            column.name = Some(name);
        }
    }
}

/// The name PostgreSQL gives an output column, as far as it is the name of a column.
fn name_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(ident(name)),
        Expr::CompoundIdentifier(parts) => parts.last().map(ident),
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => name_of(inner),
        _ => None,
    }
}

/// Whether no row may lack one of the tables' part.
pub(super) fn joined_inner(from: &[TableWithJoins]) -> bool {
    let inner = |join: &JoinOperator| {
        matches!(join, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_))
    };
    from.iter().all(|item| {
        let mut factors = std::iter::once(&item.relation).chain(item.joins.iter().map(|join| &join.relation));
        item.joins.iter().all(|join| inner(&join.join_operator))
            && factors.all(|factor| !matches!(factor, TableFactor::NestedJoin { .. }))
    })
}

/// In the totals of grouping sets, a column is NULL.
fn by_sets(group_by: &GroupByExpr) -> bool {
    match group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(by, modifiers) => {
            let sets = |by: &Expr| matches!(by, Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_));
            !modifiers.is_empty() || by.iter().any(sets)
        }
    }
}

fn is_bare(options: &WildcardAdditionalOptions) -> bool {
    options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none()
}

/// Only PostgreSQL's clauses.
fn is_postgresql(select: &Select) -> bool {
    select.select_modifiers.is_none()
        && select.top.is_none()
        && select.exclude.is_none()
        && select.lateral_views.is_empty()
        && select.prewhere.is_none()
        && select.connect_by.is_empty()
        && select.cluster_by.is_empty()
        && select.distribute_by.is_empty()
        && select.sort_by.is_empty()
        && select.qualify.is_none()
        && select.value_table_mode.is_none()
        && select.flavor == SelectFlavor::Standard
        && matches!(&select.group_by, GroupByExpr::Expressions(_, modifiers) if modifiers.is_empty())
}
