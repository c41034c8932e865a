//! What the internet does to a datagram: rate, queue, delay, loss, reordering.
//!
//! A model of one bottleneck in each direction, shared by everybody, with a queue that drops
//! what finds no room (tail drop). Pure arithmetic: a datagram's fate is settled when it is
//! sent, and repeats with the seed.

use std::time::{Duration, Instant};

/// IPv4 and UDP headers, in bytes: they take their share of a line too.
const OUTER_HEADER_BYTES: u64 = 28;

/// How late a datagram comes that is held back ([`Path::reorder`]).
const HELD_BACK: Duration = Duration::from_millis(5);

/// A path between the PCs and the gateway, alike in both directions.
#[derive(Debug, Clone, Copy)]
pub(in crate::tests) struct Path {
    /// One way.
    pub(in crate::tests) delay: Duration,
    /// Added to the delay, at random: what reorders.
    pub(in crate::tests) jitter: Duration,
    /// Of a thousand.
    pub(in crate::tests) loss: u64,
    /// Datagrams, of a thousand, that are overtaken by others.
    pub(in crate::tests) reorder: u64,
    /// Longer datagrams are dropped without a word.
    pub(in crate::tests) mtu_payload: usize,
    /// None takes everything at once.
    pub(in crate::tests) line: Option<Line>,
}

/// The narrowest part of a path.
#[derive(Debug, Clone, Copy)]
pub(in crate::tests) struct Line {
    /// Counted with IP headers.
    pub(in crate::tests) bytes_per_s: u64,
    pub(in crate::tests) queue_bytes: u64,
}

/// One direction's state.
#[derive(Debug, Clone, Copy)]
pub(in crate::tests) struct Direction {
    random: u64,
    /// When the last byte in the queue will have left it.
    free_at: Instant,
    /// How many were sent.
    pub(in crate::tests) offered: u64,
    /// How many found no room in the queue.
    pub(in crate::tests) dropped: u64,
    /// How many were lost at random.
    pub(in crate::tests) lost: u64,
    /// The longest that anything waited in the queue.
    pub(in crate::tests) longest_wait: Duration,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            loss: 0,
            reorder: 0,
            mtu_payload: 1452,
            line: None,
        }
    }
}

impl Path {
    /// A line of so many megabits per second, with half of `round_trip_ms` each way.
    pub(in crate::tests) fn line(megabit_per_s: u64, round_trip_ms: u64, queue_kb: u64) -> Self {
        Self {
            delay: Duration::from_micros(round_trip_ms * 500),
            line: Some(Line {
                bytes_per_s: megabit_per_s * 125_000,
                queue_bytes: queue_kb * 1024,
            }),
            ..Self::default()
        }
    }

    pub(in crate::tests) fn losing(self, of_a_thousand: u64) -> Self {
        Self {
            loss: of_a_thousand,
            ..self
        }
    }

    pub(in crate::tests) fn reordering(self, of_a_thousand: u64) -> Self {
        Self {
            reorder: of_a_thousand,
            ..self
        }
    }
}

impl Line {
    /// What a line carries of a user's bytes at best, as the goals count it: 24 of 25.
    pub(in crate::tests) fn payload_per_s(&self) -> f64 {
        self.bytes_per_s as f64 * 0.96
    }
}

impl Direction {
    pub(in crate::tests) fn new(now: Instant, seed: u64) -> Self {
        Self {
            random: seed | 1,
            free_at: now,
            offered: 0,
            dropped: 0,
            lost: 0,
            longest_wait: Duration::ZERO,
        }
    }

    /// Returns when a datagram that is sent at `now` arrives, if it does.
    pub(in crate::tests) fn carry(
        &mut self,
        path: &Path,
        now: Instant,
        payload: usize,
    ) -> Option<Instant> {
        // Always drawn, so that one datagram's fate does not change the next one's.
        let (lost, held_back) = (self.draw(1000) < path.loss, self.draw(1000) < path.reorder);
        let jitter = self.draw(path.jitter.as_micros() as u64 + 1);
        if payload > path.mtu_payload {
            return None;
        }
        self.offered += 1;
        let mut leaves = now;
        if let Some(line) = &path.line {
            let size = payload as u64 + OUTER_HEADER_BYTES;
            let wait = self.free_at.saturating_duration_since(now);
            let queued = wait.as_nanos() as u64 * line.bytes_per_s / 1_000_000_000;
            if queued + size > line.queue_bytes {
                self.dropped += 1;
                return None;
            }
            self.longest_wait = self.longest_wait.max(wait);
            let takes = Duration::from_nanos(size * 1_000_000_000 / line.bytes_per_s);
            leaves = self.free_at.max(now) + takes;
            self.free_at = leaves;
        }
        if lost {
            self.lost += 1;
            return None;
        }
        let late = if held_back { HELD_BACK } else { Duration::ZERO };
        Some(leaves + path.delay + late + Duration::from_micros(jitter))
    }

    /// A number below `limit`: xorshift64*.
    fn draw(&mut self, limit: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit
    }
}
