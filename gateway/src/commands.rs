//! What the agent API and the feed tell the data path, and what it tells them.
//!
//! Plain messages between tasks of one program; the rules they trigger are in
//! [`crate::grants`]. The data path answers nothing but what a message has a sender for.

use protocol::agent_api::EndCode;
use protocol::control::Grant;
use protocol::{Generation, SessionId};
use time::OffsetDateTime;
use tokio::sync::oneshot;

use crate::grants::Refused;

/// How many commands may wait for the data path.
pub const COMMAND_QUEUE: usize = 256;

/// How many ended sessions may wait to be reported to the portal.
pub const ENDED_QUEUE: usize = 1024;

/// What the data path is to do. `server_time` is the portal's clock, read together with the
/// deadlines beside it.
#[derive(Debug)]
pub enum Command {
    /// Let a session in, or bring the deadline of a live one nearer.
    Install {
        /// The permission.
        grant: Box<Grant>,
        /// The portal's clock.
        server_time: OffsetDateTime,
        /// Told when packets of the session can pass, or why they never will.
        installed: oneshot::Sender<Result<(), Refused>>,
    },
    /// These grants are all there are: whoever is missing is out.
    Snapshot {
        /// Every live grant.
        grants: Vec<Grant>,
        /// The portal's clock.
        server_time: OffsetDateTime,
    },
    /// A session ended before its deadline, or went on elsewhere.
    End {
        /// The session.
        session: SessionId,
        /// Grants up to this one are over.
        through: Generation,
        /// What the agent is told.
        reason: EndCode,
    },
    /// Tell every session that the gateway stops, and stop.
    Shutdown {
        /// Told when the last message is on its way.
        done: oneshot::Sender<()>,
    },
}

/// A session that passed its last packet, for the portal's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The session.
    pub session: SessionId,
    /// The grant that is over.
    pub generation: Generation,
    /// Why.
    pub reason: EndCode,
    /// Bytes from the agent, inside the tunnel.
    pub bytes_in: u64,
    /// Bytes to the agent, inside the tunnel.
    pub bytes_out: u64,
}
