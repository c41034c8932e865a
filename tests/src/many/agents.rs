//! PCs played in this process: the agent's tunnel on a socket of its own, and the agent API
//! asked as the agent asks it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use protocol::agent_api::{
    AgentGrant, GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, SessionRequest, TUNNEL_ALPN,
    session_message,
};
use protocol::{Bytes32, Der};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::time_provider::DefaultTimeProvider;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsConnector;
use tunnel::client::{ClientConfig, ClientTunnel, Event};
use tunnel::keys::{PresharedKey, PublicKey, SecretKey};
use tunnel::{MAX_DATAGRAM_BYTES, MAX_SEGMENTS, StreamId, tls};

use super::fund::Pc;
use super::now;
use crate::Stage;

/// How long opening one session may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a refused or cut connection to the agent API is tried again.
const TRIES: usize = 5;
/// What a working session writes at a time, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;

/// All PCs.
pub(super) struct Agents {
    pcs: Vec<Pc>,
    authorities: Arc<RootCertStore>,
    gateway: SocketAddr,
    api: SocketAddr,
    signer: EcdsaKeyPair,
}

/// One open session.
pub(super) struct Link {
    gateway_key: PublicKey,
    handshake: Vec<u8>,
    works: watch::Sender<bool>,
    connected: Arc<AtomicBool>,
}

impl Agents {
    pub(super) fn new(stage: &Stage, pcs: Vec<Pc>) -> Result<Self> {
        let mut authorities = RootCertStore::empty();
        authorities.add(CertificateDer::from_pem_file(stage.ca_file())?)?;
        let PrivateKeyDer::Pkcs8(key) = &*pcs.first().context("a PC")?.key else {
            bail!("a PKCS #8 key");
        };
        let signer = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            key.secret_pkcs8_der(),
            &SystemRandom::new(),
        );
        Ok(Self {
            authorities: Arc::new(authorities),
            gateway: stage.gateway_udp(),
            api: stage.gateway_api(),
            signer: signer.ok().context("the PCs' key")?,
            pcs,
        })
    }

    /// Opens the session of PC `number` from `address`, and waits until the tunnel carries.
    pub(super) async fn open(&self, number: usize, address: IpAddr) -> Result<Link> {
        let opened = tokio::time::timeout(PATIENCE, self.open_patiently(number, address)).await;
        opened
            .ok()
            .with_context(|| format!("PC {number} not connected within {PATIENCE:?}"))?
            .with_context(|| format!("PC {number}"))
    }

    async fn open_patiently(&self, number: usize, address: IpAddr) -> Result<Link> {
        let pc = &self.pcs[number];
        let secret = SecretKey::generate()?;
        let grant = self.ask(pc, &secret, address).await?;
        let socket = UdpSocket::bind((address, 0)).await?;
        socket.connect(self.gateway).await?;
        // Until the reactor has seen the socket once, every try says that it would block.
        socket.writable().await?;
        let gateway_key = PublicKey::from_bytes(grant.gateway_public_key.0);
        let tls = tls::client_config(
            tls::Identity {
                chain: vec![pc.certificate.clone()],
                key: pc.key.clone_key(),
            },
            (*self.authorities).clone(),
            TUNNEL_ALPN,
            Arc::new(DefaultTimeProvider),
        )?;
        let mut tunnel = ClientTunnel::new(
            ClientConfig {
                secret_key: secret,
                gateway_key,
                preshared_key: PresharedKey::from_bytes(grant.preshared_key.0),
                inner_address: grant.inner_address,
                gateway_inner: SocketAddrV6::new(GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, 0, 0),
                server_name: grant.gateway_certificate_name,
                tls,
            },
            now(),
        )?;
        let mut handshake = Vec::new();
        tunnel.poll_transmit(now(), 1, &mut handshake);
        socket.send(&handshake).await?;
        let (works, orders) = watch::channel(false);
        let connected = Arc::new(AtomicBool::new(false));
        let told = Arc::new(Notify::new());
        let session = Session {
            socket,
            tunnel,
            orders,
            connected: Arc::clone(&connected),
            told: Arc::clone(&told),
            stream: None,
        };
        tokio::spawn(session.run());
        told.notified().await;
        Ok(Link {
            gateway_key,
            handshake,
            works,
            connected,
        })
    }

    /// `POST /v1/sessions`, again if the connection was cut.
    async fn ask(&self, pc: &Pc, secret: &SecretKey, address: IpAddr) -> Result<AgentGrant> {
        let key = Bytes32(*secret.public_key().as_bytes());
        let signature = self
            .signer
            .sign(&SystemRandom::new(), &session_message(&pc.id, &key))
            .ok()
            .context("signature")?;
        let body = serde_json::to_vec(&SessionRequest {
            wireguard_public_key: key,
            signature: Der(signature.as_ref().to_vec()),
        })?;
        let mut last = None;
        for _ in 0..TRIES {
            match self.post(pc, &body, address).await {
                Ok(answer) => return Ok(serde_json::from_slice(&answer)?),
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(last.context("no try")?)
    }

    async fn post(&self, pc: &Pc, body: &[u8], address: IpAddr) -> Result<Vec<u8>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(address, 0))?;
        let stream = socket.connect(self.api).await?;
        stream.set_nodelay(true)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(Arc::clone(&self.authorities))
            .with_client_auth_cert(vec![pc.certificate.clone()], pc.key.clone_key())?;
        let name = ServerName::from(self.api.ip());
        let mut stream = TlsConnector::from(Arc::new(tls))
            .connect(name, stream)
            .await?;
        let head = format!(
            "POST /v1/sessions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            self.api,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let body = answer.split_off(end.context("an answer")? + 4);
        if !answer.starts_with(b"HTTP/1.1 200") {
            bail!(
                "{} {}",
                String::from_utf8_lossy(&answer),
                String::from_utf8_lossy(&body)
            );
        }
        Ok(body)
    }
}

impl Link {
    /// Whether the tunnel is there.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Lets the session upload without end, or stops it.
    pub(super) fn work(&self, works: bool) {
        self.works.send_replace(works);
    }

    /// The first handshake message, as anybody on the way could have recorded it.
    pub(super) fn recorded_handshake(&self) -> Vec<u8> {
        self.handshake.clone()
    }

    /// The gateway's WireGuard key, as everybody with a grant knows it.
    pub(super) fn gateway_key(&self) -> PublicKey {
        self.gateway_key
    }
}

/// One PC's tunnel on its socket.
struct Session {
    socket: UdpSocket,
    tunnel: ClientTunnel,
    orders: watch::Receiver<bool>,
    connected: Arc<AtomicBool>,
    told: Arc<Notify>,
    stream: Option<StreamId>,
}

impl Session {
    async fn run(mut self) {
        let mut datagram = [0; MAX_DATAGRAM_BYTES];
        loop {
            self.tell();
            self.upload();
            if self.send().await.is_err() {
                break;
            }
            let wake = self.tunnel.poll_timeout();
            let sleep = wake.map(|at| tokio::time::sleep_until(at.into()));
            tokio::select! {
                received = self.socket.recv(&mut datagram) => {
                    if let Ok(length) = received {
                        self.tunnel.handle_datagram(now(), &datagram[..length]);
                    }
                    while let Ok(length) = self.socket.try_recv(&mut datagram) {
                        self.tunnel.handle_datagram(now(), &datagram[..length]);
                    }
                }
                () = async { match sleep { Some(sleep) => sleep.await, None => std::future::pending().await } } => {}
                changed = self.orders.changed() => if changed.is_err() { break },
            }
            self.tunnel.handle_timeout(now());
        }
        self.connected.store(false, Ordering::Relaxed);
    }

    fn tell(&mut self) {
        while let Some(event) = self.tunnel.poll_event() {
            match event {
                Event::Connected => {
                    self.connected.store(true, Ordering::Relaxed);
                    self.told.notify_one();
                }
                Event::Closed(_) => self.connected.store(false, Ordering::Relaxed),
                Event::StreamReadable(_)
                | Event::StreamWritable(_)
                | Event::StreamStopped { .. }
                | Event::StreamsAvailable
                | Event::Message(_) => {}
            }
        }
    }

    fn upload(&mut self) {
        static CHUNK: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
        match (*self.orders.borrow_and_update(), self.stream) {
            (true, None) => self.stream = self.tunnel.open_stream(),
            (false, Some(stream)) => {
                self.tunnel.reset(stream, 0);
                self.stream = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
        if let Some(stream) = self.stream {
            let mut data = Bytes::from_static(&CHUNK);
            while let Ok(1..) = self.tunnel.write(stream, &mut data) {
                data = Bytes::from_static(&CHUNK);
            }
        }
    }

    async fn send(&mut self) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(transmit) = self.tunnel.poll_transmit(now(), MAX_SEGMENTS, &mut buffer) {
            for datagram in buffer[..transmit.len].chunks(transmit.segment_size) {
                self.socket.send(datagram).await?;
            }
        }
        Ok(())
    }
}

/// A right handshake initiation to `gateway` by a key that nobody knows.
pub(super) fn initiation_to(gateway: PublicKey) -> Result<Vec<u8>> {
    let unknown = tls::client_config(
        unknown_identity()?,
        RootCertStore::empty(),
        TUNNEL_ALPN,
        Arc::new(DefaultTimeProvider),
    )?;
    let mut tunnel = ClientTunnel::new(
        ClientConfig {
            secret_key: SecretKey::generate()?,
            gateway_key: gateway,
            preshared_key: PresharedKey::from_bytes([0; 32]),
            inner_address: GATEWAY_INNER_ADDRESS,
            gateway_inner: SocketAddrV6::new(GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, 0, 0),
            server_name: "unknown.test".to_owned(),
            tls: unknown,
        },
        now(),
    )?;
    let mut message = Vec::new();
    tunnel.poll_transmit(now(), 1, &mut message);
    Ok(message)
}

fn unknown_identity() -> Result<tls::Identity> {
    let made = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
    Ok(tls::Identity {
        chain: vec![made.cert.der().clone()],
        key: made.signing_key.into(),
    })
}
