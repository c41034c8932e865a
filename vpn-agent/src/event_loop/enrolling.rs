//! The part of the loop that gets the PC registered: the request, staff's decision.
//!
//! A request that is under way is never given up for want of a network or of room on the disk:
//! it is asked about again until somebody decided.

use std::sync::Arc;
use std::time::Instant;

use protocol::agent_api::{EnrolmentState, RefusalCode};
use tokio::sync::oneshot;

use super::{ENROLMENT_POLL, EventLoop, Outcome};
use crate::enrolment::{self, Application, EnrolError};
use crate::gateway_client::{ApiError, GatewayClient};
use crate::store::{Enrolment, Progress};

impl EventLoop {
    pub(super) fn enrol(
        &mut self,
        application: Application,
        applicant: oneshot::Sender<Result<(), String>>,
    ) {
        if !self.state.enrol() {
            // The asker may have gone; then there is nobody to tell.
            let _ = applicant.send(Err(
                "ただいまは登録を申請できません。接続を終了してからお試しください。".to_owned(),
            ));
            return;
        }
        self.busy.applicant = Some(applicant);
        let (store, roots, clock) = (self.store.clone(), self.roots.clone(), self.clock.clone());
        let dialer = self.dialer.clone();
        self.jobs.spawn(async move {
            let result = enrolment::apply(&store, application, roots, clock, dialer).await;
            Outcome::Applied(Box::new(result))
        });
    }

    pub(super) fn answer_applicant(&mut self, answer: Result<(), String>) {
        if let Some(applicant) = self.busy.applicant.take() {
            // The asker may have gone; the state shows the outcome as well.
            let _ = applicant.send(answer);
        }
    }

    pub(super) fn handle_applied(&mut self, result: Result<Enrolment, EnrolError>) {
        match result {
            Ok(enrolment) => {
                tracing::info!("registration asked for");
                self.enrolment = Some(enrolment);
                self.enrolments += 1;
                self.fund = None;
                self.poller = None;
                self.damage = None;
                self.state.handle_enrolment_opened();
                self.next_enrolment_poll = self.clock.now().mono;
                self.answer_applicant(Ok(()));
            }
            Err(error) => {
                let cause = match &error {
                    EnrolError::Api(error) => error.chain(),
                    error => error.to_string(),
                };
                tracing::warn!(error = %cause, "registration failed");
                self.state.handle_enrolment_failed(error.page_text());
                self.answer_applicant(Err(error.page_text()));
            }
        }
    }

    pub(super) fn handle_polled(&mut self, result: Result<EnrolmentState, ApiError>) {
        let Some(enrolment) = &mut self.enrolment else {
            return;
        };
        match result {
            Ok(EnrolmentState::Pending) => self.state.handle_still_pending(None),
            Ok(EnrolmentState::Approved(enrolled)) => {
                match enrolment::accept(enrolment, enrolled) {
                    Ok(()) => {
                        tracing::info!("registration approved");
                        self.state.handle_approved();
                        self.next_service_poll = self.clock.now().mono;
                    }
                    Err(error @ EnrolError::Store(_)) => {
                        // The approval is still there when the disk has room again.
                        tracing::error!(%error, "approval could not be kept");
                        self.state.handle_still_pending(Some(error.page_text()));
                    }
                    Err(error) => {
                        tracing::error!(%error, "approval cannot be used");
                        self.state.handle_enrolment_refused(error.page_text());
                    }
                }
            }
            Ok(EnrolmentState::Refused { sentence }) => self.give_up_enrolment(sentence),
            Err(ApiError::Refused(refusal)) => match refusal.code {
                RefusalCode::NotFound | RefusalCode::Revoked | RefusalCode::NoDevice => {
                    self.give_up_enrolment(refusal.sentence);
                }
                RefusalCode::Closed
                | RefusalCode::WrongCode
                | RefusalCode::TooManyDevices
                | RefusalCode::TooManyRequests
                | RefusalCode::BadRequest
                | RefusalCode::SessionOver
                | RefusalCode::Unavailable => {
                    self.state.handle_still_pending(Some(refusal.sentence));
                }
            },
            Err(error) => {
                tracing::info!(error = %error.chain(), "cannot ask for the decision");
                self.state.handle_still_pending(Some(error.page_text()));
            }
        }
    }

    pub(super) fn give_up_enrolment(&mut self, sentence: String) {
        if let Some(enrolment) = &mut self.enrolment {
            let refused = Progress::Refused {
                sentence: sentence.clone(),
            };
            if let Err(error) = enrolment.save(refused) {
                tracing::error!(%error, "refusal could not be kept");
            }
        }
        self.state.handle_enrolment_refused(sentence);
    }

    pub(super) fn poll_enrolment(&mut self, now: Instant) {
        if self.busy.polling || now < self.next_enrolment_poll {
            return;
        }
        let Some(enrolment) = &self.enrolment else {
            return;
        };
        let Progress::Pending {
            enrolment: id,
            poll_token,
        } = &enrolment.record.progress
        else {
            return;
        };
        let client = match &self.poller {
            Some(client) => client.clone(),
            None => {
                let gateway = enrolment.record.gateway.clone();
                let (roots, clock) = (self.roots.clone(), self.clock.clone());
                match GatewayClient::anonymous(gateway, roots, clock, self.dialer.clone()) {
                    Ok(client) => self.poller.insert(Arc::new(client)).clone(),
                    Err(error) => {
                        self.state.handle_still_pending(Some(error.page_text()));
                        self.next_enrolment_poll = now + ENROLMENT_POLL;
                        return;
                    }
                }
            }
        };
        self.busy.polling = true;
        let (id, token) = (*id, poll_token.clone());
        let enrolment = self.enrolments;
        self.jobs.spawn(async move {
            let result = client.enrolment(&id, &token).await;
            Outcome::Polled { enrolment, result }
        });
    }
}
