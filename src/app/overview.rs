//! What the process looks like now: for the console, the status page and the gauges.

use super::build::client_count;
use super::rows::{self, PoolUse, Servers};
use super::serve::App;
use crate::http::Readiness;
use crate::pool::health::NoPrimary;
use crate::pool::{IdleServer, Pool};
use crate::session::{ClientInfo, WorkerMessage};
use crate::telemetry::metrics::{EndpointLabel, ServerCount};
use crate::telemetry::snapshot::{ClientState, Snapshot, StatsRow, Totals};
use std::collections::HashMap;
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
    /// Ready: some shard of every database can be reached, and its schema is known. No server says that it
    /// is another shard: such a file is not to be rolled out further.
    fn readiness(&self) -> Readiness {
        let state = self.state();
        let mut reasons = Vec::new();
        for (name, running) in &state.running {
            let database = &running.database;
            for shard in &database.shards {
                if let Err(why @ NoPrimary::Stranger { .. }) = &shard.board.load().roles.primary {
                    reasons.push(format!("database {name}: shard {} has no primary: {why}", shard.name));
                }
            }
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
                let replica = rows::role(shard, at) == "replica";
                let lag = endpoint.health.lag.filter(|_| replica);
                self.metrics.set_endpoint(&label, rows::is_up(&endpoint.health), lag);
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
        let idle_servers = self.idle_servers().await;
        let count = |wanted: &[ClientState]| {
            let n = clients.iter().filter(|client| wanted.contains(&rows::client_state(client))).count();
            i64::try_from(n).unwrap_or(i64::MAX)
        };
        self.metrics.clients.active.set(count(&[ClientState::Active, ClientState::IdleInTransaction]));
        self.metrics.clients.waiting.set(count(&[ClientState::Waiting]));
        self.metrics.clients.idle.set(count(&[ClientState::Idle]));
        let mut servers = Vec::new();
        for pool in self.registry.all() {
            let use_of = PoolUse::of(&pool, &idle_servers);
            let at = EndpointLabel {
                database: pool.label.database.clone(),
                shard: pool.label.shard.clone(),
                endpoint: pool.label.endpoint.clone(),
            };
            let role = self.role_of(&pool);
            servers.push(ServerCount { at: at.clone(), role, state: "active", count: use_of.active });
            servers.push(ServerCount { at, role, state: "idle", count: use_of.idle });
        }
        self.metrics.set_servers(&servers);
        let doubts: Vec<f64> = {
            let state = self.state();
            let all = state.running.values().flat_map(|running| running.database.two_phase.in_doubt());
            all.map(|row| row.age_seconds).collect()
        };
        self.metrics.two_phase.in_doubt.set(i64::try_from(doubts.len()).unwrap_or(i64::MAX));
        self.metrics.two_phase.oldest_seconds.set(doubts.into_iter().fold(0.0, f64::max));
    }

    fn role_of(&self, pool: &Pool) -> &'static str {
        let board = self.prober().board();
        let Some(shard) = board.shard(&pool.label.database, &pool.label.shard) else { return "unknown" };
        let snapshot = shard.load();
        let at = snapshot.endpoints.iter().position(|endpoint| endpoint.address == pool.target.endpoint);
        at.map_or("unknown", |at| rows::role(&snapshot, at))
    }

    /// Everything that can be shown.
    pub(super) async fn overview(&self) -> Snapshot {
        let clients = self.client_infos().await;
        let idle_servers = self.idle_servers().await;
        let state = self.state();
        let mut all = Snapshot::empty(state.settings.cluster.clone(), SystemTime::now());
        all.uptime = self.started.elapsed();
        all.paused = self.registry.is_paused(crate::pool::Paused::All);
        all.shutting_down = self.stop.borrow().is_some();
        all.login_clients = (client_count(self) as u64).saturating_sub(clients.len() as u64);
        let servers = Servers { pools: self.registry.all(), clients: &clients, idle: &idle_servers };
        let pool_mode = rows::pool_mode(&state.settings);
        all.shard_pools =
            servers.pools.iter().map(|pool| servers.pool_row(pool, pool_mode, self.role_of(pool))).collect();
        all.shard_pools.sort_by(|a, b| {
            (&a.database, &a.shard, &a.endpoint, &a.user).cmp(&(&b.database, &b.shard, &b.endpoint, &b.user))
        });
        all.pools = rows::pools_of_users(&all.shard_pools, &clients, pool_mode, &self.registry);
        let mut names: Vec<&String> = state.running.keys().collect();
        names.sort();
        for name in names {
            let running = &state.running[name];
            all.shards.extend(rows::shard_rows(running));
            all.ring.extend(rows::ring_rows(name, running, state.pending.get(name)));
            all.transactions.extend(running.database.two_phase.in_doubt());
            all.databases.push(servers.database_row(name, running, &state.settings));
            let averages = self.averages.lock().unwrap_or_else(PoisonError::into_inner);
            all.stats.push(StatsRow {
                database: name.clone(),
                total: self.metrics.totals(name),
                average: averages.last.get(name).copied().unwrap_or_default(),
            });
        }
        all.users = servers.user_rows(&state.settings);
        all.routes = self.metrics.routes.rows();
        all.config = rows::config_rows(&state.settings);
        all.servers = servers.server_rows(|pool| self.role_of(pool));
        all.clients = clients.iter().map(|client| servers.client_row(client)).collect();
        all.clients.sort_by_key(|client| client.id);
        all
    }
}
