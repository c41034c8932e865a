//! Everything that differs between operating systems, behind one list of names.
//!
//! | name | duty |
//! |---|---|
//! | [`time_since_boot`] | a clock that nobody can set and that goes on while the PC sleeps |
//! | [`create_private_dir`], [`create_private_file`], [`tighten`], [`sync_dir`] | files that only this user can read |
//! | [`protect`], [`unprotect`] | the device key at rest (DPAPI where there is such a thing) |
//! | [`ControlListener`], [`ControlStream`], [`connect_control`] | the channel between two runs of the agent |
//! | [`ask_to_end`], [`shutdown_signal`] | how programs end |
//! | [`network_tables`], [`has_carrier`] | which network the PC is in, and whether its cable is |
//! | [`peer_is_same_user`] | who is at the other end of a loopback connection |
//! | [`find_browser`], [`machine_name`], [`system_name`] | what the PC has and is called |
//! | [`bring_forward`] | puts the window of a program before the others |
//! | [`notifier`] | says something wherever the user works just now |
//! | [`default_data_dir`], [`default_config_file`] | where things lie |
//!
//! A new system gets its own file with the same names. Rules do not belong here.

#[cfg(unix)]
mod unix;

#[cfg(unix)]
pub use unix::{
    ControlListener, ControlStream, ask_to_end, bring_forward, connect_control, create_private_dir,
    create_private_file, default_config_file, default_data_dir, find_browser, has_carrier,
    machine_name, network_tables, notifier, peer_is_same_user, protect, shutdown_signal, sync_dir,
    system_name, tighten, time_since_boot, unprotect,
};

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Who is at the other end of a loopback connection. Only [`PeerCheck::SameUser`] is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerCheck {
    /// A process of the user who runs this one.
    SameUser,
    /// A process of somebody else, the system's administrator included.
    OtherUser,
    /// The system cannot tell: the connection may be gone already.
    Unknown,
}

/// What is said beside the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// In a few words.
    pub title: String,
    /// What it means and what to do, in a sentence or two.
    pub body: String,
    /// How much it presses.
    pub urgency: Urgency,
}

/// How much a notification presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// May pass by itself.
    Normal,
    /// Stays until it was seen, where the system can do that.
    High,
}

/// Says something wherever the user works just now: the window may be behind others.
pub trait Notifier: Send + Sync + fmt::Debug {
    /// Returns at once. What cannot be shown is logged and lost: the page says it too.
    fn notify(&self, notification: &Notification);
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
