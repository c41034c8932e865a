//! The data path over real sockets on loopback: one PC, one gateway, one pretended portal.

use std::net::Ipv4Addr;

use bytes::Bytes;
use protocol::agent_api::{EndCode, TunnelMessage};
use protocol::control::Grant;
use protocol::proxy::{Claim, HEADER_BYTES};
use protocol::{Bytes32, DeviceId, Generation, SessionId};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::RootCertStore;
use rustls::time_provider::DefaultTimeProvider;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tunnel::client::{ClientConfig, ClientTunnel, Event};
use tunnel::frames::{self, Decoder, Frames};
use tunnel::keys::{PresharedKey, PublicKey};
use tunnel::tls::{self, Identity};
use tunnel::{CloseReason, MAX_SEGMENTS, Read, ReadError, StreamId};
use uuid::Uuid;

mod greedy;
mod over_tls;

use super::*;
use crate::grants::Refused;
use crate::tls_tunnel::Entrance;

const LIMIT: Duration = Duration::from_secs(20);
const GATEWAY: &str = "one.gateway.renkei.internal";
const PROXY_KEY: Bytes32 = Bytes32([5; 32]);
const MEGABYTE: usize = 1_000_000;

struct Office {
    addresses: Vec<SocketAddr>,
    entrance: Entrance,
    gateway_key: PublicKey,
    commands: mpsc::Sender<Command>,
    ended: mpsc::Receiver<Ended>,
    path: JoinHandle<Result<(), DataPathError>>,
    portal: TcpListener,
    services: CertifiedIssuer<'static, KeyPair>,
    devices: CertifiedIssuer<'static, KeyPair>,
    sessions: u128,
    grants: Vec<Grant>,
}

struct Pc {
    session: SessionId,
    certificate_sha256: Bytes32,
    socket: Socket,
    /// In use instead of the socket, if there is one.
    tls: Option<OverTls>,
    heard_from: Option<SocketAddr>,
    gateway: SocketAddr,
    tunnel: ClientTunnel,
    batch: Batch,
    buffer: Vec<u8>,
    events: Vec<Event>,
}

/// What a TLS connection would carry, without the TLS.
struct OverTls {
    io: DuplexStream,
    decoder: Decoder,
    reads: bool,
    is_over: bool,
}

impl OverTls {
    /// Waits for datagrams; for ever if there are none to come.
    async fn next(way: &mut Option<Self>) -> Frames {
        let Some(tls) = way.as_mut().filter(|tls| tls.reads && !tls.is_over) else {
            return std::future::pending().await;
        };
        let read = tls.io.read_buf(tls.decoder.memory()).await.unwrap();
        tls.is_over = read == 0;
        tls.decoder.take().unwrap()
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, issuer).unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        key: key.into(),
    }
}

fn roots(issuer: &CertifiedIssuer<'static, KeyPair>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    roots
}

fn unix_ms(at: time::OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap()
}

impl Office {
    async fn open() -> Self {
        let (services, devices) = (authority(), authority());
        let portal = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let secret_key = SecretKey::generate().unwrap();
        let gateway_key = secret_key.public_key();
        let path = DataPath::bind(DataPathConfig {
            listen: vec![(Ipv4Addr::LOCALHOST, 0).into(); 2],
            secret_key,
            tls: tls::server_config(
                leaf(&services, GATEWAY, ExtendedKeyUsagePurpose::ServerAuth),
                roots(&devices),
                b"test/1",
                Arc::new(DefaultTimeProvider),
            )
            .unwrap(),
            portal_member: portal.local_addr().unwrap(),
            stream_memory_bytes: 64 * 1024 * 1024,
        })
        .await
        .unwrap();
        let addresses = path.local_addrs().unwrap();
        let (entrance, carried) = Entrance::new();
        let (commands, queue) = mpsc::channel(16);
        let (reports, ended) = mpsc::channel(16);
        Self {
            addresses,
            entrance,
            gateway_key,
            commands,
            ended,
            path: tokio::spawn(path.run(queue, carried, reports)),
            portal,
            services,
            devices,
            sessions: 0,
            grants: Vec::new(),
        }
    }

    /// Lets a PC in for `seconds`.
    async fn admit(&mut self, seconds: i64) -> Pc {
        self.sessions += 1;
        let number = self.sessions;
        let secret_key = SecretKey::generate().unwrap();
        let identity = leaf(&self.devices, "device", ExtendedKeyUsagePurpose::ClientAuth);
        let certificate: [u8; 32] = {
            use sha2::Digest as _;
            sha2::Sha256::digest(&identity.chain[0]).into()
        };
        let certificate_sha256 = Bytes32(certificate);
        let now = clock::now();
        let inner_address = (GATEWAY_INNER_ADDRESS.to_bits() + number).into();
        let session = SessionId::from_uuid(Uuid::from_u128(number));
        let grant = Grant {
            session,
            generation: Generation::new(1),
            device: DeviceId::from_uuid(Uuid::from_u128(number)),
            device_certificate_sha256: certificate_sha256,
            wireguard_public_key: Bytes32(*secret_key.public_key().as_bytes()),
            preshared_key: Bytes32([3; 32]),
            inner_address,
            deadline_ms: unix_ms(now.wall) + seconds * 1000,
            deadline_reason: EndCode::TimeLimit,
            proxy_key: PROXY_KEY,
        };
        self.grants.push(grant.clone());
        self.install(grant).await.unwrap();
        let config = ClientConfig {
            secret_key,
            gateway_key: self.gateway_key,
            preshared_key: PresharedKey::from_bytes([3; 32]),
            inner_address,
            gateway_inner: SocketAddrV6::new(GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, 0, 0),
            server_name: GATEWAY.to_owned(),
            tls: tls::client_config(
                identity,
                roots(&self.services),
                b"test/1",
                Arc::new(DefaultTimeProvider),
            )
            .unwrap(),
        };
        Pc {
            session,
            certificate_sha256,
            tls: None,
            heard_from: None,
            socket: Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap(),
            gateway: self.addresses[0],
            tunnel: ClientTunnel::new(config, now.mono).unwrap(),
            batch: Batch::new(),
            buffer: Vec::new(),
            events: Vec::new(),
        }
    }

    async fn install(&self, grant: Grant) -> Result<(), Refused> {
        let (installed, answer) = oneshot::channel();
        let command = Command::Install {
            grant: Box::new(grant),
            server_time: clock::now().wall,
            installed,
        };
        self.commands.send(command).await.unwrap();
        answer.await.unwrap()
    }

    fn last_grant(&self, pc: &Pc) -> Grant {
        let mut grants = self.grants.iter();
        grants
            .find(|grant| grant.session == pc.session)
            .unwrap()
            .clone()
    }

    async fn end(&self, session: SessionId, reason: EndCode) {
        let command = Command::End {
            session,
            through: Generation::LAST,
            reason,
        };
        self.commands.send(command).await.unwrap();
    }

    /// Takes the next connection as the portal would, its header verified.
    async fn accept(&self) -> (TcpStream, protocol::proxy::Verified) {
        let (mut stream, _) = within(self.portal.accept()).await.unwrap();
        let mut header = [0; HEADER_BYTES];
        within(stream.read_exact(&mut header)).await.unwrap();
        let claim = Claim::parse(&header).unwrap();
        (stream, claim.verify(&PROXY_KEY).unwrap())
    }

    async fn next_ended(&mut self) -> Ended {
        within(self.ended.recv()).await.unwrap()
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what)
        .await
        .expect("this does not take so long")
}

impl Pc {
    /// Does what the agent does until `done`.
    async fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let limit = tokio::time::Instant::now() + LIMIT;
        loop {
            while let Some(event) = self.tunnel.poll_event() {
                self.events.push(event);
            }
            let finished = done(self);
            let now = clock::now().mono;
            while let Some(sent) = self
                .tunnel
                .poll_transmit(now, MAX_SEGMENTS, &mut self.buffer)
            {
                if let Some(tls) = &mut self.tls {
                    let mut framed = Vec::new();
                    frames::write(&mut framed, &self.buffer, sent.segment_size);
                    // The gateway may have closed it.
                    let _ = tls.io.write_all(&framed).await;
                    continue;
                }
                let to = self.gateway;
                let sent = self.socket.send(to, &self.buffer, sent.segment_size);
                sent.await.unwrap();
            }
            if finished {
                return;
            }
            let wake = self.tunnel.poll_timeout().unwrap();
            tokio::select! {
                received = self.socket.recv(&mut self.batch) => {
                    received.unwrap();
                    let now = clock::now().mono;
                    for (from, datagram) in self.batch.datagrams() {
                        self.heard_from = Some(from);
                        self.tunnel.handle_datagram(now, datagram);
                    }
                }
                frames = OverTls::next(&mut self.tls) => {
                    let now = clock::now().mono;
                    for datagram in frames.datagrams() {
                        self.tunnel.handle_datagram(now, datagram);
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    self.tunnel.handle_timeout(clock::now().mono);
                }
                () = tokio::time::sleep_until(limit) => panic!("not {what}; {:?}", self.events),
            }
        }
    }

    async fn connect(&mut self) {
        self.run_until("connected", |pc| pc.events.contains(&Event::Connected))
            .await;
    }

    async fn told(&mut self, code: EndCode) {
        let closed = Event::Closed(CloseReason::ByPeer { code: code as u64 });
        self.run_until("told", |pc| pc.events.contains(&closed))
            .await;
    }

    /// Sends `up` on a stream and finishes it; returns all that comes back until the end.
    async fn exchange(&mut self, stream: StreamId, up: &[u8]) -> Result<Vec<u8>, ReadError> {
        let mut up = Bytes::copy_from_slice(up);
        let mut sending = true;
        let mut down = Vec::new();
        let mut end = None;
        self.run_until("exchanged", |pc| {
            if sending {
                let written = pc.tunnel.write(stream, &mut up);
                if written.is_err() {
                    sending = false;
                } else if up.is_empty() {
                    sending = false;
                    let _ = pc.tunnel.finish(stream);
                }
            }
            while end.is_none() {
                match pc.tunnel.read(stream, usize::MAX) {
                    Ok(Read::Data(data)) => down.extend_from_slice(&data),
                    Ok(Read::Blocked) => break,
                    Ok(Read::Finished) => end = Some(Ok(())),
                    Err(error) => end = Some(Err(error)),
                }
            }
            end.is_some()
        })
        .await;
        end.unwrap().map(|()| down)
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as u8 ^ (at >> 8) as u8)
        .collect()
}

#[tokio::test]
async fn a_stream_becomes_a_connection_to_the_portal_that_says_whose_it_is() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    let session = pc.session;
    pc.connect().await;
    let stream = pc.tunnel.open_stream().unwrap();
    let (up, down) = (pattern(8 * MEGABYTE), pattern(6 * MEGABYTE + 7));
    let expected = down.clone();
    let portal = async {
        let (mut connection, verified) = office.accept().await;
        let mut all = Vec::new();
        // The answer comes after the PC has finished: the half-close arrives.
        connection.read_to_end(&mut all).await.unwrap();
        connection.write_all(&down).await.unwrap();
        connection.shutdown().await.unwrap();
        (verified, all)
    };
    let (answer, (verified, all)) =
        within(async { tokio::join!(pc.exchange(stream, &up), portal) }).await;
    assert!(all == up);
    assert!(answer.unwrap() == expected);
    assert_eq!(verified.session, session);
    let inner = std::net::Ipv6Addr::from_bits(GATEWAY_INNER_ADDRESS.to_bits() + 1);
    assert_eq!(verified.inner_address, inner);
}

#[tokio::test]
async fn many_streams_at_once_do_not_mix() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    pc.connect().await;
    let mut streams = Vec::new();
    for number in 0..64u8 {
        let stream = pc.tunnel.open_stream().unwrap();
        let mut data = Bytes::from(vec![number; 10_000]);
        assert_eq!(pc.tunnel.write(stream, &mut data), Ok(10_000));
        pc.tunnel.finish(stream).unwrap();
        streams.push((stream, Vec::new(), false));
    }
    let portal = async {
        for _ in 0..64 {
            let (mut connection, _) = office.accept().await;
            tokio::spawn(async move {
                let mut all = Vec::new();
                connection.read_to_end(&mut all).await.unwrap();
                connection.write_all(&all).await.unwrap();
            });
        }
    };
    let agent = pc.run_until("echoed", |pc| {
        for (stream, arrived, finished) in &mut streams {
            while !*finished {
                match pc.tunnel.read(*stream, usize::MAX).unwrap() {
                    Read::Data(data) => arrived.extend_from_slice(&data),
                    Read::Blocked => break,
                    Read::Finished => *finished = true,
                }
            }
        }
        streams.iter().all(|stream| stream.2)
    });
    tokio::join!(agent, portal);
    for (number, (_, arrived, _)) in (0..).zip(&streams) {
        assert!(*arrived == vec![number; 10_000]);
    }
}

#[tokio::test]
async fn the_deadline_ends_a_session_tells_the_agent_and_is_reported() {
    let mut office = Office::open().await;
    let mut pc = office.admit(2).await;
    pc.connect().await;
    let stream = pc.tunnel.open_stream().unwrap();
    let mut data = Bytes::from_static(b"torn upload");
    pc.tunnel.write(stream, &mut data).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
    let ((mut connection, _), ()) = tokio::join!(office.accept(), pc.told(EndCode::TimeLimit));
    assert!(tokio::time::Instant::now() < deadline + Duration::from_secs(1));
    let ended = office.next_ended().await;
    assert_eq!(
        (ended.session, ended.reason),
        (pc.session, EndCode::TimeLimit)
    );
    assert!(ended.bytes_in > 1200 && ended.bytes_out > 1200, "{ended:?}");
    // The portal sees a broken connection, not the end of the data.
    let mut all = Vec::new();
    let end = within(connection.read_to_end(&mut all)).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_revoked_session_ends_at_once() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    pc.connect().await;
    office.end(pc.session, EndCode::Revoked).await;
    pc.told(EndCode::Revoked).await;
    let ended = office.next_ended().await;
    assert_eq!(
        (ended.session, ended.reason),
        (pc.session, EndCode::Revoked)
    );
}

#[tokio::test]
async fn an_agent_that_disconnects_ends_its_session() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    pc.connect().await;
    pc.tunnel
        .close(clock::now().mono, EndCode::Disconnected as u64);
    let mut turns = 0;
    pc.run_until("said goodbye", |_| {
        turns += 1;
        turns > 1
    })
    .await;
    let ended = office.next_ended().await;
    assert_eq!(
        (ended.session, ended.reason),
        (pc.session, EndCode::Disconnected)
    );
}

#[tokio::test]
async fn whoever_is_missing_from_the_snapshot_is_out() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    pc.connect().await;
    let snapshot = Command::Snapshot {
        grants: Vec::new(),
        server_time: clock::now().wall,
    };
    office.commands.send(snapshot).await.unwrap();
    pc.told(EndCode::GatewayStopped).await;
    assert_eq!(office.next_ended().await.session, pc.session);
}

#[tokio::test]
async fn a_deadline_that_comes_nearer_is_told_to_the_agent() {
    let mut office = Office::open().await;
    let mut pc = office.admit(600).await;
    pc.connect().await;
    let mut grant = office.last_grant(&pc);
    grant.deadline_ms = unix_ms(clock::now().wall) + 60_000;
    grant.deadline_reason = EndCode::ClosingTime;
    let deadline_ms = grant.deadline_ms;
    office.install(grant).await.unwrap();
    let message = TunnelMessage::Deadline {
        deadline_ms,
        reason: EndCode::ClosingTime,
    };
    pc.run_until("told of the deadline", |pc| {
        pc.events.iter().any(|event| {
            matches!(event, Event::Message(text) if serde_json::from_slice::<TunnelMessage>(text).unwrap() == message)
        })
    })
    .await;
}

#[tokio::test]
async fn stopping_tells_every_agent_and_the_portal() {
    let mut office = Office::open().await;
    let (mut one, mut two) = (office.admit(60).await, office.admit(60).await);
    one.connect().await;
    two.connect().await;
    let (done, stopped) = oneshot::channel();
    office
        .commands
        .send(Command::Shutdown { done })
        .await
        .unwrap();
    within(stopped).await.unwrap();
    one.told(EndCode::GatewayStopped).await;
    two.told(EndCode::GatewayStopped).await;
    for _ in 0..2 {
        let ended = office.next_ended().await;
        assert_eq!(ended.reason, EndCode::GatewayStopped);
    }
    within(office.path).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_portal_that_is_down_costs_the_stream_and_not_the_session() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    pc.connect().await;
    let address = office.portal.local_addr().unwrap();
    office.portal = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stream = pc.tunnel.open_stream().unwrap();
    assert_eq!(
        pc.exchange(stream, b"hello?").await,
        Err(ReadError::Reset(RESET_PORTAL_UNREACHABLE))
    );
    office.portal = TcpListener::bind(address).await.unwrap();
    let stream = pc.tunnel.open_stream().unwrap();
    let portal = async {
        let (mut connection, _) = office.accept().await;
        connection.write_all(b"here again").await.unwrap();
        let mut all = Vec::new();
        connection.read_to_end(&mut all).await.unwrap();
    };
    let (answer, ()) = tokio::join!(pc.exchange(stream, b"hello?"), portal);
    assert_eq!(answer.unwrap(), b"here again");
}

#[tokio::test]
async fn a_connection_that_the_portal_breaks_off_is_reset_and_not_ended() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    pc.connect().await;
    let stream = pc.tunnel.open_stream().unwrap();
    let portal = async {
        let (mut connection, _) = office.accept().await;
        connection.write_all(b"half an ans").await.unwrap();
        let socket = socket2::SockRef::from(&connection);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    };
    let (answer, ()) = tokio::join!(pc.exchange(stream, b"question"), portal);
    assert_eq!(answer, Err(ReadError::Reset(RESET_BY_PORTAL)));
}

#[tokio::test]
async fn a_stream_that_the_agent_resets_is_broken_off_at_the_portal() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    pc.connect().await;
    let stream = pc.tunnel.open_stream().unwrap();
    let mut data = Bytes::from_static(b"half an upl");
    pc.tunnel.write(stream, &mut data).unwrap();
    let mut connection = None;
    let accepted = async { connection = Some(office.accept().await.0) };
    let mut turns = 0;
    let sent = pc.run_until("sent", |_| {
        turns += 1;
        turns > 3
    });
    tokio::join!(accepted, sent);
    let mut connection = connection.unwrap();
    pc.tunnel.reset(stream, 9);
    pc.tunnel.stop(stream, 9);
    let mut all = Vec::new();
    let reset = async { within(connection.read_to_end(&mut all)).await };
    let mut turns = 0;
    let told = pc.run_until("told", |_| {
        turns += 1;
        turns > 2
    });
    let (end, ()) = tokio::join!(reset, told);
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(b"half an upl".starts_with(&all));
}

#[tokio::test]
async fn a_portal_that_reads_nothing_stops_the_agent_and_bounds_memory() {
    let mut office = Office::open().await;
    let mut pc = office.admit(60).await;
    pc.connect().await;
    let stream = pc.tunnel.open_stream().unwrap();
    let data = pattern(60 * MEGABYTE);
    let mut left = Bytes::from(data.clone());
    let mut quiet_since = tokio::time::Instant::now();
    let stalled = pc.run_until("stalled", |pc| {
        if pc.tunnel.write(stream, &mut left).unwrap() > 0 {
            quiet_since = tokio::time::Instant::now();
        }
        quiet_since.elapsed() > Duration::from_millis(800)
    });
    let ((mut connection, _), ()) = tokio::join!(office.accept(), stalled);
    let taken = data.len() - left.len();
    assert!(taken < 40 * MEGABYTE, "{taken} bytes taken");
    // Once the portal reads, everything arrives.
    let portal = async move {
        let mut all = Vec::new();
        connection.read_to_end(&mut all).await.unwrap();
        all
    };
    let rest = left.clone();
    let (all, _) = tokio::join!(portal, pc.exchange(stream, &rest));
    assert!(all == data);
}
