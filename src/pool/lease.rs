//! The guard of one server connection out of a pool's limit.

use super::Pool;
use super::readers::InFlight;
use super::shared::Permit;
use super::sockets::SocketId;
use crate::backend::Server;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

/// A connection that counts against its pool's limit. Dropping it closes the connection and
/// frees its place: whoever cannot vouch for its state just drops it. Only
/// [`Local::give_back`](super::Local::give_back) keeps it.
pub struct Lease {
    server: Option<Box<Server>>,
    /// It holds a place within the limit.
    counted: bool,
    pool: Arc<Pool>,
    /// By which the pool can end it.
    socket: SocketId,
    /// The thread whose reactor the socket is registered with.
    pub(super) home: usize,
    /// The pool's generation when it was opened.
    pub(super) generation: u64,
    /// When it is too old to be used again.
    pub(super) retires: Instant,
    /// It is out for a read of a replica.
    pub(super) reading: Option<InFlight>,
}

impl Lease {
    pub(super) fn new(
        server: Server,
        pool: Arc<Pool>,
        socket: SocketId,
        home: usize,
        generation: u64,
        retires: Instant,
    ) -> Lease {
        Lease {
            server: Some(Box::new(server)),
            counted: true,
            pool,
            socket,
            home,
            generation,
            retires,
            reading: None,
        }
    }

    /// It is out for a read, until it is given back: what is counted decides where the next one goes.
    pub fn reads(&mut self) {
        self.reading = Some(InFlight::begin(&self.pool));
    }

    /// The pool it came from.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Closes the connection but keeps its place within the limit.
    pub(super) fn into_permit(mut self) -> Permit {
        self.server = None;
        self.pool.sockets.forget(self.socket);
        self.counted = false;
        Permit::of(&self.pool)
    }

    /// The pool's generation when it was opened: with an earlier one than the pool's it is not used
    /// again.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// May it be kept for another use?
    pub(super) fn is_current(&self, now: Instant) -> bool {
        self.generation == self.pool.generation() && now < self.retires
    }
}

impl Deref for Lease {
    type Target = Server;
    fn deref(&self) -> &Server {
        self.server.as_ref().expect("a lease holds its server until it is dropped")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Server {
        self.server.as_mut().expect("a lease holds its server until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.say_goodbye();
            // Before the server's own descriptor goes with it: the peer sees the end at the last one's.
            self.pool.sockets.forget(self.socket);
        }
        if self.counted {
            Pool::closed(&self.pool);
        }
    }
}
