//! Settings: a TOML file, each key overridable by `RENKEI_<KEY>` in the environment.
//!
//! An unknown or wrong key stops the program with the key's name; nothing is guessed.

use std::path::{Path, PathBuf};

use protocol::updates::{NotAKey, UpdateKey};
use serde::Deserialize;
use toml::{Table, Value};

use crate::dial::settings::{ProxySettings, ProxyUrlError};
use crate::os;
use crate::urls::GatewayUrl;

/// What every environment override begins with.
pub const ENVIRONMENT_PREFIX: &str = "RENKEI_";

/// What a key's value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    List,
}

/// Every key there is.
const KEYS: [(&str, Kind); 8] = [
    ("data_dir", Kind::Text),
    ("gateway_url", Kind::Text),
    ("gateway_ca_file", Kind::Text),
    ("browser", Kind::Text),
    ("browser_args", Kind::List),
    ("proxy_port", Kind::Number),
    ("proxy", Kind::Text),
    ("update_key", Kind::Text),
];

/// The key that this program was built with: it believes updates that are signed under it.
const BUILT_UPDATE_KEY: Option<&str> = option_env!("RENKEI_BUILT_UPDATE_KEY");

/// The settings of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where keys, certificates and the window's profile lie.
    pub data_dir: PathBuf,
    /// The gateway that the enrolment form suggests.
    pub gateway_url: Option<GatewayUrl>,
    /// A further root certificate (PEM) for the gateway's TLS.
    pub gateway_ca_file: Option<PathBuf>,
    /// The browser to open the window with; found by itself if absent.
    pub browser: Option<PathBuf>,
    /// Further arguments for the browser.
    pub browser_args: Vec<String>,
    /// The loopback proxy's port; 0 chooses one.
    pub proxy_port: u16,
    /// The HTTP proxy between this PC and the internet.
    pub proxy: ProxySettings,
    /// Under which key updates are believed; without one, none are looked for.
    pub update_key: Option<UpdateKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    data_dir: Option<PathBuf>,
    gateway_url: Option<GatewayUrl>,
    gateway_ca_file: Option<PathBuf>,
    browser: Option<PathBuf>,
    #[serde(default)]
    browser_args: Vec<String>,
    #[serde(default)]
    proxy_port: u16,
    /// Read in a second step: its error must not show the line, which may hold a password.
    proxy: Option<String>,
    update_key: Option<UpdateKey>,
}

/// Settings that cannot be used. The program ends with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML, or has an unknown or wrong key.
    #[error("{}: {message}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the key's name.
        message: String,
    },
    /// A variable of the environment has a wrong value.
    #[error("environment variable {variable}: {message}")]
    WrongVariable {
        /// Its name.
        variable: String,
        /// What is wrong.
        message: String,
    },
    /// The proxy cannot be used.
    #[error("proxy: {0}")]
    Proxy(#[from] ProxyUrlError),
    /// The key that this program was built with is none.
    #[error("the update key that this program was built with is {0}")]
    BuiltUpdateKey(NotAKey),
    /// There is no home folder to put the data in.
    #[error("data_dir is not set and there is no home folder to take instead")]
    NoDataDir,
}

impl Config {
    /// Reads the settings: what the installer was told, over it `file`, or the default file if it
    /// exists, then the environment.
    pub fn load(
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let default_file = os::default_config_file().filter(|path| path.exists());
        let mut table = match file.map(Path::to_owned).or(default_file) {
            Some(path) => read_table(&path)?,
            None => Table::new(),
        };
        if !table.contains_key("gateway_url")
            && let Some(url) = os::installed_gateway()
        {
            table.insert("gateway_url".to_owned(), Value::String(url));
        }
        Self::from_table(table, environment)
    }

    pub(crate) fn from_table(
        mut table: Table,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        for (key, kind) in KEYS {
            let variable = format!("{ENVIRONMENT_PREFIX}{}", key.to_ascii_uppercase());
            if let Some(text) = environment(&variable) {
                let wrong = |message| ConfigError::WrongVariable { variable, message };
                let value = kind.parse(&text).map_err(wrong.clone())?;
                let alone = Table::from_iter([(key.to_owned(), value.clone())]);
                Raw::deserialize(Value::Table(alone)).map_err(|error| wrong(one_line(&error)))?;
                table.insert(key.to_owned(), value);
            }
        }
        let raw = Raw::deserialize(Value::Table(table)).map_err(|error| ConfigError::Wrong {
            path: PathBuf::from("settings"),
            message: one_line(&error),
        })?;
        Ok(Self {
            data_dir: raw
                .data_dir
                .or_else(os::default_data_dir)
                .ok_or(ConfigError::NoDataDir)?,
            gateway_url: raw.gateway_url,
            gateway_ca_file: raw.gateway_ca_file,
            browser: raw.browser,
            browser_args: raw.browser_args,
            proxy_port: raw.proxy_port,
            proxy: raw
                .proxy
                .map(ProxySettings::try_from)
                .transpose()?
                .unwrap_or_default(),
            update_key: match raw.update_key {
                Some(key) => Some(key),
                None => BUILT_UPDATE_KEY
                    .map(str::parse)
                    .transpose()
                    .map_err(ConfigError::BuiltUpdateKey)?,
            },
        })
    }
}

impl Kind {
    fn parse(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Text => Ok(Value::String(text.to_owned())),
            Self::Number => match text.trim().parse() {
                Ok(number) => Ok(Value::Integer(number)),
                Err(_) => Err(format!("{text:?} is not a number")),
            },
            Self::List => Ok(Value::Array(
                text.split_whitespace()
                    .map(|word| Value::String(word.to_owned()))
                    .collect(),
            )),
        }
    }
}

fn read_table(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let wrong = |message| ConfigError::Wrong {
        path: path.to_owned(),
        message,
    };
    let table: Table = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    // Checked here too, for the message with the file's name and line.
    toml::from_str::<Raw>(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(table)
}

fn one_line(error: &toml::de::Error) -> String {
    error.to_string().trim().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_text(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file), |_| None).map_err(|error| error.to_string())
    }

    #[test]
    fn a_full_file_is_read() {
        let config = from_text(
            "data_dir = '/tmp/x'\ngateway_url = 'https://gw.example.jp'\nbrowser = '/usr/bin/chromium'\nbrowser_args = ['--no-sandbox']\nproxy_port = 4000\ngateway_ca_file = 'ca.pem'",
        )
        .unwrap();
        assert_eq!(config.data_dir, Path::new("/tmp/x"));
        assert_eq!(
            config.gateway_url.unwrap().to_string(),
            "https://gw.example.jp/"
        );
        assert_eq!(config.browser_args, ["--no-sandbox"]);
        assert_eq!(config.proxy_port, 4000);
    }

    #[test]
    fn an_unknown_or_wrong_key_is_named() {
        for (text, key) in [
            ("colour = 'blue'", "colour"),
            ("proxy_port = 'x'", "proxy_port"),
            ("proxy_port = 70000", "proxy_port"),
            ("gateway_url = 'http://gw'", "gateway_url"),
            ("browser_args = '--x'", "browser_args"),
            ("update_key = 'x'", "update_key"),
        ] {
            let error = from_text(text).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn a_wrong_proxy_is_named_without_its_password() {
        let config = from_text("data_dir = '/tmp/x'\nproxy = 'http://u:geheim@p:8080'").unwrap();
        assert!(matches!(config.proxy, ProxySettings::Fixed(_)));
        let error = from_text("data_dir = '/tmp/x'\nproxy = 'ftp://u:geheim@p'").unwrap_err();
        assert!(
            error.contains("proxy") && !error.contains("geheim"),
            "{error}"
        );
        let error = Config::from_table(Table::new(), |name| {
            (name == "RENKEI_PROXY").then(|| "gopher://u:geheim@p".to_owned())
        });
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("proxy") && !error.contains("geheim"),
            "{error}"
        );
    }

    #[test]
    fn the_environment_wins_and_its_faults_are_named() {
        let environment = |name: &str| match name {
            "RENKEI_DATA_DIR" => Some("/tmp/y".to_owned()),
            "RENKEI_BROWSER_ARGS" => Some("--a --b".to_owned()),
            "RENKEI_PROXY_PORT" => Some("4001".to_owned()),
            _ => None,
        };
        let table = toml::from_str("data_dir = '/tmp/x'").unwrap();
        let config = Config::from_table(table, environment).unwrap();
        assert_eq!(config.data_dir, Path::new("/tmp/y"));
        assert_eq!(config.browser_args, ["--a", "--b"]);
        assert_eq!(config.proxy_port, 4001);
        for wrong in ["x", "-1", "70000"] {
            let error = Config::from_table(Table::new(), |name| {
                (name == "RENKEI_PROXY_PORT").then(|| wrong.to_owned())
            });
            assert!(error.unwrap_err().to_string().contains("RENKEI_PROXY_PORT"));
        }
    }
}
