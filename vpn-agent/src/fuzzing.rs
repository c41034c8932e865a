//! What the fuzzer does to the agent's own readers, one function for each target.
//!
//! Only compiled for tests and under the feature `fuzzing`. Each function takes any bytes,
//! must not panic, and states what holds whatever they are.

use std::path::PathBuf;

use crate::config::Config;
use crate::urls::{GatewayUrl, PortalUrl};

pub use crate::control::fuzzing::control_lines;
pub use crate::page::fuzzing::page_form;
pub use crate::proxy::fuzzing::proxy_requests;

/// The settings file, and the same text as variables of the environment.
pub fn agent_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(table) = toml::from_str(text) {
        let environment = |name: &str| (name == "RENKEI_DATA_DIR").then(|| "/d".to_owned());
        if let Ok(config) = Config::from_table(table, environment) {
            assert_eq!(config.data_dir, PathBuf::from("/d"), "the environment wins");
        }
    }
    let given = |name: &str| (name != "RENKEI_DATA_DIR").then(|| text.to_owned());
    let _ = Config::from_table(toml::Table::new(), given);
}

/// Addresses that are typed or come from the gateway.
pub fn urls(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(url) = text.parse::<GatewayUrl>() {
        assert_eq!(url.to_string().parse(), Ok(url.clone()));
        assert!(!url.authority().0.is_empty());
    }
    if let Ok(url) = text.parse::<PortalUrl>() {
        let (host, port) = url.authority();
        assert!(!host.is_empty() && url.is_at(host, port));
        // It becomes part of a header of the agent's page.
        assert!(!url.origin().contains([' ', ';', ',', '\'', '"', '\n']));
    }
}

#[cfg(test)]
mod tests {
    use replay::replay;

    #[test]
    fn the_corpus_of_settings_breaks_nothing() {
        replay("agent_config", super::agent_config);
    }

    #[test]
    fn the_corpus_of_urls_breaks_nothing() {
        replay("urls", super::urls);
    }

    #[test]
    fn the_corpus_of_proxy_requests_breaks_nothing() {
        replay("proxy_requests", super::proxy_requests);
    }

    #[test]
    fn the_corpus_of_control_lines_breaks_nothing() {
        replay("control_lines", super::control_lines);
    }

    #[test]
    fn the_corpus_of_forms_breaks_nothing() {
        replay("page_form", super::page_form);
    }
}
