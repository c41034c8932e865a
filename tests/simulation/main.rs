//! A deterministic simulation of agents, gateways and portal over a network that loses,
//! delays, repeats, reorders and cuts, with clocks that step and drift.
//!
//! The code under test is the real one: the gateway's data path without its sockets, both
//! ends of the tunnel with WireGuard and QUIC, the agent's state machine, the portal's
//! calendar, deadlines and feed. [`model`] says what must hold, [`steps`] what can happen,
//! [`world`] lets it happen. Each world follows from a seed; one that fails is shortened to
//! the steps that matter and printed, to become a test of its own in [`regressions`].
//!
//! `RENKEI_SIMULATION_STEPS` runs more or fewer steps, `RENKEI_SIMULATION_SEED` begins
//! elsewhere.

mod agent;
mod certificates;
mod clock;
mod gateway;
mod member;
mod model;
mod portal;
mod random;
mod regressions;
mod steps;
mod tally;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use random::draw;
use steps::Step;
use tally::Tally;

/// Steps that `scripts/test` must run at least.
const STEPS: u64 = 1_000_000;

/// Steps of one world.
const STEPS_PER_WORLD: u64 = 2_000;

/// Threads that worlds are run on.
const THREADS: usize = 2;

/// Tries to shorten a failing sequence.
const SHORTENING_TRIES: usize = 400;

/// How often each thing must have happened in a million steps, at least. What is rare here
/// is rare because it takes a whole session to come about.
const COVERAGE: [(&str, u64); 34] = [
    ("race", 300),
    ("connected", 2_000),
    ("transfers done", 10_000),
    ("streams opened", 10_000),
    ("bytes to the portal", 10_000_000),
    ("bytes from the portal", 10_000_000),
    ("packets inwards", 100_000),
    ("packets outwards", 100_000),
    ("farewells", 1_000),
    ("handshakes begun by agents", 20_000),
    ("datagrams lost", 10_000),
    ("datagrams doubled", 5_000),
    ("replays", 20_000),
    ("replays from elsewhere", 20_000),
    ("forgeries", 50_000),
    ("ghosts", 300),
    ("a tunnel ended without a reason", 3),
    ("edges reached", 200),
    ("snapshots taken over", 2_000),
    ("a feed was given up", 500),
    ("a session was shortened", 300),
    ("granted and not let in", 40),
    ("granted too late and given back", 10),
    ("asked in vain", 1_000),
    ("refused: closed", 500),
    ("refused: revoked", 500),
    ("ended at a gateway: time limit", 300),
    ("ended at a gateway: closing time", 500),
    ("ended at a gateway: revoked", 200),
    ("ended at a gateway: replaced", 150),
    ("ended at a gateway: disconnected", 300),
    ("ended at a gateway: gateway stopped", 150),
    ("calm", 800),
    ("night", 100),
];

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

fn steps_of(seed: u64) -> Vec<Step> {
    let mut random = draw(seed, 0, 0);
    (0..STEPS_PER_WORLD)
        .map(|_| Step::draw(&mut random))
        .collect()
}

/// Runs a world; what it panicked with, if it did.
fn attempt(seed: u64, steps: &[Step]) -> Result<Tally, String> {
    let result = catch_unwind(AssertUnwindSafe(|| world::run(seed, steps)));
    clock::show_the_machines();
    result.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic
            .downcast_ref::<&str>()
            .unwrap_or(&"a panic")
            .to_string(),
    })
}

/// Leaves out whatever is not needed to fail.
fn shortened(seed: u64, mut steps: Vec<Step>) -> (Vec<Step>, String) {
    let mut why = String::new();
    let mut tries = 0;
    let mut piece = steps.len().div_ceil(2);
    while tries < SHORTENING_TRIES {
        let mut from = 0;
        let mut progress = false;
        while from < steps.len() && tries < SHORTENING_TRIES {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + piece).min(steps.len()));
            tries += 1;
            match attempt(seed, &fewer) {
                Err(text) => {
                    (steps, why, progress) = (fewer, text, true);
                }
                Ok(_) => from += piece,
            }
        }
        if piece == 1 && !progress {
            break;
        }
        piece = piece.div_ceil(2).max(1);
    }
    (steps, why)
}

/// S003-06, S003-42: a session ends after ninety minutes or when the fund closes, whatever the
/// agent, the network or the clocks do.
#[test]
fn no_packet_passes_that_the_model_forbids_and_none_is_stuck_that_it_allows() {
    let wanted = setting("RENKEI_SIMULATION_STEPS", STEPS);
    let first = setting("RENKEI_SIMULATION_SEED", 1);
    let worlds = wanted.div_ceil(STEPS_PER_WORLD);
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let tally = Mutex::new(Tally::default());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut own = Tally::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= worlds || failed.load(Ordering::Relaxed) {
                        break;
                    }
                    let seed = first + number;
                    match attempt(seed, &steps_of(seed)) {
                        Ok(world) => own.take_over(&world),
                        Err(why) => {
                            failed.store(true, Ordering::Relaxed);
                            failures
                                .lock()
                                .expect("no panic while held")
                                .push((seed, why));
                        }
                    }
                }
                tally.lock().expect("no panic while held").take_over(&own);
            });
        }
    });
    if let Some((seed, why)) = failures.into_inner().expect("no panic while held").pop() {
        let (steps, shorter) = shortened(seed, steps_of(seed));
        let steps: Vec<String> = steps
            .iter()
            .map(|step| format!("    Step::{step:?},"))
            .collect();
        panic!(
            "seed {seed}: {why}\n\nshortened:\n{}\n\n{shorter}",
            steps.join("\n")
        );
    }
    let tally = tally.into_inner().expect("no panic while held");
    let steps = worlds * STEPS_PER_WORLD;
    println!("{steps} steps in {worlds} worlds\n{tally}");
    if steps < STEPS {
        return;
    }
    for (what, least) in COVERAGE {
        assert!(
            tally.of(what) >= least,
            "{what}: {} in place of {least}",
            tally.of(what)
        );
    }
}

/// Without this, keys would never be renewed in pretended time and nobody would notice.
#[test]
fn an_idle_session_renews_its_wireguard_keys_every_two_minutes() {
    let steps = [
        Step::Wait { ms: 500 },
        Step::Connect {
            device: 0,
            gateway: 0,
            anew: false,
        },
        Step::Idle { s: 600 },
    ];
    let seed = (1..).find(|seed| world::begins_in_the_morning(*seed));
    let tally = attempt(seed.expect("one of them"), &steps).expect("passes");
    assert_eq!(tally.of("connected"), 1);
    let handshakes = tally.of("handshakes begun by agents");
    assert!((5..=7).contains(&handshakes), "{handshakes} handshakes");
}
