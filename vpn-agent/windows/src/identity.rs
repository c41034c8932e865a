//! Who runs a process: the user's security identifier (SID).

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};

use windows_sys::Win32::Foundation::{HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::ConvertSidToStringSidW;
use windows_sys::Win32::Security::{GetTokenInformation, PSID, TOKEN_QUERY, TOKEN_USER, TokenUser};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, OpenProcess, OpenProcessToken, PROCESS_QUERY_LIMITED_INFORMATION,
};

use crate::text;

/// Room for a token's user: the structure and the longest SID (68 bytes), in 64-bit words.
const TOKEN_USER_WORDS: usize = 16;

/// The user of this process, as `S-1-5-21-…`.
///
/// # Errors
/// What the system says.
pub fn own_sid() -> io::Result<String> {
    // SAFETY: the call returns a constant that need not be closed.
    sid_of_token(&open_token(unsafe { GetCurrentProcess() })?)
}

/// The user of another process.
///
/// # Errors
/// What the system says, for example that the process is gone or another user's.
pub fn sid_of_process(process_id: u32) -> io::Result<String> {
    // SAFETY: no pointer is passed.
    let process = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, process_id) };
    if process.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was opened above and belongs to nobody else.
    let process = unsafe { OwnedHandle::from_raw_handle(process) };
    sid_of_token(&open_token(process.as_raw_handle())?)
}

fn open_token(process: HANDLE) -> io::Result<OwnedHandle> {
    let mut token = std::ptr::null_mut();
    // SAFETY: `process` is a live handle, `token` a place for another.
    if unsafe { OpenProcessToken(process, TOKEN_QUERY, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made the handle for us.
    Ok(unsafe { OwnedHandle::from_raw_handle(token) })
}

fn sid_of_token(token: &OwnedHandle) -> io::Result<String> {
    let mut room = [0u64; TOKEN_USER_WORDS];
    let mut needed = 0;
    // SAFETY: the size passed is the buffer's, which is aligned for the structure.
    let done = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            room.as_mut_ptr().cast(),
            u32::try_from(size_of_val(&room)).expect("128 fits"),
            &raw mut needed,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has filled the buffer with this structure; its SID lies in the buffer.
    sid_text(unsafe { (*room.as_ptr().cast::<TOKEN_USER>()).User.Sid })
}

/// A SID as text. It must be a valid one that Windows has made.
pub(crate) fn sid_text(sid: PSID) -> io::Result<String> {
    let mut start = std::ptr::null_mut();
    // SAFETY: `sid` comes from a structure that Windows has filled, `start` is a place for the
    // text's address.
    if unsafe { ConvertSidToStringSidW(sid, &raw mut start) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has made a text that ends with a zero.
    let text = unsafe { text::read(start) };
    // SAFETY: the text is to be freed so, once; nothing points to it any more.
    unsafe { LocalFree(start.cast()) };
    text.and_then(|text| text.into_string().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
