//! `open`: the agent with its windows. Closing a profile's window ends its session; closing
//! the last one ends the agent.

use std::path::PathBuf;

use super::windows::{Became, Windows};
use super::{Claim, CommandError, Running, ask, claim_to_stay, say, senseless, system};
use crate::agent::Command;
use crate::config::Config;
use crate::control::{Client, Reply, Request};
use crate::desk::{Choice, WindowRequest};
use crate::os;
use crate::store::Store;
use crate::store::profiles::ProfileId;

pub(super) async fn open(
    config: &Config,
    store: Store,
    choice: Option<Choice>,
    no_browser: bool,
    file: Option<PathBuf>,
) -> Result<(), CommandError> {
    // The running agent has another current folder.
    let file = file
        .map(std::path::absolute)
        .transpose()
        .map_err(system("ファイルの場所を確認できませんでした"))?;
    match claim_to_stay(&store).await? {
        Claim::Theirs(client) => open_through(&client, choice, no_browser, file).await,
        Claim::Ours(instance) => {
            let mut running = Running::start(config, store, instance)?;
            let result = open_here(&mut running, config, choice, no_browser, file).await;
            running.end().await;
            result
        }
    }
}

async fn open_through(
    client: &Client,
    profile: Option<Choice>,
    no_browser: bool,
    file: Option<PathBuf>,
) -> Result<(), CommandError> {
    let request = Request::Open {
        profile,
        no_browser,
        file,
    };
    os::pass_on_the_front();
    match ask(client, &request).await? {
        Reply::Window { url } => {
            if no_browser {
                say(&url);
            }
            Ok(())
        }
        Reply::Failed { sentence } => Err(CommandError::Told(sentence)),
        Reply::Status(_) | Reply::Profiles { .. } => Err(senseless()),
    }
}

async fn open_here(
    running: &mut Running,
    config: &Config,
    choice: Option<Choice>,
    no_browser: bool,
    file: Option<PathBuf>,
) -> Result<(), CommandError> {
    let (profile, landing) = running.desk.landing_with(choice, file.as_deref()).await?;
    let served = running.desk.serve(profile).await?;
    watch_service(running, profile).await;
    let mut windows = Windows::new(config, running.desk.clone());
    let opened = if no_browser {
        say(&served.url(landing));
        say(&format!("proxy: {}", served.proxy));
        Ok(())
    } else {
        windows.bring_up(profile, landing).await
    };
    let result = match opened {
        Ok(()) => attend(running, &mut windows).await,
        Err(error) => Err(error),
    };
    windows.close_all().await;
    result
}

/// While somebody may look at it, a profile knows whether its fund is open.
async fn watch_service(running: &Running, profile: ProfileId) {
    if let Some(agent) = running.desk.agent(profile) {
        agent.tell(Command::WatchService).await;
    }
}

/// Waits for the windows' ends, for wishes to bring one up, and for the signal to end.
async fn attend(running: &mut Running, windows: &mut Windows<'_>) -> Result<(), CommandError> {
    let mut changes = running.desk.changes();
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                windows.open_the_unaware_anew().await?;
            }
            end = windows.next_end() => match windows.handle_end(end).await {
                Became::Nothing => {}
                Became::Closed(profile) => {
                    if windows.is_empty() {
                        return Ok(());
                    }
                    leave(running, profile).await;
                }
                Became::Lost(profile, sentence) => {
                    if windows.is_empty() {
                        return Err(CommandError::Told(sentence));
                    }
                    tracing::warn!(%profile, sentence, "a window is lost");
                    leave(running, profile).await;
                }
            },
            Some(request) = running.windows.recv() => bring_up(running, windows, request).await,
            signal = os::shutdown_signal() => {
                return signal.map_err(system("終了の合図を待てませんでした"));
            }
        }
    }
}

/// The window of one profile is closed, and others are not.
async fn leave(running: &Running, profile: ProfileId) {
    if let Some(agent) = running.desk.agent(profile) {
        agent.tell(Command::Disconnect).await;
    }
}

async fn bring_up(running: &Running, windows: &mut Windows<'_>, request: WindowRequest) {
    let WindowRequest {
        profile,
        landing,
        no_browser,
        reply,
    } = request;
    watch_service(running, profile).await;
    let shown = async {
        let served = running.desk.serve(profile).await?;
        if !no_browser {
            windows.bring_up(profile, landing).await?;
        }
        Ok::<_, CommandError>(served.url(landing))
    };
    let shown = shown.await.map_err(|error| error.to_string());
    // The asker may have gone.
    let _ = reply.send(shown);
}
