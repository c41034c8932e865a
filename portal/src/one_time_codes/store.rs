//! One-time passwords in the database.

use protocol::SessionId;
use sqlx::Row as _;
use time::OffsetDateTime;

use super::{Binding, TRIES_MAX};
use crate::clock::{from_unix_ms, unix_ms};
use crate::db::{Db, StoreError, Tx};
use crate::ids::{MailId, OneTimeCodeId, UserId};

/// A code that may be tried once more.
#[derive(Debug)]
pub struct Tried {
    /// Its row.
    pub id: OneTimeCodeId,
    /// Its hash.
    pub hash: String,
    /// Tries, this one included.
    pub tries: i64,
}

/// The latest code of a session.
#[derive(Debug)]
pub struct Latest {
    /// Where it went.
    pub address: String,
    /// When it stops being good.
    pub expires: OffsetDateTime,
    /// Its mail.
    pub mail: MailId,
}

/// The address of a user who is on codes by mail.
pub(super) async fn mail_address(tx: &mut Tx, user: UserId) -> Result<Option<String>, StoreError> {
    sqlx::query_scalar(
        "SELECT email FROM users WHERE id = $1 AND second_factor = 'email' AND disabled_ms IS NULL",
    )
    .bind(user.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("find a user's mail address"))
}

/// Puts the codes that are good here out of use; returns their mails.
pub(super) async fn supersede(
    tx: &mut Tx,
    binding: &Binding,
    now: OffsetDateTime,
) -> Result<Vec<MailId>, StoreError> {
    let mails: Vec<String> = sqlx::query_scalar(
        "UPDATE one_time_codes SET superseded_ms = $1
          WHERE user_id = $2 AND session_id = $3 AND used_ms IS NULL AND superseded_ms IS NULL
         RETURNING mail_id",
    )
    .bind(unix_ms(now))
    .bind(binding.user.to_string())
    .bind(binding.session.to_string())
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("put older codes out of use"))?;
    mails
        .iter()
        .map(|id| {
            id.parse()
                .map_err(|_| StoreError::Unreadable { what: "mail id" })
        })
        .collect()
}

pub(super) async fn add(
    tx: &mut Tx,
    id: OneTimeCodeId,
    binding: &Binding,
    hash: &str,
    mail: MailId,
    now: OffsetDateTime,
    expires: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO one_time_codes (id, user_id, device_id, session_id, code_hash, mail_id,
                                     created_ms, expires_ms, tries)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)",
    )
    .bind(id.to_string())
    .bind(binding.user.to_string())
    .bind(binding.device.to_string())
    .bind(binding.session.to_string())
    .bind(hash)
    .bind(mail.to_string())
    .bind(unix_ms(now))
    .bind(unix_ms(expires))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write one-time code"))
}

/// Counts one try of the code that is good here, before anything is compared. The row stays
/// locked until the transaction ends, so that parallel tries stand in a queue.
pub(super) async fn count_try(
    tx: &mut Tx,
    binding: &Binding,
    now: OffsetDateTime,
) -> Result<Option<Tried>, StoreError> {
    let row = sqlx::query(
        "UPDATE one_time_codes SET tries = tries + 1
          WHERE user_id = $1 AND device_id = $2 AND session_id = $3
            AND used_ms IS NULL AND superseded_ms IS NULL AND expires_ms > $4 AND tries < $5
         RETURNING id, code_hash, tries",
    )
    .bind(binding.user.to_string())
    .bind(binding.device.to_string())
    .bind(binding.session.to_string())
    .bind(unix_ms(now))
    .bind(TRIES_MAX)
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("count a try of a one-time code"))?;
    let Some(row) = row else { return Ok(None) };
    let read = || -> Result<_, sqlx::Error> {
        let id: String = row.try_get("id")?;
        Ok((id, row.try_get("code_hash")?, row.try_get("tries")?))
    };
    let (id, hash, tries) = read().map_err(StoreError::doing("read one-time code"))?;
    Ok(Some(Tried {
        id: id.parse().map_err(|_| StoreError::Unreadable {
            what: "one-time code id",
        })?,
        hash,
        tries,
    }))
}

/// Marks a code as used; says whether it was still unused.
pub(super) async fn use_up(
    tx: &mut Tx,
    id: OneTimeCodeId,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query("UPDATE one_time_codes SET used_ms = $1 WHERE id = $2 AND used_ms IS NULL")
        .bind(unix_ms(now))
        .bind(id.to_string())
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected() == 1)
        .map_err(StoreError::doing("use up one-time code"))
}

pub(super) async fn exists(tx: &mut Tx, binding: &Binding) -> Result<bool, StoreError> {
    sqlx::query(
        "SELECT id FROM one_time_codes
          WHERE user_id = $1 AND device_id = $2 AND session_id = $3 LIMIT 1",
    )
    .bind(binding.user.to_string())
    .bind(binding.device.to_string())
    .bind(binding.session.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map(|row| row.is_some())
    .map_err(StoreError::doing("find one-time codes"))
}

/// How many codes a session has had, and when the last one was made.
/// Lets one ask for a code of a session at a time: until the transaction ends, nobody else gets
/// past here.
pub(super) async fn lock(tx: &mut Tx, session: SessionId) -> Result<(), StoreError> {
    sqlx::query("UPDATE tunnel_sessions SET pages_cut = pages_cut WHERE id = $1")
        .bind(session.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("lock a session's one-time codes"))
}

pub(super) async fn count(
    tx: &mut Tx,
    session: SessionId,
) -> Result<(i64, Option<OffsetDateTime>), StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS codes, MAX(created_ms) AS last FROM one_time_codes WHERE session_id = $1",
    )
    .bind(session.to_string())
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("count one-time codes"))?;
    let read = || -> Result<(i64, Option<i64>), sqlx::Error> {
        Ok((row.try_get("codes")?, row.try_get("last")?))
    };
    let (codes, last) = read().map_err(StoreError::doing("read number of one-time codes"))?;
    Ok((codes, last.map(from_unix_ms)))
}

pub(super) async fn latest(
    db: &Db,
    session: SessionId,
    now: OffsetDateTime,
) -> Result<Option<Latest>, StoreError> {
    let row = sqlx::query(
        "SELECT users.email, codes.expires_ms, codes.mail_id
           FROM one_time_codes codes JOIN users ON users.id = codes.user_id
          WHERE codes.session_id = $1 AND codes.used_ms IS NULL AND codes.superseded_ms IS NULL
            AND codes.expires_ms > $2
          ORDER BY codes.created_ms DESC LIMIT 1",
    )
    .bind(session.to_string())
    .bind(unix_ms(now))
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find latest one-time code"))?;
    let Some(row) = row else { return Ok(None) };
    let read = || -> Result<(String, i64, String), sqlx::Error> {
        Ok((
            row.try_get("email")?,
            row.try_get("expires_ms")?,
            row.try_get("mail_id")?,
        ))
    };
    let (address, expires, mail) = read().map_err(StoreError::doing("read latest code"))?;
    Ok(Some(Latest {
        address,
        expires: from_unix_ms(expires),
        mail: mail
            .parse()
            .map_err(|_| StoreError::Unreadable { what: "mail id" })?,
    }))
}
