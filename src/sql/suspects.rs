//! Functions that may leave something on the server they run on, and what calls them: a setting made by
//! a function is the session's, and nobody else's, whatever the statement that called it looks like.
//!
//! The catalogs tell ([`Suspects::find`]): a function whose source may set something is a suspect; so is
//! one whose source names a suspect, and a view, a trigger's table or whatever else the catalogs say
//! calls one. Names are compared without their schemas: to suspect one too many costs a question, to
//! suspect one too few would be another client's setting. Trusted are immutable functions in C or of
//! another language, extensions' functions in C but for the known exceptions, and operators' names
//! where nothing behind them is suspect.

use super::analyze::tokens::Tokens;
use super::code::Source;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Suspects {
    /// Any statement may call one.
    everything: bool,
    functions: HashSet<String>,
    /// Those of them that can be called without a parenthesis: `row.function`.
    bare: HashSet<String>,
    /// Relations that call one when they are read, and when they are written.
    read: HashSet<String>,
    written: HashSet<String>,
    /// Parameters that suspects set, as far as their names are constants.
    sets: Vec<String>,
    /// They may leave nothing but other values of those.
    nothing_else: bool,
}

/// A function or procedure that is not PostgreSQL's own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Routine {
    /// Without its schema.
    pub name: String,
    /// `sql`, `plpgsql`, `c` …
    pub language: String,
    /// Declared `VOLATILE`.
    pub volatile: bool,
    /// An extension's.
    pub of_extension: bool,
    /// It takes one row.
    pub takes_row: bool,
    /// Its source, or its whole definition.
    pub source: String,
}

/// One thing calls, or touches, another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    /// Whoever reads the relation calls the function.
    Reads,
    /// Whoever writes the relation calls the function: by a trigger, a default, a constraint.
    Writes,
    /// An aggregate or another function calls the function.
    Calls,
    /// Nobody knows who calls the function: an operator's, a cast's, a domain's.
    Anybody,
    /// The view reads and writes the relation.
    View,
    /// Whoever writes the relation may write the other: a parent's child, a referenced table's.
    Passes,
}

/// Extensions' functions in C that set something (`pg_trgm`).
const SETTING: [&str; 1] = ["set_limit"];

impl Suspects {
    /// Before the catalogs have been read.
    pub fn unread() -> Suspects {
        Suspects { everything: true, ..Suspects::default() }
    }

    /// Of these functions, and these edges from what is called or touched to who does it.
    pub fn find(routines: &[Routine], edges: &[(Edge, String, String)]) -> Suspects {
        let mut found = Suspects { nothing_else: true, ..Suspects::default() };
        let mut sources = Vec::new();
        for routine in routines {
            let readable = matches!(routine.language.as_str(), "sql" | "plpgsql");
            let source = if readable { Source::read(routine.source.as_bytes()) } else { Source::default() };
            let leaves = match routine.language.as_str() {
                _ if readable => source.leaves,
                "c" if routine.of_extension => SETTING.contains(&routine.name.as_str()),
                "c" | "internal" => routine.volatile,
                _ => true,
            };
            found.sets.extend(source.sets.iter().cloned());
            if leaves {
                found.nothing_else &= readable && !source.more;
                found.suspect(routine);
            }
            sources.push(source);
        }
        found.sets.sort_unstable();
        found.sets.dedup();
        if found.functions.is_empty() {
            return found;
        }
        let by_name: HashMap<&str, &Routine> =
            routines.iter().map(|routine| (routine.name.as_str(), routine)).collect();
        loop {
            let before = found.count();
            for (routine, source) in routines.iter().zip(&sources) {
                if !found.functions.contains(&routine.name)
                    && source.names.iter().any(|(name, calls)| found.is_named(name, *calls, true))
                {
                    found.suspect(routine);
                }
            }
            for (edge, from, to) in edges {
                found.follow(*edge, from, to, &by_name);
            }
            if found.count() == before {
                return found;
            }
        }
    }

    fn suspect(&mut self, routine: &Routine) {
        self.functions.insert(routine.name.clone());
        if routine.takes_row {
            self.bare.insert(routine.name.clone());
        }
    }

    fn follow(&mut self, edge: Edge, from: &str, to: &str, routines: &HashMap<&str, &Routine>) {
        let calls = self.functions.contains(from);
        match edge {
            Edge::Reads if calls => _ = self.read.insert(to.to_owned()),
            Edge::Writes if calls => _ = self.written.insert(to.to_owned()),
            Edge::Anybody if calls => self.everything = true,
            Edge::Calls if calls => match routines.get(to) {
                Some(routine) => self.suspect(routine),
                None => _ = self.functions.insert(to.to_owned()),
            },
            Edge::View => {
                for relations in [&mut self.read, &mut self.written] {
                    if relations.contains(from) {
                        relations.insert(to.to_owned());
                    }
                }
            }
            Edge::Passes if self.written.contains(from) => _ = self.written.insert(to.to_owned()),
            _ => {}
        }
    }

    fn count(&self) -> (bool, usize) {
        (self.everything, self.functions.len() + self.bare.len() + self.read.len() + self.written.len())
    }

    fn is_named(&self, name: &str, calls: bool, writes: bool) -> bool {
        (calls && self.functions.contains(name))
            || self.bare.contains(name)
            || self.read.contains(name)
            || (writes && self.written.contains(name))
    }

    /// Might this statement call one?
    pub(super) fn are_called(&self, tokens: &Tokens<'_>, range: Range<usize>) -> bool {
        const WRITES: [&str; 6] = ["insert", "update", "delete", "merge", "copy", "truncate"];
        if self.everything || self.functions.is_empty() {
            return self.everything;
        }
        let writes = range.clone().any(|at| tokens.is_one_of(at, &WRITES));
        range.into_iter().any(|at| {
            let name = tokens.identifier(at);
            name.is_some_and(|name| self.is_named(&name, tokens.is_mark(at + 1, "("), writes))
        })
    }

    /// Does a name of one, or of what calls one, stand anywhere in this text?
    pub fn are_named_in(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let mut names = self.functions.iter().chain(&self.read).chain(&self.written);
        self.everything || names.any(|name| text.contains(&name.to_lowercase()))
    }

    /// Parameters of users' own that may be found set.
    pub fn customs(&self) -> impl Iterator<Item = &str> {
        self.sets.iter().map(String::as_str).filter(|name| name.contains('.'))
    }

    /// The parameters that may be found with another value, where there is nothing else to look for.
    pub fn sets(&self) -> Option<&[String]> {
        (self.nothing_else && !self.everything).then_some(&self.sets)
    }

    /// Is there any?
    pub fn is_empty(&self) -> bool {
        !self.everything && self.functions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokenize;
    use super::*;

    fn routine(name: &str, language: &str, source: &str) -> Routine {
        Routine {
            name: name.to_owned(),
            language: language.to_owned(),
            volatile: true,
            source: source.to_owned(),
            ..Routine::default()
        }
    }

    fn calls(suspects: &Suspects, text: &str) -> bool {
        let tokens = Tokens::new(text.as_bytes(), tokenize(text.as_bytes(), true).unwrap());
        suspects.are_called(&tokens, 0..tokens.len())
    }

    #[test]
    fn who_calls_a_suspect_is_one() {
        let routines = [
            routine("setter", "sql", "SELECT set_config('app.x', $1, false)"),
            routine("outer", "plpgsql", "BEGIN PERFORM setter('x'); END"),
            routine("reader", "sql", "SELECT * FROM seen_again"),
            routine("writer", "sql", "INSERT INTO parent VALUES (1)"),
            routine("fine", "plpgsql", "BEGIN UPDATE t SET setter = 1; END"),
            routine("perl", "plperl", ""),
            Routine { volatile: false, ..routine("steady", "c", "steady") },
            Routine { of_extension: true, ..routine("uuid_generate_v4", "c", "x") },
            Routine { of_extension: true, ..routine("set_limit", "c", "x") },
            Routine { takes_row: true, ..routine("of_row", "plpython3u", "") },
        ];
        let edge = |edge, from: &str, to: &str| (edge, from.to_owned(), to.to_owned());
        let edges = [
            edge(Edge::View, "seen", "seen_again"),
            edge(Edge::Reads, "outer", "seen"),
            edge(Edge::Writes, "setter", "triggered"),
            edge(Edge::Passes, "triggered", "parent"),
            edge(Edge::View, "triggered", "window"),
            edge(Edge::Calls, "setter", "folded"),
            edge(Edge::Anybody, "fine", ""),
        ];
        let suspects = Suspects::find(&routines, &edges);
        assert_eq!(suspects.customs().collect::<Vec<_>>(), ["app.x"]);
        // Nobody knows what the one in Perl does.
        assert_eq!(suspects.sets(), None);
        let of_known = Suspects::find(&routines[..5], &edges);
        assert_eq!(of_known.sets(), Some(&["app.x".to_owned()][..]));
        for (text, expect) in [
            ("SELECT setter('x')", true),
            ("SELECT public.\"outer\" ('x')", true),
            ("SELECT setter FROM t", false),
            ("SELECT of_row FROM t", true),
            ("SELECT perl(), 1", true),
            ("SELECT fine(), steady(), uuid_generate_v4(), count(*)", false),
            ("SELECT set_limit(0.3)", true),
            ("SELECT folded(x) FROM t", true),
            ("SELECT * FROM seen", true),
            ("SELECT * FROM SEEN_AGAIN", true),
            ("SELECT reader()", true),
            ("SELECT writer()", true),
            ("SELECT * FROM triggered, parent", false),
            ("INSERT INTO triggered VALUES (1)", true),
            ("DELETE FROM parent", true),
            ("UPDATE \"window\" SET a = 1", true),
            ("COPY triggered FROM STDIN", true),
            ("INSERT INTO other VALUES ('triggered')", false),
        ] {
            assert_eq!(calls(&suspects, text), expect, "{text}");
        }
        assert!(suspects.are_named_in("CREATE FUNCTION f() AS 'SELECT OUTER(1)'"));
        assert!(!suspects.are_named_in("CREATE FUNCTION f() AS 'SELECT 1'"));
        let anybody = [edge(Edge::Anybody, "setter", "")];
        assert!(calls(&Suspects::find(&routines, &anybody), "SELECT 1"));
        assert!(!calls(&Suspects::find(&routines[4..5], &anybody), "SELECT fine()"));
        assert!(calls(&Suspects::unread(), "SELECT 1"));
    }
}
