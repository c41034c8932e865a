//! The log of a whole gateway, with its ordinary work and with attacks, searched for what must
//! not be in it.
//!
//! These tests run on one thread, so that a subscriber of that thread hears everything.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};
use tracing::level_filters::LevelFilter;
use tunnel::client::Event;

use super::gateway::LONG;
use super::over_tls::{PEER, Pc, REQUEST, Scene};

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a gateway logs at `level` that is used and attacked from [`PEER`] only.
async fn log_at(level: LevelFilter) -> String {
    let memory = Memory::default();
    let writer = memory.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // With only one subscriber in the process, tracing would ask the thread that first comes
    // to a place whether it is worth logging: another test's, which has none.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start(folder.path()).await;
    work(&scene).await;
    attack(&scene).await;
    drop(scene);
    drop(guard);
    let log = memory.0.lock().unwrap().clone();
    String::from_utf8(log).unwrap()
}

/// A session over UDP that moves to TLS, does something, breaks and ends.
async fn work(scene: &Scene) {
    let device = scene.fund.device();
    let mut tunnel = scene.admit(1, &device).await;
    let udp = UdpSocket::bind((PEER, 0)).await.unwrap();
    let mut buffer = Vec::new();
    let now = crate::clock::now().mono;
    while tunnel.poll_transmit(now, 1, &mut buffer).is_some() {
        udp.send_to(&buffer, scene.listening.udp[0]).await.unwrap();
    }
    let mut answer = [0; 2048];
    let answered = tokio::time::timeout(LONG, udp.recv(&mut answer)).await;
    let length = answered.expect("the gateway answers").unwrap();
    tunnel.handle_datagram(crate::clock::now().mono, &answer[..length]);

    let stream = scene.connect(Some(&device)).await;
    let mut pc = Pc::ask_for_tunnel(stream, tunnel).await;
    pc.until(|pc| pc.events.contains(&Event::Connected)).await;
    pc.tunnel.open_stream().unwrap();
    pc.tunnel.close(crate::clock::now().mono, 0);
    pc.until(|pc| pc.is_over).await;
}

/// What strangers and bad devices do.
async fn attack(scene: &Scene) {
    let udp = UdpSocket::bind((PEER, 0)).await.unwrap();
    for kind in 0..6u8 {
        for length in [0, 1, 64, 92, 148, 1200, 2048, 9000] {
            let mut junk = vec![0; length];
            junk.iter_mut().take(1).for_each(|first| *first = kind);
            udp.send_to(&junk, scene.listening.udp[0]).await.unwrap();
        }
    }
    for junk in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 500],
        &[0x16, 3, 1, 255, 255],
    ] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((PEER, 0).into()).unwrap();
        let mut bare = socket.connect(scene.listening.tls).await.unwrap();
        let _ = bare.write_all(junk).await;
        let _ = bare.shutdown().await;
        let _ = bare.read_to_end(&mut Vec::new()).await;
    }
    let (stranger, device) = (None, scene.fund.device());
    for (who, request) in [
        (stranger, REQUEST.to_owned()),
        (
            stranger,
            "GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        ),
        (stranger, "junk\r\n\r\n".to_owned()),
        (Some(&device), format!("{REQUEST}\0\0")),
        (Some(&device), format!("{REQUEST}\0\x05junk!")),
        (
            Some(&device),
            "POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
        ),
    ] {
        let mut stream = scene.connect(who).await;
        let _ = stream.write_all(request.as_bytes()).await;
        let mut some = [0; 100];
        let _ = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut some)).await;
    }
}

#[tokio::test]
async fn the_log_of_a_gateway_at_work_and_under_attack_holds_no_address_of_a_peer() {
    let log = log_at(LevelFilter::INFO).await;
    for expected in [
        ": session opened session=",
        ": session connected session=",
        ": session ended session=",
    ] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    assert!(!log.contains(&PEER.to_string()), "{log}");
    // Someone who looks closer finds it: this test would have, too.
    let closer = log_at(LevelFilter::DEBUG).await;
    assert!(closer.contains(&PEER.to_string()));
}
