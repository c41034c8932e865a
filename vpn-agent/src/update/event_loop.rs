//! The task that looks after updates while the agent runs.
//!
//! Once a second it tells [`Pace`] what it sees; what may be done is said there, what may be
//! believed in [`super::judge`]. It ends with the agent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::updates::UpdateKey;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::fetch::{self, FetchError};
use super::pace::{Pace, Seen};
use super::staging::{Place, StageError, Staged};
use super::{News, Note, Refusal, judge, take_over};
use crate::agent::{Agent, Command};
use crate::clock::Clock;
use crate::desk::Desk;

/// How often is looked.
const TICK: Duration = Duration::from_secs(1);

/// What [`watch_over`] tells the run: the next program may take over now.
pub type Due = watch::Receiver<Option<Staged>>;

/// Starts the task. The receiver gets the next program when it may take over.
pub fn watch_over(desk: Desk, place: Place, key: UpdateKey) -> Due {
    let (due, receiver) = watch::channel(None);
    let (may_fetch, _) = watch::channel(false);
    let updater = Updater {
        desk,
        place,
        key,
        pace: Pace::default(),
        may_fetch,
        due,
        job: None,
        staged: None,
    };
    tokio::spawn(updater.run());
    receiver
}

/// A next program that may take over before anything else is begun. What is wrong with one
/// that may not is only logged: the portal will be asked again.
pub async fn waiting_since_before(place: &Place, key: &UpdateKey, clock: &Clock) -> Option<Staged> {
    let now = clock.now();
    let staged = match place.staged(key, &place.here(), clock.corrected(now)) {
        Ok(staged) => staged?,
        Err(refusal) => {
            tracing::warn!(%refusal, "update removed");
            return None;
        }
    };
    match take_over::try_out(&staged).await {
        Ok(()) => Some(staged),
        Err(refusal) => {
            tracing::warn!(%refusal, "update removed");
            place.discard();
            None
        }
    }
}

struct Updater {
    desk: Desk,
    place: Place,
    key: UpdateKey,
    pace: Pace,
    may_fetch: watch::Sender<bool>,
    due: watch::Sender<Option<Staged>>,
    job: Option<JoinHandle<Result<Outcome, FetchError>>>,
    staged: Option<Staged>,
}

enum Outcome {
    Nothing,
    Staged(Staged),
    Noted(Note),
}

impl Updater {
    async fn run(mut self) {
        let mut is_first = true;
        loop {
            tokio::time::sleep(TICK).await;
            // A second after the start its guard has ended.
            if std::mem::take(&mut is_first) {
                self.place.forget_old();
            }
            let agents = self.desk.agents();
            let Some(first) = agents.first().filter(|_| !self.due.is_closed()) else {
                if let Some(job) = self.job.take() {
                    job.abort();
                }
                return;
            };
            self.look(first.shared_clock(), &agents).await;
        }
    }

    async fn look(&mut self, clock: Arc<Clock>, agents: &[Agent]) {
        let now = clock.now().mono;
        let connected = agents.iter().find(|agent| agent.route().is_some());
        let moved = agents.iter().map(|agent| agent.traffic().moved_bytes());
        let seen = Seen {
            session: connected.and_then(|agent| Some(agent.view().session()?.id)),
            resting: self.desk.is_at_rest()
                && !agents.iter().any(|agent| agent.traffic().is_reading()),
            moved_bytes: moved.sum(),
        };
        self.pace.see(seen, now);
        let may_fetch = self.pace.may_fetch(now);
        self.may_fetch.send_replace(may_fetch);
        if let Some(job) = self.job.take_if(|job| job.is_finished()) {
            match job.await {
                Ok(outcome) => self.handle(outcome, now, agents).await,
                Err(error) => tracing::error!(%error, "looking for an update broke off"),
            }
        }
        if let Some(agent) = connected
            && self.job.is_none()
            && self.staged.is_none()
            && self.pace.may_check(now)
        {
            self.pace.checks(now);
            self.job = Some(tokio::spawn(look_for_update(
                agent.clone(),
                agents.to_vec(),
                self.place.clone(),
                self.key,
                self.may_fetch.subscribe(),
            )));
        }
        if self.staged.is_some() && self.pace.may_hand_over(now) {
            // Again each second: the user may have pressed 接続 in between.
            self.due.send_replace(self.staged.clone());
        }
    }

    async fn handle(
        &mut self,
        outcome: Result<Outcome, FetchError>,
        now: Instant,
        agents: &[Agent],
    ) {
        let note = match outcome {
            Ok(Outcome::Nothing) => None,
            Ok(Outcome::Noted(note)) => Some(note),
            Ok(Outcome::Staged(staged)) => {
                let version = staged.version;
                tracing::info!(%version, "update is ready");
                self.staged = Some(staged);
                Some(Note::Ready(version))
            }
            Err(FetchError::Stage(StageError::Refused(refusal))) => Some(Note::Refused(refusal)),
            Err(error) => {
                tracing::info!(%error, "update is looked for again later");
                self.pace.failed(now);
                None
            }
        };
        if let Some(Note::Refused(refusal)) = &note {
            tracing::warn!(%refusal, "update refused");
        }
        tell_all(agents, note).await;
    }
}

/// One program for all profiles: each of their pages tells.
async fn tell_all(agents: &[Agent], note: Option<Note>) {
    for agent in agents {
        agent.tell(Command::ShowUpdate(note.clone())).await;
    }
}

/// Asks the portal, judges, fetches, and tries the program out.
async fn look_for_update(
    agent: Agent,
    all: Vec<Agent>,
    place: Place,
    key: UpdateKey,
    mut may_fetch: watch::Receiver<bool>,
) -> Result<Outcome, FetchError> {
    let clock: Arc<Clock> = agent.shared_clock();
    let Some(route) = agent.route() else {
        return Ok(Outcome::Nothing);
    };
    let Some(text) = fetch::manifest(&route, clock.clone()).await? else {
        return Ok(Outcome::Nothing);
    };
    let now = clock.corrected(clock.now());
    let offer = match judge(&text, &key, &place.here(), now).map_err(StageError::from)? {
        News::Nothing => return Ok(Outcome::Nothing),
        News::Newer(offer) => offer,
    };
    let version = offer.version;
    place.note_offer(version).map_err(StageError::from)?;
    if place.has_given_up(version) {
        return Err(StageError::from(Refusal::GivenUp(version)).into());
    }
    // Fetched in an earlier session already?
    let before = place.staged(&key, &place.here(), now);
    let staged = match before {
        Ok(Some(staged)) if staged.version == version => staged,
        Ok(_) | Err(_) => {
            let mut part = match place.begin(&offer) {
                Err(StageError::NotOurs) => {
                    return Ok(Outcome::Noted(Note::Administrator(version)));
                }
                begun => begun?,
            };
            tell_all(&all, Some(Note::Fetching(version))).await;
            let fetched = fetch::program(&route, clock, &offer, &mut part, &mut may_fetch).await;
            if let Err(error) = fetched {
                drop(part);
                place.discard();
                return Err(error);
            }
            part.finish(&text)?
        }
    };
    if let Err(refusal) = take_over::try_out(&staged).await {
        place.discard();
        return Err(StageError::from(refusal).into());
    }
    Ok(Outcome::Staged(staged))
}
