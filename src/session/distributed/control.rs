//! A transaction on several servers: what begins, divides and ends it concerns them all. How it is
//! committed is [`super::commit`]'s.

use super::Fault;
use super::drive::{Discard, tags};
use super::team::Member;
use crate::backend::ServerError;
use crate::error::ClientError;
use crate::execute::Branch;
use crate::session::attach::{Unattached, server_refusal};
use crate::session::ready::Effect;
use crate::session::reworded::Reworded;
use crate::session::settings::statement_texts;
use crate::session::state::Session;
use crate::session::transaction::{
    Own, begin_tag, begun_already, changes, is_characteristic, is_of_constraints, no_savepoint, options_of,
};
use crate::sql::{Kind, Shape, Statement};
use crate::txn::{Change, Phase, says_read_only};
use crate::wire::{self, Buffer, TxStatus};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Session {
    /// Has to run on every server of the transaction, or to be put to its only one in other words: with
    /// what that would begin the next one of a chain, if this one has failed, is not known.
    pub(in crate::session) fn concerns_company(&self, kind: &Kind) -> bool {
        let everyone = matches!(
            kind,
            Kind::Commit { .. }
                | Kind::Rollback { .. }
                | Kind::Savepoint(_)
                | Kind::RollbackTo(_)
                | Kind::Release(_)
                | Kind::SetTransaction
                | Kind::Begin
        );
        let setting = match kind {
            Kind::Set { name, .. } | Kind::Reset { name } => !name.starts_with("pgring."),
            Kind::ResetAll => true,
            _ => false,
        };
        (everyone || setting) && self.has_company() || self.chains_failed(kind)
    }

    /// Would the only server of a failed transaction begin another one by it?
    pub(in crate::session) fn chains_failed(&self, kind: &Kind) -> bool {
        // What has ended in this batch has failed no more, whatever its server has said before.
        matches!(kind, Kind::Commit { chain: true } | Kind::Rollback { chain: true })
            && self.has_failed_on_server()
            && !self.batch.has_ended_transaction()
            && (self.tx.is_retold() || !self.database.is_one_shard())
    }

    /// Has the held server refused a statement of the transaction, and been sent nothing since that may have
    /// ended it?
    fn is_failed_there(&self) -> bool {
        self.has_failed_on_server() && !self.batch.is_sent() && !self.relay.is_busy()
    }

    /// What concerns several servers has no place among statements that one runs as one message.
    pub(in crate::session) fn refuse_control_among_others(
        &self,
        shape: &Shape,
        text: &[u8],
    ) -> Result<(), ClientError> {
        if !self.has_company() {
            return Ok(());
        }
        // One that says nothing but that there is a transaction reaches whom it may.
        let begins = |statement: &Statement| statement.kind == Kind::Begin;
        let texts = || statement_texts(text, shape.statements.len(), self.standard_conforming_strings);
        let says_more = shape.statements.iter().any(begins)
            && shape
                .statements
                .iter()
                .zip(texts())
                .any(|(one, text)| begins(one) && options_of(&text).is_some());
        let sets = |statement: &Statement| matches!(statement.kind, Kind::SetConfig(_));
        let concerns = |statement: &Statement| {
            let everyone = self.concerns_company(&statement.kind) && !begins(statement);
            everyone || sets(statement)
        };
        if shape.statements.iter().any(sets)
            || shape.statements.len() > 1 && (says_more || shape.statements.iter().any(concerns))
        {
            return Err(ClientError::refused(
                "the transaction is on several shards, and this would reach only one of them",
                "Send the statement alone; use SET instead of set_config().",
            ));
        }
        Ok(())
    }

    /// Runs it there, and does to the session what it does.
    pub(in crate::session) async fn control_company(
        &mut self,
        statement: &Statement,
        source: String,
    ) -> Result<Own, Unattached> {
        if let Kind::RollbackTo(name) = &statement.kind
            && self.tx.is_failed()
            && self.tx.depth_of(name).is_none()
        {
            // The servers that are left may know it, but a part of the transaction is lost.
            return Ok(Own::Error(no_savepoint(name)));
        }
        if matches!(statement.kind, Kind::Commit { .. } | Kind::Rollback { .. }) && self.is_failed_there() {
            self.tx.fail();
        }
        if statement.kind == Kind::Begin {
            return self.begin_company_again(&source).await;
        }
        if statement.kind == Kind::SetTransaction || is_characteristic(&statement.kind) {
            self.refuse_read_only(&source)?;
        }
        if matches!(statement.kind, Kind::Commit { chain: true })
            && !self.tx.is_failed()
            && self.tx.alters_defaults()
        {
            // The next one would begin by them.
            return Ok(Own::Error(ClientError::refused(
                "COMMIT AND CHAIN in a transaction on several shards that has set how transactions begin",
                "Send COMMIT, and BEGIN with the options that it is to have.",
            )));
        }
        self.registration.control.says(source.as_bytes());
        let commits = matches!(statement.kind, Kind::Commit { .. }) && !self.tx.is_failed();
        let chain = match statement.kind {
            Kind::Commit { chain } | Kind::Rollback { chain } => chain,
            _ => false,
        };
        let outcome = match &statement.kind {
            Kind::Commit { .. } if commits => self.commit_company().await,
            Kind::Commit { .. } | Kind::Rollback { .. } => self.roll_back_company().await,
            kind => match self.resetting(kind) {
                Some(reworded) => return self.reset_company(&reworded).await,
                None => self.on_company(&source, matches!(kind, Kind::RollbackTo(_))).await.map(drop),
            },
        };
        let ends = matches!(statement.kind, Kind::Commit { .. } | Kind::Rollback { .. });
        if ends && self.batch.schema_changed {
            // Others have prepared by the old one until now, or it is back.
            self.database.schema_changes.fetch_add(1, Ordering::SeqCst);
            self.read_changed_schema().await;
        }
        match (outcome, &statement.kind) {
            (Err(fault), Kind::Commit { .. } | Kind::Rollback { .. }) => {
                self.end_company(false, false);
                self.told(fault)
            }
            (Err(fault), _) => {
                self.tx.fail();
                self.told(fault)
            }
            (Ok(()), Kind::Commit { .. }) => {
                self.end_company(commits, chain);
                Ok(Own::Tag(if commits { "COMMIT" } else { "ROLLBACK" }))
            }
            (Ok(()), Kind::Rollback { .. }) => {
                self.end_company(false, chain);
                Ok(Own::Tag("ROLLBACK"))
            }
            (Ok(()), kind) => Ok(self.take_effect(kind, source)),
        }
    }

    /// On its way to be prepared a transaction writes, on each shard that it has changed.
    fn refuse_read_only(&self, source: &str) -> Result<(), ClientError> {
        if !self.tx.has_several_writers() || says_read_only(source) != Some(true) {
            return Ok(());
        }
        Err(ClientError::refused(
            "a transaction that may have written on several shards cannot become read only",
            "Commit first.",
        ))
    }

    /// `BEGIN` in a transaction that there is already: its options are that one's from now on.
    async fn begin_company_again(&mut self, source: &str) -> Result<Own, Unattached> {
        if let Some(options) = options_of(source) {
            self.refuse_read_only(&options)?;
            self.registration.control.says(options.as_bytes());
            if let Err(fault) = self.on_company(&options, false).await {
                self.tx.fail();
                self.say_with(|out| wire::put_warning(out, &begun_already()));
                return self.told(fault);
            }
            self.take_effect_now(Effect::Characterise(options));
        }
        Ok(Own::Warned(begun_already(), begin_tag(source.as_bytes())))
    }

    /// Back to what the session began with, which the servers do not know.
    async fn reset_company(&mut self, reworded: &Reworded) -> Result<Own, Unattached> {
        for statement in &reworded.statements {
            if let Err(fault) = self.on_company(statement, false).await {
                self.tx.fail();
                return self.told(fault);
            }
        }
        self.take_effect_now(Effect::Changes(reworded.changes.clone()));
        Ok(Own::Tag(reworded.tag))
    }

    fn take_effect(&mut self, kind: &Kind, source: String) -> Own {
        let (effect, tag) = match kind {
            Kind::Savepoint(name) => (Effect::Savepoint(name.clone()), "SAVEPOINT"),
            Kind::RollbackTo(name) => (Effect::RollbackTo(name.clone()), "ROLLBACK"),
            Kind::Release(name) => (Effect::Release(name.clone()), "RELEASE"),
            Kind::Reset { name } => (Effect::Changes(vec![Change::Reset(name.clone())]), "RESET"),
            Kind::ResetAll => (Effect::Changes(vec![Change::ResetAll]), "RESET"),
            Kind::SetTransaction if is_of_constraints(&source) => (Effect::Note(source), "SET CONSTRAINTS"),
            Kind::SetTransaction => (Effect::Characterise(source), "SET"),
            kind if is_characteristic(kind) => (Effect::Characterise(source), "SET"),
            kind => (Effect::Changes(changes(kind, &source)), "SET"),
        };
        self.take_effect_now(effect);
        Own::Tag(tag)
    }

    /// The transaction has ended, everywhere.
    fn end_company(&mut self, committed: bool, chain: bool) {
        self.settle_settings(committed);
        if committed {
            self.strings.1 = self.standard_conforming_strings;
        } else {
            // A server that was lost has not told.
            self.read_strings_as(self.strings.1);
        }
        if chain {
            self.tx.chain();
        } else {
            self.tx.finish();
        }
        self.forget_portals();
        self.tally.transactions.inc();
    }

    /// What the transaction has set holds for the session, or nothing of it does.
    pub(super) fn settle_settings(&mut self, committed: bool) {
        if !committed {
            self.undone();
            return;
        }
        let mut session = (*self.settings).clone();
        self.tx.apply(&self.initial, &mut session, &mut Default::default());
        self.settings = Arc::new(session);
        self.tx.forget_changes();
        self.own.keep();
        self.settings_changed();
    }

    /// All servers of the transaction. Nothing may be under way, and what was sent has had its `Sync`:
    /// who has part in it is known by what the servers have said.
    fn gather_company(&mut self) -> Vec<Member> {
        if let Some(held) = self.held.take() {
            self.registration.control.detached();
            self.parked.push(held);
        }
        let (mut company, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.parked)
            .into_iter()
            .partition(|held| held.lease.status != TxStatus::Idle);
        self.parked = others;
        company.sort_by_key(|held| held.shard.index());
        let company: Vec<_> =
            company.into_iter().map(|held| Member { held, branch: Branch::default() }).collect();
        self.registration.control.gathers(&company);
        company
    }

    /// Reads what the members still have to answer.
    pub(super) async fn settle_owed(&mut self, members: &mut Vec<Member>) -> Result<(), Fault> {
        let mut outcome = Ok(());
        for at in (0..members.len()).rev() {
            match members[at].held.lease.settle().await {
                Ok(()) => {}
                Err(ServerError::Refused { body, .. }) if members[at].held.lease.status != TxStatus::Idle => {
                    outcome = Err(server_refusal(&body).into());
                }
                Err(error) => {
                    let member = members.remove(at);
                    outcome = Err(self.member_lost(member, &error).into());
                }
            }
        }
        outcome
    }

    /// Runs a statement on each of the members; the first one's command tag.
    async fn on_members(&mut self, members: &mut Vec<Member>, statement: &str) -> Result<String, Fault> {
        let mut bound = Buffer::new();
        bound.put(&[0; 6]);
        for member in members.iter_mut() {
            let mut branch = std::mem::take(&mut member.branch);
            super::ask::Asking::new(&mut member.held.lease)
                .execute(statement.as_bytes(), &[], &bound)
                .sync(&mut branch);
            member.branch = branch;
        }
        self.drive(members, &mut Discard, false).await?;
        Ok(tags(members).next().unwrap_or_default().to_owned())
    }

    /// Runs a statement on every server of the transaction; `revives`: it is a `ROLLBACK TO`.
    pub(super) async fn on_company(&mut self, statement: &str, revives: bool) -> Result<String, Fault> {
        let mut members = self.gather_company();
        let outcome = match self.settle_owed(&mut members).await {
            Ok(()) => self.on_members(&mut members, statement).await,
            // What a server has had against the decision is undone, unless the server is lost.
            Err(Fault::Own(_)) if revives && !self.tx.is_failed() => {
                self.on_members(&mut members, statement).await
            }
            Err(fault) => Err(fault),
        };
        self.disband(members);
        outcome
    }

    pub(super) async fn roll_back_company(&mut self) -> Result<(), Fault> {
        let mut members = self.gather_company();
        // What a server has had against the decision does not matter any more.
        let outcome = match self.settle_owed(&mut members).await {
            Err(Fault::End(end)) => Err(Fault::End(end)),
            Ok(()) | Err(_) => self.roll_back(&mut members).await,
        };
        self.tx.forget_writers();
        self.disband(members);
        outcome
    }

    /// Rolls the members' transactions back. One that does not answer is closed, which does it too.
    pub(super) async fn roll_back(&mut self, members: &mut Vec<Member>) -> Result<(), Fault> {
        match self.on_members(members, "ROLLBACK").await {
            Err(Fault::End(end)) => Err(Fault::End(end)),
            Ok(_) | Err(_) => {
                members.retain(|member| member.held.lease.status == TxStatus::Idle);
                Ok(())
            }
        }
    }

    pub(super) async fn commit_company(&mut self) -> Result<(), Fault> {
        let mut members = self.gather_company();
        let outcome = match self.settle_owed(&mut members).await {
            Ok(()) => self.commit(&mut members).await,
            Err(fault) => self.roll_back(&mut members).await.and(Err(fault)),
        };
        self.disband(members);
        outcome
    }

    /// A fault as the client is told it.
    fn told(&mut self, fault: Fault) -> Result<Own, Unattached> {
        match fault {
            Fault::Own(error) => Ok(Own::Error(error)),
            Fault::Frame(frame) => Ok(Own::Refusal(frame)),
            Fault::End(end) => Err(Unattached::End(end)),
        }
    }

    /// Before a statement for several servers: what was sent before has been answered, and no batch
    /// is half done.
    pub(in crate::session) async fn stand_alone(&mut self) -> Result<(), Unattached> {
        if self.relay.awaits_ready() {
            return Err(Unattached::Later);
        }
        if self.batch.has_run() && self.tx.phase() == Phase::Idle {
            return Err(ClientError::refused(
                "a pipeline without Sync is one transaction, and it has begun on one shard",
                "Send a Sync before a statement that touches several shards.",
            )
            .into());
        }
        self.flush_deferred_anywhere().await?;
        self.answers_known().await?;
        self.settle_unsynced().await
    }
}
