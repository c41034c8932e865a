//! Dates as official letters write them: in the era and in the western year.

use time::macros::date;
use time::{Date, Month};

/// `令和8年11月20日（2026年）`. A date before Meiji's new calendar has no era here.
pub fn date_text(date: Date) -> String {
    let (year, month, day) = parts(date);
    match era(date) {
        Some((era, 1)) => format!("{era}元年{month}月{day}日（{year}年）"),
        Some((era, era_year)) => format!("{era}{era_year}年{month}月{day}日（{year}年）"),
        None => format!("{year}年{month}月{day}日"),
    }
}

/// `令和8.11.20`, for the cells of a table.
pub fn short_date_text(date: Date) -> String {
    let (year, month, day) = parts(date);
    match era(date) {
        Some((era, 1)) => format!("{era}元.{month}.{day}"),
        Some((era, era_year)) => format!("{era}{era_year}.{month}.{day}"),
        None => format!("{year}.{month}.{day}"),
    }
}

fn parts(date: Date) -> (i32, u8, u8) {
    let (year, month, day): (i32, Month, u8) = date.to_calendar_date();
    (year, u8::from(month), day)
}

/// The era and the year in it.
fn era(date: Date) -> Option<(&'static str, i32)> {
    const ERAS: [(&str, Date); 5] = [
        ("令和", date!(2019 - 05 - 01)),
        ("平成", date!(1989 - 01 - 08)),
        ("昭和", date!(1926 - 12 - 25)),
        ("大正", date!(1912 - 07 - 30)),
        ("明治", date!(1873 - 01 - 01)),
    ];
    /// Meiji began before the calendar that we count in.
    const MEIJI_BEFORE: i32 = 1867;
    let (era, start) = ERAS.into_iter().find(|(_, start)| date >= *start)?;
    let before = match era {
        "明治" => MEIJI_BEFORE,
        _ => start.year() - 1,
    };
    Some((era, date.year() - before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_era_begins_on_its_day() {
        for (date, text) in [
            (date!(2026 - 11 - 20), "令和8年11月20日（2026年）"),
            (date!(2019 - 05 - 01), "令和元年5月1日（2019年）"),
            (date!(2019 - 04 - 30), "平成31年4月30日（2019年）"),
            (date!(1989 - 01 - 07), "昭和64年1月7日（1989年）"),
            (date!(1926 - 12 - 24), "大正15年12月24日（1926年）"),
            (date!(1912 - 07 - 29), "明治45年7月29日（1912年）"),
            (date!(1870 - 01 - 01), "1870年1月1日"),
        ] {
            assert_eq!(date_text(date), text);
        }
        assert_eq!(short_date_text(date!(1965 - 03 - 09)), "昭和40.3.9");
    }
}
