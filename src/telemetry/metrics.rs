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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::snapshot::{RouteRow, Totals};

/// Few, because each is a series a shard: 100 µs to 10 s, about three times the last.
const BUCKETS: [f64; 11] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

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

/// `pgring_clients{state}`.
#[derive(Clone, Debug)]
pub struct ClientGauges {
    /// Nothing asked.
    pub idle: IntGauge,
    /// A server runs its statement, or a transaction is open.
    pub active: IntGauge,
    /// Waiting for a server connection.
    pub waiting: IntGauge,
}

/// `pgring_transactions_total{kind}`.
#[derive(Clone, Debug)]
pub struct TransactionCounters {
    /// One shard at most.
    pub single: IntCounter,
    /// Several shards, one of them written to at most.
    pub multi_read: IntCounter,
    /// Several shards written to.
    pub two_phase: IntCounter,
}

/// `pgring_two_phase_*`.
#[derive(Clone, Debug)]
pub struct TwoPhaseMetrics {
    /// Committed by the session that ran it.
    pub committed: IntCounter,
    /// Rolled back by the session that ran it.
    pub aborted: IntCounter,
    /// Committed by recovery.
    pub recovered_commit: IntCounter,
    /// Rolled back by recovery.
    pub recovered_abort: IntCounter,
    /// The client was told that the outcome is not known.
    pub unknown: IntCounter,
    /// A shard has lost its part of an acknowledged commit.
    pub lost: IntCounter,
    /// Prepared somewhere, and not yet finished.
    pub in_doubt: IntGauge,
    /// The age of the oldest of those, 0 without one.
    pub oldest_seconds: Gauge,
}

/// `pgring_routes_total{route}`.
#[derive(Clone, Debug)]
pub struct RouteCounters {
    /// One shard, by key.
    pub single: IntCounter,
    /// Several shards, by keys.
    pub subset: IntCounter,
    /// All shards.
    pub all: IntCounter,
    /// The home shard.
    pub home: IntCounter,
    /// Reference tables only.
    pub reference: IntCounter,
    /// Refused.
    pub refused: IntCounter,
}

impl RouteCounters {
    /// As `SHOW ROUTES` has them.
    pub fn rows(&self) -> Vec<RouteRow> {
        let row = |route, counter: &IntCounter| RouteRow { route, count: counter.get() };
        vec![
            row("single", &self.single),
            row("subset", &self.subset),
            row("all", &self.all),
            row("home", &self.home),
            row("reference", &self.reference),
            row("refused", &self.refused),
        ]
    }
}

/// `pgring_plan_cache_total{result}`.
#[derive(Clone, Debug)]
pub struct PlanCacheCounters {
    /// The analysis was there.
    pub hit: IntCounter,
    /// It had to be made.
    pub miss: IntCounter,
}

/// What a statement on a shard counts. Asked for once a pool; clones are cheap.
#[derive(Clone, Debug)]
pub struct ShardMetrics {
    /// Statements that only read.
    pub query_read: Histogram,
    /// Statements that may write.
    pub query_write: Histogram,
    /// Server connections made.
    pub server_connects: IntCounter,
    /// Server connections that could not be made.
    pub server_connect_errors: IntCounter,
    /// Server connections lost while a client had them.
    pub server_lost: IntCounter,
}

/// What a client of a database counts. Asked for once a database; sessions clone it.
#[derive(Clone, Debug)]
pub struct DatabaseMetrics {
    /// Clients that logged in.
    pub client_connects: IntCounter,
    /// Bytes from clients.
    pub received_bytes: IntCounter,
    /// Bytes to clients.
    pub sent_bytes: IntCounter,
    /// Transactions finished.
    pub transactions: IntCounter,
    /// Time in them.
    pub transaction_seconds: Counter,
    /// Times a client was given a server connection.
    pub server_assignments: IntCounter,
    /// Time clients waited for them.
    pub wait_seconds: Counter,
    /// Statements that clients prepared.
    pub client_parses: IntCounter,
    /// Statements prepared on servers.
    pub server_parses: IntCounter,
    /// Prepared statements bound.
    pub binds: IntCounter,
}

/// Names an endpoint among the labels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EndpointLabel {
    /// The database.
    pub database: String,
    /// The shard.
    pub shard: String,
    /// The endpoint as configured.
    pub endpoint: String,
}

/// How many server connections there are of a sort.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerCount {
    /// Where.
    pub at: EndpointLabel,
    /// `primary`, `replica` or `unknown`.
    pub role: &'static str,
    /// A [`super::snapshot::ServerState`]'s name.
    pub state: &'static str,
    /// How many.
    pub count: u64,
}

struct Families {
    query_seconds: HistogramVec,
    server_connects: IntCounterVec,
    server_connect_errors: IntCounterVec,
    server_lost: IntCounterVec,
    ring_share: GaugeVec,
    ring_pending_moves_ratio: GaugeVec,
    servers: IntGaugeVec,
    endpoint_up: IntGaugeVec,
    replica_lag_seconds: GaugeVec,
    client_connects: IntCounterVec,
    received_bytes: IntCounterVec,
    sent_bytes: IntCounterVec,
    transactions: IntCounterVec,
    transaction_seconds: CounterVec,
    server_assignments: IntCounterVec,
    wait_seconds: CounterVec,
    client_parses: IntCounterVec,
    server_parses: IntCounterVec,
    binds: IntCounterVec,
}

struct KnownDatabase {
    handles: DatabaseMetrics,
    shards: BTreeMap<String, KnownShard>,
    /// What shards that are gone had counted, so that totals never step back.
    retired_queries: u64,
    retired_query_us: u64,
}

struct KnownShard {
    handles: ShardMetrics,
    endpoints: BTreeSet<String>,
}

impl ShardMetrics {
    fn queries(&self) -> u64 {
        self.query_read.get_sample_count().saturating_add(self.query_write.get_sample_count())
    }

    fn query_us(&self) -> u64 {
        micros(self.query_read.get_sample_sum() + self.query_write.get_sample_sum())
    }
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
        Totals {
            server_assignments: handles.server_assignments.get(),
            transactions: handles.transactions.get(),
            queries: known
                .shards
                .values()
                .fold(known.retired_queries, |sum, shard| sum.saturating_add(shard.handles.queries())),
            received_bytes: handles.received_bytes.get(),
            sent_bytes: handles.sent_bytes.get(),
            transaction_us: micros(handles.transaction_seconds.get()),
            query_us: known
                .shards
                .values()
                .fold(known.retired_query_us, |sum, shard| sum.saturating_add(shard.handles.query_us())),
            wait_us: micros(handles.wait_seconds.get()),
            client_parses: handles.client_parses.get(),
            server_parses: handles.server_parses.get(),
            binds: handles.binds.get(),
            client_connects: handles.client_connects.get(),
        }
    }

    /// Removes the series of every database, shard and endpoint that `live` does not name.
    pub fn retain(&self, live: &BTreeSet<EndpointLabel>) {
        let databases: BTreeSet<&str> = live.iter().map(|at| at.database.as_str()).collect();
        let shards: BTreeSet<(&str, &str)> =
            live.iter().map(|at| (at.database.as_str(), at.shard.as_str())).collect();
        let mut known = self.lock();
        for (database, state) in known.iter_mut() {
            let mut retired_queries = state.retired_queries;
            let mut retired_query_us = state.retired_query_us;
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
                    retired_queries = retired_queries.saturating_add(of_shard.handles.queries());
                    retired_query_us = retired_query_us.saturating_add(of_shard.handles.query_us());
                    self.families.forget_shard(database, shard);
                }
                stays
            });
            state.retired_queries = retired_queries;
            state.retired_query_us = retired_query_us;
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
            retired_queries: 0,
            retired_query_us: 0,
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

impl Families {
    fn new(make: &Make<'_>) -> Families {
        let shard = &["database", "shard"];
        let endpoint = &["database", "shard", "endpoint"];
        let database = &["database"];
        Families {
            query_seconds: make.histograms(
                "query_seconds",
                "How long statements took on a shard",
                &["database", "shard", "kind"],
            ),
            server_connects: make.int_counters("server_connects_total", "Server connections made", shard),
            server_connect_errors: make.int_counters(
                "server_connect_errors_total",
                "Server connections that could not be made",
                shard,
            ),
            server_lost: make.int_counters(
                "server_lost_total",
                "Server connections lost while a client had them",
                shard,
            ),
            ring_share: make.gauges("ring_share", "A shard's part of its database's keys", shard),
            ring_pending_moves_ratio: make.gauges(
                "ring_pending_moves_ratio",
                "Part of the keys that the configured ring would move",
                database,
            ),
            servers: make.int_gauges(
                "servers",
                "Server connections",
                &["database", "shard", "endpoint", "role", "state"],
            ),
            endpoint_up: make.int_gauges("endpoint_up", "1 while an endpoint answers its probes", endpoint),
            replica_lag_seconds: make.gauges(
                "replica_lag_seconds",
                "How far a replica is behind its primary",
                endpoint,
            ),
            client_connects: make.int_counters(
                "client_connects_total",
                "Clients that have logged in",
                database,
            ),
            received_bytes: make.int_counters("client_received_bytes_total", "Bytes from clients", database),
            sent_bytes: make.int_counters("client_sent_bytes_total", "Bytes to clients", database),
            transactions: make.int_counters(
                "database_transactions_total",
                "Transactions by database",
                database,
            ),
            transaction_seconds: make.counters(
                "database_transaction_seconds_total",
                "Time in transactions",
                database,
            ),
            server_assignments: make.int_counters(
                "server_assignments_total",
                "Times a client was given a server connection",
                database,
            ),
            wait_seconds: make.counters(
                "client_wait_seconds_total",
                "Time clients waited for server connections",
                database,
            ),
            client_parses: make.int_counters(
                "client_parses_total",
                "Statements that clients prepared",
                database,
            ),
            server_parses: make.int_counters(
                "server_parses_total",
                "Statements prepared on servers",
                database,
            ),
            binds: make.int_counters("binds_total", "Prepared statements bound", database),
        }
    }

    fn shard(&self, database: &str, shard: &str) -> ShardMetrics {
        ShardMetrics {
            query_read: self.query_seconds.with_label_values(&[database, shard, "read"]),
            query_write: self.query_seconds.with_label_values(&[database, shard, "write"]),
            server_connects: self.server_connects.with_label_values(&[database, shard]),
            server_connect_errors: self.server_connect_errors.with_label_values(&[database, shard]),
            server_lost: self.server_lost.with_label_values(&[database, shard]),
        }
    }

    fn database(&self, database: &str) -> DatabaseMetrics {
        DatabaseMetrics {
            client_connects: self.client_connects.with_label_values(&[database]),
            received_bytes: self.received_bytes.with_label_values(&[database]),
            sent_bytes: self.sent_bytes.with_label_values(&[database]),
            transactions: self.transactions.with_label_values(&[database]),
            transaction_seconds: self.transaction_seconds.with_label_values(&[database]),
            server_assignments: self.server_assignments.with_label_values(&[database]),
            wait_seconds: self.wait_seconds.with_label_values(&[database]),
            client_parses: self.client_parses.with_label_values(&[database]),
            server_parses: self.server_parses.with_label_values(&[database]),
            binds: self.binds.with_label_values(&[database]),
        }
    }

    fn forget_endpoint(&self, database: &str, shard: &str, endpoint: &str) {
        let labels = [database, shard, endpoint];
        gone(self.endpoint_up.remove_label_values(&labels));
        gone(self.replica_lag_seconds.remove_label_values(&labels));
    }

    fn forget_shard(&self, database: &str, shard: &str) {
        let labels = [database, shard];
        gone(self.query_seconds.remove_label_values(&[database, shard, "read"]));
        gone(self.query_seconds.remove_label_values(&[database, shard, "write"]));
        gone(self.server_connects.remove_label_values(&labels));
        gone(self.server_connect_errors.remove_label_values(&labels));
        gone(self.server_lost.remove_label_values(&labels));
        gone(self.ring_share.remove_label_values(&labels));
    }

    fn forget_database(&self, database: &str) {
        let labels = [database];
        gone(self.ring_pending_moves_ratio.remove_label_values(&labels));
        for counters in [
            &self.client_connects,
            &self.received_bytes,
            &self.sent_bytes,
            &self.transactions,
            &self.server_assignments,
            &self.client_parses,
            &self.server_parses,
            &self.binds,
        ] {
            gone(counters.remove_label_values(&labels));
        }
        gone(self.transaction_seconds.remove_label_values(&labels));
        gone(self.wait_seconds.remove_label_values(&labels));
    }
}

/// A series that is to go and was never there is gone as well.
fn gone(removed: prometheus::Result<()>) {
    drop(removed);
}

/// Saturates, as casts from floats do.
fn micros(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}

/// Makes a metric and registers it. Names and labels are constants of this file, so that
/// whatever could be wrong with them is found by the first test.
struct Make<'a> {
    registry: &'a Registry,
}

impl Make<'_> {
    fn add<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = metric.expect("names and labels are valid");
        self.registry.register(Box::new(metric.clone())).expect("no name is used twice");
        metric
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace("pgring")
    }

    fn buckets(name: &str, help: &str) -> HistogramOpts {
        HistogramOpts::new(name, help).namespace("pgring").buckets(BUCKETS.to_vec())
    }

    fn int_counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::with_opts(Self::opts(name, help)))
    }

    fn int_counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Self::opts(name, help), labels))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.add(CounterVec::new(Self::opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::with_opts(Self::opts(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(Self::opts(name, help), labels))
    }

    fn int_gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(Self::opts(name, help)))
    }

    fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Self::opts(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str) -> Histogram {
        self.add(Histogram::with_opts(Self::buckets(name, help)))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        self.add(HistogramVec::new(Self::buckets(name, help), labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(database: &str, shard: &str, endpoint: &str) -> EndpointLabel {
        EndpointLabel { database: database.into(), shard: shard.into(), endpoint: endpoint.into() }
    }

    fn filled() -> Metrics {
        let metrics = Metrics::new();
        for (database, shard) in [("a", "s1"), ("a", "s2"), ("b", "s1")] {
            metrics.shard(database, shard).query_read.observe(0.002);
            metrics.set_endpoint(&at(database, shard, "h:1"), true, None);
            metrics.set_endpoint(&at(database, shard, "h:2"), false, Some(Duration::from_millis(1500)));
            metrics.set_ring(database, [(shard, 0.5)], 0.25);
        }
        metrics.set_servers(&[ServerCount {
            at: at("a", "s1", "h:1"),
            role: "primary",
            state: "idle",
            count: 3,
        }]);
        metrics
    }

    /// The contract's names and labels, with what stands behind the labels.
    #[test]
    fn every_promised_name_is_there() {
        let metrics = filled();
        metrics.config_read(true, UNIX_EPOCH + Duration::from_secs(7));
        let text = metrics.encode();
        for line in [
            "pgring_clients{state=\"idle\"} 0",
            "pgring_clients{state=\"active\"} 0",
            "pgring_clients{state=\"waiting\"} 0",
            "pgring_servers{database=\"a\",endpoint=\"h:1\",role=\"primary\",shard=\"s1\",state=\"idle\"} 3",
            "pgring_pool_wait_seconds_bucket{le=\"0.0001\"} 0",
            "pgring_query_seconds_bucket{database=\"a\",kind=\"read\",shard=\"s1\",le=\"0.003\"} 1",
            "pgring_query_seconds_count{database=\"b\",kind=\"write\",shard=\"s1\"} 0",
            "pgring_transactions_total{kind=\"single\"} 0",
            "pgring_transactions_total{kind=\"multi-read\"} 0",
            "pgring_transactions_total{kind=\"two-phase\"} 0",
            "pgring_two_phase_total{outcome=\"committed\"} 0",
            "pgring_two_phase_in_doubt 0",
            "pgring_two_phase_oldest_seconds 0",
            "pgring_routes_total{route=\"single\"} 0",
            "pgring_routes_total{route=\"subset\"} 0",
            "pgring_routes_total{route=\"all\"} 0",
            "pgring_routes_total{route=\"home\"} 0",
            "pgring_routes_total{route=\"reference\"} 0",
            "pgring_routes_total{route=\"refused\"} 0",
            "pgring_plan_cache_total{result=\"hit\"} 0",
            "pgring_plan_cache_total{result=\"miss\"} 0",
            "pgring_endpoint_up{database=\"a\",endpoint=\"h:1\",shard=\"s1\"} 1",
            "pgring_endpoint_up{database=\"a\",endpoint=\"h:2\",shard=\"s1\"} 0",
            "pgring_replica_lag_seconds{database=\"a\",endpoint=\"h:2\",shard=\"s1\"} 1.5",
            "pgring_config_reload_success 1",
            "pgring_config_reload_timestamp_seconds 7",
            "pgring_ring_share{database=\"a\",shard=\"s1\"} 0.5",
            "pgring_ring_pending_moves_ratio{database=\"a\"} 0.25",
            "pgring_login_failures_total 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(
            !text.contains("replica_lag_seconds{database=\"a\",endpoint=\"h:1\""),
            "a primary has no lag"
        );
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("pgring_"), "{line}");
        }
    }

    #[test]
    fn a_failed_reload_keeps_the_time_of_the_last_good_one() {
        let metrics = Metrics::new();
        metrics.config_read(true, UNIX_EPOCH + Duration::from_secs(7));
        metrics.config_read(false, UNIX_EPOCH + Duration::from_secs(9));
        let text = metrics.encode();
        assert!(text.contains("pgring_config_reload_success 0"));
        assert!(text.contains("pgring_config_reload_timestamp_seconds 7"));
    }

    #[test]
    fn a_replica_that_became_primary_shows_no_lag() {
        let metrics = Metrics::new();
        metrics.set_endpoint(&at("a", "s1", "h:2"), true, Some(Duration::from_secs(1)));
        metrics.set_endpoint(&at("a", "s1", "h:2"), true, None);
        assert!(!metrics.encode().contains("replica_lag_seconds{"));
    }

    #[test]
    fn servers_are_replaced_as_a_whole() {
        let metrics = filled();
        metrics.set_servers(&[]);
        assert!(!metrics.encode().contains("pgring_servers{"));
    }

    #[test]
    fn what_a_reload_removed_goes() {
        let metrics = filled();
        let before = metrics.totals("a");
        assert_eq!((before.queries, before.query_us), (2, 4000));

        metrics.retain(&BTreeSet::from([at("a", "s1", "h:1")]));
        let text = metrics.encode();
        for gone in ["database=\"b\"", "shard=\"s2\"", "endpoint=\"h:2\""] {
            assert!(!text.contains(gone), "{gone} is still in\n{text}");
        }
        assert!(text.contains("pgring_endpoint_up{database=\"a\",endpoint=\"h:1\",shard=\"s1\"} 1"));
        assert_eq!(metrics.totals("a"), before, "totals do not step back");
        assert_eq!(metrics.totals("b"), Totals::default());
    }

    #[test]
    fn a_handle_outlives_its_series() {
        let metrics = filled();
        let handle = metrics.shard("b", "s1");
        metrics.retain(&BTreeSet::new());
        handle.query_write.observe(1.0);
        assert!(!metrics.encode().contains("database=\"b\""));
        assert_eq!(metrics.shard("b", "s1").query_write.get_sample_count(), 0, "a new series begins anew");
    }

    #[test]
    fn totals_are_the_databases_own() {
        let metrics = filled();
        let handles = metrics.database("b");
        handles.transactions.inc_by(2);
        handles.transaction_seconds.inc_by(0.5);
        handles.wait_seconds.inc_by(0.25);
        handles.received_bytes.inc_by(10);
        let totals = metrics.totals("b");
        assert_eq!(
            totals,
            Totals {
                transactions: 2,
                transaction_us: 500_000,
                wait_us: 250_000,
                received_bytes: 10,
                queries: 1,
                query_us: 2000,
                ..Totals::default()
            }
        );
    }

    #[test]
    fn routes_are_rows() {
        let metrics = Metrics::new();
        metrics.routes.home.inc();
        let rows = metrics.routes.rows();
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 1);
        assert_eq!(rows[3], RouteRow { route: "home", count: 1 });
    }
}
