//! Dates and times as people read them: Japan Standard Time, Japanese words.

use access::JST;
use time::{Date, OffsetDateTime, Time, Weekday};

/// `2026年11月20日（金）`
pub fn date(day: Date) -> String {
    format!(
        "{}年{}月{}日（{}）",
        day.year(),
        u8::from(day.month()),
        day.day(),
        weekday(day)
    )
}

/// `2026年11月20日（金）`, of an instant.
pub fn day(at: OffsetDateTime) -> String {
    date(at.to_offset(JST).date())
}

/// `2026年11月20日 8:05`
pub fn moment(at: OffsetDateTime) -> String {
    let local = at.to_offset(JST);
    format!(
        "{}年{}月{}日 {}",
        local.year(),
        u8::from(local.month()),
        local.day(),
        of_day(local.time())
    )
}

/// `2026年11月20日 8:05:09`
pub fn moment_to_the_second(at: OffsetDateTime) -> String {
    format!("{}:{:02}", moment(at), at.second())
}

/// `8:05`
pub fn clock(at: OffsetDateTime) -> String {
    of_day(at.to_offset(JST).time())
}

/// `8:05`: a time of day as people here write it, and as every sentence about opening hours
/// has it.
pub fn of_day(time: Time) -> String {
    format!("{}:{:02}", time.hour(), time.minute())
}

/// `2026-11-20T13:05:00+09:00`, for `datetime` attributes.
pub fn machine(at: OffsetDateTime) -> String {
    at.to_offset(JST)
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_default()
}

/// `20261120`, for file names.
pub fn digits(at: OffsetDateTime) -> String {
    let day = at.to_offset(JST).date();
    format!(
        "{:04}{:02}{:02}",
        day.year(),
        u8::from(day.month()),
        day.day()
    )
}

/// One character: 月 … 日.
pub fn weekday(day: Date) -> &'static str {
    match day.weekday() {
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
    use time::macros::datetime;

    #[test]
    fn an_instant_is_shown_in_japan_standard_time() {
        let at = datetime!(2026-11-19 23:05:09 UTC);
        assert_eq!(moment(at), "2026年11月20日 8:05");
        assert_eq!(
            (day(at), clock(at)),
            ("2026年11月20日（金）".into(), "8:05".into())
        );
        assert_eq!(machine(at), "2026-11-20T08:05:09+09:00");
    }
}
