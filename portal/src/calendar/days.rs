//! 休業日と臨時の利用日: days that differ from the rule, entered and removed after a look at what
//! that changes. Holidays that the program does not know yet are entered as closing days.

use access::{JST, OpeningHours};
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use time::Date;

use super::changes::{Changes, PreviewPage, Rules};
use super::pages::{CalendarKeeper, calendar_page};
use super::{CalendarDay, DayKind, Edit, EditError, clock_from_text, store};
use crate::app::App;
use crate::db::Db;
use crate::deadlines::store::day_from_text;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

const PATH: &str = "/calendar";
/// Days that can be entered in one go, the first one included.
const SPAN_DAYS: i64 = 31;

/// Pages of the office listener.
pub(super) fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<CalendarKeeper, _, _>(Method::POST, "/calendar/preview", preview)
        .allow::<CalendarKeeper, _, _>(Method::POST, PATH, enter)
        .allow::<CalendarKeeper, _, _>(Method::POST, "/calendar/remove/preview", preview_removal)
        .allow::<CalendarKeeper, _, _>(Method::POST, "/calendar/remove", remove)
}

/// What stands in the form. `kind` is `closing` or `extra`.
#[derive(Deserialize)]
pub(super) struct EntryForm {
    #[serde(default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) day: String,
    /// The last of several days; empty: the one day alone.
    #[serde(default)]
    pub(super) until: String,
    #[serde(default)]
    pub(super) opens: String,
    #[serde(default)]
    pub(super) closes: String,
    #[serde(default)]
    pub(super) reason: String,
    /// [`Rules::mark`] of what was looked at.
    #[serde(default)]
    mark: String,
}

impl Default for EntryForm {
    fn default() -> Self {
        Self {
            kind: "closing".to_owned(),
            day: String::new(),
            until: String::new(),
            opens: "08:00".to_owned(),
            closes: "20:00".to_owned(),
            reason: String::new(),
            mark: String::new(),
        }
    }
}

impl EntryForm {
    /// The edits that the form asks for, and the rules with them; or everything that is wrong.
    fn check(&self, before: &Rules, today: Date) -> Result<(Vec<Edit>, Rules), FieldErrors> {
        let mut errors = FieldErrors::default();
        let kind = self.kind(&mut errors);
        let days = self.days(before, today, &mut errors);
        let (Some(kind), true) = (kind, errors.is_empty()) else {
            return Err(errors);
        };
        let mut after = before.clone();
        let mut edits = Vec::new();
        for day in days {
            let edit = Edit::Enter(CalendarDay {
                day,
                kind: kind.clone(),
                reason: self.reason.trim().to_owned(),
            });
            if let Err(error) = after.entries.apply(&edit) {
                let sentence = error.page_text().unwrap_or_default();
                return Err(FieldErrors::of_one("reason", sentence));
            }
            edits.push(edit);
        }
        Ok((edits, after))
    }

    fn kind(&self, errors: &mut FieldErrors) -> Option<DayKind> {
        match self.kind.as_str() {
            "closing" => Some(DayKind::Closing),
            "extra" => {
                let hours = clock_from_text(self.opens.trim())
                    .zip(clock_from_text(self.closes.trim()))
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
        }
    }

    /// The days that are meant. Of several, those that are closed anyway are left out.
    fn days(&self, before: &Rules, today: Date, errors: &mut FieldErrors) -> Vec<Date> {
        let Some(first) = day_from_text(&self.day).filter(|day| *day >= today) else {
            errors.add("day", "本日以降の日付を入力してください。");
            return Vec::new();
        };
        if self.until.trim().is_empty() {
            return vec![first];
        }
        if self.kind == "extra" {
            errors.add(
                "until",
                "臨時の利用日は、1日ずつ登録してください。最後の日は空欄にしてください。",
            );
            return Vec::new();
        }
        let span = |last: &Date| (0..SPAN_DAYS).contains(&(*last - first).whole_days());
        let Some(last) = day_from_text(&self.until).filter(span) else {
            errors.add(
                "until",
                format!("最後の日は、はじめの日から{SPAN_DAYS}日以内の日付を入力してください。"),
            );
            return Vec::new();
        };
        let calendar = before.entries.calendar(false);
        let days: Vec<Date> = std::iter::successors(Some(first), |day| day.next_day())
            .take_while(|day| *day <= last)
            .filter(|day| calendar.opens_on(*day))
            .collect();
        if days.is_empty() {
            errors.add(
                "until",
                "この期間は、もともとすべて休みの日です。登録は必要ありません。",
            );
        }
        days
    }

    /// The fields again, for the button that saves what was looked at.
    fn to_fields(&self, mark: String) -> Vec<(String, String)> {
        [
            ("kind", &self.kind),
            ("day", &self.day),
            ("until", &self.until),
            ("opens", &self.opens),
            ("closes", &self.closes),
            ("reason", &self.reason),
            ("mark", &mark),
        ]
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .into()
    }
}

/// `POST /calendar/preview`
async fn preview(
    keeper: CalendarKeeper,
    State(app): State<App>,
    Verified(form): Verified<EntryForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let before = Rules::now(&app).await?;
    let (edits, after) = match form.check(&before, now.to_offset(JST).date()) {
        Ok(checked) => checked,
        Err(errors) => return wrong(&app, &keeper, form, errors).await,
    };
    let days: Vec<Date> = edits.iter().filter_map(Edit::day).collect();
    let shown = PreviewPage {
        layout: Layout::office(&app, keeper.staff(), OfficePage::Calendar),
        back: (PATH, "利用日カレンダー"),
        action: PATH,
        intent: edits.iter().map(Edit::sentence).collect(),
        changes: Changes::look(&app, &before, &after, &days, now).await?,
        fields: form.to_fields(before.mark()),
    };
    Ok(page(&shown)?.into_response())
}

async fn wrong(
    app: &App,
    keeper: &CalendarKeeper,
    form: EntryForm,
    errors: FieldErrors,
) -> Result<Response, PageError> {
    let page = calendar_page(app, keeper.staff(), form, errors).await?;
    Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response())
}

/// `POST /calendar`
async fn enter(
    keeper: CalendarKeeper,
    State(app): State<App>,
    Verified(form): Verified<EntryForm>,
) -> Result<Response, PageError> {
    let today = app.clock.now().to_offset(JST).date();
    let before = Rules::now(&app).await?;
    let edits = match form.check(&before, today) {
        Ok((edits, _)) => edits,
        Err(errors) => return wrong(&app, &keeper, form, errors).await,
    };
    let sessions = save(&app, &keeper, &edits, &form.mark).await?;
    let next = format!("{PATH}?done=entered&sessions={sessions}");
    Ok(Redirect::to(&next).into_response())
}

#[derive(Deserialize)]
struct RemoveForm {
    day: String,
    #[serde(default)]
    mark: String,
}

/// `POST /calendar/remove/preview`
async fn preview_removal(
    keeper: CalendarKeeper,
    State(app): State<App>,
    Verified(form): Verified<RemoveForm>,
) -> Result<Response, PageError> {
    let day = day_from_text(&form.day).ok_or(PageError::NotFound)?;
    let before = Rules::now(&app).await?;
    let (edit, mut after) = (Edit::Remove(day), before.clone());
    after.entries.apply(&edit).map_err(refused)?;
    let shown = PreviewPage {
        layout: Layout::office(&app, keeper.staff(), OfficePage::Calendar),
        back: (PATH, "利用日カレンダー"),
        action: "/calendar/remove",
        intent: vec![edit.sentence()],
        changes: Changes::look(&app, &before, &after, &[day], app.clock.now()).await?,
        fields: vec![
            ("day".to_owned(), form.day),
            ("mark".to_owned(), before.mark()),
        ],
    };
    Ok(page(&shown)?.into_response())
}

/// `POST /calendar/remove`
async fn remove(
    keeper: CalendarKeeper,
    State(app): State<App>,
    Verified(form): Verified<RemoveForm>,
) -> Result<Redirect, PageError> {
    let day = day_from_text(&form.day).ok_or(PageError::NotFound)?;
    let sessions = save(&app, &keeper, &[Edit::Remove(day)], &form.mark).await?;
    let next = format!("{PATH}?done=removed&sessions={sessions}");
    Ok(Redirect::to(&next))
}

/// Makes edits of the rules that have `mark`; returns how many open sessions end earlier.
async fn save(
    app: &App,
    keeper: &CalendarKeeper,
    edits: &[Edit],
    mark: &str,
) -> Result<usize, PageError> {
    let (now, rehearsal) = (app.clock.now(), app.config.rehearsal);
    let mut tx = app.db.begin().await?;

    store::lock_for_edit(&mut tx).await?;
    if Rules::read(&mut tx).await?.mark() != mark {
        return Err(Rules::moved());
    }
    let actor = keeper.staff().actor();
    let effect = super::edit(&mut tx, &app.keys, &actor, edits, rehearsal, now)
        .await
        .map_err(refused)?;

    Db::commit(tx).await?;
    app.signals.sessions_changed();
    Ok(effect.shortened.len() + effect.ended.len())
}

fn refused(error: EditError) -> PageError {
    match error {
        EditError::Store(error) => error.into(),
        error => PageError::Refused(error.page_text().unwrap_or_default()),
    }
}

impl Edit {
    fn day(&self) -> Option<Date> {
        match self {
            Self::Enter(entry) => Some(entry.day),
            Self::Remove(day) => Some(*day),
            Self::Week(_) => None,
        }
    }

    /// What is about to be done, for who is asked whether it is meant so.
    fn sentence(&self) -> String {
        match self {
            Self::Enter(entry) => {
                let day = dates::date(entry.day);
                let what = match &entry.kind {
                    DayKind::Closing => format!("{day}を休業日にします。"),
                    DayKind::Extra(hours) => format!(
                        "{day}を臨時の利用日（{}〜{}）にします。",
                        dates::of_day(hours.opens()),
                        dates::of_day(hours.closes())
                    ),
                };
                match entry.reason.as_str() {
                    "" => what,
                    reason => format!("{what}理由：{reason}"),
                }
            }
            Self::Remove(day) => format!(
                "{}の登録を削除し、通常どおりに戻します。",
                dates::date(*day)
            ),
            Self::Week(_) => "曜日ごとの利用時間を変えます。".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
