//! Destroying an establishment's key, and with it every document under it (廃棄).
//!
//! Documents lie sealed under their establishment's key, so that making the key unreadable
//! makes them all unreadable at one stroke. It happens only after the establishment has left
//! and a time of grace, only by two people (`approvals`), and leaves a record (廃棄記録) of how
//! much was destroyed, when and by whom. Copies of the database made before still hold the
//! wrapped key: they have to be destroyed by age (docs/OPERATIONS.md).

use sqlx::any::AnyRow;
use time::{Duration, OffsetDateTime};

use crate::app::App;
use crate::approvals::Approval;
use crate::audit::{self, Act};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::ids::{DocumentId, EstablishmentId, RowId};
use crate::web::dates;
use crate::web::principals::Staff;

/// How long after its end an establishment's key is kept at least: long enough to notice that
/// the wrong one was ended.
pub const GRACE: Duration = Duration::days(30);

/// Why a key is not to be destroyed.
#[derive(Debug, thiserror::Error)]
pub enum DestructionError {
    /// The establishment has not left.
    #[error("the establishment has not left")]
    NotEnded,
    /// It has left, but not long enough ago.
    #[error("the time of grace is not over")]
    TooSoon {
        /// When it is.
        from: OffsetDateTime,
    },
    /// There is no key any more.
    #[error("the key is destroyed already")]
    DestroyedAlready,
    /// Filings are still under way.
    #[error("{0} filings are open")]
    OpenFilings(u64),
    /// No such establishment.
    #[error("no such establishment")]
    NotFound,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DestructionError {
    /// What staff are told; `None` if the fault is ours.
    pub fn page_text(&self) -> Option<String> {
        match self {
            Self::NotEnded => {
                Some("利用中の事業所の鍵は破棄できません。先に利用を終了してください。".to_owned())
            }
            Self::TooSoon { from } => Some(format!(
                "利用の終了から{}日間は破棄できません。{}から申請できます。",
                GRACE.whole_days(),
                dates::day(*from)
            )),
            Self::DestroyedAlready => Some("この事業所の鍵はすでに破棄されています。".to_owned()),
            Self::OpenFilings(count) => Some(format!(
                "処理の終わっていない届書が{count}件あります。決定または差戻しをしてから、申請してください。"
            )),
            Self::NotFound => Some("事業所が見つかりません。".to_owned()),
            Self::Store(_) => None,
        }
    }
}

/// What remains of what was destroyed: 廃棄記録.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub at: OffsetDateTime,
    /// How many documents.
    pub documents: u64,
    /// Their size together.
    pub bytes: u64,
    /// Who proposed it.
    pub proposer: String,
    /// Who approved it.
    pub approver: String,
    /// Why.
    pub reason: String,
}

/// Says whether the key may be destroyed at `now`. The row stays locked until the
/// transaction ends.
pub async fn check(
    tx: &mut Tx,
    id: EstablishmentId,
    now: OffsetDateTime,
) -> Result<(), DestructionError> {
    let row = sqlx::query(
        "UPDATE establishments SET ended_ms = ended_ms WHERE id = $1
         RETURNING ended_ms, key_wrapped",
    )
    .bind(id.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("find establishment to forget"))?
    .ok_or(DestructionError::NotFound)?;
    if row.text("key_wrapped")?.is_empty() {
        return Err(DestructionError::DestroyedAlready);
    }
    let ended = row.moment_if("ended_ms")?;
    let from = ended.ok_or(DestructionError::NotEnded)? + GRACE;
    if now < from {
        return Err(DestructionError::TooSoon { from });
    }
    let open = sqlx::query(
        "SELECT COUNT(*) AS open FROM filings
          WHERE establishment_id = $1 AND state IN ('received', 'in_review')",
    )
    .bind(id.to_string())
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("count open filings"))?
    .count("open")?;
    match open {
        0 => Ok(()),
        open => Err(DestructionError::OpenFilings(open)),
    }
}

/// Destroys the key and writes the record, in the transaction of the approval.
pub(crate) async fn destroy_key(
    tx: &mut Tx,
    app: &App,
    id: EstablishmentId,
    approval: &Approval,
    approver: &Staff,
    now: OffsetDateTime,
) -> Result<(), DestructionError> {
    check(tx, id, now).await?;
    let counted = sqlx::query(
        "SELECT COUNT(*) AS documents, CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) AS bytes
           FROM documents WHERE establishment_id = $1 AND destroyed_ms IS NULL",
    )
    .bind(id.to_string())
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("count documents to destroy"))?;
    sqlx::query(
        "UPDATE documents SET destroyed_ms = $1 WHERE establishment_id = $2 AND destroyed_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("mark documents destroyed"))?;
    // What a reviewer typed for a notice is sealed under the master key: it goes as well.
    sqlx::query(
        "DELETE FROM notice_drafts WHERE filing_id IN
                (SELECT id FROM filings WHERE establishment_id = $1)",
    )
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("remove drafts"))?;
    super::texts::forget(tx, id).await?;
    sqlx::query(
        "UPDATE establishments SET key_wrapped = '', zip_password_sealed = '' WHERE id = $1",
    )
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("destroy a key"))?;
    sqlx::query(
        "INSERT INTO key_destructions (id, establishment_id, documents, size_bytes, proposed_by,
                                       approved_by, reason, at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(RowId::new().to_string())
    .bind(id.to_string())
    .bind(counted.number("documents")?)
    .bind(counted.number("bytes")?)
    .bind(approval.proposed_by.to_string())
    .bind(approver.id().to_string())
    .bind(approval.reason.as_str())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write a record of destruction"))?;
    let details = serde_json::json!({
        "documents": counted.number("documents")?,
        "proposed_by": approval.proposed_by.to_string(),
        "approval": approval.id.to_string(),
    });
    let act = Act::KeyDestroyed(id);
    audit::record_with(tx, &app.keys, &approver.actor(), act, "", &details, now).await?;
    Ok(())
}

/// Removes the sealed objects of an establishment whose key is destroyed. Nobody can open them
/// any more; what stays after a failure is only room on a disk.
pub(crate) async fn remove_objects(app: &App, id: EstablishmentId) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT d.id FROM documents d JOIN establishments e ON e.id = d.establishment_id
          WHERE d.establishment_id = $1 AND d.destroyed_ms IS NOT NULL AND e.key_wrapped = ''",
    )
    .bind(id.to_string())
    .fetch_all(app.db.pool())
    .await
    .map_err(StoreError::doing("list destroyed documents"))?;
    let ids: Vec<DocumentId> = rows
        .iter()
        .map(|row| row.parsed("id"))
        .collect::<Result<_, _>>()?;
    super::remove_objects(app, ids).await;
    Ok(())
}

/// The record of an establishment whose key was destroyed.
pub async fn record(db: &Db, id: EstablishmentId) -> Result<Option<Record>, StoreError> {
    let row = sqlx::query(
        "SELECT k.at_ms, k.documents, k.size_bytes, k.reason, p.name AS proposer, a.name AS approver
           FROM key_destructions k
           JOIN staff p ON p.id = k.proposed_by
           JOIN staff a ON a.id = k.approved_by
          WHERE k.establishment_id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find a record of destruction"))?;
    row.as_ref().map(read).transpose()
}

fn read(row: &AnyRow) -> Result<Record, StoreError> {
    Ok(Record {
        at: row.moment("at_ms")?,
        documents: row.count("documents")?,
        bytes: row.count("size_bytes")?,
        proposer: row.text("proposer")?,
        approver: row.text("approver")?,
        reason: row.text("reason")?,
    })
}
