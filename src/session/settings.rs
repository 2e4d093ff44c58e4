//! What settings mean to pgring: which text repeats a `SET`, and where a value that routing
//! depends on stands in it.

use super::ready::{is_ascii_superset, unreadable_encoding};
use super::state::Session;
use crate::error::ClientError;
use crate::route::{Parameters, Value};
use crate::sql::{ConfigCall, Kind, Lexed, Shape, Token, TokenKind, ValueSlot, fold, tokenize};
use crate::txn::Change;
use std::rc::Rc;

const ENCODING: &str = "client_encoding";

/// Values of `set_config()` that came as parameters: which, and what. One that is missing is
/// known to the server only.
#[derive(Default, Clone)]
pub(super) struct ConfigValues(Option<Rc<[(u16, String)]>>);

impl ConfigValues {
    /// Those of a `Bind`. Values in another encoding than the servers' are not kept as what they say.
    pub(super) fn bound(
        calls: &[ConfigCall],
        parameters: &Parameters<'_>,
        same_encoding: bool,
    ) -> ConfigValues {
        let known = calls.iter().filter_map(|call| {
            let ValueSlot::Param(number) = call.value else { return None };
            // Of text both formats are the same bytes.
            let (Value::Text(bytes) | Value::Binary(bytes)) = parameters.get(number)? else { return None };
            let value = std::str::from_utf8(bytes).ok().filter(|text| same_encoding || text.is_ascii())?;
            Some((number, value.to_owned()))
        });
        let known: Vec<_> = known.collect();
        // Nearly all have none, and that is not worth an allocation.
        ConfigValues((!known.is_empty()).then(|| known.into()))
    }

    fn of(&self, number: u16) -> Option<&str> {
        let (_, value) = self.0.as_deref()?.iter().find(|(known, _)| *known == number)?;
        Some(value)
    }

    /// Is the value of this call known, here or from the text?
    pub(super) fn know(&self, call: &ConfigCall) -> bool {
        match call.value {
            ValueSlot::Param(number) => self.of(number).is_some(),
            ValueSlot::Literal(_) => true,
            // NULL.
            ValueSlot::Tokens(..) => false,
        }
    }

    /// The value of this call.
    pub(super) fn value(&self, call: &ConfigCall, text: &[u8], standard_strings: bool) -> Option<String> {
        match call.value {
            ValueSlot::Param(number) => self.of(number).map(str::to_owned),
            ValueSlot::Tokens(..) => None,
            slot => literal(text, &slot, standard_strings),
        }
    }
}

/// The statements of a text, one by one. With `expected` 1 it is the whole text, trimmed.
pub(super) fn statement_texts(text: &[u8], expected: usize, standard_strings: bool) -> Vec<String> {
    let Ok(tokens) = tokenize(text, standard_strings) else { return Vec::new() };
    let slice =
        |first: u32, last: u32| String::from_utf8_lossy(&text[first as usize..last as usize]).into_owned();
    let mut texts = Vec::with_capacity(expected);
    for statement in tokens.split(|token| token.kind == TokenKind::Semicolon) {
        if let (Some(first), Some(last)) = (statement.first(), statement.last()) {
            texts.push(slice(first.span.start, last.span.end));
        }
    }
    texts
}

/// The one constant or word at `slot`.
pub(super) fn literal(text: &[u8], slot: &ValueSlot, standard_strings: bool) -> Option<String> {
    match slot {
        ValueSlot::Literal(n) => {
            let mut lexed = Lexed::default();
            lexed.lex(text, standard_strings).ok()?;
            let value = lexed.literal_value(text, *n)?;
            Some(String::from_utf8_lossy(&value).into_owned())
        }
        ValueSlot::Tokens(first, last) if last - first == 1 => {
            let tokens = tokenize(text, standard_strings).ok()?;
            name_of(&String::from_utf8_lossy(text), tokens.get(*first as usize)?)
        }
        ValueSlot::Tokens(..) | ValueSlot::Param(_) => None,
    }
}

/// A word as it stands in the catalogs, or what a quoted one stands for.
fn name_of(statement: &str, token: &Token) -> Option<String> {
    let word = &statement[token.span.start as usize..token.span.end as usize];
    match token.kind {
        TokenKind::Word => Some(fold(word, false)),
        TokenKind::QuotedIdent => {
            let contents = word.strip_prefix('"')?.strip_suffix('"')?;
            Some(fold(&contents.replace("\"\"", "\""), true))
        }
        _ => None,
    }
}

/// Does it set a parameter to what the session began with: `SET LOCAL … TO DEFAULT`?
fn is_default(statement: &str) -> bool {
    let Ok(tokens) = tokenize(statement.as_bytes(), true) else { return false };
    let is = |token: Option<&Token>, word: &str| {
        token.is_some_and(|token| {
            token.kind == TokenKind::Word
                && statement[token.span.start as usize..token.span.end as usize].eq_ignore_ascii_case(word)
        })
    };
    is(tokens.first(), "set") && is(tokens.last(), "default")
}

/// The schemas a `search_path` names. `statement` is a `SET` or a `set_config` as settings are
/// kept; what stands after its first `=`, `TO` or comma is the value. `None`: it has a spelling
/// that is not read here.
pub(super) fn path_of_statement(statement: &str, user: &str) -> Option<Vec<String>> {
    let text = statement.as_bytes();
    let mut lexed = Lexed::default();
    lexed.lex(text, true).ok()?;
    let tokens = tokenize(text, true).ok()?;
    let word = |token: &Token| &statement[token.span.start as usize..token.span.end as usize];
    let is_call = tokens.iter().any(|token| word(token).eq_ignore_ascii_case("set_config"));
    let start = tokens.iter().position(|token| {
        let word = word(token);
        let names_it = word.eq_ignore_ascii_case("to") || word.eq_ignore_ascii_case("schema");
        if is_call { word == "," } else { word == "=" || names_it }
    })?;
    let mut slot = u32::try_from(tokens[..=start].iter().filter(|t| t.kind.is_literal()).count()).ok()?;
    let mut path = Vec::new();
    for token in &tokens[start + 1..] {
        match token.kind {
            TokenKind::Word if is_call => {}
            TokenKind::Word | TokenKind::QuotedIdent => path.push(name_of(statement, token)?),
            kind if kind.is_literal() => {
                let value = String::from_utf8(lexed.literal_value(text, slot)?.into_owned()).ok()?;
                slot += 1;
                if is_call {
                    path.extend(names_in(&value)?);
                } else {
                    // In SET each string is one name.
                    path.push(fold(&value, true));
                }
            }
            TokenKind::Punct => {}
            _ => return None,
        }
    }
    Some(resolve_user(path, user))
}

/// The schemas in a value of `search_path` as `SHOW` prints it. `None`: it is none.
pub(super) fn path_of_value(value: &str, user: &str) -> Option<Vec<String>> {
    Some(resolve_user(names_in(value)?, user))
}

/// The names in a list, as PostgreSQL (`SplitIdentifierString`) reads it: what stands between commas,
/// without spaces around it, whatever an identifier of SQL is.
fn names_in(list: &str) -> Option<Vec<String>> {
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c');
    let mut rest = list.trim_start_matches(is_space);
    let mut names = Vec::new();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut behind = quoted;
            loop {
                let end = behind.find('"')?;
                name.push_str(&behind[..end]);
                behind = &behind[end + 1..];
                match behind.strip_prefix('"') {
                    Some(more) => {
                        name.push('"');
                        behind = more;
                    }
                    None => break,
                }
            }
            names.push(fold(&name, true));
            rest = behind;
        } else {
            let end = rest.find(|c| c == ',' || is_space(c)).unwrap_or(rest.len());
            if end == 0 {
                return None;
            }
            names.push(fold(&rest[..end], false));
            rest = &rest[end..];
        }
        rest = rest.trim_start_matches(is_space);
        if rest.is_empty() {
            return Some(names);
        }
        rest = rest.strip_prefix(',')?.trim_start_matches(is_space);
    }
}

fn resolve_user(path: Vec<String>, user: &str) -> Vec<String> {
    path.into_iter().map(|name| if name == "$user" { user.to_owned() } else { name }).collect()
}

impl Session {
    /// The settings may be others now: what analysis depends on is looked up again.
    pub(super) fn settings_changed(&mut self) {
        let user = self.effective_user();
        let path = match self.setting("search_path") {
            None if user == self.user_name => Rc::clone(&self.default_path),
            // What cannot be read here has been refused where there is something to route. It may
            // have tables made that are temporary.
            setting => match setting {
                Some(statement) => path_of_statement(statement, &user),
                None => path_of_value(&self.default_path_text, &user),
            }
            .unwrap_or_else(|| vec!["pg_temp".to_owned()])
            .into(),
        };
        if path != self.search_path {
            self.search_path = path;
            self.context = None;
        }
    }

    /// Refuses an encoding in which no text could be read here, before any server has it.
    pub(super) fn refuse_unreadable_encodings(
        &self,
        shape: &Shape,
        text: &[u8],
        values: &ConfigValues,
    ) -> Result<(), ClientError> {
        let strings = self.standard_conforming_strings;
        let check = |value: Option<String>| match value {
            Some(value) if is_ascii_superset(&value) => Ok(()),
            Some(value) => Err(unreadable_encoding(&value)),
            None => Err(ClientError::refused(
                "this spelling of a client_encoding cannot be followed across shards",
                "Write it as a plain name or a plain string.",
            )),
        };
        for statement in &shape.statements {
            match &statement.kind {
                Kind::Set { name, value: Some(slot), default: false, .. } if name == ENCODING => {
                    check(literal(text, slot, strings))?;
                }
                Kind::SetConfig(calls) => {
                    for call in calls.iter().filter(|call| call.name == ENCODING) {
                        check(values.value(call, text, strings))?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The statement that has set a parameter, in the transaction or before; `None` if it has the
    /// value the connection began with.
    fn setting(&self, name: &str) -> Option<&str> {
        for change in self.tx.changes().iter().rev() {
            match change {
                Change::Set(set, statement, _) if set == name && is_default(statement) => {
                    return self.initial.get(name);
                }
                Change::Set(set, statement, _) if set == name => return Some(statement),
                Change::Reset(reset) if reset == name => return self.initial.get(name),
                // Who becomes somebody else has no role.
                Change::Set(set, ..) if name == "role" && set == "session_authorization" => return None,
                Change::Reset(set) if name == "role" && set == "session_authorization" => {
                    return self.initial.get(name);
                }
                Change::ResetAll if !matches!(name, "role" | "session_authorization") => {
                    return self.initial.get(name);
                }
                _ => {}
            }
        }
        self.settings.get(name)
    }

    /// Whom `"$user"` stands for.
    fn effective_user(&self) -> String {
        let named = |name| self.setting(name).and_then(role_of_statement).filter(|role| role != "none");
        named("role").or_else(|| named("session_authorization")).unwrap_or_else(|| self.user_name.clone())
    }
}

/// Whom a `SET ROLE`, a `SET SESSION AUTHORIZATION` or a `set_config()` names. `None`: it has a spelling
/// that is not read here.
pub(super) fn role_of_statement(statement: &str) -> Option<String> {
    let text = statement.as_bytes();
    let tokens = tokenize(text, true).ok()?;
    let is_call = tokens.iter().any(|token| {
        statement[token.span.start as usize..token.span.end as usize].eq_ignore_ascii_case("set_config")
    });
    let literals = u32::try_from(tokens.iter().filter(|token| token.kind.is_literal()).count()).ok()?;
    let last = tokens.last()?;
    if !is_call && !last.kind.is_literal() {
        return name_of(statement, last);
    }
    let mut lexed = Lexed::default();
    lexed.lex(text, true).ok()?;
    String::from_utf8(lexed.literal_value(text, literals.checked_sub(1)?)?.into_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_paths() {
        let check = |statement: &str, expect: &[&str]| {
            assert_eq!(path_of_statement(statement, "bob").unwrap(), expect, "{statement}")
        };
        check("SET search_path TO a, \"B\", public", &["a", "B", "public"]);
        check("set session SEARCH_PATH = 'x, y'", &["x, y"]);
        check("SET search_path TO \"$user\", public", &["bob", "public"]);
        check("SELECT pg_catalog.set_config('search_path', 'a, \"B\"', false)", &["a", "B"]);
        check("SET search_path = ''", &[""]);
        check("SET LOCAL SCHEMA 'pg_catalog'", &["pg_catalog"]);
        check("SET search_path = E'a\\x62', $$c$$", &["ab", "c"]);
        check("SELECT pg_catalog.set_config('search_path',  E'a', false)", &["a"]);
        check("SET search_path = \u{c4}rger, B\u{d6}se", &["\u{c4}rger", "b\u{d6}se"]);
        check("SET search_path = 77, public", &["77", "public"]);
        let long = "l".repeat(70);
        check(&format!("SET search_path = {long}, '{long}'"), &[&long[..63], &long[..63]]);
        let call = |value: &str| format!("SELECT pg_catalog.set_config('search_path', '{value}', false)");
        check(&call("tenant-1, PUBLIC,77"), &["tenant-1", "public", "77"]);
        check(&call(" \"a, b\" ,x\"y , \"q\"\"r\""), &["a, b", "x\"y", "q\"r"]);
        check(&call("pub\"\"lic"), &["pub\"\"lic"]);
        check(&call(&long), &[&long[..63]]);
        check(&call(""), &[]);
        for wrong in ["a b", "a,", ",a", "\"a", "a,,b"] {
            assert_eq!(path_of_statement(&call(wrong), "bob"), None, "{wrong}");
        }
        assert_eq!(path_of_value("\"$user\", public", "bob").unwrap(), ["bob", "public"]);
        assert!(is_default("SET LOCAL search_path TO DEFAULT") && is_default("set local schema default"));
        assert!(!is_default("SET search_path = 'default'") && !is_default(&call("default")));
    }

    #[test]
    fn roles() {
        let check = |statement: &str, expect: Option<&str>| {
            assert_eq!(role_of_statement(statement).as_deref(), expect)
        };
        check("SET ROLE \"Bob\"", Some("Bob"));
        check("SET ROLE \"B\"\"ob\"", Some("B\"ob"));
        check("SET ROLE B\u{d6}B", Some("b\u{d6}b"));
        check("SET SESSION AUTHORIZATION 'al'", Some("al"));
        check("SET role = E'gr\\x70'", Some("grp"));
        check("SET ROLE $$grp$$", Some("grp"));
        check("SELECT pg_catalog.set_config('role', 'Grp', true)", Some("Grp"));
    }

    #[test]
    fn statements_of_a_text() {
        assert_eq!(statement_texts(b" set a = 1 ; ; select ';' ;", 2, true), ["set a = 1", "select ';'"]);
    }
}
