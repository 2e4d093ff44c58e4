//! Metrics, health and the status page, for machines and people that are not clients.
//!
//! Everything is read from what others publish: a text of metrics, a
//! [`Snapshot`], a [`Readiness`]. So a slow reader here can never hold up a statement, and
//! what cannot be gathered in time is answered with 503, not waited for.
//!
//! | path | answers |
//! |---|---|
//! | `/metrics` | Prometheus' text format |
//! | `/healthz` | 200 while the process lives: do not restart it |
//! | `/readyz` | 200, or 503 and the reasons: do not send it clients |
//! | `/` | the status page |

mod page;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::telemetry::Snapshot;

/// How long gathering may take. Longer than any thread is busy with one thing, shorter than
/// Prometheus waits by default.
const GATHER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long open connections may go on after the shutdown began. A browser keeps its
/// connections open for minutes, and nothing it could still ask for is worth waiting for.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether clients should be sent here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Readiness {
    /// They should.
    pub ready: bool,
    /// Why not; a line each.
    pub reasons: Vec<String>,
}

impl Readiness {
    /// Clients are welcome.
    pub fn ready() -> Readiness {
        Readiness { ready: true, reasons: Vec::new() }
    }

    /// They are not, and why.
    pub fn not_ready(reasons: impl IntoIterator<Item = impl Into<String>>) -> Readiness {
        Readiness { ready: false, reasons: reasons.into_iter().map(Into::into).collect() }
    }
}

type Gather<T> = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = T> + Send>> + Send + Sync>;

/// What the pages are made from.
#[derive(Clone)]
pub struct HttpState {
    metrics: Gather<String>,
    snapshot: Gather<Arc<Snapshot>>,
    readiness: watch::Receiver<Readiness>,
}

impl HttpState {
    /// `metrics` makes the text of `/metrics`, `snapshot` what the status page shows; either
    /// may be dropped before it has finished.
    pub fn new<M, MF, S, SF>(metrics: M, snapshot: S, readiness: watch::Receiver<Readiness>) -> HttpState
    where
        M: Fn() -> MF + Send + Sync + 'static,
        MF: Future<Output = String> + Send + 'static,
        S: Fn() -> SF + Send + Sync + 'static,
        SF: Future<Output = Arc<Snapshot>> + Send + 'static,
    {
        HttpState {
            metrics: Arc::new(move || Box::pin(metrics())),
            snapshot: Arc::new(move || Box::pin(snapshot())),
            readiness,
        }
    }
}

/// Why the pages can no longer be served.
#[derive(thiserror::Error, Debug)]
pub enum HttpError {
    /// The listener failed.
    #[error("serving HTTP failed: {0}")]
    Serve(#[from] std::io::Error),
}

/// The pages.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(not_found)
        .with_state(state)
}

/// Serves the pages until `shutdown` is done.
///
/// Cancel safe: dropped, it closes the listener; connections already open end by themselves.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), HttpError> {
    let (closing, mut closed) = watch::channel(());
    let until = async move {
        shutdown.await;
        drop(closing);
    };
    let server = axum::serve(listener, router(state)).with_graceful_shutdown(until);
    let patience = async move {
        // An error is what is waited for: the other end was dropped.
        while closed.changed().await.is_ok() {}
        tokio::time::sleep(CLOSE_TIMEOUT).await;
    };
    tokio::select! {
        served = async { server.await } => Ok(served?),
        () = patience => Ok(()),
    }
}

async fn metrics(State(state): State<HttpState>) -> Response {
    match gathered(&state.metrics).await {
        Ok(text) => plain(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
        Err(late) => late,
    }
}

async fn healthz() -> Response {
    text(StatusCode::OK, "ok\n")
}

async fn readyz(State(state): State<HttpState>) -> Response {
    let readiness = state.readiness.borrow().clone();
    if readiness.ready {
        return text(StatusCode::OK, "ready\n");
    }
    let mut reasons = readiness.reasons.join("\n");
    if reasons.is_empty() {
        reasons.push_str("not ready");
    }
    reasons.push('\n');
    text(StatusCode::SERVICE_UNAVAILABLE, reasons)
}

async fn status(State(state): State<HttpState>) -> Response {
    let readiness = state.readiness.borrow().clone();
    match gathered(&state.snapshot).await {
        Ok(snapshot) => (
            [(header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'")],
            plain(StatusCode::OK, "text/html; charset=utf-8", page::render(&snapshot, &readiness)),
        )
            .into_response(),
        Err(late) => late,
    }
}

async fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "not found; there are /, /metrics, /healthz and /readyz\n")
}

async fn gathered<T>(gather: &Gather<T>) -> Result<T, Response> {
    tokio::time::timeout(GATHER_TIMEOUT, gather()).await.map_err(|_elapsed| {
        tracing::warn!(timeout = ?GATHER_TIMEOUT, "what an HTTP request asked for was not gathered in time");
        text(StatusCode::SERVICE_UNAVAILABLE, "not gathered in time; try again\n")
    })
}

fn text(status: StatusCode, body: impl Into<String>) -> Response {
    plain(status, "text/plain; charset=utf-8", body.into())
}

fn plain(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests;
