//! What may end a wait that is neither for the client nor for a server's answer: for a connection
//! out of a pool, for a paused database to go on, for a command of the console's.

use super::attach::Unattached;
use super::cancel::Control;
use super::io::shutting_down;
use super::state::End;
use super::worker::Worker;
use crate::backend::Stream;
use crate::error::{ClientError, SqlState};
use crate::pool::{Caller, Gate};
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

/// Why the wait is over before what it is for has come.
pub(super) enum Interruption {
    /// The client has asked to cancel.
    Cancelled,
    /// The session ends.
    End(End),
}

impl Interruption {
    pub(super) fn canceled() -> ClientError {
        ClientError::error(SqlState::CANCELED, "canceling statement due to user request")
    }
}

impl From<Interruption> for Unattached {
    fn from(interruption: Interruption) -> Unattached {
        match interruption {
            Interruption::Cancelled => Interruption::canceled().into(),
            Interruption::End(end) => end.into(),
        }
    }
}

/// Shown as waiting, for as long as it lives.
struct Waiting(Rc<Control>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waits_since(None);
    }
}

/// When a process that drains ends a wait.
pub(super) enum Until<'a> {
    /// While the gate is closed to this one: it will not be opened before the drain is over.
    Closed(&'a Gate, Caller),
    /// When the client, which has not been heard since, has had the rest that a drain leaves it.
    Rested(Instant),
}

/// Until the client cancels or is gone, or the session is killed; also until the process drains,
/// at the time given. Cancel safe.
pub(super) async fn interrupted(
    worker: &Worker,
    control: &Rc<Control>,
    stream: &Stream,
    until: Until<'_>,
) -> Interruption {
    control.waits_since(Some(Instant::now()));
    let _waiting = Waiting(Rc::clone(control));
    tokio::select! {
        biased;
        error = killed(control) => Interruption::End(End::Fatal(error)),
        () = drained(worker, control, until) => Interruption::End(shutting_down()),
        () = control.wait_cancelled() => Interruption::Cancelled,
        () = stream.gone() => {
            let gone = io::Error::from(io::ErrorKind::UnexpectedEof);
            Interruption::End(End::Vanished(gone))
        }
    }
}

async fn killed(control: &Control) -> ClientError {
    std::future::poll_fn(|cx| {
        control.waits(cx);
        control.take_kill().map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

async fn drained(worker: &Worker, control: &Control, until: Until<'_>) {
    let draining = || {
        std::future::poll_fn(|cx| {
            control.waits(cx);
            worker.draining.get().map_or(Poll::Pending, Poll::Ready)
        })
    };
    let (gate, caller) = match until {
        Until::Closed(gate, caller) => (gate, caller),
        Until::Rested(since) => {
            let rest = draining().await;
            return tokio::time::sleep_until((since + rest).into()).await;
        }
    };
    loop {
        gate.closed_to(caller).await;
        tokio::select! {
            _ = draining() => return,
            () = gate.opened_to(caller) => {}
        }
    }
}
