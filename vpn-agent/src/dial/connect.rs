//! Asks an HTTP proxy for a connection (`CONNECT`, RFC 9110 §9.3.6).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::head::{self, Body, Head, HeadError};
use super::sign_on::{self, Dialogue, Unmet};

/// Largest page behind a refusal that is read to keep the connection, in bytes.
const BODY_LIMIT_BYTES: u64 = 256 * 1024;

/// Why a proxy did not help.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It cannot be reached.
    #[error("cannot reach the proxy")]
    Unreachable {
        /// Which, without its password.
        proxy: String,
        /// What the system said.
        source: io::Error,
    },
    /// It wants a user name and password, or others (status 407).
    #[error("the proxy wants another user name and password")]
    WantsPassword,
    /// It does not believe the user who is signed in at the PC, or the system has nothing to
    /// tell it.
    #[error("the proxy does not accept the user who is signed in")]
    SignOn(#[source] Option<io::Error>),
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
            Self::SignOn(_) => "会社のプロキシサーバーが、このパソコンにログインしている利用者を認めませんでした。いったんWindowsにログインし直しても続くときは、社内のシステム担当者に、基金の接続口への通信の許可を依頼してください。".to_owned(),
            Self::Refused(status) => format!(
                "会社のプロキシサーバーが、基金への接続を許可しませんでした（状態{status}）。社内のシステム担当者に、基金の接続口への通信の許可を依頼してください。"
            ),
            Self::Cut(_) | Self::Silent | Self::NotAProxy => {
                "会社のプロキシサーバーから正しい応答がありませんでした。社内のシステム担当者にプロキシの設定をご確認ください。".to_owned()
            }
        }
    }
}

/// What a proxy's answer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The connection leads to the gateway from here.
    Connected,
    /// The proxy hangs up and must be called again, with the same dialogue.
    CallAgain,
}

/// Asks the proxy at the other end of `stream` to connect to `host:port`, in as many legs as it
/// takes to tell it who asks.
pub(super) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    dialogue: &mut Dialogue<'_>,
    host: &str,
    port: u16,
) -> Result<Asked, ProxyError> {
    while dialogue.begins_leg() {
        let mut request = Zeroizing::new(format!(
            "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        ));
        if let Some(authorization) = dialogue.next_words() {
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
            200..=299 if answer.rest.is_empty() => return Ok(Asked::Connected),
            200..=299 => return Err(ProxyError::NotAProxy),
            407 => {
                let challenges = sign_on::challenges(&answer.challenges);
                let begun = dialogue.is_talking();
                dialogue.answer(&challenges).await?;
                match (skip_body(stream, &answer).await?, begun) {
                    (true, _) => {}
                    (false, false) => return Ok(Asked::CallAgain),
                    // A conversation belongs to its connection.
                    (false, true) => {
                        return Err(ProxyError::Cut(io::ErrorKind::ConnectionReset.into()));
                    }
                }
            }
            status => return Err(ProxyError::Refused(status)),
        }
    }
    Err(ProxyError::SignOn(None))
}

/// Reads what stands behind the head of a refusal. False if the connection cannot go on.
async fn skip_body(stream: &mut (impl AsyncRead + Unpin), head: &Head) -> Result<bool, ProxyError> {
    if !head.keeps {
        return Ok(false);
    }
    let mut rest = head.rest.len() as u64;
    match head.body {
        Body::Length(length) if length > BODY_LIMIT_BYTES => Ok(false),
        Body::Length(length) if rest > length => Err(ProxyError::NotAProxy),
        Body::Length(length) => {
            let mut buffer = [0; 4096];
            while rest < length {
                let room = usize::try_from(length - rest)
                    .map_or(buffer.len(), |left| left.min(buffer.len()));
                match stream.read(&mut buffer[..room]).await {
                    Ok(0) => return Err(ProxyError::Cut(io::ErrorKind::UnexpectedEof.into())),
                    Ok(read) => rest += read as u64,
                    Err(error) => return Err(ProxyError::Cut(error)),
                }
            }
            Ok(true)
        }
        // Only old proxies send such pages; a fresh connection costs one round trip.
        Body::Chunked | Body::UntilEnd => Ok(false),
    }
}

impl From<Unmet> for ProxyError {
    fn from(unmet: Unmet) -> Self {
        match unmet {
            Unmet::Password => Self::WantsPassword,
            Unmet::SignOn(error) => Self::SignOn(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::DuplexStream;

    use super::super::settings::ProxyUrl;
    use super::sign_on::{MAX_LEGS, Scheme, SignOn, SignOns};
    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";

    /// A proxy that answers as written: one list for each connection.
    #[derive(Clone, Default)]
    struct Script {
        answers: Arc<Mutex<Vec<Vec<String>>>>,
        requests: Arc<Mutex<Vec<String>>>,
    }

    impl Script {
        fn new(connections: &[&[&str]]) -> Self {
            let answers = connections.iter().rev();
            let owned = |answers: &&[&str]| answers.iter().map(|text| (*text).to_owned()).collect();
            Self {
                answers: Arc::new(Mutex::new(answers.map(owned).collect())),
                requests: Arc::default(),
            }
        }

        fn connect(&self) -> Result<DuplexStream, ProxyError> {
            let unreachable = || ProxyError::Unreachable {
                proxy: "proxy".into(),
                source: io::ErrorKind::ConnectionRefused.into(),
            };
            let answers = self.answers.lock().unwrap().pop().ok_or_else(unreachable)?;
            let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
            let requests = self.requests.clone();
            tokio::spawn(async move {
                for answer in answers {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        match theirs.read_u8().await {
                            Ok(byte) => request.push(byte),
                            Err(_) => return,
                        }
                    }
                    let request = String::from_utf8(request).unwrap();
                    requests.lock().unwrap().push(request);
                    theirs.write_all(answer.as_bytes()).await.unwrap();
                }
            });
            Ok(ours)
        }

        async fn asked(&self, proxy: &str, sign_ons: SignOns) -> Result<(), ProxyError> {
            let proxy: ProxyUrl = proxy.parse().unwrap();
            let mut dialogue = Dialogue::new(&proxy, sign_ons);
            loop {
                let mut stream = self.connect()?;
                match ask(&mut stream, &mut dialogue, "gw.example.jp", 443).await? {
                    Asked::Connected => return Ok(()),
                    Asked::CallAgain => {}
                }
            }
        }

        /// What stood in `Proxy-Authorization`, request by request.
        fn said(&self) -> Vec<Option<String>> {
            let requests = self.requests.lock().unwrap();
            let said = |request: &String| {
                let mut lines = request.lines();
                lines.find_map(|line| Some(line.strip_prefix("Proxy-Authorization: ")?.to_owned()))
            };
            requests.iter().map(said).collect()
        }
    }

    /// Says `one`, and `two` to the challenge `what`.
    struct Partner;

    impl SignOn for Partner {
        fn step(&mut self, challenge: Option<&[u8]>) -> io::Result<Zeroizing<Vec<u8>>> {
            match challenge {
                None => Ok(Zeroizing::new(b"one".to_vec())),
                Some(b"what") => Ok(Zeroizing::new(b"two".to_vec())),
                Some(_) => Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    fn nobody(_: Scheme, _: &str) -> Option<Box<dyn SignOn>> {
        None
    }

    fn negotiates(scheme: Scheme, host: &str) -> Option<Box<dyn SignOn>> {
        assert_eq!(host, "proxy");
        (scheme == Scheme::Negotiate).then(|| Box::new(Partner) as Box<dyn SignOn>)
    }

    fn ntlm(scheme: Scheme, _: &str) -> Option<Box<dyn SignOn>> {
        (scheme == Scheme::Ntlm).then(|| Box::new(Partner) as Box<dyn SignOn>)
    }

    fn wants(challenges: &str) -> String {
        let fields: String = challenges
            .split('|')
            .map(|challenge| format!("Proxy-Authenticate: {challenge}\r\n"))
            .collect();
        format!("HTTP/1.1 407 Authentication\r\n{fields}Content-Length: 5\r\n\r\nsorry")
    }

    #[tokio::test]
    async fn a_proxy_is_asked_as_it_wants_to_be() {
        let script = Script::new(&[&["HTTP/1.0 200 OK\r\n\r\n"]]);
        script
            .asked("http://u%40x:p%3aw@proxy:8080", nobody)
            .await
            .unwrap();
        assert_eq!(
            *script.requests.lock().unwrap(),
            [
                "CONNECT gw.example.jp:443 HTTP/1.1\r\nHost: gw.example.jp:443\r\nProxy-Authorization: Basic dUB4OnA6dw==\r\n\r\n"
            ]
        );
        let script = Script::new(&[&[OK]]);
        script.asked("http://proxy:8080", nobody).await.unwrap();
        assert_eq!(script.said(), [None]);
    }

    #[tokio::test]
    async fn who_is_signed_in_is_told_in_several_legs_on_one_connection() {
        let script = Script::new(&[&[
            &wants("Negotiate|NTLM|Basic realm=\"x\""),
            &wants("Negotiate d2hhdA=="),
            OK,
        ]]);
        script.asked("http://proxy", negotiates).await.unwrap();
        let one = Some("Negotiate b25l".to_owned());
        let two = Some("Negotiate dHdv".to_owned());
        assert_eq!(script.said(), [None, one, two]);

        // Where only NTLM is known, in one line with the others.
        let script = Script::new(&[&[
            &wants("Negotiate, NTLM, Basic realm=\"a, b\""),
            &wants("NTLM d2hhdA=="),
            OK,
        ]]);
        script.asked("http://proxy", ntlm).await.unwrap();
        assert_eq!(script.said()[2].as_deref(), Some("NTLM dHdv"));
    }

    #[tokio::test]
    async fn a_proxy_that_hangs_up_after_its_first_answer_is_called_again() {
        let closing = "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let old = "HTTP/1.0 407 No\r\nProxy-Authenticate: Negotiate\r\n\r\n<html>";
        let long =
            "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 99999999\r\n\r\n";
        let chunked = "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        for first in [closing, old, long, chunked] {
            let script = Script::new(&[&[first], &[&wants("Negotiate d2hhdA=="), OK]]);
            script.asked("http://proxy", negotiates).await.unwrap();
            assert_eq!(script.said().len(), 3);
        }
        // In the middle of a conversation it breaks it off.
        let script = Script::new(&[&[&wants("Negotiate"), closing], &[OK]]);
        let error = script.asked("http://proxy", negotiates).await.unwrap_err();
        assert!(matches!(error, ProxyError::SignOn(None)), "{error:?}");
    }

    #[tokio::test]
    async fn a_refused_user_is_told_and_no_password_is_sent_instead() {
        let all = wants("Negotiate|Basic realm=\"x\"");
        let script = Script::new(&[&[&all, &all, OK]]);
        let url = "http://proxy";
        let error = script.asked(url, negotiates).await.unwrap_err();
        assert!(matches!(error, ProxyError::SignOn(None)), "{error:?}");
        assert!(error.page_text().contains("ログイン"));

        let rubbish = wants("Negotiate cnViYmlzaA==");
        let script = Script::new(&[&[&wants("Negotiate"), &rubbish, OK]]);
        let error = script.asked(url, negotiates).await.unwrap_err();
        assert!(matches!(error, ProxyError::SignOn(Some(_))), "{error:?}");
        let no_base64 = wants("Negotiate ====");
        let script = Script::new(&[&[&wants("Negotiate"), &no_base64, OK]]);
        assert!(script.asked(url, negotiates).await.is_err());
    }

    #[tokio::test]
    async fn a_proxy_that_never_has_enough_is_left_after_some_legs() {
        let again = wants("Negotiate d2hhdA==");
        let answers = vec![&*again; 50];
        let script = Script::new(&[&answers]);
        let error = script.asked("http://proxy", negotiates).await.unwrap_err();
        assert!(matches!(error, ProxyError::SignOn(None)), "{error:?}");
        assert_eq!(script.said().len(), MAX_LEGS);
    }

    #[tokio::test]
    async fn a_wrong_password_is_not_sent_twice() {
        let basic = wants("Basic realm=\"x\"");
        let script = Script::new(&[&[&basic, &basic, OK]]);
        let error = script.asked("http://u:p@proxy", nobody).await.unwrap_err();
        assert!(matches!(error, ProxyError::WantsPassword), "{error:?}");
        assert_eq!(script.said().len(), 1);
    }

    #[tokio::test]
    async fn whatever_a_proxy_answers_has_a_name() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(20_000));
        let cases: [(&str, &str); 8] = [
            ("HTTP/1.1 407 Authentication\r\n\r\n", "WantsPassword"),
            ("HTTP/1.1 403 Forbidden\r\n\r\n", "Refused(403)"),
            ("HTTP/1.1 302 Found\r\n\r\n", "Refused(302)"),
            ("HTTP/1.1 200 OK\r\n\r\n<html>", "NotAProxy"),
            ("SSH-2.0-OpenSSH\r\n\r\n", "NotAProxy"),
            (&long, "NotAProxy"),
            ("\0\0\0\0", "NotAProxy"),
            ("HTTP/1.1 407 No\r\nContent-Length: x\r\n\r\n", "NotAProxy"),
        ];
        for (answer, name) in cases {
            let script = Script::new(&[&[answer]]);
            let error = script.asked("http://proxy", nobody).await.unwrap_err();
            assert_eq!(format!("{error:?}"), name);
            assert!(error.page_text().contains("プロキシ"));
        }
    }
}
