//! Sequences of steps that once failed, each under the name of what was wrong.

use crate::attempt;
use crate::steps::Step::{self, Calm, Connect, KillGateway, Night, SetPcWall, Wait};

/// A world that begins on a Friday at 10:00.
fn passes(steps: &[Step]) {
    let morning = (1..).find(|seed| crate::world::begins_in_the_morning(*seed));
    if let Err(why) = attempt(morning.expect("one of them"), steps) {
        panic!("{why}");
    }
}

/// A handshake carries the wall clock's time, and the gateway takes none that is older than
/// the last: the tunnel that was made anew was refused for as long as the clock was behind.
#[test]
fn a_pc_whose_clock_was_set_back_comes_back_after_its_gateway_restarted() {
    passes(&[
        Wait { ms: 500 },
        Connect {
            device: 1,
            gateway: 0,
            anew: false,
        },
        Wait { ms: 300 },
        SetPcWall {
            device: 1,
            off_s: -6803,
        },
        KillGateway {
            gateway: 0,
            down_ms: 535,
        },
        Calm,
    ]);
}

/// QUIC doubles the pause before it repeats something up to 65,536 times the round trip. If
/// it may not send by then (WireGuard's keys are gone after three minutes) the timer stayed
/// due, and the gateway's loop never slept again.
#[test]
fn a_pc_that_falls_asleep_while_it_connects_does_not_keep_the_gateway_awake() {
    for ms in [100, 110, 122, 130, 140, 160] {
        passes(&[
            Wait { ms: 500 },
            Connect {
                device: 1,
                gateway: 1,
                anew: false,
            },
            Wait { ms },
            Night { s: 5_000 },
        ]);
    }
}
