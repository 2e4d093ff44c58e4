//! Bytes between the client, the session's buffers and its server.
//!
//! Both directions move whenever they can, so that neither side can stall the other; and each
//! stops when the other side does not take what it is given: what waits for a client is bounded
//! by the relay, what waits for a server by [`TO_SERVER_HIGH`], what waits to be looked at by
//! [`READ_AHEAD`].

use super::batch::Names;
use super::state::{End, Session};
use crate::backend::ServerError;
use crate::error::{ClientError, SqlState};
use crate::execute::Progress;
use crate::txn::Phase;
use crate::wire::{self, Header};
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What a client may send ahead while its last message is at work.
const READ_AHEAD: usize = 64 * 1024;
/// What may wait for a server before its client has to.
const TO_SERVER_HIGH: usize = 128 * 1024;
/// What may wait for a client before no more of its messages are worked on.
const TO_CLIENT_HIGH: usize = 64 * 1024;
/// Messages longer than this are not waited for if they can be passed on in parts.
const WHOLE: usize = 64 * 1024;

/// Why waiting ended other than by progress.
pub(super) enum Stop {
    Client(End),
    Server(ServerError),
}

/// What [`Session::poll_io`] waits for, beside an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Bytes of the client's.
    News,
    /// Those, or that the server takes more: messages wait in the inbox for that.
    Room,
    /// That nothing is outstanding any more; the client has to wait.
    Answered,
}

impl Session {
    /// The next frame that can be worked on now: whole, or at least its header where the rest may
    /// follow in parts. `None`: something has to come or go first.
    pub(super) fn next_frame(&mut self) -> Result<Option<Header>, End> {
        let copying = self.relay.is_copying_in();
        loop {
            if self.is_crowded() {
                return Ok(None);
            }
            if self.passing > 0 {
                self.pass_on();
                if self.passing > 0 {
                    return Ok(None);
                }
            }
            if self.relay.awaits_ready() {
                if !copying && !self.may_work_ahead() {
                    return Ok(None);
                }
            } else {
                self.postponed = false;
            }
            let Some(head) = wire::client_header(self.inbox.filled())? else { return Ok(None) };
            if head.tag == b'X' && self.relay.awaits_ready() && !copying {
                // Said goodbye: but first what was asked before. A COPY ends by it: nothing else will
                // end that.
                return Ok(None);
            }
            if copying && head.tag == b'd' {
                self.passing = head.len;
                self.passing_nowhere = false;
                continue;
            }
            let whole = self.inbox.len() >= head.len;
            if !whole && self.is_ignored(head.tag) {
                self.passing = head.len;
                self.passing_nowhere = true;
                continue;
            }
            let enough = whole || (head.tag == b'B' && self.inbox.len() >= WHOLE && self.can_bind_in_parts());
            return Ok(enough.then_some(head));
        }
    }

    /// Will a message like this come to nothing, so that there is no need to have it whole?
    fn is_ignored(&self, tag: u8) -> bool {
        match tag {
            // A COPY has failed, and the client's data are still under way.
            b'd' => true,
            b'P' | b'B' | b'Q' | b'F' => self.batch.is_skipping(),
            _ => false,
        }
    }

    /// Hands on what has come of a frame that is passed on in parts.
    fn pass_on(&mut self) {
        let n = self.passing.min(self.inbox.len());
        match &mut self.held {
            Some(held) if !self.passing_nowhere => held.lease.outbox.put(&self.inbox.filled()[..n]),
            // Its server is gone: the rest of the frame has no reader.
            _ => {}
        }
        self.inbox.consume(n);
        self.passing -= n;
    }

    /// Waits until there is something to do: a frame of the client's, or an event of the relay's.
    pub(super) async fn io(&mut self) -> Result<(), End> {
        if !self.relay.awaits_answer() {
            self.asked_since = None;
        }
        if self.relay.is_long()
            && !self.relay.awaits_ready()
            && let Some(held) = &mut self.held
            && held.lease.outbox.is_empty()
        {
            // Nobody else asks the server for the answers that make room.
            wire::put_flush(&mut held.lease.outbox);
            self.relay.flushed();
            self.started();
        }
        let until = if self.is_crowded() { Until::Room } else { Until::News };
        self.wait(until).await
    }

    async fn wait(&mut self, until: Until) -> Result<(), End> {
        let outcome = match self.deadline() {
            None => std::future::poll_fn(|cx| self.poll_io(cx, until)).await,
            Some((deadline, late)) => {
                // The timer's steps are milliseconds, and in less a client that works without a
                // pause has its next statement here: what is due has come without it.
                let due = deadline <= Instant::now();
                let waiting = std::future::poll_fn(|cx| match self.poll_io(cx, until) {
                    Poll::Pending if due => Poll::Ready(None),
                    waited => waited.map(Some),
                });
                match tokio::time::timeout_at(deadline.into(), waiting).await {
                    Ok(Some(outcome)) => outcome,
                    Ok(None) | Err(_) => return Box::pin(self.out_of_time(late)).await,
                }
            }
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(Stop::Client(end)) => Err(end),
            Err(Stop::Server(error)) => self.server_lost(&error),
        }
    }

    /// As [`Session::io`] until the relay has nothing outstanding, leaving the client's messages
    /// alone.
    pub(super) async fn finish_relay(&mut self) -> Result<(), End> {
        while self.relay.is_busy() && !self.relay.is_copying_in() {
            self.wait(Until::Answered).await?;
            self.take_events()?;
        }
        if self.relay.is_copying_in() {
            // The server waits for data, and something else has come.
            return Err(End::Fatal(ClientError::protocol("unexpected message type during COPY from stdin")));
        }
        Ok(())
    }

    /// As [`Session::finish_relay`] when the limit has passed already.
    async fn finish_cancelled(&mut self) -> Result<(), End> {
        while self.relay.is_busy() {
            match std::future::poll_fn(|cx| self.poll_io(cx, Until::Answered)).await {
                Ok(()) => {}
                Err(Stop::Client(end)) => return Err(end),
                Err(Stop::Server(error)) => return self.server_lost(&error),
            }
            self.take_events()?;
        }
        self.relay.cancelled_with(None);
        Ok(())
    }

    /// The console's way of reading: nothing but the client. While the process drains, a client
    /// that keeps coming with commands is served, as any other.
    pub(super) async fn console_read(&mut self) -> Result<(), End> {
        let drains = self.worker.draining.get().map(|rest| self.idle_since + rest);
        let news = std::future::poll_fn(|cx| self.poll_io(cx, Until::News));
        let read = match drains {
            None => news.await,
            Some(end) => tokio::time::timeout_at(end.into(), news)
                .await
                .unwrap_or_else(|_| Err(Stop::Client(shutting_down()))),
        };
        match read {
            Ok(()) => Ok(()),
            Err(Stop::Client(end)) => Err(end),
            Err(Stop::Server(_)) => Ok(()),
        }
    }

    fn poll_io(&mut self, cx: &mut Context<'_>, until: Until) -> Poll<Result<(), Stop>> {
        let mut progressed = self.poll_server(cx)?;
        if !self.events.is_empty() {
            // What the session has to add (a ReadyForQuery) leaves in the same write.
            return Poll::Ready(Ok(()));
        }
        if !self.outbox.is_empty() || self.stream.is_unflushed() {
            let waiting = self.outbox.len();
            let drained = self.stream.poll_drain(cx, &mut self.outbox);
            self.tally.sent_bytes.inc_by((waiting - self.outbox.len()) as u64);
            if let Poll::Ready(Err(error)) = drained {
                return Poll::Ready(Err(Stop::Client(error.into())));
            }
        }
        progressed |= match until {
            Until::News => false,
            Until::Room => !self.is_crowded(),
            Until::Answered => !self.relay.is_busy(),
        };
        if until != Until::Answered && self.wants_client_bytes() {
            match self.stream.poll_read(cx, &mut self.inbox) {
                Poll::Ready(Ok(0)) => {
                    let gone = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Poll::Ready(Err(Stop::Client(gone.into())));
                }
                Poll::Ready(Ok(n)) => {
                    self.tally.received_bytes.inc_by(n as u64);
                    self.idle_since = Instant::now();
                    progressed = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Stop::Client(error.into()))),
                Poll::Pending => {}
            }
        }
        if progressed {
            return Poll::Ready(Ok(()));
        }
        let control = &self.registration.control;
        if let Some(error) = control.take_kill() {
            return Poll::Ready(Err(Stop::Client(End::Fatal(error))));
        }
        if control.take_look_up() {
            return Poll::Ready(Ok(()));
        }
        control.waits(cx);
        Poll::Pending
    }

    /// Moves what can be moved between the server and the outbox; true when there is something
    /// for the session to do.
    fn poll_server(&mut self, cx: &mut Context<'_>) -> Result<bool, Stop> {
        let Some(held) = &mut self.held else { return Ok(false) };
        if let Some(error) = self.registration.control.take_verdict() {
            let mut words = wire::Buffer::new();
            wire::put_error(&mut words, &error);
            self.relay.cancelled_with(Some(words.filled().into()));
        }
        let server = &mut *held.lease;
        if !server.asides.is_empty() && !self.relay.is_mid_frame() {
            let (server_pid, pid) = (server.cancel_key.pid, self.told.pid());
            wire::put_notifications(&mut self.outbox, server.asides.filled(), server_pid, pid);
            server.asides.clear();
        }
        if let Poll::Ready(Err(error)) = server.poll_drain(cx) {
            // The reason may still be readable.
            if !matches!(server.poll_read(cx), Poll::Ready(Ok(()))) {
                return Err(Stop::Server(error));
            }
        }
        loop {
            let progress = self.relay.advance(
                server,
                &mut self.outbox,
                &mut self.events,
                &mut self.told,
                &Names { statements: &self.statements, batch: &self.batch },
            );
            match progress.map_err(Stop::Server)? {
                Progress::Event => return Ok(true),
                Progress::Read => match server.poll_read(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Err(Stop::Server(error)),
                    Poll::Pending => break,
                },
                Progress::Flush => match self.stream.poll_drain(cx, &mut self.outbox) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Err(Stop::Client(error.into())),
                    Poll::Pending => break,
                },
                Progress::Forward(n) => match self.stream.poll_write(cx, &server.inbox.filled()[..n]) {
                    Poll::Ready(Ok(written)) => {
                        self.tally.sent_bytes.inc_by(written as u64);
                        self.relay.forwarded(server, written);
                    }
                    Poll::Ready(Err(error)) => return Err(Stop::Client(error.into())),
                    Poll::Pending => break,
                },
            }
        }
        // An error sent ahead of a Query makes the relay ask for a Sync.
        if !server.outbox.is_empty()
            && let Poll::Ready(Err(error)) = server.poll_drain(cx)
        {
            return Err(Stop::Server(error));
        }
        Ok(!self.events.is_empty())
    }

    /// As [`Session::poll_server`] when nobody reads the answers.
    pub(super) fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let lost = || End::Vanished(io::ErrorKind::UnexpectedEof.into());
        let Some(held) = &mut self.held else { return Poll::Ready(Err(lost())) };
        let server = &mut *held.lease;
        loop {
            let progress = self.relay.advance(
                server,
                &mut self.outbox,
                &mut self.events,
                &mut self.told,
                &Names { statements: &self.statements, batch: &self.batch },
            );
            match progress {
                Ok(Progress::Event) => return Poll::Ready(Ok(())),
                Ok(Progress::Flush) => self.outbox.clear(),
                Ok(Progress::Forward(n)) => self.relay.forwarded(server, n),
                Ok(Progress::Read) => {
                    if !self.relay.is_busy() {
                        return Poll::Ready(Ok(()));
                    }
                    // What could not be written yet may be what the server waits for.
                    if let Poll::Ready(Err(_)) = server.poll_drain(cx) {
                        return Poll::Ready(Err(lost()));
                    }
                    if std::task::ready!(server.poll_read(cx)).is_err() {
                        return Poll::Ready(Err(lost()));
                    }
                }
                Err(_) => return Poll::Ready(Err(lost())),
            }
        }
    }

    /// Does as much wait for the server, or for a client that asks without reading the answers, as
    /// may?
    fn is_crowded(&self) -> bool {
        self.outbox.len() >= TO_CLIENT_HIGH
            || self.relay.is_long()
            || self.held.as_ref().is_some_and(|held| held.lease.outbox.len() >= TO_SERVER_HIGH)
    }

    fn wants_client_bytes(&self) -> bool {
        if self.relay.awaits_ready() && !self.relay.is_copying_in() && !self.may_work_ahead() {
            return self.inbox.len() < READ_AHEAD;
        }
        !self.is_crowded() && !self.has_goodbye()
    }

    /// Has the client said that nothing more will come?
    fn has_goodbye(&self) -> bool {
        let head = |filled| wire::client_header(filled).ok().flatten();
        self.passing == 0
            && self.inbox.filled().first() == Some(&b'X')
            && head(self.inbox.filled()).is_some_and(|head| self.inbox.len() >= head.len)
    }

    /// No transaction, nothing under way, nothing unread.
    fn is_at_rest(&self) -> bool {
        self.tx.phase() == Phase::Idle
            && !self.relay.is_busy()
            && self.inbox.is_empty()
            && !self.batch.is_begun()
    }

    /// By when something has to happen, and what if it does not.
    fn deadline(&self) -> Option<(Instant, Late)> {
        if let Some(rest) = self.worker.draining.get()
            && self.is_at_rest()
        {
            return Some((self.idle_since + rest, Late::Draining));
        }
        let pool = &self.directory.pool;
        let (limit, since, late) = if self.relay.awaits_answer() {
            (pool.query_timeout?, self.asked_since?, Late::Query)
        } else if self.relay.is_busy() {
            return None;
        } else if self.tx.phase() != Phase::Idle {
            (pool.idle_transaction_timeout?, self.idle_since, Late::Transaction)
        } else {
            (pool.client_idle_timeout?, self.idle_since, Late::Client)
        };
        Some((since + limit, late))
    }

    async fn out_of_time(&mut self, late: Late) -> Result<(), End> {
        match late {
            Late::Draining => Err(shutting_down()),
            Late::Client => Err(End::Fatal(ClientError::fatal(
                SqlState::IDLE_SESSION,
                "terminating connection due to client_idle_timeout",
            ))),
            Late::Transaction => Err(End::Fatal(ClientError::fatal(
                SqlState::IDLE_TRANSACTION,
                "terminating connection due to idle_transaction_timeout",
            ))),
            Late::Query => {
                // The server answers with its own 57014; should it not, the session ends.
                self.asked_since = None;
                let mut words = crate::wire::Buffer::new();
                let error =
                    ClientError::error(SqlState::CANCELED, "canceling statement due to query_timeout");
                wire::put_error(&mut words, &error);
                self.relay.cancelled_with(Some(words.filled().into()));
                if self.relay.is_copying_in() && !self.fail_copy(&error.message) {
                    return Err(End::Fatal(ClientError::fatal(
                        SqlState::CANCELED,
                        "terminating connection due to query_timeout: the client stopped in the middle of a message",
                    )));
                }
                self.registration.control.cancel_running().await;
                match tokio::time::timeout(GRACE, self.finish_cancelled()).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(End::Fatal(ClientError::fatal(
                        SqlState::CANCELED,
                        "terminating connection due to query_timeout: the server did not react to a cancel",
                    ))),
                }
            }
        }
    }
}

/// How long a server may take to react to a cancel.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
enum Late {
    Query,
    Transaction,
    Client,
    Draining,
}

/// The session ends because the process does.
pub(super) fn shutting_down() -> End {
    End::Fatal(ClientError::fatal(
        SqlState::SHUTTING_DOWN,
        "terminating connection because pgring is shutting down",
    ))
}
