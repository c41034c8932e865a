//! Who is told of a batch, and who is reminded.
//!
//! One mail for one person in one round, however many establishments he works for and however
//! many documents wait: a row in `notice_mails` says that it is in the outbox, and is written
//! in the same transaction. So a portal that dies between two transactions goes on where it
//! stopped, and two portals do not tell anybody twice.

use access::{Calendar, JST};
use serde_json::json;
use time::{Date, Duration, OffsetDateTime};

use super::{Batch, State};
use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::calendar;
use crate::clock::unix_ms;
use crate::custody;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError};
use crate::ids::BatchId;
use crate::mail::{outbox, texts};

/// Mails that one transaction puts into the outbox.
const MAILS_AT_ONCE: i64 = 50;
/// A mail about a batch is given up after this long.
const MAIL_LIFETIME: Duration = Duration::days(3);
/// On the how-manieth working day after the release those who have fetched nothing are
/// reminded without anybody asking for it.
pub const REMIND_AFTER_WORKING_DAYS: usize = 5;
/// A batch this old is not reminded of automatically: whoever was away calls.
const REMIND_WITHIN: Duration = Duration::days(60);

/// Why mails go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// The batch was released.
    Issued,
    /// Working days have passed.
    Automatic,
    /// Staff asked for it on this day; once a day.
    Manual(Date),
}

impl Round {
    /// The word in the database.
    fn code(self) -> String {
        match self {
            Self::Issued => "issued".to_owned(),
            Self::Automatic => "automatic".to_owned(),
            Self::Manual(day) => format!("manual/{day}"),
        }
    }
}

/// Puts every mail of a round into the outbox that is not there yet, a few in each
/// transaction. Returns how many.
///
/// # Errors
/// [`StoreError`]; what was queued before stays queued, and the next call goes on.
pub async fn queue(
    app: &App,
    batch: BatchId,
    round: Round,
    now: OffsetDateTime,
) -> Result<u64, StoreError> {
    let mut queued = 0;
    loop {
        let some = queue_some(app, batch, round, now).await?;
        if some > 0 {
            app.signals.mail_queued();
        }
        queued += some;
        if some < MAILS_AT_ONCE.unsigned_abs() {
            return Ok(queued);
        }
    }
}

/// Who may fetch what of the batch nobody fetched.
const WAITING: &str = "FROM notices n
      JOIN memberships m ON m.establishment_id = n.establishment_id
      JOIN users u ON u.id = m.user_id
      JOIN establishments e ON e.id = n.establishment_id
     WHERE n.batch_id = $1 AND n.first_fetched_ms IS NULL AND n.recalled_ms IS NULL
       AND (m.role = 'admin' OR m.permissions LIKE '%fetch%')
       AND m.ended_ms IS NULL AND u.disabled_ms IS NULL AND e.suspended_ms IS NULL";

async fn queue_some(
    app: &App,
    batch: BatchId,
    round: Round,
    now: OffsetDateTime,
) -> Result<u64, StoreError> {
    let mut tx = app.db.begin().await?;
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT DISTINCT u.id, u.email {WAITING}
            AND NOT EXISTS (SELECT 1 FROM notice_mails t
                             WHERE t.batch_id = $1 AND t.round = $2 AND t.user_id = u.id)
          ORDER BY u.id LIMIT $3"
    )))
    .bind(batch.to_string())
    .bind(round.code())
    .bind(MAILS_AT_ONCE)
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::doing("look for whom to tell of a batch"))?;
    for row in &rows {
        let told = sqlx::query(
            "INSERT INTO notice_mails (batch_id, user_id, round, queued_ms)
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(batch.to_string())
        .bind(row.text("id")?)
        .bind(round.code())
        .bind(unix_ms(now))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::doing("mark somebody told"))?
        .rows_affected();
        // Another portal was first.
        if told == 0 {
            continue;
        }
        let to = row.text("email")?;
        let mail = match round {
            Round::Issued => texts::notice_issued(&app.config, &to),
            Round::Automatic | Round::Manual(_) => texts::notice_waiting(&app.config, &to),
        };
        outbox::queue(&mut tx, &app.keys, mail, now, now + MAIL_LIFETIME).await?;
    }
    Db::commit(tx).await?;
    Ok(rows.len() as u64)
}

/// Queues the mails of a batch that was just released, or goes on after a crash.
pub async fn tell(app: &App, batch: BatchId, now: OffsetDateTime) -> Result<u64, StoreError> {
    let queued = queue(app, batch, Round::Issued, now).await?;
    sqlx::query("UPDATE notice_batches SET mailed_ms = $1 WHERE id = $2 AND mailed_ms IS NULL")
        .bind(unix_ms(now))
        .bind(batch.to_string())
        .execute(app.db.pool())
        .await
        .map_err(StoreError::doing("note that a batch was told of"))?;
    Ok(queued)
}

/// Says whether staff sent reminders on this day already.
pub async fn was_reminded(db: &Db, batch: BatchId, day: Date) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 AS found FROM notice_mails WHERE batch_id = $1 AND round = $2 LIMIT 1",
    )
    .bind(batch.to_string())
    .bind(Round::Manual(day).code())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("look for reminders"))?;
    Ok(row.is_some())
}

/// Returns when people were told of a batch: the round's word, when it began, how many.
pub async fn rounds(
    db: &Db,
    batch: &Batch,
) -> Result<Vec<(String, OffsetDateTime, u64)>, StoreError> {
    let rows = sqlx::query(
        "SELECT round, MIN(queued_ms) AS at_ms, COUNT(*) AS people FROM notice_mails
          WHERE batch_id = $1 GROUP BY round ORDER BY MIN(queued_ms), round",
    )
    .bind(batch.id.to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list rounds of mails"))?;
    rows.iter()
        .map(|row| {
            Ok((
                row.text("round")?,
                row.moment("at_ms")?,
                row.count("people")?,
            ))
        })
        .collect()
}

/// Does what is due: mails that a crash left out, reminders, batches that nobody released.
/// Called every hour and at the start.
///
/// # Errors
/// [`StoreError`]; the next call goes on.
pub async fn tidy(app: &App, now: OffsetDateTime) -> Result<(), StoreError> {
    for id in ids(app, "mailed_ms IS NULL", 0, now).await? {
        tell(app, id, now).await?;
    }
    let due = ids(
        app,
        "reminded_ms IS NULL",
        unix_ms(now - REMIND_WITHIN),
        now,
    )
    .await?;
    if !due.is_empty() {
        let mut connection = app
            .db
            .pool()
            .acquire()
            .await
            .map_err(StoreError::doing("ask"))?;
        let entries = calendar::store::entries(&mut connection).await?;
        drop(connection);
        let calendar = entries.calendar(app.config.rehearsal);
        for id in due {
            remind_if_due(app, &calendar, id, now).await?;
        }
    }
    loop {
        let mut tx = app.db.begin().await?;
        let Some((id, documents)) = super::store::expire_one(&mut tx, now).await? else {
            return Ok(());
        };
        let act = Act::BatchDiscarded(id);
        audit::record(&mut tx, &app.keys, &Actor::System, act, now).await?;
        Db::commit(tx).await?;
        custody::remove_objects(app, documents).await;
    }
}

/// Released batches with something left to do.
async fn ids(
    app: &App,
    what: &'static str,
    since_ms: i64,
    now: OffsetDateTime,
) -> Result<Vec<BatchId>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT id FROM notice_batches
          WHERE state = $1 AND {what} AND released_ms > $2 AND released_ms <= $3
          ORDER BY released_ms"
    )))
    .bind(State::Released.code())
    .bind(since_ms)
    .bind(unix_ms(now))
    .fetch_all(app.db.pool())
    .await
    .map_err(StoreError::doing("look for batches with something to do"))?;
    rows.iter().map(|row| row.parsed("id")).collect()
}

async fn remind_if_due(
    app: &App,
    calendar: &Calendar,
    id: BatchId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT released_ms FROM notice_batches WHERE id = $1")
        .bind(id.to_string())
        .fetch_one(app.db.pool())
        .await
        .map_err(StoreError::doing("read when a batch was released"))?;
    if !is_reminder_due(calendar, row.moment("released_ms")?, now) {
        return Ok(());
    }
    let queued = queue(app, id, Round::Automatic, now).await?;
    let mut tx = app.db.begin().await?;
    let marked = sqlx::query(
        "UPDATE notice_batches SET reminded_ms = $1 WHERE id = $2 AND reminded_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(id.to_string())
    .execute(&mut *tx)
    .await
    .map_err(StoreError::doing("note that a batch was reminded of"))?
    .rows_affected();
    if marked == 1 {
        let act = Act::BatchReminded(id, "automatic");
        let details = json!({ "mails": queued });
        audit::record_with(&mut tx, &app.keys, &Actor::System, act, "", &details, now).await?;
    }
    Db::commit(tx).await
}

/// Whether it is the hour for automatic reminders: the office is open, and enough working
/// days have begun since the release.
fn is_reminder_due(calendar: &Calendar, released: OffsetDateTime, now: OffsetDateTime) -> bool {
    let is_open = |at: OffsetDateTime| matches!(calendar.opening(at), access::Opening::Open { .. });
    if !is_open(now) {
        return false;
    }
    let (first, today) = (released.to_offset(JST).date(), now.to_offset(JST).date());
    // Within an opening day the calendar is open at the hour it is open today.
    let hour = now.to_offset(JST).time();
    let mut working = 0;
    let mut day = first;
    while day < today {
        let Some(next) = day.next_day() else {
            return false;
        };
        day = next;
        working += usize::from(is_open(day.with_time(hour).assume_offset(JST)));
    }
    working >= REMIND_AFTER_WORKING_DAYS
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn the_fifth_working_day_is_counted_over_weekends_and_holidays() {
        let calendar = Calendar::default();
        // Thursday 2026-11-12; 2026-11-23 is a holiday.
        let released = datetime!(2026-11-12 15:00 +9);
        for (now, due) in [
            (datetime!(2026-11-18 19:59 +9), false),
            (datetime!(2026-11-19 7:59 +9), false),
            (datetime!(2026-11-19 8:00 +9), true),
            (datetime!(2026-11-21 9:00 +9), false),
        ] {
            assert_eq!(is_reminder_due(&calendar, released, now), due, "{now}");
        }
        let released = datetime!(2026-11-18 15:00 +9);
        assert!(!is_reminder_due(
            &calendar,
            released,
            datetime!(2026-11-25 9:00 +9)
        ));
        assert!(is_reminder_due(
            &calendar,
            released,
            datetime!(2026-11-26 9:00 +9)
        ));
    }
}
