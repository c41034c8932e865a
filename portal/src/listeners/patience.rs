//! A stream that gives up when nothing moves.
//!
//! Whoever stops reading an answer, or sends half a body and falls silent, would otherwise
//! hold a connection for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Fails with [`io::ErrorKind::TimedOut`] when no byte went either way for `limit`.
#[derive(Debug)]
pub(super) struct Patient<IO> {
    stream: IO,
    limit: Duration,
    silence: Pin<Box<Sleep>>,
}

impl<IO> Patient<IO> {
    pub(super) fn new(stream: IO, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            silence: Box::pin(sleep(limit)),
        }
    }

    /// Passes a result on; while there is none, the silence goes on.
    fn judge<T>(
        &mut self,
        moved: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        match moved {
            Poll::Ready(moved) => {
                self.silence.set(sleep(self.limit));
                Poll::Ready(moved)
            }
            Poll::Pending => {
                ready!(self.silence.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Patient<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.judge(moved, cx)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Patient<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(moved, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.judge(moved, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(cx) {
            // A flush that finds nothing to do is no sign of life.
            Poll::Ready(flushed) => Poll::Ready(flushed),
            Poll::Pending => self.judge(Poll::Pending, cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(shut, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn bytes_pass_and_silence_ends_the_stream() {
        let (mut near, far) = duplex(16);
        let mut patient = Patient::new(far, SHORT);
        near.write_all(b"xyz").await.unwrap();
        let mut read = [0; 3];
        patient.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"xyz");
        let error = patient.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_reader_that_stops_reading_ends_the_stream() {
        let (_near, far) = duplex(16);
        let mut patient = Patient::new(far, SHORT);
        let error = patient.write_all(&[0; 17]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
