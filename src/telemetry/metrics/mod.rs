//! The metrics of `/metrics`, on a registry of their own.
//!
//! A statement must not look a label up: whatever counts on its path is handed out once, as a
//! [`ShardMetrics`], a [`DatabaseMetrics`] or a counter of its own, and costs an atomic
//! addition from then on. Labels are bounded by the configuration, never taken from a
//! statement or a key. Shards of two databases may have one name, so wherever a shard is a
//! label its database is one too.
//!
//! What a reload takes away stays visible until [`Metrics::retain`] removes it. A handle that
//! outlives its series counts on, unseen.

mod families;
mod handles;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, Histogram, IntCounter, IntGauge, Registry, TextEncoder};

use self::families::{Families, Make, gone};
use self::handles::micros;
pub use self::handles::{
    ClientGauges, DatabaseMetrics, EndpointLabel, PlanCacheCounters, ReadCounters, RouteCounters,
    ServerCount, ShardMetrics, TransactionCounters, TwoPhaseMetrics,
};
use super::snapshot::Totals;

/// All there is to count.
pub struct Metrics {
    registry: Registry,
    /// Clients by what they do.
    pub clients: ClientGauges,
    /// Clients that could not prove who they are, or are not allowed in.
    pub login_failures: IntCounter,
    /// Clients turned away because there were too many.
    pub clients_refused: IntCounter,
    /// How long a checkout took, however it ended.
    pub pool_wait_seconds: Histogram,
    /// Transactions by the shards they used.
    pub transactions: TransactionCounters,
    /// Two-phase commit.
    pub two_phase: TwoPhaseMetrics,
    /// Statements by where they went.
    pub routes: RouteCounters,
    /// Look-ups of statements' analyses.
    pub plan_cache: PlanCacheCounters,
    config_reload_success: IntGauge,
    config_reload_timestamp_seconds: Gauge,
    families: Families,
    /// What was handed out. Also taken while a family is replaced or encoded, so that no
    /// scrape sees it half-filled.
    known: Mutex<BTreeMap<String, KnownDatabase>>,
}

struct KnownDatabase {
    handles: DatabaseMetrics,
    shards: BTreeMap<String, KnownShard>,
    /// What shards that are gone had counted, so that totals never step back.
    retired: OfShards,
}

/// What is a sum over a database's shards.
#[derive(Clone, Copy, Default)]
struct OfShards {
    queries: u64,
    query_us: u64,
    replica_reads: u64,
    replica_read_fallbacks: u64,
}

impl OfShards {
    fn and(self, shard: &ShardMetrics) -> OfShards {
        OfShards {
            queries: self.queries.saturating_add(shard.queries()),
            query_us: self.query_us.saturating_add(shard.query_us()),
            replica_reads: self.replica_reads.saturating_add(shard.reads.replica.get()),
            replica_read_fallbacks: self.replica_read_fallbacks.saturating_add(shard.reads.fallbacks()),
        }
    }
}

struct KnownShard {
    handles: ShardMetrics,
    endpoints: BTreeSet<String>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// Everything at nothing.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let make = Make { registry: &registry };
        let clients = make.int_gauges("clients", "Clients by what they do", &["state"]);
        let transactions =
            make.int_counters("transactions_total", "Transactions by the shards they used", &["kind"]);
        let two_phase =
            make.int_counters("two_phase_total", "Two-phase transactions by how they ended", &["outcome"]);
        let routes = make.int_counters("routes_total", "Statements by where they went", &["route"]);
        let plan_cache =
            make.int_counters("plan_cache_total", "Look-ups of statements' analyses", &["result"]);
        let build = make.int_gauges("build_info", "1, with pgring's version", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Metrics {
            clients: ClientGauges {
                idle: clients.with_label_values(&["idle"]),
                active: clients.with_label_values(&["active"]),
                waiting: clients.with_label_values(&["waiting"]),
            },
            login_failures: make.int_counter("login_failures_total", "Clients that could not log in"),
            clients_refused: make
                .int_counter("clients_refused_total", "Clients turned away because there were too many"),
            pool_wait_seconds: make.histogram("pool_wait_seconds", "How long a checkout took"),
            transactions: TransactionCounters {
                single: transactions.with_label_values(&["single"]),
                multi_read: transactions.with_label_values(&["multi-read"]),
                two_phase: transactions.with_label_values(&["two-phase"]),
            },
            two_phase: TwoPhaseMetrics {
                committed: two_phase.with_label_values(&["committed"]),
                aborted: two_phase.with_label_values(&["aborted"]),
                recovered_commit: two_phase.with_label_values(&["recovered-commit"]),
                recovered_abort: two_phase.with_label_values(&["recovered-abort"]),
                unknown: two_phase.with_label_values(&["unknown"]),
                lost: two_phase.with_label_values(&["lost"]),
                in_doubt: make.int_gauge("two_phase_in_doubt", "Two-phase transactions not yet finished"),
                oldest_seconds: make.gauge("two_phase_oldest_seconds", "Age of the oldest of those in doubt"),
            },
            routes: RouteCounters {
                single: routes.with_label_values(&["single"]),
                subset: routes.with_label_values(&["subset"]),
                all: routes.with_label_values(&["all"]),
                home: routes.with_label_values(&["home"]),
                reference: routes.with_label_values(&["reference"]),
                refused: routes.with_label_values(&["refused"]),
            },
            plan_cache: PlanCacheCounters {
                hit: plan_cache.with_label_values(&["hit"]),
                miss: plan_cache.with_label_values(&["miss"]),
            },
            config_reload_success: make
                .int_gauge("config_reload_success", "1 when the last reading of the configuration succeeded"),
            config_reload_timestamp_seconds: make.gauge(
                "config_reload_timestamp_seconds",
                "When the configuration was last read with success",
            ),
            families: Families::new(&make),
            known: Mutex::new(BTreeMap::new()),
            registry,
        }
    }

    /// The handles of a shard, its series made if they are new. Not for the path of a statement.
    pub fn shard(&self, database: &str, shard: &str) -> ShardMetrics {
        self.known_shard(&mut self.lock(), database, shard).handles.clone()
    }

    /// The handles of a database, its series made if they are new. Not for the path of a statement.
    pub fn database(&self, database: &str) -> DatabaseMetrics {
        self.known_database(&mut self.lock(), database).handles.clone()
    }

    /// What a probe found: whether the endpoint is up, and a replica's lag (nothing for a
    /// primary or for one that is down, so that no stale lag is shown).
    pub fn set_endpoint(&self, at: &EndpointLabel, up: bool, lag: Option<Duration>) {
        let mut known = self.lock();
        self.known_shard(&mut known, &at.database, &at.shard).endpoints.insert(at.endpoint.clone());
        let labels = [at.database.as_str(), at.shard.as_str(), at.endpoint.as_str()];
        self.families.endpoint_up.with_label_values(&labels).set(i64::from(up));
        match lag {
            Some(lag) => {
                self.families.replica_lag_seconds.with_label_values(&labels).set(lag.as_secs_f64());
            }
            None => gone(self.families.replica_lag_seconds.remove_label_values(&labels)),
        }
    }

    /// All server connections there are, replacing what was said before. Combinations that
    /// are not named are not shown.
    pub fn set_servers(&self, servers: &[ServerCount]) {
        let _known = self.lock();
        self.families.servers.reset();
        for server in servers {
            let at = &server.at;
            self.families
                .servers
                .with_label_values(&[&at.database, &at.shard, &at.endpoint, server.role, server.state])
                .add(i64::try_from(server.count).unwrap_or(i64::MAX));
        }
    }

    /// A database's active ring: each shard's share, and how much of the keys a pending ring
    /// would move (0 when none is pending).
    pub fn set_ring<'a>(
        &self,
        database: &str,
        shares: impl IntoIterator<Item = (&'a str, f64)>,
        pending_moves: f64,
    ) {
        let mut known = self.lock();
        for (shard, share) in shares {
            self.known_shard(&mut known, database, shard);
            self.families.ring_share.with_label_values(&[database, shard]).set(share);
        }
        self.known_database(&mut known, database);
        self.families.ring_pending_moves_ratio.with_label_values(&[database]).set(pending_moves);
    }

    /// The configuration was read, for the first time or again.
    pub fn config_read(&self, success: bool, now: SystemTime) {
        self.config_reload_success.set(i64::from(success));
        if success {
            let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            self.config_reload_timestamp_seconds.set(since_epoch.as_secs_f64());
        }
    }

    /// What a database has done since the start.
    pub fn totals(&self, database: &str) -> Totals {
        let known = self.lock();
        let Some(known) = known.get(database) else {
            return Totals::default();
        };
        let handles = &known.handles;
        let shards = known.shards.values().fold(known.retired, |sum, shard| sum.and(&shard.handles));
        Totals {
            server_assignments: handles.server_assignments.get(),
            transactions: handles.transactions.get(),
            queries: shards.queries,
            received_bytes: handles.received_bytes.get(),
            sent_bytes: handles.sent_bytes.get(),
            transaction_us: micros(handles.transaction_seconds.get()),
            query_us: shards.query_us,
            wait_us: micros(handles.wait_seconds.get()),
            client_parses: handles.client_parses.get(),
            server_parses: handles.server_parses.get(),
            binds: handles.binds.get(),
            client_connects: handles.client_connects.get(),
            replica_reads: shards.replica_reads,
            replica_read_fallbacks: shards.replica_read_fallbacks,
        }
    }

    /// Removes the series of every database, shard and endpoint that `live` does not name.
    pub fn retain(&self, live: &BTreeSet<EndpointLabel>) {
        let databases: BTreeSet<&str> = live.iter().map(|at| at.database.as_str()).collect();
        let shards: BTreeSet<(&str, &str)> =
            live.iter().map(|at| (at.database.as_str(), at.shard.as_str())).collect();
        let mut known = self.lock();
        for (database, state) in known.iter_mut() {
            let mut retired = state.retired;
            state.shards.retain(|shard, of_shard| {
                of_shard.endpoints.retain(|endpoint| {
                    let at = EndpointLabel {
                        database: database.clone(),
                        shard: shard.clone(),
                        endpoint: endpoint.clone(),
                    };
                    let stays = live.contains(&at);
                    if !stays {
                        self.families.forget_endpoint(database, shard, endpoint);
                    }
                    stays
                });
                let stays = shards.contains(&(database.as_str(), shard.as_str()));
                if !stays {
                    retired = retired.and(&of_shard.handles);
                    self.families.forget_shard(database, shard);
                }
                stays
            });
            state.retired = retired;
        }
        known.retain(|database, _| {
            let stays = databases.contains(database.as_str());
            if !stays {
                self.families.forget_database(database);
            }
            stays
        });
    }

    /// Prometheus' text format, version 0.0.4.
    pub fn encode(&self) -> String {
        let _known = self.lock();
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("what is registered here has names and values, and a String takes all of it")
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, KnownDatabase>> {
        // Each change leaves the map whole, so that a panic elsewhere spoils nothing in it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_database<'a>(
        &self,
        known: &'a mut BTreeMap<String, KnownDatabase>,
        database: &str,
    ) -> &'a mut KnownDatabase {
        known.entry(database.to_owned()).or_insert_with(|| KnownDatabase {
            handles: self.families.database(database),
            shards: BTreeMap::new(),
            retired: OfShards::default(),
        })
    }

    fn known_shard<'a>(
        &self,
        known: &'a mut BTreeMap<String, KnownDatabase>,
        database: &str,
        shard: &str,
    ) -> &'a mut KnownShard {
        self.known_database(known, database).shards.entry(shard.to_owned()).or_insert_with(|| KnownShard {
            handles: self.families.shard(database, shard),
            endpoints: BTreeSet::new(),
        })
    }
}

#[cfg(test)]
mod tests;
