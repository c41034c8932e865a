//! What the operator sees of the portal in numbers.
//!
//! Most of it is counted in one place, where the audit log is written: sign-ins and their
//! outcome, sessions opened and refused, uploads, notices. What is counted elsewhere concerns
//! mails, broken pages and the virus scanner. Labels are words of the program: nobody's name, address or
//! number is ever one (see [`operator`]).
//!
//! The counters belong to the process, as its log does.

use std::sync::LazyLock;

use operator::{Check, Checks, Counter, Family, Gauge, Labels, Registry};

use crate::app::App;
use crate::audit::Act;

/// In front of all names.
const PREFIX: &str = "renkei_portal";

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::default);

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    acts: Family<Labels<2>, Counter>,
    mails: Family<Labels<1>, Counter>,
    mails_waiting: Gauge,
    pages_failed: Counter,
    scanner_falls_short: Gauge,
}

/// What became of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailOutcome {
    /// It was put into the outbox.
    Queued,
    /// The server took it.
    Sent,
    /// The server did not take it now; it is tried again.
    Postponed,
    /// It is not tried again.
    GivenUp,
}

/// The counters of this process.
pub fn metrics() -> &'static Metrics {
    &METRICS
}

impl Metrics {
    /// An act was written to the audit log.
    pub fn count_act(&self, act: &Act) {
        let labels = [("act", act.word()), ("detail", act.detail())];
        self.acts.get_or_create(&labels).inc();
    }

    /// Something became of a mail.
    pub fn count_mail(&self, outcome: MailOutcome) {
        let outcome = match outcome {
            MailOutcome::Queued => "queued",
            MailOutcome::Sent => "sent",
            MailOutcome::Postponed => "postponed",
            MailOutcome::GivenUp => "given_up",
        };
        self.mails.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// So many mails wait to be sent.
    pub fn show_mails_waiting(&self, mails: i64) {
        self.mails_waiting.set(mails);
    }

    /// A page broke down: the reader got a reference number to tell staff.
    pub fn count_failed_page(&self) {
        self.pages_failed.inc();
    }

    /// Whether the virus scanner gives no verdict on a document of the largest size.
    pub fn show_scanner_falls_short(&self, falls_short: bool) {
        self.scanner_falls_short.set(falls_short.into());
    }

    /// All series of the portal.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register(
            "acts",
            "Acts written to the audit log, with those whose transaction failed afterwards",
            self.acts.clone(),
        );
        registry.register("mails", "Mails, by what became of them", self.mails.clone());
        registry.register(
            "mails_waiting",
            "Mails that wait to be sent, looked at every few seconds",
            self.mails_waiting.clone(),
        );
        registry.register(
            "pages_failed",
            "Pages that broke down",
            self.pages_failed.clone(),
        );
        registry.register(
            "virus_scanner_falls_short",
            "1 if the virus scanner gives no verdict on a document of the largest size",
            self.scanner_falls_short.clone(),
        );
        registry
    }
}

/// Ready: the database answers, and a document could be put away.
pub fn checks(app: App) -> Checks {
    Box::new(move || {
        let app = app.clone();
        Box::pin(async move {
            let (database, vault) = tokio::join!(app.db.answers(), app.vault.takes());
            vec![
                Check {
                    part: "database",
                    is_well: told("the database does not answer", database),
                },
                Check {
                    part: "vault",
                    is_well: told("no document can be put away", vault),
                },
            ]
        })
    })
}

/// The page says only that a part is not well; the log says why.
fn told<E: std::error::Error + 'static>(what: &'static str, answer: Result<(), E>) -> bool {
    if let Err(error) = &answer {
        tracing::warn!(error = %crate::web::page_error::chain(error), "not ready: {what}");
    }
    answer.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::SessionId;
    use protocol::agent_api::EndCode;
    use uuid::Uuid;

    #[test]
    fn acts_are_counted_by_their_words_and_nothing_else() {
        let metrics = Metrics::default();
        let session = SessionId::from_uuid(Uuid::from_u128(0x1234));
        metrics.count_act(&Act::SessionOpened(session));
        metrics.count_act(&Act::SessionRefused("closed"));
        metrics.count_act(&Act::SessionRefused("closed"));
        metrics.count_act(&Act::SessionEnded(session, EndCode::Revoked.as_str()));
        metrics.count_act(&Act::GatewayAdded("tokyo-1".to_owned()));
        metrics.count_mail(MailOutcome::Sent);
        metrics.show_mails_waiting(3);
        let text = operator::text(&metrics.registry()).unwrap();
        for line in [
            "renkei_portal_acts_total{act=\"session_opened\",detail=\"\"} 1\n",
            "renkei_portal_acts_total{act=\"session_refused\",detail=\"closed\"} 2\n",
            "renkei_portal_acts_total{act=\"session_ended\",detail=\"revoked\"} 1\n",
            "renkei_portal_mails_total{outcome=\"sent\"} 1\n",
            "renkei_portal_mails_waiting 3\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(
            !text.contains("1234") && !text.contains("tokyo-1"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_portal_without_its_documents_folder_is_not_ready() {
        let db = crate::testing::sqlite().await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = crate::testing::people::config();
        config.documents_dir = folder.path().join("documents");
        let documents = config.documents_dir.clone();
        let keys = crate::keys::MasterKey::generate();
        let app = App::start(db.clone(), crate::clock::Clock::System, keys, config);
        let ask = checks(app.await.unwrap());
        let wells =
            |answer: Vec<Check>| answer.iter().map(|check| check.is_well).collect::<Vec<_>>();
        assert_eq!(wells(ask().await), [true, true]);
        std::fs::remove_dir_all(&documents).unwrap();
        std::fs::write(&documents, "in the way").unwrap();
        assert_eq!(wells(ask().await), [true, false]);
        db.pool().close().await;
        assert_eq!(wells(ask().await), [false, false]);
    }
}
