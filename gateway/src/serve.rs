//! Puts the gateway's parts together, and takes them apart in order.
//!
//! Everything that can be wrong in the configuration is found before anything listens. On
//! the way down nobody new gets in first, then every session is told that the gateway stops,
//! then the portal is told what became of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use operator::{CannotListen, Check, Checks, Operator};
use protocol::Bytes32;
use protocol::control::GatewayHello;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::instrument::WithSubscriber as _;
use tracing::{info, warn};

use crate::agent_api::AgentApi;
use crate::clock;
use crate::commands::{COMMAND_QUEUE, Command, ENDED_QUEUE, Ended};
use crate::config::Config;
use crate::event_loop::{DataPath, DataPathConfig, DataPathError};
use crate::feed::{Feed, FeedState, SILENCE_LIMIT};
use crate::identity::{Identity, IdentityError};
use crate::metrics::{self, Figures};
use crate::portal::{Portal, PortalError};
use crate::reports;
use crate::state::{self, Listening, StateError};
use crate::tls_tunnel::{self, Entrance};

/// Connections to the agent API that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Longest TCP segment in either direction of the agent API, in bytes: with the headers of IPv6
/// the 1,280 bytes that every line carries.
const TCP_SEGMENT_BYTES: u32 = 1220;

/// How long sessions are given to hear that the gateway stops.
const FAREWELL_LIMIT: Duration = Duration::from_secs(3);

/// How long the portal is given to hear what became of them.
const REPORT_LIMIT: Duration = Duration::from_secs(3);

/// Why the gateway cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The identity folder is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state folder is not usable.
    #[error(transparent)]
    State(#[from] StateError),
    /// The way to the portal cannot be prepared.
    #[error(transparent)]
    Portal(#[from] PortalError),
    /// The data path cannot start or go on.
    #[error(transparent)]
    DataPath(#[from] DataPathError),
    /// The operator's listener cannot listen.
    #[error(transparent)]
    Operator(#[from] CannotListen),
    /// The agent API cannot listen.
    #[error("cannot listen for agents on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system gave no thread for the data path.
    #[error("no thread for the data path")]
    Thread(#[source] io::Error),
    /// A part ended that never should.
    #[error("{0} ended by itself")]
    Ended(&'static str),
}

/// The thread that packets are handled on, from the socket to the connections to the portal:
/// they need not change threads on the way, and no handshake of the agent API holds them up.
struct DataThread(Option<Runtime>);

impl DataThread {
    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("data-path")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        match &self.0 {
            Some(runtime) => runtime.spawn(work),
            // Only while it is dropped.
            None => tokio::spawn(work),
        }
    }
}

impl Drop for DataThread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // The gateway itself runs as a task, where waiting for threads is not allowed.
            runtime.shutdown_background();
        }
    }
}

/// A gateway that listens but admits nobody yet.
pub struct Gateway {
    listening: Listening,
    data_thread: DataThread,
    data_path: DataPath,
    api: Arc<AgentApi>,
    api_listener: TcpListener,
    api_tls: Arc<rustls::ServerConfig>,
    feed: Feed,
    operator: Option<Operator>,
    portal: Portal,
    commands: mpsc::Sender<Command>,
    to_data_path: mpsc::Receiver<Command>,
    carried: mpsc::Receiver<tls_tunnel::News>,
    ended: mpsc::Sender<Ended>,
    reports: mpsc::Receiver<Ended>,
}

impl Gateway {
    /// Loads, checks and binds everything that `config` names.
    ///
    /// # Errors
    /// [`ServeError`], which names the file or address.
    pub async fn bind(config: &Config) -> Result<Self, ServeError> {
        let identity = Identity::load(&config.identity_dir, &config.name)?;
        let secret_key = state::wireguard_key(&config.state_dir)?;
        let wireguard_public_key = Bytes32(*secret_key.public_key().as_bytes());
        let portal = Portal::new(&config.portal.control_url, identity.towards_portal()?)?;
        let api_tls = identity.agent_api(config.tls.as_ref())?;

        let data_thread = DataThread::start().map_err(ServeError::Thread)?;
        // Sockets belong to the runtime that they are made in.
        let bound = data_thread.spawn(DataPath::bind(DataPathConfig {
            listen: config
                .udp_listen
                .iter()
                .copied()
                .map(every_address)
                .collect(),
            secret_key,
            tls: identity.inside_tunnel()?,
            portal_member: config.portal.member_address,
            stream_memory_bytes: config.stream_memory_mb as usize * 1024 * 1024,
        }));
        let data_path = match bound.await {
            Ok(bound) => bound?,
            Err(_) => return Err(ServeError::Ended("the data path")),
        };
        let no_listener = |source| ServeError::Listen {
            address: config.tls_listen,
            source,
        };
        let api_listener = listen(every_address(config.tls_listen)).map_err(no_listener)?;
        let (entrance, carried) = Entrance::new();
        let (commands, to_data_path) = mpsc::channel(COMMAND_QUEUE);
        let (ended, reports) = mpsc::channel(ENDED_QUEUE);
        let (state, feed_state) = watch::channel(FeedState::Lost);
        let api = AgentApi::new(
            portal.clone(),
            commands.clone(),
            ended.clone(),
            feed_state.clone(),
            entrance,
            clock::now,
        );
        let operator = match &config.operator {
            Some(at) => {
                let figures = data_path.figures();
                let registry =
                    metrics::registry(figures.clone(), feed_state.clone(), api.metrics());
                let checks = checks(figures, feed_state);
                Some(Operator::bind(at.listen, registry, checks).await?)
            }
            None => None,
        };
        let listening = Listening {
            udp: data_path.local_addrs().map_err(no_listener)?,
            tls: api_listener.local_addr().map_err(no_listener)?,
            operator: operator.as_ref().and_then(|at| at.local_addr().ok()),
        };
        state::write_listening(&config.state_dir, &listening)?;

        let feed = Feed {
            portal: portal.clone(),
            hello: hello(config, wireguard_public_key, &listening),
            commands: commands.clone(),
            reports: ended.clone(),
            state,
            clock: clock::now,
            silence: SILENCE_LIMIT,
        };
        Ok(Self {
            listening,
            data_thread,
            data_path,
            api: Arc::new(api),
            api_listener,
            api_tls,
            feed,
            operator,
            portal,
            commands,
            to_data_path,
            carried,
            ended,
            reports,
        })
    }

    /// Where it listens.
    pub fn listening(&self) -> &Listening {
        &self.listening
    }

    /// Serves until `stop` is done, then ends every session.
    ///
    /// # Errors
    /// [`ServeError`] if a part fails for good.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Listening { udp, tls, .. } = &self.listening;
        info!(?udp, %tls, "gateway listens");
        let running = self
            .data_path
            .run(self.to_data_path, self.carried, self.ended);
        let mut data_path = self.data_thread.spawn(running.with_current_subscriber());
        let mut api = tokio::spawn(self.api.serve(self.api_listener, self.api_tls));
        let mut feed = tokio::spawn(self.feed.run());
        let mut reports = tokio::spawn(reports::run(self.portal, self.reports));
        let operator = self.operator.map(|at| tokio::spawn(at.serve()));
        let outcome = tokio::select! {
            () = stop => Ok(()),
            ended = &mut data_path => Err(why_ended(ended)),
            _ = &mut api => Err(ServeError::Ended("the agent API")),
            _ = &mut feed => Err(ServeError::Ended("the feed")),
            _ = &mut reports => Err(ServeError::Ended("reporting")),
        };
        info!("gateway stops");
        api.abort();
        feed.abort();
        // They hold the other senders of reports.
        let _ = api.await;
        let _ = feed.await;
        if outcome.is_ok() {
            say_farewell(self.commands, data_path).await;
            if tokio::time::timeout(REPORT_LIMIT, reports).await.is_err() {
                warn!("the portal was not told of every session's end");
            }
        }
        if let Some(operator) = operator {
            operator.abort();
        }
        outcome
    }
}

/// Ready: the portal's grants are known, and the data path goes round.
fn checks(figures: watch::Receiver<Figures>, feed: watch::Receiver<FeedState>) -> Checks {
    Box::new(move || {
        let is_live = matches!(*feed.borrow(), FeedState::Live(_));
        let is_running = figures.borrow().are_fresh(clock::now().mono);
        Box::pin(std::future::ready(vec![
            Check {
                part: "feed",
                is_well: is_live,
            },
            Check {
                part: "data path",
                is_well: is_running,
            },
        ]))
    })
}

async fn say_farewell(
    commands: mpsc::Sender<Command>,
    data_path: JoinHandle<Result<(), DataPathError>>,
) {
    let farewell = async {
        let (done, told) = oneshot::channel();
        if commands.send(Command::Shutdown { done }).await.is_ok() {
            // An error is the data path gone, and its sessions with it.
            let _ = told.await;
        }
        let _ = data_path.await;
    };
    if tokio::time::timeout(FAREWELL_LIMIT, farewell)
        .await
        .is_err()
    {
        warn!("not every session heard that the gateway stops");
    }
}

fn why_ended(ended: Result<Result<(), DataPathError>, tokio::task::JoinError>) -> ServeError {
    match ended {
        Ok(Err(error)) => error.into(),
        Ok(Ok(())) | Err(_) => ServeError::Ended("the data path"),
    }
}

fn hello(config: &Config, wireguard_public_key: Bytes32, listening: &Listening) -> GatewayHello {
    let mut endpoints = config.public_endpoints.clone();
    if endpoints.is_empty() {
        endpoints.extend(listening.udp.iter().copied().map(on_loopback));
    }
    let url = match &config.public_url {
        Some(url) => url.as_str().to_owned(),
        None => format!("https://{}", on_loopback(listening.tls)),
    };
    GatewayHello {
        wireguard_public_key,
        endpoints,
        url,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Where a program on this machine reaches what is bound to `address`.
fn on_loopback(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        // Bound to `[::]` means IPv4 as well.
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// `[::]` means every address, also where there is no IPv6.
fn every_address(address: SocketAddr) -> SocketAddr {
    let unspecified = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    if address.ip() == unspecified && std::net::UdpSocket::bind((unspecified, 0)).is_err() {
        return SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
    }
    address
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for old connections to be forgotten.
    socket.set_reuse_address(true)?;
    // Where a line is narrow and ICMP is filtered, longer segments vanish without a word.
    socket.set_tcp_mss(TCP_SEGMENT_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_address_means_both_kinds() {
        let listener = listen("[::]:0".parse().unwrap()).unwrap();
        let address = on_loopback(listener.local_addr().unwrap());
        assert!(address.is_ipv4());
        tokio::net::TcpStream::connect(address).await.unwrap();
    }

    #[tokio::test]
    async fn segments_to_and_from_an_agent_fit_every_line() {
        let listener = listen("[::]:0".parse().unwrap()).unwrap();
        let address = on_loopback(listener.local_addr().unwrap());
        let agent = tokio::net::TcpStream::connect(address).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        for end in [&agent, &accepted] {
            let segment = socket2::SockRef::from(end).tcp_mss().unwrap();
            assert!(segment <= TCP_SEGMENT_BYTES, "{segment}");
        }
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error() {
        let taken = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(listen(taken.local_addr().unwrap()).is_err());
    }

    #[test]
    fn an_address_of_its_own_is_kept() {
        let own: SocketAddr = "192.0.2.1:443".parse().unwrap();
        assert_eq!(on_loopback(own), own);
    }
}
