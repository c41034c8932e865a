//! Who is to be reminded, who was, and who does not want to be.

use time::OffsetDateTime;

use super::Due;
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::ids::UserId;
use crate::web::principals::Member;

/// Whether a user gets reminders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// As everybody does from the beginning.
    Wanted,
    /// Switched off.
    Unwanted,
}

/// The users who are to get a reminder and have not: everybody who may file for an
/// establishment that is in use. Somebody who works for several of them gets one mail.
pub(super) async fn to_remind(tx: &mut Tx, due: &Due) -> Result<Vec<(UserId, String)>, StoreError> {
    let rows = sqlx::query(
        "SELECT u.id, u.email FROM users u
          WHERE u.disabled_ms IS NULL
            AND EXISTS (SELECT 1 FROM memberships m
                          JOIN establishments e ON e.id = m.establishment_id
                         WHERE m.user_id = u.id AND m.ended_ms IS NULL AND e.suspended_ms IS NULL
                           AND (m.role = 'admin' OR m.permissions LIKE '%file%'))
            AND NOT EXISTS (SELECT 1 FROM reminders_off o WHERE o.user_id = u.id)
            AND NOT EXISTS (SELECT 1 FROM reminders r
                             WHERE r.user_id = u.id AND r.deadline = $1 AND r.step = $2)
          ORDER BY u.id",
    )
    .bind(due.last.day.to_string())
    .bind(due.step.code())
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("find users to remind"))?;
    rows.iter()
        .map(|row| Ok((row.parsed("id")?, row.text("email")?)))
        .collect()
}

/// Remembers a reminder. Returns whether nobody else did before.
pub(super) async fn remember(
    tx: &mut Tx,
    user: UserId,
    due: &Due,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let written = sqlx::query(
        "INSERT INTO reminders (user_id, deadline, step, queued_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(user.to_string())
    .bind(due.last.day.to_string())
    .bind(due.step.code())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("remember a reminder"))?;
    Ok(written.rows_affected() == 1)
}

/// What a member has chosen.
pub async fn wish(db: &Db, member: &Member) -> Result<Wish, StoreError> {
    let row = sqlx::query("SELECT since_ms FROM reminders_off WHERE user_id = $1")
        .bind(member.user().to_string())
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("read a wish about reminders"))?;
    Ok(match row {
        Some(_) => Wish::Unwanted,
        None => Wish::Wanted,
    })
}

/// Writes what a member chooses.
pub async fn choose(
    tx: &mut Tx,
    member: &Member,
    wish: Wish,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let statement = match wish {
        Wish::Wanted => sqlx::query("DELETE FROM reminders_off WHERE user_id = $1")
            .bind(member.user().to_string()),
        Wish::Unwanted => sqlx::query(
            "INSERT INTO reminders_off (user_id, since_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .bind(member.user().to_string())
        .bind(unix_ms(now)),
    };
    statement
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("write a wish about reminders"))
}
