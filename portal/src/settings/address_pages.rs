//! The pages for another mail address: one's own, and for an admin that of an added user.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::address::{self, Change, Outcome};
use crate::app::App;
use crate::db::Db;
use crate::establishments::MailAddress;
use crate::ids::UserId;
use crate::people::{self, store::Colleague};
use crate::sign_in::confirm_password;
use crate::web::forms::{FieldErrors, Typed, Verified};
use crate::web::layout::{Layout, MemberPage};
use crate::web::page_error::PageError;
use crate::web::principals::{EstablishmentAdmin, Member};
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

/// Pages of the member listener.
pub(super) fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Member, _, _>(Method::GET, "/settings/mail", own)
        .allow::<Member, _, _>(Method::POST, "/settings/mail", ask_own)
        .allow::<Member, _, _>(Method::POST, "/settings/mail/confirm", confirm_own)
        .allow::<EstablishmentAdmin, _, _>(Method::GET, "/users/{id}/mail", of_user)
        .allow::<EstablishmentAdmin, _, _>(Method::POST, "/users/{id}/mail", ask_of_user)
        .allow::<EstablishmentAdmin, _, _>(
            Method::POST,
            "/users/{id}/mail/confirm",
            confirm_of_user,
        )
}

#[derive(Template)]
#[template(path = "mail_address.html")]
struct AddressPage {
    layout: Layout,
    /// Where the forms go, and where the page leads back to.
    path: String,
    back: String,
    /// Whose, if not one's own.
    person: Option<String>,
    now: String,
    waiting: Option<(String, String)>,
    typed: String,
    errors: FieldErrors,
}

/// Whose address a page is about.
struct Subject {
    member: Member,
    person: Colleague,
}

impl Subject {
    async fn own(app: &App, member: Member) -> Result<Self, PageError> {
        let user = member.user();
        Self::of(app, member, user).await
    }

    /// `user`, if the member may change the account.
    async fn of(app: &App, member: Member, user: UserId) -> Result<Self, PageError> {
        let here = member.establishment();
        let mut tx = app.db.begin().await?;
        let person = people::changeable(&mut tx, here, user, member.user())
            .await
            .map_err(people::pages::page_error)?;
        Ok(Self { member, person })
    }

    fn is_own(&self) -> bool {
        self.person.id == self.member.user()
    }

    fn path(&self) -> String {
        match self.is_own() {
            true => "/settings/mail".to_owned(),
            false => format!("/users/{}/mail", self.person.id),
        }
    }

    async fn page(
        &self,
        app: &App,
        typed: String,
        errors: FieldErrors,
    ) -> Result<AddressPage, PageError> {
        let now = app.clock.now();
        let waiting = address::waiting(&app.db, self.person.id, self.member.user(), now).await?;
        let (menu, back) = match self.is_own() {
            true => (MemberPage::Settings, "/settings".to_owned()),
            false => (MemberPage::People, format!("/users/{}", self.person.id)),
        };
        Ok(AddressPage {
            layout: Layout::member(app, &self.member, menu, now),
            path: self.path(),
            back,
            person: (!self.is_own()).then(|| self.person.name.clone()),
            now: self.person.email.clone(),
            waiting: waiting.map(|waiting| (waiting.address, dates::moment(waiting.expires))),
            typed,
            errors,
        })
    }

    async fn show(&self, app: &App) -> Result<Html<String>, PageError> {
        page(
            &self
                .page(app, String::new(), FieldErrors::default())
                .await?,
        )
    }

    async fn ask(&self, app: &App, form: AskForm) -> Result<Response, PageError> {
        let now = app.clock.now();
        let mut errors = FieldErrors::default();
        let address =
            MailAddress::new(&form.email).map_err(|error| errors.add("email", error.page_text()));
        let confirmed = confirm_password(app, &self.member, &form.password, now).await?;
        if let Some(sentence) = confirmed.page_text() {
            errors.add("password", sentence);
        }
        if let (Ok(address), true) = (address, errors.is_empty()) {
            let actor = self.member.actor();
            let mut tx = app.db.begin().await?;
            if address::ask(&mut tx, app, &self.change(&actor), &address, now).await? {
                Db::commit(tx).await?;
                app.signals.mail_queued();
                return Ok(Redirect::to(&self.path()).into_response());
            }
            errors.add(
                "email",
                "本日はこれ以上、確認番号を送れません。明日もう一度お試しください。",
            );
        }
        let page = self.page(app, form.email, errors).await?;
        Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response())
    }

    async fn confirm(&self, app: &App, form: ConfirmForm) -> Result<Response, PageError> {
        let now = app.clock.now();
        let actor = self.member.actor();
        let mut tx = app.db.begin().await?;
        let change = self.change(&actor);
        let outcome = address::confirm(&mut tx, app, &change, &form.code, now).await?;
        Db::commit(tx).await?;
        app.signals.mail_queued();
        let sentence = match outcome {
            Outcome::Changed => {
                return Ok(Redirect::to(match self.is_own() {
                    true => "/settings?done=mail",
                    false => "/users?done=mail",
                })
                .into_response());
            }
            Outcome::Wrong { tries_left: 1.. } => {
                "確認番号が正しくありません。最後に届いたメールの6桁の数字を入力してください。"
            }
            Outcome::Wrong { .. } | Outcome::Nothing => {
                "この確認番号は使えなくなりました。もう一度、新しいメールアドレスを入力してください。"
            }
        };
        let errors = FieldErrors::of_one("code", sentence);
        let page = self.page(app, String::new(), errors).await?;
        Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response())
    }

    fn change<'a>(&self, actor: &'a crate::audit::Actor) -> Change<'a> {
        Change {
            user: self.person.id,
            establishment: self.member.establishment(),
            by: self.member.user(),
            actor,
        }
    }
}

#[derive(Deserialize)]
struct AskForm {
    email: String,
    password: Typed,
}

#[derive(Deserialize)]
struct ConfirmForm {
    code: String,
}

/// `GET /settings/mail`
async fn own(member: Member, State(app): State<App>) -> Result<Html<String>, PageError> {
    Subject::own(&app, member).await?.show(&app).await
}

/// `POST /settings/mail`
async fn ask_own(
    member: Member,
    State(app): State<App>,
    Verified(form): Verified<AskForm>,
) -> Result<Response, PageError> {
    Subject::own(&app, member).await?.ask(&app, form).await
}

/// `POST /settings/mail/confirm`
async fn confirm_own(
    member: Member,
    State(app): State<App>,
    Verified(form): Verified<ConfirmForm>,
) -> Result<Response, PageError> {
    Subject::own(&app, member).await?.confirm(&app, form).await
}

async fn subject(app: &App, admin: &EstablishmentAdmin, id: &str) -> Result<Subject, PageError> {
    let user = id.parse().map_err(|_| PageError::NotFound)?;
    Subject::of(app, admin.member().clone(), user).await
}

/// `GET /users/{id}/mail`
async fn of_user(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    subject(&app, &admin, &id).await?.show(&app).await
}

/// `POST /users/{id}/mail`
async fn ask_of_user(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<AskForm>,
) -> Result<Response, PageError> {
    subject(&app, &admin, &id).await?.ask(&app, form).await
}

/// `POST /users/{id}/mail/confirm`
async fn confirm_of_user(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<ConfirmForm>,
) -> Result<Response, PageError> {
    subject(&app, &admin, &id).await?.confirm(&app, form).await
}
