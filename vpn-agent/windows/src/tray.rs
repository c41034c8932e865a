//! Notices at an icon in the notification area, and the hidden window through
//! which Windows and installers ask it to end.

use std::cell::RefCell;
use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use windows_sys::Win32::Foundation::{HWND, LPARAM, LRESULT, WPARAM};
use windows_sys::Win32::System::LibraryLoader::GetModuleHandleW;
use windows_sys::Win32::UI::Shell::{
    NIF_ICON, NIF_INFO, NIF_MESSAGE, NIF_TIP, NIIF_INFO, NIM_ADD, NIM_DELETE, NIM_MODIFY,
    NIN_BALLOONUSERCLICK, NOTIFYICONDATAW, Shell_NotifyIconW,
};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    CreateWindowExW, DefWindowProcW, DestroyWindow, DispatchMessageW, GetMessageW, IDI_APPLICATION,
    LoadIconW, MSG, PostMessageW, PostQuitMessage, RegisterClassW, WM_APP, WM_CLOSE, WM_DESTROY,
    WM_ENDSESSION, WM_LBUTTONUP, WNDCLASSW,
};

use crate::text::{fill, wide};

/// Something happened to the icon.
const ICON_MESSAGE: u32 = WM_APP + 1;
/// A notice waits to be shown.
const NOTICE_MESSAGE: u32 = WM_APP + 2;
/// The owner is done.
const LEAVE_MESSAGE: u32 = WM_APP + 3;

/// The program's own icon, where it has one: the first in its resources.
const OWN_ICON: usize = 1;

/// Names the icon among those of this window.
const ICON_ID: u32 = 1;

/// Notices that may wait to be shown; the oldest go first.
const MAX_WAITING: usize = 8;

/// Windows ends the process when the answer to the end of the session is back: so much time is
/// left to end well.
const FAREWELL: Duration = Duration::from_secs(4);

/// What the user or Windows wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The icon or a notice was clicked.
    Clicked,
    /// The program is to end: the user logs off, or somebody closes the hidden window.
    EndWanted,
}

/// The icon and its hidden window. Dropping removes both.
#[derive(Debug)]
pub struct Tray {
    /// An address, as handles of windows may be used from any thread.
    window: isize,
    waiting: Arc<Mutex<Vec<Notice>>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Notice {
    title: String,
    text: String,
}

struct State {
    title: String,
    waiting: Arc<Mutex<Vec<Notice>>>,
    on_event: Box<dyn Fn(Event)>,
}

thread_local! {
    /// Of the one window of this thread.
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

impl Tray {
    /// Makes the hidden window; the icon comes with the first notice. `class` names the window
    /// for others to find, `title` is what the icon is called. `on_event` is called on a thread of its own and must not wait.
    ///
    /// # Errors
    /// What the system says. A missing notification area is no error.
    pub fn open(
        class: &str,
        title: &str,
        on_event: impl Fn(Event) + Send + 'static,
    ) -> io::Result<Self> {
        let waiting = Arc::new(Mutex::new(Vec::new()));
        let (class, title) = (class.to_owned(), title.to_owned());
        let (sender, receiver) = mpsc::sync_channel(1);
        let shared = waiting.clone();
        let thread = std::thread::Builder::new()
            .name("tray".to_owned())
            .spawn(move || {
                let made = make_window(&class, &title);
                let ready = made.is_ok();
                STATE.with_borrow_mut(|state| {
                    *state = Some(State {
                        title,
                        waiting: shared,
                        on_event: Box::new(on_event),
                    });
                });
                // The other side waits for exactly this.
                let _ = sender.send(made);
                if ready {
                    run();
                }
            })?;
        let window = receiver.recv().map_err(io::Error::other)??;
        Ok(Self {
            window,
            waiting,
            thread: Some(thread),
        })
    }

    /// Shows a notice of the system, as long as Windows thinks right.
    pub fn notify(&self, title: &str, text: &str) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() == MAX_WAITING {
            waiting.remove(0);
        }
        waiting.push(Notice {
            title: title.to_owned(),
            text: text.to_owned(),
        });
        drop(waiting);
        self.post(NOTICE_MESSAGE);
    }

    fn post(&self, message: u32) {
        // SAFETY: no pointer is passed. The window lives until `drop`.
        unsafe { PostMessageW(window_of(self.window), message, 0, 0) };
    }
}

impl Drop for Tray {
    fn drop(&mut self) {
        self.post(LEAVE_MESSAGE);
        if let Some(thread) = self.thread.take() {
            // A panic there has said so already.
            let _ = thread.join();
        }
    }
}

fn window_of(address: isize) -> HWND {
    std::ptr::with_exposed_provenance_mut(address.cast_unsigned())
}

fn make_window(class: &str, title: &str) -> io::Result<isize> {
    let (class, title) = (wide(class), wide(title));
    // SAFETY: a null name means this program; the handle needs no closing.
    let module = unsafe { GetModuleHandleW(std::ptr::null()) };
    let description = WNDCLASSW {
        lpfnWndProc: Some(handle),
        hInstance: module,
        lpszClassName: class.as_ptr(),
        ..WNDCLASSW::default()
    };
    // SAFETY: the description and its name live until the call returns. That the class is
    // there already is fine; the next call then finds it.
    unsafe { RegisterClassW(&raw const description) };
    // SAFETY: both texts end with zeros; no menu, no parent, no parameter. Never made visible.
    let window = unsafe {
        CreateWindowExW(
            0,
            class.as_ptr(),
            title.as_ptr(),
            0,
            0,
            0,
            0,
            0,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            module,
            std::ptr::null(),
        )
    };
    if window.is_null() {
        return Err(io::Error::last_os_error());
    }
    Ok(window.expose_provenance().cast_signed())
}

/// Hands messages to [`handle`] until the window is gone.
fn run() {
    let mut message = MSG::default();
    // SAFETY: the message is a live one; a null window means all of this thread.
    while unsafe { GetMessageW(&raw mut message, std::ptr::null_mut(), 0, 0) } > 0 {
        // SAFETY: the message was filled in above.
        unsafe { DispatchMessageW(&raw const message) };
    }
}

/// Called by Windows for each message, on the thread of [`run`].
unsafe extern "system" fn handle(
    window: HWND,
    message: u32,
    wparam: WPARAM,
    lparam: LPARAM,
) -> LRESULT {
    match message {
        ICON_MESSAGE => {
            let what = u32::try_from(lparam).unwrap_or_default();
            if what == WM_LBUTTONUP || what == NIN_BALLOONUSERCLICK {
                tell(Event::Clicked);
            }
        }
        NOTICE_MESSAGE => show_waiting(window),
        WM_CLOSE => tell(Event::EndWanted),
        WM_ENDSESSION if wparam != 0 => {
            tell(Event::EndWanted);
            std::thread::sleep(FAREWELL);
        }
        LEAVE_MESSAGE => {
            tell_icon(NIM_DELETE, window, None);
            // SAFETY: it is this thread's window.
            unsafe { DestroyWindow(window) };
        }
        // SAFETY: no pointer is passed.
        WM_DESTROY => unsafe { PostQuitMessage(0) },
        // SAFETY: the parameters are those of Windows.
        _ => return unsafe { DefWindowProcW(window, message, wparam, lparam) },
    }
    0
}

fn tell(event: Event) {
    STATE.with_borrow(|state| {
        if let Some(state) = state {
            (state.on_event)(event);
        }
    });
}

fn show_waiting(window: HWND) {
    let waiting = STATE.with_borrow(|state| {
        state.as_ref().map(|state| {
            let mut waiting = state.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *waiting)
        })
    });
    for notice in waiting.unwrap_or_default() {
        if !tell_icon(NIM_MODIFY, window, Some(&notice)) {
            // It is the first notice, or the taskbar was started again.
            tell_icon(NIM_ADD, window, Some(&notice));
        }
    }
}

fn tell_icon(what: u32, window: HWND, notice: Option<&Notice>) -> bool {
    let mut data = NOTIFYICONDATAW {
        cbSize: u32::try_from(size_of::<NOTIFYICONDATAW>()).expect("under a thousand"),
        hWnd: window,
        uID: ICON_ID,
        uFlags: NIF_ICON | NIF_MESSAGE | NIF_TIP,
        uCallbackMessage: ICON_MESSAGE,
        hIcon: icon(),
        ..NOTIFYICONDATAW::default()
    };
    STATE.with_borrow(|state| {
        if let Some(state) = state {
            fill(&mut data.szTip, &state.title);
        }
    });
    if let Some(notice) = notice {
        data.uFlags |= NIF_INFO;
        data.dwInfoFlags = NIIF_INFO;
        fill(&mut data.szInfoTitle, &notice.title);
        fill(&mut data.szInfo, &notice.text);
    }
    // SAFETY: the structure is whole and lives until the call returns.
    unsafe { Shell_NotifyIconW(what, &raw const data) != 0 }
}

fn icon() -> windows_sys::Win32::UI::WindowsAndMessaging::HICON {
    // SAFETY: a null name means this program; small numbers stand for names of resources.
    // Shared icons need no freeing.
    unsafe {
        let module = GetModuleHandleW(std::ptr::null());
        let own = LoadIconW(module, std::ptr::without_provenance(OWN_ICON));
        if own.is_null() {
            LoadIconW(std::ptr::null_mut(), IDI_APPLICATION)
        } else {
            own
        }
    }
}
