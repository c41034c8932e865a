//! What the gateway's end tells its caller: events, traffic, what was dropped, what to send.

use super::{PeerId, Route};
use crate::{CloseReason, StreamId, Transmit};

/// What happened in a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The PC showed the right certificate.
    Connected(PeerId),
    /// The PC opened a stream to the portal.
    StreamOpened(PeerId, StreamId),
    /// A stream has something to read, or was reset or finished by the PC.
    StreamReadable(PeerId, StreamId),
    /// A stream that took no more takes some again, or was stopped by the PC.
    StreamWritable(PeerId, StreamId),
    /// The PC wants no more data on a stream.
    StreamStopped {
        /// The peer.
        peer: PeerId,
        /// The stream.
        stream: StreamId,
        /// The PC's code.
        code: u64,
    },
    /// The connection and all its streams are over. The peer stays until it is removed and
    /// may connect anew.
    Disconnected {
        /// The peer.
        peer: PeerId,
        /// Why.
        reason: CloseReason,
    },
}

/// Bytes of a session, counted as inner packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the PC.
    pub bytes_in: u64,
    /// To the PC.
    pub bytes_out: u64,
}

/// What was dropped, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that are no WireGuard message at all.
    pub malformed: u64,
    /// Handshakes without the gateway's public key, or of unknown keys; data for no peer.
    pub strangers: u64,
    /// Handshakes of a source that asks too often.
    pub throttled: u64,
    /// Handshakes that were answered by a cookie.
    pub cookies: u64,
    /// Packets, in or out, of peers that are not admitted (any more).
    pub not_admitted: u64,
    /// Messages of a peer that are not authentic, or repeated.
    pub refused: u64,
    /// Inner packets with a foreign source, another destination, or of another protocol.
    pub foreign_inner: u64,
    /// Answers that were dropped because too many waited.
    pub overflow: u64,
}

/// Datagrams for one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// By which way.
    pub to: Route,
    /// What the caller's buffer holds.
    pub transmit: Transmit,
}
