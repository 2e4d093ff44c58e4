//! The plans; what executes them knows nothing of SQL but these.

use super::super::shape::{KeySource, KeyType};

/// How a statement that needs several shards is answered.
#[derive(Clone, PartialEq, Debug)]
pub enum Plan {
    /// Rows of the shards are rows of the answer.
    Merge(Merge),
    /// Partial results of the shards are folded into the answer.
    Combine(Combine),
    /// The statement runs over copies of the rows it needs.
    Gather(Gather),
    /// Each shard changes its own rows.
    Each(Each),
    /// Each shard inserts the rows it owns.
    Split(Split),
    /// Every shard's copy of a reference table is changed alike.
    Replicate(Replicate),
}

/// Why there is no plan: what the client is told, with `0A000`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Impossible {
    /// What cannot be done.
    pub message: String,
    /// What to change.
    pub hint: String,
}

impl Impossible {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Impossible {
        Impossible { message: message.into(), hint: hint.into() }
    }
}

/// Each shard runs `sql`; the answers are merged by `sort`, or in any order if that is empty.
#[derive(Clone, PartialEq, Debug)]
pub struct Merge {
    /// Its parameters are the client's. Its last `sort.len()` columns are the sort keys, to be asked
    /// for in binary format; the client does not see them.
    pub sql: String,
    /// The most significant first.
    pub sort: Vec<SortKey>,
    /// Rows of the answer, at most. What a shard runs is limited already.
    pub limit: Option<Count>,
    /// Rows that are left out first. What a shard runs leaves out none.
    pub offset: Option<Count>,
}

/// A column by which rows are ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SortKey {
    /// `DESC`
    pub descending: bool,
    /// Nulls stand before everything else.
    pub nulls_first: bool,
    /// If it turns out to be of a text type: its collation is known to order by bytes.
    pub bytewise: bool,
}

/// `LIMIT` or `OFFSET`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// As written.
    Literal(u64),
    /// `$n` (from 1); NULL is no limit, and a negative one an error, which a shard does not always see.
    Param(u16),
}

/// Each shard runs `fetch`; one server runs `finish` over all their rows.
#[derive(Clone, PartialEq, Debug)]
pub struct Combine {
    /// Its parameters are the client's.
    pub fetch: String,
    /// Its columns, in order.
    pub columns: Vec<Partial>,
    /// The text that folds them, in pieces that depend on the columns' types.
    pub finish: Vec<Piece>,
}

/// What a column of a [`Combine`]'s `fetch` holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Partial {
    /// A value that rows are grouped by. If it turns out to be of a text type, what is done to
    /// it does (`ordered: true`) or does not depend on its collation being that of the database.
    Group {
        /// It is sorted or compared by more than equality.
        ordered: bool,
        /// Its collation is known to be the database's default one.
        default_collation: bool,
    },
    /// The result of an aggregate over the shard's rows.
    Aggregate {
        /// It is a minimum or maximum: as for [`Partial::Group`].
        ordered: bool,
        /// As for [`Partial::Group`].
        default_collation: bool,
    },
}

/// A part of a [`Combine`]'s `finish`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// As it stands. `pgring_partial` is the relation of the partial results, `c1`, `c2` … are its
    /// columns; the client's parameters keep their numbers.
    Text(String),
    /// `FROM` this: the partial results as a table expression named `pgring_partial (c1, c2, …)`.
    Source,
    /// `sum(cN)` in the type of column N (from 0) itself: PostgreSQL's `sum` of a sum may be wider.
    SumOf(usize),
    /// `avg`: the sum of column `sum` divided by the sum of column `count`, as PostgreSQL's `avg` of
    /// what was summed does it. (A `float4` has lost digits by then: that needs a [`Gather`].)
    Quotient {
        /// Sums.
        sum: usize,
        /// Counts.
        count: usize,
    },
}

/// The statement runs over temporary tables.
#[derive(Clone, PartialEq, Debug)]
pub struct Gather {
    /// What is copied.
    pub tables: Vec<Shadow>,
    /// The statement, over the copies; its parameters are the client's.
    pub sql: String,
}

/// A temporary table that stands for another one.
#[derive(Clone, PartialEq, Debug)]
pub struct Shadow {
    /// Makes it: `CREATE TEMPORARY TABLE … ON COMMIT DROP AS SELECT … WITH NO DATA`. Without
    /// parameters.
    pub create: String,
    /// Runs before `fill`ing or after, as DDL may: a primary key on which the statement's grouping
    /// depends. Empty for none.
    pub constraint: String,
    /// `COPY pg_temp.… FROM STDIN (FORMAT binary)`
    pub copy: String,
    /// What each source runs for its rows; its parameters are the client's.
    pub fetch: String,
    /// Where the rows are.
    pub source: Source,
}

/// Where rows of a [`Shadow`] are.
#[derive(Clone, PartialEq, Debug)]
pub enum Source {
    /// Each shard has some.
    EachShard,
    /// Owners of these keys have all that matter. If a value is not proven to be a key: each shard.
    Owners(Vec<KeySource>),
    /// On the home shard.
    Home,
    /// Every shard has them all.
    AnyShard,
}

/// `UPDATE`, `DELETE` and what else each shard can do to its own rows.
#[derive(Clone, PartialEq, Debug)]
pub struct Each {
    /// What each shard runs; the client's own words.
    pub sql: String,
    /// It returns rows: `RETURNING`.
    pub returns: bool,
}

/// An `INSERT` whose rows have several owners.
#[derive(Clone, PartialEq, Debug)]
pub struct Split {
    /// What stands before the rows, up to and with `VALUES`.
    pub head: String,
    /// Each row, its parentheses included, and its key.
    pub rows: Vec<(String, RowKey)>,
    /// The key column's type, as PostgreSQL reads it whatever the `search_path`.
    pub key_column: String,
    /// What that is as a key.
    pub key_type: KeyType,
    /// What stands behind the rows: `ON CONFLICT`, `RETURNING`.
    pub tail: String,
    /// It returns rows.
    pub returns: bool,
    /// Each row of `VALUES` returns exactly one, so that theirs can be put in the order of `VALUES`.
    pub returns_each: bool,
}

/// The key of a row in a [`Split`].
#[derive(Clone, PartialEq, Debug)]
pub enum RowKey {
    /// It stands there.
    Known(KeySource),
    /// A server has to compute it first; it comes to the same on each.
    Computed {
        /// The expression.
        sql: String,
        /// The parameters in it. One in text format that [`tells_the_time`](super::tells_the_time) must
        /// be refused.
        parameters: Vec<u16>,
    },
}

impl Split {
    /// What a shard runs that owns these of the rows.
    pub fn text(&self, rows: impl IntoIterator<Item = usize>) -> String {
        let mut text = self.head.clone();
        for (nth, row) in rows.into_iter().filter_map(|row| self.rows.get(row)).enumerate() {
            text.push_str(if nth == 0 { " " } else { ", " });
            text.push_str(&row.0);
        }
        if !self.tail.is_empty() {
            text.push(' ');
            text.push_str(&self.tail);
        }
        text
    }
}

/// A write to a reference table.
#[derive(Clone, PartialEq, Debug)]
pub enum Replicate {
    /// Every shard runs the same words: nothing in them can come out differently, unless a parameter
    /// in text format [`tells_the_time`](super::tells_the_time): with one that does, the statement
    /// must be refused. Any one shard's answer is the answer.
    Same(Each),
    /// One shard runs the client's words, and the others are given its rows as they came out: defaults,
    /// sequences and volatile functions are evaluated once. It must be the home shard, always: only
    /// there do the table's sequences count.
    Insert {
        /// The client's `INSERT`, `UPDATE` or `DELETE`, returning all columns in the table's order. Its
        /// command tag is the client's.
        first: String,
        /// What the others do with the rows, `INSERT INTO t (a, b …) … FROM unnest(` for instance, up to
        /// the `unnest`'s arguments, which are one array parameter a column, from `$1` on. Where there
        /// are no rows there is nothing to do.
        others_head: String,
        /// Behind the arguments.
        others_tail: String,
        /// How many columns the table has.
        columns: usize,
        /// What the client's own `RETURNING` asks for: a statement over the rows, in pieces; empty if
        /// it returns nothing.
        returning: Vec<Piece>,
    },
}
