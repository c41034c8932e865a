//! The master key and what is derived from it.
//!
//! The master key lies outside the database, in a file or in the environment. Everything
//! secret that the database keeps is sealed or hashed under a sub-key with a purpose of its
//! own, so that a copy of the database alone shows no code, no token and no key
//! (DESIGN, Security properties 7). Documents are sealed by `vault`, on the same root.

use std::fmt;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use protocol::Bytes32;
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

/// First byte of everything [`MasterKey::seal`] makes.
const SEAL_VERSION: u8 = 1;
/// AES-GCM nonce, in bytes (CRYPTREC LS-0001: 96 bits).
const NONCE_BYTES: usize = 12;

/// What a sub-key is for. Two purposes never share a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Private keys of the fund's certificate authorities.
    AuthorityKey,
    /// Wrapping of establishments' keys.
    EstablishmentKey,
    /// Establishments' zip passwords.
    ZipPassword,
    /// What people write to each other about a filing.
    FilingComment,
    /// What staff typed into the form of a notice that is not issued yet.
    NoticeDraft,
    /// Secrets of authenticator apps.
    TotpSecret,
    /// Mails waiting in the outbox.
    Mail,
    /// Hashes of the addresses that mails went to.
    MailAddress,
    /// What members and staff write to each other.
    Inquiry,
    /// Hashes of one-time passwords.
    OneTimeCode,
    /// Hashes of registration codes.
    RegistrationCode,
    /// Hashes of recovery codes.
    RecoveryCode,
    /// Hashes of bearer tokens: web sessions, enrolment polls.
    Token,
    /// Anti-forgery tokens of web forms.
    Csrf,
    /// Account names in the table of failed sign-ins.
    AccountName,
    /// Pre-shared keys of tunnel sessions.
    TunnelPresharedKey,
    /// Keys that authenticate PROXY headers.
    ProxyHeader,
    /// The private key that receipts are signed with.
    ReceiptKey,
    /// The audit chain.
    AuditChain,
    /// The key that packs of records are signed with.
    RecordsSignature,
}

/// The root of all keys: 32 random bytes.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// The master key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file cannot be read.
    #[error("cannot read master_key_file {path}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others than its owner may read the file.
    #[error("master_key_file {0} may be read by others: set its mode to 0600")]
    TooOpen(PathBuf),
    /// Not 32 bytes in base64.
    #[error("the master key must be 32 bytes in base64")]
    Malformed,
}

/// A sealed value cannot be opened: another key, another place, or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value does not open: wrong master key, or changed")]
pub struct Unsealable;

impl MasterKey {
    /// Takes over 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Makes a new key.
    pub fn generate() -> Self {
        Self::from_bytes(random_bytes())
    }

    /// Reads 32 bytes in base64, as [`MasterKey::to_base64`] writes them.
    pub fn from_base64(text: &str) -> Result<Self, MasterKeyError> {
        let mut bytes = STANDARD
            .decode(text.trim())
            .map_err(|_| MasterKeyError::Malformed)?;
        let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| MasterKeyError::Malformed);
        bytes.zeroize();
        key.map(Self::from_bytes)
    }

    /// Reads the key file. Refuses a file that others may read.
    pub fn from_file(path: &Path) -> Result<Self, MasterKeyError> {
        let unreadable = |source| MasterKeyError::Unreadable {
            path: path.to_owned(),
            source,
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(path)
                .map_err(unreadable)?
                .permissions()
                .mode();
            if mode & 0o077 != 0 {
                return Err(MasterKeyError::TooOpen(path.to_owned()));
            }
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
        Self::from_base64(&text)
    }

    /// Writes the key for its file.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*self.0))
    }

    /// Derives the key of one purpose and one `context` (HKDF-SHA-256, RFC 5869).
    pub fn derive(&self, purpose: Purpose, context: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, &*self.0)
            .expand_multi_info(
                &[b"renkei v1\0", purpose.label(), b"\0", context],
                &mut *key,
            )
            .expect("32 bytes are under HKDF's limit of 8,160");
        key
    }

    /// Like [`MasterKey::derive`], as a value that crosses the wire.
    pub fn derive_wire(&self, purpose: Purpose, context: &[u8]) -> Bytes32 {
        Bytes32(*self.derive(purpose, context))
    }

    /// Seals a small value for the database. `place` says where it will stand (table and
    /// row): moved elsewhere it does not open. Base64.
    pub fn seal(&self, purpose: Purpose, place: &str, value: &[u8]) -> String {
        let cipher = Aes256Gcm::new(&(*self.derive(purpose, b"seal")).into());
        let nonce: [u8; NONCE_BYTES] = random_bytes();
        let sealed = cipher
            .encrypt(
                &Nonce::from(nonce),
                Payload {
                    msg: value,
                    aad: place.as_bytes(),
                },
            )
            .expect("a value in memory is under AES-GCM's limit of 64 GiB");
        STANDARD_NO_PAD.encode([&[SEAL_VERSION], nonce.as_slice(), &sealed].concat())
    }

    /// Opens what [`MasterKey::seal`] made for the same purpose and place.
    pub fn open(
        &self,
        purpose: Purpose,
        place: &str,
        sealed: &str,
    ) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let bytes = STANDARD_NO_PAD.decode(sealed).map_err(|_| Unsealable)?;
        let (version, rest) = bytes.split_first().ok_or(Unsealable)?;
        if *version != SEAL_VERSION || rest.len() < NONCE_BYTES {
            return Err(Unsealable);
        }
        let (nonce, body) = rest.split_at(NONCE_BYTES);
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| Unsealable)?;
        Aes256Gcm::new(&(*self.derive(purpose, b"seal")).into())
            .decrypt(
                &Nonce::from(nonce),
                Payload {
                    msg: body,
                    aad: place.as_bytes(),
                },
            )
            .map(Zeroizing::new)
            .map_err(|_| Unsealable)
    }

    /// Hashes a secret so that it can be looked up but not read back: HMAC-SHA-256 under the
    /// purpose's key. Without the master key not even a six-digit code can be guessed from it.
    pub fn hash(&self, purpose: Purpose, secret: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(purpose, secret).finalize().into_bytes())
    }

    /// Says in constant time whether `hash` is the hash of `secret`.
    pub fn hash_fits(&self, purpose: Purpose, secret: &[u8], hash: &str) -> bool {
        URL_SAFE_NO_PAD
            .decode(hash)
            .is_ok_and(|hash| self.mac(purpose, secret).verify_slice(&hash).is_ok())
    }

    fn mac(&self, purpose: Purpose, secret: &[u8]) -> Hmac<Sha256> {
        let key = self.derive(purpose, b"hash");
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&*key)
            .expect("HMAC takes a key of any length");
        mac.update(secret);
        mac
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::AuthorityKey => b"authority key",
            Self::EstablishmentKey => b"establishment key",
            Self::ZipPassword => b"zip password",
            Self::FilingComment => b"filing comment",
            Self::NoticeDraft => b"notice draft",
            Self::MailAddress => b"mail address",
            Self::Inquiry => b"inquiry",
            Self::TotpSecret => b"totp secret",
            Self::Mail => b"mail",
            Self::OneTimeCode => b"one-time code",
            Self::RegistrationCode => b"registration code",
            Self::RecoveryCode => b"recovery code",
            Self::Token => b"token",
            Self::Csrf => b"csrf",
            Self::AccountName => b"account name",
            Self::TunnelPresharedKey => b"tunnel preshared key",
            Self::ProxyHeader => b"proxy header",
            Self::ReceiptKey => b"receipt key",
            Self::AuditChain => b"audit chain",
            Self::RecordsSignature => b"records signature",
        }
    }
}

/// Returns `N` bytes from the operating system's generator.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Returns a new bearer token: 256 random bits, URL-safe.
pub fn random_token() -> String {
    URL_SAFE_NO_PAD.encode(random_bytes::<32>())
}

/// Letters and digits that nobody confuses when reading them aloud or typing them.
pub(crate) const READABLE: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Returns `length` random characters of a 32-character alphabet, 5 bits each.
pub fn random_readable(length: usize) -> String {
    (0..length)
        .map(|_| char::from(READABLE[usize::from(random_bytes::<1>()[0] % 32)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_only_with_its_key_purpose_and_place() {
        let key = MasterKey::generate();
        let sealed = key.seal(Purpose::Mail, "outbox/1", b"secret");
        assert_eq!(
            **key.open(Purpose::Mail, "outbox/1", &sealed).unwrap(),
            *b"secret"
        );
        assert_eq!(
            key.open(Purpose::Mail, "outbox/2", &sealed),
            Err(Unsealable)
        );
        assert_eq!(
            key.open(Purpose::TotpSecret, "outbox/1", &sealed),
            Err(Unsealable)
        );
        assert_eq!(
            MasterKey::generate().open(Purpose::Mail, "outbox/1", &sealed),
            Err(Unsealable)
        );
        assert_eq!(key.open(Purpose::Mail, "outbox/1", "AQ"), Err(Unsealable));
    }

    #[test]
    fn a_hash_fits_its_secret_alone() {
        let key = MasterKey::generate();
        let hash = key.hash(Purpose::OneTimeCode, b"123456");
        assert!(key.hash_fits(Purpose::OneTimeCode, b"123456", &hash));
        assert!(!key.hash_fits(Purpose::OneTimeCode, b"123457", &hash));
        assert!(!key.hash_fits(Purpose::Token, b"123456", &hash));
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        std::fs::write(&path, MasterKey::generate().to_base64().as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            MasterKey::from_file(&path),
            Err(MasterKeyError::TooOpen(_))
        ));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(MasterKey::from_file(&path).is_ok());
    }
}
