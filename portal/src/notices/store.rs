//! Rows of notices and of who fetched them. Members ask about their own establishment only;
//! another's notice is `None`, like one that does not exist.

use protocol::EstablishmentNumber;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{Fetching, Form, Kind, Notice, RecallError};
use crate::clock::unix_ms;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::filings::store::ActorSide;
use crate::history::{self, Entry};
use crate::ids::{BatchId, DocumentId, FilingId, NoticeId, RowId};
use crate::web::principals::{Member, Reviewer};

/// Lines of one page of a list.
pub const PAGE_LENGTH: i64 = 20;

/// The columns that [`notice_from_row`] reads, of `notices n`.
const NOTICE: &str = "n.id, n.number, n.establishment_id, n.filing_id, n.document_id, n.title,
    n.issued_ms, n.first_fetched_ms, n.amount_yen, n.recalled_ms";

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
    /// What kind it is.
    pub kind: Kind,
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
    .bind(new.kind.code())
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

/// Returns one page of the establishment's notices. Of a recalled one its line is left, so that
/// nobody looks in vain for what a mail told of; it cannot be opened.
pub async fn list_own(db: &Db, member: &Member, page: u32) -> Result<Listing, StoreError> {
    let page = page.max(1);
    let total = sqlx::query("SELECT COUNT(*) AS total FROM notices WHERE establishment_id = $1")
        .bind(member.establishment().to_string())
        .fetch_one(db.pool())
        .await
        .map_err(StoreError::doing("count own notices"))?
        .count("total")?;
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {NOTICE} FROM notices n WHERE n.establishment_id = $1
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

/// Returns how many of the establishment's notices nobody fetched yet.
pub async fn count_unread(db: &Db, member: &Member) -> Result<u64, StoreError> {
    sqlx::query(
        "SELECT COUNT(*) AS unread FROM notices n JOIN documents d ON d.id = n.document_id
          WHERE n.establishment_id = $1 AND n.recalled_ms IS NULL AND n.first_fetched_ms IS NULL
            AND d.destroyed_ms IS NULL",
    )
    .bind(member.establishment().to_string())
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("count unread notices"))?
    .count("unread")
}

/// Returns the establishment's notices that nobody fetched yet, oldest first.
pub async fn unread(db: &Db, member: &Member, at_most: i64) -> Result<Vec<Notice>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {NOTICE} FROM notices n JOIN documents d ON d.id = n.document_id
          WHERE n.establishment_id = $1 AND n.recalled_ms IS NULL AND n.first_fetched_ms IS NULL
            AND d.destroyed_ms IS NULL
          ORDER BY n.issued_ms, n.id LIMIT $2"
    )))
    .bind(member.establishment().to_string())
    .bind(at_most)
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

/// Writes down that the member fetches a notice. Nothing may be handed out before this is
/// committed: a recall at the same moment wins or loses here.
pub async fn record_fetch(
    tx: &mut Tx,
    member: &Member,
    notice: &Notice,
    form: Form,
    now: OffsetDateTime,
) -> Result<Fetching, StoreError> {
    let first = sqlx::query(
        "UPDATE notices SET first_fetched_ms = $1
          WHERE id = $2 AND establishment_id = $3 AND first_fetched_ms IS NULL
            AND recalled_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(notice.id.to_string())
    .bind(member.establishment().to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("mark notice fetched"))?
    .rows_affected();
    if first == 0 {
        let fetched = sqlx::query(
            "SELECT 1 AS found FROM notices
              WHERE id = $1 AND establishment_id = $2 AND first_fetched_ms IS NOT NULL",
        )
        .bind(notice.id.to_string())
        .bind(member.establishment().to_string())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("look for an earlier fetch"))?;
        if fetched.is_none() {
            return Ok(Fetching::Recalled);
        }
    }
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
    Ok(if first == 1 {
        Fetching::First
    } else {
        Fetching::Again
    })
}

/// Takes a notice back that nobody has fetched. `reason` is for the office alone.
pub async fn recall(
    tx: &mut Tx,
    reviewer: &Reviewer,
    id: NoticeId,
    reason: &str,
    now: OffsetDateTime,
) -> Result<Result<(), RecallError>, StoreError> {
    let recalled = sqlx::query(
        "UPDATE notices SET recalled_ms = $1, recalled_by = $2, recall_reason = $3
          WHERE id = $4 AND first_fetched_ms IS NULL AND recalled_ms IS NULL",
    )
    .bind(unix_ms(now))
    .bind(reviewer.id().to_string())
    .bind(reason)
    .bind(id.to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("recall notice"))?
    .rows_affected();
    if recalled == 1 {
        let (entry, side) = (Entry::Recalled, ActorSide::Staff);
        history::store::of_notice(tx, id, entry, side, reviewer.name(), now).await?;
        return Ok(Ok(()));
    }
    let row = sqlx::query("SELECT recalled_ms FROM notices WHERE id = $1")
        .bind(id.to_string())
        .fetch_one(&mut **tx)
        .await
        .map_err(StoreError::doing("find out why a notice is not recalled"))?;
    Ok(Err(match row.moment_if("recalled_ms")? {
        Some(_) => RecallError::Recalled,
        None => RecallError::Fetched,
    }))
}

/// What a notice belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Editions {
    /// The one that it corrects, with its number.
    pub corrects: Option<(NoticeId, String)>,
    /// The one that corrects it.
    pub corrected_by: Option<(NoticeId, String)>,
    /// The batch that it came out of.
    pub batch: Option<BatchId>,
    /// Why it was recalled; for the office alone.
    pub recall_reason: Option<String>,
}

/// Returns what a notice belongs to. The caller has found the notice through its principal.
pub async fn editions(db: &Db, notice: &Notice) -> Result<Editions, StoreError> {
    let row = sqlx::query(
        "SELECT n.batch_id, n.recall_reason, o.id AS old_id, o.number AS old_number,
                c.id AS new_id, c.number AS new_number
           FROM notices n
           LEFT JOIN notices o ON o.id = n.replaces_id
           LEFT JOIN notices c ON c.replaces_id = n.id AND c.recalled_ms IS NULL
          WHERE n.id = $1 ORDER BY c.issued_ms DESC LIMIT 1",
    )
    .bind(notice.id.to_string())
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("find a notice's editions"))?;
    let pair = |id, number| -> Result<Option<(NoticeId, String)>, StoreError> {
        Ok(row.parsed_if(id)?.zip(row.text_if(number)?))
    };
    Ok(Editions {
        corrects: pair("old_id", "old_number")?,
        corrected_by: pair("new_id", "new_number")?,
        batch: row.parsed_if("batch_id")?,
        recall_reason: row.text_if("recall_reason")?,
    })
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
    let condition = match fetched {
        Fetched::Any => "1 = 1",
        Fetched::NotYet => "n.first_fetched_ms IS NULL AND n.recalled_ms IS NULL",
    };
    let total = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT COUNT(*) AS total FROM notices n WHERE {condition}"
    )))
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("count notices"))?
    .count("total")?;
    // The page is found along the index alone, whatever lies before it.
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {NOTICE}, {BESIDE} FROM {FROM}
          WHERE n.id IN (SELECT p.id FROM (SELECT n.id FROM notices n WHERE {condition}
                  ORDER BY n.issued_ms DESC, n.id DESC LIMIT $1 OFFSET $2) p)
          ORDER BY n.issued_ms DESC, n.id DESC"
    )))
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
        amount_yen: row.number_if("amount_yen")?,
        recalled: row.moment_if("recalled_ms")?,
    })
}
