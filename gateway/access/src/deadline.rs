//! How long a session lasts, on both clocks.
//!
//! The portal computes a session's end once, with [`session_deadline`], and writes it down
//! in UTC. Who enforces it holds a [`Deadline`]: the same instant on the wall clock and on
//! the monotonic clock. Whichever comes first ends the session; neither can extend it.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::{Calendar, Closed, Opening};

/// The longest a session may last: 90 minutes (FEATURES S003-42).
pub const SESSION_LIMIT: Duration = Duration::from_secs(90 * 60);

/// One instant on both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// What the calendar is asked with. May be stepped by an administrator or NTP.
    pub wall: OffsetDateTime,
    /// What durations are measured with. May stop while a machine sleeps.
    pub mono: Instant,
}

/// When a session ends, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    wall: OffsetDateTime,
    mono: Instant,
}

/// Why a session ended. The agent tells its user, the audit keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// 90 minutes were over.
    TimeLimit,
    /// The service window closed.
    ClosingTime,
    /// Staff revoked the device, the user or the establishment.
    Revoked,
    /// The same device asked for a new session.
    Replaced,
    /// The user disconnected.
    Disconnected,
    /// The gateway was stopped or restarted. The session itself may go on through another.
    GatewayStopped,
    /// The session goes on through another gateway. Never an end for its user.
    Moved,
}

/// Returns when a session that starts at `start` ends, and why it will:
/// the earlier of 90 minutes and the end of the service window.
///
/// # Errors
/// [`Closed`] if the service is closed at `start`.
pub fn session_deadline(
    calendar: &Calendar,
    start: OffsetDateTime,
) -> Result<(OffsetDateTime, EndReason), Closed> {
    let limit = start + SESSION_LIMIT;
    match calendar.opening(start) {
        Opening::Open {
            closes_at: Some(closes_at),
        } if closes_at < limit => Ok((closes_at, EndReason::ClosingTime)),
        Opening::Open { .. } => Ok((limit, EndReason::TimeLimit)),
        Opening::Closed(closed) => Err(closed),
    }
}

impl Moment {
    /// Returns how long until `deadline`, by the clock that gets there first.
    pub fn until(&self, deadline: &Deadline) -> Duration {
        let wall = Duration::try_from(deadline.wall - self.wall).unwrap_or_default();
        wall.min(deadline.mono.saturating_duration_since(self.mono))
    }

    /// Says whether `deadline` is still ahead on both clocks. The deadline itself is not.
    pub fn is_before(&self, deadline: &Deadline) -> bool {
        self.wall < deadline.wall && self.mono < deadline.mono
    }
}

impl Deadline {
    /// Takes over a deadline that another machine computed: `end`, seen when that machine's
    /// clock showed `their_now`. The monotonic part comes from the difference of the two, so
    /// a wrong wall clock here cannot lengthen the session; both parts are cut to
    /// [`SESSION_LIMIT`] from `now`.
    pub fn received(end: OffsetDateTime, their_now: OffsetDateTime, now: Moment) -> Self {
        let left = Duration::try_from(end - their_now)
            .unwrap_or_default()
            .min(SESSION_LIMIT);
        let wall = end.min(now.wall + SESSION_LIMIT);
        Self {
            wall,
            mono: now.mono + left,
        }
    }

    /// The instant on the wall clock.
    pub fn wall(&self) -> OffsetDateTime {
        self.wall
    }

    /// The instant on the monotonic clock: when a timer should look again.
    pub fn mono(&self) -> Instant {
        self.mono
    }

    /// The earlier of two deadlines, clock by clock: an update can only shorten.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        Self {
            wall: self.wall.min(other.wall),
            mono: self.mono.min(other.mono),
        }
    }
}

impl EndReason {
    /// What the user is told, and what to do next.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::TimeLimit => {
                "接続から90分が経過したため、自動的に切断しました。続けてご利用になる場合は、もう一度「接続」を押してください。"
            }
            Self::ClosingTime => {
                "本日の利用時間が終わったため、切断しました。続きは、次の利用日にご利用ください。"
            }
            Self::Revoked => {
                "基金事務局がこのパソコンの利用を停止したため、切断しました。お心当たりがない場合は基金事務局へお問い合わせください。"
            }
            Self::Replaced => {
                "このパソコンから新しい接続が始まったため、以前の接続を切断しました。"
            }
            Self::Disconnected => "切断しました。",
            Self::GatewayStopped => {
                "基金側の機器が停止したため、切断しました。しばらくしてから、もう一度「接続」を押してください。"
            }
            Self::Moved => "別の接続口に切り替えました。接続は続いています。",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    fn at(wall: OffsetDateTime) -> Moment {
        Moment {
            wall,
            mono: test_origin(),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other constructor"
    )]
    fn test_origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn ninety_minutes_end_a_session_in_the_middle_of_the_day() {
        assert_eq!(
            session_deadline(&Calendar::default(), datetime!(2026-03-13 10:00 +9)),
            Ok((datetime!(2026-03-13 11:30 +9), EndReason::TimeLimit))
        );
    }

    #[test]
    fn closing_time_ends_a_session_that_still_had_minutes_left() {
        assert_eq!(
            session_deadline(&Calendar::default(), datetime!(2026-03-13 19:00 +9)),
            Ok((datetime!(2026-03-13 20:00 +9), EndReason::ClosingTime))
        );
    }

    #[test]
    fn a_session_whose_ninety_minutes_end_at_closing_ends_for_the_time_limit() {
        assert_eq!(
            session_deadline(&Calendar::default(), datetime!(2026-03-13 18:30 +9)),
            Ok((datetime!(2026-03-13 20:00 +9), EndReason::TimeLimit))
        );
    }

    #[test]
    fn nobody_starts_outside_the_window() {
        assert!(session_deadline(&Calendar::default(), datetime!(2026-03-13 20:00 +9)).is_err());
    }

    #[test]
    fn the_deadline_itself_is_too_late() {
        let start = at(datetime!(2026-03-13 10:00 +9));
        let deadline = Deadline::received(datetime!(2026-03-13 11:30 +9), start.wall, start);
        let last = Duration::from_secs(5400) - Duration::from_nanos(1);
        assert!(
            Moment {
                wall: start.wall + last,
                mono: start.mono + last
            }
            .is_before(&deadline)
        );
        assert!(
            !Moment {
                wall: start.wall + SESSION_LIMIT,
                mono: start.mono
            }
            .is_before(&deadline)
        );
        assert!(
            !Moment {
                wall: start.wall,
                mono: start.mono + SESSION_LIMIT
            }
            .is_before(&deadline)
        );
    }

    #[test]
    fn a_wall_clock_two_hours_slow_does_not_lengthen_a_session() {
        let slow = at(datetime!(2026-03-13 08:00 +9));
        let portal_now = datetime!(2026-03-13 10:00 +9);
        let deadline = Deadline::received(datetime!(2026-03-13 10:10 +9), portal_now, slow);
        assert_eq!(slow.until(&deadline), Duration::from_secs(600));
    }

    proptest! {
        #[test]
        fn no_clock_step_admits_longer_than_ninety_minutes(
            left_s in 0i64..20_000, skew_s in -40_000i64..40_000, step_s in -40_000i64..40_000, run_s in 0u64..20_000,
        ) {
            let start = at(datetime!(2026-03-13 10:00 +9));
            let their_now = start.wall + time::Duration::seconds(skew_s);
            let deadline = Deadline::received(their_now + time::Duration::seconds(left_s), their_now, start);
            let now = Moment {
                wall: start.wall + time::Duration::seconds(step_s),
                mono: start.mono + Duration::from_secs(run_s),
            };
            if now.is_before(&deadline) {
                prop_assert!(run_s < 5400);
                prop_assert!((run_s as i64) < left_s);
            }
        }
    }
}
