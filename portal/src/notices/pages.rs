//! Pages about notices: the establishment's list and downloads, and the office's list of who
//! has fetched what.

use std::collections::BTreeSet;

use access::JST;
use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::bundle::{self, BundleFile, ZipPassword};
use super::store::{self, Fetched};
use super::{Fetching, Form, Notice};
use crate::app::App;
use crate::audit::{self, Act};
use crate::custody::{self, Document};
use crate::db::{Db, Tx};
use crate::documents::yen_text;
use crate::establishments;
use crate::filings::store::{ActorSide, write_event};
use crate::filings::{self, Event};
use crate::ids::NoticeId;
use crate::review::pictures::picture_of;
use crate::web::dates;
use crate::web::download;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, MemberPage, OfficePage};
use crate::web::page_error::PageError;
use crate::web::paging::Paging;
use crate::web::principals::{Fetcher, Member, Reviewer};
use crate::web::router::Routes;
use crate::web::{page, page_with};

/// Notices that one zip of everything unread holds at most.
const UNREAD_LIMIT: i64 = 200;
/// How large these may be together.
const UNREAD_LIMIT_BYTES: u64 = 64 * 1024 * 1024;
/// How long the reason for a recall may be.
const RECALL_REASON_LIMIT_CHARS: usize = 200;
/// Zips of everything unread that are made at the same time.
static ZIPPING: Semaphore = Semaphore::const_new(2);

/// The routes of the member listener. `{id}` is a notice's id, or with `.pdf` or `.zip`
/// behind it, the file.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Fetcher, _, _>(Method::GET, "/notices", list)
        .allow::<Fetcher, _, _>(Method::POST, "/notices/unread", fetch_unread)
        .allow::<Fetcher, _, _>(Method::GET, "/notices/{id}", notice_or_file)
}

/// The routes of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, "/notices", office_list)
        .allow::<Reviewer, _, _>(Method::GET, "/notices/{id}", office_notice)
        .allow::<Reviewer, _, _>(Method::GET, "/notices/{id}/pages/{page}", office_page)
        .allow::<Reviewer, _, _>(Method::POST, "/notices/{id}/recall", recall)
}

#[derive(Template)]
#[template(path = "notice_list.html")]
struct ListPage {
    layout: Layout,
    notices: Vec<Line>,
    paging: Paging,
    unread: u64,
}

/// A notice in a list of the member's.
pub struct Line {
    /// Its page; empty if staff recalled it.
    pub path: String,
    /// What it is.
    pub title: String,
    /// Its number.
    pub number: String,
    /// When it was issued.
    pub issued: String,
    /// Whether nobody fetched it yet.
    pub unread: bool,
    /// When staff recalled it.
    pub recalled: Option<String>,
    /// What it is about in yen; empty if it is about no money.
    pub amount: String,
}

impl Line {
    /// A line for one notice.
    pub fn new(notice: &Notice) -> Self {
        Self {
            path: match notice.recalled {
                Some(_) => String::new(),
                None => format!("/notices/{}", notice.id),
            },
            title: notice.title.clone(),
            number: notice.number.clone(),
            issued: dates::moment(notice.issued),
            unread: notice.first_fetched.is_none() && notice.recalled.is_none(),
            recalled: notice.recalled.map(dates::moment),
            amount: amount(notice),
        }
    }
}

fn amount(notice: &Notice) -> String {
    notice
        .amount_yen
        .map(|yen| format!("{}円", yen_text(yen)))
        .unwrap_or_default()
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
        unread: store::count_unread(&app.db, &member).await?,
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
            Some(match extension {
                "pdf" => Form::Pdf,
                "zip" => Form::Zip,
                _ => return Err(PageError::NotFound),
            }),
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
    amount: String,
    issued: String,
    unread: bool,
    file: Option<FileFacts>,
    corrects: Option<(String, String)>,
    corrected_by: Option<(String, String)>,
    filing: Option<String>,
    fetches: Vec<FetchLine>,
}

/// The file, unless it was destroyed when its time was over.
struct FileFacts {
    name: String,
    size: String,
    pages: u64,
    sha256: String,
}

struct FetchLine {
    at: String,
    user: String,
    device: String,
    form: &'static str,
}

async fn show(app: &App, member: &Member, notice: Notice) -> Result<Html<String>, PageError> {
    let document = custody::store::find(&app.db, notice.document).await?;
    let link = |(id, number): (NoticeId, String)| (format!("/notices/{id}"), number);
    let related = store::editions(&app.db, &notice).await?;
    page(&NoticePage {
        layout: Layout::member(app, member, MemberPage::Notices, app.clock.now()),
        path: format!("/notices/{}", notice.id),
        amount: amount(&notice),
        issued: dates::moment(notice.issued),
        unread: notice.first_fetched.is_none(),
        file: document.map(|document| FileFacts {
            name: document.file_name,
            size: filings::words::size(document.size_bytes),
            pages: document.pages,
            sha256: document.sha256,
        }),
        corrects: related.corrects.map(link),
        corrected_by: related.corrected_by.map(link),
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
        Form::Zip => {
            let password = zip_password(app, member).await?;
            let stem = document.file_name.strip_suffix(".pdf");
            let name = format!("{}.zip", stem.unwrap_or(&document.file_name));
            let bytes = zipped(vec![(document.file_name, content)], password).await?;
            (name, download::ZIP, bytes)
        }
        Form::Pdf | Form::Pack => (document.file_name, download::PDF, content),
    };
    let mut tx = app.db.begin().await?;
    // Staff recalled it while it was read: it does not exist.
    if write_fetch(app, &mut tx, member, notice, form, now).await? == Fetching::Recalled {
        return Err(PageError::NotFound);
    }
    Db::commit(tx).await?;
    Ok(download::attachment(&name, kind, bytes))
}

/// Writes a fetch down: its row, the timeline of the filing that it answers, the audit log.
async fn write_fetch(
    app: &App,
    tx: &mut Tx,
    member: &Member,
    notice: &Notice,
    form: Form,
    now: OffsetDateTime,
) -> Result<Fetching, PageError> {
    let fetching = store::record_fetch(tx, member, notice, form, now).await?;
    match fetching {
        Fetching::Recalled => return Ok(fetching),
        Fetching::First => {
            if let Some(filing) = notice.filing {
                let (side, who, note) = (ActorSide::Member, member.name(), form.label());
                write_event(tx, filing, Event::Fetched, side, who, note, now).await?;
            }
        }
        Fetching::Again => {}
    }
    let act = Act::NoticeFetched(notice.id, form.code());
    audit::record(tx, &app.keys, &member.actor(), act, now).await?;
    Ok(fetching)
}

/// What the button sends: nothing but the token.
#[derive(Deserialize)]
struct Nothing {}

/// `POST /notices/unread`: everything unread in one zip, as much as one may hold; each is
/// fetched by that. What is left over waits for the next click.
async fn fetch_unread(
    member: Member,
    State(app): State<App>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    // The semaphore is never closed. One at a time: each zip is held in memory.
    let _turn = ZIPPING.acquire().await.ok();
    let password = zip_password(&app, &member).await?;
    let mut files = Vec::new();
    let mut left_bytes = UNREAD_LIMIT_BYTES;
    for notice in store::unread(&app.db, &member, UNREAD_LIMIT).await? {
        let Some(document) = custody::store::find(&app.db, notice.document).await? else {
            continue;
        };
        match left_bytes.checked_sub(document.size_bytes) {
            // The first goes alone, however large it is.
            None if !files.is_empty() => break,
            left => left_bytes = left.unwrap_or(0),
        }
        let content = custody::read(&app, &document)
            .await
            .map_err(PageError::storing("read a notice"))?;
        files.push((notice, document.file_name, content));
    }
    if files.is_empty() {
        let sentence = "未読の通知書はありません。画面を更新してご確認ください。";
        return Err(PageError::Refused(sentence.into()));
    }
    let (mut notices, mut zip) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    for (notice, mut name, content) in files {
        if !names.insert(name.to_lowercase()) {
            let stem = name.strip_suffix(".pdf").unwrap_or(&name);
            name = format!("{stem}_{}.pdf", names.len() + 1);
            names.insert(name.to_lowercase());
        }
        notices.push(notice);
        zip.push((name, content));
    }
    // Before the transaction: nobody else waits for the zip.
    let bytes = zipped(zip, password).await?;
    let mut tx = app.db.begin().await?;
    for notice in &notices {
        let fetching = write_fetch(&app, &mut tx, &member, notice, Form::Zip, now).await?;
        if fetching == Fetching::Recalled {
            let sentence =
                "受け取る間に、基金が取り消した通知書がありました。もう一度お試しください。";
            return Err(PageError::Refused(sentence.into()));
        }
    }
    Db::commit(tx).await?;
    let day = now.to_offset(JST).date().to_string().replace('-', "");
    let name = format!("{day}_{}_未読の通知書.zip", member.establishment_number());
    Ok(download::attachment(&name, download::ZIP, bytes))
}

async fn zip_password(app: &App, member: &Member) -> Result<ZipPassword, PageError> {
    let mut tx = app.db.begin().await?;
    let password =
        establishments::open_zip_password(&mut tx, &app.keys, member.establishment()).await;
    drop(tx);
    let password = password.map_err(PageError::doing("open a zip password"))?;
    ZipPassword::from_kept(password.to_string()).map_err(PageError::doing("read a zip password"))
}

async fn zipped(
    files: Vec<(String, Vec<u8>)>,
    password: ZipPassword,
) -> Result<Vec<u8>, PageError> {
    tokio::task::spawn_blocking(move || {
        let files: Vec<BundleFile<'_>> = files
            .iter()
            .map(|(name, bytes)| BundleFile { name, bytes })
            .collect();
        bundle::zip(&files, &password)
    })
    .await
    .map_err(PageError::doing("make a zip"))?
    .map_err(PageError::doing("make a zip"))
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
    recalled: bool,
    amount: String,
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
                recalled: line.notice.recalled.is_some(),
                amount: amount(&line.notice),
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
    path: String,
    title: String,
    number: String,
    amount: String,
    establishment: String,
    issued: String,
    issued_by: String,
    filing: Option<String>,
    batch: Option<String>,
    corrects: Option<(String, String)>,
    corrected_by: Option<(String, String)>,
    recalled: Option<(String, String)>,
    may_recall: bool,
    destroyed: bool,
    page_paths: Vec<String>,
    fetches: Vec<FetchLine>,
    errors: FieldErrors,
    reason: String,
}

/// `GET /notices/{id}`
async fn office_notice(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let (errors, reason) = (FieldErrors::default(), String::new());
    show_to_office(&app, &reviewer, id, errors, reason).await
}

async fn show_to_office(
    app: &App,
    reviewer: &Reviewer,
    id: NoticeId,
    errors: FieldErrors,
    reason: String,
) -> Result<Response, PageError> {
    let line = store::find_for_office(&app.db, reviewer, id)
        .await?
        .ok_or(PageError::NotFound)?;
    let document = custody::store::find(&app.db, line.notice.document).await?;
    let related = store::editions(&app.db, &line.notice).await?;
    let link = |(id, number): (NoticeId, String)| (format!("/notices/{id}"), number);
    let status = if errors.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    let template = OfficeNoticePage {
        layout: Layout::office(app, reviewer.staff(), OfficePage::Notices),
        path: format!("/notices/{id}"),
        amount: amount(&line.notice),
        establishment: format!("{} {}", line.establishment_number, line.establishment_name),
        issued: dates::moment(line.notice.issued),
        issued_by: line.issued_by,
        filing: line.notice.filing.map(|id| format!("/filings/{id}")),
        batch: related.batch.map(|id| format!("/batches/{id}")),
        corrects: related.corrects.map(link),
        corrected_by: related.corrected_by.map(link),
        recalled: line
            .notice
            .recalled
            .map(|at| (dates::moment(at), related.recall_reason.unwrap_or_default())),
        may_recall: line.notice.recalled.is_none() && line.notice.first_fetched.is_none(),
        destroyed: document.is_none(),
        page_paths: (1..=document.map_or(0, |document| document.pages))
            .map(|page| format!("/notices/{id}/pages/{page}.png"))
            .collect(),
        fetches: fetch_lines(app, &line.notice).await?,
        title: line.notice.title,
        number: line.notice.number,
        errors,
        reason,
    };
    Ok(page_with(status, &template)?.into_response())
}

/// Why a notice is recalled.
#[derive(Deserialize)]
struct RecallForm {
    reason: String,
}

/// `POST /notices/{id}/recall`
async fn recall(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<RecallForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let id: NoticeId = id.parse().map_err(|_| PageError::NotFound)?;
    store::find_for_office(&app.db, &reviewer, id)
        .await?
        .ok_or(PageError::NotFound)?;
    let reason = form.reason.trim();
    let good = !reason.is_empty()
        && reason.chars().count() <= RECALL_REASON_LIMIT_CHARS
        && !reason.contains(char::is_control);
    if !good {
        let sentence = "取り消す理由を、1行200文字以内で入力してください。";
        let errors = FieldErrors::of_one("reason", sentence);
        return show_to_office(&app, &reviewer, id, errors, form.reason).await;
    }
    let mut tx = app.db.begin().await?;
    store::recall(&mut tx, &reviewer, id, reason, now)
        .await?
        .map_err(|error| PageError::Refused(error.page_text().to_owned()))?;
    let act = Act::NoticeRecalled(id);
    audit::record(&mut tx, &app.keys, &reviewer.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to(&format!("/notices/{id}")).into_response())
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
