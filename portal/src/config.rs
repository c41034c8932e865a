//! The portal's configuration: TOML, every key overridable by the environment.
//!
//! `smtp.password` in the file is `RENKEI_SMTP_PASSWORD` in the environment. An unknown or
//! wrong key stops the program with the key's name: a typing error must not silently open
//! or close anything.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::virus_scan::Clamd;

/// Everything the portal is told from outside.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The fund's name (企業年金基金), as it stands on pages, mails and notices.
    pub fund_name: String,
    /// Whom users ask: one line with telephone and hours, shown on every page.
    pub fund_contact: String,
    /// `sqlite:/path/to/portal.db` or `postgres://…`.
    pub database_url: String,
    /// Folder for sealed documents.
    pub documents_dir: PathBuf,
    /// File with the master key (32 bytes, base64, mode 0600). The environment variable
    /// `RENKEI_MASTER_KEY` may hold the key itself instead.
    #[serde(default)]
    pub master_key_file: Option<PathBuf>,
    /// True for rehearsals and demonstrations: the calendar never closes, and every page says so.
    #[serde(default)]
    pub rehearsal: bool,
    /// The members' pages.
    pub member: Pages,
    /// The office's pages.
    pub office: Pages,
    /// Where gateways connect.
    pub control: Control,
    /// Outgoing mail.
    pub smtp: Smtp,
    /// The virus scanner. Absent: filings are not scanned here.
    #[serde(default)]
    pub virus_scan: Option<VirusScan>,
    /// Folder where the bound addresses are written as `listening.json`, for scripts that
    /// let the operating system choose ports.
    #[serde(default)]
    pub state_dir: Option<PathBuf>,
    /// Folder with the agent's signed updates; absent: none are offered.
    #[serde(default)]
    pub agent_updates_dir: Option<PathBuf>,
    /// Metrics and health, for the operator's network only. Absent: nowhere.
    #[serde(default)]
    pub operator: Option<OperatorListener>,
}

/// The virus scanner.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirusScan {
    /// Where clamd listens.
    pub clamd: Clamd,
}

/// Where the operator looks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorListener {
    /// Address and port of `/metrics`, `/health/live` and `/health/ready`.
    pub listen: SocketAddr,
}

/// One HTTPS listener for people.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pages {
    /// Address and port to listen on; port 0 lets the operating system choose.
    pub listen: SocketAddr,
    /// `https://host/` or `https://host:port/`, as browsers see it.
    pub url: String,
    /// Certificate chain (PEM). Without it the fund's own service authority signs one.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// Private key (PEM) of `certificate_file`.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
}

/// The listener for gateways (mutual TLS).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Address and port to listen on.
    pub listen: SocketAddr,
}

/// The mail server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// Host name.
    pub host: String,
    /// Port: 587 for STARTTLS, 465 for TLS.
    pub port: u16,
    /// How the connection is protected.
    #[serde(default)]
    pub security: SmtpSecurity,
    /// Account, if the server asks for one.
    #[serde(default)]
    pub user: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Option<String>,
    /// Sender, `Name <address>`.
    pub from: String,
    /// Extra root certificate (PEM) for the server's certificate.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpSecurity {
    /// Plain connection turned to TLS; refused if the server cannot.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind. The message names the key.
    #[error("{path}: {message}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What the parser says, with the key.
        message: String,
    },
    /// An environment variable that fits no key.
    #[error("{0} overrides no known key")]
    UnknownVariable(String),
}

/// Every key that can stand in the file, for the environment's overrides.
const KEYS: &[&str] = &[
    "fund_name",
    "fund_contact",
    "database_url",
    "documents_dir",
    "master_key_file",
    "rehearsal",
    "state_dir",
    "agent_updates_dir",
    "member.listen",
    "member.url",
    "member.certificate_file",
    "member.key_file",
    "office.listen",
    "office.url",
    "office.certificate_file",
    "office.key_file",
    "control.listen",
    "smtp.host",
    "smtp.port",
    "smtp.security",
    "smtp.user",
    "smtp.password",
    "smtp.from",
    "smtp.ca_file",
    "operator.listen",
    "virus_scan.clamd",
];

/// Variables with our prefix that are no keys.
const OTHER_VARIABLES: &[&str] = &["RENKEI_MASTER_KEY", operator::log::FORMAT_VARIABLE];
/// Variables of the test suite.
const TEST_PREFIX: &str = "RENKEI_TEST_";

impl Config {
    /// Reads `path` and lays the environment (`variables`) over it.
    pub fn load(
        path: &Path,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let invalid = |error: toml::de::Error| ConfigError::Invalid {
            path: path.to_owned(),
            message: error.to_string(),
        };
        let mut table: toml::Table = toml::from_str(&text).map_err(invalid)?;
        for (variable, value) in variables {
            if !variable.starts_with("RENKEI_")
                || variable.starts_with(TEST_PREFIX)
                || OTHER_VARIABLES.contains(&variable.as_str())
            {
                continue;
            }
            let key = KEYS
                .iter()
                .find(|key| format!("RENKEI_{}", key.replace('.', "_").to_uppercase()) == variable)
                .ok_or(ConfigError::UnknownVariable(variable))?;
            overlay(&mut table, key, &value);
        }
        // Parsed once more from text: only then do messages carry the key and its place.
        toml::from_str(&table.to_string()).map_err(invalid)
    }
}

/// Sets `section.key` or `key`; numbers and `true`/`false` keep their kind.
fn overlay(table: &mut toml::Table, key: &str, value: &str) {
    let value = match (value.parse::<i64>(), value.parse::<bool>()) {
        (Ok(number), _) => toml::Value::Integer(number),
        (_, Ok(truth)) => toml::Value::Boolean(truth),
        _ => toml::Value::String(value.to_owned()),
    };
    match key.split_once('.') {
        Some((section, key)) => {
            let section = table
                .entry(section.to_owned())
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(section) = section {
                section.insert(key.to_owned(), value);
            }
        }
        None => {
            table.insert(key.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
        fund_name = "見本企業年金基金"
        fund_contact = "基金事務局 業務課 03-0000-0000"
        database_url = "sqlite:/tmp/x.db"
        documents_dir = "/tmp/documents"
        [member]
        listen = "127.0.0.1:0"
        url = "https://renkei.example.jp/"
        [office]
        listen = "127.0.0.1:0"
        url = "https://office.example.jp/"
        [control]
        listen = "127.0.0.1:0"
        [smtp]
        host = "127.0.0.1"
        port = 587
        from = "renkei@example.jp"
    "#;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("portal.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(
            &path,
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn the_environment_overrides_every_kind_of_key() {
        let variables = [
            ("RENKEI_SMTP_PORT", "465"),
            ("RENKEI_REHEARSAL", "true"),
            ("RENKEI_SMTP_PASSWORD", "p"),
        ];
        let config = load(MINIMAL, &variables).unwrap();
        assert_eq!(
            (
                config.smtp.port,
                config.rehearsal,
                config.smtp.password.as_deref()
            ),
            (465, true, Some("p"))
        );
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = load(&MINIMAL.replace("[smtp]", "[smtp]\nprot = 25"), &[]).unwrap_err();
        assert!(error.to_string().contains("prot"), "{error}");
        let error = load(MINIMAL, &[("RENKEI_SMTP_PROT", "25")]).unwrap_err();
        assert!(error.to_string().contains("RENKEI_SMTP_PROT"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named() {
        let error = load(&MINIMAL.replace("port = 587", "port = \"many\""), &[]).unwrap_err();
        assert!(error.to_string().contains("port"), "{error}");
    }

    #[test]
    fn every_listed_key_is_known_to_the_structure() {
        for key in KEYS {
            let mut table: toml::Table = toml::from_str(MINIMAL).unwrap();
            overlay(&mut table, key, "[");
            let text = table.to_string();
            if let Err(error) = toml::from_str::<Config>(&text) {
                assert!(
                    !error.to_string().contains("unknown field"),
                    "{key}: {error}"
                );
            }
        }
    }
}
