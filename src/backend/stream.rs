//! A byte stream to a PostgreSQL peer, client or server: TCP, Unix socket, or TLS over TCP.
//!
//! Reads go straight to a [`Buffer`]'s tail. A read that finds nothing leaves an empty buffer
//! without memory, so thousands of waiting streams cost none.

use crate::wire::Buffer;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// See the module.
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket; PostgreSQL has no TLS there.
    Unix(UnixStream),
    /// TLS, either side of it.
    Tls(Box<Encrypted>),
}

/// A TLS stream, and whether it holds bytes back that were written to it.
pub struct Encrypted {
    /// The stream.
    pub tls: TlsStream<TcpStream>,
    unflushed: bool,
}

/// How soon the end of a peer is noticed that has sent something before it left.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
            Stream::Tls(encrypted) => {
                let $stream = &mut encrypted.tls;
                $call
            }
        }
    };
}

impl Stream {
    /// Reads once to the buffer's end: how many bytes came, 0 at the end of the stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Buffer) -> Poll<io::Result<usize>> {
        let space = into.space(1);
        let room = space.len();
        let mut read = ReadBuf::new(space);
        let outcome = each!(self, stream => Pin::new(stream).poll_read(cx, &mut read));
        let n = read.filled().len();
        match outcome {
            Poll::Ready(Ok(())) => {
                into.advance(n);
                if n == room {
                    into.widen();
                }
                into.settle();
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(error)) => {
                into.settle();
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                into.settle();
                Poll::Pending
            }
        }
    }

    /// Writes some of `bytes`.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Stream::Tls(encrypted) = self {
            encrypted.unflushed = true;
        }
        let written = std::task::ready!(each!(self, stream => Pin::new(stream).poll_write(cx, bytes)))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        Poll::Ready(Ok(written))
    }

    /// Writes all that the buffer holds and flushes; ready when it is empty.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, from: &mut Buffer) -> Poll<io::Result<()>> {
        while !from.is_empty() {
            let n = std::task::ready!(self.poll_write(cx, from.filled()))?;
            from.consume(n);
        }
        match self {
            Stream::Tls(encrypted) if encrypted.unflushed => {
                std::task::ready!(Pin::new(&mut encrypted.tls).poll_flush(cx))?;
                encrypted.unflushed = false;
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// As [`Stream::poll_read`]. Cancel safe.
    pub async fn read(&mut self, into: &mut Buffer) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read(cx, into)).await
    }

    /// As [`Stream::poll_drain`]. Cancel safe: what is not yet written stays in the buffer.
    pub async fn drain(&mut self, from: &mut Buffer) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_drain(cx, from)).await
    }

    /// Another descriptor of the same socket.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        match self {
            Stream::Tcp(stream) => stream.as_fd().try_clone_to_owned(),
            Stream::Unix(stream) => stream.as_fd().try_clone_to_owned(),
            Stream::Tls(encrypted) => encrypted.tls.get_ref().0.as_fd().try_clone_to_owned(),
        }
    }

    /// Whether bytes, an error or the end of the stream wait to be read, without waiting.
    pub fn has_news(&mut self, into: &mut Buffer) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        !into.is_empty() || self.poll_read(&mut cx, into).is_ready()
    }

    /// Until the peer has ended its side, whatever it has sent before that. Cancel safe.
    pub async fn gone(&self) {
        loop {
            let ready = match self {
                Stream::Tcp(stream) => stream.ready(Interest::READABLE).await,
                Stream::Unix(stream) => stream.ready(Interest::READABLE).await,
                Stream::Tls(encrypted) => encrypted.tls.get_ref().0.ready(Interest::READABLE).await,
            };
            match ready {
                Ok(ready) if !ready.is_read_closed() => {
                    // What it has sent lies unread, and one cannot wait for the end alone.
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                _ => return,
            }
        }
    }

    /// TLS over a TCP stream, after the handshake.
    pub fn encrypted(tls: impl Into<TlsStream<TcpStream>>) -> Stream {
        Stream::Tls(Box::new(Encrypted { tls: tls.into(), unflushed: false }))
    }

    /// Does it hold bytes back that were written? Only TLS does.
    pub fn is_unflushed(&self) -> bool {
        matches!(self, Stream::Tls(encrypted) if encrypted.unflushed)
    }

    /// Is it encrypted?
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }
}
