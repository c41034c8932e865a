//! Windows of other programs that this one has started.

use windows_sys::Win32::Foundation::{HWND, LPARAM};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    ASFW_ANY, AllowSetForegroundWindow, EnumWindows, GetWindowThreadProcessId, IsIconic,
    IsWindowVisible, PostMessageW, SW_RESTORE, SetForegroundWindow, ShowWindow, WM_CLOSE,
};
use windows_sys::core::BOOL;

/// Windows that are looked at; a desktop has some hundred.
const MAX_WINDOWS: usize = 10_000;

/// Go on with the next window.
const NEXT: BOOL = 1;
/// No more windows.
const ENOUGH: BOOL = 0;

struct Search {
    process_id: u32,
    seen: usize,
    found: Vec<HWND>,
}

/// Called by Windows for each window.
unsafe extern "system" fn visit(window: HWND, search: LPARAM) -> BOOL {
    // SAFETY: `windows_of` passes the address of its own search and waits for the end.
    let search =
        unsafe { &mut *std::ptr::with_exposed_provenance_mut::<Search>(search.cast_unsigned()) };
    search.seen += 1;
    let mut owner = 0;
    // SAFETY: the window was given by Windows; `owner` is a place for a number.
    unsafe { GetWindowThreadProcessId(window, &raw mut owner) };
    // SAFETY: as above.
    if owner == search.process_id && unsafe { IsWindowVisible(window) } != 0 {
        search.found.push(window);
    }
    if search.seen < MAX_WINDOWS {
        NEXT
    } else {
        ENOUGH
    }
}

fn windows_of(process_id: u32) -> Vec<HWND> {
    let mut search = Search {
        process_id,
        seen: 0,
        found: Vec::new(),
    };
    let address = (&raw mut search).expose_provenance().cast_signed();
    // SAFETY: `visit` is called only until this returns, and `search` lives longer. A search
    // that was ended counts as failed, which is fine.
    unsafe { EnumWindows(Some(visit), address) };
    search.found
}

/// Asks the windows of a process to close, as a click on their × does. True if it has any.
pub fn ask_to_close(process_id: u32) -> bool {
    let windows = windows_of(process_id);
    for window in &windows {
        // SAFETY: no pointer is passed; a window that is gone by now is an error that says so.
        unsafe { PostMessageW(*window, WM_CLOSE, 0, 0) };
    }
    !windows.is_empty()
}

/// Brings the first window of a process to the front. False if it has none.
pub fn bring_forward(process_id: u32) -> bool {
    let Some(window) = windows_of(process_id).first().copied() else {
        return false;
    };
    // SAFETY: no pointer is passed; a window that is gone by now is an error, not more.
    unsafe {
        if IsIconic(window) != 0 {
            ShowWindow(window, SW_RESTORE);
        }
        SetForegroundWindow(window);
    }
    true
}

/// Lets another program take the front, which Windows else allows only to the one that the
/// user has just started.
pub fn let_others_come_forward() {
    // SAFETY: no pointer is passed. Failing means that this program is not in front itself.
    unsafe { AllowSetForegroundWindow(ASFW_ANY) };
}
