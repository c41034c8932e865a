//! Rows of drafts: at most one for a filing, of whoever reviews it.

use sqlx::any::AnyRow;
use time::{Duration, OffsetDateTime};

use super::DeterminationForm;
use crate::clock::unix_ms;
use crate::custody;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::ids::{DocumentId, DraftId, FilingId, StaffId};
use crate::keys::{MasterKey, Purpose};
use crate::web::principals::Reviewer;

/// A draft is thrown away after this long.
pub const DRAFT_LIFETIME: Duration = Duration::hours(24);

/// A notice that a reviewer looks at before it is issued.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its id.
    pub id: DraftId,
    /// For which filing.
    pub filing: FilingId,
    /// Who made it.
    pub staff: StaffId,
    /// The sealed PDF.
    pub document: DocumentId,
    /// The notice's number to be.
    pub number: String,
    /// What was typed; `None` for an uploaded PDF.
    pub form: Option<DeterminationForm>,
    /// When it was made.
    pub made: OffsetDateTime,
}

/// Returns the reviewer's draft for a filing. A colleague's is `None`.
pub async fn find_draft(
    db: &Db,
    keys: &MasterKey,
    reviewer: &Reviewer,
    filing: FilingId,
) -> Result<Option<Draft>, StoreError> {
    let row = sqlx::query(
        "SELECT id, filing_id, staff_id, document_id, number, form_sealed, made_ms
           FROM notice_drafts WHERE filing_id = $1 AND staff_id = $2",
    )
    .bind(filing.to_string())
    .bind(reviewer.id().to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find draft"))?;
    row.map(|row| draft_from_row(&row, keys)).transpose()
}

/// Returns the number that an earlier draft for the filing took: numbers are not wasted.
pub async fn number_of(tx: &mut Tx, filing: FilingId) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT number FROM notice_drafts WHERE filing_id = $1")
        .bind(filing.to_string())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("find a draft's number"))?;
    row.map(|row| row.text("number")).transpose()
}

/// Writes a draft in the place of an earlier one. Returns the earlier one's document, whose
/// row is gone; its object is to be removed after the commit.
pub async fn put_draft(
    tx: &mut Tx,
    keys: &MasterKey,
    draft: &Draft,
) -> Result<Option<DocumentId>, StoreError> {
    let earlier = remove_draft(tx, draft.filing).await?;
    if let Some(document) = earlier {
        custody::store::forget(tx, document).await?;
    }
    let sealed = draft.form.as_ref().map(|form| {
        let json = serde_json::to_vec(form).expect("a form of texts is JSON");
        keys.seal(Purpose::NoticeDraft, &place(draft.id), &json)
    });
    sqlx::query(
        "INSERT INTO notice_drafts (id, filing_id, staff_id, document_id, number, form_sealed, made_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(draft.id.to_string())
    .bind(draft.filing.to_string())
    .bind(draft.staff.to_string())
    .bind(draft.document.to_string())
    .bind(draft.number.as_str())
    .bind(sealed)
    .bind(unix_ms(draft.made))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write draft"))?;
    Ok(earlier)
}

/// Removes a filing's draft and returns its document, which is somebody else's from now on.
pub async fn remove_draft(tx: &mut Tx, filing: FilingId) -> Result<Option<DocumentId>, StoreError> {
    let row = sqlx::query("DELETE FROM notice_drafts WHERE filing_id = $1 RETURNING document_id")
        .bind(filing.to_string())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("remove draft"))?;
    row.map(|row| row.parsed("document_id")).transpose()
}

/// Removes drafts that nobody issued. Returns their documents, whose rows are gone.
pub async fn purge_drafts(tx: &mut Tx, now: OffsetDateTime) -> Result<Vec<DocumentId>, StoreError> {
    let rows = sqlx::query("DELETE FROM notice_drafts WHERE made_ms <= $1 RETURNING document_id")
        .bind(unix_ms(now - DRAFT_LIFETIME))
        .fetch_all(&mut **tx)
        .await
        .map_err(StoreError::doing("remove old drafts"))?;
    let mut documents = Vec::new();
    for row in rows {
        let document = row.parsed("document_id")?;
        custody::store::forget(tx, document).await?;
        documents.push(document);
    }
    Ok(documents)
}

fn place(id: DraftId) -> String {
    format!("notice_drafts/{id}")
}

fn draft_from_row(row: &AnyRow, keys: &MasterKey) -> Result<Draft, StoreError> {
    let id = row.parsed("id")?;
    let unreadable = || StoreError::Unreadable {
        what: "form of a draft",
    };
    let form = row
        .text_if("form_sealed")?
        .map(|sealed| {
            let json = keys
                .open(Purpose::NoticeDraft, &place(id), &sealed)
                .map_err(|_| unreadable())?;
            serde_json::from_slice(&json).map_err(|_| unreadable())
        })
        .transpose()?;
    Ok(Draft {
        id,
        filing: row.parsed("filing_id")?,
        staff: row.parsed("staff_id")?,
        document: row.parsed("document_id")?,
        number: row.text("number")?,
        form,
        made: row.moment("made_ms")?,
    })
}
