//! `SHOW STATS` and its three views. The names are PgBouncer's, with its inconsistencies:
//! `total_received` beside `avg_recv`, and no prefix in `SHOW STATS_TOTALS`. Those of replicas are
//! pgring's own, behind PgBouncer's.

use super::super::table::{Column, Kind, Table, is};
use crate::telemetry::snapshot::{StatsRow, Totals};

/// A figure under each of the names it goes by.
struct Figure {
    /// In `SHOW STATS`, since the start.
    total: &'static str,
    /// In `SHOW STATS`, on average.
    average: &'static str,
    /// In `SHOW STATS_TOTALS`.
    bare_total: &'static str,
    /// In `SHOW STATS_AVERAGES`.
    bare_average: &'static str,
    /// In `SHOW TOTALS`, since the start and on average.
    named: [&'static str; 2],
    value: fn(&Totals) -> u64,
}

const FIGURES: &[Figure] = &[
    Figure {
        total: "total_server_assignment_count",
        average: "avg_server_assignment_count",
        bare_total: "server_assignment_count",
        bare_average: "server_assignment_count",
        named: ["total_server_assignment_count", "avg_server_assignment_count"],
        value: |totals| totals.server_assignments,
    },
    Figure {
        total: "total_xact_count",
        average: "avg_xact_count",
        bare_total: "xact_count",
        bare_average: "xact_count",
        named: ["total_xact_count", "avg_xact_count"],
        value: |totals| totals.transactions,
    },
    Figure {
        total: "total_query_count",
        average: "avg_query_count",
        bare_total: "query_count",
        bare_average: "query_count",
        named: ["total_query_count", "avg_query_count"],
        value: |totals| totals.queries,
    },
    Figure {
        total: "total_received",
        average: "avg_recv",
        bare_total: "bytes_received",
        bare_average: "bytes_received",
        named: ["total_client_bytes", "avg_client_bytes"],
        value: |totals| totals.received_bytes,
    },
    Figure {
        total: "total_sent",
        average: "avg_sent",
        bare_total: "bytes_sent",
        bare_average: "bytes_sent",
        named: ["total_server_bytes", "avg_server_bytes"],
        value: |totals| totals.sent_bytes,
    },
    Figure {
        total: "total_xact_time",
        average: "avg_xact_time",
        bare_total: "xact_time",
        bare_average: "xact_time",
        named: ["total_xact_time", "avg_xact_time"],
        value: |totals| totals.transaction_us,
    },
    Figure {
        total: "total_query_time",
        average: "avg_query_time",
        bare_total: "query_time",
        bare_average: "query_time",
        named: ["total_query_time", "avg_query_time"],
        value: |totals| totals.query_us,
    },
    Figure {
        total: "total_wait_time",
        average: "avg_wait_time",
        bare_total: "wait_time",
        bare_average: "wait_time",
        named: ["total_wait_time", "avg_wait_time"],
        value: |totals| totals.wait_us,
    },
    Figure {
        total: "total_client_parse_count",
        average: "avg_client_parse_count",
        bare_total: "client_parse_count",
        bare_average: "avg_client_parse_count",
        named: ["total_ps_client_parse_count", "avg_ps_client_parse_count"],
        value: |totals| totals.client_parses,
    },
    Figure {
        total: "total_server_parse_count",
        average: "avg_server_parse_count",
        bare_total: "server_parse_count",
        bare_average: "avg_server_parse_count",
        named: ["total_ps_server_parse_count", "avg_ps_server_parse_count"],
        value: |totals| totals.server_parses,
    },
    Figure {
        total: "total_bind_count",
        average: "avg_bind_count",
        bare_total: "bind_count",
        bare_average: "avg_bind_count",
        named: ["total_ps_bind_count", "avg_ps_bind_count"],
        value: |totals| totals.binds,
    },
    Figure {
        total: "total_client_connect_count",
        average: "avg_client_connect_count",
        bare_total: "client_connect_count",
        bare_average: "client_connect_count",
        named: ["total_client_connect_count", "avg_client_connect_count"],
        value: |totals| totals.client_connects,
    },
    Figure {
        total: "total_replica_read_count",
        average: "avg_replica_read_count",
        bare_total: "replica_read_count",
        bare_average: "replica_read_count",
        named: ["total_replica_read_count", "avg_replica_read_count"],
        value: |totals| totals.replica_reads,
    },
    Figure {
        total: "total_replica_read_fallback_count",
        average: "avg_replica_read_fallback_count",
        bare_total: "replica_read_fallback_count",
        bare_average: "replica_read_fallback_count",
        named: ["total_replica_read_fallback_count", "avg_replica_read_fallback_count"],
        value: |totals| totals.replica_read_fallbacks,
    },
];

/// Totals and averages are each a column or none.
type Name = fn(&Figure) -> &'static str;

pub(super) fn stats(rows: &[StatsRow]) -> Table {
    table(rows, Some(|figure| figure.total), Some(|figure| figure.average))
}

pub(super) fn stats_totals(rows: &[StatsRow]) -> Table {
    table(rows, Some(|figure| figure.bare_total), None)
}

pub(super) fn stats_averages(rows: &[StatsRow]) -> Table {
    table(rows, None, Some(|figure| figure.bare_average))
}

fn table(rows: &[StatsRow], total: Option<Name>, average: Option<Name>) -> Table {
    let mut columns = vec![Column { name: "database", kind: Kind::Text }];
    for name in [total, average].into_iter().flatten() {
        columns.extend(FIGURES.iter().map(|figure| Column { name: name(figure), kind: Kind::Numeric }));
    }
    let line = |row: &StatsRow| {
        let mut cells = vec![is(&row.database)];
        let shown = [total.map(|_| &row.total), average.map(|_| &row.average)];
        for totals in shown.into_iter().flatten() {
            cells.extend(FIGURES.iter().map(|figure| is((figure.value)(totals))));
        }
        cells
    };
    Table { columns, rows: rows.iter().map(line).collect() }
}

/// Sums of counts are the counts of the whole. Averages of times are weighted by what they
/// are averages of, so that an idle database does not halve them.
pub(super) fn totals(rows: &[StatsRow]) -> Table {
    let total = rows.iter().fold(Totals::default(), |sum, row| sum.plus(&row.total));
    let mut average = rows.iter().fold(Totals::default(), |sum, row| sum.plus(&row.average));
    average.transaction_us = weighted(rows, |average| (average.transaction_us, average.transactions));
    average.query_us = weighted(rows, |average| (average.query_us, average.queries));
    average.wait_us = weighted(rows, |average| (average.wait_us, average.server_assignments));

    let line = |name: &'static str, value: u64| vec![is(name), is(value)];
    let totals = FIGURES.iter().map(|figure| line(figure.named[0], (figure.value)(&total)));
    let averages = FIGURES.iter().map(|figure| line(figure.named[1], (figure.value)(&average)));
    Table {
        columns: vec![
            Column { name: "name", kind: Kind::Text },
            Column { name: "value", kind: Kind::Numeric },
        ],
        rows: totals.chain(averages).collect(),
    }
}

fn weighted(rows: &[StatsRow], of: fn(&Totals) -> (u64, u64)) -> u64 {
    let mut sum = 0_u128;
    let mut weights = 0_u128;
    for row in rows {
        let (value, weight) = of(&row.average);
        sum = sum.saturating_add(u128::from(value).saturating_mul(u128::from(weight)));
        weights = weights.saturating_add(u128::from(weight));
    }
    let mean = sum.checked_div(weights).unwrap_or(0);
    u64::try_from(mean).unwrap_or(u64::MAX)
}
