//! What the fuzzer does to the gateway's own readers, one function for each target.
//!
//! Only compiled for tests and under the feature `fuzzing`. Each function takes any bytes,
//! must not panic, and states what holds whatever they are.

use crate::config::Config;

pub use crate::agent_api::fuzzing::agent_api_path;
pub use crate::feed::fuzzing::feed_lines;

/// The settings file.
pub fn gateway_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(table) = toml::from_str::<toml::Table>(text) else {
        return;
    };
    if let Ok(config) = table.try_into::<Config>()
        && let Some(url) = config.public_url
    {
        assert!(url.as_str().starts_with("https://"));
        assert!(!url.host().is_empty() && url.port() > 0);
    }
}

#[cfg(test)]
mod tests {
    use replay::replay;

    #[test]
    fn the_corpus_of_settings_breaks_nothing() {
        replay("gateway_config", super::gateway_config);
    }

    #[test]
    fn the_corpus_of_request_paths_breaks_nothing() {
        replay("agent_api_path", super::agent_api_path);
    }

    #[test]
    fn the_corpus_of_feed_lines_breaks_nothing() {
        replay("feed_lines", super::feed_lines);
    }
}
