//! The tunnel on a real socket: one UDP socket, one task, streams for the proxy.
//!
//! [`tunnel::client::ClientTunnel`] is the protocol; this gives it datagrams and time
//! ([`event_loop`]) and lends its streams out as ordinary async streams ([`stream`]). Data
//! waits in QUIC's own bounded windows, so that a slow side slows the other down.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::agent_api::{
    AgentGrant, EndCode, GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, TUNNEL_ALPN, TunnelMessage,
};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use tokio::sync::{Notify, watch};
use tunnel::client::ClientConfig;
use tunnel::keys::{PresharedKey, PublicKey, SecretKey};

use crate::clock::Clock;

mod event_loop;
pub mod paths;
mod stream;

use event_loop::{Driver, Wanted};
pub use stream::LinkStream;

/// How long one endpoint may take before the next one is tried.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a stream may take to open while too many are open.
const STREAM_TIMEOUT: Duration = Duration::from_secs(20);

/// How long silence is borne, and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The gateway is asked for a sign of life this often when nothing else is said.
    pub probe: Duration,
    /// The tunnel counts as lost when nothing came back for this long.
    pub lost_after: Duration,
    /// A lost tunnel is kept this long, so that transfers go on when the network comes back;
    /// then it is made anew, which also helps after a restart of the gateway.
    pub rebuild_after: Duration,
}

impl Default for Patience {
    /// Two probes may be lost before the user is told; an access point changes in less.
    fn default() -> Self {
        Self {
            probe: Duration::from_secs(4),
            lost_after: Duration::from_secs(12),
            rebuild_after: Duration::from_secs(20),
        }
    }
}

/// What a tunnel is made from. Kept while a session lasts, for making it anew.
pub struct LinkConfig {
    /// The key pair made for this session.
    pub secret_key: SecretKey,
    /// What the portal granted.
    pub grant: AgentGrant,
    /// Where the gateway listens, best first.
    pub endpoints: Vec<SocketAddr>,
    /// This PC's key and certificate.
    pub identity: Arc<CertifiedKey>,
    /// The authority that signs gateways.
    pub authority: RootCertStore,
    /// What certificates' dates are checked with.
    pub clock: Arc<Clock>,
    /// How long silence is borne.
    pub patience: Patience,
}

/// A standing tunnel. Clones are the same tunnel.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEnd {
    /// The gateway said why.
    Told(EndCode),
    /// This side ended it.
    Ours,
    /// It broke down, and can be made anew.
    Lost,
    /// It cannot be made or kept: one side does not believe the other.
    Failed,
}

/// Why there is no tunnel, or no stream in it.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No endpoint answered.
    #[error("no endpoint of the gateway answers over UDP")]
    NoAnswer,
    /// The PC has no UDP socket to give.
    #[error("no UDP socket: {0}")]
    Socket(#[from] io::Error),
    /// Keys, certificates or names do not work together.
    #[error("the tunnel cannot be set up: {0}")]
    Setup(String),
    /// The tunnel is over.
    #[error("the tunnel is over: {0:?}")]
    Ended(LinkEnd),
}

impl LinkError {
    /// What the user is told.
    pub fn page_text(&self) -> String {
        match self {
            Self::NoAnswer => {
                "基金の接続口からUDPの応答がありませんでした。会社のネットワークでUDPの通信が止められている場合があります。社内のシステム担当者または基金事務局へお問い合わせください。".to_owned()
            }
            Self::Socket(_) => {
                "このパソコンで通信を始められませんでした。ネットワークにつながっていることをご確認ください。".to_owned()
            }
            Self::Setup(_) => {
                "接続の準備ができませんでした。もう一度「接続」を押してください。".to_owned()
            }
            Self::Ended(LinkEnd::Told(code)) => {
                access::EndReason::from(*code).page_text().to_owned()
            }
            Self::Ended(LinkEnd::Ours) => access::EndReason::Disconnected.page_text().to_owned(),
            Self::Ended(LinkEnd::Lost) => {
                "基金との通信が途切れました。もう一度「接続」を押してください。".to_owned()
            }
            Self::Ended(LinkEnd::Failed) => {
                "接続先が基金のものであることを確認できなかったため、接続を中止しました。基金事務局へお問い合わせください。".to_owned()
            }
        }
    }
}

/// What the link's handles and its task share.
struct Shared {
    core: Mutex<event_loop::Core>,
    /// Wakes the task: something was written, read or wished for.
    wake: Notify,
    /// A stream may be opened again.
    streams_available: Notify,
    connected: watch::Sender<bool>,
    end: watch::Sender<Option<LinkEnd>>,
    /// What the gateway last said inside the tunnel.
    message: watch::Sender<Option<TunnelMessage>>,
    endpoint: SocketAddr,
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, event_loop::Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Makes the tunnel: tries the endpoints in order until one answers.
    pub async fn connect(config: &LinkConfig) -> Result<Self, LinkError> {
        for endpoint in &config.endpoints {
            let link = Self::start(config, *endpoint).await?;
            match tokio::time::timeout(ENDPOINT_TIMEOUT, link.connected()).await {
                Ok(Ok(())) => return Ok(link),
                Ok(Err(end)) => return Err(LinkError::Ended(end)),
                Err(_) => {
                    tracing::info!(%endpoint, "endpoint does not answer");
                    link.abandon();
                }
            }
        }
        Err(LinkError::NoAnswer)
    }

    async fn start(config: &LinkConfig, endpoint: SocketAddr) -> Result<Self, LinkError> {
        let endpoint = SocketAddr::new(endpoint.ip().to_canonical(), endpoint.port());
        // Not connected to the endpoint: it goes on when the PC's own address changes.
        let socket = udp::Socket::bind_any().await?;
        let tls = tls(config)?;
        let grant = &config.grant;
        let tunnel = ClientConfig {
            secret_key: config.secret_key.clone(),
            gateway_key: PublicKey::from_bytes(grant.gateway_public_key.0),
            preshared_key: PresharedKey::from_bytes(grant.preshared_key.0),
            inner_address: grant.inner_address,
            gateway_inner: SocketAddrV6::new(GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, 0, 0),
            server_name: grant.gateway_certificate_name.clone(),
            tls,
        };
        let core = event_loop::Core::new(tunnel, config.patience.probe)
            .map_err(|error| LinkError::Setup(error.to_string()))?;
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            wake: Notify::new(),
            streams_available: Notify::new(),
            connected: watch::Sender::new(false),
            end: watch::Sender::new(None),
            message: watch::Sender::new(None),
            endpoint,
        });
        tokio::spawn(Driver::new(shared.clone(), socket).run());
        Ok(Self(shared))
    }

    async fn connected(&self) -> Result<(), LinkEnd> {
        let mut connected = self.0.connected.subscribe();
        tokio::select! {
            // The sender lives in `self`, so that the wait cannot fail.
            _ = connected.wait_for(|connected| *connected) => Ok(()),
            end = self.ended() => Err(end),
        }
    }

    /// The endpoint that answered.
    pub fn endpoint(&self) -> SocketAddr {
        self.0.endpoint
    }

    /// Waits for the end.
    pub async fn ended(&self) -> LinkEnd {
        let mut end = self.0.end.subscribe();
        end.wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|end| *end)
            .unwrap_or(LinkEnd::Lost)
    }

    /// Opens a stream to the portal; waits a while if too many are open.
    pub async fn open_stream(&self) -> Result<LinkStream, LinkError> {
        let opened = async {
            loop {
                let available = self.0.streams_available.notified();
                tokio::pin!(available);
                available.as_mut().enable();
                if let Some(end) = *self.0.end.borrow() {
                    return Err(LinkError::Ended(end));
                }
                if let Some(id) = self.0.core().open_stream() {
                    self.0.wake.notify_one();
                    return Ok(LinkStream::new(self.0.clone(), id));
                }
                available.await;
            }
        };
        tokio::time::timeout(STREAM_TIMEOUT, opened)
            .await
            .unwrap_or(Err(LinkError::NoAnswer))
    }

    /// Ends the tunnel and tells the gateway why.
    pub fn close(&self, code: EndCode) {
        self.wish(Wanted::Close(code));
    }

    /// Ends the tunnel without a word: another one takes its place.
    pub fn abandon(&self) {
        self.wish(Wanted::Abandon);
    }

    /// The PC woke up or moved to another network.
    pub fn network_changed(&self) {
        self.wish(Wanted::NewPath);
    }

    /// How long nothing has come from the gateway's QUIC.
    pub fn silence(&self) -> Duration {
        self.0.core().silence()
    }

    /// What the gateway last said inside the tunnel.
    pub fn message(&self) -> Option<TunnelMessage> {
        *self.0.message.borrow()
    }

    fn wish(&self, wanted: Wanted) {
        self.0.core().want(wanted);
        self.0.wake.notify_one();
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Link").field(&self.0.endpoint).finish()
    }
}

/// TLS of the QUIC connection: certificates both ways, dates by the agent's clock.
fn tls(config: &LinkConfig) -> Result<Arc<rustls::ClientConfig>, LinkError> {
    let setup = |error: &dyn std::fmt::Display| LinkError::Setup(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_details(provider, config.clock.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| setup(&error))?
        .with_root_certificates(config.authority.clone())
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
            config.identity.clone(),
        )));
    tls.alpn_protocols = vec![TUNNEL_ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(tls))
}
