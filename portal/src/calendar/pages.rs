//! The office's page for the calendar: what was entered, the next two weeks, edits.

use access::{Calendar, JST, Opening, OpeningHours, WeekHours};
use askama::Template;
use axum::extract::{FromRequestParts, Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Deserialize;
use time::macros::format_description;
use time::{Date, OffsetDateTime, Time};

use super::{
    CalendarDay, DayKind, Edit, EditError, clock_from_text, clock_text, holiday_warning, store,
};
use crate::app::App;
use crate::db::{Db, StoreError};
use crate::staff::StaffRole;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::{Reviewer, Staff};
use crate::web::router::{Principal, Routes};
use crate::web::{dates, page, page_with};

/// Days that the preview shows.
const PREVIEW_DAYS: usize = 14;

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .with(super::rules::office_routes)
        .allow::<Staff, _, _>(Method::GET, "/calendar", show)
        .allow::<Reviewer, _, _>(Method::POST, "/calendar", enter)
        .allow::<Reviewer, _, _>(Method::POST, "/calendar/remove", remove)
}

/// Staff who change the hours of the week and the monthly cycle: supervisors and system
/// administrators.
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
struct CalendarPage {
    layout: Layout,
    holiday_warning: Option<String>,
    week: Vec<WeekRow>,
    entries: Vec<EntryRow>,
    preview: Vec<PreviewRow>,
    form: EntryForm,
    errors: FieldErrors,
    may_change: bool,
    may_change_rules: bool,
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

/// What stands in the form. `kind` is `closing` or `extra`.
#[derive(Deserialize)]
struct EntryForm {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    day: String,
    #[serde(default)]
    opens: String,
    #[serde(default)]
    closes: String,
    #[serde(default)]
    reason: String,
}

impl Default for EntryForm {
    fn default() -> Self {
        Self {
            kind: "closing".to_owned(),
            day: String::new(),
            opens: "08:00".to_owned(),
            closes: "20:00".to_owned(),
            reason: String::new(),
        }
    }
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

async fn calendar_page(
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
        week: week_rows(entries.week),
        entries: entries
            .days
            .range(today..)
            .map(|(_, entry)| EntryRow::of(entry))
            .collect(),
        preview: preview(&calendar, today),
        form,
        errors,
        may_change: staff.may_decide(),
        may_change_rules: CalendarKeeper::may(staff),
        done: "",
        sessions: 0,
    })
}

/// A weekday and its hours.
struct WeekRow {
    /// `月`
    label: &'static str,
    /// Empty on a weekday that is closed every week.
    opens: String,
    closes: String,
}

fn week_rows(week: WeekHours) -> Vec<WeekRow> {
    const LABELS: [&str; 7] = ["月", "火", "水", "木", "金", "土", "日"];
    let text = |hours: Option<OpeningHours>, at: fn(&OpeningHours) -> Time| {
        hours
            .map(|hours| clock_text(at(&hours)))
            .unwrap_or_default()
    };
    LABELS
        .into_iter()
        .zip(store::WEEKDAYS)
        .map(|(label, (weekday, _))| WeekRow {
            label,
            opens: text(week.on(weekday), OpeningHours::opens),
            closes: text(week.on(weekday), OpeningHours::closes),
        })
        .collect()
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

fn read_day(text: &str) -> Option<Date> {
    Date::parse(text.trim(), format_description!("[year]-[month]-[day]")).ok()
}

fn read_entry(form: &EntryForm, today: Date, errors: &mut FieldErrors) -> Option<CalendarDay> {
    let day = read_day(&form.day).filter(|day| *day >= today);
    if day.is_none() {
        errors.add("day", "本日以降の日付を入力してください。");
    }
    let kind = match form.kind.as_str() {
        "closing" => Some(DayKind::Closing),
        "extra" => {
            let hours = clock_from_text(form.opens.trim())
                .zip(clock_from_text(form.closes.trim()))
                .and_then(|(opens, closes)| OpeningHours::new(opens, closes).ok());
            if hours.is_none() {
                errors.add(
                    "opens",
                    "開始と終了の時刻を「08:00」のように、開始が終了より前になるよう入力してください。",
                );
            }
            hours.map(DayKind::Extra)
        }
        _ => {
            errors.add("kind", "休業日か臨時の利用日かを選んでください。");
            None
        }
    };
    Some(CalendarDay {
        day: day?,
        kind: kind?,
        reason: form.reason.trim().to_owned(),
    })
}

/// `POST /calendar`
async fn enter(
    reviewer: Reviewer,
    State(app): State<App>,
    Verified(form): Verified<EntryForm>,
) -> Result<Response, PageError> {
    let today = app.clock.now().to_offset(JST).date();
    let mut errors = FieldErrors::default();
    if let Some(entry) = read_entry(&form, today, &mut errors) {
        match make(&app, &reviewer, &Edit::Enter(entry)).await {
            Ok(sessions) => {
                let next = format!("/calendar?done=entered&sessions={sessions}");
                return Ok(Redirect::to(&next).into_response());
            }
            Err(EditError::Store(error)) => return Err(error.into()),
            Err(error) => errors.add("reason", error.page_text().unwrap_or_default()),
        }
    }
    let page = calendar_page(&app, reviewer.staff(), form, errors).await?;
    Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response())
}

#[derive(Deserialize)]
struct RemoveForm {
    day: String,
}

/// `POST /calendar/remove`
async fn remove(
    reviewer: Reviewer,
    State(app): State<App>,
    Verified(form): Verified<RemoveForm>,
) -> Result<Redirect, PageError> {
    let day = read_day(&form.day).ok_or(PageError::NotFound)?;
    match make(&app, &reviewer, &Edit::Remove(day)).await {
        Ok(sessions) => {
            let next = format!("/calendar?done=removed&sessions={sessions}");
            Ok(Redirect::to(&next))
        }
        Err(EditError::Store(error)) => Err(error.into()),
        Err(error) => Err(PageError::Refused(error.page_text().unwrap_or_default())),
    }
}

/// Makes an edit; returns how many open sessions end earlier by it.
async fn make(app: &App, reviewer: &Reviewer, edit: &Edit) -> Result<usize, EditError> {
    let (now, rehearsal) = (app.clock.now(), app.config.rehearsal);
    let mut tx = app.db.begin().await?;
    let actor = reviewer.actor();
    let effect = super::edit(&mut tx, &app.keys, &actor, edit, rehearsal, now).await?;
    Db::commit(tx).await?;
    app.signals.sessions_changed();
    Ok(effect.shortened.len() + effect.ended.len())
}

#[cfg(test)]
mod tests;
