//! Everything that differs between operating systems, behind one list of names.
//!
//! | name | duty |
//! |---|---|
//! | [`time_since_boot`] | a clock that nobody can set and that goes on while the PC sleeps |
//! | [`create_private_dir`], [`create_private_file`], [`tighten`] | files that only this user can read |
//! | [`replace_file`], [`sync_dir`] | files that are whole at any moment |
//! | [`protect`], [`unprotect`] | the device key at rest (DPAPI where there is such a thing) |
//! | [`key_chip`] | the chip that keeps device keys, where there is one (TPM) |
//! | [`ControlListener`], [`ControlStream`], [`connect_control`] | the channel between two runs of the agent |
//! | [`ask_to_end`], [`EndSignal`] | how programs end |
//! | [`network`] | which network the PC is in, and whether it is in any |
//! | [`peer_is_same_user`] | who is at the other end of a loopback connection |
//! | [`bring_forward`], [`pass_on_the_front`] | the one window of the one agent |
//! | [`notifier`] | says something wherever the user works just now |
//! | [`attach_console`], [`tell_failure`] | speaking to whoever started the program |
//! | [`browsers`], [`machine_name`], [`system_name`] | what the PC has and is called |
//! | [`free_bytes`], [`path_mtu`] | what `diagnose` wants to know |
//! | [`system_proxy`], [`sign_on`] | the proxy of the system's settings, and who is told to it |
//! | [`zip_opener`], [`set_zip_opener`] | whether zips can be opened with this program |
//! | [`default_data_dir`], [`default_config_file`] | where things lie |
//! | [`installed_gateway`] | what the installer was told |
//! | [`note_version`] | which version the system's list of programs shows |
//!
//! A new system gets its own file with the same names. Rules do not belong here.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{
    ControlListener, ControlStream, EndSignal, ask_to_end, attach_console, bring_forward, browsers,
    connect_control, create_private_dir, create_private_file, default_config_file,
    default_data_dir, installed_gateway, machine_name, network, note_version, notifier,
    pass_on_the_front, peer_is_same_user, protect, replace_file, sync_dir, system_name,
    tell_failure, tighten, time_since_boot, unprotect,
};
#[cfg(windows)]
pub use windows::{
    ControlListener, ControlStream, EndSignal, ask_to_end, attach_console, bring_forward, browsers,
    connect_control, create_private_dir, create_private_file, default_config_file,
    default_data_dir, installed_gateway, machine_name, network, note_version, notifier,
    pass_on_the_front, peer_is_same_user, protect, replace_file, sync_dir, system_name,
    tell_failure, tighten, time_since_boot, unprotect,
};

#[cfg(unix)]
pub use unix::{free_bytes, key_chip, path_mtu, set_zip_opener, sign_on, system_proxy, zip_opener};
#[cfg(windows)]
pub use windows::{
    free_bytes, key_chip, path_mtu, set_zip_opener, sign_on, system_proxy, zip_opener,
};

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use crate::network::Seen;

/// What the program is called where its user sees it.
pub const PRODUCT_NAME: &str = "電子連携サービス";

/// A browser that the PC has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Browser {
    /// Its program.
    pub program: PathBuf,
    /// The policy that makes it use another proxy than the one it is told, if there is one.
    pub proxy_policy: Option<String>,
}

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

/// Looks at the PC's network.
pub trait Lookout: Send + Sync + fmt::Debug {
    /// Which network the PC is in.
    fn network(&self) -> Seen;
    /// The address that packets to `target` leave from; none if there is no route.
    fn source_address(&self, target: SocketAddr) -> Option<IpAddr>;
}

/// The lookout that asks the system.
#[derive(Debug, Clone, Copy)]
pub struct SystemLookout;

impl Lookout for SystemLookout {
    fn network(&self) -> Seen {
        network()
    }

    fn source_address(&self, target: SocketAddr) -> Option<IpAddr> {
        source_address(target)
    }
}

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
