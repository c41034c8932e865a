//! What gateways may ask: the agent API that they relay, and their own.
//!
//! Every route, unknown ones too, asks for a [`Gateway`] first. A device's certificate is
//! believed only from a gateway, which has checked in TLS that its sender holds the key;
//! whether it is still good is for the database to say. Every refusal has the body that
//! `protocol::agent_api` promises, with a Japanese sentence.

use std::time::Duration;

use access::{Closed, EndReason};
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_extractor_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use protocol::Bytes32;
use protocol::agent_api::{
    BODY_LIMIT_BYTES, DEVICE_CERTIFICATE_HEADER, EndCode, Refusal, RefusalCode,
};
use rustls_pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use crate::app::App;
use crate::clock::unix_ms;
use crate::db::StoreError;
use crate::gateways::{self, Gateway, fingerprint};
use crate::web::page_error::chain;
use crate::{devices, tunnel_sessions};

/// How long a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The control listener puts this into each request: the certificate that TLS has checked.
#[derive(Debug, Clone)]
pub struct GatewayConnection {
    /// The leaf certificate.
    pub certificate: CertificateDer<'static>,
}

/// The certificate of the device on whose behalf a gateway asks, by SHA-256.
#[derive(Debug, Clone, Copy)]
pub struct DeviceCertificate(pub Bytes32);

/// A request's body, parsed.
#[derive(Debug)]
pub struct Asked<T>(pub T);

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Outside the service window.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The registration code does not fit.
    #[error("registration code does not fit")]
    WrongCode,
    /// The establishment has no room for another PC.
    #[error("no room for more than {limit} devices")]
    TooManyDevices {
        /// How many it may have.
        limit: i64,
    },
    /// The device, its user or its establishment is out of use.
    #[error("device, user or establishment is out of use")]
    Revoked,
    /// No certificate that the portal knows.
    #[error("no known device certificate")]
    NoDevice,
    /// The request makes no sense.
    #[error("malformed request: {0}")]
    BadRequest(&'static str),
    /// No such thing, or not for the asker.
    #[error("no such thing")]
    NotFound,
    /// The session that was to be moved is over.
    #[error("the session is over: {}", .0.as_str())]
    SessionOver(EndCode),
    /// The session went from gateway to gateway too often.
    #[error("too many moves of one session")]
    TooManyMoves,
    /// The gateway asks before it has said where it is.
    #[error("the gateway has not registered")]
    GatewayUnknown,
    /// The database did not answer.
    #[error("database")]
    Store(#[from] StoreError),
    /// A certificate cannot be made or read.
    #[error("certificate: {0}")]
    Certificate(&'static str),
}

/// A refusal with the portal's clock, ready to be sent.
#[derive(Debug)]
pub struct RefusedAt {
    refused: Refused,
    now: OffsetDateTime,
}

impl Refused {
    /// Adds the time, so that the agent can say if the PC's clock is wrong.
    pub fn at(self, now: OffsetDateTime) -> RefusedAt {
        RefusedAt { refused: self, now }
    }

    /// The code for programs.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::Closed(_) => RefusalCode::Closed,
            Self::WrongCode => RefusalCode::WrongCode,
            Self::TooManyDevices { .. } => RefusalCode::TooManyDevices,
            Self::Revoked => RefusalCode::Revoked,
            Self::NoDevice => RefusalCode::NoDevice,
            Self::BadRequest(_) => RefusalCode::BadRequest,
            Self::NotFound => RefusalCode::NotFound,
            Self::SessionOver(_) => RefusalCode::SessionOver,
            Self::TooManyMoves => RefusalCode::TooManyRequests,
            Self::GatewayUnknown | Self::Store(_) | Self::Certificate(_) => {
                RefusalCode::Unavailable
            }
        }
    }

    /// The word in the audit log.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Closed(_) => "closed",
            Self::WrongCode => "wrong_code",
            Self::TooManyDevices { .. } => "too_many_devices",
            Self::Revoked => "revoked",
            Self::NoDevice => "no_device",
            Self::BadRequest(_) => "bad_request",
            Self::NotFound => "not_found",
            Self::SessionOver(_) => "session_over",
            Self::TooManyMoves => "too_many_moves",
            Self::GatewayUnknown | Self::Store(_) | Self::Certificate(_) => "unavailable",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Closed(_) | Self::WrongCode | Self::Revoked => StatusCode::FORBIDDEN,
            Self::TooManyDevices { .. } => StatusCode::CONFLICT,
            Self::NoDevice => StatusCode::UNAUTHORIZED,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::SessionOver(_) => StatusCode::GONE,
            Self::TooManyMoves => StatusCode::TOO_MANY_REQUESTS,
            Self::GatewayUnknown | Self::Store(_) | Self::Certificate(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// What the user is told: what happened and what to do next.
    pub fn page_text(&self) -> String {
        match self {
            Self::Closed(closed) => closed.page_text(),
            Self::WrongCode => "登録コードを確認できませんでした。事業所番号と登録コードをもう一度ご確認ください。登録コードは30日以内に1回だけ使えます。ご不明な場合は基金事務局へお問い合わせください。".to_owned(),
            Self::TooManyDevices { limit } => format!(
                "登録できるパソコンは{limit}台までです。使わなくなったパソコンの登録解除を基金事務局へご依頼ください。"
            ),
            Self::Revoked => "このパソコンからのご利用は停止されています。基金事務局へお問い合わせください。".to_owned(),
            Self::NoDevice => "このパソコンは登録されていません。登録コードを使って登録してください。".to_owned(),
            Self::BadRequest(_) => "お使いの連携アプリからの要求を受け付けられませんでした。連携アプリを最新のものに更新してから、もう一度お試しください。".to_owned(),
            Self::NotFound => "該当する情報が見つかりませんでした。基金事務局へお問い合わせください。".to_owned(),
            Self::TooManyMoves => "通信が何度も途切れたため、この接続を続けられません。「切断」を押してから、もう一度「接続」を押してください。".to_owned(),
            Self::SessionOver(reason) => EndReason::from(*reason).page_text().to_owned(),
            Self::GatewayUnknown | Self::Store(_) | Self::Certificate(_) => "ただいま基金のシステムをご利用いただけません。数分待ってから、もう一度お試しください。それでもつながらないときは、基金事務局へお電話ください。".to_owned(),
        }
    }
}

impl IntoResponse for RefusedAt {
    fn into_response(self) -> Response {
        let refused = &self.refused;
        match refused.status() {
            StatusCode::SERVICE_UNAVAILABLE => {
                tracing::error!(error = %chain(refused), "request not answered");
            }
            _ => tracing::info!(%refused, "request refused"),
        }
        let next_opening = match refused {
            Refused::Closed(closed) => closed.opens_next.map(unix_ms),
            _ => None,
        };
        let body = Refusal {
            code: refused.code(),
            sentence: refused.page_text(),
            next_opening_ms: next_opening,
            server_time_ms: Some(unix_ms(self.now)),
        };
        (refused.status(), axum::Json(body)).into_response()
    }
}

/// Everything that the control listener serves.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/v1/enrolments", post(devices::control::enrol))
        .route("/v1/enrolments/{id}", get(devices::control::enrolment))
        .route("/v1/status", get(tunnel_sessions::control::status))
        .route("/v1/sessions", post(tunnel_sessions::control::open))
        .route(
            "/v1/sessions/{id}/move",
            post(tunnel_sessions::control::move_here),
        )
        .route("/v1/sessions/{id}/end", post(tunnel_sessions::control::end))
        .route("/v1/device/certificate", post(devices::control::renew))
        .route(
            "/control/v1/register",
            post(tunnel_sessions::control::register),
        )
        .route("/control/v1/grants", get(tunnel_sessions::control::grants))
        .route(
            "/control/v1/sessions/{id}/ended",
            post(tunnel_sessions::control::ended),
        )
        .layer(from_extractor_with_state::<Gateway, App>(app.clone()))
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
        .with_state(app)
}

impl FromRequestParts<App> for Gateway {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let Some(connection) = parts.extensions.get::<GatewayConnection>() else {
            return Err(StatusCode::FORBIDDEN.into_response());
        };
        match gateways::find(&app.db, &connection.certificate).await {
            Ok(Some(gateway)) => Ok(gateway),
            Ok(None) => {
                tracing::warn!("a certificate of no gateway in use was shown");
                Err(StatusCode::FORBIDDEN.into_response())
            }
            Err(error) => Err(Refused::from(error).at(app.clock.now()).into_response()),
        }
    }
}

impl FromRequestParts<App> for DeviceCertificate {
    type Rejection = RefusedAt;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, RefusedAt> {
        // Only ever reached behind the guard: a gateway sent the header.
        parts
            .headers
            .get(DEVICE_CERTIFICATE_HEADER)
            .and_then(|value| STANDARD.decode(value.as_bytes()).ok())
            .map(|certificate| Self(fingerprint(&certificate)))
            .ok_or_else(|| Refused::NoDevice.at(app.clock.now()))
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Asked<T> {
    type Rejection = RefusedAt;

    async fn from_request(request: Request, app: &App) -> Result<Self, RefusedAt> {
        let refused = |why| Refused::BadRequest(why).at(app.clock.now());
        let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, app))
            .await
            .map_err(|_| refused("body too slow"))?
            .map_err(|_| refused("body too long or broken off"))?;
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|_| refused("body is not what was agreed"))
    }
}

/// Reads `Authorization: Bearer …`.
pub fn bearer(value: Option<&HeaderValue>) -> Option<&str> {
    value?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The header that [`bearer`] reads.
pub const AUTHORIZATION: header::HeaderName = header::AUTHORIZATION;

#[cfg(test)]
pub(crate) mod tests;
