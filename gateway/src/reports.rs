//! Tells the portal what became of each session, as long as it takes.
//!
//! It takes every report from the data path at once, so that a portal that is away never
//! holds up packets. The queue is bounded: a report that is lost costs the portal only the
//! byte counts, for the deadline is in its own database.

use std::collections::VecDeque;
use std::time::Duration;

use hyper::StatusCode;
use protocol::control::SessionEnded;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::commands::Ended;
use crate::feed::{chain, jittered};
use crate::portal::{Portal, PortalError};

/// How many reports wait for the portal; then the oldest are dropped.
const WAITING_LIMIT: usize = 20_000;

/// First pause after a failure, doubled each time up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);

/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Reports until the sender is gone and all is told.
pub async fn run(portal: Portal, mut ended: mpsc::Receiver<Ended>) {
    let mut waiting = VecDeque::new();
    loop {
        let first = match waiting.pop_front() {
            Some(first) => first,
            None => match ended.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let telling = tell(&portal, first);
        tokio::pin!(telling);
        // Goes on telling the first one while further ones arrive.
        loop {
            tokio::select! {
                () = &mut telling => break,
                Some(next) = ended.recv() => push(&mut waiting, next),
            }
        }
    }
}

fn push(waiting: &mut VecDeque<Ended>, report: Ended) {
    waiting.push_back(report);
    if waiting.len() > WAITING_LIMIT {
        waiting.pop_front();
        warn!("too many reports wait for the portal; dropped the oldest");
    }
}

async fn tell(portal: &Portal, ended: Ended) {
    let session = ended.session;
    let report = SessionEnded {
        generation: ended.generation,
        reason: ended.reason,
        bytes_in: ended.bytes_in,
        bytes_out: ended.bytes_out,
    };
    let mut pause = SHORTEST_PAUSE;
    loop {
        match portal.session_ended(session, &report).await {
            Ok(()) => {
                debug!(%session, reason = ended.reason.as_str(), "end reported");
                return;
            }
            Err(PortalError::Status(status)) if is_final(status) => {
                warn!(%session, %status, "the portal does not want the report");
                return;
            }
            Err(error) => {
                warn!(%session, error = chain(&error), "report not told; trying again");
                tokio::time::sleep(jittered(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Whether asking again would get the same answer.
fn is_final(status: StatusCode) -> bool {
    status.is_client_error()
        && status != StatusCode::REQUEST_TIMEOUT
        && status != StatusCode::TOO_MANY_REQUESTS
}
