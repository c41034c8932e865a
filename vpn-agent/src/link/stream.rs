//! One stream of the tunnel as an ordinary async stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tunnel::{Read, StreamId};

use super::Shared;

/// Most bytes that are handed to the tunnel at once.
const WRITE_BYTES: usize = 64 * 1024;

/// A stream to the portal. Dropped before both sides have finished, it is reset.
pub struct LinkStream {
    shared: Arc<Shared>,
    id: StreamId,
    finished: bool,
    read_to_end: bool,
}

impl LinkStream {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        Self {
            shared,
            id,
            finished: false,
            read_to_end: false,
        }
    }

    fn check_end(&self) -> io::Result<()> {
        match *self.shared.end.borrow() {
            Some(end) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                format!("the tunnel is over: {end:?}"),
            )),
            None => Ok(()),
        }
    }
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl AsyncRead for LinkStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_to_end || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut lent = self.shared.lent();
        let read = lent.core.tunnel.read(self.id, buffer.remaining());
        if matches!(read, Ok(Read::Blocked)) {
            // Under the lock that the task takes before it tells of the end.
            lent.readers.insert(self.id, context.waker().clone());
        }
        if matches!(read, Ok(Read::Data(_))) {
            lent.core.stream_moved();
        }
        drop(lent);
        match read {
            Ok(Read::Data(data)) => {
                buffer.put_slice(&data);
                self.shared.wake.notify_one();
                Poll::Ready(Ok(()))
            }
            Ok(Read::Blocked) => match self.check_end() {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            Ok(Read::Finished) => {
                self.read_to_end = true;
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(broken(error))),
        }
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Err(error) = self.check_end() {
            return Poll::Ready(Err(error));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut chunk = Bytes::copy_from_slice(&data[..data.len().min(WRITE_BYTES)]);
        let mut lent = self.shared.lent();
        let written = lent.core.tunnel.write(self.id, &mut chunk);
        if matches!(written, Ok(0)) {
            lent.writers.insert(self.id, context.waker().clone());
        } else {
            lent.core.stream_moved();
        }
        drop(lent);
        match written {
            Ok(0) => match self.check_end() {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            Ok(written) => {
                self.shared.wake.notify_one();
                Poll::Ready(Ok(written))
            }
            Err(error) => Poll::Ready(Err(broken(error))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            self.finished = true;
            let finished = self.shared.lent().core.tunnel.finish(self.id);
            self.shared.wake.notify_one();
            return Poll::Ready(finished.map_err(broken));
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        let mut lent = self.shared.lent();
        lent.readers.remove(&self.id);
        lent.writers.remove(&self.id);
        lent.core
            .drop_stream(self.id, self.finished, self.read_to_end);
        drop(lent);
        self.shared.wake.notify_one();
    }
}
