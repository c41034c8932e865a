//! Keys in the PC's security chip (TPM), by the provider that Windows has for it (CNG). A key is
//! made there, for this user alone, and cannot be read out; it has a name and signs.

use std::fmt;
use std::io;
use std::ptr::null;
use std::sync::{Mutex, PoisonError};

use windows_sys::Win32::Foundation::{
    NTE_BAD_KEYSET, NTE_NO_KEY, NTE_NOT_FOUND, TPM_20_E_INTEGRITY,
};
use windows_sys::Win32::Security::Cryptography::{
    BCRYPT_ECCKEY_BLOB, BCRYPT_ECCPUBLIC_BLOB, BCRYPT_ECDSA_PUBLIC_P256_MAGIC,
    MS_PLATFORM_CRYPTO_PROVIDER, NCRYPT_ECDSA_P256_ALGORITHM, NCRYPT_HANDLE, NCRYPT_SILENT_FLAG,
    NCryptCreatePersistedKey, NCryptDeleteKey, NCryptExportKey, NCryptFinalizeKey,
    NCryptFreeObject, NCryptOpenKey, NCryptOpenStorageProvider, NCryptSignHash,
};

use crate::text::wide;

/// Bytes of a coordinate.
const COORDINATE: usize = 32;
/// An uncompressed point.
const POINT: usize = 1 + 2 * COORDINATE;
/// What stands before the coordinates in an exported public key.
const BLOB_HEAD: usize = size_of::<BCRYPT_ECCKEY_BLOB>();
/// r and s.
const SIGNATURE: usize = 2 * COORDINATE;

/// A P-256 key in the chip.
pub struct Key {
    // Fields are dropped in this order: the key before the provider that it is from.
    handle: Mutex<Handle>,
    _provider: Handle,
    point: [u8; POINT],
}

/// Whether Windows has such a chip in use.
pub fn is_there() -> bool {
    provider().is_ok()
}

/// Makes a key. Windows never asks the user anything.
///
/// # Errors
/// What the system says: the chip may know no such keys, or there is one of that name already.
pub fn create(name: &str) -> io::Result<Key> {
    let provider = provider()?;
    let name = wide(name);
    let mut key = 0;
    // SAFETY: the provider is open; both texts end with a zero; the place for the answer
    // outlives the call. Without a flag the key is this user's and cannot be exported.
    checked(unsafe {
        NCryptCreatePersistedKey(
            provider.0,
            &raw mut key,
            NCRYPT_ECDSA_P256_ALGORITHM,
            name.as_ptr(),
            0,
            0,
        )
    })?;
    let key = Handle(key);
    // SAFETY: the key was made above and is not in use anywhere else.
    checked(unsafe { NCryptFinalizeKey(key.0, NCRYPT_SILENT_FLAG) })?;
    Key::new(key, provider)
}

/// Opens a key.
///
/// # Errors
/// What the system says; see [`is_gone`].
pub fn open(name: &str) -> io::Result<Key> {
    let provider = provider()?;
    Key::new(find(&provider, name)?, provider)
}

/// Deletes a key.
///
/// # Errors
/// What the system says; see [`is_gone`].
pub fn delete(name: &str) -> io::Result<()> {
    let provider = provider()?;
    let key = find(&provider, name)?;
    // SAFETY: the key is open, and nobody else has this handle.
    checked(unsafe { NCryptDeleteKey(key.0, NCRYPT_SILENT_FLAG) })?;
    // The call has freed it.
    std::mem::forget(key);
    Ok(())
}

/// Whether an error means that the chip does not have the key: it was deleted, the chip was
/// cleared, or the key is another chip's.
pub fn is_gone(error: &io::Error) -> bool {
    let codes = [
        NTE_BAD_KEYSET,
        NTE_NOT_FOUND,
        NTE_NO_KEY,
        TPM_20_E_INTEGRITY,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

impl Key {
    fn new(handle: Handle, provider: Handle) -> io::Result<Self> {
        let mut blob = [0; BLOB_HEAD + 2 * COORDINATE];
        let mut written = 0;
        // SAFETY: the key is open; `blob` is as long as is said and outlives the call, like the
        // place for the length.
        checked(unsafe {
            NCryptExportKey(
                handle.0,
                0,
                BCRYPT_ECCPUBLIC_BLOB,
                null(),
                blob.as_mut_ptr(),
                length(&blob),
                &raw mut written,
                NCRYPT_SILENT_FLAG,
            )
        })?;
        let magic = BCRYPT_ECDSA_PUBLIC_P256_MAGIC.to_le_bytes();
        if written != length(&blob) || !blob.starts_with(&magic) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut point = [4; POINT];
        point[1..].copy_from_slice(&blob[BLOB_HEAD..]);
        Ok(Self {
            handle: Mutex::new(handle),
            _provider: provider,
            point,
        })
    }

    /// Its public half, uncompressed.
    pub fn public_point(&self) -> [u8; POINT] {
        self.point
    }

    /// Signs a SHA-256: r and s, one after the other. Takes the chip some tenths of a second.
    ///
    /// # Errors
    /// What the system says; see [`is_gone`].
    pub fn sign(&self, digest: &[u8; 32]) -> io::Result<[u8; SIGNATURE]> {
        let mut signature = [0; SIGNATURE];
        let mut written = 0;
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the key is open, and used by one thread at a time; the digest is only read;
        // the places for the answer are as long as is said and outlive the call.
        checked(unsafe {
            NCryptSignHash(
                handle.0,
                null(),
                digest.as_ptr(),
                length(digest),
                signature.as_mut_ptr(),
                length(&signature),
                &raw mut written,
                NCRYPT_SILENT_FLAG,
            )
        })?;
        if written != length(&signature) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(signature)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Something of the provider's that is freed once.
struct Handle(NCRYPT_HANDLE);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is this value's alone.
        unsafe { NCryptFreeObject(self.0) };
    }
}

fn provider() -> io::Result<Handle> {
    let mut provider = 0;
    // SAFETY: the name is a constant; the place for the answer outlives the call.
    checked(unsafe {
        NCryptOpenStorageProvider(&raw mut provider, MS_PLATFORM_CRYPTO_PROVIDER, 0)
    })?;
    Ok(Handle(provider))
}

fn find(provider: &Handle, name: &str) -> io::Result<Handle> {
    let name = wide(name);
    let mut key = 0;
    // SAFETY: the provider is open; the name ends with a zero; the place for the answer outlives
    // the call.
    checked(unsafe {
        NCryptOpenKey(
            provider.0,
            &raw mut key,
            name.as_ptr(),
            0,
            NCRYPT_SILENT_FLAG,
        )
    })?;
    Ok(Handle(key))
}

fn checked(code: i32) -> io::Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(code))
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("these are some tens of bytes")
}
