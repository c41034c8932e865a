//! Rows of notices and of who fetched them. Members ask about their own establishment only;
//! another's notice is `None`, like one that does not exist.

use protocol::EstablishmentNumber;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{Form, Notice};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::filings::store::ActorSide;
use crate::history::{self, Entry};
use crate::ids::{DocumentId, FilingId, NoticeId, RowId};
use crate::web::principals::{Member, Reviewer};

/// Lines of one page of a list.
pub const PAGE_LENGTH: i64 = 20;

/// The columns that [`notice_from_row`] reads, of `notices n`.
const NOTICE: &str = "n.id, n.number, n.establishment_id, n.filing_id, n.document_id, n.title,
    n.issued_ms, n.first_fetched_ms";

/// One page of an establishment's notices.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The notices, newest first.
    pub notices: Vec<Notice>,
    /// How many all pages have.
    pub total: u64,
    /// Which page, from 1.
    pub page: u32,
}

/// One page of the fund's notices.
#[derive(Debug, Clone)]
pub struct OfficeListing {
    /// The notices, newest first.
    pub lines: Vec<OfficeLine>,
    /// How many all pages have.
    pub total: u64,
    /// Which page, from 1.
    pub page: u32,
}

/// A notice as the office sees it in a list.
#[derive(Debug, Clone)]
pub struct OfficeLine {
    /// The notice.
    pub notice: Notice,
    /// Whom it is for.
    pub establishment_number: EstablishmentNumber,
    /// Whom it is for.
    pub establishment_name: String,
    /// Who issued it.
    pub issued_by: String,
}

/// Which notices the office looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// All.
    Any,
    /// Those that nobody fetched yet.
    NotYet,
}

/// One fetch of a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// When.
    pub at: OffsetDateTime,
    /// Who.
    pub user: String,
    /// From which PC.
    pub device: String,
    /// In which form.
    pub form: Form,
}

/// A notice to be written.
#[derive(Debug, Clone)]
pub struct NewNotice {
    /// The notice; nobody has fetched it.
    pub notice: Notice,
    /// What kind it is, the word in the database.
    pub kind: &'static str,
}

/// Writes a notice that a reviewer issues.
pub async fn issue(tx: &mut Tx, reviewer: &Reviewer, new: &NewNotice) -> Result<(), StoreError> {
    let notice = &new.notice;
    sqlx::query(
        "INSERT INTO notices (id, number, kind, establishment_id, filing_id, document_id, title, issued_ms, issued_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(notice.id.to_string())
    .bind(notice.number.as_str())
    .bind(new.kind)
    .bind(notice.establishment.to_string())
    .bind(notice.filing.map(|id| id.to_string()))
    .bind(notice.document.to_string())
    .bind(notice.title.as_str())
    .bind(unix_ms(notice.issued))
    .bind(reviewer.id().to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write notice"))?;
    let (id, side) = (notice.id, ActorSide::Staff);
    history::store::of_notice(tx, id, Entry::Issued, side, reviewer.name(), notice.issued).await
}

/// Returns the notice if it is the member's establishment's.
pub async fn find_own(
    db: &Db,
    member: &Member,
    id: NoticeId,
) -> Result<Option<Notice>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {NOTICE} FROM notices n
          WHERE n.id = $1 AND n.establishment_id = $2 AND n.recalled_ms IS NULL"
    )))
    .bind(id.to_string())
    .bind(member.establishment().to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find own notice"))?;
    row.as_ref().map(notice_from_row).transpose()
}

/// Returns one page of the establishment's notices.
pub async fn list_own(db: &Db, member: &Member, page: u32) -> Result<Listing, StoreError> {
    let page = page.max(1);
    let total = sqlx::query(
        "SELECT COUNT(*) AS total FROM notices WHERE establishment_id = $1 AND recalled_ms IS NULL",
    )
    .bind(member.establishment().to_string())
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("count own notices"))?
    .count("total")?;
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {NOTICE} FROM notices n WHERE n.establishment_id = $1 AND n.recalled_ms IS NULL
          ORDER BY n.issued_ms DESC, n.id DESC LIMIT $2 OFFSET $3"
    )))
    .bind(member.establishment().to_string())
    .bind(PAGE_LENGTH)
    .bind((i64::from(page) - 1) * PAGE_LENGTH)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list own notices"))?;
    Ok(Listing {
        notices: rows.iter().map(notice_from_row).collect::<Result<_, _>>()?,
        total,
        page,
    })
}

/// Returns the establishment's notices that nobody fetched yet, oldest first.
pub async fn unread(db: &Db, member: &Member) -> Result<Vec<Notice>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {NOTICE} FROM notices n
          WHERE n.establishment_id = $1 AND n.recalled_ms IS NULL AND n.first_fetched_ms IS NULL
          ORDER BY n.issued_ms, n.id LIMIT $2"
    )))
    .bind(member.establishment().to_string())
    .bind(PAGE_LENGTH)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list unread notices"))?;
    rows.iter().map(notice_from_row).collect()
}

/// Returns the notices on one of the establishment's filings.
pub async fn of_own_filing(
    db: &Db,
    member: &Member,
    filing: FilingId,
) -> Result<Vec<Notice>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {NOTICE} FROM notices n
          WHERE n.filing_id = $1 AND n.establishment_id = $2 AND n.recalled_ms IS NULL
          ORDER BY n.issued_ms"
    )))
    .bind(filing.to_string())
    .bind(member.establishment().to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list a filing's notices"))?;
    rows.iter().map(notice_from_row).collect()
}

/// Returns the notices on a filing, for the office.
pub async fn of_filing(db: &Db, _: &Reviewer, filing: FilingId) -> Result<Vec<Notice>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {NOTICE} FROM notices n WHERE n.filing_id = $1 ORDER BY n.issued_ms"
    )))
    .bind(filing.to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list a filing's notices"))?;
    rows.iter().map(notice_from_row).collect()
}

/// Writes down that the member fetches a notice. Returns whether it is the first fetch.
pub async fn record_fetch(
    tx: &mut Tx,
    member: &Member,
    notice: &Notice,
    form: Form,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let first = sqlx::query(
        "UPDATE notices SET first_fetched_ms = $1
          WHERE id = $2 AND establishment_id = $3 AND first_fetched_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(notice.id.to_string())
    .bind(member.establishment().to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("mark notice fetched"))?
    .rows_affected();
    sqlx::query(
        "INSERT INTO notice_fetches (id, notice_id, user_id, device_id, form, at_ms)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(RowId::new().to_string())
    .bind(notice.id.to_string())
    .bind(member.user().to_string())
    .bind(member.device().to_string())
    .bind(form.code())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write fetch"))?;
    let (id, side) = (notice.id, ActorSide::Member);
    history::store::of_notice(tx, id, Entry::Fetched, side, member.name(), now).await?;
    Ok(first == 1)
}

/// Returns who fetched a notice, latest first. The caller has found the notice through its
/// principal.
pub async fn fetches(db: &Db, notice: &Notice) -> Result<Vec<Fetch>, StoreError> {
    let rows = sqlx::query(
        "SELECT f.at_ms, f.form, u.name AS user_name, d.name AS device_name
           FROM notice_fetches f
           JOIN users u ON u.id = f.user_id
           JOIN devices d ON d.id = f.device_id
          WHERE f.notice_id = $1 ORDER BY f.at_ms DESC, f.id DESC LIMIT 100",
    )
    .bind(notice.id.to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list fetches"))?;
    rows.iter()
        .map(|row| {
            Ok(Fetch {
                at: row.moment("at_ms")?,
                user: row.text("user_name")?,
                device: row.text("device_name")?,
                form: Form::from_code(&row.text("form")?)
                    .ok_or(StoreError::Unreadable { what: "form" })?,
            })
        })
        .collect()
}

/// Returns one page of the fund's notices, for the office.
pub async fn list_for_office(
    db: &Db,
    _: &Reviewer,
    fetched: Fetched,
    page: u32,
) -> Result<OfficeListing, StoreError> {
    let page = page.max(1);
    let not_yet = i64::from(fetched == Fetched::NotYet);
    let total = sqlx::query(
        "SELECT COUNT(*) AS total FROM notices n WHERE $1 = 0 OR n.first_fetched_ms IS NULL",
    )
    .bind(not_yet)
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("count notices"))?
    .count("total")?;
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {NOTICE}, {BESIDE} FROM {FROM} WHERE $1 = 0 OR n.first_fetched_ms IS NULL
          ORDER BY n.issued_ms DESC, n.id DESC LIMIT $2 OFFSET $3"
    )))
    .bind(not_yet)
    .bind(PAGE_LENGTH)
    .bind((i64::from(page) - 1) * PAGE_LENGTH)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list notices"))?;
    Ok(OfficeListing {
        lines: rows
            .iter()
            .map(office_line_from_row)
            .collect::<Result<_, _>>()?,
        total,
        page,
    })
}

/// Returns a notice for the office.
pub async fn find_for_office(
    db: &Db,
    _: &Reviewer,
    id: NoticeId,
) -> Result<Option<OfficeLine>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {NOTICE}, {BESIDE} FROM {FROM} WHERE n.id = $1"
    )))
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find notice"))?;
    row.as_ref().map(office_line_from_row).transpose()
}

const FROM: &str = "notices n
    JOIN establishments e ON e.id = n.establishment_id
    JOIN staff s ON s.id = n.issued_by";
const BESIDE: &str =
    "e.number AS establishment_number, e.name AS establishment_name, s.name AS issued_by_name";

fn office_line_from_row(row: &AnyRow) -> Result<OfficeLine, StoreError> {
    let number = u16::try_from(row.number("establishment_number")?)
        .ok()
        .and_then(|number| EstablishmentNumber::new(number).ok());
    Ok(OfficeLine {
        notice: notice_from_row(row)?,
        establishment_number: number.ok_or(StoreError::Unreadable {
            what: "establishment_number",
        })?,
        establishment_name: row.text("establishment_name")?,
        issued_by: row.text("issued_by_name")?,
    })
}

fn notice_from_row(row: &AnyRow) -> Result<Notice, StoreError> {
    Ok(Notice {
        id: row.parsed("id")?,
        number: row.text("number")?,
        establishment: row.parsed("establishment_id")?,
        filing: row.parsed_if("filing_id")?,
        document: row.parsed::<DocumentId>("document_id")?,
        title: row.text("title")?,
        issued: row.moment("issued_ms")?,
        first_fetched: row.moment_if("first_fetched_ms")?,
    })
}
