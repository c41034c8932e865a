//! The people and PCs of an establishment in the database.

use protocol::DeviceId;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::establishments::{Name, Role};
use crate::ids::{EstablishmentId, UserId};
use crate::permissions::Permissions;
use crate::tunnel_sessions;

/// Members that a list holds at most.
const LIST_LIMIT: i64 = 1_000;

/// A live member of an establishment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Colleague {
    /// The account.
    pub id: UserId,
    /// What is typed at sign-in.
    pub login: String,
    /// The person's name.
    pub name: String,
    /// Where mails go.
    pub email: String,
    /// What he is here.
    pub role: Role,
    /// What the admin gave him; an admin may do everything.
    pub permissions: Permissions,
    /// Whether an authenticator app is in use.
    pub uses_authenticator: bool,
    /// Passkeys that are registered.
    pub passkeys: i64,
    /// Whether the password from the letter was never changed.
    pub is_new: bool,
    /// Whether the account is a live member of another establishment too.
    pub works_elsewhere: bool,
    /// PCs in use.
    pub devices: i64,
    /// When he last signed in anywhere, as far as it is kept.
    pub signed_in: Option<OffsetDateTime>,
}

/// An admin who can sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The account.
    pub user: UserId,
    /// Where mails go.
    pub email: String,
}

/// The statement of lists and finds, ended by a condition.
const COLLEAGUE: &str = "SELECT u.id, u.user_id, u.name, u.email, u.second_factor,
            u.password_is_initial_since_ms, m.role, m.permissions,
            (SELECT COUNT(*) FROM memberships o
              WHERE o.user_id = u.id AND o.establishment_id <> m.establishment_id
                AND o.ended_ms IS NULL) AS elsewhere,
            (SELECT COUNT(*) FROM devices d
              WHERE d.user_id = u.id AND d.establishment_id = m.establishment_id
                AND d.revoked_ms IS NULL) AS devices,
            (SELECT COUNT(*) FROM passkeys k
              WHERE k.owner_kind = 'member' AND k.owner_id = u.id) AS passkeys,
            (SELECT MAX(w.created_ms) FROM web_sessions w
              WHERE w.kind = 'member' AND w.account_id = u.id) AS signed_in_ms
       FROM memberships m JOIN users u ON u.id = m.user_id
      WHERE m.establishment_id = $1 AND m.ended_ms IS NULL AND u.disabled_ms IS NULL";

/// Puts changes of an establishment's people in a queue: until the transaction ends, nobody
/// else gets past here.
pub use crate::establishments::store::lock;

/// A live member.
pub async fn find(
    tx: &mut Tx,
    establishment: EstablishmentId,
    user: UserId,
) -> Result<Option<Colleague>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("{COLLEAGUE} AND u.id = $2")))
        .bind(establishment.to_string())
        .bind(user.to_string())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("find a member"))?;
    row.as_ref().map(read).transpose()
}

/// All live members, the admins first.
pub async fn list(db: &Db, establishment: EstablishmentId) -> Result<Vec<Colleague>, StoreError> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "{COLLEAGUE} ORDER BY m.role, m.created_ms, m.id LIMIT $2"
    )))
    .bind(establishment.to_string())
    .bind(LIST_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list members"))?
    .iter()
    .map(read)
    .collect()
}

fn read(row: &AnyRow) -> Result<Colleague, StoreError> {
    let role = row.text("role")?;
    let given = Permissions::from_words(&row.text("permissions")?);
    Ok(Colleague {
        permissions: given.ok_or(StoreError::Unreadable {
            what: "permissions",
        })?,
        id: row.parsed("id")?,
        login: row.text("user_id")?,
        name: row.text("name")?,
        email: row.text("email")?,
        role: Role::from_word(&role).ok_or(StoreError::Unreadable { what: "role" })?,
        uses_authenticator: row.text("second_factor")? == "totp",
        passkeys: row.number("passkeys")?,
        is_new: row.number_if("password_is_initial_since_ms")?.is_some(),
        works_elsewhere: row.number("elsewhere")? > 0,
        devices: row.number("devices")?,
        signed_in: row.moment_if("signed_in_ms")?,
    })
}

/// The admins of an establishment who can sign in.
pub async fn admins(tx: &mut Tx, establishment: EstablishmentId) -> Result<Vec<Admin>, StoreError> {
    sqlx::query(
        "SELECT u.id, u.email FROM memberships m JOIN users u ON u.id = m.user_id
          WHERE m.establishment_id = $1 AND m.role = 'admin' AND m.ended_ms IS NULL
            AND u.disabled_ms IS NULL
          ORDER BY m.created_ms, m.id LIMIT $2",
    )
    .bind(establishment.to_string())
    .bind(LIST_LIMIT)
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("list admins"))?
    .iter()
    .map(|row| {
        Ok(Admin {
            user: row.parsed("id")?,
            email: row.text("email")?,
        })
    })
    .collect()
}

pub(super) async fn set_role(
    tx: &mut Tx,
    establishment: EstablishmentId,
    user: UserId,
    role: Role,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE memberships SET role = $1
          WHERE establishment_id = $2 AND user_id = $3 AND ended_ms IS NULL",
    )
    .bind(role.as_str())
    .bind(establishment.to_string())
    .bind(user.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("change a role"))
}

pub(super) async fn set_permissions(
    tx: &mut Tx,
    establishment: EstablishmentId,
    user: UserId,
    permissions: Permissions,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE memberships SET permissions = $1
          WHERE establishment_id = $2 AND user_id = $3 AND ended_ms IS NULL",
    )
    .bind(permissions.to_string())
    .bind(establishment.to_string())
    .bind(user.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("change permissions"))
}

pub(super) async fn rename(tx: &mut Tx, user: UserId, name: &Name) -> Result<(), StoreError> {
    sqlx::query("UPDATE users SET name = $1 WHERE id = $2")
        .bind(name.as_str())
        .bind(user.to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("change a user's name"))
}

pub(super) async fn end_membership(
    tx: &mut Tx,
    establishment: EstablishmentId,
    user: UserId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE memberships SET ended_ms = $1
          WHERE establishment_id = $2 AND user_id = $3 AND ended_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(establishment.to_string())
    .bind(user.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("end a membership"))
}

/// Ends a user's web sessions on the PCs of an establishment, and has their open connections
/// cut: on a PC that is another's, the tunnel stays.
pub(super) async fn end_web_sessions(
    tx: &mut Tx,
    establishment: EstablishmentId,
    user: UserId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let ended = sqlx::query(
        "UPDATE web_sessions SET ended_ms = $1
          WHERE kind = 'member' AND account_id = $2 AND ended_ms IS NULL
            AND tunnel_session_id IN (SELECT t.id FROM tunnel_sessions t
                                        JOIN devices d ON d.id = t.device_id
                                       WHERE d.establishment_id = $3)
         RETURNING tunnel_session_id",
    )
    .bind(unix_ms(now))
    .bind(user.to_string())
    .bind(establishment.to_string())
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("end a member's web sessions"))?;
    for row in &ended {
        let session = row.text("tunnel_session_id")?;
        tunnel_sessions::store::cut_pages(tx, &session, now).await?;
    }
    Ok(())
}

/// Makes the registration codes that were issued to a user good for nothing.
pub(super) async fn withdraw_codes(
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
    .map_err(StoreError::doing("withdraw registration codes"))
}

/// Refuses what a user's PCs asked for and nobody decided yet.
pub(super) async fn refuse_enrolments(
    tx: &mut Tx,
    establishment: EstablishmentId,
    user: UserId,
    by: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE enrolments SET decided_ms = $1, decided_by = $2, decision = 'refused'
          WHERE establishment_id = $3 AND user_id = $4 AND decided_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(by)
    .bind(establishment.to_string())
    .bind(user.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("refuse a leaver's enrolments"))
}

/// Withdraws hand-overs that a user takes part in.
pub(super) async fn close_handovers_of(
    tx: &mut Tx,
    establishment: EstablishmentId,
    user: UserId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE handovers SET closed_ms = $1, outcome = 'withdrawn'
          WHERE establishment_id = $2 AND closed_ms IS NULL
            AND (leaver_id = $3 OR successor_id = $3)",
    )
    .bind(unix_ms(now))
    .bind(establishment.to_string())
    .bind(user.to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("withdraw a leaver's hand-overs"))
}

/// The PCs of one user that are in use.
pub(super) async fn devices_of(
    tx: &mut Tx,
    establishment: EstablishmentId,
    user: UserId,
) -> Result<Vec<DeviceId>, StoreError> {
    sqlx::query(
        "SELECT id FROM devices
          WHERE establishment_id = $1 AND user_id = $2 AND revoked_ms IS NULL ORDER BY id",
    )
    .bind(establishment.to_string())
    .bind(user.to_string())
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("list a user's PCs"))?
    .iter()
    .map(|row| row.parsed("id"))
    .collect()
}

/// Says whether a PC is the establishment's and in use.
pub async fn has_device(
    tx: &mut Tx,
    establishment: EstablishmentId,
    device: DeviceId,
) -> Result<bool, StoreError> {
    sqlx::query(
        "SELECT id FROM devices WHERE id = $1 AND establishment_id = $2 AND revoked_ms IS NULL",
    )
    .bind(device.to_string())
    .bind(establishment.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map(|row| row.is_some())
    .map_err(StoreError::doing("find an establishment's PC"))
}

/// How many PCs wait for the fund's approval.
pub async fn waiting_devices(db: &Db, establishment: EstablishmentId) -> Result<i64, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS waiting FROM enrolments
          WHERE establishment_id = $1 AND decided_ms IS NULL",
    )
    .bind(establishment.to_string())
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("count PCs that wait"))?;
    row.number("waiting")
}
