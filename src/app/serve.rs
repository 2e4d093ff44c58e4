//! The process from its start to its end.

use super::build::{BuildError, KnownUser, Running, client_count, console_database};
use super::listeners::{ListenError, Listeners};
use super::lookup::Keyrings;
use super::overview::Averages;
use super::threads::{Threads, core_count};
use crate::config::Settings;
use crate::http::{HttpError, HttpState, Readiness};
use crate::pool::health::{HealthSettings, Prober};
use crate::pool::{self, Registry};
use crate::ring::Topology;
use crate::session::{Database, Directory, WorkerMessage};
use crate::telemetry::Metrics;
use arc_swap::ArcSwap;
use rand::RngExt;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

/// Why the proxy cannot serve.
#[derive(Debug, Error)]
pub(super) enum ServeError {
    /// The configuration cannot be put into practice.
    #[error("{0}")]
    Build(String),
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// The HTTP address cannot be listened on.
    #[error("cannot listen on {0} for HTTP: {1}; set http.address to a free address, or to \"off\"")]
    Http(SocketAddr, std::io::Error),
    /// The operating system refused something.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

impl From<BuildError> for ServeError {
    fn from(error: BuildError) -> ServeError {
        ServeError::Build(error.to_string())
    }
}

/// When serving ends.
pub(super) enum Until {
    /// SIGTERM drains, SIGINT stops.
    Signal,
    /// The same; this is called once clients can connect.
    SignalAfter(Box<dyn FnOnce() + Send>),
}

/// What the whole process shares outside the path of statements.
pub(super) struct App {
    pub(super) config_path: PathBuf,
    pub(super) runtime: Handle,
    pub(super) metrics: Arc<Metrics>,
    pub(super) registry: Arc<Registry>,
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) console_database: Arc<Database>,
    pub(super) mock_secret: Arc<[u8]>,
    /// Of users who are looked up.
    pub(super) keyrings: Arc<Keyrings>,
    pub(super) clients: Arc<AtomicUsize>,
    pub(super) workers: OnceLock<Arc<Vec<mpsc::UnboundedSender<WorkerMessage>>>>,
    pub(super) started: Instant,
    pub(super) state: Mutex<State>,
    pub(super) averages: Mutex<Averages>,
    /// Asked to stop: how.
    pub(super) stop: watch::Sender<Option<Stop>>,
    /// Asked to read the configuration again.
    pub(super) reload_asked: Notify,
    prober: Mutex<Prober>,
    /// Itself, for what outlives a call.
    pub(super) myself: std::sync::Weak<App>,
}

/// What a reload changes.
pub(super) struct State {
    /// In force.
    pub(super) settings: Settings,
    pub(super) running: HashMap<String, Running>,
    pub(super) users: HashMap<String, KnownUser>,
    /// Rings that the file asks for and that would move rows, by database; with the share of
    /// keys each would move.
    pub(super) pending: HashMap<String, (Topology, f64)>,
    pub(super) generation: u64,
}

/// How to stop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Stop {
    /// Let transactions finish, for `drain_timeout` at most.
    Drain,
    /// Now.
    Now,
}

/// A panic while a lock was held leaves a state that is still whole: these are simple values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl App {
    pub(super) fn prober(&self) -> MutexGuard<'_, Prober> {
        lock(&self.prober)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The threads' mailboxes; none before they have started.
    pub(super) fn workers(&self) -> &[mpsc::UnboundedSender<WorkerMessage>] {
        self.workers.get().map_or(&[], |workers| workers.as_slice())
    }

    /// Sends to all threads.
    pub(super) fn tell_workers(&self, message: impl Fn() -> WorkerMessage) {
        for worker in self.workers() {
            // A thread that has ended has no sessions.
            let _ = worker.send(message());
        }
    }

    pub(super) fn pending_moves(&self, database: &str) -> f64 {
        // The build is called with the lock held for the first time only.
        self.state
            .try_lock()
            .map_or(0.0, |state| state.pending.get(database).map_or(0.0, |(_, share)| *share))
    }
}

/// Runs the proxy until a signal or the console ends it.
pub(super) async fn serve(config_path: &Path, settings: Settings, until: Until) -> Result<(), ServeError> {
    let http = match settings.http.address {
        Some(address) => {
            Some(TcpListener::bind(address).await.map_err(|error| ServeError::Http(address, error))?)
        }
        None => None,
    };
    let cores = core_count();
    let listeners = Listeners::bind(&settings.listen.addresses, cores)?;
    raise_file_limit();
    let app = new_app(config_path, &settings)?;
    app.metrics.config_read(true, SystemTime::now());
    let (readiness, ready) = watch::channel(Readiness::not_ready(["starting"]));
    let serving_http = http.map(|listener| {
        tracing::info!(address = %listener.local_addr().map(|a| a.to_string()).unwrap_or_default(), "HTTP listening");
        tokio::spawn(serve_http(Arc::clone(&app), listener, ready))
    });
    first_probes(&app, &settings).await;
    let pool_threads = Arc::new(pool::Threads::default());
    let threads = Threads::start(&app, &pool_threads, listeners, cores)?;
    for address in &settings.listen.addresses {
        tracing::info!(%address, "listening");
    }
    let watcher = tokio::spawn(super::overview::keep_up(Arc::clone(&app), readiness.clone()));
    if let Until::SignalAfter(announce) = until {
        announce();
    }
    let how = wait_for_the_end(&app).await?;
    watcher.abort();
    readiness.send_replace(Readiness::not_ready(["shutting down"]));
    threads.stop_listening();
    if how == Stop::Drain {
        drain(&app, settings.listen.drain_timeout).await;
    }
    app.tell_workers(|| WorkerMessage::Kill { pid: None, database: None });
    wait_until_gone(&app, Duration::from_secs(2)).await;
    threads.stop();
    if let Some(serving_http) = serving_http {
        serving_http.abort();
    }
    tracing::info!("stopped");
    Ok(())
}

fn new_app(config_path: &Path, settings: &Settings) -> Result<Arc<App>, ServeError> {
    let metrics = Arc::new(Metrics::new());
    let runtime = Handle::current();
    let prober = Prober::start(runtime.clone(), Vec::new(), HealthSettings::from(&settings.health));
    let mut mock_secret = [0; 32];
    rand::rng().fill(&mut mock_secret[..]);
    let console_database = console_database(&metrics);
    let app = Arc::new_cyclic(|myself: &std::sync::Weak<App>| App {
        config_path: config_path.to_owned(),
        runtime,
        registry: Arc::new(Registry::new(settings.pool.clone())),
        directory: Arc::new(ArcSwap::from_pointee(Directory {
            generation: 0,
            databases: HashMap::new(),
            users: HashMap::new(),
            lookup: None,
            mock_secret: Arc::from(mock_secret),
            listen: settings.listen.clone(),
            pool: settings.pool.clone(),
            tls: None,
            tls_required: false,
            console_database: Arc::clone(&console_database),
            console: super::console::console(myself.clone()),
        })),
        console_database,
        mock_secret: Arc::from(mock_secret),
        keyrings: Arc::default(),
        clients: Arc::default(),
        workers: OnceLock::new(),
        started: Instant::now(),
        state: Mutex::new(State {
            settings: settings.clone(),
            running: HashMap::new(),
            users: HashMap::new(),
            pending: HashMap::new(),
            generation: 1,
        }),
        averages: Mutex::default(),
        stop: watch::channel(None).0,
        reload_asked: Notify::new(),
        prober: Mutex::new(prober),
        metrics,
        myself: myself.clone(),
    });
    let built = app.build(settings, &HashMap::new(), &HashMap::new(), 1)?;
    app.directory.store(Arc::new(built.directory));
    {
        let mut state = app.state();
        state.running = built.running;
        state.users = built.users;
    }
    Ok(app)
}

/// Waits until every endpoint has been heard of or found down, and the schemas are read, so that
/// the first client is not turned away for nothing; but not for long.
async fn first_probes(app: &App, settings: &Settings) {
    let patience = settings.health.timeout + settings.health.interval;
    let databases: Vec<Arc<Database>> =
        app.state().running.values().map(|r| Arc::clone(&r.database)).collect();
    let waiting = async {
        for database in &databases {
            for shard in &database.shards {
                // Whether there is one is said by the health's own log lines.
                let _ = shard.board.wait_for_verdict(patience).await;
            }
        }
        for database in &databases {
            let mut reads = database.schema_reads.subscribe();
            let any_up = database.shards.iter().any(|shard| shard.board.load().roles.primary.is_ok());
            if !database.is_one_shard() && any_up {
                // The sender lives in the database, which is held here.
                let _ = reads.wait_for(|reads| *reads > 0).await;
            }
        }
    };
    if tokio::time::timeout(2 * patience, waiting).await.is_err() {
        tracing::warn!("some shards or schemas are not known yet; serving the others");
    }
}

async fn serve_http(
    app: Arc<App>,
    listener: TcpListener,
    ready: watch::Receiver<Readiness>,
) -> Result<(), HttpError> {
    let for_metrics = Arc::clone(&app);
    let for_page = Arc::clone(&app);
    let state = HttpState::new(
        move || {
            let app = Arc::clone(&for_metrics);
            async move {
                app.refresh_gauges().await;
                app.metrics.encode()
            }
        },
        move || {
            let app = Arc::clone(&for_page);
            async move { Arc::new(app.overview().await) }
        },
        ready,
    );
    let mut stop = app.stop.subscribe();
    let until = async move {
        // The sender lives as long as the app, which this future holds.
        let _ = stop.wait_for(|stop| *stop == Some(Stop::Now)).await;
    };
    let served = crate::http::serve(listener, state, until).await;
    if let Err(error) = &served {
        tracing::error!("{error}");
    }
    served
}

/// Reloads on SIGHUP; returns on SIGTERM, SIGINT and the console's SHUTDOWN.
async fn wait_for_the_end(app: &Arc<App>) -> Result<Stop, ServeError> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut asked = app.stop.subscribe();
    let mut tidy = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = hangup.recv() => app.reload().await,
            () = app.reload_asked.notified() => app.reload().await,
            _ = terminate.recv() => return Ok(Stop::Drain),
            _ = interrupt.recv() => return Ok(Stop::Now),
            _ = tidy.tick() => {
                app.tell_workers(|| WorkerMessage::Tidy);
                app.forget_unused_pools();
            }
            changed = asked.wait_for(Option::is_some) => {
                if let Ok(stop) = changed {
                    return Ok(stop.unwrap_or(Stop::Drain));
                }
            }
        }
    }
}

async fn drain(app: &Arc<App>, limit: Duration) {
    tracing::info!(clients = client_count(app), limit = ?limit, "draining");
    app.tell_workers(|| WorkerMessage::Drain);
    let ended = async {
        let mut terminate = signal(SignalKind::interrupt())?;
        tokio::select! {
            () = wait_until_gone(app, limit) => {}
            _ = terminate.recv() => tracing::info!("interrupted while draining"),
        }
        Ok::<(), std::io::Error>(())
    };
    if let Err(error) = ended.await {
        tracing::warn!("cannot listen for SIGINT while draining: {error}");
    }
    let left = client_count(app);
    if left > 0 {
        tracing::warn!(clients = left, "the drain_timeout is over; ending the rest");
        app.tell_workers(|| WorkerMessage::Kill { pid: None, database: None });
        wait_until_gone(app, FAREWELL).await;
    }
}

/// How long clients that have run out of time are given to hear so.
const FAREWELL: Duration = Duration::from_secs(1);

async fn wait_until_gone(app: &App, limit: Duration) {
    let gone = async {
        while app.clients.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // What is left is the caller's to see.
    let _ = tokio::time::timeout(limit, gone).await;
}

/// A client is a file; the usual soft limit of 1,024 is for programs that use select().
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}
