//! The grant feed: snapshot, changes, heartbeats.

use super::*;
use crate::devices::tests::Fund;
use crate::testing::{databases, sqlite};
use futures_util::StreamExt as _;
use protocol::agent_api::EndCode;
use protocol::control::Grant;

type Lines = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, Infallible>> + Send>>;

fn feed(fund: &Fund) -> Lines {
    Box::pin(follow(fund.app.clone(), fund.gateway.name.clone()))
}

/// The next line that is no heartbeat.
async fn next(lines: &mut Lines) -> FeedLine {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, async {
        loop {
            let line = lines.next().await.expect("the feed goes on").unwrap();
            assert_eq!(line.last(), Some(&b'\n'));
            match serde_json::from_slice(&line).unwrap() {
                FeedLine::Heartbeat { .. } => {}
                line => return line,
            }
        }
    })
    .await
    .expect("a line in time")
}

async fn snapshot(lines: &mut Lines) -> Vec<Grant> {
    match next(lines).await {
        FeedLine::Snapshot { grants, .. } => grants,
        line => panic!("{line:?}"),
    }
}

#[tokio::test]
async fn a_feed_begins_with_what_is_live_and_goes_on_with_what_changes() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let (first, second) = (fund.device("PC-1").await, fund.device("PC-2").await);
        let opened = fund.connect(&first).await.unwrap();
        let mut lines = feed(&fund);
        assert_eq!(
            snapshot(&mut lines).await,
            std::slice::from_ref(&opened.grant)
        );

        let other = fund.connect(&second).await.unwrap();
        match next(&mut lines).await {
            FeedLine::Granted { grant, .. } => assert_eq!(*grant, other.grant),
            line => panic!("{line:?}"),
        }
        fund.revoke(first.id).await.unwrap();
        match next(&mut lines).await {
            FeedLine::Ended {
                session, reason, ..
            } => {
                assert_eq!((session, reason), (opened.grant.session, EndCode::Revoked));
            }
            line => panic!("{line:?}"),
        }
    }
}

/// Two portals on one database share no signals: only the database tells. A machine that is too
/// busy once is asked again.
#[tokio::test]
async fn a_revocation_by_another_portal_is_told_within_two_seconds() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let limit = Duration::from_secs(2);
        let mut told = false;
        for name in ["PC-1", "PC-2", "PC-3"] {
            told = told || revocation_is_told_within(limit, &fund, name).await;
        }
        assert!(told, "not within two seconds, three times");
    }
}

async fn revocation_is_told_within(limit: Duration, fund: &Fund, name: &str) -> bool {
    let pc = fund.device(name).await;
    let session = fund.connect(&pc).await.unwrap().grant.session;
    let mut lines = feed(fund);
    assert_eq!(snapshot(&mut lines).await.len(), 1);
    let mut tx = fund.app.db.begin().await.unwrap();
    store::end_of_device(&mut tx, pc.id, EndCode::Revoked, fund.app.clock.now())
        .await
        .unwrap();
    crate::db::Db::commit(tx).await.unwrap();
    let told = tokio::time::timeout(limit, next(&mut lines)).await;
    match told {
        Ok(FeedLine::Ended { session: ended, .. }) => assert_eq!(ended, session),
        Ok(line) => panic!("{line:?}"),
        Err(_) => {}
    }
    told.is_ok()
}

#[tokio::test]
async fn a_silent_feed_beats_and_ends_when_the_portal_stops() {
    let db = sqlite().await;
    let fund = Fund::new(&db).await;
    let mut lines = feed(&fund);
    assert_eq!(snapshot(&mut lines).await, []);
    let beat = Duration::from_secs(FEED_HEARTBEAT_S + 10);
    let line = tokio::time::timeout(beat, lines.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let line: FeedLine = serde_json::from_slice(&line).unwrap();
    assert!(matches!(line, FeedLine::Heartbeat { .. }), "{line:?}");
    fund.app.signals.stop();
    let rest = tokio::time::timeout(beat, lines.count()).await.unwrap();
    assert!(rest <= 1);
}

#[tokio::test]
async fn a_retired_gateway_s_feed_ends() {
    let db = sqlite().await;
    let fund = Fund::new(&db).await;
    let mut lines = feed(&fund);
    assert_eq!(snapshot(&mut lines).await, []);
    sqlx::query("UPDATE gateways SET retired_ms = 1")
        .execute(db.pool())
        .await
        .unwrap();
    let limit = Duration::from_secs(FEED_HEARTBEAT_S + 10);
    let last = snapshot(&mut lines);
    let last = tokio::time::timeout(limit, last).await.unwrap();
    assert_eq!(last, [], "whoever is in there is out");
    tokio::time::timeout(limit, lines.count()).await.unwrap();
}

#[tokio::test]
async fn nothing_is_said_twice_and_no_deadline_is_lengthened() {
    let db = sqlite().await;
    let fund = Fund::new(&db).await;
    let pc = fund.device("PC-1").await;
    fund.connect(&pc).await.unwrap();
    let (keys, now) = (&fund.app.keys, fund.app.clock.now());
    let mut sessions = store::live_of_gateway(&db, &fund.gateway.name, now)
        .await
        .unwrap();
    let mut told = Told::default();
    told.snapshot(&sessions, keys, now);
    assert_eq!(told.news(&[], &sessions, keys, now).len(), 0);
    sessions[0].deadline_ms += 1;
    assert_eq!(told.news(&[], &sessions, keys, now).len(), 0);
    sessions[0].deadline_ms -= 2;
    assert_eq!(told.news(&[], &sessions, keys, now).len(), 1);
    assert_eq!(told.news(&[], &sessions, keys, now).len(), 0);
    sessions[0].ended = Some(EndCode::Revoked);
    assert_eq!(told.news(&[], &sessions, keys, now).len(), 1);
    assert_eq!(told.news(&[], &sessions, keys, now).len(), 0);
    sessions[0].ended = None;
    assert_eq!(
        told.news(&[], &sessions, keys, now).len(),
        0,
        "an end is final"
    );
}

#[tokio::test]
async fn both_gateways_hear_of_a_move_and_of_the_way_back() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let other = fund.further_gateway("osaka-1").await;
        let pc = fund.device("PC-1").await;
        let first = fund.connect(&pc).await.unwrap().grant;
        let mut here = feed(&fund);
        let mut there: Lines = Box::pin(follow(fund.app.clone(), other.name.clone()));
        assert_eq!(snapshot(&mut here).await, std::slice::from_ref(&first));
        assert_eq!(snapshot(&mut there).await, []);

        let second = fund.move_to(&other, &pc, first.session).await.unwrap();
        match next(&mut there).await {
            FeedLine::Granted { grant, .. } => assert_eq!(*grant, second.grant),
            line => panic!("{line:?}"),
        }
        match next(&mut here).await {
            FeedLine::Ended {
                session,
                through,
                reason,
            } => {
                assert_eq!((session, reason), (first.session, EndCode::Moved));
                assert_eq!(through, first.generation);
            }
            line => panic!("{line:?}"),
        }
        let back = fund.move_to(&fund.gateway, &pc, first.session);
        let third = back.await.unwrap().grant;
        match next(&mut here).await {
            FeedLine::Granted { grant, .. } => assert_eq!(*grant, third),
            line => panic!("{line:?}"),
        }
        fund.revoke(pc.id).await.unwrap();
        match next(&mut here).await {
            FeedLine::Ended {
                through, reason, ..
            } => {
                assert_eq!((through, reason), (Generation::LAST, EndCode::Revoked));
            }
            line => panic!("{line:?}"),
        }
    }
}

#[tokio::test]
async fn a_gateway_that_looks_late_hears_of_every_grant_that_was_left() {
    let db = sqlite().await;
    let fund = Fund::new(&db).await;
    let pc = fund.device("PC-1").await;
    let gateways = [
        fund.further_gateway("osaka-1").await,
        fund.further_gateway("osaka-2").await,
    ];
    let first = fund.connect(&pc).await.unwrap().grant;
    let (keys, now) = (&fund.app.keys, fund.app.clock.now());
    let mut told = Told::default();
    let live = store::live_of_gateway(&db, &fund.gateway.name, now).await;
    told.snapshot(&live.unwrap(), keys, now);
    for gateway in &gateways {
        fund.move_to(gateway, &pc, first.session).await.unwrap();
    }
    let left = store::left_of_gateway(&db, &fund.gateway.name, now).await;
    let changed = store::changed_of_gateway(&db, &fund.gateway.name, now).await;
    let lines = told.news(&left.unwrap(), &changed.unwrap(), keys, now);
    assert!(
        matches!(&lines[..], [FeedLine::Ended { through, .. }] if *through == first.generation),
        "{lines:?}"
    );
}
