//! The statements that drivers and pools send to any PostgreSQL before, between and after
//! their user's own.
//!
//! A console that refused them could not be used from a driver at all. Settings of the
//! client are taken and ignored, as by PgBouncer: nothing here depends on them. The exception
//! is an encoding that is not the console's, which would make its answers wrong. A setting of
//! pgring's own is refused: the file is the only place where one is changed.

use super::command::{Command, TransactionCommand};
use super::lexer::Token;
use super::parse::syntax_error;
use super::table::{Column, Kind, Table};
use crate::error::{ClientError, SqlState};

/// What the console's connection reports about itself, and what `SHOW` answers.
pub const PARAMETERS: &[(&str, &str)] = &[
    ("server_version", concat!(env!("CARGO_PKG_VERSION"), "/pgring")),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("is_superuser", "off"),
    ("in_hot_standby", "off"),
    ("default_transaction_read_only", "off"),
];

/// What else drivers ask for.
const ASKED_FOR: &[(&str, &str)] = &[
    ("transaction_isolation", "read committed"),
    ("default_transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
    ("max_identifier_length", "63"),
];

/// Functions that are asked for, with or without `pg_catalog`.
const FUNCTIONS: &[(&str, &str)] = &[
    // SQLAlchemy wants to find the number of a PostgreSQL in it.
    ("version", concat!("PostgreSQL 15.0 (the console of pgring ", env!("CARGO_PKG_VERSION"), ")")),
    ("current_schema", "public"),
    // What drivers' pools send between two users of a connection: there are none to give up.
    ("pg_advisory_unlock_all", ""),
];

/// postgres.js asks for the types of arrays when it connects; the built-in ones it knows.
const ARRAY_TYPES: &[&str] = &["b.oid", ",", "b.typarray", "from", "pg_catalog.pg_type"];

/// psycopg's `TypeInfo.fetch()`, as by SQLAlchemy for `hstore`.
const TYPE_BY_NAME: &[&str] = &["typname", "as", "name", ",", "oid", ",", "typarray", "as", "array_oid", ","];

/// Settings of a client that have no effect here.
const IGNORED: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "lock_timeout",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
    "transaction_timeout",
];

/// A statement that is none of the console's commands; `None` if nobody expects an answer to it.
pub(super) fn parse(verb: &str, rest: &[Token]) -> Result<Option<Command>, ClientError> {
    match verb {
        "set" => set(rest).map(Some),
        "reset" => match rest {
            [what] if what.value().is_some_and(|name| name.eq_ignore_ascii_case("all")) => {
                Ok(Some(Command::Accepted { tag: "RESET" }))
            }
            [what] => {
                ignored(what)?;
                Ok(Some(Command::Accepted { tag: "RESET" }))
            }
            _ => Ok(None),
        },
        "close" => Ok(is_all(rest).then_some(Command::Accepted { tag: "CLOSE CURSOR ALL" })),
        "unlisten" => {
            Ok(matches!(rest, [Token::Symbol('*')]).then_some(Command::Accepted { tag: "UNLISTEN" }))
        }
        "discard" => Ok(is_all(rest).then_some(Command::Accepted { tag: "DISCARD ALL" })),
        "deallocate" => Ok(is_all(rest).then_some(Command::Accepted { tag: "DEALLOCATE ALL" })),
        "select" => select(rest),
        _ => transaction(verb, rest),
    }
}

/// `SHOW` of a parameter; `None` if there is none of that name.
pub(super) fn parse_show(name: &str, after: &[Token]) -> Result<Option<Command>, ClientError> {
    let after: Option<Vec<String>> = after.iter().map(Token::keyword).collect();
    let words: Vec<&str> = after.iter().flatten().map(String::as_str).collect();
    let name = match (name, words.as_slice()) {
        ("transaction", ["isolation", "level"]) => "transaction_isolation",
        ("time", ["zone"]) => "timezone",
        (name, []) if after.is_some() => name,
        _ => return Ok(None),
    };
    let parameter = PARAMETERS.iter().chain(ASKED_FOR).find(|(known, _)| known.eq_ignore_ascii_case(name));
    Ok(parameter
        .map(|&(name, value)| Command::Answer { table: Table::single(name, Kind::Text, value), tag: "SHOW" }))
}

/// `SELECT 1`, in any number, which asks whether somebody is there; and what drivers want to know
/// of a server before they serve their user.
fn select(rest: &[Token]) -> Result<Option<Command>, ClientError> {
    let one = |table| Some(Command::Answer { table, tag: "SELECT 1" });
    Ok(match rest {
        [function @ Token::Word(_), Token::Symbol('('), Token::Symbol(')')] => {
            let name = function.keyword().unwrap_or_default();
            let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
            let known = FUNCTIONS.iter().find(|(known, _)| *known == name);
            known.and_then(|(name, value)| one(Table::single(name, Kind::Text, value)))
        }
        [Token::Word(number)] => {
            number.parse::<i32>().ok().and_then(|number| one(Table::single("?column?", Kind::Int4, number)))
        }
        _ if begins_with(rest, ARRAY_TYPES) => {
            let columns = ["oid", "typarray"].map(|name| Column { name, kind: Kind::Int8 }).to_vec();
            Some(Command::Answer { table: Table { columns, rows: Vec::new() }, tag: "SELECT 0" })
        }
        _ if begins_with(rest, TYPE_BY_NAME) => {
            return Err(ClientError::error(
                SqlState::UNDEFINED_OBJECT,
                "the console has no types but PostgreSQL's own",
            ));
        }
        _ => None,
    })
}

fn begins_with(tokens: &[Token], words: &[&str]) -> bool {
    let mut tokens = tokens.iter();
    words.iter().all(|word| tokens.next().is_some_and(|token| token.to_string().eq_ignore_ascii_case(word)))
}

/// What drivers send around statements. Their modes mean nothing here and are not looked at.
fn transaction(verb: &str, rest: &[Token]) -> Result<Option<Command>, ClientError> {
    // A name in quotes is no keyword, but it may be a savepoint's.
    let words: Vec<String> = rest.iter().map(|word| word.keyword().unwrap_or_default()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (what, tag) = match (verb, words.as_slice()) {
        ("prepare", ["transaction", ..]) | ("commit" | "rollback", ["prepared", ..]) => {
            return Err(ClientError::refused(
                "the console has no prepared transactions",
                "Each command takes effect at once.",
            ));
        }
        ("begin", _) => (TransactionCommand::Begin, "BEGIN"),
        ("start", ["transaction", ..]) => (TransactionCommand::Begin, "START TRANSACTION"),
        ("commit" | "end", _) => (TransactionCommand::Commit, "COMMIT"),
        ("rollback", ["to", _] | ["to", "savepoint", _])
        | ("rollback", ["transaction" | "work", "to", _] | ["transaction" | "work", "to", "savepoint", _]) => {
            (TransactionCommand::RollbackTo, "ROLLBACK")
        }
        ("rollback" | "abort", _) => (TransactionCommand::Rollback, "ROLLBACK"),
        ("savepoint", [_]) => (TransactionCommand::Savepoint, "SAVEPOINT"),
        ("release", [_] | ["savepoint", _]) => (TransactionCommand::Savepoint, "RELEASE"),
        _ => return Ok(None),
    };
    Ok(Some(Command::Transaction { what, tag }))
}

fn set(rest: &[Token]) -> Result<Command, ClientError> {
    let accepted = Ok(Command::Accepted { tag: "SET" });
    let keyword = |at: usize| rest.get(at).and_then(Token::keyword);
    match (keyword(0).as_deref(), keyword(1).as_deref()) {
        (Some("session"), Some("characteristics")) => return accepted,
        (Some("transaction"), _) => return accepted,
        _ => {}
    }
    let rest = match (keyword(0).as_deref(), rest) {
        (Some("session" | "local"), [_, rest @ ..]) => rest,
        _ => rest,
    };
    match rest {
        [time, zone, _, ..]
            if time.keyword().as_deref() == Some("time") && zone.keyword().as_deref() == Some("zone") =>
        {
            accepted
        }
        [names, value] if names.keyword().as_deref() == Some("names") => {
            encoding(value)?;
            accepted
        }
        [name, equals, value, ..] if is_equals(equals) => {
            if ignored(name)? == "client_encoding" {
                encoding(value)?;
            }
            accepted
        }
        [name, ..] => Err(syntax_error(rest.get(1).unwrap_or(name))),
        [] => Err(ClientError::error(SqlState::SYNTAX, "SET what?")),
    }
}

fn is_equals(token: &Token) -> bool {
    *token == Token::Symbol('=') || token.keyword().as_deref() == Some("to")
}

fn is_all(rest: &[Token]) -> bool {
    matches!(rest, [all] if all.keyword().as_deref() == Some("all"))
}

/// The setting's name, lower case, if it may be ignored.
fn ignored(name: &Token) -> Result<String, ClientError> {
    let wanted = name.value().ok_or_else(|| syntax_error(name))?.to_ascii_lowercase();
    if IGNORED.contains(&wanted.as_str()) {
        return Ok(wanted);
    }
    Err(ClientError::refused(
        "the console does not change settings",
        "Change the configuration file, then RELOAD; SHOW CONFIG has what is in force.",
    ))
}

/// Only what the console answers in.
fn encoding(value: &Token) -> Result<(), ClientError> {
    let name: String = value
        .value()
        .ok_or_else(|| syntax_error(value))?
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if matches!(name.as_str(), "utf8" | "unicode" | "default") {
        return Ok(());
    }
    Err(ClientError::refused("the console answers in UTF8 only", "SET client_encoding TO 'UTF8'."))
}
