//! Which sessions with open connections to the member listener are still live.
//!
//! One task watches for all connections together: it reads what changed in the database
//! every half second and looks at the deadlines, and tells the connections of a session that
//! has ended. Called by the member listener.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::{Generation, SessionId};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::store::{self, Liveness};
use crate::app::App;
use crate::clock::unix_ms;
use crate::db::StoreError;
use crate::delegations;
use crate::web::page_error::chain;

/// How often the task looks by itself.
const POLL: Duration = Duration::from_millis(500);
/// How far a look reaches back: a change may become visible later than the time it has.
const LOOKBACK: time::Duration = time::Duration::seconds(60);
/// Every so many looks, one reaches back over [`LOOKBACK`]: each 1.5 seconds.
const LOOKS_PER_LOOKBACK: u32 = 3;
/// How far the other looks reach back. When hundreds of sessions open in a second, each look
/// would else read all of the last minute's.
const SHORT_LOOKBACK: time::Duration = time::Duration::seconds(2);
/// How long changes of this process are gathered before a look.
const GATHERING: Duration = Duration::from_millis(50);
/// Connections of one session at most. A browser opens six to a host.
pub const CONNECTIONS_PER_SESSION: usize = 64;

/// The sessions with open connections.
#[derive(Debug, Clone, Default)]
pub struct LiveSessions(Arc<Mutex<HashMap<Key, Entry>>>);

/// A session, the grant of it that the connections came by, and how often connections of it had
/// been cut before.
type Key = (SessionId, Generation, i64);

#[derive(Debug)]
struct Entry {
    liveness: Liveness,
    connections: usize,
    ended: watch::Sender<bool>,
}

/// A connection's place in its session; gives it back when dropped.
#[derive(Debug)]
pub struct Stay {
    sessions: LiveSessions,
    key: Key,
    ended: watch::Receiver<bool>,
}

impl LiveSessions {
    /// Counts a connection in. `None` if the session has as many as it may.
    pub fn enter(&self, liveness: Liveness) -> Option<Stay> {
        let mut entries = self.lock();
        let key = (liveness.id, liveness.generation, liveness.cuts);
        let entry = entries.entry(key).or_insert_with(|| Entry {
            liveness,
            connections: 0,
            ended: watch::Sender::new(false),
        });
        if entry.connections >= CONNECTIONS_PER_SESSION {
            return None;
        }
        entry.connections += 1;
        Some(Stay {
            sessions: self.clone(),
            key,
            ended: entry.ended.subscribe(),
        })
    }

    /// Takes over what the database says, and ends what is not live at `now_ms`.
    pub fn update(&self, changed: &[Liveness], now_ms: i64) {
        let changed: HashMap<SessionId, &Liveness> = changed
            .iter()
            .map(|liveness| (liveness.id, liveness))
            .collect();
        let mut entries = self.lock();
        for ((session, generation, cuts), entry) in entries.iter_mut() {
            match changed.get(session) {
                // Its pages were cut: what came before has ended, what comes after goes on.
                Some(found) if found.cuts > *cuts => entry.liveness.has_ended = true,
                Some(found) if found.generation == *generation => entry.liveness = **found,
                // The session goes on through another gateway.
                Some(found) if found.generation > *generation => entry.liveness.has_ended = true,
                Some(_) | None => {}
            }
            if !entry.liveness.is_live(now_ms) {
                entry.ended.send_replace(true);
            }
        }
    }

    /// Watches until the portal stops.
    pub async fn watch(self, app: App) {
        let mut stopping = app.signals.stopping();
        let mut changes = app.signals.sessions();
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looks: u32 = 0;
        loop {
            let mut back = SHORT_LOOKBACK;
            tokio::select! {
                () = stopping.wait() => return,
                _ = tick.tick() => {
                    looks = looks.wrapping_add(1);
                    if looks.is_multiple_of(LOOKS_PER_LOOKBACK) {
                        back = LOOKBACK;
                    }
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(GATHERING).await;
                    // What changed meanwhile is seen by this look.
                    changes.mark_unchanged();
                }
            }
            let now = app.clock.now();
            let changed = match self.is_empty() {
                true => Vec::new(),
                false => match look(&app, now, back).await {
                    Ok(changed) => changed,
                    Err(error) => {
                        // Deadlines are known and still hold; pages fail by themselves.
                        tracing::error!(error = %chain(&error), "cannot look for ended sessions");
                        Vec::new()
                    }
                },
            };
            self.update(&changed, unix_ms(now));
        }
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What changed since `back`. A delegation whose last day is over ends in the midst of what
/// is done by it, like one that is revoked.
async fn look(
    app: &App,
    now: OffsetDateTime,
    back: time::Duration,
) -> Result<Vec<Liveness>, StoreError> {
    delegations::store::cut_overdue(&app.db, now).await?;
    store::changed(&app.db, now - back).await
}

impl Stay {
    /// Returns when the session has ended.
    pub async fn ended(&mut self) {
        // An error means that the entry is gone, which only the last stay can bring about.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut entries = self.sessions.lock();
        if let Some(entry) = entries.get_mut(&self.key) {
            entry.connections -= 1;
            if entry.connections == 0 {
                entries.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn liveness() -> Liveness {
        Liveness {
            id: SessionId::from_uuid(uuid::Uuid::from_u128(1)),
            generation: Generation::new(1),
            inner_address: Ipv6Addr::LOCALHOST,
            deadline_ms: 1_000,
            has_ended: false,
            cuts: 0,
        }
    }

    fn has_ended(stay: &Stay) -> bool {
        *stay.ended.borrow()
    }

    #[test]
    fn the_deadline_itself_is_too_late() {
        let sessions = LiveSessions::default();
        let stay = sessions.enter(liveness()).unwrap();
        sessions.update(&[], 999);
        assert!(!has_ended(&stay));
        sessions.update(&[], 1_000);
        assert!(has_ended(&stay));
    }

    #[test]
    fn an_end_and_a_shorter_deadline_reach_every_connection() {
        for (has_ended_early, deadline_ms) in [(true, 1_000), (false, 500)] {
            let sessions = LiveSessions::default();
            let stays = [
                sessions.enter(liveness()).unwrap(),
                sessions.enter(liveness()).unwrap(),
            ];
            let changed = Liveness {
                has_ended: has_ended_early,
                deadline_ms,
                ..liveness()
            };
            sessions.update(&[changed], 500);
            assert!(stays.iter().all(has_ended));
        }
    }

    #[test]
    fn connections_by_the_gateway_that_was_left_end_and_those_by_the_new_one_stay() {
        let sessions = LiveSessions::default();
        let moved = Liveness {
            generation: Generation::new(2),
            inner_address: Ipv6Addr::UNSPECIFIED,
            ..liveness()
        };
        let (old, new) = (
            sessions.enter(liveness()).unwrap(),
            sessions.enter(moved).unwrap(),
        );
        // What was read before the move counts for nothing.
        sessions.update(&[liveness()], 0);
        assert!(!has_ended(&old) && !has_ended(&new));
        sessions.update(&[moved], 0);
        assert!(has_ended(&old) && !has_ended(&new));
    }

    #[test]
    fn connections_from_before_a_cut_end_and_those_after_it_stay() {
        let sessions = LiveSessions::default();
        let cut = Liveness {
            cuts: 1,
            ..liveness()
        };
        let (before, after) = (
            sessions.enter(liveness()).unwrap(),
            sessions.enter(cut).unwrap(),
        );
        sessions.update(&[cut], 0);
        assert!(has_ended(&before) && !has_ended(&after));
        // What was read before the cut counts for nothing.
        sessions.update(&[liveness()], 0);
        assert!(!has_ended(&after));
    }

    #[test]
    fn a_session_has_so_many_connections_and_no_more_and_gives_them_back() {
        let sessions = LiveSessions::default();
        let mut stays: Vec<_> = (0..CONNECTIONS_PER_SESSION)
            .map(|_| sessions.enter(liveness()).unwrap())
            .collect();
        assert!(sessions.enter(liveness()).is_none());
        stays.pop();
        assert!(sessions.enter(liveness()).is_some());
        stays.clear();
        assert!(sessions.is_empty());
    }
}
