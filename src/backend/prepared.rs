//! Which prepared statements a server connection has, bounded.
//!
//! Statements are known by a process-wide number, one for each distinct text and parameter
//! types; on servers they are called [`PreparedNames::name`]. The least recently used one makes
//! room for a new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module.
#[derive(Default, Debug)]
pub struct PreparedNames {
    /// Number to the tick of its last use.
    held: HashMap<u64, u64>,
    tick: u64,
    /// How many are held, for those who look on from other threads.
    shown: Arc<AtomicUsize>,
}

impl PreparedNames {
    /// What statement `id` is called on servers.
    pub fn name(id: u64) -> String {
        format!("__pgring_{id:x}")
    }

    /// Is it there? Counts as a use.
    pub fn touch(&mut self, id: u64) -> bool {
        self.tick += 1;
        let tick = self.tick;
        self.held.get_mut(&id).map(|used| *used = tick).is_some()
    }

    /// It is being prepared; returns the one to close so that no more than `limit` are kept.
    pub fn insert(&mut self, id: u64, limit: usize) -> Option<u64> {
        self.tick += 1;
        let evicted = if self.held.len() >= limit.max(1) {
            self.held.iter().min_by_key(|(_, used)| **used).map(|(id, _)| *id)
        } else {
            None
        };
        if let Some(id) = evicted {
            self.held.remove(&id);
        }
        self.held.insert(id, self.tick);
        self.show();
        evicted
    }

    /// It is not there after all.
    pub fn remove(&mut self, id: u64) {
        self.held.remove(&id);
        self.show();
    }

    /// All are gone (`DISCARD ALL`, `DEALLOCATE ALL`).
    pub fn clear(&mut self) {
        self.held.clear();
        self.show();
    }

    fn show(&self) {
        self.shown.store(self.held.len(), Ordering::Relaxed);
    }

    /// Where it is told how many there are.
    pub(super) fn shown(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.shown)
    }

    /// How many are there.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_recently_used() {
        let mut names = PreparedNames::default();
        assert_eq!(names.insert(1, 2), None);
        assert_eq!(names.insert(2, 2), None);
        assert!(names.touch(1));
        assert_eq!(names.insert(3, 2), Some(2));
        assert!(names.touch(1) && names.touch(3) && !names.touch(2));
        names.remove(3);
        assert!(!names.touch(3));
        assert_eq!(names.insert(4, 2), None);
    }
}
