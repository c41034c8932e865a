//! Binary values inside JSON: base64, with a length that is checked on reading.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// 32 bytes: a WireGuard key, a pre-shared key, a SHA-256. Base64 in JSON and `Display`;
/// `Debug` hides the value, for half of these are secrets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes32(pub [u8; 32]);

/// A DER structure: a certificate, a request, a signature. Base64 in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Der(pub Vec<u8>);

/// A text that is not base64 of the right length.
#[derive(Debug, thiserror::Error)]
pub enum NotBytes {
    /// Not base64 at all.
    #[error("not base64")]
    Base64,
    /// Another length than asked for.
    #[error("{0} bytes where 32 are needed")]
    Length(usize),
}

impl fmt::Debug for Bytes32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bytes32(…)")
    }
}

impl fmt::Display for Bytes32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        STANDARD.encode(self.0).fmt(f)
    }
}

impl TryFrom<String> for Bytes32 {
    type Error = NotBytes;
    fn try_from(text: String) -> Result<Self, NotBytes> {
        let bytes = STANDARD.decode(text).map_err(|_| NotBytes::Base64)?;
        let length = bytes.len();
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| NotBytes::Length(length))
    }
}

impl From<Bytes32> for String {
    fn from(bytes: Bytes32) -> Self {
        bytes.to_string()
    }
}

impl TryFrom<String> for Der {
    type Error = NotBytes;
    fn try_from(text: String) -> Result<Self, NotBytes> {
        STANDARD
            .decode(text)
            .map(Self)
            .map_err(|_| NotBytes::Base64)
    }
}

impl From<Der> for String {
    fn from(der: Der) -> Self {
        STANDARD.encode(der.0)
    }
}
