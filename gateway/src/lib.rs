//! The gateway: the part of Renkei that faces the internet.
//!
//! It holds no database, no calendar and no account, only the grants that the portal gave,
//! each with a deadline. The rules are in [`grants`], which reads no clock and no socket.

pub mod agent_api;
pub mod clock;
pub mod commands;
pub mod config;
pub mod event_loop;
pub mod feed;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod grants;
pub mod identity;
pub mod metrics;
pub mod portal;
pub mod reports;
pub mod serve;
pub mod state;
pub mod tls_tunnel;

#[cfg(test)]
mod stories;
