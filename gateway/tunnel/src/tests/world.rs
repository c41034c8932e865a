//! A gateway, some PCs and the internet between them, in simulated time.
//!
//! Both ends are woken only by a datagram or at their own `poll_timeout`: a deadline that is
//! forgotten there makes a test hang and fail. Losses, delays and reordering come from a
//! seeded generator, so that a failure can be repeated.

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU128;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::RootCertStore;
use rustls::time_provider::DefaultTimeProvider;

use super::line::{Direction, Path};
use crate::client::{self, ClientConfig, ClientTunnel};
use crate::keys::{PresharedKey, SecretKey};
use crate::server::{self, Outgoing, PeerConfig, PeerId, Route, ServerConfig, ServerTunnels};
use crate::tls::{self, Identity};
use crate::{MAX_SEGMENTS, Read, StreamId, Transmit};

pub(super) const ALPN: &[u8] = b"test/1";
pub(super) const GATEWAY_NAME: &str = "one.gateway.test";
pub(super) const PRESHARED: [u8; 32] = [9; 32];

/// Simulated time after which a test has failed.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, Clone)]
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) data: Vec<u8>,
}

pub(super) struct Pc {
    pub(super) id: PeerId,
    pub(super) address: SocketAddr,
    pub(super) tunnel: ClientTunnel,
    tls: Arc<rustls::ClientConfig>,
    pub(super) events: Vec<client::Event>,
    /// A sleeping PC neither hears nor acts.
    pub(super) asleep: bool,
}

pub(super) struct World {
    start: Instant,
    pub(super) now: Instant,
    pub(super) path: Path,
    pub(super) gateway: ServerTunnels,
    pub(super) gateway_address: SocketAddr,
    pub(super) pcs: Vec<Pc>,
    pub(super) admitted: HashSet<PeerId>,
    pub(super) events: Vec<server::Event>,
    /// All that the gateway ever sent.
    pub(super) sent_by_gateway: Vec<(SocketAddr, usize)>,
    /// All that the PCs ever sent, if asked for.
    pub(super) recording: Option<Vec<Datagram>>,
    gateway_key: SecretKey,
    /// The PCs' WireGuard keys, in the order of the PCs.
    pub(super) keys: Vec<SecretKey>,
    flying: BTreeMap<(Instant, u64), Datagram>,
    serial: u64,
    /// To the gateway, and from it.
    pub(super) up: Direction,
    pub(super) down: Direction,
    /// Timers go off at multiples of this, as tokio's do.
    pub(super) timer_grain: Duration,
    /// Something is to be done then, whatever else happens.
    alarm: Option<Instant>,
}

/// Two authorities and their leaves, made once: keys take time.
pub(super) struct Authorities {
    devices: CertifiedIssuer<'static, KeyPair>,
    services: CertifiedIssuer<'static, KeyPair>,
}

pub(super) fn authorities() -> &'static Authorities {
    static MADE: OnceLock<Authorities> = OnceLock::new();
    MADE.get_or_init(Authorities::new)
}

impl Authorities {
    pub(super) fn new() -> Self {
        let authority = || {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.serial_number = Some(1.into());
            CertifiedIssuer::self_signed(params, key_pair()).unwrap()
        };
        Self {
            devices: authority(),
            services: authority(),
        }
    }

    pub(super) fn device(&self) -> (Identity, [u8; 32]) {
        let identity = leaf(
            &self.devices,
            "device.test",
            ExtendedKeyUsagePurpose::ClientAuth,
        );
        let hash = ring::digest::digest(&ring::digest::SHA256, &identity.chain[0]);
        (identity, hash.as_ref().try_into().unwrap())
    }

    pub(super) fn devices(&self) -> &CertifiedIssuer<'static, KeyPair> {
        &self.devices
    }

    pub(super) fn gateway(&self, name: &str) -> Identity {
        leaf(&self.services, name, ExtendedKeyUsagePurpose::ServerAuth)
    }
}

/// Ed25519, whose signatures are all of one length: an ECDSA one is a byte longer now and then,
/// and everything after it comes at another time.
fn key_pair() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()
}

fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Identity {
    let key = key_pair();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![usage];
    params.serial_number = Some(2.into());
    let certificate = params.signed_by(&key, issuer).unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        key: key.into(),
    }
}

pub(super) fn roots(authority: &CertifiedIssuer<'static, KeyPair>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    roots
}

pub(super) fn client_tls(identity: Identity) -> Arc<rustls::ClientConfig> {
    let roots = roots(&authorities().services);
    tls::client_config(identity, roots, ALPN, Arc::new(DefaultTimeProvider)).unwrap()
}

pub(super) fn inner_address(number: u128) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xfd72_656e_6b65_6900_0000_0000_0001_0000 + number)
}

pub(super) fn gateway_inner() -> SocketAddrV6 {
    SocketAddrV6::new("fd72:656e:6b65:6900::1".parse().unwrap(), 4433, 0, 0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other constructor"
)]
pub(super) fn origin() -> Instant {
    Instant::now()
}

impl World {
    pub(super) fn new(path: Path, seed: u64) -> Self {
        let now = origin();
        let gateway_key = SecretKey::generate().unwrap();
        let tls = tls::server_config(
            authorities().gateway(GATEWAY_NAME),
            roots(&authorities().devices),
            ALPN,
            Arc::new(DefaultTimeProvider),
        )
        .unwrap();
        let config = ServerConfig {
            secret_key: gateway_key.clone(),
            inner_address: gateway_inner(),
            tls,
        };
        Self {
            start: now,
            now,
            path,
            gateway: ServerTunnels::new(config, now).unwrap(),
            gateway_address: "192.0.2.1:443".parse().unwrap(),
            pcs: Vec::new(),
            admitted: HashSet::new(),
            events: Vec::new(),
            sent_by_gateway: Vec::new(),
            recording: None,
            gateway_key,
            keys: Vec::new(),
            flying: BTreeMap::new(),
            serial: 0,
            up: Direction::new(now, seed),
            down: Direction::new(now, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            timer_grain: Duration::ZERO,
            alarm: None,
        }
    }

    /// A world with one PC that is granted and connected.
    pub(super) fn connected(path: Path, seed: u64) -> Self {
        let mut world = Self::new(path, seed);
        world.add_pc();
        world.run_until("connected", |world| world.is_connected(0));
        world
    }

    /// Adds a PC that has a grant.
    pub(super) fn add_pc(&mut self) -> usize {
        let (identity, sha256) = authorities().device();
        let pc = self.add_pc_with(identity, PRESHARED);
        self.grant(pc, sha256);
        pc
    }

    /// Adds a PC without a grant.
    pub(super) fn add_pc_with(&mut self, identity: Identity, preshared: [u8; 32]) -> usize {
        let number = self.pcs.len() as u128;
        let key = SecretKey::generate().unwrap();
        self.keys.push(key);
        let tls = client_tls(identity);
        self.pcs.push(Pc {
            id: PeerId(1000 + number),
            address: SocketAddr::from((Ipv4Addr::new(198, 51, 100, number as u8 + 1), 5000)),
            tunnel: self.client_tunnel(number as usize, tls.clone(), preshared),
            tls,
            events: Vec::new(),
            asleep: false,
        });
        self.pcs.len() - 1
    }

    /// The PC's agent forgets all but its configuration.
    pub(super) fn restart_agent(&mut self, pc: usize) {
        let tls = self.pcs[pc].tls.clone();
        self.pcs[pc].tunnel = self.client_tunnel(pc, tls, PRESHARED);
        self.pcs[pc].events.clear();
    }

    fn client_tunnel(
        &self,
        pc: usize,
        tls: Arc<rustls::ClientConfig>,
        preshared: [u8; 32],
    ) -> ClientTunnel {
        let config = ClientConfig {
            secret_key: self.keys[pc].clone(),
            gateway_key: self.gateway_key.public_key(),
            preshared_key: PresharedKey::from_bytes(preshared),
            inner_address: inner_address(pc as u128),
            gateway_inner: gateway_inner(),
            server_name: GATEWAY_NAME.to_owned(),
            tls,
        };
        ClientTunnel::new(config, self.now).unwrap()
    }

    pub(super) fn grant(&mut self, pc: usize, device_certificate_sha256: [u8; 32]) {
        let id = self.pcs[pc].id;
        let public_key = self.keys[pc].public_key();
        let config = PeerConfig {
            public_key,
            preshared_key: PresharedKey::from_bytes(PRESHARED),
            inner_address: inner_address(pc as u128),
            device_certificate_sha256,
        };
        self.gateway.add_peer(id, config, self.now).unwrap();
        self.admitted.insert(id);
    }

    pub(super) fn is_connected(&self, pc: usize) -> bool {
        self.pcs[pc].events.contains(&client::Event::Connected)
            && self
                .events
                .contains(&server::Event::Connected(self.pcs[pc].id))
    }

    /// Runs until `done`, or fails with `what`.
    pub(super) fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let limit = self.now + PATIENCE;
        self.exchange();
        while !done(self) {
            self.exchange();
            assert!(
                self.step(limit),
                "not {what} after {PATIENCE:?}; counters {:?}",
                self.gateway.counters()
            );
            self.exchange();
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        self.exchange();
        while self.step(until) {
            self.exchange();
        }
        self.now = until;
    }

    /// Has [`Self::run_until`] look at the time at `at`, even if nothing else happens then.
    pub(super) fn keep_awake(&mut self, at: Instant) {
        self.alarm = Some(at);
    }

    /// Moves on to the next thing that happens before `until`. False if there is none.
    fn step(&mut self, until: Instant) -> bool {
        let arrival = self.flying.first_key_value().map(|(key, _)| key.0);
        let pcs = self.pcs.iter_mut().filter(|pc| !pc.asleep);
        let wakes = pcs.filter_map(|pc| pc.tunnel.poll_timeout());
        let wake = wakes.chain(self.gateway.poll_timeout()).min();
        let wake = wake.map(|at| self.grained(at));
        let alarm = self.alarm.filter(|alarm| *alarm > self.now);
        let next = wake.into_iter().chain(arrival).chain(alarm).min();
        let Some(next) = next.filter(|next| *next <= until) else {
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= self.now
        {
            let datagram = entry.remove();
            self.deliver(datagram);
        }
        let now = self.now;
        for pc in self.pcs.iter_mut().filter(|pc| !pc.asleep) {
            if pc.tunnel.poll_timeout().is_some_and(|at| at <= now) {
                pc.tunnel.handle_timeout(now);
            }
        }
        if self.gateway.poll_timeout().is_some_and(|at| at <= now) {
            self.gateway.handle_timeout(now);
        }
        true
    }

    pub(super) fn deliver(&mut self, datagram: Datagram) {
        if datagram.to == self.gateway_address {
            let admitted = &self.admitted;
            self.gateway
                .handle_datagram(self.now, datagram.from.into(), &datagram.data, |id| {
                    admitted.contains(&id)
                });
        } else if let Some(pc) = self
            .pcs
            .iter_mut()
            .find(|pc| pc.address == datagram.to && !pc.asleep)
        {
            pc.tunnel.handle_datagram(self.now, &datagram.data);
        }
    }

    /// Takes what both ends have to tell and to send.
    pub(super) fn exchange(&mut self) {
        let now = self.now;
        let mut buffer = Vec::new();
        let mut sent = Vec::new();
        while let Some(event) = self.gateway.poll_event(now) {
            self.events.push(event);
        }
        loop {
            let admitted = &self.admitted;
            let outgoing = self
                .gateway
                .poll_transmit(now, MAX_SEGMENTS, &mut buffer, |id| admitted.contains(&id));
            let Some(Outgoing { to, transmit }) = outgoing else {
                break;
            };
            let Route::Udp { remote: to, .. } = to else {
                panic!("this world has no TLS connections: {to:?}");
            };
            for data in segments(&buffer, transmit) {
                self.sent_by_gateway.push((to, data.len()));
                sent.push(Datagram {
                    from: self.gateway_address,
                    to,
                    data: data.to_vec(),
                });
            }
        }
        for pc in self.pcs.iter_mut().filter(|pc| !pc.asleep) {
            while let Some(event) = pc.tunnel.poll_event() {
                pc.events.push(event);
            }
            while let Some(transmit) = pc.tunnel.poll_transmit(now, MAX_SEGMENTS, &mut buffer) {
                for data in segments(&buffer, transmit) {
                    sent.push(Datagram {
                        from: pc.address,
                        to: self.gateway_address,
                        data: data.to_vec(),
                    });
                }
            }
        }
        for datagram in sent {
            if let Some(recording) = &mut self.recording
                && datagram.to == self.gateway_address
            {
                recording.push(datagram.clone());
            }
            self.launch(datagram);
        }
    }

    fn launch(&mut self, datagram: Datagram) {
        let direction = if datagram.to == self.gateway_address {
            &mut self.up
        } else {
            &mut self.down
        };
        if let Some(arrival) = direction.carry(&self.path, self.now, datagram.data.len()) {
            self.serial += 1;
            self.flying.insert((arrival, self.serial), datagram);
        }
    }

    /// Takes all that is on its way off the air.
    pub(super) fn intercept(&mut self) -> Vec<Datagram> {
        self.exchange();
        std::mem::take(&mut self.flying).into_values().collect()
    }

    /// The first moment from `at` on that a timer can go off.
    fn grained(&self, at: Instant) -> Instant {
        let Some(grain) = NonZeroU128::new(self.timer_grain.as_nanos()) else {
            return at;
        };
        let since = at.saturating_duration_since(self.start).as_nanos();
        let ticks = since.div_ceil(grain.get());
        self.start + Duration::from_nanos((ticks * grain.get()) as u64)
    }

    /// What was told of connections that ended.
    pub(super) fn ends(&self) -> String {
        let gateway = self
            .events
            .iter()
            .filter(|event| matches!(event, server::Event::Disconnected { .. }));
        let pcs = self.pcs.iter().flat_map(|pc| &pc.events);
        let pcs = pcs.filter(|event| matches!(event, client::Event::Closed(_)));
        format!(
            "{:?}, {:?}",
            gateway.collect::<Vec<_>>(),
            pcs.collect::<Vec<_>>()
        )
    }

    /// Opens a stream and returns it as the gateway sees it.
    pub(super) fn open_stream(&mut self, pc: usize) -> StreamId {
        let stream = self.pcs[pc].tunnel.open_stream().unwrap();
        let opened = server::Event::StreamOpened(self.pcs[pc].id, stream);
        self.run_until("opened", |world| world.events.contains(&opened));
        stream
    }

    /// Moves `data` from the PC to the gateway and returns what arrived there.
    pub(super) fn upload(&mut self, pc: usize, stream: StreamId, data: &[u8]) -> Vec<u8> {
        let id = self.pcs[pc].id;
        let mut left = Bytes::copy_from_slice(data);
        let mut arrived = Vec::new();
        let mut finished = false;
        self.run_until("uploaded", |world| {
            let tunnel = &mut world.pcs[pc].tunnel;
            if !left.is_empty() {
                tunnel.write(stream, &mut left).unwrap();
                if left.is_empty() {
                    tunnel.finish(stream).unwrap();
                }
            }
            if !finished {
                loop {
                    match world.gateway.read(id, stream, usize::MAX).unwrap() {
                        Read::Data(data) => arrived.extend_from_slice(&data),
                        Read::Blocked => break,
                        Read::Finished => {
                            finished = true;
                            break;
                        }
                    }
                }
            }
            finished
        });
        arrived
    }

    /// Moves `data` from the gateway to the PC and returns what arrived there.
    pub(super) fn download(&mut self, pc: usize, stream: StreamId, data: &[u8]) -> Vec<u8> {
        let id = self.pcs[pc].id;
        let mut left = Bytes::copy_from_slice(data);
        let mut arrived = Vec::new();
        let mut finished = false;
        self.run_until("downloaded", |world| {
            if !left.is_empty() {
                world.gateway.write(id, stream, &mut left).unwrap();
                if left.is_empty() {
                    world.gateway.finish(id, stream).unwrap();
                }
            }
            finished |= drain_pc(&mut world.pcs[pc].tunnel, stream, &mut arrived);
            finished
        });
        arrived
    }

    /// A gateway without peers and with other TLS settings takes the place of the first.
    pub(super) fn replace_gateway(&mut self, tls: Arc<rustls::ServerConfig>) {
        let config = ServerConfig {
            secret_key: self.gateway_key.clone(),
            inner_address: gateway_inner(),
            tls,
        };
        self.gateway = ServerTunnels::new(config, self.now).unwrap();
    }

    pub(super) fn gateway_key(&self) -> &SecretKey {
        &self.gateway_key
    }
}

/// Reads what is there. True if that was all there will be.
pub(super) fn drain_pc(tunnel: &mut ClientTunnel, stream: StreamId, arrived: &mut Vec<u8>) -> bool {
    loop {
        match tunnel.read(stream, usize::MAX) {
            Ok(Read::Data(data)) => arrived.extend_from_slice(&data),
            Ok(Read::Blocked) => return false,
            Ok(Read::Finished) => return true,
            Err(error) => panic!("{error}"),
        }
    }
}

pub(super) fn segments(buffer: &[u8], transmit: Transmit) -> impl Iterator<Item = &[u8]> {
    buffer[..transmit.len].chunks(transmit.segment_size)
}

/// Bytes in which every position shows.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as u8 ^ (at >> 8) as u8)
        .collect()
}
