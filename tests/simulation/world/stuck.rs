//! Whether anything is stuck: a PC that is awake, with a way that passes, and a gateway that
//! serves it or would, gets somewhere.

use std::time::Duration;

use super::{Happening, World, fail};
use crate::steps::DEVICES;

/// How often somebody looks.
const LOOK: Duration = Duration::from_secs(1);
/// A session whose deadline is nearer than this is not looked at any more.
const NEAR_THE_END: time::Duration = time::Duration::minutes(2);
/// How far a gateway's wall clock may be off for it to be of any help to newcomers.
const OFF: time::Duration = time::Duration::seconds(30);
/// A PC that could be served and gets nowhere for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How a PC got on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    since: Duration,
    moved_bytes: u64,
}

impl World {
    pub(super) fn watch(&mut self) {
        for device in 0..DEVICES {
            let agent = &self.agents[device];
            let moved_bytes = agent.moved_bytes();
            let connected = agent.connected().is_some() && agent.shows_connected();
            let waits = agent.waiting() > 0 || !connected;
            let progress = &mut self.progress[device];
            let moves = std::mem::replace(&mut progress.moved_bytes, moved_bytes) != moved_bytes;
            if moves || !waits || !self.could_be_served(device) {
                self.progress[device].since = self.t;
            } else if self.t >= self.progress[device].since + STUCK_AFTER {
                let oldest = self.agents[device].oldest();
                let what = format!("PC {device} gets nowhere for {STUCK_AFTER:?}: {oldest}");
                fail(&self.log, self.t, &what);
            }
        }
        self.soon(LOOK, Happening::Watch);
    }

    /// Whether nothing but the programs stands between a PC and the portal's pages.
    fn could_be_served(&self, device: usize) -> bool {
        let (agent, path) = (&self.agents[device], &self.paths[device]);
        let (Some(session), Some(own)) = (agent.session(), agent.gateway()) else {
            return false;
        };
        let passes = path.pass.contains(&true);
        let lives = self.portal.is_live(session, self.wall() + NEAR_THE_END);
        if agent.is_evil() || !self.is_reached(device) || !passes || !lives {
            return false;
        }
        let serves = self.gateways[own].runs(self.t) && self.model.holds(own, session);
        serves || (0..self.gateways.len()).any(|gateway| self.takes_newcomers(gateway))
    }

    fn takes_newcomers(&self, gateway: usize) -> bool {
        let program = &self.gateways[gateway];
        let off = program.clocks.wall(self.t) - self.wall();
        program.live_connection().is_some()
            && program.runs(self.t)
            && program.is_linked(self.t)
            && self.portal_is_up()
            && off.abs() < OFF
    }
}
