//! A PC's tunnels: made, heard, driven over the ways that pass, and made anew.
//!
//! What is decided here is decided by the agent's own code: which way ([`Core`]), and what
//! becomes of a lost tunnel ([`Pursuit`]). This only carries.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Instant;

use access::Moment;
use protocol::SessionId;
use protocol::agent_api::{AgentGrant, GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, TunnelMessage};
use tunnel::MAX_SEGMENTS;
use tunnel::client::{ClientConfig, Event, Wireguard};
use tunnel::keys::{PresharedKey, PublicKey, SecretKey};
use tunnel::server::Route;
use vpn_agent::event_loop::pursuit::Pursuit;
use vpn_agent::link::core::{Action, CONNECT_LIMIT, Core, GIVE_UP_AFTER};
use vpn_agent::link::paths::{Outlook, Via, Way, WayId};
use vpn_agent::link::pulse::Rates;
use vpn_agent::link::{LinkEnd, LinkError};
use vpn_agent::session_state::{SessionState, State};

use super::{Agent, Leaving, Opening};
use crate::steps::WAYS;
use crate::tally::Tally;

/// A grant with the tunnel that is made from it.
pub(super) struct Active {
    pub(super) secret: SecretKey,
    pub(super) grant: AgentGrant,
    pub(super) gateway: usize,
    pub(super) link: Option<Link>,
    pub(super) pursuit: Pursuit,
    pub(super) message: Option<TunnelMessage>,
    /// An evil agent's lies: another's inner address, another's certificate.
    pub(super) address: Option<Ipv6Addr>,
    pub(super) certificate: Option<usize>,
    /// What the last tunnel left to the next.
    left: Option<Wireguard>,
}

/// A tunnel.
pub(super) struct Link {
    pub(super) serial: u64,
    pub(super) core: Core,
    begun: Instant,
    ways: [Carrier; WAYS],
    /// How it was last seen to stand.
    outlook: Outlook,
}

/// A way as it really is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Closed,
    Opening,
    /// A socket with this port.
    Udp(u16),
    /// A connection with this number.
    Tls(u64, IpAddr),
}

pub(super) enum Side {
    Active,
    Ghost,
}

impl Active {
    pub(super) fn new(
        secret: SecretKey,
        grant: AgentGrant,
        gateway: usize,
        pursuit: Pursuit,
    ) -> Self {
        Self {
            secret,
            grant,
            gateway,
            link: None,
            pursuit,
            message: None,
            address: None,
            certificate: None,
            left: None,
        }
    }

    pub(super) fn drop_link(&mut self) {
        if let Some(mut link) = self.link.take() {
            self.left = Some(link.core.tunnel.take_wireguard());
        }
    }

    /// The tunnel, if the gateway accepted it.
    pub(super) fn standing(&self) -> Option<&Link> {
        self.link.as_ref().filter(|link| link.core.stood())
    }
}

impl Link {
    /// Where the datagrams of a way come from, for a PC that is at `home`. A TLS connection
    /// does not survive a new address.
    fn route(&self, way: WayId, home: IpAddr) -> Option<Route> {
        match self.ways[way.index()] {
            Carrier::Closed | Carrier::Opening => None,
            Carrier::Udp(port) => Some(Route::from(SocketAddr::new(home, port))),
            Carrier::Tls(connection, from) => (from == home).then_some(Route::Tls {
                connection,
                remote: home,
            }),
        }
    }

    /// The way that has this route.
    pub(super) fn way_at(&self, route: Route, home: IpAddr) -> Option<WayId> {
        let mut ways = (0..WAYS).map(WayId::at);
        ways.find(|way| self.route(*way, home) == Some(route))
    }

    /// The connection of a TLS way stands.
    pub(super) fn handle_opened(
        &mut self,
        way: WayId,
        connection: u64,
        home: IpAddr,
        now: Instant,
    ) {
        if self.ways[way.index()] == Carrier::Opening {
            self.ways[way.index()] = Carrier::Tls(connection, home);
            self.core.handle_opened(way, now);
        }
    }

    /// A way was refused or cut.
    pub(super) fn handle_failed(&mut self, way: WayId, now: Instant) {
        if self.ways[way.index()] != Carrier::Closed {
            self.ways[way.index()] = Carrier::Closed;
            self.core.handle_failed(way, now);
        }
    }
}

impl Agent {
    /// Drives one tunnel: makes it, hears it, moves bytes, sends.
    pub(super) fn work(&mut self, side: Side, now: Moment, tally: &mut Tally) {
        let taken = match side {
            Side::Active => self.active.take(),
            Side::Ghost => self.ghost.take(),
        };
        let Some(mut active) = taken else {
            return;
        };
        let ghost = matches!(side, Side::Ghost);
        let over = self.work_on(&mut active, ghost, now, tally);
        if let Some(over) = over {
            self.handle_over(&mut active, over, ghost, now.mono, tally);
        }
        match side {
            Side::Active => self.active = Some(active),
            Side::Ghost => self.ghost = Some(active),
        }
    }

    /// Returns how the tunnel ended, if it did: `None` inside for want of an answer.
    fn work_on(
        &mut self,
        active: &mut Active,
        ghost: bool,
        now: Moment,
        tally: &mut Tally,
    ) -> Option<Option<LinkEnd>> {
        let wanted = ghost
            || self.seek.is_none()
                && matches!(
                    self.state.state(),
                    State::Linking(_) | State::Reconnecting(_)
                );
        if active.link.is_none() && wanted && active.pursuit.wants_link(now.mono) {
            self.build(active, now.mono);
        }
        let session = active.grant.session;
        let link = active.link.as_mut()?;
        if let Some(end) = link.core.handle_timeout(now.mono) {
            tally.count("a connection was forgotten by its gateway");
            return Some(Some(end));
        }
        self.steer(link, active.gateway, session, now.mono, tally);
        let mut over = None;
        while let Some(event) = link.core.poll_event() {
            match event {
                Event::Connected => {
                    tally.count(match ghost {
                        true => "a ghost connected",
                        false => "connected",
                    });
                    if active.address.is_some() || active.certificate.is_some() {
                        let number = self.number;
                        self.faults
                            .push(format!("PC {number} was believed under false colours"));
                    }
                    if !ghost {
                        active.pursuit.handle_linked(&mut self.state, now.mono);
                    }
                }
                Event::Message(message) => match serde_json::from_slice(&message) {
                    Ok(message) => active.message = Some(message),
                    Err(error) => self.faults.push(format!("message not understood: {error}")),
                },
                Event::Closed(reason) => over = Some(Some(link.core.end(&reason))),
                Event::StreamReadable(_)
                | Event::StreamWritable(_)
                | Event::StreamStopped { .. }
                | Event::StreamsAvailable => {}
            }
        }
        if over.is_some() {
            return over;
        }
        let outlook = link.core.outlook(now.mono);
        if link.core.stood() && !ghost && outlook != link.outlook {
            link.outlook = outlook;
            Pursuit::handle_outlook(outlook, &mut self.state, now.mono);
        }
        let age = now.mono.saturating_duration_since(link.begun);
        let hopeless = age >= GIVE_UP_AFTER && outlook == Outlook::Dead || age >= CONNECT_LIMIT;
        if !link.core.stood() && hopeless {
            tally.count("no way led to a gateway");
            return Some(None);
        }
        // An evil agent prefers the tunnel that it may not use.
        if link.core.stood() && (ghost || self.ghost.is_none()) {
            self.move_bytes(link, session, tally);
        }
        self.transmit(link, active.gateway, session, now.mono);
        None
    }

    fn move_bytes(&mut self, link: &mut Link, session: SessionId, tally: &mut Tally) {
        for transfer in &mut self.transfers {
            match transfer.go_on(&mut link.core, session) {
                Ok(moved) => self.moved_bytes += moved,
                Err(fault) => self.faults.push(format!("PC {}: {fault}", self.number)),
            }
        }
        let before = self.transfers.len();
        self.transfers.retain(|transfer| !transfer.is_done());
        let done = (before - self.transfers.len()) as u64;
        self.moved_bytes += done;
        tally.add("transfers done", done);
    }

    /// Does what the search for a way asks for.
    fn steer(
        &mut self,
        link: &mut Link,
        gateway: usize,
        session: SessionId,
        now: Instant,
        tally: &mut Tally,
    ) {
        while let Some(action) = link.core.poll_action(now) {
            match action {
                Action::Open(id) if link.core.way(id).is_udp() => {
                    self.ports = self.ports.wrapping_add(1);
                    link.ways[id.index()] = Carrier::Udp(1024 + self.ports % 60_000);
                    link.core.handle_opened(id, now);
                }
                Action::Open(way) => {
                    link.ways[way.index()] = Carrier::Opening;
                    self.openings.push(Opening {
                        gateway,
                        link: link.serial,
                        way,
                    });
                }
                Action::Close(id) => link.ways[id.index()] = Carrier::Closed,
                Action::Send(id, data) => self.leave_over(link, id, gateway, session, data),
                Action::Use(id) => tally.count(match link.core.way(id).is_udp() {
                    true => "UDP was taken",
                    false => "TLS was taken",
                }),
            }
        }
    }

    /// Sends what the tunnel has to send.
    pub(super) fn transmit(
        &mut self,
        link: &mut Link,
        gateway: usize,
        session: SessionId,
        now: Instant,
    ) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(sent) = link.core.poll_transmit(now, MAX_SEGMENTS, &mut buffer) {
            let Some(id) = link.core.used() else { break };
            for datagram in buffer[..sent.len].chunks(sent.segment_size) {
                self.leave_over(link, id, gateway, session, datagram.to_vec());
            }
        }
        self.buffer = buffer;
    }

    fn leave_over(
        &mut self,
        link: &Link,
        way: WayId,
        gateway: usize,
        session: SessionId,
        data: Vec<u8>,
    ) {
        self.outbox.push(Leaving {
            gateway,
            session,
            from: link.route(way, self.home),
            link: link.serial,
            way,
            data,
        });
    }

    /// A tunnel is over. What it leaves goes on in the next one.
    fn handle_over(
        &mut self,
        active: &mut Active,
        over: Option<LinkEnd>,
        ghost: bool,
        now: Instant,
        tally: &mut Tally,
    ) {
        let stood = active.standing().is_some();
        active.drop_link();
        if ghost || self.ghost.is_none() {
            self.forget_streams();
        }
        let error = match over {
            Some(end) => LinkError::Ended(end),
            None => LinkError::NoAnswer { sentence: None },
        };
        if ghost {
            // It tries again and again, whatever it is told.
            let mut nobody = SessionState::new(State::Ready { problem: None });
            active.pursuit.handle_no_link(&error, &mut nobody, now);
            return;
        }
        match over {
            Some(LinkEnd::Told(code)) => tally.count(code.as_str()),
            Some(LinkEnd::Unexplained) => tally.count("a tunnel ended without a reason"),
            Some(LinkEnd::Failed) => tally.count("a tunnel was not believed"),
            Some(LinkEnd::Ours | LinkEnd::Lost) | None => {}
        }
        match over {
            Some(end) if stood => active.pursuit.handle_end(end, &mut self.state, now),
            Some(_) | None => active.pursuit.handle_no_link(&error, &mut self.state, now),
        }
    }

    fn build(&mut self, active: &mut Active, now: Instant) {
        let grant = &active.grant;
        let config = ClientConfig {
            secret_key: active.secret.clone(),
            gateway_key: PublicKey::from_bytes(grant.gateway_public_key.0),
            preshared_key: PresharedKey::from_bytes(grant.preshared_key.0),
            inner_address: active.address.unwrap_or(grant.inner_address),
            gateway_inner: SocketAddrV6::new(GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, 0, 0),
            server_name: grant.gateway_certificate_name.clone(),
            tls: self.tls[active.certificate.unwrap_or(self.number)].clone(),
        };
        let rates = Rates::default();
        let ways = (ways(active.gateway), None);
        match Core::new(config, active.left.take(), rates, ways, now) {
            Ok(core) => {
                self.links += 1;
                active.link = Some(Link {
                    serial: self.links,
                    core,
                    begun: now,
                    ways: [Carrier::Closed; WAYS],
                    outlook: Outlook::Searching,
                });
            }
            Err(error) => self.faults.push(error.to_string()),
        }
    }
}

impl Link {
    /// When it wants to be woken.
    pub(super) fn wake(&mut self, now: Instant) -> Option<Instant> {
        let limits = [GIVE_UP_AFTER, CONNECT_LIMIT].map(|limit| self.begun + limit);
        let limits = limits.into_iter().filter(|at| *at > now);
        let stood = self.core.stood();
        let limits = limits.filter(|_| !stood);
        self.core.poll_timeout(now).into_iter().chain(limits).min()
    }
}

/// The ways to a gateway, best first: two UDP ports, and TLS.
fn ways(gateway: usize) -> Vec<Way> {
    let address = IpAddr::from([192, 0, 2, gateway as u8 + 1]);
    vec![
        Way::Udp(SocketAddr::new(address, 51_820)),
        Way::Udp(SocketAddr::new(address, 443)),
        Way::Tls(Via::Straight),
    ]
}
