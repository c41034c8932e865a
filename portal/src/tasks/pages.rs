//! タスク: what waits at the office, and how a task is done.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::store::{self, Task};
use super::{DoneError, Outcome, status_text};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::Db;
use crate::ids::TaskId;
use crate::inquiries;
use crate::mail::bounces::address_hash;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::Reviewer;
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, "/tasks", list)
        .allow::<Reviewer, _, _>(Method::POST, "/tasks/{id}/done", done)
}

#[derive(Template)]
#[template(path = "tasks.html")]
struct ListPage {
    layout: Layout,
    errors: FieldErrors,
    inquiries: u64,
    open: Vec<Row>,
    done: Vec<Row>,
}

struct Row {
    id: String,
    name: String,
    address: String,
    why: &'static str,
    status: String,
    raised: String,
    establishment: Option<(String, String)>,
    done: Option<(String, String, &'static str)>,
}

impl Row {
    fn new(task: &Task) -> Self {
        Self {
            id: task.id.to_string(),
            name: task.name.clone(),
            address: task.address.clone(),
            why: status_text(&task.status),
            status: task.status.clone(),
            raised: dates::moment(task.raised),
            establishment: task
                .establishment
                .as_ref()
                .map(|(id, name)| (format!("/establishments/{id}"), name.clone())),
            done: task.done.as_ref().map(|(at, who, outcome)| {
                let outcome = outcome.map_or("", Outcome::label);
                (dates::moment(*at), who.clone(), outcome)
            }),
        }
    }
}

async fn list_page(
    app: &App,
    reviewer: &Reviewer,
    errors: FieldErrors,
) -> Result<ListPage, PageError> {
    let open = store::open(&app.db, reviewer).await?;
    let done = store::done_ones(&app.db, reviewer).await?;
    Ok(ListPage {
        layout: Layout::office(app, reviewer.staff(), OfficePage::Tasks),
        errors,
        inquiries: inquiries::store::waiting(&app.db).await?,
        open: open.iter().map(Row::new).collect(),
        done: done.iter().map(Row::new).collect(),
    })
}

/// `GET /tasks`
async fn list(reviewer: Reviewer, State(app): State<App>) -> Result<Html<String>, PageError> {
    page(&list_page(&app, &reviewer, FieldErrors::default()).await?)
}

#[derive(Deserialize)]
struct DoneForm {
    #[serde(default)]
    outcome: String,
}

/// `POST /tasks/{id}/done`
async fn done(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<DoneForm>,
) -> Result<Response, PageError> {
    let id: TaskId = id.parse().map_err(|_| PageError::NotFound)?;
    let refused = match Outcome::from_code(&form.outcome) {
        None => Some(DoneError::NoOutcome),
        Some(outcome) => see_to(&app, &reviewer, id, outcome).await?.err(),
    };
    let Some(error) = refused else {
        return Ok(Redirect::to("/tasks").into_response());
    };
    let errors = FieldErrors::of_one("", error.page_text());
    let shown = list_page(&app, &reviewer, errors).await?;
    Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &shown)?.into_response())
}

async fn see_to(
    app: &App,
    reviewer: &Reviewer,
    id: TaskId,
    outcome: Outcome,
) -> Result<Result<(), DoneError>, PageError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let task = store::find(&mut tx, reviewer, id).await?;
    let task = task.ok_or(PageError::NotFound)?;
    let hash = address_hash(&app.keys, &task.address);
    match outcome {
        Outcome::AddressChanged if store::is_refused(&mut tx, &hash).await? => {
            return Ok(Err(DoneError::AddressUnchanged));
        }
        Outcome::AddressChanged => {}
        Outcome::AddressConfirmed => store::accept_address(&mut tx, &hash).await?,
    }
    if !store::done(&mut tx, reviewer, id, outcome, now).await? {
        return Ok(Err(DoneError::DoneAlready));
    }
    let act = Act::TaskDone(id);
    audit::record(&mut tx, &app.keys, &reviewer.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(Ok(()))
}
