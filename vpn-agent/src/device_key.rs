//! The PC's own key: made here, never sent anywhere, ECDSA P-256 so that a TPM can hold it.
//!
//! It signs the certificate request, each request for a session, and the TLS handshakes.
//! Where it is kept is the store's choice: in the PC's security chip ([`chip`]), or in a file
//! that the system protects. Nobody else can tell the two apart.

use std::fmt;
use std::sync::Arc;

use protocol::Der;
use protocol::agent_api::matching_code;
use rcgen::{
    CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

pub mod chip;
mod tls;

use chip::{ChipKey, InChip};

/// A P-256 key that signs. Wherever it is kept, this is all that it can be asked for.
trait PrivateKey: Send + Sync + fmt::Debug {
    /// The public half, uncompressed.
    fn public_point(&self) -> &[u8];
    /// Signs `message` (ECDSA with SHA-256, ASN.1 DER).
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}

/// A device's key pair. Clones are the same key.
#[derive(Clone)]
pub struct DeviceKey {
    private: Arc<dyn PrivateKey>,
}

/// What can go wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// The chip that keeps it has no such key.
    #[error("the device key is not in this PC's security chip")]
    Gone,
    /// The chip that keeps it says nothing.
    #[error("the security chip with the device key does not answer: {0}")]
    ChipSilent(String),
}

impl KeyError {
    /// What the user is told.
    pub fn page_text(&self) -> &'static str {
        match self {
            Self::CannotMake(_) | Self::Damaged | Self::CannotSign | Self::ForeignCertificate => {
                "このパソコンの鍵を利用できませんでした。もう一度パソコンを登録してください。"
            }
            Self::Gone => {
                "このパソコンの鍵が見つかりません。登録のあとでセキュリティチップ（TPM）が初期化されたか、登録情報が別のパソコンから写されたことが考えられます。登録コードを基金事務局に依頼し、もう一度パソコンを登録してください。"
            }
            Self::ChipSilent(_) => {
                "このパソコンの鍵を保管しているセキュリティチップ（TPM）が応答しません。パソコンを再起動してください。同じ表示が続くときは、TPMが有効かどうかを社内のシステム担当者にご確認ください。有効にできない場合は、登録コードを基金事務局に依頼し、もう一度パソコンを登録してください。"
            }
        }
    }
}

impl DeviceKey {
    /// Makes a new key in memory. Also returns the form in which it is to be kept (PKCS #8).
    pub fn generate() -> Result<(Self, Zeroizing<Vec<u8>>), KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(KeyError::CannotMake)?;
        let pkcs8 = Zeroizing::new(pair.serialize_der());
        Ok((Self::of(InMemory(pair)), pkcs8))
    }

    /// Reads a key that was kept in that form.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from(bytes);
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map(|pair| Self::of(InMemory(pair)))
            .map_err(|_| KeyError::Damaged)
    }

    /// Takes a key that a chip has made just now, if it is good for signing.
    pub fn made_in_chip(key: Box<dyn ChipKey>) -> Result<Self, KeyError> {
        InChip::tried(key).map(Self::of)
    }

    /// Takes a key that a chip keeps.
    pub fn in_chip(key: Box<dyn ChipKey>) -> Self {
        Self::of(InChip::new(key))
    }

    fn of(private: impl PrivateKey + 'static) -> Self {
        Self {
            private: Arc::new(private),
        }
    }

    /// The public half, as it stands in a certificate.
    pub fn public_key(&self) -> Der {
        Der(self.subject_public_key_info())
    }

    /// What the clerk reads out to staff.
    pub fn matching_code(&self) -> String {
        matching_code(&self.subject_public_key_info())
    }

    /// A certificate request (PKCS #10) for this key.
    pub fn certificate_request(&self) -> Result<Der, KeyError> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "renkei device");
        let request = params
            .serialize_request(self)
            .map_err(KeyError::CannotMake)?;
        Ok(Der(request.der().to_vec()))
    }

    /// Signs `message` (ECDSA with SHA-256, ASN.1 DER).
    pub fn sign(&self, message: &[u8]) -> Result<Der, KeyError> {
        self.private.sign(message).map(Der)
    }

    /// Key and certificate for TLS, if they belong together.
    pub fn certified(&self, certificate: &Der) -> Result<Arc<CertifiedKey>, KeyError> {
        let chain = vec![CertificateDer::from(certificate.0.clone())];
        let certified = CertifiedKey::new(chain, Arc::new(self.clone()));
        certified
            .keys_match()
            .map_err(|_| KeyError::ForeignCertificate)?;
        Ok(Arc::new(certified))
    }
}

impl PublicKeyData for DeviceKey {
    fn der_bytes(&self) -> &[u8] {
        self.private.public_point()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for DeviceKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signed = self.private.sign(message);
        signed.map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(…)")
    }
}

/// A key that was read from the disk.
struct InMemory(KeyPair);

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InMemory(…)")
    }
}

impl PrivateKey for InMemory {
    fn public_point(&self) -> &[u8] {
        self.0.public_key_raw()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        rcgen::SigningKey::sign(&self.0, message).map_err(|_| KeyError::CannotSign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

    fn certificate_for(key: &DeviceKey) -> Der {
        let own = CertificateParams::default().self_signed(key).unwrap();
        Der(own.der().to_vec())
    }

    #[test]
    fn a_stored_key_is_the_same_key() {
        let (key, kept) = DeviceKey::generate().unwrap();
        let again = DeviceKey::from_pkcs8(&kept).unwrap();
        assert_eq!(key.matching_code(), again.matching_code());
        assert!(matches!(
            DeviceKey::from_pkcs8(b"rubbish"),
            Err(KeyError::Damaged)
        ));
    }

    #[test]
    fn a_signature_is_checked_with_the_public_key() {
        let (key, _) = DeviceKey::generate().unwrap();
        let signature = key.sign(b"message").unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.der_bytes());
        assert!(public.verify(b"message", &signature.0).is_ok());
        assert!(public.verify(b"another", &signature.0).is_err());
    }

    #[test]
    fn a_certificate_for_another_key_is_refused() {
        let (own, other) = (
            DeviceKey::generate().unwrap().0,
            DeviceKey::generate().unwrap().0,
        );
        assert!(own.certified(&certificate_for(&own)).is_ok());
        assert!(matches!(
            own.certified(&certificate_for(&other)),
            Err(KeyError::ForeignCertificate)
        ));
        assert!(own.certified(&Der(b"rubbish".to_vec())).is_err());
    }

    #[test]
    fn tls_is_offered_signatures_of_the_one_kind_that_the_key_makes() {
        use rustls::SignatureScheme::{ECDSA_NISTP256_SHA256, ED25519, RSA_PSS_SHA256};
        use rustls::sign::SigningKey as _;

        let (key, _) = DeviceKey::generate().unwrap();
        let offered = [RSA_PSS_SHA256, ECDSA_NISTP256_SHA256];
        let signer = key.choose_scheme(&offered).unwrap();
        assert_eq!(signer.scheme(), ECDSA_NISTP256_SHA256);
        let signature = signer.sign(b"handshake").unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.der_bytes());
        assert!(public.verify(b"handshake", &signature).is_ok());
        assert!(key.choose_scheme(&[ED25519]).is_none());
    }

    #[test]
    fn what_became_of_a_key_is_said_with_the_way_on() {
        for error in [KeyError::Gone, KeyError::ChipSilent("off".to_owned())] {
            let text = error.page_text();
            assert!(text.contains("もう一度パソコンを登録"), "{text}");
        }
        assert!(KeyError::Gone.page_text().contains("鍵が見つかりません"));
    }

    #[test]
    fn staff_read_the_same_code_from_the_request() {
        let (key, _) = DeviceKey::generate().unwrap();
        let request = key.certificate_request().unwrap();
        let parsed = rcgen::CertificateSigningRequestParams::from_der(&request.0.into()).unwrap();
        assert_eq!(
            matching_code(&parsed.public_key.subject_public_key_info()),
            key.matching_code()
        );
    }
}
