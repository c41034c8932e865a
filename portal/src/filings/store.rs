//! Rows of filings, submissions and their timelines.
//!
//! Every question carries its principal: a member asks about the own establishment, staff
//! about the whole fund. What a member may not see is `None`, like what does not exist.
//! A [`Step`] is written only if the filing still stands where the step began.

mod lists;

use protocol::EstablishmentNumber;
use sqlx::any::AnyRow;
use sqlx::{Any, Executor};
use time::OffsetDateTime;

use super::{Event, Filing, ReturnReason, State, Step, StepError};
use crate::clock::unix_ms;
use crate::custody::{self, Sealed};
use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::deadlines;
use crate::history::{self, Entry};
use crate::ids::{FilingId, RowId, SubmissionId};
use crate::web::principals::{Member, Reviewer};
pub(crate) use lists::{BESIDE, FROM, line_from_row, pattern, plain};
pub use lists::{Listing, PAGE_LENGTH, Search, history, latest};

/// The columns that [`filing_from_row`] reads, of `filings f`.
pub(crate) const FILING: &str =
    "f.id, f.establishment_id, f.submission_id, f.document_id, f.name, f.kind, f.state,
    f.reviewer_id, f.received_ms, f.changed_ms, f.return_code, f.return_reason, f.replaces_id";

/// A filing with what lists and pages say beside it.
#[derive(Debug, Clone)]
pub struct FilingLine {
    /// The filing.
    pub filing: Filing,
    /// The receipt that it came under.
    pub receipt_number: String,
    /// Whose it is.
    pub establishment_number: EstablishmentNumber,
    /// Whose it is.
    pub establishment_name: String,
    /// Who sent it.
    pub sender: String,
    /// Who has it or had it last.
    pub reviewer: Option<String>,
    /// The corrected filing that took its place.
    pub replaced_by: Option<FilingId>,
}

/// One entry of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEntry {
    /// When.
    pub at: OffsetDateTime,
    /// What.
    pub event: Event,
    /// On whose side.
    pub side: ActorSide,
    /// Who.
    pub actor: String,
    /// What else there is to say; may be empty.
    pub note: String,
}

/// On whose side an act was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorSide {
    /// The establishment.
    Member,
    /// The fund.
    Staff,
}

/// What one person handed in at one time, to be written.
#[derive(Debug)]
pub struct NewSubmission {
    /// Its id.
    pub id: SubmissionId,
    /// Its receipt's number.
    pub receipt_number: String,
    /// The files as they came.
    pub files: Vec<ReceivedFile>,
    /// The filings in them.
    pub filings: Vec<NewFiling>,
    /// What their timelines say besides; may be empty.
    pub note: String,
    /// The returned filing that the only one of them replaces.
    pub replaces: Option<FilingId>,
}

/// A file as it came: a zip, or a bare PDF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedFile {
    /// Its name at the sender's.
    pub file_name: String,
    /// SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// How large it is.
    pub size_bytes: u64,
    /// What the sender should do better next time.
    pub warning: Option<FileWarning>,
}

/// What a receipt says about a file besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileWarning {
    /// The zip was protected by ZipCrypto.
    WeakEncryption,
}

/// A filing that was accepted and sealed.
#[derive(Debug)]
pub struct NewFiling {
    /// Its id.
    pub id: FilingId,
    /// Its name by the rule.
    pub name: super::FilingName,
    /// The name it had at the sender's.
    pub original_name: String,
    /// SHA-256 of what its pages show, if that could be told.
    pub content_sha256: Option<String>,
    /// The sealed PDF.
    pub sealed: Sealed,
}

/// A submission as it was written down.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Its id.
    pub id: SubmissionId,
    /// Its receipt's number.
    pub receipt_number: String,
    /// When it was received.
    pub received: OffsetDateTime,
    /// Who sent it.
    pub sender: String,
    /// From which PC.
    pub device: String,
    /// The files as they came.
    pub files: Vec<ReceivedFile>,
    /// The filings in them.
    pub filings: Vec<SubmittedFiling>,
}

/// A filing on its receipt.
#[derive(Debug, Clone)]
pub struct SubmittedFiling {
    /// Its id.
    pub id: FilingId,
    /// Its name by the rule.
    pub name: super::FilingName,
    /// The name it had at the sender's.
    pub original_name: String,
    /// SHA-256 of the PDF.
    pub sha256: String,
    /// How large the PDF is.
    pub size_bytes: u64,
    /// How many pages it has.
    pub pages: u64,
    /// The word of its state now.
    pub state: String,
}

/// A filing that has the same content as one that is being handed in.
#[derive(Debug, Clone)]
pub struct SameContent {
    /// The filing.
    pub id: FilingId,
    /// The content's SHA-256.
    pub sha256: String,
    /// The filing's name.
    pub name: String,
    /// Its receipt's number.
    pub receipt_number: String,
    /// When it was received.
    pub received: OffsetDateTime,
    /// The word of its state.
    pub state: String,
}

/// Returns the filing if it is the member's establishment's.
pub async fn find_own<'e>(
    db: impl Executor<'e, Database = Any>,
    member: &Member,
    id: FilingId,
) -> Result<Option<Filing>, StoreError> {
    let reach = member.reach();
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {FILING} FROM filings f WHERE f.id = $1 AND {}",
        lists::within_reach(2)
    )))
    .bind(id.to_string())
    .bind(reach.establishment)
    .bind(reach.sender)
    .bind(reach.procedures)
    .fetch_optional(db)
    .await
    .map_err(StoreError::doing("find own filing"))?;
    row.as_ref().map(filing_from_row).transpose()
}

/// Returns the filing for the office.
pub async fn find_for_review<'e>(
    db: impl Executor<'e, Database = Any>,
    _: &Reviewer,
    id: FilingId,
) -> Result<Option<Filing>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {FILING} FROM filings f WHERE f.id = $1"
    )))
    .bind(id.to_string())
    .fetch_optional(db)
    .await
    .map_err(StoreError::doing("find filing for review"))?;
    row.as_ref().map(filing_from_row).transpose()
}

/// Returns the filing with what its page says beside it, if it is the member's establishment's.
pub async fn find_own_line(
    db: &Db,
    member: &Member,
    id: FilingId,
) -> Result<Option<FilingLine>, StoreError> {
    lists::find_line(db, id, Some(member.reach())).await
}

/// Returns the filing with what its page says beside it, for the office.
pub async fn find_line_for_review(
    db: &Db,
    _: &Reviewer,
    id: FilingId,
) -> Result<Option<FilingLine>, StoreError> {
    lists::find_line(db, id, None).await
}

/// Writes a step that a member took.
pub async fn save_own(
    tx: &mut Tx,
    member: &Member,
    step: &Step,
) -> Result<Result<(), StepError>, StoreError> {
    save(tx, step, ActorSide::Member, &member.signature()).await
}

/// Writes a step that a reviewer took.
pub async fn save_review(
    tx: &mut Tx,
    reviewer: &Reviewer,
    step: &Step,
) -> Result<Result<(), StepError>, StoreError> {
    save(tx, step, ActorSide::Staff, reviewer.name()).await
}

/// Returns a filing by its id, for what the portal does by itself.
pub(crate) async fn find_any(tx: &mut Tx, id: FilingId) -> Result<Option<Filing>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {FILING} FROM filings f WHERE f.id = $1"
    )))
    .bind(id.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("find filing"))?;
    row.as_ref().map(filing_from_row).transpose()
}

/// Writes a step, if the filing still stands where it began.
pub(crate) async fn save(
    tx: &mut Tx,
    step: &Step,
    side: ActorSide,
    actor: &str,
) -> Result<Result<(), StepError>, StoreError> {
    let Step {
        before,
        after,
        event,
        note,
    } = step;
    let reviewer = |state: &State| state.reviewer().map(|id| id.to_string());
    let reason = after.state.return_reason();
    let moved = sqlx::query(
        "UPDATE filings
            SET state = $1, reviewer_id = $2, return_code = $3, return_reason = $4, changed_ms = $5
          WHERE id = $6 AND establishment_id = $7 AND state = $8
            AND COALESCE(reviewer_id, '') = $9",
    )
    .bind(after.state.code())
    .bind(reviewer(&after.state))
    .bind(reason.map(|reason| reason.code().code()))
    .bind(reason.map(ReturnReason::text).map(str::to_owned))
    .bind(unix_ms(after.changed))
    .bind(after.id.to_string())
    .bind(after.establishment.to_string())
    .bind(before.code())
    .bind(reviewer(before).unwrap_or_default())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("move filing"))?
    .rows_affected();
    if moved != 1 {
        return Ok(Err(StepError::Moved));
    }
    write_event(tx, after.id, *event, side, actor, note, after.changed).await?;
    Ok(Ok(()))
}

/// Adds to a filing's timeline what is no step of the filing itself: a notice, a fetch.
pub async fn write_event(
    tx: &mut Tx,
    filing: FilingId,
    event: Event,
    side: ActorSide,
    actor: &str,
    note: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO filing_events (id, filing_id, at_ms, event, actor_kind, actor_name, note)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(RowId::new().to_string())
    .bind(filing.to_string())
    .bind(unix_ms(now))
    .bind(event.code())
    .bind(side.code())
    .bind(actor.to_owned())
    .bind(note.to_owned())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write timeline"))?;
    if let Some(entry) = Entry::of_event(event) {
        history::store::of_filing(tx, filing, entry, side, actor, now).await?;
    }
    Ok(())
}

/// Returns the timeline of a filing that the caller has found, oldest first.
pub async fn timeline(db: &Db, filing: &Filing) -> Result<Vec<TimelineEntry>, StoreError> {
    let rows = sqlx::query(
        "SELECT at_ms, event, actor_kind, actor_name, note FROM filing_events
          WHERE filing_id = $1 ORDER BY at_ms, id",
    )
    .bind(filing.id.to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("read timeline"))?;
    rows.iter()
        .map(|row| {
            Ok(TimelineEntry {
                at: row.moment("at_ms")?,
                event: Event::from_code(&row.text("event")?)
                    .ok_or(StoreError::Unreadable { what: "event" })?,
                side: ActorSide::from_code(&row.text("actor_kind")?)
                    .ok_or(StoreError::Unreadable { what: "actor_kind" })?,
                actor: row.text("actor_name")?,
                note: row.text("note")?,
            })
        })
        .collect()
}

/// Writes a submission with everything in it. Returns `Err` if the filing to be replaced may
/// not be; then the caller lets the transaction go.
pub async fn receive(
    tx: &mut Tx,
    member: &Member,
    new: NewSubmission,
    now: OffsetDateTime,
) -> Result<Result<(), StepError>, StoreError> {
    if let Some(id) = new.replaces
        && let Err(error) = begin_replacing(tx, member, id, &new.receipt_number, now).await?
    {
        return Ok(Err(error));
    }
    sqlx::query(
        "INSERT INTO submissions (id, receipt_number, establishment_id, user_id, device_id, session_id, received_ms,
                                  delegation_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(new.id.to_string())
    .bind(new.receipt_number.as_str())
    .bind(member.establishment().to_string())
    .bind(member.user().to_string())
    .bind(member.device().to_string())
    .bind(member.session().to_string())
    .bind(unix_ms(now))
    .bind(member.acting().map(|acting| acting.delegation.to_string()))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("write submission"))?;
    for (position, file) in (1_i64..).zip(&new.files) {
        sqlx::query(
            "INSERT INTO submission_files (submission_id, position, file_name, sha256, size_bytes, warning)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(new.id.to_string())
        .bind(position)
        .bind(file.file_name.as_str())
        .bind(file.sha256.as_str())
        .bind(i64::try_from(file.size_bytes).unwrap_or(i64::MAX))
        .bind(file.warning.map_or("", FileWarning::code))
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("write a submission's file"))?;
    }
    let due_on = deadlines::store::decide_by(tx, now).await?;
    for filing in new.filings {
        let id = filing.id;
        let document = custody::store::record(tx, filing.sealed, now).await?;
        sqlx::query(
            "INSERT INTO filings (id, submission_id, establishment_id, document_id, name, original_name,
                                  kind, filed_on, state, received_ms, changed_ms, replaces_id, due_on,
                                  content_sha256)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'received', $9, $9, $10, $11, $12)",
        )
        .bind(id.to_string())
        .bind(new.id.to_string())
        .bind(member.establishment().to_string())
        .bind(document.to_string())
        .bind(filing.name.to_string())
        .bind(filing.original_name)
        .bind(filing.name.kind().code())
        .bind(filing.name.date().to_string())
        .bind(unix_ms(now))
        .bind(new.replaces.map(|id| id.to_string()))
        .bind(due_on.as_str())
        .bind(filing.content_sha256)
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing("write filing"))?;
        let mut note = format!("受付番号 {}", new.receipt_number);
        if !new.note.is_empty() {
            note = format!("{note}　{}", new.note);
        }
        write_event(
            tx,
            id,
            Event::Received,
            ActorSide::Member,
            &member.signature(),
            &note,
            now,
        )
        .await?;
    }
    Ok(Ok(()))
}

/// The name of the PC that the member sits at.
pub async fn device_name(tx: &mut Tx, member: &Member) -> Result<String, StoreError> {
    sqlx::query("SELECT name FROM devices WHERE id = $1")
        .bind(member.device().to_string())
        .fetch_one(&mut **tx)
        .await
        .map_err(StoreError::doing("find the sender's device"))?
        .text("name")
}

/// Locks the returned filing, asks the rules, and writes into its timeline that a corrected
/// one takes its place.
async fn begin_replacing(
    tx: &mut Tx,
    member: &Member,
    id: FilingId,
    receipt_number: &str,
    now: OffsetDateTime,
) -> Result<Result<(), StepError>, StoreError> {
    sqlx::query(
        "UPDATE filings SET changed_ms = changed_ms WHERE id = $1 AND establishment_id = $2",
    )
    .bind(id.to_string())
    .bind(member.establishment().to_string())
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("lock filing to be replaced"))?;
    let Some(filing) = find_own(&mut **tx, member, id).await? else {
        return Ok(Err(StepError::Moved));
    };
    let replacement = sqlx::query(
        "SELECT id FROM filings WHERE replaces_id = $1 AND state <> 'withdrawn' ORDER BY id LIMIT 1",
    )
    .bind(id.to_string())
    .fetch_optional(&mut **tx)
    .await
    .map_err(StoreError::doing("look for a replacement"))?;
    let replacement = replacement.map(|row| row.parsed("id")).transpose()?;
    if let Err(error) = filing.may_be_replaced(replacement) {
        return Ok(Err(error));
    }
    let note = format!("受付番号 {receipt_number}");
    let side = ActorSide::Member;
    write_event(
        tx,
        id,
        Event::Resubmitted,
        side,
        &member.signature(),
        &note,
        now,
    )
    .await?;
    Ok(Ok(()))
}

/// Returns the receipt, if it is the member's establishment's.
pub async fn find_submission(
    db: &Db,
    member: &Member,
    id: SubmissionId,
) -> Result<Option<Submission>, StoreError> {
    let reach = member.reach();
    let row = sqlx::query(
        "SELECT s.id, s.receipt_number, s.received_ms, COALESCE(d.name, '') AS device,
                CASE WHEN s.delegation_id IS NULL THEN COALESCE(u.name, '（郵送）') ELSE u.name || '（' ||
                  (SELECT o.name FROM delegations g JOIN establishments o ON o.id = g.delegate_id
                    WHERE g.id = s.delegation_id) || '・代理）' END AS sender
           FROM submissions s
           LEFT JOIN users u ON u.id = s.user_id
           LEFT JOIN devices d ON d.id = s.device_id
          WHERE s.id = $1 AND s.establishment_id = $2 AND ($3 = '' OR s.user_id = $3)",
    )
    .bind(id.to_string())
    .bind(reach.establishment)
    .bind(reach.sender)
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find submission"))?;
    let Some(row) = row else { return Ok(None) };
    let files = sqlx::query(
        "SELECT file_name, sha256, size_bytes, warning FROM submission_files
          WHERE submission_id = $1 ORDER BY position",
    )
    .bind(id.to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list a submission's files"))?;
    let filings = sqlx::query(
        "SELECT f.id, f.name, f.kind, f.original_name, f.state, d.sha256, d.size_bytes, d.pages
           FROM filings f JOIN documents d ON d.id = f.document_id
          WHERE f.submission_id = $1 ORDER BY f.id",
    )
    .bind(id.to_string())
    .fetch_all(db.pool())
    .await
    .map_err(StoreError::doing("list a submission's filings"))?;
    Ok(Some(Submission {
        id,
        receipt_number: row.text("receipt_number")?,
        received: row.moment("received_ms")?,
        sender: row.text("sender")?,
        device: row.text("device")?,
        files: files
            .iter()
            .map(received_file_from_row)
            .collect::<Result<_, _>>()?,
        filings: filings
            .iter()
            .map(submitted_filing_from_row)
            .collect::<Result<_, _>>()?,
    }))
}

/// Returns the establishment's filings that have these bytes, or show the same on their pages,
/// newest first; withdrawn ones do not count. Each of the two is looked for along its index:
/// one condition for both would read all that the establishment ever sent.
pub async fn same_content(
    tx: &mut Tx,
    member: &Member,
    sha256: &str,
    content: &str,
) -> Result<Vec<SameContent>, StoreError> {
    let rows = sqlx::query(
        "SELECT f.id, d.sha256, f.name, f.state, f.received_ms, s.receipt_number
           FROM filings f
           JOIN documents d ON d.id = f.document_id
           JOIN submissions s ON s.id = f.submission_id
          WHERE f.state <> 'withdrawn' AND f.id IN (
                SELECT x.id FROM documents y JOIN filings x ON x.document_id = y.id
                 WHERE y.establishment_id = $1 AND y.sha256 = $2
                 UNION
                SELECT x.id FROM filings x
                 WHERE x.establishment_id = $1 AND x.content_sha256 = $3 AND $3 <> '')
          ORDER BY f.received_ms DESC LIMIT 3",
    )
    .bind(member.establishment().to_string())
    .bind(sha256.to_owned())
    .bind(content.to_owned())
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("look for the same content"))?;
    rows.iter()
        .map(|row| {
            Ok(SameContent {
                id: row.parsed("id")?,
                sha256: row.text("sha256")?,
                name: row.text("name")?,
                receipt_number: row.text("receipt_number")?,
                received: row.moment("received_ms")?,
                state: row.text("state")?,
            })
        })
        .collect()
}

impl ActorSide {
    /// The word in the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Staff => "staff",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Member, Self::Staff]
            .into_iter()
            .find(|side| side.code() == code)
    }
}

impl FileWarning {
    fn code(self) -> &'static str {
        match self {
            Self::WeakEncryption => "weak_encryption",
        }
    }
}

fn received_file_from_row(row: &AnyRow) -> Result<ReceivedFile, StoreError> {
    let weak = row.text("warning")? == FileWarning::WeakEncryption.code();
    Ok(ReceivedFile {
        file_name: row.text("file_name")?,
        sha256: row.text("sha256")?,
        size_bytes: row.count("size_bytes")?,
        warning: weak.then_some(FileWarning::WeakEncryption),
    })
}

fn submitted_filing_from_row(row: &AnyRow) -> Result<SubmittedFiling, StoreError> {
    Ok(SubmittedFiling {
        id: row.parsed("id")?,
        name: name_from_row(row)?,
        original_name: row.text("original_name")?,
        sha256: row.text("sha256")?,
        size_bytes: row.count("size_bytes")?,
        pages: row.count("pages")?,
        state: row.text("state")?,
    })
}

fn name_from_row(row: &AnyRow) -> Result<super::FilingName, StoreError> {
    let unreadable = |_| StoreError::Unreadable {
        what: "name of a filing",
    };
    super::FilingName::read(&row.text("name")?, &row.text("kind")?).map_err(unreadable)
}

fn filing_from_row(row: &AnyRow) -> Result<Filing, StoreError> {
    let unreadable = StoreError::Unreadable {
        what: "state of a filing",
    };
    let reviewer = row.parsed_if("reviewer_id")?;
    let state = match (row.text("state")?.as_str(), reviewer) {
        ("received", None) => State::Received,
        ("in_review", Some(reviewer)) => State::InReview { reviewer },
        ("decided", Some(reviewer)) => State::Decided { reviewer },
        ("returned", Some(reviewer)) => {
            let code = row.text("return_code")?;
            let text = row.text("return_reason")?;
            let reason = ReturnReason::parse(&code, &text).map_err(|_| unreadable)?;
            State::Returned { reviewer, reason }
        }
        ("withdrawn", None) => State::Withdrawn,
        _ => return Err(unreadable),
    };
    Ok(Filing {
        id: row.parsed("id")?,
        establishment: row.parsed("establishment_id")?,
        submission: row.parsed("submission_id")?,
        document: row.parsed("document_id")?,
        name: name_from_row(row)?,
        state,
        received: row.moment("received_ms")?,
        changed: row.moment("changed_ms")?,
        replaces: row.parsed_if("replaces_id")?,
    })
}

#[cfg(test)]
mod tests;
