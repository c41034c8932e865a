//! What happens with each request: find the route, take the body, ask the portal, pass on.

use std::convert::Infallible;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONNECTION, HeaderValue, UPGRADE};
use hyper::{HeaderMap, Method, Request};
use protocol::agent_api::{BODY_LIMIT_BYTES, EndCode, Refusal, RefusalCode, TUNNEL_UPGRADE};
use protocol::control::SessionOpened;
use protocol::{Generation, SessionId};
use tracing::{debug, info, warn};

use crate::commands::Command;
use crate::feed::{self, FeedState, chain};
use crate::grants::from_unix_ms;
use crate::identity::fingerprint;
use crate::portal::{Answer, Relay};

use super::answers::{Refused, Reply, json, passed_on, switching_to};
use super::routes::Route;
use super::upgrade::Upgrade;
use super::{AgentApi, Caller};

/// How much of an overlong body is read and thrown away, in bytes, so that the client gets
/// to read the refusal.
const DISCARD_LIMIT_BYTES: usize = 256 * 1024;

/// How long a session that is asked for waits for the portal's feed, which comes back within
/// this after a restart of the portal.
const FEED_PATIENCE: Duration = Duration::from_secs(1);

/// Longest poll token with its scheme, in bytes.
const AUTHORIZATION_LIMIT_BYTES: usize = 512;

impl AgentApi {
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        caller: Caller,
    ) -> Result<Reply, Infallible> {
        let route = Route::find(request.method(), request.uri().path(), caller.standing());
        let reply = match route {
            Some(route) => self.handle(route, request, &caller).await,
            None => Err(Refused::NotFound),
        };
        let reply = reply.unwrap_or_else(|refused| {
            debug!(%refused, "refused");
            refused.reply()
        });
        let label = route.map_or("none", Route::label);
        self.metrics.answered(label, reply.status());
        Ok(reply)
    }

    async fn handle(
        &self,
        route: Route,
        mut request: Request<Incoming>,
        caller: &Caller,
    ) -> Result<Reply, Refused> {
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        match route {
            Route::Enrol => {
                if !self.may_try(&self.attempts, caller.source) {
                    return Err(Refused::TooMany);
                }
                let body = self.take_body(body).await?;
                self.relay(route, Some(body), None, None)
                    .await
                    .map(passed_on)
            }
            Route::Enrolment(_) => {
                if !self.may_try(&self.polls, caller.source) {
                    return Err(Refused::TooMany);
                }
                let authorization = poll_token(&head.headers)?;
                let answer = self.relay(route, None, None, Some(authorization)).await;
                answer.map(passed_on)
            }
            Route::Status => {
                let answer = self.relay(route, None, Some(caller), None).await;
                answer.map(passed_on)
            }
            Route::OpenSession | Route::MoveSession(_) => {
                let body = self.take_body(body).await?;
                self.open_session(route, body, caller).await
            }
            Route::RenewCertificate => {
                let body = self.take_body(body).await?;
                let answer = self.relay(route, Some(body), Some(caller), None).await;
                answer.map(passed_on)
            }
            Route::EndSession(session) => {
                let body = self.take_body(body).await?;
                self.end_session(session, body, caller).await
            }
            Route::Tunnel => {
                if !asks_for_tunnel(&head.headers) {
                    return Err(Refused::NotFound);
                }
                let place = self.entrance.place().ok_or(Refused::Unavailable)?;
                caller.upgrade.put(Upgrade { upgrade, place });
                Ok(switching_to(TUNNEL_UPGRADE))
            }
        }
    }

    /// Opens a session, or takes one over from another gateway: the agent hears of it when its
    /// packets can pass, not before.
    async fn open_session(
        &self,
        route: Route,
        body: Bytes,
        caller: &Caller,
    ) -> Result<Reply, Refused> {
        let asked_in = self.feed_soon().await;
        if asked_in == FeedState::Lost {
            self.metrics.refused(RefusalCode::Unavailable);
            warn!("no session opened: the portal's feed is lost");
            return Err(Refused::Unavailable);
        }
        let answer = self.relay(route, Some(body), Some(caller), None).await?;
        if !answer.status.is_success() {
            let refusal: Option<Refusal> = serde_json::from_slice(&answer.body).ok();
            let code = refusal.map_or(RefusalCode::Unavailable, |refusal| refusal.code);
            self.metrics.refused(code);
            return Ok(passed_on(answer));
        }
        let opened: SessionOpened = serde_json::from_slice(&answer.body).map_err(|error| {
            warn!(%error, "the portal's grant is not understood");
            Refused::Unavailable
        })?;
        let (session, generation) = (opened.grant.session, opened.grant.generation);
        if matches!(route, Route::MoveSession(asked) if asked != session) {
            warn!(%session, "the portal's grant is for another session than was asked for");
            return Err(Refused::Unavailable);
        }
        let (status, agent) = (answer.status, opened.agent.clone());
        match self.let_in(opened, asked_in, caller).await {
            Ok(()) => {
                info!(%session, "session opened");
                let agent = serde_json::to_vec(&agent).map_err(|_| Refused::Unavailable)?;
                Ok(json(status, agent.into()))
            }
            Err(why) => {
                self.metrics.refused(RefusalCode::Unavailable);
                warn!(%session, why, "session not let in");
                feed::report_refused(&self.reports, session, generation);
                Err(Refused::Unavailable)
            }
        }
    }

    /// The state of the feed; one that is only just coming up, or coming back, is waited for.
    async fn feed_soon(&self) -> FeedState {
        let mut feed = self.feed.clone();
        let live = feed.wait_for(|state| *state != FeedState::Lost);
        let waited = tokio::time::timeout(FEED_PATIENCE, live).await;
        waited.map_or(FeedState::Lost, |state| {
            state.map_or(FeedState::Lost, |state| *state)
        })
    }

    async fn let_in(
        &self,
        opened: SessionOpened,
        asked_in: FeedState,
        caller: &Caller,
    ) -> Result<(), String> {
        let SessionOpened { grant, agent } = opened;
        let shown = caller.certificate.as_ref().map(fingerprint);
        if grant.session != agent.session || shown != Some(grant.device_certificate_sha256) {
            return Err("the portal's answer is for another session or device".to_owned());
        }
        let server_time = from_unix_ms(agent.server_time_ms).ok_or("impossible date")?;
        if *self.feed.borrow() != asked_in {
            return Err("the portal's feed was lost meanwhile".to_owned());
        }
        match feed::install(&self.commands, Box::new(grant), server_time).await {
            Some(Ok(())) => Ok(()),
            Some(Err(refused)) => Err(refused.to_string()),
            None => Err("the data path has stopped".to_owned()),
        }
    }

    async fn end_session(
        &self,
        session: SessionId,
        body: Bytes,
        caller: &Caller,
    ) -> Result<Reply, Refused> {
        let route = Route::EndSession(session);
        let answer = self.relay(route, Some(body), Some(caller), None).await?;
        if answer.status.is_success() {
            // The portal agreed that it is the caller's; no need to wait for the feed.
            let end = Command::End {
                session,
                through: Generation::LAST,
                reason: EndCode::Disconnected,
            };
            // If the data path is gone, so is the session.
            let _ = self.commands.send(end).await;
        }
        Ok(passed_on(answer))
    }

    async fn relay(
        &self,
        route: Route,
        body: Option<Bytes>,
        device: Option<&Caller>,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, Refused> {
        let (method, path): (Method, String) = route.at_portal().ok_or(Refused::NotFound)?;
        let request = Relay {
            method,
            path,
            body,
            certificate: device.and_then(|caller| caller.certificate.as_ref()),
            authorization,
        };
        self.portal.relay(request).await.map_err(|error| {
            warn!(error = chain(&error), "request not relayed");
            Refused::Unavailable
        })
    }

    async fn take_body(&self, body: Incoming) -> Result<Bytes, Refused> {
        match tokio::time::timeout(self.patience.body, collect(body)).await {
            Ok(collected) => collected,
            Err(_) => Err(Refused::TooSlow),
        }
    }
}

async fn collect(mut body: Incoming) -> Result<Bytes, Refused> {
    let mut whole = BytesMut::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        // The client broke off; nobody reads the answer.
        let frame = frame.map_err(|_| Refused::TooSlow)?;
        if let Some(data) = frame.data_ref() {
            seen += data.len();
            if seen <= BODY_LIMIT_BYTES {
                whole.extend_from_slice(data);
            } else if seen > DISCARD_LIMIT_BYTES {
                break;
            }
        }
    }
    if seen > BODY_LIMIT_BYTES {
        return Err(Refused::TooLong);
    }
    Ok(whole.freeze())
}

/// Says whether the request is one for the upgrade that there is.
fn asks_for_tunnel(headers: &HeaderMap) -> bool {
    let names = |field, name: &str| {
        let values = headers.get_all(field).iter();
        let mut words = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        words.any(|word| word.trim().eq_ignore_ascii_case(name))
    };
    names(CONNECTION, "upgrade") && names(UPGRADE, TUNNEL_UPGRADE)
}

/// The one header that is passed on.
fn poll_token(headers: &HeaderMap) -> Result<HeaderValue, Refused> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    match (given.next(), given.next()) {
        (Some(token), None) if token.len() <= AUTHORIZATION_LIMIT_BYTES => Ok(token.clone()),
        (_, _) => Err(Refused::NotFound),
    }
}
