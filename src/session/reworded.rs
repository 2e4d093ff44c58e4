//! Settings that change where no server can simply be passed the client's words.
//!
//! `RESET` goes back to what the session began with. A server that others use too does not know
//! that value: it is told the value, and the client reads the answer to its `RESET`.
//!
//! A `SET` in a transaction that has no shard yet is answered at once and waits for one. Where the
//! client has to be told the new value, or the next text is read by it, a server is asked what
//! the value will be, in a transaction that is rolled back: the client's is not tied to a shard by it.

use super::attach::{Unattached, server_refusal};
use super::state::{End, Session};
use super::transaction::{Own, changes, is_characteristic};
use crate::backend::{ServerError, set_config_local};
use crate::execute::Expect;
use crate::sql::Kind;
use crate::txn::{Change, Phase};
use crate::wire::{self, TxStatus};
use std::collections::BTreeMap;

/// A statement in other words than the client's.
pub(super) struct Reworded {
    pub(super) statements: Vec<String>,
    pub(super) changes: Vec<Change>,
    pub(super) tag: &'static str,
}

impl Session {
    /// How a statement that resets settings is put to a server, if it cannot be as it is.
    pub(super) fn resetting(&self, kind: &Kind) -> Option<Reworded> {
        let single = |name: &str, local: bool, tag| {
            let begun_with = self.initial.get(name)?;
            let statement = if local { set_config_local(begun_with) } else { begun_with.to_owned() };
            let change = Change::Set(name.to_owned(), statement.clone(), local);
            Some(Reworded { statements: vec![statement], changes: vec![change], tag })
        };
        match kind {
            Kind::Reset { name } => single(name, false, "RESET"),
            Kind::Set { name, default: true, local, .. } => single(name, *local, "SET"),
            Kind::ResetAll if !self.initial.is_empty() => {
                let mut statements = vec!["RESET ALL".to_owned()];
                let mut changes = vec![Change::ResetAll];
                for (name, statement) in self.initial.resettable() {
                    statements.push(statement.to_owned());
                    changes.push(Change::Set(name.to_owned(), statement.to_owned(), false));
                }
                Some(Reworded { statements, changes, tag: "RESET" })
            }
            _ => None,
        }
    }

    /// Would [`Session::own_statement`] put this in other words, or keep it until there is a shard?
    pub(super) fn is_reworded_or_kept(&self, kind: &Kind) -> bool {
        let is_planted = matches!(kind, Kind::Set { name, .. } if super::simple::is_planted(name));
        matches!(kind, Kind::Set { .. } | Kind::Reset { .. } | Kind::ResetAll)
            && !is_planted
            // In a failed transaction every statement gets its server's refusal, and gets it at once.
            && self.status() != TxStatus::Failed
            && (self.keeps_settings() || self.resetting(kind).is_some())
    }

    /// Do settings wait for the transaction's shard? Where there is only one, it is asked at once.
    pub(super) fn keeps_settings(&self) -> bool {
        self.tx.phase() == Phase::Pending && !self.database.is_one_shard()
    }

    /// Has the held server run a statement in other words, among what the client has asked.
    pub(super) async fn send_reworded(&mut self, reworded: &Reworded) -> Result<(), Unattached> {
        let shard = match &self.held {
            Some(held) if self.tx.phase() == Phase::Open || self.batch.has_run() => held.shard,
            _ => self.nearest(),
        };
        self.attach(shard).await?;
        let note = u32::try_from(self.effects.len()).unwrap_or(u32::MAX);
        self.effects.push(super::ready::Effect::Changes(reworded.changes.clone()));
        let Some(held) = &mut self.held else { return Err(super::simple::lost_at_once().into()) };
        let server = &mut *held.lease;
        server.unnamed = 0;
        let last = reworded.statements.len() - 1;
        for (at, statement) in reworded.statements.iter().enumerate() {
            wire::put_parse(&mut server.outbox, b"", statement.as_bytes(), &[]);
            wire::put_bind_plain(&mut server.outbox, b"", b"");
            wire::put_execute(&mut server.outbox, b"");
            self.relay.expect(Expect::Parse { id: 0, shown: false });
            self.relay.expect(Expect::Bind { shown: false });
            self.relay.expect(Expect::Execute { note: (at == last).then_some(note), shown: false });
        }
        self.batch.begin();
        self.batch.run();
        self.say_with(|out| wire::put_complete(out, reworded.tag));
        self.started();
        Ok(())
    }

    /// `SET`, `RESET` and `RESET ALL` in a transaction that has no shard yet.
    pub(super) async fn set_while_pending(&mut self, kind: &Kind, source: String) -> Result<Own, Unattached> {
        let tag = if matches!(kind, Kind::Set { .. }) { "SET" } else { "RESET" };
        let reworded = self.resetting(kind).unwrap_or_else(|| Reworded {
            changes: match kind {
                Kind::Reset { name } => vec![Change::Reset(name.clone())],
                Kind::ResetAll => vec![Change::ResetAll],
                kind => changes(kind, &source),
            },
            statements: vec![source],
            tag,
        });
        let told = match kind {
            Kind::Set { name, .. } | Kind::Reset { name } => is_reported(name),
            _ => true,
        };
        if told {
            Box::pin(self.rehearse(&reworded.statements)).await?;
        }
        for statement in reworded.statements {
            if is_characteristic(kind) {
                self.tx.characterise(statement);
            } else {
                self.tx.record(statement);
            }
        }
        for change in reworded.changes {
            if change == Change::ResetAll {
                self.own.reset();
            }
            self.tx.change(change);
        }
        self.settings_changed();
        Ok(Own::Tag(tag))
    }

    /// What the transaction without a shard would have a server report once these have run in it:
    /// the client is told.
    async fn rehearse(&mut self, statements: &[String]) -> Result<(), Unattached> {
        self.sync_quietly().await?;
        self.finish_relay().await?;
        let shard = self.nearest();
        self.attach_quietly(shard).await?;
        let mut script = self.tx.journal().to_vec();
        script.extend_from_slice(statements);
        let Some(held) = &mut self.held else { return Err(super::simple::lost_at_once().into()) };
        let lease = &mut held.lease;
        let before = lease.reported.clone();
        let outcome = lease.run(&script).await;
        let during = lease.reported.clone();
        let undone = lease.run(&["ROLLBACK".to_owned()]).await;
        lease.unnamed = 0;
        match (outcome, undone) {
            (Ok(()), Ok(())) => self.tell_ahead(&before, &during)?,
            (Err(ServerError::Refused { body, .. }), Ok(())) => {
                self.take_back_told();
                self.detach_if_free();
                self.hold_listener();
                return Err(server_refusal(&body).into());
            }
            (_, Err(error)) | (Err(error), _) => {
                let told = self.server_error(&error, false);
                self.drop_held();
                return Err(told.into());
            }
        }
        self.detach_if_free();
        self.hold_listener();
        Ok(())
    }

    /// Tells the client what differs from what it knows.
    fn tell_ahead(
        &mut self,
        before: &BTreeMap<String, String>,
        during: &BTreeMap<String, String>,
    ) -> Result<(), End> {
        let known = std::mem::take(&mut self.told_ahead);
        for (name, now) in during {
            let base = before.get(name).unwrap_or(now);
            let told = known.get(name).map_or(base, |(_, told)| told);
            if told != now && self.told.tell(name, now) {
                self.say_with(|out| wire::put_parameter(out, name, now));
                self.parameter(name, now.clone())?;
            }
            if base != now {
                self.told_ahead.insert(name.clone(), (base.clone(), now.clone()));
            }
        }
        Ok(())
    }

    /// A `ROLLBACK TO` in a transaction without a shard: what was told since may hold no longer.
    pub(super) async fn retell(&mut self) -> Result<(), Unattached> {
        let told = self.tx.changes().iter().any(|change| match change {
            Change::Set(name, ..) | Change::Reset(name) => is_reported(name),
            Change::ResetAll => true,
        });
        if told || !self.told_ahead.is_empty() {
            Box::pin(self.rehearse(&[])).await?;
        }
        Ok(())
    }

    /// The transaction runs on a server now, which reports what changes from here on, but nothing
    /// of what has come and gone in one round trip.
    pub(super) fn compare_told(&mut self) -> Result<(), End> {
        if self.told_ahead.is_empty() || self.tx.phase() == Phase::Pending {
            return Ok(());
        }
        let Some(held) = &self.held else { return Ok(()) };
        let reported = held.lease.reported.clone();
        for (name, (_, told)) in std::mem::take(&mut self.told_ahead) {
            if let Some(actual) = reported.get(&name).filter(|actual| **actual != told)
                && self.told.tell(&name, actual)
            {
                self.say_with(|out| wire::put_parameter(out, &name, actual));
                self.parameter(&name, actual.clone())?;
            }
        }
        Ok(())
    }

    /// The transaction is undone, and so is what the client was told ahead of a server.
    pub(super) fn take_back_told(&mut self) {
        for (name, (base, _)) in std::mem::take(&mut self.told_ahead) {
            if !self.told.tell(&name, &base) {
                continue;
            }
            self.say_with(|out| wire::put_parameter(out, &name, &base));
            // The session has lived with this value before.
            let _: Result<(), End> = self.parameter(&name, base);
        }
    }
}

/// Parameters whose values clients are told (`GUC_REPORT`, in any of PostgreSQL's versions), and
/// those that decide over one of them.
fn is_reported(name: &str) -> bool {
    matches!(
        name,
        "application_name"
            | "client_encoding"
            | "datestyle"
            | "default_transaction_read_only"
            | "intervalstyle"
            | "role"
            | "scram_iterations"
            | "search_path"
            | "session characteristics"
            | "session_authorization"
            | "standard_conforming_strings"
            | "timezone"
    )
}
