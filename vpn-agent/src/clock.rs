//! Time as the agent sees it: the PC's two clocks, and what a server said the time is.
//!
//! The one file that reads clocks. A PC's wall clock may be a year off and must not keep
//! its user out, nor lengthen anything: the remaining time of a session is measured on a
//! monotonic clock that goes on while the PC sleeps, and certificates are checked at the
//! time that an authenticated server told, once there is one.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use access::Moment;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::os;

/// How far the PC's clock may be off before it counts as wrong.
pub const TOLERATED_SKEW: Duration = Duration::from_secs(120);

/// No certificate that a server shows now can have expired before this program was made.
const PROGRAM_MADE: OffsetDateTime = datetime!(2026-11-01 0:00 UTC);

/// The PC's wall clock, for the log: nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// The PC's clocks, with what servers have told.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    origin_uptime: Duration,
    /// Added to the PC's wall clock: zero outside of tests.
    wall_error: time::Duration,
    told: Mutex<Told>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    /// The latest server time ever seen: the true time is not before it.
    floor: OffsetDateTime,
    /// The last server time of this run, and when it was heard.
    last: Option<(OffsetDateTime, Moment)>,
}

impl Clock {
    /// The PC's own clocks. `floor` is the latest server time that earlier runs saw.
    pub fn system(floor: Option<OffsetDateTime>) -> Self {
        Self::with_wall_error(floor, time::Duration::ZERO)
    }

    /// A PC whose wall clock is wrong by `wall_error`, for rehearsals.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn with_wall_error(floor: Option<OffsetDateTime>, wall_error: time::Duration) -> Self {
        Self {
            origin: Instant::now(),
            origin_uptime: os::time_since_boot(),
            wall_error,
            told: Mutex::new(Told {
                floor: floor.unwrap_or(PROGRAM_MADE).max(PROGRAM_MADE),
                last: None,
            }),
        }
    }

    /// Reads both clocks. The monotonic one goes on while the PC sleeps.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> Moment {
        let since_origin = os::time_since_boot().saturating_sub(self.origin_uptime);
        Moment {
            wall: OffsetDateTime::now_utc().saturating_add(self.wall_error),
            mono: self.origin + since_origin,
        }
    }

    /// A clock that stops while the PC sleeps, where the system has one.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn awake(&self) -> Instant {
        Instant::now()
    }

    /// Takes note of the time in a server's answer that came over a verified connection.
    pub fn learn(&self, server_time: OffsetDateTime, now: Moment) {
        let mut told = self.told();
        told.floor = told.floor.max(server_time);
        told.last = Some((server_time, now));
    }

    /// Takes note of the time in the answer of a server whose certificate's dates did not fit.
    /// False if it is no time to go by: before the floor, though nobody has told a later one in
    /// this run. Of two that asked at once, the earlier answer may be the later to be read.
    pub fn learn_anew(&self, server_time: OffsetDateTime, now: Moment) -> bool {
        let is_possible = server_time >= self.floor();
        if is_possible {
            self.learn(server_time, now);
        }
        is_possible || self.has_been_told()
    }

    /// The true time as far as is known: the server's, carried on, if the PC's clock was
    /// found wrong; else the PC's.
    pub fn corrected(&self, now: Moment) -> OffsetDateTime {
        match (self.skew(now), self.told().last) {
            (Some(_), Some((server, heard))) => {
                server.saturating_add(elapsed(heard.mono, now.mono))
            }
            _ => now.wall,
        }
    }

    /// How far the PC's clock is ahead (or, negative, behind), if that is more than
    /// [`TOLERATED_SKEW`] and a server has told the time.
    pub fn skew(&self, now: Moment) -> Option<time::Duration> {
        let (server, heard) = self.told().last?;
        let skew = now.wall - server.saturating_add(elapsed(heard.mono, now.mono));
        (skew.unsigned_abs() > TOLERATED_SKEW).then_some(skew)
    }

    /// Whether a server has told the time in this run.
    pub fn has_been_told(&self) -> bool {
        self.told().last.is_some()
    }

    /// The true time is not before this.
    pub fn floor(&self) -> OffsetDateTime {
        self.told().floor
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.corrected(self.now())))
    }
}

/// A point in time as certificates are checked with; times before 1970 are 1970.
pub fn unix_time(time: OffsetDateTime) -> UnixTime {
    let seconds = u64::try_from(time.unix_timestamp()).unwrap_or_default();
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// Reads Unix milliseconds as they stand in messages. `None` if no calendar has that year.
pub fn from_unix_ms(milliseconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).ok()
}

/// Writes Unix milliseconds.
pub fn to_unix_ms(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000)
        .expect("years up to 9999 fit 64-bit milliseconds")
}

fn elapsed(from: Instant, to: Instant) -> time::Duration {
    time::Duration::try_from(to.saturating_duration_since(from)).unwrap_or(time::Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: time::Duration = time::Duration::days(365);

    #[test]
    fn a_clock_that_is_right_is_believed() {
        let clock = Clock::system(None);
        let now = clock.now();
        clock.learn(now.wall + Duration::from_secs(5), now);
        assert_eq!(clock.skew(now), None);
        assert_eq!(clock.corrected(now), now.wall);
    }

    #[test]
    fn of_two_answers_that_cross_each_other_neither_is_a_wrong_time() {
        let clock = Clock::with_wall_error(None, -YEAR);
        let now = clock.now();
        let true_time = now.wall + YEAR;
        assert!(!clock.learn_anew(PROGRAM_MADE - Duration::from_secs(1), now));
        assert!(!clock.has_been_told());
        assert!(clock.learn_anew(true_time + Duration::from_millis(2), now));
        assert!(clock.learn_anew(true_time, now));
        assert_eq!(clock.corrected(now), true_time + Duration::from_millis(2));
    }

    #[test]
    fn a_clock_a_year_off_is_replaced_by_the_servers() {
        for error in [YEAR, -YEAR] {
            let clock = Clock::with_wall_error(None, error);
            let now = clock.now();
            let server = now.wall - error;
            clock.learn(server, now);
            assert_eq!(clock.skew(now), Some(error));
            let later = Moment {
                wall: now.wall + Duration::from_secs(60),
                mono: now.mono + Duration::from_secs(60),
            };
            assert_eq!(clock.corrected(later), server + Duration::from_secs(60));
        }
    }

    #[test]
    fn a_clock_that_is_set_right_is_believed_again() {
        let clock = Clock::with_wall_error(None, YEAR);
        let wrong = clock.now();
        clock.learn(wrong.wall - YEAR, wrong);
        let right = Moment {
            wall: wrong.wall - YEAR,
            mono: wrong.mono,
        };
        assert_eq!(clock.skew(right), None);
        assert_eq!(clock.corrected(right), right.wall);
    }

    #[test]
    fn the_floor_only_rises() {
        let seen = datetime!(2027-01-01 0:00 UTC);
        let clock = Clock::system(Some(seen));
        clock.learn(datetime!(2026-12-01 0:00 UTC), clock.now());
        assert_eq!(clock.floor(), seen);
        assert_eq!(Clock::system(None).floor(), PROGRAM_MADE);
    }

    #[test]
    fn milliseconds_survive_the_wire() {
        let time = datetime!(2026-11-20 12:34:56.789 UTC);
        assert_eq!(from_unix_ms(to_unix_ms(time)), Some(time));
        assert_eq!(from_unix_ms(i64::MAX), None);
    }
}
