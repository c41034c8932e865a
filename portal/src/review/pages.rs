//! The office's pages about filings: the queue, one filing with its pages as pictures, and
//! what a reviewer does with it.

mod determination;
mod queue;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;

use super::pictures::picture_of;
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::{Db, Tx};
use crate::establishments::{self, Role};
use crate::filings::pages::{Confirmed, document_of, read};
use crate::filings::reasons::Words;
use crate::filings::store::{self, FilingLine};
use crate::filings::words::{Chip, TimelineLine, chip, size, timeline};
use crate::filings::{self, Filing, Rank, ReturnCode, ReturnReason, Step, StepError};
use crate::ids::{EstablishmentId, FilingId};
use crate::mail::{Mail, outbox};
use crate::notices;
use crate::staff::StaffRole;
use crate::web::dates;
use crate::web::download;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage, Side};
use crate::web::page_error::PageError;
use crate::web::page_with;
use crate::web::principals::Reviewer;
use crate::web::router::Routes;

/// A mail about a filing is given up after this long: by then the page was seen or a person
/// called.
const MAIL_LIFETIME: time::Duration = time::Duration::days(3);

/// The routes of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, "/filings", queue::list)
        .allow::<Reviewer, _, _>(Method::GET, "/filings/{id}", filing)
        .allow::<Reviewer, _, _>(Method::GET, "/filings/{id}/pages/{page}", picture)
        .allow::<Reviewer, _, _>(Method::GET, "/filings/{id}/document.pdf", document)
        .allow::<Reviewer, _, _>(Method::POST, "/filings/{id}/take", take)
        .allow::<Reviewer, _, _>(Method::POST, "/filings/{id}/release", release)
        .allow::<Reviewer, _, _>(Method::POST, "/filings/{id}/return", give_back)
        .with(determination::office_routes)
}

#[derive(Template)]
#[template(path = "review_filing.html")]
struct FilingPage {
    layout: Layout,
    errors: FieldErrors,
    path: String,
    name: String,
    kind: String,
    filed_on: String,
    chip: Chip,
    establishment: String,
    receipt_number: String,
    received: String,
    sender: String,
    reviewer: Option<String>,
    size: String,
    sha256: String,
    page_paths: Vec<String>,
    /// What the reviewer may do now.
    acts: Acts,
    returned: Option<(&'static str, String)>,
    replaces: Option<String>,
    replaced_by: Option<String>,
    notices: Vec<(String, String, bool)>,
    reasons: Vec<Reason>,
    return_text: String,
    timeline: Vec<TimelineLine>,
}

/// What the reviewer who looks at the page may do.
struct Acts {
    take: bool,
    release: bool,
    close: bool,
}

struct Reason {
    code: &'static str,
    label: &'static str,
    words_required: bool,
    selected: bool,
}

/// `GET /filings/{id}`
async fn filing(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let line = find_line(&app, &reviewer, &id).await?;
    show(&app, &reviewer, &line, Typed::default(), StatusCode::OK).await
}

/// What was typed into the return form, and what was wrong with it.
#[derive(Default)]
struct Typed {
    code: String,
    text: String,
    errors: FieldErrors,
}

async fn show(
    app: &App,
    reviewer: &Reviewer,
    line: &FilingLine,
    typed: Typed,
    status: StatusCode,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let filing = &line.filing;
    let document = document_of(app, filing).await?;
    let entries = store::timeline(&app.db, filing).await?;
    let notices = notices::store::of_filing(&app.db, reviewer, filing.id).await?;
    let path = format!("/filings/{}", filing.id);
    let template = FilingPage {
        layout: Layout::office(app, reviewer.staff(), OfficePage::Review),
        errors: typed.errors,
        name: filing.name.to_string(),
        kind: filing.name.kind().name().to_owned(),
        filed_on: dates::date(filing.name.date()),
        chip: chip(filing.state.code()),
        establishment: format!("{} {}", line.establishment_number, line.establishment_name),
        receipt_number: line.receipt_number.clone(),
        received: dates::moment(filing.received),
        sender: line.sender.clone(),
        reviewer: line.reviewer.clone(),
        size: size(document.size_bytes),
        sha256: document.sha256,
        page_paths: (1..=document.pages)
            .map(|page| format!("{path}/pages/{page}.png"))
            .collect(),
        acts: Acts {
            take: filing.take(reviewer.id(), now).is_ok(),
            release: filing.release(reviewer.id(), rank(reviewer), now).is_ok(),
            close: filing.decide(reviewer.id(), now).is_ok(),
        },
        returned: filing
            .state
            .return_reason()
            .map(|reason| (reason.code().label(), reason.text().to_owned())),
        replaces: filing.replaces.map(|id| format!("/filings/{id}")),
        replaced_by: line.replaced_by.map(|id| format!("/filings/{id}")),
        notices: notices
            .into_iter()
            .map(|notice| {
                let label = format!("{}（{}）", notice.title, notice.number);
                let path = format!("/notices/{}", notice.id);
                (path, label, notice.first_fetched.is_some())
            })
            .collect(),
        reasons: ReturnCode::ALL
            .into_iter()
            .map(|code| Reason {
                code: code.code(),
                label: code.label(),
                words_required: code.words() == Words::Required,
                selected: code.code() == typed.code,
            })
            .collect(),
        return_text: typed.text,
        timeline: timeline(entries, Side::Office),
        path,
    };
    Ok(page_with(status, &template)?.into_response())
}

/// `GET /filings/{id}/pages/{page}`
async fn picture(
    reviewer: Reviewer,
    State(app): State<App>,
    Path((id, page)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let filing = find(&app, &reviewer, &id).await?;
    let document = document_of(&app, &filing).await?;
    let (number, picture) = picture_of(&app, &document, &page).await?;
    let details = json!({ "page": number });
    record_reading(&app, &reviewer, &filing, &details).await?;
    Ok(picture)
}

/// `GET /filings/{id}/document.pdf`: the PDF itself, to keep.
async fn document(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let filing = find(&app, &reviewer, &id).await?;
    let document = document_of(&app, &filing).await?;
    let bytes = read(&app, &document).await?;
    let details = json!({ "form": "pdf" });
    record_reading(&app, &reviewer, &filing, &details).await?;
    Ok(download::attachment(
        &document.file_name,
        download::PDF,
        bytes,
    ))
}

async fn record_reading(
    app: &App,
    reviewer: &Reviewer,
    filing: &Filing,
    details: &serde_json::Value,
) -> Result<(), PageError> {
    let (actor, now) = (reviewer.actor(), app.clock.now());
    let mut tx = app.db.begin().await?;
    let act = Act::FilingRead(filing.id);
    audit::record_with(&mut tx, &app.keys, &actor, act, "", details, now).await?;
    Db::commit(tx).await?;
    Ok(())
}

/// `POST /filings/{id}/take`
async fn take(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Confirmed {}): Verified<Confirmed>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;

    let filing = find_in(&mut tx, &reviewer, &id).await?;
    let step = allowed(filing.take(reviewer.id(), now))?;
    allowed(store::save_review(&mut tx, &reviewer, &step).await?)?;
    let act = Act::FilingTaken(filing.id);
    audit::record(&mut tx, &app.keys, &reviewer.actor(), act, now).await?;

    Db::commit(tx).await?;
    Ok(to_filing(filing.id))
}

/// `POST /filings/{id}/release`
async fn release(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Confirmed {}): Verified<Confirmed>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;

    let filing = find_in(&mut tx, &reviewer, &id).await?;
    let step = allowed(filing.release(reviewer.id(), rank(&reviewer), now))?;
    allowed(store::save_review(&mut tx, &reviewer, &step).await?)?;
    let act = Act::FilingReleased(filing.id);
    audit::record(&mut tx, &app.keys, &reviewer.actor(), act, now).await?;

    Db::commit(tx).await?;
    Ok(to_filing(filing.id))
}

/// The return form.
#[derive(Deserialize)]
struct ReturnForm {
    #[serde(default)]
    code: String,
    #[serde(default)]
    text: String,
}

/// `POST /filings/{id}/return`
async fn give_back(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<ReturnForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let reason = match ReturnReason::parse(&form.code, &form.text) {
        Ok(reason) => reason,
        Err(error) => {
            let line = find_line(&app, &reviewer, &id).await?;
            let field = match error {
                filings::reasons::ReasonError::UnknownCode => "code",
                filings::reasons::ReasonError::WordsMissing
                | filings::reasons::ReasonError::TooLong => "text",
            };
            let typed = Typed {
                errors: FieldErrors::of_one(field, error.page_text()),
                code: form.code,
                text: form.text,
            };
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return show(&app, &reviewer, &line, typed, status).await;
        }
    };
    let code = reason.code().code();
    let establishment = find(&app, &reviewer, &id).await?.establishment;
    let mails = mails(&app, establishment, crate::mail::texts::filing_returned).await?;
    let mut tx = app.db.begin().await?;

    let filing = find_in(&mut tx, &reviewer, &id).await?;
    let step: Step = allowed(filing.give_back(reviewer.id(), reason, now))?;
    allowed(store::save_review(&mut tx, &reviewer, &step).await?)?;
    queue_mails(&app, &mut tx, mails, now).await?;
    let (act, actor) = (Act::FilingReturned(filing.id), reviewer.actor());
    audit::record_with(&mut tx, &app.keys, &actor, act, code, &json!({}), now).await?;

    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(to_filing(filing.id).into_response())
}

/// The mails to an establishment's admins.
async fn mails(
    app: &App,
    establishment: EstablishmentId,
    text: fn(&crate::config::Config, &str) -> Mail,
) -> Result<Vec<Mail>, PageError> {
    let users = establishments::store::users(&app.db, establishment).await?;
    Ok(users
        .iter()
        .filter(|user| user.role == Role::Admin && user.disabled.is_none())
        .map(|user| text(&app.config, &user.email))
        .collect())
}

async fn queue_mails(
    app: &App,
    tx: &mut Tx,
    mails: Vec<Mail>,
    now: OffsetDateTime,
) -> Result<(), PageError> {
    for mail in mails {
        outbox::queue(tx, &app.keys, mail, now, now + MAIL_LIFETIME).await?;
    }
    Ok(())
}

async fn find(app: &App, reviewer: &Reviewer, id: &str) -> Result<Filing, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    store::find_for_review(app.db.pool(), reviewer, id)
        .await?
        .ok_or(PageError::NotFound)
}

async fn find_in(tx: &mut Tx, reviewer: &Reviewer, id: &str) -> Result<Filing, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    store::find_for_review(&mut **tx, reviewer, id)
        .await?
        .ok_or(PageError::NotFound)
}

async fn find_line(app: &App, reviewer: &Reviewer, id: &str) -> Result<FilingLine, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    store::find_line_for_review(&app.db, reviewer, id)
        .await?
        .ok_or(PageError::NotFound)
}

fn allowed<T>(step: Result<T, StepError>) -> Result<T, PageError> {
    step.map_err(|error| PageError::Refused(error.page_text()))
}

fn to_filing(id: FilingId) -> Redirect {
    Redirect::to(&format!("/filings/{id}"))
}

fn rank(reviewer: &Reviewer) -> Rank {
    match reviewer.staff().role() {
        StaffRole::Supervisor => Rank::Supervisor,
        StaffRole::Reviewer | StaffRole::SystemAdmin => Rank::Reviewer,
    }
}
