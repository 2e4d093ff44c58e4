//! `Query`: one message, any number of statements.

use super::attach::Unattached;
use super::ready::Effect;
use super::settings::statement_texts;
use super::state::{End, Session};
use super::transaction::{Own, changes};
use crate::error::{ClientError, SqlState};
use crate::execute::Expect;
use crate::route::Parameters;
use crate::sql::{Kind, Pin, Shape, Statement, Target, ValueSlot};
use crate::txn::{Change, Phase};
use crate::wire::{self, Header, TxStatus};
use std::rc::Rc;
use std::time::Instant;

impl Session {
    /// Works on one frame of the client's, which lies at the start of the inbox.
    pub(super) async fn frame(&mut self, head: Header) -> Result<(), End> {
        // The inbox is put aside so that its bytes can be looked at while the session changes.
        let mut inbox = std::mem::take(&mut self.inbox);
        let whole = inbox.len() >= head.len;
        let frame = &inbox.filled()[..head.len.min(inbox.len())];
        let outcome = self.message(head, frame, whole).await;
        if whole {
            inbox.consume(head.len);
        } else {
            if self.passing == 0 {
                // It was refused: its rest has no reader.
                self.passing = head.len - inbox.len();
                self.passing_nowhere = true;
            }
            inbox.clear();
        }
        self.inbox = inbox;
        outcome
    }

    async fn message(&mut self, head: Header, frame: &[u8], whole: bool) -> Result<(), End> {
        self.refresh_directory()?;
        let body = &frame[wire::HEADER_LEN..];
        debug_assert!(whole || head.tag == b'B');
        match head.tag {
            b'Q' if self.batch.is_skipping() => Ok(()),
            b'Q' => {
                let outcome = self.query(frame, wire::query_text(body)?).await;
                self.settle_query(outcome).await
            }
            b'F' if self.batch.is_skipping() => Ok(()),
            b'F' => {
                let outcome = self.function_call(frame).await;
                self.settle_query(outcome).await
            }
            b'd' | b'c' | b'f' => {
                self.copy_message(head.tag, frame);
                Ok(())
            }
            b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S' => self.extended(head, frame).await,
            tag => Err(ClientError::protocol(format!("invalid frontend message type {tag}")).into()),
        }
    }

    /// What became of a `Query`: its server answers, or pgring has to.
    async fn settle_query(&mut self, outcome: Result<(), Unattached>) -> Result<(), End> {
        match outcome {
            Ok(()) => Ok(()),
            // The batch before it has failed, and PostgreSQL ignores a Query too until the Sync.
            Err(Unattached::Told) => Ok(()),
            Err(Unattached::End(end)) => Err(end),
            Err(Unattached::Refused(error)) => {
                self.undo_unsynced().await?;
                wire::put_error(&mut self.outbox, &error);
                self.tx.fail();
                self.ready_without_server();
                Ok(())
            }
        }
    }

    async fn query(&mut self, frame: &[u8], text: &[u8]) -> Result<(), Unattached> {
        // A simple query ends the life of the unnamed statement and portal.
        self.unnamed = None;
        self.unnamed_portal = None;
        if self.batch.has_deferred() {
            self.flush_deferred_anywhere().await?;
        }
        let mut shape = self.shape(text)?;
        if self.unknown_table.get() {
            Box::pin(self.knows_more_tables()).await;
            // Anew in any case: the lexer has read other sessions' texts meanwhile.
            shape = self.shape(text)?;
            self.unknown_table.set(false);
        }
        if shape.statements.is_empty() {
            self.say(&wire::EMPTY_QUERY);
            return self.finish_query_here().await;
        }
        self.refuse_if_failed(&shape)?;
        self.refuse_unknown_settings(&shape, text)?;
        refuse_own_among_others(&shape)?;
        let mut instead = None;
        if let [only] = &shape.statements[..]
            && Session::may_be_own(&only.kind)
        {
            match self.own_statement(&shape, text).await? {
                Own::NotOurs => {}
                Own::Instead(statement) => instead = Some(statement),
                Own::Error(error) => return Err(error.into()),
                own => {
                    self.answer(&own, true);
                    return self.finish_query_here().await;
                }
            }
        }
        let shard = {
            let worker = Rc::clone(&self.worker);
            let lexed = worker.lexed.borrow();
            self.route(&shape, text, &lexed, &Parameters::none())?
        };
        self.attach(shard).await?;
        let note = self.plan_effects(&shape, text);
        let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
        let server = &mut *held.lease;
        server.unnamed = 0;
        match instead {
            Some(statement) => wire::put_query(&mut server.outbox, statement.as_bytes()),
            None => server.outbox.put(frame),
        }
        self.relay.expect(Expect::Query { note });
        self.started();
        Ok(())
    }

    /// The query was answered without a server: what came before it may still be under way.
    async fn finish_query_here(&mut self) -> Result<(), Unattached> {
        self.undo_nothing_but_sync().await?;
        self.ready_without_server();
        Ok(())
    }

    /// A `ReadyForQuery` of pgring's own.
    pub(super) fn ready_without_server(&mut self) {
        self.batch.clear();
        self.batch.answered();
        let status = self.status();
        if status == TxStatus::Idle {
            self.portals.clear();
            self.unnamed_portal = None;
        }
        wire::put_ready(&mut self.outbox, status);
        self.registration.control.active.set(status != TxStatus::Idle);
        self.idle_since = Instant::now();
    }

    async fn function_call(&mut self, frame: &[u8]) -> Result<(), Unattached> {
        if self.batch.has_deferred() {
            self.flush_deferred_anywhere().await?;
        }
        if self.tx.is_failed() {
            self.refuse_if_failed(&Shape::default())?;
        }
        // Which data a function touches cannot be read from its number. Those that drivers call
        // this way are the large objects', and they live on the home shard.
        let shard = self.database.topology.home;
        self.attach(shard).await?;
        let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
        held.lease.outbox.put(frame);
        self.relay.expect(Expect::Function);
        self.started();
        Ok(())
    }

    /// Notes when the statement began, for the histogram and the time limit.
    pub(super) fn started(&mut self) {
        let control = &self.registration.control;
        if self.began.is_none() {
            let now = Instant::now();
            self.began = Some((now, self.access_kind));
            self.transaction_began.get_or_insert(now);
            control.asked.set(Some(now));
        }
        control.running.set(true);
        control.active.set(true);
    }

    /// Refuses what would make later statements be read otherwise than the servers read them.
    pub(super) fn refuse_unknown_settings(&self, shape: &Shape, text: &[u8]) -> Result<(), ClientError> {
        let statements = &shape.statements;
        if let [only] = &statements[..]
            && only.pin.is_none()
            && !has_effect(&only.kind)
        {
            return Ok(());
        }
        if self.tx.phase() != Phase::Idle {
            self.refuse_reset_to_start(shape)?;
        }
        if self.database.is_one_shard() {
            return Ok(());
        }
        let unfollowed = |statement: &Statement| {
            statement.pin == Some(Pin::Setting)
                || matches!(&statement.kind, Kind::SetConfig { value: ValueSlot::Param(_), .. })
        };
        if statements.iter().any(unfollowed) {
            return Err(ClientError::refused(
                "set_config() with values that are not constants cannot be followed across shards",
                "Use SET, or set_config() with constants as the only expression of a SELECT.",
            ));
        }
        let changes_reading = |statement: &Statement| match &statement.kind {
            Kind::Set { name, .. } | Kind::Reset { name } | Kind::SetConfig { name, .. } => {
                is_read_by_routing(name)
            }
            Kind::ResetAll | Kind::DiscardAll => true,
            Kind::Rollback { .. } | Kind::RollbackTo(_) | Kind::Commit { .. } => {
                self.tx.changes().iter().any(|change| match change {
                    Change::Set(name, ..) | Change::Reset(name) => is_read_by_routing(name),
                    Change::ResetAll => true,
                })
            }
            _ => false,
        };
        if let Some(first) = statements.iter().position(changes_reading) {
            if statements[first + 1..].iter().any(|later| later.target != Target::Nothing) {
                return Err(ClientError::refused(
                    "a setting that routing depends on cannot change within one query string",
                    "Send the statements one by one.",
                ));
            }
            let texts = statement_texts(text, statements.len(), self.standard_conforming_strings);
            for (statement, source) in statements.iter().zip(&texts) {
                let Kind::Set { name, default: false, .. } = &statement.kind else { continue };
                if name == "search_path" && super::settings::path_of_statement(source, "").is_none() {
                    return Err(ClientError::refused(
                        "this spelling of a search_path cannot be followed across shards",
                        "Write its schemas as plain names or plain strings.",
                    ));
                }
            }
        }
        Ok(())
    }

    /// `RESET` goes back to what the session began with. A server that others use too does not
    /// know that value, and within a transaction it cannot be brought in line behind the scenes.
    fn refuse_reset_to_start(&self, shape: &Shape) -> Result<(), ClientError> {
        let at_start = shape.statements.iter().any(|statement| match &statement.kind {
            Kind::Reset { name } | Kind::Set { name, default: true, .. } => self.initial.get(name).is_some(),
            Kind::ResetAll => self.initial.has_more_than("application_name"),
            _ => false,
        });
        if at_start {
            return Err(ClientError::refused(
                "a parameter given at the connection's start cannot be reset within a transaction",
                "SET it to its value, or RESET it outside the transaction.",
            ));
        }
        Ok(())
    }

    /// Remembers what the statements of a text will do to the session, if anything; the number by
    /// which the relay tells that the first of them has run.
    pub(super) fn plan_effects(&mut self, shape: &Shape, text: &[u8]) -> Option<u32> {
        let plain = |statement: &Statement| statement.pin.is_none() && !has_effect(&statement.kind);
        if shape.statements.iter().all(plain) {
            return None;
        }
        let texts = statement_texts(text, shape.statements.len(), self.standard_conforming_strings);
        let note = u32::try_from(self.effects.len()).unwrap_or(u32::MAX);
        for (at, statement) in shape.statements.iter().enumerate() {
            let source = texts.get(at).cloned().unwrap_or_default();
            let effect = self.effect(statement, source, text);
            let unknown_value = matches!(&statement.kind, Kind::SetConfig { value: ValueSlot::Param(_), .. });
            if let Some(pin) = statement.pin.or(unknown_value.then_some(Pin::Setting))
                && let Some(held) = &mut self.held
            {
                // From now on, whether or not the statement succeeds: better one too many.
                held.pin = Some(pin);
                self.registration.control.pinned.set(Some(pin));
            }
            self.effects.push(effect);
        }
        Some(note)
    }

    fn effect(&self, statement: &Statement, source: String, text: &[u8]) -> Effect {
        match &statement.kind {
            Kind::Set { .. } => Effect::Changes(changes(&statement.kind, &source)),
            Kind::SetConfig { name, local, value } => {
                match super::settings::literal(text, value, self.standard_conforming_strings) {
                    Some(value) => {
                        let statement = crate::backend::set_config_statement(name, &value);
                        Effect::Changes(vec![Change::Set(name.clone(), statement, *local)])
                    }
                    // Only the server knows the value: see plan_effects.
                    None => Effect::None,
                }
            }
            Kind::Reset { name } => Effect::Changes(vec![Change::Reset(name.clone())]),
            Kind::ResetAll => Effect::Changes(vec![Change::ResetAll]),
            Kind::Savepoint(name) => Effect::Savepoint(name.clone()),
            Kind::RollbackTo(name) => Effect::RollbackTo(name.clone()),
            Kind::Release(name) => Effect::Release(name.clone()),
            Kind::Commit { .. } => Effect::Commit,
            Kind::Rollback { .. } => Effect::Rollback,
            Kind::Ddl => Effect::Ddl,
            Kind::Deallocate(None) => Effect::ForgetPrepared,
            Kind::DiscardAll => Effect::DiscardAll,
            _ => Effect::None,
        }
    }

    pub(super) fn is_committing(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Commit))
            && self.relay.is_busy()
            && self.tx.phase() == Phase::Open
    }
}

/// Do these parameters decide how a text is read?
pub(super) fn is_read_by_routing(name: &str) -> bool {
    matches!(
        name,
        "search_path" | "standard_conforming_strings" | "client_encoding" | "role" | "session_authorization"
    )
}

/// What pgring answers itself has no place among statements that a server runs as one message.
fn refuse_own_among_others(shape: &Shape) -> Result<(), ClientError> {
    let own = |kind: &Kind| match kind {
        Kind::Set { name, .. } | Kind::Reset { name } => name.starts_with("pgring."),
        Kind::ShowOwn(_) => true,
        _ => false,
    };
    if shape.statements.len() > 1 && shape.statements.iter().any(|statement| own(&statement.kind)) {
        return Err(ClientError::refused(
            "settings of pgring's own cannot stand in one message with other statements",
            "Send them as a statement of their own, or use a comment: /* pgring: shard=NAME */",
        ));
    }
    Ok(())
}

fn has_effect(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Set { .. }
            | Kind::SetConfig { .. }
            | Kind::Reset { .. }
            | Kind::ResetAll
            | Kind::Savepoint(_)
            | Kind::RollbackTo(_)
            | Kind::Release(_)
            | Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::Ddl
            | Kind::Deallocate(_)
            | Kind::DiscardAll
    )
}

/// The server was lost between getting it and using it.
pub(super) fn lost_at_once() -> ClientError {
    ClientError::error(SqlState::SERVER_LOST, "the connection to the shard was lost")
        .with_hint("The next statement gets a new connection.")
}
