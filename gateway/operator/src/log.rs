//! How a daemon logs: to stderr, as lines for people or as JSON for machines.
//!
//! `RUST_LOG` says what is logged, `RENKEI_LOG_FORMAT` how: `text` (the default) or `json`.
//! Nothing here decides what may be in a line; the rule is that no personal data, and below
//! `debug` no address, is ever given to the log.

mod json;

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// The variable that says how. It is no key of the configuration: it must hold before the
/// configuration is read.
pub const FORMAT_VARIABLE: &str = "RENKEI_LOG_FORMAT";

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `RUST_LOG` is not understood.
    #[error("RUST_LOG is not understood: {0}")]
    Filter(String),
    /// [`FORMAT_VARIABLE`] is not understood.
    #[error("{FORMAT_VARIABLE} is {0:?}; text and json are known")]
    Format(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Sends the program's log to stderr, as the environment says; `default` is what is logged
/// if `RUST_LOG` does not say.
///
/// # Errors
/// [`LogError`], which names the variable.
pub fn to_stderr(default: &str) -> Result<(), LogError> {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref(), default)?;
    let format = format(std::env::var(FORMAT_VARIABLE).ok().as_deref())?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        Format::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        Format::Json => log.with_ansi(false).event_format(json::Lines).init(),
    }
    Ok(())
}

fn filter(text: Option<&str>, default: &str) -> Result<EnvFilter, LogError> {
    let text = text.filter(|text| !text.is_empty());
    let text = text.unwrap_or(default);
    EnvFilter::try_new(text).map_err(|error| LogError::Filter(error.to_string()))
}

fn format(text: Option<&str>) -> Result<Format, LogError> {
    match text {
        None | Some("" | "text") => Ok(Format::Text),
        Some("json") => Ok(Format::Json),
        Some(other) => Err(LogError::Format(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_comes_unless_json_is_asked_for() {
        assert_eq!(format(None).unwrap(), Format::Text);
        assert_eq!(format(Some("json")).unwrap(), Format::Json);
        let error = format(Some("xml")).unwrap_err();
        assert!(error.to_string().contains(FORMAT_VARIABLE), "{error}");
    }

    #[test]
    fn a_filter_that_is_not_understood_is_an_error() {
        assert!(filter(None, "info,sqlx=warn").is_ok());
        assert!(filter(Some("gateway=debug"), "info").is_ok());
        let error = filter(Some("gateway=loud"), "info").unwrap_err();
        assert!(error.to_string().contains("RUST_LOG"), "{error}");
    }
}
