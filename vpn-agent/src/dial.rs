//! TCP connections to a gateway, with TLS on them: straight, or through an HTTP proxy.
//!
//! Used by the agent API ([`crate::gateway_client`]), by the tunnel's fallback
//! ([`crate::link`]) and by `diagnose`. If a proxy is set for a host it is asked first, and
//! the straight way tried if that fails, and the other way round; which one worked is
//! remembered while the agent runs. The proxy learns the gateway's name, and who is signed in
//! at the PC if it insists; TLS runs through it, end to end.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::link::paths::Via;
use crate::urls::GatewayUrl;

mod connect;
pub mod head;
pub mod settings;
pub mod sign_on;
pub mod system;

use connect::Asked;
pub use connect::ProxyError;
use settings::{Choice, ProxySettings, ProxyUrl, Source};
use sign_on::{Dialogue, SignOns};
use system::{Origin, SystemProxy};

use crate::os;

/// A connection to a gateway that was verified.
pub type Connection = TlsStream<TcpStream>;

/// The next address of a host is tried this long after the last (RFC 8305).
const ADDRESS_STAGGER: Duration = Duration::from_millis(250);

/// Most addresses of a host that are tried.
const MAX_ADDRESSES: usize = 8;

/// How long a TCP connection may take to stand.
const TCP_LIMIT: Duration = Duration::from_secs(3);

/// How long it may take to reach a proxy and have it connect to the gateway.
const PROXY_LIMIT: Duration = Duration::from_secs(8);

/// How long the operating system may take to say which proxy it has: it may look for a script
/// in the network.
const SYSTEM_LIMIT: Duration = Duration::from_secs(8);

/// How long TLS may take.
const TLS_LIMIT: Duration = Duration::from_secs(5);

/// The other way is tried this long after the first.
const VIA_STAGGER: Duration = Duration::from_millis(700);

/// Hosts of which it is remembered which way worked; a fund has a few.
const MAX_REMEMBERED: usize = 64;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or cannot be asked for.
    #[error("the name has no address that can be found")]
    Name {
        /// Which name.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// No TCP connection.
    #[error("no connection")]
    Tcp {
        /// To whom.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// The proxy did not help.
    #[error("the proxy does not connect")]
    Proxy(#[source] ProxyError),
    /// No TLS, or with somebody else.
    #[error("no TLS with the gateway")]
    Tls(#[source] io::Error),
    /// There is no proxy for this host.
    #[error("no proxy is set")]
    NoProxy,
}

/// Makes connections. Clones share what they remember.
#[derive(Debug, Clone)]
pub struct Dialer {
    proxy: ProxySettings,
    surroundings: Surroundings,
    worked: Arc<Mutex<HashMap<String, Via>>>,
    /// What the operating system said about a host, until a try fails.
    told: Arc<Mutex<HashMap<String, Choice>>>,
}

/// What a dialer asks of the PC.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// A variable of the environment.
    pub environment: fn(&str) -> Option<String>,
    /// The operating system's proxy for an address such as `https://gw.example.jp/`. Blocks.
    pub system: fn(&str) -> Option<SystemProxy>,
    /// Speaks for the user who is signed in.
    pub sign_ons: SignOns,
}

impl Surroundings {
    /// Those of this process.
    pub fn real() -> Self {
        Self {
            environment: |name| std::env::var(name).ok(),
            system: os::system_proxy,
            sign_ons: sign_on::of_the_system,
        }
    }
}

impl Dialer {
    /// A dialer for the settings and the environment of this process.
    pub fn new(proxy: ProxySettings) -> Self {
        Self::with_surroundings(proxy, Surroundings::real())
    }

    /// A dialer for surroundings of the caller's.
    pub fn with_surroundings(proxy: ProxySettings, surroundings: Surroundings) -> Self {
        Self {
            proxy,
            surroundings,
            worked: Arc::default(),
            told: Arc::default(),
        }
    }

    /// What is known without asking the operating system anew.
    fn known(&self, gateway: &GatewayUrl) -> Choice {
        let (host, _) = gateway.authority();
        match self.proxy.for_host(host, self.surroundings.environment) {
            Choice::AskSystem => {
                let told = self.told().get(host).cloned();
                told.unwrap_or(Choice::AskSystem)
            }
            choice @ (Choice::Straight | Choice::Proxies(..)) => choice,
        }
    }

    /// The proxies for a gateway and who names them; none if it is reached straight. May take
    /// as long as the operating system takes to look for a script.
    pub async fn proxies(&self, gateway: &GatewayUrl) -> Option<(Source, Vec<ProxyUrl>)> {
        let choice = match self.known(gateway) {
            Choice::AskSystem => self.ask_system(gateway).await,
            choice @ (Choice::Straight | Choice::Proxies(..)) => choice,
        };
        match choice {
            Choice::Proxies(source, proxies) => Some((source, proxies)),
            Choice::Straight | Choice::AskSystem => None,
        }
    }

    async fn ask_system(&self, gateway: &GatewayUrl) -> Choice {
        let (url, system) = (gateway.to_string(), self.surroundings.system);
        let asking = tokio::task::spawn_blocking(move || system(&url));
        // A system that does not answer in time goes on in its thread; it is asked anew later.
        let Ok(Ok(answer)) = tokio::time::timeout(SYSTEM_LIMIT, asking).await else {
            return Choice::AskSystem;
        };
        let (host, _) = gateway.authority();
        let choice = match answer {
            None => Choice::Straight,
            Some(found) => match (system::proxies(&found, host), found.origin) {
                (proxies, _) if proxies.is_empty() => Choice::Straight,
                (proxies, Origin::Fixed) => Choice::Proxies(Source::System, proxies),
                (proxies, Origin::Script) => Choice::Proxies(Source::Script, proxies),
            },
        };
        let mut told = self.told();
        if told.len() >= MAX_REMEMBERED {
            told.clear();
        }
        told.insert(host.to_owned(), choice.clone());
        choice
    }

    /// The ways to a gateway: the one that worked last first, else the proxy if one is set.
    pub fn ways(&self, gateway: &GatewayUrl) -> Vec<Via> {
        let likely = match self.known(gateway) {
            Choice::Straight => return vec![Via::Straight],
            Choice::Proxies(..) => Via::Proxy,
            // Most systems have none, and looking takes its time.
            Choice::AskSystem => Via::Straight,
        };
        let worked = self.worked().get(&key(gateway)).copied();
        match worked.unwrap_or(likely) {
            Via::Proxy => vec![Via::Proxy, Via::Straight],
            Via::Straight => vec![Via::Straight, Via::Proxy],
        }
    }

    /// Connects over any way, the first one that stands.
    ///
    /// # Errors
    /// What went wrong on the way that says most: a proxy that wants a password, or another
    /// certificate than the gateway's, explain more than a silent line.
    pub async fn connect(
        &self,
        gateway: &GatewayUrl,
        tls: &Arc<ClientConfig>,
    ) -> Result<Connection, DialError> {
        let mut waiting = self.ways(gateway).into_iter();
        let mut tries = JoinSet::new();
        let mut worst: Option<DialError> = None;
        loop {
            if let Some(via) = waiting.next() {
                let (dialer, gateway, tls) = (self.clone(), gateway.clone(), tls.clone());
                tries.spawn(async move { dialer.connect_via(&gateway, via, &tls).await });
            }
            let more = waiting.len() > 0;
            let ended = tokio::select! {
                ended = tries.join_next() => ended,
                () = tokio::time::sleep(VIA_STAGGER), if more => continue,
            };
            match ended {
                Some(Ok(Ok(connection))) => return Ok(connection),
                Some(Ok(Err(error))) => {
                    if worst
                        .as_ref()
                        .is_none_or(|worst| error.weight() > worst.weight())
                    {
                        worst = Some(error);
                    }
                }
                // A try that died without a word is one that failed.
                Some(Err(_)) => {}
                None if more => {}
                None => return Err(worst.unwrap_or(DialError::NoProxy)),
            }
        }
    }

    /// Connects over one way.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn connect_via(
        &self,
        gateway: &GatewayUrl,
        via: Via,
        tls: &Arc<ClientConfig>,
    ) -> Result<Connection, DialError> {
        let (host, port) = gateway.authority();
        let stream = match via {
            Via::Straight => tcp(host, port).await,
            Via::Proxy => self.through_any(gateway).await,
        };
        // In another network the system may say something else.
        let stream = stream.inspect_err(|error| {
            if !matches!(error, DialError::NoProxy) {
                self.told().remove(host);
            }
        })?;
        let connection = handshake(stream, host, tls).await?;
        let mut worked = self.worked();
        if worked.len() >= MAX_REMEMBERED {
            worked.clear();
        }
        worked.insert(key(gateway), via);
        Ok(connection)
    }

    /// Connects through the first of the proxies that can be reached.
    async fn through_any(&self, gateway: &GatewayUrl) -> Result<TcpStream, DialError> {
        let (_, proxies) = self.proxies(gateway).await.ok_or(DialError::NoProxy)?;
        let (host, port) = gateway.authority();
        let mut last = DialError::NoProxy;
        for proxy in &proxies {
            match self.through(proxy, host, port).await {
                Err(error @ DialError::Proxy(ProxyError::Unreachable { .. })) => last = error,
                settled => return settled,
            }
        }
        Err(last)
    }

    /// Connects to the proxy and through it to `host`.
    async fn through(
        &self,
        proxy: &ProxyUrl,
        host: &str,
        port: u16,
    ) -> Result<TcpStream, DialError> {
        let asking = async {
            let mut dialogue = Dialogue::new(proxy, self.surroundings.sign_ons);
            loop {
                let mut stream = reach(proxy).await?;
                match connect::ask(&mut stream, &mut dialogue, host, port).await? {
                    Asked::Connected => return Ok(stream),
                    Asked::CallAgain => {}
                }
            }
        };
        match tokio::time::timeout(PROXY_LIMIT, asking).await {
            Ok(asked) => asked.map_err(DialError::Proxy),
            Err(_) => Err(DialError::Proxy(ProxyError::Silent)),
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, HashMap<String, Choice>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Via>> {
        self.worked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DialError {
    /// How much an error explains; the greatest is told.
    fn weight(&self) -> u8 {
        match self {
            Self::NoProxy => 0,
            Self::Name { .. } => 1,
            Self::Tcp { .. } => 2,
            Self::Proxy(ProxyError::Unreachable { .. }) => 3,
            Self::Proxy(_) => 4,
            Self::Tls(_) => 5,
        }
    }
}

fn key(gateway: &GatewayUrl) -> String {
    let (host, port) = gateway.authority();
    format!("{host}:{port}")
}

async fn reach(proxy: &ProxyUrl) -> Result<TcpStream, ProxyError> {
    tcp(proxy.host(), proxy.port()).await.map_err(|error| {
        let source = match error {
            DialError::Name { source, .. } | DialError::Tcp { source, .. } => source,
            other => io::Error::other(other),
        };
        ProxyError::Unreachable {
            proxy: proxy.to_string(),
            source,
        }
    })
}

async fn handshake(
    stream: TcpStream,
    host: &str,
    tls: &Arc<ClientConfig>,
) -> Result<Connection, DialError> {
    let name = ServerName::try_from(bare(host).to_owned())
        .map_err(|error| DialError::Tls(io::Error::other(error)))?;
    let connecting = TlsConnector::from(tls.clone()).connect(name, stream);
    match tokio::time::timeout(TLS_LIMIT, connecting).await {
        Ok(connected) => connected.map_err(DialError::Tls),
        Err(_) => Err(DialError::Tls(io::ErrorKind::TimedOut.into())),
    }
}

/// A TCP connection to the address of `host` that answers first.
async fn tcp(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let within = tokio::time::timeout(TCP_LIMIT, race(host, port)).await;
    let stream = within.unwrap_or_else(|_| {
        Err(DialError::Tcp {
            host: host.to_owned(),
            source: io::ErrorKind::TimedOut.into(),
        })
    })?;
    // Only a matter of speed.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn race(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let name = |source| DialError::Name {
        host: host.to_owned(),
        source,
    };
    let found = tokio::net::lookup_host((bare(host), port)).await;
    let addresses = interleave(found.map_err(name)?.collect());
    if addresses.is_empty() {
        return Err(name(io::ErrorKind::NotFound.into()));
    }
    let mut waiting = addresses.into_iter().take(MAX_ADDRESSES);
    let mut tries = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    loop {
        if let Some(address) = waiting.next() {
            tries.spawn(TcpStream::connect(address));
        }
        let more = waiting.len() > 0;
        let ended = tokio::select! {
            ended = tries.join_next() => ended,
            () = tokio::time::sleep(ADDRESS_STAGGER), if more => continue,
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => last = error,
            Some(Err(_)) => {}
            None if more => {}
            None => {
                return Err(DialError::Tcp {
                    host: host.to_owned(),
                    source: last,
                });
            }
        }
    }
}

/// The families by turns, the system's first choice first.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else {
        return addresses;
    };
    let (mut ours, mut others): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first);
    ours.reverse();
    others.reverse();
    let mut order = Vec::new();
    while !ours.is_empty() || !others.is_empty() {
        order.extend(ours.pop());
        order.extend(others.pop());
    }
    order
}

/// A host without the brackets that IPv6 addresses have in URLs.
fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_families_take_turns() {
        let addresses = ["[::1]:1", "[::2]:1", "1.1.1.1:1", "2.2.2.2:1"];
        let addresses = addresses.map(|text| text.parse().unwrap()).to_vec();
        let order = interleave(addresses);
        let families: Vec<_> = order.iter().map(SocketAddr::is_ipv6).collect();
        assert_eq!(families, [true, false, true, false]);
        assert_eq!(interleave(Vec::new()), []);
    }

    #[test]
    fn what_explains_more_is_told() {
        let silent = DialError::Tcp {
            host: "gw".into(),
            source: io::ErrorKind::TimedOut.into(),
        };
        let password = DialError::Proxy(ProxyError::WantsPassword);
        let foreign = DialError::Tls(io::ErrorKind::InvalidData.into());
        assert!(silent.weight() < password.weight());
        assert!(password.weight() < foreign.weight());
    }
}
