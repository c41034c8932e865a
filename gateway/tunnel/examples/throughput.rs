//! Moves data through both ends of a tunnel in memory, without a socket, and prints how fast
//! and at what cost for each end.
//!
//! ```text
//! cargo run --release -p tunnel --example throughput -- 2000   # megabytes each way
//! ```

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::RootCertStore;
use rustls::time_provider::DefaultTimeProvider;
use tunnel::client::{ClientConfig, ClientTunnel};
use tunnel::keys::{PresharedKey, SecretKey};
use tunnel::server::{Event, PeerConfig, PeerId, ServerConfig, ServerTunnels};
use tunnel::tls::{self, Identity};
use tunnel::{MAX_SEGMENTS, Read};

const PEER: PeerId = PeerId(1);
const CHUNK_BYTES: usize = 64 * 1024;

/// Datagrams on the way. As many as a socket's buffer holds.
const QUEUE: usize = 2048;

/// One end's share of the work.
#[derive(Default)]
struct Cost(Duration);

impl Cost {
    fn of<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = now();
        let result = work();
        self.0 += start.elapsed();
        result
    }
}

struct Pair {
    client: ClientTunnel,
    server: ServerTunnels,
    to_server: VecDeque<Vec<u8>>,
    to_client: VecDeque<Vec<u8>>,
    client_cost: Cost,
    server_cost: Cost,
    buffer: Vec<u8>,
    from: SocketAddr,
    stream_opened: bool,
}

fn main() {
    let megabytes: usize = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(1000);
    let mut pair = connect();
    let stream = loop {
        pair.exchange();
        if let Some(stream) = pair.client.open_stream() {
            break stream;
        }
    };
    while !pair.stream_opened {
        pair.exchange();
    }
    let chunk = Bytes::from(vec![7; CHUNK_BYTES]);
    let total = megabytes * 1_000_000;
    for up in [true, false] {
        (pair.client_cost, pair.server_cost) = (Cost::default(), Cost::default());
        let start = now();
        let (mut sent, mut received) = (0, 0);
        while received < total {
            while sent < total {
                let mut data = chunk.slice(..CHUNK_BYTES.min(total - sent));
                let written = if up {
                    pair.client_cost.of(|| pair.client.write(stream, &mut data))
                } else {
                    pair.server_cost
                        .of(|| pair.server.write(PEER, stream, &mut data))
                };
                match written {
                    Ok(0) => break,
                    Ok(written) => sent += written,
                    Err(error) => panic!("{error}"),
                }
            }
            pair.exchange();
            loop {
                let read = if up {
                    pair.server_cost
                        .of(|| pair.server.read(PEER, stream, CHUNK_BYTES))
                } else {
                    pair.client_cost
                        .of(|| pair.client.read(stream, CHUNK_BYTES))
                };
                match read {
                    Ok(Read::Data(data)) => received += data.len(),
                    Ok(Read::Blocked | Read::Finished) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        let (took, size) = (start.elapsed().as_secs_f64(), megabytes as f64);
        let per_second = |cost: &Cost| size / cost.0.as_secs_f64();
        println!(
            "{}: {:.0} MB/s with both ends on one core; agent {:.0}, gateway {:.0} MB per CPU-second",
            if up { "up" } else { "down" },
            size / took,
            per_second(&pair.client_cost),
            per_second(&pair.server_cost),
        );
    }
}

impl Pair {
    fn exchange(&mut self) {
        let buffer = &mut self.buffer;
        while self.to_server.len() < QUEUE
            && let Some(sent) = self
                .client_cost
                .of(|| self.client.poll_transmit(now(), MAX_SEGMENTS, buffer))
        {
            let segments = buffer.chunks(sent.segment_size);
            self.to_server.extend(segments.map(<[u8]>::to_vec));
        }
        self.server_cost.of(|| {
            let now = now();
            for datagram in self.to_server.drain(..) {
                self.server
                    .handle_datagram(now, self.from.into(), &datagram, |_| true);
            }
            self.server.handle_timeout(now);
        });
        self.server_cost.of(|| {
            while let Some(event) = self.server.poll_event(now()) {
                self.stream_opened |= matches!(event, Event::StreamOpened(..));
            }
        });
        let buffer = &mut self.buffer;
        while self.to_client.len() < QUEUE
            && let Some(sent) = self.server_cost.of(|| {
                self.server
                    .poll_transmit(now(), MAX_SEGMENTS, buffer, |_| true)
            })
        {
            let segments = buffer.chunks(sent.transmit.segment_size);
            self.to_client.extend(segments.map(<[u8]>::to_vec));
        }
        self.client_cost.of(|| {
            let now = now();
            for datagram in self.to_client.drain(..) {
                self.client.handle_datagram(now, &datagram);
            }
            self.client.handle_timeout(now);
            while self.client.poll_event().is_some() {}
        });
    }
}

fn connect() -> Pair {
    let (services, devices) = (authority(), authority());
    let (gateway_key, pc_key) = (key(), key());
    let gateway_inner = SocketAddrV6::new(Ipv6Addr::from_bits(0xfd << 120 | 1), 4433, 0, 0);
    let inner_address = Ipv6Addr::from_bits(0xfd << 120 | 2);
    let device = leaf(&devices, "device", ExtendedKeyUsagePurpose::ClientAuth);
    let certificate = ring::digest::digest(&ring::digest::SHA256, &device.chain[0]);
    let preshared = PresharedKey::from_bytes([1; 32]);
    let clock = Arc::new(DefaultTimeProvider);
    let client = ClientConfig {
        secret_key: pc_key.clone(),
        gateway_key: gateway_key.public_key(),
        preshared_key: preshared.clone(),
        inner_address,
        gateway_inner,
        server_name: "gateway".to_owned(),
        tls: tls::client_config(device, roots(&services), b"x", clock.clone())
            .expect("the certificate was just made"),
    };
    let gateway = leaf(&services, "gateway", ExtendedKeyUsagePurpose::ServerAuth);
    let server = ServerConfig {
        secret_key: gateway_key,
        inner_address: gateway_inner,
        tls: tls::server_config(gateway, roots(&devices), b"x", clock)
            .expect("the certificate was just made"),
    };
    let mut server = ServerTunnels::new(server, now()).expect("the settings suit QUIC");
    let peer = PeerConfig {
        public_key: pc_key.public_key(),
        preshared_key: preshared,
        inner_address,
        device_certificate_sha256: certificate
            .as_ref()
            .try_into()
            .expect("SHA-256 has 32 bytes"),
    };
    server.add_peer(PEER, peer, now()).expect("the first peer");
    Pair {
        client: ClientTunnel::new(client, now()).expect("the settings suit QUIC"),
        server,
        to_server: VecDeque::new(),
        to_client: VecDeque::new(),
        client_cost: Cost::default(),
        server_cost: Cost::default(),
        buffer: Vec::new(),
        from: SocketAddr::from(([192, 0, 2, 1], 1)),
        stream_opened: false,
    }
}

fn key() -> SecretKey {
    SecretKey::generate().expect("the system has random numbers")
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("the system has random numbers");
    CertifiedIssuer::self_signed(params, key).expect("the key was just made")
}

fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Identity {
    let key = KeyPair::generate().expect("the system has random numbers");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a plain name");
    params.extended_key_usages = vec![usage];
    let certificate = params
        .signed_by(&key, issuer)
        .expect("the issuer has a key");
    Identity {
        chain: vec![certificate.der().clone()],
        key: key.into(),
    }
}

fn roots(issuer: &CertifiedIssuer<'static, KeyPair>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots
        .add(issuer.der().clone())
        .expect("the authority was just made");
    roots
}

#[expect(
    clippy::disallowed_methods,
    reason = "a measurement needs the real clock"
)]
fn now() -> Instant {
    Instant::now()
}
