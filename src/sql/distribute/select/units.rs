//! An expression as a row of units: a name with its qualifiers, or else a token. Two expressions with
//! the same units are the same expression.

use std::ops::Range;

use super::inputs::{Column, Inputs, Look};
use crate::sql::analyze::names::is_reserved;
use crate::sql::analyze::tokens::Tokens;
use crate::sql::lexer::TokenKind;

/// A name, or a token.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) tokens: Range<usize>,
    /// What it is compared by.
    pub(super) text: String,
    pub(super) kind: UnitKind,
    /// The column of `FROM` it is known to be.
    pub(super) column: Option<Column>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum UnitKind {
    /// A name that a parenthesis follows.
    Call,
    /// Another name, perhaps a column's.
    Name,
    /// A word that is no column's name.
    Word,
    Other,
}

/// A name that could be a column's.
pub(super) fn column_name(tokens: &Tokens<'_>, at: usize) -> Option<String> {
    let is_name = tokens.kind(at) == Some(TokenKind::QuotedIdent) || !is_reserved(&tokens.word(at));
    tokens.identifier(at).filter(|_| is_name)
}

pub(super) fn units(tokens: &Tokens<'_>, range: &Range<usize>, inputs: &Inputs<'_>) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let behind_dot = at > range.start && tokens.is_mark(at - 1, ".");
        let Some(first) = column_name(tokens, at).filter(|_| !behind_dot) else {
            let word = tokens.word(at);
            let (kind, text) = if word.is_empty() {
                (UnitKind::Other, String::from_utf8_lossy(tokens.raw(at)).into_owned())
            } else {
                (UnitKind::Word, word)
            };
            units.push(Unit { tokens: at..at + 1, text, kind, column: None });
            at += 1;
            continue;
        };
        let mut parts = vec![first];
        let mut end = at + 1;
        while end + 1 < range.end && tokens.is_mark(end, ".") {
            let Some(part) = tokens.identifier(end + 1) else { break };
            parts.push(part);
            end += 2;
        }
        let is_call = end < range.end && tokens.is_mark(end, "(");
        let look = match parts.as_slice() {
            _ if is_call => Look::Unclear,
            [name] => inputs.look_up(None, name),
            [table, name] => inputs.look_up(Some((None, table)), name),
            [schema, table, name] => inputs.look_up(Some((Some(schema), table)), name),
            _ => Look::Unclear,
        };
        let (text, column) = match look {
            // No token has a space in front.
            Look::Column(column) => (format!(" {}.{}", column.source, column.index), Some(column)),
            _ => (format!(" {}", parts.join(".")), None),
        };
        let kind = if is_call { UnitKind::Call } else { UnitKind::Name };
        units.push(Unit { tokens: at..end, text, kind, column });
        at = end;
    }
    units
}

/// Functions whose values differ from call to call.
const VOLATILE: &[&str] = &[
    "clock_timestamp",
    "currval",
    "gen_random_bytes",
    "gen_random_uuid",
    "gen_salt",
    "lastval",
    "nextval",
    "random",
    "random_normal",
    "set_config",
    "setseed",
    "setval",
    "timeofday",
];

/// What a server's clock says when the statement or the transaction begins.
const CLOCK: &[&str] = &[
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "now",
    "statement_timestamp",
    "transaction_timestamp",
];

/// Columns that say where a row lies.
const SYSTEM: &[&str] = &["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];

/// What may make a value differ though its row is the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Wavering {
    /// Nothing.
    None,
    /// A server's clock or state.
    Server,
    /// Another call.
    Call,
}

/// How much what these units stand for depends on when and where it is evaluated.
pub(super) fn wavering(units: &[Unit]) -> Wavering {
    let of = |(index, unit): (usize, &Unit)| {
        let name = unit.text.trim_start();
        let name = name.rsplit('.').next().unwrap_or(name);
        match unit.kind {
            UnitKind::Call if VOLATILE.contains(&name) || name.starts_with("uuid") => Wavering::Call,
            UnitKind::Call if name.starts_with("pg_sleep") => Wavering::Call,
            UnitKind::Call | UnitKind::Word if CLOCK.contains(&name) => Wavering::Server,
            UnitKind::Call if name == "age" && !has_two_arguments(units.get(index + 1..).unwrap_or(&[])) => {
                Wavering::Server
            }
            UnitKind::Call
                if ["pg_", "inet_", "txid_", "to_reg", "has_"]
                    .iter()
                    .any(|start| name.starts_with(start))
                    || matches!(name, "version" | "current_setting" | "obj_description") =>
            {
                Wavering::Server
            }
            UnitKind::Name if unit.column.is_none() && SYSTEM.contains(&name) => Wavering::Server,
            _ => Wavering::None,
        }
    };
    units.iter().enumerate().map(of).max().unwrap_or(Wavering::None)
}

fn has_two_arguments(units: &[Unit]) -> bool {
    let mut depth = 0usize;
    for unit in units {
        match unit.text.as_str() {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            "," if depth == 1 => return true,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    false
}
