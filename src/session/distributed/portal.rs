//! Portals that several servers answer, under the extended protocol.
//!
//! Such a portal is on no server: it is what its `Bind` said, and runs at `Execute`. What it
//! changes outside a transaction waits for the `Sync` and is committed there, on all servers.
//! With a limit of rows its answer is opened, and each `Execute` goes on where the last one ended.

use super::portion::{Keep, Opened};
use super::rows::Described;
use super::{Asked, Fault};
use crate::error::{ClientError, SqlState};
use crate::execute::put_description;
use crate::ring::ShardId;
use crate::route::Why;
use crate::session::attach::Unattached;
use crate::session::prepared::Prepared;
use crate::session::reads::Servers;
use crate::session::state::{End, Here, Session};
use crate::sql::{Access, Kind};
use crate::txn::Phase;
use crate::wire::{self, Execute};
use std::rc::Rc;

/// What a `Bind` has made.
pub(in crate::session) struct Bound {
    statement: Rc<Prepared>,
    /// What stood behind its names.
    rest: Box<[u8]>,
    shards: Vec<ShardId>,
    why: Why,
    source: Servers,
    /// What is left of its answer, once an `Execute` has had a limit.
    opened: Option<Opened>,
    /// How many savepoints there were: going back before that, it is gone.
    savepoints: usize,
}

/// An `Execute` that waits for the `Sync` behind it.
pub(in crate::session) struct AwaitsSync {
    portal: Box<[u8]>,
    max_rows: i32,
    statement: Rc<Prepared>,
}

impl Session {
    pub(in crate::session) fn is_distributed(&self, portal: &[u8]) -> bool {
        !self.distributed.is_empty() && self.distributed.contains_key(portal)
    }

    /// Whether there was one.
    pub(in crate::session) fn forget_distributed(&mut self, portal: &[u8]) -> bool {
        !self.distributed.is_empty() && self.distributed.remove(portal).is_some()
    }

    /// A statement of one shard in a pipeline whose transaction several have begun.
    pub(in crate::session) fn refuse_beside_company(&self) -> Result<(), ClientError> {
        if self.tx.phase() != Phase::Idle || !self.has_company() {
            return Ok(());
        }
        Err(ClientError::refused(
            "a pipeline without Sync is one transaction, and it has begun on several shards",
            "Send a Sync after a statement that touches several shards.",
        ))
    }

    pub(in crate::session) async fn bind_distributed(
        &mut self,
        portal: &[u8],
        statement: Rc<Prepared>,
        rest: &[u8],
        whole: bool,
        shards: Vec<ShardId>,
        why: Why,
    ) -> Result<(), Unattached> {
        if !whole {
            return Err(
                ClientError::error(SqlState::INTERNAL, "a Bind for several shards came in parts").into()
            );
        }
        if !statement.under.first.read_alike(&statement.under.now, statement.reading) {
            return Err(ClientError::refused(
                "the statement was prepared under other settings than are in force now",
                "Prepare it again.",
            )
            .into());
        }
        self.refuse_beside_company()?;
        let source = self.source;
        self.stand_alone().await?;
        Asked::bound(&statement.text, statement.known_types(), rest).map_err(End::from)?;
        self.tally.binds.inc();
        self.remember_portal(portal, &statement);
        self.cursors.remove(portal);
        let savepoints = self.tx.savepoints();
        let bound = Bound { statement, rest: rest.into(), shards, why, source, opened: None, savepoints };
        self.distributed.insert(portal.into(), bound);
        self.say(&wire::BIND_COMPLETE);
        Ok(())
    }

    pub(in crate::session) async fn describe_distributed(&mut self, portal: &[u8]) -> Result<(), Unattached> {
        self.stand_alone().await?;
        let Some(bound) = self.distributed.remove(portal) else { return Ok(()) };
        let outcome = self.describe_bound(&bound).await;
        self.distributed.insert(portal.into(), bound);
        match outcome {
            Ok(()) => Ok(()),
            Err(fault) => self.fail_distributed(fault),
        }
    }

    async fn describe_bound(&mut self, bound: &Bound) -> Result<(), Fault> {
        let asked = Asked::bound(&bound.statement.text, bound.statement.known_types(), &bound.rest)
            .map_err(End::from)?;
        if bound.shards.is_empty() {
            match self.fetched_cursor(&bound.statement.shape, asked.text) {
                Some(cursor) => self.describe_cursor(cursor.as_bytes()),
                None => self.outbox.put(&wire::NO_DATA),
            }
            return Ok(());
        }
        // Every table is there, at the latest.
        self.read_at_primary();
        let mut members = self.assemble(&[self.database.topology.home]).await?;
        let asked = Asked { prepared: Some(&bound.statement), ..asked };
        let described = self.describe_on_first(&mut members, &asked, &[asked.text]).await;
        self.disband(members);
        let described = described?.pop_front();
        if let (Some(described), Some(result)) = (&described, bound.statement.unknown_result())
            && let Some(shape) = described.result_shape()
        {
            result.set(shape);
        }
        match described {
            Some(Described { fields, .. }) if !fields.is_empty() => {
                put_description(&mut self.outbox, &fields, &asked.formats);
            }
            _ => self.outbox.put(&wire::NO_DATA),
        }
        Ok(())
    }

    /// A change outside a transaction is committed with its statement, on all shards; the pipeline it is in,
    /// with its `Sync`. So it is the last of its pipeline, or refused: it waits until that is seen.
    pub(in crate::session) async fn execute_distributed(
        &mut self,
        execute: Execute<'_>,
        statement: &Rc<Prepared>,
    ) -> Result<(), Unattached> {
        self.stand_alone().await?;
        let changes = statement.shape.statements.iter().any(|statement| statement.access == Access::Write);
        let copies = statement.shape.statements.iter().any(|statement| statement.kind == Kind::CopyIn);
        if changes && !copies && self.tx.phase() == Phase::Idle {
            self.refuse_beside_company()?;
            let portal = execute.portal.into();
            let statement = Rc::clone(statement);
            self.awaits_sync = Some(Box::new(AwaitsSync { portal, max_rows: execute.max_rows, statement }));
            return Ok(());
        }
        self.execute_distributed_now(execute, statement).await
    }

    /// What comes behind a change that waits for its `Sync`.
    pub(in crate::session) async fn meet_sync(&mut self, tag: u8) -> Result<(), Unattached> {
        // Of what is put off until the Sync, too, a Close does not matter.
        if tag == b'C' {
            return Ok(());
        }
        let Some(waiting) = self.awaits_sync.take() else { return Ok(()) };
        if tag != b'S' {
            return Err(ClientError::refused(
                "a change on several shards outside a transaction has to be the last statement before a Sync",
                "Send a Sync after it, or begin a transaction.",
            )
            .into());
        }
        let execute = Execute { portal: &waiting.portal, max_rows: waiting.max_rows };
        self.execute_distributed_now(execute, &waiting.statement).await
    }

    async fn execute_distributed_now(
        &mut self,
        execute: Execute<'_>,
        statement: &Rc<Prepared>,
    ) -> Result<(), Unattached> {
        self.stand_alone().await?;
        let Some(mut bound) = self.distributed.remove(execute.portal) else { return Ok(()) };
        let portal: Box<[u8]> = execute.portal.into();
        let most = u64::try_from(execute.max_rows).unwrap_or(0);
        let query = statement.shape.statements.first().is_some_and(|first| first.kind == Kind::Query);
        if bound.opened.is_none() {
            let keep = Keep::new(most);
            let mut asked = Asked::bound(&bound.statement.text, bound.statement.known_types(), &bound.rest)
                .map_err(End::from)?;
            asked.keep = (most > 0 && query).then_some(&keep);
            asked.prepared = Some(&bound.statement);
            if self.tx.phase() != Phase::Open {
                self.source = bound.source;
            }
            let ran = self.run_distributed(&statement.shape, &asked, bound.shards.clone(), bound.why).await?;
            if !ran {
                self.batch.skip();
                self.batch.failed = true;
                return Ok(());
            }
            bound.opened = keep.take();
            if self.tx.phase() == Phase::Idle {
                self.read_changed_schema().await;
            }
        }
        let Some(opened) = &mut bound.opened else {
            self.done_here.push((Here::Ran, portal));
            return Ok(());
        };
        self.registration.control.says(&bound.statement.text);
        self.started();
        let (count, tag) = ((most > 0).then_some(most), opened.tag);
        match Box::pin(self.portion(opened, count, true)).await {
            Ok(rows) if Some(rows) == count => self.outbox.put(&wire::PORTAL_SUSPENDED),
            Ok(rows) => match tag {
                Some(tag) => wire::put_complete(&mut self.outbox, tag),
                None => wire::put_complete(&mut self.outbox, &format!("SELECT {rows}")),
            },
            Err(fault) => return self.fail_distributed(fault),
        }
        self.distributed.insert(portal, bound);
        Ok(())
    }

    /// Closes a portal that several servers answer; whether there was one.
    pub(in crate::session) async fn close_distributed(&mut self, portal: &[u8]) -> Result<bool, Unattached> {
        let Some(bound) = self.distributed.remove(portal) else { return Ok(false) };
        if let Some(opened) = &bound.opened {
            self.stand_alone().await?;
            if let Err(fault) = Box::pin(self.close_opened(opened)).await {
                self.fail_distributed(fault)?;
                return Err(Unattached::Told);
            }
        }
        Ok(true)
    }

    /// What `ROLLBACK TO` the savepoint behind so many others takes with it.
    pub(in crate::session) fn forget_portals_behind(&mut self, savepoints: usize) {
        self.distributed.retain(|_, bound| bound.savepoints <= savepoints);
    }

    /// The savepoint behind so many others is released: what is younger is the outer one's.
    pub(in crate::session) fn keep_portals_behind(&mut self, savepoints: usize) {
        for bound in self.distributed.values_mut() {
            bound.savepoints = bound.savepoints.min(savepoints);
        }
    }

    /// A server's error, the whole message, of what a portal has run.
    pub(in crate::session) fn refused_by_server(&mut self, frame: Box<[u8]>) -> Result<(), Unattached> {
        self.fail_distributed(Fault::Frame(frame))
    }

    pub(super) fn fail_distributed(&mut self, fault: Fault) -> Result<(), Unattached> {
        match fault {
            Fault::End(end) => return Err(Unattached::End(end)),
            Fault::Own(error) => wire::put_error(&mut self.outbox, &error),
            Fault::Frame(frame) => self.outbox.put(&frame),
        }
        self.refused();
        self.batch.skip();
        self.batch.failed = true;
        Ok(())
    }

    /// The `Sync` of a pipeline that has changed several shards.
    pub(in crate::session) async fn end_implicit_company(&mut self) -> Result<(), End> {
        let undone = self.batch.is_skipping() || self.batch.failed;
        let outcome = if undone { self.roll_back_company().await } else { self.commit_company().await };
        self.settle_settings(!undone && outcome.is_ok());
        self.tx.finish();
        match outcome {
            Ok(()) => {}
            Err(Fault::End(end)) => return Err(end),
            Err(Fault::Own(error)) => wire::put_error(&mut self.outbox, &error),
            Err(Fault::Frame(frame)) => self.outbox.put(&frame),
        }
        self.read_changed_schema().await;
        Ok(())
    }
}
