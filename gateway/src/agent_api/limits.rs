//! How much one source may ask for.
//!
//! A source is an IPv4 address or an IPv6 /64: what one subscriber is given. Tables are
//! bounded; when one is full of busy sources, newcomers share one bucket, so that a flood
//! from many addresses slows enrolment down but does not switch it off.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Registrations: a clerk mistypes a code a few times; three PCs stand in one office.
pub(super) const ATTEMPTS: Rule = Rule {
    burst: 10,
    refill: Duration::from_secs(20),
};

/// Polls for staff's decision: each waiting PC asks every few seconds.
pub(super) const POLLS: Rule = Rule {
    burst: 60,
    refill: Duration::from_millis(500),
};

/// Sources that are remembered.
const SOURCES_LIMIT: usize = 10_000;

/// Connections that one source may hold open: a large office behind one address.
const CONNECTIONS_PER_SOURCE: usize = 256;

/// Who is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => {
                let prefix = u128::from(address) & (u128::MAX << 64);
                Self(Ipv6Addr::from(prefix).into())
            }
        }
    }
}

/// So many at once, and one more each `refill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    burst: u32,
    refill: Duration,
}

/// Token buckets, one a source. A bucket is kept as the instant at which it is full again.
#[derive(Debug)]
pub(super) struct Buckets {
    rule: Rule,
    full_at: HashMap<Source, Instant>,
    /// Shared by who finds the table full.
    others_full_at: Instant,
}

impl Buckets {
    pub(super) fn new(rule: Rule, now: Instant) -> Self {
        Self {
            rule,
            full_at: HashMap::new(),
            others_full_at: now,
        }
    }

    /// Takes one token of `source`, if there is one.
    pub(super) fn take(&mut self, source: Source, now: Instant) -> bool {
        if !self.full_at.contains_key(&source) && self.full_at.len() >= SOURCES_LIMIT {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        let full_at = if self.full_at.len() < SOURCES_LIMIT {
            self.full_at.entry(source).or_insert(now)
        } else {
            self.full_at
                .get_mut(&source)
                .unwrap_or(&mut self.others_full_at)
        };
        let after = (*full_at).max(now) + self.rule.refill;
        let allowed = after <= now + self.rule.refill * self.rule.burst;
        if allowed {
            *full_at = after;
        }
        allowed
    }
}

/// Counts open connections by source. Bounded by the number of connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<HashMap<Source, usize>>>);

/// One connection's place.
#[derive(Debug)]
pub(super) struct Place {
    connections: Connections,
    source: Source,
}

impl Connections {
    /// Takes a place, if the source has one left.
    pub(super) fn enter(&self, source: Source) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(source).or_insert(0);
        if *count >= CONNECTIONS_PER_SOURCE {
            return None;
        }
        *count += 1;
        Some(Place {
            connections: self.clone(),
            source,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = &self.connections.0;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        burst: 3,
        refill: Duration::from_secs(10),
    };

    fn source(n: u32) -> Source {
        Source::of(IpAddr::V4(n.into()))
    }

    #[test]
    fn a_burst_is_allowed_and_then_one_each_refill() {
        let now = crate::clock::now().mono;
        let mut buckets = Buckets::new(RULE, now);
        let taken: Vec<bool> = (0..5).map(|_| buckets.take(source(1), now)).collect();
        assert_eq!(taken, [true, true, true, false, false]);
        let later = now + Duration::from_secs(10);
        assert!(buckets.take(source(1), later));
        assert!(!buckets.take(source(1), later));
        assert!(buckets.take(source(2), now), "another source has its own");
    }

    #[test]
    fn the_table_is_bounded_and_a_flood_leaves_a_shared_bucket() {
        let now = crate::clock::now().mono;
        let mut buckets = Buckets::new(RULE, now);
        for n in 0..SOURCES_LIMIT as u32 {
            assert!(buckets.take(source(n), now));
        }
        let newcomers: Vec<bool> = (0..5)
            .map(|n| buckets.take(source(u32::MAX - n), now))
            .collect();
        assert_eq!(newcomers, [true, true, true, false, false]);
        assert_eq!(buckets.full_at.len(), SOURCES_LIMIT);
        assert!(buckets.take(source(0), now), "who is known keeps his own");
        assert!(buckets.take(source(u32::MAX), now + Duration::from_secs(60)));
        assert!(buckets.full_at.len() < SOURCES_LIMIT, "idle ones made room");
    }

    #[test]
    fn a_subscriber_is_one_source() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn one_source_cannot_hold_every_connection() {
        let connections = Connections::default();
        let mut places: Vec<_> = (0..CONNECTIONS_PER_SOURCE)
            .map(|_| connections.enter(source(1)).unwrap())
            .collect();
        assert!(connections.enter(source(1)).is_none());
        assert!(connections.enter(source(2)).is_some());
        places.pop();
        assert!(connections.enter(source(1)).is_some());
        drop(places);
        assert_eq!(connections.0.lock().unwrap().len(), 0);
    }
}
