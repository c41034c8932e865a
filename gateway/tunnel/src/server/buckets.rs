//! How many handshakes one source may ask for: a burst, then a steady trickle.
//!
//! A fixed table, indexed by a keyed hash of the address: no source can make it grow, and
//! none can choose whom it shares a bucket with. WireGuard's cookies keep forged sources
//! away from here when there is load.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Buckets in the table.
const BUCKETS: usize = 4096;

/// One handshake per source and this long. Many PCs may share an office's address.
const INTERVAL: Duration = Duration::from_millis(100);

/// Handshakes of one source at once: an office of fifty PCs at eight o'clock.
const BURST: u32 = 50;

pub(super) struct Buckets {
    hasher: RandomState,
    /// When each bucket will be full again.
    full_at: Box<[Option<Instant>]>,
}

impl Buckets {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            full_at: vec![None; BUCKETS].into(),
        }
    }

    /// Takes one from the source's bucket. False if it is empty.
    pub(super) fn take(&mut self, source: IpAddr, now: Instant) -> bool {
        // Whoever has one IPv6 address has a whole /64.
        let key = match source.to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        let slot = self.hasher.hash_one(key) as usize % BUCKETS;
        let full_at = self.full_at[slot].unwrap_or(now).max(now);
        if full_at - now > INTERVAL * (BURST - 1) {
            return false;
        }
        self.full_at[slot] = Some(full_at + INTERVAL);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other constructor"
    )]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_burst_passes_and_then_one_per_interval() {
        let mut buckets = Buckets::new();
        let (now, source) = (origin(), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
        let passed = (0..1000).filter(|_| buckets.take(source, now)).count();
        assert_eq!(passed, BURST as usize);
        assert!(buckets.take(source, now + INTERVAL));
        assert!(!buckets.take(source, now + INTERVAL));
    }

    #[test]
    fn one_source_does_not_empty_anothers_bucket() {
        let mut buckets = Buckets::new();
        let now = origin();
        while buckets.take(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), now) {}
        // One in 4,096 shares the bucket; not all of these do.
        let others = (2..=5).filter(|last| {
            let source = IpAddr::V4(Ipv4Addr::new(192, 0, 2, *last));
            buckets.take(source, now)
        });
        assert!(others.count() >= 2);
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_share_a_bucket() {
        let mut buckets = Buckets::new();
        let now = origin();
        let passed = (0..1000u16)
            .filter(|host| {
                let source = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, *host);
                buckets.take(IpAddr::V6(source), now)
            })
            .count();
        assert_eq!(passed, BURST as usize);
    }
}
