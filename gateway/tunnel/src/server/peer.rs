//! One admitted PC: its WireGuard session, its QUIC connection, its streams.
//!
//! Knows nothing of the other peers; [`super::ServerTunnels`] finds the peer for a datagram
//! and asks who may pass.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::Ipv6Addr;
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{
    Connection, ConnectionHandle, Dir, Endpoint, EndpointEvent, StreamEvent, StreamId,
};
use rustls::pki_types::CertificateDer;

use super::timers::Scheduled;
use super::{Event, PeerId, Route, SendError, Traffic};
use crate::liveness::Liveness;
use crate::noise::Noise;
use crate::packet::Flow;
use crate::streams::{self, Read, WriteError};
use crate::{
    CLOSE_WRONG_CERTIFICATE, CloseReason, MESSAGE_LIMIT_BYTES, RESET_UNKNOWN_KIND, STREAM_TO_PORTAL,
};

pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) public_key: [u8; 32],
    pub(super) inner_address: Ipv6Addr,
    pub(super) certificate_sha256: [u8; 32],
    pub(super) noise: Noise,
    /// By which way the PC was last heard from, outside the tunnel.
    pub(super) route: Option<Route>,
    pub(super) quic: Option<Quic>,
    pub(super) next_tick: Instant,
    pub(super) scheduled: Scheduled,
    pub(super) traffic: Traffic,
    /// Whether the peer stands in the queue of those that may have something to send.
    pub(super) in_ready: bool,
    /// Whether the peer stands in the queue of those that may have something to tell.
    pub(super) in_eventful: bool,
}

/// A peer's QUIC connection.
pub(super) struct Quic {
    pub(super) handle: ConnectionHandle,
    pub(super) connection: Connection,
    pub(super) liveness: Liveness,
    /// From the gateway to the PC.
    pub(super) flow: Flow,
    accepted: bool,
    drained: bool,
    /// Whether the caller knows that the connection is over.
    told_over: bool,
    /// Streams whose first byte has not come yet.
    unannounced: HashSet<StreamId>,
    /// Messages that found no room yet.
    messages: HashMap<StreamId, Bytes>,
}

impl Peer {
    /// Notes that something authentic came by `from`: answers go there from now on. What
    /// was overdue while the PC was silent is sent again, and a new network's capacity is
    /// found anew.
    pub(super) fn heard_from(&mut self, from: Route, now: Instant) {
        let before = self.route.replace(from);
        let Some(quic) = &mut self.quic else {
            return;
        };
        if quic.liveness.heard() {
            quic.connection.handle_timeout(now);
        }
        if before.is_some_and(|before| !before.is_of_one_path_with(&from)) {
            quic.connection.path_changed(now);
            quic.connection.ping();
        }
    }
}

impl Quic {
    pub(super) fn new(handle: ConnectionHandle, connection: Connection, flow: Flow) -> Self {
        Self {
            handle,
            connection,
            liveness: Liveness::default(),
            flow,
            accepted: false,
            drained: false,
            told_over: false,
            unannounced: HashSet::new(),
            messages: HashMap::new(),
        }
    }

    /// Carries news between connection and endpoint.
    pub(super) fn settle(&mut self, endpoint: &mut Endpoint) {
        while !self.drained
            && let Some(event) = self.connection.poll_endpoint_events()
        {
            self.drained = event.is_drained();
            if let Some(event) = endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
    }

    /// Says whether the endpoint has forgotten the connection: it is of no more use.
    pub(super) fn is_drained(&self) -> bool {
        self.drained
    }

    /// Says whether a [`Event::Disconnected`] was given for this connection.
    pub(super) fn is_told_over(&self) -> bool {
        self.told_over
    }

    /// Frees the endpoint's memory of a connection that is about to be dropped.
    pub(super) fn forget(self, endpoint: &mut Endpoint) {
        if !self.drained {
            endpoint.handle_event(self.handle, EndpointEvent::drained());
        }
    }

    /// Lets streams and messages through only after the certificate was compared.
    pub(super) fn accepted(&mut self) -> Option<&mut Self> {
        self.accepted.then_some(self)
    }

    /// Opens a stream of its own for one message to the agent.
    pub(super) fn send_message(&mut self, message: Bytes) -> Result<(), SendError> {
        if message.len() > MESSAGE_LIMIT_BYTES {
            return Err(SendError::TooLong);
        }
        let stream = self.connection.streams().open(Dir::Uni);
        let stream = stream.ok_or(SendError::TooMany)?;
        // Ahead of whatever bulk data waits.
        let _ = self.connection.send_stream(stream).set_priority(1);
        self.messages.insert(stream, message);
        self.continue_message(stream);
        Ok(())
    }

    fn continue_message(&mut self, stream: StreamId) {
        let Some(message) = self.messages.get_mut(&stream) else {
            return;
        };
        let written = streams::write(&mut self.connection, stream, message);
        if message.is_empty() || written.is_err() {
            self.messages.remove(&stream);
            let _: Result<(), WriteError> = streams::finish(&mut self.connection, stream);
        }
    }

    /// Translates what the connection tells.
    pub(super) fn handle_event(
        &mut self,
        id: PeerId,
        certificate_sha256: &[u8; 32],
        event: quinn_proto::Event,
        now: Instant,
        events: &mut VecDeque<Event>,
    ) {
        match event {
            quinn_proto::Event::Connected if self.shows(certificate_sha256) => {
                self.accepted = true;
                events.push_back(Event::Connected(id));
            }
            quinn_proto::Event::Connected => {
                let code = streams::varint(CLOSE_WRONG_CERTIFICATE);
                self.connection.close(now, code, Bytes::new());
                self.told_over = true;
                let reason = "another certificate than the session was granted to";
                events.push_back(Event::Disconnected {
                    peer: id,
                    reason: CloseReason::Failed(reason.to_owned()),
                });
            }
            quinn_proto::Event::ConnectionLost { reason } => {
                self.told_over = true;
                events.push_back(Event::Disconnected {
                    peer: id,
                    reason: reason.into(),
                });
            }
            quinn_proto::Event::Stream(event) if self.accepted => {
                self.handle_stream_event(id, event, events);
            }
            quinn_proto::Event::Stream(_)
            | quinn_proto::Event::HandshakeDataReady
            | quinn_proto::Event::DatagramReceived
            | quinn_proto::Event::DatagramsUnblocked => {}
        }
    }

    fn shows(&self, certificate_sha256: &[u8; 32]) -> bool {
        let shown = self.connection.crypto_session().peer_identity();
        shown
            .and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok())
            .and_then(|chain| {
                let leaf = ring::digest::digest(&ring::digest::SHA256, chain.first()?);
                Some(leaf.as_ref() == certificate_sha256)
            })
            .unwrap_or(false)
    }

    fn handle_stream_event(
        &mut self,
        id: PeerId,
        event: StreamEvent,
        events: &mut VecDeque<Event>,
    ) {
        match event {
            StreamEvent::Opened { dir: Dir::Bi } => {
                while let Some(stream) = self.connection.streams().accept(Dir::Bi) {
                    self.unannounced.insert(stream);
                    self.read_kind(id, stream, events);
                }
            }
            StreamEvent::Readable { id: stream } if self.unannounced.contains(&stream) => {
                self.read_kind(id, stream, events);
            }
            StreamEvent::Readable { id: stream } => {
                events.push_back(Event::StreamReadable(id, stream));
            }
            StreamEvent::Writable { id: stream } if stream.dir() == Dir::Uni => {
                self.continue_message(stream);
            }
            StreamEvent::Writable { id: stream } => {
                events.push_back(Event::StreamWritable(id, stream));
            }
            StreamEvent::Stopped {
                id: stream,
                error_code,
            } if stream.dir() == Dir::Bi => events.push_back(Event::StreamStopped {
                peer: id,
                stream,
                code: error_code.into_inner(),
            }),
            StreamEvent::Stopped { id: stream, .. } => {
                self.messages.remove(&stream);
            }
            StreamEvent::Opened { dir: Dir::Uni }
            | StreamEvent::Available { .. }
            | StreamEvent::Finished { .. } => {}
        }
    }

    /// Reads a stream's first byte, which says where it goes.
    fn read_kind(&mut self, id: PeerId, stream: StreamId, events: &mut VecDeque<Event>) {
        match streams::read(&mut self.connection, stream, 1) {
            Ok(Read::Data(kind)) if kind[..] == [STREAM_TO_PORTAL] => {
                self.unannounced.remove(&stream);
                events.push_back(Event::StreamOpened(id, stream));
                events.push_back(Event::StreamReadable(id, stream));
            }
            Ok(Read::Blocked) => {}
            Ok(Read::Data(_) | Read::Finished) | Err(_) => {
                self.unannounced.remove(&stream);
                streams::stop(&mut self.connection, stream, RESET_UNKNOWN_KIND);
                streams::reset(&mut self.connection, stream, RESET_UNKNOWN_KIND);
            }
        }
    }
}
