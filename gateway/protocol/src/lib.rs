//! The messages between agent, gateway and portal, versioned by path (`/v1/…`).
//!
//! Plain data and the few computations that both ends must do alike: what a device signs,
//! the matching code that two people compare by telephone, and the authenticated PROXY
//! header. No sockets, no clocks, no keys of its own.

pub mod agent_api;
pub mod control;
pub mod ids;
pub mod proxy;
pub mod updates;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

mod encoding;

pub use encoding::{Bytes32, Der};
pub use ids::{DeviceId, EnrolmentId, EstablishmentNumber, GatewayName, Generation, SessionId};
