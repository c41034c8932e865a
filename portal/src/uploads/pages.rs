//! The upload protocol over HTTP, for the members' page. Called by its script `upload.js`.
//!
//! | request | answer |
//! |---|---|
//! | `POST /uploads` with `Upload-Length`, `Upload-Metadata: filename <base64>` | 201, `Location` |
//! | `HEAD /uploads/{id}` | 200, `Upload-Offset`, `Upload-Length` |
//! | `PATCH /uploads/{id}` with `Upload-Offset`, `application/offset+octet-stream` | 204, `Upload-Offset`; 409 at a wrong offset |
//! | `DELETE /uploads/{id}` | 204 |
//! | `OPTIONS /uploads` | 204, what the server knows of tus 1.0 |
//! | `GET /uploads/{id}/name` | what the file should be called |
//! | `POST /uploads/{id}/remove` | the same as `DELETE`, by a form |
//!
//! A part may carry `Upload-Checksum` (sha256 or sha1): one that does not fit is refused with
//! 460, and nothing of it is kept. Another `Tus-Resumable` than 1.0.0 is answered with 412.
//!
//! A body is taken as fast as it can be kept in memory, at most one part of it, and only
//! while it keeps coming.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use ring::digest;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::store::{self, Part};
use super::{CreateError, FILE_LIMIT_BYTES, FileName, PartError, Upload, check_length};
use crate::app::App;
use crate::custody;
use crate::db::Db;
use crate::filings::hand_in;
use crate::ids::{DocumentId, UploadId};
use crate::web::body::{READ_TIMEOUT, Unreceived, receive};
use crate::web::forms::{Verified, VerifiedScript};
use crate::web::page_error::PageError;
use crate::web::principals::{Filer, Member};
use crate::web::router::Routes;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

/// How many parts are taken in at once; together they hold at most 256 MiB.
const PARTS_AT_ONCE: usize = 32;
/// How long a part waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(20);

const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const TUS_VERSION_NAME: HeaderName = HeaderName::from_static("tus-version");
const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const TUS_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
const EXTENSIONS: &str = "creation,expiration,checksum,termination";
const ALGORITHMS: &str = "sha256,sha1";
/// The status of tus for a part whose checksum does not fit.
const CHECKSUM_MISMATCH: u16 = 460;
const TUS_VERSION: HeaderValue = HeaderValue::from_static("1.0.0");
const PART_TYPE: &str = "application/offset+octet-stream";

static TURNS: Semaphore = Semaphore::const_new(PARTS_AT_ONCE);

/// The routes of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Filer, _, _>(Method::OPTIONS, "/uploads", options)
        .allow::<Filer, _, _>(Method::POST, "/uploads", create)
        .allow::<Filer, _, _>(Method::HEAD, "/uploads/{id}", progress)
        .allow::<Filer, _, _>(Method::PATCH, "/uploads/{id}", append)
        .allow::<Filer, _, _>(Method::DELETE, "/uploads/{id}", remove)
        .allow::<Filer, _, _>(Method::POST, "/uploads/{id}/remove", remove_by_form)
        .allow::<Filer, _, _>(Method::GET, "/uploads/{id}/name", suggest_name)
}

/// `OPTIONS /uploads`
async fn options(_: Member) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(TUS_RESUMABLE, TUS_VERSION);
    headers.insert(TUS_VERSION_NAME, TUS_VERSION);
    headers.insert(TUS_EXTENSION, HeaderValue::from_static(EXTENSIONS));
    headers.insert(TUS_MAX_SIZE, HeaderValue::from(FILE_LIMIT_BYTES));
    headers.insert(TUS_CHECKSUM_ALGORITHM, HeaderValue::from_static(ALGORITHMS));
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Another version of the protocol is answered before anything else is looked at.
fn other_version(headers: &HeaderMap) -> Option<Response> {
    let other = headers
        .get(TUS_RESUMABLE)
        .is_some_and(|version| version != TUS_VERSION);
    other.then(|| {
        let mut response = refused(
            StatusCode::PRECONDITION_FAILED,
            "送信の方式の版が違います。画面を再読み込みしてください。",
        );
        let headers = response.headers_mut();
        headers.insert(TUS_VERSION_NAME, TUS_VERSION);
        response
    })
}

/// `POST /uploads`
async fn create(
    member: Member,
    State(app): State<App>,
    _: VerifiedScript,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    if let Some(response) = other_version(&headers) {
        return Ok(response);
    }
    if headers.contains_key(UPLOAD_DEFER_LENGTH) {
        return Ok(refused(
            StatusCode::BAD_REQUEST,
            "ファイルの大きさが分からないため、送信できません。",
        ));
    }
    let now = app.clock.now();
    let wanted = file_name(&headers).and_then(|name| {
        let length = number(&headers, &UPLOAD_LENGTH).unwrap_or(0);
        check_length(length).map(|()| (name, length))
    });
    let (name, length) = match wanted {
        Ok(wanted) => wanted,
        Err(error) => return Ok(create_refused(error)),
    };
    let mut tx = app.db.begin().await?;
    let upload = match store::create(&mut tx, &member, &name, length, now).await? {
        Ok(upload) => upload,
        Err(error) => return Ok(create_refused(error)),
    };
    Db::commit(tx).await?;
    let location = format!("/uploads/{}", upload.id);
    let mut response = (StatusCode::CREATED, state_of(&upload)).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// `HEAD /uploads/{id}`
async fn progress(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    if let Some(response) = other_version(&headers) {
        return Ok(response);
    }
    let upload = find(&app, &member, &id).await?;
    let mut state = state_of(&upload);
    let metadata = format!("filename {}", STANDARD.encode(&upload.file_name));
    if let Ok(metadata) = HeaderValue::try_from(metadata) {
        state.insert(UPLOAD_METADATA, metadata);
    }
    Ok((StatusCode::OK, state).into_response())
}

/// `PATCH /uploads/{id}`
async fn append(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
    _: VerifiedScript,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PageError> {
    if let Some(response) = other_version(&headers) {
        return Ok(response);
    }
    if headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) != Some(PART_TYPE.as_bytes()) {
        return Ok(refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "送信の形式が正しくありません。画面を再読み込みしてください。",
        ));
    }
    let upload = find(&app, &member, &id).await?;
    let Some(offset) = number(&headers, &UPLOAD_OFFSET) else {
        return Ok(refused(
            StatusCode::BAD_REQUEST,
            "送信の続きの位置がありません。画面を再読み込みしてください。",
        ));
    };
    let room = match upload.room_at(offset) {
        Ok(room) => room,
        Err(error) => return Ok(part_refused(error)),
    };
    if number(&headers, &header::CONTENT_LENGTH).is_some_and(|length| length > room) {
        return Ok(part_refused(upload.overflow()));
    }
    let checksum = match headers.get(UPLOAD_CHECKSUM).map(Checksum::read) {
        None => None,
        Some(Some(checksum)) => Some(checksum),
        Some(None) => {
            return Ok(refused(
                StatusCode::BAD_REQUEST,
                "送信の確認用の値を読み取れません。画面を再読み込みしてください。",
            ));
        }
    };
    let Ok(Ok(_turn)) = timeout(TURN_TIMEOUT, TURNS.acquire()).await else {
        return Ok(busy());
    };
    let bytes = match receive(body, room, READ_TIMEOUT).await {
        Ok(bytes) => bytes,
        Err(Unreceived::TooMuch) => return Ok(part_refused(upload.overflow())),
        Err(Unreceived::Cut) => {
            return Ok(refused(
                StatusCode::BAD_REQUEST,
                "送信が途中で切れました。続きから送り直してください。",
            ));
        }
        Err(Unreceived::Slow) => {
            return Ok(refused(
                StatusCode::REQUEST_TIMEOUT,
                "送信が止まりました。続きから送り直してください。",
            ));
        }
    };
    if checksum.is_some_and(|checksum| !checksum.fits(&bytes)) {
        let status = StatusCode::from_u16(CHECKSUM_MISMATCH).unwrap_or(StatusCode::BAD_REQUEST);
        return Ok(refused(
            status,
            "送信の途中でデータが壊れました。続きから送り直してください。",
        ));
    }
    if bytes.is_empty() {
        return Ok((StatusCode::NO_CONTENT, state_of(&upload)).into_response());
    }
    keep(&app, &member, upload, bytes).await
}

/// Seals a part, puts it away, and counts it if nothing came between.
async fn keep(
    app: &App,
    member: &Member,
    upload: Upload,
    bytes: Vec<u8>,
) -> Result<Response, PageError> {
    let part = Part {
        start_bytes: upload.offset_bytes,
        length_bytes: bytes.len() as u64,
        object: DocumentId::new(),
    };
    let key = custody::establishment_key(app, member.establishment())
        .await
        .map_err(PageError::storing("find the key for a part"))?;
    app.vault
        .put(part.object, &key, bytes)
        .await
        .map_err(|error| PageError::storing("keep a part")(error.into()))?;

    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    if !store::add_part(&mut tx, member, upload.id, &part, now).await? {
        drop(tx);
        custody::remove_objects(app, [part.object]).await;
        let current = store::find(&app.db, member, upload.id, now)
            .await?
            .ok_or(PageError::NotFound)?;
        let error = PartError::WrongOffset {
            given: part.start_bytes,
            expected: current.offset_bytes,
        };
        return Ok(part_refused(error));
    }
    // If the commit's answer is lost, the part may count: its object stays.
    Db::commit(tx).await?;
    let upload = Upload {
        offset_bytes: part.start_bytes + part.length_bytes,
        ..upload
    };
    Ok((StatusCode::NO_CONTENT, state_of(&upload)).into_response())
}

/// `DELETE /uploads/{id}`
async fn remove(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
    _: VerifiedScript,
) -> Result<StatusCode, PageError> {
    let id: UploadId = id.parse().map_err(|_| PageError::NotFound)?;
    if super::discard(&app, &member, id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(PageError::NotFound)
    }
}

/// `POST /uploads/{id}/remove`
async fn remove_by_form(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let id: UploadId = id.parse().map_err(|_| PageError::NotFound)?;
    if super::discard(&app, &member, id).await? {
        Ok(Redirect::to("/filings/new?removed=1"))
    } else {
        Err(PageError::NotFound)
    }
}

/// A form with nothing but its token.
#[derive(Deserialize)]
struct Nothing {}

/// `GET /uploads/{id}/name`: what a finished PDF should be called, for the form to begin with.
async fn suggest_name(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let upload = find(&app, &member, &id).await?;
    if !upload.is_complete() || upload.submission.is_some() {
        return Err(PageError::NotFound);
    }
    let suggested = hand_in::suggest_name(&app, &member, &upload, app.clock.now())
        .await
        .map_err(PageError::doing("suggest a name"))?;
    let name = suggested.name.map(|name| name.file_name());
    Ok(Json(json!({
        "is_right": suggested.is_right,
        "date": suggested.date.to_string(),
        "kind": suggested.kind.map(|kind| kind.code()),
        "name": name,
    }))
    .into_response())
}

/// What a part must hash to.
struct Checksum {
    algorithm: &'static digest::Algorithm,
    expected: Vec<u8>,
}

impl Checksum {
    /// `sha256 <base64>`; `None` for what is neither that nor sha1.
    fn read(header: &HeaderValue) -> Option<Self> {
        let (name, value) = header.to_str().ok()?.split_once(' ')?;
        let algorithm = match name {
            "sha256" => &digest::SHA256,
            // The protocol asks every server to know it. It guards against accidents alone.
            "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            _ => return None,
        };
        let expected = STANDARD.decode(value.trim()).ok()?;
        Some(Self {
            algorithm,
            expected,
        })
    }

    fn fits(&self, bytes: &[u8]) -> bool {
        digest::digest(self.algorithm, bytes).as_ref() == self.expected
    }
}

async fn find(app: &App, member: &Member, id: &str) -> Result<Upload, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    store::find(&app.db, member, id, app.clock.now())
        .await?
        .ok_or(PageError::NotFound)
}

/// `filename` out of `Upload-Metadata: filename 5bGl...,filetype ...`
fn file_name(headers: &HeaderMap) -> Result<FileName, CreateError> {
    let metadata = headers
        .get(UPLOAD_METADATA)
        .and_then(|value| value.to_str().ok())
        .ok_or(CreateError::Name)?;
    let encoded = metadata
        .split(',')
        .filter_map(|pair| pair.trim().split_once(' '))
        .find(|(key, _)| *key == "filename")
        .map(|(_, value)| value.trim())
        .ok_or(CreateError::Name)?;
    let bytes = STANDARD.decode(encoded).map_err(|_| CreateError::Name)?;
    FileName::parse(&String::from_utf8(bytes).map_err(|_| CreateError::Name)?)
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn state_of(upload: &Upload) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TUS_RESUMABLE, TUS_VERSION);
    headers.insert(UPLOAD_OFFSET, HeaderValue::from(upload.offset_bytes));
    headers.insert(UPLOAD_LENGTH, HeaderValue::from(upload.length_bytes));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(expires) = HeaderValue::try_from(http_date(upload.expires)) {
        headers.insert(UPLOAD_EXPIRES, expires);
    }
    headers
}

/// `Fri, 20 Nov 2026 03:05:00 GMT`
fn http_date(at: OffsetDateTime) -> String {
    let form = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    at.to_offset(time::UtcOffset::UTC)
        .format(form)
        .unwrap_or_default()
}

fn create_refused(error: CreateError) -> Response {
    let status = match error {
        CreateError::Name | CreateError::IndividualNumber | CreateError::Empty => {
            StatusCode::BAD_REQUEST
        }
        CreateError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        CreateError::TooMany | CreateError::QuotaUsed => StatusCode::TOO_MANY_REQUESTS,
    };
    refused(status, &error.page_text())
}

fn part_refused(error: PartError) -> Response {
    let status = match error {
        PartError::WrongOffset { .. } | PartError::HandedIn => StatusCode::CONFLICT,
        PartError::BeyondEnd => StatusCode::BAD_REQUEST,
        PartError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
    };
    let mut response = refused(status, &error.page_text());
    if let PartError::WrongOffset { expected, .. } = error {
        response
            .headers_mut()
            .insert(UPLOAD_OFFSET, HeaderValue::from(expected));
    }
    response
}

fn busy() -> Response {
    let mut response = refused(
        StatusCode::SERVICE_UNAVAILABLE,
        "ただいま混み合っています。自動でもう一度送信します。",
    );
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(5));
    response
}

fn refused(status: StatusCode, sentence: &str) -> Response {
    let mut response = (status, Json(json!({ "sentence": sentence }))).into_response();
    response.headers_mut().insert(TUS_RESUMABLE, TUS_VERSION);
    response
}

#[cfg(test)]
mod tests;
