//! Whether a database's clients are given servers: `PAUSE` and `KILL` close its gate, `RESUME`
//! opens it.
//!
//! A gate is looked at where a connection is handed out, so that nothing gets around it: a closed
//! one hands out none, and what is already out comes back by itself. Each connection is counted
//! before the gate is looked at, and whoever closes the gate looks at the count afterwards: one of
//! the two sees the other, so nothing begins once [`Gate::quiet`] has answered.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::watch;

/// See the module.
#[derive(Debug)]
pub struct Gate {
    /// `PAUSE` or `KILL` of this database.
    own: AtomicBool,
    /// `PAUSE` or `KILL` of all.
    all: AtomicBool,
    /// Connections of the database in all of its pools, also those that no configuration names
    /// any more.
    open: AtomicUsize,
    /// That something about it has changed.
    news: watch::Sender<()>,
}

impl Gate {
    pub(super) fn new(all: bool) -> Gate {
        Gate {
            own: AtomicBool::new(false),
            all: AtomicBool::new(all),
            open: AtomicUsize::new(0),
            news: watch::channel(()).0,
        }
    }

    /// Is nobody given a server?
    pub fn is_closed(&self) -> bool {
        self.own.load(Ordering::SeqCst) || self.all.load(Ordering::SeqCst)
    }

    /// Closes it; false when it was.
    pub(super) fn close(&self) -> bool {
        let before = self.own.swap(true, Ordering::SeqCst);
        self.news.send_replace(());
        !before
    }

    /// Undoes [`Gate::close`]; false when there was nothing to undo.
    pub(super) fn open(&self) -> bool {
        let before = self.own.swap(false, Ordering::SeqCst);
        self.news.send_replace(());
        before
    }

    pub(super) fn set_all(&self, closed: bool) {
        self.all.store(closed, Ordering::SeqCst);
        self.news.send_replace(());
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
