//! What a statement is and where its shard key stands.
//!
//! Pure: bytes and a [`Schema`] in, a [`Shape`] out. Nothing here knows of shards.

mod shape;

pub use shape::*;
