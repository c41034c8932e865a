//! A PC with its agent and its browser.
//!
//! What the user is shown is the agent's own state machine, the tunnel its own tunnel. Here
//! stands only what the agent's event loops do with the two: when to look, when to take the
//! path for lost, when to make the tunnel anew; and a browser that repeats what broke. An
//! evil agent keeps each tunnel whose session is over and goes on sending in it.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::Moment;
use protocol::agent_api::{AgentGrant, EndCode, TunnelMessage};
use protocol::{Bytes32, SessionId};
use time::OffsetDateTime;
use tunnel::MAX_SEGMENTS;
use tunnel::keys::SecretKey;
use tunnel::server::Route;
use vpn_agent::session_state::{Session, SessionState, State};

use crate::clock::Clocks;
use crate::tally::Tally;

mod transfer;
mod tunnels;

use transfer::Transfer;
use tunnels::{Active, Side};

/// How often the agent's loop looks by itself.
const TICK: Duration = Duration::from_secs(1);
/// The gateway is asked for a sign of life this often when nothing else is said.
const PROBE: Duration = Duration::from_secs(4);
/// The tunnel counts as lost when nothing came back for this long.
const LOST_AFTER: Duration = Duration::from_secs(12);
/// A lost tunnel is made anew after this.
const REBUILD_AFTER: Duration = Duration::from_secs(20);
/// How long a new tunnel may take.
const LINK_LIMIT: Duration = Duration::from_secs(3);
/// Pause between tries to make a lost tunnel anew.
const REBUILD_PAUSE: Duration = Duration::from_secs(2);
/// How long the agent API may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Transfers of one PC at a time.
const TRANSFERS: usize = 24;

/// A PC.
pub struct Agent {
    number: usize,
    pub clocks: Clocks,
    /// Where its datagrams come from.
    pub route: Route,
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
    next_tick: Instant,
    transfers: Vec<Transfer>,
    moved: bool,
    buffer: Vec<u8>,
    /// Datagrams that leave.
    pub outbox: Vec<Leaving>,
    /// Sessions whose end the portal is to be told, through this gateway.
    pub farewells: Vec<(usize, SessionId)>,
    pub faults: Vec<String>,
}

/// A datagram for a gateway.
pub struct Leaving {
    pub gateway: usize,
    /// In whose tunnel it was made.
    pub session: SessionId,
    pub data: Vec<u8>,
}

impl Agent {
    pub fn new(
        number: usize,
        tls: Vec<Arc<rustls::ClientConfig>>,
        route: Route,
        wall: OffsetDateTime,
    ) -> Self {
        let clocks = Clocks::new(wall);
        let now = clocks.show(Duration::ZERO);
        Self {
            number,
            clocks,
            route,
            tls,
            state: SessionState::new(State::Ready { problem: None }),
            active: None,
            ghost: None,
            evil: false,
            haunts: false,
            attempt: 0,
            asked: None,
            next_tick: now.mono + TICK,
            transfers: Vec::new(),
            moved: false,
            buffer: Vec::new(),
            outbox: Vec::new(),
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
        active
            .link
            .as_ref()?
            .connected
            .then_some(active.grant.session)
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
        let times = (wall_of(grant.deadline_ms), wall_of(grant.server_time_ms));
        let session = Session {
            id: grant.session,
            ends_at: Session::ends(times.0, times.1, now.mono),
            ends_at_wall: times.0,
            will_end: grant.deadline_reason.into(),
            portal_url: String::new(),
            code_mailed_to: None,
        };
        if !self.state.handle_granted(session, now.mono) {
            self.farewells.push((gateway, grant.session));
            return;
        }
        self.active = Some(Active {
            secret,
            grant,
            gateway,
            link: None,
            next_build: now.mono,
            tell_portal: true,
            message: None,
            address: None,
            certificate: None,
            left: None,
        });
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
                link.tunnel.network_changed(now.mono);
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
            ghost.next_build = now.mono;
        }
    }

    fn end_as_evil(&mut self, now: Moment) {
        self.state.disconnect();
        self.attempt += 1;
        if let Some(mut active) = self.active.take() {
            active.next_build = now.mono;
            self.forget_streams();
            self.ghost = Some(active);
        }
    }

    /// Reads a datagram of a gateway's.
    pub fn handle_datagram(&mut self, gateway: usize, datagram: &[u8], now: Moment) {
        // Each tunnel has a socket of its own; here both hear, and one believes.
        for active in [&mut self.active, &mut self.ghost].into_iter().flatten() {
            if active.gateway == gateway
                && let Some(link) = &mut active.link
            {
                link.tunnel.handle_datagram(now.mono, datagram);
            }
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
    pub fn wake(&mut self) -> Instant {
        let idle = self.active.is_none() && self.ghost.is_none() && self.asked.is_none();
        let mut wake = match idle {
            true => self.next_tick + Duration::from_secs(86_400),
            false => self.next_tick,
        };
        wake = self.state.poll_timeout().map_or(wake, |due| due.min(wake));
        for active in [&mut self.active, &mut self.ghost].into_iter().flatten() {
            match &mut active.link {
                Some(link) => {
                    wake = link.tunnel.poll_timeout().map_or(wake, |due| due.min(wake));
                }
                None => wake = wake.min(active.next_build),
            }
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
        let moved = std::mem::take(&mut self.moved);
        for active in [&mut self.active, &mut self.ghost].into_iter().flatten() {
            if let Some(link) = &mut active.link {
                link.look(mono);
                if moved {
                    link.tunnel.network_changed(mono);
                }
            }
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
        let Some(link) = &mut active.link else {
            return;
        };
        let silence = link.silence;
        match self.state.state() {
            State::Linking(_) if mono.saturating_duration_since(link.started) > LINK_LIMIT => {
                self.state.handle_connect_failed(String::new());
            }
            State::Connected(_) if silence > LOST_AFTER => {
                link.tunnel.network_changed(mono);
                self.state.handle_link_lost();
            }
            State::Reconnecting(_) if link.connected && silence <= LOST_AFTER => {
                self.state.handle_linked(mono);
            }
            State::Reconnecting(_)
                if silence > REBUILD_AFTER
                    || (!link.connected
                        && mono.saturating_duration_since(link.started) > LINK_LIMIT) =>
            {
                active.drop_link();
                active.next_build = mono + REBUILD_PAUSE;
                self.forget_streams();
            }
            State::Reconnecting(_) if link.connected => link.tunnel.network_changed(mono),
            _ => {}
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
        if let Some(link) = &mut active.link {
            link.tunnel.close(now.mono, EndCode::Disconnected as u64);
            while let Some(sent) =
                link.tunnel
                    .poll_transmit(now.mono, MAX_SEGMENTS, &mut self.buffer)
            {
                for datagram in self.buffer[..sent.len].chunks(sent.segment_size) {
                    self.outbox.push(Leaving {
                        gateway: active.gateway,
                        session: active.grant.session,
                        data: datagram.to_vec(),
                    });
                }
            }
        }
        if active.tell_portal {
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

fn wall_of(ms: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(ms)
}
