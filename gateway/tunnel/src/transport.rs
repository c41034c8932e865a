//! How QUIC behaves inside the tunnel: sizes, windows, congestion control, timeouts.
//!
//! Both ends use the same settings, except for who may open which streams. Every bound on
//! memory and streams per session stands here.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig,
    VarInt,
};

use crate::congestion::PathModelFactory;
use crate::tls::TlsError;

/// QUIC datagrams start with this size, in bytes: 1,328 with all headers over IPv6, which
/// every access line carries.
pub const MIN_QUIC_DATAGRAM_BYTES: u16 = 1200;

/// The largest QUIC datagram that MTU discovery tries, in bytes: 1,500 less outer IPv6 (40),
/// UDP (8), WireGuard (32), inner IPv6 (40) and UDP (8).
pub const MAX_QUIC_DATAGRAM_BYTES: u16 = 1372;

/// Streams that one PC may have open at a time. A browser uses some ten; 64 parallel ones
/// must work.
pub const MAX_STREAMS_PER_SESSION: u32 = 128;

/// Longest message from the gateway to the agent, in bytes.
pub const MESSAGE_LIMIT_BYTES: usize = 4096;

/// Messages that may be on their way at a time.
pub(crate) const MAX_MESSAGES_ON_THE_WAY: u32 = 8;

/// The agent says something at least this often, so that no NAT forgets it (30 s is the
/// shortest memory in use) and the end of the path is noticed.
pub const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Longer than the longest session: a sleeping PC must not lose its session to a timeout.
/// Sessions end by their deadline.
const IDLE_TIMEOUT_MS: u32 = 95 * 60 * 1000;

/// What a stream's sender may have in flight and unread, in bytes: 24 MB/s at 80 ms.
///
/// It must not be more: QUIC's receiver gives the connection up when a stream's data lies
/// in more than 1,024 pieces with gaps between them. If every second packet of this window
/// is lost, pieces and gaps have 1,024 bytes each, which is less than any full packet carries.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// What a session may have in flight and unread in either direction, in bytes. Bounds a
/// session's memory: a stream that nobody reads leaves another one at full speed.
const SESSION_WINDOW_BYTES: u32 = 2 * STREAM_WINDOW_BYTES;

/// First guess of the round trip: a lost first packet is repeated after three of these.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Makes the agent's QUIC settings.
pub(crate) fn client(tls: Arc<rustls::ClientConfig>) -> Result<ClientConfig, TlsError> {
    let tls = QuicClientConfig::try_from(tls).map_err(TlsError::Quic)?;
    let mut transport = common();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_MESSAGES_ON_THE_WAY))
        .keep_alive_interval(Some(KEEP_ALIVE));
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Makes the gateway's QUIC settings.
pub(crate) fn server(tls: Arc<rustls::ServerConfig>) -> Result<ServerConfig, TlsError> {
    let tls = QuicServerConfig::try_from(tls).map_err(TlsError::Quic)?;
    let mut transport = common();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS_PER_SESSION))
        .max_concurrent_uni_streams(VarInt::from_u32(0));
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    // Inner addresses never change; the outer ones may, which WireGuard takes care of.
    config.migration(false);
    Ok(config)
}

/// Makes the settings of the endpoint itself, with keys of its own.
pub(crate) fn endpoint() -> EndpointConfig {
    #[cfg_attr(not(test), expect(unused_mut, reason = "only tests change it"))]
    let mut config = EndpointConfig::default();
    // Which packet numbers are skipped is left to chance, and shares of a line with it: a test
    // in simulated time is to come out the same each time.
    #[cfg(test)]
    config.rng_seed(Some([7; 32]));
    config
}

fn common() -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MAX_QUIC_DATAGRAM_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .initial_mtu(MIN_QUIC_DATAGRAM_BYTES)
        .min_mtu(MIN_QUIC_DATAGRAM_BYTES)
        .mtu_discovery_config(Some(discovery))
        .congestion_controller_factory(Arc::new(PathModelFactory))
        .initial_rtt(INITIAL_RTT)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(SESSION_WINDOW_BYTES))
        .send_window(u64::from(SESSION_WINDOW_BYTES))
        .datagram_receive_buffer_size(None);
    transport
}
