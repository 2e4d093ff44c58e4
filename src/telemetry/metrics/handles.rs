//! What is handed out to be counted on, each resolved once.

use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge};

use crate::telemetry::snapshot::RouteRow;

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

/// `pgring_replica_reads_total{outcome}`: statements and transactions that were for a replica.
#[derive(Clone, Debug)]
pub struct ReadCounters {
    /// A replica answered.
    pub replica: IntCounter,
    /// The primary: what the session has to see was not on the replica in time.
    pub behind: IntCounter,
    /// The primary: no replica was healthy, or none could be reached.
    pub unhealthy: IntCounter,
    /// The primary: where in the log is what the session has to see is not known.
    pub position: IntCounter,
}

impl ReadCounters {
    pub(super) const OUTCOMES: [&'static str; 4] =
        ["replica", "behind", "no-healthy-replica", "unknown-position"];

    pub(super) fn of(counter: impl Fn(&str) -> IntCounter) -> ReadCounters {
        let [replica, behind, unhealthy, position] = ReadCounters::OUTCOMES.map(counter);
        ReadCounters { replica, behind, unhealthy, position }
    }

    /// Those that the primary answered in a replica's stead.
    pub(super) fn fallbacks(&self) -> u64 {
        [&self.behind, &self.unhealthy, &self.position]
            .iter()
            .fold(0, |sum, counter| sum.saturating_add(counter.get()))
    }
}

/// What a statement on a shard counts. Asked for once a pool; clones are cheap.
#[derive(Clone, Debug)]
pub struct ShardMetrics {
    /// Statements that only read.
    pub query_read: Histogram,
    /// Statements that may write.
    pub query_write: Histogram,
    /// Reads for replicas.
    pub reads: ReadCounters,
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
    /// A [`ServerState`](crate::telemetry::snapshot::ServerState)'s name.
    pub state: &'static str,
    /// How many.
    pub count: u64,
}

impl ShardMetrics {
    pub(super) fn queries(&self) -> u64 {
        self.query_read.get_sample_count().saturating_add(self.query_write.get_sample_count())
    }

    pub(super) fn query_us(&self) -> u64 {
        micros(self.query_read.get_sample_sum() + self.query_write.get_sample_sum())
    }
}

/// Saturates, as casts from floats do.
pub(super) fn micros(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}
