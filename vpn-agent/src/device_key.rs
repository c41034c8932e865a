//! The PC's own key: made here, never sent anywhere, ECDSA P-256 so that a TPM can hold it.
//!
//! It signs the certificate request, each request for a session, and the TLS handshakes.

use std::fmt;
use std::sync::Arc;

use protocol::Der;
use protocol::agent_api::matching_code;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// A device's key pair.
pub struct DeviceKey(KeyPair);

/// What can go wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key could be made.
    #[error("cannot make a device key: {0}")]
    CannotMake(rcgen::Error),
    /// The stored bytes are no P-256 key.
    #[error("the stored device key is damaged")]
    Damaged,
    /// The signing itself failed.
    #[error("cannot sign with the device key")]
    CannotSign,
    /// The certificate was made for another key.
    #[error("the certificate is not for this PC's key")]
    ForeignCertificate,
}

impl DeviceKey {
    /// Makes a new key.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(KeyError::CannotMake)
    }

    /// Reads a key that was stored.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from(bytes);
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|_| KeyError::Damaged)
    }

    /// The key in the form it is stored in (PKCS #8).
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    /// The same key once more, for a job that outlives the enrolment's own.
    pub fn copy(&self) -> Result<Self, KeyError> {
        Self::from_pkcs8(&self.to_pkcs8())
    }

    /// What the clerk reads out to staff.
    pub fn matching_code(&self) -> String {
        matching_code(&self.0.subject_public_key_info())
    }

    /// A certificate request (PKCS #10) for this key.
    pub fn certificate_request(&self) -> Result<Der, KeyError> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "renkei device");
        let request = params
            .serialize_request(&self.0)
            .map_err(KeyError::CannotMake)?;
        Ok(Der(request.der().to_vec()))
    }

    /// Signs `message` (ECDSA with SHA-256, ASN.1 DER).
    pub fn sign(&self, message: &[u8]) -> Result<Der, KeyError> {
        let random = SystemRandom::new();
        let pkcs8 = self.to_pkcs8();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &random)
            .map_err(|_| KeyError::Damaged)?;
        let signature = key
            .sign(&random, message)
            .map_err(|_| KeyError::CannotSign)?;
        Ok(Der(signature.as_ref().to_vec()))
    }

    /// The key as TLS wants it (PKCS #8).
    pub fn to_tls_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }

    /// Key and certificate for TLS, if they belong together.
    pub fn certified(&self, certificate: &Der) -> Result<Arc<CertifiedKey>, KeyError> {
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&self.to_tls_key())
            .map_err(|_| KeyError::Damaged)?;
        let certified = CertifiedKey::new(vec![CertificateDer::from(certificate.0.clone())], key);
        certified
            .keys_match()
            .map_err(|_| KeyError::ForeignCertificate)?;
        Ok(Arc::new(certified))
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

    fn certificate_for(key: &DeviceKey) -> Der {
        let own = CertificateParams::default().self_signed(&key.0).unwrap();
        Der(own.der().to_vec())
    }

    #[test]
    fn a_stored_key_is_the_same_key() {
        let key = DeviceKey::generate().unwrap();
        let again = DeviceKey::from_pkcs8(&key.to_pkcs8()).unwrap();
        assert_eq!(key.matching_code(), again.matching_code());
        assert!(matches!(
            DeviceKey::from_pkcs8(b"rubbish"),
            Err(KeyError::Damaged)
        ));
    }

    #[test]
    fn a_signature_is_checked_with_the_public_key() {
        let key = DeviceKey::generate().unwrap();
        let signature = key.sign(b"message").unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.0.public_key_raw());
        assert!(public.verify(b"message", &signature.0).is_ok());
        assert!(public.verify(b"another", &signature.0).is_err());
    }

    #[test]
    fn a_certificate_for_another_key_is_refused() {
        let (own, other) = (
            DeviceKey::generate().unwrap(),
            DeviceKey::generate().unwrap(),
        );
        assert!(own.certified(&certificate_for(&own)).is_ok());
        assert!(matches!(
            own.certified(&certificate_for(&other)),
            Err(KeyError::ForeignCertificate)
        ));
        assert!(own.certified(&Der(b"rubbish".to_vec())).is_err());
    }

    #[test]
    fn staff_read_the_same_code_from_the_request() {
        let key = DeviceKey::generate().unwrap();
        let request = key.certificate_request().unwrap();
        let parsed = rcgen::CertificateSigningRequestParams::from_der(&request.0.into()).unwrap();
        assert_eq!(
            matching_code(&parsed.public_key.subject_public_key_info()),
            key.matching_code()
        );
    }
}
