//! The door for establishments: only connections that a gateway vouches for, and only as
//! long as their session lasts.
//!
//! The PROXY header comes before TLS. Its HMAC shows that the sender holds the session's
//! key; the database says whether the session is live now and at which address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use protocol::proxy::{Claim, HEADER_BYTES, Verified};
use rustls::ServerConfig;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{HANDSHAKE_TIMEOUT, PAGES, Turned, connection, in_time};
use crate::app::App;
use crate::clock::unix_ms;
use crate::tunnel_sessions::live::{LiveSessions, Stay};
use crate::tunnel_sessions::{proxy_key, store};
use crate::web::principals::TunnelConnection;

/// How long the PROXY header may take: the gateway sends it with the first packet.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Door {
    pub(super) app: App,
    pub(super) tls: Arc<ServerConfig>,
    pub(super) live: LiveSessions,
    pub(super) router: Router,
}

impl super::Door for Door {
    const NAME: &'static str = "member";

    async fn serve(self: Arc<Self>, mut stream: TcpStream, _: SocketAddr) -> Result<(), Turned> {
        stream.set_nodelay(true)?;
        let mut header = [0; HEADER_BYTES];
        let reading = stream.read_exact(&mut header);
        in_time("the PROXY header", HEADER_TIMEOUT, reading).await??;
        let claim = Claim::parse(&header)?;
        let key = proxy_key(&self.app.keys, claim.session(), claim.inner_address());
        let verified = claim.verify(&key)?;
        let mut stay = self.admit(verified).await?;

        let handshake = TlsAcceptor::from(self.tls.clone()).accept(stream);
        let stream = tokio::select! {
            stream = in_time("the TLS handshake", HANDSHAKE_TIMEOUT, handshake) => stream?,
            () = stay.ended() => return Ok(()),
        };
        let stream = stream.map_err(Turned::Tls)?;
        let extension = TunnelConnection {
            session: verified.session,
            inner_address: verified.inner_address,
        };
        let stopping = self.app.signals.stopping();
        let router = self.router.clone();
        connection::serve(stream, router, extension, PAGES, stopping, stay.ended()).await
    }
}

impl Door {
    /// Asks whether the session is live now and at the address that the gateway says.
    async fn admit(&self, verified: Verified) -> Result<Stay, Turned> {
        let found = store::liveness(&self.app.db, verified.session).await?;
        let now_ms = unix_ms(self.app.clock.now());
        let liveness = found
            .filter(|found| found.inner_address == verified.inner_address)
            .filter(|found| found.is_live(now_ms))
            .ok_or(Turned::NotLive)?;
        self.live.enter(liveness).ok_or(Turned::TooMany)
    }
}
