//! From a filing in review to the notice: form or uploaded PDF → draft → look at it → issue.
//!
//! 「決定して通知書を発行する」 is one act: the filing's decision, the notice, both timelines'
//! entries, the mails and the audit rows are written in one transaction or not at all.

use access::JST;
use askama::Template;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use time::{Month, OffsetDateTime};

use super::{
    allowed, find, find_in, find_line, mails, queue_mails, refuse_while_withdrawal_is_asked,
    to_filing,
};
use crate::app::App;
use crate::audit::{self, Act};
use crate::custody::{self, Document, Sealed};
use crate::db::{Db, StoreError, coming_number as coming, next_number};
use crate::documents::DocumentError;
use crate::filings::store::{self, ActorSide, FilingLine, write_event};
use crate::filings::{Event, StepError, pdf};
use crate::ids::{DraftId, FilingId, NoticeId};
use crate::mail::texts;
use crate::notices::determination::{self, Determination};
use crate::notices::store::NewNotice;
use crate::notices::{self, Kind, Notice};
use crate::review::pictures::picture_of;
use crate::review::store::{self as drafts, Draft};
use crate::review::{Decision, DeterminationForm, EVENTS, FormRow, ROWS_LIMIT, likely_event};
use crate::web::body::{self, READ_TIMEOUT};
use crate::web::forms::{FieldErrors, Verified, VerifiedScript};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::page_with;
use crate::web::principals::Reviewer;
use crate::web::router::Routes;

/// Empty rows that a new form begins with.
const FIRST_ROWS: usize = 1;
/// How often a letter is made anew because a colleague took its number.
const NUMBER_TRIES: usize = 8;

pub(super) fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, "/filings/{id}/determination", form)
        .allow::<Reviewer, _, _>(Method::POST, "/filings/{id}/determination", make)
        .allow::<Reviewer, _, _>(Method::POST, "/filings/{id}/determination/file", take_file)
        .allow::<Reviewer, _, _>(Method::GET, "/filings/{id}/determination/draft", draft)
        .allow::<Reviewer, _, _>(
            Method::GET,
            "/filings/{id}/determination/pages/{page}",
            draft_page,
        )
        .allow::<Reviewer, _, _>(Method::POST, "/filings/{id}/determination/issue", issue)
}

#[derive(Template)]
#[template(path = "determination_form.html")]
struct FormPage {
    layout: Layout,
    errors: FieldErrors,
    path: String,
    filing_path: String,
    name: String,
    establishment: String,
    rows: Vec<FormRow>,
    remarks: String,
    events: Vec<(&'static str, &'static str)>,
    rows_limit: usize,
    page_paths: Vec<String>,
}

/// `GET /filings/{id}/determination`
async fn form(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let line = in_review(&app, &reviewer, &id).await?;
    let earlier = drafts::find_draft(&app.db, &app.keys, &reviewer, line.filing.id).await?;
    let typed = earlier.and_then(|draft| draft.form).unwrap_or_default();
    show_form(&app, &reviewer, &line, typed, FieldErrors::default()).await
}

/// The filing, if this reviewer may decide it now.
async fn in_review(app: &App, reviewer: &Reviewer, id: &str) -> Result<FilingLine, PageError> {
    let line = find_line(app, reviewer, id).await?;
    allowed(line.filing.decide(reviewer.id(), app.clock.now()))?;
    Ok(line)
}

async fn show_form(
    app: &App,
    reviewer: &Reviewer,
    line: &FilingLine,
    mut typed: DeterminationForm,
    errors: FieldErrors,
) -> Result<Response, PageError> {
    let empty = FormRow {
        event: likely_event(line.filing.name.kind()).to_owned(),
        ..FormRow::default()
    };
    while typed.rows.len() < FIRST_ROWS {
        typed.rows.push(empty.clone());
    }
    let filing_path = format!("/filings/{}", line.filing.id);
    let document = crate::filings::pages::document_of(app, &line.filing).await?;
    let status = if errors.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    let template = FormPage {
        layout: Layout::office(app, reviewer.staff(), OfficePage::Review),
        errors,
        path: format!("{filing_path}/determination"),
        name: line.filing.name.to_string(),
        establishment: format!("{} {}", line.establishment_number, line.establishment_name),
        rows: typed.rows,
        remarks: typed.remarks,
        events: EVENTS.map(|(code, event)| (code, event.name())).to_vec(),
        rows_limit: ROWS_LIMIT,
        page_paths: (1..=document.pages)
            .map(|page| format!("{filing_path}/pages/{page}.png"))
            .collect(),
        filing_path,
    };
    Ok(page_with(status, &template)?.into_response())
}

/// `POST /filings/{id}/determination`: one more row, or the draft.
async fn make(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(fields): Verified<Vec<(String, String)>>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let line = in_review(&app, &reviewer, &id).await?;
    let mut typed = DeterminationForm::from_fields(&fields);
    if fields.iter().any(|(name, _)| name == "add_row") {
        if typed.rows.len() < ROWS_LIMIT {
            let event = typed.rows.last().map(|row| row.event.clone());
            typed.rows.push(FormRow {
                event: event.unwrap_or_default(),
                ..FormRow::default()
            });
        }
        return show_form(&app, &reviewer, &line, typed, FieldErrors::default()).await;
    }
    let decision = match typed.check() {
        Ok(decision) => decision,
        Err(errors) => return show_form(&app, &reviewer, &line, typed, errors).await,
    };
    let made = make_draft(&app, &reviewer, &line, Source::Form(decision, &typed), now).await;
    match made {
        Ok(()) => Ok(to_draft(&line).into_response()),
        Err(DraftError::Document(error)) => {
            let errors = FieldErrors::of_one("rows", error.page_text());
            show_form(&app, &reviewer, &line, typed, errors).await
        }
        Err(DraftError::Page(error)) => Err(error),
    }
}

/// `POST /filings/{id}/determination/file`: a PDF of the reviewer's own, by the page's script.
async fn take_file(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    _: VerifiedScript,
    body: Body,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let line = in_review(&app, &reviewer, &id).await?;
    let refused = |sentence: String| {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        (status, Json(json!({ "sentence": sentence }))).into_response()
    };
    let Ok(bytes) = body::receive(body, pdf::SIZE_LIMIT_BYTES as u64, READ_TIMEOUT).await else {
        return Ok(refused(
            "ファイルを受け取れませんでした（50MBまで）。もう一度お試しください。".into(),
        ));
    };
    let (bytes, checked) = tokio::task::spawn_blocking(move || {
        let checked = pdf::check(&bytes);
        (bytes, checked)
    })
    .await
    .map_err(PageError::doing("check an uploaded notice"))?;
    let pages = match checked {
        Ok(checked) => checked.pages,
        Err(error) => return Ok(refused(error.page_text())),
    };
    match make_draft(&app, &reviewer, &line, Source::File(bytes, pages), now).await {
        Ok(()) => {
            let location = format!("/filings/{}/determination/draft", line.filing.id);
            let body = json!({ "location": location });
            Ok((StatusCode::CREATED, Json(body)).into_response())
        }
        Err(DraftError::Document(error)) => Ok(refused(error.page_text())),
        Err(DraftError::Page(error)) => Err(error),
    }
}

/// What a draft is made from.
enum Source<'a> {
    Form(Decision, &'a DeterminationForm),
    /// A checked PDF and how many pages it has.
    File(Vec<u8>, usize),
}

enum DraftError {
    Document(DocumentError),
    Page(PageError),
}

impl<E: Into<PageError>> From<E> for DraftError {
    fn from(error: E) -> Self {
        Self::Page(error.into())
    }
}

/// Makes the letter and seals it as a draft, in the place of an earlier one.
///
/// The letter bears its number, and numbers are not wasted: it is made with the number that
/// comes next, before the transaction that takes it. If a colleague was faster, once more.
async fn make_draft(
    app: &App,
    reviewer: &Reviewer,
    line: &FilingLine,
    source: Source<'_>,
    now: OffsetDateTime,
) -> Result<(), DraftError> {
    for _ in 0..NUMBER_TRIES {
        let number = coming_number(app, line.filing.id, now).await?;
        let sealed = seal_draft(app, line, &source, &number, now).await?;
        let form = match &source {
            Source::File(..) => None,
            Source::Form(_, form) => Some((*form).clone()),
        };
        if write_draft(app, reviewer, line, sealed, number, form, now).await? {
            return Ok(());
        }
    }
    Err(PageError::Refused(
        "ほかの職員も決定通知書を作成しているため、番号を決められませんでした。少し待ってから、もう一度作成してください。".into(),
    )
    .into())
}

/// Makes the letter, checks it and puts it into the vault.
async fn seal_draft(
    app: &App,
    line: &FilingLine,
    source: &Source<'_>,
    number: &str,
    now: OffsetDateTime,
) -> Result<Sealed, DraftError> {
    let (bytes, pages) = match source {
        Source::File(bytes, pages) => (bytes.clone(), *pages),
        Source::Form(decision, _) => {
            let letter = letter(app, line, decision.clone(), number, now);
            let made = tokio::task::spawn_blocking(move || {
                let bytes = determination::to_pdf(&letter)?;
                let checked = pdf::check(&bytes);
                Ok((bytes, checked))
            });
            let (bytes, checked) = made
                .await
                .map_err(PageError::doing("make a determination"))?
                .map_err(DraftError::Document)?;
            let checked = checked.map_err(PageError::doing("check a determination"))?;
            (bytes, checked.pages)
        }
    };
    let day = now.to_offset(JST).date().to_string().replace('-', "");
    let establishment = line.establishment_number;
    let file_name = format!("{day}_{establishment}_決定通知書_{number}.pdf");
    let sealed = custody::seal(app, line.filing.establishment, &file_name, bytes, pages).await;
    Ok(sealed.map_err(PageError::storing("seal a determination"))?)
}

/// Takes the number and writes the draft down. `false`: the number is another one now, and
/// nothing was written.
async fn write_draft(
    app: &App,
    reviewer: &Reviewer,
    line: &FilingLine,
    sealed: Sealed,
    number: String,
    form: Option<DeterminationForm>,
    now: OffsetDateTime,
) -> Result<bool, DraftError> {
    let filing = line.filing.id;
    let mut tx = app.db.begin().await?;
    let taken = match drafts::number_of(&mut tx, filing).await? {
        Some(number) => number,
        None => {
            let (counter, year) = number_counter(now);
            notice_number(year, next_number(&mut tx, &counter).await?)
        }
    };
    if taken != number {
        drop(tx);
        custody::discard(app, [sealed]).await;
        return Ok(false);
    }
    let document = custody::store::record(&mut tx, sealed, now).await?;
    let draft = Draft {
        id: DraftId::new(),
        filing,
        staff: reviewer.id(),
        document,
        number,
        form,
        made: now,
    };
    let earlier = drafts::put_draft(&mut tx, &app.keys, &draft).await?;
    let act = Act::NoticeDrafted(filing);
    audit::record(&mut tx, &app.keys, &reviewer.actor(), act, now).await?;
    Db::commit(tx).await?;
    custody::remove_objects(app, earlier).await;
    Ok(true)
}

fn letter(
    app: &App,
    line: &FilingLine,
    decision: Decision,
    number: &str,
    now: OffsetDateTime,
) -> Determination {
    Determination {
        fund: app.config.fund_name.clone(),
        number: format!("決定第{number}号"),
        decided_on: now.to_offset(JST).date(),
        establishment: line.establishment_number,
        establishment_name: line.establishment_name.clone(),
        addressee: None,
        receipt_number: line.receipt_number.clone(),
        filing_name: line.filing.name.to_string(),
        rows: decision.rows,
        remarks: decision.remarks,
        contact: vec![app.config.fund_contact.clone()],
        made_at: now,
    }
}

/// The number that a draft for the filing would take now.
async fn coming_number(
    app: &App,
    filing: FilingId,
    now: OffsetDateTime,
) -> Result<String, StoreError> {
    let mut tx = app.db.begin_snapshot().await?;
    if let Some(number) = drafts::number_of(&mut tx, filing).await? {
        return Ok(number);
    }
    let (counter, year) = number_counter(now);
    Ok(notice_number(year, coming(&mut tx, &counter).await?))
}

/// The counter of the fund's business year, which begins in April, and that year.
fn number_counter(now: OffsetDateTime) -> (String, i32) {
    let day = now.to_offset(JST).date();
    let begun = u8::from(day.month()) >= u8::from(Month::April);
    let year = day.year() - i32::from(!begun);
    (format!("notice/{year}"), year)
}

/// `2026-00012`
fn notice_number(year: i32, number: i64) -> String {
    format!("{year}-{number:05}")
}

#[derive(Template)]
#[template(path = "determination_draft.html")]
struct DraftPage {
    layout: Layout,
    path: String,
    filing_path: String,
    draft: String,
    name: String,
    establishment: String,
    number: String,
    from_form: bool,
    page_paths: Vec<String>,
}

/// `GET /filings/{id}/determination/draft`
async fn draft(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let line = in_review(&app, &reviewer, &id).await?;
    let (draft, document) = find_draft(&app, &reviewer, &line).await?;
    let filing_path = format!("/filings/{}", line.filing.id);
    let path = format!("{filing_path}/determination");
    let template = DraftPage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Review),
        filing_path,
        draft: draft.id.to_string(),
        name: line.filing.name.to_string(),
        establishment: format!("{} {}", line.establishment_number, line.establishment_name),
        number: format!("決定第{}号", draft.number),
        from_form: draft.form.is_some(),
        page_paths: (1..=document.pages)
            .map(|page| format!("{path}/pages/{page}.png?{}", draft.id))
            .collect(),
        path,
    };
    Ok(page_with(StatusCode::OK, &template)?.into_response())
}

/// `GET /filings/{id}/determination/pages/{page}`: what the reviewer himself wrote.
async fn draft_page(
    reviewer: Reviewer,
    State(app): State<App>,
    Path((id, page)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let line = in_review(&app, &reviewer, &id).await?;
    let (_, document) = find_draft(&app, &reviewer, &line).await?;
    let (_, picture) = picture_of(&app, &document, &page).await?;
    Ok(picture)
}

async fn find_draft(
    app: &App,
    reviewer: &Reviewer,
    line: &FilingLine,
) -> Result<(Draft, Document), PageError> {
    let draft = drafts::find_draft(&app.db, &app.keys, reviewer, line.filing.id)
        .await?
        .ok_or(PageError::NotFound)?;
    let document = custody::store::find(&app.db, draft.document)
        .await?
        .ok_or(PageError::NotFound)?;
    Ok((draft, document))
}

/// What the issue button sends: which draft the reviewer looked at.
#[derive(Deserialize)]
struct IssueForm {
    draft: DraftId,
}

/// `POST /filings/{id}/determination/issue`
async fn issue(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<IssueForm>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let line = in_review(&app, &reviewer, &id).await?;
    let (draft, _) = find_draft(&app, &reviewer, &line).await?;
    let day = |at: OffsetDateTime| at.to_offset(JST).date();
    if draft.id != form.draft || (draft.form.is_some() && day(draft.made) != day(now)) {
        return Err(PageError::Refused(
            "決定通知書の下書きが新しくなっているか、作成した日が今日ではありません。下書きを作り直して、内容を確認してから発行してください。".into(),
        ));
    }
    let establishment = find(&app, &reviewer, &id).await?.establishment;
    let mails = mails(&app, establishment, texts::notice_issued).await?;
    let new = NewNotice {
        notice: Notice {
            id: NoticeId::new(),
            number: format!("決定第{}号", draft.number),
            establishment,
            filing: Some(line.filing.id),
            document: draft.document,
            title: format!("決定通知書（{}）", line.filing.name.kind().name()),
            issued: now,
            first_fetched: None,
            amount_yen: None,
            recalled: None,
        },
        kind: Kind::Determination,
    };
    let mut tx = app.db.begin().await?;

    let filing = find_in(&mut tx, &reviewer, &id).await?;
    let step = allowed(filing.decide(reviewer.id(), now))?;
    allowed(store::save_review(&mut tx, &reviewer, &step).await?)?;
    refuse_while_withdrawal_is_asked(&mut tx, filing.id).await?;
    if drafts::remove_draft(&mut tx, filing.id).await? != Some(draft.document) {
        return allowed(Err(StepError::Moved));
    }
    notices::store::issue(&mut tx, &reviewer, &new).await?;
    let (side, who, note) = (ActorSide::Staff, reviewer.name(), &new.notice.number);
    write_event(&mut tx, filing.id, Event::Noticed, side, who, note, now).await?;
    queue_mails(&app, &mut tx, mails, now).await?;
    let actor = reviewer.actor();
    audit::record(
        &mut tx,
        &app.keys,
        &actor,
        Act::FilingDecided(filing.id),
        now,
    )
    .await?;
    let act = Act::NoticeIssued(new.notice.id);
    audit::record(&mut tx, &app.keys, &actor, act, now).await?;

    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(to_filing(filing.id))
}

fn to_draft(line: &FilingLine) -> Redirect {
    Redirect::to(&format!("/filings/{}/determination/draft", line.filing.id))
}

#[cfg(test)]
mod tests;
