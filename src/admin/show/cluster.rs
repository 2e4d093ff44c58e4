//! `SHOW SHARDS`, `RING`, `TRANSACTIONS` and `ROUTES`: what PgBouncer does not have.

use super::super::clock::utc;
use super::super::table::{Field, int8, is, numeric, text, yes};
use crate::telemetry::snapshot::{RingRow, RouteRow, ShardRow, TransactionRow};

pub(super) const SHARDS: &[Field<ShardRow>] = &[
    text("database", |row| is(&row.database)),
    text("shard", |row| is(&row.shard)),
    text("endpoint", |row| is(&row.endpoint)),
    text("role", |row| is(row.role)),
    text("up", |row| yes(row.up)),
    numeric("lag_seconds", |row| row.lag_seconds.map(|lag| format!("{lag:.3}"))),
    numeric("weight", |row| is(row.weight)),
    numeric("share", |row| is(part(row.share))),
    int8("timeline", |row| row.timeline.map(|timeline| timeline.to_string())),
    numeric("system_identifier", |row| row.system_identifier.map(|id| id.to_string())),
    text("last_error", |row| row.last_error.clone()),
];

pub(super) const RING: &[Field<RingRow>] = &[
    text("database", |row| is(&row.database)),
    text("shard", |row| is(&row.shard)),
    numeric("weight", |row| is(row.weight)),
    int8("virtual_nodes", |row| is(row.virtual_nodes)),
    numeric("share", |row| is(part(row.share))),
    numeric("pending_share", |row| row.pending_share.map(part)),
    numeric("pending_moves", |row| row.pending_moves.map(part)),
];

pub(super) const TRANSACTIONS: &[Field<TransactionRow>] = &[
    text("database", |row| is(&row.database)),
    text("gid", |row| is(&row.gid)),
    text("decider", |row| is(&row.decider)),
    text("participants", |row| is(row.participants.join(", "))),
    text("state", |row| is(row.state)),
    numeric("age_seconds", |row| is(format!("{:.3}", row.age_seconds))),
    text("since", |row| row.since.map(utc)),
    text("waits_for", |row| is(&row.waits_for)),
];

pub(super) const ROUTES: &[Field<RouteRow>] =
    &[text("route", |row| is(row.route)), int8("count", |row| is(row.count))];

/// A part of the whole, 0 to 1.
fn part(share: f64) -> String {
    format!("{share:.4}")
}
