//! The other pgrings of the host, as far as cancel requests need them.
//!
//! A client sends a cancel request over a connection of its own, and where several processes listen
//! on one port the kernel gives it to any of them. So a key's process id says which process it
//! belongs to, and which of its threads. The request is handed on to that process through its
//! socket in the runtime directory, as the same packet; what comes in by that way is never handed
//! on again. The secret stays as it is: only the process that gave it out can check it.

use super::worker::WorkerMessage;
use crate::wire;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// How many processes of a cluster one host may have at a time.
pub const SLOTS: u8 = 32;

/// A process id is positive as an `i32`, which drivers take it for.
const PID_BITS: u32 = 31;
const SLOT_SHIFT: u32 = PID_BITS - SLOTS.ilog2();

/// Longer than the cancel itself may take ([`crate::backend::cancel`]).
const DEADLINE: Duration = Duration::from_secs(15);

/// Which process of the host this one is, and where the others are.
#[derive(Clone, Debug)]
pub struct Neighbours {
    /// The runtime directory and the cluster; `None`: this process is on its own.
    place: Option<(PathBuf, String)>,
    slot: u8,
    thread_bits: u32,
}

/// Where the session of a key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home {
    /// On this thread of this process.
    Thread(usize),
    /// In the process with this slot.
    Slot(u8),
}

impl Neighbours {
    /// For a process with so many threads, that has `slot` among those of its cluster.
    pub fn new(place: Option<(PathBuf, String)>, slot: u8, threads: usize) -> Neighbours {
        Neighbours { place, slot, thread_bits: threads.next_power_of_two().ilog2() }
    }

    /// The socket of the process with this slot.
    pub fn socket(directory: &Path, cluster: &str, slot: u8) -> PathBuf {
        directory.join(format!("{cluster}.{slot}.sock"))
    }

    /// The process id of a thread's session; `None` when the counter has run over.
    pub(super) fn pid(&self, thread: usize, counter: u32) -> Option<u32> {
        let shift = SLOT_SHIFT - self.thread_bits;
        let thread = u32::try_from(thread).ok()?;
        (counter < 1 << shift).then(|| u32::from(self.slot) << SLOT_SHIFT | thread << shift | counter)
    }

    /// Where a key's process id leads; `None`: it is none.
    pub fn home(&self, pid: u32) -> Option<Home> {
        let slot = u8::try_from(pid >> SLOT_SHIFT).ok().filter(|slot| *slot < SLOTS)?;
        let thread = (pid & ((1 << SLOT_SHIFT) - 1)) >> (SLOT_SHIFT - self.thread_bits);
        Some(if slot == self.slot { Home::Thread(thread as usize) } else { Home::Slot(slot) })
    }

    /// Hands a cancel request on, and waits until it has been carried out.
    pub(super) async fn hand_on(&self, slot: u8, pid: u32, secret: &[u8]) {
        let Some((directory, cluster)) = &self.place else { return };
        let asked = ask(Neighbours::socket(directory, cluster, slot), pid, secret);
        match tokio::time::timeout(DEADLINE, asked).await {
            Ok(Ok(())) => {}
            // The key is of a process that is gone, or of none.
            Ok(Err(error)) => tracing::debug!(slot, "a cancel request was not handed on: {error}"),
            Err(_) => tracing::warn!(slot, "a cancel request was handed on and not carried out in time"),
        }
    }
}

async fn ask(socket: PathBuf, pid: u32, secret: &[u8]) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(&wire::cancel_request(pid, secret)).await?;
    // It hangs up when it is done, as PostgreSQL does.
    stream.read(&mut [0]).await.map(drop)
}

/// Gives a cancel request to a thread of this process, and waits until it has been carried out.
pub async fn cancel_on(threads: &[UnboundedSender<WorkerMessage>], thread: usize, pid: u32, secret: Vec<u8>) {
    if let Some(mailbox) = threads.get(thread) {
        // A thread that has ended has nothing to cancel.
        let (done, carried_out) = oneshot::channel();
        let _ = mailbox.send(WorkerMessage::Cancel { pid, secret, done });
        let _ = carried_out.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_leads_home() {
        for threads in [1, 2, 3, 8, 100, 256] {
            for slot in [0, 1, SLOTS - 1] {
                let here = Neighbours::new(None, slot, threads);
                let elsewhere = Neighbours::new(None, (slot + 1) % SLOTS, 5);
                for thread in [0, threads / 2, threads - 1] {
                    for counter in [1, 77_777] {
                        let pid = here.pid(thread, counter).unwrap();
                        assert!(i32::try_from(pid).is_ok());
                        assert_eq!(here.home(pid), Some(Home::Thread(thread)));
                        assert_eq!(elsewhere.home(pid), Some(Home::Slot(slot)));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_process_id() {
        let one = Neighbours::new(None, 0, 256);
        assert_eq!(one.home(u32::MAX), None);
        assert_eq!(one.home(1 << 31), None);
        assert_eq!(one.pid(0, u32::MAX), None);
    }
}
