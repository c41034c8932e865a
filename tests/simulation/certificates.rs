//! The certificates of PCs and gateways, made once: keys take time.
//!
//! Their keys are always the same Ed25519 ones. An ECDSA signature, or a certificate with
//! another serial number, is a byte longer now and then, and then everything after it comes
//! at another time: a failure would not come again from its seed.

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
    let (of_devices, of_services) = (authority(1), authority(2));
    let mut sha256 = [Bytes32([0; 32]); DEVICES];
    let devices = (0..DEVICES).map(|number| {
        let key = key_pair(10 + number as u8);
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let identity = leaf(&of_devices, key, "device.test", usage);
        let hash = ring::digest::digest(&ring::digest::SHA256, &identity.chain[0]);
        sha256[number].0.copy_from_slice(hash.as_ref());
        let clock = Arc::new(DefaultTimeProvider);
        client_config(identity, roots(&of_services), TUNNEL_ALPN, clock).expect("fits")
    });
    let devices = devices.collect();
    let gateways = GATEWAY_NAMES.iter().enumerate().map(|(number, name)| {
        let key = key_pair(100 + number as u8);
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let identity = leaf(&of_services, key, name, usage);
        let clock = Arc::new(DefaultTimeProvider);
        server_config(identity, roots(&of_devices), TUNNEL_ALPN, clock).expect("fits")
    });
    Certificates {
        devices,
        gateways: gateways.collect(),
        sha256,
    }
}

/// The Ed25519 key with this number.
fn key_pair(number: u8) -> KeyPair {
    // RFC 8410: the key's 32 bytes in a PKCS #8 envelope.
    let mut document = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    document.extend([number; 32]);
    KeyPair::try_from(document).expect("a key")
}

fn authority(number: u8) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, key_pair(number)).expect("signs")
}

fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    key: KeyPair,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Identity {
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
