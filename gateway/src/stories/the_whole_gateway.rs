//! The parts put together: one device asks for a session, connects by the tunnel, reaches the
//! portal's member listener, and is told when the gateway stops.

use std::net::{SocketAddr, SocketAddrV6};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use protocol::agent_api::{
    AgentGrant, EndCode, GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, TUNNEL_ALPN,
};
use protocol::control::{GatewayHello, SessionEnded};
use protocol::proxy::{Claim, HEADER_BYTES};
use protocol::{Bytes32, GatewayName};
use rustls::time_provider::DefaultTimeProvider;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tunnel::client::{ClientConfig, ClientTunnel, Event};
use tunnel::keys::{PresharedKey, PublicKey, SecretKey};
use tunnel::{CloseReason, MAX_SEGMENTS, Read};
use udp::{Batch, Socket};

use super::authorities::{Fund, Leaf};
use super::gateway::{Client, LONG, grant, opened, session};
use super::portal::RehearsedPortal;
use crate::clock;
use crate::config::{Config, HttpsUrl, OperatorListener, PortalAddresses, TlsFiles};
use crate::serve::Gateway;

#[tokio::test]
async fn a_device_gets_through_to_the_portal_and_hears_when_the_gateway_stops() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let member = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = settings(
        &fund,
        folder.path(),
        portal.address,
        member.local_addr().unwrap(),
    );
    let gateway = Gateway::bind(&config).await.unwrap();
    let listening = gateway.listening().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(gateway.run(async {
        let _ = stopped.await;
    }));
    let hello = portal.was_asked("POST /control/v1/register", 1).await;
    let hello: GatewayHello = serde_json::from_slice(&hello.body).unwrap();
    assert_eq!(hello.endpoints, listening.udp);
    assert_eq!(hello.url, format!("https://{}", listening.tls));

    // The session, over TLS.
    let device = fund.device();
    let secret_key = SecretKey::generate().unwrap();
    let mut granted = grant(1, &device);
    granted.wireguard_public_key = Bytes32(*secret_key.public_key().as_bytes());
    let mut answer = opened(granted.clone());
    answer.agent.gateway_public_key = hello.wireguard_public_key;
    portal.answers(
        "POST /v1/sessions",
        200,
        serde_json::to_vec(&answer).unwrap(),
    );
    let client = Client::new(fund.client(Some(&device)), &config.name, listening.tls);
    let agent = open_session(&client).await;

    // The tunnel, over UDP.
    let mut pc = Pc::new(&fund, &device, secret_key, &agent, hello.endpoints[0]).await;
    pc.until(|pc| pc.events.contains(&Event::Connected)).await;
    let serving = tokio::spawn(async move {
        let (mut connection, _) = member.accept().await.unwrap();
        let mut header = [0; HEADER_BYTES];
        connection.read_exact(&mut header).await.unwrap();
        let mut question = String::new();
        connection.read_to_string(&mut question).await.unwrap();
        connection.write_all(b"welcome").await.unwrap();
        (header, question)
    });
    assert_eq!(pc.ask(b"hello").await, b"welcome");
    let (header, question) = serving.await.unwrap();
    assert_eq!(question, "hello");
    let claim = Claim::parse(&header).unwrap();
    let verified = claim.verify(&granted.proxy_key).unwrap();
    assert_eq!(verified.session, session(1));
    assert_eq!(verified.inner_address, granted.inner_address);

    // The end.
    stop.send(()).unwrap();
    let told = Event::Closed(CloseReason::ByPeer {
        code: EndCode::GatewayStopped as u64,
    });
    pc.until(|pc| pc.events.contains(&told)).await;
    let line = format!("POST /control/v1/sessions/{}/ended", session(1));
    let report = portal.was_asked(&line, 1).await;
    let report: SessionEnded = serde_json::from_slice(&report.body).unwrap();
    assert_eq!(report.reason, EndCode::GatewayStopped);
    assert!(report.bytes_in > 0 && report.bytes_out > 0);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_public_certificate_is_shown_to_agents_if_there_is_one() {
    let (fund, public) = (Fund::new(), Fund::new());
    let folder = tempfile::tempdir().unwrap();
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let mut config = settings(&fund, folder.path(), nowhere, nowhere);
    let files = TlsFiles {
        certificate_file: folder.path().join("public.pem"),
        key_file: folder.path().join("public.key"),
    };
    let leaf = public.service(&config.name.certificate_name());
    leaf.write(&files.certificate_file, &files.key_file);
    config.tls = Some(files);
    let gateway = Gateway::bind(&config).await.unwrap();
    let tls = gateway.listening().tls;
    let running = tokio::spawn(gateway.run(std::future::pending()));
    let get = async |fund: &Fund| {
        let client = Client::new(fund.client(None), &config.name, tls);
        let request = client.request(hyper::Method::GET, "/");
        client.send(request).await.map(|got| got.status.as_u16())
    };
    assert_eq!(get(&public).await.unwrap(), 404);
    assert!(get(&fund).await.is_err());
    running.abort();
}

#[tokio::test]
async fn an_identity_of_another_gateway_is_refused() {
    let fund = Fund::new();
    let folder = tempfile::tempdir().unwrap();
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let mut config = settings(&fund, folder.path(), nowhere, nowhere);
    config.name = "osaka".parse().unwrap();
    let Err(error) = Gateway::bind(&config).await else {
        panic!("started as another gateway");
    };
    assert!(error.to_string().contains("osaka.gateway.renkei.internal"));
    assert!(!folder.path().join("state/listening.json").exists());
}

pub(super) async fn open_session(client: &Client) -> AgentGrant {
    // The first tries may come before the first snapshot.
    let trying = async {
        loop {
            let got = client.post("/v1/sessions", "{}").await;
            if got.status == 200 {
                return serde_json::from_slice(&got.body).unwrap();
            }
        }
    };
    tokio::time::timeout(LONG, trying)
        .await
        .expect("let in in time")
}

pub(super) fn settings(
    fund: &Fund,
    folder: &Path,
    control: SocketAddr,
    member: SocketAddr,
) -> Config {
    let name: GatewayName = "tokyo-1".parse().unwrap();
    fund.write_identity(folder, &name);
    Config {
        name,
        udp_listen: vec!["127.0.0.1:0".parse().unwrap(); 2],
        tls_listen: "127.0.0.1:0".parse().unwrap(),
        public_endpoints: Vec::new(),
        public_url: None,
        identity_dir: folder.to_owned(),
        state_dir: folder.join("state"),
        stream_memory_mb: 64,
        tls: None,
        operator: Some(OperatorListener {
            listen: "127.0.0.1:0".parse().unwrap(),
        }),
        portal: PortalAddresses {
            control_url: HttpsUrl::try_from(format!("https://{control}")).unwrap(),
            member_address: member,
        },
    }
}

/// A PC's end of the tunnel.
struct Pc {
    socket: Socket,
    gateway: SocketAddr,
    tunnel: ClientTunnel,
    events: Vec<Event>,
}

/// A PC's half of a granted tunnel.
pub(super) fn tunnel(
    fund: &Fund,
    device: &Leaf,
    secret_key: SecretKey,
    agent: &AgentGrant,
) -> ClientTunnel {
    let identity = tunnel::tls::Identity {
        chain: vec![device.certificate.clone()],
        key: device.private_key(),
    };
    let roots = fund.services.roots();
    let clock = Arc::new(DefaultTimeProvider);
    let config = ClientConfig {
        secret_key,
        gateway_key: PublicKey::from_bytes(agent.gateway_public_key.0),
        preshared_key: PresharedKey::from_bytes(agent.preshared_key.0),
        inner_address: agent.inner_address,
        gateway_inner: SocketAddrV6::new(GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, 0, 0),
        server_name: agent.gateway_certificate_name.clone(),
        tls: tunnel::tls::client_config(identity, roots, TUNNEL_ALPN, clock).unwrap(),
    };
    ClientTunnel::new(config, clock::now().mono).unwrap()
}

impl Pc {
    async fn new(
        fund: &Fund,
        device: &Leaf,
        secret_key: SecretKey,
        agent: &AgentGrant,
        gateway: SocketAddr,
    ) -> Self {
        Self {
            socket: Socket::bind("127.0.0.1:0".parse().unwrap()).await.unwrap(),
            gateway,
            tunnel: tunnel(fund, device, secret_key, agent),
            events: Vec::new(),
        }
    }

    /// Runs the tunnel until `done`.
    async fn until(&mut self, done: impl FnMut(&mut Self) -> bool) {
        let running = tokio::time::timeout(LONG, self.run(done));
        running.await.expect("it happens in time");
    }

    async fn run(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let (mut batch, mut buffer) = (Batch::new(), Vec::new());
        loop {
            while let Some(event) = self.tunnel.poll_event() {
                self.events.push(event);
            }
            let finished = done(self);
            let now = clock::now().mono;
            while let Some(sent) = self.tunnel.poll_transmit(now, MAX_SEGMENTS, &mut buffer) {
                let sending = self.socket.send(self.gateway, &buffer, sent.segment_size);
                sending.await.unwrap();
            }
            if finished {
                return;
            }
            let wake = self.tunnel.poll_timeout().unwrap();
            tokio::select! {
                received = self.socket.recv(&mut batch) => {
                    received.unwrap();
                    let now = clock::now().mono;
                    for (_, datagram) in batch.datagrams() {
                        self.tunnel.handle_datagram(now, datagram);
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    self.tunnel.handle_timeout(clock::now().mono);
                }
            }
        }
    }

    /// Sends a question on a stream of its own and returns the answer.
    async fn ask(&mut self, question: &'static [u8]) -> Vec<u8> {
        let stream = self.tunnel.open_stream().unwrap();
        let mut question = Bytes::from_static(question);
        self.tunnel.write(stream, &mut question).unwrap();
        assert!(question.is_empty());
        self.tunnel.finish(stream).unwrap();
        let mut answer = Vec::new();
        self.until(|pc| {
            loop {
                match pc.tunnel.read(stream, usize::MAX).unwrap() {
                    Read::Data(data) => answer.extend_from_slice(&data),
                    Read::Blocked => return false,
                    Read::Finished => return true,
                }
            }
        })
        .await;
        answer
    }
}
