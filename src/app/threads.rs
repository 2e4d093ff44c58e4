//! The threads that serve clients: one single-threaded runtime a core.

use super::listeners::{Listeners, Listening, accept};
use super::serve::App;
use crate::pool;
use crate::session::{Neighbours, Worker, WorkerMessage};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, watch};

/// The running threads.
pub(super) struct Threads {
    listening: watch::Sender<Listening>,
    running: watch::Sender<bool>,
    handles: Vec<JoinHandle<()>>,
}

/// How many threads serve clients.
pub(super) fn core_count() -> usize {
    // A cancel key holds the thread's number in at most 8 bits.
    std::thread::available_parallelism().map_or(1, |n| n.get().min(256))
}

impl Threads {
    /// Starts them; each accepts on its share of the listeners.
    pub(super) fn start(
        app: &Arc<App>,
        pools: &Arc<pool::Threads>,
        neighbours: &Arc<Neighbours>,
        mut listeners: Listeners,
        count: usize,
    ) -> io::Result<Threads> {
        let (listening, _) = watch::channel(Listening::Open);
        let (running, _) = watch::channel(true);
        let mut doors = Vec::new();
        let mut boxes = Vec::new();
        for _ in 0..count {
            let (door, mailbox) = mpsc::unbounded_channel::<WorkerMessage>();
            doors.push(door);
            boxes.push((mailbox, pools.join()));
        }
        let doors = Arc::new(doors);
        if app.workers.set(Arc::clone(&doors)).is_err() {
            return Err(io::Error::other("the threads have been started already"));
        }
        let mut handles = Vec::new();
        for (index, (mailbox, (thread, messages))) in boxes.into_iter().enumerate() {
            let sockets = listeners.of_thread(index);
            let (pools, doors, app) = (Arc::clone(pools), Arc::clone(&doors), Arc::clone(app));
            let neighbours = Arc::clone(neighbours);
            let (listening, mut running) = (listening.subscribe(), running.subscribe());
            let (began, begun) = std::sync::mpsc::channel();
            let serve = move || {
                // Not a LocalSet on an ordinary runtime: each of its wake-ups costs a write to
                // the reactor's eventfd, and one more turn of it.
                let mut builder = tokio::runtime::Builder::new_current_thread();
                let runtime = match builder.enable_all().build_local(LocalOptions::default()) {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        // Whoever started the thread waits for this.
                        let _ = began.send(Err(error));
                        return;
                    }
                };
                let _ = began.send(Ok(()));
                runtime.block_on(async move {
                    let local_pools = pool::Local::new(thread, pools);
                    let worker = Worker::new(
                        thread,
                        Rc::clone(&local_pools),
                        Arc::clone(&app.directory),
                        Arc::clone(&app.metrics),
                        Arc::clone(&app.clients),
                        Arc::clone(&app.arrivals),
                        doors,
                        neighbours,
                    );
                    tokio::task::spawn_local(async move { local_pools.answer(messages).await });
                    tokio::task::spawn_local(Rc::clone(&worker).answer(mailbox));
                    if thread == 0 {
                        tokio::task::spawn_local(warm(Rc::clone(&worker), Arc::clone(&app)));
                    }
                    for socket in sockets {
                        tokio::task::spawn_local(accept(Rc::clone(&worker), socket, listening.clone()));
                    }
                    // Only who accepts keeps one: see stop_listening().
                    drop(listening);
                    // The sender is dropped only after it has said so.
                    let _ = running.wait_for(|running| !running).await;
                });
            };
            handles.push(std::thread::Builder::new().name(format!("pgring-{index}")).spawn(serve)?);
            begun.recv().map_err(|_| io::Error::other("a thread ended at its start"))??;
        }
        Ok(Threads { listening, running, handles })
    }

    /// Closes the listeners; afterwards not one more connection is accepted.
    pub(super) async fn stop_listening(&self, how: Listening) {
        self.listening.send_replace(how);
        self.listening.closed().await;
    }

    /// Ends the threads and what they still do.
    pub(super) fn stop(self) {
        self.running.send_replace(false);
        for handle in self.handles {
            if handle.join().is_err() {
                tracing::error!("a thread had panicked");
            }
        }
    }
}

/// Keeps `min_idle` connections open in the pools that exist.
async fn warm(worker: Rc<Worker>, app: Arc<App>) {
    let mut tick = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tick.tick().await;
        if app.registry.settings().min_idle == 0 {
            continue;
        }
        for pool in app.registry.all() {
            // Why it failed has been logged where it did.
            let _ = worker.local.warm(&pool).await;
        }
    }
}
