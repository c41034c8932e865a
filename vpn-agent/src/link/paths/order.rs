//! In which order the ways are begun, and how long after each other.

use std::time::{Duration, Instant};

use super::{Goal, Paths, SCOUT_PAUSE, SCOUT_WAIT, STAGGER, Step, TRUSTED_AFTER, Via, Way, WayId};

/// UDP's head start over TLS, however many ports and addresses it has: TLS needs three round
/// trips and a handshake, and must stand within three seconds.
const HEAD_START: Duration = Duration::from_millis(500);

/// How long after a remembered TLS way UDP is begun.
pub(super) const UDP_AFTER_TLS: Duration = Duration::from_millis(300);

/// How long after a way fell silent the others are begun.
const SECOND_OPINION: Duration = Duration::from_millis(100);

impl Paths {
    /// UDP ways, all within [`HEAD_START`]; `first_gap` goes before the first.
    pub(super) fn udp_steps(&self, first_gap: Duration) -> Vec<Step> {
        let ids: Vec<_> = self
            .ids(|way| way.is_udp())
            .filter(|id| !self.ways[id.0].barren)
            .collect();
        let count = u32::try_from(ids.len()).unwrap_or(u32::MAX).max(1);
        let gap = STAGGER.min(HEAD_START / count);
        let step = |(at, way)| Step {
            way,
            gap: if at == 0 { first_gap } else { gap },
        };
        ids.into_iter().enumerate().map(step).collect()
    }

    fn tls_steps(&self, first: Option<Via>, first_gap: Duration) -> Vec<Step> {
        let mut ids: Vec<_> = self.ids(|way| !way.is_udp()).collect();
        ids.sort_by_key(|id| first.is_some_and(|via| self.ways[id.0].way != Way::Tls(via)));
        let step = |(at, way)| Step {
            way,
            gap: if at == 0 { first_gap } else { STAGGER },
        };
        ids.into_iter().enumerate().map(step).collect()
    }

    fn ids(&self, wanted: impl Fn(Way) -> bool) -> impl Iterator<Item = WayId> {
        let ways = self.ways.iter().enumerate();
        ways.filter(move |(_, entry)| wanted(entry.way))
            .map(|(index, _)| WayId(index))
    }

    pub(super) fn first_order(&self, remembered: Option<Via>) -> Vec<Step> {
        if remembered.is_some() {
            let mut order = self.tls_steps(remembered, Duration::ZERO);
            let others = order.split_off(order.len().min(1));
            order.extend(self.udp_steps(UDP_AFTER_TLS));
            order.extend(others);
            return order;
        }
        let mut order = self.udp_steps(Duration::ZERO);
        let begun: Duration = order.iter().map(|step| step.gap).sum();
        let gap = if order.is_empty() {
            Duration::ZERO
        } else {
            HEAD_START.saturating_sub(begun)
        };
        order.extend(self.tls_steps(None, gap));
        order
    }

    /// The way in use is doubtful: it is asked once more, and the others soon after.
    pub(super) fn look_again(&mut self, doubtful: WayId, now: Instant) {
        if self.ways[doubtful.0].way.is_udp() && now >= self.used_since + TRUSTED_AFTER {
            self.scout_pause = SCOUT_PAUSE;
        }
        let mut order = Vec::new();
        if !self.ways[doubtful.0].barren {
            order.push(Step {
                way: doubtful,
                gap: Duration::ZERO,
            });
        }
        let mut tls = self.tls_steps(None, SECOND_OPINION);
        let others = tls.split_off(tls.len().min(1));
        if self.ways[doubtful.0].way.is_udp() {
            order.extend(tls);
            order.extend(self.udp_steps(SECOND_OPINION));
        } else {
            order.extend(self.udp_steps(SECOND_OPINION));
            order.extend(tls);
        }
        order.extend(others);
        order.extend(self.ids(|_| true).map(|way| Step {
            way,
            gap: SCOUT_WAIT,
        }));
        let mut seen = Vec::new();
        order.retain(|step| {
            let new = !seen.contains(&step.way);
            seen.push(step.way);
            new
        });
        self.begin_hunt(Goal::Any, order, now);
    }
}
