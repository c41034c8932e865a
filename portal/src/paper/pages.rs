//! 郵送の届書: an establishment makes cover sheets and prints them.

use access::JST;
use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use time::Duration;

use super::sheet::{Facts, Page, to_pdf};
use super::{COVERS_LIMIT, Code, SHEETS_LIMIT, sheets, store};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::Db;
use crate::deadlines::store::day_from_text;
use crate::filings::FilingName;
use crate::filings::kinds::{self, Kinds};
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, MemberPage};
use crate::web::page_error::PageError;
use crate::web::principals::{Filer, Member};
use crate::web::router::Routes;
use crate::web::{dates, download, page, page_with};

/// The routes of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Filer, _, _>(Method::GET, "/paper", list)
        .allow::<Filer, _, _>(Method::POST, "/paper", make)
        .allow::<Filer, _, _>(Method::GET, "/paper/{id}/cover.pdf", cover)
}

#[derive(Template)]
#[template(path = "paper.html")]
struct PaperPage {
    layout: Layout,
    errors: FieldErrors,
    kinds: Vec<KindChoice>,
    typed: Typed,
    covers: Vec<CoverLine>,
}

struct KindChoice {
    code: &'static str,
    name: &'static str,
    selected: bool,
}

struct CoverLine {
    path: String,
    code: String,
    kind: &'static str,
    filed_on: String,
    sheets: u16,
    filing: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Typed {
    kind: String,
    filed_on: String,
    sheets: String,
}

/// `GET /paper`
async fn list(member: Member, State(app): State<App>) -> Result<Html<String>, PageError> {
    let kinds = kinds::store::all(app.db.pool()).await?;
    let typed = Typed {
        filed_on: app.clock.now().to_offset(JST).date().to_string(),
        ..Typed::default()
    };
    page(&paper_page(&app, &member, &kinds, typed, FieldErrors::default()).await?)
}

async fn paper_page(
    app: &App,
    member: &Member,
    kinds: &Kinds,
    typed: Typed,
    errors: FieldErrors,
) -> Result<PaperPage, PageError> {
    let now = app.clock.now();
    let today = now.to_offset(JST).date();
    let covers = store::own(&app.db, member).await?;
    Ok(PaperPage {
        layout: Layout::member(app, member, MemberPage::Submit, now),
        errors,
        kinds: kinds
            .iter()
            .filter(|kind| kind.is_open_on(today))
            .map(|kind| KindChoice {
                code: kind.kind.code(),
                name: kind.kind.name(),
                selected: kind.kind.code() == typed.kind,
            })
            .collect(),
        typed,
        covers: covers
            .into_iter()
            .map(|cover| CoverLine {
                path: format!("/paper/{}/cover.pdf", cover.id),
                code: cover.code.to_string(),
                kind: cover.name.kind().name(),
                filed_on: dates::date(cover.name.date()),
                sheets: cover.sheets,
                filing: cover.filing.map(|id| format!("/filings/{id}")),
            })
            .collect(),
    })
}

/// `POST /paper`
async fn make(
    member: Member,
    State(app): State<App>,
    Verified(typed): Verified<Typed>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let today = now.to_offset(JST).date();
    let kinds = kinds::store::all(app.db.pool()).await?;
    let mut errors = FieldErrors::default();
    let kind = kinds
        .find(&typed.kind)
        .filter(|kind| kind.is_open_on(today))
        .map(|kind| kind.kind);
    if kind.is_none() {
        errors.add("kind", "届書名称を選んでください。");
    }
    let filed_on = day_from_text(&typed.filed_on);
    if filed_on.is_none() {
        errors.add("filed_on", "届出年月日を選んでください。");
    }
    let count = sheets(&typed.sheets);
    if count.is_none() {
        errors.add(
            "sheets",
            format!("届書の枚数を1から{SHEETS_LIMIT}までの数字で入力してください。"),
        );
    }
    let (Some(kind), Some(filed_on), Some(count)) = (kind, filed_on, count) else {
        let page = paper_page(&app, &member, &kinds, typed, errors).await?;
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    };
    let name = FilingName::build(filed_on, member.establishment_number(), kind);
    let code = Code::generate();
    let mut tx = app.db.begin().await?;
    let limit = (COVERS_LIMIT, now - Duration::DAY);
    let made = store::make(&mut tx, &member, (&name, count, &code), limit, now).await?;
    let id = made.ok_or_else(|| {
        PageError::Refused(format!(
            "送付状は1日に{COVERS_LIMIT}枚まで作れます。明日、もう一度お試しください。"
        ))
    })?;
    let act = Act::CoverSheetMade(id);
    audit::record(&mut tx, &app.keys, &member.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/paper").into_response())
}

/// `GET /paper/{id}/cover.pdf`
async fn cover(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let cover = store::find_own(&app.db, &member, &id)
        .await?
        .ok_or(PageError::NotFound)?;
    let establishment = format!(
        "{}　{}",
        member.establishment_number(),
        member.establishment_name()
    );
    let app = app.clone();
    let file_name = format!("送付状_{}.pdf", cover.code);
    let pdf = tokio::task::spawn_blocking(move || {
        let facts = Facts {
            fund: &app.config.fund_name,
            contact: &app.config.fund_contact,
            establishment: &establishment,
            kind: cover.name.kind().name(),
            filed_on: cover.name.date(),
            sheets: cover.sheets,
            code: &cover.code,
            now: cover.made,
        };
        to_pdf(&facts, Page::Cover)
    })
    .await
    .map_err(PageError::doing("make a cover sheet"))?
    .map_err(PageError::doing("make a cover sheet"))?;
    Ok(download::attachment(&file_name, download::PDF, pdf))
}
