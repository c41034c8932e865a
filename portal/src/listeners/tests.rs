//! The three doors, over real sockets and real TLS.

use super::*;
use crate::authority::{CONTROL_NAME, Identity};
use crate::devices::tests::{Fund, Pc};
use crate::testing::{TestDb, rehearsal, sqlite};

use std::net::{Ipv6Addr, SocketAddrV6};

use axum::Extension;
use axum::routing::get;
use protocol::control::SessionOpened;
use protocol::proxy;
use protocol::{Bytes32, SessionId};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::web::principals::{OfficeConnection, TunnelConnection};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A portal with small pages, listening.
struct Portal {
    fund: Fund,
    addresses: Addresses,
    serving: tokio::task::JoinHandle<Result<(), ListenError>>,
    _db: TestDb,
}

impl Portal {
    async fn start() -> Self {
        let db = sqlite().await;
        let fund = Fund::on(rehearsal(&db).await).await;
        let listeners = Listeners::bind(&fund.app).await.unwrap();
        let addresses = listeners.addresses().unwrap();
        let routers = Routers {
            member: Router::new().route(
                "/",
                get(
                    |Extension(tunnel): Extension<TunnelConnection>| async move {
                        format!("member {} {}", tunnel.session, tunnel.inner_address)
                    },
                ),
            ),
            office: Router::new().route(
                "/",
                get(
                    |Extension(office): Extension<OfficeConnection>| async move {
                        format!("office {}", office.peer.ip())
                    },
                ),
            ),
        };
        let serving = tokio::spawn(listeners.serve(fund.app.clone(), routers));
        Self {
            fund,
            addresses,
            serving,
            _db: db,
        }
    }

    fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        let root = self.fund.app.authorities.service_certificate().clone();
        roots.add(root).unwrap();
        roots
    }

    /// Asks the control listener with a certificate, or none. `None` if it does not answer.
    async fn control(&self, identity: Option<&Identity>, path: &str) -> Option<String> {
        let stream = TcpStream::connect(self.addresses.control).await.unwrap();
        let tls = client(self.roots(), identity);
        let mut stream = handshake(stream, tls, CONTROL_NAME).await?;
        ask(&mut stream, path).await
    }

    async fn connect(&self, pc: &Pc) -> SessionOpened {
        self.fund.connect(pc).await.unwrap()
    }

    /// Comes to the member listener with these bytes first. `None` if it hangs up.
    async fn member(&self, first: &[u8]) -> Option<TlsStream<TcpStream>> {
        let mut stream = TcpStream::connect(self.addresses.member).await.unwrap();
        stream.write_all(first).await.unwrap();
        handshake(stream, client(self.roots(), None), "renkei.example.jp").await
    }
}

fn client(roots: rustls::RootCertStore, identity: Option<&Identity>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        Some(identity) => config
            .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())
            .unwrap(),
        None => config.with_no_client_auth(),
    }
}

async fn handshake(
    stream: TcpStream,
    tls: ClientConfig,
    name: &str,
) -> Option<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connecting = TlsConnector::from(Arc::new(tls)).connect(name, stream);
    let connected = tokio::time::timeout(PATIENCE, connecting).await;
    connected.expect("an answer in time").ok()
}

/// Sends a request and returns status line and body. In TLS 1.3 a client hears that its
/// certificate was refused only here.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let read = tokio::time::timeout(PATIENCE, reading).await;
    read.expect("an end in time").ok()?;
    (!answer.is_empty()).then(|| String::from_utf8(answer).unwrap())
}

fn header(opened: &SessionOpened) -> Vec<u8> {
    let grant = &opened.grant;
    header_of(grant.session, grant.inner_address, &grant.proxy_key)
}

fn header_of(session: SessionId, inner: Ipv6Addr, key: &Bytes32) -> Vec<u8> {
    let source = SocketAddrV6::new(inner, 40_000, 0, 0);
    let destination = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 443, 0, 0);
    proxy::encode(session, source, destination, key)
}

/// A certificate that nobody here signed.
fn foreign() -> Identity {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let name = "tokyo-1.gateway.renkei.internal".to_owned();
    let params = rcgen::CertificateParams::new(vec![name]).unwrap();
    Identity {
        certificate: params.self_signed(&key).unwrap().der().clone(),
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    }
}

fn device_identity(pc: &Pc) -> Identity {
    Identity {
        certificate: CertificateDer::from(pc.certificate.clone()),
        key: PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pc.key.serialize_der())),
    }
}

#[tokio::test]
async fn the_control_listener_answers_a_gateway_and_nobody_else() {
    let portal = Portal::start().await;
    let pc = portal.fund.device("PC-1").await;
    let gateway = &portal.fund.gateway_identity;
    let answer = portal.control(Some(gateway), "/nothing").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let answer = portal.control(Some(gateway), "/v1/status").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "no device: {answer}");

    assert_eq!(portal.control(None, "/v1/status").await, None, "a stranger");
    let device = device_identity(&pc);
    assert_eq!(portal.control(Some(&device), "/v1/status").await, None);
    let foreign = foreign();
    assert_eq!(portal.control(Some(&foreign), "/v1/status").await, None);
    let app = &portal.fund.app;
    let listener = app.authorities.issue_control(app.clock.now()).unwrap();
    assert_eq!(portal.control(Some(&listener), "/v1/status").await, None);
}

#[tokio::test]
async fn a_gateway_that_is_retired_or_unknown_is_forbidden_everything() {
    let portal = Portal::start().await;
    let app = &portal.fund.app;
    let name = "osaka-1".parse().unwrap();
    let unknown = app
        .authorities
        .issue_gateway(&name, &[], app.clock.now())
        .unwrap();
    let answer = portal.control(Some(&unknown), "/v1/status").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    sqlx::query("UPDATE gateways SET retired_ms = 1")
        .execute(app.db.pool())
        .await
        .unwrap();
    let gateway = &portal.fund.gateway_identity;
    for path in ["/v1/status", "/control/v1/grants", "/nothing"] {
        let answer = portal.control(Some(gateway), path).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn the_control_listener_speaks_nothing_older_than_tls_1_3() {
    let portal = Portal::start().await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let old = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(portal.roots())
        .with_no_client_auth();
    let stream = TcpStream::connect(portal.addresses.control).await.unwrap();
    assert!(handshake(stream, old, CONTROL_NAME).await.is_none());
}

#[tokio::test]
async fn a_live_session_reaches_the_member_pages_and_they_know_it() {
    let portal = Portal::start().await;
    let pc = portal.fund.device("PC-1").await;
    let opened = portal.connect(&pc).await;
    let mut stream = portal.member(&header(&opened)).await.unwrap();
    let answer = ask(&mut stream, "/").await.unwrap();
    let grant = &opened.grant;
    let expected = format!("member {} {}", grant.session, grant.inner_address);
    assert!(answer.ends_with(&expected), "{answer}");
}

#[tokio::test]
async fn nobody_reaches_the_member_pages_without_a_gateway_s_word() {
    let portal = Portal::start().await;
    let pc = portal.fund.device("PC-1").await;
    let opened = portal.connect(&pc).await;
    let grant = &opened.grant;
    let nobody = SessionId::from_uuid(uuid::Uuid::now_v7());
    let nobodys_key =
        crate::tunnel_sessions::proxy_key(&portal.fund.app.keys, nobody, grant.inner_address);
    let elsewhere = Ipv6Addr::LOCALHOST;
    for (why, first) in [
        ("no header at all", Vec::new()),
        (
            "forged",
            header_of(grant.session, grant.inner_address, &Bytes32([0; 32])),
        ),
        (
            "another address",
            header_of(grant.session, elsewhere, &grant.proxy_key),
        ),
        (
            "no such session",
            header_of(nobody, grant.inner_address, &nobodys_key),
        ),
        (
            "a plain PROXY header",
            b"PROXY TCP6 ::1 ::1 1 443\r\n".repeat(5),
        ),
    ] {
        assert!(portal.member(&first).await.is_none(), "{why}");
    }
    portal.fund.revoke(pc.id).await.unwrap();
    assert!(portal.member(&header(&opened)).await.is_none(), "ended");
}

#[tokio::test]
async fn an_idle_connection_is_cut_within_two_seconds_of_the_session_s_end() {
    let portal = Portal::start().await;
    let pc = portal.fund.device("PC-1").await;
    let opened = portal.connect(&pc).await;
    let mut stream = portal.member(&header(&opened)).await.unwrap();
    // As another portal would: without a word inside this process.
    let app = &portal.fund.app;
    let mut tx = app.db.begin().await.unwrap();
    let reason = protocol::agent_api::EndCode::Revoked;
    crate::tunnel_sessions::store::end_of_device(&mut tx, pc.id, reason, app.clock.now())
        .await
        .unwrap();
    crate::db::Db::commit(tx).await.unwrap();
    let mut byte = [0];
    let limit = Duration::from_secs(2);
    let cut = tokio::time::timeout(limit, stream.read(&mut byte)).await;
    assert!(matches!(cut.expect("cut in time"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn the_office_knows_where_its_visitors_come_from() {
    let portal = Portal::start().await;
    let stream = TcpStream::connect(portal.addresses.office).await.unwrap();
    let tls = client(portal.roots(), None);
    let mut stream = handshake(stream, tls, "office.example.jp").await.unwrap();
    let answer = ask(&mut stream, "/").await.unwrap();
    assert!(answer.ends_with("office 127.0.0.1"), "{answer}");
}

#[tokio::test]
async fn stopping_ends_the_listeners_although_a_feed_is_open() {
    let portal = Portal::start().await;
    let gateway = &portal.fund.gateway_identity;
    let stream = TcpStream::connect(portal.addresses.control).await.unwrap();
    let tls = client(portal.roots(), Some(gateway));
    let mut stream = handshake(stream, tls, CONTROL_NAME).await.unwrap();
    let request = b"GET /control/v1/grants HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    portal.fund.app.signals.stop();
    let ended = tokio::time::timeout(STOP_TIMEOUT, portal.serving).await;
    ended.expect("in time").unwrap().unwrap();
}
