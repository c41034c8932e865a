//! The pages of the first sign-in, which later serve to change what was said there; and the
//! office's page for the terms of use.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::contacts::{self, EstablishmentForm, PersonForm};
use super::terms::{self, PublishError};
use super::{ProgressStep, Step, progress, store};
use crate::app::App;
use crate::db::Db;
use crate::establishments::Role;
use crate::settings;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, MemberPage, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::{Beginner, Member, Reviewer, Staff};
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Beginner, _, _>(Method::GET, "/terms", show_terms)
        .allow::<Beginner, _, _>(Method::POST, "/terms", accept_terms)
        .allow::<Beginner, _, _>(Method::GET, "/establishment", show_establishment)
        .allow::<Beginner, _, _>(Method::POST, "/establishment", confirm_establishment)
        .allow::<Beginner, _, _>(Method::GET, "/profile", show_profile)
        .allow::<Beginner, _, _>(Method::POST, "/profile", confirm_profile)
        .allow::<Beginner, _, _>(Method::GET, "/welcome", welcome)
        .allow::<Beginner, _, _>(Method::POST, "/welcome", finish)
}

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Staff, _, _>(Method::GET, "/terms", office_terms)
        .allow::<Reviewer, _, _>(Method::POST, "/terms", publish)
}

/// Around a step's page: without a menu while there are steps to do.
fn layout(app: &App, member: &Member, here: MemberPage) -> Layout {
    let now = app.clock.now();
    match member.next_step() {
        Some(_) => Layout::member_without_menu(app, member, now),
        None => Layout::member(app, member, here, now),
    }
}

/// Where a step leads: to the next one, or back to where the page was opened from.
fn onward(member: &Member, otherwise: &str) -> Redirect {
    match member.next_step() {
        Some(_) => Redirect::to("/"),
        None => Redirect::to(otherwise),
    }
}

#[derive(Template)]
#[template(path = "terms.html")]
struct TermsPage {
    layout: Layout,
    progress: Vec<ProgressStep>,
    version: i64,
    published: Option<String>,
    paragraphs: Vec<String>,
    accepted: Option<String>,
    /// Whether an earlier version was accepted.
    renewed: bool,
    errors: FieldErrors,
}

async fn terms_page(
    app: &App,
    member: &Member,
    errors: FieldErrors,
) -> Result<TermsPage, PageError> {
    let mut tx = app.db.begin_snapshot().await?;
    let terms = store::current_terms(&mut tx).await?;
    drop(tx);
    let accepted = store::accepted_at(&app.db, member, terms.version).await?;
    Ok(TermsPage {
        layout: layout(app, member, MemberPage::Settings),
        progress: progress(member.first_steps(), member.role(), Step::Terms),
        version: terms.version,
        published: terms.published.map(dates::day),
        paragraphs: terms.paragraphs(),
        accepted: accepted.map(dates::moment),
        renewed: member.first_steps().terms_accepted > 0,
        errors,
    })
}

/// `GET /terms`
async fn show_terms(beginner: Beginner, State(app): State<App>) -> Result<Html<String>, PageError> {
    page(&terms_page(&app, beginner.member(), FieldErrors::default()).await?)
}

#[derive(Deserialize)]
struct TermsForm {
    version: i64,
    accept: Option<String>,
}

/// `POST /terms`
async fn accept_terms(
    beginner: Beginner,
    State(app): State<App>,
    Verified(form): Verified<TermsForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let member = beginner.member();
    let errors = if form.accept.is_none() {
        FieldErrors::of_one(
            "accept",
            "ご利用には同意が必要です。内容をお読みになり、チェックを入れてください。",
        )
    } else {
        let mut tx = app.db.begin().await?;
        if terms::accept(&mut tx, &app, member, form.version, now).await? {
            Db::commit(tx).await?;
            return Ok(onward(member, "/settings").into_response());
        }
        FieldErrors::of_one(
            "accept",
            "利用規約が新しくなりました。もう一度内容をお読みください。",
        )
    };
    let page = terms_page(&app, member, errors).await?;
    Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response())
}

#[derive(Template)]
#[template(path = "establishment_facts.html")]
struct EstablishmentPage {
    layout: Layout,
    progress: Vec<ProgressStep>,
    form: EstablishmentForm,
    errors: FieldErrors,
}

fn admin_only(beginner: &Beginner) -> Result<&Member, PageError> {
    let member = beginner.member();
    match member.role() {
        Role::Admin => Ok(member),
        Role::Added => Err(PageError::NotFound),
    }
}

fn establishment_page(
    app: &App,
    member: &Member,
    form: EstablishmentForm,
    errors: FieldErrors,
) -> EstablishmentPage {
    EstablishmentPage {
        layout: layout(app, member, MemberPage::People),
        progress: progress(member.first_steps(), member.role(), Step::Establishment),
        form,
        errors,
    }
}

/// `GET /establishment`: with what is on file.
async fn show_establishment(
    beginner: Beginner,
    State(app): State<App>,
) -> Result<Html<String>, PageError> {
    let member = admin_only(&beginner)?;
    let known = store::establishment(&app.db, member).await?;
    let form = EstablishmentForm {
        name: member.establishment_name().to_owned(),
        postal_code: known.postal_code,
        address: known.address,
        telephone: known.telephone,
        department: known.department,
    };
    page(&establishment_page(
        &app,
        member,
        form,
        FieldErrors::default(),
    ))
}

/// `POST /establishment`
async fn confirm_establishment(
    beginner: Beginner,
    State(app): State<App>,
    Verified(form): Verified<EstablishmentForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let member = admin_only(&beginner)?;
    let mut errors = FieldErrors::default();
    let Some((name, known)) = form.read(&mut errors) else {
        let page = establishment_page(&app, member, form, errors);
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    };
    let mut tx = app.db.begin().await?;
    let renamed =
        contacts::confirm_establishment(&mut tx, &app, member, (&name, &known), now).await?;
    Db::commit(tx).await?;
    let done = match renamed {
        true => "/users?done=establishment-name",
        false => "/users?done=establishment",
    };
    Ok(onward(member, done).into_response())
}

#[derive(Template)]
#[template(path = "profile.html")]
struct ProfilePage {
    layout: Layout,
    progress: Vec<ProgressStep>,
    login: String,
    email: String,
    finished: bool,
    form: PersonForm,
    errors: FieldErrors,
}

async fn profile_page(
    app: &App,
    member: &Member,
    form: PersonForm,
    errors: FieldErrors,
) -> Result<ProfilePage, PageError> {
    let settings = settings::store::find(&app.db, member).await?;
    Ok(ProfilePage {
        layout: layout(app, member, MemberPage::Settings),
        progress: progress(member.first_steps(), member.role(), Step::Profile),
        login: member.user_id().to_owned(),
        email: settings.email,
        finished: member.next_step().is_none(),
        form,
        errors,
    })
}

/// `GET /profile`: with what is on file.
async fn show_profile(
    beginner: Beginner,
    State(app): State<App>,
) -> Result<Html<String>, PageError> {
    let member = admin_only(&beginner)?;
    let known = store::person(&app.db, member).await?;
    let form = PersonForm {
        user_name: member.name().to_owned(),
        kana: known.kana,
        telephone: known.telephone,
        department: known.department,
    };
    page(&profile_page(&app, member, form, FieldErrors::default()).await?)
}

/// `POST /profile`
async fn confirm_profile(
    beginner: Beginner,
    State(app): State<App>,
    Verified(form): Verified<PersonForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let member = admin_only(&beginner)?;
    let mut errors = FieldErrors::default();
    let Some((name, known)) = form.read(&mut errors) else {
        let page = profile_page(&app, member, form, errors).await?;
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    };
    let mut tx = app.db.begin().await?;
    contacts::confirm_person(&mut tx, &app, member, (&name, &known), now).await?;
    Db::commit(tx).await?;
    Ok(onward(member, "/settings?done=profile").into_response())
}

#[derive(Template)]
#[template(path = "welcome.html")]
struct WelcomePage {
    layout: Layout,
    progress: Vec<ProgressStep>,
    uses_authenticator: bool,
}

/// `GET /welcome`: the last step; whoever is past it goes to work.
async fn welcome(beginner: Beginner, State(app): State<App>) -> Result<Response, PageError> {
    let member = beginner.member();
    if member.next_step() != Some(Step::SecondFactor) {
        return Ok(Redirect::to("/").into_response());
    }
    let settings = settings::store::find(&app.db, member).await?;
    let page = WelcomePage {
        layout: layout(&app, member, MemberPage::Home),
        progress: progress(member.first_steps(), member.role(), Step::SecondFactor),
        uses_authenticator: settings.uses_authenticator,
    };
    Ok(self::page(&page)?.into_response())
}

#[derive(Deserialize)]
struct FinishForm {
    next: Option<String>,
}

/// `POST /welcome`
async fn finish(
    beginner: Beginner,
    State(app): State<App>,
    Verified(form): Verified<FinishForm>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    store::introduce(&mut tx, beginner.member(), now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to(match form.next.as_deref() {
        Some("authenticator") => "/settings/authenticator",
        Some("passkey") => "/settings/passkeys",
        Some(_) | None => "/",
    }))
}

#[derive(Template)]
#[template(path = "office_terms.html")]
struct OfficeTermsPage {
    layout: Layout,
    version: i64,
    published: Option<String>,
    accepted: i64,
    users: i64,
    text: String,
    may_change: bool,
    done: &'static str,
    errors: FieldErrors,
}

async fn office_terms_page(
    app: &App,
    staff: &Staff,
    typed: Option<String>,
    done: &'static str,
    errors: FieldErrors,
) -> Result<OfficeTermsPage, PageError> {
    let mut tx = app.db.begin_snapshot().await?;
    let terms = store::current_terms(&mut tx).await?;
    drop(tx);
    let (accepted, users) = store::count_accepted(&app.db, terms.version).await?;
    Ok(OfficeTermsPage {
        layout: Layout::office(app, staff, OfficePage::Establishments),
        version: terms.version,
        published: terms.published.map(dates::day),
        accepted,
        users,
        text: typed.unwrap_or(terms.text),
        may_change: staff.may_decide(),
        done,
        errors,
    })
}

#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

/// `GET /terms` of the office.
async fn office_terms(
    staff: Staff,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Html<String>, PageError> {
    let done = match done.done.as_deref() {
        Some("published") => {
            "新しい利用規約を公開しました。利用者は、次に画面を開いたときに同意を求められます。"
        }
        Some(_) | None => "",
    };
    page(&office_terms_page(&app, &staff, None, done, FieldErrors::default()).await?)
}

#[derive(Deserialize)]
struct PublishForm {
    version: i64,
    text: String,
}

/// `POST /terms` of the office.
async fn publish(
    reviewer: Reviewer,
    State(app): State<App>,
    Verified(form): Verified<PublishForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let new = (form.version, form.text.as_str());
    match terms::publish(&mut tx, &app, &reviewer, new, now).await {
        Ok(_) => {}
        Err(PublishError::Store(error)) => return Err(error.into()),
        Err(error) => {
            drop(tx);
            let errors = FieldErrors::of_one("text", error.page_text().unwrap_or_default());
            let staff = reviewer.staff();
            let page = office_terms_page(&app, staff, Some(form.text), "", errors).await?;
            return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
        }
    }
    Db::commit(tx).await?;
    Ok(Redirect::to("/terms?done=published").into_response())
}
