//! `CREATE`, `ALTER`, `DROP` and their kin: which shards must run them, told by their words
//! and the objects they name.
//!
//! Tables that are not sharded exist on the home shard only, all else on every shard. Where
//! an object's place is not known (an index), every shard runs the statement, in one
//! transaction: a shard that does not have the object fails it as a whole, visibly.

use std::collections::HashSet;
use std::ops::Range;

use super::super::distribute;
use super::super::lexer::{TokenKind, tokenize};
use super::super::schema::{Configured, Table, TableKind};
use super::super::shape::{Access, Kind, Pin, Statement, Target};
use super::Context;
use super::bridge::{self, Depth};
use super::functions::{Effect, effect, stronger};
use super::literals::Literals;
use super::names::{Named, resolve};
use super::query::{Analyzer, Met};
use super::refusals::Refusal;
use super::session::plain;
use super::tokens::{Name, Tokens};

/// Views on views on views.
const MOST_VIEWS_DEEP: usize = 16;

/// Where an object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Home,
    Each,
}

/// What the words of a statement name, whatever they are there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Mentioned {
    /// A sharded table, or a view on one; or what only the server can read.
    pub(super) sharded: bool,
    pub(super) reference: bool,
    /// Another table of the snapshot.
    pub(super) other: bool,
    /// A function that may read any table.
    pub(super) function: bool,
    /// A catalog.
    pub(super) catalog: bool,
}

/// Looks each word up as a name, in any schema.
pub(super) fn mentioned(tokens: &Tokens<'_>, range: Range<usize>, cx: &Context<'_>) -> Mentioned {
    let mut found = Mentioned::default();
    let mut seen = HashSet::new();
    for at in range {
        match tokens.kind(at) {
            Some(TokenKind::UnicodeIdent) => found.sharded = true,
            Some(TokenKind::Word | TokenKind::QuotedIdent) => {
                let Some(name) = tokens.identifier(at) else {
                    found.sharded = true;
                    continue;
                };
                found.function |= tokens.is_mark(at + 1, "(")
                    && matches!(effect(cx.schema, None, &name), Effect::UserDefined | Effect::Reads);
                found.catalog |= name.starts_with("pg_") || name == "information_schema";
                // Once is enough: whether a view is sharded is read off its definition.
                for table in cx.schema.named(&name).filter(|_| seen.insert(name.clone())) {
                    match (&table.kind, place(table, cx, 0)) {
                        (TableKind::Reference, _) => found.reference = true,
                        (_, Place::Each) => found.sharded = true,
                        (_, Place::Home) => found.other = true,
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn place(table: &Table, cx: &Context<'_>, depth: usize) -> Place {
    match &table.kind {
        TableKind::Sharded { .. } | TableKind::Reference => Place::Each,
        TableKind::Home | TableKind::Sequence => Place::Home,
        TableKind::View { definition } => {
            let Ok(tokens) = tokenize(definition.as_bytes(), true) else { return Place::Each };
            let tokens = Tokens::new(definition.as_bytes(), tokens);
            let each = depth >= MOST_VIEWS_DEEP
                || (0..tokens.len()).any(|at| {
                    tokens.identifier(at).is_some_and(|name| {
                        cx.schema
                            .named(&name)
                            .any(|named| named != table && place(named, cx, depth + 1) == Place::Each)
                    })
                });
            if each { Place::Each } else { Place::Home }
        }
    }
}

fn place_of(name: &Name, cx: &Context<'_>) -> Option<Place> {
    match resolve(cx, cx.search_path, name) {
        Named::Table(table) => Some(place(table, cx, 0)),
        Named::Unknown => Some(Place::Home),
        Named::Catalog => None,
    }
}

/// All of them in one place, or refused.
fn target_of(names: &[Name], cx: &Context<'_>) -> Target {
    let mut target = None;
    for name in names {
        let next = match place_of(name, cx) {
            Some(Place::Home) => Target::Home,
            Some(Place::Each) | None => Target::EachShard,
        };
        if *target.get_or_insert(next.clone()) != next {
            return refused(Refusal::mixed_objects());
        }
    }
    target.unwrap_or(Target::EachShard)
}

pub(super) fn refused(refusal: Refusal) -> Target {
    Target::Refused(refusal.message, refusal.hint)
}

/// `[ONLY] name [*] [(…)], …`
fn names(tokens: &Tokens<'_>, mut at: usize, end: usize) -> Vec<Name> {
    let mut names = Vec::new();
    loop {
        at += usize::from(tokens.is_word(at, "only"));
        let Some((name, behind)) = tokens.name(at, end) else { return names };
        names.push(name);
        at = behind;
        at += usize::from(tokens.is_mark(at, "*"));
        if at < end && tokens.is_mark(at, "(") {
            at = tokens.behind_parenthesis(at, end);
        }
        if at >= end || !tokens.is_mark(at, ",") {
            return names;
        }
        at += 1;
    }
}

/// Such a statement, or `None`.
pub(super) fn classify(tokens: &Tokens<'_>, range: &Range<usize>, cx: &Context<'_>) -> Option<Statement> {
    let (start, end) = (range.start, range.end);
    let ddl = |target| Some(plain(Kind::Ddl, target, Access::Write));
    match tokens.word(start).as_str() {
        "create" => {
            let mut statement = create(tokens, range, cx);
            if statement.pin != Some(Pin::TemporaryTable) {
                statement.target = that_holds(statement.target, tokens, range, cx);
            }
            Some(statement)
        }
        "alter" => {
            let pin = if tokens.is_word(start + 1, "table") { pin_of_calls(tokens, range) } else { None };
            let target = that_holds(alter(tokens, range, cx), tokens, range, cx);
            Some(Statement { pin, ..plain(Kind::Ddl, target, Access::Write) })
        }
        "drop" => ddl(drop(tokens, range, cx)),
        "truncate" => {
            let at = start + 1 + usize::from(tokens.is_word(start + 1, "table"));
            ddl(target_of(&names(tokens, at, end), cx))
        }
        "comment" => ddl(comment(tokens, range, cx)),
        "security" => ddl(Target::EachShard),
        "grant" | "revoke" => ddl(grant(tokens, range, cx)),
        "import" => ddl(Target::Home),
        "reassign" => ddl(Target::EachShard),
        "lock" => {
            let at = start + 1 + usize::from(tokens.is_word(start + 1, "table"));
            Some(plain(Kind::Other, target_of(&names(tokens, at, end), cx), Access::Write))
        }
        "vacuum" | "analyze" | "analyse" | "cluster" | "reindex" | "checkpoint" | "refresh" => {
            Some(plain(Kind::Maintenance, maintenance(tokens, range, cx), Access::Write))
        }
        _ => None,
    }
}

/// What runs on several shards is looked at when it does; what the home shard runs alone must be, here.
fn that_holds(target: Target, tokens: &Tokens<'_>, range: &Range<usize>, cx: &Context<'_>) -> Target {
    match target {
        Target::Home => match distribute::holds(tokens, range, cx) {
            Ok(()) => target,
            Err(impossible) => Target::Refused(impossible.message, impossible.hint),
        },
        target => target,
    }
}

fn maintenance(tokens: &Tokens<'_>, range: &Range<usize>, cx: &Context<'_>) -> Target {
    let end = range.end;
    let mut at = range.start + 1;
    if at < end && tokens.is_mark(at, "(") {
        at = tokens.behind_parenthesis(at, end);
    }
    match tokens.word(range.start).as_str() {
        "refresh" => {
            at += 2;
            at += usize::from(tokens.is_word(at, "concurrently"));
        }
        "reindex" => {
            if !tokens.is_word(at, "table") {
                return Target::EachShard;
            }
            at += 1;
            at += usize::from(tokens.is_word(at, "concurrently"));
        }
        _ => {
            while at < end && tokens.is_one_of(at, &["full", "freeze", "verbose", "analyze", "analyse"]) {
                at += 1;
            }
            // `CLUSTER index ON table`, of old.
            if let Some(on) = tokens.find_word(at..end, &["on"]) {
                at = on + 1;
            }
        }
    }
    target_of(&names(tokens, at, end), cx)
}

fn create(tokens: &Tokens<'_>, range: &Range<usize>, cx: &Context<'_>) -> Statement {
    let end = range.end;
    let mut at = range.start + 1;
    let mut temporary = false;
    let mut foreign = false;
    while at < end
        && tokens.is_one_of(
            at,
            &[
                "or",
                "replace",
                "global",
                "local",
                "temp",
                "temporary",
                "unlogged",
                "recursive",
                "unique",
                "foreign",
                "constraint",
                "materialized",
                "trusted",
                "procedural",
            ],
        )
    {
        temporary |= tokens.is_one_of(at, &["temp", "temporary"]);
        foreign |= tokens.is_word(at, "foreign");
        at += 1;
    }
    let materialized = tokens.is_word(at - 1, "materialized");
    let what = tokens.word(at);
    at += 1;
    let mut statement = plain(Kind::Ddl, Target::EachShard, Access::Write);
    if temporary {
        statement.pin = Some(Pin::TemporaryTable);
    }
    let concurrently = tokens.is_word(at, "concurrently");
    at += usize::from(concurrently);
    if tokens.are_words(at, &["if", "not", "exists"]) {
        at += 3;
    }
    let qualified = |at: usize| {
        tokens.is_mark(at + 1, ".") && tokens.identifier(at).is_some_and(|schema| is_temporary(&schema))
    };
    if range.clone().any(qualified) || is_made_temporary(tokens, at, end, cx) {
        statement.pin = Some(Pin::TemporaryTable);
    }
    if (what == "table" || materialized) && tokens.find_word(at..end, &["as"]).is_some() {
        statement.pin = stronger(statement.pin, pin_of_calls(tokens, range));
    }
    statement.target = match what.as_str() {
        "table" if foreign => Target::Home,
        "table" => create_table(tokens, at..end, temporary, cx),
        "view" => {
            let sharded = {
                let mentioned = mentioned(tokens, at..end, cx);
                mentioned.sharded || mentioned.reference
            };
            match (sharded, temporary || materialized) {
                (false, _) => Target::Home,
                (true, false) => Target::EachShard,
                (true, true) => refused(Refusal::derived_table("a temporary or materialized view")),
            }
        }
        "sequence" => Target::Home,
        "index" => {
            if concurrently {
                statement.kind = Kind::Maintenance;
            }
            let on = tokens.find_word(at..end, &["on"]).map_or(end, |on| on + 1);
            target_of(&names(tokens, on, end).into_iter().take(1).collect::<Vec<_>>(), cx)
        }
        "trigger" | "rule" | "policy" | "statistics" => {
            let mentioned = mentioned(tokens, at..end, cx);
            if what == "rule" && (mentioned.sharded || mentioned.reference) {
                refused(Refusal::rule_made())
            } else if mentioned.sharded || mentioned.reference {
                Target::EachShard
            } else {
                Target::Home
            }
        }
        "database" | "tablespace" | "subscription" | "publication" => {
            refused(Refusal::server_wide(&format!("CREATE {}", what.to_ascii_uppercase())))
        }
        _ => Target::EachShard,
    };
    statement
}

/// Why the session must keep its connection for what an expression of a definition calls. That of a
/// column's default is not called now.
fn pin_of_calls(tokens: &Tokens<'_>, range: &Range<usize>) -> Option<Pin> {
    super::pin_by_words(tokens, range).filter(|pin| *pin != Pin::Sequence)
}

/// The schema of a session's own objects, by either of its names.
fn is_temporary(schema: &str) -> bool {
    schema.strip_prefix("pg_temp").is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// May what is made by the name at `at` be temporary? Without a schema it is made in the first one of
/// the path that exists.
pub(super) fn is_made_temporary(tokens: &Tokens<'_>, at: usize, end: usize, cx: &Context<'_>) -> bool {
    match tokens.name(at, end) {
        Some((Name { schema: Some(schema), .. }, _)) => is_temporary(&schema),
        _ => cx.search_path.iter().any(|schema| is_temporary(schema)),
    }
}

fn create_table(tokens: &Tokens<'_>, range: Range<usize>, temporary: bool, cx: &Context<'_>) -> Target {
    let Some((name, behind)) = tokens.name(range.start, range.end) else { return Target::EachShard };
    let mentioned = mentioned(tokens, behind..range.end, cx);
    let filled = tokens.find_word(behind..range.end, &["as"]);
    let empty = tokens.are_words(range.end.saturating_sub(3), &["with", "no", "data"]);
    if filled.is_some() && !empty && (mentioned.sharded || mentioned.function) {
        return refused(Refusal::derived_table("a table filled"));
    }
    if temporary {
        let hides = cx.schema.named(&name.name).any(|table| place(table, cx, 0) == Place::Each);
        return if hides { refused(Refusal::temporary_name(&name.name)) } else { Target::Home };
    }
    if tokens.are_words(behind, &["partition", "of"]) {
        return target_of(&names(tokens, behind + 2, range.end).into_iter().take(1).collect::<Vec<_>>(), cx);
    }
    let each = configured(&name, cx).is_some()
        || matches!(resolve(cx, cx.search_path, &name), Named::Table(table) if place(table, cx, 0) == Place::Each);
    let Some(at) = filled else {
        let each = each || has_column(tokens, behind..range.end, cx);
        return if each { Target::EachShard } else { Target::Home };
    };
    let query = at + 1..if empty { range.end - 3 } else { range.end };
    let keyed = if has_name(tokens, behind..at, cx.default_key) {
        Some(true)
    } else {
        gives_column(tokens, query, cx.default_key, cx)
    };
    filled_table(each, keyed, empty, cx)
}

/// Where a table is made that a query fills; `keyed`: whether it has the key, if that can be told.
fn filled_table(each: bool, keyed: Option<bool>, empty: bool, cx: &Context<'_>) -> Target {
    match (each, keyed) {
        (true, _) | (_, Some(true)) if empty => Target::EachShard,
        (true, _) | (_, Some(true)) => refused(Refusal::filled_everywhere()),
        (false, Some(false)) => Target::Home,
        (false, None) => refused(Refusal::filled_with_unknown(cx.default_key)),
    }
}

/// Where `SELECT … INTO name` makes its table, which is no temporary one. `into` is where the word stands.
pub(super) fn selected_into(
    tokens: &Tokens<'_>,
    range: &Range<usize>,
    into: usize,
    cx: &Context<'_>,
) -> Target {
    let mut at = into + 1;
    while tokens.is_one_of(at, &["unlogged", "table"]) {
        at += 1;
    }
    let each = tokens.name(at, range.end).is_some_and(|(name, _)| configured(&name, cx).is_some());
    filled_table(each, gives_column(tokens, range.clone(), cx.default_key, cx), false, cx)
}

/// What the configuration says of a table that is made by this name.
pub(in crate::sql) fn configured<'s>(name: &Name, cx: &Context<'s>) -> Option<&'s Configured> {
    let schemas = name.schema.as_ref().map_or(cx.search_path, std::slice::from_ref);
    cx.schema.configured(schemas, &name.name)
}

fn has_name(tokens: &Tokens<'_>, mut range: Range<usize>, name: &str) -> bool {
    range.any(|at| tokens.identifier(at).is_some_and(|found| found == name))
}

/// Whether a query has a column of this name in its answer; `None`: that cannot be told. By its words: a
/// name in an expression counts, since PostgreSQL may name the column after it.
fn gives_column(tokens: &Tokens<'_>, query: Range<usize>, column: &str, cx: &Context<'_>) -> Option<bool> {
    const BEHIND_LIST: &[&str] = &[
        "into",
        "from",
        "where",
        "group",
        "having",
        "window",
        "union",
        "intersect",
        "except",
        "order",
        "limit",
        "offset",
        "fetch",
        "for",
    ];
    if tokens.is_word(query.start, "execute") {
        return None;
    }
    let list = if tokens.is_word(query.start, "select") {
        let from = query.start + 1;
        from..tokens.find_word(from..query.end, BEHIND_LIST).unwrap_or(query.end)
    } else {
        query.clone()
    };
    let all = |at: usize| {
        (tokens.is_mark(at, "*") && !tokens.is_mark(at - 1, "("))
            || tokens.is_word(at, "table")
            // A whole row, or who knows what.
            || tokens.kind(at) == Some(TokenKind::UnicodeIdent)
    };
    if !list.clone().any(all) {
        return Some(items(tokens, list).into_iter().any(|item| may_be_named(tokens, item, column)));
    }
    if has_name(tokens, query.clone(), column) {
        return Some(true);
    }
    for at in query.clone() {
        let Some(name) = tokens.identifier(at) else { continue };
        if cx.schema.named(&name).any(|table| table.columns.iter().any(|other| other == column)) {
            return Some(true);
        }
        if tokens.is_mark(at + 1, "(") && !cx.schema.functions_named(&name).is_empty() {
            return None;
        }
    }
    (!names_unknown_table(tokens, query, cx)).then_some(false)
}

/// Whether PostgreSQL may give an item of a select list this name.
fn may_be_named(tokens: &Tokens<'_>, item: Range<usize>, column: &str) -> bool {
    let last = item.end - 1;
    let is_name = |at: usize| tokens.identifier(at).is_some();
    let said = tokens.is_word(last.saturating_sub(1), "as") && last > item.start && is_name(last);
    // `a`, `t.a`
    let bare = item.clone().all(|at| is_name(at) || tokens.is_mark(at, "."))
        && !item.clone().any(|at| is_name(at) && at < last && is_name(at + 1));
    if said || bare {
        return tokens.identifier(last).is_some_and(|name| name == column);
    }
    has_name(tokens, item, column)
}

/// What commas separate outside parentheses.
fn items(tokens: &Tokens<'_>, range: Range<usize>) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    let (mut start, mut at) = (range.start, range.start);
    while at < range.end {
        if tokens.is_mark(at, ",") {
            items.push(start..at);
            start = at + 1;
        }
        at = if tokens.is_mark(at, "(") { tokens.behind_parenthesis(at, range.end) } else { at + 1 };
    }
    items.push(start..range.end);
    items.retain(|item| !item.is_empty());
    items
}

/// Whether a query reads, or may read, a table whose columns are not known.
fn names_unknown_table(tokens: &Tokens<'_>, query: Range<usize>, cx: &Context<'_>) -> bool {
    let depth = Depth::of(tokens, query.clone());
    depth.is_too_deep()
        || bridge::with_stack(depth, || {
            let Ok(tree) = bridge::parse(tokens, query, &[]) else { return true };
            let mut analyzer = Analyzer::new(cx, Literals::new(tokens));
            analyzer.read(&tree);
            let unknown = analyzer.met.values().any(|met| matches!(met, Met::Unknown));
            // Puts the views' trees away on this stack.
            let _: Target = analyzer.target();
            unknown
        })
}

/// Whether a column list declares the key, itself or by `LIKE` and `INHERITS`.
fn has_column(tokens: &Tokens<'_>, range: Range<usize>, cx: &Context<'_>) -> bool {
    let mut depth = 0usize;
    for at in range.clone() {
        if tokens.is_mark(at, "(") {
            depth += 1;
        } else if tokens.is_mark(at, ")") {
            depth = depth.saturating_sub(1);
        }
        let begins = depth == 1 && (tokens.is_mark(at, "(") || tokens.is_mark(at, ","));
        if begins && tokens.identifier(at + 1).as_deref() == Some(cx.default_key) {
            return true;
        }
        let copied = (begins && tokens.is_word(at + 1, "like")).then_some(at + 2);
        let inherited = (depth == 0 && tokens.is_word(at, "inherits")).then_some(at + 2);
        if let Some(from) = copied.or(inherited) {
            let shares =
                names(tokens, from, range.end).iter().any(|name| place_of(name, cx) == Some(Place::Each));
            if shares {
                return true;
            }
        }
    }
    false
}

fn alter(tokens: &Tokens<'_>, range: &Range<usize>, cx: &Context<'_>) -> Target {
    let end = range.end;
    let mut at = range.start + 1;
    at += usize::from(tokens.is_one_of(at, &["foreign", "materialized"]));
    let what = tokens.word(at);
    at += 1;
    match what.as_str() {
        "table" | "view" | "sequence" => {
            if tokens.are_words(at, &["all", "in", "tablespace"]) {
                return Target::EachShard;
            }
            at += if tokens.are_words(at, &["if", "exists"]) { 2 } else { 0 };
            at += usize::from(tokens.is_word(at, "only"));
            target_of(&names(tokens, at, end).into_iter().take(1).collect::<Vec<_>>(), cx)
        }
        "trigger" | "rule" | "policy" => {
            let on = tokens.find_word(at..end, &["on"]).map_or(end, |on| on + 1);
            target_of(&names(tokens, on, end).into_iter().take(1).collect::<Vec<_>>(), cx)
        }
        "system" | "tablespace" | "subscription" | "publication" => {
            refused(Refusal::server_wide(&format!("ALTER {}", what.to_ascii_uppercase())))
        }
        _ => Target::EachShard,
    }
}

fn drop(tokens: &Tokens<'_>, range: &Range<usize>, cx: &Context<'_>) -> Target {
    let end = range.end;
    let mut at = range.start + 1;
    at += usize::from(tokens.is_one_of(at, &["foreign", "materialized"]));
    let what = tokens.word(at);
    at += 1;
    at += if tokens.are_words(at, &["if", "exists"]) { 2 } else { 0 };
    match what.as_str() {
        "table" | "view" | "sequence" => target_of(&names(tokens, at, end), cx),
        "trigger" | "rule" | "policy" => {
            let on = tokens.find_word(at..end, &["on"]).map_or(end, |on| on + 1);
            target_of(&names(tokens, on, end).into_iter().take(1).collect::<Vec<_>>(), cx)
        }
        "database" | "tablespace" | "subscription" | "publication" => {
            refused(Refusal::server_wide(&format!("DROP {}", what.to_ascii_uppercase())))
        }
        _ => Target::EachShard,
    }
}

fn comment(tokens: &Tokens<'_>, range: &Range<usize>, cx: &Context<'_>) -> Target {
    let end = range.end;
    let mut at = range.start + 2;
    at += usize::from(tokens.is_one_of(at, &["foreign", "materialized"]));
    match tokens.word(at).as_str() {
        "table" | "view" | "sequence" => target_of(&names(tokens, at + 1, end), cx),
        "column" => {
            // The last part is the column's own name.
            let mut parts = Vec::new();
            let mut at = at + 1;
            while let Some(part) = tokens.identifier(at).filter(|_| at < end) {
                parts.push(part);
                if !tokens.is_mark(at + 1, ".") {
                    break;
                }
                at += 2;
            }
            parts.pop();
            match parts.pop() {
                Some(name) => target_of(&[Name { schema: parts.pop(), name }], cx),
                None => Target::EachShard,
            }
        }
        "trigger" | "rule" | "policy" | "constraint" => {
            let on = tokens.find_word(at..end, &["on"]).map_or(end, |on| on + 1);
            target_of(&names(tokens, on, end).into_iter().take(1).collect::<Vec<_>>(), cx)
        }
        _ => Target::EachShard,
    }
}

fn grant(tokens: &Tokens<'_>, range: &Range<usize>, cx: &Context<'_>) -> Target {
    let Some(on) = tokens.find_word(range.clone(), &["on"]) else { return Target::EachShard };
    let mut at = on + 1;
    match tokens.word(at).as_str() {
        "table" => at += 1,
        "sequence" => return Target::Home,
        "all" | "schema" | "function" | "procedure" | "routine" | "database" | "domain" | "foreign"
        | "language" | "large" | "parameter" | "tablespace" | "type" => return Target::EachShard,
        _ => {}
    }
    target_of(&names(tokens, at, range.end), cx)
}
