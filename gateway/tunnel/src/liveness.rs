//! Notices that the other end has fallen silent, and keeps QUIC's patience from growing.
//!
//! QUIC repeats what is not acknowledged at doubling intervals: after ten minutes of sleep
//! the next try would be ten minutes away, and after a cut of some seconds still some seconds.
//! So once nothing was heard for [`PATIENCE`] after a packet that calls for an answer, the
//! connection's timers rest, and run again as soon as anything authentic comes in. And as long
//! as the other end is heard, what it does not acknowledge is repeated every [`REPEAT`],
//! whatever QUIC's timer says.
//!
//! An end whose window is full sends not even an acknowledgement while data waits: quinn's
//! own standstill, in which two such ends wait for each other. So an acknowledgement that is
//! overdue is to be sent regardless ([`Liveness::owes`]).
//!
//! A path that has begun to drop long datagrams makes a standstill of its own: nothing that is
//! in flight is ever acknowledged, so that nothing counts as lost, the window stays full, and
//! the datagrams stay long. After [`REPEATS_IN_VAIN`] the path is taken for a new one, and each
//! further repetition goes regardless of the window.

use std::time::{Duration, Instant};

use quinn_proto::{Connection, FrameStats};

/// How long an answer may take: above any round trip, below what a person waits for. If it
/// comes later after all, nothing is lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is not acknowledged for so long, and [`REPEAT_ROUND_TRIPS`], is sent again.
const REPEAT: Duration = Duration::from_millis(500);
const REPEAT_ROUND_TRIPS: u32 = 2;

/// Repetitions without an acknowledgement, while the other end is heard, after which the path
/// is taken for another one than before.
const REPEATS_IN_VAIN: u32 = 4;

/// An acknowledgement that is held back for so long is overdue: quinn sends one within 25 ms
/// if it can.
const OVERDUE: Duration = Duration::from_millis(50);

/// Timers that lie further ahead are none for repeating: the connection's end by idleness,
/// 95 minutes after something was heard.
const REPEATS_WITHIN: Duration = Duration::from_secs(80 * 60);

/// A round trip that is no round trip: what was sent before a silence was acknowledged after
/// it. All that QUIC counts by it would crawl.
const ABSURD_ROUND_TRIP: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(crate) struct Liveness {
    frames_sent: u64,
    /// Since when something calls for an answer of any kind.
    unanswered_since: Option<Instant>,
    /// Since when something calls for an acknowledgement, or was last repeated for want of it.
    unacknowledged_since: Option<Instant>,
    acknowledgements: u64,
    /// How often that was repeated since the last acknowledgement.
    repeats: u32,
    /// Whether a datagram is to be sent though the window is full.
    regardless: bool,
    /// What called for an acknowledgement of ours so far, and since when one is owed.
    frames_heard: u64,
    owing_since: Option<Instant>,
    acknowledgements_sent: u64,
    silent: bool,
    /// When something that was due last ran, if nothing was sent or heard since. A look at the
    /// clock with nothing due does not count: it would stop the repeating.
    ran_in_vain: Option<Instant>,
}

impl Liveness {
    /// Notes that `connection` has sent something; what calls for no answer does not count.
    pub(crate) fn sent(&mut self, connection: &Connection, now: Instant) {
        self.ran_in_vain = None;
        let stats = connection.stats();
        if stats.frame_tx.acks != self.acknowledgements_sent {
            self.acknowledgements_sent = stats.frame_tx.acks;
            self.owing_since = None;
        }
        let frames = frames_that_call_for_an_answer(&stats.frame_tx);
        if frames != self.frames_sent {
            self.frames_sent = frames;
            self.unanswered_since.get_or_insert(now);
            self.unacknowledged_since.get_or_insert(now);
        }
    }

    /// Notes that something authentic came in and was given to `connection`.
    pub(crate) fn heard(&mut self, connection: &mut Connection, now: Instant) {
        self.unanswered_since = None;
        self.ran_in_vain = None;
        let stats = connection.stats();
        let frames = frames_that_call_for_an_answer(&stats.frame_rx);
        if frames != self.frames_heard {
            self.frames_heard = frames;
            self.owing_since.get_or_insert(now);
        }
        let acknowledgements = stats.frame_rx.acks;
        if acknowledgements != self.acknowledgements {
            self.acknowledgements = acknowledgements;
            self.unacknowledged_since = None;
            self.repeats = 0;
        }
        let absurd = connection.rtt() > ABSURD_ROUND_TRIP;
        if absurd {
            connection.path_changed(now);
        }
        if std::mem::take(&mut self.silent) || absurd {
            self.unacknowledged_since = self.unacknowledged_since.and(Some(now));
            self.repeat(connection, now);
        }
    }

    /// Says, once for each time that it is so, that an acknowledgement of ours is overdue, or
    /// that repeating within the window is in vain.
    pub(crate) fn owes(&mut self, now: Instant) -> bool {
        let owed = self.owing_since.take_if(|since| *since + OVERDUE <= now);
        std::mem::take(&mut self.regardless) || owed.is_some()
    }

    /// Does what is due at `now`. True once for each silence, when it begins.
    pub(crate) fn handle_timeout(&mut self, connection: &mut Connection, now: Instant) -> bool {
        if self.silent {
            return false;
        }
        let is_past = |since: Instant| since + PATIENCE <= now;
        self.silent = self.unanswered_since.is_some_and(is_past);
        if self.silent {
            return true;
        }
        let is_due = |at: Instant| at <= now;
        if self.repeats_at(connection).is_some_and(is_due) {
            self.ran_in_vain = Some(now);
            self.unacknowledged_since = Some(now);
            self.repeat(connection, now);
        } else if self.timers(connection).any(is_due) {
            self.ran_in_vain = Some(now);
            connection.handle_timeout(now);
        }
        false
    }

    /// Returns when to act: for the connection's own timers, to repeat, or to notice a silence.
    /// A timer that has just run and is still due (the connection wants to send something and
    /// may not: there are no keys, or the PC has not proved its address) waits for
    /// [`PATIENCE`]; without that it would be due at once, again and again.
    pub(crate) fn poll_timeout(&self, connection: &mut Connection) -> Option<Instant> {
        if self.silent {
            return None;
        }
        let patience = self.unanswered_since.map(|since| since + PATIENCE);
        let timers = self.timers(connection).map(|at| match self.ran_in_vain {
            Some(ran) if at <= ran => ran + PATIENCE,
            Some(_) | None => at,
        });
        let repeats = self.repeats_at(connection);
        timers.chain(patience).chain(repeats).min()
    }

    /// What calls for something to be sent: the connection's own timers, and an
    /// acknowledgement that is overdue.
    fn timers(&self, connection: &mut Connection) -> impl Iterator<Item = Instant> + use<> {
        let overdue = self.owing_since.map(|since| since + OVERDUE);
        [connection.poll_timeout(), overdue].into_iter().flatten()
    }

    /// Since when something that calls for an answer has got none.
    pub(crate) fn unanswered_since(&self) -> Option<Instant> {
        self.unanswered_since
    }

    /// Nothing is repeated while what was last due could not be sent: QUIC would gather what
    /// it owes and send it all in one burst.
    fn repeats_at(&self, connection: &Connection) -> Option<Instant> {
        if self.ran_in_vain.is_some() {
            return None;
        }
        let wait = REPEAT.max(connection.rtt() * REPEAT_ROUND_TRIPS);
        self.unacknowledged_since.map(|since| since + wait)
    }

    /// Has the connection's next timer, which is the one to repeat what is not acknowledged, go
    /// off now. That timer's own pause doubles each time; when it lies too far ahead to be told
    /// from the connection's end, a ping does instead.
    fn repeat(&mut self, connection: &mut Connection, now: Instant) {
        let next = connection.poll_timeout();
        let next = next.filter(|next| *next <= now + REPEATS_WITHIN);
        connection.handle_timeout(next.map_or(now, |next| next.max(now)));
        self.repeats = self.repeats.saturating_add(1);
        if self.repeats == REPEATS_IN_VAIN {
            connection.path_changed(now);
        }
        if self.repeats >= REPEATS_IN_VAIN {
            connection.ping();
            self.regardless = true;
        }
    }
}

/// All frames but ACK, PADDING and CONNECTION_CLOSE are acknowledged (RFC 9002 §2).
fn frames_that_call_for_an_answer(sent: &FrameStats) -> u64 {
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
