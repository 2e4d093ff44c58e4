//! How others reach a session: cancel requests, the console, a shutdown.
//!
//! A cancel must hit the statement that was running and never the next one, whoever's that is.
//! So while one is on its way the server connection is not given back
//! ([`Control::cancels_done`]): PostgreSQL ignores a cancel that finds it idle, and the request's
//! connection is closed only after the signal has been sent.

use super::company::Company;
use super::pins::Pins;
use super::worker::{ClientInfo, ServerInUse, Worker};
use crate::backend::{self, CancelKey, Ends, Facts};
use crate::error::ClientError;
use crate::pool::Lease;
use rand::RngExt;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Instant, SystemTime};
use subtle::ConstantTimeEq;
use tokio::sync::Notify;

/// A session's handle for the rest of its thread.
pub(super) struct Control {
    pub(super) pid: u32,
    secret: Vec<u8>,
    connected: SystemTime,
    address: String,
    ends: Ends,
    pub(super) user: RefCell<String>,
    pub(super) database: RefCell<String>,
    pub(super) application_name: RefCell<String>,
    pub(super) pinned: Cell<Pins>,
    pub(super) prepared: Cell<usize>,
    waiting_since: Cell<Option<Instant>>,
    /// When its last statement came that a server runs.
    pub(super) asked: Cell<Option<Instant>>,
    /// A statement is under way.
    pub(super) running: Cell<bool>,
    /// A statement or a transaction is under way.
    pub(super) active: Cell<bool>,
    server: RefCell<Option<InUse>>,
    /// Servers that run a statement together.
    team: RefCell<Vec<(Arc<CancelKey>, Arc<str>)>>,
    /// Of a session that has had a transaction on several servers.
    pub(super) company: RefCell<Option<Box<Company>>>,
    /// It is the victim of a deadlock.
    pub(super) judged: Cell<bool>,
    cancels: Cell<u32>,
    cancelled: Notify,
    /// Ends the wait for a server.
    wait_ended: Notify,
    killed: RefCell<Option<Box<ClientError>>>,
    /// Something it waits by has changed.
    looks_up: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The server connection a session uses.
struct InUse {
    key: Arc<CancelKey>,
    shard: Arc<str>,
    facts: Arc<Facts>,
    generation: u64,
}

/// Takes the session off its thread's list when it ends.
pub(super) struct Registration {
    worker: Rc<Worker>,
    pub(super) control: Rc<Control>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.worker.controls.borrow_mut().remove(&self.control.pid);
    }
}

impl Control {
    /// For a new session, whose secret has `secret_len` bytes.
    pub(super) fn register(
        worker: &Rc<Worker>,
        secret_len: usize,
        address: String,
        ends: Ends,
    ) -> Registration {
        let mut secret = vec![0; secret_len];
        rand::rng().fill(&mut secret[..]);
        let control = Rc::new(Control {
            pid: worker.new_pid(),
            secret,
            connected: SystemTime::now(),
            address,
            ends,
            user: RefCell::default(),
            database: RefCell::default(),
            application_name: RefCell::default(),
            pinned: Cell::default(),
            prepared: Cell::new(0),
            waiting_since: Cell::new(None),
            asked: Cell::new(None),
            running: Cell::new(false),
            active: Cell::new(false),
            server: RefCell::new(None),
            team: RefCell::default(),
            company: RefCell::default(),
            judged: Cell::new(false),
            cancels: Cell::new(0),
            cancelled: Notify::new(),
            wait_ended: Notify::new(),
            killed: RefCell::new(None),
            looks_up: Cell::new(false),
            waker: RefCell::new(None),
        });
        worker.controls.borrow_mut().insert(control.pid, Rc::clone(&control));
        Registration { worker: Rc::clone(worker), control }
    }

    /// The key's second half.
    pub(super) fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// The session now uses this server connection.
    pub(super) fn attached(&self, lease: &Lease, shard: &Arc<str>) {
        *self.server.borrow_mut() = Some(InUse {
            key: Arc::clone(&lease.cancel_key),
            shard: Arc::clone(shard),
            facts: Arc::clone(&lease.facts),
            generation: lease.generation(),
        });
    }

    /// It uses none.
    pub(super) fn detached(&self) {
        *self.server.borrow_mut() = None;
        self.waits_no_more();
    }

    /// These servers run a statement of the session's together; none do any more if it is empty.
    pub(super) fn teams_up(&self, team: Vec<(Arc<CancelKey>, Arc<str>)>) {
        if team.is_empty() {
            self.disbands();
        }
        *self.team.borrow_mut() = team;
    }

    /// Carries out a cancel request, if the secret is right and something runs.
    pub(super) async fn cancel(&self, secret: &[u8]) {
        if !bool::from(self.secret.as_slice().ct_eq(secret)) {
            tracing::info!(pid = self.pid, "a cancel request came with a wrong key");
            return;
        }
        self.cancel_running().await;
    }

    /// Until a cancel comes while the statement waits for a server. Cancel safe.
    pub(super) async fn wait_cancelled(&self) {
        self.wait_ended.notified().await;
    }

    /// Cancels what runs now.
    pub(super) async fn cancel_running(&self) {
        if self.waiting_since.get().is_some() {
            self.wait_ended.notify_waiters();
            return;
        }
        let mut servers = self.team.borrow().clone();
        if servers.is_empty() {
            let held = self.server.borrow();
            servers.extend(held.as_ref().map(|server| (Arc::clone(&server.key), Arc::clone(&server.shard))));
        }
        self.cancel_on(servers).await;
    }

    /// Cancels what runs on these servers, one after the other.
    pub(super) async fn cancel_on(&self, servers: Vec<(Arc<CancelKey>, Arc<str>)>) {
        if servers.is_empty() {
            return;
        }
        self.cancels.set(self.cancels.get() + 1);
        for (key, shard) in servers {
            if let Err(error) = backend::cancel(&key).await {
                tracing::warn!(shard = &*shard, "a cancel request did not reach the server: {error}");
            }
        }
        self.cancels.set(self.cancels.get() - 1);
        self.cancelled.notify_waiters();
    }

    /// The session waits for something that is not the client's or its server's to give.
    pub(super) fn waits_since(&self, since: Option<Instant>) {
        self.waiting_since.set(since);
    }

    /// Is a cancel on its way?
    pub(super) fn is_being_cancelled(&self) -> bool {
        self.cancels.get() > 0
    }

    /// Waits until no cancel is on its way. Cancel safe.
    pub(super) async fn cancels_done(&self) {
        loop {
            let done = self.cancelled.notified();
            if !self.is_being_cancelled() {
                return;
            }
            done.await;
        }
    }

    /// Ends the session with this error.
    pub(super) fn kill(&self, error: ClientError) {
        *self.killed.borrow_mut() = Some(Box::new(error));
        self.wake();
    }

    /// Why it has to end, if it has to.
    pub(super) fn take_kill(&self) -> Option<ClientError> {
        self.killed.borrow_mut().take().map(|error| *error)
    }

    /// The session waits: whom to wake.
    pub(super) fn waits(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
    }

    /// Has it stop waiting, and look anew at what it waits for and how long.
    pub(super) fn look_up(&self) {
        self.looks_up.set(true);
        self.wake();
    }

    /// Was it asked to?
    pub(super) fn take_look_up(&self) -> bool {
        self.looks_up.take()
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// For the console.
    pub(super) fn info(&self) -> ClientInfo {
        ClientInfo {
            pid: self.pid,
            user: self.user.borrow().clone(),
            database: self.database.borrow().clone(),
            application_name: self.application_name.borrow().clone(),
            address: self.address.clone(),
            ends: self.ends.clone(),
            asked: self.asked.get(),
            running: self.running.get(),
            connected: self.connected,
            active: self.active.get(),
            waiting_since: self.waiting_since.get(),
            server: self.server.borrow().as_ref().map(|server| ServerInUse {
                shard: Arc::clone(&server.shard),
                endpoint: server.key.endpoint.clone(),
                pid: server.key.pid,
                facts: Arc::clone(&server.facts),
                generation: server.generation,
            }),
            pinned: self.pinned.get().reason(),
            prepared: self.prepared.get(),
        }
    }
}
