//! 承認: what waits for a second person, and what became of the rest.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, Redirect};
use http::Method;
use serde::Deserialize;

use super::{Approval, ApprovalError, Decision, effects, store};
use crate::app::App;
use crate::db::Db;
use crate::step_up::Fresh;
use crate::web::forms::Verified;
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::Staff;
use crate::web::router::Routes;
use crate::web::{dates, page};

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Staff, _, _>(Method::GET, "/approvals", list)
        .allow::<Fresh<Staff>, _, _>(Method::POST, "/approvals/{id}/approve", approve)
        .allow::<Staff, _, _>(Method::POST, "/approvals/{id}/refuse", refuse)
        .allow::<Staff, _, _>(Method::POST, "/approvals/{id}/withdraw", withdraw)
}

#[derive(Template)]
#[template(path = "approvals.html")]
struct ListPage {
    layout: Layout,
    open: Vec<OpenLine>,
    closed: Vec<ClosedLine>,
    done: &'static str,
}

struct OpenLine {
    path: String,
    kind: &'static str,
    subject: String,
    reason: String,
    proposer: String,
    proposed: String,
    expires: String,
    consequence: &'static str,
    own: bool,
    may_decide: bool,
}

struct ClosedLine {
    kind: &'static str,
    subject: String,
    proposer: String,
    proposed: String,
    chip: (&'static str, &'static str),
    decided: String,
    decider: String,
}

#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

/// `GET /approvals`
async fn list(
    staff: Staff,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Html<String>, PageError> {
    let now = app.clock.now();
    let mut open = Vec::new();
    for approval in store::open(&app.db, now).await? {
        open.push(OpenLine {
            path: format!("/approvals/{}", approval.id),
            kind: approval.kind.page_text(),
            subject: effects::describe(&app, &approval).await?,
            consequence: approval.kind.consequence(),
            proposed: dates::moment(approval.proposed),
            expires: dates::moment(approval.expires),
            own: approval.proposed_by == staff.id(),
            may_decide: approval.kind.may_be_decided_by(staff.role()),
            reason: approval.reason,
            proposer: approval.proposer,
        });
    }
    let mut closed = Vec::new();
    for approval in store::closed(&app.db, now).await? {
        let subject = effects::describe(&app, &approval).await?;
        closed.push(closed_line(approval, subject));
    }
    page(&ListPage {
        layout: Layout::office(&app, &staff, OfficePage::Approvals),
        open,
        closed,
        done: match done.done.as_deref() {
            Some("approved") => "承認しました。",
            Some("refused") => "却下しました。",
            Some("withdrawn") => "申請を取り消しました。",
            Some("proposed") => "申請しました。別の方の承認をお待ちください。",
            Some(_) | None => "",
        },
    })
}

fn closed_line(approval: Approval, subject: String) -> ClosedLine {
    let (decision, at, decider) =
        approval
            .decided
            .unwrap_or((Decision::Expired, approval.expires, None));
    let kind = match decision {
        Decision::Approved => "success",
        Decision::Refused => "error",
        Decision::Withdrawn | Decision::Expired => "neutral",
    };
    ClosedLine {
        kind: approval.kind.page_text(),
        subject,
        proposer: approval.proposer,
        proposed: dates::moment(approval.proposed),
        chip: (kind, decision.page_text()),
        decided: dates::moment(at),
        decider: decider.unwrap_or_default(),
    }
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /approvals/{id}/approve`
async fn approve(
    staff: Fresh<Staff>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let mut tx = app.db.begin().await?;
    let approval = super::approve(&mut tx, &app, id, &staff, now)
        .await
        .map_err(refused)?;
    Db::commit(tx).await?;
    afterwards(&app, &approval).await;
    Ok(Redirect::to("/approvals?done=approved"))
}

/// What follows an approval outside the database. Failing is no loss: workers come later.
async fn afterwards(app: &App, approval: &Approval) {
    app.signals.mail_queued();
    app.signals.sessions_changed();
    effects::clean_up(app, approval).await;
}

/// `POST /approvals/{id}/refuse`
async fn refuse(
    staff: Staff,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let mut tx = app.db.begin().await?;
    super::refuse(&mut tx, &app, id, &staff, now)
        .await
        .map_err(refused)?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/approvals?done=refused"))
}

/// `POST /approvals/{id}/withdraw`
async fn withdraw(
    staff: Staff,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let mut tx = app.db.begin().await?;
    super::withdraw(&mut tx, &app, id, &staff, now)
        .await
        .map_err(refused)?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/approvals?done=withdrawn"))
}

/// The page for a refusal; what a role may not do does not exist for it.
pub(crate) fn refused(error: ApprovalError) -> PageError {
    match (&error, error.page_text()) {
        (ApprovalError::NotForRole, _) => PageError::NotFound,
        (_, Some(sentence)) => PageError::Refused(sentence),
        (_, None) => PageError::doing("decide a proposal")(error),
    }
}
