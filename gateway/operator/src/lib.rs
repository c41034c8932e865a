//! What the people who run a daemon see of it: metrics, health, how it logs and how it ends.
//!
//! Used by the gateway and the portal alike. It answers three requests on a listener of its
//! own, for the operator's network only: `GET /metrics` (OpenMetrics text, for Prometheus),
//! `GET /health/live` (the program answers) and `GET /health/ready` (it can do its work).
//!
//! # No personal data
//! A label is a pair of `&'static str`: what the program knows when it is compiled. There is
//! no way to put an address, a name or an id into one.

pub mod log;
pub mod runtime;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use prometheus_client::collector::Collector;
pub use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
pub use prometheus_client::metrics::counter::{ConstCounter, Counter};
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
pub use prometheus_client::registry::Registry;

/// Connections at a time: a Prometheus, its twin, a load balancer, a person.
const CONNECTIONS_LIMIT: usize = 16;

/// How long a request's head may take.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection may last.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);

/// How long the question whether the program is ready may take; longer means no.
const READY_LIMIT: Duration = Duration::from_secs(2);

/// Pause after the system refused to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What Prometheus is told the text is.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A series' labels: names and values that the program was compiled with.
pub type Labels<const N: usize> = [(&'static str, &'static str); N];

/// One part that the program needs for its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// The part.
    pub part: &'static str,
    /// Whether it is there.
    pub is_well: bool,
}

/// Asks each part how it is.
pub type Checks = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<Check>> + Send>> + Send + Sync>;

/// All series in the words of Prometheus.
///
/// # Errors
/// If a collector fails.
pub fn text(registry: &Registry) -> Result<String, fmt::Error> {
    let mut all = String::new();
    prometheus_client::encoding::text::encode(&mut all, registry)?;
    Ok(all)
}

/// Why the operator's listener cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for the operator on {address}")]
pub struct CannotListen {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// The operator's listener, bound.
pub struct Operator {
    listener: TcpListener,
    registry: Registry,
    checks: Checks,
}

impl Operator {
    /// Binds.
    ///
    /// # Errors
    /// [`CannotListen`], which names the address.
    pub async fn bind(
        address: SocketAddr,
        registry: Registry,
        checks: Checks,
    ) -> Result<Self, CannotListen> {
        let listener = TcpListener::bind(address).await;
        Ok(Self {
            listener: listener.map_err(|source| CannotListen { address, source })?,
            registry,
            checks,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the future is dropped.
    pub async fn serve(self) {
        let Self {
            listener,
            registry,
            checks,
        } = self;
        let page = Arc::new(Page { registry, checks });
        let room = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
        loop {
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept the operator's connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Dropping the socket closes it.
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                continue;
            };
            let page = Arc::clone(&page);
            tokio::spawn(async move {
                // Its end is nobody's concern.
                let _ = tokio::time::timeout(CONNECTION_LIMIT, page.converse(socket)).await;
                drop(place);
            });
        }
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

struct Page {
    registry: Registry,
    checks: Checks,
}

impl Page {
    async fn converse(self: Arc<Self>, socket: TcpStream) {
        let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
            let page = Arc::clone(&self);
            async move {
                let (method, path) = (request.method().clone(), request.uri().path().to_owned());
                Ok::<_, Infallible>(page.answer(&method, &path).await)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .serve_connection(TokioIo::new(socket), service);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an operator's connection ended");
        }
    }

    async fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        match (method, path) {
            (&Method::GET, "/metrics") => self.metrics(),
            (&Method::GET, "/health/live") => plain(StatusCode::OK, "live\n".to_owned()),
            (&Method::GET, "/health/ready") => self.ready().await,
            _ => plain(StatusCode::NOT_FOUND, String::new()),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match text(&self.registry) {
            Ok(all) => answer(StatusCode::OK, OPEN_METRICS, all),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                plain(StatusCode::INTERNAL_SERVER_ERROR, String::new())
            }
        }
    }

    async fn ready(&self) -> Response<Full<Bytes>> {
        let Ok(checks) = tokio::time::timeout(READY_LIMIT, (self.checks)()).await else {
            let text = "not ready: no answer in time\n".to_owned();
            return plain(StatusCode::SERVICE_UNAVAILABLE, text);
        };
        let status = match checks.iter().all(|check| check.is_well) {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        let lines = checks.iter().map(|check| {
            let word = if check.is_well { "well" } else { "not well" };
            format!("{}: {word}\n", check.part)
        });
        plain(status, lines.collect())
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", text)
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn start(is_well: Arc<AtomicBool>) -> SocketAddr {
        let mut registry = Registry::default();
        let refused = Family::<Labels<1>, Counter>::default();
        registry.register("refused", "Refusals by reason", refused.clone());
        refused.get_or_create(&[("reason", "closed")]).inc_by(3);
        let checks: Checks = Box::new(move || {
            let is_well = is_well.load(Ordering::Relaxed);
            Box::pin(async move {
                vec![
                    Check {
                        part: "feed",
                        is_well,
                    },
                    Check {
                        part: "data path",
                        is_well: true,
                    },
                ]
            })
        });
        let address = "127.0.0.1:0".parse().unwrap();
        let operator = Operator::bind(address, registry, checks).await.unwrap();
        let address = operator.local_addr().unwrap();
        tokio::spawn(operator.serve());
        address
    }

    async fn get(address: SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut all = String::new();
        socket.read_to_string(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn metrics_are_told_in_prometheus_words() {
        let address = start(Arc::new(AtomicBool::new(true))).await;
        let answer = get(address, "GET /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("\r\ncontent-type: application/openmetrics-text"));
        assert!(answer.contains("refused_total{reason=\"closed\"} 3\n"));
        assert!(answer.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn ready_means_that_every_part_is_well() {
        let is_well = Arc::new(AtomicBool::new(false));
        let address = start(Arc::clone(&is_well)).await;
        let answer = get(address, "GET /health/ready").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(
            answer.ends_with("feed: not well\ndata path: well\n"),
            "{answer}"
        );
        assert!(get(address, "GET /health/live").await.contains(" 200 OK"));
        is_well.store(true, Ordering::Relaxed);
        let answer = get(address, "GET /health/ready").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    #[tokio::test]
    async fn nothing_else_is_there() {
        let address = start(Arc::new(AtomicBool::new(true))).await;
        for request in ["GET /", "POST /metrics", "GET /metrics/", "GET /health"] {
            let answer = get(address, request).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{request}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let checks: Checks = Box::new(|| Box::pin(async { Vec::new() }));
        let error = Operator::bind(address, Registry::default(), checks).await;
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains(&address.to_string())
        );
    }
}
