//! Writes to reference tables: every shard's copy must come out identical.
//!
//! Where nothing can differ, every shard runs the client's words. Where something can (a default that
//! is a sequence or `now()`, a volatile function, a choice among rows), one shard runs them and returns
//! whole rows, and the others are given those: inserted, or found by their primary key and changed.
//! The one shard must always be the same one, for its sequences are the only ones that count.

use sqlparser::ast::{
    AssignmentTarget, Expr, FromTable, Insert, ObjectName, OnConflictAction, OnInsert, SelectItem, Statement,
    TableFactor, TableObject, Visit, Visitor,
};
use std::ops::ControlFlow;

use super::super::super::analyze::functions::{Steadiness, steadiness};
use super::super::super::analyze::names::{ident, object};
use super::super::super::analyze::opened::{Opened, first_part};
use super::super::super::analyze::tokens::Tokens;
use super::super::super::lexer::{TokenKind, tokenize};
use super::super::super::schema::{ColumnDetail, Giving, Schema, Table, TableKind};
use super::super::{Each, Impossible, Piece, Replicate};
use super::{gives_rows, modifications, not_utf8, outermost, returning, steady, written};

/// What a literal or a parameter in text format may say that is another instant on each server, where
/// it is taken for a date or a time.
const CLOCK_WORDS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

/// Whether a text may mean the current date or time. A parameter in text format for which it does must
/// not be given to several servers under [`Replicate::Same`].
pub fn tells_the_time(text: &[u8]) -> bool {
    text.split(|byte| !byte.is_ascii_alphabetic())
        .any(|word| CLOCK_WORDS.iter().any(|clock| word.eq_ignore_ascii_case(clock)))
}

pub(super) fn plan(opened: &Opened<'_>) -> Result<Replicate, Impossible> {
    let (modification, _) = outermost(opened.tree);
    let alone = modification.filter(|_| modifications(opened.tree) == 1);
    let Some(modification) = alone else {
        return Err(Impossible::new(
            "a reference table cannot be changed by a part of a statement (in WITH)",
            "Use a statement of its own for each change.",
        ));
    };
    let (name, alias) = target(modification).ok_or_else(not_proven)?;
    let table =
        opened.table(name).filter(|table| table.kind == TableKind::Reference).ok_or_else(not_proven)?;
    if table.detail.columns.is_empty() || table.detail.columns.len() != table.columns.len() {
        return Err(not_proven());
    }
    if table.detail.has_triggers {
        return Err(Impossible::new(
            format!(
                "triggers or rules of reference table \"{}\" may act differently on each shard",
                table.name
            ),
            "Drop them, or change each shard's copy with /* pgring: shard=NAME */.",
        ));
    }
    if is_same(opened, modification, table) {
        let each = Each { sql: written(opened)?, returns: returning(modification) };
        return Ok(Replicate::Same(each));
    }
    let alias = alias.unwrap_or_else(|| table.name.clone());
    Once { opened, table, alias, modification }.plan()
}

fn not_proven() -> Impossible {
    Impossible::new(
        "it cannot be proven that every copy of the reference table would come out the same",
        "Give constants or parameters in place of what is computed.",
    )
}

/// Whether every copy comes out the same from the same rows of other tables.
pub(super) fn comes_out_alike(opened: &Opened<'_>, modification: &Statement) -> Result<(), Impossible> {
    let (name, _) = target(modification).ok_or_else(not_proven)?;
    let table = opened.table(name).ok_or_else(not_proven)?;
    let known = table.detail.columns.len() == table.columns.len() && !table.columns.is_empty();
    if known && !table.detail.has_triggers && is_same(opened, modification, table) {
        return Ok(());
    }
    Err(not_proven())
}

/// The table that is written, and its alias.
pub(super) fn target(modification: &Statement) -> Option<(&ObjectName, Option<String>)> {
    let factor = match modification {
        Statement::Insert(insert) => {
            let TableObject::TableName(name) = &insert.table else { return None };
            return Some((name, insert.table_alias.as_ref().map(|alias| ident(&alias.alias))));
        }
        Statement::Update(update) => &update.table.relation,
        Statement::Delete(delete) => match &delete.from {
            FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from) => &from.first()?.relation,
        },
        Statement::Merge(merge) => &merge.table,
        _ => return None,
    };
    match factor {
        TableFactor::Table { name, alias, .. } => {
            Some((name, alias.as_ref().map(|alias| ident(&alias.name))))
        }
        _ => None,
    }
}

/// Whether every copy comes out the same if every shard runs the same words.
fn is_same(opened: &Opened<'_>, modification: &Statement, table: &Table) -> bool {
    if !steady_words(opened) || !alike_but_returned(opened, modification) {
        return false;
    }
    let defaults = |mut columns: Box<dyn Iterator<Item = &ColumnDetail> + '_>| {
        columns.all(|column| is_constant_default(opened.context().schema, column))
    };
    let all = || defaults(Box::new(table.detail.columns.iter()));
    let says_default = opened.range.clone().any(|at| opened.tokens.is_word(at, "default"));
    if says_default && !all() {
        return false;
    }
    match modification {
        Statement::Insert(insert) => {
            // Of rows that conflict with one another, the first one wins.
            if insert.on.is_some() && !gives_rows(insert) {
                return false;
            }
            let given = given_columns(insert, table);
            let left_out = table.detail.columns.iter().enumerate().filter(|(at, _)| !given.contains(at));
            defaults(Box::new(left_out.map(|(_, column)| column)))
        }
        // A row that several rows of FROM match takes what any of them says.
        Statement::Update(update) => update.from.is_none(),
        Statement::Delete(_) => true,
        Statement::Merge(_) => all(),
        _ => false,
    }
}

/// The columns that each row gives a value for.
fn given_columns(insert: &Insert, table: &Table) -> Vec<usize> {
    if !insert.columns.is_empty() {
        let place = |column: &ObjectName| {
            let name = first_part(column)?;
            table.columns.iter().position(|column| *column == name)
        };
        return insert.columns.iter().filter_map(place).collect();
    }
    use sqlparser::ast::SetExpr;
    let width = match insert.source.as_deref().map(|query| &*query.body) {
        Some(SetExpr::Values(values)) => values.rows.first().map_or(0, |row| row.content.len()),
        Some(SetExpr::Select(select)) if select.projection.iter().all(is_one_column) => {
            select.projection.len()
        }
        // It may be all columns or fewer.
        _ => 0,
    };
    (0..width).collect()
}

fn is_one_column(item: &SelectItem) -> bool {
    matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
}

/// Whether a column that is not given has the same value everywhere: a constant, or what is computed
/// from the others.
pub(in crate::sql) fn is_constant_default(schema: &Schema, column: &ColumnDetail) -> bool {
    if column.generated {
        return true;
    }
    let Some(default) = column.default.as_deref() else { return !column.identity };
    let Ok(tokens) = tokenize(default.as_bytes(), true) else { return false };
    let tokens = Tokens::new(default.as_bytes(), tokens);
    let steady = |at: usize| match tokens.kind(at) {
        Some(TokenKind::Word | TokenKind::QuotedIdent) if tokens.is_mark(at + 1, "(") => {
            let name = tokens.identifier(at).unwrap_or_default();
            is_type_word(&name) || steadiness(schema, None, &name) == Steadiness::Alike
        }
        Some(TokenKind::Word) => !is_local_word(&tokens, at),
        Some(_) => !tells_the_time(tokens.raw(at)),
        None => false,
    };
    !column.identity && (0..tokens.len()).all(steady)
}

fn is_type_word(name: &str) -> bool {
    matches!(
        name,
        "numeric" | "varchar" | "varying" | "character" | "char" | "bit" | "timestamp" | "time" | "interval"
    )
}

/// Key words that call a function without parentheses.
fn is_local_word(tokens: &Tokens<'_>, at: usize) -> bool {
    const LOCAL: &[&str] = &[
        "current_catalog",
        "current_date",
        "current_role",
        "current_schema",
        "current_time",
        "current_timestamp",
        "current_user",
        "localtime",
        "localtimestamp",
        "session_user",
        "system_user",
        "user",
        "ctid",
        "xmin",
        "xmax",
        "cmin",
        "cmax",
        "tableoid",
    ];
    tokens.is_one_of(at, LOCAL)
}

/// Whether no word and no string of the statement, outside of what is returned, means something of
/// the server's own.
fn steady_words(opened: &Opened<'_>) -> bool {
    let tokens = opened.tokens;
    let end = returning_at(opened).unwrap_or(opened.range.end);
    (opened.range.start..end).all(|at| is_steady_token(tokens, at))
}

/// As [`steady_words`], of one of them.
pub(super) fn is_steady_token(tokens: &Tokens<'_>, at: usize) -> bool {
    match tokens.kind(at) {
        Some(TokenKind::Word) => !is_local_word(tokens, at),
        // An escape may hide a word.
        Some(TokenKind::EscapeString | TokenKind::UnicodeString) if tokens.raw(at).contains(&b'\\') => false,
        Some(
            TokenKind::String
            | TokenKind::EscapeString
            | TokenKind::DollarString
            | TokenKind::UnicodeString
            | TokenKind::NationalString,
        ) => !tells_the_time(tokens.raw(at)),
        Some(TokenKind::UnicodeIdent) => false,
        _ => true,
    }
}

/// The token of the outermost `RETURNING`.
fn returning_at(opened: &Opened<'_>) -> Option<usize> {
    let (tokens, mut from) = (opened.tokens, opened.range.start);
    loop {
        let at = tokens.find_word(from..opened.range.end, &["returning"])?;
        // After AS and in a qualified name, any word is a name.
        if !tokens.is_word(at - 1, "as") && !tokens.is_mark(at - 1, ".") {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Whether all parts are alike on every copy, but for what is returned: that is one shard's.
fn alike_but_returned(opened: &Opened<'_>, modification: &Statement) -> bool {
    let (_, with) = outermost(opened.tree);
    let alike = |part: &dyn Alike| part.is_alike(opened);
    with.is_none_or(|with| alike(with))
        && match modification {
            Statement::Insert(insert) => alike(&insert.source) && alike(&insert.on),
            Statement::Update(update) => {
                alike(&update.assignments) && alike(&update.from) && alike(&update.selection)
            }
            Statement::Delete(delete) => alike(&delete.using) && alike(&delete.selection),
            Statement::Merge(merge) => alike(&merge.source) && alike(&merge.on) && alike(&merge.clauses),
            _ => false,
        }
}

trait Alike {
    fn is_alike(&self, opened: &Opened<'_>) -> bool;
}

impl<T: Visit> Alike for T {
    fn is_alike(&self, opened: &Opened<'_>) -> bool {
        steady::alike(opened, self)
    }
}

/// A change that one shard makes, whose rows the others are given.
struct Once<'o> {
    opened: &'o Opened<'o>,
    table: &'o Table,
    /// What the statement calls the table.
    alias: String,
    modification: &'o Statement,
}

/// The rows, as the others see them.
const GIVEN: &str = "pgring_given";

impl Once<'_> {
    fn plan(&self) -> Result<Replicate, Impossible> {
        let detail = &self.table.detail;
        if let Some(at) = (0..detail.columns.len()).find(|at| !can_be_given(self.table, *at)) {
            let column = self.table.columns.get(at).map_or("", String::as_str);
            return Err(Impossible::new(
                format!(
                    "what is computed for reference table \"{}\" cannot be given to its other copies: \
                     the type of column \"{column}\" may not be the same on every shard",
                    self.table.name
                ),
                "Give constants or parameters in place of what is computed, defaults included.",
            ));
        }
        let (others_head, others_tail) = match self.modification {
            Statement::Insert(insert) => self.insert(insert)?,
            Statement::Update(update) => {
                let assigned = self.assigned(&update.assignments)?;
                self.only_itself()?;
                self.update(&assigned)?
            }
            Statement::Delete(_) => {
                self.only_itself()?;
                self.delete()?
            }
            _ => return Err(not_proven()),
        };
        Ok(Replicate::Insert {
            first: self.first()?,
            others_head,
            others_tail,
            columns: self.table.columns.len(),
            returning: self.returning()?,
        })
    }

    fn name(&self) -> String {
        format!("{}.{}", quoted(&self.table.schema), quoted(&self.table.name))
    }

    /// `("a", "b")` of all columns.
    fn given(&self) -> String {
        format!("{GIVEN} ({})", list(self.table.columns.iter().map(|column| quoted(column))))
    }

    fn insert(&self, insert: &Insert) -> Result<(String, String), Impossible> {
        let (table, detail) = (self.table, &self.table.detail);
        let written = || {
            let columns = table.columns.iter().zip(&detail.columns);
            columns.filter(|(_, detail)| !detail.generated).map(|(column, _)| column)
        };
        let head = format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM unnest(",
            self.name(),
            list(written().map(|column| quoted(column))),
            list(written().map(|column| self.given_value(column))),
        );
        let mut tail = format!(") AS {}", self.given());
        match &insert.on {
            None => {}
            Some(OnInsert::OnConflict(conflict)) => match &conflict.action {
                // What conflicts is not returned, and conflicts on every copy.
                OnConflictAction::DoNothing => {}
                OnConflictAction::DoUpdate(update) => {
                    self.assigned(&update.assignments)?;
                    let key = self.primary_key()?;
                    let set = table.columns.iter().zip(&detail.columns).filter(|(column, detail)| {
                        !detail.generated && !detail.identity && !key.contains(column)
                    });
                    let set = list(set.map(|(column, _)| format!("{0} = EXCLUDED.{0}", quoted(column))));
                    let key = list(key.iter().map(|column| quoted(column)));
                    let action =
                        if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {set}") };
                    tail.push_str(&format!(" ON CONFLICT ({key}) DO {action}"));
                }
            },
            Some(_) => return Err(not_proven()),
        }
        Ok((head, tail))
    }

    fn update(&self, assigned: &[String]) -> Result<(String, String), Impossible> {
        let set = assigned.iter().map(|column| format!("{} = {}", quoted(column), self.given_value(column)));
        let head = format!("UPDATE {} AS pgring_target SET {} FROM unnest(", self.name(), list(set));
        Ok((head, format!(") AS {} WHERE {}", self.given(), self.found()?)))
    }

    fn delete(&self) -> Result<(String, String), Impossible> {
        let head = format!("DELETE FROM {} AS pgring_target USING unnest(", self.name());
        Ok((head, format!(") AS {} WHERE {}", self.given(), self.found()?)))
    }

    /// A column's value, as the others are given it.
    fn given_value(&self, column: &str) -> String {
        let at = self.table.columns.iter().position(|name| name == column);
        format!("{GIVEN}.{}{}", quoted(column), at.map(|at| self.cast(at)).unwrap_or_default())
    }

    /// What makes of a given value one of the column's type.
    fn cast(&self, at: usize) -> String {
        let column = self.table.detail.columns.get(at).filter(|_| is_label(self.table, at));
        column.map(|column| format!("::{}", column.type_name)).unwrap_or_default()
    }

    /// The condition that finds a given row.
    fn found(&self) -> Result<String, Impossible> {
        let same =
            |column: &&String| format!("pgring_target.{} = {}", quoted(column), self.given_value(column));
        Ok(self.primary_key()?.iter().map(same).collect::<Vec<_>>().join(" AND "))
    }

    fn primary_key(&self) -> Result<Vec<&String>, Impossible> {
        let key: Option<Vec<&String>> =
            self.table.detail.primary_key.iter().map(|column| self.table.columns.get(*column)).collect();
        key.filter(|key| !key.is_empty()).ok_or_else(|| {
            Impossible::new(
                format!(
                    "reference table \"{}\" has no primary key to find its rows by on other shards",
                    self.table.name
                ),
                "Give constants or parameters in place of what is computed, or add a primary key.",
            )
        })
    }

    /// The columns that are assigned. A row must be known again by its primary key.
    fn assigned(&self, assignments: &[sqlparser::ast::Assignment]) -> Result<Vec<String>, Impossible> {
        let mut names = Vec::new();
        for assignment in assignments {
            let targets = match &assignment.target {
                AssignmentTarget::ColumnName(name) => std::slice::from_ref(name),
                AssignmentTarget::Tuple(names) => names.as_slice(),
            };
            for target in targets {
                names.push(first_part(target).ok_or_else(not_proven)?);
            }
        }
        names.sort_unstable();
        names.dedup();
        let key = self.primary_key()?;
        let identity = |name: &String| {
            let at = self.table.columns.iter().position(|column| column == name);
            at.and_then(|at| self.table.detail.columns.get(at)).is_none_or(|column| column.identity)
        };
        if names.iter().any(|name| key.contains(&name) || identity(name)) {
            return Err(Impossible::new(
                format!(
                    "the primary key of reference table \"{}\" is changed to what may differ on each shard",
                    self.table.name
                ),
                "Give constants or parameters in place of what is computed.",
            ));
        }
        Ok(names)
    }

    /// `ONLY`: what the others run says nothing of it.
    fn only_itself(&self) -> Result<(), Impossible> {
        let says_only = self.opened.range.clone().any(|at| self.opened.tokens.is_word(at, "only"));
        if says_only { Err(not_proven()) } else { Ok(()) }
    }

    /// The client's words, returning whole rows.
    fn first(&self) -> Result<String, Impossible> {
        let range = self.opened.range;
        let end = returning_at(self.opened).unwrap_or(range.end);
        let text = self.opened.tokens.written(range.start..end).ok_or_else(not_utf8)?;
        let alias = quoted(&self.alias);
        let value = |(at, column): (usize, &String)| {
            let text = if is_label(self.table, at) { "::pg_catalog.text" } else { "" };
            format!("{alias}.{}{text}", quoted(column))
        };
        let columns = list(self.table.columns.iter().enumerate().map(value));
        Ok(format!("{text} RETURNING {columns}"))
    }

    /// The client's own `RETURNING`, over the rows that were returned.
    fn returning(&self) -> Result<Vec<Piece>, Impossible> {
        let (items, joined) = match self.modification {
            Statement::Insert(insert) => (&insert.returning, false),
            Statement::Update(update) => (&update.returning, update.from.is_some()),
            Statement::Delete(delete) => (&delete.returning, delete.using.is_some()),
            _ => return Err(not_proven()),
        };
        let Some(items) = items else { return Ok(Vec::new()) };
        if joined || !self.is_of_rows(items) {
            return Err(Impossible::new(
                "RETURNING of a change that is made once for all copies can hold columns of the table only",
                "Return the table's own columns, and read the rest with another statement.",
            ));
        }
        let range = self.opened.range;
        let begin = returning_at(self.opened).ok_or_else(not_proven)? + 1;
        let text = self.opened.tokens.written(begin..range.end).ok_or_else(not_utf8)?;
        let columns = self.table.columns.iter().enumerate();
        let columns =
            list(columns.map(|(at, column)| format!("c{}{} AS {}", at + 1, self.cast(at), quoted(column))));
        Ok(vec![
            Piece::Text(format!("SELECT {text} FROM (SELECT {columns} FROM ")),
            Piece::Source,
            Piece::Text(format!(") AS {}", quoted(&self.alias))),
        ])
    }

    /// Whether the items say nothing but what follows from the rows.
    fn is_of_rows(&self, items: &[SelectItem]) -> bool {
        struct Strange<'s>(&'s Once<'s>);
        impl Visitor for Strange<'_> {
            type Break = ();
            fn pre_visit_query(&mut self, _query: &sqlparser::ast::Query) -> ControlFlow<()> {
                ControlFlow::Break(())
            }
            fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
                let own = |name: &str| self.0.table.columns.iter().any(|column| column == name);
                let strange = match expr {
                    Expr::Identifier(name) => !own(&ident(name)),
                    Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                        [table, column] => ident(table) != self.0.alias || !own(&ident(column)),
                        _ => true,
                    },
                    _ => false,
                };
                if strange { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
        }
        let qualified = |item: &SelectItem| match item {
            SelectItem::QualifiedWildcard(
                sqlparser::ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                _,
            ) => object(name).is_some_and(|name| name.schema.is_none() && name.name == self.alias),
            SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => false,
            _ => true,
        };
        items.iter().all(|item| qualified(item) && item.visit(&mut Strange(self)).is_continue())
    }
}

/// Whether a column's values mean the same to every shard, as elements of an array.
fn can_be_given(table: &Table, at: usize) -> bool {
    let bare = |column: &ColumnDetail| column.builtin && !column.type_name.ends_with(']');
    match table.detail.giving.get(at) {
        Some(giving) => *giving != Giving::Never,
        None => table.detail.columns.get(at).is_some_and(bare),
    }
}

fn is_label(table: &Table, at: usize) -> bool {
    table.detail.giving.get(at) == Some(&Giving::Label)
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// As PostgreSQL reads it back, whatever is in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
