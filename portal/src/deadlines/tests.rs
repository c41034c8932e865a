//! The cycle over three years, against days worked out by hand from the printed calendar.

use super::*;
use time::macros::date;

fn month(text: &str) -> CycleMonth {
    text.parse().unwrap()
}

/// Month that is closed, its closing day, its decision day.
const GOLDEN: [(&str, Date, Date); 36] = [
    ("2024-12", date!(2024 - 12 - 27), date!(2025 - 01 - 15)),
    ("2025-01", date!(2025 - 02 - 05), date!(2025 - 02 - 14)),
    ("2025-02", date!(2025 - 03 - 05), date!(2025 - 03 - 14)),
    ("2025-03", date!(2025 - 04 - 04), date!(2025 - 04 - 15)),
    // 3 to 6 May: holidays with a substitute; the 2nd is a Friday.
    ("2025-04", date!(2025 - 05 - 02), date!(2025 - 05 - 15)),
    ("2025-05", date!(2025 - 06 - 05), date!(2025 - 06 - 13)),
    ("2025-06", date!(2025 - 07 - 04), date!(2025 - 07 - 15)),
    ("2025-07", date!(2025 - 08 - 05), date!(2025 - 08 - 15)),
    // 15 September: Respect for the Aged Day, a Monday.
    ("2025-08", date!(2025 - 09 - 05), date!(2025 - 09 - 12)),
    ("2025-09", date!(2025 - 10 - 03), date!(2025 - 10 - 15)),
    ("2025-10", date!(2025 - 11 - 05), date!(2025 - 11 - 14)),
    ("2025-11", date!(2025 - 12 - 05), date!(2025 - 12 - 15)),
    ("2025-12", date!(2026 - 01 - 05), date!(2026 - 01 - 15)),
    ("2026-01", date!(2026 - 02 - 05), date!(2026 - 02 - 13)),
    ("2026-02", date!(2026 - 03 - 05), date!(2026 - 03 - 13)),
    ("2026-03", date!(2026 - 04 - 03), date!(2026 - 04 - 15)),
    // 3 to 6 May 2026: a Sunday, Monday, Tuesday and the substitute on Wednesday.
    ("2026-04", date!(2026 - 05 - 01), date!(2026 - 05 - 15)),
    ("2026-05", date!(2026 - 06 - 05), date!(2026 - 06 - 15)),
    ("2026-06", date!(2026 - 07 - 03), date!(2026 - 07 - 15)),
    ("2026-07", date!(2026 - 08 - 05), date!(2026 - 08 - 14)),
    ("2026-08", date!(2026 - 09 - 04), date!(2026 - 09 - 15)),
    ("2026-09", date!(2026 - 10 - 05), date!(2026 - 10 - 15)),
    ("2026-10", date!(2026 - 11 - 05), date!(2026 - 11 - 13)),
    ("2026-11", date!(2026 - 12 - 04), date!(2026 - 12 - 15)),
    ("2026-12", date!(2027 - 01 - 05), date!(2027 - 01 - 15)),
    ("2027-01", date!(2027 - 02 - 05), date!(2027 - 02 - 15)),
    ("2027-02", date!(2027 - 03 - 05), date!(2027 - 03 - 15)),
    ("2027-03", date!(2027 - 04 - 05), date!(2027 - 04 - 15)),
    ("2027-04", date!(2027 - 04 - 30), date!(2027 - 05 - 14)),
    ("2027-05", date!(2027 - 06 - 04), date!(2027 - 06 - 15)),
    ("2027-06", date!(2027 - 07 - 05), date!(2027 - 07 - 15)),
    ("2027-07", date!(2027 - 08 - 05), date!(2027 - 08 - 13)),
    ("2027-08", date!(2027 - 09 - 03), date!(2027 - 09 - 15)),
    ("2027-09", date!(2027 - 10 - 05), date!(2027 - 10 - 15)),
    ("2027-10", date!(2027 - 11 - 05), date!(2027 - 11 - 15)),
    ("2027-11", date!(2027 - 12 - 03), date!(2027 - 12 - 15)),
];

#[test]
fn three_years_close_on_the_days_of_the_printed_calendar() {
    let mut calendar = Calendar::default();
    // The fund's own year-end closing, entered by staff for one of the years.
    for day in [28, 29, 30, 31] {
        let day = Date::from_calendar_date(2024, Month::December, day).unwrap();
        calendar.close_on(day, "年末年始");
    }
    for day in [1, 2, 3] {
        let day = Date::from_calendar_date(2025, Month::January, day).unwrap();
        calendar.close_on(day, "年末年始");
    }
    let cycle = Cycle::default();
    for (closed, closing, decision) in GOLDEN {
        assert_eq!(cycle.closing_of(month(closed), &calendar), closing);
        assert_eq!(cycle.decision_of(month(closed), &calendar), decision);
    }
}

#[test]
fn every_day_of_three_years_counts_in_the_first_month_that_is_still_open() {
    let (calendar, cycle) = (Calendar::default(), Cycle::default());
    let mut day = date!(2025 - 01 - 06);
    while day < date!(2027 - 12 - 01) {
        let counted = cycle.counts_in(day, &calendar);
        assert!(day <= cycle.closing_of(counted, &calendar), "{day}");
        assert!(
            day > cycle.closing_of(counted.previous(), &calendar),
            "{day}"
        );
        assert!(cycle.decide_by(day, &calendar) >= day, "{day}");
        day = day.next_day().unwrap();
    }
    // Handed in after the closing day before Golden Week: it counts a month later.
    let counted = |day| cycle.counts_in(day, &calendar);
    assert_eq!(counted(date!(2026 - 05 - 01)), month("2026-04"));
    assert_eq!(counted(date!(2026 - 05 - 02)), month("2026-05"));
    assert_eq!(
        cycle.decide_by(date!(2026 - 05 - 02), &calendar),
        date!(2026 - 06 - 15)
    );
}

#[test]
fn the_funds_own_closing_day_wins_and_moves_what_follows_from_it() {
    let calendar = Calendar::default();
    let mut cycle = Cycle::default();
    let april = month("2026-04");
    cycle.overrides.insert(april, date!(2026 - 05 - 08));
    assert_eq!(cycle.closing_of(april, &calendar), date!(2026 - 05 - 08));
    let counted = |cycle: &Cycle, day| cycle.counts_in(day, &calendar);
    assert_eq!(counted(&cycle, date!(2026 - 05 - 08)), april);
    assert_eq!(counted(&cycle, date!(2026 - 05 - 09)), april.next());
    // So late that the ordinary decision day has passed.
    cycle.overrides.insert(april, date!(2026 - 05 - 18));
    assert_eq!(cycle.decision_of(april, &calendar), date!(2026 - 05 - 18));
}

#[test]
fn working_days_are_counted_past_weekends_and_holidays() {
    let calendar = Calendar::default();
    let left = |today, deadline| working_days_left(today, deadline, &calendar);
    // Friday 1 May 2026; the days before it are a holiday (Wed 29 April) and working days.
    let closing = date!(2026 - 05 - 01);
    assert_eq!(left(closing, closing), 0);
    assert_eq!(left(date!(2026 - 04 - 30), closing), 1);
    assert_eq!(left(date!(2026 - 04 - 28), closing), 2);
    assert_eq!(left(date!(2026 - 04 - 27), closing), 3);
    assert_eq!(left(date!(2026 - 04 - 24), closing), 4);
    assert_eq!(left(date!(2026 - 04 - 23), closing), 5);
    assert_eq!(left(date!(2026 - 05 - 02), closing), 0);
}

#[test]
fn only_days_that_every_month_has_make_a_cycle() {
    assert!(Days::new(5, 15).is_ok() && Days::new(27, 28).is_ok());
    for (closing, decision) in [(0, 15), (5, 29), (29, 30)] {
        assert_eq!(Days::new(closing, decision), Err(DaysError::NoSuchDay));
    }
    for (closing, decision) in [(15, 5), (5, 5)] {
        assert_eq!(Days::new(closing, decision), Err(DaysError::DecisionFirst));
    }
}

#[test]
fn a_month_is_read_as_it_is_written() {
    assert_eq!(month("2026-04").to_string(), "2026-04");
    assert_eq!(month("2026-12").next(), month("2027-01"));
    assert_eq!(month("2027-01").previous(), month("2026-12"));
    for text in ["", "2026", "2026-13", "2026-4", "26-04", "2026-00"] {
        assert_eq!(text.parse::<CycleMonth>(), Err(MonthError), "{text}");
    }
}
