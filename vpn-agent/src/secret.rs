//! Random secrets of the agent's own making, compared without leaking where they differ.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Random bytes in a secret.
const SECRET_BYTES: usize = 32;

/// A secret that lives as long as this process: launch token, anti-forgery token.
#[derive(Clone)]
pub struct Secret(String);

/// The operating system gave no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("no random numbers from the operating system: {0}")]
pub struct NoRandomness(getrandom::Error);

/// Fills an array with random bytes.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}

impl Secret {
    /// Makes a new one: 256 random bits, written for use in URLs and cookies.
    pub fn random() -> Result<Self, NoRandomness> {
        let bytes: [u8; SECRET_BYTES] = random_bytes()?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The text, for the one place that hands it out.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Says whether `text` is the secret, in a time that does not depend on how much of it fits.
    pub fn is(&self, text: &str) -> bool {
        let (own, other) = (self.0.as_bytes(), text.as_bytes());
        own.len() == other.len() && own.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_itself_and_nothing_else() {
        let secret = Secret::random().unwrap();
        assert!(secret.is(secret.expose()));
        for other in [
            "",
            "x",
            &secret.expose()[1..],
            Secret::random().unwrap().expose(),
        ] {
            assert!(!secret.is(other));
        }
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
