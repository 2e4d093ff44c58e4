//! `INSERT`, `UPDATE`, `DELETE`, `MERGE`: where rows are written, and that they stay where
//! their key belongs.

use std::ops::Range;

use sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Distinct, Expr, FromTable, Insert, Merge, MergeAction,
    MergeClauseKind, MergeInsertKind, MergeUpdateKind, ObjectName, OnConflictAction, OnInsert, OutputClause,
    Query, Select, SelectItem, SetExpr, Statement, TableFactor, TableObject, TableWithJoins, Update,
    UpdateTableFromKind,
};

use super::super::distribute::makes_ids;
use super::super::schema::{Table, TableKind};
use super::super::shape::{KeySlot, KeySource, KeyType};
use super::computed;
use super::facts::NodeId;
use super::names::{Named, ident, object, resolve};
use super::opened::first_part;
use super::query::{Analyzer, Env, Output, joined_inner};
use super::refusals::Refusal;
use super::scope::{Level, Scope, Source};

/// A sharded table that is written to.
struct Target<'t> {
    table: &'t str,
    column: &'t str,
    position: usize,
    key_type: KeyType,
    node: NodeId,
}

impl<'a> Analyzer<'a> {
    /// A statement that is no query; what it returns.
    pub(super) fn modification(&mut self, statement: &Statement, env: &Env<'_>) -> Output {
        self.writes = true;
        self.changes = true;
        self.modifications += 1;
        let output = match statement {
            Statement::Insert(insert) => self.insert(insert, env),
            Statement::Update(update) => self.update(update, env),
            Statement::Delete(delete) => self.delete(delete, env),
            Statement::Merge(merge) => self.merge_into(merge, env),
            _ => None,
        };
        output.unwrap_or_else(|| {
            self.refusals.unreadable();
            Output::default()
        })
    }

    /// What `RETURNING` makes of the rows of a level, whose first source is the target.
    fn returned(&mut self, returning: Option<&[SelectItem]>, scope: &Scope<'_>, solid: bool) -> Output {
        let sources = &scope.level.sources;
        let sharded = sources.iter().any(|source| source.sharded);
        let solid = solid && sources.iter().all(Source::is_solid);
        let columns = returning.and_then(|returning| self.projected(returning, scope));
        Output { columns, plain: false, sharded, solid, modifies: true, own: false }
    }

    /// The table that is written to. `WITH` does not shadow it.
    fn target_table(&mut self, name: &ObjectName) -> Option<(Source, Option<&'a Table>)> {
        self.account(name);
        let Some(name) = object(name).filter(|_| name.0.len() <= 3) else {
            self.refusals.unreadable();
            return None;
        };
        let mut source = Source { name: Some(name.name.clone()), ..Source::default() };
        let table = match resolve(self.cx, self.cx.search_path, &name) {
            Named::Catalog => {
                self.refusals.push(Refusal::catalog_written());
                None
            }
            Named::Unknown => {
                self.touched.home = true;
                None
            }
            Named::Table(table) => {
                source = self.table(table);
                source.name = Some(name.name);
                self.touched.reference_written |= table.kind == TableKind::Reference;
                if table.detail.has_rules
                    && matches!(table.kind, TableKind::Sharded { .. } | TableKind::Reference)
                {
                    self.refusals.push(Refusal::ruled(&table.name));
                }
                if matches!(table.kind, TableKind::View { .. }) && (source.sharded || self.touched.reference)
                {
                    self.refusals.push(Refusal::view_written(&table.name));
                }
                Some(table)
            }
        };
        Some((source, table))
    }

    fn written<'t>(source: &Source, table: Option<&'t Table>) -> Option<Target<'t>> {
        let table = table?;
        let TableKind::Sharded { key, key_type } = table.kind else { return None };
        let node = source.columns.as_ref()?.get(key)?.node?;
        let column = table.columns.get(key)?;
        Some(Target { table: &table.name, column, position: key, key_type, node })
    }

    fn insert(&mut self, insert: &Insert, env: &Env<'_>) -> Option<Output> {
        if !is_postgresql(insert) {
            self.refusals.unreadable();
        }
        let rows = std::mem::take(&mut self.rows);
        let TableObject::TableName(name) = &insert.table else { return None };
        let (mut source, table) = self.target_table(name)?;
        let target = Self::written(&source, table);
        if let Some(table) = table {
            let names = || insert.columns.iter().filter_map(first_part).collect();
            let given = match insert.source.as_deref() {
                Some(query) if insert.columns.is_empty() => first_columns(table, width(&query.body)),
                _ => names(),
            };
            self.defaults_are_harmless(table, Some(&given));
        }
        if let Some(table) = table
            && self.overrides_identities(insert)
        {
            self.identities_are_harmless(table);
        }
        if let Some(alias) = &insert.table_alias {
            source.name = Some(ident(&alias.alias));
            source.schema = None;
        }
        let excluded = Source { name: Some("excluded".to_owned()), ..Source::default() };
        let alone = Level { sources: vec![source.clone()], merged: Vec::new() };
        let level = Level { sources: vec![source, excluded], merged: Vec::new() };
        let scope = Scope { level: &level, visible: 0..2, outer: None };
        self.walk(&insert.on, &scope, env);
        self.walk(&insert.returning, &scope, env);

        // The query must be read even where its rows do not need a key.
        let output = insert.source.as_ref().map(|query| (&**query, self.query(query, None, env)));
        if let Some(target) = target {
            self.inserted(insert, &target, output, rows);
        }
        let alone = Scope { level: &alone, visible: 0..1, outer: None };
        Some(self.returned(insert.returning.as_deref(), &alone, true))
    }

    /// Whether what is stored by default depends on the row alone. `given`: the columns that are given a
    /// value; without, only those matter that are said to be `DEFAULT`.
    fn defaults_are_harmless(&mut self, table: &Table, given: Option<&[String]>) {
        if table.detail.calling_defaults.is_empty()
            || !matches!(table.kind, TableKind::Sharded { .. } | TableKind::Reference)
        {
            return;
        }
        let says_default = self.says_default();
        let calling = table.detail.calling_defaults.iter().find(|(column, function)| {
            let left_out = given.is_some_and(|given| !given.contains(column));
            (left_out || says_default) && !makes_ids(function)
        });
        if let Some((column, function)) = calling {
            self.refusals.push(Refusal::calling_default(&table.name, column, function));
        }
    }

    /// What `OVERRIDING USER VALUE` has a sequence give must not be the key, nor be in copies.
    fn identities_are_harmless(&mut self, table: &Table) {
        let columns = &table.detail.columns;
        let known = columns.len() == table.columns.len();
        let harmless = match table.kind {
            TableKind::Sharded { key, .. } => {
                known && columns.get(key).is_some_and(|column| !column.identity)
            }
            TableKind::Reference => known && columns.iter().all(|column| !column.identity),
            _ => true,
        };
        if !harmless {
            self.refusals.push(Refusal::identity_overridden(&table.name));
        }
    }

    /// The rows that go into a sharded table. Those that are written out are split by owner, not
    /// united.
    fn inserted(
        &mut self,
        insert: &Insert,
        target: &Target<'_>,
        output: Option<(&Query, Output)>,
        rows: Vec<Range<usize>>,
    ) {
        if let Some(OnInsert::OnConflict(conflict)) = &insert.on
            && let OnConflictAction::DoUpdate(update) = &conflict.action
        {
            self.key_stays(&update.assignments, target, None);
        }
        let position = if insert.columns.is_empty() {
            Some(target.position)
        } else {
            insert.columns.iter().position(|column| first_part(column).as_deref() == Some(target.column))
        };
        let (Some(position), Some((query, output))) = (position, output) else {
            self.apart = true;
            self.refusals.push(Refusal::key_missing(target.table, target.column));
            return;
        };
        match bare_body(query) {
            Some(SetExpr::Values(values)) => {
                self.apart = true;
                let mut keys = Vec::with_capacity(values.rows.len() + rows.len());
                // Whose they are turns out when they are computed.
                let mut computed = false;
                for row in &values.rows {
                    match row.content.get(position) {
                        Some(value) if self.is_computed(value, target) => computed = true,
                        Some(value) => self.key_value(value, target, &mut keys),
                        None => self.refusals.push(Refusal::key_missing(target.table, target.column)),
                    }
                }
                for row in rows {
                    computed |= self.key_in_row(row, position, target, &mut keys);
                }
                if !computed {
                    self.facts.seed(target.node, keys);
                }
            }
            Some(SetExpr::Select(select)) => {
                // A limit is one for the rows of all owners, and so is a choice among them.
                self.apart |= !matches!(&*query.body, SetExpr::Select(_))
                    || query.limit_clause.is_some()
                    || query.fetch.is_some()
                    || matches!(select.distinct, Some(Distinct::On(_)));
                let columns = output.columns.filter(|_| output.solid);
                let copied = columns.as_ref().and_then(|columns| columns.get(position)?.node);
                self.key_selected(select, position, copied, target);
            }
            // Whose its rows are turns out when it has run.
            _ => self.apart = true,
        }
    }

    /// The key of a row of `VALUES`.
    fn key_value(&mut self, value: &Expr, target: &Target<'_>, keys: &mut Vec<KeySource>) {
        match self.constant(value, target.key_type) {
            Some(KeySource { slot: KeySlot::Null, .. }) => {
                self.refusals.push(Refusal::key_null(target.table, target.column));
            }
            Some(key) => keys.push(key),
            None if is_default(value) => {
                self.refusals.push(Refusal::key_missing(target.table, target.column));
            }
            None => self.refusals.push(Refusal::key_not_constant(target.table, target.column)),
        }
    }

    /// Whether the key is no constant, but can be computed before its row is stored.
    fn is_computed(&self, value: &Expr, target: &Target<'_>) -> bool {
        self.constant(value, target.key_type).is_none()
            && !is_default(value)
            && computed::is_steady(value, self.cx.schema)
    }

    /// Whether it is to be computed.
    fn key_in_row(
        &mut self,
        row: Range<usize>,
        position: usize,
        target: &Target<'_>,
        keys: &mut Vec<KeySource>,
    ) -> bool {
        match self.in_row(row.clone(), position, target.key_type) {
            None if self.computed_in_row(row, position) => return true,
            Some(KeySource { slot: KeySlot::Null, .. }) => {
                self.refusals.push(Refusal::key_null(target.table, target.column));
            }
            Some(key) => keys.push(key),
            None => self.refusals.push(Refusal::key_not_constant(target.table, target.column)),
        }
        false
    }

    /// `INSERT … SELECT`: the key is the same constant in each row, or that of the row it was
    /// read from, which is then read where it will be written.
    fn key_selected(
        &mut self,
        select: &Select,
        position: usize,
        copied: Option<NodeId>,
        target: &Target<'_>,
    ) {
        let constant = only_expressions(&select.projection)
            .and_then(|expressions| self.constant(expressions.get(position)?, target.key_type));
        let copied = copied.filter(|node| self.facts.key_type(*node) == target.key_type);
        self.apart |= copied.is_none();
        match (constant, copied) {
            (Some(KeySource { slot: KeySlot::Null, .. }), _) => {
                self.refusals.push(Refusal::key_null(target.table, target.column));
            }
            (Some(key), _) => self.facts.seed(target.node, vec![key]),
            (None, Some(node)) => {
                self.facts.edge(node, target.node);
                self.facts.equal(node, target.node);
            }
            // Whose its rows are turns out when the query has run.
            (None, None) => {}
        }
    }

    fn update(&mut self, update: &Update, env: &Env<'_>) -> Option<Output> {
        if update.output.is_some()
            || update.or.is_some()
            || !update.order_by.is_empty()
            || update.limit.is_some()
            || matches!(update.from, Some(UpdateTableFromKind::BeforeSet(_)))
            || !update.table.joins.is_empty()
        {
            self.refusals.unreadable();
        }
        let (mut level, table) = self.target_level(&update.table.relation)?;
        let target = level.sources.first().and_then(|source| Self::written(source, table));
        if let Some(UpdateTableFromKind::AfterSet(from)) = &update.from {
            for item in from {
                self.joined(item, &mut level, None, env);
            }
        }
        let everything = 0..level.sources.len();
        let scope = Scope { level: &level, visible: everything.clone(), outer: None };
        self.walk(&update.assignments, &scope, env);
        self.walk(&update.selection, &scope, env);
        self.walk(&update.returning, &scope, env);
        if let Some(condition) = &update.selection {
            self.condition(condition, &scope, &everything);
        }
        if let Some(target) = &target {
            self.key_stays(&update.assignments, target, Some(&scope));
        }
        if let Some(table) = table {
            self.defaults_are_harmless(table, None);
        }
        let solid = match &update.from {
            Some(UpdateTableFromKind::AfterSet(from)) => joined_inner(from),
            _ => true,
        };
        Some(self.returned(update.returning.as_deref(), &scope, solid))
    }

    fn delete(&mut self, delete: &Delete, env: &Env<'_>) -> Option<Output> {
        if !delete.tables.is_empty()
            || delete.output.is_some()
            || !delete.order_by.is_empty()
            || delete.limit.is_some()
        {
            self.refusals.unreadable();
        }
        let FromTable::WithFromKeyword(from) = &delete.from else { return None };
        let [TableWithJoins { relation, joins }] = from.as_slice() else { return None };
        if !joins.is_empty() {
            self.refusals.unreadable();
        }
        let (mut level, _) = self.target_level(relation)?;
        for item in delete.using.iter().flatten() {
            self.joined(item, &mut level, None, env);
        }
        let everything = 0..level.sources.len();
        let scope = Scope { level: &level, visible: everything.clone(), outer: None };
        self.walk(&delete.selection, &scope, env);
        self.walk(&delete.returning, &scope, env);
        if let Some(condition) = &delete.selection {
            self.condition(condition, &scope, &everything);
        }
        let solid = delete.using.as_deref().is_none_or(joined_inner);
        Some(self.returned(delete.returning.as_deref(), &scope, solid))
    }

    /// `MERGE`: rows of the source keep their own keys; of the target only those matter that
    /// `ON` matches, as on the nullable side of an outer join.
    fn merge_into(&mut self, merge: &Merge, env: &Env<'_>) -> Option<Output> {
        let (mut level, table) = self.target_level(&merge.table)?;
        let target = level.sources.first().and_then(|source| Self::written(source, table));
        self.factor(&merge.source, &mut level, None, env);
        let of_source = level.sources.iter().skip(1).any(|source| source.sharded);
        let scope = Scope { level: &level, visible: 0..level.sources.len(), outer: None };
        self.walk(&merge.on, &scope, env);
        self.condition(&merge.on, &scope, &(0..1));
        match &merge.output {
            None => {}
            Some(OutputClause::Returning { select_items, .. }) => self.walk(select_items, &scope, env),
            Some(OutputClause::Output { .. }) => self.refusals.unreadable(),
        }
        for clause in &merge.clauses {
            self.walk(&clause.predicate, &scope, env);
            if clause.clause_kind == MergeClauseKind::NotMatchedBySource
                && let Some(target) = &target
            {
                self.refusals.push(Refusal::merge_by_source(target.table));
            }
            match &clause.action {
                MergeAction::Insert(insert) => {
                    // That a row of another table has no match is for no owner to say alone.
                    self.apart |= !of_source;
                    self.walk(&insert.insert_predicate, &scope, env);
                    let MergeInsertKind::Values(values) = &insert.kind else {
                        self.refusals.unreadable();
                        continue;
                    };
                    for row in &values.rows {
                        self.walk(&row.content, &scope, env);
                    }
                    if let Some(table) = table {
                        let given = match (insert.columns.as_slice(), values.rows.first()) {
                            ([], Some(row)) => first_columns(table, Some(row.content.len())),
                            (columns, _) => columns.iter().filter_map(first_part).collect(),
                        };
                        self.defaults_are_harmless(table, Some(&given));
                    }
                    if let Some(target) = &target {
                        self.merged_rows(&insert.columns, values, target, &scope);
                    }
                }
                MergeAction::Update(update) => {
                    self.walk(&update.update_predicate, &scope, env);
                    self.walk(&update.delete_predicate, &scope, env);
                    let MergeUpdateKind::Set(assignments) = &update.kind else {
                        self.refusals.unreadable();
                        continue;
                    };
                    self.walk(assignments, &scope, env);
                    if let Some(table) = table {
                        self.defaults_are_harmless(table, None);
                    }
                    if let Some(target) = &target {
                        self.key_stays(assignments, target, None);
                    }
                }
                MergeAction::Delete { .. } | MergeAction::DoNothing { .. } => {}
            }
        }
        Some(self.returned(None, &scope, false))
    }

    /// Rows that `MERGE` inserts count as a table of their own: their key must be known too.
    fn merged_rows(
        &mut self,
        columns: &[ObjectName],
        values: &sqlparser::ast::Values,
        target: &Target<'_>,
        scope: &Scope<'_>,
    ) {
        let position = if columns.is_empty() {
            Some(target.position)
        } else {
            columns.iter().position(|column| first_part(column).as_deref() == Some(target.column))
        };
        for row in &values.rows {
            let Some(value) = position.and_then(|position| row.content.get(position)) else {
                self.refusals.push(Refusal::key_missing(target.table, target.column));
                continue;
            };
            let inserted = self.facts.table(target.table, target.column, target.key_type);
            let source = self
                .key(value, scope)
                .filter(|found| {
                    let source = found.source.filter(|&source| source > 0);
                    source.and_then(|source| scope.level.sources.get(source)).is_some_and(Source::is_solid)
                })
                .map(|found| found.node)
                .filter(|node| self.facts.key_type(*node) == target.key_type);
            if let Some(node) = source {
                self.facts.edge(node, inserted);
                self.facts.equal(node, inserted);
                continue;
            }
            let mut keys = Vec::new();
            self.key_value(value, target, &mut keys);
            self.facts.seed(inserted, keys);
        }
    }

    /// The table of an `UPDATE`, `DELETE` or `MERGE` as the first source of a level.
    fn target_level(&mut self, factor: &TableFactor) -> Option<(Level, Option<&'a Table>)> {
        let TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
            ..
        } = factor
        else {
            self.refusals.unreadable();
            return None;
        };
        if !with_hints.is_empty() || !partitions.is_empty() || !index_hints.is_empty() {
            self.refusals.unreadable();
        }
        let (source, table) = self.target_table(name)?;
        let source = self.aliased(source, alias.as_ref())?;
        Some((Level { sources: vec![source], merged: Vec::new() }, table))
    }

    /// No assignment may move a row, except that `SET key = key` is none.
    fn key_stays(&mut self, assignments: &[Assignment], target: &Target<'_>, scope: Option<&Scope<'_>>) {
        for assignment in assignments {
            let assigns_key = match &assignment.target {
                AssignmentTarget::ColumnName(name) => {
                    let same = scope
                        .and_then(|scope| scope.find(&assignment.value))
                        .is_some_and(|found| found.node == target.node);
                    !same && first_part(name).as_deref() == Some(target.column)
                }
                AssignmentTarget::Tuple(names) => {
                    names.iter().any(|name| first_part(name).as_deref() == Some(target.column))
                }
            };
            if assigns_key {
                self.refusals.push(Refusal::key_changed(target.table, target.column));
            }
        }
    }
}

/// A query's body, through parentheses, if no clause around it matters to its rows' values.
fn bare_body(query: &Query) -> Option<&SetExpr> {
    match &*query.body {
        SetExpr::Query(inner) => bare_body(inner),
        body => Some(body),
    }
}

/// The select list, if each item is one column.
fn only_expressions(items: &[SelectItem]) -> Option<Vec<&Expr>> {
    items
        .iter()
        .map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
            _ => None,
        })
        .collect()
}

/// How many columns each row of a query has, if that can be told.
fn width(body: &SetExpr) -> Option<usize> {
    match body {
        SetExpr::Query(inner) => width(&inner.body),
        SetExpr::Values(values) => values.rows.first().map(|row| row.content.len()),
        SetExpr::Select(select) => only_expressions(&select.projection).map(|items| items.len()),
        _ => None,
    }
}

fn first_columns(table: &Table, width: Option<usize>) -> Vec<String> {
    table.columns.iter().take(width.unwrap_or(0)).cloned().collect()
}

fn is_default(value: &Expr) -> bool {
    matches!(value, Expr::Identifier(name) if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default"))
}

/// Only PostgreSQL's clauses.
fn is_postgresql(insert: &Insert) -> bool {
    insert.or.is_none()
        && insert.into
        && !insert.ignore
        && !insert.overwrite
        && insert.assignments.is_empty()
        && insert.partitioned.is_none()
        && insert.after_columns.is_empty()
        && !insert.has_table_keyword
        && insert.output.is_none()
        && !insert.replace_into
        && insert.priority.is_none()
        && insert.insert_alias.is_none()
        && insert.settings.is_none()
        && insert.format_clause.is_none()
        && insert.multi_table_insert_type.is_none()
        && insert.multi_table_into_clauses.is_empty()
        && insert.multi_table_when_clauses.is_empty()
        && insert.multi_table_else_clause.is_none()
        && !matches!(insert.on, Some(OnInsert::DuplicateKeyUpdate(_)))
}
