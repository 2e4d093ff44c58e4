//! Statements that carry another one (`EXPLAIN`, `DECLARE`), and what is asked of cursors: read by
//! their words, since where the carried statement begins is all that has to be known.

use super::Impossible;
use crate::sql::analyze::prepared::explained;
use crate::sql::analyze::tokens::Tokens;
use crate::sql::lexer::{TokenKind, tokenize};

/// `EXPLAIN [(options)] statement`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explain {
    /// `EXPLAIN` and its options, as written.
    pub prefix: String,
    /// What is explained.
    pub statement: String,
    /// It is run, too.
    pub analyze: bool,
    /// The format's name in lower case: `text`, `json` …
    pub format: String,
    /// `GENERIC_PLAN`: a statement with parameters that nobody gives.
    pub generic: bool,
}

/// `None`: the text is no `EXPLAIN`.
pub fn explain(text: &[u8], strings: bool) -> Option<Explain> {
    let tokens = Tokens::new(text, tokenize(text, strings).ok()?);
    let ranges = tokens.statements();
    let [range] = ranges.as_slice() else { return None };
    if !tokens.is_word(range.start, "explain") {
        return None;
    }
    let at = explained(&tokens, range);
    let written = |range| tokens.written(range).map(str::to_owned);
    let mut explain = Explain {
        prefix: written(range.start..at)?,
        statement: written(at..range.end)?,
        analyze: false,
        format: "text".to_owned(),
        generic: false,
    };
    let bracketed = tokens.is_mark(range.start + 1, "(");
    if !bracketed {
        explain.analyze = (range.start + 1..at).any(|at| tokens.is_one_of(at, &["analyze", "analyse"]));
        return Some(explain);
    }
    let value = |at: usize| {
        let raw = String::from_utf8_lossy(tokens.raw(at)).to_ascii_lowercase();
        raw.trim_matches(|c| c == '\'' || c == '"').to_owned()
    };
    let is_end = |at: usize| tokens.is_mark(at, ",") || tokens.is_mark(at, ")");
    for option in range.start + 2..at {
        if !(tokens.is_mark(option - 1, "(") || tokens.is_mark(option - 1, ",")) {
            continue;
        }
        let on = is_end(option + 1) || !matches!(value(option + 1).as_str(), "off" | "false" | "0");
        match value(option).as_str() {
            "analyze" | "analyse" => explain.analyze = on,
            "generic_plan" => explain.generic = on,
            "format" => explain.format = value(option + 1),
            _ => {}
        }
    }
    Some(explain)
}

/// What a query's rows are ordered by, as written.
pub fn order_of(text: &[u8], strings: bool) -> Option<String> {
    let tokens = Tokens::new(text, tokenize(text, strings).ok()?);
    let mut from = 0;
    let mut last = None;
    while let Some(at) = tokens.find_word(from..tokens.len(), &["order"]) {
        if tokens.is_word(at + 1, "by") {
            last = Some(at + 2);
        }
        from = at + 1;
    }
    let start = last?;
    let ends = |at: usize| {
        tokens.is_one_of(at, &["limit", "offset", "fetch", "for"])
            || tokens.kind(at) == Some(TokenKind::Semicolon)
    };
    let mut depth = 0usize;
    let mut end = start;
    while end < tokens.len() && (depth > 0 || !ends(end)) {
        if tokens.is_mark(end, "(") {
            depth += 1;
        } else if tokens.is_mark(end, ")") {
            depth = depth.saturating_sub(1);
        }
        end += 1;
    }
    tokens.written(start..end).map(str::to_owned)
}

/// `DECLARE name CURSOR FOR query`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Declared {
    /// The query, where it stands in the text: errors have its positions.
    pub query: String,
    /// An option that a cursor over several shards cannot have.
    pub refused: Option<&'static str>,
    /// `WITH HOLD`
    pub holds: bool,
}

/// `None`: the text is no `DECLARE`.
pub fn declared(text: &[u8], strings: bool) -> Option<Declared> {
    let tokens = Tokens::new(text, tokenize(text, strings).ok()?);
    let ranges = tokens.statements();
    let [range] = ranges.as_slice() else { return None };
    if !tokens.is_word(range.start, "declare") {
        return None;
    }
    let body = tokens.find_word(range.start + 2..range.end, &["for"])? + 1;
    let options = range.start + 2..body;
    let has = |word: &str| options.clone().find(|&at| tokens.is_word(at, word));
    let holds = has("hold").is_some_and(|at| tokens.is_word(at - 1, "with"));
    let refused = match (has("scroll"), has("hold"), has("binary")) {
        (Some(at), ..) if !tokens.is_word(at - 1, "no") => Some("SCROLL"),
        (_, Some(at), _) if tokens.is_word(at - 1, "with") => Some("WITH HOLD"),
        (_, _, Some(_)) => Some("BINARY"),
        _ => None,
    };
    let query = tokens.written(body..range.end)?;
    let whole = std::str::from_utf8(text).ok()?;
    let before = (query.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let query = " ".repeat(whole.get(..before)?.chars().count()) + query;
    Some(Declared { query, refused, holds })
}

/// What is asked of a cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CursorVerb {
    /// `FETCH`
    Fetch,
    /// `MOVE`
    Move,
    /// `CLOSE`
    Close,
}

/// `FETCH 10 FROM c`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CursorUse {
    /// What is asked.
    pub verb: CursorVerb,
    /// Of which; `None` is `CLOSE ALL`.
    pub name: Option<String>,
    /// How many rows on; `None` is all.
    pub count: Option<u64>,
    /// It is no way forward.
    pub backward: bool,
}

/// What the text's statements ask of cursors.
pub fn cursor_uses(text: &[u8], strings: bool) -> Vec<CursorUse> {
    let Ok(read) = tokenize(text, strings) else { return Vec::new() };
    let tokens = Tokens::new(text, read);
    tokens.statements().into_iter().filter_map(|range| cursor_use(&tokens, &range)).collect()
}

fn cursor_use(tokens: &Tokens<'_>, range: &std::ops::Range<usize>) -> Option<CursorUse> {
    let last = range.end.checked_sub(1).filter(|last| *last > range.start)?;
    let verb = match tokens.word(range.start).as_str() {
        "fetch" => CursorVerb::Fetch,
        "move" => CursorVerb::Move,
        "close" => CursorVerb::Close,
        _ => return None,
    };
    if verb == CursorVerb::Close {
        let name = if tokens.is_word(last, "all") { None } else { Some(tokens.identifier(last)?) };
        return Some(CursorUse { verb, name, count: None, backward: false });
    }
    let name = Some(tokens.identifier(last)?);
    let end = last - usize::from(tokens.is_one_of(last - 1, &["from", "in"]));
    let way = range.start + 1..end;
    let number = |at: usize| std::str::from_utf8(tokens.raw(at)).ok()?.parse::<u64>().ok();
    let forward = tokens.is_word(way.start, "forward") && !way.is_empty();
    let count = way.start + usize::from(forward)..way.end;
    let (count, backward) = match count.len() {
        0 => (Some(1), false),
        1 if tokens.is_word(count.start, "next") && !forward => (Some(1), false),
        1 if tokens.is_word(count.start, "all") => (None, false),
        // The row it stands on, for 0.
        1 => number(count.start).filter(|count| *count > 0).map_or((None, true), |n| (Some(n), false)),
        _ => (None, true),
    };
    Some(CursorUse { verb, name, count, backward })
}

/// `WHERE CURRENT OF` a cursor.
pub fn names_current_row(text: &[u8], strings: bool) -> bool {
    let Ok(read) = tokenize(text, strings) else { return false };
    let tokens = Tokens::new(text, read);
    current_rows(&tokens).next().is_some()
}

/// Why several shards do not have it.
pub fn of_current_row() -> Impossible {
    Impossible::new(
        "WHERE CURRENT OF cannot touch several shards",
        "Declare the cursor for a query of one key; or say where its row is: /* pgring: shard=NAME */.",
    )
}

/// The cursor whose row a text is about, if it is about one.
pub fn cursor_of_current_row(text: &[u8], strings: bool) -> Option<String> {
    const WORD: &[u8] = b"current";
    // Most texts are not.
    if !text.windows(WORD.len()).any(|part| part.eq_ignore_ascii_case(WORD)) {
        return None;
    }
    let tokens = Tokens::new(text, tokenize(text, strings).ok()?);
    let mut rows = current_rows(&tokens);
    let cursor = tokens.identifier(rows.next()? + 3)?;
    rows.next().is_none().then_some(cursor)
}

pub(super) fn current_rows(tokens: &Tokens<'_>) -> impl Iterator<Item = usize> {
    (0..tokens.len()).filter(|at| tokens.are_words(*at, &["where", "current", "of"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_explained() {
        for (text, prefix, statement, analyze, format) in [
            ("explain select 1", "explain", "select 1", false, "text"),
            (
                "/* x */ EXPLAIN ANALYZE VERBOSE SELECT 1;",
                "EXPLAIN ANALYZE VERBOSE",
                "SELECT 1",
                true,
                "text",
            ),
            ("EXPLAIN (COSTS off) (SELECT 1)", "EXPLAIN (COSTS off)", "(SELECT 1)", false, "text"),
            ("EXPLAIN (SELECT 1)", "EXPLAIN", "(SELECT 1)", false, "text"),
            (
                "EXPLAIN (FORMAT 'JSON', analyze) TABLE t",
                "EXPLAIN (FORMAT 'JSON', analyze)",
                "TABLE t",
                true,
                "json",
            ),
            ("EXPLAIN (analyze 0) TABLE t", "EXPLAIN (analyze 0)", "TABLE t", false, "text"),
        ] {
            let read = explain(text.as_bytes(), true).unwrap();
            assert_eq!((&*read.prefix, &*read.statement), (prefix, statement), "{text}");
            assert_eq!((read.analyze, &*read.format), (analyze, format), "{text}");
        }
        assert_eq!(explain(b"SELECT 1", true), None);
    }

    #[test]
    fn what_it_is_ordered_by() {
        let check = |text: &str| order_of(text.as_bytes(), true).unwrap_or_default();
        assert_eq!(check("SELECT a FROM t ORDER BY a DESC, f(b) LIMIT 3"), "a DESC, f(b)");
        assert_eq!(check("SELECT a, rank() OVER (ORDER BY b) FROM t"), "");
        assert_eq!(check("SELECT a FROM (SELECT * FROM t ORDER BY x) s ORDER BY 1"), "1");
    }

    #[test]
    fn what_is_declared() {
        let check = |text: &str| {
            let read = declared(text.as_bytes(), true).unwrap();
            (read.query.trim().to_owned(), read.query.chars().count(), read.refused)
        };
        assert_eq!(check("DECLARE \"é\" CURSOR FOR SELECT 1;"), ("SELECT 1".to_owned(), 31, None));
        assert_eq!(check("DECLARE c NO SCROLL CURSOR WITHOUT HOLD FOR TABLE t").2, None);
        assert_eq!(check("DECLARE c SCROLL CURSOR FOR TABLE t").2, Some("SCROLL"));
        assert_eq!(check("DECLARE c CURSOR WITH HOLD FOR TABLE t").2, Some("WITH HOLD"));
        assert_eq!(check("DECLARE c BINARY CURSOR FOR TABLE t").2, Some("BINARY"));
    }

    #[test]
    fn what_is_asked_of_cursors() {
        let forward = |text: &str| {
            let read = cursor_uses(text.as_bytes(), true).remove(0);
            assert!(!read.backward && read.name.as_deref() == Some("c"), "{text}");
            read.count
        };
        for text in ["FETCH c", "FETCH NEXT FROM c", "FETCH FORWARD c", "FETCH FROM c", "MOVE FORWARD IN c"] {
            assert_eq!(forward(text), Some(1), "{text}");
        }
        for text in ["FETCH 5 FROM c", "MOVE FORWARD 5 IN \"c\"", "FETCH 5 C"] {
            assert_eq!(forward(text), Some(5), "{text}");
        }
        for text in ["FETCH ALL FROM c", "FETCH FORWARD ALL c", "CLOSE c"] {
            assert_eq!(forward(text), None, "{text}");
        }
        for text in [
            "FETCH 0 FROM c",
            "FETCH -1 FROM c",
            "FETCH PRIOR FROM c",
            "FETCH BACKWARD 3 FROM c",
            "FETCH FIRST c",
            "FETCH ABSOLUTE 1 FROM c",
            "FETCH RELATIVE 1 FROM c",
            "MOVE BACKWARD ALL IN c",
        ] {
            assert!(cursor_uses(text.as_bytes(), true)[0].backward, "{text}");
        }
        assert_eq!(cursor_uses(b"CLOSE ALL", true)[0].name, None);
        assert_eq!(cursor_uses(b"SELECT 1; FETCH c; CLOSE c", true).len(), 2);
    }
}
