//! `SHOW DATABASES`, `USERS`, `CONFIG`, `LISTS`, `STATE`, `VERSION` and `HELP`.

use super::super::command::{COMMANDS, CommandInfo, Right};
use super::super::table::{Field, Kind, Table, flag, int4, int8, is, text, yes};
use crate::telemetry::Snapshot;
use crate::telemetry::snapshot::{ConfigRow, DatabaseRow, UserRow};

pub(super) const DATABASES: &[Field<DatabaseRow>] = &[
    text("name", |row| is(&row.name)),
    text("host", |row| row.host.clone()),
    int4("port", |row| row.port.map(|port| port.to_string())),
    text("database", |row| row.database.clone()),
    text("force_user", |_| None),
    int8("pool_size", |row| is(row.pool_size)),
    int8("min_pool_size", |row| is(row.min_pool_size)),
    int8("reserve_pool_size", |_| is(0)),
    int8("server_lifetime", |row| is(row.server_lifetime)),
    text("pool_mode", |row| is(row.pool_mode)),
    text("load_balance_hosts", |_| None),
    // There is a limit for each pool and one for all clients, none for a database; 0 is none.
    int8("max_connections", |_| is(0)),
    int8("current_connections", |row| is(row.current_connections)),
    int8("max_client_connections", |_| is(0)),
    int8("current_client_connections", |row| is(row.current_client_connections)),
    int4("paused", |row| flag(row.paused)),
    int4("disabled", |_| flag(false)),
    int8("shards", |row| is(row.shards)),
    text("home", |row| is(&row.home)),
];

pub(super) const USERS: &[Field<UserRow>] = &[
    text("name", |row| is(&row.name)),
    text("pool_size", |_| is("")),
    text("reserve_pool_size", |_| is("")),
    text("pool_mode", |_| None),
    int8("max_user_connections", |_| is(0)),
    int8("current_connections", |row| is(row.current_connections)),
    int8("max_user_client_connections", |_| is(0)),
    int8("current_client_connections", |row| is(row.current_client_connections)),
    text("console", |row| row.console.map(str::to_owned)),
];

pub(super) const CONFIG: &[Field<ConfigRow>] = &[
    text("key", |row| is(&row.key)),
    text("value", |row| is(&row.value)),
    text("default", |row| row.default.clone()),
    text("changeable", |row| yes(row.changeable)),
];

const LISTS: &[Field<(&str, u64)>] = &[text("list", |row| is(row.0)), int8("items", |row| is(row.1))];

pub(super) fn lists(snapshot: &Snapshot) -> Table {
    let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    Table::of(
        LISTS,
        &[
            ("databases", count(snapshot.databases.len())),
            ("users", count(snapshot.users.len())),
            ("peers", 0),
            ("pools", count(snapshot.pools.len())),
            ("peer_pools", 0),
            ("free_clients", 0),
            ("used_clients", count(snapshot.clients.len()).saturating_add(snapshot.login_clients)),
            ("login_clients", snapshot.login_clients),
            ("free_servers", 0),
            ("used_servers", count(snapshot.servers.len())),
            ("dns_names", 0),
            ("dns_zones", 0),
            ("dns_queries", 0),
            ("dns_pending", 0),
        ],
    )
}

const STATE: &[Field<(&str, bool)>] = &[text("key", |row| is(row.0)), text("value", |row| yes(row.1))];

pub(super) fn state(snapshot: &Snapshot) -> Table {
    Table::of(
        STATE,
        &[
            ("active", !snapshot.paused && !snapshot.shutting_down),
            ("paused", snapshot.paused),
            ("suspended", false),
            ("shutting_down", snapshot.shutting_down),
        ],
    )
}

pub(super) fn version(snapshot: &Snapshot) -> Table {
    Table::single("version", Kind::Text, format_args!("pgring {}", snapshot.version))
}

const HELP: &[Field<CommandInfo>] = &[
    text("command", |info| is(info.syntax)),
    text("for", |info| {
        is(match info.right {
            Right::Show => "everyone here",
            Right::Admin => "admin.users",
        })
    }),
    text("does", |info| is(info.help)),
];

pub(super) fn help() -> Table {
    Table::of(HELP, COMMANDS)
}
