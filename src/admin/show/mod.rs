//! What each `SHOW` shows.

mod cluster;
mod connections;
mod settings;
mod statistics;

use super::table::{Column, Table};
use crate::telemetry::Snapshot;

/// What there is to show.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Show {
    /// Clients.
    Clients,
    /// Server connections.
    Servers,
    /// Pools by database and user.
    Pools,
    /// Pools by endpoint, database and user.
    ShardPools,
    /// Endpoints of shards.
    Shards,
    /// The ring.
    Ring,
    /// Two-phase transactions in doubt.
    Transactions,
    /// Counts and averages.
    Stats,
    /// Counts.
    StatsTotals,
    /// Averages.
    StatsAverages,
    /// Counts and averages over all databases.
    Totals,
    /// Statements by route.
    Routes,
    /// Databases.
    Databases,
    /// Users.
    Users,
    /// Numbers of things.
    Lists,
    /// Active or paused.
    State,
    /// Settings.
    Config,
    /// The version.
    Version,
    /// The commands.
    Help,
}

/// The answer to a `SHOW`.
pub fn show(what: Show, snapshot: &Snapshot) -> Table {
    match what {
        Show::Clients => Table::of(connections::CLIENTS, &snapshot.clients),
        Show::Servers => Table::of(connections::SERVERS, &snapshot.servers),
        Show::Pools => Table::of(connections::POOLS, &snapshot.pools),
        Show::ShardPools => Table::of(connections::SHARD_POOLS, &snapshot.shard_pools),
        Show::Shards => Table::of(cluster::SHARDS, &snapshot.shards),
        Show::Ring => Table::of(cluster::RING, &snapshot.ring),
        Show::Transactions => Table::of(cluster::TRANSACTIONS, &snapshot.transactions),
        Show::Routes => Table::of(cluster::ROUTES, &snapshot.routes),
        Show::Stats => statistics::stats(&snapshot.stats),
        Show::StatsTotals => statistics::stats_totals(&snapshot.stats),
        Show::StatsAverages => statistics::stats_averages(&snapshot.stats),
        Show::Totals => statistics::totals(&snapshot.stats),
        Show::Databases => Table::of(settings::DATABASES, &snapshot.databases),
        Show::Users => Table::of(settings::USERS, &snapshot.users),
        Show::Config => Table::of(settings::CONFIG, &snapshot.config),
        Show::Lists => settings::lists(snapshot),
        Show::State => settings::state(snapshot),
        Show::Version => settings::version(snapshot),
        Show::Help => settings::help(),
    }
}

/// The columns of a `SHOW`, whatever there is to show; for a client that asks for them before
/// the rows.
pub fn columns(what: Show) -> Vec<Column> {
    show(what, &Snapshot::empty("", std::time::UNIX_EPOCH)).columns
}

#[cfg(test)]
mod tests;
