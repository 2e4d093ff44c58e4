//! `SHOW CLIENTS`, `SERVERS` and `POOLS`: PgBouncer's columns, then ours.

use super::super::clock::utc;
use super::super::table::{Field, flag, int4, int8, is, text};
use crate::telemetry::snapshot::{ClientRow, PoolRow, ServerRow};

const SECOND: u64 = 1_000_000;

pub(super) const CLIENTS: &[Field<ClientRow>] = &[
    text("type", |_| is("C")),
    text("user", |row| is(&row.user)),
    text("database", |row| is(&row.database)),
    text("replication", |_| is("none")),
    text("state", |row| is(row.state.as_str())),
    text("addr", |row| is(&row.addr)),
    int4("port", |row| is(row.port)),
    text("local_addr", |row| is(&row.local_addr)),
    int4("local_port", |row| is(row.local_port)),
    text("connect_time", |row| is(utc(row.connect_time))),
    text("request_time", |row| is(utc(row.request_time))),
    int8("wait", |row| is(row.wait_us / SECOND)),
    int4("wait_us", |row| is(row.wait_us % SECOND)),
    int4("close_needed", |_| flag(false)),
    text("ptr", |row| is(client_name(row.id))),
    text("link", |row| is(row.link.map(server_name).unwrap_or_default())),
    int4("remote_pid", |row| is(row.remote_pid)),
    text("tls", |row| is(&row.tls)),
    text("application_name", |row| is(&row.application_name)),
    int8("prepared_statements", |row| is(row.prepared_statements)),
    int8("id", |row| is(row.id)),
    text("shard", |row| row.shard.clone()),
    int4("server_pid", |row| row.server_pid.map(|pid| pid.to_string())),
    text("pinned", |row| row.pinned.map(str::to_owned)),
];

pub(super) const SERVERS: &[Field<ServerRow>] = &[
    text("type", |_| is("S")),
    text("user", |row| is(&row.user)),
    text("database", |row| is(&row.database)),
    text("replication", |_| is("none")),
    text("state", |row| is(row.state.as_str())),
    text("addr", |row| is(&row.addr)),
    int4("port", |row| is(row.port)),
    text("local_addr", |row| is(&row.local_addr)),
    int4("local_port", |row| is(row.local_port)),
    text("connect_time", |row| is(utc(row.connect_time))),
    text("request_time", |row| is(utc(row.request_time))),
    int8("wait", |_| is(0)),
    int4("wait_us", |_| is(0)),
    int4("close_needed", |row| flag(row.close_needed)),
    text("ptr", |row| is(server_name(row.id))),
    text("link", |row| is(row.link.map(client_name).unwrap_or_default())),
    int4("remote_pid", |row| is(row.remote_pid)),
    text("tls", |row| is(&row.tls)),
    text("application_name", |row| is(&row.application_name)),
    int8("prepared_statements", |row| is(row.prepared_statements)),
    int8("id", |row| is(row.id)),
    text("shard", |row| is(&row.shard)),
    text("endpoint", |row| is(&row.endpoint)),
    text("role", |row| is(row.role)),
];

pub(super) const POOLS: &[Field<PoolRow>] = &[
    text("database", |row| is(&row.database)),
    text("user", |row| is(&row.user)),
    int8("cl_active", |row| is(row.cl_active)),
    int8("cl_waiting", |row| is(row.cl_waiting)),
    // A cancel request is forwarded apart from the pools and never counted in one.
    int8("cl_active_cancel_req", |_| is(0)),
    int8("cl_waiting_cancel_req", |_| is(0)),
    int8("sv_active", |row| is(row.sv_active)),
    int8("sv_active_cancel", |_| is(0)),
    int8("sv_being_canceled", |_| is(0)),
    int8("sv_idle", |row| is(row.sv_idle)),
    // A connection is looked at when it is handed out, and brought in order by its next client.
    int8("sv_used", |_| is(0)),
    int8("sv_tested", |_| is(0)),
    int8("sv_login", |row| is(row.sv_login)),
    int8("maxwait", |row| is(row.maxwait_us / SECOND)),
    int4("maxwait_us", |row| is(row.maxwait_us % SECOND)),
    text("pool_mode", |row| is(row.pool_mode)),
    text("load_balance_hosts", |_| None),
    int4("paused", |row| flag(row.paused)),
];

pub(super) const SHARD_POOLS: &[Field<PoolRow>] = &[
    text("database", |row| is(&row.database)),
    text("user", |row| is(&row.user)),
    text("shard", |row| is(&row.shard)),
    text("endpoint", |row| is(&row.endpoint)),
    text("role", |row| is(row.role)),
    int8("cl_active", |row| is(row.cl_active)),
    int8("cl_waiting", |row| is(row.cl_waiting)),
    int8("sv_active", |row| is(row.sv_active)),
    int8("sv_idle", |row| is(row.sv_idle)),
    int8("sv_login", |row| is(row.sv_login)),
    int8("maxwait", |row| is(row.maxwait_us / SECOND)),
    int4("maxwait_us", |row| is(row.maxwait_us % SECOND)),
    text("pool_mode", |row| is(row.pool_mode)),
    int4("paused", |row| flag(row.paused)),
];

/// PgBouncer has addresses in memory here; what they are for is to join the two lists.
fn client_name(id: u64) -> String {
    format!("c{id}")
}

fn server_name(id: u64) -> String {
    format!("s{id}")
}
