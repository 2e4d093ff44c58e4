//! The consistent-hash ring: which shard owns a key.
//!
//! The hash, the names of the virtual nodes and the canonical forms of keys are a data
//! format: rows already lie where an earlier pgring put them. Golden tests pin all three.

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
