//! 取下げの依頼: an establishment wants back what is in review already, and the reviewer
//! answers. What waits for an answer is neither decided nor returned.

use time::OffsetDateTime;

use super::talk::Text;
use crate::clock::unix_ms;
use crate::custody::texts::{self, Reader};
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::filings::{Filing, StepError};
use crate::ids::{FilingId, RowId};
use crate::keys::MasterKey;
use crate::web::principals::{Member, Reviewer};

/// A request that nobody has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// When it was asked.
    pub asked: OffsetDateTime,
    /// Who asked.
    pub asked_by: String,
    /// Why.
    pub reason: String,
}

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The filing is withdrawn.
    Granted,
    /// The review goes on.
    Declined,
    /// The filing came back to the queue, and the establishment withdrew it itself.
    Moot,
}

impl Answer {
    fn code(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Declined => "declined",
            Self::Moot => "moot",
        }
    }
}

fn place(id: RowId) -> String {
    texts::place("withdrawal_requests", id)
}

/// Writes the request of a member, if the filing is still in review and none is open.
pub async fn ask(
    tx: &mut Tx,
    keys: &MasterKey,
    member: &Member,
    filing: &Filing,
    reason: &Text,
    now: OffsetDateTime,
) -> Result<Result<(), StepError>, StoreError> {
    // Holds the row: a decision that comes at the same time sees the request or is seen.
    let held = sqlx::query(
        "UPDATE filings SET state = state
          WHERE id = $1 AND establishment_id = $2 AND state = 'in_review'",
    )
    .bind(filing.id.to_string())
    .bind(member.establishment().to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("hold a filing to be withdrawn"))?
    .rows_affected();
    if held != 1 {
        return Ok(Err(StepError::Moved));
    }
    let id = RowId::new();
    let Some(sealed) = texts::seal(tx, keys, filing.id, &place(id), reason.as_str()).await? else {
        return Ok(Err(StepError::Moved));
    };
    let written = sqlx::query(
        "INSERT INTO withdrawal_requests (id, filing_id, asked_ms, asked_by, reason_sealed)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(id.to_string())
    .bind(filing.id.to_string())
    .bind(unix_ms(now))
    .bind(member.user().to_string())
    .bind(sealed)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write a request to withdraw"))?
    .rows_affected();
    Ok(if written == 1 {
        Ok(())
    } else {
        Err(StepError::Moved)
    })
}

/// The open request about a filing that the caller has found.
pub async fn open(
    db: &Db,
    keys: &MasterKey,
    filing: &Filing,
) -> Result<Option<Request>, StoreError> {
    let row = sqlx::query(
        "SELECT w.id, w.asked_ms, w.reason_sealed, u.name AS asked_by
           FROM withdrawal_requests w JOIN users u ON u.id = w.asked_by
          WHERE w.filing_id = $1 AND w.answered_ms IS NULL",
    )
    .bind(filing.id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find a request to withdraw"))?;
    let Some(row) = row else { return Ok(None) };
    let reader = Reader::of(db, keys, filing.establishment).await?;
    let reason = reader.open(&place(row.parsed("id")?), &row.text("reason_sealed")?)?;
    Ok(Some(Request {
        asked: row.moment("asked_ms")?,
        asked_by: row.text("asked_by")?,
        reason,
    }))
}

/// Says whether a request waits for its answer. Ask after the filing's row was written, in the
/// same transaction: then no request slips in between.
pub async fn is_open(tx: &mut Tx, filing: FilingId) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 AS open FROM withdrawal_requests WHERE filing_id = $1 AND answered_ms IS NULL",
    )
    .bind(filing.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("look for a request to withdraw"))?;
    Ok(row.is_some())
}

/// Answers the open request. Returns whether there was one.
pub async fn answer(
    tx: &mut Tx,
    filing: FilingId,
    reviewer: Option<&Reviewer>,
    answer: Answer,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let answered = sqlx::query(
        "UPDATE withdrawal_requests SET answered_ms = $1, answered_by = $2, answer = $3
          WHERE filing_id = $4 AND answered_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(reviewer.map(|reviewer| reviewer.id().to_string()))
    .bind(answer.code())
    .bind(filing.to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("answer a request to withdraw"))?;
    Ok(answered.rows_affected() == 1)
}
