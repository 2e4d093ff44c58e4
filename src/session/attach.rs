//! Getting a shard's server for a statement, and letting go of it.

use super::batch::Committed;
use super::pins::Pins;
use super::reads::Servers;
use super::state::{Doubt, End, Held, Session};
use super::waiting::{Until, interrupted};
use crate::backend::ServerError;
use crate::config::PoolMode;
use crate::error::{ClientError, SqlState};
use crate::execute::Expect;
use crate::pool::{Caller, Lease, PoolError};
use crate::ring::ShardId;
use crate::sql::{Access, Pin};
use crate::txn::Phase;
use crate::wire::{self, TxStatus};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a statement gets no server.
pub(super) enum Unattached {
    /// The client is told; the session goes on.
    Refused(ClientError),
    /// The session ends.
    End(End),
    /// The client has been told already, by an error on the way.
    Told,
    /// Earlier statements have to be answered first. Nothing has been done yet.
    Later,
}

impl From<End> for Unattached {
    fn from(end: End) -> Unattached {
        Unattached::End(end)
    }
}

impl From<ClientError> for Unattached {
    fn from(error: ClientError) -> Unattached {
        Unattached::Refused(error)
    }
}

impl Session {
    /// Has the session hold a server of `shard`, its settings in line and the transaction begun
    /// on it. Prefers what the session has.
    pub(super) async fn attach(&mut self, shard: ShardId) -> Result<(), Unattached> {
        if self.relay.awaits_ready() {
            return self.stay_attached(shard);
        }
        self.refuse_beside_aimed()?;
        if self.wants_decision() && self.held.as_ref().is_none_or(|held| held.shard == shard) {
            Box::pin(self.join_writers()).await?;
        }
        if let Some(held) = &self.held {
            if held.shard == shard && self.suits(held) {
                self.on_replica |= held.replica;
                let joins = self.joins();
                if self.batch.is_sent()
                    || (self.tx.phase() == Phase::Open && !joins)
                    || held.lease.is_aligned(&self.settings)
                {
                    self.begin_on_server(joins);
                    return Ok(());
                }
            } else {
                Box::pin(self.let_go_for(shard)).await?;
                if self.wants_decision() {
                    Box::pin(self.join_writers()).await?;
                }
            }
        }
        if self.held.is_none() {
            self.take(shard).await?;
        }
        // What brings it in line is sent as well.
        let joins = self.joins();
        self.bring_in_line().await?;
        self.begin_on_server(joins);
        Ok(())
    }

    /// The transaction has begun elsewhere, and the held server has no part in it yet.
    fn joins(&self) -> bool {
        self.tx.phase() == Phase::Open
            && !self.batch.is_sent()
            && !self.relay.is_busy()
            && self.held.as_ref().is_some_and(|held| held.lease.status == TxStatus::Idle)
    }

    /// As [`Session::attach`] while earlier statements are unanswered: the server is the one they
    /// are on, as it is.
    fn stay_attached(&self, shard: ShardId) -> Result<(), Unattached> {
        let stays = self.held.as_ref().is_some_and(|held| {
            held.shard == shard
                && self.suits(held)
                && self.tx.phase() != Phase::Pending
                && held.lease.is_aligned(&self.settings)
        });
        if stays { Ok(()) } else { Err(Unattached::Later) }
    }

    /// As [`Session::attach`], for a statement that is only described: the transaction does not
    /// begin there, unless it has settings that the description may depend on.
    pub(super) async fn attach_to_describe(&mut self, shard: ShardId) -> Result<(), Unattached> {
        if self.relay.awaits_ready() || self.tx.phase() != Phase::Pending || !self.tx.changes().is_empty() {
            return self.attach(shard).await;
        }
        self.attach_unopened(shard).await
    }

    /// As [`Session::attach`], without the transaction and with nothing outstanding.
    pub(super) async fn attach_quietly(&mut self, shard: ShardId) -> Result<(), Unattached> {
        self.read_at_primary();
        if self.held.as_ref().is_some_and(|held| held.shard != shard || !self.suits(held)) {
            Box::pin(self.let_go_for(shard)).await?;
        }
        if self.held.is_none() {
            self.take(shard).await?;
        }
        self.align().await
    }

    /// As [`Session::attach`], without the transaction.
    pub(super) async fn attach_unopened(&mut self, shard: ShardId) -> Result<(), Unattached> {
        self.read_at_primary();
        if self.held.as_ref().is_some_and(|held| held.shard != shard || !self.suits(held)) {
            Box::pin(self.let_go_for(shard)).await?;
        }
        if self.held.is_none() {
            self.take(shard).await?;
        }
        self.bring_in_line().await
    }

    /// A server of `shard`, as it is: a primary's, or a replica's where [`Session::source`] says so.
    pub(super) async fn take(&mut self, shard: ShardId) -> Result<(), Unattached> {
        let parked = self.parked.iter().position(|held| held.shard == shard && self.suits(held));
        let mut held = match parked {
            Some(at) => {
                Box::pin(self.settle_parked(at)).await?;
                self.parked.swap_remove(at)
            }
            None => {
                let reader = match self.source {
                    Servers::Primary => None,
                    Servers::Replica { .. } => Box::pin(self.checkout_reader(shard)).await?,
                };
                let replica = reader.is_some();
                let lease = match reader {
                    Some(lease) => lease,
                    None => self.checkout_primary(shard).await?,
                };
                Held { shard, replica, lease, pins: Pins::default(), doubt: Doubt::None }
            }
        };
        let types = self.database.types.get(shard.index()).and_then(Option::as_ref);
        if types.map(Arc::as_ptr) != held.lease.types.as_ref().map(Arc::as_ptr) {
            held.lease.types = types.map(Arc::clone);
        }
        self.on_replica |= held.replica;
        self.batch.shard = shard;
        self.tally.server_assignments.inc();
        let name = &self.database.shard_names[shard.index()];
        self.registration.control.attached(&held.lease, name);
        self.held = Some(held);
        if self.keeps_sequences {
            Box::pin(self.keep_sequences()).await?;
        }
        Ok(())
    }

    /// Reads what a parked server still has to answer.
    pub(super) async fn settle_parked(&mut self, at: usize) -> Result<(), Unattached> {
        let Some(held) = self.parked.get_mut(at) else { return Ok(()) };
        let Err(error) = held.lease.settle().await else { return Ok(()) };
        let shard = held.shard;
        if let ServerError::Refused { body, .. } = &error
            && held.lease.status != TxStatus::Idle
        {
            return Err(server_refusal(body).into());
        }
        self.parked.swap_remove(at);
        self.undone();
        self.tx.lost();
        Err(self.server_error_of(shard, &error, false).into())
    }

    /// As whom it asks for another server: a transaction that has one, or servers that work on a statement
    /// together, keep others waiting.
    pub(super) fn caller(&self, shard: ShardId) -> Caller {
        let begun = |held: &&Held| held.lease.status != TxStatus::Idle;
        let kept = self.held.iter().chain(&self.parked).filter(begun);
        let as_holder = kept.map(|held| if held.shard == shard { Caller::Inside } else { Caller::Underway });
        as_holder.max().unwrap_or_default().max(self.asks_as)
    }

    pub(super) async fn checkout_primary(&mut self, shard: ShardId) -> Result<Lease, Unattached> {
        if self.awaits_timeline() {
            Box::pin(self.await_timeline(shard)).await?;
        }
        match self.checkout_at_once(shard) {
            Some(lease) => Ok(lease),
            None => Box::pin(self.checkout_waiting(shard)).await,
        }
    }

    fn checkout_at_once(&mut self, shard: ShardId) -> Option<Lease> {
        let caller = self.caller(shard);
        let access = &mut self.access[shard.index()];
        let pool = access.primary(&self.database.shards[shard.index()], &self.user).ok()?;
        self.worker.local.checkout_idle(pool, caller)
    }

    async fn checkout_waiting(&mut self, shard: ShardId) -> Result<Lease, Unattached> {
        let began = Instant::now();
        let control = Rc::clone(&self.registration.control);
        let worker = Rc::clone(&self.worker);
        let database = Arc::clone(&self.database);
        let at = &database.shards[shard.index()];
        let caller = self.caller(shard);
        let checkout = self.access[shard.index()].checkout(at, &self.user, &worker.local, caller);
        let interrupted = interrupted(&worker, &control, &self.stream, Until::Closed(&at.gate, caller));
        let outcome = tokio::select! {
            biased;
            outcome = checkout => outcome,
            interruption = interrupted => return Err(interruption.into()),
        };
        let waited = began.elapsed().as_secs_f64();
        self.metrics().pool_wait_seconds.observe(waited);
        self.database.counters.wait_seconds.inc_by(waited);
        outcome.map_err(|error| {
            // Why one cannot be opened has been logged where that was tried.
            if !matches!(error, PoolError::Connect(..)) {
                tracing::warn!(
                    database = self.database.name,
                    user = self.user_name,
                    "no server connection: {error}"
                );
            }
            Unattached::Refused(error.client_error())
        })
    }

    /// Has the held server's settings be the session's before anything else runs there.
    async fn bring_in_line(&mut self) -> Result<(), Unattached> {
        let Some(held) = &self.held else { return Ok(()) };
        let in_transaction = held.lease.status != TxStatus::Idle;
        if in_transaction || self.batch.is_sent() || held.lease.is_aligned(&self.settings) {
            return Ok(());
        }
        if held.lease.settings.cling_to(&self.settings) {
            Box::pin(self.clear_leftovers()).await?;
        }
        self.align_ahead();
        Ok(())
    }

    /// What comes after a statement that has let the server miss a setting must not run without it.
    fn refuse_beside_aimed(&self) -> Result<(), Unattached> {
        if !self.batch.has_aimed() {
            return Ok(());
        }
        let error = ClientError::refused(
            "a setting of the session's cannot be had any more, and is just being left",
            "Send a Sync after the SET or RESET.",
        );
        Err(error.into())
    }

    /// Sends ahead what brings the held server's settings in line with the session's: a
    /// transaction of its own, so that nothing later undoes it, and without Sync, so that the
    /// server skips what follows if it fails.
    fn align_ahead(&mut self) {
        let Some(held) = &mut self.held else { return };
        let server = &mut *held.lease;
        let aim = self.batch.take_aim();
        let wanted = aim.unwrap_or_else(|| Arc::clone(&self.settings));
        let statements = server.settings.statements_towards(&wanted);
        // If that fails the connection is closed.
        server.settings = wanted;
        self.batch.aligned = true;
        if statements.is_empty() {
            return;
        }
        server.unnamed = 0;
        self.send_hidden("BEGIN", None);
        for statement in &statements {
            self.send_hidden(statement, None);
        }
        self.send_hidden("COMMIT", Some(ALIGNED));
        self.batch.aligning = true;
    }

    /// Has the held server run a statement whose answer the client does not see.
    pub(super) fn send_hidden(&mut self, statement: &str, note: Option<u32>) {
        let Some(held) = &mut self.held else { return };
        let server = &mut *held.lease;
        wire::put_parse(&mut server.outbox, b"", statement.as_bytes(), &[]);
        wire::put_bind_plain(&mut server.outbox, b"", b"");
        wire::put_execute(&mut server.outbox, b"");
        server.unnamed = 0;
        self.relay.expect(Expect::Parse { id: 0, shown: false });
        self.relay.expect(Expect::Bind { shown: false });
        self.relay.expect(Expect::Execute { note, shown: false });
        self.batch.send();
    }

    /// Frees the held server, or another one, of settings that others have left and that it may
    /// refuse to let go of: that is no fault of this session's.
    async fn clear_leftovers(&mut self) -> Result<(), Unattached> {
        for _ in 0..MOST_DEAD {
            let Some(held) = &mut self.held else { return Ok(()) };
            let shard = held.shard;
            let shared = Arc::new(held.lease.settings.shared_with(&self.settings));
            let Err(error) = held.lease.align(&shared).await else { return Ok(()) };
            if !held.pins.is_empty() {
                let told = self.server_error(&error, false);
                self.drop_held();
                return Err(Unattached::End(End::from(told)));
            }
            tracing::debug!(database = self.database.name, "a server connection was replaced: {error}");
            self.drop_held();
            self.take(shard).await?;
        }
        self.drop_held();
        Err(Unattached::Refused(super::simple::lost_at_once()))
    }

    /// Brings the held server's settings in line with the session's in a round trip of its own,
    /// outside any transaction.
    pub(super) async fn align(&mut self) -> Result<(), Unattached> {
        self.clear_leftovers().await?;
        for _ in 0..MOST_DEAD {
            let Some(held) = &mut self.held else { return Ok(()) };
            if held.lease.is_aligned(&self.settings) {
                return Ok(());
            }
            let (shard, pinned) = (held.shard, !held.pins.is_empty());
            let wanted = Arc::clone(&self.settings);
            let Err(error) = held.lease.align(&wanted).await else { return Ok(()) };
            let refused = match &error {
                ServerError::Refused { body, .. } => Some(server_refusal(body)),
                _ if pinned => Some(self.server_error(&error, false)),
                _ => None,
            };
            self.drop_held();
            if let Some(told) = refused {
                tracing::warn!(
                    database = self.database.name,
                    "cannot bring a server's settings in line: {error}"
                );
                return Err(Unattached::Refused(told));
            }
            // It had died while it was idle, and nothing of the statement has been sent.
            tracing::debug!(database = self.database.name, "an idle server connection was lost: {error}");
            self.take(shard).await?;
        }
        self.drop_held();
        Err(Unattached::Refused(super::simple::lost_at_once()))
    }

    /// Sends ahead what the transaction has to begin with.
    fn begin_on_server(&mut self, joins: bool) {
        let statements = match self.tx.phase() {
            Phase::Pending if self.database.is_one_shard() => self.tx.open(),
            Phase::Pending => self.tx.open_for_several(),
            Phase::Open if joins => self.tx.open_for_several(),
            _ => return,
        };
        for statement in statements {
            // Under the extended protocol without Sync: should one of them fail, the server
            // skips what follows instead of running it outside the transaction.
            self.send_hidden(&statement, Some(OPENED));
        }
        self.batch.opened = true;
    }

    /// Another shard is needed than the one that is held.
    async fn let_go_for(&mut self, shard: ShardId) -> Result<(), Unattached> {
        let Some(held) = &self.held else { return Ok(()) };
        let topology = &self.database.topology;
        let open = self.tx.phase() == Phase::Open;
        if open && self.batch.has_ended_transaction() {
            return Err(ClientError::refused(
                format!(
                    "a transaction has ended on shard \"{}\" in the middle of a pipeline, and what follows is for shard \"{}\"",
                    topology.name(held.shard),
                    topology.name(shard)
                ),
                "Send a Sync after COMMIT or ROLLBACK.",
            )
            .into());
        }
        if open {
            self.may_go_on(held.shard, shard)?;
        }
        if self.batch.has_run() && !open {
            return Err(ClientError::refused(
                format!(
                    "a pipeline without Sync is one transaction: it is on shard \"{}\" and cannot go on to shard \"{}\"",
                    topology.name(held.shard),
                    topology.name(shard)
                ),
                "Send a Sync between statements of different keys.",
            )
            .into());
        }
        if self.batch.is_sent() {
            // Only descriptions were asked for there, or the transaction stays open.
            if let Some(held) = &mut self.held {
                wire::put_sync(&mut held.lease.outbox);
            }
            self.relay.expect(Expect::Sync { shown: false });
            Box::pin(self.finish_relay()).await?;
            self.batch.sent_is_done();
            self.settle_hidden_sync()?;
            if self.batch.is_skipping() || self.held.is_none() {
                return Err(Unattached::Told);
            }
        }
        if open {
            self.refuse_if_failed_there()?;
            self.park();
            return Ok(());
        }
        self.park_or_give_back();
        Ok(())
    }

    /// After a transaction: the server goes back to its pool, unless the session keeps it.
    pub(super) fn detach_if_free(&mut self) {
        if self.held.is_none() || self.relay.is_busy() || self.batch.is_sent() {
            // What came after is on it already.
            return;
        }
        if self.directory.pool.mode == PoolMode::Session {
            return;
        }
        self.pin_if_changed_unasked();
        if self.held.as_ref().is_some_and(|held| held.pins.is_empty()) {
            self.give_back_held();
        }
    }

    /// Between transactions the server held is the one that may have something to tell.
    pub(super) fn hold_listener(&mut self) {
        if self.parked.is_empty() || self.held.as_ref().is_some_and(|held| held.pins.has(Pin::Listen)) {
            return;
        }
        let Some(at) = self.parked.iter().position(|held| held.pins.has(Pin::Listen)) else { return };
        let listener = self.parked.swap_remove(at);
        let name = &self.database.shard_names[listener.shard.index()];
        self.registration.control.attached(&listener.lease, name);
        let other = self.held.replace(listener);
        self.parked.extend(other);
    }

    fn park_or_give_back(&mut self) {
        self.detach_if_free();
        self.park();
    }

    fn park(&mut self) {
        if let Some(held) = self.held.take() {
            self.registration.control.detached();
            self.parked.push(held);
        }
    }

    pub(super) fn give_back_held(&mut self) {
        let Some(mut held) = self.held.take() else { return };
        let control = &self.registration.control;
        control.detached();
        if held.lease.status != TxStatus::Idle || self.relay.is_busy() || self.batch.is_sent() {
            tracing::error!(
                database = self.database.name,
                "a server connection was let go of while in use; closed"
            );
            return;
        }
        if self.passing > 0 || !held.lease.outbox.is_empty() {
            // A COPY has failed while the client's data are still under way: the server waits for
            // the rest of a message.
            return;
        }
        if !held.lease.asides.is_empty() {
            let (server, pid) = (held.lease.cancel_key.pid, self.told.pid());
            wire::put_notifications(&mut self.outbox, held.lease.asides.filled(), server, pid);
            held.lease.asides.clear();
        }
        let cancelled = control.is_being_cancelled();
        if cancelled || held.doubt != Doubt::None {
            let (control, worker) = (Rc::clone(control), Rc::clone(&self.worker));
            let schema = self.database.schema.load();
            let sets = schema.as_ref().and_then(|schema| schema.suspects().sets());
            if sets.is_none() && held.doubt == Doubt::Equal {
                // What they set is not known any more.
                held.doubt = Doubt::Settings;
            }
            let equal = sets.unwrap_or_default().to_vec();
            tokio::task::spawn_local(async move {
                if cancelled {
                    control.cancels_done().await;
                }
                // Whoever has it next must not meet what nobody knows of.
                let cleaning = async {
                    match held.doubt {
                        Doubt::None => Ok(()),
                        Doubt::Equal => held.lease.reset(&equal).await,
                        Doubt::Settings => held.lease.forget_settings().await,
                        Doubt::Anything => held.lease.discard_all().await,
                    }
                };
                if matches!(tokio::time::timeout(CLEANING, cleaning).await, Ok(Ok(()))) {
                    worker.local.give_back(held.lease);
                }
            });
            return;
        }
        self.worker.local.give_back(held.lease);
    }

    /// The held server cannot be vouched for: it is closed.
    pub(super) fn drop_held(&mut self) {
        self.held = None;
        self.registration.control.detached();
        self.relay.abandon();
    }

    /// The server failed what ran on it. The client is told, unless nothing was asked.
    pub(super) fn server_lost(&mut self, error: &ServerError) -> Result<(), End> {
        // What it has said before counts: it may have come together with the end.
        self.take_events()?;
        if let Some(held) = &self.held {
            let shard = held.shard.index();
            tracing::warn!(
                database = self.database.name,
                shard = &*self.database.shard_names[shard],
                endpoint = %held.lease.cancel_key.endpoint,
                "a server connection was lost: {error}"
            );
            self.database.metrics[shard].server_lost.inc();
            self.database.shards[shard].board.probe_now();
        }
        if let ServerError::Refused { body, .. } = error
            && wire::error_field(body, b'C') == Some(b"08P01")
        {
            // It was the client that broke the protocol (a message that has no place in a COPY).
            return Err(End::Fatal(ClientError::protocol(server_refusal(body).message)));
        }
        if self.relay.is_mid_frame() {
            // Whatever is written now would be read as the rest of a row.
            return Err(End::Vanished(std::io::Error::other("the server was lost in the middle of a row")));
        }
        let pinned = self.held.as_ref().is_some_and(|held| !held.pins.is_empty());
        let readies = self.relay.readies();
        let awaited = readies > 0;
        // A write that commits by itself may have done so before the connection broke.
        let autocommit = awaited && self.tx.phase() == Phase::Idle && self.access_kind == Access::Write;
        let all_answered = self.relay.is_at_position() && !self.batch.schema_changed;
        let committed = std::mem::take(&mut self.batch.committed);
        // What has been answered is done; what stands behind it in its batch need not be.
        let answered = all_answered || (committed == Committed::Last && self.relay.is_at_ready());
        let over = all_answered || committed != Committed::No;
        let ending = self.is_committing() || autocommit || (over && !answered);
        let committing = ending && (!is_certain(error) || self.relay.has_result());
        let told = self.server_error(error, committing);
        let copying = self.relay.is_copying_in();
        let in_batch = self.batch.is_begun() && (self.batch.is_sent() || !awaited);
        let in_transaction = self.tx.phase() != Phase::Idle;
        self.drop_held();
        self.undone();
        self.read_strings_as(self.strings.1);
        if in_transaction && !committing && !over {
            // The client believes in it until it has ended it: nothing may run outside of it.
            self.tx.lost();
        } else {
            self.tx.finish();
        }
        self.effects.clear();
        self.forget_portals();
        self.take_back_all();
        self.batch.answered(false);
        self.batch.is_sure();
        self.began = None;
        self.transaction_began = None;
        self.registration.control.rests();
        self.registration.control.active.set(false);
        let unasked = in_transaction && !awaited && !in_batch;
        if pinned || (unasked && self.directory.pool.mode == PoolMode::Session) {
            // The session's state is gone with it: as PostgreSQL does.
            return Err(End::Fatal(ClientError { severity: crate::error::Severity::Fatal, ..told }));
        }
        if unasked && !copying {
            // There is no statement to fail. The next one does, a COMMIT above all.
            self.unsaid = Some(Box::new(told));
            return Ok(());
        }
        if awaited || in_batch || copying {
            if !answered {
                wire::put_error(&mut self.outbox, &told);
            }
            let status = self.status();
            self.idle_since = Instant::now();
            if awaited || copying && !in_batch {
                wire::put_ready(&mut self.outbox, status);
            }
            for _ in 1..readies {
                // Each batch that was sent has an end of its own.
                wire::put_error(&mut self.outbox, &told);
                wire::put_ready(&mut self.outbox, status);
            }
            if in_batch {
                if awaited {
                    wire::put_error(&mut self.outbox, &told);
                }
                self.batch.skip();
                self.batch.sent_is_done();
            }
        }
        Ok(())
    }

    /// What is under way has no reader any more: it is cancelled, and what stands without a `Sync`
    /// undone, as when a server loses its client. A cancel that overtakes its statement finds the
    /// server idle and is ignored: so it is repeated until all is answered.
    async fn end_running(&mut self) {
        if self.passing > 0 || (self.relay.is_copying_in() && !self.fail_copy("the client is gone")) {
            // In the middle of a message the server hears of nothing else.
            self.registration.control.cancel_running().await;
            return;
        }
        let running = self.relay.is_busy();
        let gone = ClientError::error(SqlState::CANCELED, "the client is gone");
        let unsynced = self.batch.is_sent() && self.refuse_on_server(&gone, false);
        if unsynced && let Some(held) = &mut self.held {
            wire::put_sync(&mut held.lease.outbox);
            self.relay.expect(Expect::Sync { shown: false });
        }
        for attempt in 0..CANCEL_TRIES {
            if running {
                self.registration.control.cancel_running().await;
            }
            let patience = CANCEL_PATIENCE * 2_u32.pow(attempt);
            let Ok(answered) = tokio::time::timeout(patience, self.finish_unread()).await else { continue };
            if answered.is_err() {
                self.drop_held();
            } else if unsynced {
                self.batch.sent_is_done();
                // Nobody is told.
                let _: Result<(), End> = self.settle_hidden_sync();
            }
            if self.ready_held.take().is_some() && std::mem::take(&mut self.reads_schema) {
                self.database.read_changed_schema().await;
            }
            return;
        }
        tracing::warn!(
            database = self.database.name,
            "a statement whose client is gone could not be cancelled"
        );
    }

    /// As [`Session::finish_relay`], for nobody. Cancel safe.
    async fn finish_unread(&mut self) -> Result<(), End> {
        while self.relay.is_busy() {
            std::future::poll_fn(|cx| self.poll_unread(cx)).await?;
            self.take_events()?;
            self.outbox.clear();
        }
        Ok(())
    }

    /// The session's end: what is left on servers is undone or closed.
    pub(super) async fn leave(&mut self) {
        if self.relay.is_busy() || self.batch.is_sent() {
            self.end_running().await;
        }
        // What it has done to its server is not known before its answers have been taken note of.
        let busy = self.relay.is_busy() || !self.events.is_empty();
        // A part of a transaction is closed, and PostgreSQL rolls it back.
        let mut leases: Vec<Held> =
            self.parked.drain(..).filter(|held| held.lease.status == TxStatus::Idle).collect();
        // In the middle of a batch its work would be the next client's.
        let unsynced = self.batch.is_sent() || self.relay.is_skipping();
        self.registration.control.cancels_done().await;
        if let Some(held) = self.held.take()
            && !busy
            && !unsynced
            && held.lease.status == TxStatus::Idle
            && held.lease.outbox.is_empty()
            && self.passing == 0
        {
            leases.push(held);
        }
        if self.directory.pool.mode == PoolMode::Session {
            // Closed: DISCARD ALL would leave loaded libraries, the temporary schema and more,
            // and session mode is for those who want a session as PostgreSQL has it.
            leases.clear();
        }
        // What is not in the list is closed here, and PostgreSQL rolls back.
        for mut held in leases {
            if held.pins.is_empty() && held.doubt == Doubt::None && held.lease.changed_unasked().is_none() {
                self.worker.local.give_back(held.lease);
                continue;
            }
            if held.pins.outlives_discard() {
                continue;
            }
            let cleaned = tokio::time::timeout(CLEANING, held.lease.discard_all()).await;
            if matches!(cleaned, Ok(Ok(()))) {
                self.worker.local.give_back(held.lease);
            }
        }
        self.registration.control.detached();
    }
}

/// How often a statement without a reader is cancelled, and how long the first try is given.
const CANCEL_TRIES: u32 = 5;
const CANCEL_PATIENCE: Duration = Duration::from_millis(100);

/// The note of a transaction's beginning that was sent ahead.
pub(super) const OPENED: u32 = u32::MAX;
/// The note of what brings a server in line.
pub(super) const ALIGNED: u32 = u32::MAX - 1;

/// Idle connections that may turn out to be dead, one after the other, before a statement fails.
const MOST_DEAD: usize = 64;

/// How long forgetting a session's state may take before its connection is closed instead.
const CLEANING: Duration = Duration::from_secs(5);

/// Has the server said that what was under way came to nothing? A PANIC may come up behind the commit
/// record: in the critical section that writes it, when another segment of the log cannot be made.
pub(super) fn is_certain(error: &ServerError) -> bool {
    match error {
        ServerError::Refused { body, .. } => {
            let code = wire::error_field(body, b'C').unwrap_or_default();
            // Another proxy that has lost the server says so in these classes.
            let is_told_by_others = code.starts_with(b"08") || code.starts_with(b"58");
            wire::error_field(body, b'V') != Some(b"PANIC") && !is_told_by_others
        }
        _ => false,
    }
}

/// A server's refusal of what pgring asked on the session's behalf.
pub(super) fn server_refusal(body: &[u8]) -> ClientError {
    let message = wire::error_field(body, b'M').map(|m| String::from_utf8_lossy(m).into_owned());
    let code = wire::error_field(body, b'C').and_then(SqlState::told).unwrap_or(SqlState::BAD_VALUE);
    let field = |field| wire::error_field(body, field).map(|text| String::from_utf8_lossy(text).into_owned());
    let (detail, hint) = (field(b'D').map(Into::into), field(b'H').map(Into::into));
    let message = message.unwrap_or_else(|| "the server refused".to_owned());
    ClientError { detail, hint, ..ClientError::error(code, message) }
}
