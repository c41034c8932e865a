//! Whether a host is reached through a proxy, and through which.
//!
//! The setting `proxy` is an URL, `"none"`, `"environment"` or `"system"` (the default). The
//! environment is read as curl reads it: `https_proxy`, `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY`
//! and `no_proxy`, `NO_PROXY`. `"system"` is the environment where it names a proxy, else what
//! the operating system's own settings say ([`super::system`]).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use url::{Host, Url};
use zeroize::Zeroizing;

/// The port of a proxy whose URL names none, as curl has it.
const DEFAULT_PORT: u16 = 1080;

/// Where proxies come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ProxySettings {
    /// From the environment's variables, else from the operating system's settings.
    #[default]
    System,
    /// From the environment's variables.
    Environment,
    /// There is none.
    None,
    /// This one, for every host.
    Fixed(ProxyUrl),
}

/// An HTTP proxy, with the name and password that it wants. Shown without them.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    host: String,
    port: u16,
    /// `user:password`, decoded.
    credentials: Option<Zeroizing<Vec<u8>>>,
}

/// A text that names no proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// Not a URL.
    #[error("a proxy is written as http://host:port or http://user:password@host:port")]
    NotAUrl,
    /// A kind of proxy that is not known here.
    #[error("only http:// proxies are supported, not {0}://")]
    Scheme(String),
}

/// Who names a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The setting `proxy`.
    Settings,
    /// The environment's variables.
    Environment,
    /// The operating system's settings.
    System,
    /// A script that the operating system's settings name, or found in the network.
    Script,
}

/// What the settings say about one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// No proxy.
    Straight,
    /// One of these, tried in this order. Never empty.
    Proxies(Source, Vec<ProxyUrl>),
    /// The operating system has to be asked, which may take seconds.
    AskSystem,
}

impl ProxySettings {
    /// What is set for `host`, which may be a name or an address.
    pub fn for_host(&self, host: &str, environment: impl Fn(&str) -> Option<String>) -> Choice {
        let from_environment = match self {
            Self::None => return Choice::Straight,
            Self::Fixed(proxy) => {
                return Choice::Proxies(Source::Settings, vec![proxy.clone()]);
            }
            Self::Environment | Self::System => from_environment(host, environment),
        };
        match (from_environment, self) {
            (Named::Proxy(proxy), _) => Choice::Proxies(Source::Environment, vec![proxy]),
            (Named::Nothing, Self::System) if !is_this_pc(host) => Choice::AskSystem,
            (Named::Nothing | Named::Exception, _) => Choice::Straight,
        }
    }
}

/// What the environment names.
enum Named {
    Proxy(ProxyUrl),
    Exception,
    Nothing,
}

/// No proxy leads back to this PC.
fn is_this_pc(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A variable that is set and not empty, under the first of its names.
fn variable(names: [&str; 2], environment: &impl Fn(&str) -> Option<String>) -> Option<String> {
    names
        .into_iter()
        .find_map(environment)
        .filter(|value| !value.trim().is_empty())
}

fn from_environment(host: &str, environment: impl Fn(&str) -> Option<String>) -> Named {
    let host = host.trim_matches(['[', ']']);
    if is_this_pc(host) {
        return Named::Exception;
    }
    let exceptions = variable(["no_proxy", "NO_PROXY"], &environment);
    if exceptions.is_some_and(|list| is_excepted(host, &list)) {
        return Named::Exception;
    }
    let text = variable(["https_proxy", "HTTPS_PROXY"], &environment)
        .or_else(|| variable(["all_proxy", "ALL_PROXY"], &environment));
    match text.map(|text| text.parse()) {
        None => Named::Nothing,
        Some(Ok(proxy)) => Named::Proxy(proxy),
        Some(Err(error)) => {
            let error: ProxyUrlError = error;
            tracing::warn!(%error, "the environment's proxy is not used");
            Named::Nothing
        }
    }
}

/// Whether `no_proxy` names `host`: itself, a domain above it, a network it lies in, or `*`.
fn is_excepted(host: &str, list: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    list.split([',', ' '])
        .map(|entry| entry.trim().to_ascii_lowercase())
        .filter(|entry| !entry.is_empty())
        .any(|entry| match address {
            _ if entry == "*" => true,
            Some(address) => is_in_network(address, &entry),
            None => {
                let domain = entry.trim_start_matches('.').trim_end_matches('.');
                host.strip_suffix(domain)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                    && !domain.is_empty()
            }
        })
}

pub(super) fn is_in_network(address: IpAddr, entry: &str) -> bool {
    let (network, bits) = match entry.split_once('/') {
        Some((network, bits)) => (network, bits.parse::<u32>().ok()),
        None => (entry, Some(u32::MAX)),
    };
    let network = network.trim_matches(['[', ']']).parse::<IpAddr>();
    match (address, network, bits) {
        (IpAddr::V4(address), Ok(IpAddr::V4(network)), Some(bits)) => {
            let differs = (address.to_bits() ^ network.to_bits()).leading_zeros();
            differs >= bits.min(32)
        }
        (IpAddr::V6(address), Ok(IpAddr::V6(network)), Some(bits)) => {
            let differs = (address.to_bits() ^ network.to_bits()).leading_zeros();
            differs >= bits.min(128)
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _, _) => false,
    }
}

impl ProxyUrl {
    /// The host, as it is looked up.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// User and password, to be looked for in what leaves the PC.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let credentials = self.credentials.as_ref();
        let text = credentials.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let text = text.unwrap_or_default();
        text.splitn(2, ':').map(str::to_owned).collect()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of `Proxy-Authorization`, if the URL has a user name.
    pub fn authorization(&self) -> Option<Zeroizing<String>> {
        let credentials = self.credentials.as_ref()?;
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(&**credentials));
        Some(Zeroizing::new(format!("Basic {}", *encoded)))
    }
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        let text = text.trim();
        let with_scheme = Zeroizing::new(if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        });
        let url = Url::parse(&with_scheme).map_err(|_| ProxyUrlError::NotAUrl)?;
        if url.scheme() != "http" {
            return Err(ProxyUrlError::Scheme(url.scheme().to_owned()));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(Host::Domain(_)) | None => return Err(ProxyUrlError::NotAUrl),
        };
        // The parser drops the scheme's own port: it was named if the text has it.
        let named_80 = with_scheme
            .split_once("://")
            .and_then(|(_, rest)| rest.split(['/', '?', '#']).next())
            .is_some_and(|authority| authority.ends_with(":80"));
        let port = url
            .port()
            .unwrap_or(if named_80 { 80 } else { DEFAULT_PORT });
        let decode = |text: &str| Zeroizing::new(percent_decode_str(text).collect::<Vec<u8>>());
        let credentials = (!url.username().is_empty()).then(|| {
            let user = decode(url.username());
            let password = decode(url.password().unwrap_or_default());
            Zeroizing::new([&user[..], b":", &password[..]].concat())
        });
        Ok(Self {
            host,
            port,
            credentials,
        })
    }
}

impl TryFrom<String> for ProxySettings {
    type Error = ProxyUrlError;

    fn try_from(text: String) -> Result<Self, ProxyUrlError> {
        let text = Zeroizing::new(text);
        match text.trim() {
            "system" => Ok(Self::System),
            "environment" => Ok(Self::Environment),
            "none" => Ok(Self::None),
            url => url.parse().map(Self::Fixed),
        }
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy_for(host: &str, variables: &[(&str, &str)]) -> Option<String> {
        let environment = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        match ProxySettings::Environment.for_host(host, environment) {
            Choice::Proxies(Source::Environment, proxies) => Some(proxies[0].to_string()),
            Choice::Straight => None,
            choice => panic!("{choice:?}"),
        }
    }

    #[test]
    fn the_system_is_asked_where_the_environment_says_nothing() {
        let none = |_: &str| None;
        let set = |name: &str| match name {
            "https_proxy" => Some("p:1".to_owned()),
            "no_proxy" => Some("except.example.jp".to_owned()),
            _ => None,
        };
        let system = ProxySettings::default();
        assert_eq!(system, ProxySettings::System);
        assert_eq!(system.for_host("gw.example.jp", none), Choice::AskSystem);
        assert_eq!(system.for_host("127.0.0.1", none), Choice::Straight);
        assert_eq!(system.for_host("except.example.jp", set), Choice::Straight);
        assert!(matches!(
            system.for_host("gw.example.jp", set),
            Choice::Proxies(Source::Environment, _)
        ));
    }

    #[test]
    fn the_environment_is_read_as_curl_reads_it() {
        let gateway = "gw.example.jp";
        for (variables, expected) in [
            (&[][..], None),
            (&[("https_proxy", "http://a:3128")], Some("a:3128")),
            (
                &[("https_proxy", "a:1"), ("HTTPS_PROXY", "b:2")],
                Some("a:1"),
            ),
            (&[("HTTPS_PROXY", "b:2"), ("all_proxy", "c:3")], Some("b:2")),
            (&[("ALL_PROXY", "c")], Some("c:1080")),
            (&[("https_proxy", "http://c:80/")], Some("c:80")),
            (&[("http_proxy", "http://plain:1")], None),
            (&[("https_proxy", "")], None),
            (&[("https_proxy", "socks5://a:1")], None),
        ] {
            assert_eq!(
                proxy_for(gateway, variables).as_deref(),
                expected,
                "{variables:?}"
            );
        }
    }

    #[test]
    fn no_proxy_excepts_hosts_domains_and_networks() {
        let cases = [
            ("gw.example.jp", "example.jp", true),
            ("gw.example.jp", ".example.jp", true),
            ("gw.example.jp", "other, GW.EXAMPLE.JP", true),
            ("gw.example.jp", "*", true),
            ("gw.example.jp", "ample.jp", false),
            ("gw.example.jp", "gw.example.jp.evil", false),
            ("gw.example.jp", ",", false),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.30", false),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("11.1.2.3", "0.0.0.0/0", true),
            ("[2001:db8::1]", "2001:db8::/32", true),
            ("[2001:db8::1]", "[2001:db8::1]", true),
            ("[2001:db9::1]", "2001:db8::/32", false),
            ("10.1.2.3", "10.0.0.0/x", false),
        ];
        for (host, list, excepted) in cases {
            let variables = [("https_proxy", "p:1"), ("no_proxy", list)];
            let proxy = proxy_for(host, &variables);
            assert_eq!(proxy.is_none(), excepted, "{host} {list}");
        }
    }

    #[test]
    fn this_pc_is_never_reached_through_the_environments_proxy() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert_eq!(proxy_for(host, &[("https_proxy", "p:1")]), None);
        }
    }

    #[test]
    fn a_proxy_never_shows_its_password() {
        let proxy: ProxyUrl = "http://user:geheim@proxy:8080".parse().unwrap();
        assert_eq!(
            format!("{proxy} {proxy:?}"),
            "proxy:8080 ProxyUrl(proxy:8080)"
        );
        assert!(proxy.authorization().is_some());
        let error = "ftp://user:geheim@proxy".parse::<ProxyUrl>().unwrap_err();
        assert!(!error.to_string().contains("geheim"));
    }

    #[test]
    fn settings_that_name_no_proxy_are_errors() {
        for wrong in [
            "",
            "http://",
            "https://proxy:1",
            "http://a b",
            "socks5://x:1",
        ] {
            assert!(
                ProxySettings::try_from(wrong.to_owned()).is_err(),
                "{wrong}"
            );
        }
        let six: ProxyUrl = "http://[2001:db8::1]:3128".parse().unwrap();
        assert_eq!((six.host(), six.port()), ("2001:db8::1", 3128));
        assert_eq!(six.to_string(), "[2001:db8::1]:3128");
    }
}
