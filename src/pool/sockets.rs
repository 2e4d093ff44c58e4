//! The sockets of a pool's connections, wherever those are: so that a server that must not be spoken
//! to any more is not, whatever is under way with it.
//!
//! A session that waits for a deposed primary hears nothing from it, perhaps for ever, and one in the
//! middle of a transaction would go on writing there. Whoever deposes it shuts the sockets down, and
//! each session finds its connection ended, as if the server had died. What the server had already
//! said can still be read: an acknowledgement that has arrived counts.
//!
//! Each entry is a duplicate of the descriptor, so that no number is ever another socket's. Nothing
//! here is touched while a connection is in use: only when it is opened and when it is closed.

use rustix::net::Shutdown;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sockets(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    /// How often all have been ended.
    cuts: u64,
    next: u64,
    sockets: HashMap<u64, OwnedFd>,
}

/// Which socket, for [`Sockets::forget`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SocketId(u64);

impl Sockets {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be asked before a connection is opened, for [`Sockets::add`].
    pub(super) fn cuts(&self) -> u64 {
        self.lock().cuts
    }

    /// A connection has been opened; `None` if all were ended meanwhile, and so it must not be used.
    pub(super) fn add(&self, cuts: u64, socket: OwnedFd) -> Option<SocketId> {
        let mut open = self.lock();
        if open.cuts != cuts {
            return None;
        }
        open.next += 1;
        let id = open.next;
        open.sockets.insert(id, socket);
        Some(SocketId(id))
    }

    /// A connection is being closed.
    pub(super) fn forget(&self, id: SocketId) {
        let socket = self.lock().sockets.remove(&id.0);
        // Closed outside of the lock.
        drop(socket);
    }

    /// Ends all connections; how many.
    pub(super) fn cut(&self) -> usize {
        let mut open = self.lock();
        open.cuts += 1;
        for socket in open.sockets.values() {
            // One that its peer has ended already needs no end.
            let _ = rustix::net::shutdown(socket, Shutdown::Both);
        }
        open.sockets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn duplicate(stream: &UnixStream) -> OwnedFd {
        stream.try_clone().unwrap().into()
    }

    #[test]
    fn a_cut_ends_what_is_open_and_what_was_being_opened() {
        let sockets = Sockets::default();
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let (closed, _) = UnixStream::pair().unwrap();
        let before = sockets.cuts();
        sockets.add(before, duplicate(&ours)).unwrap();
        let gone = sockets.add(before, duplicate(&closed)).unwrap();
        sockets.forget(gone);
        theirs.write_all(b"done").unwrap();

        assert_eq!(sockets.cut(), 1);
        let mut said = Vec::new();
        ours.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"done", "what has arrived is still read");
        assert!(ours.write_all(b"more").is_err());
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "the peer is told");

        let (late, _) = UnixStream::pair().unwrap();
        assert_eq!(sockets.add(before, duplicate(&late)), None);
        assert!(sockets.add(sockets.cuts(), duplicate(&late)).is_some());
    }
}
