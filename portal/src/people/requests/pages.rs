//! The pages of requests: the admin's 増設届, and the office's list 申出.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::{DecideError, Decision, Request, TEXT_LIMIT, Wish, store};
use crate::app::App;
use crate::db::Db;
use crate::establishments::{self, DeviceLimit, FieldError};
use crate::ids::RowId;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, MemberPage, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::{EstablishmentAdmin, Reviewer, Staff};
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<EstablishmentAdmin, _, _>(Method::GET, "/users/more-pcs", more_pcs)
        .allow::<EstablishmentAdmin, _, _>(Method::POST, "/users/more-pcs", ask_more_pcs)
}

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Staff, _, _>(Method::GET, "/requests", list)
        .allow::<Reviewer, _, _>(Method::POST, "/requests/{id}/approve", approve)
        .allow::<Reviewer, _, _>(Method::POST, "/requests/{id}/refuse", refuse)
}

/// A request in words.
pub struct RequestRow {
    id: String,
    establishment_id: String,
    number: String,
    establishment: String,
    device_limit: i64,
    user: String,
    title: &'static str,
    wanted: String,
    reason: String,
    asked: String,
    state: (&'static str, String),
    answer: String,
    /// What is wrong with the answer that was typed.
    bad: String,
}

impl RequestRow {
    fn of(request: Request) -> Self {
        let state = match (request.decision, request.decided) {
            (Some(decision), Some(at)) => (
                match decision {
                    Decision::Approved => "success",
                    Decision::Refused => "neutral",
                },
                format!("{}（{}）", decision.page_text(), dates::day(at)),
            ),
            (_, _) => ("info", "確認待ち".to_owned()),
        };
        Self {
            id: request.id.to_string(),
            establishment_id: request.establishment.to_string(),
            number: request.number.to_string(),
            establishment: request.establishment_name,
            device_limit: request.device_limit,
            user: request.user_name,
            title: request.wish.title(),
            wanted: request.wish.page_text(),
            reason: request.reason,
            asked: dates::moment(request.asked),
            state,
            answer: request.answer,
            bad: String::new(),
        }
    }
}

#[derive(Deserialize, Default)]
struct MoreForm {
    wanted: String,
    reason: String,
}

#[derive(Template)]
#[template(path = "more_pcs.html")]
struct MorePage {
    layout: Layout,
    limit: i64,
    done: &'static str,
    requests: Vec<RequestRow>,
    form: MoreForm,
    errors: FieldErrors,
}

#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

async fn more_page(
    app: &App,
    admin: &EstablishmentAdmin,
    form: MoreForm,
    errors: FieldErrors,
    done: &'static str,
) -> Result<MorePage, PageError> {
    let member = admin.member();
    let establishment = establishments::store::find(&app.db, member.establishment())
        .await?
        .ok_or(PageError::NotFound)?;
    let requests = store::of_establishment(&app.db, member).await?;
    Ok(MorePage {
        layout: Layout::member(app, member, MemberPage::People, app.clock.now()),
        limit: establishment.device_limit,
        done,
        requests: requests.into_iter().map(RequestRow::of).collect(),
        form,
        errors,
    })
}

/// `GET /users/more-pcs`
async fn more_pcs(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Html<String>, PageError> {
    let done = match done.done.as_deref() {
        Some("asked") => {
            "増設届を基金事務局へ送りました。結果は、メールと下の一覧でお知らせします。"
        }
        Some(_) | None => "",
    };
    let (form, errors) = (MoreForm::default(), FieldErrors::default());
    page(&more_page(&app, &admin, form, errors, done).await?)
}

/// `POST /users/more-pcs`
async fn ask_more_pcs(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Verified(form): Verified<MoreForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let member = admin.member();
    let mut errors = FieldErrors::default();
    let limit = crate::one_time_codes::digits(&form.wanted)
        .parse()
        .map_err(|_| FieldError::DeviceLimit)
        .and_then(DeviceLimit::new)
        .map_err(|error| errors.add("wanted", error.page_text()));
    let reason = form.reason.trim();
    if !(1..=TEXT_LIMIT).contains(&reason.chars().count()) {
        errors.add(
            "reason",
            format!("増設する理由を{TEXT_LIMIT}文字以内で入力してください。"),
        );
    }
    let establishment = establishments::store::find(&app.db, member.establishment())
        .await?
        .ok_or(PageError::NotFound)?;
    if let Ok(limit) = limit {
        if i64::from(limit.as_u16()) <= establishment.device_limit {
            let now = establishment.device_limit;
            errors.add(
                "wanted",
                format!("いまの上限（{now}台）より多い台数を入力してください。"),
            );
        } else if errors.is_empty() {
            let mut tx = app.db.begin().await?;
            super::ask(
                &mut tx,
                &app,
                member,
                &Wish::DeviceLimit(limit),
                reason,
                now,
            )
            .await?;
            Db::commit(tx).await?;
            return Ok(Redirect::to("/users/more-pcs?done=asked").into_response());
        }
    }
    let page = more_page(&app, &admin, form, errors, "").await?;
    Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response())
}

#[derive(Template)]
#[template(path = "requests.html")]
struct ListPage {
    layout: Layout,
    open: Vec<RequestRow>,
    decided: Vec<RequestRow>,
    may_change: bool,
    done: &'static str,
    errors: FieldErrors,
}

async fn list_page(
    app: &App,
    staff: &Staff,
    done: &'static str,
    wrong: Option<(String, String)>,
    errors: FieldErrors,
) -> Result<ListPage, PageError> {
    let rows = |requests: Vec<Request>| -> Vec<RequestRow> {
        requests.into_iter().map(RequestRow::of).collect()
    };
    let mut open = rows(store::open(&app.db).await?);
    if let Some((id, typed)) = wrong
        && let Some(row) = open.iter_mut().find(|row| row.id == id)
    {
        row.answer = typed;
        row.bad = errors.on("answer").to_owned();
    }
    Ok(ListPage {
        layout: Layout::office(app, staff, OfficePage::Establishments),
        open,
        decided: rows(store::decided(&app.db).await?),
        may_change: staff.may_decide(),
        done,
        errors,
    })
}

/// `GET /requests`
async fn list(
    staff: Staff,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Html<String>, PageError> {
    let done = match done.done.as_deref() {
        Some("approved") => "申出のとおりに変更しました。事業所の管理者にメールでお知らせします。",
        Some("refused") => "申出を見送りました。事業所の管理者にメールでお知らせします。",
        Some(_) | None => "",
    };
    page(&list_page(&app, &staff, done, None, FieldErrors::default()).await?)
}

#[derive(Deserialize)]
struct AnswerForm {
    #[serde(default)]
    answer: String,
}

/// `POST /requests/{id}/approve`
async fn approve(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<AnswerForm>,
) -> Result<Response, PageError> {
    decide(reviewer, app, &id, Decision::Approved, form.answer).await
}

/// `POST /requests/{id}/refuse`
async fn refuse(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<AnswerForm>,
) -> Result<Response, PageError> {
    decide(reviewer, app, &id, Decision::Refused, form.answer).await
}

async fn decide(
    reviewer: Reviewer,
    app: App,
    id: &str,
    decision: Decision,
    answer: String,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let request: RowId = id.parse().map_err(|_| PageError::NotFound)?;
    let mut tx = app.db.begin().await?;
    let decided = super::decide(&mut tx, &app, &reviewer, request, decision, &answer, now).await;
    match decided {
        Ok(()) => {}
        Err(error @ (DecideError::NoAnswer | DecideError::TooLong)) => {
            drop(tx);
            let sentence = error.page_text().unwrap_or_default();
            let (wrong, errors) = (
                (id.to_owned(), answer),
                FieldErrors::of_one("answer", sentence),
            );
            let page = list_page(&app, reviewer.staff(), "", Some(wrong), errors).await?;
            return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
        }
        Err(error @ DecideError::NotOpen(_)) => {
            return Err(PageError::Refused(error.page_text().unwrap_or_default()));
        }
        Err(DecideError::Store(error)) => return Err(error.into()),
    }
    Db::commit(tx).await?;
    app.signals.mail_queued();
    let done = decision.as_str();
    Ok(Redirect::to(&format!("/requests?done={done}")).into_response())
}
