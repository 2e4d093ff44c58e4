//! Answers that are asked for in portions: portals that an `Execute` limits, and cursors.
//!
//! Rows of a [`Merge`](crate::sql::distribute::Merge) stay where they are: each shard has a portal
//! of pgring's, which is executed for a portion when the rows read ahead are used up, so that the
//! servers are free in between. A portal lives as long as its transaction; outside one, a
//! transaction is opened that the `Sync` ends. What one server has worked out from partial results
//! or copies waits in memory, up to `gather_memory`.

use super::Fault;
use super::ask::{Asked, type_bytes};
use super::drive::{Flow, Wants};
use super::rows::{Rows, misdescribed};
use super::team::Member;
use crate::error::{ClientError, SqlState};
use crate::execute::{Branch, Field, Outcome};
use crate::ring::ShardId;
use crate::session::state::Session;
use crate::txn::Phase;
use crate::wire::{self, Buffer, TxStatus};
use std::cell::RefCell;

/// Most rows that a shard is asked for at once.
const PORTION: u32 = 1024;

/// Where an answer is put that is asked for in portions.
pub(super) struct Keep {
    /// How many rows are wanted first; 0: none yet.
    portion: u64,
    /// All rows are read at once.
    pub(super) whole: bool,
    opened: RefCell<Option<Opened>>,
}

impl Keep {
    pub(super) fn new(portion: u64) -> Keep {
        Keep { portion, whole: false, opened: RefCell::default() }
    }

    /// Of all rows.
    pub(super) fn whole() -> Keep {
        Keep { portion: 0, whole: true, opened: RefCell::default() }
    }

    pub(super) fn put(&self, opened: Opened) {
        *self.opened.borrow_mut() = Some(opened);
    }

    pub(super) fn take(&self) -> Option<Opened> {
        self.opened.borrow_mut().take()
    }
}

/// An answer some of whose rows have not been asked for yet.
pub(in crate::session) struct Opened {
    rows: Rows,
    pub(super) fields: Vec<Field>,
    streams: Vec<Stream>,
    /// What the shards know it by.
    portal: String,
    /// The command tag, if that does not count rows.
    pub(super) tag: Option<&'static str>,
    idle: Branch,
}

/// What one shard has for it.
struct Stream {
    /// `None`: no shard, all rows are here.
    shard: Option<ShardId>,
    /// Rows that have been read.
    ahead: Buffer,
    ended: bool,
}

/// What [`Opened::step`] has come to.
enum Stepped {
    Moved,
    /// Rows have to be read first.
    Lacks,
    Done,
}

impl Opened {
    /// Of rows that are all here.
    pub(super) fn whole(rows: Buffer, fields: Vec<Field>, tag: Option<&'static str>) -> Opened {
        let streams = vec![Stream { shard: None, ahead: rows, ended: true }];
        let (portal, idle) = (String::new(), Branch::default());
        Opened { rows: Rows::unordered(), fields, streams, portal, tag, idle }
    }

    /// The rows that are here, as they came.
    pub(super) fn ahead(&self) -> impl Iterator<Item = &[u8]> {
        self.streams.iter().map(|stream| stream.ahead.filled())
    }

    fn step(&mut self, out: &mut Buffer) -> Result<Stepped, ClientError> {
        let at = match self.rows.wants() {
            Wants::Nothing => return Ok(Stepped::Done),
            Wants::Of(at) => at,
            Wants::Any => match self.streams.iter().position(|stream| !stream.ahead.is_empty()) {
                Some(at) => at,
                None if self.streams.iter().all(|stream| stream.ended) => return Ok(Stepped::Done),
                None => return Ok(Stepped::Lacks),
            },
        };
        let stream = self.streams.get_mut(at).ok_or_else(misdescribed)?;
        let head = wire::header(stream.ahead.filled()).map_err(|_| misdescribed())?;
        match head {
            Some(head) => {
                let frame = stream.ahead.filled().get(..head.len).ok_or_else(misdescribed)?;
                if self.rows.row(at, &self.idle, frame, out)? {
                    stream.ahead.consume(head.len);
                }
            }
            None if stream.ended => self.rows.end(at),
            None => return Ok(Stepped::Lacks),
        }
        Ok(Stepped::Moved)
    }
}

impl Session {
    /// Makes a portal on each of the servers, and has it yield the first rows if any are wanted yet.
    pub(super) async fn open_portals(
        &mut self,
        keep: &Keep,
        (sql, types, bound): (&str, &[u32], &Buffer),
        (rows, fields): (Rows, Vec<Field>),
        members: &mut Vec<Member>,
    ) -> Result<(), Fault> {
        let portal = format!("pgring_{}", self.worker.new_number());
        let implicit = self.tx.phase() == Phase::Idle;
        let portion = u32::try_from(keep.portion).unwrap_or(PORTION).min(PORTION);
        let types = type_bytes(types);
        for member in members.iter_mut() {
            let mut branch = std::mem::take(&mut member.branch);
            let begins = implicit && member.held.lease.status == TxStatus::Idle;
            let mut asking = self.asking(member);
            if begins {
                asking.hidden("BEGIN");
            }
            asking.open_portal(&portal, sql.as_bytes(), &types, bound);
            if portion > 0 {
                asking.execute_portal(&portal, portion);
            }
            asking.sync(&mut branch);
            member.branch = branch;
        }
        let limit = self.directory.routing.gather_memory_bytes;
        let mut flow = Ahead::new(members.len(), limit);
        self.drive(members, &mut flow, false).await?;
        let streams = members.iter().zip(flow.rows).map(|(member, ahead)| Stream {
            shard: Some(member.held.shard),
            ahead,
            ended: matches!(member.branch.outcome, Some(Outcome::Complete(_) | Outcome::Empty)),
        });
        let streams = streams.collect();
        keep.put(Opened { rows, fields, streams, portal, tag: None, idle: Branch::default() });
        Ok(())
    }

    /// The next `count` rows, or all of them; how many there were. They are for the client, unless
    /// they are only passed over.
    pub(super) async fn portion(
        &mut self,
        opened: &mut Opened,
        count: Option<u64>,
        shown: bool,
    ) -> Result<u64, Fault> {
        let start = opened.rows.emitted;
        let mut nowhere = Buffer::new();
        loop {
            let left = count.map(|count| count.saturating_sub(opened.rows.emitted - start));
            if left == Some(0) {
                break;
            }
            let out = if shown { &mut self.outbox } else { &mut nowhere };
            match opened.step(out)? {
                Stepped::Moved => nowhere.clear(),
                Stepped::Lacks => self.read_ahead(opened, left).await?,
                Stepped::Done => break,
            }
        }
        Ok(opened.rows.emitted - start)
    }

    /// Has the shards whose rows are used up yield more.
    async fn read_ahead(&mut self, opened: &mut Opened, wanted: Option<u64>) -> Result<(), Fault> {
        let lacks = |stream: &Stream| !stream.ended && stream.ahead.is_empty();
        let shards: Vec<ShardId> =
            opened.streams.iter().filter(|stream| lacks(stream)).filter_map(|stream| stream.shard).collect();
        let portion =
            wanted.and_then(|wanted| u32::try_from(wanted).ok()).unwrap_or(PORTION).clamp(1, PORTION);
        let mut members = self.assemble(&shards).await?;
        for member in &mut members {
            let mut branch = std::mem::take(&mut member.branch);
            self.asking(member).execute_portal(&opened.portal, portion).sync(&mut branch);
            member.branch = branch;
        }
        let limit = self.directory.routing.gather_memory_bytes;
        let mut flow = Ahead::new(members.len(), limit);
        let outcome = self.drive(&mut members, &mut flow, false).await;
        if outcome.is_ok() {
            let lacking = opened.streams.iter_mut().filter(|stream| lacks(stream));
            for ((stream, member), ahead) in lacking.zip(&members).zip(flow.rows) {
                stream.ahead = ahead;
                stream.ended = member.branch.outcome != Some(Outcome::Suspended);
            }
        }
        self.disband(members);
        outcome
    }

    /// Closes the portals that the shards have for it.
    pub(super) async fn close_opened(&mut self, opened: &Opened) -> Result<(), Fault> {
        let shards: Vec<ShardId> = opened.streams.iter().filter_map(|stream| stream.shard).collect();
        if shards.is_empty() || self.tx.is_failed() {
            return Ok(());
        }
        let mut members = self.assemble(&shards).await?;
        for member in &mut members {
            let mut branch = std::mem::take(&mut member.branch);
            self.asking(member).close_portal(&opened.portal).sync(&mut branch);
            member.branch = branch;
        }
        let outcome = self.drive(&mut members, &mut super::drive::Discard, false).await;
        self.disband(members);
        outcome
    }

    /// The answer that one server is working out: for the client, or kept. What is still to be said
    /// of how it ended.
    pub(super) async fn take_answer(
        &mut self,
        asked: &Asked<'_>,
        fields: &[Field],
        members: &mut Vec<Member>,
    ) -> Result<Option<Rows>, Fault> {
        let mut rows = Rows::like(fields);
        let Some(keep) = asked.keep else {
            if asked.describes {
                crate::execute::put_description(&mut self.outbox, fields, &[]);
            }
            self.drive(members, &mut rows, false).await?;
            return Ok(Some(rows));
        };
        self.keep_rows(keep, rows, fields, members, false).await?;
        Ok(None)
    }

    /// Keeps all rows that the servers have been asked for.
    pub(super) async fn keep_rows(
        &mut self,
        keep: &Keep,
        rows: Rows,
        fields: &[Field],
        members: &mut Vec<Member>,
        hasty: bool,
    ) -> Result<(), Fault> {
        let limit = self.directory.routing.gather_memory_bytes;
        let mut kept = Kept { rows, frames: Buffer::new(), limit };
        self.drive(members, &mut kept, hasty).await?;
        keep.put(Opened::whole(kept.frames, fields.to_vec(), None));
        Ok(())
    }
}

fn too_much() -> ClientError {
    ClientError::error(SqlState::LIMIT, "the rows read ahead do not fit into routing.gather_memory")
        .with_hint("Fetch fewer rows at a time, or raise routing.gather_memory.")
}

/// Rows read ahead, by member.
struct Ahead {
    rows: Vec<Buffer>,
    left: u64,
}

impl Ahead {
    fn new(members: usize, limit: u64) -> Ahead {
        Ahead { rows: (0..members).map(|_| Buffer::new()).collect(), left: limit }
    }
}

impl Flow for Ahead {
    fn wants(&self) -> Wants {
        Wants::Any
    }

    fn row(&mut self, member: usize, _: &Branch, frame: &[u8], _: &mut Buffer) -> Result<bool, ClientError> {
        self.left = self.left.checked_sub(frame.len() as u64).ok_or_else(too_much)?;
        self.rows.get_mut(member).ok_or_else(misdescribed)?.put(frame);
        Ok(true)
    }

    fn end(&mut self, _: usize) {}
}

/// An answer that is kept.
struct Kept {
    rows: Rows,
    frames: Buffer,
    limit: u64,
}

impl Flow for Kept {
    fn wants(&self) -> Wants {
        self.rows.wants()
    }

    fn row(
        &mut self,
        member: usize,
        branch: &Branch,
        frame: &[u8],
        _: &mut Buffer,
    ) -> Result<bool, ClientError> {
        let done = self.rows.row(member, branch, frame, &mut self.frames)?;
        if self.frames.len() as u64 > self.limit {
            return Err(too_much());
        }
        Ok(done)
    }

    fn end(&mut self, member: usize) {
        self.rows.end(member);
    }
}
