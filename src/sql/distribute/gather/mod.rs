//! Queries that run over copies of the rows they need.
//!
//! What runs is the client's statement, word for word, but for its tables' names: each becomes the
//! name of a temporary table, under the alias it had. That means the same over the copies as over
//! the tables because
//!
//! - a copy has every row that can matter: all of its table's, less those that a condition the
//!   statement itself makes wherever it names the table leaves out ([`conditions`]), and those of
//!   shards that own none of the keys that can matter;
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
use super::super::lexer::tokenize;
use super::super::schema::{Table, TableKind};
use super::{Gather, Impossible, Shadow, Source};
use survey::{Reference, Survey};

/// What pgring's own copies are called, with a number behind it.
const COPY: &str = "pgring_";
/// Views may stand on views.
const MOST_VIEWS_DEEP: usize = 16;
/// Views that name others twice each would grow without bound.
const MOST_BYTES: usize = 1 << 20;

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
        let mut copies: Vec<Copied<'d, '_>> = Vec::new();
        for reference in &self.references.tables {
            let known = copies
                .iter()
                .position(|copy| std::ptr::eq(copy.table, reference.table) && copy.only == reference.only);
            let number = match known {
                Some(known) => known,
                None => {
                    let (table, only) = (reference.table, reference.only);
                    let source = reference.source.clone();
                    copies.push(Copied { table, only, source, references: Vec::new() });
                    copies.len() - 1
                }
            };
            if let Some(copy) = copies.get_mut(number) {
                copy.references.push(reference);
            }
            let name = format!("pg_temp.\"{COPY}{}\"", number + 1);
            self.replace(&mut edits, &reference.name, reference.bare, &name);
        }
        let tables =
            (1..).zip(&copies).map(|(number, copy)| self.shadow(number, copy)).collect::<Result<_, _>>()?;
        Ok(Step::Planned(Gather { tables, sql: self.edited(edits)? }))
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
        before -= usize::from(before > self.range.start && self.tokens.is_word(before - 1, "only"));
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

    fn shadow(&self, number: usize, copy: &Copied<'d, '_>) -> Result<Shadow, Impossible> {
        let table = copy.table;
        let columns = self.columns(copy);
        if let Some(columns) = &columns {
            check_types(table, columns)?;
        }
        let list = |columns: &[usize]| -> String {
            let names = columns.iter().filter_map(|&column| table.columns.get(column));
            names.map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
        };
        let selected = columns.as_deref().map_or_else(|| "*".to_owned(), list);
        let into = columns.as_deref().map_or_else(String::new, |columns| format!(" ({})", list(columns)));
        let name = format!("\"{COPY}{number}\"");
        let only = if copy.only { "ONLY " } else { "" };
        let from = format!("{only}{}.{}", quoted(&table.schema), quoted(&table.name));
        let fetch = {
            let (alias, conditions) = self.conditions(copy)?;
            format!("SELECT {selected} FROM {from} AS {alias}{conditions}")
        };
        let key = &table.detail.primary_key;
        let complete =
            columns.as_ref().is_none_or(|columns| key.iter().all(|column| columns.contains(column)));
        let constraint = if complete && copy.references.iter().any(|reference| reference.grouped) {
            let key = list(key);
            format!("ALTER TABLE pg_temp.{name} ADD PRIMARY KEY ({key})")
        } else {
            String::new()
        };
        Ok(Shadow {
            create: format!(
                "CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {selected} FROM {from} WITH NO DATA"
            ),
            constraint,
            copy: format!("COPY pg_temp.{name}{into} FROM STDIN (FORMAT binary)"),
            fetch,
            source: self.source(copy),
        })
    }

    /// Which columns a copy needs; `None` where they are not known.
    fn columns(&self, copy: &Copied<'d, '_>) -> Option<Vec<usize>> {
        let table = copy.table;
        if table.detail.columns.is_empty() || table.columns.is_empty() {
            return None;
        }
        let every = copy.references.iter().any(|reference| reference.every_column);
        let mentioned = |name: &String| every || self.references.mentioned.has(name, &copy.references);
        let named = table.columns.iter().enumerate().filter(|(_, name)| mentioned(name));
        let mut columns: Vec<usize> = named.map(|(column, _)| column).collect();
        if columns.is_empty() {
            // Rows that are counted still have to be there.
            let narrow = table.key_position().or(table.detail.primary_key.first().copied());
            columns.push(narrow.unwrap_or(0));
        }
        Some(columns)
    }

    /// The name the rows are fetched under, and `WHERE …`: a row matters if it does to any of the
    /// references.
    fn conditions(&self, copy: &Copied<'d, '_>) -> Result<(String, String), Impossible> {
        let not_utf8 = || Impossible::to_gather("the statement is not in UTF-8");
        let Some(first) = copy.references.first() else { return Ok((String::new(), String::new())) };
        let alias = std::str::from_utf8(self.tokens.raw(first.exposed_at)).map_err(|_| not_utf8())?;
        let mut alternatives: Vec<String> = Vec::new();
        for reference in &copy.references {
            if reference.conditions.is_empty() {
                return Ok((alias.to_owned(), String::new()));
            }
            let mut conjuncts: Vec<String> = Vec::new();
            for condition in &reference.conditions {
                let renamed: Vec<_> =
                    condition.qualifiers.iter().map(|&at| (at..at + 1, alias.to_owned())).collect();
                let text = self.cut(condition.tokens.clone(), &renamed).ok_or_else(not_utf8)?;
                conjuncts.push(format!("({text})"));
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

/// Rows travel in binary form, which for some types holds numbers that each server gives out by
/// itself.
fn check_types(table: &Table, columns: &[usize]) -> Result<(), Impossible> {
    for &column in columns {
        let (Some(detail), Some(name)) = (table.detail.columns.get(column), table.columns.get(column)) else {
            return Err(Impossible::to_gather(format!("not all is known of table \"{}\"", table.name)));
        };
        let type_name = detail.type_name.as_str();
        if (!detail.builtin && type_name.ends_with("[]")) || type_name.starts_with("reg") {
            return Err(Impossible::to_gather(format!(
                "column \"{name}\" of table \"{}\" cannot be copied between servers: it is of type {type_name}",
                table.name
            )));
        }
    }
    Ok(())
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
