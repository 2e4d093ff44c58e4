use super::*;
use crate::telemetry::snapshot::RouteRow;

fn at(database: &str, shard: &str, endpoint: &str) -> EndpointLabel {
    EndpointLabel { database: database.into(), shard: shard.into(), endpoint: endpoint.into() }
}

fn filled() -> Metrics {
    let metrics = Metrics::new();
    for (database, shard) in [("a", "s1"), ("a", "s2"), ("b", "s1")] {
        metrics.shard(database, shard).query_read.observe(0.002);
        metrics.shard("a", "s2").reads.behind.inc();
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
        "pgring_replica_reads_total{database=\"a\",outcome=\"replica\",shard=\"s1\"} 0",
        "pgring_replica_reads_total{database=\"a\",outcome=\"behind\",shard=\"s1\"} 0",
        "pgring_replica_reads_total{database=\"a\",outcome=\"no-healthy-replica\",shard=\"s1\"} 0",
        "pgring_replica_reads_total{database=\"a\",outcome=\"unknown-position\",shard=\"s1\"} 0",
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
    assert!(!text.contains("replica_lag_seconds{database=\"a\",endpoint=\"h:1\""), "a primary has no lag");
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
    assert_eq!((before.queries, before.query_us, before.replica_read_fallbacks), (2, 4000, 3));

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
