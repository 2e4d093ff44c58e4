//! Which line of the client's a shard's error is about.
//!
//! A shard counts the lines it was sent. For each record it takes a byte or two to remember where it
//! stood; what is longer ago than a shard can be behind is forgotten, so that no copy grows this
//! without bound.

use std::collections::VecDeque;

use super::Record;

/// A shard reads at most what sockets hold behind what was sent; records are a few bytes here.
const KEPT_BYTES: usize = 8 << 20;

/// The lines of each shard's stream.
#[derive(Debug)]
pub struct LineMap {
    shards: Vec<Lines>,
    kept: usize,
}

#[derive(Debug, Default)]
struct Lines {
    /// For each record still known: how much further on its line is than the one before; one bit for
    /// whether it is one line, how many if it is not. Numbers of seven bits a byte, the low ones first.
    records: VecDeque<u8>,
    /// Where the first record that is known begins: here, and for the client.
    first: u64,
    /// The client's line of the record before the first one known.
    before: u64,
    /// The next record's line here.
    next: u64,
    /// The client's line of the last record.
    last: u64,
    told_style: bool,
}

impl LineMap {
    /// For this many shards.
    pub fn new(shards: usize) -> LineMap {
        LineMap::keeping(shards, KEPT_BYTES)
    }

    pub(super) fn keeping(shards: usize, kept: usize) -> LineMap {
        let lines = || Lines { first: 1, next: 1, ..Lines::default() };
        LineMap { shards: std::iter::repeat_with(lines).take(shards).collect(), kept }
    }

    /// A header of so many lines went to all shards.
    pub fn header(&mut self, lines: u32) {
        for shard in &mut self.shards {
            shard.next += u64::from(lines);
            shard.first = shard.next;
            shard.told_style |= lines > 0;
        }
    }

    /// A record went to this shard.
    pub fn record(&mut self, shard: usize, record: &Record<'_>) {
        let kept = self.kept;
        let Some(shard) = self.shards.get_mut(shard) else { return };
        let lines =
            if std::mem::replace(&mut shard.told_style, true) { record.lines } else { record.lines_alone };
        let further = record.line.saturating_sub(shard.last);
        put(&mut shard.records, further << 1 | u64::from(lines != 1));
        if lines != 1 {
            put(&mut shard.records, u64::from(lines));
        }
        shard.last = record.line;
        shard.next += u64::from(lines);
        while shard.records.len() > kept {
            if shard.forget().is_none() {
                break;
            }
        }
    }

    /// The client's line that is this line of the shard's, if it is not too long ago.
    pub fn client_line(&self, shard: usize, line: u64) -> Option<u64> {
        let shard = self.shards.get(shard)?;
        let mut bytes = shard.records.iter().copied();
        let (mut here, mut client) = (shard.first, shard.before);
        while let Some((further, lines)) = next(&mut bytes) {
            client += further;
            if line < here {
                return None;
            }
            if line < here + lines {
                return Some(client + (line - here));
            }
            here += lines;
        }
        None
    }

    /// An error's `CONTEXT` from this shard, with the client's line in place of the shard's; nothing
    /// if it names none that is known.
    pub fn context(&self, shard: usize, context: &str) -> Option<String> {
        const BEFORE: &str = ", line ";
        // Functions that a row calls stand on lines before it, and the row's text behind it.
        let begin = if context.starts_with("COPY ") { 0 } else { context.find("\nCOPY ")? };
        let digits = begin + context.get(begin..)?.find(BEFORE)? + BEFORE.len();
        let rest = context.get(digits..)?;
        let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        let line = self.client_line(shard, rest.get(..end)?.parse().ok()?)?;
        Some(format!("{}{line}{}", context.get(..digits)?, rest.get(end..)?))
    }
}

impl Lines {
    fn forget(&mut self) -> Option<()> {
        let mut bytes = self.records.iter().copied();
        let (further, lines) = next(&mut bytes)?;
        let left = bytes.len();
        self.records.drain(..self.records.len() - left);
        self.before += further;
        self.first += lines;
        Some(())
    }
}

fn put(bytes: &mut VecDeque<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push_back(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push_back(number.to_le_bytes()[0]);
}

fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// The next record: how much further on it is, and how many lines.
fn next(bytes: &mut impl Iterator<Item = u8>) -> Option<(u64, u64)> {
    let first = number(bytes)?;
    let lines = if first & 1 == 0 { 1 } else { number(bytes)? };
    Some((first >> 1, lines))
}
