//! Rows of batches, of what they will issue and of what stopped them. Staff who may read
//! documents ask; there is nothing here for members, to whom a batch that is not released
//! does not exist.

use protocol::EstablishmentNumber;
use sqlx::any::AnyRow;
use time::OffsetDateTime;

use super::{Batch, BatchError, CORRECTED, Edition, Remark, Source, State, TargetMonth};
use crate::approvals;
use crate::clock::unix_ms;
use crate::custody;
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx, next_number};
use crate::establishments::store::number_from_row;
use crate::history;
use crate::ids::{BatchId, DocumentId, EstablishmentId, NoticeId, StaffId};
use crate::notices::Kind;
use crate::web::principals::Reviewer;

/// Batches on one page of the list.
pub const PAGE_LENGTH: i64 = 20;
/// Establishments on one page of a batch.
pub const PLACES_PAGE_LENGTH: i64 = 50;
/// Problems that are kept of a stopped batch: whoever has more begins with these.
pub const PROBLEM_LIMIT: usize = 200;

const BATCH: &str = "b.id, b.number, b.source, b.month, b.edition, b.state, b.made_by, b.made_ms,
    b.released_ms";

/// What a batch will issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The notice's id to be.
    pub id: NoticeId,
    /// Whose.
    pub establishment: EstablishmentId,
    /// What kind.
    pub kind: Kind,
    /// The notice's number to be.
    pub number: String,
    /// What it is, for lists.
    pub title: String,
    /// The amount it is about.
    pub amount_yen: Option<i64>,
    /// The file's name or the line that it came from.
    pub origin: String,
    /// The sealed PDF.
    pub document: DocumentId,
    /// What to look at.
    pub remark: Remark,
    /// Which notice it corrects.
    pub replaces: Option<NoticeId>,
}

/// An item with what became of its notice.
#[derive(Debug, Clone)]
pub struct ItemLine {
    /// The item.
    pub item: Item,
    /// How many pages.
    pub pages: u64,
    /// When it was fetched first.
    pub fetched: Option<OffsetDateTime>,
    /// When it was recalled.
    pub recalled: Option<OffsetDateTime>,
}

/// An establishment in a batch.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its id.
    pub id: EstablishmentId,
    /// Its number.
    pub number: EstablishmentNumber,
    /// Its name.
    pub name: String,
    /// What it gets.
    pub items: Vec<ItemLine>,
}

/// What stopped a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, with its page, or the line.
    pub origin: String,
    /// What is wrong and what to do, for staff.
    pub sentence: String,
}

/// Sums over a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Documents.
    pub items: u64,
    /// Establishments.
    pub places: u64,
    /// What they come to, by kind that asks for money.
    pub contribution_yen: i64,
    /// The same of payment notices.
    pub payment_yen: i64,
    /// Documents with a remark.
    pub remarks: u64,
    /// Notices that somebody fetched.
    pub fetched: u64,
    /// Notices that were recalled.
    pub recalled: u64,
    /// Notices that nobody fetched and that were not recalled.
    pub waiting: u64,
}

/// A batch in the list.
#[derive(Debug, Clone)]
pub struct Line {
    /// The batch.
    pub batch: Batch,
    /// Who made it.
    pub made_by: String,
    /// Sums.
    pub sums: Sums,
}

/// One page of the list.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Newest first.
    pub lines: Vec<Line>,
    /// How many all pages have.
    pub total: u64,
    /// Which page, from 1.
    pub page: u32,
}

/// Which establishments of a batch are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// All.
    All,
    /// Those with a notice that nobody fetched.
    Unfetched,
}

/// Writes a new batch.
pub async fn insert(tx: &mut Tx, batch: &Batch) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO notice_batches (id, number, source, month, edition, state, made_by, made_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(batch.id.to_string())
    .bind(batch.number.as_str())
    .bind(batch.source.code())
    .bind(batch.month.code())
    .bind(batch.edition.code())
    .bind(batch.state.code())
    .bind(batch.made_by.to_string())
    .bind(unix_ms(batch.made))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write batch"))?;
    Ok(())
}

/// Writes what a batch will issue.
pub async fn insert_item(tx: &mut Tx, batch: BatchId, item: &Item) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO notice_batch_items (id, batch_id, establishment_id, kind, number, title,
                                         amount_yen, origin, document_id, remark, replaces_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(item.id.to_string())
    .bind(batch.to_string())
    .bind(item.establishment.to_string())
    .bind(item.kind.code())
    .bind(item.number.as_str())
    .bind(item.title.as_str())
    .bind(item.amount_yen)
    .bind(item.origin.as_str())
    .bind(item.document.to_string())
    .bind(item.remark.code())
    .bind(item.replaces.map(|id| id.to_string()))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write batch item"))?;
    Ok(())
}

/// Writes what stopped a batch, at most [`PROBLEM_LIMIT`].
pub async fn insert_problems(
    tx: &mut Tx,
    batch: BatchId,
    problems: &[Problem],
) -> Result<(), StoreError> {
    for (position, problem) in (0_i64..).zip(problems.iter().take(PROBLEM_LIMIT)) {
        sqlx::query(
            "INSERT INTO notice_batch_problems (batch_id, position, origin, sentence)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(batch.to_string())
        .bind(position)
        .bind(problem.origin.as_str())
        .bind(problem.sentence.as_str())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("write batch problem"))?;
    }
    Ok(())
}

/// Returns a batch.
pub async fn find(db: &Db, _: &Reviewer, id: BatchId) -> Result<Option<Batch>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {BATCH} FROM notice_batches b WHERE b.id = $1"
    )))
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find batch"))?;
    row.as_ref().map(batch_from_row).transpose()
}

/// Returns a batch inside a transaction.
pub async fn find_in(tx: &mut Tx, id: BatchId) -> Result<Option<Batch>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {BATCH} FROM notice_batches b WHERE b.id = $1"
    )))
    .bind(id.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("find batch"))?;
    row.as_ref().map(batch_from_row).transpose()
}

/// What a batch is, for who decides about it.
pub async fn description(db: &Db, id: BatchId) -> Result<String, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {BATCH} FROM notice_batches b WHERE b.id = $1"
    )))
    .bind(id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find batch"))?;
    let Some(row) = row else {
        return Ok(String::new());
    };
    let (batch, sums) = (batch_from_row(&row)?, sums(db, id).await?);
    Ok(format!(
        "{} {}（{}事業所、{}件）",
        batch.number,
        batch.month.name(),
        sums.places,
        sums.items
    ))
}

/// Says whether a batch waits for a second person.
pub async fn is_proposed(db: &Db, id: BatchId, now: OffsetDateTime) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 AS found FROM approvals
          WHERE kind = $1 AND subject = $2 AND decided_ms IS NULL AND expires_ms > $3",
    )
    .bind(approvals::Kind::BatchRelease.as_str())
    .bind(id.to_string())
    .bind(unix_ms(now))
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("look for a batch's proposal"))?;
    Ok(row.is_some())
}

/// Returns one page of the batches.
pub async fn list(db: &Db, _: &Reviewer, page: u32) -> Result<Listing, StoreError> {
    let page = page.max(1);
    let total = sqlx::query("SELECT COUNT(*) AS total FROM notice_batches")
        .fetch_one(db.pool())
        .await
        .map_err(StoreError::doing("count batches"))?
        .count("total")?;
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {BATCH}, s.name AS made_by_name
           FROM notice_batches b JOIN staff s ON s.id = b.made_by
          ORDER BY b.made_ms DESC, b.id DESC LIMIT $1 OFFSET $2"
    )))
    .bind(PAGE_LENGTH)
    .bind((i64::from(page) - 1) * PAGE_LENGTH)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list batches"))?;
    let mut lines = Vec::with_capacity(rows.len());
    for row in &rows {
        let batch = batch_from_row(row)?;
        lines.push(Line {
            sums: sums(db, batch.id).await?,
            made_by: row.text("made_by_name")?,
            batch,
        });
    }
    Ok(Listing { lines, total, page })
}

/// Returns the sums of a batch.
pub async fn sums(db: &Db, id: BatchId) -> Result<Sums, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS items,
                COUNT(DISTINCT i.establishment_id) AS places,
                CAST(COALESCE(SUM(CASE WHEN i.kind = 'contribution' THEN i.amount_yen END), 0)
                     AS BIGINT) AS contribution_yen,
                CAST(COALESCE(SUM(CASE WHEN i.kind = 'payment' THEN i.amount_yen END), 0)
                     AS BIGINT) AS payment_yen,
                COUNT(CASE WHEN i.remark <> 'none' THEN 1 END) AS remarks,
                COUNT(n.first_fetched_ms) AS fetched,
                COUNT(n.recalled_ms) AS recalled,
                COUNT(CASE WHEN n.first_fetched_ms IS NULL AND n.recalled_ms IS NULL
                           THEN n.id END) AS waiting
           FROM notice_batch_items i LEFT JOIN notices n ON n.id = i.id
          WHERE i.batch_id = $1",
    )
    .bind(id.to_string())
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("sum a batch"))?;
    Ok(Sums {
        items: row.count("items")?,
        places: row.count("places")?,
        contribution_yen: row.number("contribution_yen")?,
        payment_yen: row.number("payment_yen")?,
        remarks: row.count("remarks")?,
        fetched: row.count("fetched")?,
        recalled: row.count("recalled")?,
        waiting: row.count("waiting")?,
    })
}

/// Returns one page of the establishments of a batch, with what each gets, and how many all
/// pages have.
pub async fn places(
    db: &Db,
    _: &Reviewer,
    id: BatchId,
    shown: Shown,
    page: u32,
) -> Result<(Vec<Place>, u64), StoreError> {
    let unfetched = i64::from(shown == Shown::Unfetched);
    const WHERE: &str = "FROM establishments e
          WHERE EXISTS (SELECT 1 FROM notice_batch_items i LEFT JOIN notices n ON n.id = i.id
                         WHERE i.batch_id = $1 AND i.establishment_id = e.id
                           AND ($2 = 0 OR (n.first_fetched_ms IS NULL AND n.recalled_ms IS NULL)))";
    let total = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT COUNT(*) AS total {WHERE}"
    )))
    .bind(id.to_string())
    .bind(unfetched)
    .fetch_one(db.pool())
    .await
    .map_err(StoreError::doing("count a batch's establishments"))?
    .count("total")?;
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT e.id, e.number, e.name {WHERE} ORDER BY e.number LIMIT $3 OFFSET $4"
    )))
    .bind(id.to_string())
    .bind(unfetched)
    .bind(PLACES_PAGE_LENGTH)
    .bind((i64::from(page.max(1)) - 1) * PLACES_PAGE_LENGTH)
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list a batch's establishments"))?;
    let mut places = Vec::with_capacity(rows.len());
    for row in &rows {
        let place: EstablishmentId = row.parsed("id")?;
        places.push(Place {
            id: place,
            number: number_from_row(row.number("number")?)?,
            name: row.text("name")?,
            items: items(db, id, place).await?,
        });
    }
    Ok((places, total))
}

const ITEM: &str = "i.id, i.establishment_id, i.kind, i.number, i.title, i.amount_yen, i.origin,
    i.document_id, i.remark, i.replaces_id";

async fn items(
    db: &Db,
    batch: BatchId,
    place: EstablishmentId,
) -> Result<Vec<ItemLine>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {ITEM}, d.pages, n.first_fetched_ms, n.recalled_ms
           FROM notice_batch_items i
           JOIN documents d ON d.id = i.document_id
           LEFT JOIN notices n ON n.id = i.id
          WHERE i.batch_id = $1 AND i.establishment_id = $2 ORDER BY i.kind, i.id"
    )))
    .bind(batch.to_string())
    .bind(place.to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list batch items"))?;
    rows.iter()
        .map(|row| {
            Ok(ItemLine {
                item: item_from_row(row)?,
                pages: row.count("pages")?,
                fetched: row.moment_if("first_fetched_ms")?,
                recalled: row.moment_if("recalled_ms")?,
            })
        })
        .collect()
}

/// Returns one item of a batch.
pub async fn find_item(
    db: &Db,
    _: &Reviewer,
    batch: BatchId,
    item: NoticeId,
) -> Result<Option<Item>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {ITEM} FROM notice_batch_items i WHERE i.id = $1 AND i.batch_id = $2"
    )))
    .bind(item.to_string())
    .bind(batch.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find batch item"))?;
    row.as_ref().map(item_from_row).transpose()
}

/// Returns what stopped a batch.
pub async fn problems(db: &Db, _: &Reviewer, id: BatchId) -> Result<Vec<Problem>, StoreError> {
    let rows = sqlx::query(
        "SELECT origin, sentence FROM notice_batch_problems WHERE batch_id = $1 ORDER BY position",
    )
    .bind(id.to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list batch problems"))?;
    rows.iter()
        .map(|row| {
            Ok(Problem {
                origin: row.text("origin")?,
                sentence: row.text("sentence")?,
            })
        })
        .collect()
}

/// Returns the establishments in use for which a batch has nothing.
pub async fn missing(
    db: &Db,
    _: &Reviewer,
    id: BatchId,
) -> Result<Vec<(EstablishmentNumber, String)>, StoreError> {
    let rows = sqlx::query(
        "SELECT e.number, e.name FROM establishments e
          WHERE e.suspended_ms IS NULL AND e.kind = 'employer'
            AND NOT EXISTS (SELECT 1 FROM notice_batch_items i
                             WHERE i.batch_id = $1 AND i.establishment_id = e.id)
          ORDER BY e.number",
    )
    .bind(id.to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list establishments without a document"))?;
    rows.iter()
        .map(|row| Ok((number_from_row(row.number("number")?)?, row.text("name")?)))
        .collect()
}

/// Returns the notice of this kind and title that was issued to an establishment for a month
/// before, as a first or a corrected edition, if it was not recalled: the newest.
pub async fn issued_before(
    tx: &mut Tx,
    establishment: EstablishmentId,
    kind: Kind,
    title: &str,
    month: TargetMonth,
) -> Result<Option<NoticeId>, StoreError> {
    // Two documents of the kind "other" are the same only if they are called the same.
    let by_title = i64::from(kind == Kind::Other);
    let row = sqlx::query(
        "SELECT id FROM notices
          WHERE establishment_id = $1 AND kind = $2 AND month = $3 AND recalled_ms IS NULL
            AND batch_id IS NOT NULL AND ($4 = 0 OR title IN ($5, $6))
          ORDER BY issued_ms DESC, id DESC LIMIT 1",
    )
    .bind(establishment.to_string())
    .bind(kind.code())
    .bind(month.code())
    .bind(by_title)
    .bind(title)
    .bind(format!("{CORRECTED}{title}"))
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("look for an earlier notice"))?;
    row.map(|row| row.parsed("id")).transpose()
}

/// Moves a batch on, if it still stands where the caller saw it.
async fn step(
    tx: &mut Tx,
    batch: &Batch,
    set: &'static str,
    by: StaffId,
    now: OffsetDateTime,
) -> Result<Result<(), BatchError>, StoreError> {
    let moved = sqlx::query(sqlx::AssertSqlSafe(format!(
        "UPDATE notice_batches SET {set} WHERE id = $3 AND state = $4 AND $1 <> '' AND $2 > 0"
    )))
    .bind(by.to_string())
    .bind(unix_ms(now))
    .bind(batch.id.to_string())
    .bind(batch.state.code())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("move a batch on"))?
    .rows_affected();
    if moved == 1 {
        return Ok(Ok(()));
    }
    let there = find_in(tx, batch.id).await?;
    let state = there.map_or(State::Discarded, |batch| batch.state);
    Ok(Err(BatchError::Moved(state)))
}

/// Asks [`issued_before`] of everything in a batch once more, and says what is answered
/// otherwise than when the batch was made. Batches for the same month do this one after the
/// other, each of which sees what those before it issued.
async fn overtaken(tx: &mut Tx, batch: &Batch) -> Result<Option<BatchError>, StoreError> {
    // The counter's row stays locked until the transaction ends.
    next_number(tx, &format!("batch-release/{}", batch.month.code())).await?;
    let row = sqlx::query(
        "SELECT MIN(e.number) AS first, COUNT(DISTINCT e.number) AS places
           FROM notice_batch_items i
           JOIN notice_batches b ON b.id = i.batch_id
           JOIN establishments e ON e.id = i.establishment_id
          WHERE b.id = $1
            AND COALESCE(i.replaces_id, '') <> COALESCE(
                (SELECT n.id FROM notices n
                  WHERE n.establishment_id = i.establishment_id AND n.kind = i.kind
                    AND n.month = b.month AND n.recalled_ms IS NULL AND n.batch_id IS NOT NULL
                    AND (n.kind <> $2
                         OR n.title = i.title OR n.title = $3 || i.title OR $3 || n.title = i.title)
                  ORDER BY n.issued_ms DESC, n.id DESC LIMIT 1), '')",
    )
    .bind(batch.id.to_string())
    .bind(Kind::Other.code())
    .bind(CORRECTED)
    .fetch_one(&mut **tx)
    .await
    .map_err(StoreError::doing("hold a batch against what was issued"))?;
    let Some(first) = row.number_if("first")? else {
        return Ok(None);
    };
    Ok(Some(BatchError::Overtaken {
        first: number_from_row(first)?,
        places: row.count("places")?,
    }))
}

/// Issues everything that a batch holds: all of it in one statement, so that no reader and no
/// crash ever sees a part. Returns how many notices there are. If it refuses, the transaction
/// must not be committed.
pub async fn release(
    tx: &mut Tx,
    batch: &Batch,
    by: StaffId,
    now: OffsetDateTime,
) -> Result<Result<u64, BatchError>, StoreError> {
    let set = "state = 'released', released_by = $1, released_ms = $2";
    if let Err(moved) = step(tx, batch, set, by, now).await? {
        return Ok(Err(moved));
    }
    if let Some(overtaken) = overtaken(tx, batch).await? {
        return Ok(Err(overtaken));
    }
    let issued = sqlx::query(
        "INSERT INTO notices (id, number, kind, establishment_id, document_id, title, issued_ms,
                              issued_by, batch_id, month, amount_yen, replaces_id)
         SELECT i.id, i.number, i.kind, i.establishment_id, i.document_id, i.title, b.released_ms,
                b.released_by, b.id, b.month, i.amount_yen, i.replaces_id
           FROM notice_batch_items i JOIN notice_batches b ON b.id = i.batch_id
          WHERE b.id = $1",
    )
    .bind(batch.id.to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("issue a batch"))?
    .rows_affected();
    history::store::of_batch(tx, batch.id).await?;
    Ok(Ok(issued))
}

/// Throws a batch away that was not released. Returns its documents, whose objects go after
/// the transaction.
pub async fn discard(
    tx: &mut Tx,
    batch: &Batch,
    by: StaffId,
    now: OffsetDateTime,
) -> Result<Result<Vec<DocumentId>, BatchError>, StoreError> {
    let set = "state = 'discarded', discarded_ms = $2";
    if let Err(moved) = step(tx, batch, set, by, now).await? {
        return Ok(Err(moved));
    }
    Ok(Ok(drop_items(tx, batch.id).await?))
}

async fn drop_items(tx: &mut Tx, id: BatchId) -> Result<Vec<DocumentId>, StoreError> {
    let rows = sqlx::query("SELECT document_id FROM notice_batch_items WHERE batch_id = $1")
        .bind(id.to_string())
        .fetch_all(&mut **tx)
        .await
        .map_err(StoreError::doing("list a batch's documents"))?;
    let documents: Vec<DocumentId> = rows
        .iter()
        .map(|row| row.parsed("document_id"))
        .collect::<Result<_, _>>()?;
    sqlx::query("DELETE FROM notice_batch_items WHERE batch_id = $1")
        .bind(id.to_string())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("throw a batch's items away"))?;
    for document in &documents {
        custody::store::forget(tx, *document).await?;
    }
    Ok(documents)
}

/// Throws one batch away that nobody released in time. Returns its documents; `None` if there
/// is none left.
pub async fn expire_one(
    tx: &mut Tx,
    now: OffsetDateTime,
) -> Result<Option<(BatchId, Vec<DocumentId>)>, StoreError> {
    let row = sqlx::query(
        "UPDATE notice_batches SET state = 'discarded', discarded_ms = $1
          WHERE id = (SELECT id FROM notice_batches
                       WHERE state = 'checked' AND made_ms <= $2
                       ORDER BY made_ms LIMIT 1)
            AND state = 'checked'
         RETURNING id",
    )
    .bind(unix_ms(now))
    .bind(unix_ms(now - super::LIFETIME))
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("expire a batch"))?;
    let Some(row) = row else { return Ok(None) };
    let id = row.parsed("id")?;
    Ok(Some((id, drop_items(tx, id).await?)))
}

fn batch_from_row(row: &AnyRow) -> Result<Batch, StoreError> {
    let word = |what| StoreError::Unreadable { what };
    Ok(Batch {
        id: row.parsed("id")?,
        number: row.text("number")?,
        source: Source::from_code(&row.text("source")?).ok_or(word("source"))?,
        month: TargetMonth::read(&row.text("month")?).ok_or(word("month"))?,
        edition: Edition::from_code(&row.text("edition")?).ok_or(word("edition"))?,
        state: State::from_code(&row.text("state")?).ok_or(word("state"))?,
        made_by: row.parsed("made_by")?,
        made: row.moment("made_ms")?,
        released: row.moment_if("released_ms")?,
    })
}

fn item_from_row(row: &AnyRow) -> Result<Item, StoreError> {
    let word = |what| StoreError::Unreadable { what };
    Ok(Item {
        id: row.parsed("id")?,
        establishment: row.parsed("establishment_id")?,
        kind: Kind::from_code(&row.text("kind")?).ok_or(word("kind"))?,
        number: row.text("number")?,
        title: row.text("title")?,
        amount_yen: row.number_if("amount_yen")?,
        origin: row.text("origin")?,
        document: row.parsed("document_id")?,
        remark: Remark::from_code(&row.text("remark")?).ok_or(word("remark"))?,
        replaces: row.parsed_if("replaces_id")?,
    })
}
