//! The pages: what every feature's pages share, and the two routers.
//!
//! Features contribute `member_routes` and `office_routes` (recipe in [`router`]). Handlers
//! read like receipts: principal, `now`, transaction, find, decide, save, audit, commit,
//! answer with [`page`] or a redirect. Pages are askama templates that extend `member.html`
//! or `office.html` and use the macros of `parts.html`.

pub mod assets;
pub mod body;
pub mod dates;
pub mod download;
pub mod export;
pub mod forms;
mod home;
pub mod layout;
pub mod page_error;
pub mod paging;
pub mod principals;
pub mod router;
pub mod sessions;

use askama::Template;
use axum::Router;
use axum::extract::FromRequestParts as _;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{Html, IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::app::App;
use crate::sign_in::{office, pages};
use crate::{
    agent_updates, announcements, approvals, batches, calendar, delegations, devices,
    establishments, filings, first_steps, help, history, inquiries, notices, paper, passkeys,
    people, quarantine, receipts, records, registrations, reminders, reports, retention, review,
    settings, staff, step_up, tasks, uploads,
};
use layout::Side;
use page_error::PageError;
use principals::{OfficeVisitor, SESSION_COOKIE, VISIT_COOKIE, Visitor};
use router::{Route, Routes};

/// What a page may load: its own files, nothing inline, nothing from elsewhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
     img-src 'self'; font-src 'self'; connect-src 'self'; form-action 'self'; frame-src 'self'; \
     object-src 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The pages for establishments, reached only through tunnels. Requests carry a
/// [`TunnelConnection`].
pub fn member_router(app: App) -> Router {
    finish(member_routes(Routes::new(app.clone())), app, Side::Member).0
}

/// The pages for fund staff. Requests carry an [`OfficeConnection`].
pub fn office_router(app: App) -> Router {
    finish(office_routes(Routes::new(app.clone())), app, Side::Office).0
}

/// Every route of both sides, with whom it lets in.
pub fn route_table(app: App) -> Vec<(Side, Route)> {
    let members = member_routes(Routes::new(app.clone())).finish().1;
    let office = office_routes(Routes::new(app)).finish().1;
    let members = members.into_iter().map(|route| (Side::Member, route));
    let office = office.into_iter().map(|route| (Side::Office, route));
    members.chain(office).collect()
}

fn member_routes(routes: Routes) -> Routes {
    routes
        .with(assets::routes)
        .with(agent_updates::member_routes)
        .with(pages::member_routes)
        .with(step_up::member_routes)
        .with(settings::pages::member_routes)
        .with(passkeys::pages::member_routes)
        .with(people::pages::member_routes)
        .with(delegations::agreement_routes)
        .with(delegations::desk_routes)
        .with(people::handover::pages::member_routes)
        .with(people::requests::pages::member_routes)
        .with(first_steps::pages::member_routes)
        .with(home::member_routes)
        .with(uploads::pages::member_routes)
        .with(filings::pages::member_routes)
        .with(review::member::member_routes)
        .with(reminders::pages::member_routes)
        .with(paper::pages::member_routes)
        .with(receipts::pages::member_routes)
        .with(notices::pages::member_routes)
        .with(records::pages::member_routes)
        .with(history::pages::member_routes)
        .with(announcements::pages::member_routes)
        .with(inquiries::pages::member_routes)
        .with(help::pages::member_routes)
}

fn office_routes(routes: Routes) -> Routes {
    routes
        .with(assets::routes)
        .with(office::office_routes)
        .with(staff::pages::office_routes)
        .with(step_up::office_routes)
        .with(establishments::pages::office_routes)
        .with(people::requests::pages::office_routes)
        .with(first_steps::pages::office_routes)
        .with(registrations::pages::office_routes)
        .with(devices::pages::office_routes)
        .with(calendar::pages::office_routes)
        .with(approvals::office_routes)
        .with(delegations::office_routes)
        .with(staff::password_pages::office_routes)
        .with(passkeys::office::office_routes)
        .with(filings::kinds::pages::office_routes)
        .with(receipts::pages::office_routes)
        .with(quarantine::pages::office_routes)
        .with(home::office_routes)
        .with(review::pages::office_routes)
        .with(paper::office::office_routes)
        .with(notices::pages::office_routes)
        .with(batches::pages::office_routes)
        .with(records::pages::office_routes)
        .with(retention::pages::office_routes)
        .with(history::pages::office_routes)
        .with(announcements::pages::office_routes)
        .with(inquiries::pages::office_routes)
        .with(tasks::pages::office_routes)
        .with(reports::pages::office_routes)
        .with(help::pages::office_routes)
}

/// Every route of the member listener, for tests that walk them all.
#[cfg(test)]
pub(crate) fn member_table(app: &App) -> Vec<Route> {
    member_routes(Routes::new(app.clone())).finish().1
}

pub(crate) fn finish(routes: Routes, app: App, side: Side) -> (Router, Vec<Route>) {
    let (router, table) = routes.finish();
    let router = router
        .fallback(|| async { PageError::NotFound })
        .method_not_allowed_fallback(|| async { PageError::NotFound })
        .layer(from_fn_with_state((app.clone(), side), page_error::dress))
        .layer(map_response(protect))
        .with_state(app);
    (router, table)
}

/// Renders a page.
pub fn page(template: &impl Template) -> Result<Html<String>, PageError> {
    template
        .render()
        .map(Html)
        .map_err(PageError::doing("render a page"))
}

/// Renders a page that answers with another status than 200, as a form with errors does.
pub fn page_with(
    status: StatusCode,
    template: &impl Template,
) -> Result<(StatusCode, Html<String>), PageError> {
    Ok((status, page(template)?))
}

/// The cookie of a web session that just began.
pub fn session_cookie(token: &str) -> (HeaderName, HeaderValue) {
    cookie(SESSION_COOKIE, token, "")
}

/// Removes the cookie of a web session that just ended.
pub fn no_session_cookie() -> (HeaderName, HeaderValue) {
    cookie(SESSION_COOKIE, "", "; Max-Age=0")
}

/// The cookie that binds the office's sign-in form to a browser.
pub fn visit_cookie(visit: &str) -> (HeaderName, HeaderValue) {
    cookie(VISIT_COOKIE, visit, "")
}

fn cookie(name: &str, value: &str, more: &str) -> (HeaderName, HeaderValue) {
    let cookie = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict{more}");
    let cookie = HeaderValue::try_from(cookie).unwrap_or_else(|_| HeaderValue::from_static(""));
    (header::SET_COOKIE, cookie)
}

/// Puts the protective headers on every answer. A handler's own value stays.
async fn protect(mut response: Response) -> Response {
    const HEADERS: [(&str, &str); 7] = [
        ("content-security-policy", CONTENT_SECURITY_POLICY),
        ("cache-control", "no-store"),
        ("strict-transport-security", "max-age=31536000"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ];
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in HEADERS {
        headers
            .entry(HeaderName::from_static(name))
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Opens the page once more. A link on another site, such as the agent's page, brings a
/// browser here without the session's cookie, which is `SameSite=Strict`; from a page of
/// our own the cookie comes along.
#[derive(Template)]
#[template(path = "once_more.html")]
struct OnceMore<'a> {
    path: &'a str,
    mark: &'static str,
}

impl<'a> OnceMore<'a> {
    /// What the second address carries, so that there is no third.
    const MARK: &'static str = "again=1";

    fn for_link_from_elsewhere(parts: &'a Parts) -> Option<Self> {
        let says = |name: &str, value: &str| {
            let found = parts.headers.get(name);
            found.is_some_and(|found| found.as_bytes() == value.as_bytes())
        };
        let path = parts.uri.path();
        let opened = parts.method == Method::GET
            && says("sec-fetch-site", "cross-site")
            && says("sec-fetch-mode", "navigate");
        // Two slashes would lead to another host.
        let ours = !path.starts_with("//") && parts.uri.query() != Some(Self::MARK);
        (opened && ours).then_some(Self {
            path,
            mark: Self::MARK,
        })
    }
}

/// The sign-in page for somebody whose web session has ended, or `None` if there is no
/// tunnel session to sign in through.
async fn sign_in_again(app: &App, side: Side, parts: &mut Parts) -> Option<Response> {
    if let Some(again) = OnceMore::for_link_from_elsewhere(parts) {
        let page = page_with(StatusCode::UNAUTHORIZED, &again).ok()?;
        return Some(page.into_response());
    }
    let page = match side {
        Side::Member => {
            let visitor = Visitor::from_request_parts(parts, app).await.ok()?;
            pages::show_again(app, &visitor).await
        }
        Side::Office => {
            let visitor = OfficeVisitor::from_request_parts(parts, app).await.ok()?;
            office::show_again(app, &visitor).await
        }
    };
    page.ok()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod look;
