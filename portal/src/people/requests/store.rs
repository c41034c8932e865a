//! Requests to the fund in the database.

use protocol::EstablishmentNumber;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{Decision, Wish};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::establishments::store::number_from_row;
use crate::establishments::{DeviceLimit, Name};
use crate::ids::{EstablishmentId, RowId};
use crate::web::principals::{Member, Reviewer};

/// Requests that a list shows at most.
const LIST_LIMIT: i64 = 200;

/// A request, for pages.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its row.
    pub id: RowId,
    /// Who asks.
    pub establishment: EstablishmentId,
    /// The establishment's number.
    pub number: EstablishmentNumber,
    /// The establishment's name now.
    pub establishment_name: String,
    /// How many PCs it may have now.
    pub device_limit: i64,
    /// The admin who asked.
    pub user_name: String,
    /// What for.
    pub wish: Wish,
    /// Why.
    pub reason: String,
    /// When.
    pub asked: OffsetDateTime,
    /// When it was decided.
    pub decided: Option<OffsetDateTime>,
    /// What was decided.
    pub decision: Option<Decision>,
    /// What staff answered.
    pub answer: String,
}

/// A request that was just decided.
pub(super) struct Decided {
    pub(super) establishment: EstablishmentId,
    pub(super) wish: Wish,
}

/// The statement of all lists, ended by a condition.
const REQUEST: &str = "SELECT r.id, r.establishment_id, e.number, e.name, e.device_limit,
            u.name AS user_name, r.kind, r.wanted, r.reason, r.asked_ms, r.decided_ms,
            r.decision, r.answer
       FROM admin_requests r
       JOIN establishments e ON e.id = r.establishment_id
       JOIN users u ON u.id = r.user_id";

/// The requests that wait for staff, the oldest first.
pub async fn open(db: &Db) -> Result<Vec<Request>, StoreError> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "{REQUEST} WHERE r.decided_ms IS NULL ORDER BY r.asked_ms, r.id LIMIT $1"
    )))
    .bind(LIST_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list open requests"))?
    .iter()
    .map(read)
    .collect()
}

/// What was decided last.
pub async fn decided(db: &Db) -> Result<Vec<Request>, StoreError> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "{REQUEST} WHERE r.decided_ms IS NOT NULL ORDER BY r.decided_ms DESC, r.id LIMIT $1"
    )))
    .bind(LIST_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list decided requests"))?
    .iter()
    .map(read)
    .collect()
}

/// An establishment's own requests, the newest first.
pub async fn of_establishment(db: &Db, member: &Member) -> Result<Vec<Request>, StoreError> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "{REQUEST} WHERE r.establishment_id = $1 ORDER BY r.asked_ms DESC, r.id LIMIT $2"
    )))
    .bind(member.establishment().to_string())
    .bind(LIST_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list an establishment's requests"))?
    .iter()
    .map(read)
    .collect()
}

fn wish_of(row: &AnyRow) -> Result<Wish, StoreError> {
    Wish::read(&row.text("kind")?, &row.text("wanted")?)
        .map_err(|_| StoreError::Unreadable { what: "request" })
}

fn read(row: &AnyRow) -> Result<Request, StoreError> {
    let decision = match row.text_if("decision")?.as_deref() {
        None => None,
        Some("approved") => Some(Decision::Approved),
        Some("refused") => Some(Decision::Refused),
        Some(_) => return Err(StoreError::Unreadable { what: "decision" }),
    };
    Ok(Request {
        id: row.parsed("id")?,
        establishment: row.parsed("establishment_id")?,
        number: number_from_row(row.number("number")?)?,
        establishment_name: row.text("name")?,
        device_limit: row.number("device_limit")?,
        user_name: row.text("user_name")?,
        wish: wish_of(row)?,
        reason: row.text("reason")?,
        asked: row.moment("asked_ms")?,
        decided: row.moment_if("decided_ms")?,
        decision,
        answer: row.text_if("answer")?.unwrap_or_default(),
    })
}

/// Writes a request, or changes the open one of its kind; returns its row.
pub(super) async fn put(
    tx: &mut Tx,
    member: &Member,
    wish: &Wish,
    reason: &str,
    now: OffsetDateTime,
) -> Result<RowId, StoreError> {
    let changed = sqlx::query(
        "UPDATE admin_requests SET user_id = $1, wanted = $2, reason = $3, asked_ms = $4
          WHERE establishment_id = $5 AND kind = $6 AND decided_ms IS NULL
         RETURNING id",
    )
    .bind(member.user().to_string())
    .bind(wish.wanted())
    .bind(reason)
    .bind(unix_ms(now))
    .bind(member.establishment().to_string())
    .bind(wish.kind())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("change an open request"))?;
    if let Some(row) = changed {
        return row.parsed("id");
    }
    let id = RowId::new();
    sqlx::query(
        "INSERT INTO admin_requests (id, establishment_id, user_id, kind, wanted, reason, asked_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id.to_string())
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .bind(wish.kind())
    .bind(wish.wanted())
    .bind(reason)
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write a request"))?;
    Ok(id)
}

/// Decides a request, if nobody has yet.
pub(super) async fn close(
    tx: &mut Tx,
    id: RowId,
    reviewer: &Reviewer,
    decision: Decision,
    answer: &str,
    now: OffsetDateTime,
) -> Result<Option<Decided>, StoreError> {
    let row = sqlx::query(
        "UPDATE admin_requests SET decided_ms = $1, decided_by = $2, decision = $3, answer = $4
          WHERE id = $5 AND decided_ms IS NULL
         RETURNING establishment_id, kind, wanted",
    )
    .bind(unix_ms(now))
    .bind(reviewer.id().to_string())
    .bind(decision.as_str())
    .bind(answer)
    .bind(id.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("decide a request"))?;
    row.map(|row| {
        Ok(Decided {
            establishment: row.parsed("establishment_id")?,
            wish: wish_of(&row)?,
        })
    })
    .transpose()
}

pub(super) async fn set_name(
    tx: &mut Tx,
    establishment: EstablishmentId,
    name: &Name,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE establishments SET name = $1 WHERE id = $2")
        .bind(name.as_str())
        .bind(establishment.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("change an establishment's name"))
}

pub(super) async fn set_device_limit(
    tx: &mut Tx,
    establishment: EstablishmentId,
    limit: DeviceLimit,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE establishments SET device_limit = $1 WHERE id = $2")
        .bind(i64::from(limit.as_u16()))
        .bind(establishment.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("change a device limit"))
}
