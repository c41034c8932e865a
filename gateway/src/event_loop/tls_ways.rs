//! The TLS connections that carry datagrams, as the data path sees them.
//!
//! Keeps for each whose certificate it was opened with and whom it serves, puts datagrams
//! into its outbox, and closes it when its session has ended, when nothing authentic has
//! come out of it for long, or when its device opens too many. Who may pass, it does not
//! decide.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use protocol::Bytes32;
use tunnel::KEEP_ALIVE;
use tunnel::server::{PeerId, Route};

use crate::tls_tunnel::{ConnectionId, Opened, Outbox, Pushed};

/// Connections that one device may hold: the one it uses, one that takes its place, and two
/// that it lost without being able to say so. The oldest gives way, so that a PC whose
/// network breaks again and again is never locked out by its own remains.
pub(super) const CONNECTIONS_PER_DEVICE: usize = 4;

/// How long a new connection may take to bring its first authentic datagram.
const FIRST_LIMIT: Duration = Duration::from_secs(15);

/// How long a connection may go without an authentic datagram. Agents send one each
/// [`KEEP_ALIVE`]; two may be late behind bulk data.
const SILENCE_LIMIT: Duration = Duration::from_secs(3 * KEEP_ALIVE.as_secs());

/// All connections.
#[derive(Debug, Default)]
pub(super) struct TlsWays {
    ways: HashMap<ConnectionId, Way>,
    by_device: HashMap<Bytes32, VecDeque<ConnectionId>>,
    /// The connection that each session was last heard from on.
    by_session: HashMap<PeerId, ConnectionId>,
    /// When each connection is to be looked at for silence.
    looks: BTreeSet<(Instant, ConnectionId)>,
    /// Connections whose last bytes are about to be put into the outbox.
    closing: Vec<ConnectionId>,
}

#[derive(Debug)]
struct Way {
    device: Bytes32,
    remote: IpAddr,
    outbox: Outbox,
    /// Whom it serves: the last session that something authentic came from.
    session: Option<PeerId>,
    silent_at: Instant,
    look_at: Instant,
}

/// What the caller must do after a burst was put into an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Nothing.
    Done,
    /// Hold the session back until there is room.
    Hold(PeerId),
    /// The burst was dropped.
    Dropped,
}

impl TlsWays {
    /// Takes over a new connection. Returns whom the one served that had to give way to it.
    pub(super) fn open(
        &mut self,
        id: ConnectionId,
        opened: Opened,
        now: Instant,
    ) -> Option<(PeerId, Route)> {
        let device = opened.device_certificate_sha256;
        let silent_at = now + FIRST_LIMIT;
        self.looks.insert((silent_at, id));
        let way = Way {
            device,
            remote: opened.remote,
            outbox: opened.outbox,
            session: None,
            silent_at,
            look_at: silent_at,
        };
        self.ways.insert(id, way);
        let of_device = self.by_device.entry(device).or_default();
        of_device.push_back(id);
        let is_one_too_many = of_device.len() > CONNECTIONS_PER_DEVICE;
        let oldest = *of_device.front().filter(|_| is_one_too_many)?;
        tracing::debug!("a device's oldest TLS tunnel gives way");
        self.close(oldest)
    }

    /// The way and the device of what comes out of a connection.
    pub(super) fn route(&self, id: ConnectionId) -> Option<(Route, Bytes32)> {
        let way = self.ways.get(&id)?;
        Some((route(id, way.remote), way.device))
    }

    /// Something authentic of `session` came.
    pub(super) fn heard(&mut self, id: ConnectionId, session: PeerId, now: Instant) {
        if let Some(way) = self.ways.get_mut(&id) {
            way.silent_at = now + SILENCE_LIMIT;
            way.session = Some(session);
            self.by_session.insert(session, id);
        }
    }

    /// Puts a burst into an outbox.
    pub(super) fn send(&self, id: ConnectionId, contents: &[u8], segment_size: usize) -> Sent {
        let Some(way) = self.ways.get(&id) else {
            return Sent::Dropped;
        };
        match (way.outbox.push(contents, segment_size), way.session) {
            (Pushed::TakenLowRoom, Some(session)) => Sent::Hold(session),
            (Pushed::Taken | Pushed::TakenLowRoom, _) => Sent::Done,
            (Pushed::Dropped, _) => Sent::Dropped,
        }
    }

    /// Whom a connection serves.
    pub(super) fn session(&self, id: ConnectionId) -> Option<PeerId> {
        self.ways.get(&id)?.session
    }

    /// A session has ended: what waits for it is thrown away, and its connection is closed by
    /// [`Self::close_ended`], when its farewell has been put into the outbox.
    pub(super) fn ended(&mut self, session: PeerId) {
        if let Some(id) = self.by_session.remove(&session)
            && let Some(way) = self.ways.get(&id)
            && way.session == Some(session)
        {
            way.outbox.discard();
            self.closing.push(id);
        }
    }

    /// Closes the connections of ended sessions.
    pub(super) fn close_ended(&mut self) {
        for id in std::mem::take(&mut self.closing) {
            self.close(id);
        }
    }

    /// Closes the connections from which nothing authentic has come for too long. The work
    /// is bounded by what is due, not by how many there are. Calls `lost` for each.
    pub(super) fn close_silent(&mut self, now: Instant, mut lost: impl FnMut(PeerId, Route)) {
        while let Some(&(at, id)) = self.looks.first()
            && at <= now
        {
            self.looks.remove(&(at, id));
            let Some(way) = self.ways.get_mut(&id) else {
                continue;
            };
            if way.silent_at > now {
                way.look_at = way.silent_at;
                self.looks.insert((way.look_at, id));
                continue;
            }
            tracing::debug!("a silent TLS tunnel is closed");
            if let Some((session, route)) = self.close(id) {
                lost(session, route);
            }
        }
    }

    /// Forgets a connection; dropping its outbox closes it. Returns whom it served.
    pub(super) fn close(&mut self, id: ConnectionId) -> Option<(PeerId, Route)> {
        let way = self.ways.remove(&id)?;
        self.looks.remove(&(way.look_at, id));
        if let Some(of_device) = self.by_device.get_mut(&way.device) {
            of_device.retain(|other| *other != id);
            if of_device.is_empty() {
                self.by_device.remove(&way.device);
            }
        }
        let session = way.session?;
        if self.by_session.get(&session) == Some(&id) {
            self.by_session.remove(&session);
        }
        Some((session, route(id, way.remote)))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ways.len()
    }
}

fn route(id: ConnectionId, remote: IpAddr) -> Route {
    Route::Tls {
        connection: id.0,
        remote,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const SECOND: Duration = Duration::from_secs(1);
    const S: PeerId = PeerId(1);
    const T: PeerId = PeerId(2);

    fn opened(device: u8) -> Opened {
        Opened {
            device_certificate_sha256: Bytes32([device; 32]),
            remote: Ipv4Addr::LOCALHOST.into(),
            outbox: Outbox::default(),
        }
    }

    fn id(number: u64) -> ConnectionId {
        ConnectionId(number)
    }

    fn closed_at(ways: &mut TlsWays, now: Instant) -> Vec<PeerId> {
        let mut lost = Vec::new();
        ways.close_silent(now, |session, _| lost.push(session));
        lost
    }

    #[test]
    fn a_connection_that_brings_nothing_authentic_is_closed() {
        let (mut ways, start) = (TlsWays::default(), crate::clock::now().mono);
        ways.open(id(1), opened(1), start);
        closed_at(&mut ways, start + FIRST_LIMIT - SECOND);
        assert_eq!(ways.len(), 1);
        assert_eq!(closed_at(&mut ways, start + FIRST_LIMIT), []);
        assert_eq!(ways.len(), 0);
        assert!(ways.looks.is_empty() && ways.by_device.is_empty());
    }

    #[test]
    fn one_that_does_stays_until_it_has_been_silent_for_long() {
        let (mut ways, start) = (TlsWays::default(), crate::clock::now().mono);
        ways.open(id(1), opened(1), start);
        for second in (10..1000).step_by(10) {
            let now = start + second * SECOND;
            ways.heard(id(1), S, now);
            assert_eq!(closed_at(&mut ways, now), []);
        }
        let last = start + 990 * SECOND;
        assert_eq!(closed_at(&mut ways, last + SILENCE_LIMIT - SECOND), []);
        assert_eq!(closed_at(&mut ways, last + SILENCE_LIMIT), [S]);
        assert!(ways.looks.is_empty() && ways.by_session.is_empty());
    }

    #[test]
    fn the_oldest_connection_of_a_device_gives_way_to_one_too_many() {
        let (mut ways, start) = (TlsWays::default(), crate::clock::now().mono);
        ways.open(id(0), opened(1), start);
        ways.heard(id(0), S, start);
        for number in 1..CONNECTIONS_PER_DEVICE as u64 {
            assert_eq!(ways.open(id(number), opened(1), start), None);
        }
        assert_eq!(ways.open(id(8), opened(2), start), None, "another device");
        let (session, route) = ways.open(id(9), opened(1), start).unwrap();
        assert_eq!(session, S);
        assert!(matches!(route, Route::Tls { connection: 0, .. }));
        assert!(ways.route(id(0)).is_none());
        assert_eq!(ways.len(), CONNECTIONS_PER_DEVICE + 1);
    }

    #[test]
    fn an_ended_session_closes_only_a_connection_that_serves_nobody_else() {
        let (mut ways, start) = (TlsWays::default(), crate::clock::now().mono);
        ways.open(id(1), opened(1), start);
        ways.open(id(2), opened(1), start);
        ways.heard(id(1), S, start);
        ways.heard(id(1), T, start);
        ways.ended(S);
        ways.close_ended();
        assert!(ways.route(id(1)).is_some(), "the device's next session");
        ways.heard(id(2), T, start);
        ways.ended(T);
        assert!(ways.route(id(2)).is_some(), "the farewell is still to come");
        assert_eq!(ways.send(id(2), b"farewell", 8), Sent::Done);
        ways.close_ended();
        assert!(ways.route(id(2)).is_none());
        assert_eq!(ways.send(id(2), b"more", 4), Sent::Dropped);
    }
}
