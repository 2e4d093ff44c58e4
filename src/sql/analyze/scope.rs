//! Which table of a query a column belongs to.
//!
//! PostgreSQL's rules, with one twist: where the snapshot does not know all of a table's
//! columns (a function, a catalog, a temporary table), a name that no known table of the
//! level has *may* be that table's, so it proves nothing. A name that one known table has is
//! that table's, or PostgreSQL reports it as ambiguous.

use std::ops::Range;

use sqlparser::ast::{Expr, Ident};

use super::facts::NodeId;
use super::names::ident;

/// A column of a table expression.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// `None`: it has a name that is not known here.
    pub(super) name: Option<String>,
    /// Whose keys it holds.
    pub(super) node: Option<NodeId>,
}

/// An item of a `FROM` list.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    /// The name it is referred to by.
    pub(super) name: Option<String>,
    /// The schema it may be qualified with: a table without an alias.
    pub(super) schema: Option<String>,
    /// `None`: not known.
    pub(super) columns: Option<Vec<Column>>,
    /// Rows of a sharded table are in it.
    pub(super) sharded: bool,
    /// As [`Output::solid`](super::query::Output::solid).
    pub(super) solid: bool,
    /// An outer join may leave it without a row.
    pub(super) optional: bool,
}

/// A column that `USING` or `NATURAL` merged from several sources.
#[derive(Clone, Debug)]
pub(super) struct Merged {
    pub(super) name: String,
    pub(super) members: Vec<usize>,
    /// Whose value it has; none for a full join.
    pub(super) value: Option<Found>,
}

/// The `FROM` list of one query level, as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub(super) sources: Vec<Source>,
    pub(super) merged: Vec<Merged>,
}

/// What an expression sees: some sources of a level, and the levels around it.
#[derive(Clone, Debug)]
pub(super) struct Scope<'s> {
    pub(super) level: &'s Level,
    pub(super) visible: Range<usize>,
    pub(super) outer: Option<&'s Scope<'s>>,
}

/// A column that holds keys, and where it was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) node: NodeId,
    /// Its source's number in the innermost level; none if an outer level has it.
    pub(super) source: Option<usize>,
}

/// How a look-up in one level ended.
enum Look {
    /// The level has it; `None`: it holds no keys, or which one it is cannot be told.
    Here(Option<Found>),
    /// An outer level may have it.
    Outer,
}

impl Source {
    /// Each of its columns that holds keys holds one in each row.
    pub(super) fn is_solid(&self) -> bool {
        self.solid || self.columns.iter().flatten().all(|column| column.node.is_none())
    }

    fn is_open(&self) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.iter().any(|column| column.name.is_none()))
    }

    /// The only column of this name.
    fn column(&self, name: &str) -> Option<&Column> {
        let mut matching =
            self.columns.iter().flatten().filter(|column| column.name.as_deref() == Some(name));
        let first = matching.next()?;
        // Of two, PostgreSQL takes neither.
        Some(first).filter(|_| matching.next().is_none())
    }

    fn has(&self, name: &str) -> bool {
        self.columns.iter().flatten().any(|column| column.name.as_deref() == Some(name))
    }
}

impl Scope<'_> {
    /// Whose keys a column reference holds.
    pub(super) fn find(&self, expr: &Expr) -> Option<Found> {
        match expr {
            Expr::Identifier(name) => self.walk(|scope| scope.look_unqualified(&ident(name))),
            Expr::CompoundIdentifier(parts) => self.walk(|scope| scope.look_qualified(parts)),
            _ => None,
        }
    }

    /// Whether a column reference is one of this level's, as far as that is known.
    pub(super) fn is_here(&self, expr: &Expr) -> bool {
        let look = match expr {
            Expr::Identifier(name) => self.look_unqualified(&ident(name)),
            Expr::CompoundIdentifier(parts) => self.look_qualified(parts),
            _ => Look::Outer,
        };
        matches!(look, Look::Here(_))
    }

    fn walk(&self, look: impl Fn(&Scope<'_>) -> Look) -> Option<Found> {
        let mut scope = self;
        let mut innermost = true;
        loop {
            match look(scope) {
                Look::Here(found) => {
                    return found.map(|found| Found { source: found.source.filter(|_| innermost), ..found });
                }
                Look::Outer => {
                    scope = scope.outer?;
                    innermost = false;
                }
            }
        }
    }

    fn look_unqualified(&self, name: &str) -> Look {
        let within = |source: &usize| self.visible.contains(source);
        let merged: Vec<&Merged> = self
            .level
            .merged
            .iter()
            .filter(|merged| merged.name == name && merged.members.iter().all(within))
            .collect();
        let mut candidates: Vec<Option<Found>> = merged.iter().map(|merged| merged.value).collect();
        let mut open = false;
        for (index, source) in self.visible_sources() {
            open |= source.is_open();
            if source.has(name) && !merged.iter().any(|merged| merged.members.contains(&index)) {
                let node = source.column(name).and_then(|column| column.node);
                candidates.push(node.map(|node| Found { node, source: Some(index) }));
            }
        }
        match candidates.as_slice() {
            [] if open => Look::Here(None),
            [] => Look::Outer,
            [one] => Look::Here(*one),
            _ => Look::Here(None),
        }
    }

    fn look_qualified(&self, parts: &[Ident]) -> Look {
        let (qualifier, name, schema) = match parts {
            [table, column] => (ident(table), ident(column), None),
            [schema, table, column] => (ident(table), ident(column), Some(ident(schema))),
            _ => return Look::Here(None),
        };
        let mut matching = self.visible_sources().filter(|(_, source)| {
            source.name.as_deref() == Some(&qualifier)
                && schema.as_ref().is_none_or(|schema| source.schema.as_ref() == Some(schema))
        });
        let Some((index, source)) = matching.next() else { return Look::Outer };
        if matching.next().is_some() {
            return Look::Here(None);
        }
        let node = source.column(&name).and_then(|column| column.node);
        Look::Here(node.map(|node| Found { node, source: Some(index) }))
    }

    fn visible_sources(&self) -> impl Iterator<Item = (usize, &Source)> {
        let visible = self.visible.clone();
        self.level.sources.iter().enumerate().filter(move |(index, _)| visible.contains(index))
    }
}

/// What `USING (name)` or `NATURAL` finds on one side of a join.
pub(super) enum Side {
    /// Exactly one column: the sources it stands for, and whose keys it holds.
    One(Vec<usize>, Option<Found>),
    /// None.
    Absent,
    /// Several, or it cannot be told.
    Unclear,
}

impl Level {
    /// The column of this name among these sources.
    pub(super) fn side(&self, sources: Range<usize>, name: &str) -> Side {
        let mut found: Vec<(Vec<usize>, Option<Found>)> = Vec::new();
        let merged: Vec<&Merged> = self
            .merged
            .iter()
            .filter(|merged| {
                merged.name == name && merged.members.iter().all(|member| sources.contains(member))
            })
            .collect();
        for merged in &merged {
            found.push((merged.members.clone(), merged.value));
        }
        let mut open = false;
        for index in sources {
            let Some(source) = self.sources.get(index) else { continue };
            open |= source.is_open();
            if source.has(name) && !merged.iter().any(|merged| merged.members.contains(&index)) {
                let node = source.column(name).and_then(|column| column.node);
                found.push((vec![index], node.map(|node| Found { node, source: Some(index) })));
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some((members, value)), true) => Side::One(members, value),
            (Some(_), false) => Side::Unclear,
            (None, _) if open => Side::Unclear,
            (None, _) => Side::Absent,
        }
    }

    /// The names of the columns that these sources show, each once; `None` if not all are known.
    pub(super) fn column_names(&self, sources: Range<usize>) -> Option<Vec<String>> {
        let mut names = Vec::new();
        for index in sources {
            let source = self.sources.get(index)?;
            for column in source.columns.as_ref()? {
                let name = column.name.clone()?;
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        Some(names)
    }
}
