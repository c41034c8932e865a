//! The data path: the UDP socket, the grants, the tunnels and the way to the portal.
//!
//! One task owns all four and is the only one that waits: for datagrams, for commands of the
//! agent API and the grant feed, for news of the connections to the portal, for the next
//! deadline, and in any case for a second, because a wall clock that is set announces itself
//! to nobody. Rules live elsewhere: [`Grants`] says who may pass, for every packet in both
//! directions, and [`ServerTunnels`] how.
//!
//! Streams of the tunnels become TCP connections to the portal's member listener and to
//! nothing else.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::Moment;
use bytes::Bytes;
use protocol::agent_api::{EndCode, GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, TunnelMessage};
use protocol::control::Grant;
use protocol::{Generation, SessionId};
use tokio::sync::mpsc;
use tunnel::keys::{PresharedKey, PublicKey, SecretKey};
use tunnel::server::{PeerConfig, PeerId, ServerConfig, ServerTunnels};
use tunnel::tls::TlsError;
use tunnel::{CloseReason, StreamId, server};
use udp::{Batch, Socket};
use uuid::Uuid;

use crate::clock;
use crate::commands::{Command, Ended};
use crate::grants::{self, Grants};

use connection::News;
use links::Links;
pub use links::{RESET_BY_PC, RESET_BY_PORTAL, RESET_PORTAL_UNREACHABLE};

mod connection;
mod links;
#[cfg(test)]
mod tests;

/// How long the loop waits at most. A wall clock that was set is noticed after this.
const TICK: Duration = Duration::from_secs(1);

/// Batches of datagrams that are sent before the loop listens again.
const SENDS_PER_TURN: usize = 64;

/// News of connections that are taken before the loop listens again.
const NEWS_PER_TURN: usize = 256;

/// Ended sessions that wait to be reported to the portal; it learns of lost ones from its
/// own deadlines.
const UNREPORTED_LIMIT: usize = 100_000;

/// Failures of the socket in a row after which the gateway gives up.
const SOCKET_FAILURES: u32 = 100;

/// How long stopping waits for reports to be taken.
const STOPPING_LIMIT: Duration = Duration::from_secs(2);

/// The port that members' pages are on, as the PROXY header says it.
const MEMBER_PORT: u16 = 443;

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
    tunnels: ServerTunnels,
    grants: Grants,
    links: Links,
    news: mpsc::Receiver<News>,
    unreported: VecDeque<Ended>,
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
            tunnels: tunnels.map_err(DataPathError::Tls)?,
            grants: Grants::new(),
            links,
            news,
            unreported: VecDeque::new(),
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
                room = ended.reserve(), if !self.unreported.is_empty() => {
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
            self.grants.handle_timeout(now);
            self.tunnels.handle_timeout(now.mono);
            self.settle(now);
            more_to_send = self.send(SENDS_PER_TURN).await;
        }
    }

    fn wake_at(&self, next_tick: Instant) -> Instant {
        let deadlines = [self.tunnels.poll_timeout(), self.grants.poll_timeout()];
        deadlines.into_iter().flatten().fold(next_tick, Ord::min)
    }

    fn handle_command(&mut self, command: Command, now: Moment) {
        match command {
            Command::Install {
                grant,
                server_time,
                installed,
            } => {
                let result = self.grants.handle_grant(*grant, server_time, now);
                // The peer must be there before the agent hears of it.
                self.settle(now);
                let _ = installed.send(result);
            }
            Command::Snapshot {
                grants,
                server_time,
            } => {
                let refused = self.grants.handle_snapshot(grants, server_time, now);
                for (session, reason) in refused {
                    tracing::warn!(%session, %reason, "grant of the snapshot refused");
                }
            }
            Command::End {
                session,
                through,
                reason,
            } => self.grants.handle_end(session, through, reason, now),
            Command::Shutdown { .. } => {}
        }
    }

    fn handle_datagrams(&mut self, batch: &Batch, now: Moment) {
        let grants = &self.grants;
        for (from, datagram) in batch.datagrams() {
            self.tunnels
                .handle_datagram(now.mono, from, datagram, |peer| {
                    grants.is_admitted(session_of(peer), now)
                });
        }
    }

    fn handle_news(&mut self, first: News) {
        self.links.handle_news(&mut self.tunnels, first);
        for _ in 1..NEWS_PER_TURN {
            let Ok(news) = self.news.try_recv() else {
                break;
            };
            self.links.handle_news(&mut self.tunnels, news);
        }
    }

    /// Hears what grants and tunnels have to tell until both are silent.
    fn settle(&mut self, now: Moment) {
        loop {
            if let Some(event) = self.grants.poll_event() {
                self.handle_grants_event(event, now);
            } else if let Some(event) = self.tunnels.poll_event(now.mono) {
                self.handle_tunnel_event(event, now);
            } else {
                return;
            }
        }
    }

    fn handle_grants_event(&mut self, event: grants::Event, now: Moment) {
        match event {
            grants::Event::Installed(grant) => {
                let peer = peer_of(grant.session);
                if let Err(error) = self.tunnels.add_peer(peer, peer_config(&grant), now.mono) {
                    // Grants and tunnels hold the same sessions, so that this is a fault of ours:
                    // whoever cannot be served must not seem to be.
                    tracing::error!(session = %grant.session, %error, "granted session refused");
                    let (session, through) = (grant.session, grant.generation);
                    let reason = EndCode::GatewayStopped;
                    self.grants.handle_end(session, through, reason, now);
                }
            }
            grants::Event::Shortened {
                session,
                deadline_ms,
                reason,
            } => self.tell_agent(
                session,
                TunnelMessage::Deadline {
                    deadline_ms,
                    reason,
                },
            ),
            grants::Event::Ended {
                session,
                generation,
                reason,
            } => {
                let peer = peer_of(session);
                self.links.drop_peer(peer);
                let traffic = self.tunnels.remove_peer(peer, reason as u64, now.mono);
                let traffic = traffic.unwrap_or_default();
                if self.unreported.len() >= UNREPORTED_LIMIT {
                    self.unreported.pop_front();
                }
                self.unreported.push_back(Ended {
                    session,
                    generation,
                    reason,
                    bytes_in: traffic.bytes_in,
                    bytes_out: traffic.bytes_out,
                });
                tracing::info!(%session, reason = reason.as_str(), "session ended");
            }
        }
    }

    fn handle_tunnel_event(&mut self, event: server::Event, now: Moment) {
        match event {
            server::Event::Connected(peer) => {
                tracing::info!(session = %session_of(peer), "session connected");
            }
            server::Event::StreamOpened(peer, stream) => self.open_link(peer, stream),
            server::Event::StreamReadable(peer, stream) => {
                self.links.readable(&mut self.tunnels, peer, stream);
            }
            server::Event::StreamWritable(peer, stream) => {
                self.links.writable(&mut self.tunnels, peer, stream);
            }
            server::Event::StreamStopped { peer, stream, .. } => {
                self.links.stopped(&mut self.tunnels, peer, stream);
            }
            server::Event::Disconnected { peer, reason } => {
                let session = session_of(peer);
                tracing::info!(%session, %reason, "tunnel connection over");
                self.links.drop_peer(peer);
                match reason {
                    CloseReason::ByPeer { code } => self.handle_leaving(session, code, now),
                    // It may come back until its deadline.
                    CloseReason::ByUs | CloseReason::TimedOut | CloseReason::Failed(_) => {}
                }
            }
        }
    }

    /// The agent closed the connection: for good, or because it goes on through another
    /// gateway. In both cases it may not come back with this grant.
    fn handle_leaving(&mut self, session: SessionId, code: u64, now: Moment) {
        let Some(generation) = self.grants.grant(session).map(|grant| grant.generation) else {
            return;
        };
        let (through, reason) = match EndCode::from_close_code(code) {
            Some(EndCode::Moved) => (generation, EndCode::Moved),
            // Whatever code it gives: it is the one who left.
            Some(_) | None => (Generation::LAST, EndCode::Disconnected),
        };
        self.grants.handle_end(session, through, reason, now);
    }

    fn open_link(&mut self, peer: PeerId, stream: StreamId) {
        let Some(grant) = self.grants.grant(session_of(peer)) else {
            return;
        };
        let source = SocketAddrV6::new(grant.inner_address, source_port(stream), 0, 0);
        let destination = SocketAddrV6::new(GATEWAY_INNER_ADDRESS, MEMBER_PORT, 0, 0);
        let header = protocol::proxy::encode(grant.session, source, destination, &grant.proxy_key);
        self.links.open(&mut self.tunnels, peer, stream, header);
    }

    fn tell_agent(&mut self, session: SessionId, message: TunnelMessage) {
        let text = serde_json::to_vec(&message).expect("a message of numbers and words is JSON");
        let sent = self
            .tunnels
            .send_message(peer_of(session), Bytes::from(text));
        if let Err(error) = sent {
            // The deadline holds all the same; the agent sees it when it comes.
            tracing::debug!(%session, %error, "agent not told");
        }
    }

    /// Sends what waits, at most `batches`. True if there may be more.
    async fn send(&mut self, batches: usize) -> bool {
        let now = clock::now();
        let grants = &self.grants;
        let segments = self.socket.max_segments();
        for _ in 0..batches {
            let outgoing =
                self.tunnels
                    .poll_transmit(now.mono, segments, &mut self.buffer, |peer| {
                        grants.is_admitted(session_of(peer), now)
                    });
            let Some(outgoing) = outgoing else {
                return false;
            };
            let sent = self
                .socket
                .send(outgoing.to, &self.buffer, outgoing.transmit.segment_size)
                .await;
            if let Err(error) = sent {
                tracing::debug!(%error, to = %outgoing.to, "datagrams not sent");
            }
        }
        true
    }

    /// Hands the oldest report over. False if nobody takes reports.
    fn report(&mut self, room: Option<mpsc::Permit<'_, Ended>>) -> bool {
        match (room, self.unreported.pop_front()) {
            (Some(room), Some(ended)) => {
                room.send(ended);
                true
            }
            (None, Some(_)) => {
                self.unreported.clear();
                false
            }
            (_, None) => true,
        }
    }

    /// Tells every session that the gateway stops, and the portal what became of them.
    async fn stop(&mut self, ended: &mpsc::Sender<Ended>, now: Moment) {
        self.grants.handle_stop(now);
        self.settle(now);
        while self.send(SENDS_PER_TURN).await {}
        let reports = std::mem::take(&mut self.unreported);
        let handed_over = tokio::time::timeout(STOPPING_LIMIT, async {
            for report in reports {
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

fn session_of(peer: PeerId) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(peer.0))
}

fn peer_of(session: SessionId) -> PeerId {
    PeerId(session.as_uuid().as_u128())
}

fn peer_config(grant: &Grant) -> PeerConfig {
    PeerConfig {
        public_key: PublicKey::from_bytes(grant.wireguard_public_key.0),
        preshared_key: PresharedKey::from_bytes(grant.preshared_key.0),
        inner_address: grant.inner_address,
        device_certificate_sha256: grant.device_certificate_sha256.0,
    }
}

/// A port for the PROXY header, so that a session's connections can be told apart in logs.
fn source_port(stream: StreamId) -> u16 {
    const FIRST: u64 = 1024;
    let port = FIRST + stream.index() % (u64::from(u16::MAX) + 1 - FIRST);
    u16::try_from(port).unwrap_or(u16::MAX)
}
