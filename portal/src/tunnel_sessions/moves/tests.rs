//! Sessions that go on through another gateway, on both databases.

use super::*;
use crate::devices::tests::Fund;
use crate::testing::{NOW, databases};
use std::sync::Arc;

use protocol::agent_api::{EndCode, RefusalCode};
use protocol::control::SessionEnded;
use time::Duration;

fn code_of(refused: Result<SessionOpened, Refused>) -> RefusalCode {
    refused.unwrap_err().code()
}

async fn end_reason(db: &Db, session: SessionId) -> Option<String> {
    sqlx::query_scalar("SELECT end_reason FROM tunnel_sessions WHERE id = $1")
        .bind(session.to_string())
        .fetch_one(db.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_session_goes_on_until_the_same_deadline_with_nothing_of_the_old_grant() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let other = fund.further_gateway("osaka-1").await;
        let pc = fund.device("PC-1").await;
        let first = fund.connect(&pc).await.unwrap();
        fund.app.clock.set(NOW + Duration::minutes(30));
        let moved = fund.move_to(&other, &pc, first.grant.session).await;
        let moved = moved.unwrap();
        let (old, new) = (&first.grant, &moved.grant);
        assert_eq!(
            (new.session, new.deadline_ms, new.deadline_reason),
            (old.session, old.deadline_ms, old.deadline_reason)
        );
        assert!(new.generation > old.generation);
        assert_ne!(new.wireguard_public_key, old.wireguard_public_key);
        assert_ne!(new.inner_address, old.inner_address);
        assert_ne!(new.preshared_key, old.preshared_key);
        assert_ne!(new.proxy_key, old.proxy_key);
        assert_eq!(moved.agent.code_mailed_to, None, "no second password");
        assert_eq!(moved.agent.gateway_public_key, Bytes32([10; 32]));
        assert_eq!(
            moved.agent.gateways,
            ["https://osaka-1.example.jp", "https://vpn.example.jp"]
        );
        let now = fund.app.clock.now();
        let here = store::live_of_gateway(&db, &fund.gateway.name, now).await;
        assert_eq!(here.unwrap(), []);
        let there = store::live_of_gateway(&db, &other.name, now).await.unwrap();
        assert_eq!(there[0].grant(&fund.app.keys), *new);
        let left = store::left_of_gateway(&db, &fund.gateway.name, NOW).await;
        assert_eq!(left.unwrap()[0].generation, old.generation);
        audit::verify(&db, &fund.app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn a_deadline_that_came_nearer_stays_near() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let other = fund.further_gateway("osaka-1").await;
        let pc = fund.device("PC-1").await;
        let session = fund.connect(&pc).await.unwrap().grant.session;
        let closes = NOW + Duration::minutes(10);
        let mut tx = db.begin().await.unwrap();
        store::shorten_all(&mut tx, closes, NOW).await.unwrap();
        Db::commit(tx).await.unwrap();
        let moved = fund.move_to(&other, &pc, session).await.unwrap().grant;
        assert_eq!(moved.deadline_ms, unix_ms(closes));
        assert_eq!(moved.deadline_reason, EndCode::ClosingTime);
        fund.app.clock.set(closes);
        let late = fund.move_to(&fund.gateway, &pc, session).await;
        assert!(matches!(
            late,
            Err(Refused::SessionOver(EndCode::ClosingTime))
        ));
    }
}

#[tokio::test]
async fn only_the_device_s_own_live_session_moves_and_only_by_its_signature() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let there = fund.further_gateway("osaka-1").await;
        let (pc, thief) = (fund.device("PC-1").await, fund.device("PC-2").await);
        let session = fund.connect(&pc).await.unwrap().grant.session;
        let stolen = fund.move_to(&there, &thief, session).await;
        assert_eq!(code_of(stolen), RefusalCode::NotFound);

        let key = Bytes32([77; 32]);
        let elsewhere = SessionId::from_uuid(uuid::Uuid::now_v7());
        for request in [
            pc.request(key),
            pc.move_request(elsewhere, key),
            thief.move_request(session, key),
            pc.move_request(session, Bytes32([0; 32])),
        ] {
            let refused = fund.move_with(&there, &pc, session, &request).await;
            assert_eq!(code_of(refused), RefusalCode::BadRequest);
        }

        let suspend = "UPDATE establishments SET suspended_ms = 1";
        sqlx::query(suspend).execute(db.pool()).await.unwrap();
        let refused = fund.move_to(&there, &pc, session).await;
        assert_eq!(code_of(refused), RefusalCode::Revoked);
        let again = "UPDATE establishments SET suspended_ms = NULL";
        sqlx::query(again).execute(db.pool()).await.unwrap();
        fund.move_to(&there, &pc, session).await.unwrap();

        let newer = fund.connect(&pc).await.unwrap().grant.session;
        let replaced = fund.move_to(&there, &pc, session).await;
        assert!(matches!(
            replaced,
            Err(Refused::SessionOver(EndCode::Replaced))
        ));
        fund.revoke(pc.id).await.unwrap();
        let refused = fund.move_to(&there, &pc, newer).await;
        assert_eq!(code_of(refused), RefusalCode::Revoked);
    }
}

#[tokio::test]
async fn a_key_that_a_session_left_behind_is_never_taken_again() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let there = fund.further_gateway("osaka-1").await;
        let pc = fund.device("PC-1").await;
        let (first, second) = (Bytes32([5; 32]), Bytes32([6; 32]));
        let opening = pc.request(first);
        let session = fund
            .connect_with(&pc, &opening)
            .await
            .unwrap()
            .grant
            .session;
        let moving = pc.move_request(session, second);
        fund.move_with(&there, &pc, session, &moving).await.unwrap();
        // Recorded requests open and move nothing.
        let replayed = fund.connect_with(&pc, &opening).await;
        assert_eq!(code_of(replayed), RefusalCode::BadRequest);
        let replayed = fund.move_with(&fund.gateway, &pc, session, &moving).await;
        assert_eq!(code_of(replayed), RefusalCode::BadRequest);
        let back = pc.move_request(session, first);
        let back = fund.move_with(&fund.gateway, &pc, session, &back).await;
        assert_eq!(code_of(back), RefusalCode::BadRequest);
        assert_eq!(end_reason(&db, session).await, None);
    }
}

#[tokio::test]
async fn what_gateways_that_stop_or_were_left_report_ends_nothing() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let there = fund.further_gateway("osaka-1").await;
        let pc = fund.device("PC-1").await;
        let first = fund.connect(&pc).await.unwrap().grant;
        let session = first.session;
        let report = |generation, reason| SessionEnded {
            generation,
            reason,
            bytes_in: 10,
            bytes_out: 20,
        };
        let take = async |gateway: &Gateway, report: SessionEnded| {
            let now = fund.app.clock.now();
            super::super::take_report(&fund.app, gateway, session, &report, now).await
        };
        let stopped = report(first.generation, EndCode::GatewayStopped);
        take(&fund.gateway, stopped).await.unwrap();
        assert_eq!(end_reason(&db, session).await, None);
        let second = fund.move_to(&there, &pc, session).await.unwrap().grant;
        // The gateway that was left hears of the old connection's end after the move.
        let late = report(first.generation, EndCode::Disconnected);
        take(&fund.gateway, late).await.unwrap();
        assert_eq!(end_reason(&db, session).await, None);
        let foreign = report(second.generation, EndCode::Disconnected);
        let refused = take(&fund.gateway, foreign).await.unwrap_err();
        assert_eq!(refused.code(), RefusalCode::NotFound);
        let bytes: i64 = sqlx::query_scalar("SELECT bytes_in + bytes_out FROM session_moves")
            .fetch_one(db.pool())
            .await
            .unwrap();
        assert_eq!(bytes, 30);
        let own = report(second.generation, EndCode::Disconnected);
        take(&there, own).await.unwrap();
        assert_eq!(
            end_reason(&db, session).await.as_deref(),
            Some("disconnected")
        );
    }
}

#[tokio::test]
async fn however_many_moves_at_once_leave_one_grant_in_force() {
    for db in databases().await {
        let fund = Arc::new(Fund::new(&db).await);
        let there = Arc::new(fund.further_gateway("osaka-1").await);
        let pc = Arc::new(fund.device("PC-1").await);
        let session = fund.connect(&pc).await.unwrap().grant.session;
        let moves: Vec<_> = (0..8)
            .map(|n| {
                let (fund, there, pc) = (fund.clone(), there.clone(), pc.clone());
                tokio::spawn(async move {
                    let gateway = if n % 2 == 0 { &there } else { &fund.gateway };
                    let moved = fund.move_to(gateway, &pc, session).await;
                    moved.unwrap().grant.generation
                })
            })
            .collect();
        let mut generations = Vec::new();
        for moved in moves {
            generations.push(moved.await.unwrap());
        }
        generations.sort_unstable();
        generations.dedup();
        assert_eq!(generations.len(), 8);
        let mut tx = db.begin().await.unwrap();
        let found = store::find(&mut tx, session).await.unwrap().unwrap();
        assert_eq!(Some(&found.generation), generations.last());
        drop(tx);
        audit::verify(&db, &fund.app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_moves_so_often_and_no_more() {
    let db = crate::testing::sqlite().await;
    let fund = Fund::new(&db).await;
    let there = fund.further_gateway("osaka-1").await;
    let pc = fund.device("PC-1").await;
    let session = fund.connect(&pc).await.unwrap().grant.session;
    for n in 0..MOVES_LIMIT {
        let gateway = if n % 2 == 0 { &there } else { &fund.gateway };
        fund.move_to(gateway, &pc, session).await.unwrap();
    }
    let refused = fund.move_to(&there, &pc, session).await;
    assert_eq!(code_of(refused), RefusalCode::TooManyRequests);
    fund.connect(&pc).await.unwrap();
}
