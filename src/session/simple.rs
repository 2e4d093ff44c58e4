//! `Query`: one message, any number of statements.

use super::attach::Unattached;
use super::distributed::Destination;
use super::pins::asks_for_sequences;
use super::ready::Effect;
use super::settings::{ConfigValues, statement_texts};
use super::state::{End, Session};
use super::transaction::{Own, changes, is_characteristic, is_of_constraints, options_of};
use crate::config::PoolMode;
use crate::error::{ClientError, SqlState};
use crate::execute::{Event, Expect};
use crate::route::Parameters;
use crate::sql::{Access, ConfigCall, Kind, Pin, Shape, Statement, Target, makes_suspect, may_leave_state};
use crate::txn::{Change, Phase};
use crate::wire::{self, Header, TxStatus};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

impl Session {
    /// Works on one frame of the client's, which lies at the start of the inbox.
    pub(super) async fn frame(&mut self, head: Header) -> Result<(), End> {
        // The inbox is put aside so that its bytes can be looked at while the session changes.
        let mut inbox = std::mem::take(&mut self.inbox);
        let whole = inbox.len() >= head.len;
        let frame = &inbox.filled()[..head.len.min(inbox.len())];
        if self.database.has_readers {
            self.alone = match head.tag {
                b'B' => whole && is_last_of_batch(&inbox.filled()[head.len..]),
                tag => tag == b'Q',
            };
        }
        let outcome = self.message(head, frame, whole).await;
        if self.postponed {
            inbox.put(self.inbox.filled());
            self.inbox = inbox;
            return outcome;
        }
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
        // What has come while several servers were at work.
        inbox.put(self.inbox.filled());
        self.inbox = inbox;
        outcome?;
        match self.copying.take() {
            Some(copying) => Box::pin(self.copy_in(*copying)).await,
            None => Ok(()),
        }
    }

    async fn message(&mut self, head: Header, frame: &[u8], whole: bool) -> Result<(), End> {
        self.refresh_directory()?;
        let body = &frame[wire::HEADER_LEN..];
        debug_assert!(whole || head.tag == b'B');
        if self.awaits_sync.is_some() {
            let outcome = Box::pin(self.meet_sync(head.tag)).await;
            self.settle_extended(outcome, false).await?;
        }
        if matches!(head.tag, b'Q' | b'F' | b'P' | b'B' | b'D' | b'E')
            && let Some(lost) = self.unsaid.take()
        {
            let outcome = Err(Unattached::Refused(*lost));
            return match head.tag {
                b'Q' | b'F' => self.settle_query(outcome).await,
                _ => self.settle_extended(outcome, false).await,
            };
        }
        match head.tag {
            b'Q' if self.batch.is_skipping() => Ok(()),
            b'Q' => {
                let outcome = self.query(frame, wire::query_text(body)?).await;
                self.settle_query(outcome).await
            }
            b'F' if self.batch.is_skipping() => Ok(()),
            b'F' => {
                let outcome = Box::pin(self.function_call(frame)).await;
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
            Err(Unattached::Later) => {
                self.postpone();
                Ok(())
            }
            // An error of pgring's own counts when its turn has come.
            Err(Unattached::Refused(_)) if self.relay.awaits_ready() => {
                self.postpone();
                Ok(())
            }
            Err(Unattached::Refused(error)) => {
                if self.refuse_on_server(&error, false) {
                    return Box::pin(self.sync()).await;
                }
                wire::put_error(&mut self.outbox, &error);
                self.refused();
                self.ready_without_server();
                Ok(())
            }
        }
    }

    async fn query(&mut self, frame: &[u8], text: &[u8]) -> Result<(), Unattached> {
        let ahead = self.relay.awaits_ready();
        if ahead && self.batch.is_begun() {
            return Err(Unattached::Later);
        }
        if self.batch.is_begun() {
            // An error of what came before it would have the Query ignored.
            self.flush_deferred_anywhere().await?;
            self.answers_known().await?;
        }
        // A simple query ends the life of the unnamed statement and portal.
        self.unnamed = None;
        self.unnamed_portal = None;
        if ahead {
            self.batch.drops_unnamed();
        }
        if self.batch.has_deferred() {
            self.flush_deferred_anywhere().await?;
        }
        let mut shape = self.shape(text)?;
        if self.unknown_table.get() {
            Box::pin(self.knows_more_tables()).await?;
            // Anew in any case: the lexer has read other sessions' texts meanwhile.
            shape = self.shape(text)?;
        }
        let unknown_table = self.unknown_table.replace(false);
        let may_be_own = |statement: &Statement| Session::may_be_own(&statement.kind);
        let named = !shape.mentions.is_empty();
        if ahead && (named || shape.statements.is_empty() || shape.statements.iter().any(may_be_own)) {
            return Err(Unattached::Later);
        }
        if shape.statements.is_empty() {
            self.say(&wire::EMPTY_QUERY);
            return self.finish_query_here().await;
        }
        if shape.statements.len() > 1 && self.takes_turns(&shape, text) {
            Box::pin(self.stand_alone()).await?;
            return Box::pin(self.query_in_turns(&shape, text)).await;
        }
        self.refuse_if_failed(&shape)?;
        if unknown_table {
            let told = self.worker.lexed.borrow().hints().shard.is_some();
            self.refuse_new_tables(&shape, told)?;
        }
        self.refuse_unknown_settings(&shape, text, &ConfigValues::default())?;
        if asks_for_sequences(&shape) {
            Box::pin(self.refuse_or_keep_sequences()).await?;
        }
        refuse_own_among_others(&shape)?;
        self.refuse_control_among_others(&shape, text)?;
        self.refuse_discard_behind_others(&shape)?;
        self.refuse_unfollowed_names(&shape, text)?;
        let mut instead = None;
        if let [only] = &shape.statements[..]
            && Session::may_be_own(&only.kind)
        {
            match self.own_statement(&shape, text).await? {
                Own::NotOurs => {}
                Own::Instead(statement) => instead = Some(statement),
                Own::Reworded(reworded) => {
                    Box::pin(self.send_reworded(&reworded)).await?;
                    return Box::pin(self.sync()).await.map_err(Unattached::End);
                }
                Own::Error(error) => return Err(error.into()),
                Own::Refusal(frame) => {
                    self.outbox.put(&frame);
                    return self.finish_query_here().await;
                }
                own => {
                    self.answer(&own, true);
                    return self.finish_query_here().await;
                }
            }
        }
        let destination = {
            let worker = Rc::clone(&self.worker);
            let lexed = worker.lexed.borrow();
            self.route_by_name(&shape, text, &lexed, &Parameters::none())?
        };
        let shard = match destination {
            Destination::One(shard) => shard,
            Destination::Several(shards, why) => {
                Box::pin(self.stand_alone()).await?;
                if shape.mentions.execution.is_some() {
                    return Box::pin(self.query_executed(&shape, text, shards, why)).await;
                }
                return Box::pin(self.query_distributed(&shape, text, shards, why)).await;
            }
        };
        self.refuse_cursor_twice(&shape, shard)?;
        self.aim_past(&shape);
        self.attach(shard).await?;
        self.note_cursors(&shape, text, shard);
        self.bring_names(&shape.mentions)?;
        self.bring_names_in_strings(&shape.mentions, text)?;
        let note = self.plan_effects(&shape, text, &ConfigValues::default());
        let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
        let server = &mut *held.lease;
        server.unnamed = 0;
        match instead {
            Some(statement) => wire::put_query(&mut server.outbox, statement.as_bytes()),
            None => server.outbox.put(frame),
        }
        let asks_position = self.wants_position();
        if self.batch.is_sent() {
            // Should what came before it fail, the server ignores the Query.
            self.batch.note_unsure();
        }
        self.relay.expect(Expect::Query { note, asks_position });
        if asks_position {
            self.ask_position();
        }
        if !self.parked.is_empty() {
            self.waits_in_company(text);
        }
        self.started();
        self.batch.is_off();
        Ok(())
    }

    /// The query was answered without a server: what came before it may still be under way.
    async fn finish_query_here(&mut self) -> Result<(), Unattached> {
        self.sync_quietly().await?;
        self.ready_without_server();
        Ok(())
    }

    /// A `ReadyForQuery` of pgring's own.
    pub(super) fn ready_without_server(&mut self) {
        self.relay.emit(&mut self.outbox, &mut self.events);
        // Of this batch, and not to be taken for those of the next.
        self.events.retain(|event| {
            let confirmed = matches!(event, Event::Confirmed);
            if confirmed {
                self.batch.confirmed();
            }
            !confirmed
        });
        self.batch.is_off();
        self.batch.answered(false);
        let status = self.status();
        if status == TxStatus::Idle {
            self.forget_portals();
            self.config_values.clear();
            // An error may have come between parking it and coming back to it.
            self.hold_listener_if_free();
        }
        wire::put_ready(&mut self.outbox, status);
        self.began = None;
        self.asked_since = None;
        if status == TxStatus::Idle {
            self.transaction_began = None;
        }
        self.registration.control.rests();
        self.registration.control.active.set(status != TxStatus::Idle);
        self.idle_since = Instant::now();
    }

    async fn function_call(&mut self, frame: &[u8]) -> Result<(), Unattached> {
        let function = frame[wire::HEADER_LEN..].first_chunk().map_or(0, |oid| u32::from_be_bytes(*oid));
        if function == SET_CONFIG && !self.database.is_one_shard() {
            return Err(ClientError::refused(
                "set_config() by FunctionCall cannot be followed across shards",
                "Use SET, or set_config() with constants as the only expression of a SELECT.",
            )
            .into());
        }
        if self.relay.awaits_ready() {
            return Err(Unattached::Later);
        }
        if self.batch.has_deferred() {
            self.flush_deferred_anywhere().await?;
        }
        self.refuse_if_failed(&Shape::default())?;
        // Which data a function touches cannot be read from its number. Those that drivers call
        // this way are the large objects', and they live on the home shard.
        let shard = self.database.topology.home;
        self.may_write_in_company()?;
        self.note_writer(shard, false);
        self.read_at_primary();
        self.positions.writes(Some(shard), self.tracked_shards());
        self.access_kind = Access::Write;
        self.attach(shard).await?;
        let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
        held.lease.outbox.put(frame);
        if !LARGE_OBJECTS.contains(&function) {
            self.pin(Pin::Unread);
        }
        self.relay.expect(Expect::Function);
        self.started();
        self.batch.note_unsure();
        self.batch.is_off();
        Ok(())
    }

    /// Notes when the statement began, for the histogram and the time limit.
    pub(super) fn started(&mut self) {
        let control = &self.registration.control;
        if self.began.is_none() || self.asked_since.is_none() {
            let now = Instant::now();
            self.asked_since.get_or_insert(now);
            self.began.get_or_insert((now, self.access_kind));
            self.transaction_began.get_or_insert(now);
            control.asked.set(Some(now));
        }
        control.running.set(true);
        control.active.set(true);
    }

    /// `DISCARD ALL` behind what was sent without a `Sync`, or in a transaction.
    fn refuse_discard_behind_others(&self, shape: &Shape) -> Result<(), ClientError> {
        let Some(Kind::DiscardAll) = shape.statements.first().map(|first| &first.kind) else { return Ok(()) };
        let place = match self.tx.phase() {
            Phase::Open => "run inside a transaction block",
            _ if self.batch.has_run() => "be executed within a pipeline",
            _ => return Ok(()),
        };
        Err(ClientError::error(SqlState::new("25001"), format!("DISCARD ALL cannot {place}")))
    }

    /// Refuses what would make later statements be read otherwise than the servers read them.
    pub(super) fn refuse_unknown_settings(
        &self,
        shape: &Shape,
        text: &[u8],
        values: &ConfigValues,
    ) -> Result<(), ClientError> {
        let statements = &shape.statements;
        if let [only] = &statements[..]
            && only.pin.is_none()
            && !has_effect(&only.kind)
        {
            return Ok(());
        }
        if statements.len() > 1 {
            self.refuse_reset_to_start(shape)?;
        }
        refuse_own_config(shape)?;
        self.refuse_config_default(shape, values)?;
        if self.database.is_one_shard() {
            return Ok(());
        }
        self.refuse_unreadable_encodings(shape, text, values)?;
        let unfollowed = |statement: &Statement| match &statement.kind {
            Kind::SetConfig(calls) => calls.iter().any(|call| !values.know(call)),
            _ => statement.pin == Some(Pin::Setting),
        };
        if let Some(unfollowed) = statements.iter().find(|one| unfollowed(one)) {
            return Err(if unfollowed.kind == Kind::Other {
                ClientError::refused(
                    "SET … FROM CURRENT sets what only one server knows, which cannot be followed across shards",
                    "Write the value.",
                )
            } else {
                ClientError::refused(
                    "set_config() with values that are not constants cannot be followed across shards",
                    "Use SET, or set_config() with constants or parameters as the only expressions of a SELECT.",
                )
            });
        }
        let changes_reading = |statement: &Statement| match &statement.kind {
            Kind::Set { name, .. } | Kind::Reset { name } => is_read_by_routing(name),
            Kind::SetConfig(calls) => calls.iter().any(|call| is_read_by_routing(&call.name)),
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
                // Read as if a backslash were one.
                let is_odd = !self.standard_conforming_strings && source.contains('\\');
                if name == "search_path"
                    && (is_odd || super::settings::path_of_statement(source, "").is_none())
                {
                    return Err(ClientError::refused(
                        "this spelling of a search_path cannot be followed across shards",
                        "Write its schemas as plain names or plain strings.",
                    ));
                }
                let is_role = matches!(&**name, "role" | "session_authorization");
                if is_role && (is_odd || super::settings::role_of_statement(source).is_none()) {
                    return Err(ClientError::refused(
                        "this spelling of a role cannot be followed across shards",
                        "Write it as a plain name or a plain string.",
                    ));
                }
            }
        }
        Ok(())
    }

    /// `RESET` goes back to what the session began with. A server that others use too does not
    /// know that value, and among other statements it cannot be put in other words.
    fn refuse_reset_to_start(&self, shape: &Shape) -> Result<(), ClientError> {
        let (last, before) = match shape.statements.split_last() {
            // Nothing of the message runs behind it, and the next one finds the value the session
            // began with. (It is how asyncpg's pool takes a connection back.)
            Some((last, before)) if self.tx.phase() == Phase::Idle => (Some(last), before),
            _ => (None, &shape.statements[..]),
        };
        let undone = last.filter(|last| !matches!(last.kind, Kind::Reset { .. } | Kind::ResetAll));
        let at_start = before.iter().chain(undone).any(|statement| match &statement.kind {
            Kind::Reset { name } | Kind::Set { name, default: true, .. } => self.initial.get(name).is_some(),
            Kind::ResetAll => self.initial.has_more_than("application_name"),
            _ => false,
        });
        if at_start {
            return Err(ClientError::refused(
                "a parameter given at the connection's start cannot be reset together with other statements",
                "Send the statements one by one.",
            ));
        }
        Ok(())
    }

    /// `set_config()` without a value goes back to what the session began with, which a server that
    /// others use too does not know.
    fn refuse_config_default(&self, shape: &Shape, values: &ConfigValues) -> Result<(), ClientError> {
        let begun = |call: &ConfigCall| !values.know(call) && self.initial.get(&call.name).is_some();
        let at_start = |statement: &Statement| match &statement.kind {
            Kind::SetConfig(calls) => calls.iter().any(begun),
            _ => false,
        };
        if shape.statements.iter().any(at_start) {
            return Err(ClientError::refused(
                "a parameter given at the connection's start cannot be reset by set_config()",
                "Use RESET.",
            ));
        }
        Ok(())
    }

    /// Remembers what the statements of a text will do to the session, if anything; the number by
    /// which the relay tells that the first of them has run.
    pub(super) fn plan_effects(&mut self, shape: &Shape, text: &[u8], values: &ConfigValues) -> Option<u32> {
        self.batch.note(shape);
        self.note_follower();
        self.note_releases(shape, text);
        let plain = |statement: &Statement| statement.pin.is_none() && !has_effect(&statement.kind);
        if shape.statements.iter().all(plain) && shape.mentions.execution.is_none() {
            return None;
        }
        let texts = statement_texts(text, shape.statements.len(), self.standard_conforming_strings);
        let note = u32::try_from(self.effects.len()).unwrap_or(u32::MAX);
        for (at, statement) in shape.statements.iter().enumerate() {
            let source = texts.get(at).cloned().unwrap_or_default();
            let effect = match &statement.kind {
                // Alone it is the whole text, as the view of prepared statements shows it.
                Kind::Prepare(_) if shape.statements.len() == 1 => self.effect_of_prepare(text),
                Kind::Prepare(_) => self.effect_of_prepare(source.as_bytes()),
                _ => self.effect(statement, source.clone(), text, values),
            };
            let effect = match effect {
                Effect::Commit { chain, .. } => {
                    Effect::Commit { last: at + 1 == shape.statements.len(), chain }
                }
                effect => effect,
            };
            let code = statement.kind == Kind::Block
                && may_leave_state(source.as_bytes(), self.standard_conforming_strings);
            let pins = [
                statement.pin,
                code.then_some(Pin::Code),
                self.changes_code(statement, &source).then_some(Pin::Call),
                self.pin_unfollowed(statement, &source, values),
                self.pin_of_executed(shape, statement),
            ];
            pins.into_iter().flatten().for_each(|pin| self.pin(pin));
            self.effects.push(effect);
        }
        if self.effects[note as usize..].iter().all(|effect| matches!(effect, Effect::None)) {
            self.effects.truncate(note as usize);
            return None;
        }
        Some(note)
    }

    /// Something is sent behind what has been: a `COMMIT` there is not the last of its batch.
    fn note_follower(&mut self) {
        self.batch.committed.is_followed();
        for effect in &mut self.effects {
            if let Effect::Commit { last, .. } = effect {
                *last = false;
            }
        }
    }

    /// Does it make or alter a function that may leave something on its server, or what calls one? The
    /// next statement may call it, of the same transaction even.
    fn changes_code(&self, statement: &Statement, source: &str) -> bool {
        if statement.kind != Kind::Ddl || self.directory.pool.mode == PoolMode::Session {
            return false;
        }
        let text = source.as_bytes();
        let names =
            |word: &str| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()));
        let of_code = ["function", "procedure", "routine"].into_iter().any(names);
        let is_named =
            || self.database.schema.load().as_ref().is_none_or(|s| s.suspects().are_named_in(source));
        statement.pin == Some(Pin::Call)
            || names("extension")
            || (of_code && (makes_suspect(text, self.standard_conforming_strings) || is_named()))
    }

    /// What is in a statement that cannot be repeated on another server.
    fn pin_unfollowed(&self, statement: &Statement, source: &str, values: &ConfigValues) -> Option<Pin> {
        // A text in another encoding than the servers' is not kept as what it says.
        let foreign = || !self.same_encoding && !source.is_ascii();
        match &statement.kind {
            Kind::SetConfig(calls) if calls.iter().any(|call| !call.local && !values.know(call)) => {
                Some(Pin::Setting)
            }
            Kind::Set { .. } | Kind::SetConfig(_) if foreign() => Some(Pin::Setting),
            _ => None,
        }
    }

    fn effect(&self, statement: &Statement, source: String, text: &[u8], values: &ConfigValues) -> Effect {
        match &statement.kind {
            kind if is_characteristic(kind) && !self.database.is_one_shard() => Effect::Characterise(source),
            Kind::Set { .. } => Effect::Changes(changes(&statement.kind, &source)),
            Kind::SetConfig(calls) => {
                let change = |call: &ConfigCall| {
                    // Only the server knows some: see pin_unfollowed.
                    let value = values.value(call, text, self.standard_conforming_strings)?;
                    if is_planted(&call.name) {
                        return None;
                    }
                    let mut statement = crate::backend::set_config_statement(&call.name, &value);
                    if call.local {
                        // A shard that joins later is told it as it stands.
                        statement = crate::backend::set_config_local(&statement);
                    }
                    Some(Change::Set(call.name.clone(), statement, call.local))
                };
                Effect::Changes(calls.iter().filter_map(change).collect())
            }
            Kind::Reset { name } => Effect::Changes(vec![Change::Reset(name.clone())]),
            Kind::ResetAll => Effect::Changes(vec![Change::ResetAll]),
            Kind::Savepoint(name) => Effect::Savepoint(name.clone()),
            Kind::RollbackTo(name) => Effect::RollbackTo(name.clone()),
            Kind::Release(name) => Effect::Release(name.clone()),
            Kind::Begin => Effect::Begin(options_of(&source)),
            Kind::Commit { chain } => Effect::Commit { last: true, chain: *chain },
            Kind::TwoPhase => Effect::PrepareTransaction,
            Kind::Rollback { chain } => Effect::Rollback { chain: *chain },
            Kind::Ddl => Effect::Ddl { code: self.changes_code(statement, &source) },
            Kind::SetTransaction if self.database.is_one_shard() => Effect::None,
            Kind::SetTransaction if is_of_constraints(&source) => Effect::Note(source),
            Kind::SetTransaction => Effect::Characterise(source),
            Kind::Deallocate(Some(name)) => Effect::Deallocate(name.clone()),
            Kind::Deallocate(None) => Effect::ForgetPrepared,
            Kind::DiscardAll => Effect::DiscardAll,
            _ => Effect::None,
        }
    }

    /// A statement that makes a setting void runs although that cannot be had any more: a session
    /// whose role was dropped can leave it.
    pub(super) fn aim_past(&mut self, shape: &Shape) {
        let [only] = &shape.statements[..] else { return };
        let wanted = match &only.kind {
            // What is set of it leaves the other half as it is.
            Kind::Set { name, .. } if name == "datestyle" => return,
            Kind::Set { name, local: false, .. } | Kind::Reset { name } => self.settings.without(name),
            Kind::ResetAll => {
                let mut settings = (*self.settings).clone();
                settings.reset_all();
                settings
            }
            _ => return,
        };
        if self.lost_setting && self.tx.phase() == Phase::Idle && wanted != *self.settings {
            self.batch.aim_for(Some(Arc::new(wanted)));
        }
    }

    pub(super) fn is_committing(&self) -> bool {
        let ends = |effect: &Effect| matches!(effect, Effect::Commit { .. } | Effect::PrepareTransaction);
        self.effects.iter().any(ends) && self.relay.is_busy() && self.tx.phase() == Phase::Open
    }
}

/// Does nothing but the `Sync` follow that could need a server of its own?
fn is_last_of_batch(mut rest: &[u8]) -> bool {
    while let Ok(Some(head)) = wire::client_header(rest) {
        match head.tag {
            b'S' => return true,
            b'D' | b'E' | b'C' | b'H' => {}
            _ => return false,
        }
        match rest.get(head.len..) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    false
}

/// The functions of large objects (`pg_proc.dat`), which is what clients have `FunctionCall` for
/// (`fe-lobj.c`).
const LARGE_OBJECTS: [u32; 20] = [
    715, 764, 765, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172, 3457, 3458, 3459,
    3460,
];

/// `set_config()` (`pg_proc.dat`).
const SET_CONFIG: u32 = 2078;

/// Is this parameter an order rather than a value? It is not repeated anywhere.
pub(super) fn is_planted(name: &str) -> bool {
    name == "seed"
}

/// Do these parameters decide how a text is read?
pub(super) fn is_read_by_routing(name: &str) -> bool {
    matches!(
        name,
        "search_path" | "standard_conforming_strings" | "client_encoding" | "role" | "session_authorization"
    )
}

/// No server knows pgring's own settings, and would keep what it is told all the same.
fn refuse_own_config(shape: &Shape) -> Result<(), ClientError> {
    let own = |statement: &Statement| match &statement.kind {
        Kind::SetConfig(calls) => calls.iter().any(|call| call.name.starts_with("pgring.")),
        _ => false,
    };
    if shape.statements.iter().any(own) {
        return Err(ClientError::refused("set_config() cannot change settings of pgring's own", "Use SET."));
    }
    Ok(())
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
            | Kind::SetConfig(_)
            | Kind::Block
            | Kind::Reset { .. }
            | Kind::ResetAll
            | Kind::Savepoint(_)
            | Kind::RollbackTo(_)
            | Kind::Release(_)
            | Kind::Begin
            | Kind::Commit { .. }
            | Kind::TwoPhase
            | Kind::Rollback { .. }
            | Kind::Ddl
            | Kind::SetTransaction
            | Kind::Prepare(_)
            | Kind::Deallocate(_)
            | Kind::DiscardAll
    )
}

/// The server was lost between getting it and using it.
pub(super) fn lost_at_once() -> ClientError {
    ClientError::error(SqlState::SERVER_LOST, "the connection to the shard was lost")
        .with_hint("The next statement gets a new connection.")
}
