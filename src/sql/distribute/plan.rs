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
    /// Each shard changes its own rows, by rows of others that it is given.
    Supply(Supply),
    /// Rows are read, and inserted where they belong.
    Transfer(Transfer),
    /// Rows that a change returns are worked on by a query.
    Fold(Fold),
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

impl Merge {
    /// Are all rows of the shards rows of the answer, however they come?
    pub fn is_in_any_order(&self) -> bool {
        self.sort.is_empty() && self.limit.is_none() && self.offset.is_none()
    }
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
    /// `variance` and its kin, of integers and `numeric`: from sums of the values and of their squares,
    /// which is all that PostgreSQL keeps of these, too (`numeric_stddev_internal`). Those of
    /// floating-point numbers it works out in the order of the rows: that needs a [`Gather`].
    Spread {
        /// Counts.
        count: usize,
        /// Sums.
        sum: usize,
        /// Sums of squares, as `numeric`.
        squares: usize,
        /// `_samp`
        sample: bool,
        /// `stddev`
        root: bool,
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

/// Which shards make a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writers {
    /// Those that own the rows: each its own.
    Owners,
    /// The home shard.
    Home,
    /// All of them alike: it is a reference table.
    Copies,
}

/// An `UPDATE`, `DELETE` or `MERGE` in which tables that its shards do not have, or not all of, are
/// replaced by their rows. These are parameters, not temporary tables: a transaction that has touched
/// one cannot be prepared.
#[derive(Clone, PartialEq, Debug)]
pub struct Supply {
    /// What is read first.
    pub tables: Vec<Supplied>,
    /// The statement: behind the client's parameters come the columns of the tables, an array each.
    pub sql: String,
    /// How many parameters the client's own statement has.
    pub parameters: u16,
    /// Who runs it.
    pub writers: Writers,
    /// It returns rows.
    pub returns: bool,
}

/// A table, or a sub-query of the statement's own, whose rows are read for a [`Supply`].
#[derive(Clone, PartialEq, Debug)]
pub struct Supplied {
    /// What each source runs; its parameters are the client's.
    pub fetch: String,
    /// How many columns that has.
    pub columns: usize,
    /// Where the rows are. `None`: it is a sub-query, to be answered like any query, if it is one by
    /// itself: then nothing in it belongs to the statement around it.
    pub source: Option<Source>,
}

/// An `INSERT` of what a query yields.
#[derive(Clone, PartialEq, Debug)]
pub struct Transfer {
    /// The query, in the client's own words; its parameters are the client's.
    pub query: String,
    /// What stands before it: `INSERT INTO t (a, b)`.
    pub head: String,
    /// What stands behind it: `ON CONFLICT`, `RETURNING`.
    pub tail: String,
    /// Who inserts.
    pub writers: Writers,
    /// Of an `INSERT` by owners: the place of the key in the query's columns, and how it is typed.
    pub key: Option<(usize, KeyType)>,
    /// What a column has to be cast to, as it is a constant without a type: by the column's place.
    pub casts: Vec<(usize, String)>,
    /// It returns rows.
    pub returns: bool,
    /// Each row of the query returns exactly one.
    pub returns_each: bool,
}

impl Transfer {
    /// What a shard runs, where the query has so many columns and the client's statement so many
    /// parameters: behind these comes an array of each column's values.
    pub fn text(&self, columns: usize, parameters: usize) -> String {
        let cast = |at: usize| self.casts.iter().find(|(cast, _)| *cast == at).map(|(_, name)| name);
        let selected: Vec<String> = (0..columns)
            .map(|at| match cast(at) {
                Some(name) => format!("pgring_given.c{}::{name}", at + 1),
                None => format!("pgring_given.c{}", at + 1),
            })
            .collect();
        let given = given("pgring_given", columns, parameters);
        format!("{} SELECT {} FROM {given} {}", self.head, selected.join(", "), self.tail)
    }
}

/// A query over the rows that a change in its `WITH` returns.
#[derive(Clone, PartialEq, Debug)]
pub struct Fold {
    /// The change; its parameters are the client's.
    pub change: String,
    /// The query up to the change.
    pub before: String,
    /// The query behind it.
    pub behind: String,
}

impl Fold {
    /// The query over rows whose columns have these names, where the client's statement has so many
    /// parameters: behind these comes an array of each column's values.
    pub fn text(&self, names: &[String], parameters: usize) -> String {
        let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
        let column = |(at, name): (usize, &String)| format!("pgring_given.c{} AS {}", at + 1, quoted(name));
        let columns: Vec<String> = names.iter().enumerate().map(column).collect();
        let given = given("pgring_given", names.len(), parameters);
        format!("{} SELECT {} FROM {given} {}", self.before, columns.join(", "), self.behind)
    }
}

/// Rows as a relation of this name with the columns `c1`, `c2` …: an array parameter each, behind so
/// many others.
pub(super) fn given(name: &str, columns: usize, parameters: usize) -> String {
    let list = |start: &str, from: usize| {
        let names: Vec<String> = (1..=columns).map(|number| format!("{start}{}", from + number)).collect();
        names.join(", ")
    };
    // With several arguments it is a form of syntax, not a name that is looked up.
    let function = if columns == 1 { "pg_catalog.unnest" } else { "unnest" };
    format!("{function}({}) AS {name} ({})", list("$", parameters), list("c", 0))
}
