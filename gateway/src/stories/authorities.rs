//! The fund's two authorities, and what they sign.

use std::path::Path;
use std::sync::Arc;

use protocol::GatewayName;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A root with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A leaf with its key.
pub struct Leaf {
    pub certificate: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

/// What a fund has.
pub struct Fund {
    pub services: Authority,
    pub devices: Authority,
}

impl Fund {
    pub fn new() -> Self {
        Self {
            services: Authority::new("services"),
            devices: Authority::new("devices"),
        }
    }

    pub fn device(&self) -> Leaf {
        let usages = [ExtendedKeyUsagePurpose::ClientAuth];
        self.devices.sign("device", &usages)
    }

    pub fn service(&self, dns_name: &str) -> Leaf {
        let usages = [
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        self.services.sign(dns_name, &usages)
    }

    /// The folder that `portal gateway add` makes.
    pub fn write_identity(&self, folder: &Path, name: &GatewayName) {
        self.service(&name.certificate_name())
            .write(&folder.join("certificate.pem"), &folder.join("key.pem"));
        for (file, text) in [
            ("service-authority.pem", self.services.pem.clone()),
            ("device-authority.pem", self.devices.pem.clone()),
        ] {
            std::fs::write(folder.join(file), text).unwrap();
        }
    }

    /// A control listener's settings: both sides show certificates of the services.
    pub fn control_listener(&self, leaf: &Leaf) -> Arc<ServerConfig> {
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.services.roots()),
            provider(),
        );
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![leaf.certificate.clone()], leaf.private_key())
            .unwrap();
        Arc::new(config)
    }

    /// A client's settings, with or without a certificate.
    pub fn client(&self, leaf: Option<&Leaf>) -> ClientConfig {
        self.client_of_version(leaf, &rustls::version::TLS13)
    }

    pub fn client_of_version(
        &self,
        leaf: Option<&Leaf>,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> ClientConfig {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.services.roots());
        match leaf {
            Some(leaf) => config
                .with_client_auth_cert(vec![leaf.certificate.clone()], leaf.private_key())
                .unwrap(),
            None => config.with_no_client_auth(),
        }
    }
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = named(name, Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, name: &str, usages: &[ExtendedKeyUsagePurpose]) -> Leaf {
        let mut params = named(name, vec![name.to_owned()]);
        params.extended_key_usages = usages.to_vec();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            key,
        }
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }
}

impl Leaf {
    pub fn write(&self, certificate: &Path, key: &Path) {
        std::fs::write(certificate, &self.pem).unwrap();
        std::fs::write(key, self.key.serialize_pem()).unwrap();
    }

    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}

fn named(name: &str, dns_names: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(dns_names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
