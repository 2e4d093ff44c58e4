//! Prepared statements: private names to clients, one name a distinct text on servers. What is
//! asked for by name in SQL is [`super::sql_prepared`]'s.
//!
//! A text is analysed once a thread however many sessions prepare it. Its number is what server
//! connections know it by ([`PreparedNames`](crate::backend::PreparedNames)).

use super::attach::Unattached;
use super::sql_prepared::mixed;
use super::state::Session;
use crate::backend::{FIRST_OF_USERS, Reading, Settings};
use crate::error::{ClientError, SqlState};
use crate::execute::ResultShape;
use crate::sql::{Lexed, Shape, Statement};
use crate::txn::Change;
use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
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
    /// Both, as a server has completed them: see [`Session::need_types`].
    pub inferred: OnceCell<Inferred>,
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
    /// Under which settings PostgreSQL parses it, and executes it.
    pub under: Under,
    /// What in the text they decide over.
    pub reading: Reading,
}

/// Parameters' types as [`Prepared`] has them.
pub(super) struct Inferred {
    types: Box<[u8]>,
    oids: Box<[u32]>,
}

/// The settings of a statement. PostgreSQL parses it once: a string that has become a timestamp
/// stays that, whatever the time zone is later. But it may do so again when a table has changed,
/// under the settings of whoever executes it. So only sessions that agree in both share a
/// statement, and a server that does not have it yet parses it under the first
/// ([`super::reparse`]).
#[derive(Clone)]
pub(super) struct Under {
    /// When it was parsed first, and
    pub first: Arc<Settings>,
    /// now.
    pub now: Arc<Settings>,
    /// `standard_conforming_strings`, when it was parsed first.
    pub strings: bool,
    /// The search path now: under another one PostgreSQL parses it anew.
    pub path: Rc<[String]>,
}

/// The pseudo-type that is none.
const UNKNOWN: u32 = 705;

/// After no change of the schema.
const NEVER: u64 = u64::MAX;

impl Prepared {
    /// Where to note its result, unless that is known.
    pub(super) fn unknown_result(&self) -> Option<ResultShape> {
        self.result.get().is_none().then(|| self.result.clone())
    }

    /// Where it goes depends on types that the client has left to the server, and they are not known yet.
    pub(super) fn lacks_types(&self) -> bool {
        let is_open = |number: &u16| {
            let index = usize::from(*number).saturating_sub(1);
            matches!(self.oids.get(index), None | Some(&(0 | UNKNOWN)))
        };
        let loose = |statement: &Statement| statement.loose.iter().any(is_open);
        self.by_sql.is_none() && self.shape.statements.iter().any(loose) && self.inferred.get().is_none()
    }

    /// A server has said of which types the parameters are. Users' types, whose
    /// OIDs may change, stay open.
    pub(super) fn infer(&self, types: &[u32]) {
        let mut oids = self.oids.to_vec();
        oids.resize(oids.len().max(types.len()), 0);
        for (known, told) in oids.iter_mut().zip(types) {
            if *known == 0 || *known == UNKNOWN {
                *known = if *told < FIRST_OF_USERS { *told } else { 0 };
            }
        }
        let bytes: Vec<u8> = oids.iter().flat_map(|oid| oid.to_be_bytes()).collect();
        self.inferred.get_or_init(|| Inferred { types: bytes.into(), oids: oids.into() });
    }

    /// [`Prepared::types`] and what has been inferred.
    pub(super) fn known_types(&self) -> &[u8] {
        self.inferred.get().map_or(&self.types, |inferred| &inferred.types)
    }

    /// [`Prepared::oids`] and what has been inferred.
    pub(super) fn known_oids(&self) -> &[u32] {
        self.inferred.get().map_or(&self.oids, |inferred| &inferred.oids)
    }

    fn is_under(&self, under: &Under) -> bool {
        self.under.first.read_alike(&under.first, self.reading)
            && self.under.now.read_alike(&under.now, self.reading)
    }
}

/// What the session has by each of its names.
pub(super) type Statements = hashbrown::HashMap<Box<[u8]>, Rc<Prepared>>;

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
        under: &Under,
        make: impl FnOnce() -> Result<Prepared, E>,
    ) -> Result<Rc<Prepared>, E> {
        if text.len() > LONG {
            return Ok(Rc::new(make()?));
        }
        let same = |p: &&Rc<Prepared>| {
            let numbers = p.context == context && p.variant == variant;
            numbers && *p.text == *text && *p.types == *types && p.is_under(under)
        };
        if let Some(prepared) = self.recent.iter().rev().take(4).find(same) {
            return Ok(Rc::clone(prepared));
        }
        let key: Key = (text.into(), types.into(), context, variant);
        if let Some(prepared) = self.known.get(&key).and_then(Weak::upgrade) {
            // A number of settings is no proof.
            return if prepared.is_under(under) { Ok(prepared) } else { Ok(Rc::new(make()?)) };
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

impl Interner {
    /// Whoever prepares the text anew gets another statement.
    pub(super) fn forget(&mut self, statement: &Rc<Prepared>) {
        self.recent.retain(|recent| !Rc::ptr_eq(recent, statement));
        self.known.retain(|_, known| known.as_ptr() != Rc::as_ptr(statement));
    }
}

impl Session {
    /// A text as a statement, analysed at most once.
    pub(super) fn prepare(&mut self, text: &[u8], types: &[u8]) -> Result<Rc<Prepared>, ClientError> {
        self.prepare_under(text, types, &self.under_now())
    }

    fn prepare_under(
        &mut self,
        text: &[u8],
        types: &[u8],
        under: &Under,
    ) -> Result<Rc<Prepared>, ClientError> {
        let variant = self.variant(text, under);
        let statement = self.prepare_variant(text, types, variant, under)?;
        match self.executed_id(&statement.shape) {
            Some(id) => self.prepare_variant(text, types, variant ^ mixed(id), under),
            None => Ok(statement),
        }
    }

    fn prepare_variant(
        &mut self,
        text: &[u8],
        types: &[u8],
        variant: u64,
        under: &Under,
    ) -> Result<Rc<Prepared>, ClientError> {
        let plain = self.context_with(under.strings)?;
        let context = self.context_of_prepared(under.strings)?;
        let schema = self.database.schema_changes.load(Ordering::SeqCst);
        let worker = Rc::clone(&self.worker);
        let mut interner = worker.interner.borrow_mut();
        interner.intern(text, types, (context, variant), under, || {
            let mut lexed = Lexed::default();
            let shape = self.shape_with(text, &mut lexed, plain, under.strings)?;
            let unknown_table = self.unknown_table.replace(false);
            let oids = types.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid)).collect();
            let id = worker.new_number();
            let reading = Reading::of(text);
            let (text, types, under) = (text.into(), types.into(), under.clone());
            Ok(Prepared {
                id,
                text,
                by_sql: None,
                types,
                oids,
                inferred: OnceCell::new(),
                shape,
                lexed,
                unknown_table,
                variant,
                context,
                result: ResultShape::default(),
                result_as_of: Cell::new(schema),
                under,
                reading,
            })
        })
    }

    /// The settings that hold now, those of an open transaction included.
    pub(super) fn settings_in_force(&self) -> Arc<Settings> {
        let reads = |name: &str| Reading::MOST.depends_on(name);
        let matters = self.tx.changes().iter().any(|change| match change {
            Change::Set(name, ..) | Change::Reset(name) => reads(name),
            Change::ResetAll => true,
        });
        if matters {
            Arc::new(self.tx.in_force(&self.initial, &self.settings))
        } else {
            Arc::clone(&self.settings)
        }
    }

    pub(super) fn under_now(&self) -> Under {
        let now = self.settings_in_force();
        Under {
            first: Arc::clone(&now),
            now,
            strings: self.standard_conforming_strings,
            path: Rc::clone(&self.search_path),
        }
    }

    /// What tells apart what one text means: the settings it is parsed and executed under
    /// ([`Under`]), and the schema it was prepared in. A string that may stand for a moment (`'now'`,
    /// `'today'`) is nobody else's.
    pub(super) fn variant(&self, text: &[u8], under: &Under) -> u64 {
        let moment = [&b"now"[..], b"today", b"tomorrow", b"yesterday"];
        let mentions = |word: &&[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        if (text.contains(&b'\'') || text.contains(&b'$')) && moment.iter().any(mentions) {
            return self.worker.new_number();
        }
        let reading = Reading::of(text);
        let schema = mixed(self.database.schema_changes.load(Ordering::SeqCst));
        let now = under.now.fingerprint(reading);
        if under.first.read_alike(&under.now, reading) {
            return schema ^ now;
        }
        schema ^ now ^ mixed(under.first.fingerprint(reading))
    }

    /// The same statement under another context. Its client has been told what result it has: it
    /// is not one with those that have another.
    fn as_told(&mut self, found: &Prepared, under: &Under) -> Result<Rc<Prepared>, ClientError> {
        let renewed = self.prepare_under(&found.text, &found.types, under)?;
        match found.result.get() {
            Some(told) if renewed.result.get() != Some(told) => {
                let variant = renewed.variant ^ mixed(told);
                let renewed = self.prepare_variant(&found.text, &found.types, variant, under)?;
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
        let now = self.settings_in_force();
        let is_as_it_was = found.under.now.read_alike(&now, found.reading);
        if is_as_it_was && found.context == self.context_of_prepared(found.under.strings)? {
            return Ok(found);
        }
        let under = self.renewed(&found, now);
        let renewed = match found.by_sql {
            Some(_) => self.made_by_sql(&found.text, &under)?,
            None => self.as_told(&found, &under)?,
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

    /// What a statement is executed under now, and parsed under where a server does not have it.
    fn renewed(&self, found: &Prepared, now: Arc<Settings>) -> Under {
        let (first, strings) = (&found.under.first, found.under.strings);
        let first = if found.under.path == self.search_path {
            now.reading_as(first, found.reading)
        } else {
            now.lexing_as(first)
        };
        Under { first: Arc::new(first), now, strings, path: Rc::clone(&self.search_path) }
    }
}
