//! The gateway's end of the tunnels, over UDP and over TLS: answers each stream with what it
//! is sent.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::agent_api::EndCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tunnel::frames::{self, Decoder, Frames};
use tunnel::server::{Event, PeerConfig, PeerId, Route, ServerTunnels};
use tunnel::{MAX_SEGMENTS, Read, StreamId};
use udp::{Batch, Socket};

use super::Fallback;

pub enum TunnelCommand {
    Add(PeerId, PeerConfig),
    Remove(PeerId, EndCode),
    /// Remove whoever begins a connection next, before it stands.
    RemoveWhoConnects(EndCode),
    Mute(bool),
    DropUdp(bool),
    LeaveNetwork,
    Forget,
    /// A TLS connection that carries datagrams, and where to put what is for it.
    Carrier(u64, mpsc::UnboundedSender<Vec<u8>>),
    Frames(u64, Frames),
}

type Streams = HashMap<(PeerId, StreamId), (VecDeque<Bytes>, bool)>;

#[expect(clippy::disallowed_methods, reason = "this is a test's event loop")]
pub fn instant() -> Instant {
    Instant::now()
}

/// Answers each stream with what it is sent, and finishes when the other side has.
pub async fn serve(
    socket: Socket,
    make: impl Fn() -> ServerTunnels,
    mut commands: mpsc::UnboundedReceiver<TunnelCommand>,
) {
    let (mut batch, mut buffer) = (Batch::new(), Vec::new());
    let mut streams = Streams::new();
    let (mut tunnels, mut peers) = (make(), HashMap::new());
    let (mut mute, mut drop_udp, mut carriers) = (false, false, HashMap::new());
    let mut unwanted = None;
    let (mut known, mut left) = (HashSet::new(), HashSet::new());
    loop {
        while let Some(event) = tunnels.poll_event(instant()) {
            match event {
                Event::StreamOpened(peer, stream)
                | Event::StreamReadable(peer, stream)
                | Event::StreamWritable(peer, stream) => {
                    echo(&mut tunnels, &mut streams, peer, stream);
                }
                Event::Connected(_) | Event::StreamStopped { .. } | Event::Disconnected { .. } => {}
            }
        }
        while let Some(out) = tunnels.poll_transmit(instant(), MAX_SEGMENTS, &mut buffer, |_| true)
        {
            let bytes = &buffer[..out.transmit.len];
            let size = out.transmit.segment_size;
            match out.to {
                _ if mute => {}
                Route::Udp { remote, .. } => {
                    if !drop_udp {
                        // The PC may have closed its socket.
                        let _ = socket.send(remote, bytes, size).await;
                    }
                }
                Route::Tls { connection, .. } => {
                    let mut framed = Vec::new();
                    frames::write(&mut framed, bytes, size);
                    let carrier: Option<&mpsc::UnboundedSender<Vec<u8>>> =
                        carriers.get(&connection);
                    let _ = carrier.map(|carrier| carrier.send(framed));
                }
            }
        }
        let wait = tunnels
            .poll_timeout()
            .map_or(Duration::from_secs(1), |due| {
                due.saturating_duration_since(instant())
            });
        tokio::select! {
            received = socket.recv(&mut batch) => {
                received.unwrap();
                for (from, datagram) in batch.datagrams() {
                    known.insert(from);
                    if mute || drop_udp || left.contains(&from) {
                        continue;
                    }
                    let heard = tunnels.handle_datagram(instant(), from.into(), datagram, |_| true);
                    // QUIC's first packet is padded.
                    if let (Some(peer), 1000..) = (heard, datagram.len())
                        && let Some(code) = unwanted.take()
                    {
                        tunnels.remove_peer(peer, code as u64, instant());
                        peers.remove(&peer);
                    }
                }
            }
            command = commands.recv() => match command {
                Some(TunnelCommand::Add(id, peer)) => {
                    tunnels.add_peer(id, copy(&peer), instant()).unwrap();
                    peers.insert(id, peer);
                }
                Some(TunnelCommand::RemoveWhoConnects(code)) => unwanted = Some(code),
                Some(TunnelCommand::Mute(wanted)) => mute = wanted,
                Some(TunnelCommand::DropUdp(wanted)) => drop_udp = wanted,
                Some(TunnelCommand::Carrier(connection, carrier)) => {
                    carriers.insert(connection, carrier);
                }
                Some(TunnelCommand::Frames(connection, frames)) => {
                    let remote = std::net::Ipv4Addr::LOCALHOST.into();
                    let from = Route::Tls { connection, remote };
                    for datagram in frames.datagrams().filter(|_| !mute) {
                        tunnels.handle_datagram(instant(), from, datagram, |_| true);
                    }
                }
                Some(TunnelCommand::LeaveNetwork) => left.clone_from(&known),
                Some(TunnelCommand::Forget) => {
                    tunnels = make();
                    streams.clear();
                    for (id, peer) in &peers {
                        tunnels.add_peer(*id, copy(peer), instant()).unwrap();
                    }
                }
                Some(TunnelCommand::Remove(id, code)) => {
                    tunnels.remove_peer(id, code as u64, instant());
                    peers.remove(&id);
                }
                None => return,
            },
            () = tokio::time::sleep(wait) => {}
        }
        tunnels.handle_timeout(instant());
    }
}

fn copy(peer: &PeerConfig) -> PeerConfig {
    PeerConfig {
        public_key: peer.public_key,
        preshared_key: peer.preshared_key.clone(),
        inner_address: peer.inner_address,
        device_certificate_sha256: peer.device_certificate_sha256,
    }
}

fn echo(tunnels: &mut ServerTunnels, streams: &mut Streams, peer: PeerId, stream: StreamId) {
    let (waiting, finished) = streams.entry((peer, stream)).or_default();
    loop {
        // Reads on only when all was written: back-pressure reaches the sender.
        while let Some(data) = waiting.front_mut() {
            match tunnels.write(peer, stream, data) {
                Ok(0) | Err(_) => return,
                Ok(_) if data.is_empty() => {
                    waiting.pop_front();
                }
                Ok(_) => {}
            }
        }
        if *finished {
            let _ = tunnels.finish(peer, stream);
            return;
        }
        match tunnels.read(peer, stream, 64 * 1024) {
            Ok(Read::Data(data)) => waiting.push_back(data),
            Ok(Read::Finished) => *finished = true,
            Ok(Read::Blocked) | Err(_) => return,
        }
    }
}

/// Runs one TLS connection that carries datagrams.
pub async fn carry(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    number: u64,
    tunnels: mpsc::UnboundedSender<TunnelCommand>,
    fallback: Fallback,
) {
    if fallback == Fallback::SendsGarbage {
        let _ = stream.write_all(&[0; 100]).await;
        let _ = stream.read_u8().await;
        return;
    }
    let (sender, mut outgoing) = mpsc::unbounded_channel();
    tunnels
        .send(TunnelCommand::Carrier(number, sender))
        .unwrap();
    let mut decoder = Decoder::new(&[]);
    loop {
        tokio::select! {
            read = stream.read_buf(decoder.memory()) => {
                let Ok(1..) = read else { return };
                let frames = decoder.take().expect("the agent sends frames");
                tunnels.send(TunnelCommand::Frames(number, frames)).unwrap();
            }
            framed = outgoing.recv() => {
                let framed: Vec<u8> = framed.unwrap();
                if fallback == Fallback::BreaksOff {
                    let _ = stream.write_all(&framed[..framed.len() / 2]).await;
                    return;
                }
                if stream.write_all(&framed).await.is_err() {
                    return;
                }
            }
        }
    }
}
