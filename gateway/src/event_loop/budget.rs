//! How much may wait between the tunnels and the portal, in bytes: for one session, and for
//! all of them.
//!
//! What a session's streams hold here is its PC's doing: it opens uploads that the portal
//! does not read, or downloads that it does not take. So all streams of a session share one
//! [`SESSION_BYTES`] in each direction, and all sessions the gateway's whole. A stream that
//! gets no share still moves, a [`SMALL_BYTES`] at a time: nobody is stuck because others hold
//! what there is.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tunnel::server::PeerId;

/// What a session's streams share in each direction, in bytes: 24 MB/s for 40 ms, which is
/// how long a chunk may take on its way to the portal.
pub(super) const SESSION_BYTES: usize = 1024 * 1024;

/// What moves without a share, one piece per stream and direction, in bytes.
pub(super) const SMALL_BYTES: usize = 4 * 1024;

/// Permits are counted in these, so that a large whole fits into a number of permits.
const UNIT_BYTES: usize = 1024;

/// The whole and the sessions' parts of it.
pub(super) struct Budget {
    all: Arc<Semaphore>,
    sessions: HashMap<PeerId, Arc<Both>>,
}

/// A session's part, in both directions.
struct Both {
    up: Purse,
    down: Purse,
}

/// What the streams of a session share in one direction.
#[derive(Clone)]
pub(super) struct Purse {
    session: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// Room for some bytes; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    session: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
}

impl Budget {
    /// So many bytes for all sessions together.
    pub(super) fn new(all_bytes: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all_bytes / UNIT_BYTES)),
            sessions: HashMap::new(),
        }
    }

    /// The purses of a session, towards the portal and back.
    pub(super) fn purses(&mut self, peer: PeerId) -> (Purse, Purse) {
        let both = self.sessions.entry(peer).or_insert_with(|| {
            Arc::new(Both {
                up: Purse::new(&self.all),
                down: Purse::new(&self.all),
            })
        });
        (both.up.clone(), both.down.clone())
    }

    /// The session is over. What its streams still hold comes back as they end.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.sessions.remove(&peer);
    }
}

impl Purse {
    fn new(all: &Arc<Semaphore>) -> Self {
        Self {
            session: Arc::new(Semaphore::new(SESSION_BYTES / UNIT_BYTES)),
            all: Arc::clone(all),
        }
    }

    /// Room for so many bytes, if there is any now.
    pub(super) fn try_take(&self, bytes: usize) -> Option<Share> {
        let units = units(bytes);
        let session = Arc::clone(&self.session).try_acquire_many_owned(units);
        let all = Arc::clone(&self.all).try_acquire_many_owned(units);
        Some(Share {
            session: session.ok()?,
            all: all.ok()?,
        })
    }

    /// Waits for room for so many bytes.
    pub(super) async fn take(&self, bytes: usize) -> Share {
        let units = units(bytes);
        let session = Arc::clone(&self.session).acquire_many_owned(units).await;
        let all = Arc::clone(&self.all).acquire_many_owned(units).await;
        Share {
            session: session.expect("these are never closed"),
            all: all.expect("these are never closed"),
        }
    }
}

impl Share {
    /// Gives back what is not needed for so many bytes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let needed = units(bytes) as usize;
        for permit in [&mut self.session, &mut self.all] {
            drop(permit.split(permit.num_permits().saturating_sub(needed)));
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_gets_its_part_and_all_sessions_the_whole() {
        let mut budget = Budget::new(SESSION_BYTES * 3 / 2);
        let (greedy, _) = budget.purses(PeerId(1));
        let held: Vec<_> = std::iter::from_fn(|| greedy.try_take(64 * 1024)).collect();
        assert_eq!(held.len() * 64 * 1024, SESSION_BYTES);
        let (other, _) = budget.purses(PeerId(2));
        let others: Vec<_> = std::iter::from_fn(|| other.try_take(64 * 1024)).collect();
        assert_eq!(others.len() * 64 * 1024, SESSION_BYTES / 2);
        drop(held);
        assert!(other.try_take(64 * 1024).is_some());
    }

    #[test]
    fn a_small_piece_gives_back_what_it_does_not_need() {
        let mut budget = Budget::new(SESSION_BYTES);
        let (purse, _) = budget.purses(PeerId(1));
        let mut shares = Vec::new();
        for _ in 0..SESSION_BYTES / UNIT_BYTES - 63 {
            let mut share = purse.try_take(64 * 1024).expect("most is given back");
            share.shrink(100);
            shares.push(share);
        }
        assert!(purse.try_take(64 * 1024).is_none());
    }

    #[test]
    fn the_directions_do_not_take_from_each_other() {
        let mut budget = Budget::new(4 * SESSION_BYTES);
        let (up, down) = budget.purses(PeerId(1));
        let _held: Vec<_> = std::iter::from_fn(|| up.try_take(64 * 1024)).collect();
        assert!(down.try_take(64 * 1024).is_some());
    }
}
