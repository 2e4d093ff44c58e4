//! Keys that a server has to compute before it is known where their row belongs.
//!
//! The server that computes one is not always the one that then stores it, and the row is stored as
//! the client wrote it. So the expression must have the same value on each: it is made of
//! constants and parameters, by operators, PostgreSQL's own types and functions that depend on
//! nothing but their arguments and the session's settings.

use std::ops::{ControlFlow, Range};

use sqlparser::ast::{BinaryOperator, CastKind, DataType, Expr, Query, UnaryOperator, Visit, Visitor};

use super::super::lexer::TokenKind;
use super::super::schema::Schema;
use super::functions::{Steadiness, folds, steadiness, yields_rows};
use super::names::object;
use super::tokens::Tokens;

/// Whether an expression has one value, the same on every server.
pub(in crate::sql) fn is_steady(expr: &Expr, schema: &Schema) -> bool {
    expr.visit(&mut Steady(schema)).is_continue()
}

struct Steady<'s>(&'s Schema);

impl Visitor for Steady<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let steady = match expr {
            Expr::Value(_)
            | Expr::Nested(_)
            | Expr::Case { .. }
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::Between { .. }
            | Expr::InList { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Position { .. }
            | Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. } => true,
            Expr::UnaryOp { op, .. } => {
                matches!(op, UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not)
            }
            Expr::BinaryOp { op, .. } => is_known(op),
            Expr::TypedString(typed) => is_own(&typed.data_type),
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, data_type, format: None, .. } => {
                is_own(data_type)
            }
            Expr::Function(function) => {
                let bare = function.over.is_none()
                    && function.filter.is_none()
                    && function.within_group.is_empty()
                    && function.null_treatment.is_none();
                bare && object(&function.name).is_some_and(|name| {
                    steadiness(self.0, name.schema.as_deref(), &name.name) == Steadiness::Alike
                        && !folds(self.0, &name.name)
                        && !yields_rows(&name.name)
                })
            }
            _ => false,
        };
        if steady { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

fn is_known(op: &BinaryOperator) -> bool {
    use BinaryOperator::*;
    matches!(
        op,
        Plus | Minus
            | Multiply
            | Divide
            | Modulo
            | StringConcat
            | Gt
            | Lt
            | GtEq
            | LtEq
            | Eq
            | NotEq
            | And
            | Or
            | BitwiseOr
            | BitwiseAnd
            | PGBitwiseXor
            | PGBitwiseShiftLeft
            | PGBitwiseShiftRight
            | PGExp
    )
}

/// Types that no database can have another meaning for, and whose values name nothing of the server's.
fn is_own(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::SmallInt(None)
            | DataType::Int2(None)
            | DataType::Int(None)
            | DataType::Int4(None)
            | DataType::Integer(None)
            | DataType::BigInt(None)
            | DataType::Int8(None)
            | DataType::Numeric(_)
            | DataType::Decimal(_)
            | DataType::Real
            | DataType::Float4
            | DataType::Float8
            | DataType::DoublePrecision
            | DataType::Bool
            | DataType::Boolean
            | DataType::Text
            | DataType::Varchar(_)
            | DataType::CharacterVarying(_)
            | DataType::CharVarying(_)
            | DataType::Char(_)
            | DataType::Character(_)
            | DataType::Uuid
            | DataType::Bytea
            | DataType::Date
            | DataType::Timestamp(..)
            | DataType::Interval { .. }
            | DataType::JSON
            | DataType::JSONB
    )
}

/// As [`is_steady`], of a value in a row that sqlparser is not shown: literals, parameters and casts.
pub(in crate::sql) fn is_spelled_steadily(tokens: &Tokens<'_>, mut value: Range<usize>) -> bool {
    const OWN: &[&str] = &[
        "smallint",
        "int2",
        "int",
        "int4",
        "integer",
        "bigint",
        "int8",
        "numeric",
        "decimal",
        "real",
        "float4",
        "float8",
        "bool",
        "boolean",
        "text",
        "varchar",
        "char",
        "uuid",
        "date",
        "timestamp",
        "timestamptz",
    ];
    let steady = |at: usize| match tokens.kind(at) {
        Some(TokenKind::Word) if tokens.is_mark(at - 1, "::") => tokens.is_one_of(at, OWN),
        Some(TokenKind::Word) => tokens.is_one_of(at, &["null", "true", "false"]),
        Some(TokenKind::Param) => true,
        Some(TokenKind::Operator | TokenKind::Punct) => {
            ["-", "::"].iter().any(|mark| tokens.is_mark(at, mark))
        }
        Some(kind) => kind.is_literal(),
        None => false,
    };
    !value.is_empty() && value.all(steady)
}

/// The tokens of the value at a position of a row; `row` is what stands between its parentheses.
pub(in crate::sql) fn value_at(
    tokens: &Tokens<'_>,
    row: Range<usize>,
    position: usize,
) -> Option<Range<usize>> {
    let (mut start, mut left, mut depth) = (row.start, position, 0usize);
    for at in row.clone() {
        if tokens.is_mark(at, "(") || tokens.is_mark(at, "[") {
            depth += 1;
        } else if tokens.is_mark(at, ")") || tokens.is_mark(at, "]") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && tokens.is_mark(at, ",") {
            if left == 0 {
                return Some(start..at);
            }
            left -= 1;
            start = at + 1;
        }
    }
    (left == 0).then_some(start..row.end)
}
