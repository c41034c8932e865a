//! Connects many PCs to one gateway in memory and prints what each costs the gateway.
//!
//! ```text
//! cargo run --release -p tunnel --example sessions -- 1000
//! ```
//! The PCs are forgotten as soon as they are connected: what stays is the gateway's.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::RootCertStore;
use rustls::time_provider::DefaultTimeProvider;
use tunnel::client::{self, ClientConfig, ClientTunnel};
use tunnel::keys::{PresharedKey, SecretKey};
use tunnel::server::{PeerConfig, PeerId, ServerConfig, ServerTunnels};
use tunnel::tls::{self, Identity};
use tunnel::{MAX_SEGMENTS, Transmit};

const ALPN: &[u8] = b"sessions/1";
const GATEWAY_NAME: &str = "gateway.test";
/// What is exchanged after the handshakes: acknowledgements, MTU discovery.
const SETTLING: Duration = Duration::from_secs(8);
const STEP: Duration = Duration::from_millis(20);
/// Datagrams of a malicious PC.
const ABUSE_ROUNDS: usize = 500_000;

struct World {
    server: ServerTunnels,
    now: Instant,
    client_tls: Arc<rustls::ClientConfig>,
    certificate_sha256: [u8; 32],
    secret: SecretKey,
}

fn main() {
    let count: u32 = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(1000);
    let mut world = world();
    // The first one makes what all share.
    world.connect(0);
    let begun = resident_bytes();
    for number in 1..=count {
        world.grant(1_000_000 + number);
    }
    let granted = resident_bytes();
    for number in 1..=count {
        world
            .server
            .remove_peer(PeerId(1_000_000 + u128::from(number)), 0, world.now);
    }
    while world
        .server
        .poll_transmit(world.now, 1, &mut Vec::new(), |_| true)
        .is_some()
    {}
    let before = resident_bytes();
    for number in 1..=count {
        world.connect(number);
    }
    let connected = resident_bytes();
    let mut abused = Vec::new();
    for (number, lost) in [(2_000_000, 0), (2_000_001, 2), (2_000_002, 10)] {
        let before = resident_bytes();
        let written = world.abuse(number, lost);
        abused.push((lost, written, resident_bytes() - before));
    }
    let each = |bytes: f64| bytes / f64::from(count) / 1024.0;
    println!("granted, never heard of: {:.1} KB", each(granted - begun));
    println!("connected and at rest: {:.1} KB", each(connected - before));
    for (lost, written, bytes) in abused {
        println!(
            "a malicious one, {written} bytes one by one, one of {lost} lost: {:.0} KB",
            bytes / 1024.0
        );
    }
}

impl World {
    fn grant(&mut self, number: u32) -> (SecretKey, Ipv6Addr) {
        let secret = SecretKey::generate().expect("the system has randomness");
        let inner =
            Ipv6Addr::from_bits(0xfd72_656e_6b65_6900_0000_0000_0001_0000 + u128::from(number));
        let peer = PeerConfig {
            public_key: secret.public_key(),
            preshared_key: PresharedKey::from_bytes([3; 32]),
            inner_address: inner,
            device_certificate_sha256: self.certificate_sha256,
        };
        self.server
            .add_peer(PeerId(u128::from(number)), peer, self.now)
            .expect("each number once");
        (secret, inner)
    }

    /// Connects a PC and lets everything that follows a handshake happen.
    fn connect(&mut self, number: u32) -> ClientTunnel {
        let (secret_key, inner_address) = self.grant(number);
        let mut client = ClientTunnel::new(
            ClientConfig {
                secret_key,
                gateway_key: self.secret.public_key(),
                preshared_key: PresharedKey::from_bytes([3; 32]),
                inner_address,
                gateway_inner: gateway_inner(),
                server_name: GATEWAY_NAME.to_owned(),
                tls: self.client_tls.clone(),
            },
            self.now,
        )
        .expect("settings of ours");
        let mut connected = false;
        let end = self.now + SETTLING;
        while self.now < end {
            self.now += STEP;
            client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            connected |= self.exchange(number, &mut client);
        }
        assert!(connected, "PC {number} connects");
        client
    }

    /// Carries datagrams both ways until both are silent. Says whether the PC got connected.
    fn exchange(&mut self, number: u32, client: &mut ClientTunnel) -> bool {
        let address = address(number);
        let (mut connected, mut buffer) = (false, Vec::new());
        loop {
            let mut quiet = true;
            while let Some(event) = client.poll_event() {
                connected |= event == client::Event::Connected;
            }
            while self.server.poll_event(self.now).is_some() {}
            while let Some(sent) = client.poll_transmit(self.now, MAX_SEGMENTS, &mut buffer) {
                for datagram in segments(&buffer, sent) {
                    self.deliver(address, datagram);
                }
                quiet = false;
            }
            while let Some(out) =
                self.server
                    .poll_transmit(self.now, MAX_SEGMENTS, &mut buffer, |_| true)
            {
                if out.to == address.into() {
                    for datagram in segments(&buffer, out.transmit) {
                        client.handle_datagram(self.now, datagram);
                    }
                }
                quiet = false;
            }
            if quiet {
                return connected;
            }
        }
    }

    fn deliver(&mut self, address: SocketAddr, datagram: &[u8]) {
        self.server
            .handle_datagram(self.now, address.into(), datagram, |_| true);
    }

    /// A PC with a grant that binds as much memory as it can: streams that nobody reads at the
    /// other end, a byte in each datagram, and every `lost`th datagram never sent. Returns how
    /// many bytes it got in.
    fn abuse(&mut self, number: u32, lost: usize) -> usize {
        let mut client = self.connect(number);
        let address = address(number);
        let mut streams = Vec::new();
        while let Some(stream) = client.open_stream() {
            streams.push(stream);
            self.exchange(number, &mut client);
        }
        let (mut written, mut buffer) = (0, Vec::new());
        for round in 0..ABUSE_ROUNDS {
            let stream = streams[round % streams.len()];
            written += client
                .write(stream, &mut Bytes::from_static(b"x"))
                .unwrap_or(0);
            let mut turn = 0;
            while let Some(sent) = client.poll_transmit(self.now, 1, &mut buffer) {
                turn += 1;
                if lost == 0 || !(round + turn).is_multiple_of(lost) {
                    self.deliver(address, &buffer[..sent.len]);
                }
            }
            if round.is_multiple_of(32) {
                self.now += Duration::from_millis(1);
                client.handle_timeout(self.now);
                self.server.handle_timeout(self.now);
                while self.server.poll_event(self.now).is_some() {}
                while let Some(out) = self
                    .server
                    .poll_transmit(self.now, 1, &mut buffer, |_| true)
                {
                    client.handle_datagram(self.now, &buffer[..out.transmit.len]);
                }
            }
        }
        written
    }
}

fn address(number: u32) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], (number % 50_000) as u16 + 1))
}

fn world() -> World {
    let (devices, services) = (authority(), authority());
    let gateway = leaf(&services, GATEWAY_NAME, ExtendedKeyUsagePurpose::ServerAuth);
    let device = leaf(&devices, "device.test", ExtendedKeyUsagePurpose::ClientAuth);
    let digest = ring::digest::digest(&ring::digest::SHA256, &device.chain[0]);
    let clock = Arc::new(DefaultTimeProvider);
    let secret = SecretKey::generate().expect("the system has randomness");
    let now = now();
    let config = ServerConfig {
        secret_key: secret.clone(),
        inner_address: gateway_inner(),
        tls: tls::server_config(gateway, roots(&devices), ALPN, clock.clone())
            .expect("a certificate of ours"),
    };
    World {
        server: ServerTunnels::new(config, now).expect("settings of ours"),
        now,
        client_tls: tls::client_config(device, roots(&services), ALPN, clock)
            .expect("a certificate of ours"),
        certificate_sha256: digest.as_ref().try_into().expect("SHA-256 has 32 bytes"),
        secret,
    }
}

fn gateway_inner() -> SocketAddrV6 {
    SocketAddrV6::new(
        Ipv6Addr::new(0xfd72, 0x656e, 0x6b65, 0x6900, 0, 0, 0, 1),
        4433,
        0,
        0,
    )
}

fn segments(buffer: &[u8], transmit: Transmit) -> impl Iterator<Item = &[u8]> {
    buffer[..transmit.len].chunks(transmit.segment_size)
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

/// What this process has in memory now. Everything but what the gateway keeps was given back.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    kilobytes.map_or(0.0, |kilobytes: f64| kilobytes * 1024.0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other constructor"
)]
fn now() -> Instant {
    Instant::now()
}
