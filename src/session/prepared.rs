//! Prepared statements: private names to clients, one name a distinct text on servers. What is
//! asked for by name in SQL is [`super::sql_prepared`]'s.
//!
//! A text is analysed once a thread however many sessions prepare it. Its number is what server
//! connections know it by ([`PreparedNames`](crate::backend::PreparedNames)).

use super::attach::Unattached;
use super::sql_prepared::mixed;
use super::state::Session;
use crate::error::{ClientError, SqlState};
use crate::execute::{ClientNames, ResultShape};
use crate::sql::{Lexed, Shape};
use std::cell::Cell;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::atomic::Ordering;

/// A statement as a client prepared it.
pub(super) struct Prepared {
    /// What servers know it by; never used for another text.
    pub id: u64,
    /// SQL text.
    pub text: Box<[u8]>,
    /// SQL's `PREPARE` makes it, and this is the name it gives: the text is that of the `PREPARE`.
    pub by_sql: Option<Box<[u8]>>,
    /// Parameter type OIDs as in `Parse`: 4 bytes each.
    pub types: Box<[u8]>,
    /// The same, to route by.
    pub oids: Box<[u32]>,
    /// What it means; of a `PREPARE`, what that prepares.
    pub shape: Rc<Shape>,
    /// It names a table that is not known.
    pub unknown_table: bool,
    /// Its literals and hints.
    pub lexed: Lexed,
    /// What tells it from the same text prepared under other settings.
    pub variant: u64,
    /// What the analysis depended on: under another context the text is analysed anew.
    pub context: u64,
    /// The result that clients have been told it has.
    pub result: ResultShape,
    /// The last of the schema's changes after which servers were known to give that result.
    pub result_as_of: Cell<u64>,
}

/// After no change of the schema.
const NEVER: u64 = u64::MAX;

impl Prepared {
    /// Where to note its result, unless that is known.
    pub(super) fn unknown_result(&self) -> Option<ResultShape> {
        self.result.get().is_none().then(|| self.result.clone())
    }
}

/// What the session has by each of its names.
pub(super) type Statements = HashMap<Box<[u8]>, Rc<Prepared>>;

impl ClientNames for Statements {
    fn client_name(&self, id: u64) -> Option<&[u8]> {
        self.iter().find(|(_, statement)| statement.id == id).map(|(name, _)| &**name)
    }
}

/// The texts of a thread.
#[derive(Default)]
pub(super) struct Interner {
    known: HashMap<Key, Weak<Prepared>>,
    /// Statements parsed lately stay, for those who parse anew each time.
    recent: VecDeque<Rc<Prepared>>,
    made: u32,
}

/// Text, parameter types, context, and what else one text may mean two things by: see
/// [`super::extended`].
type Key = (Box<[u8]>, Box<[u8]>, u64, u64);

/// How many statements a thread remembers that nobody has.
const RECENT: usize = 256;
/// Longer texts are not shared: they are rarely met twice.
const LONG: usize = 64 * 1024;

impl Interner {
    /// The statement with this text, these types, this context and variant; made by `make` if it
    /// is new. Nothing is kept of one that cannot be made.
    pub(super) fn intern<E>(
        &mut self,
        text: &[u8],
        types: &[u8],
        (context, variant): (u64, u64),
        make: impl FnOnce() -> Result<Prepared, E>,
    ) -> Result<Rc<Prepared>, E> {
        if text.len() > LONG {
            return Ok(Rc::new(make()?));
        }
        let same = |p: &&Rc<Prepared>| {
            p.context == context && p.variant == variant && *p.text == *text && *p.types == *types
        };
        if let Some(prepared) = self.recent.iter().rev().take(4).find(same) {
            return Ok(Rc::clone(prepared));
        }
        let key: Key = (text.into(), types.into(), context, variant);
        if let Some(prepared) = self.known.get(&key).and_then(Weak::upgrade) {
            return Ok(prepared);
        }
        let prepared = Rc::new(make()?);
        self.known.insert(key, Rc::downgrade(&prepared));
        self.recent.push_back(Rc::clone(&prepared));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.made = self.made.wrapping_add(1);
        if self.made.is_multiple_of(1024) {
            self.known.retain(|_, statement| statement.strong_count() > 0);
        }
        Ok(prepared)
    }
}

impl Session {
    /// A text as a statement, analysed at most once.
    pub(super) fn prepare(&mut self, text: &[u8], types: &[u8]) -> Result<Rc<Prepared>, ClientError> {
        let variant = self.variant(text);
        let statement = self.prepare_variant(text, types, variant)?;
        match self.executed_id(&statement.shape) {
            Some(id) => self.prepare_variant(text, types, variant ^ mixed(id)),
            None => Ok(statement),
        }
    }

    pub(super) fn prepare_variant(
        &mut self,
        text: &[u8],
        types: &[u8],
        variant: u64,
    ) -> Result<Rc<Prepared>, ClientError> {
        let context = self.context()?;
        let schema = self.database.schema_changes.load(Ordering::SeqCst);
        let worker = Rc::clone(&self.worker);
        let mut interner = worker.interner.borrow_mut();
        interner.intern(text, types, (context, variant), || {
            let mut lexed = Lexed::default();
            let shape = self.shape_with(text, &mut lexed, context)?;
            let unknown_table = self.unknown_table.replace(false);
            let oids = types.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid)).collect();
            let id = worker.new_number();
            let (text, types) = (text.into(), types.into());
            Ok(Prepared {
                id,
                text,
                by_sql: None,
                types,
                oids,
                shape,
                lexed,
                unknown_table,
                variant,
                context,
                result: ResultShape::default(),
                result_as_of: Cell::new(schema),
            })
        })
    }

    /// What a server makes of a text when it parses it depends on settings too: a string that
    /// becomes a timestamp is read in the session's time zone and date style, there and then.
    /// Texts with such strings are shared only between sessions whose settings are alike, and not
    /// at all if they may stand for a moment (`'now'`, `'today'`). And what was prepared before the
    /// schema changed is not what the same text means now.
    pub(super) fn variant(&self, text: &[u8]) -> u64 {
        let schema = mixed(self.database.schema_changes.load(Ordering::SeqCst));
        if !text.contains(&b'\'') && !text.contains(&b'$') {
            return schema;
        }
        let moment = [&b"now"[..], b"today", b"tomorrow", b"yesterday"];
        let mentions = |word: &&[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        if !self.tx.changes().is_empty() || (text.contains(&b'\'') && moment.iter().any(mentions)) {
            return self.worker.new_number();
        }
        self.settings.fingerprint_without("application_name") ^ schema
    }

    /// The same statement under another context. Its client has been told what result it has: it
    /// is not one with those that have another.
    fn renewed(&mut self, found: &Prepared) -> Result<Rc<Prepared>, ClientError> {
        let renewed = self.prepare(&found.text, &found.types)?;
        match found.result.get() {
            Some(told) if renewed.result.get() != Some(told) => {
                let variant = renewed.variant ^ mixed(told);
                let renewed = self.prepare_variant(&found.text, &found.types, variant)?;
                renewed.result.set(told);
                renewed.result_as_of.set(NEVER);
                Ok(renewed)
            }
            _ => Ok(renewed),
        }
    }

    /// The statement of this name; analysed anew if the schema or the search path have changed.
    pub(super) fn statement(&mut self, name: &[u8]) -> Result<Rc<Prepared>, Unattached> {
        if self.relay.awaits_ready() && self.batch.hangs(name) {
            return Err(Unattached::Later);
        }
        let found = if name.is_empty() { self.unnamed.clone() } else { self.statements.get(name).cloned() };
        let Some(found) = found else {
            return Err(if name.is_empty() {
                ClientError::error(SqlState::NO_STATEMENT, "unnamed prepared statement does not exist")
            } else {
                let name = String::from_utf8_lossy(name);
                ClientError::error(
                    SqlState::NO_STATEMENT,
                    format!("prepared statement \"{name}\" does not exist"),
                )
            }
            .into());
        };
        if found.context == self.context()? {
            return Ok(found);
        }
        let renewed = match found.by_sql {
            Some(_) => self.made_by_sql(&found.text)?,
            None => self.renewed(&found)?,
        };
        if let Some(held) = &mut self.held
            && found.by_sql.is_some()
            && held.lease.prepared.touch_named(name, found.id)
        {
            // The server analyses its own anew where it has to.
            held.lease.prepared.insert_named(name, renewed.id);
        }
        if name.is_empty() {
            self.unnamed = Some(Rc::clone(&renewed));
        } else {
            self.statements.insert(name.into(), Rc::clone(&renewed));
        }
        Ok(renewed)
    }
}
