//! The page of the diagnosis: starts it, shows it, and hands out the support bundle.
//!
//! Everything comes from [`crate::diagnose`]; the result is kept until the next one, in memory.

use std::sync::{Mutex, PoisonError};

use askama::Template;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use hyper::{Response, StatusCode};

use super::views::{Frame, Shown, finish, frame};
use super::{html, insert, protect, see};
use crate::agent::Agent;
use crate::diagnose::{self, Finding, Outcome, bundle};
use crate::status::day_and_time;

/// The last diagnosis of this launch.
#[derive(Debug, Default)]
pub(super) struct Checkup {
    last: Mutex<Option<Examined>>,
    /// One at a time: each makes a dozen connections.
    running: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Examined {
    findings: Vec<Finding>,
    at: String,
}

#[derive(Template)]
#[template(path = "diagnosis.html")]
struct DiagnosisPage<'a> {
    frame: Frame<'a>,
    result: Option<Examined>,
}

impl Examined {
    fn bad(&self) -> usize {
        self.findings.iter().filter(|found| found.is_bad()).count()
    }

    /// What the clerk mails to the IT department.
    fn letter(&self) -> String {
        let mut text = format!(
            "連携（vpn-agent）{} の診断結果（{}）\n\n",
            env!("CARGO_PKG_VERSION"),
            self.at
        );
        for finding in &self.findings {
            text += &format!("{finding}\n");
        }
        text
    }
}

impl Finding {
    fn class(&self) -> &'static str {
        match self.outcome {
            Outcome::Good => "good",
            Outcome::Bad => "bad",
            Outcome::Open => "open",
        }
    }

    fn verdict(&self) -> &'static str {
        match self.outcome {
            Outcome::Good => "正常",
            Outcome::Bad => "要確認",
            Outcome::Open => "未確認",
        }
    }
}

impl Checkup {
    /// Runs the diagnosis to its end, then shows it.
    pub(super) async fn run(&self, agent: &Agent) -> Response<Full<Bytes>> {
        let Ok(_one) = self.running.try_lock() else {
            return see("/diagnosis");
        };
        let report = agent.report();
        let findings = diagnose::run(agent.config(), agent.store(), Some(&report)).await;
        let at = day_and_time(agent.clock().now().wall);
        *self.last() = Some(Examined { findings, at });
        see("/diagnosis")
    }

    /// The page with the last result.
    pub(super) fn show(&self, shown: &Shown<'_>) -> Response<Full<Bytes>> {
        let page = DiagnosisPage {
            frame: frame(shown, None),
            result: self.last().clone(),
        };
        html(StatusCode::OK, finish(page.render()), None)
    }

    /// The support bundle of the last result.
    pub(super) fn bundle(&self, agent: &Agent) -> Response<Full<Bytes>> {
        let Some(result) = self.last().clone() else {
            return see("/diagnosis");
        };
        let report = agent.report();
        let made = bundle::bundle(
            &result.findings,
            agent.config(),
            agent.store(),
            Some(&report),
        );
        let bytes = match made {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, "no support bundle");
                return see("/diagnosis");
            }
        };
        let mut response = Response::new(Full::from(bytes));
        protect(&mut response, None);
        insert(&mut response, CONTENT_TYPE, "application/zip");
        let name = bundle::FILE_NAME;
        insert(
            &mut response,
            CONTENT_DISPOSITION,
            &format!("attachment; filename=\"{name}\""),
        );
        response
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Examined>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
