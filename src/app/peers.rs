//! The pgrings of one cluster on one host: how they find each other.
//!
//! They meet in the runtime directory, which only their user can enter. Each has a slot there, a
//! small number that is part of its clients' cancel keys ([`crate::session::Neighbours`]): a file
//! that it keeps locked for as long as it lives, however it ends, and a socket. The lock, not the
//! socket, says who is alive; whoever takes a slot removes the socket its last holder left.
//!
//! Two things are asked through the socket: to carry out a cancel request, which is never handed
//! on from there, and for the listening sockets (`handover`).

use super::handover::{ASK, Handover, Inherited};
use super::serve::App;
use crate::config::RuntimeDir;
use crate::session::{Home, Neighbours, SLOTS, cancel_on};
use crate::wire::{self, Initial};
use nix::unistd::Uid;
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

/// How long another process may be busy starting before this one gives up.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// How long a request may take to arrive.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// Why the runtime directory cannot be used.
#[derive(Debug, Error)]
#[error(
    "cannot use the runtime directory {0}: {1}; set listen.runtime_dir to a directory of this user's own, or to \"off\""
)]
pub(super) struct PeersError(PathBuf, io::Error);

/// This process's place among those of its cluster.
pub(super) struct Peers {
    directory: PathBuf,
    cluster: String,
    slot: u8,
    listener: std::os::unix::net::UnixListener,
    /// Unlocked when the process ends, however it does.
    _slot_lock: File,
}

/// Held while a process asks the others for their sockets and until it can be asked itself: of two
/// that start at once, the second finds the first.
pub(super) struct Starting {
    _lock: File,
}

impl Peers {
    /// Takes a slot. `None`: this process is on its own.
    pub(super) fn join(
        directory: &RuntimeDir,
        cluster: &str,
    ) -> Result<Option<(Peers, Starting)>, PeersError> {
        let (directory, is_asked_for) = match directory {
            RuntimeDir::Off => return Ok(None),
            RuntimeDir::At(directory) => (directory.clone(), true),
            RuntimeDir::Usual => (usual_directory(), false),
        };
        match Peers::join_at(&directory, cluster) {
            Ok(joined) => Ok(Some(joined)),
            Err(error) if is_asked_for => Err(PeersError(directory, error)),
            Err(error) => {
                tracing::warn!(
                    "restarts will not be seamless, nor cancel requests handed on: {}",
                    PeersError(directory, error)
                );
                Ok(None)
            }
        }
    }

    fn join_at(directory: &Path, cluster: &str) -> io::Result<(Peers, Starting)> {
        make_private(directory)?;
        let starting = Starting { _lock: lock_patiently(&directory.join(format!("{cluster}.lock")))? };
        let mut taken = None;
        for slot in 0..SLOTS {
            let lock = lock_file(&directory.join(format!("{cluster}.{slot}.lock")))?;
            match lock.try_lock() {
                Ok(()) => {
                    // What its last holder may have left. A new holder's socket cannot be there.
                    let _ = std::fs::remove_file(Neighbours::socket(directory, cluster, slot));
                    if taken.is_none() {
                        taken = Some((slot, lock));
                    }
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        let Some((slot, lock)) = taken else {
            return Err(io::Error::other(format!("{SLOTS} processes of the cluster use it already")));
        };
        let listener = std::os::unix::net::UnixListener::bind(Neighbours::socket(directory, cluster, slot))?;
        listener.set_nonblocking(true)?;
        let peers = Peers {
            directory: directory.to_owned(),
            cluster: cluster.to_owned(),
            slot,
            listener,
            _slot_lock: lock,
        };
        Ok((peers, starting))
    }

    /// For sessions.
    pub(super) fn neighbours(peers: Option<&Peers>, threads: usize) -> Neighbours {
        match peers {
            Some(peers) => {
                let place = (peers.directory.clone(), peers.cluster.clone());
                Neighbours::new(Some(place), peers.slot, threads)
            }
            None => Neighbours::new(None, 0, threads),
        }
    }

    /// The sockets of all others.
    pub(super) fn inherit(&self) -> Inherited {
        let mut inherited = Inherited::default();
        for slot in (0..SLOTS).filter(|slot| *slot != self.slot) {
            let socket = Neighbours::socket(&self.directory, &self.cluster, slot);
            match inherited.ask(&socket) {
                Ok(()) => tracing::info!(slot, "sharing the sockets of another process"),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                }
                Err(error) => tracing::warn!(slot, "another process did not hand its sockets over: {error}"),
            }
        }
        inherited
    }

    /// Answers the other processes until it is dropped.
    pub(super) async fn serve(
        self: Arc<Self>,
        app: Arc<App>,
        neighbours: Arc<Neighbours>,
        handover: Arc<Handover>,
    ) {
        let listener = self.listener.try_clone().and_then(UnixListener::from_std);
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => return tracing::error!("other processes cannot reach this one: {error}"),
        };
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::error!("cannot accept another process: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // The directory is closed to others already, if nobody has opened it since.
            if stream.peer_cred().is_ok_and(|peer| peer.uid() == Uid::effective().as_raw()) {
                let (app, neighbours, handover) =
                    (Arc::clone(&app), Arc::clone(&neighbours), Arc::clone(&handover));
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &app, &neighbours, &handover).await {
                        tracing::debug!("another process was not answered: {error}");
                    }
                });
            }
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // The slot is still locked: the socket is this process's.
        let _ = std::fs::remove_file(Neighbours::socket(&self.directory, &self.cluster, self.slot));
    }
}

/// One request.
async fn answer(
    mut stream: UnixStream,
    app: &App,
    neighbours: &Neighbours,
    handover: &Handover,
) -> io::Result<()> {
    let request = tokio::time::timeout(REQUEST_PATIENCE, read_request(&mut stream)).await;
    let request = request.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if request == ASK[4..] {
        return handover.give(stream).await;
    }
    if let Ok(Initial::Cancel { pid, secret }) = wire::initial(&request)
        && let Some(Home::Thread(thread)) = neighbours.home(pid)
    {
        cancel_on(app.workers(), thread, pid, secret).await;
    }
    Ok(())
}

async fn read_request(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut word = [0; 4];
    stream.read_exact(&mut word).await?;
    let len = wire::initial_len(word).map_err(io::Error::other)?;
    let mut body = vec![0; len - 4];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// Where systems have such directories, as far as this user may.
fn usual_directory() -> PathBuf {
    let user = Uid::effective();
    let run = Path::new("/run/pgring");
    let is_ours = std::fs::metadata(run).is_ok_and(|run| run.uid() == user.as_raw());
    if is_ours || user.is_root() {
        return run.join("peers");
    }
    // Not $TMPDIR: all processes of the user have to find it.
    PathBuf::from(format!("/tmp/pgring-{user}"))
}

/// A directory that nobody else may enter.
fn make_private(directory: &Path) -> io::Result<()> {
    if let (Some(parent), true) = (directory.parent(), Uid::effective().is_root()) {
        DirBuilder::new().recursive(true).create(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // A link that somebody else has laid there is not followed.
    let found = std::fs::symlink_metadata(directory)?;
    if !found.is_dir() {
        return Err(io::Error::other("it is not a directory"));
    }
    if found.uid() != Uid::effective().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if found.mode() & 0o077 != 0 {
        return Err(io::Error::other("others may enter it: its mode must be 0700"));
    }
    Ok(())
}

fn lock_file(path: &Path) -> io::Result<File> {
    // Never removed: a lock on a file that is gone would be nobody's.
    File::options().create(true).truncate(false).write(true).open(path)
}

fn lock_patiently(path: &Path) -> io::Result<File> {
    let lock = lock_file(path)?;
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process has been starting for too long"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn each_process_has_a_slot_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("peers");
        let join = |cluster| Peers::join_at(&place, cluster).map(|(peers, _)| peers);
        let (first, second, other) = (join("a").unwrap(), join("a").unwrap(), join("b").unwrap());
        assert_eq!((first.slot, second.slot, other.slot), (0, 1, 0));
        assert_eq!(std::fs::metadata(&place).unwrap().mode() & 0o777, 0o700);
        drop(first);
        assert!(!Neighbours::socket(&place, "a", 0).exists());
        // As after a crash: a socket that nobody holds.
        std::fs::write(Neighbours::socket(&place, "a", 7), "").unwrap();
        assert_eq!(join("a").unwrap().slot, 0);
        assert!(!Neighbours::socket(&place, "a", 7).exists());
        assert!(Neighbours::socket(&place, "a", 1).exists(), "the living one's is kept");
    }

    #[test]
    fn slots_run_out() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("peers");
        let all: Vec<Peers> = (0..SLOTS).map(|_| Peers::join_at(&place, "a").unwrap().0).collect();
        assert!(Peers::join_at(&place, "a").is_err());
        drop(all);
        assert!(Peers::join_at(&place, "a").is_ok());
    }

    #[test]
    fn a_directory_that_others_may_enter_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(Peers::join_at(directory.path(), "a").is_err());
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(Peers::join_at(&link, "a").is_err());
    }
}
