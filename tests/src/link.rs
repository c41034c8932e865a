//! A simulated line between two ends: rate, delay, jitter, queue, loss, order, MTU.
//!
//! [`Line`] is the whole behaviour as state: packets and `now` go in, packets and the time of
//! the next one come out, and the same seed gives the same run. It owns no device and reads no
//! clock. [`wire::Wire`] puts it between TUN devices of two network namespaces; the benchmark
//! and the stories use that, because a loopback shows nothing of what an access line does.

pub mod icmp;
pub mod wire;

mod conditions;
mod event_loop;
mod lane;

#[cfg(test)]
mod tests;

pub use conditions::{Conditions, TooBig, Udp, WrongConditions};
pub use lane::Counters;

use std::time::Instant;

use lane::Lane;

/// The two ends of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where the PC stands; what it sends goes up.
    Near,
    /// Where the gateway stands; what it sends goes down.
    Far,
}

impl End {
    /// Both ends.
    pub const BOTH: [Self; 2] = [Self::Near, Self::Far];

    /// The end on the other side.
    pub fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

/// A line with two directions.
#[derive(Debug)]
pub struct Line {
    up: Lane,
    down: Lane,
}

impl Line {
    /// A line with its own conditions in each direction. Equal seeds give equal runs.
    pub fn new(up: Conditions, down: Conditions, seed: u64) -> Self {
        Self {
            up: Lane::new(up, seed),
            // The directions must not lose the same packets.
            down: Lane::new(down, seed ^ 0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Takes a packet that `from` sends. Returns what the line answers the sender at once: the
    /// ICMP message about a packet that is too big, if the line announces it.
    pub fn handle_packet(&mut self, from: End, packet: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.lane(from).handle_packet(packet, now)
    }

    /// Returns when the next packet arrives somewhere.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.up.poll_timeout(), self.down.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Hands the next packet that has arrived at `to` by `now` to `deliver`. False if none has.
    pub fn poll_packet(&mut self, to: End, now: Instant, deliver: impl FnOnce(&[u8])) -> bool {
        self.lane(to.other()).poll_packet(now, deliver)
    }

    /// Changes the conditions for what `from` sends from now on.
    pub fn set(&mut self, from: End, conditions: Conditions) {
        self.lane(from).set(conditions);
    }

    /// What became of the packets that `from` sent.
    pub fn counters(&self, from: End) -> Counters {
        match from {
            End::Near => self.up.counters(),
            End::Far => self.down.counters(),
        }
    }

    fn lane(&mut self, from: End) -> &mut Lane {
        match from {
            End::Near => &mut self.up,
            End::Far => &mut self.down,
        }
    }
}
