//! What is put off until a server is known: `Parse`, and `Describe` before `Bind`. Where a statement
//! goes is decided at its `Bind`; a `Flush` or `Sync` before that shows that the client wants the
//! answers first, and any shard that has the tables can give them.

use super::attach::Unattached;
use super::batch::Deferred;
use super::prepared::Prepared;
use super::simple::lost_at_once;
use super::state::{Held, Session};
use crate::backend::PreparedNames;
use crate::error::{ClientError, SqlState};
use crate::execute::{Expect, ParameterTypes, ResultShape};
use crate::ring::ShardId;
use crate::sql::Kind;
use crate::txn::Phase;
use crate::wire::{self, TxStatus};
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// So many are put off at most.
const MOST: usize = 256;

impl Session {
    /// Asks for what was put off before there is too much of it.
    pub(super) async fn bound_deferred(&mut self) -> Result<(), Unattached> {
        if self.batch.deferred.len() < MOST {
            return Ok(());
        }
        Box::pin(self.flush_deferred_anywhere()).await
    }

    /// Whether the server has the statements that are about to be used must not hang on an
    /// earlier batch: after an error it would have skipped their `Parse`.
    pub(super) fn need_settled(&self, next: Option<(&Rc<Prepared>, bool)>) -> Result<(), Unattached> {
        if !self.relay.awaits_ready() {
            return Ok(());
        }
        let is_parsed_here = self
            .batch
            .deferred
            .iter()
            .any(|deferred| matches!(deferred, Deferred::Parse { named: false, .. }));
        let unsettled = |(statement, named): (&Rc<Prepared>, bool)| {
            if !statement.shape.mentions.is_empty() || statement.by_sql.is_some() {
                // What a server has by the client's own names is known when all is answered.
                true
            } else if named {
                self.relay.is_unsettled(statement.id)
            } else {
                !is_parsed_here && self.relay.is_unsettled(0)
            }
        };
        let mut used = self.batch.deferred.iter().map(Deferred::statement).chain(next);
        if used.any(unsettled) { Err(Unattached::Later) } else { Ok(()) }
    }

    /// A statement goes on having the result that its client was told, or is refused: PostgreSQL
    /// sees to that on the connection that has prepared it (`RevalidateCachedQuery`), but not on one
    /// that is about to do so for the first time, after the schema has changed.
    pub(super) async fn need_result_as_told(&mut self, statement: &Rc<Prepared>) -> Result<(), Unattached> {
        let Some(told) = statement.result.get() else { return Ok(()) };
        let change = self.database.schema_changes.load(Ordering::SeqCst);
        let knows = |held: &mut Held| held.lease.prepared.touch(statement.id);
        if statement.result_as_of.get() == change
            || self.is_by_name(statement)
            || self.held.as_mut().is_none_or(knows)
        {
            return Ok(());
        }
        if self.relay.awaits_ready() {
            return Err(Unattached::Later);
        }
        self.answers_known().await?;
        let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
        let server = &mut *held.lease;
        server.put_parse(b"", &statement.text, &statement.types);
        wire::put_describe_statement(&mut server.outbox, b"");
        server.unnamed = 0;
        let found = ResultShape::default();
        self.relay.expect(Expect::Parse { id: 0, shown: false });
        self.relay.expect(Expect::Describe { result: Some(found.clone()), parameters: None, shown: false });
        self.batch.send();
        self.answers_known().await?;
        if found.get() == Some(told) {
            statement.result_as_of.set(change);
            return Ok(());
        }
        let error = ClientError::error(SqlState::REFUSED, "cached plan must not change result type");
        Err(ClientError { routine: Some("RevalidateCachedQuery"), ..error }.into())
    }

    /// Of which type a parameter is that stands for a key and for something else is for a server to say:
    /// it is asked once, before the first `Bind` that is routed by it.
    pub(super) async fn need_types(&mut self, statement: &Rc<Prepared>) -> Result<(), Unattached> {
        if !statement.lacks_types() || self.database.is_one_shard() {
            return Ok(());
        }
        if self.relay.awaits_ready() {
            return Err(Unattached::Later);
        }
        self.read_at_primary();
        let shard = self.shard_to_describe(self.is_at_home(statement));
        Box::pin(self.attach_to_describe(shard)).await?;
        let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
        let server = &mut *held.lease;
        server.put_parse(b"", &statement.text, &statement.types);
        wire::put_describe_statement(&mut server.outbox, b"");
        server.unnamed = 0;
        let found = ParameterTypes::default();
        self.relay.expect(Expect::Parse { id: 0, shown: false });
        self.relay.expect(Expect::Describe { result: None, parameters: Some(found.clone()), shown: false });
        self.batch.send();
        self.answers_known().await?;
        statement.infer(found.get().unwrap_or_default());
        Ok(())
    }

    /// Has the held server have the statement; `shown` when the client waits for the
    /// `ParseComplete`.
    pub(super) fn prepare_on_held(
        &mut self,
        statement: &Rc<Prepared>,
        named: bool,
        ticket: u64,
        shown: bool,
    ) -> Result<(), Unattached> {
        let mut brought = self.bring_names(&statement.shape.mentions)?;
        let by_name = named && self.is_by_name(statement);
        if by_name && let Some(name) = &statement.by_sql {
            brought |= self.bring_name(name, statement, 1)?;
        }
        if brought {
            self.batch.send();
        }
        let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
        let server = &mut *held.lease;
        // In a failed transaction a Parse is refused, even of what is known already.
        let may_be_failed = self.tx.phase() == Phase::Open && self.relay.awaits_ready();
        let ask = shown && (server.status == TxStatus::Failed || may_be_failed);
        if by_name && !ask {
            if shown {
                self.say_parsed();
            }
            return Ok(());
        }
        if named {
            if server.prepared.touch(statement.id) {
                if ask {
                    server.put_parse(b"", &statement.text, &statement.types);
                    server.unnamed = 0;
                    self.relay.expect(Expect::Parse { id: 0, shown });
                    self.batch.send();
                } else if shown {
                    self.say_parsed();
                }
                return Ok(());
            }
            let behind = self.read_as_first(statement)?;
            let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
            let server = &mut *held.lease;
            let name = PreparedNames::name(statement.id);
            // What it executes has to stay beside it.
            let limit = self.directory.pool.prepared_statements.max(statement.shape.mentions.names.len() + 1);
            for evicted in server.prepared.insert(statement.id, limit) {
                super::sql_prepared::put_evicted(server, &mut self.relay, evicted);
            }
            self.tally.server_parses.inc();
            server.put_parse(&name, &statement.text, &statement.types);
            self.relay.expect(Expect::Parse { id: statement.id, shown });
            self.run_hidden(&behind);
        } else {
            // Each Parse of a client's is one of its own, and reaches the server: what a text
            // means may depend on when it is parsed.
            if server.unnamed == ticket && !ask {
                if shown {
                    self.say_parsed();
                }
                return Ok(());
            }
            let behind = self.read_as_first(statement)?;
            let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
            let server = &mut *held.lease;
            server.unnamed = ticket;
            self.tally.server_parses.inc();
            server.put_parse(b"", &statement.text, &statement.types);
            self.relay.expect(Expect::Parse { id: 0, shown });
            self.run_hidden(&behind);
        }
        self.batch.send();
        Ok(())
    }

    /// Has the held server parse a text for what is wrong with it. The client's unnamed statement stays.
    fn check_on_held(&mut self, statement: &Rc<Prepared>) -> Result<(), Unattached> {
        self.bring_names(&statement.shape.mentions)?;
        let behind = self.read_as_first(statement)?;
        let id = self.worker.new_number();
        let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
        let server = &mut *held.lease;
        let name = PreparedNames::name(id);
        self.tally.server_parses.inc();
        server.put_parse(&name, &statement.text, &statement.types);
        self.relay.expect(Expect::Parse { id, shown: false });
        super::sql_prepared::put_close(server, &mut self.relay, &name);
        self.run_hidden(&behind);
        self.batch.send();
        Ok(())
    }

    /// Sends what was put off to the held server.
    pub(super) fn flush_deferred_to_held(&mut self, next: Option<&Rc<Prepared>>) -> Result<(), Unattached> {
        for deferred in std::mem::take(&mut self.batch.deferred) {
            match deferred {
                // What has its tables elsewhere is prepared, and checked, where it is used.
                Deferred::Parse { statement, .. }
                    if !next.is_some_and(|next| Rc::ptr_eq(next, &statement))
                        && self.is_parsed_elsewhere(&statement) =>
                {
                    self.say_parsed();
                }
                Deferred::Parse { named, statement, ticket } => {
                    self.prepare_on_held(&statement, named, ticket, true)?;
                }
                Deferred::Check { statement } if self.is_parsed_elsewhere(&statement) => {}
                Deferred::Check { statement } => self.check_on_held(&statement)?,
                Deferred::Describe { named, statement, ticket } => {
                    self.prepare_on_held(&statement, named, ticket, false)?;
                    let name = self.name_on_server(&statement, named);
                    let Some(held) = &mut self.held else { return Err(lost_at_once().into()) };
                    wire::put_describe_statement(&mut held.lease.outbox, &name);
                    let result = if named { statement.unknown_result() } else { None };
                    self.relay.expect(Expect::Describe { result, parameters: None, shown: true });
                    self.batch.send();
                }
            }
        }
        Ok(())
    }

    pub(super) fn is_parsed_elsewhere(&self, statement: &Prepared) -> bool {
        self.is_elsewhere(statement) || self.is_parsed_here(statement)
    }

    /// Answers what was put off without a server, as far as it concerns statements that pgring
    /// answers itself.
    pub(super) fn flush_deferred_here(&mut self) {
        for deferred in std::mem::take(&mut self.batch.deferred) {
            match deferred {
                Deferred::Parse { .. } => self.say_parsed(),
                Deferred::Check { .. } => {}
                Deferred::Describe { statement, .. } => {
                    self.say_with(|out| wire::put_frame(out, b't', |out| out.put(&[0, 0])));
                    self.describe_own(&statement);
                }
            }
        }
    }

    pub(super) fn describe_own(&mut self, statement: &Prepared) {
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
        if !self.batch.has_deferred() {
            return Ok(());
        }
        let here = |deferred: &Deferred| self.is_parsed_here(deferred.statement().0);
        if self.batch.deferred.iter().all(here) {
            self.flush_deferred_here();
            return Ok(());
        }
        self.read_at_primary();
        let at_home = self.batch.deferred.iter().any(|deferred| self.is_at_home(deferred.statement().0));
        let shard = self.shard_to_describe(at_home);
        // The transaction does not begin for a description: it may go on elsewhere.
        Box::pin(self.attach_to_describe(shard)).await?;
        self.need_settled(None)?;
        self.flush_deferred_to_held(None)
    }

    /// Whose server describes statements; `at_home`: one of them has tables of the home shard.
    fn shard_to_describe(&self, at_home: bool) -> ShardId {
        match &self.held {
            Some(held) if self.batch.has_run() => held.shard,
            Some(held) if self.tx.phase() == Phase::Open && !at_home => held.shard,
            _ if at_home => self.database.topology.home,
            Some(held) => held.shard,
            None => self.nearest(),
        }
    }

    /// Is a statement one that no server has to parse? One that has the transaction has to: should
    /// that have failed, most are refused.
    pub(super) fn is_parsed_here(&self, statement: &Prepared) -> bool {
        let Some(first) = statement.shape.statements.first() else { return self.tx.is_failed() };
        match &first.kind {
            Kind::ShowOwn(_) => true,
            Kind::Set { name, .. } | Kind::Reset { name } => name.starts_with("pgring."),
            Kind::Begin
            | Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::DiscardAll
            | Kind::Savepoint(_)
            | Kind::RollbackTo(_)
            | Kind::Release(_) => self.tx.phase() != Phase::Open,
            _ => false,
        }
    }

    pub(super) fn say_parsed(&mut self) {
        self.say_confirming(&wire::PARSE_COMPLETE);
    }

    /// Answers a message about a statement, at its place.
    pub(super) fn say_confirming(&mut self, bytes: &'static [u8]) {
        if self.relay.is_busy() {
            self.relay.expect(Expect::Confirm(bytes));
        } else {
            self.outbox.put(bytes);
            self.batch.confirmed();
        }
    }
}
