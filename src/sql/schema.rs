//! What the shards' catalogs say about tables and functions, as one immutable snapshot.
//!
//! Analysis trusts a snapshot blindly: a table it does not hold is taken for one of the home
//! shard. So whoever reads it must list every table, view and sequence outside the system
//! schemas, partitions too, and every table the configuration names even while it does not
//! exist yet (a `CREATE TABLE` asks the snapshot whether it is to be sharded). View
//! definitions must be read with an empty `search_path`, which makes `pg_get_viewdef` qualify
//! every name. A snapshot that is behind the catalogs is told apart by its epoch.

use std::collections::{HashMap, HashSet};

use super::{KeyType, Suspects, Volatility};
use std::sync::Arc;

/// An immutable snapshot of a database's tables and functions.
#[derive(Debug, Default)]
pub struct Schema {
    /// Grows with each snapshot; part of the plan cache's key.
    pub epoch: u64,
    one_shard: bool,
    tables: Vec<Table>,
    by_name: HashMap<String, Vec<usize>>,
    functions: HashMap<String, Vec<Function>>,
    aggregates: HashSet<String>,
    suspects: Arc<Suspects>,
    /// By the table's name as the configuration writes it: with its schema, or of any schema.
    configured: HashMap<String, Configured>,
    /// Operators that call a user's function which is not immutable, and that function. None of them has
    /// the name of one of PostgreSQL's own.
    operators: HashMap<String, String>,
    casts: Vec<CallingCast>,
    volatility: Arc<Volatility>,
    /// Of a database with one shard: what only reads is to be proven.
    proves_reads: bool,
}

/// A table, view or sequence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// The schema it is in.
    pub schema: String,
    /// Its name within the schema.
    pub name: String,
    /// In the order of `attnum`, dropped ones left out.
    pub columns: Vec<String>,
    /// Where its rows are.
    pub kind: TableKind,
    /// What statements for several shards have to know beside that.
    pub detail: TableDetail,
}

/// What the catalogs say of a table that routing alone does not need.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TableDetail {
    /// Parallel to [`Table::columns`]; empty where it is not known.
    pub columns: Vec<ColumnDetail>,
    /// The primary key's columns, as indexes in [`Table::columns`]; empty without one.
    pub primary_key: Vec<usize>,
    /// Parallel to [`Table::columns`]; empty where it is not known.
    pub carriage: Vec<Carriage>,
    /// Parallel to [`Table::columns`]; empty where it is not known.
    pub giving: Vec<Giving>,
    /// To read it is to read what it is made of, whoever reads: a table has no row security and is
    /// not foreign, a view is not materialized. `false` where it is not known.
    pub transparent: bool,
    /// Triggers or rules may do something else than a statement says.
    pub has_triggers: bool,
    /// It has rules, which make other statements of one that writes to it.
    pub has_rules: bool,
    /// Columns whose default calls a function of a user's that is not immutable, and that function.
    pub calling_defaults: Vec<(String, String)>,
    /// It is unlogged, or a part of it is: replicas do not have its rows.
    pub unlogged: bool,
}

/// What the catalogs say of a column.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ColumnDetail {
    /// As `format_type` shows it with an empty `search_path`: `numeric(10,2)`, `public.mood`.
    pub type_name: String,
    /// It is a type of PostgreSQL's own, with the same OID everywhere, and so are its elements.
    pub builtin: bool,
    /// How its values are ordered, if it is a text.
    pub text_order: TextOrder,
    /// Its collation is the database's default one, or it has none.
    pub default_collation: bool,
    /// `NOT NULL`
    pub not_null: bool,
    /// The default's text, or a generated column's expression.
    pub default: Option<String>,
    /// `GENERATED ALWAYS AS (…) STORED`: cannot be written.
    pub generated: bool,
    /// `GENERATED … AS IDENTITY`
    pub identity: bool,
}

/// How a column's values travel from one server to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Carriage {
    /// In binary form: it means the same everywhere.
    Binary,
    /// As an array of texts: it is an array of an enumeration, and the binary form holds the number
    /// that each server gave that type.
    AsTexts,
    /// Not at all: it holds such numbers, or has no binary form.
    Never,
}

/// How a column's values are given to another server as elements of one array.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Giving {
    /// As what the type is made of: it is one of PostgreSQL's own, or a domain over one.
    Bare,
    /// As a text, cast there: it is an enumeration, which has another number on each server.
    Label,
    /// Not at all.
    Never,
}

/// How a column's values are ordered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TextOrder {
    /// It is no text: its type says.
    ByType,
    /// By their bytes: collation `C`, `POSIX`, `ucs_basic`, `C.UTF-8` of the builtin provider or of
    /// libc.
    Bytes,
    /// As a language does; equal is still identical.
    Language,
    /// Different texts may be equal.
    Nondeterministic,
}

/// Where a table's rows are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TableKind {
    /// Each row on its key's owner.
    Sharded {
        /// The key column's index in [`Table::columns`].
        key: usize,
        /// How it is typed.
        key_type: KeyType,
    },
    /// The same rows on every shard.
    Reference,
    /// On the home shard.
    Home,
    /// Wherever its definition's tables are.
    View {
        /// What `pg_get_viewdef` says under an empty `search_path`.
        definition: String,
    },
    /// On the home shard.
    Sequence,
}

/// What the configuration says of a table, whether it is there or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Configured {
    /// Sharded by this column.
    Key(String),
    /// The same rows on every shard.
    Reference,
}

/// A cast that calls a user's function which is not immutable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CallingCast {
    /// The bare name of the type that is cast.
    pub source: String,
    /// The bare name of the type that it is cast to, as the catalogs have it: `int4`.
    pub target: String,
    /// When it is done.
    pub when: CastWhen,
    /// The function.
    pub function: String,
}

/// When PostgreSQL applies a cast.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CastWhen {
    /// Where it is written.
    Said,
    /// When a value is stored, too.
    Stored,
    /// Wherever it fits.
    Anywhere,
}

/// A function that is neither PostgreSQL's own nor an extension's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// The schema it is in.
    pub schema: String,
    /// Its name within the schema.
    pub name: String,
    /// Declared `IMMUTABLE`: it reads no table.
    pub immutable: bool,
}

impl Schema {
    /// A snapshot of a database with several shards.
    pub fn new(epoch: u64, tables: Vec<Table>, functions: Vec<Function>) -> Schema {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, table) in tables.iter().enumerate() {
            by_name.entry(table.name.clone()).or_default().push(index);
        }
        let mut by_function: HashMap<String, Vec<Function>> = HashMap::new();
        for function in functions {
            by_function.entry(function.name.clone()).or_default().push(function);
        }
        let aggregates = HashSet::new();
        Schema {
            epoch,
            one_shard: false,
            tables,
            by_name,
            functions: by_function,
            aggregates,
            suspects: Arc::default(),
            configured: HashMap::new(),
            operators: HashMap::new(),
            casts: Vec::new(),
            volatility: Arc::default(),
            proves_reads: false,
        }
    }

    /// With the operators and casts that call users' functions which are not immutable.
    pub fn with_calling(
        self,
        operators: impl IntoIterator<Item = (String, String)>,
        casts: Vec<CallingCast>,
    ) -> Schema {
        Schema { operators: operators.into_iter().collect(), casts, ..self }
    }

    /// The function that an operator of this name calls, if it is a user's and not immutable.
    pub fn called_by_operator(&self, name: &str) -> Option<&str> {
        self.operators.get(name).map(String::as_str)
    }

    /// Whether any operator or cast calls such a function.
    pub fn has_calling(&self) -> bool {
        !self.operators.is_empty() || !self.casts.is_empty()
    }

    /// The casts that do.
    pub fn calling_casts(&self) -> &[CallingCast] {
        &self.casts
    }

    /// With what the configuration says of tables, by their names as it writes them.
    pub fn with_configured(self, tables: impl IntoIterator<Item = (String, Configured)>) -> Schema {
        Schema { configured: tables.into_iter().collect(), ..self }
    }

    /// What the configuration says of a table of this name that is in one of these schemas, or will be
    /// made there. A name without a schema is a table's in any schema.
    pub fn configured<'s>(
        &self,
        schemas: impl IntoIterator<Item = &'s String>,
        name: &str,
    ) -> Option<&Configured> {
        if self.configured.is_empty() {
            return None;
        }
        let mut schemas = schemas.into_iter();
        let qualified = schemas.find_map(|schema| self.configured.get(&format!("{schema}.{name}")));
        qualified.or_else(|| self.configured.get(name))
    }

    /// With the names of all aggregates and window functions, PostgreSQL's own and extensions'
    /// included.
    pub fn with_aggregates(self, names: impl IntoIterator<Item = String>) -> Schema {
        Schema { aggregates: names.into_iter().collect(), ..self }
    }

    /// With what is known of functions that leave something on their server.
    pub fn with_suspects(self, suspects: Arc<Suspects>) -> Schema {
        Schema { suspects, ..self }
    }

    /// With what may write by being called.
    pub fn with_volatility(self, volatility: Arc<Volatility>) -> Schema {
        Schema { volatility, ..self }
    }

    /// What may write by being called.
    pub(super) fn volatility(&self) -> &Volatility {
        &self.volatility
    }

    /// Is every function of this name declared not to write? `false` may mean that it is not known.
    pub fn is_steady(&self, name: &str) -> bool {
        self.volatility.is_steady(name)
    }

    /// The same tables and functions on one shard: statements are looked at for whether they only
    /// read, and for nothing else.
    pub fn to_prove_reads(self) -> Schema {
        Schema { one_shard: true, proves_reads: true, ..self }
    }

    /// Is it to be proven which statements only read?
    pub fn proves_reads(&self) -> bool {
        self.proves_reads || !self.one_shard
    }

    /// Functions that may leave something on their server, and who calls them.
    pub fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// A database with one shard: nothing is sharded and everything may be passed on.
    pub fn one_shard() -> Schema {
        Schema { one_shard: true, ..Schema::default() }
    }

    /// May everything be passed on?
    pub fn is_one_shard(&self) -> bool {
        self.one_shard
    }

    /// The table of this name in this schema; both as the catalogs spell them.
    pub fn table(&self, schema: &str, name: &str) -> Option<&Table> {
        self.named(name).find(|table| table.schema == schema)
    }

    /// Every table of this name, whatever its schema.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Table> {
        self.by_name.get(name).into_iter().flatten().filter_map(|index| self.tables.get(*index))
    }

    /// How keys are typed: as the first sharded table's.
    pub fn key_type(&self) -> Option<KeyType> {
        self.tables().find_map(|table| match table.kind {
            TableKind::Sharded { key_type, .. } => Some(key_type),
            _ => None,
        })
    }

    /// All tables, views and sequences.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter()
    }

    /// Are the names of all aggregates known?
    pub fn knows_aggregates(&self) -> bool {
        !self.aggregates.is_empty()
    }

    /// Is this the name of an aggregate or of a window function? `false` may mean that it is not known.
    pub fn is_aggregate(&self, name: &str) -> bool {
        self.aggregates.contains(name)
    }

    /// The functions of this name; overloads and schemas are not told apart.
    pub fn functions_named(&self, name: &str) -> &[Function] {
        self.functions.get(name).map_or(&[], Vec::as_slice)
    }
}

impl Table {
    /// The key column's index, where there is one.
    pub fn key_position(&self) -> Option<usize> {
        match self.kind {
            TableKind::Sharded { key, .. } => Some(key),
            _ => None,
        }
    }

    /// The key column's name, where there is one.
    pub fn key_column(&self) -> Option<&str> {
        match self.kind {
            TableKind::Sharded { key, .. } => self.columns.get(key).map(String::as_str),
            _ => None,
        }
    }
}
