//! Holds the sources against the architecture page: which room may import which, what the pure
//! rooms must do without, and whether every path the page names is there.
//!
//! A table of rooms, and tables of tests for the scanner that reads the sources.

#![allow(clippy::unwrap_used)] // all of this is a test, also what has no #[test] before it

#[path = "architecture/scanner.rs"]
mod scanner;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use scanner::{Source, Use, module_of};

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
        // The last piece has no backquote after it.
        pieces[..pieces.len() - 1].iter().skip(1).step_by(2).copied().collect::<Vec<_>>()
    });
    quoted.filter(|text| text.ends_with('/') || text.ends_with(".rs")).collect()
}
