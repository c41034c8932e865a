//! 代理の設定: an establishment's admin and a sharoushi's office agree on a delegation.
//!
//! Both sides have the same page at the same address, each with its own words. Proposing and
//! accepting ask for a fresh second factor, ending does not: it must be quick.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use time::macros::format_description;
use time::{Date, Month, OffsetDateTime};

use super::store::{self, Line, Party};
use super::{Basis, DelegationError, EstablishmentKind, Procedures, Proposal, Scope, Side};
use crate::app::App;
use crate::db::Db;
use crate::filings::kinds::Procedure;
use crate::ids::DelegationId;
use crate::permissions::{Permission, Permissions};
use crate::sign_in::typed_user_id;
use crate::step_up::Fresh;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, MemberPage};
use crate::web::page_error::PageError;
use crate::web::principals::{EstablishmentAdmin, Member};
use crate::web::router::Routes;
use crate::web::{dates, page_with};

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<EstablishmentAdmin, _, _>(Method::GET, "/delegations", show)
        .allow::<Fresh<EstablishmentAdmin>, _, _>(Method::GET, "/delegations/new", new)
        .allow::<Fresh<EstablishmentAdmin>, _, _>(Method::POST, "/delegations/new", propose)
        .allow::<Fresh<EstablishmentAdmin>, _, _>(Method::POST, "/delegations/{id}/accept", accept)
        .allow::<EstablishmentAdmin, _, _>(Method::POST, "/delegations/{id}/end", end)
}

#[derive(Template)]
#[template(path = "delegations.html")]
struct ListPage {
    layout: Layout,
    is_office: bool,
    waiting: Vec<Row>,
    standing: Vec<Row>,
}

struct Row {
    id: DelegationId,
    number: String,
    name: String,
    permissions: String,
    procedures: String,
    ends: String,
    waits_until: String,
    /// Whether this side is the one to answer.
    to_answer: bool,
    is_group: bool,
}

fn side_of(member: &Member) -> Side {
    match member.home_kind() {
        EstablishmentKind::Employer => Side::Client,
        EstablishmentKind::Sharoushi => Side::Delegate,
    }
}

fn row(line: Line, side: Side) -> Row {
    let (number, name) = match side {
        Side::Client => line.delegate,
        Side::Delegate => line.client,
    };
    Row {
        id: line.id,
        number: number.to_string(),
        name,
        permissions: line.scope.permissions.page_text(),
        procedures: line.scope.procedures.page_text(),
        ends: match line.scope.ends {
            // The end is the first moment that is too late.
            Some(ends) => dates::day(ends - time::Duration::SECOND),
            None => "期限なし".to_owned(),
        },
        waits_until: dates::day(line.waits_until),
        to_answer: line.proposed_by != side,
        is_group: line.basis == Basis::Group,
    }
}

/// `GET /delegations`
async fn show(admin: EstablishmentAdmin, State(app): State<App>) -> Result<Response, PageError> {
    let now = app.clock.now();
    let member = admin.member();
    let side = side_of(member);
    let lines = store::of(&app.db, member.home_establishment(), side, now).await?;
    let (standing, waiting): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| line.accepted.is_some());
    let rows = |lines: Vec<Line>| lines.into_iter().map(|line| row(line, side)).collect();
    let page = ListPage {
        layout: Layout::member(&app, member, MemberPage::Delegations, now),
        is_office: side == Side::Delegate,
        waiting: rows(waiting),
        standing: rows(standing),
    };
    Ok(page_with(StatusCode::OK, &page)?.into_response())
}

/// What stands in the form. Boxes that are not ticked are missing.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ProposeForm {
    partner: String,
    last_day: String,
    file: Option<String>,
    fetch: Option<String>,
    history: Option<String>,
    membership: Option<String>,
    record: Option<String>,
    salary: Option<String>,
    establishment: Option<String>,
    /// The number of the office that was shown by name and confirmed.
    confirmed: String,
}

struct Choice {
    name: &'static str,
    label: &'static str,
    ticked: bool,
}

#[derive(Template)]
#[template(path = "delegation_new.html")]
struct NewPage {
    layout: Layout,
    is_office: bool,
    partner: String,
    last_day: String,
    permissions: Vec<Choice>,
    procedures: Vec<Choice>,
    /// The office that a proposal would go to, to be confirmed.
    found: Option<(String, String)>,
    errors: FieldErrors,
}

impl ProposeForm {
    fn ticked(&self, name: &str) -> bool {
        match name {
            "file" => self.file.is_some(),
            "fetch" => self.fetch.is_some(),
            "history" => self.history.is_some(),
            "membership" => self.membership.is_some(),
            "record" => self.record.is_some(),
            "salary" => self.salary.is_some(),
            "establishment" => self.establishment.is_some(),
            _ => false,
        }
    }

    /// What a new form begins with: everything, until the end of the business year.
    fn first(now: OffsetDateTime) -> Self {
        let on = || Some("on".to_owned());
        Self {
            last_day: end_of_year(now).to_string(),
            file: on(),
            fetch: on(),
            history: on(),
            membership: on(),
            record: on(),
            salary: on(),
            establishment: on(),
            ..Self::default()
        }
    }

    fn scope(&self, now: OffsetDateTime, errors: &mut FieldErrors) -> Option<Scope> {
        let permissions: Permissions = Permission::ALL
            .into_iter()
            .filter(|permission| self.ticked(permission.as_str()))
            .collect();
        if permissions.is_none() {
            errors.add("file", "任せる手続きを1つ以上選んでください。");
        }
        let chosen: Vec<Procedure> = Procedure::ALL
            .into_iter()
            .filter(|group| self.ticked(group.code()))
            .collect();
        let needs = permissions.allow(Permission::File) || permissions.allow(Permission::History);
        let procedures = match Procedures::only(chosen) {
            Some(procedures) => Some(procedures),
            None if needs => {
                errors.add("membership", "届書の種類を1つ以上選んでください。");
                None
            }
            None => Some(Procedures::all()),
        };
        let day = format_description!("[year]-[month]-[day]");
        let ends = Date::parse(self.last_day.trim(), day)
            .ok()
            .and_then(|day| super::end_of(day, now));
        if ends.is_none() {
            errors.add(
                "last_day",
                "最後の日は、今日から3年以内の日付を入力してください。",
            );
        }
        (!permissions.is_none()).then_some(Scope {
            permissions,
            procedures: procedures?,
            ends: Some(ends?),
        })
    }
}

/// The coming 31 March.
fn end_of_year(now: OffsetDateTime) -> Date {
    let today = now.to_offset(access::JST).date();
    let this = Date::from_calendar_date(today.year(), Month::March, 31).unwrap_or(today);
    if today <= this {
        this
    } else {
        Date::from_calendar_date(today.year() + 1, Month::March, 31).unwrap_or(today)
    }
}

fn new_page(
    app: &App,
    member: &Member,
    form: &ProposeForm,
    found: Option<Party>,
    errors: FieldErrors,
) -> NewPage {
    let choice = |name, label| Choice {
        name,
        label,
        ticked: form.ticked(name),
    };
    NewPage {
        layout: Layout::member(app, member, MemberPage::Delegations, app.clock.now()),
        is_office: side_of(member) == Side::Delegate,
        partner: form.partner.clone(),
        last_day: form.last_day.clone(),
        permissions: Permission::ALL
            .map(|permission| choice(permission.as_str(), permission.page_text()))
            .into(),
        procedures: Procedure::ALL
            .map(|group| choice(group.code(), group.label()))
            .into(),
        found: found.map(|party| (party.number.to_string(), party.name)),
        errors,
    }
}

/// `GET /delegations/new`
async fn new(
    admin: Fresh<EstablishmentAdmin>,
    State(app): State<App>,
) -> Result<Response, PageError> {
    let form = ProposeForm::first(app.clock.now());
    let page = new_page(&app, admin.member(), &form, None, FieldErrors::default());
    Ok(page_with(StatusCode::OK, &page)?.into_response())
}

/// `POST /delegations/new`
async fn propose(
    admin: Fresh<EstablishmentAdmin>,
    State(app): State<App>,
    Verified(form): Verified<ProposeForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let member = admin.member();
    let mut errors = FieldErrors::default();
    let scope = form.scope(now, &mut errors);
    let side = side_of(member);
    let mut found = None;
    let proposal = match side {
        Side::Client => {
            found = find_office(&app, &form.partner).await?;
            if found.is_none() {
                errors.add(
                    "partner",
                    "該当する社労士事務所が見つかりません。事務所番号またはユーザーIDをご確認ください。",
                );
            }
            scope.zip(found.clone()).map(|(scope, office)| Proposal {
                client_number: member.home_number(),
                client: Some(member.home_establishment()),
                delegate: office.id,
                side,
                scope,
            })
        }
        Side::Delegate => {
            let number = form.partner.trim().parse();
            if number.is_err() {
                errors.add(
                    "partner",
                    "事業所番号は1から9999までの数字で入力してください。",
                );
            }
            let client = match number {
                Ok(number) => store::party(&app.db, EstablishmentKind::Employer, number).await?,
                Err(_) => None,
            };
            scope.zip(number.ok()).map(|(scope, number)| Proposal {
                client_number: number,
                client: client.map(|client| client.id),
                delegate: member.home_establishment(),
                side,
                scope,
            })
        }
    };
    let Some(proposal) = proposal else {
        let page = new_page(&app, member, &form, None, errors);
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    };
    // An office is shown by its name before anything is sent to it.
    if let Some(office) = &found
        && form.confirmed != office.number.to_string()
    {
        let page = new_page(&app, member, &form, found, errors);
        return Ok(page_with(StatusCode::OK, &page)?.into_response());
    }
    let mut tx = app.db.begin().await?;
    match super::propose(&mut tx, &app, member, &proposal, now).await {
        Ok(_) => {}
        Err(DelegationError::Store(error)) => return Err(error.into()),
        Err(error) => {
            drop(tx);
            errors.add("partner", error.page_text().unwrap_or_default());
            let page = new_page(&app, member, &form, None, errors);
            return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
        }
    }
    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(Redirect::to("/delegations").into_response())
}

async fn find_office(app: &App, typed: &str) -> Result<Option<Party>, PageError> {
    if let Ok(number) = typed.trim().parse() {
        let found = store::party(&app.db, EstablishmentKind::Sharoushi, number).await?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(store::office_of_user(&app.db, &typed_user_id(typed)).await?)
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /delegations/{id}/accept`
async fn accept(
    admin: Fresh<EstablishmentAdmin>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let mut tx = app.db.begin().await?;
    super::accept(&mut tx, &app, admin.member(), id, now)
        .await
        .map_err(refused)?;
    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(Redirect::to("/delegations"))
}

/// `POST /delegations/{id}/end`
async fn end(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let member = admin.member();
    let own = Some(member.home_establishment());
    let mut tx = app.db.begin().await?;
    super::end(&mut tx, &app, &member.actor(), id, own, now)
        .await
        .map_err(refused)?;
    Db::commit(tx).await?;
    app.signals.sessions_changed();
    app.signals.mail_queued();
    Ok(Redirect::to("/delegations"))
}

/// What is not one's own, and what is over, does not exist.
pub(super) fn refused(error: DelegationError) -> PageError {
    match error {
        DelegationError::TooLate => PageError::NotFound,
        DelegationError::Store(error) => error.into(),
        error @ (DelegationError::ThereAlready
        | DelegationError::TooMany
        | DelegationError::InGroup) => {
            PageError::Refused(error.page_text().unwrap_or_default().to_owned())
        }
    }
}
