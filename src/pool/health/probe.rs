//! The tasks that ask.
//!
//! One an endpoint, on the runtime given at start, each with one connection that it keeps for a while. Every
//! probe, the connecting included, is bounded by `timeout`; after a failure the connection is
//! given up, so that the next probe resolves the name and connects anew. A connection that ends
//! by itself, and [`ShardBoard::probe_now`], cause a probe at once rather than at the next
//! interval, but never more than one each [`LEAST_GAP`]. From the primary's first failure on, and as
//! long as there is none, all endpoints are probed [`HURRY`] times as often, for a minute at most: the
//! new primary is to be known as soon as it is one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};

use super::board::{Board, Event, ShardBoard, ShardName, Watched};
use super::connector::{ControlConnection, Login, Tls};
use super::identity::{Council, Expected, Identity};
use super::patroni::{self, PatroniSpec};
use super::question::Ask;
use super::roles::EndpointIndex;
use super::state::{HealthSettings, Observation, Probe, ProbeFailure, Purpose, Role, Transition};
use crate::config::Endpoint;

/// Between two probes, however urgently they are asked for.
const LEAST_GAP: Duration = Duration::from_millis(50);
/// So many probes go by before a connection is made anew: a name, or an address, may have moved on to
/// another server while the old one lives.
const ASKED_ON_ONE: u32 = 20;
/// Probes are so many times as frequent while roles are likely to change.
const HURRY: u32 = 10;

/// What to probe, and how to get there.
#[derive(Clone, PartialEq, Debug)]
pub struct EndpointSpec {
    /// The configured database's name.
    pub database: String,
    /// The shard's name.
    pub shard: String,
    /// Where it listens.
    pub address: Endpoint,
    /// What it is configured for.
    pub purpose: Purpose,
    /// What it is, if it may say otherwise.
    pub expected: Option<Expected>,
    /// The database's name on the server.
    pub dbname: String,
    /// pgring's own role.
    pub login: Login,
    /// Encryption.
    pub tls: Tls,
}

/// The running tasks. Dropping it stops them; the board stays as it was.
#[derive(Debug)]
pub struct Prober {
    runtime: Handle,
    board: Arc<Board>,
    shards: BTreeMap<ShardName, Shard>,
    /// Of each database with several shards, and the placement that it is about.
    councils: BTreeMap<String, (String, Arc<Council>)>,
    rumours: BTreeMap<ShardName, (PatroniSpec, HealthSettings, Task)>,
}

#[derive(Debug)]
struct Shard {
    specs: Vec<EndpointSpec>,
    settings: HealthSettings,
    tasks: Vec<Task>,
}

/// Aborted when dropped, and its connection with it.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Prober {
    /// Probes `specs` from now on. Endpoints of one shard keep their order, which is the one
    /// their indexes count in.
    pub fn start(runtime: Handle, specs: Vec<EndpointSpec>, settings: HealthSettings) -> Prober {
        let mut prober = Prober {
            runtime,
            board: Arc::new(Board::default()),
            shards: BTreeMap::new(),
            councils: BTreeMap::new(),
            rumours: BTreeMap::new(),
        };
        prober.update(specs, settings);
        prober
    }

    /// Where the outcome is published.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Goes on with another list of endpoints, or other settings. Shards that have not changed
    /// are left alone; of the others, what is known of endpoints that stay is kept.
    pub fn update(&mut self, specs: Vec<EndpointSpec>, settings: HealthSettings) {
        let mut wanted: BTreeMap<ShardName, Vec<EndpointSpec>> = BTreeMap::new();
        for spec in specs {
            wanted.entry((spec.database.clone(), spec.shard.clone())).or_default().push(spec);
        }
        self.convene(&wanted);
        let mut old = std::mem::take(&mut self.shards);
        let known = self.board.boards();
        let mut boards = BTreeMap::new();
        for (name, specs) in wanted {
            let running = old.remove(&name);
            let board = known.get(&name);
            let (board, shard) = match (running, board) {
                (Some(running), Some(board)) if running.specs == specs && running.settings == settings => {
                    (Arc::clone(board), running)
                }
                (running, board) => {
                    drop(running);
                    self.watch(board, &name, specs, settings)
                }
            };
            boards.insert(name.clone(), board);
            self.shards.insert(name, shard);
        }
        self.board.publish(boards);
    }

    /// A council for each database, a new one where the placement is another.
    fn convene(&mut self, wanted: &BTreeMap<ShardName, Vec<EndpointSpec>>) {
        let mut old = std::mem::take(&mut self.councils);
        for ((database, _), specs) in wanted {
            let Some(expected) = specs.first().and_then(|spec| spec.expected.as_ref()) else { continue };
            if !self.councils.contains_key(database) {
                let kept = old.remove(database).filter(|(placement, _)| *placement == expected.placement);
                let shards = wanted.keys().filter(|(of, _)| of == database).count();
                let made = || (expected.placement.clone(), Arc::new(Council::new(shards)));
                self.councils.insert(database.clone(), kept.unwrap_or_else(made));
            }
        }
    }

    /// Listens to these instead of those before, for shards that are probed.
    pub fn listen(&mut self, specs: Vec<PatroniSpec>, settings: HealthSettings) {
        let mut old = std::mem::take(&mut self.rumours);
        for spec in specs.into_iter().filter(|spec| !spec.members.is_empty()) {
            let name = (spec.database.clone(), spec.shard.clone());
            let Some(board) = self.board.shard(&name.0, &name.1) else { continue };
            let kept = old.remove(&name).filter(|(was, under, _)| *was == spec && *under == settings);
            let listening = kept.unwrap_or_else(|| {
                let asking = patroni::listen(spec.clone(), board, settings.interval, settings.timeout);
                (spec, settings, Task(self.runtime.spawn(asking)))
            });
            self.rumours.insert(name, listening);
        }
    }

    fn watch(
        &self,
        board: Option<&Arc<ShardBoard>>,
        (database, shard): &ShardName,
        specs: Vec<EndpointSpec>,
        settings: HealthSettings,
    ) -> (Arc<ShardBoard>, Shard) {
        let council = self.councils.get(database).map(|(_, council)| Arc::clone(council));
        if let Some(council) = &council {
            council.forget(shard);
        }
        let endpoints = specs.iter().map(|spec| (spec.purpose, spec.address.clone())).collect();
        let board = match board {
            Some(board) => {
                let events = board.change(|watched| watched.configure(endpoints, settings));
                log(board, &events);
                Arc::clone(board)
            }
            None => Arc::new(ShardBoard::new(Watched::new(database, shard, endpoints, settings))),
        };
        let mut tasks = Vec::with_capacity(specs.len());
        let mut wake = Vec::with_capacity(specs.len());
        for (spec, index) in specs.iter().zip(0..=u16::MAX) {
            let now = Arc::new(Notify::new());
            wake.push(Arc::clone(&now));
            let task = EndpointTask {
                spec: spec.clone(),
                index: EndpointIndex(index),
                settings,
                board: Arc::clone(&board),
                now,
                connection: None,
                asked: 0,
                identity: Identity::default(),
                council: council.clone(),
                role: None,
                said_forbidden: false,
            };
            tasks.push(Task(self.runtime.spawn(task.run())));
        }
        board.set_tasks(wake);
        (board, Shard { specs, settings, tasks })
    }

    /// How many tasks run.
    pub fn tasks(&self) -> usize {
        self.shards.values().map(|shard| shard.tasks.len()).sum()
    }
}

struct EndpointTask {
    spec: EndpointSpec,
    index: EndpointIndex,
    settings: HealthSettings,
    board: Arc<ShardBoard>,
    now: Arc<Notify>,
    connection: Option<(ControlConnection, Ask)>,
    /// How often that has been asked.
    asked: u32,
    identity: Identity,
    council: Option<Arc<Council>>,
    /// What the server was when it answered last.
    role: Option<Role>,
    said_forbidden: bool,
}

impl EndpointTask {
    async fn run(mut self) {
        loop {
            let begun = tokio::time::Instant::now();
            let begun_at = Instant::now();
            let result = match timeout(self.settings.timeout, self.probe()).await {
                Ok(result) => result,
                Err(_) => Err(ProbeFailure::Timeout(self.settings.timeout)),
            };
            if result.is_err() {
                self.connection = None;
                if let Some(council) = &self.council {
                    council.is_silent(&self.spec.shard);
                }
            }
            let role = result.as_ref().ok().map(Probe::role);
            if self.role.is_some() && role.is_some() && self.role != role {
                // A name may have moved on to the new primary; this connection has not.
                self.connection = None;
                self.now.notify_one();
            }
            self.role = role.or(self.role);
            self.publish(Observation { at: Instant::now(), result });
            self.board.has_answered(self.index, begun_at);
            self.board.look_for_trouble();
            let pause = match self.board.is_hurried() {
                true => self.settings.interval / HURRY,
                false => self.settings.interval,
            };
            tokio::select! {
                () = sleep_until(begun + pause) => {}
                () = self.now.notified() => {}
            }
            sleep(LEAST_GAP.min(self.settings.interval).saturating_sub(begun.elapsed())).await;
        }
    }

    /// Dropped half-way, nothing is left open.
    async fn open(&self, limit: Duration) -> Result<ControlConnection, ProbeFailure> {
        let closed = Arc::clone(&self.now);
        let spec = &self.spec;
        let closed = move || closed.notify_one();
        ControlConnection::open(&spec.address, &spec.dbname, &spec.login, &spec.tls, limit, closed).await
    }

    async fn probe(&mut self) -> Result<Probe, ProbeFailure> {
        self.asked = self.asked.wrapping_add(1);
        if self.connection.as_ref().is_none_or(|(connection, _)| connection.is_closed()) {
            self.connection = Some((self.open(self.settings.timeout).await?, Ask::default()));
            self.identity = self.identity.renewed();
            self.asked = 0;
        } else if self.asked >= ASKED_ON_ONE {
            // One that cannot be had, say because all of the server's are taken, proves nothing.
            if let Ok(connection) = self.open(self.settings.timeout / 2).await {
                self.connection = Some((connection, Ask::default()));
                self.identity = self.identity.renewed();
            }
            self.asked = 0;
        }
        let Some((connection, ask)) = &mut self.connection else {
            return Err(ProbeFailure::Lost("no connection".to_owned()));
        };
        let mut probe = ask.ask(connection.client()).await?;
        if let Some(expected) = &self.spec.expected {
            probe.stranger = self.identity.ask(connection.client(), expected).await?;
            if let Some(council) = &self.council {
                council.tell(&self.spec.shard, self.index, probe.stranger.as_ref());
                council.convene(self.settings.timeout / 2).await;
                probe.stranger = probe.stranger.or_else(|| council.objection());
            }
        }
        if !ask.forbidden().is_empty() && !self.said_forbidden {
            self.said_forbidden = true;
            let pieces: Vec<String> = ask.forbidden().iter().map(ToString::to_string).collect();
            tracing::warn!(
                database = self.spec.database,
                "shard {} endpoint {}: role {:?} may not use {}; without them pgring knows less \
                 about the server (GRANT pg_monitor, or EXECUTE on these functions, to the role)",
                self.spec.shard,
                self.spec.address,
                self.spec.login.user,
                pieces.join(", "),
            );
        }
        Ok(probe)
    }

    fn publish(&self, observation: Observation) {
        let events = self.board.change(|watched| {
            // This task may have been stopped, too late to know, by a reload after which its
            // index is another endpoint's.
            let target = watched.snapshot().endpoints.get(self.index.index());
            let same =
                target.is_some_and(|at| at.address == self.spec.address && at.purpose == self.spec.purpose);
            if same { watched.observe(self.index, observation) } else { Vec::new() }
        });
        log(&self.board, &events);
    }
}

/// One line for each event.
fn log(board: &ShardBoard, events: &[Event]) {
    if events.is_empty() {
        return;
    }
    let snapshot = board.load();
    let (database, shard) = (snapshot.database.as_str(), snapshot.shard.as_str());
    let address = |index: &EndpointIndex| {
        snapshot.endpoints.get(index.index()).map_or_else(String::new, |at| at.address.to_string())
    };
    for event in events {
        match event {
            Event::Endpoint(index, transition) => {
                let address = address(index);
                match transition {
                    Transition::Down { .. } | Transition::Lagging { .. } => {
                        tracing::warn!(database, "shard {shard} endpoint {address} {transition}");
                    }
                    Transition::Up { .. } | Transition::Role { .. } | Transition::CaughtUp => {
                        tracing::info!(database, "shard {shard} endpoint {address} {transition}");
                    }
                }
            }
            Event::Refused(index, why) => {
                tracing::warn!(database, "shard {shard} endpoint {} {why}: it is not used", address(index));
            }
            Event::Primary(index) => {
                tracing::info!(database, "shard {shard} has its primary: {}", address(index));
            }
            Event::NoPrimary(why) => tracing::error!(database, "shard {shard} has no primary: {why}"),
        }
    }
}
