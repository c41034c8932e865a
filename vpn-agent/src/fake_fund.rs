//! A fund for tests: its authorities, a gateway with the agent API over real TLS, and the
//! gateway's end of real tunnels, whose streams answer with what they are sent.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use protocol::agent_api::{
    AgentGrant, CertificateRenewed, CertificateRequest, EndCode, Enrolled, EnrolmentOpened,
    EnrolmentRequest, EnrolmentState, GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, Refusal,
    RefusalCode, ServiceStatus, SessionRequest, TUNNEL_ALPN, move_message, session_message,
};
use protocol::{Bytes32, Der, DeviceId, EnrolmentId, SessionId};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tunnel::keys::{PresharedKey, PublicKey, SecretKey};
use tunnel::server::{PeerConfig, PeerId, ServerConfig, ServerTunnels};
use udp::Socket;
use uuid::Uuid;

use crate::clock::{Clock, to_unix_ms};
use crate::secret::random_bytes;

mod tunnels;

use tunnels::TunnelCommand;

pub const CODE: &str = "GOOD-CODE";
pub const PORTAL: &str = "https://portal.fund.example.jp/";
const POLL_TOKEN: &str = "poll-token";
const GATEWAY_NAME: &str = "test.gateway.renkei.internal";

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// What staff and the calendar would decide.
#[derive(Default)]
pub struct Decisions {
    pub approve: bool,
    pub turn_down: Option<String>,
    pub refuse_sessions: Option<Refusal>,
    /// Make approvals for some other key.
    pub foreign_certificate: bool,
    pub session_length: Option<Duration>,
    pub ended: Vec<SessionId>,
    pub sessions_granted: usize,
    /// How often a session was taken over.
    pub moves: usize,
    pub refuse_moves: Option<Refusal>,
    /// What the status says of the gateways and of the PC's certificate.
    pub listed_gateways: Vec<String>,
    pub certificate_expires_ms: Option<i64>,
    pub renewals: usize,
    deadline_ms: i64,
    /// What `GET /v1/tunnel` leads to.
    pub fallback: Fallback,
    /// How many TLS connections have carried the tunnel.
    pub fallbacks: u64,
    /// Besides the one that is there: UDP endpoints that the grant names first.
    pub other_endpoints: Vec<SocketAddr>,
    certificate_request: Option<Der>,
    device_public_key: Vec<u8>,
}

/// What the gateway makes of a request to carry the tunnel over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fallback {
    #[default]
    Carries,
    /// As a gateway that does not know it.
    NotFound,
    /// Agrees, and breaks off in the middle of a frame.
    BreaksOff,
    /// Agrees, and sends no frames.
    SendsGarbage,
}

pub struct FakeFund {
    pub url: String,
    pub decisions: Arc<Mutex<Decisions>>,
    service: Arc<Issuer>,
    tunnels: mpsc::UnboundedSender<TunnelCommand>,
}

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    CertifiedIssuer::self_signed(params, key).unwrap()
}

/// The gateway's certificate is valid from yesterday for 60 days.
fn gateway_identity(
    issuer: &Issuer,
    now: OffsetDateTime,
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let names = vec!["localhost".into(), "127.0.0.1".into(), GATEWAY_NAME.into()];
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = now - Duration::from_secs(86_400);
    params.not_after = now + Duration::from_secs(60 * 86_400);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    (certificate.der().clone(), key)
}

impl FakeFund {
    pub async fn start() -> Self {
        let now = Clock::system(None).now().wall;
        let (service, device) = (authority("service"), Arc::new(authority("device")));
        let service = Arc::new(service);
        let (certificate, key) = gateway_identity(&service, now);
        let mut device_roots = RootCertStore::empty();
        device_roots.add(device.der().clone()).unwrap();
        let device_roots = Arc::new(device_roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(device_roots.clone(), provider.clone())
                .allow_unauthenticated()
                .build()
                .unwrap();
        let server = |alpn: Option<&[u8]>| {
            let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_client_cert_verifier(verifier.clone())
                .with_single_cert(vec![certificate.clone()], key.clone_key())
                .unwrap();
            config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
            Arc::new(config)
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let socket = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let udp = socket.local_addr().unwrap();
        let secret_key = SecretKey::generate().unwrap();
        let gateway_key = secret_key.public_key();
        let tls = server(Some(TUNNEL_ALPN));
        let make = move || {
            let config = ServerConfig {
                secret_key: secret_key.clone(),
                inner_address: SocketAddrV6::new(GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, 0, 0),
                tls: tls.clone(),
            };
            ServerTunnels::new(config, tunnels::instant()).unwrap()
        };
        let (sender, commands) = mpsc::unbounded_channel();
        tokio::spawn(tunnels::serve(socket, make, commands));
        let decisions = Arc::new(Mutex::new(Decisions::default()));
        let api = Api {
            url: url.clone(),
            decisions: decisions.clone(),
            device,
            service: service.clone(),
            gateway_key,
            udp,
            tunnels: sender.clone(),
        };
        tokio::spawn(serve_api(
            listener,
            TlsAcceptor::from(server(None)),
            Arc::new(api),
        ));
        Self {
            url,
            decisions,
            service,
            tunnels: sender,
        }
    }

    /// The service authority as the settings' `gateway_ca_file` has it.
    pub fn ca_pem(&self) -> String {
        self.service.pem()
    }

    pub fn end_session(&self, session: SessionId, code: EndCode) {
        let peer = PeerId(session.as_uuid().as_u128());
        self.tunnels
            .send(TunnelCommand::Remove(peer, code))
            .unwrap();
    }

    /// Ends the next session in the middle of QUIC's handshake.
    pub fn end_who_connects(&self, code: EndCode) {
        self.tunnels
            .send(TunnelCommand::RemoveWhoConnects(code))
            .unwrap();
    }

    /// No datagram comes through the network in either direction, whatever carries it.
    pub fn mute(&self, mute: bool) {
        self.tunnels.send(TunnelCommand::Mute(mute)).unwrap();
    }

    /// No UDP comes through the network in either direction.
    pub fn drop_udp(&self, drop: bool) {
        self.tunnels.send(TunnelCommand::DropUdp(drop)).unwrap();
    }

    /// Whatever the PC's sockets of before send is lost, as after it left their network.
    pub fn leave_the_network(&self) {
        self.tunnels.send(TunnelCommand::LeaveNetwork).unwrap();
    }

    /// The gateway is killed, started again, and has its grants from the portal.
    pub fn forget_connections(&self) {
        self.tunnels.send(TunnelCommand::Forget).unwrap();
    }

    pub fn decide(&self, change: impl FnOnce(&mut Decisions)) {
        change(&mut self.decisions.lock().unwrap());
    }
}

struct Api {
    url: String,
    decisions: Arc<Mutex<Decisions>>,
    device: Arc<Issuer>,
    service: Arc<Issuer>,
    gateway_key: PublicKey,
    udp: SocketAddr,
    tunnels: mpsc::UnboundedSender<TunnelCommand>,
}

async fn serve_api(listener: TcpListener, acceptor: TlsAcceptor, api: Arc<Api>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, api) = (acceptor.clone(), api.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let certificate = stream
                .get_ref()
                .1
                .peer_certificates()
                .map(|chain| chain[0].to_vec());
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let (api, certificate) = (api.clone(), certificate.clone());
                async move {
                    if request.uri().path() == "/v1/tunnel" {
                        assert!(certificate.is_some(), "only devices may");
                        return Ok(api.carry(request));
                    }
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let token = head
                        .headers
                        .get("authorization")
                        .map(|value| value.to_str().unwrap().to_owned());
                    let (status, json) =
                        api.answer(&head.method, head.uri.path(), token, &body, certificate);
                    let mut response = Response::new(Full::new(Bytes::from(json)));
                    *response.status_mut() = status;
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

pub fn refusal(code: RefusalCode, sentence: &str) -> Refusal {
    Refusal {
        code,
        sentence: sentence.into(),
        next_opening_ms: None,
        server_time_ms: None,
    }
}

impl Api {
    fn answer(
        &self,
        method: &Method,
        path: &str,
        token: Option<String>,
        body: &[u8],
        certificate: Option<Vec<u8>>,
    ) -> (StatusCode, String) {
        let server_time_ms = to_unix_ms(Clock::system(None).now().wall);
        let no = |refusal: Refusal| (StatusCode::FORBIDDEN, json(&refusal));
        if method == Method::POST && path == "/v1/enrolments" {
            let request: EnrolmentRequest = serde_json::from_slice(body).unwrap();
            if request.code != CODE {
                return no(refusal(RefusalCode::WrongCode, "登録コードが違います。"));
            }
            self.decisions.lock().unwrap().certificate_request = Some(request.certificate_request);
            return (
                StatusCode::OK,
                json(&EnrolmentOpened {
                    enrolment: EnrolmentId::from_uuid(Uuid::from_u128(5)),
                    poll_token: POLL_TOKEN.into(),
                    server_time_ms,
                }),
            );
        }
        if path.starts_with("/v1/enrolments/") {
            assert_eq!(token.as_deref(), Some("Bearer poll-token"));
            return (StatusCode::OK, json(&self.decision()));
        }
        let Some(certificate) = certificate else {
            return no(refusal(RefusalCode::NoDevice, "登録されていません。"));
        };
        if path == "/v1/status" {
            let decisions = self.decisions.lock().unwrap();
            let status = ServiceStatus {
                server_time_ms,
                open: true,
                sentence: None,
                next_opening_ms: None,
                rehearsal: true,
                gateways: decisions.listed_gateways.clone(),
                certificate_expires_ms: decisions.certificate_expires_ms,
            };
            drop(decisions);
            return (StatusCode::OK, json(&status));
        }
        if path == "/v1/device/certificate" {
            let asked: CertificateRequest = serde_json::from_slice(body).unwrap();
            return (StatusCode::OK, json(&self.renew(asked, server_time_ms)));
        }
        if let Some(id) = path
            .strip_prefix("/v1/sessions/")
            .and_then(|rest| rest.strip_suffix("/move"))
        {
            if let Some(refusal) = self.decisions.lock().unwrap().refuse_moves.clone() {
                return no(refusal);
            }
            let request: SessionRequest = serde_json::from_slice(body).unwrap();
            let moved = Some(id.parse().unwrap());
            let grant = self.grant(&request, &certificate, server_time_ms, moved);
            return (StatusCode::OK, json(&grant));
        }
        if let Some(id) = path
            .strip_prefix("/v1/sessions/")
            .and_then(|rest| rest.strip_suffix("/end"))
        {
            let id: SessionId = id.parse().unwrap();
            self.decisions.lock().unwrap().ended.push(id);
            let peer = PeerId(id.as_uuid().as_u128());
            let _ = self
                .tunnels
                .send(TunnelCommand::Remove(peer, EndCode::Disconnected));
            return (StatusCode::NO_CONTENT, String::new());
        }
        assert_eq!(path, "/v1/sessions");
        if let Some(refusal) = self.decisions.lock().unwrap().refuse_sessions.clone() {
            return no(refusal);
        }
        let request: SessionRequest = serde_json::from_slice(body).unwrap();
        (
            StatusCode::OK,
            json(&self.grant(&request, &certificate, server_time_ms, None)),
        )
    }

    /// `GET /v1/tunnel`: hands the connection over to the tunnels.
    fn carry(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        assert_eq!(request.headers()["upgrade"], "renkei-wireguard");
        let mut decisions = self.decisions.lock().unwrap();
        let mut answer = Response::new(Full::default());
        let fallback = decisions.fallback;
        if fallback == Fallback::NotFound {
            *answer.status_mut() = StatusCode::NOT_FOUND;
            return answer;
        }
        decisions.fallbacks += 1;
        let (number, tunnels) = (decisions.fallbacks, self.tunnels.clone());
        tokio::spawn(async move {
            let stream = hyper::upgrade::on(request).await.unwrap();
            tunnels::carry(TokioIo::new(stream), number, tunnels, fallback).await;
        });
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert("connection", "upgrade".parse().unwrap());
        headers.insert("upgrade", "renkei-wireguard".parse().unwrap());
        answer
    }

    fn decision(&self) -> EnrolmentState {
        let mut decisions = self.decisions.lock().unwrap();
        if let Some(sentence) = decisions.turn_down.clone() {
            return EnrolmentState::Refused { sentence };
        }
        if !decisions.approve {
            return EnrolmentState::Pending;
        }
        let request = decisions.certificate_request.clone().unwrap();
        let request = CertificateSigningRequestParams::from_der(&request.0.into()).unwrap();
        decisions.device_public_key = request.public_key.der_bytes().to_vec();
        let certificate = if decisions.foreign_certificate {
            let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
            CertificateParams::default()
                .signed_by(&other, &self.device)
                .unwrap()
        } else {
            request.signed_by(&self.device).unwrap()
        };
        EnrolmentState::Approved(Box::new(Enrolled {
            device: device_id(),
            certificate: Der(certificate.der().to_vec()),
            service_authority: Der(self.service.der().to_vec()),
            fund_name: "見本企業年金基金".into(),
            establishment: "0123".parse().unwrap(),
            establishment_name: "株式会社見本".into(),
            portal_url: PORTAL.into(),
            portal_key_sha256: None,
            gateways: vec![self.url.clone()],
        }))
    }

    fn grant(
        &self,
        request: &SessionRequest,
        certificate: &[u8],
        server_time_ms: i64,
        moved: Option<SessionId>,
    ) -> AgentGrant {
        let mut decisions = self.decisions.lock().unwrap();
        let key = &request.wireguard_public_key;
        let message = match &moved {
            Some(session) => move_message(&device_id(), session, key),
            None => session_message(&device_id(), key),
        };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &decisions.device_public_key)
            .verify(&message, &request.signature.0)
            .expect("the request is signed by the device");
        let session = moved.unwrap_or_else(|| SessionId::from_uuid(Uuid::new_v4()));
        match moved {
            Some(_) => {
                decisions.moves += 1;
                let peer = PeerId(session.as_uuid().as_u128());
                let _ = self
                    .tunnels
                    .send(TunnelCommand::Remove(peer, EndCode::Moved));
            }
            None => decisions.sessions_granted += 1,
        }
        let preshared_key = Bytes32(random_bytes().unwrap());
        let inner_address = "fd72:656e:6b65:6900::5".parse().unwrap();
        let hash = digest(&SHA256, certificate).as_ref().try_into().unwrap();
        let peer = PeerConfig {
            public_key: PublicKey::from_bytes(request.wireguard_public_key.0),
            preshared_key: PresharedKey::from_bytes(preshared_key.0),
            inner_address,
            device_certificate_sha256: hash,
        };
        let id = PeerId(session.as_uuid().as_u128());
        self.tunnels.send(TunnelCommand::Add(id, peer)).unwrap();
        let length = decisions.session_length.unwrap_or(access::SESSION_LIMIT);
        if moved.is_none() {
            decisions.deadline_ms = server_time_ms + i64::try_from(length.as_millis()).unwrap();
        }
        AgentGrant {
            session,
            gateway_public_key: Bytes32(*self.gateway_key.as_bytes()),
            preshared_key,
            inner_address,
            endpoints: [&decisions.other_endpoints[..], &[self.udp]].concat(),
            gateway_certificate_name: GATEWAY_NAME.into(),
            deadline_ms: decisions.deadline_ms,
            deadline_reason: EndCode::TimeLimit,
            server_time_ms,
            portal_url: PORTAL.into(),
            code_mailed_to: Some("t***@example.jp".into()),
            gateways: decisions.listed_gateways.clone(),
        }
    }

    fn renew(&self, asked: CertificateRequest, server_time_ms: i64) -> CertificateRenewed {
        let mut decisions = self.decisions.lock().unwrap();
        let request =
            CertificateSigningRequestParams::from_der(&asked.certificate_request.0.into()).unwrap();
        assert_eq!(
            request.public_key.der_bytes(),
            decisions.device_public_key,
            "the key never changes"
        );
        decisions.renewals += 1;
        let expires_ms = server_time_ms + 1000 * 24 * 60 * 60 * 1000;
        decisions.certificate_expires_ms = Some(expires_ms);
        let certificate = request.signed_by(&self.device).unwrap();
        CertificateRenewed {
            certificate: Der(certificate.der().to_vec()),
            expires_ms,
        }
    }
}

fn device_id() -> DeviceId {
    DeviceId::from_uuid(Uuid::from_u128(9))
}
