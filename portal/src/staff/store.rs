//! Staff accounts in the database.

use sqlx::Row as _;
use time::OffsetDateTime;

use super::{NewStaff, StaffRole};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
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

/// An account, for the list.
#[derive(Debug, Clone)]
pub struct Line {
    /// The account.
    pub id: StaffId,
    /// What is typed at sign-in.
    pub user_id: String,
    /// The name.
    pub name: String,
    /// The role.
    pub role: StaffRole,
    /// When it was made.
    pub added: OffsetDateTime,
    /// Since when it is out of use, if so.
    pub disabled: Option<OffsetDateTime>,
    /// Whether its owner has not set a password yet.
    pub waits_for_first_sign_in: bool,
    /// Whether a second person has still to approve it.
    pub awaits_second: bool,
}

/// Accounts that the list shows at most.
const LIST_LIMIT: i64 = 1_000;

/// All accounts, those in use first.
pub async fn list(db: &Db) -> Result<Vec<Line>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, user_id, name, role, created_ms, disabled_ms, password_is_initial_since_ms,
                awaits_second_ms
           FROM staff
          ORDER BY CASE WHEN disabled_ms IS NULL THEN 0 ELSE 1 END, created_ms, id LIMIT $1",
    )
    .bind(LIST_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list staff"))?;
    rows.iter()
        .map(|row| {
            let role = StaffRole::from_word(&row.text("role")?);
            Ok(Line {
                id: row.parsed("id")?,
                user_id: row.text("user_id")?,
                name: row.text("name")?,
                role: role.ok_or(StoreError::Unreadable { what: "staff role" })?,
                added: row.moment("created_ms")?,
                disabled: row.moment_if("disabled_ms")?,
                waits_for_first_sign_in: row.number_if("password_is_initial_since_ms")?.is_some(),
                awaits_second: row.number_if("awaits_second_ms")?.is_some(),
            })
        })
        .collect()
}

/// The role of an account that is in use.
pub(super) async fn role_in_use(tx: &mut Tx, id: StaffId) -> Result<Option<StaffRole>, StoreError> {
    let row = sqlx::query("SELECT role FROM staff WHERE id = $1 AND disabled_ms IS NULL")
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("find staff role"))?;
    row.map(|row| {
        StaffRole::from_word(&row.text("role")?)
            .ok_or(StoreError::Unreadable { what: "staff role" })
    })
    .transpose()
}

/// Says whether an account is in use.
pub async fn is_in_use(tx: &mut Tx, id: StaffId) -> Result<bool, StoreError> {
    Ok(role_in_use(tx, id).await?.is_some())
}

/// An account's name and user ID, for who decides about it.
pub async fn name_of(db: &Db, id: StaffId) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT name, user_id FROM staff WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("find the name of staff"))?;
    row.map(|row| Ok(format!("{}（{}）", row.text("name")?, row.text("user_id")?)))
        .transpose()
}

/// Gives an account in use a password and an authenticator that are to be handed over.
pub(super) async fn reset(
    tx: &mut Tx,
    id: StaffId,
    hash: &str,
    totp_sealed: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE staff SET password_hash = $1, password_is_initial_since_ms = $2,
                          totp_sealed = $3, totp_last_step = NULL
          WHERE id = $4 AND disabled_ms IS NULL",
    )
    .bind(hash)
    .bind(unix_ms(now))
    .bind(totp_sealed)
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("reset the sign-in of staff"))
}

/// Lets an account wait for a second person; until then it has no vote in what takes two.
pub(super) async fn await_second(
    tx: &mut Tx,
    id: StaffId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE staff SET awaits_second_ms = $1 WHERE id = $2")
        .bind(unix_ms(now))
        .bind(id.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("let staff wait for a second person"))
}

/// Gives an account a vote in what takes two.
pub async fn give_vote(tx: &mut Tx, id: StaffId) -> Result<(), StoreError> {
    sqlx::query("UPDATE staff SET awaits_second_ms = NULL WHERE id = $1")
        .bind(id.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("give staff a vote"))
}

/// Says whether an account has a vote in what takes two.
pub async fn has_vote(tx: &mut Tx, id: StaffId) -> Result<bool, StoreError> {
    sqlx::query(
        "SELECT id FROM staff WHERE id = $1 AND disabled_ms IS NULL AND awaits_second_ms IS NULL",
    )
    .bind(id.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map(|row| row.is_some())
    .map_err(StoreError::doing("ask whether staff have a vote"))
}

/// How many others with a vote are in use in a role.
pub(super) async fn count_others(
    tx: &mut Tx,
    id: StaffId,
    role: StaffRole,
) -> Result<i64, StoreError> {
    sqlx::query(
        "SELECT COUNT(*) AS others FROM staff
          WHERE role = $1 AND id <> $2 AND disabled_ms IS NULL AND awaits_second_ms IS NULL",
    )
    .bind(role.as_str())
    .bind(id.to_string())
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("count staff of a role"))?
    .number("others")
}

pub(super) async fn set_role(tx: &mut Tx, id: StaffId, role: StaffRole) -> Result<(), StoreError> {
    sqlx::query("UPDATE staff SET role = $1 WHERE id = $2")
        .bind(role.as_str())
        .bind(id.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("change staff role"))
}

pub(super) async fn disable(
    tx: &mut Tx,
    id: StaffId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE staff SET disabled_ms = $1 WHERE id = $2 AND disabled_ms IS NULL")
        .bind(unix_ms(now))
        .bind(id.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("disable staff"))
}

pub(super) async fn end_web_sessions(
    tx: &mut Tx,
    id: StaffId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE web_sessions SET ended_ms = $1
          WHERE kind = 'staff' AND account_id = $2 AND ended_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("end web sessions of staff"))
}

pub(super) async fn make_password_initial(
    tx: &mut Tx,
    id: StaffId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE staff SET password_is_initial_since_ms = $1 WHERE id = $2")
        .bind(unix_ms(now))
        .bind(id.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("mark a password as initial"))
}

/// Sets the first own password. `false` if there is one already.
pub(super) async fn set_first_password(
    tx: &mut Tx,
    id: StaffId,
    hash: &str,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE staff SET password_hash = $1, password_is_initial_since_ms = NULL
          WHERE id = $2 AND password_is_initial_since_ms IS NOT NULL",
    )
    .bind(hash.to_owned())
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("set first password of staff"))
}

/// User ID and sealed authenticator of an account in use that never showed a code.
pub(super) async fn unused_authenticator(
    db: &Db,
    id: StaffId,
) -> Result<Option<(String, String)>, StoreError> {
    let row = sqlx::query(
        "SELECT user_id, totp_sealed FROM staff
          WHERE id = $1 AND disabled_ms IS NULL AND totp_last_step IS NULL
            AND password_is_initial_since_ms IS NOT NULL",
    )
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find a new authenticator"))?;
    row.map(|row| Ok((row.text("user_id")?, row.text("totp_sealed")?)))
        .transpose()
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
