//! What a statement means: which tables it touches and where their keys stand.
//!
//! A key is *known* only where it follows from SQL's meaning; whatever is not understood says
//! nothing, and what cannot be read at all is refused. A wrong "known" would silently leave
//! out rows, which is the worst this program could do; a missed one costs a hint.
//!
//! The way of a statement: its words tell what it is to the session ([`session`]) or to the
//! schema ([`objects`]); queries and modifications go to sqlparser ([`bridge`]), their tree is
//! walked ([`query`], [`from`], [`relations`], [`walk`], [`modify`]), conditions become facts about keys
//! ([`conditions`], [`facts`]), and what the facts amount to is the statement's target.
//!
//! Time is linear in the text: a tree's depth is bounded before there is a tree, sub-queries
//! nest at most as deep as their parentheses, and the rows of a long `INSERT` are read off the
//! tokens.

pub(in crate::sql) mod bridge;
mod calling;
pub(in crate::sql) mod computed;
mod conditions;
pub(in crate::sql) mod facts;
mod from;
pub(in crate::sql) mod functions;
pub(in crate::sql) mod literals;
mod modify;
pub(in crate::sql) mod names;
mod objects;
pub(in crate::sql) mod opened;
pub(in crate::sql) mod prepared;
pub(in crate::sql) mod query;
pub(in crate::sql) mod refusals;
mod relations;
mod rows;
mod scope;
mod session;
#[cfg(test)]
mod tests;
pub(in crate::sql) mod tokens;
mod walk;

use std::ops::Range;

pub(in crate::sql) use self::objects::configured;

use self::bridge::{Depth, Unreadable};
use self::literals::{Literals, loose};
use self::objects::{mentioned, refused};
use self::query::{Analyzer, Env};
use self::refusals::Refusal;
use self::rows::Rows;
use self::session::plain;
use self::tokens::Tokens;
use super::lexer::{Lexed, TokenKind, tokenize};
use super::schema::{Schema, TableKind};
use super::shape::{Access, Kind, Mentions, Pin, Shape, Statement, Target};
use std::cell::Cell;

/// What a statement's meaning depends on beside its text.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The tables.
    pub schema: &'a Schema,
    /// The session's, `"$user"` replaced; `pg_catalog` is implicitly first.
    pub search_path: &'a [String],
    /// The session's.
    pub standard_conforming_strings: bool,
    /// The name of the database's key column: a new table with it will be sharded.
    pub default_key: &'a str,
    /// Set when a table's name is not in the schema. It may be temporary, or misspelt; or the
    /// snapshot is older than the table, and then the shape is wrong.
    pub unknown: &'a Cell<bool>,
}

/// What a text means. `lexed` has read the same text. Never fails: what cannot be understood
/// is a statement with [`Target::Refused`], or is passed on where there is one shard.
pub fn analyze(text: &[u8], lexed: &Lexed, cx: &Context<'_>) -> Shape {
    let tokens = match tokenize(text, cx.standard_conforming_strings) {
        Ok(tokens) => tokens,
        Err(_) if cx.schema.is_one_shard() => {
            return lone(plain(Kind::Other, Target::Nothing, Access::Write));
        }
        Err(error) => {
            let target = refused(Refusal::no_tokens(&error.to_string()));
            return lone(plain(Kind::Other, target, Access::Write));
        }
    };
    let reader = Reader { tokens: &Tokens::new(text, tokens), text, lexed, cx };
    let ranges = reader.tokens.statements();
    let mentions = prepared::mentions(reader.tokens, &ranges);
    let mut statements: Vec<Statement> = ranges.into_iter().map(|range| reader.statement(range)).collect();
    if let Some(first) = statements.iter().position(|statement| sets_path(&statement.kind)) {
        // Where the new path has them made is not known here.
        for later in statements[first + 1..].iter_mut().filter(|later| later.kind == Kind::Ddl) {
            later.pin = functions::stronger(later.pin, Some(Pin::TemporaryTable));
        }
    }
    Shape { statements, mentions }
}

/// Whether a text of one statement can be read. PostgreSQL may understand more.
pub fn is_readable(text: &[u8], strings: bool) -> bool {
    let Ok(tokens) = tokenize(text, strings) else { return false };
    let tokens = Tokens::new(text, tokens);
    let statements = tokens.statements();
    let [range] = statements.as_slice() else { return false };
    let depth = Depth::of(&tokens, range.clone());
    !depth.is_too_deep() && bridge::with_stack(depth, || bridge::parse(&tokens, range.clone(), &[]).is_ok())
}

/// Statements in which functions may be called.
fn may_call(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Query
            | Kind::Write
            | Kind::CopyIn
            | Kind::CopyOut
            | Kind::Declare(_)
            | Kind::Execute(_)
            | Kind::Ddl
            | Kind::Maintenance
            | Kind::Other
    )
}

fn sets_path(kind: &Kind) -> bool {
    match kind {
        Kind::Set { name, .. } => name == "search_path",
        Kind::SetConfig(calls) => calls.iter().any(|call| call.name == "search_path"),
        _ => false,
    }
}

/// `SET seed` plants one, as `setseed()` does: it is no value that could be moved.
fn is_seed(kind: &Kind) -> bool {
    match kind {
        Kind::Set { name, .. } => name == "seed",
        Kind::SetConfig(calls) => calls.iter().any(|call| call.name == "seed"),
        _ => false,
    }
}

fn lone(statement: Statement) -> Shape {
    Shape { statements: vec![statement], mentions: Mentions::default() }
}

/// Words that begin what sqlparser reads.
const QUERIES: &[&str] = &["select", "with", "values", "table", "insert", "update", "delete", "merge"];

#[derive(Clone, Copy)]
struct Reader<'r> {
    tokens: &'r Tokens<'r>,
    text: &'r [u8],
    lexed: &'r Lexed,
    cx: &'r Context<'r>,
}

impl Reader<'_> {
    fn statement(&self, range: Range<usize>) -> Statement {
        let mut statement = self.meaning(&range);
        self.look_at_sizes(&range, &mut statement.target);
        if may_call(&statement.kind)
            && !matches!(statement.kind, Kind::Ddl | Kind::Maintenance)
            && !matches!(statement.target, Target::Refused(..))
            && let Some(refusal) =
                calling::called(self.tokens, range.clone(), &statement.kind, self.cx.schema)
        {
            statement.target = refused(refusal);
        }
        if is_seed(&statement.kind) {
            statement.pin = Some(Pin::Seed);
        }
        if self.cx.schema.is_one_shard() {
            statement.target = Target::Nothing;
        } else if statement.kind == Kind::TwoPhase {
            statement.target = refused(Refusal::prepared_transaction());
        }
        if may_call(&statement.kind) && self.cx.schema.suspects().are_called(self.tokens, range.clone()) {
            // What the statement leaves by itself has to be looked for as well.
            let nothing_else = statement.pin.is_none() && matches!(statement.kind, Kind::Query | Kind::Write);
            let found = if nothing_else { Pin::Suspect } else { Pin::Call };
            statement.pin = functions::stronger(statement.pin, Some(found));
        }
        // Whatever could not be read of the statement.
        let is_lock = |at| self.tokens.identifier(at).is_some_and(|name| functions::locks(&name));
        // Nor can it be of a block.
        statement.at_primary |= statement.kind == Kind::Block || range.clone().any(is_lock);
        if self.tokens.has_unread_identifier(range) {
            statement.pin = functions::stronger(statement.pin, Some(Pin::Unread));
        }
        statement
    }

    /// The size of a sharded table is not to be had from one shard. What is measured of the catalogs' own
    /// rows (`pg_relation_size(c.oid)`) is that server's, like all that the catalogs say.
    fn look_at_sizes(&self, range: &Range<usize>, target: &mut Target) {
        let tokens = self.tokens;
        for at in range.clone() {
            let Some(function) = tokens.identifier(at).filter(|name| functions::measures(name)) else {
                continue;
            };
            if !tokens.is_mark(at + 1, "(") {
                continue;
            }
            let sharded = match tokens.kind(at + 2) {
                // The fingerprint has no literals behind such a name.
                _ if tokens.kind(at) == Some(TokenKind::UnicodeIdent) => Refusal::size_of_unknown(&function),
                Some(TokenKind::Param) => Refusal::size_of_unknown(&function),
                _ => match tokens.slot(at + 2) {
                    None => continue,
                    Some(slot) => match self.measured(slot) {
                        Some((name, Some(TableKind::Sharded { .. }))) => {
                            Refusal::size_of_shard(&name, &function)
                        }
                        // Each copy has its size.
                        Some((_, Some(TableKind::Reference))) => continue,
                        Some((_, Some(_))) => {
                            match target {
                                Target::Nothing | Target::Catalog | Target::Reference => {
                                    *target = Target::Home
                                }
                                _ => {}
                            }
                            continue;
                        }
                        // An index, say.
                        Some((_, None)) | None => Refusal::size_of_unknown(&function),
                    },
                },
            };
            if !matches!(target, Target::Refused(..)) {
                *target = refused(sharded);
            }
        }
    }

    /// The relation that a literal names; it is part of the fingerprint (see the lexer). A catalog counts as
    /// a table of the home shard.
    fn measured(&self, slot: u32) -> Option<(String, Option<TableKind>)> {
        let value = self.lexed.literal_value(self.text, slot)?;
        let named = tokenize(&value, true).ok()?;
        let named = Tokens::new(&value, named);
        let (name, behind) = named.name(0, named.len())?;
        if behind != named.len() {
            return None;
        }
        let kind = match names::resolve(self.cx, self.cx.search_path, &name) {
            names::Named::Table(table) => Some(table.kind.clone()),
            names::Named::Catalog => Some(TableKind::Home),
            names::Named::Unknown => None,
        };
        Some((name.name, kind))
    }

    fn meaning(&self, range: &Range<usize>) -> Statement {
        let tokens = self.tokens;
        let config_name = |slot| {
            let value = self.lexed.literal_value(self.text, slot)?;
            String::from_utf8(value.into_owned()).ok()
        };
        if let Some(statement) = session::set_config(tokens, range, config_name) {
            return statement;
        }
        if self.begins_query(range.start) {
            return self.query(range);
        }
        session::classify(tokens, range)
            .or_else(|| self.carrier(range))
            .or_else(|| objects::classify(tokens, range, self.cx))
            .unwrap_or_else(|| plain(Kind::Other, self.by_words(range), Access::Write))
    }

    /// Statements that carry another one.
    fn carrier(&self, range: &Range<usize>) -> Option<Statement> {
        let (tokens, start, end) = (self.tokens, range.start, range.end);
        match tokens.word(start).as_str() {
            "explain" => {
                let at = prepared::explained(tokens, range);
                let runs = (start..at).any(|at| tokens.is_one_of(at, &["analyze", "analyse"]));
                let inner = at..end;
                let inner = if self.begins_query(at) {
                    self.query(&inner)
                } else {
                    match tokens.word(at).as_str() {
                        "create" => objects::classify(tokens, &inner, self.cx)?,
                        "execute" => session::classify(tokens, &inner)?,
                        "declare" => self.declare(&inner)?,
                        _ => return None,
                    }
                };
                let kind = if runs && inner.kind == Kind::Ddl { Kind::Ddl } else { Kind::Query };
                Some(Statement { kind, ..inner })
            }
            "prepare" => {
                let body = prepared::body(tokens, range)?;
                let mut inner = self.carried(body.clone());
                if self.cx.schema.suspects().are_called(tokens, body.clone()) {
                    inner.pin = functions::stronger(inner.pin, Some(Pin::Call));
                }
                if self.cx.schema.is_one_shard() {
                    inner.target = Target::Nothing;
                }
                prepared::preparation(tokens, range, body, inner)
            }
            "declare" => self.declare(range),
            "copy" => Some(self.copy(range)),
            word @ ("call" | "do") => {
                let target = refused(Refusal::any_code(&word.to_ascii_uppercase()));
                let kind = if word == "do" { Kind::Block } else { Kind::Other };
                let pin = functions::stronger(pin_by_words(tokens, range), Some(Pin::Call));
                Some(Statement { pin, ..plain(kind, target, Access::Write) })
            }
            _ => None,
        }
    }

    /// Only queries and modifications are carried: nothing nests without end.
    fn carried(&self, range: Range<usize>) -> Statement {
        if self.begins_query(range.start) {
            self.query(&range)
        } else {
            plain(Kind::Other, self.by_words(&range), Access::Write)
        }
    }

    fn begins_query(&self, at: usize) -> bool {
        begins_query(self.tokens, at)
    }

    fn declare(&self, range: &Range<usize>) -> Option<Statement> {
        let tokens = self.tokens;
        let name = tokens.identifier(range.start + 1)?;
        let body = tokens.find_word(range.start + 2..range.end, &["for"])? + 1;
        let holds = (range.start + 2..body).any(|at| tokens.are_words(at, &["with", "hold"]));
        let inner = self.carried(body..range.end);
        let pin = inner.pin.or(holds.then_some(Pin::HoldCursor));
        Some(Statement { kind: Kind::Declare(name), pin, ..inner })
    }

    fn copy(&self, range: &Range<usize>) -> Statement {
        let (tokens, end) = (self.tokens, range.end);
        let mut at = range.start + 1;
        at += usize::from(tokens.is_word(at, "binary"));
        if at < end && tokens.is_mark(at, "(") {
            let behind = tokens.behind_parenthesis(at, end);
            let inner = self.carried(at + 1..behind.saturating_sub(1).max(at + 1));
            let target = match inner.target {
                Target::Keys { .. } | Target::Everywhere { .. } if !tokens.is_word(behind + 1, "stdout") => {
                    refused(Refusal::file_copied("a query"))
                }
                target => target,
            };
            // Into a file, or a program: the server's own.
            let access = if tokens.is_word(behind + 1, "stdout") { inner.access } else { Access::Write };
            return Statement { kind: Kind::CopyOut, target, access, ..inner };
        }
        let Some((name, mut behind)) = tokens.name(at, end) else {
            return plain(Kind::Other, self.by_words(range), Access::Write);
        };
        if behind < end && tokens.is_mark(behind, "(") {
            behind = tokens.behind_parenthesis(behind, end);
        }
        let inward = tokens.is_word(behind, "from");
        let streamed = tokens.is_one_of(behind + 1, &["stdin", "stdout"]);
        let kind = match (inward, streamed) {
            (true, true) => Kind::CopyIn,
            (false, true) => Kind::CopyOut,
            (_, false) => Kind::Other,
        };
        let mut analyzer = Analyzer::new(self.cx, Literals::new(tokens));
        analyzer.outermost_sharded = analyzer.relation(&name, &Env::EMPTY).0.sharded;
        // What is copied in is split by its rows' keys.
        let target = match (analyzer.target(), streamed) {
            (Target::Everywhere { table, .. }, false) => refused(Refusal::file_copied(&table)),
            (target, _) => target,
        };
        let access = if inward || !streamed { Access::Write } else { Access::Read };
        plain(kind, target, access)
    }

    /// A query or a modification.
    fn query(&self, range: &Range<usize>) -> Statement {
        let tokens = self.tokens;
        let kind = if modifies(tokens, range) { Kind::Write } else { Kind::Query };
        let unread = |target| {
            let into = into_table(tokens, range, self.cx);
            let pin = pin_by_words(tokens, range)
                .or(into.filter(|temporary| *temporary).map(|_| Pin::TemporaryTable));
            let kind = if into.is_some() { Kind::Ddl } else { kind.clone() };
            let target = if into == Some(false) { self.selected_into(range, target, false) } else { target };
            Statement { pin, ..plain(kind, target, Access::Write) }
        };
        if self.cx.schema.is_one_shard() {
            let passed_on = unread(Target::Nothing);
            if !self.cx.schema.proves_reads() || passed_on.kind != Kind::Query || passed_on.pin.is_some() {
                return passed_on;
            }
            let (reads, at_primary) = self.only_reads(range);
            let access = if reads { Access::Read } else { Access::Write };
            return Statement { access, at_primary, ..passed_on };
        }
        let depth = Depth::of(tokens, range.clone());
        if depth.is_too_deep() {
            return unread(refused(Refusal::too_deep()));
        }
        bridge::with_stack(depth, || {
            let rows = Rows::of(tokens, range);
            let tree = match bridge::parse(tokens, range.clone(), &rows.left_out) {
                Ok(tree) => tree,
                Err(Unreadable::TooDeep) => return unread(refused(Refusal::too_deep())),
                Err(Unreadable::Grammar) => return unread(self.by_words(range)),
            };
            let mut analyzer = Analyzer::new(self.cx, Literals::new(tokens));
            analyzer.rows = rows.values;
            analyzer.read(&tree);
            let into =
                analyzer.into.map(|temporary| temporary || into_table(tokens, range, self.cx) == Some(true));
            let hidden = self.cx.schema.volatility().is_hidden_in(tokens, range.clone());
            let reads = !analyzer.writes && !hidden && kind == Kind::Query && into.is_none();
            let access = if reads { Access::Read } else { Access::Write };
            let at_primary = analyzer.at_primary;
            let pin = functions::stronger(analyzer.pin, sets_by_update(tokens, range));
            let keyed = std::mem::take(&mut analyzer.keyed).into_inner();
            let unreadable = analyzer.refusals.is_unreadable();
            let target = match analyzer.target() {
                Target::Refused(..) if unreadable => return unread(self.by_words(range)),
                target => target,
            };
            let loose = loose(tokens, range, &target, &keyed);
            match into {
                None => Statement { kind: kind.clone(), target, access, pin, at_primary, loose },
                Some(temporary) => Statement {
                    kind: Kind::Ddl,
                    target: self.selected_into(range, target, temporary),
                    access,
                    pin: pin.or(temporary.then_some(Pin::TemporaryTable)),
                    at_primary,
                    loose,
                },
            }
        })
    }

    /// Is it proven of a query that nothing is written, locked or left behind? What is read of the
    /// catalogs, statistics say, is each server's own, and counts as not proven. And: see
    /// [`Statement::at_primary`].
    fn only_reads(&self, range: &Range<usize>) -> (bool, bool) {
        let depth = Depth::of(self.tokens, range.clone());
        if depth.is_too_deep() {
            return (false, false);
        }
        bridge::with_stack(depth, || {
            let Ok(tree) = bridge::parse(self.tokens, range.clone(), &[]) else { return (false, false) };
            let mut analyzer = Analyzer::new(self.cx, Literals::new(self.tokens));
            analyzer.read(&tree);
            // A table that is not known may be a view.
            let known = !self.cx.unknown.replace(false);
            let hidden = self.cx.schema.volatility().is_hidden_in(self.tokens, range.clone());
            let reads = !analyzer.writes && !hidden && analyzer.into.is_none() && analyzer.pin.is_none();
            let readable = !analyzer.refusals.is_unreadable();
            let at_primary = analyzer.at_primary;
            // Asked in any case: it puts the views' trees away on this stack.
            let target = analyzer.target();
            let reads = known && reads && readable && target != Target::Catalog;
            (reads && !at_primary, at_primary)
        })
    }

    /// `SELECT … INTO` makes a table of the home shard.
    fn selected_into(&self, range: &Range<usize>, target: Target, temporary: bool) -> Target {
        match target {
            Target::Refused(..) => target,
            _ if self.cx.schema.is_one_shard() => target,
            _ if mentioned(self.tokens, range.clone(), self.cx).sharded => {
                refused(Refusal::derived_table("a table filled"))
            }
            _ if temporary => Target::Home,
            _ => match into_at(self.tokens, range) {
                Some(into) => objects::selected_into(self.tokens, range, into, self.cx),
                None => refused(Refusal::unreadable()),
            },
        }
    }

    /// Where a statement may run of which only its words are known.
    fn by_words(&self, range: &Range<usize>) -> Target {
        let mentioned = mentioned(self.tokens, range.clone(), self.cx);
        if mentioned.sharded || mentioned.reference || mentioned.function {
            refused(Refusal::unreadable())
        } else if mentioned.catalog && !mentioned.other {
            Target::Catalog
        } else {
            Target::Home
        }
    }
}

pub(in crate::sql) fn begins_query(tokens: &Tokens<'_>, at: usize) -> bool {
    tokens.is_one_of(at, QUERIES) || tokens.is_mark(at, "(")
}

/// Whether rows are modified, by the main statement or by one in `WITH`.
fn modifies(tokens: &Tokens<'_>, range: &Range<usize>) -> bool {
    range.clone().any(|at| {
        tokens.is_one_of(at, &["insert", "update", "delete", "merge"])
            && (at == range.start || tokens.is_mark(at - 1, "(") || tokens.is_mark(at - 1, ")"))
    })
}

/// `SELECT … INTO [TEMP] name`, wherever the `SELECT` stands: is the table temporary? The word is
/// reserved: but for a column's label it can be nothing else.
fn into_table(tokens: &Tokens<'_>, range: &Range<usize>, cx: &Context<'_>) -> Option<bool> {
    let mut at = into_at(tokens, range)? + 1;
    let mut temporary = false;
    while tokens.is_one_of(at, &["local", "global", "temp", "temporary", "unlogged", "table"]) {
        temporary |= tokens.is_one_of(at, &["temp", "temporary"]);
        at += 1;
    }
    Some(temporary || objects::is_made_temporary(tokens, at, range.end, cx))
}

fn into_at(tokens: &Tokens<'_>, range: &Range<usize>) -> Option<usize> {
    let other = |at: usize| tokens.is_one_of(at, &["insert", "merge", "as"]) || tokens.is_mark(at, ".");
    range.clone().skip(1).find(|&at| tokens.is_word(at, "into") && !other(at - 1))
}

/// `UPDATE pg_settings` is a `SET` in other words.
fn sets_by_update(tokens: &Tokens<'_>, range: &Range<usize>) -> Option<Pin> {
    let names = |at: usize| tokens.identifier(at).is_some_and(|name| name == "pg_settings");
    let updates = range.clone().any(|at| {
        let at = if tokens.is_word(at, "update") { at + 1 } else { return false };
        (at..range.end.min(at + 4)).any(names)
    });
    updates.then_some(Pin::Setting)
}

/// Why the session must keep its connection, as far as the functions' names tell.
fn pin_by_words(tokens: &Tokens<'_>, range: &Range<usize>) -> Option<Pin> {
    const ARGUMENT_TOKENS: usize = 64;
    let pins = range.clone().filter_map(|at| {
        if !tokens.is_mark(at + 1, "(") {
            return None;
        }
        let pin = functions::pin_by_name(&tokens.identifier(at)?)?;
        let behind = tokens.behind_parenthesis(at + 1, range.end.min(at + ARGUMENT_TOKENS));
        // `set_config(…, true)` ends with the transaction.
        let local =
            pin == Pin::Setting && tokens.is_word(behind - 2, "true") && tokens.is_mark(behind - 1, ")");
        (!local).then_some(pin)
    });
    pins.fold(sets_by_update(tokens, range), |strongest, pin| functions::stronger(strongest, Some(pin)))
}
