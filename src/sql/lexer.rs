//! SQL text → tokens, and the fingerprint under which an analysis is remembered.
//!
//! [`tokenize`] is for the analysis, which runs on a cache miss. [`Lexed`] is the hot path: one
//! pass, into buffers that are used again, that yields the *normalized form*: comments and white
//! space gone, unquoted words in lower case, and each literal replaced by a mark of its kind.
//!
//! The invariant: two texts with one normalized form (under the same settings) are the same
//! sequence of tokens but for the values of their literals, so they have the same `Shape`. An
//! analysis therefore must not let a literal's value decide anything, but refer to the literal by
//! its number. Where a value decides what the statement *is*, it stays in the normalized form as
//! well: after `UESCAPE`, and the first argument of `set_config(` and of the functions that measure tables.

mod decode;
mod scan;
#[cfg(test)]
mod tests;

use super::hints::Hints;
use super::shape::Span;
use crate::error::{ClientError, SqlState};
use scan::Scanner;
use std::borrow::Cow;

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TokenKind {
    /// A key word or an identifier without quotes.
    Word,
    /// `"…"`
    QuotedIdent,
    /// `U&"…"`
    UnicodeIdent,
    /// `42`, `1_000`, `0x2A`
    Integer,
    /// `1.5`, `1e9`
    Decimal,
    /// `'…'`
    String,
    /// `E'…'`
    EscapeString,
    /// `$$…$$`
    DollarString,
    /// `U&'…'`
    UnicodeString,
    /// `B'…'`, `X'…'`
    BitString,
    /// `N'…'`
    NationalString,
    /// `$1`
    Param,
    /// An operator as PostgreSQL cuts it, and `::`, `:=`, `..`, `=>`.
    Operator,
    /// One of `( ) [ ] , : .`
    Punct,
    /// `;`
    Semicolon,
}

impl TokenKind {
    /// Whether the token is lifted out of the text.
    pub fn is_literal(self) -> bool {
        self.mark().is_some()
    }

    /// What stands for such a literal in the normalized form. No token begins with one of these.
    fn mark(self) -> Option<u8> {
        match self {
            TokenKind::Integer => Some(1),
            TokenKind::Decimal => Some(2),
            TokenKind::String => Some(3),
            TokenKind::EscapeString => Some(4),
            TokenKind::DollarString => Some(5),
            TokenKind::UnicodeString => Some(6),
            TokenKind::BitString => Some(7),
            TokenKind::NationalString => Some(8),
            _ => None,
        }
    }
}

/// A token and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Its bytes in the text.
    pub span: Span,
}

/// A literal that was lifted out of the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Literal {
    /// Which kind of literal.
    pub kind: TokenKind,
    /// Its bytes in the text, quotes, prefix and continuations included.
    pub span: Span,
}

/// A text that PostgreSQL's lexer refuses too, or that older and newer servers read differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{fault} at byte {at}")]
pub struct LexError {
    /// What is wrong.
    pub fault: LexFault,
    /// Where, in bytes from 0.
    pub at: u32,
}

/// What is wrong with a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LexFault {
    /// `'…`
    #[error("unterminated quoted string")]
    UnterminatedString,
    /// `"…`
    #[error("unterminated quoted identifier")]
    UnterminatedIdentifier,
    /// `$$…`
    #[error("unterminated dollar-quoted string")]
    UnterminatedDollar,
    /// `/* …`
    #[error("unterminated /* comment")]
    UnterminatedComment,
    /// `""`
    #[error("zero-length delimited identifier")]
    EmptyIdentifier,
    /// `123abc`
    #[error("trailing junk after numeric literal")]
    NumberJunk,
    /// `$1abc`
    #[error("trailing junk after parameter")]
    ParameterJunk,
    /// 64 characters and more.
    #[error("operator too long")]
    LongOperator,
    /// `U&'…'` while `standard_conforming_strings` is off.
    #[error("unsafe use of string constant with Unicode escapes")]
    UnsafeUnicode,
    /// A character that begins no token.
    #[error("syntax error")]
    Character,
    /// More bytes than a message may have.
    #[error("statement too long")]
    TooLong,
}

impl From<LexError> for ClientError {
    fn from(error: LexError) -> ClientError {
        ClientError::error(SqlState::SYNTAX, error.to_string())
    }
}

/// All tokens of a text, without comments and white space.
pub fn tokenize(text: &[u8], standard_conforming_strings: bool) -> Result<Vec<Token>, LexError> {
    let mut scanner = Scanner::new(text, standard_conforming_strings)?;
    let mut tokens = Vec::with_capacity(text.len() / 4);
    while let Some(piece) = scanner.next(&mut |_| {})? {
        tokens.push(Token { kind: piece.kind, span: span(piece.start, piece.end) });
    }
    Ok(tokens)
}

/// A text as the plan cache sees it. Used again and again, it allocates nothing once warm.
#[derive(Default)]
pub struct Lexed {
    normalized: Vec<u8>,
    literals: Vec<Literal>,
    hints: Hints,
    statements: usize,
    standard_conforming_strings: bool,
    /// `UESCAPE` occurs: a `U&'…'` may have any escape character.
    custom_escape: bool,
    /// The last text could be read.
    complete: bool,
}

/// Whether the next literal stays in the normalized form.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    No,
    AfterParenthesis,
    Next,
}

impl Keep {
    fn after_word(word: &[u8]) -> Keep {
        match word {
            b"uescape" => Keep::Next,
            b"set_config" | b"\"set_config\"" => Keep::AfterParenthesis,
            b"pg_relation_size"
            | b"\"pg_relation_size\""
            | b"pg_table_size"
            | b"\"pg_table_size\""
            | b"pg_total_relation_size"
            | b"\"pg_total_relation_size\""
            | b"pg_indexes_size"
            | b"\"pg_indexes_size\"" => Keep::AfterParenthesis,
            _ => Keep::No,
        }
    }
}

impl Lexed {
    /// Buffers over this size are given back after a text that needed them.
    const KEPT_BYTES: usize = 1 << 20;

    /// Reads a text. After an error nothing of it is left to be seen.
    pub fn lex(&mut self, text: &[u8], standard_conforming_strings: bool) -> Result<(), LexError> {
        self.clear();
        self.standard_conforming_strings = standard_conforming_strings;
        let read = self.read(text);
        if read.is_err() {
            self.clear();
        }
        self.complete = read.is_ok();
        read
    }

    /// Whether there is a text that could be read. If not, the normalized form means nothing: it
    /// is that of an empty text.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    fn clear(&mut self) {
        self.normalized.clear();
        self.normalized.shrink_to(Self::KEPT_BYTES);
        self.literals.clear();
        self.literals.shrink_to(Self::KEPT_BYTES / size_of::<Literal>());
        self.hints = Hints::default();
        self.statements = 0;
        self.custom_escape = false;
        self.complete = false;
    }

    fn read(&mut self, text: &[u8]) -> Result<(), LexError> {
        let mut scanner = Scanner::new(text, self.standard_conforming_strings)?;
        let Lexed { normalized, literals, hints, .. } = self;
        let mut keep = Keep::No;
        let mut in_statement = false;
        // A separator follows whatever could run into its neighbour: without one, `a b` and `ab`,
        // `"a" "b"` and `"a""b"`, `: =` and `:=` would be the same.
        while let Some(piece) = scanner.next(&mut |comment| hints.read_comment(text, comment))? {
            let raw = &text[piece.start..piece.end];
            let kept = std::mem::replace(&mut keep, Keep::No);
            if piece.kind == TokenKind::Semicolon {
                self.statements += usize::from(in_statement);
                in_statement = false;
                normalized.push(b';');
                continue;
            }
            in_statement = true;
            match piece.kind {
                TokenKind::Word => {
                    let start = normalized.len();
                    normalized.extend(raw.iter().map(u8::to_ascii_lowercase));
                    keep = Keep::after_word(&normalized[start..]);
                    self.custom_escape |= keep == Keep::Next;
                    normalized.push(b' ');
                }
                TokenKind::Punct if !matches!(raw, b"." | b":") => {
                    normalized.extend_from_slice(raw);
                    if kept == Keep::AfterParenthesis && raw == b"(" {
                        keep = Keep::Next;
                    }
                }
                kind => {
                    if let Some(mark) = kind.mark() {
                        literals.push(Literal { kind, span: span(piece.start, piece.end) });
                        normalized.push(mark);
                        if kept != Keep::Next {
                            continue;
                        }
                    } else if kind == TokenKind::QuotedIdent {
                        keep = Keep::after_word(raw);
                    }
                    normalized.extend_from_slice(raw);
                    normalized.push(b' ');
                }
            }
        }
        self.statements += usize::from(in_statement);
        Ok(())
    }

    /// The text without what does not matter to its analysis.
    pub fn normalized(&self) -> &[u8] {
        &self.normalized
    }

    /// The literals in the order of the text.
    pub fn literals(&self) -> &[Literal] {
        &self.literals
    }

    /// What the comments ask for.
    pub fn hints(&self) -> &Hints {
        &self.hints
    }

    /// How many statements that are not empty stand between semicolons.
    pub fn statement_count(&self) -> usize {
        self.statements
    }

    /// Which kind of literal the `slot`-th is. [`TokenKind::Punct`] if there is none such.
    pub fn literal_kind(&self, slot: u32) -> TokenKind {
        self.literal(slot).map_or(TokenKind::Punct, |literal| literal.kind)
    }

    /// What the `slot`-th literal of `text` (the text that was read) denotes: the contents of a
    /// string, a number as it is written. `None` where that cannot be told without the server.
    pub fn literal_value<'t>(&self, text: &'t [u8], slot: u32) -> Option<Cow<'t, [u8]>> {
        let literal = self.literal(slot)?;
        if literal.kind == TokenKind::UnicodeString && self.custom_escape {
            return None;
        }
        let raw = text.get(literal.span.start as usize..literal.span.end as usize)?;
        decode::decode(literal.kind, raw, self.standard_conforming_strings)
    }

    fn literal(&self, slot: u32) -> Option<&Literal> {
        self.literals.get(usize::try_from(slot).ok()?)
    }
}

/// Offsets fit: the scanner refuses texts that are longer.
fn span(start: usize, end: usize) -> Span {
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    offset(start)..offset(end)
}
