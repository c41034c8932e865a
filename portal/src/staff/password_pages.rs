//! The office's page for one's own password.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::store;
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::Db;
use crate::passwords;
use crate::sign_in::{Attempt, Confirmed, Counted, store as failures};
use crate::web::forms::{FieldErrors, Typed, Verified};
use crate::web::layout::Layout;
use crate::web::page_error::PageError;
use crate::web::principals::Staff;
use crate::web::router::Routes;
use crate::web::{page, page_with, sessions};

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Staff, _, _>(Method::GET, "/password", show)
        .allow::<Staff, _, _>(Method::POST, "/password", change)
}

#[derive(Template)]
#[template(path = "staff_password.html")]
struct PasswordPage {
    layout: Layout,
    user_id: String,
    done: bool,
    errors: FieldErrors,
}

#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

/// `GET /password`
async fn show(
    staff: Staff,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Html<String>, PageError> {
    page(&PasswordPage {
        layout: Layout::office_aside(&app, &staff),
        user_id: staff.user_id().to_owned(),
        done: done.done.is_some(),
        errors: FieldErrors::default(),
    })
}

#[derive(Deserialize)]
struct PasswordForm {
    password: Typed,
    new_password: Typed,
    new_password_again: Typed,
}

/// `POST /password`: guesses of the current one are counted like those of signing in.
async fn change(
    staff: Staff,
    State(app): State<App>,
    Verified(form): Verified<PasswordForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let account = store::find_account(&app.db, staff.user_id())
        .await?
        .ok_or(PageError::NotFound)?;
    let origin = format!("office-session:{}", staff.id());
    let counted = Counted::at_office(&app.keys, staff.user_id(), origin);
    let mut tx = app.db.begin().await?;
    let attempt = failures::count_attempt(&mut tx, &counted, now).await?;
    Db::commit(tx).await?;
    let confirmed = match attempt {
        Attempt::Paused { .. } | Attempt::Stopped => Confirmed::Refused(attempt),
        Attempt::Allowed { .. } => {
            let fits = passwords::verify(&form.password, Some(&account.password_hash))
                .await
                .map_err(PageError::doing("verify a password"))?;
            match fits {
                true => Confirmed::Yes,
                false => Confirmed::No(attempt),
            }
        }
    };
    let errors = match confirmed.page_text() {
        Some(sentence) => {
            let mut tx = app.db.begin().await?;
            let (actor, act) = (staff.actor(), Act::StaffSignInFailed);
            let details = serde_json::json!({});
            audit::record_with(&mut tx, &app.keys, &actor, act, "confirm", &details, now).await?;
            Db::commit(tx).await?;
            FieldErrors::of_one("password", sentence)
        }
        None => check_new(&app, &staff, &form),
    };
    if !errors.is_empty() {
        let page = PasswordPage {
            layout: Layout::office_aside(&app, &staff),
            user_id: staff.user_id().to_owned(),
            done: false,
            errors,
        };
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    }
    let hash = passwords::hash(&form.new_password)
        .await
        .map_err(PageError::doing("hash a password"))?;
    let mut tx = app.db.begin().await?;
    failures::forget_failures(&mut tx, &counted).await?;
    store::set_password(&mut tx, staff.id(), &hash).await?;
    sessions::end_others_of_staff(&mut tx, staff.id(), staff.token_hash(), now).await?;
    let act = Act::StaffPasswordChanged(staff.id());
    audit::record(&mut tx, &app.keys, &staff.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/password?done=yes").into_response())
}

/// What is wrong with the new password.
fn check_new(app: &App, staff: &Staff, form: &PasswordForm) -> FieldErrors {
    let close = [staff.user_id(), staff.name(), &app.config.fund_name];
    if let Err(weak) = passwords::check_new(&form.new_password, &close) {
        FieldErrors::of_one("new_password", weak.page_text())
    } else if *form.new_password != *form.new_password_again {
        FieldErrors::of_one(
            "new_password_again",
            "2回の入力が一致していません。もう一度入力してください。",
        )
    } else if *form.new_password == *form.password {
        FieldErrors::of_one(
            "new_password",
            "いまのパスワードと同じものは使えません。別のパスワードにしてください。",
        )
    } else {
        FieldErrors::default()
    }
}

#[cfg(test)]
mod tests;
