//! Rows of retention rules and of destructions.

use protocol::EstablishmentNumber;
use time::OffsetDateTime;

use super::Rule;
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::establishments::store::number_from_row;
use crate::ids::{DocumentId, NoticeId, RowId, StaffId};
use crate::notices::Kind;
use crate::web::principals::Reviewer;

/// Lines of one page of the list.
pub const PAGE_LENGTH: i64 = 50;

/// A notice whose time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The notice.
    pub notice: NoticeId,
    /// Its document.
    pub document: DocumentId,
    /// The hash of what is destroyed.
    pub sha256: String,
}

/// A destruction, as the list shows it.
#[derive(Debug, Clone)]
pub struct Destruction {
    /// The notice's number.
    pub number: String,
    /// What it was.
    pub title: String,
    /// Whose.
    pub establishment: EstablishmentNumber,
    /// Whose.
    pub establishment_name: String,
    /// When it was issued.
    pub issued: OffsetDateTime,
    /// The hash of what was destroyed.
    pub sha256: String,
    /// Its size.
    pub size_bytes: u64,
    /// The rule that it fell under, in years.
    pub years: u64,
    /// When it was destroyed.
    pub destroyed: OffsetDateTime,
}

const RULE: &str = "SELECT years, years_before, changed_ms FROM retention_rules WHERE kind = $1";

/// Returns the rule of a kind.
pub async fn rule(db: &Db, kind: Kind) -> Result<Rule, StoreError> {
    let row = sqlx::query(RULE)
        .bind(kind.code())
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("find retention rule"))?;
    rule_from_row(kind, row.as_ref())
}

/// Returns the rule of a kind inside a transaction.
pub async fn rule_in(tx: &mut Tx, kind: Kind) -> Result<Rule, StoreError> {
    let row = sqlx::query(RULE)
        .bind(kind.code())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("find retention rule"))?;
    rule_from_row(kind, row.as_ref())
}

fn rule_from_row(kind: Kind, row: Option<&sqlx::any::AnyRow>) -> Result<Rule, StoreError> {
    let Some(row) = row else {
        return Ok(Rule::default_of(kind));
    };
    Ok(Rule {
        kind,
        years: row.number("years")?,
        years_before: row.number("years_before")?,
        changed: Some(row.moment("changed_ms")?),
    })
}

/// Writes a rule. Of two changes shortly after each other the longest that still holds counts
/// as what held before.
pub async fn put_rule(
    tx: &mut Tx,
    before: &Rule,
    years: i64,
    by: StaffId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO retention_rules (kind, years, years_before, changed_by, changed_ms)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (kind) DO UPDATE SET years = $2, years_before = $3, changed_by = $4,
                                          changed_ms = $5",
    )
    .bind(before.kind.code())
    .bind(years)
    .bind(before.years_at(now))
    .bind(by.to_string())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write retention rule"))
}

/// Returns notices of a kind that were issued before `limit` and are still there, oldest
/// first.
pub async fn due(
    db: &Db,
    kind: Kind,
    limit: OffsetDateTime,
    at_most: i64,
) -> Result<Vec<Due>, StoreError> {
    let rows = sqlx::query(
        "SELECT n.id, n.document_id, d.sha256
           FROM notices n JOIN documents d ON d.id = n.document_id
          WHERE n.kind = $1 AND n.issued_ms < $2 AND d.destroyed_ms IS NULL
          ORDER BY n.issued_ms, n.id LIMIT $3",
    )
    .bind(kind.code())
    .bind(unix_ms(limit))
    .bind(at_most)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("look for notices whose time is over"))?;
    rows.iter()
        .map(|row| {
            Ok(Due {
                notice: row.parsed("id")?,
                document: row.parsed("document_id")?,
                sha256: row.text("sha256")?,
            })
        })
        .collect()
}

/// How many notices of a kind a rule would destroy that began to hold at once.
pub async fn count_due(db: &Db, kind: Kind, limit: OffsetDateTime) -> Result<u64, StoreError> {
    sqlx::query(
        "SELECT COUNT(*) AS due FROM notices n JOIN documents d ON d.id = n.document_id
          WHERE n.kind = $1 AND n.issued_ms < $2 AND d.destroyed_ms IS NULL",
    )
    .bind(kind.code())
    .bind(unix_ms(limit))
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("count notices whose time is over"))?
    .count("due")
}

/// Writes down that a document is gone. Returns whether this is the first time.
pub async fn record_destruction(
    tx: &mut Tx,
    due: &Due,
    years: i64,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let gone = sqlx::query(
        "UPDATE documents SET destroyed_ms = $1 WHERE id = $2 AND destroyed_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(due.document.to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("mark a document destroyed"))?
    .rows_affected();
    if gone == 0 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO destructions (id, notice_id, document_id, sha256, years, destroyed_ms)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(RowId::new().to_string())
    .bind(due.notice.to_string())
    .bind(due.document.to_string())
    .bind(due.sha256.as_str())
    .bind(years)
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write destruction"))?;
    Ok(true)
}

/// Returns one page of the destructions, newest first, and how many all pages have.
pub async fn list(
    db: &Db,
    _: &Reviewer,
    page: u32,
    length: i64,
) -> Result<(Vec<Destruction>, u64), StoreError> {
    let total = sqlx::query("SELECT COUNT(*) AS total FROM destructions")
        .fetch_one(db.pool())
        .await
        .map_err(StoreError::doing("count destructions"))?
        .count("total")?;
    let rows = sqlx::query(
        "SELECT n.number, n.title, n.issued_ms, e.number AS establishment_number,
                e.name AS establishment_name, x.sha256, d.size_bytes, x.years, x.destroyed_ms
           FROM (SELECT y.* FROM destructions y
                  ORDER BY y.destroyed_ms DESC, y.id DESC LIMIT $1 OFFSET $2) x
           JOIN notices n ON n.id = x.notice_id
           JOIN establishments e ON e.id = n.establishment_id
           JOIN documents d ON d.id = x.document_id
          ORDER BY x.destroyed_ms DESC, x.id DESC",
    )
    .bind(length)
    .bind((i64::from(page.max(1)) - 1) * length)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list destructions"))?;
    let lines = rows
        .iter()
        .map(|row| {
            Ok(Destruction {
                number: row.text("number")?,
                title: row.text("title")?,
                establishment: number_from_row(row.number("establishment_number")?)?,
                establishment_name: row.text("establishment_name")?,
                issued: row.moment("issued_ms")?,
                sha256: row.text("sha256")?,
                size_bytes: row.count("size_bytes")?,
                years: row.count("years")?,
                destroyed: row.moment("destroyed_ms")?,
            })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok((lines, total))
}
