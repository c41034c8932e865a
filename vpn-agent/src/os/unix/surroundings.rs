//! What `diagnose`, the dialer and the page that opens zips want to know of a Unix.

use std::io;
#[cfg(target_os = "linux")]
use std::net::SocketAddr;
use std::path::Path;

use crate::dial::sign_on::{Scheme, SignOn};
use crate::dial::system::SystemProxy;
use crate::os::ZipOpener;

/// Room for this user on the disk that holds `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The largest packet that the way of a connection takes, in bytes, as far as is known. Not what
/// TCP uses on it: a gateway keeps TCP's own packets small.
#[cfg(target_os = "linux")]
pub fn path_mtu(stream: &tokio::net::TcpStream) -> Option<u32> {
    let mtu = match stream.peer_addr().ok()? {
        SocketAddr::V4(_) => rustix::net::sockopt::ip_mtu(stream),
        SocketAddr::V6(_) => rustix::net::sockopt::ipv6_mtu(stream),
    };
    mtu.ok()
}

/// The largest packet that the way of a connection takes.
#[cfg(not(target_os = "linux"))]
pub fn path_mtu(_stream: &tokio::net::TcpStream) -> Option<u32> {
    None
}

/// The proxy of the system's settings. Here the environment's variables are all there is.
pub fn system_proxy(_url: &str) -> Option<SystemProxy> {
    None
}

/// Begins to tell a proxy who is signed in. Here nobody is, as far as a proxy would know.
pub fn sign_on(_scheme: Scheme, _proxy_host: &str) -> Option<Box<dyn SignOn>> {
    None
}

/// Whether the system offers this program for opening zips. Other systems than Windows open
/// AES zips themselves, or with what their users chose.
pub fn zip_opener() -> ZipOpener {
    ZipOpener::Unavailable
}

/// Offers this program for opening zips, or no longer.
pub fn set_zip_opener(_offered: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
