//! Speaks the agent API (`/v1/…`) with the gateways, over TLS 1.3.
//!
//! Keeps one warm connection per gateway, so that 接続 costs one round trip. Asks the
//! gateways in order, the one that answered last first. Proxies in the environment are not
//! used: the tunnel would not go through them either.
//!
//! Whose certificate is believed, and at what time, is decided in [`trust`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use protocol::agent_api::{
    AgentGrant, EnrolmentOpened, EnrolmentRequest, EnrolmentState, Refusal, RefusalCode,
    ServiceStatus, SessionRequest,
};
use protocol::{EnrolmentId, SessionId};
use reqwest::{Client, Method, RequestBuilder, Response};
use rustls::sign::CertifiedKey;
use serde::de::DeserializeOwned;

use crate::clock::{Clock, from_unix_ms};
use crate::urls::GatewayUrl;

mod error;
pub mod trust;

pub use error::ApiError;
use trust::{Dates, Roots};

/// How long a gateway may take to accept a connection before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an answer may take; the portal may be sending a mail meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an unused connection is kept open.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Longest answer that is read, in bytes. An approval with its certificates is under 10 KB.
const ANSWER_LIMIT_BYTES: usize = 256 * 1024;

/// Most gateways that are tried for one request.
const MAX_GATEWAYS: usize = 16;

/// The gateways of one fund, spoken to as one PC.
#[derive(Debug)]
pub struct GatewayClient {
    gateways: Vec<GatewayUrl>,
    /// Index of the one that answered last.
    preferred: AtomicUsize,
    strict: Client,
    /// Only with a device certificate: learns the time when the PC's clock is wrong.
    lenient: Option<Client>,
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
    ) -> Result<Self, ApiError> {
        Self::new(vec![gateway], roots, None, clock)
    }

    /// A client for an approved PC.
    pub fn device(
        gateways: Vec<GatewayUrl>,
        roots: Roots,
        identity: Arc<CertifiedKey>,
        clock: Arc<Clock>,
    ) -> Result<Self, ApiError> {
        Self::new(gateways, roots, Some(identity), clock)
    }

    fn new(
        mut gateways: Vec<GatewayUrl>,
        roots: Roots,
        identity: Option<Arc<CertifiedKey>>,
        clock: Arc<Clock>,
    ) -> Result<Self, ApiError> {
        gateways.truncate(MAX_GATEWAYS);
        let client = |dates| {
            let tls = trust::tls_config(&roots, identity.clone(), clock.clone(), dates)?;
            Client::builder()
                .tls_backend_preconfigured(tls)
                .https_only(true)
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(ANSWER_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .user_agent(concat!("vpn-agent/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(ApiError::from_reqwest)
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

    /// `POST /v1/enrolments`.
    pub async fn open_enrolment(
        &self,
        request: &EnrolmentRequest,
    ) -> Result<EnrolmentOpened, ApiError> {
        let opened: Answered<EnrolmentOpened> = self
            .ask(
                Method::POST,
                "/v1/enrolments",
                |http| Ok(http.json(request)),
            )
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
            .ask(Method::GET, &path, |http| Ok(http.bearer_auth(poll_token)))
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
            .ask(Method::POST, "/v1/sessions", |http| {
                Ok(http.json(&request()?))
            })
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
        let url = gateway.path(&format!("/v1/sessions/{session}/end"));
        let sent = self.strict.request(Method::POST, url).send().await;
        read_answer(sent.map_err(ApiError::from_reqwest)?)
            .await
            .map(drop)
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
        mut fill: impl FnMut(RequestBuilder) -> Result<RequestBuilder, ApiError>,
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
        fill: &mut impl FnMut(RequestBuilder) -> Result<RequestBuilder, ApiError>,
    ) -> Result<T, ApiError> {
        let url = gateway.path(path);
        let request = |client: &Client| client.request(method.clone(), url.clone());
        let sent = fill(request(&self.strict))?.send().await;
        let response = match (sent.map_err(ApiError::from_reqwest), &self.lenient) {
            (Err(ApiError::WrongDates), Some(lenient)) => {
                self.learn_time(gateway, lenient).await?;
                let again = fill(request(&self.strict))?.send().await;
                again.map_err(ApiError::from_reqwest)?
            }
            (sent, _) => sent?,
        };
        let body = read_answer(response).await?;
        serde_json::from_slice(&body).map_err(|error| ApiError::BadAnswer(error.to_string()))
    }

    /// Asks for the time, and nothing else, over a connection whose certificate's dates do
    /// not fit the PC's clock. See [`trust`] for why this is safe.
    async fn learn_time(&self, gateway: &GatewayUrl, lenient: &Client) -> Result<(), ApiError> {
        let sent = lenient.get(gateway.path("/v1/status")).send().await;
        let server_time_ms = match read_answer(sent.map_err(ApiError::from_reqwest)?).await {
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

/// Reads the body of a success; turns everything else into its error.
async fn read_answer(mut response: Response) -> Result<Vec<u8>, ApiError> {
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(ApiError::from_reqwest)? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_LIMIT_BYTES {
            return Err(ApiError::BadAnswer("answer is too long".to_owned()));
        }
    }
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
            Self::Unreachable(_) | Self::Untrusted(_) | Self::BadAnswer(_) => true,
            Self::NoGateway | Self::WrongDates | Self::Trust(_) | Self::Own(_) => false,
        }
    }
}
