//! What the gateway is told at start: a TOML file, every key overridable by environment.
//!
//! It checks everything before anything starts: an unknown key, a wrong value or a missing
//! one stops the program with the key's name. It opens nothing that the keys point to.
//!
//! ```toml
//! name = "tokyo-1"
//! udp_listen = ["[::]:51820", "[::]:443"]   # the default; one address may stand alone
//! tls_listen = "[::]:443"
//! public_endpoints = ["203.0.113.7:51820", "203.0.113.7:443"]
//! public_url = "https://gw.fund.example"
//! identity_dir = "/etc/renkei/gateway"
//! state_dir = "/var/lib/renkei-gateway"
//! stream_memory_mb = 256      # the default: what waits between tunnels and portal at most
//!
//! [tls]                       # optional: a public certificate for the agent API
//! certificate_file = "/etc/ssl/gw.fund.example.pem"
//! key_file = "/etc/ssl/gw.fund.example.key"
//!
//! [portal]
//! control_url = "https://10.0.0.5:8443"
//! member_address = "10.0.0.5:8444"
//!
//! [operator]                  # optional: metrics and health
//! listen = "127.0.0.1:9464"
//! ```

use std::ffi::OsString;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use protocol::GatewayName;
use reqwest::Url;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use crate::event_loop::SOCKETS_LIMIT;

/// Most addresses of its UDP ports that a gateway tells agents.
pub const PUBLIC_ENDPOINTS_LIMIT: usize = 8;

/// Every key. `portal.control_url` is `RENKEI_PORTAL_CONTROL_URL` in the environment.
const KEYS: [&str; 13] = [
    "name",
    UDP_LISTEN,
    "tls_listen",
    PUBLIC_ENDPOINTS,
    "public_url",
    "identity_dir",
    "state_dir",
    STREAM_MEMORY,
    "tls.certificate_file",
    "tls.key_file",
    "portal.control_url",
    "portal.member_address",
    "operator.listen",
];

/// The keys that hold lists; the environment separates them by commas.
const UDP_LISTEN: &str = "udp_listen";
const PUBLIC_ENDPOINTS: &str = "public_endpoints";

/// The key that holds a number.
const STREAM_MEMORY: &str = "stream_memory_mb";

/// What may wait between the tunnels and the portal, in megabytes, unless the configuration
/// says otherwise, and the least and the most that it may say.
const STREAM_MEMORY_MB: u32 = 256;
const STREAM_MEMORY_RANGE_MB: std::ops::RangeInclusive<u32> = 16..=16_384;

/// The gateway's own UDP port, unless the configuration says otherwise.
const WIREGUARD_PORT: u16 = 51820;

/// The port of HTTPS: TCP for the agent API and the tunnel's last resort, UDP because HTTP/3
/// has it opened in many networks.
const HTTPS_PORT: u16 = 443;

/// What all our variables begin with.
const PREFIX: &str = "RENKEI_";

/// Variables of the test suite, which are nobody's keys.
const TEST_PREFIX: &str = "RENKEI_TEST_";

/// The gateway's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The gateway's name, as its certificate has it.
    pub name: GatewayName,
    /// Where WireGuard listens: one address or a list. Agents try them in this order. Many
    /// networks that stop other UDP let port 443 pass, for the sake of HTTP/3.
    #[serde(default = "default_udp_listen", deserialize_with = "one_or_few")]
    pub udp_listen: Vec<SocketAddr>,
    /// Where the agent API listens.
    #[serde(default = "default_tls_listen")]
    pub tls_listen: SocketAddr,
    /// Where agents reach the UDP ports, best first. Empty: the bound addresses, for a trial
    /// on one machine.
    #[serde(default, deserialize_with = "few_endpoints")]
    pub public_endpoints: Vec<SocketAddr>,
    /// Where agents reach the agent API. Absent: the bound address.
    #[serde(default)]
    pub public_url: Option<HttpsUrl>,
    /// The folder that `portal gateway add` made.
    pub identity_dir: PathBuf,
    /// The gateway's own folder: its WireGuard key, and where it listens.
    pub state_dir: PathBuf,
    /// What may wait between the tunnels and the portal, of all sessions together, in
    /// megabytes.
    #[serde(default = "default_stream_memory", deserialize_with = "in_range")]
    pub stream_memory_mb: u32,
    /// A public certificate for the agent API. Absent: the one from the identity.
    #[serde(default)]
    pub tls: Option<TlsFiles>,
    /// The portal.
    pub portal: PortalAddresses,
    /// Metrics and health, for the operator's network only. Absent: nowhere.
    #[serde(default)]
    pub operator: Option<OperatorListener>,
}

/// Where the operator looks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorListener {
    /// Address and port of `/metrics`, `/health/live` and `/health/ready`.
    pub listen: SocketAddr,
}

/// A certificate with its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub certificate_file: PathBuf,
    /// The leaf's key.
    pub key_file: PathBuf,
}

/// Where the portal is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortalAddresses {
    /// Its control listener.
    pub control_url: HttpsUrl,
    /// Its member listener: the one place that tunnels lead to.
    pub member_address: SocketAddr,
}

/// `https://host` or `https://host:port`, and nothing behind it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpsUrl(Url);

/// A text that is no base URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected https://host:port without a path")]
pub struct NotABaseUrl;

/// Why the settings were not accepted. The text names the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path}: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
    /// A key is unknown, missing or has a wrong value.
    #[error("configuration: {reason}")]
    Key {
        /// What is wrong, with the key.
        reason: String,
    },
    /// A variable's value is wrong.
    #[error("environment variable {variable}: {reason}")]
    Variable {
        /// The variable.
        variable: String,
        /// What is wrong.
        reason: String,
    },
    /// A variable of ours is no key.
    #[error("environment variable {0} is no key of the gateway")]
    UnknownVariable(String),
}

impl Config {
    /// Reads `path` and lays the environment over it. Relative paths start at the folder of
    /// the file.
    ///
    /// # Errors
    /// [`ConfigError`], which names the key.
    pub fn load(
        path: &Path,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
            path: path.to_owned(),
            source,
        })?;
        let table: Table = toml::from_str(&text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        let mut config = Self::from_table(table, environment)?;
        config.start_paths_at(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    fn from_table(
        mut table: Table,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut overridden = Vec::new();
        for (variable, text) in environment {
            let variable = variable.to_string_lossy().into_owned();
            let is_ours =
                variable.starts_with(PREFIX) && variable != operator::log::FORMAT_VARIABLE;
            if !is_ours || variable.starts_with(TEST_PREFIX) {
                continue;
            }
            let Some(key) = KEYS.iter().find(|key| variable_of(key) == variable) else {
                return Err(ConfigError::UnknownVariable(variable));
            };
            put(&mut table, key, &text.to_string_lossy());
            overridden.push((variable, *key));
        }
        table.try_into().map_err(|error: toml::de::Error| {
            let reason = error.to_string().trim_end().replace('\n', " ");
            let at = |key: &str| reason.ends_with(&format!("`{key}`"));
            match overridden.into_iter().find(|(_, key)| at(key)) {
                Some((variable, _)) => ConfigError::Variable { variable, reason },
                None => ConfigError::Key { reason },
            }
        })
    }

    fn start_paths_at(&mut self, folder: &Path) {
        // `join` leaves an absolute path as it is.
        self.identity_dir = folder.join(&self.identity_dir);
        self.state_dir = folder.join(&self.state_dir);
        if let Some(tls) = &mut self.tls {
            tls.certificate_file = folder.join(&tls.certificate_file);
            tls.key_file = folder.join(&tls.key_file);
        }
    }
}

impl HttpsUrl {
    /// The host, to be resolved: a name or an address without brackets.
    pub fn host(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port; 443 if none is written.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// Without a slash at the end.
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }
}

impl TryFrom<String> for HttpsUrl {
    type Error = NotABaseUrl;
    fn try_from(text: String) -> Result<Self, NotABaseUrl> {
        let url = Url::parse(&text).map_err(|_| NotABaseUrl)?;
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if url.scheme() == "https" && url.has_host() && bare {
            Ok(Self(url))
        } else {
            Err(NotABaseUrl)
        }
    }
}

fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

/// Writes `text` at `key`.
fn put(table: &mut Table, key: &str, text: &str) {
    let value = if [UDP_LISTEN, PUBLIC_ENDPOINTS].contains(&key) {
        let parts = text.split(',').map(str::trim);
        let parts = parts.filter(|part| !part.is_empty());
        Value::Array(parts.map(Value::from).collect())
    } else if key == STREAM_MEMORY {
        let number = text.parse::<i64>();
        number.map_or_else(|_| Value::from(text), Value::from)
    } else {
        Value::from(text)
    };
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, key)) => {
            let empty = || Value::Table(Table::new());
            let section = table.entry(section.to_owned()).or_insert_with(empty);
            // What is no section is reported when it is read.
            if let Value::Table(section) = section {
                section.insert(key.to_owned(), value);
            }
        }
    }
}

fn default_stream_memory() -> u32 {
    STREAM_MEMORY_MB
}

fn in_range<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let megabytes = u32::deserialize(from)?;
    if STREAM_MEMORY_RANGE_MB.contains(&megabytes) {
        return Ok(megabytes);
    }
    let (least, most) = STREAM_MEMORY_RANGE_MB.into_inner();
    Err(serde::de::Error::custom(format!(
        "expected {least} to {most} megabytes"
    )))
}

fn few_endpoints<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
    let endpoints = Vec::<SocketAddr>::deserialize(from)?;
    if endpoints.len() > PUBLIC_ENDPOINTS_LIMIT {
        return Err(serde::de::Error::custom(format_args!(
            "at most {PUBLIC_ENDPOINTS_LIMIT} endpoints"
        )));
    }
    Ok(endpoints)
}

fn one_or_few<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "expected an address with a port, or a list of them"
    )]
    enum OneOrFew {
        One(SocketAddr),
        Few(Vec<SocketAddr>),
    }
    let addresses = match OneOrFew::deserialize(from)? {
        OneOrFew::One(address) => vec![address],
        OneOrFew::Few(addresses) => addresses,
    };
    if !(1..=SOCKETS_LIMIT).contains(&addresses.len()) {
        return Err(serde::de::Error::custom(format_args!(
            "1 to {SOCKETS_LIMIT} addresses"
        )));
    }
    Ok(addresses)
}

fn default_udp_listen() -> Vec<SocketAddr> {
    [WIREGUARD_PORT, HTTPS_PORT]
        .map(|port| (Ipv6Addr::UNSPECIFIED, port).into())
        .into()
}

fn default_tls_listen() -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, HTTPS_PORT).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        name = "tokyo-1"
        identity_dir = "identity"
        state_dir = "/var/lib/gateway"
        [portal]
        control_url = "https://10.0.0.5:8443"
        member_address = "10.0.0.5:8444"
    "#;

    fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, text).unwrap();
        let environment = environment.iter();
        Config::load(
            &path,
            environment.map(|(name, value)| (name.into(), value.into())),
        )
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = read(SMALL, &[]).unwrap();
        let udp: Vec<String> = config.udp_listen.iter().map(ToString::to_string).collect();
        assert_eq!(udp, ["[::]:51820", "[::]:443"]);
        assert_eq!(config.tls_listen.to_string(), "[::]:443");
        assert_eq!(config.public_url, None);
        assert!(config.identity_dir.is_absolute(), "starts at the file");
        assert_eq!(config.state_dir, Path::new("/var/lib/gateway"));
        assert_eq!(
            (
                config.portal.control_url.host(),
                config.portal.control_url.port()
            ),
            ("10.0.0.5", 8443)
        );
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = read(&format!("{SMALL}\nmember_adress = \"x\""), &[]).unwrap_err();
        assert!(error.to_string().contains("member_adress"), "{error}");
        let error = read(&format!("udp_listn = \"x\"\n{SMALL}"), &[]).unwrap_err();
        assert!(error.to_string().contains("udp_listn"), "{error}");
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        for (key, line) in [
            ("udp_listen", "udp_listen = \"everywhere\""),
            ("udp_listen", "udp_listen = []"),
            ("udp_listen", "udp_listen = [\"[::]:1\", \"everywhere\"]"),
            ("tls_listen", "tls_listen = 443"),
            ("stream_memory_mb", "stream_memory_mb = 1"),
            ("stream_memory_mb", "stream_memory_mb = \"much\""),
            ("public_url", "public_url = \"http://plain.example\""),
            ("public_url", "public_url = \"https://gw.example/path\""),
            ("public_endpoints", "public_endpoints = \"1.2.3.4:5\""),
        ] {
            let error = read(&format!("{line}\n{SMALL}"), &[]).unwrap_err();
            assert!(error.to_string().contains(key), "{line}: {error}");
        }
    }

    #[test]
    fn one_address_may_stand_alone() {
        let config = read(&format!("udp_listen = \"127.0.0.1:5\"\n{SMALL}"), &[]).unwrap();
        assert_eq!(config.udp_listen, ["127.0.0.1:5".parse().unwrap()]);
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = read("name = \"a\"", &[]).unwrap_err();
        assert!(error.to_string().contains("identity_dir"), "{error}");
    }

    #[test]
    fn broken_toml_names_the_file() {
        let error = read("name = ", &[]).unwrap_err();
        assert!(error.to_string().contains("gateway.toml"), "{error}");
    }

    #[test]
    fn every_key_can_be_overridden_by_the_environment() {
        let config = read(
            "",
            &[
                ("RENKEI_NAME", "osaka"),
                ("RENKEI_UDP_LISTEN", "127.0.0.1:0, [::1]:443"),
                ("RENKEI_TLS_LISTEN", "127.0.0.1:1"),
                (
                    "RENKEI_PUBLIC_ENDPOINTS",
                    "192.0.2.1:51820, [2001:db8::1]:51820",
                ),
                ("RENKEI_PUBLIC_URL", "https://gw.example"),
                ("RENKEI_IDENTITY_DIR", "/i"),
                ("RENKEI_STATE_DIR", "/s"),
                ("RENKEI_TLS_CERTIFICATE_FILE", "/c.pem"),
                ("RENKEI_TLS_KEY_FILE", "/k.pem"),
                ("RENKEI_PORTAL_CONTROL_URL", "https://[fd00::1]:8443"),
                ("RENKEI_PORTAL_MEMBER_ADDRESS", "127.0.0.1:8444"),
                ("RENKEI_OPERATOR_LISTEN", "127.0.0.1:9464"),
            ],
        )
        .unwrap();
        assert_eq!(config.name.as_str(), "osaka");
        assert_eq!(config.udp_listen[0].to_string(), "127.0.0.1:0");
        assert_eq!(config.udp_listen[1].to_string(), "[::1]:443");
        assert_eq!(config.tls_listen.to_string(), "127.0.0.1:1");
        assert_eq!(config.public_endpoints.len(), 2);
        assert_eq!(config.public_url.unwrap().as_str(), "https://gw.example");
        assert_eq!(config.identity_dir, Path::new("/i"));
        assert_eq!(config.state_dir, Path::new("/s"));
        assert_eq!(config.tls.unwrap().key_file, Path::new("/k.pem"));
        assert_eq!(config.portal.control_url.host(), "fd00::1");
        assert_eq!(config.portal.member_address.port(), 8444);
        assert_eq!(config.operator.unwrap().listen.port(), 9464);
    }

    #[test]
    fn an_unknown_variable_of_ours_is_named_and_others_are_let_be() {
        let error = read(SMALL, &[("RENKEI_UDP_LISTN", "x")]).unwrap_err();
        assert!(error.to_string().contains("RENKEI_UDP_LISTN"), "{error}");
        let others = [
            ("PATH", "/bin"),
            ("RENKEI_TEST_POSTGRES", "x"),
            ("RENKEI_LOG_FORMAT", "json"),
        ];
        read(SMALL, &others).unwrap();
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let error = read(SMALL, &[("RENKEI_PORTAL_CONTROL_URL", "10.0.0.5")]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("RENKEI_PORTAL_CONTROL_URL"), "{text}");
    }
}
