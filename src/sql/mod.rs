//! What a statement is and where its shard key stands.
//!
//! Pure: bytes and a [`Schema`] in, a [`Shape`] out. Nothing here knows of shards.

mod hints;
mod lexer;
mod shape;

pub use hints::{Hints, ReadHint};
pub use lexer::{LexError, LexFault, Lexed, Literal, Token, TokenKind, tokenize};
pub use shape::*;
