//! What the client has asked since its last `Sync`, and what of its statements hangs on answers
//! that are still to come.
//!
//! A client may send batch after batch without waiting. They go to the server as they come as
//! long as nothing that is still unanswered could decide where the next one belongs or what it
//! means ([`Session::may_work_ahead`]); else the message waits in the inbox
//! ([`Session::postpone`]). So a batch is counted twice: as the one being sent, and as the one
//! being answered.

use super::prepared::{Prepared, Statements};
use super::ready::Effect;
use super::state::Session;
use crate::backend::Settings;
use crate::execute::ClientNames;
use crate::ring::ShardId;
use crate::sql::{Kind, Shape};
use crate::txn::Phase;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
pub(super) struct Batch {
    pub(super) deferred: Vec<Deferred>,
    /// Changes to the client's statements that have not been answered, in order.
    unconfirmed: VecDeque<Unconfirmed>,
    /// The number of the batch that the client is sending, and of the one answered next.
    number: u32,
    answering: u32,
    /// Something has been asked.
    begun: bool,
    /// Something has been sent to the held server.
    sent: bool,
    /// A portal has been made there: data may have been touched.
    run: bool,
    /// After an error everything up to the `Sync` is ignored.
    skipping: bool,
    /// What has been sent may change how what follows is to be taken.
    unsure: bool,
    /// Something other than queries and changes has been sent: where the transaction is behind it is
    /// not known ahead.
    odd: bool,
    /// A `COMMIT` has been sent.
    commits: bool,
    /// The end of a transaction has been sent, and no `Sync` since.
    ends: bool,
    /// What the server is to be brought in line with, if not with the session's settings.
    wanted: Option<Arc<Settings>>,
    aimed: bool,
    /// A statement has failed since the last `ReadyForQuery`.
    pub(super) failed: bool,
    /// The transaction was begun on the server since the last `ReadyForQuery`.
    pub(super) opened: bool,
    /// The server is being brought in line; it could not be.
    pub(super) aligning: bool,
    pub(super) misaligned: bool,
    /// It has been, since the last `ReadyForQuery`.
    pub(super) aligned: bool,
    /// Has a `COMMIT` been answered since the last `ReadyForQuery`?
    pub(super) committed: Committed,
    /// The schema has been changed by what ran.
    pub(super) schema_changed: bool,
    /// Functions, or what calls them.
    pub(super) code_changed: bool,
    /// The shard it went to last.
    pub(super) shard: ShardId,
}

pub(super) enum Deferred {
    /// A `Parse`, under the client's name.
    Parse { named: bool, statement: Rc<Prepared>, ticket: u64 },
    /// The text of a `Parse` whose name is taken: what is wrong with the text is told first.
    Check { statement: Rc<Prepared> },
    /// A `Describe` of a statement.
    Describe { named: bool, statement: Rc<Prepared>, ticket: u64 },
}

impl Deferred {
    pub(super) fn statement(&self) -> (&Rc<Prepared>, bool) {
        match self {
            Deferred::Parse { named, statement, .. } | Deferred::Describe { named, statement, .. } => {
                (statement, *named)
            }
            Deferred::Check { statement } => (statement, false),
        }
    }
}

/// The end of the client's transaction, before its batch's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Committed {
    /// It has not been answered, or another transaction has begun since.
    #[default]
    No,
    /// It has, and something stands behind it.
    Followed,
    /// It has, and nothing stands behind it.
    Last,
}

impl Committed {
    /// Something has been sent behind it, or has run there.
    pub(super) fn is_followed(&mut self) {
        if *self == Committed::Last {
            *self = Committed::Followed;
        }
    }
}

/// A `Parse` or `Close` of a statement that pgring has taken note of, and the server may yet skip.
struct Unconfirmed {
    batch: u32,
    /// Empty: the unnamed statement.
    name: Box<[u8]>,
    /// What had the name before; of the unnamed one with its ticket.
    before: Option<(Rc<Prepared>, u64)>,
    /// A `Query`: what had the name is gone, whatever becomes of the batches before it, or of itself.
    for_good: bool,
}

/// What a client calls its statements, those included that it has closed or given up meanwhile: the
/// error may be of what it asked before.
pub(super) struct Names<'s> {
    pub(super) statements: &'s Statements,
    pub(super) batch: &'s Batch,
}

impl ClientNames for Names<'_> {
    fn client_name(&self, id: u64) -> Option<&[u8]> {
        let now = self.statements.iter();
        let before = self
            .batch
            .unconfirmed
            .iter()
            .filter_map(|entry| entry.before.as_ref().map(|(statement, _)| (&entry.name, statement)));
        now.chain(before).find(|(_, statement)| statement.id == id).map(|(name, _)| &**name)
    }
}

impl Default for Batch {
    fn default() -> Batch {
        Batch {
            deferred: Vec::new(),
            unconfirmed: VecDeque::new(),
            number: 0,
            answering: 0,
            begun: false,
            sent: false,
            run: false,
            skipping: false,
            unsure: false,
            odd: false,
            commits: false,
            ends: false,
            wanted: None,
            aimed: false,
            failed: false,
            opened: false,
            aligning: false,
            misaligned: false,
            aligned: false,
            committed: Committed::No,
            schema_changed: false,
            code_changed: false,
            shard: ShardId(0),
        }
    }
}

impl Batch {
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sent
    }

    pub(super) fn has_run(&self) -> bool {
        self.run
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.skipping
    }

    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// A message of the extended protocol has come.
    pub(super) fn begin(&mut self) {
        self.begun = true;
    }

    /// The server has been asked for something.
    pub(super) fn send(&mut self) {
        self.sent = true;
    }

    /// The server has been asked for a portal.
    pub(super) fn run(&mut self) {
        self.sent = true;
        self.run = true;
    }

    /// Ignores what follows up to the `Sync`.
    pub(super) fn skip(&mut self) {
        self.begun = true;
        self.skipping = true;
        self.deferred.clear();
    }

    /// What was sent has been answered by a `ReadyForQuery` that the client does not see.
    pub(super) fn sent_is_done(&mut self) {
        self.sent = false;
        self.run = false;
        self.ends = false;
    }

    /// The client's `Sync` or `Query` is on its way: what comes next is another batch.
    pub(super) fn is_off(&mut self) {
        self.deferred.clear();
        self.begun = false;
        self.sent = false;
        self.run = false;
        self.skipping = false;
        self.odd = false;
        self.commits = false;
        self.ends = false;
        self.wanted = None;
        self.aimed = false;
        self.number = self.number.wrapping_add(1);
    }

    /// The client has a `ReadyForQuery`; with `more`, others are still to come.
    pub(super) fn answered(&mut self, more: bool) {
        self.failed = false;
        self.opened = false;
        self.aligning = false;
        self.misaligned = false;
        self.aligned = false;
        self.committed = Committed::No;
        if more {
            self.answering = self.answering.wrapping_add(1);
        } else {
            self.answering = self.number;
        }
        // What was skipped is not confirmed by what comes later.
        while self
            .unconfirmed
            .front()
            .is_some_and(|entry| entry.batch.wrapping_sub(self.answering) > u32::MAX / 2)
        {
            self.unconfirmed.pop_front();
        }
    }

    /// Nothing is under way that anything could depend on.
    pub(super) fn is_sure(&mut self) {
        self.unsure = false;
    }

    /// A `COPY` under way: the `Sync` sent before its data does not count.
    pub(super) fn revive(&mut self) {
        self.begun = true;
        self.sent = true;
        self.run = true;
        self.number = self.answering;
    }

    /// A change to the client's statements was answered.
    pub(super) fn confirmed(&mut self) {
        self.unconfirmed.pop_front();
    }

    /// The statement of this name changes; `before` is what had it.
    pub(super) fn changes(&mut self, name: &[u8], before: Option<(Rc<Prepared>, u64)>) {
        let batch = self.number;
        self.unconfirmed.push_back(Unconfirmed { batch, name: name.into(), before, for_good: false });
    }

    /// A `Query` is sent behind batches that are unanswered: it drops the unnamed statement.
    pub(super) fn drops_unnamed(&mut self) {
        let (batch, name) = (self.number, Box::default());
        self.unconfirmed.push_back(Unconfirmed { batch, name, before: None, for_good: true });
    }

    /// Does what this name stands for hang on an earlier batch that is unanswered?
    pub(super) fn hangs(&self, name: &[u8]) -> bool {
        let latest = self.unconfirmed.iter().rev().find(|entry| *entry.name == *name);
        latest.is_some_and(|entry| entry.batch != self.number)
    }

    /// Statements of this shape are sent.
    pub(super) fn note(&mut self, shape: &Shape) {
        let plain = shape.statements.iter().all(|statement| is_plain(&statement.kind));
        self.unsure |= !plain || !shape.mentions.is_empty();
        for statement in &shape.statements {
            match statement.kind {
                Kind::Commit { chain: false } | Kind::Rollback { chain: false } => self.ends = true,
                Kind::Begin => self.ends = false,
                _ => {}
            }
            match statement.kind {
                Kind::Query | Kind::Write | Kind::Ddl => {}
                Kind::Commit { chain: false } => self.commits = true,
                _ => self.odd = true,
            }
        }
        self.odd |= self.commits && shape.statements.len() > 1;
    }

    /// Has a transaction ended in it, so that what follows is no part of it?
    pub(super) fn has_ended_transaction(&self) -> bool {
        self.ends
    }

    /// Is no transaction left open by its end? `open`: one is at its beginning.
    pub(super) fn ends_transaction(&self, open: bool) -> bool {
        !self.odd && (self.commits || !open)
    }

    /// The held server is to be brought in line with these settings instead of the session's.
    pub(super) fn aim_for(&mut self, wanted: Option<Arc<Settings>>) {
        self.wanted = wanted;
    }

    pub(super) fn take_aim(&mut self) -> Option<Arc<Settings>> {
        let wanted = self.wanted.take();
        self.aimed |= wanted.is_some();
        wanted
    }

    /// Has the server been brought in line with something else than the session's settings?
    pub(super) fn has_aimed(&self) -> bool {
        self.aimed
    }

    /// Something is sent whose outcome what follows depends on.
    pub(super) fn note_unsure(&mut self) {
        self.unsure = true;
    }
}

/// Does what follows mean the same, whatever becomes of this?
fn is_plain(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Query
            | Kind::Write
            | Kind::CopyOut
            | Kind::Discard
            | Kind::Listen
            | Kind::Declare(_)
            | Kind::Maintenance
            | Kind::Other
    )
}

impl Session {
    /// May the next message be worked on although an earlier `Sync` or `Query` is unanswered?
    pub(super) fn may_work_ahead(&self) -> bool {
        let batch = &self.batch;
        !self.postponed
            && !batch.unsure
            && !batch.opened
            && !batch.aligning
            && !batch.misaligned
            && self.tx.phase() != Phase::Pending
            && !self.relay.is_copying_in()
            && self.ready_held.is_none()
            && self.effects.iter().all(|effect| matches!(effect, Effect::None))
    }

    /// The message under work has to wait until what was asked before it has been answered.
    /// Nothing has been done about it yet.
    pub(super) fn postpone(&mut self) {
        self.postponed = true;
    }

    /// What the statements of the batch that failed have done to the client's names never
    /// happened. `parsing`: it was a `Parse`; PostgreSQL has dropped the unnamed statement by then.
    pub(super) fn take_back(&mut self, parsing: bool) {
        let batch = self.batch.answering;
        self.take_back_if(parsing, |number| number == batch);
    }

    /// The same of everything that was sent: the server is gone.
    pub(super) fn take_back_all(&mut self) {
        let unsent = self.batch.number;
        let spared = self.batch.begun && !self.batch.sent && !self.batch.skipping;
        self.take_back_if(false, |number| !(spared && number == unsent));
    }

    fn take_back_if(&mut self, parsing: bool, meant: impl Fn(u32) -> bool) {
        let all = std::mem::take(&mut self.batch.unconfirmed);
        let (lost, mut kept): (VecDeque<_>, VecDeque<_>) =
            all.into_iter().partition(|entry| meant(entry.batch));
        let mut lost = lost;
        let failed_itself = if parsing { lost.pop_front() } else { None };
        for entry in lost.into_iter().rev() {
            self.restore(entry.name, entry.before, &mut kept);
        }
        if let Some(entry) = failed_itself {
            let before = if entry.name.is_empty() { None } else { entry.before };
            self.restore(entry.name, before, &mut kept);
        }
        self.batch.unconfirmed = kept;
        self.control().prepared.set(self.statements.len());
    }

    fn restore(
        &mut self,
        name: Box<[u8]>,
        before: Option<(Rc<Prepared>, u64)>,
        later: &mut VecDeque<Unconfirmed>,
    ) {
        if let Some(entry) = later.iter_mut().find(|entry| entry.name == name) {
            // A later batch has given the name anew: this is what it did that to.
            if !entry.for_good {
                entry.before = before;
            }
            return;
        }
        if name.is_empty() {
            self.unnamed_ticket = before.as_ref().map_or(0, |(_, ticket)| *ticket);
            self.unnamed = before.map(|(statement, _)| statement);
            return;
        }
        match before {
            Some((statement, _)) => self.statements.insert(name, statement),
            None => self.statements.remove(&name),
        };
    }
}
