//! The QUIC half of the PC's end, without its WireGuard half.
//!
//! [`crate::client::ClientTunnel`] is this inside WireGuard. A PC whose WireGuard half is a
//! standard peer, with an interface that has the inner address, runs the same over a UDP socket
//! on that interface: the inner packets are ordinary IPv6/UDP. It owns no socket and reads no
//! clock.

use std::net::SocketAddrV6;
use std::sync::Arc;
use std::time::Instant;

use quinn_proto::{Connection, ConnectionHandle, Endpoint};

use crate::client::ConfigError;
use crate::transport;

/// A QUIC connection to the gateway with the endpoint that it belongs to.
pub struct QuicHalf {
    /// Reads datagrams for the connection.
    pub endpoint: Endpoint,
    /// Names the connection at the endpoint.
    pub handle: ConnectionHandle,
    /// The connection; its first datagram is ready to be sent.
    pub connection: Connection,
}

impl QuicHalf {
    /// Begins to connect to the gateway's QUIC, with the settings that every agent has. `tls`
    /// comes from [`crate::tls::client_config`]; a stream's first byte is
    /// [`crate::STREAM_TO_PORTAL`].
    ///
    /// # Errors
    /// [`ConfigError`] if the settings, the name or the address cannot work.
    pub fn connect(
        tls: Arc<rustls::ClientConfig>,
        gateway_inner: SocketAddrV6,
        server_name: &str,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let quic = transport::client(tls).map_err(ConfigError::Tls)?;
        let mut endpoint = Endpoint::new(Arc::new(transport::endpoint()), None, true, None);
        let (handle, connection) = endpoint
            .connect(now, quic, gateway_inner.into(), server_name)
            .map_err(ConfigError::Connect)?;
        Ok(Self {
            endpoint,
            handle,
            connection,
        })
    }
}
