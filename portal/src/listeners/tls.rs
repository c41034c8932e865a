//! The listeners' certificates and TLS settings.
//!
//! A certificate comes from the configured files, or from the fund's own service authority.
//! Either is looked at again every hour: renewed files are taken over without a restart,
//! and own certificates never grow old. The provider is ring; control speaks TLS 1.3 only.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::app::App;
use crate::authority::{Identity, IssueError};
use crate::config::Pages;
use crate::web::page_error::chain;

/// How often certificates are looked at.
const RENEWAL: Duration = Duration::from_secs(60 * 60);

/// A listener has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A configured file cannot be read, or holds no such thing.
    #[error("cannot use {path}: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// One of the two files is missing in the configuration.
    #[error("{0}.certificate_file and {0}.key_file must be given together")]
    OneFile(&'static str),
    /// The URL names no host.
    #[error("{0}.url must be https://host/ or https://host:port/")]
    NoHost(&'static str),
    /// The authority refuses the host.
    #[error("no certificate for {what}")]
    Issue {
        /// Which listener.
        what: &'static str,
        /// Why.
        #[source]
        source: IssueError,
    },
    /// Certificate and key do not fit each other, or TLS refuses them.
    #[error("certificate for {what} unusable")]
    Unusable {
        /// Which listener.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// Gateways' certificates cannot be checked.
    #[error("service authority unusable")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// The certificates of all listeners, kept fresh.
#[derive(Debug, Clone)]
pub struct Certificates {
    member: Arc<Fresh>,
    office: Arc<Fresh>,
    control: Arc<Fresh>,
}

/// A certificate that can be replaced while connections come in.
#[derive(Debug)]
struct Fresh(RwLock<Arc<CertifiedKey>>);

impl Certificates {
    /// Loads or makes them.
    pub fn load(app: &App) -> Result<Self, TlsError> {
        Ok(Self {
            member: Fresh::new(member(app)?),
            office: Fresh::new(office(app)?),
            control: Fresh::new(control(app)?),
        })
    }

    /// Looks at them every hour, for ever. What cannot be renewed stays.
    pub async fn keep_fresh(self, app: App) {
        loop {
            tokio::time::sleep(RENEWAL).await;
            let renewed = [
                (&self.member, member(&app)),
                (&self.office, office(&app)),
                (&self.control, control(&app)),
            ];
            for (fresh, renewed) in renewed {
                match renewed {
                    Ok(renewed) => fresh.replace(renewed),
                    Err(error) => {
                        tracing::error!(error = %chain(&error), "certificate not renewed");
                    }
                }
            }
        }
    }

    /// Settings of the member listener.
    pub fn member(&self) -> Arc<ServerConfig> {
        for_people(self.member.clone())
    }

    /// Settings of the office listener.
    pub fn office(&self) -> Arc<ServerConfig> {
        for_people(self.office.clone())
    }

    /// Settings of the control listener: no certificate of the service authority, no entry.
    pub fn control(&self, app: &App) -> Result<Arc<ServerConfig>, TlsError> {
        let mut roots = RootCertStore::empty();
        roots
            .add(app.authorities.service_certificate().clone())
            .map_err(|source| TlsError::Unusable {
                what: "control",
                source,
            })?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(TlsError::Verifier)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|source| TlsError::Unusable {
                what: "control",
                source,
            })?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.control.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Each connection starts from the certificates.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl Fresh {
    fn new(key: CertifiedKey) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(key))))
    }

    fn replace(&self, key: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }
}

impl ResolvesServerCert for Fresh {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.0
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

fn for_people(certificate: Arc<Fresh>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("ring has cipher suites for both versions")
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn member(app: &App) -> Result<CertifiedKey, TlsError> {
    let (what, now) = ("member", app.clock.now());
    pages(what, &app.config.member, |host| {
        app.authorities.issue_member_pages(host, now)
    })
}

fn office(app: &App) -> Result<CertifiedKey, TlsError> {
    let (what, now) = ("office", app.clock.now());
    pages(what, &app.config.office, |host| {
        app.authorities.issue_office_pages(host, now)
    })
}

fn control(app: &App) -> Result<CertifiedKey, TlsError> {
    let issued = app.authorities.issue_control(app.clock.now());
    own("control", issued)
}

/// Reads the configured certificate, or has one issued for the host of the URL.
fn pages(
    what: &'static str,
    pages: &Pages,
    issue: impl FnOnce(&str) -> Result<Identity, IssueError>,
) -> Result<CertifiedKey, TlsError> {
    match (&pages.certificate_file, &pages.key_file) {
        (Some(certificate), Some(key)) => certified(what, read_chain(certificate)?, read_key(key)?),
        (None, None) => {
            let host = host(&pages.url).ok_or(TlsError::NoHost(what))?;
            own(what, issue(host))
        }
        (Some(_), None) | (None, Some(_)) => Err(TlsError::OneFile(what)),
    }
}

fn own(what: &'static str, issued: Result<Identity, IssueError>) -> Result<CertifiedKey, TlsError> {
    let identity = issued.map_err(|source| TlsError::Issue { what, source })?;
    certified(what, vec![identity.certificate], identity.key)
}

fn certified(
    what: &'static str,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(chain, key, &provider())
        .map_err(|source| TlsError::Unusable { what, source })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unusable = |reason: String| TlsError::File {
        path: path.to_owned(),
        reason,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable("no certificate in it".to_owned()));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The host in `https://host/` or `https://host:port/`.
fn host(url: &str) -> Option<&str> {
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => authority
            .split_once(':')
            .map_or(authority, |(host, _)| host),
    };
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found_in_a_url() {
        for (url, expected) in [
            ("https://renkei.example.jp/", Some("renkei.example.jp")),
            ("https://renkei.example.jp:8443/", Some("renkei.example.jp")),
            ("https://127.0.0.1:8443/", Some("127.0.0.1")),
            ("https://[::1]:8443/", Some("::1")),
            ("https://renkei.example.jp", Some("renkei.example.jp")),
            ("http://renkei.example.jp/", None),
            ("https:///", None),
        ] {
            assert_eq!(host(url), expected, "{url}");
        }
    }
}
