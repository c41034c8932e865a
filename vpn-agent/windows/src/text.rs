//! Texts as Windows reads and writes them: UTF-16, ended by a zero.

use std::ffi::{OsStr, OsString};
use std::os::windows::ffi::{OsStrExt as _, OsStringExt as _};

/// Longest text that is read from a pointer, in units of 16 bits.
const MAX_UNITS: usize = 32 * 1024;

/// `text` with a zero at its end; what follows a zero inside it is cut off.
pub fn wide(text: impl AsRef<OsStr>) -> Vec<u16> {
    let units = text.as_ref().encode_wide();
    units.take_while(|unit| *unit != 0).chain([0]).collect()
}

/// Copies as much of `text` into a fixed field as leaves room for the zero.
pub fn fill(field: &mut [u16], text: &str) {
    let room = field.len().saturating_sub(1);
    let mut units: Vec<u16> = text.encode_utf16().take(room).collect();
    // Half of a character would be none.
    if units
        .last()
        .is_some_and(|last| (0xD800..0xDC00).contains(last))
    {
        units.pop();
    }
    field.fill(0);
    field[..units.len()].copy_from_slice(&units);
}

/// Reads a text up to its zero.
///
/// # Safety
/// `start` points to a text that ends with a zero, or is null.
pub unsafe fn read(start: *const u16) -> Option<OsString> {
    if start.is_null() {
        return None;
    }
    let mut length = 0;
    // SAFETY: the caller says that the text ends with a zero; no unit after it is read.
    while length < MAX_UNITS && unsafe { *start.add(length) } != 0 {
        length += 1;
    }
    // SAFETY: the loop has read `length` units from there.
    Some(OsString::from_wide(unsafe {
        std::slice::from_raw_parts(start, length)
    }))
}
