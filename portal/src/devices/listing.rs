//! Lists of PCs for the office's pages.

use protocol::{DeviceId, EstablishmentNumber};
use sqlx::Row as _;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use crate::clock::{from_unix_ms, unix_ms};
use crate::db::{Db, StoreError, Tx};
use crate::establishments::store::number_from_row;
use crate::ids::EstablishmentId;

/// PCs that a list shows at most; a fund has about five hundred.
const LIST_LIMIT: i64 = 5_000;

/// A PC in the office's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Names it.
    pub id: DeviceId,
    /// Whose PC.
    pub establishment: EstablishmentId,
    /// The establishment's number.
    pub number: EstablishmentNumber,
    /// The establishment's name.
    pub establishment_name: String,
    /// The user's name.
    pub user_name: String,
    /// The PC's name.
    pub name: String,
    /// Its operating system.
    pub os: String,
    /// When it was approved.
    pub approved: OffsetDateTime,
    /// When it last asked for a session.
    pub seen: Option<OffsetDateTime>,
    /// Until when it is connected, if it is.
    pub connected_until: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked: Option<OffsetDateTime>,
    /// Why it was revoked.
    pub revoke_reason: String,
}

/// The statement of both lists, ended by a condition.
const LISTED: &str = "SELECT d.id, d.establishment_id, e.number, e.name AS establishment_name,
            u.name AS user_name, d.name, d.os, d.approved_ms, d.seen_ms, d.revoked_ms,
            d.revoke_reason, t.deadline_ms
       FROM devices d
       JOIN establishments e ON e.id = d.establishment_id
       JOIN users u ON u.id = d.user_id
       LEFT JOIN tunnel_sessions t
              ON t.device_id = d.id AND t.ended_ms IS NULL AND t.deadline_ms > $1";

/// All PCs that are registered, by establishment.
pub async fn registered(db: &Db, now: OffsetDateTime) -> Result<Vec<Listed>, StoreError> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "{LISTED} WHERE d.revoked_ms IS NULL ORDER BY e.number, d.approved_ms LIMIT $2"
    )))
    .bind(unix_ms(now))
    .bind(LIST_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list PCs"))?
    .iter()
    .map(read)
    .collect()
}

/// One PC, revoked or not.
pub async fn find(
    db: &Db,
    id: DeviceId,
    now: OffsetDateTime,
) -> Result<Option<Listed>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("{LISTED} WHERE d.id = $2")))
        .bind(unix_ms(now))
        .bind(id.to_string())
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("find a PC"))?;
    row.as_ref().map(read).transpose()
}

/// The mail address of a PC's user, to tell that it was approved.
pub async fn mail_address(tx: &mut Tx, id: DeviceId) -> Result<Option<String>, StoreError> {
    sqlx::query_scalar(
        "SELECT u.email FROM devices d JOIN users u ON u.id = d.user_id WHERE d.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("find the address of a PC's user"))
}

fn read(row: &AnyRow) -> Result<Listed, StoreError> {
    fn text(row: &AnyRow, column: &'static str) -> Result<String, StoreError> {
        row.try_get(column).map_err(StoreError::doing("read a PC"))
    }
    fn at(row: &AnyRow, column: &'static str) -> Result<Option<OffsetDateTime>, StoreError> {
        let ms: Option<i64> = row
            .try_get(column)
            .map_err(StoreError::doing("read a PC"))?;
        Ok(ms.map(from_unix_ms))
    }
    let number: i64 = row
        .try_get("number")
        .map_err(StoreError::doing("read a PC"))?;
    let reason: Option<String> = row
        .try_get("revoke_reason")
        .map_err(StoreError::doing("read a PC"))?;
    Ok(Listed {
        id: text(row, "id")?
            .parse()
            .map_err(|_| StoreError::Unreadable { what: "device id" })?,
        establishment: text(row, "establishment_id")?.parse().map_err(|_| {
            StoreError::Unreadable {
                what: "establishment id",
            }
        })?,
        number: number_from_row(number)?,
        establishment_name: text(row, "establishment_name")?,
        user_name: text(row, "user_name")?,
        name: text(row, "name")?,
        os: text(row, "os")?,
        approved: at(row, "approved_ms")?.unwrap_or(OffsetDateTime::UNIX_EPOCH),
        seen: at(row, "seen_ms")?,
        connected_until: at(row, "deadline_ms")?,
        revoked: at(row, "revoked_ms")?,
        revoke_reason: reason.unwrap_or_default(),
    })
}
