//! The PCs, and the datagrams on their way.

use std::time::Duration;

use tunnel::server::Route;
use vpn_agent::link::paths::WayId;

use super::{Happening, RECORDED, Tls, World, fail};
use crate::agent::{Leaving, Opening};
use crate::certificates::certificates;
use crate::random::{Random, draw};

impl World {
    /// Whether a PC is awake and its path whole.
    pub(super) fn is_reached(&self, device: usize) -> bool {
        let path = &self.paths[device];
        path.cut_until <= self.t && path.asleep_until <= self.t
    }

    /// A gateway's datagram on its way to whoever has that address now.
    pub(super) fn send_to(&mut self, to: Route, data: Vec<u8>) {
        let found = self.agents.iter().enumerate();
        let mut found = found.filter_map(|(device, agent)| Some((device, agent.way_at(to)?)));
        let Some((device, (link, way))) = found.next() else {
            return;
        };
        if self.paths[device].pass[way.index()] {
            self.launch(device, 1, data, |data| {
                Happening::ToAgent(device, link, way, data)
            });
        }
    }

    /// A PC makes a TLS connection: TCP's and TLS's round trips, and the request's.
    fn open_tls(&mut self, device: usize, opening: &Opening) {
        let path = self.paths[device];
        let Opening { gateway, link, way } = *opening;
        let refused = self.gateways[gateway].core.is_none();
        if path.cut_until > self.t {
        } else if path.pass[way.index()] && !refused {
            let after = path.delay * 6;
            self.soon(after, Happening::TlsOpened(device, link, way, gateway));
        } else if path.refused || refused {
            self.soon(path.delay * 2, Happening::WayFailed(device, link, way));
        }
    }

    pub(super) fn tls_opened(&mut self, device: usize, link: u64, way: WayId, gateway: usize) {
        let program = &self.gateways[gateway];
        if !self.is_reached(device) || !program.runs(self.t) {
            return;
        }
        self.connections += 1;
        let tls = Tls {
            certificate: certificates().sha256[device],
            gateway,
            life: program.life,
        };
        self.connections_tls.insert(self.connections, tls);
        let now = self.agents[device].clocks.show(self.t);
        self.agents[device].handle_opened(link, way, self.connections, now);
        self.turn_agent(device);
    }

    pub(super) fn way_failed(&mut self, device: usize, link: u64, way: WayId) {
        if self.is_reached(device) {
            let now = self.agents[device].clocks.show(self.t);
            self.agents[device].handle_failed(link, way, now);
            self.turn_agent(device);
        }
    }

    /// Whether a gateway still has the connection that a datagram comes over.
    pub(super) fn is_connected(&self, gateway: usize, from: Route) -> bool {
        let Route::Tls { connection, .. } = from else {
            return true;
        };
        let tls = self.connections_tls.get(&connection);
        tls.is_some_and(|tls| tls.gateway == gateway && tls.life == self.gateways[gateway].life)
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
        let openings = std::mem::take(&mut agent.openings);
        let asks = std::mem::take(&mut agent.asks);
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
        let wake = agent.wake(now.mono).saturating_duration_since(self.origin);
        self.agent_wake[device] = agent.clocks.true_time_of(wake).max(t);
        openings
            .iter()
            .for_each(|opening| self.open_tls(device, opening));
        asks.into_iter().for_each(|ask| self.ask(device, ask));
        for datagram in leaving {
            self.leave(device, datagram);
        }
        for (gateway, session) in farewells {
            if self.paths[device].cut_until <= t {
                let delay = self.paths[device].delay;
                self.soon(delay, Happening::EndAtGateway(gateway, session));
            }
        }
    }

    /// A PC's datagram leaves over its way, if that is not broken.
    fn leave(&mut self, device: usize, datagram: Leaving) {
        let Leaving {
            gateway,
            session,
            from,
            link,
            way,
            data,
        } = datagram;
        if data[0] == 1 {
            let index = u32::from_le_bytes([data[4], data[5], data[6], data[7]]) >> 8;
            self.owners.insert(index, session);
            self.tally.count("handshakes begun by agents");
        }
        let path = self.paths[device];
        let Some(from) = from else { return };
        if !path.pass[way.index()] {
            self.tally.count("datagrams that no way let pass");
            if path.refused {
                self.soon(path.delay, Happening::WayFailed(device, link, way));
            }
            return;
        }
        if !self.is_connected(gateway, from) {
            // The other end knows no such connection, and says so if it can.
            if self.gateways[gateway].runs(self.t) && path.cut_until <= self.t {
                self.soon(path.delay * 2, Happening::WayFailed(device, link, way));
            }
            return;
        }
        self.recorded.push_back((gateway, from, data.clone()));
        if self.recorded.len() > RECORDED {
            self.recorded.pop_front();
        }
        self.launch(device, 0, data, |data| {
            Happening::ToGateway(gateway, from, data)
        });
    }
}
