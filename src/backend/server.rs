//! A logged-in connection and what is known of its state.

use super::{CancelKey, Facts, PreparedNames, Settings, Stream, TypeMap, types};
use crate::config::Endpoint;
use crate::wire::{self, Buffer, TxStatus};
use arc_swap::ArcSwapOption;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use thiserror::Error;

/// Why a connection is of no use any more.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The socket failed.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// The server closed it.
    #[error("the server closed the connection")]
    Closed,
    /// It sent something that is not the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// It refused what pgring itself had to ask of it.
    #[error("the server refused: {line}")]
    Refused {
        /// Severity, code and message.
        line: String,
        /// The whole `ErrorResponse` body.
        body: Vec<u8>,
    },
}

impl From<wire::FrameError> for ServerError {
    fn from(error: wire::FrameError) -> ServerError {
        ServerError::Protocol(error.to_string())
    }
}

impl From<wire::BodyError> for ServerError {
    fn from(error: wire::BodyError) -> ServerError {
        ServerError::Protocol(error.to_string())
    }
}

/// One connection to one PostgreSQL, logged in.
pub struct Server {
    pub(super) stream: Stream,
    /// Bytes from the server that nobody has looked at.
    pub inbox: Buffer,
    /// Bytes for the server that are not yet written.
    pub outbox: Buffer,
    /// Notifications that came while pgring spoke with the server itself: they are the client's.
    pub asides: Buffer,
    /// Whom to ask to cancel what runs here.
    pub cancel_key: Arc<CancelKey>,
    /// What the last `ReadyForQuery` said.
    pub status: TxStatus,
    /// The parameters it reports, by name.
    pub reported: BTreeMap<String, String>,
    /// The settings it has beyond those it began with.
    pub settings: Arc<Settings>,
    /// The named prepared statements it has.
    pub prepared: PreparedNames,
    /// Which statement is its unnamed one; 0 is none.
    pub unnamed: u64,
    /// What others may see of it.
    pub facts: Arc<Facts>,
    /// When it was last given back.
    pub used: Instant,
    /// The position in the log up to which the replica it leads to is known to have replayed. One
    /// that restarts may be behind that again, but has ended this connection by then.
    pub replayed: u64,
    /// How users' types are called there and at home, as far as it is known; `None` where there is no
    /// difference to be expected: it is the home shard's, or the only one.
    pub types: Option<Arc<ArcSwapOption<TypeMap>>>,
    /// The settings and the reported parameters when they were compared last, and whether something
    /// has been reported since.
    compared: (Arc<Settings>, BTreeMap<String, String>),
    is_news: bool,
    /// How often it has been asked something ([`Server::ask_ahead`]) whose answer has not been read.
    owes: u32,
}

impl Server {
    pub(super) fn new(stream: Stream, endpoint: Endpoint) -> Server {
        let now = Instant::now();
        let prepared = PreparedNames::default();
        let facts = Facts { ends: stream.ends(), opened: now, prepared: prepared.shown() };
        Server {
            stream,
            inbox: Buffer::new(),
            outbox: Buffer::new(),
            asides: Buffer::new(),
            cancel_key: Arc::new(CancelKey { endpoint, pid: 0, secret: Vec::new() }),
            status: TxStatus::Idle,
            reported: BTreeMap::new(),
            settings: Arc::default(),
            prepared,
            unnamed: 0,
            facts: Arc::new(facts),
            used: now,
            replayed: 0,
            types: None,
            compared: Default::default(),
            is_news: false,
            owes: 0,
        }
    }

    /// Has it parse a text. The types are as the client knows them.
    pub fn put_parse(&mut self, name: &[u8], sql: &[u8], types: &[u8]) {
        let declared = self.types.as_ref().and_then(|map| types::declared(map.load().as_deref(), types));
        wire::put_parse(&mut self.outbox, name, sql, declared.as_deref().unwrap_or(types));
    }

    /// The message at the start of the inbox, `len` bytes long, describes parameters or columns: their
    /// types become what the client knows them by.
    pub fn translate_types(&mut self, len: usize) {
        let Some(map) = &self.types else { return };
        if let Some(map) = &*map.load()
            && !map.is_same()
        {
            map.translate(&mut self.inbox.filled_mut()[..len]);
        }
    }

    /// Another descriptor of its socket.
    pub fn socket(&self) -> io::Result<std::os::fd::OwnedFd> {
        self.stream.socket()
    }

    /// A parameter has been reported.
    pub fn report(&mut self, name: String, value: String) {
        self.reported.insert(name, value);
        self.is_news = true;
    }

    /// What is reported is what the settings make of it.
    pub(super) fn take_as_given(&mut self) {
        self.is_news = false;
        self.compared = (Arc::clone(&self.settings), self.reported.clone());
    }

    /// Has a reported parameter come to another value since the last time, although nothing that is
    /// known to set it has? Then whether it is one that [`Server::settings`] has a statement for.
    pub fn changed_unasked(&mut self) -> Option<bool> {
        if !self.is_news {
            return None;
        }
        let (settings, reported) = &self.compared;
        let stands = |name: &str| settings.get(name) == self.settings.get(name);
        let unasked = |name: &str| match name {
            // A server that is promoted says so.
            "in_hot_standby" => false,
            "is_superuser" => stands("role") && stands("session_authorization"),
            name => stands(name),
        };
        let mut changed = None;
        for (name, value) in &self.reported {
            let key = name.to_ascii_lowercase();
            if reported.get(name).is_some_and(|before| before != value) && unasked(&key) {
                changed = Some(changed == Some(true) || self.settings.get(&key).is_some());
            }
        }
        self.take_as_given();
        changed
    }

    /// Reads once into the inbox; the end of the stream is an error here.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ServerError>> {
        match std::task::ready!(self.stream.poll_read(cx, &mut self.inbox)) {
            Ok(0) => Poll::Ready(Err(ServerError::Closed)),
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Writes the outbox; ready when it is empty.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ServerError>> {
        self.stream.poll_drain(cx, &mut self.outbox).map_err(ServerError::from)
    }

    /// Writes some of `bytes` past the outbox, which has to be empty.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, ServerError>> {
        debug_assert!(self.outbox.is_empty(), "bytes must not overtake the outbox");
        self.stream.poll_write(cx, bytes).map_err(ServerError::from)
    }

    /// Whether an idle connection is as it was left: nothing has come, not even its end.
    /// A `ParameterStatus` or notice that came meanwhile is taken in.
    pub fn is_quiet(&mut self) -> bool {
        if self.status != TxStatus::Idle || !self.outbox.is_empty() {
            return false;
        }
        while self.stream.has_news(&mut self.inbox) {
            let Ok(Some(head)) = wire::header(self.inbox.filled()) else { return false };
            if self.inbox.len() < head.len {
                return false;
            }
            let body = &self.inbox.filled()[wire::HEADER_LEN..head.len];
            match head.tag {
                b'S' => match wire::parameter_status(body) {
                    Ok((name, value)) => {
                        let (name, value) = (lossy(name), lossy(value));
                        self.report(name, value);
                    }
                    Err(_) => return false,
                },
                b'N' => {}
                _ => return false,
            }
            self.inbox.consume(head.len);
        }
        true
    }

    /// Waits until the whole next frame is in the inbox. Cancel safe.
    pub async fn frame(&mut self) -> Result<wire::Header, ServerError> {
        loop {
            if let Some(head) = wire::header(self.inbox.filled())?
                && self.inbox.len() >= head.len
            {
                return Ok(head);
            }
            std::future::poll_fn(|cx| self.poll_read(cx)).await?;
        }
    }

    /// Runs statements of pgring's own, one transaction each, ignoring their results.
    ///
    /// # Errors
    /// The first one the server refuses; the later ones have run all the same. Not cancel safe:
    /// a connection on which this was dropped is in an unknown state and must be closed.
    pub async fn run(&mut self, statements: &[String]) -> Result<(), ServerError> {
        self.settle().await?;
        for statement in statements {
            wire::put_query(&mut self.outbox, statement.as_bytes());
        }
        std::future::poll_fn(|cx| self.poll_drain(cx)).await?;
        let mut refused = None;
        let mut waiting = statements.len();
        while waiting > 0 {
            let head = self.frame().await?;
            let body = &self.inbox.filled()[wire::HEADER_LEN..head.len];
            match head.tag {
                b'E' if refused.is_none() => {
                    refused =
                        Some(ServerError::Refused { line: wire::error_line(body), body: body.to_vec() });
                }
                b'S' => {
                    let (name, value) = wire::parameter_status(body)?;
                    let (name, value) = (lossy(name), lossy(value));
                    self.report(name, value);
                }
                b'Z' => {
                    self.status = TxStatus::read(body)?;
                    waiting -= 1;
                }
                b'A' => self.asides.put(&self.inbox.filled()[..head.len]),
                b'G' | b'W' => {
                    return Err(ServerError::Protocol("a statement of pgring's own began a COPY".into()));
                }
                _ => {}
            }
            self.inbox.consume(head.len);
        }
        refused.map_or(Ok(()), Err)
    }

    /// Runs one statement of pgring's own and gives the first column of its first row.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub async fn ask(&mut self, statement: &str) -> Result<Option<String>, ServerError> {
        Ok(self.ask_all(statement).await?.into_iter().next().flatten())
    }

    /// Asks as [`Server::ask`] does, without waiting for the answer: whatever is asked next has to
    /// [settle](Server::settle) that first. Nothing else may be outstanding.
    pub async fn ask_ahead(&mut self, statement: &str) {
        self.owes += 1;
        wire::put_query(&mut self.outbox, statement.as_bytes());
        // What does not leave now, and what has failed, is seen when the answer is read.
        std::future::poll_fn(|cx| {
            let _ = self.poll_drain(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Has it still to answer what was asked ahead?
    pub fn owes(&self) -> bool {
        self.owes > 0
    }

    /// Reads the answer to what was asked ahead.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub async fn settle(&mut self) -> Result<(), ServerError> {
        let mut outcome = Ok(());
        while self.owes > 0 {
            self.owes -= 1;
            match self.answers().await {
                Ok(_) => {}
                // The rest is answered nonetheless.
                Err(error @ ServerError::Refused { .. }) => outcome = outcome.and(Err(error)),
                Err(error) => return Err(error),
            }
        }
        outcome
    }

    /// Brings the settings in line with a session's, in one round trip of its own; none when
    /// they agree already.
    ///
    /// # Errors
    /// As [`Server::run`]; the connection must then be closed.
    pub async fn align(&mut self, wanted: &Arc<Settings>) -> Result<(), ServerError> {
        let statements = self.settings.statements_towards(wanted);
        if !statements.is_empty() {
            self.run(&statements).await?;
            // A Query ends the life of the unnamed statement.
            self.unnamed = 0;
        }
        self.settings = Arc::clone(wanted);
        Ok(())
    }

    /// Do the settings agree with a session's?
    pub fn is_aligned(&self, wanted: &Arc<Settings>) -> bool {
        Arc::ptr_eq(&self.settings, wanted) || self.settings == *wanted
    }

    /// Forgets all session state: `DISCARD ALL`.
    ///
    /// # Errors
    /// As [`Server::run`]; the connection must then be closed.
    pub async fn discard_all(&mut self) -> Result<(), ServerError> {
        self.run(&["DISCARD ALL".to_owned()]).await?;
        self.settings = Arc::default();
        self.take_as_given();
        self.prepared.clear();
        self.unnamed = 0;
        self.asides.clear();
        Ok(())
    }

    /// Forgets all settings, those included that nobody knows of, and whom it is.
    ///
    /// # Errors
    /// As [`Server::run`]; the connection must then be closed.
    pub async fn forget_settings(&mut self) -> Result<(), ServerError> {
        self.run(&["RESET SESSION AUTHORIZATION".to_owned(), "RESET ROLE; RESET ALL".to_owned()]).await?;
        self.unnamed = 0;
        self.settings = Arc::default();
        self.take_as_given();
        Ok(())
    }

    /// Is this a parameter whose changes it tells?
    pub fn reports(&self, name: &str) -> bool {
        self.reported.keys().any(|reported| reported.eq_ignore_ascii_case(name))
    }

    /// Forgets these settings, but for those that a session has made.
    ///
    /// # Errors
    /// As [`Server::run`]; the connection must then be closed.
    pub async fn reset(&mut self, names: &[String]) -> Result<(), ServerError> {
        let others = names.iter().filter(|name| self.settings.get(name).is_none() && !self.reports(name));
        let resets: Vec<String> = others.map(|name| format!("RESET {name}")).collect();
        if resets.is_empty() {
            return Ok(());
        }
        self.run(&[resets.join("; ")]).await
    }

    /// Runs several statements of pgring's own as one message and gives each row's first column.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub async fn ask_all(&mut self, statements: &str) -> Result<Vec<Option<String>>, ServerError> {
        self.settle().await?;
        wire::put_query(&mut self.outbox, statements.as_bytes());
        self.answers().await
    }

    async fn answers(&mut self) -> Result<Vec<Option<String>>, ServerError> {
        std::future::poll_fn(|cx| self.poll_drain(cx)).await?;
        let mut values = Vec::new();
        let mut refused = None;
        loop {
            let head = self.frame().await?;
            let body = &self.inbox.filled()[wire::HEADER_LEN..head.len];
            match head.tag {
                b'D' => values.push(wire::first_value(body).map(lossy)),
                b'E' => {
                    refused = Some(ServerError::Refused { line: wire::error_line(body), body: body.to_vec() })
                }
                b'A' => self.asides.put(&self.inbox.filled()[..head.len]),
                b'S' => {
                    let (name, value) = wire::parameter_status(body)?;
                    let (name, value) = (lossy(name), lossy(value));
                    self.report(name, value);
                }
                b'Z' => {
                    self.status = TxStatus::read(body)?;
                    self.inbox.consume(head.len);
                    return refused.map_or(Ok(values), Err);
                }
                _ => {}
            }
            self.inbox.consume(head.len);
        }
    }

    /// Tells the server that nobody will speak again, if that can be done without waiting.
    pub fn say_goodbye(&mut self) {
        if self.outbox.is_empty() {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            // Whether it is heard does not matter: the socket closes anyway.
            let _ = self.stream.poll_write(&mut cx, &wire::TERMINATE);
        }
    }
}

/// Parameter names and values are ASCII but for what users put in `application_name`.
pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
