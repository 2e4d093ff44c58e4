//! The names, labels and helps of what is counted.

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::handles::{DatabaseMetrics, ReadCounters, ShardMetrics};

/// Few, because each is a series a shard: 100 µs to 10 s, about three times the last.
const BUCKETS: [f64; 11] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

/// Every family with a label that only a configuration knows.
pub(super) struct Families {
    pub(super) query_seconds: HistogramVec,
    pub(super) replica_reads: IntCounterVec,
    pub(super) server_connects: IntCounterVec,
    pub(super) server_connect_errors: IntCounterVec,
    pub(super) server_lost: IntCounterVec,
    pub(super) ring_share: GaugeVec,
    pub(super) ring_pending_moves_ratio: GaugeVec,
    pub(super) servers: IntGaugeVec,
    pub(super) endpoint_up: IntGaugeVec,
    pub(super) replica_lag_seconds: GaugeVec,
    pub(super) client_connects: IntCounterVec,
    pub(super) received_bytes: IntCounterVec,
    pub(super) sent_bytes: IntCounterVec,
    pub(super) transactions: IntCounterVec,
    pub(super) transaction_seconds: CounterVec,
    pub(super) server_assignments: IntCounterVec,
    pub(super) wait_seconds: CounterVec,
    pub(super) client_parses: IntCounterVec,
    pub(super) server_parses: IntCounterVec,
    pub(super) binds: IntCounterVec,
}

impl Families {
    pub(super) fn new(make: &Make<'_>) -> Families {
        let shard = &["database", "shard"];
        let endpoint = &["database", "shard", "endpoint"];
        let database = &["database"];
        Families {
            query_seconds: make.histograms(
                "query_seconds",
                "How long statements took on a shard",
                &["database", "shard", "kind"],
            ),
            replica_reads: make.int_counters(
                "replica_reads_total",
                "Reads for a replica: answered there, or why by the primary",
                &["database", "shard", "outcome"],
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

    pub(super) fn shard(&self, database: &str, shard: &str) -> ShardMetrics {
        ShardMetrics {
            query_read: self.query_seconds.with_label_values(&[database, shard, "read"]),
            query_write: self.query_seconds.with_label_values(&[database, shard, "write"]),
            reads: ReadCounters::of(|outcome| {
                self.replica_reads.with_label_values(&[database, shard, outcome])
            }),
            server_connects: self.server_connects.with_label_values(&[database, shard]),
            server_connect_errors: self.server_connect_errors.with_label_values(&[database, shard]),
            server_lost: self.server_lost.with_label_values(&[database, shard]),
        }
    }

    pub(super) fn database(&self, database: &str) -> DatabaseMetrics {
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

    pub(super) fn forget_endpoint(&self, database: &str, shard: &str, endpoint: &str) {
        let labels = [database, shard, endpoint];
        gone(self.endpoint_up.remove_label_values(&labels));
        gone(self.replica_lag_seconds.remove_label_values(&labels));
    }

    pub(super) fn forget_shard(&self, database: &str, shard: &str) {
        let labels = [database, shard];
        gone(self.query_seconds.remove_label_values(&[database, shard, "read"]));
        gone(self.query_seconds.remove_label_values(&[database, shard, "write"]));
        for outcome in ReadCounters::OUTCOMES {
            gone(self.replica_reads.remove_label_values(&[database, shard, outcome]));
        }
        gone(self.server_connects.remove_label_values(&labels));
        gone(self.server_connect_errors.remove_label_values(&labels));
        gone(self.server_lost.remove_label_values(&labels));
        gone(self.ring_share.remove_label_values(&labels));
    }

    pub(super) fn forget_database(&self, database: &str) {
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
pub(super) fn gone(removed: prometheus::Result<()>) {
    drop(removed);
}

/// Makes a metric and registers it. Names and labels are constants of this file, so that
/// whatever could be wrong with them is found by the first test.
pub(super) struct Make<'a> {
    pub(super) registry: &'a Registry,
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

    pub(super) fn int_counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::with_opts(Self::opts(name, help)))
    }

    pub(super) fn int_counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Self::opts(name, help), labels))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.add(CounterVec::new(Self::opts(name, help), labels))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::with_opts(Self::opts(name, help)))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(Self::opts(name, help), labels))
    }

    pub(super) fn int_gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(Self::opts(name, help)))
    }

    pub(super) fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Self::opts(name, help), labels))
    }

    pub(super) fn histogram(&self, name: &str, help: &str) -> Histogram {
        self.add(Histogram::with_opts(Self::buckets(name, help)))
    }

    pub(super) fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        self.add(HistogramVec::new(Self::buckets(name, help), labels))
    }
}
