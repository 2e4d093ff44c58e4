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
    let mut at = range.start;
    while at < range.end {
        while holes.peek().is_some_and(|hole| hole.end <= at) {
            holes.next();
        }
        if let Some(hole) = holes.peek().filter(|hole| hole.contains(&at)) {
            at = hole.end;
            continue;
        }
        let here = location(at);
        let span = Span::new(here, here);
        if begins_table_query(tokens, &range, at) {
            let words = [Token::make_word("SELECT", None), Token::Mul, Token::make_word("FROM", None)];
            converted.extend(words.map(|token| TokenWithSpan { token, span }));
        } else if overrides(tokens, at) {
            at += 2;
        } else if let Some(words) = weaker_lock(tokens, &range, at) {
            at += words - 1;
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

/// `INSERT … OVERRIDING SYSTEM VALUE VALUES …`, which sqlparser does not know: what is given
/// is what is stored. (`OVERRIDING USER VALUE` would ignore a key that is an identity column.)
fn overrides(tokens: &Tokens<'_>, at: usize) -> bool {
    tokens.are_words(at, &["overriding", "system", "value"])
        && (tokens.is_one_of(at + 3, &["values", "select", "with", "table"]) || tokens.is_mark(at + 3, "("))
}

/// `FOR KEY SHARE` and `FOR NO KEY UPDATE` are to sqlparser what they are without these words: how weak a
/// lock is does not matter to where it is taken.
fn weaker_lock(tokens: &Tokens<'_>, statement: &Range<usize>, at: usize) -> Option<usize> {
    let locks = at > statement.start && tokens.is_word(at - 1, "for");
    let is = |words: &[&str]| locks && tokens.are_words(at, words);
    if is(&["key", "share"]) {
        Some(1)
    } else if is(&["no", "key", "update"]) {
        Some(2)
    } else {
        None
    }
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
