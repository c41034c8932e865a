//! Rows of cover sheets and of filings that came on paper.

use protocol::EstablishmentNumber;
use sqlx::any::AnyRow;
use time::{Date, OffsetDateTime};

use super::{Arrival, Code, Cover};
use crate::clock::unix_ms;
use crate::custody::{self, Sealed};
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx, next_number};
use crate::deadlines;
use crate::deadlines::store::{day_from_text, day_text};
use crate::filings::store::{ActorSide, write_event};
use crate::filings::{Event, FilingName};
use crate::ids::{EstablishmentId, FilingId, RowId, SubmissionId};
use crate::web::principals::{Member, Reviewer};

/// Cover sheets that a page lists.
const LIST_LENGTH: i64 = 50;

const COVER: &str =
    "c.id, c.code, c.establishment_id, c.kind, k.name AS kind_name, c.filed_on, c.sheets,
    c.made_ms, c.filing_id, e.number";
const FROM: &str = "cover_sheets c
    JOIN filing_kinds k ON k.code = c.kind
    JOIN establishments e ON e.id = c.establishment_id";

/// Writes a cover sheet. Returns its id, or `None` if the establishment made too many since
/// `since`.
pub async fn make(
    tx: &mut Tx,
    member: &Member,
    (name, sheets, code): (&FilingName, u16, &Code),
    (limit, since): (i64, OffsetDateTime),
    now: OffsetDateTime,
) -> Result<Option<String>, StoreError> {
    let made = sqlx::query(
        "SELECT COUNT(*) AS made FROM cover_sheets WHERE establishment_id = $1 AND made_ms > $2",
    )
    .bind(member.establishment().to_string())
    .bind(unix_ms(since))
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("count cover sheets"))?
    .number("made")?;
    if made >= limit {
        return Ok(None);
    }
    let id = RowId::new().to_string();
    sqlx::query(
        "INSERT INTO cover_sheets (id, code, establishment_id, kind, filed_on, sheets, made_by, made_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id.as_str())
    .bind(code.plain())
    .bind(member.establishment().to_string())
    .bind(name.kind().code())
    .bind(day_text(name.date()))
    .bind(i64::from(sheets))
    .bind(member.user().to_string())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write a cover sheet"))?;
    Ok(Some(id))
}

/// The establishment's cover sheets, newest first.
pub async fn own(db: &Db, member: &Member) -> Result<Vec<Cover>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COVER} FROM {FROM} WHERE c.establishment_id = $1
          ORDER BY c.made_ms DESC, c.id DESC LIMIT $2"
    )))
    .bind(member.establishment().to_string())
    .bind(LIST_LENGTH)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list cover sheets"))?;
    rows.iter().map(cover_from_row).collect()
}

/// A cover sheet, if it is the establishment's.
pub async fn find_own(db: &Db, member: &Member, id: &str) -> Result<Option<Cover>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COVER} FROM {FROM} WHERE c.id = $1 AND c.establishment_id = $2"
    )))
    .bind(id.to_owned())
    .bind(member.establishment().to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find a cover sheet"))?;
    row.as_ref().map(cover_from_row).transpose()
}

/// What a code leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A filing that is recorded.
    Filing(FilingId),
    /// A cover sheet whose filing has not arrived, and its establishment's number.
    Cover(Cover, EstablishmentNumber),
}

/// Finds what a code leads to, for the office.
pub async fn find(db: &Db, _: &Reviewer, code: &Code) -> Result<Option<Found>, StoreError> {
    let filing = sqlx::query("SELECT filing_id FROM paper_filings WHERE code = $1")
        .bind(code.plain())
        .fetch_optional(db.pool())
        .await
        .map_err(StoreError::doing("find a filing on paper"))?;
    if let Some(row) = filing {
        return Ok(Some(Found::Filing(row.parsed("filing_id")?)));
    }
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COVER} FROM {FROM} WHERE c.code = $1"
    )))
    .bind(code.plain())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find a cover sheet by its code"))?;
    let Some(row) = row else { return Ok(None) };
    let cover = cover_from_row(&row)?;
    let number = cover.name.establishment();
    Ok(Some(Found::Cover(cover, number)))
}

/// Records a filing that came on paper: submission, filing, timeline. Returns `None` if the
/// code's filing is recorded already.
pub async fn record(
    tx: &mut Tx,
    reviewer: &Reviewer,
    establishment: EstablishmentId,
    arrival: &Arrival,
    (id, record): (FilingId, Sealed),
    now: OffsetDateTime,
) -> Result<Option<()>, StoreError> {
    let taken = sqlx::query(
        "UPDATE cover_sheets SET filing_id = $1
          WHERE code = $2 AND establishment_id = $3 AND filing_id IS NULL",
    );
    let submission = SubmissionId::new();
    let day = day_text(now.to_offset(access::JST).date()).replace('-', "");
    let number = next_number(tx, &format!("receipt/{day}")).await?;
    let receipt_number = format!("{day}-{number:04}");
    sqlx::query(
        "INSERT INTO submissions (id, receipt_number, establishment_id, received_ms)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(submission.to_string())
    .bind(receipt_number.as_str())
    .bind(establishment.to_string())
    .bind(unix_ms(now))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write a submission on paper"))?;
    let document = custody::store::record(tx, record, now).await?;
    let due_on = deadlines::store::decide_by(tx, now).await?;
    sqlx::query(
        "INSERT INTO filings (id, submission_id, establishment_id, document_id, name, original_name,
                              kind, filed_on, state, received_ms, changed_ms, due_on)
         VALUES ($1, $2, $3, $4, $5, $5, $6, $7, 'received', $8, $8, $9)",
    )
    .bind(id.to_string())
    .bind(submission.to_string())
    .bind(establishment.to_string())
    .bind(document.to_string())
    .bind(arrival.name.to_string())
    .bind(arrival.name.kind().code())
    .bind(day_text(arrival.name.date()))
    .bind(unix_ms(now))
    .bind(due_on)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write a filing on paper"))?;
    let written = sqlx::query(
        "INSERT INTO paper_filings (filing_id, code, arrived_on, sheets, entered_by)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(id.to_string())
    .bind(arrival.code.plain())
    .bind(day_text(arrival.arrived))
    .bind(i64::from(arrival.sheets))
    .bind(reviewer.id().to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write what came on paper"))?;
    if written.rows_affected() != 1 {
        return Ok(None);
    }
    taken
        .bind(id.to_string())
        .bind(arrival.code.plain())
        .bind(establishment.to_string())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("mark a cover sheet as arrived"))?;
    let note = format!("受付番号 {receipt_number}、{}枚", arrival.sheets);
    let (side, who) = (ActorSide::Staff, reviewer.name());
    write_event(tx, id, Event::CameOnPaper, side, who, &note, now).await?;
    Ok(Some(()))
}

/// What came on paper of a filing that the caller has found: the code, the day, the sheets.
pub async fn of(db: &Db, filing: FilingId) -> Result<Option<(Code, Date, u16)>, StoreError> {
    let row =
        sqlx::query("SELECT code, arrived_on, sheets FROM paper_filings WHERE filing_id = $1")
            .bind(filing.to_string())
            .fetch_optional(db.pool())
            .await
            .map_err(StoreError::doing("read what came on paper"))?;
    let Some(row) = row else { return Ok(None) };
    let unreadable = |what| StoreError::Unreadable { what };
    let arrived = day_from_text(&row.text("arrived_on")?);
    Ok(Some((
        row.parsed("code")?,
        arrived.ok_or(unreadable("arrived_on"))?,
        u16::try_from(row.number("sheets")?).map_err(|_| unreadable("sheets"))?,
    )))
}

fn cover_from_row(row: &AnyRow) -> Result<Cover, StoreError> {
    let unreadable = |what| StoreError::Unreadable { what };
    let number = u16::try_from(row.number("number")?)
        .ok()
        .and_then(|number| EstablishmentNumber::new(number).ok())
        .ok_or(unreadable("number of an establishment"))?;
    let filed_on = row.text("filed_on")?;
    let written = format!(
        "{}_{number}_{}",
        filed_on.replace('-', ""),
        row.text("kind_name")?
    );
    let name = FilingName::read(&written, &row.text("kind")?)
        .map_err(|_| unreadable("filing of a cover sheet"))?;
    Ok(Cover {
        id: row.text("id")?,
        code: row.parsed("code")?,
        establishment: row.parsed("establishment_id")?,
        name,
        sheets: u16::try_from(row.number("sheets")?).map_err(|_| unreadable("sheets"))?,
        made: row.moment("made_ms")?,
        filing: row.parsed_if("filing_id")?,
    })
}
