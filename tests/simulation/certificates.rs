//! The certificates of PCs and gateways, made once: keys take time.

use std::sync::{Arc, OnceLock};

use protocol::Bytes32;
use protocol::agent_api::TUNNEL_ALPN;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::RootCertStore;
use rustls::time_provider::DefaultTimeProvider;
use tunnel::tls::{Identity, client_config, server_config};

use crate::steps::{DEVICES, GATEWAYS};

/// What the gateways' certificates say.
pub const GATEWAY_NAMES: [&str; GATEWAYS] = ["one.gateway.test", "two.gateway.test"];

/// TLS settings with certificates.
pub struct Certificates {
    pub devices: Vec<Arc<rustls::ClientConfig>>,
    pub sha256: [Bytes32; DEVICES],
    pub gateways: Vec<Arc<rustls::ServerConfig>>,
}

/// All certificates there are.
pub fn certificates() -> &'static Certificates {
    static MADE: OnceLock<Certificates> = OnceLock::new();
    MADE.get_or_init(make)
}

fn make() -> Certificates {
    let (of_devices, of_services) = (authority(), authority());
    let mut sha256 = [Bytes32([0; 32]); DEVICES];
    let devices = (0..DEVICES).map(|number| {
        let identity = leaf(
            &of_devices,
            "device.test",
            ExtendedKeyUsagePurpose::ClientAuth,
        );
        let hash = ring::digest::digest(&ring::digest::SHA256, &identity.chain[0]);
        sha256[number].0.copy_from_slice(hash.as_ref());
        let clock = Arc::new(DefaultTimeProvider);
        client_config(identity, roots(&of_services), TUNNEL_ALPN, clock).expect("fits")
    });
    let devices = devices.collect();
    let gateways = GATEWAY_NAMES.iter().map(|name| {
        let identity = leaf(&of_services, name, ExtendedKeyUsagePurpose::ServerAuth);
        let clock = Arc::new(DefaultTimeProvider);
        server_config(identity, roots(&of_devices), TUNNEL_ALPN, clock).expect("fits")
    });
    Certificates {
        devices,
        gateways: gateways.collect(),
        sha256,
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs")
}

fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, issuer).expect("signs");
    Identity {
        chain: vec![certificate.der().clone()],
        key: key.into(),
    }
}

fn roots(issuer: &CertifiedIssuer<'static, KeyPair>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).expect("a certificate");
    roots
}
