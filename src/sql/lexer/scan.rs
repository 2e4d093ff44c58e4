//! Token boundaries exactly as PostgreSQL draws them (`src/backend/parser/scan.l`, PostgreSQL 12 to 18).
//!
//! Where versions differ the stricter one is followed, so that no byte is read as something an
//! older or newer server takes for something else: `123abc` is an error here (as from
//! PostgreSQL 15 on), not `123 AS abc`.
//!
//! Every byte is looked at a bounded number of times whatever the input is, and nothing
//! recurses: nested comments are counted, the operator rule keeps what it learned of a run.

use super::{LexError, LexFault, TokenKind};
use std::ops::Range;

/// What a byte begins.
#[derive(Clone, Copy)]
enum Class {
    Space,
    Word,
    Digit,
    Operator,
    Bracket,
    Semicolon,
    Dot,
    Colon,
    Quote,
    DoubleQuote,
    Dollar,
    Other,
}

static CLASS: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut table = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Class::Space,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => Class::Word,
            b'0'..=b'9' => Class::Digit,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' => Class::Operator,
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' => Class::Operator,
            b'(' | b')' | b'[' | b']' | b',' => Class::Bracket,
            b';' => Class::Semicolon,
            b'.' => Class::Dot,
            b':' => Class::Colon,
            b'\'' => Class::Quote,
            b'"' => Class::DoubleQuote,
            b'$' => Class::Dollar,
            _ => Class::Other,
        };
        byte += 1;
    }
    table
}

/// `ident_start`.
fn starts_word(byte: u8) -> bool {
    matches!(CLASS[usize::from(byte)], Class::Word)
}

/// `ident_cont`.
fn continues_word(byte: u8) -> bool {
    matches!(CLASS[usize::from(byte)], Class::Word | Class::Digit | Class::Dollar)
}

/// `dolq_cont`: as `ident_cont`, without `$`.
fn continues_tag(byte: u8) -> bool {
    matches!(CLASS[usize::from(byte)], Class::Word | Class::Digit)
}

/// How the inside of a quoted string is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `''` is a quote.
    Doubled,
    /// That, and a backslash takes the next byte with it.
    Escapes,
    /// Bit strings: the first quote ends it.
    Plain,
}

/// A token, as byte offsets.
pub(super) struct Piece {
    pub(super) kind: TokenKind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The operator characters around the last operator token: what was learned of them holds for
/// each token cut from them, or a long run of `+-+-` would be read once a token.
#[derive(Default)]
struct OperatorRun {
    /// Where the run ends, or a comment starts.
    end: usize,
    /// From here to `end` there is nothing but `+` and `-`.
    signs: usize,
    /// Just after the last character that cannot be in an SQL operator.
    special: usize,
}

/// Goes through a text token by token.
pub(super) struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
    standard_conforming_strings: bool,
    run: OperatorRun,
}

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t [u8], standard_conforming_strings: bool) -> Result<Scanner<'t>, LexError> {
        if u32::try_from(text.len()).is_err() {
            return Err(LexError { fault: LexFault::TooLong, at: u32::MAX });
        }
        Ok(Scanner { text, at: 0, standard_conforming_strings, run: OperatorRun::default() })
    }

    /// The next token; `comment` is called with what stands between the delimiters of each
    /// comment on the way (and may be called twice for the same one).
    #[inline]
    pub(super) fn next(&mut self, comment: &mut impl FnMut(Range<usize>)) -> Result<Option<Piece>, LexError> {
        loop {
            let start = self.at;
            let Some(&byte) = self.text.get(start) else { return Ok(None) };
            let (kind, end) = match CLASS[usize::from(byte)] {
                Class::Space => {
                    self.at = start + 1;
                    continue;
                }
                Class::Word => self.word_or_prefixed(start, byte, comment)?,
                Class::Digit => self.number(start)?,
                Class::Bracket => (TokenKind::Punct, start + 1),
                Class::Semicolon => (TokenKind::Semicolon, start + 1),
                Class::Operator => {
                    let next = self.peek(start + 1);
                    if byte == b'-' && next == b'-' {
                        let end = line_end(self.text, start + 2);
                        comment(start + 2..end);
                        self.at = end;
                        continue;
                    }
                    if byte == b'/' && next == b'*' {
                        let end = self.block_comment(start)?;
                        comment(start + 2..end - 2);
                        self.at = end;
                        continue;
                    }
                    (TokenKind::Operator, self.operator(start)?)
                }
                Class::Dot => match self.peek(start + 1) {
                    b'.' => (TokenKind::Operator, start + 2),
                    b'0'..=b'9' => self.number(start)?,
                    _ => (TokenKind::Punct, start + 1),
                },
                Class::Colon => match self.peek(start + 1) {
                    b':' | b'=' => (TokenKind::Operator, start + 2),
                    _ => (TokenKind::Punct, start + 1),
                },
                Class::Quote => {
                    (TokenKind::String, self.string(start, start + 1, self.plain_style(), comment)?)
                }
                Class::DoubleQuote => (TokenKind::QuotedIdent, self.quoted_identifier(start, start + 1)?),
                Class::Dollar => self.dollar(start)?,
                Class::Other => return Err(self.error(LexFault::Character, start)),
            };
            self.at = end;
            return Ok(Some(Piece { kind, start, end }));
        }
    }

    /// The byte at `at`, or NUL at the end: no rule asks for a NUL.
    fn peek(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn error(&self, fault: LexFault, at: usize) -> LexError {
        LexError { fault, at: u32::try_from(at).unwrap_or(u32::MAX) }
    }

    /// What `'…'` without a prefix means under the session's setting.
    fn plain_style(&self) -> Style {
        if self.standard_conforming_strings { Style::Doubled } else { Style::Escapes }
    }

    #[inline]
    fn word_or_prefixed(
        &self,
        start: usize,
        byte: u8,
        comment: &mut impl FnMut(Range<usize>),
    ) -> Result<(TokenKind, usize), LexError> {
        match (byte, self.peek(start + 1)) {
            (b'e' | b'E', b'\'') => {
                let end = self.string(start, start + 2, Style::Escapes, comment)?;
                return Ok((TokenKind::EscapeString, end));
            }
            (b'b' | b'B' | b'x' | b'X', b'\'') => {
                let end = self.string(start, start + 2, Style::Plain, comment)?;
                return Ok((TokenKind::BitString, end));
            }
            (b'n' | b'N', b'\'') => {
                let end = self.string(start, start + 2, self.plain_style(), comment)?;
                return Ok((TokenKind::NationalString, end));
            }
            (b'u' | b'U', b'&') => match self.peek(start + 2) {
                b'\'' if !self.standard_conforming_strings => {
                    return Err(self.error(LexFault::UnsafeUnicode, start));
                }
                b'\'' => {
                    let end = self.string(start, start + 3, Style::Doubled, comment)?;
                    return Ok((TokenKind::UnicodeString, end));
                }
                b'"' => return Ok((TokenKind::UnicodeIdent, self.quoted_identifier(start, start + 3)?)),
                _ => {}
            },
            _ => {}
        }
        let rest = &self.text[start + 1..];
        let length = rest.iter().position(|&byte| !continues_word(byte)).unwrap_or(rest.len());
        Ok((TokenKind::Word, start + 1 + length))
    }

    /// The end of the string whose inside begins at `body`, its continuations over line ends
    /// included.
    fn string(
        &self,
        start: usize,
        body: usize,
        style: Style,
        comment: &mut impl FnMut(Range<usize>),
    ) -> Result<usize, LexError> {
        let mut at = body;
        loop {
            match self.text.get(at) {
                None => return Err(self.error(LexFault::UnterminatedString, start)),
                Some(b'\'') if style != Style::Plain && self.peek(at + 1) == b'\'' => at += 2,
                Some(b'\'') => match continuation(self.text, at + 1, comment) {
                    Some(next) => at = next,
                    None => return Ok(at + 1),
                },
                Some(b'\\') if style == Style::Escapes => at += 2,
                Some(_) => at += 1,
            }
        }
    }

    fn quoted_identifier(&self, start: usize, body: usize) -> Result<usize, LexError> {
        let mut at = body;
        loop {
            match self.text.get(at) {
                None => return Err(self.error(LexFault::UnterminatedIdentifier, start)),
                Some(b'"') if self.peek(at + 1) == b'"' => at += 2,
                Some(b'"') if at == body => return Err(self.error(LexFault::EmptyIdentifier, start)),
                Some(b'"') => return Ok(at + 1),
                Some(_) => at += 1,
            }
        }
    }

    fn block_comment(&self, start: usize) -> Result<usize, LexError> {
        let mut depth = 1u32;
        let mut at = start + 2;
        while let Some(&byte) = self.text.get(at) {
            match (byte, self.peek(at + 1)) {
                (b'*', b'/') => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return Ok(at);
                    }
                }
                (b'/', b'*') => {
                    depth += 1;
                    at += 2;
                }
                _ => at += 1,
            }
        }
        Err(self.error(LexFault::UnterminatedComment, start))
    }

    /// `$1`, `$$…$$`, `$tag$…$tag$`. A `$` after an identifier character never comes here: it
    /// belongs to the identifier.
    fn dollar(&self, start: usize) -> Result<(TokenKind, usize), LexError> {
        let mut at = start + 1;
        if self.peek(at).is_ascii_digit() {
            while self.peek(at).is_ascii_digit() {
                at += 1;
            }
            if starts_word(self.peek(at)) {
                return Err(self.error(LexFault::ParameterJunk, start));
            }
            return Ok((TokenKind::Param, at));
        }
        if starts_word(self.peek(at)) {
            while continues_tag(self.peek(at)) {
                at += 1;
            }
        }
        if self.peek(at) != b'$' {
            return Err(self.error(LexFault::Character, start));
        }
        let delimiter = &self.text[start..=at];
        at += 1;
        // A delimiter has `$` at its ends only, so a comparison that fails has looked at no
        // byte beyond the next `$`.
        while let Some(offset) = self.text[at..].iter().position(|&byte| byte == b'$') {
            at += offset;
            if self.text[at..].starts_with(delimiter) {
                return Ok((TokenKind::DollarString, at + delimiter.len()));
            }
            at += 1;
        }
        Err(self.error(LexFault::UnterminatedDollar, start))
    }

    /// `decinteger` from `at` on; `at` itself if there is no digit.
    fn digits(&self, mut at: usize, digit: impl Fn(u8) -> bool) -> usize {
        loop {
            if digit(self.peek(at)) {
                at += 1;
            } else if self.peek(at) == b'_' && digit(self.peek(at + 1)) {
                at += 2;
            } else {
                return at;
            }
        }
    }

    fn number(&self, start: usize) -> Result<(TokenKind, usize), LexError> {
        let junk = || self.error(LexFault::NumberJunk, start);
        if self.peek(start) == b'0' {
            let digit: Option<fn(u8) -> bool> = match self.peek(start + 1) {
                b'x' | b'X' => Some(|byte| byte.is_ascii_hexdigit()),
                b'o' | b'O' => Some(|byte| matches!(byte, b'0'..=b'7')),
                b'b' | b'B' => Some(|byte| matches!(byte, b'0' | b'1')),
                _ => None,
            };
            if let Some(digit) = digit {
                let end = self.digits(start + 2, digit);
                // What follows would belong to the identifier that makes it `integer_junk`.
                if end == start + 2 || continues_word(self.peek(end)) {
                    return Err(junk());
                }
                return Ok((TokenKind::Integer, end));
            }
        }
        let decimal = |byte: u8| byte.is_ascii_digit();
        let mut kind = TokenKind::Integer;
        // The first byte is a digit or a dot before one: a leading `_` is not a number's.
        let mut at = if self.peek(start) == b'.' { start } else { self.digits(start, decimal) };
        if self.peek(at) == b'.' {
            // `numericfail`: `1..10` is a range.
            if at > start && self.peek(at + 1) == b'.' {
                return Ok((kind, at));
            }
            kind = TokenKind::Decimal;
            at += 1;
            if decimal(self.peek(at)) {
                at = self.digits(at, decimal);
            }
        }
        if matches!(self.peek(at), b'e' | b'E') {
            let signed = matches!(self.peek(at + 1), b'+' | b'-');
            let exponent = at + 1 + usize::from(signed);
            if !decimal(self.peek(exponent)) {
                return Err(junk());
            }
            kind = TokenKind::Decimal;
            at = self.digits(exponent, decimal);
            // `e5$` is an identifier, and so longer than the exponent.
            if !signed && self.peek(at) == b'$' {
                return Err(junk());
            }
        }
        if starts_word(self.peek(at)) {
            return Err(junk());
        }
        Ok((kind, at))
    }

    /// The rule of `{operator}`: an operator ends where a comment starts, and ends in `+` or
    /// `-` only if it has a character that no SQL operator has, so that `=-1` is `=` and `-1`.
    fn operator(&mut self, start: usize) -> Result<usize, LexError> {
        if start >= self.run.end {
            self.run = self.operator_run(start);
        }
        let run = &self.run;
        let end = if run.end - start > 1 && run.signs < run.end && run.special <= start {
            run.signs.max(start + 1)
        } else {
            run.end
        };
        // NAMEDATALEN
        if end - start >= 64 {
            return Err(self.error(LexFault::LongOperator, start));
        }
        Ok(end)
    }

    fn operator_run(&self, start: usize) -> OperatorRun {
        let mut run = OperatorRun { end: start, signs: start, special: start };
        loop {
            let byte = self.peek(run.end);
            let comment = matches!((byte, self.peek(run.end + 1)), (b'-', b'-') | (b'/', b'*'));
            if !matches!(CLASS[usize::from(byte)], Class::Operator) || (comment && run.end > start) {
                return run;
            }
            run.end += 1;
            match byte {
                b'+' | b'-' => {}
                b'*' | b'/' | b'<' | b'>' | b'=' => run.signs = run.end,
                _ => (run.signs, run.special) = (run.end, run.end),
            }
        }
    }
}

/// The end of the line that `at` stands in, without its line end.
fn line_end(text: &[u8], at: usize) -> usize {
    let rest = &text[at..];
    at + rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len())
}

/// After a closing quote at `at - 1`: where the inside of the literal's next part begins, if the
/// literal goes on (`quotecontinue`: white space with a line end in it and `--` comments only).
pub(super) fn continuation(
    text: &[u8],
    mut at: usize,
    comment: &mut impl FnMut(Range<usize>),
) -> Option<usize> {
    let mut line_ended = false;
    loop {
        match *text.get(at)? {
            b'\n' | b'\r' => {
                line_ended = true;
                at += 1;
            }
            b' ' | b'\t' | 0x0b | 0x0c => at += 1,
            b'-' if text.get(at + 1) == Some(&b'-') => {
                let end = line_end(text, at + 2);
                comment(at + 2..end);
                at = end;
            }
            b'\'' if line_ended => return Some(at + 1),
            _ => return None,
        }
    }
}
