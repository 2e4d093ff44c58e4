//! What every TCP connection is set to, on both sides of the proxy.

use crate::config::Tcp;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use tokio::net::TcpStream;

/// Sends without delay, and notices an other end that is gone without a word.
pub fn tune(stream: &TcpStream, tcp: &Tcp) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    match &tcp.keepalive {
        None => socket.set_keepalive(false)?,
        Some(keepalive) => socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(keepalive.idle)
                .with_interval(keepalive.interval)
                .with_retries(keepalive.count),
        )?,
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(tcp.user_timeout)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Keepalive;
    use std::time::Duration;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_system_has_been_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        let (idle, interval) = (Duration::from_secs(7), Duration::from_secs(3));
        let user_timeout = Some(Duration::from_millis(4500));
        tune(&stream, &Tcp { keepalive: Some(Keepalive { idle, interval, count: 5 }), user_timeout })
            .unwrap();
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), idle);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), interval);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 5);
        assert_eq!(socket.tcp_user_timeout().unwrap(), user_timeout);

        tune(&stream, &Tcp { keepalive: None, user_timeout: None }).unwrap();
        assert!(!socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap().unwrap_or_default(), Duration::ZERO);
    }
}
