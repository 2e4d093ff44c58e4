//! What a statement names and asks for, gathered in one walk over its tree.

use std::collections::HashSet;
use std::ops::{ControlFlow, Range};

use sqlparser::ast::{
    Expr, FromTable, GroupByExpr, Ident, JoinConstraint, JoinOperator, ObjectName, Select, SelectItem,
    SetExpr, Statement, TableAlias, TableFactor, TableWithJoins, UpdateTableFromKind, Visit as _, Visitor,
};

use super::super::super::analyze::Context;
use super::super::super::analyze::bridge::index_of;
use super::super::super::analyze::functions::{Effect, effect};
use super::super::super::analyze::names::{ident, object};
use super::super::super::analyze::query::{Findings, Met, address};
use super::super::super::analyze::tokens::{Name, Tokens};
use super::super::super::schema::Table;
use super::super::super::shape::KeySource;
use super::super::{Impossible, Source};
use super::conditions::{Condition, Item};
use super::views::{self, Treatment};

/// Where the statement names a table that is copied.
#[derive(Clone, Debug)]
pub(super) struct Reference<'a> {
    pub(super) table: &'a Table,
    pub(super) source: Source,
    /// `FROM ONLY`
    pub(super) only: bool,
    /// The name's tokens.
    pub(super) name: Range<usize>,
    /// It has no alias.
    pub(super) bare: bool,
    /// The token it is known by: its alias, or the last one of its name.
    pub(super) exposed_at: usize,
    exposed: String,
    /// The keys beyond which no row matters.
    pub(super) keys: Option<Vec<KeySource>>,
    /// The copy must have all columns, in the table's order.
    pub(super) every_column: bool,
    /// Rows are grouped by its primary key, and other columns may depend on that.
    pub(super) grouped: bool,
    /// Only rows for which all of these are true matter.
    pub(super) conditions: Vec<Condition>,
}

/// A view that is put in place.
#[derive(Clone, Debug)]
pub(super) struct Expansion<'a> {
    pub(super) definition: &'a str,
    pub(super) name: Range<usize>,
    pub(super) bare: bool,
}

/// What the walk found.
pub(super) struct Outcome<'a> {
    pub(super) tables: Vec<Reference<'a>>,
    pub(super) views: Vec<Expansion<'a>>,
    /// Tokens to be replaced, beside the tables' names.
    pub(super) edits: Vec<(Range<usize>, String)>,
    pub(super) mentioned: Mentioned,
}

/// Each identifier of the text, whatever it names.
#[derive(Default)]
pub(super) struct Mentioned {
    anywhere: HashSet<String>,
    /// Behind another one and a dot.
    qualified: HashSet<(String, String)>,
}

impl Mentioned {
    fn of(tokens: &Tokens<'_>, range: Range<usize>) -> Mentioned {
        let mut mentioned = Mentioned::default();
        for at in range.clone() {
            let Some(name) = tokens.identifier(at) else { continue };
            let qualifier = (at >= range.start + 2 && tokens.is_mark(at - 1, "."))
                .then(|| tokens.identifier(at - 2))
                .flatten();
            match qualifier {
                Some(qualifier) => _ = mentioned.qualified.insert((qualifier, name)),
                None => _ = mentioned.anywhere.insert(name),
            }
        }
        mentioned
    }

    /// Whether this may be about a column of what these references stand for.
    pub(super) fn has(&self, column: &str, references: &[&Reference<'_>]) -> bool {
        let qualified = |reference: &&Reference<'_>| {
            self.qualified.contains(&(reference.exposed.clone(), column.to_owned()))
        };
        self.anywhere.contains(column) || references.iter().any(qualified)
    }
}

/// `schema.table.column`, `schema.table.*`
struct Qualified {
    schema: String,
    table: String,
    /// The tokens of the schema and the dot behind it.
    tokens: Range<usize>,
}

/// The walk.
pub(super) struct Survey<'s, 'a> {
    pub(super) cx: &'s Context<'a>,
    pub(super) tokens: &'s Tokens<'s>,
    pub(super) range: Range<usize>,
    findings: &'s Findings<'a>,
    pub(super) tables: Vec<Reference<'a>>,
    views: Vec<Expansion<'a>>,
    /// `NATURAL JOIN` occurs.
    pub(super) natural: bool,
    /// The columns that any `USING` names.
    pub(super) merged: HashSet<String>,
    mentioned: Mentioned,
    /// The names of all items of all `FROM` lists; of views and tables without an alias also which
    /// they are.
    exposed: Vec<(String, Option<(String, String)>)>,
    qualified: Vec<Qualified>,
    /// Names that may stand for whole rows.
    rows: HashSet<String>,
    /// `t.*`: all columns, but not as one value.
    wildcards: HashSet<String>,
    /// `t.f` may call `f(t)`.
    attributes: Vec<(String, String)>,
    /// Types that are named in casts, without their schema.
    cast_to: HashSet<String>,
    /// Something looks at the types of values.
    looks_at_types: bool,
    /// The selects of an `EXISTS`: what they select does not matter.
    idle: HashSet<usize>,
}

/// Columns that every table has and no copy of it has alike.
const SYSTEM_COLUMNS: &[&str] = &["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];

impl<'s, 'a> Survey<'s, 'a> {
    pub(super) fn new(
        cx: &'s Context<'a>,
        tokens: &'s Tokens<'s>,
        range: Range<usize>,
        findings: &'s Findings<'a>,
    ) -> Survey<'s, 'a> {
        let mut merged = HashSet::new();
        for at in range.clone() {
            if tokens.is_word(at, "using") && tokens.is_mark(at + 1, "(") {
                merged.extend(
                    (at + 2..tokens.behind_parenthesis(at + 1, range.end))
                        .filter_map(|at| tokens.identifier(at)),
                );
            }
        }
        Survey {
            cx,
            tokens,
            findings,
            tables: Vec::new(),
            views: Vec::new(),
            natural: range.clone().any(|at| tokens.is_word(at, "natural")),
            merged,
            mentioned: Mentioned::of(tokens, range.clone()),
            range,
            exposed: Vec::new(),
            qualified: Vec::new(),
            rows: HashSet::new(),
            wildcards: HashSet::new(),
            attributes: Vec::new(),
            cast_to: HashSet::new(),
            looks_at_types: false,
            idle: HashSet::new(),
        }
    }

    /// The tables that a change reads beside the one that it changes, which stays what it is.
    pub(super) fn modification(&mut self, tree: &Statement) -> Result<(), Impossible> {
        let changed = match tree {
            Statement::Query(query) => match &*query.body {
                SetExpr::Update(statement) | SetExpr::Delete(statement) | SetExpr::Merge(statement) => {
                    statement
                }
                _ => return Ok(()),
            },
            other => other,
        };
        let (target, from, selection, returned) = match changed {
            Statement::Update(update) => {
                let from = match &update.from {
                    Some(UpdateTableFromKind::AfterSet(from)) => from.as_slice(),
                    _ => &[],
                };
                (&update.table.relation, from, &update.selection, update.returning.as_deref())
            }
            Statement::Delete(delete) => {
                let (FromTable::WithFromKeyword(targets) | FromTable::WithoutKeyword(targets)) = &delete.from;
                let Some(target) = targets.first() else { return Ok(()) };
                let using = delete.using.as_deref().unwrap_or_default();
                (&target.relation, using, &delete.selection, delete.returning.as_deref())
            }
            Statement::Merge(merge) => (&merge.table, [].as_slice(), &None, None),
            _ => return Ok(()),
        };
        let mut items = Vec::new();
        if let TableFactor::Table { name, alias, .. } = target {
            let known = alias.as_ref().map(|alias| ident(&alias.name));
            let known = known.or_else(|| object(name).map(|name| name.name));
            // Its schema stays before its columns, unless another table is known by that name.
            self.exposed.extend(known.clone().map(|known| (known, None)));
            items.push(Item { name: known, reference: None, nullable: false });
        }
        for from in from {
            items.extend(self.joined(from)?);
        }
        if let Statement::Merge(merge) = changed {
            items.extend(self.factor(&merge.source)?);
        }
        self.same_names(&items)?;
        if let Some(condition) = selection {
            self.condition(condition, "where", &items, &|_, _| true);
        }
        if returned.into_iter().flatten().any(|item| matches!(item, SelectItem::Wildcard(_))) {
            self.every_column(&items);
        }
        Ok(())
    }

    /// What follows from all of it together.
    pub(super) fn finish(mut self) -> Result<Outcome<'a>, Impossible> {
        self.qualified_wildcards();
        let mut edits = Vec::new();
        for Qualified { schema, table, tokens } in std::mem::take(&mut self.qualified) {
            let meant = (schema, table);
            let mut named = self.exposed.iter().filter(|(name, _)| *name == meant.1).peekable();
            if named.peek().is_none() {
                continue;
            }
            // Without its schema the name could be taken for another one's.
            if !named.all(|(_, table)| table.as_ref() == Some(&meant)) {
                return Err(Impossible::to_gather(format!(
                    "\"{}.{}\" stands beside another \"{1}\"",
                    meant.0, meant.1
                )));
            }
            edits.push((tokens, String::new()));
        }
        edits.dedup_by(|one, other| one.0 == other.0);
        self.whole_rows()?;
        let Survey { tables, views, mentioned, .. } = self;
        Ok(Outcome { tables, views, edits, mentioned })
    }

    /// `t.*` and `schema.t.*`, wherever they stand.
    fn qualified_wildcards(&mut self) {
        for at in self.range.start + 1..self.range.end {
            if !self.tokens.is_mark(at, ".") || !self.tokens.is_mark(at + 1, "*") {
                continue;
            }
            let Some(table) = self.tokens.identifier(at - 1) else { continue };
            if at >= self.range.start + 3
                && self.tokens.is_mark(at - 2, ".")
                && let Some(schema) = self.tokens.identifier(at - 3)
            {
                let tokens = at - 3..at - 1;
                self.qualified.push(Qualified { schema, table: table.clone(), tokens });
            }
            self.wildcards.insert(table);
        }
    }

    fn whole_rows(&mut self) -> Result<(), Impossible> {
        let schema = self.cx.schema;
        for reference in &mut self.tables {
            let table = reference.table;
            let is_value = self.rows.contains(&reference.exposed);
            reference.every_column |= is_value || self.natural || self.wildcards.contains(&reference.exposed);
            let typed = self.looks_at_types || self.cast_to.contains(&table.name);
            let attribute = self.attributes.iter().any(|(qualifier, name)| {
                *qualifier == reference.exposed
                    && !table.columns.contains(name)
                    && !schema.functions_named(name).is_empty()
            });
            if attribute || (is_value && typed) {
                return Err(Impossible::to_gather(format!(
                    "rows of \"{}\" as values of the table's own type cannot be copies",
                    reference.exposed
                )));
            }
        }
        Ok(())
    }

    fn call(&mut self, name: &ObjectName) -> Result<(), Impossible> {
        let Some(name) = object(name) else { return Ok(()) };
        self.looks_at_types |= name.name == "pg_typeof"
            || (name.schema.as_deref() != Some("pg_catalog")
                && !self.cx.schema.functions_named(&name.name).is_empty());
        match effect(self.cx.schema, name.schema.as_deref(), &name.name) {
            // What they tell is the text's that runs, or how a row happens to be stored.
            _ if name.name == "current_query" || name.name.starts_with("pg_column_") => Err(
                Impossible::to_gather(format!("function \"{}\" tells something else of a copy", name.name)),
            ),
            Effect::Scalar | Effect::Aggregate | Effect::Opaque => Ok(()),
            Effect::Home(None) if name.name == "nextval" => Ok(()),
            _ => Err(Impossible::to_gather(format!(
                "function \"{}\" cannot be called beside rows of several shards: what it does is for the session",
                name.name
            ))),
        }
    }

    fn select(&mut self, select: &Select) -> Result<(), Impossible> {
        if select.into.is_some() {
            return Err(Impossible::to_gather("SELECT INTO cannot be answered over several shards"));
        }
        let mut items = Vec::new();
        for from in &select.from {
            items.extend(self.joined(from)?);
        }
        self.same_names(&items)?;
        if let Some(condition) = &select.selection {
            self.condition(condition, "where", &items, &|_, _| true);
        }
        let everything = select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_)));
        if everything && !self.idle.contains(&address(select)) {
            self.every_column(&items);
        }
        self.grouping(select, &items);
        Ok(())
    }

    fn every_column(&mut self, items: &[Item]) {
        for number in items.iter().filter_map(|item| item.reference) {
            if let Some(reference) = self.tables.get_mut(number) {
                reference.every_column = true;
            }
        }
    }

    /// Two tables of one name, told apart by their schemas, would not be any more.
    fn same_names(&self, items: &[Item]) -> Result<(), Impossible> {
        let mut names = HashSet::new();
        for item in items {
            if let Some(name) = &item.name
                && !names.insert(name)
            {
                return Err(Impossible::to_gather(format!("two tables are known as \"{name}\" at once")));
            }
        }
        Ok(())
    }

    /// Whether rows are grouped by all of a table's primary key. Where a position or an alias stands
    /// for a column, each column that is selected as it is counts.
    fn grouping(&mut self, select: &Select, items: &[Item]) {
        let GroupByExpr::Expressions(by, _) = &select.group_by else { return };
        if by.is_empty() {
            return;
        }
        let mut grouped = Grouped::default();
        let _: ControlFlow<()> = by.visit(&mut grouped);
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(column) if grouped.by_position => grouped.add(column),
                SelectItem::ExprWithAlias { expr, alias }
                    if grouped.by_position || grouped.columns.contains(&(None, ident(alias))) =>
                {
                    grouped.add(expr);
                }
                _ => {}
            }
        }
        for number in items.iter().filter_map(|item| item.reference) {
            let Some(reference) = self.tables.get_mut(number) else { continue };
            let key = &reference.table.detail.primary_key;
            let columns = &reference.table.columns;
            let by = |&column: &usize| {
                columns.get(column).is_some_and(|name| grouped.has(&reference.exposed, name))
            };
            reference.grouped |= !key.is_empty() && key.iter().all(by);
        }
    }

    fn joined(&mut self, from: &TableWithJoins) -> Result<Vec<Item>, Impossible> {
        let mut items = self.factor(&from.relation)?;
        for join in &from.joins {
            let right = self.factor(&join.relation)?;
            // Which side's rows stay without a match.
            let (left_stays, right_stays, constraint) = match &join.join_operator {
                JoinOperator::Join(constraint)
                | JoinOperator::Inner(constraint)
                | JoinOperator::CrossJoin(constraint) => (false, false, constraint),
                JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                    (true, false, constraint)
                }
                JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
                    (false, true, constraint)
                }
                JoinOperator::FullOuter(constraint) => (true, true, constraint),
                _ => return Err(Impossible::to_gather("a join of this kind cannot be read")),
            };
            let middle = items.len();
            items.extend(right);
            if let JoinConstraint::On(condition) = constraint {
                let restricts =
                    |number: usize, _: &Item| if number < middle { !left_stays } else { !right_stays };
                self.condition(condition, "on", &items, &restricts);
            }
            for (number, item) in items.iter_mut().enumerate() {
                item.nullable |= if number < middle { right_stays } else { left_stays };
            }
        }
        Ok(items)
    }

    fn factor(&mut self, factor: &TableFactor) -> Result<Vec<Item>, Impossible> {
        let alias_of = |alias: &Option<TableAlias>| alias.as_ref().map(|alias| ident(&alias.name));
        let other = |name| vec![Item { name, reference: None, nullable: false }];
        Ok(match factor {
            TableFactor::Table { name, alias, args: None, .. } => self.named(name, alias.as_ref())?,
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::JsonTable { alias, .. } => other(alias_of(alias)),
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.joined(table_with_joins)?,
            TableFactor::NestedJoin { table_with_joins, alias } => {
                // The alias hides what is in the parentheses, and may stand for all of it.
                let hidden = self.joined(table_with_joins)?;
                self.every_column(&hidden);
                other(alias_of(alias))
            }
            _ => return Err(Impossible::to_gather("an item of FROM cannot be read")),
        })
    }

    fn named(&mut self, name: &ObjectName, alias: Option<&TableAlias>) -> Result<Vec<Item>, Impossible> {
        let bare = alias.is_none();
        let exposed = match (alias, object(name)) {
            (Some(alias), _) => ident(&alias.name),
            (None, Some(Name { name, .. })) => name,
            (None, None) => return Err(Impossible::to_gather("a table's name cannot be read")),
        };
        let item = |reference| vec![Item { name: Some(exposed.clone()), reference, nullable: false }];
        let (table, node) = match self.findings.met.get(&address(name)) {
            Some(Met::Table(table, node)) => (*table, *node),
            Some(Met::Catalog | Met::Query) => {
                self.exposed.push((exposed.clone(), None));
                return Ok(item(None));
            }
            Some(Met::Unknown) | None => {
                return Err(Impossible::to_gather(format!(
                    "table \"{exposed}\" is not known: it may be temporary, or have just been made"
                )));
            }
        };
        let identity = bare.then(|| (table.schema.clone(), table.name.clone()));
        self.exposed.push((exposed.clone(), identity));
        let at = |part: &Ident| index_of(part.span);
        let tokens = name
            .0
            .first()
            .and_then(|part| at(part.as_ident()?))
            .zip(name.0.last().and_then(|part| at(part.as_ident()?)))
            .map(|(first, last)| first..last + 1);
        let exposed_at = match alias {
            Some(alias) => at(&alias.name),
            None => tokens.as_ref().map(|tokens| tokens.end - 1),
        };
        let (Some(tokens), Some(exposed_at)) = (tokens, exposed_at) else {
            return Err(Impossible::to_gather("a table's name cannot be read"));
        };
        let before = |back: usize, word: &str| {
            tokens.start >= self.range.start + back && self.tokens.is_word(tokens.start - back, word)
        };
        let only = before(1, "only");
        let enclosed = before(2, "only") && self.tokens.is_mark(tokens.start - 1, "(");
        if enclosed || self.tokens.is_mark(tokens.end, "*") {
            return Err(Impossible::to_gather("ONLY cannot be read here"));
        }
        let source = match views::treatment(table, self.cx)? {
            Treatment::Left => return Ok(item(None)),
            Treatment::Copied(source) => source,
            Treatment::Replaced(_) if only => return Err(Impossible::to_gather("ONLY stands before a view")),
            Treatment::Replaced(definition) => {
                self.views.push(Expansion { definition, name: tokens, bare });
                return Ok(item(None));
            }
        };
        let renamed = alias.is_some_and(|alias| !alias.columns.is_empty());
        self.tables.push(Reference {
            table,
            source,
            only,
            name: tokens,
            bare,
            exposed_at,
            exposed: exposed.clone(),
            keys: node.and_then(|node| self.findings.keys.get(node.index())?.clone()),
            every_column: renamed,
            grouped: false,
            conditions: Vec::new(),
        });
        Ok(item((!renamed).then_some(self.tables.len() - 1)))
    }

    fn expression(&mut self, expr: &Expr) -> Result<(), Impossible> {
        match expr {
            Expr::Function(function) => self.call(&function.name)?,
            Expr::Exists { subquery, .. } => {
                if let SetExpr::Select(select) = &*subquery.body {
                    self.idle.insert(address(&**select));
                }
            }
            Expr::Identifier(name) => {
                let name = ident(name);
                self.not_of_the_system(&name)?;
                self.rows.insert(name);
            }
            Expr::CompoundIdentifier(parts) => {
                let names: Vec<String> = parts.iter().map(ident).collect();
                if let Some(last) = names.last() {
                    self.not_of_the_system(last)?;
                }
                match names.as_slice() {
                    [qualifier, column] => self.attributes.push((qualifier.clone(), column.clone())),
                    [schema, table, column] => {
                        self.attributes.push((table.clone(), column.clone()));
                        let ends = parts.first().and_then(|part| index_of(part.span));
                        let ends = ends.zip(parts.get(1).and_then(|part| index_of(part.span)));
                        let Some((first, second)) = ends else {
                            return Err(Impossible::to_gather("a column's name cannot be read"));
                        };
                        let (schema, table) = (schema.clone(), table.clone());
                        self.qualified.push(Qualified { schema, table, tokens: first..second });
                    }
                    _ => return Err(Impossible::to_gather("a column's name has too many parts")),
                }
            }
            Expr::Cast { data_type, .. } => {
                let spelled = data_type.to_string();
                let words = spelled.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
                self.cast_to.extend(words.map(str::to_ascii_lowercase));
                self.cast_to.extend(spelled.split('"').map(str::to_owned));
            }
            _ => {}
        }
        Ok(())
    }

    fn not_of_the_system(&self, column: &str) -> Result<(), Impossible> {
        if SYSTEM_COLUMNS.contains(&column) {
            return Err(Impossible::to_gather(format!(
                "column \"{column}\" is the server's own, and means nothing over several shards"
            )));
        }
        Ok(())
    }
}

fn flow(result: Result<(), Impossible>) -> ControlFlow<Impossible> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(impossible) => ControlFlow::Break(impossible),
    }
}

impl Visitor for Survey<'_, '_> {
    type Break = Impossible;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Impossible> {
        flow(self.select(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Impossible> {
        let alias = match factor {
            TableFactor::Table { name, args: Some(_), alias, .. } => {
                if let Err(impossible) = self.call(name) {
                    return ControlFlow::Break(impossible);
                }
                alias
            }
            TableFactor::Function { name, alias, .. } => {
                if let Err(impossible) = self.call(name) {
                    return ControlFlow::Break(impossible);
                }
                alias
            }
            TableFactor::Table { sample: Some(_), .. } => {
                return ControlFlow::Break(Impossible::to_gather(
                    "TABLESAMPLE cannot sample several shards alike",
                ));
            }
            TableFactor::Derived { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::JsonTable { alias, .. }
            | TableFactor::NestedJoin { alias, .. } => alias,
            _ => &None,
        };
        if let Some(alias) = alias {
            self.exposed.push((ident(&alias.name), None));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Impossible> {
        flow(self.expression(expr))
    }
}

/// What rows are grouped by.
#[derive(Default)]
struct Grouped {
    /// Columns, with what qualifies them.
    columns: HashSet<(Option<String>, String)>,
    /// A number may be a position in the select list.
    by_position: bool,
}

impl Grouped {
    fn add(&mut self, expr: &Expr) {
        match expr {
            Expr::Identifier(name) => _ = self.columns.insert((None, ident(name))),
            Expr::CompoundIdentifier(parts) => {
                if let [.., table, column] = parts.as_slice() {
                    self.columns.insert((Some(ident(table)), ident(column)));
                }
            }
            Expr::Value(_) => self.by_position = true,
            _ => {}
        }
    }

    fn has(&self, table: &str, column: &str) -> bool {
        self.columns.contains(&(None, column.to_owned()))
            || self.columns.contains(&(Some(table.to_owned()), column.to_owned()))
    }
}

impl Visitor for Grouped {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.add(expr);
        ControlFlow::Continue(())
    }
}
