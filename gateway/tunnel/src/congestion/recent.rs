//! The greatest number of the last rounds.

/// Remembers the greatest number of each of the last `ROUNDS` rounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recent<const ROUNDS: usize> {
    greatest: [u64; ROUNDS],
    current: usize,
}

impl<const ROUNDS: usize> Default for Recent<ROUNDS> {
    fn default() -> Self {
        Self {
            greatest: [0; ROUNDS],
            current: 0,
        }
    }
}

impl<const ROUNDS: usize> Recent<ROUNDS> {
    /// Notes a number of the current round.
    pub(super) fn note(&mut self, number: u64) {
        let current = &mut self.greatest[self.current];
        *current = number.max(*current);
    }

    /// Begins a round, and with it forgets the oldest.
    pub(super) fn next_round(&mut self) {
        self.current = (self.current + 1) % ROUNDS;
        self.greatest[self.current] = 0;
    }

    /// The greatest of all rounds that are remembered. Zero if there is none.
    pub(super) fn best(&self) -> u64 {
        self.greatest.iter().copied().max().unwrap_or(0)
    }

    /// Has nothing greater than `limit` been noted.
    pub(super) fn cut_to(&mut self, limit: u64) {
        for greatest in &mut self.greatest {
            *greatest = limit.min(*greatest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_is_remembered_for_so_many_rounds() {
        let mut recent = Recent::<3>::default();
        assert_eq!(recent.best(), 0);
        recent.note(7);
        recent.note(5);
        recent.next_round();
        recent.note(6);
        recent.next_round();
        assert_eq!(recent.best(), 7);
        recent.next_round();
        assert_eq!(recent.best(), 6);
    }

    #[test]
    fn what_is_cut_stays_cut() {
        let mut recent = Recent::<3>::default();
        recent.note(7);
        recent.cut_to(4);
        assert_eq!(recent.best(), 4);
        recent.note(5);
        assert_eq!(recent.best(), 5);
    }
}
