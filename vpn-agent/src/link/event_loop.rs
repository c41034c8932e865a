//! The task that gives the tunnel its datagrams and its time.
//!
//! Which way they go is for [`super::paths`] to say; this does as it says and tells it what
//! came of it.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use protocol::agent_api::EndCode;
use tunnel::client::{ClientConfig, ClientTunnel, ConfigError, Event, Greeting, Heard, Wireguard};
use tunnel::{CloseReason, MAX_SEGMENTS, StreamId, Transmit};
use udp::Batch;

use super::carriers::{Carriers, News, WayError};
use super::paths::{Action, Outlook, Paths, Via, Way, WayId};
use super::pulse::{Pulse, Reading, Streams};
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
pub(super) struct Core {
    pub(super) tunnel: ClientTunnel,
    pub(super) readers: HashMap<StreamId, Waker>,
    pub(super) writers: HashMap<StreamId, Waker>,
    pub(super) streams: Streams,
    wishes: Vec<Wanted>,
    pulse: Pulse,
    looked_at: Instant,
}

#[expect(clippy::disallowed_methods, reason = "this is the tunnel's event loop")]
fn now() -> Instant {
    Instant::now()
}

impl Core {
    pub(super) fn new(
        config: ClientConfig,
        left: Option<Wireguard>,
        pulse: Pulse,
    ) -> Result<Self, ConfigError> {
        let now = now();
        let mut tunnel = match left {
            Some(left) => ClientTunnel::again(left, config, now)?,
            None => ClientTunnel::new(config, now)?,
        };
        tunnel.set_greeting(Greeting::Caller);
        Ok(Self {
            tunnel,
            readers: HashMap::new(),
            writers: HashMap::new(),
            streams: Streams {
                open: 0,
                moved: None,
            },
            wishes: Vec::new(),
            pulse,
            looked_at: now,
        })
    }

    pub(super) fn open_stream(&mut self) -> Option<StreamId> {
        let opened = self.tunnel.open_stream()?;
        self.streams.open += 1;
        self.stream_moved();
        Some(opened)
    }

    /// Notes that a stream carried something, as of the last look.
    pub(super) fn stream_moved(&mut self) {
        self.streams.moved = Some(self.looked_at);
    }

    /// Notes that somebody looks.
    pub(super) fn look_closely(&mut self) {
        self.pulse.handle_looked(now());
    }

    pub(super) fn want(&mut self, wanted: Wanted) {
        if self.wishes.len() < MAX_WISHES && !self.wishes.contains(&wanted) {
            self.wishes.push(wanted);
        }
    }

    fn ping(&mut self, now: Instant) {
        self.tunnel.ping();
        self.pulse.handle_asked(now);
    }
}

/// The task.
pub(super) struct Driver {
    shared: Arc<Shared>,
    paths: Paths,
    carriers: Carriers,
    /// Whether a way was in use before: the first one has nothing to make up for.
    had_way: bool,
    left: Arc<Mutex<Option<Wireguard>>>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, config: &LinkConfig, remembered: Option<Via>) -> Self {
        let udp = shared.endpoints.iter().copied().map(Way::Udp);
        let tls = config.dialer.ways(&config.gateway);
        let ways: Vec<_> = udp.chain(tls.into_iter().map(Way::Tls)).collect();
        let carriers = Carriers::new(config, ways.len(), shared.wake.clone());
        Self {
            paths: Paths::new(ways, remembered, now()),
            carriers,
            shared,
            had_way: false,
            left: config.left.clone(),
        }
    }

    /// Runs until the tunnel is over; then everybody who waits is told.
    pub(super) async fn run(mut self) {
        let end = self.drive().await;
        tracing::debug!(?end, "link ended");
        let mut core = self.shared.core();
        // Before anybody hears of the end: the next tunnel goes on with it.
        let left = core.tunnel.take_wireguard();
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
        self.shared.end.send_replace(Some(end));
        for (_, waker) in core.readers.drain() {
            waker.wake();
        }
        for (_, waker) in core.writers.drain() {
            waker.wake();
        }
        drop(core);
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
            if let Some(end) = self.handle_time() {
                return end;
            }
        }
    }

    /// Does what the handles want. Gives back what ends the tunnel.
    fn handle_wishes(&mut self) -> Option<Wanted> {
        let mut core = self.shared.core();
        let mut over = None;
        for wanted in std::mem::take(&mut core.wishes) {
            match wanted {
                Wanted::Close(code) => {
                    core.tunnel.close(now(), code as u64);
                    over = Some(wanted);
                }
                Wanted::Abandon => over = Some(wanted),
                Wanted::NewNetwork(remembered) => {
                    self.paths.handle_network_changed(remembered, now());
                }
            }
        }
        over
    }

    /// Does what the search for a way asks for, and tells how it stands.
    async fn steer(&mut self) {
        let was_searching = !matches!(*self.shared.outlook.borrow(), Outlook::Standing(_));
        if !self.paths.has_actions() && !was_searching && !self.paths.is_searching() {
            return;
        }
        while let Some(action) = self.paths.poll_action() {
            tracing::trace!(?action, "way");
            match action {
                Action::Open(id) => self.carriers.open(id, self.paths.way(id)),
                Action::Close(id) => self.carriers.close(id),
                Action::Greet(id) => self.greet(id).await,
                Action::Use(id) => self.change_to(id),
            }
        }
        let (now, searching) = (now(), self.paths.is_searching());
        let greeting = if searching {
            Greeting::Caller
        } else {
            Greeting::Tunnel
        };
        let outlook = self.paths.outlook(now);
        let mut core = self.shared.core();
        core.tunnel.set_greeting(greeting);
        if was_searching && matches!(outlook, Outlook::Standing(_)) && self.had_way {
            core.ping(now);
        }
        drop(core);
        let ways = self.paths.experiences();
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

    async fn greet(&mut self, id: WayId) {
        let Some(message) = self.shared.core().tunnel.initiate() else {
            return;
        };
        if let Err(error) = self.carriers.send(id, &message, message.len()).await {
            self.handle_failed(id, &error);
        }
    }

    fn change_to(&mut self, id: WayId) {
        let way = self.paths.way(id);
        if std::mem::replace(&mut self.had_way, true) {
            let now = now();
            let mut core = self.shared.core();
            core.tunnel.way_changed(now);
            core.pulse.handle_asked(now);
        }
        let kind = if way.is_udp() { "udp" } else { "tls" };
        tracing::info!(kind, "the tunnel's way");
        self.shared.way.send_replace(Some(way));
    }

    /// Sends what the tunnel has to send. True if there may be more.
    async fn transmit(&mut self, buffer: &mut Vec<u8>) -> bool {
        for _ in 0..BURSTS {
            let Some(id) = self.paths.used() else {
                return false;
            };
            // A full way tells when it has room again; until then QUIC keeps what it has.
            if !self.carriers.has_room(id) {
                return false;
            }
            let segments = self.carriers.max_segments(id).clamp(1, MAX_SEGMENTS);
            let next = self
                .shared
                .core()
                .tunnel
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
            News::Opened(id) => self.paths.handle_opened(id, now()),
            News::Failed(id, error) => self.handle_failed(id, &error),
            News::Datagrams(id) => {
                self.handle_datagrams(id, received.datagrams().map(|(_, datagram)| datagram));
            }
            News::Frames(id, frames) => self.handle_datagrams(id, frames.datagrams()),
        }
    }

    fn handle_datagrams<'a>(&mut self, id: WayId, datagrams: impl Iterator<Item = &'a [u8]>) {
        let now = now();
        let (mut heard, mut cookie) = (false, false);
        let mut core = self.shared.core();
        for datagram in datagrams {
            match core.tunnel.handle_datagram(now, datagram) {
                Heard::Nothing => {}
                Heard::Gateway => heard = true,
                Heard::Answer => {
                    heard = true;
                    core.pulse.handle_answer(now);
                }
                Heard::Cookie => cookie = true,
            }
        }
        drop(core);
        if heard {
            self.paths.handle_heard(id, now);
        }
        if cookie {
            self.paths.handle_cookie(id);
        }
    }

    fn handle_failed(&mut self, id: WayId, error: &WayError) {
        let way = self.paths.way(id);
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
        self.paths.handle_failed(id, now());
    }

    fn until_timeout(&mut self) -> Duration {
        if self.paths.has_actions() {
            return Duration::ZERO;
        }
        let now = now();
        let paths = self.paths.poll_timeout(now);
        let mut core = self.shared.core();
        let tunnel = core.tunnel.poll_timeout();
        let next = [tunnel, paths, core.pulse.poll_timeout()]
            .into_iter()
            .flatten()
            .min();
        next.map_or(TICK, |due| due.saturating_duration_since(now).min(TICK))
    }

    fn handle_time(&mut self) -> Option<LinkEnd> {
        let now = now();
        let mut core = self.shared.core();
        if core.tunnel.poll_timeout().is_some_and(|due| due <= now) {
            core.tunnel.handle_timeout(now);
        }
        core.looked_at = now;
        let reading = Reading {
            signs: core.tunnel.signs(),
            owed_since: core.tunnel.owed_since(),
            round_trip: core.tunnel.round_trip(),
            streams: core.streams,
            standing: !self.paths.is_searching(),
        };
        let finding = core.pulse.look(&reading, now);
        if finding.ask {
            core.tunnel.ping();
        }
        drop(core);
        if finding.progress {
            self.paths.handle_progress();
        }
        if finding.forgotten {
            tracing::info!("the gateway does not know the connection any more");
            return Some(LinkEnd::Lost);
        }
        if finding.silent {
            self.paths.handle_silence(now);
        }
        self.paths.handle_timeout(now);
        None
    }

    fn handle_events(&self) -> Option<LinkEnd> {
        let mut core = self.shared.core();
        while let Some(event) = core.tunnel.poll_event() {
            match event {
                Event::Connected => {
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
        CloseReason::Unexplained => LinkEnd::Unexplained,
        CloseReason::Failed(_) if stood => LinkEnd::Lost,
        CloseReason::Failed(_) => LinkEnd::Failed,
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
