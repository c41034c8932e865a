//! One world: a portal, gateways, PCs, the lines between them, and what happens in true time.
//!
//! Each machine is woken only by what reaches it or at its own `poll_timeout` (and its event
//! loop's tick): a deadline that is forgotten there shows. Before a machine's code runs, this
//! thread's clocks are set to that machine's. After each thing that happens to a gateway, the
//! packets that passed are put to the reference model.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use access::Moment;
use gateway::grants::from_unix_ms;
use portal::clock::unix_ms;
use protocol::agent_api::{AgentGrant, EndCode};
use protocol::control::{FeedLine, Grant};
use protocol::{Bytes32, Generation, SessionId};
use time::OffsetDateTime;
use time::macros::datetime;
use tunnel::MAX_SEGMENTS;
use tunnel::keys::SecretKey;
use tunnel::server::{PeerId, Route};

use crate::agent::Agent;
use crate::certificates::{GATEWAY_NAMES, certificates};
use crate::clock::show;
use crate::gateway::{Feed, Gateway};
use crate::model::Model;
use crate::portal::{Change, Portal, Refused};
use crate::random::{Random, draw};
use crate::steps::{DEVICES, GATEWAYS, Step};
use crate::tally::Tally;

/// How often the portal's feed looks by itself.
const LOOK: Duration = Duration::from_millis(400);
/// How often a report that did not get through is repeated, and an asker is told that
/// nobody answers.
const RETRY: Duration = Duration::from_secs(1);
/// Calm is given this long at most.
const CALM: Duration = Duration::from_secs(75);
/// A gateway's farewell is sent this often, and is no longer than this, in bytes; before
/// QUIC's handshake is done it is filled up to the size of a first packet.
const FAREWELL_COPIES: usize = 2;
const FAREWELL_BYTES: usize = 256;
const EARLY_FAREWELL_BYTES: usize = 1280;
/// Datagrams that an eavesdropper keeps.
const RECORDED: usize = 64;
/// Sessions whose traffic is watched at each gateway.
const WATCHED: usize = 12;
/// Things that may happen at one instant.
const TURNS_PER_INSTANT: u32 = 100_000;

/// How a world began and what then happened.
pub struct World {
    seed: u64,
    t: Duration,
    start: OffsetDateTime,
    origin: Instant,
    serial: u64,
    happenings: BTreeMap<(Duration, u64), Happening>,
    portal: Portal,
    portal_back_at: Option<Duration>,
    gateways: Vec<Gateway>,
    gateway_wake: [Duration; GATEWAYS],
    agents: Vec<Agent>,
    agent_wake: [Duration; DEVICES],
    paths: [Path; DEVICES],
    model: Model,
    tally: Tally,
    /// Whose tunnel a WireGuard index belongs to, as an eavesdropper learns it.
    owners: HashMap<u32, SessionId>,
    slots: HashMap<(usize, u32), SessionId>,
    /// Sessions whose tunnel stood at some time.
    stood: HashSet<SessionId>,
    recorded: VecDeque<(usize, Route, Vec<u8>)>,
    /// Addresses from which nothing authentic ever came.
    strangers: HashSet<Route>,
    connections: u64,
    transfers: u64,
    /// The last things that happened, for whoever has to find out why.
    log: VecDeque<String>,
}

/// A PC's way to the gateways.
#[derive(Debug, Clone, Copy)]
struct Path {
    loss: u64,
    delay: Duration,
    jitter: Duration,
    twice: u64,
    cut_until: Duration,
    asleep_until: Duration,
    /// Counts datagrams, each with its own luck.
    serial: u64,
    moves: u64,
}

/// What is on its way to happen.
enum Happening {
    ToGateway(usize, Route, Vec<u8>),
    ToAgent(usize, usize, Vec<u8>),
    /// A PC asks for a session: at the gateway, at the portal, and the two ways back.
    Asked(Asking),
    AtPortal(Asking),
    BackAtGateway(Asking, Result<Box<(Grant, AgentGrant)>, &'static str>),
    Answered(Asking, Result<Box<AgentGrant>, &'static str>),
    /// A PC ends its session.
    EndAtGateway(usize, SessionId),
    EndAtPortal(usize, u64, SessionId),
    EndBackAtGateway(usize, u64, SessionId),
    /// A gateway's feed.
    FeedAtPortal(usize, u64),
    Line(usize, u64, Box<FeedLine>),
    Look(usize, u64),
    Report(usize, u64),
    /// Something is over.
    StartGateway(usize),
    StallOver(usize),
    CutOver(usize),
    PortalBack,
    WakeUp(usize),
}

#[derive(Debug, Clone, Copy)]
struct Asking {
    device: usize,
    attempt: u64,
    gateway: usize,
    key: Bytes32,
    life: u64,
    asked_in: u64,
}

/// What reaches a gateway's program.
enum Input {
    Time,
    Datagram(Route, Vec<u8>),
    Install(Box<Grant>, OffsetDateTime),
    Snapshot(Vec<Grant>, OffsetDateTime),
    End(SessionId, Generation, EndCode),
    Stop,
}

/// Runs `steps` in a new world and returns what happened.
pub fn run(seed: u64, steps: &[Step]) -> Tally {
    let mut world = World::new(seed);
    for (number, step) in steps.iter().enumerate() {
        world.tally.count(step.kind());
        world.note(|| format!("step {number}: {step:?}"));
        world.act(*step, number as u64);
    }
    world.act(Step::Calm, steps.len() as u64);
    world.tally
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = draw(seed, 1, 1);
        let start = begins_at(&mut random);
        let skewed = |random: &mut Random| {
            start + time::Duration::milliseconds(random.between(0, 20_000) as i64 - 10_000)
        };
        let origin = show(Duration::ZERO, start);
        let gateways = (0..GATEWAYS)
            .map(|number| {
                let secret = SecretKey::from_bytes([number as u8 + 1; 32]);
                let tls = certificates().gateways[number].clone();
                Gateway::new(secret, tls, skewed(&mut random))
            })
            .collect();
        let agents = (0..DEVICES)
            .map(|number| {
                let tls = certificates().devices.clone();
                Agent::new(number, tls, home(number, 0), skewed(&mut random))
            })
            .collect();
        let path = Path {
            loss: 0,
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            twice: 0,
            cut_until: Duration::ZERO,
            asleep_until: Duration::ZERO,
            serial: 0,
            moves: 0,
        };
        Self {
            seed,
            t: Duration::ZERO,
            start,
            origin,
            serial: 0,
            happenings: BTreeMap::new(),
            portal: Portal::new(certificates().sha256),
            portal_back_at: None,
            gateways,
            gateway_wake: [Duration::ZERO; GATEWAYS],
            agents,
            agent_wake: [Duration::MAX; DEVICES],
            paths: [path; DEVICES],
            model: Model::new(start, GATEWAYS),
            tally: Tally::default(),
            owners: HashMap::new(),
            slots: HashMap::new(),
            stood: HashSet::new(),
            recorded: VecDeque::new(),
            strangers: HashSet::new(),
            connections: 0,
            transfers: 0,
            log: VecDeque::new(),
        }
    }

    // What happens next.

    fn soon(&mut self, after: Duration, happening: Happening) {
        self.at(self.t + after, happening);
    }

    fn at(&mut self, at: Duration, happening: Happening) {
        self.serial += 1;
        self.happenings.insert((at, self.serial), happening);
    }

    /// Lets true time pass.
    fn run_to(&mut self, until: Duration) {
        let mut turns = 0;
        loop {
            let next = self.happenings.first_key_value().map(|(key, _)| key.0);
            let (gateway, gateway_at) = earliest(&self.gateway_wake);
            let (agent, agent_at) = earliest(&self.agent_wake);
            let next_at = next.unwrap_or(Duration::MAX).min(gateway_at).min(agent_at);
            if next_at > until {
                break;
            }
            turns = if next_at > self.t { 0 } else { turns + 1 };
            assert!(
                turns < TURNS_PER_INSTANT,
                "time stands still at {:?}; gateways {:?}, PCs {:?}",
                self.t,
                self.gateway_wake,
                self.agent_wake
            );
            self.t = self.t.max(next_at);
            if next.is_some_and(|at| at <= self.t) {
                if let Some((_, happening)) = self.happenings.pop_first() {
                    self.happen(happening);
                }
            } else if gateway_at <= self.t {
                self.at_gateway(gateway, Input::Time);
            } else {
                self.turn_agent(agent);
            }
        }
        self.t = self.t.max(until);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ToGateway(gateway, from, data) => {
                self.at_gateway(gateway, Input::Datagram(from, data));
            }
            Happening::ToAgent(device, gateway, data) => {
                let path = self.paths[device];
                if path.cut_until <= self.t && path.asleep_until <= self.t {
                    let now = self.agents[device].clocks.show(self.t);
                    self.agents[device].handle_datagram(gateway, &data, now);
                    self.turn_agent(device);
                }
            }
            Happening::Asked(asking) => self.asked(asking),
            Happening::AtPortal(asking) => self.asked_at_portal(asking),
            Happening::BackAtGateway(asking, answer) => self.answered_at_gateway(asking, answer),
            Happening::Answered(asking, answer) => {
                let path = self.paths[asking.device];
                if path.cut_until <= self.t && path.asleep_until <= self.t {
                    let agent = &mut self.agents[asking.device];
                    let now = agent.clocks.show(self.t);
                    let answer = answer.map(|grant| *grant);
                    agent.handle_answer(
                        asking.attempt,
                        asking.gateway,
                        answer,
                        now,
                        &mut self.tally,
                    );
                    self.turn_agent(asking.device);
                }
            }
            Happening::EndAtGateway(gateway, session) => {
                if self.gateways[gateway].runs(self.t) && self.gateways[gateway].is_linked(self.t) {
                    let life = self.gateways[gateway].life;
                    let delay = self.gateways[gateway].feed_delay;
                    self.soon(delay, Happening::EndAtPortal(gateway, life, session));
                }
            }
            Happening::EndAtPortal(gateway, life, session) => {
                if self.portal_is_up() && self.gateways[gateway].is_linked(self.t) {
                    let changes = self.portal.end(session, EndCode::Disconnected, self.wall());
                    self.portal_changed(&changes);
                    let delay = self.gateways[gateway].feed_delay;
                    self.soon(delay, Happening::EndBackAtGateway(gateway, life, session));
                }
            }
            Happening::EndBackAtGateway(gateway, life, session) => {
                if self.gateways[gateway].life == life {
                    self.at_gateway(
                        gateway,
                        Input::End(session, Generation::LAST, EndCode::Disconnected),
                    );
                }
            }
            Happening::FeedAtPortal(gateway, connection) => {
                let linked = self.gateways[gateway].is_linked(self.t);
                if linked && self.portal_is_up() {
                    let line = self.portal.follow(gateway, self.wall());
                    self.send_line(gateway, connection, line);
                    self.soon(LOOK, Happening::Look(gateway, connection));
                }
            }
            Happening::Look(gateway, connection) => {
                let current = self.gateways[gateway].connection() == Some(connection);
                if current && self.portal_is_up() {
                    self.look(gateway, true);
                    self.soon(LOOK, Happening::Look(gateway, connection));
                }
            }
            Happening::Line(gateway, connection, line) => self.line(gateway, connection, line),
            Happening::Report(gateway, life) => self.report(gateway, life),
            Happening::StartGateway(gateway) => {
                let program = &mut self.gateways[gateway];
                if program.core.is_none() {
                    let now = program.clocks.show(self.t);
                    program.start(now, self.t);
                    self.gateway_wake[gateway] = self.t;
                }
            }
            Happening::StallOver(gateway) => {
                self.touched(gateway);
                // What came meanwhile is looked at first, as the event loop does.
                self.gateway_wake[gateway] = self.t;
            }
            Happening::CutOver(gateway) => self.touched(gateway),
            Happening::PortalBack => {
                if self.portal_back_at.is_some_and(|at| at <= self.t) {
                    self.portal_back_at = None;
                }
            }
            Happening::WakeUp(device) => {
                if self.paths[device].asleep_until <= self.t {
                    self.agents[device].moved();
                    self.turn_agent(device);
                }
            }
        }
    }

    // The portal and the lines to it.

    fn wall(&self) -> OffsetDateTime {
        self.start + self.t
    }

    fn portal_is_up(&self) -> bool {
        self.portal_back_at.is_none()
    }

    fn portal_changed(&mut self, changes: &[Change]) {
        for change in changes {
            match *change {
                Change::Ended(session) => self.model.ended(session, self.t),
                Change::Shortened(session, deadline_ms) => {
                    self.model.shortened(session, deadline_ms, self.t);
                    self.tally.count("a session was shortened");
                }
            }
        }
        // Word goes round inside one portal at once; what another portal of the fund wrote
        // is found at the next look.
        self.serial += 1;
        if draw(self.seed, 55, self.serial).chance(500) {
            for gateway in 0..GATEWAYS {
                self.look(gateway, false);
            }
        }
    }

    fn look(&mut self, gateway: usize, ticked: bool) {
        if self.portal_is_up()
            && let Some(connection) = self.gateways[gateway].connection()
        {
            for line in self.portal.look(gateway, ticked, self.wall()) {
                self.send_line(gateway, connection, line);
            }
        }
    }

    fn send_line(&mut self, gateway: usize, connection: u64, line: FeedLine) {
        let program = &mut self.gateways[gateway];
        let arrival = (self.t + program.feed_delay).max(program.last_arrival);
        program.last_arrival = arrival;
        self.at(
            arrival,
            Happening::Line(gateway, connection, Box::new(line)),
        );
    }

    /// A line arrives, unless the connection is gone; while the line is cut it waits.
    fn line(&mut self, gateway: usize, connection: u64, line: Box<FeedLine>) {
        let program = &mut self.gateways[gateway];
        if program.core.is_none() || program.connection() != Some(connection) {
            return;
        }
        let blocked = [program.cut_until, program.stalled_until];
        if let Some(until) = blocked
            .into_iter()
            .flatten()
            .filter(|until| *until > self.t)
            .max()
        {
            let arrival = (until + program.feed_delay).max(program.last_arrival);
            program.last_arrival = arrival;
            return self.at(arrival, Happening::Line(gateway, connection, line));
        }
        if program.gives_up(self.t) {
            self.portal.hang_up(gateway);
            return self.touched(gateway);
        }
        match (*line, program.feed) {
            (
                FeedLine::Snapshot {
                    server_time_ms,
                    grants,
                },
                _,
            ) => {
                program.feed = Feed::Live(connection, self.t);
                let said_at = at(server_time_ms);
                self.tally.count("snapshots taken over");
                self.at_gateway(gateway, Input::Snapshot(grants, said_at));
                self.touched(gateway);
            }
            (_, Feed::Asked(..) | Feed::Lost(_)) => {}
            (
                FeedLine::Granted {
                    server_time_ms,
                    grant,
                },
                Feed::Live(..),
            ) => {
                program.feed = Feed::Live(connection, self.t);
                self.at_gateway(gateway, Input::Install(grant, at(server_time_ms)));
            }
            (
                FeedLine::Ended {
                    session,
                    through,
                    reason,
                },
                Feed::Live(..),
            ) => {
                program.feed = Feed::Live(connection, self.t);
                self.at_gateway(gateway, Input::End(session, through, reason));
            }
            (FeedLine::Heartbeat { .. }, Feed::Live(..)) => {
                program.feed = Feed::Live(connection, self.t);
            }
        }
    }

    /// Looks anew whether a gateway is in touch with the portal.
    fn touched(&mut self, gateway: usize) {
        let program = &self.gateways[gateway];
        let live = program.live_connection().is_some()
            && program.runs(self.t)
            && program.is_linked(self.t)
            && self.portal_is_up();
        let since = self.model.in_touch_since(gateway);
        let since = live.then(|| since.unwrap_or(self.t));
        self.model.in_touch(gateway, since);
    }

    fn report(&mut self, gateway: usize, life: u64) {
        let program = &mut self.gateways[gateway];
        if program.life != life || program.core.is_none() || program.reports.is_empty() {
            return;
        }
        if !program.is_linked(self.t) || self.portal_back_at.is_some() {
            return self.soon(RETRY, Happening::Report(gateway, life));
        }
        for ended in std::mem::take(&mut program.reports) {
            let changes = self.portal.end(ended.session, ended.reason, self.wall());
            self.portal_changed(&changes);
        }
    }

    // Asking for a session.

    fn asked(&mut self, mut asking: Asking) {
        let program = &self.gateways[asking.gateway];
        let connection = program.live_connection().filter(|_| program.runs(self.t));
        let Some(connection) = connection.filter(|_| program.is_linked(self.t)) else {
            return self.answer(asking, Err("unavailable"));
        };
        asking.life = program.life;
        asking.asked_in = connection;
        self.soon(program.feed_delay, Happening::AtPortal(asking));
    }

    fn asked_at_portal(&mut self, asking: Asking) {
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
        let answer = match self.portal.open(device, gateway, key, now) {
            Ok((grant, changes)) => {
                self.model.opened(grant.session, gateway, grant.deadline_ms);
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
        };
        // The answer and the feed are two connections: either may be first.
        let slower = [0, 5, 60, 600][self.serial as usize % 4];
        let back = self.gateways[gateway].feed_delay + Duration::from_millis(slower);
        self.soon(back, Happening::BackAtGateway(asking, answer));
    }

    fn answered_at_gateway(
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

    fn answer(&mut self, asking: Asking, answer: Result<Box<AgentGrant>, &'static str>) {
        let after = match answer {
            Ok(_) => self.paths[asking.device].delay,
            Err(_) => RETRY,
        };
        self.soon(after, Happening::Answered(asking, answer));
    }

    // A gateway.

    /// Gives a gateway's program something, and judges what passed. True if a grant was
    /// accepted.
    fn at_gateway(&mut self, gateway: usize, input: Input) -> bool {
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
        let traffic = |core: &mut gateway::event_loop::core::Core<crate::member::Member>| {
            let (tunnels, _) = core.relay();
            let of = |session: &SessionId| {
                let traffic = tunnels.traffic(PeerId(session.as_uuid().as_u128()));
                traffic.map_or(0, |traffic| traffic.bytes_in)
            };
            watched.iter().map(of).collect::<Vec<u64>>()
        };
        let mut accepted = false;
        let mut ended = Vec::new();
        match input {
            Input::Time => {}
            Input::Datagram(from, data) => {
                let before = traffic(&mut core);
                core.handle_datagram(from, &data, now);
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
                model.over(gateway, session);
                core.end(session, through, reason, now);
            }
            // Whom it ends it reports.
            Input::Stop => core.stop(now),
        }
        core.handle_timeout(now);
        model.tick(gateway, now);
        while let Some(report) = core.poll_report() {
            model.over(gateway, report.session);
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
    fn dial(&mut self, gateway: usize) {
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
    fn judge(
        &mut self,
        gateway: usize,
        core: &mut gateway::event_loop::core::Core<crate::member::Member>,
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
                        let longest = match self.stood.contains(&session) {
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
                self.send_to(outgoing.to, gateway, data.to_vec());
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

    /// A gateway's datagram on its way to whoever has that address now.
    fn send_to(&mut self, to: Route, gateway: usize, data: Vec<u8>) {
        let Some(device) = self.agents.iter().position(|agent| agent.route == to) else {
            return;
        };
        self.launch(device, 1, data, |data| {
            Happening::ToAgent(device, gateway, data)
        });
    }

    fn launch(
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

    // A PC.

    fn turn_agent(&mut self, device: usize) {
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

    // The steps.

    fn act(&mut self, step: Step, number: u64) {
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
            Step::Roam { device } => {
                self.paths[device].moves += 1;
                self.agents[device].route = home(device, self.paths[device].moves);
                self.agents[device].moved();
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

    fn sleep(&mut self, device: usize, s: u64) {
        let until = self.t + Duration::from_secs(s);
        self.paths[device].asleep_until = self.paths[device].asleep_until.max(until);
        self.agent_wake[device] = Duration::MAX;
        self.at(until, Happening::WakeUp(device));
    }

    fn kill_gateway(&mut self, gateway: usize, down_ms: u64) {
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
    fn run_to_the_edge(&mut self, device: usize, by_ns: i64, stall: bool, behind: bool) {
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

    /// One of the last datagrams that PCs sent; the highest number is the very last.
    fn recording(&self, pick: u64) -> Option<(usize, Route, Vec<u8>)> {
        let count = self.recorded.len() as u64;
        let at = match pick {
            u64::MAX => count.checked_sub(1)?,
            pick => pick.checked_rem(count)?,
        };
        self.recorded.get(at as usize).cloned()
    }

    /// Something that no agent sent.
    fn forge(&mut self, pick: u64, how: u8) {
        let mut random = Random::new(pick);
        let gateway = random.below(GATEWAYS as u64) as usize;
        let stranger = Route::from(SocketAddr::from((
            Ipv4Addr::new(203, 0, 113, random.below(200) as u8),
            1000 + random.below(50) as u16,
        )));
        let (mut data, mut gateway) = match self.recording(random.next()) {
            Some((to, _, data)) if how < 4 => (data, to),
            _ => {
                let length =
                    [0, 1, 3, 31, 32, 64, 92, 148, 149, 700, 2048, 2049][random.below(12) as usize];
                ((0..length).map(|_| random.next() as u8).collect(), gateway)
            }
        };
        match how {
            // A bit is changed, the rest is cut, something is added, another gateway is meant.
            0 if !data.is_empty() => {
                // The last 16 bytes of a handshake message are looked at only under load.
                let covered = match data[0] {
                    1 | 2 => data.len().saturating_sub(16).max(1),
                    _ => data.len(),
                };
                let at = random.below(covered as u64) as usize;
                data[at] ^= 1 << random.below(8);
            }
            1 => data.truncate(random.below(data.len() as u64 + 1) as usize),
            2 => data.push(0),
            3 => gateway = (gateway + 1) % GATEWAYS,
            // Looks like WireGuard from outside.
            4 if data.len() >= 32 => {
                data[..4].copy_from_slice(&[random.between(1, 4) as u8, 0, 0, 0])
            }
            _ => {}
        }
        // A message for the right gateway that was not changed is a replay, not a forgery;
        // and a bit that no key covers may be changed without harm.
        self.tally.count("forgeries");
        let whole = self
            .recorded
            .iter()
            .any(|(to, _, known)| *to == gateway && *known == data);
        if whole {
            return;
        }
        self.strangers.insert(stranger);
        self.at_gateway(gateway, Input::Datagram(stranger, data));
    }

    /// Repairs everything; then whatever may arrive must arrive, and whoever is in must be
    /// known to the portal.
    fn calm(&mut self) {
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
            if !live.is_empty() && self.t >= t + Duration::from_secs(60) {
                fail(
                    &self.log,
                    self.t,
                    &format!("gateway {gateway} was never told of {live:?}"),
                );
            }
        }
    }

    /// Whether nothing waits that could still arrive.
    fn is_at_rest(&self, device: usize) -> bool {
        let agent = &self.agents[device];
        let (Some(session), Some(gateway)) = (agent.session(), agent.gateway()) else {
            return true;
        };
        agent.waiting() == 0 || !self.model.holds(gateway, session)
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.log.len() >= 12 {
            self.log.pop_front();
        }
        let text = text();
        self.log.push_back(format!("{:?} {text}", self.t));
    }
}

/// A Friday morning, shortly before opening and closing, or a Sunday.
fn begins_at(random: &mut Random) -> OffsetDateTime {
    match random.below(10) {
        0..4 => datetime!(2026-03-13 10:00 +9),
        4..6 => datetime!(2026-03-13 18:20 +9),
        6 => datetime!(2026-03-13 19:50 +9),
        7 => datetime!(2026-03-13 19:58 +9),
        8 => datetime!(2026-03-13 07:59:30 +9),
        _ => datetime!(2026-03-15 11:00 +9),
    }
}

/// Whether this seed's world has a whole day before it.
pub fn begins_in_the_morning(seed: u64) -> bool {
    begins_at(&mut draw(seed, 1, 1)) == datetime!(2026-03-13 10:00 +9)
}

/// Stops the world.
fn fail(log: &VecDeque<String>, t: Duration, what: &str) -> ! {
    let log: Vec<&str> = log.iter().map(String::as_str).collect();
    panic!("{what}\n  at {t:?}, after\n    {}", log.join("\n    "));
}

fn earliest(wakes: &[Duration]) -> (usize, Duration) {
    let first = wakes
        .iter()
        .copied()
        .enumerate()
        .min_by_key(|(_, wake)| *wake);
    first.unwrap_or((0, Duration::MAX))
}

fn watch(watched: &mut Vec<SessionId>, session: SessionId) {
    if watched.len() >= WATCHED {
        watched.remove(0);
    }
    watched.push(session);
}

/// Where a PC is after so many moves: now on UDP, now behind a proxy.
fn home(device: usize, moves: u64) -> Route {
    let address = Ipv4Addr::new(198, 51, 100, device as u8 + 1 + 10 * (moves % 20) as u8);
    match moves % 4 {
        3 => Route::Tls {
            connection: moves * DEVICES as u64 + device as u64,
            remote: IpAddr::V4(address),
        },
        _ => Route::from(SocketAddr::from((address, 5000 + (moves % 1000) as u16))),
    }
}

/// From where somebody repeats what he heard.
fn eavesdropper() -> Route {
    Route::from(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 66), 666)))
}

fn at(ms: i64) -> OffsetDateTime {
    from_unix_ms(ms).expect("the portal's dates are dates")
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
