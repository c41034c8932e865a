//! `/v1/enrolments`: how a PC asks to be registered and hears what became of it;
//! `/v1/device/certificate`: how it gets a certificate that lasts longer.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use protocol::agent_api::{
    CertificateRenewed, CertificateRequest, Enrolled, EnrolmentOpened, EnrolmentRequest,
    EnrolmentState,
};
use protocol::{Der, EnrolmentId};

use super::store::{self, Outcome};
use crate::app::App;
use crate::clock::unix_ms;
use crate::control_api::{AUTHORIZATION, Asked, DeviceCertificate, Refused, RefusedAt, bearer};
use crate::gateways;
use crate::keys::Purpose;

/// What a PC is told whose request staff refused.
const REFUSED_SENTENCE: &str =
    "このパソコンの登録は承認されませんでした。基金事務局へお問い合わせください。";

/// `POST /v1/enrolments`
pub async fn enrol(
    State(app): State<App>,
    Asked(asked): Asked<EnrolmentRequest>,
) -> Result<Json<EnrolmentOpened>, RefusedAt> {
    let now = app.clock.now();
    let opened = super::enrol(&app, &asked, now)
        .await
        .map_err(|refused| refused.at(now))?;
    Ok(Json(EnrolmentOpened {
        enrolment: opened.enrolment,
        poll_token: opened.poll_token,
        server_time_ms: unix_ms(now),
    }))
}

/// `POST /v1/device/certificate`
pub async fn renew(
    DeviceCertificate(certificate): DeviceCertificate,
    State(app): State<App>,
    Asked(asked): Asked<CertificateRequest>,
) -> Result<Json<CertificateRenewed>, RefusedAt> {
    let now = app.clock.now();
    super::renew_certificate(&app, &certificate, &asked.certificate_request.0, now)
        .await
        .map(Json)
        .map_err(|refused| refused.at(now))
}

/// `GET /v1/enrolments/{id}`
pub async fn enrolment(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<EnrolmentState>, RefusedAt> {
    let now = app.clock.now();
    // What cannot be an id is answered like an id that does not exist.
    let token = bearer(headers.get(AUTHORIZATION));
    match (id.parse(), token) {
        (Ok(id), Some(token)) => find_state(&app, id, token).await,
        (_, _) => Err(Refused::NotFound),
    }
    .map(Json)
    .map_err(|refused| refused.at(now))
}

async fn find_state(app: &App, id: EnrolmentId, token: &str) -> Result<EnrolmentState, Refused> {
    let polled = store::poll(&app.db, id).await?;
    // An unknown request costs as much time as a wrong token.
    let hash = polled.as_ref().map_or("", |polled| &polled.poll_token_hash);
    let fits = app.keys.hash_fits(Purpose::Token, token.as_bytes(), hash);
    let polled = polled.filter(|_| fits).ok_or(Refused::NotFound)?;
    Ok(match polled.outcome {
        Outcome::Pending => EnrolmentState::Pending,
        Outcome::Refused => EnrolmentState::Refused {
            sentence: REFUSED_SENTENCE.to_owned(),
        },
        Outcome::Approved(device) => {
            let config = &app.config;
            EnrolmentState::Approved(Box::new(Enrolled {
                device: device.id,
                certificate: Der(device.certificate),
                service_authority: Der(app.authorities.service_certificate().to_vec()),
                fund_name: config.fund_name.clone(),
                establishment: device.establishment_number,
                establishment_name: device.establishment_name,
                portal_url: config.member.url.clone(),
                portal_key_sha256: match &config.member.certificate_file {
                    Some(_) => None,
                    None => Some(app.authorities.member_key_sha256()),
                },
                gateways: gateways::store::urls(&app.db).await?,
            }))
        }
    })
}
