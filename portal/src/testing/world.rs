//! A small fund for tests: two establishments with a signed-in user each, three members of
//! staff, a vault, and both routers. Everything is made through the same rows and the same
//! extractors as in life.

use std::net::{Ipv6Addr, SocketAddr};

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts as _;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use protocol::{DeviceId, SessionId};
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::{NOW, TestDb, postgres, sqlite};
use crate::app::App;
use crate::clock::{Clock, unix_ms};
use crate::config::Config;
use crate::db::{Db, Tx};
use crate::ids::{EstablishmentId, StaffId, UserId};
use crate::keys::{MasterKey, Purpose};
use crate::staff::StaffRole;
use crate::vault::EstablishmentKey;
use crate::web::forms::CSRF_HEADER;
use crate::web::principals::{
    Member, OfficeConnection, Reviewer, SESSION_COOKIE, Staff, TunnelConnection, Visitor,
};
use crate::web::sessions;

/// The zip password of both establishments.
pub const ZIP_PASSWORD: &str = "RENE52HSQX3CA4Q2RENE";

/// A fund with its people.
pub struct World {
    /// The portal.
    pub app: App,
    /// 事業所 0123.
    pub alpha: EstablishmentId,
    /// 事業所 0124.
    pub beta: EstablishmentId,
    /// The admin of alpha, in her browser.
    pub alice: Browser,
    /// The admin of beta.
    pub bob: Browser,
    /// A reviewer.
    pub sato: Browser,
    /// Another reviewer.
    pub suzuki: Browser,
    /// A supervisor.
    pub tanaka: Browser,
    /// A system administrator.
    pub admin: Browser,
    sato_id: StaffId,
    _db: TestDb,
    _folder: TempDir,
}

/// Somebody signed in.
#[derive(Clone)]
pub struct Browser {
    app: App,
    router: Router,
    place: Place,
    token: String,
    /// The anti-forgery token.
    pub csrf: String,
}

#[derive(Clone, Copy)]
enum Place {
    Tunnel(TunnelConnection),
    Office(OfficeConnection),
}

/// One world on each kind of database.
pub async fn worlds() -> [World; 2] {
    [
        World::on(sqlite().await).await,
        World::on(postgres().await).await,
    ]
}

impl World {
    /// A world on SQLite, for what does not depend on the database.
    pub async fn new() -> Self {
        Self::on(sqlite().await).await
    }

    async fn on(db: TestDb) -> Self {
        Self::configured(db, "").await
    }

    /// A world with more in its configuration.
    pub async fn configured(db: TestDb, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = Config {
            documents_dir: folder.path().to_owned(),
            ..super::config(more)
        };
        let app = App::start(
            db.db.clone(),
            Clock::set_to(NOW),
            MasterKey::generate(),
            config,
        )
        .await
        .expect("starts");
        let mut tx = app.db.begin().await.expect("begins");
        run(
            &mut tx,
            "INSERT INTO gateways (name, certificate_sha256, hosts, url, endpoints, added_ms)
             VALUES ('g1', 'x', '[]', 'https://g1', '[]', 0)",
            &[],
        )
        .await;
        let (alpha, alice) =
            establishment(&mut tx, &app, 123, "見本製作所株式会社", "髙﨑 花子").await;
        let (beta, bob) = establishment(&mut tx, &app, 124, "例示物流株式会社", "山田 太郎").await;
        let mut staff = Vec::new();
        for (name, role) in [
            ("佐藤", StaffRole::Reviewer),
            ("鈴木", StaffRole::Reviewer),
            ("田中", StaffRole::Supervisor),
            ("管理", StaffRole::SystemAdmin),
        ] {
            let id = StaffId::new();
            run(
                &mut tx,
                "INSERT INTO staff (id, user_id, name, role, password_hash, totp_sealed, created_ms)
                 VALUES ($1, $1, $2, $3, '', '', 0)",
                &[&id.to_string(), name, role.as_str()],
            )
            .await;
            staff.push(id);
        }
        Db::commit(tx).await.expect("commits");
        let members = crate::web::member_router(app.clone());
        let office = crate::web::office_router(app.clone());
        Self {
            alpha,
            beta,
            alice: Browser::member(&app, &members, alice.0, alice.1).await,
            bob: Browser::member(&app, &members, bob.0, bob.1).await,
            sato: Browser::staff(&app, &office, staff[0]).await,
            suzuki: Browser::staff(&app, &office, staff[1]).await,
            tanaka: Browser::staff(&app, &office, staff[2]).await,
            admin: Browser::staff(&app, &office, staff[3]).await,
            app,
            sato_id: staff[0],
            _db: db,
            _folder: folder,
        }
    }

    /// The first reviewer, signed in anew now: a web session of the morning ends when idle.
    pub async fn sato_again(&self) -> Browser {
        Browser::staff(&self.app, &self.sato.router, self.sato_id).await
    }

    /// One more of the staff, signed in now.
    pub async fn staff(&self, name: &str, role: StaffRole) -> Browser {
        let id = StaffId::new();
        let mut tx = self.app.db.begin().await.expect("begins");
        run(
            &mut tx,
            "INSERT INTO staff (id, user_id, name, role, password_hash, totp_sealed, created_ms)
             VALUES ($1, $1, $2, $3, '', '', 0)",
            &[&id.to_string(), name, role.as_str()],
        )
        .await;
        Db::commit(tx).await.expect("commits");
        Browser::staff(&self.app, &self.sato.router, id).await
    }

    /// The admin of a sharoushi's office (9001) at her office's PC.
    pub async fn sharoushi(&self) -> Browser {
        let mut tx = self.app.db.begin().await.expect("begins");
        let (id, (user, connection)) =
            establishment(&mut tx, &self.app, 9001, "みらい社労士事務所", "森 次郎").await;
        let office = "UPDATE establishments SET kind = 'sharoushi' WHERE id = $1";
        run(&mut tx, office, &[&id.to_string()]).await;
        Db::commit(tx).await.expect("commits");
        let members = crate::web::member_router(self.app.clone());
        Browser::member(&self.app, &members, user, connection).await
    }

    /// A staff account of somebody else's making, signed in now.
    pub async fn signed_in_staff(&self, id: StaffId) -> Browser {
        Browser::staff(&self.app, &self.sato.router, id).await
    }

    /// A second user of alpha's, on alpha's own second PC.
    pub async fn colleague(&self) -> Browser {
        let mut tx = self.app.db.begin().await.expect("begins");
        let (user, connection) = user(&mut tx, self.alpha, "added", "田村 次郎", 77).await;
        Db::commit(tx).await.expect("commits");
        let members = crate::web::member_router(self.app.clone());
        Browser::member(&self.app, &members, user, connection).await
    }
}

impl Browser {
    async fn member(
        app: &App,
        router: &Router,
        user: UserId,
        connection: TunnelConnection,
    ) -> Self {
        let mut parts = Request::new(()).into_parts().0;
        parts.extensions.insert(connection);
        let visitor = Visitor::from_request_parts(&mut parts, app)
            .await
            .expect("a live tunnel session");
        let mut tx = app.db.begin().await.expect("begins");
        let token = sessions::begin_member(&mut tx, &app.keys, &visitor, user, app.clock.now())
            .await
            .expect("a web session");
        Db::commit(tx).await.expect("commits");
        Self::new(app, router, Place::Tunnel(connection), token)
    }

    async fn staff(app: &App, router: &Router, staff: StaffId) -> Self {
        let mut tx = app.db.begin().await.expect("begins");
        let token = sessions::begin_staff(&mut tx, &app.keys, staff, app.clock.now())
            .await
            .expect("a web session");
        Db::commit(tx).await.expect("commits");
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        Self::new(app, router, Place::Office(OfficeConnection { peer }), token)
    }

    fn new(app: &App, router: &Router, place: Place, token: String) -> Self {
        Self {
            csrf: app.keys.hash(Purpose::Csrf, token.as_bytes()),
            app: app.clone(),
            router: router.clone(),
            place,
            token,
        }
    }

    /// This one's cookie in the hands of `other`: on the other's side, through its connection.
    pub fn at_the_place_of(&self, other: &Self) -> Self {
        Self {
            router: other.router.clone(),
            place: other.place,
            ..self.clone()
        }
    }

    /// The portal.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// A request with this browser's connection and cookie.
    pub fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let cookie = format!("{SESSION_COOKIE}={}", self.token);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::COOKIE, cookie);
        match self.place {
            Place::Tunnel(connection) => request.extension(connection),
            Place::Office(connection) => request.extension(connection),
        }
    }

    /// Sends a request.
    pub async fn send(&self, request: Request<Body>) -> Response {
        self.router
            .clone()
            .oneshot(request)
            .await
            .unwrap_or_else(|never| match never {})
    }

    /// `GET`, with the status and the body as text.
    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        let request = self.request(Method::GET, path).body(Body::empty());
        let response = self.send(request.expect("a request")).await;
        let (status, bytes) = read(response).await;
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `GET`, with headers and bytes.
    pub async fn download(&self, path: &str) -> (StatusCode, http::HeaderMap, Vec<u8>) {
        let request = self.request(Method::GET, path).body(Body::empty());
        let response = self.send(request.expect("a request")).await;
        let headers = response.headers().clone();
        let (status, bytes) = read(response).await;
        (status, headers, bytes)
    }

    /// Posts a form with the anti-forgery token; the status, `Location` and the body.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> (StatusCode, String, String) {
        let mut form = vec![("csrf", self.csrf.as_str())];
        form.extend_from_slice(fields);
        let body = serde_urlencoded::to_string(&form).expect("a form");
        let request = self
            .request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(body));
        let response = self.send(request.expect("a request")).await;
        let location = response
            .headers()
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let (status, bytes) = read(response).await;
        (
            status,
            location,
            String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Posts a form with files (RFC 7578); the status, `Location` and the body.
    pub async fn post_files(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        files: &[(&str, Vec<u8>)],
    ) -> (StatusCode, String, String) {
        const BOUNDARY: &str = "----------------boundary-of-a-test";
        let mut body = Vec::new();
        for (name, value) in [("csrf", self.csrf.as_str())].iter().chain(fields) {
            let part = format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
            body.extend_from_slice(part.as_bytes());
        }
        for (name, bytes) in files {
            let head = format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(bytes);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        let request = self
            .request(Method::POST, path)
            .header(
                header::CONTENT_TYPE,
                format!("multipart/form-data; boundary={BOUNDARY}"),
            )
            .body(Body::from(body));
        let response = self.send(request.expect("a request")).await;
        let location = response.headers().get(header::LOCATION);
        let location = location
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let location = location.to_owned();
        let (status, bytes) = read(response).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (status, location, text)
    }

    /// Posts a form with the anti-forgery token; the answer with headers and bytes.
    pub async fn post_for_file(
        &self,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (StatusCode, http::HeaderMap, Vec<u8>) {
        let mut form = vec![("csrf", self.csrf.as_str())];
        form.extend_from_slice(fields);
        let body = serde_urlencoded::to_string(&form).expect("a form");
        let request = self
            .request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(body));
        let response = self.send(request.expect("a request")).await;
        let headers = response.headers().clone();
        let (status, bytes) = read(response).await;
        (status, headers, bytes)
    }

    /// Posts JSON as a page's own script does.
    pub async fn post_json(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> (StatusCode, serde_json::Value) {
        let request = self
            .request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(CSRF_HEADER, self.csrf.as_str())
            .body(Body::from(body.to_string()));
        let response = self.send(request.expect("a request")).await;
        let (status, bytes) = read(response).await;
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// `POST /uploads`.
    pub async fn begin(&self, name: &str, length: u64) -> Response {
        let request = self
            .request(Method::POST, "/uploads")
            .header(CSRF_HEADER, &self.csrf)
            .header("upload-length", length)
            .header(
                "upload-metadata",
                format!("filename {},filetype eA==", STANDARD.encode(name)),
            );
        self.send(request.body(Body::empty()).expect("a request"))
            .await
    }

    /// `POST /uploads`, which is granted; the upload's path.
    pub async fn begun(&self, name: &str, length: u64) -> String {
        let response = self.begin(name, length).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let path = response.headers()[header::LOCATION].to_str();
        path.expect("a path").to_owned()
    }

    /// `PATCH /uploads/{id}`.
    pub async fn part(&self, path: &str, offset: u64, body: impl Into<Body>) -> Response {
        let request = self
            .request(Method::PATCH, path)
            .header(CSRF_HEADER, &self.csrf)
            .header(header::CONTENT_TYPE, "application/offset+octet-stream")
            .header("upload-offset", offset);
        self.send(request.body(body.into()).expect("a request"))
            .await
    }

    /// `HEAD /uploads/{id}`: how much has arrived; `None` if there is no such upload.
    pub async fn offset(&self, path: &str) -> Option<u64> {
        let request = self.request(Method::HEAD, path).body(Body::empty());
        let response = self.send(request.expect("a request")).await;
        let offset = response.headers().get("upload-offset")?;
        offset.to_str().ok()?.parse().ok()
    }

    /// Uploads a whole file; its id.
    pub async fn upload(&self, name: &str, bytes: Vec<u8>) -> String {
        let path = self.begun(name, bytes.len() as u64).await;
        let status = self.part(&path, 0, bytes).await.status();
        assert_eq!(status, StatusCode::NO_CONTENT);
        path.trim_start_matches("/uploads/").to_owned()
    }

    /// Uploads a good PDF and hands it in under a name; the filing's path.
    pub async fn file(&self, name: &str) -> String {
        let upload = self.upload(name, pdf_unlike_any_other()).await;
        let body = serde_json::json!({ "files": [{ "upload": upload }] });
        let (status, answer) = self.post_json("/filings", &body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let receipt = answer["receipt"].as_str().expect("a receipt").to_owned();
        let (_, page) = self.get(&receipt).await;
        let at = page.find("/filings/0").expect("a filing on its receipt");
        page[at..at + "/filings/".len() + 36].to_owned()
    }

    /// The member that handlers would see.
    pub async fn as_member(&self) -> Member {
        let mut parts = self.parts();
        Member::from_request_parts(&mut parts, &self.app)
            .await
            .expect("a member")
    }

    /// The staff that handlers would see.
    pub async fn as_staff(&self) -> Staff {
        Staff::from_request_parts(&mut self.parts(), &self.app)
            .await
            .expect("staff")
    }

    /// The reviewer that handlers would see.
    pub async fn as_reviewer(&self) -> Reviewer {
        let mut parts = self.parts();
        Reviewer::from_request_parts(&mut parts, &self.app)
            .await
            .expect("a reviewer")
    }

    fn parts(&self) -> http::request::Parts {
        let request = self.request(Method::GET, "/").body(());
        request.expect("a request").into_parts().0
    }
}

/// A file of the corpus.
pub fn corpus(path: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/corpus");
    std::fs::read(format!("{folder}/{path}")).expect(path)
}

/// A good PDF with a text that no other has.
fn pdf_unlike_any_other() -> Vec<u8> {
    use crate::documents::{Role, Sheet, Style};
    // In letters: among the digits of many ids there is an individual number sooner or later.
    let mark: String = uuid::Uuid::new_v4()
        .as_bytes()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0x0F].map(|half| char::from(b'a' + half)))
        .collect();
    let text = format!("この届書の目印　{mark}");
    let mut sheet = Sheet::new("届書", "届書", NOW);
    sheet.paragraph(Role::Paragraph, &text, Style::new(10.5));
    sheet.finish().expect("a document")
}

/// Reads an answer whole.
pub async fn read(response: Response) -> (StatusCode, Vec<u8>) {
    let status = response.status();
    let bytes = response.into_body().collect().await.expect("a body");
    (status, bytes.to_bytes().to_vec())
}

async fn establishment(
    tx: &mut Tx,
    app: &App,
    number: u16,
    name: &str,
    admin: &str,
) -> (EstablishmentId, (UserId, TunnelConnection)) {
    let id = EstablishmentId::new();
    let key = EstablishmentKey::generate().seal(&app.keys, id);
    let place = format!("establishments/{id}");
    let password = app
        .keys
        .seal(Purpose::ZipPassword, &place, ZIP_PASSWORD.as_bytes());
    sqlx::query(
        "INSERT INTO establishments (id, number, name, key_wrapped, zip_password_sealed, device_limit, created_ms)
         VALUES ($1, $2, $3, $4, $5, 3, 0)",
    )
    .bind(id.to_string())
    .bind(i64::from(number))
    .bind(name)
    .bind(key)
    .bind(password)
    .execute(&mut **tx)
    .await
    .expect("an establishment");
    (id, user(tx, id, "admin", admin, u128::from(number)).await)
}

async fn user(
    tx: &mut Tx,
    establishment: EstablishmentId,
    role: &str,
    name: &str,
    address: u128,
) -> (UserId, TunnelConnection) {
    let id = UserId::new();
    let device = DeviceId::from_uuid(uuid::Uuid::new_v4());
    let session = SessionId::from_uuid(uuid::Uuid::new_v4());
    let (user, place) = (id.to_string(), establishment.to_string());
    run(
        tx,
        "INSERT INTO users (id, user_id, name, email, password_hash, second_factor, created_ms,
                            terms_version, contacts_ms, introduced_ms)
         VALUES ($1, $1, $2, 'user@example.jp', '', 'email', 0, 1, 0, 0)",
        &[&user, name],
    )
    .await;
    run(
        tx,
        "INSERT INTO memberships (id, establishment_id, user_id, role, created_ms, confirmed_ms)
         VALUES ($2, $1, $2, $3, 0, 0)",
        &[&place, &user, role],
    )
    .await;
    run(
        tx,
        "INSERT INTO devices (id, establishment_id, user_id, name, os, public_key,
                              grants_given, approved_ms, approved_by)
         VALUES ($1, $2, $3, '総務のパソコン', 'Windows 11', '', 0, 0, '')",
        &[&device.to_string(), &place, &user],
    )
    .await;
    let inner_address = Ipv6Addr::from(0xfd72_656e_6b65_6900_0000_0000_0000_0000 + address);
    sqlx::query(
        "INSERT INTO tunnel_sessions (id, device_id, establishment_id, gateway, generation,
                device_certificate_sha256, wireguard_public_key, inner_address, opened_ms,
                deadline_ms, deadline_reason, bytes_in, bytes_out, changed_ms)
         VALUES ($1, $2, $3, 'g1', 1, '', $1, $4, $5, $6, 'time_limit', 0, 0, $5)",
    )
    .bind(session.to_string())
    .bind(device.to_string())
    .bind(place.as_str())
    .bind(inner_address.to_string())
    .bind(unix_ms(NOW))
    .bind(unix_ms(NOW + time::Duration::minutes(90)))
    .execute(&mut **tx)
    .await
    .expect("a tunnel session");
    let connection = TunnelConnection {
        session,
        inner_address,
    };
    (id, connection)
}

async fn run(tx: &mut Tx, sql: &'static str, texts: &[&str]) {
    let mut query = sqlx::query(sql);
    for text in texts {
        query = query.bind((*text).to_owned());
    }
    query.execute(&mut **tx).await.expect(sql);
}
