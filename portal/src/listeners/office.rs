//! The door for fund staff, on the fund's own network.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{HANDSHAKE_TIMEOUT, PAGES, Turned, connection, in_time, never};
use crate::app::App;
use crate::web::principals::OfficeConnection;

pub(super) struct Door {
    pub(super) app: App,
    pub(super) tls: Arc<ServerConfig>,
    pub(super) router: Router,
}

impl super::Door for Door {
    const NAME: &'static str = "office";

    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) -> Result<(), Turned> {
        stream.set_nodelay(true)?;
        let handshake = TlsAcceptor::from(self.tls.clone()).accept(stream);
        let stream = in_time("the TLS handshake", HANDSHAKE_TIMEOUT, handshake)
            .await?
            .map_err(Turned::Tls)?;
        let extension = OfficeConnection { peer };
        let stopping = self.app.signals.stopping();
        let router = self.router.clone();
        connection::serve(stream, router, extension, PAGES, stopping, never()).await
    }
}
