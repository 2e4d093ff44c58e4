//! One statement's tree and what was found in it, for those who plan how it is answered.

use std::collections::HashSet;
use std::ops::Range;

use sqlparser::ast::{ObjectName, Statement, Values};

use super::super::lexer::tokenize;
use super::super::schema::Table;
use super::super::shape::{KeySource, KeyType, Target};
use super::bridge::{self, Depth};
use super::computed;
use super::literals::Literals;
use super::names::{Named, object, resolve};
use super::query::Analyzer;
use super::rows::Rows;
use super::tokens::{Name, Tokens};
use super::{Context, begins_query, modifies};

/// A statement that was read.
pub(in crate::sql) struct Opened<'o> {
    /// Of the text.
    pub(in crate::sql) tokens: &'o Tokens<'o>,
    /// The statement's.
    pub(in crate::sql) range: &'o Range<usize>,
    /// Without those rows of a long `INSERT` that hold nothing but constants.
    pub(in crate::sql) tree: &'o Statement,
    /// What it touches.
    pub(in crate::sql) target: &'o Target,
    /// The addresses of the queries whose own tables are sharded.
    pub(in crate::sql) sharded: &'o HashSet<usize>,
    /// How often a sharded table is named.
    pub(in crate::sql) sharded_tables: usize,
    cx: &'o Context<'o>,
    /// The rows that the tree lacks: the tokens between their parentheses.
    left_out: &'o [Range<usize>],
}

/// The key of a row that is written out.
pub(in crate::sql) enum Key {
    /// It stands there.
    Known(KeySource),
    /// What these tokens come to.
    Computed(Range<usize>),
}

/// Why there is nothing to plan by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::sql) enum Closed {
    /// The text is not one statement that modifies rows.
    NoModification,
    /// It is one that cannot be read.
    Unreadable,
}

/// Reads a text of one statement that modifies rows, and lets `work` have it.
pub(in crate::sql) fn open<T>(
    text: &[u8],
    cx: &Context<'_>,
    work: impl FnOnce(&Opened<'_>) -> T,
) -> Result<T, Closed> {
    let tokens = tokenize(text, cx.standard_conforming_strings).map_err(|_| Closed::Unreadable)?;
    let tokens = Tokens::new(text, tokens);
    let statements = tokens.statements();
    let [range] = statements.as_slice() else { return Err(Closed::NoModification) };
    if !begins_query(&tokens, range.start) || !modifies(&tokens, range) {
        return Err(Closed::NoModification);
    }
    let depth = Depth::of(&tokens, range.clone());
    if depth.is_too_deep() {
        return Err(Closed::Unreadable);
    }
    bridge::with_stack(depth, || {
        let rows = Rows::of(&tokens, range);
        let tree = bridge::parse(&tokens, range.clone(), &rows.left_out).map_err(|_| Closed::Unreadable)?;
        let mut analyzer = Analyzer::new(cx, Literals::new(&tokens));
        analyzer.rows.clone_from(&rows.values);
        analyzer.read(&tree);
        if analyzer.refusals.is_unreadable() {
            return Err(Closed::Unreadable);
        }
        let sharded = std::mem::take(&mut analyzer.sharded);
        let sharded_tables = analyzer.facts.tables();
        let target = analyzer.target();
        Ok(work(&Opened {
            tokens: &tokens,
            range,
            tree: &tree,
            target: &target,
            sharded: &sharded,
            sharded_tables,
            cx,
            left_out: &rows.values,
        }))
    })
}

impl<'o> Opened<'o> {
    /// The schema and search path it was read by.
    pub(in crate::sql) fn context(&self) -> &'o Context<'o> {
        self.cx
    }

    /// The table of the snapshot that a name means.
    pub(in crate::sql) fn table(&self, name: &ObjectName) -> Option<&'o Table> {
        match resolve(self.cx, self.cx.search_path, &object(name)?) {
            Named::Table(table) => Some(table),
            Named::Catalog | Named::Unknown => None,
        }
    }

    /// The rows of the statement's `VALUES`, in order: each one's tokens, parentheses included, and
    /// the key at `position` in it, a constant or something that can be computed. `values` is the token of that word. `None` where a row is not
    /// understood.
    pub(in crate::sql) fn rows(
        &self,
        values: usize,
        tree: &Values,
        position: usize,
        key_type: KeyType,
    ) -> Option<Vec<(Range<usize>, Key)>> {
        let (tokens, end) = (self.tokens, self.range.end);
        let literals = Literals::new(tokens);
        let mut in_tree = tree.rows.iter();
        let mut left_out = self.left_out.iter().peekable();
        let mut rows = Vec::with_capacity(tree.rows.len() + self.left_out.len());
        let mut at = values + 1;
        loop {
            if at >= end || !tokens.is_mark(at, "(") {
                return None;
            }
            let behind = tokens.behind_parenthesis(at, end);
            if !tokens.is_mark(behind - 1, ")") {
                return None;
            }
            let written = || computed::value_at(tokens, at + 1..behind - 1, position);
            let (known, steady) = match left_out.next_if(|row| row.start == at + 1) {
                Some(row) => {
                    let known = literals.in_row(row.clone(), position, key_type);
                    (known, literals.is_computed(row.clone(), position))
                }
                None => {
                    let value = in_tree.next()?.content.get(position)?;
                    let steady = computed::is_steady(value, self.cx.schema);
                    (literals.constant(value, key_type), steady)
                }
            };
            let key = match known {
                Some(source) => Key::Known(source),
                None if steady => Key::Computed(written()?),
                None => return None,
            };
            rows.push((at..behind, key));
            if behind >= end || !tokens.is_mark(behind, ",") {
                break;
            }
            at = behind + 1;
        }
        (in_tree.next().is_none() && left_out.next().is_none()).then_some(rows)
    }
}

/// The column an assignment or a column list names: `a`, `a.field`, `a[1]`.
pub(in crate::sql) fn first_part(name: &ObjectName) -> Option<String> {
    let first = ObjectName(name.0.first().cloned().into_iter().collect());
    object(&first).map(|Name { name, .. }| name)
}
