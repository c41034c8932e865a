//! Japan's national holidays, substitute holidays included, from bundled data.
//!
//! The law fixes the equinoxes only in the February before (国民の祝日に関する法律, notice
//! in the official gazette), so the list ends with the last year announced. A fund enters
//! later ones as closing days; [`HOLIDAYS_KNOWN_UNTIL`] lets the portal warn in time.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use time::Date;
use time::macros::{date, format_description};

/// The last day the bundled list speaks of.
pub const HOLIDAYS_KNOWN_UNTIL: Date = date!(2027 - 12 - 31);

/// Returns the name of the national holiday on `day`, or `None` on an ordinary day.
pub fn national_holiday(day: Date) -> Option<&'static str> {
    HOLIDAYS.get(&day).copied()
}

/// The national holidays from `first` to `last`, in order.
pub fn national_holidays(first: Date, last: Date) -> impl Iterator<Item = (Date, &'static str)> {
    let known = HOLIDAYS.iter().skip_while(move |(day, _)| **day < first);
    known
        .take_while(move |(day, _)| **day <= last)
        .map(|(day, name)| (*day, *name))
}

/// `date,name` per line, as the Cabinet Office publishes them (syukujitsu.csv).
static HOLIDAYS: LazyLock<BTreeMap<Date, &'static str>> = LazyLock::new(|| {
    let iso = format_description!("[year]-[month]-[day]");
    include_str!("japanese_holidays.csv")
        .lines()
        .map(|line| {
            let (day, name) = line.split_once(',').expect("bundled data: date,name");
            (
                Date::parse(day, &iso).expect("bundled data: an ISO date"),
                name,
            )
        })
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;
    use time::Weekday;

    #[test]
    fn a_holiday_on_a_sunday_is_followed_by_a_substitute() {
        for (day, name) in HOLIDAYS
            .iter()
            .filter(|(day, _)| day.weekday() == Weekday::Sunday)
        {
            let mut next = day.next_day().expect("within the calendar");
            // Golden Week pushes the substitute behind the other holidays.
            while HOLIDAYS.get(&next).is_some_and(|name| *name != "休日") {
                next = next.next_day().expect("within the calendar");
            }
            assert_eq!(
                national_holiday(next),
                Some("休日"),
                "after {name} on {day}"
            );
        }
    }

    #[test]
    fn a_day_between_two_holidays_is_a_holiday() {
        assert_eq!(national_holiday(date!(2026 - 09 - 22)), Some("休日"));
    }

    #[test]
    fn the_years_2024_to_2027_are_complete() {
        let counted: Vec<usize> = (2024..=2027)
            .map(|year| HOLIDAYS.keys().filter(|day| day.year() == year).count())
            .collect();
        assert_eq!(counted, [21, 19, 18, 17]);
    }
}
