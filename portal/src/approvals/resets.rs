//! Resets of sign-ins that a second person has approved, and that wait to be carried out.
//!
//! A new password is shown once, to the one who prints the letter or hands over the slip: not to
//! who approves. So the approval only allows it, for [`VALIDITY`], and [`take`] uses the
//! permission up in the transaction that sets the password. Until then nothing has changed for
//! the account.

use time::{Duration, OffsetDateTime};

use super::{Approval, Kind};
use crate::clock::unix_ms;
use crate::db::{Db, StoreError, Tx};

/// How long an approved reset waits to be carried out.
pub const VALIDITY: Duration = Duration::days(7);

/// Allows what was approved.
pub(super) async fn allow(
    tx: &mut Tx,
    approval: &Approval,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO approved_resets (id, kind, subject, expires_ms) VALUES ($1, $2, $3, $4)",
    )
    .bind(approval.id.to_string())
    .bind(approval.kind.as_str())
    .bind(approval.subject.as_str())
    .bind(unix_ms(now + VALIDITY))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("allow a reset"))
}

/// Says whether a reset is allowed and waits to be carried out.
pub async fn is_allowed(
    db: &Db,
    kind: Kind,
    subject: &str,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "SELECT id FROM approved_resets
          WHERE kind = $1 AND subject = $2 AND used_ms IS NULL AND expires_ms > $3 LIMIT 1",
    )
    .bind(kind.as_str())
    .bind(subject)
    .bind(unix_ms(now))
    .fetch_optional(db.pool())
    .await
    .map(|row| row.is_some())
    .map_err(StoreError::doing("look for an allowed reset"))
}

/// Uses the permission up: of any number of parallel tries one gets it.
pub async fn take(
    tx: &mut Tx,
    kind: Kind,
    subject: &str,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE approved_resets SET used_ms = $1
          WHERE kind = $2 AND subject = $3 AND used_ms IS NULL AND expires_ms > $1",
    )
    .bind(unix_ms(now))
    .bind(kind.as_str())
    .bind(subject)
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() > 0)
    .map_err(StoreError::doing("carry out an allowed reset"))
}
