//! Networks that let not everything pass: which way the tunnel takes.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use protocol::agent_api::EndCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{LIMIT, Pc};
use crate::agent::Command;
use crate::dial::settings::ProxySettings;
use crate::fake_fund::{CODE, FakeFund, Fallback};
use crate::fake_proxy::{FakeProxy, Manner};
use crate::status::{StateName, Transport};

/// How long UDP that is dropped may delay a connection.
const FALLBACK_LIMIT: Duration = Duration::from_secs(3);

#[expect(clippy::disallowed_methods, reason = "this is a test's event loop")]
fn now() -> Instant {
    Instant::now()
}

async fn behind(proxy: &FakeProxy, credentials: &str) -> Pc {
    let url = format!("http://{credentials}{}", proxy.address);
    let settings = ProxySettings::try_from(url).unwrap();
    Pc::behind(settings, FakeFund::start().await, time::Duration::ZERO)
}

/// A port of this machine that refuses datagrams.
fn closed_port() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap()
}

impl Pc {
    fn transport(&self) -> Option<Transport> {
        self.agent.report().transport
    }

    /// Moves a megabyte there and back.
    async fn exchange_a_megabyte(&self) {
        let sent: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
        let stream = self.agent.route().unwrap().link.open_stream().await;
        let (mut reader, mut writer) = tokio::io::split(stream.unwrap());
        let copy = sent.clone();
        let write = tokio::spawn(async move {
            writer.write_all(&copy).await.unwrap();
            writer.shutdown().await.unwrap();
            writer
        });
        let mut received = Vec::new();
        let reading = reader.read_to_end(&mut received);
        tokio::time::timeout(LIMIT, reading).await.unwrap().unwrap();
        write.await.unwrap();
        assert!(received == sent);
    }
}

#[tokio::test]
async fn where_udp_is_dropped_tls_carries_the_tunnel() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.fund.drop_udp(true);
    let start = now();
    pc.connect().await;
    let took = now() - start;
    assert!(took < FALLBACK_LIMIT, "{took:?}");
    assert_eq!(pc.transport(), Some(Transport::Tls));
    assert_eq!(pc.agent.report().transport_text.unwrap(), "HTTPSで接続中");
    pc.exchange_a_megabyte().await;
}

#[tokio::test]
async fn a_refused_port_is_passed_over_at_once() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.fund.decide(|decisions| {
        decisions.other_endpoints = vec![closed_port(), closed_port(), closed_port()];
    });
    pc.connect().await;
    assert_eq!(pc.transport(), Some(Transport::Udp));
    pc.exchange_a_megabyte().await;
}

#[tokio::test]
async fn where_udp_works_no_tls_connection_is_made() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.connect().await;
    assert_eq!(pc.transport(), Some(Transport::Udp));
    pc.exchange_a_megabyte().await;
    assert_eq!(pc.fund.decisions.lock().unwrap().fallbacks, 0);
}

#[tokio::test]
async fn udp_that_is_lost_in_mid_session_costs_a_pause_and_no_stream() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.connect().await;
    let link = pc.agent.route().unwrap().link;
    let mut stream = link.open_stream().await.unwrap();
    stream.write_all(b"a").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    pc.fund.drop_udp(true);
    let start = now();
    stream.write_all(b"b").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'b');
    let pause = now() - start;
    assert!(pause < Duration::from_secs(4), "{pause:?}");
    pc.until(|view| view.way.is_some_and(|way| !way.is_udp()))
        .await;
    pc.exchange_a_megabyte().await;

    // In the next network UDP works.
    pc.fund.drop_udp(false);
    link.network_changed(None);
    pc.until(|view| view.way.is_some_and(|way| way.is_udp()))
        .await;
    stream.write_all(b"c").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'c');
    assert_eq!(pc.fund.decisions.lock().unwrap().sessions_granted, 1);
}

#[tokio::test]
async fn the_gateways_last_word_comes_over_tls_too() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.fund.drop_udp(true);
    pc.connect().await;
    let session = pc.agent.view().session().unwrap().id;
    pc.exchange_a_byte().await;
    pc.fund.end_session(session, EndCode::Revoked);
    pc.until_state(StateName::Ended).await;
    let reason = pc.agent.report().reason.unwrap();
    assert_eq!(reason, access::EndReason::Revoked.page_text());
}

#[tokio::test]
async fn all_goes_through_a_proxy_that_lets_pass() {
    for (manner, credentials) in [(Manner::Open, ""), (Manner::Password, "user:pass%20word@")] {
        let proxy = FakeProxy::start(manner).await;
        let pc = behind(&proxy, credentials).await;
        pc.fund.drop_udp(true);
        pc.become_ready().await;
        pc.connect().await;
        let report = pc.agent.report();
        assert_eq!(report.transport, Some(Transport::Tls));
        assert_eq!(
            report.transport_text.unwrap(),
            "HTTPS（プロキシ経由）で接続中"
        );
        pc.exchange_a_megabyte().await;
        assert!(proxy.connected() >= 2, "agent API and tunnel");
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_help_is_passed_by() {
    for manner in [
        Manner::Password,
        Manner::Forbids,
        Manner::Garbage,
        Manner::Silent,
        Manner::Endless,
    ] {
        let proxy = FakeProxy::start(manner).await;
        let pc = behind(&proxy, "").await;
        pc.fund.drop_udp(true);
        pc.become_ready().await;
        let start = now();
        pc.connect().await;
        let took = now() - start;
        assert!(took < FALLBACK_LIMIT, "{manner:?}: {took:?}");
        assert_eq!(pc.agent.report().transport_text.unwrap(), "HTTPSで接続中");
        assert_eq!(proxy.connected(), 0);
    }
}

#[tokio::test]
async fn a_dead_proxy_is_passed_by() {
    let settings = ProxySettings::try_from(format!("http://{}", closed_port())).unwrap();
    let fund = FakeFund::start().await;
    let pc = Pc::behind(settings, fund, time::Duration::ZERO);
    pc.become_ready().await;
    pc.connect().await;
    assert_eq!(pc.transport(), Some(Transport::Udp));
}

#[tokio::test]
async fn a_password_that_is_missing_is_told_in_words_if_nothing_else_helps() {
    let proxy = FakeProxy::start(Manner::Password).await;
    let settings = ProxySettings::try_from(format!("http://{}", proxy.address)).unwrap();
    let mut fund = FakeFund::start().await;
    // Nobody listens there: only the proxy could help.
    fund.url = format!("https://localhost:{}", closed_port().port());
    let pc = Pc::behind(settings, fund, time::Duration::ZERO);
    let sentence = pc.enrol(CODE).await.unwrap_err();
    assert!(sentence.contains("利用者名とパスワード"), "{sentence}");
}

#[tokio::test]
async fn tls_that_breaks_off_or_talks_nonsense_is_no_way() {
    for fallback in [
        Fallback::BreaksOff,
        Fallback::SendsGarbage,
        Fallback::NotFound,
    ] {
        let pc = Pc::start().await;
        pc.become_ready().await;
        pc.fund.decide(|decisions| decisions.fallback = fallback);
        pc.fund.drop_udp(true);
        pc.agent.tell(Command::Connect).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_ne!(
            pc.agent.report().state,
            StateName::Connected,
            "{fallback:?}"
        );
        pc.fund.drop_udp(false);
        pc.until(|view| view.way.is_some_and(|way| way.is_udp()))
            .await;
        pc.exchange_a_byte().await;
    }
}

#[tokio::test]
async fn a_gateway_that_cannot_be_reached_at_all_is_told() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.fund.mute(true);
    pc.agent.tell(Command::Connect).await;
    pc.until_state(StateName::Ended).await;
    let reason = pc.agent.report().reason.unwrap();
    assert!(reason.contains("UDP、HTTPSとも"), "{reason}");
}
