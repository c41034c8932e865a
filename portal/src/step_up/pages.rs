//! The page that asks for a code, alone or in front of a form that came too late.

use askama::Template;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderMap, Method, StatusCode, header};
use serde::Deserialize;
use time::OffsetDateTime;

use super::{Who, is_fresh, send_code, take_code, take_passkey};
use crate::app::App;
use crate::web::forms::{self, FORM_LIMIT_BYTES, FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::{FactorAsked, PageError};
use crate::web::page_with;
use crate::web::principals::{Member, OfficeConnection, Staff};
use crate::web::router::Routes;

/// Where somebody is sent who opens a page too late.
pub(crate) const PATH: &str = "/step-up";
/// The fields of our own in a form that is kept.
const CODE: &str = "step_up_code";
const ACTION: &str = "step_up_action";
const ANSWER: &str = "step_up_answer";
/// Longest address that is led back to, in bytes.
const NEXT_LIMIT_BYTES: usize = 2048;
/// Fields of a form that is kept, at most.
const FIELDS_LIMIT: usize = 1_000;

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Member, _, _>(Method::GET, PATH, show_member)
        .allow::<Member, _, _>(Method::POST, PATH, answer_member)
}

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Staff, _, _>(Method::GET, PATH, show_staff)
        .allow::<Staff, _, _>(Method::POST, PATH, answer_staff)
}

#[derive(Template)]
#[template(path = "step_up_member.html")]
struct MemberPage {
    layout: Layout,
    ask: Ask,
}

#[derive(Template)]
#[template(path = "step_up_office.html")]
struct StaffPage {
    layout: Layout,
    ask: Ask,
}

/// What both pages show.
struct Ask {
    /// Where the form goes.
    action: String,
    /// What goes along: the token, and where to go back or what was typed.
    hidden: Vec<(String, String)>,
    by_mail: bool,
    /// Whether a passkey may be shown instead.
    passkey: bool,
    sent: bool,
    errors: FieldErrors,
}

#[derive(Deserialize)]
struct NextQuery {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Action {
    Check,
    Send,
    Passkey,
}

#[derive(Deserialize)]
struct CodeForm {
    #[serde(default)]
    next: String,
    #[serde(default)]
    step_up_code: String,
    #[serde(default)]
    step_up_answer: String,
    step_up_action: Action,
}

/// `GET /step-up`, for members.
async fn show_member(
    member: Member,
    State(app): State<App>,
    Query(query): Query<NextQuery>,
) -> Result<Response, PageError> {
    show(&app, &Who::Member(Box::new(member)), &query.next).await
}

/// `GET /step-up`, for staff.
async fn show_staff(
    staff: Staff,
    office: axum::Extension<OfficeConnection>,
    State(app): State<App>,
    Query(query): Query<NextQuery>,
) -> Result<Response, PageError> {
    show(&app, &Who::Staff(Box::new(staff), office.0), &query.next).await
}

async fn show(app: &App, who: &Who, next: &str) -> Result<Response, PageError> {
    let now = app.clock.now();
    if is_fresh(who.factor_shown(), now) {
        return Ok(Redirect::to(safe_next(next)).into_response());
    }
    let ask = ask_alone(app, who, next, false, FieldErrors::default()).await?;
    render(app, who, ask, StatusCode::OK, now)
}

/// `POST /step-up`, by members.
async fn answer_member(
    member: Member,
    State(app): State<App>,
    Verified(form): Verified<CodeForm>,
) -> Result<Response, PageError> {
    answer(&app, &Who::Member(Box::new(member)), form).await
}

/// `POST /step-up`, by staff.
async fn answer_staff(
    staff: Staff,
    office: axum::Extension<OfficeConnection>,
    State(app): State<App>,
    Verified(form): Verified<CodeForm>,
) -> Result<Response, PageError> {
    answer(&app, &Who::Staff(Box::new(staff), office.0), form).await
}

async fn answer(app: &App, who: &Who, form: CodeForm) -> Result<Response, PageError> {
    let now = app.clock.now();
    let typed = match form.step_up_action {
        Action::Passkey => &form.step_up_answer,
        Action::Check | Action::Send => &form.step_up_code,
    };
    let (sent, wrong) = act(app, who, form.step_up_action, typed, now).await?;
    if !sent && wrong.is_none() {
        return Ok(Redirect::to(safe_next(&form.next)).into_response());
    }
    let (status, errors) = told(wrong);
    let ask = ask_alone(app, who, &form.next, sent, errors).await?;
    render(app, who, ask, status, now)
}

/// Does what the button says: whether a code was sent, and what is wrong.
async fn act(
    app: &App,
    who: &Who,
    action: Action,
    typed: &str,
    now: OffsetDateTime,
) -> Result<(bool, Option<String>), PageError> {
    Ok(match action {
        Action::Check => (false, take_code(app, who, typed, now).await?),
        Action::Passkey => (false, take_passkey(app, who, typed, now).await?),
        Action::Send => {
            let refused = send_code(app, who, now).await?;
            (refused.is_none(), refused)
        }
    })
}

fn told(wrong: Option<String>) -> (StatusCode, FieldErrors) {
    match wrong {
        Some(sentence) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            FieldErrors::of_one(CODE, sentence),
        ),
        None => (StatusCode::OK, FieldErrors::default()),
    }
}

async fn ask_alone(
    app: &App,
    who: &Who,
    next: &str,
    sent: bool,
    errors: FieldErrors,
) -> Result<Ask, PageError> {
    Ok(Ask {
        action: PATH.to_owned(),
        hidden: vec![
            ("csrf".to_owned(), who.csrf().to_owned()),
            ("next".to_owned(), safe_next(next).to_owned()),
        ],
        by_mail: who.uses_mail(app).await?,
        passkey: who.has_passkey(app).await?,
        sent,
        errors,
    })
}

fn render(
    app: &App,
    who: &Who,
    ask: Ask,
    status: StatusCode,
    now: OffsetDateTime,
) -> Result<Response, PageError> {
    Ok(match who {
        Who::Member(member) => {
            let layout = Layout::member_without_menu(app, member, now);
            page_with(status, &MemberPage { layout, ask })?.into_response()
        }
        Who::Staff(staff, _) => {
            let layout = Layout {
                menu: Vec::new(),
                ..Layout::office(app, staff, OfficePage::Review)
            };
            page_with(status, &StaffPage { layout, ask })?.into_response()
        }
    })
}

/// A path of ours; anything else leads home.
pub(crate) fn safe_next(next: &str) -> &str {
    let path = next.starts_with('/') && !next.starts_with("//") && next.len() <= NEXT_LIMIT_BYTES;
    let plain = next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    // The page that asks does not lead to itself.
    if path && plain && !next.starts_with(PATH) {
        next
    } else {
        "/"
    }
}

impl Who {
    fn factor_shown(&self) -> OffsetDateTime {
        match self {
            Self::Member(member) => member.factor_shown(),
            Self::Staff(staff, _) => staff.factor_shown(),
        }
    }

    fn csrf(&self) -> &str {
        match self {
            Self::Member(member) => member.csrf(),
            Self::Staff(staff, _) => staff.csrf(),
        }
    }
}

/// Stands before every route of a fresh principal: a form that comes too late is kept on the
/// page that asks for a code, and goes on from there.
pub(crate) async fn keep_form(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !is_form(request.headers()) {
        return next.run(request).await;
    }
    match keep(&app, request, next).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn keep(app: &App, request: Request, next: Next) -> Result<Response, PageError> {
    let (mut parts, body) = request.into_parts();
    // The guard says why to whom.
    let Ok(who) = Who::of(&mut parts, app).await else {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let body = axum::body::to_bytes(body, FORM_LIMIT_BYTES)
        .await
        .map_err(|_| PageError::TooLarge)?;
    let mut fields: Vec<(String, String)> = serde_urlencoded::from_bytes(&body)
        .map_err(|error| PageError::BadForm(error.to_string()))?;
    if fields.len() > FIELDS_LIMIT {
        return Err(PageError::TooLarge);
    }
    let now = app.clock.now();
    let ours = fields.iter().any(|(name, _)| name == ACTION);
    let mut errors = FieldErrors::default();
    let (mut status, mut sent) = (StatusCode::OK, false);
    let mut body = body;
    if ours {
        forms::check_fields(app, &parts, &fields)?;
        let (code, action) = take_own(&mut fields)?;
        let wrong;
        (sent, wrong) = act(app, &who, action, &code, now).await?;
        (status, errors) = told(wrong);
        if !sent && errors.is_empty() {
            // They know the older moment.
            parts.extensions.remove::<Member>();
            parts.extensions.remove::<Staff>();
        }
        body = serde_urlencoded::to_string(&fields)
            .map_err(PageError::doing("write a form anew"))?
            .into();
    }
    if errors.is_empty() && !sent {
        parts.headers.remove(header::CONTENT_LENGTH);
        let again = Request::from_parts(clone_of(&parts), Body::from(body));
        let response = next.run(again).await;
        if response.extensions().get::<FactorAsked>().is_none() {
            return Ok(response);
        }
        // What another site sent is not kept on a page of ours.
        forms::check_fields(app, &parts, &fields)?;
    }
    let ask = Ask {
        action: parts.uri.path().to_owned(),
        hidden: fields,
        by_mail: who.uses_mail(app).await?,
        passkey: who.has_passkey(app).await?,
        sent,
        errors,
    };
    render(app, &who, ask, status, now)
}

/// Takes our own fields out of a form: what was shown, and how.
fn take_own(fields: &mut Vec<(String, String)>) -> Result<(String, Action), PageError> {
    let bad = || PageError::BadForm("step-up fields".to_owned());
    let value = |name: &str| {
        let found = fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let action = match value(ACTION).as_deref() {
        Some("check") => Action::Check,
        Some("send") => Action::Send,
        Some("passkey") => Action::Passkey,
        Some(_) | None => return Err(bad()),
    };
    let shown = match action {
        Action::Passkey => value(ANSWER).unwrap_or_default(),
        Action::Check | Action::Send => value(CODE).unwrap_or_default(),
    };
    fields.retain(|(name, _)| ![CODE, ACTION, ANSWER].contains(&name.as_str()));
    Ok((shown, action))
}

/// The head of a request once more.
fn clone_of(parts: &http::request::Parts) -> http::request::Parts {
    let mut copy = Request::new(()).into_parts().0;
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.version = parts.version;
    copy.headers = parts.headers.clone();
    copy.extensions = parts.extensions.clone();
    copy
}

fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
}
