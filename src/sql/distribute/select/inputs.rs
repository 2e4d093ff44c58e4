//! What stands in a query's `FROM`, as far as its columns are known: which one a name means, how it
//! is ordered, and whether it is a key.

use sqlparser::ast::{
    Cte, Expr, GroupByExpr, JoinConstraint, JoinOperator, Query, Select, SelectItem, SetExpr, TableAlias,
    TableFactor, TableWithJoins, With,
};

use crate::sql::analyze::Context;
use crate::sql::analyze::names::{Named, ident, object, resolve};
use crate::sql::analyze::tokens::Name;
use crate::sql::schema::{ColumnDetail, TableKind};

/// A column of `FROM`: the numbers of its source and within it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Column {
    pub(super) source: usize,
    pub(super) index: usize,
}

/// What a name means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    Column(Column),
    /// One that `USING` made of several, and that is none of them.
    Merged,
    /// None that is known, but there are sources whose columns are not.
    Unknown,
    /// PostgreSQL may take none of several.
    Unclear,
    Absent,
}

/// A column of a source.
#[derive(Clone, Debug, Default)]
struct Known<'a> {
    /// `None`: a name that is not known.
    name: Option<String>,
    /// What the catalogs say of it, or of the column it is a copy of.
    detail: Option<&'a ColumnDetail>,
    /// The key of a sharded table's row that every row of the source has.
    key: bool,
}

#[derive(Debug, Default)]
struct Source<'a> {
    name: Option<String>,
    schema: Option<String>,
    /// `None`: not known.
    columns: Option<Vec<Known<'a>>>,
    /// An outer join may leave it without a row.
    optional: bool,
}

/// A query's `FROM`.
#[derive(Debug, Default)]
pub(super) struct Inputs<'a> {
    sources: Vec<Source<'a>>,
    using: Vec<String>,
    natural: bool,
    /// A column that `USING` merged is the left one.
    leftmost: bool,
}

/// What the names of a `FROM` may be: the queries of `WITH` that stand before.
#[derive(Clone, Copy)]
struct Names<'n, 'a> {
    cx: &'n Context<'a>,
    ctes: &'n [Cte],
    /// How many sub-queries may still be looked into.
    deep: usize,
}

const MOST_DEEP: usize = 8;

impl<'a> Inputs<'a> {
    pub(super) fn of(select: &Select, with: Option<&With>, cx: &Context<'a>) -> Option<Inputs<'a>> {
        let ctes = with.map_or(&[][..], |with| &with.cte_tables);
        // Recursive ones may refer to themselves, and to those behind them.
        let deep = if with.is_some_and(|with| with.recursive) { 0 } else { MOST_DEEP };
        Inputs::within(select, Names { cx, ctes, deep })
    }

    fn within(select: &Select, names: Names<'_, 'a>) -> Option<Inputs<'a>> {
        let mut inputs = Inputs { leftmost: true, ..Inputs::default() };
        for item in &select.from {
            inputs.joined(item, names)?;
        }
        Some(inputs)
    }

    fn joined(&mut self, item: &TableWithJoins, names: Names<'_, 'a>) -> Option<()> {
        let start = self.sources.len();
        self.factor(&item.relation, names)?;
        for join in &item.joins {
            let middle = self.sources.len();
            self.factor(&join.relation, names)?;
            let end = self.sources.len();
            let (optional, constraint) = match &join.join_operator {
                JoinOperator::Join(constraint)
                | JoinOperator::Inner(constraint)
                | JoinOperator::CrossJoin(constraint) => (end..end, constraint),
                JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                    (middle..end, constraint)
                }
                JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
                    self.leftmost = false;
                    (start..middle, constraint)
                }
                JoinOperator::FullOuter(constraint) => {
                    self.leftmost = false;
                    (start..end, constraint)
                }
                _ => return None,
            };
            for source in self.sources.get_mut(optional).into_iter().flatten() {
                source.optional = true;
            }
            match constraint {
                JoinConstraint::Using(columns) => {
                    for column in columns {
                        self.using.push(object(column)?.name);
                    }
                }
                JoinConstraint::Natural => self.natural = true,
                JoinConstraint::On(_) | JoinConstraint::None => {}
            }
        }
        Some(())
    }

    fn factor(&mut self, factor: &TableFactor, names: Names<'_, 'a>) -> Option<()> {
        let (source, alias) = match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                (Source::named(&object(name)?, names), alias)
            }
            TableFactor::Derived { subquery, alias, .. } => {
                (Source { columns: outputs(subquery, names), ..Source::default() }, alias)
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                return self.joined(table_with_joins, names);
            }
            TableFactor::Table { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::JsonTable { alias, .. }
            | TableFactor::NestedJoin { alias, .. } => (Source::default(), alias),
            _ => return None,
        };
        let source = match alias {
            None => source,
            Some(alias) => Source {
                name: Some(ident(&alias.name)),
                schema: None,
                columns: renamed(source.columns, alias),
                ..source
            },
        };
        self.sources.push(source);
        Some(())
    }

    fn column(&self, column: Column) -> Option<&Known<'a>> {
        self.sources.get(column.source)?.columns.as_ref()?.get(column.index)
    }

    /// What a name means that stands in an expression of the query.
    pub(super) fn look_up(&self, qualifier: Option<(Option<&str>, &str)>, name: &str) -> Look {
        let mut found = Vec::new();
        let mut open = false;
        let mut qualified = 0;
        for (number, source) in self.sources.iter().enumerate() {
            if let Some((schema, table)) = qualifier {
                let is_meant = source.name.as_deref() == Some(table)
                    && schema.is_none_or(|schema| source.schema.as_deref() == Some(schema));
                if !is_meant {
                    continue;
                }
                qualified += 1;
            }
            let Some(columns) = &source.columns else {
                open = true;
                continue;
            };
            open |= columns.iter().any(|column| column.name.is_none());
            let same = columns.iter().enumerate().filter(|(_, column)| column.name.as_deref() == Some(name));
            found.extend(same.map(|(index, _)| Column { source: number, index }));
        }
        match (qualifier, found.as_slice()) {
            (Some(_), [column]) if qualified == 1 => Look::Column(*column),
            (Some(_), _) => Look::Unclear,
            (None, [column]) if !(self.natural || self.using.iter().any(|using| using == name)) => {
                Look::Column(*column)
            }
            (None, []) if open => Look::Unknown,
            (None, []) => Look::Absent,
            (None, [first, ..]) if self.using.iter().any(|using| using == name) => {
                let all_known = self.leftmost && !open && !self.natural;
                if all_known { Look::Column(*first) } else { Look::Merged }
            }
            (None, [column]) if !open => Look::Column(*column),
            (None, _) => Look::Unclear,
        }
    }

    /// How many sources there are.
    pub(super) fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether the source of this name has a column of that name; `None` if it is not known.
    pub(super) fn has(&self, source: &str, column: &str) -> Option<bool> {
        let mut named = self.sources.iter().filter(|known| known.name.as_deref() == Some(source));
        let columns = named.next()?.columns.as_ref()?;
        if named.next().is_some() || columns.iter().any(|column| column.name.is_none()) {
            return None;
        }
        Some(columns.iter().any(|known| known.name.as_deref() == Some(column)))
    }

    /// What the catalogs say of a column.
    pub(super) fn detail(&self, column: Column) -> Option<&'a ColumnDetail> {
        self.column(column)?.detail
    }

    /// Whether all rows of the query with one value of this column lie on one shard.
    pub(super) fn is_key(&self, column: Column) -> bool {
        self.column(column).is_some_and(|known| known.key)
            && self.sources.get(column.source).is_some_and(|source| !source.optional)
    }

    /// Whether a `*`, or that of one source, holds a key.
    pub(super) fn star_holds_key(&self, of: Option<&str>) -> bool {
        self.sources
            .iter()
            .filter(|source| !source.optional && of.is_none_or(|name| source.name.as_deref() == Some(name)))
            .any(|source| source.columns.iter().flatten().any(|column| column.key))
    }

    /// What `*` is, or that of one source.
    pub(super) fn star(&self, of: Option<&str>) -> Option<Vec<Column>> {
        if self.natural || !self.using.is_empty() {
            return None;
        }
        let mut columns = Vec::new();
        for (number, source) in self.sources.iter().enumerate() {
            if of.is_none_or(|name| source.name.as_deref() == Some(name)) {
                let width = source.columns.as_ref()?.len();
                columns.extend((0..width).map(|index| Column { source: number, index }));
            }
        }
        Some(columns)
    }

    /// A column's name, with its source's. `None` if that is not known, or several sources have it.
    pub(super) fn spelled(&self, column: Column) -> Option<String> {
        let source = self.sources.get(column.source)?;
        let same = self.sources.iter().filter(|other| other.name == source.name).count();
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let name = self.column(column)?.name.as_ref()?;
        (same == 1).then_some(format!("{}.{}", quoted(source.name.as_ref()?), quoted(name)))
    }

    /// The columns of all sources; `None` if they are not all known, or some are merged.
    fn all(&self) -> Option<Vec<Known<'a>>> {
        if self.natural || !self.using.is_empty() {
            return None;
        }
        let mut all = Vec::new();
        for source in &self.sources {
            all.extend(source.seen()?);
        }
        Some(all)
    }
}

impl<'a> Source<'a> {
    fn named(name: &Name, names: Names<'_, 'a>) -> Source<'a> {
        let mut source = Source { name: Some(name.name.clone()), ..Source::default() };
        let same = |cte: &Cte| name.schema.is_none() && ident(&cte.alias.name) == name.name;
        if let Some(position) = names.ctes.iter().position(same) {
            if let Some(cte) = names.ctes.get(position) {
                let before = Names { ctes: names.ctes.get(..position).unwrap_or(&[]), ..names };
                source.columns = renamed(outputs(&cte.query, before), &cte.alias);
            }
        } else if let Named::Table(table) = resolve(names.cx, names.cx.search_path, name) {
            source.schema = Some(table.schema.clone());
            let known = |(index, name): (usize, &String)| Known {
                name: Some(name.clone()),
                detail: table.detail.columns.get(index),
                key: matches!(table.kind, TableKind::Sharded { key, .. } if key == index),
            };
            source.columns = Some(table.columns.iter().enumerate().map(known).collect());
        }
        source
    }

    /// Its columns as a query shows them.
    fn seen(&self) -> Option<impl Iterator<Item = Known<'a>>> {
        let optional = self.optional;
        let columns = self.columns.as_ref()?.iter().cloned();
        Some(columns.map(move |column| Known { key: column.key && !optional, ..column }))
    }
}

fn renamed<'a>(columns: Option<Vec<Known<'a>>>, alias: &TableAlias) -> Option<Vec<Known<'a>>> {
    let mut columns = columns?;
    for (column, name) in columns.iter_mut().zip(&alias.columns) {
        column.name = Some(ident(&name.name));
    }
    Some(columns)
}

/// A query's columns; `None` where their number is not known.
fn outputs<'a>(query: &Query, names: Names<'_, 'a>) -> Option<Vec<Known<'a>>> {
    let SetExpr::Select(select) = &*query.body else { return None };
    if names.deep == 0 || query.with.is_some() {
        return None;
    }
    let names = Names { deep: names.deep - 1, ..names };
    let inputs = Inputs::within(select, names)?;
    let mut columns = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::Wildcard(_) => columns.extend(inputs.all()?),
            SelectItem::ExprWithAlias { expr, alias } => {
                columns.push(Known { name: Some(ident(alias)), ..inputs.output(expr) });
            }
            SelectItem::UnnamedExpr(expr) => columns.push(inputs.output(expr)),
            _ => return None,
        }
    }
    // The totals of grouping sets have no key.
    if !matches!(&select.group_by, GroupByExpr::Expressions(by, modifiers)
        if modifiers.is_empty()
            && !by.iter().any(|by| matches!(by, Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_))))
    {
        columns.iter_mut().for_each(|column| column.key = false);
    }
    Some(columns)
}

impl<'a> Inputs<'a> {
    /// A column that is an expression over these.
    fn output(&self, expr: &Expr) -> Known<'a> {
        let (name, look) = match expr {
            Expr::Identifier(name) => (ident(name), self.look_up(None, &ident(name))),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, name] => (ident(name), self.look_up(Some((None, &ident(table))), &ident(name))),
                [.., name] => (ident(name), Look::Unclear),
                [] => return Known::default(),
            },
            _ => return Known::default(),
        };
        let Look::Column(column) = look else { return Known { name: Some(name), ..Known::default() } };
        let detail = self.detail(column);
        Known { name: Some(name), detail, key: self.is_key(column) }
    }
}
