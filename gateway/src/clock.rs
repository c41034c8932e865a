//! Reads the machine's clocks.
//!
//! The only file of the gateway, beside the event loop, that may: everything else takes a
//! [`Moment`] or an [`Instant`], so that the rules can be tested without waiting. It never
//! decides anything.

use std::time::Instant;

use access::Moment;
use time::OffsetDateTime;

/// Reads both clocks, one directly after the other.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads the clocks"
)]
pub fn now() -> Moment {
    Moment {
        wall: OffsetDateTime::now_utc(),
        mono: Instant::now(),
    }
}
