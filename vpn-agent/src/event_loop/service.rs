//! The part of the loop that knows the fund: its gateways' client, and whether it is open.

use std::sync::Arc;
use std::time::Instant;

use access::EndReason;
use protocol::agent_api::{RefusalCode, ServiceStatus};

use super::{EventLoop, Fund, Outcome};
use crate::clock::from_unix_ms;
use crate::enrolment::Approval;
use crate::gateway_client::order::Known;
use crate::gateway_client::{ApiError, GatewayClient};
use crate::session_state::Service;

impl EventLoop {
    pub(super) fn handle_service(&mut self, result: Result<ServiceStatus, ApiError>) {
        match result {
            Ok(status) => {
                self.learn_gateways(&status.gateways);
                self.note_expiry(&status);
                self.state.handle_service(Service {
                    open: status.open,
                    sentence: status.sentence,
                    next_opening: status.next_opening_ms.and_then(from_unix_ms),
                    rehearsal: status.rehearsal,
                });
            }
            Err(ApiError::Refused(refusal)) => match refusal.code {
                RefusalCode::Revoked | RefusalCode::NoDevice => {
                    self.state.handle_ended(EndReason::Revoked);
                    self.state.handle_refused(refusal.sentence, None);
                }
                RefusalCode::Closed
                | RefusalCode::WrongCode
                | RefusalCode::TooManyDevices
                | RefusalCode::TooManyRequests
                | RefusalCode::BadRequest
                | RefusalCode::NotFound
                | RefusalCode::SessionOver
                | RefusalCode::Unavailable => {
                    self.state.handle_service_unknown(refusal.sentence);
                }
            },
            Err(error) => {
                tracing::info!(error = %error.chain(), "cannot ask about the service");
                self.state.handle_service_unknown(error.page_text());
            }
        }
    }

    /// Makes the device's client once there is an approval.
    pub(super) fn open_fund(&mut self) {
        let Some(enrolment) = self.enrolment.as_ref().filter(|_| self.fund.is_none()) else {
            return;
        };
        let Some(enrolled) = enrolment.enrolled() else {
            return;
        };
        let opened = Approval::check(enrolment, enrolled).and_then(|approval| {
            let roots = self
                .roots
                .clone()
                .and_service_authority(&enrolled.service_authority.0)?;
            let client = GatewayClient::device(
                approval.gateways.clone(),
                roots.clone(),
                approval.identity.clone(),
                self.clock.clone(),
                self.dialer.clone(),
            )?;
            Ok(Fund {
                client: Arc::new(client),
                approval,
                roots,
            })
        });
        match opened {
            Ok(fund) => {
                // Until others are known, the one that the PC was enrolled at is the nearest.
                let known = enrolment.known_gateways().unwrap_or_else(|| Known {
                    listed: Vec::new(),
                    last_good: Some(enrolment.record.gateway.clone()),
                });
                self.saved_gateways = known.clone();
                fund.client.recall_gateways(known);
                self.fund = Some(fund);
            }
            Err(error) => {
                tracing::error!(%error, "the stored approval cannot be used");
                self.state.handle_service_unknown(error.page_text());
            }
        }
    }

    pub(super) fn ask_service(&mut self, now: Instant) {
        if self.busy.asking_service || now < self.next_service_poll {
            return;
        }
        let Some(fund) = &self.fund else {
            return;
        };
        self.busy.asking_service = true;
        let client = fund.client.clone();
        self.jobs
            .spawn(async move { Outcome::Service(client.status().await) });
    }
}
