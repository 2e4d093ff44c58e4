//! From a command's text to what is meant.

use super::command::{Action, COMMANDS, Command, Meaning, Scope, ShutdownMode};
use super::courtesy;
use super::lexer::{Token, pieces, tokens};
use crate::error::{ClientError, SqlState};

/// What the text asks for. Keywords in any case, one semicolon or none, comments anywhere.
///
/// A name is taken as it is written, in quotes or not: unlike PostgreSQL, and like PgBouncer,
/// the console does not fold `PAUSE Orders` to `orders`.
pub fn parse(sql: &str) -> Result<Command, ClientError> {
    let tokens = tokens(sql)?;
    let Some((first, rest)) = tokens.split_first() else {
        return Ok(Command::Nothing);
    };
    let verb = first.keyword().ok_or_else(|| syntax_error(first))?;
    if verb == "show" {
        return parse_show(rest);
    }
    for info in COMMANDS {
        if info.name.eq_ignore_ascii_case(&verb) {
            return arguments(info.meaning, rest);
        }
    }
    if let Some(refused) = absent(ABSENT, "", &verb) {
        return Err(refused);
    }
    courtesy::parse(&verb, rest)?.ok_or_else(|| syntax_error(first))
}

/// The commands of a text, one by one.
pub fn split(sql: &str) -> Result<Vec<&str>, ClientError> {
    Ok(pieces(sql)?.into_iter().map(|piece| piece.text).collect())
}

/// What PgBouncer can and pgring cannot, and what to do instead.
const ABSENT: &[(&str, &str)] = &[
    ("suspend", "PAUSE closes all server connections and lets clients wait."),
    (
        "disable",
        "PAUSE lets its clients wait; to turn them away, take the database out of the file and RELOAD.",
    ),
    ("enable", "RESUME goes on after PAUSE and KILL."),
    ("wait_close", "SHOW SERVERS has close_needed; PAUSE answers when all server connections are closed."),
];

/// The same of `SHOW`.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("fds", "The next pgring asks for the listening sockets by itself; connections are not handed over."),
    ("sockets", "SHOW CLIENTS and SHOW SERVERS have the connections."),
    ("active_sockets", "SHOW CLIENTS and SHOW SERVERS have the connections."),
    ("mem", "The metrics page has the memory of the process."),
    ("dns_hosts", "Names are looked up by the system whenever a connection is made."),
    ("dns_zones", "Names are looked up by the system whenever a connection is made."),
    ("peers", "pgring has no list of peers."),
    ("peer_pools", "pgring has no list of peers."),
];

fn absent(list: &[(&str, &'static str)], show: &str, name: &str) -> Option<ClientError> {
    let (_, instead) = list.iter().find(|(known, _)| *known == name)?;
    let name = name.to_uppercase();
    Some(ClientError::refused(format!("pgring does not have PgBouncer's {show}{name}"), *instead))
}

fn parse_show(rest: &[Token]) -> Result<Command, ClientError> {
    let [what, after @ ..] = rest else {
        return Err(ClientError::error(SqlState::SYNTAX, "SHOW what?").with_hint(HELP));
    };
    let name = what.keyword().ok_or_else(|| syntax_error(what))?;
    for info in COMMANDS {
        if info.name.strip_prefix("SHOW ").is_some_and(|show| show.eq_ignore_ascii_case(&name)) {
            return arguments(info.meaning, after);
        }
    }
    if let Some(refused) = absent(NOT_SHOWN, "SHOW ", &name) {
        return Err(refused);
    }
    courtesy::parse_show(&name, after)?.ok_or_else(|| syntax_error(what))
}

fn arguments(meaning: Meaning, arguments: &[Token]) -> Result<Command, ClientError> {
    let command = match (meaning, arguments) {
        (Meaning::Show(show), []) => Command::Show(show),
        (Meaning::Plain(action), []) => Command::Do(action()),
        (Meaning::OfDatabase(action), []) => Command::Do(action(None)),
        (Meaning::OfDatabase(action), [name]) => {
            let name = name.value().filter(|name| !name.is_empty()).ok_or_else(|| syntax_error(name))?;
            Command::Do(action(Some(name.to_owned())))
        }
        (Meaning::OfShard(action), names @ ([] | [_] | [_, _])) => {
            let mut given = Vec::with_capacity(names.len());
            for name in names {
                let value = name.value().filter(|value| !value.is_empty());
                given.push(value.ok_or_else(|| syntax_error(name))?.to_owned());
            }
            let mut given = given.into_iter();
            Command::Do(action(match (given.next(), given.next()) {
                (Some(database), Some(shard)) => Scope::Shard(database, shard),
                (Some(database), None) => Scope::Database(database),
                (None, _) => Scope::All,
            }))
        }
        (Meaning::OfClient(action), [id]) => {
            let id = id.value().and_then(|id| id.parse().ok()).ok_or_else(|| {
                syntax_error(id).with_detail("A client's id is a number; SHOW CLIENTS has it.")
            })?;
            Command::Do(action(id))
        }
        (Meaning::OfClient(_), []) => {
            return Err(ClientError::error(SqlState::SYNTAX, "KILL_CLIENT needs a client's id")
                .with_hint("SHOW CLIENTS has it in its column id."));
        }
        (Meaning::Shutdown, []) => Command::Do(Action::Shutdown(ShutdownMode::Now)),
        (Meaning::Shutdown, [mode]) => match mode.keyword().as_deref() {
            Some("wait_for_servers") => Command::Do(Action::Shutdown(ShutdownMode::Drain)),
            Some("wait_for_clients") => {
                return Err(ClientError::refused(
                    "pgring does not have PgBouncer's SHUTDOWN WAIT_FOR_CLIENTS",
                    "SHUTDOWN WAIT_FOR_SERVERS lets transactions finish, for listen.drain_timeout at most.",
                ));
            }
            _ => return Err(syntax_error(mode)),
        },
        (Meaning::Show(_) | Meaning::Plain(_), [first, ..])
        | (Meaning::OfDatabase(_) | Meaning::OfClient(_) | Meaning::Shutdown, [_, first, ..])
        | (Meaning::OfShard(_), [_, _, first, ..]) => {
            return Err(syntax_error(first));
        }
    };
    Ok(command)
}

const HELP: &str = "SHOW HELP lists the console's commands.";

/// As much of a token as an error repeats.
const SHOWN_OF_TOKEN: usize = 64;

pub(super) fn syntax_error(near: &Token) -> ClientError {
    let near: String = near.to_string().chars().take(SHOWN_OF_TOKEN).collect();
    ClientError::error(SqlState::SYNTAX, format!("syntax error at or near \"{near}\"")).with_hint(HELP)
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Show, Table, TransactionCommand};
    use super::*;

    fn some(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn commands() {
        let shutdown = |mode| Command::Do(Action::Shutdown(mode));
        for (sql, expect) in [
            ("", Command::Nothing),
            (" ; ", Command::Nothing),
            ("-- nothing", Command::Nothing),
            ("SHOW CLIENTS", Command::Show(Show::Clients)),
            ("show servers;", Command::Show(Show::Servers)),
            ("  ShOw\n\tPools  ;  ", Command::Show(Show::Pools)),
            ("SHOW/* all */SHARDS", Command::Show(Show::Shards)),
            ("show ring", Command::Show(Show::Ring)),
            ("show transactions", Command::Show(Show::Transactions)),
            ("show stats", Command::Show(Show::Stats)),
            ("show stats_totals", Command::Show(Show::StatsTotals)),
            ("show stats_averages", Command::Show(Show::StatsAverages)),
            ("show totals", Command::Show(Show::Totals)),
            ("show config", Command::Show(Show::Config)),
            ("show routes", Command::Show(Show::Routes)),
            ("show version", Command::Show(Show::Version)),
            ("show help", Command::Show(Show::Help)),
            ("show databases", Command::Show(Show::Databases)),
            ("show users", Command::Show(Show::Users)),
            ("show lists", Command::Show(Show::Lists)),
            ("show state", Command::Show(Show::State)),
            ("PAUSE", Command::Do(Action::Pause(Scope::All))),
            ("pause Orders;", Command::Do(Action::Pause(Scope::Database("Orders".to_owned())))),
            ("PAUSE \"my db\"", Command::Do(Action::Pause(Scope::Database("my db".to_owned())))),
            ("PAUSE 'novacron'", Command::Do(Action::Pause(Scope::Database("novacron".to_owned())))),
            (
                "PAUSE novacron s1",
                Command::Do(Action::Pause(Scope::Shard("novacron".to_owned(), "s1".to_owned()))),
            ),
            ("resume", Command::Do(Action::Resume(Scope::All))),
            ("resume novacron", Command::Do(Action::Resume(Scope::Database("novacron".to_owned())))),
            ("reload", Command::Do(Action::Reload)),
            ("kill", Command::Do(Action::Kill(None))),
            ("kill novacron", Command::Do(Action::Kill(some("novacron")))),
            ("kill_client 42", Command::Do(Action::KillClient(42))),
            ("kill_client '42'", Command::Do(Action::KillClient(42))),
            ("reconnect", Command::Do(Action::Reconnect(None))),
            ("reconnect novacron", Command::Do(Action::Reconnect(some("novacron")))),
            ("shutdown", shutdown(ShutdownMode::Now)),
            ("SHUTDOWN WAIT_FOR_SERVERS", shutdown(ShutdownMode::Drain)),
        ] {
            assert_eq!(parse(sql), Ok(expect), "{sql}");
        }
    }

    #[test]
    fn what_is_not_a_command() {
        for sql in [
            "show",
            "show pools now",
            "show \"pools\"",
            "show nothing",
            "show 'pools'",
            "pools",
            "\"show\" pools",
            "= 1",
            "reload novacron",
            "pause a b c",
            "pause a \"\"",
            "reconnect a b",
            "pause \"\"",
            "pause =",
            "kill_client",
            "kill_client x",
            "kill_client -1",
            "kill_client 18446744073709551616",
            "kill_client 1 2",
            "shutdown now",
            "shutdown \"wait_for_servers\"",
            "select * from pg_class",
            "select 1 from t",
            "explain select 1",
            "show pools; pause",
        ] {
            let error = parse(sql).unwrap_err();
            assert_eq!(error.code, SqlState::SYNTAX, "{sql}");
        }
        assert_eq!(parse("show nothing").unwrap_err().hint.as_deref(), Some(HELP));
    }

    #[test]
    fn an_error_repeats_little() {
        let error = parse(&format!("show {}", "é".repeat(100_000))).unwrap_err();
        assert!(error.message.len() < 200, "{}", error.message);
    }

    #[test]
    fn what_drivers_send_at_connect() {
        let one =
            |name, kind, value: &str, tag| Command::Answer { table: Table::single(name, kind, value), tag };
        let accepted = |tag| Command::Accepted { tag };
        for (sql, expect) in [
            ("SELECT 1", one("?column?", Kind::Int4, "1", "SELECT 1")),
            ("select -1;", one("?column?", Kind::Int4, "-1", "SELECT 1")),
            (
                "select pg_catalog.version()",
                one(
                    "version",
                    Kind::Text,
                    concat!("PostgreSQL 15.0 (the console of pgring ", env!("CARGO_PKG_VERSION"), ")"),
                    "SELECT 1",
                ),
            ),
            ("SELECT current_schema()", one("current_schema", Kind::Text, "public", "SELECT 1")),
            (
                "show standard_conforming_strings",
                one("standard_conforming_strings", Kind::Text, "on", "SHOW"),
            ),
            ("SHOW client_encoding", one("client_encoding", Kind::Text, "UTF8", "SHOW")),
            ("SHOW DateStyle", one("DateStyle", Kind::Text, "ISO, MDY", "SHOW")),
            ("SHOW TIME ZONE", one("TimeZone", Kind::Text, "UTC", "SHOW")),
            (
                "SHOW TRANSACTION ISOLATION LEVEL",
                one("transaction_isolation", Kind::Text, "read committed", "SHOW"),
            ),
            ("SET application_name = 'psql'", accepted("SET")),
            ("SET SESSION application_name TO \"a b\"", accepted("SET")),
            ("set local statement_timeout to 0", accepted("SET")),
            ("SET DateStyle = ISO, MDY", accepted("SET")),
            ("SET client_encoding TO 'UTF8'", accepted("SET")),
            ("SET NAMES 'utf-8'", accepted("SET")),
            ("SET TIME ZONE 'Europe/Berlin'", accepted("SET")),
            ("SET extra_float_digits = 3", accepted("SET")),
            ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", accepted("SET")),
            ("SET TRANSACTION READ ONLY", accepted("SET")),
            ("CLOSE ALL", accepted("CLOSE CURSOR ALL")),
            ("UNLISTEN *", accepted("UNLISTEN")),
            ("RESET ALL", accepted("RESET")),
            ("reset application_name", accepted("RESET")),
            ("DISCARD ALL", accepted("DISCARD ALL")),
            ("DEALLOCATE ALL", accepted("DEALLOCATE ALL")),
        ] {
            assert_eq!(parse(sql), Ok(expect), "{sql}");
        }
    }

    #[test]
    fn what_drivers_ask_of_types() {
        let postgres_js = "\n select b.oid, b.typarray\n from pg_catalog.pg_type a\n \
             left join pg_catalog.pg_type b on b.oid = a.typelem\n where a.typcategory = 'A'\n \
             group by b.oid, b.typarray\n order by b.oid\n";
        let Ok(Command::Answer { table, tag: "SELECT 0" }) = parse(postgres_js) else {
            panic!("{:?}", parse(postgres_js))
        };
        assert!(table.rows.is_empty() && table.columns.len() == 2);
        let psycopg = "SELECT\n typname AS name, oid, typarray AS array_oid,\n oid::regtype::text AS regtype, \
             typdelim AS delimiter\nFROM pg_type t\nWHERE t.oid = $1::regtype\nORDER BY t.oid\n";
        assert_eq!(parse(psycopg).unwrap_err().code, SqlState::UNDEFINED_OBJECT);
    }

    #[test]
    fn what_drivers_send_around_statements() {
        use TransactionCommand::*;
        for (sql, what, tag) in [
            ("BEGIN", Begin, "BEGIN"),
            ("begin isolation level repeatable read, read only", Begin, "BEGIN"),
            ("START TRANSACTION", Begin, "START TRANSACTION"),
            ("COMMIT", Commit, "COMMIT"),
            ("end", Commit, "COMMIT"),
            ("ROLLBACK", Rollback, "ROLLBACK"),
            ("abort", Rollback, "ROLLBACK"),
            ("SAVEPOINT a", Savepoint, "SAVEPOINT"),
            ("RELEASE SAVEPOINT \"_pg3_1\"", Savepoint, "RELEASE"),
            ("ROLLBACK TO SAVEPOINT \"_pg3_1\"", RollbackTo, "ROLLBACK"),
            ("rollback work to a", RollbackTo, "ROLLBACK"),
        ] {
            assert_eq!(parse(sql), Ok(Command::Transaction { what, tag }), "{sql}");
        }
    }

    #[test]
    fn what_a_console_cannot_keep() {
        for sql in [
            "SET pool.size = 5",
            "SET default_pool_size = 5",
            "SET \"pool.size\" TO 5",
            "SET client_encoding = 'LATIN1'",
            "SET NAMES latin1",
            "PREPARE TRANSACTION 'a'",
            "COMMIT PREPARED 'a'",
            "SHOW FDS",
            "SHOW mem",
            "SUSPEND",
            "DISABLE novacron",
            "wait_close",
            "SHUTDOWN WAIT_FOR_CLIENTS",
        ] {
            let error = parse(sql).unwrap_err();
            assert_eq!(error.code, SqlState::REFUSED, "{sql}");
            assert!(error.hint.is_some(), "{sql}");
        }
        for sql in
            ["SET", "SET application_name", "SET = 1", "SET application_name 'x'", "SET NAMES", "RESET"]
        {
            assert_eq!(parse(sql).unwrap_err().code, SqlState::SYNTAX, "{sql}");
        }
    }
}
