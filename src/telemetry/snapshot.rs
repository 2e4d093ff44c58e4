//! The running process at one moment, as plain rows.
//!
//! The console and the status page show it, the application gathers it; none of them knows
//! the others. What PgBouncer has under the same name means the same here, so a row is at
//! least what its `SHOW` has. Times are wall-clock, because they are for people.

use std::time::{Duration, SystemTime};

/// All there is to show.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// pgring's version.
    pub version: &'static str,
    /// The cluster's name, as configured.
    pub cluster: String,
    /// When the snapshot was taken.
    pub taken_at: SystemTime,
    /// How long the process has been running then.
    pub uptime: Duration,
    /// `PAUSE` without a database is in force.
    pub paused: bool,
    /// No new clients are let in, and the process ends when the last transaction has.
    pub shutting_down: bool,
    /// Clients that have connected and not logged in yet.
    pub login_clients: u64,
    /// Clients that have logged in.
    pub clients: Vec<ClientRow>,
    /// Connections to PostgreSQL servers.
    pub servers: Vec<ServerRow>,
    /// One for each database and user: sums of `shard_pools`.
    pub pools: Vec<PoolRow>,
    /// One for each endpoint, database and user.
    pub shard_pools: Vec<PoolRow>,
    /// What clients may put in their DSN.
    pub databases: Vec<DatabaseRow>,
    /// Who may log in.
    pub users: Vec<UserRow>,
    /// One for each endpoint of each shard.
    pub shards: Vec<ShardRow>,
    /// One for each shard of each database.
    pub ring: Vec<RingRow>,
    /// One for each database.
    pub stats: Vec<StatsRow>,
    /// One for each way a statement can go.
    pub routes: Vec<RouteRow>,
    /// Two-phase transactions in doubt.
    pub transactions: Vec<TransactionRow>,
    /// The settings in force.
    pub config: Vec<ConfigRow>,
}

impl Snapshot {
    /// A process with nothing in it yet.
    pub fn empty(cluster: impl Into<String>, taken_at: SystemTime) -> Snapshot {
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            cluster: cluster.into(),
            taken_at,
            uptime: Duration::ZERO,
            paused: false,
            shutting_down: false,
            login_clients: 0,
            clients: Vec::new(),
            servers: Vec::new(),
            pools: Vec::new(),
            shard_pools: Vec::new(),
            databases: Vec::new(),
            users: Vec::new(),
            shards: Vec::new(),
            ring: Vec::new(),
            stats: Vec::new(),
            routes: Vec::new(),
            transactions: Vec::new(),
            config: Vec::new(),
        }
    }
}

/// What a client is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClientState {
    /// A server runs its statement.
    Active,
    /// Nothing is asked and no transaction is open.
    Idle,
    /// It waits for a server connection.
    Waiting,
    /// Nothing is asked, and a transaction is open.
    IdleInTransaction,
}

impl ClientState {
    /// As it is shown; the first three are PgBouncer's, the last is `pg_stat_activity`'s.
    pub fn as_str(self) -> &'static str {
        match self {
            ClientState::Active => "active",
            ClientState::Idle => "idle",
            ClientState::Waiting => "waiting",
            ClientState::IdleInTransaction => "idle in transaction",
        }
    }
}

/// What a server connection is doing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ServerState {
    /// A client has it.
    Active,
    /// It waits for a client.
    Idle,
    /// It is being brought in order after a client.
    Tested,
    /// It is logging in.
    New,
}

impl ServerState {
    /// PgBouncer's word.
    pub fn as_str(self) -> &'static str {
        match self {
            ServerState::Active => "active",
            ServerState::Idle => "idle",
            ServerState::Tested => "tested",
            ServerState::New => "new",
        }
    }
}

/// A client, as in `SHOW CLIENTS`.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientRow {
    /// Names it in `KILL_CLIENT`; never used twice in a process.
    pub id: u64,
    /// Whom it logged in as.
    pub user: String,
    /// What it connected to.
    pub database: String,
    /// As the client set it last; may be empty.
    pub application_name: String,
    /// What it is doing.
    pub state: ClientState,
    /// Its address, or `unix`.
    pub addr: String,
    /// Its port, or 0.
    pub port: u16,
    /// The address it came in by.
    pub local_addr: String,
    /// The port it came in by.
    pub local_port: u16,
    /// When it connected.
    pub connect_time: SystemTime,
    /// When its last request came.
    pub request_time: SystemTime,
    /// How long it has been waiting for a server connection, microseconds.
    pub wait_us: u64,
    /// The [`ServerRow::id`] it is linked to.
    pub link: Option<u64>,
    /// The process at the other end of a Unix socket, or 0.
    pub remote_pid: i32,
    /// TLS version and cipher, or empty.
    pub tls: String,
    /// How many statements it has prepared.
    pub prepared_statements: u64,
    /// The shard it is on.
    pub shard: Option<String>,
    /// The PostgreSQL process that serves it.
    pub server_pid: Option<i32>,
    /// Why it keeps its server connection.
    pub pinned: Option<&'static str>,
}

/// A server connection, as in `SHOW SERVERS`.
#[derive(Clone, PartialEq, Debug)]
pub struct ServerRow {
    /// Never used twice in a process.
    pub id: u64,
    /// Whom it is logged in as.
    pub user: String,
    /// pgring's database it belongs to.
    pub database: String,
    /// What it is doing.
    pub state: ServerState,
    /// The server's address, or `unix`.
    pub addr: String,
    /// The server's port.
    pub port: u16,
    /// Our end's address.
    pub local_addr: String,
    /// Our end's port.
    pub local_port: u16,
    /// When it connected.
    pub connect_time: SystemTime,
    /// When it was last given work.
    pub request_time: SystemTime,
    /// It is closed as soon as its client lets it go.
    pub close_needed: bool,
    /// The [`ClientRow::id`] that has it.
    pub link: Option<u64>,
    /// The PostgreSQL process.
    pub remote_pid: i32,
    /// TLS version and cipher, or empty.
    pub tls: String,
    /// Of the client that has it, or empty.
    pub application_name: String,
    /// How many statements are prepared on it.
    pub prepared_statements: u64,
    /// The shard.
    pub shard: String,
    /// The endpoint as configured.
    pub endpoint: String,
    /// `primary`, `replica` or `unknown`.
    pub role: &'static str,
}

/// A pool, as in `SHOW SHARD_POOLS`; or a user's pools of a database, as in `SHOW POOLS`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PoolRow {
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// Clients that have one of its connections; of all pools together, those that do not wait.
    pub cl_active: u64,
    /// Clients that wait for one.
    pub cl_waiting: u64,
    /// Connections that a client has.
    pub sv_active: u64,
    /// Connections ready for a client.
    pub sv_idle: u64,
    /// Connections logging in.
    pub sv_login: u64,
    /// How long the first in the queue has waited, microseconds.
    pub maxwait_us: u64,
    /// `transaction` or `session`.
    pub pool_mode: &'static str,
    /// `PAUSE` is in force for its database.
    pub paused: bool,
    /// The shard.
    pub shard: String,
    /// The endpoint as configured.
    pub endpoint: String,
    /// `primary`, `replica` or `unknown`.
    pub role: &'static str,
}

/// A database, as in `SHOW DATABASES`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct DatabaseRow {
    /// What clients put in their DSN.
    pub name: String,
    /// The server's host, where there is one server only.
    pub host: Option<String>,
    /// Its port, likewise.
    pub port: Option<u16>,
    /// What it is called on the servers, where it is called the same on all.
    pub database: Option<String>,
    /// Connections an endpoint and user.
    pub pool_size: u64,
    /// Connections kept open.
    pub min_pool_size: u64,
    /// How old a connection may become, seconds.
    pub server_lifetime: u64,
    /// `transaction` or `session`.
    pub pool_mode: &'static str,
    /// Server connections open.
    pub current_connections: u64,
    /// Clients connected.
    pub current_client_connections: u64,
    /// `PAUSE` is in force for it.
    pub paused: bool,
    /// How many shards it has.
    pub shards: u64,
    /// Where its tables that are not sharded live.
    pub home: String,
}

/// A user, as in `SHOW USERS`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct UserRow {
    /// The name.
    pub name: String,
    /// Server connections open for it.
    pub current_connections: u64,
    /// Clients connected as it.
    pub current_client_connections: u64,
    /// What it may do on the console: `admin`, `stats` or nothing.
    pub console: Option<&'static str>,
}

/// An endpoint of a shard, as in `SHOW SHARDS`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ShardRow {
    /// The database.
    pub database: String,
    /// The shard.
    pub shard: String,
    /// The endpoint as configured.
    pub endpoint: String,
    /// `primary`, `replica` or `unknown`.
    pub role: &'static str,
    /// Its last probes succeeded.
    pub up: bool,
    /// How far a replica is behind; nothing for a primary.
    pub lag_seconds: Option<f64>,
    /// As configured.
    pub weight: f64,
    /// The shard's part of the ring, 0 to 1.
    pub share: f64,
    /// The server's timeline.
    pub timeline: Option<u32>,
    /// The server's system identifier.
    pub system_identifier: Option<u64>,
    /// Why its last probe failed.
    pub last_error: Option<String>,
}

/// A shard on the ring, as in `SHOW RING`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RingRow {
    /// The database.
    pub database: String,
    /// The shard.
    pub shard: String,
    /// As the active ring has it.
    pub weight: f64,
    /// Its nodes on the active ring.
    pub virtual_nodes: u64,
    /// Its part of the active ring, 0 to 1.
    pub share: f64,
    /// Its part if the file's ring were active; nothing when nothing is pending.
    pub pending_share: Option<f64>,
    /// How much of the database's keys the file's ring would move, 0 to 1.
    pub pending_moves: Option<f64>,
}

/// What a database has done, as in `SHOW STATS`. The same counts serve for totals since the
/// start and for averages over the last period.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// How often a client was given a server connection.
    pub server_assignments: u64,
    /// Transactions.
    pub transactions: u64,
    /// Statements.
    pub queries: u64,
    /// Bytes from clients.
    pub received_bytes: u64,
    /// Bytes to clients.
    pub sent_bytes: u64,
    /// Time in transactions, microseconds.
    pub transaction_us: u64,
    /// Time in statements, microseconds.
    pub query_us: u64,
    /// Time clients waited for a server connection, microseconds.
    pub wait_us: u64,
    /// Statements that clients prepared.
    pub client_parses: u64,
    /// Statements prepared on servers.
    pub server_parses: u64,
    /// Prepared statements bound.
    pub binds: u64,
    /// Clients that connected.
    pub client_connects: u64,
    /// Reads that a replica answered.
    pub replica_reads: u64,
    /// Reads that were for a replica, and that the primary answered.
    pub replica_read_fallbacks: u64,
}

impl Totals {
    /// Both together.
    pub fn plus(&self, other: &Totals) -> Totals {
        self.zip(other, u64::saturating_add)
    }

    /// The averages over `elapsed`, in which `earlier` became `self`: counts and bytes a
    /// second, times a transaction, statement and assignment. As PgBouncer has them.
    pub fn average(&self, earlier: &Totals, elapsed: Duration) -> Totals {
        let grown = self.zip(earlier, u64::saturating_sub);
        let micros = elapsed.as_micros();
        let a_second = |count: u64| {
            let scaled = u128::from(count).saturating_mul(1_000_000).checked_div(micros).unwrap_or(0);
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        let each = |time: u64, count: u64| time.checked_div(count).unwrap_or(0);
        Totals {
            server_assignments: a_second(grown.server_assignments),
            transactions: a_second(grown.transactions),
            queries: a_second(grown.queries),
            received_bytes: a_second(grown.received_bytes),
            sent_bytes: a_second(grown.sent_bytes),
            transaction_us: each(grown.transaction_us, grown.transactions),
            query_us: each(grown.query_us, grown.queries),
            wait_us: each(grown.wait_us, grown.server_assignments),
            client_parses: a_second(grown.client_parses),
            server_parses: a_second(grown.server_parses),
            binds: a_second(grown.binds),
            client_connects: a_second(grown.client_connects),
            replica_reads: a_second(grown.replica_reads),
            replica_read_fallbacks: a_second(grown.replica_read_fallbacks),
        }
    }

    fn zip(&self, other: &Totals, with: fn(u64, u64) -> u64) -> Totals {
        Totals {
            server_assignments: with(self.server_assignments, other.server_assignments),
            transactions: with(self.transactions, other.transactions),
            queries: with(self.queries, other.queries),
            received_bytes: with(self.received_bytes, other.received_bytes),
            sent_bytes: with(self.sent_bytes, other.sent_bytes),
            transaction_us: with(self.transaction_us, other.transaction_us),
            query_us: with(self.query_us, other.query_us),
            wait_us: with(self.wait_us, other.wait_us),
            client_parses: with(self.client_parses, other.client_parses),
            server_parses: with(self.server_parses, other.server_parses),
            binds: with(self.binds, other.binds),
            client_connects: with(self.client_connects, other.client_connects),
            replica_reads: with(self.replica_reads, other.replica_reads),
            replica_read_fallbacks: with(self.replica_read_fallbacks, other.replica_read_fallbacks),
        }
    }
}

/// A database's statistics, as in `SHOW STATS`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StatsRow {
    /// The database.
    pub database: String,
    /// Since the start.
    pub total: Totals,
    /// Over the last period, by [`Totals::average`].
    pub average: Totals,
}

/// How many statements went one way, as in `SHOW ROUTES`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RouteRow {
    /// `single`, `subset`, `all`, `home`, `reference` or `refused`.
    pub route: &'static str,
    /// Since the start.
    pub count: u64,
}

/// A two-phase transaction in doubt, as in `SHOW TRANSACTIONS`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TransactionRow {
    /// The database.
    pub database: String,
    /// Its name on the servers.
    pub gid: String,
    /// The shard that holds the decision.
    pub decider: String,
    /// The shards on which it is still prepared.
    pub participants: Vec<String>,
    /// `committed`, `aborted`, or `undecided`.
    pub state: &'static str,
    /// How long it has been prepared.
    pub age_seconds: f64,
    /// Since when.
    pub since: Option<SystemTime>,
    /// What its end waits for.
    pub waits_for: String,
}

/// A setting, as in `SHOW CONFIG`. Never a secret.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConfigRow {
    /// As in the file, with its table: `pool.size`.
    pub key: String,
    /// What is in force.
    pub value: String,
    /// What it is when the file says nothing; nothing where it has to be given.
    pub default: Option<String>,
    /// A reload changes it without a restart.
    pub changeable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_a_second_or_each() {
        let earlier = Totals { queries: 100, query_us: 1000, transactions: 7, ..Totals::default() };
        let now = Totals {
            queries: 160,
            query_us: 7000,
            transactions: 7,
            transaction_us: 5,
            received_bytes: 90,
            ..Totals::default()
        };
        let average = now.average(&earlier, Duration::from_secs(30));
        let expect = Totals { queries: 2, query_us: 100, received_bytes: 3, ..Totals::default() };
        assert_eq!(average, expect);
    }

    #[test]
    fn averages_survive_no_time_and_a_step_back() {
        let some = Totals { queries: u64::MAX, query_us: 3, ..Totals::default() };
        assert_eq!(some.average(&Totals::default(), Duration::ZERO).queries, 0);
        assert_eq!(Totals::default().average(&some, Duration::from_secs(1)), Totals::default());
        assert_eq!(some.plus(&some).queries, u64::MAX);
    }
}
