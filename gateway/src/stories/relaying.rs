//! What reaches the portal, and what comes back.

use hyper::Method;
use protocol::Generation;
use protocol::agent_api::{AgentGrant, DEVICE_CERTIFICATE_HEADER, EndCode, Refusal, RefusalCode};
use protocol::control::{FeedLine, Grant};
use reqwest::StatusCode;

use super::authorities::Fund;
use super::gateway::{Edge, Ways, grant, opened, session};
use super::portal::RehearsedPortal;
use crate::portal::CONTROL_NAME;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[tokio::test]
async fn bodies_pass_exactly_and_headers_do_not() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let device = fund.device();
    let client = edge.client(fund.client(Some(&device)));
    let sent: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let back: Vec<u8> = sent.iter().rev().copied().collect();
    portal.answers("POST /v1/enrolments", 409, back.clone());
    let request = client
        .request(Method::POST, "/v1/enrolments?x=y")
        .header("cookie", "a=b")
        .header("x-forwarded-for", "192.0.2.1")
        .header("authorization", "Bearer for polls only")
        .body(sent.clone());
    let got = client.send(request).await.unwrap();
    assert_eq!(
        (got.status, got.body.to_vec()),
        (StatusCode::CONFLICT, back)
    );
    assert_eq!(got.headers["content-type"], "application/json");
    assert!(!got.headers.contains_key("x-internal"));
    let asked = &portal.asked()[0];
    assert_eq!(asked.line, "POST /v1/enrolments");
    assert_eq!(asked.body, sent);
    let mut names: Vec<&str> = asked.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "content-length", "content-type", "host"]);
}

#[tokio::test]
async fn a_forged_certificate_header_is_ignored() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let (device, other) = (fund.device(), fund.device());
    let forged = STANDARD.encode(&other.certificate);
    portal.answers("GET /v1/status", 200, "{}");
    portal.answers("POST /v1/enrolments", 200, "{}");
    let client = edge.client(fund.client(Some(&device)));
    let stranger = edge.client(fund.client(None));
    for (client, method, path) in [
        (&client, Method::GET, "/v1/status"),
        (&stranger, Method::POST, "/v1/enrolments"),
        (&stranger, Method::GET, "/v1/status"),
    ] {
        let request = client
            .request(method, path)
            .header(DEVICE_CERTIFICATE_HEADER, &forged);
        client.send(request).await.unwrap();
    }
    let asked = portal.asked();
    assert_eq!(asked.len(), 2, "with it, a stranger is still a stranger");
    let shown: Vec<_> = asked[0]
        .headers
        .get_all(DEVICE_CERTIFICATE_HEADER)
        .iter()
        .collect();
    assert_eq!(shown, [&STANDARD.encode(&device.certificate)]);
    assert!(!asked[1].headers.contains_key(DEVICE_CERTIFICATE_HEADER));
}

#[tokio::test]
async fn a_session_is_in_before_the_agent_hears_of_it() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let device = fund.device();
    let grant = grant(1, &device);
    answer_with(&portal, &opened(grant.clone()));
    let client = edge.client(fund.client(Some(&device)));
    let got = client.post("/v1/sessions", "{}").await;
    assert!(edge.data_path.admits(grant.session));
    let agent: AgentGrant = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(agent.session, grant.session);
    let text = String::from_utf8(got.body.to_vec()).unwrap();
    assert!(!text.contains("proxy_key"), "the gateway's half stays here");

    let end = format!("/v1/sessions/{}/end", grant.session);
    portal.answers(&format!("POST {end}"), 404, "{}");
    assert_eq!(client.post(&end, "").await.status, StatusCode::NOT_FOUND);
    assert!(edge.data_path.admits(grant.session), "the portal said no");
    portal.answers(&format!("POST {end}"), 204, "");
    assert_eq!(client.post(&end, "").await.status, StatusCode::NO_CONTENT);
    edge.data_path.admits_in_time(grant.session, false).await;
    let report = portal.was_asked(&ended_line(1), 1).await;
    let expected = br#"{"generation":1,"reason":"disconnected","bytes_in":1,"bytes_out":2}"#;
    assert_eq!(&report.body[..], expected);
}

#[tokio::test]
async fn a_session_from_another_gateway_is_in_before_the_agent_hears_of_it() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let device = fund.device();
    let moved = Grant {
        generation: Generation::new(7),
        ..grant(1, &device)
    };
    let path = format!("/v1/sessions/{}/move", moved.session);
    let body = serde_json::to_vec(&opened(moved.clone())).unwrap();
    portal.answers(&format!("POST {path}"), 200, body);
    let client = edge.client(fund.client(Some(&device)));
    let got = client.post(&path, "{}").await;
    assert_eq!(got.status, StatusCode::OK);
    assert!(edge.data_path.admits(moved.session));
    // It went on elsewhere in between; what the portal says of that comes late.
    portal.feed(&FeedLine::Ended {
        session: moved.session,
        through: Generation::new(6),
        reason: EndCode::Moved,
    });
    portal.feed(&FeedLine::Ended {
        session: session(2),
        through: Generation::LAST,
        reason: EndCode::Revoked,
    });
    let stranger = edge.client(fund.client(None));
    assert_eq!(
        stranger.post(&path, "{}").await.status,
        StatusCode::NOT_FOUND
    );
    assert!(edge.data_path.admits(moved.session));
    portal.feed(&FeedLine::Ended {
        session: moved.session,
        through: Generation::new(7),
        reason: EndCode::Moved,
    });
    edge.data_path.admits_in_time(moved.session, false).await;
    let report = portal.was_asked(&ended_line(1), 1).await;
    let expected = br#"{"generation":7,"reason":"moved","bytes_in":1,"bytes_out":2}"#;
    assert_eq!(&report.body[..], expected);
}

#[tokio::test]
async fn a_move_that_is_answered_with_another_session_lets_nobody_in() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let device = fund.device();
    let path = format!("/v1/sessions/{}/move", session(2));
    let body = serde_json::to_vec(&opened(grant(1, &device))).unwrap();
    portal.answers(&format!("POST {path}"), 200, body);
    let client = edge.client(fund.client(Some(&device)));
    is_unavailable(&client.post(&path, "{}").await);
    assert!(!edge.data_path.admits(session(1)) && !edge.data_path.admits(session(2)));
}

#[tokio::test]
async fn a_refusal_by_the_portal_reaches_the_agent_as_it_is() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let device = fund.device();
    let refusal = r#"{"code":"closed","sentence":"本日は祝日です。"}"#;
    portal.answers("POST /v1/sessions", 403, refusal);
    let got = edge
        .client(fund.client(Some(&device)))
        .post("/v1/sessions", "{}")
        .await;
    assert_eq!(
        (got.status, &*got.body),
        (StatusCode::FORBIDDEN, refusal.as_bytes())
    );
}

#[tokio::test]
async fn a_grant_for_another_device_lets_nobody_in_and_the_portal_is_told() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let (device, other) = (fund.device(), fund.device());
    answer_with(&portal, &opened(grant(1, &other)));
    let got = edge
        .client(fund.client(Some(&device)))
        .post("/v1/sessions", "{}")
        .await;
    is_unavailable(&got);
    assert!(!edge.data_path.admits(session(1)));
    portal.was_asked(&ended_line(1), 1).await;
}

#[tokio::test]
async fn a_grant_that_the_data_path_refuses_is_not_passed_on() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let device = fund.device();
    let mut past = grant(1, &device);
    past.deadline_ms = 0;
    answer_with(&portal, &opened(past));
    let got = edge
        .client(fund.client(Some(&device)))
        .post("/v1/sessions", "{}")
        .await;
    is_unavailable(&got);
    portal.was_asked(&ended_line(1), 1).await;
}

#[tokio::test]
async fn without_the_portal_everybody_is_told_what_to_do() {
    let fund = Fund::new();
    let mut portal = RehearsedPortal::start(&fund).await;
    portal.stop().await;
    let edge = Edge::start_with(&fund, portal.address, Ways::default()).await;
    let device = fund.device();
    let client = edge.client(fund.client(Some(&device)));
    is_unavailable(&client.get("/v1/status").await);
    is_unavailable(&client.post("/v1/sessions", "{}").await);
    is_unavailable(&client.post("/v1/enrolments", "{}").await);
}

#[tokio::test]
async fn nobody_new_is_let_in_while_the_feed_is_lost() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    portal.answers("GET /control/v1/grants", 503, "");
    let edge = Edge::start_with(&fund, portal.address, Ways::default()).await;
    let device = fund.device();
    answer_with(&portal, &opened(grant(1, &device)));
    portal.answers("GET /v1/status", 200, "{}");
    let client = edge.client(fund.client(Some(&device)));
    is_unavailable(&client.post("/v1/sessions", "{}").await);
    assert!(portal.asked().is_empty(), "no code is mailed in vain");
    assert_eq!(client.get("/v1/status").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_grant_that_was_asked_for_before_the_feed_was_lost_lets_nobody_in() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let mut edge = Edge::start(&fund, &portal).await;
    let device = fund.device();
    answer_with(&portal, &opened(grant(1, &device)));
    let go = portal.holds("POST /v1/sessions");
    let client = edge.client(fund.client(Some(&device)));
    let asking = tokio::spawn(async move { client.post("/v1/sessions", "{}").await });
    portal.was_asked("POST /v1/sessions", 1).await;
    // The session may have been revoked in a line of the feed that is lost.
    portal.cut_feed();
    edge.is_lost().await;
    edge.is_live().await;
    go.notify_one();
    is_unavailable(&asking.await.unwrap());
    assert!(!edge.data_path.admits(session(1)));
    portal.was_asked(&ended_line(1), 1).await;
}

#[tokio::test]
async fn whoever_else_the_fund_certified_is_not_taken_for_the_portal() {
    let fund = Fund::new();
    let gateway = fund.service("tokyo-2.gateway.renkei.internal");
    let foreign = Fund::new().service(CONTROL_NAME);
    for leaf in [gateway, foreign] {
        let portal = RehearsedPortal::start_as(&fund, &leaf).await;
        portal.answers("GET /v1/status", 200, "{}");
        let edge = Edge::start_with(&fund, portal.address, Ways::default()).await;
        let device = fund.device();
        is_unavailable(
            &edge
                .client(fund.client(Some(&device)))
                .get("/v1/status")
                .await,
        );
        assert!(portal.asked().is_empty());
    }
}

fn answer_with(portal: &RehearsedPortal, opened: &protocol::control::SessionOpened) {
    let body = serde_json::to_vec(opened).unwrap();
    portal.answers("POST /v1/sessions", 200, body);
}

fn ended_line(n: u8) -> String {
    format!("POST /control/v1/sessions/{}/ended", session(n))
}

fn is_unavailable(got: &super::gateway::Got) {
    assert_eq!(got.status, StatusCode::SERVICE_UNAVAILABLE);
    let refusal: Refusal = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(refusal.code, RefusalCode::Unavailable);
    assert!(refusal.sentence.contains("基金事務局へお電話ください。"));
}
