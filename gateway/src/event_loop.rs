//! The data path: the UDP socket, the grants, the tunnels and the way to the portal.
//!
//! One task owns all four and is the only one that waits: for datagrams, for commands of the
//! agent API and the grant feed, for news of the connections to the portal, for the next
//! deadline, and in any case for a second, because a wall clock that is set announces itself
//! to nobody. What follows from them is decided in [`core`], which has no socket.
//!
//! Streams of the tunnels become TCP connections to the portal's member listener and to
//! nothing else.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::Moment;
use protocol::agent_api::{GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT};
use tokio::sync::mpsc;
use tunnel::keys::SecretKey;
use tunnel::server::{Route, ServerConfig, ServerTunnels};
use tunnel::tls::TlsError;
use udp::{Batch, Socket};

use crate::clock;
use crate::commands::{Command, Ended};

use self::core::Core;
use connection::News;
use links::Links;
pub use links::{RESET_BY_PC, RESET_BY_PORTAL, RESET_PORTAL_UNREACHABLE};

mod connection;
pub mod core;
mod links;
#[cfg(test)]
mod tests;

/// How long the loop waits at most. A wall clock that was set is noticed after this.
const TICK: Duration = Duration::from_secs(1);

/// Batches of datagrams that are sent before the loop listens again.
const SENDS_PER_TURN: usize = 64;

/// News of connections that are taken before the loop listens again.
const NEWS_PER_TURN: usize = 256;

/// Failures of the socket in a row after which the gateway gives up.
const SOCKET_FAILURES: u32 = 100;

/// How long stopping waits for reports to be taken.
const STOPPING_LIMIT: Duration = Duration::from_secs(2);

/// What the data path is made from.
pub struct DataPathConfig {
    /// Where WireGuard listens.
    pub listen: SocketAddr,
    /// The gateway's WireGuard key.
    pub secret_key: SecretKey,
    /// For QUIC inside the tunnels: see [`tunnel::tls::server_config`].
    pub tls: Arc<rustls::ServerConfig>,
    /// The portal's member listener.
    pub portal_member: SocketAddr,
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
    /// The certificate or key does not suit QUIC.
    #[error("TLS settings refused")]
    Tls(#[source] TlsError),
    /// The socket fails again and again.
    #[error("the WireGuard socket fails")]
    Socket(#[source] io::Error),
}

/// The data path, bound but not running yet.
pub struct DataPath {
    socket: Socket,
    core: Core<Links>,
    news: mpsc::Receiver<News>,
    buffer: Vec<u8>,
}

/// Binds and runs until a shutdown is commanded.
///
/// # Errors
/// [`DataPathError`] if it cannot start or go on.
pub async fn run(
    config: DataPathConfig,
    commands: mpsc::Receiver<Command>,
    ended: mpsc::Sender<Ended>,
) -> Result<(), DataPathError> {
    DataPath::bind(config).await?.run(commands, ended).await
}

/// Why the loop woke up.
enum Work {
    Command(Option<Command>),
    Datagrams(io::Result<()>),
    News(News),
    Report(bool),
    Time,
}

impl DataPath {
    /// Binds the socket. Nobody is admitted yet.
    ///
    /// # Errors
    /// [`DataPathError::Bind`] or [`DataPathError::Tls`].
    pub async fn bind(config: DataPathConfig) -> Result<Self, DataPathError> {
        let address = config.listen;
        let bound = Socket::bind(address).await;
        let socket = bound.map_err(|source| DataPathError::Bind { address, source })?;
        let inner = SocketAddrV6::new(GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, 0, 0);
        let tunnels = ServerTunnels::new(
            ServerConfig {
                secret_key: config.secret_key,
                inner_address: inner,
                tls: config.tls,
            },
            clock::now().mono,
        );
        let (links, news) = Links::new(config.portal_member);
        Ok(Self {
            socket,
            core: Core::new(tunnels.map_err(DataPathError::Tls)?, links),
            news,
            buffer: Vec::new(),
        })
    }

    /// Where the socket is bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Runs until a shutdown is commanded or nobody is left to command.
    ///
    /// # Errors
    /// [`DataPathError::Socket`] if the socket fails for good.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        ended: mpsc::Sender<Ended>,
    ) -> Result<(), DataPathError> {
        let mut batch = Batch::new();
        let mut failures = 0;
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
                received = self.socket.recv(&mut batch) => Work::Datagrams(received),
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
                    self.stop(&ended, now).await;
                    // Nobody may be waiting any more.
                    let _ = done.send(());
                    return Ok(());
                }
                Work::Command(None) => {
                    self.stop(&ended, now).await;
                    return Ok(());
                }
                Work::Command(Some(command)) => self.handle_command(command, now),
                Work::Datagrams(Ok(())) => {
                    failures = 0;
                    self.handle_datagrams(&batch, now);
                }
                Work::Datagrams(Err(error)) => {
                    failures += 1;
                    if failures >= SOCKET_FAILURES {
                        return Err(DataPathError::Socket(error));
                    }
                    tracing::warn!(%error, "receiving failed");
                }
                Work::News(news) => self.handle_news(news),
                Work::Report(true) | Work::Time => {}
                Work::Report(false) => tracing::warn!("nobody takes reports of ended sessions"),
            }
            if next_tick <= now.mono {
                next_tick = now.mono + TICK;
            }
            self.core.handle_timeout(now);
            more_to_send = self.send(SENDS_PER_TURN).await;
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

    fn handle_datagrams(&mut self, batch: &Batch, now: Moment) {
        for (from, datagram) in batch.datagrams() {
            self.core.handle_datagram(from.into(), datagram, now);
        }
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
        let segments = self.socket.max_segments();
        for _ in 0..batches {
            let outgoing = self.core.poll_transmit(segments, &mut self.buffer, now);
            let Some(outgoing) = outgoing else {
                return false;
            };
            let Route::Udp { remote, .. } = outgoing.to else {
                continue;
            };
            let sent = self
                .socket
                .send(remote, &self.buffer, outgoing.transmit.segment_size)
                .await;
            if let Err(error) = sent {
                tracing::debug!(%error, to = %remote, "datagrams not sent");
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
    async fn stop(&mut self, ended: &mpsc::Sender<Ended>, now: Moment) {
        self.core.stop(now);
        while self.send(SENDS_PER_TURN).await {}
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
    }
}
