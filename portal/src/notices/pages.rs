//! Pages about notices: the establishment's list and downloads, and the office's list of who
//! has fetched what.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse as _, Response};
use http::Method;
use serde::Deserialize;

use super::bundle::{self, BundleFile, ZipPassword};
use super::store::{self, Fetched};
use super::{Form, Notice};
use crate::app::App;
use crate::audit::{self, Act};
use crate::custody::{self, Document};
use crate::db::Db;
use crate::establishments;
use crate::filings::store::{ActorSide, write_event};
use crate::filings::{self, Event};
use crate::ids::NoticeId;
use crate::review::pictures::picture_of;
use crate::web::dates;
use crate::web::download;
use crate::web::layout::{Layout, MemberPage, OfficePage};
use crate::web::page;
use crate::web::page_error::PageError;
use crate::web::paging::Paging;
use crate::web::principals::{Fetcher, Member, Reviewer};
use crate::web::router::Routes;

/// The routes of the member listener. `{id}` is a notice's id, or with `.pdf` or `.zip`
/// behind it, the file.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Fetcher, _, _>(Method::GET, "/notices", list)
        .allow::<Fetcher, _, _>(Method::GET, "/notices/{id}", notice_or_file)
}

/// The routes of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, "/notices", office_list)
        .allow::<Reviewer, _, _>(Method::GET, "/notices/{id}", office_notice)
        .allow::<Reviewer, _, _>(Method::GET, "/notices/{id}/pages/{page}", office_page)
}

#[derive(Template)]
#[template(path = "notice_list.html")]
struct ListPage {
    layout: Layout,
    notices: Vec<Line>,
    paging: Paging,
}

/// A notice in a list of the member's.
pub struct Line {
    /// Its page.
    pub path: String,
    /// What it is.
    pub title: String,
    /// Its number.
    pub number: String,
    /// When it was issued.
    pub issued: String,
    /// Whether nobody fetched it yet.
    pub unread: bool,
}

impl Line {
    /// A line for one notice.
    pub fn new(notice: &Notice) -> Self {
        Self {
            path: format!("/notices/{}", notice.id),
            title: notice.title.clone(),
            number: notice.number.clone(),
            issued: dates::moment(notice.issued),
            unread: notice.first_fetched.is_none(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ListQuery {
    page: Option<u32>,
    fetched: String,
}

/// `GET /notices`
async fn list(
    member: Member,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Html<String>, PageError> {
    let listing = store::list_own(&app.db, &member, query.page.unwrap_or(1)).await?;
    page(&ListPage {
        layout: Layout::member(&app, &member, MemberPage::Notices, app.clock.now()),
        notices: listing.notices.iter().map(Line::new).collect(),
        paging: Paging::new(
            "/notices",
            &[],
            listing.page,
            pages_of(listing.total),
            listing.total,
        ),
    })
}

fn pages_of(total: u64) -> u32 {
    let pages = total.div_ceil(store::PAGE_LENGTH.unsigned_abs()).max(1);
    u32::try_from(pages).unwrap_or(u32::MAX)
}

/// `GET /notices/{id}`, `/notices/{id}.pdf`, `/notices/{id}.zip`
async fn notice_or_file(
    member: Member,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, PageError> {
    let (id, form) = match name.split_once('.') {
        None => (name.as_str(), None),
        Some((id, extension)) => (
            id,
            Some(Form::from_code(extension).ok_or(PageError::NotFound)?),
        ),
    };
    let id: NoticeId = id.parse().map_err(|_| PageError::NotFound)?;
    let notice = store::find_own(&app.db, &member, id)
        .await?
        .ok_or(PageError::NotFound)?;
    match form {
        None => Ok(show(&app, &member, notice).await?.into_response()),
        Some(form) => fetch(&app, &member, &notice, form).await,
    }
}

#[derive(Template)]
#[template(path = "notice.html")]
struct NoticePage {
    layout: Layout,
    path: String,
    title: String,
    number: String,
    issued: String,
    unread: bool,
    file_name: String,
    size: String,
    pages: u64,
    sha256: String,
    filing: Option<String>,
    fetches: Vec<FetchLine>,
}

struct FetchLine {
    at: String,
    user: String,
    device: String,
    form: &'static str,
}

async fn show(app: &App, member: &Member, notice: Notice) -> Result<Html<String>, PageError> {
    let document = document_of(app, &notice).await?;
    page(&NoticePage {
        layout: Layout::member(app, member, MemberPage::Notices, app.clock.now()),
        path: format!("/notices/{}", notice.id),
        issued: dates::moment(notice.issued),
        unread: notice.first_fetched.is_none(),
        file_name: document.file_name,
        size: filings::words::size(document.size_bytes),
        pages: document.pages,
        sha256: document.sha256,
        filing: notice.filing.map(|id| format!("/filings/{id}")),
        fetches: fetch_lines(app, &notice).await?,
        title: notice.title,
        number: notice.number,
    })
}

/// Hands a notice out, and writes that down before the first byte leaves.
async fn fetch(
    app: &App,
    member: &Member,
    notice: &Notice,
    form: Form,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let document = document_of(app, notice).await?;
    let content = custody::read(app, &document)
        .await
        .map_err(PageError::storing("read a notice"))?;
    let (name, kind, bytes) = match form {
        Form::Pdf => (document.file_name, download::PDF, content),
        Form::Zip => {
            let (name, bytes) = zipped(app, member, &document.file_name, content).await?;
            (name, download::ZIP, bytes)
        }
    };
    let mut tx = app.db.begin().await?;
    let first = store::record_fetch(&mut tx, member, notice, form, now).await?;
    if let (true, Some(filing)) = (first, notice.filing) {
        let side = ActorSide::Member;
        let note = form.label();
        write_event(
            &mut tx,
            filing,
            Event::Fetched,
            side,
            member.name(),
            note,
            now,
        )
        .await?;
    }
    let act = Act::NoticeFetched(notice.id, form.code());
    audit::record(&mut tx, &app.keys, &member.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(download::attachment(&name, kind, bytes))
}

async fn zipped(
    app: &App,
    member: &Member,
    file_name: &str,
    content: Vec<u8>,
) -> Result<(String, Vec<u8>), PageError> {
    let mut tx = app.db.begin().await?;
    let password =
        establishments::open_zip_password(&mut tx, &app.keys, member.establishment()).await;
    drop(tx);
    let password = password.map_err(PageError::doing("open a zip password"))?;
    let password = ZipPassword::from_kept(password.to_string())
        .map_err(PageError::doing("read a zip password"))?;
    let inner = file_name.to_owned();
    let zipped = tokio::task::spawn_blocking(move || {
        let file = BundleFile {
            name: &inner,
            bytes: &content,
        };
        bundle::zip(&[file], &password)
    })
    .await
    .map_err(PageError::doing("make a zip"))?
    .map_err(PageError::doing("make a zip"))?;
    let stem = file_name.strip_suffix(".pdf").unwrap_or(file_name);
    Ok((format!("{stem}.zip"), zipped))
}

#[derive(Template)]
#[template(path = "office_notice_list.html")]
struct OfficeListPage {
    layout: Layout,
    lines: Vec<OfficeListLine>,
    paging: Paging,
    not_yet: bool,
}

struct OfficeListLine {
    path: String,
    title: String,
    number: String,
    establishment: String,
    issued: String,
    issued_by: String,
    /// `None`: 未読.
    fetched: Option<String>,
}

/// `GET /notices`
async fn office_list(
    reviewer: Reviewer,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Html<String>, PageError> {
    let fetched = match query.fetched.as_str() {
        "not_yet" => Fetched::NotYet,
        _ => Fetched::Any,
    };
    let listing =
        store::list_for_office(&app.db, &reviewer, fetched, query.page.unwrap_or(1)).await?;
    let search = [("fetched", query.fetched.as_str())];
    page(&OfficeListPage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Notices),
        paging: Paging::new(
            "/notices",
            &search,
            listing.page,
            pages_of(listing.total),
            listing.total,
        ),
        lines: listing
            .lines
            .into_iter()
            .map(|line| OfficeListLine {
                path: format!("/notices/{}", line.notice.id),
                establishment: format!("{} {}", line.establishment_number, line.establishment_name),
                issued: dates::moment(line.notice.issued),
                issued_by: line.issued_by,
                fetched: line.notice.first_fetched.map(dates::moment),
                title: line.notice.title,
                number: line.notice.number,
            })
            .collect(),
        not_yet: fetched == Fetched::NotYet,
    })
}

#[derive(Template)]
#[template(path = "office_notice.html")]
struct OfficeNoticePage {
    layout: Layout,
    title: String,
    number: String,
    establishment: String,
    issued: String,
    issued_by: String,
    filing: Option<String>,
    page_paths: Vec<String>,
    fetches: Vec<FetchLine>,
}

/// `GET /notices/{id}`
async fn office_notice(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let line = store::find_for_office(&app.db, &reviewer, id)
        .await?
        .ok_or(PageError::NotFound)?;
    let document = document_of(&app, &line.notice).await?;
    page(&OfficeNoticePage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Notices),
        establishment: format!("{} {}", line.establishment_number, line.establishment_name),
        issued: dates::moment(line.notice.issued),
        issued_by: line.issued_by,
        filing: line.notice.filing.map(|id| format!("/filings/{id}")),
        page_paths: (1..=document.pages)
            .map(|page| format!("/notices/{id}/pages/{page}.png"))
            .collect(),
        fetches: fetch_lines(&app, &line.notice).await?,
        title: line.notice.title,
        number: line.notice.number,
    })
}

/// `GET /notices/{id}/pages/{page}`
async fn office_page(
    reviewer: Reviewer,
    State(app): State<App>,
    Path((id, page)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let line = store::find_for_office(&app.db, &reviewer, id)
        .await?
        .ok_or(PageError::NotFound)?;
    let document = document_of(&app, &line.notice).await?;
    let (number, picture) = picture_of(&app, &document, &page).await?;
    let act = Act::NoticeRead(id);
    let mut tx = app.db.begin().await?;
    let (actor, now) = (reviewer.actor(), app.clock.now());
    let details = serde_json::json!({ "page": number });
    audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;
    Db::commit(tx).await?;
    Ok(picture)
}

async fn fetch_lines(app: &App, notice: &Notice) -> Result<Vec<FetchLine>, PageError> {
    let fetches = store::fetches(&app.db, notice).await?;
    let line = |fetch: store::Fetch| FetchLine {
        at: dates::moment(fetch.at),
        user: fetch.user,
        device: fetch.device,
        form: fetch.form.label(),
    };
    Ok(fetches.into_iter().map(line).collect())
}

async fn document_of(app: &App, notice: &Notice) -> Result<Document, PageError> {
    custody::store::find(&app.db, notice.document)
        .await?
        .ok_or(PageError::NotFound)
}
