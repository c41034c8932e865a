//! The portal: its real rules over tables in memory.
//!
//! Calendar, deadline, the words of the feed and the keys of a session are the portal's own
//! code. What stands in SQL there is written out here, statement by statement, under the
//! same names (`end`, `shorten_all`, `live_of_gateway`, …).

use std::net::Ipv6Addr;

use access::{Opening, OpeningHours, WeekHours, session_deadline};
use gateway::commands::Ended;
use portal::calendar::{CalendarDay, DayKind, Entries};
use portal::clock::unix_ms;
use portal::keys::MasterKey;
use portal::tunnel_sessions::feed::Told;
use portal::tunnel_sessions::store::{Left, Session};
use protocol::agent_api::EndCode;
use protocol::control::{FeedLine, Grant};
use protocol::{Bytes32, DeviceId, GatewayName, Generation, SessionId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::steps::{DEVICES, GATEWAYS};

/// How far a look at the tables reaches back, as in the portal's feed.
const LOOKBACK: time::Duration = time::Duration::seconds(60);
const LOOKS_PER_FULL_LOOK: u32 = 75;
const LOOKS_PER_HEARTBEAT: u32 = 2;

/// Why nobody was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Closed,
    Revoked,
    KeyKnown,
    Over,
}

/// What happened to a session, for the model.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    Ended(SessionId),
    Shortened(SessionId, i64),
}

/// The portal with its tables.
pub struct Portal {
    keys: MasterKey,
    entries: Entries,
    sessions: Vec<Row>,
    moves: Vec<Move>,
    devices: [Device; DEVICES],
    suspended: [bool; 2],
    feeds: [Option<Feed>; GATEWAYS],
    serial: u64,
}

struct Row {
    session: Session,
    gateway: usize,
    changed_ms: i64,
}

/// A grant that a session left behind.
struct Move {
    left: Left,
    key: Bytes32,
    gateway: usize,
    moved_ms: i64,
}

/// A registered PC.
#[derive(Debug, Clone, Copy)]
struct Device {
    id: DeviceId,
    certificate_sha256: Bytes32,
    grants_given: u32,
}

/// A connection of the feed.
struct Feed {
    told: Told,
    looks: u32,
}

impl Portal {
    pub fn new(certificates: [Bytes32; DEVICES]) -> Self {
        let mut portal = Self {
            keys: MasterKey::from_bytes([7; 32]),
            entries: Entries::default(),
            sessions: Vec::new(),
            moves: Vec::new(),
            devices: certificates.map(|certificate_sha256| Device {
                id: DeviceId::from_uuid(Uuid::nil()),
                certificate_sha256,
                grants_given: 0,
            }),
            suspended: [false; 2],
            feeds: std::array::from_fn(|_| None),
            serial: 0,
        };
        for device in 0..DEVICES {
            portal.enrol(device);
        }
        portal
    }

    fn number(&mut self) -> Uuid {
        self.serial += 1;
        Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(self.serial))
    }

    fn enrol(&mut self, device: usize) {
        self.devices[device].id = DeviceId::from_uuid(self.number());
        self.devices[device].grants_given = 0;
    }

    /// `POST /v1/sessions`.
    pub fn open(
        &mut self,
        device: usize,
        gateway: usize,
        key: Bytes32,
        now: OffsetDateTime,
    ) -> Result<(Grant, Vec<Change>), Refused> {
        if self.suspended[establishment_of(device)] {
            return Err(Refused::Revoked);
        }
        let calendar = self.entries.calendar(false);
        let (deadline, reason) = session_deadline(&calendar, now).map_err(|_| Refused::Closed)?;
        if self.is_key_known(key) {
            return Err(Refused::KeyKnown);
        }
        self.devices[device].grants_given += 1;
        let Device {
            id,
            certificate_sha256,
            grants_given,
        } = self.devices[device];
        let changes = self.end_where(EndCode::Replaced, now, |row| row.session.device == id);
        let uuid = self.number();
        let session = Session {
            id: SessionId::from_uuid(uuid),
            gateway: gateway_name(gateway),
            generation: Generation::new(grants_given),
            device: id,
            device_certificate_sha256: certificate_sha256,
            wireguard_public_key: key,
            inner_address: inner_address(self.serial),
            deadline_ms: unix_ms(deadline),
            deadline_reason: reason.into(),
            ended: None,
        };
        let grant = session.grant(&self.keys);
        self.sessions.push(Row {
            session,
            gateway,
            changed_ms: unix_ms(now),
        });
        Ok((grant, changes))
    }

    fn is_key_known(&self, key: Bytes32) -> bool {
        let used = |row: &Row| row.session.wireguard_public_key == key;
        self.sessions.iter().any(used) || self.moves.iter().any(|left| left.key == key)
    }

    /// `POST /v1/sessions/{id}/move`.
    pub fn move_here(
        &mut self,
        device: usize,
        gateway: usize,
        session: SessionId,
        key: Bytes32,
        now: OffsetDateTime,
    ) -> Result<(Grant, Vec<Change>), Refused> {
        if self.suspended[establishment_of(device)] {
            return Err(Refused::Revoked);
        }
        if self.is_key_known(key) {
            return Err(Refused::KeyKnown);
        }
        let now_ms = unix_ms(now);
        self.devices[device].grants_given += 1;
        self.serial += 1;
        let Device {
            id, grants_given, ..
        } = self.devices[device];
        let serial = self.serial;
        let mut rows = self.sessions.iter_mut();
        let found = rows.find(|row| row.session.id == session && row.session.device == id);
        let live = found.filter(|row| row.session.ended.is_none());
        let row = live.filter(|row| row.session.deadline_ms > now_ms);
        let row = row.ok_or(Refused::Over)?;
        self.moves.push(Move {
            left: Left {
                session,
                generation: row.session.generation,
            },
            key: row.session.wireguard_public_key,
            gateway: row.gateway,
            moved_ms: now_ms,
        });
        row.gateway = gateway;
        row.changed_ms = now_ms;
        row.session.gateway = gateway_name(gateway);
        row.session.generation = Generation::new(grants_given);
        row.session.wireguard_public_key = key;
        row.session.inner_address = inner_address(serial);
        Ok((row.session.grant(&self.keys), Vec::new()))
    }

    /// `POST /control/v1/sessions/{id}/ended`. A gateway that stops, or that the session left,
    /// ends nothing.
    pub fn take_report(
        &mut self,
        gateway: usize,
        report: &Ended,
        now: OffsetDateTime,
    ) -> Vec<Change> {
        match report.reason {
            EndCode::GatewayStopped | EndCode::Moved => Vec::new(),
            EndCode::TimeLimit
            | EndCode::ClosingTime
            | EndCode::Revoked
            | EndCode::Replaced
            | EndCode::Disconnected => self.end_where(report.reason, now, |row| {
                row.session.id == report.session
                    && row.gateway == gateway
                    && row.session.generation == report.generation
            }),
        }
    }

    /// `POST /v1/sessions/{id}/end`.
    pub fn end(&mut self, session: SessionId, reason: EndCode, now: OffsetDateTime) -> Vec<Change> {
        self.end_where(reason, now, |row| row.session.id == session)
    }

    /// Staff take a PC out of use; another one is enrolled in its place.
    pub fn revoke(&mut self, device: usize, now: OffsetDateTime) -> Vec<Change> {
        let id = self.devices[device].id;
        let changes = self.end_where(EndCode::Revoked, now, |row| row.session.device == id);
        self.enrol(device);
        changes
    }

    pub fn suspend(&mut self, establishment: usize, out: bool, now: OffsetDateTime) -> Vec<Change> {
        self.suspended[establishment] = out;
        if !out {
            return Vec::new();
        }
        let theirs: Vec<DeviceId> = (0..DEVICES)
            .filter(|device| establishment_of(*device) == establishment)
            .map(|device| self.devices[device].id)
            .collect();
        self.end_where(EndCode::Revoked, now, |row| {
            theirs.contains(&row.session.device)
        })
    }

    /// Enters a closing day or an extra day for today.
    pub fn enter(&mut self, kind: DayKind, now: OffsetDateTime) -> Vec<Change> {
        let day = now.to_offset(access::JST).date();
        let reason = String::new();
        self.entries
            .days
            .insert(day, CalendarDay { day, kind, reason });
        self.shorten(now)
    }

    /// Changes the hours of ordinary weekdays so that today ends at `closes`.
    pub fn close_at(&mut self, closes: OffsetDateTime, now: OffsetDateTime) -> Vec<Change> {
        let closes = closes.to_offset(access::JST).time();
        if let Ok(hours) = OpeningHours::new(OpeningHours::default().opens(), closes) {
            self.entries.week = WeekHours::weekdays(hours);
        }
        self.shorten(now)
    }

    pub fn ordinary_day(&mut self, now: OffsetDateTime) -> Vec<Change> {
        self.entries = Entries::default();
        self.shorten(now)
    }

    fn shorten(&mut self, now: OffsetDateTime) -> Vec<Change> {
        match self.entries.calendar(false).opening(now) {
            Opening::Open { closes_at: None } => Vec::new(),
            Opening::Open {
                closes_at: Some(closes),
            } => self.shorten_all(closes, now),
            Opening::Closed(_) => {
                let now_ms = unix_ms(now);
                self.end_where(EndCode::ClosingTime, now, |row| {
                    row.session.deadline_ms > now_ms
                })
            }
        }
    }

    fn shorten_all(&mut self, closes: OffsetDateTime, now: OffsetDateTime) -> Vec<Change> {
        let closes_ms = unix_ms(closes);
        let mut changes = Vec::new();
        for row in &mut self.sessions {
            if row.session.ended.is_none() && row.session.deadline_ms > closes_ms {
                row.session.deadline_ms = closes_ms;
                row.session.deadline_reason = EndCode::ClosingTime;
                row.changed_ms = unix_ms(now);
                changes.push(Change::Shortened(row.session.id, closes_ms));
            }
        }
        changes
    }

    fn end_where(
        &mut self,
        reason: EndCode,
        now: OffsetDateTime,
        which: impl Fn(&Row) -> bool,
    ) -> Vec<Change> {
        let now_ms = unix_ms(now);
        let mut changes = Vec::new();
        for row in &mut self.sessions {
            if row.session.ended.is_none() && which(row) {
                let past = row.session.deadline_ms <= now_ms;
                row.session.ended = Some(if past {
                    row.session.deadline_reason
                } else {
                    reason
                });
                row.changed_ms = now_ms;
                changes.push(Change::Ended(row.session.id));
            }
        }
        changes
    }

    /// A gateway asks for its feed: the first line.
    pub fn follow(&mut self, gateway: usize, now: OffsetDateTime) -> FeedLine {
        let now_ms = unix_ms(now);
        let live: Vec<Session> = self
            .sessions
            .iter()
            .filter(|row| row.gateway == gateway && row.session.ended.is_none())
            .filter(|row| row.session.deadline_ms > now_ms)
            .map(|row| row.session.clone())
            .collect();
        let mut told = Told::default();
        let line = told.snapshot(&live, &self.keys, now);
        self.feeds[gateway] = Some(Feed { told, looks: 0 });
        line
    }

    /// A look at what changed, by the clock (`ticked`) or because something did.
    pub fn look(&mut self, gateway: usize, ticked: bool, now: OffsetDateTime) -> Vec<FeedLine> {
        let Some(feed) = &mut self.feeds[gateway] else {
            return Vec::new();
        };
        feed.looks = feed.looks.wrapping_add(u32::from(ticked));
        let back = match feed.looks % LOOKS_PER_FULL_LOOK {
            0 => LOOKBACK + access::SESSION_LIMIT,
            _ => LOOKBACK,
        };
        let since = unix_ms(now - back);
        let mut changed: Vec<&Row> = self
            .sessions
            .iter()
            .filter(|row| row.gateway == gateway && row.changed_ms >= since)
            .collect();
        changed.sort_by_key(|row| row.changed_ms);
        let changed: Vec<Session> = changed.iter().map(|row| row.session.clone()).collect();
        let left = self.moves.iter();
        let left = left.filter(|left| left.gateway == gateway && left.moved_ms >= since);
        let left: Vec<Left> = left.map(|left| left.left).collect();
        let mut lines = feed.told.news(&left, &changed, &self.keys, now);
        if feed.looks.is_multiple_of(LOOKS_PER_HEARTBEAT) {
            lines.push(FeedLine::Heartbeat {
                server_time_ms: unix_ms(now),
            });
        }
        lines
    }

    /// The sessions of a gateway that live on.
    pub fn live(&self, gateway: usize, now: OffsetDateTime) -> Vec<SessionId> {
        let now_ms = unix_ms(now);
        let rows = self.sessions.iter().filter(|row| {
            row.gateway == gateway
                && row.session.ended.is_none()
                && row.session.deadline_ms > now_ms
        });
        rows.map(|row| row.session.id).collect()
    }

    /// Whether a session lives at `now`.
    pub fn is_live(&self, session: SessionId, now: OffsetDateTime) -> bool {
        let now_ms = unix_ms(now);
        self.sessions.iter().any(|row| {
            row.session.id == session
                && row.session.ended.is_none()
                && row.session.deadline_ms > now_ms
        })
    }

    /// The connection of a feed is gone.
    pub fn hang_up(&mut self, gateway: usize) {
        self.feeds[gateway] = None;
    }

    /// The process ends; the tables stay.
    pub fn restart(&mut self) {
        self.feeds = std::array::from_fn(|_| None);
    }

    /// What authenticates the PROXY header of a session.
    pub fn proxy_key(&self, session: SessionId, inner_address: Ipv6Addr) -> Bytes32 {
        portal::tunnel_sessions::proxy_key(&self.keys, session, inner_address)
    }

    /// An extra day that ends at `closes`.
    pub fn extra(closes: OffsetDateTime) -> Option<DayKind> {
        let closes = closes.to_offset(access::JST).time();
        OpeningHours::new(time::Time::MIDNIGHT, closes)
            .ok()
            .map(DayKind::Extra)
    }
}

fn inner_address(serial: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits((0xfd72_656e_6b65_6900_u128 << 64) + 0x10000 + u128::from(serial))
}

fn gateway_name(gateway: usize) -> GatewayName {
    let name = format!("gateway-{gateway}");
    name.parse().expect("letters, a hyphen and a number")
}

/// The first half of the PCs belongs to one establishment, the rest to another.
pub fn establishment_of(device: usize) -> usize {
    device * 2 / DEVICES
}
