//! The office's pages for the kinds of filings: the list for all staff, edits for the
//! supervisor and the system administrator.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use time::Date;
use time::macros::format_description;

use super::store::{self, Of};
use super::{
    Counting, DAYS_LIMIT, Deadline, FilingKind, Form, Kind, MONTH_DAY_LIMIT, Procedure, Within,
};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::Db;
use crate::staff::StaffRole;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::Staff;
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

/// Highest place in a form's list.
const POSITION_LIMIT: i64 = 9_999;

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Staff, _, _>(Method::GET, "/filing-kinds", list)
        .allow::<Staff, _, _>(Method::GET, "/filing-kinds/new", new_page)
        .allow::<Staff, _, _>(Method::POST, "/filing-kinds", create)
        .allow::<Staff, _, _>(Method::GET, "/filing-kinds/{code}", edit_page)
        .allow::<Staff, _, _>(Method::POST, "/filing-kinds/{code}", change)
}

#[derive(Template)]
#[template(path = "filing_kinds.html")]
struct ListPage {
    layout: Layout,
    rows: Vec<Row>,
    may_change: bool,
    done: &'static str,
}

struct Row {
    code: &'static str,
    name: &'static str,
    aliases: String,
    procedure: &'static str,
    deadline: String,
    on_paper: bool,
    period: String,
    is_open: bool,
}

impl Row {
    fn of(kind: &FilingKind, today: Date) -> Self {
        let period = match (kind.starts, kind.ends) {
            (None, None) => String::new(),
            (Some(starts), None) => format!("{}から", dates::date(starts)),
            (None, Some(ends)) => format!("{}まで", dates::date(ends)),
            (Some(starts), Some(ends)) => {
                format!("{}から{}まで", dates::date(starts), dates::date(ends))
            }
        };
        Self {
            code: kind.kind.code(),
            name: kind.kind.name(),
            aliases: kind.aliases.join("、"),
            procedure: kind.procedure.label(),
            deadline: kind.deadline.page_text(),
            on_paper: kind.form == Form::Paper,
            period,
            is_open: kind.is_open_on(today),
        }
    }
}

#[derive(Template)]
#[template(path = "filing_kind.html")]
struct EditPage {
    layout: Layout,
    title: String,
    action: String,
    procedures: [Procedure; 4],
    form: EditForm,
    errors: FieldErrors,
}

/// What stands in the form, as it was typed.
#[derive(Debug, Default, Deserialize)]
struct EditForm {
    #[serde(default)]
    version: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    aliases: String,
    #[serde(default)]
    procedure: String,
    #[serde(default)]
    form: String,
    #[serde(default)]
    event: String,
    #[serde(default)]
    within_days: String,
    #[serde(default)]
    counting: String,
    #[serde(default)]
    month_day: String,
    #[serde(default)]
    starts: String,
    #[serde(default)]
    ends: String,
    #[serde(default)]
    position: String,
}

impl EditForm {
    fn of(kind: &FilingKind) -> Self {
        let within = kind.deadline.within;
        let day = |day: Option<Date>| day.map(|day| day.to_string()).unwrap_or_default();
        Self {
            version: kind.version.to_string(),
            name: kind.kind.name().to_owned(),
            aliases: kind.aliases.join("\n"),
            procedure: kind.procedure.code().to_owned(),
            form: kind.form.code().to_owned(),
            event: kind.deadline.event.clone(),
            within_days: within.map(|w| w.days.to_string()).unwrap_or_default(),
            counting: within
                .map_or(Counting::Calendar, |within| within.counting)
                .code()
                .to_owned(),
            month_day: kind
                .deadline
                .month_day
                .map(|day| day.to_string())
                .unwrap_or_default(),
            starts: day(kind.starts),
            ends: day(kind.ends),
            position: kind.position.to_string(),
        }
    }

    /// What was typed, or what cannot be read of it. The code and the version are the store's.
    fn read(&self) -> Result<impl FnOnce(&str) -> FilingKind + use<>, FieldErrors> {
        let mut errors = FieldErrors::default();
        let procedure = Procedure::from_code(&self.procedure);
        if procedure.is_none() {
            errors.add("procedure", "手続きの区分を選んでください。");
        }
        let form = Form::from_code(&self.form);
        if form.is_none() {
            errors.add("form", "提出の方法を選んでください。");
        }
        let days = optional(&self.within_days, |text| {
            text.parse()
                .ok()
                .filter(|days| (1..=DAYS_LIMIT).contains(days))
        });
        if days.is_err() {
            let sentence = format!("日数は1から{DAYS_LIMIT}までの数字で入力してください。");
            errors.add("within_days", sentence);
        }
        let month_day = optional(&self.month_day, |text| {
            text.parse()
                .ok()
                .filter(|day| (1..=MONTH_DAY_LIMIT).contains(day))
        });
        if month_day.is_err() {
            let sentence =
                format!("翌月の日は1から{MONTH_DAY_LIMIT}までの数字で入力してください。");
            errors.add("month_day", sentence);
        }
        let day = |text: &str| {
            optional(text, |text| {
                Date::parse(text, format_description!("[year]-[month]-[day]")).ok()
            })
        };
        let (starts, ends) = (day(&self.starts), day(&self.ends));
        for (field, read) in [("starts", &starts), ("ends", &ends)] {
            if read.is_err() {
                errors.add(field, "日付を選び直してください。");
            }
        }
        let position = optional(&self.position, |text| {
            text.parse()
                .ok()
                .filter(|place| (0..=POSITION_LIMIT).contains(place))
        });
        if position.is_err() {
            let sentence = format!("並び順は0から{POSITION_LIMIT}までの数字で入力してください。");
            errors.add("position", sentence);
        }
        let counting = Counting::from_code(&self.counting).unwrap_or(Counting::Calendar);
        let name = self.name.trim().to_owned();
        let event = self.event.trim().to_owned();
        let aliases: Vec<String> = self
            .aliases
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        match (procedure, form, days, month_day, starts, ends, position) {
            (
                Some(procedure),
                Some(form),
                Ok(days),
                Ok(month_day),
                Ok(starts),
                Ok(ends),
                Ok(at),
            ) => Ok(move |code: &str| FilingKind {
                kind: Kind::of(code, &name),
                position: at.unwrap_or(POSITION_LIMIT),
                aliases,
                procedure,
                form,
                deadline: Deadline {
                    event,
                    within: days.map(|days| Within { days, counting }),
                    month_day,
                },
                starts,
                ends,
                version: 0,
            }),
            _ => Err(errors),
        }
    }
}

/// A text that may be left empty. `Err`: it cannot be read.
fn optional<T>(text: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, ()> {
    match text.trim() {
        "" => Ok(None),
        text => read(text).map(Some).ok_or(()),
    }
}

/// Who may edit; for the others the pages do not exist.
fn editor(staff: &Staff) -> Result<(), PageError> {
    match staff.role() {
        StaffRole::Supervisor | StaffRole::SystemAdmin => Ok(()),
        StaffRole::Reviewer => Err(PageError::NotFound),
    }
}

#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

/// `GET /filing-kinds`
async fn list(
    staff: Staff,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Html<String>, PageError> {
    let today = app.clock.now().to_offset(access::JST).date();
    let kinds = store::all(app.db.pool()).await?;
    page(&ListPage {
        layout: Layout::office(&app, &staff, OfficePage::FilingKinds),
        rows: kinds.iter().map(|kind| Row::of(kind, today)).collect(),
        may_change: editor(&staff).is_ok(),
        done: match done.done.as_deref() {
            Some("saved") => "届書の種類を保存しました。提出の画面にすぐに反映されます。",
            Some(_) | None => "",
        },
    })
}

/// `GET /filing-kinds/new`
async fn new_page(staff: Staff, State(app): State<App>) -> Result<Html<String>, PageError> {
    editor(&staff)?;
    let form = EditForm {
        form: Form::Online.code().to_owned(),
        counting: Counting::Calendar.code().to_owned(),
        ..EditForm::default()
    };
    page(&edit(&app, &staff, None, form, FieldErrors::default()))
}

/// `GET /filing-kinds/{code}`
async fn edit_page(
    staff: Staff,
    State(app): State<App>,
    Path(code): Path<String>,
) -> Result<Html<String>, PageError> {
    editor(&staff)?;
    let kinds = store::all(app.db.pool()).await?;
    let kind = kinds.find(&code).ok_or(PageError::NotFound)?;
    let errors = FieldErrors::default();
    page(&edit(
        &app,
        &staff,
        Some(kind.kind),
        EditForm::of(kind),
        errors,
    ))
}

fn edit(
    app: &App,
    staff: &Staff,
    kind: Option<Kind>,
    form: EditForm,
    errors: FieldErrors,
) -> EditPage {
    EditPage {
        layout: Layout::office(app, staff, OfficePage::FilingKinds),
        title: kind.map_or("届書の種類を追加する".into(), |kind| {
            format!("{kind}を変更する")
        }),
        action: kind.map_or("/filing-kinds".into(), |kind| {
            format!("/filing-kinds/{}", kind.code())
        }),
        procedures: Procedure::ALL,
        form,
        errors,
    }
}

/// `POST /filing-kinds`
async fn create(
    staff: Staff,
    State(app): State<App>,
    Verified(form): Verified<EditForm>,
) -> Result<Response, PageError> {
    editor(&staff)?;
    save(&app, &staff, Of::New, None, form).await
}

/// `POST /filing-kinds/{code}`
async fn change(
    staff: Staff,
    State(app): State<App>,
    Path(code): Path<String>,
    Verified(form): Verified<EditForm>,
) -> Result<Response, PageError> {
    editor(&staff)?;
    let kinds = store::all(app.db.pool()).await?;
    let kind = kinds.find(&code).ok_or(PageError::NotFound)?.kind;
    // A version that cannot be read is none that there is.
    let version = form.version.parse().unwrap_or(-1);
    let of = Of::Old {
        code: &code,
        version,
    };
    save(&app, &staff, of, Some(kind), form).await
}

async fn save(
    app: &App,
    staff: &Staff,
    of: Of<'_>,
    kind: Option<Kind>,
    form: EditForm,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let errors = match form.read() {
        Err(errors) => errors,
        Ok(make) => {
            let mut tx = app.db.begin().await?;
            match store::save(&mut tx, of, make, &staff.actor(), now).await? {
                Err(error) => FieldErrors::of_one(error.field(), error.page_text()),
                Ok(saved) => {
                    let act = Act::FilingKindEdited(saved.kind.code().to_owned());
                    let details = json!({ "version": saved.version, "name": saved.kind.name() });
                    audit::record_with(&mut tx, &app.keys, &staff.actor(), act, "", &details, now)
                        .await?;
                    Db::commit(tx).await?;
                    return Ok(Redirect::to("/filing-kinds?done=saved").into_response());
                }
            }
        }
    };
    let shown = edit(app, staff, kind, form, errors);
    Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &shown)?.into_response())
}

#[cfg(test)]
mod tests;
