//! Establishments, users, memberships and registration codes in the database.

use protocol::EstablishmentNumber;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{Establishment, NewEstablishment, NewUser, Role};
use crate::clock::{from_unix_ms, unix_ms};
use crate::db::{Db, StoreError, Tx};
use crate::ids::{EstablishmentId, RegistrationCodeId, RowId, UserId};

/// Establishments that [`list`] returns at most; there are 1,000 numbers in use at the
/// largest fund and 9,999 at all.
const LIST_LIMIT: i64 = 10_000;

/// Puts what concerns an establishment as a whole in a queue: until the transaction ends, nobody
/// else gets past here.
pub async fn lock(tx: &mut Tx, establishment: EstablishmentId) -> Result<(), StoreError> {
    sqlx::query("UPDATE establishments SET device_limit = device_limit WHERE id = $1")
        .bind(establishment.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("lock an establishment"))
}

/// What an establishment keeps sealed under the master key.
pub(super) struct SealedSecrets {
    pub(super) key_wrapped: String,
    pub(super) zip_password_sealed: String,
}

/// A registration code to write down.
pub(super) struct NewCode {
    pub(super) id: RegistrationCodeId,
    pub(super) establishment: EstablishmentId,
    pub(super) user: UserId,
    pub(super) hash: String,
    pub(super) created_by: String,
    pub(super) created_ms: i64,
    pub(super) expires_ms: i64,
}

/// A user of an establishment, for the office's pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserOfEstablishment {
    /// The account.
    pub id: UserId,
    /// What is typed at sign-in.
    pub login: String,
    /// The person's name.
    pub name: String,
    /// The same in katakana, if the registration form had it.
    pub kana: Option<String>,
    /// Where mails go.
    pub email: String,
    /// What he is in the establishment.
    pub role: Role,
    /// Since when the account is out of use, if so.
    pub disabled: Option<OffsetDateTime>,
}

/// A registration code, for the office's pages. The code itself is not known any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeOfEstablishment {
    /// Its row.
    pub id: RegistrationCodeId,
    /// Whose PC it is for.
    pub user: UserId,
    /// When it was issued.
    pub created: OffsetDateTime,
    /// When it stops being good.
    pub expires: OffsetDateTime,
    /// When it was used.
    pub used: Option<OffsetDateTime>,
}

pub(super) async fn add(
    tx: &mut Tx,
    id: EstablishmentId,
    new: &NewEstablishment,
    sealed: &SealedSecrets,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO establishments (id, number, name, key_wrapped, zip_password_sealed,
                                     device_limit, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id.to_string())
    .bind(i64::from(new.number.as_u16()))
    .bind(new.name.as_str())
    .bind(sealed.key_wrapped.as_str())
    .bind(sealed.zip_password_sealed.as_str())
    .bind(i64::from(new.device_limit.as_u16()))
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write establishment"))
}

pub(super) async fn add_user(
    tx: &mut Tx,
    id: UserId,
    new: &NewUser,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO users (id, user_id, name, email, password_hash,
                            password_is_initial_since_ms, second_factor, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, 'email', $7)",
    )
    .bind(id.to_string())
    .bind(new.login.as_str())
    .bind(new.name.as_str())
    .bind(new.email.as_str())
    .bind(new.password_hash.as_str())
    .bind(unix_ms(now))
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write user"))
}

pub(super) async fn add_membership(
    tx: &mut Tx,
    establishment: EstablishmentId,
    user: UserId,
    role: Role,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO memberships (id, establishment_id, user_id, role, created_ms)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(RowId::new().to_string())
    .bind(establishment.to_string())
    .bind(user.to_string())
    .bind(role.as_str())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write membership"))
}

/// Says whether the user may act for the establishment now: the membership lives, the
/// account is in use, and the establishment is not suspended.
pub async fn is_live_member(
    tx: &mut Tx,
    establishment: EstablishmentId,
    user: UserId,
) -> Result<bool, StoreError> {
    sqlx::query(
        "SELECT 1 AS found
           FROM memberships
           JOIN users ON users.id = memberships.user_id
           JOIN establishments ON establishments.id = memberships.establishment_id
          WHERE memberships.establishment_id = $1 AND memberships.user_id = $2
            AND memberships.ended_ms IS NULL AND users.disabled_ms IS NULL
            AND establishments.suspended_ms IS NULL",
    )
    .bind(establishment.to_string())
    .bind(user.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map(|row| row.is_some())
    .map_err(StoreError::doing("find membership"))
}

pub(super) async fn add_code(tx: &mut Tx, code: &NewCode) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO registration_codes (id, establishment_id, user_id, code_hash, created_by,
                                         created_ms, expires_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(code.id.to_string())
    .bind(code.establishment.to_string())
    .bind(code.user.to_string())
    .bind(code.hash.as_str())
    .bind(code.created_by.as_str())
    .bind(code.created_ms)
    .bind(code.expires_ms)
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write registration code"))
}

/// Writes down how a name is read.
pub async fn set_kana(tx: &mut Tx, user: UserId, kana: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE users SET name_kana = $1 WHERE id = $2")
        .bind(kana.to_owned())
        .bind(user.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("write how a name is read"))
}

/// Takes back every registration code of a user that was not used.
pub async fn revoke_codes(
    tx: &mut Tx,
    establishment: EstablishmentId,
    user: UserId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE registration_codes SET revoked_ms = $1
          WHERE establishment_id = $2 AND user_id = $3 AND used_ms IS NULL AND revoked_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(establishment.to_string())
    .bind(user.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("take back registration codes"))
}

/// Gives a user another initial password; one who has chosen an own one keeps it. Says whether
/// it was replaced.
pub async fn replace_initial_password(
    tx: &mut Tx,
    user: UserId,
    hash: &str,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE users SET password_hash = $1, password_is_initial_since_ms = $2
          WHERE id = $3 AND password_is_initial_since_ms IS NOT NULL",
    )
    .bind(hash.to_owned())
    .bind(unix_ms(now))
    .bind(user.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("replace an initial password"))
}

pub(super) async fn secrets(
    tx: &mut Tx,
    id: EstablishmentId,
) -> Result<Option<SealedSecrets>, StoreError> {
    let row =
        sqlx::query("SELECT key_wrapped, zip_password_sealed FROM establishments WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut **tx)
            .await
            .map_err(StoreError::doing("find establishment's secrets"))?;
    row.map(|row| {
        Ok(SealedSecrets {
            key_wrapped: row.try_get("key_wrapped")?,
            zip_password_sealed: row.try_get("zip_password_sealed")?,
        })
    })
    .transpose()
    .map_err(StoreError::doing("read establishment's secrets"))
}

pub(super) async fn replace_zip_password(
    tx: &mut Tx,
    id: EstablishmentId,
    sealed: &str,
) -> Result<bool, StoreError> {
    sqlx::query("UPDATE establishments SET zip_password_sealed = $1 WHERE id = $2")
        .bind(sealed)
        .bind(id.to_string())
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected() == 1)
        .map_err(StoreError::doing("change zip password"))
}

/// Finds an establishment by its number. A sharoushi's office has a number too, and is none:
/// nothing is filed or noticed in its name.
pub async fn find_by_number(
    db: &Db,
    number: EstablishmentNumber,
) -> Result<Option<Establishment>, StoreError> {
    let row = sqlx::query(
        "SELECT id, number, name, device_limit, created_ms, suspended_ms, ended_ms
           FROM establishments WHERE number = $1 AND kind = 'employer'",
    )
    .bind(i64::from(number.as_u16()))
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find establishment"))?;
    row.as_ref().map(read).transpose()
}

/// Finds an establishment by its identifier.
pub async fn find(db: &Db, id: EstablishmentId) -> Result<Option<Establishment>, StoreError> {
    let row = sqlx::query(
        "SELECT id, number, name, device_limit, created_ms, suspended_ms, ended_ms
           FROM establishments WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find establishment"))?;
    row.as_ref().map(read).transpose()
}

/// Ends an establishment's use of the service. `false` if it has ended already.
pub(super) async fn end(
    tx: &mut Tx,
    id: EstablishmentId,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE establishments SET ended_ms = $1, suspended_ms = COALESCE(suspended_ms, $1)
          WHERE id = $2 AND ended_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("end establishment"))
}

/// Takes an end back. `false` if there is none, or the key is gone.
pub(super) async fn take_back_end(tx: &mut Tx, id: EstablishmentId) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE establishments SET ended_ms = NULL, suspended_ms = NULL
          WHERE id = $1 AND ended_ms IS NOT NULL AND key_wrapped <> ''",
    )
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("take an establishment's end back"))
}

/// All establishments, by number; sharoushi's offices are listed with the delegations.
pub async fn list(db: &Db) -> Result<Vec<Establishment>, StoreError> {
    sqlx::query(
        "SELECT id, number, name, device_limit, created_ms, suspended_ms, ended_ms
           FROM establishments WHERE kind = 'employer' ORDER BY number LIMIT $1",
    )
    .bind(LIST_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list establishments"))?
    .iter()
    .map(read)
    .collect()
}

/// The live members of an establishment, the admin first.
pub async fn users(
    db: &Db,
    establishment: EstablishmentId,
) -> Result<Vec<UserOfEstablishment>, StoreError> {
    let rows = sqlx::query(
        "SELECT users.id, users.user_id, users.name, users.name_kana, users.email, users.disabled_ms,
                memberships.role
           FROM memberships JOIN users ON users.id = memberships.user_id
          WHERE memberships.establishment_id = $1 AND memberships.ended_ms IS NULL
          ORDER BY memberships.role, memberships.created_ms LIMIT $2",
    )
    .bind(establishment.to_string())
    .bind(LIST_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list users"))?;
    rows.iter()
        .map(|row| {
            let doing = "read user row";
            let id: String = row.try_get("id").map_err(StoreError::doing(doing))?;
            let role: String = row.try_get("role").map_err(StoreError::doing(doing))?;
            let disabled: Option<i64> = row
                .try_get("disabled_ms")
                .map_err(StoreError::doing(doing))?;
            Ok(UserOfEstablishment {
                id: id
                    .parse()
                    .map_err(|_| StoreError::Unreadable { what: "user id" })?,
                login: row.try_get("user_id").map_err(StoreError::doing(doing))?,
                name: row.try_get("name").map_err(StoreError::doing(doing))?,
                kana: row.try_get("name_kana").map_err(StoreError::doing(doing))?,
                email: row.try_get("email").map_err(StoreError::doing(doing))?,
                role: Role::from_word(&role).ok_or(StoreError::Unreadable { what: "role" })?,
                disabled: disabled.map(from_unix_ms),
            })
        })
        .collect()
}

/// An establishment's registration codes that were not withdrawn, the newest first.
pub async fn codes(
    db: &Db,
    establishment: EstablishmentId,
) -> Result<Vec<CodeOfEstablishment>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, user_id, created_ms, expires_ms, used_ms FROM registration_codes
          WHERE establishment_id = $1 AND revoked_ms IS NULL ORDER BY created_ms DESC LIMIT $2",
    )
    .bind(establishment.to_string())
    .bind(LIST_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list registration codes"))?;
    rows.iter()
        .map(|row| {
            let doing = "read registration code row";
            let id: String = row.try_get("id").map_err(StoreError::doing(doing))?;
            let user: String = row.try_get("user_id").map_err(StoreError::doing(doing))?;
            let at = |column| -> Result<i64, StoreError> {
                row.try_get(column).map_err(StoreError::doing(doing))
            };
            let used: Option<i64> = row.try_get("used_ms").map_err(StoreError::doing(doing))?;
            Ok(CodeOfEstablishment {
                id: id.parse().map_err(|_| StoreError::Unreadable {
                    what: "registration code id",
                })?,
                user: user
                    .parse()
                    .map_err(|_| StoreError::Unreadable { what: "user id" })?,
                created: from_unix_ms(at("created_ms")?),
                expires: from_unix_ms(at("expires_ms")?),
                used: used.map(from_unix_ms),
            })
        })
        .collect()
}

fn read(row: &AnyRow) -> Result<Establishment, StoreError> {
    let doing = "read establishment row";
    let id: String = row.try_get("id").map_err(StoreError::doing(doing))?;
    let number: i64 = row.try_get("number").map_err(StoreError::doing(doing))?;
    let created: i64 = row
        .try_get("created_ms")
        .map_err(StoreError::doing(doing))?;
    let suspended: Option<i64> = row
        .try_get("suspended_ms")
        .map_err(StoreError::doing(doing))?;
    Ok(Establishment {
        id: id.parse().map_err(|_| StoreError::Unreadable {
            what: "establishment id",
        })?,
        number: number_from_row(number)?,
        name: row.try_get("name").map_err(StoreError::doing(doing))?,
        device_limit: row
            .try_get("device_limit")
            .map_err(StoreError::doing(doing))?,
        created: from_unix_ms(created),
        suspended: suspended.map(from_unix_ms),
        ended: row
            .try_get::<Option<i64>, _>("ended_ms")
            .map_err(StoreError::doing(doing))?
            .map(from_unix_ms),
    })
}

/// Reads an establishment's number back.
pub fn number_from_row(number: i64) -> Result<EstablishmentNumber, StoreError> {
    u16::try_from(number)
        .ok()
        .and_then(|number| EstablishmentNumber::new(number).ok())
        .ok_or(StoreError::Unreadable {
            what: "establishment number",
        })
}
