//! One world: a portal, gateways, PCs, the lines between them, and what happens in true time.
//!
//! Each machine is woken only by what reaches it or at its own `poll_timeout` (and its event
//! loop's tick): a deadline that is forgotten there shows. Before a machine's code runs, this
//! thread's clocks are set to that machine's. After each thing that happens to a gateway, the
//! packets that passed are put to the reference model.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use protocol::agent_api::{AgentGrant, EndCode};
use protocol::control::{FeedLine, Grant};
use protocol::{Bytes32, Generation, SessionId};
use time::OffsetDateTime;
use time::macros::datetime;
use tunnel::keys::SecretKey;
use tunnel::server::Route;
use vpn_agent::link::paths::WayId;

use crate::agent::Agent;
use crate::certificates::certificates;
use crate::clock::show;
use crate::gateway::Gateway;
use crate::model::Model;
use crate::portal::Portal;
use crate::random::{Random, draw, scramble};
use crate::steps::{DEVICES, GATEWAYS, Step, WAYS};
use crate::tally::Tally;

use stuck::Progress;

mod acts;
mod asking;
mod attacks;
mod calm;
mod gateways;
mod pcs;
mod portal_lines;
mod stuck;

/// How often the portal's feed looks by itself.
const LOOK: Duration = Duration::from_millis(400);
/// Datagrams that an eavesdropper keeps.
const RECORDED: usize = 64;
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
    progress: [Progress; DEVICES],
    /// TLS connections: whose they are, and with which life of which gateway.
    connections_tls: HashMap<u64, Tls>,
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
    /// Follows from everything that happened, and when.
    trace: u64,
}

/// What a world was.
#[derive(Debug)]
pub struct Outcome {
    pub tally: Tally,
    /// Follows from everything that happened, and when: two runs of one world agree in it.
    pub trace: u64,
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
    /// Which ways the PC's network lets pass, and whether it says so of the others.
    pass: [bool; WAYS],
    refused: bool,
    /// Counts datagrams, each with its own luck.
    serial: u64,
    moves: u64,
}

/// A TLS connection of a PC's agent.
#[derive(Debug, Clone, Copy)]
struct Tls {
    certificate: Bytes32,
    gateway: usize,
    life: u64,
}

/// What is on its way to happen.
enum Happening {
    ToGateway(usize, Route, Vec<u8>),
    /// To a PC, over a way of one of its tunnels.
    ToAgent(usize, u64, WayId, Vec<u8>),
    /// A PC makes a TLS connection to a gateway, or loses a way.
    TlsOpened(usize, u64, WayId, usize),
    WayFailed(usize, u64, WayId),
    /// A PC asks whether a gateway is alive, and hears.
    AliveAsked(usize, u64, usize),
    AliveAnswered(usize, u64, usize, bool),
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
    /// Somebody looks whether anything is stuck.
    Watch,
}

impl Happening {
    /// How long what arrives is, in bytes.
    fn size(&self) -> usize {
        match self {
            Self::ToGateway(_, _, data) | Self::ToAgent(_, _, _, data) => data.len(),
            _ => 0,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Asking {
    device: usize,
    attempt: u64,
    gateway: usize,
    key: Bytes32,
    /// The session that is to go on through this gateway, if it is not a new one.
    moves: Option<SessionId>,
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
pub fn run(seed: u64, steps: &[Step]) -> Outcome {
    let mut world = World::new(seed);
    for (number, step) in steps.iter().enumerate() {
        world.tally.count(step.kind());
        world.note(|| format!("step {number}: {step:?}"));
        world.act(*step, number as u64);
    }
    world.note(|| "the end: calm".to_owned());
    world.act(Step::Calm, steps.len() as u64);
    Outcome {
        tally: world.tally,
        trace: world.trace,
    }
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
            pass: [true; WAYS],
            refused: false,
            serial: 0,
            moves: 0,
        };
        let mut world = Self {
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
            progress: [Progress::default(); DEVICES],
            connections_tls: HashMap::new(),
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
            trace: 0,
        };
        world.soon(Duration::ZERO, Happening::Watch);
        world
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
                if let Some(((_, serial), happening)) = self.happenings.pop_first() {
                    self.trace(serial, happening.size());
                    self.happen(happening);
                }
            } else if gateway_at <= self.t {
                self.trace(gateway as u64, 1);
                self.at_gateway(gateway, Input::Time);
            } else {
                self.trace(agent as u64, 2);
                self.turn_agent(agent);
            }
        }
        self.t = self.t.max(until);
    }

    fn trace(&mut self, which: u64, what: usize) {
        let when = self.t.as_nanos() as u64;
        self.trace =
            scramble(self.trace ^ scramble(when ^ scramble(which ^ ((what as u64) << 48))));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ToGateway(gateway, from, data) => {
                self.at_gateway(gateway, Input::Datagram(from, data));
            }
            Happening::ToAgent(device, link, way, data) => {
                if self.is_reached(device) {
                    let now = self.agents[device].clocks.show(self.t);
                    self.agents[device].handle_datagram(link, way, &data, now);
                    self.turn_agent(device);
                }
            }
            Happening::TlsOpened(device, link, way, gateway) => {
                self.tls_opened(device, link, way, gateway);
            }
            Happening::WayFailed(device, link, way) => self.way_failed(device, link, way),
            Happening::AliveAsked(device, seek, gateway) => {
                self.alive_asked(device, seek, gateway);
            }
            Happening::AliveAnswered(device, seek, gateway, alive) => {
                // A question that got no answer ends all the same.
                if self.is_reached(device) || !alive {
                    let now = self.agents[device].clocks.show(self.t);
                    self.agents[device].handle_alive(seek, gateway, alive, now);
                    self.turn_agent(device);
                }
            }
            Happening::Asked(asking) => self.asked(asking),
            Happening::AtPortal(asking) => self.asked_at_portal(asking),
            Happening::BackAtGateway(asking, answer) => self.answered_at_gateway(asking, answer),
            Happening::Answered(asking, answer) => self.answered(asking, answer),
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
            Happening::Watch => self.watch(),
        }
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

/// Where a PC is after so many moves.
fn home(device: usize, moves: u64) -> IpAddr {
    IpAddr::from([198, 51, 100, device as u8 + 1 + 10 * (moves % 20) as u8])
}

/// From where somebody repeats what he heard.
fn eavesdropper() -> Route {
    Route::from(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 66), 666)))
}
