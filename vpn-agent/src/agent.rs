//! The running agent as the page, the proxy and the control channel see it.
//!
//! A handle: it passes wishes on to [`crate::event_loop`] and shows what came of them. It
//! decides nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Config;
use crate::dial::Dialer;
use crate::enrolment::{self, Application, EnrolError};
use crate::event_loop::{EventLoop, Settings};
use crate::gateway_client::trust::Roots;
use crate::link::Link;
use crate::link::pulse::Rates;
use crate::os::{self, Lookout, Notifier, SystemLookout};
use crate::proxy::Traffic;
use crate::status::{StatusReport, View};
use crate::store::Store;
use crate::update::Note;
use crate::urls::{GatewayUrl, PortalUrl};

/// Wishes that may wait for the event loop; more make the asker wait.
const MAX_WAITING_COMMANDS: usize = 16;

/// What the event loop can be asked for.
#[derive(Debug)]
pub enum Command {
    /// Ask the fund to register this PC. The answer is the sentence why not.
    Enrol(Application, oneshot::Sender<Result<(), String>>),
    /// Ask for a session.
    Connect,
    /// End the session.
    Disconnect,
    /// Erase everything of this profile. The answer is the sentence why not.
    Remove(oneshot::Sender<Result<(), String>>),
    /// Take the warning off the page.
    DismissNotice,
    /// Take note of where the proxy listens.
    ProxyListens(SocketAddr),
    /// Somebody looks at the page.
    Look,
    /// The window is there: keep a warm connection and the service's state at hand.
    WatchService,
    /// Tell the user where the agent's own update stands.
    ShowUpdate(Option<Note>),
    /// End everything.
    ShutDown,
}

/// The way to the portal while a session lasts.
#[derive(Debug, Clone)]
pub struct Route {
    /// The tunnel.
    pub link: Link,
    /// The one place it leads to.
    pub portal: PortalUrl,
    /// Whose certificate to believe there.
    pub roots: Roots,
}

/// How the agent touches what lies around it.
#[derive(Debug, Clone)]
pub struct Senses {
    /// How often a tunnel is asked for a sign of life.
    pub pulse: Rates,
    /// What says something beside the window.
    pub notifier: Arc<dyn Notifier>,
    /// What sees the network.
    pub lookout: Arc<dyn Lookout>,
}

impl Default for Senses {
    fn default() -> Self {
        Self {
            pulse: Rates::default(),
            notifier: os::notifier(),
            lookout: Arc::new(SystemLookout),
        }
    }
}

/// The running agent.
#[derive(Debug, Clone)]
pub struct Agent {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
    route: watch::Receiver<Option<Route>>,
    clock: Arc<Clock>,
    config: Arc<Config>,
    store: Store,
    traffic: Arc<Traffic>,
}

impl Agent {
    /// Starts the event loop. The caller holds the instance lock of `store`.
    pub fn start(config: &Config, store: Store) -> Result<(Self, JoinHandle<()>), EnrolError> {
        let clock = Arc::new(Clock::system(store.time_floor()));
        Self::start_with(config, store, clock, Senses::default())
    }

    /// Starts the event loop with a clock that may be wrong and other senses.
    pub fn start_with(
        config: &Config,
        store: Store,
        clock: Arc<Clock>,
        senses: Senses,
    ) -> Result<(Self, JoinHandle<()>), EnrolError> {
        let roots = enrolment::roots(config.gateway_ca_file.as_deref())?;
        let (command_sender, commands) = mpsc::channel(MAX_WAITING_COMMANDS);
        let (route_sender, route) = watch::channel(None);
        let event_loop = EventLoop::new(Settings {
            store: store.clone(),
            roots,
            clock: clock.clone(),
            dialer: Dialer::new(config.proxy.clone()),
            commands,
            route: route_sender,
            senses,
        })?;
        let agent = Self {
            commands: command_sender,
            view: event_loop.view(),
            route,
            clock,
            config: Arc::new(config.clone()),
            store,
            traffic: Arc::default(),
        };
        Ok((agent, tokio::spawn(event_loop.run())))
    }

    /// Tells that somebody looks at the picture now: it must be fresh.
    pub fn look(&self) {
        // An agent that has no time for it is busy with the picture already.
        let _ = self.commands.try_send(Command::Look);
    }

    /// Waits until the picture is another one than `known`, at most `timeout`.
    pub async fn wait_for_change(&self, known: impl Fn(&View) -> bool, timeout: Duration) {
        self.wait_for(timeout, |view| !known(view)).await;
    }

    /// Passes a wish on. False if the agent is ending.
    pub async fn tell(&self, command: Command) -> bool {
        self.commands.send(command).await.is_ok()
    }

    /// Asks the fund to register this PC; waits until the request is there.
    ///
    /// # Errors
    /// The sentence for the user.
    pub async fn enrol(&self, application: Application) -> Result<(), String> {
        let (sender, receiver) = oneshot::channel();
        self.tell(Command::Enrol(application, sender)).await;
        receiver
            .await
            .unwrap_or_else(|_| Err("終了処理中のため、登録を申請できませんでした。".to_owned()))
    }

    /// Erases everything of this profile, its key first of all; not while it has a session.
    ///
    /// # Errors
    /// The sentence for the user.
    pub async fn remove(&self) -> Result<(), String> {
        let (sender, receiver) = oneshot::channel();
        self.tell(Command::Remove(sender)).await;
        receiver
            .await
            .unwrap_or_else(|_| Err("終了処理中のため、削除できませんでした。".to_owned()))
    }

    /// The picture of this moment.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// The picture of this moment in the words of the contract.
    pub fn report(&self) -> StatusReport {
        let now = self.clock.now();
        self.view.borrow().report(now)
    }

    /// The agent's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The same, to be kept.
    pub fn shared_clock(&self) -> Arc<Clock> {
        self.clock.clone()
    }

    /// What has passed the proxy.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Waits until the picture is as wished, at most `timeout`. False if it did not become so.
    pub async fn wait_for(&self, timeout: Duration, wish: impl Fn(&View) -> bool) -> bool {
        let mut view = self.view.clone();
        tokio::time::timeout(timeout, view.wait_for(|view| wish(view)))
            .await
            .is_ok_and(|found| found.is_ok())
    }

    /// Waits until the picture changes. False if the agent has ended.
    pub async fn changed(&mut self) -> bool {
        self.view.changed().await.is_ok()
    }

    /// The way to the portal, if there is one now.
    pub fn route(&self) -> Option<Route> {
        self.route.borrow().clone()
    }

    /// The way to the portal; while a session is without one, waits for it, at most `patience`.
    pub async fn route_soon(&self, patience: Duration) -> Option<Route> {
        let (mut route, mut view) = (self.route.clone(), self.view.clone());
        let coming = async {
            tokio::select! {
                found = route.wait_for(Option::is_some) => found.ok().and_then(|found| found.clone()),
                // An error is the agent's end.
                _ = view.wait_for(|view| view.state.session().is_none()) => None,
            }
        };
        tokio::time::timeout(patience, coming).await.ok().flatten()
    }

    /// The gateway that the enrolment form suggests.
    pub fn suggested_gateway(&self) -> Option<&GatewayUrl> {
        self.config.gateway_url.as_ref()
    }

    /// The settings of this run.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is kept on disk. Only to be looked at: the event loop writes.
    pub fn store(&self) -> &Store {
        &self.store
    }
}
