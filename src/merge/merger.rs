//! A k-way merge of sorted streams, with `LIMIT` and `OFFSET`.
//!
//! The merger never sees a row: it is offered the sort keys of each stream's head and says whose
//! head is next. It keeps the streams in the order of their heads, so that a row costs a binary
//! search among them. Ties go to the stream with the lower number.

use super::order::SortType;
use super::row::{self, Malformed};
use crate::sql::distribute::SortKey;
use std::cmp::Ordering;

/// What [`Merger::next`] wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// The head of this stream, or word that it has ended.
    Offer(usize),
    /// This stream's head is the answer's next row.
    Take(usize),
    /// This stream's head is left out.
    Skip(usize),
    /// The answer is complete.
    Done,
}

/// See the module.
#[derive(Debug)]
pub struct Merger {
    keys: Vec<(SortType, SortKey)>,
    heads: Vec<Head>,
    /// Streams that have been offered, the one with the first head last.
    order: Vec<usize>,
    skip: u64,
    left: Option<u64>,
}

#[derive(Debug, Default)]
struct Head {
    /// The keys as they stood in the row: lengths and values.
    keys: Vec<u8>,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Wanted,
    Offered,
    Ended,
}

impl Merger {
    /// Of so many streams, each of them sorted by these keys.
    pub fn new(keys: Vec<(SortType, SortKey)>, streams: usize, offset: u64, limit: Option<u64>) -> Merger {
        let heads = (0..streams).map(|_| Head::default()).collect();
        Merger { keys, heads, order: Vec::with_capacity(streams), skip: offset, left: limit }
    }

    /// What is to be done next.
    pub fn next(&self) -> Next {
        if self.left == Some(0) {
            return Next::Done;
        }
        if let Some(wanted) = self.heads.iter().position(|head| head.state == State::Wanted) {
            return Next::Offer(wanted);
        }
        match self.order.last() {
            None => Next::Done,
            Some(first) if self.skip > 0 => Next::Skip(*first),
            Some(first) => Next::Take(*first),
        }
    }

    /// The keys of a stream's head: the values of a `DataRow` from the first key on.
    ///
    /// # Errors
    /// They are not of the keys' types.
    pub fn offer(&mut self, stream: usize, keys: &[u8]) -> Result<(), Malformed> {
        let mut kept = std::mem::take(&mut self.heads[stream].keys);
        kept.clear();
        kept.extend_from_slice(keys);
        self.heads[stream] = Head { keys: kept, state: State::Offered };
        let (mut low, mut high) = (0, self.order.len());
        // `order` is descending: the new one stands behind all that come after it.
        while low < high {
            let middle = (low + high) / 2;
            match self.compare(self.order[middle], stream)? {
                Ordering::Greater => low = middle + 1,
                _ => high = middle,
            }
        }
        self.order.insert(low, stream);
        Ok(())
    }

    /// The stream has no more rows.
    pub fn end(&mut self, stream: usize) {
        self.heads[stream].state = State::Ended;
    }

    /// The first head was taken, or skipped.
    pub fn taken(&mut self) {
        let Some(stream) = self.order.pop() else { return };
        self.heads[stream].state = State::Wanted;
        if self.skip > 0 {
            self.skip -= 1;
        } else if let Some(left) = &mut self.left {
            *left -= 1;
        }
    }

    fn compare(&self, a: usize, b: usize) -> Result<Ordering, Malformed> {
        let count = u16::try_from(self.keys.len()).map_err(|_| Malformed)?;
        let values = |stream: usize| row::values_of(count, &self.heads[stream].keys);
        let (mut left, mut right) = (values(a), values(b));
        for (kind, key) in &self.keys {
            let (left, right) = (left.next().ok_or(Malformed)??, right.next().ok_or(Malformed)??);
            let order = match (left, right) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) if key.nulls_first => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) if key.nulls_first => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(left), Some(right)) => {
                    let order = kind.compare(left, right)?;
                    if key.descending { order.reverse() } else { order }
                }
            };
            if order != Ordering::Equal {
                return Ok(order);
            }
        }
        Ok(a.cmp(&b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(n: Option<i32>) -> Vec<u8> {
        match n {
            None => (-1_i32).to_be_bytes().to_vec(),
            Some(n) => [4i32.to_be_bytes(), n.to_be_bytes()].concat(),
        }
    }

    fn merge(
        streams: &[Vec<Option<i32>>],
        key: SortKey,
        offset: u64,
        limit: Option<u64>,
    ) -> Vec<Option<i32>> {
        let mut merger = Merger::new(vec![(SortType::Signed(4), key)], streams.len(), offset, limit);
        let mut at = vec![0; streams.len()];
        let mut merged = Vec::new();
        loop {
            match merger.next() {
                Next::Offer(stream) => match streams[stream].get(at[stream]) {
                    Some(n) => {
                        merger.offer(stream, &value(*n)).unwrap();
                        at[stream] += 1;
                    }
                    None => merger.end(stream),
                },
                Next::Take(stream) => {
                    merged.push(streams[stream][at[stream] - 1]);
                    merger.taken();
                }
                Next::Skip(_) => merger.taken(),
                Next::Done => return merged,
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_one_sorted_list(
            mut streams in proptest::collection::vec(proptest::collection::vec(proptest::option::of(-9i32..9), 0..12), 1..7),
            descending: bool,
            nulls_first: bool,
            offset in 0u64..9,
            limit in proptest::option::of(0u64..9),
        ) {
            let key = SortKey { descending, nulls_first, bytewise: false };
            let rank = |n: &Option<i32>| match n {
                None => (if nulls_first { -1 } else { 1 }, 0),
                Some(n) => (0, if descending { -n } else { *n }),
            };
            streams.iter_mut().for_each(|stream| stream.sort_by_key(rank));
            let mut all = streams.concat();
            all.sort_by_key(rank);
            let all = all.into_iter().skip(offset.try_into().unwrap());
            let expected: Vec<_> = match limit {
                Some(limit) => all.take(limit.try_into().unwrap()).collect(),
                None => all.collect(),
            };
            prop_assert_eq!(merge(&streams, key, offset, limit), expected);
        }
    }
}
