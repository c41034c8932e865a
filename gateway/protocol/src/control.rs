//! What gateways and the portal say to each other, over mutual TLS on the control listener.
//!
//! The gateway relays `/v1/…` of [`crate::agent_api`] to the same paths, with
//! [`crate::agent_api::DEVICE_CERTIFICATE_HEADER`]; only `POST /v1/sessions` and
//! `POST /v1/sessions/{id}/move` are answered to the gateway with [`SessionOpened`], of which
//! it passes on the agent's half.
//!
//! | request | answer |
//! |---|---|
//! | `POST /control/v1/register` [`GatewayHello`] | 204; the portal knows the gateway's key and endpoints |
//! | `GET /control/v1/grants` | an endless stream of [`FeedLine`], one JSON object a line |
//! | `POST /control/v1/sessions/{id}/ended` [`SessionEnded`] | 204 |

use std::net::{Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::agent_api::{AgentGrant, EndCode};
use crate::{Bytes32, DeviceId, Generation, SessionId};

/// The portal writes a line at least this often; a gateway that hears nothing for
/// [`FEED_SILENCE_LIMIT_S`] reconnects.
pub const FEED_HEARTBEAT_S: u64 = 1;

/// Seconds without a line after which the gateway takes the portal for lost.
pub const FEED_SILENCE_LIMIT_S: u64 = 5;

/// Longest line of the feed, in bytes: a snapshot of 10,000 grants fits.
pub const FEED_LINE_LIMIT_BYTES: usize = 8 * 1024 * 1024;

/// `POST /control/v1/register`: a gateway starts, or comes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GatewayHello {
    /// Its WireGuard public key.
    pub wireguard_public_key: Bytes32,
    /// Where agents reach its WireGuard port, best first.
    pub endpoints: Vec<SocketAddr>,
    /// Base URL of its agent API.
    pub url: String,
    /// Its version.
    pub version: String,
}

/// A permission to pass, given by the portal, enforced by the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The session.
    pub session: SessionId,
    /// Which of the device's grants this is.
    pub generation: Generation,
    /// The device.
    pub device: DeviceId,
    /// SHA-256 of the device's certificate: QUIC inside the tunnel must show the same one.
    pub device_certificate_sha256: Bytes32,
    /// The agent's WireGuard public key for this session.
    pub wireguard_public_key: Bytes32,
    /// The session's pre-shared key.
    pub preshared_key: Bytes32,
    /// The one source address that may come out of this session's tunnel.
    pub inner_address: Ipv6Addr,
    /// When the session ends, Unix milliseconds by the portal's clock.
    pub deadline_ms: i64,
    /// Why it will end then.
    pub deadline_reason: EndCode,
    /// Authenticates the PROXY header of this session's connections.
    pub proxy_key: Bytes32,
}

/// The portal's answer to a relayed `POST /v1/sessions` or `POST /v1/sessions/{id}/move`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionOpened {
    /// The gateway's half; installed before the agent gets an answer.
    pub grant: Grant,
    /// The agent's half, passed on as it is.
    pub agent: AgentGrant,
}

/// One line of the grant feed. `server_time_ms` is the portal's clock at writing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum FeedLine {
    /// Always the first line: all live grants of this gateway. Who is missing is out.
    Snapshot {
        /// The portal's clock, Unix milliseconds.
        server_time_ms: i64,
        /// Every live grant.
        grants: Vec<Grant>,
    },
    /// A grant that is new, or whose deadline came nearer.
    Granted {
        /// The portal's clock, Unix milliseconds.
        server_time_ms: i64,
        /// The grant.
        grant: Box<Grant>,
    },
    /// A session that ended before its deadline, or went on to another gateway.
    Ended {
        /// The session.
        session: SessionId,
        /// Grants of the session up to this one are over; [`Generation::LAST`]: all of them.
        through: Generation,
        /// Why.
        reason: EndCode,
    },
    /// Nothing new.
    Heartbeat {
        /// The portal's clock, Unix milliseconds.
        server_time_ms: i64,
    },
}

/// `POST /control/v1/sessions/{id}/ended`: the gateway tells what became of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionEnded {
    /// The grant that is over.
    pub generation: Generation,
    /// Why.
    pub reason: EndCode,
    /// Bytes from the agent, inside the tunnel.
    pub bytes_in: u64,
    /// Bytes to the agent, inside the tunnel.
    pub bytes_out: u64,
}
