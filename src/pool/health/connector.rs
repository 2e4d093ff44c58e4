//! pgring's own connections: to probe a server, to read its schema, to check a configuration.
//!
//! They are tokio-postgres's. Names are resolved at every connect, so that a name which moves to
//! another server is followed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config};

use super::state::ProbeFailure;
use crate::auth;
use crate::config::{Endpoint, Secret, TlsMode};

/// Who logs in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Not needed under `trust` and `peer`.
    pub password: Option<Secret>,
}

/// Whether a connection is encrypted. On a Unix socket PostgreSQL has no TLS, and none of this
/// applies.
#[derive(Clone, Debug)]
pub struct Tls {
    /// When.
    pub mode: TlsMode,
    /// How, and whom to trust; `None` with [`TlsMode::Disable`].
    pub config: Option<Arc<ClientConfig>>,
}

impl Tls {
    /// Never.
    pub fn disabled() -> Tls {
        Tls { mode: TlsMode::Disable, config: None }
    }
}

impl PartialEq for Tls {
    /// Two configurations made apart are taken as different.
    fn eq(&self, other: &Tls) -> bool {
        let same = match (&self.config, &other.config) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        same && self.mode == other.mode
    }
}

/// An open connection. Closed when dropped, whatever is under way on it.
#[derive(Debug)]
pub struct ControlConnection {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for ControlConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl ControlConnection {
    /// Connects and logs in, within `timeout`. Nothing is left open when this is dropped.
    /// `closed` is called when the connection ends before it is dropped.
    pub async fn open(
        address: &Endpoint,
        dbname: &str,
        login: &Login,
        tls: &Tls,
        timeout: Duration,
        closed: impl FnOnce() + Send + 'static,
    ) -> Result<ControlConnection, ProbeFailure> {
        let mut config = Config::new();
        config.user(&login.user).dbname(dbname).application_name("pgring").connect_timeout(timeout);
        if let Some(password) = &login.password {
            config.password(password.reveal());
        }
        let (mode, rustls) = match (tls.mode, address) {
            (TlsMode::Disable, _) | (_, Endpoint::Unix { .. }) => (SslMode::Disable, None),
            (TlsMode::Prefer, _) => (SslMode::Prefer, tls.config.clone()),
            (TlsMode::Require | TlsMode::VerifyFull, _) => (SslMode::Require, tls.config.clone()),
        };
        config.ssl_mode(mode);
        match address {
            Endpoint::Tcp { host, port } => config.host(host).port(*port),
            Endpoint::Unix { dir, port } => config.host_path(dir).port(*port),
        };
        let connecting = config.connect(Connector(rustls));
        let (client, connection) = tokio::time::timeout(timeout, connecting)
            .await
            .map_err(|_| ProbeFailure::Timeout(timeout))?
            .map_err(|error| not_connected(&error))?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %cause(&error), "control connection ended");
            }
            closed();
        });
        Ok(ControlConnection { client, driver })
    }

    /// To query with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The server, or the way to it, has gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

/// The words of the innermost cause: "connection refused", not "error connecting to server: …".
pub fn cause(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        return server.message().to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    match letters.next() {
        // "Connection refused", but "DNS …" and "TLS …" as they are.
        Some(first) if !letters.as_str().starts_with(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => words.to_owned(),
    }
}

fn not_connected(error: &tokio_postgres::Error) -> ProbeFailure {
    refused(error).unwrap_or_else(|| ProbeFailure::Connect(cause(error)))
}

/// What a failed query on an open connection says about the server.
pub fn lost(error: &tokio_postgres::Error) -> ProbeFailure {
    refused(error).unwrap_or_else(|| ProbeFailure::Lost(cause(error)))
}

fn refused(error: &tokio_postgres::Error) -> Option<ProbeFailure> {
    let server = error.as_db_error()?;
    let (code, message) = (server.code().code().to_owned(), server.message().to_owned());
    Some(ProbeFailure::Refused { code, message })
}

/// tokio-postgres's TLS by rustls.
struct Connector(Option<Arc<ClientConfig>>);

impl<S> MakeTlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type TlsConnect = Handshake;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Handshake, InvalidDnsNameError> {
        // A connection without TLS makes one too, and does not use it.
        let Some(config) = &self.0 else { return Ok(Handshake(None)) };
        let name = ServerName::try_from(domain.to_owned())?;
        Ok(Handshake(Some((Arc::clone(config), name))))
    }
}

struct Handshake(Option<(Arc<ClientConfig>, ServerName<'static>)>);

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let Some((config, name)) = self.0 else {
                return Err(std::io::Error::other("TLS is wanted, and there is no configuration for it"));
            };
            let connector = tokio_rustls::TlsConnector::from(config);
            connector.connect(name, stream).await.map(|stream| Encrypted(Box::new(stream)))
        })
    }
}

struct Encrypted<S>(Box<tokio_rustls::client::TlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let certificates = self.0.get_ref().1.peer_certificates().unwrap_or_default();
        match certificates.first().map(|leaf| auth::tls_server_end_point(leaf)) {
            Some(Ok(auth::ChannelBinding::TlsServerEndPoint(hash))) => {
                ChannelBinding::tls_server_end_point(hash)
            }
            // SCRAM works without, and a server that insists says so.
            _ => ChannelBinding::none(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
