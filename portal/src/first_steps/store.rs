//! Terms, acceptances and contacts in the database.

use time::OffsetDateTime;

use super::contacts::{EstablishmentContacts, PersonContacts};
use super::terms::Terms;
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::establishments::Name;
use crate::ids::RowId;
use crate::web::principals::{Member, Reviewer};

/// The terms in force.
pub async fn current_terms(tx: &mut Tx) -> Result<Terms, StoreError> {
    let row =
        sqlx::query("SELECT version, text, published_ms FROM terms ORDER BY version DESC LIMIT 1")
            .fetch_optional(&mut **tx)
            .await
            .map_err(StoreError::doing("find the terms in force"))?;
    let Some(row) = row else {
        return Ok(Terms::first());
    };
    Ok(Terms {
        version: row.number("version")?,
        text: row.text("text")?,
        published: Some(row.moment("published_ms")?),
    })
}

pub(super) async fn add_terms(
    tx: &mut Tx,
    version: i64,
    text: &str,
    reviewer: &Reviewer,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO terms (version, text, published_ms, published_by) VALUES ($1, $2, $3, $4)",
    )
    .bind(version)
    .bind(text)
    .bind(unix_ms(now))
    .bind(reviewer.id().to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("publish terms"))
}

/// Writes an acceptance; says whether it was the first of this version.
pub(super) async fn accept_terms(
    tx: &mut Tx,
    member: &Member,
    version: i64,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    sqlx::query("UPDATE users SET terms_version = $1 WHERE id = $2 AND terms_version < $1")
        .bind(version)
        .bind(member.user().to_string())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("note accepted terms"))?;
    sqlx::query(
        "INSERT INTO terms_acceptances (id, user_id, version, establishment_id, device_id, accepted_ms)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_id, version) DO NOTHING",
    )
    .bind(RowId::new().to_string())
    .bind(member.user().to_string())
    .bind(version)
    .bind(member.establishment().to_string())
    .bind(member.device().to_string())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(|done| done.rows_affected() == 1)
    .map_err(StoreError::doing("write an acceptance of terms"))
}

/// When a member accepted these terms.
pub async fn accepted_at(
    db: &Db,
    member: &Member,
    version: i64,
) -> Result<Option<OffsetDateTime>, StoreError> {
    let row = sqlx::query(
        "SELECT accepted_ms FROM terms_acceptances WHERE user_id = $1 AND version = $2",
    )
    .bind(member.user().to_string())
    .bind(version)
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find an acceptance of terms"))?;
    row.map(|row| row.moment("accepted_ms")).transpose()
}

/// How many of the users who can sign in have accepted these terms, and how many there are.
pub async fn count_accepted(db: &Db, version: i64) -> Result<(i64, i64), StoreError> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM users u
                  WHERE u.disabled_ms IS NULL AND u.terms_version >= $1
                    AND EXISTS (SELECT 1 FROM memberships m
                                 WHERE m.user_id = u.id AND m.ended_ms IS NULL)) AS accepted,
                (SELECT COUNT(*) FROM users u
                  WHERE u.disabled_ms IS NULL
                    AND EXISTS (SELECT 1 FROM memberships m
                                 WHERE m.user_id = u.id AND m.ended_ms IS NULL)) AS users",
    )
    .bind(version)
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("count acceptances of terms"))?;
    Ok((row.number("accepted")?, row.number("users")?))
}

/// 事業所情報 on file; empty if nothing is.
pub async fn establishment(db: &Db, member: &Member) -> Result<EstablishmentContacts, StoreError> {
    let row = sqlx::query(
        "SELECT postal_code, address, telephone, department FROM establishment_contacts
          WHERE establishment_id = $1",
    )
    .bind(member.establishment().to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find an establishment's contacts"))?;
    let Some(row) = row else {
        return Ok(EstablishmentContacts::default());
    };
    Ok(EstablishmentContacts {
        postal_code: row.text("postal_code")?,
        address: row.text("address")?,
        telephone: row.text("telephone")?,
        department: row.text("department")?,
    })
}

pub(super) async fn put_establishment(
    tx: &mut Tx,
    member: &Member,
    contacts: &EstablishmentContacts,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO establishment_contacts (establishment_id, postal_code, address, telephone,
                                             department, changed_ms, changed_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (establishment_id) DO UPDATE
            SET postal_code = $2, address = $3, telephone = $4, department = $5,
                changed_ms = $6, changed_by = $7",
    )
    .bind(member.establishment().to_string())
    .bind(contacts.postal_code.as_str())
    .bind(contacts.address.as_str())
    .bind(contacts.telephone.as_str())
    .bind(contacts.department.as_str())
    .bind(unix_ms(now))
    .bind(member.user().to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write an establishment's contacts"))?;
    sqlx::query(
        "UPDATE memberships SET confirmed_ms = $1
          WHERE establishment_id = $2 AND user_id = $3 AND ended_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("note confirmed contacts"))
}

/// 管理者情報 on file; empty if nothing is.
pub async fn person(db: &Db, member: &Member) -> Result<PersonContacts, StoreError> {
    let row =
        sqlx::query("SELECT kana, telephone, department FROM user_contacts WHERE user_id = $1")
            .bind(member.user().to_string())
            .fetch_optional(db.pool())
            .await
            .map_err(StoreError::doing("find a person's contacts"))?;
    let Some(row) = row else {
        return Ok(PersonContacts::default());
    };
    Ok(PersonContacts {
        kana: row.text("kana")?,
        telephone: row.text("telephone")?,
        department: row.text("department")?,
    })
}

pub(super) async fn put_person(
    tx: &mut Tx,
    member: &Member,
    name: &Name,
    contacts: &PersonContacts,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE users SET name = $1, contacts_ms = $2 WHERE id = $3")
        .bind(name.as_str())
        .bind(unix_ms(now))
        .bind(member.user().to_string())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("change the own name"))?;
    sqlx::query(
        "INSERT INTO user_contacts (user_id, kana, telephone, department, changed_ms)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (user_id) DO UPDATE
            SET kana = $2, telephone = $3, department = $4, changed_ms = $5",
    )
    .bind(member.user().to_string())
    .bind(contacts.kana.as_str())
    .bind(contacts.telephone.as_str())
    .bind(contacts.department.as_str())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write a person's contacts"))
}

/// Notes that the last step was seen.
pub(super) async fn introduce(
    tx: &mut Tx,
    member: &Member,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE users SET introduced_ms = $1 WHERE id = $2 AND introduced_ms IS NULL")
        .bind(unix_ms(now))
        .bind(member.user().to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(StoreError::doing("note the end of the first steps"))
}
