//! The office's pages for PCs: requests with their matching codes, the list, revocation.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use protocol::{DeviceId, EnrolmentId};
use serde::Deserialize;
use time::Duration;

use super::store::{self, PendingEnrolment};
use super::{DecideError, listing};
use crate::app::App;
use crate::db::Db;
use crate::mail::{outbox, texts};
use crate::people::news::{self, News};
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::{Reviewer, Staff};
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

/// How long the mail about an approved PC is worth sending.
const APPROVED_MAIL_LIFETIME: Duration = Duration::days(3);

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Staff, _, _>(Method::GET, "/devices", list)
        .allow::<Reviewer, _, _>(Method::POST, "/enrolments/{id}/approve", approve)
        .allow::<Reviewer, _, _>(Method::POST, "/enrolments/{id}/refuse", refuse)
        .allow::<Staff, _, _>(Method::GET, "/devices/{id}", show)
        .allow::<Reviewer, _, _>(Method::POST, "/devices/{id}/revoke", revoke)
}

#[derive(Template)]
#[template(path = "devices.html")]
struct ListPage {
    layout: Layout,
    pending: Vec<PendingRow>,
    devices: Vec<DeviceRow>,
    may_change: bool,
    done: &'static str,
    errors: FieldErrors,
}

struct PendingRow {
    asked: PendingEnrolment,
    id: String,
    at: String,
}

struct DeviceRow {
    id: String,
    number: String,
    establishment: String,
    name: String,
    os: String,
    user: String,
    seen: String,
    state: (&'static str, String),
}

impl DeviceRow {
    fn of(device: listing::Listed) -> Self {
        let state = match (device.revoked, device.connected_until) {
            (Some(_), _) => ("neutral", "登録解除".to_owned()),
            (None, Some(until)) => ("success", format!("接続中（{}まで）", dates::clock(until))),
            (None, None) => ("info", "登録済み".to_owned()),
        };
        Self {
            id: device.id.to_string(),
            number: device.number.to_string(),
            establishment: device.establishment_name,
            name: device.name,
            os: device.os,
            user: device.user_name,
            seen: device
                .seen
                .map_or_else(|| "まだありません".to_owned(), dates::moment),
            state,
        }
    }
}

#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

/// `GET /devices`
async fn list(
    staff: Staff,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Html<String>, PageError> {
    let done = match done.done.as_deref() {
        Some("approved") => "パソコンの登録を承認しました。利用者にメールでお知らせします。",
        Some("refused") => "パソコンの登録を拒否しました。",
        Some("revoked") => "パソコンの登録を解除しました。接続中だった場合は、切断されます。",
        Some(_) | None => "",
    };
    page(&list_page(&app, &staff, done, FieldErrors::default()).await?)
}

async fn list_page(
    app: &App,
    staff: &Staff,
    done: &'static str,
    errors: FieldErrors,
) -> Result<ListPage, PageError> {
    let pending = store::pending(&app.db).await?;
    let devices = listing::registered(&app.db, app.clock.now()).await?;
    Ok(ListPage {
        layout: Layout::office(app, staff, OfficePage::Devices),
        pending: pending
            .into_iter()
            .map(|asked| PendingRow {
                id: asked.id.to_string(),
                at: dates::moment(asked.requested),
                asked,
            })
            .collect(),
        devices: devices.into_iter().map(DeviceRow::of).collect(),
        may_change: staff.may_decide(),
        done,
        errors,
    })
}

#[derive(Deserialize)]
struct ApproveForm {
    /// `yes` if the code that was read out on the telephone is the one on the page.
    matched: Option<String>,
}

/// `POST /enrolments/{id}/approve`
async fn approve(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<ApproveForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let id: EnrolmentId = id.parse().map_err(|_| PageError::NotFound)?;
    if form.matched.as_deref() != Some("yes") {
        let errors = FieldErrors::of_one(
            "pending",
            "電話で照合番号をお確かめのうえ、「読み上げられた番号と一致しました」にチェックを入れてください。",
        );
        let page = list_page(&app, reviewer.staff(), "", errors).await?;
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    }
    let mut tx = app.db.begin().await?;
    let device = super::approve(&mut tx, &app, reviewer.id(), id, now)
        .await
        .map_err(page_error)?;
    if let Some(address) = listing::mail_address(&mut tx, device).await? {
        let mail = texts::device_approved(&app.config, &address);
        outbox::queue(&mut tx, &app.keys, mail, now, now + APPROVED_MAIL_LIFETIME).await?;
    }
    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(Redirect::to("/devices?done=approved").into_response())
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /enrolments/{id}/refuse`
async fn refuse(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id: EnrolmentId = id.parse().map_err(|_| PageError::NotFound)?;
    let mut tx = app.db.begin().await?;
    super::refuse(&mut tx, &app.keys, reviewer.id(), id, now)
        .await
        .map_err(page_error)?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/devices?done=refused"))
}

#[derive(Template)]
#[template(path = "device.html")]
struct ShowPage {
    layout: Layout,
    establishment_id: String,
    row: DeviceRow,
    approved: String,
    revoked: Option<(String, String)>,
    may_change: bool,
    reason: String,
    errors: FieldErrors,
}

async fn show_page(
    app: &App,
    staff: &Staff,
    id: &str,
    reason: String,
    errors: FieldErrors,
) -> Result<ShowPage, PageError> {
    let id: DeviceId = id.parse().map_err(|_| PageError::NotFound)?;
    let device = listing::find(&app.db, id, app.clock.now())
        .await?
        .ok_or(PageError::NotFound)?;
    Ok(ShowPage {
        layout: Layout::office(app, staff, OfficePage::Devices),
        establishment_id: device.establishment.to_string(),
        approved: dates::moment(device.approved),
        revoked: device
            .revoked
            .map(|at| (dates::moment(at), device.revoke_reason.clone())),
        may_change: staff.may_decide(),
        row: DeviceRow::of(device),
        reason,
        errors,
    })
}

/// `GET /devices/{id}`
async fn show(
    staff: Staff,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    page(&show_page(&app, &staff, &id, String::new(), FieldErrors::default()).await?)
}

#[derive(Deserialize)]
struct RevokeForm {
    reason: String,
}

/// `POST /devices/{id}/revoke`
async fn revoke(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<RevokeForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let device: DeviceId = id.parse().map_err(|_| PageError::NotFound)?;
    let reason = form.reason.trim();
    if reason.is_empty() {
        let errors = FieldErrors::of_one("reason", "解除する理由を入力してください。");
        let page = show_page(&app, reviewer.staff(), &id, String::new(), errors).await?;
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    }
    let listed = listing::find(&app.db, device, now).await?;
    let mut tx = app.db.begin().await?;
    let revoked = super::revoke(&mut tx, &app.keys, &reviewer.actor(), device, reason, now).await;
    if let Err(DecideError::Reason) = revoked {
        drop(tx);
        let sentence = DecideError::Reason.page_text().unwrap_or_default();
        let errors = FieldErrors::of_one("reason", sentence);
        let page = show_page(&app, reviewer.staff(), &id, form.reason, errors).await?;
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    }
    revoked.map_err(page_error)?;
    let whose = listed.ok_or(PageError::NotFound)?.establishment;
    news::tell(&mut tx, &app, whose, News::DeviceRevokedByFund, now).await?;
    Db::commit(tx).await?;
    app.signals.sessions_changed();
    app.signals.mail_queued();
    Ok(Redirect::to("/devices?done=revoked").into_response())
}

/// What staff are told, or that the fault is ours.
fn page_error(error: DecideError) -> PageError {
    match (error.page_text(), error) {
        (Some(sentence), _) => PageError::Refused(sentence),
        (None, DecideError::Store(error)) => PageError::Store(error),
        (None, error) => PageError::doing("decide on a PC")(error),
    }
}

#[cfg(test)]
mod tests;
