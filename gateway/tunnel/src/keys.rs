//! WireGuard keys, each with its own type.
//!
//! Secrets are erased when dropped and have no `Debug`. Nothing here stores a key or sends
//! one; the agent makes a fresh pair for each session.

use std::fmt;

use ring::rand::{SecureRandom as _, SystemRandom};
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

/// A WireGuard (X25519) secret key.
#[derive(Clone)]
pub struct SecretKey(StaticSecret);

/// A WireGuard (X25519) public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// A session's pre-shared key.
#[derive(Clone, ZeroizeOnDrop)]
pub struct PresharedKey([u8; 32]);

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random number generator failed")]
pub struct NoRandomness;

impl SecretKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`NoRandomness`] if the system has no random bytes to give.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; 32]);
        fill(bytes.as_mut())?;
        Ok(Self(StaticSecret::from(*bytes)))
    }

    /// Takes over a key that was stored.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let key = Self(StaticSecret::from(bytes));
        bytes.zeroize();
        key
    }

    /// The key's bytes, to be stored.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    pub(crate) fn as_x25519(&self) -> &StaticSecret {
        &self.0
    }
}

impl PublicKey {
    /// Takes a key as it came over the wire.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn to_x25519(self) -> x25519_dalek::PublicKey {
        x25519_dalek::PublicKey::from(self.0)
    }
}

impl PresharedKey {
    /// Takes a key as the grant has it.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(…)")
    }
}

/// Returns a random WireGuard index: 24 bits, as boringtun keeps 8 for its own.
pub(crate) fn random_index() -> Result<u32, NoRandomness> {
    let mut bytes = [0; 4];
    fill(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes) >> 8)
}

fn fill(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    SystemRandom::new().fill(bytes).map_err(|_| NoRandomness)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_has_the_same_public_half() {
        let key = SecretKey::generate().unwrap();
        let stored = SecretKey::from_bytes(*key.to_bytes());
        assert_eq!(key.public_key(), stored.public_key());
        assert_ne!(
            key.public_key(),
            SecretKey::generate().unwrap().public_key()
        );
    }

    #[test]
    fn no_secret_shows_in_debug_output() {
        let shown = format!(
            "{:?} {:?}",
            SecretKey::from_bytes([7; 32]),
            PresharedKey::from_bytes([7; 32])
        );
        assert_eq!(shown, "SecretKey(…) PresharedKey(…)");
    }
}
