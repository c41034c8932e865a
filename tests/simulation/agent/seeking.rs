//! A PC looks for another gateway: who is alive is asked of all, the move of one.
//!
//! In which order, when, and what follows is the agent's own code; this does what
//! `GatewayClient::move_session` does with its connections.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use access::Moment;
use protocol::agent_api::{AgentGrant, RefusalCode};
use protocol::{Bytes32, SessionId};
use tunnel::keys::SecretKey;
use vpn_agent::event_loop::pursuit::Pursuit;
use vpn_agent::gateway_client::order::Order;
use vpn_agent::session_state::State;
use vpn_agent::urls::GatewayUrl;

use super::tunnels::Active;
use super::{Agent, granted_session};
use crate::certificates::GATEWAY_NAMES;
use crate::random::text;
use crate::tally::Tally;

/// How much later than the one before it each gateway is asked.
const STAGGER: Duration = Duration::from_millis(150);
/// How much later the gateway that was lost is asked.
const LOST_STAGGER: Duration = Duration::from_secs(1);
/// How long all of it may take.
const SEEK_LIMIT: Duration = Duration::from_secs(20);

/// A search under way.
pub(super) struct Seek {
    number: u64,
    started: Instant,
    /// Gateways that have not answered yet.
    unanswered: usize,
    alive: VecDeque<usize>,
    /// The key that a move was asked for with.
    moving: Option<SecretKey>,
}

/// What a PC asks the gateways.
pub enum Ask {
    Alive {
        seek: u64,
        gateway: usize,
        wait: Duration,
    },
    Move {
        seek: u64,
        gateway: usize,
        session: SessionId,
        key: Bytes32,
    },
}

/// Knows all gateways.
pub(super) fn order() -> Order {
    Order::new(GATEWAY_NAMES.iter().map(|name| url(name)).collect())
}

fn url(name: &str) -> GatewayUrl {
    format!("https://{name}").parse().expect("a name is a host")
}

impl Agent {
    /// Begins to look for another gateway, if it is time.
    pub(super) fn seek_gateway(&mut self, now: Moment, tally: &mut Tally) {
        let Some(active) = &self.active else { return };
        let state = self.state.state();
        let lost = matches!(state, State::Linking(_) | State::Reconnecting(_));
        let linking = active.link.is_some() && active.standing().is_none();
        let outlook = active.standing().map(|link| link.core.outlook(now.mono));
        if !lost
            || linking
            || self.seek.is_some()
            || !active.pursuit.wants_another(outlook, now.mono)
        {
            return;
        }
        tally.count("another gateway was sought");
        let left = url(GATEWAY_NAMES[active.gateway]);
        self.order.failed(&left, now.mono);
        let sequence = self.order.sequence(now.mono);
        self.attempt += 1;
        let mut wait = Duration::ZERO;
        for gateway in &sequence {
            let is_left = *gateway == left;
            self.asks.push(Ask::Alive {
                seek: self.attempt,
                gateway: number_of(gateway),
                wait: if is_left { LOST_STAGGER } else { wait },
            });
            wait += if is_left { Duration::ZERO } else { STAGGER };
        }
        self.seek = Some(Seek {
            number: self.attempt,
            started: now.mono,
            unanswered: sequence.len(),
            alive: VecDeque::new(),
            moving: None,
        });
    }

    /// A gateway says that it is alive, or is known not to be.
    pub fn handle_alive(&mut self, seek: u64, gateway: usize, alive: bool, now: Moment) {
        let Some(seek) = self.seek.as_mut().filter(|this| this.number == seek) else {
            return;
        };
        seek.unanswered -= 1;
        if alive {
            seek.alive.push_back(gateway);
        } else {
            let gateway = url(GATEWAY_NAMES[gateway]);
            self.order.failed(&gateway, now.mono);
        }
        self.go_on_seeking(now.mono);
    }

    fn go_on_seeking(&mut self, now: Instant) {
        let (Some(seek), Some(active)) = (&mut self.seek, &mut self.active) else {
            return;
        };
        if seek.moving.is_some() {
            return;
        }
        if let Some(gateway) = seek.alive.pop_front() {
            self.keys += 1;
            let mut secret = [0; 32];
            let stream = 0x5ec2_e700 + self.number as u64;
            secret.copy_from_slice(&text(stream, self.keys * 32, 32));
            let secret = SecretKey::from_bytes(secret);
            self.asks.push(Ask::Move {
                seek: seek.number,
                gateway,
                session: active.grant.session,
                key: Bytes32(*secret.public_key().as_bytes()),
            });
            seek.moving = Some(secret);
        } else if seek.unanswered == 0 {
            self.seek = None;
            active.pursuit.stay(String::new(), &mut self.state, now);
        }
    }

    /// The portal let the session go on through `gateway`, or did not.
    pub fn handle_moved(
        &mut self,
        seek: u64,
        gateway: usize,
        answer: Result<AgentGrant, &'static str>,
        now: Moment,
        tally: &mut Tally,
    ) {
        let current = self.seek.as_ref().is_some_and(|this| this.number == seek);
        if !current {
            // Left in the meantime, and the portal was told; the move may have come after.
            if let Ok(grant) = answer
                && self.session() != Some(grant.session)
            {
                self.farewells.push((gateway, grant.session));
            }
            return;
        }
        let (Some(this), Some(active)) = (&mut self.seek, &mut self.active) else {
            return;
        };
        let Some(secret) = this.moving.take() else {
            return;
        };
        let asked = url(GATEWAY_NAMES[gateway]);
        match answer {
            Ok(grant) => {
                self.order.worked(&asked);
                self.seek = None;
                let session = granted_session(&grant, now.mono);
                if !self.state.handle_moved(&session, now.mono) {
                    return;
                }
                tally.count("a session went on through another gateway");
                let pursuit = Pursuit::after(&active.pursuit, now.mono);
                *active = Active::new(secret, grant, gateway, pursuit);
                self.forget_streams();
            }
            Err("refused: revoked") => {
                self.seek = None;
                let code = RefusalCode::Revoked;
                let state = &mut self.state;
                active
                    .pursuit
                    .handle_refused(code, String::new(), state, now.mono);
            }
            Err("refused: over") => {
                self.seek = None;
                let code = RefusalCode::SessionOver;
                let state = &mut self.state;
                active
                    .pursuit
                    .handle_refused(code, String::new(), state, now.mono);
            }
            Err(_) => {
                self.order.failed(&asked, now.mono);
                self.go_on_seeking(now.mono);
            }
        }
    }

    /// Gives a search up whose answers were lost.
    pub(super) fn watch_seek(&mut self, now: Instant) {
        let over = |seek: &mut Seek| now.saturating_duration_since(seek.started) > SEEK_LIMIT;
        if self.seek.take_if(over).is_some()
            && let Some(active) = &mut self.active
        {
            active.pursuit.stay(String::new(), &mut self.state, now);
        }
    }
}

fn number_of(gateway: &GatewayUrl) -> usize {
    let names = GATEWAY_NAMES.iter();
    let mut names = names.enumerate();
    let found = names.find(|(_, name)| url(name) == *gateway);
    found.expect("a gateway that exists").0
}
