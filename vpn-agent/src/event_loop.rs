//! The one loop of the running agent: wishes, answers and time come in, jobs go out.
//!
//! All waiting happens here or in the jobs it starts; what anything means is decided by
//! [`SessionState`]. After each event [`EventLoop::settle`] starts the jobs that the state
//! asks for and shows the new picture. A slow tick goes on always, so that no missed signal
//! can leave it asleep.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::agent_api::{CertificateRenewed, EnrolmentState, ServiceStatus};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::agent::{Command, Route, Senses};
use crate::clock::Clock;
use crate::dial::Dialer;
use crate::enrolment::{Approval, EnrolError};
use crate::gateway_client::order::Known;
use crate::gateway_client::trust::Roots;
use crate::gateway_client::{ApiError, GatewayClient};
use crate::link::paths::Outlook;
use crate::link::{Link, LinkEnd, LinkError};
use crate::session_state::{Doubt, Refused, SessionState, State};
use crate::status::{Approved, Pc, View};
use crate::store::{Damage, Enrolment, Progress, Store};
use crate::update::Note;

mod announcements;
mod enrolling;
mod failover;
pub mod pursuit;
mod renewal;
mod service;
mod session;

use announcements::Announcements;
use renewal::Renewal;
use session::{Active, Granted};

/// The slow tick.
const TICK: Duration = Duration::from_secs(1);

/// How often staff's decision is asked for.
const ENROLMENT_POLL: Duration = Duration::from_millis(1500);

/// How often the service is asked about while the window is open. Keeps the connection warm:
/// the gateway ends one that has said nothing for 15 seconds.
const SERVICE_POLL: Duration = Duration::from_secs(12);

/// How often the latest server time is written down.
const FLOOR_STEP: time::Duration = time::Duration::hours(1);

/// How long a clean end may take.
const SHUT_DOWN_LIMIT: Duration = Duration::from_secs(3);

/// What a loop is made from.
pub struct Settings {
    /// The disk.
    pub store: Store,
    /// Whom to believe before the enrolment.
    pub roots: Roots,
    /// The clocks.
    pub clock: Arc<Clock>,
    /// How TCP connections reach the gateways.
    pub dialer: Dialer,
    /// Wishes.
    pub commands: mpsc::Receiver<Command>,
    /// Where the proxy looks for the way to the portal.
    pub route: watch::Sender<Option<Route>>,
    /// How the loop touches what lies around it.
    pub senses: Senses,
}

/// The loop with all that it holds.
pub struct EventLoop {
    store: Store,
    roots: Roots,
    clock: Arc<Clock>,
    dialer: Dialer,
    commands: mpsc::Receiver<Command>,
    route: watch::Sender<Option<Route>>,
    senses: Senses,
    announcements: Announcements,
    view: watch::Sender<View>,
    state: SessionState,
    enrolment: Option<Enrolment>,
    /// Counts the enrolments: what was asked about an earlier one does not concern a later.
    enrolments: u64,
    fund: Option<Fund>,
    /// Asks for staff's decision.
    poller: Option<Arc<GatewayClient>>,
    /// How often the portal was asked for it.
    polls: u64,
    active: Option<Active>,
    jobs: JoinSet<Outcome>,
    /// What is written down of the gateways.
    saved_gateways: Known,
    renewal: Renewal,
    /// Counts the wishes for a session; an answer to an earlier one is stale.
    attempt: u64,
    busy: Busy,
    next_tick: Instant,
    next_enrolment_poll: Instant,
    next_service_poll: Instant,
    watches_service: bool,
    proxy: Option<SocketAddr>,
    damage: Option<String>,
    update: Option<Note>,
}

/// An approved enrolment, ready to be used.
struct Fund {
    client: Arc<GatewayClient>,
    approval: Approval,
    roots: Roots,
}

/// Jobs of which one at a time is enough.
#[derive(Debug, Default)]
struct Busy {
    polling: bool,
    asking_service: bool,
    linking: bool,
    seeking: bool,
    renewing: bool,
    /// Who waits for the answer to the enrolment.
    applicant: Option<oneshot::Sender<Result<(), String>>>,
}

/// What a job came back with.
enum Outcome {
    Applied(Box<Result<Enrolment, EnrolError>>),
    Polled {
        enrolment: u64,
        result: Result<EnrolmentState, ApiError>,
    },
    Service(Result<ServiceStatus, ApiError>),
    Granted {
        attempt: u64,
        result: Box<Result<Granted, ApiError>>,
    },
    Moved {
        attempt: u64,
        result: Box<Result<Granted, ApiError>>,
    },
    Linked {
        attempt: u64,
        result: Result<Link, LinkError>,
    },
    Renewed(Result<CertificateRenewed, ApiError>),
    SessionEnded,
}

impl EventLoop {
    /// Reads the disk and starts with what is found there.
    pub fn new(settings: Settings) -> Result<Self, EnrolError> {
        let found = settings.store.find()?;
        let damage = found.damaged.first().map(Damage::page_text);
        let now = settings.clock.now().mono;
        let (view, _) = watch::channel(View {
            state: State::Unenrolled { problem: None },
            service: None,
            doubt: Doubt::default(),
            notice: None,
            pc: None,
            proxy: None,
            skew_s: None,
            damage: None,
            polls: 0,
            way: None,
            ways: Vec::new(),
            update: None,
        });
        let mut event_loop = Self {
            store: settings.store,
            roots: settings.roots,
            clock: settings.clock,
            dialer: settings.dialer,
            commands: settings.commands,
            route: settings.route,
            senses: settings.senses,
            announcements: Announcements::default(),
            view,
            state: SessionState::new(State::Unenrolled { problem: None }),
            enrolment: None,
            enrolments: 0,
            fund: None,
            poller: None,
            polls: 0,
            active: None,
            jobs: JoinSet::new(),
            saved_gateways: Known::default(),
            renewal: Renewal::default(),
            attempt: 0,
            busy: Busy::default(),
            next_tick: now + TICK,
            next_enrolment_poll: now,
            next_service_poll: now,
            watches_service: false,
            proxy: None,
            damage,
            update: None,
        };
        event_loop.enrolment = found.into_current();
        event_loop.state = SessionState::new(event_loop.state_on_disk());
        event_loop.show();
        Ok(event_loop)
    }

    /// Where the picture appears.
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// Runs until told to end, or until nobody is left to tell.
    pub async fn run(mut self) {
        loop {
            self.settle();
            let wake = self.next_wake();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::ShutDown) | None => break,
                    Some(command) => self.handle_command(command),
                },
                Some(outcome) = self.jobs.join_next() => match outcome {
                    Ok(outcome) => self.handle_outcome(outcome),
                    Err(error) => self.handle_lost_job(&error),
                },
                end = link_end(self.active.as_ref()) => self.handle_link_end(end),
                outlook = link_outlook(self.active.as_ref()) => self.handle_outlook(outlook),
                () = tokio::time::sleep(wake) => {}
            }
            // Whatever else goes on: a page that is looked at wakes this loop all the time.
            let now = self.clock.now().mono;
            if now >= self.next_tick {
                self.next_tick = now + TICK;
                self.handle_tick();
            }
        }
        self.shut_down().await;
    }

    /// How long to wait when nothing happens.
    fn next_wake(&self) -> Duration {
        let now = self.clock.now().mono;
        let mut wake = self.next_tick;
        if let Some(due) = self.state.poll_timeout() {
            wake = wake.min(due);
        }
        if matches!(self.state.state(), State::Pending { .. }) && !self.busy.polling {
            wake = wake.min(self.next_enrolment_poll);
        }
        wake.saturating_duration_since(now)
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Enrol(application, applicant) => self.enrol(application, applicant),
            Command::Connect => self.connect(),
            Command::Disconnect => self.state.disconnect(),
            Command::Remove(asker) => {
                let removed = self.remove();
                self.show();
                // The asker may have gone; the picture shows it as well.
                let _ = asker.send(removed);
            }
            Command::DismissNotice => self.state.dismiss_notice(),
            Command::ProxyListens(address) => self.proxy = Some(address),
            Command::WatchService => self.watches_service = true,
            Command::ShowUpdate(note) => self.update = note,
            Command::Look => self.look_closely(),
            Command::ShutDown => {}
        }
    }

    /// Erases what this profile has, and stands as it did before it was enrolled.
    fn remove(&mut self) -> Result<(), String> {
        if !self.state.state().may_enrol() {
            return Err(
                "接続中または申請中の登録先は削除できません。切断してからお試しください。"
                    .to_owned(),
            );
        }
        if let Err(error) = self.store.erase() {
            tracing::error!(%error, "the profile is not erased");
            return Err(error.page_text());
        }
        tracing::info!("profile erased");
        self.attempt += 1;
        self.enrolment = None;
        self.fund = None;
        self.poller = None;
        self.damage = None;
        self.saved_gateways = Known::default();
        self.renewal = Renewal::default();
        self.state = SessionState::new(State::Unenrolled { problem: None });
        Ok(())
    }

    fn handle_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Applied(result) => self.handle_applied(*result),
            Outcome::Polled { enrolment, result } => {
                self.busy.polling = false;
                self.polls += 1;
                // A decision about a request that another one is replacing decides nothing.
                let waiting = matches!(self.state.state(), State::Pending { .. });
                if waiting && enrolment == self.enrolments {
                    self.next_enrolment_poll = self.clock.now().mono + ENROLMENT_POLL;
                    self.handle_polled(result);
                }
            }
            Outcome::Service(result) => {
                self.busy.asking_service = false;
                self.next_service_poll = self.clock.now().mono + SERVICE_POLL;
                self.handle_service(result);
            }
            Outcome::Granted { attempt, result } => self.handle_granted(attempt, *result),
            Outcome::Moved { attempt, result } => self.handle_moved(attempt, *result),
            Outcome::Renewed(result) => self.handle_renewed(result),
            Outcome::Linked { attempt, result } => self.handle_linked(attempt, result),
            Outcome::SessionEnded => {}
        }
    }

    /// A job died without an outcome; what waited for it must not wait for ever.
    fn handle_lost_job(&mut self, error: &tokio::task::JoinError) {
        tracing::error!(%error, "a job was lost");
        let sentence = "プログラムの内部で問題が起きました。もう一度お試しください。".to_owned();
        self.busy.polling = false;
        self.busy.asking_service = false;
        self.busy.linking = false;
        self.busy.seeking = false;
        self.busy.renewing = false;
        self.answer_applicant(Err(sentence.clone()));
        self.state.handle_enrolment_failed(sentence.clone());
        self.state.handle_connect_failed(sentence);
    }

    fn handle_tick(&mut self) {
        let now = self.clock.now();
        self.watch_link(now.mono);
        self.keep_gateways();
        let floor = self.clock.floor();
        if self
            .store
            .time_floor()
            .is_none_or(|saved| floor > saved + FLOOR_STEP)
            && let Err(error) = self.store.save_time_floor(floor)
        {
            tracing::warn!(%error, "latest server time not kept");
        }
    }

    /// Starts what the state asks for, ends what it no longer wants, shows the picture.
    fn settle(&mut self) {
        let now = self.clock.now().mono;
        self.state.handle_timeout(now);
        self.open_fund();
        match self.state.state() {
            State::Pending { .. } => self.poll_enrolment(now),
            State::Ready { .. } | State::Ended { .. } if self.watches_service => {
                self.ask_service(now);
            }
            State::Refused { what, .. } if *what == Refused::Session && self.watches_service => {
                self.ask_service(now);
            }
            State::Linking(_) => {
                self.seek_gateway(now);
                self.make_link();
            }
            State::Reconnecting(_) => {
                self.seek_gateway(now);
                self.make_link();
                // The portal may know why nothing comes through any more.
                self.ask_service(now);
            }
            State::Unenrolled { .. }
            | State::Enrolling { .. }
            | State::Ready { .. }
            | State::Ended { .. }
            | State::Refused { .. }
            | State::Asking
            | State::Connected(_) => {}
        }
        if self.state.state().session().is_none() {
            self.leave_session();
            self.renew_certificate(now);
        }
        self.announce();
        self.show();
    }

    fn state_on_disk(&self) -> State {
        match self.enrolment.as_ref().map(|e| &e.record.progress) {
            None | Some(Progress::Prepared) => State::Unenrolled { problem: None },
            Some(Progress::Pending { .. }) => State::Pending { problem: None },
            Some(Progress::Approved(_)) => State::Ready { problem: None },
            Some(Progress::Refused { sentence }) => State::Refused {
                sentence: sentence.clone(),
                next_opening: None,
                what: Refused::Enrolment,
            },
        }
    }

    fn show(&self) {
        let now = self.clock.now();
        let link = self.active.as_ref().and_then(Active::link);
        let view = View {
            state: self.state.state().clone(),
            service: self.state.service().cloned(),
            doubt: self.state.doubt(),
            notice: self.state.notice(),
            pc: self.enrolment.as_ref().map(pc),
            proxy: self.proxy,
            skew_s: self.clock.skew(now).map(time::Duration::whole_seconds),
            damage: self.damage.clone(),
            polls: self.polls,
            way: link.and_then(Link::way),
            ways: link.map(Link::ways).unwrap_or_default(),
            update: self.update.clone(),
        };
        self.view.send_if_modified(|shown| {
            let changed = *shown != view;
            if changed {
                *shown = view;
            }
            changed
        });
    }

    async fn shut_down(&mut self) {
        self.state.disconnect();
        self.leave_session();
        self.show();
        let finish = async {
            while let Some(outcome) = self.jobs.join_next().await {
                // A session that is granted while the agent ends is given back.
                if let Ok(outcome @ Outcome::Granted { .. }) = outcome {
                    self.handle_outcome(outcome);
                }
            }
        };
        if tokio::time::timeout(SHUT_DOWN_LIMIT, finish).await.is_err() {
            tracing::warn!("ended before everybody was told");
        }
    }
}

/// The end of the running link; never, if there is none.
async fn link_end(active: Option<&Active>) -> LinkEnd {
    match active.and_then(Active::link) {
        Some(link) => link.ended().await,
        None => std::future::pending().await,
    }
}

/// The next change of the running link's outlook; never, if there is none.
async fn link_outlook(active: Option<&Active>) -> Outlook {
    match active.and_then(|active| Some((active.link()?, active.outlook()))) {
        Some((link, known)) => link.outlook_changed(known).await,
        None => std::future::pending().await,
    }
}

fn pc(enrolment: &Enrolment) -> Pc {
    Pc {
        matching_code: enrolment.key.matching_code(),
        establishment: enrolment.record.establishment.to_string(),
        device_name: enrolment.record.device_name.clone(),
        approved: enrolment.enrolled().map(|enrolled| Approved {
            fund_name: enrolled.fund_name.clone(),
            establishment_name: enrolled.establishment_name.clone(),
            portal_url: enrolled.portal_url.clone(),
        }),
    }
}
