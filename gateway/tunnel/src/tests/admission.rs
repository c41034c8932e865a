//! Who is not admitted passes nothing, in either direction.

use std::time::Duration;

use bytes::Bytes;

use super::line::Path;
use super::world::{
    ALPN, Authorities, PRESHARED, World, authorities, drain_pc, inner_address, pattern, roots,
};
use crate::client;
use crate::keys::{PresharedKey, SecretKey};
use crate::server::{self, AddPeerError, PeerConfig, PeerId};
use crate::{CLOSE_WRONG_CERTIFICATE, CloseReason, Read};

const MEGABYTE: usize = 1_000_000;

#[test]
fn a_session_that_is_no_longer_admitted_passes_nothing_in_either_direction() {
    let mut world = World::connected(Path::default(), 1);
    let (stream, id) = (world.open_stream(0), world.pcs[0].id);
    let mut up = Bytes::from(pattern(40 * MEGABYTE));
    let mut down = up.clone();
    let (mut at_gateway, mut at_pc) = (Vec::new(), Vec::new());
    world.run_until("busy both ways", |world| {
        world.pcs[0].tunnel.write(stream, &mut up).unwrap();
        world.gateway.write(id, stream, &mut down).unwrap();
        while let Ok(Read::Data(data)) = world.gateway.read(id, stream, usize::MAX) {
            at_gateway.extend_from_slice(&data);
        }
        drain_pc(&mut world.pcs[0].tunnel, stream, &mut at_pc);
        at_gateway.len() > MEGABYTE && at_pc.len() > MEGABYTE
    });

    world.admitted.clear();
    let (sent, before) = (world.sent_by_gateway.len(), world.gateway.traffic(id));
    let still_flying = at_pc.len() + 2 * MEGABYTE;
    for _ in 0..100 {
        world.pcs[0].tunnel.write(stream, &mut up).unwrap();
        world.gateway.write(id, stream, &mut down).unwrap();
        drain_pc(&mut world.pcs[0].tunnel, stream, &mut at_pc);
        world.run_for(Duration::from_secs(1));
    }
    assert_eq!(world.sent_by_gateway.len(), sent);
    assert_eq!(world.gateway.traffic(id), before);
    assert_eq!(world.gateway.read(id, stream, 1), Ok(Read::Blocked));
    assert!(at_pc.len() < still_flying);
    assert!(world.gateway.counters().not_admitted > 0);
}

#[test]
fn a_peer_that_is_not_admitted_gets_no_answer_to_its_handshake() {
    let mut world = World::new(Path::default(), 1);
    world.add_pc();
    world.admitted.clear();
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.sent_by_gateway, []);
    assert!(world.gateway.counters().not_admitted >= 5);
}

#[test]
fn a_removed_peer_is_told_why_and_then_passes_nothing() {
    let mut world = World::connected(Path::default(), 1);
    let (stream, id) = (world.open_stream(0), world.pcs[0].id);
    assert_eq!(world.upload(0, stream, b"a filing"), b"a filing");
    // The deadline is over: nobody admits the session any more, yet it hears why.
    world.admitted.clear();
    let sent = world.sent_by_gateway.len();
    let traffic = world.gateway.remove_peer(id, 2, world.now).unwrap();
    assert!(traffic.bytes_in > 0 && traffic.bytes_out > 0);
    let closed = client::Event::Closed(CloseReason::ByPeer { code: 2 });
    world.run_until("told", |world| world.pcs[0].events.contains(&closed));
    let farewells = world.sent_by_gateway.len() - sent;
    assert_eq!(farewells, 2);

    let strangers = world.gateway.counters().strangers;
    world.pcs[0].tunnel.network_changed(world.now);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.sent_by_gateway.len(), sent + farewells);
    assert!(world.gateway.counters().strangers > strangers);
    assert_eq!(world.gateway.remove_peer(id, 2, world.now), None);
}

#[test]
fn a_peer_that_is_removed_while_it_connects_is_not_taken_for_a_failure() {
    let mut unexplained = 0;
    for datagrams in 1..=8 {
        let mut world = World::new(Path::default(), 1);
        let pc = world.add_pc();
        world.run_until("on the way", |world| {
            world.sent_by_gateway.len() >= datagrams
        });
        let id = world.pcs[pc].id;
        world.gateway.remove_peer(id, 2, world.now).unwrap();
        world.run_for(Duration::from_secs(2));
        for event in &world.pcs[pc].events {
            match event {
                client::Event::Closed(CloseReason::Unexplained) => unexplained += 1,
                client::Event::Closed(reason) => {
                    assert_eq!(*reason, CloseReason::ByPeer { code: 2 }, "{datagrams}");
                }
                _ => {}
            }
        }
    }
    assert!(unexplained > 0);
}

#[test]
fn the_farewell_arrives_over_a_bad_line_nearly_always() {
    let mut told = 0;
    for seed in 1..=40 {
        let mut world = World::connected(Path::default(), seed);
        world.path.loss = 100;
        let id = world.pcs[0].id;
        world.gateway.remove_peer(id, 3, world.now).unwrap();
        world.run_for(Duration::from_secs(1));
        let closed = client::Event::Closed(CloseReason::ByPeer { code: 3 });
        told += usize::from(world.pcs[0].events.contains(&closed));
    }
    assert!(told >= 37, "{told} of 40");
}

#[test]
fn a_pc_that_disconnects_tells_the_gateway() {
    let mut world = World::connected(Path::default(), 1);
    let id = world.pcs[0].id;
    world.pcs[0].tunnel.close(world.now, 5);
    let gone = server::Event::Disconnected {
        peer: id,
        reason: CloseReason::ByPeer { code: 5 },
    };
    world.run_until("told", |world| world.events.contains(&gone));
}

#[test]
fn an_agent_that_starts_anew_takes_its_session_over() {
    let mut world = World::connected(Path::default(), 1);
    let (old, id) = (world.open_stream(0), world.pcs[0].id);
    world.events.clear();
    world.restart_agent(0);
    world.run_until("connected anew", |world| world.is_connected(0));
    let gone = server::Event::Disconnected {
        peer: id,
        reason: CloseReason::ByUs,
    };
    let connected = server::Event::Connected(id);
    assert_eq!(world.events, [gone, connected]);
    let new = world.open_stream(0);
    assert_eq!(new, old, "stream numbers start anew");
    assert_eq!(world.upload(0, new, b"again"), b"again");
}

#[test]
fn a_wrong_preshared_key_never_connects() {
    let mut world = World::new(Path::default(), 1);
    let (identity, sha256) = authorities().device();
    let pc = world.add_pc_with(identity, [1; 32]);
    world.grant(pc, sha256);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.pcs[pc].events, []);
    assert_eq!(world.events, []);
}

#[test]
fn a_certificate_of_the_same_authority_but_another_device_is_refused() {
    let mut world = World::new(Path::default(), 1);
    let (mine, _) = authorities().device();
    let (_, granted) = authorities().device();
    let pc = world.add_pc_with(mine, PRESHARED);
    world.grant(pc, granted);
    let closed = client::Event::Closed(CloseReason::ByPeer {
        code: CLOSE_WRONG_CERTIFICATE,
    });
    world.run_until("refused", |world| world.pcs[pc].events.contains(&closed));
    let id = world.pcs[pc].id;
    assert!(!world.events.contains(&server::Event::Connected(id)));
    assert!(matches!(
        world.events[..],
        [server::Event::Disconnected { .. }]
    ));
}

#[test]
fn a_stream_opened_before_the_wrong_certificate_was_seen_leads_nowhere() {
    let mut world = World::new(Path::default(), 1);
    let (mine, _) = authorities().device();
    let (_, granted) = authorities().device();
    let pc = world.add_pc_with(mine, PRESHARED);
    world.grant(pc, granted);
    world.run_until("connected on this side", |world| {
        // The PC believes itself connected half a round trip before the gateway judges.
        if let Some(stream) = world.pcs[pc].tunnel.open_stream() {
            let mut data = Bytes::from("GET / HTTP/1.1");
            let _ = world.pcs[pc].tunnel.write(stream, &mut data);
            return true;
        }
        false
    });
    world.run_for(Duration::from_secs(5));
    assert!(matches!(
        world.events[..],
        [server::Event::Disconnected { .. }]
    ));
}

#[test]
fn a_certificate_of_a_foreign_authority_is_refused() {
    let mut world = World::new(Path::default(), 1);
    let (foreign, sha256) = Authorities::new().device();
    let pc = world.add_pc_with(foreign, PRESHARED);
    world.grant(pc, sha256);
    world.run_until("refused", |world| {
        let mut events = world.pcs[pc].events.iter();
        events.any(|event| matches!(event, client::Event::Closed(CloseReason::Failed(_))))
    });
    let id = world.pcs[pc].id;
    assert!(!world.events.contains(&server::Event::Connected(id)));
}

#[test]
fn a_gateway_with_another_name_is_refused_by_the_pc() {
    let mut world = World::new(Path::default(), 1);
    let tls = crate::tls::server_config(
        authorities().gateway("two.gateway.test"),
        roots(authorities().devices()),
        ALPN,
        std::sync::Arc::new(rustls::time_provider::DefaultTimeProvider),
    );
    world.replace_gateway(tls.unwrap());
    let pc = world.add_pc();
    world.run_until("refused", |world| {
        let mut events = world.pcs[pc].events.iter();
        events.any(|event| matches!(event, client::Event::Closed(CloseReason::Failed(_))))
    });
    assert!(!world.pcs[pc].events.contains(&client::Event::Connected));
}

#[test]
fn two_peers_never_share_an_id_a_key_or_an_address() {
    let mut world = World::connected(Path::default(), 1);
    let (taken, free) = (world.keys[0].public_key(), SecretKey::generate().unwrap());
    let config = |public_key, address| PeerConfig {
        public_key,
        preshared_key: PresharedKey::from_bytes(PRESHARED),
        inner_address: address,
        device_certificate_sha256: [0; 32],
    };
    let (now, free) = (world.now, free.public_key());
    let mut add = |id, key, address| {
        world
            .gateway
            .add_peer(PeerId(id), config(key, address), now)
    };
    let (old_id, old_address) = (1000, inner_address(0));
    let (new_id, new_address) = (2000, inner_address(9));
    assert_eq!(add(old_id, free, new_address), Err(AddPeerError::Taken));
    assert_eq!(add(new_id, taken, new_address), Err(AddPeerError::Taken));
    assert_eq!(add(new_id, free, old_address), Err(AddPeerError::Taken));
    assert_eq!(add(new_id, free, new_address), Ok(()));
}

#[test]
fn one_session_ending_leaves_the_others_alone() {
    let mut world = World::new(Path::default(), 1);
    for _ in 0..5 {
        world.add_pc();
    }
    world.run_until("connected", |world| (0..5).all(|pc| world.is_connected(pc)));
    let streams: Vec<_> = (0..5).map(|pc| world.open_stream(pc)).collect();
    for ended in [1, 3] {
        let id = world.pcs[ended].id;
        world.admitted.remove(&id);
        world.gateway.remove_peer(id, 1, world.now).unwrap();
    }
    for pc in [0, 2, 4] {
        let data = pattern(100_000);
        assert!(world.upload(pc, streams[pc], &data) == data);
    }
    // Their places are taken by others without confusion.
    let pc = world.add_pc();
    world.run_until("connected", |world| world.is_connected(pc));
    let stream = world.open_stream(pc);
    assert_eq!(world.upload(pc, stream, b"new"), b"new");
}
