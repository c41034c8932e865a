//! One TCP connection to the portal's member listener, in a task of its own.
//!
//! Says first, in an authenticated header, for which session it speaks; then copies bytes.
//! It never holds more than a few chunks, and those within its session's [`super::budget`]:
//! what is not taken by the other side stays where it is, in QUIC's windows or in the portal's
//! socket. A side that is finished is passed on as a half-close, an abort as a reset: neither
//! end may take a torn upload for a whole one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::budget::{Purse, SMALL_BYTES, Share};
use super::links::LinkId;

/// Largest piece that moves at a time, in bytes.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// Pieces that wait in each direction.
pub(super) const CHUNKS_WAITING: usize = 4;

/// All of them but the one that is about to be read.
const OTHER_CHUNKS: u32 = CHUNKS_WAITING as u32 - 1;

/// What the kernel may keep of a connection beyond what is under way to the portal, and of
/// what came from there, in bytes: the portal is near, and its own buffers would grow to
/// megabytes.
const KERNEL_UP_BYTES: u32 = 64 * 1024;
const KERNEL_DOWN_BYTES: usize = 128 * 1024;

/// How long the portal may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What goes to the portal. Dropping the sender without [`Up::Finish`] aborts.
pub(super) enum Up {
    /// Bytes from the PC. The share is given back when the portal's socket has taken them; a
    /// small piece has none.
    Data(Bytes, Option<Share>),
    /// The PC will send no more.
    Finish,
}

/// What a connection tells the event loop.
pub(super) struct News {
    pub(super) link: LinkId,
    pub(super) what: What,
}

/// See [`News`].
pub(super) enum What {
    /// The portal's socket has taken a piece: there is room for another one.
    Room,
    /// Bytes from the portal, with what is given back when QUIC has taken them.
    Data(Bytes, Waits),
    /// The portal will send no more.
    Finished,
    /// The connection is gone.
    Failed(ConnectionError),
}

/// What a piece from the portal holds until QUIC has taken it: its place among the
/// connection's pieces, and its share, if it has one.
pub(super) struct Waits {
    _place: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// Why a connection to the portal is gone.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// The portal cannot be reached.
    #[error("cannot reach the portal's member listener")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("connection to the portal broke")]
    Broken(#[source] io::Error),
    /// The event loop wants no more of it.
    #[error("aborted")]
    Aborted,
}

/// Carries one stream. Ends when both directions are finished, when either breaks, or when
/// the sender of `up` is dropped.
pub(super) async fn carry(
    link: LinkId,
    portal: SocketAddr,
    header: Vec<u8>,
    up: mpsc::Receiver<Up>,
    purse: Purse,
    news: mpsc::Sender<News>,
) {
    match copy(link, portal, header, up, purse, &news).await {
        // What it held is free again.
        Ok(()) | Err(ConnectionError::Aborted) => tell(&news, link, What::Room).await,
        Err(error) => tell(&news, link, What::Failed(error)).await,
    }
}

async fn copy(
    link: LinkId,
    portal: SocketAddr,
    header: Vec<u8>,
    mut up: mpsc::Receiver<Up>,
    purse: Purse,
    news: &mpsc::Sender<News>,
) -> Result<(), ConnectionError> {
    let mut stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(portal))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(ConnectionError::Connect)?;
    stream.set_nodelay(true).map_err(ConnectionError::Broken)?;
    bound(&stream);
    let written = stream.write_all(&header).await;
    written.map_err(ConnectionError::Broken)?;
    let portal_finished = AtomicBool::new(false);
    let result = {
        let (reader, writer) = stream.split();
        tokio::try_join!(
            copy_up(link, &mut up, writer, news, &portal_finished),
            copy_down(link, reader, purse, news, &portal_finished)
        )
    };
    if result.is_err() {
        // Closing now sends a reset, which nobody takes for the end of the data.
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    result.map(|((), ())| ())
}

/// Keeps the kernel from gathering megabytes for each stream of a PC that lets none go on.
fn bound(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let bounded = socket
        .set_tcp_notsent_lowat(KERNEL_UP_BYTES)
        .and_then(|()| socket.set_recv_buffer_size(KERNEL_DOWN_BYTES));
    if let Err(error) = bounded {
        tracing::debug!(%error, "the kernel's buffers are not bounded");
    }
}

async fn copy_up(
    link: LinkId,
    up: &mut mpsc::Receiver<Up>,
    mut writer: WriteHalf<'_>,
    news: &mpsc::Sender<News>,
    portal_finished: &AtomicBool,
) -> Result<(), ConnectionError> {
    loop {
        match up.recv().await {
            Some(Up::Data(data, share)) => {
                let written = writer.write_all(&data).await;
                written.map_err(ConnectionError::Broken)?;
                drop((data, share));
                tell(news, link, What::Room).await;
            }
            Some(Up::Finish) => {
                writer.shutdown().await.map_err(ConnectionError::Broken)?;
                // An abort must still be noticed while the portal goes on sending.
                up.recv().await;
                return if portal_finished.load(Ordering::Relaxed) {
                    Ok(())
                } else {
                    Err(ConnectionError::Aborted)
                };
            }
            None => return Err(ConnectionError::Aborted),
        }
    }
}

async fn copy_down(
    link: LinkId,
    reader: ReadHalf<'_>,
    purse: Purse,
    news: &mpsc::Sender<News>,
    portal_finished: &AtomicBool,
) -> Result<(), ConnectionError> {
    let waiting = Arc::new(Semaphore::new(CHUNKS_WAITING));
    let mut memory = BytesMut::new();
    loop {
        let place = Arc::clone(&waiting).acquire_owned().await;
        let place = place.map_err(|_| ConnectionError::Aborted)?;
        // No memory is held for a connection on which nothing happens.
        reader.readable().await.map_err(ConnectionError::Broken)?;
        let share = tokio::select! {
            biased;
            share = purse.take(CHUNK_BYTES) => Some(share),
            // Nothing of this connection waits: a small piece may go without a share.
            _ = waiting.acquire_many(OTHER_CHUNKS) => None,
        };
        let most = if share.is_some() {
            CHUNK_BYTES
        } else {
            SMALL_BYTES
        };
        memory.reserve(most);
        let read = reader.try_read_buf(&mut (&mut memory).limit(most));
        let data = match read {
            Ok(0) => {
                portal_finished.store(true, Ordering::Relaxed);
                tell(news, link, What::Finished).await;
                return Ok(());
            }
            // A small piece must not keep a large block alive until it is acknowledged.
            Ok(length) if length < memory.capacity() / 4 * 3 => Bytes::copy_from_slice(&memory),
            Ok(_) => memory.split().freeze(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(ConnectionError::Broken(error)),
        };
        memory.clear();
        let share = share.map(|mut share| {
            share.shrink(data.len());
            share
        });
        let waits = Waits {
            _place: place,
            _share: share,
        };
        tell(news, link, What::Data(data, waits)).await;
        if memory.capacity() < CHUNK_BYTES {
            memory = BytesMut::new();
        }
    }
}

/// The event loop always listens; when it is gone, so are its tasks.
async fn tell(news: &mpsc::Sender<News>, link: LinkId, what: What) {
    let _ = news.send(News { link, what }).await;
}
