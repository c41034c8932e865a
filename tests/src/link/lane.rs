//! One direction of a line.
//!
//! A packet passes the queue in front of the bottleneck (tail drop), the bottleneck (its bits
//! at the rate), then the way (loss, delay, jitter, reordering, duplication). The queue is not
//! stored: when the bottleneck will be idle says how many bytes wait for it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::conditions::{Conditions, TooBig, Udp};
use super::icmp;

/// Emptied buffers that are kept for the next packets.
const MAX_SPARE_BUFFERS: usize = 1024;

/// What became of the packets of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets that were handed to the line.
    pub sent: u64,
    /// Packets that arrived, duplicates included.
    pub arrived: u64,
    /// Bytes that arrived.
    pub arrived_bytes: u64,
    /// Packets dropped because the queue was full.
    pub queue_full: u64,
    /// Packets lost on the way.
    pub lost: u64,
    /// Packets longer than the MTU.
    pub too_big: u64,
    /// Packets of a kind that the line does not let pass.
    pub filtered: u64,
}

#[derive(Debug)]
pub(super) struct Lane {
    conditions: Conditions,
    random: Random,
    /// When the bottleneck has sent all that was handed to it.
    idle_at: Option<Instant>,
    last_arrival: Option<Instant>,
    way: BinaryHeap<Reverse<OnTheWay>>,
    order: u64,
    counters: Counters,
    spare: Vec<Vec<u8>>,
}

/// Ordered by arrival, then by sending.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OnTheWay {
    arrives: Instant,
    order: u64,
    packet: Vec<u8>,
}

impl Lane {
    pub(super) fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            random: Random(seed),
            idle_at: None,
            last_arrival: None,
            way: BinaryHeap::new(),
            order: 0,
            counters: Counters::default(),
            spare: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    pub(super) fn handle_packet(&mut self, packet: &[u8], now: Instant) -> Option<Vec<u8>> {
        let conditions = self.conditions;
        self.counters.sent += 1;
        if conditions.udp == Udp::Dropped && is_udp(packet) {
            self.counters.filtered += 1;
            return None;
        }
        if packet.len() > conditions.mtu {
            self.counters.too_big += 1;
            return match conditions.too_big {
                TooBig::Silent => None,
                TooBig::Announced => icmp::too_big(packet, conditions.mtu),
            };
        }
        let Some(departs) = self.pass_bottleneck(packet.len(), now) else {
            self.counters.queue_full += 1;
            return None;
        };
        if self.random.happens(conditions.loss) {
            self.counters.lost += 1;
            return None;
        }
        let jitter = conditions.jitter.mul_f64(self.random.fraction());
        let mut arrives = departs + conditions.delay + jitter;
        if self.random.happens(conditions.reorder) {
            arrives += Conditions::REORDER_BY;
        } else {
            arrives = self.last_arrival.map_or(arrives, |last| last.max(arrives));
            self.last_arrival = Some(arrives);
        }
        let copies = 1 + usize::from(self.random.happens(conditions.duplicate));
        for _ in 0..copies {
            let mut buffer = self.spare.pop().unwrap_or_default();
            buffer.extend_from_slice(packet);
            self.order += 1;
            self.way.push(Reverse(OnTheWay {
                arrives,
                order: self.order,
                packet: buffer,
            }));
        }
        None
    }

    /// Returns when a packet has left the bottleneck, or none if the queue has no room for it.
    fn pass_bottleneck(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.conditions.rate_bit_s else {
            return Some(now);
        };
        let starts = self.idle_at.map_or(now, |idle| idle.max(now));
        let waiting_bits = (starts - now).as_nanos() * u128::from(rate) / 1_000_000_000;
        // A line without any queue still takes the packet that it sends at once.
        if starts > now && waiting_bits / 8 + bytes as u128 > self.conditions.queue_bytes as u128 {
            return None;
        }
        let nanos = (bytes as u128 * 8 * 1_000_000_000).div_ceil(u128::from(rate));
        let departs = starts + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.idle_at = Some(departs);
        Some(departs)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.way.peek().map(|Reverse(next)| next.arrives)
    }

    pub(super) fn poll_packet(&mut self, now: Instant, deliver: impl FnOnce(&[u8])) -> bool {
        if self.poll_timeout().is_none_or(|arrives| arrives > now) {
            return false;
        }
        let Some(Reverse(OnTheWay { mut packet, .. })) = self.way.pop() else {
            return false;
        };
        self.counters.arrived += 1;
        self.counters.arrived_bytes += packet.len() as u64;
        deliver(&packet);
        if self.spare.len() < MAX_SPARE_BUFFERS {
            packet.clear();
            self.spare.push(packet);
        }
        true
    }
}

/// Says whether a packet is UDP: IPv4 or IPv6 without extension headers.
fn is_udp(packet: &[u8]) -> bool {
    const UDP: u8 = 17;
    match packet.first().map(|first| first >> 4) {
        Some(4) => packet.get(9) == Some(&UDP),
        Some(6) => packet.get(6) == Some(&UDP),
        Some(_) | None => false,
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to just under 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn happens(&mut self, share: f64) -> bool {
        // Drawn even where nothing can happen: changing one condition must not shift the
        // others' draws.
        self.fraction() < share
    }
}
