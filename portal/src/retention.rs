//! How long notices are kept, and their destruction when that is over (保存期間・廃棄記録).
//!
//! Each kind has a rule in years, counted from the day of issue. What falls under it is taken
//! out of the vault for good; its rows stay, and a record says what was destroyed, when, and
//! by which rule: never what stood in it. A shorter rule begins to hold only [`GRACE`] after
//! it was entered, so that a slip can be taken back.

pub mod pages;
pub mod store;

use access::JST;
use serde_json::json;
use time::{Date, Duration, Month, OffsetDateTime};

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::custody::CustodyError;
use crate::db::{Db, StoreError};
use crate::ids::StaffId;
use crate::notices::Kind;

/// Years that a rule may have. Seven are what tax law asks for, ten where there was a loss.
pub const YEARS: std::ops::RangeInclusive<i64> = 1..=50;
/// The rule until the fund enters one.
pub const DEFAULT_YEARS: i64 = 10;
/// How long the longer of two rules holds on after a change.
pub const GRACE: Duration = Duration::days(7);
/// Documents that one run destroys of a kind; the next run goes on.
const BATCH: i64 = 500;

/// How long notices of a kind are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Of which kind.
    pub kind: Kind,
    /// For how many years.
    pub years: i64,
    /// What held before.
    pub years_before: i64,
    /// When it was changed, if ever.
    pub changed: Option<OffsetDateTime>,
}

impl Rule {
    /// The rule that the program brings.
    pub fn default_of(kind: Kind) -> Self {
        Self {
            kind,
            years: DEFAULT_YEARS,
            years_before: DEFAULT_YEARS,
            changed: None,
        }
    }

    /// How many years hold at `now`.
    pub fn years_at(&self, now: OffsetDateTime) -> i64 {
        match self.changed {
            Some(changed) if now < changed + GRACE => self.years.max(self.years_before),
            Some(_) | None => self.years,
        }
    }

    /// What was issued before this is due for destruction at `now`.
    pub fn limit(&self, now: OffsetDateTime) -> OffsetDateTime {
        let today = now.to_offset(JST).date();
        let year = i32::try_from(i64::from(today.year()) - self.years_at(now)).unwrap_or(0);
        // On 29 February of a year that has none, the day before counts: never too early.
        let day = Date::from_calendar_date(year, today.month(), today.day())
            .or_else(|_| Date::from_calendar_date(year, Month::February, 28))
            .unwrap_or(Date::MIN);
        day.midnight().assume_offset(JST)
    }
}

/// Changes a rule.
///
/// # Errors
/// [`StoreError`].
pub async fn change(
    app: &App,
    by: StaffId,
    kind: Kind,
    years: i64,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let mut tx = app.db.begin().await?;
    let rule = store::rule_in(&mut tx, kind).await?;
    if rule.years == years {
        return Ok(());
    }
    store::put_rule(&mut tx, &rule, years, by, now).await?;
    let details = json!({ "years": years, "before": rule.years });
    let (actor, act) = (Actor::Staff(by), Act::RetentionChanged(kind.code()));
    audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;
    Db::commit(tx).await
}

/// Destroys what is due. Returns how many documents it were.
///
/// The object goes first, for good; then the rows say so in one transaction. A crash between
/// the two leaves rows that the next run finishes, and never an object that rows call
/// destroyed.
///
/// # Errors
/// [`CustodyError`]; the next run goes on.
pub async fn destroy_due(app: &App, now: OffsetDateTime) -> Result<u64, CustodyError> {
    let mut destroyed = 0;
    for kind in Kind::ALL {
        let rule = store::rule(&app.db, kind).await?;
        let years = rule.years_at(now);
        for due in store::due(&app.db, kind, rule.limit(now), BATCH).await? {
            app.vault.delete(due.document).await?;
            let mut tx = app.db.begin().await?;
            if store::record_destruction(&mut tx, &due, years, now).await? {
                let details = json!({ "years": years });
                let act = Act::NoticeDestroyed(due.notice);
                let actor = Actor::System;
                audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;
                destroyed += 1;
            }
            Db::commit(tx).await?;
        }
    }
    Ok(destroyed)
}

#[cfg(test)]
mod tests;
