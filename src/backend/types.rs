//! Users' types have OIDs of each server's own. To clients they are the home shard's, everywhere:
//! what a server describes is translated as it comes in, what it is asked to parse as it goes out.
//!
//! Values are passed on as they are. The binary form of an array or a record holds OIDs, which stay
//! those of the server that the value is of: one that a client sends is refused by the server.

use std::collections::{HashMap, HashSet};

/// From here on OIDs are each database's own (`FirstNormalObjectId` of `access/transam.h`).
pub const FIRST_OF_USERS: u32 = 16384;

/// No type has this OID: a server refuses it.
const NO_TYPE: u32 = u32::MAX;

/// The types of a database that users or extensions made: a qualified name and its OID there.
pub type TypeNames = HashMap<String, u32>;

/// What the home shard's OIDs are on another shard, and the other way round.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TypeMap {
    to_shard: HashMap<u32, u32>,
    to_home: HashMap<u32, u32>,
    /// OIDs that stand for some type on the home shard.
    of_home: HashSet<u32>,
}

impl TypeMap {
    /// Between a database's home and one of its other shards. Where all OIDs are the same it translates nothing.
    pub fn between(home: &TypeNames, shard: &TypeNames) -> TypeMap {
        if home.iter().all(|(name, oid)| shard.get(name) == Some(oid)) && home.len() == shard.len() {
            return TypeMap::default();
        }
        let taken: HashSet<u32> = shard.values().copied().collect();
        let to_shard = home.iter().filter_map(|(name, oid)| match shard.get(name) {
            Some(there) => Some((*oid, *there)),
            // Not to be taken for another type.
            None => taken.contains(oid).then_some((*oid, NO_TYPE)),
        });
        let to_home = shard.iter().filter_map(|(name, oid)| Some((*oid, *home.get(name)?)));
        TypeMap {
            to_shard: to_shard.collect(),
            to_home: to_home.collect(),
            of_home: home.values().copied().collect(),
        }
    }

    /// Are all OIDs the same?
    pub fn is_same(&self) -> bool {
        self.to_shard.is_empty() && self.to_home.is_empty()
    }

    fn to_shard(&self, oid: u32) -> u32 {
        self.to_shard.get(&oid).copied().unwrap_or(oid)
    }

    /// 0: it is none that the home shard has, and would be taken for one.
    fn to_home(&self, oid: u32) -> u32 {
        match self.to_home.get(&oid) {
            Some(there) => *there,
            None if self.of_home.contains(&oid) => 0,
            None => oid,
        }
    }

    /// A `ParameterDescription` or `RowDescription` of the shard's, whole, becomes what the home shard
    /// would say. One that is broken is left for whoever reads it.
    pub(super) fn translate(&self, frame: &mut [u8]) {
        const HEAD: usize = 5;
        const COUNT: usize = 2;
        let tag = frame.first().copied();
        let Some(mut rest) = frame.get_mut(HEAD + COUNT..) else { return };
        let mut next = || match tag {
            Some(b't') => rest.split_off_mut(..4),
            Some(b'T') => {
                // Name, table (4), column (2), type (4), size (2), modifier (4), format (2).
                let name = rest.iter().position(|byte| *byte == 0)?;
                let field = rest.split_off_mut(..name + 19)?;
                field.get_mut(name + 7..name + 11)
            }
            _ => None,
        };
        while let Some(oid) = next() {
            let Some(bytes) = oid.first_chunk_mut::<4>() else { return };
            let found = u32::from_be_bytes(*bytes);
            if found >= FIRST_OF_USERS {
                *bytes = self.to_home(found).to_be_bytes();
            }
        }
    }
}

/// The types that a `Parse` declares, 4 bytes each, as a server knows them. `None`: as they are. Of a shard
/// of which it is not known yet, users' types are left to itself.
pub(super) fn declared(map: Option<&TypeMap>, types: &[u8]) -> Option<Vec<u8>> {
    let oids = || types.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid));
    if map.is_some_and(TypeMap::is_same) || oids().all(|oid| oid < FIRST_OF_USERS) {
        return None;
    }
    let there = |oid| match map {
        _ if oid < FIRST_OF_USERS => oid,
        Some(map) => map.to_shard(oid),
        None => 0,
    };
    Some(oids().flat_map(|oid| there(oid).to_be_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Buffer, ColumnType, Format, put_frame, put_row_description};
    use proptest::prelude::*;

    fn names(types: &[(&str, u32)]) -> TypeNames {
        types.iter().map(|(name, oid)| ((*name).to_owned(), *oid)).collect()
    }

    /// `mood` and `pair` changed places, `home` and `there` are of one only.
    fn map() -> TypeMap {
        let home = names(&[("mood", 20000), ("pair", 20001), ("home", 20002), ("same", 20003)]);
        let there = names(&[("pair", 20000), ("mood", 20001), ("there", 20002), ("same", 20003)]);
        TypeMap::between(&home, &there)
    }

    fn bytes(oids: &[u32]) -> Vec<u8> {
        oids.iter().flat_map(|oid| oid.to_be_bytes()).collect()
    }

    #[test]
    fn what_a_client_declares() {
        let map = map();
        for (asked, expect) in [
            (&[][..], None),
            (&[0, 20, 25], None),
            (&[20000], Some(vec![20001])),
            (&[23, 20001, 0, 20003, 30000], Some(vec![23, 20000, 0, 20003, 30000])),
            (&[20002], Some(vec![NO_TYPE])),
        ] {
            assert_eq!(declared(Some(&map), &bytes(asked)), expect.map(|oids| bytes(&oids)), "{asked:?}");
        }
        let same = TypeMap::between(&names(&[("a", 20000)]), &names(&[("a", 20000)]));
        assert!(same.is_same());
        assert_eq!(declared(Some(&same), &bytes(&[20000])), None);
        assert_eq!(declared(None, &bytes(&[20000, 20])), Some(bytes(&[0, 20])));
        assert_eq!(declared(None, &bytes(&[20])), None);
    }

    #[test]
    fn what_a_server_describes() {
        let map = map();
        let mut parameters = Buffer::new();
        put_frame(&mut parameters, b't', |out| {
            out.put(&[0, 4]);
            out.put(&bytes(&[20000, 20, 20002, 30000]));
        });
        let mut frame = parameters.filled().to_vec();
        map.translate(&mut frame);
        assert_eq!(frame[7..], bytes(&[20001, 20, 0, 30000]));
        let mut rows = Buffer::new();
        let columns = [("a", ColumnType::Int8, Format::Text), ("longer", ColumnType::Text, Format::Binary)];
        put_row_description(&mut rows, columns.into_iter());
        let mut frame = rows.filled().to_vec();
        map.translate(&mut frame);
        assert_eq!(frame, rows.filled(), "PostgreSQL's own are alike everywhere");
        let at = frame.len() - 12;
        frame[at..at + 4].copy_from_slice(&20001_u32.to_be_bytes());
        let mut expect = frame.clone();
        expect[at..at + 4].copy_from_slice(&20000_u32.to_be_bytes());
        map.translate(&mut frame);
        assert_eq!(frame, expect);
    }

    proptest! {
        #[test]
        fn never_panics(mut frame: Vec<u8>, rows: bool) {
            if let Some(tag) = frame.first_mut() {
                *tag = if rows { b'T' } else { b't' };
            }
            map().translate(&mut frame);
        }
    }
}
