//! What an establishment sees and says of a case besides the filing itself: the marked page,
//! the chain of corrections, messages to and from the office, the request to withdraw.

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::pictures::picture_of;
use super::talk::{self, Audience, Text};
use super::words::{self, ChainLine, CommentLine, MarkedPage};
use super::{chain, marks, withdrawals};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::Db;
use crate::filings::pages::{document_of, show};
use crate::filings::store::{self, ActorSide, write_event};
use crate::filings::{Event, Filing};
use crate::permissions::Permission;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::Side;
use crate::web::page_error::PageError;
use crate::web::principals::{Filer, Follower, Member};
use crate::web::router::Routes;

/// The routes of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Follower, _, _>(Method::GET, "/filings/{id}/pages/{page}", picture)
        .allow::<Filer, _, _>(Method::POST, "/filings/{id}/comments", comment)
        .allow::<Filer, _, _>(Method::POST, "/filings/{id}/withdrawal", ask_to_withdraw)
}

/// What the filing's page shows of the case.
pub struct Case {
    /// Where the filing is wrong.
    pub mark: Option<MarkedPage>,
    /// The corrections.
    pub chain: Vec<ChainLine>,
    /// The messages.
    pub comments: Vec<CommentLine>,
    /// When the establishment asked to withdraw, if the office has not answered.
    pub withdrawal_asked: Option<String>,
    /// Whether the member may write to the office.
    pub may_write: bool,
    /// Whether it may ask now.
    pub may_ask_to_withdraw: bool,
    /// What was typed.
    pub typed: Typed,
}

/// What was typed into the forms of the page, and what was wrong with it.
#[derive(Default)]
pub struct Typed {
    /// A message.
    pub comment: String,
    /// Why the filing shall be withdrawn.
    pub reason: String,
    /// What is wrong.
    pub errors: FieldErrors,
}

/// Looks up the case of a filing that the caller has found.
pub async fn case(
    app: &App,
    member: &Member,
    filing: &Filing,
    typed: Typed,
) -> Result<Case, PageError> {
    let may_file = member.may(Permission::File);
    let path = format!("/filings/{}", filing.id);
    let request = withdrawals::open(&app.db, &app.keys, filing).await?;
    let comments = talk::read(&app.db, &app.keys, filing, Side::Member).await?;
    let mark = marks::of(&app.db, filing).await?;
    let mut links = Vec::new();
    for link in chain::of(&app.db, filing).await? {
        // A colleague's correction may be out of the member's reach.
        if store::find_own(app.db.pool(), member, link.id)
            .await?
            .is_some()
        {
            links.push(link);
        }
    }
    Ok(Case {
        mark: mark.map(|mark| words::marked(mark, &path)),
        chain: words::chain(links, filing.id),
        may_write: may_file,
        comments: words::comments(comments, Side::Member),
        may_ask_to_withdraw: may_file && request.is_none() && filing.ask_to_withdraw().is_ok(),
        withdrawal_asked: request.map(|request| crate::web::dates::moment(request.asked)),
        typed,
    })
}

/// `GET /filings/{id}/pages/{page}`: the establishment's own filing as a picture.
async fn picture(
    member: Member,
    State(app): State<App>,
    Path((id, page)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let filing = find(&app, &member, &id).await?;
    let document = document_of(&app, &filing).await?;
    let (number, picture) = picture_of(&app, &document, &page).await?;
    let (actor, now) = (member.actor(), app.clock.now());
    let mut tx = app.db.begin().await?;
    let details = json!({ "page": number });
    let act = Act::FilingRead(filing.id);
    audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;
    Db::commit(tx).await?;
    Ok(picture)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CommentForm {
    comment: String,
}

/// `POST /filings/{id}/comments`
async fn comment(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<CommentForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let filing = find(&app, &member, &id).await?;
    let text = match Text::parse(&form.comment) {
        Ok(text) => text,
        Err(error) => {
            let typed = Typed {
                comment: form.comment,
                errors: FieldErrors::of_one("comment", error.page_text()),
                ..Typed::default()
            };
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return show(&app, &member, filing.id, typed, status).await;
        }
    };
    let mut tx = app.db.begin().await?;
    let signature = member.signature();
    let writer = (ActorSide::Member, signature.as_str());
    let comment = (Audience::Both, &text);
    let written = talk::write(&mut tx, &app.keys, filing.id, comment, writer, now);
    if let Err(error) = written.await? {
        return Err(PageError::Refused(error.page_text()));
    }
    let (side, who) = writer;
    write_event(&mut tx, filing.id, Event::Commented, side, who, "", now).await?;
    let (act, actor) = (Act::FilingCommented(filing.id), member.actor());
    let details = json!({ "audience": Audience::Both.code() });
    audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;
    Db::commit(tx).await?;
    Ok(to_filing(&filing).into_response())
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WithdrawalForm {
    reason: String,
}

/// `POST /filings/{id}/withdrawal`: what is in review already is given back by the office.
async fn ask_to_withdraw(
    member: Member,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<WithdrawalForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let filing = find(&app, &member, &id).await?;
    let reason = match Text::parse(&form.reason) {
        Ok(reason) => reason,
        Err(error) => {
            let typed = Typed {
                reason: form.reason,
                errors: FieldErrors::of_one("reason", error.page_text()),
                ..Typed::default()
            };
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return show(&app, &member, filing.id, typed, status).await;
        }
    };
    let refused = |error: crate::filings::StepError| PageError::Refused(error.page_text());
    filing.ask_to_withdraw().map_err(refused)?;
    let mut tx = app.db.begin().await?;
    withdrawals::ask(&mut tx, &app.keys, &member, &filing, &reason, now)
        .await?
        .map_err(refused)?;
    let (side, who, event) = (
        ActorSide::Member,
        member.signature(),
        Event::WithdrawalAsked,
    );
    write_event(&mut tx, filing.id, event, side, &who, "", now).await?;
    let act = Act::WithdrawalAsked(filing.id);
    audit::record(&mut tx, &app.keys, &member.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(to_filing(&filing).into_response())
}

async fn find(app: &App, member: &Member, id: &str) -> Result<Filing, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    store::find_own(app.db.pool(), member, id)
        .await?
        .ok_or(PageError::NotFound)
}

fn to_filing(filing: &Filing) -> Redirect {
    Redirect::to(&format!("/filings/{}", filing.id))
}

#[cfg(test)]
mod tests;
