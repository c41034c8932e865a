//! What the fuzzer does to both ends of the tunnel, one function for each target.
//!
//! Only compiled for tests and under the feature `fuzzing`. The input is a small program:
//! each step hands one end a datagram: a foreign one, a genuine one with changed bytes, or
//! one that the other end's keys seal around whatever the input says, for a peer with a
//! grant may be malicious too. Keys and certificates are made anew in each process; the
//! corpus holds steps, not recorded traffic.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::RootCertStore;
use rustls::time_provider::DefaultTimeProvider;

use crate::client::{self, ClientConfig, ClientTunnel};
use crate::frames::{self, NotAFrame};
use crate::keys::{PresharedKey, SecretKey};
use crate::noise::Noise;
use crate::packet::{Flow, Header};
use crate::server::{self, PeerConfig, PeerId, ServerConfig, ServerTunnels};
use crate::tls::{self, Identity};
use crate::{MAX_SEGMENTS, Read, StreamId};

/// Steps of one input that are played; a longer input says nothing new.
const MAX_STEPS: usize = 64;

/// Rounds of exchange after each step. A healthy tunnel falls silent long before.
const MAX_ROUNDS: usize = 200;

const PEER: PeerId = PeerId(1);
const PC_INNER: Ipv6Addr = Ipv6Addr::new(0xfd72, 0x656e, 0x6b65, 0x6900, 0, 0, 1, 1);
const GATEWAY_INNER: Ipv6Addr = Ipv6Addr::new(0xfd72, 0x656e, 0x6b65, 0x6900, 0, 0, 0, 1);
const INNER_PORT: u16 = 4433;
const GATEWAY_NAME: &str = "one.gateway.test";

/// The reader of inner headers: what it takes, it can write again.
pub fn inner_packet(data: &[u8]) {
    let Ok(header) = Header::parse(data) else {
        return;
    };
    let flow = Flow {
        source: header.source,
        destination: header.destination,
    };
    let mut packet = Vec::new();
    flow.encode(&data[crate::INNER_OVERHEAD_BYTES..], &mut packet);
    assert_eq!(Header::parse(&packet), Ok(header));
    assert_eq!(packet.len(), data.len());
}

/// Datagrams in a byte stream. The first byte says how long each piece is that arrives: the
/// datagrams are the same however they arrive, and framed again they are the same stream.
pub fn tls_frames(data: &[u8]) {
    let Some((first, stream)) = data.split_first() else {
        return;
    };
    let Ok(whole) = datagrams([stream].into_iter()) else {
        return;
    };
    let pieces = stream.chunks(usize::from(*first).max(1));
    assert_eq!(datagrams(pieces).as_ref(), Ok(&whole));
    let mut again = Vec::new();
    for datagram in &whole {
        assert!((1..=crate::MAX_DATAGRAM_BYTES).contains(&datagram.len()));
        frames::write(&mut again, datagram, datagram.len());
    }
    assert!(stream.starts_with(&again));
    assert!(stream.len() - again.len() < frames::MAX_FRAME_BYTES);
}

fn datagrams<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, NotAFrame> {
    let mut decoder = frames::Decoder::default();
    let mut datagrams = Vec::new();
    for piece in pieces {
        decoder.memory().extend_from_slice(piece);
        datagrams.extend(decoder.take()?.datagrams().map(<[u8]>::to_vec));
    }
    Ok(datagrams)
}

/// Steps against the gateway's end: from strangers, and from a PC with a grant.
pub fn gateway_tunnel(data: &[u8]) {
    let mut world = World::new();
    world.connect(data.first().is_none_or(|first| first & 1 == 0));
    for (step, bytes) in steps(data) {
        match step % 8 {
            0 => world.hand_to_gateway(stranger(), bytes),
            1 => world.replayed_to_gateway(stranger(), bytes),
            2 => world.changed_to_gateway(bytes),
            3 => world.sealed_to_gateway(bytes),
            4 => world.quic_to_gateway(bytes),
            5 => world.pass(bytes),
            6 => world.upload(bytes),
            _ => world.set_admitted(bytes.len().is_multiple_of(2)),
        }
        world.exchange();
    }
    world.check();
}

/// Steps against the agent's end: from whoever sends to its port, and from a gateway.
pub fn agent_tunnel(data: &[u8]) {
    let mut world = World::new();
    world.connect(data.first().is_none_or(|first| first & 1 == 0));
    for (step, bytes) in steps(data) {
        match step % 8 {
            0 => {
                world.pc.handle_datagram(world.now, bytes);
            }
            1 => world.replayed_to_pc(bytes),
            2 => world.changed_to_pc(bytes),
            3 => world.sealed_to_pc(bytes),
            4 => world.quic_to_pc(bytes),
            5 => world.pass(bytes),
            6 => world.download(bytes),
            _ => world.say_to_agent(bytes),
        }
        world.exchange();
    }
    world.check();
}

/// `kind, length (two bytes), bytes`, again and again.
fn steps(data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = data.get(1..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (head, tail) = rest.split_at_checked(3)?;
        let length = usize::from(u16::from_le_bytes([head[1], head[2]]));
        let (bytes, tail) = tail.split_at(length.min(tail.len()));
        rest = tail;
        Some((head[0], bytes))
    })
    .take(MAX_STEPS)
}

fn stranger() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 9], 999))
}

fn pc_address() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 5000))
}

/// One gateway and one PC, with nothing lost between them but what a step changes.
struct World {
    now: Instant,
    gateway: ServerTunnels,
    pc: ClientTunnel,
    admitted: bool,
    /// Genuine datagrams, not delivered yet.
    to_gateway: Vec<Vec<u8>>,
    to_pc: Vec<Vec<u8>>,
    /// The last that was delivered, each way.
    last_to_gateway: Vec<u8>,
    last_to_pc: Vec<u8>,
    streams: Vec<Stream>,
}

/// What was written into a stream, and how much of it came out.
struct Stream {
    id: StreamId,
    up: Vec<u8>,
    up_read: usize,
    down: Vec<u8>,
    down_read: usize,
}

/// What takes time to make: once for each process.
struct Made {
    gateway_key: SecretKey,
    pc_key: SecretKey,
    gateway_tls: Arc<rustls::ServerConfig>,
    pc_tls: Arc<rustls::ClientConfig>,
    pc_sha256: [u8; 32],
}

impl Made {
    fn once() -> &'static Self {
        static MADE: OnceLock<Made> = OnceLock::new();
        MADE.get_or_init(Self::new)
    }

    fn new() -> Self {
        const ALPN: &[u8] = b"fuzz/1";
        let (devices, services) = (authority(), authority());
        let gateway = leaf(&services, GATEWAY_NAME, ExtendedKeyUsagePurpose::ServerAuth);
        let pc = leaf(&devices, "device.test", ExtendedKeyUsagePurpose::ClientAuth);
        let digest = ring::digest::digest(&ring::digest::SHA256, &pc.chain[0]);
        let mut pc_sha256 = [0; 32];
        pc_sha256.copy_from_slice(digest.as_ref());
        let clock = Arc::new(DefaultTimeProvider);
        Self {
            gateway_key: SecretKey::from_bytes([1; 32]),
            pc_key: SecretKey::from_bytes([2; 32]),
            gateway_tls: tls::server_config(gateway, roots(&devices), ALPN, clock.clone())
                .expect("the certificate was just made"),
            pc_tls: tls::client_config(pc, roots(&services), ALPN, clock)
                .expect("the certificate was just made"),
            pc_sha256,
        }
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("the system has randomness");
    CertifiedIssuer::self_signed(params, key).expect("a fresh key signs")
}

fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Identity {
    let key = KeyPair::generate().expect("the system has randomness");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a plain DNS name");
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, issuer).expect("a fresh key signs");
    Identity {
        chain: vec![certificate.der().clone()],
        key: key.into(),
    }
}

fn roots(authority: &CertifiedIssuer<'static, KeyPair>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.der().clone())
        .expect("a certificate that was just made");
    roots
}

impl World {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other constructor"
    )]
    fn new() -> Self {
        let (made, now) = (Made::once(), Instant::now());
        let config = ServerConfig {
            secret_key: made.gateway_key.clone(),
            inner_address: SocketAddrV6::new(GATEWAY_INNER, INNER_PORT, 0, 0),
            tls: made.gateway_tls.clone(),
        };
        let mut gateway = ServerTunnels::new(config, now).expect("settings of ours");
        let peer = PeerConfig {
            public_key: made.pc_key.public_key(),
            preshared_key: PresharedKey::from_bytes([3; 32]),
            inner_address: PC_INNER,
            device_certificate_sha256: made.pc_sha256,
        };
        gateway.add_peer(PEER, peer, now).expect("the first peer");
        let config = ClientConfig {
            secret_key: made.pc_key.clone(),
            gateway_key: made.gateway_key.public_key(),
            preshared_key: PresharedKey::from_bytes([3; 32]),
            inner_address: PC_INNER,
            gateway_inner: SocketAddrV6::new(GATEWAY_INNER, INNER_PORT, 0, 0),
            server_name: GATEWAY_NAME.to_owned(),
            tls: made.pc_tls.clone(),
        };
        Self {
            now,
            gateway,
            pc: ClientTunnel::new(config, now).expect("settings of ours"),
            admitted: true,
            to_gateway: Vec::new(),
            to_pc: Vec::new(),
            last_to_gateway: Vec::new(),
            last_to_pc: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// Lets the handshakes run; or, to meet half-open states, does not.
    fn connect(&mut self, whole: bool) {
        if whole {
            self.exchange();
        } else {
            self.collect();
        }
    }

    /// Hands a datagram to the gateway. No stranger ever gets an answer.
    fn hand_to_gateway(&mut self, from: SocketAddr, datagram: &[u8]) {
        let admitted = self.admitted;
        self.gateway
            .handle_datagram(self.now, from.into(), datagram, |_| admitted);
    }

    fn replayed_to_gateway(&mut self, from: SocketAddr, mask: &[u8]) {
        let datagram = masked(&self.last_to_gateway, mask);
        self.hand_to_gateway(from, &datagram);
    }

    fn changed_to_gateway(&mut self, mask: &[u8]) {
        self.collect();
        if !self.to_gateway.is_empty() {
            let datagram = masked(&self.to_gateway.remove(0), mask);
            self.hand_to_gateway(pc_address(), &datagram);
        }
    }

    /// An inner packet of the PC's own making.
    fn sealed_to_gateway(&mut self, packet: &[u8]) {
        let mut datagram = Vec::new();
        if seal(self.pc.noise_for_fuzzing(), packet, &mut datagram) {
            self.hand_to_gateway(pc_address(), &datagram);
        }
    }

    /// A QUIC datagram of the PC's own making, in a right inner packet.
    fn quic_to_gateway(&mut self, quic: &[u8]) {
        let flow = Flow {
            source: (PC_INNER, INNER_PORT),
            destination: (GATEWAY_INNER, INNER_PORT),
        };
        let mut packet = Vec::new();
        flow.encode(quic, &mut packet);
        self.sealed_to_gateway(&packet);
    }

    fn replayed_to_pc(&mut self, mask: &[u8]) {
        let datagram = masked(&self.last_to_pc, mask);
        self.pc.handle_datagram(self.now, &datagram);
    }

    fn changed_to_pc(&mut self, mask: &[u8]) {
        self.collect();
        if !self.to_pc.is_empty() {
            let datagram = masked(&self.to_pc.remove(0), mask);
            self.pc.handle_datagram(self.now, &datagram);
        }
    }

    fn sealed_to_pc(&mut self, packet: &[u8]) {
        let mut datagram = Vec::new();
        let noise = self.gateway.noise_for_fuzzing(PEER);
        if noise.is_some_and(|noise| seal(noise, packet, &mut datagram)) {
            self.pc.handle_datagram(self.now, &datagram);
        }
    }

    fn quic_to_pc(&mut self, quic: &[u8]) {
        let flow = Flow {
            source: (GATEWAY_INNER, INNER_PORT),
            destination: (PC_INNER, INNER_PORT),
        };
        let mut packet = Vec::new();
        flow.encode(quic, &mut packet);
        self.sealed_to_pc(&packet);
    }

    /// Lets as many milliseconds pass as the bytes say, at most some minutes.
    fn pass(&mut self, bytes: &[u8]) {
        let mut ms = [0; 2];
        for (to, from) in ms.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.now += Duration::from_millis(u64::from(u16::from_le_bytes(ms)) * 4);
        self.gateway.handle_timeout(self.now);
        self.pc.handle_timeout(self.now);
    }

    fn set_admitted(&mut self, admitted: bool) {
        self.admitted = admitted;
    }

    fn upload(&mut self, bytes: &[u8]) {
        if self.streams.is_empty()
            && let Some(id) = self.pc.open_stream()
        {
            self.streams.push(Stream {
                id,
                up: Vec::new(),
                up_read: 0,
                down: Vec::new(),
                down_read: 0,
            });
        }
        if let Some(stream) = self.streams.first_mut() {
            let mut data = Bytes::copy_from_slice(bytes);
            if let Ok(written) = self.pc.write(stream.id, &mut data) {
                stream.up.extend_from_slice(&bytes[..written]);
            }
        }
    }

    fn download(&mut self, bytes: &[u8]) {
        if self.streams.is_empty() {
            self.upload(b"hello");
            self.exchange();
        }
        if let Some(stream) = self.streams.first_mut() {
            let mut data = Bytes::copy_from_slice(bytes);
            if let Ok(written) = self.gateway.write(PEER, stream.id, &mut data) {
                stream.down.extend_from_slice(&bytes[..written]);
            }
        }
    }

    fn say_to_agent(&mut self, bytes: &[u8]) {
        // Refused while there is no connection, or if it is too long.
        let _ = self
            .gateway
            .send_message(PEER, Bytes::copy_from_slice(bytes));
    }

    /// Takes what both ends have to send and tell.
    fn collect(&mut self) -> bool {
        let mut buffer = Vec::new();
        let (now, admitted) = (self.now, self.admitted);
        let before = self.to_gateway.len() + self.to_pc.len();
        while let Some(event) = self.gateway.poll_event(now) {
            if let server::Event::StreamReadable(_, id) = event {
                self.read_at_gateway(id);
            }
        }
        while let Some(outgoing) =
            self.gateway
                .poll_transmit(now, MAX_SEGMENTS, &mut buffer, |_| admitted)
        {
            assert!(admitted, "sent to a peer that is not admitted");
            assert_eq!(outgoing.to, pc_address().into(), "a stranger got an answer");
            let datagrams = buffer[..outgoing.transmit.len].chunks(outgoing.transmit.segment_size);
            self.to_pc.extend(datagrams.map(<[u8]>::to_vec));
        }
        while let Some(event) = self.pc.poll_event() {
            if let client::Event::StreamReadable(id) = event {
                self.read_at_pc(id);
            }
        }
        while let Some(transmit) = self.pc.poll_transmit(now, MAX_SEGMENTS, &mut buffer) {
            let datagrams = buffer[..transmit.len].chunks(transmit.segment_size);
            self.to_gateway.extend(datagrams.map(<[u8]>::to_vec));
        }
        self.to_gateway.len() + self.to_pc.len() > before
    }

    /// Delivers everything until both ends are silent.
    fn exchange(&mut self) {
        for _ in 0..MAX_ROUNDS {
            self.collect();
            if self.to_gateway.is_empty() && self.to_pc.is_empty() {
                return;
            }
            for datagram in std::mem::take(&mut self.to_gateway) {
                self.hand_to_gateway(pc_address(), &datagram);
                self.last_to_gateway = datagram;
            }
            for datagram in std::mem::take(&mut self.to_pc) {
                self.pc.handle_datagram(self.now, &datagram);
                self.last_to_pc = datagram;
            }
        }
        panic!("the two ends never fall silent");
    }

    fn read_at_gateway(&mut self, id: StreamId) {
        while let Ok(Read::Data(data)) = self.gateway.read(PEER, id, usize::MAX) {
            if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
                let end = stream.up_read + data.len();
                assert_eq!(stream.up.get(stream.up_read..end), Some(&data[..]));
                stream.up_read = end;
            }
        }
    }

    fn read_at_pc(&mut self, id: StreamId) {
        while let Ok(Read::Data(data)) = self.pc.read(id, usize::MAX) {
            if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
                let end = stream.down_read + data.len();
                assert_eq!(stream.down.get(stream.down_read..end), Some(&data[..]));
                stream.down_read = end;
            }
        }
    }

    /// Whatever was done, putting the peer out leaves nothing behind.
    fn check(mut self) {
        self.gateway.remove_peer(PEER, 1, self.now);
        self.admitted = false;
        let mut buffer = Vec::new();
        let mut farewells = 0;
        while let Some(outgoing) =
            self.gateway
                .poll_transmit(self.now, MAX_SEGMENTS, &mut buffer, |_| false)
        {
            assert_eq!(outgoing.to, pc_address().into(), "a stranger got an answer");
            farewells += 1;
        }
        assert!(farewells <= 2, "{farewells} datagrams after the end");
        while self.gateway.poll_event(self.now).is_some() {}
        assert_eq!(self.gateway.traffic(PEER), None);
    }
}

/// `datagram`, with the first byte of `mask` as the place where the rest is laid over it.
fn masked(datagram: &[u8], mask: &[u8]) -> Vec<u8> {
    let mut datagram = datagram.to_vec();
    let (at, mask) = mask.split_at_checked(1).unwrap_or_default();
    let start = at.first().map_or(0, |at| usize::from(*at) * 8);
    for (byte, change) in datagram.iter_mut().skip(start).zip(mask) {
        *byte ^= change;
    }
    datagram
}

fn seal(noise: &mut Noise, packet: &[u8], datagram: &mut Vec<u8>) -> bool {
    packet.len() + 64 <= crate::MAX_DATAGRAM_BYTES && noise.seal(packet, datagram)
}

#[cfg(test)]
mod tests {
    use replay::replay;

    #[test]
    fn the_corpus_of_inner_packets_breaks_nothing() {
        replay("inner_packet", super::inner_packet);
    }

    #[test]
    fn the_corpus_of_frames_breaks_nothing() {
        replay("tls_frames", super::tls_frames);
    }

    #[test]
    fn the_corpus_of_steps_against_the_gateway_breaks_nothing() {
        replay("gateway_tunnel", super::gateway_tunnel);
    }

    #[test]
    fn the_corpus_of_steps_against_the_agent_breaks_nothing() {
        replay("agent_tunnel", super::agent_tunnel);
    }
}
