//! Edge and Chrome as the registry knows them, and the policies that would lead their windows
//! past the agent.

use std::path::PathBuf;

use windows_calls::registry::{self, Root};

use crate::os::Browser;

/// Where installed programs say where they are.
const APP_PATHS: &str = r"SOFTWARE\Microsoft\Windows\CurrentVersion\App Paths";

/// Program and policies of the browsers that can be used, best first.
const KNOWN: [(&str, &str); 2] = [
    ("msedge.exe", r"SOFTWARE\Policies\Microsoft\Edge"),
    ("chrome.exe", r"SOFTWARE\Policies\Google\Chrome"),
];

/// Policies that decide over the proxy; each overrules the command line.
const PROXY_POLICIES: [&str; 4] = ["ProxySettings", "ProxyMode", "ProxyServer", "ProxyPacUrl"];

/// The same as a number, in old templates.
const OLD_PROXY_POLICY: &str = "ProxyServerMode";

/// The browsers of the Chromium family that this PC has, best first.
pub fn browsers() -> Vec<Browser> {
    KNOWN
        .into_iter()
        .filter_map(|(program, policies)| {
            let key = format!(r"{APP_PATHS}\{program}");
            let found = Root::ALL
                .into_iter()
                .filter_map(|root| registry::text(root, &key, ""))
                .map(|path| PathBuf::from(path.trim().trim_matches('"')))
                .find(|path| path.is_file())?;
            Some(Browser {
                program: found,
                proxy_policy: proxy_policy(policies),
            })
        })
        .collect()
}

/// The name of the policy that sets another proxy, if one does.
fn proxy_policy(policies: &str) -> Option<String> {
    // Policies are not kept apart for 32-bit programs.
    [Root::LocalMachine64, Root::CurrentUser]
        .into_iter()
        .find_map(|root| {
            let text = PROXY_POLICIES.into_iter().find(|name| {
                registry::text(root, policies, name).is_some_and(|value| !value.trim().is_empty())
            });
            text.or_else(|| {
                registry::number(root, policies, OLD_PROXY_POLICY).map(|_| OLD_PROXY_POLICY)
            })
        })
        .map(|name| format!(r"{policies}\{name}"))
}
