//! The feed: what the portal says holds, and what holds while it is away.

use std::time::Duration;

use protocol::Generation;
use protocol::agent_api::EndCode;
use protocol::control::FeedLine;

use super::authorities::Fund;
use super::gateway::{Edge, Ways, grant, session};
use super::portal::{FeedStart, RehearsedPortal};
use crate::clock;
use crate::feed::FeedState;
use crate::grants::unix_ms;

#[tokio::test]
async fn the_gateway_introduces_itself_before_it_listens() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let _edge = Edge::start(&fund, &portal).await;
    let hello = portal.was_asked("POST /control/v1/register", 1).await;
    let hello: protocol::control::GatewayHello = serde_json::from_slice(&hello.body).unwrap();
    assert_eq!(hello.url, "https://gateway.example");
}

#[tokio::test]
async fn grants_and_ends_arrive_by_the_feed() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let device = fund.device();
    portal.feed(&granted(1, &device));
    edge.data_path.admits_in_time(session(1), true).await;
    portal.feed(&FeedLine::Ended {
        session: session(1),
        through: Generation::LAST,
        reason: EndCode::Revoked,
    });
    edge.data_path.admits_in_time(session(1), false).await;
    let line = format!("POST /control/v1/sessions/{}/ended", session(1));
    let report = portal.was_asked(&line, 1).await;
    let told: protocol::control::SessionEnded = serde_json::from_slice(&report.body).unwrap();
    assert_eq!((told.reason, told.bytes_in), (EndCode::Revoked, 1));
}

#[tokio::test]
async fn after_a_restart_of_the_portal_its_snapshot_rules() {
    let fund = Fund::new();
    let mut portal = RehearsedPortal::start(&fund).await;
    let (ann, ben, cleo) = (fund.device(), fund.device(), fund.device());
    let snapshot = vec![grant(1, &ann), grant(2, &ben)];
    portal.starts_feed_with(FeedStart::Snapshot(snapshot));
    let mut edge = Edge::start(&fund, &portal).await;
    edge.data_path.admits_in_time(session(1), true).await;
    edge.data_path.admits_in_time(session(2), true).await;

    portal.stop().await;
    edge.is_lost().await;
    assert!(
        edge.data_path.admits(session(1)),
        "goes on until its deadline"
    );
    assert!(edge.data_path.admits(session(2)));

    let snapshot = vec![grant(2, &ben), grant(3, &cleo)];
    portal.starts_feed_with(FeedStart::Snapshot(snapshot));
    portal.restart().await;
    edge.is_live().await;
    edge.data_path.admits_in_time(session(3), true).await;
    assert!(!edge.data_path.admits(session(1)), "missing, so out");
    assert!(edge.data_path.admits(session(2)));
    let line = format!("POST /control/v1/sessions/{}/ended", session(1));
    portal.was_asked(&line, 1).await;
}

#[tokio::test]
async fn a_silent_portal_is_taken_for_lost_and_asked_again() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let ways = Ways {
        silence: Duration::from_millis(100),
        ..Ways::default()
    };
    let mut edge = Edge::start_with(&fund, portal.address, ways).await;
    edge.is_live().await;
    portal.was_asked("GET /control/v1/grants", 2).await;
}

#[tokio::test]
async fn a_feed_without_a_snapshot_lets_nobody_in() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    portal.starts_feed_with(FeedStart::Heartbeat);
    let mut edge = Edge::start_with(&fund, portal.address, Ways::default()).await;
    portal.was_asked("GET /control/v1/grants", 2).await;
    assert_eq!(*edge.feed.borrow(), FeedState::Lost);
    portal.starts_feed_with(FeedStart::Snapshot(Vec::new()));
    edge.is_live().await;
}

#[tokio::test]
async fn each_connection_of_the_feed_is_told_apart() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let mut edge = Edge::start(&fund, &portal).await;
    let first = *edge.feed.borrow_and_update();
    portal.cut_feed();
    portal.was_asked("GET /control/v1/grants", 2).await;
    edge.feed
        .wait_for(|state| !matches!(state, FeedState::Lost) && *state != first)
        .await
        .unwrap();
}

#[tokio::test]
async fn reports_wait_for_a_portal_that_is_away() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let line = format!("POST /control/v1/sessions/{}/ended", session(1));
    portal.answers(&line, 503, "");
    portal.feed(&granted(1, &fund.device()));
    portal.feed(&FeedLine::Ended {
        session: session(1),
        through: Generation::LAST,
        reason: EndCode::Replaced,
    });
    edge.data_path.admits_in_time(session(1), false).await;
    portal.was_asked(&line, 2).await;
    portal.answers(&line, 204, "");
    portal.was_asked(&line, 3).await;
}

fn granted(n: u8, device: &super::authorities::Leaf) -> FeedLine {
    FeedLine::Granted {
        server_time_ms: unix_ms(clock::now().wall),
        grant: Box::new(grant(n, device)),
    }
}
