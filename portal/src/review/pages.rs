//! The office's pages about filings: the queue, one filing with its pages as pictures, and
//! what a reviewer does with it.

mod assignment;
mod determination;
mod filing;
mod queue;
mod talk;

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
use crate::filings::reasons::ReasonError;
use crate::filings::store::{self, FilingLine};
use crate::filings::{Filing, Rank, ReturnReason, Step, StepError, individual_number};
use crate::ids::{EstablishmentId, FilingId};
use crate::mail::{Mail, outbox};
use crate::review::assignment::{candidate, take_from_the_gone};
use crate::review::marks::{self, Mark};
use crate::review::talk::TextError;
use crate::review::withdrawals;
use crate::staff::StaffRole;
use crate::web::download;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::page_error::PageError;
use crate::web::principals::Reviewer;
use crate::web::router::Routes;
use filing::{Typed, show};

/// A mail about a filing is given up after this long: by then the page was seen or a person
/// called.
const MAIL_LIFETIME: time::Duration = time::Duration::days(3);

/// The routes of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, "/filings", queue::list)
        .allow::<Reviewer, _, _>(Method::GET, "/filings/{id}", filing::show_filing)
        .allow::<Reviewer, _, _>(Method::GET, "/filings/{id}/pages/{page}", picture)
        .allow::<Reviewer, _, _>(Method::GET, "/filings/{id}/document.pdf", document)
        .allow::<Reviewer, _, _>(Method::POST, "/filings/{id}/take", take)
        .allow::<Reviewer, _, _>(Method::POST, "/filings/{id}/release", release)
        .allow::<Reviewer, _, _>(Method::POST, "/filings/{id}/return", give_back)
        .with(assignment::office_routes)
        .with(talk::office_routes)
        .with(determination::office_routes)
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
    // An account that is being disabled takes nothing any more.
    if candidate(&mut tx, reviewer.id()).await?.is_none() {
        return Err(PageError::NotFound);
    }
    let filing = take_from_the_gone(&mut tx, &reviewer, filing, now).await?;
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
#[serde(default)]
#[derive(Default)]
struct ReturnForm {
    code: String,
    text: String,
    page: String,
    left: String,
    top: String,
    width: String,
    height: String,
}

impl ReturnForm {
    /// What was typed, with what is wrong with it.
    fn into_typed(self, errors: FieldErrors) -> Typed {
        let mark = self.mark();
        Typed {
            code: self.code,
            text: self.text,
            mark,
            errors,
            ..Typed::default()
        }
    }

    fn mark(&self) -> marks::Typed {
        marks::Typed {
            page: self.page.clone(),
            left: self.left.clone(),
            top: self.top.clone(),
            width: self.width.clone(),
            height: self.height.clone(),
        }
    }

    /// The reason and the mark, or everything that is wrong.
    fn check(&self, pages: u64) -> Result<(ReturnReason, Option<Mark>), FieldErrors> {
        let mut errors = FieldErrors::default();
        let reason = ReturnReason::parse(&self.code, &self.text);
        if let Err(error) = &reason {
            let field = match error {
                ReasonError::UnknownCode => "code",
                ReasonError::WordsMissing | ReasonError::TooLong => "text",
            };
            errors.add(field, error.page_text());
        } else if individual_number::occurs(&self.text) {
            errors.add("text", TextError::IndividualNumber.page_text());
        }
        let mark = self.mark().check(pages);
        if let Err(error) = mark {
            errors.add("page", error.page_text());
        }
        match (reason, mark) {
            (Ok(reason), Ok(mark)) if errors.is_empty() => Ok((reason, mark)),
            _ => Err(errors),
        }
    }
}

/// `POST /filings/{id}/return`
async fn give_back(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<ReturnForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let line = find_line(&app, &reviewer, &id).await?;
    let pages = document_of(&app, &line.filing).await?.pages;
    let (reason, mark) = match form.check(pages) {
        Ok(checked) => checked,
        Err(errors) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return show(&app, &reviewer, &line, form.into_typed(errors), status).await;
        }
    };
    let code = reason.code().code();
    let establishment = line.filing.establishment;
    let mails = mails(&app, establishment, crate::mail::texts::filing_returned).await?;
    let mut tx = app.db.begin().await?;

    let filing = find_in(&mut tx, &reviewer, &id).await?;
    let step: Step = allowed(filing.give_back(reviewer.id(), reason, now))?;
    allowed(store::save_review(&mut tx, &reviewer, &step).await?)?;
    refuse_while_withdrawal_is_asked(&mut tx, filing.id).await?;
    if let Some(mark) = mark {
        marks::write(&mut tx, filing.id, mark).await?;
    }
    queue_mails(&app, &mut tx, mails, now).await?;
    let (act, actor) = (Act::FilingReturned(filing.id), reviewer.actor());
    let details = json!({ "marked_page": mark.map(|mark| mark.page) });
    audit::record_with(&mut tx, &app.keys, &actor, act, code, &details, now).await?;

    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(to_filing(filing.id).into_response())
}

/// Call it after the step is saved: see [`withdrawals::is_open`].
async fn refuse_while_withdrawal_is_asked(tx: &mut Tx, filing: FilingId) -> Result<(), PageError> {
    if withdrawals::is_open(tx, filing).await? {
        return allowed(Err(StepError::WithdrawalAsked));
    }
    Ok(())
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
