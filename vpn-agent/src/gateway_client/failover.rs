//! Taking a session to another gateway: who is alive is asked of all, the move of one.
//!
//! A move that two gateways carried out would leave the PC with a grant that is superseded
//! already; therefore the questions run side by side and the moves one after the other.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use protocol::SessionId;
use protocol::agent_api::{AgentGrant, ServiceStatus, SessionRequest};
use tokio::task::JoinSet;

use super::{Answered, ApiError, GatewayClient, Request};
use crate::urls::GatewayUrl;

/// How much later than the one before it each gateway is asked: an earlier one in the order
/// that is alive is to answer first.
const STAGGER: Duration = Duration::from_millis(150);

/// How much later the gateway that was lost is asked: it may be back already.
const LOST_STAGGER: Duration = Duration::from_secs(1);

/// How long a gateway may take to say that it is alive.
const ALIVE_LIMIT: Duration = Duration::from_secs(4);

impl GatewayClient {
    /// `POST /v1/sessions/{id}/move`, at the first gateway that says that it is alive.
    /// `request` is called for each that is tried.
    ///
    /// # Errors
    /// The portal's refusal, or why the last gateway did not help.
    pub async fn move_session(
        self: &Arc<Self>,
        lost: &GatewayUrl,
        session: &SessionId,
        mut request: impl FnMut() -> Result<SessionRequest, ApiError>,
    ) -> Result<Answered<AgentGrant>, ApiError> {
        let now = self.clock.now().mono;
        let sequence = {
            let mut order = self.order();
            order.failed(lost, now);
            order.sequence(now)
        };
        let mut asked = JoinSet::new();
        let mut wait = Duration::ZERO;
        let alone = sequence.len() == 1;
        for gateway in sequence {
            if gateway == *lost && !alone {
                asked.spawn(is_alive(self.clone(), gateway, LOST_STAGGER));
            } else {
                asked.spawn(is_alive(self.clone(), gateway, wait));
                wait += STAGGER;
            }
        }
        let path = format!("/v1/sessions/{session}/move");
        let mut last_error = ApiError::NoGateway;
        while let Some(answered) = asked.join_next().await {
            let Ok((gateway, alive)) = answered else {
                continue;
            };
            let moved = match alive {
                Ok(()) => {
                    self.ask_one(&gateway, &Method::POST, &path, &mut |http: Request| {
                        http.json(&request()?)
                    })
                    .await
                }
                Err(error) => Err(error),
            };
            if let Some(answer) = self.settle(&gateway, moved, &mut last_error)? {
                let answered: Answered<AgentGrant> = Answered { answer, gateway };
                self.learn(Some(answered.answer.server_time_ms));
                return Ok(answered);
            }
        }
        Err(last_error)
    }
}

async fn is_alive(
    client: Arc<GatewayClient>,
    gateway: GatewayUrl,
    wait: Duration,
) -> (GatewayUrl, Result<(), ApiError>) {
    tokio::time::sleep(wait).await;
    let asking = async {
        let status: ServiceStatus = client
            .ask_one(&gateway, &Method::GET, "/v1/status", &mut Ok)
            .await?;
        client.learn(Some(status.server_time_ms));
        Ok(())
    };
    let alive = tokio::time::timeout(ALIVE_LIMIT, asking).await;
    (gateway, alive.unwrap_or(Err(ApiError::Silent)))
}
