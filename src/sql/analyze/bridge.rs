//! From our tokens to sqlparser's tree.
//!
//! sqlparser's own lexer is never asked: where it cuts a text differently from PostgreSQL
//! (`E''` strings, nested comments, `standard_conforming_strings`), a condition inside a
//! string could be taken for one of the query. It is given our tokens instead. Literals keep
//! their kind but not their contents, so that no outcome can depend on a value that texts of
//! one fingerprint do not share; each token's position in the tree is its number among our
//! tokens, which is how a literal in the tree is known again.
//!
//! Depth: the tree is walked and dropped by recursion. Its depth is bounded before there is a
//! tree, from the tokens, and all work on it is done on a stack that is deep enough.

use std::ops::Range;

use sqlparser::ast::{DollarQuotedString, Expr, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use super::super::lexer::TokenKind;
use super::tokens::Tokens;

/// Open parentheses and brackets at once.
const MOST_NESTED: usize = 100;
/// Tokens that may stand in one chain (`a OR b OR c …`), each of which may add a level.
const MOST_CHAINED: usize = 60_000;
/// What a level of the tree may cost when it is parsed, walked or dropped.
const LEVEL_BYTES: usize = if cfg!(debug_assertions) { 2048 } else { 768 };
const NESTED_BYTES: usize = if cfg!(debug_assertions) { 64 << 10 } else { 12 << 10 };
const BASE_BYTES: usize = if cfg!(debug_assertions) { 512 << 10 } else { 128 << 10 };
/// sqlparser's own bound; ours is reached first.
const RECURSION: usize = 8 * MOST_NESTED;

/// Why there is no tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::sql) enum Unreadable {
    /// Deeper than the analysis goes.
    TooDeep,
    /// Not in sqlparser's grammar.
    Grammar,
}

/// How deep the tree of these tokens may become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::sql) struct Depth {
    nested: usize,
    chained: usize,
}

impl Depth {
    /// Linear in the tokens. A comma starts a new chain within its parentheses, except that
    /// set operations go on over it.
    pub(in crate::sql) fn of(tokens: &Tokens<'_>, range: Range<usize>) -> Depth {
        #[derive(Default, Clone, Copy)]
        struct Open {
            chain: usize,
            sets: usize,
        }
        let mut stack: Vec<Open> = Vec::new();
        let mut here = Open::default();
        let mut below = 0;
        let mut depth = Depth { nested: 0, chained: 0 };
        for at in range {
            if tokens.is_mark(at, "(") || tokens.is_mark(at, "[") {
                here.chain += 1;
                below += here.chain + here.sets;
                stack.push(here);
                here = Open::default();
                depth.nested = depth.nested.max(stack.len());
            } else if tokens.is_mark(at, ")") || tokens.is_mark(at, "]") {
                here = stack.pop().unwrap_or_default();
                below = usize::saturating_sub(below, here.chain + here.sets);
            } else if tokens.is_mark(at, ",") {
                here.chain = 0;
            } else {
                here.chain += 1;
                here.sets += usize::from(tokens.is_one_of(at, &["union", "intersect", "except"]));
            }
            depth.chained = depth.chained.max(below + here.chain + here.sets);
        }
        depth
    }

    pub(in crate::sql) fn is_too_deep(self) -> bool {
        self.nested > MOST_NESTED || self.chained > MOST_CHAINED
    }
}

/// Runs `work` on a stack that bears a tree of this depth.
pub(in crate::sql) fn with_stack<T>(depth: Depth, work: impl FnOnce() -> T) -> T {
    let need = BASE_BYTES + depth.nested * NESTED_BYTES + depth.chained * LEVEL_BYTES;
    stacker::maybe_grow(need, need, work)
}

/// The tree of one statement's tokens. `left_out` are left out of it.
pub(in crate::sql) fn parse(
    tokens: &Tokens<'_>,
    range: Range<usize>,
    left_out: &[Range<usize>],
) -> Result<Statement, Unreadable> {
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(RECURSION)
        .with_tokens_with_locations(converted(tokens, range, left_out).ok_or(Unreadable::Grammar)?);
    let statement = parser.parse_statement().map_err(|error| match error {
        ParserError::RecursionLimitExceeded => Unreadable::TooDeep,
        _ => Unreadable::Grammar,
    })?;
    match parser.peek_token().token {
        Token::EOF => Ok(statement),
        _ => Err(Unreadable::Grammar),
    }
}

/// The expression that is all of these tokens.
pub(in crate::sql) fn parse_expression(tokens: &Tokens<'_>, range: Range<usize>) -> Option<Expr> {
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(RECURSION)
        .with_tokens_with_locations(converted(tokens, range, &[])?);
    let expression = parser.parse_expr().ok()?;
    (parser.peek_token().token == Token::EOF).then_some(expression)
}

fn converted(
    tokens: &Tokens<'_>,
    range: Range<usize>,
    left_out: &[Range<usize>],
) -> Option<Vec<TokenWithSpan>> {
    let mut converted = Vec::with_capacity(range.len() + 1);
    let mut holes = left_out.iter().peekable();
    let subscripts = assigned_subscripts(tokens, &range);
    let mut subscripts = subscripts.iter().peekable();
    let mut at = range.start;
    while at < range.end {
        while holes.peek().is_some_and(|hole| hole.end <= at) {
            holes.next();
        }
        if let Some(hole) = holes.peek().filter(|hole| hole.contains(&at)) {
            at = hole.end;
            continue;
        }
        if let Some(subscript) = subscripts.next_if(|subscript| subscript.start <= at) {
            at = subscript.end.max(at);
            continue;
        }
        let unread = unread_words(tokens, &range, at);
        if unread > 0 {
            at += unread;
            continue;
        }
        let here = location(at);
        let span = Span::new(here, here);
        if begins_table_query(tokens, &range, at) {
            let words = [Token::make_word("SELECT", None), Token::Mul, Token::make_word("FROM", None)];
            converted.extend(words.map(|token| TokenWithSpan { token, span }));
        } else if !is_inheritance_only(tokens, &range, at) {
            converted.push(TokenWithSpan { token: convert(tokens, at)?, span });
        }
        at += 1;
    }
    Some(converted)
}

/// `TABLE name` is `SELECT * FROM name`. sqlparser swallows what stands behind it.
fn begins_table_query(tokens: &Tokens<'_>, statement: &Range<usize>, at: usize) -> bool {
    tokens.is_word(at, "table")
        && (at == statement.start
            || tokens.is_mark(at - 1, "(")
            || tokens.is_one_of(at - 1, &["union", "intersect", "except", "all", "distinct"])
            || tokens.is_word(statement.start, "insert") && !tokens.is_word(at - 1, "into"))
}

/// `FROM ONLY name`: sqlparser takes the word for the table and the table for its alias. It is
/// reserved, so that it is no name here; that it leaves out a table's children does not matter
/// to where the table's rows are.
fn is_inheritance_only(tokens: &Tokens<'_>, statement: &Range<usize>, at: usize) -> bool {
    tokens.is_word(at, "only")
        && at > statement.start
        && (tokens.is_one_of(at - 1, &["from", "join", "update", "using", "into", "table"])
            || tokens.is_mark(at - 1, ",")
            || tokens.is_mark(at - 1, "("))
        && (matches!(tokens.kind(at + 1), Some(TokenKind::Word | TokenKind::QuotedIdent))
            || tokens.is_mark(at + 1, "("))
}

/// How many tokens here are of PostgreSQL's grammar, not of sqlparser's, and say nothing that the analysis
/// has to know:
///
/// - `OVERRIDING SYSTEM VALUE` (what is given is stored) and `OVERRIDING USER VALUE` (what is given for an
///   identity column is not: see [`overrides_identities`]);
/// - `FOR NO KEY UPDATE` and `FOR KEY SHARE`: locks like the others;
/// - `BETWEEN SYMMETRIC`: between, in either order;
/// - `EXCLUDE …` at the end of a window's frame: it leaves out rows of the window;
/// - `JOIN … USING (…) AS name`, where nothing else has that name: it is not known then whose columns are
///   meant by it;
/// - `WHERE CURRENT OF cursor`: a row that is not known here.
fn unread_words(tokens: &Tokens<'_>, statement: &Range<usize>, at: usize) -> usize {
    if at == statement.start || tokens.kind(at) != Some(TokenKind::Word) {
        return 0;
    }
    match tokens.word(at).as_str() {
        "overriding" if tokens.are_words(at + 1, &["system", "value"]) && opens_source(tokens, at + 3) => 3,
        "overriding"
            if tokens.are_words(at + 1, &["user", "value"])
                && opens_source(tokens, at + 3)
                && !statement.clone().any(|at| tokens.is_word(at, "merge")) =>
        {
            3
        }
        "no" if tokens.are_words(at - 1, &["for", "no", "key", "update"]) => 2,
        "key" if tokens.are_words(at - 1, &["for", "key", "share"]) => 1,
        "symmetric" | "asymmetric" if tokens.is_word(at - 1, "between") => 1,
        "exclude" if tokens.is_one_of(at - 1, &["row", "preceding", "following"]) => {
            let two =
                tokens.are_words(at + 1, &["current", "row"]) || tokens.are_words(at + 1, &["no", "others"]);
            let length = if two { 3 } else { 2 };
            let known = two || tokens.is_one_of(at + 1, &["group", "ties"]);
            if known && tokens.is_mark(at + length, ")") { length } else { 0 }
        }
        "as" if names_join(tokens, statement, at) => 2,
        "where"
            if tokens.are_words(at + 1, &["current", "of"])
                && at + 3 < statement.end
                && tokens.identifier(at + 3).is_some() =>
        {
            4
        }
        _ => 0,
    }
}

fn opens_source(tokens: &Tokens<'_>, at: usize) -> bool {
    tokens.is_one_of(at, &["values", "select", "with", "table", "default"]) || tokens.is_mark(at, "(")
}

/// Whether an `INSERT` whose word is at this token says `OVERRIDING USER VALUE`: what it gives for identity
/// columns is not what is stored.
pub(in crate::sql) fn overrides_identities(tokens: &Tokens<'_>, insert: usize) -> bool {
    const NEXT: &[&str] = &["overriding", "values", "select", "with", "table", "returning"];
    tokens
        .find_word(insert..tokens.len(), NEXT)
        .is_some_and(|at| tokens.are_words(at, &["overriding", "user", "value"]))
}

/// `USING (a, b) AS name`, if the name is used for nothing else in the statement.
fn names_join(tokens: &Tokens<'_>, statement: &Range<usize>, at: usize) -> bool {
    let Some(name) = tokens.identifier(at + 1).filter(|_| at + 1 < statement.end) else { return false };
    if !tokens.is_mark(at - 1, ")") {
        return false;
    }
    let mut open = at - 2;
    while open > statement.start && (tokens.identifier(open).is_some() || tokens.is_mark(open, ",")) {
        open -= 1;
    }
    let is_using = open > statement.start
        && tokens.is_mark(open, "(")
        && tokens.is_word(open - 1, "using")
        && !tokens.is_one_of(open + 1, &["select", "values", "table", "with"]);
    is_using
        && statement.clone().all(|other| {
            other == at + 1
                || tokens.identifier(other).is_none_or(|found| found != name)
                || (tokens.is_mark(other + 1, ".") && !tokens.is_mark(other - 1, "."))
        })
}

/// The subscripts of `SET a[1] = …`, `SET j['x'] = …`, which sqlparser does not know: the column is assigned
/// to, in whatever part. Those that are more than constants and columns stay, and are not read.
fn assigned_subscripts(tokens: &Tokens<'_>, statement: &Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for set in statement.clone() {
        if !tokens.is_word(set, "set") || !follows_update(tokens, statement, set) {
            continue;
        }
        let mut at = set + 1;
        while at < statement.end {
            let (subscripts, behind) = subscripts_of_target(tokens, statement.end, at);
            if tokens.is_mark(behind, "=") {
                found.extend(subscripts);
            }
            at = match behind_assignment(tokens, statement.end, behind) {
                Some(next) => next,
                None => break,
            };
        }
    }
    found.sort_by_key(|subscript| subscript.start);
    found
}

/// `UPDATE name [AS alias] SET`, `DO UPDATE SET`.
fn follows_update(tokens: &Tokens<'_>, statement: &Range<usize>, set: usize) -> bool {
    const MOST_TOKENS: usize = 9;
    let mut at = set;
    while at > statement.start && set - at < MOST_TOKENS {
        at -= 1;
        if tokens.is_word(at, "update") {
            return true;
        }
        if tokens.identifier(at).is_none() && !tokens.is_mark(at, ".") && !tokens.is_mark(at, "*") {
            return false;
        }
    }
    false
}

/// What stands in brackets behind a name, and the token behind it all.
fn subscripts_of_target(tokens: &Tokens<'_>, end: usize, at: usize) -> (Vec<Range<usize>>, usize) {
    let mut found = Vec::new();
    let Some((_, mut at)) = tokens.name(at, end) else { return (found, at) };
    while at < end {
        if tokens.is_mark(at, "[") {
            let plain = |at: &usize| {
                tokens.slot(*at).is_some()
                    || tokens.identifier(*at).is_some()
                    || tokens.kind(*at) == Some(TokenKind::Param)
                    || [":", "-", "+"].iter().any(|mark| tokens.is_mark(*at, mark))
            };
            let Some(close) = (at + 1..end).find(|at| !plain(at)) else { break };
            if !tokens.is_mark(close, "]") {
                break;
            }
            found.push(at..close + 1);
            at = close + 1;
        } else if tokens.is_mark(at, ".") && tokens.identifier(at + 1).is_some() {
            at += 2;
        } else {
            break;
        }
    }
    (found, at)
}

/// Where the next assignment begins.
fn behind_assignment(tokens: &Tokens<'_>, end: usize, mut at: usize) -> Option<usize> {
    while at < end && !tokens.is_one_of(at, &["from", "where", "returning", "when"]) {
        if tokens.is_mark(at, ",") {
            return Some(at + 1);
        }
        if tokens.is_mark(at, ")") {
            return None;
        }
        at = if tokens.is_mark(at, "(") { tokens.behind_parenthesis(at, end) } else { at + 1 };
    }
    None
}

/// A token's number as the position sqlparser carries along.
fn location(index: usize) -> Location {
    Location { line: 1, column: index as u64 + 1 }
}

/// The number of the token at a position of the tree.
pub(in crate::sql) fn index_of(span: Span) -> Option<usize> {
    if span.start.line != 1 {
        return None;
    }
    usize::try_from(span.start.column.checked_sub(1)?).ok()
}

fn convert(tokens: &Tokens<'_>, index: usize) -> Option<Token> {
    let raw = tokens.raw(index);
    Some(match tokens.kind(index)? {
        TokenKind::Word => Token::make_word(std::str::from_utf8(raw).ok()?, None),
        TokenKind::QuotedIdent => Token::make_word(&tokens.quoted_contents(index)?, Some('"')),
        TokenKind::UnicodeIdent => return None,
        TokenKind::Integer | TokenKind::Decimal => Token::Number("1".to_owned(), false),
        TokenKind::String => Token::SingleQuotedString(String::new()),
        TokenKind::EscapeString => Token::EscapedStringLiteral(String::new()),
        TokenKind::DollarString => {
            Token::DollarQuotedString(DollarQuotedString { value: String::new(), tag: None })
        }
        TokenKind::UnicodeString => Token::UnicodeStringLiteral(String::new()),
        TokenKind::BitString => Token::HexStringLiteral(String::new()),
        TokenKind::NationalString => Token::NationalStringLiteral(String::new()),
        TokenKind::Param => Token::Placeholder(std::str::from_utf8(raw).ok()?.to_owned()),
        TokenKind::Semicolon => return None,
        TokenKind::Operator | TokenKind::Punct => operator(std::str::from_utf8(raw).ok()?)?,
    })
}

/// As sqlparser's lexer names them under PostgreSQL's dialect; any other is a custom one.
fn operator(raw: &str) -> Option<Token> {
    Some(match raw {
        "(" => Token::LParen,
        ")" => Token::RParen,
        "[" => Token::LBracket,
        "]" => Token::RBracket,
        "," => Token::Comma,
        "." => Token::Period,
        ":" => Token::Colon,
        "::" => Token::DoubleColon,
        ":=" => Token::Assignment,
        "=>" => Token::RArrow,
        ".." => return None,
        "=" => Token::Eq,
        "<>" | "!=" => Token::Neq,
        "<" => Token::Lt,
        ">" => Token::Gt,
        "<=" => Token::LtEq,
        ">=" => Token::GtEq,
        "+" => Token::Plus,
        "-" => Token::Minus,
        "*" => Token::Mul,
        "/" => Token::Div,
        "%" => Token::Mod,
        "^" => Token::Caret,
        "||" => Token::StringConcat,
        "&" => Token::Ampersand,
        "|" => Token::Pipe,
        "#" => Token::Sharp,
        "~" => Token::Tilde,
        "~*" => Token::TildeAsterisk,
        "!~" => Token::ExclamationMarkTilde,
        "!~*" => Token::ExclamationMarkTildeAsterisk,
        "~~" => Token::DoubleTilde,
        "~~*" => Token::DoubleTildeAsterisk,
        "!~~" => Token::ExclamationMarkDoubleTilde,
        "!~~*" => Token::ExclamationMarkDoubleTildeAsterisk,
        "<<" => Token::ShiftLeft,
        ">>" => Token::ShiftRight,
        "&&" => Token::Overlap,
        "!" => Token::ExclamationMark,
        "!!" => Token::DoubleExclamationMark,
        "@" => Token::AtSign,
        "^@" => Token::CaretAt,
        "|/" => Token::PGSquareRoot,
        "||/" => Token::PGCubeRoot,
        "->" => Token::Arrow,
        "->>" => Token::LongArrow,
        "#>" => Token::HashArrow,
        "#>>" => Token::HashLongArrow,
        "#-" => Token::HashMinus,
        "@>" => Token::AtArrow,
        "<@" => Token::ArrowAt,
        "@?" => Token::AtQuestion,
        "@@" => Token::AtAt,
        "?" => Token::Question,
        "?&" => Token::QuestionAnd,
        "?|" => Token::QuestionPipe,
        other => Token::CustomBinaryOperator(other.to_owned()),
    })
}
