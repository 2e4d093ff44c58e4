//! The outcome of analysis: what routing and sessions need to know of a statement's text,
//! whatever its literals and parameters are.

use std::ops::Range;

/// How a shard key's column is typed; decides how text and binary values become a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyType {
    /// `smallint`, `integer`, `bigint`.
    Integer,
    /// `text`, `varchar` (deterministic collation).
    Text,
    /// `uuid`.
    Uuid,
}

/// What one client message's SQL text means. A simple query may hold several statements.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Shape {
    /// In the order of the text; empty for an empty query.
    pub statements: Vec<Statement>,
    /// The prepared statements it is about.
    pub mentions: Mentions,
}

/// Which of the session's prepared statements a text is about: a server has to have these, by the
/// client's own names, before it runs there.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Mentions {
    /// Those it prepares, executes or deallocates.
    pub names: Vec<String>,
    /// The last one it executes.
    pub execution: Option<Execution>,
    /// `pg_prepared_statements`: all of them.
    pub all: bool,
}

impl Mentions {
    /// Is it about none?
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.all
    }
}

/// `EXECUTE name (…)`, by itself or within `EXPLAIN` or `CREATE TABLE … AS`.
#[derive(Clone, PartialEq, Debug)]
pub struct Execution {
    /// The prepared statement.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// It is the query of a `CREATE TABLE … AS`.
    pub into_table: bool,
}

/// An argument of an `EXECUTE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Argument {
    /// The n-th literal the lexer lifted (from 0).
    Literal(u32),
    /// `-` before the n-th literal.
    NegatedLiteral(u32),
    /// `NULL`.
    Null,
    /// Any other expression: its value is the server's to know.
    Expression,
}

/// What SQL's `PREPARE name (types) AS statement` prepares.
#[derive(Clone, PartialEq, Debug)]
pub struct Preparation {
    /// As PostgreSQL would look it up.
    pub name: String,
    /// The types' OIDs as far as they are known: 0 where the server infers the type
    /// (`unknown`), [`Preparation::OTHER_TYPE`] for any other.
    pub types: Vec<u32>,
    /// How many parameters it has.
    pub parameters: usize,
    /// What it prepares; its literals are counted in the whole text.
    pub inner: Statement,
}

impl Preparation {
    /// No type's OID.
    pub const OTHER_TYPE: u32 = u32::MAX;
}

/// One statement.
#[derive(Clone, PartialEq, Debug)]
pub struct Statement {
    /// What it does to the session, if anything.
    pub kind: Kind,
    /// Which data it touches.
    pub target: Target,
    /// Whether it may write.
    pub access: Access,
    /// Why the session must keep its server connection once this has run.
    pub pin: Option<Pin>,
    /// On a replica it would not be what it is on the primary, although it may change nothing: a lock that
    /// is each server's own, a table that replicas do not have.
    pub at_primary: bool,
}

/// What a statement is to the session that runs it. Anything whose only effect is on data is
/// [`Kind::Query`] or [`Kind::Write`].
#[derive(Clone, PartialEq, Debug)]
pub enum Kind {
    /// `SELECT`, `VALUES`, `TABLE`, `SHOW` of a server's parameter, `FETCH`, `EXPLAIN` …
    Query,
    /// `INSERT`, `UPDATE`, `DELETE`, `MERGE`, and `WITH` that has one of them.
    Write,
    /// `COPY … FROM STDIN`.
    CopyIn,
    /// `COPY … TO STDOUT`.
    CopyOut,
    /// `BEGIN`, `START TRANSACTION`; characteristics are replayed from the text.
    Begin,
    /// `COMMIT`, `END`.
    Commit {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`.
    Rollback {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// `SAVEPOINT name`.
    Savepoint(String),
    /// `ROLLBACK TO [SAVEPOINT] name`.
    RollbackTo(String),
    /// `RELEASE [SAVEPOINT] name`.
    Release(String),
    /// `SET TRANSACTION …`, `SET CONSTRAINTS …`: part of the transaction, replayed on its shards.
    SetTransaction,
    /// `SET [SESSION|LOCAL] name …`, `SET TIME ZONE`, `SET NAMES`, `SET ROLE`,
    /// `SET SESSION AUTHORIZATION`, `SET SESSION CHARACTERISTICS`.
    Set {
        /// The parameter's name, lower case: `timezone`, `client_encoding`, `role`,
        /// `session_authorization`, `search_path`, `pgring.key` … `SET SESSION CHARACTERISTICS AS
        /// TRANSACTION` is `session characteristics` (no parameter has a space in its name), its
        /// value the modes. Of `timezone` the value is what `SET TIME ZONE` takes.
        name: String,
        /// `SET LOCAL`: ends with the transaction.
        local: bool,
        /// `SET name TO DEFAULT`: as `RESET name`.
        default: bool,
        /// Where the value stands. The text between, verbatim, is what `SET name TO …` takes.
        value: Option<ValueSlot>,
    },
    /// `RESET name`.
    Reset {
        /// Lower case, as in [`Kind::Set`].
        name: String,
    },
    /// `RESET ALL`.
    ResetAll,
    /// `SELECT set_config(name, value, is_local), …` and nothing else: names and the third
    /// arguments constant, the values constants or parameters.
    SetConfig(Vec<ConfigCall>),
    /// `SHOW name` where the name starts with `pgring.`: answered by pgring.
    ShowOwn(String),
    /// `DISCARD ALL`.
    DiscardAll,
    /// `DISCARD PLANS | SEQUENCES | TEMP`.
    Discard,
    /// SQL-level `PREPARE name AS …`.
    Prepare(Box<Preparation>),
    /// SQL-level `EXECUTE name (…)`.
    Execute(String),
    /// SQL-level `DEALLOCATE name`; `None` is `ALL`.
    Deallocate(Option<String>),
    /// `LISTEN` (the session is pinned), `UNLISTEN`.
    Listen,
    /// `DECLARE name …`: a cursor inside the transaction.
    Declare(String),
    /// `CREATE`, `ALTER`, `DROP`, `TRUNCATE` …: the schema is read again after it.
    Ddl,
    /// `VACUUM`, `ANALYZE`, `REINDEX`, `CREATE INDEX CONCURRENTLY` …
    Maintenance,
    /// `DO`: its code can be looked at, not followed.
    Block,
    /// `PREPARE TRANSACTION`, `COMMIT PREPARED`, `ROLLBACK PREPARED`.
    TwoPhase,
    /// Everything else: no effect a session need know.
    Other,
}

/// One `set_config(name, value, is_local)`. The name is a literal of the text whose contents are
/// part of the fingerprint.
#[derive(Clone, PartialEq, Debug)]
pub struct ConfigCall {
    /// Lower case.
    pub name: String,
    /// The third argument.
    pub local: bool,
    /// The second argument.
    pub value: ValueSlot,
}

/// Where a value stands in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueSlot {
    /// The n-th literal the lexer lifted (from 0).
    Literal(u32),
    /// `$n` (from 1).
    Param(u16),
    /// Anything else that is not one literal (an identifier, a list): the text of tokens
    /// `first..last` as counted by the lexer over the whole text.
    Tokens(u32, u32),
}

/// Whether a statement may write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Proven to read only.
    Read,
    /// May write.
    Write,
}

/// Which data a statement touches; what decides where it may run.
#[derive(Clone, PartialEq, Debug)]
pub enum Target {
    /// No table at all: `SELECT 1`, `BEGIN`, `SET`.
    Nothing,
    /// System catalogs only.
    Catalog,
    /// Tables that are not sharded (and perhaps catalogs and reference tables).
    Home,
    /// Only reference tables.
    Reference,
    /// Every sharded table's key is known; the owners of all these keys together hold every
    /// row the statement can touch. `colocated`: the statement is the union of what each owner
    /// answers, so that it can be merged or split. (With one owner it does not matter.)
    /// With `home`, tables of the home shard are touched too.
    Keys {
        /// In no order; never empty.
        keys: Vec<KeySource>,
        /// Whether several owners can answer apart.
        colocated: bool,
        /// Tables of the home shard stand beside the sharded ones.
        home: bool,
    },
    /// A sharded table's key is not known; or a reference table is written by rows of other tables,
    /// which no key says anything of: then the names are empty.
    Everywhere {
        /// The table whose key is missing, for the hint.
        table: String,
        /// Its key column, for the hint.
        column: String,
        /// The statement is the union of what each shard answers.
        colocated: bool,
        /// Tables of the home shard stand beside the sharded ones.
        home: bool,
    },
    /// DDL and maintenance on sharded or reference objects: each shard has to run it.
    EachShard,
    /// Not to be run without a hint: (message, hint).
    Refused(String, String),
}

impl Target {
    /// Every copy of a reference table is written, by rows of other tables.
    pub(super) fn copies(home: bool) -> Target {
        Target::Everywhere { table: String::new(), column: String::new(), colocated: false, home }
    }
}

/// Where a key's value comes from.
#[derive(Clone, PartialEq, Debug)]
pub struct KeySource {
    /// Where it stands.
    pub slot: KeySlot,
    /// The type it is compared as, or stored as.
    pub key_type: KeyType,
}

/// Where a key's value stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeySlot {
    /// The n-th literal the lexer lifted (from 0).
    Literal(u32),
    /// `-` before the n-th literal.
    NegatedLiteral(u32),
    /// An array literal, `'{1,2}'`: each element.
    LiteralArray(u32),
    /// `$n` (from 1).
    Param(u16),
    /// `= ANY($n)`: each element.
    ParamArray(u16),
    /// Known to be NULL: no row, or (in an `INSERT`) refused.
    Null,
}

/// Why a session must keep its server connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pin {
    /// `CREATE TEMP TABLE` and its kin.
    TemporaryTable,
    /// `LISTEN`.
    Listen,
    /// `DECLARE … WITH HOLD`.
    HoldCursor,
    /// `pg_advisory_lock` and its kin that last beyond the transaction.
    AdvisoryLock,
    /// `LOAD`.
    Load,
    /// A setting whose value only the server knows (`set_config` of an expression).
    Setting,
    /// `currval()` and `lastval()`: what they tell is the connection's.
    Sequence,
    /// `setseed()`.
    Seed,
    /// What replication and backups keep with a connection: its origin, temporary slots, a backup begun.
    Replication,
    /// A `DO` block whose code may leave something behind.
    Code,
    /// Code that may do anything and usually does not: what it has left is looked for.
    Call,
    /// Functions that the catalogs tell of: what those may leave is looked for.
    Suspect,
    /// What cannot be read at all.
    Unread,
}

/// A literal or a token as it lies in the text.
pub type Span = Range<u32>;
