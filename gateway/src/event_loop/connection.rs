//! One TCP connection to the portal's member listener, in a task of its own.
//!
//! Says first, in an authenticated header, for which session it speaks; then copies bytes.
//! It never holds more than a few chunks: what is not taken by the other side stays where it
//! is, in QUIC's windows or in the portal's socket. A side that is finished is passed on as
//! a half-close, an abort as a reset: neither end may take a torn upload for a whole one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::links::LinkId;

/// Largest piece that moves at a time, in bytes.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// Pieces that wait in each direction.
pub(super) const CHUNKS_WAITING: usize = 4;

/// How long the portal may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What goes to the portal. Dropping the sender without [`Up::Finish`] aborts.
pub(super) enum Up {
    /// Bytes from the PC.
    Data(Bytes),
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
    /// There is room for another piece towards the portal.
    Room,
    /// Bytes from the portal. The permit is given back when QUIC has taken them.
    Data(Bytes, OwnedSemaphorePermit),
    /// The portal will send no more.
    Finished,
    /// The connection is gone.
    Failed(ConnectionError),
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
    news: mpsc::Sender<News>,
) {
    match copy(link, portal, header, up, &news).await {
        Ok(()) | Err(ConnectionError::Aborted) => {}
        Err(error) => tell(&news, link, What::Failed(error)).await,
    }
}

async fn copy(
    link: LinkId,
    portal: SocketAddr,
    header: Vec<u8>,
    mut up: mpsc::Receiver<Up>,
    news: &mpsc::Sender<News>,
) -> Result<(), ConnectionError> {
    let mut stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(portal))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(ConnectionError::Connect)?;
    stream.set_nodelay(true).map_err(ConnectionError::Broken)?;
    let written = stream.write_all(&header).await;
    written.map_err(ConnectionError::Broken)?;
    let portal_finished = AtomicBool::new(false);
    let result = {
        let (reader, writer) = stream.split();
        tokio::try_join!(
            copy_up(link, &mut up, writer, news, &portal_finished),
            copy_down(link, reader, news, &portal_finished)
        )
    };
    if result.is_err() {
        // Closing now sends a reset, which nobody takes for the end of the data.
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    result.map(|((), ())| ())
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
            Some(Up::Data(data)) => {
                tell(news, link, What::Room).await;
                let written = writer.write_all(&data).await;
                written.map_err(ConnectionError::Broken)?;
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
    news: &mpsc::Sender<News>,
    portal_finished: &AtomicBool,
) -> Result<(), ConnectionError> {
    let waiting = Arc::new(Semaphore::new(CHUNKS_WAITING));
    let mut memory = BytesMut::new();
    loop {
        let permit = Arc::clone(&waiting).acquire_owned().await;
        let permit = permit.map_err(|_| ConnectionError::Aborted)?;
        // No memory is held for a connection on which nothing happens.
        reader.readable().await.map_err(ConnectionError::Broken)?;
        memory.reserve(CHUNK_BYTES);
        let data = match reader.try_read_buf(&mut memory) {
            Ok(0) => {
                portal_finished.store(true, Ordering::Relaxed);
                tell(news, link, What::Finished).await;
                return Ok(());
            }
            // A small piece must not keep a large block alive until it is acknowledged.
            Ok(length) if length < CHUNK_BYTES / 4 => Bytes::copy_from_slice(&memory),
            Ok(_) => memory.split().freeze(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(ConnectionError::Broken(error)),
        };
        memory.clear();
        tell(news, link, What::Data(data, permit)).await;
        if memory.capacity() < CHUNK_BYTES {
            memory = BytesMut::new();
        }
    }
}

/// The event loop always listens; when it is gone, so are its tasks.
async fn tell(news: &mpsc::Sender<News>, link: LinkId, what: What) {
    let _ = news.send(News { link, what }).await;
}
