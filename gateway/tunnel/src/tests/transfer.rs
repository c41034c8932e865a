//! What is sent arrives, whatever the path does.

use std::time::Duration;

use bytes::Bytes;

use super::line::Path;
use super::world::{World, drain_pc, pattern};
use crate::client;
use crate::server;
use crate::{
    CloseReason, MAX_STREAMS_PER_SESSION, MESSAGE_LIMIT_BYTES, Read, ReadError, WriteError,
};

const MEGABYTE: usize = 1_000_000;

#[test]
fn a_granted_pc_connects_within_three_round_trips() {
    let mut world = World::new(Path::default(), 1);
    let start = world.now;
    world.add_pc();
    world.run_until("connected", |world| world.is_connected(0));
    // WireGuard takes one, QUIC with certificates both ways one and a half.
    assert!(
        world.now - start <= Duration::from_millis(60),
        "{:?}",
        world.now - start
    );
}

#[test]
fn both_directions_carry_the_right_bytes() {
    let mut world = World::connected(Path::default(), 1);
    let stream = world.open_stream(0);
    let (up, down) = (pattern(3 * MEGABYTE), pattern(4 * MEGABYTE));
    assert!(world.upload(0, stream, &up) == up);
    assert!(world.download(0, stream, &down) == down);
    let traffic = world.gateway.traffic(world.pcs[0].id).unwrap();
    assert!(traffic.bytes_in > up.len() as u64 && traffic.bytes_out > down.len() as u64);
}

#[test]
fn a_path_that_loses_delays_and_reorders_still_carries_the_right_bytes() {
    for seed in 1..=3 {
        let path = Path {
            delay: Duration::from_millis(15),
            jitter: Duration::from_millis(4),
            loss: 20,
            ..Path::default()
        };
        let mut world = World::connected(path, seed);
        let stream = world.open_stream(0);
        let (up, down) = (pattern(2 * MEGABYTE), pattern(2 * MEGABYTE));
        assert!(world.upload(0, stream, &up) == up);
        assert!(world.download(0, stream, &down) == down);
    }
}

#[test]
fn a_fifth_of_all_datagrams_lost_does_not_stop_a_session() {
    let path = Path {
        loss: 200,
        ..Path::default()
    };
    let mut world = World::connected(path, 7);
    let stream = world.open_stream(0);
    let up = pattern(200_000);
    assert!(world.upload(0, stream, &up) == up);
}

#[test]
fn datagrams_start_small_enough_for_every_line_and_grow_to_what_a_wide_one_takes() {
    let longest = |mtu_payload| {
        let path = Path {
            mtu_payload,
            ..Path::default()
        };
        let mut world = World::connected(path, 3);
        let stream = world.open_stream(0);
        let down = pattern(MEGABYTE);
        assert!(world.download(0, stream, &down) == down);
        let sizes = world.sent_by_gateway.iter().map(|sent| sent.1);
        let delivered = sizes.filter(|size| *size <= mtu_payload);
        delivered.max().unwrap()
    };
    // 1,438 is the narrowest access line in use; outer IPv6 and UDP take 48.
    let narrow = longest(1438 - 48);
    assert!((1280..=1390).contains(&narrow), "{narrow}");
    assert_eq!(longest(1500 - 48), 1452);
    // The least that IPv6 allows plus nothing: even this carries a session.
    assert_eq!(longest(1280), 1280);
}

#[test]
fn every_stream_of_a_session_can_be_busy_at_once() {
    let mut world = World::connected(Path::default(), 5);
    let id = world.pcs[0].id;
    let mut streams = Vec::new();
    while let Some(stream) = world.pcs[0].tunnel.open_stream() {
        let mut data = Bytes::from(pattern(10_000));
        assert_eq!(world.pcs[0].tunnel.write(stream, &mut data), Ok(10_000));
        world.pcs[0].tunnel.finish(stream).unwrap();
        streams.push((stream, Vec::new(), false));
    }
    assert_eq!(streams.len(), MAX_STREAMS_PER_SESSION as usize);
    world.run_until("all arrived", |world| {
        for (stream, arrived, finished) in &mut streams {
            while !*finished {
                match world.gateway.read(id, *stream, usize::MAX) {
                    Ok(Read::Data(data)) => arrived.extend_from_slice(&data),
                    Ok(Read::Finished) => *finished = true,
                    Ok(Read::Blocked) | Err(_) => break,
                }
            }
        }
        streams.iter().all(|stream| stream.2)
    });
    assert!(streams.iter().all(|stream| stream.1 == pattern(10_000)));

    // Once the gateway has finished them too, new ones can be opened.
    for (stream, ..) in &streams {
        world.gateway.finish(id, *stream).unwrap();
    }
    world.run_until("streams available", |world| {
        for (stream, ..) in &streams {
            let _ = world.pcs[0].tunnel.read(*stream, 1);
        }
        let available = client::Event::StreamsAvailable;
        world.pcs[0].events.contains(&available)
    });
    assert!(world.pcs[0].tunnel.open_stream().is_some());
}

#[test]
fn a_slow_reader_stops_the_writer_and_nothing_is_lost() {
    let mut world = World::connected(Path::default(), 1);
    let stream = world.open_stream(0);
    let data = pattern(20 * MEGABYTE);
    let mut left = Bytes::from(data.clone());
    for _ in 0..200 {
        world.pcs[0].tunnel.write(stream, &mut left).unwrap();
        world.run_for(Duration::from_millis(20));
    }
    let taken = data.len() - left.len();
    assert!(taken < 14 * MEGABYTE, "{taken} bytes were taken");
    assert!(taken > MEGABYTE, "{taken} bytes were taken");
    let mut arrived = Vec::new();
    let id = world.pcs[0].id;
    world.run_until("read", |world| {
        world.pcs[0].tunnel.write(stream, &mut left).unwrap();
        while let Ok(Read::Data(data)) = world.gateway.read(id, stream, usize::MAX) {
            arrived.extend_from_slice(&data);
        }
        arrived.len() == data.len()
    });
    assert!(arrived == data);
}

#[test]
fn resetting_and_stopping_reach_the_other_end_with_their_codes() {
    let mut world = World::connected(Path::default(), 1);
    let id = world.pcs[0].id;
    let stream = world.open_stream(0);
    world.pcs[0].tunnel.reset(stream, 17);
    world.pcs[0].tunnel.stop(stream, 18);
    let stopped = server::Event::StreamStopped {
        peer: id,
        stream,
        code: 18,
    };
    world.run_until("stopped", |world| world.events.contains(&stopped));
    assert_eq!(world.gateway.read(id, stream, 1), Err(ReadError::Reset(17)));
    assert_eq!(
        world.gateway.write(id, stream, &mut Bytes::from("x")),
        Err(WriteError::Stopped(18))
    );
}

#[test]
fn one_direction_can_be_finished_while_the_other_goes_on() {
    let mut world = World::connected(Path::default(), 1);
    let stream = world.open_stream(0);
    assert_eq!(world.upload(0, stream, b"question"), b"question");
    assert_eq!(world.download(0, stream, b"answer"), b"answer");
}

#[test]
fn a_message_of_the_gateway_overtakes_bulk_data_and_arrives_whole() {
    let path = Path {
        loss: 50,
        ..Path::default()
    };
    let mut world = World::connected(path, 11);
    let id = world.pcs[0].id;
    let stream = world.open_stream(0);
    let mut bulk = Bytes::from(pattern(30 * MEGABYTE));
    world.gateway.write(id, stream, &mut bulk).unwrap();
    let message = Bytes::from(pattern(MESSAGE_LIMIT_BYTES));
    world.gateway.send_message(id, message.clone()).unwrap();
    let mut arrived = Vec::new();
    world.run_until("message arrived", |world| {
        drain_pc(&mut world.pcs[0].tunnel, stream, &mut arrived);
        let event = client::Event::Message(message.clone());
        world.pcs[0].events.contains(&event)
    });
    assert!(arrived.len() < 4 * MEGABYTE, "{}", arrived.len());
    let too_long = Bytes::from(vec![0; MESSAGE_LIMIT_BYTES + 1]);
    assert_eq!(
        world.gateway.send_message(id, too_long),
        Err(server::SendError::TooLong)
    );
}

#[test]
fn a_stream_of_an_unknown_kind_is_refused() {
    let mut world = World::connected(Path::default(), 1);
    let id = world.pcs[0].id;
    let stream = world.pcs[0].tunnel.open_unannounced(2);
    world.run_until("refused", |world| {
        world.pcs[0]
            .events
            .iter()
            .any(|event| matches!(event, client::Event::StreamStopped { stream: s, code: crate::RESET_UNKNOWN_KIND } if *s == stream))
    });
    assert!(
        !world
            .events
            .contains(&server::Event::StreamOpened(id, stream))
    );
}

#[test]
fn a_pc_that_moves_to_another_network_goes_on_where_it_was() {
    let mut world = World::connected(Path::default(), 1);
    let stream = world.open_stream(0);
    let id = world.pcs[0].id;
    let data = pattern(8 * MEGABYTE);
    let mut left = Bytes::from(data.clone());
    let mut arrived = Vec::new();
    let mut moved_at = None;
    world.run_until("downloaded", |world| {
        world.gateway.write(id, stream, &mut left).unwrap();
        drain_pc(&mut world.pcs[0].tunnel, stream, &mut arrived);
        if moved_at.is_none() && arrived.len() > MEGABYTE {
            moved_at = Some(world.now);
            world.pcs[0].address = "203.0.113.77:6000".parse().unwrap();
            world.pcs[0].tunnel.network_changed(world.now);
        }
        arrived.len() == data.len()
    });
    assert!(arrived == data);
    let took = world.now - moved_at.unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn ten_minutes_of_sleep_in_the_middle_of_a_download_cost_less_than_five_seconds_after_waking() {
    let mut world = World::connected(Path::default(), 1);
    let stream = world.open_stream(0);
    let id = world.pcs[0].id;
    let data = pattern(8 * MEGABYTE);
    let mut left = Bytes::from(data.clone());
    let mut arrived = Vec::new();
    world.run_until("partly downloaded", |world| {
        world.gateway.write(id, stream, &mut left).unwrap();
        drain_pc(&mut world.pcs[0].tunnel, stream, &mut arrived);
        arrived.len() > MEGABYTE
    });
    world.pcs[0].asleep = true;
    let before = world.sent_by_gateway.len();
    world.run_for(Duration::from_secs(600));
    let in_vain = world.sent_by_gateway.len() - before;
    assert!(in_vain < 1000, "{in_vain} datagrams to a sleeping PC");

    world.pcs[0].asleep = false;
    world.pcs[0].tunnel.network_changed(world.now);
    let woke = world.now;
    world.run_until("downloaded", |world| {
        world.gateway.write(id, stream, &mut left).unwrap();
        drain_pc(&mut world.pcs[0].tunnel, stream, &mut arrived);
        arrived.len() == data.len()
    });
    assert!(arrived == data);
    let took = world.now - woke;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn an_outage_that_nobody_announces_is_over_within_five_seconds_of_its_end() {
    let mut world = World::connected(Path::default(), 1);
    let stream = world.open_stream(0);
    let id = world.pcs[0].id;
    let data = pattern(4 * MEGABYTE);
    let mut left = Bytes::from(data.clone());
    let mut arrived = Vec::new();
    world.run_until("partly uploaded", |world| {
        world.pcs[0].tunnel.write(stream, &mut left).unwrap();
        while let Ok(Read::Data(data)) = world.gateway.read(id, stream, usize::MAX) {
            arrived.extend_from_slice(&data);
        }
        arrived.len() > MEGABYTE
    });
    world.path.loss = 1000;
    world.run_for(Duration::from_secs(120));
    world.path.loss = 0;
    let end = world.now;
    world.run_until("uploaded", |world| {
        world.pcs[0].tunnel.write(stream, &mut left).unwrap();
        while let Ok(Read::Data(data)) = world.gateway.read(id, stream, usize::MAX) {
            arrived.extend_from_slice(&data);
        }
        arrived.len() == data.len()
    });
    assert!(arrived == data);
    let took = world.now - end;
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[test]
fn an_idle_session_stays_for_ninety_minutes_and_says_little() {
    let mut world = World::connected(Path::default(), 1);
    world.run_for(Duration::from_secs(5));
    let before = world.sent_by_gateway.len();
    world.run_for(Duration::from_secs(90 * 60));
    let said = world.sent_by_gateway.len() - before;
    assert!(said < 90 * 12, "{said} datagrams in 90 idle minutes");
    let stream = world.open_stream(0);
    assert_eq!(world.upload(0, stream, b"still here"), b"still here");
}

#[test]
fn a_farewell_in_the_middle_of_a_transfer_still_says_why() {
    let mut world = World::connected(Path::line(20, 30, 64), 1);
    let stream = world.open_stream(0);
    let id = world.pcs[0].id;
    let mut left = Bytes::from(pattern(8 * MEGABYTE));
    let mut arrived = Vec::new();
    world.run_until("partly downloaded", |world| {
        world.gateway.write(id, stream, &mut left).unwrap();
        drain_pc(&mut world.pcs[0].tunnel, stream, &mut arrived);
        arrived.len() > MEGABYTE
    });
    world.gateway.remove_peer(id, 77, world.now);
    let closed = client::Event::Closed(CloseReason::ByPeer { code: 77 });
    let start = world.now;
    world.run_until("told why", |world| world.pcs[0].events.contains(&closed));
    assert!(world.now - start < Duration::from_millis(100));
}
