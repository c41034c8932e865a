//! The office's sign-in page: user ID, password and the authenticator's code.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use time::OffsetDateTime;

use super::{Counted, store};
use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::authenticator::Authenticator;
use crate::db::{Db, StoreError};
use crate::one_time_codes::digits;
use crate::passkeys;
use crate::passwords;
use crate::staff::store as staff;
use crate::web::forms::{FieldErrors, Typed, Verified};
use crate::web::layout::{Layout, Side};
use crate::web::page_error::PageError;
use crate::web::principals::{OfficeVisitor, Staff};
use crate::web::router::Routes;
use crate::web::{no_session_cookie, page_with, session_cookie, sessions, visit_cookie};

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<OfficeVisitor, _, _>(Method::GET, "/sign-in", show)
        .allow::<OfficeVisitor, _, _>(Method::POST, "/sign-in", sign_in)
        .allow::<Staff, _, _>(Method::POST, "/sign-out", sign_out)
}

#[derive(Template)]
#[template(path = "office_sign_in.html")]
struct SignInPage {
    layout: Layout,
    user_id: String,
    errors: FieldErrors,
    ended: bool,
    /// Whether any of the staff signs in with a passkey.
    passkeys: bool,
}

#[derive(Deserialize)]
struct SignInForm {
    user_id: String,
    password: Typed,
    code: String,
}

/// `GET /sign-in`
async fn show(visitor: OfficeVisitor, State(app): State<App>) -> Result<Response, PageError> {
    answer(&app, &visitor, "", FieldErrors::default()).await
}

/// The page for somebody whose web session has ended.
pub async fn show_again(app: &App, visitor: &OfficeVisitor) -> Result<Response, PageError> {
    let page = SignInPage {
        layout: Layout::office_visitor(app, visitor),
        user_id: String::new(),
        errors: FieldErrors::default(),
        ended: true,
        passkeys: offers_passkeys(app).await?,
    };
    let cookie = [visit_cookie(visitor.visit())];
    Ok((cookie, page_with(StatusCode::UNAUTHORIZED, &page)?).into_response())
}

/// `POST /sign-in`
async fn sign_in(
    visitor: OfficeVisitor,
    State(app): State<App>,
    Verified(form): Verified<SignInForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let user_id = super::typed_user_id(&form.user_id);
    let mut errors = FieldErrors::default();
    if user_id.is_empty() {
        errors.add("user_id", "ユーザーIDを入力してください。");
    }
    if form.password.is_empty() {
        errors.add("password", "パスワードを入力してください。");
    }
    if digits(&form.code).len() != 6 {
        errors.add(
            "code",
            "認証アプリに表示される6桁の数字を入力してください。",
        );
    }
    if super::too_long([&form.user_id, &form.password, &form.code]) {
        return Err(PageError::BadForm("sign-in fields too long".to_owned()));
    }
    if !errors.is_empty() {
        return answer(&app, &visitor, &form.user_id, errors).await;
    }

    let origin = format!("office:{}", visitor.peer().ip());
    let counted = Counted::at_office(&app.keys, &user_id, origin);
    let mut tx = app.db.begin().await?;
    let attempt = store::count_attempt(&mut tx, &counted, now).await?;
    Db::commit(tx).await?;
    if let Some(sentence) = attempt.refusal() {
        return answer(
            &app,
            &visitor,
            &form.user_id,
            FieldErrors::of_one("", sentence),
        )
        .await;
    }

    let account = staff::find_account(&app.db, &user_id).await?;
    let hash = account
        .as_ref()
        .map(|account| account.password_hash.as_str());
    let fits = passwords::verify(&form.password, hash)
        .await
        .map_err(PageError::doing("verify a password"))?;
    let Some(account) = account.filter(|_| fits) else {
        return failed(&app, &visitor, &form, "password", now).await;
    };
    let authenticator =
        Authenticator::open(&app.keys, &account.id.to_string(), &account.totp_sealed)
            .map_err(PageError::doing("open an authenticator's secret"))?;
    let mut tx = app.db.begin().await?;
    let taken = match authenticator.check(&form.code, now) {
        Some(step) => staff::take_step(&mut tx, account.id, step).await?,
        None => false,
    };
    if !taken {
        drop(tx);
        return failed(&app, &visitor, &form, "totp", now).await;
    }
    store::forget_failures(&mut tx, &counted).await?;
    let token = sessions::begin_staff(&mut tx, &app.keys, account.id, now).await?;
    let (actor, act) = (Actor::Staff(account.id), Act::StaffSignedIn(account.id));
    audit::record(&mut tx, &app.keys, &actor, act, now).await?;
    Db::commit(tx).await?;
    Ok(([session_cookie(&token)], Redirect::to("/")).into_response())
}

/// Writes a failure down; the answer is the same whatever was wrong.
async fn failed(
    app: &App,
    visitor: &OfficeVisitor,
    form: &SignInForm,
    reason: &'static str,
    now: OffsetDateTime,
) -> Result<Response, PageError> {
    let actor = Actor::Stranger {
        device: None,
        session: None,
    };
    let mut tx = app.db.begin().await?;
    audit::record_with(
        &mut tx,
        &app.keys,
        &actor,
        Act::StaffSignInFailed,
        reason,
        &serde_json::json!({}),
        now,
    )
    .await?;
    Db::commit(tx).await?;
    let errors = FieldErrors::of_one(
        "user_id",
        "ユーザーID、パスワード、認証アプリの数字のいずれかが正しくありません。数字は一度しか使えません。",
    );
    answer(app, visitor, &form.user_id, errors).await
}

/// Who has no passkey is not shown a way that leads nowhere.
async fn offers_passkeys(app: &App) -> Result<bool, StoreError> {
    if !passkeys::are_offered(app, Side::Office) {
        return Ok(false);
    }
    passkeys::store::any_staff_has(&app.db).await
}

/// The page after a passkey that does not count.
pub(crate) async fn refuse_passkey(
    app: &App,
    visitor: &OfficeVisitor,
    sentence: &str,
) -> Result<Response, PageError> {
    answer(app, visitor, "", FieldErrors::of_one("", sentence)).await
}

async fn answer(
    app: &App,
    visitor: &OfficeVisitor,
    user_id: &str,
    errors: FieldErrors,
) -> Result<Response, PageError> {
    let status = if errors.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    let page = SignInPage {
        layout: Layout::office_visitor(app, visitor),
        user_id: user_id.to_owned(),
        errors,
        ended: false,
        passkeys: offers_passkeys(app).await?,
    };
    let cookie = [visit_cookie(visitor.visit())];
    Ok((cookie, page_with(status, &page)?).into_response())
}

/// `POST /sign-out`
async fn sign_out(
    leaver: Staff,
    State(app): State<App>,
    Verified(SignOutForm {}): Verified<SignOutForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    sessions::end(&mut tx, leaver.token_hash(), now).await?;
    let act = Act::StaffSignedOut(leaver.id());
    audit::record(&mut tx, &app.keys, &leaver.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(([no_session_cookie()], Redirect::to("/sign-in")).into_response())
}

#[derive(Deserialize)]
struct SignOutForm {}
