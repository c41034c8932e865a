//! What strangers, and clients that misbehave, get.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use reqwest::StatusCode;
use rustls::client::ResolvesClientCert;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::authorities::Fund;
use super::gateway::{Edge, LONG, Ways};
use super::portal::RehearsedPortal;
use crate::agent_api::Patience;

/// Short for who says nothing, and long enough for who does what is right on a busy machine.
const HURRIED: Patience = Patience {
    handshake: Duration::from_secs(1),
    head: Duration::from_secs(1),
    body: Duration::from_secs(1),
    connection: Duration::from_secs(600),
};

#[tokio::test]
async fn a_stranger_finds_nothing_but_the_enrolment() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let stranger = edge.client(fund.client(None));
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/v1/status"),
        (Method::POST, "/v1/sessions"),
        (
            Method::POST,
            "/v1/sessions/00000000-0000-0000-0000-000000000001/end",
        ),
        (Method::GET, "/v1/enrolments"),
        (Method::GET, "/v1/enrolments/1"),
        (Method::DELETE, "/v1/enrolments"),
        (Method::OPTIONS, "/v1/enrolments"),
        (Method::GET, "/control/v1/grants"),
        (Method::POST, "/control/v1/register"),
    ] {
        let request = stranger.request(method.clone(), path);
        let got = stranger.send(request).await.unwrap();
        assert_eq!(got.status, StatusCode::NOT_FOUND, "{method} {path}");
        assert!(got.body.is_empty(), "{method} {path}");
        let said: Vec<&str> = got.headers.keys().map(|name| name.as_str()).collect();
        assert_eq!(said, ["content-length"], "{method} {path}");
    }
    assert!(portal.asked().is_empty());
    portal.answers("POST /v1/enrolments", 200, "{}");
    assert_eq!(stranger.post("/v1/enrolments", "{}").await.status, 200);
}

#[tokio::test]
async fn an_enrolment_is_polled_with_its_token_or_not_at_all() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let stranger = edge.client(fund.client(None));
    let path = "/v1/enrolments/0193b3c4-0000-7000-8000-000000000001";
    portal.answers(&format!("GET {path}"), 200, r#"{"state":"pending"}"#);
    assert_eq!(stranger.get(path).await.status, StatusCode::NOT_FOUND);
    assert!(portal.asked().is_empty());
    let request = stranger.request(Method::GET, path).bearer_auth("token");
    let got = stranger.send(request).await.unwrap();
    assert_eq!(
        (got.status, &*got.body),
        (StatusCode::OK, &b"{\"state\":\"pending\"}"[..])
    );
    assert_eq!(portal.asked()[0].headers["authorization"], "Bearer token");
}

#[tokio::test]
async fn a_certificate_of_a_foreign_authority_is_refused() {
    let (fund, foreign) = (Fund::new(), Fund::new());
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    // One of the services' own is no device either.
    for leaf in [
        foreign.device(),
        fund.service("tokyo-2.gateway.renkei.internal"),
    ] {
        let impostor = edge.client(fund.client(Some(&leaf)));
        for path in ["/v1/status", "/v1/enrolments"] {
            let request = impostor.request(Method::POST, path);
            assert!(impostor.send(request).await.is_err(), "{path}");
        }
    }
    assert!(portal.asked().is_empty());
}

#[tokio::test]
async fn an_older_tls_is_refused() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let device = fund.device();
    let old = fund.client_of_version(Some(&device), &rustls::version::TLS12);
    let error = edge.connect(old).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
}

#[tokio::test]
async fn the_gateway_asks_for_a_certificate_without_saying_whose() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    let asked = Arc::new(Asked::default());
    let mut tls = fund.client(None);
    tls.client_auth_cert_resolver = asked.clone();
    edge.connect(tls).await.unwrap();
    assert_eq!(*asked.0.lock().unwrap(), Some(0), "authorities named");
}

/// Has no certificate, and writes down how many authorities it was asked for.
#[derive(Debug, Default)]
struct Asked(Mutex<Option<usize>>);

impl ResolvesClientCert for Asked {
    fn resolve(
        &self,
        authorities: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        *self.0.lock().unwrap() = Some(authorities.len());
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn an_oversize_body_is_refused_and_goes_nowhere() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    portal.answers("POST /v1/enrolments", 200, "{}");
    let stranger = edge.client(fund.client(None));
    let limit = protocol::agent_api::BODY_LIMIT_BYTES;
    for too_long in [limit + 1, 200 * 1024] {
        let got = stranger.post("/v1/enrolments", vec![b' '; too_long]).await;
        assert_eq!(got.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(portal.asked().is_empty());
    }
    let got = stranger.post("/v1/enrolments", vec![b' '; limit]).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(portal.asked()[0].body.len(), limit);
}

#[tokio::test]
async fn who_does_not_begin_tls_is_cut_off() {
    let (_fund, _portal, edge) = hurried().await;
    let mut socket = TcpStream::connect(edge.address).await.unwrap();
    socket.write_all(&[0x16, 0x03]).await.unwrap();
    assert_eq!(rest(&mut socket).await, b"");
}

#[tokio::test]
async fn who_drips_a_request_head_is_cut_off() {
    let (fund, portal, edge) = hurried().await;
    let mut stream = edge.connect(fund.client(None)).await.unwrap();
    stream
        .write_all(b"POST /v1/enrolments HTTP/1.1\r\nhost: x\r\n")
        .await
        .unwrap();
    let answer = rest(&mut stream).await;
    assert!(
        !answer.starts_with(b"HTTP/1.1 2"),
        "nothing but perhaps a complaint"
    );
    assert!(portal.asked().is_empty());
}

#[tokio::test]
async fn who_drips_a_body_is_refused() {
    let (fund, portal, edge) = hurried().await;
    let mut stream = edge.connect(fund.client(None)).await.unwrap();
    let head = b"POST /v1/enrolments HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with(b"HTTP/1.1 408 "));
    assert!(portal.asked().is_empty());
}

#[tokio::test]
async fn a_connection_does_not_last_for_ever() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let patience = Patience {
        connection: Duration::from_millis(100),
        ..Patience::default()
    };
    let ways = Ways {
        patience,
        ..Ways::default()
    };
    let edge = Edge::start_with(&fund, portal.address, ways).await;
    let mut stream = edge.connect(fund.client(None)).await.unwrap();
    assert_eq!(rest(&mut stream).await, b"");
}

#[tokio::test]
async fn a_source_that_tries_registrations_without_end_is_slowed_down() {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let edge = Edge::start(&fund, &portal).await;
    portal.answers("POST /v1/enrolments", 403, "{}");
    let stranger = edge.client(fund.client(None));
    let mut answers = Vec::new();
    for _ in 0..12 {
        answers.push(stranger.post("/v1/enrolments", "{}").await);
    }
    assert!(answers[..10].iter().all(|got| got.status == 403));
    let last = answers.last().unwrap();
    assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS);
    let refusal: protocol::agent_api::Refusal = serde_json::from_slice(&last.body).unwrap();
    assert!(refusal.sentence.contains("もう一度お試しください"));
    assert_eq!(portal.asked().len(), 10);
}

#[tokio::test]
async fn junk_inside_and_outside_of_tls_harms_nobody() {
    let (fund, portal, edge) = hurried().await;
    for length in [0, 1, 5, 64, 1000, 65_535] {
        let mut junk = vec![0; length];
        getrandom::fill(&mut junk).unwrap();
        let mut bare = TcpStream::connect(edge.address).await.unwrap();
        // The gateway may hang up before it has heard all of it.
        let _ = bare.write_all(&junk).await;
        rest(&mut bare).await;
        let mut inside = edge.connect(fund.client(None)).await.unwrap();
        let _ = inside.write_all(&junk).await;
        let answer = rest(&mut inside).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{length} bytes");
    }
    let mut inside = edge.connect(fund.client(None)).await.unwrap();
    let endless = b"POST /v1/enrolments HTTP/1.1\r\n".repeat(2000);
    let _ = inside.write_all(&endless).await;
    assert!(!rest(&mut inside).await.starts_with(b"HTTP/1.1 2"));
    assert!(portal.asked().is_empty());
    portal.answers("POST /v1/enrolments", 200, "{}");
    let stranger = edge.client(fund.client(None));
    assert_eq!(stranger.post("/v1/enrolments", "{}").await.status, 200);
}

async fn hurried() -> (Fund, RehearsedPortal, Edge) {
    let fund = Fund::new();
    let portal = RehearsedPortal::start(&fund).await;
    let ways = Ways {
        patience: HURRIED,
        ..Ways::default()
    };
    let edge = Edge::start_with(&fund, portal.address, ways).await;
    (fund, portal, edge)
}

/// Reads until the gateway hangs up.
async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(LONG, stream.read_to_end(&mut all)).await;
    // A connection that is cut without TLS's farewell is an error to the reader.
    let _ = read.expect("the gateway hangs up");
    all
}
