//! `open`: the agent with its windows. Closing a profile's window ends its session; closing
//! the last one ends the agent.

use std::path::PathBuf;

use tokio::sync::mpsc;

use super::windows::{Became, Windows};
use super::{Claim, CommandError, Running, ask, claim_to_stay, say, senseless, system};
use crate::agent::Command;
use crate::clock::Clock;
use crate::config::Config;
use crate::control::{Client, Reply, Request};
use crate::desk::{Choice, WindowRequest};
use crate::os;
use crate::store::Store;
use crate::store::profiles::ProfileId;
use crate::update::event_loop::{Due, waiting_since_before};
use crate::update::staging::{Place, Staged};
use crate::update::{self, take_over};

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
            // A guard that does not start is no reason not to work.
            match take_over::start_again_watched(&place(config), take_over::is_watched()) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "nobody watches this start"),
            }
            // At the start nothing is under way: the quietest moment for a version that waits.
            if let Some(staged) = waiting(config, &store).await {
                let place = place(config);
                let started = place.keep_old();
                match started.and_then(|()| take_over::start_successor(&place, &staged)) {
                    Ok(()) => return Ok(()),
                    Err(error) => tracing::error!(%error, "the next version was not started"),
                }
            }
            let (running, wishes) = Running::start_with_windows(config, store, instance)?;
            running.end_on_signal()?;
            let result = open_here(&running, wishes, config, choice, no_browser, file).await;
            running.end().await;
            match result? {
                End::Closed => Ok(()),
                End::MakeWay(staged) => take_over::start_successor(&place(config), &staged)
                    .map_err(system("新しい版を始められませんでした")),
            }
        }
    }
}

/// Why the windows' run ends.
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
    running: &Running,
    mut wishes: mpsc::Receiver<WindowRequest>,
    config: &Config,
    choice: Option<Choice>,
    no_browser: bool,
    file: Option<PathBuf>,
) -> Result<End, CommandError> {
    let (profile, landing) = running.desk.landing_with(choice, file.as_deref()).await?;
    let served = running.desk.serve(profile).await?;
    let place = place(config);
    came_up(&place);
    watch_service(running, profile).await;
    let updates = running.watch_updates(config);
    let mut windows = Windows::new(config, running.desk.clone());
    let opened = if no_browser {
        say(&served.url(landing));
        say(&format!("proxy: {}", served.proxy));
        Ok(())
    } else {
        windows.bring_up(profile, landing).await
    };
    let result = match opened {
        Ok(()) => attend(running, &mut wishes, &mut windows, &place, updates).await,
        Err(error) => Err(error),
    };
    // Who asks for a window from now on is told that there is none.
    drop(wishes);
    windows.close_all().await;
    result
}

/// The profiles and their pages are there: this version works.
fn came_up(place: &Place) {
    let noted = place.note_came_up(update::running_version());
    if let Err(error) = noted {
        tracing::warn!(%error, "not noted that this version came up");
    }
    os::note_version(place.program(), update::running_version_text());
}

/// While somebody may look at it, a profile knows whether its fund is open.
async fn watch_service(running: &Running, profile: ProfileId) {
    if let Some(agent) = running.desk.agent(profile) {
        agent.tell(Command::WatchService).await;
    }
}

/// Waits for the windows' ends, for wishes to bring one up, and for the signal to end.
async fn attend(
    running: &Running,
    wishes: &mut mpsc::Receiver<WindowRequest>,
    windows: &mut Windows<'_>,
    place: &Place,
    mut updates: Option<Due>,
) -> Result<End, CommandError> {
    let mut changes = running.desk.changes();
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return Ok(End::Closed);
                }
                windows.open_the_unaware_anew().await?;
            }
            end = windows.next_end() => match windows.handle_end(end).await {
                Became::Nothing => {}
                Became::Closed(profile) => {
                    if windows.is_empty() {
                        return Ok(End::Closed);
                    }
                    leave(running, profile).await;
                }
                Became::Lost(profile, sentence) => {
                    if windows.is_empty() {
                        return Err(CommandError::Told(sentence));
                    }
                    tracing::warn!(%profile, "a window is lost");
                    leave(running, profile).await;
                }
            },
            Some(request) = wishes.recv() => bring_up(running, windows, request).await,
            staged = next_version(&mut updates) => {
                // The user may have pressed 接続 in this very moment.
                if !running.desk.is_busy() {
                    match place.keep_old() {
                        Ok(()) => return Ok(End::MakeWay(staged)),
                        // A full disk, say. At the next start it is tried again.
                        Err(error) => tracing::error!(%error, "no copy of this version"),
                    }
                }
            }
            () = running.desk.end_wanted() => return Ok(End::Closed),
        }
    }
}

/// Waits for a version that may take over; for ever, where none is looked for.
async fn next_version(updates: &mut Option<Due>) -> Staged {
    if let Some(due) = updates {
        while due.changed().await.is_ok() {
            if let Some(staged) = due.borrow_and_update().clone() {
                return staged;
            }
        }
    }
    std::future::pending().await
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
