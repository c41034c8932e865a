//! The program on the PC: enrols it, connects it, and opens the window that works.
//!
//! It needs no administrator rights and changes nothing on the PC: no network adapter, no
//! route, no DNS. Its window reaches the portal through a loopback proxy whose connections
//! become streams inside the WireGuard tunnel; other programs gain no path to the fund.
//!
//! The rules live in [`session_state`], which has no clock and no IO; [`event_loop`] feeds
//! it. Everything that differs between operating systems is in [`os`].

pub mod agent;
pub mod browser;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod control;
pub mod desk;
pub mod device_key;
pub mod diagnose;
pub mod dial;
pub mod documents;
pub mod enrolment;
pub mod event_loop;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod gateway_client;
pub mod link;
pub mod log;
pub mod network;
pub mod os;
pub mod page;
pub mod proxy;
pub mod secret;
pub mod session_state;
pub mod status;
pub mod store;
pub mod update;
pub mod urls;

#[cfg(test)]
mod fake_fund;
#[cfg(test)]
mod fake_proxy;
#[cfg(test)]
mod stories;
