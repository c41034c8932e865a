//! The gateway's certificates and keys, and the TLS settings made from them.
//!
//! Everything is loaded and checked once at start. TLS is 1.3 and nothing older, with ring.
//! No secret is logged; errors name the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::agent_api::TUNNEL_ALPN;
use protocol::{Bytes32, GatewayName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::DefaultTimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha2::{Digest as _, Sha256};

use crate::config::TlsFiles;

/// What `portal gateway add` made for this gateway.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    service_authority: RootCertStore,
    device_authority: RootCertStore,
}

/// Why the identity cannot be used. The text names the file.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is missing, unreadable or no PEM of the kind needed.
    #[error("cannot use {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate is another gateway's.
    #[error("the certificate in {path} is not made for {name}")]
    OtherName {
        /// The file.
        path: PathBuf,
        /// The name that was looked for.
        name: String,
    },
    /// Certificate and key do not fit each other, or TLS refuses them.
    #[error("certificate and key unusable for TLS")]
    Tls(#[source] rustls::Error),
    /// The device authority cannot check anything.
    #[error("device authority unusable")]
    Authority(#[source] rustls::server::VerifierBuilderError),
    /// The settings for QUIC cannot be made.
    #[error("certificates unusable for the tunnel")]
    Tunnel(#[source] tunnel::tls::TlsError),
}

impl Identity {
    /// Reads the folder and checks that the certificate is `name`'s.
    ///
    /// # Errors
    /// [`IdentityError`], which names the file.
    pub fn load(folder: &Path, name: &GatewayName) -> Result<Self, IdentityError> {
        let certificate = folder.join("certificate.pem");
        let chain = read_chain(&certificate)?;
        let expected = name.certificate_name();
        if !is_for(&chain, &expected) {
            return Err(IdentityError::OtherName {
                path: certificate,
                name: expected,
            });
        }
        Ok(Self {
            chain,
            key: read_key(&folder.join("key.pem"))?,
            service_authority: read_authority(&folder.join("service-authority.pem"))?,
            device_authority: read_authority(&folder.join("device-authority.pem"))?,
        })
    }

    /// Settings of the agent API: a client certificate is optional, but one that is shown
    /// must be the device authority's. `public` replaces the gateway's own certificate.
    ///
    /// # Errors
    /// [`IdentityError`] if a file or the certificate cannot be used.
    pub fn agent_api(&self, public: Option<&TlsFiles>) -> Result<Arc<ServerConfig>, IdentityError> {
        let (chain, key) = match public {
            Some(files) => (
                read_chain(&files.certificate_file)?,
                read_key(&files.key_file)?,
            ),
            None => (self.chain.clone(), self.key.clone_key()),
        };
        // Without hints: a stranger need not learn whose door this is.
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.device_authority.clone()),
            provider(),
        )
        .allow_unauthenticated()
        .clear_root_hint_subjects()
        .build()
        .map_err(IdentityError::Authority)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(IdentityError::Tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(IdentityError::Tls)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Each connection starts from the certificates.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// Settings towards the portal's control listener: certificates both ways.
    ///
    /// # Errors
    /// [`IdentityError::Tls`] if the certificate cannot be used.
    pub fn towards_portal(&self) -> Result<ClientConfig, IdentityError> {
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(IdentityError::Tls)?
            .with_root_certificates(self.service_authority.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(IdentityError::Tls)
    }

    /// Settings of QUIC inside the tunnel: certificates both ways.
    ///
    /// # Errors
    /// [`IdentityError::Tunnel`] if the certificate cannot be used.
    pub fn inside_tunnel(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let identity = tunnel::tls::Identity {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        };
        tunnel::tls::server_config(
            identity,
            self.device_authority.clone(),
            TUNNEL_ALPN,
            Arc::new(DefaultTimeProvider),
        )
        .map_err(IdentityError::Tunnel)
    }
}

/// The name that a grant knows a device's certificate by.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Bytes32 {
    Bytes32(Sha256::digest(certificate).into())
}

fn is_for(chain: &[CertificateDer<'static>], name: &str) -> bool {
    let Some(leaf) = chain.first() else {
        return false;
    };
    let certificate = rustls::server::ParsedCertificate::try_from(leaf);
    let name = ServerName::try_from(name);
    match (certificate, name) {
        (Ok(certificate), Ok(name)) => {
            rustls::client::verify_server_name(&certificate, &name).is_ok()
        }
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(path, error))?;
    if chain.is_empty() {
        return Err(unusable(path, "there is no certificate in it"));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(path, error))
}

fn read_authority(path: &Path) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(path, error))?;
    }
    Ok(roots)
}

fn unusable(path: &Path, reason: impl ToString) -> IdentityError {
    IdentityError::File {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
