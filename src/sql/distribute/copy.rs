//! `COPY` on several shards: what its options say of the bytes, and where the key stands in a row.
//!
//! The statement itself is passed on as it is written, to every shard; each one reads the options for
//! itself. Here they are read for what lies between: whoever cuts the client's stream into records,
//! or joins the shards' streams. An option that is not known here is refused, because it might change
//! what a record is.

use std::borrow::Cow;
use std::ops::Range;

use super::super::analyze::Context;
use super::super::analyze::functions::{Effect, effect};
use super::super::analyze::names::{Named, resolve};
use super::super::analyze::tokens::Tokens;
use super::super::lexer::{Lexed, TokenKind, tokenize};
use super::super::schema::{Table, TableKind};
use super::super::shape::KeyType;
use super::Impossible;
use super::writes::is_constant_default;

/// How rows are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyKind {
    /// Fields and backslashes.
    Text,
    /// Fields and quotes.
    Csv,
    /// Lengths and values.
    Binary,
}

/// What a `COPY`'s options say of its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyFormat {
    /// How rows are written.
    pub kind: CopyKind,
    /// Between fields.
    pub delimiter: u8,
    /// What a NULL looks like.
    pub null: Vec<u8>,
    /// What a column's default looks like, if there is such a mark.
    pub default: Option<Vec<u8>>,
    /// The first line is none of the rows.
    pub header: bool,
    /// Around fields, in CSV.
    pub quote: u8,
    /// Before a quote within quotes, in CSV.
    pub escape: u8,
}

/// Where a row's key stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyKey {
    /// The field's number, from 0.
    pub field: usize,
    /// How the column is typed.
    pub key_type: KeyType,
    /// `FORCE_NOT_NULL`: what looks like a NULL is a text.
    pub never_null: bool,
    /// `FORCE_NULL`: what looks like a NULL is one even in quotes.
    pub null_in_quotes: bool,
}

/// `COPY table FROM STDIN` on several shards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyIn {
    /// The statement, for every shard.
    pub sql: String,
    /// The table's name, for messages.
    pub table: String,
    /// The key column's name, for messages; empty for a reference table.
    pub column: String,
    /// How many fields a row has.
    pub fields: usize,
    /// Where a row's key stands; none for a reference table, whose rows go to every shard.
    pub key: Option<CopyKey>,
    /// A reference table with dates or times: a field that [`tells_the_time`](super::tells_the_time)
    /// would be another value on each shard.
    pub timed: bool,
    /// What the bytes are.
    pub format: CopyFormat,
}

/// `COPY … TO STDOUT` from several shards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyOut {
    /// The statement, for every shard.
    pub sql: String,
    /// The query in parentheses, if it is one. Only where its rows are those of the shards in any
    /// order may the statement run on each of them.
    pub query: Option<String>,
    /// The client's text before the query and behind it.
    pub around: (String, String),
    /// What the bytes are.
    pub format: CopyFormat,
}

impl CopyOut {
    /// The client's `COPY` of another query.
    pub fn of(&self, query: &str) -> String {
        format!("{}{query}{}", self.around.0, self.around.1)
    }

    /// The query alone, where it stands in the client's text: positions of errors are the same.
    pub fn query_in_place(&self) -> Option<String> {
        let query = self.query.as_ref()?;
        let before: String = self.around.0.chars().map(|_| ' ').collect();
        Some(format!("{before}{query}"))
    }
}

/// How `COPY … FROM STDIN` is cut.
///
/// # Errors
/// It cannot be.
pub fn copy_in(text: &[u8], cx: &Context<'_>) -> Result<CopyIn, Impossible> {
    let copy = Copy::read(text, cx)?;
    let Source::Table(table, ref columns) = copy.source else { return Err(not_read()) };
    if !copy.inward {
        return Err(not_read());
    }
    copy.harmless_where(cx)?;
    let columns = match columns {
        Some(columns) => columns.clone(),
        None => all_columns(table)?,
    };
    let mut found = CopyIn {
        sql: copy.sql()?,
        table: table.name.clone(),
        column: String::new(),
        fields: columns.len(),
        key: None,
        timed: false,
        format: copy.options.format.clone(),
    };
    match table.kind {
        TableKind::Sharded { key_type, .. } => {
            let key = table.key_column().ok_or_else(not_read)?;
            let field = columns.iter().position(|column| column == key).ok_or_else(|| {
                Impossible::new(
                    format!("COPY into \"{}\" does not give its key, column \"{key}\"", table.name),
                    format!("Name {key} among the columns."),
                )
            })?;
            key.clone_into(&mut found.column);
            found.key = Some(CopyKey {
                field,
                key_type,
                never_null: copy.options.never_null.holds(key),
                null_in_quotes: copy.options.null_in_quotes.holds(key),
            });
        }
        TableKind::Reference => {
            found.timed =
                copied_alike(table, &columns, &copy.options, cx)? && found.format.kind != CopyKind::Binary;
        }
        TableKind::Home | TableKind::View { .. } | TableKind::Sequence => return Err(not_read()),
    }
    Ok(found)
}

/// How the streams of `COPY … TO STDOUT` are joined.
///
/// # Errors
/// They cannot be.
pub fn copy_out(text: &[u8], cx: &Context<'_>) -> Result<CopyOut, Impossible> {
    let copy = Copy::read(text, cx)?;
    if copy.inward {
        return Err(not_read());
    }
    let (mut query, mut around) = (None, Default::default());
    if let Source::Query(range) = &copy.source {
        let spelled = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| not_read());
        let inside = copy.tokens.bytes_of(range.clone()).ok_or_else(not_read)?;
        query = Some(spelled(text.get(inside.clone()).unwrap_or(&[]))?);
        let (before, behind) = (text.get(..inside.start), text.get(inside.end..));
        around = (spelled(before.unwrap_or(&[]))?, spelled(behind.unwrap_or(&[]))?);
    }
    Ok(CopyOut { sql: copy.sql()?, query, around, format: copy.options.format })
}

fn not_read() -> Impossible {
    Impossible::new(
        "the COPY cannot be read by pgring's parser, and concerns several shards",
        "Use COPY table (columns) FROM STDIN, or TO STDOUT, WITH (options).",
    )
}

fn option(name: &str, why: &str) -> Impossible {
    Impossible::new(
        format!("COPY option {name} {why}"),
        "Leave it out, or copy one shard at a time with /* pgring: shard=NAME */.",
    )
}

/// Without a list: all that can be written.
fn all_columns(table: &Table) -> Result<Vec<String>, Impossible> {
    if table.detail.columns.len() != table.columns.len() || table.columns.is_empty() {
        return Err(Impossible::new(
            format!("the columns of \"{}\" are not known", table.name),
            "Name the columns.",
        ));
    }
    let columns = table.columns.iter().zip(&table.detail.columns);
    Ok(columns.filter(|(_, detail)| !detail.generated).map(|(column, _)| column.clone()).collect())
}

/// Whether a row is the same on every shard, whoever reads it; true if it depends on the fields being
/// no words like `now`.
fn copied_alike(
    table: &Table,
    columns: &[String],
    options: &Options,
    cx: &Context<'_>,
) -> Result<bool, Impossible> {
    let refused = |what: &str| {
        Impossible::new(
            format!("{what} of reference table \"{}\" may come out differently on each shard", table.name),
            "Give every column, or copy to each shard with /* pgring: shard=NAME */.",
        )
    };
    if table.detail.has_triggers {
        return Err(refused("triggers"));
    }
    if table.detail.columns.len() != table.columns.len() {
        return Err(refused("columns"));
    }
    let mut timed = false;
    for (column, detail) in table.columns.iter().zip(&table.detail.columns) {
        let given = columns.contains(column);
        timed |= given
            && (!detail.builtin
                || detail.type_name.starts_with("date")
                || detail.type_name.starts_with("time"));
        let marked = given && options.format.default.is_some();
        if (!given || marked) && !is_constant_default(cx.schema, detail) {
            return Err(refused(&format!("the default of column \"{column}\"")));
        }
    }
    Ok(timed)
}

enum Source<'c> {
    /// And the columns of its list.
    Table(&'c Table, Option<Vec<String>>),
    /// The tokens between the parentheses.
    Query(Range<usize>),
}

/// Columns of an option.
#[derive(Clone, Default)]
enum Columns {
    #[default]
    None,
    All,
    These(Vec<String>),
}

impl Columns {
    fn holds(&self, column: &str) -> bool {
        match self {
            Columns::None => false,
            Columns::All => true,
            Columns::These(columns) => columns.iter().any(|known| known == column),
        }
    }
}

struct Options {
    format: CopyFormat,
    never_null: Columns,
    null_in_quotes: Columns,
}

struct Copy<'c> {
    tokens: Tokens<'c>,
    range: Range<usize>,
    source: Source<'c>,
    inward: bool,
    options: Options,
    /// Where `WHERE` stands, or the end.
    condition: usize,
}

impl<'c> Copy<'c> {
    fn read(text: &'c [u8], cx: &Context<'c>) -> Result<Copy<'c>, Impossible> {
        let tokens = tokenize(text, cx.standard_conforming_strings).map_err(|_| not_read())?;
        let tokens = Tokens::new(text, tokens);
        let statements = tokens.statements();
        let [range] = statements.as_slice() else { return Err(not_read()) };
        let (range, end) = (range.clone(), range.end);
        let mut lexed = Lexed::default();
        lexed.lex(text, cx.standard_conforming_strings).map_err(|_| not_read())?;
        let mut at = range.start + 1;
        let binary = tokens.is_word(at, "binary");
        at += usize::from(binary);
        let source = if at < end && tokens.is_mark(at, "(") {
            let behind = tokens.behind_parenthesis(at, end);
            let inside = at + 1..behind.saturating_sub(1).max(at + 1);
            at = behind;
            Source::Query(inside)
        } else {
            let (name, behind) = tokens.name(at, end).ok_or_else(not_read)?;
            at = behind;
            let mut columns = None;
            if at < end && tokens.is_mark(at, "(") {
                let behind = tokens.behind_parenthesis(at, end);
                columns = Some(names(&tokens, at + 1..behind - 1)?);
                at = behind;
            }
            let Named::Table(table) = resolve(cx, cx.search_path, &name) else { return Err(not_read()) };
            Source::Table(table, columns)
        };
        let inward = tokens.is_word(at, "from");
        if !inward && !tokens.is_word(at, "to") {
            return Err(not_read());
        }
        if !tokens.is_one_of(at + 1, &["stdin", "stdout"]) || at + 1 >= end {
            return Err(Impossible::new(
                "COPY with a file or a program of the server would read or write only one shard's",
                "Use STDIN or STDOUT.",
            ));
        }
        at += 2;
        let reader = Reader { text, tokens: &tokens, lexed: &lexed };
        let (options, condition) = reader.options(at, end, inward, binary)?;
        Ok(Copy { range, source, inward, options, condition, tokens })
    }

    fn sql(&self) -> Result<String, Impossible> {
        self.tokens.written(self.range.clone()).map(str::to_owned).ok_or_else(not_read)
    }

    /// A condition is about one row at a time, unless a function in it reads tables.
    fn harmless_where(&self, cx: &Context<'_>) -> Result<(), Impossible> {
        for at in self.condition..self.range.end {
            let Some(name) = self.tokens.identifier(at).filter(|_| self.tokens.is_mark(at + 1, "(")) else {
                continue;
            };
            if let Effect::UserDefined | Effect::Reads | Effect::Home(_) = effect(cx.schema, None, &name) {
                return Err(Impossible::new(
                    format!("function \"{name}\" in the WHERE of a COPY may read what other shards lack"),
                    "Declare it IMMUTABLE if it reads no table.",
                ));
            }
        }
        Ok(())
    }
}

/// `a, b, …`
fn names(tokens: &Tokens<'_>, range: Range<usize>) -> Result<Vec<String>, Impossible> {
    let mut names = Vec::new();
    for at in range.clone() {
        if (at - range.start) % 2 == 1 {
            if !tokens.is_mark(at, ",") {
                return Err(not_read());
            }
            continue;
        }
        names.push(tokens.identifier(at).ok_or_else(not_read)?);
    }
    if range.len() % 2 == 1 { Ok(names) } else { Err(not_read()) }
}

/// What was said of the format, before defaults are filled in.
#[derive(Default)]
struct Said {
    kind: Option<CopyKind>,
    delimiter: Option<u8>,
    null: Option<Vec<u8>>,
    default: Option<Vec<u8>>,
    header: bool,
    quote: Option<u8>,
    escape: Option<u8>,
    never_null: Columns,
    null_in_quotes: Columns,
}

struct Reader<'r> {
    text: &'r [u8],
    tokens: &'r Tokens<'r>,
    lexed: &'r Lexed,
}

impl Reader<'_> {
    /// The options from `at` on, and where they end.
    fn options(
        &self,
        mut at: usize,
        end: usize,
        inward: bool,
        binary: bool,
    ) -> Result<(Options, usize), Impossible> {
        let tokens = self.tokens;
        let mut said = Said { kind: binary.then_some(CopyKind::Binary), ..Said::default() };
        // `COPY t FROM STDIN USING DELIMITERS ','`, of old.
        if tokens.are_words(at, &["using", "delimiters"]) || tokens.is_word(at, "delimiters") {
            at += if tokens.is_word(at, "using") { 2 } else { 1 };
            said.delimiter = Some(self.byte("DELIMITER", at)?);
            at += 1;
        }
        at += usize::from(at < end && tokens.is_word(at, "with"));
        if at < end && tokens.is_mark(at, "(") {
            let behind = tokens.behind_parenthesis(at, end);
            self.listed(at + 1..behind.saturating_sub(1), &mut said)?;
            at = behind;
        } else {
            at = self.strung(at, end, &mut said)?;
        }
        if at < end && !(inward && tokens.is_word(at, "where")) {
            return Err(not_read());
        }
        Ok((filled(said)?, at))
    }

    /// `(FORMAT csv, HEADER, …)`
    fn listed(&self, range: Range<usize>, said: &mut Said) -> Result<(), Impossible> {
        let tokens = self.tokens;
        let mut at = range.start;
        while at < range.end {
            let name = tokens.identifier(at).ok_or_else(not_read)?;
            let begin = at + 1;
            let mut next = begin;
            while next < range.end && !tokens.is_mark(next, ",") {
                next = if tokens.is_mark(next, "(") {
                    tokens.behind_parenthesis(next, range.end)
                } else {
                    next + 1
                };
            }
            self.one(&name, begin..next, said)?;
            at = next + 1;
        }
        Ok(())
    }

    fn one(&self, name: &str, value: Range<usize>, said: &mut Said) -> Result<(), Impossible> {
        let tokens = self.tokens;
        let columns = || {
            if value.len() == 1 && tokens.is_mark(value.start, "*") {
                return Ok(Columns::All);
            }
            if value.len() < 3 || !tokens.is_mark(value.start, "(") {
                return Err(not_read());
            }
            names(tokens, value.start + 1..value.end - 1).map(Columns::These)
        };
        let single = || if value.len() == 1 { Ok(value.start) } else { Err(not_read()) };
        match name {
            "format" => {
                said.kind = Some(match self.spelled(single()?)?.as_slice() {
                    b"text" => CopyKind::Text,
                    b"csv" => CopyKind::Csv,
                    b"binary" => CopyKind::Binary,
                    _ => return Err(option("FORMAT", "names no format that is known here")),
                });
            }
            "delimiter" => said.delimiter = Some(self.byte("DELIMITER", single()?)?),
            "null" => said.null = Some(self.spelled_as_is(single()?)?),
            "default" => said.default = Some(self.spelled_as_is(single()?)?),
            "quote" => said.quote = Some(self.byte("QUOTE", single()?)?),
            "escape" => said.escape = Some(self.byte("ESCAPE", single()?)?),
            "header" => {
                said.header = match value.len() {
                    0 => true,
                    _ => match self.spelled(single()?)?.as_slice() {
                        b"true" | b"on" | b"1" | b"match" => true,
                        b"false" | b"off" | b"0" => false,
                        _ => return Err(option("HEADER", "can be true, false or match")),
                    },
                };
            }
            "force_not_null" => said.never_null = columns()?,
            "force_null" => said.null_in_quotes = columns()?,
            "encoding" => self.encoding(single()?)?,
            // They say nothing of what a record is.
            "freeze" | "force_quote" | "log_verbosity" => {}
            "on_error" => {
                if self.spelled(single()?)? != b"stop" {
                    return Err(option(
                        "ON_ERROR",
                        "other than stop cannot tell which shard a bad row belongs to",
                    ));
                }
            }
            other => return Err(option(&other.to_ascii_uppercase(), "is not known to pgring")),
        }
        Ok(())
    }

    /// `CSV HEADER DELIMITER AS ';' …`, of old.
    fn strung(&self, mut at: usize, end: usize, said: &mut Said) -> Result<usize, Impossible> {
        let tokens = self.tokens;
        while at < end && !tokens.is_word(at, "where") {
            let word = tokens.word(at);
            at += 1;
            let mut value = || {
                at += usize::from(tokens.is_word(at, "as"));
                at += 1;
                at - 1
            };
            match word.as_str() {
                "binary" => said.kind = Some(CopyKind::Binary),
                "csv" => said.kind = Some(CopyKind::Csv),
                "header" => said.header = true,
                "freeze" => {}
                "delimiter" | "delimiters" => said.delimiter = Some(self.byte("DELIMITER", value())?),
                "null" => said.null = Some(self.spelled_as_is(value())?),
                "quote" => said.quote = Some(self.byte("QUOTE", value())?),
                "escape" => said.escape = Some(self.byte("ESCAPE", value())?),
                "encoding" => {
                    self.encoding(at)?;
                    at += 1;
                }
                "force" => {
                    let not_null = tokens.are_words(at, &["not", "null"]);
                    let null = tokens.is_word(at, "null");
                    if !not_null && !null && !tokens.is_word(at, "quote") {
                        return Err(not_read());
                    }
                    at += if not_null { 2 } else { 1 };
                    let mut listed = Vec::new();
                    if tokens.is_mark(at, "*") {
                        at += 1;
                    } else {
                        listed.push(tokens.identifier(at).ok_or_else(not_read)?);
                        at += 1;
                        while at < end && tokens.is_mark(at, ",") {
                            listed.push(tokens.identifier(at + 1).ok_or_else(not_read)?);
                            at += 2;
                        }
                    }
                    let columns = if listed.is_empty() { Columns::All } else { Columns::These(listed) };
                    if not_null {
                        said.never_null = columns;
                    } else if null {
                        said.null_in_quotes = columns;
                    }
                }
                _ => return Err(not_read()),
            }
        }
        if at > end { Err(not_read()) } else { Ok(at) }
    }

    /// A word or a literal, as PostgreSQL's `defGetString` has it.
    fn spelled(&self, at: usize) -> Result<Vec<u8>, Impossible> {
        self.spelled_as_is(at).map(|value| value.to_ascii_lowercase())
    }

    fn spelled_as_is(&self, at: usize) -> Result<Vec<u8>, Impossible> {
        let tokens = self.tokens;
        match tokens.kind(at) {
            Some(TokenKind::Word | TokenKind::QuotedIdent) => {
                tokens.identifier(at).map(String::into_bytes).ok_or_else(not_read)
            }
            _ => {
                let slot = tokens.slot(at).ok_or_else(not_read)?;
                self.lexed.literal_value(self.text, slot).map(Cow::into_owned).ok_or_else(not_read)
            }
        }
    }

    fn byte(&self, name: &str, at: usize) -> Result<u8, Impossible> {
        match self.spelled_as_is(at)?.as_slice() {
            &[byte] if !matches!(byte, b'\n' | b'\r' | 0) => Ok(byte),
            _ => Err(option(name, "must be a single one-byte character")),
        }
    }

    fn encoding(&self, at: usize) -> Result<(), Impossible> {
        let mut name = self.spelled(at)?;
        name.retain(u8::is_ascii_alphanumeric);
        match name.as_slice() {
            b"utf8" | b"unicode" => Ok(()),
            _ => Err(option("ENCODING", "other than UTF8 is not read here")),
        }
    }
}

fn filled(said: Said) -> Result<Options, Impossible> {
    let kind = said.kind.unwrap_or(CopyKind::Text);
    let csv = kind == CopyKind::Csv;
    let quote = said.quote.unwrap_or(b'"');
    let format = CopyFormat {
        kind,
        delimiter: said.delimiter.unwrap_or(if csv { b',' } else { b'\t' }),
        null: said.null.unwrap_or_else(|| if csv { Vec::new() } else { b"\\N".to_vec() }),
        default: said.default,
        header: said.header,
        quote,
        escape: said.escape.unwrap_or(quote),
    };
    let confused = match kind {
        CopyKind::Text => {
            matches!(format.delimiter, b'\\' | b'.' | b'a'..=b'z' | b'0'..=b'9')
                || format.null.contains(&format.delimiter)
        }
        CopyKind::Csv => {
            format.delimiter == quote
                || format.null.contains(&quote)
                || format.null.contains(&format.delimiter)
        }
        CopyKind::Binary => format.header,
    };
    let line_end = |text: &[u8]| text.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    if confused || line_end(&format.null) || format.default.as_deref().is_some_and(line_end) {
        return Err(option("DELIMITER, NULL, QUOTE or HEADER", "contradicts another one"));
    }
    Ok(Options { format, never_null: said.never_null, null_in_quotes: said.null_in_quotes })
}

#[cfg(test)]
#[rustfmt::skip]
mod tests;
