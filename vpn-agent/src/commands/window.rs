//! `open`: the agent with its window. Closing the window ends the session and the agent.

use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;

use super::{Claim, CommandError, Running, ask, claim_to_stay, say, system};
use crate::agent::{Agent, Command};
use crate::browser::{self, Window};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::{Client, Reply, Request};
use crate::os;
use crate::page::Page;
use crate::store::Store;
use crate::update::event_loop::{Due, waiting_since_before};
use crate::update::staging::{Place, Staged};
use crate::update::take_over;

/// A browser that ends sooner has handed over to a window that was left open by an agent
/// that is gone.
const SHORTEST_VISIT: Duration = Duration::from_secs(3);

/// How long a window may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

pub(super) async fn open(
    config: &Config,
    store: Store,
    no_browser: bool,
) -> Result<(), CommandError> {
    match claim_to_stay(&store).await? {
        Claim::Theirs(client) => open_through(&client, no_browser).await,
        Claim::Ours(instance) => {
            // At the start nothing is under way: the quietest moment for a version that waits.
            if let Some(staged) = waiting(config, &store).await {
                match take_over::start_successor(&place(config), &staged) {
                    Ok(()) => return Ok(()),
                    Err(error) => tracing::error!(%error, "the next version was not started"),
                }
            }
            let mut running = Running::start(config, store.clone(), instance)?;
            let result = open_here(&mut running, config, &store, no_browser).await;
            running.end().await;
            match result? {
                End::Closed => Ok(()),
                End::MakeWay(staged) => take_over::start_successor(&place(config), &staged)
                    .map_err(system("新しい版を始められませんでした")),
            }
        }
    }
}

/// Why the window's run ends.
enum End {
    /// The user, the system or another run wanted it.
    Closed,
    /// The next version takes over.
    MakeWay(Staged),
}

fn place(config: &Config) -> Place {
    Place::new(take_over::program(), &config.data_dir)
}

/// The next version, if one has been waiting since an earlier run.
async fn waiting(config: &Config, store: &Store) -> Option<Staged> {
    let key = config.update_key?;
    let clock = Clock::system(store.time_floor());
    waiting_since_before(&place(config), &key, &clock).await
}

async fn open_through(client: &Client, no_browser: bool) -> Result<(), CommandError> {
    os::pass_on_the_front();
    match ask(client, &Request::Open { no_browser }).await? {
        Reply::Window { url } => {
            if no_browser {
                say(&url);
            }
            Ok(())
        }
        Reply::Failed { sentence } => Err(CommandError::Told(sentence)),
        Reply::Status(_) => Err(CommandError::Told(
            "実行中の連携から正しい応答がありませんでした。".to_owned(),
        )),
    }
}

/// What the window is opened with, again and again.
struct Opener<'a> {
    config: &'a Config,
    store: &'a Store,
    agent: Agent,
    page: Arc<Page>,
}

impl Opener<'_> {
    fn open(&self) -> Result<Child, CommandError> {
        let told = |error: browser::BrowserError| CommandError::Told(error.page_text());
        let proxy = self.agent.view().proxy.ok_or_else(|| {
            CommandError::Told("このパソコンの中の中継がまだ始まっていません。".to_owned())
        })?;
        let profile = self.store.browser_dir();
        os::create_private_dir(&profile)
            .map_err(system("画面の設定を保存する場所を作れませんでした"))?;
        let window = Window {
            program: browser::find(self.config.browser.as_deref()).map_err(told)?,
            profile,
            proxy,
            url: self.page.url(),
            trusted_key: self.trusted_key()?,
            more_arguments: self.config.browser_args.clone(),
        };
        window.open().map_err(told)
    }

    fn trusted_key(&self) -> Result<Option<String>, CommandError> {
        let enrolment = self.store.find()?.into_current();
        Ok(enrolment
            .as_ref()
            .and_then(|enrolment| enrolment.enrolled())
            .and_then(|enrolled| enrolled.portal_key_sha256)
            .map(|hash| hash.to_string()))
    }
}

async fn open_here(
    running: &mut Running,
    config: &Config,
    store: &Store,
    no_browser: bool,
) -> Result<End, CommandError> {
    let page = running.serve_proxy(config).await?;
    running.agent.tell(Command::WatchService).await;
    // The window is told the proxy's address: it must be on the picture first.
    running
        .agent
        .wait_for(super::END_LIMIT, |view| view.proxy.is_some())
        .await;
    let opener = Opener {
        config,
        store,
        agent: running.agent.clone(),
        page,
    };
    let mut window = None;
    if no_browser {
        say(&opener.page.url());
        if let Some(proxy) = running.agent.view().proxy {
            say(&format!("proxy: {proxy}"));
        }
    } else {
        window = Some(opener.open()?);
    }
    let due = running.watch_updates(config);
    let result = attend(running, &opener, &mut window, due).await;
    if let Some(window) = window {
        close(window).await;
    }
    result
}

/// Lets the window end by itself, so that it can write down what it must.
async fn close(mut window: Child) {
    let asked = window.id().map(os::ask_to_end);
    if let Some(Ok(())) = asked
        && tokio::time::timeout(CLOSE_LIMIT, window.wait())
            .await
            .is_ok()
    {
        return;
    }
    if let Err(error) = window.kill().await {
        tracing::debug!(%error, "window was gone already");
    }
}

/// Waits for the window's end, for other runs that want it up, and for the signal to end.
async fn attend(
    running: &mut Running,
    opener: &Opener<'_>,
    window: &mut Option<Child>,
    mut due: Option<Due>,
) -> Result<End, CommandError> {
    let opened_at = running.agent.clock().now().mono;
    let mut unaware = opener.trusted_key()?.is_none();
    loop {
        tokio::select! {
            () = approved(&running.agent), if unaware && window.is_some() => {
                // A window learns whom to trust only when it is opened.
                unaware = false;
                if opener.trusted_key()?.is_some() && let Some(old) = window.take() {
                    close(old).await;
                    *window = Some(opener.open()?);
                }
            }
            status = closed(window) => {
                let status = status.map_err(system("ブラウザーの終了を確認できませんでした"))?;
                tracing::info!(%status, "window closed");
                let visit = running.agent.clock().now().mono.saturating_duration_since(opened_at);
                if visit < SHORTEST_VISIT {
                    return Err(CommandError::Told(
                        "画面を開けませんでした。以前に開いた連携の画面が残っている場合は、閉じてからもう一度お試しください。".to_owned(),
                    ));
                }
                return Ok(End::Closed);
            }
            Some((no_browser, reply)) = running.windows.recv() => {
                let url = opener.page.url();
                let shown = no_browser || bring_up(opener, window);
                // The asker may have gone.
                let _ = reply.send(shown.then_some(url));
            }
            staged = next_version(&mut due) => {
                // The user may have pressed 接続 in this very moment.
                if running.agent.view().state.may_connect() {
                    return Ok(End::MakeWay(staged));
                }
            }
            () = ended(&running.agent) => return Ok(End::Closed),
            signal = os::shutdown_signal() => {
                signal.map_err(system("終了の合図を待てませんでした"))?;
                return Ok(End::Closed);
            }
        }
    }
}

/// Waits for a version that may take over; for ever, where none is looked for.
async fn next_version(due: &mut Option<Due>) -> Staged {
    if let Some(due) = due {
        while due.changed().await.is_ok() {
            if let Some(staged) = due.borrow_and_update().clone() {
                return staged;
            }
        }
    }
    std::future::pending().await
}

/// Waits until another run has ended the agent.
async fn ended(agent: &Agent) {
    let mut agent = agent.clone();
    while agent.changed().await {}
}

/// Waits until this PC is approved.
async fn approved(agent: &Agent) {
    let mut agent = agent.clone();
    while agent.view().pc.is_none_or(|pc| pc.approved.is_none()) {
        if !agent.changed().await {
            std::future::pending::<()>().await;
        }
    }
}

/// Opens the window, or another one of the same browser, which then hands over and ends.
fn bring_up(opener: &Opener<'_>, window: &mut Option<Child>) -> bool {
    match opener.open() {
        Ok(child) if window.is_none() => {
            *window = Some(child);
            true
        }
        Ok(mut child) => {
            tokio::spawn(async move { child.wait().await });
            true
        }
        Err(error) => {
            tracing::warn!(%error, "no window");
            false
        }
    }
}

/// Waits until the window is closed; for ever, if there is none.
async fn closed(window: &mut Option<Child>) -> std::io::Result<std::process::ExitStatus> {
    match window {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}
