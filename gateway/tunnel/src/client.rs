//! The PC's end of the tunnel.
//!
//! Drive it like this: after each call that takes `&mut self`, send what [`ClientTunnel::poll_transmit`]
//! gives until it gives nothing, handle what [`ClientTunnel::poll_event`] gives until it gives
//! nothing, then wait for a datagram, for work of your own, or until [`ClientTunnel::poll_timeout`].
//!
//! It never gives up by itself: a PC that sleeps keeps its session until the deadline, which
//! is the caller's to watch. The caller also decides when a connection that does not come
//! about is tried another way.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, StreamEvent};

use crate::keys::{NoRandomness, PresharedKey, PublicKey, SecretKey, random_index};
use crate::liveness::Liveness;
use crate::noise::{self, Health, Kind, Noise, Opened};
use crate::packet::{Flow, Header, INNER_OVERHEAD_BYTES};
use crate::streams::{self, Read, ReadError, WriteError};
use crate::tls::TlsError;
use crate::{
    CloseReason, MAX_SEGMENTS, MESSAGE_LIMIT_BYTES, STREAM_TO_PORTAL, StreamId, Transmit, transport,
};

/// How often boringtun looks at its clock. It counts in seconds itself.
const TICK: Duration = Duration::from_secs(1);

/// Pauses between tries of a handshake, the last one repeated.
const HANDSHAKE_RETRY: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Handshake messages and keep-alives that wait to be sent; more are dropped.
const MAX_WAITING_MESSAGES: usize = 16;

/// Messages from the gateway that are being read at a time; QUIC allows no more either.
const MAX_OPEN_MESSAGES: usize = transport::MAX_MESSAGES_ON_THE_WAY as usize;

/// What a tunnel is made from: the agent's half of a grant.
pub struct ClientConfig {
    /// The key pair made for this session alone.
    pub secret_key: SecretKey,
    /// The gateway's WireGuard key.
    pub gateway_key: PublicKey,
    /// The session's pre-shared key.
    pub preshared_key: PresharedKey,
    /// The PC's address inside the tunnel.
    pub inner_address: Ipv6Addr,
    /// Where the gateway's QUIC listens inside the tunnel.
    pub gateway_inner: SocketAddrV6,
    /// The gateway's name in its certificate.
    pub server_name: String,
    /// See [`crate::tls::client_config`].
    pub tls: Arc<rustls::ClientConfig>,
}

/// Why no tunnel could be made from a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The system gave no random numbers.
    #[error("no randomness")]
    Randomness(#[source] NoRandomness),
    /// The TLS settings do not suit QUIC.
    #[error("TLS settings refused")]
    Tls(#[source] TlsError),
    /// The gateway's name or address cannot be connected to.
    #[error("cannot connect to the gateway's name or inner address")]
    Connect(#[source] quinn_proto::ConnectError),
}

/// What happened in the tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The gateway proved who it is and accepted this PC.
    Connected,
    /// A stream has something to read, or was reset or finished by the gateway.
    StreamReadable(StreamId),
    /// A stream that took no more takes some again, or was stopped by the gateway.
    StreamWritable(StreamId),
    /// The gateway wants no more data on a stream.
    StreamStopped {
        /// The stream.
        stream: StreamId,
        /// The gateway's code.
        code: u64,
    },
    /// Streams can be opened again after [`ClientTunnel::open_stream`] gave none.
    StreamsAvailable,
    /// A message from the gateway.
    Message(Bytes),
    /// The connection is over; nothing follows.
    Closed(CloseReason),
}

/// What a datagram turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Not authentic, repeated, or of a session that is over.
    Nothing,
    /// Authentic.
    Gateway,
    /// The gateway's answer to a handshake: the way that it came over leads there and back.
    Answer,
    /// The gateway is under load and wants the handshake again, with the cookie that it gave.
    Cookie,
}

/// Who begins handshakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Greeting {
    /// The tunnel, when it needs one: there is one way to the gateway.
    #[default]
    Tunnel,
    /// The caller, over the ways that it is trying; see [`ClientTunnel::initiate`].
    Caller,
}

/// The PC's end of one session's tunnel.
pub struct ClientTunnel {
    noise: Noise,
    greeting: Greeting,
    handshake: Option<Handshake>,
    next_tick: Instant,
    last_heard: Option<Instant>,
    flow: Flow,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    liveness: Liveness,
    /// The gateway's certificate was accepted here; whether ours was there is not known yet.
    awaits_acceptance: bool,
    outbox: VecDeque<Vec<u8>>,
    /// Streams whose first byte found no room yet.
    unannounced: HashSet<StreamId>,
    messages: HashMap<StreamId, Vec<u8>>,
    events: VecDeque<Event>,
    quic_buffer: Vec<u8>,
    packet: Vec<u8>,
}

/// A handshake under way.
struct Handshake {
    tries: usize,
    retry_at: Instant,
}

impl ClientTunnel {
    /// Makes the tunnel; its first handshake message is ready to be sent.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration cannot work.
    pub fn new(config: ClientConfig, now: Instant) -> Result<Self, ConfigError> {
        let index = random_index().map_err(ConfigError::Randomness)?;
        let noise = Noise::new(
            &config.secret_key,
            config.gateway_key,
            &config.preshared_key,
            index,
            None,
        );
        let quic = transport::client(config.tls).map_err(ConfigError::Tls)?;
        let mut endpoint = Endpoint::new(Arc::new(transport::endpoint()), None, true, None);
        let (handle, connection) = endpoint
            .connect(now, quic, config.gateway_inner.into(), &config.server_name)
            .map_err(ConfigError::Connect)?;
        let gateway = (*config.gateway_inner.ip(), config.gateway_inner.port());
        let mut tunnel = Self {
            noise,
            greeting: Greeting::Tunnel,
            handshake: None,
            next_tick: now + TICK,
            last_heard: None,
            flow: Flow {
                source: (config.inner_address, gateway.1),
                destination: gateway,
            },
            endpoint,
            handle,
            connection,
            liveness: Liveness::default(),
            awaits_acceptance: false,
            outbox: VecDeque::new(),
            unannounced: HashSet::new(),
            messages: HashMap::new(),
            events: VecDeque::new(),
            quic_buffer: Vec::new(),
            packet: Vec::new(),
        };
        tunnel.start_handshake(now);
        Ok(tunnel)
    }

    /// Says who begins handshakes from now on. With [`Greeting::Caller`] one that is under
    /// way here is left alone, and none begins but by [`Self::initiate`].
    pub fn set_greeting(&mut self, greeting: Greeting) {
        self.greeting = greeting;
        if greeting == Greeting::Caller {
            self.handshake = None;
            self.outbox
                .retain(|message| Kind::of(message) != Some(Kind::Initiation));
        }
    }

    /// Makes a fresh handshake initiation, to be sent over one way and once: the gateway
    /// refuses a repetition, and one that is older than the last it has taken. The answers to
    /// the latest two that were made are understood.
    pub fn initiate(&mut self) -> Option<Vec<u8>> {
        let mut made = None;
        self.noise
            .start_handshake(&mut |message| made = Some(message.to_vec()));
        made
    }

    /// Reads one datagram that came from the gateway's address, over any way. Whatever is not
    /// authentic is dropped.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Heard {
        let Some(kind) = Kind::of(datagram) else {
            return Heard::Nothing;
        };
        let outbox = &mut self.outbox;
        if matches!(kind, Kind::Initiation | Kind::Response) {
            self.noise.tick(&mut |message| queue(outbox, message));
        }
        let opened = self
            .noise
            .open(None, datagram, &mut |message| queue(outbox, message));
        if matches!(opened, Opened::Refused) {
            return Heard::Nothing;
        }
        self.last_heard = Some(now);
        if self.liveness.heard() {
            self.connection.handle_timeout(now);
        }
        let heard = match opened {
            Opened::Established if self.noise.has_session() => {
                self.handshake = None;
                Heard::Answer
            }
            // The gateway is under load and asks for the cookie it just gave.
            Opened::Nothing if kind == Kind::Cookie => {
                self.repeat_handshake(now);
                Heard::Cookie
            }
            Opened::Established | Opened::Nothing | Opened::Refused => Heard::Gateway,
            Opened::Packet(packet) => {
                self.handle_packet(now, packet);
                Heard::Gateway
            }
        };
        self.settle();
        heard
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            let outbox = &mut self.outbox;
            let health = self.noise.tick(&mut |message| queue(outbox, message));
            if health == Health::Expired && self.handshake.is_none() {
                self.start_handshake(now);
            }
        }
        // Whether the path or the gateway's memory of us is gone: a handshake finds out.
        if self.liveness.falls_silent(now) && self.handshake.is_none() {
            self.start_handshake(now);
        }
        if self.handshake.as_ref().is_some_and(|h| h.retry_at <= now) {
            self.repeat_handshake(now);
        }
        if !self.liveness.is_silent() {
            self.connection.handle_timeout(now);
        }
        self.settle();
    }

    /// Returns when [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let handshake = self.handshake.as_ref().map(|handshake| handshake.retry_at);
        let quic = self.liveness.poll_timeout(&mut self.connection);
        [Some(self.next_tick), handshake, quic]
            .into_iter()
            .flatten()
            .min()
    }

    /// Fills `buffer` with up to `max_datagrams` (at most [`MAX_SEGMENTS`]) datagrams to be
    /// sent to the gateway.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        max_datagrams: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        buffer.clear();
        if let Some(message) = self.outbox.pop_front() {
            buffer.extend_from_slice(&message);
        } else if self.noise.has_session() {
            self.quic_buffer.clear();
            let quic = self.connection.poll_transmit(
                now,
                max_datagrams.clamp(1, MAX_SEGMENTS),
                &mut self.quic_buffer,
            );
            self.settle();
            let quic = quic?;
            self.liveness.sent(&self.connection, now);
            let segment_size = quic.segment_size.unwrap_or(quic.size);
            for segment in self.quic_buffer[..quic.size].chunks(segment_size) {
                self.flow.encode(segment, &mut self.packet);
                if !self.noise.seal(&self.packet, buffer) {
                    break;
                }
            }
            if quic.size > segment_size && !buffer.is_empty() {
                return Some(Transmit {
                    len: buffer.len(),
                    segment_size: segment_size + INNER_OVERHEAD_BYTES + noise::OVERHEAD_BYTES,
                });
            }
        }
        (!buffer.is_empty()).then_some(Transmit {
            len: buffer.len(),
            segment_size: buffer.len(),
        })
    }

    /// Returns what happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.awaits_acceptance && self.is_accepted() {
                self.awaits_acceptance = false;
                return Some(Event::Connected);
            }
            match self.connection.poll()? {
                quinn_proto::Event::Connected => self.awaits_acceptance = true,
                quinn_proto::Event::ConnectionLost { reason } => {
                    self.events.push_back(Event::Closed(reason.into()));
                }
                quinn_proto::Event::Stream(event) => self.handle_stream_event(event),
                quinn_proto::Event::HandshakeDataReady
                | quinn_proto::Event::DatagramReceived
                | quinn_proto::Event::DatagramsUnblocked => {}
            }
        }
    }

    /// Tells the tunnel that the PC woke up or changed its network: a new handshake starts at
    /// once, from which the gateway learns the new address, and what was lost is sent again.
    pub fn network_changed(&mut self, now: Instant) {
        self.start_handshake(now);
        self.connection.path_changed(now);
        self.connection.ping();
    }

    /// Tells the tunnel that its datagrams go another way from now on: what the old way's
    /// capacity and round trip were is forgotten, and what was lost is found out at once.
    pub fn way_changed(&mut self, now: Instant) {
        self.connection.path_changed(now);
        self.connection.ping();
        self.settle();
    }

    /// Sends something that the gateway's QUIC must acknowledge. Together with
    /// [`Self::acknowledgements`] it shows whether the gateway still knows this connection;
    /// a WireGuard handshake alone does not.
    pub fn ping(&mut self) {
        self.connection.ping();
    }

    /// Grows with each sign of life from the gateway's QUIC: what it acknowledges, and what
    /// it sends by itself.
    pub fn signs(&self) -> u64 {
        let received = self.connection.stats().frame_rx;
        received.acks + received.stream + received.ping
    }

    /// How many acknowledgements have come from the gateway's QUIC.
    pub fn acknowledgements(&self) -> u64 {
        self.connection.stats().frame_rx.acks
    }

    /// Since when the gateway owes an answer to something that was sent, if it does.
    pub fn owed_since(&self) -> Option<Instant> {
        self.liveness.unanswered_since()
    }

    /// When something authentic last came from the gateway.
    pub fn last_heard(&self) -> Option<Instant> {
        self.last_heard
    }

    /// Opens a stream to the portal. None if too many are open or the tunnel is not connected:
    /// [`Event::StreamsAvailable`] or [`Event::Connected`] follows. It works as soon as the
    /// gateway proved who it is, half a round trip before that event.
    pub fn open_stream(&mut self) -> Option<StreamId> {
        if self.connection.is_handshaking() {
            return None;
        }
        let stream = self.connection.streams().open(Dir::Bi)?;
        self.unannounced.insert(stream);
        self.announce(stream).ok()?;
        Some(stream)
    }

    /// Takes what fits off the front of `data` and returns how much that was. Zero means:
    /// [`Event::StreamWritable`] follows.
    ///
    /// # Errors
    /// [`WriteError`] if the gateway stopped the stream or it is closed.
    pub fn write(&mut self, stream: StreamId, data: &mut Bytes) -> Result<usize, WriteError> {
        if !streams::is_two_way(stream) {
            return Err(WriteError::Closed);
        }
        if !self.announce(stream)? {
            return Ok(0);
        }
        streams::write(&mut self.connection, stream, data)
    }

    /// Reads at most `max_bytes`. Reading makes room for more, so poll for transmits after.
    ///
    /// # Errors
    /// [`ReadError`] if the gateway reset the stream or it is closed.
    pub fn read(&mut self, stream: StreamId, max_bytes: usize) -> Result<Read, ReadError> {
        if !streams::is_two_way(stream) {
            return Err(ReadError::Closed);
        }
        streams::read(&mut self.connection, stream, max_bytes)
    }

    /// Says that no more will be written to a stream; what was written still arrives.
    /// Reset a stream instead if its last write gave zero.
    ///
    /// # Errors
    /// [`WriteError`] if the gateway stopped the stream or it is closed.
    pub fn finish(&mut self, stream: StreamId) -> Result<(), WriteError> {
        if !streams::is_two_way(stream) {
            return Err(WriteError::Closed);
        }
        streams::finish(&mut self.connection, stream)
    }

    /// Gives up sending on a stream: what was written may not arrive.
    pub fn reset(&mut self, stream: StreamId, code: u64) {
        if streams::is_two_way(stream) {
            self.unannounced.remove(&stream);
            streams::reset(&mut self.connection, stream, code);
        }
    }

    /// Gives up reading a stream.
    pub fn stop(&mut self, stream: StreamId, code: u64) {
        if streams::is_two_way(stream) {
            streams::stop(&mut self.connection, stream, code);
        }
    }

    /// Ends the connection; `code` reaches the gateway with the next transmit.
    pub fn close(&mut self, now: Instant, code: u64) {
        self.connection
            .close(now, streams::varint(code), Bytes::new());
        self.settle();
    }

    /// Says whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// The smoothed round trip to the gateway.
    pub fn round_trip(&self) -> Duration {
        self.connection.rtt()
    }

    /// Opens a stream with any first byte, as a foreign agent could.
    #[cfg(test)]
    pub(crate) fn open_unannounced(&mut self, kind: u8) -> StreamId {
        let stream = self.connection.streams().open(Dir::Bi);
        let stream = stream.expect("tests open few streams");
        let written = streams::write(
            &mut self.connection,
            stream,
            &mut Bytes::copy_from_slice(&[kind]),
        );
        assert_eq!(written, Ok(1));
        stream
    }

    /// Writes a stream's first byte if that is still to be done. True if it is done.
    fn announce(&mut self, stream: StreamId) -> Result<bool, WriteError> {
        if self.unannounced.contains(&stream) {
            let mut kind = Bytes::from_static(&[STREAM_TO_PORTAL]);
            if streams::write(&mut self.connection, stream, &mut kind)? == 0 {
                return Ok(false);
            }
            self.unannounced.remove(&stream);
        }
        Ok(true)
    }

    /// Says whether the gateway has confirmed the handshake, which it does only for the right
    /// certificate.
    fn is_accepted(&self) -> bool {
        self.connection.stats().frame_rx.handshake_done > 0
    }

    fn start_handshake(&mut self, now: Instant) {
        if self.greeting == Greeting::Caller {
            return;
        }
        self.handshake = Some(Handshake {
            tries: 0,
            retry_at: now,
        });
        self.repeat_handshake(now);
    }

    fn repeat_handshake(&mut self, now: Instant) {
        let Some(handshake) = &mut self.handshake else {
            return;
        };
        let pause = HANDSHAKE_RETRY[handshake.tries.min(HANDSHAKE_RETRY.len() - 1)];
        handshake.tries += 1;
        handshake.retry_at = now + pause;
        let outbox = &mut self.outbox;
        self.noise
            .start_handshake(&mut |message| queue(outbox, message));
    }

    fn handle_packet(&mut self, now: Instant, mut packet: bytes::BytesMut) {
        let Ok(header) = Header::parse(&packet) else {
            return;
        };
        if header.source != self.flow.destination || header.destination != self.flow.source {
            return;
        }
        let remote = header.remote().into();
        let payload = packet.split_off(INNER_OVERHEAD_BYTES);
        self.quic_buffer.clear();
        let event = self
            .endpoint
            .handle(now, remote, None, None, payload, &mut self.quic_buffer);
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) if handle == self.handle => {
                self.connection.handle_event(event);
            }
            // This end accepts no connection and has no other one to answer for.
            Some(
                DatagramEvent::ConnectionEvent(..)
                | DatagramEvent::NewConnection(_)
                | DatagramEvent::Response(_),
            )
            | None => {}
        }
    }

    /// Carries news between connection and endpoint.
    fn settle(&mut self) {
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
    }

    fn handle_stream_event(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Opened { dir: Dir::Uni } => {
                while let Some(stream) = self.connection.streams().accept(Dir::Uni) {
                    self.read_message(stream);
                }
            }
            StreamEvent::Readable { id } if id.dir() == Dir::Uni => self.read_message(id),
            StreamEvent::Readable { id } => self.events.push_back(Event::StreamReadable(id)),
            StreamEvent::Writable { id } => self.events.push_back(Event::StreamWritable(id)),
            StreamEvent::Stopped { id, error_code } => {
                self.events.push_back(Event::StreamStopped {
                    stream: id,
                    code: error_code.into_inner(),
                })
            }
            StreamEvent::Available { dir: Dir::Bi } => {
                self.events.push_back(Event::StreamsAvailable);
            }
            StreamEvent::Available { dir: Dir::Uni }
            | StreamEvent::Opened { dir: Dir::Bi }
            | StreamEvent::Finished { .. } => {}
        }
    }

    /// Gathers a message until its stream ends. One that is too long is not read further.
    fn read_message(&mut self, stream: StreamId) {
        loop {
            match streams::read(&mut self.connection, stream, MESSAGE_LIMIT_BYTES) {
                Ok(Read::Data(data)) => {
                    let known = self.messages.contains_key(&stream);
                    let room = known || self.messages.len() < MAX_OPEN_MESSAGES;
                    let message = self.messages.entry(stream).or_default();
                    message.extend_from_slice(&data);
                    if !room || message.len() > MESSAGE_LIMIT_BYTES {
                        self.messages.remove(&stream);
                        streams::stop(&mut self.connection, stream, 0);
                        return;
                    }
                }
                Ok(Read::Blocked) => return,
                Ok(Read::Finished) => {
                    if let Some(message) = self.messages.remove(&stream) {
                        self.events.push_back(Event::Message(message.into()));
                    }
                    return;
                }
                Err(ReadError::Reset(_) | ReadError::Closed) => {
                    self.messages.remove(&stream);
                    return;
                }
            }
        }
    }
}

/// Keeps a message to be sent, unless too many wait already: each is repeated if need be.
fn queue(outbox: &mut VecDeque<Vec<u8>>, message: &[u8]) {
    if outbox.len() < MAX_WAITING_MESSAGES {
        outbox.push_back(message.to_vec());
    }
}
