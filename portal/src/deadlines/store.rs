//! The fund's cycle in the database, and the days by which open filings are decided.

use access::Calendar;
use serde_json::json;
use sqlx::AnyConnection;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use super::{Cycle, CycleMonth, Days, accepted_on};
use crate::audit::Actor;
use crate::calendar;
use crate::clock::{from_unix_ms, unix_ms};
use crate::db::rows::Columns as _;
use crate::db::{StoreError, Tx};

/// The row of `settings` with the days of the month.
const DAYS_SETTING: &str = "monthly_cycle";

/// A filing whose day of decision a change of the rules moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    filing: String,
    /// Until now.
    pub from: Date,
    /// From now on.
    pub to: Date,
}

/// Writes a day as the database has it.
pub fn day_text(day: Date) -> String {
    day.to_string()
}

/// Reads a day of the database or of a form.
pub fn day_from_text(text: &str) -> Option<Date> {
    Date::parse(text.trim(), format_description!("[year]-[month]-[day]")).ok()
}

/// Reads the fund's cycle.
pub async fn cycle(connection: &mut AnyConnection) -> Result<Cycle, StoreError> {
    let setting = sqlx::query("SELECT value FROM settings WHERE name = $1")
        .bind(DAYS_SETTING)
        .fetch_optional(&mut *connection)
        .await
        .map_err(StoreError::doing("read the monthly cycle"))?;
    let days = match setting {
        None => Days::default(),
        Some(row) => {
            days_from_text(&row.text("value")?).ok_or(StoreError::Unreadable { what: "cycle" })?
        }
    };
    let rows = sqlx::query("SELECT month, closing_on FROM cycle_overrides")
        .fetch_all(connection)
        .await
        .map_err(StoreError::doing("read closing days"))?;
    let mut cycle = Cycle {
        days,
        ..Cycle::default()
    };
    for row in &rows {
        let closing = day_from_text(&row.text("closing_on")?)
            .ok_or(StoreError::Unreadable { what: "closing_on" })?;
        cycle.overrides.insert(row.parsed("month")?, closing);
    }
    Ok(cycle)
}

fn days_from_text(text: &str) -> Option<Days> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let day = |name: &str| value[name].as_u64().and_then(|day| u8::try_from(day).ok());
    Days::new(day("closing")?, day("decision")?).ok()
}

/// Writes the days of the month.
pub async fn set_days(tx: &mut Tx, days: Days) -> Result<(), StoreError> {
    let value = json!({ "closing": days.closing(), "decision": days.decision() });
    sqlx::query(
        "INSERT INTO settings (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(DAYS_SETTING)
    .bind(value.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write the monthly cycle"))
}

/// Gives a month a closing day of its own.
pub async fn set_closing(
    tx: &mut Tx,
    month: CycleMonth,
    closing: Date,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO cycle_overrides (month, closing_on, entered_by, entered_ms)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (month) DO UPDATE SET closing_on = excluded.closing_on,
             entered_by = excluded.entered_by, entered_ms = excluded.entered_ms",
    )
    .bind(month.to_string())
    .bind(day_text(closing))
    .bind(actor.name_for_rows())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write a closing day"))
}

/// Takes a month's own closing day away.
pub async fn clear_closing(tx: &mut Tx, month: CycleMonth) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM cycle_overrides WHERE month = $1")
        .bind(month.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("remove a closing day"))
}

/// The calendar and the cycle by which deadlines are counted: a rehearsal's too, for its
/// calendar that never closes is about connecting.
pub async fn rules(connection: &mut AnyConnection) -> Result<(Cycle, Calendar), StoreError> {
    let entries = calendar::store::entries(&mut *connection).await?;
    Ok((cycle(connection).await?, entries.calendar(false)))
}

/// The day until which the office decides what is received now, as the row has it.
pub async fn decide_by(tx: &mut Tx, now: OffsetDateTime) -> Result<String, StoreError> {
    let (cycle, calendar) = rules(&mut *tx).await?;
    let accepted = accepted_on(now, &calendar);
    Ok(day_text(cycle.decide_by(accepted, &calendar)))
}

/// The open filings whose day of decision is another one by these rules. What has a receipt
/// stays in the month that the receipt says, whatever becomes of that month's closing day.
pub async fn moved(
    connection: &mut AnyConnection,
    cycle: &Cycle,
    calendar: &Calendar,
) -> Result<Vec<Moved>, StoreError> {
    let rows = sqlx::query(
        "SELECT f.id, f.received_ms, f.due_on, r.counts_month FROM filings f
           LEFT JOIN receipts r ON r.submission_id = f.submission_id
          WHERE f.state IN ('received', 'in_review') ORDER BY f.due_on, f.id",
    )
    .fetch_all(connection)
    .await
    .map_err(StoreError::doing("read days of decision"))?;
    let mut moved = Vec::new();
    for row in &rows {
        let to = match row.parsed_if("counts_month")? {
            Some(month) => cycle.decision_of(month, calendar),
            None => {
                let received = from_unix_ms(row.number("received_ms")?);
                cycle.decide_by(accepted_on(received, calendar), calendar)
            }
        };
        let from =
            day_from_text(&row.text("due_on")?).ok_or(StoreError::Unreadable { what: "due_on" })?;
        if from != to {
            moved.push(Moved {
                filing: row.text("id")?,
                from,
                to,
            });
        }
    }
    Ok(moved)
}

/// Moves the days of decision of open filings to what the rules in the database say now.
/// Returns how many moved.
pub async fn follow_the_rules(tx: &mut Tx) -> Result<usize, StoreError> {
    let (cycle, calendar) = rules(&mut *tx).await?;
    let moved = moved(&mut *tx, &cycle, &calendar).await?;
    for filing in &moved {
        sqlx::query("UPDATE filings SET due_on = $1 WHERE id = $2")
            .bind(day_text(filing.to))
            .bind(filing.filing.as_str())
            .execute(&mut **tx)
            .await
            .map_err(StoreError::doing("move a day of decision"))?;
    }
    Ok(moved.len())
}
