//! The virtual nodes of all shards in the order of their positions.
//!
//! Node `i` of shard `s` stands at XXH3-64 of `"{s}#{i}"`; a key belongs to the first node at
//! or after its hash, and past the last node to the first one again. A sentinel at the very
//! end that belongs to the first node's shard cuts this circle open, so that the look-up and
//! the sums below see a line and no wrap-around.
//!
//! A look-up starts at the first node of the hash's bucket (its top bits; there are about as
//! many buckets as nodes), so it passes one node on average and allocates nothing.

use std::collections::{BTreeMap, HashMap};

use twox_hash::XxHash3_64;

use super::{KeyHash, ShardId};

/// How many hashes there are: what the shares are fractions of.
const HASH_SPACE: u128 = 1 << 64;

/// Which shard owns which part of the hash space. Immutable.
#[derive(Clone, PartialEq, Eq)]
pub struct Ring {
    names: Box<[String]>,
    /// Ascending; the last one is the sentinel `u64::MAX`.
    positions: Box<[u64]>,
    /// Whose node stands at the position of the same index.
    owners: Box<[ShardId]>,
    /// The first node at or after the start of each bucket.
    first_in_bucket: Box<[u32]>,
    /// A hash's bucket is the hash shifted right by this.
    shift: u32,
}

/// Keys that would change their owner.
#[derive(Clone, PartialEq, Debug)]
pub struct Move {
    /// The name of the shard that has them.
    pub from: String,
    /// The name of the shard that would have them.
    pub to: String,
    /// Which part of all keys they are, 0 to 1.
    pub share: f64,
}

impl Ring {
    /// A ring on which each shard has `virtual_nodes` times its weight nodes. A shard's
    /// position in `shards` becomes its [`ShardId`].
    ///
    /// # Panics
    ///
    /// If there is not a single node, more shards than a `ShardId` can number, or more nodes
    /// than a `u32` can. Validated settings have neither.
    pub fn new<S: AsRef<str>>(shards: &[(S, u32)], virtual_nodes: u32) -> Ring {
        let mut nodes: Vec<(u64, &str, ShardId)> = Vec::new();
        let mut label = String::new();
        for (index, (name, weight)) in shards.iter().enumerate() {
            let shard = ShardId(u16::try_from(index).expect("settings allow fewer shards than 65536"));
            let name = name.as_ref();
            for node in 0..u64::from(virtual_nodes) * u64::from(*weight) {
                label.clear();
                write_label(&mut label, name, node);
                nodes.push((XxHash3_64::oneshot(label.as_bytes()), name, shard));
            }
        }
        Ring::from_nodes(shards.iter().map(|(name, _)| name.as_ref().to_owned()).collect(), nodes)
    }

    fn from_nodes(names: Box<[String]>, mut nodes: Vec<(u64, &str, ShardId)>) -> Ring {
        // Two shards' nodes on one position: the lesser name comes first and owns what leads
        // up to it, whatever order the shards are written in.
        nodes.sort_unstable();
        let (_, _, first) = *nodes.first().expect("settings allow no weight and no node count of zero");
        let positions: Box<[u64]> =
            nodes.iter().map(|(position, ..)| *position).chain(std::iter::once(u64::MAX)).collect();
        let owners = nodes.iter().map(|(.., shard)| *shard).chain(std::iter::once(first)).collect();

        let bucket_bits = positions.len().next_power_of_two().trailing_zeros();
        let shift = u64::BITS - bucket_bits;
        let mut first_in_bucket = Vec::with_capacity(1 << bucket_bits);
        let mut node = 0;
        for bucket in 0..1_u64 << bucket_bits {
            // The sentinel ends the walk: no bucket starts after it.
            while positions[node] < bucket << shift {
                node += 1;
            }
            first_in_bucket.push(u32::try_from(node).expect("settings bound the number of nodes"));
        }
        Ring { names, positions, owners, first_in_bucket: first_in_bucket.into(), shift }
    }

    /// The shard that has the keys with this hash.
    #[inline]
    pub fn owner(&self, hash: KeyHash) -> ShardId {
        let KeyHash(hash) = hash;
        // `positions` has at least one node and the sentinel, so `shift` is less than 64 and
        // the bucket is inside the index.
        let mut node = self.first_in_bucket[(hash >> self.shift) as usize] as usize;
        while self.positions[node] < hash {
            node += 1;
        }
        self.owners[node]
    }

    /// The shards' names in the order of their ids.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many virtual nodes there are.
    pub fn node_count(&self) -> usize {
        self.positions.len() - 1
    }

    /// What part of the hash space each shard owns, in the order of their ids. Exact but for
    /// the last division.
    pub fn shares(&self) -> Vec<f64> {
        let mut owned = vec![0_u128; self.names.len()];
        let mut start = 0;
        for (&position, owner) in self.positions.iter().zip(&self.owners) {
            let end = u128::from(position) + 1;
            owned[owner.index()] += end - start;
            start = end;
        }
        owned.into_iter().map(share).collect()
    }

    /// Which keys would change their owner if `other` took this ring's place, largest first.
    /// Shards are the same if their names are.
    pub fn moves_to(&self, other: &Ring) -> Vec<Move> {
        let here: HashMap<&str, usize> =
            self.names.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
        let renumbered: Vec<Option<usize>> =
            other.names.iter().map(|name| here.get(name.as_str()).copied()).collect();

        let mut moved: BTreeMap<(usize, usize), u128> = BTreeMap::new();
        let (mut old, mut new, mut start) = (0, 0, 0_u128);
        // Both rings end with a sentinel at the same place, so both end in the same step.
        while old < self.positions.len() && new < other.positions.len() {
            let position = self.positions[old].min(other.positions[new]);
            let end = u128::from(position) + 1;
            let (from, to) = (self.owners[old].index(), other.owners[new].index());
            if end > start && renumbered[to] != Some(from) {
                *moved.entry((from, to)).or_default() += end - start;
            }
            start = end;
            old += usize::from(self.positions[old] == position);
            new += usize::from(other.positions[new] == position);
        }

        let mut moves: Vec<Move> = moved
            .into_iter()
            .map(|((from, to), hashes)| Move {
                from: self.names[from].clone(),
                to: other.names[to].clone(),
                share: share(hashes),
            })
            .collect();
        moves.sort_by(|a, b| b.share.total_cmp(&a.share));
        moves
    }
}

fn write_label(label: &mut String, name: &str, node: u64) {
    use std::fmt::Write as _;
    write!(label, "{name}#{node}").expect("a String takes whatever is written to it");
}

fn share(hashes: u128) -> f64 {
    hashes as f64 / HASH_SPACE as f64
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("names", &self.names)
            .field("nodes", &self.node_count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Key;

    fn numbered(shards: usize) -> Vec<(String, u32)> {
        (1..=shards).map(|number| (format!("s{number}"), 1)).collect()
    }

    fn at(positions: &[(u64, &'static str, u16)]) -> Ring {
        let names = ["s1", "s2"].map(String::from).into();
        Ring::from_nodes(names, positions.iter().map(|&(at, name, id)| (at, name, ShardId(id))).collect())
    }

    /// The definition, word for word: what the bucket index must agree with.
    fn owner_by_definition(ring: &Ring, hash: u64) -> ShardId {
        let nodes = &ring.positions[..ring.node_count()];
        let first = nodes.iter().position(|&position| position >= hash).unwrap_or(0);
        ring.owners[first]
    }

    #[test]
    fn a_key_belongs_to_the_first_node_at_or_after_its_hash() {
        let ring = at(&[(100, "s1", 0), (1 << 63, "s2", 1), (u64::MAX - 9, "s1", 0)]);
        for (hash, owner) in [
            (0, 0),
            (99, 0),
            (100, 0),
            (101, 1),
            (1 << 63, 1),
            ((1 << 63) + 1, 0),
            (u64::MAX - 9, 0),
            (u64::MAX - 8, 0),
            (u64::MAX, 0),
        ] {
            assert_eq!(ring.owner(KeyHash(hash)), ShardId(owner), "{hash}");
        }
        let wrapping = at(&[(100, "s2", 1), (200, "s1", 0)]);
        assert_eq!(wrapping.owner(KeyHash(201)), ShardId(1), "past the last node comes the first");
        assert_eq!(wrapping.owner(KeyHash(u64::MAX)), ShardId(1));
        let at_the_end = at(&[(100, "s1", 0), (u64::MAX, "s2", 1)]);
        assert_eq!(at_the_end.owner(KeyHash(u64::MAX)), ShardId(1), "a node at the sentinel's place wins");
    }

    #[test]
    fn the_index_agrees_with_the_definition() {
        for (shards, virtual_nodes) in [(1, 1), (2, 1), (3, 7), (5, 64), (64, 1024)] {
            let ring = Ring::new(&numbered(shards), virtual_nodes);
            let keys = (0..2000).map(|key| Key::Integer(key).hash().0);
            let edges = ring.positions.iter().step_by(ring.positions.len() / 100 + 1);
            let around = edges.flat_map(|&p| [p.wrapping_sub(1), p, p.wrapping_add(1)]);
            for hash in keys.chain(around).chain([0, u64::MAX]) {
                assert_eq!(ring.owner(KeyHash(hash)), owner_by_definition(&ring, hash), "{hash}");
            }
        }
    }

    #[test]
    fn nodes_on_one_position_go_by_name_not_by_order() {
        let one = at(&[(100, "s1", 0), (100, "s2", 1), (200, "s2", 1)]);
        let other = at(&[(200, "s2", 1), (100, "s2", 1), (100, "s1", 0)]);
        assert_eq!(one, other);
        assert_eq!(one.owner(KeyHash(100)), ShardId(0));
        assert_eq!(one.owner(KeyHash(101)), ShardId(1));
        assert_eq!(one.moves_to(&other), vec![]);
    }

    #[test]
    fn the_order_of_shards_does_not_matter() {
        let forward = Ring::new(&[("a", 1), ("b", 2), ("c", 1)], 128);
        let backward = Ring::new(&[("c", 1), ("b", 2), ("a", 1)], 128);
        assert_eq!(forward.moves_to(&backward), vec![]);
        for key in 0..1000 {
            let hash = Key::Integer(key).hash();
            assert_eq!(
                forward.names[forward.owner(hash).index()],
                backward.names[backward.owner(hash).index()]
            );
        }
    }

    /// Measured for s1 to s64: the worst is 8.41 %, one of 37 shards.
    #[test]
    fn no_shard_is_far_off_its_share() {
        for shards in 1..=64 {
            let ring = Ring::new(&numbered(shards), 1024);
            let shares = ring.shares();
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            for (index, share) in shares.iter().enumerate() {
                let off = (share * shards as f64 - 1.0).abs();
                assert!(off <= 0.085, "s{} of {shards} is {:.1} % off", index + 1, off * 100.0);
            }
        }
    }

    #[test]
    fn shares_are_what_keys_experience() {
        let ring = Ring::new(&numbered(5), 256);
        let mut counted = [0_u32; 5];
        let keys = 200_000;
        for key in 0..keys {
            counted[ring.owner(Key::Integer(key).hash()).index()] += 1;
        }
        for (share, count) in ring.shares().iter().zip(counted) {
            assert!((share - f64::from(count) / keys as f64).abs() < 0.005);
        }
    }

    #[test]
    fn weights_scale_the_share() {
        let ring = Ring::new(&[("s1", 1), ("s2", 3), ("s3", 4)], 1024);
        assert_eq!(ring.node_count(), 8 * 1024);
        for (share, wanted) in ring.shares().iter().zip([0.125, 0.375, 0.5]) {
            assert!((share / wanted - 1.0).abs() < 0.08, "{share} for {wanted}");
        }
        let lighter = Ring::new(&[("s1", 1), ("s2", 2), ("s3", 4)], 1024);
        assert!(ring.moves_to(&lighter).iter().all(|moved| moved.from == "s2"), "only what it gives up");
    }

    #[test]
    fn one_more_shard_takes_its_part_and_moves_nothing_else() {
        for shards in [1, 2, 3, 7, 15, 63] {
            let before = Ring::new(&numbered(shards), 1024);
            let after = Ring::new(&numbered(shards + 1), 1024);
            let moves = before.moves_to(&after);
            let newcomer = format!("s{}", shards + 1);
            assert!(moves.iter().all(|moved| moved.to == newcomer && moved.from != newcomer));
            let moved: f64 = moves.iter().map(|moved| moved.share).sum();
            assert!((moved * (shards + 1) as f64 - 1.0).abs() <= 0.08, "{moved} of {shards} + 1");
            assert!((moved - after.shares()[shards]).abs() < 1e-12, "all the newcomer has came from others");

            let back = after.moves_to(&before);
            assert!(back.iter().all(|moved| moved.from == newcomer));
            let returned: f64 = back.iter().map(|moved| moved.share).sum();
            assert!((moved - returned).abs() < 1e-12);
        }
    }

    #[test]
    fn moves_are_what_keys_experience() {
        let before = Ring::new(&[("a", 1), ("b", 1)], 64);
        let after = Ring::new(&[("c", 2), ("a", 1)], 64);
        let keys = 200_000;
        let moved = (0..keys).filter(|key| {
            let hash = Key::Integer(*key).hash();
            before.names[before.owner(hash).index()] != after.names[after.owner(hash).index()]
        });
        let told: f64 = before.moves_to(&after).iter().map(|moved| moved.share).sum();
        assert!((moved.count() as f64 / keys as f64 - told).abs() < 0.005);
    }

    #[test]
    fn a_single_shard_owns_everything() {
        let ring = Ring::new(&[("only", 1)], 1);
        assert_eq!(ring.shares(), vec![1.0]);
        let renamed = Ring::new(&[("other", 1)], 1);
        let moves = ring.moves_to(&renamed);
        assert_eq!(moves, vec![Move { from: "only".into(), to: "other".into(), share: 1.0 }]);
    }
}
