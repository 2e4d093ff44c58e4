//! What the shards' catalogs hold, and what routing makes of it.
//!
//! Reading ([`read`]) and judging ([`Catalog::judge`]) are apart: the first is a few catalog
//! queries in one snapshot, the second a pure function of rows and configuration that a table
//! test can hold. The routing schema comes from the home shard; the other shards' catalogs are
//! compared with it ([`compare`]).
//!
//! What would make routing a guess is a [`SchemaError::Unroutable`] that names every such table
//! at once: a key of a type that has no canonical form, a key column that is missing, a table
//! whose inheritance children live elsewhere than it does.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hasher as _;

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use twox_hash::XxHash3_64;

use crate::config;
use crate::sql::distribute;
use crate::sql::{
    CallingCast, Carriage, CastWhen, ColumnDetail, Configured, Function, Giving, KeyType, Schema, Table,
    TableDetail, TableKind, TextOrder,
};

/// A database's rules: its part of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DatabaseRules {
    /// Every table with this column is sharded by it.
    pub key: Option<String>,
    /// Tables that differ.
    pub tables: Vec<TableRule>,
}

impl From<&config::Database> for DatabaseRules {
    fn from(database: &config::Database) -> DatabaseRules {
        let rule = |table: &config::TableSetting| match &table.key {
            Some(key) => Rule::Key(key.clone()),
            // The validation has seen that it is exactly one of the two.
            None => Rule::Reference,
        };
        let tables =
            database.tables.iter().map(|table| TableRule { name: table.name.clone(), rule: rule(table) });
        DatabaseRules { key: database.key.clone(), tables: tables.collect() }
    }
}

/// `[[database.table]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableRule {
    /// As the catalog spells it; `schema.table`, or a table of that name in any schema.
    pub name: String,
    /// What it is.
    pub rule: Rule,
}

/// How a table differs from the database's rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Sharded by this column.
    Key(String),
    /// The same rows on every shard.
    Reference,
}

/// Why there is no schema to route by.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The catalogs could not be read.
    #[error("the catalogs could not be read: {0}")]
    Query(#[from] tokio_postgres::Error),
    /// An answer that no PostgreSQL gives.
    #[error("the catalogs were not understood: {0}")]
    Nonsense(&'static str),
    /// Tables that cannot be routed, each with what to change.
    #[error("{}", .0.join("; "))]
    Unroutable(Vec<String>),
}

/// A schema to route by.
#[derive(Debug)]
pub struct Discovered {
    /// For analysis.
    pub schema: Schema,
    /// What it was made of, to compare with other shards.
    pub catalog: Catalog,
    /// Worth a line in the log.
    pub warnings: Vec<String>,
    /// Worth a line for who checks a configuration: what runs on servers without a word in the statement.
    pub notes: Vec<String>,
}

/// Reads a shard's catalogs and judges them.
pub async fn discover(client: &Client, rules: &DatabaseRules, epoch: u64) -> Result<Discovered, SchemaError> {
    read(client).await?.judge(rules, epoch)
}

/// A shard's relations and functions, sorted by schema and name.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Catalog {
    /// The database's encoding: `UTF8`.
    pub encoding: String,
    /// The database's default collation: `en_US.UTF-8`.
    pub collation: String,
    relations: Vec<Relation>,
    routines: Vec<Routine>,
    /// The names of all aggregates and window functions, whoever's they are.
    aggregates: Vec<String>,
    /// Operators that call users' functions which are not immutable, and those functions.
    operators: Vec<(String, String)>,
    /// The same of those that are named as one of PostgreSQL's own.
    homonyms: Vec<(String, String)>,
    /// Casts that do.
    casts: Vec<CallingCast>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Relation {
    schema: String,
    name: String,
    class: Class,
    columns: Vec<Column>,
    /// Indexes in the catalog's relations.
    parents: Vec<usize>,
    /// Its columns run parallel to `columns`.
    detail: TableDetail,
    /// Its checks that call users' functions which are not immutable, and those functions.
    calling_checks: Vec<(String, String)>,
}

/// A function, procedure or aggregate that is no extension's; overloads taken together.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Routine {
    schema: String,
    name: String,
    immutable: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Class {
    Table,
    Foreign,
    /// Materialized ones too: their rows are what the definition gave on the shard they are on.
    View(String),
    Sequence,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Column {
    name: String,
    /// As `format_type` shows it: `numeric(10,2)`.
    shown: String,
    /// Where it can be a key's type. Domains are resolved.
    key_type: Option<KeyType>,
    /// Empty where the type has none.
    collation: String,
    deterministic: bool,
    not_null: bool,
}

impl Relation {
    fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn column(&self, name: &str) -> Option<(usize, &Column)> {
        self.columns.iter().enumerate().find(|(_, column)| column.name == name)
    }
}

/// One simple query is one transaction, and `SET TRANSACTION` in front makes it one snapshot.
/// `pg_get_viewdef` qualifies what the search path does not find: with an empty one, everything.
/// pgring's own tables are left out: no statement of a client is routed by them.
///
/// Columns that not every version's catalogs have are looked up in the row as a JSON object. Below
/// 10000 are the OIDs that PostgreSQL's sources assign, which are the same in every version. A
/// trigger that PostgreSQL itself made, for a foreign key or a deferrable one, has a constraint; a
/// partition's copy of its parent's has none.
///
/// `unportable` are the types whose binary form holds OIDs, or that have none: `regclass` and its kin,
/// arrays and composites of types whose OIDs each server gave out itself (`array_send` and
/// `record_send` write them), and whatever is made of such a type.
const QUERY: &str = r"
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET LOCAL search_path = '';
SELECT pg_encoding_to_char(d.encoding), coalesce(to_jsonb(d)->>'datlocprovider', 'c'),
       coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale', d.datcollate)
  FROM pg_database d WHERE datname = current_database();
SELECT c.oid, n.nspname, c.relname, c.relkind,
       CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
       EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid
                  AND (NOT t.tgisinternal OR t.tgconstraint = 0)),
       c.relkind IN ('r', 'p', 'v') AND NOT c.relrowsecurity,
       c.relpersistence = 'u',
       EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type <> '1')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgring')
   AND n.nspname !~ '^pg_(toast_)?temp_'
 ORDER BY n.nspname, c.relname;
WITH RECURSIVE domain(oid, base) AS (
  SELECT oid, typbasetype FROM pg_type WHERE typtype = 'd'
  UNION ALL
  SELECT d.oid, t.typbasetype FROM domain d JOIN pg_type t ON t.oid = d.base WHERE t.typtype = 'd'),
part(whole, part, sent) AS (
  SELECT oid, typbasetype, false FROM pg_type WHERE typtype = 'd'
  UNION ALL
  SELECT oid, typelem, true FROM pg_type WHERE typelem <> 0 AND typlen = -1
  UNION ALL
  SELECT rngtypid, rngsubtype, false FROM pg_range
  UNION ALL
  SELECT (to_jsonb(r)->>'rngmultitypid')::oid, rngtypid, false FROM pg_range r
  UNION ALL
  SELECT c.reltype, a.atttypid, true FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
   WHERE c.reltype <> 0 AND a.attnum > 0 AND NOT a.attisdropped),
unportable(oid) AS (
  SELECT oid FROM pg_type WHERE typsend = 0 OR typreceive = 0 OR (oid < 10000 AND typname ~ '^reg')
  UNION
  SELECT whole FROM part WHERE sent AND part >= 10000
  UNION
  SELECT p.whole FROM unportable u JOIN part p ON p.part = u.oid)
SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod),
       b.typname, b.typnamespace = 'pg_catalog'::regnamespace,
       coalesce(l.collname, ''), coalesce(l.collisdeterministic, true), a.attnotnull,
       l.collprovider,
       coalesce(to_jsonb(l)->>'colllocale', to_jsonb(l)->>'colliculocale', l.collcollate),
       t.oid < 10000 AND t.typtype IN ('b', 'r', 'm') AND t.typname !~ '^_?reg'
       AND t.typsend <> 0 AND t.typreceive <> 0,
       pg_get_expr(f.adbin, f.adrelid), a.attgenerated <> '', a.attidentity <> '',
       u.oid IS NULL, coalesce(e.typtype = 'e', false),
       CASE WHEN b.typtype = 'e' THEN 'label'
            WHEN u.oid IS NULL AND b.oid < 10000 AND b.typtype IN ('b', 'r', 'm') AND b.typcategory <> 'A'
            THEN 'bare' ELSE 'never' END
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN (SELECT d.oid, d.base FROM domain d JOIN pg_type t ON t.oid = d.base AND t.typtype <> 'd') d
    ON d.oid = a.atttypid
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = coalesce(d.base, a.atttypid)
  LEFT JOIN pg_collation l ON l.oid = a.attcollation
  LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
  LEFT JOIN (SELECT DISTINCT oid FROM unportable) u ON u.oid = a.atttypid
  LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typlen = -1
 WHERE a.attnum > 0 AND NOT a.attisdropped
   AND c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgring')
   AND n.nspname !~ '^pg_(toast_)?temp_'
 ORDER BY a.attrelid, a.attnum;
SELECT i.indrelid, a.attname
  FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, position)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
 WHERE i.indisprimary AND i.indisvalid AND i.indimmediate
 ORDER BY i.indrelid, k.position;
SELECT i.inhrelid, i.inhparent FROM pg_inherits i ORDER BY i.inhrelid, i.inhseqno;
SELECT n.nspname, p.proname, bool_and(p.provolatile = 'i' AND NOT EXISTS (
         SELECT FROM pg_aggregate a JOIN pg_proc f ON f.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn,
                a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
          WHERE a.aggfnoid = p.oid AND f.provolatile <> 'i'))
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgring')
   AND n.nspname !~ '^pg_(toast_)?temp_'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                    AND d.objid = p.oid AND d.deptype = 'e')
 GROUP BY n.nspname, p.proname ORDER BY n.nspname, p.proname;
SELECT DISTINCT p.proname FROM pg_proc p WHERE p.prokind IN ('a', 'w') ORDER BY p.proname;
WITH calling(oid, proname) AS (
  SELECT p.oid, p.proname
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
   WHERE p.provolatile <> 'i' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgring')
     AND n.nspname !~ '^pg_(toast_)?temp_'
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                      AND d.objid = p.oid AND d.deptype = 'e')),
uses(classid, objid, proname) AS (
  SELECT d.classid, d.objid, c.proname
    FROM pg_depend d LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
    JOIN calling c ON c.oid = CASE WHEN d.refclassid = 'pg_proc'::regclass THEN d.refobjid ELSE o.oprcode END
   WHERE d.classid IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_type'::regclass))
SELECT 'default', f.adrelid::text, a.attname::text, u.proname::text
  FROM uses u JOIN pg_attrdef f ON u.classid = 'pg_attrdef'::regclass AND f.oid = u.objid
  JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
 WHERE a.attgenerated = ''
UNION
SELECT 'default', a.attrelid::text, a.attname::text, u.proname::text
  FROM uses u JOIN pg_type t ON u.classid = 'pg_type'::regclass AND t.oid = u.objid AND t.typtype = 'd'
  JOIN pg_attribute a ON a.atttypid = t.oid AND NOT a.attisdropped
UNION
SELECT 'check', coalesce(nullif(k.conrelid, 0), a.attrelid)::text, k.conname::text, u.proname::text
  FROM uses u JOIN pg_constraint k ON u.classid = 'pg_constraint'::regclass AND k.oid = u.objid AND k.contype = 'c'
  LEFT JOIN pg_attribute a ON k.contypid <> 0 AND a.atttypid = k.contypid AND NOT a.attisdropped
 WHERE k.conrelid <> 0 OR a.attrelid IS NOT NULL
UNION
SELECT CASE WHEN EXISTS (SELECT FROM pg_operator b WHERE b.oprname = o.oprname AND b.oid < 10000)
            THEN 'homonym' ELSE 'operator' END, '', o.oprname::text, c.proname::text
  FROM pg_operator o JOIN calling c ON c.oid = o.oprcode
UNION
SELECT 'cast ' || k.castcontext::text, s.typname::text, t.typname::text, c.proname::text
  FROM pg_cast k JOIN calling c ON c.oid = k.castfunc
  JOIN pg_type s ON s.oid = k.castsource JOIN pg_type t ON t.oid = k.casttarget
 ORDER BY 1, 2, 3, 4";

/// Who reads a table reads its parts.
fn mark_unlogged(relations: &mut [Relation], at: usize) {
    let Some(relation) = relations.get_mut(at) else { return };
    relation.detail.unlogged = true;
    for parent in relation.parents.clone() {
        mark_unlogged(relations, parent);
    }
}

/// Reads the catalogs of the database the client is connected to. Leaves the session as it was,
/// also when dropped half-way.
pub async fn read(client: &Client) -> Result<Catalog, SchemaError> {
    let mut answers: Vec<Vec<SimpleQueryRow>> = vec![Vec::new()];
    for message in client.simple_query(QUERY).await? {
        match message {
            SimpleQueryMessage::Row(row) => {
                if let Some(rows) = answers.last_mut() {
                    rows.push(row);
                }
            }
            SimpleQueryMessage::CommandComplete(_) => answers.push(Vec::new()),
            _ => {}
        }
    }
    let [_, _, database, relations, columns, keys, parents, routines, aggregates, calling, ..] =
        answers.as_slice()
    else {
        return Err(SchemaError::Nonsense("fewer answers than queries"));
    };
    let database = database.first().ok_or(SchemaError::Nonsense("no row for the current database"))?;
    let (encoding, provider, locale) = (text(database, 0)?, text(database, 1)?, text(database, 2)?);
    let by_default = text_order(encoding, provider, locale);
    let mut catalog = Catalog {
        encoding: encoding.to_owned(),
        collation: match provider {
            "c" => locale.to_owned(),
            provider => format!("{locale} ({})", provider_name(provider)),
        },
        ..Catalog::default()
    };
    let mut by_oid: HashMap<&str, usize> = HashMap::new();
    for row in relations {
        let class = match (text(row, 3)?, row.get(4)) {
            ("S", _) => Class::Sequence,
            ("f", _) => Class::Foreign,
            ("v" | "m", Some(definition)) => Class::View(definition.to_owned()),
            // Dropped by someone since the snapshot was taken.
            ("v" | "m", None) => continue,
            _ => Class::Table,
        };
        by_oid.insert(text(row, 0)?, catalog.relations.len());
        let (schema, name) = (text(row, 1)?.to_owned(), text(row, 2)?.to_owned());
        let detail = TableDetail {
            has_triggers: text(row, 5)? == "t",
            has_rules: text(row, 8)? == "t",
            transparent: text(row, 6)? == "t",
            unlogged: text(row, 7)? == "t",
            ..TableDetail::default()
        };
        let (columns, parents) = (Vec::new(), Vec::new());
        let calling_checks = Vec::new();
        catalog.relations.push(Relation { schema, name, class, columns, parents, detail, calling_checks });
    }
    for row in columns {
        let relation = by_oid.get(text(row, 0)?).and_then(|index| catalog.relations.get_mut(*index));
        let Some(relation) = relation else { continue };
        let own_type = text(row, 4)? == "t";
        let deterministic = text(row, 6)? == "t";
        relation.columns.push(Column {
            name: text(row, 1)?.to_owned(),
            shown: text(row, 2)?.to_owned(),
            key_type: if own_type { key_type(text(row, 3)?) } else { None },
            collation: text(row, 5)?.to_owned(),
            deterministic,
            not_null: text(row, 7)? == "t",
        });
        let text_order = match row.get(8) {
            None => TextOrder::ByType,
            // A text with an order of its own, as `citext`.
            Some(_) if !own_type || !deterministic => TextOrder::Nondeterministic,
            Some("d") => by_default,
            Some(provider) => text_order(encoding, provider, row.get(9).unwrap_or_default()),
        };
        relation.detail.columns.push(ColumnDetail {
            type_name: text(row, 2)?.to_owned(),
            builtin: text(row, 10)? == "t",
            text_order,
            default_collation: matches!(row.get(8), None | Some("d")),
            not_null: text(row, 7)? == "t",
            default: row.get(11).map(str::to_owned),
            generated: text(row, 12)? == "t",
            identity: text(row, 13)? == "t",
        });
        relation.detail.carriage.push(match (text(row, 14)? == "t", text(row, 15)? == "t") {
            (true, _) => Carriage::Binary,
            (false, true) => Carriage::AsTexts,
            (false, false) => Carriage::Never,
        });
        relation.detail.giving.push(match text(row, 16)? {
            "label" => Giving::Label,
            "bare" => Giving::Bare,
            _ => Giving::Never,
        });
    }
    for row in keys {
        // Catalogs have primary keys too.
        let relation = by_oid.get(text(row, 0)?).and_then(|index| catalog.relations.get_mut(*index));
        let Some(relation) = relation else { continue };
        let column = relation.column(text(row, 1)?).map(|(index, _)| index);
        relation.detail.primary_key.push(column.ok_or(SchemaError::Nonsense("a key without its column"))?);
    }
    for row in parents {
        // Indexes of partitioned tables have parents too; they are no relations of ours.
        let (child, parent) = (by_oid.get(text(row, 0)?), by_oid.get(text(row, 1)?));
        let (Some(child), Some(parent)) = (child, parent) else { continue };
        if let Some(relation) = catalog.relations.get_mut(*child) {
            relation.parents.push(*parent);
        }
    }
    for at in 0..catalog.relations.len() {
        if catalog.relations[at].detail.unlogged {
            mark_unlogged(&mut catalog.relations, at);
        }
    }
    for row in routines {
        let (schema, name) = (text(row, 0)?.to_owned(), text(row, 1)?.to_owned());
        catalog.routines.push(Routine { schema, name, immutable: text(row, 2)? == "t" });
    }
    for row in aggregates {
        catalog.aggregates.push(text(row, 0)?.to_owned());
    }
    for row in calling {
        let (whose, name, function) = (text(row, 1)?, text(row, 2)?.to_owned(), text(row, 3)?.to_owned());
        let relation = by_oid.get(whose).and_then(|index| catalog.relations.get_mut(*index));
        let when = match text(row, 0)? {
            "default" => {
                if let Some(relation) = relation {
                    relation.detail.calling_defaults.push((name, function));
                }
                continue;
            }
            "check" => {
                if let Some(relation) = relation {
                    relation.calling_checks.push((name, function));
                }
                continue;
            }
            "operator" => {
                catalog.operators.push((name, function));
                continue;
            }
            "homonym" => {
                catalog.homonyms.push((name, function));
                continue;
            }
            "cast a" => CastWhen::Stored,
            "cast i" => CastWhen::Anywhere,
            _ => CastWhen::Said,
        };
        catalog.casts.push(CallingCast { source: whose.to_owned(), target: name, when, function });
    }
    Ok(catalog)
}

fn text(row: &SimpleQueryRow, column: usize) -> Result<&str, SchemaError> {
    match row.try_get(column) {
        Ok(Some(text)) => Ok(text),
        Ok(None) | Err(_) => Err(SchemaError::Nonsense("a value is missing")),
    }
}

/// How texts are ordered by a collation of this provider and locale, if it is deterministic.
///
/// The C library's `C.UTF-8` goes by code points, which in UTF-8 is by bytes.
fn text_order(encoding: &str, provider: &str, locale: &str) -> TextOrder {
    match (provider, locale) {
        // The builtin provider's locales all go by code points.
        ("c" | "b", "C" | "POSIX") => TextOrder::Bytes,
        ("b", _) | ("c", "C.UTF-8" | "C.utf8") if encoding == "UTF8" => TextOrder::Bytes,
        _ => TextOrder::Language,
    }
}

fn provider_name(provider: &str) -> &str {
    match provider {
        "i" => "ICU",
        "b" => "builtin",
        other => other,
    }
}

/// Of a type in `pg_catalog`.
fn key_type(name: &str) -> Option<KeyType> {
    match name {
        "int2" | "int4" | "int8" => Some(KeyType::Integer),
        "text" | "varchar" => Some(KeyType::Text),
        "uuid" => Some(KeyType::Uuid),
        _ => None,
    }
}

impl Catalog {
    /// Changes whenever anything here does: to notice DDL that did not go through pgring.
    pub fn fingerprint(&self) -> u64 {
        use std::hash::Hash as _;
        let mut hasher = XxHash3_64::with_seed(0);
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// What each table, view and function is to routing.
    pub fn judge(self, rules: &DatabaseRules, epoch: u64) -> Result<Discovered, SchemaError> {
        let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
        for (index, relation) in self.relations.iter().enumerate() {
            for parent in &relation.parents {
                children.entry(*parent).or_default().push(index);
            }
        }
        let mut judge = Judge { catalog: &self, rules, children, problems: Vec::new(), warnings: Vec::new() };
        let mut tables: Vec<Table> =
            (0..self.relations.len()).filter_map(|index| judge.table(index)).collect();
        if judge.problems.is_empty() {
            judge.inheritance(&tables);
        }
        tables.extend(judge.absent());
        let (problems, warnings) = (judge.problems, judge.warnings);
        if !problems.is_empty() {
            return Err(SchemaError::Unroutable(problems));
        }
        let function = |routine: &Routine| Function {
            schema: routine.schema.clone(),
            name: routine.name.clone(),
            immutable: routine.immutable,
        };
        let functions = self.routines.iter().map(function).collect();
        let configured = rules.tables.iter().map(|rule| {
            let said = match &rule.rule {
                Rule::Key(column) => Configured::Key(column.clone()),
                Rule::Reference => Configured::Reference,
            };
            (rule.name.clone(), said)
        });
        let schema = Schema::new(epoch, tables, functions)
            .with_aggregates(self.aggregates.iter().cloned())
            .with_configured(configured)
            .with_calling(self.operators.iter().cloned(), self.casts.clone());
        let notes = self.notes(&schema);
        Ok(Discovered { schema, catalog: self, warnings, notes })
    }
}

impl Catalog {
    /// What PostgreSQL runs without a word of it in the statement, and what is asked of it.
    fn notes(&self, schema: &Schema) -> Vec<String> {
        let mut notes = Vec::new();
        for relation in &self.relations {
            let kind = schema.table(&relation.schema, &relation.name).map(|table| &table.kind);
            if !matches!(kind, Some(TableKind::Sharded { .. } | TableKind::Reference)) {
                continue;
            }
            let name = relation.full_name();
            if relation.detail.has_triggers {
                notes.push(format!(
                    "table {name} has triggers, which pgring does not look into: they may look at and change the row \
                     itself, but neither its key nor, but for rows of the same key, any other table"
                ));
            }
            if relation.detail.has_rules {
                notes.push(format!("table {name} has rules: what writes to it is refused; use triggers"));
            }
            for (column, function) in &relation.detail.calling_defaults {
                if !distribute::makes_ids(function) {
                    notes.push(format!(
                        "the default of {name}.{column} calls {function}(), which may read any table: an INSERT \
                         that does not give {column} is refused; declare the function IMMUTABLE if it reads none"
                    ));
                }
            }
            for (check, function) in &relation.calling_checks {
                notes.push(format!(
                    "check {check} of table {name} calls {function}(), which is not IMMUTABLE: if it reads tables, it \
                     sees the rows of one shard"
                ));
            }
        }
        for (operator, function) in &self.homonyms {
            notes.push(format!(
                "an operator {operator} calls {function}(), which is not IMMUTABLE: pgring does not tell it from \
                 PostgreSQL's own, and if the function reads tables, it sees the rows of one shard"
            ));
        }
        notes
    }
}

struct Judge<'a> {
    catalog: &'a Catalog,
    rules: &'a DatabaseRules,
    /// What inherits from each relation.
    children: HashMap<usize, Vec<usize>>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Judge<'a> {
    /// The configured rule of a table, or else of the nearest that it inherits from.
    fn rule(&self, index: usize) -> Option<&'a TableRule> {
        let mut waiting = VecDeque::from([index]);
        let mut seen = HashSet::from([index]);
        while let Some(relation) = waiting.pop_front().and_then(|index| self.catalog.relations.get(index)) {
            let (full, rules) = (relation.full_name(), &self.rules.tables);
            let qualified = rules.iter().find(|rule| rule.name == full);
            if let Some(rule) = qualified.or_else(|| rules.iter().find(|rule| rule.name == relation.name)) {
                return Some(rule);
            }
            waiting.extend(relation.parents.iter().filter(|parent| seen.insert(**parent)));
        }
        None
    }

    /// One entry for each relation, unless there is a problem.
    fn table(&mut self, index: usize) -> Option<Table> {
        let relation = self.catalog.relations.get(index)?;
        let rule = self.rule(index);
        let kind = match &relation.class {
            Class::Sequence => TableKind::Sequence,
            Class::View(definition) => {
                if let Some(rule) = rule {
                    self.warnings.push(format!(
                        "{} is a view: it is routed by its definition, and [[database.table]] {:?} is not used",
                        relation.full_name(),
                        rule.name
                    ));
                }
                TableKind::View { definition: definition.clone() }
            }
            class @ (Class::Table | Class::Foreign) => match (rule.map(|rule| &rule.rule), &self.rules.key) {
                (Some(Rule::Reference), _) => TableKind::Reference,
                (Some(Rule::Key(column)), _) => self.sharded(relation, column)?,
                (None, Some(column)) if relation.column(column).is_some() => {
                    if *class == Class::Foreign && relation.parents.is_empty() {
                        self.warnings.push(format!(
                            "foreign table {} has the column {column}, but its rows may be the same from \
                             every shard: it is taken as a table of the home shard; if each shard has rows \
                             of its own there, say so with [[database.table]] name and key",
                            relation.full_name()
                        ));
                        TableKind::Home
                    } else {
                        self.sharded(relation, column)?
                    }
                }
                (None, _) => TableKind::Home,
            },
        };
        let columns = relation.columns.iter().map(|column| column.name.clone()).collect();
        Some(Table {
            schema: relation.schema.clone(),
            name: relation.name.clone(),
            columns,
            kind,
            detail: TableDetail {
                has_triggers: relation.detail.has_rules || self.has_triggers(index),
                ..relation.detail.clone()
            },
        })
    }

    /// Its own triggers, or those of a child whose rows a statement on it may touch.
    fn has_triggers(&self, index: usize) -> bool {
        let mut waiting = vec![index];
        let mut seen = HashSet::from([index]);
        while let Some(index) = waiting.pop() {
            let acts = |relation: &Relation| relation.detail.has_triggers || relation.detail.has_rules;
            if self.catalog.relations.get(index).is_some_and(acts) {
                return true;
            }
            waiting
                .extend(self.children.get(&index).into_iter().flatten().filter(|child| seen.insert(**child)));
        }
        false
    }

    fn sharded(&mut self, relation: &Relation, key: &str) -> Option<TableKind> {
        let problem = match relation.column(key) {
            None => format!(
                "table {} has no column {key}, by which the configuration shards it: correct its \
                 [[database.table]], or write its name with its schema if another table is meant",
                relation.full_name()
            ),
            Some((index, column)) => match column.key_type {
                Some(KeyType::Text) if !column.deterministic => format!(
                    "key column {key} of table {} has the collation {}, under which different texts are \
                     equal: give the column a deterministic collation, or the table another key in \
                     [[database.table]]",
                    relation.full_name(),
                    column.collation
                ),
                Some(key_type) => return Some(TableKind::Sharded { key: index, key_type }),
                None => format!(
                    "key column {key} of table {} is of type {}; a key is smallint, integer, bigint, text, \
                     varchar or uuid: change the column, or name the table in [[database.table]] with \
                     another key or reference = true",
                    relation.full_name(),
                    column.shown
                ),
            },
        };
        self.problems.push(problem);
        None
    }

    /// A statement on a table also touches the rows of those that inherit from it: they have
    /// to be in the same places. `tables` runs parallel to the catalog's relations.
    fn inheritance(&mut self, tables: &[Table]) {
        for (relation, child) in self.catalog.relations.iter().zip(tables) {
            for parent in relation.parents.iter().filter_map(|parent| tables.get(*parent)) {
                let alike = match (&parent.kind, &child.kind) {
                    (TableKind::Sharded { key_type: a, .. }, TableKind::Sharded { key_type: b, .. }) => {
                        a == b && parent.key_column() == child.key_column()
                    }
                    (parent, child) => parent == child,
                };
                if !alike {
                    self.problems.push(format!(
                        "table {}.{} ({}) inherits from {}.{} ({}), and a statement on the latter would \
                         look for the rows in the wrong place: name both in [[database.table]] with the \
                         same key, or both with reference = true",
                        child.schema,
                        child.name,
                        shown(child),
                        parent.schema,
                        parent.name,
                        shown(parent)
                    ));
                }
            }
        }
    }

    /// Tables that are configured and not there: `CREATE TABLE` has to know what they will be.
    fn absent(&mut self) -> Vec<Table> {
        let mut absent = Vec::new();
        for rule in &self.rules.tables {
            let named = |relation: &Relation| rule.name == relation.name || rule.name == relation.full_name();
            if self.catalog.relations.iter().any(named) {
                continue;
            }
            self.warnings.push(format!("[[database.table]] {:?}: there is no such table", rule.name));
            let (schema, name) = rule.name.split_once('.').unwrap_or(("public", &rule.name));
            let (columns, kind) = match &rule.rule {
                Rule::Reference => (Vec::new(), TableKind::Reference),
                // The type is not known; no statement but its CREATE can succeed before it is.
                Rule::Key(key) => {
                    (vec![key.clone()], TableKind::Sharded { key: 0, key_type: KeyType::Integer })
                }
            };
            let detail = TableDetail::default();
            absent.push(Table { schema: schema.to_owned(), name: name.to_owned(), columns, kind, detail });
        }
        absent
    }
}

fn shown(table: &Table) -> String {
    match (&table.kind, table.key_column()) {
        (TableKind::Sharded { .. }, Some(key)) => format!("sharded by {key}"),
        (TableKind::Sharded { .. }, None) => "sharded".to_owned(),
        (TableKind::Reference, _) => "a reference table".to_owned(),
        (TableKind::Home, _) => "not sharded".to_owned(),
        (TableKind::View { .. }, _) => "a view".to_owned(),
        (TableKind::Sequence, _) => "a sequence".to_owned(),
    }
}

/// How a shard's catalog differs from the home shard's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Difference {
    /// Statements would fail, or mean something else, on this shard.
    Error(String),
    /// Only what is not routed to this shard by itself.
    Warning(String),
}

impl Difference {
    /// What differs.
    pub fn text(&self) -> &str {
        match self {
            Difference::Error(text) | Difference::Warning(text) => text,
        }
    }
}

/// Compares a shard's catalog with the one statements are routed by. A table of the home shard
/// need not be on the others.
pub fn compare(home: &str, expected: &Discovered, shard: &str, found: &Catalog) -> Vec<Difference> {
    let mut differences = Vec::new();
    let by_name = |catalog: &'_ Catalog| -> HashMap<(String, String), Relation> {
        let named =
            |relation: &Relation| ((relation.schema.clone(), relation.name.clone()), relation.clone());
        catalog.relations.iter().map(named).collect()
    };
    let (wanted, mut present) = (by_name(&expected.catalog), by_name(found));
    if expected.catalog.encoding != found.encoding {
        differences.push(Difference::Error(format!(
            "the database's encoding is {} on {shard} and {} on {home}",
            found.encoding, expected.catalog.encoding
        )));
    }
    if expected.catalog.collation != found.collation {
        differences.push(Difference::Warning(format!(
            "the database's collation is {} on {shard} and {} on {home}: texts sort differently",
            found.collation, expected.catalog.collation
        )));
    }
    for table in expected.schema.tables() {
        let key = (table.schema.clone(), table.name.clone());
        let have = present.remove(&key);
        let name = format!("{}.{}", table.schema, table.name);
        let Some(want) = wanted.get(&key) else {
            // Configured, and not on the home shard.
            if have.is_some() {
                differences.push(Difference::Error(format!("shard {home} lacks table {name}")));
            }
            continue;
        };
        let Some(have) = have else {
            match &table.kind {
                TableKind::Home => {}
                TableKind::Sharded { .. } | TableKind::Reference => {
                    differences.push(Difference::Error(format!("shard {shard} lacks table {name}")));
                }
                TableKind::View { .. } => {
                    differences.push(Difference::Warning(format!("shard {shard} lacks view {name}")));
                }
                TableKind::Sequence => {
                    differences.push(Difference::Warning(format!("shard {shard} lacks sequence {name}")));
                }
            }
            continue;
        };
        match &table.kind {
            TableKind::Home | TableKind::Sequence => {}
            TableKind::Sharded { .. } | TableKind::Reference => {
                differences.extend(columns(home, want, shard, &have).map(Difference::Error));
            }
            TableKind::View { .. } if want.class != have.class => {
                differences.push(Difference::Warning(format!(
                    "view {name} is defined differently on {shard} and {home}"
                )));
            }
            TableKind::View { .. } => {}
        }
    }
    let mut extra: Vec<String> = present
        .values()
        .filter(|relation| matches!(relation.class, Class::Table | Class::Foreign))
        .map(Relation::full_name)
        .collect();
    extra.sort_unstable();
    differences.extend(extra.into_iter().map(|name| {
        Difference::Warning(format!(
            "table {name} is on shard {shard}, but not on {home}: no statement reaches it"
        ))
    }));
    for routine in &expected.catalog.routines {
        if !found.routines.contains(routine) {
            differences.push(Difference::Warning(format!(
                "function {}.{} is missing on shard {shard}, or of another volatility",
                routine.schema, routine.name
            )));
        }
    }
    differences
}

/// The first thing in which two tables' columns differ.
fn columns(home: &str, want: &Relation, shard: &str, have: &Relation) -> Option<String> {
    let name = want.full_name();
    if want.columns == have.columns {
        return None;
    }
    for column in &want.columns {
        let Some((_, other)) = have.column(&column.name) else {
            return Some(format!("table {name} has no column {} on shard {shard}", column.name));
        };
        if other != column {
            return Some(format!(
                "column {} of table {name} is {} on shard {shard} and {} on {home}",
                column.name,
                described(other),
                described(column)
            ));
        }
    }
    for column in &have.columns {
        if want.column(&column.name).is_none() {
            return Some(format!(
                "table {name} has a column {} on shard {shard}, but not on {home}",
                column.name
            ));
        }
    }
    Some(format!("the columns of table {name} are in another order on shard {shard} than on {home}"))
}

fn described(column: &Column) -> String {
    let collation = match column.collation.as_str() {
        "" | "default" => String::new(),
        collation => format!(" COLLATE {collation}"),
    };
    format!("{}{collation}{}", column.shown, if column.not_null { " NOT NULL" } else { "" })
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
