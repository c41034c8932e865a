//! The monthly cycle: by when an establishment hands in, by when the office decides.
//!
//! Filings about month N are handed in until the fund's closing day in month N+1 (the 5th, or
//! the working day before) and decided until its decision day (the 15th, likewise), so that
//! notices go out on time. A month can have a closing day of its own. By when each kind of
//! filing is due after its event is [`crate::filings::kinds::Deadline`].
//!
//! Nothing here reads a clock or a row: the calendar and the day are arguments.

pub mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use access::{Calendar, JST, Opening};
use time::{Date, Month, OffsetDateTime};

/// How far back [`working_day_before`] looks: longer than any row of closed days.
const LOOKBACK_DAYS: u16 = 60;
/// Months that have closing days of their own, at most.
pub const OVERRIDES_LIMIT: usize = 240;
/// A month of a year: what a cycle is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CycleMonth {
    year: i32,
    month: u8,
}

/// The fund's days of the month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    closing: u8,
    decision: u8,
}

/// Days of the month that make no cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DaysError {
    /// Not every month has such a day.
    #[error("a day of the month must be 1 to 28")]
    NoSuchDay,
    /// What is decided must have been handed in.
    #[error("the decision day must come after the closing day")]
    DecisionFirst,
}

/// The fund's days, with the months that differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cycle {
    /// The days of an ordinary month.
    pub days: Days,
    /// Closing days that the fund set for single months, as the day itself.
    pub overrides: BTreeMap<CycleMonth, Date>,
}

impl Days {
    /// Both in the month after the one that is closed.
    ///
    /// # Errors
    /// [`DaysError`].
    pub fn new(closing: u8, decision: u8) -> Result<Self, DaysError> {
        if !(1..=28).contains(&closing) || !(1..=28).contains(&decision) {
            Err(DaysError::NoSuchDay)
        } else if decision <= closing {
            Err(DaysError::DecisionFirst)
        } else {
            Ok(Self { closing, decision })
        }
    }

    /// 締切日.
    pub fn closing(self) -> u8 {
        self.closing
    }

    /// 決定日.
    pub fn decision(self) -> u8 {
        self.decision
    }
}

impl Default for Days {
    /// The 5th and the 15th.
    fn default() -> Self {
        Self {
            closing: 5,
            decision: 15,
        }
    }
}

impl DaysError {
    /// What is wrong, for staff.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::NoSuchDay => "締切日と決定日は、1日から28日までの日で入力してください。",
            Self::DecisionFirst => "決定日は、締切日より後の日にしてください。",
        }
    }
}

impl CycleMonth {
    /// The month that `day` lies in.
    pub fn of(day: Date) -> Self {
        Self {
            year: day.year(),
            month: u8::from(day.month()),
        }
    }

    /// The month after.
    #[must_use]
    pub fn next(self) -> Self {
        match self.month {
            12 => Self {
                year: self.year + 1,
                month: 1,
            },
            month => Self {
                month: month + 1,
                ..self
            },
        }
    }

    /// The month before.
    #[must_use]
    pub fn previous(self) -> Self {
        match self.month {
            1 => Self {
                year: self.year - 1,
                month: 12,
            },
            month => Self {
                month: month - 1,
                ..self
            },
        }
    }

    /// `2026年4月`
    pub fn page_text(self) -> String {
        format!("{}年{}月", self.year, self.month)
    }

    /// The last day of this month.
    pub fn last_day(self) -> Date {
        let next = self.next().day(1).and_then(Date::previous_day);
        next.unwrap_or(Date::MAX)
    }

    /// A day of this month; `None` outside the calendar's years.
    fn day(self, day: u8) -> Option<Date> {
        let month = Month::try_from(self.month).ok()?;
        Date::from_calendar_date(self.year, month, day).ok()
    }
}

impl fmt::Display for CycleMonth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// Not a month as `2026-04`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a month of the form 2026-04")]
pub struct MonthError;

impl FromStr for CycleMonth {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, MonthError> {
        let (year, month) = text.split_once('-').ok_or(MonthError)?;
        if year.len() != 4 || month.len() != 2 {
            return Err(MonthError);
        }
        let read = Self {
            year: year.parse().map_err(|_| MonthError)?,
            month: month.parse().map_err(|_| MonthError)?,
        };
        read.day(1).map(|_| read).ok_or(MonthError)
    }
}

impl Cycle {
    /// The last day on which a filing counts in `month`: in the month after, a working day.
    pub fn closing_of(&self, month: CycleMonth, calendar: &Calendar) -> Date {
        match self.overrides.get(&month) {
            Some(day) => *day,
            None => in_month(month.next(), self.days.closing, calendar),
        }
    }

    /// The day until which the office decides what counts in `month`.
    pub fn decision_of(&self, month: CycleMonth, calendar: &Calendar) -> Date {
        let ordinary = in_month(month.next(), self.days.decision, calendar);
        // A closing day that the fund moved moves the decision too.
        ordinary.max(self.closing_of(month, calendar))
    }

    /// The month in which a filing counts that was received on `day`.
    pub fn counts_in(&self, day: Date, calendar: &Calendar) -> CycleMonth {
        let month = CycleMonth::of(day).previous();
        // A closing day can be brought forward into the month before, or put off by one.
        let candidates = [month.previous(), month, month.next()];
        candidates
            .into_iter()
            .find(|month| day <= self.closing_of(*month, calendar))
            .unwrap_or_else(|| month.next().next())
    }

    /// The day until which the office decides a filing that was received on `day`.
    pub fn decide_by(&self, day: Date, calendar: &Calendar) -> Date {
        self.decision_of(self.counts_in(day, calendar), calendar)
    }

    /// The next closing day, `day` included, with the month that it closes.
    pub fn next_closing(&self, day: Date, calendar: &Calendar) -> (CycleMonth, Date) {
        let month = self.counts_in(day, calendar);
        (month, self.closing_of(month, calendar))
    }
}

/// The day on which something counts as received: what comes outside the service's hours
/// counts on the next day of service.
pub fn accepted_on(received: OffsetDateTime, calendar: &Calendar) -> Date {
    let local = received.to_offset(JST).date();
    match calendar.opening(received) {
        Opening::Open { .. } => local,
        Opening::Closed(closed) => closed
            .opens_next
            .map_or(local, |opens| opens.to_offset(JST).date()),
    }
}

/// How many working days lie between `today` and `deadline`, the deadline itself counted:
/// 1 on the working day before it, 0 on the day itself and after.
pub fn working_days_left(today: Date, deadline: Date, calendar: &Calendar) -> u32 {
    let mut left = 0;
    let mut day = today;
    while day < deadline {
        let Some(next) = day.next_day() else { break };
        day = next;
        if calendar.opens_on(day) || day == deadline {
            left += 1;
        }
    }
    left
}

/// The day of the month, or the working day before it.
fn in_month(month: CycleMonth, day: u8, calendar: &Calendar) -> Date {
    month
        .day(day)
        .map_or(Date::MAX, |day| working_day_before(day, calendar))
}

/// `day`, if it is a working day, or the last one before it. In a calendar without working
/// days, `day`.
fn working_day_before(day: Date, calendar: &Calendar) -> Date {
    std::iter::successors(Some(day), |day| day.previous_day())
        .take(usize::from(LOOKBACK_DAYS))
        .find(|day| calendar.opens_on(*day))
        .unwrap_or(day)
}

#[cfg(test)]
mod tests;
