//! What is known of keys, and what follows from it.
//!
//! A *node* stands for a column that holds keys: a sharded table's key column in one place of
//! the statement, or a column of a derived table that is a copy of one. A *seed* says: rows
//! whose key is not among these do not matter to the statement's outcome. An *edge* `a → b`
//! says: once only rows of `a` with keys in a set `S` matter, only rows of `b` with keys in
//! `S` do. Both must hold whatever rows the tables have, because they are applied one after
//! another: each step leaves out rows of one table without changing the outcome, and the next
//! one argues about what is left.

use std::collections::HashSet;

use super::super::shape::{KeySource, KeyType};

/// A node's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::sql) struct NodeId(usize);

impl NodeId {
    /// As an index.
    pub(in crate::sql) fn index(self) -> usize {
        self.0
    }
}

#[derive(Debug)]
struct Node {
    key_type: KeyType,
    /// The table whose rows must be found, and its key column; none for a copied column.
    table: Option<(String, String)>,
    /// It may be NULL where its row has no match in an outer join.
    optional: bool,
    seeds: Vec<Vec<KeySource>>,
    edges: Vec<NodeId>,
}

/// More tables than these are not tried as the one beside which all others' rows matter.
const MOST_ROOTS: usize = 64;

/// All that one statement says.
#[derive(Debug, Default)]
pub(super) struct Facts {
    nodes: Vec<Node>,
    /// Rows of the first matter only beside such of the second.
    equal: Vec<(NodeId, NodeId)>,
}

/// What the facts amount to.
pub(super) enum Outcome {
    /// No sharded table.
    Unsharded,
    /// Every sharded table's key is known; `connected`: all through one another.
    Known { keys: Vec<KeySource>, connected: bool },
    /// This table's is not.
    Missing { table: String, column: String, connected: bool },
}

impl Facts {
    /// A sharded table that the statement reads or writes.
    pub(super) fn table(&mut self, table: &str, column: &str, key_type: KeyType) -> NodeId {
        self.node(key_type, Some((table.to_owned(), column.to_owned())))
    }

    /// A column that is a copy of a node's.
    pub(super) fn copy(&mut self, of: NodeId) -> NodeId {
        let key_type = self.key_type(of);
        let copy = self.node(key_type, None);
        self.nodes[copy.0].optional = self.nodes[of.0].optional;
        self.edge(of, copy);
        self.equal(of, copy);
        copy
    }

    fn node(&mut self, key_type: KeyType, table: Option<(String, String)>) -> NodeId {
        self.nodes.push(Node { key_type, table, optional: false, seeds: Vec::new(), edges: Vec::new() });
        NodeId(self.nodes.len() - 1)
    }

    pub(super) fn key_type(&self, node: NodeId) -> KeyType {
        self.nodes[node.0].key_type
    }

    /// Seen from outside of its query, it may be NULL.
    pub(super) fn make_optional(&mut self, node: NodeId) {
        self.nodes[node.0].optional = true;
    }

    /// Whether it may be NULL where another column of its row is not.
    pub(super) fn is_optional(&self, node: NodeId) -> bool {
        self.nodes[node.0].optional
    }

    /// How many sharded tables there are so far.
    pub(super) fn tables(&self) -> usize {
        self.nodes.iter().filter(|node| node.table.is_some()).count()
    }

    /// Only these keys matter.
    pub(super) fn seed(&mut self, node: NodeId, keys: Vec<KeySource>) {
        if !keys.is_empty() {
            self.nodes[node.0].seeds.push(keys);
        }
    }

    /// What is known of `from` holds of `to`.
    pub(super) fn edge(&mut self, from: NodeId, to: NodeId) {
        self.nodes[from.0].edges.push(to);
    }

    /// Rows of either matter only where their keys are equal.
    pub(super) fn equal(&mut self, one: NodeId, other: NodeId) {
        self.matters_beside(one, other);
        self.matters_beside(other, one);
    }

    /// Rows of `one` matter only beside such of `other` as have the same key. The reverse need not
    /// hold: an outer join has rows of its preserved side beside none, and a sub-query those of
    /// the query around it.
    pub(super) fn matters_beside(&mut self, one: NodeId, other: NodeId) {
        self.equal.push((one, other));
    }

    /// For each node the number of a list of keys, and the lists: beyond these keys no row of it
    /// matters. Follows the edges from every seed, the shortest list first: any list a node is
    /// reached by is sound, and a shorter one means fewer shards.
    fn spread(&mut self) -> (Vec<Option<usize>>, Vec<Vec<KeySource>>) {
        let mut seeds: Vec<(usize, Vec<KeySource>)> = Vec::new();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            seeds.extend(std::mem::take(&mut node.seeds).into_iter().map(|keys| (index, keys)));
        }
        seeds.sort_by_key(|(_, keys)| keys.len());
        let mut known: Vec<Option<usize>> = vec![None; self.nodes.len()];
        for (seed, (start, _)) in seeds.iter().enumerate() {
            let mut reached = vec![*start];
            while let Some(node) = reached.pop() {
                if known[node].is_none() {
                    known[node] = Some(seed);
                    reached.extend(self.nodes[node].edges.iter().map(|next| next.0));
                }
            }
        }
        (known, seeds.into_iter().map(|(_, keys)| keys).collect())
    }

    /// For each node, in order, the keys beyond which no row of it matters.
    pub(super) fn keys(mut self) -> Vec<Option<Vec<KeySource>>> {
        let (known, lists) = self.spread();
        known.into_iter().map(|list| lists.get(list?).cloned()).collect()
    }

    /// What the facts amount to for the statement as a whole.
    pub(super) fn outcome(mut self) -> Outcome {
        if self.tables() == 0 {
            return Outcome::Unsharded;
        }
        let (known, mut lists) = self.spread();
        let mut used = HashSet::new();
        let mut keys = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let Some((table, column)) = &node.table else { continue };
            let Some(seed) = known[index] else {
                let connected = self.connected();
                return Outcome::Missing { table: table.clone(), column: column.clone(), connected };
            };
            if used.insert(seed) {
                keys.append(&mut lists[seed]);
            }
        }
        let connected = self.connected();
        Outcome::Known { keys, connected }
    }

    /// Whether there is one sharded table beside whose rows all others' matter, and only where the keys are
    /// equal: then what meets lies on one shard.
    fn connected(&self) -> bool {
        let mut arriving: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (one, other) in &self.equal {
            arriving[other.0].push(one.0);
        }
        let tables: Vec<usize> =
            (0..self.nodes.len()).filter(|node| self.nodes[*node].table.is_some()).collect();
        let all_reach = |root: usize| {
            let mut seen = vec![false; self.nodes.len()];
            let mut waiting = vec![root];
            while let Some(node) = waiting.pop() {
                if !std::mem::replace(&mut seen[node], true) {
                    waiting.extend_from_slice(&arriving[node]);
                }
            }
            tables.iter().all(|table| seen[*table])
        };
        tables.len() < 2 || tables.iter().take(MOST_ROOTS).any(|root| all_reach(*root))
    }
}
