//! The office's page for the calendar: what was entered, and the next two weeks. Who may
//! enters days here ([`super::days`]); everybody of the staff looks.

use access::{Calendar, JST, Opening, OpeningHours, WeekHours};
use askama::Template;
use axum::extract::{FromRequestParts, Query, State};
use axum::response::Html;
use http::Method;
use http::request::Parts;
use serde::Deserialize;
use time::{Date, OffsetDateTime, Time};

use super::days::EntryForm;
use super::{CalendarDay, DayKind, holiday_warning, store};
use crate::app::App;
use crate::db::StoreError;
use crate::staff::StaffRole;
use crate::web::forms::FieldErrors;
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::Staff;
use crate::web::router::{Principal, Routes};
use crate::web::{dates, page};

/// Days that the preview shows.
const PREVIEW_DAYS: usize = 14;

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .with(super::rules::office_routes)
        .with(super::days::office_routes)
        .allow::<Staff, _, _>(Method::GET, "/calendar", show)
}

/// Staff who change the calendar and the monthly cycle: supervisors and system administrators.
#[derive(Debug, Clone)]
pub(super) struct CalendarKeeper(Staff);

impl CalendarKeeper {
    /// The account.
    pub(super) fn staff(&self) -> &Staff {
        &self.0
    }

    fn may(staff: &Staff) -> bool {
        match staff.role() {
            StaffRole::Supervisor | StaffRole::SystemAdmin => true,
            StaffRole::Reviewer => false,
        }
    }
}

impl Principal for CalendarKeeper {
    const NAME: &'static str = "calendar keeper";
}

impl FromRequestParts<App> for CalendarKeeper {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        let staff = Staff::from_request_parts(parts, app).await?;
        if Self::may(&staff) {
            Ok(Self(staff))
        } else {
            Err(PageError::NotFound)
        }
    }
}

#[derive(Template)]
#[template(path = "calendar.html")]
pub(super) struct CalendarPage {
    layout: Layout,
    holiday_warning: Option<String>,
    /// The hours of the week, as a sentence has them.
    hours: String,
    entries: Vec<EntryRow>,
    preview: Vec<PreviewRow>,
    form: EntryForm,
    errors: FieldErrors,
    may_change: bool,
    done: &'static str,
    sessions: u32,
}

struct EntryRow {
    day: String,
    date: String,
    state: (&'static str, &'static str),
    hours: String,
    reason: String,
}

struct PreviewRow {
    date: String,
    today: bool,
    open: bool,
    text: String,
}

#[derive(Deserialize)]
struct Done {
    done: Option<String>,
    sessions: Option<u32>,
}

/// `GET /calendar`
async fn show(
    staff: Staff,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Html<String>, PageError> {
    let mut shown =
        calendar_page(&app, &staff, EntryForm::default(), FieldErrors::default()).await?;
    shown.done = match done.done.as_deref() {
        Some("entered") => "カレンダーに登録しました。",
        Some("removed") => "登録を削除しました。",
        Some(_) | None => "",
    };
    shown.sessions = done.sessions.unwrap_or(0);
    page(&shown)
}

/// The page, with a form as it was typed and what is wrong with it.
pub(super) async fn calendar_page(
    app: &App,
    staff: &Staff,
    form: EntryForm,
    errors: FieldErrors,
) -> Result<CalendarPage, PageError> {
    let today = app.clock.now().to_offset(JST).date();
    let mut connection = app
        .db
        .pool()
        .acquire()
        .await
        .map_err(StoreError::doing("connect to read the calendar"))?;
    let entries = store::entries(&mut connection).await?;
    let calendar = entries.calendar(app.config.rehearsal);
    Ok(CalendarPage {
        layout: Layout::office(app, staff, OfficePage::Calendar),
        holiday_warning: holiday_warning(today),
        hours: week_text(entries.week),
        entries: entries
            .days
            .range(today..)
            .map(|(_, entry)| EntryRow::of(entry))
            .collect(),
        preview: preview(&calendar, today),
        form,
        errors,
        may_change: CalendarKeeper::may(staff),
        done: "",
        sessions: 0,
    })
}

/// The hours of the week: 「月曜日〜金曜日 8:00〜20:00」. Days that follow each other with the same
/// hours stand together.
fn week_text(week: WeekHours) -> String {
    const LABELS: [&str; 7] = ["月", "火", "水", "木", "金", "土", "日"];
    let mut runs: Vec<(usize, usize, OpeningHours)> = Vec::new();
    for (at, (weekday, _)) in store::WEEKDAYS.iter().enumerate() {
        let Some(hours) = week.on(*weekday) else {
            continue;
        };
        match runs.last_mut() {
            Some((_, last, same)) if *last + 1 == at && *same == hours => *last = at,
            Some(_) | None => runs.push((at, at, hours)),
        }
    }
    let texts = runs.into_iter().map(|(first, last, hours)| {
        let days = match first == last {
            true => format!("{}曜日", LABELS[first]),
            false => format!("{}曜日〜{}曜日", LABELS[first], LABELS[last]),
        };
        format!("{days} {}", hours_text(hours))
    });
    texts.collect::<Vec<_>>().join("、")
}

fn hours_text(hours: OpeningHours) -> String {
    format!(
        "{}〜{}",
        dates::of_day(hours.opens()),
        dates::of_day(hours.closes())
    )
}

impl EntryRow {
    fn of(entry: &CalendarDay) -> Self {
        let (state, hours) = match &entry.kind {
            DayKind::Closing => (("warning", "休業日"), String::new()),
            DayKind::Extra(hours) => (("success", "臨時の利用日"), hours_text(*hours)),
        };
        Self {
            day: entry.day.to_string(),
            date: dates::date(entry.day),
            state,
            hours,
            reason: entry.reason.clone(),
        }
    }
}

/// What the rules and the entries make of the coming days.
fn preview(calendar: &Calendar, today: Date) -> Vec<PreviewRow> {
    std::iter::successors(Some(today), |day| day.next_day())
        .take(PREVIEW_DAYS)
        .map(|day| {
            let (open, text) = on_day(calendar, day);
            PreviewRow {
                date: dates::date(day),
                today: day == today,
                open,
                text,
            }
        })
        .collect()
}

/// Whether the service opens on `day`, and its hours or why not.
pub(super) fn on_day(calendar: &Calendar, day: Date) -> (bool, String) {
    use access::ClosedReason;
    let midnight = day.with_time(Time::MIDNIGHT).assume_offset(JST);
    match calendar.opening(midnight) {
        Opening::Open { closes_at: None } => (true, "終日".to_owned()),
        Opening::Open {
            closes_at: Some(closes),
        } => (true, window_text(midnight, closes)),
        Opening::Closed(closed) => match (&closed.reason, closed.opens_next) {
            (ClosedReason::BeforeOpening, Some(opens)) => match calendar.opening(opens) {
                Opening::Open {
                    closes_at: Some(closes),
                } => (true, window_text(opens, closes)),
                Opening::Open { closes_at: None } | Opening::Closed(_) => (true, String::new()),
            },
            (ClosedReason::BeforeOpening | ClosedReason::AfterClosing, _) => {
                (false, "利用時間外".to_owned())
            }
            (ClosedReason::WeeklyClosing(_), _) => (false, "定休日".to_owned()),
            (ClosedReason::Weekend, _) => (false, "土曜日・日曜日".to_owned()),
            (ClosedReason::Holiday(name), _) => (false, format!("祝日（{name}）")),
            (ClosedReason::ClosingDay(reason), _) if reason.is_empty() => {
                (false, "基金の休業日".to_owned())
            }
            (ClosedReason::ClosingDay(reason), _) => (false, format!("基金の休業日（{reason}）")),
        },
    }
}

fn window_text(opens: OffsetDateTime, closes: OffsetDateTime) -> String {
    format!("{}〜{}", dates::clock(opens), dates::clock(closes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Weekday;
    use time::macros::time;

    #[test]
    fn weekdays_with_the_same_hours_stand_together() {
        let mut week = WeekHours::default();
        assert_eq!(week_text(week), "月曜日〜金曜日 8:00〜20:00");
        let short = OpeningHours::new(time!(9:00), time!(12:30)).unwrap();
        week.set(Weekday::Wednesday, Some(short));
        week.set(Weekday::Sunday, Some(short));
        assert_eq!(
            week_text(week),
            "月曜日〜火曜日 8:00〜20:00、水曜日 9:00〜12:30、木曜日〜金曜日 8:00〜20:00、日曜日 9:00〜12:30"
        );
    }
}
