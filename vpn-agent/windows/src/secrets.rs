//! Secrets at rest: the Data Protection API, whose keys hang on the user's logon.

use std::io;
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Cryptography::{
    CRYPT_INTEGER_BLOB, CRYPTPROTECT_UI_FORBIDDEN, CryptProtectData, CryptUnprotectData,
};
use zeroize::{Zeroize as _, Zeroizing};

/// Wraps `secret` so that only this user on this PC can open it, and only with the same
/// `purpose`. Windows never asks the user anything.
///
/// # Errors
/// What the system says.
pub fn protect(secret: &[u8], purpose: &[u8]) -> io::Result<Vec<u8>> {
    let (secret, purpose) = (blob(secret)?, blob(purpose)?);
    let mut wrapped = empty();
    // SAFETY: both inputs point to slices that live until the call returns and are only read;
    // `wrapped` is a place for the answer.
    let done = unsafe {
        CryptProtectData(
            &raw const secret,
            null(),
            &raw const purpose,
            null(),
            null(),
            CRYPTPROTECT_UI_FORBIDDEN,
            &raw mut wrapped,
        )
    };
    taken(done, wrapped).map(|mut bytes| std::mem::take(&mut *bytes))
}

/// Opens what [`protect`] wrapped.
///
/// # Errors
/// What the system says: another user's, another PC's, another purpose, or damaged.
pub fn unprotect(wrapped: &[u8], purpose: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    let (wrapped, purpose) = (blob(wrapped)?, blob(purpose)?);
    let mut secret = empty();
    // SAFETY: as above.
    let done = unsafe {
        CryptUnprotectData(
            &raw const wrapped,
            null_mut(),
            &raw const purpose,
            null(),
            null(),
            CRYPTPROTECT_UI_FORBIDDEN,
            &raw mut secret,
        )
    };
    taken(done, secret)
}

fn blob(bytes: &[u8]) -> io::Result<CRYPT_INTEGER_BLOB> {
    Ok(CRYPT_INTEGER_BLOB {
        cbData: u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        pbData: bytes.as_ptr().cast_mut(),
    })
}

fn empty() -> CRYPT_INTEGER_BLOB {
    CRYPT_INTEGER_BLOB {
        cbData: 0,
        pbData: null_mut(),
    }
}

/// Copies an answer of Windows, overwrites it there and frees it.
fn taken(done: i32, answer: CRYPT_INTEGER_BLOB) -> io::Result<Zeroizing<Vec<u8>>> {
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    if answer.pbData.is_null() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let length = usize::try_from(answer.cbData).expect("32 bits fit");
    // SAFETY: the call has succeeded, so that the address and length are those of memory that
    // it has allocated for us and that nobody else uses.
    let bytes = unsafe { std::slice::from_raw_parts_mut(answer.pbData, length) };
    let copy = Zeroizing::new(bytes.to_vec());
    bytes.zeroize();
    // SAFETY: to be freed so, once; `bytes` is not used any more.
    unsafe { LocalFree(answer.pbData.cast()) };
    Ok(copy)
}
