//! The names of a query's own columns, by which `ORDER BY` and `GROUP BY` may refer to them.
//!
//! PostgreSQL names a column without an alias after what it is made of (`FigureColname`), so that in
//! `SELECT id::text … ORDER BY id` the order is that of the texts. Where this is not followed here,
//! an item may have any name that occurs in it.

use std::ops::Range;

use sqlparser::ast::{Expr, SelectItem, SelectItemQualifiedWildcardKind};

use crate::sql::analyze::names::{ident, object};
use crate::sql::analyze::tokens::Tokens;

/// An item of a select list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Output {
    /// It has this name; `plain`: it is a column of that name.
    Named { name: String, plain: bool },
    /// It has no name that one could refer to.
    Nameless,
    /// It may have one of these names.
    Unclear(Vec<String>),
    /// `*` or `t.*`
    Star,
}

/// Names that PostgreSQL gives without their standing in the text.
const HIDDEN: &[&str] = &[
    "bit",
    "bool",
    "bpchar",
    "btrim",
    "date_part",
    "float4",
    "float8",
    "int2",
    "int4",
    "int8",
    "interval",
    "numeric",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "timezone",
    "varbit",
    "varchar",
    "xml",
];

impl Output {
    pub(super) fn may_be(&self, name: &str) -> bool {
        match self {
            Output::Named { name: known, .. } => known == name,
            Output::Nameless => false,
            Output::Unclear(names) => HIDDEN.contains(&name) || names.iter().any(|known| known == name),
            Output::Star => true,
        }
    }
}

pub(super) fn output(tokens: &Tokens<'_>, range: &Range<usize>, item: &SelectItem) -> Output {
    match item {
        SelectItem::ExprWithAlias { expr, alias } => {
            let name = ident(alias);
            let plain = column_name(expr).as_ref() == Some(&name);
            Output::Named { name, plain }
        }
        SelectItem::UnnamedExpr(expr) => match figured(expr) {
            Figured::Name(name) => Output::Named { plain: column_name(expr).is_some(), name },
            Figured::Nothing => Output::Nameless,
            Figured::Unclear => {
                Output::Unclear(range.clone().filter_map(|at| tokens.identifier(at)).collect())
            }
        },
        SelectItem::Wildcard(_)
        | SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(_), _) => Output::Star,
        _ => Output::Unclear(range.clone().filter_map(|at| tokens.identifier(at)).collect()),
    }
}

/// The name of the source whose `*` this is; `Some(None)` for `*` itself.
pub(super) fn star_of(item: &SelectItem) -> Option<Option<String>> {
    match item {
        SelectItem::Wildcard(_) => Some(None),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            Some(Some(object(name)?.name))
        }
        _ => None,
    }
}

enum Figured {
    Name(String),
    Nothing,
    Unclear,
}

fn column_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(ident(name)),
        Expr::CompoundIdentifier(parts) => parts.last().map(ident),
        Expr::Nested(inner) => column_name(inner),
        _ => None,
    }
}

fn figured(expr: &Expr) -> Figured {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
            column_name(expr).map_or(Figured::Unclear, Figured::Name)
        }
        Expr::Nested(inner) => figured(inner),
        // The argument's name goes before the type's.
        Expr::Cast { expr, .. } | Expr::Collate { expr, .. } => match figured(expr) {
            Figured::Name(name) => Figured::Name(name),
            _ => Figured::Unclear,
        },
        // The name of what is behind ELSE goes before `case`.
        Expr::Case { else_result, .. } => match else_result.as_deref().map(figured) {
            None | Some(Figured::Nothing) => Figured::Name("case".to_owned()),
            Some(name) => name,
        },
        Expr::Function(function) => match object(&function.name) {
            Some(name) => Figured::Name(name.name),
            None => Figured::Unclear,
        },
        Expr::BinaryOp { .. }
        | Expr::UnaryOp { .. }
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::AnyOp { .. }
        | Expr::AllOp { .. }
        | Expr::Value(_) => Figured::Nothing,
        _ => Figured::Unclear,
    }
}
