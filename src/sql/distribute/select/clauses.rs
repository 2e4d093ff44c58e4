//! A `SELECT` cut into its clauses: by its key words outside parentheses.
//!
//! The words are reserved, so that they are nothing else but behind a dot or `AS`, where any word
//! may stand, in `IS DISTINCT FROM` and in `WITHIN GROUP`.

use std::ops::Range;

use super::super::Count;
use crate::sql::analyze::tokens::Tokens;
use crate::sql::lexer::TokenKind;

/// Where the clauses are.
pub(super) struct Clauses {
    /// `WITH …`; empty without.
    pub(super) with: Range<usize>,
    /// From `SELECT` up to the select list's end.
    pub(super) head: Range<usize>,
    pub(super) distinct: bool,
    pub(super) items: Vec<Range<usize>>,
    /// From `FROM` up to the end of `WHERE`.
    pub(super) from: Range<usize>,
    /// From `FROM` up to where `ORDER BY` may stand.
    pub(super) body: Range<usize>,
    pub(super) group: Vec<Range<usize>>,
    /// Without its word.
    pub(super) having: Option<Range<usize>>,
    pub(super) order: Vec<Range<usize>>,
    /// What stands behind `ORDER BY`; empty without.
    pub(super) tail: Range<usize>,
    pub(super) limit: Bound,
    pub(super) offset: Bound,
    /// `FOR UPDATE` and its like, one after another.
    pub(super) locks: Vec<Range<usize>>,
}

/// What `LIMIT` or `OFFSET` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bound {
    None,
    Count(Count),
    /// An expression, or one that depends on more than its number.
    Other,
}

const TAIL: &[&str] = &["limit", "offset", "fetch", "for"];

impl Clauses {
    pub(super) fn cut(tokens: &Tokens<'_>, range: &Range<usize>) -> Option<Clauses> {
        let end = range.end;
        let select = next(tokens, range.start..end, &["select"]);
        let mut at = select + 1;
        let distinct = tokens.is_word(at, "distinct");
        if distinct || tokens.is_word(at, "all") {
            at += 1;
        }
        if distinct && tokens.is_word(at, "on") {
            return None;
        }
        let from = next(tokens, at..end, &["from", "into"]);
        if !tokens.is_word(from, "from") || from >= end {
            return None;
        }
        let items = if at == from { Vec::new() } else { split(tokens, &(at..from))? };
        const SETS: [&str; 3] = ["union", "intersect", "except"];
        if next(tokens, from..end, &SETS) < end {
            return None;
        }
        let later = |words: &[&str], from: usize| next(tokens, from..end, &[words, TAIL].concat());
        let behind_where = later(&["group", "having", "window", "order"], from);
        let mut at = behind_where;
        let mut group = Vec::new();
        if at < end && tokens.is_word(at, "group") {
            let behind = later(&["having", "window", "order"], at + 1);
            // `GROUP BY DISTINCT` is about grouping sets.
            if tokens.is_one_of(at + 2, &["distinct", "all"]) {
                return None;
            }
            group = split(tokens, &(at + 2..behind))?;
            at = behind;
        }
        let mut having = None;
        if at < end && tokens.is_word(at, "having") {
            let behind = later(&["window", "order"], at + 1);
            having = Some(at + 1..behind);
            at = behind;
        }
        if at < end && tokens.is_word(at, "window") {
            at = later(&["order"], at + 1);
        }
        let body = from..at;
        let mut order = Vec::new();
        if at < end && tokens.is_word(at, "order") {
            let behind = later(&[], at + 1);
            order = split(tokens, &(at + 2..behind))?;
            at = behind;
        }
        let mut clauses = Clauses {
            with: range.start..select,
            head: select..from,
            distinct,
            items,
            from: from..behind_where,
            body,
            group,
            having,
            order,
            tail: at..end,
            limit: Bound::None,
            offset: Bound::None,
            locks: Vec::new(),
        };
        while at < end {
            let behind = next(tokens, at + 1..end, TAIL);
            clauses.bound(tokens, at, behind)?;
            at = behind;
        }
        Some(clauses)
    }

    /// One clause of the tail.
    fn bound(&mut self, tokens: &Tokens<'_>, at: usize, end: usize) -> Option<()> {
        match tokens.word(at).as_str() {
            "limit" if self.limit == Bound::None => self.limit = count(tokens, at + 1..end),
            "offset" if self.offset == Bound::None => {
                let rows = tokens.is_one_of(end - 1, &["row", "rows"]);
                self.offset = count(tokens, at + 1..end - usize::from(rows));
            }
            "fetch" if self.limit == Bound::None => {
                self.limit = if !tokens.is_word(end - 1, "only") {
                    Bound::Other
                } else if end - at == 4 {
                    // FETCH FIRST ROW ONLY
                    Bound::Count(Count::Literal(1))
                } else {
                    count(tokens, at + 2..end.checked_sub(2)?)
                };
            }
            "for" => self.locks.push(at..end),
            _ => return None,
        }
        Some(())
    }
}

fn count(tokens: &Tokens<'_>, range: Range<usize>) -> Bound {
    if range.len() != 1 {
        return Bound::Other;
    }
    let raw = std::str::from_utf8(tokens.raw(range.start)).unwrap_or_default();
    match tokens.kind(range.start) {
        Some(TokenKind::Word) if tokens.is_one_of(range.start, &["all", "null"]) => Bound::None,
        Some(TokenKind::Integer) => match raw.parse() {
            Ok(count) if i64::try_from(count).is_ok() => Bound::Count(Count::Literal(count)),
            _ => Bound::Other,
        },
        Some(TokenKind::Param) => match raw.strip_prefix('$').map(str::parse) {
            Some(Ok(number)) => Bound::Count(Count::Param(number)),
            _ => Bound::Other,
        },
        _ => Bound::Other,
    }
}

/// The first of these key words outside parentheses, or the range's end.
fn next(tokens: &Tokens<'_>, range: Range<usize>, words: &[&str]) -> usize {
    let mut depth = 0usize;
    for at in range.clone() {
        if tokens.is_mark(at, "(") || tokens.is_mark(at, "[") {
            depth += 1;
        } else if tokens.is_mark(at, ")") || tokens.is_mark(at, "]") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && tokens.is_one_of(at, words) {
            let before = at.saturating_sub(1);
            let is_name = tokens.is_mark(before, ".") || tokens.is_word(before, "as");
            let is_part = tokens.is_word(at, "from")
                && tokens.is_word(before, "distinct")
                && tokens.is_one_of(before.saturating_sub(1), &["is", "not"])
                || tokens.is_word(at, "group") && tokens.is_word(before, "within");
            if !is_name && !is_part {
                return at;
            }
        }
    }
    range.end
}

/// What stands between the commas outside parentheses. `None`: nothing stands between two.
pub(super) fn split(tokens: &Tokens<'_>, range: &Range<usize>) -> Option<Vec<Range<usize>>> {
    let mut parts = Vec::new();
    let mut depth = 0usize;
    let mut start = range.start;
    for at in range.clone() {
        if tokens.is_mark(at, "(") || tokens.is_mark(at, "[") {
            depth += 1;
        } else if tokens.is_mark(at, ")") || tokens.is_mark(at, "]") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && tokens.is_mark(at, ",") {
            parts.push(start..at);
            start = at + 1;
        }
    }
    parts.push(start..range.end);
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
}
