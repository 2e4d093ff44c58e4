//! Hints in comments: `/* pgring: key=42 */`, `-- pgring: shard=s2, fresh`.
//!
//! A comment is a hint if its text begins with `pgring:`. From there on it must be understood:
//! a misspelt hint that is passed over would send the statement where its author did not want it.

use super::Span;
use std::borrow::Cow;
use std::ops::Range;

/// Which server may answer a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadHint {
    /// `fresh`: the primary only.
    Fresh,
    /// `replica`: a replica if one is healthy.
    Replica,
    /// `analytical`: an analytics endpoint first.
    Analytical,
}

impl ReadHint {
    /// By its name, in any case.
    pub fn named(name: &[u8]) -> Option<ReadHint> {
        let known: [(&[u8], ReadHint); 3] = [
            (b"fresh", ReadHint::Fresh),
            (b"replica", ReadHint::Replica),
            (b"analytical", ReadHint::Analytical),
        ];
        known.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|&(_, hint)| hint)
    }
}

/// What the comments of a text ask for. Spans are of the value as written, quotes included:
/// read them with [`Hints::value`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hints {
    /// `key=…`
    pub key: Option<Span>,
    /// `shard=…`
    pub shard: Option<Span>,
    /// `fresh`, `replica`, `analytical`.
    pub read: Option<ReadHint>,
    /// A hint that cannot be understood, or contradicts another one: what stands in its comment.
    pub invalid: Option<Span>,
}

impl Hints {
    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.key.is_none() && self.shard.is_none() && self.read.is_none() && self.invalid.is_none()
    }

    /// The value at `span` of the text, without its quotes.
    pub fn value<'t>(text: &'t [u8], span: &Span) -> Cow<'t, [u8]> {
        let raw = &text[span.start as usize..span.end as usize];
        match raw.strip_prefix(b"'").and_then(|rest| rest.strip_suffix(b"'")) {
            None => Cow::Borrowed(raw),
            Some(inside) if !inside.contains(&b'\'') => Cow::Borrowed(inside),
            Some(inside) => {
                let mut value = Vec::with_capacity(inside.len());
                let mut bytes = inside.iter();
                while let Some(&byte) = bytes.next() {
                    value.push(byte);
                    if byte == b'\'' {
                        bytes.next();
                    }
                }
                Cow::Owned(value)
            }
        }
    }

    /// Takes a comment's inside into account. Doing so twice changes nothing.
    pub(super) fn read_comment(&mut self, text: &[u8], comment: Range<usize>) {
        const MARK: &[u8] = b"pgring:";
        let inside = &text[comment.clone()];
        let start = inside.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(inside.len());
        let marked = inside[start..].get(..MARK.len()).is_some_and(|mark| mark.eq_ignore_ascii_case(MARK));
        if marked
            && self.items(Cursor { text, at: comment.start + start + MARK.len(), end: comment.end }).is_none()
        {
            self.invalid = Some(span(comment));
        }
    }

    /// `None` if an item is not understood.
    fn items(&mut self, mut rest: Cursor<'_>) -> Option<()> {
        let text = rest.text;
        let mut any = false;
        loop {
            rest.take(|byte| byte == b',' || byte.is_ascii_whitespace());
            if rest.peek().is_none() {
                return any.then_some(());
            }
            any = true;
            let name = rest.take(|byte| byte.is_ascii_alphabetic());
            let after_name = rest.at;
            rest.take(|byte| byte.is_ascii_whitespace());
            if rest.peek() == Some(b'=') {
                rest.at += 1;
                rest.take(|byte| byte.is_ascii_whitespace());
                let value = rest.value()?;
                let place = match &text[name] {
                    name if name.eq_ignore_ascii_case(b"key") => &mut self.key,
                    name if name.eq_ignore_ascii_case(b"shard") => &mut self.shard,
                    _ => return None,
                };
                let same = |known: &Span| Hints::value(text, known) == Hints::value(text, &value);
                if place.as_ref().is_some_and(|known| !same(known)) {
                    return None;
                }
                *place = Some(value);
                // Which of the two would win is nothing to guess.
                if self.key.is_some() && self.shard.is_some() {
                    return None;
                }
            } else {
                rest.at = after_name;
                let read = ReadHint::named(&text[name])?;
                if self.read.is_some_and(|known| known != read) {
                    return None;
                }
                self.read = Some(read);
            }
            // `key='a'b`, `fresh?`
            if rest.peek().is_some_and(|byte| byte != b',' && !byte.is_ascii_whitespace()) {
                return None;
            }
        }
    }
}

/// What is left of a comment.
struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
    end: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        if self.at < self.end { self.text.get(self.at).copied() } else { None }
    }

    fn take(&mut self, which: impl Fn(u8) -> bool) -> Range<usize> {
        let start = self.at;
        while self.peek().is_some_and(&which) {
            self.at += 1;
        }
        start..self.at
    }

    /// `'a b'` with `''` for a quote, or everything up to white space or a comma.
    fn value(&mut self) -> Option<Span> {
        let start = self.at;
        if self.peek() != Some(b'\'') {
            let ends = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b'\'' | b'"');
            let value = self.take(|byte| !ends(byte));
            return (!value.is_empty()).then(|| span(value));
        }
        self.at += 1;
        loop {
            self.take(|byte| byte != b'\'');
            self.peek()?;
            self.at += 1;
            if self.peek() != Some(b'\'') {
                return Some(span(start..self.at));
            }
            self.at += 1;
        }
    }
}

/// Offsets fit: the scanner refuses texts that are longer.
fn span(range: Range<usize>) -> Span {
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    offset(range.start)..offset(range.end)
}
