//! `Parse`, `Bind`, `Describe`, `Execute`, `Close`, `Flush`, `Sync`.
//!
//! Where a statement goes is known when its parameters are, at `Bind`. So a `Parse` and a
//! `Describe` before it are put off until then, or until a `Flush` or `Sync` shows that the
//! client wants them answered first: any shard can do that. A statement that a server does not
//! have yet is prepared there in passing.
//!
//! What pgring answers itself (a `BEGIN`, say) stands in the queue of expected answers at its
//! place, so that answers come in the order they were asked for.

use super::attach::Unattached;
use super::batch::Deferred;
use super::company::put_refusal;
use super::distributed::Destination;
use super::pins::asks_for_sequences;
use super::prepared::Prepared;
use super::ready::Effect;
use super::settings::ConfigValues;
use super::simple::lost_at_once;
use super::state::{End, Here, Session};
use super::transaction::{Own, failed_transaction};
use crate::backend::{set_config_local, set_config_statement};
use crate::error::{ClientError, SqlState};
use crate::execute::{Expect, ResultShape};
use crate::route::{self, Parameters};
use crate::sql::{ConfigCall, KeySlot, Kind, Statement, Target};
use crate::txn::Phase;
use crate::wire::{self, BindNames, Buffer, Execute, Header, Named, Parse, TxStatus};
use std::rc::Rc;

impl Session {
    pub(super) async fn extended(&mut self, head: Header, frame: &[u8]) -> Result<(), End> {
        if head.tag == b'S' {
            if self.relay.is_copying_in() {
                return Ok(());
            }
            return self.sync().await;
        }
        if self.relay.is_copying_in() && head.tag == b'H' {
            return Ok(());
        }
        self.batch.begin();
        if self.batch.is_skipping() {
            return Ok(());
        }
        let body = &frame[wire::HEADER_LEN..];
        let outcome = match head.tag {
            b'P' => self.parse(Parse::read(body)?).await,
            b'B' => self.bind(head, body).await,
            b'D' => self.describe(frame, Named::read(body)?).await,
            b'E' => self.execute(frame, Execute::read(body)?).await,
            b'C' => self.close(frame, Named::read(body)?).await,
            _ => self.flush().await,
        };
        // PostgreSQL drops the unnamed statement before it looks at the next one's text.
        let drops_unnamed = head.tag == b'P' && body.first() == Some(&0);
        self.settle_extended(outcome, drops_unnamed).await
    }

    /// What became of a message of a batch: its server answers, or pgring has to.
    pub(super) async fn settle_extended(
        &mut self,
        outcome: Result<(), Unattached>,
        drops_unnamed: bool,
    ) -> Result<(), End> {
        match outcome {
            Ok(()) => Ok(()),
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
            Err(Unattached::Refused(error)) => Box::pin(self.fail_batch(error, drops_unnamed)).await,
        }
    }

    /// An error of pgring's own, at its place among the answers; the rest of the batch is ignored.
    async fn fail_batch(&mut self, mut error: ClientError, mut drops_unnamed: bool) -> Result<(), End> {
        match Box::pin(self.flush_deferred_anywhere()).await {
            Ok(()) => {}
            Err(Unattached::End(end)) => return Err(end),
            // The batch has failed before.
            Err(Unattached::Told | Unattached::Later) => return Ok(()),
            Err(Unattached::Refused(earlier)) => (error, drops_unnamed) = (earlier, false),
        }
        let before = if drops_unnamed { self.unnamed.take() } else { None };
        if self.refuse_on_server(&error, drops_unnamed) {
            if drops_unnamed {
                self.batch.changes(b"", before.map(|before| (before, self.unnamed_ticket)));
            }
        } else {
            self.say_with(|out| wire::put_error(out, &error));
            self.batch.failed = true;
            self.refused();
        }
        self.batch.skip();
        Ok(())
    }

    /// Has the held server fail here, if it has heard of the transaction: where the statements
    /// under way begin or end one, and so what an error undoes, only the server knows. False: no
    /// server has to.
    pub(super) fn refuse_on_server(&mut self, error: &ClientError, parsing: bool) -> bool {
        if !self.batch.is_sent() && self.tx.phase() != Phase::Open {
            return false;
        }
        let Some(held) = &mut self.held else { return false };
        put_refusal(&mut held.lease.outbox);
        self.batch.send();
        self.batch.note_unsure();
        let mut words = Buffer::new();
        wire::put_error(&mut words, error);
        self.relay.expect(Expect::Refusal { error: words.filled().into(), parsing });
        // An error is told at once, and what stands before it.
        self.relay.flushed();
        self.started();
        true
    }

    /// Before several servers are asked together: what was only described has its answers.
    pub(super) async fn settle_unsynced(&mut self) -> Result<(), Unattached> {
        self.sync_quietly().await?;
        if self.batch.is_skipping() { Err(Unattached::Told) } else { Ok(()) }
    }

    /// Before pgring answers a `Query` itself: what was sent before is ended as by a `Sync`.
    pub(super) async fn sync_quietly(&mut self) -> Result<(), End> {
        if !self.batch.is_sent() {
            return Ok(());
        }
        if let Some(held) = &mut self.held {
            wire::put_sync(&mut held.lease.outbox);
            self.relay.expect(Expect::Sync { shown: false });
            Box::pin(self.finish_relay()).await?;
        }
        self.batch.sent_is_done();
        self.settle_hidden_sync()?;
        match self.held.as_ref().map(|held| held.lease.status) {
            Some(TxStatus::Open | TxStatus::Failed) => self.tx.is_open(),
            _ if self.tx.phase() == Phase::Pending => {}
            _ => {
                if self.batch.failed {
                    self.undone();
                } else {
                    self.committed();
                }
                self.tx.finish();
                self.effects.clear();
                self.detach_if_free();
            }
        }
        Ok(())
    }

    /// Settings that statements still under way may change decide how the next text is read, and
    /// what SQL prepares or deallocates decides what a name stands for: their answers are waited
    /// for.
    async fn settings_known(&mut self) -> Result<(), Unattached> {
        let may_change = |effect: &Effect| {
            matches!(
                effect,
                Effect::Changes(_)
                    | Effect::Rollback { .. }
                    | Effect::RollbackTo(_)
                    | Effect::Commit { .. }
                    | Effect::Prepare(_)
                    | Effect::Deallocate(_)
                    | Effect::ForgetPrepared
                    | Effect::DiscardAll
            )
        };
        if self.effects.iter().any(may_change) { self.answers_known().await } else { Ok(()) }
    }

    /// Waits for the answers of everything under way.
    pub(super) async fn answers_known(&mut self) -> Result<(), Unattached> {
        if self.relay.is_busy() {
            if let Some(held) = &mut self.held {
                wire::put_flush(&mut held.lease.outbox);
                self.relay.flushed();
                self.started();
            }
            Box::pin(self.finish_relay()).await?;
            if self.batch.is_skipping() || self.held.is_none() {
                return Err(Unattached::Told);
            }
        }
        Ok(())
    }

    async fn parse(&mut self, parse: Parse<'_>) -> Result<(), Unattached> {
        self.settings_known().await?;
        let named = !parse.name.is_empty();
        let mut statement = self.prepare(parse.query, parse.types)?;
        if statement.unknown_table {
            self.unknown_table.set(true);
            if Box::pin(self.knows_more_tables()).await? {
                statement = self.prepare(parse.query, parse.types)?;
            }
        }
        self.refuse_unfollowed_names(&statement.shape, parse.query)?;
        if statement.shape.statements.len() > 1 {
            // PostgreSQL's own words; a server is not needed for them.
            return Err(ClientError::error(
                SqlState::SYNTAX,
                "cannot insert multiple commands into a prepared statement",
            )
            .into());
        }
        if !statement.shape.statements.is_empty() {
            self.refuse_if_failed(&statement.shape)?;
            if self.tx.phase() == Phase::Open && self.is_parsed_here(&statement) {
                self.need_answers()?;
                self.answers_known().await?;
                if self.status() == TxStatus::Failed {
                    return Err(failed_transaction().into());
                }
            }
        }
        if named && self.batch.hangs(parse.name) {
            // A Close before it that is skipped leaves the name taken.
            self.need_answers()?;
        }
        if named && self.statements.contains_key(parse.name) {
            self.need_answers()?;
            self.batch.deferred.push(Deferred::Check { statement });
            let name = String::from_utf8_lossy(parse.name);
            return Err(ClientError::error(
                SqlState::DUPLICATE_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            )
            .into());
        }
        self.bound_deferred().await?;
        self.tally.client_parses.inc();
        if named {
            self.batch.changes(parse.name, None);
            self.statements.insert(parse.name.into(), Rc::clone(&statement));
            self.control().prepared.set(self.statements.len());
        } else {
            let before = self.unnamed.replace(Rc::clone(&statement));
            self.batch.changes(b"", before.map(|before| (before, self.unnamed_ticket)));
            self.unnamed_ticket = self.worker.new_number();
        }
        self.batch.deferred.push(Deferred::Parse { named, statement, ticket: self.unnamed_ticket });
        Ok(())
    }

    /// Can a `Bind` whose beginning lies in the inbox be sent on before its end has come? Where
    /// it goes must not depend on what is still to come.
    pub(super) fn can_bind_in_parts(&self) -> bool {
        if self.batch.is_skipping() {
            return false;
        }
        let Some(body) = self.inbox.filled().get(wire::HEADER_LEN..) else { return false };
        let Ok(names) = BindNames::read(body) else { return false };
        let statement = if names.statement.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.statements.get(names.statement)
        };
        let Some(statement) = statement else { return false };
        if !self.database.is_one_shard() && !statement.shape.statements.iter().all(has_one_key) {
            // It may need several shards.
            return false;
        }
        if statement.lacks_types() {
            return false;
        }
        let Ok(parameters) = Parameters::parse(&body[names.rest_at..], statement.known_oids()) else {
            return false;
        };
        match route::needs_parameters(&statement.shape) {
            Some(highest) if !self.database.is_one_shard() => parameters.get(highest).is_some(),
            _ => true,
        }
    }

    async fn bind(&mut self, head: Header, body: &[u8]) -> Result<(), Unattached> {
        let names = BindNames::read(body).map_err(End::from)?;
        self.settings_known().await?;
        let statement = self.statement(names.statement)?;
        self.refuse_if_failed(&statement.shape)?;
        if statement.unknown_table {
            self.refuse_new_tables(&statement.shape, statement.lexed.hints().shard.is_some())?;
        }
        let values = self.config_values(&statement, &body[names.rest_at..]);
        self.refuse_unknown_settings(&statement.shape, &statement.text, &values)?;
        if asks_for_sequences(&statement.shape) {
            Box::pin(self.refuse_or_keep_sequences()).await?;
        }
        self.remember_config_values(names.portal, &statement, values);
        if self.is_own_now(&statement) {
            self.need_answers()?;
            self.forget_distributed(names.portal);
            // An error of what is under way would have this one ignored.
            self.answers_known().await?;
            refuse_parameters(&names, &body[names.rest_at..])?;
            self.tally.binds.inc();
            let all_here = self.batch.deferred.iter().all(|deferred| {
                let (asked, _) = deferred.statement();
                self.is_parsed_here(asked)
                    || (self.tx.phase() != Phase::Open && Rc::ptr_eq(asked, &statement))
            });
            if all_here {
                self.flush_deferred_here();
            } else {
                self.flush_deferred_anywhere().await?;
                // Nor would there be a portal.
                self.answers_known().await?;
            }
            self.remember_portal(names.portal, &statement);
            self.done_here.push((Here::Bound, names.portal.into()));
            self.say(&wire::BIND_COMPLETE);
            return Ok(());
        }
        let rest = &body[names.rest_at..];
        self.need_types(&statement).await?;
        let destination = {
            let parameters = Parameters::parse(rest, statement.known_oids())
                .map_err(|error| ClientError::error(SqlState::PROTOCOL, error.to_string()))?;
            self.route_by_name(&statement.shape, &statement.text, &statement.lexed, &parameters)?
        };
        let shard = match destination {
            Destination::One(shard) => shard,
            Destination::Several(shards, why) => {
                let whole = body.len() == head.len - wire::HEADER_LEN;
                return Box::pin(self.bind_distributed(names.portal, statement, rest, whole, shards, why))
                    .await;
            }
        };
        self.refuse_beside_company()?;
        self.forget_distributed(names.portal);
        self.refuse_cursor_twice(&statement.shape, shard)?;
        self.aim_past(&statement.shape);
        self.attach(shard).await?;
        self.note_cursors(&statement.shape, &statement.text, shard);
        if !names.portal.is_empty() && self.tx.phase() != Phase::Idle && !self.database.is_one_shard() {
            self.note_portal(names.portal, shard, false);
        }
        let named = !names.statement.is_empty();
        self.need_settled(Some((&statement, named)))?;
        if named {
            self.need_result_as_told(&statement).await?;
        }
        self.tally.binds.inc();
        self.flush_deferred_to_held(Some(&statement))?;
        self.prepare_on_held(&statement, named, self.unnamed_ticket, false)?;
        let server_name = self.name_on_server(&statement, named);
        let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
        let server = &mut *held.lease;
        let rest_len = head.len - wire::HEADER_LEN - names.rest_at;
        wire::put_bind_head(&mut server.outbox, names.portal, &server_name, rest_len);
        server.outbox.put(rest);
        // What has not come yet is passed on as it comes.
        self.passing = rest_len - rest.len();
        self.passing_nowhere = false;
        self.relay.expect(Expect::Bind { shown: true });
        self.batch.run();
        self.remember_portal(names.portal, &statement);
        Ok(())
    }

    /// Pgring's own answers depend on what came before.
    pub(super) fn need_answers(&self) -> Result<(), Unattached> {
        if self.relay.awaits_ready() { Err(Unattached::Later) } else { Ok(()) }
    }

    /// What `set_config()` is given as parameters.
    fn config_values(&self, statement: &Prepared, rest: &[u8]) -> ConfigValues {
        let [only] = &statement.shape.statements[..] else { return ConfigValues::default() };
        let Kind::SetConfig(calls) = &only.kind else { return ConfigValues::default() };
        match Parameters::parse(rest, &statement.oids) {
            Ok(parameters) => ConfigValues::bound(calls, &parameters, self.same_encoding),
            Err(_) => ConfigValues::default(),
        }
    }

    fn remember_config_values(&mut self, portal: &[u8], statement: &Prepared, values: ConfigValues) {
        if matches!(&statement.shape.statements[..], [only] if matches!(only.kind, Kind::SetConfig(_))) {
            self.config_values.insert(portal.into(), values);
        }
    }

    /// A statement that pgring has answered itself cannot be run again; of the end of a
    /// transaction not even the portal is left.
    fn own_has_run(&mut self, portal: &[u8], statement: &Prepared) {
        let kind = statement.shape.statements.first().map(|first| &first.kind);
        if !matches!(kind, Some(Kind::Commit { .. } | Kind::Rollback { .. } | Kind::RollbackTo(_))) {
            self.done_here.push((Here::Ran, portal.into()));
        } else if portal.is_empty() {
            self.unnamed_portal = None;
        } else {
            self.portals.remove(portal);
        }
    }

    pub(super) fn remember_portal(&mut self, name: &[u8], statement: &Rc<Prepared>) {
        self.done_here.retain(|(_, portal)| **portal != *name);
        if name.is_empty() {
            self.unnamed_portal = Some(Rc::clone(statement));
        } else {
            self.portals.insert(name.into(), Rc::clone(statement));
        }
    }

    /// Would pgring answer this statement itself, as things stand?
    fn is_own_now(&self, statement: &Prepared) -> bool {
        let Some(first) = statement.shape.statements.first() else { return false };
        let elsewhere = self.tx.phase() == Phase::Open || self.batch.has_run();
        let pending = self.tx.phase() == Phase::Pending;
        match &first.kind {
            kind if self.concerns_company(kind) => true,
            Kind::Begin => !elsewhere,
            Kind::Commit { .. } => !elsewhere && (self.tx.changes().is_empty() || self.tx.is_failed()),
            Kind::Rollback { .. } => !elsewhere,
            Kind::Savepoint(_) | Kind::RollbackTo(_) | Kind::Release(_) | Kind::SetTransaction => pending,
            Kind::Set { name, .. } | Kind::Reset { name } if name.starts_with("pgring.") => true,
            kind @ (Kind::Set { .. } | Kind::Reset { .. } | Kind::ResetAll) => self.is_reworded_or_kept(kind),
            Kind::ShowOwn(_) | Kind::DiscardAll => true,
            Kind::Deallocate(_) => self.status() != TxStatus::Failed,
            _ => false,
        }
    }

    async fn describe(&mut self, frame: &[u8], named: Named<'_>) -> Result<(), Unattached> {
        match named {
            Named::Statement(name) => {
                let statement = self.statement(name)?;
                if self.tx.is_failed() && gives_rows(&statement) {
                    return Err(failed_transaction().into());
                }
                if let Some(cursor) = self.fetched_cursor(&statement.shape, &statement.text) {
                    // No server knows it.
                    Box::pin(self.stand_alone()).await?;
                    wire::put_frame(&mut self.outbox, b't', |out| out.put(&[0, 0]));
                    self.describe_cursor(cursor.as_bytes());
                    return Ok(());
                }
                self.bound_deferred().await?;
                let ticket = self.unnamed_ticket;
                self.batch.deferred.push(Deferred::Describe { named: !name.is_empty(), statement, ticket });
                Ok(())
            }
            Named::Portal(name) => {
                if self.is_distributed(name) {
                    return Box::pin(self.describe_distributed(name)).await;
                }
                if self.is_cursor_of_several(name) {
                    Box::pin(self.stand_alone()).await?;
                    self.describe_cursor(name);
                    return Ok(());
                }
                let result = match self.portal(name) {
                    Ok(statement) if self.is_done_here(Here::Bound, name) || self.is_own_now(&statement) => {
                        if self.batch.has_deferred() {
                            Box::pin(self.flush_deferred_anywhere()).await?;
                        }
                        self.describe_own(&statement);
                        return Ok(());
                    }
                    Ok(statement) => statement.unknown_result(),
                    // A cursor made by DECLARE is a portal as well; held, it outlives its transaction.
                    Err(error) if !self.may_have_cursors() => return Err(error.into()),
                    Err(_) => None,
                };
                self.pass_to_portal(name, frame).await?;
                self.relay.expect(Expect::Describe { result, parameters: None, shown: true });
                Ok(())
            }
        }
    }

    /// The held server may know portals that did not come about by a `Bind`.
    fn may_have_cursors(&self) -> bool {
        self.tx.phase() == Phase::Open || self.held.as_ref().is_some_and(|held| !held.pins.is_empty())
    }

    fn portal(&self, name: &[u8]) -> Result<Rc<Prepared>, ClientError> {
        let found = if name.is_empty() { self.unnamed_portal.as_ref() } else { self.portals.get(name) };
        found.cloned().ok_or_else(|| no_portal(name))
    }

    /// Passes on a message about a portal, which lives on the held server.
    async fn pass_to_portal(&mut self, name: &[u8], frame: &[u8]) -> Result<(), Unattached> {
        if self.batch.has_deferred() {
            Box::pin(self.flush_deferred_anywhere()).await?;
        }
        if let Some(shard) = self.portal_shard(name)
            && self.held.as_ref().is_some_and(|held| held.shard != shard)
        {
            Box::pin(self.attach(shard)).await?;
        }
        let Some(held) = &mut self.held else { return Err(no_portal(name).into()) };
        held.lease.outbox.put(frame);
        self.batch.send();
        Ok(())
    }

    async fn execute(&mut self, frame: &[u8], execute: Execute<'_>) -> Result<(), Unattached> {
        let statement = match self.portal(execute.portal) {
            Ok(statement) => statement,
            Err(_) if self.is_cursor_of_several(execute.portal) => {
                let most = u64::try_from(execute.max_rows).unwrap_or(0);
                return Box::pin(self.execute_cursor(execute.portal, most)).await;
            }
            // A cursor made by DECLARE is a portal as well; held, it outlives its transaction.
            Err(error) if !self.may_have_cursors() => return Err(error.into()),
            Err(_) => {
                self.pass_to_portal(execute.portal, frame).await?;
                self.relay.expect(Expect::Execute { note: None, shown: true });
                if !self.parked.is_empty() {
                    self.waits_in_company(b"");
                }
                self.started();
                return Ok(());
            }
        };
        self.refuse_if_failed(&statement.shape)?;
        if self.is_done_here(Here::Ran, execute.portal) {
            let name = String::from_utf8_lossy(execute.portal);
            let error =
                ClientError::error(SqlState::new("55000"), format!("portal \"{name}\" cannot be run"));
            return Err(error.into());
        }
        if self.is_distributed(execute.portal) {
            return Box::pin(self.execute_distributed(execute, &statement)).await;
        }
        // A portal that the server was told of has gone with the statement that failed.
        let is_lost = || {
            let kind = statement.shape.statements.first().map(|first| &first.kind);
            !self.has_company()
                && kind.is_some_and(|kind| self.chains_failed(kind))
                && !self.is_done_here(Here::Bound, execute.portal)
        };
        if self.is_own_now(&statement) && !is_lost() {
            self.need_answers()?;
            if self.batch.has_deferred() {
                Box::pin(self.flush_deferred_anywhere()).await?;
            }
            // An error of what is under way would have this one ignored.
            self.answers_known().await?;
            match self.own_statement(&statement.shape, &statement.text).await? {
                Own::Error(error) => return Err(error.into()),
                Own::Refusal(frame) => return self.refused_by_server(frame),
                Own::NotOurs | Own::Instead(_) => {
                    return Err(
                        ClientError::error(SqlState::INTERNAL, "the statement changed its nature").into()
                    );
                }
                Own::Reworded(reworded) => return Box::pin(self.send_reworded(&reworded)).await,
                own => {
                    self.answer(&own, false);
                    self.own_has_run(execute.portal, &statement);
                    return Ok(());
                }
            }
        }
        if let [Statement { kind: Kind::SetConfig(calls), .. }] = &statement.shape.statements[..]
            && self.has_company()
        {
            Box::pin(self.set_config_on_others(calls, execute.portal, &statement.text)).await?;
        }
        if self.is_done_here(Here::Bound, execute.portal) {
            self.bind_on_server(execute.portal, &statement).await?;
        }
        if self.tx.is_failed() && self.tx.phase() == Phase::Open {
            self.end_failed_on_server(execute.portal, &statement);
        }
        if !statement.shape.mentions.is_empty() {
            self.need_answers()?;
            // What it executes may have changed since it was bound.
            self.bring_names(&statement.shape.mentions)?;
        }
        if self.batch.has_deferred() {
            Box::pin(self.flush_deferred_anywhere()).await?;
        }
        let values = self.config_values.get(execute.portal).cloned().unwrap_or_default();
        let note = self.plan_effects(&statement.shape, &statement.text, &values);
        self.pass_to_portal(execute.portal, frame).await?;
        self.relay.expect(Expect::Execute { note, shown: true });
        if !self.parked.is_empty() {
            self.waits_in_company(&statement.text);
        }
        self.started();
        Ok(())
    }

    /// What is set on the server held for the transaction's others, too.
    async fn set_config_on_others(
        &mut self,
        calls: &[ConfigCall],
        portal: &[u8],
        text: &[u8],
    ) -> Result<(), Unattached> {
        let values = self.config_values.get(portal).cloned().unwrap_or_default();
        let mut statements = Vec::with_capacity(calls.len());
        for call in calls {
            let Some(value) = values.value(call, text, self.standard_conforming_strings) else {
                return Err(ClientError::refused(
                    "the transaction is on several shards, and only one of them knows this value",
                    "Use set_config() with constants or parameters.",
                )
                .into());
            };
            let statement = set_config_statement(&call.name, &value);
            statements.push(if call.local { set_config_local(&statement) } else { statement });
        }
        for at in (0..self.parked.len()).rev() {
            self.settle_parked(at).await?;
            let held = &mut self.parked[at];
            if held.lease.status == TxStatus::Open {
                held.lease.unnamed = 0;
                held.lease.ask_ahead(&statements.join("; ")).await;
            }
        }
        Ok(())
    }

    fn is_done_here(&self, what: Here, portal: &[u8]) -> bool {
        self.done_here.iter().any(|(done, name)| *done == what && **name == *portal)
    }

    /// What pgring was to answer when it was bound has become a server's to answer: a `COMMIT` behind
    /// which other statements were bound, say. It has no parameters, and gives no rows.
    async fn bind_on_server(&mut self, portal: &[u8], statement: &Rc<Prepared>) -> Result<(), Unattached> {
        self.need_answers()?;
        if self.batch.has_deferred() {
            Box::pin(self.flush_deferred_anywhere()).await?;
        }
        let shard = match &self.held {
            Some(held) => held.shard,
            None => self.favourite,
        };
        self.refuse_beside_company()?;
        self.aim_past(&statement.shape);
        Box::pin(self.attach(shard)).await?;
        let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
        let server = &mut *held.lease;
        wire::put_parse(&mut server.outbox, b"", &statement.text, &[]);
        wire::put_bind_plain(&mut server.outbox, portal, b"");
        server.unnamed = 0;
        self.relay.expect(Expect::Parse { id: 0, shown: false });
        self.relay.expect(Expect::Bind { shown: false });
        self.batch.run();
        self.done_here.retain(|(done, name)| *done != Here::Bound || **name != *portal);
        Ok(())
    }

    /// A `COMMIT` of a transaction that only pgring knows to have failed must not commit: the
    /// portal about to be executed is made anew as a `ROLLBACK`.
    fn end_failed_on_server(&mut self, portal: &[u8], statement: &Prepared) {
        let rollback = match statement.shape.statements.first().map(|first| &first.kind) {
            Some(Kind::Commit { chain: false }) => "ROLLBACK",
            Some(Kind::Commit { chain: true }) => "ROLLBACK AND CHAIN",
            _ => return,
        };
        let Some(held) = &mut self.held else { return };
        let server = &mut *held.lease;
        wire::put_close_portal(&mut server.outbox, portal);
        wire::put_parse(&mut server.outbox, b"", rollback.as_bytes(), &[]);
        wire::put_bind_plain(&mut server.outbox, portal, b"");
        server.unnamed = 0;
        self.relay.expect(Expect::Close { evicted: None, shown: false });
        self.relay.expect(Expect::Parse { id: 0, shown: false });
        self.relay.expect(Expect::Bind { shown: false });
    }

    async fn close(&mut self, frame: &[u8], named: Named<'_>) -> Result<(), Unattached> {
        match named {
            Named::Statement(name) => {
                // Servers keep it for others, until they need the room.
                if self.batch.has_deferred() {
                    self.flush_deferred_anywhere().await?;
                }
                self.settings_known().await?;
                let before = if name.is_empty() { self.unnamed.take() } else { self.statements.remove(name) };
                self.batch.changes(name, before.map(|before| (before, self.unnamed_ticket)));
                self.control().prepared.set(self.statements.len());
                self.say_confirming(&wire::CLOSE_COMPLETE);
            }
            Named::Portal(name) if self.is_cursor_of_several(name) => {
                Box::pin(self.close_cursor_as_portal(name)).await?;
            }
            Named::Portal(name) => {
                let distributed = self.is_distributed(name) && Box::pin(self.close_distributed(name)).await?;
                let known = if name.is_empty() {
                    self.unnamed_portal.take().is_some()
                } else {
                    self.portals.remove(name).is_some()
                };
                if !distributed && self.held.is_some() && (known || self.may_have_cursors()) {
                    self.pass_to_portal(name, frame).await?;
                    self.cursors.remove(name);
                    self.relay.expect(Expect::Close { evicted: None, shown: true });
                } else {
                    if self.batch.has_deferred() {
                        self.flush_deferred_anywhere().await?;
                    }
                    self.say(&wire::CLOSE_COMPLETE);
                }
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Unattached> {
        self.flush_deferred_anywhere().await?;
        if let Some(held) = &mut self.held
            && self.batch.is_sent()
        {
            wire::put_flush(&mut held.lease.outbox);
            if self.relay.is_busy() {
                self.relay.flushed();
                self.started();
            }
        }
        Ok(())
    }

    pub(super) async fn sync(&mut self) -> Result<(), End> {
        if self.relay.awaits_ready() && !self.batch.is_sent() && !self.batch.has_deferred() {
            self.postpone();
            return Ok(());
        }
        if self.tx.phase() == Phase::Idle && self.has_company() && !self.relay.awaits_ready() {
            Box::pin(self.end_implicit_company()).await?;
        }
        if !self.batch.is_skipping() {
            match self.flush_deferred_anywhere().await {
                Ok(()) => {}
                Err(Unattached::Told) => {}
                Err(Unattached::End(end)) => return Err(end),
                Err(Unattached::Later) => {
                    self.postpone();
                    return Ok(());
                }
                Err(Unattached::Refused(_)) if self.relay.awaits_ready() => {
                    self.postpone();
                    return Ok(());
                }
                Err(Unattached::Refused(error)) => Box::pin(self.fail_batch(error, false)).await?,
            }
        }
        if self.batch.is_sent()
            && let Some(held) = &mut self.held
        {
            wire::put_sync(&mut held.lease.outbox);
            let asks_position = self.wants_position();
            self.relay.expect(Expect::Sync { shown: !asks_position });
            if asks_position {
                self.ask_position();
            }
            self.started();
            self.batch.is_off();
            return Ok(());
        }
        if self.relay.awaits_ready() {
            // What was put off concerned pgring alone: only the end of the batch has to wait.
            self.postpone();
            return Ok(());
        }
        self.ready_without_server();
        if self.tx.phase() != Phase::Open {
            // A transaction that has only prepared statements keeps nobody waiting.
            self.detach_if_free();
        }
        Ok(())
    }
}

/// Does a statement belong to one shard, whatever its parameters are?
fn has_one_key(statement: &Statement) -> bool {
    match &statement.target {
        Target::Nothing | Target::Catalog | Target::Home => true,
        Target::Keys { keys, home, .. } => {
            !home
                && keys.len() == 1
                && !matches!(keys[0].slot, KeySlot::ParamArray(_) | KeySlot::LiteralArray(_))
        }
        _ => false,
    }
}

/// Has it a result that PostgreSQL does not describe in a failed transaction
/// (`exec_describe_statement_message`)?
fn gives_rows(statement: &Prepared) -> bool {
    let returns = || statement.text.windows(9).any(|part| part.eq_ignore_ascii_case(b"returning"));
    match (statement.result.get(), statement.shape.statements.first().map(|first| &first.kind)) {
        (Some(result), _) => result != ResultShape::NONE,
        (None, Some(Kind::Query | Kind::Execute(_) | Kind::SetConfig(_) | Kind::ShowOwn(_))) => true,
        (None, Some(Kind::Write)) => returns(),
        (None, _) => false,
    }
}

fn no_portal(name: &[u8]) -> ClientError {
    let name = String::from_utf8_lossy(name);
    ClientError::error(SqlState::NO_PORTAL, format!("portal \"{name}\" does not exist"))
}

/// No statement that pgring answers itself has any.
fn refuse_parameters(names: &BindNames<'_>, rest: &[u8]) -> Result<(), ClientError> {
    let count = Parameters::parse(rest, &[])?.count();
    if count == 0 {
        return Ok(());
    }
    let name = String::from_utf8_lossy(names.statement);
    Err(ClientError::error(
        SqlState::PROTOCOL,
        format!("bind message supplies {count} parameters, but prepared statement \"{name}\" requires 0"),
    ))
}
