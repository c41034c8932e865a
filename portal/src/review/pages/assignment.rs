//! 担当を決める: a supervisor gives a case to a reviewer.

use axum::extract::{Path, State};
use axum::response::Redirect;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{allowed, find_in, rank, to_filing};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::Db;
use crate::filings::store::{self, ActorSide};
use crate::ids::StaffId;
use crate::review::assignment::candidate;
use crate::web::forms::Verified;
use crate::web::page_error::PageError;
use crate::web::principals::{Reviewer, Supervisor};
use crate::web::router::Routes;

pub(super) fn office_routes(routes: Routes) -> Routes {
    routes.allow::<Supervisor, _, _>(Method::POST, "/filings/{id}/assign", assign)
}

#[derive(Deserialize)]
struct AssignForm {
    #[serde(default)]
    staff: String,
}

/// `POST /filings/{id}/assign`
async fn assign(
    supervisor: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<AssignForm>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let not_chosen =
        || PageError::Refused("担当者を選んでから「担当を決める」を押してください。".into());
    let to: StaffId = form.staff.parse().map_err(|_| not_chosen())?;
    let mut tx = app.db.begin().await?;

    let filing = find_in(&mut tx, &supervisor, &id).await?;
    let name = candidate(&mut tx, to).await?.ok_or_else(|| {
        PageError::Refused(
            "選んだ担当者は利用できなくなっています。ほかの担当者を選んでください。".into(),
        )
    })?;
    let step = allowed(filing.assign(to, rank(&supervisor), now))?;
    // Staff read who gave it to whom; the establishment reads 基金事務局.
    let who = format!("{} → {name}", supervisor.name());
    allowed(store::save(&mut tx, &step, ActorSide::Staff, &who).await?)?;
    let (act, actor) = (Act::FilingAssigned(filing.id), supervisor.actor());
    let details = json!({ "staff": to.to_string() });
    audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;

    Db::commit(tx).await?;
    Ok(to_filing(filing.id))
}
