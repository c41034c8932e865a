//! The search for a way, over simulated networks and in simulated time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a way does for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    /// Carries, with this round trip.
    Works(Duration),
    /// Drops without a word.
    Silent,
    /// Turns away at once.
    Refuses,
    /// Answers handshakes and carries nothing else.
    Barren(Duration),
}

#[derive(Debug, Clone, Copy)]
enum Happening {
    Opened(WayId, u64),
    Failed(WayId, u64),
    Answer(WayId, u64, u64),
}

/// A PC among networks that change. Wakes the core only when it asks to be woken.
struct World {
    paths: Paths,
    start: Instant,
    now: Instant,
    /// What each way does from when on.
    networks: Vec<Vec<(Duration, Network)>>,
    /// The generation of each way that is open or opening.
    open: Vec<Option<u64>>,
    generation: u64,
    happenings: BTreeMap<(Instant, u64), Happening>,
    greetings: u64,
    used: Vec<(Duration, WayId)>,
    last_carried: Instant,
    next_talk: Instant,
}

const TALK: Duration = Duration::from_millis(100);
const SILENCE: Duration = Duration::from_millis(1200);
const MILLISECOND: Duration = Duration::from_millis(1);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn udp(port: u16) -> Way {
    Way::Udp(([192, 0, 2, 1], port).into())
}

const STRAIGHT: Way = Way::Tls(Via::Straight);
const PROXY: Way = Way::Tls(Via::Proxy);

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other constructor"
)]
fn origin() -> Instant {
    Instant::now()
}

impl World {
    fn new(ways: Vec<(Way, Vec<(Duration, Network)>)>, remembered: Option<Via>) -> Self {
        let start = origin();
        let (ways, networks): (Vec<_>, Vec<_>) = ways.into_iter().unzip();
        let open = vec![None; ways.len()];
        let mut world = Self {
            paths: Paths::new(ways, remembered, start),
            start,
            now: start,
            networks,
            open,
            generation: 0,
            happenings: BTreeMap::new(),
            greetings: 0,
            used: Vec::new(),
            last_carried: start,
            next_talk: start,
        };
        world.act();
        world
    }

    /// Ways that do one thing for ever.
    fn steady(ways: &[(Way, Network)]) -> Self {
        let ways = ways.iter().map(|(way, does)| (*way, vec![(s(0), *does)]));
        Self::new(ways.collect(), None)
    }

    fn network(&self, id: WayId) -> Network {
        let at = self.now - self.start;
        let phases = self.networks[id.0].iter().rev();
        let current = phases.into_iter().find(|(from, _)| *from <= at);
        current.map_or(Network::Silent, |(_, network)| *network)
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        self.generation += 1;
        let at = self.now + after;
        self.happenings.insert((at, self.generation), happening);
    }

    fn act(&mut self) {
        while let Some(action) = self.paths.poll_action() {
            match action {
                Action::Open(id) => self.open(id),
                Action::Greet(id) => self.greet(id),
                Action::Close(id) => {
                    assert!(self.open[id.0].take().is_some(), "closed twice: {id:?}");
                }
                Action::Use(id) => {
                    assert!(self.open[id.0].is_some(), "a closed way is used: {id:?}");
                    self.used.push((self.now - self.start, id));
                    self.last_carried = self.now;
                }
            }
        }
    }

    fn open(&mut self, id: WayId) {
        assert!(self.open[id.0].is_none(), "opened twice: {id:?}");
        self.generation += 1;
        let generation = self.generation;
        self.open[id.0] = Some(generation);
        let is_udp = self.paths.way(id).is_udp();
        match self.network(id) {
            _ if is_udp => self.later(Duration::ZERO, Happening::Opened(id, generation)),
            Network::Works(round_trip) | Network::Barren(round_trip) => {
                self.later(round_trip * 2, Happening::Opened(id, generation));
            }
            Network::Silent => {}
            Network::Refuses => self.later(MILLISECOND, Happening::Failed(id, generation)),
        }
    }

    fn greet(&mut self, id: WayId) {
        let generation = self.open[id.0].expect("a closed way is greeted");
        self.greetings += 1;
        let greeting = self.greetings;
        match self.network(id) {
            Network::Works(round_trip) | Network::Barren(round_trip) => {
                self.later(round_trip, Happening::Answer(id, generation, greeting));
            }
            Network::Silent => {}
            Network::Refuses => self.later(MILLISECOND, Happening::Failed(id, generation)),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Opened(id, generation) if self.open[id.0] == Some(generation) => {
                self.paths.handle_opened(id, self.now);
            }
            Happening::Failed(id, generation) if self.open[id.0] == Some(generation) => {
                self.open[id.0] = None;
                self.paths.handle_failed(id, self.now);
            }
            // Only the latest two handshakes can be answered.
            Happening::Answer(id, generation, greeting)
                if self.open[id.0] == Some(generation) && greeting + 1 >= self.greetings =>
            {
                self.paths.handle_heard(id, self.now);
            }
            Happening::Opened(..) | Happening::Failed(..) | Happening::Answer(..) => {}
        }
    }

    /// A transfer that runs all the time.
    fn talk(&mut self) {
        self.next_talk = self.now + TALK;
        let Some(used) = self.paths.used() else {
            return;
        };
        if let Network::Works(_) = self.network(used) {
            self.last_carried = self.now;
            self.paths.handle_progress();
            self.paths.handle_heard(used, self.now);
        } else if self.now >= self.last_carried + SILENCE && !self.paths.is_searching() {
            self.paths.handle_silence(self.now);
        }
    }

    fn run_until(&mut self, end: Duration) {
        let end = self.start + end;
        let mut in_place = 0;
        while self.now < end {
            let wake = self.paths.poll_timeout(self.now);
            let happening = self.happenings.keys().next().map(|key| key.0);
            let next = [wake, happening, Some(self.next_talk), Some(end)];
            let next = next.into_iter().flatten().min().unwrap().max(self.now);
            in_place = if next == self.now { in_place + 1 } else { 0 };
            assert!(in_place < 100, "spins at {:?}", self.now - self.start);
            self.now = next;
            while let Some(entry) = self.happenings.first_entry()
                && entry.key().0 <= self.now
            {
                let happening = entry.remove();
                self.happen(happening);
                self.act();
            }
            if self.next_talk <= self.now {
                self.talk();
                self.act();
            }
            if self
                .paths
                .poll_timeout(self.now)
                .is_some_and(|at| at <= self.now)
            {
                self.paths.handle_timeout(self.now);
                self.act();
            }
        }
    }

    fn outlook(&self) -> Outlook {
        self.paths.outlook(self.now)
    }

    fn stands_on(&self, way: Way) -> bool {
        matches!(self.outlook(), Outlook::Standing(id) if self.paths.way(id) == way)
    }

    fn used_ways(&self) -> Vec<Way> {
        self.used
            .iter()
            .map(|(_, id)| self.paths.way(*id))
            .collect()
    }
}

#[test]
fn where_udp_works_nothing_else_is_opened() {
    let mut world = World::steady(&[
        (udp(51820), Network::Works(ms(100))),
        (udp(443), Network::Works(ms(100))),
        (STRAIGHT, Network::Works(ms(100))),
    ]);
    world.run_until(s(300));
    assert_eq!(world.used_ways(), [udp(51820)]);
    assert_eq!(world.used[0].0, ms(100));
    assert_eq!(world.greetings, 1);
}

#[test]
fn where_udp_is_dropped_tls_stands_within_half_a_second_and_four_round_trips() {
    for round_trip in [5, 20, 100, 250] {
        for ports in 1..=4 {
            let mut ways: Vec<_> = (0..ports).map(|at| (udp(at), Network::Silent)).collect();
            ways.push((STRAIGHT, Network::Works(ms(round_trip))));
            let mut world = World::steady(&ways);
            world.run_until(s(5));
            assert_eq!(world.used_ways(), [STRAIGHT]);
            let limit = ms(510 + 3 * round_trip);
            assert!(world.used[0].0 <= limit, "{:?}", world.used);
        }
    }
}

#[test]
fn a_refusal_passes_the_turn_on_at_once() {
    let mut world = World::steady(&[
        (udp(1), Network::Refuses),
        (udp(2), Network::Refuses),
        (STRAIGHT, Network::Refuses),
        (PROXY, Network::Works(ms(20))),
    ]);
    world.run_until(s(1));
    assert_eq!(world.used_ways(), [PROXY]);
    assert!(world.used[0].0 < ms(100), "{:?}", world.used);
    let known: Vec<_> = world
        .paths
        .experiences()
        .into_iter()
        .map(|(_, known)| known)
        .collect();
    let refused = Experience::Refused;
    assert_eq!(known, [refused, refused, refused, Experience::Answered]);
}

#[test]
fn a_remembered_tls_way_is_first_and_udp_takes_over_if_it_works() {
    for (udp_does, expected) in [
        (Network::Silent, vec![PROXY]),
        (Network::Works(ms(20)), vec![PROXY, udp(1)]),
    ] {
        let ways = vec![
            (udp(1), vec![(s(0), udp_does)]),
            (STRAIGHT, vec![(s(0), Network::Silent)]),
            (PROXY, vec![(s(0), Network::Works(ms(20)))]),
        ];
        let mut world = World::new(ways, Some(Via::Proxy));
        world.run_until(s(10));
        assert_eq!(world.used_ways(), expected);
        assert_eq!(world.used[0].0, ms(60));
        assert!(world.used.last().unwrap().0 < s(1));
    }
}

#[test]
fn udp_is_looked_for_now_and_then_and_less_and_less_often() {
    let ways = vec![
        (
            udp(1),
            vec![(s(0), Network::Silent), (s(2000), Network::Works(ms(20)))],
        ),
        (STRAIGHT, vec![(s(0), Network::Works(ms(20)))]),
    ];
    let mut world = World::new(ways, None);
    world.run_until(s(1999));
    assert_eq!(world.used_ways(), [STRAIGHT]);
    assert!((5..12).contains(&world.greetings), "{}", world.greetings);
    world.run_until(s(2000) + LONGEST_SCOUT_PAUSE);
    assert_eq!(world.used_ways(), [STRAIGHT, udp(1)]);
    let open = world.open.iter().flatten().count();
    assert_eq!(open, 1, "what is no longer used is closed");
}

#[test]
fn a_way_that_falls_silent_is_left_within_two_seconds_and_udp_is_found_again() {
    let ways = vec![
        (
            udp(1),
            vec![
                (s(0), Network::Works(ms(20))),
                (s(10), Network::Silent),
                (s(30), Network::Works(ms(20))),
            ],
        ),
        (STRAIGHT, vec![(s(0), Network::Works(ms(20)))]),
    ];
    let mut world = World::new(ways, None);
    world.run_until(s(12));
    assert_eq!(world.used_ways(), [udp(1), STRAIGHT]);
    assert!(world.used[1].0 < ms(11_600), "{:?}", world.used);
    world.run_until(s(100));
    assert_eq!(world.used_ways(), [udp(1), STRAIGHT, udp(1)]);
}

#[test]
fn a_false_alarm_changes_nothing() {
    let works = Network::Works(ms(20));
    let mut world = World::steady(&[(udp(1), works), (STRAIGHT, works)]);
    world.run_until(s(10));
    world.paths.handle_silence(world.now);
    assert_eq!(world.outlook(), Outlook::Searching);
    world.act();
    world.run_until(s(11));
    assert_eq!(world.used_ways(), [udp(1)]);
    assert_eq!(world.open.iter().flatten().count(), 1);
}

#[test]
fn a_way_that_only_shakes_hands_is_not_taken_twice() {
    let ways = vec![
        (udp(1), vec![(s(0), Network::Barren(ms(20)))]),
        (STRAIGHT, vec![(s(0), Network::Works(ms(20)))]),
    ];
    let mut world = World::new(ways, None);
    world.run_until(s(800));
    assert_eq!(world.used_ways(), [udp(1), STRAIGHT]);
    assert!(world.used[1].0 < ms(1600), "{:?}", world.used);
}

#[test]
fn a_dead_gateway_is_told_soon() {
    for (does, limit) in [(Network::Refuses, ms(50)), (Network::Silent, ms(2600))] {
        let phases = vec![(s(0), Network::Works(ms(20))), (s(10), does)];
        let ways = [udp(1), udp(2), STRAIGHT].map(|way| (way, phases.clone()));
        let mut world = World::new(ways.to_vec(), None);
        world.run_until(s(10));
        assert!(world.stands_on(udp(1)));
        if does == Network::Refuses {
            // What the system reports when the next datagram is turned away.
            world.open[0] = None;
            world.paths.handle_failed(WayId(0), world.now);
            world.act();
        }
        world.run_until(s(10) + limit);
        assert_eq!(world.outlook(), Outlook::Dead, "{does:?}");
    }
}

#[test]
fn another_network_starts_over_with_udp() {
    let ways = vec![
        (
            udp(1),
            vec![(s(0), Network::Silent), (s(10), Network::Works(ms(20)))],
        ),
        (STRAIGHT, vec![(s(0), Network::Works(ms(20)))]),
    ];
    let mut world = World::new(ways, None);
    world.run_until(s(20));
    assert!(world.stands_on(STRAIGHT));
    world.paths.handle_network_changed(None, world.now);
    world.act();
    world.run_until(ms(20_100));
    assert!(world.stands_on(udp(1)));
}

#[test]
fn a_path_with_a_round_trip_of_seconds_is_found() {
    for round_trip in [400, 900, 1500, 2500] {
        let silent = Network::Silent;
        let slow = Network::Works(ms(round_trip));
        for ways in [
            [(udp(1), slow), (udp(2), slow), (STRAIGHT, slow)],
            [(udp(1), slow), (udp(2), silent), (STRAIGHT, silent)],
            [(udp(1), silent), (udp(2), slow), (STRAIGHT, silent)],
        ] {
            let mut world = World::steady(&ways);
            world.run_until(s(30));
            assert!(!world.used.is_empty(), "{round_trip} ms: {ways:?}");
        }
    }
}

fn network() -> impl Strategy<Value = Network> {
    prop_oneof![
        (1u64..400).prop_map(|round_trip| Network::Works(ms(round_trip))),
        (1u64..400).prop_map(|round_trip| Network::Barren(ms(round_trip))),
        Just(Network::Silent),
        Just(Network::Refuses),
    ]
}

fn phases() -> impl Strategy<Value = Vec<(Duration, Network)>> {
    proptest::collection::vec((0u64..60_000, network()), 1..8).prop_map(|mut phases| {
        phases.sort_by_key(|(from, _)| *from);
        phases
            .into_iter()
            .map(|(from, does)| (ms(from), does))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the networks did before: once one way works and stays, it is soon in use.
    #[test]
    fn the_search_never_gets_stuck_while_a_way_works(
        networks in proptest::collection::vec(phases(), 4),
        good in 0usize..4,
        round_trip in 1u64..300,
        others_refuse in any::<bool>(),
        remembered in proptest::option::of(prop_oneof![Just(Via::Straight), Just(Via::Proxy)]),
    ) {
        let ways = [udp(1), udp(2), STRAIGHT, PROXY];
        let after = if others_refuse { Network::Refuses } else { Network::Silent };
        let ways = ways.into_iter().zip(networks).enumerate().map(|(at, (way, mut phases))| {
            let last = if at == good { Network::Works(ms(round_trip)) } else { after };
            phases.push((s(60), last));
            (way, phases)
        });
        let mut world = World::new(ways.collect(), remembered);
        world.run_until(s(80));
        let stands = matches!(world.outlook(), Outlook::Standing(id) if id.0 == good);
        prop_assert!(stands, "{:?} {:?}", world.outlook(), world.paths);
        // Nothing is left open for ever beside the way in use.
        let idle = (80..90).any(|at| {
            world.run_until(s(at));
            world.open.iter().flatten().count() == 1
        });
        prop_assert!(idle, "{:?}", world.paths);
    }

    /// A network that takes UDP again gets UDP again.
    #[test]
    fn udp_is_always_found_again(networks in proptest::collection::vec(phases(), 3)) {
        let ways = [udp(1), STRAIGHT, PROXY].into_iter().zip(networks).map(|(way, mut phases)| {
            phases.retain(|(_, does)| !matches!(does, Network::Barren(_)));
            phases.push((s(60), Network::Works(ms(20))));
            (way, phases)
        });
        let mut world = World::new(ways.collect(), None);
        world.run_until(s(61) + 3 * LONGEST_SCOUT_PAUSE);
        prop_assert!(world.stands_on(udp(1)), "{:?}", world.paths);
    }
}
