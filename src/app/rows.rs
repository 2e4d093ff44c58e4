//! The rows of an overview, each from what knows about it.

use super::build::Running;
use crate::backend::Facts;
use crate::config::{self, Endpoint, Settings};
use crate::pool::health::state::{Role, State};
use crate::pool::health::{EndpointHealth, ShardSnapshot};
use crate::pool::{IdleServer, Paused, Pool, Registry};
use crate::ring::Topology;
use crate::session::{ClientInfo, ServerInUse};
use crate::telemetry::snapshot::{
    ClientRow, ClientState, ConfigRow, DatabaseRow, PoolRow, RingRow, ServerRow, ServerState, ShardRow,
    UserRow,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Server connections, and who uses them.
pub(super) struct Servers<'a> {
    pub(super) pools: Vec<Arc<Pool>>,
    pub(super) clients: &'a [ClientInfo],
    pub(super) idle: &'a [IdleServer],
}

/// What a pool's connections do.
pub(super) struct PoolUse {
    /// A client has them; also those a session keeps while it is on another shard.
    pub(super) active: u64,
    pub(super) idle: u64,
    pub(super) login: u64,
}

impl PoolUse {
    pub(super) fn of(pool: &Arc<Pool>, idle: &[IdleServer]) -> PoolUse {
        let state = pool.state();
        let idle = idle.iter().filter(|idle| Arc::ptr_eq(&idle.pool, pool)).count() as u64;
        let login = state.opening as u64;
        PoolUse { active: (state.open as u64).saturating_sub(idle).saturating_sub(login), idle, login }
    }
}

/// How long ago that was, microseconds.
fn micros_since(then: Option<Instant>) -> u64 {
    then.map_or(0, |then| u64::try_from(then.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// Instants are of a clock that people do not read.
fn wall_clock(then: Instant) -> SystemTime {
    SystemTime::now() - then.elapsed()
}

impl Servers<'_> {
    /// The pool that a client's server connection belongs to.
    fn pool_of(&self, client: &ClientInfo, server: &ServerInUse) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| {
            (&pool.label.database, &pool.label.user, pool.label.shard.as_str(), &pool.target.endpoint)
                == (&client.database, &client.user, &*server.shard, &server.endpoint)
        })
    }

    /// The pools of which a client has a connection.
    fn in_use(&self) -> impl Iterator<Item = (&ClientInfo, &ServerInUse, &Arc<Pool>)> {
        self.clients.iter().filter_map(|client| {
            let server = client.server.as_ref()?;
            Some((client, server, self.pool_of(client, server)?))
        })
    }

    fn open(&self, of: impl Fn(&Pool) -> bool) -> u64 {
        self.pools.iter().filter(|pool| of(pool)).map(|pool| pool.state().open as u64).sum()
    }

    pub(super) fn pool_row(&self, pool: &Arc<Pool>, pool_mode: &'static str, role: &'static str) -> PoolRow {
        let use_of = PoolUse::of(pool, self.idle);
        PoolRow {
            database: pool.label.database.clone(),
            user: pool.label.user.clone(),
            cl_active: self.in_use().filter(|(_, _, used)| Arc::ptr_eq(used, pool)).count() as u64,
            cl_waiting: pool.state().waiting as u64,
            sv_active: use_of.active,
            sv_idle: use_of.idle,
            sv_login: use_of.login,
            maxwait_us: micros_since(pool.waiting_since()),
            pool_mode,
            paused: pool.gate.is_closed(),
            shard: pool.label.shard.clone(),
            endpoint: pool.label.endpoint.clone(),
            role,
        }
    }

    pub(super) fn database_row(&self, name: &str, running: &Running, settings: &Settings) -> DatabaseRow {
        let database = &running.database;
        let shards = &running.settings.shards;
        let mut endpoints = shards.iter().flat_map(|shard| shard.endpoints.iter().chain(&shard.analytics));
        let only = endpoints.next().filter(|_| endpoints.next().is_none());
        let (host, port) = only.map(host_and_port).unzip();
        let dbname = shards.first().map(|shard| shard.dbname.clone());
        DatabaseRow {
            name: name.to_owned(),
            host,
            port,
            database: dbname.filter(|dbname| shards.iter().all(|shard| shard.dbname == *dbname)),
            pool_size: settings.pool.size as u64,
            min_pool_size: settings.pool.min_idle as u64,
            server_lifetime: settings.pool.max_lifetime.as_secs(),
            pool_mode: pool_mode(settings),
            current_connections: self.open(|pool| pool.label.database == name),
            current_client_connections: self.clients.iter().filter(|c| c.database == name).count() as u64,
            paused: !database.shards.is_empty() && database.shards.iter().all(|shard| shard.gate.is_closed()),
            shards: database.shards.len() as u64,
            home: database.topology.name(database.topology.home).to_owned(),
        }
    }

    pub(super) fn user_rows(&self, settings: &Settings) -> Vec<UserRow> {
        let admin = &settings.admin;
        let row = |user: &config::User| UserRow {
            name: user.name.clone(),
            current_connections: self.open(|pool| pool.label.user == user.name),
            current_client_connections: self.clients.iter().filter(|c| c.user == user.name).count() as u64,
            console: if admin.users.contains(&user.name) {
                Some("admin")
            } else {
                admin.stats_users.contains(&user.name).then_some("stats")
            },
        };
        settings.users.iter().map(row).collect()
    }

    pub(super) fn server_rows(&self, role_of: impl Fn(&Pool) -> &'static str) -> Vec<ServerRow> {
        let idle = self.idle.iter().map(|idle| ServerRow {
            request_time: wall_clock(idle.used),
            close_needed: idle.generation != idle.pool.generation(),
            ..server_row(&idle.pool, idle.pid, &idle.facts, role_of(&idle.pool))
        });
        let active = self.in_use().map(|(client, server, pool)| ServerRow {
            state: ServerState::Active,
            request_time: client.asked.map_or_else(SystemTime::now, wall_clock),
            close_needed: server.generation != pool.generation(),
            link: Some(u64::from(client.pid)),
            application_name: client.application_name.clone(),
            ..server_row(pool, server.pid, &server.facts, role_of(pool))
        });
        let mut rows: Vec<ServerRow> = idle.chain(active).collect();
        rows.sort_by(|a, b| {
            (&a.database, &a.shard, a.remote_pid).cmp(&(&b.database, &b.shard, b.remote_pid))
        });
        rows
    }

    pub(super) fn client_row(&self, client: &ClientInfo) -> ClientRow {
        let (addr, port) = match client.address.rsplit_once(':') {
            Some((host, port)) => (host.trim_matches(['[', ']']).to_owned(), port.parse().unwrap_or(0)),
            None => (client.address.clone(), 0),
        };
        let server = client.server.as_ref();
        let pool = server.and_then(|server| self.pool_of(client, server));
        ClientRow {
            id: u64::from(client.pid),
            user: client.user.clone(),
            database: client.database.clone(),
            application_name: client.application_name.clone(),
            state: client_state(client),
            addr,
            port,
            local_addr: client.ends.local_addr.clone(),
            local_port: client.ends.local_port,
            connect_time: client.connected,
            request_time: client.asked.map_or(client.connected, wall_clock),
            wait_us: micros_since(client.waiting_since),
            link: server.zip(pool).map(|(server, pool)| pool.connection_id(server.pid)),
            remote_pid: client.ends.remote_pid,
            tls: client.ends.tls.clone(),
            prepared_statements: client.prepared as u64,
            shard: server.map(|server| server.shard.to_string()),
            server_pid: server.and_then(|server| i32::try_from(server.pid).ok()),
            pinned: client.pinned,
        }
    }
}

/// An idle one.
fn server_row(pool: &Pool, pid: u32, facts: &Facts, role: &'static str) -> ServerRow {
    let (addr, port) = match &pool.target.endpoint {
        Endpoint::Tcp { host, port } => (host.clone(), *port),
        Endpoint::Unix { port, .. } => ("unix".to_owned(), *port),
    };
    ServerRow {
        id: pool.connection_id(pid),
        user: pool.label.user.clone(),
        database: pool.label.database.clone(),
        state: ServerState::Idle,
        addr,
        port,
        local_addr: facts.ends.local_addr.clone(),
        local_port: facts.ends.local_port,
        connect_time: wall_clock(facts.opened),
        request_time: wall_clock(facts.opened),
        close_needed: false,
        link: None,
        remote_pid: i32::try_from(pid).unwrap_or(0),
        tls: facts.ends.tls.clone(),
        application_name: String::new(),
        prepared_statements: facts.prepared() as u64,
        shard: pool.label.shard.clone(),
        endpoint: pool.label.endpoint.clone(),
        role,
    }
}

fn host_and_port(endpoint: &Endpoint) -> (String, u16) {
    match endpoint {
        Endpoint::Tcp { host, port } => (host.clone(), *port),
        Endpoint::Unix { port, .. } => ("unix".to_owned(), *port),
    }
}

/// A row for each database and user that has clients or pools: sums over the endpoints. Clients
/// are counted as PgBouncer does: who does not wait is active, also between transactions.
pub(super) fn pools_of_users(
    shard_pools: &[PoolRow],
    clients: &[ClientInfo],
    pool_mode: &'static str,
    registry: &Registry,
) -> Vec<PoolRow> {
    let mut rows: BTreeMap<(&str, &str), PoolRow> = BTreeMap::new();
    for pool in shard_pools {
        let row = rows.entry((&pool.database, &pool.user)).or_default();
        row.sv_active += pool.sv_active;
        row.sv_idle += pool.sv_idle;
        row.sv_login += pool.sv_login;
    }
    for client in clients.iter().filter(|client| client.database != config::CONSOLE_DATABASE) {
        let row = rows.entry((&client.database, &client.user)).or_default();
        match client.waiting_since {
            Some(_) => row.cl_waiting += 1,
            None => row.cl_active += 1,
        }
        row.maxwait_us = row.maxwait_us.max(micros_since(client.waiting_since));
    }
    let finished = rows.into_iter().map(|((database, user), row)| PoolRow {
        database: database.to_owned(),
        user: user.to_owned(),
        pool_mode,
        paused: registry.is_paused(Paused::Database(database)),
        ..row
    });
    finished.collect()
}

pub(super) fn config_rows(settings: &Settings) -> Vec<ConfigRow> {
    let row = |listed: config::listing::Listed| ConfigRow {
        key: listed.key.to_owned(),
        value: listed.value,
        default: Some(listed.default),
        changeable: listed.changeable,
    };
    config::listing::listing(settings).into_iter().map(row).collect()
}

pub(super) fn pool_mode(settings: &Settings) -> &'static str {
    match settings.pool.mode {
        config::PoolMode::Transaction => "transaction",
        config::PoolMode::Session => "session",
    }
}

pub(super) fn client_state(client: &ClientInfo) -> ClientState {
    if client.waiting_since.is_some() && client.database == config::CONSOLE_DATABASE {
        // Its command is being carried out; no server is needed for that.
        ClientState::Active
    } else if client.waiting_since.is_some() {
        ClientState::Waiting
    } else if client.running {
        ClientState::Active
    } else if client.active {
        ClientState::IdleInTransaction
    } else {
        ClientState::Idle
    }
}

pub(super) fn is_up(health: &EndpointHealth) -> bool {
    matches!(health.state, State::Up { .. } | State::Lagging { .. })
}

pub(super) fn role(shard: &ShardSnapshot, at: usize) -> &'static str {
    if shard.roles.primary.as_ref().is_ok_and(|primary| primary.index() == at) {
        return "primary";
    }
    let health = shard.endpoints.get(at).map(|endpoint| &endpoint.health);
    match health.and_then(|health| health.probe.as_ref()).map(|probe| probe.role()) {
        Some(Role::Replica) => "replica",
        _ => "unknown",
    }
}

/// A shard's part of the keys.
fn share(topology: &Topology, at: usize) -> f64 {
    topology.ring.shares().get(at).copied().unwrap_or(0.0)
}

pub(super) fn ring_rows(name: &str, running: &Running, pending: Option<&(Topology, f64)>) -> Vec<RingRow> {
    let topology = &running.database.topology;
    let row = |(at, shard): (usize, &config::Shard)| RingRow {
        database: name.to_owned(),
        shard: shard.name.clone(),
        weight: f64::from(shard.weight),
        virtual_nodes: u64::from(running.settings.virtual_nodes) * u64::from(shard.weight),
        share: share(topology, at),
        pending_share: pending.and_then(|(wanted, _)| {
            let there = wanted.shard_named(&shard.name)?;
            wanted.ring.shares().get(there.index()).copied()
        }),
        pending_moves: pending.map(|(_, share)| *share),
    };
    running.settings.shards.iter().enumerate().map(row).collect()
}

pub(super) fn shard_rows(running: &Running) -> Vec<ShardRow> {
    let mut rows = Vec::new();
    for (at, shard) in running.database.shards.iter().enumerate() {
        let weight = f64::from(running.settings.shards[at].weight);
        rows.extend(endpoint_rows(&shard.board.load(), weight, share(&running.database.topology, at)));
    }
    rows
}

fn endpoint_rows(shard: &ShardSnapshot, weight: f64, share: f64) -> Vec<ShardRow> {
    let row = |(at, endpoint): (usize, &crate::pool::health::board::EndpointSnapshot)| {
        let probe = endpoint.health.probe.as_ref();
        ShardRow {
            database: shard.database.clone(),
            shard: shard.shard.clone(),
            endpoint: endpoint.address.to_string(),
            role: role(shard, at),
            up: is_up(&endpoint.health),
            lag_seconds: endpoint.health.lag.map(|lag| lag.as_secs_f64()),
            weight,
            share,
            timeline: probe.and_then(|probe| probe.timeline),
            system_identifier: probe.and_then(|probe| probe.system_identifier),
            last_error: match &endpoint.health.state {
                State::Down { error, .. } => Some(error.to_string()),
                _ => shard
                    .roles
                    .refused
                    .iter()
                    .find(|(refused, _)| refused.index() == at)
                    .map(|(_, why)| why.to_string()),
            },
        }
    };
    shard.endpoints.iter().enumerate().map(row).collect()
}
