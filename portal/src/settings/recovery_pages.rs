//! The pages of the recovery codes: password, the codes once, a file of them.

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Response};
use http::{Method, StatusCode, header};
use serde::Deserialize;

use super::recovery::{self, RecoveryCode};
use super::store;
use crate::app::App;
use crate::db::Db;
use crate::sign_in::confirm_password;
use crate::web::forms::{FieldErrors, Typed, Verified};
use crate::web::layout::{Layout, MemberPage};
use crate::web::page_error::PageError;
use crate::web::principals::Member;
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

const PATH: &str = "/settings/recovery-codes";

/// Pages of the member listener.
pub(super) fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Member, _, _>(Method::GET, PATH, show)
        .allow::<Member, _, _>(Method::POST, PATH, make)
        .allow::<Member, _, _>(Method::POST, "/settings/recovery-codes/file", file)
}

#[derive(Template)]
#[template(path = "recovery_codes.html")]
struct CodesPage {
    layout: Layout,
    /// The codes, where they were just made.
    codes: Vec<String>,
    user_id: String,
    today: String,
    left: i64,
    uses_authenticator: bool,
    errors: FieldErrors,
}

async fn codes_page(
    app: &App,
    member: &Member,
    codes: Vec<String>,
    errors: FieldErrors,
) -> Result<CodesPage, PageError> {
    let now = app.clock.now();
    let settings = store::find(&app.db, member).await?;
    Ok(CodesPage {
        layout: Layout::member(app, member, MemberPage::Settings, now),
        codes,
        user_id: member.user_id().to_owned(),
        today: dates::day(now),
        left: recovery::left(&app.db, member.user()).await?,
        uses_authenticator: settings.uses_authenticator,
        errors,
    })
}

/// `GET /settings/recovery-codes`
async fn show(member: Member, State(app): State<App>) -> Result<Html<String>, PageError> {
    page(&codes_page(&app, &member, Vec::new(), FieldErrors::default()).await?)
}

#[derive(Deserialize)]
struct MakeForm {
    password: Typed,
}

/// `POST /settings/recovery-codes`
async fn make(
    member: Member,
    State(app): State<App>,
    Verified(form): Verified<MakeForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let confirmed = confirm_password(&app, &member, &form.password, now).await?;
    let errors = match confirmed.page_text() {
        Some(sentence) => FieldErrors::of_one("password", sentence),
        None => {
            let mut tx = app.db.begin().await?;
            let actor = member.actor();
            match recovery::make(&mut tx, &app.keys, &actor, member.user(), now).await? {
                Some(codes) => {
                    Db::commit(tx).await?;
                    let codes = codes.iter().map(|code| code.shown().to_string()).collect();
                    let page = codes_page(&app, &member, codes, FieldErrors::default()).await?;
                    return Ok(self::page(&page)?.into_response());
                }
                None => FieldErrors::of_one(
                    "",
                    "回復コードは、認証アプリを登録している方だけが使えます。先に認証アプリを登録してください。",
                ),
            }
        }
    };
    let page = codes_page(&app, &member, Vec::new(), errors).await?;
    Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response())
}

#[derive(Deserialize)]
struct FileForm {
    codes: Typed,
}

/// `POST /settings/recovery-codes/file`: the codes that the page shows, as a text file. Only
/// what are the user's codes is given back.
async fn file(
    member: Member,
    State(app): State<App>,
    Verified(form): Verified<FileForm>,
) -> Result<Response, PageError> {
    let codes: Option<Vec<RecoveryCode>> = form
        .codes
        .split_whitespace()
        .take(recovery::CODES + 1)
        .map(RecoveryCode::read)
        .collect();
    let codes = codes.filter(|codes| codes.len() <= recovery::CODES);
    let codes = codes.ok_or(PageError::NotFound)?;
    if !recovery::are_good(&app.db, &app.keys, member.user(), &codes).await? {
        return Err(PageError::NotFound);
    }
    let lines: Vec<String> = codes.iter().map(|code| code.shown().to_string()).collect();
    let text = format!(
        "\u{FEFF}{} 回復コード\r\nユーザーID: {}\r\n\r\n{}\r\n\r\n\
         認証アプリが使えないときに、1つにつき1回だけログインできます。\r\n\
         印刷して鍵のかかる場所に保管し、このファイルは削除してください。\r\n",
        app.config.fund_name,
        member.user_id(),
        lines.join("\r\n")
    );
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"recovery-codes.txt\"",
        ),
    ];
    Ok((headers, text).into_response())
}
