//! Changes of the schema: what every shard runs in one transaction, what each runs by itself, and what
//! no shard can hold to alone.
//!
//! A constraint is checked by each shard on its own rows. So what is unique must be within one key, or
//! be made unique by how it is generated; and a row can refer only to what lies on its own shard: rows
//! of its own key, and reference tables. A change that would take a table's key away, or give one to a
//! table that lies on the home shard alone, would make rows unreachable.
//!
//! Told by the words: PostgreSQL's grammar of column definitions is not followed further than to where
//! constraints stand in it. What is not understood is for each shard to refuse.

use std::ops::Range;

use super::super::analyze::Context;
use super::super::analyze::configured;
use super::super::analyze::functions::{Effect, effect};
use super::super::analyze::names::{Named, resolve};
use super::super::analyze::tokens::{Name, Tokens};
use super::super::lexer::tokenize;
use super::super::schema::{ColumnDetail, Configured, Table, TableKind};
use super::super::shape::KeyType;
use super::Impossible;

/// How a change of the schema runs on the shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ddl {
    /// Each shard runs it by itself, one after another: it cannot be in a transaction with anything, or
    /// holds no locks that others must wait for. If not: all of them in one transaction.
    pub one_by_one: bool,
}

/// How a statement on the schema runs on several shards. A statement whose author says where it is to
/// run (`/* pgring: shard=… */`) needs no asking.
///
/// # Errors
/// What it asks for cannot hold across shards.
pub fn ddl(text: &[u8], cx: &Context<'_>) -> Result<Ddl, Impossible> {
    let all = Ddl { one_by_one: false };
    let Ok(tokens) = tokenize(text, cx.standard_conforming_strings) else { return Ok(all) };
    let tokens = Tokens::new(text, tokens);
    let statements = tokens.statements();
    let [range] = statements.as_slice() else { return Ok(all) };
    let reader = Reader { tokens: &tokens, cx };
    reader.check(range)?;
    Ok(Ddl { one_by_one: one_by_one(&tokens, range) })
}

/// Whether what a change of the schema asks for can hold across shards.
pub(in crate::sql) fn holds(
    tokens: &Tokens<'_>,
    range: &Range<usize>,
    cx: &Context<'_>,
) -> Result<(), Impossible> {
    Reader { tokens, cx }.check(range)
}

/// The name of the table that a text makes.
pub fn made_table(text: &[u8], strings: bool) -> Option<String> {
    let tokens = Tokens::new(text, tokenize(text, strings).ok()?);
    let statements = tokens.statements();
    let [range] = statements.as_slice() else { return None };
    if !tokens.is_word(range.start, "create") {
        return None;
    }
    let mut at = range.start + 1 + usize::from(tokens.is_word(range.start + 1, "unlogged"));
    if !tokens.is_word(at, "table") {
        return None;
    }
    at += 1;
    at += if tokens.are_words(at, &["if", "not", "exists"]) { 3 } else { 0 };
    tokens.name(at, range.end).map(|(name, _)| name.name)
}

/// What a text does with a table that this transaction has made, whose name is one of these: nobody else
/// sees it yet, and so the analysis does not know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OfMade {
    /// It does not name one.
    Nothing,
    /// Each shard can do it with its own.
    Each,
    /// Whatever it does with that table depends on what is not known of it.
    Unknown(String),
}

/// See [`OfMade`].
pub fn of_made(text: &[u8], strings: bool, made: &[String], changes_schema: bool) -> OfMade {
    const HELD: &[&str] = &["unique", "primary", "exclude", "references", "partition", "as"];
    let Ok(tokens) = tokenize(text, strings) else { return OfMade::Nothing };
    let tokens = Tokens::new(text, tokens);
    let all = 0..tokens.len();
    let Some(name) = all.clone().filter_map(|at| tokens.identifier(at)).find(|name| made.contains(name))
    else {
        return OfMade::Nothing;
    };
    // What each shard would have to hold to is asked of a table that is known.
    if changes_schema && !all.into_iter().any(|at| tokens.is_one_of(at, HELD)) {
        return OfMade::Each;
    }
    OfMade::Unknown(name)
}

fn one_by_one(tokens: &Tokens<'_>, range: &Range<usize>) -> bool {
    let word = |word: &str| range.clone().any(|at| tokens.is_word(at, word));
    match tokens.word(range.start).as_str() {
        "vacuum" | "analyze" | "analyse" | "reindex" | "cluster" | "checkpoint" => true,
        "create" | "drop" => {
            let at = range.start + 1 + usize::from(tokens.is_word(range.start + 1, "unique"));
            tokens.are_words(at, &["index", "concurrently"])
                || tokens.is_one_of(at, &["database", "tablespace", "subscription"])
        }
        "alter" => {
            tokens.is_word(range.start + 1, "system")
                || (tokens.is_word(range.start + 1, "table") && word("detach") && word("concurrently"))
                || (tokens.is_word(range.start + 1, "database") && word("tablespace"))
        }
        _ => false,
    }
}

/// Where a table's rows are, or will be.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    /// Each row on the owner of this column.
    Sharded(String),
    Reference,
    Home,
    /// Not in the snapshot: it may have been made a moment ago.
    Unknown,
}

/// A table whose constraints are looked at.
struct Subject<'s> {
    name: Name,
    place: Place,
    /// If it is there already.
    known: Option<&'s Table>,
    /// What the statement says of columns: name, and the tokens behind it.
    columns: Vec<(String, Range<usize>)>,
}

struct Reader<'r> {
    tokens: &'r Tokens<'r>,
    cx: &'r Context<'r>,
}

impl<'r> Reader<'r> {
    fn check(&self, range: &Range<usize>) -> Result<(), Impossible> {
        match self.tokens.word(range.start).as_str() {
            "create" => self.create(range),
            "alter" => self.alter(range),
            _ => Ok(()),
        }
    }

    fn table(&self, name: &Name) -> Option<&'r Table> {
        match resolve(self.cx, self.cx.search_path, name) {
            Named::Table(table) => Some(table),
            Named::Catalog | Named::Unknown => None,
        }
    }

    fn place(&self, name: &Name) -> Place {
        match self.table(name) {
            Some(table) => match table.kind {
                TableKind::Sharded { .. } => {
                    Place::Sharded(table.key_column().unwrap_or(self.cx.default_key).to_owned())
                }
                TableKind::Reference => Place::Reference,
                TableKind::Home | TableKind::View { .. } | TableKind::Sequence => Place::Home,
            },
            None => Place::Unknown,
        }
    }

    fn create(&self, range: &Range<usize>) -> Result<(), Impossible> {
        let (tokens, end) = (self.tokens, range.end);
        let mut at = range.start + 1;
        let mut unique = false;
        while at < end && tokens.is_one_of(at, &["unlogged", "unique"]) {
            unique |= tokens.is_word(at, "unique");
            at += 1;
        }
        match tokens.word(at).as_str() {
            "table" => self.create_table(at + 1..end),
            "index" if unique => self.create_unique_index(at + 1..end),
            _ => Ok(()),
        }
    }

    fn create_table(&self, range: Range<usize>) -> Result<(), Impossible> {
        let (tokens, end) = (self.tokens, range.end);
        let mut at = range.start;
        at += if tokens.are_words(at, &["if", "not", "exists"]) { 3 } else { 0 };
        let Some((name, open)) = tokens.name(at, end) else { return Ok(()) };
        if open >= end || !tokens.is_mark(open, "(") {
            return Ok(());
        }
        let items = self.items(open + 1..tokens.behind_parenthesis(open, end).saturating_sub(1));
        let columns: Vec<(String, Range<usize>)> =
            items.iter().filter_map(|item| self.column(item)).collect();
        let place = match (self.place(&name), configured(&name, self.cx)) {
            (Place::Unknown, Some(Configured::Key(column))) => Place::Sharded(column.clone()),
            (Place::Unknown, Some(Configured::Reference)) => Place::Reference,
            (Place::Unknown, None) if columns.iter().any(|(column, _)| column == self.cx.default_key) => {
                Place::Sharded(self.cx.default_key.to_owned())
            }
            (Place::Unknown, None) => Place::Home,
            (place, _) => place,
        };
        let subject = Subject { known: self.table(&name), name, place, columns };
        for item in items {
            match self.column(&item) {
                Some((column, rest)) => self.column_constraints(&subject, &column, rest)?,
                None => self.table_constraint(&subject, item)?,
            }
        }
        Ok(())
    }

    fn create_unique_index(&self, range: Range<usize>) -> Result<(), Impossible> {
        let (tokens, end) = (self.tokens, range.end);
        let Some(on) = tokens.find_word(range, &["on"]) else { return Ok(()) };
        let at = on + 1 + usize::from(tokens.is_word(on + 1, "only"));
        let Some((name, mut at)) = tokens.name(at, end) else { return Ok(()) };
        at += if tokens.is_word(at, "using") { 2 } else { 0 };
        if at >= end || !tokens.is_mark(at, "(") {
            return Ok(());
        }
        let subject =
            Subject { known: self.table(&name), place: self.place(&name), name, columns: Vec::new() };
        // An expression may be the same for different keys; only bare columns count.
        let items = self.items(at + 1..tokens.behind_parenthesis(at, end).saturating_sub(1));
        let columns = items
            .iter()
            .filter(|item| !tokens.is_mark(item.start + 1, "("))
            .filter_map(|item| tokens.identifier(item.start));
        self.unique(&subject, &columns.collect::<Vec<_>>(), "a unique index")
    }

    /// What commas separate.
    fn items(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let tokens = self.tokens;
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

    /// A column's name and what is said of it, if the item is a column.
    fn column(&self, item: &Range<usize>) -> Option<(String, Range<usize>)> {
        let tokens = self.tokens;
        let constraint = tokens.is_one_of(item.start, &["constraint", "unique", "check", "exclude", "like"])
            || tokens.are_words(item.start, &["primary", "key"])
            || tokens.are_words(item.start, &["foreign", "key"]);
        let name = tokens.identifier(item.start).filter(|_| !constraint)?;
        Some((name, item.start + 1..item.end))
    }

    fn column_constraints(
        &self,
        subject: &Subject<'_>,
        column: &str,
        rest: Range<usize>,
    ) -> Result<(), Impossible> {
        let tokens = self.tokens;
        let mut at = rest.start;
        while at < rest.end {
            if tokens.is_mark(at, "(") {
                at = tokens.behind_parenthesis(at, rest.end);
                continue;
            }
            let own = [column.to_owned()];
            if tokens.are_words(at, &["primary", "key"]) {
                self.unique(subject, &own, "a primary key")?;
            } else if tokens.is_word(at, "unique") {
                self.unique(subject, &own, "a unique constraint")?;
            } else if tokens.is_word(at, "references") {
                self.references(subject, &own, at + 1..rest.end)?;
            } else if tokens.is_word(at, "default") {
                self.default(subject, column, at + 1..rest.end)?;
            }
            at += 1;
        }
        Ok(())
    }

    /// What a row gets without a word in the statement must not depend on what else is on its shard.
    fn default(&self, subject: &Subject<'_>, column: &str, range: Range<usize>) -> Result<(), Impossible> {
        const BEHIND: &[&str] =
            &["constraint", "not", "unique", "primary", "references", "check", "generated", "collate"];
        if !matches!(subject.place, Place::Sharded(_) | Place::Reference) {
            return Ok(());
        }
        let (tokens, schema) = (self.tokens, self.cx.schema);
        let end = tokens.find_word(range.clone(), BEHIND).unwrap_or(range.end);
        for at in range.start..end {
            let Some(name) = tokens.identifier(at).filter(|_| tokens.is_mark(at + 1, "(")) else { continue };
            let qualifier = if tokens.is_mark(at - 1, ".") { tokens.identifier(at - 2) } else { None };
            if effect(schema, qualifier.as_deref(), &name) == Effect::UserDefined && !makes_ids(&name) {
                let table = &subject.name.name;
                return Err(Impossible::new(
                    format!(
                        "the default of \"{table}\"'s column \"{column}\" calls function \"{name}\", which may read any \
                         table, and would see the rows of one shard"
                    ),
                    "Declare it IMMUTABLE if it reads none, or leave the default out and give the column its value.",
                ));
            }
        }
        Ok(())
    }

    fn table_constraint(&self, subject: &Subject<'_>, item: Range<usize>) -> Result<(), Impossible> {
        let (tokens, end) = (self.tokens, item.end);
        let at = item.start + if tokens.is_word(item.start, "constraint") { 2 } else { 0 };
        let listed = |from: usize| {
            let open = (from..end).find(|at| tokens.is_mark(*at, "("))?;
            let behind = tokens.behind_parenthesis(open, end);
            let items = self.items(open + 1..behind.saturating_sub(1));
            let names = items.into_iter().filter_map(|item| tokens.identifier(item.start));
            Some((names.collect::<Vec<_>>(), behind))
        };
        // `UNIQUE USING INDEX i`: the index is there, and was looked at when it was made.
        let of_index =
            (at..end).any(|at| tokens.are_words(at, &["using", "index"]) && !tokens.is_mark(at - 1, ")"));
        match tokens.word(at).as_str() {
            "primary" | "unique"
                if of_index && !tokens.is_mark(at + 1, "(") && !tokens.is_mark(at + 2, "(") =>
            {
                Ok(())
            }
            "primary" | "unique" => {
                let what = if tokens.is_word(at, "unique") { "a unique constraint" } else { "a primary key" };
                let Some((columns, _)) = listed(at + 1) else { return Ok(()) };
                self.unique(subject, &columns, what)
            }
            "exclude" => {
                let Some(open) = (at..end).find(|at| tokens.is_mark(*at, "(")) else { return Ok(()) };
                let items = self.items(open + 1..tokens.behind_parenthesis(open, end).saturating_sub(1));
                let equal = items.iter().filter(|item| {
                    item.len() == 3
                        && tokens.is_word(item.start + 1, "with")
                        && tokens.is_mark(item.start + 2, "=")
                });
                let columns: Vec<String> = equal.filter_map(|item| tokens.identifier(item.start)).collect();
                self.unique(subject, &columns, "an exclusion constraint")
            }
            "foreign" => {
                let Some((columns, behind)) = listed(at + 2) else { return Ok(()) };
                if !tokens.is_word(behind, "references") {
                    return Ok(());
                }
                self.references(subject, &columns, behind + 1..end)
            }
            _ => Ok(()),
        }
    }

    /// Whether each shard can see to it that these columns are unique.
    fn unique(&self, subject: &Subject<'_>, columns: &[String], what: &str) -> Result<(), Impossible> {
        let Place::Sharded(key) = &subject.place else { return Ok(()) };
        if columns.contains(key) || columns.iter().any(|column| self.is_generated(subject, column)) {
            return Ok(());
        }
        let table = &subject.name.name;
        Err(Impossible::new(
            format!(
                "{what} of \"{table}\" without its key, column \"{key}\", cannot hold across shards: \
                 each one sees only its own rows"
            ),
            format!(
                "Add {key} to its columns. Where values are never given twice, say so by a default: an identity \
                 column, pgring.next_id(), gen_random_uuid(). Or say that each shard's own rows are enough: \
                 /* pgring: shard=all */."
            ),
        ))
    }

    /// Whether a column's values are made so that none comes twice, or not by chance.
    fn is_generated(&self, subject: &Subject<'_>, column: &str) -> bool {
        let tokens = self.tokens;
        let said = subject.columns.iter().find(|(name, _)| name == column).map(|(_, said)| said.clone());
        if let Some(said) = said {
            let type_at = said.start;
            return tokens.is_one_of(
                type_at,
                &["serial", "bigserial", "smallserial", "serial2", "serial4", "serial8", "uuid"],
            ) || said.clone().any(|at| {
                tokens.are_words(at, &["as", "identity"])
                    || (tokens.is_mark(at + 1, "(")
                        && tokens.identifier(at).is_some_and(|name| makes_ids(&name)))
            });
        }
        let detail = subject.known.and_then(|table| {
            let at = table.columns.iter().position(|name| name == column)?;
            table.detail.columns.get(at)
        });
        detail.is_some_and(|ColumnDetail { type_name, default, identity, .. }| {
            let makes = |default: &String| {
                let Ok(found) = tokenize(default.as_bytes(), true) else { return false };
                let found = Tokens::new(default.as_bytes(), found);
                (0..found.len()).any(|at| found.identifier(at).is_some_and(|name| makes_ids(&name)))
            };
            *identity || type_name == "uuid" || default.as_ref().is_some_and(makes)
        })
    }

    /// `table [(columns)]`: whether what a row refers to lies where the row does.
    fn references(
        &self,
        subject: &Subject<'_>,
        own: &[String],
        range: Range<usize>,
    ) -> Result<(), Impossible> {
        let tokens = self.tokens;
        let Some((name, behind)) = tokens.name(range.start, range.end) else { return Ok(()) };
        let itself = name.name == subject.name.name
            && (name.schema.is_none() || subject.name.schema.is_none() || name.schema == subject.name.schema);
        let place = if itself { subject.place.clone() } else { self.place(&name) };
        let (from, to) = (&subject.name.name, &name.name);
        let refused = |why: String, hint: String| {
            Err(Impossible::new(
                format!("a foreign key from \"{from}\" to \"{to}\" cannot hold across shards: {why}"),
                hint,
            ))
        };
        match (&subject.place, &place) {
            (_, Place::Unknown)
            | (Place::Home, Place::Home)
            | (_, Place::Reference)
            | (Place::Unknown, _) => Ok(()),
            (Place::Sharded(_) | Place::Reference, Place::Home) => refused(
                format!("\"{to}\" is on the home shard only"),
                format!("Make \"{to}\" a reference table, or leave the foreign key out."),
            ),
            (Place::Home | Place::Reference, Place::Sharded(_)) => refused(
                format!("each shard has only a part of \"{to}\""),
                "Leave the foreign key out.".to_owned(),
            ),
            (Place::Sharded(key), Place::Sharded(their_key)) => {
                let listed = (behind < range.end && tokens.is_mark(behind, "(")).then(|| {
                    let close = tokens.behind_parenthesis(behind, range.end).saturating_sub(1);
                    let items = self.items(behind + 1..close);
                    items.into_iter().filter_map(|item| tokens.identifier(item.start)).collect::<Vec<_>>()
                });
                let theirs = listed.unwrap_or_else(|| self.primary_key(subject, &name, itself));
                let keyed = own.iter().zip(&theirs).any(|(one, other)| one == key && other == their_key);
                if keyed {
                    return Ok(());
                }
                refused(
                    "a row and what it refers to may be on different ones".to_owned(),
                    format!(
                        "Put the keys into it: FOREIGN KEY (…, {key}) REFERENCES {to} (…, {their_key}). Or say that \
                         only rows of one shard refer to one another: /* pgring: shard=all */."
                    ),
                )
            }
        }
    }

    /// What `REFERENCES table` refers to.
    fn primary_key(&self, subject: &Subject<'_>, name: &Name, itself: bool) -> Vec<String> {
        let tokens = self.tokens;
        if itself && subject.known.is_none() {
            let primary = |(_, said): &&(String, Range<usize>)| {
                said.clone().any(|at| tokens.are_words(at, &["primary", "key"]))
            };
            return subject.columns.iter().filter(primary).map(|(column, _)| column.clone()).collect();
        }
        let Some(table) = self.table(name) else { return Vec::new() };
        let key = table.detail.primary_key.iter().map(|at| table.columns.get(*at).cloned());
        key.collect::<Option<Vec<String>>>().unwrap_or_default()
    }

    fn alter(&self, range: &Range<usize>) -> Result<(), Impossible> {
        let (tokens, end) = (self.tokens, range.end);
        if !tokens.is_word(range.start + 1, "table") {
            return Ok(());
        }
        let mut at = range.start + 2;
        at += if tokens.are_words(at, &["if", "exists"]) { 2 } else { 0 };
        at += usize::from(tokens.is_word(at, "only"));
        let Some((name, mut at)) = tokens.name(at, end) else { return Ok(()) };
        at += usize::from(at < end && tokens.is_mark(at, "*"));
        let actions = self.items(at..end);
        let columns = actions.iter().filter_map(|action| self.added(action)).collect();
        let subject = Subject { known: self.table(&name), place: self.place(&name), name, columns };
        actions.into_iter().try_for_each(|action| self.action(&subject, action))
    }

    /// `ADD [COLUMN] [IF NOT EXISTS] name …`
    fn added(&self, action: &Range<usize>) -> Option<(String, Range<usize>)> {
        let tokens = self.tokens;
        if !tokens.is_word(action.start, "add") {
            return None;
        }
        let mut at = action.start + 1;
        at += usize::from(tokens.is_word(at, "column"));
        at += if tokens.are_words(at, &["if", "not", "exists"]) { 3 } else { 0 };
        self.column(&(at..action.end)).filter(|_| at < action.end)
    }

    fn action(&self, subject: &Subject<'_>, action: Range<usize>) -> Result<(), Impossible> {
        let tokens = self.tokens;
        let table = &subject.name.name;
        if let Some((column, rest)) = self.added(&action) {
            self.gains_key(subject, &column)?;
            return self.column_constraints(subject, &column, rest);
        }
        let mut at = action.start + 1;
        match tokens.word(action.start).as_str() {
            "add" => self.table_constraint(subject, at..action.end),
            "drop" | "rename" | "alter" => {
                if tokens.is_one_of(at, &["constraint", "to"]) {
                    return if tokens.is_word(at, "to") {
                        let schema = subject.name.schema.clone();
                        let name = tokens.identifier(at + 1).unwrap_or_default();
                        self.gains_rule(subject, &Name { schema, name })?;
                        self.stays_configured(subject, "renamed")
                    } else {
                        Ok(())
                    };
                }
                at += usize::from(tokens.is_word(at, "column"));
                at += if tokens.are_words(at, &["if", "exists"]) { 2 } else { 0 };
                let Some(column) = tokens.identifier(at).filter(|_| at < action.end) else { return Ok(()) };
                let renamed = tokens.is_word(action.start, "rename");
                if renamed
                    && let Some(to) = tokens.identifier(at + 2).filter(|_| tokens.is_word(at + 1, "to"))
                {
                    self.gains_key(subject, &to)?;
                }
                if tokens.are_words(at + 1, &["set", "default"]) {
                    self.default(subject, &column, at + 3..action.end)?;
                }
                let is_key = matches!(&subject.place, Place::Sharded(key) if *key == column);
                let type_at = [at + 1, at + 3].into_iter().find(|at| tokens.is_word(*at, "type"));
                let keeps = match (tokens.word(action.start).as_str(), type_at) {
                    ("alter", None) => true,
                    ("alter", Some(type_at)) => self.is_of_key_type(subject, type_at + 1, action.end),
                    _ => false,
                };
                if is_key && !keeps {
                    return Err(Impossible::new(
                        format!(
                            "the key of \"{table}\", column \"{column}\", cannot be dropped, renamed or changed to another kind of type"
                        ),
                        "Rows would no longer be where their key says. Make a new table and copy the rows.",
                    ));
                }
                Ok(())
            }
            "set" if tokens.is_word(at, "schema") => {
                let schema = tokens.identifier(at + 1);
                self.gains_rule(subject, &Name { schema, name: subject.name.name.clone() })?;
                self.stays_configured(subject, "moved")
            }
            _ => Ok(()),
        }
    }

    /// A table that has rows on the home shard only must not become sharded.
    fn gains_key(&self, subject: &Subject<'_>, column: &str) -> Result<(), Impossible> {
        let table = &subject.name.name;
        // One that is not known is a temporary one, or was made a moment ago on the home shard.
        if column == self.cx.default_key && matches!(subject.place, Place::Home | Place::Unknown) {
            return Err(Impossible::new(
                format!(
                    "with a column \"{column}\", \"{table}\" would be sharded by it, but its rows are on the home shard"
                ),
                "Make a new table with that column, and copy the rows. Or use another name.",
            ));
        }
        Ok(())
    }

    /// Nor must it get a name of which the configuration says that it is on all of them.
    fn gains_rule(&self, subject: &Subject<'_>, name: &Name) -> Result<(), Impossible> {
        let at_home = matches!(subject.place, Place::Home | Place::Unknown);
        if !at_home || configured(name, self.cx).is_none() {
            return Ok(());
        }
        let (table, name) = (&subject.name.name, &name.name);
        Err(Impossible::new(
            format!(
                "\"{table}\" cannot become \"{name}\": the configuration says that it is on every shard, and its rows are on \
                 the home shard"
            ),
            format!("Make a new table \"{name}\", and copy the rows. Or use another name."),
        ))
    }

    /// What the configuration says of a table, it says by its name.
    fn stays_configured(&self, subject: &Subject<'_>, what: &str) -> Result<(), Impossible> {
        let by_name = match &subject.place {
            Place::Reference => true,
            Place::Sharded(key) => *key != self.cx.default_key,
            Place::Home | Place::Unknown => false,
        };
        let table = &subject.name.name;
        if by_name {
            return Err(Impossible::new(
                format!("\"{table}\" cannot be {what}: the configuration knows it by its name"),
                "Change [[database.table]] and the table together, while no statement uses it.",
            ));
        }
        Ok(())
    }

    /// Whether a key keeps its place if its column becomes of this type, without any other value.
    fn is_of_key_type(&self, subject: &Subject<'_>, at: usize, end: usize) -> bool {
        let tokens = self.tokens;
        let Some(TableKind::Sharded { key_type, .. }) = subject.known.map(|table| &table.kind) else {
            return false;
        };
        let type_word = tokens.word(at);
        let family = match type_word.as_str() {
            "bigint" | "int8" | "integer" | "int" | "int4" | "smallint" | "int2" => KeyType::Integer,
            "text" | "varchar" | "character" => KeyType::Text,
            "uuid" => KeyType::Uuid,
            _ => return false,
        };
        let cut_or_changed =
            (at..end).any(|at| tokens.is_one_of(at, &["using", "collate"]) || tokens.is_mark(at, "("));
        let blank_padded = type_word == "character" && !tokens.is_word(at + 1, "varying");
        family == *key_type && !cut_or_changed && !blank_padded
    }
}

/// Functions whose results do not come twice, on whatever shard.
pub fn makes_ids(name: &str) -> bool {
    matches!(name, "nextval" | "next_id" | "gen_random_uuid" | "uuidv4" | "uuidv7")
        || name.starts_with("uuid_generate")
}

#[cfg(test)]
#[rustfmt::skip]
mod tests;
