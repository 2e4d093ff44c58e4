//! What all threads share of a pool: the limit and the queue.

use super::openings::{NotNow, Openings};
use super::readers::Load;
use super::sockets::Sockets;
use super::{Caller, Gate, Lease};
use crate::backend::{ConnectError, Target};
use crate::config;
use crate::error::{ClientError, SqlState};
use crate::telemetry::metrics::ShardMetrics;
use arc_swap::ArcSwap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::oneshot;

/// What a pool is called in logs, metrics and the console.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Label {
    /// The database as clients name it.
    pub database: String,
    /// The shard.
    pub shard: String,
    /// The endpoint.
    pub endpoint: String,
    /// The role.
    pub user: String,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum PoolError {
    /// All are in use, and stayed so.
    #[error("pool {}/{}/{} of {size} connections had none free for {timeout:?}", label.database, label.shard, label.user)]
    Exhausted {
        /// Which pool.
        label: Arc<Label>,
        /// Its size.
        size: usize,
        /// How long the client waited: `checkout_timeout`.
        timeout: Duration,
    },
    /// A new one could not be opened.
    #[error("{1}")]
    Connect(Arc<Label>, #[source] Arc<ConnectError>),
    /// The shard is paused.
    #[error("shard {} is paused", .0.shard)]
    Paused(Arc<Label>),
    /// Its server is not the one to wait for any more.
    #[error("pool {}/{}/{}: the server was replaced", .0.database, .0.shard, .0.user)]
    Moved(Arc<Label>),
    /// No endpoint of the shard is a healthy primary.
    #[error("shard {shard} has no healthy primary: {reason}")]
    NoPrimary {
        /// The shard.
        shard: String,
        /// What its health says.
        reason: String,
        /// How long one was waited for in vain.
        held: Option<Duration>,
    },
}

impl PoolError {
    /// What the client is told: no address, no server's words.
    pub fn client_error(&self) -> ClientError {
        match self {
            PoolError::Exhausted { label, size, timeout } => ClientError::error(
                SqlState::TOO_MANY,
                format!(
                    "no server connection became free within checkout_timeout ({:?}) in pool \"{}/{}/{}\" of size {size}",
                    timeout, label.database, label.shard, label.user
                ),
            )
            .with_hint("Shorten transactions, or raise pool.size."),
            PoolError::Connect(label, error) => match error.code() {
                // Routines have the same names in every language.
                Some(b"53300") if matches!(error.routine(), Some(b"InitializeSessionUserId")) => ClientError::error(
                    SqlState::TOO_MANY,
                    format!("role \"{}\" has no connections left on shard \"{}\"", label.user, label.shard),
                )
                .with_hint("Its CONNECTION LIMIT there should be no less than pool.size of all proxies."),
                Some(b"53300") if matches!(error.routine(), Some(b"CheckMyDatabase")) => ClientError::error(
                    SqlState::TOO_MANY,
                    format!("the database of shard \"{}\" has no connections left", label.shard),
                )
                .with_hint("Its CONNECTION LIMIT is less than what the pools may open."),
                Some(b"53300") => ClientError::error(
                    SqlState::TOO_MANY,
                    format!("shard \"{}\" has no connection slots left", label.shard),
                ),
                Some(_) => ClientError::error(
                    SqlState::UNAVAILABLE,
                    format!("shard \"{}\" refused the login of user \"{}\"", label.shard, label.user),
                )
                .with_hint("The log has the server's reason."),
                None => no_login(label, error),
            },
            PoolError::Paused(label) => ClientError::error(
                SqlState::UNAVAILABLE,
                format!("shard \"{}\" is paused", label.shard),
            ),
            PoolError::Moved(label) => ClientError::error(
                SqlState::UNAVAILABLE,
                format!("the primary of shard \"{}\" has just been replaced", label.shard),
            ),
            PoolError::NoPrimary { shard, held, .. } => {
                let error = ClientError::error(
                    SqlState::UNAVAILABLE,
                    format!("shard \"{shard}\" has no healthy primary"),
                )
                .with_hint("Its rows are on no other shard: try again once it is back.");
                match held {
                    Some(held) => error.with_detail(format!("None appeared within failover_hold ({held:?}).")),
                    None => error,
                }
            }
        }
    }
}

/// It was not the server that refused.
fn no_login(label: &Label, error: &ConnectError) -> ClientError {
    match error {
        ConnectError::OtherVerifier(..) => other_verifier(&label.shard, &label.user),
        ConnectError::Unproven(..) => ClientError::error(
            SqlState::NOT_ALLOWED,
            format!("the password of \"{}\" has changed since this session began", label.user),
        )
        .with_hint("Connect again with the new password."),
        ConnectError::Login(_, _, why) => ClientError::error(
            SqlState::NOT_ALLOWED,
            format!("pgring cannot log in to shard \"{}\" as \"{}\"", label.shard, label.user),
        )
        // These are pgring's words.
        .with_detail(format!("The shard is up, but {why}."))
        .with_hint(
            "Give the user a server_password, or its role on the shard a password of the kind that is asked for.",
        ),
        error if error.is_timeout() => ClientError::error(
            SqlState::UNAVAILABLE,
            format!("shard \"{}\" opened no connection within connect_timeout", label.shard),
        ),
        _ => ClientError::error(
            SqlState::UNAVAILABLE,
            format!("shard \"{}\" cannot be reached", label.shard),
        ),
    }
}

fn other_verifier(shard: &str, user: &str) -> ClientError {
    ClientError::error(
        SqlState::NOT_ALLOWED,
        format!("shard \"{shard}\" has another password verifier for \"{user}\" than pgring"),
    )
    .with_detail(
        "Even of the same password, two verifiers have different salts. A role that does not exist there, or whose \
         password has ended, looks the same.",
    )
    .with_hint(format!(
        "Copy rolpassword from pg_authid of the first shard: ALTER ROLE \"{}\" PASSWORD 'SCRAM-SHA-256$...' \
         on shard \"{shard}\".",
        user.replace('"', "\"\"")
    ))
}

/// See the room's page.
pub struct Pool {
    /// What it is called.
    pub label: Arc<Label>,
    /// How its connections are opened.
    pub target: Target,
    /// Its place in each thread's list of idle connections.
    pub(super) slot: usize,
    settings: Arc<ArcSwap<config::Pool>>,
    pub(super) metrics: ShardMetrics,
    /// Of its shard.
    pub gate: Arc<Gate>,
    /// Connections that exist, are being opened, or may be opened by a granted permit.
    open: AtomicUsize,
    /// Entries of the queue; an entry whose waiter gave up counts until it is met.
    waiting: AtomicUsize,
    /// Connections that are being opened.
    opening: AtomicUsize,
    openings: Mutex<Openings>,
    /// Why the last attempt to open one failed, while that is what is known of the server.
    failure: Mutex<Option<Arc<ConnectError>>>,
    pub(super) sockets: Sockets,
    queue: Mutex<VecDeque<Waiter>>,
    generation: AtomicU64,
    retired: AtomicBool,
    /// What reads it works on, and how fast.
    pub(super) load: Load,
    /// Where the slot goes when nobody has the pool any more.
    free_slots: Arc<Mutex<Vec<usize>>>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Each of its connections held it: no thread has one in the slot.
        self.free_slots.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
    }
}

/// An entry of the queue.
struct Waiter {
    since: Instant,
    sender: oneshot::Sender<Grant>,
}

/// What a waiter gets.
pub(super) enum Grant {
    /// A connection.
    Lease(Lease),
    /// The right to open one.
    Permit(Permit),
}

/// A place within the limit for a connection that is not open yet, and its turn to be opened.
pub(super) struct Permit(Option<Arc<Pool>>);

impl Permit {
    /// Of a place that is held already.
    pub(super) fn of(pool: &Arc<Pool>) -> Permit {
        pool.openings().begin_in_place();
        Permit(Some(Arc::clone(pool)))
    }

    /// The connection is there: its lease holds the place now.
    pub(super) fn used(mut self) {
        if let Some(pool) = self.0.take() {
            pool.openings().opened();
            *pool.failure() = None;
            // It may have let others have a try.
            Pool::admit(&pool);
        }
    }

    /// The server is away. Those who wait for a connection hear of it, unless one may yet be given back.
    pub(super) fn failed(mut self, error: &Arc<ConnectError>) {
        if let Some(pool) = self.0.take() {
            *pool.failure() = Some(Arc::clone(error));
            pool.openings().failed(Instant::now(), rand::random());
            pool.give_up_place();
            if !pool.has_connections() {
                pool.turn_away();
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.openings().ended();
            Pool::closed(&pool);
        }
    }
}

/// Why there is no place for another connection.
pub(super) enum NoPlace {
    /// All are taken, or enough are being opened: there is something to wait for.
    Wait,
    /// The gate is closed.
    Paused,
    /// The server is away, and there is nothing to wait for.
    Broken(Arc<ConnectError>),
}

/// A pool's numbers, for the console and metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolState {
    /// Connections, idle or not.
    pub open: usize,
    /// Those that are logging in.
    pub opening: usize,
    /// Clients that wait for one.
    pub waiting: usize,
}

/// A connection that is being opened, for as long as that takes.
pub(super) struct Opening<'a>(&'a Pool);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub(super) fn new(
        label: Label,
        target: Target,
        slot: usize,
        settings: Arc<ArcSwap<config::Pool>>,
        metrics: ShardMetrics,
        gate: Arc<Gate>,
        free_slots: Arc<Mutex<Vec<usize>>>,
    ) -> Pool {
        Pool {
            metrics,
            gate,
            label: Arc::new(label),
            target,
            slot,
            settings,
            open: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            opening: AtomicUsize::new(0),
            openings: Mutex::default(),
            failure: Mutex::default(),
            sockets: Sockets::default(),
            queue: Mutex::default(),
            generation: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            load: Load::default(),
            free_slots,
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<config::Pool> {
        self.settings.load_full()
    }

    /// Its numbers.
    pub fn state(&self) -> PoolState {
        self.forget_the_impatient();
        PoolState {
            open: self.open.load(Ordering::Relaxed),
            opening: self.opening.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    pub(super) fn opening(&self) -> Opening<'_> {
        self.opening.fetch_add(1, Ordering::Relaxed);
        Opening(self)
    }

    /// A number for one of its connections that no other of the process has: the server's
    /// process, and which pool.
    pub fn connection_id(&self, pid: u32) -> u64 {
        (self.slot as u64) << 32 | u64::from(pid)
    }

    /// Connections opened before now are closed instead of being used again.
    pub fn renew(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// No configuration names it any more: what is open is closed after its use.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.renew();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Goes up with each [`Pool::renew`].
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Are there more than a reload has left room for?
    pub(super) fn is_overfull(&self) -> bool {
        self.open.load(Ordering::Relaxed) > self.settings.load().size
    }

    /// Does anybody wait? The only thing the usual return has to ask of other threads.
    pub(super) fn has_waiters(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    fn openings(&self) -> MutexGuard<'_, Openings> {
        self.openings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self) -> MutexGuard<'_, Option<Arc<ConnectError>>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Are there any beyond those that are being opened?
    fn has_connections(&self) -> bool {
        self.open.load(Ordering::SeqCst) > self.openings().under_way()
    }

    /// Why none can be opened, if that is what is known of the server.
    pub(super) fn last_failure(&self) -> Option<PoolError> {
        let why = self.failure().clone()?;
        Some(PoolError::Connect(Arc::clone(&self.label), why))
    }

    /// When an attempt to open one is due, after one that failed.
    pub(super) fn broken_until(&self) -> Option<Instant> {
        self.openings().broken_until()
    }

    /// A place within the limit and a turn, if there are and the shard is not paused.
    pub(super) fn try_open(self: &Arc<Self>, caller: Caller) -> Result<Permit, NoPlace> {
        if self.gate.is_closed_to(caller) {
            return Err(NoPlace::Paused);
        }
        // The lock is not held over what follows.
        let turn = self.openings().begin(Instant::now());
        match turn {
            Ok(()) => {}
            Err(NotNow::Enough) => return Err(NoPlace::Wait),
            Err(NotNow::Broken(_)) if self.has_connections() => return Err(NoPlace::Wait),
            Err(NotNow::Broken(_)) => {
                return Err(self.failure().clone().map_or(NoPlace::Wait, NoPlace::Broken));
            }
        }
        let size = self.settings.load().size;
        let take = |open| (open < size).then_some(open + 1);
        if self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err() {
            self.openings().ended();
            return Err(NoPlace::Wait);
        }
        self.gate.enter();
        // Once more: whoever has closed it meanwhile may have missed this place in the count.
        if self.gate.is_closed_to(caller) {
            self.openings().ended();
            self.give_up_place();
            return Err(NoPlace::Paused);
        }
        Ok(Permit(Some(Arc::clone(self))))
    }

    /// Ends all connections, whatever is under way on them, and has none of them used again: their
    /// server is not the one to speak to any more. How many there were.
    pub(super) fn cut(&self) -> usize {
        self.renew();
        self.turn_away();
        self.sockets.cut()
    }

    fn give_up_place(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
        self.gate.leave();
    }

    /// Joins the queue's end. True: nobody was in it, and threads may have idle connections that they
    /// have to be asked for. Behind others there are none: a thread keeps one for itself only while it
    /// sees the queue empty, and has been asked since.
    pub(super) fn join_queue(&self) -> (oneshot::Receiver<Grant>, bool) {
        let (sender, receiver) = oneshot::channel();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let first = queue.is_empty();
        queue.push_back(Waiter { since: Instant::now(), sender });
        self.waiting.fetch_add(1, Ordering::SeqCst);
        (receiver, first)
    }

    /// Offers to the longest waiter still there; given back when there is none.
    pub(super) fn offer(&self, mut grant: Grant) -> Option<Grant> {
        loop {
            let waiter = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                let waiter = queue.pop_front();
                if waiter.is_some() {
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                }
                waiter
            };
            let Some(waiter) = waiter else { return Some(grant) };
            match waiter.sender.send(grant) {
                Ok(()) => return None,
                Err(refused) => grant = refused,
            }
        }
    }

    /// Since when the first in the queue waits.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).front().map(|waiter| waiter.since)
    }

    /// Drops the entries of those who gave up.
    pub(super) fn forget_the_impatient(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let before = queue.len();
        queue.retain(|waiter| !waiter.sender.is_closed());
        self.waiting.fetch_sub(before - queue.len(), Ordering::SeqCst);
    }

    /// Has all who wait look again for what they wait for, and where.
    fn turn_away(&self) {
        let waiters = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            self.waiting.fetch_sub(queue.len(), Ordering::SeqCst);
            std::mem::take(&mut *queue)
        };
        // Woken outside of the lock.
        drop(waiters);
    }

    /// A place is free again: the longest waiter may open a connection in it.
    pub(super) fn closed(pool: &Arc<Pool>) {
        pool.give_up_place();
        Pool::admit(pool);
    }

    /// Those who wait have what places and turns there are.
    pub(super) fn admit(pool: &Arc<Pool>) {
        while pool.has_waiters() {
            let Ok(permit) = pool.try_open(Caller::Anybody) else { return };
            match pool.offer(Grant::Permit(permit)) {
                None => {}
                // Nobody took it. Its drop would come back here.
                Some(Grant::Permit(mut permit)) => {
                    permit.0 = None;
                    pool.openings().ended();
                    pool.give_up_place();
                }
                Some(Grant::Lease(_)) => return,
            }
        }
    }
}
