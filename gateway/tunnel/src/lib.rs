//! The tunnel between one PC and the gateway: QUIC inside WireGuard, both ends.
//!
//! [`client::ClientTunnel`] is the PC's end, [`server::ServerTunnels`] the gateway's for all
//! its peers. Both are plain state: datagrams and `now` go in, datagrams, events and the
//! next deadline come out. They own no socket, read no configuration, know no portal and
//! no calendar, and never decide who may pass: the gateway's end asks its caller, through
//! `admits`, about every packet in both directions.
//!
//! ```text
//!  stream bytes ─► QUIC (quinn-proto, TLS 1.3 both ways)
//!               ─► IPv6 + UDP, inner addresses
//!               ─► WireGuard (boringtun) ─► one UDP datagram
//! ```
//!
//! The inner packets are ordinary IPv6/UDP with checksums, so that a standard WireGuard
//! peer can carry them. 1,200 bytes of QUIC, the least that is ever assumed of a path, make
//! 1,280 bytes of outer UDP payload, which fits every access line; the rest of the line is
//! found by QUIC's own MTU discovery, up to [`MAX_QUIC_DATAGRAM_BYTES`].
//!
//! # Clocks
//! Every entry point takes `now`. The one exception is inside boringtun, whose `Tunn` reads
//! the (sleep-counting) monotonic clock itself for key rotation and expiry: at worst a key
//! is renewed early or late; who may pass, and until when, does not hang on it. Its
//! `mock-instant` feature must never be enabled: Cargo would unify it into every test build.

pub mod client;
pub mod frames;
pub mod keys;
pub mod quic;
pub mod server;
pub mod tls;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

mod congestion;
mod liveness;
mod noise;
mod packet;
mod streams;
mod transport;

#[cfg(test)]
mod tests;

pub use packet::INNER_OVERHEAD_BYTES;
pub use quinn_proto::StreamId;
pub use streams::{Read, ReadError, WriteError};
pub use transport::{
    KEEP_ALIVE, MAX_QUIC_DATAGRAM_BYTES, MAX_STREAMS_PER_SESSION, MESSAGE_LIMIT_BYTES,
    MIN_QUIC_DATAGRAM_BYTES,
};

/// First byte of a stream that goes to the portal's member listener. The only kind there is.
pub const STREAM_TO_PORTAL: u8 = 1;

/// Longest WireGuard datagram that either end reads, in bytes. Ours are at most
/// [`MAX_QUIC_DATAGRAM_BYTES`] + 80; a standard peer pads to 16.
pub const MAX_DATAGRAM_BYTES: usize = 2048;

/// Most datagrams that one [`Transmit`] may hold: 40 of the largest stay under the 65,507
/// bytes that a segmented send can carry.
pub const MAX_SEGMENTS: usize = 40;

/// Application close code: the QUIC peer showed another certificate than the one that the
/// session was granted to. Codes under 0x100 belong to the callers.
pub const CLOSE_WRONG_CERTIFICATE: u64 = 0x100;

/// Stream reset code: the stream's first byte names no known kind.
pub const RESET_UNKNOWN_KIND: u64 = 1;

/// Datagrams to send, of equal size except for the last, which may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Bytes in the caller's buffer.
    pub len: usize,
    /// Size of each datagram but the last. Equal to `len` if there is only one.
    pub segment_size: usize,
}

/// Why a QUIC connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The other end closed it and said why.
    #[error("closed by the other end with code {code}")]
    ByPeer {
        /// The application's code.
        code: u64,
    },
    /// This end closed it, or let a new connection of the same PC take its place.
    #[error("closed here")]
    ByUs,
    /// Nothing was heard for longer than a session may last.
    #[error("timed out")]
    TimedOut,
    /// The other end closed it before it stood, when there were no keys yet for saying why
    /// (RFC 9000, section 10.2.3).
    #[error("closed by the other end before it could say why")]
    Unexplained,
    /// The connection could not be made or kept: a certificate was refused, or the other
    /// end broke the protocol.
    #[error("failed: {0}")]
    Failed(String),
}

impl From<quinn_proto::ConnectionError> for CloseReason {
    fn from(error: quinn_proto::ConnectionError) -> Self {
        use quinn_proto::ConnectionError as E;
        match error {
            E::ApplicationClosed(close) => Self::ByPeer {
                code: close.error_code.into_inner(),
            },
            E::ConnectionClosed(close)
                if close.error_code == quinn_proto::TransportErrorCode::APPLICATION_ERROR =>
            {
                Self::Unexplained
            }
            E::LocallyClosed => Self::ByUs,
            E::TimedOut => Self::TimedOut,
            E::VersionMismatch
            | E::TransportError(_)
            | E::ConnectionClosed(_)
            | E::Reset
            | E::CidsExhausted => Self::Failed(error.to_string()),
        }
    }
}
