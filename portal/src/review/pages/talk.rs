//! The office writes about a filing, and answers a request to withdraw it.

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::filing::{Typed, show};
use super::{allowed, find_in, find_line, mails, queue_mails, to_filing};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::Db;
use crate::filings::pages::Confirmed;
use crate::filings::store::{self, ActorSide, write_event};
use crate::filings::{Event, StepError};
use crate::mail::texts;
use crate::review::talk::{self, Audience, Text};
use crate::review::withdrawals::{self, Answer};
use crate::web::forms::{FieldErrors, Verified};
use crate::web::page_error::PageError;
use crate::web::principals::Reviewer;
use crate::web::router::Routes;

pub(super) fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Reviewer, _, _>(Method::POST, "/filings/{id}/comments", comment)
        .allow::<Reviewer, _, _>(Method::POST, "/filings/{id}/withdrawal/grant", grant)
        .allow::<Reviewer, _, _>(Method::POST, "/filings/{id}/withdrawal/decline", decline)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CommentForm {
    comment: String,
    audience: String,
}

/// `POST /filings/{id}/comments`
async fn comment(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<CommentForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let line = find_line(&app, &reviewer, &id).await?;
    let mut errors = FieldErrors::default();
    let text = Text::parse(&form.comment);
    if let Err(error) = &text {
        errors.add("comment", error.page_text());
    }
    let audience = Audience::from_code(&form.audience);
    if audience.is_none() {
        errors.add(
            "audience",
            "「基金内メモ」か「事業所への連絡」を選んでください。",
        );
    }
    let (Ok(text), Some(audience)) = (text, audience) else {
        let typed = Typed {
            comment: form.comment,
            audience: form.audience,
            errors,
            ..Typed::default()
        };
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return show(&app, &reviewer, &line, typed, status).await;
    };
    let mails = match audience {
        Audience::Office => Vec::new(),
        Audience::Both => mails(&app, line.filing.establishment, texts::filing_commented).await?,
    };
    let mut tx = app.db.begin().await?;

    let filing = find_in(&mut tx, &reviewer, &id).await?;
    let writer = (ActorSide::Staff, reviewer.name());
    let written = talk::write(
        &mut tx,
        &app.keys,
        filing.id,
        (audience, &text),
        writer,
        now,
    );
    if let Err(error) = written.await? {
        return Err(PageError::Refused(error.page_text()));
    }
    if audience == Audience::Both {
        let (side, who) = writer;
        write_event(&mut tx, filing.id, Event::Commented, side, who, "", now).await?;
    }
    queue_mails(&app, &mut tx, mails, now).await?;
    let (act, actor) = (Act::FilingCommented(filing.id), reviewer.actor());
    let details = json!({ "audience": audience.code() });
    audit::record_with(&mut tx, &app.keys, &actor, act, "", &details, now).await?;

    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(to_filing(filing.id).into_response())
}

/// `POST /filings/{id}/withdrawal/grant`
async fn grant(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Confirmed {}): Verified<Confirmed>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let line = find_line(&app, &reviewer, &id).await?;
    let mails = mails(&app, line.filing.establishment, texts::withdrawal_answered).await?;
    let mut tx = app.db.begin().await?;

    let filing = find_in(&mut tx, &reviewer, &id).await?;
    let step = allowed(filing.grant_withdrawal(reviewer.id(), now))?;
    allowed(store::save_review(&mut tx, &reviewer, &step).await?)?;
    if !withdrawals::answer(&mut tx, filing.id, Some(&reviewer), Answer::Granted, now).await? {
        return allowed(Err(StepError::Moved));
    }
    queue_mails(&app, &mut tx, mails, now).await?;
    let act = Act::FilingWithdrawn(filing.id);
    audit::record(&mut tx, &app.keys, &reviewer.actor(), act, now).await?;

    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(to_filing(filing.id))
}

/// `POST /filings/{id}/withdrawal/decline`
async fn decline(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Confirmed {}): Verified<Confirmed>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let line = find_line(&app, &reviewer, &id).await?;
    let mails = mails(&app, line.filing.establishment, texts::withdrawal_answered).await?;
    let mut tx = app.db.begin().await?;

    let filing = find_in(&mut tx, &reviewer, &id).await?;
    allowed(filing.decline_withdrawal(reviewer.id()))?;
    if !withdrawals::answer(&mut tx, filing.id, Some(&reviewer), Answer::Declined, now).await? {
        return allowed(Err(StepError::Moved));
    }
    let (side, who) = (ActorSide::Staff, reviewer.name());
    let event = Event::WithdrawalDeclined;
    write_event(&mut tx, filing.id, event, side, who, "", now).await?;
    queue_mails(&app, &mut tx, mails, now).await?;
    let act = Act::WithdrawalDeclined(filing.id);
    audit::record(&mut tx, &app.keys, &reviewer.actor(), act, now).await?;

    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(to_filing(filing.id))
}
