//! Which prepared statements a server connection has, bounded.
//!
//! There are two kinds. *Shared* ones are known by a process-wide number, one for each distinct
//! text and parameter types, and called [`PreparedNames::name`]: what clients prepare with `Parse`.
//! *Named* ones go by the client's own names: what SQL's `PREPARE` makes, and what SQL asks for by
//! name (`EXECUTE`, `pg_prepared_statements`). Whoever uses the connection next has other names:
//! those that are not its own are closed before its statements run.
//!
//! The least recently used statement makes room for a new one.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module.
#[derive(Default, Debug)]
pub struct PreparedNames {
    shared: HashMap<u64, Tick, BuildHasherDefault<NumberHasher>>,
    named: HashMap<Box<[u8]>, (u64, Tick)>,
    /// Those of them that have been asked for and may not be there yet.
    asked: Vec<Box<[u8]>>,
    tick: Tick,
    /// How many there are, for those who look on from other threads.
    shown: Arc<AtomicUsize>,
}

/// When a statement was used last.
type Tick = u64;

/// A statement that makes room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Evicted {
    /// By its number.
    Shared(u64),
    /// By its client's name.
    Named(Box<[u8]>),
}

/// How the names of shared statements begin.
const PREFIX: &str = "__pgring_";
/// The longest of them: a number in hexadecimal.
const LONGEST: usize = PREFIX.len() + 16;

/// A shared statement's name; each of its `Bind`s needs it, so it takes no allocation.
#[derive(Clone, Copy)]
pub struct SharedName {
    bytes: [u8; LONGEST],
    len: usize,
}

impl SharedName {
    fn new(id: u64) -> SharedName {
        let digits = (64 - id.leading_zeros() as usize).div_ceil(4).max(1);
        let mut name = SharedName { bytes: [0; LONGEST], len: PREFIX.len() + digits };
        name.bytes[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        let mut rest = id;
        for at in (PREFIX.len()..name.len).rev() {
            name.bytes[at] = b"0123456789abcdef"[(rest & 15) as usize];
            rest >>= 4;
        }
        name
    }
}

impl Deref for SharedName {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// For numbers that pgring gives out itself: nobody can make them collide.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Both ends of a hash have to differ where numbers do.
        let mixed = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// The number of a named statement of which nothing is known but that it may be there.
const UNKNOWN: u64 = 0;

impl PreparedNames {
    /// What shared statement `id` is called on servers.
    pub fn name(id: u64) -> SharedName {
        SharedName::new(id)
    }

    /// Could a client's name be mistaken for a shared statement's?
    pub fn is_reserved(name: &[u8]) -> bool {
        name.starts_with(PREFIX.as_bytes())
    }

    /// The next shared statement's name in a text, and what it is the name of.
    pub fn find_in(text: &[u8]) -> Option<(std::ops::Range<usize>, u64)> {
        let start = text.windows(PREFIX.len()).position(|part| part == PREFIX.as_bytes())?;
        let number = &text[start + PREFIX.len()..];
        let len = number.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let id = u64::from_str_radix(std::str::from_utf8(&number[..len]).ok()?, 16).ok()?;
        Some((start..start + PREFIX.len() + len, id))
    }

    fn now(&mut self) -> Tick {
        self.tick += 1;
        self.tick
    }

    /// Is this shared statement there? Counts as a use.
    pub fn touch(&mut self, id: u64) -> bool {
        let now = self.now();
        self.shared.get_mut(&id).map(|used| *used = now).is_some()
    }

    /// A shared statement is being prepared; returns what to close so that no more than
    /// `limit` are kept.
    pub fn insert(&mut self, id: u64, limit: usize) -> Vec<Evicted> {
        let evicted = self.make_room(limit);
        let now = self.now();
        self.shared.insert(id, now);
        self.show();
        evicted
    }

    /// A shared statement is not there after all.
    pub fn remove(&mut self, id: u64) {
        self.shared.remove(&id);
        self.show();
    }

    /// Is this statement there by this name of the client's? Counts as a use.
    pub fn touch_named(&mut self, name: &[u8], id: u64) -> bool {
        let now = self.now();
        match self.named.get_mut(name) {
            Some((known, used)) if *known == id => {
                *used = now;
                true
            }
            _ => false,
        }
    }

    /// A statement is being prepared by the client's name; returns what to close so that no
    /// more than `limit` are kept. Whoever prepares closes the name first: it may be there after
    /// an error in spite of what is known.
    pub fn ask_named(&mut self, name: &[u8], id: u64, limit: usize) -> Vec<Evicted> {
        self.asked.push(name.into());
        self.put_named(name, id, limit)
    }

    /// A statement has been prepared by the client's name.
    pub fn insert_named(&mut self, name: &[u8], id: u64) {
        self.put_named(name, id, usize::MAX);
    }

    fn put_named(&mut self, name: &[u8], id: u64, limit: usize) -> Vec<Evicted> {
        let evicted = if self.named.contains_key(name) { Vec::new() } else { self.make_room(limit) };
        let now = self.now();
        self.named.insert(name.into(), (id, now));
        self.show();
        evicted
    }

    /// A name is not there any more.
    pub fn remove_named(&mut self, name: &[u8]) {
        self.named.remove(name);
        self.show();
    }

    /// Everything that was asked has been answered without an error.
    pub fn settle_named(&mut self) {
        self.asked.clear();
    }

    /// An error: what was asked behind it was not done, and which that was cannot be told. What
    /// was asked by clients' names is prepared again before it is used. Not so what was there
    /// before: it keeps its plan, and what it was planned for.
    pub fn doubt_asked(&mut self) {
        for name in std::mem::take(&mut self.asked) {
            if let Some((id, _)) = self.named.get_mut(&name) {
                *id = UNKNOWN;
            }
        }
    }

    /// Is anything there by clients' names?
    pub fn has_named(&self) -> bool {
        !self.named.is_empty()
    }

    /// Forgets, and gives, the names for which `keep` does not hold.
    pub fn take_named_unless(&mut self, keep: impl Fn(&[u8], u64) -> bool) -> Vec<Box<[u8]>> {
        self.named.extract_if(|name, (id, _)| !keep(name, *id)).map(|(name, _)| name).collect()
    }

    /// Forgets, and gives, all shared statements.
    pub fn take_shared(&mut self) -> Vec<u64> {
        self.shared.drain().map(|(id, _)| id).collect()
    }

    /// The least recently used statements, if there is no room for one more; shared ones first, for
    /// a session's own are likely to be asked for again.
    fn make_room(&mut self, limit: usize) -> Vec<Evicted> {
        let mut evicted = Vec::new();
        while self.len() >= limit.max(1) {
            if let Some(id) = self.shared.iter().min_by_key(|(_, used)| **used).map(|(id, _)| *id) {
                self.shared.remove(&id);
                evicted.push(Evicted::Shared(id));
            } else if let Some(name) =
                self.named.iter().min_by_key(|(_, (_, used))| *used).map(|(name, _)| name.clone())
            {
                self.named.remove(&name);
                evicted.push(Evicted::Named(name));
            }
        }
        evicted
    }

    /// All are gone (`DISCARD ALL`, `DEALLOCATE ALL`).
    pub fn clear(&mut self) {
        self.shared.clear();
        self.named.clear();
        self.asked.clear();
        self.show();
    }

    fn show(&self) {
        self.shown.store(self.len(), Ordering::Relaxed);
    }

    /// Where it is told how many there are.
    pub(super) fn shown(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.shown)
    }

    /// How many are there.
    pub fn len(&self) -> usize {
        self.shared.len() + self.named.len()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_recently_used() {
        let mut names = PreparedNames::default();
        assert_eq!(names.insert(1, 2), []);
        assert_eq!(names.insert(2, 2), []);
        assert!(names.touch(1));
        assert_eq!(names.insert(3, 2), [Evicted::Shared(2)]);
        assert!(names.touch(1) && names.touch(3) && !names.touch(2));
        names.remove(3);
        assert!(!names.touch(3));
        assert_eq!(names.insert(4, 2), []);
    }

    #[test]
    fn clients_names_count_and_are_doubted_after_an_error() {
        let mut names = PreparedNames::default();
        assert_eq!(names.insert(1, 2), []);
        assert_eq!(names.ask_named(b"a", 7, 2), []);
        assert!(names.touch_named(b"a", 7) && !names.touch_named(b"a", 8) && !names.touch_named(b"b", 7));
        assert_eq!(names.ask_named(b"b", 8, 2), [Evicted::Shared(1)]);
        assert_eq!(names.ask_named(b"b", 9, 2), []);
        assert_eq!(names.ask_named(b"c", 10, 2), [Evicted::Named((*b"a").into())]);
        assert_eq!(names.len(), 2);
        names.doubt_asked();
        assert!(!names.touch_named(b"b", 9) && names.has_named());
        assert_eq!(names.take_named_unless(|name, _| name == b"b"), [(*b"c").into()]);
        assert_eq!(names.len(), 1);
    }

    #[test]
    fn what_was_there_before_an_error_is_there_after_it() {
        let mut names = PreparedNames::default();
        names.insert_named(b"a", 7);
        assert_eq!(names.ask_named(b"b", 8, 9), []);
        names.settle_named();
        assert_eq!(names.ask_named(b"c", 9, 9), []);
        names.doubt_asked();
        assert!(names.touch_named(b"a", 7) && names.touch_named(b"b", 8) && !names.touch_named(b"c", 9));
    }

    #[test]
    fn names_are_found_in_messages() {
        for number in [0, 1, 0x1f, 0xabc0, u64::MAX] {
            let name = PreparedNames::name(number);
            assert_eq!(*name, *format!("__pgring_{number:x}").as_bytes());
            let name = std::str::from_utf8(&name).unwrap();
            let text = format!("statement \"{name}\" requires 2");
            let (range, id) = PreparedNames::find_in(text.as_bytes()).unwrap();
            assert_eq!((&text[range], id), (name, number));
        }
        assert_eq!(PreparedNames::find_in(b"__pgring_ nothing"), None);
    }
}
