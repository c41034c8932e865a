//! What a gateway is told, as it happens: first all its live grants, then every change.
//!
//! The database is the only source: each feed reads it every [`POLL`] and whenever this
//! process itself changed a session, so several portals may write. A change can become
//! visible later than the time it carries (its transaction took a while, another portal's
//! clock is behind); therefore each look reaches back over [`LOOKBACK`], now and then over
//! a session's whole life, and [`Told`] remembers what was said already. If the database
//! cannot be read the feed ends: the gateway then admits nobody new.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use access::SESSION_LIMIT;
use bytes::Bytes;
use futures_util::Stream;
use protocol::agent_api::EndCode;
use protocol::control::{FEED_HEARTBEAT_S, FeedLine};
use protocol::{GatewayName, Generation, SessionId};
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::store::{self, Left, Session};
use crate::app::App;
use crate::clock::unix_ms;
use crate::db::StoreError;
use crate::gateways;
use crate::keys::MasterKey;
use crate::web::page_error::chain;

/// How often a feed looks by itself.
const POLL: Duration = Duration::from_millis(400);
/// A heartbeat every so many looks: within [`FEED_HEARTBEAT_S`].
const LOOKS_PER_HEARTBEAT: u32 = 2;
const _: () =
    assert!(POLL.as_millis() * (LOOKS_PER_HEARTBEAT as u128) <= FEED_HEARTBEAT_S as u128 * 1000);
/// How far an ordinary look reaches back.
const LOOKBACK: time::Duration = time::Duration::seconds(60);
/// Every so many looks, one reaches back over a session's whole life: each half minute.
const LOOKS_PER_FULL_LOOK: u32 = 75;
/// Lines that wait for a slow gateway.
const QUEUE_LINES: usize = 64;
/// How long a gateway may take to accept a line.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// What was said to a gateway, so that nothing is said twice and nothing is forgotten.
#[derive(Debug, Default)]
pub struct Told(HashMap<SessionId, Word>);

/// The last that was said of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    /// The last grant that was given, with its deadline.
    granted: Option<(Generation, i64)>,
    /// Grants up to this one are over.
    over: Option<Generation>,
    /// When the session is over at the latest, Unix milliseconds.
    until_ms: i64,
}

impl Told {
    /// The first line.
    pub fn snapshot(
        &mut self,
        live: &[Session],
        keys: &MasterKey,
        now: OffsetDateTime,
    ) -> FeedLine {
        let granted = |session: &Session| Word {
            granted: Some((session.generation, session.deadline_ms)),
            over: None,
            until_ms: session.deadline_ms,
        };
        self.0 = live
            .iter()
            .map(|session| (session.id, granted(session)))
            .collect();
        FeedLine::Snapshot {
            server_time_ms: unix_ms(now),
            grants: live.iter().map(|session| session.grant(keys)).collect(),
        }
    }

    /// What is new in what sessions left and in `changed`, which may hold what was said before.
    pub fn news(
        &mut self,
        left: &[Left],
        changed: &[Session],
        keys: &MasterKey,
        now: OffsetDateTime,
    ) -> Vec<FeedLine> {
        let now_ms = unix_ms(now);
        let mut lines = Vec::new();
        for left in left {
            lines.extend(self.end(left.session, left.generation, EndCode::Moved, now_ms));
        }
        for session in changed {
            lines.extend(match session.ended {
                Some(reason) => self.end(session.id, Generation::LAST, reason, now_ms),
                None => self.grant(session, keys, now_ms),
            });
        }
        self.forget(now_ms);
        lines
    }

    fn end(
        &mut self,
        session: SessionId,
        through: Generation,
        reason: EndCode,
        now_ms: i64,
    ) -> Option<FeedLine> {
        let word = self.word(session, now_ms);
        if word.over >= Some(through) {
            return None;
        }
        word.over = Some(through);
        Some(FeedLine::Ended {
            session,
            through,
            reason,
        })
    }

    fn grant(&mut self, session: &Session, keys: &MasterKey, now_ms: i64) -> Option<FeedLine> {
        let Session {
            generation,
            deadline_ms,
            ..
        } = *session;
        let word = self.word(session.id, now_ms);
        let is_news = match word.granted {
            Some((said, _)) if said != generation => said < generation,
            Some((_, said_ms)) => deadline_ms < said_ms,
            None => deadline_ms > now_ms,
        };
        if !is_news || word.over >= Some(generation) {
            return None;
        }
        word.granted = Some((generation, deadline_ms));
        word.until_ms = deadline_ms;
        Some(FeedLine::Granted {
            server_time_ms: now_ms,
            grant: Box::new(session.grant(keys)),
        })
    }

    fn word(&mut self, session: SessionId, now_ms: i64) -> &mut Word {
        let fresh = Word {
            granted: None,
            over: None,
            until_ms: now_ms.saturating_add(life_ms()),
        };
        self.0.entry(session).or_insert(fresh)
    }

    /// Forgets sessions so long past that no look reaches back to them.
    fn forget(&mut self, now_ms: i64) {
        self.0
            .retain(|_, word| now_ms.saturating_sub(word.until_ms) < 2 * life_ms());
    }
}

/// How far the longest look reaches back, in milliseconds.
fn life_ms() -> i64 {
    i64::try_from(full_lookback().whole_milliseconds()).unwrap_or(i64::MAX / 4)
}

fn full_lookback() -> time::Duration {
    LOOKBACK + SESSION_LIMIT
}

/// The feed of one gateway, as the body of an answer.
pub fn follow(
    app: App,
    gateway: GatewayName,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    let (lines, queue) = mpsc::channel(QUEUE_LINES);
    tokio::spawn(async move {
        let name = gateway.clone();
        match run(&app, &gateway, &lines).await {
            Ok(end) => tracing::info!(gateway = %name, ?end, "feed ended"),
            Err(error) => tracing::error!(gateway = %name, error = %chain(&error), "feed ended"),
        }
    });
    futures_util::stream::unfold(queue, |mut queue| async move {
        queue.recv().await.map(|line| (Ok(line), queue))
    })
}

/// Why a feed ended, other than by a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The gateway went away, or does not take its lines.
    Gone,
    /// The gateway was taken out of use.
    Retired,
    /// The portal stops.
    Stopping,
}

async fn run(
    app: &App,
    gateway: &GatewayName,
    lines: &mpsc::Sender<Bytes>,
) -> Result<End, StoreError> {
    let mut stopping = app.signals.stopping();
    let mut changes = app.signals.sessions();
    let mut told = Told::default();
    let mut tick = tokio::time::interval(POLL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);

    let now = app.clock.now();
    let live = store::live_of_gateway(&app.db, gateway, now).await?;
    if !send(lines, &told.snapshot(&live, &app.keys, now)).await {
        return Ok(End::Gone);
    }
    let mut looks: u32 = 0;
    loop {
        tokio::select! {
            () = stopping.wait() => return Ok(End::Stopping),
            () = lines.closed() => return Ok(End::Gone),
            _ = tick.tick() => looks = looks.wrapping_add(1),
            changed = changes.changed() => if changed.is_err() { return Ok(End::Stopping) },
        }
        let now = app.clock.now();
        let back = match looks % LOOKS_PER_FULL_LOOK {
            0 => full_lookback(),
            _ => LOOKBACK,
        };
        let changed = store::changed_of_gateway(&app.db, gateway, now - back).await?;
        let left = store::left_of_gateway(&app.db, gateway, now - back).await?;
        for line in told.news(&left, &changed, &app.keys, now) {
            if !send(lines, &line).await {
                return Ok(End::Gone);
            }
        }
        if looks.is_multiple_of(LOOKS_PER_HEARTBEAT) {
            if !gateways::store::is_in_use(&app.db, gateway).await? {
                // The last word: nobody is live there. Whoever is in learns that it stops.
                send(lines, &told.snapshot(&[], &app.keys, now)).await;
                return Ok(End::Retired);
            }
            let server_time_ms = unix_ms(now);
            if !send(lines, &FeedLine::Heartbeat { server_time_ms }).await {
                return Ok(End::Gone);
            }
        }
    }
}

/// Hands a line over. Says whether the gateway still takes them.
async fn send(lines: &mpsc::Sender<Bytes>, line: &FeedLine) -> bool {
    let Ok(mut text) = serde_json::to_vec(line) else {
        return false;
    };
    text.push(b'\n');
    lines.send_timeout(text.into(), SEND_TIMEOUT).await.is_ok()
}

#[cfg(test)]
mod tests;
