//! The TLS 1.3 settings of the QUIC connection inside the tunnel: certificates both ways.
//!
//! No resumption, no early data, no older version: each session's connection starts from
//! the certificates. The crypto provider is ring, named here and not taken from the process.

use std::sync::Arc;

use quinn_proto::crypto::rustls::NoInitialCipherSuite;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A certificate chain, leaf first, and its key.
#[derive(Debug)]
pub struct Identity {
    /// The chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

/// Certificates or keys that TLS cannot be set up with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rustls refuses the certificate or the key.
    #[error("certificate or key unusable")]
    Identity(#[source] rustls::Error),
    /// There is no authority to check the other end's certificate with.
    #[error("authorities unusable")]
    Authorities(#[source] rustls::server::VerifierBuilderError),
    /// The settings lack the cipher suite that QUIC starts with.
    #[error("settings unusable for QUIC")]
    Quic(#[source] NoInitialCipherSuite),
}

/// Makes the PC's settings: its own certificate, and the authority that signs gateways.
/// `clock` is what certificates' dates are checked with: the agent gives the portal's time,
/// for a PC's clock may be a year off.
///
/// # Errors
/// [`TlsError::Identity`] if certificate and key do not fit each other.
pub fn client_config(
    identity: Identity,
    gateway_authorities: RootCertStore,
    alpn: &[u8],
    clock: Arc<dyn TimeProvider>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Identity)?
        .with_root_certificates(gateway_authorities)
        .with_client_auth_cert(identity.chain, identity.key)
        .map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Makes the gateway's settings: its own certificate, and the authority that signs devices.
///
/// # Errors
/// [`TlsError::Identity`] if certificate and key do not fit each other,
/// [`TlsError::Authorities`] if there is no authority.
pub fn server_config(
    identity: Identity,
    device_authorities: RootCertStore,
    alpn: &[u8],
    clock: Arc<dyn TimeProvider>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(device_authorities), provider())
            .build()
            .map_err(TlsError::Authorities)?;
    let mut config = ServerConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Identity)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain, identity.key)
        .map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
