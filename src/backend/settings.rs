//! The run-time settings of a session, and how a connection is brought in line with them.
//!
//! A setting is kept as the statement that makes it, as the client wrote it: PostgreSQL has
//! checked it once and reads it the same way again. What is not in the map has the value the
//! connection began with (`ALTER ROLE … SET`, `postgresql.conf`), which is what `RESET` means.

use std::collections::BTreeMap;

/// Parameter names, lower case, to the statement that sets each. Cheap to compare when shared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    made_by: BTreeMap<String, String>,
}

impl Settings {
    /// `name` is set by running `statement`.
    pub fn set(&mut self, name: &str, statement: String) {
        self.made_by.insert(name.to_owned(), statement);
    }

    /// `name` has its default again.
    pub fn reset(&mut self, name: &str) {
        self.made_by.remove(name);
    }

    /// All have their defaults again but who one is: `RESET ALL` leaves `role` and
    /// `session_authorization` alone (`GUC_NO_RESET_ALL`).
    pub fn reset_all(&mut self) {
        self.made_by.retain(|name, _| matches!(name.as_str(), "role" | "session_authorization"));
    }

    /// `RESET ALL` of a session that began with `initial`.
    pub fn reset_all_to(&mut self, initial: &Settings) {
        self.reset_all();
        for (name, statement) in &initial.made_by {
            if !is_identity(name) {
                self.set(name, statement.clone());
            }
        }
    }

    /// The statement that makes a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.made_by.get(name).map(String::as_str)
    }

    /// Those that decide what a text means when it is parsed.
    fn read(&self, reading: Reading) -> impl Iterator<Item = (&String, &String)> {
        self.made_by.iter().filter(move |(name, _)| reading.depends_on(name))
    }

    /// A number that is the same for settings under which a text means the same.
    pub fn fingerprint(&self, reading: Reading) -> u64 {
        use std::hash::{Hash, Hasher};
        let mut hasher = twox_hash::XxHash3_64::default();
        for setting in self.read(reading) {
            setting.hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Does a text mean the same under both?
    pub fn read_alike(&self, other: &Settings, reading: Reading) -> bool {
        std::ptr::eq(self, other) || self.read(reading).eq(other.read(reading))
    }

    /// These, but for what a text that was parsed under `first` keeps of that. By whom it is
    /// executed, and the search path, are now's for PostgreSQL too.
    pub fn reading_as(&self, first: &Settings, reading: Reading) -> Settings {
        let kept = |name: &str| reading.depends_on(name) && name != "search_path" && !is_identity(name);
        let now = self.made_by.iter().filter(|(name, _)| !kept(name));
        let then = first.made_by.iter().filter(|(name, _)| kept(name));
        Settings { made_by: now.chain(then).map(|(name, made)| (name.clone(), made.clone())).collect() }
    }

    /// These, but for how a text is split into tokens: that is done once, whatever comes later.
    pub fn lexing_as(&self, first: &Settings) -> Settings {
        let mut settings = self.clone();
        for name in [ENCODING, "standard_conforming_strings", "backslash_quote"] {
            match first.get(name) {
                Some(made) => settings.set(name, made.to_owned()),
                None => settings.reset(name),
            }
        }
        settings
    }

    /// What is set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.made_by.keys().map(String::as_str)
    }

    /// What `RESET ALL` goes back to, when this is what a session began with.
    pub fn resettable(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.made_by.iter().filter(|(name, _)| !is_identity(name));
        all.map(|(name, statement)| (name.as_str(), statement.as_str()))
    }

    /// Is anything set but this one?
    pub fn has_more_than(&self, name: &str) -> bool {
        self.made_by.keys().any(|known| known != name)
    }

    /// Nothing set?
    pub fn is_empty(&self) -> bool {
        self.made_by.is_empty()
    }

    /// The statements that turn a connection with `self` into one with `wanted`, in order.
    /// Who one is comes last when it is taken on and first when it is dropped, since other
    /// settings may need the rights of the login role.
    pub fn statements_towards(&self, wanted: &Settings) -> Vec<String> {
        if self == wanted {
            return Vec::new();
        }
        let mut statements = Vec::new();
        // A statement's bytes mean what they meant in the encoding that connections begin with:
        // the session's own encoding is left first and taken on last.
        let encoding_changes = self.get(ENCODING) != wanted.get(ENCODING);
        let speaks_otherwise = !encoding_changes
            && self.get(ENCODING).is_some()
            && wanted.made_by.iter().any(|(name, made)| self.get(name) != Some(made) && !made.is_ascii());
        let encoding_moves = encoding_changes || speaks_otherwise;
        let identity_changes = IDENTITY.iter().any(|name| self.get(name) != wanted.get(name));
        if identity_changes {
            for name in IDENTITY.iter().rev() {
                if self.get(name).is_some() {
                    statements.push(reset_statement(name));
                }
            }
        }
        let kept = |name: &str| is_identity(name) || name == ENCODING;
        let dropped = |name: &&String| !kept(name) && wanted.get(name).is_none();
        // A library that was loaded meanwhile has taken its prefix and removed what it does not
        // know: to reset that by name is an error, which would be the next session's.
        let all = self.made_by.keys().filter(dropped).any(|name| name.contains('.'));
        let encoding_moves = encoding_moves || (all && self.get(ENCODING).is_some());
        if all {
            statements.push("RESET ALL".to_owned());
        } else {
            if encoding_moves && self.get(ENCODING).is_some() {
                statements.push(reset_statement(ENCODING));
            }
            statements.extend(self.made_by.keys().filter(dropped).map(|name| reset_statement(name)));
        }
        for (name, statement) in wanted.made_by.iter().filter(|(name, _)| !kept(name)) {
            if all || self.get(name) != Some(statement) {
                statements.push(statement.clone());
            }
        }
        if encoding_moves {
            statements.extend(wanted.get(ENCODING).map(str::to_owned));
        }
        if identity_changes {
            statements.extend(IDENTITY.iter().filter_map(|name| wanted.get(name)).map(str::to_owned));
        }
        statements
    }
}

impl Settings {
    /// Has a connection with these settings some that it may refuse to let go of for `wanted`? What
    /// one role may set another may not reset; of those that anybody may, the usual ones are known.
    pub fn cling_to(&self, wanted: &Settings) -> bool {
        self.made_by.iter().any(|(name, statement)| match wanted.get(name) {
            Some(same) if same == statement => false,
            Some(_) => is_identity(name),
            None => !(name.contains('.') || ANYBODYS.contains(&name.as_str())),
        })
    }

    /// What both have.
    pub fn shared_with(&self, other: &Settings) -> Settings {
        let shared = self.made_by.iter().filter(|(name, statement)| other.get(name) == Some(statement));
        Settings { made_by: shared.map(|(name, statement)| (name.clone(), statement.clone())).collect() }
    }

    /// Without what `SET` or `RESET` of a parameter is about to make void. Who a session is decides
    /// which role it may take on.
    pub fn without(&self, name: &str) -> Settings {
        let mut settings = self.clone();
        settings.reset(name);
        if name == "session_authorization" {
            settings.reset("role");
        }
        settings
    }
}

/// What in a text settings decide over when PostgreSQL parses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Strings: a type's input function reads them there and then.
    strings: bool,
    /// Bytes that an encoding gives a meaning.
    foreign: bool,
}

impl Reading {
    /// Of a text in which anything may be.
    pub const MOST: Reading = Reading { strings: true, foreign: true };

    /// Of a text.
    pub fn of(text: &[u8]) -> Reading {
        // `$1` is a parameter: its value comes later.
        let dollar = |pair: &[u8]| pair[0] == b'$' && !pair[1].is_ascii_digit();
        let strings = text.contains(&b'\'') || text.windows(2).any(dollar);
        Reading { strings, foreign: !text.is_ascii() }
    }

    /// Can it mean something else under another value of this parameter?
    pub fn depends_on(self, name: &str) -> bool {
        match name {
            "search_path" | "transform_null_equals" => true,
            ENCODING => self.foreign,
            name => self.strings && !is_no_reader(name),
        }
    }
}

/// Parameters that say how a statement is planned, how long it may take, what is logged or how
/// values are printed; and those of users and extensions, which functions ask for when it runs.
/// What is not known here is taken for one that may decide what a string stands for.
fn is_no_reader(name: &str) -> bool {
    name.contains('.')
        || ["enable_", "log_", "debug_", "geqo", "jit", "track_", "default_transaction_", "transaction_"]
            .iter()
            .any(|start| name.starts_with(start))
        || ["_timeout", "_cost", "_mem"].iter().any(|end| name.ends_with(end))
        || [
            "application_name",
            "bytea_output",
            "client_min_messages",
            "extra_float_digits",
            "synchronous_commit",
        ]
        .contains(&name)
}

/// What drivers set, and everybody may set and reset (`PGC_USERSET` in `guc_tables.c`).
const ANYBODYS: [&str; 22] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "enable_seqscan",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "maintenance_work_mem",
    "row_security",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "synchronous_commit",
    "timezone",
    "work_mem",
];

/// In the order they are taken on.
const IDENTITY: [&str; 2] = ["session_authorization", "role"];

const ENCODING: &str = "client_encoding";

fn is_identity(name: &str) -> bool {
    IDENTITY.contains(&name)
}

fn reset_statement(name: &str) -> String {
    match name {
        "session_authorization" => "RESET SESSION AUTHORIZATION".to_owned(),
        name => format!("RESET \"{}\"", name.replace('"', "\"\"")),
    }
}

/// `set_config` with a value of which nothing is known but its bytes: as a start-up packet's
/// option is read.
pub fn set_config_statement(name: &str, value: &str) -> String {
    format!("SELECT pg_catalog.set_config({}, {}, false)", quoted(name), quoted(value))
}

/// The same until the transaction's end.
pub fn set_config_local(statement: &str) -> String {
    match statement.strip_suffix("false)") {
        Some(call) => format!("{call}true)"),
        None => statement.to_owned(),
    }
}

/// A string constant that means `text` whatever `standard_conforming_strings` is.
pub fn quoted(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, statement) in pairs {
            settings.set(name, (*statement).to_owned());
        }
        settings
    }

    #[test]
    fn brings_in_line() {
        let check = |from: &[(&str, &str)], to: &[(&str, &str)], expect: &[&str]| {
            assert_eq!(settings(from).statements_towards(&settings(to)), expect);
        };
        check(&[], &[], &[]);
        check(&[], &[("a", "SET a=1")], &["SET a=1"]);
        check(&[("a", "SET a=1")], &[("a", "SET a=1")], &[]);
        check(&[("a", "SET a=1")], &[("a", "SET a=2")], &["SET a=2"]);
        check(&[("a", "SET a=1"), ("b", "x")], &[("b", "x")], &["RESET \"a\""]);
        check(&[("a", "SET a=1"), ("my.b", "x")], &[("a", "SET a=1")], &["RESET ALL", "SET a=1"]);
        check(
            &[("role", "SET ROLE x"), ("a", "SET a=1")],
            &[("role", "SET ROLE y"), ("a", "SET a=2")],
            &["RESET \"role\"", "SET a=2", "SET ROLE y"],
        );
        check(
            &[("role", "SET ROLE x")],
            &[("session_authorization", "SET SESSION AUTHORIZATION u")],
            &["RESET \"role\"", "SET SESSION AUTHORIZATION u"],
        );
    }

    #[test]
    fn reset_all_keeps_who_one_is() {
        let mut all = settings(&[("role", "SET ROLE x"), ("a", "SET a=1")]);
        all.reset_all();
        assert_eq!(all, settings(&[("role", "SET ROLE x")]));
    }

    #[test]
    fn an_encoding_is_taken_on_last() {
        let latin = ("client_encoding", "SET NAMES 'LATIN1'");
        let accent = ("my.x", "SET my.x = 'é'");
        let check = |from: &[(&str, &str)], to: &[(&str, &str)], expect: &[&str]| {
            assert_eq!(settings(from).statements_towards(&settings(to)), expect);
        };
        check(&[], &[latin, accent], &[accent.1, latin.1]);
        check(&[latin], &[latin, accent], &["RESET \"client_encoding\"", accent.1, latin.1]);
        check(&[latin], &[latin, ("a", "SET a=1")], &["SET a=1"]);
        check(&[latin], &[accent], &["RESET \"client_encoding\"", accent.1]);
    }

    #[test]
    fn what_a_text_is_read_by() {
        let check = |text: &str, name: &str, expect: bool| {
            assert_eq!(Reading::of(text.as_bytes()).depends_on(name), expect, "{text} by {name}");
        };
        let (plain, string) = ("SELECT a = NULL FROM t WHERE b = $1", "SELECT '2024-01-01'");
        for name in
            ["timezone", "datestyle", "intervalstyle", "array_nulls", "xmloption", "role", "lc_monetary"]
        {
            check(plain, name, false);
            check(string, name, true);
            check("SELECT $$2024-01-01$$", name, true);
        }
        for text in [plain, string] {
            check(text, "transform_null_equals", true);
            check(text, "search_path", true);
            check(text, "client_encoding", false);
            for name in ["application_name", "work_mem", "statement_timeout", "enable_seqscan", "my.tenant"] {
                check(text, name, false);
            }
        }
        check("SELECT 1 AS é", "client_encoding", true);
        check("SELECT 1 AS é", "timezone", false);
    }

    #[test]
    fn a_text_keeps_what_it_was_parsed_under() {
        let first = settings(&[("timezone", "first"), ("role", "first"), ("work_mem", "first")]);
        let now = settings(&[("array_nulls", "now"), ("role", "now"), ("work_mem", "now")]);
        let again = now.reading_as(&first, Reading::of(b"'x'"));
        assert_eq!(again, settings(&[("timezone", "first"), ("role", "now"), ("work_mem", "now")]));
        assert!(!again.read_alike(&now, Reading::of(b"'x'")) && again.read_alike(&now, Reading::of(b"x")));
        let split = settings(&[("backslash_quote", "a"), ("timezone", "a")]);
        assert_eq!(
            settings(&[("timezone", "b")]).lexing_as(&split),
            settings(&[("backslash_quote", "a"), ("timezone", "b"),])
        );
    }

    #[test]
    fn values_cannot_break_out() {
        assert_eq!(set_config_statement("a", "o'x"), "SELECT pg_catalog.set_config('a', 'o''x', false)");
        assert_eq!(set_config_statement("a", "\\'"), "SELECT pg_catalog.set_config('a',  E'\\\\''', false)");
    }
}
