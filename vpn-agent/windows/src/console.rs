//! Speaking to the user from a program that has no console of its own.

use std::ptr::null_mut;

use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Console::{
    ATTACH_PARENT_PROCESS, AttachConsole, GetStdHandle, STD_ERROR_HANDLE, STD_OUTPUT_HANDLE,
};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    MB_ICONWARNING, MB_OK, MB_SETFOREGROUND, MessageBoxW,
};

use crate::text::wide;

/// Takes part in the console of the program that started this one, if that has one: what is
/// printed then appears there. Where output was redirected, it goes on going there.
pub fn attach() {
    // SAFETY: no pointer is passed. Failing means that there is no such console.
    unsafe { AttachConsole(ATTACH_PARENT_PROCESS) };
}

/// Whether anybody can see what is printed to standard output or standard error.
pub fn is_heard() -> bool {
    [STD_OUTPUT_HANDLE, STD_ERROR_HANDLE]
        .into_iter()
        .any(|which| {
            // SAFETY: no pointer is passed.
            let handle: HANDLE = unsafe { GetStdHandle(which) };
            !handle.is_null() && handle != INVALID_HANDLE_VALUE
        })
}

/// Shows a message and waits until the user has closed it.
pub fn show(title: &str, message: &str) {
    let (title, message) = (wide(title), wide(message));
    // SAFETY: both texts end with zeros and live until the call returns; it needs no window.
    unsafe {
        MessageBoxW(
            null_mut(),
            message.as_ptr(),
            title.as_ptr(),
            MB_OK | MB_ICONWARNING | MB_SETFOREGROUND,
        );
    }
}
