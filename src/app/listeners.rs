//! The sockets clients connect to.
//!
//! Each thread has a TCP listener of its own on the same port (`SO_REUSEPORT`): the kernel deals
//! connections out, and no thread hands one to another. A Unix socket has one queue, which the
//! threads share. Sockets that another process of the cluster has handed over are used as they are.

use super::handover::{Inherited, Named};
use crate::config::ListenAddress;
use crate::session::{Accepted, Worker, serve};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// How long an address may stay in use by a process that is about to let go of it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
pub(super) enum ListenError {
    /// TCP.
    #[error("cannot listen on {0}: {1}")]
    Tcp(SocketAddr, io::Error),
    /// Unix.
    #[error("cannot listen on the Unix socket {0}: {1}")]
    Unix(PathBuf, io::Error),
}

/// Bound sockets, before threads have taken them.
pub(super) struct Listeners {
    /// One list a thread.
    tcp: Vec<Vec<std::net::TcpListener>>,
    unix: Vec<(ListenAddress, std::os::unix::net::UnixListener)>,
}

/// One thread's listener.
pub(super) enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// What becomes of a listener.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Listening {
    /// It accepts.
    Open,
    /// It is closed; who waits on it is served by the process that has it as well.
    Left,
    /// It is closed for good, once all who wait on it have been accepted.
    Swept,
}

impl Listeners {
    /// Binds all addresses, `threads` times where it is TCP; takes what is there already.
    pub(super) async fn bind(
        addresses: &[ListenAddress],
        threads: usize,
        inherited: &mut Inherited,
    ) -> Result<Listeners, ListenError> {
        let mut listeners = Listeners { tcp: (0..threads).map(|_| Vec::new()).collect(), unix: Vec::new() };
        for address in addresses {
            let taken = inherited.take(&offered(address));
            match address {
                ListenAddress::Tcp(address) => {
                    if taken.is_empty() {
                        // Another program on the port would share it silently: ask without sharing
                        // first.
                        is_free(*address, inherited.is_from_somebody())
                            .await
                            .map_err(|error| ListenError::Tcp(*address, error))?;
                    }
                    let missing = threads.saturating_sub(taken.len());
                    for (index, socket) in taken.into_iter().enumerate() {
                        listeners.tcp[index % threads].push(socket.into());
                    }
                    for thread in listeners.tcp.iter_mut().rev().take(missing) {
                        thread.push(tcp(*address, true).map_err(|error| ListenError::Tcp(*address, error))?);
                    }
                }
                ListenAddress::Unix { .. } => {
                    let path = address.socket_file().unwrap_or_default();
                    // One is bound to the path; one whose file is gone cannot be reached.
                    let listener = match taken.into_iter().next().filter(|_| path.exists()) {
                        Some(socket) => socket.into(),
                        None => unix(&path).map_err(|error| ListenError::Unix(path.clone(), error))?,
                    };
                    listeners.unix.push((address.clone(), listener));
                }
            }
        }
        Ok(listeners)
    }

    /// Other handles of them, for another process.
    pub(super) fn to_offer(&self) -> io::Result<Vec<Named>> {
        let mut offer = Vec::new();
        for listener in self.tcp.iter().flatten() {
            let address = ListenAddress::Tcp(listener.local_addr()?);
            offer.push((offered(&address), listener.try_clone()?.into()));
        }
        for (address, listener) in &self.unix {
            offer.push((offered(address), listener.try_clone()?.into()));
        }
        Ok(offer)
    }

    /// What thread number `index` accepts on.
    pub(super) fn of_thread(&mut self, index: usize) -> Vec<Listener> {
        let mut taken: Vec<Listener> = self
            .tcp
            .get_mut(index)
            .map(std::mem::take)
            .unwrap_or_default()
            .into_iter()
            .map(Listener::Tcp)
            .collect();
        for (address, listener) in &self.unix {
            match listener.try_clone() {
                Ok(listener) => taken.push(Listener::Unix(listener)),
                Err(error) => tracing::error!(%address, "cannot share a Unix socket: {error}"),
            }
        }
        taken
    }
}

/// What a socket is called among those that are handed over.
fn offered(address: &ListenAddress) -> String {
    format!("listen {address}")
}

/// Is nobody on the port? A process that was asked for its sockets and had none to give any more
/// lets go of them at that moment.
async fn is_free(address: SocketAddr, may_become_free: bool) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match tcp(address, false) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && may_become_free
                    && Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            bound => return bound.map(drop),
        }
    }
}

fn tcp(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A socket file that nobody listens on any more is replaced, as PostgreSQL does.
fn unix(path: &PathBuf) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    // Who may connect is decided by passwords, as with PostgreSQL's unix_socket_permissions.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Accepts and serves until told to stop.
pub(super) async fn accept(
    worker: Rc<Worker>,
    listener: Listener,
    mut listening: watch::Receiver<Listening>,
) {
    let listener = match Open::new(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("cannot accept connections: {error}");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The sender is gone only when everything ends.
            told = listening.wait_for(|listening| *listening != Listening::Open) => {
                if told.is_ok_and(|told| *told == Listening::Swept) {
                    sweep(&worker, &listener);
                }
                return;
            }
        };
        match accepted {
            Ok(accepted) => {
                tokio::task::spawn_local(serve(Rc::clone(&worker), accepted));
            }
            Err(error) if is_one_connections(&error) => {
                tracing::debug!("a connection was not accepted: {error}")
            }
            Err(error) => {
                // Out of files or memory: others have to leave first.
                tracing::error!("cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves all who wait: closing the socket would reset them.
fn sweep(worker: &Rc<Worker>, listener: &Open) {
    loop {
        match listener.accept_now() {
            Ok(accepted) => {
                tokio::task::spawn_local(serve(Rc::clone(worker), accepted));
            }
            Err(error) if is_one_connections(&error) => {}
            // Nobody waits any more.
            Err(_) => return,
        }
    }
}

enum Open {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Open {
    fn new(listener: Listener) -> io::Result<Open> {
        Ok(match listener {
            Listener::Tcp(listener) => Open::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener) => Open::Unix(UnixListener::from_std(listener)?),
        })
    }

    /// Whoever waits already, whether or not the runtime has heard of it.
    fn accept_now(&self) -> io::Result<Accepted> {
        match self {
            Open::Tcp(listener) => {
                let stream = std::net::TcpStream::from(SockRef::from(listener).accept()?.0);
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream).map(Accepted::Tcp)
            }
            Open::Unix(listener) => {
                let stream = StdUnixStream::from(SockRef::from(listener).accept()?.0);
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream).map(Accepted::Unix)
            }
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        Ok(match self {
            Open::Tcp(listener) => Accepted::Tcp(listener.accept().await?.0),
            Open::Unix(listener) => Accepted::Unix(listener.accept().await?.0),
        })
    }
}

/// Errors of the connection that was to be accepted, not of the listener (accept(2)).
fn is_one_connections(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
