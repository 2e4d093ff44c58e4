//! Holds the sources against the architecture page: which room may import which, what the pure
//! rooms must do without, and whether every path the page names is there.
//!
//! The scanner reads tokens, not syntax trees: comments, strings and `#[cfg(test)]` items are
//! left out, `use` trees are unfolded, `super` is resolved. It errs on the side of complaint.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// A directory (or single file) right under `src/`.
struct Room {
    name: &'static str,
    /// Rooms above it that it must not import all the same.
    not: &'static [&'static str],
    /// Paths and keywords it must do without.
    without: &'static [&'static str],
}

const IO: &[&str] = &["tokio", "async", "std::net", "std::fs", "std::os", "std::process"];
const SOCKETS: &[&str] = &[
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::os::unix::net",
    "tokio::net",
    "tokio::io",
    "socket2",
];

/// A room imports only rooms above it.
const ROOMS: &[Room] = &[
    Room { name: "error", not: &[], without: IO },
    Room { name: "wire", not: &[], without: IO },
    Room { name: "config", not: &[], without: &["tokio"] },
    Room { name: "telemetry", not: &[], without: &["axum"] },
    Room { name: "auth", not: &[], without: IO },
    Room { name: "ring", not: &[], without: IO },
    Room { name: "sql", not: &["ring"], without: IO },
    Room { name: "route", not: &[], without: IO },
    Room { name: "backend", not: &[], without: &[] },
    Room { name: "pool", not: &["sql"], without: &[] },
    Room { name: "merge", not: &["backend", "pool"], without: IO },
    Room { name: "execute", not: &[], without: &[] },
    Room { name: "txn", not: &["sql"], without: &[] },
    Room { name: "session", not: &[], without: &["axum"] },
    Room { name: "admin", not: &["wire"], without: SOCKETS },
    Room { name: "http", not: &["backend", "execute", "session"], without: &[] },
    Room { name: "demo", not: &["execute", "session"], without: &[] },
    Room { name: "app", not: &[], without: &[] },
];

#[test]
fn no_room_looks_where_it_must_not() {
    let mut faults = Vec::new();
    for (file, source) in sources() {
        faults.extend(faults_in(&file, &source));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_room_is_known() {
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.strip_suffix(".rs").unwrap_or(&name);
        let known = ROOMS.iter().any(|room| room.name == name);
        assert!(
            known || ["lib", "main", "ARCHITECTURE.md"].contains(&name),
            "src/{name}: a new room needs a row in this test and one in src/ARCHITECTURE.md"
        );
    }
}

#[test]
fn the_page_has_every_room_in_order() {
    let page = page();
    let rows: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let rooms: Vec<&str> = ROOMS.iter().map(|room| room.name).collect();
    assert_eq!(rows, rooms);
}

#[test]
fn every_path_the_page_names_is_there() {
    let page = page();
    let missing: Vec<&str> = paths_named(&page)
        .into_iter()
        .filter(|path| !root().join(path).exists() && !root().join("src").join(path).exists())
        .collect();
    assert!(missing.is_empty(), "src/ARCHITECTURE.md names what is not there: {missing:?}");
}

#[test]
fn page_paths() {
    let check = |text: &str, expect: &[&str]| assert_eq!(paths_named(text), expect, "{text}");
    check("see `a/b.rs` and `c/`, or `d.rs`", &["a/b.rs", "c/", "d.rs"]);
    check("`Route`, `BEGIN`, `0A000`, `n/a`, `x.y`", &[]);
    check("no `closing", &[]);
}

#[test]
fn edges() {
    let check = |file: &str, source: &str, expect: &[&str]| {
        let source = Source::read(source);
        let module = module_of(Path::new(file));
        let found: Vec<String> =
            source.paths(&module).iter().filter_map(Use::room).map(str::to_owned).collect();
        assert_eq!(found, expect, "{file}: {:?}", source.tokens);
    };
    // Imports and plain paths.
    check("src/a/b.rs", "use crate::x;", &["x"]);
    check("src/a/b.rs", "use crate::x::{y, z::w};", &["x", "x"]);
    check("src/a/b.rs", "use crate::{x, y::z, w::{u, v}};", &["x", "y", "w", "w"]);
    check("src/a/b.rs", "use {crate::x, std::fs, crate::{y::*,}};", &["x", "y"]);
    check("src/a/b.rs", "pub(crate) use crate :: x as other;", &["x"]);
    check(
        "src/a/b.rs",
        "fn f(x: &crate::x::T) -> Vec<crate::y::U> { crate::z::g::<crate::w::V>() }",
        &["x", "y", "z", "w"],
    );
    check("src/a/b.rs", "impl crate::x::T for U where <crate::y::V as Z>::W: Sized {}", &["x", "y"]);
    check("src/a/b.rs", "macro_rules! m { () => { $crate::x::f() } }", &["x"]);
    check("src/a/b.rs", "use crate::*;", &["*"]);
    check("src/a/b.rs", "use crate::r#x::y;", &["x"]);
    // The way up.
    check("src/a/b.rs", "use super::x;", &[]);
    check("src/a/b.rs", "use super::super::x;", &["x"]);
    check("src/a/b.rs", "use super::{c, super::x::y};", &["x"]);
    check("src/a/mod.rs", "use super::x; use self::b;", &["x"]);
    check("src/a/b/mod.rs", "use super::x; use super::super::y;", &["y"]);
    check("src/a/b/c.rs", "use super::super::x; use super::super::super::y;", &["y"]);
    check("src/a.rs", "use super::x;", &["x"]);
    check(
        "src/a/b.rs",
        "mod c { use super::super::x; use super::super::super::y; } use super::super::z;",
        &["y", "z"],
    );
    check("src/a/b.rs", "fn f() { if x { } } use self::super::super::y;", &["y"]);
    // What is not code.
    check("src/a/b.rs", "// crate::x\n/* crate::y /* crate::z */ crate::w */ //! [crate::v]", &[]);
    check("src/a/b.rs", "/// [`T`](crate::x::T)\nuse crate::y;", &["y"]);
    check(
        "src/a/b.rs",
        r####"let s = "\"crate::x"; let r = r#"" crate::y "#; let b = br"crate::z\"; crate::w"####,
        &["w"],
    );
    check(
        "src/a/b.rs",
        "let c = '\"'; crate::x; let d = '\\''; crate::y; fn f<'a>(x: &'a crate::z) {} b'\\\\'",
        &["x", "y", "z"],
    );
    // What is only a test's.
    check("src/a/b.rs", "#[cfg(test)] mod tests { use crate::x; fn f() {} } use crate::y;", &["y"]);
    check("src/a/b.rs", "#[cfg(test)]\n#[allow(unused)]\nuse crate::{x, z}; use crate::y;", &["y"]);
    check(
        "src/a/b.rs",
        "#[cfg(all(test, unix))] fn f(a: [u8; 3]) -> crate::x { crate::x } use crate::y;",
        &["y"],
    );
    check("src/a/b.rs", "#[cfg(not(test))] use crate::x;", &["x"]);
    check("src/a/b.rs", "#[cfg(feature = \"test\")] use crate::x;", &["x"]);
    check("src/a/b.rs", "#![cfg(test)] use crate::x;", &[]);
    check("src/a/b.rs", "#[cfg(test)] mod tests; use crate::x;", &["x"]);
}

/// Made-up sources, and what is wrong with them.
#[test]
fn faults() {
    let check = |file: &str, source: &str, expect: &[&str]| {
        assert_eq!(faults_in(Path::new(file), source), expect, "{source}");
    };
    check(
        "src/ring/lookup.rs",
        "use crate::error::ClientError;\nuse crate::pool::Pool;",
        &["src/ring/lookup.rs:2: `ring` must not import `pool`, which is below it"],
    );
    check(
        "src/sql/lexer.rs",
        "fn f(_: crate::ring::ShardId) {}",
        &["src/sql/lexer.rs:1: `sql` must not know `ring`"],
    );
    check(
        "src/pool/local.rs",
        "use crate::{backend::Server, sql::Shape};",
        &["src/pool/local.rs:1: `pool` must not know `sql`"],
    );
    check(
        "src/http/mod.rs",
        "\n\nuse super::session::Session;",
        &["src/http/mod.rs:3: `http` must not know `session`"],
    );
    check(
        "src/admin/mod.rs",
        "use std::{io, net::TcpStream}; use crate::wire::Buffer;",
        &[
            "src/admin/mod.rs:1: `admin` must do without `std::net::TcpStream`",
            "src/admin/mod.rs:1: `admin` must not know `wire`",
        ],
    );
    check(
        "src/route/mod.rs",
        "pub async fn route() {}",
        &["src/route/mod.rs:1: `route` must do without `async`"],
    );
    check(
        "src/merge/sort.rs",
        "use tokio::sync::mpsc;",
        &["src/merge/sort.rs:1: `merge` must do without `tokio`"],
    );
    check(
        "src/wire/frame.rs",
        "fn f() { ::std::fs::read(\"x\") }",
        &["src/wire/frame.rs:1: `wire` must do without `std::fs`"],
    );
    check(
        "src/error.rs",
        "use crate::wire;",
        &["src/error.rs:1: `error` must not import `wire`, which is below it"],
    );
    check("src/app/mod.rs", "use crate::util::x;", &["src/app/mod.rs:1: `util` is not a room"]);
    check(
        "src/session/mod.rs",
        "use crate::app;",
        &["src/session/mod.rs:1: `session` must not import `app`, which is below it"],
    );

    check("src/session/mod.rs", "use crate::{auth, execute, pool, session::startup};", &[]);
    check("src/route/mod.rs", "#[cfg(test)] mod tests { use crate::pool::Pool; async fn f() {} }", &[]);
    check("src/ring/mod.rs", "use std::sync::Arc; use super::error::SqlState;", &[]);
    check("src/main.rs", "use pgring::app;", &[]);
}

#[test]
fn out_of_line_tests() {
    let check = |file: &str, source: &str, expect: &[&str]| {
        let found = Source::read(source).test_files(Path::new(file));
        assert_eq!(found, expect.iter().map(PathBuf::from).collect::<Vec<_>>());
    };
    check("src/a/b.rs", "#[cfg(test)] mod tests;", &["src/a/b/tests"]);
    check("src/a/mod.rs", "#[cfg(test)] pub(crate) mod fake; mod real;", &["src/a/fake"]);
    check("src/a.rs", "mod tests;", &[]);
}

/// Everything wrong with a file, one line each.
fn faults_in(file: &Path, source: &str) -> Vec<String> {
    let module = module_of(file);
    let Some((rank, room)) =
        ROOMS.iter().enumerate().find(|(_, room)| module.first() == Some(&room.name.to_owned()))
    else {
        return Vec::new();
    };
    let mut faults = Vec::new();
    for found in Source::read(source).paths(&module) {
        let mut fault = |text: fmt::Arguments<'_>| {
            faults.push(format!("{}:{}: {text}", file.display(), found.line));
        };
        for &path in room.without {
            let without: Vec<&str> = path.split("::").collect();
            if found.segments.len() >= without.len()
                && found.segments.iter().zip(&without).all(|(a, b)| a == b)
            {
                fault(format_args!("`{}` must do without `{path}`", room.name));
            }
        }
        let Some(target) = found.room() else { continue };
        match ROOMS.iter().position(|room| room.name == target) {
            None => fault(format_args!("`{target}` is not a room")),
            Some(other) if other > rank => {
                fault(format_args!("`{}` must not import `{target}`, which is below it", room.name));
            }
            Some(_) if room.not.contains(&target) => {
                fault(format_args!("`{}` must not know `{target}`", room.name));
            }
            Some(_) => {}
        }
    }
    faults
}

/// The library's files with their text, without those that are tests as a whole.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("src"), &mut found);
    found.sort();
    let tests: BTreeSet<PathBuf> =
        found.iter().flat_map(|(file, text)| Source::read(text).test_files(file)).collect();
    found.retain(|(file, _)| !file.with_extension("").ancestors().any(|ancestor| tests.contains(ancestor)));
    assert!(found.len() > ROOMS.len(), "the sources were not found");
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    std::fs::read_to_string(root().join("src/ARCHITECTURE.md")).unwrap()
}

/// What stands in backquotes and is written as a path: a directory (`x/`) or a file (`x.rs`).
fn paths_named(page: &str) -> Vec<&str> {
    let quoted = page.lines().flat_map(|line| {
        let pieces: Vec<&str> = line.split('`').collect();
        let closed = pieces.len() / 2 * 2 - usize::from(pieces.len() % 2 == 0);
        pieces.into_iter().take(closed).skip(1).step_by(2).collect::<Vec<_>>()
    });
    quoted.filter(|text| text.ends_with('/') || text.ends_with(".rs")).collect()
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are both `a::b`.
fn module_of(file: &Path) -> Vec<String> {
    let file = file.with_extension("");
    let mut module: Vec<String> = file.iter().skip(1).map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// A path in the code, unfolded.
struct Use {
    line: usize,
    segments: Vec<String>,
    /// The module it stands in.
    module: Vec<String>,
}

impl Use {
    /// The room it leads to, if to another than its own by way of the crate's root.
    fn room(&self) -> Option<&str> {
        let mut rest = self.segments.as_slice();
        while rest.first().is_some_and(|first| first == "self") {
            rest = &rest[1..];
        }
        let ups = rest.iter().take_while(|segment| *segment == "super").count();
        let from_root = match rest.first()?.as_str() {
            "crate" => &rest[1..],
            "super" if ups == self.module.len() => &rest[ups..],
            _ => return None,
        };
        let room = from_root.first()?.as_str();
        (Some(room) != self.module.first().map(String::as_str)).then_some(room)
    }
}

#[derive(Clone, Debug)]
struct Token {
    line: usize,
    text: String,
}

/// A file's tokens without its tests.
struct Source {
    tokens: Vec<Token>,
    /// Modules declared `#[cfg(test)] mod name;`.
    test_modules: Vec<String>,
}

impl Source {
    fn read(text: &str) -> Source {
        let all = tokens(text);
        let mut source = Source { tokens: Vec::new(), test_modules: Vec::new() };
        let mut at = 0;
        while at < all.len() {
            let Some((end, inner)) = test_attribute(&all, at) else {
                source.tokens.push(all[at].clone());
                at += 1;
                continue;
            };
            if inner {
                break;
            }
            let item = item_end(&all, end);
            let words = &all[end..item];
            if let [.., keyword, name, semicolon] = words {
                if keyword.text == "mod" && semicolon.text == ";" {
                    source.test_modules.push(name.text.clone());
                }
            }
            at = item;
        }
        source
    }

    /// Where the out-of-line test modules of `file` lie, without extension.
    fn test_files(&self, file: &Path) -> Vec<PathBuf> {
        let stem = file.with_extension("");
        let dir = if stem.ends_with("mod") { stem.parent().unwrap().to_owned() } else { stem };
        self.test_modules.iter().map(|name| dir.join(name)).collect()
    }

    /// Every path in the file; `use` trees give one for each leaf.
    fn paths(&self, module: &[String]) -> Vec<Use> {
        let mut found = Vec::new();
        let mut module = module.to_vec();
        // For each open brace: whether it opened an inline module.
        let mut braces = Vec::new();
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            match token.text.as_str() {
                "{" => {
                    let inline = at >= 2 && self.tokens[at - 2].text == "mod";
                    if inline {
                        module.push(self.tokens[at - 1].text.clone());
                    }
                    braces.push(inline);
                }
                "}" => {
                    if braces.pop() == Some(true) {
                        module.pop();
                    }
                }
                text if is_word(text) => {
                    at = self.tree(at, &[], &module, &mut found);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        found
    }

    /// Unfolds the path at `at`; gives where it ends.
    fn tree(&self, mut at: usize, prefix: &[String], module: &[String], found: &mut Vec<Use>) -> usize {
        let text = |at: usize| self.tokens.get(at).map_or("", |token| token.text.as_str());
        let line = self.tokens[at].line;
        let mut segments = prefix.to_vec();
        loop {
            if text(at) == "{" {
                at += 1;
                while !matches!(text(at), "}" | "") {
                    at = match text(at) {
                        word if is_word(word) || matches!(word, "{" | "*") => {
                            let end = self.tree(at, &segments, module, found);
                            if text(end) == "as" { end + 2 } else { end }
                        }
                        _ => at + 1,
                    };
                }
                return at + 1;
            }
            segments.push(text(at).to_owned());
            at += 1;
            let next = text(at + 1);
            if text(at) != "::" || !(is_word(next) || matches!(next, "{" | "*")) {
                found.push(Use { line, segments, module: module.to_vec() });
                return at;
            }
            at += 1;
        }
    }
}

/// `#[cfg(test)]`, `#[cfg(all(test, …))]`, `#![cfg(test)]` at `at`: where it ends, and whether it
/// stands for what surrounds it.
fn test_attribute(tokens: &[Token], at: usize) -> Option<(usize, bool)> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    if text(at) != "#" {
        return None;
    }
    let inner = text(at + 1) == "!";
    let open = at + 1 + usize::from(inner);
    if text(open) != "[" || text(open + 1) != "cfg" {
        return None;
    }
    let end = closing(tokens, open);
    let condition: Vec<&str> = (open + 2..end).map(text).collect();
    let is_test = matches!(condition.as_slice(), ["(", "test", ")", ..] | ["(", "all", "(", "test", ..]);
    is_test.then_some((end, inner))
}

/// Where the item that begins at `at` (perhaps with more attributes) ends.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            ";" => return at + 1,
            "{" => return closing(tokens, at),
            "(" | "[" => at = closing(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Just after the bracket that closes the one at `at`.
fn closing(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single characters; no comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            string(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '\'' {
            character(rest)
        } else if first.is_whitespace() {
            first.len_utf8()
        } else {
            let word = rest.strip_prefix("r#").unwrap_or(rest);
            let length = if rest.starts_with("::") {
                2
            } else {
                let end = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
                if end == 0 { first.len_utf8() } else { end }
            };
            let word = if word.len() < rest.len() && !is_word(word) { rest } else { word };
            found.push(Token { line, text: word[..length].to_owned() });
            rest.len() - word.len() + length
        };
        line += rest[..skipped].matches('\n').count();
        rest = &rest[skipped..];
    }
    found
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `r"…"`, `br#"…"#` and the like.
fn raw_string(text: &str) -> Option<usize> {
    let after = ["br", "cr", "r"].iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let hashes = after.bytes().take_while(|&b| b == b'#').count();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + length)
}

/// A character literal, or the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            chars.next();
            chars.find(|&(_, c)| c == '\'').map_or(text.len(), |(at, _)| at + 1)
        }
        Some(_) if chars.next().is_some_and(|(_, c)| c == '\'') => {
            text.char_indices().nth(3).map_or(text.len(), |(at, _)| at)
        }
        _ => 1,
    }
}
