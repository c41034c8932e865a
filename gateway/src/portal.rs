//! The way to the portal's control listener: mutual TLS, connections kept open.
//!
//! It carries requests and answers and understands none of them. It never follows a
//! redirect, never uses a proxy from the environment, and believes a certificate only for
//! [`CONTROL_NAME`] by the fund's service authority, whatever host the address has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use protocol::SessionId;
use protocol::agent_api::DEVICE_CERTIFICATE_HEADER;
use protocol::control::{GatewayHello, SessionEnded};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;

use crate::config::HttpsUrl;

/// The name in the certificate of the portal's control listener.
pub const CONTROL_NAME: &str = "control.portal.renkei.internal";

/// Longest answer that is relayed, in bytes.
pub const ANSWER_LIMIT_BYTES: usize = 64 * 1024;

/// How long a connection to the portal may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the portal may take to answer. Opening a session may send a mail.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an unused connection is kept, so that the next 「接続」 finds it open.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// How many unused connections are kept.
const IDLE_CONNECTIONS: usize = 16;

/// The portal's control listener.
#[derive(Debug, Clone)]
pub struct Portal {
    client: reqwest::Client,
    base: String,
}

/// A request to pass on. It has no place for anything else that a client sent.
#[derive(Debug)]
pub struct Relay<'a> {
    /// The method.
    pub method: Method,
    /// The path, made from parsed parts.
    pub path: String,
    /// The body as it came; none for a request without.
    pub body: Option<Bytes>,
    /// The certificate that the device showed in TLS.
    pub certificate: Option<&'a CertificateDer<'static>>,
    /// The poll token of an enrolment.
    pub authorization: Option<HeaderValue>,
}

/// What the portal answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The kind of body.
    pub content_type: Option<HeaderValue>,
    /// The body as it came.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PortalError {
    /// The connection could not be made, broke, or nothing came in time.
    #[error("the portal cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The answer is longer than [`ANSWER_LIMIT_BYTES`].
    #[error("the portal's answer is too long")]
    TooLong,
    /// The portal answered something else than what was agreed.
    #[error("the portal answered {0}")]
    Status(StatusCode),
}

impl Portal {
    /// Prepares the way to `control_url`; connects when first asked.
    ///
    /// # Errors
    /// [`PortalError::Unreachable`] if the TLS settings are refused.
    pub fn new(control_url: &HttpsUrl, tls: ClientConfig) -> Result<Self, PortalError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(AlwaysAt(Arc::from(control_url.host()))))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .tcp_keepalive(Duration::from_secs(15))
            .build()
            .map_err(PortalError::Unreachable)?;
        Ok(Self {
            client,
            base: format!("https://{CONTROL_NAME}:{}", control_url.port()),
        })
    }

    /// Passes a request on and brings the answer back.
    ///
    /// # Errors
    /// [`PortalError`] if there is no answer. A refusal by the portal is an answer.
    pub async fn relay(&self, request: Relay<'_>) -> Result<Answer, PortalError> {
        let mut out = self
            .client
            .request(request.method, format!("{}{}", self.base, request.path))
            .timeout(ANSWER_TIMEOUT);
        if let Some(certificate) = request.certificate {
            out = out.header(DEVICE_CERTIFICATE_HEADER, STANDARD.encode(certificate));
        }
        if let Some(authorization) = request.authorization {
            out = out.header(AUTHORIZATION, authorization);
        }
        if let Some(body) = request.body {
            out = out.header(CONTENT_TYPE, "application/json").body(body);
        }
        let mut answer = out.send().await.map_err(unreachable)?;
        let status = answer.status();
        let content_type = answer.headers().get(CONTENT_TYPE).cloned();
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > ANSWER_LIMIT_BYTES {
                return Err(PortalError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status,
            content_type,
            body: body.freeze(),
        })
    }

    /// Tells the portal that this gateway is here.
    ///
    /// # Errors
    /// [`PortalError`] if the portal did not take note of it.
    pub async fn register(&self, hello: &GatewayHello) -> Result<(), PortalError> {
        self.tell("/control/v1/register", hello).await
    }

    /// Tells the portal what became of a session.
    ///
    /// # Errors
    /// [`PortalError`] if the portal did not take note of it.
    pub async fn session_ended(
        &self,
        session: SessionId,
        ended: &SessionEnded,
    ) -> Result<(), PortalError> {
        let path = format!("/control/v1/sessions/{session}/ended");
        self.tell(&path, ended).await
    }

    /// Opens the feed of grants: an answer whose body does not end.
    ///
    /// # Errors
    /// [`PortalError`] if it does not open.
    pub async fn open_feed(&self) -> Result<reqwest::Response, PortalError> {
        let opening = self
            .client
            .get(format!("{}/control/v1/grants", self.base))
            .send();
        // The client's own timeout would also end the feed.
        let answer = match tokio::time::timeout(ANSWER_TIMEOUT, opening).await {
            Ok(answer) => answer.map_err(unreachable)?,
            Err(_) => return Err(PortalError::Status(StatusCode::GATEWAY_TIMEOUT)),
        };
        match answer.status() {
            StatusCode::OK => Ok(answer),
            other => Err(PortalError::Status(other)),
        }
    }

    async fn tell(&self, path: &str, what: &impl serde::Serialize) -> Result<(), PortalError> {
        let answer = self
            .client
            .post(format!("{}{path}", self.base))
            .timeout(ANSWER_TIMEOUT)
            .json(what)
            .send()
            .await
            .map_err(unreachable)?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(PortalError::Status(answer.status()))
        }
    }
}

fn unreachable(error: reqwest::Error) -> PortalError {
    PortalError::Unreachable(error.without_url())
}

/// Resolves every name to the configured host, an address or a name of its own.
struct AlwaysAt(Arc<str>);

impl Resolve for AlwaysAt {
    fn resolve(&self, _: Name) -> Resolving {
        let host = Arc::clone(&self.0);
        Box::pin(async move {
            // Port 0 is replaced by the URL's.
            let found = tokio::net::lookup_host((&*host, 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
