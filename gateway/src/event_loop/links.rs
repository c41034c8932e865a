//! Which stream of which PC belongs to which connection to the portal.
//!
//! Moves bytes between the tunnels and the connections' tasks as far as either side takes
//! them, and no further: what is not taken stays in QUIC's windows or in the portal's socket.
//! There is one place a stream can lead to; nothing here chooses an address.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tunnel::server::{PeerId, ServerTunnels};
use tunnel::{Read, StreamId};

use super::budget::{Budget, Purse, SMALL_BYTES};
use super::connection::{
    self, CHUNK_BYTES, CHUNKS_WAITING, ConnectionError, News, Up, Waits, What,
};
use super::core::Relay;

/// Connections to the portal at a time, of all sessions together.
const MAX_LINKS: usize = 16_384;

/// News that wait for the event loop; connections wait while it is full.
const NEWS_WAITING: usize = 1024;

/// Starved links that are looked at when some bytes were given back.
const MAX_FED: usize = 64;

/// Stream reset code: the portal cannot be reached, or there are too many connections.
pub const RESET_PORTAL_UNREACHABLE: u64 = 2;

/// Stream reset code: the portal broke the connection off.
pub const RESET_BY_PORTAL: u64 = 3;

/// Stream reset code: the PC gave up one direction; a TCP connection has only both.
pub const RESET_BY_PC: u64 = 4;

/// Names a connection. Never used twice, so that late news meet nobody else's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LinkId(u64);

/// All streams that have a connection to the portal.
pub(super) struct Links {
    portal: SocketAddr,
    news: mpsc::Sender<News>,
    by_stream: HashMap<PeerId, HashMap<StreamId, LinkId>>,
    links: HashMap<LinkId, Link>,
    budget: Budget,
    /// Links that have something for the portal and got no share, the longest waiting first.
    starved: VecDeque<LinkId>,
    next: u64,
}

struct Link {
    peer: PeerId,
    stream: StreamId,
    up: mpsc::Sender<Up>,
    up_purse: Purse,
    /// Pieces that the portal's socket has not taken yet.
    up_waiting: usize,
    /// Whether it stands among the starved.
    is_starved: bool,
    up_state: UpState,
    /// What came from the portal and QUIC has not taken yet.
    down: VecDeque<Down>,
    down_finished: bool,
}

/// How far the direction towards the portal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UpState {
    Open,
    /// The PC has finished; the portal is still to be told.
    Finishing,
    /// The portal was told.
    Finished,
}

enum Down {
    Data(Bytes, Waits),
    Finish,
}

impl Links {
    /// Makes an empty table and the queue in which connections report. All connections together
    /// may hold so many bytes.
    pub(super) fn new(portal: SocketAddr, all_bytes: usize) -> (Self, mpsc::Receiver<News>) {
        let (news, queue) = mpsc::channel(NEWS_WAITING);
        let links = Self {
            portal,
            news,
            by_stream: HashMap::new(),
            links: HashMap::new(),
            budget: Budget::new(all_bytes),
            starved: VecDeque::new(),
            next: 0,
        };
        (links, queue)
    }

    /// Takes what a connection tells.
    pub(super) fn handle_news(&mut self, tunnels: &mut ServerTunnels, news: News) {
        let gives_back = matches!(news.what, What::Room | What::Failed(_));
        self.take_news(tunnels, news);
        if gives_back {
            self.feed_starved(tunnels);
        }
    }

    fn take_news(&mut self, tunnels: &mut ServerTunnels, news: News) {
        let Some(link) = self.links.get_mut(&news.link) else {
            return;
        };
        match news.what {
            What::Room => {
                link.up_waiting = link.up_waiting.saturating_sub(1);
                self.pump_up(tunnels, news.link);
            }
            What::Data(data, waits) => {
                link.down.push_back(Down::Data(data, waits));
                self.pump_down(tunnels, news.link);
            }
            What::Finished => {
                link.down.push_back(Down::Finish);
                self.pump_down(tunnels, news.link);
            }
            What::Failed(error) => {
                tracing::debug!(cause = ?error, "connection to the portal failed");
                let code = match error {
                    ConnectionError::Connect(error) => {
                        tracing::warn!(%error, portal = %self.portal, "the portal's member listener does not answer");
                        RESET_PORTAL_UNREACHABLE
                    }
                    ConnectionError::Broken(_) | ConnectionError::Aborted => RESET_BY_PORTAL,
                };
                self.break_off(tunnels, news.link, code);
            }
        }
    }

    fn find(&self, peer: PeerId, stream: StreamId) -> Option<LinkId> {
        self.by_stream.get(&peer)?.get(&stream).copied()
    }

    fn pump_up(&mut self, tunnels: &mut ServerTunnels, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        while link.up_state != UpState::Finished {
            let room = match link.up.try_reserve() {
                Ok(room) => room,
                // News of room follow.
                Err(mpsc::error::TrySendError::Full(())) => return,
                // News of the failure are on their way.
                Err(mpsc::error::TrySendError::Closed(())) => return,
            };
            if link.up_state == UpState::Finishing {
                room.send(Up::Finish);
                link.up_state = UpState::Finished;
                break;
            }
            let share = link.up_purse.try_take(CHUNK_BYTES);
            let most = match share {
                Some(_) => CHUNK_BYTES,
                // Nothing of it waits: a small piece may go without a share.
                None if link.up_waiting == 0 => SMALL_BYTES,
                None => {
                    if !std::mem::replace(&mut link.is_starved, true) {
                        self.starved.push_back(id);
                    }
                    return;
                }
            };
            let (data, ending) = gather(tunnels, link.peer, link.stream, most);
            let length = data.len();
            let piece = || {
                let share = share.map(|mut share| {
                    share.shrink(length);
                    share
                });
                Up::Data(data, share)
            };
            link.up_waiting += usize::from(length > 0);
            match ending {
                Ending::None if length == 0 => return,
                Ending::None => room.send(piece()),
                Ending::Finished => {
                    link.up_state = UpState::Finishing;
                    if length > 0 {
                        room.send(piece());
                    }
                }
                Ending::Reset => {
                    drop(room);
                    self.break_off(tunnels, id, RESET_BY_PC);
                    return;
                }
            }
        }
        self.remove_if_over(id);
    }

    /// Some bytes were given back: who waited longest takes of them first. One that still gets
    /// nothing stands at the end again, so that each is asked once.
    fn feed_starved(&mut self, tunnels: &mut ServerTunnels) {
        for _ in 0..self.starved.len().min(MAX_FED) {
            let Some(id) = self.starved.pop_front() else {
                return;
            };
            if let Some(link) = self.links.get_mut(&id) {
                link.is_starved = false;
                self.pump_up(tunnels, id);
            }
        }
    }

    fn pump_down(&mut self, tunnels: &mut ServerTunnels, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        while let Some(next) = link.down.front_mut() {
            let done = match next {
                Down::Data(data, _waits) => {
                    match tunnels.write(link.peer, link.stream, data) {
                        // A writable event follows.
                        Ok(0) => return,
                        Ok(_) => data.is_empty(),
                        Err(_) => {
                            self.break_off(tunnels, id, RESET_BY_PC);
                            return;
                        }
                    }
                }
                Down::Finish => {
                    link.down_finished = true;
                    if tunnels.finish(link.peer, link.stream).is_err() {
                        self.break_off(tunnels, id, RESET_BY_PC);
                        return;
                    }
                    true
                }
            };
            if done {
                link.down.pop_front();
            }
        }
        self.remove_if_over(id);
    }

    /// Aborts both directions on both sides.
    fn break_off(&mut self, tunnels: &mut ServerTunnels, id: LinkId, code: u64) {
        if let Some(link) = self.remove(id) {
            refuse(tunnels, link.peer, link.stream, code);
        }
    }

    fn remove_if_over(&mut self, id: LinkId) {
        let link = self.links.get(&id);
        if link.is_some_and(|link| link.down_finished && link.up_state == UpState::Finished) {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: LinkId) -> Option<Link> {
        let link = self.links.remove(&id)?;
        if let Some(streams) = self.by_stream.get_mut(&link.peer) {
            streams.remove(&link.stream);
        }
        Some(link)
    }
}

impl Relay for Links {
    fn open(
        &mut self,
        tunnels: &mut ServerTunnels,
        peer: PeerId,
        stream: StreamId,
        header: Vec<u8>,
    ) {
        if self.links.len() >= MAX_LINKS {
            tracing::warn!("too many connections to the portal");
            refuse(tunnels, peer, stream, RESET_PORTAL_UNREACHABLE);
            return;
        }
        let id = LinkId(self.next);
        self.next += 1;
        let (up, queue) = mpsc::channel(CHUNKS_WAITING);
        let (up_purse, down_purse) = self.budget.purses(peer);
        tokio::spawn(connection::carry(
            id,
            self.portal,
            header,
            queue,
            down_purse,
            self.news.clone(),
        ));
        self.by_stream.entry(peer).or_default().insert(stream, id);
        self.links.insert(
            id,
            Link {
                peer,
                stream,
                up,
                up_purse,
                up_waiting: 0,
                is_starved: false,
                up_state: UpState::Open,
                down: VecDeque::new(),
                down_finished: false,
            },
        );
    }

    fn readable(&mut self, tunnels: &mut ServerTunnels, peer: PeerId, stream: StreamId) {
        if let Some(id) = self.find(peer, stream) {
            self.pump_up(tunnels, id);
        }
    }

    fn writable(&mut self, tunnels: &mut ServerTunnels, peer: PeerId, stream: StreamId) {
        if let Some(id) = self.find(peer, stream) {
            self.pump_down(tunnels, id);
        }
    }

    fn stopped(&mut self, tunnels: &mut ServerTunnels, peer: PeerId, stream: StreamId) {
        if let Some(id) = self.find(peer, stream) {
            self.break_off(tunnels, id, RESET_BY_PC);
        }
    }

    fn drop_peer(&mut self, peer: PeerId) {
        self.budget.forget(peer);
        for id in self.by_stream.remove(&peer).unwrap_or_default().values() {
            // The task sees its queue closed without a finish, and aborts.
            self.links.remove(id);
        }
    }
}

enum Ending {
    None,
    Finished,
    Reset,
}

/// Reads up to `most` bytes: QUIC's pieces are as small as its packets, and each write to the
/// portal costs a system call.
fn gather(
    tunnels: &mut ServerTunnels,
    peer: PeerId,
    stream: StreamId,
    most: usize,
) -> (Bytes, Ending) {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let ending = loop {
        let gathered = first.len() + all.len();
        if gathered >= most {
            break Ending::None;
        }
        match tunnels.read(peer, stream, most - gathered) {
            Ok(Read::Data(data)) if gathered == 0 => first = data,
            Ok(Read::Data(data)) => {
                if all.is_empty() {
                    all.reserve(most);
                    all.extend_from_slice(&std::mem::take(&mut first));
                }
                all.extend_from_slice(&data);
            }
            Ok(Read::Blocked) => break Ending::None,
            Ok(Read::Finished) => break Ending::Finished,
            Err(_) => break Ending::Reset,
        }
    };
    let data = if all.is_empty() { first } else { all.freeze() };
    (data, ending)
}

/// Tells the PC that a stream leads nowhere (any more).
fn refuse(tunnels: &mut ServerTunnels, peer: PeerId, stream: StreamId, code: u64) {
    tunnels.reset(peer, stream, code);
    tunnels.stop(peer, stream, code);
}
