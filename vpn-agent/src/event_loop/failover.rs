//! The part of the loop that takes a session to another gateway when its own is lost.
//!
//! It asks when every way to the gateway is dead or the gateway said farewell. A link that is
//! only dead searches on meanwhile, and what comes first wins: a move that the portal carried
//! out always does, since it ends the old grant. Never does this give a session more time.

use std::time::Instant;

use protocol::agent_api::move_message;

use super::session::{Granted, fresh_request};
use super::{EventLoop, Outcome};
use crate::gateway_client::ApiError;

impl EventLoop {
    /// Asks for a gateway that the session can go on through, if it is time and nobody does
    /// already.
    pub(super) fn seek_gateway(&mut self, now: Instant) {
        let (Some(active), Some(fund), Some(enrolment)) =
            (&self.active, &self.fund, &self.enrolment)
        else {
            return;
        };
        if self.busy.linking || self.busy.seeking || !active.wants_another(now) {
            return;
        }
        let Some(enrolled) = enrolment.enrolled() else {
            return;
        };
        let key = enrolment.key.clone();
        self.busy.seeking = true;
        let (attempt, client, device) = (self.attempt, fund.client.clone(), enrolled.device);
        let (lost, session) = (active.gateway().clone(), active.session());
        tracing::info!("gateway lost; asking the others");
        tracing::debug!(gateway = %lost, "lost");
        self.jobs.spawn(async move {
            let mut last_key = None;
            let moved = client
                .move_session(&lost, &session, || {
                    fresh_request(&key, &mut last_key, |public| {
                        move_message(&device, &session, public)
                    })
                })
                .await;
            let result = moved.and_then(|answered| Granted::of(answered, last_key));
            Outcome::Moved {
                attempt,
                result: Box::new(result),
            }
        });
    }

    pub(super) fn handle_moved(&mut self, attempt: u64, result: Result<Granted, ApiError>) {
        if attempt != self.attempt {
            // Left in the meantime, and the portal was told; the move may have come after.
            if let Ok(granted) = result {
                self.tell_end(granted.gateway, granted.grant.session);
            }
            return;
        }
        self.busy.seeking = false;
        let now = self.clock.now().mono;
        match result {
            Ok(granted) => self.take_move(granted, now),
            Err(ApiError::Refused(refusal)) => {
                if let Some(active) = &mut self.active {
                    let (pursuit, sentence) = (active.pursuit(), refusal.sentence);
                    pursuit.handle_refused(refusal.code, sentence, &mut self.state, now);
                }
            }
            Err(error) => {
                tracing::info!(error = %error.chain(), "no other gateway");
                self.stay(now, error.page_text());
            }
        }
    }

    fn take_move(&mut self, granted: Granted, now: Instant) {
        let Some(session) = granted.session(now) else {
            self.stay(now, ApiError::BadAnswer(String::new()).page_text());
            return;
        };
        self.learn_gateways(&granted.grant.gateways);
        if !self.state.handle_moved(&session, now) {
            return;
        }
        tracing::info!("the session goes on through another gateway");
        tracing::debug!(gateway = %granted.gateway, "moved");
        let moved = self.activate(granted, now);
        self.route.send_replace(None);
        let left = std::mem::replace(&mut self.active, moved);
        if let (Some(mut left), Some(moved)) = (left, &mut self.active) {
            moved.follows(&left, now);
            if let Some(link) = left.take_link() {
                link.abandon();
            }
        }
    }

    fn stay(&mut self, now: Instant, sentence: String) {
        if let Some(active) = &mut self.active {
            active.pursuit().stay(sentence, &mut self.state, now);
        }
    }

    /// Takes over the list of gateways in an answer of the portal.
    pub(super) fn learn_gateways(&mut self, listed: &[String]) {
        if let Some(fund) = &self.fund {
            fund.client.learn_gateways(listed);
        }
    }

    /// Writes down what is known of the gateways, if that changed.
    pub(super) fn keep_gateways(&mut self) {
        let (Some(fund), Some(enrolment)) = (&self.fund, &self.enrolment) else {
            return;
        };
        let known = fund.client.known_gateways();
        if known == self.saved_gateways {
            return;
        }
        if let Err(error) = enrolment.save_gateways(&known) {
            tracing::warn!(%error, "the list of gateways was not kept");
        }
        self.saved_gateways = known;
    }
}
