//! The consistent-hash ring: which shard owns a key.
//!
//! The hash, the names of the virtual nodes and the canonical forms of keys are a data
//! format: rows already lie where an earlier pgring put them. Golden tests pin all three.
//!
//! - [`ring`]: the virtual nodes and the look-up, and what a change of them would move;
//! - [`topology`]: a database's shards with their ring, an immutable snapshot;
//! - [`report`]: what `pgring ring` prints.
//!
//! Nothing here does I/O or knows SQL, and a shard's health plays no part: a key whose shard
//! is down belongs to that shard all the same, because its rows are there.

pub mod report;
pub mod ring;
pub mod topology;

pub use ring::{Move, Ring};
pub use topology::Topology;

use twox_hash::XxHash3_64;

/// A shard's position in its database's configuration, as the ring and the pools know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u16);

impl ShardId {
    /// For indexing slices that run parallel to the configured shards.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A key's place on the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyHash(pub u64);

/// A shard key in the form that is hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key<'a> {
    /// `smallint`, `integer` and `bigint`: 8 little-endian bytes of the value.
    Integer(i64),
    /// `text` and `varchar`: the bytes as they are, in the server's encoding.
    Text(&'a [u8]),
    /// `uuid`: its 16 bytes in network order.
    Uuid([u8; 16]),
}

impl Key<'_> {
    /// Where the key stands on the ring: XXH3-64 with seed 0 of its canonical form.
    ///
    /// The forms of the three types are not told apart: one database's keys are of one type.
    pub fn hash(&self) -> KeyHash {
        KeyHash(match self {
            Key::Integer(value) => XxHash3_64::oneshot(&value.to_le_bytes()),
            Key::Text(bytes) => XxHash3_64::oneshot(bytes),
            Key::Uuid(bytes) => XxHash3_64::oneshot(bytes),
        })
    }
}

#[cfg(test)]
mod golden;
