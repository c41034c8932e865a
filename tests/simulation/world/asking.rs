//! A PC asks for a session: to the gateway, to the portal, and the two ways back.

use std::time::Duration;

use portal::clock::unix_ms;
use protocol::Bytes32;
use protocol::agent_api::{AgentGrant, EndCode};
use protocol::control::Grant;

use super::portal_lines::{RETRY, at};
use super::{Asking, Happening, Input, World};
use crate::agent::Ask;
use crate::certificates::GATEWAY_NAMES;
use crate::portal::Refused;

/// How long a gateway may take to say that it is alive.
const ALIVE_LIMIT: Duration = Duration::from_secs(4);

impl World {
    pub(super) fn asked(&mut self, mut asking: Asking) {
        let program = &self.gateways[asking.gateway];
        let connection = program.live_connection().filter(|_| program.runs(self.t));
        let Some(connection) = connection.filter(|_| program.is_linked(self.t)) else {
            return self.answer(asking, Err("unavailable"));
        };
        asking.life = program.life;
        asking.asked_in = connection;
        self.soon(program.feed_delay, Happening::AtPortal(asking));
    }

    pub(super) fn asked_at_portal(&mut self, asking: Asking) {
        let Asking {
            device,
            gateway,
            key,
            ..
        } = asking;
        if !self.portal_is_up() || !self.gateways[gateway].is_linked(self.t) {
            return self.answer(asking, Err("unavailable"));
        }
        let now = self.wall();
        let granted = match asking.moves {
            None => self.portal.open(device, gateway, key, now),
            Some(session) => self.portal.move_here(device, gateway, session, key, now),
        };
        let answer = match granted {
            Ok((grant, changes)) => {
                match asking.moves {
                    None => self.model.opened(&grant, gateway),
                    Some(_) => self.model.moved(&grant, gateway, self.t),
                }
                self.portal_changed(&changes);
                let agent = AgentGrant {
                    session: grant.session,
                    gateway_public_key: Bytes32(*self.gateways[gateway].public_key().as_bytes()),
                    preshared_key: grant.preshared_key,
                    inner_address: grant.inner_address,
                    endpoints: Vec::new(),
                    gateway_certificate_name: GATEWAY_NAMES[gateway].to_owned(),
                    deadline_ms: grant.deadline_ms,
                    deadline_reason: grant.deadline_reason,
                    server_time_ms: unix_ms(now),
                    portal_url: String::new(),
                    code_mailed_to: None,
                    gateways: Vec::new(),
                };
                Ok(Box::new((grant, agent)))
            }
            Err(Refused::Closed) => Err("refused: closed"),
            Err(Refused::Revoked) => Err("refused: revoked"),
            Err(Refused::KeyKnown) => Err("refused: key used before"),
            Err(Refused::Over) => Err("refused: over"),
        };
        // The answer and the feed are two connections: either may be first.
        let slower = [0, 5, 60, 600][self.serial as usize % 4];
        let back = self.gateways[gateway].feed_delay + Duration::from_millis(slower);
        self.soon(back, Happening::BackAtGateway(asking, answer));
    }

    pub(super) fn answered_at_gateway(
        &mut self,
        asking: Asking,
        answer: Result<Box<(Grant, AgentGrant)>, &'static str>,
    ) {
        let gateway = asking.gateway;
        let program = &mut self.gateways[gateway];
        if let Some(until) = program.stalled_until.filter(|until| *until > self.t) {
            return self.at(until, Happening::BackAtGateway(asking, answer));
        }
        if program.core.is_none() || program.life != asking.life || !program.is_linked(self.t) {
            return self.answer(asking, Err("unavailable"));
        }
        if program.gives_up(self.t) {
            self.portal.hang_up(gateway);
        }
        let (grant, agent) = match answer {
            Ok(both) => *both,
            Err(why) => return self.answer(asking, Err(why)),
        };
        let (session, generation) = (grant.session, grant.generation);
        let same = self.gateways[gateway].live_connection() == Some(asking.asked_in);
        self.touched(gateway);
        let said_at = at(agent.server_time_ms);
        let installed = same && self.at_gateway(gateway, Input::Install(Box::new(grant), said_at));
        if installed {
            self.answer(asking, Ok(Box::new(agent)));
        } else {
            self.tally.count("granted and not let in");
            let refused = gateway::commands::Ended {
                session,
                generation,
                reason: EndCode::GatewayStopped,
                bytes_in: 0,
                bytes_out: 0,
            };
            self.gateways[gateway].reports.push(refused);
            let life = self.gateways[gateway].life;
            let delay = self.gateways[gateway].feed_delay;
            self.soon(delay, Happening::Report(gateway, life));
            self.answer(asking, Err("unavailable"));
        }
    }

    pub(super) fn answer(&mut self, asking: Asking, answer: Result<Box<AgentGrant>, &'static str>) {
        let after = match answer {
            Ok(_) => self.paths[asking.device].delay,
            Err(_) => RETRY,
        };
        self.soon(after, Happening::Answered(asking, answer));
    }

    /// The answer reaches the PC, unless it sleeps or is cut off.
    pub(super) fn answered(
        &mut self,
        asking: Asking,
        answer: Result<Box<AgentGrant>, &'static str>,
    ) {
        if !self.is_reached(asking.device) {
            return;
        }
        let agent = &mut self.agents[asking.device];
        let now = agent.clocks.show(self.t);
        let answer = answer.map(|grant| *grant);
        let (attempt, gateway, tally) = (asking.attempt, asking.gateway, &mut self.tally);
        match asking.moves {
            None => agent.handle_answer(attempt, gateway, answer, now, tally),
            Some(_) => agent.handle_moved(attempt, gateway, answer, now, tally),
        }
        self.turn_agent(asking.device);
    }

    /// What a PC asks the gateways when its own is lost.
    pub(super) fn ask(&mut self, device: usize, ask: Ask) {
        let path = self.paths[device];
        let cut = path.cut_until > self.t;
        match ask {
            Ask::Alive {
                seek,
                gateway,
                wait,
            } if cut => self.soon(
                wait + ALIVE_LIMIT,
                Happening::AliveAnswered(device, seek, gateway, false),
            ),
            Ask::Alive {
                seek,
                gateway,
                wait,
            } => self.soon(
                wait + path.delay,
                Happening::AliveAsked(device, seek, gateway),
            ),
            Ask::Move {
                seek,
                gateway,
                session,
                key,
            } => {
                let asking = Asking {
                    device,
                    attempt: seek,
                    gateway,
                    key,
                    moves: Some(session),
                    life: 0,
                    asked_in: 0,
                };
                match cut {
                    false => self.soon(path.delay, Happening::Asked(asking)),
                    true => self.answer(asking, Err("unavailable")),
                }
            }
        }
    }

    /// `GET /v1/status`, which the portal answers.
    pub(super) fn alive_asked(&mut self, device: usize, seek: u64, gateway: usize) {
        let program = &self.gateways[gateway];
        let back = self.paths[device].delay;
        let answered = program.live_connection().is_some()
            && program.runs(self.t)
            && program.is_linked(self.t)
            && self.portal_is_up();
        let (alive, wait) = match answered {
            true => (true, program.feed_delay * 2 + back),
            // Nothing listens there.
            false if program.core.is_none() => (false, back),
            false => (false, ALIVE_LIMIT),
        };
        self.soon(wait, Happening::AliveAnswered(device, seek, gateway, alive));
    }
}
