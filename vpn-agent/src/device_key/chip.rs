//! Keys that a chip of the PC keeps (TPM): made there, never to be read, only asked to sign.
//!
//! The [`Chip`] is the system's; here is what makes a [`PrivateKey`] of the key it names, and
//! the one thing that both write differently, the signature: a chip says two bare numbers, TLS
//! and certificates want them in DER. Called by the store.

use std::fmt;

use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{KeyError, PrivateKey};

/// Bytes of a coordinate of P-256, and of each of a signature's two numbers.
const NUMBER_BYTES: usize = 32;
/// An uncompressed point: `4`, then both coordinates.
pub const POINT_BYTES: usize = 1 + 2 * NUMBER_BYTES;
/// A signature as a chip says it: r, then s.
pub const SIGNATURE_BYTES: usize = 2 * NUMBER_BYTES;
/// A SHA-256.
pub const DIGEST_BYTES: usize = 32;

/// What a new key signs before it is relied on.
const TRIAL: &[u8] = b"renkei: is this key good for signing?";

/// Makes, finds and deletes keys by name, for the user who runs this process.
pub trait Chip: Send + Sync + fmt::Debug {
    /// Makes a P-256 key that cannot leave the chip.
    ///
    /// # Errors
    /// [`ChipError`] if it cannot: it may be too old for such keys.
    fn create(&self, name: &str) -> Result<Box<dyn ChipKey>, ChipError>;
    /// Finds a key that was made before.
    ///
    /// # Errors
    /// [`ChipError::Gone`] if it is not there.
    fn open(&self, name: &str) -> Result<Box<dyn ChipKey>, ChipError>;
    /// Deletes a key.
    ///
    /// # Errors
    /// [`ChipError::Gone`] if there is none.
    fn delete(&self, name: &str) -> Result<(), ChipError>;
}

/// A key in a chip.
pub trait ChipKey: Send + Sync + fmt::Debug {
    /// Its public half, uncompressed.
    fn public_point(&self) -> [u8; POINT_BYTES];
    /// Signs a SHA-256.
    ///
    /// # Errors
    /// [`ChipError`] if the chip does not.
    fn sign(&self, digest: &[u8; DIGEST_BYTES]) -> Result<[u8; SIGNATURE_BYTES], ChipError>;
}

/// Why a chip does not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChipError {
    /// The key is not, or no longer, in this chip.
    #[error("the key is not in the security chip")]
    Gone,
    /// It does not answer, or not so.
    #[error("the security chip does not answer: {0}")]
    Silent(String),
}

impl From<ChipError> for KeyError {
    fn from(error: ChipError) -> Self {
        match error {
            ChipError::Gone => Self::Gone,
            ChipError::Silent(cause) => Self::ChipSilent(cause),
        }
    }
}

/// A key in a chip, good for everything that the PC signs.
#[derive(Debug)]
pub(super) struct InChip {
    key: Box<dyn ChipKey>,
    point: [u8; POINT_BYTES],
}

impl InChip {
    pub(super) fn new(key: Box<dyn ChipKey>) -> Self {
        let point = key.public_point();
        Self { key, point }
    }

    /// The same for a key that was made just now, if it signs as it should: a chip whose
    /// signatures nobody believes would lock the PC out.
    pub(super) fn tried(key: Box<dyn ChipKey>) -> Result<Self, KeyError> {
        let new = Self::new(key);
        let signature = new.sign(TRIAL)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, new.point)
            .verify(TRIAL, &signature)
            .map_err(|_| KeyError::CannotSign)?;
        Ok(new)
    }
}

impl PrivateKey for InChip {
    fn public_point(&self) -> &[u8] {
        &self.point
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut hash = [0; DIGEST_BYTES];
        hash.copy_from_slice(digest(&SHA256, message).as_ref());
        let signature = aside(|| self.key.sign(&hash))?;
        Ok(signature_der(&signature))
    }
}

/// A chip takes some tenths of a second to sign, and TLS asks in the middle of a task; the
/// tunnel goes on meanwhile.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        Ok(_) | Err(_) => work(),
    }
}

/// `SEQUENCE { r INTEGER, s INTEGER }` (RFC 3279, 2.2.3).
fn signature_der(numbers: &[u8; SIGNATURE_BYTES]) -> Vec<u8> {
    let (r, s) = numbers.split_at(NUMBER_BYTES);
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_bigint_bytes(r, true);
            writer.next().write_bigint_bytes(s, true);
        });
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

    use super::*;

    /// What a chip can be like.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub(crate) enum Mood {
        /// It does what it is asked.
        #[default]
        Good,
        /// It knows no P-256.
        Old,
        /// It signs rubbish.
        Broken,
        /// It is switched off.
        Off,
    }

    /// A chip of this test. It signs messages, not hashes, for want of a library that signs
    /// those; whoever asks must have hashed [`TRIAL`].
    #[derive(Debug, Default, Clone)]
    pub(crate) struct TestChip {
        keys: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
        mood: Arc<Mutex<Mood>>,
    }

    impl TestChip {
        pub(crate) fn set(&self, mood: Mood) {
            *self.mood.lock().unwrap() = mood;
        }

        pub(crate) fn names(&self) -> Vec<String> {
            self.keys.lock().unwrap().keys().cloned().collect()
        }

        /// Somebody clears it.
        pub(crate) fn clear(&self) {
            self.keys.lock().unwrap().clear();
        }

        fn mood(&self) -> Result<Mood, ChipError> {
            match *self.mood.lock().unwrap() {
                Mood::Off => Err(ChipError::Silent("off".to_owned())),
                mood => Ok(mood),
            }
        }
    }

    impl Chip for TestChip {
        fn create(&self, name: &str) -> Result<Box<dyn ChipKey>, ChipError> {
            if self.mood()? == Mood::Old {
                return Err(ChipError::Silent("not supported".to_owned()));
            }
            let made = EcdsaKeyPair::generate_pkcs8(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                &SystemRandom::new(),
            );
            let made = made.unwrap().as_ref().to_vec();
            self.keys.lock().unwrap().insert(name.to_owned(), made);
            self.open(name)
        }

        fn open(&self, name: &str) -> Result<Box<dyn ChipKey>, ChipError> {
            self.mood()?;
            let keys = self.keys.lock().unwrap();
            let pkcs8 = keys.get(name).ok_or(ChipError::Gone)?;
            let random = SystemRandom::new();
            let pair =
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).unwrap();
            Ok(Box::new(TestKey {
                pair,
                chip: self.clone(),
            }))
        }

        fn delete(&self, name: &str) -> Result<(), ChipError> {
            self.mood()?;
            let removed = self.keys.lock().unwrap().remove(name);
            removed.map(drop).ok_or(ChipError::Gone)
        }
    }

    #[derive(Debug)]
    struct TestKey {
        pair: EcdsaKeyPair,
        chip: TestChip,
    }

    impl ChipKey for TestKey {
        fn public_point(&self) -> [u8; POINT_BYTES] {
            self.pair.public_key().as_ref().try_into().unwrap()
        }

        fn sign(&self, hash: &[u8; DIGEST_BYTES]) -> Result<[u8; SIGNATURE_BYTES], ChipError> {
            if self.chip.mood()? == Mood::Broken {
                return Ok([7; SIGNATURE_BYTES]);
            }
            if self.chip.names().is_empty() {
                return Err(ChipError::Gone);
            }
            assert_eq!(hash, digest(&SHA256, TRIAL).as_ref(), "only the trial");
            let signature = self.pair.sign(&SystemRandom::new(), TRIAL).unwrap();
            Ok(signature.as_ref().try_into().unwrap())
        }
    }

    #[test]
    fn two_numbers_of_a_chip_become_a_signature_in_der() {
        // Leading zeros go, a high bit gets one: DER's integers are the shortest, and signed.
        let mut numbers = [0; SIGNATURE_BYTES];
        numbers[31] = 0x05;
        numbers[32] = 0x80;
        let der = signature_der(&numbers);
        assert_eq!(der[..5], [0x30, 38, 0x02, 1, 0x05]);
        assert_eq!(der[5..9], [0x02, 33, 0x00, 0x80]);
        assert_eq!(der.len(), 40);
        let longest = signature_der(&[0xff; SIGNATURE_BYTES]);
        assert_eq!(longest.len(), 72);
    }

    #[test]
    fn a_key_in_a_chip_signs_what_its_public_half_confirms() {
        for _ in 0..50 {
            let chip = TestChip::default();
            let key = InChip::tried(chip.create("key").unwrap()).unwrap();
            assert_eq!(key.public_point(), &key.key.public_point());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn while_a_chip_signs_the_other_tasks_go_on() {
        // The chip's signature waits for a task of the same worker.
        let (told, hears) = std::sync::mpsc::channel();
        let signing = tokio::spawn(async move {
            tokio::spawn(async move { told.send(()).unwrap() });
            let patience = std::time::Duration::from_secs(60);
            aside(|| hears.recv_timeout(patience).is_ok())
        });
        assert!(signing.await.unwrap());
    }

    #[test]
    fn a_chip_that_signs_rubbish_is_not_relied_on() {
        let chip = TestChip::default();
        chip.set(Mood::Broken);
        let tried = InChip::tried(chip.create("key").unwrap());
        assert_eq!(tried.unwrap_err(), KeyError::CannotSign);
    }
}
