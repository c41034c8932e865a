//! 回復コード: ten codes on paper, each of which signs in once in place of the authenticator
//! app (NIST SP 800-63B: at least 64 bits, single use, kept as hashes).
//!
//! They count only while an authenticator is in use: before, they would be a second password
//! beside the mail (FACTS R12), and who is put back on mail has none any more. Every use is
//! told to all admins of the user's establishments.

use sqlx::Row as _;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::ids::{EstablishmentId, RowId, UserId};
use crate::keys::{MasterKey, Purpose, random_readable};
use crate::people::news::{self, News};

/// Codes in a set.
pub const CODES: usize = 10;
/// Characters of a code: 80 random bits.
const LENGTH: usize = 16;
/// Characters of a group, as a code is shown.
const GROUP: usize = 4;

/// A code as it is shown once: `ABCD-EFGH-JKLM-NPQR`.
#[derive(Clone)]
pub struct RecoveryCode(Zeroizing<String>);

impl RecoveryCode {
    fn generate() -> Self {
        Self(Zeroizing::new(random_readable(LENGTH)))
    }

    /// Reads what somebody typed: case, spaces, hyphens and full-width forms do not matter.
    /// What has another length, or other characters, is none.
    pub fn read(typed: &str) -> Option<Self> {
        let mut code = Zeroizing::new(String::with_capacity(LENGTH));
        for c in typed.chars() {
            let c = match c {
                '\u{FF01}'..='\u{FF5E}' => char::from_u32(c as u32 - 0xFEE0)?,
                c => c,
            };
            match c {
                '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{30FC}' | '\u{FF70}' => {}
                _ if c.is_whitespace() => {}
                _ if c.is_ascii_alphanumeric() && code.len() < LENGTH => {
                    code.push(c.to_ascii_uppercase());
                }
                _ => return None,
            }
        }
        (code.len() == LENGTH).then_some(Self(code))
    }

    /// In groups of four.
    pub fn shown(&self) -> Zeroizing<String> {
        let groups: Vec<&str> = (0..LENGTH / GROUP)
            .map(|group| &self.0[group * GROUP..(group + 1) * GROUP])
            .collect();
        Zeroizing::new(groups.join("-"))
    }

    fn hash(&self, keys: &MasterKey, user: UserId) -> String {
        let secret = Zeroizing::new(format!("{user}/{}", self.0.as_str()));
        keys.hash(Purpose::RecoveryCode, secret.as_bytes())
    }
}

/// Makes a new set; the one before is good for nothing. `None` if no authenticator is in use.
pub async fn make(
    tx: &mut Tx,
    keys: &MasterKey,
    actor: &Actor,
    user: UserId,
    now: OffsetDateTime,
) -> Result<Option<Vec<RecoveryCode>>, StoreError> {
    // Locks the account, so that two sets cannot be made at once, and the authenticator
    // cannot go away meanwhile.
    let uses = sqlx::query(
        "UPDATE users SET second_factor = second_factor WHERE id = $1 AND second_factor = 'totp'",
    )
    .bind(user.to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("lock a user's second factor"))?;
    if uses.rows_affected() == 0 {
        return Ok(None);
    }
    forget(tx, user).await?;
    let codes: Vec<RecoveryCode> = (0..CODES).map(|_| RecoveryCode::generate()).collect();
    for code in &codes {
        sqlx::query(
            "INSERT INTO recovery_codes (id, user_id, code_hash, made_ms) VALUES ($1, $2, $3, $4)",
        )
        .bind(RowId::new().to_string())
        .bind(user.to_string())
        .bind(code.hash(keys, user))
        .bind(unix_ms(now))
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("write a recovery code"))?;
    }
    audit::record(tx, keys, actor, Act::RecoveryCodesMade(user), now).await?;
    Ok(Some(codes))
}

/// Removes a user's codes, with the authenticator that they stand in for.
pub async fn forget(tx: &mut Tx, user: UserId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM recovery_codes WHERE user_id = $1")
        .bind(user.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("forget recovery codes"))
}

/// How many codes a user has left.
pub async fn left(db: &Db, user: UserId) -> Result<i64, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS n FROM recovery_codes WHERE user_id = $1 AND used_ms IS NULL",
    )
    .bind(user.to_string())
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("count recovery codes"))?;
    row.number("n")
}

/// Says whether all of these are unused codes of the user, for the file that holds them.
pub async fn are_good(
    db: &Db,
    keys: &MasterKey,
    user: UserId,
    codes: &[RecoveryCode],
) -> Result<bool, StoreError> {
    for code in codes {
        let known = sqlx::query(
            "SELECT id FROM recovery_codes
              WHERE user_id = $1 AND code_hash = $2 AND used_ms IS NULL",
        )
        .bind(user.to_string())
        .bind(code.hash(keys, user))
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("find a recovery code"))?;
        if known.is_none() {
            return Ok(false);
        }
    }
    Ok(!codes.is_empty())
}

/// Uses a typed code up, in place of the authenticator's. Of any number of parallel tries
/// one succeeds. All admins of the user's establishments, and he himself, are told; after
/// the commit, tell `signals.mail_queued()`.
pub async fn redeem(
    tx: &mut Tx,
    app: &App,
    actor: &Actor,
    user: UserId,
    code: &RecoveryCode,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let used = sqlx::query(
        "UPDATE recovery_codes SET used_ms = $1
          WHERE user_id = $2 AND code_hash = $3 AND used_ms IS NULL
            AND EXISTS (SELECT 1 FROM users
                         WHERE users.id = recovery_codes.user_id
                           AND users.second_factor = 'totp')",
    )
    .bind(unix_ms(now))
    .bind(user.to_string())
    .bind(code.hash(&app.keys, user))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("use up a recovery code"))?;
    if used.rows_affected() != 1 {
        return Ok(false);
    }
    let mut admin_himself = false;
    let rows = sqlx::query(
        "SELECT establishment_id, role FROM memberships
          WHERE user_id = $1 AND ended_ms IS NULL ORDER BY establishment_id",
    )
    .bind(user.to_string())
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("find a user's establishments"))?;
    for row in &rows {
        let establishment: EstablishmentId = row.parsed("establishment_id")?;
        admin_himself |= row.text("role")? == "admin";
        news::tell(tx, app, establishment, News::RecoveryCodeUsed, now).await?;
    }
    if !admin_himself {
        let address: String = sqlx::query("SELECT email FROM users WHERE id = $1")
            .bind(user.to_string())
            .fetch_one(&mut **tx)
            .await
            .and_then(|row| row.try_get("email"))
            .map_err(StoreError::doing("find a user's address"))?;
        news::tell_one(tx, app, &address, News::RecoveryCodeUsed, now).await?;
    }
    audit::record(tx, &app.keys, actor, Act::RecoveryCodeUsed(user), now).await?;
    Ok(true)
}

#[cfg(test)]
mod tests;
