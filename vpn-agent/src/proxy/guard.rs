//! What may pass the loopback proxy. Pure, so that each refusal is a line in a test.
//!
//! A page of a foreign site that was bound to 127.0.0.1 by DNS rebinding sends origin-form
//! requests with its own host: these are refused, whatever their `Host` says. Only a browser
//! that was told to use this proxy sends proxy-form requests.

use hyper::{Method, Uri};

use crate::urls::PortalUrl;

/// The agent's own page, under a name that no resolver may answer (RFC 6761).
pub const PAGE_HOST: &str = "renkei-agent.invalid";

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A connection to the portal.
    Portal,
    /// A connection to some place while there is no session.
    NotConnected,
    /// The agent's own page.
    Page,
    /// Nothing that this proxy does.
    Refused,
}

/// Judges a request by its first line and its `Host` field. `portal` is where the session
/// leads, if there is one.
pub fn judge(
    method: &Method,
    uri: &Uri,
    host: Option<&[u8]>,
    portal: Option<&PortalUrl>,
) -> Verdict {
    let Some(authority) = uri.authority() else {
        // Origin-form: not meant for a proxy.
        return Verdict::Refused;
    };
    if authority.as_str().contains('@') {
        return Verdict::Refused;
    }
    if method == Method::CONNECT {
        let Some(port) = authority.port_u16() else {
            return Verdict::Refused;
        };
        return match portal {
            _ if authority.host().eq_ignore_ascii_case(PAGE_HOST) => Verdict::Refused,
            Some(portal) if portal.is_at(authority.host(), port) => Verdict::Portal,
            Some(_) => Verdict::Refused,
            None => Verdict::NotConnected,
        };
    }
    let names_page = |text: &str| {
        let name = text.strip_suffix(":80").unwrap_or(text);
        name.eq_ignore_ascii_case(PAGE_HOST)
    };
    let host_fits = host.is_none_or(|host| std::str::from_utf8(host).is_ok_and(names_page));
    let is_page = uri.scheme_str() == Some("http") && names_page(authority.as_str()) && host_fits;
    if is_page && (method == Method::GET || method == Method::POST) {
        Verdict::Page
    } else {
        Verdict::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &str, uri: &str, host: Option<&str>) -> Verdict {
        let portal = "https://portal.example.jp/".parse().unwrap();
        judge(
            &method.parse().unwrap(),
            &uri.parse().unwrap(),
            host.map(str::as_bytes),
            Some(&portal),
        )
    }

    #[test]
    fn only_the_portal_is_connected_to() {
        for (target, expected) in [
            ("portal.example.jp:443", Verdict::Portal),
            ("PORTAL.example.jp:443", Verdict::Portal),
            ("portal.example.jp:80", Verdict::Refused),
            ("portal.example.jp", Verdict::Refused),
            ("portal.example.jp.evil.test:443", Verdict::Refused),
            ("user@portal.example.jp:443", Verdict::Refused),
            ("127.0.0.1:22", Verdict::Refused),
            ("[::1]:443", Verdict::Refused),
            ("www.example.com:443", Verdict::Refused),
            ("renkei-agent.invalid:443", Verdict::Refused),
        ] {
            assert_eq!(
                verdict("CONNECT", target, Some(target)),
                expected,
                "{target}"
            );
        }
    }

    #[test]
    fn without_a_session_nothing_is_connected_to() {
        let uri = "portal.example.jp:443".parse().unwrap();
        assert_eq!(
            judge(&Method::CONNECT, &uri, None, None),
            Verdict::NotConnected
        );
    }

    #[test]
    fn the_page_answers_proxy_form_only() {
        let page = "http://renkei-agent.invalid/";
        let cases = [
            ("GET", page, Some(PAGE_HOST), Verdict::Page),
            ("POST", page, Some(PAGE_HOST), Verdict::Page),
            ("GET", page, None, Verdict::Page),
            (
                "GET",
                "http://renkei-agent.invalid:80/",
                Some("renkei-agent.invalid:80"),
                Verdict::Page,
            ),
            ("GET", "/", Some(PAGE_HOST), Verdict::Refused),
            (
                "GET",
                "/status.json",
                Some("127.0.0.1:4000"),
                Verdict::Refused,
            ),
            ("GET", "/", Some("evil.test"), Verdict::Refused),
            ("GET", page, Some("evil.test"), Verdict::Refused),
            ("GET", page, Some("127.0.0.1:4000"), Verdict::Refused),
            (
                "GET",
                "https://renkei-agent.invalid/",
                Some(PAGE_HOST),
                Verdict::Refused,
            ),
            (
                "GET",
                "http://renkei-agent.invalid:81/",
                Some(PAGE_HOST),
                Verdict::Refused,
            ),
            (
                "GET",
                "http://evil.test/",
                Some("evil.test"),
                Verdict::Refused,
            ),
            (
                "GET",
                "http://renkei-agent.invalid.evil.test/",
                None,
                Verdict::Refused,
            ),
            ("PUT", page, Some(PAGE_HOST), Verdict::Refused),
            ("OPTIONS", page, Some(PAGE_HOST), Verdict::Refused),
            ("OPTIONS", "*", Some(PAGE_HOST), Verdict::Refused),
        ];
        for (method, uri, host, expected) in cases {
            assert_eq!(
                verdict(method, uri, host),
                expected,
                "{method} {uri} {host:?}"
            );
        }
    }
}
