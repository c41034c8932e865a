//! Where no UDP passes: the tunnel inside a TLS connection to the agent API's own port.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::Bytes32;
use protocol::control::GatewayHello;
use protocol::proxy::HEADER_BYTES;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tunnel::client::{ClientTunnel, Event};
use tunnel::frames::{self, Decoder};
use tunnel::keys::SecretKey;
use tunnel::{CloseReason, MAX_SEGMENTS, Read};

use super::authorities::{Fund, Leaf};
use super::gateway::{Client, LONG, grant, opened, session};
use super::portal::RehearsedPortal;
use super::the_whole_gateway::{open_session, settings, tunnel};
use crate::clock;
use crate::config::Config;
use crate::serve::{Gateway, ServeError};
use crate::state::Listening;

/// Where PCs come from. Nothing else on the stage has this address.
pub(super) const PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

pub(super) const REQUEST: &str = "GET /v1/tunnel HTTP/1.1\r\nhost: gateway\r\n\
                       connection: keep-alive, Upgrade\r\nupgrade: renkei-wireguard\r\n\r\n";

/// A gateway, its portal and the fund.
pub(super) struct Scene {
    pub(super) fund: Fund,
    portal: RehearsedPortal,
    pub(super) member: TcpListener,
    config: Config,
    pub(super) listening: Listening,
    key: Bytes32,
    running: JoinHandle<Result<(), ServeError>>,
}

impl Scene {
    pub(super) async fn start(folder: &Path) -> Self {
        let fund = Fund::new();
        let portal = RehearsedPortal::start(&fund).await;
        let member = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = settings(&fund, folder, portal.address, member.local_addr().unwrap());
        let gateway = Gateway::bind(&config).await.unwrap();
        let listening = gateway.listening().clone();
        let running = tokio::spawn(gateway.run(std::future::pending()));
        let hello = portal.was_asked("POST /control/v1/register", 1).await;
        let hello: GatewayHello = serde_json::from_slice(&hello.body).unwrap();
        Self {
            fund,
            portal,
            member,
            config,
            listening,
            key: hello.wireguard_public_key,
            running,
        }
    }

    pub(super) fn client(&self, device: Option<&Leaf>) -> Client {
        let tls = self.fund.client(device);
        Client::new(tls, &self.config.name, self.listening.tls)
    }

    /// Has a session granted and makes the PC's half of it.
    pub(super) async fn admit(&self, n: u8, device: &Leaf) -> ClientTunnel {
        let secret_key = SecretKey::generate().unwrap();
        let mut granted = grant(n, device);
        granted.wireguard_public_key = Bytes32(*secret_key.public_key().as_bytes());
        let mut answer = opened(granted);
        answer.agent.gateway_public_key = self.key;
        let answer = serde_json::to_vec(&answer).unwrap();
        self.portal.answers("POST /v1/sessions", 200, answer);
        let agent = open_session(&self.client(Some(device))).await;
        tunnel(&self.fund, device, secret_key, &agent)
    }

    /// A bare TLS connection to the agent API.
    pub(super) async fn connect(&self, device: Option<&Leaf>) -> TlsStream<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((PEER, 0).into()).unwrap();
        let socket = socket.connect(self.listening.tls).await.unwrap();
        let name = ServerName::try_from(self.config.name.certificate_name()).unwrap();
        let connector = TlsConnector::from(Arc::new(self.fund.client(device)));
        connector.connect(name, socket).await.unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// A PC's end of the tunnel inside TLS.
pub(super) struct Pc {
    stream: TlsStream<TcpStream>,
    decoder: Decoder,
    pub(super) tunnel: ClientTunnel,
    pub(super) events: Vec<Event>,
    pub(super) is_over: bool,
}

impl Pc {
    /// Asks for the tunnel, with the first datagram right behind the request.
    pub(super) async fn ask_for_tunnel(
        mut stream: TlsStream<TcpStream>,
        mut tunnel: ClientTunnel,
    ) -> Self {
        let (mut first, mut buffer) = (REQUEST.as_bytes().to_vec(), Vec::new());
        let now = clock::now().mono;
        let sent = tunnel.poll_transmit(now, 1, &mut buffer).unwrap();
        frames::write(&mut first, &buffer, sent.segment_size);
        stream.write_all(&first).await.unwrap();
        let (head, behind) = head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self {
            stream,
            decoder: Decoder::new(&behind),
            tunnel,
            events: Vec::new(),
            is_over: false,
        }
    }

    /// Runs the tunnel until `done`.
    pub(super) async fn until(&mut self, done: impl FnMut(&mut Self) -> bool) {
        let running = tokio::time::timeout(LONG, self.run(done));
        running.await.expect("it happens in time");
    }

    async fn run(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let mut buffer = Vec::new();
        loop {
            let now = clock::now().mono;
            for datagram in self.decoder.take().unwrap().datagrams() {
                self.tunnel.handle_datagram(now, datagram);
            }
            while let Some(event) = self.tunnel.poll_event() {
                self.events.push(event);
            }
            let finished = done(self);
            while let Some(sent) = self.tunnel.poll_transmit(now, MAX_SEGMENTS, &mut buffer) {
                let mut framed = Vec::new();
                frames::write(&mut framed, &buffer, sent.segment_size);
                // The gateway may have hung up.
                let _ = self.stream.write_all(&framed).await;
            }
            if finished {
                return;
            }
            let wake = self.tunnel.poll_timeout().unwrap();
            tokio::select! {
                read = self.stream.read_buf(self.decoder.memory()), if !self.is_over => {
                    self.is_over = read.unwrap() == 0;
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    self.tunnel.handle_timeout(clock::now().mono);
                }
            }
        }
    }
}

/// Reads an answer's head; returns what came behind it too.
async fn head(stream: &mut TlsStream<TcpStream>) -> (String, Vec<u8>) {
    let mut all = Vec::new();
    let reading = async {
        loop {
            if let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") {
                return end + 4;
            }
            assert!(stream.read_buf(&mut all).await.unwrap() > 0, "hung up");
        }
    };
    let end = tokio::time::timeout(LONG, reading).await.unwrap();
    let behind = all.split_off(end);
    (String::from_utf8(all).unwrap(), behind)
}

#[tokio::test]
async fn a_device_gets_through_with_its_first_datagram_right_behind_the_request() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await;
    let device = scene.fund.device();
    let tunnel = scene.admit(1, &device).await;
    let stream = scene.connect(Some(&device)).await;
    let mut pc = Pc::ask_for_tunnel(stream, tunnel).await;
    pc.until(|pc| pc.events.contains(&Event::Connected)).await;
    let stream = pc.tunnel.open_stream().unwrap();
    let mut question = Bytes::from_static(b"hello");
    pc.tunnel.write(stream, &mut question).unwrap();
    pc.tunnel.finish(stream).unwrap();
    let portal = async {
        let (mut connection, _) = scene.member.accept().await.unwrap();
        let mut all = Vec::new();
        connection.read_to_end(&mut all).await.unwrap();
        connection.write_all(b"welcome").await.unwrap();
        all.split_off(HEADER_BYTES)
    };
    let mut answer = Vec::new();
    let answered = pc.until(|pc| {
        while let Ok(Read::Data(data)) = pc.tunnel.read(stream, usize::MAX) {
            answer.extend_from_slice(&data);
        }
        answer.len() >= 7
    });
    let ((), asked) = tokio::join!(answered, portal);
    assert_eq!((&asked[..], &answer[..]), (&b"hello"[..], &b"welcome"[..]));

    // The end comes by the same way, and then the connection is closed in order.
    let line = format!("POST /v1/sessions/{}/end", session(1));
    scene.portal.answers(&line, 204, "");
    let path = format!("/v1/sessions/{}/end", session(1));
    scene.client(Some(&device)).post(&path, "{}").await;
    let told = |event: &Event| matches!(event, Event::Closed(CloseReason::ByPeer { .. }));
    pc.until(|pc| pc.is_over && pc.events.iter().any(told))
        .await;
}

#[tokio::test]
async fn a_tunnel_is_nothing_that_a_stranger_can_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await;
    let mut stranger = scene.connect(None).await;
    stranger.write_all(REQUEST.as_bytes()).await.unwrap();
    let (answer, _) = head(&mut stranger).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    // A device that asks for something else finds nothing either.
    let device = scene.fund.device();
    for wrong in [
        REQUEST.replace("upgrade: renkei-wireguard\r\n", ""),
        REQUEST.replace("renkei-wireguard", "websocket"),
        REQUEST.replace("connection: keep-alive, Upgrade\r\n", ""),
        REQUEST.replace("GET", "POST"),
        REQUEST.replace("/v1/tunnel", "/v1/tunnel/"),
    ] {
        let mut stream = scene.connect(Some(&device)).await;
        stream.write_all(wrong.as_bytes()).await.unwrap();
        let (answer, _) = head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{wrong}: {answer}");
    }
}

#[tokio::test]
async fn a_device_cannot_carry_anothers_session() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await;
    let (device, thief) = (scene.fund.device(), scene.fund.device());
    let tunnel = scene.admit(1, &device).await;
    let stream = scene.connect(Some(&thief)).await;
    let mut pc = Pc::ask_for_tunnel(stream, tunnel).await;
    let connecting = pc.run(|pc| pc.events.contains(&Event::Connected));
    let waited = tokio::time::timeout(Duration::from_millis(700), connecting).await;
    assert!(waited.is_err(), "another's session passed");
    assert!(pc.events.is_empty(), "{:?}", pc.events);
    // The same session passes in its own device's connection.
    let stream = scene.connect(Some(&device)).await;
    let mut pc = Pc::ask_for_tunnel(stream, again(pc)).await;
    pc.until(|pc| pc.events.contains(&Event::Connected)).await;
}

/// The half of a tunnel that did not connect, about to try again.
fn again(mut pc: Pc) -> ClientTunnel {
    pc.tunnel.network_changed(clock::now().mono);
    pc.tunnel
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection_and_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await;
    let device = scene.fund.device();
    let tunnel = scene.admit(1, &device).await;
    let stream = scene.connect(Some(&device)).await;
    let mut pc = Pc::ask_for_tunnel(stream, tunnel).await;
    for junk in [
        &b"\0\0"[..],
        b"\xff\xff",
        &[0x08, 0x01],
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = scene.connect(Some(&scene.fund.device())).await;
        let request = [REQUEST.as_bytes(), junk].concat();
        stream.write_all(&request).await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await;
        // A connection that is cut without TLS's farewell is an error to the reader.
        let _ = read.expect("the gateway hangs up");
        assert!(rest.starts_with(b"HTTP/1.1 101 "));
    }
    pc.until(|pc| pc.events.contains(&Event::Connected)).await;
}
