//! お知らせ: the office writes, the establishments read. Opening one marks it read.

use access::JST;
use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use protocol::EstablishmentNumber;
use serde::Deserialize;
use time::{Date, OffsetDateTime};

use super::store;
use super::{AHEAD_LIMIT, Announcement, Audience, Paragraph, faults, paragraphs};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::{Db, StoreError};
use crate::establishments;
use crate::history::pages::parse_day;
use crate::ids::{AnnouncementId, EstablishmentId};
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, MemberPage, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::{Member, Reviewer};
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Member, _, _>(Method::GET, "/announcements", list)
        .allow::<Member, _, _>(Method::GET, "/announcements/{id}", read)
}

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, "/announcements", office_list)
        .allow::<Reviewer, _, _>(Method::GET, "/announcements/new", new)
        .allow::<Reviewer, _, _>(Method::POST, "/announcements/new", add)
        .allow::<Reviewer, _, _>(Method::GET, "/announcements/{id}", edit)
        .allow::<Reviewer, _, _>(Method::POST, "/announcements/{id}", change)
        .allow::<Reviewer, _, _>(Method::POST, "/announcements/{id}/withdraw", withdraw)
}

/// A line of a member's list, and of the banner on the first page.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its page.
    pub path: String,
    /// Its title.
    pub title: String,
    /// Since when it is shown.
    pub since: String,
    /// Whether this member has read it.
    pub read: bool,
}

/// An announcement whole, as a page shows it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its title.
    pub title: String,
    /// Since when it is shown.
    pub since: String,
    /// Its text.
    pub paragraphs: Vec<Paragraph>,
}

impl Shown {
    fn new(announcement: &Announcement) -> Self {
        Self {
            title: announcement.title.clone(),
            since: dates::day(announcement.from),
            paragraphs: paragraphs(&announcement.body),
        }
    }
}

/// What the member has not read yet, for the first page.
pub async fn unread(
    app: &App,
    member: &Member,
    now: OffsetDateTime,
) -> Result<Vec<Line>, StoreError> {
    let lines = member_lines(app, member, now).await?;
    Ok(lines.into_iter().filter(|line| !line.read).collect())
}

/// What everybody is told now, for the sign-in page.
pub async fn for_everybody(app: &App, now: OffsetDateTime) -> Result<Vec<Shown>, StoreError> {
    let all = store::for_everybody(&app.db, now).await?;
    Ok(all.iter().map(Shown::new).collect())
}

async fn member_lines(
    app: &App,
    member: &Member,
    now: OffsetDateTime,
) -> Result<Vec<Line>, StoreError> {
    let lines = store::shown_to(&app.db, member, now).await?;
    let lines = lines.into_iter().map(|line| Line {
        path: format!("/announcements/{}", line.announcement.id),
        title: line.announcement.title,
        since: dates::day(line.announcement.from),
        read: line.read.is_some(),
    });
    Ok(lines.collect())
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Template)]
#[template(path = "announcements.html")]
struct ListPage {
    layout: Layout,
    lines: Vec<Line>,
}

/// `GET /announcements`
async fn list(member: Member, State(app): State<App>) -> Result<Html<String>, PageError> {
    let now = app.clock.now();
    page(&ListPage {
        layout: Layout::member(&app, &member, MemberPage::Home, now),
        lines: member_lines(&app, &member, now).await?,
    })
}

#[derive(Template)]
#[template(path = "announcement.html")]
struct ReadPage {
    layout: Layout,
    shown: Shown,
}

/// `GET /announcements/{id}`
async fn read(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    let now = app.clock.now();
    let id: AnnouncementId = id.parse().map_err(|_| PageError::NotFound)?;
    let lines = store::shown_to(&app.db, &member, now).await?;
    let line = lines
        .into_iter()
        .find(|line| line.announcement.id == id)
        .ok_or(PageError::NotFound)?;
    if line.read.is_none() {
        let mut tx = app.db.begin().await?;
        store::mark_read(&mut tx, id, member.user(), now).await?;
        Db::commit(tx).await?;
    }
    page(&ReadPage {
        layout: Layout::member(&app, &member, MemberPage::Home, now),
        shown: Shown::new(&line.announcement),
    })
}

#[derive(Template)]
#[template(path = "office_announcements.html")]
struct OfficeListPage {
    layout: Layout,
    lines: Vec<OfficeLine>,
}

struct OfficeLine {
    path: String,
    title: String,
    audience: String,
    shown: String,
    state: (&'static str, &'static str),
    readers: u64,
    written_by: String,
}

/// `GET /announcements`
async fn office_list(
    reviewer: Reviewer,
    State(app): State<App>,
) -> Result<Html<String>, PageError> {
    let now = app.clock.now();
    let lines = store::list(&app.db, &reviewer).await?;
    let lines = lines.into_iter().map(|line| OfficeLine {
        path: format!("/announcements/{}", line.announcement.id),
        audience: match line.announcement.audience {
            Audience::All => "すべての事業所".to_owned(),
            Audience::Chosen => format!("{}事業所", line.chosen),
        },
        shown: format!(
            "{}から{}まで",
            dates::day(line.announcement.from),
            dates::date(last_day(&line.announcement))
        ),
        state: state(&line.announcement, now),
        readers: line.readers,
        written_by: line.announcement.written_by,
        title: line.announcement.title,
    });
    page(&OfficeListPage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Announcements),
        lines: lines.collect(),
    })
}

fn state(announcement: &Announcement, now: OffsetDateTime) -> (&'static str, &'static str) {
    if announcement.withdrawn.is_some() {
        ("neutral", "取消し")
    } else if now < announcement.from {
        ("info", "掲載前")
    } else if now < announcement.until {
        ("success", "掲載中")
    } else {
        ("neutral", "終了")
    }
}

/// The last day on which it is shown.
fn last_day(announcement: &Announcement) -> Date {
    let until = announcement.until.to_offset(JST).date();
    until.previous_day().unwrap_or(until)
}

/// What stands in the form.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Form {
    title: String,
    body: String,
    audience: String,
    numbers: String,
    from: String,
    until: String,
}

#[derive(Template)]
#[template(path = "office_announcement.html")]
struct EditPage {
    layout: Layout,
    /// Where the form goes; the announcement's page, or that for a new one.
    path: String,
    known: bool,
    withdrawn: bool,
    form: Form,
    errors: FieldErrors,
    preview: Vec<Paragraph>,
}

impl EditPage {
    fn new(app: &App, reviewer: &Reviewer, path: String, form: Form, errors: FieldErrors) -> Self {
        Self {
            layout: Layout::office(app, reviewer.staff(), OfficePage::Announcements),
            known: path != "/announcements/new",
            withdrawn: false,
            preview: paragraphs(&form.body),
            path,
            form,
            errors,
        }
    }
}

/// `GET /announcements/new`
async fn new(reviewer: Reviewer, State(app): State<App>) -> Result<Html<String>, PageError> {
    const SHOWN: time::Duration = time::Duration::days(14);
    let today = app.clock.now().to_offset(JST).date();
    let form = Form {
        audience: Audience::All.code().to_owned(),
        from: today.to_string(),
        until: (today + SHOWN).to_string(),
        ..Form::default()
    };
    let path = "/announcements/new".to_owned();
    page(&EditPage::new(
        &app,
        &reviewer,
        path,
        form,
        FieldErrors::default(),
    ))
}

/// `POST /announcements/new`
async fn add(
    reviewer: Reviewer,
    State(app): State<App>,
    Verified(form): Verified<Form>,
) -> Result<Response, PageError> {
    let path = "/announcements/new".to_owned();
    save(&app, &reviewer, AnnouncementId::new(), path, form).await
}

/// `GET /announcements/{id}`
async fn edit(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    let (announcement, chosen) = find(&app, &reviewer, &id).await?;
    let known = establishments::store::list(&app.db).await?;
    let chosen: Vec<String> = known
        .iter()
        .filter(|establishment| chosen.contains(&establishment.id))
        .map(|establishment| establishment.number.to_string())
        .collect();
    let form = Form {
        title: announcement.title.clone(),
        body: announcement.body.clone(),
        audience: announcement.audience.code().to_owned(),
        numbers: chosen.join(" "),
        from: announcement.from.to_offset(JST).date().to_string(),
        until: last_day(&announcement).to_string(),
    };
    let path = format!("/announcements/{}", announcement.id);
    let mut shown = EditPage::new(&app, &reviewer, path, form, FieldErrors::default());
    shown.withdrawn = announcement.withdrawn.is_some();
    page(&shown)
}

/// `POST /announcements/{id}`
async fn change(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<Form>,
) -> Result<Response, PageError> {
    let (announcement, _) = find(&app, &reviewer, &id).await?;
    let path = format!("/announcements/{}", announcement.id);
    save(&app, &reviewer, announcement.id, path, form).await
}

/// `POST /announcements/{id}/withdraw`
async fn withdraw(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let (announcement, _) = find(&app, &reviewer, &id).await?;
    let mut tx = app.db.begin().await?;
    if store::withdraw(&mut tx, &reviewer, announcement.id, now).await? {
        let act = Act::AnnouncementWithdrawn(announcement.id);
        audit::record(&mut tx, &app.keys, &reviewer.actor(), act, now).await?;
    }
    Db::commit(tx).await?;
    Ok(Redirect::to("/announcements"))
}

async fn find(
    app: &App,
    reviewer: &Reviewer,
    id: &str,
) -> Result<(Announcement, Vec<EstablishmentId>), PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let found = store::find(&app.db, reviewer, id).await?;
    found.ok_or(PageError::NotFound)
}

async fn save(
    app: &App,
    reviewer: &Reviewer,
    id: AnnouncementId,
    path: String,
    form: Form,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let mut errors = FieldErrors::default();
    for fault in faults(&form.title, &form.body) {
        errors.add(fault.field(), fault.page_text());
    }
    let audience = Audience::from_code(&form.audience).unwrap_or(Audience::Chosen);
    let chosen = chosen(app, audience, &form.numbers, &mut errors).await?;
    let days = days(&form, now, &mut errors);
    let (Some((from, until)), true) = (days, errors.is_empty()) else {
        let shown = EditPage::new(app, reviewer, path, form, errors);
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &shown)?.into_response());
    };
    let announcement = Announcement {
        id,
        title: form.title.trim().to_owned(),
        body: form.body.trim().to_owned(),
        audience,
        from,
        until,
        written_by: reviewer.name().to_owned(),
        withdrawn: None,
    };
    let mut tx = app.db.begin().await?;
    store::save(&mut tx, reviewer, &announcement, &chosen, now).await?;
    let act = Act::AnnouncementWritten(id);
    audit::record(&mut tx, &app.keys, &reviewer.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/announcements").into_response())
}

/// The establishments whose numbers were typed, in any order, between blanks or commas.
async fn chosen(
    app: &App,
    audience: Audience,
    numbers: &str,
    errors: &mut FieldErrors,
) -> Result<Vec<EstablishmentId>, StoreError> {
    if audience == Audience::All {
        return Ok(Vec::new());
    }
    let known = establishments::store::list(&app.db).await?;
    let apart = |c: char| c.is_whitespace() || matches!(c, ',' | '、' | '，');
    let (mut chosen, mut unknown) = (Vec::new(), Vec::new());
    for word in numbers.split(apart).filter(|word| !word.is_empty()) {
        let number: Option<EstablishmentNumber> = crate::one_time_codes::digits(word).parse().ok();
        match known.iter().find(|known| Some(known.number) == number) {
            Some(known) if !chosen.contains(&known.id) => chosen.push(known.id),
            Some(_) => {}
            None => unknown.push(word.chars().take(20).collect::<String>()),
        }
    }
    if !unknown.is_empty() {
        let unknown = unknown.join("、");
        errors.add(
            "numbers",
            format!("登録のない事業所番号があります：{unknown}"),
        );
    } else if chosen.is_empty() {
        errors.add("numbers", "事業所番号を入力してください。");
    }
    Ok(chosen)
}

/// From the beginning of the first day to the end of the last.
fn days(
    form: &Form,
    now: OffsetDateTime,
    errors: &mut FieldErrors,
) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let mut day = |field, text: &str| match parse_day(text) {
        Ok(Some(day)) => Some(day),
        Ok(None) => {
            errors.add(field, "日付を入力してください。");
            None
        }
        Err(sentence) => {
            errors.add(field, sentence);
            None
        }
    };
    let (from, last) = (day("from", &form.from)?, day("until", &form.until)?);
    let from = from.midnight().assume_offset(JST);
    let until = last.next_day()?.midnight().assume_offset(JST);
    if until <= from {
        errors.add("until", "終わりの日は、始まりの日以後にしてください。");
    } else if until <= now {
        errors.add("until", "終わりの日が過ぎています。");
    } else if until > now + AHEAD_LIMIT {
        errors.add("until", "終わりの日は、1年以内にしてください。");
    } else {
        return Some((from, until));
    }
    None
}
