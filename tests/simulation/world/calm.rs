//! All is repaired: whatever may arrive must arrive.

use std::time::Duration;

use super::{Happening, World, fail};
use crate::steps::{DEVICES, GATEWAYS, WAYS};

/// Calm is given this long at most.
const CALM: Duration = Duration::from_secs(40);

impl World {
    /// Repairs everything; then whatever may arrive must arrive, and whoever is in must be
    /// known to the portal.
    pub(super) fn calm(&mut self) {
        let stalled = self
            .gateways
            .iter()
            .filter_map(|gateway| gateway.stalled_until);
        if let Some(until) = stalled.max() {
            self.run_to(until.max(self.t));
        }
        let t = self.t;
        self.portal_back_at = self.portal_back_at.map(|_| t);
        self.soon(Duration::ZERO, Happening::PortalBack);
        for gateway in 0..GATEWAYS {
            let wall = self.wall();
            let program = &mut self.gateways[gateway];
            program.stalled_until = None;
            if program.cut_until.take().is_some_and(|until| until > t) {
                // What waits on the old connection may come too late.
                program.lose_feed(t);
            }
            program.clocks.set_wall(t, wall);
            self.soon(Duration::ZERO, Happening::StartGateway(gateway));
            self.soon(Duration::ZERO, Happening::StallOver(gateway));
        }
        for device in 0..DEVICES {
            let path = &mut self.paths[device];
            path.loss = 0;
            path.jitter = Duration::ZERO;
            path.twice = 0;
            path.cut_until = t;
            path.asleep_until = t;
            path.pass = [true; WAYS];
            self.agents[device].turn_evil(false);
            self.soon(Duration::ZERO, Happening::WakeUp(device));
        }
        self.run_to(t + Duration::from_millis(1));
        for device in 0..DEVICES {
            self.transfers += 1;
            self.agents[device].transfer(self.transfers, 500, 500);
            self.turn_agent(device);
        }
        while self.t < t + CALM {
            self.run_to(self.t + Duration::from_secs(1));
            let settled = self.t >= t + Duration::from_secs(3);
            if settled && (0..DEVICES).all(|device| self.is_at_rest(device)) {
                break;
            }
        }
        for device in 0..DEVICES {
            if !self.is_at_rest(device) {
                let oldest = self.agents[device].oldest();
                fail(
                    &self.log,
                    self.t,
                    &format!("PC {device} is stuck: {oldest}"),
                );
            }
        }
        for gateway in 0..GATEWAYS {
            let mut live = self.portal.live(gateway, self.wall());
            live.retain(|session| !self.model.holds(gateway, *session));
            if !live.is_empty() && self.t >= t + Duration::from_secs(35) {
                fail(
                    &self.log,
                    self.t,
                    &format!("gateway {gateway} was never told of {live:?}"),
                );
            }
        }
    }

    /// Whether nothing waits that could still arrive.
    pub(super) fn is_at_rest(&self, device: usize) -> bool {
        let agent = &self.agents[device];
        let Some(session) = agent.session() else {
            return true;
        };
        // Whom the portal has ended need not have heard yet.
        if !self.portal.is_live(session, self.wall()) {
            return true;
        }
        agent.waiting() == 0 && agent.connected() == Some(session)
    }
}
