//! Accounts and counted failures in the database.

use sqlx::Row as _;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{Attempt, Counted, FAILURES_MAX, OVERALL_MAX, PAUSE};
use crate::clock::{from_unix_ms, unix_ms};
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::ids::{EstablishmentId, UserId};

/// How a user proves a second time who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecondFactor {
    /// A code by mail.
    Email,
    /// An authenticator app, its secret sealed.
    Totp {
        /// For [`crate::authenticator::Authenticator::open`].
        sealed: String,
    },
}

/// A user's account, as signing in needs it.
#[derive(Clone)]
pub struct Account {
    /// The user.
    pub user: UserId,
    /// PHC string.
    pub password_hash: String,
    /// What else is asked.
    pub second_factor: SecondFactor,
    /// Whether the password is still the one from the letter.
    pub password_is_initial: bool,
}

/// Under which origin an account's failures everywhere are summed up.
const EVERYWHERE: &str = "everywhere";

/// Counts an attempt, unless there were too many; they are forgotten after the pause.
pub async fn count_attempt(
    tx: &mut Tx,
    counted: &Counted,
    now: OffsetDateTime,
) -> Result<Attempt, StoreError> {
    let (most, pause) = counted.limit;
    // First of all, so that two who count at once take turns and never wait for each other.
    if counted.summed && !count_everywhere(tx, counted, now).await? {
        return Ok(Attempt::Stopped);
    }
    // No row comes back if the pair is in its pause: then nothing changes, the pause neither.
    let allowed = sqlx::query(
        "INSERT INTO sign_in_failures (account, origin, failures, last_ms) VALUES ($1, $2, 1, $3)
         ON CONFLICT (account, origin) DO UPDATE
            SET failures = CASE WHEN sign_in_failures.last_ms <= $4 THEN 1
                                ELSE sign_in_failures.failures + 1 END,
                last_ms = $3
          WHERE sign_in_failures.failures < $5 OR sign_in_failures.last_ms <= $4
         RETURNING failures",
    )
    .bind(counted.account.as_str())
    .bind(counted.origin.as_str())
    .bind(unix_ms(now))
    .bind(unix_ms(now - pause))
    .bind(most)
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("count a sign-in attempt"))?;
    if let Some(row) = allowed {
        let last = row.number("failures")? >= most;
        return Ok(Attempt::Allowed {
            stops_until: last.then_some(now + pause),
        });
    }
    // What is not even tried is no failure.
    if counted.summed {
        take_one_back(tx, &counted.account, EVERYWHERE).await?;
    }
    let last: i64 = sqlx::query_scalar(
        "SELECT last_ms FROM sign_in_failures WHERE account = $1 AND origin = $2",
    )
    .bind(counted.account.as_str())
    .bind(counted.origin.as_str())
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("find the end of a pause"))?;
    Ok(Attempt::Paused {
        until: from_unix_ms(last) + pause,
    })
}

/// Counts an attempt of an account wherever it is made. `false` if there were too many.
async fn count_everywhere(
    tx: &mut Tx,
    counted: &Counted,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "INSERT INTO sign_in_failures (account, origin, failures, last_ms) VALUES ($1, $2, 1, $3)
         ON CONFLICT (account, origin) DO UPDATE
            SET failures = sign_in_failures.failures + 1, last_ms = $3
          WHERE sign_in_failures.failures < $4
         RETURNING failures",
    )
    .bind(counted.account.as_str())
    .bind(EVERYWHERE)
    .bind(unix_ms(now))
    .bind(OVERALL_MAX)
    .fetch_optional(&mut **tx)
    .await
    .map(|row| row.is_some())
    .map_err(StoreError::doing("count an account's attempts"))
}

/// Forgets the failures of a pair that has signed in, and the account's sum.
pub async fn forget_failures(tx: &mut Tx, counted: &Counted) -> Result<(), StoreError> {
    // The sum first, as everywhere: two who change both never wait for each other.
    for origin in [EVERYWHERE, counted.origin.as_str()] {
        sqlx::query("DELETE FROM sign_in_failures WHERE account = $1 AND origin = $2")
            .bind(counted.account.as_str())
            .bind(origin)
            .execute(&mut **tx)
            .await
            .map_err(StoreError::doing("forget failed sign-ins"))?;
    }
    Ok(())
}

/// Forgets an account's failures wherever they were.
pub(super) async fn forget_everywhere(tx: &mut Tx, account: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sign_in_failures WHERE account = $1")
        .bind(account)
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("forget an account's failed sign-ins"))
}

/// Says whether an account is stopped anywhere at `now`.
pub async fn is_stopped(db: &Db, account: &str, now: OffsetDateTime) -> Result<bool, StoreError> {
    sqlx::query(
        "SELECT account FROM sign_in_failures
          WHERE account = $1
            AND ((origin = $2 AND failures >= $3)
              OR (origin <> $2 AND failures >= $4 AND last_ms > $5)) LIMIT 1",
    )
    .bind(account)
    .bind(EVERYWHERE)
    .bind(OVERALL_MAX)
    .bind(FAILURES_MAX)
    .bind(unix_ms(now - PAUSE))
    .fetch_optional(db.pool())
    .await
    .map(|row| row.is_some())
    .map_err(StoreError::doing("look for a stopped account"))
}

/// Takes one counted attempt back: it was no failure, but no sign-in either.
pub async fn take_back(tx: &mut Tx, counted: &Counted) -> Result<(), StoreError> {
    if counted.summed {
        take_one_back(tx, &counted.account, EVERYWHERE).await?;
    }
    take_one_back(tx, &counted.account, &counted.origin).await
}

async fn take_one_back(tx: &mut Tx, account: &str, origin: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sign_in_failures SET failures = failures - 1
          WHERE account = $1 AND origin = $2 AND failures > 0",
    )
    .bind(account)
    .bind(origin)
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("take a sign-in attempt back"))
}

/// Where mails to a user go.
pub(crate) async fn address_of(tx: &mut Tx, user: UserId) -> Result<String, StoreError> {
    sqlx::query("SELECT email FROM users WHERE id = $1")
        .bind(user.to_string())
        .fetch_one(&mut **tx)
        .await
        .map_err(StoreError::doing("find a user's address"))?
        .text("email")
}

/// The statement of both finds, ended by a condition.
const ACCOUNT: &str = "SELECT users.id, users.password_hash, users.password_is_initial_since_ms,
            users.second_factor, users.totp_sealed
       FROM users
       JOIN memberships ON memberships.user_id = users.id
       JOIN establishments ON establishments.id = memberships.establishment_id
      WHERE memberships.establishment_id = $1 AND memberships.ended_ms IS NULL
        AND users.disabled_ms IS NULL AND establishments.suspended_ms IS NULL";

/// Finds the account behind a typed user ID, if it may be used at this establishment now.
pub async fn find_account(
    db: &Db,
    user_id: &str,
    establishment: EstablishmentId,
) -> Result<Option<Account>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "{ACCOUNT} AND users.user_id = $2"
    )))
    .bind(establishment.to_string())
    .bind(user_id)
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find account"))?;
    row.as_ref().map(read_account).transpose()
}

/// The account of a user, if it may be used at this establishment now.
pub async fn find_account_of(
    db: &Db,
    user: UserId,
    establishment: EstablishmentId,
) -> Result<Option<Account>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("{ACCOUNT} AND users.id = $2")))
        .bind(establishment.to_string())
        .bind(user.to_string())
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("find a user's account"))?;
    row.as_ref().map(read_account).transpose()
}

fn read_account(row: &AnyRow) -> Result<Account, StoreError> {
    let read = || -> Result<_, sqlx::Error> {
        Ok((
            row.try_get::<String, _>("id")?,
            row.try_get::<String, _>("password_hash")?,
            row.try_get::<Option<i64>, _>("password_is_initial_since_ms")?,
            row.try_get::<String, _>("second_factor")?,
            row.try_get::<Option<String>, _>("totp_sealed")?,
        ))
    };
    let (id, password_hash, initial, factor, sealed) =
        read().map_err(StoreError::doing("read account"))?;
    Ok(Account {
        user: id
            .parse()
            .map_err(|_| StoreError::Unreadable { what: "user id" })?,
        password_hash,
        second_factor: match (factor.as_str(), sealed) {
            ("email", _) => SecondFactor::Email,
            ("totp", Some(sealed)) => SecondFactor::Totp { sealed },
            (_, _) => {
                return Err(StoreError::Unreadable {
                    what: "second factor",
                });
            }
        },
        password_is_initial: initial.is_some(),
    })
}

/// Takes a step of a user's authenticator, if it was not taken before, nor a later one.
pub async fn take_step(tx: &mut Tx, user: UserId, step: i64) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE users SET totp_last_step = $1
          WHERE id = $2 AND (totp_last_step IS NULL OR totp_last_step < $1)",
    )
    .bind(step)
    .bind(user.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("take an authenticator step"))
}

/// Says whether a user is (still) asked for a code by mail; for the sign-in page's words.
pub async fn uses_mail(db: &Db, user: UserId) -> Result<bool, StoreError> {
    sqlx::query("SELECT id FROM users WHERE id = $1 AND second_factor = 'email'")
        .bind(user.to_string())
        .fetch_optional(db.pool())
        .await
        .map(|row| row.is_some())
        .map_err(StoreError::doing("find a user's second factor"))
}
