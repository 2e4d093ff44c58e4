//! What the process looks like now: for the console, the status page and the gauges.

use super::serve::App;
use crate::config::{self, Endpoint};
use crate::http::Readiness;
use crate::pool::health::state::{Role, State};
use crate::pool::health::{EndpointHealth, ShardSnapshot};
use crate::pool::{IdleServer, Pool};
use crate::session::{ClientInfo, WorkerMessage};
use crate::telemetry::metrics::{EndpointLabel, ServerCount};
use crate::telemetry::snapshot::{
    ClientRow, ClientState, ConfigRow, DatabaseRow, PoolRow, RingRow, ServerRow, ServerState, ShardRow,
    Snapshot, StatsRow, Totals, UserRow,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{oneshot, watch};

/// The totals as they were a period ago, for averages.
#[derive(Default)]
pub(super) struct Averages {
    taken: Option<Instant>,
    before: HashMap<String, Totals>,
    last: HashMap<String, Totals>,
}

/// PgBouncer's `stats_period`.
const PERIOD: Duration = Duration::from_secs(60);

/// Keeps readiness and the endpoints' gauges as they are.
pub(super) async fn keep_up(app: Arc<App>, readiness: watch::Sender<Readiness>) {
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tick.tick().await;
        let now = app.readiness();
        readiness.send_if_modified(|known| {
            let changed = known.ready != now.ready || known.reasons != now.reasons;
            if changed {
                known.clone_from(&now);
            }
            changed
        });
        app.set_endpoint_gauges();
        app.average();
    }
}

impl App {
    /// Ready: some shard of every database can be reached, and its schema is known.
    fn readiness(&self) -> Readiness {
        let state = self.state();
        let mut reasons = Vec::new();
        for (name, running) in &state.running {
            let database = &running.database;
            if database.shards.iter().all(|shard| shard.board.load().roles.primary.is_err()) {
                reasons.push(format!("database {name}: no shard has a healthy primary"));
            } else if database.schema.load().is_none() {
                reasons.push(format!("database {name}: its schema is not known yet"));
            }
        }
        if reasons.is_empty() { Readiness::ready() } else { Readiness::not_ready(reasons) }
    }

    fn set_endpoint_gauges(&self) {
        let board = self.prober().board();
        for shard in &board.snapshot().shards {
            for (at, endpoint) in shard.endpoints.iter().enumerate() {
                let label = EndpointLabel {
                    database: shard.database.clone(),
                    shard: shard.shard.clone(),
                    endpoint: endpoint.address.to_string(),
                };
                let replica = role(shard, at) == "replica";
                let lag = endpoint.health.lag.filter(|_| replica);
                self.metrics.set_endpoint(&label, is_up(&endpoint.health), lag);
            }
        }
    }

    fn average(&self) {
        let mut averages = self.averages.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let Some(taken) = averages.taken else {
            averages.taken = Some(now);
            return;
        };
        if now.duration_since(taken) < PERIOD {
            return;
        }
        let names: Vec<String> = self.state().running.keys().cloned().collect();
        for name in names {
            let total = self.metrics.totals(&name);
            let before = averages.before.insert(name.clone(), total).unwrap_or_default();
            averages.last.insert(name, total.average(&before, now.duration_since(taken)));
        }
        averages.taken = Some(now);
    }

    /// Asks the threads who is there; one that does not answer at once is left out.
    pub(super) async fn client_infos(&self) -> Vec<ClientInfo> {
        let mut asked = Vec::new();
        for worker in self.workers() {
            let (reply, answer) = oneshot::channel();
            if worker.send(WorkerMessage::Clients(reply)).is_ok() {
                asked.push(answer);
            }
        }
        let mut infos = Vec::new();
        for answer in asked {
            if let Ok(Ok(some)) = tokio::time::timeout(Duration::from_secs(1), answer).await {
                infos.extend(some);
            }
        }
        infos
    }

    /// Asks the threads for their idle server connections, as [`App::client_infos`] does.
    async fn idle_servers(&self) -> Vec<IdleServer> {
        let mut asked = Vec::new();
        for worker in self.workers() {
            let (reply, answer) = oneshot::channel();
            if worker.send(WorkerMessage::IdleServers(reply)).is_ok() {
                asked.push(answer);
            }
        }
        let mut servers = Vec::new();
        for answer in asked {
            if let Ok(Ok(some)) = tokio::time::timeout(Duration::from_secs(1), answer).await {
                servers.extend(some);
            }
        }
        servers
    }

    /// Brings the gauges that nobody keeps up to date for a scrape.
    pub(super) async fn refresh_gauges(&self) {
        let clients = self.client_infos().await;
        let count = |wanted: ClientState| {
            let n = clients.iter().filter(|client| client_state(client) == wanted).count();
            i64::try_from(n).unwrap_or(i64::MAX)
        };
        self.metrics.clients.active.set(count(ClientState::Active));
        self.metrics.clients.waiting.set(count(ClientState::Waiting));
        self.metrics.clients.idle.set(count(ClientState::Idle));
        let used = servers_in_use(&clients);
        let mut servers = Vec::new();
        for pool in self.registry.all() {
            let (active, idle) = active_and_idle(&pool, &used);
            let at = EndpointLabel {
                database: pool.label.database.clone(),
                shard: pool.label.shard.clone(),
                endpoint: pool.label.endpoint.clone(),
            };
            let role = self.role_of(&pool);
            servers.push(ServerCount { at: at.clone(), role, state: "active", count: active });
            servers.push(ServerCount { at, role, state: "idle", count: idle });
        }
        self.metrics.set_servers(&servers);
    }

    fn role_of(&self, pool: &Pool) -> &'static str {
        let board = self.prober().board();
        let Some(shard) = board.shard(&pool.label.database, &pool.label.shard) else { return "unknown" };
        let snapshot = shard.load();
        let at = snapshot.endpoints.iter().position(|endpoint| endpoint.address == pool.target.endpoint);
        at.map_or("unknown", |at| role(&snapshot, at))
    }

    /// An idle server connection of a pool.
    fn server_row(&self, pool: &Pool, pid: u32) -> ServerRow {
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
            local_addr: String::new(),
            local_port: 0,
            connect_time: SystemTime::UNIX_EPOCH,
            request_time: SystemTime::now(),
            close_needed: false,
            link: None,
            remote_pid: i32::try_from(pid).unwrap_or(0),
            tls: String::new(),
            application_name: String::new(),
            prepared_statements: 0,
            shard: pool.label.shard.clone(),
            endpoint: pool.label.endpoint.clone(),
            role: self.role_of(pool),
        }
    }

    /// Everything that can be shown.
    pub(super) async fn overview(&self) -> Snapshot {
        let clients = self.client_infos().await;
        let idle_servers = self.idle_servers().await;
        let used = servers_in_use(&clients);
        let state = self.state();
        let mut all = Snapshot::empty(state.settings.cluster.clone(), SystemTime::now());
        all.uptime = self.started.elapsed();
        all.shutting_down = self.stop.borrow().is_some();
        for pool in self.registry.all() {
            let (active, idle) = active_and_idle(&pool, &used);
            all.pools.push(PoolRow {
                database: pool.label.database.clone(),
                user: pool.label.user.clone(),
                cl_active: active,
                cl_waiting: pool.state().waiting as u64,
                sv_active: active,
                sv_idle: idle,
                pool_mode: pool_mode(&state.settings),
                shard: pool.label.shard.clone(),
                endpoint: pool.label.endpoint.clone(),
                role: self.role_of(&pool),
                ..PoolRow::default()
            });
        }
        all.pools.sort_by(|a, b| (&a.database, &a.shard, &a.user).cmp(&(&b.database, &b.shard, &b.user)));
        let mut names: Vec<&String> = state.running.keys().collect();
        names.sort();
        for name in names {
            let running = &state.running[name];
            let database = &running.database;
            let topology = &database.topology;
            let shares = topology.ring.shares();
            let pending = state.pending.get(name);
            for (at, shard) in database.shards.iter().enumerate() {
                let snapshot = shard.board.load();
                let weight = f64::from(running.settings.shards[at].weight);
                all.shards.extend(shard_rows(&snapshot, weight, shares.get(at).copied().unwrap_or(0.0)));
                all.ring.push(RingRow {
                    database: name.clone(),
                    shard: shard.name.clone(),
                    weight,
                    virtual_nodes: u64::from(running.settings.virtual_nodes)
                        * u64::from(running.settings.shards[at].weight),
                    share: shares.get(at).copied().unwrap_or(0.0),
                    pending_share: pending.and_then(|(wanted, _)| {
                        let there = wanted.shard_named(&shard.name)?;
                        wanted.ring.shares().get(there.index()).copied()
                    }),
                    pending_moves: pending.map(|(_, share)| *share),
                });
            }
            let open: usize = self
                .registry
                .all()
                .iter()
                .filter(|p| p.label.database == *name)
                .map(|p| p.state().open)
                .sum();
            all.databases.push(DatabaseRow {
                name: name.clone(),
                database: running.settings.shards.first().map(|shard| shard.dbname.clone()),
                pool_size: state.settings.pool.size as u64,
                min_pool_size: state.settings.pool.min_idle as u64,
                server_lifetime: state.settings.pool.max_lifetime.as_secs(),
                pool_mode: pool_mode(&state.settings),
                current_connections: open as u64,
                current_client_connections: clients.iter().filter(|c| c.database == *name).count() as u64,
                shards: database.shards.len() as u64,
                home: topology.name(topology.home).to_owned(),
                ..DatabaseRow::default()
            });
            let averages = self.averages.lock().unwrap_or_else(PoisonError::into_inner);
            all.stats.push(StatsRow {
                database: name.clone(),
                total: self.metrics.totals(name),
                average: averages.last.get(name).copied().unwrap_or_default(),
            });
        }
        let admin = &state.settings.admin;
        for user in &state.settings.users {
            let console = if admin.users.contains(&user.name) {
                Some("admin")
            } else {
                admin.stats_users.contains(&user.name).then_some("stats")
            };
            let open: usize = self
                .registry
                .all()
                .iter()
                .filter(|p| p.label.user == user.name)
                .map(|p| p.state().open)
                .sum();
            all.users.push(UserRow {
                name: user.name.clone(),
                current_connections: open as u64,
                current_client_connections: clients.iter().filter(|c| c.user == user.name).count() as u64,
                console,
            });
        }
        all.routes = self.metrics.routes.rows();
        all.config = config::listing::listing(&state.settings)
            .into_iter()
            .map(|listed| ConfigRow {
                key: listed.key.to_owned(),
                value: listed.value,
                default: Some(listed.default),
                changeable: listed.changeable,
            })
            .collect();
        let pools = self.registry.all();
        let idle = idle_servers.iter().map(|idle| ServerRow {
            connect_time: wall_clock(idle.opened),
            request_time: wall_clock(idle.used),
            ..self.server_row(&idle.pool, idle.pid)
        });
        let active = clients.iter().filter_map(|client| {
            let (shard, pid) = client.server.as_ref()?;
            let connect_time = wall_clock(client.server_opened?);
            let pool = pools.iter().find(|pool| {
                (&pool.label.database, &pool.label.user, &pool.label.shard)
                    == (&client.database, &client.user, shard)
            })?;
            Some(ServerRow {
                state: ServerState::Active,
                connect_time,
                link: Some(u64::from(client.pid)),
                application_name: client.application_name.clone(),
                ..self.server_row(pool, *pid)
            })
        });
        all.servers = idle.chain(active).collect();
        all.servers.sort_by(|a, b| {
            (&a.database, &a.shard, a.remote_pid).cmp(&(&b.database, &b.shard, b.remote_pid))
        });
        all.clients = clients.iter().map(client_row).collect();
        all.clients.sort_by_key(|client| client.id);
        all
    }
}

/// Instants are of a clock that people do not read.
fn wall_clock(then: Instant) -> SystemTime {
    SystemTime::now() - then.elapsed()
}

fn pool_mode(settings: &config::Settings) -> &'static str {
    match settings.pool.mode {
        config::PoolMode::Transaction => "transaction",
        config::PoolMode::Session => "session",
    }
}

fn client_state(client: &ClientInfo) -> ClientState {
    if client.waiting {
        ClientState::Waiting
    } else if client.active {
        ClientState::Active
    } else {
        ClientState::Idle
    }
}

fn client_row(client: &ClientInfo) -> ClientRow {
    let (addr, port) = match client.address.rsplit_once(':') {
        Some((host, port)) => (host.to_owned(), port.parse().unwrap_or(0)),
        None => (client.address.clone(), 0),
    };
    ClientRow {
        id: u64::from(client.pid),
        user: client.user.clone(),
        database: client.database.clone(),
        application_name: client.application_name.clone(),
        state: client_state(client),
        addr,
        port,
        connect_time: client.connected,
        request_time: client.connected,
        tls: if client.tls { "TLS".to_owned() } else { String::new() },
        prepared_statements: client.prepared as u64,
        shard: client.server.as_ref().map(|(shard, _)| shard.clone()),
        server_pid: client.server.as_ref().and_then(|(_, pid)| i32::try_from(*pid).ok()),
        pinned: client.pinned,
        local_addr: String::new(),
        local_port: 0,
        wait_us: 0,
        link: None,
        remote_pid: 0,
    }
}

/// How many servers clients hold, by (database, user, shard).
fn servers_in_use(clients: &[ClientInfo]) -> BTreeMap<(String, String, String), u64> {
    let mut used = BTreeMap::new();
    for client in clients {
        if let Some((shard, _)) = &client.server {
            *used.entry((client.database.clone(), client.user.clone(), shard.clone())).or_insert(0) += 1;
        }
    }
    used
}

fn active_and_idle(pool: &Pool, used: &BTreeMap<(String, String, String), u64>) -> (u64, u64) {
    let open = pool.state().open as u64;
    let key = (pool.label.database.clone(), pool.label.user.clone(), pool.label.shard.clone());
    let active = used.get(&key).copied().unwrap_or(0).min(open);
    (active, open - active)
}

fn is_up(health: &EndpointHealth) -> bool {
    matches!(health.state, State::Up { .. } | State::Lagging { .. })
}

fn role(shard: &ShardSnapshot, at: usize) -> &'static str {
    if shard.roles.primary.as_ref().is_ok_and(|primary| primary.index() == at) {
        return "primary";
    }
    let health = shard.endpoints.get(at).map(|endpoint| &endpoint.health);
    match health.and_then(|health| health.probe.as_ref()).map(|probe| probe.role()) {
        Some(Role::Replica) => "replica",
        _ => "unknown",
    }
}

fn shard_rows(shard: &ShardSnapshot, weight: f64, share: f64) -> Vec<ShardRow> {
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
                _ => None,
            },
        }
    };
    shard.endpoints.iter().enumerate().map(row).collect()
}
