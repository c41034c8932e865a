//! The pages of a hand-over: the admin names the successor, the successor accepts.

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::{Handover, HandoverError, LeaverBecomes, store};
use crate::app::App;
use crate::db::Db;
use crate::establishments::Role;
use crate::people::store::{self as people, Colleague};
use crate::sign_in::confirm_password;
use crate::web::forms::{FieldErrors, Typed, Verified};
use crate::web::layout::{Layout, MemberPage};
use crate::web::page_error::PageError;
use crate::web::principals::{EstablishmentAdmin, Insider, Member};
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Insider, _, _>(Method::GET, "/handover", show)
        .allow::<EstablishmentAdmin, _, _>(Method::POST, "/handover", propose)
        .allow::<Insider, _, _>(Method::POST, "/handover/accept", accept)
        .allow::<Insider, _, _>(Method::POST, "/handover/close", close)
}

#[derive(Template)]
#[template(path = "handover.html")]
struct HandoverPage {
    layout: Layout,
    open: Option<Open>,
    /// Whether the reader is an admin, who proposes and withdraws.
    admin: bool,
    people: Vec<Colleague>,
    successor: String,
    becomes: String,
    errors: FieldErrors,
}

/// An open hand-over, in words.
struct Open {
    leaver: String,
    successor: String,
    becomes: &'static str,
    until: String,
    mine: bool,
}

impl Open {
    fn of(open: Handover, member: &Member) -> Self {
        Self {
            mine: open.successor == member.user(),
            leaver: open.leaver_name,
            successor: open.successor_name,
            becomes: open.becomes.page_text(),
            until: dates::day(open.expires),
        }
    }
}

#[derive(Deserialize, Default)]
struct ProposeForm {
    #[serde(default)]
    successor: String,
    #[serde(default)]
    becomes: String,
}

async fn handover_page(
    app: &App,
    member: &Member,
    form: ProposeForm,
    errors: FieldErrors,
) -> Result<HandoverPage, PageError> {
    let now = app.clock.now();
    let here = member.establishment();
    let mut tx = app.db.begin_snapshot().await?;
    let open = store::find_open(&mut tx, here, now).await?;
    drop(tx);
    let admin = member.role() == Role::Admin;
    let concerned = open
        .as_ref()
        .is_some_and(|open| open.successor == member.user());
    if !admin && !concerned {
        return Err(PageError::NotFound);
    }
    let people = match admin {
        true => people::list(&app.db, here).await?,
        false => Vec::new(),
    };
    let menu = match admin {
        true => MemberPage::People,
        false => MemberPage::Home,
    };
    Ok(HandoverPage {
        layout: Layout::member(app, member, menu, now),
        open: open.map(|open| Open::of(open, member)),
        admin,
        people: people
            .into_iter()
            .filter(|person| person.role == Role::Added)
            .collect(),
        successor: form.successor,
        becomes: form.becomes,
        errors,
    })
}

/// `GET /handover`
async fn show(member: Member, State(app): State<App>) -> Result<Html<String>, PageError> {
    let form = ProposeForm::default();
    page(&handover_page(&app, &member, form, FieldErrors::default()).await?)
}

#[derive(Deserialize)]
struct ProposeFields {
    #[serde(flatten)]
    form: ProposeForm,
    password: Typed,
}

/// `POST /handover`
async fn propose(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Verified(ProposeFields { form, password }): Verified<ProposeFields>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let member = admin.member();
    let mut errors = FieldErrors::default();
    let successor = form.successor.parse().map_err(|_| {
        errors.add("successor", "後任の方を選んでください。");
    });
    let becomes = LeaverBecomes::from_word(&form.becomes)
        .ok_or(())
        .map_err(|()| {
            errors.add(
                "becomes",
                "引継ぎのあと、ご自身がどうなるかを選んでください。",
            );
        });
    let confirmed = confirm_password(&app, member, &password, now).await?;
    if let Some(sentence) = confirmed.page_text() {
        errors.add("password", sentence);
    }
    if let (Ok(successor), Ok(becomes), true) = (successor, becomes, errors.is_empty()) {
        let mut tx = app.db.begin().await?;
        match super::propose(&mut tx, &app, &admin, successor, becomes, now).await {
            Ok(_) => {
                Db::commit(tx).await?;
                app.signals.mail_queued();
                return Ok(Redirect::to("/handover").into_response());
            }
            Err(error) => errors.add("successor", sentence_of(error)?),
        }
    }
    let page = handover_page(&app, member, form, errors).await?;
    Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response())
}

#[derive(Deserialize)]
struct PasswordForm {
    password: Typed,
}

/// `POST /handover/accept`
async fn accept(
    member: Member,
    State(app): State<App>,
    Verified(form): Verified<PasswordForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let confirmed = confirm_password(&app, &member, &form.password, now).await?;
    if let Some(sentence) = confirmed.page_text() {
        let errors = FieldErrors::of_one("password", sentence);
        let page = handover_page(&app, &member, ProposeForm::default(), errors).await?;
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    }
    let mut tx = app.db.begin().await?;
    match super::accept(&mut tx, &app, &member, now).await {
        Ok(()) => {}
        Err(error) => return Err(PageError::Refused(sentence_of(error)?.to_owned())),
    }
    Db::commit(tx).await?;
    app.signals.sessions_changed();
    app.signals.mail_queued();
    Ok(Redirect::to("/users?done=handover").into_response())
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /handover/close`
async fn close(
    member: Member,
    State(app): State<App>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    match super::close(&mut tx, &app, &member, now).await {
        Ok(()) => {}
        Err(error) => return Err(PageError::Refused(sentence_of(error)?.to_owned())),
    }
    Db::commit(tx).await?;
    Ok(Redirect::to(match member.role() {
        Role::Admin => "/handover",
        Role::Added => "/",
    }))
}

/// What people read, or that the fault is ours.
fn sentence_of(error: HandoverError) -> Result<&'static str, PageError> {
    match (error.page_text(), error) {
        (Some(sentence), _) => Ok(sentence),
        (None, HandoverError::NotConcerned) => Err(PageError::NotFound),
        (None, HandoverError::Store(error)) => Err(PageError::Store(error)),
        (None, error) => Err(PageError::doing("hand over")(error)),
    }
}
