//! Several ways to one gateway: fresh handshakes over each, data over one of them.

use std::net::SocketAddr;

use super::world::{Datagram, Path, World, pattern};
use crate::client::{Greeting, Heard};

fn first_way() -> SocketAddr {
    "198.51.100.1:1001".parse().unwrap()
}

fn second_way() -> SocketAddr {
    "198.51.100.1:1002".parse().unwrap()
}

/// A world whose PC has a grant and whose caller does the greeting.
fn world() -> World {
    let mut world = World::new(Path::default(), 1);
    world.add_pc();
    world.pcs[0].tunnel.set_greeting(Greeting::Caller);
    assert!(world.intercept().is_empty(), "nothing leaves unasked");
    world
}

/// Sends a fresh initiation from `way` and returns what the gateway answers.
fn greet(world: &mut World, way: SocketAddr) -> Vec<Datagram> {
    let data = world.pcs[0].tunnel.initiate().unwrap();
    let to = world.gateway_address;
    let from = way;
    world.deliver(Datagram { from, to, data });
    world.intercept()
}

fn hear(world: &mut World, datagrams: &[Datagram]) -> Vec<Heard> {
    let now = world.now;
    let tunnel = &mut world.pcs[0].tunnel;
    datagrams
        .iter()
        .map(|datagram| tunnel.handle_datagram(now, &datagram.data))
        .collect()
}

#[test]
fn an_answer_that_is_just_coming_survives_a_handshake_over_a_later_way() {
    let mut world = world();
    let first = greet(&mut world, first_way());
    let second = greet(&mut world, second_way());
    assert_eq!((first[0].to, second[0].to), (first_way(), second_way()));
    assert_eq!(hear(&mut world, &first), [Heard::Answer]);
    // What the PC says now finds the gateway, though that has newer keys already.
    world.pcs[0].address = first_way();
    world.run_until("connected", |world| world.is_connected(0));
    assert_eq!(hear(&mut world, &second), [Heard::Answer]);
    let stream = world.open_stream(0);
    let data = pattern(100_000);
    assert_eq!(world.upload(0, stream, &data), data);
}

#[test]
fn the_later_ways_answer_may_come_first() {
    let mut world = world();
    let first = greet(&mut world, first_way());
    let second = greet(&mut world, second_way());
    assert_eq!(hear(&mut world, &second), [Heard::Answer]);
    assert_eq!(hear(&mut world, &first), [Heard::Answer]);
    world.pcs[0].address = second_way();
    world.run_until("connected", |world| world.is_connected(0));
    let stream = world.open_stream(0);
    let data = pattern(100_000);
    assert_eq!(world.download(0, stream, &data), data);
}

#[test]
fn only_the_latest_two_handshakes_can_be_answered() {
    let mut world = world();
    let first = greet(&mut world, first_way());
    let second = greet(&mut world, second_way());
    let third = greet(&mut world, first_way());
    assert_eq!(hear(&mut world, &first), [Heard::Nothing]);
    assert_eq!(hear(&mut world, &second), [Heard::Answer]);
    assert_eq!(hear(&mut world, &third), [Heard::Answer]);
}

#[test]
fn the_gateway_takes_an_initiation_once_and_none_older_than_the_last() {
    let mut world = world();
    let older = world.pcs[0].tunnel.initiate().unwrap();
    let newer = world.pcs[0].tunnel.initiate().unwrap();
    let to = world.gateway_address;
    for (data, answers) in [(newer.clone(), 1), (newer, 0), (older, 0)] {
        let from = second_way();
        world.deliver(Datagram { from, to, data });
        assert_eq!(world.intercept().len(), answers);
    }
}

#[test]
fn a_running_transfer_moves_to_another_way() {
    let mut world = World::connected(Path::default(), 1);
    let stream = world.open_stream(0);
    let data = pattern(300_000);
    assert_eq!(world.upload(0, stream, &data), data);
    // The next way is proved by a handshake of its own, without a pause on the first.
    let answer = greet(&mut world, second_way());
    assert_eq!(hear(&mut world, &answer)[0], Heard::Answer);
    world.pcs[0].address = second_way();
    let now = world.now;
    world.pcs[0].tunnel.way_changed(now);
    assert_eq!(world.download(0, stream, &data), data);
}
