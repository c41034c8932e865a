//! The office's page on which staff drop registration forms.
//!
//! The answer shows each file's verdict and gives the letters as a PDF, once: the secrets in
//! them are kept nowhere. A letter that was lost is made anew from the establishment's page.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde::Deserialize;
use time::OffsetDateTime;

use super::letter::{self, Sender};
use super::{Dropped, Letter, Outcome, Verdict};
use crate::app::App;
use crate::establishments::store;
use crate::gateways;
use crate::ids::{EstablishmentId, UserId};
use crate::web::download::{PDF, attachment};
use crate::web::forms::{FieldErrors, FormFile, Verified, VerifiedFiles};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::Reviewer;
use crate::web::router::Routes;
use crate::web::{page, page_with};
use archive::Password;

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, "/registrations/new", new)
        .allow::<Reviewer, _, _>(Method::POST, "/registrations/new", take)
        .allow::<Reviewer, _, _>(
            Method::POST,
            "/establishments/{id}/users/{user}/letter",
            reissue,
        )
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /establishments/{id}/users/{user}/letter`: the letter anew, as a file to print.
async fn reissue(
    reviewer: Reviewer,
    State(app): State<App>,
    Path((id, user)): Path<(String, String)>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let id: EstablishmentId = id.parse().map_err(|_| PageError::NotFound)?;
    let user: UserId = user.parse().map_err(|_| PageError::NotFound)?;
    let establishment = store::find(&app.db, id).await?.ok_or(PageError::NotFound)?;
    let users = store::users(&app.db, id).await?;
    let admin = users.into_iter().find(|known| known.id == user);
    let admin = admin.ok_or(PageError::NotFound)?;
    let letter = super::reissue(&app, &reviewer.actor(), &establishment, &admin, now).await;
    let letter = letter
        .map_err(PageError::doing("reissue a letter"))?
        .ok_or(PageError::NotFound)?;
    let pdf = pdf_of(&app, &[&letter], now).await?;
    let name = format!("管理者情報登録完了のお知らせ_{}.pdf", establishment.number);
    Ok(attachment(&name, PDF, pdf))
}

async fn pdf_of(app: &App, letters: &[&Letter], now: OffsetDateTime) -> Result<Vec<u8>, PageError> {
    let gateways = gateways::store::urls(&app.db).await?;
    let sender = Sender {
        fund: &app.config.fund_name,
        contact: &app.config.fund_contact,
        gateway: gateways.first().map(String::as_str),
    };
    letter::to_pdf(letters, sender, now).map_err(PageError::doing("write letters"))
}

#[derive(Template)]
#[template(path = "registrations_new.html")]
struct NewPage {
    layout: Layout,
    errors: FieldErrors,
}

/// `GET /registrations/new`
async fn new(reviewer: Reviewer, State(app): State<App>) -> Result<Html<String>, PageError> {
    page(&form(&app, &reviewer, FieldErrors::default()))
}

fn form(app: &App, reviewer: &Reviewer, errors: FieldErrors) -> NewPage {
    NewPage {
        layout: Layout::office(app, reviewer.staff(), OfficePage::Establishments),
        errors,
    }
}

#[derive(Template)]
#[template(path = "registrations.html")]
struct ResultPage {
    layout: Layout,
    registered: usize,
    known: usize,
    refused: usize,
    rows: Vec<ResultRow>,
    /// The letters, in Base64; empty if there are none.
    letters: String,
}

struct ResultRow {
    name: String,
    state: (&'static str, &'static str),
    /// The establishment's page and what it is called there.
    establishment: Option<(String, String)>,
    reasons: Vec<String>,
}

/// `POST /registrations/new`
async fn take(
    reviewer: Reviewer,
    State(app): State<App>,
    form: VerifiedFiles,
) -> Result<(StatusCode, Html<String>), PageError> {
    if form.files.is_empty() {
        let errors = FieldErrors::of_one("files", "登録届のファイルを選んでください。");
        let page = self::form(&app, &reviewer, errors);
        return page_with(StatusCode::UNPROCESSABLE_ENTITY, &page);
    }
    let now = app.clock.now();
    let typed = form.fields.get("zip_password");
    let password = typed.map(|text| Password::new(text.to_string()));
    let dropped = form
        .files
        .into_iter()
        .map(|FormFile { name, bytes }| Dropped { name, bytes });
    let outcomes = super::run(
        &app,
        &reviewer.actor(),
        dropped.collect(),
        password.as_ref(),
        now,
    )
    .await
    .map_err(PageError::doing("register a batch"))?;

    let letters: Vec<&Letter> = outcomes.iter().filter_map(letter_of).collect();
    let letters = match letters.as_slice() {
        [] => String::new(),
        letters => STANDARD.encode(pdf_of(&app, letters, now).await?),
    };
    let count = |wanted: fn(&Verdict) -> bool| {
        let all = outcomes.iter();
        all.filter(|outcome| wanted(&outcome.verdict)).count()
    };
    let page = ResultPage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Establishments),
        registered: count(|verdict| matches!(verdict, Verdict::Registered(_))),
        known: count(|verdict| matches!(verdict, Verdict::Known(_))),
        refused: count(|verdict| matches!(verdict, Verdict::Refused(_))),
        rows: outcomes.iter().map(row).collect(),
        letters,
    };
    page_with(StatusCode::OK, &page)
}

fn letter_of(outcome: &Outcome) -> Option<&Letter> {
    match &outcome.verdict {
        Verdict::Registered(letter) => Some(letter),
        Verdict::Known(_) | Verdict::Refused(_) => None,
    }
}

fn row(outcome: &Outcome) -> ResultRow {
    let link = |id| format!("/establishments/{id}");
    let (state, establishment, reasons) = match &outcome.verdict {
        Verdict::Registered(letter) => {
            let name = letter.registration.establishment.as_str().to_owned();
            let link = Some((link(letter.establishment), name));
            (("success", "登録しました"), link, Vec::new())
        }
        Verdict::Known(id) => {
            let link = Some((link(*id), "事業所の画面へ".to_owned()));
            (("neutral", "登録済みです"), link, Vec::new())
        }
        Verdict::Refused(reasons) => (("error", "登録できません"), None, reasons.clone()),
    };
    ResultRow {
        name: outcome.name.clone(),
        state,
        establishment,
        reasons,
    }
}
