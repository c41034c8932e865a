//! The next closing day on a member's home page, and the page to switch reminders off.

use access::JST;
use askama::Template;
use axum::extract::State;
use axum::response::{Html, Redirect};
use http::Method;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;

use super::store::{self, Wish};
use super::{LastDay, Step};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::{Db, StoreError};
use crate::deadlines::{self, working_days_left};
use crate::filings::kinds;
use crate::web::dates;
use crate::web::forms::Verified;
use crate::web::layout::{Layout, MemberPage};
use crate::web::page;
use crate::web::page_error::PageError;
use crate::web::principals::Member;
use crate::web::router::Routes;

const PATH: &str = "/settings/reminders";
/// Working days before the closing day from which it is shown as near.
const NEAR: u32 = 5;

/// The routes of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Member, _, _>(Method::GET, PATH, show)
        .allow::<Member, _, _>(Method::POST, PATH, choose)
}

/// The next closing day in words.
pub struct NextClosing {
    /// `2026年4月`
    pub month: String,
    /// `2026年5月1日（金）`
    pub day: String,
    /// `あと5営業日です`
    pub left: String,
    /// Whether it is near.
    pub near: bool,
}

/// Looks up the next closing day.
pub async fn next_closing(app: &App, now: OffsetDateTime) -> Result<NextClosing, PageError> {
    let mut connection = app
        .db
        .pool()
        .acquire()
        .await
        .map_err(StoreError::doing("connect to read the cycle"))?;
    let (cycle, calendar) = deadlines::store::rules(&mut connection).await?;
    let today = now.to_offset(JST).date();
    let (month, closing) = cycle.next_closing(today, &calendar);
    let left = working_days_left(today, closing, &calendar);
    Ok(NextClosing {
        month: month.page_text(),
        day: dates::date(closing),
        left: match left {
            0 => "本日が締切です".to_owned(),
            left => format!("あと{left}営業日です"),
        },
        near: left <= NEAR,
    })
}

#[derive(Template)]
#[template(path = "reminders.html")]
struct RemindersPage {
    layout: Layout,
    wanted: bool,
    days: Vec<DayRow>,
}

/// A day by which filings are handed in, and when mails remind of it.
struct DayRow {
    day: String,
    what: Vec<String>,
    mails: Vec<String>,
}

/// `GET /settings/reminders`
async fn show(member: Member, State(app): State<App>) -> Result<Html<String>, PageError> {
    let now = app.clock.now();
    page(&RemindersPage {
        layout: Layout::member(&app, &member, MemberPage::Settings, now),
        wanted: store::wish(&app.db, &member).await? == Wish::Wanted,
        days: day_rows(&app, now).await?,
    })
}

async fn day_rows(app: &App, now: OffsetDateTime) -> Result<Vec<DayRow>, PageError> {
    let mut connection = app
        .db
        .pool()
        .acquire()
        .await
        .map_err(StoreError::doing("connect to read deadlines"))?;
    let (cycle, calendar) = deadlines::store::rules(&mut connection).await?;
    let kinds = kinds::store::all(&mut *connection).await?;
    let today = now.to_offset(JST).date();
    let row = |last: LastDay| {
        let closes = last
            .closes
            .map(|month| format!("{}分の届書の締切", month.page_text()));
        let events = last.events.page_text();
        let kinds = last
            .kinds
            .iter()
            .map(|kind| format!("{kind}（{events}の事由）"));
        DayRow {
            day: dates::date(last.day),
            what: closes.into_iter().chain(kinds).collect(),
            mails: Step::ALL
                .into_iter()
                .filter_map(|step| last.reminded_on(step, &calendar))
                .map(dates::date)
                .collect(),
        }
    };
    let days = super::last_days(&cycle, &kinds, &calendar, today);
    Ok(days.into_iter().map(row).collect())
}

#[derive(Deserialize)]
struct WishForm {
    #[serde(default)]
    wish: String,
}

/// `POST /settings/reminders`
async fn choose(
    member: Member,
    State(app): State<App>,
    Verified(form): Verified<WishForm>,
) -> Result<Redirect, PageError> {
    let wish = match form.wish.as_str() {
        "on" => Wish::Wanted,
        "off" => Wish::Unwanted,
        _ => return Err(PageError::BadForm("an unknown wish".to_owned())),
    };
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    store::choose(&mut tx, &member, wish, now).await?;
    let (act, actor) = (Act::RemindersSwitched(member.user()), member.actor());
    let details = json!({ "wanted": form.wish });
    audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to(PATH))
}
