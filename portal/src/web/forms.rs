//! Reading forms: only together with this session's anti-forgery token.
//!
//! [`Verified`] is the way to read a form; a page's own script that sends something else
//! than a form (an upload's part) shows the token in a header, and its handler takes
//! [`VerifiedScript`]. The token is derived from the web session, so nothing is stored.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use http::{HeaderMap, Method};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::body::{self, Unreceived};
use super::page_error::PageError;
use crate::app::App;
use crate::batches::{DROP_LIMIT_BYTES, ITEM_LIMIT};
use crate::keys::Purpose;
use crate::uploads;

/// Largest form, in bytes. Files travel on routes of their own.
pub const FORM_LIMIT_BYTES: usize = 64 * 1024;
/// Largest form with files, in bytes: 200 workbooks of 100 KB.
const FILES_LIMIT_BYTES: u64 = 20 * 1024 * 1024;
/// Files that one form may bring.
const FILES_LIMIT: usize = 500;
/// Header with the anti-forgery token, for requests by a page's own script.
pub const CSRF_HEADER: &str = "renkei-csrf";

/// What the anti-forgery token of this request's session is made from. Principals put it
/// into the request.
#[derive(Clone)]
pub(super) struct CsrfSecret(pub(super) String);

/// The anti-forgery token of a session.
pub(super) fn csrf_token(app: &App, secret: &str) -> String {
    app.keys.hash(Purpose::Csrf, secret.as_bytes())
}

/// A form that carries the token of the session it came in.
#[derive(Debug)]
pub struct Verified<T>(pub T);

/// A request by a page's own script that carries the token in [`CSRF_HEADER`].
#[derive(Debug, Clone, Copy)]
pub struct VerifiedScript(());

#[derive(Deserialize)]
struct CsrfField {
    csrf: String,
}

impl<T: DeserializeOwned> FromRequest<App> for Verified<T> {
    type Rejection = PageError;

    async fn from_request(request: Request, app: &App) -> Result<Self, PageError> {
        let (parts, body) = request.into_parts();
        refuse_foreign_site(&parts.headers)?;
        let body = axum::body::to_bytes(body, FORM_LIMIT_BYTES)
            .await
            .map_err(|_| PageError::TooLarge)?;
        let shown = match header_token(&parts.headers) {
            Some(token) => token.to_owned(),
            None => {
                serde_urlencoded::from_bytes::<CsrfField>(&body)
                    .map_err(|_| PageError::Forged)?
                    .csrf
            }
        };
        check(app, &parts, &shown)?;
        serde_urlencoded::from_bytes(&body)
            .map(Self)
            .map_err(|error| PageError::BadForm(error.to_string()))
    }
}

impl FromRequestParts<App> for VerifiedScript {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        debug_assert_ne!(parts.method, Method::GET, "reading needs no token");
        refuse_foreign_site(&parts.headers)?;
        let shown = header_token(&parts.headers).ok_or(PageError::Forged)?;
        check(app, parts, shown)?;
        Ok(Self(()))
    }
}

/// A file out of a form.
#[derive(Debug)]
pub struct FormFile {
    /// Its name, as the browser gave it, without any folder.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// A form with files (RFC 7578) that carries the token of the session it came in.
#[derive(Debug, Default)]
pub struct VerifiedFiles {
    /// The files, in their order. An input that was left empty gives none.
    pub files: Vec<FormFile>,
    /// The text fields.
    pub fields: BTreeMap<String, Typed>,
}

/// A form with a whole batch of files; otherwise as [`VerifiedFiles`].
#[derive(Debug, Default)]
pub struct VerifiedBatch(pub VerifiedFiles);

/// A form with one file as large as a filing may be; otherwise as [`VerifiedFiles`].
#[derive(Debug, Default)]
pub struct VerifiedFile(pub VerifiedFiles);

impl FromRequest<App> for VerifiedFile {
    type Rejection = PageError;

    async fn from_request(request: Request, app: &App) -> Result<Self, PageError> {
        let limit = uploads::FILE_LIMIT_BYTES + FORM_LIMIT_BYTES as u64;
        read_files(request, app, limit, 1).await.map(Self)
    }
}

impl FromRequest<App> for VerifiedFiles {
    type Rejection = PageError;

    async fn from_request(request: Request, app: &App) -> Result<Self, PageError> {
        read_files(request, app, FILES_LIMIT_BYTES, FILES_LIMIT).await
    }
}

impl FromRequest<App> for VerifiedBatch {
    type Rejection = PageError;

    async fn from_request(request: Request, app: &App) -> Result<Self, PageError> {
        read_files(request, app, DROP_LIMIT_BYTES, ITEM_LIMIT)
            .await
            .map(Self)
    }
}

async fn read_files(
    request: Request,
    app: &App,
    limit_bytes: u64,
    limit: usize,
) -> Result<VerifiedFiles, PageError> {
    let (parts, body) = request.into_parts();
    refuse_foreign_site(&parts.headers)?;
    let bad = |error: multer::Error| PageError::BadForm(error.to_string());
    let content_type = parts.headers.get(http::header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    // A form of another kind is none of ours, and has no token where ours has it.
    let boundary =
        multer::parse_boundary(content_type.unwrap_or_default()).map_err(|_| PageError::Forged)?;
    let body = body::receive(body, limit_bytes, body::READ_TIMEOUT)
        .await
        .map_err(|unreceived| match unreceived {
            Unreceived::TooMuch => PageError::TooLarge,
            Unreceived::Cut | Unreceived::Slow => {
                PageError::BadForm("the body did not come whole".to_owned())
            }
        })?;
    let whole = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(body)]);
    let mut form = multer::Multipart::new(whole, boundary);
    let mut read = VerifiedFiles::default();
    while let Some(field) = form.next_field().await.map_err(bad)? {
        let name = field.name().unwrap_or_default().to_owned();
        match field.file_name().map(base_name) {
            Some(file) => {
                let bytes = field.bytes().await.map_err(bad)?;
                if file.is_empty() && bytes.is_empty() {
                    continue;
                }
                if read.files.len() == limit {
                    return Err(PageError::TooLarge);
                }
                read.files.push(FormFile {
                    name: file,
                    bytes: bytes.into(),
                });
            }
            None => {
                let text = Zeroizing::new(field.text().await.map_err(bad)?);
                if text.len() > FORM_LIMIT_BYTES || read.fields.len() == FILES_LIMIT {
                    return Err(PageError::TooLarge);
                }
                read.fields.insert(name, Typed(text));
            }
        }
    }
    let shown = read.fields.get("csrf").ok_or(PageError::Forged)?;
    check(app, &parts, shown)?;
    Ok(read)
}

/// What stands behind the last separator: some programs send a whole path.
fn base_name(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    name.to_owned()
}

fn header_token(headers: &HeaderMap) -> Option<&str> {
    headers.get(CSRF_HEADER)?.to_str().ok()
}

/// Checks the token among a form's fields, for `step_up`, which reads forms of any feature.
pub(crate) fn check_fields(
    app: &App,
    parts: &Parts,
    fields: &[(String, String)],
) -> Result<(), PageError> {
    refuse_foreign_site(&parts.headers)?;
    let shown = fields.iter().find(|(name, _)| name == "csrf");
    let (_, shown) = shown.ok_or(PageError::Forged)?;
    check(app, parts, shown)
}

fn check(app: &App, parts: &Parts, shown: &str) -> Result<(), PageError> {
    let secret = parts
        .extensions
        .get::<CsrfSecret>()
        .ok_or(PageError::Forged)?;
    if app
        .keys
        .hash_fits(Purpose::Csrf, secret.0.as_bytes(), shown)
    {
        Ok(())
    } else {
        Err(PageError::Forged)
    }
}

/// Browsers say where a request comes from; what says it comes from elsewhere is refused.
fn refuse_foreign_site(headers: &HeaderMap) -> Result<(), PageError> {
    match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(PageError::Forged),
    }
}

/// A secret typed into a form: wiped from memory after use, never shown by `Debug`.
#[derive(Clone)]
pub struct Typed(Zeroizing<String>);

impl Deref for Typed {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Typed(…)")
    }
}

/// What is wrong with the fields of a form, for its error summary and beside each field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors(Vec<FieldError>);

/// One field's error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name and id; empty if the error belongs to no field.
    pub field: &'static str,
    /// What is wrong and what to do, Japanese.
    pub sentence: String,
}

impl FieldErrors {
    /// Adds an error of `field` (empty: of the whole form).
    pub fn add(&mut self, field: &'static str, sentence: impl Into<String>) {
        self.0.push(FieldError {
            field,
            sentence: sentence.into(),
        });
    }

    /// An error of one field.
    pub fn of_one(field: &'static str, sentence: impl Into<String>) -> Self {
        let mut errors = Self::default();
        errors.add(field, sentence);
        errors
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All errors, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, FieldError> {
        self.0.iter()
    }

    /// What is wrong with `field`; empty if nothing is.
    pub fn on(&self, field: &str) -> &str {
        self.0
            .iter()
            .find(|error| error.field == field)
            .map_or("", |error| error.sentence.as_str())
    }
}
