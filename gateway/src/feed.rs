//! Keeps this gateway's grants equal to the portal's: the feed, and coming back to it.
//!
//! The first line of each connection is a snapshot, and it rules. Silence, an overlong line
//! or anything that is no [`FeedLine`] ends the connection; the next one starts over. While
//! there is no feed, sessions that are in go on until their deadline and nobody new gets in:
//! [`FeedState`] says so to the agent API. The feed never ends a session because it is lost.

use std::time::Duration;

use access::Moment;
use bytes::Bytes;
use protocol::agent_api::EndCode;
use protocol::control::{FEED_SILENCE_LIMIT_S, FeedLine, GatewayHello, Grant};
use protocol::{Generation, SessionId};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use crate::commands::{Command, Ended};
use crate::grants::{Refused, from_unix_ms};
use crate::portal::{Portal, PortalError};

use lines::{LineTooLong, Lines};

mod lines;

/// First pause before coming back, doubled each time up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause before coming back.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How far the two clocks may be apart before the log says so.
const SKEW_LIMIT: time::Duration = time::Duration::seconds(30);

/// How long the portal may be silent.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(FEED_SILENCE_LIMIT_S);

/// Whether the portal's grants are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedState {
    /// The feed is lost: nobody new may be let in.
    Lost,
    /// A snapshot was taken over and every change since.
    Live(
        /// Which connection this is. A grant counts only in the one it was asked in: an end
        /// that the portal announced in between may have been missed.
        u64,
    ),
}

/// What the feed works with.
#[derive(Debug)]
pub struct Feed {
    /// The portal.
    pub portal: Portal,
    /// How this gateway introduces itself.
    pub hello: GatewayHello,
    /// The data path.
    pub commands: mpsc::Sender<Command>,
    /// Where sessions are reported that the data path did not let in.
    pub reports: mpsc::Sender<Ended>,
    /// Where the state is shown.
    pub state: watch::Sender<FeedState>,
    /// Reads the clocks.
    pub clock: fn() -> Moment,
    /// How long the portal may be silent: [`SILENCE_LIMIT`] but in tests.
    pub silence: Duration,
}

/// Why a connection of the feed ended.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Portal(#[from] PortalError),
    #[error("the feed was cut")]
    Cut(#[source] reqwest::Error),
    #[error("the portal closed the feed")]
    Closed,
    #[error("the feed was silent for {0:?}")]
    Silent(Duration),
    #[error(transparent)]
    TooLong(#[from] LineTooLong),
    #[error("a line of the feed is not understood")]
    NotUnderstood(#[source] serde_json::Error),
    #[error("the feed does not begin with a snapshot")]
    NoSnapshot,
    #[error("the feed holds an impossible date")]
    NoDate,
    #[error("the data path has stopped")]
    DataPathStopped,
}

impl Feed {
    /// Follows the feed until the data path stops.
    pub async fn run(self) {
        let mut epoch = 0;
        let mut pause = SHORTEST_PAUSE;
        loop {
            let error = match self.follow(&mut epoch, &mut pause).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            self.state.send_replace(FeedState::Lost);
            if matches!(error, FeedError::DataPathStopped) {
                return;
            }
            warn!(error = chain(&error), "no feed; coming back");
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn follow(
        &self,
        epoch: &mut u64,
        pause: &mut Duration,
    ) -> Result<std::convert::Infallible, FeedError> {
        self.portal.register(&self.hello).await?;
        let mut feed = self.portal.open_feed().await?;
        let mut lines = Lines::default();
        let mut started = false;
        loop {
            for line in lines.push(&next_chunk(&mut feed, self.silence).await?)? {
                let line = serde_json::from_slice(&line).map_err(FeedError::NotUnderstood)?;
                if !started && !matches!(line, FeedLine::Snapshot { .. }) {
                    return Err(FeedError::NoSnapshot);
                }
                self.take(line).await?;
                if !started {
                    started = true;
                    *epoch += 1;
                    *pause = SHORTEST_PAUSE;
                    self.state.send_replace(FeedState::Live(*epoch));
                }
            }
        }
    }

    async fn take(&self, line: FeedLine) -> Result<(), FeedError> {
        match line {
            FeedLine::Snapshot {
                server_time_ms,
                grants,
            } => {
                let server_time = date(server_time_ms)?;
                self.compare_clocks(server_time);
                info!(sessions = grants.len(), "the portal's snapshot rules");
                let snapshot = Command::Snapshot {
                    grants,
                    server_time,
                };
                self.send(snapshot).await
            }
            FeedLine::Granted {
                server_time_ms,
                grant,
            } => self.install(grant, date(server_time_ms)?).await,
            FeedLine::Ended {
                session,
                through,
                reason,
            } => {
                info!(%session, reason = reason.as_str(), "the portal ends a session");
                let end = Command::End {
                    session,
                    through,
                    reason,
                };
                self.send(end).await
            }
            FeedLine::Heartbeat { server_time_ms } => {
                debug!(server_time_ms, "heartbeat");
                Ok(())
            }
        }
    }

    async fn install(
        &self,
        grant: Box<Grant>,
        server_time: OffsetDateTime,
    ) -> Result<(), FeedError> {
        let (session, generation) = (grant.session, grant.generation);
        match install(&self.commands, grant, server_time).await {
            None => return Err(FeedError::DataPathStopped),
            Some(Ok(())) => {}
            // The portal was told, or told us, when it ended.
            Some(Err(Refused::Ended | Refused::Past | Refused::Superseded)) => {}
            Some(Err(why)) => {
                warn!(%session, %why, "grant refused");
                report_refused(&self.reports, session, generation);
            }
        }
        Ok(())
    }

    async fn send(&self, command: Command) -> Result<(), FeedError> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| FeedError::DataPathStopped)
    }

    fn compare_clocks(&self, server_time: OffsetDateTime) {
        let skew = (self.clock)().wall - server_time;
        if skew.abs() > SKEW_LIMIT {
            let skew_s = skew.whole_seconds();
            warn!(skew_s, "this machine's clock and the portal's disagree");
        }
    }
}

/// Lets the data path install a grant and waits until packets can pass. `None` if the data
/// path has stopped.
pub async fn install(
    commands: &mpsc::Sender<Command>,
    grant: Box<Grant>,
    server_time: OffsetDateTime,
) -> Option<Result<(), Refused>> {
    let (installed, answer) = oneshot::channel();
    let command = Command::Install {
        grant,
        server_time,
        installed,
    };
    commands.send(command).await.ok()?;
    answer.await.ok()
}

/// Tells the portal that a session it opened is not in.
pub fn report_refused(reports: &mpsc::Sender<Ended>, session: SessionId, generation: Generation) {
    let ended = Ended {
        session,
        generation,
        reason: EndCode::GatewayStopped,
        bytes_in: 0,
        bytes_out: 0,
    };
    if reports.try_send(ended).is_err() {
        warn!(%session, "too many reports; the portal learns it at the deadline");
    }
}

async fn next_chunk(feed: &mut reqwest::Response, silence: Duration) -> Result<Bytes, FeedError> {
    match tokio::time::timeout(silence, feed.chunk()).await {
        Ok(Ok(Some(chunk))) => Ok(chunk),
        Ok(Ok(None)) => Err(FeedError::Closed),
        Ok(Err(error)) => Err(FeedError::Cut(error.without_url())),
        Err(_) => Err(FeedError::Silent(silence)),
    }
}

fn date(ms: i64) -> Result<OffsetDateTime, FeedError> {
    from_unix_ms(ms).ok_or(FeedError::NoDate)
}

/// Between half of `pause` and all of it: gateways that lost the portal together do not come
/// back together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness the pause is merely not spread.
    let _ = getrandom::fill(&mut random);
    let share = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
    pause.mul_f64(0.5 + share / 2.0)
}

/// Writes an error with all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
