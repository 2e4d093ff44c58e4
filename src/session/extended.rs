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
use super::prepared::Prepared;
use super::ready::Effect;
use super::simple::lost_at_once;
use super::state::{End, Session};
use super::transaction::{Own, needs_server};
use crate::backend::PreparedNames;
use crate::error::{ClientError, SqlState};
use crate::execute::Expect;
use crate::ring::ShardId;
use crate::route::{self, Parameters};
use crate::sql::{Kind, Lexed, Target};
use crate::txn::Phase;
use crate::wire::{self, BindNames, Execute, Header, Named, Parse, TxStatus};
use std::collections::VecDeque;
use std::rc::Rc;

/// What has been asked since the last `Sync`.
pub(super) struct Batch {
    deferred: Vec<Deferred>,
    /// Names of statements whose `Parse` has not been answered, in order.
    unconfirmed: VecDeque<Box<[u8]>>,
    /// Something has been asked.
    begun: bool,
    /// Something has been sent to the held server.
    sent: bool,
    /// A portal has been made there: data may have been touched.
    run: bool,
    /// After an error everything up to the `Sync` is ignored.
    skipping: bool,
    /// A statement has failed since the last `ReadyForQuery`.
    pub(super) failed: bool,
    /// The transaction was begun on the server since the last `ReadyForQuery`.
    pub(super) opened: bool,
    /// A `COMMIT` has been answered since the last `ReadyForQuery`.
    pub(super) committed: bool,
    /// The schema has been changed by what ran.
    pub(super) schema_changed: bool,
    /// The shard it went to last.
    pub(super) shard: ShardId,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch {
            deferred: Vec::new(),
            unconfirmed: VecDeque::new(),
            begun: false,
            sent: false,
            run: false,
            skipping: false,
            failed: false,
            opened: false,
            committed: false,
            schema_changed: false,
            shard: ShardId(0),
        }
    }
}

enum Deferred {
    /// A `Parse`, under the client's name.
    Parse { named: bool, statement: Rc<Prepared>, ticket: u64 },
    /// A `Describe` of a statement.
    Describe { named: bool, statement: Rc<Prepared>, ticket: u64 },
}

impl Batch {
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sent
    }

    pub(super) fn has_run(&self) -> bool {
        self.run
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.skipping
    }

    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// Ignores what follows up to the `Sync`.
    pub(super) fn skip(&mut self) {
        self.skipping = true;
        self.deferred.clear();
    }

    /// What was sent has been answered by a `ReadyForQuery` that the client does not see.
    pub(super) fn sent_is_done(&mut self) {
        self.sent = false;
        self.run = false;
    }

    /// The client's `Sync` is on its way, or answered.
    pub(super) fn clear(&mut self) {
        self.deferred.clear();
        self.begun = false;
        self.sent = false;
        self.run = false;
        self.skipping = false;
    }

    /// The client has its `ReadyForQuery`.
    pub(super) fn answered(&mut self) {
        self.failed = false;
        self.opened = false;
        self.committed = false;
        self.schema_changed = false;
    }

    /// A `COPY` under way: the `Sync` sent before its data does not count.
    pub(super) fn revive(&mut self) {
        self.begun = true;
        self.sent = true;
        self.run = true;
    }

    pub(super) fn parsed(&mut self) {
        self.unconfirmed.pop_front();
    }

    pub(super) fn take_unconfirmed(&mut self) -> VecDeque<Box<[u8]>> {
        std::mem::take(&mut self.unconfirmed)
    }
}

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
        self.batch.begun = true;
        if self.batch.skipping {
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
        match outcome {
            Ok(()) => Ok(()),
            Err(Unattached::Told) => Ok(()),
            Err(Unattached::End(end)) => Err(end),
            Err(Unattached::Refused(error)) => {
                self.fail_batch(&error);
                Ok(())
            }
        }
    }

    /// An error of pgring's own, at its place among the answers; the rest of the batch is ignored.
    fn fail_batch(&mut self, error: &ClientError) {
        for deferred in std::mem::take(&mut self.batch.deferred) {
            // These statements are not at fault: they exist, and are prepared when they are used.
            if let Deferred::Parse { .. } = deferred {
                self.say_parsed();
            }
        }
        self.say_with(|out| wire::put_error(out, error));
        self.batch.skip();
        self.batch.failed = true;
        if self.tx.phase() == Phase::Idle {
            self.undo_on_server();
        } else {
            self.tx.fail();
        }
    }

    /// What the batch has done on its server so far is one implicit transaction, which the error
    /// undoes as a whole.
    fn undo_on_server(&mut self) {
        if !self.batch.run {
            return;
        }
        let Some(held) = &mut self.held else { return };
        let server = &mut *held.lease;
        wire::put_parse(&mut server.outbox, b"", b"ROLLBACK", &[]);
        wire::put_bind_plain(&mut server.outbox, b"", b"");
        wire::put_execute(&mut server.outbox, b"");
        server.unnamed = 0;
        self.relay.expect(Expect::Parse { id: 0, shown: false });
        self.relay.expect(Expect::Bind { shown: false });
        self.relay.expect(Expect::Execute { note: None, shown: false });
    }

    /// Before an error is told outside a batch: undoes what an unsynced batch has done.
    pub(super) async fn undo_unsynced(&mut self) -> Result<(), End> {
        if self.tx.phase() == Phase::Idle {
            self.undo_on_server();
            self.batch.failed = true;
        }
        self.sync_quietly().await
    }

    /// Before pgring answers a `Query` itself: what was sent before has to be answered first.
    pub(super) async fn undo_nothing_but_sync(&mut self) -> Result<(), End> {
        self.sync_quietly().await
    }

    async fn sync_quietly(&mut self) -> Result<(), End> {
        if !self.batch.sent {
            return Ok(());
        }
        if let Some(held) = &mut self.held {
            wire::put_sync(&mut held.lease.outbox);
            self.relay.expect(Expect::Sync { shown: false });
            self.finish_relay().await?;
        }
        self.batch.sent_is_done();
        if self.tx.phase() == Phase::Idle {
            if self.batch.failed {
                self.undone();
            } else {
                self.committed();
            }
            self.effects.clear();
            self.detach_if_free();
        }
        Ok(())
    }

    fn say_parsed(&mut self) {
        if self.relay.is_busy() {
            self.relay.expect(Expect::Parsed);
        } else {
            self.outbox.put(&wire::PARSE_COMPLETE);
            self.batch.parsed();
        }
    }

    /// Settings that statements still under way may change decide how the next text is read:
    /// their answers are waited for.
    async fn settings_known(&mut self) -> Result<(), Unattached> {
        let may_change = |effect: &Effect| {
            matches!(
                effect,
                Effect::Changes(_)
                    | Effect::Rollback
                    | Effect::RollbackTo(_)
                    | Effect::Commit
                    | Effect::DiscardAll
            )
        };
        if self.relay.is_busy() && self.effects.iter().any(may_change) {
            if let Some(held) = &mut self.held {
                wire::put_flush(&mut held.lease.outbox);
            }
            self.finish_relay().await?;
            if self.batch.is_skipping() || self.held.is_none() {
                return Err(Unattached::Told);
            }
        }
        Ok(())
    }

    async fn parse(&mut self, parse: Parse<'_>) -> Result<(), Unattached> {
        self.settings_known().await?;
        let named = !parse.name.is_empty();
        if named && self.statements.contains_key(parse.name) {
            let name = String::from_utf8_lossy(parse.name);
            return Err(ClientError::error(
                SqlState::DUPLICATE_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            )
            .into());
        }
        let mut statement = self.prepare(parse.query, parse.types)?;
        if statement.unknown_table {
            self.unknown_table.set(true);
            if Box::pin(self.knows_more_tables()).await {
                statement = self.prepare(parse.query, parse.types)?;
            }
        }
        self.refuse_if_failed(&statement.shape)?;
        if let [first, _, ..] = &statement.shape.statements[..] {
            // PostgreSQL's own words; a server is not needed for them.
            let _ = first;
            return Err(ClientError::error(
                SqlState::SYNTAX,
                "cannot insert multiple commands into a prepared statement",
            )
            .into());
        }
        self.tally.client_parses.inc();
        self.batch.unconfirmed.push_back(parse.name.into());
        if named {
            self.statements.insert(parse.name.into(), Rc::clone(&statement));
            self.control().prepared.set(self.statements.len());
        } else {
            self.unnamed = Some(Rc::clone(&statement));
            self.unnamed_ticket = self.worker.new_number();
        }
        self.batch.deferred.push(Deferred::Parse { named, statement, ticket: self.unnamed_ticket });
        Ok(())
    }

    /// A text as a statement, analysed at most once.
    fn prepare(&mut self, text: &[u8], types: &[u8]) -> Result<Rc<Prepared>, ClientError> {
        let context = self.context()?;
        let variant = self.variant(text);
        let worker = Rc::clone(&self.worker);
        let mut interner = worker.interner.borrow_mut();
        interner.intern(text, types, (context, variant), || {
            let mut lexed = Lexed::default();
            let shape = self.shape_with(text, &mut lexed, context)?;
            let unknown_table = self.unknown_table.replace(false);
            let oids = types.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid)).collect();
            let id = worker.new_number();
            let (text, types) = (text.into(), types.into());
            Ok(Prepared { id, text, types, oids, shape, lexed, unknown_table, variant, context })
        })
    }

    /// What a server makes of a text when it parses it depends on settings too: a string that
    /// becomes a timestamp is read in the session's time zone and date style, there and then.
    /// Texts with such strings are shared only between sessions whose settings are alike, and not
    /// at all if they may stand for a moment (`'now'`, `'today'`).
    fn variant(&self, text: &[u8]) -> u64 {
        if !text.contains(&b'\'') && !text.contains(&b'$') {
            return 0;
        }
        let moment = [&b"now"[..], b"today", b"tomorrow", b"yesterday"];
        let mentions = |word: &&[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        if !self.tx.changes().is_empty() || (text.contains(&b'\'') && moment.iter().any(mentions)) {
            return self.worker.new_number();
        }
        self.settings.fingerprint_without("application_name")
    }

    /// The statement of this name; analysed anew if the schema or the search path have changed.
    fn statement(&mut self, name: &[u8]) -> Result<Rc<Prepared>, ClientError> {
        let found = if name.is_empty() { self.unnamed.clone() } else { self.statements.get(name).cloned() };
        let Some(found) = found else {
            return Err(if name.is_empty() {
                ClientError::error(SqlState::NO_STATEMENT, "unnamed prepared statement does not exist")
            } else {
                let name = String::from_utf8_lossy(name);
                ClientError::error(
                    SqlState::NO_STATEMENT,
                    format!("prepared statement \"{name}\" does not exist"),
                )
            });
        };
        if found.context == self.context()? {
            return Ok(found);
        }
        let renewed = self.prepare(&found.text.clone(), &found.types.clone())?;
        if name.is_empty() {
            self.unnamed = Some(Rc::clone(&renewed));
        } else {
            self.statements.insert(name.into(), Rc::clone(&renewed));
        }
        Ok(renewed)
    }

    /// Can a `Bind` whose beginning lies in the inbox be sent on before its end has come? Where
    /// it goes must not depend on what is still to come.
    pub(super) fn can_bind_in_parts(&self) -> bool {
        if self.batch.skipping {
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
        let Ok(parameters) = Parameters::parse(&body[names.rest_at..], &statement.oids) else { return false };
        match route::needs_parameters(&statement.shape) {
            Some(highest) if !self.database.is_one_shard() => parameters.get(highest).is_some(),
            _ => true,
        }
    }

    async fn bind(&mut self, head: Header, body: &[u8]) -> Result<(), Unattached> {
        let names = BindNames::read(body).map_err(End::from)?;
        self.tally.binds.inc();
        self.settings_known().await?;
        let statement = self.statement(names.statement)?;
        self.refuse_if_failed(&statement.shape)?;
        self.refuse_unknown_settings(&statement.shape, &statement.text)?;
        if self.is_own_now(&statement) {
            let all_here = self.batch.deferred.iter().all(|deferred| {
                let (Deferred::Parse { statement: asked, .. } | Deferred::Describe { statement: asked, .. }) =
                    deferred;
                let kind = asked.shape.statements.first().map(|s| &s.kind);
                Rc::ptr_eq(asked, &statement) || kind.is_some_and(Session::is_always_own)
            });
            if all_here {
                self.flush_deferred_here();
            } else {
                self.flush_deferred_anywhere().await?;
            }
            self.remember_portal(names.portal, &statement);
            self.say(&wire::BIND_COMPLETE);
            return Ok(());
        }
        let rest = &body[names.rest_at..];
        let shard = {
            let parameters = Parameters::parse(rest, &statement.oids)
                .map_err(|error| ClientError::error(SqlState::PROTOCOL, error.to_string()))?;
            self.route(&statement.shape, &statement.text, &statement.lexed, &parameters)?
        };
        self.attach(shard).await?;
        self.flush_deferred_to_held(Some(&statement))?;
        let named = !names.statement.is_empty();
        self.prepare_on_held(&statement, named, self.unnamed_ticket, false)?;
        let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
        let server = &mut *held.lease;
        let server_name = if named { PreparedNames::name(statement.id) } else { String::new() };
        let rest_len = head.len - wire::HEADER_LEN - names.rest_at;
        wire::put_bind_head(&mut server.outbox, names.portal, server_name.as_bytes(), rest_len);
        server.outbox.put(rest);
        // What has not come yet is passed on as it comes.
        self.passing = rest_len - rest.len();
        self.passing_nowhere = false;
        self.relay.expect(Expect::Bind { shown: true });
        self.batch.sent = true;
        self.batch.run = true;
        self.remember_portal(names.portal, &statement);
        Ok(())
    }

    fn remember_portal(&mut self, name: &[u8], statement: &Rc<Prepared>) {
        if name.is_empty() {
            self.unnamed_portal = Some(Rc::clone(statement));
        } else {
            self.portals.insert(name.into(), Rc::clone(statement));
        }
    }

    /// Would pgring answer this statement itself, as things stand?
    fn is_own_now(&self, statement: &Prepared) -> bool {
        let Some(first) = statement.shape.statements.first() else { return false };
        let elsewhere = self.tx.phase() == Phase::Open || self.batch.run;
        let pending = self.tx.phase() == Phase::Pending;
        match &first.kind {
            Kind::Begin => !elsewhere,
            Kind::Commit { .. } => !elsewhere && (self.tx.changes().is_empty() || self.tx.is_failed()),
            Kind::Rollback { .. } => !elsewhere,
            Kind::Savepoint(_) | Kind::RollbackTo(_) | Kind::Release(_) | Kind::SetTransaction => pending,
            Kind::Set { name, .. } | Kind::Reset { name } => {
                (pending && !needs_server(name)) || name.starts_with("pgring.")
            }
            Kind::ShowOwn(_) | Kind::DiscardAll => true,
            Kind::Deallocate(Some(name)) => self.statements.contains_key(name.as_bytes()),
            Kind::Deallocate(None) => !self.held.iter().any(|held| held.pin.is_some()),
            _ => false,
        }
    }

    /// Has the held server have the statement; `shown` when the client waits for the
    /// `ParseComplete`.
    fn prepare_on_held(
        &mut self,
        statement: &Rc<Prepared>,
        named: bool,
        ticket: u64,
        shown: bool,
    ) -> Result<(), Unattached> {
        let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
        let server = &mut *held.lease;
        // In a failed transaction a Parse is refused, even of what is known already.
        let ask = shown && server.status == TxStatus::Failed;
        if named {
            if server.prepared.touch(statement.id) {
                if ask {
                    wire::put_parse(&mut server.outbox, b"", &statement.text, &statement.types);
                    server.unnamed = 0;
                    self.relay.expect(Expect::Parse { id: 0, shown });
                    self.batch.sent = true;
                } else if shown {
                    self.say_parsed();
                }
                return Ok(());
            }
            let name = PreparedNames::name(statement.id);
            let limit = self.directory.pool.prepared_statements;
            if let Some(evicted) = server.prepared.insert(statement.id, limit) {
                wire::put_close_statement(&mut server.outbox, PreparedNames::name(evicted).as_bytes());
                self.relay.expect(Expect::Close { evicted: Some(evicted), shown: false });
            }
            self.tally.server_parses.inc();
            wire::put_parse(&mut server.outbox, name.as_bytes(), &statement.text, &statement.types);
            self.relay.expect(Expect::Parse { id: statement.id, shown });
        } else {
            // Each Parse of a client's is one of its own, and reaches the server: what a text
            // means may depend on when it is parsed.
            if server.unnamed == ticket && !ask {
                if shown {
                    self.say_parsed();
                }
                return Ok(());
            }
            server.unnamed = ticket;
            self.tally.server_parses.inc();
            wire::put_parse(&mut server.outbox, b"", &statement.text, &statement.types);
            self.relay.expect(Expect::Parse { id: 0, shown });
        }
        self.batch.sent = true;
        Ok(())
    }

    /// Sends what was put off to the held server.
    fn flush_deferred_to_held(&mut self, next: Option<&Rc<Prepared>>) -> Result<(), Unattached> {
        for deferred in std::mem::take(&mut self.batch.deferred) {
            match deferred {
                // Other statements than the one that goes here may have their tables elsewhere:
                // they are prepared, and checked, where they are used.
                Deferred::Parse { statement, .. }
                    if next.is_some_and(|next| !Rc::ptr_eq(next, &statement)) =>
                {
                    self.say_parsed();
                }
                Deferred::Parse { named, statement, ticket } => {
                    self.prepare_on_held(&statement, named, ticket, true)?;
                }
                Deferred::Describe { named, statement, ticket } => {
                    self.prepare_on_held(&statement, named, ticket, false)?;
                    let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
                    let name = if named { PreparedNames::name(statement.id) } else { String::new() };
                    wire::put_describe_statement(&mut held.lease.outbox, name.as_bytes());
                    self.relay.expect(Expect::Describe);
                    self.batch.sent = true;
                }
            }
        }
        Ok(())
    }

    /// Answers what was put off without a server, as far as it concerns statements that pgring
    /// answers itself.
    fn flush_deferred_here(&mut self) {
        for deferred in std::mem::take(&mut self.batch.deferred) {
            match deferred {
                Deferred::Parse { .. } => self.say_parsed(),
                Deferred::Describe { statement, .. } => {
                    self.say_with(|out| wire::put_frame(out, b't', |out| out.put(&[0, 0])));
                    self.describe_own(&statement);
                }
            }
        }
    }

    fn describe_own(&mut self, statement: &Prepared) {
        match statement.shape.statements.first().map(|first| &first.kind) {
            Some(Kind::ShowOwn(name)) => {
                let name = name.clone();
                self.say_with(|out| {
                    wire::put_row_description(
                        out,
                        [(name.as_str(), wire::ColumnType::Text, wire::Format::Text)].into_iter(),
                    );
                });
            }
            _ => self.say(&wire::NO_DATA),
        }
    }

    /// The client wants to know what was put off before it binds: any shard that has the tables
    /// can tell.
    pub(super) async fn flush_deferred_anywhere(&mut self) -> Result<(), Unattached> {
        if self.batch.deferred.is_empty() {
            return Ok(());
        }
        let all_own = self.batch.deferred.iter().all(|deferred| {
            let (Deferred::Parse { statement, .. } | Deferred::Describe { statement, .. }) = deferred;
            statement.shape.statements.first().is_some_and(|s| Session::is_always_own(&s.kind))
        });
        if all_own {
            self.flush_deferred_here();
            return Ok(());
        }
        let at_home =
            self.batch.deferred.iter().any(|deferred| {
                let (Deferred::Parse { statement, .. } | Deferred::Describe { statement, .. }) = deferred;
                statement.shape.statements.iter().any(|s| {
                    matches!(s.target, Target::Home | Target::Catalog | Target::Keys { home: true, .. })
                })
            });
        let shard = match &self.held {
            Some(held) if self.tx.phase() == Phase::Open || self.batch.run => held.shard,
            _ if at_home => self.database.topology.home,
            Some(held) => held.shard,
            None => self.nearest(),
        };
        // The transaction does not begin for a description: it may go on elsewhere.
        self.attach_to_describe(shard).await?;
        self.flush_deferred_to_held(None)
    }

    fn is_always_own(kind: &Kind) -> bool {
        match kind {
            Kind::Begin
            | Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::ShowOwn(_)
            | Kind::DiscardAll => true,
            Kind::Savepoint(_) | Kind::RollbackTo(_) | Kind::Release(_) => true,
            Kind::Set { name, .. } | Kind::Reset { name } => name.starts_with("pgring."),
            _ => false,
        }
    }

    async fn describe(&mut self, frame: &[u8], named: Named<'_>) -> Result<(), Unattached> {
        match named {
            Named::Statement(name) => {
                let statement = self.statement(name)?;
                let ticket = self.unnamed_ticket;
                self.batch.deferred.push(Deferred::Describe { named: !name.is_empty(), statement, ticket });
                Ok(())
            }
            Named::Portal(name) => {
                match self.portal(name) {
                    Ok(statement) if self.is_own_now(&statement) => {
                        self.describe_own(&statement);
                        return Ok(());
                    }
                    Ok(_) => {}
                    // A cursor made by DECLARE is a portal as well; held, it outlives its transaction.
                    Err(error) if !self.may_have_cursors() => return Err(error.into()),
                    Err(_) => {}
                }
                self.pass_to_portal(frame)?;
                self.relay.expect(Expect::Describe);
                Ok(())
            }
        }
    }

    /// The held server may know portals that did not come about by a `Bind`.
    fn may_have_cursors(&self) -> bool {
        self.tx.phase() == Phase::Open || self.held.as_ref().is_some_and(|held| held.pin.is_some())
    }

    fn portal(&self, name: &[u8]) -> Result<Rc<Prepared>, ClientError> {
        let found = if name.is_empty() { self.unnamed_portal.as_ref() } else { self.portals.get(name) };
        found.cloned().ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            ClientError::error(SqlState::NO_PORTAL, format!("portal \"{name}\" does not exist"))
        })
    }

    /// Passes on a message about a portal, which lives on the held server.
    fn pass_to_portal(&mut self, frame: &[u8]) -> Result<(), Unattached> {
        let Some(held) = &mut self.held else {
            return Err(ClientError::error(SqlState::NO_PORTAL, "portal does not exist").into());
        };
        held.lease.outbox.put(frame);
        self.batch.sent = true;
        Ok(())
    }

    async fn execute(&mut self, frame: &[u8], execute: Execute<'_>) -> Result<(), Unattached> {
        let statement = match self.portal(execute.portal) {
            Ok(statement) => statement,
            // A cursor made by DECLARE is a portal as well; held, it outlives its transaction.
            Err(error) if !self.may_have_cursors() => return Err(error.into()),
            Err(_) => {
                self.pass_to_portal(frame)?;
                self.relay.expect(Expect::Execute { note: None, shown: true });
                self.started();
                return Ok(());
            }
        };
        self.refuse_if_failed(&statement.shape)?;
        if self.is_own_now(&statement) {
            match self.own_statement(&statement.shape, &statement.text).await? {
                Own::Error(error) => return Err(error.into()),
                Own::NotOurs | Own::Instead(_) => {
                    return Err(
                        ClientError::error(SqlState::INTERNAL, "the statement changed its nature").into()
                    );
                }
                own => {
                    self.answer(&own, false);
                    return Ok(());
                }
            }
        }
        if self.tx.is_failed() && self.tx.phase() == Phase::Open {
            self.end_failed_on_server(&statement);
        }
        let note = self.plan_effects(&statement.shape, &statement.text);
        self.pass_to_portal(frame)?;
        self.relay.expect(Expect::Execute { note, shown: true });
        self.started();
        Ok(())
    }

    /// A `COMMIT` of a transaction that only pgring knows to have failed must not commit: the
    /// portal about to be executed is made anew as a `ROLLBACK`.
    fn end_failed_on_server(&mut self, statement: &Prepared) {
        let commits =
            matches!(statement.shape.statements.first().map(|s| &s.kind), Some(Kind::Commit { .. }));
        let Some(held) = &mut self.held else { return };
        if !commits || self.unnamed_portal.is_none() {
            return;
        }
        let server = &mut *held.lease;
        wire::put_parse(&mut server.outbox, b"", b"ROLLBACK", &[]);
        wire::put_bind_plain(&mut server.outbox, b"", b"");
        server.unnamed = 0;
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
                if name.is_empty() {
                    self.unnamed = None;
                } else {
                    self.statements.remove(name);
                    self.control().prepared.set(self.statements.len());
                }
                self.say(&wire::CLOSE_COMPLETE);
            }
            Named::Portal(name) => {
                let known = if name.is_empty() {
                    self.unnamed_portal.take().is_some()
                } else {
                    self.portals.remove(name).is_some()
                };
                if self.held.is_some() && (known || self.may_have_cursors()) {
                    self.pass_to_portal(frame)?;
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
            && self.batch.sent
        {
            wire::put_flush(&mut held.lease.outbox);
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), End> {
        if !self.batch.skipping {
            match self.flush_deferred_anywhere().await {
                Ok(()) => {}
                Err(Unattached::Told) => {}
                Err(Unattached::End(end)) => return Err(end),
                Err(Unattached::Refused(error)) => self.fail_batch(&error),
            }
        }
        if self.batch.sent
            && let Some(held) = &mut self.held
        {
            wire::put_sync(&mut held.lease.outbox);
            self.relay.expect(Expect::Sync { shown: true });
            self.started();
            self.batch.clear();
            return Ok(());
        }
        self.ready_without_server();
        if self.tx.phase() == Phase::Idle {
            self.detach_if_free();
        }
        Ok(())
    }
}
