//! Another mail address: it counts after a code that was sent to it came back, for one-time
//! passwords go there (FACTS R12). The old address hears of it too.
//!
//! A user changes his own address, and an admin that of an added user whose account is his
//! establishment's alone (`people::changeable`); then the admin types the code that the
//! colleague reads from the new mailbox.

use time::{Duration, OffsetDateTime};

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::establishments::MailAddress;
use crate::ids::{EstablishmentId, RowId, UserId};
use crate::keys::Purpose;
use crate::mail::{outbox, texts};
use crate::one_time_codes::{digits, six_digits};
use crate::people::news::{self, News};

/// How long a code is good (NIST SP 800-63B: at most 24 hours).
pub const VALIDITY: Duration = Duration::hours(24);
/// Wrong codes that may be typed for one change.
const TRIES_MAX: i64 = 5;
/// Changes that may be asked for one account in a day.
const CHANGES_PER_DAY_MAX: i64 = 10;

/// A change that waits for its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The new address.
    pub address: String,
    /// Until when the code is good.
    pub expires: OffsetDateTime,
}

/// Whose address, and who changes it from where.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Whose.
    pub user: UserId,
    /// Where the one who changes it works.
    pub establishment: EstablishmentId,
    /// Who changes it.
    pub by: UserId,
    /// The same, for the audit log.
    pub actor: &'a Actor,
}

/// What became of a typed code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The address is changed.
    Changed,
    /// The code is wrong; so many tries are left.
    Wrong {
        /// How many.
        tries_left: i64,
    },
    /// Nothing waits (any more).
    Nothing,
}

/// Sends a code to a new address. `false` if that was asked too often today. After the
/// commit, tell `signals.mail_queued()`.
pub async fn ask(
    tx: &mut Tx,
    app: &App,
    change: &Change<'_>,
    address: &MailAddress,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let user = change.user.to_string();
    // Locks the account: of two changes at once the later one counts.
    sqlx::query("UPDATE users SET email = email WHERE id = $1")
        .bind(user.as_str())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("lock a user's address"))?;
    let row = sqlx::query(
        "SELECT COUNT(*) AS n FROM address_changes WHERE user_id = $1 AND asked_ms > $2",
    )
    .bind(user.as_str())
    .bind(unix_ms(now - VALIDITY))
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("count changes of address"))?;
    if row.number("n")? >= CHANGES_PER_DAY_MAX {
        return Ok(false);
    }
    sqlx::query(
        "UPDATE address_changes SET superseded_ms = $1
          WHERE user_id = $2 AND confirmed_ms IS NULL AND superseded_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(user.as_str())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("supersede changes of address"))?;
    let (id, code, expires) = (RowId::new(), six_digits(), now + VALIDITY);
    sqlx::query(
        "INSERT INTO address_changes (id, user_id, establishment_id, asked_by, address, code_hash,
                                      asked_ms, expires_ms, tries)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)",
    )
    .bind(id.to_string())
    .bind(user.as_str())
    .bind(change.establishment.to_string())
    .bind(change.by.to_string())
    .bind(address.as_str())
    .bind(
        app.keys
            .hash(Purpose::OneTimeCode, &secret(&id.to_string(), &code)),
    )
    .bind(unix_ms(now))
    .bind(unix_ms(expires))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write a change of address"))?;
    let mail = texts::address_check(&app.config, address.as_str(), &code, expires);
    outbox::queue(tx, &app.keys, mail, now, expires).await?;
    let act = Act::AddressChangeAsked(change.user);
    audit::record(tx, &app.keys, change.actor, act, now).await?;
    Ok(true)
}

fn secret(id: &str, code: &str) -> Vec<u8> {
    format!("{id}/{code}").into_bytes()
}

/// The change that `by` asked for and that waits for its code.
pub async fn waiting(
    db: &Db,
    user: UserId,
    by: UserId,
    now: OffsetDateTime,
) -> Result<Option<Waiting>, StoreError> {
    let row = sqlx::query(
        "SELECT address, expires_ms FROM address_changes
          WHERE user_id = $1 AND asked_by = $2 AND confirmed_ms IS NULL
            AND superseded_ms IS NULL AND expires_ms > $3 AND tries < $4
          ORDER BY asked_ms DESC LIMIT 1",
    )
    .bind(user.to_string())
    .bind(by.to_string())
    .bind(unix_ms(now))
    .bind(TRIES_MAX)
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find a change of address"))?;
    row.map(|row| {
        Ok(Waiting {
            address: row.text("address")?,
            expires: row.moment("expires_ms")?,
        })
    })
    .transpose()
}

/// Tries a typed code. Commit whatever the outcome: a wrong try must count. After the
/// commit, tell `signals.mail_queued()`.
pub async fn confirm(
    tx: &mut Tx,
    app: &App,
    change: &Change<'_>,
    typed: &str,
    now: OffsetDateTime,
) -> Result<Outcome, StoreError> {
    // Counted before anything is compared; the row stays locked, so that parallel tries
    // stand in a queue.
    let row = sqlx::query(
        "UPDATE address_changes SET tries = tries + 1
          WHERE user_id = $1 AND asked_by = $2 AND confirmed_ms IS NULL
            AND superseded_ms IS NULL AND expires_ms > $3 AND tries < $4
         RETURNING id, code_hash, address, tries",
    )
    .bind(change.user.to_string())
    .bind(change.by.to_string())
    .bind(unix_ms(now))
    .bind(TRIES_MAX)
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("count a try of a change of address"))?;
    let Some(row) = row else {
        return Ok(Outcome::Nothing);
    };
    let (id, hash) = (row.text("id")?, row.text("code_hash")?);
    let typed = secret(&id, &digits(typed));
    if !app.keys.hash_fits(Purpose::OneTimeCode, &typed, &hash) {
        return Ok(Outcome::Wrong {
            tries_left: TRIES_MAX - row.number("tries")?,
        });
    }
    sqlx::query("UPDATE address_changes SET confirmed_ms = $1 WHERE id = $2")
        .bind(unix_ms(now))
        .bind(id)
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("confirm a change of address"))?;
    let old = sqlx::query("SELECT email FROM users WHERE id = $1")
        .bind(change.user.to_string())
        .fetch_one(&mut **tx)
        .await
        .map_err(StoreError::doing("find a user's address"))?
        .text("email")?;
    sqlx::query("UPDATE users SET email = $1 WHERE id = $2")
        .bind(row.text("address")?)
        .bind(change.user.to_string())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("change a user's address"))?;
    let act = Act::AddressChanged(change.user);
    audit::record(tx, &app.keys, change.actor, act, now).await?;
    news::tell_one(tx, app, &old, News::AddressChanged, now).await?;
    news::tell(tx, app, change.establishment, News::AddressChanged, now).await?;
    Ok(Outcome::Changed)
}

#[cfg(test)]
mod tests;
