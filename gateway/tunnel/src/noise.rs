//! One WireGuard session's state: boringtun's `Tunn`, with its traps closed.
//!
//! What boringtun leaves to its caller and this file does: a destination that is always long
//! enough (it panics otherwise), calling again after each answer until nothing is left,
//! and never handing it a packet while there is no session (it would queue
//! 256 of them). The inner source address is the callers' to check.
//!
//! boringtun reads a clock of its own. The times of WireGuard's sessions are therefore kept
//! here a second time, by the caller's clock: keys are renewed and refused by whichever clock
//! says so first. So they follow simulated time too, and no clock that stands still while
//! the other goes on makes them live longer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use bytes::BytesMut;

use crate::keys::{PresharedKey, PublicKey, SecretKey};
use crate::packet::{Flow, INNER_OVERHEAD_BYTES};

/// What WireGuard adds to a packet, in bytes.
pub(crate) const OVERHEAD_BYTES: usize = 32;

/// Length of a handshake initiation, the longest message that is no data, in bytes.
const HANDSHAKE_BYTES: usize = 148;

// A burst's packets fit where one is put together.
const _: () = assert!(
    crate::MAX_QUIC_DATAGRAM_BYTES as usize + INNER_OVERHEAD_BYTES <= crate::MAX_DATAGRAM_BYTES
);

/// Keys older than this are renewed by who began the handshake (WireGuard, §6.1).
const REKEY_AFTER: Duration = Duration::from_secs(120);

/// Keys older than this are of no more use (WireGuard, §6.1).
const REJECT_AFTER: Duration = Duration::from_secs(180);

/// How long an answer is waited for before keys are renewed another time.
const REKEY_RETRY: Duration = Duration::from_secs(5);

/// Answers to handshakes that a PC reads in a second. Only who knows its public key, that is
/// the gateway, can make it read one.
const MAX_HANDSHAKES: u64 = 500;

/// boringtun keeps so many sessions of a peer.
const SESSIONS: usize = 8;

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
    /// The other end has forgotten the keys there are: only new ones help.
    distrusted: bool,
    ages: Ages,
    /// Counts the handshakes of this peer alone, and begins anew with each tick.
    own_limiter: Option<Arc<RateLimiter>>,
}

/// How old the keys of a peer are, by the caller's clock.
#[derive(Debug, Default)]
struct Ages {
    /// When the caller last told the time.
    now: Option<Instant>,
    made_at: [Option<Instant>; SESSIONS],
    newest: Option<Instant>,
    /// Of the session that packets are sealed with. An answerer goes on with the last one
    /// until the other end has used the new one.
    sealing: Option<Instant>,
    /// This end began the newest session's handshake, and renews it.
    ours: bool,
    used: bool,
    renewal_began: Option<Instant>,
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
        // boringtun's own limit of ten a second is by its own clock.
        let own_limiter = limiter.is_none().then(|| {
            let key = secret.public_key().to_x25519();
            Arc::new(RateLimiter::new(&key, MAX_HANDSHAKES))
        });
        let limiter = limiter.or_else(|| own_limiter.clone());
        Self {
            tunn: Tunn::new(
                secret.as_x25519().clone(),
                peer.to_x25519(),
                Some(*preshared.as_bytes()),
                None,
                index,
                limiter,
            ),
            distrusted: false,
            ages: Ages::default(),
            own_limiter,
        }
    }

    /// A session with nobody, to stand where one was taken away.
    pub(crate) fn spent() -> Self {
        let nobody = SecretKey::from_bytes([0; 32]);
        let (public, preshared) = (nobody.public_key(), PresharedKey::from_bytes([0; 32]));
        Self::new(&nobody, public, &preshared, 0, None)
    }

    /// Seals nothing until a handshake was completed.
    pub(crate) fn distrust_session(&mut self) {
        self.distrusted = true;
    }

    /// Says whether packets can be sealed now.
    pub(crate) fn has_session(&self) -> bool {
        !self.distrusted
            && self.tunn.time_since_last_handshake().is_some()
            && !self.ages.is_sealing_too_old()
    }

    /// Reads one datagram. Answers go to `send`. Before a handshake message, [`Self::tick`]
    /// must be called: a session's age is counted from the last tick.
    pub(crate) fn open(
        &mut self,
        source: Option<IpAddr>,
        datagram: &[u8],
        send: &mut impl FnMut(&[u8]),
    ) -> Opened {
        if Kind::of(datagram) == Some(Kind::Data) && self.ages.is_too_old(session(datagram, 4)) {
            return Opened::Refused;
        }
        // Each packet has memory of its own: what a stream keeps of one must not keep others
        // alive, and a session at rest keeps nothing.
        let mut packet = BytesMut::zeroed(datagram.len().max(HANDSHAKE_BYTES));
        let mut answered = None;
        let length = match self.tunn.decapsulate(source, datagram, &mut packet) {
            TunnResult::Done => {
                if Kind::of(datagram) == Some(Kind::Data) {
                    self.ages.seen(session(datagram, 4));
                }
                return Opened::Nothing;
            }
            TunnResult::Err(error) => {
                tracing::trace!(?error, "datagram refused");
                return Opened::Refused;
            }
            TunnResult::WriteToNetwork(answer) => {
                answered = Kind::of(answer);
                match answered {
                    // To an initiation: the new session bears the index that the answer names.
                    Some(Kind::Response) => self.ages.made(session(answer, 4), false),
                    // To a response: it names the index that our initiation gave.
                    Some(Kind::Data) if Kind::of(datagram) == Some(Kind::Response) => {
                        self.ages.made(session(datagram, 8), true);
                    }
                    Some(Kind::Data | Kind::Initiation | Kind::Cookie) | None => {}
                }
                send(answer);
                None
            }
            TunnResult::WriteToTunnelV6(inner, _) => Some(inner.len()),
            // The address family is checked with the rest of the header, by the callers.
            TunnResult::WriteToTunnelV4(inner, _) => Some(inner.len()),
        };
        match length {
            Some(length) => {
                self.ages.seen(session(datagram, 4));
                packet.truncate(length);
                Opened::Packet(packet)
            }
            None => {
                self.flush(send);
                match answered {
                    // A response (to an initiation) or a keep-alive (to a response).
                    Some(Kind::Response | Kind::Data) => {
                        self.distrusted = false;
                        Opened::Established
                    }
                    Some(Kind::Initiation | Kind::Cookie) | None => Opened::Nothing,
                }
            }
        }
    }

    /// Seals `packet` onto the end of `out`. False if there is no session.
    pub(crate) fn seal(&mut self, packet: &[u8], out: &mut Vec<u8>) -> bool {
        self.has_session() && self.seal_in_session(packet, out)
    }

    /// Seals the datagrams in `quic`, `size` bytes each but for the last, as packets of `flow`
    /// onto the end of `out`, until `may_pass` refuses one. Returns the length of the packets.
    /// Nothing is sealed if there is no session. `quic` is overwritten.
    pub(crate) fn seal_burst(
        &mut self,
        flow: &Flow,
        quic: &mut [u8],
        size: usize,
        out: &mut Vec<u8>,
        mut may_pass: impl FnMut() -> bool,
    ) -> usize {
        let mut packets_bytes = 0;
        // Asked once: it reads the clock, and a burst takes no time.
        if !self.has_session() {
            return packets_bytes;
        }
        for start in (0..quic.len()).step_by(size.max(1)) {
            if !may_pass() {
                break;
            }
            let end = quic.len().min(start + size);
            let headers = flow.headers(&quic[start..end]);
            let sealed = match start.checked_sub(INNER_OVERHEAD_BYTES) {
                // What stands in front is sealed already: the headers take its place.
                Some(front) => {
                    quic[front..start].copy_from_slice(&headers);
                    self.seal_in_session(&quic[front..end], out)
                }
                None => {
                    let mut packet = [0; crate::MAX_DATAGRAM_BYTES];
                    let length = INNER_OVERHEAD_BYTES + end - start;
                    packet[..INNER_OVERHEAD_BYTES].copy_from_slice(&headers);
                    packet[INNER_OVERHEAD_BYTES..length].copy_from_slice(&quic[start..end]);
                    self.seal_in_session(&packet[..length], out)
                }
            };
            if !sealed {
                break;
            }
            packets_bytes += INNER_OVERHEAD_BYTES + end - start;
        }
        packets_bytes
    }

    /// There must be a session: boringtun would queue the packet.
    fn seal_in_session(&mut self, packet: &[u8], out: &mut Vec<u8>) -> bool {
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
        self.ages.used = true;
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

    /// Tells the time, and lets boringtun look at its clock: renews keys, sends keep-alives,
    /// forgets old keys.
    pub(crate) fn tick(&mut self, now: Instant, send: &mut impl FnMut(&[u8])) -> Health {
        self.ages.now = Some(now);
        if let Some(limiter) = &self.own_limiter {
            limiter.reset_count();
        }
        if self.ages.takes_renewal(now) {
            self.start_handshake(send);
        }
        let mut message = [0; HANDSHAKE_BYTES];
        match self.tunn.update_timers(&mut message) {
            TunnResult::WriteToNetwork(message) => send(message),
            TunnResult::Err(WireGuardError::ConnectionExpired) => return Health::Expired,
            TunnResult::Err(_)
            | TunnResult::Done
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => {}
        }
        if self.ages.is_newest_too_old() {
            return Health::Expired;
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

/// Returns which of boringtun's sessions an index at `at` names.
fn session(message: &[u8], at: usize) -> usize {
    let low = message.get(at).copied().unwrap_or_default();
    usize::from(low) % SESSIONS
}

impl Ages {
    fn made(&mut self, session: usize, ours: bool) {
        self.made_at[session] = self.now;
        self.newest = self.now;
        if ours || self.sealing.is_none() {
            self.sealing = self.now;
        }
        self.ours = ours;
        self.used = false;
        self.renewal_began = None;
    }

    /// Notes that the other end has used a session.
    fn seen(&mut self, session: usize) {
        self.sealing = self.sealing.max(self.made_at[session]);
    }

    fn is_sealing_too_old(&self) -> bool {
        self.is_older(self.sealing, REJECT_AFTER)
    }

    fn is_older(&self, made_at: Option<Instant>, age: Duration) -> bool {
        let (Some(now), Some(made_at)) = (self.now, made_at) else {
            return false;
        };
        now.saturating_duration_since(made_at) >= age
    }

    fn is_too_old(&self, session: usize) -> bool {
        self.is_older(self.made_at[session], REJECT_AFTER)
    }

    fn is_newest_too_old(&self) -> bool {
        self.is_older(self.newest, REJECT_AFTER)
    }

    /// Says whether keys are to be renewed now; the next time is [`REKEY_RETRY`] later.
    fn takes_renewal(&mut self, now: Instant) -> bool {
        let due = self.ours
            && self.used
            && self.is_older(self.newest, REKEY_AFTER)
            && !self.is_newest_too_old()
            && self
                .renewal_began
                .is_none_or(|began| began + REKEY_RETRY <= now);
        if due {
            self.renewal_began = Some(now);
        }
        due
    }
}
