//! Queries that run over copies of the rows they need.
//!
//! What runs is the client's statement, word for word, but for its tables' names: each becomes the
//! name of a temporary table, under the alias it had. That means the same over the copies as over
//! the tables because
//!
//! - a copy has every row that can matter: all of its table's, less those that a condition the
//!   statement itself makes wherever it names the table leaves out ([`conditions`]), and those with
//!   another key than the ones that can matter;
//! - a copy has every column whose name the statement mentions, in whatever sense, with its type and
//!   collation, and all of them in the table's order where the statement may depend on that
//!   ([`survey`]); so each name in the statement finds what it found before;
//! - what a copy does not have is not asked for: system columns, samples, locks, the table's own
//!   row type as such;
//! - what the statement calls reads no table by itself, and leaves nothing behind in the session.
//!
//! A view is copied like a table where its rows are the union of what each shard's view holds, so
//! that its owner's rights stay what they were; any other one is put in place ([`views`]).
//!
//! Whatever is not proven is [`Impossible`].

mod conditions;
mod supply;
mod survey;
#[cfg(test)]
mod tests;
mod views;

use std::borrow::Cow;
use std::ops::Range;

use sqlparser::ast::{Statement, Visit as _};

use super::super::analyze::bridge::{self, Depth};
use super::super::analyze::literals::Literals;
use super::super::analyze::query::Analyzer;
use super::super::analyze::refusals::Refusal;
use super::super::analyze::tokens::Tokens;
use super::super::analyze::{Context, begins_query};
use super::super::lexer::{TokenKind, tokenize};
use super::super::schema::{Carriage, Table, TableKind};
use super::super::shape::{KeySlot, KeySource, KeyType};
use super::{Gather, Impossible, Shadow, Source};
use survey::{Reference, Survey};

pub(super) use supply::supplied;

/// What pgring's own copies are called, with a number behind it.
const COPY: &str = "pgring_";
/// Views may stand on views.
const MOST_VIEWS_DEEP: usize = 16;
/// Views that name others twice each would grow without bound.
const MOST_BYTES: usize = 1 << 20;
/// Of more keys a condition is not made: each is looked up in the text.
const MOST_KEYS: usize = 64;

const HINT: &str = "Add a condition on the key, or a hint /* pgring: shard=NAME */.";

impl Impossible {
    fn to_gather(message: impl Into<String>) -> Impossible {
        Impossible { message: message.into(), hint: HINT.to_owned() }
    }
}

impl From<Refusal> for Impossible {
    fn from(Refusal { message, hint }: Refusal) -> Impossible {
        Impossible { message, hint }
    }
}

/// What one reading of a text leads to.
enum Step {
    Planned(Gather),
    /// The text with views put in place, to be read again.
    Expanded(String),
}

pub(super) fn plan(text: &[u8], cx: &Context<'_>) -> Result<Gather, Impossible> {
    let mut text = Cow::Borrowed(text);
    for views_deep in 0..MOST_VIEWS_DEEP {
        match step(&text, cx, views_deep > 0)? {
            Step::Planned(gather) => return Ok(gather),
            Step::Expanded(longer) if longer.len() > MOST_BYTES => break,
            Step::Expanded(longer) => text = Cow::Owned(longer.into_bytes()),
        }
    }
    Err(Impossible::to_gather("views stand on one another too deeply"))
}

fn step(text: &[u8], cx: &Context<'_>, expanded: bool) -> Result<Step, Impossible> {
    let unreadable = || Impossible::from(Refusal::unreadable());
    let tokens = tokenize(text, cx.standard_conforming_strings)
        .map_err(|error| Impossible::from(Refusal::no_tokens(&error.to_string())))?;
    let tokens = Tokens::new(text, tokens);
    let ranges = tokens.statements();
    let [range] = ranges.as_slice() else { return Err(unreadable()) };
    if !begins_query(&tokens, range.start) {
        return Err(Impossible::to_gather(
            "only a query can be answered from copies of several shards' rows",
        ));
    }
    let depth = Depth::of(&tokens, range.clone());
    if depth.is_too_deep() {
        return Err(Refusal::too_deep().into());
    }
    bridge::with_stack(depth, || {
        let tree = bridge::parse(&tokens, range.clone(), &[]).map_err(|_| unreadable())?;
        let mut analyzer = Analyzer::new(cx, Literals::new(&tokens));
        analyzer.read(&tree);
        let findings = analyzer.findings()?;
        if findings.changes || !matches!(tree, Statement::Query(_)) {
            return Err(Impossible::to_gather("rows that are changed or locked cannot be copies"));
        }
        let mut survey = Survey::new(cx, &tokens, range.clone(), &findings);
        if let std::ops::ControlFlow::Break(impossible) = tree.visit(&mut survey) {
            return Err(impossible);
        }
        let draft = Draft { tokens: &tokens, range: range.clone(), references: survey.finish()?, expanded };
        draft.step()
    })
}

/// A statement that has been read.
struct Draft<'d, 't> {
    tokens: &'d Tokens<'t>,
    range: Range<usize>,
    references: survey::Outcome<'d>,
    /// Literals of the text are no longer the client's: their numbers mean nothing.
    expanded: bool,
}

/// A copy, and which references it stands for.
struct Copied<'d, 'r> {
    table: &'d Table,
    only: bool,
    source: Source,
    references: Vec<&'r Reference<'d>>,
}

impl<'d> Draft<'d, '_> {
    fn step(&self) -> Result<Step, Impossible> {
        let mut edits = self.references.edits.clone();
        if !self.references.views.is_empty() {
            for view in &self.references.views {
                let definition = view.definition.trim().trim_end_matches(';');
                self.replace(&mut edits, &view.name, view.bare, &format!("({definition})"));
            }
            return Ok(Step::Expanded(self.edited(edits)?));
        }
        let mut tables = Vec::new();
        for copy in self.copies() {
            let columns = self.columns(&copy)?;
            let name = format!("\"{COPY}{}\"", tables.len() + 1);
            let relation = columns.relation(&format!("pg_temp.{name}"));
            for reference in &copy.references {
                self.replace(&mut edits, &reference.name, reference.bare, &relation);
            }
            tables.push(self.shadow(&name, &copy, &columns)?);
        }
        Ok(Step::Planned(Gather { tables, sql: self.edited(edits)? }))
    }

    /// Each table once, however often it is named.
    fn copies(&self) -> Vec<Copied<'d, '_>> {
        let mut copies: Vec<Copied<'d, '_>> = Vec::new();
        for reference in &self.references.tables {
            let same = |copy: &&mut Copied<'d, '_>| {
                std::ptr::eq(copy.table, reference.table) && copy.only == reference.only
            };
            match copies.iter_mut().find(same) {
                Some(copy) => copy.references.push(reference),
                None => copies.push(Copied {
                    table: reference.table,
                    only: reference.only,
                    source: reference.source.clone(),
                    references: vec![reference],
                }),
            }
        }
        copies
    }

    /// Another name in the place of a table's, under which it is still known by its own.
    fn replace(&self, edits: &mut Vec<(Range<usize>, String)>, name: &Range<usize>, bare: bool, by: &str) {
        let mut text = by.to_owned();
        if bare {
            text.push_str(" AS ");
            text.push_str(&String::from_utf8_lossy(self.tokens.raw(name.end - 1)));
        }
        edits.push((name.clone(), text));
        let mut before = name.start;
        if before > self.range.start && self.tokens.is_word(before - 1, "only") {
            before -= 1;
            if by.starts_with('(') {
                // The copy holds no more than was asked for.
                edits.push((before..name.start, String::new()));
            }
        }
        // An alias cannot stand behind `TABLE name`.
        if before > self.range.start && self.tokens.is_word(before - 1, "table") {
            edits.push((before - 1..before, "SELECT * FROM".to_owned()));
        }
    }

    /// The statement's text with some of its tokens replaced.
    fn edited(&self, mut edits: Vec<(Range<usize>, String)>) -> Result<String, Impossible> {
        edits.sort_by_key(|(range, _)| range.start);
        self.cut(self.range.clone(), &edits)
            .ok_or_else(|| Impossible::to_gather("the statement is not in UTF-8"))
    }

    /// The text of these tokens, some of them replaced; `edits` are in order and apart. What stands
    /// between tokens stays there: a comment ends where the next token begins.
    fn cut(&self, range: Range<usize>, edits: &[(Range<usize>, String)]) -> Option<String> {
        let mut text = Vec::new();
        let mut at = range.start;
        for (edit, by) in edits {
            if at < edit.start {
                text.extend_from_slice(self.tokens.text_of(at..edit.start));
                text.extend_from_slice(self.tokens.text_between(edit.start - 1));
            }
            apart(&mut text, by.as_bytes());
            text.extend_from_slice(by.as_bytes());
            at = edit.end;
            if at < range.end {
                text.extend_from_slice(self.tokens.text_between(at - 1));
                apart(&mut text, self.tokens.raw(at));
            }
        }
        if at < range.end {
            text.extend_from_slice(self.tokens.text_of(at..range.end));
        }
        String::from_utf8(text).ok()
    }

    fn shadow(&self, name: &str, copy: &Copied<'d, '_>, columns: &Columns<'d>) -> Result<Shadow, Impossible> {
        let table = copy.table;
        let selected = columns.selected();
        let only = if copy.only { "ONLY " } else { "" };
        let from = format!("{only}{}.{}", quoted(&table.schema), quoted(&table.name));
        let (alias, conditions) = self.conditions(copy)?;
        let key: Vec<&str> = table
            .detail
            .primary_key
            .iter()
            .filter_map(|&column| Some(table.columns.get(column)?.as_str()))
            .collect();
        let grouped = copy.references.iter().any(|reference| reference.grouped) && columns.have(&key);
        if grouped && columns.are_cast() {
            return Err(Impossible::to_gather(format!(
                "what depends on the primary key of \"{}\" cannot be told of a copy of it",
                table.name
            )));
        }
        let constraint = if grouped {
            let key: Vec<String> = key.into_iter().map(quoted).collect();
            format!("ALTER TABLE pg_temp.{name} ADD PRIMARY KEY ({})", key.join(", "))
        } else {
            String::new()
        };
        Ok(Shadow {
            create: format!(
                "CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {selected} FROM {from} WITH NO DATA"
            ),
            constraint,
            copy: format!("COPY pg_temp.{name}{} FROM STDIN (FORMAT binary)", columns.listed()),
            fetch: format!("SELECT {selected} FROM {from} AS {alias}{conditions}"),
            source: self.source(copy),
        })
    }

    /// Which columns a copy needs.
    fn columns(&self, copy: &Copied<'d, '_>) -> Result<Columns<'d>, Impossible> {
        let table = copy.table;
        if table.detail.columns.is_empty() || table.columns.is_empty() {
            return Ok(Columns(None));
        }
        let every = copy.references.iter().any(|reference| reference.every_column);
        let mentioned = |name: &String| every || self.references.mentioned.has(name, &copy.references);
        let named = table.columns.iter().enumerate().filter(|(_, name)| mentioned(name));
        let mut needed: Vec<usize> = named.map(|(column, _)| column).collect();
        if needed.is_empty() {
            // Rows that are counted still have to be there.
            let narrow = table.key_position().or(table.detail.primary_key.first().copied());
            needed.push(narrow.unwrap_or(0));
        }
        let columns: Result<_, _> = needed.into_iter().map(|column| Column::of(table, column)).collect();
        Ok(Columns(Some(columns?)))
    }

    /// The name the rows are fetched under, and `WHERE …`: a row matters if it does to any of the
    /// references.
    fn conditions(&self, copy: &Copied<'d, '_>) -> Result<(String, String), Impossible> {
        let not_utf8 = || Impossible::to_gather("the statement is not in UTF-8");
        let Some(first) = copy.references.first() else { return Ok((String::new(), String::new())) };
        let alias = std::str::from_utf8(self.tokens.raw(first.exposed_at)).map_err(|_| not_utf8())?;
        let mut alternatives: Vec<String> = Vec::new();
        for reference in &copy.references {
            let mut conjuncts: Vec<String> = Vec::new();
            conjuncts.extend(self.among_keys(reference, alias));
            for condition in &reference.conditions {
                let renamed: Vec<_> =
                    condition.qualifiers.iter().map(|&at| (at..at + 1, alias.to_owned())).collect();
                let text = self.cut(condition.tokens.clone(), &renamed).ok_or_else(not_utf8)?;
                conjuncts.push(format!("({text})"));
            }
            if conjuncts.is_empty() {
                return Ok((alias.to_owned(), String::new()));
            }
            let alternative = conjuncts.join(" AND ");
            if !alternatives.contains(&alternative) {
                alternatives.push(alternative);
            }
        }
        let conditions = match alternatives.as_slice() {
            [single] => single.clone(),
            several => several.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" OR "),
        };
        Ok((alias.to_owned(), format!(" WHERE {conditions}")))
    }

    /// The condition that a row has one of the keys that matter, where that follows from conditions
    /// on other tables and no condition of its own says it.
    fn among_keys(&self, reference: &Reference<'d>, alias: &str) -> Option<String> {
        let keys = reference.keys.as_ref().filter(|keys| !self.expanded && keys.len() <= MOST_KEYS)?;
        let column = reference.table.key_column()?;
        let is_key = |at: usize| self.tokens.identifier(at).is_some_and(|name| name == column);
        if reference.conditions.iter().any(|condition| condition.tokens.clone().any(is_key)) {
            return None;
        }
        let literal = |slot: u32| {
            let at = self.range.clone().find(|&at| self.tokens.slot(at) == Some(slot))?;
            // What follows it may say how it is read.
            let spelled = self.tokens.kind(at).filter(|kind| *kind != TokenKind::UnicodeString);
            spelled.and_then(|_| std::str::from_utf8(self.tokens.raw(at)).ok())
        };
        let one = |key: &KeySource| {
            // A column narrower than the one it was compared with must not overflow.
            let (single, many) = match key.key_type {
                KeyType::Integer => ("::bigint", "::bigint[]"),
                KeyType::Text | KeyType::Uuid => ("", ""),
            };
            Some(match key.slot {
                KeySlot::Literal(slot) => format!("= {}{single}", literal(slot)?),
                KeySlot::NegatedLiteral(slot) => format!("= (-{}){single}", literal(slot)?),
                KeySlot::LiteralArray(slot) => format!("= ANY({}{many})", literal(slot)?),
                KeySlot::Param(number) => format!("= ${number}"),
                KeySlot::ParamArray(number) => format!("= ANY(${number})"),
                KeySlot::Null => "= NULL".to_owned(),
            })
        };
        let column = quoted(column);
        let among: Option<Vec<String>> =
            keys.iter().map(|key| Some(format!("{alias}.{column} {}", one(key)?))).collect();
        Some(format!("({})", among?.join(" OR ")))
    }

    fn source(&self, copy: &Copied<'d, '_>) -> Source {
        if copy.source != Source::EachShard || self.expanded {
            return copy.source.clone();
        }
        let mut keys = Vec::new();
        for reference in &copy.references {
            match &reference.keys {
                Some(known) => {
                    keys.extend(known.iter().filter(|&key| !keys.contains(key)).cloned().collect::<Vec<_>>())
                }
                None => return Source::EachShard,
            }
        }
        Source::Owners(keys)
    }
}

/// A copy's columns; `None`: all that the table has, whatever they are.
struct Columns<'d>(Option<Vec<Column<'d>>>);

struct Column<'d> {
    name: &'d str,
    /// It is copied as an array of texts, and becomes one of this type again.
    cast_to: Option<&'d str>,
}

impl<'d> Column<'d> {
    fn of(table: &'d Table, column: usize) -> Result<Column<'d>, Impossible> {
        let (Some(detail), Some(name)) = (table.detail.columns.get(column), table.columns.get(column)) else {
            return Err(Impossible::to_gather(format!("not all is known of table \"{}\"", table.name)));
        };
        let type_name = detail.type_name.as_str();
        let cast_to = match table.detail.carriage.get(column) {
            Some(Carriage::Binary) => None,
            None if detail.builtin => None,
            Some(Carriage::AsTexts) => Some(type_name),
            Some(Carriage::Never) | None => {
                return Err(Impossible::to_gather(format!(
                    "column \"{name}\" of table \"{}\" cannot be copied between servers: it is of type {type_name}",
                    table.name
                )));
            }
        };
        Ok(Column { name, cast_to })
    }
}

impl Columns<'_> {
    /// What a fetch selects.
    fn selected(&self) -> String {
        let Some(columns) = &self.0 else { return "*".to_owned() };
        let one = |column: &Column<'_>| {
            let name = quoted(column.name);
            if column.cast_to.is_some() { format!("{name}::text[] AS {name}") } else { name }
        };
        columns.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// What a `COPY` lists.
    fn listed(&self) -> String {
        let Some(columns) = &self.0 else { return String::new() };
        let names: Vec<String> = columns.iter().map(|column| quoted(column.name)).collect();
        format!(" ({})", names.join(", "))
    }

    /// What stands for the table, given the copy's name.
    fn relation(&self, copy: &str) -> String {
        let Some(columns) = self.0.as_ref().filter(|_| self.are_cast()) else { return copy.to_owned() };
        let one = |column: &Column<'_>| {
            let name = quoted(column.name);
            column.cast_to.map_or_else(|| name.clone(), |by| format!("{name}::{by} AS {name}"))
        };
        format!("(SELECT {} FROM {copy})", columns.iter().map(one).collect::<Vec<_>>().join(", "))
    }

    fn are_cast(&self) -> bool {
        self.0.iter().flatten().any(|column| column.cast_to.is_some())
    }

    fn have(&self, names: &[&str]) -> bool {
        let has = |columns: &Vec<Column<'_>>| {
            names.iter().all(|name| columns.iter().any(|column| column.name == *name))
        };
        self.0.as_ref().is_none_or(has)
    }
}

/// Where a table's rows are. Not of a view.
fn source_of(table: &Table) -> Source {
    match table.kind {
        TableKind::Sharded { .. } => Source::EachShard,
        TableKind::Reference => Source::AnyShard,
        TableKind::Home | TableKind::Sequence | TableKind::View { .. } => Source::Home,
    }
}

/// Keeps two tokens from becoming one.
fn apart(text: &mut Vec<u8>, next: &[u8]) {
    let sticks = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"_$\"'".contains(byte);
    if text.last().is_some_and(sticks) && next.first().is_some_and(sticks) {
        text.push(b' ');
    }
}

/// A name as it can stand anywhere.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
