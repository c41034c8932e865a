//! Rows of held files.

use time::OffsetDateTime;

use super::Finding;
use crate::clock::unix_ms;
use crate::custody::{self, Sealed};
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::ids::{DocumentId, QuarantineId};
use crate::web::principals::{Member, Staff};

/// How many files the page shows.
const LIST_LIMIT: i64 = 200;

/// A file in quarantine, as the supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its row.
    pub id: QuarantineId,
    /// Whose it is: number and name.
    pub establishment: String,
    /// Who sent it.
    pub sender: String,
    /// Its name at the sender's.
    pub file_name: String,
    /// SHA-256 of the file as it came.
    pub sha256: String,
    /// How large it is.
    pub size_bytes: u64,
    /// Why it is held.
    pub finding: Finding,
    /// `held`, `released` or `destroyed`.
    pub state: String,
    /// Since when.
    pub held: OffsetDateTime,
}

/// Whether the member's establishment has this very file in quarantine.
pub async fn is_held(tx: &mut Tx, member: &Member, sha256: &str) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT id FROM quarantine WHERE establishment_id = $1 AND sha256 = $2 AND state = 'held'",
    )
    .bind(member.establishment().to_string())
    .bind(sha256.to_owned())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("look for a held file"))?;
    Ok(row.is_some())
}

/// Whether two people have let this very file of the member's establishment pass.
pub async fn is_released(db: &Db, member: &Member, sha256: &str) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT id FROM quarantine
          WHERE establishment_id = $1 AND sha256 = $2 AND state = 'released' LIMIT 1",
    )
    .bind(member.establishment().to_string())
    .bind(sha256.to_owned())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("look for a released file"))?;
    Ok(row.is_some())
}

/// Writes that a file is held.
pub async fn hold(
    tx: &mut Tx,
    member: &Member,
    id: QuarantineId,
    sealed: Sealed,
    finding: &Finding,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let document = sealed.document().clone();
    let signature = match finding {
        Finding::Virus(name) => name.clone(),
        Finding::Unscannable => String::new(),
    };
    custody::store::record(tx, sealed, now).await?;
    sqlx::query(
        "INSERT INTO quarantine (id, establishment_id, user_id, document_id, file_name, sha256,
                                 size_bytes, finding, signature, state, held_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'held', $10)",
    )
    .bind(id.to_string())
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .bind(document.id.to_string())
    .bind(document.file_name)
    .bind(document.sha256)
    .bind(i64::try_from(document.size_bytes).unwrap_or(i64::MAX))
    .bind(finding.code())
    .bind(signature)
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("hold a file"))
}

/// Every file that is or was held, newest first.
pub async fn list(db: &Db) -> Result<Vec<Held>, StoreError> {
    let rows = sqlx::query(
        "SELECT q.id, q.file_name, q.sha256, q.size_bytes, q.finding, q.signature, q.state,
                q.held_ms, e.number, e.name, u.name AS sender
           FROM quarantine q
           JOIN establishments e ON e.id = q.establishment_id
           JOIN users u ON u.id = q.user_id
          ORDER BY q.held_ms DESC, q.id LIMIT $1",
    )
    .bind(LIST_LIMIT)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list held files"))?;
    rows.iter()
        .map(|row| {
            let finding = Finding::from_words(&row.text("finding")?, row.text("signature")?);
            Ok(Held {
                id: row.parsed("id")?,
                establishment: format!("{:04} {}", row.number("number")?, row.text("name")?),
                sender: row.text("sender")?,
                file_name: row.text("file_name")?,
                sha256: row.text("sha256")?,
                size_bytes: row.count("size_bytes")?,
                finding: finding.ok_or(StoreError::Unreadable { what: "finding" })?,
                state: row.text("state")?,
                held: row.moment("held_ms")?,
            })
        })
        .collect()
}

/// The names of the member's own files that were released and may be handed in again.
pub async fn released_names(db: &Db, member: &Member) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT q.file_name FROM quarantine q
          WHERE q.establishment_id = $1 AND q.user_id = $2 AND q.state = 'released'
            AND NOT EXISTS (SELECT 1 FROM submission_files f JOIN submissions s
                              ON s.id = f.submission_id
                             WHERE s.establishment_id = q.establishment_id
                               AND f.sha256 = q.sha256)
          ORDER BY q.held_ms LIMIT 20",
    )
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list released files"))?;
    rows.iter().map(|row| row.text("file_name")).collect()
}

/// Moves a held file to its end. False if it is not held.
pub async fn decide(
    tx: &mut Tx,
    id: QuarantineId,
    state: &'static str,
    staff: &Staff,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let moved = sqlx::query(
        "UPDATE quarantine SET state = $1, decided_ms = $2, decided_by = $3
          WHERE id = $4 AND state = 'held'",
    )
    .bind(state)
    .bind(unix_ms(now))
    .bind(staff.id().to_string())
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("decide about a held file"))?
    .rows_affected();
    Ok(moved == 1)
}

/// Whether the file is held now.
pub async fn find_held(tx: &mut Tx, id: QuarantineId) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT id FROM quarantine WHERE id = $1 AND state = 'held'")
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("find a held file"))?;
    Ok(row.is_some())
}

/// Whose file it is and how it was found, for who decides about it.
pub async fn describe(db: &Db, id: QuarantineId) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(
        "SELECT e.number, e.name, q.finding, q.signature
           FROM quarantine q JOIN establishments e ON e.id = q.establishment_id
          WHERE q.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("describe a held file"))?;
    let Some(row) = row else { return Ok(None) };
    let finding = Finding::from_words(&row.text("finding")?, row.text("signature")?);
    let finding = finding
        .map(|finding| finding.page_text())
        .unwrap_or_default();
    Ok(Some(format!(
        "{:04} {}　{finding}",
        row.number("number")?,
        row.text("name")?
    )))
}

/// Marks a file's document as destroyed, and returns where it lies.
pub async fn destroy_document(
    tx: &mut Tx,
    id: QuarantineId,
    now: OffsetDateTime,
) -> Result<DocumentId, StoreError> {
    let row = sqlx::query("SELECT document_id FROM quarantine WHERE id = $1")
        .bind(id.to_string())
        .fetch_one(&mut **tx)
        .await
        .map_err(StoreError::doing("find a held file's document"))?;
    let document: DocumentId = row.parsed("document_id")?;
    sqlx::query("UPDATE documents SET destroyed_ms = $1 WHERE id = $2")
        .bind(unix_ms(now))
        .bind(document.to_string())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("mark a held file's document"))?;
    Ok(document)
}
