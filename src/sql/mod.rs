//! What a statement is and where its shard key stands.
//!
//! Pure: bytes and a [`Schema`] in, a [`Shape`] out. Nothing here knows of shards.

mod analyze;
mod cache;
mod code;
pub mod distribute;
mod hints;
mod lexer;
mod schema;
mod shape;
mod suspects;
mod volatility;

pub use analyze::tokens::fold;
pub use analyze::{Context, analyze, is_readable};
pub use cache::PlanCache;
pub use code::{makes_suspect, may_leave_state};
pub use hints::{Hints, ReadHint};
pub use lexer::{LexError, LexFault, Lexed, Literal, Token, TokenKind, tokenize};
pub use schema::{
    CallingCast, Carriage, CastWhen, ColumnDetail, Configured, Function, Giving, Schema, Table, TableDetail,
    TableKind, TextOrder,
};
pub use shape::*;
pub use suspects::{Edge, Routine, Suspects};
pub use volatility::{Hidden, Volatility};
