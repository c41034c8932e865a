//! What the gateway and its peers are made from, and why that may fail.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;

use crate::keys::{PresharedKey, PublicKey, SecretKey};

/// Names a peer: the session's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u128);

/// What the gateway is made from.
pub struct ServerConfig {
    /// The gateway's WireGuard key.
    pub secret_key: SecretKey,
    /// Where QUIC listens inside the tunnels.
    pub inner_address: SocketAddrV6,
    /// See [`crate::tls::server_config`].
    pub tls: Arc<rustls::ServerConfig>,
}

/// What a peer is made from: the gateway's half of a grant.
pub struct PeerConfig {
    /// The PC's WireGuard key for this session.
    pub public_key: PublicKey,
    /// The session's pre-shared key.
    pub preshared_key: PresharedKey,
    /// The one source address that may come out of this tunnel.
    pub inner_address: Ipv6Addr,
    /// SHA-256 of the certificate (DER) that the PC must show in QUIC.
    pub device_certificate_sha256: [u8; 32],
}

/// Why a peer cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddPeerError {
    /// There is a peer with this id, key or inner address.
    #[error("a peer with this id, key or inner address is there already")]
    Taken,
    /// There are [`super::MAX_PEERS`].
    #[error("too many peers")]
    TooMany,
}

/// Why a message cannot be sent to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer has no connection, or there is no such peer.
    #[error("peer is not connected")]
    NotConnected,
    /// Earlier messages have not arrived yet.
    #[error("too many messages on the way")]
    TooMany,
    /// Longer than [`crate::MESSAGE_LIMIT_BYTES`].
    #[error("message too long")]
    TooLong,
}
