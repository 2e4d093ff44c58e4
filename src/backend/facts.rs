//! What can be told of a connection without touching it, for those who look on.

use super::Stream;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio_rustls::rustls::{CommonState, ProtocolVersion};

/// The two ends of a socket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ends {
    /// Our address; `unix` on a Unix socket.
    pub local_addr: String,
    /// Our port; 0 on a Unix socket.
    pub local_port: u16,
    /// The process at the other end of a Unix socket, where the system tells; else 0.
    pub remote_pid: i32,
    /// TLS version and cipher as OpenSSL writes them; empty without TLS.
    pub tls: String,
}

/// What is known of a server connection. Shared with whoever shows it.
#[derive(Debug)]
pub struct Facts {
    /// Its ends.
    pub ends: Ends,
    /// When it was opened.
    pub opened: Instant,
    /// How many statements are prepared on it.
    pub prepared: Arc<AtomicUsize>,
}

impl Facts {
    /// How many statements are prepared on it.
    pub fn prepared(&self) -> usize {
        self.prepared.load(Ordering::Relaxed)
    }
}

impl Stream {
    /// What there is to say of its ends. A socket that is broken has none.
    pub fn ends(&self) -> Ends {
        let at = |address: std::io::Result<SocketAddr>| match address {
            Ok(address) => (address.ip().to_string(), address.port()),
            Err(_) => (String::new(), 0),
        };
        match self {
            Stream::Unix(stream) => Ends {
                local_addr: "unix".to_owned(),
                remote_pid: stream.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or(0),
                ..Ends::default()
            },
            Stream::Tcp(stream) => {
                let (local_addr, local_port) = at(stream.local_addr());
                Ends { local_addr, local_port, ..Ends::default() }
            }
            Stream::Tls(encrypted) => {
                let (stream, state) = match &encrypted.tls {
                    tokio_rustls::TlsStream::Client(tls) => {
                        let (stream, state) = tls.get_ref();
                        (stream, &**state as &CommonState)
                    }
                    tokio_rustls::TlsStream::Server(tls) => {
                        let (stream, state) = tls.get_ref();
                        (stream, &**state as &CommonState)
                    }
                };
                let (local_addr, local_port) = at(stream.local_addr());
                Ends { local_addr, local_port, tls: describe(state), ..Ends::default() }
            }
        }
    }
}

/// As `TLSv1.3/TLS_AES_256_GCM_SHA384`.
fn describe(state: &CommonState) -> String {
    let version = match state.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLS",
    };
    let cipher = state.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    // rustls tells the suites of TLS 1.3 from those of 1.2 by their names; nobody else does.
    let cipher = cipher.unwrap_or("unknown").replacen("TLS13_", "TLS_", 1);
    format!("{version}/{cipher}")
}
