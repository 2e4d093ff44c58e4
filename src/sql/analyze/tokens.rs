//! A text's tokens as the analysis reads them: words compared without case, names as
//! PostgreSQL folds them, and statements told apart.

use std::ops::Range;

use super::super::lexer::{Token, TokenKind};

/// PostgreSQL cuts identifiers off at this length (`NAMEDATALEN - 1`).
const IDENTIFIER_BYTES: usize = 63;

/// A text, its tokens, and which literal each of them is.
pub(in crate::sql) struct Tokens<'t> {
    text: &'t [u8],
    tokens: Vec<Token>,
    slots: Vec<u32>,
}

/// A possibly qualified name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::sql) struct Name {
    pub(in crate::sql) schema: Option<String>,
    pub(in crate::sql) name: String,
}

impl<'t> Tokens<'t> {
    pub(in crate::sql) fn new(text: &'t [u8], tokens: Vec<Token>) -> Tokens<'t> {
        let mut next = 0;
        let slots = tokens
            .iter()
            .map(|token| {
                let slot = next;
                next += u32::from(token.kind.is_literal());
                slot
            })
            .collect();
        Tokens { text, tokens, slots }
    }

    pub(in crate::sql) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(in crate::sql) fn kind(&self, index: usize) -> Option<TokenKind> {
        self.tokens.get(index).map(|token| token.kind)
    }

    /// The token's bytes; nothing beyond the end.
    pub(in crate::sql) fn raw(&self, index: usize) -> &'t [u8] {
        self.tokens
            .get(index)
            .and_then(|token| self.text.get(token.span.start as usize..token.span.end as usize))
            .unwrap_or(&[])
    }

    /// The text from the first of these tokens to the last, with what stands between.
    pub(in crate::sql) fn text_of(&self, range: Range<usize>) -> &'t [u8] {
        let start = self.tokens.get(range.start).map_or(0, |token| token.span.start as usize);
        let last = range.end.checked_sub(1).and_then(|last| self.tokens.get(last));
        self.text.get(start..last.map_or(0, |token| token.span.end as usize)).unwrap_or(&[])
    }

    /// What stands between the token and the next one: white space and comments.
    pub(in crate::sql) fn text_between(&self, index: usize) -> &'t [u8] {
        let start = self.tokens.get(index).map_or(0, |token| token.span.end as usize);
        let end = self.tokens.get(index + 1).map_or(0, |token| token.span.start as usize);
        self.text.get(start..end).unwrap_or(&[])
    }

    /// These tokens as they stand in the text, what is between them included.
    pub(in crate::sql) fn written(&self, range: Range<usize>) -> Option<&'t str> {
        std::str::from_utf8(self.text.get(self.bytes_of(range)?)?).ok()
    }

    /// Where they stand.
    pub(in crate::sql) fn bytes_of(&self, range: Range<usize>) -> Option<Range<usize>> {
        let (first, last) = (self.tokens.get(range.start)?, self.tokens.get(range.end.checked_sub(1)?)?);
        Some(first.span.start as usize..last.span.end as usize)
    }

    /// Which literal the token is.
    pub(in crate::sql) fn slot(&self, index: usize) -> Option<u32> {
        let token = self.tokens.get(index)?;
        token.kind.is_literal().then(|| self.slots[index])
    }

    /// Whether the token is this word, without quotes.
    pub(in crate::sql) fn is_word(&self, index: usize, word: &str) -> bool {
        self.kind(index) == Some(TokenKind::Word) && self.raw(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether the token is one of these words.
    pub(in crate::sql) fn is_one_of(&self, index: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is_word(index, word))
    }

    /// Whether these words stand here in a row.
    pub(in crate::sql) fn are_words(&self, index: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(offset, word)| self.is_word(index + offset, word))
    }

    /// Whether the token is this operator or punctuation mark.
    pub(in crate::sql) fn is_mark(&self, index: usize, mark: &str) -> bool {
        matches!(self.kind(index), Some(TokenKind::Operator | TokenKind::Punct))
            && self.raw(index) == mark.as_bytes()
    }

    /// The word in lower case; empty if it is none.
    pub(in crate::sql) fn word(&self, index: usize) -> String {
        match self.kind(index) {
            Some(TokenKind::Word) => String::from_utf8_lossy(self.raw(index)).to_ascii_lowercase(),
            _ => String::new(),
        }
    }

    /// An identifier as PostgreSQL would look it up. `None`: no identifier, or one only the
    /// server can read.
    pub(in crate::sql) fn identifier(&self, index: usize) -> Option<String> {
        let raw = self.raw(index);
        match self.kind(index)? {
            TokenKind::Word => Some(fold(std::str::from_utf8(raw).ok()?, false)),
            TokenKind::QuotedIdent => Some(fold(&unquoted(raw)?, true)),
            TokenKind::UnicodeIdent if !self.is_word(index + 1, "uescape") => {
                Some(fold(&decoded(raw.get(2..)?)?, true))
            }
            _ => None,
        }
    }

    /// Is there an identifier that only the server can read?
    pub(super) fn has_unread_identifier(&self, mut range: Range<usize>) -> bool {
        range.any(|at| self.kind(at) == Some(TokenKind::UnicodeIdent) && self.identifier(at).is_none())
    }

    /// The contents of `"…"` as written between the quotes, doubled ones undone.
    pub(in crate::sql) fn quoted_contents(&self, index: usize) -> Option<String> {
        unquoted(self.raw(index))
    }

    /// A name at `index`, and the token behind it.
    pub(in crate::sql) fn name(&self, index: usize, end: usize) -> Option<(Name, usize)> {
        let mut parts = vec![self.identifier(index).filter(|_| index < end)?];
        let mut at = index + 1;
        while at + 1 < end && self.is_mark(at, ".") {
            parts.push(self.identifier(at + 1)?);
            at += 2;
        }
        let name = parts.pop()?;
        Some((Name { schema: parts.pop(), name }, at))
    }

    /// The token behind the parenthesis that closes the one at `open`.
    pub(in crate::sql) fn behind_parenthesis(&self, open: usize, end: usize) -> usize {
        let mut depth = 0usize;
        for at in open..end {
            if self.is_mark(at, "(") {
                depth += 1;
            } else if self.is_mark(at, ")") {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
        }
        end
    }

    /// The first of these words outside parentheses.
    pub(in crate::sql) fn find_word(&self, range: Range<usize>, words: &[&str]) -> Option<usize> {
        let mut depth = 0usize;
        for at in range {
            if self.is_mark(at, "(") {
                depth += 1;
            } else if self.is_mark(at, ")") {
                depth = depth.saturating_sub(1);
            } else if depth == 0 && self.is_one_of(at, words) {
                return Some(at);
            }
        }
        None
    }

    /// The statements' tokens, empty ones left out. A semicolon within parentheses (`CREATE
    /// RULE`) or within `BEGIN ATOMIC … END` ends no statement.
    pub(in crate::sql) fn statements(&self) -> Vec<Range<usize>> {
        let mut statements = Vec::new();
        let mut start = 0;
        let mut parentheses = 0usize;
        let mut blocks = 0usize;
        for at in 0..self.len() {
            if self.kind(at) == Some(TokenKind::Semicolon) {
                if parentheses == 0 && blocks == 0 {
                    if start < at {
                        statements.push(start..at);
                    }
                    start = at + 1;
                }
            } else if self.is_mark(at, "(") {
                parentheses += 1;
            } else if self.is_mark(at, ")") {
                parentheses = parentheses.saturating_sub(1);
            } else if blocks == 0 && self.are_words(at, &["begin", "atomic"]) && self.is_word(start, "create")
            {
                blocks = 1;
            } else if blocks > 0 && self.is_word(at, "case") {
                blocks += 1;
            } else if blocks > 0 && self.is_word(at, "end") {
                blocks -= 1;
            }
        }
        if start < self.len() {
            statements.push(start..self.len());
        }
        statements
    }
}

/// An identifier as it stands in the catalogs.
pub fn fold(identifier: &str, quoted: bool) -> String {
    let mut name = if quoted { identifier.to_owned() } else { identifier.to_ascii_lowercase() };
    if name.len() > IDENTIFIER_BYTES {
        let cut = (0..=IDENTIFIER_BYTES).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        name.truncate(cut);
    }
    name
}

/// The contents of `"…"` behind a `U&`: ASCII alone, since what else there is in an escape depends on
/// the server's encoding.
fn decoded(raw: &[u8]) -> Option<String> {
    let contents = unquoted(raw)?;
    let mut decoded = String::with_capacity(contents.len());
    let mut rest = contents.as_str();
    while let Some(at) = rest.find('\\') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('\\') {
            decoded.push('\\');
            rest = behind;
            continue;
        }
        let (digits, start) = if rest.starts_with('+') { (6, 1) } else { (4, 0) };
        let code = u32::from_str_radix(rest.get(start..start + digits)?, 16).ok()?;
        decoded.push(char::from_u32(code).filter(char::is_ascii)?);
        rest = &rest[start + digits..];
    }
    decoded.push_str(rest);
    Some(decoded)
}

fn unquoted(raw: &[u8]) -> Option<String> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(std::str::from_utf8(inner).ok()?.replace("\"\"", "\""))
}
