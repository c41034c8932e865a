//! A gateway at work: what reaches its program, and what the model says of what passed.

use std::collections::HashMap;
use std::time::Duration;

use access::Moment;
use gateway::event_loop::core::Core;
use protocol::SessionId;
use protocol::agent_api::EndCode;
use tunnel::MAX_SEGMENTS;
use tunnel::server::{PeerId, Route};

use super::{Happening, Input, World, fail};
use crate::gateway::Feed;
use crate::member::Member;
use crate::random::draw;

/// A gateway's farewell is sent this often, and is no longer than this, in bytes; before
/// QUIC's handshake is done it is filled up to the size of a first packet.
const FAREWELL_COPIES: usize = 2;
const FAREWELL_BYTES: usize = 256;
const EARLY_FAREWELL_BYTES: usize = 1280;
/// Sessions whose traffic is watched at each gateway.
const WATCHED: usize = 12;

impl World {
    /// Gives a gateway's program something, and judges what passed. True if a grant was
    /// accepted.
    pub(super) fn at_gateway(&mut self, gateway: usize, input: Input) -> bool {
        let t = self.t;
        let program = &mut self.gateways[gateway];
        if let Some(until) = program.stalled_until.filter(|until| *until > t) {
            self.gateway_wake[gateway] = Duration::MAX;
            match input {
                Input::Datagram(from, data) => {
                    self.at(until, Happening::ToGateway(gateway, from, data))
                }
                Input::End(session, ..) => {
                    let life = program.life;
                    self.at(until, Happening::EndBackAtGateway(gateway, life, session));
                }
                Input::Time | Input::Stop | Input::Install(..) | Input::Snapshot(..) => {}
            }
            return false;
        }
        if program.gives_up(t) {
            self.portal.hang_up(gateway);
            self.tally.count("a feed was given up");
            self.touched(gateway);
        }
        let program = &mut self.gateways[gateway];
        let Some(mut core) = program.core.take() else {
            self.gateway_wake[gateway] = Duration::MAX;
            return false;
        };
        let t = t.max(program.busy_until);
        let now = program.clocks.show(t);
        let watched = program.watched.clone();
        let model = &mut self.model;
        model.tick(gateway, now);
        let traffic = |core: &mut Core<Member>| {
            let (tunnels, _) = core.relay();
            let of = |session: &SessionId| {
                let traffic = tunnels.traffic(PeerId(session.as_uuid().as_u128()));
                traffic.map_or(0, |traffic| traffic.bytes_in)
            };
            watched.iter().map(of).collect::<Vec<u64>>()
        };
        let certificate = match &input {
            Input::Datagram(Route::Tls { connection, .. }, _) => {
                let tls = self.connections_tls.get(connection);
                tls.map(|tls| tls.certificate)
            }
            _ => None,
        };
        let mut accepted = false;
        let mut ended = Vec::new();
        match input {
            Input::Time => {}
            Input::Datagram(from, data) => {
                let before = traffic(&mut core);
                match certificate {
                    Some(shown) => core.handle_device_datagram(from, &shown, &data, now),
                    None => core.handle_datagram(from, &data, now),
                };
                let after = traffic(&mut core);
                for ((session, before), after) in watched.iter().zip(before).zip(after) {
                    if after > before {
                        if let Err(breach) = model.may_pass(gateway, *session, now, t) {
                            fail(
                                &self.log,
                                t,
                                &format!(
                                    "a packet of {session} passed inwards at gateway {gateway}: {breach:?}"
                                ),
                            );
                        }
                        self.tally.count("packets inwards");
                    }
                }
            }
            Input::Install(grant, said_at) => {
                model.told(gateway, &grant, said_at, now);
                let session = grant.session;
                accepted = core.install(*grant, said_at, now).is_ok();
                if !self.gateways[gateway].watched.contains(&session) {
                    watch(&mut self.gateways[gateway].watched, session);
                }
            }
            Input::Snapshot(grants, said_at) => {
                model.told_all(gateway, &grants, said_at, now);
                for grant in &grants {
                    if !self.gateways[gateway].watched.contains(&grant.session) {
                        watch(&mut self.gateways[gateway].watched, grant.session);
                    }
                }
                core.snapshot(grants, said_at, now);
            }
            Input::End(session, through, reason) => {
                model.over(gateway, session, through);
                core.end(session, through, reason, now);
            }
            // Whom it ends it reports.
            Input::Stop => core.stop(now),
        }
        core.handle_timeout(now);
        model.tick(gateway, now);
        while let Some(report) = core.poll_report() {
            model.over_here(gateway, report.session, report.generation, report.reason);
            ended.push(report.session);
            self.tally.count(ended_at_gateway(report.reason));
            self.gateways[gateway].reports.push(report);
        }
        // Between looking at the time and sending, time passes: now and then a deadline.
        self.serial += 1;
        let mut luck = draw(self.seed, 99, self.serial);
        let work = match luck.below(20) {
            0..14 => 0,
            14..19 => luck.below(100_000),
            _ => luck.below(20_000_000),
        };
        let t = t + Duration::from_nanos(work);
        let program = &mut self.gateways[gateway];
        program.busy_until = t;
        let now = program.clocks.show(t);
        self.judge(gateway, &mut core, (now, t), &ended);
        let program = &mut self.gateways[gateway];
        if program.next_tick <= now.mono {
            program.next_tick = now.mono + Duration::from_secs(1);
        }
        program.core = Some(core);
        if !ended.is_empty() {
            let (life, delay) = (program.life, program.feed_delay);
            self.soon(delay, Happening::Report(gateway, life));
        }
        self.dial(gateway);
        let program = &self.gateways[gateway];
        let mut wake = program.wake().map_or(Duration::MAX, |wake| {
            program
                .clocks
                .true_time_of(wake.saturating_duration_since(self.origin))
        });
        if let Feed::Lost(at) = program.feed {
            wake = wake.min(at);
        }
        self.gateway_wake[gateway] = wake.max(t);
        accepted
    }

    /// Asks the portal for the feed, if it is time.
    pub(super) fn dial(&mut self, gateway: usize) {
        let program = &mut self.gateways[gateway];
        let Feed::Lost(at) = program.feed else {
            return;
        };
        if at > self.t {
            return;
        }
        if program.is_linked(self.t) && self.portal_back_at.is_none() {
            self.connections += 1;
            program.feed = Feed::Asked(self.connections, self.t);
            let delay = program.feed_delay;
            self.soon(delay, Happening::FeedAtPortal(gateway, self.connections));
        } else {
            program.lose_feed(self.t);
        }
    }

    /// Puts what a gateway sends, holds and relays to the model, and sends it.
    pub(super) fn judge(
        &mut self,
        gateway: usize,
        core: &mut Core<Member>,
        (now, t): (Moment, Duration),
        ended: &[SessionId],
    ) {
        let mut buffer = Vec::new();
        let mut farewells: HashMap<SessionId, usize> = HashMap::new();
        while let Some(outgoing) = core.poll_transmit(MAX_SEGMENTS, &mut buffer, now) {
            let transmit = outgoing.transmit;
            for data in buffer[..transmit.len].chunks(transmit.segment_size) {
                let index = |from: usize| {
                    u32::from_le_bytes([data[from], data[from + 1], data[from + 2], data[from + 3]])
                        >> 8
                };
                let owner = match data[0] {
                    1 => self.slots.get(&(gateway, index(4))).copied(),
                    2 => {
                        let owner = self.owners.get(&index(8)).copied();
                        if let Some(session) = owner {
                            self.slots.insert((gateway, index(4)), session);
                        }
                        owner
                    }
                    4 => self.owners.get(&index(4)).copied(),
                    _ => None,
                };
                let Some(session) = owner else {
                    fail(
                        &self.log,
                        self.t,
                        &format!(
                            "gateway {gateway} said something to nobody: kind {}",
                            data[0]
                        ),
                    );
                };
                match self.model.may_pass(gateway, session, now, t) {
                    Ok(()) => self.tally.count("packets outwards"),
                    Err(breach) => {
                        let said = farewells.entry(session).or_default();
                        *said += 1;
                        let stood = self.stood.contains(&session);
                        let longest = match stood && !self.model.has_moved(session) {
                            true => FAREWELL_BYTES,
                            false => EARLY_FAREWELL_BYTES,
                        };
                        if !ended.contains(&session)
                            || *said > FAREWELL_COPIES
                            || data.len() > longest
                        {
                            fail(
                                &self.log,
                                self.t,
                                &format!(
                                    "{} bytes of {session} passed outwards at gateway {gateway}: {breach:?}",
                                    data.len()
                                ),
                            );
                        }
                        self.tally.count("farewells");
                    }
                }
                if self.strangers.contains(&outgoing.to) {
                    fail(
                        &self.log,
                        self.t,
                        &format!("gateway {gateway} answered a stranger"),
                    );
                }
                self.send_to(outgoing.to, data.to_vec());
            }
        }
        let (tunnels, member) = core.relay();
        let held = tunnels.peers();
        let faults = std::mem::take(&mut member.faults);
        let headers = std::mem::take(&mut member.headers);
        self.tally
            .add("bytes to the portal", std::mem::take(&mut member.bytes_in));
        self.tally.add(
            "bytes from the portal",
            std::mem::take(&mut member.bytes_out),
        );
        if held == 0 && member.open_streams() > 0 {
            fail(
                &self.log,
                self.t,
                &format!("gateway {gateway} keeps streams of nobody"),
            );
        }
        if let Some(fault) = faults.first() {
            fail(&self.log, self.t, fault);
        }
        for (session, claim) in headers {
            let named = claim.session();
            let key = self.portal.proxy_key(session, claim.inner_address());
            let verified = claim.verify(&key);
            if named != session || verified.is_err() {
                fail(
                    &self.log,
                    self.t,
                    &format!("a stream of {session} was announced as {named}: {verified:?}"),
                );
            }
            self.tally.count("streams opened");
        }
        let wanted = self.model.held(gateway);
        if core.sessions() != wanted || held != wanted {
            let sessions = core.sessions();
            fail(
                &self.log,
                self.t,
                &format!(
                    "gateway {gateway} holds {sessions} sessions and {held} peers in place of {wanted}"
                ),
            );
        }
    }
}

fn watch(watched: &mut Vec<SessionId>, session: SessionId) {
    if watched.len() >= WATCHED {
        watched.remove(0);
    }
    watched.push(session);
}

fn ended_at_gateway(reason: EndCode) -> &'static str {
    match reason {
        EndCode::TimeLimit => "ended at a gateway: time limit",
        EndCode::ClosingTime => "ended at a gateway: closing time",
        EndCode::Revoked => "ended at a gateway: revoked",
        EndCode::Replaced => "ended at a gateway: replaced",
        EndCode::Disconnected => "ended at a gateway: disconnected",
        EndCode::GatewayStopped => "ended at a gateway: gateway stopped",
        EndCode::Moved => "ended at a gateway: moved",
    }
}
