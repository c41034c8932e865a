//! By which way a peer is reached.
//!
//! The tunnels keep the way on which a peer was last heard from and say with each datagram
//! by which one it is to leave. They never look at what is behind the numbers: sockets and
//! connections are the caller's.

use std::net::{IpAddr, SocketAddr};

/// The way on which a datagram came, and on which answers go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// A UDP socket of the caller's.
    Udp {
        /// The caller's number for the socket.
        socket: u8,
        /// Who is at the other end.
        remote: SocketAddr,
    },
    /// A TLS connection of the caller's that carries datagrams.
    Tls {
        /// The caller's number for the connection; never used for another one.
        connection: u64,
        /// Who is at the other end.
        remote: IpAddr,
    },
}

impl Route {
    /// The address that a sender is counted by.
    pub fn ip(&self) -> IpAddr {
        match self {
            Self::Udp { remote, .. } => remote.ip(),
            Self::Tls { remote, .. } => *remote,
        }
    }

    /// Says whether what was learnt about the network on `self` (its capacity, its largest
    /// datagram) holds on `other` too.
    pub(super) fn is_of_one_path_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Udp { remote, .. }, Self::Udp { remote: other, .. }) => {
                remote.ip() == other.ip()
            }
            (
                Self::Tls { connection, .. },
                Self::Tls {
                    connection: other, ..
                },
            ) => connection == other,
            (Self::Udp { .. }, Self::Tls { .. }) | (Self::Tls { .. }, Self::Udp { .. }) => false,
        }
    }
}

/// Through the caller's first socket.
impl From<SocketAddr> for Route {
    fn from(remote: SocketAddr) -> Self {
        Self::Udp { socket: 0, remote }
    }
}
