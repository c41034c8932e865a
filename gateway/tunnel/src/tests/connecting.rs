//! How many round trips it takes from the click to the first byte of the portal's answer.

use std::time::Duration;

use bytes::Bytes;

use super::line::Path;
use super::world::World;
use crate::Read;

/// What the sign-in page's connection says, in turns: TLS 1.3 to the portal, then HTTP. Sizes
/// are those of a certificate chain of two and a browser's request.
const TURNS: [(usize, usize); 2] = [(600, 2800), (900, 1400)];

/// Returns how long it takes from the first handshake datagram to the first byte of the page.
fn first_byte(path: Path, seed: u64) -> Duration {
    let mut world = World::new(path, seed);
    world.timer_grain = Duration::from_millis(1);
    let pc = world.add_pc();
    let id = world.pcs[pc].id;
    let start = world.now;
    let mut stream = None;
    let mut turns = TURNS.into_iter();
    let (mut question, mut answer) = turns.next().unwrap();
    let (mut asked, mut answered) = (false, false);
    let last = TURNS[TURNS.len() - 1];
    world.run_until("first byte of the page", |world| {
        let tunnel = &mut world.pcs[pc].tunnel;
        // As the agent does: a stream as soon as the gateway has proved who it is.
        if stream.is_none() {
            stream = tunnel.open_stream();
        }
        let Some(stream) = stream else {
            return false;
        };
        if !asked {
            let mut bytes = Bytes::from(vec![1; question]);
            assert_eq!(tunnel.write(stream, &mut bytes), Ok(question));
            asked = true;
        }
        while let Ok(Read::Data(data)) = world.gateway.read(id, stream, usize::MAX) {
            question -= data.len();
        }
        if question == 0 && !answered {
            let mut bytes = Bytes::from(vec![2; answer]);
            assert_eq!(world.gateway.write(id, stream, &mut bytes), Ok(answer));
            answered = true;
        }
        while let Ok(Read::Data(data)) = world.pcs[pc].tunnel.read(stream, usize::MAX) {
            answer -= data.len();
            if (turns.len() == 0 && answer < last.1) || answer == 0 {
                let Some(turn) = turns.next() else {
                    return true;
                };
                (question, answer) = turn;
                (asked, answered) = (false, false);
                let tunnel = &mut world.pcs[pc].tunnel;
                let mut bytes = Bytes::from(vec![1; question]);
                assert_eq!(tunnel.write(stream, &mut bytes), Ok(question));
                asked = true;
                break;
            }
        }
        false
    });
    world.now - start
}

#[test]
fn the_first_byte_of_a_page_comes_four_round_trips_after_the_first_datagram() {
    // WireGuard takes one, QUIC one, TLS to the portal one, the request one. The stream is opened
    // with QUIC's last flight, so that the certificate's check at the gateway costs none.
    for (path, round_trip_ms) in [
        (Path::line(200, 20, 512), 20),
        (Path::line(20, 30, 64), 30),
        (Path::line(200, 100, 512), 100),
    ] {
        let took = first_byte(path, 1);
        println!("{round_trip_ms} ms: {took:?}");
        assert!(took >= 4 * Duration::from_millis(round_trip_ms));
        assert!(took < 4 * Duration::from_millis(round_trip_ms) + Duration::from_millis(10));
    }
}

#[test]
fn a_path_that_loses_one_in_a_hundred_seldom_makes_it_longer_than_a_second() {
    let mut took: Vec<_> = (1..=100)
        .map(|seed| first_byte(Path::line(200, 20, 512).losing(10), seed))
        .collect();
    took.sort();
    println!(
        "of 100: middle {:?}, 95th {:?}, last {:?}",
        took[50], took[95], took[99]
    );
    assert!(took[50] < Duration::from_millis(90), "{:?}", took[50]);
    assert!(took[95] < Duration::from_millis(900), "{:?}", took[95]);
    assert!(took[99] < Duration::from_millis(2500), "{:?}", took[99]);
}
