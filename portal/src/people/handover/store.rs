//! Hand-overs in the database.

use time::OffsetDateTime;

use super::{LeaverBecomes, VALIDITY};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{StoreError, Tx};
use crate::ids::{EstablishmentId, RowId, UserId};
use crate::web::principals::Member;

/// A hand-over that waits for the successor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// Its row.
    pub id: RowId,
    /// The admin who hands over.
    pub leaver: UserId,
    /// His name.
    pub leaver_name: String,
    /// Who takes over.
    pub successor: UserId,
    /// His name.
    pub successor_name: String,
    /// What becomes of the leaver.
    pub becomes: LeaverBecomes,
    /// Until when it can be accepted.
    pub expires: OffsetDateTime,
}

/// The hand-over of an establishment that is open at `now`.
pub async fn find_open(
    tx: &mut Tx,
    establishment: EstablishmentId,
    now: OffsetDateTime,
) -> Result<Option<Handover>, StoreError> {
    let row = sqlx::query(
        "SELECT h.id, h.leaver_id, l.name AS leaver_name, h.successor_id,
                s.name AS successor_name, h.leaver_becomes, h.expires_ms
           FROM handovers h
           JOIN users l ON l.id = h.leaver_id
           JOIN users s ON s.id = h.successor_id
          WHERE h.establishment_id = $1 AND h.closed_ms IS NULL AND h.expires_ms > $2",
    )
    .bind(establishment.to_string())
    .bind(unix_ms(now))
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("find an open hand-over"))?;
    let Some(row) = row else { return Ok(None) };
    let becomes = row.text("leaver_becomes")?;
    Ok(Some(Handover {
        id: row.parsed("id")?,
        leaver: row.parsed("leaver_id")?,
        leaver_name: row.text("leaver_name")?,
        successor: row.parsed("successor_id")?,
        successor_name: row.text("successor_name")?,
        becomes: LeaverBecomes::from_word(&becomes).ok_or(StoreError::Unreadable {
            what: "leaver_becomes",
        })?,
        expires: row.moment("expires_ms")?,
    }))
}

/// Closes what nobody accepted in time.
pub(super) async fn close_expired(
    tx: &mut Tx,
    establishment: EstablishmentId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE handovers SET closed_ms = expires_ms, outcome = 'withdrawn'
          WHERE establishment_id = $1 AND closed_ms IS NULL AND expires_ms <= $2",
    )
    .bind(establishment.to_string())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("close expired hand-overs"))
}

pub(super) async fn add(
    tx: &mut Tx,
    id: RowId,
    leaver: &Member,
    successor: UserId,
    becomes: LeaverBecomes,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO handovers (id, establishment_id, leaver_id, successor_id, leaver_becomes,
                                proposed_ms, expires_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id.to_string())
    .bind(leaver.establishment().to_string())
    .bind(leaver.user().to_string())
    .bind(successor.to_string())
    .bind(becomes.as_str())
    .bind(unix_ms(now))
    .bind(unix_ms(now + VALIDITY))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write a hand-over"))
}

pub(super) async fn close(
    tx: &mut Tx,
    id: RowId,
    outcome: &'static str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE handovers SET closed_ms = $1, outcome = $2 WHERE id = $3")
        .bind(unix_ms(now))
        .bind(outcome)
        .bind(id.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("close a hand-over"))
}
