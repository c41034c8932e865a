//! Passwords and authenticators of users in the database.

use sqlx::Row as _;
use time::OffsetDateTime;

use super::recovery;
use crate::clock::unix_ms;
use crate::db::{Db, StoreError, Tx};
use crate::ids::UserId;
use crate::passkeys::{self, Owner};
use crate::web::principals::Member;

/// What a user has set.
#[derive(Clone)]
pub struct Settings {
    /// PHC string of the current password.
    pub password_hash: String,
    /// Where codes by mail go.
    pub email: String,
    /// Whether an authenticator app is in use.
    pub uses_authenticator: bool,
    /// The sealed secret of an authenticator that was not confirmed yet.
    pub pending: Option<String>,
}

/// A member's own settings.
pub async fn find(db: &Db, member: &Member) -> Result<Settings, StoreError> {
    let row = sqlx::query(
        "SELECT password_hash, email, second_factor, totp_pending_sealed FROM users WHERE id = $1",
    )
    .bind(member.user().to_string())
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("find a user's settings"))?;
    let read = || -> Result<Settings, sqlx::Error> {
        Ok(Settings {
            password_hash: row.try_get("password_hash")?,
            email: row.try_get("email")?,
            uses_authenticator: row.try_get::<String, _>("second_factor")? == "totp",
            pending: row.try_get("totp_pending_sealed")?,
        })
    };
    read().map_err(StoreError::doing("read a user's settings"))
}

/// Sets a password that the user chose.
pub async fn set_password(tx: &mut Tx, user: UserId, hash: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE users SET password_hash = $1, password_is_initial_since_ms = NULL WHERE id = $2",
    )
    .bind(hash)
    .bind(user.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("set a password"))
}

/// Sets a password that staff put into a letter, and ends the user's web sessions. Says
/// whether there is such a user.
pub async fn set_initial_password(
    tx: &mut Tx,
    user: UserId,
    hash: &str,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let set = sqlx::query(
        "UPDATE users SET password_hash = $1, password_is_initial_since_ms = $2 WHERE id = $3",
    )
    .bind(hash)
    .bind(unix_ms(now))
    .bind(user.to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("set an initial password"))?;
    crate::web::sessions::end_others_of_user(tx, user, "", now).await?;
    Ok(set.rows_affected() == 1)
}

/// Keeps the secret that the picture shows, until a code confirms it.
pub async fn set_pending(tx: &mut Tx, user: UserId, sealed: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE users SET totp_pending_sealed = $1 WHERE id = $2")
        .bind(sealed)
        .bind(user.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("keep an authenticator to confirm"))
}

/// Puts the confirmed authenticator in use, if it is still the one that was confirmed; the
/// confirming step counts as taken.
pub async fn confirm_pending(
    tx: &mut Tx,
    user: UserId,
    pending: &str,
    step: i64,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE users SET second_factor = 'totp', totp_sealed = totp_pending_sealed,
                          totp_pending_sealed = NULL, totp_last_step = $1
          WHERE id = $2 AND totp_pending_sealed = $3",
    )
    .bind(step)
    .bind(user.to_string())
    .bind(pending)
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("put an authenticator in use"))
}

/// Puts a user back on codes by mail; recovery codes go with the authenticator, and passkeys
/// too. Says whether there was any of them.
pub async fn remove_authenticator(tx: &mut Tx, user: UserId) -> Result<bool, StoreError> {
    recovery::forget(tx, user).await?;
    let had_passkeys = passkeys::store::forget(tx, Owner::Member(user)).await?;
    sqlx::query(
        "UPDATE users SET second_factor = 'email', totp_sealed = NULL, totp_pending_sealed = NULL
          WHERE id = $1 AND second_factor = 'totp'",
    )
    .bind(user.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| had_passkeys || done.rows_affected() == 1)
    .map_err(StoreError::doing("take an authenticator out of use"))
}
