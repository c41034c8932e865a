//! Asks an HTTP proxy for a connection (`CONNECT`, RFC 9110 §9.3.6).

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::head::{self, HeadError};
use super::settings::ProxyUrl;

/// Why a proxy did not help.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It cannot be reached.
    #[error("cannot reach the proxy {proxy}")]
    Unreachable {
        /// Which, without its password.
        proxy: String,
        /// What the system said.
        source: io::Error,
    },
    /// It wants a user name and password, or others (status 407).
    #[error("the proxy wants another user name and password")]
    WantsPassword,
    /// It may not or cannot connect there.
    #[error("the proxy refused with status {0}")]
    Refused(u16),
    /// It broke off.
    #[error("the proxy broke off")]
    Cut(#[source] io::Error),
    /// It does not answer.
    #[error("the proxy gives no answer")]
    Silent,
    /// It is no HTTP proxy.
    #[error("the answer is not an HTTP proxy's")]
    NotAProxy,
}

impl ProxyError {
    /// What the user is told.
    pub fn page_text(&self) -> String {
        match self {
            Self::Unreachable { proxy, .. } => format!(
                "会社のプロキシサーバー（{proxy}）に届きませんでした。社内のシステム担当者にプロキシの設定をご確認ください。"
            ),
            Self::WantsPassword => "会社のプロキシサーバーが、利用者名とパスワードを求めています。社内のシステム担当者に、プロキシの利用者名とパスワードの設定を依頼してください。".to_owned(),
            Self::Refused(status) => format!(
                "会社のプロキシサーバーが、基金への接続を許可しませんでした（状態{status}）。社内のシステム担当者に、基金の接続口への通信の許可を依頼してください。"
            ),
            Self::Cut(_) | Self::Silent | Self::NotAProxy => {
                "会社のプロキシサーバーから正しい応答がありませんでした。社内のシステム担当者にプロキシの設定をご確認ください。".to_owned()
            }
        }
    }
}

/// Asks the proxy at the other end of `stream` to connect to `host:port`.
pub(super) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &ProxyUrl,
    host: &str,
    port: u16,
) -> Result<(), ProxyError> {
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(authorization) = proxy.authorization() {
        request.push_str("Proxy-Authorization: ");
        request.push_str(&authorization);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    let sent = stream.write_all(request.as_bytes()).await;
    sent.map_err(ProxyError::Cut)?;
    let answer = head::read(stream).await.map_err(|error| match error {
        HeadError::Io(error) => ProxyError::Cut(error),
        HeadError::Garbage => ProxyError::NotAProxy,
    })?;
    match answer.status {
        // TLS speaks first from here: whoever says something already is no gateway.
        200..=299 if answer.rest.is_empty() => Ok(()),
        200..=299 => Err(ProxyError::NotAProxy),
        407 => Err(ProxyError::WantsPassword),
        status => Err(ProxyError::Refused(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    async fn asked(proxy: &str, answer: &[u8]) -> (Result<(), ProxyError>, String) {
        let proxy: ProxyUrl = proxy.parse().unwrap();
        let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
        theirs.write_all(answer).await.unwrap();
        let result = ask(&mut ours, &proxy, "gw.example.jp", 443).await;
        drop(ours);
        let mut request = String::new();
        theirs.read_to_string(&mut request).await.unwrap();
        (result, request)
    }

    #[tokio::test]
    async fn a_proxy_is_asked_as_it_wants_to_be() {
        let (result, request) =
            asked("http://u%40x:p%3aw@proxy:8080", b"HTTP/1.0 200 OK\r\n\r\n").await;
        result.unwrap();
        assert_eq!(
            request,
            "CONNECT gw.example.jp:443 HTTP/1.1\r\nHost: gw.example.jp:443\r\nProxy-Authorization: Basic dUB4OnA6dw==\r\n\r\n"
        );
        let (_, request) = asked("http://proxy:8080", b"HTTP/1.1 200 OK\r\n\r\n").await;
        assert!(!request.contains("Authorization"));
    }

    #[tokio::test]
    async fn whatever_a_proxy_answers_has_a_name() {
        let long = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'x'; 20_000]].concat();
        let cases: [(&[u8], &str); 7] = [
            (b"HTTP/1.1 407 Authentication\r\n\r\n", "WantsPassword"),
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", "Refused(403)"),
            (b"HTTP/1.1 302 Found\r\n\r\n", "Refused(302)"),
            (b"HTTP/1.1 200 OK\r\n\r\n<html>", "NotAProxy"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "NotAProxy"),
            (&long, "NotAProxy"),
            (b"\0\0\0\0", "NotAProxy"),
        ];
        for (answer, name) in cases {
            let (result, _) = asked("http://proxy:8080", answer).await;
            let error = result.unwrap_err();
            assert_eq!(format!("{error:?}"), name);
            assert!(error.page_text().contains("プロキシ"));
        }
    }
}
