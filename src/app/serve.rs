//! The process from its start to its end.

use super::build::{BuildError, KnownUser, Running, client_count, console_database};
use super::handover::{Handover, Inherited};
use super::listeners::{ListenError, Listeners, Listening};
use super::lookup::Keyrings;
use super::notify::{READY, STOPPING, notify};
use super::overview::Averages;
use super::peers::{Peers, PeersError};
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
use tokio::task::JoinHandle;

/// Why the proxy cannot serve.
#[derive(Debug, Error)]
pub(super) enum ServeError {
    /// The configuration cannot be put into practice.
    #[error("{0}")]
    Build(String),
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// There is no place to meet other processes.
    #[error("{0}")]
    Peers(#[from] PeersError),
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
    /// Connections that are not clients yet.
    pub(super) arrivals: Arc<AtomicUsize>,
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
    let (peers, starting) = Peers::join(&settings.listen.runtime_dir, &settings.cluster)?.unzip();
    let mut inherited = peers.as_ref().map(Peers::inherit).unwrap_or_default();
    let cores = core_count();
    let neighbours = Arc::new(Peers::neighbours(peers.as_ref(), cores));
    let http = settings.http.address.map(|address| HttpSocket::bind(address, &mut inherited)).transpose()?;
    let listeners = Listeners::bind(&settings.listen.addresses, cores, &mut inherited).await?;
    let mut offer = listeners.to_offer()?;
    if let Some(http) = &http {
        offer.push((http.name(), http.listener.try_clone()?.into()));
    }
    let handover = Arc::new(Handover::new(offer));
    raise_file_limit();
    let app = new_app(config_path, &settings)?;
    // Whoever gave sockets away leaves them to this process for as long as it lives.
    let _ties = inherited.ties();
    let answering = peers.map(|peers| {
        let (app, handover) = (Arc::clone(&app), Arc::clone(&handover));
        tokio::spawn(Arc::new(peers).serve(app, Arc::clone(&neighbours), handover))
    });
    drop(starting);
    app.metrics.config_read(true, SystemTime::now());
    let (readiness, ready) = watch::channel(Readiness::not_ready(["starting"]));
    let (draining, _) = watch::channel(false);
    let mut pages = Pages { app: &app, ready, handover: &handover, draining: &draining, serving: None };
    let (at_once, later) = match http {
        // The other process answers until this one is ready.
        Some(http) if http.inherited => (None, Some(http)),
        http => (http, None),
    };
    pages.serve(at_once)?;
    first_probes(&app, &settings).await;
    let pool_threads = Arc::new(pool::Threads::default());
    let threads = Threads::start(&app, &pool_threads, &neighbours, listeners, cores)?;
    for address in &settings.listen.addresses {
        tracing::info!(%address, "listening");
    }
    let watcher = tokio::spawn(super::overview::keep_up(Arc::clone(&app), readiness.clone()));
    pages.serve(later)?;
    notify(READY);
    if let Until::SignalAfter(announce) = until {
        announce();
    }
    let how = wait_for_the_end(&app).await?;
    notify(STOPPING);
    watcher.abort();
    readiness.send_replace(Readiness::not_ready(["shutting down"]));
    let has_heir = handover.withdraw();
    draining.send_replace(true);
    threads.stop_listening(if has_heir { Listening::Left } else { Listening::Swept }).await;
    if how == Stop::Drain {
        drain(&app, settings.listen.drain_timeout).await;
    }
    app.tell_workers(|| WorkerMessage::Kill { pid: None, database: None });
    wait_until_gone(&app, Duration::from_secs(2), Duration::ZERO).await;
    threads.stop();
    if let Some(serving) = pages.serving {
        serving.abort();
    }
    if let Some(answering) = answering {
        answering.abort();
        // Its socket is removed when it has ended.
        let _ = answering.await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// The socket of the HTTP pages.
struct HttpSocket {
    address: SocketAddr,
    listener: std::net::TcpListener,
    inherited: bool,
}

impl HttpSocket {
    fn bind(address: SocketAddr, inherited: &mut Inherited) -> Result<HttpSocket, ServeError> {
        let taken = inherited.take(&format!("http {address}")).into_iter().next();
        let inherited = taken.is_some();
        let bound = match taken {
            Some(socket) => Ok(socket.into()),
            None => std::net::TcpListener::bind(address),
        };
        let listener: std::net::TcpListener = bound
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| ServeError::Http(address, error))?;
        Ok(HttpSocket { address, listener, inherited })
    }

    fn name(&self) -> String {
        format!("http {}", self.address)
    }
}

/// The HTTP pages, and what they need.
struct Pages<'a> {
    app: &'a Arc<App>,
    ready: watch::Receiver<Readiness>,
    handover: &'a Arc<Handover>,
    draining: &'a watch::Sender<bool>,
    serving: Option<JoinHandle<Result<(), HttpError>>>,
}

impl Pages<'_> {
    fn serve(&mut self, socket: Option<HttpSocket>) -> Result<(), ServeError> {
        let Some(HttpSocket { address, listener, .. }) = socket else { return Ok(()) };
        let listener = TcpListener::from_std(listener).map_err(|error| ServeError::Http(address, error))?;
        tracing::info!(address = %listener.local_addr().unwrap_or(address), "HTTP listening");
        let (mut draining, handover) = (self.draining.subscribe(), Arc::clone(self.handover));
        let left = async move {
            // Alone, it tells until the end that it goes.
            let _ = draining.wait_for(|draining| *draining).await;
            handover.has_heir().await;
        };
        self.serving =
            Some(tokio::spawn(serve_http(Arc::clone(self.app), listener, self.ready.clone(), left)));
        Ok(())
    }
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
            tcp: settings.tcp.clone(),
            pool: settings.pool.clone(),
            routing: settings.routing.clone(),
            tls: None,
            tls_required: false,
            console_database: Arc::clone(&console_database),
            console: super::console::console(myself.clone()),
        })),
        console_database,
        mock_secret: Arc::from(mock_secret),
        keyrings: Arc::default(),
        clients: Arc::default(),
        arrivals: Arc::default(),
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
            if any_up {
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
    left: impl Future<Output = ()> + Send + 'static,
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
        tokio::select! {
            // The sender lives as long as the app, which this future holds.
            _ = stop.wait_for(|stop| *stop == Some(Stop::Now)) => {}
            () = left => {}
        }
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

/// Lets clients come to their ends. One that is at rest is told to go (`57P01`), but only when it
/// has been for a while: one that has just logged in, or works without a pause, has its next
/// statement on the way. Towards the end of the time the pause after a transaction has to do.
async fn drain(app: &Arc<App>, limit: Duration) {
    let rest = (limit / 10).min(LONGEST_REST);
    let patience = limit / 4 * 3;
    tracing::info!(clients = client_count(app), limit = ?limit, "draining");
    let ended = async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let draining = async {
            app.tell_workers(|| WorkerMessage::Drain(rest));
            wait_until_gone(app, patience, rest).await;
            app.tell_workers(|| WorkerMessage::Drain(Duration::ZERO));
            wait_until_gone(app, limit - patience, Duration::ZERO).await;
        };
        tokio::select! {
            () = draining => {}
            _ = interrupt.recv() => tracing::info!("interrupted while draining"),
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
        wait_until_gone(app, FAREWELL, Duration::ZERO).await;
    }
}

/// How long clients that have run out of time are given to hear so.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a client may be at rest while the process drains.
const LONGEST_REST: Duration = Duration::from_secs(3);

/// Waits until there is no client left, nor for as long as `grace` a connection that may become one.
async fn wait_until_gone(app: &App, limit: Duration, grace: Duration) {
    let began = Instant::now();
    let gone = async {
        // In this order: one that has arrived becomes a client before it has ceased to arrive.
        while (app.arrivals.load(Ordering::SeqCst) > 0 && began.elapsed() < grace)
            || app.clients.load(Ordering::SeqCst) > 0
        {
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
