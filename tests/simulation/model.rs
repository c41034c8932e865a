//! The reference: who may pass, said in the plainest way. To be read by an auditor.
//!
//! It knows none of the programs' code. It hears what the portal wrote down (in true time)
//! and what reached each gateway (with that gateway's clocks), keeps everything it ever
//! heard, and asks all of it for each packet. The rules, as the answers of [`Model::may_pass`]:
//!
//! 1. The portal opened the session, at this gateway, and the gateway was told.
//! 2. Every limit that was told since the gateway took the session in is ahead, on both of its
//!    clocks. The monotonic limit is counted from when the word came: a wall clock that is set
//!    lengthens nothing. A session that was out and comes back with a newer grant is counted
//!    anew; rule 4 bounds what that can add.
//! 3. Whoever was out once, by either clock or by any word, stays out.
//! 4. By the true clock the deadline that the portal gave first is never passed by more than
//!    the word's way and the clock's drift can explain.
//! 5. Each grant counts at one gateway; a session that went on through another one has left
//!    the grant before behind.
//! 6. Where the gateway has been in touch with the portal for two seconds, it has followed:
//!    whom the portal ended, and who left, is out, and who was shortened ends by the new
//!    deadline.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use access::Moment;
use protocol::agent_api::EndCode;
use protocol::control::{FEED_SILENCE_LIMIT_S, Grant};
use protocol::{DeviceId, Generation, SessionId};
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
    LeftBehind,
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
    /// Its grants: where each counts, and when it was left behind.
    grants: BTreeMap<Generation, (usize, Option<Duration>)>,
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
    /// Up to which grant a session is out.
    out: BTreeMap<SessionId, Generation>,
}

#[derive(Debug)]
struct Told {
    device: DeviceId,
    /// The newest grant.
    generation: Generation,
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
        let told = door.told.get(&session).ok_or(Breach::NeverTold)?;
        let (place, left) = opened
            .grants
            .get(&told.generation)
            .ok_or(Breach::NeverOpened)?;
        if *place != gateway {
            return Err(Breach::AnotherGateway);
        }
        if !told.is_ahead(now) {
            return Err(Breach::PastItsLimit);
        }
        if door.is_out(session) {
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
        if left.is_some_and(has_followed) {
            return Err(Breach::LeftBehind);
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
        let held = |session: &&SessionId| !door.is_out(**session);
        door.told.keys().filter(held).count()
    }

    /// Whether `gateway` holds this session.
    pub fn holds(&self, gateway: usize, session: SessionId) -> bool {
        let door = &self.doors[gateway];
        door.told.contains_key(&session) && !door.is_out(session)
    }

    /// The portal opened a session.
    pub fn opened(&mut self, grant: &Grant, gateway: usize) {
        let opened = Opened {
            grants: BTreeMap::from([(grant.generation, (gateway, None))]),
            first_deadline: self.true_time(grant.deadline_ms),
            shorter: Vec::new(),
            ended: None,
        };
        let (session, before) = (grant.session, self.opened.insert(grant.session, opened));
        assert!(before.is_none(), "the portal opened {session} twice");
    }

    /// The portal let a session go on through another gateway, or the same one anew.
    pub fn moved(&mut self, grant: &Grant, gateway: usize, t: Duration) {
        let (session, deadline) = (grant.session, self.true_time(grant.deadline_ms));
        let Some(opened) = self.opened.get_mut(&session) else {
            panic!("the portal moved {session}, which it never opened");
        };
        assert!(
            deadline <= opened.first_deadline,
            "moving lengthened {session}"
        );
        for (_, left) in opened.grants.values_mut() {
            left.get_or_insert(t);
        }
        opened.grants.insert(grant.generation, (gateway, None));
    }

    /// Whether a session ever went on through another gateway.
    pub fn has_moved(&self, session: SessionId) -> bool {
        let opened = self.opened.get(&session);
        opened.is_some_and(|opened| opened.grants.len() > 1)
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
        let over = door.out.get(&grant.session);
        if over.is_some_and(|through| grant.generation <= *through) {
            return;
        }
        let mut limits = Vec::from(limits);
        match door.told.get_mut(&grant.session) {
            Some(told) if told.generation > grant.generation => return,
            Some(told) if told.generation == grant.generation => {
                told.limits.extend(limits);
                return door.tick(now);
            }
            // The grant before is as good as over; its limits hold on.
            Some(told) if !is_out(&door.out, grant.session, told) => limits.extend(&told.limits),
            Some(_) | None => {}
        }
        let told = Told {
            device: grant.device,
            generation: grant.generation,
            limits,
        };
        if !told.is_ahead(now) {
            return;
        }
        let theirs = |told: &Told| told.device == grant.device;
        let others = door.told.iter();
        let others = others.filter(|(session, told)| theirs(told) && !door.is_out(**session));
        let others: Vec<_> = others.map(|(id, told)| (*id, told.generation)).collect();
        // Of a device's grants the newest rules.
        if others.iter().any(|(_, before)| *before > grant.generation) {
            return;
        }
        for (session, _) in others.iter().filter(|(id, _)| *id != grant.session) {
            door.out.insert(*session, Generation::LAST);
        }
        door.told.insert(grant.session, told);
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
        for (session, told) in &door.told {
            if !grants.iter().any(|grant| grant.session == *session)
                && !is_out(&door.out, *session, told)
            {
                door.out.insert(*session, told.generation);
            }
        }
        for grant in grants {
            self.told(gateway, grant, said_at, now);
        }
    }

    /// The gateway was told that a session's grants up to `through` are over.
    pub fn over(&mut self, gateway: usize, session: SessionId, through: Generation) {
        let out = &mut self.doors[gateway].out;
        let known = out.entry(session).or_insert(through);
        *known = (*known).max(through);
    }

    /// The gateway said itself that a grant is over.
    pub fn over_here(
        &mut self,
        gateway: usize,
        session: SessionId,
        generation: Generation,
        reason: EndCode,
    ) {
        let through = match reason {
            EndCode::Moved | EndCode::GatewayStopped | EndCode::Revoked => generation,
            EndCode::TimeLimit
            | EndCode::ClosingTime
            | EndCode::Replaced
            | EndCode::Disconnected => Generation::LAST,
        };
        self.over(gateway, session, through);
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
    fn is_out(&self, session: SessionId) -> bool {
        let told = self.told.get(&session);
        told.is_some_and(|told| is_out(&self.out, session, told))
    }

    fn tick(&mut self, now: Moment) {
        for (session, told) in &self.told {
            if !told.is_ahead(now) && !is_out(&self.out, *session, told) {
                self.out.insert(*session, Generation::LAST);
            }
        }
    }
}

fn is_out(out: &BTreeMap<SessionId, Generation>, session: SessionId, told: &Told) -> bool {
    out.get(&session)
        .is_some_and(|through| told.generation <= *through)
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
