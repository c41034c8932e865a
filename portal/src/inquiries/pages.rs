//! お問い合わせ: the member's form and threads, and the same threads at the office.

use askama::Template;
use axum::extract::{Path, Query, State as Has};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use time::Duration;

use super::store::{self, Inquiry, Message};
use super::{MessageError, OPEN_LIMIT, State, Subject, check};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::Db;
use crate::filings::store::ActorSide;
use crate::ids::InquiryId;
use crate::mail::{outbox, texts};
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, MemberPage, OfficePage, Side};
use crate::web::page_error::PageError;
use crate::web::principals::{Insider, Member, Reviewer};
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

/// How long the mail about an answer is worth sending.
const MAIL_LIFETIME: Duration = Duration::days(3);

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Insider, _, _>(Method::GET, "/contact", own)
        .allow::<Insider, _, _>(Method::POST, "/contact", ask)
        .allow::<Insider, _, _>(Method::GET, "/contact/{id}", thread)
        .allow::<Insider, _, _>(Method::POST, "/contact/{id}", go_on)
}

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::GET, "/inquiries", list)
        .allow::<Reviewer, _, _>(Method::GET, "/inquiries/{id}", office_thread)
        .allow::<Reviewer, _, _>(Method::POST, "/inquiries/{id}", answer)
        .allow::<Reviewer, _, _>(Method::POST, "/inquiries/{id}/close", close)
}

struct Line {
    path: String,
    subject: &'static str,
    chip: (&'static str, &'static str),
    changed: String,
    asker: String,
    establishment: String,
}

impl Line {
    fn new(base: &str, inquiry: &Inquiry) -> Self {
        Self {
            path: format!("{base}/{}", inquiry.id),
            subject: inquiry.subject.label(),
            chip: inquiry.state.chip(),
            changed: dates::moment(inquiry.changed),
            asker: inquiry.asker.clone(),
            establishment: format!(
                "{} {}",
                inquiry.establishment_number, inquiry.establishment_name
            ),
        }
    }
}

struct Said {
    at: String,
    who: String,
    ours: bool,
    lines: Vec<String>,
}

impl Said {
    fn new(message: Message, side: Side) -> Self {
        let who = match (message.side, side) {
            (ActorSide::Staff, Side::Member) => "基金事務局".to_owned(),
            (ActorSide::Staff, Side::Office) => format!("基金事務局 {}", message.person),
            (ActorSide::Member, _) => format!("{} さん", message.person),
        };
        let text = message
            .text
            .unwrap_or_else(|| "（表示できません）".to_owned());
        Self {
            at: dates::moment(message.at),
            who,
            ours: (message.side == ActorSide::Staff) == (side == Side::Office),
            lines: text.lines().map(str::to_owned).collect(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AskForm {
    subject: String,
    text: String,
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Template)]
#[template(path = "contact.html")]
struct OwnPage {
    layout: Layout,
    lines: Vec<Line>,
    subjects: Vec<(&'static str, &'static str, bool)>,
    form: AskForm,
    errors: FieldErrors,
}

async fn own_page(
    app: &App,
    member: &Member,
    form: AskForm,
    errors: FieldErrors,
) -> Result<OwnPage, PageError> {
    let inquiries = store::own(&app.db, member).await?;
    let choice = |subject: Subject| {
        (
            subject.code(),
            subject.label(),
            subject.code() == form.subject,
        )
    };
    Ok(OwnPage {
        layout: Layout::member(app, member, MemberPage::Contact, app.clock.now()),
        lines: inquiries
            .iter()
            .map(|inquiry| Line::new("/contact", inquiry))
            .collect(),
        subjects: Subject::ALL.map(choice).to_vec(),
        form,
        errors,
    })
}

/// `GET /contact`
async fn own(member: Member, Has(app): Has<App>) -> Result<Html<String>, PageError> {
    page(&own_page(&app, &member, AskForm::default(), FieldErrors::default()).await?)
}

/// `POST /contact`
async fn ask(
    member: Member,
    Has(app): Has<App>,
    Verified(form): Verified<AskForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let mut errors = FieldErrors::default();
    let subject = Subject::from_code(&form.subject);
    if subject.is_none() {
        errors.add("subject", MessageError::NoSubject.page_text());
    }
    if let Err(error) = check(&form.text) {
        errors.add("text", error.page_text());
    }
    let mut tx = app.db.begin().await?;
    if errors.is_empty() && store::open_ones(&mut tx, &member).await? >= OPEN_LIMIT {
        errors.add("", MessageError::TooMany.page_text());
    }
    let (Some(subject), Ok(text), true) = (subject, check(&form.text), errors.is_empty()) else {
        drop(tx);
        let shown = own_page(&app, &member, form, errors).await?;
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &shown)?.into_response());
    };
    let id = InquiryId::new();
    store::open(&mut tx, &member, id, subject, now).await?;
    let side = ActorSide::Member;
    store::write(&mut tx, &app.keys, id, side, member.name(), text, now).await?;
    let act = Act::InquiryOpened(id);
    audit::record(&mut tx, &app.keys, &member.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to(&format!("/contact/{id}")).into_response())
}

#[derive(Template)]
#[template(path = "contact_thread.html")]
struct ThreadPage {
    layout: Layout,
    path: String,
    line: Line,
    said: Vec<Said>,
    closed: bool,
    text: String,
    errors: FieldErrors,
}

#[derive(Template)]
#[template(path = "inquiry.html")]
struct OfficeThreadPage {
    layout: Layout,
    path: String,
    line: Line,
    said: Vec<Said>,
    closed: bool,
    text: String,
    errors: FieldErrors,
}

async fn said(app: &App, inquiry: &Inquiry, side: Side) -> Result<Vec<Said>, PageError> {
    let messages = store::messages(&app.db, &app.keys, inquiry).await?;
    let said = messages.into_iter().map(|message| Said::new(message, side));
    Ok(said.collect())
}

async fn find_own(app: &App, member: &Member, id: &str) -> Result<Inquiry, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let found = store::find_own(&app.db, member, id).await?;
    found.ok_or(PageError::NotFound)
}

async fn thread_page(
    app: &App,
    member: &Member,
    inquiry: &Inquiry,
    text: String,
    errors: FieldErrors,
) -> Result<ThreadPage, PageError> {
    Ok(ThreadPage {
        layout: Layout::member(app, member, MemberPage::Contact, app.clock.now()),
        path: format!("/contact/{}", inquiry.id),
        line: Line::new("/contact", inquiry),
        said: said(app, inquiry, Side::Member).await?,
        closed: inquiry.state == State::Closed,
        text,
        errors,
    })
}

/// `GET /contact/{id}`
async fn thread(
    member: Member,
    Has(app): Has<App>,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    let inquiry = find_own(&app, &member, &id).await?;
    let errors = FieldErrors::default();
    page(&thread_page(&app, &member, &inquiry, String::new(), errors).await?)
}

#[derive(Deserialize)]
struct TextForm {
    text: String,
}

/// `POST /contact/{id}`
async fn go_on(
    member: Member,
    Has(app): Has<App>,
    Path(id): Path<String>,
    Verified(form): Verified<TextForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let inquiry = find_own(&app, &member, &id).await?;
    let checked = check(&form.text);
    let refused = match checked {
        Err(error) => Some(error),
        Ok(text) => {
            let mut tx = app.db.begin().await?;
            let side = ActorSide::Member;
            let (keys, name) = (&app.keys, member.name());
            if store::write(&mut tx, keys, inquiry.id, side, name, text, now).await? {
                let act = Act::InquiryContinued(inquiry.id);
                audit::record(&mut tx, keys, &member.actor(), act, now).await?;
                Db::commit(tx).await?;
                None
            } else {
                Some(MessageError::Closed)
            }
        }
    };
    let Some(error) = refused else {
        return Ok(Redirect::to(&format!("/contact/{}", inquiry.id)).into_response());
    };
    let errors = FieldErrors::of_one("text", error.page_text());
    let shown = thread_page(&app, &member, &inquiry, form.text, errors).await?;
    Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &shown)?.into_response())
}

#[derive(Template)]
#[template(path = "inquiries.html")]
struct ListPage {
    layout: Layout,
    all: bool,
    lines: Vec<Line>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ListQuery {
    all: String,
}

/// `GET /inquiries`
async fn list(
    reviewer: Reviewer,
    Has(app): Has<App>,
    Query(query): Query<ListQuery>,
) -> Result<Html<String>, PageError> {
    let all = !query.all.is_empty();
    let inquiries = store::list(&app.db, &reviewer, !all).await?;
    page(&ListPage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Inquiries),
        all,
        lines: inquiries
            .iter()
            .map(|inquiry| Line::new("/inquiries", inquiry))
            .collect(),
    })
}

async fn find(app: &App, reviewer: &Reviewer, id: &str) -> Result<Inquiry, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let found = store::find(&app.db, reviewer, id).await?;
    found.ok_or(PageError::NotFound)
}

async fn office_page(
    app: &App,
    reviewer: &Reviewer,
    inquiry: &Inquiry,
    text: String,
    errors: FieldErrors,
) -> Result<OfficeThreadPage, PageError> {
    Ok(OfficeThreadPage {
        layout: Layout::office(app, reviewer.staff(), OfficePage::Inquiries),
        path: format!("/inquiries/{}", inquiry.id),
        line: Line::new("/inquiries", inquiry),
        said: said(app, inquiry, Side::Office).await?,
        closed: inquiry.state == State::Closed,
        text,
        errors,
    })
}

/// `GET /inquiries/{id}`
async fn office_thread(
    reviewer: Reviewer,
    Has(app): Has<App>,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    let inquiry = find(&app, &reviewer, &id).await?;
    let errors = FieldErrors::default();
    page(&office_page(&app, &reviewer, &inquiry, String::new(), errors).await?)
}

/// `POST /inquiries/{id}`: the answer; the asker is told by mail that there is one.
async fn answer(
    reviewer: Reviewer,
    Has(app): Has<App>,
    Path(id): Path<String>,
    Verified(form): Verified<TextForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let inquiry = find(&app, &reviewer, &id).await?;
    let refused = match check(&form.text) {
        Err(error) => Some(error),
        Ok(text) => {
            let mut tx = app.db.begin().await?;
            let side = ActorSide::Staff;
            let (keys, name) = (&app.keys, reviewer.name());
            if store::write(&mut tx, keys, inquiry.id, side, name, text, now).await? {
                if let Some(to) = store::asker_address(&mut tx, &inquiry).await? {
                    let mail = texts::inquiry_answered(&app.config, &to);
                    outbox::queue(&mut tx, keys, mail, now, now + MAIL_LIFETIME).await?;
                }
                let act = Act::InquiryContinued(inquiry.id);
                audit::record(&mut tx, keys, &reviewer.actor(), act, now).await?;
                Db::commit(tx).await?;
                app.signals.mail_queued();
                None
            } else {
                Some(MessageError::Closed)
            }
        }
    };
    let Some(error) = refused else {
        return Ok(Redirect::to(&format!("/inquiries/{}", inquiry.id)).into_response());
    };
    let errors = FieldErrors::of_one("text", error.page_text());
    let shown = office_page(&app, &reviewer, &inquiry, form.text, errors).await?;
    Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &shown)?.into_response())
}

/// `POST /inquiries/{id}/close`
async fn close(
    reviewer: Reviewer,
    Has(app): Has<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let inquiry = find(&app, &reviewer, &id).await?;
    let mut tx = app.db.begin().await?;
    if store::close(&mut tx, &reviewer, inquiry.id, now).await? {
        let act = Act::InquiryClosed(inquiry.id);
        audit::record(&mut tx, &app.keys, &reviewer.actor(), act, now).await?;
    }
    Db::commit(tx).await?;
    Ok(Redirect::to("/inquiries"))
}
