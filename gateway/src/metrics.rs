//! What the operator sees of the gateway in numbers.
//!
//! The data path and the tunnels count in plain integers and show them once a second
//! ([`Figures`]); they are put into words only when somebody asks. The agent API counts where
//! it answers. Labels are words of the program: no address, device or session is ever one.

use std::fmt;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use operator::{
    Collector, ConstCounter, ConstGauge, Counter, DescriptorEncoder, EncodeMetric, Family, Labels,
    Registry,
};
use protocol::agent_api::{EndCode, RefusalCode};
use tokio::sync::watch;
use tunnel::server::{Counters, Reached};

use crate::feed::FeedState;

/// In front of all names.
const PREFIX: &str = "renkei_gateway";

/// How old the data path's figures may be before it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// What passed by one kind of way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes of datagrams from PCs.
    pub bytes_in: u64,
    /// Bytes of datagrams to PCs.
    pub bytes_out: u64,
    /// Datagrams or bursts to PCs that found no room or no way.
    pub dropped_out: u64,
}

/// What the data path shows each second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// When it was shown. None: the data path does not run yet.
    pub at: Option<Instant>,
    /// What the tunnels count.
    pub counters: Counters,
    /// Sessions that hold a grant.
    pub sessions: usize,
    /// Sessions by the way on which they were last heard from.
    pub reached: Reached,
    /// TLS connections that carry tunnels.
    pub tls_connections: usize,
    /// By UDP.
    pub udp: Passed,
    /// In TLS connections.
    pub tls: Passed,
    /// Sessions that ended, by reason.
    pub ended: [u64; EndCode::ALL.len()],
}

impl Figures {
    /// Counts a session's end.
    pub fn count_end(&mut self, reason: EndCode) {
        let place = EndCode::ALL.iter().position(|known| *known == reason);
        if let Some(count) = place.and_then(|place| self.ended.get_mut(place)) {
            *count += 1;
        }
    }

    /// Says whether the data path has shown figures lately.
    pub fn are_fresh(&self, now: Instant) -> bool {
        self.at
            .is_some_and(|at| now.saturating_duration_since(at) < STUCK_AFTER)
    }
}

/// What the agent API counts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ApiMetrics {
    requests: Family<Labels<2>, Counter>,
    refused: Family<Labels<1>, Counter>,
}

impl ApiMetrics {
    /// A request was answered.
    pub fn answered(&self, route: &'static str, status: StatusCode) {
        let labels = [("route", route), ("status", status_word(status))];
        self.requests.get_or_create(&labels).inc();
    }

    /// A device was refused a session.
    pub fn refused(&self, code: RefusalCode) {
        let labels = [("reason", code.as_str())];
        self.refused.get_or_create(&labels).inc();
    }
}

/// The statuses that the agent API gives; a label must not be what a portal gone wrong says.
fn status_word(status: StatusCode) -> &'static str {
    match status.as_u16() {
        101 => "101",
        200 => "200",
        201 => "201",
        202 => "202",
        204 => "204",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        408 => "408",
        409 => "409",
        413 => "413",
        429 => "429",
        500 => "500",
        503 => "503",
        _ => "other",
    }
}

/// All series of the gateway.
pub fn registry(
    figures: watch::Receiver<Figures>,
    feed: watch::Receiver<FeedState>,
    api: &ApiMetrics,
) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register(
        "agent_api_requests",
        "Requests to the agent API, by route and status",
        api.requests.clone(),
    );
    registry.register(
        "sessions_refused",
        "Devices that were refused a session, by reason",
        api.refused.clone(),
    );
    registry.register_collector(Box::new(Shown { figures, feed }));
    registry
}

/// Puts the figures into words.
#[derive(Debug)]
struct Shown {
    figures: watch::Receiver<Figures>,
    feed: watch::Receiver<FeedState>,
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = *self.figures.borrow();
        let Figures {
            counters,
            reached,
            udp,
            tls,
            ..
        } = figures;
        let is_live = matches!(*self.feed.borrow(), FeedState::Live(_));
        let mut out = Words(&mut encoder);
        out.gauge(
            "feed_live",
            "Whether the portal's grants are known (1) or nobody new gets in (0)",
            u64::from(is_live),
        )?;
        out.gauge("sessions", "Sessions with a grant", count(figures.sessions))?;
        out.gauge(
            "tls_connections",
            "TLS connections that carry tunnels",
            count(figures.tls_connections),
        )?;
        out.gauges(
            "sessions_reached",
            "Sessions by the way on which they were last heard from",
            "transport",
            &[("udp", count(reached.udp)), ("tls", count(reached.tls))],
        )?;
        out.counters(
            "sessions_ended",
            "Sessions that ended, by reason",
            "reason",
            &EndCode::ALL
                .map(EndCode::as_str)
                .into_iter()
                .zip(figures.ended)
                .collect::<Vec<_>>(),
        )?;
        out.counters(
            "handshakes",
            "WireGuard handshakes, by outcome",
            "outcome",
            &[
                ("completed", counters.handshakes),
                ("cookie", counters.cookies),
                ("throttled", counters.throttled),
            ],
        )?;
        out.counters(
            "received_bytes",
            "Bytes of datagrams from PCs, by transport",
            "transport",
            &[("udp", udp.bytes_in), ("tls", tls.bytes_in)],
        )?;
        out.counters(
            "sent_bytes",
            "Bytes of datagrams to PCs, by transport",
            "transport",
            &[("udp", udp.bytes_out), ("tls", tls.bytes_out)],
        )?;
        out.counters(
            "queue_drops",
            "Bursts to PCs that found no room, by queue",
            "queue",
            &[
                ("udp", udp.dropped_out),
                ("tls", tls.dropped_out),
                ("answers", counters.overflow),
            ],
        )?;
        out.counters(
            "dropped_datagrams",
            "Datagrams that were not believed or not let pass, by reason",
            "reason",
            &[
                ("malformed", counters.malformed),
                ("stranger", counters.strangers),
                ("not_admitted", counters.not_admitted),
                ("not_authentic", counters.refused),
                ("foreign_inner", counters.foreign_inner),
            ],
        )
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

struct Words<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Words<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        let kind = gauge.metric_type();
        gauge.encode(self.0.encode_descriptor(name, help, None, kind)?)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[(&'static str, u64)],
    ) -> Result<(), fmt::Error> {
        let kind = ConstGauge::new(0i64).metric_type();
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (value, number) in values {
            let gauge = ConstGauge::new(i64::try_from(*number).unwrap_or(i64::MAX));
            gauge.encode(metric.encode_family(&[(label, *value)])?)?;
        }
        Ok(())
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[(&'static str, u64)],
    ) -> Result<(), fmt::Error> {
        let kind = ConstCounter::new(0u64).metric_type();
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (value, number) in values {
            let counter = ConstCounter::new(*number);
            counter.encode(metric.encode_family(&[(label, *value)])?)?;
        }
        Ok(())
    }
}
