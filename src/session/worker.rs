//! What all sessions of a thread share. Nothing in it is locked: they run one at a time.

use super::cancel::Control;
use super::company::Verdict;
use super::directory::Directory;
use super::neighbours::{Home, Neighbours, cancel_on};
use super::prepared::Interner;
use super::tally::{Tally, Totals};
use crate::backend::{Ends, Facts, Settings};
use crate::config::Endpoint;
use crate::error::{ClientError, SqlState};
use crate::pool::{IdleServer, Local};
use crate::sql::{Lexed, PlanCache};
use crate::telemetry::Metrics;
use arc_swap::ArcSwap;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

/// See the module.
pub struct Worker {
    /// Which thread.
    pub thread: usize,
    /// Its part of the pools.
    pub local: Rc<Local>,
    /// What is configured, for all threads.
    pub directory: Arc<ArcSwap<Directory>>,
    /// The process's counters.
    pub metrics: Arc<Metrics>,
    /// Clients of the whole process.
    pub clients: Arc<AtomicUsize>,
    /// The other threads' mailboxes, by thread, for cancels that arrive at the wrong one.
    pub peers: Arc<Vec<UnboundedSender<WorkerMessage>>>,
    /// The other processes, for the same.
    pub neighbours: Arc<Neighbours>,
    /// Connections of the whole process that are not clients yet.
    pub arrivals: Arc<AtomicUsize>,
    pub(super) totals: Totals,
    pub(super) tallies: RefCell<Vec<Rc<Tally>>>,
    /// Settings that sessions have begun with lately: equal ones are one, and compare by address.
    pub(super) settings: RefCell<Vec<Weak<Settings>>>,
    pub(super) plans: RefCell<PlanCache>,
    pub(super) lexed: RefCell<Lexed>,
    pub(super) interner: RefCell<Interner>,
    contexts: RefCell<HashMap<ContextKey, u64>>,
    numbers: Cell<u64>,
    pub(super) controls: RefCell<HashMap<u32, Rc<Control>>>,
    /// The process goes: how long a session may be at rest before it ends.
    pub(super) draining: Cell<Option<Duration>>,
    next_pid: Cell<u32>,
}

/// What an analysis depends on: the schema's epoch, the search path, the syntax of strings.
pub(super) type ContextKey = (u64, Rc<[String]>, bool);

/// Clients choose search paths; beyond so many the thread forgets them and counts on.
const MOST_CONTEXTS: usize = 4096;

/// What is asked of a thread from outside.
pub enum WorkerMessage {
    /// A cancel request whose key names this thread.
    Cancel {
        /// The key's process id.
        pid: u32,
        /// The rest of it.
        secret: Vec<u8>,
        /// Dropped when it has been carried out, or has not to be.
        done: oneshot::Sender<()>,
    },
    /// Who is here?
    Clients(oneshot::Sender<Vec<ClientInfo>>),
    /// Which server connections are idle here?
    IdleServers(oneshot::Sender<Vec<IdleServer>>),
    /// The process goes: sessions end when they have been at rest for so long.
    Drain(Duration),
    /// Ends one session, or all of a database, or all.
    Kill {
        /// Only this session.
        pid: Option<u32>,
        /// Only sessions of this database.
        database: Option<String>,
    },
    /// A session gives way in a deadlock.
    Fall(Verdict),
    /// Closes idle server connections that are of no use any more.
    Tidy,
}

/// A session, for the console.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// The process id of its cancel key.
    pub pid: u32,
    /// Its user.
    pub user: String,
    /// Its database.
    pub database: String,
    /// What it calls itself.
    pub application_name: String,
    /// Where it comes from.
    pub address: String,
    /// The ends of its connection.
    pub ends: Ends,
    /// Since when.
    pub connected: SystemTime,
    /// When its last statement came that a server runs.
    pub asked: Option<Instant>,
    /// Has a statement under way.
    pub running: bool,
    /// Has a transaction or a statement under way.
    pub active: bool,
    /// Since when it waits for a server connection, if it does.
    pub waiting_since: Option<Instant>,
    /// The server connection it uses.
    pub server: Option<ServerInUse>,
    /// Why it keeps its server.
    pub pinned: Option<&'static str>,
    /// Prepared statements it has.
    pub prepared: usize,
}

/// A server connection that a session uses, for the console.
#[derive(Clone, Debug)]
pub struct ServerInUse {
    /// Of which shard.
    pub shard: Arc<str>,
    /// Where the server is.
    pub endpoint: Endpoint,
    /// The server's process.
    pub pid: u32,
    /// What is known of the connection.
    pub facts: Arc<Facts>,
    /// Its pool's generation when it was opened.
    pub generation: u64,
}

impl Worker {
    /// For one thread.
    #[expect(clippy::too_many_arguments, reason = "what the threads of a process share")]
    pub fn new(
        thread: usize,
        local: Rc<Local>,
        directory: Arc<ArcSwap<Directory>>,
        metrics: Arc<Metrics>,
        clients: Arc<AtomicUsize>,
        arrivals: Arc<AtomicUsize>,
        peers: Arc<Vec<UnboundedSender<WorkerMessage>>>,
        neighbours: Arc<Neighbours>,
    ) -> Rc<Worker> {
        Rc::new(Worker {
            thread,
            local,
            directory,
            totals: Totals::new(&metrics),
            tallies: RefCell::default(),
            settings: RefCell::default(),
            metrics,
            clients,
            arrivals,
            peers,
            neighbours,
            plans: RefCell::new(PlanCache::new(PlanCache::DEFAULT_BYTES)),
            lexed: RefCell::default(),
            interner: RefCell::default(),
            contexts: RefCell::default(),
            numbers: Cell::new(0),
            controls: RefCell::default(),
            draining: Cell::new(None),
            next_pid: Cell::new(1),
        })
    }

    /// These settings as the thread has them already, if it has.
    pub(super) fn shared_settings(&self, settings: Settings) -> Arc<Settings> {
        let mut known = self.settings.borrow_mut();
        known.retain(|settings| settings.strong_count() > 0);
        if let Some(same) = known.iter().filter_map(Weak::upgrade).find(|known| **known == settings) {
            return same;
        }
        let settings = Arc::new(settings);
        known.push(Arc::downgrade(&settings));
        settings
    }

    /// A number that this thread gives to nothing else.
    pub(super) fn new_number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        ((self.thread as u64) << 48) | self.numbers.get()
    }

    /// The number of a context, the same as long as it is remembered.
    pub(super) fn context_number(&self, key: ContextKey) -> u64 {
        let mut contexts = self.contexts.borrow_mut();
        if contexts.len() >= MOST_CONTEXTS {
            contexts.clear();
        }
        *contexts.entry(key).or_insert_with(|| self.new_number())
    }

    /// A process id for a new session, not in use.
    pub(super) fn new_pid(&self) -> u32 {
        let controls = self.controls.borrow();
        loop {
            let counter = self.next_pid.get();
            self.next_pid.set(counter.wrapping_add(1));
            match self.neighbours.pid(self.thread, counter) {
                // Never 0.
                Some(pid) if counter != 0 && !controls.contains_key(&pid) => return pid,
                Some(_) => {}
                None => self.next_pid.set(1),
            }
        }
    }

    /// Sends a cancel to the thread or the process its key names, and waits until it has been
    /// carried out: its client takes the end of its connection for that, and goes on with
    /// statements that are not meant. A key that names none is ignored, as PostgreSQL does.
    pub(super) async fn forward_cancel(&self, pid: u32, secret: Vec<u8>) {
        match self.neighbours.home(pid) {
            Some(Home::Thread(thread)) => cancel_on(&self.peers, thread, pid, secret).await,
            Some(Home::Slot(slot)) => self.neighbours.hand_on(slot, pid, &secret).await,
            None => {}
        }
    }

    /// Sessions of this thread.
    pub fn sessions(&self) -> usize {
        self.controls.borrow().len()
    }

    /// Serves what is asked from outside, until nobody can ask any more.
    pub async fn answer(self: Rc<Self>, mut messages: UnboundedReceiver<WorkerMessage>) {
        while let Some(message) = messages.recv().await {
            match message {
                WorkerMessage::Cancel { pid, secret, done } => {
                    let control = self.controls.borrow().get(&pid).cloned();
                    if let Some(control) = control {
                        tokio::task::spawn_local(async move {
                            control.cancel(&secret).await;
                            drop(done);
                        });
                    }
                }
                WorkerMessage::Clients(reply) => {
                    self.tell();
                    let clients = self.controls.borrow().values().map(|control| control.info()).collect();
                    // Whoever asked may have given up.
                    let _ = reply.send(clients);
                }
                WorkerMessage::IdleServers(reply) => {
                    let _ = reply.send(self.local.idle_servers());
                }
                WorkerMessage::Drain(rest) => {
                    self.draining.set(Some(rest));
                    for control in self.controls.borrow().values() {
                        control.look_up();
                    }
                }
                WorkerMessage::Kill { pid, database } => {
                    // Nobody asks for all of them but a drain that has lasted too long.
                    let all = pid.is_none() && database.is_none() && self.draining.get().is_some();
                    let why = if all {
                        "terminating connection due to drain_timeout: pgring is shutting down"
                    } else {
                        "terminating connection due to administrator command"
                    };
                    for control in self.controls.borrow().values() {
                        let meant = pid.is_none_or(|pid| pid == control.pid)
                            && database
                                .as_deref()
                                .is_none_or(|name| name == control.database.borrow().as_str());
                        if meant {
                            control.kill(ClientError::fatal(SqlState::SHUTTING_DOWN, why));
                        }
                    }
                }
                WorkerMessage::Fall(verdict) => {
                    let control = self.controls.borrow().get(&verdict.session).cloned();
                    if let Some(control) = control {
                        tokio::task::spawn_local(async move { control.fall(verdict).await });
                    }
                }
                WorkerMessage::Tidy => {
                    self.local.tidy();
                    self.tell();
                }
            }
        }
    }
}
