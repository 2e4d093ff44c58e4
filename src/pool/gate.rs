//! Whether a shard's clients are given servers: `PAUSE` and `KILL` close its gate, alone, with all
//! of its database, or with everything; `RESUME` of the same opens it.
//!
//! A gate is looked at where a connection is handed out, so that nothing gets around it: a closed
//! one hands out none, and what is already out comes back by itself. Each connection is counted
//! before the gate is looked at, and whoever closes the gate looks at the count afterwards: one of
//! the two sees the other, so nothing begins once [`Gate::quiet`] has answered.
//!
//! A transaction that has a server somewhere comes to its end although everything is paused, whichever
//! other shards it needs: it would wait for the `RESUME`, and the `PAUSE` for it. A shard that is paused
//! alone, for a switchover, is closed to it too: it ends behind the `RESUME`, and the others are not
//! waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::watch;

/// What a `PAUSE` was of; each is undone by its own `RESUME`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Closer {
    Shard,
    Database,
    All,
}

/// Who is in need of a server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Caller {
    /// Somebody who has none, or could do without.
    #[default]
    Anybody,
    /// A statement or transaction with servers of other shards of the database, which it keeps meanwhile.
    Underway,
    /// One with a server of the same shard.
    Inside,
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    /// By [`Closer`].
    closed: [AtomicBool; 3],
    /// Connections of the shard in all of its pools, also those that no configuration names
    /// any more.
    open: AtomicUsize,
    /// How many connections there have been.
    entries: AtomicUsize,
    /// That something about it has changed.
    news: watch::Sender<()>,
}

impl Gate {
    pub(super) fn new(closers: &[Closer]) -> Gate {
        let gate = Gate {
            closed: Default::default(),
            open: AtomicUsize::new(0),
            entries: AtomicUsize::new(0),
            news: watch::channel(()).0,
        };
        closers.iter().for_each(|closer| _ = gate.set(*closer, true));
        gate
    }

    /// Is nobody given a server?
    pub fn is_closed(&self) -> bool {
        self.closed.iter().any(|closed| closed.load(Ordering::SeqCst))
    }

    /// Is this one not?
    pub fn is_closed_to(&self, caller: Caller) -> bool {
        match caller {
            Caller::Anybody => self.is_closed(),
            Caller::Underway => self.closed[Closer::Shard as usize].load(Ordering::SeqCst),
            Caller::Inside => false,
        }
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
        // Behind the other: see `quiet_together`.
        self.entries.fetch_add(1, Ordering::SeqCst);
    }

    /// A connection is gone.
    pub(super) fn leave(&self) {
        if self.open.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_closed() {
            self.news.send_replace(());
        }
    }

    /// Until this one is given a server. Cancel safe.
    pub async fn opened_to(&self, caller: Caller) {
        self.until(|gate| !gate.is_closed_to(caller)).await;
    }

    /// Until it is not. Cancel safe.
    pub async fn closed_to(&self, caller: Caller) {
        self.until(|gate| gate.is_closed_to(caller)).await;
    }

    /// Until it is closed and no connection is left, or until it has been opened again: then
    /// false. Cancel safe.
    pub async fn quiet(&self) -> bool {
        let is_quiet = |gate: &Gate| gate.open.load(Ordering::SeqCst) == 0;
        self.until(|gate| is_quiet(gate) || !gate.is_closed()).await;
        self.is_closed()
    }

    /// As [`Gate::quiet`], of all of these at once: whoever has a server behind one of them may get
    /// another behind one that was quiet before. Cancel safe.
    pub async fn quiet_together(gates: &[Arc<Gate>]) -> bool {
        let entries =
            || gates.iter().map(|gate| gate.entries.load(Ordering::SeqCst)).fold(0, usize::wrapping_add);
        loop {
            // Whoever is not counted here by then is in what follows.
            let before = entries();
            for gate in gates {
                if !gate.quiet().await {
                    return false;
                }
            }
            if entries() == before {
                return true;
            }
        }
    }

    async fn until(&self, reached: impl Fn(&Gate) -> bool) {
        let mut news = self.news.subscribe();
        while !reached(self) {
            news.changed().await.expect("the sender is a part of self");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paused_shard_is_closed_to_whoever_is_elsewhere() {
        for (closers, anybody, underway) in [
            (&[][..], false, false),
            (&[Closer::All], true, false),
            (&[Closer::Database], true, false),
            (&[Closer::Shard], true, true),
            (&[Closer::All, Closer::Shard], true, true),
        ] {
            let gate = Gate::new(closers);
            assert_eq!(gate.is_closed_to(Caller::Anybody), anybody, "{closers:?}");
            assert_eq!(gate.is_closed_to(Caller::Underway), underway, "{closers:?}");
            assert!(!gate.is_closed_to(Caller::Inside), "{closers:?}");
        }
    }

    #[tokio::test]
    async fn a_gate_behind_which_there_is_somebody_again_is_not_quiet() {
        let gates = [Closer::All; 2].map(|closer| Arc::new(Gate::new(&[closer])));
        gates[1].enter();
        let quiet = Gate::quiet_together(&gates);
        tokio::pin!(quiet);
        let soon = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(soon, &mut quiet).await.is_err());
        // The first was quiet when it was looked at.
        gates[0].enter();
        gates[1].leave();
        assert!(tokio::time::timeout(soon, &mut quiet).await.is_err());
        gates[0].leave();
        assert!(quiet.await);
        assert!(gates[0].set(Closer::All, false));
        assert!(!Gate::quiet_together(&gates).await);
    }
}
