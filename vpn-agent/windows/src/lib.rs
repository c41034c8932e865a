//! The few calls of Windows that the agent needs, behind safe functions.
//!
//! The one crate of the workspace in which `unsafe` may stand, each block with the reason why
//! it is sound. It knows nothing of the agent: no rule, no setting, no sentence for a user.
//! On other systems it is empty. Called by `vpn-agent`'s `os/windows.rs`.

#![cfg(windows)]

pub mod clock;
pub mod console;
pub mod files;
pub mod key_chip;
pub mod measures;
pub mod networks;
pub mod peers;
pub mod pipes;
pub mod proxy;
pub mod registry;
pub mod secrets;
pub mod sign_on;
pub mod tray;
pub mod windows;

mod identity;
mod text;

pub use identity::own_sid;
