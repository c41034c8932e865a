//! TLS connections that carry a tunnel's datagrams, for networks that let no UDP pass.
//!
//! The agent API hands a device's connection over with [`Entrance::carry`]; a task of its own
//! then moves frames between the connection and the data path. It never decides who may
//! pass: the data path asks that about every datagram, and holds the connection to the
//! device whose certificate was shown in it.
//!
//! Nothing waits without a bound. Towards the data path a connection waits with its next
//! read until the last one was taken, so that TCP slows the sender down. Towards the PC at
//! most [`WAITING_LIMIT_BYTES`] wait; before that the data path holds the session's QUIC back
//! (see [`tunnel::server::ServerTunnels::hold`]).

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::Bytes32;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tunnel::frames::{self, Decoder, Frames, NotAFrame};

/// Connections at a time, of all devices together.
pub const CONNECTIONS_LIMIT: usize = 8192;

/// Most that waits for one connection to take it, in bytes: 10 ms at 200 Mbit/s, where a
/// task that is late by a few milliseconds must not leave the line empty, and 100 ms at
/// 20 Mbit/s, where whatever stands here delays a page beside a running download. It is
/// less than what BBR keeps under way by itself, so that it never fills for long.
pub const WAITING_LIMIT_BYTES: usize = 256 * 1024;

/// Room that is left when the sender is asked to hold back: the largest burst must still fit.
pub const LOW_ROOM_BYTES: usize = 64 * 1024;

/// Most that the kernel keeps of a connection beyond what is under way, in bytes. Its own
/// buffer would grow to megabytes: seconds of queue that no congestion control inside sees.
pub const KERNEL_WAITING_BYTES: u32 = 128 * 1024;

/// News that wait for the data path; connections wait with their next read while it is full.
const NEWS_WAITING: usize = 64;

/// How long a connection that is to be closed may take to write its last bytes and hear the
/// other end's farewell.
const CLOSING_LIMIT: Duration = Duration::from_secs(2);

/// Names a connection. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What a connection tells the data path.
#[derive(Debug)]
pub struct News {
    /// Which connection.
    pub connection: ConnectionId,
    /// What.
    pub what: What,
}

/// See [`News`].
#[derive(Debug)]
pub enum What {
    /// There is a new connection.
    Opened(Opened),
    /// Datagrams came.
    Datagrams(Frames),
    /// There is room again, after [`Outbox::push`] said that it was low.
    Room,
    /// The connection is gone.
    Closed,
}

/// A new connection.
#[derive(Debug)]
pub struct Opened {
    /// SHA-256 of the certificate that was shown in it.
    pub device_certificate_sha256: Bytes32,
    /// Who is at the other end.
    pub remote: IpAddr,
    /// Where datagrams for the PC are put. Dropping it closes the connection.
    pub outbox: Outbox,
}

/// Where the agent API hands connections over to the data path.
#[derive(Debug, Clone)]
pub struct Entrance {
    news: mpsc::Sender<News>,
    room: Arc<Semaphore>,
    next: Arc<AtomicU64>,
}

/// A connection's place among [`CONNECTIONS_LIMIT`].
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The PC hung up.
    #[error("hung up")]
    HungUp,
    /// The data path wants no more of it.
    #[error("closed here")]
    Closed,
    /// What came was no frame.
    #[error("not understood: {0}")]
    NotAFrame(#[from] NotAFrame),
    /// The connection broke.
    #[error("broken: {0}")]
    Broken(#[from] io::Error),
}

impl Entrance {
    /// Makes the entrance and the data path's end of it.
    pub fn new() -> (Self, mpsc::Receiver<News>) {
        let (news, queue) = mpsc::channel(NEWS_WAITING);
        let entrance = Self {
            news,
            room: Arc::new(Semaphore::new(CONNECTIONS_LIMIT)),
            next: Arc::new(AtomicU64::new(0)),
        };
        (entrance, queue)
    }

    /// Takes a place, if one is free.
    pub fn place(&self) -> Option<Place> {
        let room = Arc::clone(&self.room);
        let permit = room.try_acquire_owned().ok()?;
        Some(Place { _permit: permit })
    }

    /// Carries datagrams until either end has enough. `first` is what was read beyond the
    /// request.
    pub async fn carry(
        self,
        place: Place,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        first: &[u8],
        device_certificate_sha256: Bytes32,
        remote: IpAddr,
    ) -> Ended {
        let connection = ConnectionId(self.next.fetch_add(1, Ordering::Relaxed));
        let outbox = Outbox::default();
        let opened = Opened {
            device_certificate_sha256,
            remote,
            outbox: outbox.share(),
        };
        let tell = |what| {
            let news = &self.news;
            async move {
                let told = news.send(News { connection, what }).await;
                // Without a data path there is no session.
                told.map_err(|_| Ended::Closed)
            }
        };
        let ended = async {
            tell(What::Opened(opened)).await?;
            let (mut reader, mut writer) = tokio::io::split(stream);
            let read = async {
                let mut decoder = Decoder::new(first);
                loop {
                    let frames = decoder.take()?;
                    if !frames.is_empty() {
                        tell(What::Datagrams(frames)).await?;
                    }
                    if reader.read_buf(decoder.memory()).await? == 0 {
                        return Err::<(), Ended>(Ended::HungUp);
                    }
                }
            };
            let write = async {
                let mut burst = Vec::new();
                while outbox.next(&mut burst).await {
                    writer.write_all(&burst).await?;
                    writer.flush().await?;
                    if outbox.written() {
                        tell(What::Room).await?;
                    }
                }
                // What was read until the PC has hung up as well is still passed on.
                writer.shutdown().await?;
                Ok(())
            };
            let cut = async {
                outbox.closing().await;
                tokio::time::sleep(CLOSING_LIMIT).await;
                Err::<(), Ended>(Ended::Closed)
            };
            tokio::try_join!(read, write, cut).map(|_| ())
        };
        let ended = ended.await.err().unwrap_or(Ended::Closed);
        outbox.forget();
        let _ = tell(What::Closed).await;
        drop(place);
        ended
    }
}

/// Frames that wait for a connection to take them: the data path's end. Dropping it closes
/// the connection when all is written.
#[derive(Debug, Default)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pile: Mutex<Pile>,
    /// There is something to write, or nothing ever again.
    wake: Notify,
    /// No more comes.
    closing: Notify,
}

#[derive(Debug, Default)]
struct Pile {
    waiting: Vec<u8>,
    writing_bytes: usize,
    is_closed: bool,
    asks_for_room: bool,
}

/// What became of a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// Taken, and the next one will be too.
    Taken,
    /// Taken, but little room is left: hold back until [`What::Room`].
    TakenLowRoom,
    /// Dropped for want of room, or because the connection is gone.
    Dropped,
}

impl Outbox {
    fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    fn pile(&self) -> MutexGuard<'_, Pile> {
        self.0.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a burst behind what waits; see [`frames::write`].
    pub fn push(&self, contents: &[u8], segment_size: usize) -> Pushed {
        let mut pile = self.pile();
        let queued = pile.waiting.len() + pile.writing_bytes;
        let room = WAITING_LIMIT_BYTES.saturating_sub(queued);
        let needed = frames::framed_bytes(contents.len(), segment_size);
        if pile.is_closed || needed > room {
            return Pushed::Dropped;
        }
        frames::write(&mut pile.waiting, contents, segment_size);
        self.0.wake.notify_one();
        if room - needed < LOW_ROOM_BYTES {
            pile.asks_for_room = true;
            Pushed::TakenLowRoom
        } else {
            Pushed::Taken
        }
    }

    /// Throws away what waits: its session is over.
    pub fn discard(&self) {
        self.pile().waiting.clear();
    }

    /// Takes no more; when all is written, the connection is closed.
    pub fn close(&self) {
        self.pile().is_closed = true;
        self.0.wake.notify_one();
        self.0.closing.notify_one();
    }

    /// Takes all that waits in place of `burst`, which was written. False: that was all.
    async fn next(&self, burst: &mut Vec<u8>) -> bool {
        burst.clear();
        // Memory is kept for a busy connection only.
        burst.shrink_to(LOW_ROOM_BYTES);
        loop {
            {
                let mut pile = self.pile();
                if !pile.waiting.is_empty() {
                    std::mem::swap(&mut pile.waiting, burst);
                    pile.writing_bytes = burst.len();
                    return true;
                }
                if pile.is_closed {
                    return false;
                }
            }
            self.0.wake.notified().await;
        }
    }

    /// Notes that the last burst is written. True if somebody waits for room and there is
    /// some.
    fn written(&self) -> bool {
        let mut pile = self.pile();
        pile.writing_bytes = 0;
        let has_room = pile.waiting.len() <= WAITING_LIMIT_BYTES / 2;
        has_room && std::mem::take(&mut pile.asks_for_room)
    }

    async fn closing(&self) {
        self.0.closing.notified().await;
    }

    /// The connection is gone: takes nothing any more and frees the memory.
    fn forget(&self) {
        let mut pile = self.pile();
        pile.is_closed = true;
        pile.waiting = Vec::new();
        pile.writing_bytes = 0;
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::io::DuplexStream;
    use tokio::task::JoinHandle;

    const LONG: Duration = Duration::from_secs(20);
    const DEVICE: Bytes32 = Bytes32([7; 32]);

    async fn within<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(LONG, what)
            .await
            .expect("this does not take so long")
    }

    struct Carried {
        pc: DuplexStream,
        news: mpsc::Receiver<News>,
        task: JoinHandle<Ended>,
        opened: Opened,
    }

    async fn carried(first: &'static [u8], pipe_bytes: usize) -> Carried {
        let (entrance, mut news) = Entrance::new();
        let (pc, stream) = tokio::io::duplex(pipe_bytes);
        let place = entrance.place().unwrap();
        let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let task = entrance.carry_owned(place, stream, first, DEVICE, remote);
        let task = tokio::spawn(task);
        let What::Opened(opened) = within(news.recv()).await.unwrap().what else {
            panic!("the first news is the connection itself");
        };
        Carried {
            pc,
            news,
            task,
            opened,
        }
    }

    impl Entrance {
        async fn carry_owned(
            self,
            place: Place,
            stream: DuplexStream,
            first: &'static [u8],
            device: Bytes32,
            remote: IpAddr,
        ) -> Ended {
            self.carry(place, stream, first, device, remote).await
        }
    }

    impl Carried {
        async fn next_datagrams(&mut self) -> Vec<Vec<u8>> {
            match within(self.news.recv()).await.unwrap().what {
                What::Datagrams(frames) => frames.datagrams().map(<[u8]>::to_vec).collect(),
                other => panic!("{other:?}"),
            }
        }

        async fn is_closed(&mut self) {
            while let Some(news) = within(self.news.recv()).await {
                if matches!(news.what, What::Closed) {
                    return;
                }
            }
            panic!("the data path is told");
        }
    }

    #[tokio::test]
    async fn datagrams_pass_both_ways_and_those_behind_the_request_come_first() {
        let mut carried = carried(b"\0\x05first\0\x06sec", 1000).await;
        assert_eq!(carried.next_datagrams().await, [b"first"]);
        carried.pc.write_all(b"ond").await.unwrap();
        assert_eq!(carried.next_datagrams().await, [b"second"]);
        let pushed = carried.opened.outbox.push(b"onetwo3", 3);
        assert_eq!(pushed, Pushed::Taken);
        let mut answer = [0; 13];
        within(carried.pc.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"\0\x03one\0\x03two\0\x013");
        assert_eq!(carried.opened.device_certificate_sha256, DEVICE);
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_the_connection() {
        for junk in [&b"\0\0"[..], b"\xff\xffxx", b"GET / HTTP/1.1\r\n\r\n"] {
            let mut carried = carried(b"", 1000).await;
            carried.pc.write_all(junk).await.unwrap();
            carried.is_closed().await;
            let ended = within(carried.task).await.unwrap();
            assert!(matches!(ended, Ended::NotAFrame(_)), "{ended}");
            assert_eq!(carried.opened.outbox.push(b"x", 1), Pushed::Dropped);
        }
    }

    #[tokio::test]
    async fn a_pc_that_does_not_read_costs_a_bounded_queue_and_then_holds_its_session_back() {
        let mut carried = carried(b"", 1000).await;
        let burst = vec![1; 50_000];
        let mut taken = 0;
        let last = loop {
            match carried.opened.outbox.push(&burst, 1000) {
                Pushed::Taken => taken += 1,
                last => break last,
            }
        };
        assert_eq!(last, Pushed::TakenLowRoom, "asked to hold back first");
        while carried.opened.outbox.push(&burst, 1000) != Pushed::Dropped {
            taken += 1;
        }
        assert!((taken + 1) * burst.len() <= WAITING_LIMIT_BYTES);
        // As soon as it reads, there is room again.
        let mut sink = vec![0; 4 * WAITING_LIMIT_BYTES];
        let reading = async { while carried.pc.read(&mut sink).await.unwrap() > 0 {} };
        let room = async {
            let news = within(carried.news.recv()).await.unwrap();
            assert!(matches!(news.what, What::Room));
        };
        tokio::select! {
            () = reading => panic!("nobody hung up"),
            () = room => {}
        }
    }

    #[tokio::test]
    async fn a_farewell_is_written_before_the_connection_is_closed() {
        let mut carried = carried(b"", 1000).await;
        let outbox = carried.opened.outbox;
        outbox.push(b"of a session that is over", 100);
        outbox.discard();
        outbox.push(b"farewell", 100);
        drop(outbox);
        let mut all = Vec::new();
        within(carried.pc.read_to_end(&mut all)).await.unwrap();
        assert!(all.ends_with(b"\0\x08farewell"));
        drop(carried.pc);
        let ended = within(carried.task).await.unwrap();
        assert!(matches!(ended, Ended::HungUp), "{ended}");
    }

    #[tokio::test]
    async fn a_pc_that_does_not_read_does_not_keep_a_closed_connection_open() {
        let carried = carried(b"", 10).await;
        carried.opened.outbox.push(&[1; 1000], 1000);
        drop(carried.opened);
        let ended = within(carried.task).await.unwrap();
        assert!(matches!(ended, Ended::Closed), "{ended}");
    }

    #[tokio::test]
    async fn places_are_bounded_and_given_back() {
        let (entrance, _news) = Entrance::new();
        let mut places: Vec<_> = std::iter::from_fn(|| entrance.place()).collect();
        assert_eq!(places.len(), CONNECTIONS_LIMIT);
        places.pop();
        assert!(entrance.place().is_some());
    }
}
