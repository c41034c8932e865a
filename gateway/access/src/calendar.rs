//! The fund's opening calendar: which instants are inside the service window.
//!
//! All of it is data that staff edit; the national holidays are the only part that comes
//! with the program. Windows are half-open: 8:00:00.000 is in, 20:00:00.000 is out.

use std::collections::BTreeMap;

use time::{Date, OffsetDateTime, Time, Weekday};

use crate::{JST, national_holiday};

/// How far ahead [`Calendar::opening`] looks for the next opening, in days.
const LOOKAHEAD_DAYS: u16 = 400;

/// Daily opening hours, half-open, in Japan Standard Time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpeningHours {
    opens: Time,
    closes: Time,
}

/// Opening hours that would never be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("opening hours must begin before they end: {opens} to {closes}")]
pub struct HoursError {
    opens: Time,
    closes: Time,
}

impl OpeningHours {
    /// Opens at `opens` and closes just before `closes` on the same day.
    pub fn new(opens: Time, closes: Time) -> Result<Self, HoursError> {
        if opens < closes {
            Ok(Self { opens, closes })
        } else {
            Err(HoursError { opens, closes })
        }
    }

    /// When the window opens.
    pub fn opens(&self) -> Time {
        self.opens
    }

    /// When the window closes; this instant is outside already.
    pub fn closes(&self) -> Time {
        self.closes
    }
}

impl Default for OpeningHours {
    /// Weekdays 8:00–20:00 (FEATURES S003-06).
    fn default() -> Self {
        Self {
            opens: time::macros::time!(8:00),
            closes: time::macros::time!(20:00),
        }
    }
}

/// The opening hours of each weekday. A weekday without hours is closed every week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeekHours([Option<OpeningHours>; 7]);

impl WeekHours {
    /// The same hours from Monday to Friday, none on Saturday and Sunday.
    pub fn weekdays(hours: OpeningHours) -> Self {
        let weekday = Some(hours);
        Self([weekday, weekday, weekday, weekday, weekday, None, None])
    }

    /// The hours of a weekday.
    pub fn on(&self, day: Weekday) -> Option<OpeningHours> {
        self.0[usize::from(day.number_days_from_monday())]
    }

    /// Sets or removes the hours of a weekday.
    pub fn set(&mut self, day: Weekday, hours: Option<OpeningHours>) {
        self.0[usize::from(day.number_days_from_monday())] = hours;
    }

    /// Whether no weekday has hours: such a service never opens by itself.
    pub fn is_never(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl Default for WeekHours {
    /// Weekdays 8:00–20:00 (FEATURES S003-06).
    fn default() -> Self {
        Self::weekdays(OpeningHours::default())
    }
}

/// When the service is open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Calendar {
    week: WeekHours,
    closing_days: BTreeMap<Date, String>,
    extra_days: BTreeMap<Date, OpeningHours>,
    always_open: bool,
}

/// What the calendar says of an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Inside the window. `closes_at` is `None` for a rehearsal calendar, which never closes.
    Open {
        /// The first instant outside again.
        closes_at: Option<OffsetDateTime>,
    },
    /// Outside.
    Closed(Closed),
}

/// Why the service is closed, and when it opens next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("closed: {reason}")]
pub struct Closed {
    /// What stands in the way now.
    pub reason: ClosedReason,
    /// The local day of the question, for the sentence.
    pub today: Date,
    /// The next instant inside a window, if there is one within [`LOOKAHEAD_DAYS`].
    pub opens_next: Option<OffsetDateTime>,
}

/// What keeps the service closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClosedReason {
    /// An opening day, earlier than its hours.
    #[error("before opening")]
    BeforeOpening,
    /// An opening day, later than its hours.
    #[error("after closing")]
    AfterClosing,
    /// Saturday or Sunday.
    #[error("weekend")]
    Weekend,
    /// Another weekday on which the fund never opens.
    #[error("closed every {0}")]
    WeeklyClosing(Weekday),
    /// A national holiday, by name.
    #[error("national holiday {0}")]
    Holiday(String),
    /// A closing day that the fund entered, with its reason.
    #[error("closing day {0}")]
    ClosingDay(String),
}

impl Calendar {
    /// Weekdays within `hours`, without national holidays.
    pub fn new(hours: OpeningHours) -> Self {
        Self::weekly(WeekHours::weekdays(hours))
    }

    /// Each weekday within its own hours, without national holidays.
    pub fn weekly(week: WeekHours) -> Self {
        Self {
            week,
            ..Self::default()
        }
    }

    /// A calendar for rehearsals and demonstrations: it never closes. Pages must say so.
    pub fn always_open() -> Self {
        Self {
            always_open: true,
            ..Self::default()
        }
    }

    /// Whether this is a rehearsal calendar.
    pub fn is_always_open(&self) -> bool {
        self.always_open
    }

    /// The ordinary hours of the week.
    pub fn week(&self) -> WeekHours {
        self.week
    }

    /// Whether the service opens at some time of `day`: a working day.
    pub fn opens_on(&self, day: Date) -> bool {
        self.always_open || self.hours_on(day).is_ok()
    }

    /// Closes the service on `day`. It wins over an extra day.
    pub fn close_on(&mut self, day: Date, reason: impl Into<String>) {
        self.closing_days.insert(day, reason.into());
    }

    /// Opens the service on `day` with hours of its own, be it a weekend or a holiday.
    pub fn open_on(&mut self, day: Date, hours: OpeningHours) {
        self.extra_days.insert(day, hours);
    }

    /// Says whether the service is open at `now`, until when, or why not and when next.
    pub fn opening(&self, now: OffsetDateTime) -> Opening {
        if self.always_open {
            return Opening::Open { closes_at: None };
        }
        let local = now.to_offset(JST);
        let today = local.date();
        let reason = match self.hours_on(today) {
            Ok(hours) if local.time() < hours.opens => ClosedReason::BeforeOpening,
            Ok(hours) if local.time() < hours.closes => {
                return Opening::Open {
                    closes_at: Some(today.with_time(hours.closes).assume_offset(JST)),
                };
            }
            Ok(_) => ClosedReason::AfterClosing,
            Err(reason) => reason,
        };
        Opening::Closed(Closed {
            reason,
            today,
            opens_next: self.next_opening(local),
        })
    }

    fn next_opening(&self, local: OffsetDateTime) -> Option<OffsetDateTime> {
        let mut day = local.date();
        for _ in 0..LOOKAHEAD_DAYS {
            if let Ok(hours) = self.hours_on(day) {
                let opens = day.with_time(hours.opens).assume_offset(JST);
                if opens > local {
                    return Some(opens);
                }
            }
            day = day.next_day()?;
        }
        None
    }

    /// The hours of `day`, or what keeps it closed all day.
    fn hours_on(&self, day: Date) -> Result<OpeningHours, ClosedReason> {
        if let Some(reason) = self.closing_days.get(&day) {
            return Err(ClosedReason::ClosingDay(reason.clone()));
        }
        if let Some(hours) = self.extra_days.get(&day) {
            return Ok(*hours);
        }
        if let Some(name) = national_holiday(day) {
            return Err(ClosedReason::Holiday(name.to_owned()));
        }
        match (self.week.on(day.weekday()), day.weekday()) {
            (Some(hours), _) => Ok(hours),
            (None, Weekday::Saturday | Weekday::Sunday) => Err(ClosedReason::Weekend),
            (None, weekday) => Err(ClosedReason::WeeklyClosing(weekday)),
        }
    }
}

impl Closed {
    /// What the person in front of the page is told: why, and when it opens next.
    pub fn page_text(&self) -> String {
        let why = match &self.reason {
            ClosedReason::BeforeOpening | ClosedReason::AfterClosing => {
                "ただいまの時間はご利用いただけません。".to_owned()
            }
            ClosedReason::Weekend => "土曜日・日曜日はご利用いただけません。".to_owned(),
            ClosedReason::WeeklyClosing(weekday) => {
                format!("{}曜日はご利用いただけません。", weekday_name(*weekday))
            }
            ClosedReason::Holiday(name) if name == "休日" => {
                "本日は祝日のためご利用いただけません。".to_owned()
            }
            ClosedReason::Holiday(name) => {
                format!("本日は祝日（{name}）のためご利用いただけません。")
            }
            ClosedReason::ClosingDay(reason) if reason.is_empty() => {
                "本日は基金の休業日のためご利用いただけません。".to_owned()
            }
            ClosedReason::ClosingDay(reason) => {
                format!("本日は基金の休業日（{reason}）のためご利用いただけません。")
            }
        };
        match self.opens_next {
            Some(next) => {
                let next = next.to_offset(JST);
                let day = if next.date() == self.today {
                    "本日".to_owned()
                } else {
                    japanese_day(next.date())
                };
                format!(
                    "{why}次回は{day}{}:{:02}からご利用いただけます。",
                    next.hour(),
                    next.minute()
                )
            }
            None => format!("{why}次回の開始日時は基金事務局にお問い合わせください。"),
        }
    }
}

/// Writes a day as people say it: `11月24日（火）`.
pub fn japanese_day(day: Date) -> String {
    let weekday = weekday_name(day.weekday());
    format!("{}月{}日（{weekday}）", u8::from(day.month()), day.day())
}

fn weekday_name(weekday: Weekday) -> &'static str {
    match weekday {
        Weekday::Monday => "月",
        Weekday::Tuesday => "火",
        Weekday::Wednesday => "水",
        Weekday::Thursday => "木",
        Weekday::Friday => "金",
        Weekday::Saturday => "土",
        Weekday::Sunday => "日",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, datetime, time};

    fn open(now: OffsetDateTime) -> bool {
        matches!(Calendar::default().opening(now), Opening::Open { .. })
    }

    fn closed(calendar: &Calendar, now: OffsetDateTime) -> Closed {
        match calendar.opening(now) {
            Opening::Closed(closed) => closed,
            Opening::Open { .. } => panic!("open at {now}"),
        }
    }

    #[test]
    fn the_door_opens_at_eight_sharp() {
        assert!(!open(datetime!(2026-03-13 07:59:59.999 +9)));
        assert!(open(datetime!(2026-03-13 08:00 +9)));
    }

    #[test]
    fn the_door_closes_at_twenty_sharp() {
        assert!(open(datetime!(2026-03-13 19:59:59.999 +9)));
        assert!(!open(datetime!(2026-03-13 20:00 +9)));
    }

    #[test]
    fn the_zone_of_the_question_does_not_matter() {
        assert!(open(datetime!(2026-03-12 23:00 UTC)));
        assert!(!open(datetime!(2026-03-12 22:59:59.999 UTC)));
    }

    #[test]
    fn each_weekday_has_hours_of_its_own_and_one_without_is_closed_every_week() {
        let mut week = WeekHours::default();
        let short = OpeningHours::new(time!(9:00), time!(12:00)).unwrap();
        week.set(Weekday::Wednesday, Some(short));
        week.set(Weekday::Thursday, None);
        week.set(Weekday::Saturday, Some(short));
        let calendar = Calendar::weekly(week);
        let open = |at| matches!(calendar.opening(at), Opening::Open { .. });
        // 2026-03-11 is a Wednesday.
        assert!(!open(datetime!(2026-03-11 08:59 +9)) && open(datetime!(2026-03-11 11:59 +9)));
        assert!(!open(datetime!(2026-03-11 12:00 +9)));
        assert!(open(datetime!(2026-03-10 12:00 +9)) && open(datetime!(2026-03-14 9:00 +9)));
        assert!(calendar.opens_on(date!(2026 - 03 - 14)));
        assert!(!calendar.opens_on(date!(2026 - 03 - 12)));
        let closed = closed(&calendar, datetime!(2026-03-12 10:00 +9));
        assert_eq!(
            closed.page_text(),
            "木曜日はご利用いただけません。次回は3月13日（金）8:00からご利用いただけます。"
        );
        assert!(!week.is_never());
    }

    #[test]
    fn friday_evening_looks_ahead_to_monday() {
        let closed = closed(&Calendar::default(), datetime!(2026-03-13 20:00 +9));
        assert_eq!(closed.reason, ClosedReason::AfterClosing);
        assert_eq!(closed.opens_next, Some(datetime!(2026-03-16 08:00 +9)));
        assert_eq!(
            closed.page_text(),
            "ただいまの時間はご利用いただけません。次回は3月16日（月）8:00からご利用いただけます。"
        );
    }

    #[test]
    fn a_holiday_monday_names_the_holiday_and_tuesday() {
        let closed = closed(&Calendar::default(), datetime!(2026-11-23 10:00 +9));
        assert_eq!(
            closed.page_text(),
            "本日は祝日（勤労感謝の日）のためご利用いただけません。次回は11月24日（火）8:00からご利用いただけます。"
        );
    }

    #[test]
    fn before_opening_says_today() {
        let closed = closed(&Calendar::default(), datetime!(2026-03-13 06:30 +9));
        assert_eq!(
            closed.page_text(),
            "ただいまの時間はご利用いただけません。次回は本日8:00からご利用いただけます。"
        );
    }

    #[test]
    fn the_leap_day_is_a_thursday_like_any_other() {
        assert!(open(datetime!(2024-02-29 08:00 +9)));
        assert_eq!(
            closed(&Calendar::default(), datetime!(2024-02-29 20:00 +9)).opens_next,
            Some(datetime!(2024-03-01 08:00 +9))
        );
    }

    #[test]
    fn the_last_day_of_the_year_is_open_and_new_year_is_not() {
        assert!(open(datetime!(2026-12-31 19:59:59.999 +9)));
        let closed = closed(&Calendar::default(), datetime!(2026-12-31 20:00 +9));
        // 1 January 2027 is a Friday and a holiday; Monday follows.
        assert_eq!(closed.opens_next, Some(datetime!(2027-01-04 08:00 +9)));
    }

    #[test]
    fn a_closing_day_beats_an_extra_day_and_an_extra_day_beats_the_weekend() {
        let mut calendar = Calendar::default();
        let short = OpeningHours::new(time!(9:00), time!(12:00)).unwrap();
        calendar.open_on(date!(2026 - 03 - 14), short);
        assert_eq!(
            calendar.opening(datetime!(2026-03-14 11:59 +9)),
            Opening::Open {
                closes_at: Some(datetime!(2026-03-14 12:00 +9))
            }
        );
        assert_eq!(
            closed(&calendar, datetime!(2026-03-14 12:00 +9)).reason,
            ClosedReason::AfterClosing
        );
        calendar.close_on(date!(2026 - 03 - 14), "年末年始休業");
        assert_eq!(
            closed(&calendar, datetime!(2026-03-14 10:00 +9)).page_text(),
            "本日は基金の休業日（年末年始休業）のためご利用いただけません。次回は3月16日（月）8:00からご利用いただけます。"
        );
    }

    #[test]
    fn hours_that_never_open_are_refused() {
        assert!(OpeningHours::new(time!(20:00), time!(8:00)).is_err());
        assert!(OpeningHours::new(time!(8:00), time!(8:00)).is_err());
    }

    #[test]
    fn a_rehearsal_calendar_is_open_on_new_years_night() {
        assert_eq!(
            Calendar::always_open().opening(datetime!(2027-01-01 03:00 +9)),
            Opening::Open { closes_at: None }
        );
    }
}
