//! The agent's own page, under a host name that only its own proxy knows.
//!
//! Who may see it: whoever carries this launch's token, first in the address that the agent
//! opened the window with, then in a cookie. What changes something must also come from the
//! page itself (`Origin`) and carry its anti-forgery token. The page shows a [`View`] and
//! passes wishes on; it decides nothing.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName,
    HeaderValue, LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use zeroize::Zeroizing;

use crate::agent::{Agent, Command};
use crate::desk::Desk;
use crate::documents::FILE_LIMIT_BYTES;
use crate::enrolment::Application;
use crate::os;
use crate::proxy::PAGE_HOST;
use crate::secret::{NoRandomness, Secret};
use crate::status::View;
use crate::store::profiles::ProfileId;
use crate::urls::PortalUrl;

mod checkup;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod list;
mod profiles;
mod reading;
mod views;

use checkup::Checkup;
use reading::Reading;
pub use views::picture_of;
use views::{EnrolForm, Shown, render, stranger};

/// Largest form, in bytes.
const FORM_LIMIT_BYTES: usize = 16 * 1024;

/// How long a form may take to arrive.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a file may take to arrive from the window.
const FILE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is looked whether something lies open that nobody reads.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// How long 接続 waits for the tunnel before it shows the page that waits.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// How long a page that has seen everything waits for something new. With the pulse of a
/// tunnel that is looked at, no page is older than two seconds.
const PICTURE_PATIENCE: Duration = Duration::from_millis(800);

const COOKIE_NAME: &str = "renkei_launch";

const CSS: &str = include_str!("../assets/agent.css");
const JS: &str = include_str!("../assets/agent.js");
const DOCUMENTS_JS: &str = include_str!("../assets/documents.js");

/// The anti-forgery token of a request that is no form.
const CSRF_HEADER: &str = "x-csrf";

/// The name of the file that such a request brings, percent-encoded.
const NAME_HEADER: &str = "x-name";

/// The page of one profile and one launch.
#[derive(Debug)]
pub struct Page {
    launch: Secret,
    csrf: Secret,
    desk: Desk,
    profile: ProfileId,
    reading: Reading,
    checkup: Checkup,
}

impl Page {
    /// Makes the secrets of this launch, for the page of `profile`.
    pub fn new(desk: Desk, profile: ProfileId) -> Result<Self, NoRandomness> {
        Ok(Self {
            launch: Secret::random()?,
            csrf: Secret::random()?,
            desk,
            profile,
            reading: Reading::default(),
            checkup: Checkup::default(),
        })
    }

    /// Wipes what nobody reads any longer, for as long as the agent lives.
    pub async fn tidy(&self, agent: &Agent) {
        loop {
            tokio::time::sleep(TIDY_EVERY).await;
            self.reading.tidy(agent.clock().now().mono).await;
            self.note_reading(agent).await;
        }
    }

    /// While documents lie open, no update closes the window.
    async fn note_reading(&self, agent: &Agent) {
        agent.traffic().note_reading(self.reading.is_in_use().await);
    }

    /// Takes a zip of this PC to the page that opens it.
    ///
    /// # Errors
    /// The sentence for the user if the file cannot be read.
    pub async fn lay_file(&self, path: &Path, agent: &Agent) -> Result<(), String> {
        let laid = self.reading.lay_file(path, agent.clock().now().mono).await;
        self.note_reading(agent).await;
        laid
    }

    /// The address to open the window with.
    pub fn url(&self) -> String {
        format!("http://{PAGE_HOST}/?token={}", self.launch.expose())
    }

    /// Answers one request that [`crate::proxy::guard`] let through.
    pub async fn answer(&self, request: Request<Incoming>, agent: &Agent) -> Response<Full<Bytes>> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let path = request.uri().path().to_owned();
        if let Some(token) = field(query.as_bytes(), "token") {
            let asked = |name| field(query.as_bytes(), name).is_some();
            let next = match (asked("list"), asked("documents")) {
                (true, _) => "/profiles",
                (false, true) => "/documents",
                (false, false) => "/",
            };
            return self.enter(&path, &token, next);
        }
        if !self.has_cookie(request.headers()) {
            let again = field(query.as_bytes(), "again").is_some();
            return html(StatusCode::FORBIDDEN, stranger(again), None);
        }
        if request.method() == Method::POST {
            return self.handle_post(&path, request, agent).await;
        }
        match path.as_str() {
            "/" => {
                let go = field(query.as_bytes(), "go").is_some();
                self.show(
                    agent,
                    go,
                    EnrolForm::suggested(agent.suggested_gateway()),
                    StatusCode::OK,
                )
            }
            "/profiles" => {
                let form = EnrolForm::suggested(agent.suggested_gateway());
                self.list(form.for_another(), None, StatusCode::OK)
            }
            "/profiles.json" => {
                let known = field(query.as_bytes(), "seen");
                self.list_json(known.as_deref()).await
            }
            "/profiles/remove" => {
                let named = field(query.as_bytes(), "profile");
                self.confirm_removal(named.as_deref())
            }
            "/status.json" => {
                let known = field(query.as_bytes(), "seen");
                status_json(agent, known.as_deref()).await
            }
            "/assets/agent.css" => asset("text/css; charset=utf-8", CSS),
            "/assets/agent.js" => asset("text/javascript; charset=utf-8", JS),
            "/assets/documents.js" => asset("text/javascript; charset=utf-8", DOCUMENTS_JS),
            "/diagnosis" => {
                let view = agent.view();
                self.checkup.show(&self.shown(agent, &view))
            }
            "/diagnosis/bundle.zip" => self.checkup.bundle(agent),
            "/documents" => self.show_documents(agent, StatusCode::OK).await,
            path => match path.strip_prefix("/documents/") {
                Some(rest) => {
                    let save = field(query.as_bytes(), "save").is_some();
                    let now = agent.clock().now().mono;
                    self.reading.document(rest, save, now).await
                }
                None => see("/"),
            },
        }
    }

    /// Turns the token of the address into a cookie, so that no address holds it any longer.
    fn enter(&self, path: &str, token: &str, next: &str) -> Response<Full<Bytes>> {
        if path != "/" || !self.launch.is(token) {
            return html(StatusCode::FORBIDDEN, stranger(true), None);
        }
        let mut response = see(next);
        let cookie = format!(
            "{COOKIE_NAME}={}; Path=/; HttpOnly; SameSite=Strict",
            self.launch.expose()
        );
        insert(&mut response, SET_COOKIE, &cookie);
        response
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(name, value)| name == COOKIE_NAME && self.launch.is(value))
    }

    async fn handle_post(
        &self,
        path: &str,
        request: Request<Incoming>,
        agent: &Agent,
    ) -> Response<Full<Bytes>> {
        let own_origin = format!("http://{PAGE_HOST}");
        let origin_fits = request
            .headers()
            .get(ORIGIN)
            .is_some_and(|origin| origin.as_bytes() == own_origin.as_bytes());
        if !origin_fits {
            return html(StatusCode::FORBIDDEN, stranger(true), None);
        }
        if path == "/documents" {
            return self.take_file(request, agent).await;
        }
        let body = match receive(request.into_body(), FORM_LIMIT_BYTES, FORM_TIMEOUT).await {
            Ok(body) => body,
            Err(status) => return html(status, stranger(true), None),
        };
        if !field(&body, "csrf").is_some_and(|token| self.csrf.is(&token)) {
            return html(StatusCode::FORBIDDEN, stranger(true), None);
        }
        match path {
            "/enrol" => self.enrol(&body, agent).await,
            "/connect" => connect(agent).await,
            "/disconnect" => {
                agent.tell(Command::Disconnect).await;
                agent
                    .wait_for(CONNECT_PATIENCE, |view| view.session().is_none())
                    .await;
                see("/")
            }
            "/profiles/open" => self.open_profile(&body).await,
            "/profiles/add" => self.add_profile(&body).await,
            "/profiles/remove" => self.remove_profile(&body).await,
            "/dismiss" => {
                agent.tell(Command::DismissNotice).await;
                agent
                    .wait_for(CONNECT_PATIENCE, |view| view.notice.is_none())
                    .await;
                see("/")
            }
            "/diagnosis" => self.checkup.run(agent).await,
            "/documents/unlock" => {
                let typed = field(&body, "password").unwrap_or_default();
                let now = agent.clock().now().mono;
                match self.reading.unlock(typed, now).await {
                    StatusCode::OK => see("/documents"),
                    refused => self.show_documents(agent, refused).await,
                }
            }
            "/documents/close" => self.reading.close().await,
            "/documents/association" => {
                let wanted = field(&body, "wish").is_some_and(|wish| wish == "on");
                if let Err(error) = os::set_zip_opener(wanted) {
                    tracing::warn!(%error, "cannot change how zips are opened");
                }
                see("/documents")
            }
            _ => html(StatusCode::NOT_FOUND, stranger(true), None),
        }
    }

    /// `POST /documents`: a file as it is, from the page's own script.
    async fn take_file(&self, request: Request<Incoming>, agent: &Agent) -> Response<Full<Bytes>> {
        let token = request.headers().get(CSRF_HEADER);
        let may = token
            .and_then(|value| value.to_str().ok())
            .is_some_and(|token| self.csrf.is(token));
        if !may {
            return html(StatusCode::FORBIDDEN, stranger(true), None);
        }
        let name = reading::sent_name(request.headers().get(NAME_HEADER));
        match receive(request.into_body(), FILE_LIMIT_BYTES, FILE_TIMEOUT).await {
            Ok(body) => {
                let bytes = Zeroizing::new(Vec::from(body));
                let now = agent.clock().now().mono;
                self.reading.lay(name, bytes, now).await;
                see("/documents")
            }
            Err(status) => html(status, stranger(true), None),
        }
    }

    async fn show_documents(&self, agent: &Agent, status: StatusCode) -> Response<Full<Bytes>> {
        self.note_reading(agent).await;
        let view = agent.view();
        self.reading.show(&self.shown(agent, &view), status).await
    }

    /// The picture, for a page that is not about the connection.
    fn shown<'a>(&'a self, agent: &Agent, view: &'a View) -> Shown<'a> {
        Shown {
            now: agent.clock().now(),
            csrf: self.csrf.expose(),
            go: false,
            form: EnrolForm::default(),
            view,
        }
    }

    async fn enrol(&self, body: &[u8], agent: &Agent) -> Response<Full<Bytes>> {
        let typed = |name| field(body, name).unwrap_or_default();
        let (form, application) =
            EnrolForm::read(typed("gateway"), typed("establishment"), &typed("code"));
        let Some(application) = application else {
            return self.show(agent, false, form, StatusCode::UNPROCESSABLE_ENTITY);
        };
        let application: Application = application;
        match agent.enrol(application).await {
            Ok(()) => see("/"),
            Err(_) => {
                // The sentence is part of the picture already; what was typed stays.
                self.show(agent, false, form, StatusCode::UNPROCESSABLE_ENTITY)
            }
        }
    }

    fn show(
        &self,
        agent: &Agent,
        go: bool,
        form: EnrolForm,
        status: StatusCode,
    ) -> Response<Full<Bytes>> {
        let view = agent.view();
        if go && let Some(url) = connected_portal(&view) {
            return see(&url);
        }
        let portal = portal_of(&view);
        let shown = Shown {
            now: agent.clock().now(),
            csrf: self.csrf.expose(),
            go,
            form,
            view: &view,
        };
        html(status, render(&shown), portal.as_ref())
    }
}

/// Reads a whole body.
///
/// # Errors
/// The status to answer with: too large, or too slow.
async fn receive(
    body: Incoming,
    limit_bytes: usize,
    patience: Duration,
) -> Result<Bytes, StatusCode> {
    // What announces itself as too large need not come first.
    if body.size_hint().lower() > limit_bytes as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let body = Limited::new(body, limit_bytes).collect();
    match tokio::time::timeout(patience, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// Asks for a session and, if it comes about at once, goes straight to the portal.
async fn connect(agent: &Agent) -> Response<Full<Bytes>> {
    let before = agent.view();
    if before.state.may_connect() {
        agent.tell(Command::Connect).await;
        // First away from where things stood, then to a new rest.
        agent
            .wait_for(CONNECT_PATIENCE, |view| view.state != before.state)
            .await;
    }
    agent
        .wait_for(CONNECT_PATIENCE, |view| !views::is_connecting(view))
        .await;
    let view = agent.view();
    match connected_portal(&view) {
        Some(url) => see(&url),
        None if views::is_connecting(&view) => see("/?go=1"),
        None => see("/"),
    }
}

fn connected_portal(view: &View) -> Option<String> {
    match &view.state {
        crate::session_state::State::Connected(session) => Some(session.portal_url.clone()),
        _ => None,
    }
}

fn portal_of(view: &View) -> Option<PortalUrl> {
    let approved = view.pc.as_ref()?.approved.as_ref()?;
    approved.portal_url.parse().ok()
}

/// The report, with the mark by which the page knows that it shows something else.
/// Whoever has `seen` that picture already waits a moment for another one.
async fn status_json(agent: &Agent, seen: Option<&str>) -> Response<Full<Bytes>> {
    agent.look();
    if let Some(seen) = seen {
        agent
            .wait_for_change(|view| picture_of(view) == seen, PICTURE_PATIENCE)
            .await;
    }
    let view = agent.view();
    let mut json =
        serde_json::to_value(view.report(agent.clock().now())).expect("a report has a JSON form");
    json["picture"] = picture_of(&view).into();
    let mut response = Response::new(Full::from(json.to_string()));
    insert(&mut response, CONTENT_TYPE, "application/json");
    protect(&mut response, None);
    response
}

fn asset(kind: &'static str, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    insert(&mut response, CONTENT_TYPE, kind);
    protect(&mut response, None);
    response
}

fn see(location: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SEE_OTHER;
    insert(&mut response, LOCATION, location);
    protect(&mut response, None);
    response
}

fn html(status: StatusCode, text: String, portal: Option<&PortalUrl>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    insert(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
    protect(&mut response, portal);
    response
}

/// What every answer carries. A form may lead on to the portal: 接続 ends there.
fn protect(response: &mut Response<Full<Bytes>>, portal: Option<&PortalUrl>) {
    let portal = portal.map(|url| format!(" {}", url.origin()));
    let policy = format!(
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'{}",
        portal.unwrap_or_default()
    );
    insert(response, CONTENT_SECURITY_POLICY, &policy);
    insert(response, CACHE_CONTROL, "no-store");
    insert(response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    // Not no-referrer: the browser would then send "Origin: null" with our own forms.
    insert(response, REFERRER_POLICY, "same-origin");
}

fn insert(response: &mut Response<Full<Bytes>>, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => {
            response.headers_mut().insert(name, value);
        }
        Err(error) => tracing::error!(%error, %name, "header left out"),
    }
}

/// A field of a form or query.
fn field(encoded: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(encoded)
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
