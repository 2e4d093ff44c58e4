//! A statement's answer on its way from one server to the client.
//!
//! The relay knows what the server was asked and so what its next message means: whether it is
//! for the client or for pgring (a `BEGIN` sent ahead, a statement prepared in passing), and
//! what pgring itself answers in between. It looks at headers only; rows are passed on as they
//! lie in the server's inbox, many at a time, and a row that does not fit a buffer in parts.
//!
//! Sans-decision and without sockets of its own: [`Relay::advance`] works off what the inbox
//! holds and says what it needs next.

use super::names::{ClientNames, put_by_clients_names};
use super::told::Told;
use crate::backend::{Server, ServerError};
use crate::wire::{self, Buffer, Header, TxStatus};
use std::cell::{Cell, OnceCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// What pgring answers itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Emit {
    /// A message that never changes.
    Static(&'static [u8]),
    /// One made for the occasion.
    Bytes(Box<[u8]>),
}

impl Emit {
    fn bytes(&self) -> &[u8] {
        match self {
            Emit::Static(bytes) => bytes,
            Emit::Bytes(bytes) => bytes,
        }
    }
}

/// One thing that was asked, in the order of asking. `shown` answers go to the client, others
/// end here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// `Parse` of the numbered statement (0: the unnamed one).
    Parse {
        /// See [`PreparedNames`](crate::backend::PreparedNames).
        id: u64,
        /// For the client?
        shown: bool,
    },
    /// `Bind`
    Bind {
        /// For the client?
        shown: bool,
    },
    /// `Describe`
    Describe {
        /// Where the result's shape is noted.
        result: Option<ResultShape>,
        /// Where the parameters' types are noted.
        parameters: Option<ParameterTypes>,
        /// For the client?
        shown: bool,
    },
    /// `Execute`
    Execute {
        /// What [`Event::Completed`] will say; `None` for no event.
        note: Option<u32>,
        /// For the client?
        shown: bool,
    },
    /// `Close`
    Close {
        /// The numbered statement that makes room for another.
        evicted: Option<u64>,
        /// For the client?
        shown: bool,
    },
    /// `Query`: any number of results, then `ReadyForQuery`.
    Query {
        /// What [`Event::Completed`] will say for its first statement; one more for each next.
        note: Option<u32>,
        /// [`Expect::Position`] comes next, and the client is told of the `ReadyForQuery` that ends that.
        asks_position: bool,
    },
    /// `FunctionCall`
    Function,
    /// `Sync`
    Sync {
        /// For the client?
        shown: bool,
    },
    /// `Parse`, `Bind`, `Execute` and `Sync` of the question where the server's log is by now, behind
    /// what the client has asked: the answer's value is [`Event::Position`]. Should that fail, it is
    /// nobody's error. A `Sync` that is not shown stands before it, or a `Query`.
    Position {
        /// What the event will repeat.
        change: u64,
    },
    /// An answer of pgring's own to the client's `Parse` or `Close` of a statement; when its turn
    /// has come, so has [`Event::Confirmed`].
    Confirm(&'static [u8]),
    /// Something pgring says at this place.
    Emit(Emit),
    /// What the server cannot but refuse, so that it fails where pgring does.
    Refusal {
        /// What the client is told of it.
        error: Box<[u8]>,
        /// It stands for a `Parse` of the client's.
        parsing: bool,
    },
}

/// The types of a statement's parameters, once a server has told them.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ParameterTypes(Rc<OnceCell<Box<[u32]>>>);

impl ParameterTypes {
    /// What is known of them.
    pub fn get(&self) -> Option<&[u32]> {
        self.0.get().map(|types| &**types)
    }

    /// What a `ParameterDescription` says. What cannot be read is not known.
    fn note(&self, body: &[u8]) {
        if let Some(types) = super::branch::parameters(body) {
            self.0.get_or_init(|| types.into());
        }
    }
}

/// The shape of a statement's result ([`wire::result_shape`]), once a server has told it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ResultShape(Rc<Cell<Option<u64>>>);

impl ResultShape {
    /// Of a statement without one.
    pub const NONE: u64 = 0;

    /// What is known of it.
    pub fn get(&self) -> Option<u64> {
        self.0.get()
    }

    /// Now it is known.
    pub fn set(&self, shape: u64) {
        self.0.set(Some(shape));
    }

    /// What a `RowDescription` or `NoData` says.
    fn note(&self, tag: u8, body: &[u8]) {
        self.0.set(if tag == b'T' { wire::result_shape(body) } else { Some(ResultShape::NONE) });
    }
}

/// What the session has to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A statement with a note has run. `rolled_back`: its command tag is `ROLLBACK`.
    Completed {
        /// The note.
        note: u32,
        /// What a `COMMIT` of a failed transaction answers.
        rolled_back: bool,
    },
    /// A `Parse` of the client's, or its `Close` of a statement, has been answered.
    Confirmed,
    /// A statement was prepared before its tables were changed.
    StalePlan,
    /// The server takes no writes, or not in this transaction.
    ReadOnly,
    /// An error; up to the next `Ready` nothing more is answered.
    Failed {
        /// The `Sync` or `Query` that ends what failed has been asked already.
        ended: bool,
        /// It was a `Parse` that failed.
        parsing: bool,
    },
    /// The server is done up to a `Sync` or `Query`. The client has not been told yet.
    Ready(TxStatus),
    /// The client has been told a new value.
    Parameter(String, String),
    /// The server waits for the client's `CopyData`.
    CopyIn,
    /// What has been answered to [`Expect::Position`].
    Position {
        /// Of the question.
        change: u64,
        /// The value.
        answer: String,
    },
}

/// What [`Relay::advance`] needs to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// More bytes from the server.
    Read,
    /// So many bytes at the start of the inbox are for the client as they lie; report with
    /// [`Relay::forwarded`] what has been written.
    Forward(usize),
    /// The client's outbox is full.
    Flush,
    /// Events wait.
    Event,
}

/// A run of rows shorter than this is copied behind what waits for the client already.
const DIRECT: usize = 4 * 1024;
/// Room for so many expected answers is kept for the next pipeline.
const KEPT: usize = 64;
/// Most that waits for a client before its server has to.
const OUTBOX_HIGH: usize = 64 * 1024;

/// See the module.
#[derive(Default, Debug)]
pub struct Relay {
    expected: VecDeque<Expect>,
    /// How many of them are a `ReadyForQuery` for the client: a pipeline may be long, and this is
    /// asked for each of its messages.
    readies: usize,
    /// How many of them change which statements the server has.
    preparing: usize,
    /// What is still to come of a frame that was begun.
    rest: usize,
    rest_shown: bool,
    /// Bytes at the inbox's start that go to the client as they lie.
    run: usize,
    copying_in: bool,
    /// Results of the current `Query` so far.
    results: u32,
    /// After an error under the extended protocol, until its `Sync` has been asked.
    skipping: bool,
    /// How many of what is expected a `Flush` has asked for.
    flushed: usize,
    /// What the client is told instead of the server's answer to pgring's own cancel.
    cancelled: Option<Box<[u8]>>,
}

impl Relay {
    /// The server has been asked.
    pub fn expect(&mut self, expect: Expect) {
        if self.skipping {
            // The server ignores everything up to the Sync.
            match expect {
                Expect::Sync { .. } => self.skipping = false,
                _ => return,
            }
        }
        self.readies += usize::from(ends_ready(&expect));
        self.preparing += usize::from(prepares(&expect));
        self.expected.push_back(expect);
    }

    fn pop(&mut self) -> Option<Expect> {
        let next = self.expected.pop_front()?;
        self.readies -= usize::from(ends_ready(&next));
        self.preparing -= usize::from(prepares(&next));
        self.flushed = self.flushed.saturating_sub(1);
        if self.expected.is_empty() && self.expected.capacity() > KEPT {
            self.expected = VecDeque::new();
        }
        Some(next)
    }

    /// Is an answer outstanding?
    pub fn is_busy(&self) -> bool {
        !self.expected.is_empty() || self.rest > 0 || self.run > 0
    }

    /// The server has been asked to `Flush`.
    pub fn flushed(&mut self) {
        self.flushed = self.expected.len();
    }

    /// Is it the server's turn? Answers that nobody has asked for by a `Flush` or `Sync` stay with
    /// it until somebody does.
    pub fn awaits_answer(&self) -> bool {
        self.readies > 0 || self.flushed > 0 || self.copying_in
    }

    /// Is a `ReadyForQuery` outstanding that the client waits for?
    pub fn awaits_ready(&self) -> bool {
        self.readies > 0
    }

    /// Is it uncertain, until an earlier `Sync` has been answered, whether the server has the
    /// numbered statement (0: the unnamed one)? An error before its `Parse` or `Close` would have
    /// the server skip that.
    pub fn is_unsettled(&self, id: u64) -> bool {
        if self.preparing == 0 || self.readies == 0 {
            return false;
        }
        let earlier = self.expected.iter().rposition(ends_ready).unwrap_or(0);
        self.expected.range(..earlier).any(|expect| match expect {
            Expect::Parse { id: parsed, .. } => *parsed == id,
            Expect::Close { evicted, .. } => *evicted == Some(id),
            _ => false,
        })
    }

    /// How many `ReadyForQuery` are outstanding that the client waits for.
    pub fn readies(&self) -> usize {
        self.readies
    }

    /// Is nothing outstanding of the batch that is being answered but its `ReadyForQuery`? Of several
    /// statements in one `Query` that is not known here.
    pub fn is_at_ready(&self) -> bool {
        let ready = |expect: &Expect| matches!(expect, Expect::Sync { .. } | Expect::Query { .. });
        self.expected.front().is_none_or(|next| ready(next) || matches!(next, Expect::Position { .. }))
    }

    /// Has all been answered that the client has asked, and only what pgring asks behind it has not?
    pub fn is_at_position(&self) -> bool {
        matches!(self.expected.front(), Some(Expect::Position { .. }))
    }

    /// Has a statement of the `Query` that is being answered run? The last one's commit is before its
    /// `CommandComplete` (`exec_simple_query` in `tcop/postgres.c`).
    pub fn has_result(&self) -> bool {
        matches!(self.expected.front(), Some(Expect::Query { .. })) && self.results > 0
    }

    /// Is the client in the middle of a message that only the server can complete?
    pub fn is_mid_frame(&self) -> bool {
        self.rest_shown && (self.rest > 0 || self.run > 0)
    }

    /// Is so much outstanding that the client should wait before it asks for more?
    pub fn is_long(&self) -> bool {
        self.expected.len() >= 4096
    }

    /// Does the server wait for `CopyData`?
    pub fn is_copying_in(&self) -> bool {
        self.copying_in
    }

    /// The client has sent `CopyDone` or `CopyFail`.
    pub fn copy_in_ended(&mut self) {
        self.copying_in = false;
    }

    /// Has the server stopped listening until a `Sync`?
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// pgring cancels what runs: this is what the client is told if that succeeds. `None`: that is
    /// over.
    pub fn cancelled_with(&mut self, error: Option<Box<[u8]>>) {
        self.cancelled = error;
    }

    /// `n` bytes of the last [`Progress::Forward`] have been written.
    pub fn forwarded(&mut self, server: &mut Server, n: usize) {
        server.inbox.consume(n);
        self.run -= n;
    }

    /// The server is gone; nothing is outstanding any more.
    pub fn abandon(&mut self) {
        *self = Relay::default();
    }

    /// Works off the server's inbox.
    ///
    /// # Errors
    /// The server broke the protocol or ended the connection with a FATAL error.
    pub fn advance(
        &mut self,
        server: &mut Server,
        out: &mut Buffer,
        events: &mut Vec<Event>,
        told: &mut Told,
        names: &dyn ClientNames,
    ) -> Result<Progress, ServerError> {
        loop {
            self.emit(out, events);
            if out.len() >= OUTBOX_HIGH {
                return Ok(Progress::Flush);
            }
            if let Some(progress) = self.rows(server, out) {
                return Ok(progress);
            }
            let Some(head) = wire::header(server.inbox.filled())? else {
                return Ok(if events.is_empty() { Progress::Read } else { Progress::Event });
            };
            let of_position = matches!(self.expected.front(), Some(Expect::Position { .. }));
            if (is_row(head.tag) || head.tag == b'V') && !of_position {
                self.begin_rows(head)?;
                continue;
            }
            if server.inbox.len() < head.len {
                return Ok(if events.is_empty() { Progress::Read } else { Progress::Event });
            }
            if matches!(head.tag, b'T' | b't') {
                server.translate_types(head.len);
            }
            self.message(head, server, out, events, told, names)?;
            server.inbox.consume(head.len);
            if matches!(events.last(), Some(Event::Ready(_))) {
                return Ok(Progress::Event);
            }
        }
    }

    /// What pgring answers itself at this place.
    pub fn emit(&mut self, out: &mut Buffer, events: &mut Vec<Event>) {
        while let Some(Expect::Emit(_) | Expect::Confirm(_)) = self.expected.front() {
            match self.pop() {
                Some(Expect::Emit(emit)) => out.put(emit.bytes()),
                Some(Expect::Confirm(bytes)) => {
                    out.put(bytes);
                    events.push(Event::Confirmed);
                }
                _ => {}
            }
        }
    }

    /// Passes on what lies in the inbox of rows, whole ones and parts; `None` when what follows
    /// is something else.
    fn rows(&mut self, server: &mut Server, out: &mut Buffer) -> Option<Progress> {
        if self.run == 0 && self.rest == 0 {
            return None;
        }
        if !self.rest_shown {
            let n = self.rest.min(server.inbox.len());
            server.inbox.consume(n);
            self.rest -= n;
            return (self.rest > 0).then_some(Progress::Read);
        }
        // Extend the run over all the rows that follow.
        loop {
            let filled = server.inbox.filled();
            let n = self.rest.min(filled.len() - self.run);
            self.run += n;
            self.rest -= n;
            if self.rest > 0 {
                break;
            }
            match wire::header(&filled[self.run..]) {
                Ok(Some(head)) if is_row(head.tag) => self.rest = head.len,
                // A broken header is met again when the run is through.
                _ => break,
            }
        }
        if self.run == 0 {
            return (self.rest > 0).then_some(Progress::Read);
        }
        if self.run >= DIRECT && out.is_empty() {
            return Some(Progress::Forward(self.run));
        }
        if self.run >= DIRECT && out.len() + self.run > OUTBOX_HIGH {
            return Some(Progress::Flush);
        }
        out.put(&server.inbox.filled()[..self.run]);
        server.inbox.consume(self.run);
        self.run = 0;
        (self.rest > 0).then_some(Progress::Read)
    }

    fn begin_rows(&mut self, head: Header) -> Result<(), ServerError> {
        self.rest_shown = match self.expected.front() {
            Some(Expect::Query { .. } | Expect::Function) => true,
            Some(Expect::Execute { shown, .. }) => *shown,
            _ => return Err(unasked(head.tag)),
        };
        self.rest = head.len;
        Ok(())
    }

    /// Any message that is looked at whole.
    fn message(
        &mut self,
        head: Header,
        server: &mut Server,
        out: &mut Buffer,
        events: &mut Vec<Event>,
        told: &mut Told,
        names: &dyn ClientNames,
    ) -> Result<(), ServerError> {
        let frame = &server.inbox.filled()[..head.len];
        let body = &frame[wire::HEADER_LEN..];
        if let Some(Expect::Position { change }) = self.expected.front() {
            match head.tag {
                b'1' | b'2' | b'C' => return Ok(()),
                b'D' => {
                    if let Some(value) = wire::first_value(body) {
                        let answer = String::from_utf8_lossy(value).into_owned();
                        events.push(Event::Position { change: *change, answer });
                    }
                    return Ok(());
                }
                b'E' if !is_fatal(body) => {
                    tracing::debug!("the position of the log is not told: {}", wire::error_line(body));
                    return Ok(());
                }
                _ => {}
            }
        }
        let shown = match head.tag {
            b'1' => match self.pop() {
                Some(Expect::Parse { shown, .. }) => {
                    if shown {
                        events.push(Event::Confirmed);
                    }
                    shown
                }
                _ => return Err(unasked(head.tag)),
            },
            b'2' => match self.pop() {
                Some(Expect::Bind { shown }) => shown,
                _ => return Err(unasked(head.tag)),
            },
            b'3' => match self.pop() {
                Some(Expect::Close { shown, .. }) => shown,
                _ => return Err(unasked(head.tag)),
            },
            b't' => match self.expected.front() {
                Some(Expect::Describe { parameters, shown, .. }) => {
                    if let Some(parameters) = parameters {
                        parameters.note(body);
                    }
                    *shown
                }
                _ => false,
            },
            b'T' | b'n' => match self.expected.front() {
                Some(Expect::Describe { result, shown, .. }) => {
                    let shown = *shown;
                    if let Some(result) = result {
                        result.note(head.tag, body);
                    }
                    self.pop();
                    shown
                }
                Some(Expect::Query { .. }) => true,
                _ => return Err(unasked(head.tag)),
            },
            b'C' | b'I' | b's' => self.completed(head.tag, wire::command_tag(body), events)?,
            b'Z' => {
                self.ready(TxStatus::read(body)?, server, events)?;
                return Ok(());
            }
            b'E' => {
                if is_fatal(body) {
                    return Err(ServerError::Refused { line: wire::error_line(body), body: body.to_vec() });
                }
                // Messages are translated, the routine's name is not (plancache.c).
                if wire::error_field(body, b'R') == Some(b"RevalidateCachedQuery") {
                    events.push(Event::StalePlan);
                }
                if wire::error_field(body, b'C') == Some(b"25006") {
                    events.push(Event::ReadOnly);
                }
                match (self.expected.front(), self.cancelled.take()) {
                    (Some(Expect::Refusal { error, .. }), _) => out.put(error),
                    (_, Some(words)) if wire::error_field(body, b'C') == Some(b"57014") => out.put(&words),
                    _ => put_by_clients_names(out, frame, names),
                }
                self.failed(server, events);
                return Ok(());
            }
            b'S' => {
                let (name, value) = wire::parameter_status(body)?;
                let name = String::from_utf8_lossy(name).into_owned();
                let value = String::from_utf8_lossy(value).into_owned();
                if told.tell(&name, &value) {
                    events.push(Event::Parameter(name.clone(), value.clone()));
                    out.put(frame);
                }
                server.report(name, value);
                return Ok(());
            }
            b'N' => self.expected.front().is_none_or(is_shown),
            b'A' => {
                wire::put_notifications(out, frame, server.cancel_key.pid, told.pid());
                return Ok(());
            }
            b'H' | b'c' => true,
            b'G' => {
                // Syncs that were sent before the data are ignored by the server (manual,
                // section 55.2.6).
                self.expected.retain(|expect| !matches!(expect, Expect::Sync { .. }));
                self.readies = self.expected.iter().filter(|expect| ends_ready(expect)).count();
                self.flushed = 0;
                self.copying_in = true;
                events.push(Event::CopyIn);
                true
            }
            tag => return Err(unasked(tag)),
        };
        if shown {
            out.put(frame);
        }
        Ok(())
    }

    fn completed(&mut self, tag: u8, command: &[u8], events: &mut Vec<Event>) -> Result<bool, ServerError> {
        let (note, shown) = match self.expected.front() {
            Some(Expect::Execute { note, shown }) => {
                let found = (*note, *shown);
                self.pop();
                found
            }
            Some(Expect::Query { note, .. }) => {
                self.results += 1;
                (note.map(|first| first.saturating_add(self.results - 1)), true)
            }
            _ => return Err(unasked(tag)),
        };
        self.copying_in = false;
        if let Some(note) = note.filter(|_| tag == b'C') {
            events.push(Event::Completed { note, rolled_back: command == b"ROLLBACK" });
        }
        Ok(shown)
    }

    fn ready(
        &mut self,
        status: TxStatus,
        server: &mut Server,
        events: &mut Vec<Event>,
    ) -> Result<(), ServerError> {
        server.status = status;
        self.copying_in = false;
        self.cancelled = None;
        self.results = 0;
        let asked = self.pop();
        if self.expected.is_empty() {
            server.prepared.settle_named();
        }
        match asked {
            Some(Expect::Sync { shown: false } | Expect::Query { asks_position: true, .. }) => Ok(()),
            Some(
                Expect::Query { .. }
                | Expect::Function
                | Expect::Sync { shown: true }
                | Expect::Position { .. },
            ) => {
                events.push(Event::Ready(status));
                Ok(())
            }
            _ => Err(unasked(b'Z')),
        }
    }

    /// The server skips to the next `Sync`, and so does what is expected of it.
    fn failed(&mut self, server: &mut Server, events: &mut Vec<Event>) {
        self.copying_in = false;
        if matches!(self.expected.front(), Some(Expect::Query { .. } | Expect::Function)) {
            // What was sent ahead of it has been answered.
            server.prepared.settle_named();
            events.push(Event::Failed { ended: true, parsing: false });
            return;
        }
        server.prepared.doubt_asked();
        let parsing = matches!(
            self.expected.front(),
            Some(Expect::Parse { shown: true, .. } | Expect::Refusal { parsing: true, .. })
        );
        // Does the client know of a batch? Then the server ignores its Query like everything else up
        // to its Sync, and the client knows that too.
        let mut in_batch = false;
        let mut lost_query = false;
        // What was to make room and then to be prepared again has never gone.
        let mut kept = Vec::new();
        loop {
            match self.expected.front() {
                None => {
                    self.skipping = true;
                    break;
                }
                // Of the question for the position the server skips all but the Sync.
                Some(Expect::Sync { .. } | Expect::Position { .. }) => break,
                Some(Expect::Parse { id, .. }) => {
                    if !kept.contains(id) {
                        server.prepared.remove(*id);
                    }
                    server.unnamed = 0;
                }
                // It is still there.
                Some(Expect::Close { evicted: Some(id), .. }) => {
                    drop(server.prepared.insert(*id, usize::MAX));
                    kept.push(*id);
                }
                Some(_) => {}
            }
            match self.pop() {
                Some(Expect::Query { .. } | Expect::Function) => lost_query = true,
                Some(asked) if !lost_query => in_batch |= is_shown(&asked),
                _ => {}
            }
        }
        let asks_position = |expect: Option<&Expect>| matches!(expect, Some(Expect::Position { .. }));
        if lost_query && !in_batch && !asks_position(self.expected.front()) {
            // What was sent ahead of a Query failed, and the server ignores the Query too.
            wire::put_sync(&mut server.outbox);
            self.expect(Expect::Sync { shown: true });
        }
        // A Sync of pgring's own does not end what the client has begun.
        let ended = match self.expected.front() {
            Some(Expect::Sync { shown }) => *shown || asks_position(self.expected.get(1)),
            front => asks_position(front),
        };
        events.push(Event::Failed { ended, parsing });
    }
}

/// Is a `ReadyForQuery` for the client what answers it at last?
fn ends_ready(expect: &Expect) -> bool {
    match expect {
        Expect::Query { asks_position, .. } => !asks_position,
        Expect::Sync { shown } => *shown,
        expect => matches!(expect, Expect::Function | Expect::Position { .. }),
    }
}

fn is_fatal(body: &[u8]) -> bool {
    matches!(wire::error_field(body, b'V'), Some(b"FATAL" | b"PANIC"))
}

/// Does it change which statements a server has?
fn prepares(expect: &Expect) -> bool {
    matches!(expect, Expect::Parse { .. } | Expect::Close { evicted: Some(_), .. })
}

fn is_row(tag: u8) -> bool {
    matches!(tag, b'D' | b'd')
}

fn is_shown(expect: &Expect) -> bool {
    match expect {
        Expect::Parse { shown, .. }
        | Expect::Bind { shown }
        | Expect::Close { shown, .. }
        | Expect::Execute { shown, .. }
        | Expect::Describe { shown, .. }
        | Expect::Sync { shown } => *shown,
        Expect::Position { .. } => false,
        Expect::Query { .. }
        | Expect::Function
        | Expect::Confirm(_)
        | Expect::Emit(_)
        | Expect::Refusal { .. } => true,
    }
}

fn unasked(tag: u8) -> ServerError {
    ServerError::Protocol(format!("message '{}' was not expected", char::from(tag).escape_default()))
}
