//! The handlers of the control listener that concern sessions and gateways.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::SessionId;
use protocol::agent_api::{ServiceStatus, SessionRequest};
use protocol::control::{GatewayHello, SessionEnded, SessionOpened};

use access::Opening;

use super::{feed, moves};
use crate::app::App;
use crate::clock::unix_ms;
use crate::control_api::{Asked, DeviceCertificate, Refused, RefusedAt};
use crate::db::Db;
use crate::gateways::{self, ENDPOINTS_LIMIT, Gateway};

/// `POST /v1/sessions`
pub async fn open(
    gateway: Gateway,
    DeviceCertificate(certificate): DeviceCertificate,
    State(app): State<App>,
    Asked(request): Asked<SessionRequest>,
) -> Result<Json<SessionOpened>, RefusedAt> {
    let now = app.clock.now();
    super::open(&app, &gateway, &certificate, &request, now)
        .await
        .map(Json)
        .map_err(|refused| refused.at(now))
}

/// `POST /v1/sessions/{id}/move`
pub async fn move_here(
    gateway: Gateway,
    DeviceCertificate(certificate): DeviceCertificate,
    State(app): State<App>,
    Path(session): Path<String>,
    Asked(request): Asked<SessionRequest>,
) -> Result<Json<SessionOpened>, RefusedAt> {
    let now = app.clock.now();
    let session = id(&session).map_err(|refused| refused.at(now))?;
    moves::move_here(&app, &gateway, &certificate, session, &request, now)
        .await
        .map(Json)
        .map_err(|refused| refused.at(now))
}

/// `POST /v1/sessions/{id}/end`
pub async fn end(
    DeviceCertificate(certificate): DeviceCertificate,
    State(app): State<App>,
    Path(session): Path<String>,
) -> Result<StatusCode, RefusedAt> {
    let now = app.clock.now();
    let session = id(&session).map_err(|refused| refused.at(now))?;
    super::disconnect(&app, &certificate, session, now)
        .await
        .map_err(|refused| refused.at(now))?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/status`
pub async fn status(
    DeviceCertificate(certificate): DeviceCertificate,
    State(app): State<App>,
) -> Result<Json<ServiceStatus>, RefusedAt> {
    let now = app.clock.now();
    let answer = async {
        let caller = super::check_standing(&app, &certificate).await?;
        let gateways = gateways::store::urls(&app.db).await?;
        Ok((caller, gateways, super::opening(&app, now).await?))
    };
    let (caller, gateways, opening) = answer.await.map_err(|refused: Refused| refused.at(now))?;
    let closed = match opening {
        Opening::Open { .. } => None,
        Opening::Closed(closed) => Some(closed),
    };
    Ok(Json(ServiceStatus {
        server_time_ms: unix_ms(now),
        open: closed.is_none(),
        sentence: closed.as_ref().map(access::Closed::page_text),
        next_opening_ms: closed.and_then(|closed| closed.opens_next).map(unix_ms),
        rehearsal: app.config.rehearsal,
        gateways,
        certificate_expires_ms: Some(caller.certificate_expires_ms),
    }))
}

/// `POST /control/v1/register`
pub async fn register(
    gateway: Gateway,
    State(app): State<App>,
    Asked(hello): Asked<GatewayHello>,
) -> Result<StatusCode, RefusedAt> {
    let now = app.clock.now();
    let answer = async {
        if hello.endpoints.len() > ENDPOINTS_LIMIT || !gateways::is_base_url(&hello.url) {
            return Err(Refused::BadRequest("endpoints or URL"));
        }
        let mut tx = app.db.begin().await?;
        gateways::store::register(&mut tx, &gateway.name, &hello, now).await?;
        Db::commit(tx).await?;
        Ok(())
    };
    answer.await.map_err(|refused: Refused| refused.at(now))?;
    tracing::info!(gateway = %gateway.name, version = %hello.version, "gateway registered");
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /control/v1/grants`
pub async fn grants(gateway: Gateway, State(app): State<App>) -> Response {
    let lines = feed::follow(app, gateway.name);
    let kind = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (kind, Body::from_stream(lines)).into_response()
}

/// `POST /control/v1/sessions/{id}/ended`
pub async fn ended(
    gateway: Gateway,
    State(app): State<App>,
    Path(session): Path<String>,
    Asked(report): Asked<SessionEnded>,
) -> Result<StatusCode, RefusedAt> {
    let now = app.clock.now();
    let session = id(&session).map_err(|refused| refused.at(now))?;
    super::take_report(&app, &gateway, session, &report, now)
        .await
        .map_err(|refused| refused.at(now))?;
    Ok(StatusCode::NO_CONTENT)
}

/// What cannot be an id is answered like an id that does not exist.
fn id(text: &str) -> Result<SessionId, Refused> {
    text.parse().map_err(|_| Refused::NotFound)
}
