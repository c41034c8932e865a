//! Values of the registry.

use std::io;
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, ERROR_MORE_DATA, ERROR_SUCCESS};
use windows_sys::Win32::System::Registry::{
    HKEY, HKEY_CURRENT_USER, HKEY_LOCAL_MACHINE, REG_SZ, RRF_RT_REG_DWORD, RRF_RT_REG_SZ,
    RRF_SUBKEY_WOW6432KEY, RRF_SUBKEY_WOW6464KEY, RegDeleteKeyValueW, RegDeleteTreeW, RegGetValueW,
    RegSetKeyValueW,
};

use crate::text::wide;

/// Longest text that is read, in units of 16 bits.
const MAX_UNITS: usize = 32 * 1024;

/// Which half of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// This user's.
    CurrentUser,
    /// Everybody's, as 64-bit programs see it.
    LocalMachine64,
    /// Everybody's, as 32-bit programs see it.
    LocalMachine32,
}

impl Root {
    /// All of them, the user's own first.
    pub const ALL: [Self; 3] = [
        Self::CurrentUser,
        Self::LocalMachine64,
        Self::LocalMachine32,
    ];

    fn key(self) -> HKEY {
        match self {
            Self::CurrentUser => HKEY_CURRENT_USER,
            Self::LocalMachine64 | Self::LocalMachine32 => HKEY_LOCAL_MACHINE,
        }
    }

    fn view(self) -> u32 {
        match self {
            Self::CurrentUser | Self::LocalMachine64 => RRF_SUBKEY_WOW6464KEY,
            Self::LocalMachine32 => RRF_SUBKEY_WOW6432KEY,
        }
    }
}

/// A text; `name` is empty for the key's default value. `None` if there is none, or one that
/// cannot be read. Variables (`%ProgramFiles%`) are written out.
pub fn text(root: Root, key: &str, name: &str) -> Option<String> {
    let (key, name) = (wide(key), wide(name));
    let mut room = vec![0u16; 512];
    while room.len() <= MAX_UNITS {
        let mut bytes = u32::try_from(size_of_val(room.as_slice())).ok()?;
        // SAFETY: the texts end with zeros, the size passed is the buffer's.
        let code = unsafe {
            RegGetValueW(
                root.key(),
                key.as_ptr(),
                name.as_ptr(),
                RRF_RT_REG_SZ | root.view(),
                null_mut(),
                room.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        match code {
            ERROR_SUCCESS => {
                let units = room.iter().position(|unit| *unit == 0)?;
                return String::from_utf16(&room[..units]).ok();
            }
            ERROR_MORE_DATA => room.resize(room.len() * 4, 0),
            _ => return None,
        }
    }
    None
}

/// A 32-bit number. `None` if there is none.
pub fn number(root: Root, key: &str, name: &str) -> Option<u32> {
    let (key, name) = (wide(key), wide(name));
    let mut number = 0u32;
    let mut bytes = 4;
    // SAFETY: the texts end with zeros, the size passed is the number's.
    let code = unsafe {
        RegGetValueW(
            root.key(),
            key.as_ptr(),
            name.as_ptr(),
            RRF_RT_REG_DWORD | root.view(),
            null_mut(),
            (&raw mut number).cast(),
            &raw mut bytes,
        )
    };
    (code == ERROR_SUCCESS).then_some(number)
}

/// Writes a text into this user's half, with the keys on the way to it.
///
/// # Errors
/// What the system says.
pub fn set_own_text(key: &str, name: &str, text: &str) -> io::Result<()> {
    let (key, name, text) = (wide(key), wide(name), wide(text));
    let bytes = u32::try_from(size_of_val(text.as_slice())).map_err(io::Error::other)?;
    // SAFETY: the texts end with zeros, the size passed is that of the third.
    let code = unsafe {
        RegSetKeyValueW(
            HKEY_CURRENT_USER,
            key.as_ptr(),
            if name.len() == 1 {
                null()
            } else {
                name.as_ptr()
            },
            REG_SZ,
            text.as_ptr().cast(),
            bytes,
        )
    };
    result(code)
}

/// Removes a key of this user's half with everything under it. One that is not there is fine.
///
/// # Errors
/// What the system says.
pub fn remove_own_key(key: &str) -> io::Result<()> {
    // SAFETY: the text ends with a zero.
    match unsafe { RegDeleteTreeW(HKEY_CURRENT_USER, wide(key).as_ptr()) } {
        ERROR_FILE_NOT_FOUND => Ok(()),
        code => result(code),
    }
}

/// Removes one value of a key of this user's half. One that is not there is fine.
///
/// # Errors
/// What the system says.
pub fn remove_own_value(key: &str, name: &str) -> io::Result<()> {
    let (key, name) = (wide(key), wide(name));
    // SAFETY: both texts end with zeros.
    match unsafe { RegDeleteKeyValueW(HKEY_CURRENT_USER, key.as_ptr(), name.as_ptr()) } {
        ERROR_FILE_NOT_FOUND => Ok(()),
        code => result(code),
    }
}

fn result(code: u32) -> io::Result<()> {
    if code == ERROR_SUCCESS {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(
            i32::try_from(code).unwrap_or(i32::MAX),
        ))
    }
}
