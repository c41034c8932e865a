//! Everything that differs between operating systems, behind one list of names.
//!
//! | name | duty |
//! |---|---|
//! | [`time_since_boot`] | a clock that nobody can set and that goes on while the PC sleeps |
//! | [`create_private_dir`], [`create_private_file`], [`tighten`], [`sync_dir`] | files that only this user can read |
//! | [`protect`], [`unprotect`] | the device key at rest (DPAPI where there is such a thing) |
//! | [`ControlListener`], [`ControlStream`], [`connect_control`] | the channel between two runs of the agent |
//! | [`ask_to_end`], [`shutdown_signal`] | how programs end |
//! | [`network_tables`] | which network the PC is in |
//! | [`is_same_user`] | who is at the other end of a loopback connection |
//! | [`find_browser`], [`machine_name`], [`system_name`] | what the PC has and is called |
//! | [`free_bytes`], [`path_mtu`] | what `diagnose` wants to know |
//! | [`system_proxy`], [`sign_on`] | the proxy of the system's settings, and who is told to it |
//! | [`zip_opener`], [`set_zip_opener`] | whether zips can be opened with this program |
//! | [`default_data_dir`], [`default_config_file`] | where things lie |
//!
//! A new system gets its own file with the same names. Rules do not belong here.

#[cfg(unix)]
mod unix;

#[cfg(unix)]
pub use unix::{
    ControlListener, ControlStream, ask_to_end, connect_control, create_private_dir,
    create_private_file, default_config_file, default_data_dir, find_browser, free_bytes,
    is_same_user, machine_name, network_tables, path_mtu, protect, set_zip_opener, shutdown_signal,
    sign_on, sync_dir, system_name, system_proxy, tighten, time_since_boot, unprotect, zip_opener,
};

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Whether the system offers this program for opening zips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZipOpener {
    /// Not on this system.
    Unavailable,
    /// It does not offer it.
    Off,
    /// It does.
    On,
}

/// The address that the PC would send from to reach `target`; it changes when the PC moves
/// to another network. Sends nothing. `None` while there is no network.
pub fn source_address(target: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
