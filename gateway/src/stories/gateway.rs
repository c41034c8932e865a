//! A gateway's edge in one process: agent API, feed and reports, with the real rules of
//! [`Grants`] behind the channel where the data path would be.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use access::Moment;
use bytes::Bytes;
use protocol::agent_api::{AgentGrant, EndCode};
use protocol::control::{GatewayHello, Grant, SessionOpened};
use protocol::{Bytes32, DeviceId, GatewayName, Generation, SessionId};
use reqwest::StatusCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use uuid::Uuid;

use super::authorities::{Fund, Leaf};
use super::portal::RehearsedPortal;
use crate::agent_api::{AgentApi, Patience};
use crate::clock;
use crate::commands::{COMMAND_QUEUE, Command, ENDED_QUEUE, Ended};
use crate::config::HttpsUrl;
use crate::feed::{Feed, FeedState, SILENCE_LIMIT};
use crate::grants::{Event, Grants, unix_ms};
use crate::identity::{Identity, fingerprint};
use crate::portal::Portal;
use crate::reports;

/// How long a story waits for what must happen.
pub const LONG: Duration = Duration::from_secs(20);

/// The gateway's edge.
pub struct Edge {
    pub address: SocketAddr,
    pub feed: watch::Receiver<FeedState>,
    pub data_path: DataPath,
    name: GatewayName,
    _tasks: JoinSet<()>,
}

/// How a story's gateway differs from the usual one.
#[derive(Clone, Copy)]
pub struct Ways {
    pub patience: Patience,
    pub silence: Duration,
}

impl Default for Ways {
    fn default() -> Self {
        Self {
            patience: Patience::default(),
            silence: SILENCE_LIMIT,
        }
    }
}

/// What the data path holds.
#[derive(Clone)]
pub struct DataPath {
    grants: Arc<Mutex<Grants>>,
    changed: watch::Sender<u64>,
}

impl Edge {
    /// Starts and waits for the first snapshot.
    pub async fn start(fund: &Fund, portal: &RehearsedPortal) -> Self {
        let mut edge = Self::start_with(fund, portal.address, Ways::default()).await;
        edge.is_live().await;
        edge
    }

    pub async fn start_with(fund: &Fund, portal: SocketAddr, ways: Ways) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name: GatewayName = "tokyo-1".parse().unwrap();
        fund.write_identity(folder.path(), &name);
        let identity = Identity::load(folder.path(), &name).unwrap();
        let control_url = HttpsUrl::try_from(format!("https://{portal}")).unwrap();
        let portal = Portal::new(&control_url, identity.towards_portal().unwrap()).unwrap();

        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let (ended, reports) = mpsc::channel(ENDED_QUEUE);
        let (state, feed) = watch::channel(FeedState::Lost);
        let data_path = DataPath {
            grants: Arc::default(),
            changed: watch::Sender::new(0),
        };
        let api = AgentApi::new(
            portal.clone(),
            commands.clone(),
            ended.clone(),
            feed.clone(),
            clock::now,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let following = Feed {
            portal: portal.clone(),
            hello: hello(),
            commands,
            reports: ended.clone(),
            state,
            clock: clock::now,
            silence: ways.silence,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(data_path.clone().run(receiver, ended));
        tasks.spawn(following.run());
        tasks.spawn(reports::run(portal, reports));
        let tls = identity.agent_api(None).unwrap();
        tasks.spawn(Arc::new(api.with_patience(ways.patience)).serve(listener, tls));
        Self {
            address,
            feed,
            data_path,
            name,
            _tasks: tasks,
        }
    }

    pub async fn is_live(&mut self) {
        self.feed_is(|state| matches!(state, FeedState::Live(_)))
            .await;
    }

    pub async fn is_lost(&mut self) {
        self.feed_is(|state| *state == FeedState::Lost).await;
    }

    async fn feed_is(&mut self, which: impl Fn(&FeedState) -> bool) {
        let state = tokio::time::timeout(LONG, self.feed.wait_for(|state| which(state))).await;
        state.expect("the feed changes its state in time").unwrap();
    }

    /// An HTTP client, with or without a certificate.
    pub fn client(&self, tls: rustls::ClientConfig) -> Client {
        Client::new(tls, &self.name, self.address)
    }

    /// A bare TLS connection, to misbehave on.
    pub async fn connect(
        &self,
        tls: rustls::ClientConfig,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.address).await?;
        let name = rustls_pki_types::ServerName::try_from(self.name.certificate_name()).unwrap();
        TlsConnector::from(Arc::new(tls))
            .connect(name, socket)
            .await
    }
}

/// Asks the agent API.
pub struct Client {
    client: reqwest::Client,
    base: String,
}

/// What came back.
pub struct Got {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Bytes,
}

impl Client {
    pub fn new(tls: rustls::ClientConfig, gateway: &GatewayName, address: SocketAddr) -> Self {
        let host = gateway.certificate_name();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .resolve(&host, address)
            .no_proxy()
            .build()
            .unwrap();
        Self {
            client,
            base: format!("https://{host}:{}", address.port()),
        }
    }

    pub async fn get(&self, path: &str) -> Got {
        let request = self.client.get(format!("{}{path}", self.base));
        self.send(request).await.unwrap()
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Got {
        let request = self.client.post(format!("{}{path}", self.base));
        self.send(request.body(body.into())).await.unwrap()
    }

    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Got, reqwest::Error> {
        let response = request.timeout(LONG).send().await?;
        Ok(Got {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.bytes().await?,
        })
    }
}

impl DataPath {
    async fn run(self, mut commands: mpsc::Receiver<Command>, ended: mpsc::Sender<Ended>) {
        while let Some(command) = commands.recv().await {
            let out = self.handle(command, clock::now());
            for report in out {
                ended.send(report).await.unwrap();
            }
            self.changed.send_modify(|changes| *changes += 1);
        }
    }

    fn handle(&self, command: Command, now: Moment) -> Vec<Ended> {
        let mut grants = self.grants.lock().unwrap();
        match command {
            Command::Install {
                grant,
                server_time,
                installed,
            } => {
                let _ = installed.send(grants.handle_grant(*grant, server_time, now));
            }
            Command::Snapshot {
                grants: list,
                server_time,
            } => {
                grants.handle_snapshot(list, server_time, now);
            }
            Command::End {
                session,
                through,
                reason,
            } => grants.handle_end(session, through, reason, now),
            Command::Shutdown { done } => {
                grants.handle_stop(now);
                let _ = done.send(());
            }
        }
        let mut out = Vec::new();
        while let Some(event) = grants.poll_event() {
            if let Event::Ended {
                session,
                generation,
                reason,
            } = event
            {
                out.push(Ended {
                    session,
                    generation,
                    reason,
                    bytes_in: 1,
                    bytes_out: 2,
                });
            }
        }
        out
    }

    pub fn admits(&self, session: SessionId) -> bool {
        let now = clock::now();
        self.grants.lock().unwrap().is_admitted(session, now)
    }

    /// Waits until the session is in, or out.
    pub async fn admits_in_time(&self, session: SessionId, admitted: bool) {
        let mut changes = self.changed.subscribe();
        let waiting = async {
            while self.admits(session) != admitted {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(LONG, waiting)
            .await
            .expect("the session changes in time");
    }
}

pub fn hello() -> GatewayHello {
    GatewayHello {
        wireguard_public_key: Bytes32([1; 32]),
        endpoints: vec!["127.0.0.1:51820".parse().unwrap()],
        url: "https://gateway.example".to_owned(),
        version: "1".to_owned(),
    }
}

/// A grant of thirty minutes for a device.
pub fn grant(n: u8, device: &Leaf) -> Grant {
    Grant {
        session: session(n),
        generation: Generation::new(1),
        device: DeviceId::from_uuid(Uuid::from_u128(1000 + u128::from(n))),
        device_certificate_sha256: fingerprint(&device.certificate),
        wireguard_public_key: Bytes32([n; 32]),
        preshared_key: Bytes32([n; 32]),
        inner_address: Ipv6Addr::from(0xfd72_u128 << 112 | (1000 + u128::from(n))),
        deadline_ms: unix_ms(clock::now().wall) + 30 * 60 * 1000,
        deadline_reason: EndCode::TimeLimit,
        proxy_key: Bytes32([n; 32]),
    }
}

pub fn session(n: u8) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(n.into()))
}

/// The portal's answer to a session request.
pub fn opened(grant: Grant) -> SessionOpened {
    let agent = AgentGrant {
        session: grant.session,
        gateway_public_key: Bytes32([1; 32]),
        preshared_key: grant.preshared_key,
        inner_address: grant.inner_address,
        endpoints: hello().endpoints,
        gateway_certificate_name: "tokyo-1.gateway.renkei.internal".to_owned(),
        deadline_ms: grant.deadline_ms,
        deadline_reason: grant.deadline_reason,
        server_time_ms: unix_ms(clock::now().wall),
        portal_url: "https://portal.example/".to_owned(),
        code_mailed_to: Some("t***@example.jp".to_owned()),
        gateways: Vec::new(),
    };
    SessionOpened { grant, agent }
}
