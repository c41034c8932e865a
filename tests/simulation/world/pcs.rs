//! The PCs, and the datagrams on their way.

use std::time::Duration;

use tunnel::server::Route;

use super::{Happening, RECORDED, World, fail};
use crate::random::{Random, draw};

impl World {
    /// A gateway's datagram on its way to whoever has that address now.
    pub(super) fn send_to(&mut self, to: Route, gateway: usize, data: Vec<u8>) {
        let Some(device) = self.agents.iter().position(|agent| agent.route == to) else {
            return;
        };
        self.launch(device, 1, data, |data| {
            Happening::ToAgent(device, gateway, data)
        });
    }

    pub(super) fn launch(
        &mut self,
        device: usize,
        way: u64,
        data: Vec<u8>,
        make: impl Fn(Vec<u8>) -> Happening,
    ) {
        let path = &mut self.paths[device];
        path.serial += 1;
        let mut luck = draw(self.seed, device as u64 * 2 + way, path.serial);
        let path = *path;
        if path.cut_until > self.t || luck.chance(path.loss) {
            return self.tally.count("datagrams lost");
        }
        let late = |luck: &mut Random| {
            path.delay + Duration::from_micros(luck.between(0, path.jitter.as_micros() as u64))
        };
        if luck.chance(path.twice) {
            self.tally.count("datagrams doubled");
            let after = late(&mut luck);
            self.soon(after, make(data.clone()));
        }
        let after = late(&mut luck);
        self.soon(after, make(data));
    }

    pub(super) fn turn_agent(&mut self, device: usize) {
        let t = self.t;
        if self.paths[device].asleep_until > t {
            self.agent_wake[device] = Duration::MAX;
            return;
        }
        let agent = &mut self.agents[device];
        let now = agent.clocks.show(t);
        agent.turn(now, &mut self.tally);
        let leaving = std::mem::take(&mut agent.outbox);
        let farewells = std::mem::take(&mut agent.farewells);
        if let Some(fault) = agent.faults.first() {
            fail(&self.log, t, fault);
        }
        if let Some(session) = agent.session()
            && !self.model.may_be_shown(session, t)
        {
            fail(
                &self.log,
                t,
                &format!("PC {device} shows {session} past its deadline"),
            );
        }
        self.stood.extend(agent.connected());
        let wake = agent.wake().saturating_duration_since(self.origin);
        self.agent_wake[device] = agent.clocks.true_time_of(wake).max(t);
        let from = agent.route;
        for datagram in leaving {
            if datagram.data[0] == 1 {
                let bytes = &datagram.data[4..8];
                let index = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) >> 8;
                self.owners.insert(index, datagram.session);
                self.tally.count("handshakes begun by agents");
            }
            self.recorded
                .push_back((datagram.gateway, from, datagram.data.clone()));
            if self.recorded.len() > RECORDED {
                self.recorded.pop_front();
            }
            let gateway = datagram.gateway;
            self.launch(device, 0, datagram.data, |data| {
                Happening::ToGateway(gateway, from, data)
            });
        }
        for (gateway, session) in farewells {
            if self.paths[device].cut_until <= t {
                let delay = self.paths[device].delay;
                self.soon(delay, Happening::EndAtGateway(gateway, session));
            }
        }
    }
}
