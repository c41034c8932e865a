//! Users of a tunnel: a long transfer, and somebody who loads pages beside it.
//!
//! Bytes are made and checked on the way, so that hundreds of megabytes need no memory.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::world::{World, pattern};
use crate::{Read, StreamId, WriteError};

/// What a transfer's bytes repeat. A prime, so that no shift by packets goes unseen.
const BLOCK_BYTES: usize = 1_000_003;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

/// Moves so many bytes one way, as fast as the tunnel takes them.
pub(super) struct Transfer {
    pc: usize,
    stream: StreamId,
    way: Way,
    length: u64,
    written: u64,
    pending: Bytes,
    arrived: u64,
    started: Instant,
    finished: Option<Instant>,
}

/// Asks and is answered, several times over one stream, as a browser does over TLS.
pub(super) struct Page {
    pc: usize,
    stream: StreamId,
    exchanges: Vec<(usize, usize)>,
    /// Bytes that are still to come to the gateway and to the PC in this exchange.
    awaited: (usize, usize),
    unsent: (Bytes, Bytes),
    started: Instant,
    took: Option<Duration>,
}

fn block() -> &'static Bytes {
    static MADE: OnceLock<Bytes> = OnceLock::new();
    MADE.get_or_init(|| Bytes::from(pattern(BLOCK_BYTES)))
}

impl Transfer {
    pub(super) fn start(world: &mut World, pc: usize, way: Way, length: u64) -> Self {
        let started = world.now;
        let stream = world.open_stream(pc);
        Self {
            pc,
            stream,
            way,
            length,
            written: 0,
            pending: Bytes::new(),
            arrived: 0,
            started,
            finished: None,
        }
    }

    /// Writes and reads what can be. True when all has arrived, and rightly.
    pub(super) fn advance(&mut self, world: &mut World) -> bool {
        if self.finished.is_some() {
            return true;
        }
        let id = world.pcs[self.pc].id;
        while self.written < self.length {
            if self.pending.is_empty() {
                let at = (self.written % BLOCK_BYTES as u64) as usize;
                let room = (BLOCK_BYTES - at).min((self.length - self.written) as usize);
                self.pending = block().slice(at..at + room);
            }
            let tunnel = &mut world.pcs[self.pc].tunnel;
            let taken = match self.way {
                Way::Up => tunnel.write(self.stream, &mut self.pending),
                Way::Down => world.gateway.write(id, self.stream, &mut self.pending),
            };
            let taken = taken
                .unwrap_or_else(|error| panic!("{error} after {}: {}", self.written, world.ends()));
            self.written += taken as u64;
            if self.written == self.length {
                let finished: Result<(), WriteError> = match self.way {
                    Way::Up => world.pcs[self.pc].tunnel.finish(self.stream),
                    Way::Down => world.gateway.finish(id, self.stream),
                };
                finished.unwrap();
            }
            if taken == 0 {
                break;
            }
        }
        loop {
            let read = match self.way {
                Way::Up => world.gateway.read(id, self.stream, usize::MAX),
                Way::Down => world.pcs[self.pc].tunnel.read(self.stream, usize::MAX),
            };
            match read
                .unwrap_or_else(|error| panic!("{error} after {}: {}", self.arrived, world.ends()))
            {
                Read::Data(data) => self.check(&data),
                Read::Blocked => return false,
                Read::Finished => {
                    assert_eq!(self.arrived, self.length);
                    self.finished = Some(world.now);
                    return true;
                }
            }
        }
    }

    fn check(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let at = (self.arrived % BLOCK_BYTES as u64) as usize;
            let length = data.len().min(BLOCK_BYTES - at);
            assert!(data[..length] == block()[at..at + length], "wrong bytes");
            self.arrived += length as u64;
            data = &data[length..];
        }
    }

    /// Bytes that have arrived so far.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Bytes per second from the opening of the stream to the last byte.
    pub(super) fn rate(&self) -> f64 {
        let took = self.finished.unwrap() - self.started;
        self.length as f64 / took.as_secs_f64()
    }
}

impl Page {
    /// A page over a connection of its own: TLS to the portal, then 30 KB.
    pub(super) fn start(world: &mut World, pc: usize) -> Self {
        let started = world.now;
        let tunnel = &mut world.pcs[pc].tunnel;
        let stream = tunnel.open_stream().expect("a stream is free");
        let mut page = Self {
            pc,
            stream,
            exchanges: vec![(600, 30_000), (500, 3_000)],
            awaited: (0, 0),
            unsent: (Bytes::new(), Bytes::new()),
            started,
            took: None,
        };
        page.ask();
        page
    }

    fn ask(&mut self) -> bool {
        let Some((question, answer)) = self.exchanges.pop() else {
            return false;
        };
        self.awaited = (question, answer);
        self.unsent = (block().slice(..question), block().slice(..answer));
        true
    }

    /// True when the page is there.
    pub(super) fn advance(&mut self, world: &mut World) -> bool {
        if self.took.is_some() {
            return true;
        }
        let id = world.pcs[self.pc].id;
        let tunnel = &mut world.pcs[self.pc].tunnel;
        if !self.unsent.0.is_empty() {
            tunnel.write(self.stream, &mut self.unsent.0).unwrap();
        }
        while let Ok(Read::Data(data)) = world.gateway.read(id, self.stream, usize::MAX) {
            self.awaited.0 -= data.len();
        }
        if self.awaited.0 == 0 && !self.unsent.1.is_empty() {
            let answer = &mut self.unsent.1;
            world.gateway.write(id, self.stream, answer).unwrap();
        }
        let tunnel = &mut world.pcs[self.pc].tunnel;
        while let Ok(Read::Data(data)) = tunnel.read(self.stream, usize::MAX) {
            self.awaited.1 -= data.len();
        }
        if self.awaited == (0, 0) && !self.ask() {
            self.took = Some(world.now - self.started);
            tunnel.finish(self.stream).unwrap();
            tunnel.stop(self.stream, 0);
            let _ = world.gateway.finish(id, self.stream);
            return true;
        }
        false
    }

    /// How long it took from the click to the last byte.
    pub(super) fn took(&self) -> Duration {
        self.took.unwrap()
    }
}
