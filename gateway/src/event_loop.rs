//! The data path: the UDP sockets, the TLS connections that carry datagrams, the grants, the
//! tunnels and the way to the portal.
//!
//! One task owns them all and is the only one that waits: for datagrams, for commands of the
//! agent API and the grant feed, for news of the connections to the portal, for the next
//! deadline, and in any case for a second, because a wall clock that is set announces itself
//! to nobody. What follows from them is decided in [`core`], which has no socket.
//!
//! Streams of the tunnels become TCP connections to the portal's member listener and to
//! nothing else.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use access::Moment;
use protocol::agent_api::{GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT};
use tokio::sync::{mpsc, watch};
use tunnel::keys::SecretKey;
use tunnel::server::{PeerId, Route, ServerConfig, ServerTunnels};
use tunnel::tls::TlsError;
use udp::{Batch, Socket};

use crate::clock;
use crate::commands::{Command, Ended};
use crate::metrics::Figures;
use crate::tls_tunnel::{self, ConnectionId};

use self::core::Core;
use connection::News;
use links::Links;
pub use links::{RESET_BY_PC, RESET_BY_PORTAL, RESET_PORTAL_UNREACHABLE};
use tls_ways::{Sent, TlsWays};

mod budget;
mod connection;
pub mod core;
mod links;
#[cfg(test)]
mod tests;
mod tls_ways;

/// How long the loop waits at most. A wall clock that was set is noticed after this.
const TICK: Duration = Duration::from_secs(1);

/// Batches of datagrams that are sent before the loop listens again.
const SENDS_PER_TURN: usize = 64;

/// News of connections that are taken before the loop listens again.
const NEWS_PER_TURN: usize = 256;

/// News of TLS connections, and of the links to the portal, that are taken before the loop
/// listens again, so that neither they nor the UDP sockets can keep the others waiting: with
/// datagrams without end a select alone would never come to them.
const CARRIED_PER_TURN: usize = 16;

/// Most UDP ports that a gateway listens on.
pub const SOCKETS_LIMIT: usize = 8;

/// Failures of the socket in a row after which the gateway gives up.
const SOCKET_FAILURES: u32 = 100;

/// How long stopping waits for farewells to leave the TLS connections.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// How long stopping waits for reports to be taken.
const STOPPING_LIMIT: Duration = Duration::from_secs(2);

/// What the data path is made from.
pub struct DataPathConfig {
    /// Where WireGuard listens: one address or more, at most [`SOCKETS_LIMIT`].
    pub listen: Vec<SocketAddr>,
    /// The gateway's WireGuard key.
    pub secret_key: SecretKey,
    /// For QUIC inside the tunnels: see [`tunnel::tls::server_config`].
    pub tls: Arc<rustls::ServerConfig>,
    /// The portal's member listener.
    pub portal_member: SocketAddr,
    /// What may wait between the tunnels and the portal, of all sessions together.
    pub stream_memory_bytes: usize,
}

/// Why the data path cannot start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum DataPathError {
    /// The address cannot be bound.
    #[error("cannot listen for WireGuard on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No address, or too many.
    #[error("{0} addresses to listen on for WireGuard; 1 to {SOCKETS_LIMIT} are possible")]
    Addresses(usize),
    /// The certificate or key does not suit QUIC.
    #[error("TLS settings refused")]
    Tls(#[source] TlsError),
    /// The socket fails again and again.
    #[error("the WireGuard socket fails")]
    Socket(#[source] io::Error),
}

/// The data path, bound but not running yet.
pub struct DataPath {
    sockets: Vec<Socket>,
    core: Core<Links>,
    news: mpsc::Receiver<News>,
    ways: TlsWays,
    figures: Figures,
    shown: watch::Sender<Figures>,
    buffer: Vec<u8>,
}

/// Binds and runs until a shutdown is commanded.
///
/// # Errors
/// [`DataPathError`] if it cannot start or go on.
pub async fn run(
    config: DataPathConfig,
    commands: mpsc::Receiver<Command>,
    carried: mpsc::Receiver<tls_tunnel::News>,
    ended: mpsc::Sender<Ended>,
) -> Result<(), DataPathError> {
    let path = DataPath::bind(config).await?;
    path.run(commands, carried, ended).await
}

/// Why the loop woke up.
enum Work {
    Command(Option<Command>),
    Datagrams(usize, io::Result<()>),
    Carried(tls_tunnel::News),
    News(News),
    Report(bool),
    Time,
}

impl DataPath {
    /// Binds the sockets. Nobody is admitted yet.
    ///
    /// # Errors
    /// [`DataPathError::Bind`], [`DataPathError::Addresses`] or [`DataPathError::Tls`].
    pub async fn bind(config: DataPathConfig) -> Result<Self, DataPathError> {
        if !(1..=SOCKETS_LIMIT).contains(&config.listen.len()) {
            return Err(DataPathError::Addresses(config.listen.len()));
        }
        let mut sockets = Vec::new();
        for address in config.listen {
            let bound = Socket::bind(address).await;
            sockets.push(bound.map_err(|source| DataPathError::Bind { address, source })?);
        }
        let inner = SocketAddrV6::new(GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, 0, 0);
        let tunnels = ServerTunnels::new(
            ServerConfig {
                secret_key: config.secret_key,
                inner_address: inner,
                tls: config.tls,
            },
            clock::now().mono,
        );
        let (links, news) = Links::new(config.portal_member, config.stream_memory_bytes);
        Ok(Self {
            sockets,
            core: Core::new(tunnels.map_err(DataPathError::Tls)?, links),
            news,
            ways: TlsWays::default(),
            figures: Figures::default(),
            shown: watch::Sender::default(),
            buffer: Vec::new(),
        })
    }

    /// Where the sockets are bound, in the order of the configuration.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        self.sockets.iter().map(Socket::local_addr).collect()
    }

    /// Where the data path shows its figures, once a second while it runs.
    pub fn figures(&self) -> watch::Receiver<Figures> {
        self.shown.subscribe()
    }

    /// Runs until a shutdown is commanded or nobody is left to command.
    ///
    /// # Errors
    /// [`DataPathError::Socket`] if the socket fails for good.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut carried: mpsc::Receiver<tls_tunnel::News>,
        ended: mpsc::Sender<Ended>,
    ) -> Result<(), DataPathError> {
        let mut batch = Batch::new();
        let mut failures = 0;
        let mut next_socket = 0;
        let mut more_to_send = false;
        let mut next_tick = clock::now().mono + TICK;
        let timer = tokio::time::sleep_until(next_tick.into());
        tokio::pin!(timer);
        loop {
            let wake = self.wake_at(next_tick);
            if timer.deadline().into_std() != wake {
                timer.as_mut().reset(wake.into());
            }
            let work = tokio::select! {
                biased;
                command = commands.recv() => Work::Command(command),
                (socket, received) = receive(&self.sockets, next_socket, &mut batch) => {
                    Work::Datagrams(socket, received)
                }
                Some(news) = carried.recv() => Work::Carried(news),
                Some(news) = self.news.recv() => Work::News(news),
                room = ended.reserve(), if self.core.has_report() => {
                    Work::Report(self.report(room.ok()))
                }
                () = std::future::ready(()), if more_to_send => Work::Time,
                () = &mut timer => Work::Time,
            };
            let now = clock::now();
            match work {
                Work::Command(Some(Command::Shutdown { done })) => {
                    self.stop(carried, &ended, now).await;
                    // Nobody may be waiting any more.
                    let _ = done.send(());
                    return Ok(());
                }
                Work::Command(None) => {
                    self.stop(carried, &ended, now).await;
                    return Ok(());
                }
                Work::Command(Some(command)) => self.handle_command(command, now),
                Work::Datagrams(socket, Ok(())) => {
                    failures = 0;
                    // The others are asked first the next time.
                    next_socket = socket + 1;
                    self.handle_datagrams(socket, &batch, now);
                }
                Work::Datagrams(_, Err(error)) => {
                    failures += 1;
                    if failures >= SOCKET_FAILURES {
                        return Err(DataPathError::Socket(error));
                    }
                    tracing::warn!(%error, "receiving failed");
                }
                Work::Carried(news) => self.handle_carried(news, now),
                Work::News(news) => self.handle_news(news),
                Work::Report(true) | Work::Time => {}
                Work::Report(false) => tracing::warn!("nobody takes reports of ended sessions"),
            }
            for _ in 0..CARRIED_PER_TURN {
                let Ok(news) = carried.try_recv() else {
                    break;
                };
                self.handle_carried(news, now);
            }
            if let Ok(news) = self.news.try_recv() {
                self.handle_news(news);
            }
            if self.core.has_report()
                && let Ok(room) = ended.try_reserve()
            {
                self.report(Some(room));
            }
            if next_tick <= now.mono {
                next_tick = now.mono + TICK;
                self.show_figures(now);
            }
            self.core.handle_timeout(now);
            self.tend_ways(now);
            more_to_send = self.send(SENDS_PER_TURN).await;
            if !more_to_send {
                self.ways.close_ended();
            }
        }
    }

    fn wake_at(&self, next_tick: Instant) -> Instant {
        let deadline = self.core.poll_timeout();
        deadline.map_or(next_tick, |deadline| deadline.min(next_tick))
    }

    fn handle_command(&mut self, command: Command, now: Moment) {
        match command {
            Command::Install {
                grant,
                server_time,
                installed,
            } => {
                let _ = installed.send(self.core.install(*grant, server_time, now));
            }
            Command::Snapshot {
                grants,
                server_time,
            } => self.core.snapshot(grants, server_time, now),
            Command::End {
                session,
                through,
                reason,
            } => self.core.end(session, through, reason, now),
            Command::Shutdown { .. } => {}
        }
    }

    fn handle_datagrams(&mut self, socket: usize, batch: &Batch, now: Moment) {
        let socket = u8::try_from(socket).expect("sockets are few");
        for (remote, datagram) in batch.datagrams() {
            self.figures.udp.bytes_in += datagram.len() as u64;
            let from = Route::Udp { socket, remote };
            self.core.handle_datagram(from, datagram, now);
        }
    }

    /// Takes what a TLS connection tells.
    fn handle_carried(&mut self, news: tls_tunnel::News, now: Moment) {
        let id = news.connection;
        match news.what {
            tls_tunnel::What::Opened(opened) => {
                let gave_way = self.ways.open(id, opened, now.mono);
                self.lose(gave_way);
            }
            tls_tunnel::What::Datagrams(frames) => {
                let Some((route, device)) = self.ways.route(id) else {
                    return;
                };
                let mut last = None;
                self.figures.tls.bytes_in += frames.len_bytes() as u64;
                for datagram in frames.datagrams() {
                    let heard = self
                        .core
                        .handle_device_datagram(route, &device, datagram, now);
                    last = heard.or(last);
                }
                if let Some(session) = last {
                    self.ways.heard(id, session, now.mono);
                }
            }
            tls_tunnel::What::Room => {
                if let Some(session) = self.ways.session(id) {
                    self.core.relay().0.let_go(session);
                }
            }
            tls_tunnel::What::Closed => {
                let served = self.ways.close(id);
                self.lose(served);
            }
        }
    }

    /// Lets the operator see what was counted.
    fn show_figures(&mut self, now: Moment) {
        let sessions = self.core.sessions();
        let tunnels = self.core.relay().0;
        let figures = Figures {
            at: Some(now.mono),
            counters: tunnels.counters(),
            sessions,
            reached: tunnels.reached(),
            tls_connections: self.ways.len(),
            ..self.figures
        };
        self.shown.send_replace(figures);
    }

    /// Nothing is sent to a session by a way that is gone.
    fn lose(&mut self, served: Option<(PeerId, Route)>) {
        if let Some((session, route)) = served {
            self.core.relay().0.lose_route(session, route);
        }
    }

    /// Readies the TLS connections of ended sessions for the farewell, and closes silent ones.
    fn tend_ways(&mut self, now: Moment) {
        while let Some((session, reason)) = self.core.poll_ended() {
            self.figures.count_end(reason);
            self.ways.ended(session);
        }
        let tunnels = self.core.relay().0;
        self.ways.close_silent(now.mono, |session, route| {
            tunnels.lose_route(session, route);
        });
    }

    fn handle_news(&mut self, first: News) {
        let (tunnels, links) = self.core.relay();
        links.handle_news(tunnels, first);
        for _ in 1..NEWS_PER_TURN {
            let Ok(news) = self.news.try_recv() else {
                break;
            };
            links.handle_news(tunnels, news);
        }
    }

    /// Sends what waits, at most `batches`. True if there may be more.
    async fn send(&mut self, batches: usize) -> bool {
        let now = clock::now();
        let segments = self.sockets.iter().map(Socket::max_segments).min();
        let segments = segments.unwrap_or(1);
        for _ in 0..batches {
            let outgoing = self.core.poll_transmit(segments, &mut self.buffer, now);
            let Some(outgoing) = outgoing else {
                return false;
            };
            let segment_size = outgoing.transmit.segment_size;
            match outgoing.to {
                Route::Udp { socket, remote } => {
                    let Some(socket) = self.sockets.get(usize::from(socket)) else {
                        continue;
                    };
                    let sent = socket.send(remote, &self.buffer, segment_size).await;
                    match sent {
                        Ok(()) => self.figures.udp.bytes_out += self.buffer.len() as u64,
                        Err(error) => {
                            self.figures.udp.dropped_out += 1;
                            tracing::debug!(%error, to = %remote, "datagrams not sent");
                        }
                    }
                }
                Route::Tls { connection, .. } => {
                    let id = ConnectionId(connection);
                    let sent = self.ways.send(id, &self.buffer, segment_size);
                    match sent {
                        Sent::Done => {}
                        Sent::Hold(session) => self.core.relay().0.hold(session),
                        Sent::Dropped => {
                            self.figures.tls.dropped_out += 1;
                            continue;
                        }
                    }
                    self.figures.tls.bytes_out += self.buffer.len() as u64;
                }
            }
        }
        true
    }

    /// Hands the oldest report over. False if nobody takes reports.
    fn report(&mut self, room: Option<mpsc::Permit<'_, Ended>>) -> bool {
        match (room, self.core.poll_report()) {
            (Some(room), Some(ended)) => {
                room.send(ended);
                true
            }
            (None, Some(_)) => {
                self.core.forget_reports();
                false
            }
            (_, None) => true,
        }
    }

    /// Tells every session that the gateway stops, and the portal what became of them.
    async fn stop(
        &mut self,
        mut carried: mpsc::Receiver<tls_tunnel::News>,
        ended: &mpsc::Sender<Ended>,
        now: Moment,
    ) {
        self.core.stop(now);
        self.tend_ways(now);
        while self.send(SENDS_PER_TURN).await {}
        self.ways = TlsWays::default();
        let handed_over = tokio::time::timeout(STOPPING_LIMIT, async {
            while let Some(report) = self.core.poll_report() {
                if ended.send(report).await.is_err() {
                    return;
                }
            }
        });
        if handed_over.await.is_err() {
            tracing::warn!("not all ended sessions could be reported");
        }
        // The program may end after this, and its tasks with it: TLS connections write their
        // last bytes before. They hold the other ends of the queue.
        let written = async { while carried.recv().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL_LIMIT, written).await;
    }
}

/// Waits for datagrams on any socket, `first` asked first, and fills `batch` from one of them.
async fn receive(sockets: &[Socket], first: usize, batch: &mut Batch) -> (usize, io::Result<()>) {
    std::future::poll_fn(|cx| {
        for at in (0..sockets.len()).map(|offset| (first + offset) % sockets.len()) {
            while let Poll::Ready(ready) = sockets[at].poll_readable(cx) {
                match ready.and_then(|()| sockets[at].try_recv(batch)) {
                    Ok(true) => return Poll::Ready((at, Ok(()))),
                    Ok(false) => {}
                    Err(error) => return Poll::Ready((at, Err(error))),
                }
            }
        }
        Poll::Pending
    })
    .await
}
