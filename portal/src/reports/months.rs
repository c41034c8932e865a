//! A month's figures: a month that is over is counted once.
//!
//! Nothing is added to the history of a month that is over, so its figures are kept in memory
//! until the portal stops. Two years of the reference fund are one megabyte.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use time::{Duration, OffsetDateTime};

use super::store::{self, Decision};
use super::{Volume, YearMonth};
use crate::db::{Db, StoreError};
use crate::web::principals::Staff;

/// Months that are kept at most: what was asked for out of curiosity goes first, as it is old.
const KEPT_LIMIT: usize = 10 * 12;
/// How long after its end a month is counted anew: what was begun before midnight may be
/// written after it, by another portal with another clock too.
const SETTLES_AFTER: Duration = Duration::hours(6);

/// What a month came to.
#[derive(Debug, PartialEq, Eq)]
pub struct MonthFigures {
    /// Which month.
    pub month: YearMonth,
    /// How many of each entry and kind.
    pub volumes: Vec<Volume>,
    /// The decisions.
    pub decisions: Vec<Decision>,
    /// How often each code was the reason of a return.
    pub returns: Vec<(String, u64)>,
}

/// The figures of months that are over.
#[derive(Debug, Default)]
pub struct KeptMonths(Mutex<BTreeMap<YearMonth, Arc<MonthFigures>>>);

impl KeptMonths {
    /// A month's figures, counted if they are not kept.
    pub async fn figures(
        &self,
        db: &Db,
        staff: &Staff,
        month: YearMonth,
        now: OffsetDateTime,
    ) -> Result<Arc<MonthFigures>, StoreError> {
        if let Some(kept) = self.kept(month, now) {
            return Ok(kept);
        }
        let figures = Arc::new(MonthFigures {
            month,
            volumes: store::volumes(db, staff, month).await?,
            decisions: store::decisions(db, staff, month).await?,
            returns: store::returns(db, staff, month).await?,
        });
        self.keep(&figures, now);
        Ok(figures)
    }

    fn kept(&self, month: YearMonth, now: OffsetDateTime) -> Option<Arc<MonthFigures>> {
        let mut months = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was ahead and went back: that month is not over.
        months.retain(|month, _| is_settled(*month, now));
        months.get(&month).cloned()
    }

    fn keep(&self, figures: &Arc<MonthFigures>, now: OffsetDateTime) {
        if !is_settled(figures.month, now) {
            return;
        }
        let mut months = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        months.insert(figures.month, Arc::clone(figures));
        while months.len() > KEPT_LIMIT {
            months.pop_first();
        }
    }
}

fn is_settled(month: YearMonth, now: OffsetDateTime) -> bool {
    month.next().begins() + SETTLES_AFTER <= now
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn figures(month: &str) -> Arc<MonthFigures> {
        Arc::new(MonthFigures {
            month: YearMonth::parse(month).unwrap(),
            volumes: Vec::new(),
            decisions: Vec::new(),
            returns: Vec::new(),
        })
    }

    #[test]
    fn only_what_is_over_is_kept_and_no_longer_than_it_is_over() {
        let kept = KeptMonths::default();
        let february = figures("2026-02");
        let just_over = datetime!(2026-03-01 05:59 +9);
        kept.keep(&february, just_over);
        assert_eq!(kept.kept(february.month, just_over), None);
        let settled = datetime!(2026-03-01 06:00 +9);
        kept.keep(&february, settled);
        assert_eq!(kept.kept(february.month, settled), Some(february.clone()));
        // The clock was ahead.
        let really = datetime!(2026-02-10 10:00 +9);
        assert_eq!(kept.kept(february.month, really), None);
        assert_eq!(kept.kept(february.month, settled), None);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let kept = KeptMonths::default();
        let now = datetime!(2026-03-02 10:00 +9);
        let mut month = YearMonth::parse("2026-02").unwrap();
        for _ in 0..KEPT_LIMIT + 30 {
            kept.keep(&figures(&month.code()), now);
            month = month.previous();
        }
        assert_eq!(kept.0.lock().unwrap().len(), KEPT_LIMIT);
        assert!(
            kept.kept(YearMonth::parse("2026-02").unwrap(), now)
                .is_some()
        );
        assert!(kept.kept(month.next(), now).is_none());
    }
}
