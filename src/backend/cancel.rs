//! Asking a server to cancel what runs on a connection (manual, section 55.2.8).

use super::connect::open;
use crate::config::Endpoint;
use crate::wire;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a cancel may take to reach the server.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a cancel needs to know of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelKey {
    /// Where it leads.
    pub endpoint: Endpoint,
    /// The server process.
    pub pid: u32,
    /// Its secret.
    pub secret: Vec<u8>,
}

/// Asks, and waits until the server has closed the request's connection: by then the signal
/// has been sent, so that it cannot hit a later statement of another client.
pub async fn cancel(key: &CancelKey) -> io::Result<()> {
    let asked = async {
        let mut stream = open(&key.endpoint, None).await?;
        let request = wire::cancel_request(key.pid, &key.secret);
        match &mut stream {
            super::Stream::Tcp(stream) => ask(stream, &request).await,
            super::Stream::Unix(stream) => ask(stream, &request).await,
            super::Stream::Tls(stream) => ask(&mut stream.tls, &request).await,
        }
    };
    tokio::time::timeout(DEADLINE, asked).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), request: &[u8]) -> io::Result<()> {
    stream.write_all(request).await?;
    let mut end = [0; 1];
    match stream.read(&mut end).await {
        // The postmaster's child just exits: on Linux that may be a reset.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
    }
}
