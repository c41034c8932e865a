//! The security chip of the PC (TPM), by Windows' provider for it.

use std::io;
use std::sync::Arc;

use windows_calls::key_chip;

use crate::device_key::chip::{
    Chip, ChipError, ChipKey, DIGEST_BYTES, POINT_BYTES, SIGNATURE_BYTES,
};

/// The chip, if Windows has one in use.
pub fn key_chip() -> Option<Arc<dyn Chip>> {
    key_chip::is_there().then(|| Arc::new(Tpm) as Arc<dyn Chip>)
}

#[derive(Debug)]
struct Tpm;

impl Chip for Tpm {
    fn create(&self, name: &str) -> Result<Box<dyn ChipKey>, ChipError> {
        let key = key_chip::create(name).map_err(said)?;
        Ok(Box::new(TpmKey(key)))
    }

    fn open(&self, name: &str) -> Result<Box<dyn ChipKey>, ChipError> {
        let key = key_chip::open(name).map_err(said)?;
        Ok(Box::new(TpmKey(key)))
    }

    fn delete(&self, name: &str) -> Result<(), ChipError> {
        key_chip::delete(name).map_err(said)
    }
}

#[derive(Debug)]
struct TpmKey(key_chip::Key);

impl ChipKey for TpmKey {
    fn public_point(&self) -> [u8; POINT_BYTES] {
        self.0.public_point()
    }

    fn sign(&self, digest: &[u8; DIGEST_BYTES]) -> Result<[u8; SIGNATURE_BYTES], ChipError> {
        self.0.sign(digest).map_err(said)
    }
}

fn said(error: io::Error) -> ChipError {
    if key_chip::is_gone(&error) {
        return ChipError::Gone;
    }
    // Windows has no text for many of them; the number says more than a wrong one.
    ChipError::Silent(match error.raw_os_error() {
        Some(code) => format!("{code:#010x}"),
        None => error.to_string(),
    })
}
