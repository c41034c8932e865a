//! Speaks the agent API (`/v1/…`) with the gateways, over TLS 1.3.
//!
//! Keeps warm connections ([`http`]), so that 接続 costs one round trip. Asks the gateways in
//! order, the one that answered last first; each straight or through a proxy, as
//! [`crate::dial`] finds out.
//!
//! Whose certificate is believed, and at what time, is decided in [`trust`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::{Method, StatusCode};
use protocol::agent_api::{
    AgentGrant, EnrolmentOpened, EnrolmentRequest, EnrolmentState, Refusal, RefusalCode,
    ServiceStatus, SessionRequest,
};
use protocol::{EnrolmentId, SessionId};
use rustls::sign::CertifiedKey;
use serde::de::DeserializeOwned;

use crate::clock::{Clock, from_unix_ms};
use crate::dial::Dialer;
use crate::urls::GatewayUrl;

mod error;
mod http;
pub mod trust;

pub use error::ApiError;
use http::{Http, Request};
use trust::{Dates, Roots};

/// Most gateways that are tried for one request.
const MAX_GATEWAYS: usize = 16;

/// The gateways of one fund, spoken to as one PC.
#[derive(Debug)]
pub struct GatewayClient {
    gateways: Vec<GatewayUrl>,
    /// Index of the one that answered last.
    preferred: AtomicUsize,
    strict: Http,
    /// Only with a device certificate: learns the time when the PC's clock is wrong.
    lenient: Option<Http>,
    clock: Arc<Clock>,
}

/// An answer and the gateway that gave it.
#[derive(Debug)]
pub struct Answered<T> {
    /// The answer.
    pub answer: T,
    /// Which gateway: a session must be ended where it was granted.
    pub gateway: GatewayUrl,
}

impl GatewayClient {
    /// A client without a certificate: it can enrol, nothing else.
    pub fn anonymous(
        gateway: GatewayUrl,
        roots: Roots,
        clock: Arc<Clock>,
        dialer: Dialer,
    ) -> Result<Self, ApiError> {
        Self::new(vec![gateway], roots, None, clock, dialer)
    }

    /// A client for an approved PC.
    pub fn device(
        gateways: Vec<GatewayUrl>,
        roots: Roots,
        identity: Arc<CertifiedKey>,
        clock: Arc<Clock>,
        dialer: Dialer,
    ) -> Result<Self, ApiError> {
        Self::new(gateways, roots, Some(identity), clock, dialer)
    }

    fn new(
        mut gateways: Vec<GatewayUrl>,
        roots: Roots,
        identity: Option<Arc<CertifiedKey>>,
        clock: Arc<Clock>,
        dialer: Dialer,
    ) -> Result<Self, ApiError> {
        gateways.truncate(MAX_GATEWAYS);
        let client = |dates| {
            let tls = trust::tls_config(&roots, identity.clone(), clock.clone(), dates)?;
            Ok::<_, ApiError>(Http::new(dialer.clone(), tls))
        };
        Ok(Self {
            strict: client(Dates::Strict)?,
            lenient: identity
                .is_some()
                .then(|| client(Dates::NotBeforeFloor))
                .transpose()?,
            gateways,
            preferred: AtomicUsize::new(0),
            clock,
        })
    }

    /// The TLS that gateways are spoken with.
    pub fn tls(&self) -> Arc<rustls::ClientConfig> {
        self.strict.tls()
    }

    /// `POST /v1/enrolments`.
    pub async fn open_enrolment(
        &self,
        request: &EnrolmentRequest,
    ) -> Result<EnrolmentOpened, ApiError> {
        let opened: Answered<EnrolmentOpened> = self
            .ask(Method::POST, "/v1/enrolments", |http| http.json(request))
            .await?;
        self.learn(Some(opened.answer.server_time_ms));
        Ok(opened.answer)
    }

    /// `GET /v1/enrolments/{id}`.
    pub async fn enrolment(
        &self,
        enrolment: &EnrolmentId,
        poll_token: &str,
    ) -> Result<EnrolmentState, ApiError> {
        let path = format!("/v1/enrolments/{enrolment}");
        let state = self
            .ask(Method::GET, &path, |http| Ok(http.bearer(poll_token)))
            .await?;
        Ok(state.answer)
    }

    /// `GET /v1/status`.
    pub async fn status(&self) -> Result<ServiceStatus, ApiError> {
        let status: Answered<ServiceStatus> = self.ask(Method::GET, "/v1/status", Ok).await?;
        self.learn(Some(status.answer.server_time_ms));
        Ok(status.answer)
    }

    /// `POST /v1/sessions`. `request` is called for each gateway that is tried: a key that
    /// may have reached the portal once is not sent again.
    pub async fn open_session(
        &self,
        mut request: impl FnMut() -> Result<SessionRequest, ApiError>,
    ) -> Result<Answered<AgentGrant>, ApiError> {
        let granted: Answered<AgentGrant> = self
            .ask(Method::POST, "/v1/sessions", |http| http.json(&request()?))
            .await?;
        self.learn(Some(granted.answer.server_time_ms));
        Ok(granted)
    }

    /// `POST /v1/sessions/{id}/end`, at the gateway that granted it.
    pub async fn end_session(
        &self,
        gateway: &GatewayUrl,
        session: &SessionId,
    ) -> Result<(), ApiError> {
        let request = Request::new(Method::POST, &format!("/v1/sessions/{session}/end"));
        read_answer(self.strict.send(gateway, &request).await?).map(drop)
    }

    /// Says whether the true time is known well enough: the PC's clock, or a server's.
    fn learn(&self, server_time_ms: Option<i64>) {
        if let Some(time) = server_time_ms.and_then(from_unix_ms) {
            self.clock.learn(time, self.clock.now());
        }
    }

    /// Asks one gateway after the other until one gives an answer or a refusal of the
    /// portal's own.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        mut fill: impl FnMut(Request) -> Result<Request, ApiError>,
    ) -> Result<Answered<T>, ApiError> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last_error = ApiError::NoGateway;
        for attempt in 0..self.gateways.len() {
            let index = (first + attempt) % self.gateways.len();
            let gateway = &self.gateways[index];
            match self.ask_one(gateway, &method, path, &mut fill).await {
                Ok(answer) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(Answered {
                        answer,
                        gateway: gateway.clone(),
                    });
                }
                Err(error) if error.is_this_gateways_own() => {
                    tracing::info!(%gateway, error = %error.chain(), "gateway did not help");
                    last_error = error;
                }
                Err(error) => {
                    if let ApiError::Refused(refusal) = &error {
                        self.learn(refusal.server_time_ms);
                    }
                    return Err(error);
                }
            }
        }
        Err(last_error)
    }

    async fn ask_one<T: DeserializeOwned>(
        &self,
        gateway: &GatewayUrl,
        method: &Method,
        path: &str,
        fill: &mut impl FnMut(Request) -> Result<Request, ApiError>,
    ) -> Result<T, ApiError> {
        let request = Request::new(method.clone(), path);
        let sent = self.strict.send(gateway, &fill(request.clone())?).await;
        let answer = match (sent, &self.lenient) {
            (Err(ApiError::WrongDates), Some(lenient)) => {
                self.learn_time(gateway, lenient).await?;
                self.strict.send(gateway, &fill(request)?).await?
            }
            (sent, _) => sent?,
        };
        let body = read_answer(answer)?;
        serde_json::from_slice(&body).map_err(|error| ApiError::BadAnswer(error.to_string()))
    }

    /// Asks for the time, and nothing else, over a connection whose certificate's dates do
    /// not fit the PC's clock. See [`trust`] for why this is safe.
    async fn learn_time(&self, gateway: &GatewayUrl, lenient: &Http) -> Result<(), ApiError> {
        let request = Request::new(Method::GET, "/v1/status");
        let server_time_ms = match read_answer(lenient.send(gateway, &request).await?) {
            Ok(body) => serde_json::from_slice::<ServiceStatus>(&body)
                .ok()
                .map(|status| status.server_time_ms),
            Err(ApiError::Refused(refusal)) => refusal.server_time_ms,
            Err(error) => return Err(error),
        };
        let told = server_time_ms.and_then(from_unix_ms);
        match told.filter(|time| *time >= self.clock.floor()) {
            Some(time) => {
                tracing::warn!(server_time = %time, "the PC's clock is wrong; going by the portal's");
                self.clock.learn(time, self.clock.now());
                Ok(())
            }
            None => Err(ApiError::WrongDates),
        }
    }
}

/// Gives back the body of a success; turns everything else into its error.
fn read_answer((status, body): (StatusCode, Vec<u8>)) -> Result<Vec<u8>, ApiError> {
    if status.is_success() {
        return Ok(body);
    }
    match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => Err(ApiError::Refused(refusal)),
        Err(_) => Err(ApiError::BadAnswer(format!("status {status}"))),
    }
}

impl ApiError {
    /// Whether another gateway may do better.
    fn is_this_gateways_own(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.code == RefusalCode::Unavailable,
            Self::Unreachable(_)
            | Self::Proxy(_)
            | Self::Cut(_)
            | Self::Silent
            | Self::Untrusted(_)
            | Self::BadAnswer(_) => true,
            Self::NoGateway | Self::WrongDates | Self::Trust(_) | Self::Own(_) => false,
        }
    }
}
