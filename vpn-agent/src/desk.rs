//! All profiles of this PC at work: one program, one control channel, and for each profile an
//! agent, a loopback proxy and a window of its own.
//!
//! Several sessions may run at once: each profile is a device of its own for its fund, with its
//! own key, and its window reaches its own portal only. The desk finds the profile that a wish
//! is for and passes it on; what becomes of it is decided by the profile's own agent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::agent::{Agent, Command};
use crate::config::Config;
use crate::enrolment::{Application, EnrolError};
use crate::page::Page;
use crate::proxy::Proxy;
use crate::session_state::{Refused, State};
use crate::status::{StateName, StatusReport, View};
use crate::store::profiles::{ProfileId, Profiles};
use crate::store::{Store, StoreError};

mod choice;
mod error;
mod wish;

pub use choice::{Choice, NotAChoice};
pub use error::DeskError;
pub use wish::WindowRequest;

/// How long an event loop may take to end.
const END_LIMIT: Duration = Duration::from_secs(5);

/// How long the picture may take to show what was just done.
const PICTURE_LIMIT: Duration = Duration::from_secs(5);

/// What a window shows first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// The profile's own state.
    Profile,
    /// The list of all profiles.
    List,
    /// The page that opens zips.
    Documents,
}

/// Starts the agent of one profile. The caller holds the lock of the data folder.
pub type Starter =
    Box<dyn Fn(&Config, Store) -> Result<(Agent, JoinHandle<()>), EnrolError> + Send + Sync>;

/// The running profiles. Clones are the same desk.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    config: Config,
    profiles: Profiles,
    starter: Starter,
    seats: Mutex<BTreeMap<ProfileId, Seat>>,
    windows: mpsc::Sender<WindowRequest>,
    /// Counts the changes of all pictures.
    changes: watch::Sender<u64>,
    /// Whether another run wants this one to end.
    end_wanted: watch::Sender<bool>,
}

/// A profile at work.
struct Seat {
    agent: Agent,
    event_loop: JoinHandle<()>,
    /// Whether an enrolment lies in its store that cannot be read.
    served: Option<Served>,
}

/// What a window needs.
#[derive(Debug, Clone)]
pub struct Served {
    /// The page's address with the launch token.
    url: String,
    /// The loopback proxy.
    pub proxy: SocketAddr,
    page: Arc<Page>,
    task: AbortHandle,
}

impl Served {
    /// The address to open a window with.
    pub fn url(&self, landing: Landing) -> String {
        match landing {
            Landing::Profile => self.url.clone(),
            Landing::List => format!("{}&list=1", self.url),
            Landing::Documents => format!("{}&documents=1", self.url),
        }
    }
}

/// How one profile stands.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its number.
    pub id: ProfileId,
    /// Its picture.
    pub view: View,
    /// The same in the words of the contract.
    pub report: StatusReport,
}

impl Profile {
    /// Whether nothing was ever asked for in it: it is in no list.
    pub fn is_unused(&self) -> bool {
        is_unused(&self.view)
    }

    /// What it is called.
    pub fn name(&self) -> String {
        name_of(&self.report)
    }
}

fn is_unused(view: &View) -> bool {
    let unenrolled = matches!(view.state, State::Unenrolled { .. });
    unenrolled && view.pc.is_none() && view.damage.is_none()
}

fn name_of(report: &StatusReport) -> String {
    match (&report.establishment_name, &report.establishment) {
        (Some(name), Some(number)) => match &report.fund_name {
            Some(fund) => format!("{name}（{number}）／{fund}"),
            None => format!("{name}（{number}）"),
        },
        (None, Some(number)) => format!("事業所番号 {number}"),
        (Some(name), None) => name.clone(),
        (None, None) => "未登録".to_owned(),
    }
}

impl Desk {
    /// Starts every profile in the data folder that `first` lies in. The caller holds its lock.
    ///
    /// # Errors
    /// [`DeskError`] if the disk refuses, or the settings cannot be used.
    pub fn start(
        config: &Config,
        first: Store,
        windows: mpsc::Sender<WindowRequest>,
    ) -> Result<Self, DeskError> {
        Self::start_with(config, first, windows, Box::new(Agent::start))
    }

    /// Starts every profile with agents of another kind.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        config: &Config,
        first: Store,
        windows: mpsc::Sender<WindowRequest>,
        starter: Starter,
    ) -> Result<Self, DeskError> {
        let profiles = Profiles::beside(first);
        profiles.take_over()?;
        let all = profiles.all()?;
        let desk = Self(Arc::new(Inner {
            config: config.clone(),
            profiles,
            starter,
            seats: Mutex::default(),
            windows,
            changes: watch::Sender::new(0),
            end_wanted: watch::Sender::new(false),
        }));
        for (id, store) in all {
            desk.seat(id, store)?;
        }
        Ok(desk)
    }

    fn seat(&self, id: ProfileId, store: Store) -> Result<Agent, DeskError> {
        let (agent, event_loop) = (self.0.starter)(&self.0.config, store)?;
        let mut watched = agent.clone();
        let changes = self.0.changes.clone();
        tokio::spawn(async move {
            while watched.changed().await {
                changes.send_modify(|count| *count += 1);
            }
        });
        let seat = Seat {
            agent: agent.clone(),
            event_loop,
            served: None,
        };
        self.seats().insert(id, seat);
        self.0.changes.send_modify(|count| *count += 1);
        Ok(agent)
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<ProfileId, Seat>> {
        self.0.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every profile that has something in it, by number; the first one if none has.
    pub fn profiles(&self) -> Vec<Profile> {
        let mut all: Vec<_> = self.everybody();
        if all.iter().any(|profile| !profile.is_unused()) {
            all.retain(|profile| !profile.is_unused());
        } else {
            all.truncate(1);
        }
        all
    }

    fn everybody(&self) -> Vec<Profile> {
        let seats = self.seats();
        let profile = |(id, seat): (&ProfileId, &Seat)| Profile {
            id: *id,
            view: seat.agent.view(),
            report: StatusReport {
                profile: Some(*id),
                ..seat.agent.report()
            },
        };
        seats.iter().map(profile).collect()
    }

    /// The agent of a profile.
    pub fn agent(&self, id: ProfileId) -> Option<Agent> {
        self.seats().get(&id).map(|seat| seat.agent.clone())
    }

    /// Finds the one profile that is meant.
    ///
    /// # Errors
    /// [`DeskError::Unknown`], [`DeskError::Ambiguous`] or [`DeskError::Ending`].
    pub fn choose(&self, choice: Option<Choice>) -> Result<(ProfileId, Agent), DeskError> {
        let fitting: Vec<Profile> = match choice {
            None => self.profiles(),
            Some(Choice::Id(id)) => self
                .everybody()
                .into_iter()
                .filter(|p| p.id == id)
                .collect(),
            Some(Choice::Establishment(number)) => {
                let wanted = number.to_string();
                let fits = |p: &Profile| p.report.establishment.as_deref() == Some(&wanted);
                self.profiles().into_iter().filter(fits).collect()
            }
        };
        if self.seats().is_empty() {
            return Err(DeskError::Ending);
        }
        match (&fitting[..], choice) {
            ([one], _) => {
                let unknown = || DeskError::Unknown(Choice::Id(one.id));
                Ok((one.id, self.agent(one.id).ok_or_else(unknown)?))
            }
            ([], Some(choice)) => Err(DeskError::Unknown(choice)),
            (several, _) => Err(DeskError::Ambiguous(
                several.iter().map(|p| (p.id, p.name())).collect(),
            )),
        }
    }

    /// Asks a fund to register this PC; waits until the request is there. Goes to the profile
    /// that is meant, or to the one that is for the same establishment already, or to one that
    /// came to nothing, or to a new one.
    ///
    /// # Errors
    /// [`DeskError`], with the sentence for the user.
    pub async fn enrol(
        &self,
        choice: Option<Choice>,
        application: Application,
    ) -> Result<ProfileId, DeskError> {
        let (id, agent) = match choice {
            Some(_) => self.choose(choice)?,
            None => self.place_for(&application)?,
        };
        agent.enrol(application).await.map_err(DeskError::Refused)?;
        // The picture follows the answer by a moment. That there is a PC is not enough: a try that
        // came to nothing has left one.
        agent
            .wait_for(PICTURE_LIMIT, |view| {
                let begun = matches!(
                    view.state,
                    State::Unenrolled { .. } | State::Enrolling { .. }
                );
                view.pc.is_some() && !begun
            })
            .await;
        Ok(id)
    }

    fn place_for(&self, application: &Application) -> Result<(ProfileId, Agent), DeskError> {
        for (id, store) in self.0.profiles.all()? {
            let current = store.find()?.into_current();
            let fits = |found: &crate::store::Enrolment| {
                found.is_for(&application.gateway, application.establishment)
            };
            if current.as_ref().is_some_and(fits)
                && let Some(agent) = self.agent(id)
            {
                return Ok((id, agent));
            }
        }
        let came_to_nothing = self.everybody().into_iter().find(|profile| {
            matches!(
                profile.view.state,
                State::Unenrolled { .. }
                    | State::Refused {
                        what: Refused::Enrolment,
                        ..
                    }
            )
        });
        if let Some(found) = came_to_nothing
            && let Some(agent) = self.agent(found.id)
        {
            return Ok((found.id, agent));
        }
        let (id, store) = self.0.profiles.add()?.ok_or(DeskError::TooMany)?;
        Ok((id, self.seat(id, store)?))
    }

    /// Erases what a profile has: its keys first of all. Not while it has a session.
    ///
    /// # Errors
    /// [`DeskError`], with the sentence for the user.
    pub async fn remove(&self, id: ProfileId) -> Result<(), DeskError> {
        let unknown = DeskError::Unknown(Choice::Id(id));
        let agent = self.agent(id).ok_or(unknown)?;
        agent.remove().await.map_err(DeskError::Refused)
    }

    /// Starts the proxy and the page of a profile, if they are not there yet.
    ///
    /// # Errors
    /// [`DeskError::Listen`] if no port is free.
    pub async fn serve(&self, id: ProfileId) -> Result<Served, DeskError> {
        let unknown = || DeskError::Unknown(Choice::Id(id));
        let agent = self.agent(id).ok_or_else(unknown)?;
        if let Some(served) = self.served(id) {
            return Ok(served);
        }
        // The port of the settings can be one profile's only.
        let taken = self.seats().values().any(|seat| seat.served.is_some());
        let port = if taken { 0 } else { self.0.config.proxy_port };
        let proxy = Proxy::bind(port)
            .await
            .map_err(|source| DeskError::Listen { port, source })?;
        let page = Arc::new(Page::new(self.clone(), id)?);
        let address = proxy.address();
        let url = page.url();
        let (shown, seen_by) = (page.clone(), agent.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                () = proxy.serve(seen_by.clone(), shown.clone()) => {}
                () = shown.tidy(&seen_by) => {}
            }
        });
        let made = Served {
            url,
            proxy: address,
            page,
            task: task.abort_handle(),
        };
        // Somebody else may have been faster.
        let served = match self.seats().get_mut(&id) {
            Some(seat) => seat.served.get_or_insert_with(|| made.clone()).clone(),
            None => return Err(unknown()),
        };
        if served.proxy != made.proxy {
            made.task.abort();
        }
        agent.tell(Command::ProxyListens(served.proxy)).await;
        agent
            .wait_for(PICTURE_LIMIT, |view| view.proxy.is_some())
            .await;
        Ok(served)
    }

    /// The proxy and the page of a profile, if they are there.
    pub fn served(&self, id: ProfileId) -> Option<Served> {
        self.seats().get(&id)?.served.clone()
    }

    /// Whether this run stays: it serves somebody.
    pub fn stays(&self) -> bool {
        self.seats().values().any(|seat| seat.served.is_some())
    }

    /// Where somebody who did not choose begins: at the one profile, or at the list.
    ///
    /// # Errors
    /// [`DeskError::Unknown`] if there is no such profile.
    pub fn landing(&self, choice: Option<Choice>) -> Result<(ProfileId, Landing), DeskError> {
        match (choice, &self.profiles()[..]) {
            (None, [first, _, ..]) => Ok((first.id, Landing::List)),
            _ => Ok((self.choose(choice)?.0, Landing::Profile)),
        }
    }

    /// Where somebody begins who wants to read `file`, if one is named: it is laid on the page
    /// of the profile that is meant, or of the first.
    ///
    /// # Errors
    /// As [`Self::landing`], and [`DeskError::NoWindow`] if the file cannot be read.
    pub async fn landing_with(
        &self,
        choice: Option<Choice>,
        file: Option<&Path>,
    ) -> Result<(ProfileId, Landing), DeskError> {
        let (id, landing) = self.landing(choice)?;
        let Some(file) = file else {
            return Ok((id, landing));
        };
        let agent = self.agent(id).ok_or(DeskError::Unknown(Choice::Id(id)))?;
        let page = self.serve(id).await?.page;
        let laid = page.lay_file(file, &agent).await;
        laid.map_err(DeskError::NoWindow)?;
        Ok((id, Landing::Documents))
    }

    /// Brings the window of a profile up and returns its address.
    ///
    /// # Errors
    /// [`DeskError::NoWindow`] with the sentence why there is none.
    pub async fn bring_up(
        &self,
        profile: ProfileId,
        landing: Landing,
        no_browser: bool,
    ) -> Result<String, DeskError> {
        let windows = &self.0.windows;
        wish::fulfil(windows, profile, landing, no_browser, wish::WINDOW_LIMIT).await
    }

    /// Whether any profile has a session, or asks for one.
    pub fn is_busy(&self) -> bool {
        let busy = |profile: &Profile| match profile.report.state {
            StateName::Connecting | StateName::Connected => true,
            StateName::Unenrolled
            | StateName::Pending
            | StateName::Ready
            | StateName::Refused
            | StateName::Ended => false,
        };
        self.everybody().iter().any(busy)
    }

    /// Whether nobody is in the middle of anything: no session, and no form to fill in.
    pub fn is_at_rest(&self) -> bool {
        self.profiles().iter().all(|profile| {
            let state = &profile.view.state;
            state.may_connect() || matches!(state, State::Pending { .. })
        })
    }

    /// Tells of every change of any picture.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Wants the run to end.
    pub fn want_end(&self) {
        self.0.end_wanted.send_replace(true);
    }

    /// Waits until somebody wants the run to end.
    pub async fn end_wanted(&self) {
        let mut wanted = self.0.end_wanted.subscribe();
        // The sender lives in `self`, so that the wait cannot fail.
        let _ = wanted.wait_for(|wanted| *wanted).await;
    }

    /// The agents of all profiles; none once the desk has ended.
    pub fn agents(&self) -> Vec<Agent> {
        self.seats()
            .values()
            .map(|seat| seat.agent.clone())
            .collect()
    }

    /// The store of a profile.
    ///
    /// # Errors
    /// [`StoreError`] if the disk refuses.
    pub fn store(&self, id: ProfileId) -> Result<Option<Store>, StoreError> {
        let all = self.0.profiles.all()?;
        Ok(all
            .into_iter()
            .find(|(known, _)| *known == id)
            .map(|(_, store)| store))
    }

    /// Ends cleanly: the gateways and the portals are told.
    pub async fn end(&self) {
        let seats: Vec<Seat> = std::mem::take(&mut *self.seats()).into_values().collect();
        for seat in &seats {
            seat.agent.tell(Command::ShutDown).await;
        }
        let ended = async {
            for seat in seats {
                if let Some(served) = seat.served {
                    served.task.abort();
                }
                // A loop that broke down has ended too.
                let _ = seat.event_loop.await;
            }
        };
        if tokio::time::timeout(END_LIMIT, ended).await.is_err() {
            tracing::warn!("the agent did not end in time");
        }
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.seats().keys()).finish()
    }
}
