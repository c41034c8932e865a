//! The tunnel on real sockets: several ways, one task, streams for the proxy.
//!
//! [`tunnel::client::ClientTunnel`] is the protocol; this gives it datagrams and time
//! ([`event_loop`]) over the way that works ([`core`]) and lends its streams out as ordinary
//! async streams ([`stream`]). Data waits in QUIC's own bounded windows, so that a slow side
//! slows the other down.
//!
//! A link stays when its ways fail: it searches on, and what was on its way goes on when one
//! works again. It ends when one of the two sides says so, or when the gateway answers but
//! no longer knows the connection, as after a restart.

use std::net::{SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::agent_api::{
    AgentGrant, EndCode, GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, TUNNEL_ALPN, TunnelMessage,
};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use tokio::sync::{Notify, watch};
use tunnel::client::{ClientConfig, Wireguard};
use tunnel::keys::{PresharedKey, PublicKey, SecretKey};

use crate::clock::Clock;
use crate::dial::Dialer;
use crate::urls::GatewayUrl;

mod carriers;
pub mod core;
mod event_loop;
pub mod paths;
pub mod pulse;
mod stream;
pub(crate) mod tls_way;

use self::core::{CONNECT_LIMIT, Core, GIVE_UP_AFTER};
use event_loop::{Driver, Lent, Wanted};
use paths::{Experience, Outlook, Via, Way};
pub use stream::LinkStream;

/// How long a stream may take to open while too many are open.
const STREAM_TIMEOUT: Duration = Duration::from_secs(20);

/// What a tunnel is made from. Kept while a session lasts, for making it anew.
pub struct LinkConfig {
    /// The key pair made for this session.
    pub secret_key: SecretKey,
    /// What the portal granted.
    pub grant: AgentGrant,
    /// Where the gateway listens for UDP, best first.
    pub endpoints: Vec<SocketAddr>,
    /// The gateway's agent API, which carries the tunnel where UDP does not pass.
    pub gateway: GatewayUrl,
    /// How TCP connections reach it.
    pub dialer: Dialer,
    /// The TLS that the agent API is spoken with.
    pub tls: Arc<rustls::ClientConfig>,
    /// This PC's key and certificate.
    pub identity: Arc<CertifiedKey>,
    /// The authority that signs gateways.
    pub authority: RootCertStore,
    /// What certificates' dates are checked with.
    pub clock: Arc<Clock>,
    /// How signs of life are asked for.
    pub pulse: pulse::Rates,
    /// What the last tunnel left to the next.
    pub left: Arc<Mutex<Option<Wireguard>>>,
}

/// A tunnel that stands or is being made. Clones are the same tunnel.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEnd {
    /// The gateway said why.
    Told(EndCode),
    /// This side ended it.
    Ours,
    /// The gateway does not know it any more, as after a restart; it can be made anew.
    Lost,
    /// The gateway ended it before it stood, when it could not say why yet: the portal knows.
    Unexplained,
    /// It cannot be made or kept: one side does not believe the other.
    Failed,
}

/// Why there is no tunnel, or no stream in it.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No way leads to the gateway. The sentence says what is wrong with the fallback, if
    /// that is known.
    #[error("the gateway answers neither over UDP nor over TLS")]
    NoAnswer {
        /// For the user.
        sentence: Option<String>,
    },
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
            Self::NoAnswer {
                sentence: Some(sentence),
            } => sentence.clone(),
            Self::NoAnswer { sentence: None } => {
                "基金の接続口から応答がありませんでした（UDP、HTTPSとも）。インターネットにつながっていることを確認し、しばらくしてからもう一度お試しください。続くときは、社内のシステム担当者または基金事務局へお問い合わせください。".to_owned()
            }
            Self::Setup(_) => {
                "接続の準備ができませんでした。もう一度「接続」を押してください。".to_owned()
            }
            Self::Ended(LinkEnd::Told(code)) => {
                access::EndReason::from(*code).page_text().to_owned()
            }
            Self::Ended(LinkEnd::Ours) => access::EndReason::Disconnected.page_text().to_owned(),
            Self::Ended(LinkEnd::Lost | LinkEnd::Unexplained) => {
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
    lent: Mutex<Lent>,
    /// Wakes the task: something was written, read or wished for.
    wake: Arc<Notify>,
    /// A stream may be opened again.
    streams_available: Notify,
    connected: watch::Sender<bool>,
    end: watch::Sender<Option<LinkEnd>>,
    /// What the gateway last said inside the tunnel.
    message: watch::Sender<Option<TunnelMessage>>,
    outlook: watch::Sender<Outlook>,
    /// What carries the tunnel, or did last.
    way: watch::Sender<Option<Way>>,
    /// What is known of each way.
    ways: watch::Sender<Vec<(Way, Experience)>>,
    /// Why the fallback does not come about, for the user.
    trouble: Mutex<Option<String>>,
    endpoints: Vec<SocketAddr>,
}

impl Shared {
    fn lent(&self) -> MutexGuard<'_, Lent> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Waits until the tunnel stands that was begun, over the way that answers first; gives it
    /// up if none does.
    pub async fn come_up(self) -> Result<Self, LinkError> {
        let hopeless = async {
            tokio::time::sleep(GIVE_UP_AFTER).await;
            self.dead().await;
        };
        let given_up = tokio::select! {
            connected = self.connected() => {
                return connected.map(|()| self.clone()).map_err(LinkError::Ended);
            }
            () = hopeless => "every way is refused or silent",
            () = tokio::time::sleep(CONNECT_LIMIT) => "no connection in time",
        };
        tracing::info!(given_up, "no tunnel");
        self.abandon();
        let trouble = self.0.trouble.lock();
        let sentence = trouble.unwrap_or_else(PoisonError::into_inner).clone();
        Err(LinkError::NoAnswer { sentence })
    }

    /// Begins to make the tunnel. `remembered` is the TLS way that worked in this network, if
    /// UDP did not.
    pub fn begin(config: &LinkConfig, remembered: Option<Via>) -> Result<Self, LinkError> {
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
        let canonical =
            |endpoint: &SocketAddr| SocketAddr::new(endpoint.ip().to_canonical(), endpoint.port());
        let endpoints: Vec<_> = config.endpoints.iter().map(canonical).collect();
        let left = config.left.lock();
        let left = left.unwrap_or_else(PoisonError::into_inner).take();
        let udp = endpoints.iter().copied().map(Way::Udp);
        let tls = config.dialer.ways(&config.gateway).into_iter();
        let ways: Vec<_> = udp.chain(tls.map(Way::Tls)).collect();
        let count = ways.len();
        let ways = (ways, remembered);
        let core = Core::new(tunnel, left, config.pulse, ways, event_loop::now())
            .map_err(|error| LinkError::Setup(error.to_string()))?;
        let shared = Arc::new(Shared {
            lent: Mutex::new(Lent::new(core)),
            wake: Arc::default(),
            streams_available: Notify::new(),
            connected: watch::Sender::new(false),
            end: watch::Sender::new(None),
            message: watch::Sender::new(None),
            outlook: watch::Sender::new(Outlook::Searching),
            way: watch::Sender::new(None),
            ways: watch::Sender::new(Vec::new()),
            trouble: Mutex::new(None),
            endpoints,
        });
        tokio::spawn(Driver::new(shared.clone(), config, count).run());
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

    /// Where the gateway listens for UDP.
    pub fn endpoints(&self) -> &[SocketAddr] {
        &self.0.endpoints
    }

    /// What carries the tunnel, or did last.
    pub fn way(&self) -> Option<Way> {
        *self.0.way.borrow()
    }

    /// What is known of each way.
    pub fn ways(&self) -> Vec<(Way, Experience)> {
        self.0.ways.borrow().clone()
    }

    /// How things stand.
    pub fn outlook(&self) -> Outlook {
        *self.0.outlook.borrow()
    }

    /// Waits until the outlook is another than `known`; never returns after the end.
    pub async fn outlook_changed(&self, known: Outlook) -> Outlook {
        let mut outlook = self.0.outlook.subscribe();
        let changed = outlook.wait_for(|outlook| *outlook != known).await;
        let changed = changed.ok().map(|outlook| *outlook);
        match changed {
            Some(outlook) => outlook,
            None => std::future::pending().await,
        }
    }

    /// Waits until every way to this gateway is refused or silent. The link searches on, and
    /// may find one later; meanwhile another gateway may be the better choice.
    pub async fn dead(&self) {
        let mut outlook = self.0.outlook.subscribe();
        // The sender lives in `self`, so that the wait cannot fail.
        let _ = outlook.wait_for(|outlook| *outlook == Outlook::Dead).await;
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
                if let Some(id) = self.0.lent().core.open_stream() {
                    self.0.wake.notify_one();
                    return Ok(LinkStream::new(self.0.clone(), id));
                }
                available.await;
            }
        };
        tokio::time::timeout(STREAM_TIMEOUT, opened)
            .await
            .unwrap_or(Err(LinkError::NoAnswer { sentence: None }))
    }

    /// Ends the tunnel and tells the gateway why.
    pub fn close(&self, code: EndCode) {
        self.wish(Wanted::Close(code));
    }

    /// Ends the tunnel without a word: another one takes its place.
    pub fn abandon(&self) {
        self.wish(Wanted::Abandon);
    }

    /// The PC woke up or moved to another network, where the TLS way `remembered` is the one
    /// that works, if UDP is not.
    pub fn network_changed(&self, remembered: Option<Via>) {
        self.wish(Wanted::NewNetwork(remembered));
    }

    /// Somebody looks at how the tunnel stands: asks for signs of life more often, for a while.
    pub fn look_closely(&self) {
        self.0.lent().look_closely();
        self.0.wake.notify_one();
    }

    /// What the gateway last said inside the tunnel.
    pub fn message(&self) -> Option<TunnelMessage> {
        *self.0.message.borrow()
    }

    fn wish(&self, wanted: Wanted) {
        self.0.lent().want(wanted);
        self.0.wake.notify_one();
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Link").field(&self.way()).finish()
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
