//! Who must be looked at when: one entry per peer, in order of time.
//!
//! A deadline that moves away is left where it is and looked at in vain: per packet, QUIC's
//! timers mostly move away, and that must cost nothing.

use std::collections::BTreeSet;
use std::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Timers {
    entries: BTreeSet<(Instant, usize)>,
}

/// A peer's entry, kept with the peer.
#[derive(Debug, Default)]
pub(super) struct Scheduled(Option<Instant>);

impl Timers {
    /// Has `slot` looked at by `at`, or earlier if that was asked for before.
    pub(super) fn schedule(&mut self, slot: usize, scheduled: &mut Scheduled, at: Instant) {
        if scheduled.0.is_none_or(|before| at < before) {
            self.cancel(slot, scheduled);
            self.entries.insert((at, slot));
            scheduled.0 = Some(at);
        }
    }

    /// Forgets a slot.
    pub(super) fn cancel(&mut self, slot: usize, scheduled: &mut Scheduled) {
        if let Some(before) = scheduled.0.take() {
            self.entries.remove(&(before, slot));
        }
    }

    /// Takes all entries that are due into `due`, which is emptied first. The caller schedules
    /// each slot anew. What is not due is not touched.
    pub(super) fn take_due(&mut self, now: Instant, due: &mut Vec<usize>) {
        due.clear();
        while let Some((at, slot)) = self.entries.pop_first() {
            if at > now {
                self.entries.insert((at, slot));
                return;
            }
            due.push(slot);
        }
    }

    /// Returns when the first entry is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.first().map(|(at, _)| *at)
    }
}

impl Scheduled {
    /// Notes that the entry was taken.
    pub(super) fn taken(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other constructor"
    )]
    fn an_earlier_time_replaces_a_later_one_and_a_later_one_nothing() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let (mut timers, mut scheduled) = (Timers::default(), Scheduled::default());
        timers.schedule(3, &mut scheduled, start + 2 * second);
        timers.schedule(3, &mut scheduled, start + second);
        timers.schedule(3, &mut scheduled, start + 3 * second);
        assert_eq!(timers.next(), Some(start + second));
        let mut due = Vec::new();
        timers.take_due(start, &mut due);
        assert_eq!(due, []);
        timers.take_due(start + second, &mut due);
        assert_eq!(due, [3]);
        assert_eq!(timers.next(), None);
    }
}
