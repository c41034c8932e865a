//! The windows that are open: one browser for each profile.
//!
//! A browser that ends by itself was closed; one that breaks down is opened again a few times,
//! while the session goes on. What follows from a closed window is for [`super::window`].

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::CommandError;
use crate::browser::{self, BrowserError, Window};
use crate::clock::Clock;
use crate::config::Config;
use crate::desk::{Desk, Landing};
use crate::os;
use crate::store::profiles::ProfileId;

/// A browser that ends sooner has handed over to a window that was left open by an agent
/// that is gone.
const SHORTEST_VISIT: Duration = Duration::from_secs(3);

/// How long a window may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// How often a window whose browser breaks down is opened again.
const REOPENINGS: u32 = 3;

/// A browser that held for this long may break down as often again.
const STEADY: Duration = Duration::from_secs(10 * 60);

/// Pause before a window is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// Ends of browsers that wait to be looked at.
const MAX_ENDS: usize = 16;

/// The windows of this run.
pub(super) struct Windows<'a> {
    config: &'a Config,
    desk: Desk,
    clock: Clock,
    open: BTreeMap<ProfileId, Open>,
    /// Counts the browsers that were started; the end of an earlier one is stale.
    serial: u64,
    ends: (mpsc::Sender<End>, mpsc::Receiver<End>),
}

struct Open {
    serial: u64,
    process_id: Option<u32>,
    close: oneshot::Sender<()>,
    attendant: JoinHandle<()>,
    opened_at: Instant,
    breakdowns: u32,
    /// Whether it was opened with the key that the fund's pages show.
    is_aware: bool,
}

/// How a browser ended.
pub(super) struct End {
    profile: ProfileId,
    serial: u64,
    status: std::io::Result<ExitStatus>,
}

/// What became of a window.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Became {
    /// The user closed it.
    Closed(ProfileId),
    /// Its browser broke down and was opened again, or was not ours any more.
    Nothing,
    /// It cannot be kept open. The sentence says why.
    Lost(ProfileId, String),
}

impl<'a> Windows<'a> {
    pub(super) fn new(config: &'a Config, desk: Desk) -> Self {
        Self {
            config,
            desk,
            clock: Clock::system(None),
            open: BTreeMap::new(),
            serial: 0,
            ends: mpsc::channel(MAX_ENDS),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Opens the window of a profile, or brings it up.
    pub(super) async fn bring_up(
        &mut self,
        profile: ProfileId,
        landing: Landing,
    ) -> Result<(), CommandError> {
        let Some(open) = self.open.get(&profile) else {
            return self.start(profile, landing, 0).await;
        };
        // The list is a page that may not be on show.
        if landing == Landing::Profile && open.process_id.is_some_and(os::bring_forward) {
            return Ok(());
        }
        // Another one of the same browser hands over to it and ends.
        let (mut child, _) = self.spawn(profile, landing).await?;
        tokio::spawn(async move { child.wait().await });
        Ok(())
    }

    async fn start(
        &mut self,
        profile: ProfileId,
        landing: Landing,
        breakdowns: u32,
    ) -> Result<(), CommandError> {
        let (child, is_aware) = self.spawn(profile, landing).await?;
        self.watch(profile, child, is_aware, breakdowns);
        Ok(())
    }

    /// Gives a browser that was started an attendant, who waits for its end or closes it.
    fn watch(&mut self, profile: ProfileId, mut child: Child, is_aware: bool, breakdowns: u32) {
        self.serial += 1;
        let (serial, ends) = (self.serial, self.ends.0.clone());
        let (close, mut asked) = oneshot::channel();
        let process_id = child.id();
        let attendant = tokio::spawn(async move {
            let status = tokio::select! {
                status = child.wait() => status,
                _ = &mut asked => return close_browser(child).await,
            };
            let end = End {
                profile,
                serial,
                status,
            };
            // Where many browsers end at once this waits for room, and who closes the windows
            // meanwhile makes none.
            tokio::select! {
                // Nobody listens while this run ends.
                _ = ends.send(end) => {}
                _ = asked => {}
            }
        });
        let open = Open {
            serial,
            process_id,
            close,
            attendant,
            opened_at: self.clock.now().mono,
            breakdowns,
            is_aware,
        };
        self.open.insert(profile, open);
    }

    async fn spawn(
        &self,
        profile: ProfileId,
        landing: Landing,
    ) -> Result<(Child, bool), CommandError> {
        let told = |error: BrowserError| CommandError::Told(error.page_text());
        let served = self.desk.serve(profile).await?;
        let store = self.desk.store(profile)?;
        let store = store.ok_or_else(|| CommandError::Told("登録先がありません。".to_owned()))?;
        let folder = store.browser_dir();
        os::create_private_dir(&folder)
            .map_err(super::system("画面の設定を保存する場所を作れませんでした"))?;
        let trusted_key = self.trusted_key(profile)?;
        let is_aware = trusted_key.is_some();
        let window = Window {
            program: browser::find(self.config.browser.as_deref()).map_err(told)?,
            profile: folder,
            proxy: served.proxy,
            url: served.url(landing),
            trusted_key,
            more_arguments: self.config.browser_args.clone(),
        };
        Ok((window.open().map_err(told)?, is_aware))
    }

    /// The key that the fund's pages show, once this PC is approved.
    fn trusted_key(&self, profile: ProfileId) -> Result<Option<String>, CommandError> {
        let Some(store) = self.desk.store(profile)? else {
            return Ok(None);
        };
        let enrolment = store.find()?.into_current();
        let enrolled = enrolment.as_ref().and_then(|found| found.enrolled());
        let key = enrolled.and_then(|enrolled| enrolled.portal_key_sha256);
        Ok(key.map(|hash| hash.to_string()))
    }

    /// A window learns whom to trust only when it is opened: opens those anew whose PC was
    /// approved meanwhile.
    pub(super) async fn open_the_unaware_anew(&mut self) -> Result<(), CommandError> {
        let unaware = self.open.iter().filter(|(_, open)| !open.is_aware);
        let unaware: Vec<ProfileId> = unaware.map(|(profile, _)| *profile).collect();
        for profile in unaware {
            let agent = self.desk.agent(profile);
            let is_approved = agent.is_some_and(|agent| {
                let pc = agent.view().pc;
                pc.is_some_and(|pc| pc.approved.is_some())
            });
            if !is_approved {
                continue;
            }
            if let Some(open) = self.open.get_mut(&profile) {
                // A portal with a public certificate has no such key; once is enough.
                open.is_aware = true;
            }
            if self.trusted_key(profile)?.is_some() {
                self.close(profile).await;
                self.start(profile, Landing::Profile, 0).await?;
            }
        }
        Ok(())
    }

    /// Waits until a browser ends; never returns while there is none. Nothing is lost if the
    /// wait is given up.
    pub(super) async fn next_end(&mut self) -> End {
        match self.ends.1.recv().await {
            Some(end) => end,
            // The other end of the channel lies beside this one.
            None => std::future::pending().await,
        }
    }

    /// Judges the end of a browser, and opens it again if it broke down.
    pub(super) async fn handle_end(&mut self, end: End) -> Became {
        let current = self.open.get(&end.profile);
        if current.is_none_or(|open| open.serial != end.serial) {
            return Became::Nothing;
        }
        let Some(open) = self.open.remove(&end.profile) else {
            return Became::Nothing;
        };
        let visit = self
            .clock
            .now()
            .mono
            .saturating_duration_since(open.opened_at);
        let well = match &end.status {
            Ok(status) => status.success(),
            Err(error) => {
                tracing::warn!(%error, "cannot tell how the browser ended");
                true
            }
        };
        tracing::info!(status = ?end.status, "window closed");
        if well && visit >= SHORTEST_VISIT {
            return Became::Closed(end.profile);
        }
        if well {
            let sentence = "画面を開けませんでした。以前に開いた連携の画面が残っている場合は、閉じてからもう一度お試しください。";
            return Became::Lost(end.profile, sentence.to_owned());
        }
        let breakdowns = if visit < STEADY { open.breakdowns } else { 0 };
        if breakdowns >= REOPENINGS {
            let sentence = "画面のブラウザーが続けて異常終了したため、開き直すのをやめました。パソコンを再起動してから、もう一度お試しください。続くときは、ブラウザーの更新または再インストールをご検討ください。";
            return Became::Lost(end.profile, sentence.to_owned());
        }
        tokio::time::sleep(REOPEN_PAUSE).await;
        match self
            .start(end.profile, Landing::Profile, breakdowns + 1)
            .await
        {
            Ok(()) => Became::Nothing,
            Err(error) => Became::Lost(end.profile, error.to_string()),
        }
    }

    async fn close(&mut self, profile: ProfileId) {
        if let Some(open) = self.open.remove(&profile) {
            // One that has ended by itself hears nothing any more.
            let _ = open.close.send(());
            let _ = open.attendant.await;
        }
    }

    /// Closes all windows.
    pub(super) async fn close_all(mut self) {
        for profile in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(profile).await;
        }
    }
}

/// Lets the window end by itself, so that it can write down what it must.
async fn close_browser(mut window: Child) {
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::dial::settings::ProxySettings;
    use crate::store::Store;

    /// How long a test may take before it counts as standing still.
    const LIMIT: Duration = Duration::from_secs(20);

    /// So many browsers that not all of their ends find room.
    const BROWSERS: usize = MAX_ENDS + 2;

    #[tokio::test]
    async fn windows_whose_browsers_all_ended_at_once_are_closed() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            update_key: None,
            data_dir: folder.path().join("data"),
            gateway_url: None,
            gateway_ca_file: None,
            browser: None,
            browser_args: Vec::new(),
            proxy_port: 0,
            proxy: ProxySettings::None,
        };
        let store = Store::open(&config.data_dir).unwrap();
        let desk = Desk::start(&config, store, mpsc::channel(1).0).unwrap();
        let mut windows = Windows::new(&config, desk.clone());
        for profile in (1..).take(BROWSERS) {
            let child = tokio::process::Command::new("true").spawn().unwrap();
            windows.watch(profile.try_into().unwrap(), child, true, 0);
        }
        // An attendant that has seen its browser end leaves no trace of it in the system.
        let has_ended = |open: &Open| {
            let process = open.process_id.unwrap().to_string();
            !Path::new("/proc").join(process).exists()
        };
        let all_ended = async {
            while !windows.open.values().all(has_ended) || windows.ends.1.len() < MAX_ENDS {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            windows.close_all().await;
        };
        let closed = tokio::time::timeout(LIMIT, all_ended).await;
        assert!(closed.is_ok(), "somebody waits for room");
        desk.end().await;
    }
}
