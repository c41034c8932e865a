//! The office's page of delegations: sharoushi's offices, and groups of establishments
//! (複数事業所管理登録届, FEATURES S003-18).

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use protocol::EstablishmentNumber;
use serde::Deserialize;
use time::OffsetDateTime;

use super::store::{self, Line, Party};
use super::{DelegationError, EstablishmentKind, Side};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::Db;
use crate::ids::DelegationId;
use crate::people::news::{self, News};
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::{Reviewer, Staff};
use crate::web::router::Routes;
use crate::web::{dates, page_with};

/// Longest note of how a client consented, in characters.
const CONSENT_LIMIT: usize = 100;
/// Establishments that one form may put into a group.
const CLIENTS_LIMIT: usize = 100;

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Staff, _, _>(Method::GET, "/delegations", show)
        .allow::<Reviewer, _, _>(Method::POST, "/delegations/offices", make_office)
        .allow::<Reviewer, _, _>(Method::POST, "/delegations/groups", make_group)
        .allow::<Reviewer, _, _>(Method::POST, "/delegations/{id}/end", end)
}

#[derive(Template)]
#[template(path = "office_delegations.html")]
struct DelegationsPage {
    layout: Layout,
    offices: Vec<OfficeRow>,
    groups: Vec<Row>,
    may_change: bool,
    form: GroupForm,
    office_number: String,
    errors: FieldErrors,
}

struct OfficeRow {
    party: Party,
    clients: Vec<Row>,
}

struct Row {
    id: DelegationId,
    client: String,
    delegate: String,
    scope: String,
    ends: String,
    stands: bool,
    consent: String,
}

fn row(line: Line) -> Row {
    let party = |(number, name): (EstablishmentNumber, String)| format!("{number} {name}");
    Row {
        id: line.id,
        client: party(line.client),
        delegate: party(line.delegate),
        scope: format!(
            "{}（{}）",
            line.scope.permissions.page_text(),
            line.scope.procedures.page_text()
        ),
        ends: match line.scope.ends {
            Some(ends) => dates::day(ends - time::Duration::SECOND),
            None => "期限なし".to_owned(),
        },
        stands: line.accepted.is_some(),
        consent: line.consent.unwrap_or_default(),
    }
}

#[derive(Deserialize, Default)]
struct GroupForm {
    manager: String,
    clients: String,
    consent: String,
}

async fn render(
    app: &App,
    staff: &Staff,
    form: GroupForm,
    office_number: String,
    errors: FieldErrors,
    now: OffsetDateTime,
) -> Result<Response, PageError> {
    let mut offices = Vec::new();
    for party in store::offices(&app.db).await? {
        let clients = store::of(&app.db, party.id, Side::Delegate, now).await?;
        let clients = clients.into_iter().map(row).collect();
        offices.push(OfficeRow { party, clients });
    }
    let status = match errors.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let page = DelegationsPage {
        layout: Layout::office(app, staff, OfficePage::Establishments),
        offices,
        groups: store::groups(&app.db, now)
            .await?
            .into_iter()
            .map(row)
            .collect(),
        may_change: staff.may_decide(),
        form,
        office_number,
        errors,
    };
    Ok(page_with(status, &page)?.into_response())
}

/// `GET /delegations`
async fn show(staff: Staff, State(app): State<App>) -> Result<Response, PageError> {
    let now = app.clock.now();
    let (form, errors) = (GroupForm::default(), FieldErrors::default());
    render(&app, &staff, form, String::new(), errors, now).await
}

#[derive(Deserialize)]
struct OfficeForm {
    number: String,
}

/// `POST /delegations/offices`: what was registered as an establishment is a sharoushi's
/// office.
async fn make_office(
    reviewer: Reviewer,
    State(app): State<App>,
    Verified(form): Verified<OfficeForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    if let Ok(number) = form.number.trim().parse() {
        let mut tx = app.db.begin().await?;
        if let Some(id) = store::make_office(&mut tx, number).await? {
            let act = Act::SharoushiOfficeMade(id);
            audit::record(&mut tx, &app.keys, &reviewer.actor(), act, now).await?;
            Db::commit(tx).await?;
            return Ok(Redirect::to("/delegations").into_response());
        }
    }
    let errors = FieldErrors::of_one(
        "number",
        "この番号では登録できません。先に「事業所の登録」で登録した番号を入力してください。届書や通知書のやり取りがある事業所は、社労士事務所にできません。",
    );
    let staff = reviewer.staff();
    render(&app, staff, GroupForm::default(), form.number, errors, now).await
}

/// `POST /delegations/groups`: one establishment manages others, who consented.
async fn make_group(
    reviewer: Reviewer,
    State(app): State<App>,
    Verified(form): Verified<GroupForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let mut errors = FieldErrors::default();
    let consent = form.consent.trim().to_owned();
    if !(1..=CONSENT_LIMIT).contains(&consent.chars().count()) {
        errors.add(
            "consent",
            "同意の日付と方法を100文字以内で入力してください。",
        );
    }
    let manager = find(&app, &form.manager).await?;
    if manager.is_none() {
        errors.add("manager", "まとめて管理する事業所の番号をご確認ください。");
    }
    let mut clients = Vec::new();
    let typed = form
        .clients
        .split(|c: char| c.is_whitespace() || ",、，".contains(c));
    for number in typed
        .filter(|number| !number.is_empty())
        .take(CLIENTS_LIMIT)
    {
        match find(&app, number).await? {
            Some(party) if manager.as_ref() == Some(&party) => {
                errors.add(
                    "clients",
                    format!("{number}は、まとめて管理する事業所です。"),
                );
            }
            Some(party) => clients.push(party),
            None => errors.add(
                "clients",
                format!("事業所番号「{number}」が見つかりません。"),
            ),
        }
    }
    if clients.is_empty() && errors.on("clients").is_empty() {
        errors.add("clients", "管理される事業所の番号を入力してください。");
    }
    let Some(manager) = manager.filter(|_| errors.is_empty()) else {
        return render(&app, reviewer.staff(), form, String::new(), errors, now).await;
    };
    let mut tx = app.db.begin().await?;
    let actor = reviewer.actor();
    for client in &clients {
        let id = DelegationId::new();
        let who = (client.id, client.number);
        let by = actor.name_for_rows();
        store::close_over(&mut tx, client.number, manager.id, now).await?;
        match store::add_to_group(&mut tx, id, who, manager.id, &by, &consent, now).await {
            Ok(()) => {}
            Err(error) if error.is_unique_violation() => {
                drop(tx);
                let sentence = DelegationError::InGroup.page_text().unwrap_or_default();
                let sentence = format!("{} {}：{sentence}", client.number, client.name);
                errors.add("clients", sentence);
                return render(&app, reviewer.staff(), form, String::new(), errors, now).await;
            }
            Err(error) => return Err(error.into()),
        }
        news::tell(&mut tx, &app, client.id, News::DelegationAccepted, now).await?;
        let details = serde_json::json!({
            "client": client.id.to_string(),
            "delegate": manager.id.to_string(),
        });
        let act = Act::GroupJoined(id);
        audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;
    }
    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(Redirect::to("/delegations").into_response())
}

async fn find(app: &App, typed: &str) -> Result<Option<Party>, PageError> {
    match typed.trim().parse() {
        Ok(number) => Ok(store::party(&app.db, EstablishmentKind::Employer, number).await?),
        Err(_) => Ok(None),
    }
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /delegations/{id}/end`
async fn end(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let mut tx = app.db.begin().await?;
    super::end(&mut tx, &app, &reviewer.actor(), id, None, now)
        .await
        .map_err(super::agreement::refused)?;
    Db::commit(tx).await?;
    app.signals.sessions_changed();
    app.signals.mail_queued();
    Ok(Redirect::to("/delegations"))
}
