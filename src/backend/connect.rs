//! From an endpoint to a logged-in [`Server`].

use super::login::login;
use super::{Server, ServerError, Stream, tune};
use crate::auth::Keyring;
use crate::config::{Endpoint, Tcp, TlsMode};
use crate::wire;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// Whom to log in as, and where.
#[derive(Clone)]
pub struct Target {
    /// Host and port, or socket directory.
    pub endpoint: Endpoint,
    /// When to encrypt.
    pub tls: TlsMode,
    /// How; `None` with [`TlsMode::Disable`].
    pub tls_config: Option<Arc<ClientConfig>>,
    /// The server's name of the database.
    pub dbname: String,
    /// The role.
    pub user: String,
    /// What it logs in with.
    pub keyring: Arc<Keyring>,
    /// The most that reaching it and logging in may take.
    pub timeout: Duration,
    /// How silence on the way is noticed.
    pub tcp: Tcp,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("cannot reach {0}: {1}")]
    Unreachable(Endpoint, io::Error),
    /// Too slow.
    #[error("{0} did not complete the login within {1:?}")]
    Timeout(Endpoint, Duration),
    /// TLS is required and not to be had.
    #[error("{0} does not offer TLS, which tls = \"{1}\" requires")]
    NoTls(Endpoint, &'static str),
    /// The handshake failed.
    #[error("TLS with {0} failed: {1}")]
    Tls(Endpoint, io::Error),
    /// The server asks for what pgring cannot give.
    #[error("login to {0} as \"{1}\" failed: {2}")]
    Login(Endpoint, String, String),
    /// The role's password is salted otherwise there than where the client's key comes from.
    #[error("{0} has another password verifier for \"{1}\" than the first shard")]
    OtherVerifier(Endpoint, String),
    /// No client has shown the key of the verifier now in force.
    #[error("no client has logged in as \"{1}\" with the present password yet, which {0} asks for")]
    Unproven(Endpoint, String),
    /// The server said no.
    #[error("{0} refused the login as \"{1}\": {line}", line = wire::error_line(.2))]
    Refused(Endpoint, String, Vec<u8>),
    /// The connection broke.
    #[error("{0}: {1}")]
    Broken(Endpoint, ServerError),
}

impl ConnectError {
    /// Is it that `connect_timeout` is over?
    pub fn is_timeout(&self) -> bool {
        matches!(self, ConnectError::Timeout(..))
    }

    /// Is the server away, or not ready yet? Anything else would fail the next attempt as well.
    pub fn is_passing(&self) -> bool {
        match self {
            ConnectError::Unreachable(..) | ConnectError::Timeout(..) | ConnectError::Broken(..) => true,
            ConnectError::Refused(..) => matches!(self.code(), Some(b"57P01" | b"57P02" | b"57P03")),
            _ => false,
        }
    }

    /// The SQLSTATE the server gave, if it was the server that refused.
    pub fn code(&self) -> Option<&[u8]> {
        match self {
            ConnectError::Refused(_, _, body) => wire::error_field(body, b'C'),
            _ => None,
        }
    }

    /// And where in its source: what tells errors apart that have one SQLSTATE.
    pub fn routine(&self) -> Option<&[u8]> {
        match self {
            ConnectError::Refused(_, _, body) => wire::error_field(body, b'R'),
            _ => None,
        }
    }
}

/// Opens, encrypts, logs in. Dropping it half-way closes the socket.
pub async fn connect(target: &Target) -> Result<Server, ConnectError> {
    let work = async {
        let stream = open(&target.endpoint, Some(&target.tcp))
            .await
            .map_err(|error| ConnectError::Unreachable(target.endpoint.clone(), error))?;
        let stream = encrypt(stream, target).await?;
        login(stream, target).await
    };
    tokio::time::timeout(target.timeout, work)
        .await
        .map_err(|_| ConnectError::Timeout(target.endpoint.clone(), target.timeout))?
}

/// A socket to an endpoint; names are resolved anew each time. Without `tcp`, for a connection that
/// has a deadline of its own, it is as the system makes it.
pub(super) async fn open(endpoint: &Endpoint, tcp: Option<&Tcp>) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            if let Some(tcp) = tcp {
                tune(&stream, tcp)?;
            }
            Ok(Stream::Tcp(stream))
        }
        Endpoint::Unix { .. } => {
            let path = endpoint
                .socket_file()
                .ok_or_else(|| io::Error::other("a Unix endpoint has a socket file"))?;
            Ok(Stream::Unix(UnixStream::connect(path).await?))
        }
    }
}

async fn encrypt(stream: Stream, target: &Target) -> Result<Stream, ConnectError> {
    // PostgreSQL has no TLS over Unix sockets; libpq ignores sslmode there as well.
    let (mut tcp, config) = match (stream, &target.tls_config) {
        (Stream::Tcp(tcp), Some(config)) => (tcp, config),
        (plain, _) => return Ok(plain),
    };
    let failed = |error| ConnectError::Tls(target.endpoint.clone(), error);
    tcp.write_all(&wire::SSL_REQUEST).await.map_err(failed)?;
    // One byte and no more: what follows must come from inside the encrypted stream.
    let mut answer = [0; 1];
    tcp.read_exact(&mut answer).await.map_err(failed)?;
    if answer != *b"S" {
        return match target.tls {
            TlsMode::Require => Err(ConnectError::NoTls(target.endpoint.clone(), "require")),
            TlsMode::VerifyFull => Err(ConnectError::NoTls(target.endpoint.clone(), "verify-full")),
            TlsMode::Prefer | TlsMode::Disable => Ok(Stream::Tcp(tcp)),
        };
    }
    let host = match &target.endpoint {
        Endpoint::Tcp { host, .. } => host.clone(),
        Endpoint::Unix { .. } => String::new(),
    };
    let name = ServerName::try_from(host).map_err(|error| failed(io::Error::other(error)))?;
    let tls = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await.map_err(failed)?;
    Ok(Stream::encrypted(tls))
}
