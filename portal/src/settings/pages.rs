//! The settings page, the pages for the password, and the one for the zip password.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use time::OffsetDateTime;

use super::{
    address_pages, authenticator_pages, check_new_password, recovery, recovery_pages, store,
};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::Db;
use crate::establishments::{self, Role};
use crate::first_steps::{self, ProgressStep, Step};
use crate::mail::MaskedAddress;
use crate::passkeys::{self, Owner};
use crate::passwords;
use crate::permissions::Permission;
use crate::sign_in::confirm_password;
use crate::step_up::{self, Fresh};
use crate::web::forms::{FieldErrors, Typed, Verified};
use crate::web::layout::{Layout, MemberPage};
use crate::web::page_error::{FIRST_PASSWORD_PATH, PageError};
use crate::web::principals::{EstablishmentAdmin, Fetcher, Member, Newcomer};
use crate::web::router::Routes;
use crate::web::{page, page_with, sessions};

/// The zip password is shown and changed only after a second factor just now *and* the
/// sign-in password. The forms hold that password and so are not kept by the step-up: whoever
/// sends one too late is led back to the page, which asks for the factor first.
const ZIP_PASSWORD_PATH: &str = "/settings/zip-password";

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Newcomer, _, _>(Method::GET, FIRST_PASSWORD_PATH, first_password)
        .allow::<Newcomer, _, _>(Method::POST, FIRST_PASSWORD_PATH, set_first_password)
        .allow::<Member, _, _>(Method::GET, "/settings", overview)
        .allow::<Member, _, _>(Method::GET, "/settings/password", password)
        .allow::<Member, _, _>(Method::POST, "/settings/password", change_password)
        .allow::<Fresh<Fetcher>, _, _>(Method::GET, ZIP_PASSWORD_PATH, zip_password)
        .allow::<Fetcher, _, _>(Method::POST, ZIP_PASSWORD_PATH, show_zip_password)
        .allow::<EstablishmentAdmin, _, _>(
            Method::POST,
            "/settings/zip-password/change",
            change_zip_password,
        )
        .with(authenticator_pages::member_routes)
        .with(address_pages::member_routes)
        .with(recovery_pages::member_routes)
}

/// What was just done, for the banner of the settings page.
#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    layout: Layout,
    user_id: String,
    email: MaskedAddress,
    uses_authenticator: bool,
    is_admin: bool,
    /// Recovery codes that are left.
    recovery_codes: i64,
    /// Passkeys that are registered.
    passkeys: usize,
    may_fetch: bool,
    done: &'static str,
}

/// `GET /settings`
async fn overview(
    member: Member,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Html<String>, PageError> {
    let settings = store::find(&app.db, &member).await?;
    page(&SettingsPage {
        layout: Layout::member(&app, &member, MemberPage::Settings, app.clock.now()),
        user_id: member.user_id().to_owned(),
        email: MaskedAddress::of(&settings.email),
        uses_authenticator: settings.uses_authenticator,
        is_admin: member.role() == Role::Admin,
        recovery_codes: recovery::left(&app.db, member.user()).await?,
        passkeys: passkeys::store::list(&app.db, Owner::Member(member.user()))
            .await?
            .len(),
        may_fetch: member.may(Permission::Fetch),
        done: match done.done.as_deref() {
            Some("mail") => "メールアドレスを変更しました。",
            Some("profile") => "管理者情報を変更しました。",
            Some("password") => "パスワードを変更しました。",
            Some("authenticator") => {
                "認証アプリの登録が完了しました。次のログインから、認証アプリの数字を入力してください。スマートフォンをなくしたときのために、回復コードを作っておくことをお勧めします。"
            }
            Some(_) | None => "",
        },
    })
}

#[derive(Template)]
#[template(path = "password.html")]
struct PasswordPage {
    layout: Layout,
    progress: Vec<ProgressStep>,
    user_id: String,
    first: bool,
    errors: FieldErrors,
}

#[derive(Deserialize)]
struct FirstPasswordForm {
    new_password: Typed,
    new_password_again: Typed,
}

/// `GET /first-password`
async fn first_password(
    newcomer: Newcomer,
    State(app): State<App>,
) -> Result<Html<String>, PageError> {
    page(&PasswordPage {
        layout: Layout::member_without_menu(&app, newcomer.member(), app.clock.now()),
        progress: first_steps::progress(
            newcomer.member().first_steps(),
            newcomer.member().role(),
            Step::Password,
        ),
        user_id: newcomer.member().user_id().to_owned(),
        first: true,
        errors: FieldErrors::default(),
    })
}

/// `POST /first-password`
async fn set_first_password(
    newcomer: Newcomer,
    State(app): State<App>,
    Verified(form): Verified<FirstPasswordForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let member = newcomer.member();
    let settings = store::find(&app.db, member).await?;
    let errors = check_new_password(
        &app,
        member,
        &form.new_password,
        &form.new_password_again,
        &settings.password_hash,
    )
    .await
    .map_err(PageError::doing("compare passwords"))?;
    if !errors.is_empty() {
        let page = PasswordPage {
            layout: Layout::member_without_menu(&app, member, now),
            progress: first_steps::progress(member.first_steps(), member.role(), Step::Password),
            user_id: member.user_id().to_owned(),
            first: true,
            errors,
        };
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    }
    save_password(&app, member, &form.new_password, now).await?;
    Ok(Redirect::to("/").into_response())
}

#[derive(Deserialize)]
struct PasswordForm {
    password: Typed,
    new_password: Typed,
    new_password_again: Typed,
}

/// `GET /settings/password`
async fn password(member: Member, State(app): State<App>) -> Result<Html<String>, PageError> {
    page(&PasswordPage {
        layout: Layout::member(&app, &member, MemberPage::Settings, app.clock.now()),
        progress: Vec::new(),
        user_id: member.user_id().to_owned(),
        first: false,
        errors: FieldErrors::default(),
    })
}

/// `POST /settings/password`
async fn change_password(
    member: Member,
    State(app): State<App>,
    Verified(form): Verified<PasswordForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let confirmed = confirm_password(&app, &member, &form.password, now).await?;
    let errors = match confirmed.page_text() {
        Some(sentence) => FieldErrors::of_one("password", sentence),
        None => {
            let settings = store::find(&app.db, &member).await?;
            check_new_password(
                &app,
                &member,
                &form.new_password,
                &form.new_password_again,
                &settings.password_hash,
            )
            .await
            .map_err(PageError::doing("compare passwords"))?
        }
    };
    if !errors.is_empty() {
        let page = PasswordPage {
            layout: Layout::member(&app, &member, MemberPage::Settings, now),
            progress: Vec::new(),
            user_id: member.user_id().to_owned(),
            first: false,
            errors,
        };
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    }
    save_password(&app, &member, &form.new_password, now).await?;
    Ok(Redirect::to("/settings?done=password").into_response())
}

async fn save_password(
    app: &App,
    member: &Member,
    new: &str,
    now: OffsetDateTime,
) -> Result<(), PageError> {
    let hash = passwords::hash(new)
        .await
        .map_err(PageError::doing("hash a password"))?;
    let mut tx = app.db.begin().await?;
    store::set_password(&mut tx, member.user(), &hash).await?;
    sessions::end_others_of_user(&mut tx, member.user(), member.token_hash(), now).await?;
    let act = Act::PasswordChanged(member.user());
    audit::record(&mut tx, &app.keys, &member.actor(), act, now).await?;
    Ok(Db::commit(tx).await?)
}

#[derive(Template)]
#[template(path = "zip_password.html")]
struct ZipPasswordPage {
    layout: Layout,
    /// The password in groups of four, if it may be shown.
    shown: Option<Shown>,
    may_change: bool,
    errors: FieldErrors,
}

struct Shown {
    password: String,
    changed: bool,
}

#[derive(Deserialize)]
struct ConfirmForm {
    password: Typed,
}

/// `GET /settings/zip-password`
async fn zip_password(member: Member, State(app): State<App>) -> Result<Html<String>, PageError> {
    page(&zip_page(&app, &member, None, FieldErrors::default()))
}

fn zip_page(
    app: &App,
    member: &Member,
    shown: Option<Shown>,
    errors: FieldErrors,
) -> ZipPasswordPage {
    ZipPasswordPage {
        layout: Layout::member(app, member, MemberPage::Settings, app.clock.now()),
        shown,
        may_change: member.role() == Role::Admin,
        errors,
    }
}

/// `POST /settings/zip-password`
async fn show_zip_password(
    member: Member,
    State(app): State<App>,
    Verified(form): Verified<ConfirmForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    if !step_up::is_fresh(member.factor_shown(), now) {
        return Ok(Redirect::to(ZIP_PASSWORD_PATH).into_response());
    }
    let confirmed = confirm_password(&app, &member, &form.password, now).await?;
    if let Some(sentence) = confirmed.page_text() {
        let errors = FieldErrors::of_one("password", sentence);
        let page = zip_page(&app, &member, None, errors);
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    }
    let id = member.establishment();
    let mut tx = app.db.begin().await?;
    let password = establishments::open_zip_password(&mut tx, &app.keys, id)
        .await
        .map_err(PageError::doing("open a zip password"))?;
    let act = Act::ZipPasswordShown(id);
    audit::record(&mut tx, &app.keys, &member.actor(), act, now).await?;
    Db::commit(tx).await?;
    let shown = Shown {
        password: password.to_string(),
        changed: false,
    };
    Ok(page(&zip_page(
        &app,
        &member,
        Some(shown),
        FieldErrors::default(),
    ))?
    .into_response())
}

/// `POST /settings/zip-password/change`
async fn change_zip_password(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Verified(form): Verified<ConfirmForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let member = admin.member();
    if !step_up::is_fresh(member.factor_shown(), now) {
        return Ok(Redirect::to(ZIP_PASSWORD_PATH).into_response());
    }
    let confirmed = confirm_password(&app, member, &form.password, now).await?;
    if let Some(sentence) = confirmed.page_text() {
        let errors = FieldErrors::of_one("password", sentence);
        let page = zip_page(&app, member, None, errors);
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    }
    let id = member.establishment();
    let mut tx = app.db.begin().await?;
    let actor = member.actor();
    let password = establishments::change_zip_password(&mut tx, &app.keys, &actor, id, now)
        .await?
        .ok_or(PageError::NotFound)?;
    Db::commit(tx).await?;
    let shown = Shown {
        password: password.to_string(),
        changed: true,
    };
    Ok(page(&zip_page(&app, member, Some(shown), FieldErrors::default()))?.into_response())
}
