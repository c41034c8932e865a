//! Passkeys and open questions in the database.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::any::AnyRow;
use time::OffsetDateTime;
use webauthn_rs::prelude::Passkey;

use super::{Bound, LIMIT, MEMBER, Owner, PasskeyName, Purpose, QUESTION_LIFETIME, Shown};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::ids::{EstablishmentId, RowId, UserId};

/// A passkey as it is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its row.
    pub id: RowId,
    /// Whose it is.
    pub owner: Owner,
    /// What its owner calls it.
    pub name: String,
    /// Its public key, with what is known of its authenticator.
    pub credential: Passkey,
    /// The authenticator's counter at the last use.
    pub counter: i64,
    /// When it was registered.
    pub added: OffsetDateTime,
    /// When it was last used.
    pub used: Option<OffsetDateTime>,
}

const KEPT: &str = "SELECT id, owner_kind, owner_id, name, public_key, counter, added_ms, used_ms
                      FROM passkeys";

/// A credential's id as the rows have it.
pub(super) fn text_of(credential: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(credential)
}

fn read(row: &AnyRow) -> Result<Kept, StoreError> {
    let what = "public key of a passkey";
    let credential = row.text("public_key")?;
    Ok(Kept {
        id: row.parsed("id")?,
        owner: match row.text("owner_kind")?.as_str() {
            MEMBER => Owner::Member(row.parsed("owner_id")?),
            _ => Owner::Staff(row.parsed("owner_id")?),
        },
        name: row.text("name")?,
        credential: serde_json::from_str(&credential)
            .map_err(|_| StoreError::Unreadable { what })?,
        counter: row.number("counter")?,
        added: row.moment("added_ms")?,
        used: row.moment_if("used_ms")?,
    })
}

fn written(credential: &Passkey) -> Result<String, StoreError> {
    let what = "public key of a passkey";
    serde_json::to_string(credential).map_err(|_| StoreError::Unreadable { what })
}

/// An owner's passkeys, the oldest first.
pub async fn list(db: &Db, owner: Owner) -> Result<Vec<Kept>, StoreError> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "{KEPT} WHERE owner_kind = $1 AND owner_id = $2 ORDER BY added_ms, id LIMIT $3"
    )))
    .bind(owner.kind())
    .bind(owner.uuid().to_string())
    .bind(LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list passkeys"))?
    .iter()
    .map(read)
    .collect()
}

/// The passkey with this credential id, if it belongs to somebody of this kind.
pub(super) async fn find(
    db: &Db,
    kind: &'static str,
    credential: &[u8],
) -> Result<Option<Kept>, StoreError> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "{KEPT} WHERE owner_kind = $1 AND credential_id = $2"
    )))
    .bind(kind)
    .bind(text_of(credential))
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find a passkey"))?
    .as_ref()
    .map(read)
    .transpose()
}

/// How many an owner has; makes those who add one take turns.
pub(super) async fn count(tx: &mut Tx, owner: Owner) -> Result<i64, StoreError> {
    let lock = match owner {
        Owner::Member(_) => "UPDATE users SET user_id = user_id WHERE id = $1",
        Owner::Staff(_) => "UPDATE staff SET user_id = user_id WHERE id = $1",
    };
    sqlx::query(lock)
        .bind(owner.uuid().to_string())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("lock an account"))?;
    sqlx::query("SELECT COUNT(*) AS n FROM passkeys WHERE owner_kind = $1 AND owner_id = $2")
        .bind(owner.kind())
        .bind(owner.uuid().to_string())
        .fetch_one(&mut **tx)
        .await
        .map_err(StoreError::doing("count passkeys"))?
        .number("n")
}

pub(super) async fn add(
    tx: &mut Tx,
    id: RowId,
    owner: Owner,
    name: &PasskeyName,
    credential: &Passkey,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let counter = webauthn_rs::prelude::Credential::from(credential.clone()).counter;
    sqlx::query(
        "INSERT INTO passkeys (id, owner_kind, owner_id, credential_id, name, public_key, counter,
                               added_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id.to_string())
    .bind(owner.kind())
    .bind(owner.uuid().to_string())
    .bind(text_of(credential.cred_id()))
    .bind(name.as_str())
    .bind(written(credential)?)
    .bind(i64::from(counter))
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write a passkey"))
}

/// Puts a use down, if the passkey is still there as it was when its answer was checked.
pub(super) async fn note_use(
    tx: &mut Tx,
    shown: &Shown,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE passkeys SET public_key = $1, counter = $2, used_ms = $3
          WHERE id = $4 AND counter = $5",
    )
    .bind(written(&shown.credential)?)
    .bind(shown.counter)
    .bind(unix_ms(now))
    .bind(shown.id.to_string())
    .bind(shown.before)
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("note the use of a passkey"))
}

pub(super) async fn remove(tx: &mut Tx, owner: Owner, id: RowId) -> Result<bool, StoreError> {
    sqlx::query("DELETE FROM passkeys WHERE id = $1 AND owner_kind = $2 AND owner_id = $3")
        .bind(id.to_string())
        .bind(owner.kind())
        .bind(owner.uuid().to_string())
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected() == 1)
        .map_err(StoreError::doing("remove a passkey"))
}

/// Removes all passkeys of an account: it was reset, or is out of use.
pub async fn forget(tx: &mut Tx, owner: Owner) -> Result<bool, StoreError> {
    sqlx::query("DELETE FROM passkeys WHERE owner_kind = $1 AND owner_id = $2")
        .bind(owner.kind())
        .bind(owner.uuid().to_string())
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected() > 0)
        .map_err(StoreError::doing("remove an account's passkeys"))
}

/// Removes the passkeys of a user who is a member of no establishment any more.
pub async fn forget_without_membership(tx: &mut Tx, user: UserId) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM passkeys WHERE owner_kind = 'member' AND owner_id = $1
            AND NOT EXISTS (SELECT 1 FROM memberships
                             WHERE memberships.user_id = passkeys.owner_id
                               AND memberships.ended_ms IS NULL)",
    )
    .bind(user.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("remove a leaver's passkeys"))
}

/// Says whether anybody of an establishment signs in with a passkey.
pub async fn anybody_has(db: &Db, establishment: EstablishmentId) -> Result<bool, StoreError> {
    sqlx::query(
        "SELECT passkeys.id FROM passkeys
           JOIN memberships ON memberships.user_id = passkeys.owner_id
          WHERE passkeys.owner_kind = 'member' AND memberships.establishment_id = $1
            AND memberships.ended_ms IS NULL LIMIT 1",
    )
    .bind(establishment.to_string())
    .fetch_optional(db.pool())
    .await
    .map(|row| row.is_some())
    .map_err(StoreError::doing("look for passkeys of an establishment"))
}

/// Says whether any of the staff signs in with a passkey.
pub async fn any_staff_has(db: &Db) -> Result<bool, StoreError> {
    sqlx::query("SELECT id FROM passkeys WHERE owner_kind = 'staff' LIMIT 1")
        .fetch_optional(db.pool())
        .await
        .map(|row| row.is_some())
        .map_err(StoreError::doing("look for passkeys of staff"))
}

/// Keeps a question; one before it in the same session, and all that waited too long, go.
pub(super) async fn keep_question(
    tx: &mut Tx,
    purpose: Purpose,
    bound: &Bound,
    state: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM passkey_questions WHERE expires_ms <= $1")
        .bind(unix_ms(now))
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("forget old questions"))?;
    sqlx::query(
        "INSERT INTO passkey_questions (purpose, bound_to, state, expires_ms)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (purpose, bound_to) DO UPDATE SET state = $3, expires_ms = $4",
    )
    .bind(purpose.as_str())
    .bind(bound.0.as_str())
    .bind(state)
    .bind(unix_ms(now + QUESTION_LIFETIME))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("keep a question"))
}

/// Takes a question out: of any number of parallel tries one gets it.
pub(super) async fn take_question(
    tx: &mut Tx,
    purpose: Purpose,
    bound: &Bound,
    now: OffsetDateTime,
) -> Result<Option<String>, StoreError> {
    sqlx::query(
        "DELETE FROM passkey_questions
          WHERE purpose = $1 AND bound_to = $2 AND expires_ms > $3 RETURNING state",
    )
    .bind(purpose.as_str())
    .bind(bound.0.as_str())
    .bind(unix_ms(now))
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("take a question"))?
    .map(|row| row.text("state"))
    .transpose()
}
