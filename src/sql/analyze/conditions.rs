//! What a query's AND-ed conditions say about keys.
//!
//! A condition counts only if a row for which it is not *true* cannot matter. That holds of
//! each conjunct of a `WHERE`, whatever the joins below it are: a row without its table's
//! part has NULL for a key, and no equality holds of NULL. It holds of a join's `ON` for both
//! sides of an inner join, for the nullable side of an outer one (rows of that side which do
//! not match vanish anyway), and for neither side of a full join.

use std::ops::Range;

use sqlparser::ast::{BinaryOperator, Expr};

use super::super::shape::KeySource;
use super::facts::NodeId;
use super::literals::keeps_key;
use super::query::{Analyzer, address};
use super::scope::{Found, Scope};

/// Keys that a condition lets through, for each node it speaks of.
type Pinned = Vec<(NodeId, Vec<KeySource>)>;

impl Analyzer<'_> {
    /// Takes a condition in. `restricted`: the sources whose rows matter only if it is true.
    pub(super) fn condition(&mut self, condition: &Expr, scope: &Scope<'_>, restricted: &Range<usize>) {
        for (node, keys) in self.pinned(condition, scope, restricted) {
            self.facts.seed(node, keys);
        }
        for conjunct in flattened(condition, &BinaryOperator::And) {
            match conjunct {
                Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                    for (left, right) in pairs(left, right) {
                        if let (Some(left), Some(right)) = (self.key(left, scope), self.key(right, scope)) {
                            self.link(left, right, restricted);
                        }
                    }
                }
                Expr::InSubquery { expr, subquery, negated: false } => {
                    self.in_query(self.key(expr, scope), address(&**subquery), restricted);
                }
                _ => {}
            }
        }
    }

    /// Two keys that are equal wherever rows matter.
    pub(super) fn link(&mut self, one: Found, other: Found, restricted: &Range<usize>) {
        if one.node == other.node || self.facts.key_type(one.node) != self.facts.key_type(other.node) {
            return;
        }
        let one_restricted = one.source.is_some_and(|source| restricted.contains(&source));
        let other_restricted = other.source.is_some_and(|source| restricted.contains(&source));
        if other_restricted {
            self.facts.edge(one.node, other.node);
            self.facts.matters_beside(other.node, one.node);
        }
        if one_restricted {
            self.facts.edge(other.node, one.node);
            self.facts.matters_beside(one.node, other.node);
        }
    }

    /// `key IN (SELECT …)`: only what the sub-query yields matters, and of the sub-query, if
    /// its rows stand for themselves, only what the key may be.
    fn in_query(&mut self, key: Option<Found>, query: usize, restricted: &Range<usize>) {
        let Some(key) = key.filter(|key| key.source.is_some_and(|source| restricted.contains(&source)))
        else {
            return;
        };
        let Some(output) = self.outputs.get(&query) else { return };
        let (plain, own, node) = match output.columns.as_deref() {
            Some([column]) => (output.plain, output.plain || output.own, column.node),
            _ => return,
        };
        let Some(node) = node.filter(|node| self.facts.key_type(*node) == self.facts.key_type(key.node))
        else {
            return;
        };
        self.facts.edge(node, key.node);
        if own {
            self.facts.equal(node, key.node);
        }
        if plain {
            self.facts.edge(key.node, node);
        }
    }

    /// A column that holds keys, under parentheses and casts that leave its value alone.
    pub(super) fn key(&self, expr: &Expr, scope: &Scope<'_>) -> Option<Found> {
        match expr {
            Expr::Nested(inner) => self.key(inner, scope),
            Expr::Cast { expr, data_type, format: None, .. } => {
                let found = self.key(expr, scope)?;
                keeps_key(data_type, self.facts.key_type(found.node)).then_some(found)
            }
            _ => scope.find(expr),
        }
    }

    /// What a condition says by itself. AND adds up; under OR a node counts only if every
    /// branch pins it, and then to what they allow together.
    fn pinned(&self, condition: &Expr, scope: &Scope<'_>, restricted: &Range<usize>) -> Pinned {
        let conjuncts = flattened(condition, &BinaryOperator::And);
        if let [single] = conjuncts.as_slice() {
            let branches = flattened(single, &BinaryOperator::Or);
            if let [atom] = branches.as_slice() {
                return self.pinned_by_atom(atom, scope, restricted);
            }
            return self.pinned_by_all(&branches, scope, restricted);
        }
        conjuncts.iter().flat_map(|conjunct| self.pinned(conjunct, scope, restricted)).collect()
    }

    fn pinned_by_all(&self, branches: &[&Expr], scope: &Scope<'_>, restricted: &Range<usize>) -> Pinned {
        let mut common: Option<Pinned> = None;
        for branch in branches {
            let pinned = self.pinned(branch, scope, restricted);
            common = Some(match common {
                None => pinned,
                Some(common) => common
                    .into_iter()
                    .filter_map(|(node, mut keys)| {
                        let also = pinned.iter().find(|(other, _)| *other == node)?;
                        keys.extend_from_slice(&also.1);
                        Some((node, keys))
                    })
                    .collect(),
            });
            if common.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
        }
        common.unwrap_or_default()
    }

    fn pinned_by_atom(&self, atom: &Expr, scope: &Scope<'_>, restricted: &Range<usize>) -> Pinned {
        let node = |expr: &Expr| {
            self.key(expr, scope)
                .filter(|found| found.source.is_some_and(|source| restricted.contains(&source)))
                .map(|found| found.node)
        };
        match atom {
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => pairs(left, right)
                .into_iter()
                .filter_map(|(left, right)| {
                    let (node, constant) = match node(left) {
                        Some(node) => (node, right),
                        None => (node(right)?, left),
                    };
                    Some((node, vec![self.constant(constant, self.facts.key_type(node))?]))
                })
                .collect(),
            Expr::InList { expr, list, negated: false } => self.pinned_by_list(expr, list, &node),
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                let Some(node) = node(left) else { return Vec::new() };
                let keys = self.array(right, self.facts.key_type(node));
                keys.map(|keys| (node, keys)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// `key IN (…)`, `(key, x) IN ((…), (…))`.
    fn pinned_by_list(&self, expr: &Expr, list: &[Expr], node: &dyn Fn(&Expr) -> Option<NodeId>) -> Pinned {
        let expr = unnested(expr);
        if let Expr::Tuple(columns) = expr {
            let position = columns.iter().enumerate().find_map(|(at, column)| Some((at, node(column)?)));
            let Some((position, node)) = position else { return Vec::new() };
            let keys: Option<Vec<KeySource>> = list
                .iter()
                .map(|row| match unnested(row) {
                    Expr::Tuple(values) if values.len() == columns.len() => {
                        self.constant(values.get(position)?, self.facts.key_type(node))
                    }
                    _ => None,
                })
                .collect();
            return keys.map(|keys| (node, keys)).into_iter().collect();
        }
        let Some(node) = node(expr) else { return Vec::new() };
        let key_type = self.facts.key_type(node);
        let keys: Option<Vec<KeySource>> = list.iter().map(|value| self.constant(value, key_type)).collect();
        keys.map(|keys| (node, keys)).into_iter().collect()
    }
}

pub(super) fn unnested(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// The operands of a chain of one operator, in any order. Such chains are as deep as they are
/// long; parentheses do not matter to them.
fn flattened<'e>(expr: &'e Expr, operator: &BinaryOperator) -> Vec<&'e Expr> {
    let mut operands = Vec::new();
    let mut pending = vec![expr];
    while let Some(expr) = pending.pop() {
        match unnested(expr) {
            Expr::BinaryOp { left, op, right } if op == operator => pending.extend([&**right, &**left]),
            operand => operands.push(operand),
        }
    }
    operands
}

/// `(a, b) = (c, d)` is `a = c AND b = d`.
fn pairs<'e>(left: &'e Expr, right: &'e Expr) -> Vec<(&'e Expr, &'e Expr)> {
    match (unnested(left), unnested(right)) {
        (Expr::Tuple(left), Expr::Tuple(right)) if left.len() == right.len() => {
            left.iter().zip(right).collect()
        }
        (left, right) => vec![(left, right)],
    }
}
