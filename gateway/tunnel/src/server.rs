//! The gateway's end of all its tunnels.
//!
//! A peer is let in by [`ServerTunnels::add_peer`] and put out by [`ServerTunnels::remove_peer`].
//! In between, every packet of it passes only if the caller's `admits` says so at that moment,
//! in both directions. The one packet that leaves unasked is the farewell of a peer that was
//! just removed: it carries the close code and no data of the session.
//!
//! Strangers get no answer: only who knows the gateway's public key (nobody without a grant)
//! can cause even a cookie reply, and that only under load. The work per packet does not grow
//! with the number of peers.
//!
//! Drive it as [`crate::client`] describes.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::rate_limiter::RateLimiter;
use bytes::Bytes;
use quinn_proto::Endpoint;
use slab::Slab;

use crate::keys::{PublicKey, SecretKey};
use crate::noise::{self, Kind, Noise, Opened, receiver_index};
use crate::packet::INNER_OVERHEAD_BYTES;
use crate::streams::{self, Read, ReadError, WriteError};
use crate::tls::TlsError;
use crate::{MAX_SEGMENTS, StreamId, Transmit, transport};

use buckets::Buckets;
use peer::{Peer, Quic};
use timers::{Scheduled, Timers};

mod buckets;
mod config;
mod event;
mod inbound;
mod peer;
mod route;
mod timers;

pub use config::{AddPeerError, PeerConfig, PeerId, SendError, ServerConfig};
pub use event::{Counters, Event, Outgoing, Traffic};
pub use route::Route;

/// Most peers at a time. WireGuard's index would allow 16 million.
pub const MAX_PEERS: usize = 65_536;

/// How often boringtun looks at its clock for each peer. The gateway starts no rotation of
/// keys; it only forgets old ones.
const TICK: Duration = Duration::from_secs(5);

/// How often the count of handshakes starts anew.
const HANDSHAKE_COUNT_PERIOD: Duration = Duration::from_secs(1);

/// Handshakes per [`HANDSHAKE_COUNT_PERIOD`] above which the gateway asks for cookies. One
/// costs 0.3 ms, so this is 15 % of a core.
const HANDSHAKES_WITHOUT_COOKIE: u64 = 500;

/// boringtun counts each initiation twice: before and inside the peer's own check.
const COUNTS_PER_HANDSHAKE: u64 = 2;

/// Answers that wait to be sent; more are dropped, for each is repeated if need be.
const MAX_WAITING_REPLIES: usize = 4096;

/// How often a farewell is sent: nobody is left to repeat it if it is lost.
const FAREWELL_COPIES: usize = 2;

/// The gateway's end of all tunnels.
pub struct ServerTunnels {
    secret_key: SecretKey,
    public_key: PublicKey,
    inner_address: (Ipv6Addr, u16),
    limiter: Arc<RateLimiter>,
    buckets: Buckets,
    next_count: Instant,
    peers: Slab<Peer>,
    by_id: HashMap<PeerId, usize>,
    by_key: HashMap<[u8; 32], usize>,
    by_address: HashMap<Ipv6Addr, usize>,
    endpoint: Endpoint,
    timers: Timers,
    replies: VecDeque<Reply>,
    ready: VecDeque<usize>,
    eventful: VecDeque<usize>,
    events: VecDeque<Event>,
    counters: Counters,
    quic_buffer: Vec<u8>,
    packet: Vec<u8>,
}

/// A datagram that waits to be sent.
struct Reply {
    to: Route,
    /// Who must be admitted for it to leave. None for cookies and farewells.
    only_if_admitted: Option<PeerId>,
    message: Vec<u8>,
}

impl ServerTunnels {
    /// Makes a gateway without peers.
    ///
    /// # Errors
    /// [`TlsError`] if the TLS settings do not suit QUIC.
    pub fn new(config: ServerConfig, now: Instant) -> Result<Self, TlsError> {
        let public_key = config.secret_key.public_key();
        let quic = transport::server(config.tls)?;
        Ok(Self {
            limiter: Arc::new(RateLimiter::new(
                &public_key.to_x25519(),
                HANDSHAKES_WITHOUT_COOKIE * COUNTS_PER_HANDSHAKE,
            )),
            secret_key: config.secret_key,
            public_key,
            inner_address: (*config.inner_address.ip(), config.inner_address.port()),
            buckets: Buckets::new(),
            next_count: now + HANDSHAKE_COUNT_PERIOD,
            peers: Slab::new(),
            by_id: HashMap::new(),
            by_key: HashMap::new(),
            by_address: HashMap::new(),
            endpoint: Endpoint::new(
                Arc::new(transport::endpoint()),
                Some(Arc::new(quic)),
                true,
                None,
            ),
            timers: Timers::default(),
            replies: VecDeque::new(),
            ready: VecDeque::new(),
            eventful: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            quic_buffer: Vec::new(),
            packet: Vec::new(),
        })
    }

    /// Lets a peer in.
    ///
    /// # Errors
    /// [`AddPeerError`] if its id, key or address is taken, or there are too many peers.
    pub fn add_peer(
        &mut self,
        id: PeerId,
        config: PeerConfig,
        now: Instant,
    ) -> Result<(), AddPeerError> {
        let key = *config.public_key.as_bytes();
        if self.by_id.contains_key(&id)
            || self.by_key.contains_key(&key)
            || self.by_address.contains_key(&config.inner_address)
        {
            return Err(AddPeerError::Taken);
        }
        if self.peers.len() >= MAX_PEERS {
            return Err(AddPeerError::TooMany);
        }
        let entry = self.peers.vacant_entry();
        let slot = entry.key();
        let index = u32::try_from(slot).map_err(|_| AddPeerError::TooMany)?;
        let next_tick = now + TICK;
        let peer = entry.insert(Peer {
            id,
            public_key: key,
            inner_address: config.inner_address,
            certificate_sha256: config.device_certificate_sha256,
            noise: Noise::new(
                &self.secret_key,
                config.public_key,
                &config.preshared_key,
                index,
                Some(Arc::clone(&self.limiter)),
            ),
            route: None,
            quic: None,
            next_tick,
            scheduled: Scheduled::default(),
            traffic: Traffic::default(),
            in_ready: false,
            in_eventful: false,
        });
        self.timers.schedule(slot, &mut peer.scheduled, next_tick);
        self.by_id.insert(id, slot);
        self.by_key.insert(key, slot);
        self.by_address.insert(config.inner_address, slot);
        Ok(())
    }

    /// Puts a peer out: tries to tell it `close_code`, then drops its keys. Returns what it
    /// has sent and received, or None if there is no such peer.
    pub fn remove_peer(&mut self, id: PeerId, close_code: u64, now: Instant) -> Option<Traffic> {
        let slot = self.by_id.remove(&id)?;
        let mut peer = self.peers.try_remove(slot)?;
        self.by_key.remove(&peer.public_key);
        self.by_address.remove(&peer.inner_address);
        self.timers.cancel(slot, &mut peer.scheduled);
        if let Some(mut quic) = peer.quic.take() {
            let code = streams::varint(close_code);
            quic.connection.close(now, code, Bytes::new());
            if let Some(to) = peer.route {
                self.say_farewell(&mut peer.noise, &mut quic, to, now);
            }
            quic.forget(&mut self.endpoint);
        }
        Some(peer.traffic)
    }

    /// Reads one datagram from the internet, which came by `from`. `admits` is asked before
    /// anything of a peer's is looked at. Returns whose it was, if it was authentic.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: Route,
        datagram: &[u8],
        mut admits: impl FnMut(PeerId) -> bool,
    ) -> Option<PeerId> {
        let Some(kind) = Kind::of(datagram) else {
            self.counters.malformed += 1;
            return None;
        };
        let found = match receiver_index(kind, datagram) {
            Some(index) => usize::try_from(index).ok(),
            None => self.find_initiator(now, from, datagram),
        };
        let Some((slot, peer)) = found.and_then(|slot| Some((slot, self.peers.get_mut(slot)?)))
        else {
            self.counters.strangers += 1;
            return None;
        };
        if !admits(peer.id) {
            self.counters.not_admitted += 1;
            return None;
        }
        if kind != Kind::Data {
            self.tick(slot, now);
        }
        let peer = &mut self.peers[slot];
        let (id, replies, counters) = (peer.id, &mut self.replies, &mut self.counters);
        let source = Some(from.ip());
        let opened = peer.noise.open(source, datagram, &mut |message| {
            reply(replies, counters, from, Some(id), message);
        });
        if matches!(opened, Opened::Refused) {
            self.counters.refused += 1;
            return None;
        }
        // A cookie, given or asked for, proves nothing about the sender's address.
        let authentic = matches!(opened, Opened::Established) || kind == Kind::Data;
        if authentic {
            peer.heard_from(from, now);
        }
        if let Opened::Packet(packet) = opened {
            self.handle_packet(slot, now, packet);
        }
        self.settle(slot);
        authentic.then_some(id)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_count <= now {
            self.next_count = now + HANDSHAKE_COUNT_PERIOD;
            self.limiter.reset_count();
        }
        for slot in self.timers.take_due(now) {
            let Some(peer) = self.peers.get_mut(slot) else {
                continue;
            };
            peer.scheduled.taken();
            if peer.next_tick <= now {
                self.tick(slot, now);
            }
            if let Some(quic) = &mut self.peers[slot].quic
                && !quic.liveness.falls_silent(now)
                && !quic.liveness.is_silent()
            {
                quic.connection.handle_timeout(now);
            }
            self.settle(slot);
        }
    }

    /// Returns when [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers
            .next()
            .into_iter()
            .chain([self.next_count])
            .min()
    }

    /// Fills `buffer` with up to `max_datagrams` (at most [`MAX_SEGMENTS`]) datagrams for one
    /// peer. `admits` is asked for each.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        max_datagrams: usize,
        buffer: &mut Vec<u8>,
        mut admits: impl FnMut(PeerId) -> bool,
    ) -> Option<Outgoing> {
        buffer.clear();
        while let Some(reply) = self.replies.pop_front() {
            if reply.only_if_admitted.is_some_and(|id| !admits(id)) {
                self.counters.not_admitted += 1;
                continue;
            }
            buffer.extend_from_slice(&reply.message);
            return Some(Outgoing {
                to: reply.to,
                transmit: Transmit {
                    len: buffer.len(),
                    segment_size: buffer.len(),
                },
            });
        }
        while let Some(slot) = self.ready.pop_front() {
            let Some(peer) = self.peers.get_mut(slot) else {
                continue;
            };
            peer.in_ready = false;
            let (Some(to), Some(quic)) = (peer.route, &mut peer.quic) else {
                continue;
            };
            if !admits(peer.id) {
                self.counters.not_admitted += 1;
                continue;
            }
            if !peer.noise.has_session() {
                continue;
            }
            self.quic_buffer.clear();
            let sent = quic.connection.poll_transmit(
                now,
                max_datagrams.clamp(1, MAX_SEGMENTS),
                &mut self.quic_buffer,
            );
            let Some(sent) = sent else {
                self.settle_quietly(slot);
                continue;
            };
            quic.liveness.sent(&quic.connection, now);
            let size = sent.segment_size.unwrap_or(sent.size);
            for segment in self.quic_buffer[..sent.size].chunks(size) {
                if !admits(peer.id) {
                    self.counters.not_admitted += 1;
                    break;
                }
                quic.flow.encode(segment, &mut self.packet);
                if !peer.noise.seal(&self.packet, buffer) {
                    break;
                }
                peer.traffic.bytes_out += self.packet.len() as u64;
            }
            peer.in_ready = true;
            self.ready.push_back(slot);
            self.settle_quietly(slot);
            if !buffer.is_empty() {
                let segment_size = size + INNER_OVERHEAD_BYTES + noise::OVERHEAD_BYTES;
                let len = buffer.len();
                return Some(Outgoing {
                    to,
                    transmit: Transmit {
                        len,
                        segment_size: segment_size.min(len),
                    },
                });
            }
        }
        None
    }

    /// Returns what happened.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let slot = *self.eventful.front()?;
            let told = self.peers.get_mut(slot).and_then(|peer| {
                let quic = peer.quic.as_mut()?;
                let event = quic.connection.poll()?;
                let events = &mut self.events;
                quic.handle_event(peer.id, &peer.certificate_sha256, event, now, events);
                Some(())
            });
            match told {
                Some(()) => self.mark_ready(slot),
                None => {
                    self.eventful.pop_front();
                    if let Some(peer) = self.peers.get_mut(slot) {
                        peer.in_eventful = false;
                        peer.quic.take_if(|quic| quic.is_drained());
                    }
                }
            }
        }
    }

    /// Sends one message to a peer's agent.
    ///
    /// # Errors
    /// [`SendError`] if it cannot be put on its way now.
    pub fn send_message(&mut self, peer: PeerId, message: Bytes) -> Result<(), SendError> {
        let (slot, quic) = self.quic(peer).ok_or(SendError::NotConnected)?;
        quic.send_message(message)?;
        self.mark_ready(slot);
        Ok(())
    }

    /// Takes what fits off the front of `data` and returns how much that was. Zero means:
    /// [`Event::StreamWritable`] follows.
    ///
    /// # Errors
    /// [`WriteError`] if the PC stopped the stream or it is closed.
    pub fn write(
        &mut self,
        peer: PeerId,
        stream: StreamId,
        data: &mut Bytes,
    ) -> Result<usize, WriteError> {
        let (slot, quic) = self.stream(peer, stream).ok_or(WriteError::Closed)?;
        let written = streams::write(&mut quic.connection, stream, data);
        self.mark_ready(slot);
        written
    }

    /// Reads at most `max_bytes`.
    ///
    /// # Errors
    /// [`ReadError`] if the PC reset the stream or it is closed.
    pub fn read(
        &mut self,
        peer: PeerId,
        stream: StreamId,
        max_bytes: usize,
    ) -> Result<Read, ReadError> {
        let (slot, quic) = self.stream(peer, stream).ok_or(ReadError::Closed)?;
        let read = streams::read(&mut quic.connection, stream, max_bytes);
        self.mark_ready(slot);
        read
    }

    /// Says that no more will be written to a stream; what was written still arrives.
    ///
    /// # Errors
    /// [`WriteError`] if the PC stopped the stream or it is closed.
    pub fn finish(&mut self, peer: PeerId, stream: StreamId) -> Result<(), WriteError> {
        let (slot, quic) = self.stream(peer, stream).ok_or(WriteError::Closed)?;
        let finished = streams::finish(&mut quic.connection, stream);
        self.mark_ready(slot);
        finished
    }

    /// Gives up sending on a stream: what was written may not arrive.
    pub fn reset(&mut self, peer: PeerId, stream: StreamId, code: u64) {
        if let Some((slot, quic)) = self.stream(peer, stream) {
            streams::reset(&mut quic.connection, stream, code);
            self.mark_ready(slot);
        }
    }

    /// Gives up reading a stream.
    pub fn stop(&mut self, peer: PeerId, stream: StreamId, code: u64) {
        if let Some((slot, quic)) = self.stream(peer, stream) {
            streams::stop(&mut quic.connection, stream, code);
            self.mark_ready(slot);
        }
    }

    /// What a peer has sent and received so far.
    pub fn traffic(&self, peer: PeerId) -> Option<Traffic> {
        let slot = self.by_id.get(&peer)?;
        self.peers.get(*slot).map(|peer| peer.traffic)
    }

    /// What was dropped so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The gateway's WireGuard public key.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    fn quic(&mut self, peer: PeerId) -> Option<(usize, &mut Quic)> {
        let slot = *self.by_id.get(&peer)?;
        let quic = self.peers.get_mut(slot)?.quic.as_mut()?.accepted()?;
        Some((slot, quic))
    }

    fn stream(&mut self, peer: PeerId, stream: StreamId) -> Option<(usize, &mut Quic)> {
        self.quic(peer).filter(|_| streams::is_two_way(stream))
    }

    fn say_farewell(&mut self, noise: &mut Noise, quic: &mut Quic, to: Route, now: Instant) {
        self.quic_buffer.clear();
        let Some(sent) = quic.connection.poll_transmit(now, 1, &mut self.quic_buffer) else {
            return;
        };
        quic.flow
            .encode(&self.quic_buffer[..sent.size], &mut self.packet);
        for _ in 0..FAREWELL_COPIES {
            let mut message = Vec::new();
            if noise.seal(&self.packet, &mut message) {
                let (replies, counters) = (&mut self.replies, &mut self.counters);
                reply(replies, counters, to, None, &message);
            }
        }
    }

    fn tick(&mut self, slot: usize, now: Instant) {
        let peer = &mut self.peers[slot];
        peer.next_tick = now + TICK;
        let (id, to) = (peer.id, peer.route);
        let (replies, counters) = (&mut self.replies, &mut self.counters);
        peer.noise.tick(&mut |message| {
            if let Some(to) = to {
                reply(replies, counters, to, Some(id), message);
            }
        });
    }

    /// After anything may have happened to a peer: hears both what it has to send and to tell.
    fn settle(&mut self, slot: usize) {
        self.settle_quietly(slot);
        self.mark_ready(slot);
        let peer = &mut self.peers[slot];
        if !std::mem::replace(&mut peer.in_eventful, true) {
            self.eventful.push_back(slot);
        }
    }

    /// Carries news between connection and endpoint and sets the peer's timer.
    fn settle_quietly(&mut self, slot: usize) {
        let peer = &mut self.peers[slot];
        let mut next = peer.next_tick;
        if let Some(quic) = &mut peer.quic {
            quic.settle(&mut self.endpoint);
            let quic_next = quic.liveness.poll_timeout(&mut quic.connection);
            next = quic_next.map_or(next, |at| at.min(next));
        }
        self.timers.schedule(slot, &mut peer.scheduled, next);
    }

    fn mark_ready(&mut self, slot: usize) {
        if let Some(peer) = self.peers.get_mut(slot)
            && !std::mem::replace(&mut peer.in_ready, true)
        {
            self.ready.push_back(slot);
        }
    }
}

/// Keeps a datagram to be sent, unless too many wait.
fn reply(
    replies: &mut VecDeque<Reply>,
    counters: &mut Counters,
    to: Route,
    only_if_admitted: Option<PeerId>,
    message: &[u8],
) {
    if replies.len() < MAX_WAITING_REPLIES {
        replies.push_back(Reply {
            to,
            only_if_admitted,
            message: message.to_vec(),
        });
    } else {
        counters.overflow += 1;
    }
}
