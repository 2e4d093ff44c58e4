//! Portals that several servers answer, under the extended protocol.
//!
//! Such a portal is on no server: it is what its `Bind` said, and runs at `Execute`. What it
//! changes outside a transaction is committed at the `Sync`, on all servers, as PostgreSQL does.

use super::rows::Described;
use super::{Asked, Fault};
use crate::error::{ClientError, SqlState};
use crate::execute::put_description;
use crate::ring::ShardId;
use crate::route::Why;
use crate::session::attach::Unattached;
use crate::session::prepared::Prepared;
use crate::session::state::{End, Session};
use crate::wire::{self, Execute};
use std::rc::Rc;

/// What a `Bind` has made.
pub(in crate::session) struct Bound {
    statement: Rc<Prepared>,
    /// What stood behind its names.
    rest: Box<[u8]>,
    shards: Vec<ShardId>,
    why: Why,
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
        if self.tx.phase() != crate::txn::Phase::Idle || !self.has_company() {
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
        self.stand_alone().await?;
        Asked::bound(&statement.text, &statement.types, rest).map_err(End::from)?;
        self.tally.binds.inc();
        self.remember_portal(portal, &statement);
        self.distributed.insert(portal.into(), Bound { statement, rest: rest.into(), shards, why });
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
        let asked =
            Asked::bound(&bound.statement.text, &bound.statement.types, &bound.rest).map_err(End::from)?;
        // Every table is there.
        let mut members = self.assemble(&[self.database.topology.home]).await?;
        let described = self.describe_on_first(&mut members, &asked, &[asked.text]).await;
        self.disband(members);
        match described?.pop_front() {
            Some(Described { fields, .. }) if !fields.is_empty() => {
                put_description(&mut self.outbox, &fields, &asked.formats);
            }
            _ => self.outbox.put(&wire::NO_DATA),
        }
        Ok(())
    }

    pub(in crate::session) async fn execute_distributed(
        &mut self,
        execute: Execute<'_>,
        statement: &Rc<Prepared>,
    ) -> Result<(), Unattached> {
        self.stand_alone().await?;
        let Some(bound) = self.distributed.remove(execute.portal) else { return Ok(()) };
        let mut asked =
            Asked::bound(&bound.statement.text, &bound.statement.types, &bound.rest).map_err(End::from)?;
        asked.max_rows = u64::try_from(execute.max_rows).unwrap_or(0);
        let ran = self.run_distributed(&statement.shape, &asked, bound.shards.clone(), bound.why).await?;
        self.ran_here.push(execute.portal.into());
        if !ran {
            self.batch.skip();
            self.batch.failed = true;
        }
        Ok(())
    }

    fn fail_distributed(&mut self, fault: Fault) -> Result<(), Unattached> {
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
        match outcome {
            Ok(()) => {}
            Err(Fault::End(end)) => return Err(end),
            Err(Fault::Own(error)) => wire::put_error(&mut self.outbox, &error),
            Err(Fault::Frame(frame)) => self.outbox.put(&frame),
        }
        if std::mem::take(&mut self.batch.schema_changed) {
            self.database.read_schema_again().await;
            self.context = None;
        }
        Ok(())
    }
}
