//! What an edit of the calendar would do, looked at before it is saved: the days that open or
//! close, the sessions that end earlier, the deadlines and reminders that move.
//!
//! The page carries the edit's fields and the mark of what it was looked at against
//! ([`Rules::mark`]): whoever saves is told if somebody else was faster.

use std::collections::BTreeSet;

use access::{Calendar, JST, Opening};
use askama::Template;
use sqlx::AnyConnection;
use time::{Date, OffsetDateTime};

use super::pages::on_day;
use super::{Entries, store};
use crate::app::App;
use crate::db::StoreError;
use crate::deadlines::store as cycles;
use crate::deadlines::{Cycle, CycleMonth};
use crate::filings::kinds::{self, Kinds};
use crate::reminders::{self, Step};
use crate::web::dates;
use crate::web::layout::Layout;
use crate::web::page_error::PageError;

/// Days that the preview shows: six weeks.
const PREVIEW_DAYS: usize = 42;
/// Closing days that the pages show.
const CLOSINGS: usize = 4;

/// All that the calendar's pages change, and the deadlines of the kinds of filings, which
/// move with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// Days and hours.
    pub(super) entries: Entries,
    /// The monthly cycle.
    pub(super) cycle: Cycle,
    kinds: Kinds,
}

impl Rules {
    /// Reads them.
    pub(super) async fn read(connection: &mut AnyConnection) -> Result<Self, StoreError> {
        Ok(Self {
            entries: store::entries(&mut *connection).await?,
            cycle: cycles::cycle(&mut *connection).await?,
            kinds: kinds::store::all(connection).await?,
        })
    }

    /// As they are now.
    pub(super) async fn now(app: &App) -> Result<Self, PageError> {
        let mut connection = app
            .db
            .pool()
            .acquire()
            .await
            .map_err(StoreError::doing("connect to read the rules"))?;
        Ok(Self::read(&mut connection).await?)
    }

    /// Names this state of the rules, so that an edit of another one is noticed.
    pub(super) fn mark(&self) -> String {
        let Cycle { days, overrides } = &self.cycle;
        let overrides = overrides
            .iter()
            .map(|(month, day)| format!("{month}={day}"));
        let entered = self.entries.days.values().map(|day| format!("{day:?}"));
        let all = [
            store::week_to_json(self.entries.week).to_string(),
            days.closing().to_string(),
            days.decision().to_string(),
        ];
        let all: Vec<String> = all.into_iter().chain(overrides).chain(entered).collect();
        crate::custody::sha256_hex(all.join("\n").as_bytes())
    }

    /// What they are told who edit another state than they looked at.
    pub(super) fn moved() -> PageError {
        PageError::Refused(
            "ほかの人が先にカレンダーか締切日を変更しました。いまの設定を表示し、もう一度変更してください。"
                .into(),
        )
    }

    fn calendar(&self) -> Calendar {
        self.entries.calendar(false)
    }
}

/// The next months with their closing and decision days.
pub(super) fn closings<'a>(
    cycle: &'a Cycle,
    calendar: &'a Calendar,
    today: Date,
) -> impl Iterator<Item = (CycleMonth, Date, Date)> + 'a {
    let first = cycle.counts_in(today, calendar);
    std::iter::successors(Some(first), |month| Some(month.next()))
        .take(CLOSINGS)
        .map(|month| {
            let closing = cycle.closing_of(month, calendar);
            (month, closing, cycle.decision_of(month, calendar))
        })
}

/// The page that asks whether it is meant so.
#[derive(Template)]
#[template(path = "calendar_preview.html")]
pub(super) struct PreviewPage {
    pub(super) layout: Layout,
    /// Where one came from: address and title.
    pub(super) back: (&'static str, &'static str),
    /// Where the button sends the fields.
    pub(super) action: &'static str,
    /// What is about to be done, in sentences; empty where the tables say it all.
    pub(super) intent: Vec<String>,
    pub(super) changes: Changes,
    pub(super) fields: Vec<(String, String)>,
}

/// What an edit would do.
pub(super) struct Changes {
    days: Vec<Change>,
    closings: Vec<Change>,
    reminders: Vec<Change>,
    sessions: u64,
    moved_filings: usize,
    /// Closing days that the fund set and that would be closed themselves.
    closed_closings: Vec<String>,
}

/// One line of a table: what it was and what it would be.
pub(super) struct Change {
    name: String,
    before: String,
    after: String,
    changed: bool,
}

impl Change {
    fn new(name: String, before: String, after: String) -> Self {
        Self {
            changed: before != after,
            name,
            before,
            after,
        }
    }
}

impl Changes {
    /// Looks at what would be, the days `entered` among it however far away they are.
    pub(super) async fn look(
        app: &App,
        before: &Rules,
        after: &Rules,
        entered: &[Date],
        now: OffsetDateTime,
    ) -> Result<Self, PageError> {
        let today = now.to_offset(JST).date();
        let (old, new) = (before.calendar(), after.calendar());
        let mut connection = app
            .db
            .pool()
            .acquire()
            .await
            .map_err(StoreError::doing("connect to look at an edit"))?;
        let moved = cycles::moved(&mut connection, &after.cycle, &new).await?;
        let sessions = match after.entries.calendar(app.config.rehearsal).opening(now) {
            Opening::Open { closes_at: None } => 0,
            Opening::Open {
                closes_at: Some(closes),
            } => store::sessions_beyond(&mut connection, closes).await?,
            Opening::Closed(_) => store::sessions_beyond(&mut connection, now).await?,
        };
        let overrides = after.cycle.overrides.iter();
        Ok(Self {
            days: days(&old, &new, entered, today),
            closings: closing_changes(before, after, today),
            reminders: reminder_changes(before, after, today),
            sessions,
            moved_filings: moved.len(),
            closed_closings: overrides
                .filter(|(_, day)| **day >= today && !new.opens_on(**day))
                .map(|(month, day)| format!("{}分（{}）", month.page_text(), dates::date(*day)))
                .collect(),
        })
    }

    fn changed_days(&self) -> usize {
        self.days.iter().filter(|day| day.changed).count()
    }

    fn moved_reminders(&self) -> usize {
        self.reminders.iter().filter(|line| line.changed).count()
    }
}

fn days(old: &Calendar, new: &Calendar, entered: &[Date], today: Date) -> Vec<Change> {
    let coming = std::iter::successors(Some(today), |day| day.next_day()).take(PREVIEW_DAYS);
    let days: BTreeSet<Date> = coming.chain(entered.iter().copied()).collect();
    let text = |calendar: &Calendar, day| match on_day(calendar, day) {
        (true, hours) => hours,
        (false, why) => format!("休み　{why}"),
    };
    days.into_iter()
        .map(|day| Change::new(dates::date(day), text(old, day), text(new, day)))
        .collect()
}

fn closing_changes(before: &Rules, after: &Rules, today: Date) -> Vec<Change> {
    let (old, new) = (before.calendar(), after.calendar());
    let text = |closing: Date, decision: Date| {
        format!(
            "{}（決定日 {}）",
            dates::date(closing),
            dates::date(decision)
        )
    };
    closings(&after.cycle, &new, today)
        .map(|(month, closing, decision)| {
            let was = (
                before.cycle.closing_of(month, &old),
                before.cycle.decision_of(month, &old),
            );
            let name = format!("{}分", month.page_text());
            Change::new(name, text(was.0, was.1), text(closing, decision))
        })
        .collect()
}

/// The days on which reminders go out, each sort of last day by itself.
fn reminder_changes(before: &Rules, after: &Rules, today: Date) -> Vec<Change> {
    let (old, new) = (reminder_days(before, today), reminder_days(after, today));
    let mut names: Vec<&String> = new.iter().chain(&old).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    let text = |all: &[(String, String)], name: &String| {
        let found = all.iter().find(|(known, _)| known == name);
        found.map_or_else(|| "なし".to_owned(), |(_, days)| days.clone())
    };
    names
        .into_iter()
        .map(|name| Change::new(name.clone(), text(&old, name), text(&new, name)))
        .collect()
}

fn reminder_days(rules: &Rules, today: Date) -> Vec<(String, String)> {
    let calendar = rules.calendar();
    let mut lines = Vec::new();
    for last in reminders::last_days(&rules.cycle, &rules.kinds, &calendar, today) {
        let days: Vec<String> = Step::ALL
            .into_iter()
            .filter_map(|step| last.reminded_on(step, &calendar))
            .filter(|day| *day >= today)
            .map(dates::date)
            .collect();
        let days = days.join("、");
        if let Some(month) = last.closes {
            lines.push((format!("{}分の締切", month.page_text()), days.clone()));
        }
        for kind in &last.kinds {
            let events = last.events.page_text();
            lines.push((format!("{kind}（{events}の事由）"), days.clone()));
        }
    }
    lines
}
