//! Gets manifest and program from the portal, through the tunnel.
//!
//! One connection of its own beside the window's: TLS to the portal inside a stream, checked
//! against the same authorities as the gateways. What comes is bounded, and believed by
//! nobody before it was judged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use protocol::updates::{FILES_PATH, MANIFEST_LIMIT_BYTES, MANIFEST_PATH};
use rustls_pki_types::ServerName;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::staging::{Part, StageError};
use super::{Offer, Refusal};
use crate::agent::Route;
use crate::clock::Clock;
use crate::gateway_client::trust::{Dates, tls_config};

/// How long the portal may take for a connection, for an answer, and for the next bytes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why nothing was fetched. It is tried again later.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The tunnel, TLS or HTTP.
    #[error("update not fetched: {0}")]
    Line(String),
    /// Too slow.
    #[error("update not fetched: no answer in time")]
    Silent,
    /// The portal has it no longer, or answered with an error.
    #[error("update not fetched: the portal answered {0}")]
    Status(StatusCode),
    /// The disk, or what came is not to be believed.
    #[error(transparent)]
    Stage(#[from] StageError),
}

fn line(error: impl std::fmt::Display) -> FetchError {
    FetchError::Line(error.to_string())
}

/// What the portal offers; `None` if it offers nothing.
pub async fn manifest(route: &Route, clock: Arc<Clock>) -> Result<Option<Vec<u8>>, FetchError> {
    let answer = ask(route, clock, MANIFEST_PATH).await?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let body = Limited::new(whole(answer)?.into_body(), MANIFEST_LIMIT_BYTES);
    let body = timeout(PATIENCE, body.collect()).await;
    let body = body.map_err(|_| FetchError::Silent)?.map_err(line)?;
    Ok(Some(body.to_bytes().to_vec()))
}

/// Writes the program of `offer` to `part`, a piece at a time and only while `may_fetch`.
pub async fn program(
    route: &Route,
    clock: Arc<Clock>,
    offer: &Offer,
    part: &mut Part,
    may_fetch: &mut watch::Receiver<bool>,
) -> Result<(), FetchError> {
    let answer = whole(ask(route, clock, &format!("{FILES_PATH}{}", offer.file)).await?)?;
    let announced = answer.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length != offer.size_bytes) {
        return Err(StageError::from(Refusal::WrongProgram(offer.version)).into());
    }
    let mut body = answer.into_body();
    loop {
        let quiet = may_fetch.wait_for(|may| *may).await;
        quiet.map_err(|_| line("the agent ends"))?;
        let frame = timeout(PATIENCE, body.frame()).await;
        let Some(frame) = frame.map_err(|_| FetchError::Silent)? else {
            return Ok(());
        };
        if let Ok(bytes) = frame.map_err(line)?.into_data() {
            part.write(&bytes)?;
        }
    }
}

fn whole(answer: Response<Incoming>) -> Result<Response<Incoming>, FetchError> {
    match answer.status() {
        StatusCode::OK => Ok(answer),
        status => Err(FetchError::Status(status)),
    }
}

async fn ask(
    route: &Route,
    clock: Arc<Clock>,
    path: &str,
) -> Result<Response<Incoming>, FetchError> {
    let asking = async {
        let (host, port) = route.portal.authority();
        let tls = tls_config(&route.roots, None, clock, Dates::Strict).map_err(line)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(line)?;
        let stream = route.link.open_stream().await.map_err(line)?;
        let connector = TlsConnector::from(Arc::new(tls));
        let stream = connector.connect(name, stream).await.map_err(line)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(line)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection for updates ended");
            }
        });
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(HOST, format!("{host}:{port}"))
            .body(Empty::<Bytes>::new())
            .map_err(line)?;
        sender.send_request(request).await.map_err(line)
    };
    timeout(PATIENCE, asking)
        .await
        .unwrap_or(Err(FetchError::Silent))
}
