//! What `diagnose`, the dialer and the page that opens zips want to know of Windows.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use windows_calls::proxy::{self, ScriptAnswer, UserSettings};
use windows_calls::registry::{self, Root};
use windows_calls::sign_on::{Conversation, Package};
use zeroize::Zeroizing;

use crate::dial::sign_on::{Scheme, SignOn};
use crate::dial::system::{Origin, SystemProxy};
use crate::os::{PRODUCT_NAME, ZipOpener};
use crate::update::take_over;

/// The name under which this program offers itself for zips.
const ZIP_CLASS: &str = "Renkei.Zip";

/// The user's own half of what opens which file.
const CLASSES: &str = r"Software\Classes";

/// Room for this user on the disk that holds `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    windows_calls::measures::free_bytes(path)
}

/// The largest packet that the way of a connection takes, in bytes, as far as is known.
pub fn path_mtu(stream: &tokio::net::TcpStream) -> Option<u32> {
    let peer = stream.peer_addr().ok()?;
    // Only sockets of UDP know it.
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    windows_calls::measures::path_mtu(&socket, peer.is_ipv6()).ok()
}

/// The proxy of the user's settings for `url`: what a script says, named or found in the
/// network, else the fixed one. May take seconds.
pub fn system_proxy(url: &str) -> Option<SystemProxy> {
    let settings = proxy::user_settings()
        .inspect_err(|error| tracing::debug!(%error, "no proxy settings"))
        .ok()?;
    from_script(url, &settings).or_else(|| {
        Some(SystemProxy {
            origin: Origin::Fixed,
            list: settings.list?,
            exceptions: settings.exceptions.unwrap_or_default(),
        })
    })
}

/// Windows asks in this order: a script in the network, a named one.
fn from_script(url: &str, settings: &UserSettings) -> Option<SystemProxy> {
    let found = settings.detects.then_some(None);
    let named = settings.script.as_deref().map(Some);
    let answer = found.into_iter().chain(named).find_map(|script| {
        proxy::ask_script(url, script)
            .inspect_err(|error| tracing::debug!(%error, ?script, "no answer of a proxy script"))
            .ok()
    })?;
    let (list, exceptions) = match answer {
        ScriptAnswer::Straight => (String::new(), String::new()),
        ScriptAnswer::Proxies { list, exceptions } => (list, exceptions),
    };
    Some(SystemProxy {
        origin: Origin::Script,
        list,
        exceptions,
    })
}

/// Begins to tell the proxy on a host who is signed in.
pub fn sign_on(scheme: Scheme, proxy_host: &str) -> Option<Box<dyn SignOn>> {
    let package = match scheme {
        Scheme::Negotiate => Package::Negotiate,
        Scheme::Ntlm => Package::Ntlm,
    };
    Conversation::new(package, &format!("HTTP/{proxy_host}"))
        .inspect_err(|error| tracing::info!(%error, ?scheme, "nothing to tell the proxy"))
        .ok()
        .map(|conversation| Box::new(Signed(conversation)) as Box<dyn SignOn>)
}

struct Signed(Conversation);

impl SignOn for Signed {
    fn step(&mut self, challenge: Option<&[u8]>) -> io::Result<Zeroizing<Vec<u8>>> {
        self.0.step(challenge)
    }
}

/// Whether Windows offers this very program for opening zips.
pub fn zip_opener() -> ZipOpener {
    let command = registry::text(Root::CurrentUser, &command_key(), "");
    match command {
        Some(found) if found == command_line() => ZipOpener::On,
        Some(_) | None => ZipOpener::Off,
    }
}

/// Puts this program on the list of 「プログラムから開く」 for zips, or takes it off. Windows lets
/// nobody but the user choose what a double click opens.
pub fn set_zip_opener(offered: bool) -> io::Result<()> {
    let class = format!(r"{CLASSES}\{ZIP_CLASS}");
    let list = format!(r"{CLASSES}\.zip\OpenWithProgids");
    if offered {
        registry::set_own_text(&class, "", PRODUCT_NAME)?;
        registry::set_own_text(&class, "FriendlyTypeName", PRODUCT_NAME)?;
        registry::set_own_text(&command_key(), "", &command_line())?;
        registry::set_own_text(&list, ZIP_CLASS, "")
    } else {
        registry::remove_own_value(&list, ZIP_CLASS)?;
        registry::remove_own_key(&class)
    }
}

fn command_key() -> String {
    format!(r"{CLASSES}\{ZIP_CLASS}\shell\open\command")
}

/// `"C:\…\vpn-agent.exe" open "%1"`
fn command_line() -> String {
    let program = take_over::program();
    format!("\"{}\" open \"%1\"", program.display())
}
