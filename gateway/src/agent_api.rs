//! The TLS port: the agent API, relayed to the portal.
//!
//! It faces the internet, so it says as little as it can: without a device certificate only
//! the two enrolment requests exist, everything else is a bare 404. It bounds what one
//! source and all of them together may hold open, send and wait for, and hands the portal
//! nothing that a client wrote but the body, parsed ids and an enrolment's poll token. It
//! never decides who may pass: it asks the portal, and the data path enforces.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access::Moment;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::commands::{Command, Ended};
use crate::feed::FeedState;
use crate::metrics::ApiMetrics;
use crate::portal::Portal;
use crate::tls_tunnel::Entrance;

use limits::{Buckets, Connections, Source};
use routes::Standing;
use upgrade::Upgrade;

mod answers;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod handlers;
mod limits;
mod routes;
mod upgrade;

/// Connections open at a time.
pub const CONNECTIONS_LIMIT: usize = 2048;

/// Largest request head, in bytes.
const HEAD_LIMIT_BYTES: usize = 16 * 1024;

/// Most header fields of a request.
const HEADERS_LIMIT: usize = 32;

/// Pause after the system refused to accept a connection (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the agent API waits for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For a request's head, and for the next request on a kept connection.
    pub head: Duration,
    /// For a request's body.
    pub body: Duration,
    /// For the whole connection, however busy; the request under way may finish.
    pub connection: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(15),
            body: Duration::from_secs(10),
            connection: Duration::from_secs(600),
        }
    }
}

/// What the agent API works with.
#[derive(Debug)]
pub struct AgentApi {
    portal: Portal,
    commands: mpsc::Sender<Command>,
    reports: mpsc::Sender<Ended>,
    feed: watch::Receiver<FeedState>,
    entrance: Entrance,
    metrics: ApiMetrics,
    patience: Patience,
    clock: fn() -> Moment,
    attempts: Mutex<Buckets>,
    polls: Mutex<Buckets>,
}

/// Who asks.
#[derive(Debug, Clone)]
struct Caller {
    address: IpAddr,
    source: Source,
    /// The certificate shown in TLS, checked there to be the device authority's. Whether it
    /// is revoked, the portal knows.
    certificate: Option<CertificateDer<'static>>,
    /// Where a request for a tunnel leaves the connection.
    upgrade: upgrade::Slot,
}

impl Caller {
    fn standing(&self) -> Standing {
        match self.certificate {
            Some(_) => Standing::Device,
            None => Standing::Stranger,
        }
    }
}

impl AgentApi {
    /// Puts the parts together.
    pub fn new(
        portal: Portal,
        commands: mpsc::Sender<Command>,
        reports: mpsc::Sender<Ended>,
        feed: watch::Receiver<FeedState>,
        entrance: Entrance,
        clock: fn() -> Moment,
    ) -> Self {
        let start = clock().mono;
        Self {
            portal,
            commands,
            reports,
            feed,
            entrance,
            metrics: ApiMetrics::default(),
            patience: Patience::default(),
            clock,
            attempts: Mutex::new(Buckets::new(limits::ATTEMPTS, start)),
            polls: Mutex::new(Buckets::new(limits::POLLS, start)),
        }
    }

    /// Where the operator's numbers are counted.
    pub fn metrics(&self) -> &ApiMetrics {
        &self.metrics
    }

    /// Changes how long clients are waited for.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Answers `listener` until the future is dropped, and its connections with it.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
        let acceptor = TlsAcceptor::from(tls);
        let room = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
        let connections = Connections::default();
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = tasks.join_next() => continue,
            };
            let (socket, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let source = Source::of(address.ip());
            // Dropping the socket closes it.
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                debug!("too many connections");
                continue;
            };
            let Some(guard) = connections.enter(source) else {
                debug!(%address, "too many connections of one source");
                continue;
            };
            let (api, acceptor) = (Arc::clone(&self), acceptor.clone());
            tasks.spawn(async move {
                let tunnel = Arc::clone(&api)
                    .connection(socket, address.ip().to_canonical(), acceptor)
                    .await;
                drop((place, guard));
                if let Some((upgrade, caller)) = tunnel {
                    upgrade::hand_over(upgrade, caller, api.entrance.clone()).await;
                }
            });
        }
    }

    /// Answers one connection's requests. Returns it if it is to become a tunnel.
    async fn connection(
        self: Arc<Self>,
        socket: TcpStream,
        address: IpAddr,
        tls: TlsAcceptor,
    ) -> Option<(Upgrade, Caller)> {
        // Only a matter of speed.
        let _ = socket.set_nodelay(true);
        let socket = BufReader::with_capacity(upgrade::READ_AHEAD_BYTES, socket);
        let handshake = tokio::time::timeout(self.patience.handshake, tls.accept(socket));
        let stream: upgrade::Stream = match handshake.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                debug!(%address, %error, "no TLS");
                return None;
            }
            Err(_) => {
                debug!(%address, "no TLS in time");
                return None;
            }
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let caller = Caller {
            address,
            source: Source::of(address),
            certificate: certificates
                .and_then(|chain| chain.first())
                .map(|leaf| leaf.clone().into_owned()),
            upgrade: upgrade::Slot::default(),
        };
        let patience = self.patience;
        let asking = caller.clone();
        let service = service_fn(move |request| {
            let (api, caller) = (Arc::clone(&self), asking.clone());
            async move { api.answer(request, caller).await }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience.head)
            .max_buf_size(HEAD_LIMIT_BYTES)
            .max_headers(HEADERS_LIMIT)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let done = tokio::select! {
            done = &mut connection => done,
            () = tokio::time::sleep(patience.connection) => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(patience.head + patience.body, connection).await {
                    Ok(done) => done,
                    Err(_) => {
                        debug!(%address, "connection cut");
                        return None;
                    }
                }
            }
        };
        if let Err(error) = done {
            debug!(%address, error = crate::feed::chain(&error), "connection ended");
        }
        caller.upgrade.take().map(|upgrade| (upgrade, caller))
    }

    fn may_try(&self, buckets: &Mutex<Buckets>, source: Source) -> bool {
        let now = (self.clock)().mono;
        let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take(source, now)
    }
}
