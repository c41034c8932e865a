//! Rows of uploads and their parts. Every question carries the member: another
//! establishment's or another user's upload is `None`, like one that does not exist.

use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{CreateError, FileName, LIFETIME, OPEN_LIMIT, QUOTA_BYTES, Upload};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::establishments;
use crate::ids::{DocumentId, SubmissionId, UploadId};
use crate::web::principals::Member;

/// Expired uploads that one step of [`purge`] removes.
const PURGE_BATCH: i64 = 50;

/// A part that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where it begins in the file.
    pub start_bytes: u64,
    /// How many bytes it has.
    pub length_bytes: u64,
    /// Where it lies sealed.
    pub object: DocumentId,
}

/// Begins an upload, unless the user has too many open or the establishment's room is used.
pub async fn create(
    tx: &mut Tx,
    member: &Member,
    file_name: &FileName,
    length_bytes: u64,
    now: OffsetDateTime,
) -> Result<Result<Upload, CreateError>, StoreError> {
    // Two uploads cannot both take the last room.
    establishments::store::lock(tx, member.establishment()).await?;
    let used = sqlx::query(
        "SELECT COALESCE(SUM(CASE WHEN user_id = $2 THEN 1 ELSE 0 END), 0) AS own,
                CAST(COALESCE(SUM(length_bytes), 0) AS BIGINT) AS bytes
           FROM uploads
          WHERE establishment_id = $1 AND submission_id IS NULL AND expires_ms > $3",
    )
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .bind(unix_ms(now))
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("count open uploads"))?;
    let length = i64::try_from(length_bytes).unwrap_or(i64::MAX);
    if used.number("own")? >= OPEN_LIMIT {
        return Ok(Err(CreateError::TooMany));
    }
    if used.number("bytes")?.saturating_add(length) > QUOTA_BYTES {
        return Ok(Err(CreateError::QuotaUsed));
    }
    let upload = Upload {
        id: UploadId::new(),
        file_name: file_name.as_str().to_owned(),
        length_bytes,
        offset_bytes: 0,
        expires: now + LIFETIME,
        submission: None,
    };
    sqlx::query(
        "INSERT INTO uploads (id, establishment_id, user_id, file_name, length_bytes, offset_bytes,
                              created_ms, expires_ms)
         VALUES ($1, $2, $3, $4, $5, 0, $6, $7)",
    )
    .bind(upload.id.to_string())
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .bind(upload.file_name.as_str())
    .bind(length)
    .bind(unix_ms(now))
    .bind(unix_ms(upload.expires))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("begin upload"))?;
    Ok(Ok(upload))
}

/// Returns the member's upload, unless it has expired.
pub async fn find(
    db: &Db,
    member: &Member,
    id: UploadId,
    now: OffsetDateTime,
) -> Result<Option<Upload>, StoreError> {
    let row = sqlx::query(
        "SELECT id, file_name, length_bytes, offset_bytes, expires_ms, submission_id
           FROM uploads
          WHERE id = $1 AND establishment_id = $2 AND user_id = $3 AND expires_ms > $4",
    )
    .bind(id.to_string())
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .bind(unix_ms(now))
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find upload"))?;
    row.as_ref().map(upload_from_row).transpose()
}

/// Returns the member's uploads that are not handed in yet, oldest first.
pub async fn open_uploads(
    db: &Db,
    member: &Member,
    now: OffsetDateTime,
) -> Result<Vec<Upload>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, file_name, length_bytes, offset_bytes, expires_ms, submission_id
           FROM uploads
          WHERE establishment_id = $1 AND user_id = $2 AND expires_ms > $3
            AND submission_id IS NULL
          ORDER BY created_ms, id",
    )
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .bind(unix_ms(now))
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list open uploads"))?;
    rows.iter().map(upload_from_row).collect()
}

/// Adds a part whose sealed bytes are in the vault. `false` if another part came first, or the
/// upload is gone: then the part does not count.
pub async fn add_part(
    tx: &mut Tx,
    member: &Member,
    id: UploadId,
    part: &Part,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let moved = sqlx::query(
        "UPDATE uploads SET offset_bytes = offset_bytes + $1
          WHERE id = $2 AND establishment_id = $3 AND user_id = $4 AND expires_ms > $5
            AND submission_id IS NULL AND offset_bytes = $6 AND offset_bytes + $1 <= length_bytes",
    )
    .bind(number(part.length_bytes))
    .bind(id.to_string())
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .bind(unix_ms(now))
    .bind(number(part.start_bytes))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("move an upload's offset"))?
    .rows_affected();
    if moved != 1 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO upload_parts (upload_id, start_bytes, length_bytes, document_id)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(id.to_string())
    .bind(number(part.start_bytes))
    .bind(number(part.length_bytes))
    .bind(part.object.to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("record an upload's part"))?;
    Ok(true)
}

/// Returns an upload's parts in the order of the file.
pub async fn parts(db: &Db, upload: &Upload) -> Result<Vec<Part>, StoreError> {
    let rows = sqlx::query(
        "SELECT start_bytes, length_bytes, document_id FROM upload_parts
          WHERE upload_id = $1 ORDER BY start_bytes",
    )
    .bind(upload.id.to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list an upload's parts"))?;
    rows.iter()
        .map(|row| {
            Ok(Part {
                start_bytes: row.count("start_bytes")?,
                length_bytes: row.count("length_bytes")?,
                object: row.parsed("document_id")?,
            })
        })
        .collect()
}

/// Marks a complete upload as handed in and lets go of its parts. `None` if it is not there,
/// not complete, or handed in already; else where the parts lie, to be removed after the
/// commit. The upload's row stays until it expires: who asks again gets the same receipt.
pub async fn hand_in(
    tx: &mut Tx,
    member: &Member,
    id: UploadId,
    submission: SubmissionId,
    now: OffsetDateTime,
) -> Result<Option<Vec<DocumentId>>, StoreError> {
    let marked = sqlx::query(
        "UPDATE uploads SET submission_id = $1
          WHERE id = $2 AND establishment_id = $3 AND user_id = $4 AND expires_ms > $5
            AND submission_id IS NULL AND offset_bytes = length_bytes",
    )
    .bind(submission.to_string())
    .bind(id.to_string())
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("hand in upload"))?
    .rows_affected();
    if marked != 1 {
        return Ok(None);
    }
    remove_parts(tx, id).await.map(Some)
}

/// Takes an upload back. `None` if it is not there or was handed in; else where its parts
/// lie, to be removed after the commit.
pub async fn remove(
    tx: &mut Tx,
    member: &Member,
    id: UploadId,
) -> Result<Option<Vec<DocumentId>>, StoreError> {
    let own = sqlx::query(
        "UPDATE uploads SET expires_ms = 0
          WHERE id = $1 AND establishment_id = $2 AND user_id = $3 AND submission_id IS NULL",
    )
    .bind(id.to_string())
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("take back upload"))?
    .rows_affected();
    if own != 1 {
        return Ok(None);
    }
    let objects = remove_parts(tx, id).await?;
    remove_row(tx, id).await?;
    Ok(Some(objects))
}

/// Removes a batch of expired uploads. Returns where their parts lie, to be removed after the
/// commit, and whether there may be more.
pub async fn purge(
    tx: &mut Tx,
    now: OffsetDateTime,
) -> Result<(Vec<DocumentId>, bool), StoreError> {
    let rows = sqlx::query("SELECT id FROM uploads WHERE expires_ms <= $1 ORDER BY id LIMIT $2")
        .bind(unix_ms(now))
        .bind(PURGE_BATCH)
        .fetch_all(&mut **tx)
        .await
        .map_err(StoreError::doing("list expired uploads"))?;
    let mut objects = Vec::new();
    for row in &rows {
        let id = row.parsed("id")?;
        objects.extend(remove_parts(tx, id).await?);
        remove_row(tx, id).await?;
    }
    Ok((objects, rows.len() as i64 == PURGE_BATCH))
}

async fn remove_parts(tx: &mut Tx, id: UploadId) -> Result<Vec<DocumentId>, StoreError> {
    let rows = sqlx::query("DELETE FROM upload_parts WHERE upload_id = $1 RETURNING document_id")
        .bind(id.to_string())
        .fetch_all(&mut **tx)
        .await
        .map_err(StoreError::doing("remove an upload's parts"))?;
    rows.iter().map(|row| row.parsed("document_id")).collect()
}

async fn remove_row(tx: &mut Tx, id: UploadId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM uploads WHERE id = $1")
        .bind(id.to_string())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("remove upload"))?;
    Ok(())
}

fn upload_from_row(row: &AnyRow) -> Result<Upload, StoreError> {
    Ok(Upload {
        id: row.parsed("id")?,
        file_name: row.text("file_name")?,
        length_bytes: row.count("length_bytes")?,
        offset_bytes: row.count("offset_bytes")?,
        expires: row.moment("expires_ms")?,
        submission: row.parsed_if("submission_id")?,
    })
}
