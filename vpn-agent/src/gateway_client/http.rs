//! One request and its answer, over a warm connection if there is one.
//!
//! A connection is kept after an answer, so that the next request costs one round trip. What
//! was perhaps received is never sent twice: only a request that certainly did not leave, or
//! that changes nothing, is repeated on a fresh connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;

use super::ApiError;
use crate::dial::Dialer;
use crate::urls::GatewayUrl;

/// How long an answer may take, its connection included; the portal may be sending a mail
/// meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer that is read, in bytes. An approval with its certificates is under 10 KB.
const ANSWER_LIMIT_BYTES: usize = 256 * 1024;

/// Warm connections that are kept: two requests may be under way at a time.
const MAX_IDLE: usize = 4;

const AGENT: &str = concat!("vpn-agent/", env!("CARGO_PKG_VERSION"));

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Begins with a slash.
    pub(super) path: String,
    pub(super) json: Option<Bytes>,
    pub(super) bearer: Option<String>,
}

/// Requests with one TLS identity.
#[derive(Debug)]
pub(super) struct Http {
    dialer: Dialer,
    tls: Arc<ClientConfig>,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    gateway: GatewayUrl,
    sender: SendRequest<Full<Bytes>>,
}

impl Request {
    pub(super) fn new(method: Method, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            json: None,
            bearer: None,
        }
    }

    /// Adds a body.
    pub(super) fn json(mut self, value: &impl serde::Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(value).map_err(|e| ApiError::BadAnswer(e.to_string()))?;
        self.json = Some(body.into());
        Ok(self)
    }

    /// Adds the proof of who asks.
    pub(super) fn bearer(mut self, token: &str) -> Self {
        self.bearer = Some(token.to_owned());
        self
    }

    fn to_http(&self, gateway: &GatewayUrl) -> Result<hyper::Request<Full<Bytes>>, ApiError> {
        let unusable = |error: hyper::http::Error| ApiError::BadAnswer(error.to_string());
        let (host, port) = gateway.authority();
        let mut builder = hyper::Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header(HOST, format!("{host}:{port}"))
            .header(USER_AGENT, AGENT);
        if self.json.is_some() {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.bearer {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|error| unusable(error.into()))?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        let body = Full::new(self.json.clone().unwrap_or_default());
        builder.body(body).map_err(unusable)
    }
}

impl Http {
    pub(super) fn new(dialer: Dialer, tls: ClientConfig) -> Self {
        Self {
            dialer,
            tls: Arc::new(tls),
            idle: Mutex::default(),
        }
    }

    pub(super) fn tls(&self) -> Arc<ClientConfig> {
        self.tls.clone()
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn send(
        &self,
        gateway: &GatewayUrl,
        request: &Request,
    ) -> Result<(StatusCode, Vec<u8>), ApiError> {
        tokio::time::timeout(ANSWER_TIMEOUT, self.try_send(gateway, request))
            .await
            .unwrap_or(Err(ApiError::Silent))
    }

    async fn try_send(
        &self,
        gateway: &GatewayUrl,
        request: &Request,
    ) -> Result<(StatusCode, Vec<u8>), ApiError> {
        while let Some(mut sender) = self.take_idle(gateway) {
            let http = request.to_http(gateway)?;
            match sender.try_send_request(http).await {
                Ok(answer) => return self.read(gateway, sender, answer).await,
                Err(mut error) => {
                    let never_left = error.take_message().is_some();
                    if !never_left && request.method != Method::GET {
                        return Err(ApiError::Cut(error.into_error()));
                    }
                }
            }
        }
        let connection = self.dialer.connect(gateway, &self.tls).await;
        let connection = connection.map_err(ApiError::from_dial)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(connection))
            .await
            .map_err(ApiError::Cut)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the gateway ended");
            }
        });
        let http = request.to_http(gateway)?;
        let answer = sender.send_request(http).await.map_err(ApiError::Cut)?;
        self.read(gateway, sender, answer).await
    }

    async fn read(
        &self,
        gateway: &GatewayUrl,
        sender: SendRequest<Full<Bytes>>,
        answer: hyper::Response<hyper::body::Incoming>,
    ) -> Result<(StatusCode, Vec<u8>), ApiError> {
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT_BYTES).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => ApiError::Cut(*error),
            Err(error) if error.is::<LengthLimitError>() => {
                ApiError::BadAnswer("answer is too long".to_owned())
            }
            Err(error) => ApiError::BadAnswer(error.to_string()),
        })?;
        self.keep(gateway.clone(), sender);
        Ok((head.status, body.to_bytes().to_vec()))
    }

    fn take_idle(&self, gateway: &GatewayUrl) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle();
        idle.retain(|kept| !kept.sender.is_closed());
        let at = idle
            .iter()
            .position(|kept| kept.gateway == *gateway && kept.sender.is_ready())?;
        Some(idle.swap_remove(at).sender)
    }

    fn keep(&self, gateway: GatewayUrl, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle();
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push(Idle { gateway, sender });
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
