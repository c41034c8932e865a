//! A gateway: its real data path, and its feed from the portal.
//!
//! [`Core`] is all that decides who may pass. Of the feed's client stands here what it does
//! with a connection: the first line rules, silence ends it, a grant counts only in the
//! connection in which it was asked for.

use std::net::SocketAddrV6;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::Moment;
use gateway::event_loop::core::Core;
use protocol::SessionId;
use protocol::agent_api::{GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT};
use protocol::control::FEED_SILENCE_LIMIT_S;
use time::OffsetDateTime;
use tunnel::keys::{PublicKey, SecretKey};
use tunnel::server::{ServerConfig, ServerTunnels};

use crate::clock::Clocks;
use crate::member::Member;

/// How long the event loop waits at most.
const TICK: Duration = Duration::from_secs(1);
/// Pause before coming back to the portal.
const PAUSE: Duration = Duration::from_millis(500);

/// A gateway.
pub struct Gateway {
    pub clocks: Clocks,
    secret: SecretKey,
    tls: Arc<rustls::ServerConfig>,
    /// None while the program does not run.
    pub core: Option<Core<Member>>,
    pub feed: Feed,
    /// Counts the program's starts: what was asked by one is not answered to another.
    pub life: u64,
    pub next_tick: Instant,
    /// Until when the program is at work on what it was last given.
    pub busy_until: Duration,
    /// Until when the program gets no processor.
    pub stalled_until: Option<Duration>,
    /// Until when the line to the portal is cut.
    pub cut_until: Option<Duration>,
    pub feed_delay: Duration,
    /// When the last line on its way arrives: a stream does not reorder.
    pub last_arrival: Duration,
    /// Sessions whose end the portal has not been told yet.
    pub reports: Vec<gateway::commands::Ended>,
    /// Sessions that were installed lately, whose traffic is watched.
    pub watched: Vec<SessionId>,
}

/// Where the feed stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// Tried again at this true time.
    Lost(Duration),
    /// Asked for; the connection's number and when.
    Asked(u64, Duration),
    /// A snapshot was taken over; the connection's number and when its last line came.
    Live(u64, Duration),
}

impl Gateway {
    pub fn new(secret: SecretKey, tls: Arc<rustls::ServerConfig>, wall: OffsetDateTime) -> Self {
        let clocks = Clocks::new(wall);
        let now = clocks.show(Duration::ZERO);
        let mut gateway = Self {
            clocks,
            secret,
            tls,
            core: None,
            feed: Feed::Lost(Duration::ZERO),
            life: 0,
            next_tick: now.mono,
            busy_until: Duration::ZERO,
            stalled_until: None,
            cut_until: None,
            feed_delay: Duration::from_millis(5),
            last_arrival: Duration::ZERO,
            reports: Vec::new(),
            watched: Vec::new(),
        };
        gateway.start(now, Duration::ZERO);
        gateway
    }

    pub fn public_key(&self) -> PublicKey {
        self.secret.public_key()
    }

    /// The program starts, and knows nobody.
    pub fn start(&mut self, now: Moment, t: Duration) {
        let config = ServerConfig {
            secret_key: self.secret.clone(),
            inner_address: SocketAddrV6::new(GATEWAY_INNER_ADDRESS, GATEWAY_INNER_PORT, 0, 0),
            tls: self.tls.clone(),
        };
        let tunnels = ServerTunnels::new(config, now.mono).expect("settings that suit QUIC");
        self.core = Some(Core::new(tunnels, Member::default()));
        self.feed = Feed::Lost(t);
        self.life += 1;
        self.next_tick = now.mono + TICK;
        self.watched.clear();
    }

    /// The program is gone.
    pub fn kill(&mut self) {
        self.core = None;
        self.stalled_until = None;
        self.reports.clear();
        self.watched.clear();
        self.feed = Feed::Lost(Duration::MAX);
    }

    /// Whether the program can do anything at `t`.
    pub fn runs(&self, t: Duration) -> bool {
        self.core.is_some() && self.stalled_until.is_none_or(|until| until <= t)
    }

    /// Whether the line to the portal is whole.
    pub fn is_linked(&self, t: Duration) -> bool {
        self.cut_until.is_none_or(|until| until <= t)
    }

    /// Gives a feed up that was silent for too long. True if it did.
    pub fn gives_up(&mut self, t: Duration) -> bool {
        let (Feed::Live(_, heard) | Feed::Asked(_, heard)) = self.feed else {
            return false;
        };
        let silent = t >= heard + Duration::from_secs(FEED_SILENCE_LIMIT_S);
        if silent {
            self.lose_feed(t);
        }
        silent
    }

    /// The connection is gone; it comes back after a pause.
    pub fn lose_feed(&mut self, t: Duration) {
        self.feed = Feed::Lost(t + PAUSE);
    }

    /// The number of the connection that is asked for or live.
    pub fn connection(&self) -> Option<u64> {
        match self.feed {
            Feed::Asked(connection, _) | Feed::Live(connection, _) => Some(connection),
            Feed::Lost(_) => None,
        }
    }

    /// The number of the connection in which a grant counts.
    pub fn live_connection(&self) -> Option<u64> {
        match self.feed {
            Feed::Live(connection, _) => Some(connection),
            Feed::Asked(..) | Feed::Lost(_) => None,
        }
    }

    /// When it wants to be woken, by its monotonic clock.
    pub fn wake(&self) -> Option<Instant> {
        let core = self.core.as_ref()?;
        let due = core.poll_timeout();
        Some(due.map_or(self.next_tick, |due| due.min(self.next_tick)))
    }
}
