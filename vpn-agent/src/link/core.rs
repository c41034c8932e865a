//! The tunnel over its ways, without their sockets.
//!
//! Brings together what each decides for itself: [`ClientTunnel`] (what is said),
//! [`super::paths`] (over which way) and [`super::pulse`] (whether anybody still hears it).
//! Pure: [`super::event_loop`] gives it datagrams and time and does what
//! [`Core::poll_action`] says; a simulation can do the same.

use std::time::{Duration, Instant};

use protocol::agent_api::EndCode;
use tunnel::client::{ClientConfig, ClientTunnel, ConfigError, Event, Greeting, Heard, Wireguard};
use tunnel::{CloseReason, StreamId, Transmit};

use super::LinkEnd;
use super::paths::{self, Experience, Outlook, Paths, Via, Way, WayId};
use super::pulse::{Pulse, Rates, Reading, Streams};

/// A link that has not come about for this long, with every way refused or silent, is given
/// up: the user, or another gateway, can do more.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(4);

/// A link that has not come about for this long is given up in any case.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// What is to be done with the ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Bind a socket or make a connection; [`Core::handle_opened`] or
    /// [`Core::handle_failed`] follows.
    Open(WayId),
    /// Put an opening or open way away. Nothing is to be told of it any more.
    Close(WayId),
    /// Send this datagram over an open way.
    Send(WayId, Vec<u8>),
    /// Nothing: what [`Core::poll_transmit`] gives goes over this way from now on.
    Use(WayId),
}

/// The tunnel with its ways.
pub struct Core {
    /// What is said.
    pub tunnel: ClientTunnel,
    paths: Paths,
    pulse: Pulse,
    streams: Streams,
    /// Whether the gateway accepted this PC.
    stood: bool,
    /// Whether a way was in use before: the first one has nothing to make up for.
    had_way: bool,
    /// Whether a way stood when the actions had last been taken.
    standing: bool,
    looked_at: Instant,
}

impl Core {
    /// Begins to make the tunnel. `ways` are in order of preference, UDP first; a TLS way that
    /// is `remembered` to work here comes before them. `left` is what the session's last
    /// tunnel left.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration cannot work.
    pub fn new(
        config: ClientConfig,
        left: Option<Wireguard>,
        rates: Rates,
        (ways, remembered): (Vec<Way>, Option<Via>),
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let mut tunnel = match left {
            Some(left) => ClientTunnel::again(left, config, now)?,
            None => ClientTunnel::new(config, now)?,
        };
        tunnel.set_greeting(Greeting::Caller);
        Ok(Self {
            tunnel,
            paths: Paths::new(ways, remembered, now),
            pulse: Pulse::new(rates),
            streams: Streams {
                open: 0,
                moved: None,
            },
            stood: false,
            had_way: false,
            standing: false,
            looked_at: now,
        })
    }

    /// Opens a stream to the portal, if there is room for one.
    pub fn open_stream(&mut self) -> Option<StreamId> {
        let opened = self.tunnel.open_stream()?;
        self.streams.open += 1;
        self.stream_moved();
        Some(opened)
    }

    /// Notes that a stream carried something, as of the last look.
    pub fn stream_moved(&mut self) {
        self.streams.moved = Some(self.looked_at);
    }

    /// Notes that somebody looks at how the tunnel stands.
    pub fn look_closely(&mut self, now: Instant) {
        self.pulse.handle_looked(now);
    }

    /// The way behind a name.
    pub fn way(&self, id: WayId) -> Way {
        self.paths.way(id)
    }

    /// All ways with what is known of them.
    pub fn experiences(&self) -> Vec<(Way, Experience)> {
        self.paths.experiences()
    }

    /// The way that [`Self::poll_transmit`] gives datagrams for.
    pub fn used(&self) -> Option<WayId> {
        self.paths.used()
    }

    /// How things stand at `now`.
    pub fn outlook(&self, now: Instant) -> Outlook {
        self.paths.outlook(now)
    }

    /// Whether the gateway ever accepted this PC in this tunnel.
    pub fn stood(&self) -> bool {
        self.stood
    }

    /// The PC woke up or moved to another network, where TLS is `remembered` to work.
    pub fn handle_network_changed(&mut self, remembered: Option<Via>, now: Instant) {
        self.paths.handle_network_changed(remembered, now);
    }

    /// A way is open.
    pub fn handle_opened(&mut self, id: WayId, now: Instant) {
        self.paths.handle_opened(id, now);
    }

    /// A way was refused, cut, or cannot be opened. It is closed already.
    pub fn handle_failed(&mut self, id: WayId, now: Instant) {
        self.paths.handle_failed(id, now);
    }

    /// Reads what came over a way.
    pub fn handle_datagrams<'a>(
        &mut self,
        id: WayId,
        datagrams: impl Iterator<Item = &'a [u8]>,
        now: Instant,
    ) {
        let (mut heard, mut cookie) = (false, false);
        for datagram in datagrams {
            match self.tunnel.handle_datagram(now, datagram) {
                Heard::Nothing => {}
                Heard::Gateway => heard = true,
                Heard::Answer => {
                    heard = true;
                    self.pulse.handle_answer(now);
                }
                Heard::Cookie => cookie = true,
            }
        }
        if heard {
            self.paths.handle_heard(id, now);
        }
        if cookie {
            self.paths.handle_cookie(id);
        }
    }

    /// Does what is due at `now`. Gives back the end of the tunnel if the gateway turned out
    /// to have forgotten it.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Instant) -> Option<LinkEnd> {
        if self.tunnel.poll_timeout().is_some_and(|due| due <= now) {
            self.tunnel.handle_timeout(now);
        }
        self.looked_at = now;
        let reading = Reading {
            signs: self.tunnel.signs(),
            owed_since: self.tunnel.owed_since(),
            round_trip: self.tunnel.round_trip(),
            streams: self.streams,
            standing: !self.paths.is_searching(),
        };
        let finding = self.pulse.look(&reading, now);
        if finding.ask {
            self.tunnel.ping();
        }
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

    /// Returns when [`Self::handle_timeout`] has something to do or the outlook may change.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        if self.paths.has_actions() {
            return Some(now);
        }
        let paths = self.paths.poll_timeout(now);
        let due = [self.tunnel.poll_timeout(), paths, self.pulse.poll_timeout()];
        due.into_iter().flatten().min()
    }

    /// Whether a way stands, as it did the last time, and nothing is to be done.
    pub fn is_steady(&self) -> bool {
        self.standing && !self.paths.has_actions() && !self.paths.is_searching()
    }

    /// Returns what is to be done next. To be called until it gives nothing, before anything
    /// is sent.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        while let Some(action) = self.paths.poll_action() {
            tracing::trace!(?action, "way");
            match action {
                paths::Action::Open(id) => return Some(Action::Open(id)),
                paths::Action::Close(id) => return Some(Action::Close(id)),
                paths::Action::Greet(id) => {
                    if let Some(message) = self.tunnel.initiate() {
                        return Some(Action::Send(id, message));
                    }
                }
                paths::Action::Use(id) => {
                    if std::mem::replace(&mut self.had_way, true) {
                        self.tunnel.way_changed(now);
                        self.pulse.handle_asked(now);
                    }
                    return Some(Action::Use(id));
                }
            }
        }
        self.settle(now);
        None
    }

    /// Who begins handshakes follows from whether a way stands; one that has just been found
    /// shows at once whether the connection is still known.
    fn settle(&mut self, now: Instant) {
        let greeting = match self.paths.is_searching() {
            true => Greeting::Caller,
            false => Greeting::Tunnel,
        };
        self.tunnel.set_greeting(greeting);
        let standing = matches!(self.paths.outlook(now), Outlook::Standing(_));
        if standing && !self.standing && self.had_way {
            self.tunnel.ping();
            self.pulse.handle_asked(now);
        }
        self.standing = standing;
    }

    /// Fills `buffer` with what goes over the way in use.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        max_datagrams: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.paths.used()?;
        self.tunnel.poll_transmit(now, max_datagrams, buffer)
    }

    /// Returns what happened in the tunnel.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.tunnel.poll_event();
        self.stood |= event == Some(Event::Connected);
        event
    }

    /// Gives up a stream whose two halves are not both through.
    pub fn drop_stream(&mut self, id: StreamId, finished: bool, read_to_end: bool) {
        self.streams.open = self.streams.open.saturating_sub(1);
        if !finished {
            self.tunnel.reset(id, 0);
        }
        if !read_to_end {
            self.tunnel.stop(id, 0);
        }
    }

    /// What a closed connection means. One that stood and broke down can be made anew: the
    /// gateway may have been restarted. One that never stood was not believed.
    pub fn end(&self, reason: &CloseReason) -> LinkEnd {
        match reason {
            CloseReason::ByPeer { code } => {
                EndCode::from_close_code(*code).map_or(LinkEnd::Failed, LinkEnd::Told)
            }
            CloseReason::ByUs => LinkEnd::Ours,
            CloseReason::TimedOut => LinkEnd::Lost,
            CloseReason::Unexplained => LinkEnd::Unexplained,
            CloseReason::Failed(_) if self.stood => LinkEnd::Lost,
            CloseReason::Failed(_) => LinkEnd::Failed,
        }
    }
}
