//! Which pool leads to a shard's primary now.

use super::gate::Closer;
use super::health::{NoPrimary, ShardBoard};
use super::readers::Readers;
use super::shared::{Label, Pool, PoolError};
use super::{Caller, Gate, Lease, Local};
use crate::auth::Keyring;
use crate::backend::Target;
use crate::config::{self, Endpoint, TlsMode};
use crate::telemetry::metrics::ShardMetrics;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio_rustls::rustls::ClientConfig;

/// All pools of the process. A reload keeps those whose servers and logins stay the same.
pub struct Registry {
    pools: Mutex<HashMap<Label, Arc<Pool>>>,
    /// Those that are retired, while connections of theirs are in use.
    leaving: Mutex<Vec<Weak<Pool>>>,
    settings: Arc<ArcSwap<config::Pool>>,
    slots: AtomicUsize,
    free_slots: Arc<Mutex<Vec<usize>>>,
    gates: Mutex<Gates>,
}

/// The gates of all shards there have been.
#[derive(Default)]
struct Gates {
    /// All are closed, and those to come.
    all: bool,
    databases: HashMap<String, DatabaseGates>,
}

#[derive(Default)]
struct DatabaseGates {
    /// All of its shards are closed, and those to come.
    closed: bool,
    shards: HashMap<String, Arc<Gate>>,
}

/// What `PAUSE`, `RESUME` and `KILL` are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paused<'a> {
    /// Everything.
    All,
    /// A database.
    Database(&'a str),
    /// A shard of a database.
    Shard(&'a str, &'a str),
}

impl Paused<'_> {
    fn includes(self, label: &Label) -> bool {
        match self {
            Paused::All => true,
            Paused::Database(database) => label.database == database,
            Paused::Shard(database, shard) => label.database == database && label.shard == shard,
        }
    }
}

impl Registry {
    /// Without pools; they come into being when they are first needed.
    pub fn new(settings: config::Pool) -> Registry {
        Registry {
            pools: Mutex::default(),
            leaving: Mutex::default(),
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            slots: AtomicUsize::new(0),
            free_slots: Arc::default(),
            gates: Mutex::default(),
        }
    }

    fn gates(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shard's gate. It outlives reloads.
    pub fn gate(&self, database: &str, shard: &str) -> Arc<Gate> {
        let mut gates = self.gates();
        let all = gates.all;
        let of_database = gates.databases.entry(database.to_owned()).or_default();
        let closers = [(Closer::All, all), (Closer::Database, of_database.closed)];
        let closers: Vec<Closer> =
            closers.into_iter().filter_map(|(closer, closed)| closed.then_some(closer)).collect();
        let gate =
            of_database.shards.entry(shard.to_owned()).or_insert_with(|| Arc::new(Gate::new(&closers)));
        Arc::clone(gate)
    }

    /// Those that a command concerns.
    pub fn gates_of(&self, which: Paused<'_>) -> Vec<Arc<Gate>> {
        let gates = self.gates();
        let of_database =
            |database: &DatabaseGates| database.shards.values().cloned().collect::<Vec<Arc<Gate>>>();
        match which {
            Paused::All => gates.databases.values().flat_map(of_database).collect(),
            Paused::Database(name) => gates.databases.get(name).map(of_database).unwrap_or_default(),
            Paused::Shard(database, shard) => {
                let found = gates.databases.get(database).and_then(|database| database.shards.get(shard));
                found.into_iter().cloned().collect()
            }
        }
    }

    /// Is everything of this paused? Of a database, whether by its own `PAUSE` or by one of all.
    pub fn is_paused(&self, which: Paused<'_>) -> bool {
        let gates = self.gates();
        match which {
            Paused::All => gates.all,
            Paused::Database(name) => {
                gates.all || gates.databases.get(name).is_some_and(|database| database.closed)
            }
            Paused::Shard(database, shard) => {
                let found = gates.databases.get(database).and_then(|database| database.shards.get(shard));
                found.is_some_and(|gate| gate.is_closed())
            }
        }
    }

    /// Hands out no connections any more, and has those there are closed as they become free; false
    /// when it was paused already.
    pub fn pause(&self, which: Paused<'_>) -> bool {
        let changed = self.set(which, true);
        for pool in self.all().into_iter().filter(|pool| which.includes(&pool.label)) {
            pool.renew();
        }
        changed
    }

    /// Undoes [`Registry::pause`] of the same; false when there was nothing to undo.
    pub fn resume(&self, which: Paused<'_>) -> bool {
        self.set(which, false)
    }

    fn set(&self, which: Paused<'_>, closed: bool) -> bool {
        let mut gates = self.gates();
        match which {
            Paused::All => {
                let before = std::mem::replace(&mut gates.all, closed);
                for gate in gates.databases.values().flat_map(|database| database.shards.values()) {
                    gate.set(Closer::All, closed);
                }
                before != closed
            }
            Paused::Database(name) => {
                let database = gates.databases.entry(name.to_owned()).or_default();
                let before = std::mem::replace(&mut database.closed, closed);
                for gate in database.shards.values() {
                    gate.set(Closer::Database, closed);
                }
                before != closed
            }
            Paused::Shard(database, shard) => {
                let found = gates.databases.get(database).and_then(|database| database.shards.get(shard));
                found.is_some_and(|gate| gate.set(Closer::Shard, closed))
            }
        }
    }

    /// Ends all connections to an endpoint of a shard, whatever is under way on them; how many.
    pub fn cut(&self, database: &str, shard: &str, endpoint: &Endpoint) -> usize {
        let endpoint = endpoint.to_string();
        let is_there =
            |label: &Label| label.database == database && label.shard == shard && label.endpoint == endpoint;
        let mut pools = self.all();
        {
            let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
            pools.extend(leaving.iter().filter_map(Weak::upgrade));
        }
        pools.iter().filter(|pool| is_there(&pool.label)).map(|pool| pool.cut()).sum()
    }

    /// Closes connections, of one database or of all, as they become free.
    pub fn renew(&self, database: Option<&str>) {
        for pool in self.all() {
            if database.is_none_or(|name| name == pool.label.database) {
                pool.renew();
            }
        }
    }

    /// New limits and timeouts, for all pools at once. Where there is more room now, those who wait
    /// have it before anybody who comes later.
    pub fn set_settings(&self, settings: config::Pool) {
        self.settings.store(Arc::new(settings));
        self.all().iter().for_each(Pool::admit);
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<config::Pool> {
        self.settings.load_full()
    }

    /// The pool of this name; a new one if there is none or it logs in differently.
    pub fn pool(&self, label: &Label, target: Target, metrics: &ShardMetrics) -> Arc<Pool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(label) {
            if same_login(&pool.target, &target) {
                return Arc::clone(pool);
            }
            self.retire(pool);
        }
        let free = self.free_slots.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let slot = free.unwrap_or_else(|| self.slots.fetch_add(1, Ordering::Relaxed));
        let pool = Arc::new(Pool::new(
            label.clone(),
            target,
            slot,
            Arc::clone(&self.settings),
            metrics.clone(),
            self.gate(&label.database, &label.shard),
            Arc::clone(&self.free_slots),
        ));
        pools.insert(label.clone(), Arc::clone(&pool));
        pool
    }

    /// Retires the pools for which `keep` is false.
    pub fn retain(&self, keep: impl Fn(&Label) -> bool) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|label, pool| {
            let kept = keep(label);
            if !kept {
                self.retire(pool);
            }
            kept
        });
    }

    fn retire(&self, pool: &Arc<Pool>) {
        pool.retire();
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|left| left.strong_count() > 0);
        leaving.push(Arc::downgrade(pool));
    }

    /// Retires the pools of one user of a database.
    pub fn retire_user(&self, database: &str, user: &str) {
        self.retain(|label| label.database != database || label.user != user);
    }

    /// Forgets the pools without a connection that no session has in mind, if `may_go`.
    pub fn forget_unused(&self, may_go: impl Fn(&Label) -> bool) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever gets hold of a pool takes it from here, and so not meanwhile.
        pools.retain(|label, pool| Arc::strong_count(pool) > 1 || pool.state().open > 0 || !may_go(label));
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

fn same_login(a: &Target, b: &Target) -> bool {
    let same_tls = match (&a.tls_config, &b.tls_config) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    };
    a.endpoint == b.endpoint
        && a.tls == b.tls
        && same_tls
        && a.dbname == b.dbname
        && a.user == b.user
        && Arc::ptr_eq(&a.keyring, &b.keyring)
        && a.timeout == b.timeout
        && a.tcp == b.tcp
}

/// A shard as sessions reach it.
pub struct Shard {
    /// The database as clients name it.
    pub database: String,
    /// The shard's name.
    pub name: String,
    /// The server's name of the database.
    pub dbname: String,
    /// When to encrypt.
    pub tls: TlsMode,
    /// How.
    pub tls_config: Option<Arc<ClientConfig>>,
    /// The most that opening a connection may take.
    pub connect_timeout: Duration,
    /// How silence on the way is noticed.
    pub tcp: config::Tcp,
    /// How long a transaction waits for a new primary once one has been lost.
    pub failover_hold: Duration,
    /// Its counters.
    pub metrics: ShardMetrics,
    /// What is known of its endpoints.
    pub board: Arc<ShardBoard>,
    /// Its own.
    pub gate: Arc<Gate>,
    /// Where its pools are.
    pub registry: Arc<Registry>,
    /// A primary has been seen: if none is there now, one may come back.
    pub had_primary: AtomicBool,
}

/// Whom sessions of a user log in as.
#[derive(Clone, Debug)]
pub struct ShardUser {
    /// The role.
    pub name: String,
    /// What it logs in with.
    pub keyring: Arc<Keyring>,
}

/// A session's memory of which pool is a shard's primary, good for one generation of its health, and
/// of which are its replicas', if the session reads from them.
#[derive(Default)]
pub struct ShardAccess {
    known: Option<(u64, Arc<Pool>)>,
    readers: Option<Box<Readers>>,
}

impl ShardAccess {
    /// The primary's pool, without waiting.
    ///
    /// # Errors
    /// [`PoolError::NoPrimary`].
    pub fn primary(&mut self, shard: &Shard, user: &ShardUser) -> Result<&Arc<Pool>, PoolError> {
        let snapshot = shard.board.load();
        if !matches!(&self.known, Some((generation, _)) if *generation == snapshot.generation) {
            let endpoint = match snapshot.primary() {
                Ok(endpoint) => &endpoint.address,
                Err(why) => {
                    return Err(PoolError::NoPrimary {
                        shard: shard.name.clone(),
                        reason: why.to_string(),
                        held: None,
                    });
                }
            };
            shard.had_primary.store(true, Ordering::Relaxed);
            self.known = Some((snapshot.generation, shard.pool(endpoint, user)));
        }
        Ok(&self.known.as_ref().expect("set above when it was not").1)
    }

    /// The primary's pool, waiting for one until `deadline` if there has been one. Cancel safe.
    async fn primary_or_wait(
        &mut self,
        shard: &Shard,
        user: &ShardUser,
        deadline: Instant,
    ) -> Result<&Arc<Pool>, PoolError> {
        let left = || deadline.saturating_duration_since(Instant::now());
        if matches!(shard.board.load().roles.primary, Err(NoPrimary::Unknown)) {
            // A shard that a reload has just added: its first probe is on its way.
            shard.board.wait_for_verdict(left()).await;
        }
        if self.primary(shard, user).is_err() && shard.had_primary.load(Ordering::Relaxed) {
            // What it found, or why not, is what the second look sees.
            let _ = shard.board.wait_for_primary(left()).await;
            let held = Some(shard.failover_hold);
            return self.primary(shard, user).map_err(|error| match error {
                PoolError::NoPrimary { shard, reason, .. } => PoolError::NoPrimary { shard, reason, held },
                other => other,
            });
        }
        self.primary(shard, user)
    }

    /// Who may serve reads, without waiting.
    pub fn readers(&mut self, shard: &Shard, user: &ShardUser) -> &Readers {
        let snapshot = shard.board.load();
        let known = self.readers.take().filter(|readers| readers.generation == snapshot.generation);
        self.readers.insert(known.unwrap_or_else(|| Box::new(Readers::of(&snapshot, shard, user))))
    }

    /// A connection to the primary, and not before the shard goes on if it is paused. While the
    /// primary is being lost, whether that is known yet or not, one to its successor is waited for
    /// as long as `failover_hold`. Cancel safe.
    pub async fn checkout(
        &mut self,
        shard: &Shard,
        user: &ShardUser,
        local: &Local,
        caller: Caller,
    ) -> Result<Lease, PoolError> {
        let mut changes = shard.board.subscribe();
        let mut deadline = None;
        loop {
            if shard.gate.is_closed_to(caller) {
                shard.gate.opened_to(caller).await;
                // A pause is no failure, and may last.
                deadline = None;
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + shard.failover_hold);
            changes.borrow_and_update();
            let pool = self.primary_or_wait(shard, user, deadline).await?;
            let outcome = tokio::select! {
                biased;
                outcome = local.checkout(pool, caller) => outcome,
                () = shard.board.moves_from(&pool.target.endpoint) => continue,
            };
            let error = match outcome {
                Ok(lease) => return Ok(lease),
                Err(PoolError::Paused(_) | PoolError::Moved(_)) => continue,
                Err(error) => error,
            };
            let is_over = match &error {
                PoolError::Connect(_, why) if why.is_timeout() => !shard.is_troubled(),
                PoolError::Connect(_, why) => !why.is_passing(),
                // What is in use may be so because its server does not answer any more.
                PoolError::Exhausted { .. } => !shard.is_troubled(),
                _ => true,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if is_over || left.is_zero() || !shard.had_primary.load(Ordering::Relaxed) {
                return Err(error);
            }
            // Roles may say otherwise already, or in a moment.
            shard.board.probe_now();
            let due = pool.broken_until().map(|due| due.saturating_duration_since(Instant::now()));
            let pause = due.unwrap_or_default().max(RETRY).mul_f64(rand::random_range(1.0..=2.0));
            let _ = tokio::time::timeout(pause.min(left), changes.changed()).await;
        }
    }
}

/// At least this long after a server could not be reached before it is tried again.
const RETRY: Duration = Duration::from_millis(10);

impl Shard {
    /// Has it no primary, or one that has just failed to answer?
    pub fn is_troubled(&self) -> bool {
        self.board.load().is_troubled()
    }

    /// The pool of one of its endpoints.
    pub fn pool(&self, endpoint: &Endpoint, user: &ShardUser) -> Arc<Pool> {
        let label = Label {
            database: self.database.clone(),
            shard: self.name.clone(),
            endpoint: endpoint.to_string(),
            user: user.name.clone(),
        };
        let target = Target {
            endpoint: endpoint.clone(),
            tls: self.tls,
            tls_config: self.tls_config.clone(),
            dbname: self.dbname.clone(),
            user: user.name.clone(),
            keyring: Arc::clone(&user.keyring),
            timeout: self.connect_timeout,
            tcp: self.tcp.clone(),
        };
        self.registry.pool(&label, target, &self.metrics)
    }
}
