//! Conditions that a fetch can apply already.
//!
//! A conjunct of a `WHERE` says which rows matter of each table that it stands beside, unless an
//! outer join puts NULLs in that table's place; one of a join's `ON` says it of the sides whose rows
//! vanish without a match. If it is about one table alone, depends on nothing but its columns and
//! the statement's constants, and comes out the same wherever and whenever it is evaluated, the rows
//! for which it is not true need not be fetched. The statement still applies it.
//!
//! A conjunct's tokens are known when they parse to the very expression that the tree has there.

use std::ops::{ControlFlow, Range};

use sqlparser::ast::{BinaryOperator, DataType, Expr, Ident, Query, ValueWithSpan, Visit, Visitor};

use super::super::super::analyze::bridge::{index_of, parse_expression};
use super::super::super::analyze::functions::{Effect, effect};
use super::super::super::analyze::names::{ident, object};
use super::super::super::analyze::tokens::Tokens;
use super::survey::Survey;

/// Attempts at where a conjunct ends: each parses it.
const MOST_ENDS: usize = 12;
/// Conjuncts of one condition that are looked at.
const MOST_CONJUNCTS: usize = 200;

/// A condition on one table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Condition {
    /// Its tokens.
    pub(super) tokens: Range<usize>,
    /// Those of them that qualify a column by the table's name, in order.
    pub(super) qualifiers: Vec<usize>,
}

/// An item of a `FROM` list as a condition sees it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The name it is referred to by.
    pub(super) name: Option<String>,
    /// Its number among the references, if its columns have the names that the table gave them.
    pub(super) reference: Option<usize>,
    /// An outer join may put NULLs in its place.
    pub(super) nullable: bool,
}

impl Survey<'_, '_> {
    /// Takes in the condition behind `word`. `restricts`: rows of that item matter only if it is
    /// true.
    pub(super) fn condition(
        &mut self,
        condition: &Expr,
        word: &str,
        visible: &[Item],
        restricts: &dyn Fn(usize, &Item) -> bool,
    ) {
        let mut first = First(None);
        let _: ControlFlow<()> = condition.visit(&mut first);
        let Some(first) = first.0 else { return };
        let start = (self.range.start..first).rev().find(|&at| is_key_word(self.tokens, at, word));
        if let Some(start) = start {
            self.conjuncts(condition, start + 1, visible, restricts);
        }
    }

    fn conjuncts(
        &mut self,
        condition: &Expr,
        start: usize,
        visible: &[Item],
        restricts: &dyn Fn(usize, &Item) -> bool,
    ) {
        let mut at = start;
        for conjunct in chain(condition).into_iter().take(MOST_CONJUNCTS) {
            let Some(end) = self.end_of(conjunct, at) else { return };
            match conjunct {
                Expr::Nested(inner) if is_and(inner) => self.conjuncts(inner, at + 1, visible, restricts),
                _ => self.offer(conjunct, at..end, visible, restricts),
            }
            at = end + 1;
        }
    }

    /// The token behind an expression that begins at `start`.
    fn end_of(&self, expr: &Expr, start: usize) -> Option<usize> {
        let mut depth = 0usize;
        let mut attempts = 0;
        for at in start..=self.range.end {
            let open = self.tokens.is_mark(at, "(") || self.tokens.is_mark(at, "[");
            let close = self.tokens.is_mark(at, ")") || self.tokens.is_mark(at, "]");
            let stops = at == self.range.end
                || close
                || self.tokens.is_mark(at, ",")
                || ENDS.iter().any(|word| is_key_word(self.tokens, at, word));
            if depth == 0 && stops && at > start {
                if parse_expression(self.tokens, start..at).as_ref() == Some(expr) {
                    return Some(at);
                }
                attempts += 1;
                if close || attempts == MOST_ENDS {
                    return None;
                }
            }
            if open {
                depth += 1;
            } else if close {
                depth = depth.checked_sub(1)?;
            }
        }
        None
    }

    fn offer(
        &mut self,
        conjunct: &Expr,
        tokens: Range<usize>,
        visible: &[Item],
        restricts: &dyn Fn(usize, &Item) -> bool,
    ) {
        let mut columns = Columns { survey: self, visible, item: None, qualifiers: Vec::new() };
        if conjunct.visit(&mut columns).is_break() {
            return;
        }
        let Columns { item: Some(item), mut qualifiers, .. } = columns else { return };
        qualifiers.sort_unstable();
        let Some(found) = visible.get(item).filter(|found| !found.nullable && restricts(item, found)) else {
            return;
        };
        if let Some(reference) = found.reference.and_then(|number| self.tables.get_mut(number)) {
            reference.conditions.push(Condition { tokens, qualifiers });
        }
    }
}

/// The words that an expression without parentheses around it may end before.
const ENDS: &[&str] = &[
    "and",
    "cross",
    "except",
    "fetch",
    "for",
    "full",
    "group",
    "having",
    "inner",
    "intersect",
    "join",
    "left",
    "limit",
    "natural",
    "offset",
    "on",
    "order",
    "right",
    "union",
    "where",
    "window",
];

/// Whether the token is this word and not a name: behind a dot or `AS` any word may be one.
fn is_key_word(tokens: &Tokens<'_>, at: usize, word: &str) -> bool {
    tokens.is_word(at, word) && !(at > 0 && (tokens.is_mark(at - 1, ".") || tokens.is_word(at - 1, "as")))
}

fn is_and(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::And, .. })
}

/// What `AND` joins, in the order of the text.
fn chain(expr: &Expr) -> Vec<&Expr> {
    let mut operands = Vec::new();
    let mut rest = expr;
    while let Expr::BinaryOp { left, op: BinaryOperator::And, right } = rest {
        operands.push(&**right);
        rest = left;
    }
    operands.push(rest);
    operands.reverse();
    operands
}

/// The first token of an expression that the tree tells the place of.
struct First(Option<usize>);

impl First {
    fn meet(&mut self, at: Option<usize>) -> ControlFlow<()> {
        self.0 = self.0.into_iter().chain(at).min();
        ControlFlow::Continue(())
    }
}

impl Visitor for First {
    type Break = ();

    fn pre_visit_ident(&mut self, ident: &Ident) -> ControlFlow<()> {
        self.meet(index_of(ident.span))
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        self.meet(index_of(value.span))
    }
}

/// Sees to it that an expression is about one item and comes out the same everywhere.
struct Columns<'c, 's, 'a> {
    survey: &'c Survey<'s, 'a>,
    visible: &'c [Item],
    item: Option<usize>,
    qualifiers: Vec<usize>,
}

impl Columns<'_, '_, '_> {
    fn has(&self, item: &Item, column: &str) -> bool {
        let reference = item.reference.and_then(|number| self.survey.tables.get(number));
        reference.is_some_and(|reference| reference.table.columns.iter().any(|name| name == column))
    }

    fn unqualified(&mut self, name: &Ident) -> Option<()> {
        let name = ident(name);
        // `USING` makes one column of two.
        if self.survey.natural || self.survey.merged.contains(&name) {
            return None;
        }
        let mut having = self.visible.iter().enumerate().filter(|(_, item)| self.has(item, &name));
        let (item, _) = having.next().filter(|_| having.next().is_none())?;
        self.meet(item)
    }

    fn qualified(&mut self, parts: &[Ident]) -> Option<()> {
        let [qualifier, column] = parts else { return None };
        let (at, name) = (index_of(qualifier.span)?, ident(qualifier));
        let mut named =
            self.visible.iter().enumerate().filter(|(_, item)| item.name.as_deref() == Some(&*name));
        let (number, item) = named.next().filter(|_| named.next().is_none())?;
        if !self.has(item, &ident(column)) {
            return None;
        }
        self.qualifiers.push(at);
        self.meet(number)
    }

    fn meet(&mut self, item: usize) -> Option<()> {
        (*self.item.get_or_insert(item) == item).then_some(())
    }

    fn examine(&mut self, expr: &Expr) -> Option<()> {
        match expr {
            Expr::Identifier(name) => self.unqualified(name),
            Expr::CompoundIdentifier(parts) => self.qualified(parts),
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => None,
            Expr::Cast { data_type, .. } => is_the_same_everywhere(data_type),
            Expr::TypedString(typed) => is_the_same_everywhere(&typed.data_type),
            Expr::Function(function) => {
                let name = object(&function.name)?;
                let builtin = name.schema.as_deref() == Some("pg_catalog")
                    || (name.schema.is_none()
                        && self.survey.cx.schema.functions_named(&name.name).is_empty());
                let plain = function.over.is_none()
                    && function.filter.is_none()
                    && function.within_group.is_empty()
                    && builtin
                    && effect(self.survey.cx.schema, Some("pg_catalog"), &name.name) == Effect::Scalar;
                (plain && !depends_on_the_server(&name.name)).then_some(())
            }
            _ => Some(()),
        }
    }
}

impl Visitor for Columns<'_, '_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match self.examine(expr) {
            Some(()) => ControlFlow::Continue(()),
            None => ControlFlow::Break(()),
        }
    }
}

/// The numbers behind `regclass` and its kin are each server's own.
fn is_the_same_everywhere(data_type: &DataType) -> Option<()> {
    let spelled = data_type.to_string().to_ascii_lowercase();
    let mut words = spelled.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    (!words.any(|word| word.starts_with("reg"))).then_some(())
}

/// Volatile functions, and those that look at the server's own catalogs or settings.
fn depends_on_the_server(function: &str) -> bool {
    const ONES: &[&str] = &[
        "clock_timestamp",
        "col_description",
        "current_schema",
        "current_schemas",
        "current_setting",
        "format_type",
        "gen_random_uuid",
        "obj_description",
        "random",
        "shobj_description",
        "to_regclass",
        "version",
    ];
    function.starts_with("pg_") || function.starts_with("has_") || ONES.contains(&function)
}
