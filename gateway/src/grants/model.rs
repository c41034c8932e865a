//! Grants against a reference model, through generated orders of everything that happens to
//! a gateway: grants, packets, silence, clocks that are set or run wrong, calendar edits,
//! revocations, snapshots, restarts.
//!
//! The model is written for reading, not for speed: it keeps every permission it was given
//! and asks them all. The harness wakes the core only at [`Grants::poll_timeout`] and at the
//! caller's one-second tick, so that a forgotten deadline makes a test fail.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use access::{Moment, SESSION_LIMIT};
use proptest::prelude::*;
use protocol::agent_api::EndCode;
use protocol::control::Grant;
use protocol::{Bytes32, DeviceId, Generation, SessionId};
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

use super::{Event, Grants, from_unix_ms, unix_ms};

const DEVICES: u8 = 4;
const STEPS: usize = 400;
const CASES: u32 = 400;

/// One thing that happens. Devices are numbered; `pick` chooses among past sessions.
#[derive(Debug, Clone)]
enum Step {
    /// The portal opens a session for a device, for so many seconds.
    Grant { device: u8, left_s: i64 },
    /// A session goes on with its device's next grant: it was elsewhere, or comes back.
    Move { pick: u8 },
    /// The portal says that a grant went on elsewhere, now or a while ago.
    Leave { pick: u8 },
    /// A grant that was sent before arrives once more.
    Repeat { pick: u8 },
    /// Staff edit the calendar: a live session ends sooner (or, wrongly, later).
    Edit { pick: u8, left_s: i64 },
    /// Staff revoke.
    Revoke { pick: u8 },
    /// A packet (data or a rekey) at this very moment, for every session there ever was.
    Packet,
    /// Time passes without a packet.
    Idle { ms: u64 },
    /// Time passes to just before, or exactly to, the next deadline.
    UntilDeadline { short_by_ns: u64 },
    /// Somebody sets the gateway's wall clock.
    SetWall { by_s: i64 },
    /// The gateway's monotonic clock runs fast or slow from here on, in parts per thousand.
    Drift { permille: i64 },
    /// The feed reconnects; `lost` loses that session from the portal's list.
    Snapshot { lost: u8 },
    /// The gateway restarts, then gets a snapshot.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..DEVICES, -60i64..8000).prop_map(|(device, left_s)| Step::Grant { device, left_s }),
        2 => any::<u8>().prop_map(|pick| Step::Move { pick }),
        1 => any::<u8>().prop_map(|pick| Step::Leave { pick }),
        2 => any::<u8>().prop_map(|pick| Step::Repeat { pick }),
        2 => (any::<u8>(), -60i64..8000).prop_map(|(pick, left_s)| Step::Edit { pick, left_s }),
        1 => any::<u8>().prop_map(|pick| Step::Revoke { pick }),
        6 => Just(Step::Packet),
        4 => (0u64..2_000_000).prop_map(|ms| Step::Idle { ms }),
        3 => (0u64..2).prop_map(|short_by_ns| Step::UntilDeadline { short_by_ns }),
        1 => (-8000i64..8000).prop_map(|by_s| Step::SetWall { by_s }),
        1 => (-100i64..100).prop_map(|permille| Step::Drift { permille }),
        1 => any::<u8>().prop_map(|lost| Step::Snapshot { lost }),
        1 => Just(Step::Restart),
    ]
}

/// The reference: what each session was ever allowed, and who is out for good.
#[derive(Default)]
struct Model {
    /// For each session let in: its latest permission.
    given: BTreeMap<SessionId, Permission>,
    /// What is out, up to which grant.
    out: BTreeMap<SessionId, Generation>,
}

/// A grant with all limits set since, on both clocks.
struct Permission {
    device: DeviceId,
    generation: Generation,
    limits: Vec<(OffsetDateTime, Instant)>,
}

impl Model {
    fn is_out(&self, session: SessionId, generation: Generation) -> bool {
        self.out
            .get(&session)
            .is_some_and(|through| generation <= *through)
    }

    fn put_out(&mut self, session: SessionId, through: Generation) {
        let known = self.out.entry(session).or_insert(through);
        *known = through.max(*known);
    }

    /// The permission that holds, if one does.
    fn live(&self, session: SessionId, now: Moment) -> Option<&Permission> {
        self.given.get(&session).filter(|given| {
            let ahead = |(wall, mono): &(_, _)| now.wall < *wall && now.mono < *mono;
            !self.is_out(session, given.generation) && given.limits.iter().all(ahead)
        })
    }

    fn admits(&self, session: SessionId, now: Moment) -> bool {
        self.live(session, now).is_some()
    }

    /// Whose time is over is out for good.
    fn tick(&mut self, now: Moment) {
        let over: Vec<_> = self
            .given
            .iter()
            .filter(|(session, given)| {
                !self.is_out(**session, given.generation) && !self.admits(**session, now)
            })
            .map(|(session, _)| *session)
            .collect();
        for session in over {
            self.put_out(session, Generation::LAST);
        }
    }

    fn grant(&mut self, grant: &Grant, server_time: OffsetDateTime, now: Moment) {
        self.tick(now);
        let (session, generation) = (grant.session, grant.generation);
        if self.is_out(session, generation) {
            return;
        }
        let end = from_unix_ms(grant.deadline_ms).unwrap();
        let left = Duration::try_from(end - server_time).unwrap_or_default();
        let held = self.live(session, now).map(|given| given.generation);
        if held != Some(generation) {
            let devices_newest = self
                .given
                .iter()
                .filter(|(other, given)| given.device == grant.device && self.admits(**other, now))
                .map(|(_, given)| given.generation)
                .max();
            if devices_newest > Some(generation) || left.is_zero() || end <= now.wall {
                return;
            }
            let others: Vec<_> = self
                .given
                .iter()
                .filter(|(other, given)| given.device == grant.device && **other != session)
                .map(|(other, _)| *other)
                .filter(|other| self.admits(*other, now))
                .collect();
            for other in others {
                self.put_out(other, Generation::LAST);
            }
        }
        let before = self.given.remove(&session);
        let mut limits = match (before, held) {
            (Some(before), Some(_)) => before.limits,
            (Some(_) | None, _) => Vec::new(),
        };
        if let Some(held) = held.filter(|held| *held < generation) {
            self.put_out(session, held);
        }
        limits.push((end, now.mono + left));
        limits.push((now.wall + SESSION_LIMIT, now.mono + SESSION_LIMIT));
        let given = Permission {
            device: grant.device,
            generation,
            limits,
        };
        self.given.insert(session, given);
        self.tick(now);
    }

    fn snapshot(&mut self, grants: &[Grant], server_time: OffsetDateTime, now: Moment) {
        self.tick(now);
        let missing: Vec<_> = self
            .given
            .iter()
            .filter(|(session, _)| self.admits(**session, now))
            .filter(|(session, _)| !grants.iter().any(|grant| grant.session == **session))
            .map(|(session, given)| (*session, given.generation))
            .collect();
        for (session, through) in missing {
            self.put_out(session, through);
        }
        for grant in grants {
            self.grant(grant, server_time, now);
        }
    }
}

/// A portal with a true clock, a gateway with clocks of its own, and the model.
struct World {
    grants: Grants,
    model: Model,
    now: Moment,
    /// The portal's clock, which is right.
    truth: OffsetDateTime,
    drift_permille: i64,
    /// Whether the gateway's monotonic clock was ever slower than the truth.
    ran_slow: bool,
    /// All grants ever made, as the portal has them now.
    made: Vec<Grant>,
    live: BTreeSet<SessionId>,
}

impl World {
    fn new() -> Self {
        let truth = datetime!(2026-03-13 10:00 +9);
        Self {
            grants: Grants::new(),
            model: Model::default(),
            now: Moment {
                wall: truth,
                mono: crate::clock::now().mono,
            },
            truth,
            drift_permille: 0,
            ran_slow: false,
            made: Vec::new(),
            live: BTreeSet::new(),
        }
    }

    fn act(&mut self, step: &Step) {
        match *step {
            Step::Grant { device, left_s } => {
                let grant = self.new_grant(device, left_s);
                self.made.push(grant.clone());
                self.deliver(grant);
            }
            Step::Move { pick } => {
                if let Some(moved) = self.moved(pick) {
                    self.made.push(moved.clone());
                    self.deliver(moved);
                }
            }
            Step::Leave { pick } => {
                if let Some(grant) = self.pick(pick) {
                    let (session, through) = (grant.session, grant.generation);
                    self.end(session, through, EndCode::Moved);
                }
            }
            Step::Repeat { pick } => {
                if let Some(grant) = self.pick(pick).cloned() {
                    self.deliver(grant);
                }
            }
            Step::Edit { pick, left_s } => {
                let end = unix_ms(self.truth + time::Duration::seconds(left_s));
                if let Some(grant) = self.pick(pick) {
                    grant.deadline_ms = end;
                    let grant = grant.clone();
                    self.deliver(grant);
                }
            }
            Step::Revoke { pick } => {
                if let Some(session) = self.pick(pick).map(|grant| grant.session) {
                    self.end(session, Generation::LAST, EndCode::Revoked);
                }
            }
            Step::Packet => {}
            Step::Idle { ms } => self.pass(Duration::from_millis(ms)),
            Step::UntilDeadline { short_by_ns } => {
                if let Some(next) = self.grants.poll_timeout() {
                    let left = next.saturating_duration_since(self.now.mono);
                    let short = Duration::from_nanos(short_by_ns);
                    self.set_mono(self.now.mono + left.saturating_sub(short));
                }
            }
            Step::SetWall { by_s } => self.now.wall += time::Duration::seconds(by_s),
            Step::Drift { permille } => {
                self.drift_permille = permille;
                self.ran_slow |= permille < 0;
            }
            Step::Snapshot { lost } => {
                let lost = self.pick(lost).map(|grant| grant.session);
                self.snapshot(lost);
            }
            Step::Restart => {
                self.grants = Grants::new();
                self.model = Model::default();
                self.live.clear();
                self.snapshot(None);
            }
        }
        self.drain();
        self.compare();
    }

    fn new_grant(&self, device: u8, left_s: i64) -> Grant {
        let serial = self.made.len() as u128;
        let mut key = [0; 32];
        key[..16].copy_from_slice(&serial.to_le_bytes());
        Grant {
            session: SessionId::from_uuid(Uuid::from_u128(serial)),
            generation: self.next_generation(),
            device: DeviceId::from_uuid(Uuid::from_u128(device.into())),
            device_certificate_sha256: Bytes32([device; 32]),
            wireguard_public_key: Bytes32(key),
            preshared_key: Bytes32(key),
            inner_address: Ipv6Addr::from((0xfd72_u128 << 112) + 0x1000 + serial),
            deadline_ms: unix_ms(self.truth + time::Duration::seconds(left_s)),
            deadline_reason: EndCode::TimeLimit,
            proxy_key: Bytes32(key),
        }
    }

    /// Numbered through all devices, which is stricter than the portal's own count.
    fn next_generation(&self) -> Generation {
        Generation::new(1 + u32::try_from(self.made.len()).unwrap())
    }

    /// The next grant for a session that was granted before.
    fn moved(&mut self, pick: u8) -> Option<Grant> {
        let before = self.pick(pick)?.clone();
        let fresh = self.new_grant(0, 0);
        Some(Grant {
            generation: fresh.generation,
            wireguard_public_key: fresh.wireguard_public_key,
            inner_address: fresh.inner_address,
            ..before
        })
    }

    fn end(&mut self, session: SessionId, through: Generation, reason: EndCode) {
        self.grants.handle_end(session, through, reason, self.now);
        self.model.tick(self.now);
        self.model.put_out(session, through);
    }

    /// The most recent sessions are the interesting ones.
    fn pick(&mut self, pick: u8) -> Option<&mut Grant> {
        let recent = self.made.len().min(8);
        let back = 1 + usize::from(pick) % recent.max(1);
        let at = self.made.len().checked_sub(back)?;
        self.made.get_mut(at)
    }

    fn deliver(&mut self, grant: Grant) {
        self.model.grant(&grant, self.truth, self.now);
        // What was refused shows in `compare`.
        let _ = self.grants.handle_grant(grant, self.truth, self.now);
    }

    fn snapshot(&mut self, lost: Option<SessionId>) {
        let mut latest = BTreeMap::new();
        for grant in &self.made {
            latest.insert(grant.device, grant.clone());
        }
        let list: Vec<Grant> = latest
            .into_values()
            .filter(|grant| Some(grant.session) != lost)
            .filter(|grant| grant.deadline_ms > unix_ms(self.truth))
            .collect();
        self.model.snapshot(&list, self.truth, self.now);
        self.grants.handle_snapshot(list, self.truth, self.now);
    }

    /// Lets time pass as the event loop would see it: asleep until `poll_timeout`.
    fn pass(&mut self, by: Duration) {
        let until = self.now.mono + by;
        while let Some(wake) = self.grants.poll_timeout().filter(|wake| *wake <= until) {
            assert!(wake >= self.now.mono, "a wake-up in the past never stops");
            self.set_mono(wake);
            self.grants.handle_timeout(self.now);
            self.model.tick(self.now);
            self.drain();
            for session in &self.live {
                assert!(
                    self.model.admits(*session, self.now),
                    "{session} was forgotten"
                );
            }
        }
        self.set_mono(until);
        // The event loop's slow tick, for the wall clock.
        self.grants.handle_timeout(self.now);
        self.model.tick(self.now);
    }

    /// Moves all three clocks; the gateway's run by its own drift.
    fn set_mono(&mut self, mono: Instant) {
        let ran = time::Duration::try_from(mono - self.now.mono).unwrap();
        self.now = Moment {
            wall: self.now.wall + ran,
            mono,
        };
        self.truth += ran * 1000.0 / (1000 + self.drift_permille) as f64;
    }

    fn drain(&mut self) {
        while let Some(event) = self.grants.poll_event() {
            match event {
                Event::Installed(grant) => assert!(self.live.insert(grant.session)),
                Event::Shortened { session, .. } => assert!(self.live.contains(&session)),
                Event::Ended { session, .. } => assert!(self.live.remove(&session)),
            }
        }
    }

    fn compare(&self) {
        let mut devices = BTreeSet::new();
        for grant in &self.made {
            let session = grant.session;
            let admitted = self.grants.is_admitted(session, self.now);
            assert_eq!(admitted, self.model.admits(session, self.now), "{session}");
            let held = self.grants.grant(session).map(|held| held.generation);
            if admitted && held == Some(grant.generation) {
                assert!(self.live.contains(&session), "admitted but never installed");
                assert!(devices.insert(grant.device), "two sessions of one device");
                let over = self.truth >= from_unix_ms(grant.deadline_ms).unwrap();
                assert!(self.ran_slow || !over, "{session} outlived its deadline");
            }
        }
        assert!(self.grants.len() <= usize::from(DEVICES));
        assert_eq!(self.grants.len(), self.live.len());
        assert_eq!(self.grants.is_empty(), self.grants.poll_timeout().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]
    #[test]
    fn no_order_of_events_admits_what_the_model_does_not(
        steps in proptest::collection::vec(step(), STEPS)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.act(step);
        }
    }
}
