//! One WireGuard session's state: boringtun's `Tunn`, with its traps closed.
//!
//! What boringtun leaves to its caller and this file does: a destination that is always long
//! enough (it panics otherwise), calling again after each answer until nothing is left,
//! and never handing it a packet while there is no session (it would queue
//! 256 of them). The inner source address is the callers' to check.

use std::net::IpAddr;
use std::sync::Arc;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use bytes::BytesMut;

use crate::keys::{PresharedKey, PublicKey, SecretKey};

/// What WireGuard adds to a packet, in bytes.
pub(crate) const OVERHEAD_BYTES: usize = 32;

/// Length of a handshake initiation, the longest message that is no data, in bytes.
const HANDSHAKE_BYTES: usize = 148;

/// More answers than one datagram can cause.
const MAX_ANSWERS: usize = 8;

/// The kinds of WireGuard messages, by first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Initiation,
    Response,
    Cookie,
    Data,
}

/// What a datagram turned out to be.
#[derive(Debug)]
pub(crate) enum Opened {
    /// An authentic packet from inside.
    Packet(BytesMut),
    /// Authentic, but nothing for us: a keep-alive or a step of a handshake.
    Nothing,
    /// A handshake was completed by this message.
    Established,
    /// Not authentic, or repeated, or of a session that is over.
    Refused,
}

/// Whether the session's keys are still worth something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// There are keys, or a handshake is under way.
    Alive,
    /// All keys were thrown away: only a new handshake helps.
    Expired,
}

/// A session with one peer.
pub(crate) struct Noise {
    tunn: Tunn,
}

impl Kind {
    /// Says what a datagram claims to be, if its length fits the claim.
    pub(crate) fn of(datagram: &[u8]) -> Option<Self> {
        let (kind, reserved) = (datagram.first()?, datagram.get(1..4)?);
        if reserved != [0, 0, 0] {
            return None;
        }
        match (kind, datagram.len()) {
            (1, 148) => Some(Self::Initiation),
            (2, 92) => Some(Self::Response),
            (3, 64) => Some(Self::Cookie),
            (4, 32..=crate::MAX_DATAGRAM_BYTES) => Some(Self::Data),
            _ => None,
        }
    }
}

/// Returns which session a response, cookie or data message is meant for: the 24 bits that
/// are ours.
pub(crate) fn receiver_index(kind: Kind, datagram: &[u8]) -> Option<u32> {
    let at = match kind {
        Kind::Initiation => return None,
        Kind::Response => 8,
        Kind::Cookie | Kind::Data => 4,
    };
    let bytes = datagram.get(at..at + 4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) >> 8)
}

impl Noise {
    /// Makes the state for a new session. `index` has 24 bits; messages to us carry it.
    pub(crate) fn new(
        secret: &SecretKey,
        peer: PublicKey,
        preshared: &PresharedKey,
        index: u32,
        limiter: Option<Arc<RateLimiter>>,
    ) -> Self {
        Self {
            tunn: Tunn::new(
                secret.as_x25519().clone(),
                peer.to_x25519(),
                Some(*preshared.as_bytes()),
                None,
                index,
                limiter,
            ),
        }
    }

    /// Says whether packets can be sealed now.
    pub(crate) fn has_session(&self) -> bool {
        self.tunn.time_since_last_handshake().is_some()
    }

    /// Reads one datagram. Answers go to `send`. Before a handshake message, [`Self::tick`]
    /// must be called: a session's age is counted from the last tick.
    pub(crate) fn open(
        &mut self,
        source: Option<IpAddr>,
        datagram: &[u8],
        send: &mut impl FnMut(&[u8]),
    ) -> Opened {
        // Each packet has memory of its own: what a stream keeps of one must not keep others
        // alive, and a session at rest keeps nothing.
        let mut packet = BytesMut::zeroed(datagram.len().max(HANDSHAKE_BYTES));
        let mut answered = None;
        let length = match self.tunn.decapsulate(source, datagram, &mut packet) {
            TunnResult::Done => return Opened::Nothing,
            TunnResult::Err(error) => {
                tracing::trace!(?error, "datagram refused");
                return Opened::Refused;
            }
            TunnResult::WriteToNetwork(answer) => {
                answered = Kind::of(answer);
                send(answer);
                None
            }
            TunnResult::WriteToTunnelV6(inner, _) => Some(inner.len()),
            // The address family is checked with the rest of the header, by the callers.
            TunnResult::WriteToTunnelV4(inner, _) => Some(inner.len()),
        };
        match length {
            Some(length) => {
                packet.truncate(length);
                Opened::Packet(packet)
            }
            None => {
                self.flush(send);
                match answered {
                    // A response (to an initiation) or a keep-alive (to a response).
                    Some(Kind::Response | Kind::Data) => Opened::Established,
                    Some(Kind::Initiation | Kind::Cookie) | None => Opened::Nothing,
                }
            }
        }
    }

    /// Seals `packet` onto the end of `out`. False if there is no session.
    pub(crate) fn seal(&mut self, packet: &[u8], out: &mut Vec<u8>) -> bool {
        if !self.has_session() {
            return false;
        }
        let start = out.len();
        out.resize(
            start + (packet.len() + OVERHEAD_BYTES).max(HANDSHAKE_BYTES),
            0,
        );
        let sealed = match self.tunn.encapsulate(packet, &mut out[start..]) {
            TunnResult::WriteToNetwork(sealed) => sealed.len(),
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => 0,
        };
        out.truncate(start + sealed);
        sealed > 0
    }

    /// Starts a handshake, even if one is under way.
    pub(crate) fn start_handshake(&mut self, send: &mut impl FnMut(&[u8])) {
        let mut message = [0; HANDSHAKE_BYTES];
        if let TunnResult::WriteToNetwork(message) =
            self.tunn.format_handshake_initiation(&mut message, true)
        {
            send(message);
        }
    }

    /// Lets boringtun look at its clock: renews keys, sends keep-alives, forgets old keys.
    pub(crate) fn tick(&mut self, send: &mut impl FnMut(&[u8])) -> Health {
        let mut message = [0; HANDSHAKE_BYTES];
        match self.tunn.update_timers(&mut message) {
            TunnResult::WriteToNetwork(message) => send(message),
            TunnResult::Err(WireGuardError::ConnectionExpired) => return Health::Expired,
            TunnResult::Err(_)
            | TunnResult::Done
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => {}
        }
        Health::Alive
    }

    fn flush(&mut self, send: &mut impl FnMut(&[u8])) {
        let mut message = [0; crate::MAX_DATAGRAM_BYTES];
        for _ in 0..MAX_ANSWERS {
            match self.tunn.decapsulate(None, &[], &mut message) {
                TunnResult::WriteToNetwork(message) => send(message),
                TunnResult::Done
                | TunnResult::Err(_)
                | TunnResult::WriteToTunnelV4(..)
                | TunnResult::WriteToTunnelV6(..) => return,
            }
        }
    }
}
