//! The answers of several servers on their way to the client, or wherever the plan takes them.
//!
//! All servers are read from at once, each only so far ahead as [`AHEAD`] allows; what the client
//! does not take stops them all.

use super::Fault;
use super::commit::Ending;
use super::team::Member;
use crate::backend::ServerError;
use crate::error::{ClientError, SqlState};
use crate::execute::{Branch, Outcome, Step};
use crate::ring::ShardId;
use crate::session::attach::is_certain;
use crate::session::state::{End, Session};
use crate::txn::Phase;
use crate::wire::{self, Buffer, TxStatus};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What is read from a server before anybody wants it.
const AHEAD: usize = 64 * 1024;
/// What may wait for the client before nothing more is added.
const TO_CLIENT_HIGH: usize = 64 * 1024;
/// What a server may say beside its answer before that is passed on, answer or no answer.
const ASIDES_HIGH: usize = 16 * 1024;
/// What a client may send while it waits.
const FROM_CLIENT: usize = 64 * 1024;

/// Whose rows are wanted next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wants {
    /// Anybody's.
    Any,
    /// This member's, or word that it has no more.
    Of(usize),
    /// Nobody's: the answer is complete.
    Nothing,
}

/// What becomes of rows.
pub(super) trait Flow {
    /// Whose rows are wanted next.
    fn wants(&self) -> Wants;

    /// A row of a member's: the whole `DataRow`. True when it has been dealt with; false when it is to
    /// be shown again.
    fn row(
        &mut self,
        member: usize,
        branch: &Branch,
        frame: &[u8],
        out: &mut Buffer,
    ) -> Result<bool, ClientError>;

    /// A member's `CopyData`, the whole message.
    fn data(&mut self, _: usize, _: &Branch, _: &[u8], _: &mut Buffer) -> Result<(), ClientError> {
        Ok(())
    }

    /// A member has no more rows.
    fn end(&mut self, member: usize);

    /// Is there room for what rows are turned into, if that is not the client's?
    fn poll_room(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ServerError>> {
        Poll::Ready(Ok(()))
    }
}

/// Nothing is done with rows.
pub(super) struct Discard;

impl Flow for Discard {
    fn wants(&self) -> Wants {
        Wants::Any
    }

    fn row(&mut self, _: usize, _: &Branch, _: &[u8], _: &mut Buffer) -> Result<bool, ClientError> {
        Ok(true)
    }

    fn end(&mut self, _: usize) {}
}

/// What a server has said before it was lost.
pub(super) struct LastWord {
    pub shard: ShardId,
    pub branch: Branch,
    /// That it ends, and with it whatever it has not told to be done.
    pub ended: bool,
}

/// Why driving has stopped.
enum Halt {
    /// Every server is done.
    Done,
    /// A server has answered with an error.
    Failed(usize),
    /// A server is gone.
    Lost(usize, ServerError),
    /// No more rows are wanted.
    Enough,
    Flow(ClientError),
    Client(End),
    Late,
}

impl Session {
    /// Until every server has answered. Rows go through `flow`; what it writes goes to the client.
    /// `hasty`: what still runs once enough rows have come may be cancelled.
    ///
    /// # Errors
    /// The first error, after all servers have come to an end; one that was lost is no member any
    /// more.
    pub(super) async fn drive(
        &mut self,
        members: &mut Vec<Member>,
        flow: &mut dyn Flow,
        hasty: bool,
    ) -> Result<(), Fault> {
        self.drive_noting(members, flow, hasty, &mut Vec::new()).await
    }

    /// As [`Session::drive`]; what those that were lost have said last.
    pub(super) async fn drive_noting(
        &mut self,
        members: &mut Vec<Member>,
        flow: &mut dyn Flow,
        hasty: bool,
        lost: &mut Vec<LastWord>,
    ) -> Result<(), Fault> {
        if self.ending != Ending::Settled {
            self.team_up(members);
        }
        let limit = self.directory.pool.query_timeout;
        let deadline = limit.map(|limit| self.asked_since.unwrap_or_else(Instant::now) + limit);
        let mut fault = None;
        let mut over = false;
        let mut cancels = 0;
        let mut cancel_at: Option<Instant> = None;
        loop {
            let until = if over { cancel_at } else { deadline };
            let mut nothing = Discard;
            let flow: &mut dyn Flow = if over { &mut nothing } else { flow };
            let polled = std::future::poll_fn(|cx| self.poll_members(cx, members, flow, over));
            let halt = match until {
                None => polled.await,
                Some(until) => match tokio::time::timeout_at(until.into(), polled).await {
                    Ok(halt) => halt,
                    Err(_) => Halt::Late,
                },
            };
            match halt {
                Halt::Done => break,
                Halt::Failed(at) => {
                    let frame = members[at].branch.error().unwrap_or_default();
                    fault.get_or_insert_with(|| self.failure(frame));
                }
                Halt::Lost(at, error) => {
                    let mut member = members.remove(at);
                    let branch = std::mem::take(&mut member.branch);
                    lost.push(LastWord { shard: member.held.shard, branch, ended: is_certain(&error) });
                    let told = self.member_lost(member, &error);
                    fault.get_or_insert(Fault::Own(told));
                    if self.ending != Ending::Settled {
                        self.team_up(members);
                    }
                }
                Halt::Enough => {
                    over = true;
                    cancel_at = hasty.then(|| Instant::now() + LAST_WORDS);
                }
                Halt::Flow(error) => _ = fault.get_or_insert(Fault::Own(error)),
                Halt::Client(end) => {
                    // Closed: each rolls back what it has begun.
                    self.cancel_members(members).await;
                    members.clear();
                    self.registration.control.teams_up(Vec::new());
                    return Err(Fault::End(end));
                }
                Halt::Late if !over => {
                    let words = "canceling statement due to query_timeout";
                    fault.get_or_insert(Fault::Own(ClientError::error(SqlState::CANCELED, words)));
                }
                Halt::Late if cancels >= CANCEL_TRIES && fault.is_some() => {
                    // Closed: what they were doing is rolled back when they find that out.
                    for at in (0..members.len()).rev() {
                        if members[at].branch.ready.is_none() {
                            let stuck = members.remove(at);
                            self.member_lost(stuck, &ServerError::Closed);
                        }
                    }
                    break;
                }
                Halt::Late => {}
            }
            if fault.is_some() && !over {
                over = true;
                cancel_at = Some(Instant::now());
            }
            if over && cancels < CANCEL_TRIES && cancel_at.is_some_and(|at| at <= Instant::now()) {
                // One that overtakes its statement is ignored: hence again, until all have answered.
                self.cancel_members(members).await;
                cancels += 1;
                let patience =
                    if cancels < CANCEL_TRIES { CANCEL_PATIENCE * 2_u32.pow(cancels) } else { GRACE };
                cancel_at = Some(Instant::now() + patience);
            }
        }
        self.registration.control.cancels_done().await;
        match fault {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    /// What is told of a server's error.
    pub(super) fn failure(&self, frame: &[u8]) -> Fault {
        if wire::error_field(frame.get(wire::HEADER_LEN..).unwrap_or_default(), b'C') == Some(b"25006") {
            // Whichever of them it was, it may be primary no more.
            for shard in self.database.topology.ids().filter(|shard| self.tx.has_written(*shard)) {
                self.database.shards[shard.index()].board.probe_now();
            }
        }
        match self.registration.control.verdict_on(frame) {
            Some(error) => Fault::Own(error),
            None => Fault::Frame(frame.into()),
        }
    }

    async fn cancel_members(&self, members: &[Member]) {
        if self.ending != Ending::No {
            // What one has done is undone, or has to be done by the others, by what follows.
            return;
        }
        let running = members.iter().filter(|member| member.branch.ready.is_none());
        let name = |member: &Member| Arc::clone(&self.database.shard_names[member.held.shard.index()]);
        let servers = running.map(|m| (Arc::clone(&m.held.lease.cancel_key), name(m)));
        self.registration.control.cancel_on(servers.collect()).await;
    }

    /// A server has failed the statement: what the client is told. Its connection is closed.
    pub(super) fn member_lost(&mut self, member: Member, error: &ServerError) -> ClientError {
        let shard = member.held.shard.index();
        tracing::warn!(
            database = self.database.name,
            shard = &*self.database.shard_names[shard],
            endpoint = %member.held.lease.cancel_key.endpoint,
            "a server connection was lost: {error}"
        );
        self.database.metrics[shard].server_lost.inc();
        self.database.shards[shard].board.probe_now();
        if self.ending == Ending::No
            && self.tx.phase() == Phase::Open
            && member.held.lease.status != TxStatus::Idle
        {
            // Its part is gone, whatever the client goes back to: only the end is left for the others.
            self.undone();
            self.tx.lost();
        }
        self.server_error_of(member.held.shard, error, false)
    }

    fn poll_members(
        &mut self,
        cx: &mut Context<'_>,
        members: &mut [Member],
        flow: &mut dyn Flow,
        over: bool,
    ) -> Poll<Halt> {
        for (at, member) in members.iter_mut().enumerate() {
            if let Err(error) = poll_ahead(cx, member) {
                return Poll::Ready(Halt::Lost(at, error));
            }
        }
        loop {
            match self.poll_flow(cx, members, flow, over) {
                Poll::Ready(Some(halt)) => return Poll::Ready(halt),
                Poll::Ready(None) => {}
                Poll::Pending => break,
            }
        }
        if let Err(end) = self.poll_client(cx) {
            return Poll::Ready(Halt::Client(end));
        }
        let wanted = flow.wants();
        for (at, member) in members.iter_mut().enumerate() {
            let comes_later = matches!(wanted, Wants::Of(other) if other != at);
            let stalled = comes_later && member.held.lease.inbox.len() >= AHEAD;
            if stalled != member.branch.stalled {
                member.branch.stalled = stalled;
                self.note_stalled(member);
            }
        }
        Poll::Pending
    }

    /// One step; pending when something has to come or go first.
    fn poll_flow(
        &mut self,
        cx: &mut Context<'_>,
        members: &mut [Member],
        flow: &mut dyn Flow,
        over: bool,
    ) -> Poll<Option<Halt>> {
        if self.outbox.len() >= TO_CLIENT_HIGH {
            let waiting = self.outbox.len();
            let drained = self.stream.poll_drain(cx, &mut self.outbox);
            self.tally.sent_bytes.inc_by((waiting - self.outbox.len()) as u64);
            match drained {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Halt::Client(error.into()))),
                Poll::Pending => return Poll::Pending,
            }
        }
        match flow.poll_room(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                tracing::warn!(database = self.database.name, "copies could not be handed on: {error}");
                return Poll::Ready(Some(Halt::Flow(super::super::simple::lost_at_once())));
            }
            Poll::Pending => return Poll::Pending,
        }
        if members.iter().all(|member| member.branch.ready.is_some()) {
            return Poll::Ready(Some(Halt::Done));
        }
        let wanted = match flow.wants() {
            Wants::Any => 0..members.len(),
            Wants::Of(at) => at..at + 1,
            Wants::Nothing => return Poll::Ready(Some(Halt::Enough)),
        };
        let mut progressed = false;
        for at in wanted {
            let Some(member) = members.get_mut(at) else { continue };
            match advance(cx, member, at, flow, &mut self.outbox) {
                Ok(moved) => progressed |= moved,
                Err(halt) => return Poll::Ready(Some(halt)),
            }
            if member.branch.asides.len() >= ASIDES_HIGH {
                self.pass_asides_on(&member.held, &mut member.branch);
            }
            let failed = member.branch.error().is_some();
            if failed && !over {
                return Poll::Ready(Some(Halt::Failed(at)));
            }
        }
        if progressed { Poll::Ready(None) } else { Poll::Pending }
    }

    /// The client may go away meanwhile, or be sent away; what it has been given leaves.
    pub(super) fn poll_client(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if self.ending != Ending::No {
            // Whoever goes away now has said what is to be done.
            return Ok(());
        }
        if self.inbox.len() < FROM_CLIENT {
            match self.stream.poll_read(cx, &mut self.inbox) {
                Poll::Ready(Ok(0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Poll::Ready(Ok(n)) => {
                    self.tally.received_bytes.inc_by(n as u64);
                    cx.waker().wake_by_ref();
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => {}
            }
        }
        if !self.outbox.is_empty() || self.stream.is_unflushed() {
            let waiting = self.outbox.len();
            let drained = self.stream.poll_drain(cx, &mut self.outbox);
            self.tally.sent_bytes.inc_by((waiting - self.outbox.len()) as u64);
            match drained {
                Poll::Ready(Err(error)) => return Err(error.into()),
                // There may be room for what was waiting for it.
                Poll::Ready(Ok(())) if waiting >= TO_CLIENT_HIGH => cx.waker().wake_by_ref(),
                _ => {}
            }
        }
        let control = &self.registration.control;
        if let Some(error) = control.take_kill() {
            return Err(End::Fatal(error));
        }
        control.waits(cx);
        Ok(())
    }
}

/// What a server may need to say that it is done, when no more rows of its are wanted.
const LAST_WORDS: Duration = Duration::from_millis(10);
/// How long a server may take to react to the last of them.
const GRACE: Duration = Duration::from_secs(10);
/// How often what is over is cancelled, and how long the first try is given.
const CANCEL_TRIES: u32 = 6;
const CANCEL_PATIENCE: Duration = Duration::from_millis(50);

/// Sends what is asked, and reads ahead.
fn poll_ahead(cx: &mut Context<'_>, member: &mut Member) -> Result<(), ServerError> {
    let server = &mut *member.held.lease;
    if let Poll::Ready(Err(error)) = server.poll_drain(cx) {
        // The reason may still be readable.
        if !matches!(server.poll_read(cx), Poll::Ready(Ok(()))) {
            return Err(error);
        }
    }
    while member.branch.ready.is_none() && server.inbox.len() < AHEAD {
        match server.poll_read(cx) {
            Poll::Ready(Ok(())) => {}
            // What it has said before that counts first; the end is met again behind it.
            Poll::Ready(Err(_)) if !server.inbox.is_empty() => break,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => break,
        }
    }
    Ok(())
}

/// Works off what a member has sent; whether there was anything.
fn advance(
    cx: &mut Context<'_>,
    member: &mut Member,
    at: usize,
    flow: &mut dyn Flow,
    out: &mut Buffer,
) -> Result<bool, Halt> {
    let Member { held, branch } = member;
    let server = &mut *held.lease;
    let mut progressed = false;
    let mut ended = branch.outcome.is_some();
    let was_ready = branch.ready.is_some();
    loop {
        match branch.advance(server).map_err(|error| Halt::Lost(at, error))? {
            Step::Row(head) => {
                let frame = &server.inbox.filled()[..head.len];
                let dealt_with = flow.row(at, branch, frame, out).map_err(Halt::Flow)?;
                if !dealt_with {
                    return Ok(true);
                }
                server.inbox.consume(head.len);
                progressed = true;
                if flow.wants() != Wants::Any || out.len() >= TO_CLIENT_HIGH {
                    return Ok(true);
                }
            }
            Step::Data(head) => {
                let frame = &server.inbox.filled()[..head.len];
                flow.data(at, branch, frame, out).map_err(Halt::Flow)?;
                server.inbox.consume(head.len);
                progressed = true;
                if out.len() >= TO_CLIENT_HIGH {
                    return Ok(true);
                }
            }
            Step::CopyIn if branch.feeds => {}
            Step::CopyIn => {
                // Nobody has anything to copy.
                wire::put_copy_fail(&mut server.outbox, b"no data");
                wire::put_sync(&mut server.outbox);
            }
            Step::Read => {
                if ended_now(branch, &mut ended) {
                    flow.end(at);
                    return Ok(true);
                }
                match server.poll_read(cx) {
                    Poll::Ready(read) => read.map_err(|error| Halt::Lost(at, error))?,
                    Poll::Pending => return Ok(progressed),
                }
            }
            Step::Ready => {
                if ended_now(branch, &mut ended) {
                    flow.end(at);
                    return Ok(true);
                }
                return Ok(progressed || !was_ready);
            }
        }
    }
}

fn ended_now(branch: &Branch, ended: &mut bool) -> bool {
    let now = branch.outcome.is_some() && !*ended;
    *ended |= now;
    now
}

/// Did each of them end well?
pub(super) fn tags(members: &[Member]) -> impl Iterator<Item = &str> {
    members.iter().filter_map(|member| match &member.branch.outcome {
        Some(Outcome::Complete(tag)) => Some(&**tag),
        _ => None,
    })
}
