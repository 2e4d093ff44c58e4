//! What the code of a `DO` block or of a function may leave behind on its server, as far as its words
//! tell.
//!
//! Nothing is run and nothing is followed: a word that could set something is enough. What is said to
//! leave nothing is PL/pgSQL or SQL in which no such word stands where it would be an order.

use super::analyze::functions::pin_by_name;
use super::lexer::{Lexed, Token, TokenKind, tokenize};
use super::shape::Pin;

/// Might the code of a `DO` block leave something on its server that the next client would meet? Its
/// words are looked at, as PL/pgSQL reads them. What the functions do that it calls cannot be seen:
/// what they have left is looked for when it has run.
pub fn may_leave_state(block: &[u8], standard_strings: bool) -> bool {
    let mut lexed = Lexed::default();
    let Ok(tokens) = tokenize(block, standard_strings) else { return true };
    if lexed.lex(block, standard_strings).is_err() {
        return true;
    }
    let slots = 0..u32::try_from(lexed.literals().len()).unwrap_or(u32::MAX);
    let codes: Option<Vec<_>> = slots.map(|slot| lexed.literal_value(block, slot)).collect();
    let Some(codes) = codes else { return true };
    // Of another language nothing is known.
    let mut words = tokens.iter().map(|token| word(block, token));
    let names_language = words.any(|word| word == "language");
    let names_ours = words.any(|word| word == "plpgsql") || codes.iter().any(|code| **code == *b"plpgsql");
    (names_language && !names_ours) || codes.iter().any(|code| may_set(code, standard_strings))
}

/// Might a function that this `CREATE FUNCTION` makes leave something on its server, whatever it calls?
pub fn makes_suspect(text: &[u8], standard_strings: bool) -> bool {
    let mut lexed = Lexed::default();
    let Ok(tokens) = tokenize(text, standard_strings) else { return true };
    if lexed.lex(text, standard_strings).is_err() {
        return true;
    }
    let slots = 0..u32::try_from(lexed.literals().len()).unwrap_or(u32::MAX);
    let codes: Option<Vec<_>> = slots.map(|slot| lexed.literal_value(text, slot)).collect();
    let Some(codes) = codes else { return true };
    let words: Vec<String> = tokens.iter().map(|token| word(text, token)).collect();
    // Without one it is SQL's own `BEGIN ATOMIC`.
    let readable = match words.iter().position(|word| word == "language").and_then(|at| words.get(at + 1)) {
        Some(language) if language.is_empty() => {
            codes.iter().any(|code| matches!(&**code, b"sql" | b"plpgsql"))
        }
        Some(language) => matches!(language.as_str(), "sql" | "plpgsql"),
        None => true,
    };
    !readable || Source::read(text).leaves || codes.iter().any(|code| Source::read(code).leaves)
}

/// A word or an identifier in lower case; nothing of other tokens.
fn word(text: &[u8], token: &Token) -> String {
    let raw = &text[token.span.start as usize..token.span.end as usize];
    match token.kind {
        TokenKind::Word | TokenKind::QuotedIdent => {
            String::from_utf8_lossy(raw).trim_matches('"').to_lowercase()
        }
        _ => String::new(),
    }
}

const SUSPICIOUS: [&str; 12] = [
    "set_config",
    "temp",
    "temporary",
    "listen",
    "load",
    "setseed",
    "seed",
    "prepare",
    "execute",
    "pg_settings",
    "pg_temp",
    "dblink_connect",
];

fn may_set(code: &[u8], standard_strings: bool) -> bool {
    let Ok(tokens) = tokenize(code, standard_strings) else { return true };
    let words: Vec<String> = tokens.iter().map(|token| word(code, token)).collect();
    (0..tokens.len()).any(|at| sets(&tokens, &words, at))
}

/// Is the word at this place an order to set something?
fn sets(tokens: &[Token], words: &[String], at: usize) -> bool {
    let word = words[at].as_str();
    match tokens[at].kind {
        TokenKind::UnicodeIdent => true,
        // As a statement, not as a part of an UPDATE.
        TokenKind::Word if matches!(word, "set" | "reset") => {
            at == 0
                || matches!(words[at - 1].as_str(), "begin" | "then" | "else" | "loop")
                || matches!(tokens[at - 1].kind, TokenKind::Semicolon | TokenKind::Operator)
        }
        _ => SUSPICIOUS.contains(&word) || word.contains("advisory"),
    }
}

/// What is read off a function's source.
#[derive(Default, Debug)]
pub(super) struct Source {
    /// It may leave something on its server when its transaction is over.
    pub(super) leaves: bool,
    /// The identifiers in it, and whether a parenthesis stands behind each.
    pub(super) names: Vec<(String, bool)>,
    /// Parameters that it sets, as far as they are constants.
    pub(super) sets: Vec<String>,
    /// It may leave more than other values of those.
    pub(super) more: bool,
}

impl Source {
    /// Of a function in SQL or PL/pgSQL.
    pub(super) fn read(code: &[u8]) -> Source {
        let Ok(tokens) = tokenize(code, true) else {
            return Source { leaves: true, more: true, ..Source::default() };
        };
        let words: Vec<String> = tokens.iter().map(|token| word(code, token)).collect();
        let raw = |at: usize| {
            let span = tokens.get(at).map(|token| token.span.clone()).unwrap_or_default();
            code.get(span.start as usize..span.end as usize).unwrap_or_default()
        };
        let word = |at: usize| words.get(at).map_or("", String::as_str);
        let mut source = Source::default();
        for at in 0..tokens.len() {
            if !words[at].is_empty() {
                source.names.push((words[at].clone(), raw(at + 1) == b"("));
            }
            let local = match word(at) {
                "set" => word(at + 1) == "local",
                "set_config" => is_local_call(at, &raw),
                _ => false,
            };
            let runs_text =
                raw(at + 1) == b"(" && pin_by_name(word(at)).is_some_and(|pin| pin != Pin::Sequence);
            if local || !(sets(&tokens, &words, at) || (runs_text && word(at) != "set_config")) {
                continue;
            }
            source.leaves = true;
            let (name, ends) = match word(at) {
                "set_config" => {
                    let constant = raw(at + 2).strip_prefix(b"'").and_then(|rest| rest.strip_suffix(b"'"));
                    let name = constant.map(String::from_utf8_lossy).unwrap_or_default().to_lowercase();
                    (name, raw(at + 1) == b"(" && raw(at + 3) == b",")
                }
                verb @ ("set" | "reset") => {
                    let first = at + 1 + usize::from(verb == "set" && word(at + 1) == "session");
                    let dotted = raw(first + 1) == b".";
                    let behind = first + if dotted { 3 } else { 1 };
                    let name = if dotted {
                        format!("{}.{}", word(first), word(first + 2))
                    } else {
                        word(first).to_owned()
                    };
                    let ends = if verb == "set" {
                        raw(behind) == b"=" || word(behind) == "to"
                    } else {
                        matches!(raw(behind), b"" | b";") && name != "all"
                    };
                    (name, ends)
                }
                _ => (String::new(), false),
            };
            if ends && is_parameter(&name) {
                source.sets.push(name);
            } else {
                source.more = true;
            }
        }
        source
    }
}

/// One that can be asked for its value, and leaves nothing else behind. Who one is is no value.
fn is_parameter(name: &str) -> bool {
    let is_name = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let (prefix, rest) = name.split_once('.').unwrap_or(("x", name));
    is_name(prefix)
        && is_name(rest)
        && !matches!(name, "role" | "session_authorization" | "seed")
        && !name.starts_with("transaction_")
}

/// `set_config(…, true)` ends with the transaction.
fn is_local_call<'c>(at: usize, raw: &impl Fn(usize) -> &'c [u8]) -> bool {
    let mut depth = 0_usize;
    for at in at + 1.. {
        match raw(at) {
            b"" => return false,
            b"(" => depth += 1,
            b")" if depth <= 1 => {
                let last = raw(at - 1).eq_ignore_ascii_case(b"true");
                return last && at.checked_sub(2).is_some_and(|at| raw(at) == b",");
            }
            b")" => depth -= 1,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_may_leave_state() {
        for code in [
            "DO $$BEGIN SET work_mem = '1MB'; END$$",
            "DO $$BEGIN PERFORM set_config('a', 'b', false); END$$",
            "DO $$BEGIN PERFORM pg_catalog.\"set_config\"('a', 'b', false); END$$",
            "do 'begin create temp table t(); end'",
            "DO $$BEGIN EXECUTE 'x'; END$$",
            "DO $$BEGIN NULL;-- why\nSET work_mem = '1MB'; END$$",
            "DO $$BEGIN NULL; /* x */ RESET work_mem; END$$",
            "DO $$BEGIN <<l>> SET work_mem = '1MB'; END$$",
            "DO $$BEGIN IF true THEN SET\nwork_mem = '1MB'; END IF; END$$",
            "DO LANGUAGE plpgsql E'BEGIN \\x53ET work_mem=''9MB''; END'",
            "DO LANGUAGE plpgsql U&'BEGIN \\0053ET work_mem=''9MB''; END'",
            "DO $$BEGIN UPDATE pg_settings SET setting = 1; END$$",
            "DO $$BEGIN PERFORM U&\"set_confi\\0067\"('a', 'b', false); END$$",
            "DO LANGUAGE plperl $$spi_exec_query('x')$$",
            "DO $$BEGIN RAISE NOTICE 'open; END$$",
        ] {
            assert!(may_leave_state(code.as_bytes(), true), "{code}");
        }
        for code in [
            "DO $$BEGIN UPDATE t SET a = 1; END$$",
            "DO $$BEGIN RAISE NOTICE 'set x'; END$$",
            "DO LANGUAGE plpgsql $$BEGIN ALTER TABLE t ALTER a SET DEFAULT 1; PERFORM f(); END$$",
            "DO $$BEGIN INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1; END$$ LANGUAGE 'plpgsql'",
        ] {
            assert!(!may_leave_state(code.as_bytes(), true), "{code}");
        }
    }

    #[test]
    fn sources_that_leave_something() {
        for code in [
            "SELECT set_config($1, $2, false)",
            "SELECT set_config('a.b', f(true), $1)",
            "BEGIN SET work_mem = '1MB'; END",
            "BEGIN EXECUTE x; END",
            "SELECT pg_advisory_lock(1)",
            "CREATE TEMP TABLE x (n int)",
            "SELECT query_to_xml($1, true, true, '')",
            "SELECT U&\"set_confi\\0067\"('a', 'b', false)",
            "SELECT 'open",
        ] {
            assert!(Source::read(code.as_bytes()).leaves, "{code}");
        }
        for code in [
            "SELECT set_config('a.b', f(false), true)",
            "BEGIN SET LOCAL work_mem = '1MB'; UPDATE t SET a = 1; END",
            "SELECT currval('s')",
            "SELECT 'SET x', f(1) -- set_config(",
        ] {
            assert!(!Source::read(code.as_bytes()).leaves, "{code}");
        }
    }

    #[test]
    fn functions_that_may_leave_something() {
        for (text, expect) in [
            ("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT set_config($1, $2, false)'", true),
            ("CREATE FUNCTION f() RETURNS void AS $$BEGIN SET a = 1; END$$ LANGUAGE plpgsql", true),
            ("CREATE FUNCTION f() RETURNS void LANGUAGE c AS 'x'", true),
            ("CREATE FUNCTION f() RETURNS void AS $$x$$ LANGUAGE 'plperl'", true),
            ("CREATE FUNCTION f() RETURNS text BEGIN ATOMIC SELECT set_config('a.b', 'c', false); END", true),
            ("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT 1'", false),
            ("CREATE FUNCTION f() RETURNS text BEGIN ATOMIC SELECT 1; END", false),
            (
                "CREATE FUNCTION f() RETURNS text AS $$BEGIN UPDATE t SET a = 1; END$$ LANGUAGE 'plpgsql'",
                false,
            ),
            ("ALTER FUNCTION f() SET search_path = a", false),
        ] {
            assert_eq!(makes_suspect(text.as_bytes(), true), expect, "{text}");
        }
    }

    #[test]
    fn parameters_a_source_sets() {
        for (code, sets, more) in [
            ("SELECT set_config('App.tenant', $1, false)", &["app.tenant"][..], false),
            (
                "BEGIN SET app.tenant = 1; SET SESSION app.\"user\" TO 2; END",
                &["app.tenant", "app.user"],
                false,
            ),
            ("BEGIN SET work_mem = 1; PERFORM set_config(x, 'a.b', false); END", &["work_mem"], true),
            (
                "BEGIN RESET work_mem; SET LOCAL a.b = 1; SET SESSION search_path TO a; END",
                &["work_mem", "search_path"],
                false,
            ),
            ("SELECT set_config('app.it''s', $1, false)", &[], true),
            ("SELECT set_config('work_' || 'mem', $1, false)", &[], true),
            ("SELECT set_config(E'a.b', $1, false)", &[], true),
            ("BEGIN SET ROLE x; END", &[], true),
            ("BEGIN SET role = x; END", &[], true),
            ("BEGIN SET SESSION AUTHORIZATION x; END", &[], true),
            ("BEGIN SET TIME ZONE 'UTC'; END", &[], true),
            ("BEGIN RESET ALL; END", &[], true),
            ("BEGIN RESET SESSION AUTHORIZATION; END", &[], true),
            ("BEGIN SET work_mem = 1; CREATE TEMP TABLE t (n int); END", &["work_mem"], true),
            ("BEGIN SET work_mem = 1; EXECUTE x; END", &["work_mem"], true),
            ("SELECT set_config('a.b', 'c', false), pg_advisory_lock(1)", &["a.b"], true),
        ] {
            let source = Source::read(code.as_bytes());
            assert_eq!(
                (&source.sets[..], source.more),
                (&sets.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()[..], more),
                "{code}"
            );
        }
    }
}
