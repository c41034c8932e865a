//! Addresses that were checked once: a gateway's base URL and the portal's.
//!
//! Nothing else in the agent splits a URL into its parts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

/// Base URL of a gateway's agent API: `https://host[:port]/`, nothing behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GatewayUrl(Url);

/// The portal's first page, `https://host[:port]/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalUrl(Url);

/// A text that cannot be used as an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL at all.
    #[error("not a URL")]
    NotAUrl,
    /// Another scheme than https.
    #[error("the address must begin with https://")]
    NotHttps,
    /// A path, a query, a user name.
    #[error("the address must end after the host and port")]
    MoreThanAHost,
}

impl UrlError {
    /// What the person who typed the address is told.
    pub fn page_text(&self) -> &'static str {
        match self {
            Self::NotAUrl => {
                "接続先の形が正しくありません。基金からの案内どおりに入力してください。"
            }
            Self::NotHttps => "接続先は「https://」で始めてください。",
            Self::MoreThanAHost => {
                "接続先は「https://」とホスト名だけにしてください。うしろの「/…」は不要です。"
            }
        }
    }
}

fn https(text: &str) -> Result<Url, UrlError> {
    let url = Url::parse(text.trim()).map_err(|_| UrlError::NotAUrl)?;
    if url.scheme() != "https" {
        return Err(UrlError::NotHttps);
    }
    match url.host_str() {
        Some(host) if !host.is_empty() && url.username().is_empty() && url.password().is_none() => {
            Ok(url)
        }
        Some(_) => Err(UrlError::MoreThanAHost),
        None => Err(UrlError::NotAUrl),
    }
}

fn authority(url: &Url) -> (&str, u16) {
    let host = url
        .host_str()
        .expect("https() checked that there is a host");
    (host, url.port().unwrap_or(443))
}

impl GatewayUrl {
    /// Host and port.
    pub fn authority(&self) -> (&str, u16) {
        authority(&self.0)
    }
}

impl PortalUrl {
    /// Host and port: the one place that the proxy connects to.
    pub fn authority(&self) -> (&str, u16) {
        authority(&self.0)
    }

    /// `https://host[:port]`, as a Content-Security-Policy names it.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Says whether `host:port`, as a CONNECT request has it, is the portal.
    pub fn is_at(&self, host: &str, port: u16) -> bool {
        let (own_host, own_port) = self.authority();
        own_port == port && own_host.eq_ignore_ascii_case(host)
    }
}

impl FromStr for GatewayUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let url = https(text)?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(UrlError::MoreThanAHost);
        }
        Ok(Self(url))
    }
}

impl FromStr for PortalUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        https(text).map(Self)
    }
}

impl TryFrom<String> for GatewayUrl {
    type Error = UrlError;
    fn try_from(text: String) -> Result<Self, UrlError> {
        text.parse()
    }
}

impl From<GatewayUrl> for String {
    fn from(url: GatewayUrl) -> Self {
        url.0.into()
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PortalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_a_bare_https_host() {
        let url: GatewayUrl = " https://gw.example.jp:8443 ".parse().unwrap();
        assert_eq!(url.authority(), ("gw.example.jp", 8443));
        assert_eq!(url.to_string(), "https://gw.example.jp:8443/");
        for (text, error) in [
            ("http://gw.example.jp", UrlError::NotHttps),
            ("gw.example.jp", UrlError::NotAUrl),
            ("https://gw.example.jp/x", UrlError::MoreThanAHost),
            ("https://gw.example.jp/?a=b", UrlError::MoreThanAHost),
            ("https://me@gw.example.jp/", UrlError::MoreThanAHost),
            ("https://", UrlError::NotAUrl),
        ] {
            assert_eq!(text.parse::<GatewayUrl>(), Err(error), "{text}");
        }
    }

    #[test]
    fn the_portal_is_one_host_and_one_port() {
        let url: PortalUrl = "https://Portal.Example.jp/sign-in".parse().unwrap();
        assert!(url.is_at("portal.example.JP", 443));
        assert!(!url.is_at("portal.example.jp", 80));
        assert!(!url.is_at("portal.example.jp.evil", 443));
        assert_eq!(url.origin(), "https://portal.example.jp");
    }
}
