//! From a datagram to its peer, and from a decrypted packet to the peer's QUIC connection.
//!
//! Whatever comes out of a tunnel is believed only as far as its addresses are the session's
//! own; nothing is ever passed from one peer to another.

use std::time::Instant;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, TunnResult};
use bytes::BytesMut;
use quinn_proto::{DatagramEvent, Incoming};

use super::peer::Quic;
use super::{Event, Route, ServerTunnels, reply};
use crate::CloseReason;
use crate::packet::{Flow, Header, INNER_OVERHEAD_BYTES};

impl ServerTunnels {
    /// Finds the peer whose handshake initiation this is, in the order of what it costs.
    pub(super) fn find_initiator(
        &mut self,
        now: Instant,
        from: Route,
        datagram: &[u8],
    ) -> Option<usize> {
        let mut cookie = [0; 64];
        let source = Some(from.ip());
        match self.limiter.verify_packet(source, datagram, &mut cookie) {
            Ok(Packet::HandshakeInit(initiation)) => {
                if !self.buckets.take(from.ip(), now) {
                    self.counters.throttled += 1;
                    return None;
                }
                let half = parse_handshake_anon(
                    self.secret_key.as_x25519(),
                    &self.public_key.to_x25519(),
                    &initiation,
                );
                self.by_key.get(&half.ok()?.peer_static_public).copied()
            }
            Err(TunnResult::WriteToNetwork(cookie)) => {
                self.counters.cookies += 1;
                reply(&mut self.replies, &mut self.counters, from, None, cookie);
                None
            }
            Ok(_) | Err(_) => None,
        }
    }

    /// Checks an inner packet's addresses and gives it to QUIC.
    pub(super) fn handle_packet(&mut self, slot: usize, now: Instant, mut packet: BytesMut) {
        let peer = &mut self.peers[slot];
        let header = match Header::parse(&packet) {
            Ok(header)
                if header.source.0 == peer.inner_address
                    && header.destination == self.inner_address =>
            {
                header
            }
            Ok(_) | Err(_) => {
                self.counters.foreign_inner += 1;
                return;
            }
        };
        peer.traffic.bytes_in += packet.len() as u64;
        let payload = packet.split_off(INNER_OVERHEAD_BYTES);
        let remote = header.remote().into();
        self.quic_buffer.clear();
        let buffer = &mut self.quic_buffer;
        let event = self
            .endpoint
            .handle(now, remote, None, None, payload, buffer);
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                // A connection's id names it to the endpoint; it must be the peer's own.
                match &mut peer.quic {
                    Some(quic) if quic.handle == handle => quic.connection.handle_event(event),
                    Some(_) | None => self.counters.foreign_inner += 1,
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.accept(slot, now, header, incoming);
            }
            Some(DatagramEvent::Response(response)) => {
                self.answer_in_tunnel(slot, header, response.size);
            }
            None => {}
        }
    }

    /// A peer has one connection at a time. A new one takes the place of the last: only the
    /// holder of the session's keys can begin one, so its agent has started anew.
    fn accept(&mut self, slot: usize, now: Instant, header: Header, incoming: Incoming) {
        let peer = &mut self.peers[slot];
        if let Some(last) = peer.quic.take() {
            if !last.is_told_over() {
                self.events.push_back(Event::Disconnected {
                    peer: peer.id,
                    reason: CloseReason::ByUs,
                });
            }
            last.forget(&mut self.endpoint);
        }
        self.quic_buffer.clear();
        match self
            .endpoint
            .accept(incoming, now, &mut self.quic_buffer, None)
        {
            Ok((handle, connection)) => {
                let flow = Flow {
                    source: header.destination,
                    destination: header.source,
                };
                peer.quic = Some(Quic::new(handle, connection, flow));
            }
            Err(error) => {
                tracing::debug!(cause = %error.cause, "QUIC connection refused");
                if let Some(response) = error.response {
                    self.answer_in_tunnel(slot, header, response.size);
                }
            }
        }
    }

    /// Sends what the endpoint itself answered to a packet, back to where it came from.
    fn answer_in_tunnel(&mut self, slot: usize, header: Header, size: usize) {
        let peer = &mut self.peers[slot];
        let Some(to) = peer.route else {
            return;
        };
        let flow = Flow {
            source: header.destination,
            destination: header.source,
        };
        flow.encode(&self.quic_buffer[..size], &mut self.packet);
        let mut message = Vec::new();
        if peer.noise.seal(&self.packet, &mut message) {
            peer.traffic.bytes_out += self.packet.len() as u64;
            let (replies, counters) = (&mut self.replies, &mut self.counters);
            reply(replies, counters, to, Some(peer.id), &message);
        }
    }
}
