use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::telemetry::snapshot::*;

/// PgBouncer's columns in PgBouncer's order, then (after the bar) ours. A tool that reads
/// PgBouncer's by name or by position finds them.
#[test]
fn columns_of_each_show() {
    let connection = "type user database replication state addr port local_addr local_port connect_time \
                      request_time wait wait_us close_needed ptr link remote_pid tls application_name \
                      prepared_statements id";
    for (what, expect) in [
        (Show::Clients, format!("{connection} | shard server_pid pinned")),
        (Show::Servers, format!("{connection} | shard endpoint role")),
        (
            Show::Pools,
            "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active \
             sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us \
             pool_mode load_balance_hosts | paused"
                .into(),
        ),
        (
            Show::ShardPools,
            "| database user shard endpoint role cl_active cl_waiting sv_active sv_idle sv_login maxwait \
             maxwait_us pool_mode paused"
                .into(),
        ),
        (
            Show::Shards,
            "| database shard endpoint role up lag_seconds weight share timeline system_identifier \
             last_error"
                .into(),
        ),
        (Show::Ring, "| database shard weight virtual_nodes share pending_share pending_moves".into()),
        (Show::Transactions, "| database gid decider participants state age_seconds since waits_for".into()),
        (Show::Routes, "| route count".into()),
        (
            Show::Stats,
            "database total_server_assignment_count total_xact_count total_query_count total_received \
             total_sent total_xact_time total_query_time total_wait_time total_client_parse_count \
             total_server_parse_count total_bind_count total_client_connect_count \
             total_replica_read_count total_replica_read_fallback_count avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time \
             avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count avg_bind_count \
             avg_client_connect_count avg_replica_read_count avg_replica_read_fallback_count"
                .into(),
        ),
        (
            Show::StatsTotals,
            "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time \
             query_time wait_time client_parse_count server_parse_count bind_count client_connect_count \
             replica_read_count replica_read_fallback_count"
                .into(),
        ),
        (
            Show::StatsAverages,
            "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time \
             query_time wait_time avg_client_parse_count avg_server_parse_count avg_bind_count \
             client_connect_count replica_read_count replica_read_fallback_count"
                .into(),
        ),
        (Show::Totals, "name value".into()),
        (
            Show::Databases,
            "name host port database force_user pool_size min_pool_size reserve_pool_size \
             server_lifetime pool_mode load_balance_hosts max_connections current_connections \
             max_client_connections current_client_connections paused disabled | shards home"
                .into(),
        ),
        (
            Show::Users,
            "name pool_size reserve_pool_size pool_mode max_user_connections current_connections \
             max_user_client_connections current_client_connections | console"
                .into(),
        ),
        (Show::Lists, "list items".into()),
        (Show::State, "key value".into()),
        (Show::Config, "key value default changeable".into()),
        (Show::Version, "version".into()),
        (Show::Help, "| command for does".into()),
    ] {
        let names: Vec<&str> = columns(what).iter().map(|column| column.name).collect();
        let expect: Vec<&str> = expect.split_whitespace().filter(|name| *name != "|").collect();
        assert_eq!(names, expect, "{what:?}");
    }
}

fn snapshot() -> Snapshot {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let mut snapshot = Snapshot::empty("test", at(100));
    snapshot.clients.push(ClientRow {
        id: 7,
        user: "app".into(),
        database: "novacron".into(),
        application_name: "web".into(),
        state: ClientState::IdleInTransaction,
        addr: "10.0.0.1".into(),
        port: 40000,
        local_addr: "10.0.0.2".into(),
        local_port: 6432,
        connect_time: at(10),
        request_time: at(90),
        wait_us: 2_000_003,
        link: Some(9),
        remote_pid: 0,
        tls: String::new(),
        prepared_statements: 4,
        shard: None,
        server_pid: Some(4711),
        pinned: Some("listen"),
    });
    snapshot.servers.push(ServerRow {
        id: 9,
        user: "app".into(),
        database: "novacron".into(),
        state: ServerState::Active,
        addr: "10.0.0.3".into(),
        port: 5432,
        local_addr: "10.0.0.2".into(),
        local_port: 50000,
        connect_time: at(20),
        request_time: at(90),
        close_needed: true,
        link: Some(7),
        remote_pid: 4711,
        tls: "TLSv1.3".into(),
        application_name: "web".into(),
        prepared_statements: 1,
        shard: "s1".into(),
        endpoint: "db:5432".into(),
        role: "primary",
    });
    snapshot.pools.push(PoolRow { maxwait_us: 1_500_000, ..PoolRow::default() });
    snapshot.shard_pools.push(PoolRow { maxwait_us: 1_500_000, ..PoolRow::default() });
    snapshot.shards.push(ShardRow {
        share: 1.0 / 3.0,
        lag_seconds: Some(0.25),
        weight: 1.0,
        system_identifier: Some(u64::MAX),
        ..ShardRow::default()
    });
    snapshot.ring.push(RingRow { pending_moves: Some(0.25), ..RingRow::default() });
    snapshot
        .transactions
        .push(TransactionRow { participants: vec!["s1".into(), "s2".into()], ..TransactionRow::default() });
    snapshot.databases.push(DatabaseRow::default());
    snapshot.users.push(UserRow { console: Some("admin"), ..UserRow::default() });
    snapshot.routes.push(RouteRow { route: "single", count: 12 });
    snapshot.config.push(ConfigRow {
        key: "pool.size".into(),
        value: "30".into(),
        default: Some("20".into()),
        changeable: true,
    });
    let busy = Totals { queries: 30, query_us: 100, sent_bytes: 5, ..Totals::default() };
    let calm = Totals { queries: 10, query_us: 500, sent_bytes: 1, ..Totals::default() };
    for (database, totals) in [("a", busy), ("b", calm)] {
        snapshot.stats.push(StatsRow { database: database.into(), total: totals, average: totals });
    }
    snapshot.login_clients = 2;
    snapshot
}

const ALL: [Show; 19] = [
    Show::Clients,
    Show::Servers,
    Show::Pools,
    Show::ShardPools,
    Show::Shards,
    Show::Ring,
    Show::Transactions,
    Show::Stats,
    Show::StatsTotals,
    Show::StatsAverages,
    Show::Totals,
    Show::Routes,
    Show::Databases,
    Show::Users,
    Show::Lists,
    Show::State,
    Show::Config,
    Show::Version,
    Show::Help,
];

#[test]
fn rows_are_as_wide_as_their_header_and_numbers_are_numbers() {
    use super::super::table::Kind;
    for what in ALL {
        let table = show(what, &snapshot());
        assert!(!table.rows.is_empty(), "{what:?}");
        for row in &table.rows {
            assert_eq!(row.len(), table.columns.len(), "{what:?}");
            for (cell, column) in row.iter().zip(&table.columns) {
                let Some(cell) = cell else { continue };
                let good = match column.kind {
                    Kind::Text => true,
                    Kind::Int4 => cell.parse::<i32>().is_ok(),
                    Kind::Int8 => cell.parse::<i64>().is_ok(),
                    Kind::Numeric => cell.parse::<f64>().is_ok_and(f64::is_finite),
                };
                assert!(good, "{what:?}.{} = {cell}", column.name);
            }
        }
    }
}

#[test]
fn values() {
    for (what, row, column, expect) in [
        (Show::Clients, 0, "state", Some("idle in transaction")),
        (Show::Clients, 0, "connect_time", Some("1970-01-01 00:00:10 UTC")),
        (Show::Clients, 0, "wait", Some("2")),
        (Show::Clients, 0, "wait_us", Some("3")),
        (Show::Clients, 0, "ptr", Some("c7")),
        (Show::Clients, 0, "link", Some("s9")),
        (Show::Clients, 0, "shard", None),
        (Show::Clients, 0, "pinned", Some("listen")),
        (Show::Servers, 0, "ptr", Some("s9")),
        (Show::Servers, 0, "link", Some("c7")),
        (Show::Servers, 0, "close_needed", Some("1")),
        (Show::Pools, 0, "maxwait", Some("1")),
        (Show::Pools, 0, "maxwait_us", Some("500000")),
        (Show::Shards, 0, "share", Some("0.3333")),
        (Show::Shards, 0, "weight", Some("1")),
        (Show::Shards, 0, "up", Some("no")),
        (Show::Shards, 0, "lag_seconds", Some("0.250")),
        (Show::Shards, 0, "system_identifier", Some("18446744073709551615")),
        (Show::Ring, 0, "pending_share", None),
        (Show::Ring, 0, "pending_moves", Some("0.2500")),
        (Show::Transactions, 0, "participants", Some("s1, s2")),
        (Show::Routes, 0, "count", Some("12")),
        (Show::Stats, 1, "total_query_count", Some("10")),
        (Show::Stats, 0, "avg_query_time", Some("100")),
        (Show::StatsTotals, 0, "bytes_sent", Some("5")),
        (Show::StatsAverages, 1, "query_time", Some("500")),
        (Show::Totals, 2, "name", Some("total_query_count")),
        (Show::Totals, 2, "value", Some("40")),
        (Show::Totals, 20, "name", Some("avg_query_time")),
        (Show::Totals, 20, "value", Some("200")),
        (Show::Lists, 6, "list", Some("used_clients")),
        (Show::Lists, 6, "items", Some("3")),
        (Show::State, 0, "value", Some("yes")),
        (Show::Config, 0, "changeable", Some("yes")),
        (Show::Version, 0, "version", Some(concat!("pgring ", env!("CARGO_PKG_VERSION")))),
        (Show::Help, 0, "command", Some("SHOW CLIENTS")),
    ] {
        let table = show(what, &snapshot());
        let at = table.columns.iter().position(|known| known.name == column).unwrap();
        assert_eq!(table.rows[row][at].as_deref(), expect, "{what:?}.{column}");
    }
}

#[test]
fn a_pause_is_a_state() {
    let mut snapshot = snapshot();
    snapshot.paused = true;
    let values: Vec<_> = show(Show::State, &snapshot).rows.into_iter().map(|row| row[1].clone()).collect();
    assert_eq!(values, ["no", "yes", "no", "no"].map(|value| Some(value.to_owned())));
}
