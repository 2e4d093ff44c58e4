//! Which table a name means: `search_path`, quoting, catalogs.

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use super::super::schema::{Schema, Table};
use super::Context;
use super::tokens::{Name, fold};

/// What a name means.
#[derive(Clone, Copy, Debug)]
pub(in crate::sql) enum Named<'a> {
    /// A table, view or sequence of the snapshot.
    Table(&'a Table),
    /// A system catalog, or a view of `information_schema`.
    Catalog,
    /// Not in the snapshot: a temporary table, or one made a moment ago on the home shard.
    Unknown,
}

/// As PostgreSQL looks a relation's name up: `pg_catalog` comes first where the path does not
/// name it. A table of the snapshot goes before a catalog of the same name, since to take a
/// catalog for a table costs a refusal at most.
///
/// A name that is not found is noted in the context: the snapshot may be older than the table.
pub(in crate::sql) fn resolve<'a>(cx: &Context<'a>, search_path: &[String], name: &Name) -> Named<'a> {
    let found = look_up(cx.schema, search_path, name);
    if let Named::Unknown = found {
        cx.unknown.set(true);
    }
    found
}

fn look_up<'a>(schema: &'a Schema, search_path: &[String], name: &Name) -> Named<'a> {
    if let Some(qualifier) = &name.schema {
        return match schema.table(qualifier, &name.name) {
            Some(table) => Named::Table(table),
            None if is_system_schema(qualifier) => Named::Catalog,
            None => Named::Unknown,
        };
    }
    for candidate in search_path {
        if let Some(table) = schema.table(candidate, &name.name) {
            return Named::Table(table);
        }
    }
    if name.name.starts_with("pg_") { Named::Catalog } else { Named::Unknown }
}

/// Schemas that hold nothing of the user's.
fn is_system_schema(schema: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema" | "pg_toast")
}

/// An identifier of the tree as PostgreSQL would look it up.
pub(in crate::sql) fn ident(ident: &Ident) -> String {
    fold(&ident.value, ident.quote_style.is_some())
}

/// A name of the tree. `None` where a part of it is computed.
pub(in crate::sql) fn object(name: &ObjectName) -> Option<Name> {
    let mut parts = name.0.iter().rev().map(|part| match part {
        ObjectNamePart::Identifier(part) => Some(ident(part)),
        ObjectNamePart::Function(_) => None,
    });
    let last = parts.next()??;
    let schema = match parts.next() {
        Some(part) => Some(part?),
        None => None,
    };
    Some(Name { schema, name: last })
}

/// Whether PostgreSQL could take this for a table's name or alias. sqlparser knows fewer
/// reserved words, and takes the others for names.
pub(in crate::sql) fn may_name_table(ident: &Ident) -> bool {
    ident.quote_style.is_some() || RESERVED.binary_search(&&*ident.value.to_ascii_lowercase()).is_err()
}

/// Whether this word, in lower case and without quotes, can be no column's name.
pub(in crate::sql) fn is_reserved(word: &str) -> bool {
    RESERVED.binary_search(&word).is_ok()
}

/// The words PostgreSQL's `ColId` leaves out that are no types. Sorted.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

#[cfg(test)]
mod tests {
    #[test]
    fn the_list_is_sorted() {
        assert!(super::RESERVED.is_sorted());
    }
}
