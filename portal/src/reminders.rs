//! 締切のお知らせ: mails five and one working days before the month's filings close.
//!
//! A mail says the month and the day and nothing about anybody (DESIGN, Security properties 8).
//! Each user gets each reminder once, however many portals run and whatever was down when it
//! was due: [`due`] says what is due *now*, not what became due at some moment, and the row that
//! remembers a reminder is written with its mail. On closed days nothing goes out, and in a
//! rehearsal nothing ever: nobody must take its deadlines for real ones.

pub mod pages;
pub mod store;

use std::time::Duration as StdDuration;

use access::{Calendar, JST, Opening};
use serde_json::json;
use time::{Date, Duration, OffsetDateTime};

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::db::{Db, StoreError};
use crate::deadlines::{self, Cycle, CycleMonth, working_days_left};
use crate::mail::{outbox, texts};

/// How often the portal looks whether a reminder is due.
const EVERY: StdDuration = StdDuration::from_secs(5 * 60);
/// Working days before the closing day from which the first reminder is due.
const FIVE_DAYS: u32 = 5;
/// The same of the last one.
const ONE_DAY: u32 = 1;

/// Which reminder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// From five working days before.
    FiveDays,
    /// From one working day before.
    OneDay,
}

/// A reminder that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The month whose filings close.
    pub month: CycleMonth,
    /// The last day.
    pub closing: Date,
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

/// What is due at `now`, while the service is open: after the last step's day has begun, the
/// earlier step is not made up for.
pub fn due(cycle: &Cycle, calendar: &Calendar, now: OffsetDateTime) -> Option<Due> {
    if !matches!(calendar.opening(now), Opening::Open { .. }) {
        return None;
    }
    let today = now.to_offset(JST).date();
    let (month, closing) = cycle.next_closing(today, calendar);
    let step = match working_days_left(today, closing, calendar) {
        0..=ONE_DAY => Step::OneDay,
        2..=FIVE_DAYS => Step::FiveDays,
        _ => return None,
    };
    Some(Due {
        month,
        closing,
        step,
    })
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
    let Some(due) = due(&cycle, &calendar, now) else {
        return Ok(0);
    };
    let midnight = due.closing.midnight().assume_offset(JST);
    let expires = midnight.saturating_add(Duration::DAY);
    let mut queued = 0;
    for (user, email) in store::to_remind(&mut tx, &due).await? {
        if store::remember(&mut tx, user, &due, now).await? {
            let mail = texts::reminder(&app.config, &email, &due);
            outbox::queue(&mut tx, &app.keys, mail, now, expires).await?;
            queued += 1;
        }
    }
    if queued == 0 {
        return Ok(0);
    }
    let details = json!({
        "closing": due.closing.to_string(),
        "step": due.step.code(),
        "mails": queued,
    });
    let act = Act::RemindersQueued;
    audit::record_with(&mut tx, &app.keys, &Actor::System, act, "", &details, now).await?;
    Db::commit(tx).await?;
    app.signals.mail_queued();
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
