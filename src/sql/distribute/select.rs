//! Queries whose rows, or partial results, come from each shard: [`Merge`](super::Merge) and
//! [`Combine`](super::Combine).
//!
//! The analysis says whether a query is *colocated*: each shard's answer to what stands in `FROM` and
//! `WHERE` is right for its own rows. What is left is what folds, orders or counts off the rows of
//! all shards, and that is what is planned here, for the outermost query only.
//!
//! A plan is made only where PostgreSQL would come to the same answer, whatever the rows are. What is
//! not understood is left to a gather: wherever a function below returns `None`, it says so.

mod calls;
mod clauses;
mod combine;
mod inputs;
mod merge;
mod names;
mod render;
#[cfg(test)]
mod tests;
mod units;

pub use self::render::array_type;

use std::ops::Range;

use sqlparser::ast::{GroupByExpr, Query, Select, SelectItem, SetExpr, Statement};

use self::clauses::Clauses;
use self::inputs::{Column, Inputs};
use self::names::{Output, star_of};
use self::units::{Unit, units};
use super::Plan;
use crate::sql::analyze::bridge::{self, Depth};
use crate::sql::analyze::functions::folds;
use crate::sql::analyze::tokens::Tokens;
use crate::sql::analyze::{Context, analyze};
use crate::sql::lexer::{Lexed, TokenKind, tokenize};
use crate::sql::shape::{Kind, Target};

/// `None`: neither is exact.
pub(super) fn plan(text: &[u8], cx: &Context<'_>) -> Option<Plan> {
    let mut lexed = Lexed::default();
    lexed.lex(text, cx.standard_conforming_strings).ok()?;
    let shape = analyze(text, &lexed, cx);
    let [statement] = shape.statements.as_slice() else { return None };
    match statement.target {
        Target::Keys { colocated: true, home: false, .. }
        | Target::Everywhere { colocated: true, home: false, .. } => {}
        _ => return None,
    }
    let tokens = Tokens::new(text, tokenize(text, cx.standard_conforming_strings).ok()?);
    let ranges = tokens.statements();
    let [range] = ranges.as_slice() else { return None };
    if statement.kind != Kind::Query || !tokens.is_one_of(range.start, &["select", "with"]) {
        return None;
    }
    bridge::with_stack(Depth::of(&tokens, range.clone()), || {
        let tree = bridge::parse(&tokens, range.clone(), &[]).ok()?;
        let Statement::Query(query) = &tree else { return None };
        let SetExpr::Select(select) = &*query.body else { return None };
        let question = Question::read(&tokens, range, cx, query, select)?;
        match merge::plan(&question) {
            Some(merge) => Some(Plan::Merge(merge)),
            None => combine::plan(&question).map(Plan::Combine),
        }
    })
}

/// A query, as tokens and as a tree.
struct Question<'q> {
    tokens: &'q Tokens<'q>,
    cx: &'q Context<'q>,
    query: &'q Query,
    select: &'q Select,
    clauses: Clauses,
    inputs: Inputs<'q>,
    /// Parallel to the items of the select list.
    outputs: Vec<Output>,
}

/// A column of the query.
enum Place {
    Item(usize),
    /// A column of `*`.
    OfStar(Column),
}

impl<'q> Question<'q> {
    fn read(
        tokens: &'q Tokens<'q>,
        range: &Range<usize>,
        cx: &'q Context<'q>,
        query: &'q Query,
        select: &'q Select,
    ) -> Option<Question<'q>> {
        let clauses = Clauses::cut(tokens, range)?;
        let inputs = Inputs::of(select, query.with.as_ref(), cx)?;
        if clauses.items.len() != select.projection.len() {
            return None;
        }
        let items = clauses.items.iter().zip(&select.projection);
        let outputs = items.map(|(range, item)| names::output(tokens, range, item)).collect();
        Some(Question { tokens, cx, query, select, clauses, inputs, outputs })
    }

    fn units(&self, range: &Range<usize>) -> Vec<Unit> {
        units(self.tokens, range, &self.inputs)
    }

    /// The column that is all there is between these tokens.
    fn column(&self, range: &Range<usize>) -> Option<Column> {
        match self.units(&unwrapped(self.tokens, range.clone())).as_slice() {
            [Unit { column, .. }] => *column,
            _ => None,
        }
    }

    fn written(&self, range: &Range<usize>) -> Option<&'q str> {
        self.tokens.written(range.clone())
    }

    /// What the query is grouped by, names and positions followed. `None` where that is not known.
    fn groups(&self) -> Option<Vec<Range<usize>>> {
        let GroupByExpr::Expressions(by, modifiers) = &self.select.group_by else { return None };
        if !modifiers.is_empty() || by.len() != self.clauses.group.len() {
            return None;
        }
        self.clauses.group.iter().map(|range| self.group(range)).collect()
    }

    fn group(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let tokens = self.tokens;
        let range = unwrapped(tokens, range.clone());
        if tokens.is_one_of(range.start, &["rollup", "cube", "grouping"]) || !is_one(tokens, &range) {
            return None;
        }
        if range.len() == 1 {
            if tokens.kind(range.start) == Some(TokenKind::Integer) {
                return self.at_position(range.start);
            }
            if let Some(name) = units::column_name(tokens, range.start) {
                // A column of FROM goes before a name of the select list.
                return match self.inputs.look_up(None, &name) {
                    inputs::Look::Column(_) | inputs::Look::Merged => Some(range),
                    inputs::Look::Unknown if self.outputs.iter().all(|output| !output.may_be(&name)) => {
                        Some(range)
                    }
                    inputs::Look::Absent => {
                        self.named(&name)?.map(|item| self.expression(item)).unwrap_or(None)
                    }
                    inputs::Look::Unknown | inputs::Look::Unclear => None,
                };
            }
            if tokens.kind(range.start)?.is_literal() {
                return None;
            }
        }
        Some(range)
    }

    /// The select item that a position stands for, as an expression.
    fn at_position(&self, token: usize) -> Option<Range<usize>> {
        match self.place(token)? {
            Place::Item(item) => self.expression(item),
            Place::OfStar(_) => None,
        }
    }

    /// What a position (from 1) stands for.
    fn place(&self, token: usize) -> Option<Place> {
        let position: usize = std::str::from_utf8(self.tokens.raw(token)).ok()?.parse().ok()?;
        let mut left = position.checked_sub(1)?;
        for (item, selected) in self.select.projection.iter().enumerate() {
            let Some(source) = star_of(selected) else {
                if left == 0 {
                    return Some(Place::Item(item));
                }
                left -= 1;
                continue;
            };
            let columns = self.inputs.star(source.as_deref())?;
            match columns.get(left) {
                Some(column) => return Some(Place::OfStar(*column)),
                None => left -= columns.len(),
            }
        }
        None
    }

    /// The item of the select list that has this name. `None`: there may be one, or several that
    /// differ. `Some(None)`: there is none.
    fn named(&self, name: &str) -> Option<Option<usize>> {
        let mut found: Option<usize> = None;
        for (index, output) in self.outputs.iter().enumerate() {
            if !output.may_be(name) {
                continue;
            }
            let Output::Named { name: known, .. } = output else { return None };
            if known != name {
                return None;
            }
            if let Some(found) = found {
                let same = |units: Vec<Unit>| units.into_iter().map(|unit| unit.text).collect::<Vec<_>>();
                let one = same(self.units(&self.expression(found)?));
                if one != same(self.units(&self.expression(index)?)) {
                    return None;
                }
                continue;
            }
            found = Some(index);
        }
        Some(found)
    }

    /// An item of the select list without its alias.
    fn expression(&self, item: usize) -> Option<Range<usize>> {
        let range = self.clauses.items.get(item)?;
        match self.select.projection.get(item)? {
            SelectItem::UnnamedExpr(_) => Some(range.clone()),
            SelectItem::ExprWithAlias { .. } => {
                let end = range.end.checked_sub(1)?;
                let end = if end > range.start && self.tokens.is_word(end - 1, "as") { end - 1 } else { end };
                (end > range.start).then_some(range.start..end)
            }
            _ => None,
        }
    }

    /// Whether rows that are alike in this lie on one shard: it is the key of a table of which every
    /// row of the query has a part.
    fn is_key(&self, expression: &Range<usize>) -> bool {
        self.column(expression).is_some_and(|column| self.inputs.is_key(column))
    }

    fn folds(&self, name: &str) -> bool {
        folds(self.cx.schema, name)
    }
}

/// Whether it is one value, no row of several or of none.
fn is_one(tokens: &Tokens<'_>, range: &Range<usize>) -> bool {
    let empty = range.len() == 2 && tokens.is_mark(range.start, "(");
    !empty && clauses::split(tokens, range).is_some_and(|parts| parts.len() == 1)
}

/// Without parentheses around it all.
fn unwrapped(tokens: &Tokens<'_>, mut range: Range<usize>) -> Range<usize> {
    while range.len() > 2
        && tokens.is_mark(range.start, "(")
        && tokens.behind_parenthesis(range.start, range.end) == range.end
        && !tokens.is_one_of(range.start + 1, &["select", "with", "values", "table"])
    {
        range = range.start + 1..range.end - 1;
    }
    range
}
