//! Which proxy Windows has for an address: what stands in the user's settings, and what a script
//! (PAC) or a search in the network (WPAD) says.

use std::io;
use std::ptr::null;

use windows_sys::Win32::Foundation::{GlobalFree, TRUE};
use windows_sys::Win32::Networking::WinHttp::{
    WINHTTP_ACCESS_TYPE_NAMED_PROXY, WINHTTP_ACCESS_TYPE_NO_PROXY, WINHTTP_AUTO_DETECT_TYPE_DHCP,
    WINHTTP_AUTO_DETECT_TYPE_DNS_A, WINHTTP_AUTOPROXY_AUTO_DETECT, WINHTTP_AUTOPROXY_CONFIG_URL,
    WINHTTP_AUTOPROXY_OPTIONS, WINHTTP_CURRENT_USER_IE_PROXY_CONFIG, WINHTTP_PROXY_INFO,
    WinHttpCloseHandle, WinHttpGetIEProxyConfigForCurrentUser, WinHttpGetProxyForUrl, WinHttpOpen,
    WinHttpSetTimeouts,
};
use windows_sys::core::PWSTR;

use crate::text::{read, wide};

/// How long finding and fetching a script may take in each of its steps, in milliseconds.
const STEP_LIMIT_MS: i32 = 3_000;

/// The user's settings (Settings → Network → Proxy), as they stand there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserSettings {
    /// Look for a script in the network.
    pub detects: bool,
    /// The address of a script.
    pub script: Option<String>,
    /// The list of proxies.
    pub list: Option<String>,
    /// The list of exceptions.
    pub exceptions: Option<String>,
}

/// What a script says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptAnswer {
    /// No proxy.
    Straight,
    /// A list of proxies and one of exceptions.
    Proxies {
        /// The proxies.
        list: String,
        /// The exceptions.
        exceptions: String,
    },
}

/// Reads the user's settings.
///
/// # Errors
/// What the system says; that there are none is one of them.
pub fn user_settings() -> io::Result<UserSettings> {
    let mut config = WINHTTP_CURRENT_USER_IE_PROXY_CONFIG::default();
    // SAFETY: `config` is a place for the answer.
    if unsafe { WinHttpGetIEProxyConfigForCurrentUser(&raw mut config) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(UserSettings {
        detects: config.fAutoDetect != 0,
        script: taken(config.lpszAutoConfigUrl),
        list: taken(config.lpszProxy),
        exceptions: taken(config.lpszProxyBypass),
    })
}

/// Asks a script which proxy `url` is reached through; without the script's address, one is
/// looked for in the network. Takes seconds.
///
/// # Errors
/// What the system says: no script there, or one that does not run.
pub fn ask_script(url: &str, script: Option<&str>) -> io::Result<ScriptAnswer> {
    let session = Session::open()?;
    let (url, script) = (wide(url), script.map(wide));
    let mut options = WINHTTP_AUTOPROXY_OPTIONS {
        // The script's server may ask who we are, as it asks browsers.
        fAutoLogonIfChallenged: TRUE,
        ..Default::default()
    };
    match &script {
        Some(script) => {
            options.dwFlags = WINHTTP_AUTOPROXY_CONFIG_URL;
            options.lpszAutoConfigUrl = script.as_ptr();
        }
        None => {
            options.dwFlags = WINHTTP_AUTOPROXY_AUTO_DETECT;
            options.dwAutoDetectFlags =
                WINHTTP_AUTO_DETECT_TYPE_DHCP | WINHTTP_AUTO_DETECT_TYPE_DNS_A;
        }
    }
    let mut info = WINHTTP_PROXY_INFO {
        dwAccessType: WINHTTP_ACCESS_TYPE_NO_PROXY,
        ..Default::default()
    };
    // SAFETY: the session is open, the texts end with zeros and outlive the call, `info` is a
    // place for the answer.
    let done =
        unsafe { WinHttpGetProxyForUrl(session.0, url.as_ptr(), &raw mut options, &raw mut info) };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    let (list, exceptions) = (taken(info.lpszProxy), taken(info.lpszProxyBypass));
    Ok(match list {
        Some(list) if info.dwAccessType == WINHTTP_ACCESS_TYPE_NAMED_PROXY => {
            ScriptAnswer::Proxies {
                list,
                exceptions: exceptions.unwrap_or_default(),
            }
        }
        Some(_) | None => ScriptAnswer::Straight,
    })
}

/// An open session of WinHTTP.
struct Session(*mut core::ffi::c_void);

impl Session {
    fn open() -> io::Result<Self> {
        let name = wide("vpn-agent");
        // SAFETY: the name ends with a zero; without a named proxy the other texts are none.
        let session = unsafe {
            WinHttpOpen(
                name.as_ptr(),
                WINHTTP_ACCESS_TYPE_NO_PROXY,
                null(),
                null(),
                0,
            )
        };
        if session.is_null() {
            return Err(io::Error::last_os_error());
        }
        let session = Self(session);
        // SAFETY: the session is open. Without these limits the system's own apply.
        unsafe {
            WinHttpSetTimeouts(
                session.0,
                STEP_LIMIT_MS,
                STEP_LIMIT_MS,
                STEP_LIMIT_MS,
                STEP_LIMIT_MS,
            )
        };
        Ok(session)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: opened by `open`, closed once.
        unsafe { WinHttpCloseHandle(self.0) };
    }
}

/// Copies a text of WinHTTP's and frees it.
fn taken(text: PWSTR) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: WinHTTP's texts end with zeros.
    let copy = unsafe { read(text) };
    // SAFETY: to be freed so, once.
    unsafe { GlobalFree(text.cast()) };
    let copy = copy?.to_string_lossy().into_owned();
    (!copy.is_empty()).then_some(copy)
}
