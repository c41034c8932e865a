//! The members' pages about filings: handing in, history, one filing, its receipt.

mod history;
mod plain;
mod receipt;
mod submit;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::Filing;
use super::store;
use super::words::{Chip, TimelineLine, chip, size, timeline};
use crate::app::App;
use crate::audit::{self, Act};
use crate::custody::{self, Document};
use crate::db::Db;
use crate::ids::FilingId;
use crate::notices;
use crate::permissions::Permission;
use crate::review::member::{self, Case, Typed};
use crate::review::withdrawals::{self, Answer};
use crate::web::dates;
use crate::web::download;
use crate::web::forms::Verified;
use crate::web::layout::{Layout, MemberPage, Side};
use crate::web::page_error::PageError;
use crate::web::page_with;
use crate::web::principals::{Filer, Follower, Member};
use crate::web::router::Routes;
pub use history::Line;

/// The routes of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Filer, _, _>(Method::GET, "/filings/new", submit::new_page)
        .allow::<Filer, _, _>(Method::POST, "/filings", submit::submit)
        .allow::<Filer, _, _>(Method::GET, "/filings/plain", plain::show)
        .allow::<Filer, _, _>(Method::POST, "/filings/plain", plain::submit)
        .allow::<Follower, _, _>(Method::GET, "/filings", history::list)
        .allow::<Follower, _, _>(Method::GET, "/filings/{id}", filing)
        .allow::<Follower, _, _>(Method::GET, "/filings/{id}/document.pdf", document)
        .allow::<Filer, _, _>(Method::POST, "/filings/{id}/withdraw", withdraw)
        .allow::<Follower, _, _>(Method::GET, "/submissions/{id}", receipt::show)
        .allow::<Follower, _, _>(Method::GET, "/submissions/{id}/receipt.pdf", receipt::pdf)
}

#[derive(Template)]
#[template(path = "filing.html")]
struct FilingPage {
    layout: Layout,
    path: String,
    name: String,
    kind: String,
    filed_on: String,
    chip: Chip,
    receipt_number: String,
    receipt_path: String,
    received: String,
    sender: String,
    size: String,
    pages: u64,
    sha256: String,
    returned: Option<Returned>,
    case: Case,
    may_be_withdrawn: bool,
    notices: Vec<NoticeLine>,
    timeline: Vec<TimelineLine>,
}

struct Returned {
    label: &'static str,
    advice: &'static str,
    words: String,
    /// Where the corrected filing is, or `None` if it is still to come.
    replaced_by: Option<String>,
    /// Where it is corrected, if the member may file.
    resubmit_path: Option<String>,
}

struct NoticeLine {
    path: String,
    title: String,
    number: String,
    issued: String,
    unread: bool,
}

/// `GET /filings/{id}`
async fn filing(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    show(&app, &member, id, Typed::default(), StatusCode::OK).await
}

/// The filing's page, with what was typed into its forms.
pub async fn show(
    app: &App,
    member: &Member,
    id: FilingId,
    typed: Typed,
    status: StatusCode,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let line = store::find_own_line(&app.db, member, id)
        .await?
        .ok_or(PageError::NotFound)?;
    let filing = &line.filing;
    let document = document_of(app, filing).await?;
    let may_file = member.may(Permission::File);
    let notices = match member.may(Permission::Fetch) {
        true => notices::store::of_own_filing(&app.db, member, filing.id).await?,
        false => Vec::new(),
    };
    let entries = store::timeline(&app.db, filing).await?;
    let template = FilingPage {
        layout: Layout::member(app, member, MemberPage::History, now),
        path: format!("/filings/{id}"),
        name: filing.name.to_string(),
        kind: filing.name.kind().name().to_owned(),
        filed_on: dates::date(filing.name.date()),
        chip: chip(filing.state.code()),
        receipt_number: line.receipt_number.clone(),
        receipt_path: format!("/submissions/{}", filing.submission),
        received: dates::moment(filing.received),
        sender: line.sender.clone(),
        size: size(document.size_bytes),
        pages: document.pages,
        sha256: document.sha256,
        returned: filing.state.return_reason().map(|reason| Returned {
            label: reason.code().label(),
            advice: reason.code().advice(),
            words: reason.text().to_owned(),
            replaced_by: line.replaced_by.map(|id| format!("/filings/{id}")),
            resubmit_path: may_file.then(|| format!("/filings/new?replaces={id}")),
        }),
        case: member::case(app, member, filing, typed).await?,
        may_be_withdrawn: may_file && filing.withdraw(now).is_ok(),
        notices: notices
            .into_iter()
            .map(|notice| NoticeLine {
                path: format!("/notices/{}", notice.id),
                unread: notice.first_fetched.is_none(),
                issued: dates::moment(notice.issued),
                title: notice.title,
                number: notice.number,
            })
            .collect(),
        timeline: timeline(entries, Side::Member),
    };
    Ok(page_with(status, &template)?.into_response())
}

/// `GET /filings/{id}/document.pdf`: the establishment's own filing, as it was accepted.
async fn document(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let filing = store::find_own(app.db.pool(), &member, id)
        .await?
        .ok_or(PageError::NotFound)?;
    let document = document_of(&app, &filing).await?;
    let bytes = read(&app, &document).await?;
    let mut tx = app.db.begin().await?;
    let act = Act::FilingRead(filing.id);
    audit::record(&mut tx, &app.keys, &member.actor(), act, app.clock.now()).await?;
    Db::commit(tx).await?;
    Ok(download::attachment(
        &document.file_name,
        download::PDF,
        bytes,
    ))
}

/// A form with nothing but its token.
#[derive(Deserialize)]
pub struct Confirmed {}

/// `POST /filings/{id}/withdraw`
async fn withdraw(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Confirmed {}): Verified<Confirmed>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let mut tx = app.db.begin().await?;

    let filing = store::find_own(&mut *tx, &member, id)
        .await?
        .ok_or(PageError::NotFound)?;
    let step = filing
        .withdraw(now)
        .map_err(|error| PageError::Refused(error.page_text()))?;
    store::save_own(&mut tx, &member, &step)
        .await?
        .map_err(|error| PageError::Refused(error.page_text()))?;
    // The request that came while somebody reviewed it has its wish.
    withdrawals::answer(&mut tx, id, None, Answer::Moot, now).await?;
    let act = Act::FilingWithdrawn(id);
    audit::record(&mut tx, &app.keys, &member.actor(), act, now).await?;

    Db::commit(tx).await?;
    Ok(Redirect::to(&format!("/filings/{id}")))
}

/// What the home page says about filings.
pub struct Overview {
    /// Returned filings that wait for a corrected one.
    pub returned: Vec<Line>,
    /// The latest filings.
    pub latest: Vec<Line>,
}

/// Filings on the home page: how many of the latest.
const LATEST: i64 = 5;

/// Looks up what the home page says about filings.
pub async fn overview(app: &App, member: &Member) -> Result<Overview, PageError> {
    let latest = store::latest(&app.db, member, None, LATEST).await?;
    let returned = Some("returned");
    let returned = store::latest(&app.db, member, returned, store::PAGE_LENGTH).await?;
    Ok(Overview {
        latest: latest.iter().map(Line::new).collect(),
        returned: returned
            .iter()
            .filter(|line| line.replaced_by.is_none())
            .map(Line::new)
            .collect(),
    })
}

/// The document of a filing that the caller has found through its store.
pub async fn document_of(app: &App, filing: &Filing) -> Result<Document, PageError> {
    custody::store::find(&app.db, filing.document)
        .await?
        .ok_or(PageError::NotFound)
}

/// The content of a document that the caller has found through its store.
pub async fn read(app: &App, document: &Document) -> Result<Vec<u8>, PageError> {
    custody::read(app, document)
        .await
        .map_err(PageError::storing("read a document"))
}

#[cfg(test)]
mod tests;
