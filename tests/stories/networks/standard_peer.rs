//! A standard WireGuard peer carries a session: wireguard-go stands in for the agent's half.
//!
//! The story is the agent here: it takes a grant with a real device's certificate, gives the
//! session's keys to Debian's wireguard-go, and runs the agent's QUIC half over the interface.

use std::net::{SocketAddr, SocketAddrV6};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BytesMut};
use protocol::Bytes32;
use protocol::agent_api::{
    AgentGrant, Enrolled, GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, SessionRequest, TUNNEL_ALPN,
    session_message,
};
use quinn_proto::{DatagramEvent, Dir, Event, StreamId, WriteError};
use renkei_tests::Process;
use renkei_tests::network::Place;
use renkei_tests::pages::Site;
use renkei_tests::process::{output, wait_for};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::time_provider::DefaultTimeProvider;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tunnel::STREAM_TO_PORTAL;
use tunnel::keys::SecretKey;
use tunnel::quic::QuicHalf;

use super::office::{Family, GATEWAY_HOST, Office, Town};

/// How long wireguard-go may take to make its interface, in seconds.
const START_PATIENCE_S: u64 = 10;
/// What waits for the stream at a time, in bytes.
const WAITING_LIMIT_BYTES: usize = 64 * 1024;

#[test]
fn wireguard_go_carries_the_agents_quic_to_the_sign_in_page() -> Result<()> {
    let town = Town::new()?;
    let office = town.office(Family::V4)?;
    let device = Device::of(&office)?;
    let secret_key = SecretKey::generate()?;
    let api = &town.stage.gateway_url();
    let grant = office.pc.run(async || {
        device
            .ask_for_session(api, *secret_key.public_key().as_bytes())
            .await
    })?;

    let logs = tempfile::tempdir()?;
    let peer = StandardPeer::start(&office.pc, logs.path(), &secret_key, &grant)?;
    let tls = device.tls_inside()?;
    office.pc.run(async || {
        let socket = UdpSocket::bind((grant.inner_address, 0)).await?;
        let gateway = SocketAddrV6::new(GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, 0, 0);
        let name = &grant.gateway_certificate_name;
        let quic = QuicHalf::connect(tls, gateway, name, now())?;
        let proxy = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = proxy.local_addr()?.to_string();
        let site = Site::new(
            &town.stage.member_url(),
            &town.stage.ca_file(),
            Some(&address),
        )?;
        let carried = async {
            let browser = accept_connect(&proxy).await?;
            carry(quic, &socket, gateway.into(), browser).await
        };
        tokio::select! {
            page = site.open("/sign-in") => page?.must_say("ログイン").map(drop),
            ended = carried => bail!("the stream ended before the page came: {ended:?}"),
        }
    })?;
    let handshake =
        output(
            office
                .pc
                .command("wg")
                .args(["show", &peer.interface, "latest-handshakes"]),
        )?;
    ensure!(
        !handshake.trim_end().ends_with("\t0"),
        "the page came another way: {handshake}"
    );
    Ok(())
}

/// An enrolled PC's own things.
struct Device {
    pkcs8: Vec<u8>,
    enrolled: Enrolled,
}

impl Device {
    /// Reads what the office's agent stored when it was enrolled.
    fn of(office: &Office) -> Result<Self> {
        let folder = office.enrolled_data().join("enrolments");
        let folder = std::fs::read_dir(&folder)?
            .next()
            .context("an enrolment")??
            .path();
        let record: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("enrolment.json"))?)?;
        Ok(Self {
            pkcs8: std::fs::read(folder.join("device-key"))?,
            enrolled: serde_json::from_value(record["progress"].clone())?,
        })
    }

    async fn ask_for_session(&self, api: &str, public_key: [u8; 32]) -> Result<AgentGrant> {
        let wireguard_public_key = Bytes32(public_key);
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.pkcs8, &random)
            .ok()
            .context("a device key")?;
        let message = session_message(&self.enrolled.device, &wireguard_public_key);
        let signature = key.sign(&random, &message).ok().context("a signature")?;
        let request = SessionRequest {
            wireguard_public_key,
            signature: protocol::Der(signature.as_ref().to_vec()),
        };
        let identity = [
            pem("CERTIFICATE", &self.enrolled.certificate.0),
            pem("PRIVATE KEY", &self.pkcs8),
        ]
        .concat();
        let client = reqwest::Client::builder()
            .no_proxy()
            .identity(reqwest::Identity::from_pem(identity.as_bytes())?)
            .tls_certs_only([reqwest::Certificate::from_der(
                &self.enrolled.service_authority.0,
            )?])
            // The story's own thread has no hosts file of the office.
            .resolve(GATEWAY_HOST, super::office::gateway_address(Family::V4)?)
            .build()?;
        let answer = client
            .post(format!("{api}/v1/sessions"))
            .json(&request)
            .send()
            .await?;
        let status = answer.status();
        ensure!(status.is_success(), "{status}: {}", answer.text().await?);
        Ok(answer.json().await?)
    }

    fn tls_inside(&self) -> Result<Arc<rustls::ClientConfig>> {
        let mut authorities = RootCertStore::empty();
        authorities.add(CertificateDer::from(
            self.enrolled.service_authority.0.clone(),
        ))?;
        let identity = tunnel::tls::Identity {
            chain: vec![CertificateDer::from(self.enrolled.certificate.0.clone())],
            key: PrivatePkcs8KeyDer::from(self.pkcs8.clone()).into(),
        };
        let clock = Arc::new(DefaultTimeProvider);
        Ok(tunnel::tls::client_config(
            identity,
            authorities,
            TUNNEL_ALPN,
            clock,
        )?)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// wireguard-go with one interface.
struct StandardPeer {
    interface: String,
    _process: Process,
}

impl StandardPeer {
    fn start(pc: &Place, folder: &Path, key: &SecretKey, grant: &AgentGrant) -> Result<Self> {
        // Its control socket has the interface's name, in a folder that all namespaces share.
        let interface = format!("rk{}", std::process::id());
        let mut command = pc.command("wireguard-go");
        command.args(["-f", &interface]);
        let mut process = Process::start("wireguard-go", folder, &mut command)
            .context("wireguard-go (Debian's package wireguard-go)")?;
        pc.run(async || {
            wait_for("wireguard-go", START_PATIENCE_S, async || {
                process.check_running()?;
                Ok(output(pc.command("wg").args(["show", &interface]))
                    .is_ok()
                    .then_some(()))
            })
            .await
        })?;
        let (secret, preshared) = (folder.join("secret"), folder.join("preshared"));
        std::fs::write(&secret, Bytes32(*key.to_bytes()).to_string())?;
        std::fs::write(&preshared, grant.preshared_key.to_string())?;
        let endpoint = grant.endpoints.first().context("an endpoint")?;
        let gateway = format!("{GATEWAY_INNER_ADDRESS}/128");
        output(
            pc.command("wg")
                .args(["set", &interface, "private-key"])
                .arg(secret)
                .args(["peer", &grant.gateway_public_key.to_string()])
                .arg("preshared-key")
                .arg(preshared)
                .args(["endpoint", &endpoint.to_string()])
                .args(["allowed-ips", &gateway]),
        )?;
        pc.address(&interface, &format!("{}/128", grant.inner_address))?;
        pc.ip(&["-6", "route", "add", &gateway, "dev", &interface])?;
        Ok(Self {
            interface,
            _process: process,
        })
    }
}

/// Answers one CONNECT as the agent's proxy does.
async fn accept_connect(proxy: &TcpListener) -> Result<TcpStream> {
    let (mut browser, _) = proxy.accept().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(browser.read_u8().await?);
    }
    ensure!(head.starts_with(b"CONNECT "), "no CONNECT");
    browser.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    Ok(browser)
}

/// Carries what `browser` says over one stream of the connection, until either ends.
async fn carry(
    mut quic: QuicHalf,
    socket: &UdpSocket,
    gateway: SocketAddr,
    mut browser: TcpStream,
) -> Result<()> {
    let mut stream: Option<StreamId> = None;
    let mut up = BytesMut::from(&[STREAM_TO_PORTAL][..]);
    let (mut datagram, mut transmit) = (vec![0; tunnel::MAX_DATAGRAM_BYTES], Vec::new());
    let mut from_browser = vec![0; WAITING_LIMIT_BYTES];
    loop {
        while let Some(event) = quic.connection.poll() {
            match event {
                Event::Connected => stream = quic.connection.streams().open(Dir::Bi),
                Event::ConnectionLost { reason } => bail!("connection lost: {reason}"),
                _ => {}
            }
        }
        if let Some(id) = stream {
            match quic.connection.send_stream(id).write(&up) {
                Ok(written) => up.advance(written),
                Err(WriteError::Blocked) => {}
                Err(error) => bail!("stream: {error}"),
            }
            let down = read(&mut quic, id)?;
            browser.write_all(&down).await?;
        }
        while let Some(sent) = quic.connection.poll_transmit(now(), 1, &mut transmit) {
            socket.send_to(&transmit[..sent.size], gateway).await?;
            transmit.clear();
        }
        while let Some(event) = quic.connection.poll_endpoint_events() {
            if let Some(event) = quic.endpoint.handle_event(quic.handle, event) {
                quic.connection.handle_event(event);
            }
        }
        let timeout = quic.connection.poll_timeout();
        tokio::select! {
            received = socket.recv_from(&mut datagram) => {
                let (length, from) = received?;
                let mut answer = Vec::new();
                let bytes = BytesMut::from(&datagram[..length]);
                let event = quic.endpoint.handle(now(), from, None, None, bytes, &mut answer);
                if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
                    quic.connection.handle_event(event);
                }
            }
            () = at(timeout) => quic.connection.handle_timeout(now()),
            read = browser.read(&mut from_browser), if up.len() < WAITING_LIMIT_BYTES => {
                match read? {
                    0 => return Ok(()),
                    length => up.extend_from_slice(&from_browser[..length]),
                }
            }
        }
    }
}

fn read(quic: &mut QuicHalf, stream: StreamId) -> Result<Vec<u8>> {
    let mut down = Vec::new();
    let mut received = quic.connection.recv_stream(stream);
    let mut chunks = received.read(true)?;
    while let Ok(Some(chunk)) = chunks.next(WAITING_LIMIT_BYTES) {
        down.extend_from_slice(&chunk.bytes);
    }
    let _ = chunks.finalize();
    Ok(down)
}

async fn at(timeout: Option<Instant>) {
    match timeout {
        Some(timeout) => tokio::time::sleep_until(timeout.into()).await,
        None => std::future::pending().await,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the story runs on the machine's clock"
)]
fn now() -> Instant {
    Instant::now()
}
