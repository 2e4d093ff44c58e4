//! Operators and casts that call users' functions which are not immutable: as little can be told of such a
//! statement as of one that calls the function by its name.
//!
//! Told by the words. Operators that share their name with one of PostgreSQL's own are left out, and so are
//! values whose type no word tells: to refuse every `+`, or every parameter, would be to refuse all.

use std::collections::HashSet;
use std::ops::Range;

use super::super::lexer::TokenKind;
use super::super::schema::{CastWhen, Schema};
use super::super::shape::Kind;
use super::refusals::Refusal;
use super::tokens::Tokens;

/// What of a statement's words calls such a function.
pub(super) fn called(
    tokens: &Tokens<'_>,
    range: Range<usize>,
    kind: &Kind,
    schema: &Schema,
) -> Option<Refusal> {
    if !schema.has_calling() {
        return None;
    }
    for at in range.clone() {
        if tokens.kind(at) != Some(TokenKind::Operator) {
            continue;
        }
        let Ok(operator) = std::str::from_utf8(tokens.raw(at)) else { continue };
        if let Some(function) = schema.called_by_operator(operator) {
            return Some(Refusal::calling_word(&format!("operator {operator}"), function));
        }
    }
    let all = range.clone().any(|at| tokens.is_mark(at, "*"));
    let words: HashSet<String> = range.filter_map(|at| tokens.identifier(at)).collect();
    let cast = schema.calling_casts().iter().find(|cast| {
        let done = match cast.when {
            CastWhen::Anywhere => true,
            CastWhen::Stored if *kind != Kind::Query => true,
            CastWhen::Stored | CastWhen::Said => {
                spellings(&cast.target).iter().any(|word| words.contains(*word))
                    || words.contains(&cast.target)
            }
        };
        done && (words.contains(&cast.source) || names_column_of(&words, all, &cast.source, schema))
    })?;
    Some(Refusal::calling_word(&format!("the cast from {} to {}", cast.source, cast.target), &cast.function))
}

/// Whether the words name a table and one of its columns that is of this type; `all`: or all of them.
fn names_column_of(words: &HashSet<String>, all: bool, type_name: &str, schema: &Schema) -> bool {
    schema.tables().filter(|table| words.contains(&table.name)).any(|table| {
        table.columns.iter().zip(&table.detail.columns).any(|(column, detail)| {
            let shown = detail.type_name.rsplit('.').next().unwrap_or_default();
            (all || words.contains(column)) && shown.trim_matches('"') == type_name
        })
    })
}

/// What else than its name in the catalogs a type may be called by.
fn spellings(name: &str) -> &'static [&'static str] {
    match name {
        "int2" => &["smallint"],
        "int4" => &["int", "integer"],
        "int8" => &["bigint"],
        "float4" => &["real", "float"],
        "float8" => &["double", "float"],
        "bool" => &["boolean"],
        "numeric" => &["decimal", "dec"],
        "varchar" | "bpchar" => &["character", "char", "nchar"],
        "timestamptz" => &["timestamp"],
        "timetz" => &["time"],
        "varbit" => &["bit"],
        _ => &[],
    }
}
