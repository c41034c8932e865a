//! Whether the scanner takes a document of the largest size: found out at the portal's start,
//! and not by the first sender whose filing it gives no verdict on.
//!
//! Nothing depends on the answer: what gets no verdict is refused in any case. A scanner that
//! is away at the start is asked again.

use std::time::Duration;

use super::{Clamd, ScanError, scan};
use crate::app::App;
use crate::filings::pdf;
use crate::metrics::{Metrics, metrics};

/// How long after an answer that was not good the scanner is asked again.
const AGAIN: Duration = Duration::from_secs(10 * 60);

/// Asks until the scanner takes a document of the largest size, or the portal stops.
pub async fn run(app: App) {
    let Some(scan) = &app.config.virus_scan else {
        return;
    };
    let mut stopping = app.signals.stopping();
    loop {
        let clamd = scan.clamd.clone();
        let asking = tokio::task::spawn_blocking(move || takes(&clamd, pdf::SIZE_LIMIT_BYTES));
        let asked = tokio::select! {
            () = stopping.wait() => return,
            asked = asking => asked,
        };
        if asked.is_ok_and(|answer| tell(answer, metrics())) {
            return;
        }
        tokio::select! {
            () = stopping.wait() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Says whether a file of this size gets a verdict. Blocks.
fn takes(clamd: &Clamd, length_bytes: usize) -> Result<(), ScanError> {
    scan(clamd, &vec![0; length_bytes]).map(drop)
}

/// Tells the operator. Returns whether all is well.
fn tell(answer: Result<(), ScanError>, metrics: &Metrics) -> bool {
    match answer {
        Ok(()) => {
            metrics.show_scanner_falls_short(false);
            true
        }
        Err(error @ ScanError::NoVerdict(_)) => {
            tracing::error!(
                %error,
                "the virus scanner gives no verdict on a document of {} MiB, so that large filings \
                 are refused: set StreamMaxLength in clamd.conf to at least 100M",
                pdf::SIZE_LIMIT_BYTES / (1024 * 1024)
            );
            metrics.show_scanner_falls_short(true);
            false
        }
        Err(error @ ScanError::Unreachable(_)) => {
            let error = crate::web::page_error::chain(&error);
            tracing::warn!(%error, "the virus scanner does not answer: no filing is accepted");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virus_scan::tests::Scanner;

    #[test]
    fn a_scanner_that_looks_at_too_little_is_found_out_at_the_start() {
        let metrics = Metrics::default();
        let shown = |metrics: &Metrics| {
            let text = operator::text(&metrics.registry()).unwrap();
            text.contains("renkei_portal_virus_scanner_falls_short 1\n")
        };
        let ask = |scanner: &Scanner| takes(&scanner.clamd(), pdf::SIZE_LIMIT_BYTES);

        let narrow = Scanner::start();
        assert!(!tell(ask(&narrow), &metrics));
        assert!(shown(&metrics));
        // One that is away is no other finding.
        let away = narrow.clamd();
        drop(narrow);
        let asked = takes(&away, pdf::SIZE_LIMIT_BYTES);
        assert!(matches!(asked, Err(ScanError::Unreachable(_))), "{asked:?}");
        assert!(!tell(asked, &metrics));
        assert!(shown(&metrics));

        let wide = Scanner::with_limit("100M");
        assert!(tell(ask(&wide), &metrics));
        assert!(!shown(&metrics));
    }
}
