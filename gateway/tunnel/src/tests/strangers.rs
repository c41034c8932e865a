//! Whoever has no grant learns nothing and breaks nothing.

use std::net::SocketAddr;
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use proptest::prelude::*;

use super::world::{
    Datagram, PRESHARED, Path, World, authorities, gateway_inner, inner_address, pattern,
};
use crate::client;
use crate::keys::{PresharedKey, PublicKey, SecretKey};
use crate::noise::{Noise, Opened};
use crate::packet::Flow;

fn stranger() -> SocketAddr {
    "203.0.113.9:999".parse().unwrap()
}

/// A handshake initiation with a right MAC1, by somebody who knows `gateway`.
fn initiation(key: &SecretKey, gateway: PublicKey) -> Vec<u8> {
    let preshared = PresharedKey::from_bytes(PRESHARED);
    let mut message = Vec::new();
    Noise::new(key, gateway, &preshared, 7, None)
        .start_handshake(&mut |sent| message = sent.to_vec());
    message
}

#[test]
fn no_datagram_of_any_length_is_answered_or_breaks_anything() {
    let mut world = World::connected(Path::default(), 1);
    world.run_for(Duration::from_secs(5));
    let sent = world.sent_by_gateway.len();
    let noise = pattern(65_535);
    for length in (0..3000)
        .chain((3000..=65_535).step_by(613))
        .chain([65_535])
    {
        for kind in 0..=5u8 {
            let mut data = noise[..length].to_vec();
            let start = [kind, 0, 0, 0];
            let known = length.min(4);
            data[..known].copy_from_slice(&start[..known]);
            if length >= 12 && kind != 1 {
                // The index of the session that is there.
                data[4..12].copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
            }
            let (to, now) = (world.gateway_address, world.now);
            world.pcs[0].tunnel.handle_datagram(now, &data);
            let from = stranger();
            world.deliver(Datagram { from, to, data });
        }
    }
    world.exchange();
    assert_eq!(world.sent_by_gateway.len(), sent);
    let stream = world.open_stream(0);
    assert_eq!(world.upload(0, stream, b"unharmed"), b"unharmed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_random_datagrams_are_answered_or_break_anything(
        datagrams in proptest::collection::vec(
            (0u8..6, any::<[u8; 3]>(), proptest::collection::vec(any::<u8>(), 0..200)), 0..50
        ),
    ) {
        let mut world = World::new(Path::default(), 1);
        for (kind, reserved, rest) in datagrams {
            let reserved = if reserved[0] < 200 { [0; 3] } else { reserved };
            let data = [&[kind], &reserved[..], &rest[..]].concat();
            let to = world.gateway_address;
            world.deliver(Datagram { from: stranger(), to, data });
        }
        world.run_for(Duration::from_secs(10));
        prop_assert_eq!(world.sent_by_gateway.len(), 0);
    }

    #[test]
    fn no_changed_bit_of_a_sessions_datagram_passes(at in 0usize..1280, bit in 0u8..8) {
        let mut world = World::connected(Path::default(), 1);
        world.run_for(Duration::from_secs(2));
        let before = world.gateway.traffic(world.pcs[0].id);
        world.recording = Some(Vec::new());
        world.path.loss = 1000;
        let stream = world.pcs[0].tunnel.open_stream().unwrap();
        let mut data = bytes::Bytes::from(pattern(100_000));
        world.pcs[0].tunnel.write(stream, &mut data).unwrap();
        world.exchange();
        let mut datagram = world.recording.take().unwrap().remove(0);
        prop_assert!(datagram.data.len() >= 1280);
        datagram.data[at] ^= 1 << bit;
        world.deliver(datagram);
        prop_assert_eq!(world.gateway.traffic(world.pcs[0].id), before);
    }
}

#[test]
fn a_stranger_who_knows_the_gateways_key_gets_no_answer() {
    let mut world = World::new(Path::default(), 1);
    world.add_pc();
    let gateway = world.gateway_key().public_key();
    let from = stranger();
    let (to, key) = (world.gateway_address, SecretKey::generate().unwrap());
    world.deliver(Datagram {
        from,
        to,
        data: initiation(&key, gateway),
    });
    world.run_for(Duration::from_secs(1));
    assert!(world.sent_by_gateway.iter().all(|sent| sent.0 != from));
    assert_eq!(world.gateway.counters().strangers, 1);
}

#[test]
fn a_pc_without_a_grant_gets_no_answer() {
    let mut world = World::new(Path::default(), 1);
    let (identity, _) = authorities().device();
    world.add_pc_with(identity, PRESHARED);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.sent_by_gateway, []);
    assert!(world.gateway.counters().strangers > 10);
}

#[test]
fn replayed_datagrams_are_dropped() {
    let mut world = World::new(Path::default(), 1);
    world.add_pc();
    world.recording = Some(Vec::new());
    world.run_until("connected", |world| world.is_connected(0));
    let stream = world.open_stream(0);
    assert_eq!(world.upload(0, stream, &pattern(50_000)).len(), 50_000);
    world.run_for(Duration::from_secs(5));
    let recorded = world.recording.take().unwrap();
    let (traffic, sent) = (
        world.gateway.traffic(world.pcs[0].id),
        world.sent_by_gateway.len(),
    );
    let refused = world.gateway.counters().refused;
    for mut datagram in recorded.clone() {
        datagram.from = stranger();
        world.deliver(datagram);
    }
    world.exchange();
    assert_eq!(
        world.gateway.counters().refused,
        refused + recorded.len() as u64
    );
    assert_eq!(world.gateway.traffic(world.pcs[0].id), traffic);
    // In particular, nobody draws a session's datagrams to himself by replaying its own.
    assert_eq!(world.sent_by_gateway.len(), sent);
}

#[test]
fn an_inner_packet_with_a_foreign_source_or_destination_is_dropped() {
    let mut world = World::new(Path::default(), 1);
    world.add_pc();
    world.add_pc();
    world.run_until("connected", |world| {
        world.is_connected(0) && world.is_connected(1)
    });
    // The first PC turns into a plain WireGuard peer that can send what it likes.
    let preshared = PresharedKey::from_bytes(PRESHARED);
    let gateway_key = world.gateway_key().public_key();
    let mut rogue = Noise::new(&world.keys[0], gateway_key, &preshared, 3, None);
    let from: SocketAddr = "198.51.100.200:1".parse().unwrap();
    let to = world.gateway_address;
    let mut message = Vec::new();
    rogue.start_handshake(&mut |sent| message = sent.to_vec());
    let mut response = Vec::new();
    let (now, admitted) = (world.now, world.admitted.clone());
    world
        .gateway
        .handle_datagram(now, from.into(), &message, |id| admitted.contains(&id));
    world
        .gateway
        .poll_transmit(now, 1, &mut response, |id| admitted.contains(&id))
        .unwrap();
    let opened = rogue.open(None, &response, &mut |_| {});
    assert!(matches!(opened, Opened::Established), "{opened:?}");

    let gateway = (*gateway_inner().ip(), gateway_inner().port());
    let own = (inner_address(0), 4433);
    let flows = [
        // Another session's address.
        ((inner_address(1), 4433), gateway),
        // The gateway's own.
        (gateway, gateway),
        // Another session as the destination: devices never reach each other.
        (own, (inner_address(1), 4433)),
        // Another port of the gateway.
        (own, (gateway.0, 22)),
    ];
    let bytes_in = |world: &World| world.gateway.traffic(world.pcs[0].id).unwrap().bytes_in;
    let before = bytes_in(&world);
    let sent = world.sent_by_gateway.len();
    for (count, (source, destination)) in (1..).zip(flows) {
        let flow = Flow {
            source,
            destination,
        };
        let (mut packet, mut data) = (Vec::new(), Vec::new());
        flow.encode(&pattern(1200), &mut packet);
        assert!(rogue.seal(&packet, &mut data));
        world.deliver(Datagram { from, to, data });
        assert_eq!(world.gateway.counters().foreign_inner, count);
    }
    // Not IPv6 and UDP at all.
    for packet in [&[0x45; 40][..], &[0x60; 48], &[0xff; 100], &[0x60; 60]] {
        let mut data = Vec::new();
        assert!(rogue.seal(packet, &mut data));
        world.deliver(Datagram { from, to, data });
    }
    world.exchange();
    assert_eq!(bytes_in(&world), before);
    let mut answers = world.sent_by_gateway[sent..].iter();
    let other_pc = world.pcs[1].address;
    assert!(answers.all(|sent| sent.0 == from || sent.0 == other_pc));
    let stream = world.open_stream(1);
    assert_eq!(world.upload(1, stream, b"unharmed"), b"unharmed");
}

#[test]
fn under_a_flood_of_handshakes_an_honest_pc_still_connects_by_cookie() {
    let mut world = World::new(Path::default(), 1);
    let gateway = world.gateway_key().public_key();
    let key = SecretKey::generate().unwrap();
    let to = world.gateway_address;
    for number in 0..1500u32 {
        let [_, a, b, c] = number.to_be_bytes();
        world.deliver(Datagram {
            from: SocketAddr::from(([10, a, b, c], 1)),
            to,
            data: initiation(&key, gateway),
        });
    }
    assert!(world.gateway.counters().cookies > 0);
    world.add_pc();
    world.run_until("connected", |world| world.is_connected(0));
    assert!(world.pcs[0].events.contains(&client::Event::Connected));
}

#[test]
fn one_source_cannot_keep_the_gateway_busy_with_handshakes() {
    let mut world = World::new(Path::default(), 1);
    let gateway = world.gateway_key().public_key();
    let key = SecretKey::generate().unwrap();
    let to = world.gateway_address;
    for _ in 0..200 {
        world.deliver(Datagram {
            from: stranger(),
            to,
            data: initiation(&key, gateway),
        });
    }
    assert_eq!(world.gateway.counters().throttled, 150);
}

#[test]
fn a_standard_wireguard_peer_understands_the_gateway() {
    let mut world = World::new(Path::default(), 1);
    world.add_pc();
    let key = &world.keys[0];
    let mut peer = Tunn::new(
        key.as_x25519().clone(),
        world.gateway_key().public_key().to_x25519(),
        Some(PRESHARED),
        None,
        1,
        None,
    );
    let (mut a, mut b) = ([0; 2048], Vec::new());
    let TunnResult::WriteToNetwork(message) = peer.format_handshake_initiation(&mut a, false)
    else {
        panic!("no initiation");
    };
    let (now, from) = (world.now, stranger());
    world
        .gateway
        .handle_datagram(now, from.into(), message, |_| true);
    let answer = world.gateway.poll_transmit(now, 1, &mut b, |_| true);
    assert_eq!(answer.unwrap().to, from.into());
    let mut c = [0; 2048];
    assert!(matches!(
        peer.decapsulate(None, &b, &mut c),
        TunnResult::WriteToNetwork(_)
    ));
}
