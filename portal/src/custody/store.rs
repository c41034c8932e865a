//! Rows of documents. Called by [`super`] and by the features whose documents these are.

use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{Document, Sealed};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::ids::{DocumentId, EstablishmentId};

/// Writes the row of a document that lies in the vault.
pub async fn record(
    tx: &mut Tx,
    sealed: Sealed,
    now: OffsetDateTime,
) -> Result<DocumentId, StoreError> {
    let Document {
        id,
        establishment,
        file_name,
        sha256,
        size_bytes,
        pages,
    } = sealed.document;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO documents (id, establishment_id, file_name, sha256, size_bytes, pages, stored_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id.to_string())
    .bind(establishment.to_string())
    .bind(file_name)
    .bind(sha256)
    .bind(number(size_bytes))
    .bind(number(pages))
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("record document"))?;
    Ok(id)
}

/// Removes the row of a document that was never anybody's: a draft. The object goes after the
/// transaction, by [`super::remove_objects`] or the sweeper.
pub async fn forget(tx: &mut Tx, id: DocumentId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM documents WHERE id = $1")
        .bind(id.to_string())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("forget document"))?;
    Ok(())
}

/// Returns a document's row, unless it was destroyed.
pub async fn find(db: &Db, id: DocumentId) -> Result<Option<Document>, StoreError> {
    let row = sqlx::query(
        "SELECT id, establishment_id, file_name, sha256, size_bytes, pages
           FROM documents WHERE id = $1 AND destroyed_ms IS NULL",
    )
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find document"))?;
    row.as_ref().map(document_from_row).transpose()
}

/// Says whether any row refers to an object in the vault.
pub async fn is_known(db: &Db, id: DocumentId) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 AS known FROM documents WHERE id = $1
         UNION ALL SELECT 1 FROM upload_parts WHERE document_id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("look for an object's row"))?;
    Ok(row.is_some())
}

/// Returns an establishment's sealed key.
pub async fn sealed_key(
    db: &Db,
    establishment: EstablishmentId,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT key_wrapped FROM establishments WHERE id = $1")
        .bind(establishment.to_string())
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("find establishment's key"))?;
    row.map(|row| row.text("key_wrapped")).transpose()
}

fn document_from_row(row: &AnyRow) -> Result<Document, StoreError> {
    Ok(Document {
        id: row.parsed("id")?,
        establishment: row.parsed("establishment_id")?,
        file_name: row.text("file_name")?,
        sha256: row.text("sha256")?,
        size_bytes: row.count("size_bytes")?,
        pages: row.count("pages")?,
    })
}
