//! How much a connection may have on its way: a model of the path in place of a fear of loss.
//!
//! Loss alone says little on the lines we meet: radio and cheap routers lose one packet in a
//! thousand with nobody to blame, and a controller that halves its window each time (CUBIC)
//! gets a tenth of such a line. So the window follows two measured quantities, as in BBR
//! (draft-ietf-ccwg-bbr): the rate at which data arrives, at its best in the last rounds, and
//! the round trip, at its shortest in the last seconds. Their product fills the line without
//! a queue; the window is that product with some headroom.
//!
//! The headroom is what a standing queue is made of, so it shrinks where a round lost more
//! than it should: in front of a short queue little of it is left, and nothing is sent just
//! to be dropped. Where nothing is lost it grows back, so that connections which fill queues
//! (any other program's TCP) cannot push this one aside.
//!
//! quinn sends at 5/4 of a window per round trip and lets no controller set another pace,
//! so all is done with the window. quinn's own BBR takes its rate from the gap between two
//! acknowledgements, which is chance wherever they come in batches; measured here, it sent
//! 58 % of a 200 Mbit/s line's data in vain at a round trip of 100 ms, and let pages wait more
//! than a second behind an upload on a line with a long queue.
//!
//! Plain state, no clock, no randomness: quinn calls it for one path of one connection.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::{Connection, RttEstimator, Transmit};

use crate::transport::STREAM_WINDOW_BYTES;
use delivery::{Delivery, Sample};
use recent::Recent;

mod delivery;
mod recent;

/// The window of a new path, in packets: a page's answer goes out in one round trip.
const INITIAL_WINDOW_PACKETS: u64 = 32;

/// With fewer packets on the way, a lost one is noticed only by a timer.
const MIN_WINDOW_PACKETS: u64 = 4;

/// No window is greater than what one stream's receiver takes: what is held up by a lost
/// packet there must not rush out faster than the path takes it when the packet has come.
const MAX_WINDOW_BYTES: u64 = STREAM_WINDOW_BYTES as u64;

/// Rounds for which the best rate is remembered.
const RATE_ROUNDS: usize = 10;

/// How much of the rate is believed after a round with too much loss that was slower still.
const RATE_KEPT_AFTER_LOSS: f64 = 0.7;

/// How long the shortest round trip is believed.
const ROUND_TRIP_MEMORY: Duration = Duration::from_secs(10);

/// Timers of a millisecond, batches of packets and a busy PC at either end: what a round trip
/// takes beyond the shortest one ever seen, without any queue.
const HOST_DELAY: Duration = Duration::from_millis(2);

/// Window, in products of rate and round trip, while the rate is still being found.
const STARTUP_GAIN: f64 = 2.2;

/// A round in which the rate grows by less than this has found it.
const STARTUP_GROWTH: f64 = 1.25;

/// So many rounds must find no more, for one alone may be chance.
const STARTUP_ROUNDS: u32 = 3;

/// The least headroom, as a share of the greatest.
const MIN_HEADROOM: f64 = 0.1;

/// What the headroom grows by in each round without too much loss.
const HEADROOM_STEP: f64 = 0.05;

/// The window grows by a packet for so many that arrive: no faster than probing a path for
/// more calls for.
const STEADY_GROWTH: u64 = 4;

/// Window, in products of rate and round trip, while there is little to send: quinn sends
/// at 5/4 of a window per round trip, so what comes next leaves no faster than the path takes
/// it, and needs no room in the queue.
const RESTING_GAIN: f64 = 0.8;

/// Of a round's data. More is taken for a sign of a queue that overflows.
const LOSS_LIMIT: f64 = 0.02;

/// Fewer lost packets than this in a round are chance.
const LOSS_LIMIT_PACKETS: u64 = 3;

/// Loss without a queue is made up for with as much more on the way, up to this share.
const MAX_LOSS_MADE_UP: f64 = 0.2;

/// A round whose shortest round trip was longer than this, in shortest round trips ever seen,
/// met a queue all the time.
const STANDING_QUEUE: f64 = 1.125;

/// Weight of the newest round in the mean loss.
const LOSS_WEIGHT: f64 = 0.25;

/// Window, in products of rate and round trip, while the shortest round trip is looked for.
const ROUND_TRIP_PROBE_GAIN: f64 = 0.5;

/// How long it is looked for: long enough for all connections on a line to meet in it.
const ROUND_TRIP_PROBE: Duration = Duration::from_millis(200);

/// Makes the controllers of a configuration's connections.
#[derive(Debug, Default)]
pub(crate) struct PathModelFactory;

/// What is known of one path, and the window that follows from it.
#[derive(Debug, Clone)]
struct PathModel {
    packet_bytes: u64,
    window: u64,
    phase: Phase,
    delivery: Delivery,
    /// Best rate of each of the last rounds, in bytes per second.
    rate: Recent<RATE_ROUNDS>,
    /// How far acknowledgements ran ahead of the rate, in bytes: what comes in batches.
    ahead: Recent<RATE_ROUNDS>,
    batch: Batch,
    round_trip: Option<RoundTrip>,
    /// Share of the greatest headroom that is in use.
    headroom: f64,
    mean_loss: f64,
    /// Share of the data that is lost on the way and not in a queue.
    lost_on_the_way: f64,
    /// What the window may grow to though the rate does not ask for it.
    reach: u64,
    round: Round,
    overdraft: Overdraft,
}

/// Opens the window for a moment, from outside.
#[derive(Debug, Clone, Default)]
struct Overdraft(Arc<AtomicBool>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// The rate is not known yet: the window doubles each round.
    Startup {
        best_rate: u64,
        rounds_without_growth: u32,
    },
    /// The window follows the model.
    Steady,
    /// Little is sent, to see the round trip without our own queue.
    RoundTripProbe {
        /// None until little is on the way.
        until: Option<Instant>,
        shortest: Option<Duration>,
    },
}

/// The shortest round trip, and when it was seen.
#[derive(Debug, Clone, Copy)]
struct RoundTrip {
    shortest: Duration,
    seen_at: Instant,
}

/// One round: from a packet's leaving to the acknowledgement of what left after it.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    /// It ends with the acknowledgement of a packet that left when this much had arrived.
    ends_at_delivered: u64,
    acked: u64,
    lost: u64,
    best_rate: u64,
    shortest: Option<Duration>,
}

/// Acknowledgements that came faster than the rate.
#[derive(Debug, Clone, Copy, Default)]
struct Batch {
    since: Option<Instant>,
    bytes: u64,
}

/// Has `connection` send one datagram though its window is full. quinn holds back even
/// acknowledgements, and the reason for the end of a connection, while data waits for room:
/// for these, and once in a while, a window may be exceeded by a datagram.
pub(crate) fn transmit_regardless(
    connection: &mut Connection,
    now: Instant,
    buffer: &mut Vec<u8>,
) -> Option<Transmit> {
    let model = connection.congestion_state().clone_box().into_any();
    let Overdraft(open) = model.downcast::<PathModel>().ok()?.overdraft;
    open.store(true, Ordering::Relaxed);
    let sent = connection.poll_transmit(now, 1, buffer);
    open.store(false, Ordering::Relaxed);
    sent
}

impl ControllerFactory for PathModelFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(PathModel::new(now, current_mtu))
    }
}

impl PathModel {
    fn new(now: Instant, current_mtu: u16) -> Self {
        let packet_bytes = u64::from(current_mtu);
        Self {
            packet_bytes,
            window: INITIAL_WINDOW_PACKETS * packet_bytes,
            phase: Phase::Startup {
                best_rate: 0,
                rounds_without_growth: 0,
            },
            delivery: Delivery::new(now),
            rate: Recent::default(),
            ahead: Recent::default(),
            batch: Batch::default(),
            round_trip: None,
            headroom: 1.0,
            mean_loss: 0.0,
            lost_on_the_way: 0.0,
            reach: 0,
            round: Round::default(),
            overdraft: Overdraft::default(),
        }
    }

    /// Takes in what a batch of acknowledgements has shown.
    fn learn(&mut self, now: Instant, sample: &Sample, in_flight: u64) {
        self.learn_round_trip(now, sample.round_trip, in_flight);
        if let Some(rate) = sample.rate
            && (!sample.limited || rate > self.rate.best())
        {
            self.rate.note(rate);
            self.round.best_rate = self.round.best_rate.max(rate);
        }
        self.learn_batch(now, sample.acked);
        self.round.acked += sample.acked;
        let shortest = self.round.shortest.map_or(sample.round_trip, |shortest| {
            shortest.min(sample.round_trip)
        });
        self.round.shortest = Some(shortest);
        if sample.delivered_before >= self.round.ends_at_delivered {
            self.end_round(sample.limited);
        }
    }

    fn learn_round_trip(&mut self, now: Instant, seen: Duration, in_flight: u64) {
        let found = RoundTrip {
            shortest: seen,
            seen_at: now,
        };
        if self.round_trip.is_none_or(|known| seen <= known.shortest) {
            self.round_trip = Some(found);
        } else if self.is_round_trip_old(now) {
            let calm = in_flight <= self.product(ROUND_TRIP_PROBE_GAIN);
            match &mut self.phase {
                Phase::RoundTripProbe { shortest, .. } => {
                    *shortest = Some(shortest.map_or(seen, |before| before.min(seen)));
                }
                Phase::Startup { .. } | Phase::Steady if calm => self.round_trip = Some(found),
                Phase::Startup { .. } | Phase::Steady => {
                    self.phase = Phase::RoundTripProbe {
                        until: None,
                        shortest: None,
                    };
                }
            }
        }
    }

    fn is_round_trip_old(&self, now: Instant) -> bool {
        let known = self.round_trip;
        known.is_some_and(|known| now > known.seen_at + ROUND_TRIP_MEMORY)
    }

    /// Ends the look at the round trip when it has lasted long enough.
    fn continue_probe(&mut self, now: Instant, in_flight: u64) {
        let little = self.probe_window() + self.packet_bytes;
        let old = self.is_round_trip_old(now);
        let Phase::RoundTripProbe { until, shortest } = &mut self.phase else {
            return;
        };
        match until {
            None if in_flight <= little => {
                *until = Some(now + ROUND_TRIP_PROBE);
                *shortest = None;
            }
            Some(until) if *until <= now => {
                if let Some(shortest) = shortest.filter(|_| old) {
                    self.round_trip = Some(RoundTrip {
                        shortest,
                        seen_at: now,
                    });
                }
                self.phase = Phase::Steady;
            }
            None | Some(_) => {}
        }
    }

    fn learn_batch(&mut self, now: Instant, acked: u64) {
        let since = *self.batch.since.get_or_insert(now);
        let expected = bytes_in(self.rate.best(), now.saturating_duration_since(since));
        if self.batch.bytes <= expected {
            self.batch = Batch {
                since: Some(now),
                bytes: acked,
            };
            return;
        }
        self.batch.bytes += acked;
        let ahead = self.batch.bytes.saturating_sub(expected);
        self.ahead.note(ahead.min(self.product(1.0)));
    }

    /// Draws the conclusions of a round, and begins the next.
    fn end_round(&mut self, limited: bool) {
        let Round {
            acked,
            lost,
            best_rate,
            shortest,
            ..
        } = self.round;
        self.round = Round {
            ends_at_delivered: self.delivery.delivered(),
            ..Round::default()
        };
        if acked + lost == 0 || limited {
            return;
        }
        let loss = lost as f64 / (acked + lost) as f64;
        self.mean_loss += (loss - self.mean_loss) * LOSS_WEIGHT;
        let above = loss.max(self.mean_loss) > LOSS_LIMIT;
        let too_much = above && lost >= LOSS_LIMIT_PACKETS * self.packet_bytes;
        let queued = self.is_standing_queue(shortest);
        let on_the_way = if queued { 0.0 } else { self.mean_loss };
        self.lost_on_the_way += (on_the_way - self.lost_on_the_way) * LOSS_WEIGHT;
        // Late acknowledgements alone hold the rate of a small window down, and a small window
        // the rate: without a sign of a queue it grows back to where it began.
        self.reach = if queued || too_much {
            0
        } else {
            self.initial_window()
        };
        let rate = self.rate.best();
        match &mut self.phase {
            Phase::Startup {
                best_rate,
                rounds_without_growth,
            } => {
                if rate as f64 >= *best_rate as f64 * STARTUP_GROWTH {
                    *best_rate = rate;
                    *rounds_without_growth = 0;
                } else {
                    *rounds_without_growth += if too_much { STARTUP_ROUNDS } else { 1 };
                    if *rounds_without_growth >= STARTUP_ROUNDS {
                        self.phase = Phase::Steady;
                    }
                }
            }
            Phase::Steady if too_much && queued => {
                self.headroom = (self.headroom / 2.0).max(MIN_HEADROOM);
                let kept = (rate as f64 * RATE_KEPT_AFTER_LOSS) as u64;
                self.rate.cut_to(best_rate.max(kept));
            }
            Phase::Steady if too_much => {}
            Phase::Steady => self.headroom = (self.headroom + HEADROOM_STEP).min(1.0),
            Phase::RoundTripProbe { .. } => {}
        }
        self.rate.next_round();
        self.ahead.next_round();
    }

    fn is_standing_queue(&self, shortest: Option<Duration>) -> bool {
        match (self.round_trip, shortest) {
            (Some(known), Some(shortest)) => {
                shortest > known.shortest.mul_f64(STANDING_QUEUE) + HOST_DELAY / 2
            }
            (None, _) | (_, None) => false,
        }
    }

    fn follow(&mut self, acked: u64, in_flight: u64, limited: bool) {
        match self.phase {
            Phase::Startup { .. } => {
                let most = self.product(STARTUP_GAIN);
                if !limited && self.window < most {
                    self.window += acked;
                }
            }
            Phase::Steady => {
                let full = self.product(1.0);
                let made_up = 1.0 - self.lost_on_the_way.min(MAX_LOSS_MADE_UP);
                let batches = self.ahead.best() + bytes_in(self.rate.best(), HOST_DELAY);
                let headroom = (full.saturating_add(batches)) as f64 * self.headroom;
                let target = ((full as f64 + headroom) / made_up) as u64;
                self.window = target
                    .max(self.reach)
                    .min(self.window + acked / STEADY_GROWTH);
                if limited && in_flight < full {
                    let resting = (full as f64 * RESTING_GAIN) as u64;
                    self.window = self.window.min(resting.max(self.initial_window()));
                }
            }
            Phase::RoundTripProbe { .. } => {}
        }
        self.window = self.window.clamp(self.min_window(), MAX_WINDOW_BYTES);
    }

    /// Rate times round trip, in bytes; without a bound as long as nothing is known.
    fn product(&self, gain: f64) -> u64 {
        match (self.rate.best(), self.round_trip) {
            (0, _) | (_, None) => u64::MAX,
            (rate, Some(known)) => {
                let seconds = known.shortest.as_secs_f64();
                (rate as f64 * seconds * gain) as u64
            }
        }
    }

    fn min_window(&self) -> u64 {
        MIN_WINDOW_PACKETS * self.packet_bytes
    }

    fn probe_window(&self) -> u64 {
        self.product(ROUND_TRIP_PROBE_GAIN)
            .min(self.window)
            .max(self.min_window())
    }
}

impl Controller for PathModel {
    fn on_sent(&mut self, now: Instant, _bytes: u64, _last_packet_number: u64) {
        let round_trip = self.round_trip.map(|known| known.shortest);
        self.delivery.sent(now, round_trip.unwrap_or_default());
    }

    fn on_ack(
        &mut self,
        _now: Instant,
        sent: Instant,
        bytes: u64,
        _app_limited: bool,
        _rtt: &RttEstimator,
    ) {
        self.delivery.acked(sent, bytes);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        _largest_packet_num_acked: Option<u64>,
    ) {
        let Some(sample) = self.delivery.end_acks(now, in_flight, app_limited) else {
            return;
        };
        self.learn(now, &sample, in_flight);
        self.continue_probe(now, in_flight);
        self.follow(sample.acked, in_flight, app_limited);
    }

    fn on_congestion_event(
        &mut self,
        _now: Instant,
        _sent: Instant,
        _is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.round.lost += lost_bytes;
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.packet_bytes = u64::from(new_mtu);
        self.window = self.window.max(self.min_window());
    }

    fn window(&self) -> u64 {
        if self.overdraft.0.load(Ordering::Relaxed) {
            return u64::MAX;
        }
        match self.phase {
            Phase::RoundTripProbe { .. } => self.probe_window(),
            Phase::Startup { .. } | Phase::Steady => self.window,
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_WINDOW_PACKETS * self.packet_bytes
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

fn bytes_in(bytes_per_s: u64, time: Duration) -> u64 {
    (bytes_per_s as f64 * time.as_secs_f64()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACKET: u64 = 1200;

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other constructor"
    )]
    fn origin() -> Instant {
        Instant::now()
    }

    /// What a connection may tell its controller, in milliseconds and packets.
    #[derive(Debug, Clone)]
    enum Told {
        Sent,
        Acked {
            age_ms: u64,
            packets: u64,
            in_flight: u64,
            limited: bool,
        },
        Lost {
            packets: u64,
        },
        Mtu(u16),
        Pause {
            ms: u64,
        },
    }

    fn told() -> impl Strategy<Value = Told> {
        prop_oneof![
            4 => Just(Told::Sent),
            4 => (0..400u64, 1..50u64, 0..2000u64, any::<bool>()).prop_map(
                |(age_ms, packets, in_flight, limited)| Told::Acked { age_ms, packets, in_flight, limited }
            ),
            2 => (1..100u64).prop_map(|packets| Told::Lost { packets }),
            1 => (1200..1400u16).prop_map(Told::Mtu),
            2 => prop_oneof![0..3u64, 0..30_000u64].prop_map(|ms| Told::Pause { ms }),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_told_the_window_keeps_its_bounds(story in proptest::collection::vec(told(), 1..400)) {
            let start = origin();
            let mut now = start;
            let mut model = PathModel::new(now, PACKET as u16);
            for told in story {
                match told {
                    Told::Sent => model.on_sent(now, PACKET, 0),
                    Told::Acked { age_ms, packets, in_flight, limited } => {
                        let sent = now - Duration::from_millis(age_ms).min(now - start);
                        model.delivery.acked(sent, packets * PACKET);
                        model.on_end_acks(now, in_flight * PACKET, limited, None);
                    }
                    Told::Lost { packets } => {
                        model.on_congestion_event(now, now, false, packets * PACKET);
                    }
                    Told::Mtu(mtu) => model.on_mtu_update(mtu),
                    Told::Pause { ms } => now += Duration::from_millis(ms),
                }
                prop_assert!(model.window() >= MIN_WINDOW_PACKETS * PACKET);
                prop_assert!(model.window() <= MAX_WINDOW_BYTES);
                prop_assert!((MIN_HEADROOM..=1.0).contains(&model.headroom));
            }
        }
    }

    /// Acknowledges packets that left a round trip ago, at `rate` bytes per millisecond, for so
    /// many rounds; `lost` of each ten are lost.
    fn rounds(
        model: &mut PathModel,
        now: &mut Instant,
        count: u64,
        rate: u64,
        round_trip_ms: u64,
        lost: u64,
    ) {
        let round_trip = Duration::from_millis(round_trip_ms);
        let in_flight = rate * round_trip_ms;
        for step in 0..count * round_trip_ms {
            model.on_sent(*now, rate, 0);
            if let Some(sent) = now.checked_sub(round_trip) {
                if step % 10 < lost {
                    model.on_congestion_event(*now, sent, false, rate);
                } else {
                    model.delivery.acked(sent, rate);
                    model.on_end_acks(*now, in_flight, false, None);
                }
            }
            *now += Duration::from_millis(1);
        }
    }

    #[test]
    fn the_window_is_what_fills_the_path_with_some_headroom() {
        let mut now = origin();
        let mut model = PathModel::new(now, PACKET as u16);
        rounds(&mut model, &mut now, 60, 2400, 20, 0);
        let fills = 2400 * 20;
        assert!(
            (2 * fills..3 * fills).contains(&model.window()),
            "{}",
            model.window()
        );
    }

    #[test]
    fn loss_in_front_of_a_standing_queue_takes_the_headroom_away() {
        let mut now = origin();
        let mut model = PathModel::new(now, PACKET as u16);
        rounds(&mut model, &mut now, 10, 12_000, 20, 0);
        // The queue adds 10 ms and overflows.
        rounds(&mut model, &mut now, 40, 12_000, 30, 1);
        let fills = 12_000 * 20;
        assert!(model.window() < fills * 3 / 2, "{}", model.window());
        assert!(model.window() > fills * 3 / 4, "{}", model.window());
    }

    #[test]
    fn loss_without_a_queue_does_not() {
        let mut now = origin();
        let mut model = PathModel::new(now, PACKET as u16);
        rounds(&mut model, &mut now, 60, 12_000, 20, 0);
        rounds(&mut model, &mut now, 40, 12_000, 20, 1);
        let fills = 12_000 * 20;
        assert!(model.window() > fills * 3 / 2, "{}", model.window());
    }
}
