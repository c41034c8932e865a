//! A PC's tunnels: made, heard, driven, and made anew.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::Moment;
use protocol::agent_api::{
    AgentGrant, EndCode, GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, TunnelMessage,
};
use tunnel::client::{ClientConfig, ClientTunnel, Event, Wireguard};
use tunnel::keys::{PresharedKey, PublicKey, SecretKey};
use tunnel::{CloseReason, MAX_SEGMENTS};

use super::{Agent, Leaving, PROBE, REBUILD_PAUSE};
use crate::tally::Tally;

pub(super) struct Active {
    pub(super) secret: SecretKey,
    pub(super) grant: AgentGrant,
    pub(super) gateway: usize,
    pub(super) link: Option<Link>,
    pub(super) next_build: Instant,
    pub(super) tell_portal: bool,
    pub(super) message: Option<TunnelMessage>,
    /// An evil agent's lies: another's inner address, another's certificate.
    pub(super) address: Option<Ipv6Addr>,
    pub(super) certificate: Option<usize>,
    /// What the last tunnel left to the next.
    pub(super) left: Option<Wireguard>,
}

pub(super) struct Link {
    pub(super) tunnel: ClientTunnel,
    pub(super) started: Instant,
    pub(super) connected: bool,
    pub(super) acknowledgements: u64,
    pub(super) last_sign: Instant,
    pub(super) last_probe: Instant,
    pub(super) silence: Duration,
}

pub(super) enum Side {
    Active,
    Ghost,
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
    pub(super) fn work_on(
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

    pub(super) fn handle_link_end(
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
}

impl Active {
    pub(super) fn drop_link(&mut self) {
        if let Some(mut link) = self.link.take() {
            self.left = Some(link.tunnel.take_wireguard());
        }
    }
}

impl Link {
    pub(super) fn look(&mut self, now: Instant) {
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
