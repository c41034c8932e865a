//! Mail by SMTP, always under TLS, over connections that are kept open.

use std::time::{Duration, SystemTime};

use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{Error as LettreError, PoolConfig};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use super::{Outgoing, SendError, Transport};
use crate::config::{Smtp as SmtpConfig, SmtpSecurity};

/// How long the server may take for each step.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may take for a whole mail; under the outbox's claim.
const MAIL_TIMEOUT: Duration = Duration::from_secs(45);
/// Connections kept at most.
const CONNECTIONS_MAX: u32 = 4;
/// How long an unused connection is kept.
const CONNECTION_IDLE: Duration = Duration::from_secs(60);

/// The mail server.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// The mail server's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SmtpConfigError {
    /// `smtp.from` is no `Name <address>`.
    #[error("smtp.from is no mail address")]
    From(#[source] lettre::address::AddressError),
    /// `smtp.ca_file` cannot be read.
    #[error("cannot read smtp.ca_file")]
    CaFile(#[source] std::io::Error),
    /// `smtp.ca_file` or `smtp.host` cannot be used.
    #[error("cannot set up TLS for smtp.host, or smtp.ca_file is no certificate")]
    Tls(#[source] LettreError),
}

impl Smtp {
    /// Reads the configuration; connects when the first mail goes out.
    pub fn new(config: &SmtpConfig) -> Result<Self, SmtpConfigError> {
        let mut tls = TlsParameters::builder(config.host.clone());
        if let Some(path) = &config.ca_file {
            let pem = std::fs::read(path).map_err(SmtpConfigError::CaFile)?;
            tls = tls
                .add_root_certificate(Certificate::from_pem(&pem).map_err(SmtpConfigError::Tls)?);
        }
        let tls = tls.build_rustls().map_err(SmtpConfigError::Tls)?;
        let tls = match config.security {
            SmtpSecurity::Starttls => Tls::Required(tls),
            SmtpSecurity::Tls => Tls::Wrapper(tls),
        };
        let mut builder =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(config.host.as_str())
                .port(config.port)
                .tls(tls)
                .timeout(Some(STEP_TIMEOUT))
                .pool_config(
                    PoolConfig::new()
                        .max_size(CONNECTIONS_MAX)
                        .idle_timeout(CONNECTION_IDLE),
                );
        if let (Some(user), Some(password)) = (&config.user, &config.password) {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        Ok(Self {
            transport: builder.build(),
            from: config.from.parse().map_err(SmtpConfigError::From)?,
        })
    }

    fn message(&self, mail: &Outgoing) -> Result<Message, SendError> {
        let to = mail
            .to
            .parse()
            .map(|address| Mailbox::new(None, address))
            .map_err(|_| SendError::Refused("unreadable".to_owned()))?;
        let id = format!("<{}@{}>", mail.id, self.from.email.domain());
        Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(mail.subject.clone())
            .date(SystemTime::from(mail.written))
            .message_id(Some(id))
            .header(ContentType::TEXT_PLAIN)
            .header(ContentTransferEncoding::Base64)
            .body(mail.body.clone())
            .map_err(|_| SendError::Never("cannot be composed".to_owned()))
    }
}

impl Transport for Smtp {
    async fn send(&self, mail: &Outgoing) -> Result<(), SendError> {
        let message = self.message(mail)?;
        match tokio::time::timeout(MAIL_TIMEOUT, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(without_text(&error)),
            Err(_) => Err(SendError::NotNow("timeout".to_owned())),
        }
    }
}

/// Only the kind and the code: servers repeat the recipient in their texts.
fn without_text(error: &LettreError) -> SendError {
    let code = error.status().map(|code| code.to_string());
    if error.is_permanent() {
        let code = code.unwrap_or_default();
        // 530–535 and 538: the server wants another sign-in of ours; a correction helps.
        if code.starts_with("53") {
            return SendError::NotNow(format!("server refused our sign-in ({code})"));
        }
        // 550–553: the mailbox (RFC 5321, 4.2.3). Anything else may be about the mail or about us.
        if ["550", "551", "552", "553"].contains(&code.as_str()) {
            return SendError::Refused(code);
        }
        return SendError::Never(format!("server refused it ({code})"));
    }
    SendError::NotNow(match code {
        Some(code) => format!("server says later ({code})"),
        None if error.is_timeout() => "timeout".to_owned(),
        None if error.is_tls() => "TLS failed".to_owned(),
        None => "no connection".to_owned(),
    })
}

#[cfg(test)]
mod tests;
