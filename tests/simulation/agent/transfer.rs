//! What a browser wants: so many bytes up and so many down, begun anew when its stream broke.

use bytes::Bytes;
use protocol::SessionId;
use tunnel::client::ClientTunnel;
use tunnel::{Read, StreamId};

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

    /// Moves what can be moved. A stream that was reset begins anew.
    pub(super) fn go_on(
        &mut self,
        tunnel: &mut ClientTunnel,
        session: SessionId,
    ) -> Result<(), String> {
        if self.stream.is_none() {
            self.stream = tunnel.open_stream();
        }
        let Some(stream) = self.stream else {
            return Ok(());
        };
        let length = ANNOUNCEMENT_BYTES + self.up;
        while self.sent < length {
            let mut piece = if self.sent < ANNOUNCEMENT_BYTES {
                let head = announce(self.id, session, self.up as u32, self.down as u32);
                Bytes::copy_from_slice(&head[self.sent..])
            } else {
                let from = self.sent - ANNOUNCEMENT_BYTES;
                Bytes::from(text(self.id, from, (self.up - from).min(PIECE_BYTES)))
            };
            match tunnel.write(stream, &mut piece) {
                Ok(0) => break,
                Ok(written) => self.sent += written,
                Err(_) => {
                    self.begin_anew();
                    return Ok(());
                }
            }
        }
        if self.sent == length && !self.sent_whole {
            self.sent_whole = tunnel.finish(stream).is_ok();
        }
        loop {
            match tunnel.read(stream, PIECE_BYTES) {
                Ok(Read::Data(data)) => {
                    if text(answer_of(self.id), self.received, data.len()) != data {
                        return Err(format!(
                            "wrong bytes in download {} from {}",
                            self.id, self.received
                        ));
                    }
                    self.received += data.len();
                }
                Ok(Read::Blocked) => return Ok(()),
                Ok(Read::Finished) if self.received == self.down && self.sent_whole => {
                    self.received = usize::MAX;
                    return Ok(());
                }
                Ok(Read::Finished) => {
                    let (id, received, down) = (self.id, self.received, self.down);
                    return Err(format!("download {id} of {down} ended after {received}"));
                }
                Err(_) => {
                    self.begin_anew();
                    return Ok(());
                }
            }
        }
    }
}
