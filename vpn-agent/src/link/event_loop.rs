//! The task that gives the tunnel its datagrams and its time.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use protocol::agent_api::EndCode;
use tunnel::client::{ClientConfig, ClientTunnel, ConfigError, Event};
use tunnel::{CloseReason, MAX_SEGMENTS, StreamId, Transmit};

use udp::{Batch, Socket};

use super::{LinkEnd, Shared};

/// Bursts that are sent before looking for what has come in.
const BURSTS: usize = 16;

/// Wishes that may wait; more of the same kind change nothing.
const MAX_WISHES: usize = 8;

/// What the task is asked for by the handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Close(EndCode),
    Abandon,
    NewPath,
}

/// The tunnel with who waits for it.
pub(super) struct Core {
    pub(super) tunnel: ClientTunnel,
    pub(super) readers: HashMap<StreamId, Waker>,
    pub(super) writers: HashMap<StreamId, Waker>,
    wishes: Vec<Wanted>,
    probe: Duration,
    acknowledgements: u64,
    last_sign: Instant,
    last_probe: Instant,
    looked_at: Instant,
}

#[expect(clippy::disallowed_methods, reason = "this is the tunnel's event loop")]
fn now() -> Instant {
    Instant::now()
}

impl Core {
    pub(super) fn new(config: ClientConfig, probe: Duration) -> Result<Self, ConfigError> {
        let now = now();
        Ok(Self {
            tunnel: ClientTunnel::new(config, now)?,
            readers: HashMap::new(),
            writers: HashMap::new(),
            wishes: Vec::new(),
            probe,
            acknowledgements: 0,
            last_sign: now,
            last_probe: now,
            looked_at: now,
        })
    }

    pub(super) fn open_stream(&mut self) -> Option<StreamId> {
        self.tunnel.open_stream()
    }

    pub(super) fn want(&mut self, wanted: Wanted) {
        if self.wishes.len() < MAX_WISHES && !self.wishes.contains(&wanted) {
            self.wishes.push(wanted);
        }
    }

    /// How long the gateway's QUIC has said nothing, as of the last look.
    pub(super) fn silence(&self) -> Duration {
        self.looked_at.saturating_duration_since(self.last_sign)
    }

    /// Notes signs of life and asks for one when it is time.
    fn look(&mut self, now: Instant) {
        self.looked_at = now;
        let acknowledgements = self.tunnel.acknowledgements();
        if acknowledgements != self.acknowledgements {
            self.acknowledgements = acknowledgements;
            self.last_sign = now;
        }
        let quiet_since = self.last_sign.max(self.last_probe);
        if now.saturating_duration_since(quiet_since) >= self.probe {
            self.last_probe = now;
            self.tunnel.ping();
        }
    }
}

/// The task.
pub(super) struct Driver {
    shared: Arc<Shared>,
    socket: Socket,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, socket: Socket) -> Self {
        Self { shared, socket }
    }

    /// Runs until the tunnel is over; then everybody who waits is told.
    pub(super) async fn run(self) {
        let end = self.drive().await;
        tracing::debug!(?end, "link ended");
        self.shared.end.send_replace(Some(end));
        let mut core = self.shared.core();
        for (_, waker) in core.readers.drain() {
            waker.wake();
        }
        for (_, waker) in core.writers.drain() {
            waker.wake();
        }
        drop(core);
        self.shared.streams_available.notify_waiters();
    }

    async fn drive(&self) -> LinkEnd {
        let mut received = Batch::new();
        let mut buffer = Vec::new();
        loop {
            let mut over = self.handle_wishes();
            if over == Some(Wanted::Abandon) {
                return LinkEnd::Ours;
            }
            let more = self.transmit(&mut buffer).await;
            if over.take().is_some() {
                return LinkEnd::Ours;
            }
            if let Some(end) = self.handle_events() {
                return end;
            }
            let sleep = self.until_timeout();
            tokio::select! {
                biased;
                result = self.socket.recv(&mut received) => match result {
                    Ok(()) => self.handle_datagrams(&received),
                    // Reports of unreachable hosts come this way; the gateway may be back soon.
                    Err(error) => tracing::debug!(%error, "receive failed"),
                },
                () = self.shared.wake.notified() => {}
                () = std::future::ready(()), if more => {}
                () = tokio::time::sleep(sleep), if !more => {}
            }
            self.handle_time();
        }
    }

    /// Does what the handles want. Gives back what ends the tunnel.
    fn handle_wishes(&self) -> Option<Wanted> {
        let mut core = self.shared.core();
        let mut over = None;
        for wanted in std::mem::take(&mut core.wishes) {
            match wanted {
                Wanted::Close(code) => {
                    core.tunnel.close(now(), code as u64);
                    over = Some(wanted);
                }
                Wanted::Abandon => over = Some(wanted),
                Wanted::NewPath => core.tunnel.network_changed(now()),
            }
        }
        over
    }

    /// Sends what the tunnel has to send. True if there may be more.
    async fn transmit(&self, buffer: &mut Vec<u8>) -> bool {
        let segments = self.socket.max_segments().clamp(1, MAX_SEGMENTS);
        for _ in 0..BURSTS {
            let next = self
                .shared
                .core()
                .tunnel
                .poll_transmit(now(), segments, buffer);
            let Some(Transmit { len, segment_size }) = next else {
                return false;
            };
            let endpoint = self.shared.endpoint;
            let sent = self.socket.send(endpoint, &buffer[..len], segment_size);
            // What cannot be sent is lost like any datagram, and repeated by QUIC.
            if let Err(error) = sent.await {
                tracing::debug!(%error, "send failed");
            }
        }
        true
    }

    fn handle_datagrams(&self, received: &Batch) {
        let now = now();
        let mut core = self.shared.core();
        for (from, datagram) in received.datagrams() {
            if from == self.shared.endpoint {
                core.tunnel.handle_datagram(now, datagram);
            }
        }
    }

    fn until_timeout(&self) -> Duration {
        let now = now();
        let mut core = self.shared.core();
        let timeout = core.tunnel.poll_timeout();
        timeout.map_or(core.probe, |due| {
            due.saturating_duration_since(now).min(core.probe)
        })
    }

    fn handle_time(&self) {
        let now = now();
        let mut core = self.shared.core();
        if core.tunnel.poll_timeout().is_some_and(|due| due <= now) {
            core.tunnel.handle_timeout(now);
        }
        core.look(now);
    }

    fn handle_events(&self) -> Option<LinkEnd> {
        let mut core = self.shared.core();
        while let Some(event) = core.tunnel.poll_event() {
            match event {
                Event::Connected => {
                    core.last_sign = now();
                    self.shared.connected.send_replace(true);
                    self.shared.streams_available.notify_waiters();
                }
                Event::StreamReadable(id) => wake(core.readers.remove(&id)),
                Event::StreamWritable(id) | Event::StreamStopped { stream: id, .. } => {
                    wake(core.writers.remove(&id));
                }
                Event::StreamsAvailable => self.shared.streams_available.notify_waiters(),
                Event::Message(message) => match serde_json::from_slice(&message) {
                    Ok(message) => {
                        self.shared.message.send_replace(Some(message));
                    }
                    // A newer gateway may say things that this agent does not know.
                    Err(error) => tracing::debug!(%error, "message not understood"),
                },
                Event::Closed(reason) => {
                    tracing::info!(%reason, "tunnel closed");
                    return Some(link_end(&reason, *self.shared.connected.borrow()));
                }
            }
        }
        None
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// What a closed connection means. One that stood and broke down can be made anew: the
/// gateway may have been restarted. One that never stood was not believed.
fn link_end(reason: &CloseReason, stood: bool) -> LinkEnd {
    match reason {
        CloseReason::ByPeer { code } => {
            EndCode::from_close_code(*code).map_or(LinkEnd::Failed, LinkEnd::Told)
        }
        CloseReason::ByUs => LinkEnd::Ours,
        CloseReason::TimedOut => LinkEnd::Lost,
        CloseReason::Failed(_) if stood => LinkEnd::Lost,
        CloseReason::Failed(_) => LinkEnd::Failed,
    }
}
