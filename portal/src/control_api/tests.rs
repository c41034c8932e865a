//! The control listener's requests, from a code to a session and out again.

use super::*;
use crate::devices::tests::{Fund, Pc, asked, new_key};
use crate::testing::{databases, sqlite};
use access::ClosedReason;
use axum::body::Body;
use protocol::agent_api::{EnrolmentOpened, EnrolmentState};
use tower::ServiceExt as _;

#[test]
fn every_refusal_has_a_sentence_and_hides_what_is_inside() {
    let closed = Closed {
        reason: ClosedReason::Weekend,
        today: time::macros::date!(2026 - 03 - 14),
        opens_next: None,
    };
    let all = [
        Refused::Closed(closed),
        Refused::WrongCode,
        Refused::TooManyDevices { limit: 3 },
        Refused::Revoked,
        Refused::NoDevice,
        Refused::BadRequest("secret detail"),
        Refused::NotFound,
        Refused::SessionOver(EndCode::Revoked),
        Refused::TooManyMoves,
        Refused::GatewayUnknown,
        Refused::Store(StoreError::Unreadable {
            what: "secret detail",
        }),
        Refused::Certificate("secret detail"),
    ];
    for refused in all {
        let text = refused.page_text();
        assert!(text.ends_with('。') && !text.is_ascii(), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn a_bearer_token_is_read_from_its_scheme_alone() {
    let value = |text: &'static str| HeaderValue::from_static(text);
    assert_eq!(bearer(Some(&value("Bearer abc"))), Some("abc"));
    assert_eq!(bearer(Some(&value("Basic abc"))), None);
    assert_eq!(bearer(None), None);
}

/// Asks the router as the control listener would, on behalf of a PC or of nobody.
async fn ask(
    fund: &Fund,
    request: http::request::Builder,
    body: Vec<u8>,
    pc: Option<&Pc>,
) -> (StatusCode, serde_json::Value) {
    let mut request = request;
    if let Some(pc) = pc {
        request = request.header(DEVICE_CERTIFICATE_HEADER, STANDARD.encode(&pc.certificate));
    }
    let mut request = request.body(Body::from(body)).unwrap();
    request.extensions_mut().insert(GatewayConnection {
        certificate: fund.gateway_identity.certificate.clone(),
    });
    let answer = router(fund.app.clone()).oneshot(request).await.unwrap();
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20)
        .await
        .unwrap();
    let value = match body.is_empty() {
        true => serde_json::Value::Null,
        false => serde_json::from_slice(&body).unwrap(),
    };
    (status, value)
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

#[tokio::test]
async fn a_pc_goes_from_its_code_to_a_session_and_out_again() {
    for db in databases().await {
        let fund = Fund::new(&db).await;
        let key = new_key();
        let request = asked(&fund.code().await, &key, "PC-1");
        let enrol = Request::post("/v1/enrolments");
        let (status, opened) = ask(&fund, enrol, json(&request), None).await;
        assert_eq!(status, StatusCode::OK, "{opened}");
        let opened: EnrolmentOpened = serde_json::from_value(opened).unwrap();

        let path = format!("/v1/enrolments/{}", opened.enrolment);
        let poll =
            |token: &str| Request::get(&path).header("authorization", format!("Bearer {token}"));
        let token = &opened.poll_token;
        let (_, state) = ask(&fund, poll(token), Vec::new(), None).await;
        assert_eq!(state["state"], "pending");
        let (status, refusal) = ask(&fund, poll("guess"), Vec::new(), None).await;
        assert_eq!(
            (status, &refusal["code"]),
            (StatusCode::NOT_FOUND, &"not_found".into())
        );
        let (status, _) = ask(&fund, Request::get(&path), Vec::new(), None).await;
        assert_eq!(status, StatusCode::NOT_FOUND);

        let pc = fund.approve(opened.enrolment, key).await;
        let (_, state) = ask(&fund, poll(token), Vec::new(), None).await;
        let EnrolmentState::Approved(enrolled) = serde_json::from_value(state).unwrap() else {
            panic!("approved");
        };
        assert_eq!(
            (enrolled.device, &enrolled.certificate.0),
            (pc.id, &pc.certificate)
        );
        assert_eq!(enrolled.gateways, ["https://vpn.example.jp"]);
        let portal_key = fund.app.authorities.member_key_sha256();
        assert_eq!(enrolled.portal_key_sha256, Some(portal_key));

        let status = Request::get("/v1/status");
        let (_, service) = ask(&fund, status, Vec::new(), Some(&pc)).await;
        assert_eq!(
            (&service["open"], &service["rehearsal"]),
            (&true.into(), &false.into())
        );
        let session = json(&pc.request(Bytes32([5; 32])));
        let (status, opened) = ask(&fund, Request::post("/v1/sessions"), session, Some(&pc)).await;
        assert_eq!(status, StatusCode::OK, "{opened}");
        let end = format!(
            "/v1/sessions/{}/end",
            opened["agent"]["session"].as_str().unwrap()
        );
        let (status, _) = ask(&fund, Request::post(&end), Vec::new(), Some(&pc)).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn nobody_but_a_gateway_is_answered_on_any_path() {
    let db = sqlite().await;
    let fund = Fund::new(&db).await;
    for path in ["/v1/status", "/v1/enrolments", "/control/v1/grants", "/x"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router(fund.app.clone()).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn what_is_malformed_or_too_long_gets_a_refusal_and_no_panic() {
    let db = sqlite().await;
    let fund = Fund::new(&db).await;
    let pc = fund.device("PC-1").await;
    for body in [
        Vec::new(),
        b"{}".to_vec(),
        b"\xff\xfe".to_vec(),
        vec![b' '; BODY_LIMIT_BYTES + 1],
    ] {
        for path in ["/v1/enrolments", "/v1/sessions", "/control/v1/register"] {
            let (status, refusal) = ask(&fund, Request::post(path), body.clone(), Some(&pc)).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(refusal["code"], "bad_request");
            assert!(refusal["server_time_ms"].is_i64());
        }
    }
    let end = Request::post("/v1/sessions/not-an-id/end");
    let (status, _) = ask(&fund, end, Vec::new(), Some(&pc)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
