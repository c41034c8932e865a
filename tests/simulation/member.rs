//! The portal's member listener as the gateway's streams find it, and the transfers on them.
//!
//! Each stream asks for what a page or an upload asks for: it announces a transfer, brings
//! so many bytes and is given so many back. Both directions are compared with the text that
//! the transfer's number stands for, byte by byte, and the announcement with the session
//! that the PROXY header names: nobody may speak for another.

use std::collections::HashMap;

use bytes::Bytes;
use gateway::event_loop::core::Relay;
use protocol::SessionId;
use protocol::proxy::Claim;
use tunnel::server::{PeerId, ServerTunnels};
use tunnel::{Read, StreamId};
use uuid::Uuid;

use crate::random::text;

/// Longest piece that is read or written at a time, in bytes.
pub const PIECE_BYTES: usize = 16 * 1024;

/// Announces a transfer: its number, its session, and the lengths of both directions.
pub const ANNOUNCEMENT_BYTES: usize = 32;

/// Writes an announcement.
pub fn announce(id: u64, session: SessionId, up: u32, down: u32) -> [u8; ANNOUNCEMENT_BYTES] {
    let mut out = [0; ANNOUNCEMENT_BYTES];
    out[..8].copy_from_slice(&id.to_le_bytes());
    out[8..24].copy_from_slice(session.as_uuid().as_bytes());
    out[24..28].copy_from_slice(&up.to_le_bytes());
    out[28..].copy_from_slice(&down.to_le_bytes());
    out
}

/// The number whose text comes back on transfer `id`.
pub fn answer_of(id: u64) -> u64 {
    !id
}

/// The listener.
#[derive(Default)]
pub struct Member {
    streams: HashMap<(PeerId, StreamId), Stream>,
    /// What must never happen, as it happened.
    pub faults: Vec<String>,
    /// PROXY headers that are to be checked with the portal's keys.
    pub headers: Vec<(SessionId, Claim)>,
    /// Bytes that came, and that were given to the tunnels.
    pub bytes_in: u64,
    pub bytes_out: u64,
}

#[derive(Default)]
struct Stream {
    announcement: Vec<u8>,
    announced: Option<Announced>,
    came: usize,
    came_whole: bool,
    given: usize,
    given_whole: bool,
}

#[derive(Clone, Copy)]
struct Announced {
    id: u64,
    up: usize,
    down: usize,
}

impl Member {
    /// How many streams are open.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    fn fault(&mut self, text: String) {
        self.faults.push(text);
    }

    fn read(&mut self, tunnels: &mut ServerTunnels, peer: PeerId, id: StreamId) {
        loop {
            if !self.streams.contains_key(&(peer, id)) {
                return;
            }
            match tunnels.read(peer, id, PIECE_BYTES) {
                Ok(Read::Data(data)) => {
                    self.bytes_in += data.len() as u64;
                    self.take(peer, id, &data);
                }
                Ok(Read::Blocked) => return,
                Ok(Read::Finished) => {
                    if let Some(stream) = self.streams.get_mut(&(peer, id)) {
                        stream.came_whole = true;
                        let wanted = stream.announced.map(|announced| announced.up);
                        if wanted != Some(stream.came) {
                            let came = stream.came;
                            self.fault(format!("an upload of {wanted:?} ended after {came}"));
                        }
                    }
                    return;
                }
                Err(_) => {
                    self.streams.remove(&(peer, id));
                    return;
                }
            }
        }
    }

    fn take(&mut self, peer: PeerId, id: StreamId, mut data: &[u8]) {
        let Some(stream) = self.streams.get_mut(&(peer, id)) else {
            return;
        };
        let missing = ANNOUNCEMENT_BYTES - stream.announcement.len();
        let (head, rest) = data.split_at(missing.min(data.len()));
        stream.announcement.extend_from_slice(head);
        data = rest;
        if stream.announced.is_none() && stream.announcement.len() == ANNOUNCEMENT_BYTES {
            let number = |from: usize| {
                let bytes = &stream.announcement[from..from + 4];
                u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
            };
            let mut session = [0; 16];
            session.copy_from_slice(&stream.announcement[8..24]);
            let mut transfer = [0; 8];
            transfer.copy_from_slice(&stream.announcement[..8]);
            stream.announced = Some(Announced {
                id: u64::from_le_bytes(transfer),
                up: number(24),
                down: number(28),
            });
            if PeerId(u128::from_be_bytes(session)) != peer {
                let said = Uuid::from_bytes(session);
                self.fault(format!(
                    "bytes of {said} came out of the tunnel of {peer:?}"
                ));
                return;
            }
        }
        let Some(announced) = stream.announced else {
            return;
        };
        if !data.is_empty() && text(announced.id, stream.came, data.len()) != data {
            let at = stream.came;
            self.fault(format!("wrong bytes in upload {} from {at}", announced.id));
            return;
        }
        stream.came += data.len();
    }

    fn write(&mut self, tunnels: &mut ServerTunnels, peer: PeerId, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&(peer, id)) else {
            return;
        };
        let Some(announced) = stream.announced else {
            return;
        };
        while stream.given < announced.down {
            let length = (announced.down - stream.given).min(PIECE_BYTES);
            let mut piece = Bytes::from(text(answer_of(announced.id), stream.given, length));
            match tunnels.write(peer, id, &mut piece) {
                Ok(0) => return,
                Ok(written) => {
                    stream.given += written;
                    self.bytes_out += written as u64;
                }
                Err(_) => {
                    self.streams.remove(&(peer, id));
                    return;
                }
            }
        }
        if stream.came_whole && !stream.given_whole {
            stream.given_whole = true;
            // If it is closed already the PC has gone.
            let _ = tunnels.finish(peer, id);
            self.streams.remove(&(peer, id));
        }
    }
}

impl Relay for Member {
    fn open(
        &mut self,
        tunnels: &mut ServerTunnels,
        peer: PeerId,
        stream: StreamId,
        header: Vec<u8>,
    ) {
        match Claim::parse(&header) {
            Ok(claim) => {
                let session = SessionId::from_uuid(Uuid::from_u128(peer.0));
                self.headers.push((session, claim));
            }
            Err(error) => self.fault(format!("no PROXY header: {error}")),
        }
        self.streams.insert((peer, stream), Stream::default());
        self.readable(tunnels, peer, stream);
    }

    fn readable(&mut self, tunnels: &mut ServerTunnels, peer: PeerId, stream: StreamId) {
        self.read(tunnels, peer, stream);
        self.write(tunnels, peer, stream);
    }

    fn writable(&mut self, tunnels: &mut ServerTunnels, peer: PeerId, stream: StreamId) {
        self.write(tunnels, peer, stream);
    }

    fn stopped(&mut self, tunnels: &mut ServerTunnels, peer: PeerId, stream: StreamId) {
        tunnels.reset(peer, stream, 0);
        tunnels.stop(peer, stream, 0);
        self.streams.remove(&(peer, stream));
    }

    fn drop_peer(&mut self, peer: PeerId) {
        self.streams.retain(|(other, _), _| *other != peer);
    }
}
