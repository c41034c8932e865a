//! 利用の終了: an establishment leaves the service, and later its key is destroyed.
//!
//! Ending closes the pages and the tunnels of its PCs at once; what was exchanged stays
//! readable at the office. Destroying the key is proposed here and decided by a second person
//! on `/approvals`. An end can be taken back as long as the key is there.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use protocol::agent_api::EndCode;
use serde::Deserialize;
use time::OffsetDateTime;

use super::{Establishment, store};
use crate::app::App;
use crate::approvals::{self, Kind, Reason};
use crate::audit::{self, Act};
use crate::custody::destruction::{self, GRACE, Record};
use crate::db::Db;
use crate::delegations;
use crate::ids::EstablishmentId;
use crate::staff::StaffRole;
use crate::step_up::Fresh;
use crate::tunnel_sessions;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::{Staff, Supervisor};
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

/// Pages of the office listener.
pub(super) fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Staff, _, _>(Method::GET, "/establishments/{id}/leaving", show)
        .allow::<Fresh<Supervisor>, _, _>(Method::POST, "/establishments/{id}/leaving/end", end)
        .allow::<Fresh<Supervisor>, _, _>(
            Method::POST,
            "/establishments/{id}/leaving/take-back",
            take_back,
        )
        .allow::<Fresh<Supervisor>, _, _>(
            Method::POST,
            "/establishments/{id}/leaving/destroy",
            propose,
        )
}

#[derive(Template)]
#[template(path = "establishment_leaving.html")]
struct LeavingPage {
    layout: Layout,
    establishment: Establishment,
    stage: Stage,
    grace_days: i64,
    is_supervisor: bool,
    reason: String,
    errors: FieldErrors,
}

/// How far an establishment's leaving has come.
enum Stage {
    InUse,
    Ended {
        since: String,
        /// When its key can be destroyed, if that is still to come.
        from: Option<String>,
        proposed: bool,
    },
    Destroyed {
        record: Record,
    },
}

async fn find(app: &App, id: &str) -> Result<Establishment, PageError> {
    let id: EstablishmentId = id.parse().map_err(|_| PageError::NotFound)?;
    store::find(&app.db, id).await?.ok_or(PageError::NotFound)
}

async fn leaving_page(
    app: &App,
    staff: &Staff,
    establishment: Establishment,
    reason: String,
    errors: FieldErrors,
    now: OffsetDateTime,
) -> Result<LeavingPage, PageError> {
    let id = establishment.id;
    let stage = match destruction::record(&app.db, id).await? {
        Some(record) => Stage::Destroyed { record },
        None => match establishment.ended {
            None => Stage::InUse,
            Some(ended) => Stage::Ended {
                since: dates::day(ended),
                from: (now < ended + GRACE).then(|| dates::day(ended + GRACE)),
                proposed: approvals::store::open_about(
                    &app.db,
                    Kind::KeyDestruction,
                    &id.to_string(),
                    now,
                )
                .await?
                .is_some(),
            },
        },
    };
    Ok(LeavingPage {
        layout: Layout::office(app, staff, OfficePage::Establishments),
        establishment,
        stage,
        grace_days: GRACE.whole_days(),
        is_supervisor: staff.role() == StaffRole::Supervisor,
        reason,
        errors,
    })
}

#[derive(Deserialize)]
struct NoQuery {}

/// `GET /establishments/{id}/leaving`
async fn show(
    staff: Staff,
    State(app): State<App>,
    Path(id): Path<String>,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<Html<String>, PageError> {
    let now = app.clock.now();
    let establishment = find(&app, &id).await?;
    let nothing = (String::new(), FieldErrors::default());
    page(&leaving_page(&app, &staff, establishment, nothing.0, nothing.1, now).await?)
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /establishments/{id}/leaving/end`
async fn end(
    supervisor: Fresh<Supervisor>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id = find(&app, &id).await?.id;
    let actor = supervisor.actor();
    let mut tx = app.db.begin().await?;
    if !store::end(&mut tx, id, now).await? {
        return Err(PageError::Refused(
            "この事業所の利用はすでに終了しています。".to_owned(),
        ));
    }
    let ended =
        tunnel_sessions::store::end_of_establishment(&mut tx, id, EndCode::Revoked, now).await?;
    for (session, reason) in ended {
        let act = Act::SessionEnded(session, reason.as_str());
        audit::record(&mut tx, &app.keys, &actor, act, now).await?;
    }
    delegations::store::leave_client(&mut tx, id, now).await?;
    audit::record(&mut tx, &app.keys, &actor, Act::EstablishmentEnded(id), now).await?;
    Db::commit(tx).await?;
    app.signals.sessions_changed();
    Ok(Redirect::to(&format!("/establishments/{id}/leaving")))
}

/// `POST /establishments/{id}/leaving/take-back`
async fn take_back(
    supervisor: Fresh<Supervisor>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id = find(&app, &id).await?.id;
    let mut tx = app.db.begin().await?;
    if !store::take_back_end(&mut tx, id).await? {
        return Err(PageError::Refused(
            "利用中か、鍵を破棄した事業所です。利用の終了は取り消せません。".to_owned(),
        ));
    }
    let act = Act::EstablishmentEndTakenBack(id);
    audit::record(&mut tx, &app.keys, &supervisor.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to(&format!("/establishments/{id}/leaving")))
}

#[derive(Deserialize)]
struct ReasonForm {
    reason: String,
}

/// `POST /establishments/{id}/leaving/destroy`: proposes it.
async fn propose(
    supervisor: Fresh<Supervisor>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<ReasonForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let establishment = find(&app, &id).await?;
    let id = establishment.id;
    let Some(reason) = Reason::new(&form.reason) else {
        let errors = FieldErrors::of_one("reason", Reason::page_text());
        let page = leaving_page(&app, &supervisor, establishment, form.reason, errors, now).await?;
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    };
    let mut tx = app.db.begin().await?;
    destruction::check(&mut tx, id, now)
        .await
        .map_err(|error| match error.page_text() {
            Some(sentence) => PageError::Refused(sentence),
            None => PageError::doing("look at an establishment's key")(error),
        })?;
    let (kind, subject) = (Kind::KeyDestruction, id.to_string());
    approvals::propose(&mut tx, &app, kind, &subject, &reason, &supervisor, now)
        .await
        .map_err(approvals::refused)?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/approvals?done=proposed").into_response())
}

#[cfg(test)]
mod tests;
