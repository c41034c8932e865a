//! 隔離したファイル: the supervisor's page. It shows that a file is there, never what is in it.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, Redirect};
use http::Method;
use serde::Deserialize;

use super::store::{self, Held};
use crate::app::App;
use crate::approvals::{self, Kind, Reason};
use crate::audit::{self, Act};
use crate::custody;
use crate::db::Db;
use crate::filings::words::size;
use crate::ids::QuarantineId;
use crate::step_up::Fresh;
use crate::web::forms::Verified;
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::Supervisor;
use crate::web::router::Routes;
use crate::web::{dates, page};

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Supervisor, _, _>(Method::GET, "/quarantine", list)
        .allow::<Fresh<Supervisor>, _, _>(Method::POST, "/quarantine/{id}/release", propose)
        .allow::<Fresh<Supervisor>, _, _>(Method::POST, "/quarantine/{id}/destroy", destroy)
}

#[derive(Template)]
#[template(path = "quarantine.html")]
struct ListPage {
    layout: Layout,
    rows: Vec<Row>,
    done: &'static str,
}

struct Row {
    held: Held,
    at: String,
    size: String,
    finding: String,
    chip: (&'static str, &'static str),
    is_open: bool,
    is_proposed: bool,
}

#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

/// `GET /quarantine`
async fn list(
    supervisor: Supervisor,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Html<String>, PageError> {
    let now = app.clock.now();
    let mut rows = Vec::new();
    for held in store::list(&app.db).await? {
        let is_open = held.state == "held";
        let subject = held.id.to_string();
        let open = approvals::store::open_about(&app.db, Kind::QuarantineRelease, &subject, now);
        rows.push(Row {
            at: dates::moment(held.held),
            size: size(held.size_bytes),
            finding: held.finding.page_text(),
            chip: match held.state.as_str() {
                "held" => ("error", "隔離中"),
                "released" => ("success", "解放済み"),
                _ => ("neutral", "廃棄済み"),
            },
            is_proposed: is_open && open.await?.is_some(),
            is_open,
            held,
        });
    }
    page(&ListPage {
        layout: Layout::office(&app, &supervisor, OfficePage::Review),
        rows,
        done: match done.done.as_deref() {
            Some("destroyed") => "隔離していたファイルを廃棄しました。",
            Some(_) | None => "",
        },
    })
}

#[derive(Deserialize)]
struct ReasonForm {
    reason: String,
}

/// `POST /quarantine/{id}/release`: proposes it; somebody else decides.
async fn propose(
    supervisor: Fresh<Supervisor>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<ReasonForm>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id: QuarantineId = id.parse().map_err(|_| PageError::NotFound)?;
    let reason = Reason::new(&form.reason).ok_or(PageError::Refused(Reason::page_text()))?;
    let mut tx = app.db.begin().await?;
    if !store::find_held(&mut tx, id).await? {
        return Err(PageError::NotFound);
    }
    let (kind, subject) = (Kind::QuarantineRelease, id.to_string());
    approvals::propose(&mut tx, &app, kind, &subject, &reason, &supervisor, now)
        .await
        .map_err(approvals::refused)?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/approvals?done=proposed"))
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /quarantine/{id}/destroy`
async fn destroy(
    supervisor: Fresh<Supervisor>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id: QuarantineId = id.parse().map_err(|_| PageError::NotFound)?;
    let mut tx = app.db.begin().await?;
    if !store::decide(&mut tx, id, "destroyed", &supervisor, now).await? {
        return Err(PageError::NotFound);
    }
    let document = store::destroy_document(&mut tx, id, now).await?;
    let act = Act::QuarantineDestroyed(id);
    audit::record(&mut tx, &app.keys, &supervisor.actor(), act, now).await?;
    Db::commit(tx).await?;
    custody::remove_objects(&app, [document]).await;
    Ok(Redirect::to("/quarantine?done=destroyed"))
}

#[cfg(test)]
mod tests;
