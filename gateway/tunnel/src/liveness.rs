//! Notices that the other end has fallen silent, and stops QUIC's clock for that long.
//!
//! QUIC repeats what is not acknowledged at doubling intervals: after ten minutes of sleep
//! the next try would be ten minutes away. So once nothing was heard for [`PATIENCE`] after
//! a packet that calls for an answer, the connection's timers rest, and run again as soon as
//! anything authentic comes in: what is overdue is then repeated at once.

use std::time::{Duration, Instant};

use quinn_proto::Connection;

/// How long an answer may take. Far above any round trip, below what a person waits for.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Liveness {
    frames_sent: u64,
    unanswered_since: Option<Instant>,
    silent: bool,
}

impl Liveness {
    /// Notes that `connection` has sent something; what calls for no answer does not count.
    pub(crate) fn sent(&mut self, connection: &Connection, now: Instant) {
        let frames = frames_that_call_for_an_answer(connection);
        if frames != self.frames_sent {
            self.frames_sent = frames;
            self.unanswered_since.get_or_insert(now);
        }
    }

    /// Notes that something authentic came in. True if the silence is over.
    pub(crate) fn heard(&mut self) -> bool {
        self.unanswered_since = None;
        std::mem::take(&mut self.silent)
    }

    /// True once for each silence, when it begins.
    pub(crate) fn falls_silent(&mut self, now: Instant) -> bool {
        let silent = self
            .unanswered_since
            .is_some_and(|since| since + PATIENCE <= now);
        silent && !std::mem::replace(&mut self.silent, true)
    }

    /// Returns when to act: for the connection's own timers or to notice a silence.
    pub(crate) fn poll_timeout(&self, connection: &mut Connection) -> Option<Instant> {
        if self.silent {
            return None;
        }
        let patience = self.unanswered_since.map(|since| since + PATIENCE);
        connection.poll_timeout().into_iter().chain(patience).min()
    }

    /// Since when something that calls for an answer has got none.
    pub(crate) fn unanswered_since(&self) -> Option<Instant> {
        self.unanswered_since
    }

    /// Says whether the connection's timers rest.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }
}

/// All frames but ACK, PADDING and CONNECTION_CLOSE are acknowledged (RFC 9002 §2).
fn frames_that_call_for_an_answer(connection: &Connection) -> u64 {
    let sent = connection.stats().frame_tx;
    sent.crypto
        + sent.stream
        + sent.ping
        + sent.max_data
        + sent.max_stream_data
        + sent.max_streams_bidi
        + sent.max_streams_uni
        + sent.data_blocked
        + sent.stream_data_blocked
        + sent.streams_blocked_bidi
        + sent.streams_blocked_uni
        + sent.reset_stream
        + sent.stop_sending
        + sent.new_connection_id
        + sent.retire_connection_id
        + sent.new_token
        + u64::from(sent.handshake_done)
        + sent.path_challenge
        + sent.path_response
}
