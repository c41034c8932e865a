//! In which month's contributions a filing counts (反映予定月).
//!
//! What is received until the fund's cut-off of a month is worked into the contributions of
//! the month before, which are notified in the middle of that month; what comes later counts
//! in the next. The cut-off is the closing day of [`crate::deadlines`] (the 5th, unless the fund says otherwise);
//! where that is no working day, the working day before it. What arrives outside the service's
//! hours counts as received on the next working day. All in Japan's time.

use access::Calendar;
use time::{Date, OffsetDateTime};

pub use crate::deadlines::CycleMonth as Month;
use crate::deadlines::{self, Cycle};

/// When a submission counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// The day on which it counts as received.
    pub accepted_on: Date,
    /// The month in whose contributions it counts.
    pub month: Month,
}

/// When something counts that was received at `received`.
pub fn counts(received: OffsetDateTime, calendar: &Calendar, cycle: &Cycle) -> Counts {
    let accepted_on = deadlines::accepted_on(received, calendar);
    Counts {
        accepted_on,
        month: cycle.counts_in(accepted_on, calendar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use access::{JST, OpeningHours};
    use time::macros::{date, datetime};

    fn counted(received: OffsetDateTime, calendar: &Calendar) -> (String, String) {
        let counts = counts(received, calendar, &Cycle::default());
        (counts.accepted_on.to_string(), counts.month.to_string())
    }

    /// The last moment of each month's cut-off over a year, and the first after it: weekends,
    /// New Year, Golden Week and a substitute holiday are in it.
    #[test]
    fn a_years_cut_offs_with_weekends_and_holidays() {
        let mut calendar = Calendar::new(OpeningHours::default());
        for day in [
            date!(2026 - 12 - 29),
            date!(2026 - 12 - 30),
            date!(2026 - 12 - 31),
        ] {
            calendar.close_on(day, "年末年始");
        }
        for (last, month_before, month) in [
            (date!(2026 - 01 - 05), "2025-12", "2026-01"),
            (date!(2026 - 02 - 05), "2026-01", "2026-02"),
            (date!(2026 - 03 - 05), "2026-02", "2026-03"),
            // 5 April is a Sunday.
            (date!(2026 - 04 - 03), "2026-03", "2026-04"),
            // 3 to 6 May are holidays, the 2nd a Saturday.
            (date!(2026 - 05 - 01), "2026-04", "2026-05"),
            (date!(2026 - 06 - 05), "2026-05", "2026-06"),
            // 5 July is a Sunday.
            (date!(2026 - 07 - 03), "2026-06", "2026-07"),
            (date!(2026 - 08 - 05), "2026-07", "2026-08"),
            // 5 September is a Saturday.
            (date!(2026 - 09 - 04), "2026-08", "2026-09"),
            (date!(2026 - 10 - 05), "2026-09", "2026-10"),
            (date!(2026 - 11 - 05), "2026-10", "2026-11"),
            // 5 December is a Saturday.
            (date!(2026 - 12 - 04), "2026-11", "2026-12"),
        ] {
            let at = |time| last.with_time(time).assume_offset(JST);
            let open = counted(at(time::macros::time!(19:59:59)), &calendar);
            assert_eq!(open, (last.to_string(), month_before.to_owned()));
            let (accepted_on, late) = counted(at(time::macros::time!(20:00)), &calendar);
            assert_eq!(late, month, "{last}");
            assert!(accepted_on > last.to_string());
        }
    }

    #[test]
    fn after_hours_it_counts_as_received_on_the_next_working_day() {
        let calendar = Calendar::new(OpeningHours::default());
        // Friday night; Monday 23 November is a holiday.
        let (accepted_on, month) = counted(datetime!(2026-11-20 21:00 +9), &calendar);
        assert_eq!((&*accepted_on, &*month), ("2026-11-24", "2026-11"));
        // 23:30 UTC of the 4th is 8:30 of the 5th in Japan.
        let (accepted_on, month) = counted(datetime!(2026-11-04 23:30 UTC), &calendar);
        assert_eq!((&*accepted_on, &*month), ("2026-11-05", "2026-10"));
        // Before opening it is the same day.
        let (accepted_on, month) = counted(datetime!(2026-11-05 7:00 +9), &calendar);
        assert_eq!((&*accepted_on, &*month), ("2026-11-05", "2026-10"));
    }

    #[test]
    fn a_closing_day_of_the_fund_brings_the_cut_off_forward() {
        let mut calendar = Calendar::new(OpeningHours::default());
        calendar.close_on(date!(2026 - 11 - 05), "創立記念日");
        let (_, month) = counted(datetime!(2026-11-04 10:00 +9), &calendar);
        assert_eq!(month, "2026-10");
        let (accepted_on, month) = counted(datetime!(2026-11-05 10:00 +9), &calendar);
        assert_eq!((&*accepted_on, &*month), ("2026-11-06", "2026-11"));
    }
}
