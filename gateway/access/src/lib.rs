//! When a device may be connected, and for how long.
//!
//! The one place that knows "weekdays 8:00–20:00 JST, not on a holiday, 90 minutes at
//! most" (FEATURES S003-06, S003-42). The portal decides by it, the gateway enforces it,
//! the agent counts it down.
//!
//! Nothing here reads a clock, a file or a socket: every entry point takes `now`. A
//! [`Moment`] carries both clocks because each answers what the other cannot: the wall
//! clock says whether the office is open, the monotonic clock how long a session has
//! lasted even if somebody sets the wall clock back.

mod calendar;
mod deadline;
mod holidays;

pub use calendar::{
    Calendar, Closed, ClosedReason, HoursError, Opening, OpeningHours, WeekHours, japanese_day,
};
pub use deadline::{Deadline, EndReason, Moment, SESSION_LIMIT, session_deadline};
pub use holidays::{HOLIDAYS_KNOWN_UNTIL, national_holiday, national_holidays};

/// Japan Standard Time, UTC+9 all year round.
pub const JST: time::UtcOffset = match time::UtcOffset::from_hms(9, 0, 0) {
    Ok(offset) => offset,
    Err(_) => panic!("nine hours is a valid offset"),
};
