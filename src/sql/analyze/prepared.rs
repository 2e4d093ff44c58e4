//! `PREPARE`, `EXECUTE`, `DEALLOCATE` and the view of what is prepared: which of the session's
//! prepared statements a text is about, told by its words.

use std::ops::Range;

use super::super::lexer::TokenKind;
use super::super::shape::{Access, Argument, Execution, Kind, Mentions, Preparation, Statement, Target};
use super::begins_query;
use super::tokens::Tokens;

/// The view, and the function it is made of.
const VIEW: [&str; 2] = ["pg_prepared_statements", "pg_prepared_statement"];

/// The prepared statements that a text's statements are about.
pub(super) fn mentions(tokens: &Tokens<'_>, statements: &[Range<usize>]) -> Mentions {
    let mut mentions = Mentions::default();
    for range in statements {
        let (start, end) = (range.start, range.end);
        let (at, into_table) = match tokens.word(start).as_str() {
            "prepare" => {
                let transaction =
                    tokens.is_word(start + 1, "transaction") && tokens.slot(start + 2).is_some();
                let name = tokens.identifier(start + 1).filter(|_| start + 2 < end && !transaction);
                mentions.names.extend(name);
                continue;
            }
            "deallocate" => {
                let at = start + 1 + usize::from(tokens.is_word(start + 1, "prepare") && start + 2 < end);
                mentions.names.extend(tokens.identifier(at).filter(|_| at < end));
                continue;
            }
            "execute" => (Some(start), false),
            "explain" => {
                let at = explained(tokens, range);
                if tokens.is_word(at, "create") {
                    (created_from(tokens, at..end), true)
                } else {
                    (Some(at).filter(|&at| at < end && tokens.is_word(at, "execute")), false)
                }
            }
            "create" => (created_from(tokens, range.clone()), true),
            _ => (None, false),
        };
        if let Some(at) = at
            && let Some(name) = tokens.identifier(at + 1).filter(|_| at + 1 < end)
        {
            mentions.names.push(name.clone());
            let arguments = arguments(tokens, at + 2..end);
            mentions.execution = Some(Execution { name, arguments, into_table });
        }
    }
    mentions.all = (0..tokens.len()).any(|at| is_view(tokens, at));
    mentions
}

fn is_view(tokens: &Tokens<'_>, at: usize) -> bool {
    match tokens.kind(at) {
        Some(TokenKind::Word) => tokens.is_one_of(at, &VIEW),
        Some(TokenKind::QuotedIdent) => {
            tokens.identifier(at).is_some_and(|name| VIEW.contains(&name.as_str()))
        }
        _ => false,
    }
}

/// Where `EXECUTE` stands in a `CREATE TABLE … AS EXECUTE`.
fn created_from(tokens: &Tokens<'_>, range: Range<usize>) -> Option<usize> {
    let at = tokens.find_word(range, &["execute"])?;
    tokens.is_word(at - 1, "as").then_some(at)
}

/// What an `EXPLAIN` is of: the token behind its options.
pub(in crate::sql) fn explained(tokens: &Tokens<'_>, range: &Range<usize>) -> usize {
    let mut at = range.start + 1;
    if at < range.end && tokens.is_mark(at, "(") && !begins_query(tokens, at + 1) {
        at = tokens.behind_parenthesis(at, range.end);
    }
    while at < range.end && tokens.is_one_of(at, &["analyze", "analyse", "verbose"]) {
        at += 1;
    }
    at
}

/// What stands in the parentheses at the start of these tokens, if any do.
fn arguments(tokens: &Tokens<'_>, range: Range<usize>) -> Vec<Argument> {
    if range.is_empty() || !tokens.is_mark(range.start, "(") {
        return Vec::new();
    }
    let end = tokens.behind_parenthesis(range.start, range.end).saturating_sub(1);
    separated(tokens, range.start + 1..end).into_iter().map(|part| argument(tokens, &part)).collect()
}

/// The parts between commas that stand outside parentheses and brackets.
fn separated(tokens: &Tokens<'_>, range: Range<usize>) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut depth = 0usize;
    let mut start = range.start;
    for at in range.clone() {
        if tokens.is_mark(at, "(") || tokens.is_mark(at, "[") {
            depth += 1;
        } else if tokens.is_mark(at, ")") || tokens.is_mark(at, "]") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && tokens.is_mark(at, ",") {
            parts.push(start..at);
            start = at + 1;
        }
    }
    if !range.is_empty() {
        parts.push(start..range.end);
    }
    parts
}

fn argument(tokens: &Tokens<'_>, part: &Range<usize>) -> Argument {
    match (part.len(), tokens.slot(part.start)) {
        (1, Some(slot)) => Argument::Literal(slot),
        (1, None) if tokens.is_word(part.start, "null") => Argument::Null,
        (2, _) if tokens.is_mark(part.start, "-") => {
            tokens.slot(part.start + 1).map_or(Argument::Expression, Argument::NegatedLiteral)
        }
        _ => Argument::Expression,
    }
}

/// What `PREPARE name (types) AS` prepares.
pub(super) fn body(tokens: &Tokens<'_>, range: &Range<usize>) -> Option<Range<usize>> {
    tokens.identifier(range.start + 1)?;
    let body = tokens.find_word(range.start + 2..range.end, &["as"])? + 1;
    Some(body..range.end)
}

/// A `PREPARE` whose `body` means `inner`. It may be prepared wherever the tables are; where it
/// runs is decided each time it is executed.
pub(super) fn preparation(
    tokens: &Tokens<'_>,
    range: &Range<usize>,
    body: Range<usize>,
    inner: Statement,
) -> Option<Statement> {
    let name = tokens.identifier(range.start + 1)?;
    let types = types(tokens, range.start + 2..body.start - 1);
    let highest = body.filter_map(|at| parameter(tokens, at)).max().unwrap_or(0);
    let parameters = types.len().max(highest);
    let target = match &inner.target {
        Target::Keys { home: true, .. } | Target::Everywhere { home: true, .. } => Target::Home,
        Target::Keys { .. } | Target::Everywhere { .. } | Target::Reference | Target::EachShard => {
            Target::Nothing
        }
        target => target.clone(),
    };
    let kind = Kind::Prepare(Box::new(Preparation { name, types, parameters, inner }));
    Some(Statement { kind, target, access: Access::Read, pin: None, at_primary: false, loose: Vec::new() })
}

fn parameter(tokens: &Tokens<'_>, at: usize) -> Option<usize> {
    if tokens.kind(at)? != TokenKind::Param {
        return None;
    }
    std::str::from_utf8(tokens.raw(at)).ok()?.strip_prefix('$')?.parse().ok()
}

/// The types in parentheses at the start of these tokens.
fn types(tokens: &Tokens<'_>, range: Range<usize>) -> Vec<u32> {
    if range.is_empty() || !tokens.is_mark(range.start, "(") {
        return Vec::new();
    }
    let end = tokens.behind_parenthesis(range.start, range.end).saturating_sub(1);
    separated(tokens, range.start + 1..end).into_iter().map(|part| type_oid(tokens, part)).collect()
}

/// The OID of a type that is often a parameter's, or an array of it (`pg_type.dat`).
fn type_oid(tokens: &Tokens<'_>, mut part: Range<usize>) -> u32 {
    let array = part.len() > 2 && tokens.is_mark(part.end - 2, "[") && tokens.is_mark(part.end - 1, "]");
    if array {
        part.end -= 2;
    }
    let words: Vec<String> = part.map(|at| tokens.word(at)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (element, of_array) = match words[..] {
        ["smallint" | "int2"] => (21, 1005),
        ["int" | "integer" | "int4"] => (23, 1007),
        ["bigint" | "int8"] => (20, 1016),
        ["text"] => (25, 1009),
        ["varchar"] | ["character", "varying"] => (1043, 1015),
        ["uuid"] => (2950, 2951),
        ["boolean" | "bool"] => (16, 1000),
        ["bytea"] => (17, 1001),
        ["json"] => (114, 199),
        ["jsonb"] => (3802, 3807),
        ["real" | "float4"] => (700, 1021),
        ["float8"] | ["double", "precision"] => (701, 1022),
        ["numeric" | "decimal"] => (1700, 1231),
        ["date"] => (1082, 1182),
        ["time"] => (1083, 1183),
        ["timestamp"] | ["timestamp", "without", "time", "zone"] => (1114, 1115),
        ["timestamptz"] | ["timestamp", "with", "time", "zone"] => (1184, 1185),
        ["interval"] => (1186, 1187),
        ["unknown"] => (0, Preparation::OTHER_TYPE),
        _ => return Preparation::OTHER_TYPE,
    };
    if array { of_array } else { element }
}
