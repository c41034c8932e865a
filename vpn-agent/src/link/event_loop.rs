//! The task that gives the tunnel its datagrams and its time.
//!
//! Which way they go, and what follows from what comes, is for [`super::core`] to say; this
//! does as it says and tells it what came of it.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use protocol::agent_api::EndCode;
use tunnel::client::{Event, Wireguard};
use tunnel::{MAX_SEGMENTS, StreamId, Transmit};
use udp::Batch;

use super::carriers::{Carriers, News, WayError};
use super::core::{Action, Core};
use super::paths::{Outlook, Via, WayId};
use super::tls_way::TlsWayError;
use super::{LinkConfig, LinkEnd, Shared};
use crate::dial::DialError;

/// Bursts that are sent before looking for what has come in.
const BURSTS: usize = 16;

/// Wishes that may wait; more of the same kind change nothing.
const MAX_WISHES: usize = 8;

/// The longest sleep: a deadline that was missed must not hold for longer.
const TICK: Duration = Duration::from_secs(1);

/// What the task is asked for by the handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Close(EndCode),
    Abandon,
    NewNetwork(Option<Via>),
}

/// The tunnel with who waits for it.
pub(super) struct Lent {
    pub(super) core: Core,
    pub(super) readers: HashMap<StreamId, Waker>,
    pub(super) writers: HashMap<StreamId, Waker>,
    wishes: Vec<Wanted>,
}

#[expect(clippy::disallowed_methods, reason = "this is the tunnel's event loop")]
pub(super) fn now() -> Instant {
    Instant::now()
}

impl Lent {
    pub(super) fn new(core: Core) -> Self {
        Self {
            core,
            readers: HashMap::new(),
            writers: HashMap::new(),
            wishes: Vec::new(),
        }
    }

    /// Notes that somebody looks.
    pub(super) fn look_closely(&mut self) {
        self.core.look_closely(now());
    }

    pub(super) fn want(&mut self, wanted: Wanted) {
        if self.wishes.len() < MAX_WISHES && !self.wishes.contains(&wanted) {
            self.wishes.push(wanted);
        }
    }
}

/// The task.
pub(super) struct Driver {
    shared: Arc<Shared>,
    carriers: Carriers,
    left: Arc<Mutex<Option<Wireguard>>>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, config: &LinkConfig, ways: usize) -> Self {
        Self {
            carriers: Carriers::new(config, ways, shared.wake.clone()),
            shared,
            left: config.left.clone(),
        }
    }

    /// Runs until the tunnel is over; then everybody who waits is told.
    pub(super) async fn run(mut self) {
        let end = self.drive().await;
        tracing::debug!(?end, "link ended");
        let mut lent = self.shared.lent();
        // Before anybody hears of the end: the next tunnel goes on with it.
        let left = lent.core.tunnel.take_wireguard();
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
        self.shared.end.send_replace(Some(end));
        for (_, waker) in lent.readers.drain() {
            waker.wake();
        }
        for (_, waker) in lent.writers.drain() {
            waker.wake();
        }
        drop(lent);
        self.shared.streams_available.notify_waiters();
    }

    async fn drive(&mut self) -> LinkEnd {
        let mut received = Batch::new();
        let mut buffer = Vec::new();
        loop {
            let over = self.handle_wishes();
            if over == Some(Wanted::Abandon) {
                return LinkEnd::Ours;
            }
            self.steer().await;
            let more = self.transmit(&mut buffer).await;
            if over.is_some() {
                return LinkEnd::Ours;
            }
            if let Some(end) = self.handle_events() {
                return end;
            }
            let sleep = self.until_timeout();
            let shared = self.shared.clone();
            tokio::select! {
                biased;
                news = self.carriers.next(&mut received) => self.handle_news(news, &received),
                () = shared.wake.notified() => {}
                () = std::future::ready(()), if more => {}
                () = tokio::time::sleep(sleep), if !more => {}
            }
            if let Some(end) = self.handle_timeout() {
                return end;
            }
        }
    }

    /// Does what the handles want. Gives back what ends the tunnel.
    fn handle_wishes(&mut self) -> Option<Wanted> {
        let mut lent = self.shared.lent();
        let mut over = None;
        for wanted in std::mem::take(&mut lent.wishes) {
            match wanted {
                Wanted::Close(code) => {
                    lent.core.tunnel.close(now(), code as u64);
                    over = Some(wanted);
                }
                Wanted::Abandon => over = Some(wanted),
                Wanted::NewNetwork(remembered) => {
                    lent.core.handle_network_changed(remembered, now());
                }
            }
        }
        over
    }

    /// Does what the search for a way asks for, and tells how it stands.
    async fn steer(&mut self) {
        let shown = *self.shared.outlook.borrow();
        if matches!(shown, Outlook::Standing(_)) && self.shared.lent().core.is_steady() {
            return;
        }
        loop {
            let next = self.shared.lent().core.poll_action(now());
            match next {
                None => break,
                Some(Action::Open(id)) => {
                    let way = self.shared.lent().core.way(id);
                    self.carriers.open(id, way);
                }
                Some(Action::Close(id)) => self.carriers.close(id),
                Some(Action::Send(id, message)) => {
                    let sent = self.carriers.send(id, &message, message.len()).await;
                    if let Err(error) = sent {
                        self.handle_failed(id, &error);
                    }
                }
                Some(Action::Use(id)) => {
                    let way = self.shared.lent().core.way(id);
                    let kind = if way.is_udp() { "udp" } else { "tls" };
                    tracing::info!(kind, "the tunnel's way");
                    self.shared.way.send_replace(Some(way));
                }
            }
        }
        let (outlook, ways) = {
            let lent = self.shared.lent();
            (lent.core.outlook(now()), lent.core.experiences())
        };
        self.shared.ways.send_if_modified(|shown| {
            let changed = *shown != ways;
            *shown = ways;
            changed
        });
        self.shared.outlook.send_if_modified(|shown| {
            let changed = *shown != outlook;
            *shown = outlook;
            changed
        });
    }

    /// Sends what the tunnel has to send. True if there may be more.
    async fn transmit(&mut self, buffer: &mut Vec<u8>) -> bool {
        for _ in 0..BURSTS {
            let Some(id) = self.shared.lent().core.used() else {
                return false;
            };
            // A full way tells when it has room again; until then QUIC keeps what it has.
            if !self.carriers.has_room(id) {
                return false;
            }
            let segments = self.carriers.max_segments(id).clamp(1, MAX_SEGMENTS);
            let next = self
                .shared
                .lent()
                .core
                .poll_transmit(now(), segments, buffer);
            let Some(Transmit { len, segment_size }) = next else {
                return false;
            };
            let sent = self.carriers.send(id, &buffer[..len], segment_size).await;
            if let Err(error) = sent {
                self.handle_failed(id, &error);
            }
        }
        true
    }

    fn handle_news(&mut self, news: News, received: &Batch) {
        match news {
            News::Opened(id) => self.shared.lent().core.handle_opened(id, now()),
            News::Failed(id, error) => self.handle_failed(id, &error),
            News::Datagrams(id) => {
                let datagrams = received.datagrams().map(|(_, datagram)| datagram);
                let mut lent = self.shared.lent();
                lent.core.handle_datagrams(id, datagrams, now());
            }
            News::Frames(id, frames) => {
                let mut lent = self.shared.lent();
                lent.core.handle_datagrams(id, frames.datagrams(), now());
            }
        }
    }

    fn handle_failed(&mut self, id: WayId, error: &WayError) {
        let way = self.shared.lent().core.way(id);
        tracing::debug!(?way, cause = chain(error), "way failed");
        if let WayError::Tls(error) = error {
            let sentence = match error {
                TlsWayError::Dial(DialError::Proxy(error)) => Some(error.page_text()),
                TlsWayError::Dial(_)
                | TlsWayError::Refused(_)
                | TlsWayError::Garbage(_)
                | TlsWayError::NotAFrame(_)
                | TlsWayError::Cut(_) => None,
            };
            let trouble = self.shared.trouble.lock();
            let mut trouble = trouble.unwrap_or_else(PoisonError::into_inner);
            *trouble = sentence.or(trouble.take());
        }
        self.shared.lent().core.handle_failed(id, now());
    }

    fn until_timeout(&self) -> Duration {
        let now = now();
        let next = self.shared.lent().core.poll_timeout(now);
        next.map_or(TICK, |due| due.saturating_duration_since(now).min(TICK))
    }

    fn handle_timeout(&self) -> Option<LinkEnd> {
        self.shared.lent().core.handle_timeout(now())
    }

    fn handle_events(&self) -> Option<LinkEnd> {
        let mut lent = self.shared.lent();
        while let Some(event) = lent.core.poll_event() {
            match event {
                Event::Connected => {
                    self.shared.connected.send_replace(true);
                    self.shared.streams_available.notify_waiters();
                }
                Event::StreamReadable(id) => wake(lent.readers.remove(&id)),
                Event::StreamWritable(id) | Event::StreamStopped { stream: id, .. } => {
                    wake(lent.writers.remove(&id));
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
                    return Some(lent.core.end(&reason));
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

/// An error with all its causes, for the log.
fn chain(error: &WayError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
