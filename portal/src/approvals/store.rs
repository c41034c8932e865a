//! Proposals in the database.

use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{Approval, Decision, Kind, Reason, VALIDITY};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::ids::{ApprovalId, StaffId};

/// Proposals that a page lists at most.
const LIST_LIMIT: i64 = 200;

const SELECT: &str = "SELECT a.id, a.kind, a.subject, a.reason, a.proposed_by, p.name AS proposer,
            a.proposed_ms, a.expires_ms, a.decided_ms, a.decision, d.name AS decider
       FROM approvals a
       JOIN staff p ON p.id = a.proposed_by
       LEFT JOIN staff d ON d.id = a.decided_by";

/// Closes what nobody decided in time, so that it can be proposed again.
pub(super) async fn close_expired(
    tx: &mut Tx,
    kind: Kind,
    subject: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE approvals SET decided_ms = expires_ms, decision = 'expired'
          WHERE kind = $1 AND subject = $2 AND decided_ms IS NULL AND expires_ms <= $3",
    )
    .bind(kind.as_str())
    .bind(subject.to_owned())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("close expired proposals"))
}

pub(super) async fn add(
    tx: &mut Tx,
    id: ApprovalId,
    kind: Kind,
    subject: &str,
    reason: &Reason,
    staff: StaffId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO approvals (id, kind, subject, reason, proposed_by, proposed_ms, expires_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id.to_string())
    .bind(kind.as_str())
    .bind(subject.to_owned())
    .bind(reason.as_str().to_owned())
    .bind(staff.to_string())
    .bind(unix_ms(now))
    .bind(unix_ms(now + VALIDITY))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write proposal"))
}

/// Decides what is open, in time and somebody else's. `false`: it is none of these.
pub(super) async fn decide(
    tx: &mut Tx,
    id: ApprovalId,
    decision: Decision,
    staff: StaffId,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE approvals SET decided_by = $1, decided_ms = $2, decision = $3
          WHERE id = $4 AND decided_ms IS NULL AND expires_ms > $2 AND proposed_by <> $1",
    )
    .bind(staff.to_string())
    .bind(unix_ms(now))
    .bind(decision.as_str())
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("decide proposal"))
}

/// Takes back what is open and one's own.
pub(super) async fn withdraw(
    tx: &mut Tx,
    id: ApprovalId,
    staff: StaffId,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE approvals SET decided_by = $1, decided_ms = $2, decision = 'withdrawn'
          WHERE id = $3 AND decided_ms IS NULL AND proposed_by = $1",
    )
    .bind(staff.to_string())
    .bind(unix_ms(now))
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("withdraw proposal"))
}

pub(super) async fn find(tx: &mut Tx, id: ApprovalId) -> Result<Option<Approval>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("{SELECT} WHERE a.id = $1")))
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("find proposal"))?;
    row.as_ref().map(read).transpose()
}

/// What can be decided now, the oldest first.
pub async fn open(db: &Db, now: OffsetDateTime) -> Result<Vec<Approval>, StoreError> {
    list(
        db,
        "WHERE a.decided_ms IS NULL AND a.expires_ms > $1 ORDER BY a.proposed_ms LIMIT $2",
        now,
    )
    .await
}

/// What is over, the latest first.
pub async fn closed(db: &Db, now: OffsetDateTime) -> Result<Vec<Approval>, StoreError> {
    list(
        db,
        "WHERE a.decided_ms IS NOT NULL OR a.expires_ms <= $1
         ORDER BY a.proposed_ms DESC LIMIT $2",
        now,
    )
    .await
}

/// The proposal about a subject that can be decided now, for the subject's own page.
pub async fn open_about(
    db: &Db,
    kind: Kind,
    subject: &str,
    now: OffsetDateTime,
) -> Result<Option<Approval>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "{SELECT} WHERE a.kind = $1 AND a.subject = $2 AND a.decided_ms IS NULL
            AND a.expires_ms > $3"
    )))
    .bind(kind.as_str())
    .bind(subject.to_owned())
    .bind(unix_ms(now))
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find proposal of a subject"))?;
    row.as_ref().map(read).transpose()
}

async fn list(
    db: &Db,
    condition: &'static str,
    now: OffsetDateTime,
) -> Result<Vec<Approval>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{SELECT} {condition}")))
        .bind(unix_ms(now))
        .bind(LIST_LIMIT)
        .fetch_all(db.pool())
        .await
        .map_err(StoreError::doing("list proposals"))?;
    rows.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<Approval, StoreError> {
    let unreadable = |what| move || StoreError::Unreadable { what };
    let expires = row.moment("expires_ms")?;
    let decided = match (row.moment_if("decided_ms")?, row.text_if("decision")?) {
        (Some(at), Some(word)) => {
            let decision = Decision::from_word(&word).ok_or_else(unreadable("decision"))?;
            Some((decision, at, row.text_if("decider")?))
        }
        (_, _) => None,
    };
    Ok(Approval {
        id: row.parsed("id")?,
        kind: Kind::from_word(&row.text("kind")?).ok_or_else(unreadable("kind of proposal"))?,
        subject: row.text("subject")?,
        reason: row.text("reason")?,
        proposed_by: row.parsed("proposed_by")?,
        proposer: row.text("proposer")?,
        proposed: row.moment("proposed_ms")?,
        expires,
        decided,
    })
}
