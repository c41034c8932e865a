//! Who may pass, and until when.
//!
//! Holds the grants that the portal gave and nothing else. It decides without a socket and
//! without a clock: every entry point takes `now`. The event loop calls `handle_*`, wakes
//! at [`Grants::poll_timeout`] and once a second besides (a wall clock that is set announces
//! itself to nobody), drains [`Grants::poll_event`] after each, and asks
//! [`Grants::is_admitted`] for every packet in both directions.
//!
//! It must never lengthen a session: not by a second grant, not by a clock that is set
//! back, not by forgetting that a session has ended. Nor may it let an older grant of a
//! device take the place of a newer one, in whatever order they arrive.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::Ipv6Addr;
use std::time::Instant;

use access::{Deadline, Moment, SESSION_LIMIT};
use protocol::agent_api::{EndCode, GATEWAY_INNER_ADDRESS};
use protocol::control::Grant;
use protocol::{Bytes32, DeviceId, Generation, SessionId};
use time::OffsetDateTime;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

/// How many sessions one gateway holds at a time.
pub const SESSIONS_LIMIT: usize = 10_000;

/// How many ended sessions are remembered; the oldest make room. If they are not older than
/// [`SESSION_LIMIT`], nobody new is let in instead: forgetting one early could let it come
/// alive again.
pub const ENDED_LIMIT: usize = 100_000;

/// What a session missing from a snapshot is told. The portal's own reason was lost with the
/// connection; this one sends the user back to 「接続」, where the portal says what holds.
const MISSING: EndCode = EndCode::GatewayStopped;

/// The grants in force.
#[derive(Debug, Default)]
pub struct Grants {
    live: HashMap<SessionId, Live>,
    by_device: HashMap<DeviceId, SessionId>,
    by_key: HashMap<Bytes32, SessionId>,
    by_address: HashMap<Ipv6Addr, SessionId>,
    /// Every live session, by its deadline on the monotonic clock.
    by_mono: BTreeSet<(Instant, SessionId)>,
    /// Every live session, by its deadline on the wall clock.
    by_wall: BTreeSet<(OffsetDateTime, SessionId)>,
    /// What is over, up to which grant. A session that went on elsewhere may come back with a
    /// newer one.
    ended: HashMap<SessionId, Generation>,
    /// The same as `ended`, oldest first, with when each may be forgotten.
    forget: VecDeque<(Instant, SessionId)>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
struct Live {
    grant: Grant,
    deadline: Deadline,
}

/// What became of the grants. Nothing here is a question: it has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A session was let in. Its `deadline_ms` is at most [`SESSION_LIMIT`] ahead.
    Installed(Box<Grant>),
    /// The portal brought a live session's deadline nearer; the agent should know.
    Shortened {
        /// The session.
        session: SessionId,
        /// The new deadline, Unix milliseconds by the portal's clock.
        deadline_ms: i64,
        /// Why it will end then.
        reason: EndCode,
    },
    /// A session is out. This grant never comes back.
    Ended {
        /// The session.
        session: SessionId,
        /// The grant that is over.
        generation: Generation,
        /// Why.
        reason: EndCode,
    },
}

/// Why a grant was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its deadline is over, by the portal's clock or by ours.
    #[error("the grant's deadline is over")]
    Past,
    /// The session has ended before, or went on with a newer grant elsewhere.
    #[error("the session has ended before")]
    Ended,
    /// The device has a newer grant.
    #[error("the device has a newer grant")]
    Superseded,
    /// The gateway holds as many sessions as it can.
    #[error("the gateway is full")]
    Full,
    /// The session is live with another key, address or device.
    #[error("the grant contradicts the live session's")]
    Changed,
    /// The key or the inner address belongs to another session, or to the gateway.
    #[error("the grant's key or inner address is taken")]
    Taken,
    /// The deadline is no instant on any calendar.
    #[error("the grant's deadline is no date")]
    NoDate,
}

impl Grants {
    /// Nobody may pass.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a session in, or brings the deadline of a live one nearer; it is never moved
    /// away. A deadline further than [`SESSION_LIMIT`] is cut to it: even a portal gone
    /// wrong cannot open the door for a day. An older grant of the same device is replaced,
    /// of the same session (it comes back from elsewhere) or of an earlier one.
    ///
    /// # Errors
    /// [`Refused`], and then nobody new can pass. A live session whose new deadline is
    /// already over has ended.
    pub fn handle_grant(
        &mut self,
        grant: Grant,
        server_time: OffsetDateTime,
        now: Moment,
    ) -> Result<(), Refused> {
        self.handle_timeout(now);
        let end = from_unix_ms(grant.deadline_ms).ok_or(Refused::NoDate)?;
        let deadline = Deadline::received(end, server_time, now);
        let over = self.ended.get(&grant.session);
        if over.is_some_and(|through| grant.generation <= *through) {
            return Err(Refused::Ended);
        }
        let mut new = Live {
            grant: cut(grant, server_time),
            deadline,
        };
        if let Some(live) = self.live.get(&new.grant.session) {
            match new.grant.generation.cmp(&live.grant.generation) {
                Ordering::Less => return Err(Refused::Superseded),
                Ordering::Equal => return self.shorten(&new, now),
                Ordering::Greater if live.grant.device != new.grant.device => {
                    return Err(Refused::Changed);
                }
                Ordering::Greater => new.keep_nearer_end_of(live),
            }
        }
        if !now.is_before(&new.deadline) {
            return Err(Refused::Past);
        }
        self.admit(new, now)
    }

    /// Replaces everything: whoever is missing from the snapshot is out at once. Returns
    /// the grants that were not accepted, so that the caller can tell the portal.
    pub fn handle_snapshot(
        &mut self,
        grants: Vec<Grant>,
        server_time: OffsetDateTime,
        now: Moment,
    ) -> Vec<(SessionId, Refused)> {
        self.handle_timeout(now);
        let listed: HashSet<SessionId> = grants.iter().map(|grant| grant.session).collect();
        let missing: Vec<(SessionId, Generation)> = self
            .live
            .values()
            .map(|live| (live.grant.session, live.grant.generation))
            .filter(|(session, _)| !listed.contains(session))
            .collect();
        for (session, through) in missing {
            self.end(session, through, MISSING, now);
        }
        let mut refused = Vec::new();
        for grant in grants {
            let session = grant.session;
            if let Err(why) = self.handle_grant(grant, server_time, now) {
                refused.push((session, why));
            }
        }
        refused
    }

    /// Ends the grants of a session up to `through` before their deadline. What is not known
    /// yet is remembered: the grant may still be on the way. A newer one goes on.
    pub fn handle_end(
        &mut self,
        session: SessionId,
        through: Generation,
        reason: EndCode,
        now: Moment,
    ) {
        self.handle_timeout(now);
        match self.grant(session) {
            Some(grant) if grant.generation > through => {}
            Some(_) => self.end(session, through, reason, now),
            None => self.remember_ended(session, through, now),
        }
    }

    /// The gateway stops: everybody is out.
    pub fn handle_stop(&mut self, now: Moment) {
        self.handle_timeout(now);
        let all: Vec<SessionId> = self.live.keys().copied().collect();
        for session in all {
            self.end(session, Generation::LAST, EndCode::GatewayStopped, now);
        }
    }

    /// Ends the sessions whose deadline is over on either clock.
    pub fn handle_timeout(&mut self, now: Moment) {
        while let Some(session) = self.overdue(now) {
            let reason = self.grant(session).map(|grant| grant.deadline_reason);
            let reason = reason.unwrap_or(EndCode::TimeLimit);
            self.end(session, Generation::LAST, reason, now);
        }
    }

    /// Returns when [`Grants::handle_timeout`] has something to do by the monotonic clock.
    /// The wall clock can be set at any time; look once a second for it.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.by_mono.first().map(|(mono, _)| *mono)
    }

    /// Returns what happened, oldest first. Drain it after each `handle_*`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Says whether a packet of `session` may pass at `now`. Asked per packet, so a late
    /// timer can delay the tidying up but never the refusal.
    pub fn is_admitted(&self, session: SessionId, now: Moment) -> bool {
        self.live
            .get(&session)
            .is_some_and(|live| now.is_before(&live.deadline))
    }

    /// The grant of a session that is not tidied up yet.
    pub fn grant(&self, session: SessionId) -> Option<&Grant> {
        self.live.get(&session).map(|live| &live.grant)
    }

    /// How many sessions are held.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether nobody is held.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    fn admit(&mut self, new: Live, now: Moment) -> Result<(), Refused> {
        let Live { grant, deadline } = &new;
        let session = grant.session;
        let older = self.by_device.get(&grant.device).copied();
        let before = older.and_then(|older| Some((older, self.grant(older)?.generation)));
        if before.is_some_and(|(_, before)| before >= grant.generation) {
            return Err(Refused::Superseded);
        }
        let free = |holder: Option<&SessionId>| holder.is_none_or(|held| Some(*held) == older);
        if grant.inner_address == GATEWAY_INNER_ADDRESS
            || !free(self.by_address.get(&grant.inner_address))
            || !free(self.by_key.get(&grant.wireguard_public_key))
        {
            return Err(Refused::Taken);
        }
        // Each live session needs a place among the ended ones later.
        if (older.is_none() && self.live.len() >= SESSIONS_LIMIT) || !self.has_room(now) {
            return Err(Refused::Full);
        }
        match before {
            Some((older, before)) if older == session => {
                self.end(older, before, EndCode::Moved, now);
            }
            Some((older, _)) => self.end(older, Generation::LAST, EndCode::Replaced, now),
            None => {}
        }
        self.by_device.insert(grant.device, session);
        self.by_key.insert(grant.wireguard_public_key, session);
        self.by_address.insert(grant.inner_address, session);
        self.by_mono.insert((deadline.mono(), session));
        self.by_wall.insert((deadline.wall(), session));
        self.events
            .push_back(Event::Installed(Box::new(grant.clone())));
        self.live.insert(session, new);
        Ok(())
    }

    fn shorten(&mut self, update: &Live, now: Moment) -> Result<(), Refused> {
        let Live {
            grant: update,
            deadline,
        } = update;
        let session = update.session;
        let Some(live) = self.live.get_mut(&session) else {
            return Err(Refused::Ended);
        };
        if !same_session(&live.grant, update) {
            return Err(Refused::Changed);
        }
        let old = live.deadline;
        live.deadline = old.earlier(*deadline);
        self.by_mono.remove(&(old.mono(), session));
        self.by_wall.remove(&(old.wall(), session));
        self.by_mono.insert((live.deadline.mono(), session));
        self.by_wall.insert((live.deadline.wall(), session));
        let nearer = update.deadline_ms < live.grant.deadline_ms;
        if nearer {
            live.grant.deadline_ms = update.deadline_ms;
            live.grant.deadline_reason = update.deadline_reason;
        }
        let reason = live.grant.deadline_reason;
        if !now.is_before(&live.deadline) {
            self.end(session, Generation::LAST, reason, now);
            return Err(Refused::Past);
        }
        if nearer {
            self.events.push_back(Event::Shortened {
                session,
                deadline_ms: update.deadline_ms,
                reason,
            });
        }
        Ok(())
    }

    /// Takes out of its index a session whose time is over: each entry is seen once.
    fn overdue(&mut self, now: Moment) -> Option<SessionId> {
        if self
            .by_mono
            .first()
            .is_some_and(|(mono, _)| *mono <= now.mono)
        {
            return self.by_mono.pop_first().map(|(_, session)| session);
        }
        if self
            .by_wall
            .first()
            .is_some_and(|(wall, _)| *wall <= now.wall)
        {
            return self.by_wall.pop_first().map(|(_, session)| session);
        }
        None
    }

    /// Ends a live session and remembers that its grants up to `through` are over.
    fn end(&mut self, session: SessionId, through: Generation, reason: EndCode, now: Moment) {
        let Some(Live { grant, deadline }) = self.live.remove(&session) else {
            return;
        };
        self.by_device.remove(&grant.device);
        self.by_key.remove(&grant.wireguard_public_key);
        self.by_address.remove(&grant.inner_address);
        self.by_mono.remove(&(deadline.mono(), session));
        self.by_wall.remove(&(deadline.wall(), session));
        self.remember_ended(session, through, now);
        self.events.push_back(Event::Ended {
            session,
            generation: grant.generation,
            reason,
        });
    }

    /// Keeps an ended id at least for as long as any grant of it could still run: all of them
    /// have the deadline that the session got when it was opened, or a nearer one.
    fn remember_ended(&mut self, session: SessionId, through: Generation, now: Moment) {
        if let Some(known) = self.ended.get_mut(&session) {
            *known = through.max(*known);
        } else if self.has_room(now) {
            self.ended.insert(session, through);
            self.forget.push_back((now.mono + SESSION_LIMIT, session));
        }
    }

    /// Whether one more id can be remembered, beside those of all live sessions.
    fn has_room(&mut self, now: Moment) -> bool {
        while self.live.len() + self.ended.len() >= ENDED_LIMIT {
            match self.forget.front() {
                Some((when, session)) if *when <= now.mono => {
                    self.ended.remove(session);
                    self.forget.pop_front();
                }
                Some(_) | None => return false,
            }
        }
        true
    }
}

impl Live {
    /// Keeps the end that the session had here already, if that is nearer.
    fn keep_nearer_end_of(&mut self, before: &Self) {
        self.deadline = self.deadline.earlier(before.deadline);
        if before.grant.deadline_ms < self.grant.deadline_ms {
            self.grant.deadline_ms = before.grant.deadline_ms;
            self.grant.deadline_reason = before.grant.deadline_reason;
        }
    }
}

/// Whether an update speaks of the grant that was let in.
fn same_session(live: &Grant, update: &Grant) -> bool {
    live.device == update.device
        && live.device_certificate_sha256 == update.device_certificate_sha256
        && live.wireguard_public_key == update.wireguard_public_key
        && live.preshared_key == update.preshared_key
        && live.inner_address == update.inner_address
        && live.proxy_key == update.proxy_key
}

/// Writes the limit into a grant that goes beyond it.
fn cut(mut grant: Grant, server_time: OffsetDateTime) -> Grant {
    let limit = unix_ms(server_time + SESSION_LIMIT);
    if grant.deadline_ms > limit {
        grant.deadline_ms = limit;
        grant.deadline_reason = EndCode::TimeLimit;
    }
    grant
}

/// Reads an instant as it travels: Unix milliseconds, UTC.
pub fn from_unix_ms(ms: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()
}

/// Writes an instant as it travels, cut to the millisecond before.
pub fn unix_ms(instant: OffsetDateTime) -> i64 {
    instant.unix_timestamp() * 1000 + i64::from(instant.millisecond())
}
