//! When the gateway is asked for a sign of life, and what it means that none comes.
//!
//! Pure: the event loop tells what it saw and when. Two silences are told apart: nothing
//! authentic comes at all (the way may be dead: others are tried), and handshakes are
//! answered but the connection inside the tunnel is not (the gateway was restarted: the
//! connection is made anew).

use std::time::{Duration, Instant};

/// An answer that takes longer than this makes a way doubtful, at least and at most.
const SILENCE: (Duration, Duration) = (Duration::from_millis(1200), Duration::from_secs(3));

/// As many round trips are waited for, within [`SILENCE`].
const SILENCE_ROUND_TRIPS: u32 = 4;

/// Handshakes that were answered without a sign from the connection: one may have crossed.
const ANSWERS_WITHOUT_SIGN: u32 = 2;

/// How long a connection must have been asked in vain to count as forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_millis(1500);

/// How long after the last handshake its sign must be missing.
const AFTER_ANSWER: Duration = Duration::from_millis(500);

/// How long a stream that moves nothing still counts as busy.
const BUSY: Duration = Duration::from_secs(15);

/// How long a look at the page counts; the page looks about once a second.
const LOOK: Duration = Duration::from_millis(2500);

/// How often a sign of life is asked for while somebody looks: with the shortest [`SILENCE`],
/// what is shown is never older than two seconds.
const LOOKED_AT: Duration = Duration::from_millis(500);

/// How often a sign of life is asked for when nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// While streams carry data.
    pub busy: Duration,
    /// While streams are open and still.
    pub open: Duration,
    /// While there is no stream. 5,000 such sessions cost a gateway 500 packets a second.
    pub idle: Duration,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            busy: Duration::from_secs(1),
            open: Duration::from_secs(5),
            idle: Duration::from_secs(10),
        }
    }
}

/// What the streams do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// How many are open.
    pub open: usize,
    /// When one last carried something.
    pub moved: Option<Instant>,
}

/// What the tunnel shows at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Grows with each sign from the connection inside the tunnel.
    pub signs: u64,
    /// Since when the gateway owes an answer of any kind.
    pub owed_since: Option<Instant>,
    /// The round trip.
    pub round_trip: Duration,
    /// The streams.
    pub streams: Streams,
    /// Whether a way stands: only then does it make sense to ask.
    pub standing: bool,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Finding {
    /// The connection got somewhere since the last look.
    pub progress: bool,
    /// A sign of life is to be asked for.
    pub ask: bool,
    /// Nothing comes: the way is doubtful.
    pub silent: bool,
    /// The gateway answers but does not know the connection.
    pub forgotten: bool,
}

/// The memory between two looks.
#[derive(Debug)]
pub struct Pulse {
    rates: Rates,
    signs: u64,
    last_sign: Option<Instant>,
    /// Since when the connection was asked in vain.
    asked_since: Option<Instant>,
    last_asked: Option<Instant>,
    answers: u32,
    last_answer: Option<Instant>,
    /// When somebody last looked at how the tunnel stands.
    last_looked: Option<Instant>,
    due: Option<Instant>,
}

impl Pulse {
    /// Nothing heard yet.
    pub fn new(rates: Rates) -> Self {
        Self {
            rates,
            signs: 0,
            last_sign: None,
            asked_since: None,
            last_asked: None,
            answers: 0,
            last_answer: None,
            last_looked: None,
            due: None,
        }
    }

    /// A handshake was answered.
    pub fn handle_answer(&mut self, now: Instant) {
        self.answers = self.answers.saturating_add(1);
        self.last_answer = Some(now);
    }

    /// The connection was asked for a sign, for whatever reason.
    pub fn handle_asked(&mut self, now: Instant) {
        self.asked_since.get_or_insert(now);
        self.last_asked = Some(now);
    }

    /// Somebody looked at how the tunnel stands.
    pub fn handle_looked(&mut self, now: Instant) {
        self.last_looked = Some(now);
    }

    /// Looks at the tunnel. Until the first sign nothing is asked and nothing forgotten: the
    /// connection is being made.
    pub fn look(&mut self, reading: &Reading, now: Instant) -> Finding {
        let mut finding = Finding::default();
        if reading.signs != self.signs {
            self.signs = reading.signs;
            self.last_sign = Some(now);
            self.asked_since = None;
            self.answers = 0;
            finding.progress = true;
        }
        let wait = (reading.round_trip * SILENCE_ROUND_TRIPS).clamp(SILENCE.0, SILENCE.1);
        let silent_at = reading.owed_since.map(|since| since + wait);
        finding.silent = reading.standing && silent_at.is_some_and(|at| at <= now);
        let Some(last_sign) = self.last_sign else {
            self.due = silent_at.filter(|_| reading.standing);
            return finding;
        };
        let forgotten_at = self.forgotten_at(reading.round_trip);
        finding.forgotten = forgotten_at.is_some_and(|at| at <= now);
        let quiet_since = self.last_asked.map_or(last_sign, |at| at.max(last_sign));
        let mut ask_at = quiet_since + self.rate(reading.streams, now);
        if reading.standing && ask_at <= now {
            finding.ask = true;
            self.handle_asked(now);
            ask_at = now + self.rate(reading.streams, now);
        }
        let asks = reading.standing.then_some(ask_at);
        let silence = silent_at.filter(|at| reading.standing && *at > now);
        self.due = [asks, silence, forgotten_at].into_iter().flatten().min();
        finding
    }

    /// Returns when [`Self::look`] is to be called again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    fn forgotten_at(&self, round_trip: Duration) -> Option<Instant> {
        let (asked, answered) = (self.asked_since?, self.last_answer?);
        let settled = answered + AFTER_ANSWER.max(round_trip * 3);
        (self.answers >= ANSWERS_WITHOUT_SIGN).then(|| settled.max(asked + FORGOTTEN_AFTER))
    }

    fn rate(&self, streams: Streams, now: Instant) -> Duration {
        let busy = streams.moved.is_some_and(|at| now < at + BUSY);
        let rate = match streams.open {
            // In doubt, soon.
            _ if self.asked_since.is_some() => self.rates.busy,
            0 => self.rates.idle,
            _ if busy => self.rates.busy,
            _ => self.rates.open,
        };
        let looked_at = self.last_looked.is_some_and(|at| now < at + LOOK);
        if looked_at { rate.min(LOOKED_AT) } else { rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(20);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other constructor"
    )]
    fn origin() -> Instant {
        Instant::now()
    }

    /// A tunnel whose gateway answers, or not, what it is asked.
    struct Tunnel {
        pulse: Pulse,
        now: Instant,
        reading: Reading,
        gateway: Gateway,
        asked: usize,
        silent: Option<Instant>,
        forgotten: Option<Instant>,
    }

    #[derive(PartialEq, Eq)]
    enum Gateway {
        Answers,
        /// Knows the keys and not the connection.
        Forgot,
        Gone,
    }

    impl Tunnel {
        fn new() -> Self {
            let now = origin();
            let mut tunnel = Self {
                pulse: Pulse::new(Rates::default()),
                now,
                reading: Reading {
                    signs: 1,
                    owed_since: None,
                    round_trip: ROUND_TRIP,
                    streams: Streams {
                        open: 0,
                        moved: None,
                    },
                    standing: true,
                },
                gateway: Gateway::Answers,
                asked: 0,
                silent: None,
                forgotten: None,
            };
            tunnel.look();
            tunnel
        }

        fn look(&mut self) {
            let finding = self.pulse.look(&self.reading, self.now);
            if finding.ask {
                self.asked += 1;
                match self.gateway {
                    Gateway::Answers => {
                        self.reading.signs += 1;
                        self.look();
                    }
                    Gateway::Forgot => {}
                    Gateway::Gone => {
                        self.reading.owed_since.get_or_insert(self.now);
                    }
                }
            }
            if finding.silent {
                self.silent.get_or_insert(self.now);
            }
            if finding.forgotten {
                self.forgotten.get_or_insert(self.now);
            }
        }

        /// Looks only when asked to, and when something came in.
        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            let mut in_place = 0;
            while self.silent.is_none() && self.forgotten.is_none() {
                let due = self.pulse.poll_timeout().filter(|due| *due <= end);
                let Some(due) = due else { break };
                in_place = if due <= self.now { in_place + 1 } else { 0 };
                assert!(in_place < 10, "spins");
                self.now = self.now.max(due);
                self.look();
            }
            self.now = self.now.max(end);
        }
    }

    #[test]
    fn an_idle_tunnel_is_asked_seldom_and_a_busy_one_often() {
        let mut tunnel = Tunnel::new();
        tunnel.pass(s(100));
        assert!((9..=11).contains(&tunnel.asked), "{}", tunnel.asked);
        tunnel.reading.streams.open = 1;
        tunnel.look();
        tunnel.asked = 0;
        tunnel.pass(s(100));
        assert!((19..=21).contains(&tunnel.asked), "{}", tunnel.asked);
        tunnel.reading.streams.moved = Some(tunnel.now);
        tunnel.look();
        tunnel.asked = 0;
        tunnel.pass(s(10));
        assert!((9..=11).contains(&tunnel.asked), "{}", tunnel.asked);
    }

    #[test]
    fn a_gateway_that_is_gone_is_noticed_soon_after_it_was_asked() {
        for (round_trip, wait) in [(ms(20), ms(1200)), (ms(500), s(2)), (s(2), s(3))] {
            let mut tunnel = Tunnel::new();
            tunnel.reading.round_trip = round_trip;
            tunnel.reading.streams.open = 1;
            tunnel.reading.streams.moved = Some(tunnel.now);
            tunnel.look();
            tunnel.gateway = Gateway::Gone;
            let start = tunnel.now;
            tunnel.pass(s(20));
            let noticed = tunnel.silent.unwrap() - start;
            assert_eq!(noticed, s(1) + wait, "{round_trip:?}");
        }
    }

    #[test]
    fn a_gateway_that_shakes_hands_and_knows_nothing_has_forgotten() {
        let mut tunnel = Tunnel::new();
        tunnel.gateway = Gateway::Forgot;
        let start = tunnel.now;
        tunnel.pulse.handle_asked(tunnel.now);
        tunnel.pulse.handle_answer(tunnel.now);
        tunnel.look();
        tunnel.pass(s(1));
        assert!(tunnel.forgotten.is_none(), "one answer may have crossed");
        tunnel.pulse.handle_answer(tunnel.now);
        tunnel.look();
        tunnel.pass(s(5));
        assert_eq!(tunnel.forgotten.unwrap() - start, ms(1500));
    }

    #[test]
    fn a_connection_that_answers_is_never_forgotten() {
        let mut tunnel = Tunnel::new();
        for _ in 0..100 {
            tunnel.pulse.handle_asked(tunnel.now);
            tunnel.pulse.handle_answer(tunnel.now);
            tunnel.pulse.handle_answer(tunnel.now);
            tunnel.look();
            tunnel.pass(ms(400));
            tunnel.reading.signs += 1;
            tunnel.look();
            tunnel.pass(s(30));
        }
        assert_eq!((tunnel.forgotten, tunnel.silent), (None, None));
    }

    #[test]
    fn a_connection_that_is_being_made_is_not_asked() {
        let mut tunnel = Tunnel::new();
        tunnel.pulse = Pulse::new(Rates::default());
        tunnel.reading.signs = 0;
        tunnel.reading.owed_since = Some(tunnel.now);
        tunnel.look();
        let start = tunnel.now;
        tunnel.pass(s(60));
        assert_eq!(tunnel.asked, 0);
        assert_eq!(tunnel.silent.unwrap() - start, ms(1200));
    }
    #[test]
    fn an_idle_tunnel_that_is_looked_at_is_found_silent_within_two_seconds() {
        let mut tunnel = Tunnel::new();
        tunnel.pass(s(60));
        tunnel.asked = 0;
        tunnel.pass(s(10));
        assert_eq!(tunnel.asked, 1, "nobody looks: seldom");
        tunnel.asked = 0;
        for _ in 0..10 {
            tunnel.pulse.handle_looked(tunnel.now);
            tunnel.look();
            tunnel.pass(s(1));
        }
        assert!((18..=21).contains(&tunnel.asked), "{}", tunnel.asked);
        tunnel.gateway = Gateway::Gone;
        let cut = tunnel.now;
        for _ in 0..4 {
            tunnel.pulse.handle_looked(tunnel.now);
            tunnel.look();
            tunnel.pass(ms(500));
        }
        let silent = tunnel.silent.expect("silence is noticed") - cut;
        assert!(silent <= s(2), "{silent:?}");
    }
}
