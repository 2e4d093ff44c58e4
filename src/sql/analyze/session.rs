//! Statements whose only effect is on the session or its transaction, told by their words.
//! No parser is asked: these are hot, and sqlparser does not know all of them.

use std::ops::Range;

use super::super::lexer::TokenKind;
use super::super::shape::{Access, ConfigCall, Kind, Pin, Statement, Target, ValueSlot};
use super::tokens::Tokens;

/// Such a statement, or `None`.
pub(super) fn classify(tokens: &Tokens<'_>, range: &Range<usize>) -> Option<Statement> {
    let (start, end) = (range.start, range.end);
    let kind = match tokens.word(start).as_str() {
        "begin" => Kind::Begin,
        "start" if tokens.is_word(start + 1, "transaction") => Kind::Begin,
        "commit" | "end" => {
            if tokens.is_word(start + 1, "prepared") {
                Kind::TwoPhase
            } else {
                Kind::Commit { chain: chains(tokens, range) }
            }
        }
        "rollback" | "abort" => rollback(tokens, range)?,
        "savepoint" => Kind::Savepoint(tokens.identifier(start + 1)?),
        "release" => {
            let at = if tokens.is_word(start + 1, "savepoint") && start + 2 < end { 2 } else { 1 };
            Kind::Release(tokens.identifier(start + at)?)
        }
        "prepare" if tokens.is_word(start + 1, "transaction") => Kind::TwoPhase,
        "set" if end - start > 3 && tokens.are_words(end - 2, &["from", "current"]) => {
            // To a value that only its server knows.
            let pin = Some(Pin::Setting);
            return Some(Statement { pin, ..plain(Kind::Other, Target::Nothing, Access::Write) });
        }
        "set" => set(tokens, range)?,
        "reset" => reset(tokens, range)?,
        "show" => show(tokens, range),
        "discard" => {
            if tokens.is_word(start + 1, "all") {
                Kind::DiscardAll
            } else {
                Kind::Discard
            }
        }
        "deallocate" => {
            let at = start + 1 + usize::from(tokens.is_word(start + 1, "prepare") && start + 2 < end);
            Kind::Deallocate(if tokens.is_word(at, "all") { None } else { Some(tokens.identifier(at)?) })
        }
        "execute" => {
            let kind = Kind::Execute(tokens.identifier(start + 1)?);
            // Its arguments are expressions.
            let pin = super::pin_by_words(tokens, range);
            return Some(Statement { pin, ..plain(kind, Target::Nothing, Access::Write) });
        }
        "listen" => {
            let pin = Some(Pin::Listen);
            return Some(Statement { pin, ..plain(Kind::Listen, Target::Home, Access::Write) });
        }
        "unlisten" => {
            return Some(plain(Kind::Listen, Target::Home, Access::Write));
        }
        "notify" => return Some(plain(Kind::Other, Target::Home, Access::Write)),
        "load" => {
            let pin = Some(Pin::Load);
            return Some(Statement { pin, ..plain(Kind::Other, Target::Nothing, Access::Write) });
        }
        "fetch" => return Some(plain(Kind::Query, Target::Nothing, Access::Write)),
        "move" | "close" => return Some(plain(Kind::Other, Target::Nothing, Access::Write)),
        _ => return None,
    };
    let of_transactions =
        matches!(kind, Kind::Begin | Kind::Commit { .. } | Kind::Rollback { .. } | Kind::SetTransaction);
    if of_transactions && is_misspelt(tokens, range) {
        // A server's to refuse, and not to be answered before it is asked.
        return Some(plain(Kind::Other, Target::Nothing, Access::Write));
    }
    let access = if kind == Kind::TwoPhase { Access::Write } else { Access::Read };
    Some(plain(kind, Target::Nothing, access))
}

/// Without a pin.
pub(super) fn plain(kind: Kind, target: Target, access: Access) -> Statement {
    Statement { kind, target, access, pin: None, at_primary: false, loose: Vec::new() }
}

/// The beginning or end of a transaction in words that PostgreSQL (`TransactionStmt`) does not know.
fn is_misspelt(tokens: &Tokens<'_>, range: &Range<usize>) -> bool {
    let (mut at, end) = (range.start + 1, range.end);
    let noise = |at: usize| usize::from(at < end && tokens.is_one_of(at, &["work", "transaction"]));
    match tokens.word(range.start).as_str() {
        "begin" => !are_modes(tokens, at + noise(at)..end),
        "start" if tokens.is_word(at, "transaction") => !are_modes(tokens, at + 1..end),
        "set" if tokens.is_word(at, "transaction") && !tokens.is_word(at + 1, "snapshot") => {
            at + 1 == end || !are_modes(tokens, at + 1..end)
        }
        "commit" | "end" | "rollback" | "abort" => {
            at += noise(at);
            let known = match end.saturating_sub(at) {
                0 => true,
                2 => tokens.are_words(at, &["and", "chain"]),
                3 => tokens.are_words(at, &["and", "no", "chain"]),
                _ => false,
            };
            !known
        }
        _ => false,
    }
}

/// Any number of a transaction's modes, with commas between them or without.
fn are_modes(tokens: &Tokens<'_>, range: Range<usize>) -> bool {
    const MODES: [&[&str]; 8] = [
        &["isolation", "level", "read", "uncommitted"],
        &["isolation", "level", "read", "committed"],
        &["isolation", "level", "repeatable", "read"],
        &["isolation", "level", "serializable"],
        &["read", "only"],
        &["read", "write"],
        &["deferrable"],
        &["not", "deferrable"],
    ];
    let (mut at, end) = (range.start, range.end);
    while at < end {
        let Some(mode) = MODES.iter().find(|mode| at + mode.len() <= end && tokens.are_words(at, mode))
        else {
            return false;
        };
        at += mode.len();
        if at + 1 < end && tokens.is_mark(at, ",") {
            at += 1;
        }
    }
    true
}

fn chains(tokens: &Tokens<'_>, range: &Range<usize>) -> bool {
    range.clone().any(|at| tokens.are_words(at, &["and", "chain"]))
}

fn rollback(tokens: &Tokens<'_>, range: &Range<usize>) -> Option<Kind> {
    let mut at = range.start + 1;
    if tokens.is_word(at, "prepared") {
        return Some(Kind::TwoPhase);
    }
    at += usize::from(tokens.is_one_of(at, &["work", "transaction"]));
    if at < range.end && tokens.is_word(at, "to") {
        at += 1;
        at += usize::from(tokens.is_word(at, "savepoint") && at + 1 < range.end);
        return Some(Kind::RollbackTo(tokens.identifier(at)?));
    }
    Some(Kind::Rollback { chain: chains(tokens, range) })
}

/// The value in these tokens.
fn value(tokens: &Tokens<'_>, range: Range<usize>) -> Option<ValueSlot> {
    if range.is_empty() {
        return None;
    }
    if range.len() == 1 {
        if let Some(slot) = tokens.slot(range.start) {
            return Some(ValueSlot::Literal(slot));
        }
        if tokens.kind(range.start) == Some(TokenKind::Param) {
            let number = std::str::from_utf8(tokens.raw(range.start)).ok()?.strip_prefix('$')?.parse();
            return number.ok().map(ValueSlot::Param);
        }
    }
    Some(ValueSlot::Tokens(u32::try_from(range.start).ok()?, u32::try_from(range.end).ok()?))
}

fn set(tokens: &Tokens<'_>, range: &Range<usize>) -> Option<Kind> {
    let end = range.end;
    let mut at = range.start + 1;
    let mut local = false;
    if tokens.is_one_of(at, &["transaction", "constraints"]) {
        return Some(Kind::SetTransaction);
    }
    if tokens.is_word(at, "local") {
        local = true;
        at += 1;
    } else if tokens.is_word(at, "session") && !tokens.is_word(at + 1, "authorization") {
        at += 1;
    }
    let set = |name: &str, values: Range<usize>| {
        let default = values.is_empty()
            || (values.len() == 1 && tokens.is_one_of(values.start, &["default"]))
            || (name == "timezone" && values.len() == 1 && tokens.is_word(values.start, "local"));
        let value = if default { None } else { Some(value(tokens, values)?) };
        Some(Kind::Set { name: name.to_owned(), local, default, value })
    };
    if tokens.are_words(at, &["characteristics", "as", "transaction"]) {
        return set("session characteristics", at + 3..end);
    }
    if tokens.are_words(at, &["time", "zone"]) {
        return set("timezone", at + 2..end);
    }
    if tokens.are_words(at, &["session", "authorization"]) {
        return set("session_authorization", at + 2..end);
    }
    if tokens.are_words(at, &["xml", "option"]) {
        return set("xmloption", at + 2..end);
    }
    let assigned = tokens.is_word(at + 1, "to") || tokens.is_mark(at + 1, "=");
    if !assigned {
        match tokens.word(at).as_str() {
            "names" => return set("client_encoding", at + 1..end),
            "role" => return set("role", at + 1..end),
            "schema" => return set("search_path", at + 1..end),
            _ => {}
        }
    }
    let (name, behind) = parameter(tokens, at, end)?;
    let assigned = tokens.is_word(behind, "to") || tokens.is_mark(behind, "=");
    if !assigned || behind + 1 >= end {
        return None;
    }
    set(&name, behind + 1..end)
}

/// A parameter's name and the token behind it. Their names know no case, quoted or not.
fn parameter(tokens: &Tokens<'_>, at: usize, end: usize) -> Option<(String, usize)> {
    let mut name = tokens.identifier(at).filter(|_| at < end)?;
    let mut at = at + 1;
    while at + 1 < end && tokens.is_mark(at, ".") {
        name.push('.');
        name.push_str(&tokens.identifier(at + 1)?);
        at += 2;
    }
    Some((name.to_ascii_lowercase(), at))
}

fn reset(tokens: &Tokens<'_>, range: &Range<usize>) -> Option<Kind> {
    let at = range.start + 1;
    let named = |name: &str| Some(Kind::Reset { name: name.to_owned() });
    if tokens.is_word(at, "all") {
        return Some(Kind::ResetAll);
    }
    if tokens.are_words(at, &["session", "authorization"]) {
        return named("session_authorization");
    }
    if tokens.are_words(at, &["time", "zone"]) {
        return named("timezone");
    }
    if tokens.are_words(at, &["transaction", "isolation", "level"]) {
        return named("transaction_isolation");
    }
    let (name, _) = parameter(tokens, at, range.end)?;
    Some(Kind::Reset { name })
}

fn show(tokens: &Tokens<'_>, range: &Range<usize>) -> Kind {
    match parameter(tokens, range.start + 1, range.end) {
        Some((name, _)) if name.starts_with("pgring.") => Kind::ShowOwn(name),
        _ => Kind::Query,
    }
}

/// `SELECT set_config(name, value, is_local), …` and nothing else but `current_setting()` of constants
/// (as asyncpg has it, before it asks for types): names and the last arguments constant, values constants
/// or parameters. A name is a literal's value: it is part of the fingerprint (see the lexer).
pub(super) fn set_config(
    tokens: &Tokens<'_>,
    range: &Range<usize>,
    literal_name: impl Fn(u32) -> Option<String>,
) -> Option<Statement> {
    if !tokens.is_word(range.start, "select") {
        return None;
    }
    let mut calls = Vec::new();
    let mut at = range.start + 1;
    loop {
        at = match setting_shown(tokens, at) {
            Some(behind) => behind,
            None => {
                let (call, behind) = config_call(tokens, at, &literal_name)?;
                calls.push(call);
                behind
            }
        };
        if tokens.is_word(at, "as") && at < range.end {
            tokens.identifier(at + 1)?;
            at += 2;
        }
        if at >= range.end {
            break;
        }
        if !tokens.is_mark(at, ",") {
            return None;
        }
        at += 1;
    }
    (at == range.end && !calls.is_empty())
        .then(|| plain(Kind::SetConfig(calls), Target::Nothing, Access::Read))
}

/// The token behind `current_setting(name [, missing_ok])`, both constant, if that begins at `at`.
fn setting_shown(tokens: &Tokens<'_>, mut at: usize) -> Option<usize> {
    if tokens.is_word(at, "pg_catalog") && tokens.is_mark(at + 1, ".") {
        at += 2;
    }
    let named = tokens.is_word(at, "current_setting")
        && tokens.is_mark(at + 1, "(")
        && tokens.kind(at + 2) == Some(TokenKind::String);
    let missing_ok = tokens.is_mark(at + 3, ",") && tokens.is_one_of(at + 4, &["true", "false"]);
    let close = if missing_ok { at + 5 } else { at + 3 };
    (named && tokens.is_mark(close, ")")).then_some(close + 1)
}

/// One call that begins at `at`, and the token behind it.
fn config_call(
    tokens: &Tokens<'_>,
    mut at: usize,
    literal_name: impl Fn(u32) -> Option<String>,
) -> Option<(ConfigCall, usize)> {
    if tokens.is_word(at, "pg_catalog") && tokens.is_mark(at + 1, ".") {
        at += 2;
    }
    if !tokens.is_word(at, "set_config") || !tokens.is_mark(at + 1, "(") {
        return None;
    }
    let name = literal_name(tokens.slot(at + 2)?)?.to_ascii_lowercase();
    let value = match tokens.kind(at + 4)? {
        TokenKind::String | TokenKind::EscapeString | TokenKind::DollarString | TokenKind::UnicodeString => {
            ValueSlot::Literal(tokens.slot(at + 4)?)
        }
        // `NULL` is the default: what that is, is not known here.
        TokenKind::Word if tokens.is_word(at + 4, "null") => value(tokens, at + 4..at + 5)?,
        TokenKind::Param => value(tokens, at + 4..at + 5)?,
        _ => return None,
    };
    let mut comma = at + 5;
    // Drivers and generators write the parameter's type.
    if tokens.is_mark(comma, "::") && tokens.is_one_of(comma + 1, &["text", "varchar"]) {
        comma += 2;
    }
    let local = match tokens.word(comma + 1).as_str() {
        "true" => true,
        "false" => false,
        _ => return None,
    };
    let punctuated =
        tokens.is_mark(at + 3, ",") && tokens.is_mark(comma, ",") && tokens.is_mark(comma + 2, ")");
    punctuated.then_some((ConfigCall { name, local, value }, comma + 3))
}
