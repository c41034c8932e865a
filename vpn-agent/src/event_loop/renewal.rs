//! The part of the loop that renews the PC's certificate before it expires.
//!
//! Only while no session runs: a session's tunnel shows the certificate that it was granted
//! for. The key stays the same for ever.

use std::time::{Duration, Instant};

use protocol::agent_api::{CertificateRenewed, CertificateRequest, ServiceStatus};

use super::{EventLoop, Outcome};
use crate::gateway_client::ApiError;
use crate::store::Progress;

/// A certificate that expires sooner than this is renewed.
const RENEW_BEFORE_MS: i64 = 60 * 24 * 60 * 60 * 1000;

/// Pause after a renewal that did not come about.
const RETRY_PAUSE: Duration = Duration::from_secs(60 * 60);

/// What is known of the need to renew.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    is_due: bool,
    not_before: Option<Instant>,
    /// A new certificate is on disk and not in use yet.
    is_kept: bool,
}

impl Renewal {
    /// The portal said when the certificate expires. Its clock rules, not the PC's.
    fn note(&mut self, status: &ServiceStatus) {
        self.is_due = status
            .certificate_expires_ms
            .is_some_and(|expires| expires.saturating_sub(status.server_time_ms) < RENEW_BEFORE_MS);
    }

    fn is_time(&self, now: Instant) -> bool {
        self.is_due && self.not_before.is_none_or(|not_before| now >= not_before)
    }

    fn failed(&mut self, now: Instant) {
        self.not_before = Some(now + RETRY_PAUSE);
    }
}

impl EventLoop {
    /// Takes note of when the certificate expires.
    pub(super) fn note_expiry(&mut self, status: &ServiceStatus) {
        self.renewal.note(status);
    }

    /// Asks for a new certificate, if it is time and nobody does already, and takes one into
    /// use. Not while a session is asked for: that will be granted for the one it was asked
    /// with.
    pub(super) fn renew_certificate(&mut self, now: Instant) {
        if !self.state.state().may_connect() {
            return;
        }
        if self.renewal.is_kept {
            self.renewal = Renewal::default();
            self.fund = None;
            self.open_fund();
        }
        if self.busy.renewing || !self.renewal.is_time(now) {
            return;
        }
        let (Some(fund), Some(enrolment)) = (&self.fund, &self.enrolment) else {
            return;
        };
        let certificate_request = match enrolment.key.certificate_request() {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(%error, "no certificate request");
                self.renewal.failed(now);
                return;
            }
        };
        self.busy.renewing = true;
        let client = fund.client.clone();
        self.jobs.spawn(async move {
            let request = CertificateRequest {
                certificate_request,
            };
            Outcome::Renewed(client.renew_certificate(&request).await)
        });
    }

    pub(super) fn handle_renewed(&mut self, result: Result<CertificateRenewed, ApiError>) {
        self.busy.renewing = false;
        let now = self.clock.now().mono;
        match result {
            Ok(renewed) => self.take_certificate(renewed, now),
            Err(error) => {
                tracing::warn!(error = %error.chain(), "certificate not renewed");
                self.renewal.failed(now);
            }
        }
    }

    fn take_certificate(&mut self, renewed: CertificateRenewed, now: Instant) {
        let Some(enrolment) = &mut self.enrolment else {
            return;
        };
        let Some(enrolled) = enrolment.enrolled() else {
            return;
        };
        // One for another key would lock the PC out.
        if let Err(error) = enrolment.key.certified(&renewed.certificate) {
            tracing::error!(%error, "the renewed certificate cannot be used");
            self.renewal.failed(now);
            return;
        }
        let mut enrolled = enrolled.clone();
        enrolled.certificate = renewed.certificate;
        match enrolment.save(Progress::Approved(Box::new(enrolled))) {
            Ok(()) => {
                tracing::info!("certificate renewed");
                self.renewal.is_kept = true;
            }
            Err(error) => {
                tracing::error!(%error, "the renewed certificate was not kept");
                self.renewal.failed(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 60 * 60 * 1000;

    fn status(expires_ms: Option<i64>) -> ServiceStatus {
        ServiceStatus {
            server_time_ms: 1_000_000 * DAY_MS,
            open: true,
            sentence: None,
            next_opening_ms: None,
            rehearsal: false,
            gateways: Vec::new(),
            certificate_expires_ms: expires_ms.map(|days| (1_000_000 + days) * DAY_MS),
        }
    }

    #[test]
    fn a_certificate_is_renewed_sixty_days_before_it_expires_by_the_portals_clock() {
        let now = crate::clock::Clock::system(None).now().mono;
        let mut renewal = Renewal::default();
        for (days, due) in [(Some(1000), false), (Some(60), false), (Some(59), true)] {
            renewal.note(&status(days));
            assert_eq!(renewal.is_time(now), due, "{days:?}");
        }
        renewal.note(&status(None));
        assert!(!renewal.is_time(now), "an older portal says nothing");
    }

    #[test]
    fn a_renewal_that_failed_is_tried_again_after_an_hour() {
        let now = crate::clock::Clock::system(None).now().mono;
        let mut renewal = Renewal::default();
        renewal.note(&status(Some(1)));
        renewal.failed(now);
        assert!(!renewal.is_time(now));
        assert!(renewal.is_time(now + RETRY_PAUSE));
    }
}
