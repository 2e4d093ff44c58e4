//! Which pool leads to a shard's primary now.

use super::health::{NoPrimary, ShardBoard};
use super::readers::Readers;
use super::shared::{Label, Pool, PoolError};
use super::{Gate, Lease, Local};
use crate::auth::Keyring;
use crate::backend::Target;
use crate::config::{self, Endpoint, TlsMode};
use crate::telemetry::metrics::ShardMetrics;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_rustls::rustls::ClientConfig;

/// All pools of the process. A reload keeps those whose servers and logins stay the same.
pub struct Registry {
    pools: Mutex<HashMap<Label, Arc<Pool>>>,
    settings: Arc<ArcSwap<config::Pool>>,
    slots: AtomicUsize,
    free_slots: Arc<Mutex<Vec<usize>>>,
    gates: Mutex<Gates>,
}

/// The gates of all databases there have been.
#[derive(Default)]
struct Gates {
    /// All are closed, and those to come.
    all: bool,
    by_database: HashMap<String, Arc<Gate>>,
}

impl Registry {
    /// Without pools; they come into being when they are first needed.
    pub fn new(settings: config::Pool) -> Registry {
        Registry {
            pools: Mutex::default(),
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            slots: AtomicUsize::new(0),
            free_slots: Arc::default(),
            gates: Mutex::default(),
        }
    }

    /// A database's gate. It outlives reloads.
    pub fn gate(&self, database: &str) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let all = gates.all;
        let gate = gates.by_database.entry(database.to_owned()).or_insert_with(|| Arc::new(Gate::new(all)));
        Arc::clone(gate)
    }

    /// Are all databases paused?
    pub fn is_paused(&self) -> bool {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// Hands out no connections any more, of one database or of all, and has those there are closed
    /// as they become free; false when it was paused already.
    pub fn pause(&self, database: Option<&str>) -> bool {
        let changed = match database {
            Some(name) => self.gate(name).close(),
            None => self.set_all(true),
        };
        self.renew(database);
        changed
    }

    /// Undoes [`Registry::pause`] of the same; false when there was nothing to undo.
    pub fn resume(&self, database: Option<&str>) -> bool {
        match database {
            Some(name) => self.gate(name).open(),
            None => self.set_all(false),
        }
    }

    fn set_all(&self, closed: bool) -> bool {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut gates.all, closed);
        gates.by_database.values().for_each(|gate| gate.set_all(closed));
        before != closed
    }

    /// Closes connections, of one database or of all, as they become free.
    pub fn renew(&self, database: Option<&str>) {
        for pool in self.all() {
            if database.is_none_or(|name| name == pool.label.database) {
                pool.renew();
            }
        }
    }

    /// New limits and timeouts, for all pools at once.
    pub fn set_settings(&self, settings: config::Pool) {
        self.settings.store(Arc::new(settings));
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
            pool.retire();
        }
        let free = self.free_slots.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let slot = free.unwrap_or_else(|| self.slots.fetch_add(1, Ordering::Relaxed));
        let pool = Arc::new(Pool::new(
            label.clone(),
            target,
            slot,
            Arc::clone(&self.settings),
            metrics.clone(),
            self.gate(&label.database),
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
                pool.retire();
            }
            kept
        });
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
    /// Its database's.
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

    /// The primary's pool, waiting for one as long as `failover_hold` if there has been one.
    /// Cancel safe.
    pub async fn primary_or_wait(
        &mut self,
        shard: &Shard,
        user: &ShardUser,
    ) -> Result<&Arc<Pool>, PoolError> {
        if matches!(shard.board.load().roles.primary, Err(NoPrimary::Unknown)) {
            // A shard that a reload has just added: its first probe is on its way.
            shard.board.wait_for_verdict(shard.failover_hold).await;
        }
        if self.primary(shard, user).is_err() && shard.had_primary.load(Ordering::Relaxed) {
            // What it found, or why not, is what the second look sees.
            let _ = shard.board.wait_for_primary(shard.failover_hold).await;
            let held = Some(shard.failover_hold);
            return self.primary(shard, user).map_err(|error| match error {
                PoolError::NoPrimary { shard, reason, .. } => PoolError::NoPrimary { shard, reason, held },
                other => other,
            });
        }
        self.primary(shard, user)
    }
}

impl ShardAccess {
    /// Who may serve reads, without waiting.
    pub fn readers(&mut self, shard: &Shard, user: &ShardUser) -> &Readers {
        let snapshot = shard.board.load();
        let known = self.readers.take().filter(|readers| readers.generation == snapshot.generation);
        self.readers.insert(known.unwrap_or_else(|| Box::new(Readers::of(&snapshot, shard, user))))
    }

    /// A connection to the primary: as [`ShardAccess::primary_or_wait`] and [`Local::checkout`],
    /// and not before the database goes on if it is paused. Cancel safe.
    pub async fn checkout(
        &mut self,
        shard: &Shard,
        user: &ShardUser,
        local: &Local,
    ) -> Result<Lease, PoolError> {
        loop {
            shard.gate.opened().await;
            let pool = self.primary_or_wait(shard, user).await?;
            match local.checkout(pool).await {
                Err(PoolError::Paused(_)) => {}
                outcome => return outcome,
            }
        }
    }
}

impl Shard {
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
