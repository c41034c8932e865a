//! The simulated line keeps its rate, its delay, its share of loss and its order.

use std::time::{Duration, Instant};

use super::*;

/// A line with a clock that only the test moves.
struct Trial {
    line: Line,
    start: Instant,
    now: Instant,
    /// What arrived at the far end: number of the packet, and when.
    arrived: Vec<(u32, Duration)>,
}

impl Trial {
    fn new(conditions: &str) -> Self {
        Self::with_seed(conditions, 7)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a start for the test's own clock"
    )]
    fn with_seed(conditions: &str, seed: u64) -> Self {
        let conditions: Conditions = conditions.parse().unwrap();
        let start = Instant::now();
        Self {
            line: Line::new(conditions, conditions, seed),
            start,
            now: start,
            arrived: Vec::new(),
        }
    }

    fn send(&mut self, number: u32, bytes: usize) {
        let mut packet = vec![0; bytes];
        packet[..4].copy_from_slice(&number.to_be_bytes());
        assert_eq!(self.line.handle_packet(End::Near, &packet, self.now), None);
    }

    /// Lets time pass, waking the line only when it asks.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.line.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let (now, since) = (self.now, self.now - self.start);
            let arrived = &mut self.arrived;
            while self.line.poll_packet(End::Far, now, |packet| {
                let number = u32::from_be_bytes(packet[..4].try_into().unwrap());
                arrived.push((number, since));
            }) {}
        }
        self.now = end;
    }

    fn numbers(&self) -> Vec<u32> {
        self.arrived.iter().map(|(number, _)| *number).collect()
    }
}

#[test]
fn a_full_line_carries_its_rate_and_no_more() {
    let mut trial = Trial::new("rate=200M,queue=512K");
    // 400 Mbit/s are offered for a second.
    for number in 0..4000 {
        for half in 0..10 {
            trial.send(number * 10 + half, 1250);
        }
        trial.pass(Duration::from_micros(250));
    }
    let bits: u64 = trial.line.counters(End::Near).arrived_bytes * 8;
    assert!((199_000_000..=200_000_000).contains(&bits), "{bits} bits");
    assert!(trial.line.counters(End::Near).queue_full > 0);
}

#[test]
fn a_packet_takes_its_delay_and_the_time_of_its_bits() {
    let mut trial = Trial::new("rate=1M,delay=10ms");
    trial.send(1, 1000);
    trial.pass(Duration::from_secs(1));
    assert_eq!(trial.arrived, [(1, Duration::from_millis(18))]);
}

#[test]
fn the_queue_holds_its_bytes_and_drops_at_the_tail() {
    let mut trial = Trial::new("rate=8M,queue=10K");
    for number in 0..30 {
        trial.send(number, 1024);
    }
    trial.pass(Duration::from_secs(1));
    assert_eq!(trial.numbers(), (0..10).collect::<Vec<_>>());
    assert_eq!(trial.line.counters(End::Near).queue_full, 20);
    // An empty queue takes again.
    trial.send(99, 1024);
    trial.pass(Duration::from_secs(1));
    assert_eq!(trial.numbers().last(), Some(&99));
}

#[test]
fn the_share_that_is_lost_is_the_one_that_was_asked_for() {
    let mut trial = Trial::new("loss=1%");
    for number in 0..200_000 {
        trial.send(number, 100);
    }
    let lost = trial.line.counters(End::Near).lost;
    assert!((1_800..=2_200).contains(&lost), "{lost} of 200,000");
}

#[test]
fn jitter_spreads_arrivals_but_keeps_the_order() {
    let mut trial = Trial::new("delay=5ms,jitter=4ms");
    for number in 0..1000 {
        trial.send(number, 100);
        trial.pass(Duration::from_micros(100));
    }
    trial.pass(Duration::from_secs(1));
    assert_eq!(trial.numbers(), (0..1000).collect::<Vec<_>>());
    let waits: Vec<Duration> = trial
        .arrived
        .iter()
        .map(|(number, at)| *at - Duration::from_micros(100) * *number)
        .collect();
    let (shortest, longest) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(*shortest >= Duration::from_millis(5), "{shortest:?}");
    assert!(*longest <= Duration::from_millis(9), "{longest:?}");
    assert!(*longest - *shortest > Duration::from_millis(2));
}

#[test]
fn reordered_packets_come_late_and_all_others_in_order() {
    let mut trial = Trial::new("delay=5ms,reorder=2%");
    for number in 0..1000 {
        trial.send(number, 100);
        trial.pass(Duration::from_micros(100));
    }
    trial.pass(Duration::from_secs(1));
    let mut numbers = trial.numbers();
    let late = numbers.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!((5..=40).contains(&late), "{late} came late");
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
}

#[test]
fn duplicates_arrive_twice() {
    let mut trial = Trial::new("duplicate=100%");
    trial.send(1, 100);
    trial.send(2, 100);
    trial.pass(Duration::from_secs(1));
    assert_eq!(trial.numbers(), [1, 1, 2, 2]);
}

#[test]
fn too_big_is_dropped_without_a_word_or_announced() {
    let mut packet = vec![0x45; 1455];
    let mut trial = Trial::new("mtu=1454");
    assert_eq!(
        trial.line.handle_packet(End::Near, &packet, trial.now),
        None
    );
    assert_eq!(trial.line.counters(End::Near).too_big, 1);
    assert_eq!(trial.line.poll_timeout(), None);

    let mut trial = Trial::new("mtu=1454,icmp=announced");
    let answer = trial.line.handle_packet(End::Near, &packet, trial.now);
    assert!(answer.is_some());
    packet.pop();
    assert_eq!(
        trial.line.handle_packet(End::Near, &packet, trial.now),
        None
    );
    assert!(trial.line.poll_timeout().is_some());
}

#[test]
fn a_line_that_drops_udp_carries_everything_else() {
    let mut trial = Trial::new("udp=dropped");
    let packet = |version: u8, at: usize, protocol: u8| {
        let mut packet = vec![0; 60];
        packet[0] = version << 4 | 5;
        packet[at] = protocol;
        packet
    };
    for (version, at) in [(4, 9), (6, 6)] {
        for protocol in [6, 17] {
            let packet = packet(version, at, protocol);
            trial.line.handle_packet(End::Near, &packet, trial.now);
        }
    }
    trial.pass(Duration::from_secs(1));
    assert_eq!(trial.arrived.len(), 2);
    assert_eq!(trial.line.counters(End::Near).filtered, 2);
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let run = |seed: u64| {
        let bad = "rate=10M,delay=5ms,jitter=3ms,loss=5%,reorder=5%,duplicate=5%";
        let mut trial = Trial::with_seed(bad, seed);
        for number in 0..2000 {
            trial.send(number, 500);
            trial.pass(Duration::from_micros(300));
        }
        trial.pass(Duration::from_secs(5));
        trial.arrived
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn conditions_are_read_or_refused_with_the_part_that_is_wrong() {
    let read: Conditions = "rate=200M,delay=10ms,queue=512K,loss=0.1%,icmp=announced"
        .parse()
        .unwrap();
    assert_eq!(read.rate_bit_s, Some(200_000_000));
    assert_eq!(read.queue_bytes, 524_288);
    assert!((read.loss - 0.001).abs() < 1e-9);
    assert_eq!(read.too_big, TooBig::Announced);
    for wrong in [
        "rate",
        "rate=fast",
        "loss=1",
        "loss=101%",
        "delay=10",
        "speed=1",
        "icmp=no",
    ] {
        let error = format!("mtu=1400,{wrong}")
            .parse::<Conditions>()
            .unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
    }
}
