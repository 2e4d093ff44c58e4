//! A statement's tables and conditions, from its tree.
//!
//! Everything is walked: each query, each expression and, in them, each sub-query, with the
//! scope it stands in. Which relations the walk has accounted for is compared afterwards with
//! those sqlparser's own visitor finds; one that was missed makes the statement unreadable.
//! So does every clause that PostgreSQL does not have: sqlparser reads many dialects, and what
//! it takes for another one's clause PostgreSQL takes for something else.

use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, Range};
use std::rc::Rc;

use sqlparser::ast::{
    Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, ObjectName,
    Query, Select, SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement,
    TableFactor, Value, Visit, Visitor, WildcardAdditionalOptions,
};

use super::super::schema::{Table, TableKind};
use super::super::shape::{KeySource, KeyType, Pin, Target};
use super::super::lexer::tokenize;
use super::Context;
use super::bridge::{self, Depth};
use super::facts::{Facts, NodeId, Outcome};
use super::functions::{Effect, effect};
use super::literals::Literals;
use super::names::{Named, ident, object, resolve};
use super::refusals::{Refusal, Refusals};
use super::scope::{Column, Level, Scope, Source};
use super::tokens::{Name, Tokens};

/// Views may stand on views; PostgreSQL sees to it that they are no circle.
const MOST_VIEWS_DEEP: usize = 16;

/// What a query yields to the one around it.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    /// `None`: not known.
    pub(super) columns: Option<Vec<Column>>,
    /// A condition on a column may be applied below the query: no row depends on another.
    pub(super) plain: bool,
    /// Rows of a sharded table are in it.
    pub(super) sharded: bool,
}

/// A query in `WITH`.
#[derive(Debug, Default)]
struct Cte {
    /// Nothing while it is read: a recursive one refers to itself.
    output: Option<Output>,
    references: usize,
    /// The references' columns, and those they are copies of.
    copies: Vec<(NodeId, NodeId)>,
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

    fn find(&self, name: &str) -> Option<usize> {
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

/// The analysis of one statement.
pub(super) struct Analyzer<'a> {
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
    pub(super) pin: Option<Pin>,
    /// `SELECT … INTO`: is the table temporary?
    pub(super) into: Option<bool>,
    pub(super) outputs: HashMap<usize, Output>,
    accounted: HashSet<usize>,
    ctes: Vec<Cte>,
    /// A select list folds rows.
    folds: bool,
    views: Vec<(Rc<Statement>, Depth)>,
    views_deep: usize,
    /// Rows of an `INSERT` that the tree does not have: their tokens between the parentheses.
    pub(super) rows: Vec<Range<usize>>,
}

/// A tree node's identity, for as long as the tree stands.
pub(super) fn address<T>(node: &T) -> usize {
    std::ptr::from_ref(node) as usize
}

impl<'a> Analyzer<'a> {
    pub(super) fn new(cx: &'a Context<'a>, literals: Literals<'a>) -> Analyzer<'a> {
        Analyzer {
            cx,
            literals,
            facts: Facts::default(),
            touched: Touched::default(),
            refusals: Refusals::default(),
            apart: false,
            outermost_sharded: false,
            writes: false,
            pin: None,
            into: None,
            outputs: HashMap::new(),
            accounted: HashSet::new(),
            ctes: Vec::new(),
            folds: false,
            views: Vec::new(),
            views_deep: 0,
            rows: Vec::new(),
        }
    }

    /// The whole statement. Call once.
    pub(super) fn read(&mut self, statement: &Statement) {
        match statement {
            Statement::Query(query) => {
                let output = self.query(query, None, &Env::EMPTY);
                self.outermost_sharded = output.sharded;
            }
            other => self.modification(other, &Env::EMPTY),
        }
        self.cross_check(statement);
    }

    /// Every relation of the tree must have been accounted for.
    fn cross_check(&mut self, tree: &Statement) {
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

    /// Where the statement may run.
    pub(super) fn target(mut self) -> Target {
        for cte in &self.ctes {
            if cte.references == 1 && cte.output.as_ref().is_some_and(|output| output.plain) {
                for (copy, original) in &cte.copies {
                    self.facts.edge(*copy, *original);
                }
            }
        }
        for (view, depth) in std::mem::take(&mut self.views) {
            bridge::with_stack(depth, || drop(view));
        }
        if let Some(Refusal { message, hint }) = self.refusals.first() {
            return Target::Refused(message, hint);
        }
        let touched = self.touched;
        match self.facts.outcome() {
            Outcome::Unsharded if touched.reference_written && touched.home => {
                let refusal = Refusal::home_into_reference();
                Target::Refused(refusal.message, refusal.hint)
            }
            Outcome::Unsharded if touched.home => Target::Home,
            Outcome::Unsharded if touched.reference => Target::Reference,
            Outcome::Unsharded if touched.catalog => Target::Catalog,
            Outcome::Unsharded => Target::Nothing,
            _ if touched.reference_written => {
                let refusal = Refusal::sharded_into_reference();
                Target::Refused(refusal.message, refusal.hint)
            }
            Outcome::Missing(Target::Everywhere { table, column }) if touched.home => {
                let refusal = Refusal::home_beside_unknown(&table, &column);
                Target::Refused(refusal.message, refusal.hint)
            }
            Outcome::Missing(target) => target,
            Outcome::Known { keys, connected } => Target::Keys {
                keys,
                colocated: connected && !self.apart && self.outermost_sharded && !touched.home,
                home: touched.home,
            },
        }
    }

    /// A constant of the text; a view's own are not in it.
    pub(super) fn constant(&self, expr: &Expr, key_type: KeyType) -> Option<KeySource> {
        if self.views_deep > 0 { None } else { self.literals.constant(expr, key_type) }
    }

    pub(super) fn array(&self, expr: &Expr, key_type: KeyType) -> Option<Vec<KeySource>> {
        if self.views_deep > 0 { None } else { self.literals.array(expr, key_type) }
    }

    /// The constant at a position of a row that the tree does not have.
    pub(super) fn in_row(&self, row: Range<usize>, position: usize, key_type: KeyType) -> Option<KeySource> {
        self.literals.in_row(row, position, key_type)
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
        let mut names = Vec::new();
        if let Some(with) = with {
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
                self.apart |= output.sharded;
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
        output.plain &= limit_clause.is_none() && fetch.is_none() && locks.is_empty();
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
                Output { columns, plain: false, sharded }
            }
            SetExpr::Values(values) => {
                let level = Level::default();
                let scope = Scope { level: &level, visible: 0..0, outer };
                for row in &values.rows {
                    self.walk(&row.content, &scope, env);
                }
                let width = values.rows.first().map_or(0, |row| row.content.len());
                let columns = (1..=width).map(|n| Column { name: Some(format!("column{n}")), node: None });
                Output { columns: Some(columns.collect()), plain: false, sharded: false }
            }
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => {
                self.modification(statement, env);
                Output { columns: None, plain: false, sharded: true }
            }
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

    fn select(
        &mut self,
        select: &Select,
        query: &Query,
        outer: Option<&Scope<'_>>,
        env: &Env<'_>,
    ) -> Output {
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

        let folds_around = std::mem::replace(&mut self.folds, false);
        self.walk(&select.projection, &scope, env);
        let folds = std::mem::replace(&mut self.folds, folds_around);
        self.walk(&select.distinct, &scope, env);
        self.walk(&select.group_by, &scope, env);
        self.walk(&select.having, &scope, env);
        self.walk(&select.named_window, &scope, env);
        self.walk(&select.selection, &scope, env);
        tail(self, &scope, env);
        self.apart |= !select.named_window.is_empty();
        if let Some(condition) = &select.selection {
            self.condition(condition, &scope, &everything);
        }

        let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, modifiers) if by.is_empty() && modifiers.is_empty());
        let distinct = !matches!(&select.distinct, None | Some(Distinct::All));
        Output {
            columns: self.projected(&select.projection, &scope),
            plain: !grouped && !distinct && !folds && select.having.is_none() && select.into.is_none(),
            sharded: level.sources.iter().any(|source| source.sharded),
        }
    }

    /// The select list's columns; `None` where their number is not known.
    fn projected(&mut self, items: &[SelectItem], scope: &Scope<'_>) -> Option<Vec<Column>> {
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

    /// What a name in `FROM` stands for, without an alias.
    pub(super) fn relation(&mut self, name: &Name, env: &Env<'_>) -> Source {
        if name.schema.is_none()
            && let Some(cte) = env.find(&name.name)
        {
            return self.cte_reference(cte, &name.name);
        }
        let path;
        let search_path = if self.views_deep > 0 {
            // Read with an empty path, only catalogs are unqualified.
            path = Vec::new();
            &path
        } else {
            self.cx.search_path
        };
        let mut source = Source { name: Some(name.name.clone()), ..Source::default() };
        match resolve(self.cx.schema, search_path, name) {
            Named::Catalog => self.touched.catalog = true,
            Named::Unknown => {
                if self.views_deep > 0 && name.schema.is_none() {
                    self.refusals.unreadable();
                }
                self.touched.home = true;
            }
            Named::Table(table) => {
                source = self.table(table);
                source.name = Some(name.name.clone());
            }
        }
        source
    }

    /// A table of the snapshot.
    pub(super) fn table(&mut self, table: &Table) -> Source {
        let mut columns: Vec<Column> =
            table.columns.iter().map(|name| Column { name: Some(name.clone()), node: None }).collect();
        let mut sharded = false;
        match &table.kind {
            TableKind::Sharded { key, key_type } => {
                sharded = true;
                let column = table.columns.get(*key).map_or("", String::as_str);
                let node = self.facts.table(&table.name, column, *key_type);
                if let Some(column) = columns.get_mut(*key) {
                    column.node = Some(node);
                }
            }
            TableKind::Reference => self.touched.reference = true,
            TableKind::Home | TableKind::Sequence => self.touched.home = true,
            TableKind::View { definition } => {
                let output = self.view(definition);
                sharded = output.sharded;
                for (column, copy) in columns.iter_mut().zip(self.copied(&output).into_iter().flatten()) {
                    column.node = copy.node;
                }
            }
        }
        Source { schema: Some(table.schema.clone()), columns: Some(columns), sharded, name: None }
    }

    /// A view is the query it is defined by.
    fn view(&mut self, definition: &str) -> Output {
        if self.views_deep >= MOST_VIEWS_DEEP {
            self.refusals.unreadable();
            return Output::default();
        }
        let Some((statement, depth)) = definition_tree(definition) else {
            self.refusals.unreadable();
            return Output::default();
        };
        // Kept until the analysis is over: the tree's addresses must stay its own.
        self.views.push((Rc::clone(&statement), depth));
        let Statement::Query(query) = &*statement else {
            self.refusals.unreadable();
            return Output::default();
        };
        self.views_deep += 1;
        let output = bridge::with_stack(depth, || {
            let output = self.query(query, None, &Env::EMPTY);
            self.cross_check(&statement);
            output
        });
        self.views_deep -= 1;
        output
    }

    /// The columns of a query in `FROM`, as copies; conditions on them reach into it if they may.
    pub(super) fn copied(&mut self, output: &Output) -> Option<Vec<Column>> {
        self.apart |= output.sharded && !output.plain;
        let columns = output.columns.as_ref()?;
        let copies = columns.iter().map(|column| {
            let node = column.node.map(|original| {
                let copy = self.facts.copy(original);
                if output.plain {
                    self.facts.edge(copy, original);
                }
                copy
            });
            Column { name: column.name.clone(), node }
        });
        Some(copies.collect())
    }

    fn cte_reference(&mut self, id: usize, name: &str) -> Source {
        self.ctes[id].references += 1;
        let mut source = Source { name: Some(name.to_owned()), ..Source::default() };
        if let Some(output) = self.ctes[id].output.clone() {
            source.sharded = output.sharded;
            source.columns = output.columns.map(|columns| {
                let copies = columns.into_iter().map(|column| {
                    let node = column.node.map(|original| {
                        let copy = self.facts.copy(original);
                        self.ctes[id].copies.push((copy, original));
                        copy
                    });
                    Column { node, ..column }
                });
                copies.collect()
            });
        }
        source
    }

    /// Marks a relation of the tree as seen.
    pub(super) fn account(&mut self, relation: &ObjectName) {
        self.accounted.insert(address(relation));
    }

    /// Sub-queries and function calls in expressions.
    pub(super) fn walk(&mut self, part: &impl Visit, scope: &Scope<'_>, env: &Env<'_>) {
        // The walk itself never ends early: `Break` cannot happen.
        let _: ControlFlow<()> = part.visit(&mut Walk { analyzer: self, scope, env, depth: 0 });
    }

    fn function(&mut self, function: &Function) {
        self.apart |= function.over.is_some();
        let arguments = match &function.args {
            FunctionArguments::List(list) => list.args.as_slice(),
            _ => &[],
        };
        let Some(name) = object(&function.name) else {
            self.refusals.unreadable();
            return;
        };
        self.folds |= function.over.is_some()
            || function.filter.is_some()
            || !function.within_group.is_empty()
            || effect(self.cx.schema, name.schema.as_deref(), &name.name) != Effect::Scalar;
        self.call(&name, arguments);
    }

    /// A call of this function, in an expression or in `FROM`.
    pub(super) fn call(&mut self, name: &Name, arguments: &[FunctionArg]) {
        match effect(self.cx.schema, name.schema.as_deref(), &name.name) {
            Effect::Scalar | Effect::Aggregate => {}
            Effect::Opaque => self.writes = true,
            Effect::Home(pin) => {
                self.writes = true;
                self.touched.home = true;
                self.pin = self.pin.or(pin);
            }
            Effect::SetConfig => {
                self.writes = true;
                if !arguments.get(2).is_some_and(is_true) {
                    self.pin = self.pin.or(Some(Pin::Setting));
                }
            }
            Effect::Reads => self.refusals.push(Refusal::reading_function(&name.name)),
            Effect::UserDefined => self.refusals.push(Refusal::user_function(&name.name)),
        }
    }
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
            Expr::Function(function) => self.analyzer.function(function),
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

fn is_true(argument: &FunctionArg) -> bool {
    matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))
        if value.value == Value::Boolean(true))
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

/// The tree of a view's definition, and how deep it may be.
fn definition_tree(definition: &str) -> Option<(Rc<Statement>, Depth)> {
    let definition = definition.trim_end().trim_end_matches(';').as_bytes();
    let tokens = Tokens::new(definition, tokenize(definition, true).ok()?);
    let everything = 0..tokens.len();
    let depth = Depth::of(&tokens, everything.clone());
    if depth.is_too_deep() {
        return None;
    }
    let tree = bridge::with_stack(depth, || bridge::parse(&tokens, everything, &[]).ok().map(Rc::new))?;
    Some((tree, depth))
}
