//! A filing and the corrected ones that took each other's place: both sides see all of them.

use time::OffsetDateTime;

use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError};
use crate::filings::Filing;
use crate::ids::FilingId;

/// Links of a chain that are shown, at most.
const LINKS_LIMIT: i64 = 50;

/// One filing of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The filing.
    pub id: FilingId,
    /// Its receipt's number.
    pub receipt_number: String,
    /// When it was received.
    pub received: OffsetDateTime,
    /// The word of its state.
    pub state: String,
}

/// All filings of the chain that a filing stands in, oldest first; the caller has found the
/// filing. All belong to one establishment, for only its own filings can be replaced.
pub async fn of(db: &Db, filing: &Filing) -> Result<Vec<Link>, StoreError> {
    let rows = sqlx::query(
        "WITH RECURSIVE up (id, replaces_id) AS (
             SELECT f.id, f.replaces_id FROM filings f WHERE f.id = $1
             UNION SELECT f.id, f.replaces_id FROM filings f JOIN up ON f.id = up.replaces_id
         ), down (id) AS (
             SELECT up.id FROM up WHERE up.replaces_id IS NULL
             UNION SELECT f.id FROM filings f JOIN down ON f.replaces_id = down.id
         )
         SELECT f.id, f.state, f.received_ms, s.receipt_number
           FROM down
           JOIN filings f ON f.id = down.id
           JOIN submissions s ON s.id = f.submission_id
          ORDER BY f.received_ms, f.id LIMIT $2",
    )
    .bind(filing.id.to_string())
    .bind(LINKS_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("read a chain of filings"))?;
    rows.iter()
        .map(|row| {
            Ok(Link {
                id: row.parsed("id")?,
                receipt_number: row.text("receipt_number")?,
                received: row.moment("received_ms")?,
                state: row.text("state")?,
            })
        })
        .collect()
}
