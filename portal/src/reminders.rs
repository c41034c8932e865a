//! 締切のお知らせ: mails five and one working days before the month's filings close, and before
//! the day of the month by which a kind of filing is due ([`last_days`]). A deadline that
//! counts from an event alone has no such day: the portal learns of the event by the filing.
//!
//! A mail says the month, the day and kinds of filings, and nothing about anybody (DESIGN, Security properties 8).
//! Each user gets each reminder once, however many portals run and whatever was down when it
//! was due: [`due`] says what is due *now*, not what became due at some moment, and the row that
//! remembers a reminder is written with its mail. On closed days nothing goes out, and in a
//! rehearsal nothing ever: nobody must take its deadlines for real ones.

pub mod pages;
pub mod store;

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use access::{Calendar, JST, Opening};
use serde_json::json;
use time::{Date, Duration, OffsetDateTime};

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::db::{Db, StoreError, Tx};
use crate::deadlines::{self, Cycle, CycleMonth, working_days_left};
use crate::filings::kinds::{self, Kind, Kinds};
use crate::mail::{outbox, texts};

/// How often the portal looks whether a reminder is due.
const EVERY: StdDuration = StdDuration::from_secs(5 * 60);
/// Working days before the closing day from which the first reminder is due.
const FIVE_DAYS: u32 = 5;
/// The same of the last one.
const ONE_DAY: u32 = 1;
/// How far before a last day its reminders are looked for: longer than any holidays.
const LOOKBACK: Duration = Duration::days(60);

/// Which reminder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// From five working days before.
    FiveDays,
    /// From one working day before.
    OneDay,
}

/// A day by which filings are handed in, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastDay {
    /// The day.
    pub day: Date,
    /// The month that it closes, if it is a closing day.
    pub closes: Option<CycleMonth>,
    /// The kinds that are due on it at the latest, about events of [`Self::events`].
    pub kinds: Vec<Kind>,
    /// The month of those events.
    pub events: CycleMonth,
}

/// A reminder that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// What it reminds of.
    pub last: LastDay,
    /// Which reminder.
    pub step: Step,
}

impl Step {
    /// The word in the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::FiveDays => "five_days",
            Self::OneDay => "one_day",
        }
    }
}

impl Step {
    /// Both, in their order.
    pub const ALL: [Self; 2] = [Self::FiveDays, Self::OneDay];

    /// Which one is due so many working days before the last day.
    fn at(working_days_left: u32) -> Option<Self> {
        match working_days_left {
            0..=ONE_DAY => Some(Self::OneDay),
            2..=FIVE_DAYS => Some(Self::FiveDays),
            _ => None,
        }
    }
}

impl LastDay {
    /// The first day on which the reminder `step` goes out; `None` if the days before are all
    /// closed.
    pub fn reminded_on(&self, step: Step, calendar: &Calendar) -> Option<Date> {
        let first = self.day.checked_sub(LOOKBACK)?;
        std::iter::successors(Some(first), |day| day.next_day())
            .take_while(|day| *day <= self.day)
            .filter(|day| calendar.opens_on(*day))
            .find(|day| Step::at(working_days_left(*day, self.day, calendar)) == Some(step))
    }
}

/// The days by which filings are handed in from `today` on, the next of each sort: the closing
/// days, and for each kind of filing that is due on a day of the month that day.
pub fn last_days(cycle: &Cycle, kinds: &Kinds, calendar: &Calendar, today: Date) -> Vec<LastDay> {
    let mut days: BTreeMap<Date, LastDay> = BTreeMap::new();
    let empty = |day, month| LastDay {
        day,
        closes: None,
        kinds: Vec::new(),
        events: month,
    };
    let month = cycle.counts_in(today, calendar);
    for month in [month, month.next()] {
        let day = cycle.closing_of(month, calendar);
        let last = days.entry(day).or_insert_with(|| empty(day, month));
        last.closes = Some(month);
    }
    let this = CycleMonth::of(today);
    for month in [this.previous(), this] {
        for kind in kinds
            .iter()
            .filter(|kind| kind.deadline.month_day.is_some())
        {
            // The latest that an event of the month can be: whoever keeps an earlier deadline
            // is in time by this one too.
            let is_working = |day| calendar.opens_on(day);
            let Some(day) = kind.deadline.due(month.last_day(), is_working) else {
                continue;
            };
            if day >= today && kind.is_open_on(day) {
                let last = days.entry(day).or_insert_with(|| empty(day, month));
                last.kinds.push(kind.kind);
                last.events = month;
            }
        }
    }
    days.into_values().collect()
}

/// What is due at `now`, while the service is open: after the last step's day has begun, the
/// earlier step is not made up for.
pub fn due(cycle: &Cycle, kinds: &Kinds, calendar: &Calendar, now: OffsetDateTime) -> Vec<Due> {
    if !matches!(calendar.opening(now), Opening::Open { .. }) {
        return Vec::new();
    }
    let today = now.to_offset(JST).date();
    let due = |last: LastDay| {
        let step = Step::at(working_days_left(today, last.day, calendar))?;
        Some(Due { last, step })
    };
    let days = last_days(cycle, kinds, calendar, today);
    days.into_iter().filter_map(due).collect()
}

/// Queues the mails that are due at `now`, each once. Returns how many.
///
/// # Errors
/// If the database does not answer: then nothing was queued, and the next round begins anew.
pub async fn remind(app: &App, now: OffsetDateTime) -> Result<usize, StoreError> {
    if app.config.rehearsal {
        return Ok(0);
    }
    let mut tx = app.db.begin().await?;
    let (cycle, calendar) = deadlines::store::rules(&mut tx).await?;
    let kinds = kinds::store::all(&mut *tx).await?;
    let mut queued = 0;
    for due in due(&cycle, &kinds, &calendar, now) {
        queued += queue(&mut tx, app, &due, now).await?;
    }
    if queued == 0 {
        return Ok(0);
    }
    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(queued)
}

/// Queues one reminder for everybody who has not got it.
async fn queue(
    tx: &mut Tx,
    app: &App,
    due: &Due,
    now: OffsetDateTime,
) -> Result<usize, StoreError> {
    let midnight = due.last.day.midnight().assume_offset(JST);
    let expires = midnight.saturating_add(Duration::DAY);
    let mut queued = 0;
    for (user, email) in store::to_remind(tx, due).await? {
        if store::remember(tx, user, due, now).await? {
            let mail = texts::reminder(&app.config, &email, due);
            outbox::queue(tx, &app.keys, mail, now, expires).await?;
            queued += 1;
        }
    }
    if queued > 0 {
        let details = json!({
            "closing": due.last.day.to_string(),
            "step": due.step.code(),
            "mails": queued,
        });
        let act = Act::RemindersQueued;
        audit::record_with(tx, &app.keys, &Actor::System, act, "", &details, now).await?;
    }
    Ok(queued)
}

/// Looks at once and then every few minutes, until the portal stops.
pub async fn run(app: App) {
    let mut stopping = app.signals.stopping();
    loop {
        match remind(&app, app.clock.now()).await {
            Ok(0) => {}
            Ok(mails) => tracing::info!(mails, "queued reminders of a closing day"),
            Err(error) => {
                let error = crate::web::page_error::chain(&error);
                tracing::error!(%error, "cannot queue reminders");
            }
        }
        tokio::select! {
            () = stopping.wait() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests;
