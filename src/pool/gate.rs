//! Whether a shard's clients are given servers: `PAUSE` and `KILL` close its gate, alone, with all
//! of its database, or with everything; `RESUME` of the same opens it.
//!
//! A gate is looked at where a connection is handed out, so that nothing gets around it: a closed
//! one hands out none, and what is already out comes back by itself. Each connection is counted
//! before the gate is looked at, and whoever closes the gate looks at the count afterwards: one of
//! the two sees the other, so nothing begins once [`Gate::quiet`] has answered.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::watch;

/// What a `PAUSE` was of; each is undone by its own `RESUME`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Closer {
    Shard,
    Database,
    All,
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    /// By [`Closer`].
    closed: [AtomicBool; 3],
    /// Connections of the shard in all of its pools, also those that no configuration names
    /// any more.
    open: AtomicUsize,
    /// That something about it has changed.
    news: watch::Sender<()>,
}

impl Gate {
    pub(super) fn new(closers: &[Closer]) -> Gate {
        let gate = Gate { closed: Default::default(), open: AtomicUsize::new(0), news: watch::channel(()).0 };
        closers.iter().for_each(|closer| _ = gate.set(*closer, true));
        gate
    }

    /// Is nobody given a server?
    pub fn is_closed(&self) -> bool {
        self.closed.iter().any(|closed| closed.load(Ordering::SeqCst))
    }

    /// Closes it or undoes that; false when there was nothing to do.
    pub(super) fn set(&self, closer: Closer, closed: bool) -> bool {
        let before = self.closed[closer as usize].swap(closed, Ordering::SeqCst);
        self.news.send_replace(());
        before != closed
    }

    /// A connection is about to be opened.
    pub(super) fn enter(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    /// A connection is gone.
    pub(super) fn leave(&self) {
        if self.open.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_closed() {
            self.news.send_replace(());
        }
    }

    /// Until clients are given servers. Cancel safe.
    pub async fn opened(&self) {
        self.until(|gate| !gate.is_closed()).await;
    }

    /// Until they are not. Cancel safe.
    pub async fn closed(&self) {
        self.until(Gate::is_closed).await;
    }

    /// Until it is closed and no connection is left, or until it has been opened again: then
    /// false. Cancel safe.
    pub async fn quiet(&self) -> bool {
        let is_quiet = |gate: &Gate| gate.open.load(Ordering::SeqCst) == 0;
        self.until(|gate| is_quiet(gate) || !gate.is_closed()).await;
        self.is_closed()
    }

    async fn until(&self, reached: impl Fn(&Gate) -> bool) {
        let mut news = self.news.subscribe();
        while !reached(self) {
            news.changed().await.expect("the sender is a part of self");
        }
    }
}
