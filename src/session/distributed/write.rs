//! Changes that each shard makes to its own rows, or to its own schema.

use super::Fault;
use super::ask::{Asked, put_formats, type_bytes};
use super::team::Member;
use crate::error::ClientError;
use crate::execute::put_description;
use crate::ring::ShardId;
use crate::session::state::Session;
use crate::sql::distribute::Each;
use crate::sql::{Kind, Statement};
use crate::txn::Phase;
use crate::wire::{self, Buffer, Format, TxStatus};
use std::sync::atomic::Ordering;

impl Session {
    pub(super) async fn change_each(
        &mut self,
        statement: &Statement,
        asked: &Asked<'_>,
        each: &Each,
        shards: &[ShardId],
    ) -> Result<(), Fault> {
        let one_by_one = statement.kind == Kind::Maintenance;
        if one_by_one && self.tx.phase() == Phase::Idle {
            return self.change_one_by_one(asked, each, shards).await;
        }
        let mut members = self.assemble(shards).await?;
        let mut outcome = self.change_on(asked, each, &mut members).await;
        if self.tx.phase() == Phase::Idle {
            outcome = match outcome {
                // The Sync of the pipeline will.
                Ok(tag) if self.batch.is_begun() => Ok(tag),
                Ok(tag) => self.commit(&mut members).await.map(|()| tag),
                Err(fault) => {
                    self.roll_back(&mut members).await?;
                    Err(fault)
                }
            };
        }
        self.disband(members);
        let tag = outcome?;
        if statement.kind == Kind::Ddl {
            self.batch.schema_changed = true;
            self.database.schema_changes.fetch_add(1, Ordering::SeqCst);
        }
        wire::put_complete(&mut self.outbox, &tag);
        Ok(())
    }

    /// In one transaction a shard: the command tag of all together.
    async fn change_on(
        &mut self,
        asked: &Asked<'_>,
        each: &Each,
        members: &mut Vec<Member>,
    ) -> Result<String, Fault> {
        let described = self.describe_on_first(members, asked, &[asked.text]).await?.pop_front();
        let described = described.ok_or_else(super::rows::misdescribed)?;
        let mut bound = Buffer::new();
        bound.put(asked.parameters);
        let formats: Vec<Format> = (0..described.fields.len()).map(|column| asked.format(column)).collect();
        put_formats(&mut bound, formats.iter().copied());
        let types = type_bytes(&described.parameters);
        let implicit = self.tx.phase() == Phase::Idle;
        for member in members.iter_mut() {
            let mut branch = std::mem::take(&mut member.branch);
            let begins = implicit && member.held.lease.status == TxStatus::Idle;
            let mut asking = self.asking(member);
            if begins {
                asking.hidden("BEGIN");
            }
            asking.execute(each.sql.as_bytes(), &types, &bound).sync(&mut branch);
            member.branch = branch;
        }
        if asked.describes && !described.fields.is_empty() {
            put_description(&mut self.outbox, &described.fields, &[]);
        }
        let mut rows = super::rows::Rows::unordered();
        self.drive(members, &mut rows, false).await?;
        Ok(sum_of_tags(members))
    }

    /// What cannot run in a transaction: one shard after the other. What is done stays done.
    async fn change_one_by_one(
        &mut self,
        asked: &Asked<'_>,
        each: &Each,
        shards: &[ShardId],
    ) -> Result<(), Fault> {
        let mut done: Vec<&str> = Vec::new();
        let mut tag = String::new();
        let database = std::sync::Arc::clone(&self.database);
        for shard in shards {
            let name = database.topology.name(*shard);
            let mut members = self.assemble(&[*shard]).await?;
            let mut bound = Buffer::new();
            bound.put(&[0; 6]);
            for member in &mut members {
                let mut branch = std::mem::take(&mut member.branch);
                self.asking(member).execute(each.sql.as_bytes(), asked.types, &bound).sync(&mut branch);
                member.branch = branch;
            }
            let mut rows = super::rows::Rows::unordered();
            let outcome = self.drive(&mut members, &mut rows, false).await;
            tag = sum_of_tags(&members);
            self.disband(members);
            match outcome {
                Ok(()) => done.push(name),
                Err(fault) => return Err(self.unfinished(fault, name, &done, shards)),
            }
        }
        self.batch.schema_changed = true;
        self.database.schema_changes.fetch_add(1, Ordering::SeqCst);
        wire::put_complete(&mut self.outbox, &tag);
        Ok(())
    }

    /// Which shards have run it, and how to go on.
    fn unfinished(&self, fault: Fault, failed: &str, done: &[&str], shards: &[ShardId]) -> Fault {
        let error = match fault {
            Fault::End(end) => return Fault::End(end),
            Fault::Own(error) => error,
            Fault::Frame(frame) => crate::session::attach::server_refusal(&frame[wire::HEADER_LEN..]),
        };
        let topology = &self.database.topology;
        let left = shards.iter().skip(done.len() + 1).map(|shard| topology.name(*shard));
        let left: Vec<&str> = left.collect();
        let list = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let detail = format!(
            "It failed on shard {failed}. It has run on: {}. It has not been tried on: {}.",
            list(done),
            list(&left)
        );
        let hint = "Mend the cause, then run it on the shards that lack it, each with a hint \
                    /* pgring: shard=NAME */.";
        Fault::Own(ClientError { detail: Some(detail.into()), hint: Some(hint.into()), ..error })
    }
}

/// `UPDATE 3` and `UPDATE 4` are `UPDATE 7`; a tag without a number is the first one's.
pub(super) fn sum_of_tags(members: &[Member]) -> String {
    let Some(first) = super::drive::tags(members).next() else { return String::new() };
    let counts: u64 = members.iter().map(|member| member.branch.count()).sum();
    match first.rsplit_once(' ') {
        Some((words, number)) if number.bytes().all(|b| b.is_ascii_digit()) => format!("{words} {counts}"),
        _ => first.to_owned(),
    }
}
