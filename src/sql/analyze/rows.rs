//! The rows of a long `INSERT … VALUES`, without a tree.
//!
//! sqlparser's tree takes some hundred bytes for each value. A row of nothing but literals and
//! parameters names no table and calls no function, so that all there is to know of it is its
//! key, which is read off the tokens. The first row stays in the tree, and with it all others
//! that are not of this kind.

use std::ops::Range;

use super::super::lexer::TokenKind;
use super::tokens::Tokens;

/// Rows to be left out of the tree.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Their values: the tokens between their parentheses.
    pub(super) values: Vec<Range<usize>>,
    /// What is to be left out: each with its parentheses and the comma before it.
    pub(super) left_out: Vec<Range<usize>>,
}

impl Rows {
    pub(super) fn of(tokens: &Tokens<'_>, statement: &Range<usize>) -> Rows {
        let mut rows = Rows::default();
        if !tokens.are_words(statement.start, &["insert", "into"]) {
            return rows;
        }
        let Some(values) = tokens.find_word(statement.start + 3..statement.end, &["values"]) else {
            return rows;
        };
        if tokens.is_one_of(values - 1, &["union", "all", "distinct", "intersect", "except"]) {
            return rows;
        }
        let mut at = tokens.behind_parenthesis(values + 1, statement.end);
        while at + 1 < statement.end && tokens.is_mark(at, ",") && tokens.is_mark(at + 1, "(") {
            let behind = tokens.behind_parenthesis(at + 1, statement.end);
            if !tokens.is_mark(behind - 1, ")") {
                break;
            }
            let row = at + 2..behind - 1;
            if row.clone().all(|token| is_plain(tokens, token)) {
                rows.values.push(row);
                rows.left_out.push(at..behind);
            }
            at = behind;
        }
        rows
    }
}

fn is_plain(tokens: &Tokens<'_>, at: usize) -> bool {
    match tokens.kind(at) {
        Some(TokenKind::Word) => {
            tokens.is_one_of(at, &["null", "true", "false", "default"]) || tokens.is_mark(at - 1, "::")
        }
        Some(TokenKind::Param) => true,
        Some(TokenKind::Operator | TokenKind::Punct) => {
            [",", "-", "::"].iter().any(|mark| tokens.is_mark(at, mark))
        }
        Some(kind) => kind.is_literal(),
        None => false,
    }
}
