//! What the steps do to the world.

use std::time::Duration;

use tunnel::keys::SecretKey;

use super::{Asking, Happening, Input, World, eavesdropper, home};
use crate::portal::Portal;
use crate::random::draw;
use crate::steps::{DEVICES, GATEWAYS, Step};

impl World {
    pub(super) fn act(&mut self, step: Step, number: u64) {
        let t = self.t;
        match step {
            Step::Connect {
                device,
                gateway,
                anew,
            } => {
                let path = self.paths[device];
                if path.asleep_until > t {
                    return;
                }
                let agent = &mut self.agents[device];
                let now = agent.clocks.show(t);
                if anew && agent.session().is_some() {
                    agent.disconnect(now);
                }
                let mut random = draw(self.seed, 77, number);
                let mut secret = [0; 32];
                for word in secret.chunks_mut(8) {
                    word.copy_from_slice(&random.next().to_le_bytes());
                }
                if let Some((attempt, key)) = agent.connect(SecretKey::from_bytes(secret), now) {
                    let asking = Asking {
                        device,
                        attempt,
                        gateway,
                        key,
                        moves: None,
                        life: 0,
                        asked_in: 0,
                    };
                    match path.cut_until <= t {
                        true => self.soon(path.delay, Happening::Asked(asking)),
                        false => self.answer(asking, Err("unavailable")),
                    }
                }
                self.turn_agent(device);
            }
            Step::Disconnect { device } => {
                let now = self.agents[device].clocks.show(t);
                if self.paths[device].asleep_until <= t {
                    self.agents[device].disconnect(now);
                    self.turn_agent(device);
                }
            }
            Step::Transfer { device, up, down } => {
                self.transfers += 1;
                self.agents[device].transfer(self.transfers, up, down);
                self.turn_agent(device);
            }
            Step::Wait { ms } => self.run_to(t + Duration::from_millis(ms)),
            Step::Idle { s } => self.run_to(t + Duration::from_secs(s)),
            Step::ToTheEdge {
                device,
                by_ns,
                stall,
                behind,
            } => self.run_to_the_edge(device, by_ns, stall, behind),
            Step::NewKeys { device } => {
                if self.paths[device].asleep_until <= t {
                    let now = self.agents[device].clocks.show(t);
                    self.agents[device].new_keys(now);
                    self.turn_agent(device);
                }
            }
            Step::Roam { device, noticed } => {
                self.paths[device].moves += 1;
                self.agents[device].home = home(device, self.paths[device].moves);
                if noticed {
                    self.agents[device].moved();
                }
            }
            Step::Ways {
                device,
                pass,
                refused,
            } => {
                self.paths[device].pass = pass;
                self.paths[device].refused = refused;
            }
            Step::Sleep { device, s } => self.sleep(device, s),
            Step::Night { s } => {
                (0..DEVICES).for_each(|device| self.sleep(device, s));
                self.run_to(t + Duration::from_secs(s) + Duration::from_millis(1));
            }
            Step::KillAgent { device } => {
                self.agents[device].kill();
                self.turn_agent(device);
            }
            Step::Rogue { device, evil } => self.agents[device].turn_evil(evil),
            Step::BorrowAddress { device, of } => {
                let address = (device != of)
                    .then(|| self.agents[of].inner_address())
                    .flatten();
                let now = self.agents[device].clocks.show(t);
                self.agents[device].lie(address, (device + 1) % DEVICES, now);
                self.turn_agent(device);
            }
            Step::Replay { pick, own_address } => {
                if let Some((gateway, from, data)) = self.recording(pick) {
                    let from = if own_address { eavesdropper() } else { from };
                    self.tally.count(match own_address {
                        true => "replays from elsewhere",
                        false => "replays",
                    });
                    self.at_gateway(gateway, Input::Datagram(from, data));
                }
            }
            Step::Forge { pick, how } => self.forge(pick, how),
            Step::Revoke { device } => {
                let changes = self.portal.revoke(device, self.wall());
                self.portal_changed(&changes);
            }
            Step::Race {
                device,
                gateway,
                ms,
            } => {
                let connect = Step::Connect {
                    device,
                    gateway,
                    anew: true,
                };
                self.act(connect, number);
                self.run_to(t + Duration::from_millis(ms));
                self.act(Step::Revoke { device }, number);
            }
            Step::Suspend { establishment, out } => {
                let changes = self.portal.suspend(establishment, out, self.wall());
                self.portal_changed(&changes);
            }
            Step::CloseToday => {
                let changes = self
                    .portal
                    .enter(portal::calendar::DayKind::Closing, self.wall());
                self.portal_changed(&changes);
            }
            Step::CloseEarlier { minutes } => {
                let closes = self.wall() + time::Duration::minutes(minutes);
                let changes = self.portal.close_at(closes, self.wall());
                self.portal_changed(&changes);
            }
            Step::ExtraDay { minutes } => {
                let closes = self.wall() + time::Duration::minutes(minutes);
                if let Some(kind) = Portal::extra(closes) {
                    let changes = self.portal.enter(kind, self.wall());
                    self.portal_changed(&changes);
                }
            }
            Step::OrdinaryDay => {
                let changes = self.portal.ordinary_day(self.wall());
                self.portal_changed(&changes);
            }
            Step::StopGateway { gateway, down_ms } => {
                self.at_gateway(gateway, Input::Stop);
                self.report(gateway, self.gateways[gateway].life);
                self.kill_gateway(gateway, down_ms);
            }
            Step::KillGateway { gateway, down_ms } => self.kill_gateway(gateway, down_ms),
            Step::StallGateway { gateway, ms } => {
                let until = t + Duration::from_millis(ms);
                if self.gateways[gateway].runs(t) {
                    self.gateways[gateway].stalled_until = Some(until);
                    self.touched(gateway);
                    self.at(until, Happening::StallOver(gateway));
                }
            }
            Step::CutFeed { gateway, ms } => {
                let until = t + Duration::from_millis(ms);
                let program = &mut self.gateways[gateway];
                program.cut_until = program.cut_until.max(Some(until));
                self.touched(gateway);
                self.at(until, Happening::CutOver(gateway));
            }
            Step::SlowFeed { gateway, ms } => {
                self.gateways[gateway].feed_delay = Duration::from_millis(ms);
            }
            Step::RestartPortal { down_ms } => {
                let back = t + Duration::from_millis(down_ms);
                self.portal_back_at = self.portal_back_at.max(Some(back));
                self.portal.restart();
                for gateway in 0..GATEWAYS {
                    if self.gateways[gateway].connection().is_some() {
                        self.gateways[gateway].lose_feed(t);
                        self.gateway_wake[gateway] = t;
                    }
                    self.touched(gateway);
                }
                self.at(back, Happening::PortalBack);
            }
            Step::SetGatewayWall { gateway, off_s } => {
                let wall = self.wall() + time::Duration::seconds(off_s);
                self.gateways[gateway].clocks.set_wall(t, wall);
            }
            Step::DriftGateway { gateway, ppm } => {
                self.gateways[gateway].clocks.drift(t, ppm);
                self.at_gateway(gateway, Input::Time);
            }
            Step::SetPcWall { device, off_s } => {
                let wall = self.wall() + time::Duration::seconds(off_s);
                self.agents[device].clocks.set_wall(t, wall);
            }
            Step::DriftPc { device, ppm } => {
                self.agents[device].clocks.drift(t, ppm);
                self.turn_agent(device);
            }
            Step::Path {
                device,
                loss,
                delay_ms,
                jitter_ms,
                twice,
            } => {
                let path = &mut self.paths[device];
                path.loss = loss;
                path.delay = Duration::from_millis(delay_ms);
                path.jitter = Duration::from_millis(jitter_ms);
                path.twice = twice;
            }
            Step::CutPath { device, ms } => {
                let path = &mut self.paths[device];
                path.cut_until = path.cut_until.max(t + Duration::from_millis(ms));
            }
            Step::Calm => self.calm(),
        }
    }

    pub(super) fn sleep(&mut self, device: usize, s: u64) {
        let until = self.t + Duration::from_secs(s);
        self.paths[device].asleep_until = self.paths[device].asleep_until.max(until);
        self.agent_wake[device] = Duration::MAX;
        self.at(until, Happening::WakeUp(device));
    }

    pub(super) fn kill_gateway(&mut self, gateway: usize, down_ms: u64) {
        self.gateways[gateway].kill();
        self.model.restarted(gateway);
        self.portal.hang_up(gateway);
        self.gateway_wake[gateway] = Duration::MAX;
        self.soon(
            Duration::from_millis(down_ms),
            Happening::StartGateway(gateway),
        );
    }

    /// Lets time pass to just about the end of a session by its gateway's clock, with
    /// something to send in both directions.
    pub(super) fn run_to_the_edge(&mut self, device: usize, by_ns: i64, stall: bool, behind: bool) {
        let agent = &self.agents[device];
        let (Some(session), Some(gateway)) = (agent.session(), agent.gateway()) else {
            return;
        };
        let Some(limit) = self.model.limit(gateway, session) else {
            return;
        };
        let limit = limit.saturating_duration_since(self.origin);
        let edge = self.gateways[gateway].clocks.true_time_of(limit);
        let by = Duration::from_nanos(by_ns.unsigned_abs());
        let target = if by_ns < 0 {
            edge.saturating_sub(by)
        } else {
            edge + by
        };
        if target <= self.t {
            return;
        }
        // Hours of nothing are slept through.
        for number in 0..DEVICES {
            let awake_before = Duration::from_secs(if number == device { 8 } else { 1 });
            let until = target.saturating_sub(awake_before);
            self.sleep(number, until.saturating_sub(self.t).as_secs());
        }
        let before = target.saturating_sub(self.paths[device].delay + Duration::from_millis(2));
        self.run_to(before.max(self.t));
        if self.agents[device].session() == Some(session) {
            self.tally.count("edges reached");
        }
        if behind {
            let wall = self.wall() - time::Duration::hours(1);
            self.gateways[gateway].clocks.set_wall(self.t, wall);
        }
        if stall {
            let until = target + Duration::from_millis(20);
            if self.gateways[gateway].runs(self.t) {
                self.gateways[gateway].stalled_until = Some(until);
                self.touched(gateway);
                self.at(until, Happening::StallOver(gateway));
            }
        }
        self.transfers += 1;
        self.agents[device].transfer(self.transfers, 30_000, 30_000);
        self.turn_agent(device);
        self.run_to(target);
        // At this very instant something comes in that was held back until now.
        if let Some((gateway, from, data)) = self.recording(u64::MAX) {
            self.at_gateway(gateway, Input::Datagram(from, data));
        }
    }
}
