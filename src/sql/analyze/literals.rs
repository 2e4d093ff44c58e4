//! Constants in the tree: which literal or parameter of the text they are, and whether their
//! value can only be the key's.

use sqlparser::ast::{ArrayElemTypeDef, CastKind, DataType, Expr, UnaryOperator, Value, ValueWithSpan};

use super::super::lexer::TokenKind;
use super::super::shape::{KeySlot, KeySource, KeyType};
use super::bridge::index_of;
use super::computed;
use super::tokens::Tokens;

/// Reads constants off one text's trees.
#[derive(Clone, Copy)]
pub(in crate::sql) struct Literals<'a> {
    tokens: &'a Tokens<'a>,
}

impl<'a> Literals<'a> {
    pub(in crate::sql) fn new(tokens: &'a Tokens<'a>) -> Literals<'a> {
        Literals { tokens }
    }

    pub(super) fn tokens(&self) -> &'a Tokens<'a> {
        self.tokens
    }

    /// A constant that is compared with, or stored into, a column of this type.
    ///
    /// Casts count only to the type's own family and without a length: `'x'::char(1)` and
    /// `42.7::int` have other values than what stands in the text.
    pub(super) fn constant(&self, expr: &Expr, key_type: KeyType) -> Option<KeySource> {
        self.slot(expr, key_type).map(|slot| KeySource { slot, key_type })
    }

    fn slot(&self, expr: &Expr, key_type: KeyType) -> Option<KeySlot> {
        match expr {
            Expr::Nested(inner) => self.slot(inner, key_type),
            Expr::Value(value) => self.value(value, key_type),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match self.slot(expr, key_type)? {
                KeySlot::Literal(slot) if self.is_number(expr) => Some(KeySlot::NegatedLiteral(slot)),
                _ => None,
            },
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, format: None }
                if family(data_type) == Some(key_type) =>
            {
                self.slot(expr, key_type)
            }
            Expr::TypedString(typed) if family(&typed.data_type) == Some(key_type) => {
                self.value(&typed.value, key_type)
            }
            _ => None,
        }
    }

    /// An unquoted integer under casts and parentheses: minus before anything else is another
    /// operator.
    fn is_number(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => self.is_number(inner),
            Expr::Value(value) => matches!(value.value, Value::Number(..)),
            _ => false,
        }
    }

    fn value(&self, value: &ValueWithSpan, key_type: KeyType) -> Option<KeySlot> {
        if value.value == Value::Null {
            return Some(KeySlot::Null);
        }
        let index = index_of(value.span)?;
        match (&value.value, self.tokens.kind(index)?) {
            (Value::Number(..), TokenKind::Integer) if key_type == KeyType::Integer => {
                self.tokens.slot(index).map(KeySlot::Literal)
            }
            (Value::SingleQuotedString(_), TokenKind::String)
            | (Value::EscapedStringLiteral(_), TokenKind::EscapeString)
            | (Value::DollarQuotedString(_), TokenKind::DollarString)
            | (Value::UnicodeStringLiteral(_), TokenKind::UnicodeString) => {
                self.tokens.slot(index).map(KeySlot::Literal)
            }
            (Value::Placeholder(written), TokenKind::Param) => {
                written.strip_prefix('$')?.parse().ok().filter(|n| *n > 0).map(KeySlot::Param)
            }
            _ => None,
        }
    }

    /// What stands within `= ANY(…)`.
    pub(super) fn array(&self, expr: &Expr, key_type: KeyType) -> Option<Vec<KeySource>> {
        let one = |slot| Some(vec![KeySource { slot, key_type }]);
        match expr {
            Expr::Nested(inner) => self.array(inner, key_type),
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, format: None }
                if element_family(data_type) == Some(key_type) =>
            {
                self.array(expr, key_type)
            }
            Expr::Array(array) => array.elem.iter().map(|element| self.constant(element, key_type)).collect(),
            Expr::Value(value) => match (&value.value, self.value(value, key_type)?) {
                (Value::Number(..), _) => None,
                (_, KeySlot::Literal(slot)) => one(KeySlot::LiteralArray(slot)),
                (_, KeySlot::Param(number)) => one(KeySlot::ParamArray(number)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The constant at a position of an `INSERT`'s row that sqlparser is not shown. No
    /// parentheses are in such a row, so that each comma separates two values.
    pub(super) fn in_row(
        &self,
        row: std::ops::Range<usize>,
        position: usize,
        key_type: KeyType,
    ) -> Option<KeySource> {
        let mut start = row.start;
        let mut left = position;
        for at in row.clone() {
            if self.tokens.is_mark(at, ",") {
                if left == 0 {
                    return self.spelled(start..at, key_type);
                }
                left -= 1;
                start = at + 1;
            }
        }
        if left == 0 { self.spelled(start..row.end, key_type) } else { None }
    }

    /// Whether the value there can be computed, as far as its words tell.
    pub(super) fn is_computed(&self, row: std::ops::Range<usize>, position: usize) -> bool {
        computed::value_at(self.tokens, row, position)
            .is_some_and(|value| computed::is_spelled_steadily(self.tokens, value))
    }

    /// The constant that `range` of the tokens spells, if nothing else stands there.
    fn spelled(&self, mut range: std::ops::Range<usize>, key_type: KeyType) -> Option<KeySource> {
        while range.len() >= 2 && self.tokens.is_mark(range.end - 2, "::") {
            if spelled_family(&self.tokens.word(range.end - 1)) != Some(key_type) {
                return None;
            }
            range.end -= 2;
        }
        let negated = range.len() == 2 && self.tokens.is_mark(range.start, "-");
        let at = if negated { range.start + 1 } else { range.start };
        if at + 1 != range.end {
            return None;
        }
        let slot = match self.tokens.kind(at)? {
            TokenKind::Integer if key_type == KeyType::Integer => {
                let slot = self.tokens.slot(at)?;
                if negated { KeySlot::NegatedLiteral(slot) } else { KeySlot::Literal(slot) }
            }
            _ if negated => return None,
            TokenKind::String
            | TokenKind::EscapeString
            | TokenKind::DollarString
            | TokenKind::UnicodeString => KeySlot::Literal(self.tokens.slot(at)?),
            TokenKind::Param => {
                let number = std::str::from_utf8(self.tokens.raw(at)).ok()?.strip_prefix('$')?.parse();
                KeySlot::Param(number.ok().filter(|n| *n > 0)?)
            }
            TokenKind::Word if self.tokens.is_word(at, "null") => KeySlot::Null,
            _ => return None,
        };
        Some(KeySource { slot, key_type })
    }
}

/// The key type whose values a cast to this type leaves alone.
fn family(data_type: &DataType) -> Option<KeyType> {
    match data_type {
        DataType::SmallInt(None)
        | DataType::Int2(None)
        | DataType::Int(None)
        | DataType::Int4(None)
        | DataType::Integer(None)
        | DataType::BigInt(None)
        | DataType::Int8(None) => Some(KeyType::Integer),
        DataType::Text
        | DataType::Varchar(None)
        | DataType::CharacterVarying(None)
        | DataType::CharVarying(None) => Some(KeyType::Text),
        DataType::Uuid => Some(KeyType::Uuid),
        _ => None,
    }
}

fn spelled_family(word: &str) -> Option<KeyType> {
    match word {
        "smallint" | "int2" | "int" | "int4" | "integer" | "bigint" | "int8" => Some(KeyType::Integer),
        "text" | "varchar" => Some(KeyType::Text),
        "uuid" => Some(KeyType::Uuid),
        _ => None,
    }
}

fn element_family(data_type: &DataType) -> Option<KeyType> {
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, None)) => family(element),
        _ => None,
    }
}

/// Whether a key column cast to this type still has its own value, whatever it is: integers
/// may only be widened.
pub(super) fn keeps_key(data_type: &DataType, key_type: KeyType) -> bool {
    match key_type {
        KeyType::Integer => matches!(data_type, DataType::BigInt(None) | DataType::Int8(None)),
        KeyType::Text | KeyType::Uuid => family(data_type) == Some(key_type),
    }
}
