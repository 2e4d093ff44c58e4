//! What a client's transaction is before and beside any server's: its lazy beginning, what has
//! to be replayed on a shard that joins, and which settings stand if it commits. And which
//! transactions wait for each other across shards ([`deadlock`]).
//!
//! Pure state. Two-phase commit and recovery will stand here too.

pub mod deadlock;
mod lazy;

pub use lazy::{Change, Phase, Transaction};
