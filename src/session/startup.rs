//! From an accepted socket to a session: encryption, cancel requests, who the client is.

use super::cancel::Control;
use super::directory::{Directory, User};
use super::lookup::{Found, Lookup};
use super::state::{End, Session};
use super::worker::Worker;
use crate::auth::{ChannelBinding, ScramServer, Verifier, md5};
use crate::backend::{Stream, tune};
use crate::config::CONSOLE_DATABASE;
use crate::error::{ClientError, SqlState};
use crate::wire::{self, Buffer, Initial, Startup};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;

/// A socket that has been accepted.
pub enum Accepted {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

/// The longest message of a client that has not logged in (`PQ_SMALL_MESSAGE_LIMIT` is meant for
/// these as well; SCRAM messages and passwords are shorter).
const LOGIN_MESSAGE: usize = 10_000;

/// How many clients of the console find a place when all are taken. Who says that it is an operator has
/// not proven it yet, so there is a limit to them too.
const CONSOLE_PLACES: usize = 10;

/// How long a client that is turned away has to read why.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves one connection from its first byte to its last. From this call on, not from its first
/// turn, it counts as one that has arrived.
pub fn serve(worker: Rc<Worker>, accepted: Accepted) -> impl Future<Output = ()> {
    let arrival = Arrival::new(&worker);
    serve_arrived(worker, accepted, arrival)
}

/// A connection that is not a client yet. A process that goes waits for it.
struct Arrival(Rc<Worker>);

impl Arrival {
    fn new(worker: &Rc<Worker>) -> Arrival {
        worker.arrivals.fetch_add(1, Ordering::SeqCst);
        Arrival(Rc::clone(worker))
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.0.arrivals.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve_arrived(worker: Rc<Worker>, accepted: Accepted, arrival: Arrival) {
    let address = address(&accepted);
    let directory = worker.directory.load_full();
    let session = match Box::pin(login(&worker, &directory, accepted, &address)).await {
        Ok(Some(session)) => session,
        Ok(None) => return,
        Err(Rejected { error, quiet }) => {
            if !quiet {
                tracing::info!(client = address, "login failed: {error}");
            }
            return;
        }
    };
    drop(arrival);
    let clients = Counted::enter(&worker, &session);
    let end =
        if session.is_console() { Box::pin(session.run_as_console()).await } else { session.run().await };
    drop(clients);
    match end {
        End::Terminated => tracing::debug!(client = address, "session ended"),
        End::Vanished(error) => tracing::debug!(client = address, "client gone: {error}"),
        End::Fatal(error) => tracing::info!(client = address, "session ended: {error}"),
    }
}

/// The counters of clients, for as long as a session lasts.
struct Counted {
    worker: Rc<Worker>,
}

impl Counted {
    fn enter(worker: &Rc<Worker>, session: &Session) -> Counted {
        session.database.counters.client_connects.inc();
        Counted { worker: Rc::clone(worker) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.worker.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Frees a client's place if the login does not come to its end.
struct Place<'a>(Option<&'a Worker>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(worker) = self.0 {
            worker.clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Why a connection does not become a session.
struct Rejected {
    error: String,
    /// Not worth a line: a port scan, a health check that connects and leaves.
    quiet: bool,
}

impl From<io::Error> for Rejected {
    fn from(error: io::Error) -> Rejected {
        Rejected { quiet: error.kind() == io::ErrorKind::UnexpectedEof, error: error.to_string() }
    }
}

impl Rejected {
    fn loud(error: impl ToString) -> Rejected {
        Rejected { error: error.to_string(), quiet: false }
    }
}

fn address(accepted: &Accepted) -> String {
    match accepted {
        Accepted::Tcp(stream) => stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default(),
        Accepted::Unix(_) => "unix".to_owned(),
    }
}

async fn login(
    worker: &Rc<Worker>,
    directory: &Arc<Directory>,
    accepted: Accepted,
    address: &str,
) -> Result<Option<Box<Session>>, Rejected> {
    let late = tokio::time::Instant::now() + directory.listen.login_timeout;
    // Who has not said what it wants is told nothing, as by PostgreSQL (`process_startup_packet_die`).
    let Ok(first) = tokio::time::timeout_at(late, first_packet(worker, directory, accepted)).await else {
        return Err(Rejected::loud("login_timeout is over, and no start-up packet has come"));
    };
    let Some((stream, startup)) = first? else { return Ok(None) };
    let mut door = Door { stream, inbox: Buffer::new(), outbox: Buffer::new() };
    let admitted = tokio::time::timeout_at(late, admit(worker, directory, &mut door, &startup, address));
    let admitted = admitted.await.unwrap_or_else(|_| {
        let told = "canceling authentication due to login_timeout";
        Err(ClientError::fatal(SqlState::CANCELED, told).into())
    });
    match admitted {
        Ok(made) => Ok(Some(Box::new(made.session(door)))),
        Err(Turned::Away(error)) => {
            wire::put_error(
                &mut door.outbox,
                &ClientError { severity: crate::error::Severity::Fatal, ..error.clone() },
            );
            // A client that does not read its last message does not get it.
            let farewell = tokio::time::timeout(FAREWELL, door.stream.drain(&mut door.outbox));
            farewell.await.unwrap_or(Ok(()))?;
            Err(Rejected::loud(error))
        }
        Err(Turned::Gone(error)) => Err(error.into()),
    }
}

/// Encryption and cancel requests, up to the start-up message; `None` when there is none to come.
async fn first_packet(
    worker: &Rc<Worker>,
    directory: &Directory,
    accepted: Accepted,
) -> Result<Option<(Stream, Startup)>, Rejected> {
    let mut stream = match accepted {
        Accepted::Unix(stream) => Stream::Unix(stream),
        Accepted::Tcp(stream) => {
            tune(&stream, &directory.tcp)?;
            // TLS from the first byte on: a TLS handshake record (22) is no length of a packet.
            let mut first = [0; 1];
            if stream.peek(&mut first).await? == 1 && first[0] == 22 {
                let Some(tls) = directory.tls.clone() else {
                    return Err(Rejected::loud("a client began with TLS, which is off"));
                };
                let accepted = TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream).await?;
                if accepted.get_ref().1.alpn_protocol() != Some(b"postgresql") {
                    return Err(Rejected::loud(
                        "a client began with TLS without the ALPN protocol \"postgresql\"",
                    ));
                }
                Stream::encrypted(accepted)
            } else {
                Stream::Tcp(stream)
            }
        }
    };
    let mut asked_gss = false;
    loop {
        let body = match read_packet(&mut stream).await {
            Ok(body) => body,
            Err(error) => {
                let told = ClientError::fatal(SqlState::PROTOCOL, error.to_string());
                return Err(refuse(stream, &told, error).await);
            }
        };
        let initial = match wire::initial(&body) {
            Ok(initial) => initial,
            Err(error) => {
                let code = match error {
                    wire::StartupError::Version(..) => SqlState::REFUSED,
                    _ => SqlState::PROTOCOL,
                };
                let told = ClientError::fatal(code, error.to_string());
                return Err(refuse(stream, &told, io::Error::other(error)).await);
            }
        };
        stream = match initial {
            Initial::Tls => match (stream, directory.tls.clone()) {
                (Stream::Tcp(mut tcp), Some(tls)) => {
                    tcp.write_all(b"S").await?;
                    let accepted = TlsAcceptor::from(Arc::clone(&tls.config)).accept(tcp).await?;
                    Stream::encrypted(accepted)
                }
                (Stream::Tls(_), _) => return Err(Rejected::loud("a client asked for TLS inside of TLS")),
                (mut plain, _) => {
                    write_all(&mut plain, b"N").await?;
                    plain
                }
            },
            Initial::Gss if asked_gss => return Err(Rejected::loud("a client asked for GSSAPI twice")),
            Initial::Gss => {
                asked_gss = true;
                write_all(&mut stream, b"N").await?;
                stream
            }
            Initial::Cancel { pid, secret } => {
                worker.forward_cancel(pid, secret).await;
                return Ok(None);
            }
            Initial::Startup(startup) => return Ok(Some((stream, startup))),
        };
    }
}

/// A packet without a tag. Reads not a byte beyond it: what follows may have to be encrypted.
async fn read_packet(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut word = [0; 4];
    read_exact(stream, &mut word).await?;
    let len = wire::initial_len(word).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let mut body = vec![0; len - 4];
    read_exact(stream, &mut body).await?;
    Ok(body)
}

async fn read_exact(stream: &mut Stream, into: &mut [u8]) -> io::Result<()> {
    match stream {
        Stream::Tcp(stream) => stream.read_exact(into).await,
        Stream::Unix(stream) => stream.read_exact(into).await,
        Stream::Tls(stream) => stream.tls.read_exact(into).await,
    }
    .map(|_| ())
}

async fn write_all(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    let mut out = Buffer::new();
    out.put(bytes);
    stream.drain(&mut out).await
}

/// Tells why, as far as the client will hear it.
async fn refuse(mut stream: Stream, told: &ClientError, error: io::Error) -> Rejected {
    if error.kind() != io::ErrorKind::UnexpectedEof {
        let mut out = Buffer::new();
        wire::put_error(&mut out, told);
        // A client that sends rubbish may be gone already; the log has the first error.
        let _ = stream.drain(&mut out).await;
    }
    Rejected::from(error)
}

/// A client that is being admitted.
pub(super) struct Door {
    pub(super) stream: Stream,
    pub(super) inbox: Buffer,
    pub(super) outbox: Buffer,
}

/// Why a client is not admitted.
pub(super) enum Turned {
    /// It is told.
    Away(ClientError),
    /// It is gone.
    Gone(io::Error),
}

impl From<ClientError> for Turned {
    fn from(error: ClientError) -> Turned {
        Turned::Away(error)
    }
}

impl From<io::Error> for Turned {
    fn from(error: io::Error) -> Turned {
        Turned::Gone(error)
    }
}

impl Door {
    /// Waits for a whole message of a client that has not proven who it is.
    async fn password_message(&mut self) -> Result<Vec<u8>, Turned> {
        loop {
            if let Some(head) =
                wire::header(self.inbox.filled()).map_err(|e| ClientError::protocol(e.to_string()))?
            {
                if head.tag != b'p' || head.len > LOGIN_MESSAGE {
                    return Err(ClientError::protocol("expected password response").into());
                }
                if self.inbox.len() >= head.len {
                    let body = self.inbox.filled()[wire::HEADER_LEN..head.len].to_vec();
                    self.inbox.consume(head.len);
                    return Ok(body);
                }
            }
            if self.stream.read(&mut self.inbox).await? == 0 {
                return Err(Turned::Gone(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    async fn ask(&mut self, method: u32, data: &[u8]) -> Result<(), Turned> {
        wire::put_frame(&mut self.outbox, b'R', |out| {
            out.put(&method.to_be_bytes());
            out.put(data);
        });
        Ok(self.stream.drain(&mut self.outbox).await?)
    }
}

async fn admit(
    worker: &Rc<Worker>,
    directory: &Arc<Directory>,
    door: &mut Door,
    startup: &Startup,
    address: &str,
) -> Result<super::welcome::Admitted, Turned> {
    let user_name = startup.parameter("user").unwrap_or_default().to_owned();
    let database_name =
        startup.parameter("database").filter(|name| !name.is_empty()).unwrap_or(&user_name).to_owned();
    // Counted from here on: a flood of logins is a flood of clients.
    let limit = directory.listen.max_clients + reserve(directory, &user_name, &database_name);
    let entered =
        worker.clients.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n < limit).then_some(n + 1));
    if entered.is_err() {
        worker.metrics.clients_refused.inc();
        return Err(ClientError::fatal(SqlState::TOO_MANY, "sorry, too many clients already").into());
    }
    let mut place = Place(Some(worker));
    if worker.draining.get() == Some(Duration::ZERO) {
        return Err(ClientError::fatal(SqlState::UNAVAILABLE, "pgring is shutting down").into());
    }
    if directory.tls_required && matches!(door.stream, Stream::Tcp(_)) {
        return Err(ClientError::fatal(
            SqlState::NOT_ALLOWED,
            "this server takes only encrypted connections",
        )
        .with_hint("Use sslmode=require.")
        .into());
    }
    if user_name.is_empty() {
        return Err(ClientError::fatal(
            SqlState::NOT_ALLOWED,
            "no PostgreSQL user name specified in startup packet",
        )
        .into());
    }
    let minor = negotiate(door, startup);
    let user = match identify(directory, door, &user_name, &database_name).await {
        Ok(user) => user,
        Err(turned) => {
            if let Turned::Away(_) = turned {
                worker.metrics.login_failures.inc();
            }
            return Err(turned);
        }
    };
    refuse_replication(startup)?;
    // Only those who have proven who they are learn which databases there are.
    let ends = door.stream.ends();
    let registration = Control::register(worker, secret_len(minor), address.to_owned(), ends);
    *registration.control.user.borrow_mut() = user_name.clone();
    *registration.control.database.borrow_mut() = database_name.clone();
    let admitted = if database_name == CONSOLE_DATABASE {
        super::welcome::welcome_to_console(worker, directory, door, registration, &user, &user_name)?
    } else {
        super::welcome::welcome(
            worker,
            directory,
            door,
            registration,
            &user,
            &user_name,
            &database_name,
            startup,
        )
        .await?
    };
    place.0 = None;
    Ok(admitted)
}

/// Places beyond `max_clients`: whoever has to find out why there are none left needs one.
fn reserve(directory: &Directory, user: &str, database: &str) -> usize {
    if database == CONSOLE_DATABASE && directory.console.admits(user) { CONSOLE_PLACES } else { 0 }
}

/// The protocol to speak: ours if the client's is newer or has options that are not known.
fn negotiate(door: &mut Door, startup: &Startup) -> u16 {
    let unknown: Vec<&str> = startup
        .parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("_pq_."))
        .collect();
    // 3.1 was never released (manual, section 55.1).
    let spoken = if startup.minor >= wire::NEWEST_MINOR { wire::NEWEST_MINOR } else { 0 };
    if startup.minor > wire::NEWEST_MINOR || startup.minor == 1 || !unknown.is_empty() {
        wire::put_negotiate(&mut door.outbox, spoken, &unknown);
    }
    spoken
}

/// How long a cancel key is: protocol 3.2 allows more than 4 bytes.
fn secret_len(minor: u16) -> usize {
    if minor >= 2 { 32 } else { 4 }
}

/// Who the client is: a user of the file, or of the database if users are looked up there.
async fn identify(
    directory: &Directory,
    door: &mut Door,
    name: &str,
    database: &str,
) -> Result<Arc<User>, Turned> {
    if let Some(user) = directory.users.get(name) {
        authenticate(directory, door, name, Some(user)).await?;
        return Ok(Arc::clone(user));
    }
    let found = look_up(directory, name, database).await?;
    let role = found.as_ref().and_then(|(_, found)| found.role.as_ref());
    let expired = role.and_then(|role| role.expires).is_some_and(|end| end <= Instant::now());
    // PostgreSQL does not tell these from a wrong password either (`get_role_password`).
    let known = role.filter(|_| !expired).and_then(|role| role.user.as_ref());
    let authenticated = authenticate(directory, door, name, known.map(|user| &**user)).await;
    if let Err(Turned::Away(_)) = &authenticated {
        match role {
            Some(_) if expired => tracing::info!(user = name, "the role's password has expired"),
            Some(role) if role.user.is_none() => {
                tracing::info!(user = name, "the role has no usable password")
            }
            _ => {}
        }
        if let Some((lookup, found)) = &found {
            lookup.doubt(found);
        }
    }
    authenticated?;
    match (known, role) {
        (Some(_), Some(role)) if !role.can_login => {
            let told = format!("role \"{name}\" is not permitted to log in");
            Err(ClientError::fatal(SqlState::NOT_ALLOWED, told).into())
        }
        (Some(user), _) => Ok(Arc::clone(user)),
        (None, _) => Err(crate::auth::AuthError::Refused.client_error(name).into()),
    }
}

/// What the database says of a user; `None` where nobody is asked. A database that does not exist
/// has no users: who is none learns no more.
async fn look_up<'a>(
    directory: &'a Directory,
    name: &str,
    database: &str,
) -> Result<Option<(&'a Lookup, Found)>, Turned> {
    let Some(lookup) = &directory.lookup else { return Ok(None) };
    let home = if database == CONSOLE_DATABASE { &lookup.console } else { database };
    let Some(database) = directory.databases.get(home) else { return Ok(None) };
    // So that the client hears why before its login has taken too long.
    let patience = directory.listen.login_timeout.mul_f32(0.8);
    match lookup.find(database, name, patience).await {
        Ok(found) => Ok(Some((lookup, found))),
        Err(error) => Err(error.client_error().into()),
    }
}

async fn authenticate(
    directory: &Directory,
    door: &mut Door,
    name: &str,
    user: Option<&User>,
) -> Result<(), Turned> {
    let mock;
    let verifier = match user {
        Some(user) => &user.verifier,
        None => {
            mock = Verifier::mock(name, &directory.mock_secret);
            &mock
        }
    };
    let failed = |error: crate::auth::AuthError| Turned::Away(error.client_error(name));
    match verifier {
        Verifier::Md5(hash) => {
            let salt = md5::salt();
            door.ask(5, &salt).await?;
            let message = door.password_message().await?;
            hash.check(salt, message.strip_suffix(b"\0").unwrap_or(&message)).map_err(failed)?;
        }
        Verifier::Scram(verifier) => {
            let binding = match (&door.stream, &directory.tls) {
                (Stream::Tls(_), Some(tls)) => tls.binding.clone(),
                _ => ChannelBinding::None,
            };
            let mut scram = ScramServer::new(verifier, binding);
            let mut offered = Vec::new();
            for mechanism in scram.mechanisms() {
                offered.extend(mechanism.as_bytes());
                offered.push(0);
            }
            offered.push(0);
            door.ask(10, &offered).await?;
            let first = door.password_message().await?;
            let (mechanism, data) =
                sasl_initial(&first).ok_or_else(|| ClientError::protocol("malformed SCRAM message"))?;
            let challenge = scram.client_first(mechanism, data).map_err(failed)?;
            door.ask(11, &challenge).await?;
            let last = door.password_message().await?;
            let proof = scram.client_final(&last).map_err(failed)?;
            if let (Some(user), Some(key)) = (user, scram.client_key()) {
                user.server.keyring.learn(verifier, key);
            }
            door.ask(12, &proof).await?;
        }
    }
    wire::put_frame(&mut door.outbox, b'R', |out| out.put(&[0; 4]));
    Ok(())
}

/// The mechanism and the data of a `SASLInitialResponse`.
fn sasl_initial(body: &[u8]) -> Option<(&str, &[u8])> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let mechanism = std::str::from_utf8(&body[..end]).ok()?;
    let (len, data) = body[end + 1..].split_first_chunk::<4>()?;
    (usize::try_from(i32::from_be_bytes(*len)).ok()? == data.len()).then_some((mechanism, data))
}

fn refuse_replication(startup: &Startup) -> Result<(), ClientError> {
    match startup.parameter("replication") {
        None | Some("false" | "off" | "no" | "0" | "f" | "n") => Ok(()),
        Some(_) => Err(ClientError::refused(
            "replication connections do not go through pgring",
            "Connect to the server itself.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of what the function's calls give.
    fn future_size<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands of clients wait at a time. What one takes while it does is decided here: what only
    /// some statements need belongs into a box of theirs.
    #[test]
    fn an_idle_client_is_small() {
        for (what, size, most) in [
            ("the future", future_size(serve_arrived), 1_600),
            ("the session", size_of::<Session>(), 1_664),
            ("the session's handle", size_of::<Control>(), 480),
        ] {
            assert!(size <= most, "{what} takes {size} bytes, which is more than {most}");
        }
    }
}
