//! What a browser wants: so many bytes up and so many down, begun anew when its stream broke.

use bytes::Bytes;
use protocol::SessionId;
use tunnel::{Read, StreamId};
use vpn_agent::link::core::Core;

use crate::member::{ANNOUNCEMENT_BYTES, PIECE_BYTES, announce, answer_of};
use crate::random::text;

/// What a browser wants.
pub(super) struct Transfer {
    pub(super) id: u64,
    pub(super) up: usize,
    pub(super) down: usize,
    pub(super) stream: Option<StreamId>,
    pub(super) sent: usize,
    pub(super) sent_whole: bool,
    pub(super) received: usize,
}

impl Transfer {
    pub(super) fn is_done(&self) -> bool {
        self.received == usize::MAX
    }

    pub(super) fn begin_anew(&mut self) {
        self.stream = None;
        self.sent = 0;
        self.sent_whole = false;
        self.received = 0;
    }

    /// Moves what can be moved, and says how much that was. A stream that was reset begins
    /// anew.
    pub(super) fn go_on(&mut self, core: &mut Core, session: SessionId) -> Result<u64, String> {
        if self.stream.is_none() {
            self.stream = core.open_stream();
        }
        let Some(stream) = self.stream else {
            return Ok(0);
        };
        let (sent, received) = (self.sent, self.received);
        let whole = self.send(core, stream, session) && self.receive(core, stream)?;
        if !whole {
            core.drop_stream(stream, false, false);
            self.begin_anew();
            return Ok(0);
        }
        if self.is_done() {
            core.drop_stream(stream, true, true);
            return Ok(1);
        }
        let moved = (self.sent - sent + self.received - received) as u64;
        if moved > 0 {
            core.stream_moved();
        }
        Ok(moved)
    }

    /// False if the stream is broken.
    fn send(&mut self, core: &mut Core, stream: StreamId, session: SessionId) -> bool {
        let length = ANNOUNCEMENT_BYTES + self.up;
        while self.sent < length {
            let mut piece = if self.sent < ANNOUNCEMENT_BYTES {
                let head = announce(self.id, session, self.up as u32, self.down as u32);
                Bytes::copy_from_slice(&head[self.sent..])
            } else {
                let from = self.sent - ANNOUNCEMENT_BYTES;
                Bytes::from(text(self.id, from, (self.up - from).min(PIECE_BYTES)))
            };
            match core.tunnel.write(stream, &mut piece) {
                Ok(0) => break,
                Ok(written) => self.sent += written,
                Err(_) => return false,
            }
        }
        if self.sent == length && !self.sent_whole {
            self.sent_whole = core.tunnel.finish(stream).is_ok();
        }
        true
    }

    /// False if the stream is broken; an error if what came is wrong.
    fn receive(&mut self, core: &mut Core, stream: StreamId) -> Result<bool, String> {
        loop {
            match core.tunnel.read(stream, PIECE_BYTES) {
                Ok(Read::Data(data)) => {
                    if text(answer_of(self.id), self.received, data.len()) != data {
                        return Err(format!(
                            "wrong bytes in download {} from {}",
                            self.id, self.received
                        ));
                    }
                    self.received += data.len();
                }
                Ok(Read::Blocked) => return Ok(true),
                Ok(Read::Finished) if self.received == self.down && self.sent_whole => {
                    self.received = usize::MAX;
                    return Ok(true);
                }
                Ok(Read::Finished) => {
                    let (id, received, down) = (self.id, self.received, self.down);
                    return Err(format!("download {id} of {down} ended after {received}"));
                }
                Err(_) => return Ok(false),
            }
        }
    }
}
