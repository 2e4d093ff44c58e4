//! The sockets clients connect to.
//!
//! Each thread has a TCP listener of its own on the same port (`SO_REUSEPORT`): the kernel deals
//! connections out, and no thread hands one to another. A Unix socket has one queue, which the
//! threads share.

use crate::config::ListenAddress;
use crate::session::{Accepted, Worker, serve};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

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
    unix: Vec<(PathBuf, std::os::unix::net::UnixListener)>,
}

/// One thread's listener.
pub(super) enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Listeners {
    /// Binds all addresses, `threads` times where it is TCP.
    pub(super) fn bind(addresses: &[ListenAddress], threads: usize) -> Result<Listeners, ListenError> {
        let mut listeners = Listeners { tcp: (0..threads).map(|_| Vec::new()).collect(), unix: Vec::new() };
        for address in addresses {
            match address {
                ListenAddress::Tcp(address) => {
                    // Another program on the port would share it silently: ask without sharing first.
                    drop(tcp(*address, false).map_err(|error| ListenError::Tcp(*address, error))?);
                    for thread in &mut listeners.tcp {
                        thread.push(tcp(*address, true).map_err(|error| ListenError::Tcp(*address, error))?);
                    }
                }
                ListenAddress::Unix { .. } => {
                    let path = address.socket_file().unwrap_or_default();
                    let listener = unix(&path).map_err(|error| ListenError::Unix(path.clone(), error))?;
                    listeners.unix.push((path, listener));
                }
            }
        }
        Ok(listeners)
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
        for (path, listener) in &self.unix {
            match listener.try_clone() {
                Ok(listener) => taken.push(Listener::Unix(listener)),
                Err(error) => tracing::error!(path = %path.display(), "cannot share a Unix socket: {error}"),
            }
        }
        taken
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
pub(super) async fn accept(worker: Rc<Worker>, listener: Listener, mut listening: watch::Receiver<bool>) {
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
            _ = listening.wait_for(|listening| !listening) => return,
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
