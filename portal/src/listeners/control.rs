//! The door for gateways: mutual TLS, and only certificates of the service authority.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{CONTROL, HANDSHAKE_TIMEOUT, Turned, connection, in_time, never};
use crate::app::App;
use crate::control_api::GatewayConnection;

pub(super) struct Door {
    pub(super) app: App,
    pub(super) tls: Arc<ServerConfig>,
    pub(super) router: Router,
}

impl super::Door for Door {
    const NAME: &'static str = "control";

    async fn serve(self: Arc<Self>, stream: TcpStream, _: SocketAddr) -> Result<(), Turned> {
        stream.set_nodelay(true)?;
        let handshake = TlsAcceptor::from(self.tls.clone()).accept(stream);
        let stream = in_time("the TLS handshake", HANDSHAKE_TIMEOUT, handshake)
            .await?
            .map_err(Turned::Tls)?;
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first)
            .ok_or(Turned::NoCertificate)?
            .clone()
            .into_owned();
        let extension = GatewayConnection { certificate };
        let stopping = self.app.signals.stopping();
        let router = self.router.clone();
        connection::serve(stream, router, extension, CONTROL, stopping, never()).await
    }
}
