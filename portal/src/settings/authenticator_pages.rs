//! Moving to an authenticator app: password, picture, one code to confirm.

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode, header};
use serde::Deserialize;

use super::store;
use crate::app::App;
use crate::audit::{self, Act};
use crate::authenticator::Authenticator;
use crate::db::Db;
use crate::sign_in::confirm_password;
use crate::web::forms::{FieldErrors, Typed, Verified};
use crate::web::layout::{Layout, MemberPage};
use crate::web::page_error::PageError;
use crate::web::principals::Member;
use crate::web::router::Routes;
use crate::web::{page, page_with};

const START: &str = "/settings/authenticator";
const CONFIRM: &str = "/settings/authenticator/confirm";
const PICTURE: &str = "/settings/authenticator/picture.png";

/// Pages of the member listener.
pub(super) fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Member, _, _>(Method::GET, START, start)
        .allow::<Member, _, _>(Method::POST, START, make_secret)
        .allow::<Member, _, _>(Method::GET, CONFIRM, show)
        .allow::<Member, _, _>(Method::POST, CONFIRM, confirm)
        .allow::<Member, _, _>(Method::GET, PICTURE, picture)
}

#[derive(Template)]
#[template(path = "authenticator_start.html")]
struct StartPage {
    layout: Layout,
    uses_authenticator: bool,
    errors: FieldErrors,
}

#[derive(Deserialize)]
struct StartForm {
    password: Typed,
}

/// `GET /settings/authenticator`
async fn start(member: Member, State(app): State<App>) -> Result<Html<String>, PageError> {
    let settings = store::find(&app.db, &member).await?;
    page(&StartPage {
        layout: Layout::member(&app, &member, MemberPage::Settings, app.clock.now()),
        uses_authenticator: settings.uses_authenticator,
        errors: FieldErrors::default(),
    })
}

/// `POST /settings/authenticator`
async fn make_secret(
    member: Member,
    State(app): State<App>,
    Verified(form): Verified<StartForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let confirmed = confirm_password(&app, &member, &form.password, now).await?;
    if let Some(sentence) = confirmed.page_text() {
        let settings = store::find(&app.db, &member).await?;
        let page = StartPage {
            layout: Layout::member(&app, &member, MemberPage::Settings, now),
            uses_authenticator: settings.uses_authenticator,
            errors: FieldErrors::of_one("password", sentence),
        };
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    }
    let sealed = Authenticator::generate().seal(&app.keys, &member.user().to_string());
    let mut tx = app.db.begin().await?;
    store::set_pending(&mut tx, member.user(), &sealed).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to(CONFIRM).into_response())
}

#[derive(Template)]
#[template(path = "authenticator_confirm.html")]
struct ConfirmPage {
    layout: Layout,
    picture: &'static str,
    secret: String,
    errors: FieldErrors,
}

#[derive(Deserialize)]
struct ConfirmForm {
    code: String,
}

/// `GET /settings/authenticator/confirm`
async fn show(member: Member, State(app): State<App>) -> Result<Response, PageError> {
    let Some((_, authenticator)) = pending(&app, &member).await? else {
        return Ok(Redirect::to(START).into_response());
    };
    let page = ConfirmPage {
        layout: Layout::member(&app, &member, MemberPage::Settings, app.clock.now()),
        picture: PICTURE,
        secret: authenticator.to_base32(),
        errors: FieldErrors::default(),
    };
    Ok(self::page(&page)?.into_response())
}

/// `POST /settings/authenticator/confirm`
async fn confirm(
    member: Member,
    State(app): State<App>,
    Verified(form): Verified<ConfirmForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let Some((sealed, authenticator)) = pending(&app, &member).await? else {
        return Ok(Redirect::to(START).into_response());
    };
    let Some(step) = authenticator.check(&form.code, now) else {
        let page = ConfirmPage {
            layout: Layout::member(&app, &member, MemberPage::Settings, now),
            picture: PICTURE,
            secret: authenticator.to_base32(),
            errors: FieldErrors::of_one(
                "code",
                "数字が正しくありません。スマートフォンの時刻が合っていることを確認し、表示中の6桁の数字を入力してください。",
            ),
        };
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    };
    let mut tx = app.db.begin().await?;
    if !store::confirm_pending(&mut tx, member.user(), &sealed, step).await? {
        // Another window began anew in the meantime.
        return Ok(Redirect::to(START).into_response());
    }
    let act = Act::AuthenticatorAdded(member.user());
    audit::record(&mut tx, &app.keys, &member.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/settings?done=authenticator").into_response())
}

/// `GET /settings/authenticator/picture.png`
async fn picture(member: Member, State(app): State<App>) -> Result<Response, PageError> {
    let (_, authenticator) = pending(&app, &member).await?.ok_or(PageError::NotFound)?;
    let picture = authenticator
        .picture(&app.config.fund_name, member.user_id())
        .map_err(PageError::doing("draw an authenticator's picture"))?;
    Ok(([(header::CONTENT_TYPE, "image/png")], picture).into_response())
}

/// The authenticator that waits for its confirming code, and its sealed form.
async fn pending(app: &App, member: &Member) -> Result<Option<(String, Authenticator)>, PageError> {
    let settings = store::find(&app.db, member).await?;
    settings
        .pending
        .map(|sealed| {
            Authenticator::open(&app.keys, &member.user().to_string(), &sealed)
                .map(|authenticator| (sealed, authenticator))
                .map_err(PageError::doing("open an authenticator's secret"))
        })
        .transpose()
}
