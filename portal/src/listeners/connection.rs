//! HTTP/1.1 on one connection, with the limits that every listener shares.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt as _;

use super::Turned;
use super::patience::Patient;
use crate::signals::Stopping;

/// Largest head of a request, in bytes.
const HEAD_LIMIT_BYTES: usize = 32 * 1024;

/// How long a connection may keep us waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For a request's head, or the next request.
    pub(super) head: Duration,
    /// For any byte at all.
    pub(super) silence: Duration,
}

/// Serves requests, each with `extension`, until the connection ends, the portal stops, or
/// `closed` returns: then it is cut at once.
pub(super) async fn serve<IO, E, C>(
    stream: IO,
    router: Router,
    extension: E,
    limits: Limits,
    mut stopping: Stopping,
    closed: impl Future<Output = C>,
) -> Result<(), Turned>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    E: Clone + Send + Sync + 'static,
{
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(extension.clone());
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_LIMIT_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream, limits.silence)), service);
    let mut connection = pin!(connection);
    let mut closed = pin!(closed);
    tokio::select! {
        served = connection.as_mut() => return served.map_err(Turned::Http),
        _ = closed.as_mut() => return Ok(()),
        () = stopping.wait() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        served = connection => served.map_err(Turned::Http),
        _ = closed => Ok(()),
    }
}
