//! What a client's transaction is before and beside any server's: its lazy beginning, what has
//! to be replayed on a shard that joins, and which settings stand if it commits.
//!
//! Pure state. Two-phase commit, recovery and deadlocks across shards will stand here too;
//! until then a transaction stays on the shard it first touched.

mod lazy;

pub use lazy::{Change, Phase, Transaction};
