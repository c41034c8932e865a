//! A PC with its agent and its browser.
//!
//! What the user is shown is the agent's own state machine, the tunnel its own tunnel. Here
//! stands only what the agent's event loops do with the two: when to look, when to take the
//! path for lost, when to make the tunnel anew; and a browser that repeats what broke. An
//! evil agent keeps each tunnel whose session is over and goes on sending in it.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::Moment;
use bytes::Bytes;
use protocol::agent_api::{
    AgentGrant, EndCode, GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, TunnelMessage,
};
use protocol::{Bytes32, SessionId};
use time::OffsetDateTime;
use tunnel::client::{ClientConfig, ClientTunnel, Event, Wireguard};
use tunnel::keys::{PresharedKey, PublicKey, SecretKey};
use tunnel::server::Route;
use tunnel::{CloseReason, MAX_SEGMENTS, Read, StreamId};
use vpn_agent::session_state::{Session, SessionState, State};

use crate::clock::Clocks;
use crate::member::{ANNOUNCEMENT_BYTES, PIECE_BYTES, announce, answer_of};
use crate::random::text;
use crate::tally::Tally;

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

struct Active {
    secret: SecretKey,
    grant: AgentGrant,
    gateway: usize,
    link: Option<Link>,
    next_build: Instant,
    tell_portal: bool,
    message: Option<TunnelMessage>,
    /// An evil agent's lies: another's inner address, another's certificate.
    address: Option<Ipv6Addr>,
    certificate: Option<usize>,
    /// What the last tunnel left to the next.
    left: Option<Wireguard>,
}

struct Link {
    tunnel: ClientTunnel,
    started: Instant,
    connected: bool,
    acknowledgements: u64,
    last_sign: Instant,
    last_probe: Instant,
    silence: Duration,
}

/// A datagram for a gateway.
pub struct Leaving {
    pub gateway: usize,
    /// In whose tunnel it was made.
    pub session: SessionId,
    pub data: Vec<u8>,
}

/// What a browser wants.
struct Transfer {
    id: u64,
    up: usize,
    down: usize,
    stream: Option<StreamId>,
    sent: usize,
    sent_whole: bool,
    received: usize,
}

enum Side {
    Active,
    Ghost,
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

    /// Drives one tunnel: makes it, hears it, moves bytes, sends.
    fn work(&mut self, side: Side, now: Moment, tally: &mut Tally) {
        let taken = match side {
            Side::Active => self.active.take(),
            Side::Ghost => self.ghost.take(),
        };
        let Some(mut active) = taken else {
            return;
        };
        let over = self.work_on(&mut active, &side, now, tally);
        match side {
            Side::Active => self.active = Some(active),
            Side::Ghost => self.ghost = Some(active),
        }
        if let (Side::Active, Some((reason, stood))) = (side, over) {
            self.handle_link_end(&reason, stood, now, tally);
        }
    }

    /// Returns why the tunnel closed, if it did, and whether it had stood.
    fn work_on(
        &mut self,
        active: &mut Active,
        side: &Side,
        now: Moment,
        tally: &mut Tally,
    ) -> Option<(CloseReason, bool)> {
        let ghost = matches!(side, Side::Ghost);
        if active.link.is_none() && active.next_build <= now.mono {
            match build(active, &self.tls, self.number, now.mono) {
                Ok(link) => active.link = Some(link),
                Err(error) => {
                    self.faults.push(error);
                    active.next_build = now.mono + REBUILD_PAUSE;
                }
            }
        }
        let (gateway, session) = (active.gateway, active.grant.session);
        let link = active.link.as_mut()?;
        if link
            .tunnel
            .poll_timeout()
            .is_some_and(|due| due <= now.mono)
        {
            link.tunnel.handle_timeout(now.mono);
        }
        let mut over = None;
        while let Some(event) = link.tunnel.poll_event() {
            match event {
                Event::Connected => {
                    link.connected = true;
                    link.last_sign = now.mono;
                    tally.count(if ghost {
                        "a ghost connected"
                    } else {
                        "connected"
                    });
                    if active.address.is_some() || active.certificate.is_some() {
                        let number = self.number;
                        self.faults
                            .push(format!("PC {number} was believed under false colours"));
                    }
                    if !ghost {
                        self.state.handle_linked(now.mono);
                    }
                }
                Event::Message(message) => match serde_json::from_slice(&message) {
                    Ok(message) => active.message = Some(message),
                    Err(error) => self.faults.push(format!("message not understood: {error}")),
                },
                Event::Closed(reason) => over = Some(reason),
                Event::StreamReadable(_)
                | Event::StreamWritable(_)
                | Event::StreamStopped { .. }
                | Event::StreamsAvailable => {}
            }
        }
        if let Some(reason) = over {
            let stood = link.connected;
            active.drop_link();
            active.next_build = now.mono + REBUILD_PAUSE;
            if ghost || self.ghost.is_none() {
                self.forget_streams();
            }
            return Some((reason, stood));
        }
        // An evil agent prefers the tunnel that it may not use.
        let carries = ghost || self.ghost.is_none();
        if link.connected && carries {
            for transfer in &mut self.transfers {
                if let Err(fault) = transfer.go_on(&mut link.tunnel, session) {
                    self.faults.push(format!("PC {}: {fault}", self.number));
                }
            }
            let before = self.transfers.len();
            self.transfers.retain(|transfer| !transfer.is_done());
            tally.add("transfers done", (before - self.transfers.len()) as u64);
        }
        while let Some(sent) = link
            .tunnel
            .poll_transmit(now.mono, MAX_SEGMENTS, &mut self.buffer)
        {
            for datagram in self.buffer[..sent.len].chunks(sent.segment_size) {
                self.outbox.push(Leaving {
                    gateway,
                    session,
                    data: datagram.to_vec(),
                });
            }
        }
        None
    }

    fn handle_link_end(
        &mut self,
        reason: &CloseReason,
        stood: bool,
        now: Moment,
        tally: &mut Tally,
    ) {
        match reason {
            CloseReason::ByPeer { code } => match EndCode::from_close_code(*code) {
                Some(code) => {
                    tally.count(code.as_str());
                    if let Some(active) = &mut self.active {
                        active.tell_portal = false;
                    }
                    self.state.handle_ended(code.into());
                }
                None => self.state.handle_broken(String::new()),
            },
            CloseReason::ByUs => {}
            CloseReason::TimedOut => self.state.handle_link_lost(),
            CloseReason::Unexplained => {
                tally.count("a tunnel ended without a reason");
                self.state.handle_link_lost();
            }
            CloseReason::Failed(_) if stood => self.state.handle_link_lost(),
            CloseReason::Failed(why) => {
                tally.count("a tunnel was not believed");
                self.state.handle_broken(why.clone());
            }
        }
        if self.state.state().session().is_none() {
            self.leave(now);
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

impl Active {
    fn drop_link(&mut self) {
        if let Some(mut link) = self.link.take() {
            self.left = Some(link.tunnel.take_wireguard());
        }
    }
}

impl Link {
    fn look(&mut self, now: Instant) {
        let acknowledgements = self.tunnel.acknowledgements();
        if acknowledgements != self.acknowledgements {
            self.acknowledgements = acknowledgements;
            self.last_sign = now;
        }
        self.silence = now.saturating_duration_since(self.last_sign);
        let quiet_since = self.last_sign.max(self.last_probe);
        if now.saturating_duration_since(quiet_since) >= PROBE {
            self.last_probe = now;
            self.tunnel.ping();
        }
    }
}

impl Transfer {
    fn is_done(&self) -> bool {
        self.received == usize::MAX
    }

    fn begin_anew(&mut self) {
        self.stream = None;
        self.sent = 0;
        self.sent_whole = false;
        self.received = 0;
    }

    /// Moves what can be moved. A stream that was reset begins anew.
    fn go_on(&mut self, tunnel: &mut ClientTunnel, session: SessionId) -> Result<(), String> {
        if self.stream.is_none() {
            self.stream = tunnel.open_stream();
        }
        let Some(stream) = self.stream else {
            return Ok(());
        };
        let length = ANNOUNCEMENT_BYTES + self.up;
        while self.sent < length {
            let mut piece = if self.sent < ANNOUNCEMENT_BYTES {
                let head = announce(self.id, session, self.up as u32, self.down as u32);
                Bytes::copy_from_slice(&head[self.sent..])
            } else {
                let from = self.sent - ANNOUNCEMENT_BYTES;
                Bytes::from(text(self.id, from, (self.up - from).min(PIECE_BYTES)))
            };
            match tunnel.write(stream, &mut piece) {
                Ok(0) => break,
                Ok(written) => self.sent += written,
                Err(_) => {
                    self.begin_anew();
                    return Ok(());
                }
            }
        }
        if self.sent == length && !self.sent_whole {
            self.sent_whole = tunnel.finish(stream).is_ok();
        }
        loop {
            match tunnel.read(stream, PIECE_BYTES) {
                Ok(Read::Data(data)) => {
                    if text(answer_of(self.id), self.received, data.len()) != data {
                        return Err(format!(
                            "wrong bytes in download {} from {}",
                            self.id, self.received
                        ));
                    }
                    self.received += data.len();
                }
                Ok(Read::Blocked) => return Ok(()),
                Ok(Read::Finished) if self.received == self.down && self.sent_whole => {
                    self.received = usize::MAX;
                    return Ok(());
                }
                Ok(Read::Finished) => {
                    let (id, received, down) = (self.id, self.received, self.down);
                    return Err(format!("download {id} of {down} ended after {received}"));
                }
                Err(_) => {
                    self.begin_anew();
                    return Ok(());
                }
            }
        }
    }
}

fn build(
    active: &mut Active,
    tls: &[Arc<rustls::ClientConfig>],
    number: usize,
    now: Instant,
) -> Result<Link, String> {
    let grant = &active.grant;
    let config = ClientConfig {
        secret_key: active.secret.clone(),
        gateway_key: PublicKey::from_bytes(grant.gateway_public_key.0),
        preshared_key: PresharedKey::from_bytes(grant.preshared_key.0),
        inner_address: active.address.unwrap_or(grant.inner_address),
        gateway_inner: SocketAddrV6::new(GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, 0, 0),
        server_name: grant.gateway_certificate_name.clone(),
        tls: tls[active.certificate.unwrap_or(number)].clone(),
    };
    Ok(Link {
        tunnel: match active.left.take() {
            Some(left) => ClientTunnel::again(left, config, now),
            None => ClientTunnel::new(config, now),
        }
        .map_err(|error| error.to_string())?,
        started: now,
        connected: false,
        acknowledgements: 0,
        last_sign: now,
        last_probe: now,
        silence: Duration::ZERO,
    })
}

fn wall_of(ms: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(ms)
}
