//! Calendar days and opening hours in the database.

use std::collections::BTreeMap;

use access::{OpeningHours, WeekHours};
use protocol::DeviceId;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use time::{Date, OffsetDateTime, Weekday};

use super::{CalendarDay, DayKind, Entries, clock_from_text, clock_text};
use crate::audit::Actor;
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{StoreError, Tx};

/// The row of `settings` with the hours of the weekdays.
const HOURS_SETTING: &str = "opening_hours";
/// The rows of `counters` that edits and openings of sessions lock: an opening one of them, an
/// edit all. With a single row, all openings of the fund would wait for each other.
const LOCKS: u128 = 16;

/// Holds the calendar still until the transaction ends, for who edits it: nobody opens a
/// session by it meanwhile.
pub(super) async fn lock_for_edit(tx: &mut Tx) -> Result<(), StoreError> {
    for number in 0..LOCKS {
        lock(tx, number).await?;
    }
    Ok(())
}

/// Holds the calendar still until the transaction ends, for a device that opens a session by
/// it: nobody edits it meanwhile.
pub async fn lock_for_opening(tx: &mut Tx, device: DeviceId) -> Result<(), StoreError> {
    lock(tx, device.as_uuid().as_u128() % LOCKS).await
}

async fn lock(tx: &mut Tx, number: u128) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO counters (name, value) VALUES ($1, 1)
         ON CONFLICT (name) DO UPDATE SET value = counters.value",
    )
    .bind(format!("calendar/{number}"))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("lock the calendar"))
}

/// Reads what staff entered.
pub async fn entries(connection: &mut AnyConnection) -> Result<Entries, StoreError> {
    let rows = sqlx::query("SELECT day, kind, reason, opens, closes FROM calendar_days")
        .fetch_all(&mut *connection)
        .await
        .map_err(StoreError::doing("read calendar days"))?;
    let mut days = BTreeMap::new();
    for row in &rows {
        let entry = read(row)?;
        days.insert(entry.day, entry);
    }
    let hours = sqlx::query("SELECT value FROM settings WHERE name = $1")
        .bind(HOURS_SETTING)
        .fetch_optional(connection)
        .await
        .map_err(StoreError::doing("read opening hours"))?;
    let week = match hours {
        Some(row) => read_week(&row)?,
        None => WeekHours::default(),
    };
    Ok(Entries { week, days })
}

pub(super) async fn enter(
    tx: &mut Tx,
    entry: &CalendarDay,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let (kind, hours) = match &entry.kind {
        DayKind::Closing => ("closing", None),
        DayKind::Extra(hours) => ("extra", Some(hours)),
    };
    sqlx::query(
        "INSERT INTO calendar_days (day, kind, reason, opens, closes, entered_by, entered_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (day) DO UPDATE SET
             kind = excluded.kind, reason = excluded.reason, opens = excluded.opens,
             closes = excluded.closes, entered_by = excluded.entered_by,
             entered_ms = excluded.entered_ms",
    )
    .bind(day_text(entry.day))
    .bind(kind)
    .bind(entry.reason.as_str())
    .bind(hours.map(|hours| clock_text(hours.opens())))
    .bind(hours.map(|hours| clock_text(hours.closes())))
    .bind(actor.name_for_rows())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write calendar day"))
}

pub(super) async fn remove(tx: &mut Tx, day: Date) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM calendar_days WHERE day = $1")
        .bind(day_text(day))
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("remove calendar day"))
}

pub(super) async fn set_week(tx: &mut Tx, week: WeekHours) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO settings (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(HOURS_SETTING)
    .bind(week_to_json(week).to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write opening hours"))
}

/// The weekdays from Monday, each with its hours or nothing.
pub(super) const WEEKDAYS: [(Weekday, &str); 7] = [
    (Weekday::Monday, "mon"),
    (Weekday::Tuesday, "tue"),
    (Weekday::Wednesday, "wed"),
    (Weekday::Thursday, "thu"),
    (Weekday::Friday, "fri"),
    (Weekday::Saturday, "sat"),
    (Weekday::Sunday, "sun"),
];

/// `{"mon": {"opens": "08:00", "closes": "20:00"}, …}`; a weekday without hours is left out.
pub(super) fn week_to_json(week: WeekHours) -> serde_json::Value {
    let mut days = serde_json::Map::new();
    for (weekday, name) in WEEKDAYS {
        if let Some(hours) = week.on(weekday) {
            let hours =
                json!({"opens": clock_text(hours.opens()), "closes": clock_text(hours.closes())});
            days.insert(name.to_owned(), hours);
        }
    }
    days.into()
}

/// How many open sessions have their deadline after `closes`.
pub(super) async fn sessions_beyond(
    connection: &mut AnyConnection,
    closes: OffsetDateTime,
) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS n FROM tunnel_sessions WHERE ended_ms IS NULL AND deadline_ms > $1",
    )
    .bind(unix_ms(closes))
    .fetch_one(connection)
    .await
    .map_err(StoreError::doing("count sessions beyond an hour"))?;
    row.count("n")
}

fn day_text(day: Date) -> String {
    format!(
        "{:04}-{:02}-{:02}",
        day.year(),
        u8::from(day.month()),
        day.day()
    )
}

fn day_from_text(text: &str) -> Option<Date> {
    Date::parse(
        text,
        time::macros::format_description!("[year]-[month]-[day]"),
    )
    .ok()
}

fn read(row: &AnyRow) -> Result<CalendarDay, StoreError> {
    let doing = "read calendar day";
    let text = |column| -> Result<String, StoreError> {
        row.try_get(column).map_err(StoreError::doing(doing))
    };
    let kind = match text("kind")?.as_str() {
        "closing" => DayKind::Closing,
        "extra" => DayKind::Extra(hours(&text("opens")?, &text("closes")?)?),
        _ => {
            return Err(StoreError::Unreadable {
                what: "kind of calendar day",
            });
        }
    };
    Ok(CalendarDay {
        day: day_from_text(&text("day")?).ok_or(StoreError::Unreadable {
            what: "calendar day",
        })?,
        kind,
        reason: text("reason")?,
    })
}

fn read_week(row: &AnyRow) -> Result<WeekHours, StoreError> {
    let unreadable = || StoreError::Unreadable {
        what: "opening hours",
    };
    let text: String = row
        .try_get("value")
        .map_err(StoreError::doing("read opening hours"))?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|_| unreadable())?;
    let mut week = WeekHours::default();
    for (weekday, name) in WEEKDAYS {
        let day = &value[name];
        let read = match (day["opens"].as_str(), day["closes"].as_str()) {
            (Some(opens), Some(closes)) => Some(hours(opens, closes)?),
            (None, None) if day.is_null() => None,
            _ => return Err(unreadable()),
        };
        week.set(weekday, read);
    }
    Ok(week)
}

fn hours(opens: &str, closes: &str) -> Result<OpeningHours, StoreError> {
    clock_from_text(opens)
        .zip(clock_from_text(closes))
        .and_then(|(opens, closes)| OpeningHours::new(opens, closes).ok())
        .ok_or(StoreError::Unreadable {
            what: "opening hours",
        })
}
