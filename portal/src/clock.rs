//! The portal's only door to the clock.
//!
//! Everything else takes `now`. Tests hand the portal a clock of their own; a rehearsal may
//! one day do the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use time::OffsetDateTime;

/// Where the portal's handlers and workers read the time, once per request.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A clock that stands still until somebody sets it. Unix milliseconds.
    Set(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that shows `now` until it is set again.
    pub fn set_to(now: OffsetDateTime) -> Self {
        Self::Set(Arc::new(AtomicI64::new(unix_ms(now))))
    }

    /// Reads the clock, in UTC, to the millisecond.
    #[expect(clippy::disallowed_methods, reason = "this is the door to the clock")]
    pub fn now(&self) -> OffsetDateTime {
        match self {
            Self::System => from_unix_ms(unix_ms(OffsetDateTime::now_utc())),
            Self::Set(ms) => from_unix_ms(ms.load(Ordering::SeqCst)),
        }
    }

    /// Moves a clock made by [`Clock::set_to`]; the machine's clock is left alone.
    pub fn set(&self, now: OffsetDateTime) {
        match self {
            Self::System => {}
            Self::Set(ms) => ms.store(unix_ms(now), Ordering::SeqCst),
        }
    }
}

/// Writes an instant as the database and the wire have it: Unix milliseconds.
pub fn unix_ms(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// Reads an instant back; out-of-range values become the nearest end of time.
pub fn from_unix_ms(ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
