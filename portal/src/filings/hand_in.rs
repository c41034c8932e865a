//! Handing in: from finished uploads to a receipt, all or nothing.
//!
//! Each file is put together, opened, checked and sealed in turn, so that never more than a
//! few files are in memory. Only when every one of them passed are they written down, in one
//! transaction with receipt number, timeline and audit row. What was sealed before something
//! was refused is taken back; what the sender must do stands in the answer, and the uploads
//! stay for the next attempt.
//!
//! Who asks again for uploads that were handed in already gets the receipt they led to: an
//! answer lost on the way must not make two filings out of one.

mod duplicates;
mod remedy;
mod suggestion;

use std::sync::Arc;

use access::JST;
use serde_json::json;
use time::{Date, OffsetDateTime};
use tokio::sync::{Semaphore, SemaphorePermit};
use zeroize::Zeroizing;

use super::check::{
    self, CheckedFile, ChosenName, Fault, HasNoIndividualNumber, IsDocument, Problem, Rule, Warning,
};
use super::kinds::{self, Kinds};
use super::store::{self, FileWarning, NewFiling, NewSubmission, ReceivedFile};
use super::{StepError, individual_number};
use crate::app::App;
use crate::audit::{self, Act};
use crate::custody::{self, CustodyError, Sealed, sha256_hex};
use crate::db::{Db, StoreError, Tx, next_number};
use crate::delegations;
use crate::ids::{FilingId, SubmissionId, UploadId};
use crate::quarantine;
use crate::receipts::month::Counts;
use crate::receipts::{self, StatedFile, Statement};
use crate::uploads::{self, ContentError, Upload};
use crate::virus_scan::IsClean;
use crate::web::principals::Member;
use archive::{ArchiveError, Password};

pub use duplicates::Duplicate;
pub use remedy::Remedy;
pub use suggestion::{Suggested, suggest_name};

/// How many files can be handed in at one time.
pub const FILES_LIMIT: usize = 20;
/// Longest reason for filing the same again, in characters.
pub const REASON_LIMIT_CHARS: usize = 200;
/// How many files are opened and checked at once; each may take some 350 MiB.
const CHECKS_AT_ONCE: u32 = 2;
/// A larger file is checked alone: with what is in it, it may take some 500 MiB.
const ALONE_ABOVE_BYTES: u64 = 50 * 1024 * 1024;

static CHECKS: Semaphore = Semaphore::const_new(CHECKS_AT_ONCE as usize);

/// Waits until a file may be held in memory and checked.
async fn turn(upload: &Upload) -> Result<SemaphorePermit<'static>, HandInFailure> {
    let places = match upload.length_bytes > ALONE_ABOVE_BYTES {
        true => CHECKS_AT_ONCE,
        false => 1,
    };
    let turn = CHECKS.acquire_many(places).await;
    turn.map_err(|_| HandInFailure::Interrupted)
}

/// What a member hands in.
#[derive(Debug)]
pub struct HandIn {
    /// The files, at least one.
    pub files: Vec<HandInFile>,
    /// The sender knows that the same content was filed before and means it.
    pub duplicates_confirmed: bool,
    /// Why, in the sender's words; without them it is asked again.
    pub duplicate_reason: String,
    /// The returned filing that this one replaces.
    pub replaces: Option<FilingId>,
}

/// One file of it.
#[derive(Debug)]
pub struct HandInFile {
    /// The finished upload.
    pub upload: UploadId,
    /// The zip's password.
    pub password: Option<Password>,
    /// Names chosen for what is in it.
    pub names: Vec<ChosenName>,
}

/// What became of it.
#[derive(Debug)]
pub enum Outcome {
    /// Accepted, now or by an earlier request for the same uploads.
    Accepted(SubmissionId),
    /// Something is wrong with at least one file. Nothing was kept but the uploads.
    Refused(Vec<FileProblems>),
    /// The same content was filed before; the sender has to say that he means it.
    Duplicates(Vec<Duplicate>),
    /// The request itself cannot be followed.
    Impossible(HandInError),
}

/// All that is wrong with one file.
#[derive(Debug)]
pub struct FileProblems {
    /// Which file.
    pub upload: UploadId,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl FileProblems {
    fn may_not_stay(&self) -> bool {
        let never = |fault: &Fault| {
            matches!(
                fault,
                Fault::IndividualNumber { .. }
                    | Fault::IndividualNumberInName
                    | Fault::Virus(_)
                    | Fault::Unscannable
            )
        };
        self.problems.iter().any(|problem| never(&problem.fault))
    }
}

/// Why a request cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandInError {
    /// No file.
    #[error("no file")]
    Nothing,
    /// More than [`FILES_LIMIT`].
    #[error("more than {FILES_LIMIT} files")]
    TooMany,
    /// The same upload twice.
    #[error("the same upload twice")]
    Twice,
    /// Not this member's, expired or taken back.
    #[error("upload {0} does not exist")]
    Gone(UploadId),
    /// Something of it has not arrived yet.
    #[error("upload {0} is not complete")]
    Incomplete(UploadId),
    /// The reason for filing the same again cannot be kept.
    #[error("the reason is no line of at most {REASON_LIMIT_CHARS} characters without a number")]
    Reason,
    /// Handed in before, but not together with the others.
    #[error("upload {0} was handed in before")]
    HandedIn(UploadId),
    /// A corrected filing takes the place of one.
    #[error("a replacement must be one filing")]
    NotOneReplacement,
    /// The delegation that it is handed in by was ended meanwhile.
    #[error("the delegation does not stand any more")]
    DelegationOver,
    /// A filing of a procedure that the delegate was not entrusted with.
    #[error("the procedure was not delegated")]
    NotDelegated,
    /// The filing to be replaced may not be.
    #[error(transparent)]
    Step(#[from] StepError),
}

/// A failure of ours.
#[derive(Debug, thiserror::Error)]
pub enum HandInFailure {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document cannot be kept.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// An upload cannot be read back.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The program is stopping.
    #[error("checking was interrupted")]
    Interrupted,
    /// The checks took so long that what was sealed first may be swept away.
    #[error("checking took too long for what was sealed first")]
    TooLong,
}

/// A file that passed every rule and lies sealed.
struct Passed {
    file: ReceivedFile,
    filings: Vec<NewFiling>,
}

/// Hands in. Give it a task of its own: cut short it would leave its work to the sweeper.
pub async fn hand_in(
    app: &App,
    member: &Member,
    request: &HandIn,
    now: OffsetDateTime,
) -> Result<Outcome, HandInFailure> {
    if !is_reason(&request.duplicate_reason) {
        return Ok(Outcome::Impossible(HandInError::Reason));
    }
    let found = match find_uploads(app, member, request, now).await? {
        Ok(Found::Open(found)) => found,
        Ok(Found::HandedIn(submission)) => return Ok(Outcome::Accepted(submission)),
        Err(error) => return Ok(Outcome::Impossible(error)),
    };
    let mut passed = Vec::new();
    let mut refused = Vec::new();
    for (file, upload) in request.files.iter().zip(&found) {
        match check_and_seal(app, member, file, upload, now).await {
            Ok(Ok(file)) => passed.push(file),
            Ok(Err(problems)) => refused.push(FileProblems {
                upload: upload.id,
                problems,
            }),
            Err(failure) => {
                take_back(app, passed).await;
                // Perhaps a rival for the same uploads was faster, and their parts are gone.
                return match find_uploads(app, member, request, now).await? {
                    Ok(Found::HandedIn(submission)) => Ok(Outcome::Accepted(submission)),
                    Ok(Found::Open(_)) | Err(_) => Err(failure),
                };
            }
        }
    }
    if !refused.is_empty() {
        take_back(app, passed).await;
        record_refusal(app, member, &refused, now).await?;
        // What must not be received is not kept for a second try either.
        for file in refused.iter().filter(|file| file.may_not_stay()) {
            uploads::discard(app, member, file.upload).await?;
        }
        return Ok(Outcome::Refused(refused));
    }
    let filings: usize = passed.iter().map(|file| file.filings.len()).sum();
    if request.replaces.is_some() && filings != 1 {
        take_back(app, passed).await;
        return Ok(Outcome::Impossible(HandInError::NotOneReplacement));
    }
    write_down(app, member, request, passed, now).await
}

/// Whether a text can stand in a timeline: a line without an individual number.
fn is_reason(text: &str) -> bool {
    text.chars().count() <= REASON_LIMIT_CHARS
        && !text.chars().any(char::is_control)
        && !individual_number::occurs(text)
}

enum Found {
    Open(Vec<Upload>),
    HandedIn(SubmissionId),
}

async fn find_uploads(
    app: &App,
    member: &Member,
    request: &HandIn,
    now: OffsetDateTime,
) -> Result<Result<Found, HandInError>, StoreError> {
    let files = &request.files;
    if files.is_empty() {
        return Ok(Err(HandInError::Nothing));
    }
    if files.len() > FILES_LIMIT {
        return Ok(Err(HandInError::TooMany));
    }
    let mut uploads = Vec::new();
    for (at, file) in files.iter().enumerate() {
        if files[..at].iter().any(|other| other.upload == file.upload) {
            return Ok(Err(HandInError::Twice));
        }
        match uploads::store::find(&app.db, member, file.upload, now).await? {
            None => return Ok(Err(HandInError::Gone(file.upload))),
            Some(upload) if !upload.is_complete() => {
                return Ok(Err(HandInError::Incomplete(file.upload)));
            }
            Some(upload) => uploads.push(upload),
        }
    }
    let first = uploads[0].submission;
    if let Some(submission) = first
        && uploads.iter().all(|upload| upload.submission == first)
    {
        return Ok(Ok(Found::HandedIn(submission)));
    }
    match uploads.iter().find(|upload| upload.submission.is_some()) {
        Some(upload) => Ok(Err(HandInError::HandedIn(upload.id))),
        None => Ok(Ok(Found::Open(uploads))),
    }
}

/// Opens and checks one file where blocking is allowed, and seals what is in it.
async fn check_and_seal(
    app: &App,
    member: &Member,
    file: &HandInFile,
    upload: &Upload,
    now: OffsetDateTime,
) -> Result<Result<Passed, Vec<Problem>>, HandInFailure> {
    let _turn = turn(upload).await?;
    let bytes = Arc::new(uploads::content(app, member, upload).await?);
    let is_released = quarantine::store::is_released(&app.db, member, &sha256_hex(&bytes)).await?;
    let job = Job {
        file_name: upload.file_name.clone(),
        bytes: Arc::clone(&bytes),
        password: file.password.clone(),
        names: file.names.clone(),
        establishment: member.establishment_number(),
        today: now.to_offset(JST).date(),
        kinds: kinds::store::all(app.db.pool()).await?,
        is_clean: IsClean {
            clamd: app
                .config
                .virus_scan
                .as_ref()
                .filter(|_| !is_released)
                .map(|scan| scan.clamd.clone()),
        },
    };
    let checked = tokio::task::spawn_blocking(move || job.run())
        .await
        .map_err(|_| HandInFailure::Interrupted)?;
    let (accepted, sha256) = match checked {
        Ok(checked) => checked,
        Err(refused) => {
            if let Some(finding) = quarantine::Finding::among(&refused.problems) {
                quarantine::hold(app, member, upload, bytes.to_vec(), &finding, now).await?;
            }
            return Ok(Err(refused.problems));
        }
    };
    let file = ReceivedFile {
        file_name: upload.file_name.clone(),
        sha256,
        size_bytes: bytes.len() as u64,
        warning: accepted.warnings.first().map(|warning| match warning {
            Warning::WeakEncryption => FileWarning::WeakEncryption,
        }),
    };
    drop(bytes);
    let mut filings = Vec::new();
    for checked in accepted.files {
        match seal(app, member, checked).await {
            Ok(filing) => filings.push(filing),
            Err(error) => {
                take_back(app, vec![Passed { file, filings }]).await;
                return Err(error.into());
            }
        }
    }
    Ok(Ok(Passed { file, filings }))
}

/// What the check needs, on its way to a thread where it may block.
struct Job {
    file_name: String,
    bytes: Arc<Zeroizing<Vec<u8>>>,
    password: Option<Password>,
    names: Vec<ChosenName>,
    establishment: protocol::EstablishmentNumber,
    today: Date,
    kinds: Kinds,
    is_clean: IsClean,
}

impl Job {
    fn run(self) -> Result<(check::Accepted, String), check::Refused> {
        let no_number = HasNoIndividualNumber::default();
        let rules: [&dyn Rule; 3] = [&IsDocument, &self.is_clean, &no_number];
        let upload = check::Upload {
            file_name: &self.file_name,
            bytes: &self.bytes,
            password: self.password.as_ref(),
            establishment: self.establishment,
            chosen: &self.names,
            today: self.today,
            kinds: &self.kinds,
        };
        let accepted = check::check_upload(&upload, &rules)?;
        Ok((accepted, sha256_hex(&self.bytes)))
    }
}

async fn seal(app: &App, member: &Member, file: CheckedFile) -> Result<NewFiling, CustodyError> {
    let file_name = file.name.file_name();
    let content = file.content.map(|content| custody::hex(&content));
    let sealed = custody::seal(
        app,
        member.establishment(),
        &file_name,
        file.bytes,
        file.pages,
    );
    Ok(NewFiling {
        id: FilingId::new(),
        name: file.name,
        original_name: file.original_name,
        content_sha256: content,
        sealed: sealed.await?,
    })
}

/// Says why a delegate may not hand this in, if he may not. What he acts by stands until the
/// transaction ends.
async fn not_delegated(
    tx: &mut Tx,
    member: &Member,
    passed: &[Passed],
    now: OffsetDateTime,
) -> Result<Option<HandInError>, StoreError> {
    let Some(acting) = member.acting() else {
        return Ok(None);
    };
    if !delegations::store::still_stands(tx, member, now).await? {
        return Ok(Some(HandInError::DelegationOver));
    }
    if acting.procedures.is_empty() {
        return Ok(None);
    }
    let kinds = kinds::store::all(&mut **tx).await?;
    let is_delegated = |filing: &NewFiling| {
        let kind = kinds.find(filing.name.kind().code());
        kind.is_some_and(|kind| {
            let procedure = format!(",{},", kind.procedure.code());
            acting.procedures.contains(&procedure)
        })
    };
    let mut filings = passed.iter().flat_map(|file| &file.filings);
    Ok((!filings.all(is_delegated)).then_some(HandInError::NotDelegated))
}

/// One transaction: everything or nothing.
async fn write_down(
    app: &App,
    member: &Member,
    request: &HandIn,
    passed: Vec<Passed>,
    now: OffsetDateTime,
) -> Result<Outcome, HandInFailure> {
    let id = SubmissionId::new();
    let late = app.clock.now();
    let mut sealed = passed.iter().flat_map(|file| &file.filings);
    if sealed.any(|filing| filing.sealed.is_stale(late)) {
        take_back(app, passed).await;
        return Err(HandInFailure::TooLong);
    }
    let mut tx = app.db.begin().await?;
    let duplicates = duplicates::find_duplicates(&mut tx, member, request, &passed).await?;
    let is_meant = request.duplicates_confirmed && !request.duplicate_reason.is_empty();
    if !duplicates.is_empty() && !is_meant {
        drop(tx);
        take_back(app, passed).await;
        // Perhaps it is this very request that a rival for the same uploads has fulfilled.
        return Ok(match find_uploads(app, member, request, now).await? {
            Ok(Found::HandedIn(submission)) => Outcome::Accepted(submission),
            Ok(Found::Open(_)) | Err(_) => Outcome::Duplicates(duplicates),
        });
    }
    let note = match duplicates.as_slice() {
        [] => String::new(),
        _ => format!(
            "同じ内容の届書があることを確認して提出（理由：{}）",
            request.duplicate_reason
        ),
    };
    if let Some(error) = not_delegated(&mut tx, member, &passed, now).await? {
        drop(tx);
        take_back(app, passed).await;
        return Ok(Outcome::Impossible(error));
    }
    let mut parts = Vec::new();
    for file in &request.files {
        match uploads::store::hand_in(&mut tx, member, file.upload, id, now).await? {
            Some(objects) => parts.extend(objects),
            None => {
                // Another request for the same uploads was faster.
                drop(tx);
                take_back(app, passed).await;
                return Ok(match find_uploads(app, member, request, now).await? {
                    Ok(Found::HandedIn(submission)) => Outcome::Accepted(submission),
                    Ok(Found::Open(_)) => Outcome::Impossible(StepError::Moved.into()),
                    Err(error) => Outcome::Impossible(error),
                });
            }
        }
    }
    let (files, filings): (Vec<_>, Vec<_>) = passed
        .into_iter()
        .map(|file| (file.file, file.filings))
        .unzip();
    let filings: Vec<_> = filings.into_iter().flatten().collect();
    let objects: Vec<_> = filings
        .iter()
        .map(|filing| filing.sealed.document().id)
        .collect();
    let day = now.to_offset(JST).date();
    let day = format!(
        "{:04}{:02}{:02}",
        day.year(),
        u8::from(day.month()),
        day.day()
    );
    let number = next_number(&mut tx, &format!("receipt/{day}")).await?;
    let details = json!({ "files": files.len(), "filings": filings.len() });
    let new = NewSubmission {
        id,
        receipt_number: format!("{day}-{number:04}"),
        files,
        filings,
        note,
        replaces: request.replaces,
    };
    let counts = receipts::store::counts_now(&mut tx, now).await?;
    let device = store::device_name(&mut tx, member).await?;
    let statement = statement(app, member, &new, device, counts, now);
    if let Err(error) = store::receive(&mut tx, member, new, now).await? {
        drop(tx);
        custody::remove_objects(app, objects).await;
        return Ok(Outcome::Impossible(error.into()));
    }
    receipts::store::issue(&mut tx, &app.keys, id, &statement, counts, now).await?;
    let act = Act::Submitted(id);
    audit::record_with(&mut tx, &app.keys, &member.actor(), act, "", &details, now).await?;
    // If the commit's answer is lost, the submission may stand: its objects stay.
    Db::commit(tx).await?;
    custody::remove_objects(app, parts).await;
    Ok(Outcome::Accepted(id))
}

/// What the receipt will say.
fn statement(
    app: &App,
    member: &Member,
    new: &NewSubmission,
    device: String,
    counts: Counts,
    now: OffsetDateTime,
) -> Statement {
    let filings = new.filings.iter().map(|filing| {
        let document = filing.sealed.document();
        StatedFile {
            name: filing.name.file_name(),
            size_bytes: document.size_bytes,
            sha256: document.sha256.clone(),
        }
    });
    let files = new.files.iter().map(|file| StatedFile {
        name: file.file_name.clone(),
        size_bytes: file.size_bytes,
        sha256: file.sha256.clone(),
    });
    Statement {
        number: new.receipt_number.clone(),
        fund: app.config.fund_name.clone(),
        establishment: member.establishment_number(),
        establishment_name: member.establishment_name().to_owned(),
        received: now,
        counts: counts.month,
        sender: member.signature(),
        device,
        filings: filings.collect(),
        files: files.collect(),
    }
}

/// The audit row of a refusal: what rules were broken, without names.
async fn record_refusal(
    app: &App,
    member: &Member,
    refused: &[FileProblems],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let faults: Vec<String> = refused
        .iter()
        .flat_map(|file| &file.problems)
        .map(|problem| fault_word(&problem.fault))
        .collect();
    let details = json!({ "files": refused.len(), "faults": faults });
    let mut tx = app.db.begin().await?;
    let act = Act::UploadRefused;
    audit::record_with(&mut tx, &app.keys, &member.actor(), act, "", &details, now).await?;
    Db::commit(tx).await
}

/// A fault in words that name no file: what a broken zip's reader says may quote one.
fn fault_word(fault: &Fault) -> String {
    match fault {
        Fault::Archive(ArchiveError::Broken(_)) => "broken zip".to_owned(),
        fault => fault.to_string(),
    }
}

async fn take_back(app: &App, passed: Vec<Passed>) {
    let sealed: Vec<Sealed> = passed
        .into_iter()
        .flat_map(|file| file.filings)
        .map(|filing| filing.sealed)
        .collect();
    custody::discard(app, sealed).await;
}

impl HandInError {
    /// What happened and what to do next, for the sender.
    pub fn page_text(&self) -> String {
        match self {
            Self::Nothing => "提出するファイルを選んでください。".into(),
            Self::TooMany => format!("一度に提出できるファイルは{FILES_LIMIT}個までです。分けて提出してください。"),
            Self::Twice => "同じファイルが2回選ばれています。画面を再読み込みしてください。".into(),
            Self::Gone(_) => "送信したファイルは、保管期限（7日間）が過ぎたか、受け付けられない内容のため、削除しました。もう一度ファイルを選んでください。".into(),
            Self::Incomplete(_) => "まだ送信が終わっていないファイルがあります。終わるまでお待ちください。".into(),
            Self::HandedIn(_) => "すでに提出されたファイルが含まれています。提出履歴をご確認ください。".into(),
            Self::Reason => format!("理由は{REASON_LIMIT_CHARS}文字以内の1行で入力してください。個人番号（マイナンバー）は入力できません。"),
            Self::NotOneReplacement => "再提出では、訂正した届書を1件だけ選んでください。ほかの届書は「届書を提出する」から提出してください。".into(),
            Self::DelegationOver => "代理が取り消されたか、期限が過ぎたため、提出できませんでした。".into(),
            Self::NotDelegated => "代理を任されていない種類の届書が含まれています。事業所の管理者へご確認ください。".into(),
            Self::Step(error) => error.page_text(),
        }
    }
}

#[cfg(test)]
mod tests;
