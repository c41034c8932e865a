//! The loopback proxy of the agent's window: the only way from the browser to the fund.
//!
//! Listens on 127.0.0.1 only and serves programs of this user only. `CONNECT` to the portal
//! becomes one stream of the tunnel, bytes passed on as they are (TLS runs between browser
//! and portal); proxy-form requests for [`PAGE_HOST`] get the agent's own page; everything
//! else is refused. What may pass is decided in [`guard`].

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::agent::{Agent, Route};
use crate::os::{self, PeerCheck};
use crate::page::Page;
use crate::secret::random_bytes;

mod counted;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod guard;

use counted::Counted;
pub use guard::PAGE_HOST;
use guard::Verdict;

/// Connections at a time. A browser uses some ten; one session allows 128 streams.
const MAX_CONNECTIONS: usize = 256;

/// Connections of other users that are told why they are refused, at a time.
const MAX_STRANGERS: usize = 8;

/// How long a refused connection is kept for its answer to be read.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of a refused request that are read, and thrown away, so that the answer gets through.
const STRANGER_LIMIT_BYTES: u64 = 64 * 1024;

/// What another user of this PC is told.
const STRANGER_TEXT: &str = "この接続は、連携を起動したユーザーだけが利用できます。ほかのユーザーからの接続はお断りしました。ご自分のユーザーで「電子連携サービス」を起動してください。\n";

/// Longest request head, in bytes.
const HEAD_LIMIT_BYTES: usize = 16 * 1024;

/// Most header fields in a request.
const MAX_HEADERS: usize = 64;

/// How long a client may take for its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Ports are chosen from here: below the range that systems give out for their own
/// connections, and from which some keep parts for themselves.
const PORTS: std::ops::Range<u16> = 20_000..49_152;

/// Random ports that are tried before giving up.
const PORT_TRIES: usize = 50;

/// How long the browser waits while the tunnel is made anew: a gateway that dies is replaced in
/// less, and a page that comes late is better than the browser's own page about the proxy.
const ROUTE_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that are under way between browser and tunnel, in each direction and connection.
const COPY_BUFFER_BYTES: usize = 64 * 1024;

/// What goes on in the window: what has passed between it and the portal, and whether
/// somebody reads documents in it.
#[derive(Debug, Default)]
pub struct Traffic {
    moved_bytes: AtomicU64,
    is_reading: AtomicBool,
}

impl Traffic {
    /// Bytes since the start, both ways.
    pub fn moved_bytes(&self) -> u64 {
        self.moved_bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.moved_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether documents lie open on the agent's own page.
    pub fn is_reading(&self) -> bool {
        self.is_reading.load(Ordering::Relaxed)
    }

    /// Takes note of whether they do.
    pub(crate) fn note_reading(&self, is_reading: bool) {
        self.is_reading.store(is_reading, Ordering::Relaxed);
    }
}

/// The listening proxy.
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
    address: SocketAddr,
}

impl Proxy {
    /// Listens on `port`, or on a free one of [`PORTS`] if that is 0.
    pub async fn bind(port: u16) -> io::Result<Self> {
        let listener = if port == 0 {
            bind_some_port().await?
        } else {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?
        };
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until dropped.
    pub async fn serve(self, agent: Agent, page: Arc<Page>) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            match os::peer_is_same_user(self.address, peer) {
                PeerCheck::SameUser => {}
                found @ (PeerCheck::OtherUser | PeerCheck::Unknown) => {
                    tracing::warn!(?found, "connection refused: not of this user");
                    // Nobody else can take the user's own slots up; who is not told is cut off.
                    if let Ok(slot) = strangers.clone().try_acquire_owned() {
                        tokio::spawn(async move {
                            turn_away(stream).await;
                            drop(slot);
                        });
                    }
                    continue;
                }
            }
            let (agent, page) = (agent.clone(), page.clone());
            tokio::spawn(async move {
                serve_connection(stream, agent, page).await;
                drop(slot);
            });
        }
    }
}

async fn bind_some_port() -> io::Result<TcpListener> {
    let mut last_error = io::Error::other("no port was tried");
    for _ in 0..PORT_TRIES {
        let random: [u8; 2] = random_bytes().map_err(io::Error::other)?;
        let span = PORTS.end - PORTS.start;
        let port = PORTS.start + u16::from_le_bytes(random) % span;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// Says no, whatever was asked. Nothing that was sent is looked at.
async fn turn_away(mut stream: TcpStream) {
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{STRANGER_TEXT}",
        STRANGER_TEXT.len()
    );
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // A connection that is dropped with unread bytes takes the answer back.
        let mut rest = stream.take(STRANGER_LIMIT_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // Whoever does not wait for the answer has it that way.
    let _ = tokio::time::timeout(STRANGER_TIMEOUT, told).await;
}

async fn serve_connection(stream: TcpStream, agent: Agent, page: Arc<Page>) {
    // Small writes must not wait for each other; a socket that refuses still works.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let (agent, page) = (agent.clone(), page.clone());
        async move { Ok::<_, Infallible>(answer(request, agent, page).await) }
    });
    let served = http()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "proxy connection ended");
    }
}

/// How requests are read, with their bounds.
fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(HEAD_LIMIT_BYTES);
    http
}

async fn answer(
    mut request: Request<Incoming>,
    agent: Agent,
    page: Arc<Page>,
) -> Response<Full<Bytes>> {
    let route = match *request.method() {
        Method::CONNECT => agent.route_soon(ROUTE_PATIENCE).await,
        _ => agent.route(),
    };
    let portal = route.as_ref().map(|route| &route.portal);
    let host = request.headers().get(HOST).map(|value| value.as_bytes());
    match guard::judge(request.method(), request.uri(), host, portal) {
        Verdict::Portal => match route {
            Some(route) => connect(&mut request, route, agent.traffic().clone()).await,
            None => plain(StatusCode::SERVICE_UNAVAILABLE),
        },
        Verdict::NotConnected => plain(StatusCode::SERVICE_UNAVAILABLE),
        Verdict::Page => page.answer(request, &agent).await,
        Verdict::Refused => {
            tracing::debug!(method = %request.method(), uri = %request.uri(), "refused");
            plain(StatusCode::FORBIDDEN)
        }
    }
}

/// Opens a stream and, once the answer is out, passes bytes until both sides have finished.
async fn connect(
    request: &mut Request<Incoming>,
    route: Route,
    traffic: Arc<Traffic>,
) -> Response<Full<Bytes>> {
    let mut stream = match route.link.open_stream().await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::info!(%error, "no stream to the portal");
            return plain(StatusCode::BAD_GATEWAY);
        }
    };
    let upgrade: OnUpgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                tracing::debug!(%error, "browser went away");
                return;
            }
        };
        let mut browser = Counted::new(TokioIo::new(upgraded), traffic);
        let copied = copy_bidirectional_with_sizes(
            &mut browser,
            &mut stream,
            COPY_BUFFER_BYTES,
            COPY_BUFFER_BYTES,
        );
        match copied.await {
            Ok((up, down)) => tracing::debug!(up, down, "stream finished"),
            Err(error) => tracing::debug!(%error, "stream broke"),
        }
    });
    Response::new(Full::default())
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let text = status.canonical_reason().unwrap_or("refused");
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("text/plain"),
    );
    response
}
