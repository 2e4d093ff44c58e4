//! The plan cache: normalized text → [`Shape`].
//!
//! One a thread, without a lock. An entry is found by XXH3-64 and then compared byte by byte: a
//! collision of hashes must not route a statement by another one's shape. Memory is bounded by
//! bytes, not by entries, and shapes of very long texts are not kept: they are rarely seen twice
//! and would push out the rest. Eviction is CLOCK: a look-up sets one bit and moves nothing.

use super::{Kind, Lexed, Preparation, Shape, Statement, Target};
use hashbrown::HashTable;
use std::rc::Rc;
use twox_hash::XxHash3_64;

/// Longer normalized texts are analysed each time.
const MOST_KEPT_BYTES: usize = 64 << 10;

/// What an entry costs beside its text and its shape.
const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<Shape>() + 32;

/// Analyses of the texts seen lately.
pub struct PlanCache {
    max_bytes: usize,
    bytes: usize,
    /// Positions in `entries`.
    table: HashTable<usize>,
    entries: Vec<Entry>,
    hand: usize,
}

struct Entry {
    hash: u64,
    context: u64,
    normalized: Box<[u8]>,
    shape: Rc<Shape>,
    bytes: usize,
    /// Looked up since the hand last came by.
    used: bool,
}

impl PlanCache {
    /// Eight mebibytes a thread.
    pub const DEFAULT_BYTES: usize = 8 << 20;

    /// An empty cache that will hold `max_bytes` at most.
    pub fn new(max_bytes: usize) -> PlanCache {
        PlanCache { max_bytes, bytes: 0, table: HashTable::new(), entries: Vec::new(), hand: 0 }
    }

    /// The shape of the text last read into `lexed`. `context` stands for everything else the
    /// analysis depended on: the schema's epoch, the search path, `standard_conforming_strings`.
    pub fn lookup(&mut self, lexed: &Lexed, context: u64) -> Option<Rc<Shape>> {
        if !lexed.is_complete() {
            return None;
        }
        let normalized = lexed.normalized();
        let entries = &mut self.entries;
        let &position = self.table.find(hash(normalized, context), |&position| {
            let entry = &entries[position];
            entry.context == context && *entry.normalized == *normalized
        })?;
        let entry = &mut entries[position];
        entry.used = true;
        Some(Rc::clone(&entry.shape))
    }

    /// Remembers a shape. To be called after [`PlanCache::lookup`] has found none.
    pub fn insert(&mut self, lexed: &Lexed, context: u64, shape: Rc<Shape>) {
        let normalized = lexed.normalized();
        let bytes = ENTRY_BYTES + normalized.len() + heap_bytes(&shape);
        if !lexed.is_complete() || normalized.len() > MOST_KEPT_BYTES || bytes > self.max_bytes {
            return;
        }
        if self.lookup(lexed, context).is_some() {
            return;
        }
        while self.bytes + bytes > self.max_bytes {
            self.evict();
        }
        let hash = hash(normalized, context);
        let position = self.entries.len();
        self.entries.push(Entry { hash, context, normalized: normalized.into(), shape, bytes, used: false });
        let entries = &self.entries;
        self.table.insert_unique(hash, position, |&position| entries[position].hash);
        self.bytes += bytes;
    }

    /// How many shapes are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What they cost, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the first entry under the hand that was not used since the hand's last round. The
    /// last entry, often the newest, takes its place; the hand goes on, or the newest would be
    /// dropped first.
    fn evict(&mut self) {
        loop {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            let entry = &mut self.entries[self.hand];
            if !std::mem::replace(&mut entry.used, false) {
                break;
            }
            self.hand += 1;
        }
        self.forget(self.hand);
        let last = self.entries.len() - 1;
        if self.hand != last {
            let moved = self.entries[last].hash;
            if let Some(position) = self.table.find_mut(moved, |&position| position == last) {
                *position = self.hand;
            }
        }
        self.bytes -= self.entries.swap_remove(self.hand).bytes;
        self.hand += 1;
    }

    fn forget(&mut self, gone: usize) {
        let hash = self.entries[gone].hash;
        if let Ok(entry) = self.table.find_entry(hash, |&position| position == gone) {
            entry.remove();
        }
    }
}

fn hash(normalized: &[u8], context: u64) -> u64 {
    XxHash3_64::oneshot(normalized) ^ context.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What a shape has allocated, about.
fn heap_bytes(shape: &Shape) -> usize {
    let statement = |statement: &Statement| {
        let kind = match &statement.kind {
            Kind::Savepoint(name) | Kind::RollbackTo(name) | Kind::Release(name) => name.len(),
            Kind::Set { name, .. } | Kind::Reset { name } => name.len(),
            Kind::SetConfig(calls) => {
                size_of_val(calls.as_slice()) + calls.iter().map(|call| call.name.len()).sum::<usize>()
            }
            Kind::ShowOwn(name) | Kind::Execute(name) | Kind::Declare(name) => name.len(),
            Kind::Prepare(made) => {
                size_of::<Preparation>() + made.name.len() + 4 * made.types.len() + target_bytes(&made.inner)
            }
            Kind::Deallocate(name) => name.as_ref().map_or(0, String::len),
            _ => 0,
        };
        size_of::<Statement>() + kind + target_bytes(statement)
    };
    let mentions = &shape.mentions;
    let names: usize = mentions.names.iter().map(|name| size_of::<String>() + name.len()).sum();
    let arguments =
        mentions.execution.as_ref().map_or(0, |execution| size_of_val(execution.arguments.as_slice()));
    shape.statements.iter().map(statement).sum::<usize>() + names + arguments
}

fn target_bytes(statement: &Statement) -> usize {
    match &statement.target {
        Target::Keys { keys, .. } => size_of_val(keys.as_slice()),
        Target::Everywhere { table, column, .. } => table.len() + column.len(),
        Target::Refused(message, hint) => message.len() + hint.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Access;

    fn lexed(text: &str) -> Lexed {
        let mut lexed = Lexed::default();
        lexed.lex(text.as_bytes(), true).unwrap();
        lexed
    }

    fn shape(name: &str) -> Rc<Shape> {
        let kind = Kind::Savepoint(name.to_owned());
        let statement = Statement {
            kind,
            target: Target::Nothing,
            access: Access::Read,
            pin: None,
            at_primary: false,
            loose: Vec::new(),
        };
        Rc::new(Shape { statements: vec![statement], ..Shape::default() })
    }

    #[test]
    fn texts_that_differ_in_literals_share_a_shape() {
        let mut cache = PlanCache::new(PlanCache::DEFAULT_BYTES);
        cache.insert(&lexed("select * from t where id = 1"), 7, shape("a"));
        assert_eq!(cache.lookup(&lexed("SELECT  * FROM t WHERE id=22 -- x"), 7), Some(shape("a")));
        assert_eq!(cache.lookup(&lexed("select * from t where id = 1"), 8), None);
        assert_eq!(cache.lookup(&lexed("select * from t where id = '1'"), 7), None);
        cache.insert(&lexed("select * from t where id = 3"), 7, shape("b"));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn a_text_that_cannot_be_read_is_not_an_empty_one() {
        let mut cache = PlanCache::new(PlanCache::DEFAULT_BYTES);
        cache.insert(&lexed(""), 0, shape("empty"));
        let mut broken = lexed("select 1");
        broken.lex(b"delete from t where 'x", true).unwrap_err();
        assert_eq!(cache.lookup(&broken, 0), None);
        assert_eq!(cache.lookup(&Lexed::default(), 0), None);
        cache.insert(&broken, 0, shape("broken"));
        assert_eq!(cache.lookup(&lexed(" "), 0), Some(shape("empty")));
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut cache = PlanCache::new(64 << 10);
        let hot = lexed("select hot");
        cache.insert(&hot, 0, shape("hot"));
        for n in 0..5000 {
            let text = lexed(&format!("select c{n} from t{n}"));
            cache.insert(&text, 0, shape(&n.to_string()));
            assert!(cache.bytes() <= 64 << 10);
            assert_eq!(cache.lookup(&hot, 0), Some(shape("hot")), "{n}");
        }
        assert!(cache.len() > 100);
        // Two that are new take turns without pushing each other out.
        let (one, other) = (lexed("select one"), lexed("select other"));
        cache.insert(&one, 0, shape("one"));
        cache.insert(&other, 0, shape("other"));
        assert_eq!(cache.lookup(&one, 0), Some(shape("one")));
        assert_eq!(cache.lookup(&other, 0), Some(shape("other")));
        assert_eq!(cache.table.len(), cache.entries.len());
        assert_eq!(cache.bytes, cache.entries.iter().map(|entry| entry.bytes).sum::<usize>());
        let long = lexed(&"x,".repeat(40 << 10));
        cache.insert(&long, 0, shape("long"));
        assert_eq!(cache.lookup(&long, 0), None);
    }
}
