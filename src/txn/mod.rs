//! What a client's transaction is before and beside any server's: its lazy beginning, what has
//! to be replayed on a shard that joins, and which settings stand if it commits; its end over
//! several shards, two-phase commit, and what recovery makes of what that leaves behind; and which
//! transactions wait for each other across shards.
//!
//! Pure state: whoever drives it does the talking.

pub mod commit;
pub mod deadlock;
mod gid;
mod lazy;
pub mod recovery;
#[cfg(test)]
mod simulator;

pub use gid::{Gid, Participant, Xid};
pub use lazy::{Change, Decision, Phase, Transaction, is_characteristic, says_read_only};
