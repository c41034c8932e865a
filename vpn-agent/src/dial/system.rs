//! The proxy settings of an operating system, as Windows writes them down.
//!
//! Pure: the texts come from [`crate::os`]. Windows has three ways to say it: a list of proxies
//! with a list of exceptions, the address of a script (PAC), and "look for one" (WPAD). What a
//! script answers has the form of such a list too. An exact reading matters in one direction
//! only: whatever is taken for a proxy wrongly costs a try, for the straight way is tried as
//! well.

use std::net::IpAddr;

use super::settings::{ProxyUrl, is_in_network};

/// Most proxies of a list that are looked at; a script names two or three.
pub const MAX_PROXIES: usize = 4;

/// Longest list that is read, in bytes.
const LIST_LIMIT_BYTES: usize = 8 * 1024;

/// The port of a proxy in such a list that names none.
const DEFAULT_PORT: u16 = 80;

/// Where a system's proxy came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Written in the settings.
    Fixed,
    /// A script, named in the settings or found in the network.
    Script,
}

/// What a system says about one address, before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemProxy {
    /// Who says so.
    pub origin: Origin,
    /// The list of proxies, `a:8080;b:8080` or `http=a:80;https=b:81`.
    pub list: String,
    /// The list of exceptions, `<local>;*.example.jp;10.*`.
    pub exceptions: String,
}

/// The proxies for `host` in the list's order; none for a host that is excepted.
pub fn proxies(system: &SystemProxy, host: &str) -> Vec<ProxyUrl> {
    let host = host.trim_matches(['[', ']']);
    if system.list.len() > LIST_LIMIT_BYTES || is_excepted(host, &system.exceptions) {
        return Vec::new();
    }
    let entries = system.list.split([';', ' ', '\t', '\r', '\n', ',']);
    let entries = entries.map(str::trim).filter(|entry| !entry.is_empty());
    let (mut named, mut any) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry.split_once('=') {
            // TLS goes through the proxy for https; the others know no CONNECT.
            Some((scheme, address)) if scheme.eq_ignore_ascii_case("https") => {
                named.extend(proxy(address));
            }
            Some(_) => {}
            None => any.extend(proxy(entry)),
        }
    }
    let mut found = if named.is_empty() { any } else { named };
    found.truncate(MAX_PROXIES);
    found
}

fn proxy(address: &str) -> Option<ProxyUrl> {
    let lower = address.to_ascii_lowercase();
    if matches!(lower.as_str(), "direct" | "proxy" | "https" | "http") {
        return None;
    }
    let bare = address.rsplit_once("://").map_or(address, |(_, bare)| bare);
    if lower.starts_with("socks") || bare.is_empty() {
        return None;
    }
    let bare = bare.trim_end_matches('/');
    let has_port = bare
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let url = if has_port {
        format!("http://{bare}")
    } else {
        format!("http://{bare}:{DEFAULT_PORT}")
    };
    url.parse()
        .inspect_err(|error| tracing::debug!(%error, "a proxy of the system is not understood"))
        .ok()
}

/// Whether the exceptions name `host`: with `*` for any text, `<local>` for names without a
/// dot, or as a network.
fn is_excepted(host: &str, exceptions: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    let entries = exceptions.get(..exceptions.len().min(LIST_LIMIT_BYTES));
    let entries = entries
        .unwrap_or_default()
        .split([';', ',', ' ', '\t', '\r', '\n']);
    entries
        .map(|entry| entry.trim().to_ascii_lowercase())
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            if entry == "<local>" {
                return address.is_none() && !host.contains('.');
            }
            let pattern = entry.rsplit_once("://").map_or(&*entry, |(_, rest)| rest);
            let pattern = pattern.trim_matches(['[', ']']);
            match address {
                Some(address) if pattern.contains('/') => is_in_network(address, pattern),
                Some(_) | None => fits(pattern, &host),
            }
        })
}

/// Whether `text` fits a pattern in which `*` stands for any text. Takes as many steps as both
/// are long together, times each other: both are short.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(list: &str, exceptions: &str, host: &str) -> Vec<String> {
        let system = SystemProxy {
            origin: Origin::Fixed,
            list: list.to_owned(),
            exceptions: exceptions.to_owned(),
        };
        let proxies = proxies(&system, host).into_iter();
        proxies.map(|proxy| proxy.to_string()).collect()
    }

    #[test]
    fn lists_are_read_as_windows_writes_them() {
        for (list, expected) in [
            ("", &[][..]),
            ("proxy.local:8080", &["proxy.local:8080"]),
            ("proxy.local", &["proxy.local:80"]),
            ("http://proxy.local:8080/", &["proxy.local:8080"]),
            ("http=a:80;https=b:81;ftp=c:82", &["b:81"]),
            ("HTTPS=http://b:81 http=a:80", &["b:81"]),
            ("http=a:80;ftp=c:82", &[]),
            ("http=a:80;d:83", &["d:83"]),
            ("a:1;b:2; c:3", &["a:1", "b:2", "c:3"]),
            ("PROXY a:1; DIRECT", &["a:1"]),
            ("socks=s:1080", &[]),
            ("[2001:db8::1]:3128", &["[2001:db8::1]:3128"]),
            ("a:1;b:2;c:3;d:4;e:5;f:6", &["a:1", "b:2", "c:3", "d:4"]),
            (";;=;https=;:;//;a b c:", &["a:80", "b:80", "c:80"]),
        ] {
            let got = found(list, "", "gw.example.jp");
            if list.contains("a b c:") {
                // Nonsense: whatever is made of it, it is short and it is a host.
                assert!(got.len() <= MAX_PROXIES, "{got:?}");
                continue;
            }
            assert_eq!(got, expected, "{list}");
        }
        assert!(found(&"a:1;".repeat(10_000), "", "gw").is_empty());
    }

    #[test]
    fn exceptions_are_read_as_windows_writes_them() {
        for (exceptions, host, excepted) in [
            ("<local>", "gw", true),
            ("<local>", "gw.example.jp", false),
            ("<local>", "10.1.2.3", false),
            ("*.example.jp", "gw.example.jp", true),
            ("*.example.jp", "example.jp", false),
            ("*example.jp", "example.jp", true),
            ("gw.example.jp", "GW.example.jp.", true),
            ("gw.*", "gw.example.jp", true),
            ("g*.ex*.jp", "gw.example.jp", true),
            ("g*.xx*.jp", "gw.example.jp", false),
            ("10.*", "10.1.2.3", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("https://gw.example.jp", "gw.example.jp", true),
            ("other;<local>;*.jp", "gw.example.jp", true),
            ("[2001:db8::1]", "[2001:db8::1]", true),
            ("", "gw.example.jp", false),
            ("*", "gw.example.jp", true),
        ] {
            let none = found("p:1", exceptions, host).is_empty();
            assert_eq!(none, excepted, "{exceptions} {host}");
        }
    }
}
