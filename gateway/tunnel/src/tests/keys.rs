//! WireGuard's keys grow old by simulated time.

use std::time::Duration;

use bytes::Bytes;

use super::line::Path;
use super::world::{Datagram, World};
use crate::Read;

const MINUTE: Duration = Duration::from_secs(60);

fn initiations(sent: &[Datagram]) -> usize {
    let initiation = |datagram: &&Datagram| datagram.data[0] == 1;
    sent.iter().filter(initiation).count()
}

#[test]
fn keys_are_renewed_every_two_minutes_for_as_long_as_a_session_lasts() {
    let mut world = World::connected(Path::default(), 1);
    world.recording = Some(Vec::new());
    world.run_for(90 * MINUTE);
    let renewals = initiations(&world.recording.take().unwrap());
    assert!((38..=46).contains(&renewals), "{renewals}");
    let stream = world.open_stream(0);
    assert_eq!(world.upload(0, stream, b"still here"), b"still here");
}

#[test]
fn a_renewal_whose_answer_is_lost_is_tried_again_before_the_keys_are_too_old() {
    let mut world = World::connected(Path::default(), 1);
    world.run_for(Duration::from_secs(119));
    world.recording = Some(Vec::new());
    world.path.loss = 1000;
    world.run_for(Duration::from_secs(30));
    assert!(initiations(&world.recording.take().unwrap()) >= 3);
    world.path.loss = 0;
    world.run_for(Duration::from_secs(8));
    world.recording = Some(Vec::new());
    // Past the old keys' end: the new ones are in use already.
    world.run_for(Duration::from_secs(40));
    assert_eq!(initiations(&world.recording.take().unwrap()), 0);
    let stream = world.open_stream(0);
    assert_eq!(world.upload(0, stream, b"renewed"), b"renewed");
}

#[test]
fn renewing_keys_holds_no_transfer_up() {
    let path = Path::line(2, 30, 64);
    let mut world = World::connected(path, 1);
    let id = world.pcs[0].id;
    let stream = world.open_stream(0);
    let mut last = world.now;
    let mut longest = Duration::ZERO;
    let until = world.now + 5 * MINUTE;
    let chunk = Bytes::from(vec![7; 10_000]);
    let mut left = chunk.clone();
    world.run_until("five minutes", |world| {
        while world.pcs[0].tunnel.write(stream, &mut left).unwrap() > 0 {
            if left.is_empty() {
                left = chunk.clone();
            }
        }
        while let Ok(Read::Data(_)) = world.gateway.read(id, stream, usize::MAX) {
            longest = longest.max(world.now - last);
            last = world.now;
        }
        world.now >= until
    });
    assert!(longest < Duration::from_millis(500), "{longest:?}");
    assert_eq!(world.gateway.counters().refused, 0);
}

#[test]
fn a_packet_under_keys_of_three_minutes_ago_is_refused() {
    for (held_back, refused) in [(Duration::from_secs(170), 0), (Duration::from_secs(185), 1)] {
        let mut world = World::connected(Path::default(), 1);
        let stream = world.open_stream(0);
        world.run_for(Duration::from_secs(1));
        world.path.loss = 1000;
        world.recording = Some(Vec::new());
        let mut data = Bytes::from_static(b"late");
        world.pcs[0].tunnel.write(stream, &mut data).unwrap();
        world.exchange();
        let late = world.recording.take().unwrap().remove(0);
        world.path.loss = 0;
        world.run_for(held_back);
        world.deliver(late);
        assert_eq!(world.gateway.counters().refused, refused, "{held_back:?}");
    }
}
