//! The clock that everything on this thread reads, as the simulation sets it.
//!
//! Our own code takes `now`; boringtun and rustls ask the system. So this program defines
//! `clock_gettime` itself, in place of the C library's: a thread that has called [`show`]
//! gets the pretended time, every other thread the machine's. WireGuard's keys then age,
//! renew and expire in pretended time, without a changed copy of the library.
//!
//! With [`crate::entropy`] the only unsafe place of the simulation. It is in no program that
//! is shipped.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime as system_clock};
use time::OffsetDateTime;

/// What the monotonic clock shows at the beginning of each world: some uptime, so that
/// nothing that subtracts from it reaches below zero.
const UPTIME: Duration = Duration::from_secs(1_000_000);

/// `struct timespec` of 64-bit Linux.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

#[derive(Clone, Copy)]
struct Shown {
    mono: Duration,
    /// Since 1970.
    wall_ns: i128,
}

thread_local! {
    static SHOWN: Cell<Option<Shown>> = const { Cell::new(None) };
}

/// From now on this thread's clocks show these times. Returns the monotonic one as our own
/// code takes it.
pub fn show(mono: Duration, wall: OffsetDateTime) -> Instant {
    SHOWN.set(Some(Shown {
        mono: UPTIME + mono,
        wall_ns: wall.unix_timestamp_nanos(),
    }));
    #[expect(clippy::disallowed_methods, reason = "it reads what was just set")]
    Instant::now()
}

/// This thread's clocks are the machine's again.
pub fn show_the_machines() {
    SHOWN.set(None);
}

/// What every clock of this process is read through.
#[expect(
    unsafe_code,
    reason = "the only way to give boringtun, which reads the system's clock itself, another one"
)]
// SAFETY: this is the C library's function with its contract: `out` points to a `timespec`
// that may be written. It takes no lock and allocates nothing.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: i32, out: *mut Timespec) -> i32 {
    let shown = SHOWN.try_with(Cell::get).ok().flatten();
    let time = match (clock, shown) {
        // CLOCK_REALTIME and its coarse reading.
        (0 | 5, Some(shown)) => split(shown.wall_ns),
        // CLOCK_MONOTONIC, its raw and coarse readings, CLOCK_BOOTTIME.
        (1 | 4 | 6 | 7, Some(shown)) => split(shown.mono.as_nanos() as i128),
        (clock, _) => {
            let id = match clock {
                0 => ClockId::Realtime,
                1 => ClockId::Monotonic,
                2 => ClockId::ProcessCPUTime,
                3 => ClockId::ThreadCPUTime,
                4 => ClockId::MonotonicRaw,
                5 => ClockId::RealtimeCoarse,
                6 => ClockId::MonotonicCoarse,
                7 => ClockId::Boottime,
                _ => return -1,
            };
            let time = system_clock(id);
            Timespec {
                seconds: time.tv_sec,
                nanoseconds: time.tv_nsec,
            }
        }
    };
    // SAFETY: see above.
    unsafe { out.write(time) };
    0
}

fn split(ns: i128) -> Timespec {
    const SECOND: i128 = 1_000_000_000;
    Timespec {
        seconds: ns.div_euclid(SECOND) as i64,
        nanoseconds: ns.rem_euclid(SECOND) as i64,
    }
}

/// The two clocks of one machine, as far from the truth as somebody set them.
#[derive(Debug, Clone)]
pub struct Clocks {
    /// The true time at which the clock's rate was last changed, and what it showed then.
    since: Duration,
    shown: Duration,
    /// How much faster than true time it runs.
    drift_ppm: i64,
    /// The wall clock when the monotonic one showed zero.
    wall: OffsetDateTime,
}

impl Clocks {
    /// Clocks that show `wall` at true time zero.
    pub fn new(wall: OffsetDateTime) -> Self {
        Self {
            since: Duration::ZERO,
            shown: Duration::ZERO,
            drift_ppm: 0,
            wall,
        }
    }

    /// What the monotonic clock shows at true time `t`.
    pub fn mono(&self, t: Duration) -> Duration {
        let run = t.saturating_sub(self.since).as_nanos() as i128;
        let run = run + run * i128::from(self.drift_ppm) / 1_000_000;
        self.shown + Duration::from_nanos(u64::try_from(run).unwrap_or(0))
    }

    /// What the wall clock shows at true time `t`.
    pub fn wall(&self, t: Duration) -> OffsetDateTime {
        self.wall + self.mono(t)
    }

    /// The first true time at which the monotonic clock shows `mono` or more.
    pub fn true_time_of(&self, mono: Duration) -> Duration {
        let ahead = mono.saturating_sub(self.shown).as_nanos() as i128;
        let rate = i128::from(1_000_000 + self.drift_ppm);
        let run = (ahead * 1_000_000 + rate - 1) / rate;
        let mut t = self.since + Duration::from_nanos(u64::try_from(run).unwrap_or(u64::MAX));
        while self.mono(t) < mono {
            t += Duration::from_nanos(1);
        }
        t
    }

    /// From `t` on the clock runs this much faster than true time.
    pub fn drift(&mut self, t: Duration, ppm: i64) {
        self.shown = self.mono(t);
        self.since = t;
        self.drift_ppm = ppm;
    }

    /// Somebody sets the wall clock.
    pub fn set_wall(&mut self, t: Duration, wall: OffsetDateTime) {
        self.wall = wall - self.mono(t);
    }

    /// Shows both on this thread.
    pub fn show(&self, t: Duration) -> access::Moment {
        let wall = self.wall(t);
        access::Moment {
            wall,
            mono: show(self.mono(t), wall),
        }
    }
}

#[test]
fn boringtun_s_keys_age_in_pretended_time() {
    let wall = time::macros::datetime!(2026-03-13 10:00 +9);
    let before = show(Duration::ZERO, wall);
    let after = show(Duration::from_secs(7200), wall);
    assert_eq!(after - before, Duration::from_secs(7200));
    show_the_machines();
}
