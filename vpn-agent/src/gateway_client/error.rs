//! What can go wrong between agent and gateway, for the log and for the user.

use std::error::Error as _;
use std::fmt::Write as _;

use protocol::agent_api::Refusal;
use rustls::CertificateError;

use crate::device_key::KeyError;
use crate::dial::{DialError, ProxyError};

/// Why a request got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The portal, or the gateway for it, said no. Its sentence is for the user.
    #[error("refused: {:?}", .0.code)]
    Refused(Refusal),
    /// The certificate's dates do not fit the time that the PC goes by.
    #[error("the server's certificate is not valid at the time of this PC's clock")]
    WrongDates,
    /// The certificate is not one that this PC believes.
    #[error("the server's certificate is not trusted")]
    Untrusted(#[source] DialError),
    /// The company's proxy does not let this PC through.
    #[error("the proxy does not connect to the gateway")]
    Proxy(#[source] ProxyError),
    /// No connection.
    #[error("the gateway cannot be reached")]
    Unreachable(#[source] DialError),
    /// A connection that did not last until the answer.
    #[error("the gateway broke off")]
    Cut(#[source] hyper::Error),
    /// No answer in time.
    #[error("the gateway gives no answer")]
    Silent,
    /// The other end does not speak the agent API.
    #[error("not an answer of the agent API: {0}")]
    BadAnswer(String),
    /// The list of gateways is empty.
    #[error("no gateway is known")]
    NoGateway,
    /// The roots or certificates of this PC cannot be used.
    #[error("cannot set up TLS: {0}")]
    Trust(String),
    /// The PC's own key failed.
    #[error(transparent)]
    Own(#[from] KeyError),
}

impl ApiError {
    /// Sorts out why there is no connection.
    pub(crate) fn from_dial(error: DialError) -> Self {
        match tls_error(&error) {
            Some(rustls::Error::InvalidCertificate(found)) if has_wrong_dates(found) => {
                Self::WrongDates
            }
            Some(rustls::Error::InvalidCertificate(_)) => Self::Untrusted(error),
            found => match (found.and_then(own_key_error), error) {
                (Some(own), _) => Self::Own(own),
                (None, DialError::Proxy(error)) => Self::Proxy(error),
                (None, error) => Self::Unreachable(error),
            },
        }
    }

    /// The error with all its causes, for the log.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        text
    }

    /// What the user is told.
    pub fn page_text(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.sentence.clone(),
            Self::WrongDates => {
                "このパソコンの日付または時刻が正しくないため、接続先を確認できませんでした。パソコンの日付と時刻を合わせてから、もう一度お試しください。".to_owned()
            }
            Self::Untrusted(_) => {
                "接続先が基金のものであることを確認できませんでした。会社のネットワーク機器が通信を検査している場合があります。社内のシステム担当者または基金事務局へお問い合わせください。".to_owned()
            }
            Self::Proxy(error) => error.page_text(),
            Self::Unreachable(_) | Self::Cut(_) | Self::Silent => {
                "基金の接続口に届きませんでした。インターネットにつながっていることを確認し、しばらくしてからもう一度お試しください。".to_owned()
            }
            Self::BadAnswer(_) => {
                "接続先から正しい応答がありませんでした。接続先のアドレスをご確認のうえ、しばらくしてからもう一度お試しください。".to_owned()
            }
            Self::NoGateway => {
                "接続先が登録されていません。もう一度パソコンを登録してください。".to_owned()
            }
            Self::Own(error @ (KeyError::Gone | KeyError::ChipSilent(_))) => {
                error.page_text().to_owned()
            }
            Self::Trust(_) | Self::Own(_) => {
                "このパソコンの鍵または証明書を利用できませんでした。もう一度パソコンを登録してください。".to_owned()
            }
        }
    }
}

/// Whether there is no connection because the certificate's dates do not fit the time that
/// the PC goes by.
pub(crate) fn is_about_dates(error: &DialError) -> bool {
    matches!(
        tls_error(error),
        Some(rustls::Error::InvalidCertificate(found)) if has_wrong_dates(found)
    )
}

/// What became of the PC's own key, if that is why TLS failed.
fn own_key_error(error: &rustls::Error) -> Option<KeyError> {
    match error {
        rustls::Error::Other(other) => other.0.downcast_ref().cloned(),
        _ => None,
    }
}

fn has_wrong_dates(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

/// Finds what TLS said. An `io::Error` hides the error it carries from `source()`, so it is
/// opened by hand.
fn tls_error(error: &DialError) -> Option<&rustls::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = match error
            .downcast_ref::<std::io::Error>()
            .map(|io| io.get_ref())
        {
            Some(carried) => carried.map(|carried| carried as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}
