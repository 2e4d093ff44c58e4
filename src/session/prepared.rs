//! Prepared statements: private names to clients, one name a distinct text on servers.
//!
//! A text is analysed once a thread however many sessions prepare it. Its number is what server
//! connections know it by ([`PreparedNames`](crate::backend::PreparedNames)).

use crate::sql::{Lexed, Shape};
use std::collections::HashMap;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

/// A statement as a client prepared it.
pub(super) struct Prepared {
    /// What servers know it by; never used for another text.
    pub id: u64,
    /// SQL text.
    pub text: Box<[u8]>,
    /// Parameter type OIDs as in `Parse`: 4 bytes each.
    pub types: Box<[u8]>,
    /// The same, to route by.
    pub oids: Box<[u32]>,
    /// What it means.
    pub shape: Rc<Shape>,
    /// It names a table that is not known.
    pub unknown_table: bool,
    /// Its literals and hints.
    pub lexed: Lexed,
    /// What the analysis depended on: under another context the text is analysed anew.
    pub context: u64,
}

/// The texts of a thread.
pub(super) struct Interner {
    known: HashMap<Key, Weak<Prepared>>,
    /// Statements parsed lately stay, for those who parse anew each time.
    recent: VecDeque<Rc<Prepared>>,
    next: u64,
}

type Key = (Box<[u8]>, Box<[u8]>, u64);

/// How many unnamed statements a thread remembers.
const RECENT: usize = 256;

impl Interner {
    /// Numbers of different threads are different.
    pub(super) fn new(thread: usize) -> Interner {
        Interner { known: HashMap::new(), recent: VecDeque::new(), next: ((thread as u64) << 48) + 1 }
    }

    /// The statement with this text, these types and this context; made by `make` if it is new.
    pub(super) fn intern(
        &mut self,
        text: &[u8],
        types: &[u8],
        context: u64,
        make: impl FnOnce(u64) -> Prepared,
    ) -> Rc<Prepared> {
        let same = |p: &&Rc<Prepared>| p.context == context && *p.text == *text && *p.types == *types;
        if let Some(prepared) = self.recent.iter().rev().take(4).find(same) {
            return Rc::clone(prepared);
        }
        let key: Key = (text.into(), types.into(), context);
        if let Some(prepared) = self.known.get(&key).and_then(Weak::upgrade) {
            return prepared;
        }
        let prepared = Rc::new(make(self.next));
        self.next += 1;
        self.known.insert(key, Rc::downgrade(&prepared));
        self.recent.push_back(Rc::clone(&prepared));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
            if self.known.len() > 4 * RECENT && self.next % 1024 == 0 {
                self.known.retain(|_, statement| statement.strong_count() > 0);
            }
        }
        prepared
    }
}
