//! The portal's three doors, and who gets through which.
//!
//! | listener | before TLS | TLS | what requests carry |
//! |---|---|---|---|
//! | *member* | the gateway's PROXY header, authentic, of a live session | 1.3, 1.2 | `TunnelConnection` |
//! | *office* | | 1.3, 1.2 | `OfficeConnection` |
//! | *control* | | 1.3, client certificate of the service authority | `GatewayConnection` |
//!
//! Every wait has a limit: for the header, the handshake, a request's head, and any silence.
//! Connections are bounded. A member connection is closed when its session ends. Nothing
//! here decides what a request may do.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::app::App;
use crate::control_api;
use crate::tunnel_sessions::live::LiveSessions;
use crate::web::page_error::chain;

use connection::Limits;
use tls::TlsError;

mod connection;
mod control;
mod member;
mod office;
mod patience;
pub mod tls;

/// Connections at most, each holding a file descriptor.
const MEMBER_CONNECTIONS: usize = 4_096;
const OFFICE_CONNECTIONS: usize = 1_024;
const CONTROL_CONNECTIONS: usize = 256;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a browser may take to send a request's head; also how long an idle connection
/// is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for gateways, which keep connections for the next 「接続」.
const CONTROL_HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How long nothing at all may move while a request is under way.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(180);
/// How long requests may take to finish when the portal stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after the operating system refuses a connection, for example for want of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The three sockets, bound.
#[derive(Debug)]
pub struct Listeners {
    member: TcpListener,
    office: TcpListener,
    control: TcpListener,
}

/// What the two listeners for people serve.
#[derive(Debug, Clone)]
pub struct Routers {
    /// The members' pages.
    pub member: Router,
    /// The office's pages.
    pub office: Router,
}

/// Where the listeners are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Addresses {
    /// The members' pages.
    pub member: SocketAddr,
    /// The office's pages.
    pub office: SocketAddr,
    /// The gateways' API.
    pub control: SocketAddr,
}

/// The listeners cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A port is taken, or not allowed.
    #[error("cannot listen for {what} on {address}")]
    Bind {
        /// Which listener.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Listeners {
    /// Binds the three sockets. Connections wait until [`Listeners::serve`].
    pub async fn bind(app: &App) -> Result<Self, ListenError> {
        let config = &app.config;
        Ok(Self {
            member: bind("member", config.member.listen).await?,
            office: bind("office", config.office.listen).await?,
            control: bind("control", config.control.listen).await?,
        })
    }

    /// Where the sockets are, now that the operating system has chosen free ports.
    pub fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            member: self.member.local_addr()?,
            office: self.office.local_addr()?,
            control: self.control.local_addr()?,
        })
    }

    /// Serves until `app.signals.stop()`, then lets requests finish for a short while.
    pub async fn serve(self, app: App, routers: Routers) -> Result<(), ListenError> {
        let certificates = tls::Certificates::load(&app)?;
        let renewal = tokio::spawn(certificates.clone().keep_fresh(app.clone()));
        let live = LiveSessions::default();
        let watch = tokio::spawn(live.clone().watch(app.clone()));

        let member = member::Door {
            app: app.clone(),
            tls: certificates.member(),
            live,
            router: routers.member,
        };
        let office = office::Door {
            app: app.clone(),
            tls: certificates.office(),
            router: routers.office,
        };
        let control = control::Door {
            app: app.clone(),
            tls: certificates.control(&app)?,
            router: control_api::router(app.clone()),
        };
        tokio::join!(
            accept(&app, self.member, MEMBER_CONNECTIONS, Arc::new(member)),
            accept(&app, self.office, OFFICE_CONNECTIONS, Arc::new(office)),
            accept(&app, self.control, CONTROL_CONNECTIONS, Arc::new(control)),
        );
        renewal.abort();
        watch.abort();
        Ok(())
    }
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| ListenError::Bind {
        what,
        address,
        source,
    })
}

/// What a listener does with a connection.
trait Door: Send + Sync + 'static {
    /// The listener's name, for the log.
    const NAME: &'static str;

    /// Serves one connection to its end. An error is the other side's doing.
    fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = Result<(), Turned>> + Send;
}

/// Why a connection was turned away or broke.
#[derive(Debug, thiserror::Error)]
enum Turned {
    #[error("too slow with {0}")]
    TooSlow(&'static str),
    #[error("connection broke")]
    Broke(#[from] std::io::Error),
    #[error("no TLS")]
    Tls(#[source] std::io::Error),
    #[error(transparent)]
    Proxy(#[from] protocol::proxy::ProxyError),
    #[error("session is not live, or not at this address")]
    NotLive,
    #[error("session has too many connections")]
    TooMany,
    #[error("no certificate")]
    NoCertificate,
    #[error(transparent)]
    Store(#[from] crate::db::StoreError),
    #[error("HTTP")]
    Http(#[source] hyper::Error),
}

/// Accepts until the portal stops, then waits for what is under way.
async fn accept<D: Door>(app: &App, listener: TcpListener, limit: usize, door: Arc<D>) {
    let mut stopping = app.signals.stopping();
    let places = Arc::new(Semaphore::new(limit));
    let mut connections = JoinSet::new();
    loop {
        // Without a free place nobody is accepted: the queue of the operating system fills.
        let place = tokio::select! {
            () = stopping.wait() => break,
            place = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = stopping.wait() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = D::NAME, %error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let door = door.clone();
        connections.spawn(async move {
            let _place = place;
            if let Err(turned) = door.serve(stream, peer).await {
                tracing::debug!(listener = D::NAME, error = %chain(&turned), "connection turned away");
            }
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
        tracing::warn!(listener = D::NAME, "requests were cut off at the stop");
    }
}

/// Limits for browsers.
const PAGES: Limits = Limits {
    head: HEAD_TIMEOUT,
    silence: SILENCE_TIMEOUT,
};
/// Limits for gateways.
const CONTROL: Limits = Limits {
    head: CONTROL_HEAD_TIMEOUT,
    silence: SILENCE_TIMEOUT,
};

/// Waits for `future`, but not for ever.
async fn in_time<T>(
    what: &'static str,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Result<T, Turned> {
    tokio::time::timeout(limit, future)
        .await
        .map_err(|_| Turned::TooSlow(what))
}

/// For a connection that nothing but its own end, or the portal's, closes.
async fn never() -> Infallible {
    std::future::pending().await
}

#[cfg(test)]
mod tests;
