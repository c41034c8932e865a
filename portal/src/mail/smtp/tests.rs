//! Mail over real sockets, under STARTTLS and TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use time::macros::datetime;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::testing::people::config;

fn mail() -> Outgoing {
    Outgoing {
        id: "0199".to_owned(),
        written: datetime!(2026-11-20 09:05 +9),
        to: "tanaka@example.co.jp".to_owned(),
        subject: "【見本企業年金基金】お知らせ".to_owned(),
        body: "本文です。\n".to_owned(),
    }
}

/// A mail server on loopback that speaks just enough SMTP.
struct Server {
    config: SmtpConfig,
    mails: mpsc::UnboundedReceiver<String>,
    connections: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

/// What the server answers to a recipient.
#[derive(Clone, Copy)]
enum Recipients {
    Taken,
    Unknown,
    Later,
}

impl Server {
    async fn start(security: SmtpSecurity, recipients: Recipients) -> Self {
        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("mail.pem");
        std::fs::write(&ca_file, certified.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, mails) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(
                    stream,
                    tls.clone(),
                    security,
                    recipients,
                    sender.clone(),
                ));
            }
        });
        let config = SmtpConfig {
            host: "127.0.0.1".to_owned(),
            port,
            security,
            ca_file: Some(ca_file),
            ..config().smtp
        };
        Self {
            config,
            mails,
            connections,
            _folder: folder,
        }
    }
}

async fn serve(
    stream: TcpStream,
    tls: TlsAcceptor,
    security: SmtpSecurity,
    recipients: Recipients,
    mails: mpsc::UnboundedSender<String>,
) -> Option<()> {
    match security {
        SmtpSecurity::Tls => {
            let mut stream = BufReader::new(tls.accept(stream).await.ok()?);
            say(&mut stream, "220 mail").await?;
            talk(&mut stream, false, recipients, &mails).await
        }
        SmtpSecurity::Starttls => {
            let mut plain = BufReader::new(stream);
            say(&mut plain, "220 mail").await?;
            // Ends at STARTTLS; whoever goes on in plain text is not served.
            talk(&mut plain, true, recipients, &mails).await?;
            let mut stream = BufReader::new(tls.accept(plain.into_inner()).await.ok()?);
            talk(&mut stream, false, recipients, &mails).await
        }
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    line: &str,
) -> Option<()> {
    stream
        .write_all(format!("{line}\r\n").as_bytes())
        .await
        .ok()?;
    stream.flush().await.ok()
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    plain: bool,
    recipients: Recipients,
    mails: &mpsc::UnboundedSender<String>,
) -> Option<()> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let verb = line.split_whitespace().next().unwrap_or_default();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" if plain => say(stream, "250-mail\r\n250 STARTTLS").await?,
            "EHLO" => say(stream, "250 mail").await?,
            "STARTTLS" if plain => return say(stream, "220 go").await,
            _ if plain => say(stream, "530 TLS first").await?,
            "RCPT" => {
                let answer = match recipients {
                    Recipients::Taken => "250 ok",
                    Recipients::Unknown => "550 <tanaka@example.co.jp>: no such user",
                    Recipients::Later => "451 <tanaka@example.co.jp>: greylisted",
                };
                say(stream, answer).await?;
            }
            "DATA" => {
                say(stream, "354 go").await?;
                let mut text = String::new();
                while !text.ends_with("\r\n.\r\n") {
                    if stream.read_line(&mut text).await.ok()? == 0 {
                        return None;
                    }
                }
                mails.send(text).ok()?;
                say(stream, "250 taken").await?;
            }
            "QUIT" => return say(stream, "221 bye").await,
            _ => say(stream, "250 ok").await?,
        }
    }
}

#[tokio::test]
async fn a_mail_arrives_under_starttls_and_under_tls_and_the_connection_is_kept() {
    for security in [SmtpSecurity::Starttls, SmtpSecurity::Tls] {
        let mut server = Server::start(security, Recipients::Taken).await;
        let smtp = Smtp::new(&server.config).unwrap();
        for _ in 0..3 {
            smtp.send(&mail()).await.unwrap();
            let text = server.mails.recv().await.unwrap();
            let body = base64::engine::general_purpose::STANDARD.encode("本文です。\r\n");
            assert!(text.contains(&body), "{text}");
            assert!(text.contains("To: tanaka@example.co.jp\r\n"), "{text}");
            // The connection is put back by a task of its own.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn refusals_are_told_apart_and_never_repeat_the_address() {
    for (recipients, never) in [(Recipients::Unknown, true), (Recipients::Later, false)] {
        let server = Server::start(SmtpSecurity::Tls, recipients).await;
        let smtp = Smtp::new(&server.config).unwrap();
        let error = smtp.send(&mail()).await.unwrap_err();
        assert_eq!(matches!(error, SendError::Refused(_)), never, "{error}");
        assert!(!error.to_string().contains("tanaka"), "{error}");
    }
}

#[tokio::test]
async fn a_server_with_an_unknown_certificate_gets_no_mail() {
    for security in [SmtpSecurity::Starttls, SmtpSecurity::Tls] {
        let mut server = Server::start(security, Recipients::Taken).await;
        let config = SmtpConfig {
            ca_file: None,
            ..server.config.clone()
        };
        let error = Smtp::new(&config).unwrap().send(&mail()).await.unwrap_err();
        assert!(matches!(error, SendError::NotNow(_)), "{error}");
        assert!(server.mails.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_tried_again_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = SmtpConfig {
        port: listener.local_addr().unwrap().port(),
        ..config().smtp
    };
    drop(listener);
    let error = Smtp::new(&config).unwrap().send(&mail()).await.unwrap_err();
    assert_eq!(error, SendError::NotNow("no connection".to_owned()));
}

#[tokio::test]
async fn a_mail_keeps_its_message_id_at_every_try() {
    let smtp = Smtp::new(&config().smtp).unwrap();
    let [first, second] = [(); 2].map(|()| smtp.message(&mail()).unwrap().formatted());
    assert_eq!(first, second);
    let text = String::from_utf8(first).unwrap();
    assert!(text.contains("Message-ID: <0199@example.jp>\r\n"), "{text}");
    assert!(
        text.contains("Date: Fri, 20 Nov 2026 00:05:00 +0000\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn an_address_that_cannot_be_written_to_is_given_up() {
    let smtp = Smtp::new(&config().smtp).unwrap();
    let mail = Outgoing {
        to: "no address".to_owned(),
        ..mail()
    };
    assert!(matches!(smtp.message(&mail), Err(SendError::Refused(_))));
}
