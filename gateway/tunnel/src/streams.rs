//! Reading and writing streams, alike at both ends.
//!
//! Thin: quinn's many error types become the few that a copier of bytes can act on. Only
//! streams that carry data both ways are reachable from outside.

use bytes::Bytes;
use quinn_proto::{Connection, Dir, FinishError, StreamId, VarInt};

/// What a stream had to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The next bytes, never none.
    Data(Bytes),
    /// Nothing yet: a readable event follows.
    Blocked,
    /// All was read: the other end will send no more on this stream.
    Finished,
}

/// Why a stream cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The other end gave up sending; what it sent before may be missing.
    #[error("stream was reset with code {0}")]
    Reset(u64),
    /// There is no such stream, or it was read to its end or stopped before.
    #[error("stream is closed")]
    Closed,
}

/// Why a stream cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The other end wants no more of this stream.
    #[error("stream was stopped with code {0}")]
    Stopped(u64),
    /// There is no such stream, or it was finished or reset before.
    #[error("stream is closed")]
    Closed,
}

/// Reads at most `max_bytes`.
pub(crate) fn read(
    connection: &mut Connection,
    id: StreamId,
    max_bytes: usize,
) -> Result<Read, ReadError> {
    let mut stream = connection.recv_stream(id);
    let mut chunks = stream.read(true).map_err(|_| ReadError::Closed)?;
    let next = chunks.next(max_bytes);
    // Whether this calls for a packet shows in the next poll_transmit, which both ends call
    // after each reading.
    let _ = chunks.finalize();
    match next {
        Ok(Some(chunk)) => Ok(Read::Data(chunk.bytes)),
        Ok(None) => Ok(Read::Finished),
        Err(quinn_proto::ReadError::Blocked) => Ok(Read::Blocked),
        Err(quinn_proto::ReadError::Reset(code)) => Err(ReadError::Reset(code.into_inner())),
    }
}

/// Takes what fits off the front of `data` and returns how much that was. Zero means: a
/// writable event follows.
pub(crate) fn write(
    connection: &mut Connection,
    id: StreamId,
    data: &mut Bytes,
) -> Result<usize, WriteError> {
    let result = connection
        .send_stream(id)
        .write_chunks(std::slice::from_mut(data));
    match result {
        Ok(written) => Ok(written.bytes),
        Err(quinn_proto::WriteError::Blocked) => Ok(0),
        Err(quinn_proto::WriteError::Stopped(code)) => Err(WriteError::Stopped(code.into_inner())),
        Err(quinn_proto::WriteError::ClosedStream) => Err(WriteError::Closed),
    }
}

/// Says that no more will be written; what was written still arrives.
pub(crate) fn finish(connection: &mut Connection, id: StreamId) -> Result<(), WriteError> {
    match connection.send_stream(id).finish() {
        Ok(()) => Ok(()),
        Err(FinishError::Stopped(code)) => Err(WriteError::Stopped(code.into_inner())),
        Err(FinishError::ClosedStream) => Err(WriteError::Closed),
    }
}

/// Gives up sending: what was written may not arrive. Without effect on a finished stream.
pub(crate) fn reset(connection: &mut Connection, id: StreamId, code: u64) {
    let _ = connection.send_stream(id).reset(varint(code));
}

/// Gives up reading. Without effect on a stream that was read to its end.
pub(crate) fn stop(connection: &mut Connection, id: StreamId, code: u64) {
    let _ = connection.recv_stream(id).stop(varint(code));
}

/// Says whether `id` is one of the streams that carry data both ways.
pub(crate) fn is_two_way(id: StreamId) -> bool {
    id.dir() == Dir::Bi
}

/// QUIC's codes have 62 bits; larger ones are cut to the largest.
pub(crate) fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}
