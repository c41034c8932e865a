//! The reference: who may pass, said in the plainest way. To be read by an auditor.
//!
//! It knows none of the programs' code. It hears what the portal wrote down (in true time)
//! and what reached each gateway (with that gateway's clocks), keeps everything it ever
//! heard, and asks all of it for each packet. The rules, as the answers of [`Model::may_pass`]:
//!
//! 1. The portal opened the session, at this gateway, and the gateway was told.
//! 2. Every limit that was ever told is ahead, on both clocks of the gateway. The monotonic
//!    limit is counted from when the word came: a wall clock that is set lengthens nothing.
//! 3. Whoever was out once, by either clock or by any word, stays out.
//! 4. By the true clock the deadline that the portal gave first is never passed by more than
//!    the word's way and the clock's drift can explain.
//! 5. Where the gateway has been in touch with the portal for two seconds, it has followed:
//!    whom the portal ended is out, and who was shortened ends by the new deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use access::Moment;
use protocol::control::{FEED_SILENCE_LIMIT_S, Grant};
use protocol::{DeviceId, SessionId};
use time::OffsetDateTime;

use crate::steps::{DRIFT_LIMIT_PPM, FEED_DELAY_LIMIT_MS};

/// How soon a gateway that is in touch with the portal follows its word.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(2);

/// The longest session.
const LIMIT: Duration = Duration::from_secs(90 * 60);

/// A packet that must not have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    NeverOpened,
    AnotherGateway,
    NeverTold,
    PastItsLimit,
    WasOut,
    PastTheTrueDeadline,
    EndedByThePortal,
    PastTheShorterDeadline,
}

/// Everything that was ever said.
#[derive(Debug)]
pub struct Model {
    /// True time zero on the wall.
    start: OffsetDateTime,
    opened: BTreeMap<SessionId, Opened>,
    doors: Vec<Door>,
}

/// What the portal wrote down of a session, in true time.
#[derive(Debug)]
struct Opened {
    gateway: usize,
    first_deadline: Duration,
    /// Shorter deadlines, each with when it was entered.
    shorter: Vec<(Duration, Duration)>,
    ended: Option<Duration>,
}

/// What a gateway was told since it started.
#[derive(Debug, Default)]
struct Door {
    /// Since when it has been in touch with the portal without a break.
    in_touch: Option<Duration>,
    told: BTreeMap<SessionId, Told>,
    out: BTreeSet<SessionId>,
}

#[derive(Debug)]
struct Told {
    device: DeviceId,
    /// All limits, on both clocks.
    limits: Vec<(OffsetDateTime, Instant)>,
}

impl Model {
    pub fn new(start: OffsetDateTime, gateways: usize) -> Self {
        Self {
            start,
            opened: BTreeMap::new(),
            doors: (0..gateways).map(|_| Door::default()).collect(),
        }
    }

    /// Says whether a packet of `session` may pass `gateway`, whose clocks show `now`, at
    /// true time `t`.
    pub fn may_pass(
        &self,
        gateway: usize,
        session: SessionId,
        now: Moment,
        t: Duration,
    ) -> Result<(), Breach> {
        let opened = self.opened.get(&session).ok_or(Breach::NeverOpened)?;
        let door = &self.doors[gateway];
        if opened.gateway != gateway {
            return Err(Breach::AnotherGateway);
        }
        let told = door.told.get(&session).ok_or(Breach::NeverTold)?;
        if !told.is_ahead(now) {
            return Err(Breach::PastItsLimit);
        }
        if door.out.contains(&session) {
            return Err(Breach::WasOut);
        }
        if t >= opened.first_deadline + slack() {
            return Err(Breach::PastTheTrueDeadline);
        }
        let has_followed = |said: Duration| {
            let since = door.in_touch.map(|since| since.max(said) + FOLLOWS_WITHIN);
            since.is_some_and(|since| t >= since)
        };
        if opened.ended.is_some_and(has_followed) {
            return Err(Breach::EndedByThePortal);
        }
        for (entered, deadline) in &opened.shorter {
            if has_followed(*entered) && t >= *deadline + slack() {
                return Err(Breach::PastTheShorterDeadline);
            }
        }
        Ok(())
    }

    /// How many sessions `gateway` holds: neither more nor fewer.
    pub fn held(&self, gateway: usize) -> usize {
        let door = &self.doors[gateway];
        let held = |session: &&SessionId| !door.out.contains(session);
        door.told.keys().filter(held).count()
    }

    /// Whether `gateway` holds this session.
    pub fn holds(&self, gateway: usize, session: SessionId) -> bool {
        let door = &self.doors[gateway];
        door.told.contains_key(&session) && !door.out.contains(&session)
    }

    /// The portal opened a session.
    pub fn opened(&mut self, session: SessionId, gateway: usize, deadline_ms: i64) {
        let opened = Opened {
            gateway,
            first_deadline: self.true_time(deadline_ms),
            shorter: Vec::new(),
            ended: None,
        };
        let before = self.opened.insert(session, opened);
        assert!(before.is_none(), "the portal opened {session} twice");
    }

    /// The portal entered a nearer deadline.
    pub fn shortened(&mut self, session: SessionId, deadline_ms: i64, t: Duration) {
        let deadline = self.true_time(deadline_ms);
        if let Some(opened) = self.opened.get_mut(&session) {
            opened.shorter.push((t, deadline));
        }
    }

    /// The portal ended a session.
    pub fn ended(&mut self, session: SessionId, t: Duration) {
        if let Some(opened) = self.opened.get_mut(&session) {
            opened.ended.get_or_insert(t);
        }
    }

    /// When a session ends by the gateway's monotonic clock, as it was told.
    pub fn limit(&self, gateway: usize, session: SessionId) -> Option<Instant> {
        let told = self.doors[gateway].told.get(&session)?;
        told.limits.iter().map(|(_, mono)| *mono).min()
    }

    /// Whether the agent may still call a session alive.
    pub fn may_be_shown(&self, session: SessionId, t: Duration) -> bool {
        let opened = self.opened.get(&session);
        opened.is_some_and(|opened| t < opened.first_deadline + slack())
    }

    /// Since when the gateway has been in touch with the portal.
    pub fn in_touch_since(&self, gateway: usize) -> Option<Duration> {
        self.doors[gateway].in_touch
    }

    /// The gateway is in touch with the portal from now on, or not any more.
    pub fn in_touch(&mut self, gateway: usize, since: Option<Duration>) {
        self.doors[gateway].in_touch = since;
    }

    /// The gateway forgot everything.
    pub fn restarted(&mut self, gateway: usize) {
        self.doors[gateway] = Door::default();
    }

    /// A grant reached the gateway.
    pub fn told(&mut self, gateway: usize, grant: &Grant, said_at: OffsetDateTime, now: Moment) {
        self.doors[gateway].tick(now);
        let door = &mut self.doors[gateway];
        let deadline = wall_of(grant.deadline_ms);
        let left = Duration::try_from(deadline - said_at).unwrap_or_default();
        let limits = [
            (deadline, now.mono + left.min(LIMIT)),
            (now.wall + LIMIT, now.mono + LIMIT),
        ];
        if door.out.contains(&grant.session) {
            return;
        }
        if !door.told.contains_key(&grant.session) {
            let told = Told {
                device: grant.device,
                limits: limits.into(),
            };
            if !told.is_ahead(now) {
                return;
            }
            for (session, older) in &door.told {
                if older.device == grant.device {
                    door.out.insert(*session);
                }
            }
            door.told.insert(grant.session, told);
        } else if let Some(told) = door.told.get_mut(&grant.session) {
            told.limits.extend(limits);
        }
        door.tick(now);
    }

    /// A whole list of grants reached the gateway: nobody else is in.
    pub fn told_all(
        &mut self,
        gateway: usize,
        grants: &[Grant],
        said_at: OffsetDateTime,
        now: Moment,
    ) {
        let door = &mut self.doors[gateway];
        door.tick(now);
        for session in door.told.keys() {
            if !grants.iter().any(|grant| grant.session == *session) {
                door.out.insert(*session);
            }
        }
        for grant in grants {
            self.told(gateway, grant, said_at, now);
        }
    }

    /// The gateway was told, or said itself, that a session is over.
    pub fn over(&mut self, gateway: usize, session: SessionId) {
        self.doors[gateway].out.insert(session);
    }

    /// Time passed at the gateway.
    pub fn tick(&mut self, gateway: usize, now: Moment) {
        self.doors[gateway].tick(now);
    }

    fn true_time(&self, ms: i64) -> Duration {
        Duration::try_from(wall_of(ms) - self.start).unwrap_or_default()
    }
}

impl Door {
    fn tick(&mut self, now: Moment) {
        for (session, told) in &self.told {
            if !told.is_ahead(now) {
                self.out.insert(*session);
            }
        }
    }
}

impl Told {
    fn is_ahead(&self, now: Moment) -> bool {
        let ahead = |(wall, mono): &(_, _)| now.wall < *wall && now.mono < *mono;
        self.limits.iter().all(ahead)
    }
}

/// What the word's way and a clock that runs slow add: a gateway hangs up on a portal that
/// was silent for longer, so no word is older when it is taken.
fn slack() -> Duration {
    let drift = LIMIT.as_nanos() as u64 / 1_000_000 * DRIFT_LIMIT_PPM as u64;
    let way = FEED_SILENCE_LIMIT_S * 1000 + 2 * FEED_DELAY_LIMIT_MS;
    Duration::from_millis(way) + Duration::from_nanos(drift)
}

fn wall_of(ms: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(ms)
}
