//! The master key, what is derived from it, and the establishments' keys under it.
//!
//! A key is never printed, never compared by content in an error, and wiped when dropped.
//! Every sealed value begins with four bytes that say what it is and in which version, and
//! they are part of what is authenticated: a value of one kind never opens as another.
//!
//! # A further use of the master key
//! Take [`MasterKey::seal_small`] for values in the database, with a purpose of its own, or
//! [`MasterKey::derive`] for a key. A purpose is a constant, `renkei/<what>/v1`, and is used
//! for one thing only.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use protocol::EstablishmentNumber;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// The environment variable that holds the master key where no file does.
pub const MASTER_KEY_VARIABLE: &str = "RENKEI_MASTER_KEY";

pub(super) const KEY_BYTES: usize = 32;
pub(super) const NONCE_BYTES: usize = 12;
pub(super) const TAG_BYTES: usize = 16;

/// The beginning of a wrapped establishment key.
const WRAPPED_KEY: [u8; 4] = *b"RKE1";
/// The beginning of a small value.
const SMALL: [u8; 4] = *b"RKS1";

/// What the establishments' keys are wrapped under.
const ESTABLISHMENT_KEYS: &str = "renkei/establishment-keys/v1";

/// Why a key cannot be had, or a value not opened.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file with the master key cannot be read or written.
    #[error("the master key's file {path}")]
    File {
        /// Where it should be.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: std::io::Error,
    },
    /// Others than the owner may read the file.
    #[error("the master key's file {path} is open to others (mode {mode:03o}); make it 600")]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Not 32 bytes in Base64.
    #[error("the master key is not 32 bytes in Base64")]
    Malformed,
    /// The operating system gives no random numbers.
    #[error("no random numbers")]
    Random(#[source] getrandom::Error),
    /// Another key, another purpose, another owner, or a changed bit.
    #[error("the sealed value does not open")]
    Sealed,
}

/// The key above all keys. It lies outside the database: in a file of mode 0600 or in the
/// environment.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`KeyError::Random`] if the operating system gives no random numbers.
    pub fn random() -> Result<Self, KeyError> {
        random().map(Self)
    }

    /// Takes over 32 bytes.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a key as the environment has it: 32 bytes in Base64.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for everything else.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| KeyError::Malformed)?;
        let key = bytes
            .as_slice()
            .try_into()
            .map_err(|_| KeyError::Malformed)?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// Reads a key from a file that nobody but its owner may read.
    ///
    /// # Errors
    /// [`KeyError::OpenToOthers`] if somebody else may; [`KeyError::File`],
    /// [`KeyError::Malformed`].
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let file = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        check_permissions(path, &fs::metadata(path).map_err(file)?)?;
        let text = fs::read_to_string(path).map(Zeroizing::new).map_err(file)?;
        Self::from_base64(&text)
    }

    /// Makes a new key and a file for it, which must not be there yet.
    ///
    /// # Errors
    /// [`KeyError::File`], also if the file exists: a master key that is overwritten takes
    /// every document with it.
    pub fn create_file(path: &Path) -> Result<Self, KeyError> {
        let key = Self::random()?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut text = Zeroizing::new(STANDARD.encode(key.0.as_slice()));
        text.push('\n');
        options
            .open(path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
            })
            .map_err(|source| KeyError::File {
                path: path.to_owned(),
                source,
            })?;
        Ok(key)
    }

    /// A key for one purpose. Who learns it learns nothing of the master key nor of the keys
    /// for other purposes.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        Hkdf::<Sha256>::new(Some(b"renkei master key"), self.0.as_slice())
            .expand(purpose.as_bytes(), key.as_mut_slice())
            .expect("32 bytes are one block of HKDF-SHA256");
        key
    }

    /// Seals a small value for the database under a key of its own `purpose`. `context` says
    /// whose value it is (the user's identifier, say): it opens for nobody else.
    ///
    /// # Errors
    /// [`KeyError::Random`] if the operating system gives no random numbers.
    pub fn seal_small(
        &self,
        purpose: &str,
        context: &[u8],
        bytes: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        seal(SMALL, &self.derive(purpose), context, bytes)
    }

    /// Opens what [`MasterKey::seal_small`] sealed.
    ///
    /// # Errors
    /// [`KeyError::Sealed`] unless key, purpose, context and every bit are the same.
    pub fn open_small(
        &self,
        purpose: &str,
        context: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        open(SMALL, &self.derive(purpose), context, sealed)
    }
}

/// The key that one establishment's documents lie under.
#[derive(Clone)]
pub struct EstablishmentKey(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for EstablishmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EstablishmentKey(…)")
    }
}

/// An establishment's key as the database keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey(Vec<u8>);

impl WrappedKey {
    /// Wraps bytes that were read back.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes to keep.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl EstablishmentKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`KeyError::Random`] if the operating system gives no random numbers.
    pub fn random() -> Result<Self, KeyError> {
        random().map(Self)
    }

    /// Wraps the key for the database. It unwraps for this establishment only.
    ///
    /// # Errors
    /// [`KeyError::Random`] if the operating system gives no random numbers.
    pub fn wrap(
        &self,
        master: &MasterKey,
        owner: EstablishmentNumber,
    ) -> Result<WrappedKey, KeyError> {
        let key = master.derive(ESTABLISHMENT_KEYS);
        seal(
            WRAPPED_KEY,
            &key,
            &owner.as_u16().to_be_bytes(),
            self.0.as_slice(),
        )
        .map(WrappedKey)
    }

    /// Unwraps an establishment's key.
    ///
    /// # Errors
    /// [`KeyError::Sealed`] if it was wrapped under another master key, for another
    /// establishment, or changed.
    pub fn unwrap(
        wrapped: &WrappedKey,
        master: &MasterKey,
        owner: EstablishmentNumber,
    ) -> Result<Self, KeyError> {
        let key = master.derive(ESTABLISHMENT_KEYS);
        let opened = open(WRAPPED_KEY, &key, &owner.as_u16().to_be_bytes(), &wrapped.0)?;
        let bytes = opened.as_slice().try_into().map_err(|_| KeyError::Sealed)?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// `kind ‖ nonce ‖ ciphertext ‖ tag`, with `kind ‖ context` authenticated beside it.
pub(super) fn seal(
    kind: [u8; 4],
    key: &[u8; KEY_BYTES],
    context: &[u8],
    bytes: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let nonce = random_bytes::<NONCE_BYTES>()?;
    let aad = [&kind[..], context].concat();
    let payload = Payload {
        msg: bytes,
        aad: &aad,
    };
    let body = Aes256Gcm::new(key.into())
        .encrypt(&Nonce::from(nonce), payload)
        .expect("no value of ours is longer than the 64 GiB of AES-GCM");
    Ok([&kind[..], &nonce, &body].concat())
}

/// Opens what [`seal`] sealed.
pub(super) fn open(
    kind: [u8; 4],
    key: &[u8; KEY_BYTES],
    context: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let rest = sealed.strip_prefix(&kind).ok_or(KeyError::Sealed)?;
    let (nonce, body) = rest
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(KeyError::Sealed)?;
    let aad = [&kind[..], context].concat();
    let payload = Payload {
        msg: body,
        aad: &aad,
    };
    Aes256Gcm::new(key.into())
        .decrypt(&Nonce::from(*nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| KeyError::Sealed)
}

pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
    Ok(bytes)
}

pub(super) fn random() -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
    let mut bytes = random_bytes::<KEY_BYTES>()?;
    let key = Zeroizing::new(bytes);
    bytes.zeroize();
    Ok(key)
}

#[cfg(unix)]
fn check_permissions(path: &Path, file: &fs::Metadata) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt;
    const OTHERS: u32 = 0o077;
    let mode = file.permissions().mode() & 0o777;
    if mode & OTHERS == 0 {
        Ok(())
    } else {
        Err(KeyError::OpenToOthers {
            path: path.to_owned(),
            mode,
        })
    }
}

#[cfg(not(unix))]
fn check_permissions(_: &Path, _: &fs::Metadata) -> Result<(), KeyError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(number: u16) -> EstablishmentNumber {
        EstablishmentNumber::new(number).unwrap()
    }

    #[test]
    fn a_key_file_is_made_for_its_owner_only_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let made = MasterKey::create_file(&path).unwrap();
        let read = MasterKey::from_file(&path).unwrap();
        assert_eq!(
            *made.derive("renkei/test/v1"),
            *read.derive("renkei/test/v1")
        );
        assert!(matches!(
            MasterKey::create_file(&path),
            Err(KeyError::File { .. })
        ));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        MasterKey::create_file(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            MasterKey::from_file(&path),
            Err(KeyError::OpenToOthers { mode: 0o640, .. })
        ));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in [
            "",
            "short",
            "AAAA",
            &STANDARD.encode([0; 31]),
            &STANDARD.encode([0; 33]),
        ] {
            assert!(
                matches!(MasterKey::from_base64(text), Err(KeyError::Malformed)),
                "{text}"
            );
        }
        assert!(MasterKey::from_base64(&format!(" {}\n", STANDARD.encode([7; 32]))).is_ok());
    }

    #[test]
    fn each_purpose_has_its_own_key_and_it_stays_the_same() {
        let master = MasterKey::from_bytes([7; 32]);
        assert_ne!(*master.derive("renkei/a/v1"), *master.derive("renkei/b/v1"));
        // Values in a database outlive the program that wrote them.
        assert_eq!(
            STANDARD.encode(*master.derive("renkei/a/v1")),
            "v2WHXNCMvXcIFvFgkSeZlbyFUVf4YKKyDMGVF3t5Kzc="
        );
    }

    #[test]
    fn an_establishments_key_unwraps_only_under_its_master_and_for_its_owner() {
        let (master, other) = (MasterKey::random().unwrap(), MasterKey::random().unwrap());
        let key = EstablishmentKey::random().unwrap();
        let wrapped = key.wrap(&master, number(123)).unwrap();
        let back = EstablishmentKey::unwrap(&wrapped, &master, number(123)).unwrap();
        assert_eq!(key.bytes(), back.bytes());
        assert!(EstablishmentKey::unwrap(&wrapped, &other, number(123)).is_err());
        assert!(EstablishmentKey::unwrap(&wrapped, &master, number(124)).is_err());
        assert_ne!(wrapped, key.wrap(&master, number(123)).unwrap());
    }

    #[test]
    fn keys_do_not_print_themselves() {
        let master = MasterKey::from_bytes([0x41; 32]);
        let key = EstablishmentKey::random().unwrap();
        let printed = format!("{master:?} {key:?}");
        assert_eq!(printed, "MasterKey(…) EstablishmentKey(…)");
    }

    proptest! {
        #[test]
        fn a_small_value_opens_unchanged_or_not_at_all(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            flip in any::<prop::sample::Index>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let master = MasterKey::from_bytes([7; 32]);
            let sealed = master.seal_small("renkei/test/v1", b"user 1", &bytes).unwrap();
            let open = |context: &[u8], sealed: &[u8]| {
                master.open_small("renkei/test/v1", context, sealed).ok().map(|v| v.to_vec())
            };
            prop_assert_eq!(open(b"user 1", &sealed), Some(bytes.clone()));
            prop_assert_eq!(open(b"user 2", &sealed), None);
            prop_assert!(master.open_small("renkei/other/v1", b"user 1", &sealed).is_err());
            let mut flipped = sealed.clone();
            let at = flip.index(sealed.len() * 8);
            flipped[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(open(b"user 1", &flipped), None);
            prop_assert_eq!(open(b"user 1", &sealed[..cut.index(sealed.len())]), None);
        }
    }
}
