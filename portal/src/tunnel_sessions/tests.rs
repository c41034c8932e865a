//! Tunnel sessions: opened, replaced, shortened, ended, on both databases.

use super::*;
use crate::devices::tests::{Fund, Pc};
use crate::testing::{NOW, databases};
use std::sync::Arc;

use protocol::agent_api::RefusalCode;
use time::macros::datetime;

fn code_of(refused: Result<SessionOpened, Refused>) -> RefusalCode {
    refused.unwrap_err().code()
}

async fn live_count(db: &Db) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM tunnel_sessions WHERE ended_ms IS NULL")
        .fetch_one(db.pool())
        .await
        .unwrap()
}

async fn reason_of(db: &Db, session: SessionId) -> Option<String> {
    sqlx::query_scalar("SELECT end_reason FROM tunnel_sessions WHERE id = $1")
        .bind(session.to_string())
        .fetch_one(db.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_device_is_let_in_for_ninety_minutes() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let pc = fund.device("PC-1").await;
        let opened = fund.connect(&pc).await.unwrap();
        let deadline = unix_ms(NOW + access::SESSION_LIMIT);
        assert_eq!(opened.grant.deadline_ms, deadline);
        assert_eq!(opened.agent.deadline_ms, deadline);
        assert_eq!(opened.agent.deadline_reason, EndCode::TimeLimit);
        assert_eq!(opened.agent.preshared_key, opened.grant.preshared_key);
        assert_ne!(opened.grant.preshared_key, opened.grant.proxy_key);
        assert_eq!(opened.agent.gateway_public_key, Bytes32([9; 32]));
        let mailed_to = opened.agent.code_mailed_to.as_deref();
        assert_eq!(mailed_to, Some("s•••@example.jp"));
        let inner = opened.grant.inner_address.segments();
        assert_eq!(inner[..4], INNER_NETWORK);
        let live = store::live_of_gateway(&db, &fund.gateway.name, NOW)
            .await
            .unwrap();
        assert_eq!(live.len(), 1);
        assert_eq!(live[0].grant(&fund.app.keys), opened.grant);
        let ended = NOW + access::SESSION_LIMIT;
        let live = store::live_of_gateway(&db, &fund.gateway.name, ended)
            .await
            .unwrap();
        assert_eq!(live, []);
    }
}

#[tokio::test]
async fn the_window_is_the_fund_s_and_its_end_cuts_the_session() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let pc = fund.device("PC-1").await;
        fund.app.clock.set(datetime!(2026-03-13 19:59:59.999 +9));
        let opened = fund.connect(&pc).await.unwrap();
        let closing = unix_ms(datetime!(2026-03-13 20:00 +9));
        assert_eq!(opened.grant.deadline_ms, closing);
        assert_eq!(opened.grant.deadline_reason, EndCode::ClosingTime);
        fund.app.clock.set(datetime!(2026-03-13 20:00 +9));
        let refused = fund.connect(&pc).await.unwrap_err();
        assert_eq!(refused.code(), RefusalCode::Closed);
        assert!(refused.page_text().contains("3月16日（月）8:00"));
    }
}

#[tokio::test]
async fn a_new_session_replaces_the_old_one() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let pc = fund.device("PC-1").await;
        let first = fund.connect(&pc).await.unwrap().grant.session;
        fund.connect(&pc).await.unwrap();
        assert_eq!(reason_of(&db, first).await.as_deref(), Some("replaced"));
        assert_eq!(live_count(&db).await, 1);
    }
}

#[tokio::test]
async fn a_device_never_has_two_live_sessions_however_many_ask_at_once() {
    for db in databases().await {
        let fund = Arc::new(Fund::new(&db).await);
        let pc: Arc<Pc> = Arc::new(fund.device("PC-1").await);
        let asks: Vec<_> = (0..12)
            .map(|_| {
                let (fund, pc) = (fund.clone(), pc.clone());
                tokio::spawn(async move {
                    fund.connect(&pc).await.unwrap();
                    assert!(live_count(&fund.app.db).await <= 1);
                })
            })
            .collect();
        for ask in asks {
            ask.await.unwrap();
        }
        assert_eq!(live_count(&db).await, 1);
        audit::verify(&db, &fund.app.keys).await.unwrap();
    }
}

#[tokio::test]
async fn a_wireguard_key_opens_one_session_and_never_another() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let pc = fund.device("PC-1").await;
        let request = pc.request(Bytes32([5; 32]));
        fund.connect_with(&pc, &request).await.unwrap();
        let again = fund.connect_with(&pc, &request).await;
        assert_eq!(code_of(again), RefusalCode::BadRequest);
        assert_eq!(
            live_count(&db).await,
            1,
            "the refused request replaced nothing"
        );
    }
}

#[tokio::test]
async fn a_request_that_the_device_did_not_sign_is_refused() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let (pc, other) = (fund.device("PC-1").await, fund.device("PC-2").await);
        let mut other_key = pc.request(Bytes32([5; 32]));
        other_key.wireguard_public_key = Bytes32([6; 32]);
        let by_another = other.request(Bytes32([7; 32]));
        let mut unsigned = pc.request(Bytes32([8; 32]));
        unsigned.signature.0.clear();
        let no_key = pc.request(Bytes32([0; 32]));
        for request in [other_key, by_another, unsigned, no_key] {
            let refused = fund.connect_with(&pc, &request).await;
            assert_eq!(code_of(refused), RefusalCode::BadRequest);
        }
        assert_eq!(live_count(&db).await, 0);
    }
}

#[tokio::test]
async fn an_unknown_certificate_a_suspended_establishment_and_a_disabled_user_get_nothing() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let pc = fund.device("PC-1").await;
        let request = pc.request(Bytes32([5; 32]));
        let stranger = Bytes32([1; 32]);
        let refused = open(&fund.app, &fund.gateway, &stranger, &request, NOW).await;
        assert_eq!(code_of(refused), RefusalCode::NoDevice);
        for (out, back) in [
            (
                "UPDATE establishments SET suspended_ms = 1",
                "UPDATE establishments SET suspended_ms = NULL",
            ),
            (
                "UPDATE users SET disabled_ms = 1",
                "UPDATE users SET disabled_ms = NULL",
            ),
            (
                "UPDATE memberships SET ended_ms = 1",
                "UPDATE memberships SET ended_ms = NULL",
            ),
        ] {
            sqlx::query(out).execute(db.pool()).await.unwrap();
            assert_eq!(
                code_of(fund.connect(&pc).await),
                RefusalCode::Revoked,
                "{out}"
            );
            sqlx::query(back).execute(db.pool()).await.unwrap();
        }
        fund.connect(&pc).await.unwrap();
    }
}

#[tokio::test]
async fn a_device_ends_its_own_session_and_no_other() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let (pc, other) = (fund.device("PC-1").await, fund.device("PC-2").await);
        let session = fund.connect(&pc).await.unwrap().grant.session;
        let foreign = gateways::fingerprint(&other.certificate);
        let refused = disconnect(&fund.app, &foreign, session, NOW).await;
        assert_eq!(refused.unwrap_err().code(), RefusalCode::NotFound);
        let own = gateways::fingerprint(&pc.certificate);
        for _ in 0..2 {
            disconnect(&fund.app, &own, session, NOW).await.unwrap();
        }
        assert_eq!(
            reason_of(&db, session).await.as_deref(),
            Some("disconnected")
        );
    }
}

#[tokio::test]
async fn a_late_report_adds_bytes_and_keeps_the_reason() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let pc = fund.device("PC-1").await;
        let granted = fund.connect(&pc).await.unwrap().grant;
        let session = granted.session;
        fund.revoke(pc.id).await.unwrap();
        let report = SessionEnded {
            generation: granted.generation,
            reason: EndCode::GatewayStopped,
            bytes_in: 10,
            bytes_out: 20,
        };
        take_report(&fund.app, &fund.gateway, session, &report, NOW)
            .await
            .unwrap();
        assert_eq!(reason_of(&db, session).await.as_deref(), Some("revoked"));
        let bytes: i64 = sqlx::query_scalar("SELECT bytes_in + bytes_out FROM tunnel_sessions")
            .fetch_one(db.pool())
            .await
            .unwrap();
        assert_eq!(bytes, 30);
        let foreign = Gateway {
            name: "osaka-1".parse().unwrap(),
        };
        let refused = take_report(&fund.app, &foreign, session, &report, NOW).await;
        assert_eq!(refused.unwrap_err().code(), RefusalCode::NotFound);
    }
}

#[tokio::test]
async fn what_nobody_reported_is_swept_with_the_deadline_s_own_reason() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let pc = fund.device("PC-1").await;
        let session = fund.connect(&pc).await.unwrap().grant.session;
        let deadline = NOW + access::SESSION_LIMIT;
        assert_eq!(sweep(&fund.app, deadline).await.unwrap(), 0);
        let late = deadline + REPORT_GRACE + time::Duration::milliseconds(1);
        assert_eq!(sweep(&fund.app, late).await.unwrap(), 1);
        assert_eq!(sweep(&fund.app, late).await.unwrap(), 0);
        assert_eq!(reason_of(&db, session).await.as_deref(), Some("time_limit"));
    }
}
