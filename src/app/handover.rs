//! Listening sockets handed from one process to the next.
//!
//! Two processes could each have sockets of their own on one port (`SO_REUSEPORT`), but the kernel
//! resets what waits on a socket when it is closed, also handshakes that are half-way, and Linux
//! moves them to another socket only where `net.ipv4.tcp_migrate_req` says so. So the younger
//! process asks the older one for its sockets and gets the very same ones (`SCM_RIGHTS`): each has
//! one queue, from which both accept, and which outlives either of them. When the older one stops
//! accepting, nothing is closed, and not one connection notices.
//!
//! Whoever has taken over sockets keeps the connection that they came by. That is how the giver
//! knows that there is an heir.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use socket2::Socket;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

/// The request for sockets: a packet as a client's first, with a code that is nobody's.
pub(super) const ASK: [u8; 8] = *b"\0\0\0\x08pgrs";

/// How long the other process may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest name of a socket, and the most sockets that come in one go.
const LONGEST: usize = 512;
const AT_ONCE: usize = 64;

/// A listening socket and what it is for: `http 127.0.0.1:9464`, `listen unix:/run/pgring:6432`.
pub(super) type Named = (String, OwnedFd);

/// What this process has to give.
pub(super) struct Handover {
    sockets: Mutex<Vec<Named>>,
    heirs: watch::Sender<usize>,
}

impl Handover {
    pub(super) fn new(sockets: Vec<Named>) -> Handover {
        Handover { sockets: Mutex::new(sockets), heirs: watch::channel(0).0 }
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<Named>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives everything to a process that has asked, and waits until that is gone.
    pub(super) async fn give(&self, stream: tokio::net::UnixStream) -> io::Result<()> {
        // Before the sockets are looked at: from then on there may be an heir.
        let _heir = Heir::new(&self.heirs);
        let mut copies = Vec::new();
        for (name, socket) in self.sockets().iter() {
            copies.push((name.clone(), socket.try_clone()?));
        }
        let stream = stream.into_std()?;
        let sent = tokio::task::spawn_blocking(move || send(stream, &copies));
        let stream = sent.await.map_err(io::Error::other)??;
        stream.set_nonblocking(true)?;
        let mut stream = tokio::net::UnixStream::from_std(stream)?;
        // Nothing more is said: this is the heir's end.
        stream.read(&mut [0]).await.map(drop)
    }

    /// From now on clients' sockets are given to nobody. Is there a process that has them?
    pub(super) fn withdraw(&self) -> bool {
        self.sockets().retain(|(name, _)| !name.starts_with("listen "));
        *self.heirs.borrow() > 0
    }

    /// Until there is a process that has the sockets. Cancel safe.
    pub(super) async fn has_heir(&self) {
        // The sender lives here.
        let _ = self.heirs.subscribe().wait_for(|heirs| *heirs > 0).await;
    }
}

/// Counted as long as it lives.
struct Heir<'a>(&'a watch::Sender<usize>);

impl Heir<'_> {
    fn new(heirs: &watch::Sender<usize>) -> Heir<'_> {
        heirs.send_modify(|heirs| *heirs += 1);
        Heir(heirs)
    }
}

impl Drop for Heir<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|heirs| *heirs -= 1);
    }
}

/// One frame a socket: the name's length, the name; at the end a length of 0.
fn send(mut stream: UnixStream, sockets: &[Named]) -> io::Result<UnixStream> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    for (name, socket) in sockets {
        let len = u16::try_from(name.len()).map_err(io::Error::other)?.to_be_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sockets = [socket.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&sockets));
        let frame = [&len[..], name.as_bytes()].concat();
        let sent = sendmsg(&stream, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL)?;
        stream.write_all(frame.get(sent..).unwrap_or_default())?;
    }
    stream.write_all(&[0, 0])?;
    Ok(stream)
}

/// What other processes have given.
#[derive(Default)]
pub(super) struct Inherited {
    sockets: Vec<Named>,
    seen: HashSet<u64>,
    /// To be kept as long as the sockets are used.
    ties: Vec<UnixStream>,
}

/// Held by an heir for as long as it lives.
pub(super) struct Ties {
    _streams: Vec<UnixStream>,
}

impl Inherited {
    /// Asks a process for its sockets.
    pub(super) fn ask(&mut self, socket: &Path) -> io::Result<()> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&ASK)?;
        for (name, socket) in receive(&stream)? {
            // Several processes may have the same ones.
            let file = File::from(socket);
            if self.seen.insert(file.metadata()?.ino()) {
                self.sockets.push((name, file.into()));
            }
        }
        self.ties.push(stream);
        Ok(())
    }

    /// Has another process been there to ask?
    pub(super) fn is_from_somebody(&self) -> bool {
        !self.ties.is_empty()
    }

    /// The sockets of this name that listen.
    pub(super) fn take(&mut self, name: &str) -> Vec<Socket> {
        let named = self.sockets.extract_if(.., |(its, _)| its == name);
        named
            .map(|(_, socket)| Socket::from(socket))
            .filter(|socket| socket.is_listener().unwrap_or(false))
            .collect()
    }

    /// What is left of it once all sockets that are wanted have been taken.
    pub(super) fn ties(self) -> Ties {
        Ties { _streams: self.ties }
    }
}

fn receive(stream: &UnixStream) -> io::Result<Vec<Named>> {
    let (mut bytes, mut sockets, mut names) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut chunk = [0; LONGEST];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(stream, &mut [IoSliceMut::new(&mut chunk)], &mut control, flags)?.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                sockets.extend(received);
            }
        }
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..got]);
        while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len));
            if len == 0 {
                // Each name came with one socket, in the same order.
                return Ok(names.into_iter().zip(sockets).collect());
            }
            let Some(name) = rest.get(..len) else { break };
            names.push(String::from_utf8_lossy(name).into_owned());
            bytes.drain(..2 + len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn sockets_arrive_with_their_names() {
        let listeners: Vec<TcpListener> =
            (0..40).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let named = |listener: &TcpListener| format!("listen {}", listener.local_addr().unwrap());
        let sockets: Vec<Named> = listeners
            .iter()
            .map(|listener| (named(listener), listener.try_clone().unwrap().into()))
            .collect();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sending = std::thread::spawn(move || send(ours, &sockets).unwrap());
        let received = receive(&theirs).unwrap();
        drop(sending.join().unwrap());
        assert_eq!(received.len(), 40);
        for ((name, socket), listener) in received.into_iter().zip(&listeners) {
            assert_eq!(name, named(listener));
            let twin = TcpListener::from(socket);
            assert_eq!(twin.local_addr().unwrap(), listener.local_addr().unwrap());
        }
    }

    #[test]
    fn a_giver_that_dies_half_way_gives_nothing() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&[0, 9, b'l']).unwrap();
        drop(ours);
        assert_eq!(receive(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
