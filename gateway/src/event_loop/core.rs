//! What the data path does with a command, a datagram or the time, without a socket.
//!
//! Holds the grants and the tunnels together: every packet of a session passes only if
//! [`Grants::is_admitted`] says so at that moment, a session that is out loses its tunnel at
//! once, and what its streams carry goes to the caller's [`Relay`]. The event loop gives it
//! datagrams and `now`; the simulation does the same in pretended time.

use std::collections::VecDeque;
use std::net::SocketAddrV6;
use std::time::Instant;

use access::Moment;
use bytes::Bytes;
use protocol::agent_api::{EndCode, GATEWAY_INNER_ADDRESS, TunnelMessage};
use protocol::control::Grant;
use protocol::{Bytes32, Generation, SessionId};
use time::OffsetDateTime;
use tunnel::keys::{PresharedKey, PublicKey};
use tunnel::server::{Outgoing, PeerConfig, PeerId, Route, ServerTunnels};
use tunnel::{CloseReason, StreamId, server};
use uuid::Uuid;

use crate::commands::Ended;
use crate::grants::{self, Grants, Refused};

/// Ended sessions that wait to be reported to the portal; it learns of lost ones from its
/// own deadlines.
const UNREPORTED_LIMIT: usize = 100_000;

/// The port that members' pages are on, as the PROXY header says it.
const MEMBER_PORT: u16 = 443;

/// Where the streams of the tunnels lead: the portal's member listener.
pub trait Relay {
    /// Connects a new stream to the portal, `header` first.
    fn open(
        &mut self,
        tunnels: &mut ServerTunnels,
        peer: PeerId,
        stream: StreamId,
        header: Vec<u8>,
    );

    /// Moves what the PC has sent towards the portal.
    fn readable(&mut self, tunnels: &mut ServerTunnels, peer: PeerId, stream: StreamId);

    /// Moves what the portal has sent towards the PC.
    fn writable(&mut self, tunnels: &mut ServerTunnels, peer: PeerId, stream: StreamId);

    /// The PC wants no more data on a stream.
    fn stopped(&mut self, tunnels: &mut ServerTunnels, peer: PeerId, stream: StreamId);

    /// Cuts all connections of a peer: its session or its QUIC connection is over.
    fn drop_peer(&mut self, peer: PeerId);
}

/// Grants, tunnels and what waits to be reported.
pub struct Core<R> {
    tunnels: ServerTunnels,
    grants: Grants,
    relay: R,
    unreported: VecDeque<Ended>,
    ended: VecDeque<(PeerId, EndCode)>,
}

impl<R: Relay> Core<R> {
    /// Nobody is admitted yet.
    pub fn new(tunnels: ServerTunnels, relay: R) -> Self {
        Self {
            tunnels,
            grants: Grants::new(),
            relay,
            unreported: VecDeque::new(),
            ended: VecDeque::new(),
        }
    }

    /// Lets a session in, or brings its deadline nearer. When this returns, its packets can
    /// pass.
    ///
    /// # Errors
    /// [`Refused`] as [`Grants::handle_grant`] says.
    pub fn install(
        &mut self,
        grant: Grant,
        server_time: OffsetDateTime,
        now: Moment,
    ) -> Result<(), Refused> {
        let result = self.grants.handle_grant(grant, server_time, now);
        // The peer must be there before the agent hears of it.
        self.settle(now);
        result
    }

    /// Takes over all grants there are: whoever is missing is out.
    pub fn snapshot(&mut self, grants: Vec<Grant>, server_time: OffsetDateTime, now: Moment) {
        let refused = self.grants.handle_snapshot(grants, server_time, now);
        for (session, reason) in refused {
            tracing::warn!(%session, %reason, "grant of the snapshot refused");
        }
    }

    /// Ends a session's grants up to `through` before their deadline.
    pub fn end(&mut self, session: SessionId, through: Generation, reason: EndCode, now: Moment) {
        self.grants.handle_end(session, through, reason, now);
    }

    /// Ends every session. What is left to be sent are the farewells.
    pub fn stop(&mut self, now: Moment) {
        self.grants.handle_stop(now);
        self.settle(now);
    }

    /// Reads one datagram from the internet. Returns whose it was, if it was authentic.
    pub fn handle_datagram(&mut self, from: Route, datagram: &[u8], now: Moment) -> Option<PeerId> {
        let grants = &self.grants;
        self.tunnels
            .handle_datagram(now.mono, from, datagram, |peer| {
                grants.is_admitted(session_of(peer), now)
            })
    }

    /// Reads one datagram out of a TLS connection in which a device has shown its certificate:
    /// only sessions of that device may pass there. Returns whose it was, if it was authentic.
    pub fn handle_device_datagram(
        &mut self,
        from: Route,
        device_certificate_sha256: &Bytes32,
        datagram: &[u8],
        now: Moment,
    ) -> Option<PeerId> {
        let grants = &self.grants;
        self.tunnels
            .handle_datagram(now.mono, from, datagram, |peer| {
                let session = session_of(peer);
                let grant = grants.grant(session);
                grants.is_admitted(session, now)
                    && grant.is_some_and(|grant| {
                        grant.device_certificate_sha256 == *device_certificate_sha256
                    })
            })
    }

    /// Does what is due, then hears what grants and tunnels have to tell until both are
    /// silent. To be called after anything else.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.grants.handle_timeout(now);
        self.tunnels.handle_timeout(now.mono);
        self.settle(now);
    }

    /// Returns when [`Self::handle_timeout`] has something to do. The wall clock can be set
    /// at any time; look once a second for it.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = [self.tunnels.poll_timeout(), self.grants.poll_timeout()];
        deadlines.into_iter().flatten().min()
    }

    /// Fills `buffer` with up to `max_datagrams` datagrams for one peer.
    pub fn poll_transmit(
        &mut self,
        max_datagrams: usize,
        buffer: &mut Vec<u8>,
        now: Moment,
    ) -> Option<Outgoing> {
        let grants = &self.grants;
        self.tunnels
            .poll_transmit(now.mono, max_datagrams, buffer, |peer| {
                grants.is_admitted(session_of(peer), now)
            })
    }

    /// Returns a session that has ended since the last time, for whoever keeps ways open for
    /// it. Its farewell is among what [`Self::poll_transmit`] gives next.
    pub fn poll_ended(&mut self) -> Option<(PeerId, EndCode)> {
        self.ended.pop_front()
    }

    /// Whether a session's end waits to be reported.
    pub fn has_report(&self) -> bool {
        !self.unreported.is_empty()
    }

    /// Returns the oldest end that was not reported yet.
    pub fn poll_report(&mut self) -> Option<Ended> {
        self.unreported.pop_front()
    }

    /// Forgets all reports: nobody takes them.
    pub fn forget_reports(&mut self) {
        self.unreported.clear();
    }

    /// How many sessions are held.
    pub fn sessions(&self) -> usize {
        self.grants.len()
    }

    /// The tunnels, with who relays their streams.
    pub fn relay(&mut self) -> (&mut ServerTunnels, &mut R) {
        (&mut self.tunnels, &mut self.relay)
    }

    /// Hears what grants and tunnels have to tell until both are silent.
    fn settle(&mut self, now: Moment) {
        loop {
            if let Some(event) = self.grants.poll_event() {
                self.handle_grants_event(event, now);
            } else if let Some(event) = self.tunnels.poll_event(now.mono) {
                self.handle_tunnel_event(event, now);
            } else {
                return;
            }
        }
    }

    fn handle_grants_event(&mut self, event: grants::Event, now: Moment) {
        match event {
            grants::Event::Installed(grant) => {
                let peer = peer_of(grant.session);
                if let Err(error) = self.tunnels.add_peer(peer, peer_config(&grant), now.mono) {
                    // Grants and tunnels hold the same sessions, so that this is a fault of ours:
                    // whoever cannot be served must not seem to be.
                    tracing::error!(session = %grant.session, %error, "granted session refused");
                    let (session, through) = (grant.session, grant.generation);
                    let reason = EndCode::GatewayStopped;
                    self.grants.handle_end(session, through, reason, now);
                }
            }
            grants::Event::Shortened {
                session,
                deadline_ms,
                reason,
            } => self.tell_agent(
                session,
                TunnelMessage::Deadline {
                    deadline_ms,
                    reason,
                },
            ),
            grants::Event::Ended {
                session,
                generation,
                reason,
            } => {
                let peer = peer_of(session);
                self.relay.drop_peer(peer);
                let traffic = self.tunnels.remove_peer(peer, reason as u64, now.mono);
                let traffic = traffic.unwrap_or_default();
                if self.ended.len() >= UNREPORTED_LIMIT {
                    self.ended.pop_front();
                }
                self.ended.push_back((peer, reason));
                if self.unreported.len() >= UNREPORTED_LIMIT {
                    self.unreported.pop_front();
                }
                self.unreported.push_back(Ended {
                    session,
                    generation,
                    reason,
                    bytes_in: traffic.bytes_in,
                    bytes_out: traffic.bytes_out,
                });
                tracing::info!(%session, reason = reason.as_str(), "session ended");
            }
        }
    }

    fn handle_tunnel_event(&mut self, event: server::Event, now: Moment) {
        match event {
            server::Event::Connected(peer) => {
                tracing::info!(session = %session_of(peer), "session connected");
            }
            server::Event::StreamOpened(peer, stream) => self.open_link(peer, stream),
            server::Event::StreamReadable(peer, stream) => {
                self.relay.readable(&mut self.tunnels, peer, stream);
            }
            server::Event::StreamWritable(peer, stream) => {
                self.relay.writable(&mut self.tunnels, peer, stream);
            }
            server::Event::StreamStopped { peer, stream, .. } => {
                self.relay.stopped(&mut self.tunnels, peer, stream);
            }
            server::Event::Disconnected { peer, reason } => {
                let session = session_of(peer);
                let why = match reason {
                    CloseReason::ByPeer { .. } => "closed by the PC",
                    CloseReason::Unexplained => "closed by the PC before it stood",
                    CloseReason::ByUs => "closed here",
                    CloseReason::TimedOut => "timed out",
                    CloseReason::Failed(_) => "failed",
                };
                tracing::info!(%session, why, "tunnel connection over");
                // A PC chooses the words of its own failures.
                tracing::debug!(%session, %reason, "why it is over");
                self.relay.drop_peer(peer);
                match reason {
                    CloseReason::ByPeer { code } => self.handle_leaving(session, code, now),
                    // It may come back until its deadline.
                    CloseReason::ByUs
                    | CloseReason::Unexplained
                    | CloseReason::TimedOut
                    | CloseReason::Failed(_) => {}
                }
            }
        }
    }

    /// The agent closed the connection: for good, or because it goes on through another
    /// gateway. In both cases it may not come back with this grant.
    fn handle_leaving(&mut self, session: SessionId, code: u64, now: Moment) {
        let Some(generation) = self.grants.grant(session).map(|grant| grant.generation) else {
            return;
        };
        let (through, reason) = match EndCode::from_close_code(code) {
            Some(EndCode::Moved) => (generation, EndCode::Moved),
            // Whatever code it gives: it is the one who left.
            Some(_) | None => (Generation::LAST, EndCode::Disconnected),
        };
        self.grants.handle_end(session, through, reason, now);
    }

    fn open_link(&mut self, peer: PeerId, stream: StreamId) {
        let Some(grant) = self.grants.grant(session_of(peer)) else {
            return;
        };
        let source = SocketAddrV6::new(grant.inner_address, source_port(stream), 0, 0);
        let destination = SocketAddrV6::new(GATEWAY_INNER_ADDRESS, MEMBER_PORT, 0, 0);
        let header = protocol::proxy::encode(grant.session, source, destination, &grant.proxy_key);
        self.relay.open(&mut self.tunnels, peer, stream, header);
    }

    fn tell_agent(&mut self, session: SessionId, message: TunnelMessage) {
        let text = serde_json::to_vec(&message).expect("a message of numbers and words is JSON");
        let sent = self
            .tunnels
            .send_message(peer_of(session), Bytes::from(text));
        if let Err(error) = sent {
            // The deadline holds all the same; the agent sees it when it comes.
            tracing::debug!(%session, %error, "agent not told");
        }
    }
}

fn session_of(peer: PeerId) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(peer.0))
}

fn peer_of(session: SessionId) -> PeerId {
    PeerId(session.as_uuid().as_u128())
}

fn peer_config(grant: &Grant) -> PeerConfig {
    PeerConfig {
        public_key: PublicKey::from_bytes(grant.wireguard_public_key.0),
        preshared_key: PresharedKey::from_bytes(grant.preshared_key.0),
        inner_address: grant.inner_address,
        device_certificate_sha256: grant.device_certificate_sha256.0,
    }
}

/// A port for the PROXY header, so that a session's connections can be told apart in logs.
fn source_port(stream: StreamId) -> u16 {
    const FIRST: u64 = 1024;
    let port = FIRST + stream.index() % (u64::from(u16::MAX) + 1 - FIRST);
    u16::try_from(port).unwrap_or(u16::MAX)
}
