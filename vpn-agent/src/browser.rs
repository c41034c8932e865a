//! The agent's own window: a browser with a profile of its own that knows no other way out
//! than the loopback proxy.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::process::{Child, Command};

use crate::os;

/// What a window is opened with.
#[derive(Debug, Clone)]
pub struct Window {
    /// The browser.
    pub program: PathBuf,
    /// Its own profile.
    pub profile: PathBuf,
    /// The loopback proxy.
    pub proxy: SocketAddr,
    /// The page to open, with the launch token.
    pub url: String,
    /// SHA-256 of the service authority's key, if the portal's certificate comes from it.
    pub trusted_key: Option<String>,
    /// From the settings.
    pub more_arguments: Vec<String>,
}

/// Why no window came up.
#[derive(Debug, thiserror::Error)]
pub enum BrowserError {
    /// Nothing to open a window with.
    #[error("no browser of the Chromium family was found")]
    NotFound,
    /// It is there but does not start.
    #[error("cannot start {}: {source}", program.display())]
    CannotStart {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl BrowserError {
    /// What the user is told.
    pub fn page_text(&self) -> String {
        match self {
            Self::NotFound => {
                "Microsoft Edge または Google Chrome が見つかりませんでした。インストールするか、設定の browser に場所を指定してください。".to_owned()
            }
            Self::CannotStart { program, .. } => format!(
                "ブラウザー（{}）を起動できませんでした。設定の browser をご確認ください。",
                program.display()
            ),
        }
    }
}

/// The browser of the settings, or one that the system has.
pub fn find(configured: Option<&Path>) -> Result<PathBuf, BrowserError> {
    match configured {
        Some(path) => Ok(path.to_owned()),
        None => os::find_browser().ok_or(BrowserError::NotFound),
    }
}

impl Window {
    /// The command line of the browser.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            format!("--app={}", self.url).into(),
            format!("--proxy-server=http://{}", self.proxy).into(),
            // Nothing goes around the proxy, loopback addresses neither.
            "--proxy-bypass-list=<-loopback>".into(),
        ];
        let mut profile = OsString::from("--user-data-dir=");
        profile.push(&self.profile);
        arguments.push(profile);
        arguments.extend(
            [
                "--no-first-run",
                "--no-default-browser-check",
                "--disable-background-networking",
                "--disable-sync",
                "--disable-component-update",
                "--disable-default-apps",
                "--disable-quic",
                "--hide-crash-restore-bubble",
                "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable,Translate,OptimizationHints,MediaRouter",
            ]
            .map(OsString::from),
        );
        if let Some(key) = &self.trusted_key {
            arguments.push(format!("--ignore-certificate-errors-spki-list={key}").into());
            // Without it the browser warns of the argument above on every page.
            arguments.push("--test-type".into());
        }
        arguments.extend(self.more_arguments.iter().map(OsString::from));
        arguments
    }

    /// Opens the window. When the process ends, the window was closed; a process that hands
    /// over to one that runs already ends at once.
    pub fn open(&self) -> Result<Child, BrowserError> {
        Command::new(&self.program)
            .args(self.arguments())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| BrowserError::CannotStart {
                program: self.program.clone(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_knows_only_the_proxy() {
        let window = Window {
            program: "chromium".into(),
            profile: "/data/browser".into(),
            proxy: ([127, 0, 0, 1], 4000).into(),
            url: "http://renkei-agent.invalid/?token=x".into(),
            trusted_key: Some("hash=".into()),
            more_arguments: vec!["--no-sandbox".into()],
        };
        let arguments = window.arguments();
        for expected in [
            "--app=http://renkei-agent.invalid/?token=x",
            "--proxy-server=http://127.0.0.1:4000",
            "--proxy-bypass-list=<-loopback>",
            "--user-data-dir=/data/browser",
            "--disable-quic",
            "--ignore-certificate-errors-spki-list=hash=",
            "--no-sandbox",
        ] {
            assert!(arguments.contains(&expected.into()), "{expected}");
        }
    }
}
