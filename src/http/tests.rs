use std::future::pending;
use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;

struct Server {
    address: SocketAddr,
    readiness: watch::Sender<Readiness>,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<std::result::Result<(), HttpError>>,
}

fn state(readiness: watch::Receiver<Readiness>) -> HttpState {
    HttpState::new(
        || async { "pgring_clients{state=\"idle\"} 3\n".to_owned() },
        || async { Arc::new(Snapshot::empty("demo", UNIX_EPOCH)) },
        readiness,
    )
}

async fn start(make: impl FnOnce(watch::Receiver<Readiness>) -> HttpState) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (readiness, receiver) = watch::channel(Readiness::not_ready(["no shard reachable", "draining"]));
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve(listener, make(receiver), async {
        stopped.await.unwrap_or_default();
    }));
    Server { address, readiness, stop, served }
}

/// One request by hand, and all of the answer.
async fn request(address: SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nHost: pgring\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn check(answer: &str, status: &str, content_type: &str, body: &str) {
    let (head, content) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    assert!(head.contains(&format!("content-type: {content_type}")), "{answer}");
    assert!(content.contains(body), "{answer}");
}

#[tokio::test]
async fn the_pages() {
    let server = start(state).await;
    let at = server.address;
    let text = "text/plain; charset=utf-8";
    check(&request(at, "GET /metrics").await, "200", "text/plain; version=0.0.4", "pgring_clients");
    check(&request(at, "GET /healthz").await, "200", text, "ok\n");
    check(&request(at, "GET /").await, "200", "text/html; charset=utf-8", "<title>demo · pgring</title>");
    check(&request(at, "GET /").await, "200", "text/html", "no shard reachable");
    check(&request(at, "GET /nothing").await, "404", text, "not found");
    check(&request(at, "GET /healthz?verbose=1").await, "200", text, "ok\n");
    check(&request(at, "HEAD /healthz").await, "200", text, "");
    assert!(request(at, "POST /metrics").await.starts_with("HTTP/1.1 405"));
}

#[tokio::test]
async fn readiness_follows_what_is_published() {
    let server = start(state).await;
    let text = "text/plain; charset=utf-8";
    let asked = request(server.address, "GET /readyz").await;
    check(&asked, "503", text, "no shard reachable\ndraining\n");

    server.readiness.send_replace(Readiness::ready());
    check(&request(server.address, "GET /readyz").await, "200", text, "ready\n");

    server.readiness.send_replace(Readiness::not_ready(Vec::<String>::new()));
    check(&request(server.address, "GET /readyz").await, "503", text, "not ready\n");
}

#[tokio::test]
async fn what_is_not_http_disturbs_nobody() {
    let server = start(state).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    assert!(read.is_err() || answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    check(&request(server.address, "GET /healthz").await, "200", "text/plain", "ok\n");
}

#[tokio::test(start_paused = true)]
async fn a_gathering_that_never_ends_is_answered() {
    let (_readiness, receiver) = watch::channel(Readiness::ready());
    let stuck = HttpState::new(pending, pending, receiver);
    let late = metrics(State(stuck.clone())).await;
    assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status(State(stuck)).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_connection_left_open_does_not_hold_up_the_end() {
    let server = start(state).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost:").await.unwrap();
    check(&request(server.address, "GET /healthz").await, "200", "text/plain", "ok\n");
    server.stop.send(()).unwrap();
    let ended = tokio::time::timeout(CLOSE_TIMEOUT * 5, server.served).await.expect("it ends");
    ended.unwrap().unwrap();
}
