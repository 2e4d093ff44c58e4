//! A database's shards and which keys each has: one immutable snapshot.
//!
//! It says where rows are, not where to connect: endpoints, roles and health change while the
//! rows stay, and are the pool's affair.

use super::{KeyHash, Ring, ShardId};

/// The shards of one database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// The shards' names; a [`ShardId`] is an index here.
    pub shards: Vec<String>,
    /// Where tables that are not sharded live.
    pub home: ShardId,
    /// Which shard owns which keys.
    pub ring: Ring,
}

impl Topology {
    /// The topology of shards with these names and weights.
    ///
    /// # Panics
    ///
    /// As [`Ring::new`], and if `home` is none of the shards.
    pub fn new(names_and_weights: &[(String, u32)], virtual_nodes: u32, home: ShardId) -> Topology {
        assert!(home.index() < names_and_weights.len(), "settings name a home among the shards");
        Topology {
            shards: names_and_weights.iter().map(|(name, _)| name.clone()).collect(),
            home,
            ring: Ring::new(names_and_weights, virtual_nodes),
        }
    }

    /// The shard that has the keys with this hash.
    #[inline]
    pub fn owner(&self, hash: KeyHash) -> ShardId {
        self.ring.owner(hash)
    }

    /// The shard with this name.
    pub fn shard_named(&self, name: &str) -> Option<ShardId> {
        self.ids().zip(&self.shards).find_map(|(id, shard)| (shard == name).then_some(id))
    }

    /// A shard's name.
    ///
    /// # Panics
    ///
    /// If the id is another topology's.
    pub fn name(&self, shard: ShardId) -> &str {
        &self.shards[shard.index()]
    }

    /// The shards' ids in order.
    pub fn ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        let count = u16::try_from(self.shards.len()).expect("the ring numbers its shards with 16 bits");
        (0..count).map(ShardId)
    }

    /// How many shards there are; never none.
    #[expect(clippy::len_without_is_empty, reason = "a topology has at least one shard")]
    pub fn len(&self) -> usize {
        self.shards.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Key;

    fn three() -> Topology {
        let shards = ["s1", "s2", "s3"].map(|name| (name.to_owned(), 1));
        Topology::new(&shards, 1024, ShardId(1))
    }

    #[test]
    fn names_and_ids_belong_together() {
        let topology = three();
        assert_eq!(topology.len(), 3);
        assert_eq!(topology.home, ShardId(1));
        for id in topology.ids() {
            assert_eq!(topology.shard_named(topology.name(id)), Some(id));
        }
        assert_eq!(topology.shard_named("s4"), None);
        assert_eq!(topology.shard_named("S1"), None);
    }

    #[test]
    fn the_owner_is_the_rings() {
        let topology = three();
        for key in 0..100 {
            let hash = Key::Integer(key).hash();
            assert_eq!(topology.owner(hash), topology.ring.owner(hash));
        }
    }

    #[test]
    #[should_panic(expected = "home among the shards")]
    fn a_home_elsewhere_is_a_defect() {
        Topology::new(&[("s1".to_owned(), 1)], 1, ShardId(1));
    }
}
