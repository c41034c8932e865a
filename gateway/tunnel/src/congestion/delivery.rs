//! Measures how fast data arrives at the other end (draft-ietf-ccwg-bbr §4.1).
//!
//! Each packet takes along how much had arrived when it left. When it is acknowledged, what
//! arrived in between, over the time that took, is the rate at which the path delivers. The
//! time counts from the sender's view and from the acknowledgements', and the longer counts:
//! neither a burst of packets nor a batch of acknowledgements looks like a fast path.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Departures that are remembered. With [`PARTS_OF_A_ROUND_TRIP`] they are spread over more
/// than a window is ever away.
const MAX_DEPARTURES: usize = 1024;

/// Packets that leave within one such part of a round trip count as one departure.
const PARTS_OF_A_ROUND_TRIP: u32 = 256;

/// Departures' memory above this is given back when nothing is on the way.
const KEPT_DEPARTURES: usize = 16;

#[derive(Debug, Clone)]
pub(super) struct Delivery {
    /// Bytes that have arrived so far.
    delivered: u64,
    /// When the last of them were acknowledged.
    delivered_at: Instant,
    /// When the last packet to be acknowledged had left.
    departed_at: Instant,
    /// Until more than this has arrived, less is sent than could be.
    limited_until: u64,
    departures: VecDeque<Departure>,
    acked: u64,
    /// The last departure, and its exact time, of which a packet is acknowledged now.
    newest: Option<(Departure, Instant)>,
    nothing_on_the_way: bool,
}

#[derive(Debug, Clone, Copy)]
struct Departure {
    at: Instant,
    delivered: u64,
    delivered_at: Instant,
    departed_at: Instant,
    limited: bool,
}

/// What a batch of acknowledgements shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Bytes per second. None if the time is too short to tell.
    pub(super) rate: Option<u64>,
    /// Of the packet that left last.
    pub(super) round_trip: Duration,
    /// Bytes that had arrived when that packet left.
    pub(super) delivered_before: u64,
    /// Bytes acknowledged now.
    pub(super) acked: u64,
    /// There was not more to send: the path could have delivered faster.
    pub(super) limited: bool,
}

impl Delivery {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            delivered_at: now,
            departed_at: now,
            limited_until: 0,
            departures: VecDeque::new(),
            acked: 0,
            newest: None,
            nothing_on_the_way: true,
        }
    }

    /// Bytes that have arrived so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Notes that packets leave.
    pub(super) fn sent(&mut self, now: Instant, round_trip: Duration) {
        if std::mem::take(&mut self.nothing_on_the_way) {
            self.delivered_at = now;
            self.departed_at = now;
        }
        let together = round_trip / PARTS_OF_A_ROUND_TRIP;
        let last = self.departures.back();
        if last.is_some_and(|last| last.at + together >= now && last.delivered == self.delivered) {
            return;
        }
        if self.departures.len() >= MAX_DEPARTURES {
            self.departures.pop_front();
        }
        self.departures.push_back(Departure {
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            departed_at: self.departed_at,
            limited: self.delivered <= self.limited_until,
        });
    }

    /// Notes that a packet which left at `sent` has arrived.
    pub(super) fn acked(&mut self, sent: Instant, bytes: u64) {
        self.acked += bytes;
        if self.newest.is_some_and(|(_, newest)| newest >= sent) {
            return;
        }
        let after = self.departures.partition_point(|one| one.at <= sent);
        if let Some(departure) = after.checked_sub(1).map(|at| self.departures[at]) {
            self.newest = Some((departure, sent));
        }
    }

    /// Says what the acknowledgements since the last call have shown.
    pub(super) fn end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        limited: bool,
    ) -> Option<Sample> {
        let acked = std::mem::take(&mut self.acked);
        self.delivered += acked;
        self.delivered_at = now;
        if limited {
            self.limited_until = self.delivered + in_flight;
        }
        let newest = self.newest.take();
        if in_flight == 0 {
            self.nothing_on_the_way = true;
            self.departures.clear();
            self.departures.shrink_to(KEPT_DEPARTURES);
        }
        let (departure, sent) = newest?;
        self.departed_at = sent;
        // What left long before is either acknowledged or lost.
        while self
            .departures
            .front()
            .is_some_and(|one| one.at + (now - sent) * 2 < sent)
        {
            self.departures.pop_front();
        }
        let round_trip = now.saturating_duration_since(sent);
        let leaving = sent.saturating_duration_since(departure.departed_at);
        let arriving = now.saturating_duration_since(departure.delivered_at);
        let time = leaving.max(arriving);
        let arrived = self.delivered - departure.delivered;
        Some(Sample {
            rate: (time >= round_trip && !time.is_zero())
                .then(|| (arrived as f64 / time.as_secs_f64()) as u64),
            round_trip,
            delivered_before: departure.delivered,
            acked,
            limited: departure.limited,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(20);

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other constructor"
    )]
    fn origin() -> Instant {
        Instant::now()
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Sends 1,000 bytes a millisecond for `count` milliseconds, acknowledged a round trip
    /// later by `batch`, and returns the rates that were seen.
    fn rates(count: u64, batch: u64) -> Vec<u64> {
        let start = origin();
        let mut delivery = Delivery::new(start);
        let mut rates = Vec::new();
        for at in 0..count {
            delivery.sent(start + ms(at), ROUND_TRIP);
            let Some(oldest) = (at + 1).checked_sub(20 + batch) else {
                continue;
            };
            if oldest % batch == 0 {
                for one in oldest..oldest + batch {
                    delivery.acked(start + ms(one), 1000);
                }
                let sample = delivery.end_acks(start + ms(at), 20_000, false);
                rates.extend(sample.and_then(|sample| sample.rate));
            }
        }
        rates
    }

    #[test]
    fn a_steady_path_is_measured_as_it_is() {
        let rates = rates(200, 1);
        assert!(rates.len() > 100);
        // The first packets left before anything had arrived.
        let known = &rates[50..];
        assert!(
            known
                .iter()
                .all(|rate| (950_000..=1_050_000).contains(rate)),
            "{known:?}"
        );
    }

    #[test]
    fn a_batch_of_acknowledgements_does_not_look_like_a_fast_path() {
        for batch in [2, 5, 10] {
            let rates = rates(400, batch);
            assert!(rates.len() > 20);
            assert!(rates.iter().all(|rate| *rate <= 1_500_000), "{rates:?}");
            assert!(rates.iter().max() >= Some(&900_000), "{rates:?}");
        }
    }

    #[test]
    fn a_burst_of_packets_does_not_look_like_a_fast_path() {
        let start = origin();
        let mut delivery = Delivery::new(start);
        for burst in 0..10 {
            let sent = start + ms(100 * burst);
            delivery.sent(sent, ROUND_TRIP);
            for packet in 0..10 {
                delivery.acked(sent, 1000);
                let acked = sent + ROUND_TRIP + ms(packet);
                let sample = delivery
                    .end_acks(acked, 9000 - 1000 * packet, false)
                    .unwrap();
                assert!(sample.rate.unwrap() <= 500_000, "{sample:?}");
            }
        }
    }

    #[test]
    fn samples_of_what_was_all_there_was_to_send_are_marked() {
        let start = origin();
        let mut delivery = Delivery::new(start);
        delivery.sent(start, ROUND_TRIP);
        delivery.acked(start, 1000);
        let first = delivery.end_acks(start + ms(20), 0, true).unwrap();
        delivery.sent(start + ms(500), ROUND_TRIP);
        delivery.acked(start + ms(500), 1000);
        let second = delivery.end_acks(start + ms(520), 0, true).unwrap();
        assert!(first.limited && second.limited);
        // The pause in between is not counted as slowness.
        assert_eq!(second.rate, Some(50_000));
    }

    #[test]
    fn memory_is_bounded_and_given_back_when_nothing_is_on_the_way() {
        let start = origin();
        let mut delivery = Delivery::new(start);
        for at in 0..100_000 {
            delivery.sent(start + ms(at), ROUND_TRIP);
        }
        assert!(delivery.departures.len() <= MAX_DEPARTURES);
        delivery.acked(start + ms(99_999), 1000);
        delivery.end_acks(start + ms(100_020), 0, true);
        assert!(delivery.departures.capacity() <= 2 * KEPT_DEPARTURES);
        // Acknowledged, but its departure is forgotten: no sample, and no panic.
        delivery.acked(start, 1000);
        assert_eq!(delivery.end_acks(start + ms(100_021), 0, true), None);
    }
}
