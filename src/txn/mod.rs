//! What a client's transaction is before and beside any server's: its lazy beginning, what has
//! to be replayed on a shard that joins, and which settings stand if it commits; and how one over
//! several shards ends, whatever dies meanwhile.
//!
//! Pure state. [`commit`] is what the client's proxy does, [`recovery`] what any proxy does about
//! what was left. Deadlocks across shards will stand here too.

pub mod commit;
mod gid;
mod lazy;
pub mod recovery;
#[cfg(test)]
mod simulator;

pub use gid::{Gid, Participant, Xid};
pub use lazy::{Change, Phase, Transaction};
