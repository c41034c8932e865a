//! Staff accounts in the database.

use sqlx::Row as _;
use time::OffsetDateTime;

use super::NewStaff;
use crate::clock::unix_ms;
use crate::db::{Db, StoreError, Tx};
use crate::ids::StaffId;

/// A staff account, as signing in needs it.
#[derive(Clone)]
pub struct Account {
    /// The account.
    pub id: StaffId,
    /// PHC string.
    pub password_hash: String,
    /// For [`crate::authenticator::Authenticator::open`].
    pub totp_sealed: String,
}

pub(super) async fn add(
    tx: &mut Tx,
    id: StaffId,
    new: &NewStaff,
    totp_sealed: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO staff (id, user_id, name, role, password_hash, totp_sealed, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id.to_string())
    .bind(new.login.as_str())
    .bind(new.name.as_str())
    .bind(new.role.as_str())
    .bind(new.password_hash.as_str())
    .bind(totp_sealed)
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write staff"))
}

/// Finds the account behind a typed user ID, if it is in use.
pub async fn find_account(db: &Db, user_id: &str) -> Result<Option<Account>, StoreError> {
    let row = sqlx::query(
        "SELECT id, password_hash, totp_sealed FROM staff
          WHERE user_id = $1 AND disabled_ms IS NULL",
    )
    .bind(user_id)
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find staff account"))?;
    let Some(row) = row else { return Ok(None) };
    let read = || -> Result<(String, String, String), sqlx::Error> {
        Ok((
            row.try_get("id")?,
            row.try_get("password_hash")?,
            row.try_get("totp_sealed")?,
        ))
    };
    let (id, password_hash, totp_sealed) =
        read().map_err(StoreError::doing("read staff account"))?;
    Ok(Some(Account {
        id: id
            .parse()
            .map_err(|_| StoreError::Unreadable { what: "staff id" })?,
        password_hash,
        totp_sealed,
    }))
}

/// Takes a step of an authenticator, if it was not taken before, nor a later one.
pub async fn take_step(tx: &mut Tx, staff: StaffId, step: i64) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE staff SET totp_last_step = $1
          WHERE id = $2 AND (totp_last_step IS NULL OR totp_last_step < $1)",
    )
    .bind(step)
    .bind(staff.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("take an authenticator step of staff"))
}

/// Sets a password that staff chose.
pub(super) async fn set_password(
    tx: &mut Tx,
    staff: StaffId,
    hash: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE staff SET password_hash = $1 WHERE id = $2")
        .bind(hash)
        .bind(staff.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("set a staff password"))
}
