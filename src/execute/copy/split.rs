//! A client's stream → records. As `CopyReadLineText`, `CopyReadAttributesText` and
//! `CopyReadAttributesCSV` of PostgreSQL's `copyfromparse.c` read it.

use memchr::{memchr, memchr_iter, memchr2, memchr3};

use super::CopyFault;
use crate::sql::distribute::{CopyFormat, CopyIn, CopyKey, CopyKind, tells_the_time};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// The flags that a reader must understand; of the one that is defined, no supported version does.
const CRITICAL_FLAGS: u32 = 0xffff_0000;
/// Records that straddle portions are completed in steps from this size on.
const STEP_BYTES: usize = 1024;

/// What a stream is cut into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part<'p> {
    /// Belongs into every shard's stream: a header, which comes first, or the end of a binary stream.
    Everyone {
        /// As they lie.
        bytes: &'p [u8],
        /// How many lines it is.
        lines: u32,
    },
    /// Belongs into one shard's, or, without a key, into every shard's.
    Record(Record<'p>),
}

/// A row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'p> {
    /// As they lie, the newline included.
    pub bytes: &'p [u8],
    /// The key's text, or its binary value; none for a reference table.
    pub key: Option<&'p [u8]>,
    /// The client's line that it begins on, from 1; its number in binary.
    pub line: u64,
    /// How many lines PostgreSQL counts in it.
    pub lines: u32,
    /// How many it counts if nothing has told it before how lines end.
    pub lines_alone: u32,
}

/// How lines end; PostgreSQL insists on one style.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    Unknown,
    Newline,
    Return,
    Both,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    BinaryHeader,
    Header,
    Records,
    /// The end was marked.
    Ended,
}

/// The end of a line, as far as it was looked for.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    /// Nothing before this matters to the line's end any more.
    upto: usize,
    /// Something in it is escaped, or quoted.
    special: bool,
    in_quote: bool,
    newlines: u32,
    returns: u32,
}

enum Found {
    /// Its length with and without the newline.
    Line { end: usize, body: usize },
    /// `\.` and its newline.
    Marker { end: usize },
    /// Not all of it is here.
    More,
}

/// Cuts a stream into records, whatever portions it comes in. After an error it is of no more use.
#[derive(Debug)]
pub struct Splitter {
    format: CopyFormat,
    key: Option<CopyKey>,
    column: String,
    fields: usize,
    timed: bool,
    longest: usize,
    stage: Stage,
    style: Style,
    line: u64,
    seen: Seen,
    /// The beginning of a record whose end is not here yet.
    carry: Vec<u8>,
    /// A key without its escapes.
    scratch: Vec<u8>,
}

impl Splitter {
    /// For the stream of this statement; no record may be longer than `longest` bytes.
    pub fn new(copy: &CopyIn, longest: usize) -> Splitter {
        let stage = match copy.format.kind {
            CopyKind::Binary => Stage::BinaryHeader,
            _ if copy.format.header => Stage::Header,
            _ => Stage::Records,
        };
        Splitter {
            format: copy.format.clone(),
            key: copy.key,
            column: copy.column.clone(),
            fields: copy.fields,
            timed: copy.timed,
            longest,
            stage,
            style: Style::Unknown,
            line: 1,
            seen: Seen::default(),
            carry: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The client's line that is read next, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// What a `CopyData` holds. Records that are complete are given to `take` before this returns.
    ///
    /// # Errors
    /// The stream's, or what `take` says.
    pub fn feed<E: From<CopyFault>>(
        &mut self,
        mut portion: &[u8],
        take: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        // Only the record that straddles the portions is put together.
        let mut step = STEP_BYTES;
        while !self.carry.is_empty() && !portion.is_empty() {
            let mut carry = std::mem::take(&mut self.carry);
            let before = carry.len();
            let added = portion.get(..step).unwrap_or(portion);
            carry.extend_from_slice(added);
            let used = self.scan(&carry, false, 1, take)?;
            match used.checked_sub(before) {
                Some(of_portion) if used > 0 => {
                    portion = portion.get(of_portion..).unwrap_or(&[]);
                    carry.clear();
                }
                // A record that was complete before: the end was looked for once more.
                _ if used > 0 => {
                    portion = portion.get(added.len()..).unwrap_or(&[]);
                    carry.drain(..used);
                }
                _ => {
                    portion = portion.get(added.len()..).unwrap_or(&[]);
                    step = step.saturating_mul(2);
                }
            }
            self.carry = carry;
            self.bounded()?;
        }
        if self.carry.is_empty() {
            let used = self.scan(portion, false, usize::MAX, take)?;
            self.carry.extend_from_slice(portion.get(used..).unwrap_or(&[]));
            self.bounded()?;
        }
        Ok(())
    }

    /// The client's `CopyDone`.
    ///
    /// # Errors
    /// As [`Splitter::feed`].
    pub fn finish<E: From<CopyFault>>(
        &mut self,
        take: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let carry = std::mem::take(&mut self.carry);
        let used = self.scan(&carry, true, usize::MAX, take)?;
        if used < carry.len() {
            return Err(CopyFault::Ended { line: self.line }.into());
        }
        match self.stage {
            Stage::BinaryHeader => Err(CopyFault::Signature.into()),
            _ => Ok(()),
        }
    }

    fn bounded(&self) -> Result<(), CopyFault> {
        if self.carry.len() > self.longest {
            return Err(CopyFault::TooLong { line: self.line, bytes: self.longest });
        }
        Ok(())
    }

    /// Gives up to `most` parts to `take`; how many bytes they were.
    fn scan<E: From<CopyFault>>(
        &mut self,
        bytes: &[u8],
        last: bool,
        most: usize,
        take: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut at = 0;
        for _ in 0..most {
            let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else { break };
            let used = match self.stage {
                Stage::Ended => self.behind_end(rest)?,
                Stage::BinaryHeader => binary_header(rest, take)?.inspect(|_| self.stage = Stage::Records),
                Stage::Records if self.format.kind == CopyKind::Binary => self.tuple(rest, take)?,
                Stage::Header | Stage::Records => self.line_of(rest, last, take)?,
            };
            match used {
                Some(used) => at += used,
                None => break,
            }
        }
        Ok(at)
    }

    fn behind_end(&self, rest: &[u8]) -> Result<Option<usize>, CopyFault> {
        match self.format.kind {
            // PostgreSQL reads no further.
            CopyKind::Text => Ok(Some(rest.len())),
            CopyKind::Csv if rest.iter().all(|byte| matches!(byte, b'\r' | b'\n')) => Ok(Some(rest.len())),
            CopyKind::Csv => Err(CopyFault::AfterMarker { line: self.line }),
            CopyKind::Binary => Err(CopyFault::AfterEnd { line: self.line }),
        }
    }

    /// One line of text or CSV.
    fn line_of<E: From<CopyFault>>(
        &mut self,
        rest: &[u8],
        last: bool,
        take: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        let csv = self.format.kind == CopyKind::Csv;
        let known_style = self.style;
        let found = if csv { self.csv_line(rest, last)? } else { self.text_line(rest, last)? };
        let (end, body) = match found {
            Found::More => return Ok(None),
            Found::Marker { end } => {
                self.stage = Stage::Ended;
                return Ok(Some(end));
            }
            Found::Line { end, body } => (end, body),
        };
        let seen = std::mem::take(&mut self.seen);
        let bytes = rest.get(..end).unwrap_or(rest);
        // Until it knows better, PostgreSQL counts carriage returns.
        let lines_alone = 1 + seen.returns;
        let lines = if known_style == Style::Newline { 1 + seen.newlines } else { lines_alone };
        let line = self.line;
        self.line += u64::from(lines);
        if self.stage == Stage::Header {
            self.stage = Stage::Records;
            take(Part::Everyone { bytes, lines })?;
            return Ok(Some(end));
        }
        if self.timed && tells_the_time(bytes) {
            return Err(CopyFault::Clock { line }.into());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let key = match self.key {
            None => None,
            Some(key) => {
                let body = rest.get(..body).unwrap_or(rest);
                let field = if csv {
                    self.csv_field(body, key, seen.special, line, &mut scratch)?
                } else {
                    self.text_field(body, key, seen.special, line, &mut scratch)?
                };
                Some(field)
            }
        };
        let outcome = take(Part::Record(Record { bytes, key, line, lines, lines_alone }));
        self.scratch = scratch;
        outcome.map(|()| Some(end))
    }

    fn text_line(&mut self, rest: &[u8], last: bool) -> Result<Found, CopyFault> {
        let mut at = self.seen.upto;
        loop {
            let Some(offset) = rest.get(at..).and_then(|rest| memchr3(b'\n', b'\r', b'\\', rest)) else {
                self.seen.upto = rest.len().max(at);
                return Ok(if last {
                    Found::Line { end: rest.len(), body: rest.len() }
                } else {
                    Found::More
                });
            };
            at += offset;
            let next = rest.get(at + 1).copied();
            match rest.get(at) {
                Some(b'\\') => match next {
                    None => {
                        self.seen.upto = at;
                        self.seen.special = true;
                        return Ok(if last {
                            Found::Line { end: rest.len(), body: rest.len() }
                        } else {
                            Found::More
                        });
                    }
                    Some(b'.') if at > 0 => return Err(CopyFault::MarkerNotAlone { line: self.line }),
                    Some(b'.') => {
                        let end = self.marker(rest.get(2..).unwrap_or(&[]), last)?;
                        return Ok(end.map_or(Found::More, |end| Found::Marker { end: 2 + end }));
                    }
                    Some(_) => {
                        self.seen.special = true;
                        at += 2;
                    }
                },
                Some(b'\r') => return self.line_end(at, next, last, false),
                _ => return self.newline(at, false),
            }
        }
    }

    /// The newline behind `\.`; its length.
    fn marker(&self, rest: &[u8], last: bool) -> Result<Option<usize>, CopyFault> {
        let corrupt = || CopyFault::MarkerCorrupt { line: self.line };
        let other_style = || CopyFault::MarkerStyle { line: self.line };
        match (self.style, rest) {
            (_, []) => {
                if last {
                    Err(corrupt())
                } else {
                    Ok(None)
                }
            }
            (Style::Both, [b'\r', b'\n', ..]) => Ok(Some(2)),
            (Style::Both, [b'\r']) if !last => Ok(None),
            (Style::Both, [b'\n', ..]) => Err(other_style()),
            (Style::Both, _) => Err(corrupt()),
            (Style::Unknown | Style::Newline, [b'\n', ..])
            | (Style::Unknown | Style::Return, [b'\r', ..]) => Ok(Some(1)),
            (_, [b'\n' | b'\r', ..]) => Err(other_style()),
            _ => Err(corrupt()),
        }
    }

    /// A `\r` at `at` that may end the line.
    fn line_end(&mut self, at: usize, next: Option<u8>, last: bool, csv: bool) -> Result<Found, CopyFault> {
        let fault = CopyFault::CarriageReturn { line: self.line, quoted: csv };
        match (self.style, next) {
            (Style::Newline, _) => Err(fault),
            (Style::Return, _) => Ok(Found::Line { end: at + 1, body: at }),
            (_, None) if !last => {
                self.seen.upto = at;
                Ok(Found::More)
            }
            (_, Some(b'\n')) => {
                self.style = Style::Both;
                Ok(Found::Line { end: at + 2, body: at })
            }
            (Style::Both, _) => Err(fault),
            (Style::Unknown, _) => {
                self.style = Style::Return;
                Ok(Found::Line { end: at + 1, body: at })
            }
        }
    }

    fn newline(&mut self, at: usize, csv: bool) -> Result<Found, CopyFault> {
        if matches!(self.style, Style::Return | Style::Both) {
            return Err(CopyFault::Newline { line: self.line, quoted: csv });
        }
        self.style = Style::Newline;
        Ok(Found::Line { end: at + 1, body: at })
    }

    fn csv_line(&mut self, rest: &[u8], last: bool) -> Result<Found, CopyFault> {
        if self.seen.upto == 0 && rest.starts_with(b"\\") {
            match rest.get(1..).unwrap_or(&[]) {
                [] if !last => return Ok(Found::More),
                [b'.'] if !last => return Ok(Found::More),
                [b'.', b'\r'] if !last && self.style == Style::Both => return Ok(Found::More),
                // Only a newline makes it the end; anything else is data.
                [b'.', newline @ (b'\r' | b'\n'), behind @ ..]
                    if *newline == b'\r' || self.style != Style::Both =>
                {
                    match (self.style, newline, behind.first()) {
                        (Style::Both, _, Some(b'\n')) => return Ok(Found::Marker { end: 4 }),
                        (Style::Both, ..) => {}
                        (Style::Newline, b'\r', _) | (Style::Return, b'\n', _) => {
                            return Err(CopyFault::MarkerStyle { line: self.line });
                        }
                        _ => return Ok(Found::Marker { end: 3 }),
                    }
                }
                _ => {}
            }
        }
        let (quote, escape) = (self.format.quote, self.format.escape);
        let mut at = self.seen.upto;
        while let Some(here) = rest.get(at..).filter(|here| !here.is_empty()) {
            if !self.seen.in_quote {
                let Some(offset) = memchr3(quote, b'\n', b'\r', here) else { break };
                at += offset;
                match rest.get(at) {
                    Some(&byte) if byte == quote => {
                        self.seen.special = true;
                        self.seen.in_quote = true;
                        at += 1;
                    }
                    Some(b'\r') => return self.line_end(at, rest.get(at + 1).copied(), last, true),
                    _ => return self.newline(at, true),
                }
                continue;
            }
            let close = if quote == escape { memchr(quote, here) } else { memchr2(quote, escape, here) };
            let inside = here.get(..close.unwrap_or(here.len())).unwrap_or(here);
            if memchr2(b'\n', b'\r', inside).is_some() {
                let count = |byte| u32::try_from(memchr_iter(byte, inside).count()).unwrap_or(u32::MAX);
                self.seen.newlines = self.seen.newlines.saturating_add(count(b'\n'));
                self.seen.returns = self.seen.returns.saturating_add(count(b'\r'));
            }
            let Some(offset) = close else { break };
            at += offset;
            if quote != escape && rest.get(at) == Some(&escape) {
                match rest.get(at + 1) {
                    None if !last => {
                        self.seen.upto = at;
                        return Ok(Found::More);
                    }
                    Some(&next) if next == quote || next == escape => at += 2,
                    _ => at += 1,
                }
            } else {
                self.seen.in_quote = false;
                at += 1;
            }
        }
        self.seen.upto = rest.len();
        match (last, self.seen.in_quote) {
            (false, _) => Ok(Found::More),
            (true, true) => Err(CopyFault::Unterminated { line: self.line }),
            (true, false) => Ok(Found::Line { end: rest.len(), body: rest.len() }),
        }
    }

    /// The key of a line of text.
    fn text_field<'f>(
        &self,
        body: &'f [u8],
        key: CopyKey,
        escapes: bool,
        line: u64,
        scratch: &'f mut Vec<u8>,
    ) -> Result<&'f [u8], CopyFault> {
        let delimiter = self.format.delimiter;
        let raw = if escapes {
            escaped_field(body, delimiter, key.field)
        } else {
            plain_field(body, delimiter, key.field)
        };
        let raw = raw.ok_or_else(|| self.no_key(line))?;
        if raw == self.format.null {
            return Err(self.null_key(line));
        }
        if self.format.default.as_deref() == Some(raw) {
            return Err(self.default_key(line));
        }
        if !escapes || memchr(b'\\', raw).is_none() {
            return Ok(raw);
        }
        unescape(raw, scratch);
        Ok(scratch)
    }

    /// The key of a line of CSV.
    fn csv_field<'f>(
        &self,
        body: &'f [u8],
        key: CopyKey,
        quotes: bool,
        line: u64,
        scratch: &'f mut Vec<u8>,
    ) -> Result<&'f [u8], CopyFault> {
        let (raw, quoted) = if quotes {
            let (raw, quoted) =
                self.quoted_field(body, key.field, scratch).ok_or_else(|| self.no_key(line))?;
            if quoted { (scratch.as_slice(), true) } else { (raw, false) }
        } else {
            (plain_field(body, self.format.delimiter, key.field).ok_or_else(|| self.no_key(line))?, false)
        };
        if !quoted && self.format.default.as_deref() == Some(raw) {
            return Err(self.default_key(line));
        }
        let looks_null = raw == self.format.null;
        if looks_null && (if quoted { key.null_in_quotes && !key.never_null } else { !key.never_null }) {
            return Err(self.null_key(line));
        }
        Ok(raw)
    }

    /// A field as it lies, and whether it has quotes; its value is then in `scratch`.
    fn quoted_field<'f>(
        &self,
        body: &'f [u8],
        field: usize,
        scratch: &mut Vec<u8>,
    ) -> Option<(&'f [u8], bool)> {
        let CopyFormat { delimiter, quote, escape, .. } = self.format;
        let (mut at, mut start, mut left) = (0, 0, field);
        let mut quoted = false;
        scratch.clear();
        loop {
            let byte = body.get(at).copied();
            match byte {
                None | Some(_) if byte.is_none_or(|byte| byte == delimiter) => {
                    if left == 0 {
                        return Some((body.get(start..at)?, quoted));
                    }
                    byte?;
                    left -= 1;
                    at += 1;
                    start = at;
                    quoted = false;
                    scratch.clear();
                }
                Some(byte) if byte == quote => {
                    quoted = true;
                    at += 1;
                    loop {
                        let byte = *body.get(at)?;
                        let next = body.get(at + 1).copied();
                        if byte == escape
                            && let Some(next) = next.filter(|next| *next == escape || *next == quote)
                        {
                            scratch.push(next);
                            at += 2;
                        } else if byte == quote {
                            at += 1;
                            break;
                        } else {
                            scratch.push(byte);
                            at += 1;
                        }
                    }
                }
                Some(byte) => {
                    scratch.push(byte);
                    at += 1;
                }
                None => return None,
            }
        }
    }

    fn no_key(&self, line: u64) -> CopyFault {
        CopyFault::NoKey { line, column: self.column.clone() }
    }

    fn null_key(&self, line: u64) -> CopyFault {
        CopyFault::NullKey { line, column: self.column.clone() }
    }

    fn default_key(&self, line: u64) -> CopyFault {
        CopyFault::DefaultKey { line, column: self.column.clone() }
    }

    /// One row of a binary stream, or its end.
    fn tuple<E: From<CopyFault>>(
        &mut self,
        rest: &[u8],
        take: &mut impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        let Some(count) = rest.first_chunk::<2>().map(|count| i16::from_be_bytes(*count)) else {
            return Ok(None);
        };
        if count == -1 {
            self.stage = Stage::Ended;
            take(Part::Everyone { bytes: rest.get(..2).unwrap_or(&[]), lines: 0 })?;
            return Ok(Some(2));
        }
        if usize::try_from(count).ok() != Some(self.fields) {
            return Err(CopyFault::Fields { line: self.line, found: count, expected: self.fields }.into());
        }
        let mut at = 2usize;
        let mut key = None;
        for field in 0..self.fields {
            let Some(length) = rest.get(at..).and_then(|rest| rest.first_chunk::<4>()) else {
                return Ok(None);
            };
            let length = i32::from_be_bytes(*length);
            at += 4;
            let wanted = self.key.is_some_and(|key| key.field == field);
            match usize::try_from(length) {
                Ok(length) => {
                    if length > self.longest {
                        return Err(CopyFault::TooLong { line: self.line, bytes: self.longest }.into());
                    }
                    let Some(value) = at.checked_add(length).and_then(|end| rest.get(at..end)) else {
                        return Ok(None);
                    };
                    if wanted {
                        key = Some(value);
                    }
                    at += length;
                }
                Err(_) if length == -1 && wanted => return Err(self.null_key(self.line).into()),
                Err(_) if length == -1 => {}
                Err(_) => return Err(CopyFault::FieldSize { line: self.line }.into()),
            }
        }
        let bytes = rest.get(..at).unwrap_or(rest);
        let line = self.line;
        self.line += 1;
        take(Part::Record(Record { bytes, key, line, lines: 1, lines_alone: 1 }))?;
        Ok(Some(at))
    }
}

fn binary_header<E: From<CopyFault>>(
    rest: &[u8],
    take: &mut impl FnMut(Part<'_>) -> Result<(), E>,
) -> Result<Option<usize>, E> {
    Ok(match header_length(rest)? {
        Some(length) if rest.len() >= length => {
            take(Part::Everyone { bytes: rest.get(..length).unwrap_or(rest), lines: 0 })?;
            Some(length)
        }
        _ => None,
    })
}

/// How long a binary stream's header is, once that can be told.
pub(super) fn header_length(stream: &[u8]) -> Result<Option<usize>, CopyFault> {
    let compared = stream.len().min(SIGNATURE.len());
    if stream.get(..compared) != SIGNATURE.get(..compared) {
        return Err(CopyFault::Signature);
    }
    let word = |at: usize| Some(u32::from_be_bytes(*stream.get(at..)?.first_chunk::<4>()?));
    let (Some(flags), Some(extension)) = (word(11), word(15)) else { return Ok(None) };
    let extension = i32::try_from(extension).ok().and_then(|extension| usize::try_from(extension).ok());
    match extension {
        Some(extension) if flags & CRITICAL_FLAGS == 0 => Ok(Some(19usize.saturating_add(extension))),
        _ => Err(CopyFault::Header),
    }
}

fn plain_field(body: &[u8], delimiter: u8, field: usize) -> Option<&[u8]> {
    let mut rest = body;
    for _ in 0..field {
        rest = rest.get(memchr(delimiter, rest)? + 1..)?;
    }
    rest.get(..memchr(delimiter, rest).unwrap_or(rest.len()))
}

/// As [`plain_field`]; a backslash takes the next byte with it.
fn escaped_field(body: &[u8], delimiter: u8, field: usize) -> Option<&[u8]> {
    let (mut start, mut at, mut left) = (0, 0, field);
    loop {
        match memchr2(delimiter, b'\\', body.get(at..).unwrap_or(&[])) {
            None => return if left == 0 { body.get(start..) } else { None },
            Some(offset) if body.get(at + offset) == Some(&delimiter) => {
                at += offset;
                if left == 0 {
                    return body.get(start..at);
                }
                left -= 1;
                at += 1;
                start = at;
            }
            Some(offset) => at += offset + 2,
        }
    }
}

/// `\n`, `\011`, `\x9` and their kin.
fn unescape(raw: &[u8], value: &mut Vec<u8>) {
    value.clear();
    let mut rest = raw;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        // At the end of all data, a backslash is nothing.
        let Some((&escaped, behind)) = rest.split_first() else { return };
        let digits = |from: &[u8], radix: u32, most: usize| {
            let digits = from.iter().take(most).map_while(|&byte| char::from(byte).to_digit(radix));
            digits.fold((0u32, 0usize), |(value, length), digit| (value * radix + digit, length + 1))
        };
        let low_byte = |code: u32| code.to_le_bytes()[0];
        rest = behind;
        value.push(match escaped {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'0'..=b'7' => {
                let (more, length) = digits(rest, 8, 2);
                rest = rest.get(length..).unwrap_or(&[]);
                let first = u32::from(escaped - b'0');
                low_byte(first * 8u32.pow(u32::try_from(length).unwrap_or(0)) + more)
            }
            b'x' => match digits(rest, 16, 2) {
                (_, 0) => b'x',
                (code, length) => {
                    rest = rest.get(length..).unwrap_or(&[]);
                    low_byte(code)
                }
            },
            other => other,
        });
    }
}
