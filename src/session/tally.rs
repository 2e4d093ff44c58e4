//! A thread's counts that the process's counters have not been told yet.
//!
//! Threads that add to the same counter at each statement pass its cache line to and fro. So each
//! counts for itself, and tells every second, and before anybody looks ([`Worker::tell`]).

use super::directory::Database;
use super::worker::Worker;
use crate::telemetry::Metrics;
use prometheus::local::{LocalCounter, LocalHistogram, LocalIntCounter};
use std::rc::Rc;
use std::sync::{Arc, Weak};

/// What is counted of one database.
pub(super) struct Tally {
    /// Not to be kept alive: its tasks end with it, and log in as an earlier configuration says.
    database: Weak<Database>,
    pub(super) received_bytes: LocalIntCounter,
    pub(super) sent_bytes: LocalIntCounter,
    pub(super) transactions: LocalIntCounter,
    pub(super) transaction_seconds: LocalCounter,
    pub(super) server_assignments: LocalIntCounter,
    pub(super) client_parses: LocalIntCounter,
    pub(super) server_parses: LocalIntCounter,
    pub(super) binds: LocalIntCounter,
    /// By shard.
    pub(super) query_read: Vec<LocalHistogram>,
    pub(super) query_write: Vec<LocalHistogram>,
}

/// What is counted of all databases together.
pub(super) struct Totals {
    pub(super) plan_hit: LocalIntCounter,
    pub(super) plan_miss: LocalIntCounter,
    pub(super) single: LocalIntCounter,
    pub(super) home: LocalIntCounter,
    pub(super) reference: LocalIntCounter,
    pub(super) transactions: LocalIntCounter,
}

impl Tally {
    fn new(database: &Arc<Database>) -> Tally {
        let counters = &database.counters;
        Tally {
            received_bytes: counters.received_bytes.local(),
            sent_bytes: counters.sent_bytes.local(),
            transactions: counters.transactions.local(),
            transaction_seconds: counters.transaction_seconds.local(),
            server_assignments: counters.server_assignments.local(),
            client_parses: counters.client_parses.local(),
            server_parses: counters.server_parses.local(),
            binds: counters.binds.local(),
            query_read: database.metrics.iter().map(|shard| shard.query_read.local()).collect(),
            query_write: database.metrics.iter().map(|shard| shard.query_write.local()).collect(),
            database: Arc::downgrade(database),
        }
    }

    fn tell(&self) {
        for counter in [
            &self.received_bytes,
            &self.sent_bytes,
            &self.transactions,
            &self.server_assignments,
            &self.client_parses,
            &self.server_parses,
            &self.binds,
        ] {
            counter.flush();
        }
        self.transaction_seconds.flush();
        for histogram in self.query_read.iter().chain(&self.query_write) {
            histogram.flush();
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.tell();
    }
}

impl Totals {
    pub(super) fn new(metrics: &Metrics) -> Totals {
        Totals {
            plan_hit: metrics.plan_cache.hit.local(),
            plan_miss: metrics.plan_cache.miss.local(),
            single: metrics.routes.single.local(),
            home: metrics.routes.home.local(),
            reference: metrics.routes.reference.local(),
            transactions: metrics.transactions.single.local(),
        }
    }

    fn tell(&self) {
        for counter in
            [&self.plan_hit, &self.plan_miss, &self.single, &self.home, &self.reference, &self.transactions]
        {
            counter.flush();
        }
    }
}

impl Worker {
    /// The thread's tally of a database.
    pub(super) fn tally(&self, database: &Arc<Database>) -> Rc<Tally> {
        let mut tallies = self.tallies.borrow_mut();
        // Those of databases that nobody uses any more have told all they had.
        tallies.retain(|tally| Rc::strong_count(tally) > 1);
        if let Some(known) =
            tallies.iter().find(|tally| std::ptr::eq(tally.database.as_ptr(), Arc::as_ptr(database)))
        {
            return Rc::clone(known);
        }
        let tally = Rc::new(Tally::new(database));
        tallies.push(Rc::clone(&tally));
        tally
    }

    /// Tells the process's counters what this thread has counted.
    pub(super) fn tell(&self) {
        self.totals.tell();
        for tally in self.tallies.borrow().iter() {
            tally.tell();
        }
    }
}
