//! The tunnel's datagrams over one TLS connection to the agent API's port.
//!
//! `GET /v1/tunnel` with `Upgrade: renkei-wireguard`, then frames ([`tunnel::frames`]) both
//! ways. The first frames are sent right behind the request, without waiting for its answer.
//! What waits to be sent is bounded: a full way makes QUIC wait, which knows what to do about
//! a slow path, instead of filling a queue that adds seconds to every answer.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use protocol::agent_api::{TUNNEL_PATH, TUNNEL_UPGRADE};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tunnel::frames::{self, Decoder, Frames, NotAFrame};

use crate::dial::head::{self, Head, HeadError};
use crate::dial::{Connection, DialError};
use crate::urls::GatewayUrl;

/// A burst is taken while less than this waits, in bytes: 5 ms at 200 Mbit/s, so that the
/// connection does not run dry while the next one is made; 50 ms at 20 Mbit/s, by which a page
/// beside a running upload is late.
const QUEUE_BYTES: usize = 128 * 1024;

/// What the system may hold that was not sent yet, in bytes. Its own default is megabytes.
const UNSENT_BYTES: u32 = 128 * 1024;

/// Reads that may wait to be looked at; then the other end is made to wait.
const MAX_WAITING_READS: usize = 16;

/// How long the last words may take.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// Why a TLS way is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsWayError {
    /// No connection.
    #[error("no connection")]
    Dial(#[source] DialError),
    /// The gateway does not carry the tunnel over TLS, or not for this PC now.
    #[error("refused with status {0}")]
    Refused(u16),
    /// The other end does not speak as a gateway does.
    #[error("not a gateway's answer")]
    Garbage(#[source] HeadError),
    /// Something else than frames came.
    #[error("not a frame")]
    NotAFrame(#[source] NotAFrame),
    /// The connection broke or was ended.
    #[error("the connection ended")]
    Cut(#[source] io::Error),
}

/// A connection that carries datagrams. Dropped, it ends once what waits was sent.
pub(super) struct TlsWay {
    outgoing: Arc<Outgoing>,
    incoming: mpsc::Receiver<Result<Frames, TlsWayError>>,
}

/// What waits to be sent.
struct Outgoing {
    queue: Mutex<Queue>,
    filled: Notify,
}

struct Queue {
    bytes: Vec<u8>,
    ended: bool,
}

/// Asks whether the gateway would carry the tunnel over `connection`; nothing is carried.
///
/// # Errors
/// Why not.
pub(crate) async fn ask(
    mut connection: Connection,
    gateway: &GatewayUrl,
) -> Result<(), TlsWayError> {
    let asked = connection.write_all(request(gateway).as_bytes()).await;
    asked.map_err(TlsWayError::Cut)?;
    read_head(&mut connection).await.map(drop)
}

impl TlsWay {
    /// Takes the connection over. `wake` is told when there is room again.
    pub(super) fn start(connection: Connection, gateway: &GatewayUrl, wake: Arc<Notify>) -> Self {
        bound_unsent(&connection);
        let outgoing = Arc::new(Outgoing {
            queue: Mutex::new(Queue {
                bytes: request(gateway).into_bytes(),
                ended: false,
            }),
            filled: Notify::new(),
        });
        let (sender, incoming) = mpsc::channel(MAX_WAITING_READS);
        let (reader, writer) = tokio::io::split(connection);
        tokio::spawn(serve(reader, writer, outgoing.clone(), sender, wake));
        Self { outgoing, incoming }
    }

    /// Whether a burst is taken now.
    pub(super) fn has_room(&self) -> bool {
        self.outgoing.queue().bytes.len() < QUEUE_BYTES
    }

    /// Adds a burst to what waits.
    pub(super) fn send(&self, contents: &[u8], segment_size: usize) {
        frames::write(&mut self.outgoing.queue().bytes, contents, segment_size);
        self.outgoing.filled.notify_one();
    }

    /// Waits for datagrams. An error is the end.
    pub(super) fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Frames, TlsWayError>> {
        let received = ready!(self.incoming.poll_recv(context));
        let gone = || Err(TlsWayError::Cut(io::ErrorKind::UnexpectedEof.into()));
        Poll::Ready(received.unwrap_or_else(gone))
    }
}

impl Drop for TlsWay {
    fn drop(&mut self) {
        self.outgoing.queue().ended = true;
        self.outgoing.filled.notify_one();
    }
}

impl Outgoing {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until either direction ends.
async fn serve(
    reader: ReadHalf<Connection>,
    writer: WriteHalf<Connection>,
    outgoing: Arc<Outgoing>,
    incoming: mpsc::Sender<Result<Frames, TlsWayError>>,
    wake: Arc<Notify>,
) {
    let writing = write(writer, &outgoing, &wake);
    tokio::pin!(writing);
    let error = tokio::select! {
        Err(error) = read(reader, &incoming) => error,
        written = &mut writing => match written {
            Ok(()) => return,
            Err(error) => TlsWayError::Cut(error),
        },
    };
    if outgoing.queue().ended {
        // Put away: the last words still leave.
        let _ = tokio::time::timeout(FAREWELL_LIMIT, writing).await;
        return;
    }
    tracing::debug!(%error, "TLS way ended");
    // Nobody listens any more if the way was put away.
    let _ = incoming.send(Err(error)).await;
}

async fn read(
    mut reader: ReadHalf<Connection>,
    incoming: &mpsc::Sender<Result<Frames, TlsWayError>>,
) -> Result<std::convert::Infallible, TlsWayError> {
    let mut decoder = Decoder::new(&read_head(&mut reader).await?.rest);
    loop {
        let frames = decoder.take().map_err(TlsWayError::NotAFrame)?;
        if !frames.is_empty() && incoming.send(Ok(frames)).await.is_err() {
            return Err(TlsWayError::Cut(io::ErrorKind::ConnectionAborted.into()));
        }
        let read = reader.read_buf(decoder.memory()).await;
        if read.map_err(TlsWayError::Cut)? == 0 {
            return Err(TlsWayError::Cut(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

fn request(gateway: &GatewayUrl) -> String {
    let (host, port) = gateway.authority();
    format!(
        "GET {TUNNEL_PATH} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: {TUNNEL_UPGRADE}\r\n\r\n"
    )
}

async fn read_head(reader: &mut (impl AsyncRead + Unpin)) -> Result<Head, TlsWayError> {
    let head = head::read(reader).await.map_err(|error| match error {
        HeadError::Io(error) => TlsWayError::Cut(error),
        error @ HeadError::Garbage => TlsWayError::Garbage(error),
    })?;
    let upgrade = head.upgrade.as_deref();
    let upgraded = upgrade.is_some_and(|name| name.eq_ignore_ascii_case(TUNNEL_UPGRADE));
    if head.status == 101 && upgraded {
        Ok(head)
    } else {
        Err(TlsWayError::Refused(head.status))
    }
}

/// Writes what waits, until the way is put away and nothing does.
async fn write(
    mut writer: WriteHalf<Connection>,
    outgoing: &Outgoing,
    wake: &Notify,
) -> io::Result<()> {
    let mut burst = Vec::new();
    loop {
        let ended = {
            let mut queue = outgoing.queue();
            std::mem::swap(&mut burst, &mut queue.bytes);
            queue.ended
        };
        if burst.is_empty() && ended {
            let farewell = tokio::time::timeout(FAREWELL_LIMIT, writer.shutdown());
            return farewell.await.unwrap_or(Ok(()));
        }
        if burst.is_empty() {
            outgoing.filled.notified().await;
            continue;
        }
        wake.notify_one();
        let written = async {
            writer.write_all(&burst).await?;
            writer.flush().await
        };
        if ended {
            tokio::time::timeout(FAREWELL_LIMIT, written).await??;
        } else {
            written.await?;
        }
        burst.clear();
    }
}

/// Keeps the system's queue short, where it can be told to.
fn bound_unsent(connection: &Connection) {
    #[cfg(target_os = "linux")]
    {
        let socket = socket2::SockRef::from(connection.get_ref().0);
        if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT_BYTES) {
            tracing::debug!(%error, "the system's queue stays as it is");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (connection, UNSENT_BYTES);
}
