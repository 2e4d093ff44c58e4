//! The tasks that ask.
//!
//! One an endpoint, on the runtime given at start, each with one connection that it keeps. Every
//! probe, the connecting included, is bounded by `timeout`; after a failure the connection is
//! given up, so that the next probe resolves the name and connects anew. A connection that ends
//! by itself, and [`ShardBoard::probe_now`], cause a probe at once rather than at the next
//! interval, but never more than one each [`LEAST_GAP`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};

use super::board::{Board, Event, ShardBoard, ShardName, Watched};
use super::connector::{ControlConnection, Login, Tls};
use super::question::Ask;
use super::roles::EndpointIndex;
use super::state::{HealthSettings, Observation, Probe, ProbeFailure, Purpose, Transition};
use crate::config::Endpoint;

/// Between two probes, however urgently they are asked for.
const LEAST_GAP: Duration = Duration::from_millis(50);

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
        let mut prober = Prober { runtime, board: Arc::new(Board::default()), shards: BTreeMap::new() };
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

    fn watch(
        &self,
        board: Option<&Arc<ShardBoard>>,
        (database, shard): &ShardName,
        specs: Vec<EndpointSpec>,
        settings: HealthSettings,
    ) -> (Arc<ShardBoard>, Shard) {
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
    said_forbidden: bool,
}

impl EndpointTask {
    async fn run(mut self) {
        loop {
            let begun = tokio::time::Instant::now();
            let result = match timeout(self.settings.timeout, self.probe()).await {
                Ok(result) => result,
                Err(_) => Err(ProbeFailure::Timeout(self.settings.timeout)),
            };
            if result.is_err() {
                self.connection = None;
            }
            self.publish(Observation { at: Instant::now(), result });
            tokio::select! {
                () = sleep_until(begun + self.settings.interval) => {}
                () = self.now.notified() => {}
            }
            sleep(LEAST_GAP.min(self.settings.interval).saturating_sub(begun.elapsed())).await;
        }
    }

    async fn probe(&mut self) -> Result<Probe, ProbeFailure> {
        if self.connection.as_ref().is_none_or(|(connection, _)| connection.is_closed()) {
            let closed = Arc::clone(&self.now);
            let spec = &self.spec;
            let connection = ControlConnection::open(
                &spec.address,
                &spec.dbname,
                &spec.login,
                &spec.tls,
                self.settings.timeout,
                move || closed.notify_one(),
            )
            .await?;
            self.connection = Some((connection, Ask::default()));
        }
        let Some((connection, ask)) = &mut self.connection else {
            return Err(ProbeFailure::Lost("no connection".to_owned()));
        };
        let probe = ask.ask(connection.client()).await?;
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
