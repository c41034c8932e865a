//! A PC with its agent and its browser.
//!
//! What the user is shown is the agent's own state machine; the tunnel with its ways and its
//! pulse, and what becomes of a lost one, are its own cores. Here stands only what the agent's
//! event loops do with them, and a browser that repeats what broke. An evil agent keeps each
//! tunnel whose session is over and goes on sending in it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::Moment;
use protocol::agent_api::{AgentGrant, EndCode, TunnelMessage};
use protocol::{Bytes32, SessionId};
use time::OffsetDateTime;
use tunnel::keys::SecretKey;
use tunnel::server::Route;
use vpn_agent::event_loop::pursuit::Pursuit;
use vpn_agent::gateway_client::order::Order;
use vpn_agent::link::paths::WayId;
use vpn_agent::session_state::{Session, SessionState, State};

use crate::clock::Clocks;
use crate::tally::Tally;

mod seeking;
mod transfer;
mod tunnels;

pub use seeking::Ask;
use seeking::Seek;
use transfer::Transfer;
use tunnels::{Active, Link, Side};

/// How often the agent's loop looks by itself.
const TICK: Duration = Duration::from_secs(1);
/// How long the agent API may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Transfers of one PC at a time.
const TRANSFERS: usize = 24;

/// A PC.
pub struct Agent {
    number: usize,
    pub clocks: Clocks,
    /// Where its datagrams come from.
    pub home: IpAddr,
    tls: Vec<Arc<rustls::ClientConfig>>,
    state: SessionState,
    active: Option<Active>,
    /// An ended session that an evil agent keeps.
    ghost: Option<Active>,
    pub evil: bool,
    /// Whether the ghost was counted.
    haunts: bool,
    attempt: u64,
    asked: Option<(Instant, SecretKey)>,
    seek: Option<Seek>,
    order: Order,
    /// Counts keys, tunnels and sockets.
    keys: usize,
    links: u64,
    ports: u16,
    /// Counts what its transfers moved.
    moved_bytes: u64,
    next_tick: Instant,
    transfers: Vec<Transfer>,
    moved: bool,
    buffer: Vec<u8>,
    /// Datagrams that leave.
    pub outbox: Vec<Leaving>,
    /// TLS connections that it begins to make.
    pub openings: Vec<Opening>,
    /// What it asks the gateways.
    pub asks: Vec<Ask>,
    /// Sessions whose end the portal is to be told, through this gateway.
    pub farewells: Vec<(usize, SessionId)>,
    pub faults: Vec<String>,
}

/// A datagram for a gateway.
pub struct Leaving {
    pub gateway: usize,
    /// In whose tunnel it was made.
    pub session: SessionId,
    /// Nothing if its way is broken already.
    pub from: Option<Route>,
    pub link: u64,
    pub way: WayId,
    pub data: Vec<u8>,
}

/// A TLS connection that is to be made.
pub struct Opening {
    pub gateway: usize,
    pub link: u64,
    pub way: WayId,
}

impl Agent {
    pub fn new(
        number: usize,
        tls: Vec<Arc<rustls::ClientConfig>>,
        home: IpAddr,
        wall: OffsetDateTime,
    ) -> Self {
        let clocks = Clocks::new(wall);
        let now = clocks.show(Duration::ZERO);
        Self {
            number,
            clocks,
            home,
            tls,
            state: SessionState::new(State::Ready { problem: None }),
            active: None,
            ghost: None,
            evil: false,
            haunts: false,
            attempt: 0,
            asked: None,
            seek: None,
            order: seeking::order(),
            keys: 0,
            links: 0,
            ports: 0,
            moved_bytes: 0,
            next_tick: now.mono + TICK,
            transfers: Vec::new(),
            moved: false,
            buffer: Vec::new(),
            outbox: Vec::new(),
            openings: Vec::new(),
            asks: Vec::new(),
            farewells: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// The session that the user is shown.
    pub fn session(&self) -> Option<SessionId> {
        self.state.state().session().map(|session| session.id)
    }

    /// The session whose tunnel stands.
    pub fn connected(&self) -> Option<SessionId> {
        let active = self.active.as_ref()?;
        active.standing().map(|_| active.grant.session)
    }

    /// Whether the user is shown that all is well.
    pub fn shows_connected(&self) -> bool {
        matches!(self.state.state(), State::Connected(_))
    }

    /// Whether it keeps a tunnel that it should have left, or is about to.
    pub fn is_evil(&self) -> bool {
        self.evil || self.ghost.is_some()
    }

    /// Counts what its transfers moved.
    pub fn moved_bytes(&self) -> u64 {
        self.moved_bytes
    }

    /// Which gateway holds it.
    pub fn gateway(&self) -> Option<usize> {
        self.active.as_ref().map(|active| active.gateway)
    }

    /// The inner address that the portal gave.
    pub fn inner_address(&self) -> Option<Ipv6Addr> {
        self.active
            .as_ref()
            .map(|active| active.grant.inner_address)
    }

    /// Transfers that are not done.
    pub fn waiting(&self) -> usize {
        self.transfers.len()
    }

    /// The first transfer that is not done, in words.
    pub fn oldest(&self) -> String {
        let shown = self.transfers.first().map(|transfer| {
            format!(
                "transfer {} of {} up (sent {}) and {} down (received {}), stream {:?}",
                transfer.id,
                transfer.up,
                transfer.sent,
                transfer.down,
                transfer.received,
                transfer.stream
            )
        });
        format!("{shown:?}; {:?}", self.state.state())
    }

    /// 接続. Returns the attempt and the WireGuard key that the portal is asked with.
    pub fn connect(&mut self, secret: SecretKey, now: Moment) -> Option<(u64, Bytes32)> {
        if !self.state.connect() {
            return None;
        }
        self.attempt += 1;
        let key = Bytes32(*secret.public_key().as_bytes());
        self.asked = Some((now.mono, secret));
        Some((self.attempt, key))
    }

    /// 切断.
    pub fn disconnect(&mut self, now: Moment) {
        self.state.disconnect();
        self.leave(now);
    }

    /// The process dies without a word.
    pub fn kill(&mut self) {
        self.state = SessionState::new(State::Ready { problem: None });
        self.attempt += 1;
        self.asked = None;
        self.seek = None;
        self.active = None;
        self.ghost = None;
        self.transfers.clear();
    }

    /// The gateway or the portal answered.
    pub fn handle_answer(
        &mut self,
        attempt: u64,
        gateway: usize,
        answer: Result<AgentGrant, &'static str>,
        now: Moment,
        tally: &mut Tally,
    ) {
        let grant = match answer {
            Ok(grant) => grant,
            Err(_) if attempt != self.attempt => return,
            Err("unavailable") => {
                self.state.handle_connect_failed(String::new());
                return tally.count("asked in vain");
            }
            Err(why) => {
                self.state.handle_refused(why.to_owned(), None);
                return tally.count(why);
            }
        };
        let asked = self.asked.take_if(|_| attempt == self.attempt);
        let Some((_, secret)) = asked else {
            tally.count("granted too late and given back");
            self.farewells.push((gateway, grant.session));
            return;
        };
        let session = granted_session(&grant, now.mono);
        if !self.state.handle_granted(session, now.mono) {
            self.farewells.push((gateway, grant.session));
            return;
        }
        let pursuit = Pursuit::new(now.mono);
        self.active = Some(Active::new(secret, grant, gateway, pursuit));
    }

    /// The browser wants something.
    pub fn transfer(&mut self, id: u64, up: u32, down: u32) {
        let has_tunnel = self.state.state().session().is_some() || self.ghost.is_some();
        if has_tunnel && self.transfers.len() < TRANSFERS {
            self.transfers.push(Transfer {
                id,
                up: up as usize,
                down: down as usize,
                stream: None,
                sent: 0,
                sent_whole: false,
                received: 0,
            });
        }
    }

    /// The PC has another address, or woke up.
    pub fn moved(&mut self) {
        self.moved = true;
    }

    /// New WireGuard keys at once.
    pub fn new_keys(&mut self, now: Moment) {
        for active in [&mut self.active, &mut self.ghost].into_iter().flatten() {
            if let Some(link) = &mut active.link {
                link.core.handle_network_changed(None, now.mono);
            }
        }
    }

    /// The agent turns evil, or good again.
    pub fn turn_evil(&mut self, evil: bool) {
        self.evil = evil;
        if !evil && self.ghost.take().is_some() {
            self.forget_streams();
        }
    }

    /// The evil agent lies about its address or shows another PC's certificate.
    pub fn lie(&mut self, address: Option<Ipv6Addr>, certificate: usize, now: Moment) {
        if !self.evil {
            return;
        }
        if self.ghost.is_none() {
            // It keeps its session, which it goes on using under false colours.
            self.end_as_evil(now);
        }
        if let Some(ghost) = &mut self.ghost {
            ghost.address = address;
            ghost.certificate = address.is_none().then_some(certificate);
            ghost.drop_link();
            ghost.pursuit = Pursuit::new(now.mono);
        }
    }

    fn end_as_evil(&mut self, now: Moment) {
        self.state.disconnect();
        self.attempt += 1;
        self.seek = None;
        if let Some(mut active) = self.active.take() {
            active.pursuit = Pursuit::new(now.mono);
            self.forget_streams();
            self.ghost = Some(active);
        }
    }

    fn link(&mut self, serial: u64) -> Option<&mut Link> {
        let both = [&mut self.active, &mut self.ghost].into_iter().flatten();
        let mut links = both.filter_map(|active| active.link.as_mut());
        links.find(|link| link.serial == serial)
    }

    /// Which way of which tunnel leads here.
    pub fn way_at(&self, route: Route) -> Option<(u64, WayId)> {
        let both = [&self.active, &self.ghost].into_iter().flatten();
        let mut links = both.filter_map(|active| active.link.as_ref());
        links.find_map(|link| Some((link.serial, link.way_at(route, self.home)?)))
    }

    /// Reads a datagram that came over a way.
    pub fn handle_datagram(&mut self, link: u64, way: WayId, datagram: &[u8], now: Moment) {
        if let Some(link) = self.link(link) {
            let datagrams = std::iter::once(datagram);
            link.core.handle_datagrams(way, datagrams, now.mono);
        }
    }

    /// The connection of a TLS way stands, under this number.
    pub fn handle_opened(&mut self, link: u64, way: WayId, connection: u64, now: Moment) {
        let home = self.home;
        if let Some(link) = self.link(link) {
            link.handle_opened(way, connection, home, now.mono);
        }
    }

    /// A way was refused or cut.
    pub fn handle_failed(&mut self, link: u64, way: WayId, now: Moment) {
        if let Some(link) = self.link(link) {
            link.handle_failed(way, now.mono);
        }
    }

    /// Does everything that is to be done now.
    pub fn turn(&mut self, now: Moment, tally: &mut Tally) {
        if self.state.poll_timeout().is_some_and(|due| due <= now.mono) {
            self.state.handle_timeout(now.mono);
        }
        if self.next_tick <= now.mono {
            self.next_tick = now.mono + TICK;
            self.tick(now);
        }
        if self.ghost.is_some() && !std::mem::replace(&mut self.haunts, true) {
            tally.count("ghosts");
        }
        self.haunts = self.ghost.is_some();
        self.work(Side::Ghost, now, tally);
        self.work(Side::Active, now, tally);
        self.seek_gateway(now, tally);
        if self.active.is_some() && self.state.state().session().is_none() {
            tally.count("a session ended at the agent");
            self.leave(now);
        }
        if let Some(session) = self.state.state().session()
            && session.remaining(now.mono).is_zero()
        {
            self.faults
                .push(format!("PC {} shows a session past its end", self.number));
        }
    }

    /// When it wants to be woken.
    pub fn wake(&mut self, now: Instant) -> Instant {
        let idle = self.active.is_none() && self.ghost.is_none() && self.asked.is_none();
        let mut wake = match idle {
            true => self.next_tick + Duration::from_secs(86_400),
            false => self.next_tick,
        };
        wake = self.state.poll_timeout().map_or(wake, |due| due.min(wake));
        let seeking = self.seek.is_some();
        let both = [(&mut self.active, true), (&mut self.ghost, false)];
        for (active, seeks) in both {
            let Some(active) = active else { continue };
            let due = match &mut active.link {
                Some(link) => link.wake(now),
                // A search ends before the tunnel is made.
                None if seeks && seeking => None,
                None => Some(active.pursuit.poll_timeout(seeks)),
            };
            wake = due.map_or(wake, |due| due.min(wake));
        }
        wake
    }

    fn tick(&mut self, now: Moment) {
        let mono = now.mono;
        if let Some((asked_at, _)) = &self.asked
            && mono.saturating_duration_since(*asked_at) > ANSWER_LIMIT
        {
            self.asked = None;
            self.attempt += 1;
            self.state.handle_connect_failed(String::new());
        }
        self.watch_seek(mono);
        if std::mem::take(&mut self.moved) {
            self.new_keys(now);
        }
        let Some(active) = &mut self.active else {
            return;
        };
        if let Some(TunnelMessage::Deadline {
            deadline_ms,
            reason,
        }) = active.message
        {
            let deadline = wall_of(deadline_ms);
            self.state.handle_deadline(deadline, reason.into(), mono);
        }
        if let Some(link) = active.standing() {
            let outlook = link.core.outlook(mono);
            Pursuit::handle_watched(outlook, &mut self.state, mono);
        }
    }

    /// Forgets the session's keys, closes its tunnel, tells the portal. An evil agent does
    /// none of this.
    fn leave(&mut self, now: Moment) {
        if self.evil && self.active.is_some() {
            self.end_as_evil(now);
            return;
        }
        let Some(mut active) = self.active.take() else {
            return;
        };
        self.attempt += 1;
        self.transfers.clear();
        self.seek = None;
        if let Some(mut link) = active.link.take() {
            let code = EndCode::Disconnected as u64;
            link.core.tunnel.close(now.mono, code);
            let session = active.grant.session;
            self.transmit(&mut link, active.gateway, session, now.mono);
        }
        if active.pursuit.tells_portal() {
            self.farewells.push((active.gateway, active.grant.session));
        }
    }

    /// What was under way begins anew in the next tunnel.
    fn forget_streams(&mut self) {
        for transfer in &mut self.transfers {
            transfer.begin_anew();
        }
    }
}

/// The session of a grant as the state knows it.
fn granted_session(grant: &AgentGrant, now: Instant) -> Session {
    let (deadline, server_time) = (wall_of(grant.deadline_ms), wall_of(grant.server_time_ms));
    Session {
        id: grant.session,
        ends_at: Session::ends(deadline, server_time, now),
        ends_at_wall: deadline,
        will_end: grant.deadline_reason.into(),
        portal_url: String::new(),
        code_mailed_to: None,
    }
}

fn wall_of(ms: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(ms)
}
