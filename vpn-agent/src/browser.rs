//! The agent's own window: a browser with a profile of its own that knows no other way out
//! than the loopback proxy.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::process::{Child, Command};

use crate::os::{self, Browser};

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
    /// A policy of the company sends every window elsewhere.
    #[error("{} is told by policy {policy} to use another proxy", program.display())]
    ProxyForced {
        /// Which browser.
        program: PathBuf,
        /// By which policy.
        policy: String,
    },
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
            Self::ProxyForced { program, policy } => format!(
                "会社の設定（グループポリシー）でブラウザー（{}）の通信先が決められているため、連携の画面を開けません。この文を情報システムのご担当者にお見せになり、ポリシー「{policy}」を連携の画面に適用しないようご相談ください。別のブラウザー（Microsoft Edge または Google Chrome）がインストールされていれば、それを使えることもあります。",
                program.display()
            ),
            Self::CannotStart { program, .. } => format!(
                "ブラウザー（{}）を起動できませんでした。設定の browser をご確認ください。",
                program.display()
            ),
        }
    }
}

/// The browser of the settings, or one that the system has.
///
/// # Errors
/// There is none, or only ones that a policy sends elsewhere.
pub fn find(configured: Option<&Path>) -> Result<PathBuf, BrowserError> {
    match configured {
        Some(path) => Ok(path.to_owned()),
        None => choose(os::browsers()),
    }
}

/// The first browser that goes where it is told.
fn choose(found: Vec<Browser>) -> Result<PathBuf, BrowserError> {
    let mut forced = None;
    for Browser {
        program,
        proxy_policy,
    } in found
    {
        match proxy_policy {
            None => return Ok(program),
            Some(policy) => {
                forced.get_or_insert(BrowserError::ProxyForced { program, policy });
            }
        }
    }
    Err(forced.unwrap_or(BrowserError::NotFound))
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

    fn browser(program: &str, policy: Option<&str>) -> Browser {
        Browser {
            program: program.into(),
            proxy_policy: policy.map(str::to_owned),
        }
    }

    #[test]
    fn the_first_browser_that_goes_where_it_is_told_is_taken() {
        let (edge, chrome) = (browser("edge", None), browser("chrome", None));
        let forced = browser("edge", Some(r"Policies\Edge\ProxyMode"));
        let first = choose(vec![edge, chrome.clone()]).unwrap();
        assert_eq!(first, Path::new("edge"));
        let other = choose(vec![forced.clone(), chrome]).unwrap();
        assert_eq!(other, Path::new("chrome"));
        let error = choose(vec![forced]).unwrap_err();
        assert!(error.page_text().contains(r"Policies\Edge\ProxyMode"));
        assert!(matches!(choose(Vec::new()), Err(BrowserError::NotFound)));
    }

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
