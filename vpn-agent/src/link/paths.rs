//! Which way the tunnel's datagrams go: UDP to one of the gateway's ports, or TLS.
//!
//! One tunnel, several ways. Ways are *begun* one after the other (the next one some hundred
//! milliseconds after the last, at once if that was refused); each gets a fresh handshake, and
//! the first that brings an authentic answer is *used*, the others are put away. UDP is
//! better than TLS: while TLS is used, UDP is tried again now and then. A way that falls
//! silent stays in use, for what it is worth, until another one answers.
//!
//! Pure: [`super::event_loop`] tells what happened and when, and does what
//! [`Paths::poll_action`] says. No sockets, no clock, no keys here. At most one way is in use
//! at any time, and as long as none stands the search goes on.
//!
//! The gateway's answers to the last two handshakes are understood (see
//! [`tunnel::client::ClientTunnel::initiate`]), so from round to round they are sent further
//! apart: a path with a round trip of seconds must not be stuck.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

mod order;

use order::UDP_AFTER_TLS;

/// The next way is begun this long after the last one without an answer.
const STAGGER: Duration = Duration::from_millis(250);

/// The longest pause between two handshakes while nothing answers.
const LONGEST_STAGGER: Duration = Duration::from_secs(2);

/// A way that takes longer to open is given up.
const OPENING_LIMIT: Duration = Duration::from_secs(6);

/// A TLS connection over which no answer came for this long is made anew.
const STALE_AFTER: Duration = Duration::from_secs(3);

/// A way that brought no answer for this long counts as dead, though it is tried on.
const DEAD_AFTER: Duration = Duration::from_secs(1);

/// How long an answer over UDP is waited for while TLS is in use.
const SCOUT_WAIT: Duration = Duration::from_secs(2);

/// When UDP is tried again while TLS is in use; doubles with each try.
const SCOUT_PAUSE: Duration = Duration::from_secs(60);

/// The longest pause between two such tries.
const LONGEST_SCOUT_PAUSE: Duration = Duration::from_secs(16 * 60);

/// UDP that held this long is trusted anew; one that is lost sooner is tried less often.
const TRUSTED_AFTER: Duration = Duration::from_secs(5 * 60);

/// A TLS way that is no longer used is read this long, for what is still on it.
const LINGER: Duration = Duration::from_secs(1);

/// A way to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Datagrams to an address of the gateway.
    Udp(SocketAddr),
    /// Datagrams over TLS, on the agent API's port.
    Tls(Via),
}

/// How TCP connections reach the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// Straight to it.
    Straight,
    /// Through an HTTP proxy.
    Proxy,
}

/// Names a way: its place in the list that [`Paths::new`] was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WayId(usize);

impl WayId {
    /// Names the way at a place in the list.
    pub fn at(index: usize) -> Self {
        Self(index)
    }

    /// The place in the list.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Bind a socket or make a connection; [`Paths::handle_opened`] or
    /// [`Paths::handle_failed`] follows.
    Open(WayId),
    /// Send a fresh handshake initiation over an open way.
    Greet(WayId),
    /// Send everything over this way from now on.
    Use(WayId),
    /// Put an opening or open way away. Nothing is to be told of it any more.
    Close(WayId),
}

/// How things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// A way is in use and answers.
    Standing(WayId),
    /// No way answers; they are being tried.
    Searching,
    /// All ways were tried, and each was refused or silent for over a second. They are tried
    /// on, but another gateway may be the better choice.
    Dead,
}

/// What is known of a way since the search last started over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Experience {
    /// Not tried: another one was faster.
    Untried,
    /// Tried without an answer.
    Silent,
    /// Refused, cut, or not to be opened.
    Refused,
    /// The gateway answered.
    Answered,
}

/// The ways with their states.
#[derive(Debug)]
pub struct Paths {
    ways: Vec<Entry>,
    used: Option<WayId>,
    /// Whether the tunnel's connection got anywhere over the way in use.
    carried: bool,
    hunt: Option<Hunt>,
    scout_at: Option<Instant>,
    scout_pause: Duration,
    /// When the way in use was taken.
    used_since: Instant,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Entry {
    way: Way,
    stage: Stage,
    /// When it was first begun in this hunt.
    begun: Option<Instant>,
    /// Whether it was refused, cut or given up in this hunt.
    failed: bool,
    /// Handshakes are answered over it and nothing else gets through, as on a path that
    /// drops long datagrams: the last choice, until the network changes or long after.
    barren: bool,
    /// Out of use, but read until then.
    close_at: Option<Instant>,
    experience: Experience,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Closed,
    Opening { since: Instant },
    Open { since: Instant },
}

/// What a hunt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// Any way that answers.
    Any,
    /// UDP, while TLS is in use.
    Udp,
}

#[derive(Debug)]
struct Hunt {
    goal: Goal,
    order: Vec<Step>,
    /// The next step of this round.
    next: usize,
    due: Instant,
    round: u32,
    /// The way that was begun last.
    latest: Option<WayId>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    way: WayId,
    /// How long after the step before.
    gap: Duration,
}

impl Way {
    /// Whether datagrams travel as such.
    pub fn is_udp(self) -> bool {
        match self {
            Self::Udp(_) => true,
            Self::Tls(_) => false,
        }
    }
}

impl Paths {
    /// Starts to search. `ways` are in order of preference, UDP first. A TLS way that is
    /// `remembered` to be the one that works here is tried first, UDP a little later.
    pub fn new(ways: Vec<Way>, remembered: Option<Via>, now: Instant) -> Self {
        let entry = |way| Entry {
            way,
            stage: Stage::Closed,
            begun: None,
            failed: false,
            barren: false,
            close_at: None,
            experience: Experience::Untried,
        };
        let mut paths = Self {
            ways: ways.into_iter().map(entry).collect(),
            used: None,
            carried: false,
            hunt: None,
            scout_at: None,
            scout_pause: SCOUT_PAUSE,
            used_since: now,
            actions: VecDeque::new(),
        };
        let order = paths.first_order(remembered);
        paths.begin_hunt(Goal::Any, order, now);
        paths
    }

    /// The way behind a name.
    pub fn way(&self, id: WayId) -> Way {
        self.ways[id.0].way
    }

    /// The way that datagrams are sent over.
    pub fn used(&self) -> Option<WayId> {
        self.used
    }

    /// All ways with what is known of them.
    pub fn experiences(&self) -> Vec<(Way, Experience)> {
        let ways = self.ways.iter();
        ways.map(|entry| (entry.way, entry.experience)).collect()
    }

    /// The way over which a handshake that the tunnel itself begins would do the most good.
    pub fn best(&self) -> Option<WayId> {
        let latest = self.hunt.as_ref().and_then(|hunt| hunt.latest);
        self.used
            .or(latest)
            .filter(|id| matches!(self.ways[id.0].stage, Stage::Open { .. }))
    }

    /// How things stand at `now`.
    pub fn outlook(&self, now: Instant) -> Outlook {
        match (self.used, self.is_searching()) {
            (Some(used), false) => Outlook::Standing(used),
            (Some(_) | None, _) if self.ways.iter().all(|entry| entry.is_dead(now)) => {
                Outlook::Dead
            }
            (Some(_) | None, _) => Outlook::Searching,
        }
    }

    /// Whether handshakes are sent from here: nothing stands.
    pub fn is_searching(&self) -> bool {
        self.hunt
            .as_ref()
            .is_some_and(|hunt| hunt.goal == Goal::Any)
    }

    /// A way is open.
    pub fn handle_opened(&mut self, id: WayId, now: Instant) {
        let entry = &mut self.ways[id.0];
        if !matches!(entry.stage, Stage::Opening { .. }) {
            return;
        }
        entry.stage = Stage::Open { since: now };
        if self.hunt.is_some() {
            self.actions.push_back(Action::Greet(id));
        } else {
            self.close(id);
        }
    }

    /// A way was refused, cut, or cannot be opened. It is closed already.
    pub fn handle_failed(&mut self, id: WayId, now: Instant) {
        let entry = &mut self.ways[id.0];
        entry.stage = Stage::Closed;
        entry.failed = true;
        entry.close_at = None;
        entry.experience = Experience::Refused;
        if self.used == Some(id) {
            self.used = None;
            if !self.is_searching() {
                self.look_again(id, now);
                self.ways[id.0].failed = true;
                return;
            }
        }
        if let Some(hunt) = &mut self.hunt
            && hunt.latest == Some(id)
            && hunt.next < hunt.order.len()
        {
            hunt.due = now;
        }
    }

    /// Something authentic came over a way: an answer to a handshake, or anything else, which
    /// the gateway sends only where it heard this PC.
    pub fn handle_heard(&mut self, id: WayId, now: Instant) {
        if !matches!(self.ways[id.0].stage, Stage::Open { .. }) {
            return;
        }
        self.ways[id.0].experience = Experience::Answered;
        let Some(hunt) = &self.hunt else {
            return;
        };
        let entry = &self.ways[id.0];
        let wanted = match hunt.goal {
            Goal::Any => !entry.barren || entry.begun.is_some(),
            Goal::Udp => entry.way.is_udp() && !entry.barren,
        };
        if wanted {
            self.settle_on(id, now);
        }
    }

    /// The gateway is under load and wants the handshake again, with its cookie.
    pub fn handle_cookie(&mut self, id: WayId) {
        if self.hunt.is_some() && matches!(self.ways[id.0].stage, Stage::Open { .. }) {
            self.actions.push_back(Action::Greet(id));
        }
    }

    /// The connection inside the tunnel got an answer.
    pub fn handle_progress(&mut self) {
        self.carried = true;
    }

    /// The gateway owes an answer and gives none.
    pub fn handle_silence(&mut self, now: Instant) {
        if let Some(used) = self.used
            && !self.is_searching()
        {
            self.ways[used.0].barren |= !self.carried;
            self.look_again(used, now);
        }
    }

    /// The PC moved to another network or woke up: everything starts over, UDP first unless
    /// TLS is `remembered` for this network.
    pub fn handle_network_changed(&mut self, remembered: Option<Via>, now: Instant) {
        for index in 0..self.ways.len() {
            self.close(WayId(index));
            self.ways[index].barren = false;
            self.ways[index].experience = Experience::Untried;
        }
        self.used = None;
        self.scout_pause = SCOUT_PAUSE;
        let order = self.first_order(remembered);
        self.begin_hunt(Goal::Any, order, now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        for index in 0..self.ways.len() {
            let entry = &self.ways[index];
            if entry.close_at.is_some_and(|at| at <= now) {
                self.close(WayId(index));
            } else if entry.opening_ends().is_some_and(|at| at <= now) {
                self.close(WayId(index));
                self.handle_failed(WayId(index), now);
            }
        }
        if self.scout_at.is_some_and(|at| at <= now) && self.hunt.is_none() {
            if self.scout_pause == LONGEST_SCOUT_PAUSE {
                self.ways.iter_mut().for_each(|entry| entry.barren = false);
            }
            let order = self.udp_steps(Duration::ZERO);
            self.begin_hunt(Goal::Udp, order, now);
        }
        while let Some(hunt) = &mut self.hunt
            && hunt.due <= now
        {
            let Some(step) = hunt.order.get(hunt.next).copied() else {
                self.end_round(now);
                continue;
            };
            hunt.next += 1;
            hunt.latest = Some(step.way);
            hunt.due = now + hunt.pause();
            self.begin(step.way, now);
        }
    }

    /// Returns when [`Self::handle_timeout`] has something to do or the outlook may change.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let entries = self.ways.iter().flat_map(|entry| {
            let dies = entry.begun.map(|begun| begun + DEAD_AFTER);
            let dies = dies.filter(|at| self.is_searching() && *at > now);
            [entry.close_at, entry.opening_ends(), dies]
        });
        let hunt = self.hunt.as_ref().map(|hunt| hunt.due);
        let scout = self.scout_at.filter(|_| self.hunt.is_none());
        entries.chain([hunt, scout]).flatten().min()
    }

    /// Whether [`Self::poll_action`] has something.
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Returns what is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn begin_hunt(&mut self, goal: Goal, order: Vec<Step>, now: Instant) {
        for entry in &mut self.ways {
            entry.begun = None;
            entry.failed = false;
        }
        self.scout_at = None;
        let due = now + order.first().map_or(Duration::ZERO, |step| step.gap);
        self.hunt = Some(Hunt {
            goal,
            order,
            next: 0,
            due,
            round: 0,
            latest: None,
        });
        self.handle_timeout(now);
    }

    /// All ways were begun: the search starts anew, the look for UDP ends.
    fn end_round(&mut self, now: Instant) {
        let Some(hunt) = &mut self.hunt else {
            return;
        };
        match hunt.goal {
            Goal::Any if hunt.order.is_empty() => hunt.due = now + LONGEST_STAGGER,
            Goal::Any => {
                hunt.round = hunt.round.saturating_add(1);
                hunt.next = 0;
                hunt.due = now;
            }
            Goal::Udp => {
                self.hunt = None;
                for index in 0..self.ways.len() {
                    if Some(WayId(index)) != self.used {
                        self.close(WayId(index));
                    }
                }
                self.scout_at = Some(now + self.scout_pause);
                self.scout_less();
            }
        }
    }

    /// Opens a way, or greets over it if it is open.
    fn begin(&mut self, id: WayId, now: Instant) {
        let entry = &mut self.ways[id.0];
        entry.begun.get_or_insert(now);
        entry.close_at = None;
        if entry.experience == Experience::Untried {
            entry.experience = Experience::Silent;
        }
        match entry.stage {
            Stage::Opening { .. } => {}
            Stage::Open { since } if entry.way.is_udp() || now < since + STALE_AFTER => {
                self.actions.push_back(Action::Greet(id));
            }
            Stage::Open { .. } if self.used == Some(id) && entry.begun == Some(now) => {
                self.actions.push_back(Action::Greet(id));
            }
            Stage::Open { .. } | Stage::Closed => {
                self.close(id);
                if self.used == Some(id) {
                    self.used = None;
                }
                self.ways[id.0].stage = Stage::Opening { since: now };
                self.actions.push_back(Action::Open(id));
            }
        }
    }

    fn settle_on(&mut self, id: WayId, now: Instant) {
        let before = self.used.replace(id);
        if before != Some(id) {
            self.carried = false;
            self.used_since = now;
            self.actions.push_back(Action::Use(id));
        }
        self.ways[id.0].close_at = None;
        let to_udp = self.ways[id.0].way.is_udp();
        for index in (0..self.ways.len()).filter(|index| *index != id.0) {
            let entry = &mut self.ways[index];
            if before == Some(WayId(index)) && !entry.way.is_udp() {
                entry.close_at = Some(now + LINGER);
            } else if to_udp || !entry.way.is_udp() {
                self.close(WayId(index));
            }
        }
        self.hunt = None;
        self.scout_at = None;
        if !to_udp {
            self.await_udp(now);
        } else if before.is_some_and(|before| !self.ways[before.0].way.is_udp()) {
            self.scout_less();
        }
    }

    fn scout_less(&mut self) {
        self.scout_pause = (self.scout_pause * 2).min(LONGEST_SCOUT_PAUSE);
    }

    /// TLS was faster: UDP gets the rest of its chance.
    fn await_udp(&mut self, now: Instant) {
        let mut order = self.udp_steps(UDP_AFTER_TLS);
        order.retain(|step| self.ways[step.way.0].begun.is_none());
        let due = match order.first() {
            Some(step) => now + step.gap,
            None => now + SCOUT_WAIT,
        };
        self.hunt = Some(Hunt {
            goal: Goal::Udp,
            order,
            next: 0,
            due,
            round: 0,
            latest: None,
        });
    }

    fn close(&mut self, id: WayId) {
        let entry = &mut self.ways[id.0];
        entry.close_at = None;
        if entry.stage != Stage::Closed {
            entry.stage = Stage::Closed;
            self.actions.push_back(Action::Close(id));
        }
    }
}

impl Entry {
    /// Whether this way was refused, or begun long ago, and brought nothing.
    fn is_dead(&self, now: Instant) -> bool {
        self.failed || self.begun.is_some_and(|begun| begun + DEAD_AFTER <= now)
    }

    fn opening_ends(&self) -> Option<Instant> {
        match self.stage {
            Stage::Opening { since } => Some(since + OPENING_LIMIT),
            Stage::Closed | Stage::Open { .. } => None,
        }
    }
}

impl Hunt {
    /// How long after the step that was just taken the next thing happens.
    fn pause(&self) -> Duration {
        let grown = (STAGGER * 2u32.saturating_pow(self.round)).min(LONGEST_STAGGER);
        match self.order.get(self.next) {
            Some(step) if self.round == 0 => step.gap,
            Some(step) => step.gap.max(grown),
            None if self.goal == Goal::Udp => SCOUT_WAIT,
            None => grown,
        }
    }
}

#[cfg(test)]
mod tests;
