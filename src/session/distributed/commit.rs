//! The end of a transaction on several servers: [`Coordinator`] says what each of them is to do.
//!
//! What is sent in each of its rounds, and what is known afterwards:
//! - the decision is inserted in the decider's transaction when the second writer joins, together with
//!   what runs anyway ([`Session::enlist`], [`Session::decide_ahead`]); only one that a
//!   `ROLLBACK TO` has undone costs a round of its own;
//! - a participant writes its witness row and prepares, in one round trip;
//! - while they do, the decider is given the list of participants;
//! - the decider commits.
//!
//! While that goes on the client's leaving changes nothing. Until the decider has been told to commit
//! everything that fails means that nothing is committed anywhere.

use super::Fault;
use super::ask::Asking;
use super::drive::{Discard, LastWord};
use super::team::Member;
use crate::backend::{ServerError, quoted};
use crate::error::{ClientError, SqlState};
use crate::execute::{Branch, Outcome as Ended};
use crate::ring::ShardId;
use crate::session::analysis::cannot_be_prepared;
use crate::session::attach::Unattached;
use crate::session::state::Session;
use crate::txn::commit::{Answer, Coordinator, Outcome, Step, Verdict, Work};
use crate::txn::{Gid, Participant, Phase, Xid};
use crate::wire::{Buffer, TxStatus};
use rand::RngExt;
use std::sync::Arc;
use std::time::SystemTime;

/// How far the end of a transaction on several servers has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::session) enum Ending {
    /// It has not begun.
    #[default]
    No,
    /// The servers are asked; a cancel request still reaches them.
    Asked,
    /// It is settled how it ends.
    Settled,
}

/// The names of one transaction.
struct Names {
    xid: Xid,
    /// What is prepared on each of the participants other than the decider.
    gids: Vec<(ShardId, String)>,
    /// What each of these is.
    participants: Vec<Participant>,
}

impl Names {
    fn gid(&self, shard: ShardId) -> &str {
        self.gids.iter().find(|(at, _)| *at == shard).map_or("", |(_, gid)| gid)
    }
}

pub(super) fn decide(xid: Xid) -> String {
    format!("SELECT pgring.decide('{xid}')")
}

fn new_xid() -> Xid {
    Xid::new(SystemTime::now(), rand::rng().random())
}

impl Session {
    /// A change concerns these servers: those on which it is the transaction's first are noted, and if
    /// several have one by now, whether they can commit together is looked at, and the decision is made
    /// where no other statement takes it along.
    pub(super) async fn enlist(&mut self, members: &[Member]) -> Result<(), Fault> {
        for member in members {
            self.tx.wrote(member.held.shard);
        }
        let Some(decision) = self.tx.wanted_decision(new_xid) else { return Ok(()) };
        self.can_commit_together().await?;
        if !members.iter().any(|member| member.held.shard == decision.decider) {
            self.decide_ahead().await;
        }
        Ok(())
    }

    /// Has the transaction a second writer and no decision yet? Of a failed one nothing is left to decide.
    pub(in crate::session) fn wants_decision(&self) -> bool {
        self.tx.wants_decision() && !self.tx.is_failed() && self.has_company()
    }

    /// As [`Session::enlist`], of the shard that is about to be held: whatever else is needed of the
    /// transaction is with other servers.
    pub(in crate::session) async fn join_writers(&mut self) -> Result<(), Unattached> {
        if self.tx.wanted_decision(new_xid).is_none() {
            return Ok(());
        }
        self.can_commit_together().await?;
        self.decide_ahead().await;
        Ok(())
    }

    /// Are there all that a two-phase commit needs?
    pub(super) async fn can_commit_together(&self) -> Result<(), ClientError> {
        if let Some(what) = self.tx.unpreparable() {
            return Err(cannot_be_prepared(what));
        }
        let topology = &self.database.topology;
        let shards: Vec<ShardId> = topology.ids().filter(|shard| self.tx.has_written(*shard)).collect();
        let able = self.database.two_phase.participants(&shards, |shard| topology.name(shard)).await;
        able.map(drop)
    }

    /// Sends the decision to its decider, which is not being used otherwise.
    async fn decide_ahead(&mut self) {
        let Some(decision) = self.tx.wanted_decision(new_xid) else { return };
        let decider = self
            .parked
            .iter_mut()
            .find(|held| held.shard == decision.decider && held.lease.status == TxStatus::Open);
        if let Some(held) = decider {
            held.lease.unnamed = 0;
            held.lease.ask_ahead(&decide(decision.xid)).await;
            self.tx.decision_inserted();
        }
    }

    /// Begins to ask a server for a change: outside a transaction one is opened, and the decision that
    /// it is to hold goes ahead.
    pub(super) fn asking_to_change<'m>(&mut self, member: &'m mut Member) -> Asking<'m> {
        let begins = self.tx.phase() == Phase::Idle && member.held.lease.status == TxStatus::Idle;
        let shard = member.held.shard;
        let mut asking = self.asking(member);
        if begins {
            asking.hidden("BEGIN");
        }
        if let Some(decision) = self.tx.wanted_decision(new_xid).filter(|wanted| wanted.decider == shard) {
            asking.hidden(&decide(decision.xid));
            self.tx.decision_inserted();
        }
        asking
    }

    /// Commits the members' transactions. Those that are lost are members no more.
    ///
    /// # Errors
    /// Nothing is committed anywhere; or, with `08007`, that is not known.
    pub(super) async fn commit(&mut self, members: &mut Vec<Member>) -> Result<(), Fault> {
        let mut outcome = self.commit_by_protocol(members).await;
        self.ending = Ending::No;
        let is_open = |member: &Member| member.held.lease.status != TxStatus::Idle;
        if !matches!(outcome, Ok(()) | Err(Fault::End(_))) && members.iter().any(is_open) {
            // It could not even begin.
            outcome = self.roll_back(members).await.and(outcome);
        }
        self.tx.forget_writers();
        outcome
    }

    async fn commit_by_protocol(&mut self, members: &mut Vec<Member>) -> Result<(), Fault> {
        let shards: Vec<ShardId> = members.iter().map(|member| member.held.shard).collect();
        let position = |shard: ShardId| shards.iter().position(|other| *other == shard);
        let wrote: Vec<bool> = shards.iter().map(|shard| self.tx.has_written(*shard)).collect();
        let stands = self.tx.decision().filter(|decision| decision.stands());
        let decided = stands.and_then(|decision| position(decision.decider));
        let mut coordinator = Coordinator::new(wrote, decided, self.is_serializable());
        // Who is noted and never came has written nothing; so it may be another one who decides.
        let names = match coordinator.decider().and_then(|at| shards.get(at)) {
            Some(decider) => {
                let xid = self.tx.decision().map_or_else(new_xid, |decision| decision.xid);
                Some(self.names(xid, *decider, &shards).await?)
            }
            None => None,
        };
        let mut owners: Vec<String> = Vec::new();
        let mut fault = None;
        let mut sent = SystemTime::now();
        loop {
            let answer = match coordinator.step() {
                Step::Answer(answer) => answer,
                Step::Resolve(decider) => {
                    let verdict = match (&names, shards.get(decider)) {
                        (Some(names), Some(shard)) => {
                            self.resolve(names.xid, *shard, owners.first().cloned(), sent).await
                        }
                        _ => Verdict::Unknown,
                    };
                    coordinator.resolved(verdict);
                    continue;
                }
                Step::Run(actions) => {
                    let works: Vec<(ShardId, Work)> =
                        actions.iter().filter_map(|a| Some((*shards.get(a.member)?, a.work))).collect();
                    if works.iter().any(|(_, work)| *work == Work::CommitDecider) {
                        sent = SystemTime::now();
                    }
                    let text = |shard, work| text_of(shard, work, names.as_ref());
                    let (mut team, lost, failed) = self.run_round(members, &works, text).await?;
                    fault = fault.or(failed);
                    note_owners(&mut team, &works, &mut owners);
                    if owners.len() > 1 && fault.is_none() {
                        fault = Some(refuse_several_owners(&owners).into());
                    }
                    for (shard, work) in &works {
                        let at = team.iter().position(|member| member.held.shard == *shard);
                        let mut outcome = match at {
                            Some(at) => outcome_of(*work, &team[at].branch),
                            None => lost_outcome(*work, lost.iter().find(|word| word.shard == *shard)),
                        };
                        if let (Some(at), Outcome::Done) = (at, outcome) {
                            self.keep_changes(*work, &mut team[at]);
                            if *work == Work::Complete && owners.len() > 1 {
                                outcome = Outcome::Refused;
                            }
                        }
                        if let (Some(at), Work::CommitPrepared, Outcome::Refused) = (at, work, outcome) {
                            // A role that has ended with the transaction.
                            let member = team.remove(at);
                            self.finish_as_owner(member, names.as_ref(), &owners).await;
                        }
                        if let Some(at) = position(*shard) {
                            coordinator.report(at, outcome);
                        }
                    }
                    members.append(&mut team);
                    continue;
                }
            };
            members.sort_by_key(|member| member.held.shard.index());
            return self.tell_end(answer, &shards, names.is_some(), fault);
        }
    }

    /// What the client is told.
    fn tell_end(
        &mut self,
        answer: Answer,
        shards: &[ShardId],
        two_phase: bool,
        fault: Option<Fault>,
    ) -> Result<(), Fault> {
        let metrics = self.metrics();
        match answer {
            Answer::Committed if two_phase => {
                metrics.two_phase.committed.inc();
                metrics.transactions.two_phase.inc();
                Ok(())
            }
            Answer::Committed => {
                metrics.transactions.multi_read.inc();
                Ok(())
            }
            Answer::Aborted(at, _) => {
                if two_phase {
                    metrics.two_phase.aborted.inc();
                }
                Err(fault.unwrap_or_else(|| {
                    let shard = shards.get(at).map_or("?", |shard| self.database.topology.name(*shard));
                    ClientError::error(
                        SqlState::FAILED_TRANSACTION,
                        format!("the transaction has failed on shard \"{shard}\", and is rolled back"),
                    )
                    .into()
                }))
            }
            Answer::Unknown => {
                if two_phase {
                    metrics.two_phase.unknown.inc();
                }
                let (detail, hint) = match two_phase {
                    true => (
                        "The shard that holds the decision does not answer. It is committed on all \
                         shards or on none as soon as that is known.",
                        "Ask SHOW TRANSACTIONS of the database pgring, and look at the rows before \
                         you repeat it.",
                    ),
                    false => (
                        "The only shard that has been changed was lost while it committed.",
                        "Look at the rows before you repeat it.",
                    ),
                };
                let words = "it is not known whether the transaction was committed";
                let told = ClientError::error(SqlState::OUTCOME_UNKNOWN, words);
                Err(ClientError { detail: Some(detail.into()), ..told.with_hint(hint) }.into())
            }
        }
    }

    /// Has some of the servers do something; they, less those that were lost, what these have said, and
    /// the first thing that went wrong.
    async fn run_round(
        &mut self,
        members: &mut Vec<Member>,
        works: &[(ShardId, Work)],
        text: impl Fn(ShardId, Work) -> (Option<String>, String),
    ) -> Result<(Vec<Member>, Vec<LastWord>, Option<Fault>), Fault> {
        fail_point(works, "before");
        let mut bound = Buffer::new();
        bound.put(&[0; 6]);
        let mut team = Vec::with_capacity(works.len());
        for (shard, work) in works {
            let Some(at) = members.iter().position(|member| member.held.shard == *shard) else { continue };
            let mut member = members.swap_remove(at);
            let mut branch = std::mem::take(&mut member.branch);
            let (ahead, statement) = text(*shard, *work);
            let mut asking = Asking::new(&mut member.held.lease);
            if let Some(ahead) = ahead {
                asking.hidden(&ahead);
            }
            asking.execute(statement.as_bytes(), &[], &bound).sync(&mut branch);
            member.branch = branch;
            team.push(member);
        }
        let settled = works
            .iter()
            .any(|(_, work)| matches!(work, Work::CommitPrepared | Work::Rollback | Work::RollbackPrepared));
        self.ending = if settled { Ending::Settled } else { Ending::Asked };
        if settled {
            self.registration.control.teams_up(Vec::new());
        }
        #[cfg(debug_assertions)]
        for member in &mut team {
            // What does not leave here leaves when it is driven.
            let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(member.held.lease.poll_drain(cx))).await;
        }
        fail_point(works, "sent");
        let mut lost = Vec::new();
        let driven = self.drive_noting(&mut team, &mut Discard, false, &mut lost).await;
        fail_point(works, "after");
        match driven {
            Ok(()) => Ok((team, lost, None)),
            Err(Fault::End(end)) => Err(Fault::End(end)),
            Err(fault) => Ok((team, lost, Some(fault))),
        }
    }

    /// What a transaction and its participants are called.
    async fn names(&self, xid: Xid, decider: ShardId, shards: &[ShardId]) -> Result<Names, Fault> {
        let topology = &self.database.topology;
        let two_phase = &self.database.two_phase;
        let shards: Vec<ShardId> = shards.iter().copied().filter(|s| self.tx.has_written(*s)).collect();
        let mut participants = two_phase.participants(&shards, |shard| topology.name(shard)).await?;
        let at = shards.iter().position(|shard| *shard == decider);
        let Some(at) = at else { return Err(super::rows::misdescribed().into()) };
        let decider = participants.remove(at);
        let others = shards.iter().enumerate().filter(|(number, _)| *number != at).map(|(_, shard)| *shard);
        let mut gids = Vec::with_capacity(participants.len());
        for (number, shard) in others.enumerate() {
            let is_same = |other: &&Participant| other.system == participants[number].system;
            let part = participants[..number].iter().filter(is_same).count();
            let part = u16::try_from(part).unwrap_or(u16::MAX);
            // PostgreSQL would say "already in use" otherwise: the first is not numbered, the next one is 2.
            let part = if part == 0 { 0 } else { part.saturating_add(1) };
            let gid = Gid { xid, part, decider: decider.clone() }.print(&two_phase.cluster);
            let gid = gid.ok_or_else(|| {
                ClientError::refused(
                    "the names of the cluster and of the database are too long for a two-phase commit",
                    "Give pgring's \"cluster\" a shorter name.",
                )
            })?;
            gids.push((shard, gid));
        }
        Ok(Names { xid, gids, participants })
    }

    /// What has become of a transaction whose decider was lost while it committed.
    async fn resolve(&self, xid: Xid, decider: ShardId, owner: Option<String>, sent: SystemTime) -> Verdict {
        let verdict = self.database.two_phase.resolve(xid, decider, owner, sent).await;
        tracing::warn!(
            database = self.database.name,
            shard = &*self.database.shard_names[decider.index()],
            %xid,
            ?verdict,
            "a deciding server was lost while it committed"
        );
        verdict
    }

    /// What is prepared belongs to another role than the session's, or cannot be committed now. If this
    /// fails, recovery does it.
    async fn finish_as_owner(&self, member: Member, names: Option<&Names>, owners: &[String]) {
        let mut held = member.held;
        let (Some(names), [owner]) = (names, owners) else { return };
        let gid = names.gid(held.shard);
        let finish = async {
            held.lease.ask(&format!("SET ROLE {}", quoted(owner))).await?;
            held.lease.ask(&format!("COMMIT PREPARED {}", literal(gid))).await?;
            Ok::<(), ServerError>(())
        };
        if let Err(error) = finish.await {
            tracing::warn!(
                database = self.database.name,
                gid,
                "what is decided could not be committed yet: {error}"
            );
        }
        // The server is another role's now: it is closed.
    }

    /// What the transaction has set stands on a server that has committed it, and on one that has
    /// prepared it, whatever becomes of that.
    fn keep_changes(&self, work: Work, member: &mut Member) {
        let commits =
            matches!(work, Work::Prepare | Work::CommitReader | Work::CommitOne | Work::CommitDecider);
        if !commits || self.tx.changes().is_empty() {
            return;
        }
        let mut server = (*member.held.lease.settings).clone();
        self.tx.apply(&self.initial, &mut (*self.settings).clone(), &mut server);
        member.held.lease.settings = Arc::new(server);
    }

    /// May a reader's commit fail for what others have done?
    pub(in crate::session) fn is_serializable(&self) -> bool {
        let says = |statement: &str| statement.to_ascii_lowercase().contains("serializable");
        self.tx.characteristics().iter().any(|statement| says(statement))
            || self.tx.changes().iter().any(|change| says(&change.statement()))
            || self.settings.get("default_transaction_isolation").is_some_and(says)
    }
}

/// Only in builds for tests: [`super::fail_point`].
fn fail_point(works: &[(ShardId, Work)], moment: &str) {
    #[cfg(debug_assertions)]
    super::fail_point::reach(works.iter().map(|(_, work)| *work), moment);
    #[cfg(not(debug_assertions))]
    let _ = (works, moment);
}

/// What is sent for it: a statement that goes ahead, and the one whose tag tells.
fn text_of(shard: ShardId, work: Work, names: Option<&Names>) -> (Option<String>, String) {
    let commit = || "COMMIT".to_owned();
    let Some(names) = names else {
        return (None, if work == Work::Rollback { "ROLLBACK".to_owned() } else { commit() });
    };
    let (xid, gid) = (names.xid, names.gid(shard));
    match work {
        Work::Decide => (None, decide(xid)),
        Work::Prepare => (
            Some(format!("SELECT pgring.witness('{xid}', current_user)")),
            format!("PREPARE TRANSACTION {}", literal(gid)),
        ),
        Work::Complete => {
            let participants: Vec<String> =
                names.participants.iter().map(|p| literal(&p.to_string())).collect();
            let participants = participants.join(", ");
            (
                Some("SELECT current_user".to_owned()),
                format!("SELECT pgring.decided('{xid}', current_user, ARRAY[{participants}]::text[])"),
            )
        }
        Work::CommitReader | Work::CommitOne | Work::CommitDecider => (None, commit()),
        Work::CommitPrepared => (None, format!("COMMIT PREPARED {}", literal(gid))),
        Work::Rollback => (None, "ROLLBACK".to_owned()),
        Work::RollbackPrepared => (None, format!("ROLLBACK PREPARED {}", literal(gid))),
    }
}

/// Who owns what is prepared, and whom the decision names.
fn note_owners(team: &mut [Member], works: &[(ShardId, Work)], owners: &mut Vec<String>) {
    for member in team {
        let shard = member.held.shard;
        let tells =
            works.iter().any(|(at, work)| *at == shard && matches!(work, Work::Complete | Work::Prepare));
        if tells && let Some(owner) = member.branch.take_said() {
            owners.extend((!owners.contains(&owner)).then_some(owner));
        }
    }
}

/// Recovery takes what another than the decision's owner has prepared for somebody else's.
fn refuse_several_owners(owners: &[String]) -> ClientError {
    ClientError::refused(
        format!("the transaction is of other roles on other shards ({})", owners.join(", ")),
        "Set the role with SET ROLE, which all shards are told.",
    )
}

/// What came of it, by the command tag.
fn outcome_of(work: Work, branch: &Branch) -> Outcome {
    let tag = match work {
        Work::Decide | Work::Complete => "SELECT 1",
        Work::Prepare => "PREPARE TRANSACTION",
        Work::CommitReader | Work::CommitOne | Work::CommitDecider => "COMMIT",
        Work::CommitPrepared => "COMMIT PREPARED",
        Work::Rollback => "ROLLBACK",
        Work::RollbackPrepared => "ROLLBACK PREPARED",
    };
    match &branch.outcome {
        Some(Ended::Complete(said)) if **said == *tag => Outcome::Done,
        Some(_) => Outcome::Refused,
        None => Outcome::Lost,
    }
}

/// What came of it on a server that was lost. That a commit is done, and that it will not be, may have
/// been said before: behind its record in the log PostgreSQL (`CommitTransaction`, `SyncRepWaitForLSN`)
/// says nothing any more but that it is done.
fn lost_outcome(work: Work, said: Option<&LastWord>) -> Outcome {
    match (work, said) {
        (Work::CommitReader | Work::CommitOne | Work::CommitDecider, Some(said)) => {
            match outcome_of(work, &said.branch) {
                Outcome::Lost if said.ended => Outcome::Refused,
                known => known,
            }
        }
        _ => Outcome::Lost,
    }
}

/// As SQL writes it, whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
