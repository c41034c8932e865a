//! People for tests: an establishment with its admin, her PC and its tunnel session; staff;
//! and a browser that remembers its cookie.

use std::net::Ipv6Addr;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use protocol::{DeviceId, SessionId};
use time::{Duration, OffsetDateTime};
use tower::ServiceExt as _;
use uuid::Uuid;

use super::NOW;
use crate::app::App;
use crate::audit::Actor;
use crate::authenticator::Authenticator;
use crate::clock::unix_ms;
use crate::config::Config;
use crate::db::{Db, Tx};
use crate::establishments::{
    self, DeviceLimit, LoginName, MailAddress, Name, NewEstablishment, NewUser,
};
use crate::ids::{EstablishmentId, StaffId, UserId};
use crate::staff::{self, NewStaff, StaffRole};
use crate::web::principals::{OfficeConnection, SESSION_COOKIE, TunnelConnection};
use crate::web::sessions;

/// The admin's user ID.
pub const USER_ID: &str = "suzuki";
/// Her password.
pub const PASSWORD: &str = "kawa to yama no aida";
/// The hash of [`PASSWORD`], made once: hashing is slow on purpose.
pub async fn password_hash() -> &'static str {
    static HASH: tokio::sync::OnceCell<String> = tokio::sync::OnceCell::const_new();
    HASH.get_or_init(|| async { crate::passwords::hash(PASSWORD).await.expect("hashes") })
        .await
}

/// The configuration that tests run with.
pub fn config() -> Config {
    super::config("")
}

/// An establishment with its admin, her PC and its tunnel session, open for 90 minutes.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The establishment.
    pub establishment: EstablishmentId,
    /// Its admin.
    pub user: UserId,
    /// Her PC.
    pub device: DeviceId,
    /// Its tunnel session.
    pub session: SessionId,
}

/// Registers establishment `number` with an admin `login`, who has changed her password.
pub async fn place(app: &App, number: &str, login: &str) -> Place {
    let mut tx = app.db.begin().await.expect("begins");
    let establishment = NewEstablishment {
        number: number.parse().expect("a number"),
        name: Name::new("見本株式会社").expect("a name"),
        device_limit: DeviceLimit::default(),
    };
    let admin = NewUser {
        login: LoginName::new(login).expect("a user ID"),
        name: Name::new("鈴木 花子").expect("a name"),
        email: MailAddress::new(&format!("{login}@example.co.jp")).expect("an address"),
        password_hash: password_hash().await.to_owned(),
    };
    let (establishment, user) = establishments::register(
        &mut tx,
        &app.keys,
        &Actor::System,
        &establishment,
        &admin,
        NOW,
    )
    .await
    .expect("registers");
    introduce(&mut tx, user).await;
    Db::commit(tx).await.expect("commits");
    let device = device(app, establishment, user).await;
    let session = session(app, establishment, device, NOW).await;
    Place {
        establishment,
        user,
        device,
        session,
    }
}

/// Lets a user have gone through the first sign-in: password, terms, what is on file.
pub async fn introduce(tx: &mut Tx, user: UserId) {
    for sql in [
        "UPDATE users SET password_is_initial_since_ms = NULL, terms_version = 1,
                          contacts_ms = 0, introduced_ms = 0 WHERE id = $1",
        "UPDATE memberships SET confirmed_ms = 0 WHERE user_id = $1",
    ] {
        sqlx::query(sql)
            .bind(user.to_string())
            .execute(&mut **tx)
            .await
            .expect("has signed in before");
    }
}

/// Registers a PC.
pub async fn device(app: &App, establishment: EstablishmentId, user: UserId) -> DeviceId {
    let id = DeviceId::from_uuid(Uuid::now_v7());
    sqlx::query(
        "INSERT INTO devices (id, establishment_id, user_id, name, os, public_key,
                              grants_given, approved_ms, approved_by)
         VALUES ($1, $2, $3, 'PC-01', 'Windows 11', '', 0, $4, 'staff')",
    )
    .bind(id.to_string())
    .bind(establishment.to_string())
    .bind(user.to_string())
    .bind(unix_ms(NOW))
    .execute(app.db.pool())
    .await
    .expect("a device");
    id
}

/// Opens a tunnel session of 90 minutes; one that the PC had before ends.
pub async fn session(
    app: &App,
    establishment: EstablishmentId,
    device: DeviceId,
    now: OffsetDateTime,
) -> SessionId {
    let id = SessionId::from_uuid(Uuid::now_v7());
    sqlx::query(
        "INSERT INTO gateways (name, certificate_sha256, hosts, url, endpoints, added_ms)
         VALUES ('g1', 'g1', '[]', 'https://g1.example.jp/', '[]', 0) ON CONFLICT DO NOTHING",
    )
    .execute(app.db.pool())
    .await
    .expect("a gateway");
    sqlx::query("UPDATE tunnel_sessions SET ended_ms = $1 WHERE device_id = $2")
        .bind(unix_ms(now))
        .bind(device.to_string())
        .execute(app.db.pool())
        .await
        .expect("ends");
    sqlx::query(
        "INSERT INTO tunnel_sessions (id, device_id, establishment_id, gateway, generation,
                                      device_certificate_sha256, wireguard_public_key,
                                      inner_address, opened_ms, deadline_ms, deadline_reason,
                                      bytes_in, bytes_out, changed_ms)
         VALUES ($1, $2, $3, 'g1', 1, '', $1, $1, $4, $5, 'time_limit', 0, 0, $4)",
    )
    .bind(id.to_string())
    .bind(device.to_string())
    .bind(establishment.to_string())
    .bind(unix_ms(now))
    .bind(unix_ms(now + Duration::minutes(90)))
    .execute(app.db.pool())
    .await
    .expect("a session");
    id
}

/// The user ID of [`staff`].
pub const STAFF_USER_ID: &str = "sato";

/// Adds fund staff with [`STAFF_USER_ID`] and [`PASSWORD`].
pub async fn staff(app: &App, role: StaffRole) -> (StaffId, Authenticator) {
    let authenticator = Authenticator::generate();
    let new = NewStaff {
        login: LoginName::new(STAFF_USER_ID).expect("a user ID"),
        name: Name::new("佐藤 次郎").expect("a name"),
        role,
        password_hash: password_hash().await.to_owned(),
    };
    let mut tx = app.db.begin().await.expect("begins");
    let id = staff::add(
        &mut tx,
        &app.keys,
        &Actor::System,
        &new,
        &authenticator,
        NOW,
    )
    .await
    .expect("adds");
    Db::commit(tx).await.expect("commits");
    (id, authenticator)
}

/// A browser that is signed in at the office.
pub async fn signed_in_staff(app: &App, role: StaffRole) -> (StaffId, Browser) {
    let (id, _) = staff(app, role).await;
    let mut tx = app.db.begin().await.expect("begins");
    let token = sessions::begin_staff(&mut tx, &app.keys, id, app.clock.now())
        .await
        .expect("signs in");
    Db::commit(tx).await.expect("commits");
    let mut browser = Browser::office(app);
    browser.set_cookie(SESSION_COOKIE, &token);
    (id, browser)
}

/// A browser that is signed in at a place.
pub async fn signed_in_member(app: &App, place: &Place) -> Browser {
    let now = app.clock.now();
    let visitor = sessions::find_visitor(app, place.session, now)
        .await
        .expect("answers")
        .expect("a live session");
    let mut tx = app.db.begin().await.expect("begins");
    let token = sessions::begin_member(&mut tx, &app.keys, &visitor, place.user, now)
        .await
        .expect("signs in");
    Db::commit(tx).await.expect("commits");
    let mut browser = Browser::member(app, place.session);
    browser.set_cookie(SESSION_COOKIE, &token);
    browser
}

/// How a browser's requests arrive.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// Through a tunnel session, at the member listener.
    Tunnel(SessionId),
    /// From the office's network.
    Office,
    /// From another address of it.
    OfficeFrom([u8; 4]),
    /// With nothing that a listener would have put there.
    Nowhere,
}

/// A browser: follows nothing by itself, remembers cookies.
#[derive(Clone)]
pub struct Browser {
    router: Router,
    way: Way,
    cookies: Vec<(String, String)>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Where it leads, or empty.
    pub location: String,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The page.
    pub text: String,
}

impl Browser {
    /// A browser without cookies.
    pub fn new(router: Router, way: Way) -> Self {
        Self {
            router,
            way,
            cookies: Vec::new(),
        }
    }

    /// A browser on the member pages, coming through `session`.
    pub fn member(app: &App, session: SessionId) -> Self {
        Self::new(crate::web::member_router(app.clone()), Way::Tunnel(session))
    }

    /// A browser on the office pages.
    pub fn office(app: &App) -> Self {
        Self::new(crate::web::office_router(app.clone()), Way::Office)
    }

    /// Comes another way from now on, with the same cookies.
    pub fn moved(&self, way: Way) -> Self {
        Self {
            way,
            ..self.clone()
        }
    }

    /// Remembers a cookie.
    pub fn set_cookie(&mut self, name: &str, value: &str) {
        self.cookies.retain(|(known, _)| known != name);
        self.cookies.push((name.to_owned(), value.to_owned()));
    }

    /// `GET path`
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Body::empty()).await
    }

    /// Gets the page at `path`, takes its anti-forgery token, and posts the form to it.
    pub async fn submit(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.submit_to(path, path, form).await
    }

    /// Gets the page at `from`, takes its anti-forgery token, and posts the form to `to`.
    pub async fn submit_to(&mut self, from: &str, to: &str, form: &[(&str, &str)]) -> Answer {
        let page = self.get(from).await;
        let token = page.csrf().unwrap_or_default();
        let form = [form, &[("csrf", token.as_str())]].concat();
        self.post(to, &form).await
    }

    /// `POST path` with a form.
    pub async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        let body = serde_urlencoded::to_string(form).expect("a form");
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.send(Method::POST, path, &headers, Body::from(body))
            .await
    }

    /// Sends anything.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !self.cookies.is_empty() {
            let cookies: Vec<String> = self
                .cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body).expect("a request");
        match self.way {
            Way::Tunnel(session) => {
                request.extensions_mut().insert(TunnelConnection {
                    session,
                    inner_address: Ipv6Addr::LOCALHOST,
                });
            }
            Way::Office => {
                request.extensions_mut().insert(OfficeConnection {
                    peer: ([192, 0, 2, 7], 40_000).into(),
                });
            }
            Way::OfficeFrom(address) => {
                request.extensions_mut().insert(OfficeConnection {
                    peer: (address, 40_000).into(),
                });
            }
            Way::Nowhere => {}
        }
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("routers do not fail");
        let (parts, body) = response.into_parts();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().expect("text");
            let (name, rest) = cookie.split_once('=').expect("a name");
            let value = rest.split(';').next().unwrap_or_default();
            self.set_cookie(name, value);
        }
        let body = axum::body::to_bytes(body, 64 << 20).await.expect("a body");
        Answer {
            status: parts.status,
            location: parts
                .headers
                .get(header::LOCATION)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&body).into_owned(),
        }
    }
}

impl Answer {
    /// The first anti-forgery token on the page.
    pub fn csrf(&self) -> Option<String> {
        let (_, rest) = self.text.split_once("name=\"csrf\" value=\"")?;
        rest.split('"').next().map(str::to_owned)
    }
}
