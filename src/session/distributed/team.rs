//! The servers that work on a statement together.

use super::Fault;
use super::ask::Asking;
use super::drive::Discard;
use crate::config::PoolMode;
use crate::execute::Branch;
use crate::pool::Caller;
use crate::ring::ShardId;
use crate::session::attach::Unattached;
use crate::session::company::put_refusal;
use crate::session::state::{Doubt, End, Held, Session};
use crate::txn::Phase;
use crate::wire::{self, TxStatus};
use std::sync::Arc;

/// One of them.
pub(in crate::session) struct Member {
    pub held: Held,
    pub branch: Branch,
}

impl Session {
    /// A server of each of these shards, in the shards' order (whoever needs several takes them in
    /// this order, so that nobody waits in a circle), in line with the session's settings.
    /// Nothing may be outstanding.
    pub(super) async fn assemble(&mut self, shards: &[ShardId]) -> Result<Vec<Member>, Fault> {
        if let Some(held) = self.held.take() {
            self.registration.control.detached();
            self.parked.push(held);
        }
        let mut members = Vec::with_capacity(shards.len());
        for shard in shards {
            if let Err(error) = self.join(*shard, &mut members).await {
                self.disband(members);
                return Err(error.into());
            }
            self.asks_as = self.asks_as.max(Caller::Underway);
        }
        if members.len() > 1 {
            self.registration.control.gathers(&members);
        }
        Ok(members)
    }

    async fn join(&mut self, shard: ShardId, members: &mut Vec<Member>) -> Result<(), Unattached> {
        self.take(shard).await?;
        let in_transaction = self.held.as_ref().is_some_and(|held| held.lease.status != TxStatus::Idle);
        if !in_transaction {
            self.align().await?;
        }
        members.extend(self.held.take().map(|held| Member { held, branch: Branch::default() }));
        self.registration.control.detached();
        Ok(())
    }

    /// The servers go where they belong: back to the pool, or wherever the session keeps them.
    pub(super) fn disband(&mut self, members: Vec<Member>) {
        self.registration.control.teams_up(Vec::new());
        self.asks_as = Caller::Anybody;
        let session_mode = self.directory.pool.mode == PoolMode::Session;
        let mut own = self.held.take();
        let in_doubt = std::mem::take(&mut self.in_doubt);
        for Member { mut held, mut branch } in members {
            held.doubt = held.doubt.max(if in_doubt { Doubt::Anything } else { Doubt::None });
            self.pass_asides_on(&held, &mut branch);
            let busy = held.lease.status != TxStatus::Idle;
            if busy || !held.pins.is_empty() || session_mode {
                self.parked.push(held);
                continue;
            }
            self.held = Some(held);
            self.give_back_held();
        }
        if own.is_none() && self.tx.phase() == Phase::Open {
            // One that owes an answer is not read from before somebody has settled that.
            let is_open = |held: &Held| held.lease.status != TxStatus::Idle && !held.lease.owes();
            let open = self.parked.iter().position(is_open);
            own = open.map(|at| self.parked.swap_remove(at));
        }
        if let Some(held) = &own {
            let name = &self.database.shard_names[held.shard.index()];
            self.registration.control.attached(&held.lease, name);
        }
        self.held = own;
    }

    /// What the servers have said beside their answers. `alike`: they have done the same, and what
    /// several say of it is said once.
    pub(super) fn pass_all_asides_on(&mut self, members: &mut [Member], alike: bool) {
        let mut said: Vec<Box<[u8]>> = Vec::new();
        for member in members {
            if alike {
                let own = member.branch.forget_notices(&said);
                said.extend(own);
            }
            self.pass_asides_on(&member.held, &mut member.branch);
        }
    }

    /// What a server has said beside its answer.
    pub(super) fn pass_asides_on(&mut self, held: &Held, branch: &mut Branch) {
        let (server, pid) = (held.lease.cancel_key.pid, self.told.pid());
        while let Ok(Some(head)) = wire::header(branch.asides.filled()) {
            let frame = &branch.asides.filled()[..head.len];
            match head.tag {
                b'A' => wire::put_notifications(&mut self.outbox, frame, server, pid),
                b'S' => {
                    if let Ok((name, value)) = wire::parameter_status(&frame[wire::HEADER_LEN..]) {
                        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                        if self.told.tell(&name, &value) {
                            self.outbox.put(frame);
                            self.read_as_told(held, &name, value.into_owned());
                        }
                    }
                }
                _ => self.outbox.put(frame),
            }
            branch.asides.consume(head.len);
        }
    }

    /// How texts are read may depend on what a server of several has just reported.
    fn read_as_told(&mut self, held: &Held, name: &str, value: String) {
        let encodes = name == "client_encoding";
        let same_encoding = held.lease.reported.get("server_encoding") == Some(&value);
        match self.parameter(name, value) {
            Ok(()) if encodes => self.same_encoding = same_encoding,
            Ok(()) => {}
            Err(End::Fatal(error)) => self.registration.control.kill(error),
            Err(End::Vanished(_) | End::Terminated) => {}
        }
    }

    /// Begins to ask a server: the client's transaction is opened on it if it is not yet.
    pub(super) fn asking<'m>(&mut self, member: &'m mut Member) -> Asking<'m> {
        let joins = member.held.lease.status == TxStatus::Idle;
        let mut asking = Asking::new(&mut member.held.lease);
        if self.tx.phase() != Phase::Idle && joins {
            for statement in self.tx.open_for_several() {
                asking.hidden(&statement);
            }
        }
        asking
    }

    /// Has the session a transaction on several servers?
    pub(in crate::session) fn has_company(&self) -> bool {
        self.parked.iter().any(|held| held.lease.status != TxStatus::Idle)
    }

    /// Which servers a cancel request is for.
    pub(super) fn team_up(&self, members: &[Member]) {
        let name = |held: &Held| Arc::clone(&self.database.shard_names[held.shard.index()]);
        let team = members.iter().map(|m| (Arc::clone(&m.held.lease.cancel_key), name(&m.held)));
        self.registration.control.teams_up(team.collect());
        self.waits_for_members(members);
    }

    /// Has the transactions of these servers fail: what they have locked since their last savepoint,
    /// or their beginning, is free again.
    pub(in crate::session) async fn fail_members(&mut self, held: Vec<Held>) -> Result<(), End> {
        let mut members: Vec<Member> =
            held.into_iter().map(|held| Member { held, branch: Branch::default() }).collect();
        // What a server has had against the decision fails it just as well.
        if let Err(Fault::End(end)) = self.settle_owed(&mut members).await {
            return Err(end);
        }
        for Member { held, branch } in &mut members {
            let mut asking = Asking::new(&mut held.lease);
            put_refusal(&mut asking.server.outbox);
            asking.sync(branch);
        }
        // The refusal is what is expected.
        let outcome = self.drive(&mut members, &mut Discard, false).await;
        self.disband(members);
        match outcome {
            Err(Fault::End(end)) => Err(end),
            _ => Ok(()),
        }
    }
}
