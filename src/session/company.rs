//! Transactions on several servers that wait for them, as those see them who look for deadlocks
//! across shards; and how a session is told that it is the victim of one.
//!
//! While a statement of such a transaction is under way, its [`Wait`] stands in the database's
//! [`Waiting`]. A transaction on one server is never there, and costs nothing.
//!
//! The victim's statement is cancelled, and the server's `57014` becomes the `40P01` that says why.
//! A cancel that comes too late must not hit the next statement: until it has been carried out the
//! session does not say that this one has ended. Where one part has failed by it, the others are
//! made to fail too: else the locks they hold would keep everybody waiting for as long as the client
//! takes to roll back.

use super::cancel::Control;
use super::distributed::Member;
use super::state::{End, Held, Session};
use crate::backend::CancelKey;
use crate::error::{ClientError, SqlState};
use crate::ring::ShardId;
use crate::sql::Pin;
use crate::txn::Phase;
use crate::wire::{self, Buffer, TxStatus};
use std::cell::RefMut;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// What is kept of a statement's text.
const LONGEST_TEXT: usize = 300;

/// Which transactions on several servers of a database wait, by session.
#[derive(Default)]
pub struct Waiting {
    count: AtomicUsize,
    waits: Mutex<HashMap<u32, Arc<Wait>>>,
}

/// One of them.
pub struct Wait {
    /// Whose.
    pub session: u32,
    /// No other wait has it.
    pub number: u64,
    /// Since when.
    pub since: Instant,
    /// When the transaction began.
    pub started: SystemTime,
    /// Its role.
    pub user: Box<str>,
    /// What it waits for the end of.
    pub statement: Box<str>,
    /// It is not being committed.
    pub may_fall: bool,
    /// Where the transaction is.
    pub parts: Box<[Part]>,
}

/// A server that has a part of a transaction.
#[derive(Debug)]
pub struct Part {
    /// Of which shard.
    pub shard: ShardId,
    /// Which one.
    pub key: Arc<CancelKey>,
    /// It is in a transaction that the others are in too.
    joined: bool,
    /// Its answer has to wait for another one's.
    stalled: AtomicBool,
}

impl Part {
    fn new(shard: ShardId, key: Arc<CancelKey>, joined: bool) -> Part {
        Part { shard, key, joined, stalled: AtomicBool::new(false) }
    }

    fn of(held: &Held, joined: bool) -> Part {
        Part::new(held.shard, Arc::clone(&held.lease.cancel_key), joined)
    }

    /// Does it keep its locks until the other parts have come to their end?
    pub fn is_bound(&self) -> bool {
        self.joined || self.stalled.load(Ordering::Relaxed)
    }
}

/// Who is to give way, and what its client is told.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The session.
    pub session: u32,
    /// In this wait, and no other.
    pub number: u64,
    /// Whose statements are cancelled.
    pub servers: Vec<(Arc<CancelKey>, Arc<str>)>,
    /// What is said of it.
    pub error: ClientError,
}

impl Waiting {
    /// Waits nobody?
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Who waits now.
    pub fn all(&self) -> Vec<Arc<Wait>> {
        self.lock().values().cloned().collect()
    }

    /// A panic with the lock held leaves a map that is whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<Wait>>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait that stands in a database's list for as long as this lives.
struct Enlisted {
    waiting: Arc<Waiting>,
    wait: Arc<Wait>,
}

impl Enlisted {
    fn new(waiting: &Arc<Waiting>, wait: Wait) -> Enlisted {
        let wait = Arc::new(wait);
        let mut waits = waiting.lock();
        waits.insert(wait.session, Arc::clone(&wait));
        waiting.count.store(waits.len(), Ordering::Relaxed);
        drop(waits);
        Enlisted { waiting: Arc::clone(waiting), wait }
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        let mut waits = self.waiting.lock();
        if waits.get(&self.wait.session).is_some_and(|wait| wait.number == self.wait.number) {
            waits.remove(&self.wait.session);
        }
        self.waiting.count.store(waits.len(), Ordering::Relaxed);
    }
}

/// What a session knows of itself that has a transaction on several servers.
#[derive(Default)]
pub(super) struct Company {
    wait: Option<Enlisted>,
    /// The statement under way.
    said: Box<str>,
    /// Servers that have been brought together, those among them that nothing is asked of just now.
    gathered: Vec<(ShardId, Arc<CancelKey>)>,
    /// When the transaction began, by either clock.
    began: Option<(Instant, SystemTime)>,
    /// What the client is told if it has to give way.
    verdict: Option<ClientError>,
}

impl Company {
    /// As long as the transaction lasts, the same.
    fn began(&mut self, began: Instant) -> SystemTime {
        match self.began {
            Some((known, time)) if known == began => time,
            _ => {
                let time = SystemTime::now().checked_sub(began.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH);
                self.began = Some((began, time));
                time
            }
        }
    }
}

impl Control {
    fn company(&self) -> RefMut<'_, Company> {
        RefMut::map(self.company.borrow_mut(), |company| &mut **company.get_or_insert_default())
    }

    /// This is under way now, and concerns several servers.
    pub(super) fn says(&self, statement: &[u8]) {
        let cut = statement.get(..LONGEST_TEXT).unwrap_or(statement);
        let mut text = String::from_utf8_lossy(cut).into_owned();
        if cut.len() < statement.len() {
            text.push('…');
        }
        self.company().said = text.into();
    }

    /// No statement is under way any more.
    pub(super) fn rests(&self) {
        self.running.set(false);
        if let Some(company) = &mut *self.company.borrow_mut() {
            company.wait = None;
            company.said = Box::default();
        }
    }

    /// The servers are elsewhere than they were.
    pub(super) fn waits_no_more(&self) {
        if let Some(company) = &mut *self.company.borrow_mut() {
            company.wait = None;
        }
    }

    /// These servers are together, whichever of them are asked.
    pub(super) fn gathers(&self, members: &[Member]) {
        let locking = members.iter().filter(|member| !member.held.replica);
        let gathered = locking.map(|m| (m.held.shard, Arc::clone(&m.held.lease.cancel_key)));
        self.company().gathered = gathered.collect();
    }

    /// They are not any more.
    pub(super) fn disbands(&self) {
        if let Some(company) = &mut *self.company.borrow_mut() {
            company.wait = None;
            company.gathered = Vec::new();
        }
    }

    /// Gives way, if it still is in the wait that is meant.
    pub(super) async fn fall(&self, verdict: Verdict) {
        if self.is_being_cancelled() || !self.is_in(verdict.number) {
            return;
        }
        self.company().verdict = Some(verdict.error);
        self.judged.set(true);
        self.cancel_on(verdict.servers).await;
    }

    fn is_in(&self, number: u64) -> bool {
        let company = self.company.borrow();
        let wait = company.as_ref().and_then(|company| company.wait.as_ref());
        wait.is_some_and(|own| own.wait.number == number)
    }

    /// What its client is told if it is the victim of a deadlock; once.
    pub(super) fn take_verdict(&self) -> Option<ClientError> {
        if self.judged.get() { self.company().verdict.take() } else { None }
    }

    /// What the client is told instead of this error of a server's.
    pub(super) fn verdict_on(&self, frame: &[u8]) -> Option<ClientError> {
        let body = frame.get(wire::HEADER_LEN..)?;
        let is_cancel = wire::error_field(body, b'C') == Some(SqlState::CANCELED.as_str().as_bytes());
        if is_cancel { self.take_verdict() } else { None }
    }
}

impl Session {
    /// A statement goes to the held server. Call where there are parked ones.
    pub(super) fn waits_in_company(&self, statement: &[u8]) {
        let control = &self.registration.control;
        if control.company.borrow().as_ref().is_some_and(|company| company.wait.is_some()) {
            // It is behind others.
            return;
        }
        let mut parts = self.parts_parked();
        if parts.is_empty() {
            return;
        }
        parts.extend(self.held.as_ref().filter(|held| !held.replica).map(|held| Part::of(held, true)));
        control.says(statement);
        self.list_parts(parts);
    }

    /// These servers are waited for, beside those that have a part in the transaction.
    pub(super) fn waits_for_members(&self, members: &[Member]) {
        let explicit = self.tx.phase() != Phase::Idle;
        // Who only reads from a replica holds up nobody, and its process number is not the primary's.
        let locking = members.iter().filter(|member| !member.held.replica);
        let asked = locking.map(|Member { held, branch }| {
            let begins = held.lease.status != TxStatus::Idle || branch.has_hidden();
            Part::of(held, explicit || begins || holds_advisory(held))
        });
        let mut parts: Vec<Part> = asked.chain(self.parts_parked()).collect();
        let gathered = self.registration.control.company().gathered.clone();
        for (shard, key) in gathered {
            if parts.iter().all(|part| part.key != key) {
                parts.push(Part::new(shard, key, true));
            }
        }
        if parts.len() > 1 {
            self.list_parts(parts);
        }
    }

    /// Servers that keep locks meanwhile: a transaction's, or a session's advisory ones, which no
    /// transaction's end lets go of.
    fn parts_parked(&self) -> Vec<Part> {
        let locks =
            |held: &&Held| (held.lease.status != TxStatus::Idle || holds_advisory(held)) && !held.replica;
        let open = self.parked.iter().filter(locks);
        open.map(|held| Part::of(held, true)).collect()
    }

    fn list_parts(&self, parts: Vec<Part>) {
        let control = &self.registration.control;
        let mut company = control.company();
        // The old one goes first.
        company.wait = None;
        let wait = Wait {
            session: control.pid,
            number: self.worker.new_number(),
            since: Instant::now(),
            started: company.began(self.transaction_began.unwrap_or_else(Instant::now)),
            user: self.user.name.as_str().into(),
            statement: company.said.clone(),
            may_fall: self.ending == super::distributed::Ending::No,
            parts: parts.into(),
        };
        company.wait = Some(Enlisted::new(&self.database.waiting, wait));
    }

    /// What is under way now is another statement of the batch.
    pub(super) fn waits_anew(&self) {
        let control = &self.registration.control;
        let waited = control.company.borrow_mut().as_mut().and_then(|company| company.wait.take());
        if waited.is_some() {
            self.waits_in_company(b"");
        }
    }

    /// The member's answer has to wait for another one's, or has not any more.
    pub(super) fn note_stalled(&self, member: &Member) {
        if let Some(company) = &*self.registration.control.company.borrow()
            && let Some(own) = &company.wait
            && let Some(part) = own.wait.parts.iter().find(|part| part.key == member.held.lease.cancel_key)
        {
            part.stalled.store(member.branch.stalled, Ordering::Relaxed);
        }
    }

    /// Has a deadlock's victim been made of it, and is that to be settled now?
    pub(super) fn has_to_fall(&self) -> bool {
        self.registration.control.judged.get() && !self.relay.is_busy()
    }

    /// Settles it: no cancel is on its way afterwards, and no part of a failed transaction holds locks
    /// that PostgreSQL would have let go of.
    pub(super) async fn fall(&mut self) -> Result<(), End> {
        let control = &self.registration.control;
        control.cancels_done().await;
        control.judged.set(false);
        // It has come too late, if it is still here.
        control.company().verdict = None;
        self.relay.cancelled_with(None);
        let failed = |held: &Held| held.lease.status == TxStatus::Failed;
        let has_failed = self.tx.is_failed()
            || self.batch.is_skipping()
            || self.held.iter().chain(&self.parked).any(failed);
        if !has_failed {
            return Ok(());
        }
        let open = |held: &Held| held.lease.status == TxStatus::Open;
        let (parked, mut members): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.parked).into_iter().partition(|held| !open(held));
        self.parked = parked;
        if !self.batch.is_sent() && self.held.as_ref().is_some_and(open) {
            members.extend(self.held.take());
        }
        self.fail_members(members).await
    }
}

/// May the session have an advisory lock there that outlives its transactions?
fn holds_advisory(held: &Held) -> bool {
    held.pins.has(Pin::AdvisoryLock)
}

/// What a server refuses in any transaction, without touching anything.
pub(super) fn put_refusal(out: &mut Buffer) {
    wire::put_describe_portal(out, b"refused by pgring");
}
