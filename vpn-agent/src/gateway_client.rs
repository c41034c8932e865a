//! Speaks the agent API (`/v1/…`) with the gateways, over TLS 1.3.
//!
//! Keeps warm connections ([`http`]), so that 接続 costs one round trip. Asks the gateways in
//! the order that [`order`] keeps; each straight or through a proxy, as
//! [`crate::dial`] finds out.
//!
//! Whose certificate is believed, and at what time, is decided in [`trust`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::{Method, StatusCode};
use protocol::agent_api::{
    AgentGrant, CertificateRenewed, CertificateRequest, EnrolmentOpened, EnrolmentRequest,
    EnrolmentState, Refusal, RefusalCode, ServiceStatus, SessionRequest,
};
use protocol::{EnrolmentId, SessionId};
use rustls::sign::CertifiedKey;
use serde::de::DeserializeOwned;

use crate::clock::{Clock, from_unix_ms};
use crate::dial::Dialer;
use crate::urls::GatewayUrl;

mod error;
mod failover;
mod http;
pub mod order;
pub mod trust;

pub use error::ApiError;
pub(crate) use error::is_about_dates;
use http::{Http, Request};
use order::{Known, Order};
use trust::{Dates, Roots};

/// The gateways of one fund, spoken to as one PC.
#[derive(Debug)]
pub struct GatewayClient {
    order: Mutex<Order>,
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
        gateways: Vec<GatewayUrl>,
        roots: Roots,
        identity: Option<Arc<CertifiedKey>>,
        clock: Arc<Clock>,
        dialer: Dialer,
    ) -> Result<Self, ApiError> {
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
            order: Mutex::new(Order::new(gateways)),
            clock,
        })
    }

    /// What is known of the gateways, for the next run.
    pub fn known_gateways(&self) -> Known {
        self.order().known().clone()
    }

    /// Takes over what an earlier run knew of the gateways.
    pub fn recall_gateways(&self, known: Known) {
        self.order().recall(known);
    }

    /// Takes over the list that the portal tells. What is no address of a gateway is skipped.
    pub fn learn_gateways(&self, listed: &[String]) {
        let listed = listed.iter().filter_map(|url| url.parse().ok()).collect();
        self.order().learn(listed);
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// `POST /v1/sessions/{id}/end`, at the gateway that it goes through, or at another if
    /// that one is gone: the portal tells it.
    pub async fn end_session(
        &self,
        gateway: &GatewayUrl,
        session: &SessionId,
    ) -> Result<(), ApiError> {
        let request = Request::new(Method::POST, &format!("/v1/sessions/{session}/end"));
        let mut sequence = self.order().sequence(self.clock.now().mono);
        sequence.retain(|other| other != gateway);
        sequence.insert(0, gateway.clone());
        let mut last_error = ApiError::NoGateway;
        for gateway in &sequence {
            let ended = self.strict.send(gateway, &request).await;
            let ended = ended.and_then(read_answer).map(drop);
            if self.settle(gateway, ended, &mut last_error)?.is_some() {
                return Ok(());
            }
        }
        Err(last_error)
    }

    /// `POST /v1/device/certificate`.
    pub async fn renew_certificate(
        &self,
        request: &CertificateRequest,
    ) -> Result<CertificateRenewed, ApiError> {
        let renewed = self
            .ask(Method::POST, "/v1/device/certificate", |http| {
                http.json(request)
            })
            .await?;
        Ok(renewed.answer)
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
        let sequence = self.order().sequence(self.clock.now().mono);
        let mut last_error = ApiError::NoGateway;
        for gateway in sequence {
            let asked = self.ask_one(&gateway, &method, path, &mut fill).await;
            if let Some(answer) = self.settle(&gateway, asked, &mut last_error)? {
                return Ok(Answered { answer, gateway });
            }
        }
        Err(last_error)
    }

    /// What follows from one gateway's answer: take it, or (`None`) ask the next.
    ///
    /// # Errors
    /// A refusal of the portal's own, or what no other gateway can help with.
    fn settle<T>(
        &self,
        gateway: &GatewayUrl,
        asked: Result<T, ApiError>,
        last_error: &mut ApiError,
    ) -> Result<Option<T>, ApiError> {
        match asked {
            Ok(answer) => {
                self.order().worked(gateway);
                Ok(Some(answer))
            }
            Err(error) if error.is_this_gateways_own() => {
                tracing::info!(error = %error.chain(), "gateway did not help");
                tracing::debug!(%gateway, "did not help");
                self.order().failed(gateway, self.clock.now().mono);
                // That the fund's systems are away says more than that one gateway is.
                if !matches!(last_error, ApiError::Refused(_)) {
                    *last_error = error;
                }
                Ok(None)
            }
            Err(error) => {
                if let ApiError::Refused(refusal) = &error {
                    self.learn(refusal.server_time_ms);
                }
                Err(error)
            }
        }
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
        match told {
            Some(time) if self.clock.learn_anew(time, self.clock.now()) => {
                tracing::warn!(server_time = %time, "the PC's clock is wrong; going by the portal's");
                Ok(())
            }
            Some(_) | None => Err(ApiError::WrongDates),
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
