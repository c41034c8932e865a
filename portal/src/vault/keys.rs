//! The establishments' keys, and how one key is wrapped under another.
//!
//! A key is never printed, never compared by content in an error, and wiped when dropped.
//! Every wrapped value begins with four bytes that say what it is and in which version, and
//! they are part of what is authenticated: a value of one kind never opens as another.

use std::fmt;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::ids::EstablishmentId;
use crate::keys::{MasterKey, Purpose, Unsealable, random_bytes};

pub(super) const KEY_BYTES: usize = 32;
pub(super) const NONCE_BYTES: usize = 12;
pub(super) const TAG_BYTES: usize = 16;

/// What a sealed text begins with, inside the seal.
const TEXT_KIND: [u8; 4] = *b"TXT1";
/// What it begins with in its column; base64 has no colon.
const TEXT_MARK: &str = "e:";

/// The key that one establishment's documents lie under.
#[derive(Clone)]
pub struct EstablishmentKey(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for EstablishmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EstablishmentKey(…)")
    }
}

impl EstablishmentKey {
    /// Makes a new key.
    pub fn generate() -> Self {
        Self(Zeroizing::new(random_bytes()))
    }

    /// Seals the key for its establishment's row (`establishments.key_wrapped`).
    pub fn seal(&self, master: &MasterKey, owner: EstablishmentId) -> String {
        master.seal(Purpose::EstablishmentKey, &place(owner), &*self.0)
    }

    /// Opens the key from its establishment's row.
    ///
    /// # Errors
    /// [`Unsealable`] if it was sealed under another master key, for another establishment,
    /// or changed.
    pub fn open(
        sealed: &str,
        master: &MasterKey,
        owner: EstablishmentId,
    ) -> Result<Self, Unsealable> {
        let opened = master.open(Purpose::EstablishmentKey, &place(owner), sealed)?;
        let bytes = opened.as_slice().try_into().map_err(|_| Unsealable)?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// Seals a short text for the database. `place` says where it will stand (table and row):
    /// moved elsewhere it does not open.
    pub fn seal_text(&self, place: &str, text: &str) -> String {
        let sealed = wrap(TEXT_KIND, &self.0, place.as_bytes(), text.as_bytes());
        format!("{TEXT_MARK}{}", STANDARD_NO_PAD.encode(sealed))
    }

    /// Says whether a sealed text is one of an establishment's key.
    pub fn has_sealed(sealed: &str) -> bool {
        sealed.starts_with(TEXT_MARK)
    }

    /// Opens what [`EstablishmentKey::seal_text`] made for the same place.
    ///
    /// # Errors
    /// [`Unsealable`] if it was sealed under another key, for another place, or changed.
    pub fn open_text(&self, place: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
        let sealed = sealed.strip_prefix(TEXT_MARK).ok_or(Unsealable)?;
        let sealed = STANDARD_NO_PAD.decode(sealed).map_err(|_| Unsealable)?;
        unwrap(TEXT_KIND, &self.0, place.as_bytes(), &sealed)
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

fn place(owner: EstablishmentId) -> String {
    format!("establishments/{owner}")
}

/// `kind ‖ nonce ‖ ciphertext ‖ tag`, with `kind ‖ context` authenticated beside it.
pub(super) fn wrap(kind: [u8; 4], key: &[u8; KEY_BYTES], context: &[u8], bytes: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE_BYTES] = random_bytes();
    let aad = [&kind[..], context].concat();
    let payload = Payload {
        msg: bytes,
        aad: &aad,
    };
    let body = Aes256Gcm::new(key.into())
        .encrypt(&Nonce::from(nonce), payload)
        .expect("no value of ours is longer than the 64 GiB of AES-GCM");
    [&kind[..], &nonce, &body].concat()
}

/// Opens what [`wrap`] sealed.
pub(super) fn unwrap(
    kind: [u8; 4],
    key: &[u8; KEY_BYTES],
    context: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
    let rest = sealed.strip_prefix(&kind).ok_or(Unsealable)?;
    let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Unsealable)?;
    let aad = [&kind[..], context].concat();
    let payload = Payload {
        msg: body,
        aad: &aad,
    };
    Aes256Gcm::new(key.into())
        .decrypt(&Nonce::from(*nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| Unsealable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_establishments_key_opens_only_under_its_master_and_for_its_owner() {
        let (master, other) = (MasterKey::generate(), MasterKey::generate());
        let (own, another) = (EstablishmentId::new(), EstablishmentId::new());
        let key = EstablishmentKey::generate();
        let sealed = key.seal(&master, own);
        let back = EstablishmentKey::open(&sealed, &master, own).unwrap();
        assert_eq!(key.bytes(), back.bytes());
        assert!(EstablishmentKey::open(&sealed, &other, own).is_err());
        assert!(EstablishmentKey::open(&sealed, &master, another).is_err());
        assert_ne!(sealed, key.seal(&master, own));
    }

    #[test]
    fn a_key_does_not_print_itself() {
        let key = EstablishmentKey::generate();
        assert_eq!(format!("{key:?}"), "EstablishmentKey(…)");
    }

    proptest! {
        #[test]
        fn a_wrapped_value_opens_unchanged_or_not_at_all(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            flip in any::<prop::sample::Index>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let key = [7; KEY_BYTES];
            let sealed = wrap(*b"TEST", &key, b"document 1", &bytes);
            let open = |kind: [u8; 4], context: &[u8], sealed: &[u8]| {
                unwrap(kind, &key, context, sealed).ok().map(|v| v.to_vec())
            };
            prop_assert_eq!(open(*b"TEST", b"document 1", &sealed), Some(bytes.clone()));
            prop_assert_eq!(open(*b"TEST", b"document 2", &sealed), None);
            prop_assert_eq!(open(*b"ELSE", b"document 1", &sealed), None);
            let mut flipped = sealed.clone();
            let at = flip.index(sealed.len() * 8);
            flipped[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(open(*b"TEST", b"document 1", &flipped), None);
            prop_assert_eq!(open(*b"TEST", b"document 1", &sealed[..cut.index(sealed.len())]), None);
        }
    }
}
