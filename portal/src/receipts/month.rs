//! In which month's contributions a filing counts (反映予定月).
//!
//! What is received until the fund's cut-off of a month is worked into the contributions of
//! the month before, which are notified in the middle of that month; what comes later counts
//! in the next. The cut-off is a day of the month (the 5th, unless the fund says otherwise);
//! where that is no working day, the working day before it. What arrives outside the service's
//! hours counts as received on the next working day. All in Japan's time.

use std::fmt;

use access::{Calendar, JST, Opening};
use time::{Date, OffsetDateTime, Time};

/// The cut-off of a fund that says nothing else.
pub const CUT_OFF_DAY: u8 = 5;
/// How far back a working day is looked for.
const LOOKBACK_DAYS: usize = 31;

/// A month of a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    /// The year.
    pub year: i32,
    /// The month.
    pub month: time::Month,
}

/// When a submission counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// The day on which it counts as received.
    pub accepted_on: Date,
    /// The month in whose contributions it counts.
    pub month: Month,
}

/// When something counts that was received at `received`.
pub fn counts(received: OffsetDateTime, calendar: &Calendar, cut_off_day: u8) -> Counts {
    let local = received.to_offset(JST).date();
    let accepted_on = match calendar.opening(received) {
        Opening::Open { .. } => local,
        Opening::Closed(closed) => closed
            .opens_next
            .map_or(local, |opens| opens.to_offset(JST).date()),
    };
    let this = Month::of(accepted_on);
    let month = if accepted_on <= this.cut_off(calendar, cut_off_day) {
        this.before()
    } else {
        this
    };
    Counts { accepted_on, month }
}

impl Month {
    /// The month of a day.
    pub fn of(day: Date) -> Self {
        Self {
            year: day.year(),
            month: day.month(),
        }
    }

    /// The month before.
    fn before(self) -> Self {
        Self {
            year: match self.month {
                time::Month::January => self.year - 1,
                _ => self.year,
            },
            month: self.month.previous(),
        }
    }

    /// The last day on which something received counts in the month before.
    fn cut_off(self, calendar: &Calendar, day: u8) -> Date {
        let day = day.clamp(1, self.month.length(self.year));
        let wanted = Date::from_calendar_date(self.year, self.month, day)
            .expect("the day was cut to the month's length");
        let before = std::iter::successors(Some(wanted), |day| day.previous_day());
        before
            .take(LOOKBACK_DAYS)
            .find(|day| is_working(calendar, *day))
            .unwrap_or(wanted)
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let month = time::Month::try_from(month.parse::<u8>().ok()?).ok()?;
        Some(Self {
            year: year.parse().ok()?,
            month,
        })
    }

    /// `2026年10月分`
    pub fn page_text(self) -> String {
        format!("{}年{}月分", self.year, u8::from(self.month))
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, u8::from(self.month))
    }
}

/// Whether the service opens on `day` at all.
pub fn is_working(calendar: &Calendar, day: Date) -> bool {
    let midnight = day.with_time(Time::MIDNIGHT).assume_offset(JST);
    match calendar.opening(midnight) {
        Opening::Open { .. } => true,
        Opening::Closed(closed) => closed
            .opens_next
            .is_some_and(|opens| opens.to_offset(JST).date() == day),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use access::OpeningHours;
    use time::macros::{date, datetime};

    fn counted(received: OffsetDateTime, calendar: &Calendar) -> (String, String) {
        let counts = counts(received, calendar, CUT_OFF_DAY);
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

    #[test]
    fn the_last_day_of_a_month_can_be_the_cut_off() {
        let month = Month::of(date!(2027 - 02 - 01));
        let calendar = Calendar::new(OpeningHours::default());
        // 28 February 2027 is a Sunday.
        assert_eq!(month.cut_off(&calendar, 31), date!(2027 - 02 - 26));
        assert_eq!(Month::parse("2027-02"), Some(month));
        assert_eq!(Month::parse("2027-13"), None);
    }
}
