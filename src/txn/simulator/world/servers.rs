//! PostgreSQL, and the connections to it.

use super::*;

impl World {
    pub(super) fn part(&self, server: usize, tx: usize) -> &Part {
        &self.servers[server].parts[tx]
    }

    /// Is the decision's row there, not yet committed?
    pub(super) fn in_flight(&self, tx: usize) -> bool {
        let tx = &self.txs[tx];
        matches!(tx.connections[tx.decider].backend, Backend::Decided | Backend::Complete | Backend::Waiting)
    }

    pub(super) fn write(&mut self, server: usize, tx: usize, part: Part) {
        let synchronous = self.synchronous;
        let server = &mut self.servers[server];
        let new_row = server.parts[tx].row != part.row || server.parts[tx].noted != part.noted;
        server.parts[tx] = part;
        if synchronous {
            server.standby[tx] = part;
            return;
        }
        if server.lag.len() == LAG {
            server.replicate();
        }
        server.lag.push(Lagging { tx: tx as u8, part, due: false });
        if new_row {
            // The hour begins anew.
            for server in &mut self.servers {
                for lagging in server.lag.iter_mut().filter(|lagging| lagging.tx == tx as u8) {
                    lagging.due = true;
                }
            }
        }
    }

    pub(super) fn deliver(&mut self, at: usize, member: usize, refusal: Option<Reply>) {
        let connection = &mut self.txs[at].connections[member];
        let Some(work) = connection.sent.take() else { return };
        let backend = connection.backend;
        if backend == Backend::Gone {
            return connection.forget();
        }
        let part = *self.part(member, at);
        let open = matches!(backend, Backend::Open | Backend::Decided | Backend::Complete);
        let (mut next, mut reply) = (Backend::Idle, Reply::Done);
        match work {
            Work::Rollback => {}
            Work::CommitPrepared | Work::RollbackPrepared => {
                next = backend;
                if refusal.is_none() && part.data == Data::Prepared {
                    self.finish_prepared(member, at, work == Work::CommitPrepared);
                } else {
                    reply = Reply::Error;
                }
            }
            _ if refusal.is_some() || !open => reply = refusal.unwrap_or(Reply::Error),
            Work::Decide if part.row == Row::None => next = Backend::Decided,
            Work::Decide => reply = Reply::Error,
            Work::Complete if backend == Backend::Decided => next = Backend::Complete,
            Work::Complete if self.mutation == Mutation::DecidedUnchecked => next = backend,
            Work::Complete => reply = Reply::Error,
            Work::Prepare => self.write(member, at, Part { data: Data::Prepared, ..part }),
            Work::CommitReader => {}
            Work::CommitOne => self.write(member, at, Part { data: Data::Committed, ..part }),
            Work::CommitDecider
                if backend != Backend::Complete && self.mutation != Mutation::DecidedUnchecked =>
            {
                reply = Reply::Error;
            }
            Work::CommitDecider if self.synchronous => {
                self.txs[at].connections[member].backend = Backend::Waiting;
                return;
            }
            Work::CommitDecider => self.commit_decider(at),
        }
        let connection = &mut self.txs[at].connections[member];
        connection.backend = next;
        connection.reply = (connection.open && connection.asked.is_some()).then_some(reply);
        connection.forget();
    }

    pub(super) fn commit_decider(&mut self, at: usize) {
        let server = self.txs[at].decider;
        let part = Part {
            data: Data::Committed,
            row: Row::Commit(Stage::Fresh),
            row_old: false,
            ..*self.part(server, at)
        };
        self.write(server, at, part);
        let connection = &mut self.txs[at].connections[server];
        connection.backend = Backend::Idle;
        connection.forget();
    }

    pub(super) fn finish_prepared(&mut self, server: usize, at: usize, commit: bool) {
        let part = *self.part(server, at);
        if part.data != Data::Prepared {
            return;
        }
        let tx = &self.txs[at];
        let decided = self.part(tx.decider, at).data == Data::Committed;
        if !tx.lossy && commit && !decided {
            self.fails("the decision is durable before the first COMMIT PREPARED");
        }
        let data = if commit { Data::Committed } else { Data::Nothing };
        let witness = commit && self.mutation != Mutation::NoWitness;
        self.write(server, at, Part { data, witness, witness_old: false, ..part });
    }

    /// All connections to a server end, and what was not committed.
    pub(super) fn disconnect(&mut self, server: usize) {
        for tx in &mut self.txs {
            tx.connections[server].end();
        }
    }

    pub(super) fn restart(&mut self, server: usize) {
        for at in 0..self.txs.len() {
            // What waited for the standby is in the log; the standby is given the time to get it.
            if self.txs[at].decider == server && self.txs[at].connections[server].backend == Backend::Waiting
            {
                self.commit_decider(at);
            }
        }
        self.disconnect(server);
    }

    pub(super) fn fail_over(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let lost = std::mem::take(&mut server.lag);
        server.parts = server.standby;
        server.timeline = server.timeline.wrapping_add(1);
        if !self.synchronous {
            for lagging in lost {
                self.txs[usize::from(lagging.tx)].lossy = true;
            }
        }
        self.disconnect(at);
    }

    pub(super) fn hour_may_pass(&self, at: usize) -> bool {
        let tx = at as u8;
        let counts =
            |part: &Part| part.row != Row::None && !part.row_old || part.witness && !part.witness_old;
        let due = |server: &Server| server.lag.iter().any(|lagging| lagging.due && lagging.tx == tx);
        // Within the hour somebody has listened to the witnesses.
        let heard = matches!(self.part(self.txs[at].decider, at).row, Row::Commit(_))
            || self.txs[at].alarm
            || self.mutation == Mutation::DeafToWitnesses
            || !self.servers.iter().any(|server| server.parts[at].witness);
        heard && self.servers.iter().any(|server| counts(&server.parts[at])) && !self.servers.iter().any(due)
    }

    pub(super) fn hour(&mut self, at: usize) {
        self.txs[at].slow = self.txs[at].coordinator.is_some();
        for server in &mut self.servers {
            let lagging = server.lag.iter_mut().filter(|lagging| lagging.tx == at as u8);
            let parts = lagging.map(|lagging| &mut lagging.part);
            for part in parts.chain([&mut server.parts[at], &mut server.standby[at]]) {
                part.row_old = part.row != Row::None;
                part.witness_old = part.witness;
            }
        }
    }
}

impl Server {
    pub(super) fn replicate(&mut self) {
        if !self.lag.is_empty() {
            let lagging = self.lag.remove(0);
            self.standby[usize::from(lagging.tx)] = lagging.part;
        }
    }
}

impl Connection {
    /// The proxy closes its end.
    pub(super) fn close(&mut self) {
        *self = Connection { open: false, asked: None, reply: None, ..*self };
        self.forget();
    }

    /// Of one that is closed and does nothing any more it does not matter what it was.
    pub(super) fn forget(&mut self) {
        let over = matches!(self.backend, Backend::Idle | Backend::Gone);
        if !self.open && (self.backend == Backend::Gone || over && self.sent.is_none()) {
            *self = CLOSED;
        }
    }

    pub(super) fn end(&mut self) {
        self.sent = None;
        self.backend = Backend::Gone;
        self.forget();
    }
}
