//! What one peer does costs the same whatever the number of the others.

use std::time::Duration;

use super::line::Path;
use super::world::{PRESHARED, World, inner_address, pattern};
use crate::keys::{PresharedKey, PublicKey};
use crate::server::{PeerConfig, PeerId};

/// A connected PC, and others that have begun a handshake once.
fn world_with(others: u128) -> World {
    let mut world = World::connected(Path::default(), 1);
    let now = world.now;
    for number in 1..=others {
        let id = PeerId(1_000_000 + number);
        let config = PeerConfig {
            public_key: nobodys_key(number),
            preshared_key: PresharedKey::from_bytes(PRESHARED),
            inner_address: inner_address(1_000_000 + number),
            device_certificate_sha256: [0; 32],
        };
        world.gateway.add_peer(id, config, now).unwrap();
        world.gateway.rouse(id);
    }
    world
}

/// A key that nobody holds the other half of.
fn nobodys_key(number: u128) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..16].copy_from_slice(&number.to_le_bytes());
    PublicKey::from_bytes(bytes)
}

/// Looks at any peer while one uploads.
fn looks_of_an_upload(others: u128) -> u64 {
    let mut world = world_with(others);
    let stream = world.open_stream(0);
    let before = world.gateway.looks();
    let data = pattern(200_000);
    assert_eq!(world.upload(0, stream, &data), data);
    world.gateway.looks() - before
}

#[test]
fn an_upload_costs_no_more_looks_beside_five_thousand_peers_than_beside_ten() {
    let few = looks_of_an_upload(10);
    for others in [1000, 5000] {
        let looks = looks_of_an_upload(others);
        assert!(
            looks.abs_diff(few) <= few / 5,
            "{looks} looks beside {others} peers, {few} beside 10"
        );
    }
}

#[test]
fn a_wake_at_which_nothing_is_due_looks_at_nobody() {
    let mut world = world_with(1000);
    world.run_for(Duration::from_millis(100));
    let before = world.gateway.looks();
    for _ in 0..1000 {
        let now = world.now;
        if world.gateway.poll_timeout().is_some_and(|at| at > now) {
            world.gateway.handle_timeout(now);
            assert_eq!(world.gateway.poll_event(now), None);
        }
    }
    assert_eq!(world.gateway.looks(), before);
}

#[test]
fn a_peer_at_rest_is_looked_at_a_few_times_in_five_seconds() {
    let mut world = world_with(1000);
    let before = world.gateway.looks();
    world.run_for(Duration::from_secs(60));
    let each = (world.gateway.looks() - before) / 1000;
    // Five looks a tick: due, settled, asked for packets and events.
    assert!(each <= 12 * 6, "{each} looks in a minute");
}

#[test]
fn a_grant_that_nobody_uses_is_never_looked_at() {
    let mut world = World::new(Path::default(), 1);
    world.add_pc();
    world.pcs[0].asleep = true;
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.gateway.looks(), 0);
}
