//! A thread's idle connections, and the way to the other threads'.

use super::shared::{Grant, NoPlace, Permit};
use super::{Caller, Lease, Pool, PoolError};
use crate::backend::{self, ConnectError, Facts};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What threads ask of each other.
pub enum Message {
    /// Somebody waits for a connection of this pool: give up an idle one.
    GiveUp(Arc<Pool>),
    /// A borrowed connection comes home.
    Return(Lease),
}

/// The doors of all threads that serve clients.
#[derive(Default)]
pub struct Threads {
    doors: Mutex<Vec<UnboundedSender<Message>>>,
}

impl Threads {
    /// A new thread: its number and what is sent to it.
    pub fn join(&self) -> (usize, UnboundedReceiver<Message>) {
        let (sender, receiver) = unbounded_channel();
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.push(sender);
        (doors.len() - 1, receiver)
    }

    /// False when that thread has ended.
    fn send(&self, thread: usize, message: Message) -> bool {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.get(thread).is_some_and(|door| door.send(message).is_ok())
    }

    fn send_to_others(&self, but: usize, pool: &Arc<Pool>) {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        for (thread, door) in doors.iter().enumerate() {
            if thread != but {
                // A thread that has ended has no idle connections either.
                let _ = door.send(Message::GiveUp(Arc::clone(pool)));
            }
        }
    }
}

/// One thread's part of all pools.
pub struct Local {
    thread: usize,
    threads: Arc<Threads>,
    /// Idle connections by the pool's slot, the last used at the end.
    idle: RefCell<Vec<Vec<Lease>>>,
}

impl Local {
    /// For the thread with this number.
    pub fn new(thread: usize, threads: Arc<Threads>) -> Rc<Local> {
        Rc::new(Local { thread, threads, idle: RefCell::default() })
    }

    /// A connection: the last used idle one, else a new one, else the first that becomes free.
    /// Cancel safe: what was granted meanwhile goes to the next waiter or is closed.
    ///
    /// # Errors
    /// With [`PoolError::Paused`] it has not been tried: by the time the database goes on, another
    /// pool may be the primary's.
    pub async fn checkout(&self, pool: &Arc<Pool>, caller: Caller) -> Result<Lease, PoolError> {
        match self.checkout_idle(pool, caller) {
            Some(lease) => Ok(lease),
            None => Box::pin(self.checkout_slowly(pool, caller)).await,
        }
    }

    /// An idle connection of this thread, if nobody waits for one longer.
    pub fn checkout_idle(&self, pool: &Arc<Pool>, caller: Caller) -> Option<Lease> {
        if pool.has_waiters() || pool.gate.is_closed_to(caller) {
            return None;
        }
        loop {
            let mut lease = self.pop_idle(pool)?;
            if lease.generation == pool.generation() && !pool.is_overfull() && lease.is_quiet() {
                return Some(lease);
            }
        }
    }

    fn pop_idle(&self, pool: &Pool) -> Option<Lease> {
        self.idle.borrow_mut().get_mut(pool.slot)?.pop()
    }

    async fn checkout_slowly(&self, pool: &Arc<Pool>, caller: Caller) -> Result<Lease, PoolError> {
        let began = Instant::now();
        let paused = || PoolError::Paused(Arc::clone(&pool.label));
        if pool.gate.is_closed_to(caller) {
            return Err(paused());
        }
        if pool.has_waiters() {
            pool.forget_the_impatient();
            if let Some(lease) = self.checkout_idle(pool, caller) {
                return Ok(lease);
            }
        }
        if !pool.has_waiters() {
            match pool.try_open(caller) {
                Ok(permit) => return self.open(pool, permit).await,
                Err(NoPlace::Wait) => {}
                Err(NoPlace::Paused) => return Err(paused()),
                Err(NoPlace::Broken(why)) => return Err(PoolError::Connect(Arc::clone(&pool.label), why)),
            }
        }
        let settings = pool.settings();
        let (mut waiter, first) = pool.join_queue();
        if first {
            self.threads.send_to_others(self.thread, pool);
        }
        // One may have been closed, and one of this thread's given back, before we were in the queue.
        if let Ok(permit) = pool.try_open(caller)
            && let Some(Grant::Permit(unused)) = pool.offer(Grant::Permit(permit))
        {
            drop(unused);
        }
        if let Some(lease) = self.pop_idle(pool) {
            self.give_back(lease);
        }
        let deadline = tokio::time::Instant::from_std(began + settings.checkout_timeout);
        let granted = loop {
            tokio::select! {
                granted = tokio::time::timeout_at(deadline, &mut waiter) => break granted,
                () = pool.gate.closed_to(caller) => return Err(paused()),
                () = next_try(pool, caller) => {
                    if let Ok(permit) = pool.try_open(caller) {
                        return self.open(pool, permit).await;
                    }
                }
            }
        };
        match granted {
            Ok(Ok(Grant::Lease(mut lease))) => {
                if lease.is_quiet() {
                    return Ok(lease);
                }
                // It has died while it was idle. Its place is ours.
                let permit = lease.into_permit();
                self.open(pool, permit).await
            }
            Ok(Ok(Grant::Permit(permit))) => self.open(pool, permit).await,
            // Sent away: the server is not there, or not the one to wait for.
            Ok(Err(_)) => Err(pool.last_failure().unwrap_or(PoolError::Moved(Arc::clone(&pool.label)))),
            Err(_) => Err(PoolError::Exhausted {
                label: Arc::clone(&pool.label),
                size: settings.size,
                timeout: settings.checkout_timeout,
            }),
        }
    }

    async fn open(&self, pool: &Arc<Pool>, permit: Permit) -> Result<Lease, PoolError> {
        let generation = pool.generation();
        let cuts = pool.sockets.cuts();
        let _opening = pool.opening();
        let server = match backend::connect(&pool.target).await {
            Ok(server) => server,
            Err(error) => {
                pool.metrics.server_connect_errors.inc();
                tracing::warn!(
                    database = pool.label.database,
                    shard = pool.label.shard,
                    user = pool.label.user,
                    "cannot open a server connection: {error}"
                );
                let error = Arc::new(error);
                if error.is_passing() {
                    permit.failed(&error);
                }
                return Err(PoolError::Connect(Arc::clone(&pool.label), error));
            }
        };
        let socket = server.socket().map_err(|error| {
            // No descriptor is free.
            let error = ConnectError::Unreachable(pool.target.endpoint.clone(), error);
            PoolError::Connect(Arc::clone(&pool.label), Arc::new(error))
        })?;
        let Some(socket) = pool.sockets.add(cuts, socket) else {
            return Err(PoolError::Moved(Arc::clone(&pool.label)));
        };
        pool.metrics.server_connects.inc();
        permit.used();
        let lifetime = jittered(pool.settings().max_lifetime);
        Ok(Lease::new(server, Arc::clone(pool), socket, self.thread, generation, Instant::now() + lifetime))
    }

    /// Takes back a connection that is idle and clean.
    pub fn give_back(&self, mut lease: Lease) {
        let now = Instant::now();
        lease.reading = None;
        // A paused pool keeps none, not even for whoever it still lets in.
        if !lease.is_current(now) || lease.pool().is_overfull() || lease.pool().gate.is_closed() {
            return;
        }
        lease.used = now;
        if lease.pool().has_waiters() {
            let pool = Arc::clone(lease.pool());
            match pool.offer(Grant::Lease(lease)) {
                Some(Grant::Lease(unwanted)) => lease = unwanted,
                _ => return,
            }
        }
        if lease.home == self.thread {
            self.keep(lease);
        } else {
            let home = lease.home;
            // If that thread has ended, the lease is dropped with the message: closed.
            self.threads.send(home, Message::Return(lease));
        }
    }

    fn keep(&self, lease: Lease) {
        let slot = lease.pool().slot;
        let mut idle = self.idle.borrow_mut();
        if idle.len() <= slot {
            idle.resize_with(slot + 1, Vec::new);
        }
        idle[slot].push(lease);
    }

    /// Serves the other threads' requests until the last of them is gone.
    pub async fn answer(&self, mut messages: UnboundedReceiver<Message>) {
        while let Some(message) = messages.recv().await {
            match message {
                Message::Return(lease) => self.give_back(lease),
                Message::GiveUp(pool) => {
                    while pool.has_waiters() {
                        let Some(lease) = self.pop_idle(&pool) else { break };
                        self.give_back(lease);
                    }
                }
            }
        }
    }

    /// Closes idle connections that are too old, unused too long, of no use, or broken.
    pub fn tidy(&self) {
        let now = Instant::now();
        let mut closing = Vec::new();
        for idle in self.idle.borrow_mut().iter_mut() {
            let Some(first) = idle.first() else { continue };
            let settings = first.pool().settings();
            let mut at = 0;
            while at < idle.len() {
                let lease = &mut idle[at];
                let spare = lease.pool().state().open > settings.min_idle;
                let unused = now.duration_since(lease.used) > settings.idle_timeout;
                if !lease.is_current(now) || (unused && spare) || !lease.is_quiet() {
                    closing.push(idle.remove(at));
                } else {
                    at += 1;
                }
            }
        }
        // A drop may look at the queue; not while the list is borrowed.
        drop(closing);
    }

    /// Opens what `min_idle` asks for, one connection a call.
    pub async fn warm(&self, pool: &Arc<Pool>) -> Result<(), PoolError> {
        if pool.is_retired() || pool.state().open >= pool.settings().min_idle {
            return Ok(());
        }
        if let Ok(permit) = pool.try_open(Caller::Anybody) {
            let lease = self.open(pool, permit).await?;
            self.give_back(lease);
        }
        Ok(())
    }

    /// The idle connections of this thread.
    pub fn idle_servers(&self) -> Vec<IdleServer> {
        let idle = self.idle.borrow();
        let row = |lease: &Lease| IdleServer {
            pool: Arc::clone(lease.pool()),
            pid: lease.cancel_key.pid,
            facts: Arc::clone(&lease.facts),
            used: lease.used,
            generation: lease.generation,
        };
        idle.iter().flatten().map(row).collect()
    }
}

/// A connection that waits for a client, for the console.
pub struct IdleServer {
    /// Whose.
    pub pool: Arc<Pool>,
    /// The PostgreSQL process.
    pub pid: u32,
    /// What is known of it.
    pub facts: Arc<Facts>,
    /// When it was last given back.
    pub used: Instant,
    /// Its pool's generation when it was opened.
    pub generation: u64,
}

/// When an attempt to open a connection may be made after one that failed; never, if none has. Behind a
/// gate that is closed to others, places that become free are offered to nobody: they are looked for.
async fn next_try(pool: &Pool, caller: Caller) {
    match pool.broken_until() {
        Some(due) => tokio::time::sleep(due.saturating_duration_since(Instant::now()).max(LOOK_AGAIN)).await,
        None if caller != Caller::Anybody => {
            pool.gate.closed_to(Caller::Anybody).await;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        None => std::future::pending().await,
    }
}

/// While somebody else makes the attempt that is due.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A fleet opened together should not be closed together.
fn jittered(lifetime: Duration) -> Duration {
    lifetime.mul_f64(rand::random_range(0.9..=1.0))
}
