//! What a statement may write with by calling it, as far as the catalogs tell.
//!
//! A function's name says whether it is declared to write nothing. Operators, aggregates and casts call
//! functions too, and those that users have made may write: an aggregate counts by its own name, an
//! operator by its symbol, a cast by the type that it leads to. Names are compared without schemas and
//! operand types: to take a reader for a writer costs a decision, to take a writer for a reader would
//! lose what it has written together with others. What PostgreSQL calls without a word in the text
//! (comparisons, implicit casts) makes a writer of every statement.

use super::analyze::tokens::Tokens;
use super::lexer::{TokenKind, tokenize};
use std::collections::HashSet;
use std::ops::Range;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Volatility {
    /// Names of functions, whoever's they are, that are declared `VOLATILE` in none of their forms.
    steady: HashSet<String>,
    operators: HashSet<String>,
    types: HashSet<String>,
    anywhere: bool,
}

/// What calls a function that may write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hidden {
    /// An operator of this name.
    Operator(String),
    /// A cast to this type, or to a domain of this name over one.
    CastTo(String),
    /// What can be called anywhere.
    Anywhere,
}

/// Operators that a text may call without having them: sorting, grouping, `IN`, `LIKE`.
const UNWRITTEN: [&str; 10] = ["=", "<>", "<", "<=", ">", ">=", "~~", "!~~", "~~*", "!~~*"];

impl Volatility {
    /// With these steady functions, and these callers.
    pub fn new(steady: HashSet<String>, hidden: impl IntoIterator<Item = Hidden>) -> Volatility {
        let mut found = Volatility { steady, ..Volatility::default() };
        for hidden in hidden {
            match hidden {
                Hidden::Operator(name) => {
                    found.anywhere |= UNWRITTEN.contains(&name.as_str());
                    found.operators.insert(name);
                }
                Hidden::CastTo(name) => _ = found.types.insert(name),
                Hidden::Anywhere => found.anywhere = true,
            }
        }
        found
    }

    /// Is every function of this name declared not to write? `false` may mean that it is not known.
    pub(super) fn is_steady(&self, name: &str) -> bool {
        // They are declared `STABLE` and give the transaction a number, which no replica can.
        !matches!(name, "txid_current" | "pg_current_xact_id") && self.steady.contains(name)
    }

    /// May an operator or a cast in this statement write?
    pub(super) fn is_hidden_in(&self, tokens: &Tokens<'_>, mut range: Range<usize>) -> bool {
        let named = |at: usize| match tokens.kind(at) {
            Some(TokenKind::Operator | TokenKind::Punct) => {
                std::str::from_utf8(tokens.raw(at)).is_ok_and(|mark| self.operators.contains(mark))
            }
            Some(TokenKind::Word | TokenKind::QuotedIdent | TokenKind::UnicodeIdent) => {
                // What only the server can read may be anything.
                tokens.identifier(at).is_none_or(|name| self.types.contains(&name))
            }
            _ => false,
        };
        self.anywhere || (!(self.operators.is_empty() && self.types.is_empty()) && range.any(named))
    }

    /// As [`Volatility::is_hidden_in`], of a view's definition.
    pub(super) fn is_hidden_in_definition(&self, definition: &str) -> bool {
        if self.operators.is_empty() && self.types.is_empty() {
            return self.anywhere;
        }
        let Ok(tokens) = tokenize(definition.as_bytes(), true) else { return true };
        let tokens = Tokens::new(definition.as_bytes(), tokens);
        self.is_hidden_in(&tokens, 0..tokens.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_calls_a_writer() {
        let of = |hidden: &[Hidden]| Volatility::new(HashSet::new(), hidden.to_vec());
        let operator = of(&[Hidden::Operator("###".into())]);
        let cast = of(&[Hidden::CastTo("mood".into())]);
        for (volatility, text, expect) in [
            (&operator, "SELECT 1 ### 2", true),
            (&operator, "SELECT 1###2", true),
            (&operator, "SELECT 1 OPERATOR(public.###) 2", true),
            (&operator, "SELECT 1 # 2, '###', x -> 'y'", false),
            (&cast, "SELECT 'x'::public.mood", true),
            (&cast, "SELECT CAST(x AS \"mood\"[])", true),
            (&cast, "SELECT 'mood'::text", false),
            (&cast, "SELECT U&\"m\\00f6\"", true),
            (&of(&[]), "SELECT U&\"m\\00f6\"", false),
            (&of(&[Hidden::Anywhere]), "SELECT 1", true),
            (&of(&[Hidden::Operator("=".into())]), "SELECT DISTINCT x FROM t", true),
            (&of(&[]), "SELECT 1 ### 2", false),
        ] {
            assert_eq!(volatility.is_hidden_in_definition(text), expect, "{text}");
        }
    }
}
