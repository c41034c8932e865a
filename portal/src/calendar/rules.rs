//! 利用時間と締切日の変更: the hours of the weekdays and the days of the monthly cycle, looked at
//! before they are saved.
//!
//! Supervisors and system administrators change them. What is saved is what was looked at
//! ([`super::changes`]), and only if nobody changed the rules meanwhile.

use access::{JST, OpeningHours, WeekHours, national_holidays};
use askama::Template;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde_json::json;
use time::{Date, OffsetDateTime, Time};

use super::changes::{Changes, PreviewPage, Rules, closings};
use super::pages::CalendarKeeper;
use super::{Edit, EditError, clock_from_text, clock_text, holiday_warning, store};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::{Db, Tx};
use crate::deadlines::store::{self as cycles, day_from_text};
use crate::deadlines::{CycleMonth, Days, OVERRIDES_LIMIT};
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

const PATH: &str = "/calendar/rules";
/// How many years of holidays the page lists, this one included.
const HOLIDAY_YEARS: i32 = 2;

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<CalendarKeeper, _, _>(Method::GET, PATH, show)
        .allow::<CalendarKeeper, _, _>(Method::POST, "/calendar/rules/preview", preview)
        .allow::<CalendarKeeper, _, _>(Method::POST, PATH, apply)
}

#[derive(Template)]
#[template(path = "calendar_rules.html")]
struct RulesPage {
    layout: Layout,
    errors: FieldErrors,
    saved: bool,
    sessions: u32,
    week: Vec<DayFields>,
    typed: Typed,
    closings: Vec<ClosingRow>,
    overrides: Vec<OverrideRow>,
    holiday_warning: Option<String>,
    holidays: Vec<(String, &'static str)>,
}

struct DayFields {
    label: &'static str,
    opens_name: String,
    closes_name: String,
    opens: String,
    closes: String,
}

struct ClosingRow {
    month: String,
    closing: String,
    decision: String,
}

struct OverrideRow {
    month: String,
    closing: String,
}

/// What stands in the form, as it was typed.
#[derive(Debug, Clone, Default)]
struct Typed {
    /// Opening and closing times of the weekdays from Monday.
    hours: [(String, String); 7],
    closing: String,
    decision: String,
    /// A month that gets a closing day of its own; empty: none.
    month: String,
    /// That day; empty: the ordinary one again.
    month_closing: String,
    /// [`Rules::mark`] of what was shown.
    mark: String,
}

impl Typed {
    fn of(rules: &Rules) -> Self {
        let text = |hours: Option<OpeningHours>, at: fn(&OpeningHours) -> Time| {
            hours
                .map(|hours| clock_text(at(&hours)))
                .unwrap_or_default()
        };
        Self {
            hours: store::WEEKDAYS.map(|(weekday, _)| {
                let hours = rules.entries.week.on(weekday);
                (
                    text(hours, OpeningHours::opens),
                    text(hours, OpeningHours::closes),
                )
            }),
            closing: rules.cycle.days.closing().to_string(),
            decision: rules.cycle.days.decision().to_string(),
            mark: rules.mark(),
            ..Self::default()
        }
    }

    fn from_fields(fields: &[(String, String)]) -> Self {
        let text = |wanted: &str| {
            let found = fields.iter().find(|(name, _)| name == wanted);
            found
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        Self {
            hours: store::WEEKDAYS.map(|(_, name)| {
                (
                    text(&format!("{name}_opens")),
                    text(&format!("{name}_closes")),
                )
            }),
            closing: text("closing"),
            decision: text("decision"),
            month: text("month"),
            month_closing: text("month_closing"),
            mark: text("mark"),
        }
    }

    /// The fields of the form again, for the button that saves what was looked at.
    fn to_fields(&self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        for ((_, name), (opens, closes)) in store::WEEKDAYS.iter().zip(&self.hours) {
            fields.push((format!("{name}_opens"), opens.clone()));
            fields.push((format!("{name}_closes"), closes.clone()));
        }
        for (name, value) in [
            ("closing", &self.closing),
            ("decision", &self.decision),
            ("month", &self.month),
            ("month_closing", &self.month_closing),
            ("mark", &self.mark),
        ] {
            fields.push((name.to_owned(), value.clone()));
        }
        fields
    }

    /// The rules as they would be, or everything that is wrong.
    fn check(&self, before: &Rules, today: Date) -> Result<Rules, FieldErrors> {
        let mut errors = FieldErrors::default();
        let mut after = before.clone();
        let mut week = WeekHours::default();
        for ((weekday, _), (opens, closes)) in store::WEEKDAYS.iter().zip(&self.hours) {
            if opens.is_empty() && closes.is_empty() {
                week.set(*weekday, None);
                continue;
            }
            let hours = clock_from_text(opens)
                .zip(clock_from_text(closes))
                .and_then(|(opens, closes)| OpeningHours::new(opens, closes).ok());
            if hours.is_none() {
                errors.add(
                    "week",
                    "利用時間は「08:00」のように、開始が終了より前になるよう入力してください。利用できない曜日は、両方とも空欄にしてください。",
                );
                break;
            }
            week.set(*weekday, hours);
        }
        if errors.is_empty() && week.is_never() {
            errors.add("week", EditError::NeverOpen.page_text().unwrap_or_default());
        }
        after.entries.week = week;
        let day = |text: &str| text.parse::<u8>().unwrap_or(0);
        match Days::new(day(&self.closing), day(&self.decision)) {
            Ok(days) => after.cycle.days = days,
            Err(error) => errors.add("closing", error.page_text()),
        }
        if !self.month.is_empty() {
            self.check_override(&mut after, today, &mut errors);
        } else if !self.month_closing.is_empty() {
            errors.add("month", "締切日を変える月を選んでください。");
        }
        if errors.is_empty() {
            Ok(after)
        } else {
            Err(errors)
        }
    }

    fn check_override(&self, after: &mut Rules, today: Date, errors: &mut FieldErrors) {
        let Ok(month) = self.month.parse::<CycleMonth>() else {
            errors.add("month", "月を「2026-04」の形で入力してください。");
            return;
        };
        if self.month_closing.is_empty() {
            after.cycle.overrides.remove(&month);
            return;
        }
        // The closing day of a month lies in that month or in one of the two after it.
        let near = |day: &Date| {
            let of = CycleMonth::of(*day);
            [month, month.next(), month.next().next()].contains(&of) && *day >= today
        };
        match day_from_text(&self.month_closing).filter(near) {
            Some(day) if after.entries.calendar(false).opens_on(day) => {
                after.cycle.overrides.insert(month, day);
                if after.cycle.overrides.len() > OVERRIDES_LIMIT {
                    errors.add("month", "登録できる月の数の上限に達しました。");
                }
            }
            Some(_) => errors.add(
                "month_closing",
                "その日は休みの日です。利用できる日を締切日にしてください。",
            ),
            None => errors.add(
                "month_closing",
                "締切日は、本日以降で、その月から翌々月までの日付を入力してください。",
            ),
        }
    }
}

/// `GET /calendar/rules`
async fn show(
    keeper: CalendarKeeper,
    State(app): State<App>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Html<String>, PageError> {
    let rules = Rules::now(&app).await?;
    let typed = Typed::of(&rules);
    let mut shown = rules_page(&app, &keeper, &rules, typed, FieldErrors::default());
    let sessions = query.iter().find(|(name, _)| name == "saved");
    shown.saved = sessions.is_some();
    shown.sessions = sessions.map_or(0, |(_, count)| count.parse().unwrap_or(0));
    page(&shown)
}

fn rules_page(
    app: &App,
    keeper: &CalendarKeeper,
    rules: &Rules,
    typed: Typed,
    errors: FieldErrors,
) -> RulesPage {
    const LABELS: [&str; 7] = ["月", "火", "水", "木", "金", "土", "日"];
    let today = app.clock.now().to_offset(JST).date();
    let calendar = rules.entries.calendar(false);
    let last =
        Date::from_calendar_date(today.year() + HOLIDAY_YEARS - 1, time::Month::December, 31)
            .unwrap_or(Date::MAX);
    RulesPage {
        layout: Layout::office(app, keeper.staff(), OfficePage::Calendar),
        errors,
        saved: false,
        sessions: 0,
        week: LABELS
            .into_iter()
            .zip(store::WEEKDAYS)
            .zip(&typed.hours)
            .map(|((label, (_, name)), (opens, closes))| DayFields {
                label,
                opens_name: format!("{name}_opens"),
                closes_name: format!("{name}_closes"),
                opens: opens.clone(),
                closes: closes.clone(),
            })
            .collect(),
        closings: closings(&rules.cycle, &calendar, today)
            .map(|(month, closing, decision)| ClosingRow {
                month: month.page_text(),
                closing: dates::date(closing),
                decision: dates::date(decision),
            })
            .collect(),
        overrides: rules
            .cycle
            .overrides
            .iter()
            .filter(|(_, day)| **day >= today)
            .map(|(month, day)| OverrideRow {
                month: month.page_text(),
                closing: dates::date(*day),
            })
            .collect(),
        holiday_warning: holiday_warning(today),
        holidays: national_holidays(today, last)
            .map(|(day, name)| (dates::date(day), name))
            .collect(),
        typed,
    }
}

/// `POST /calendar/rules/preview`
async fn preview(
    keeper: CalendarKeeper,
    State(app): State<App>,
    Verified(fields): Verified<Vec<(String, String)>>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let today = now.to_offset(JST).date();
    let before = Rules::now(&app).await?;
    let typed = Typed::from_fields(&fields);
    let after = match typed.check(&before, today) {
        Ok(after) => after,
        Err(errors) => {
            let page = rules_page(&app, &keeper, &before, typed, errors);
            return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
        }
    };
    let shown = PreviewPage {
        layout: Layout::office(&app, keeper.staff(), OfficePage::Calendar),
        back: (PATH, "利用時間と締切日"),
        action: PATH,
        intent: Vec::new(),
        changes: Changes::look(&app, &before, &after, &[], now).await?,
        fields: typed.to_fields(),
    };
    Ok(page(&shown)?.into_response())
}

/// `POST /calendar/rules`
async fn apply(
    keeper: CalendarKeeper,
    State(app): State<App>,
    Verified(fields): Verified<Vec<(String, String)>>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let today = now.to_offset(JST).date();
    let typed = Typed::from_fields(&fields);
    let mut tx = app.db.begin().await?;

    store::lock_for_edit(&mut tx).await?;
    let before = Rules::read(&mut tx).await?;
    if before.mark() != typed.mark {
        return Err(Rules::moved());
    }
    let after = match typed.check(&before, today) {
        Ok(after) => after,
        Err(errors) => {
            drop(tx);
            let page = rules_page(&app, &keeper, &before, typed, errors);
            return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
        }
    };
    let sessions = save(&mut tx, &app, &keeper, (&before, &after), now).await?;

    Db::commit(tx).await?;
    app.signals.sessions_changed();
    Ok(Redirect::to(&format!("{PATH}?saved={sessions}")).into_response())
}

/// Writes what differs. Returns how many open sessions end earlier.
async fn save(
    tx: &mut Tx,
    app: &App,
    keeper: &CalendarKeeper,
    (before, after): (&Rules, &Rules),
    now: OffsetDateTime,
) -> Result<usize, PageError> {
    let actor = keeper.staff().actor();
    if before.cycle != after.cycle {
        cycles::set_days(tx, after.cycle.days).await?;
        for month in before.cycle.overrides.keys() {
            if !after.cycle.overrides.contains_key(month) {
                cycles::clear_closing(tx, *month).await?;
            }
        }
        for (month, closing) in &after.cycle.overrides {
            if before.cycle.overrides.get(month) != Some(closing) {
                cycles::set_closing(tx, *month, *closing, &actor, now).await?;
            }
        }
        cycles::follow_the_rules(tx).await?;
    }
    let mut sessions = 0;
    if before.entries.week != after.entries.week {
        let edits = [Edit::Week(after.entries.week)];
        let effect = super::edit(tx, &app.keys, &actor, &edits, app.config.rehearsal, now)
            .await
            .map_err(|error| match error {
                EditError::Store(error) => PageError::from(error),
                error => PageError::Refused(error.page_text().unwrap_or_default()),
            })?;
        sessions = effect.shortened.len() + effect.ended.len();
    }
    if before.cycle != after.cycle {
        let details = json!({
            "closing": after.cycle.days.closing(),
            "decision": after.cycle.days.decision(),
            "overrides": after.cycle.overrides.len(),
        });
        let act = Act::CycleEdited;
        audit::record_with(tx, &app.keys, &actor, act, "", &details, now).await?;
    }
    Ok(sessions)
}

#[cfg(test)]
mod tests;
