//! Who has which case: whom a supervisor can give one to, and what becomes of the cases of a
//! colleague whose account is disabled.
//!
//! No case is orphaned: [`free_cases_of`] runs in the transaction that disables an account, and
//! [`take_from_the_gone`] lets a case be taken all the same if somebody disabled one otherwise.

use time::OffsetDateTime;

use crate::audit::{self, Act, Actor};
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::filings::store::{self, ActorSide};
use crate::filings::{Filing, State};
use crate::ids::{FilingId, StaffId};
use crate::keys::MasterKey;
use crate::web::principals::Reviewer;

/// Who acts in a timeline when nobody does.
const SYSTEM: &str = "（自動）";

/// A colleague who can have cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The account.
    pub id: StaffId,
    /// The name.
    pub name: String,
    /// How many cases are in review by the colleague now.
    pub cases: u64,
}

/// Everybody who can have cases, by name.
pub async fn candidates(db: &Db, _: &Reviewer) -> Result<Vec<Candidate>, StoreError> {
    let rows = sqlx::query(
        "SELECT s.id, s.name, (SELECT COUNT(*) FROM filings f WHERE f.reviewer_id = s.id
                   AND f.state IN ('received', 'in_review')) AS cases
           FROM staff s
          WHERE s.disabled_ms IS NULL AND s.role IN ('reviewer', 'supervisor')
          ORDER BY s.name, s.id",
    )
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list reviewers"))?;
    rows.iter()
        .map(|row| {
            Ok(Candidate {
                id: row.parsed("id")?,
                name: row.text("name")?,
                cases: row.count("cases")?,
            })
        })
        .collect()
}

/// The name of somebody who can have cases now. Locks the account until the transaction ends,
/// so that it is not disabled meanwhile.
pub async fn candidate(tx: &mut Tx, staff: StaffId) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(
        "UPDATE staff SET role = role
          WHERE id = $1 AND disabled_ms IS NULL AND role IN ('reviewer', 'supervisor')
          RETURNING name",
    )
    .bind(staff.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("find a reviewer"))?;
    row.map(|row| row.text("name")).transpose()
}

/// Gives the cases of an account back to the queue, in the transaction that disables it or
/// takes the role of a reviewer from it. Returns how many there were.
pub async fn free_cases_of(
    tx: &mut Tx,
    keys: &MasterKey,
    actor: &Actor,
    gone: StaffId,
    now: OffsetDateTime,
) -> Result<usize, StoreError> {
    let rows = sqlx::query(
        "SELECT id FROM filings WHERE reviewer_id = $1 AND state IN ('received', 'in_review')
          ORDER BY due_on, id",
    )
    .bind(gone.to_string())
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("find the cases of an account"))?;
    let mut freed = Vec::new();
    for row in &rows {
        let id: FilingId = row.parsed("id")?;
        let Some(filing) = store::find_any(tx, id).await? else {
            continue;
        };
        if free(tx, &filing, gone, now).await? {
            freed.push(id);
        }
    }
    for id in &freed {
        audit::record(tx, keys, actor, Act::FilingReleased(*id), now).await?;
    }
    Ok(freed.len())
}

/// Frees a case whose reviewer's account is disabled, so that `reviewer` can take it. Returns
/// the filing as it stands then.
pub async fn take_from_the_gone(
    tx: &mut Tx,
    _: &Reviewer,
    filing: Filing,
    now: OffsetDateTime,
) -> Result<Filing, StoreError> {
    let State::InReview { reviewer: holder } = filing.state else {
        return Ok(filing);
    };
    let gone = sqlx::query("SELECT 1 AS gone FROM staff WHERE id = $1 AND disabled_ms IS NOT NULL")
        .bind(holder.to_string())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("look whether a reviewer is gone"))?;
    if gone.is_none() || !free(tx, &filing, holder, now).await? {
        return Ok(filing);
    }
    let freed = store::find_any(tx, filing.id).await?;
    Ok(freed.unwrap_or(filing))
}

/// Says whether an account that has a case is disabled.
pub async fn is_gone(db: &Db, _: &Reviewer, holder: StaffId) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 AS gone FROM staff WHERE id = $1 AND disabled_ms IS NOT NULL")
        .bind(holder.to_string())
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("look whether a reviewer is gone"))?;
    Ok(row.is_some())
}

async fn free(
    tx: &mut Tx,
    filing: &Filing,
    gone: StaffId,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let Ok(step) = filing.free(gone, now) else {
        return Ok(false);
    };
    let saved = store::save(tx, &step, ActorSide::Staff, SYSTEM).await?;
    Ok(saved.is_ok())
}

#[cfg(test)]
mod tests;
