//! 統計 for the fund (R20): volumes, lead times, returns by reason, unread notices.
//!
//! Counted from the history, so that the figures are those of the list that staff can open. No
//! person stands in any of it, and nothing smaller than an establishment.

pub mod months;
pub mod pages;
pub mod plot;
pub mod store;

use access::JST;
use time::{Date, Duration, Month, OffsetDateTime};

use crate::history::Entry;

/// Months of one report.
pub const MONTHS_LIMIT: usize = 36;

/// A calendar month in Japan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct YearMonth {
    year: i32,
    month: Month,
}

/// From one month to another, both part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period(Vec<YearMonth>);

/// Why there is no such period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// Not `2026-04`.
    #[error("no month")]
    NoMonth,
    /// It ends before it begins.
    #[error("ends before it begins")]
    Backwards,
    /// More than [`MONTHS_LIMIT`] months.
    #[error("more than {MONTHS_LIMIT} months")]
    TooLong,
}

/// How many of one entry and kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// What happened.
    pub entry: Entry,
    /// To what kind of filing or notice.
    pub kind: String,
    /// How often.
    pub count: u64,
}

/// How long decisions took: from receipt to decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeadTime {
    /// How many decisions.
    pub count: usize,
    /// Half of them took no longer.
    pub median: Duration,
    /// Nine in ten took no longer.
    pub p90: Duration,
}

impl PeriodError {
    /// For the page.
    pub fn page_text(self) -> String {
        match self {
            Self::NoMonth => "月を「2026-04」の形で入力してください。".into(),
            Self::Backwards => "終わりの月は、始まりの月以後にしてください。".into(),
            Self::TooLong => format!("一度に集計できるのは{MONTHS_LIMIT}か月までです。"),
        }
    }
}

impl YearMonth {
    /// The month that `at` is part of.
    pub fn of(at: OffsetDateTime) -> Self {
        let day = at.to_offset(JST).date();
        Self {
            year: day.year(),
            month: day.month(),
        }
    }

    /// Reads `2026-04`.
    pub fn parse(text: &str) -> Result<Self, PeriodError> {
        let (year, month) = text.trim().split_once('-').ok_or(PeriodError::NoMonth)?;
        let digits = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(year, 4) || !digits(month, 2) {
            return Err(PeriodError::NoMonth);
        }
        let number: u8 = month.parse().map_err(|_| PeriodError::NoMonth)?;
        Ok(Self {
            year: year.parse().map_err(|_| PeriodError::NoMonth)?,
            month: Month::try_from(number).map_err(|_| PeriodError::NoMonth)?,
        })
    }

    /// The month after.
    pub fn next(self) -> Self {
        Self {
            year: self.year + i32::from(self.month == Month::December),
            month: self.month.next(),
        }
    }

    /// The month before.
    pub fn previous(self) -> Self {
        Self {
            year: self.year - i32::from(self.month == Month::January),
            month: self.month.previous(),
        }
    }

    /// Its first instant.
    pub fn begins(self) -> OffsetDateTime {
        let first = Date::from_calendar_date(self.year, self.month, 1);
        let first = first.unwrap_or(Date::MIN);
        first.midnight().assume_offset(JST)
    }

    /// `2026年4月`
    pub fn label(self) -> String {
        format!("{}年{}月", self.year, u8::from(self.month))
    }

    /// `4月`, and `26/1` in January: what has room under a column.
    pub fn short_label(self) -> String {
        match self.month {
            Month::January => format!("{:02}/1", self.year.rem_euclid(100)),
            month => format!("{}月", u8::from(month)),
        }
    }

    /// `2026-04`
    pub fn code(self) -> String {
        format!("{:04}-{:02}", self.year, u8::from(self.month))
    }
}

impl Period {
    /// The twelve months that end with the one `now` is part of.
    pub fn last_twelve(now: OffsetDateTime) -> Self {
        let mut months = vec![YearMonth::of(now)];
        for _ in 1..12 {
            months.push(months[months.len() - 1].previous());
        }
        months.reverse();
        Self(months)
    }

    /// From one month to another.
    pub fn between(from: YearMonth, to: YearMonth) -> Result<Self, PeriodError> {
        if to < from {
            return Err(PeriodError::Backwards);
        }
        let mut months = vec![from];
        while months[months.len() - 1] < to {
            if months.len() == MONTHS_LIMIT {
                return Err(PeriodError::TooLong);
            }
            months.push(months[months.len() - 1].next());
        }
        Ok(Self(months))
    }

    /// Its months, at least one.
    pub fn months(&self) -> &[YearMonth] {
        &self.0
    }

    /// Its first instant.
    pub fn begins(&self) -> OffsetDateTime {
        self.0[0].begins()
    }

    /// The instant after its last.
    pub fn ends(&self) -> OffsetDateTime {
        self.0[self.0.len() - 1].next().begins()
    }
}

impl LeadTime {
    /// The lead time of these decisions, by nearest rank; `None` if there are none.
    pub fn of(mut took: Vec<Duration>) -> Option<Self> {
        took.sort_unstable();
        let rank = |per_ten: usize| {
            let place = (took.len() * per_ten).div_ceil(10);
            took.get(place.max(1) - 1).copied()
        };
        Some(Self {
            count: took.len(),
            median: rank(5)?,
            p90: rank(9)?,
        })
    }
}

/// `2.5`: days with one digit after the point.
pub fn days(took: Duration) -> String {
    format!("{:.1}", took.as_seconds_f64() / 86_400.0)
}

#[cfg(test)]
mod tests;
