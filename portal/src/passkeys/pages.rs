//! The pages for one's own passkeys, and signing in and confirming with one, for members.
//! What both sides share is here too; the office's routes are in [`super::office`].

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::{Extension, Json};
use http::{Method, StatusCode};
use serde::Deserialize;
use time::OffsetDateTime;

use super::store;
use super::{Bound, Owner, PasskeyError, PasskeyName, Purpose, Shown};
use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::db::Db;
use crate::ids::RowId;
use crate::sign_in::{self, Counted};
use crate::step_up::Fresh;
use crate::web::forms::{FieldErrors, Verified, VerifiedScript};
use crate::web::layout::{Layout, MemberPage, Side};
use crate::web::page_error::{FIRST_PASSWORD_PATH, PageError};
use crate::web::principals::{Member, OfficeConnection, Staff, Visitor};
use crate::web::router::Routes;
use crate::web::{dates, page_with, session_cookie, sessions};

/// Where a member's own passkeys are.
const OWN: &str = "/settings/passkeys";
/// What the failures of passkeys at one PC are counted under: no user ID has a slash.
pub(super) const COUNTED: &str = "passkey/";

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Fresh<Member>, _, _>(Method::GET, OWN, show)
        .allow::<Fresh<Member>, _, _>(Method::POST, OWN, add)
        .allow::<Fresh<Member>, _, _>(Method::POST, "/settings/passkeys/question", ask)
        .allow::<Fresh<Member>, _, _>(Method::POST, "/settings/passkeys/{id}/remove", remove)
        .allow::<Visitor, _, _>(Method::POST, "/sign-in/passkey", sign_in)
        .allow::<Visitor, _, _>(Method::POST, "/sign-in/passkey/question", ask_to_sign_in)
        .allow::<Member, _, _>(Method::POST, "/step-up/question", ask_to_confirm)
}

/// A passkey on the page.
pub(super) struct Row {
    pub(super) id: RowId,
    pub(super) name: String,
    pub(super) added: String,
    pub(super) used: String,
}

/// What both sides' pages show.
pub(super) struct Own {
    pub(super) base: &'static str,
    pub(super) rows: Vec<Row>,
    pub(super) offered: bool,
    pub(super) full: bool,
    pub(super) name: String,
    pub(super) done: &'static str,
    pub(super) errors: FieldErrors,
}

impl Own {
    pub(super) async fn of(
        app: &App,
        side: Side,
        owner: Owner,
        base: &'static str,
    ) -> Result<Self, PageError> {
        let kept = store::list(&app.db, owner).await?;
        let rows: Vec<Row> = kept
            .into_iter()
            .map(|kept| Row {
                id: kept.id,
                name: kept.name,
                added: dates::day(kept.added),
                used: kept
                    .used
                    .map_or_else(|| "まだありません".to_owned(), dates::moment),
            })
            .collect();
        Ok(Self {
            base,
            offered: super::are_offered(app, side),
            full: i64::try_from(rows.len()).unwrap_or(i64::MAX) >= super::LIMIT,
            rows,
            name: String::new(),
            done: "",
            errors: FieldErrors::default(),
        })
    }

    pub(super) fn done(self, word: Option<&str>) -> Self {
        Self {
            done: match word {
                Some("added") => {
                    "パスキーを登録しました。次のログインから、ログインの画面の「パスキーでログイン」を使えます。"
                }
                Some("removed") => "パスキーを削除しました。",
                Some(_) | None => "",
            },
            ..self
        }
    }

    pub(super) fn wrong(self, name: &str, field: &'static str, sentence: String) -> Self {
        Self {
            name: name.to_owned(),
            errors: FieldErrors::of_one(field, sentence),
            ..self
        }
    }
}

#[derive(Template)]
#[template(path = "passkeys_member.html")]
struct OwnPage {
    layout: Layout,
    own: Own,
}

#[derive(Deserialize)]
pub(super) struct Done {
    pub(super) done: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct AddForm {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) answer: String,
}

#[derive(Deserialize)]
pub(super) struct AnswerForm {
    #[serde(default)]
    pub(super) answer: String,
}

#[derive(Deserialize)]
pub(super) struct Nothing {}

fn render(
    app: &App,
    member: &Member,
    own: Own,
    status: StatusCode,
    now: OffsetDateTime,
) -> Result<Response, PageError> {
    let layout = Layout::member(app, member, MemberPage::Settings, now);
    Ok(page_with(status, &OwnPage { layout, own })?.into_response())
}

/// `GET /settings/passkeys`
async fn show(
    member: Fresh<Member>,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Response, PageError> {
    let owner = Owner::Member(member.user());
    let own = Own::of(&app, Side::Member, owner, OWN).await?;
    let own = own.done(done.done.as_deref());
    render(&app, &member, own, StatusCode::OK, app.clock.now())
}

/// `POST /settings/passkeys/question`
async fn ask(
    member: Fresh<Member>,
    State(app): State<App>,
    _: VerifiedScript,
) -> Result<Response, PageError> {
    let bound = Bound::to(&app, member.token_hash());
    let names = (member.user_id(), member.name());
    let owner = Owner::Member(member.user());
    let now = app.clock.now();
    let asked = super::ask_to_register(&app, Side::Member, owner, names, &bound, now).await;
    question(asked)
}

/// `POST /settings/passkeys`
async fn add(
    member: Fresh<Member>,
    State(app): State<App>,
    Verified(form): Verified<AddForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let owner = Owner::Member(member.user());
    let bound = Bound::to(&app, member.token_hash());
    let session = (Side::Member, owner, &bound);
    let Some((field, sentence)) = try_to_add(&app, session, &member.actor(), &form, now).await?
    else {
        return Ok(Redirect::to(&format!("{OWN}?done=added")).into_response());
    };
    let own = Own::of(&app, Side::Member, owner, OWN).await?;
    let own = own.wrong(&form.name, field, sentence);
    render(&app, &member, own, StatusCode::UNPROCESSABLE_ENTITY, now)
}

/// Registers what a form brings: `None` if it did, else the field and what is wrong.
pub(super) async fn try_to_add(
    app: &App,
    (side, owner, bound): (Side, Owner, &Bound),
    actor: &Actor,
    form: &AddForm,
    now: OffsetDateTime,
) -> Result<Option<(&'static str, String)>, PageError> {
    let Some(name) = PasskeyName::new(&form.name) else {
        return Ok(Some(("name", PasskeyName::page_text())));
    };
    let answer = form.answer.as_str();
    match super::register(app, side, owner, actor, bound, &name, answer, now).await {
        Ok(_) => {
            app.signals.mail_queued();
            Ok(None)
        }
        Err(error) => match error.page_text() {
            Some(sentence) => Ok(Some(("", sentence.to_owned()))),
            None => Err(page_error(error)),
        },
    }
}

/// `POST /settings/passkeys/{id}/remove`
async fn remove(
    member: Fresh<Member>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let owner = Owner::Member(member.user());
    remove_one(&app, owner, &member.actor(), &id).await?;
    Ok(Redirect::to(&format!("{OWN}?done=removed")))
}

pub(super) async fn remove_one(
    app: &App,
    owner: Owner,
    actor: &Actor,
    id: &str,
) -> Result<(), PageError> {
    let now = app.clock.now();
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let mut tx = app.db.begin().await?;
    if !super::remove(&mut tx, app, owner, actor, id, now).await? {
        return Err(PageError::NotFound);
    }
    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(())
}

/// The options of a question for the page's script, or the sentence that says why not.
pub(super) fn question(
    asked: Result<serde_json::Value, PasskeyError>,
) -> Result<Response, PageError> {
    match asked {
        Ok(options) => Ok(Json(options).into_response()),
        Err(error) => Err(page_error(error)),
    }
}

pub(crate) fn page_error(error: PasskeyError) -> PageError {
    match (error.page_text(), error) {
        (Some(sentence), _) => PageError::Refused(sentence.to_owned()),
        (None, PasskeyError::NotOffered) => PageError::NotFound,
        (None, PasskeyError::Store(error)) => error.into(),
        (None, error) => PageError::doing("ask for a passkey")(error),
    }
}

fn bound_to_visit(app: &App, visitor: &Visitor) -> Bound {
    Bound::to(app, &format!("tunnel session {}", visitor.session()))
}

/// `POST /sign-in/passkey/question`
async fn ask_to_sign_in(
    visitor: Visitor,
    State(app): State<App>,
    _: VerifiedScript,
) -> Result<Response, PageError> {
    let bound = bound_to_visit(&app, &visitor);
    let now = app.clock.now();
    question(super::ask(&app, Side::Member, Purpose::SignIn, None, &bound, now).await)
}

/// `POST /sign-in/passkey`
async fn sign_in(
    visitor: Visitor,
    State(app): State<App>,
    Verified(form): Verified<AnswerForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let counted = Counted::apart(&app.keys, COUNTED, visitor.device().to_string());
    let bound = bound_to_visit(&app, &visitor);
    let shown = match try_to_show(&app, Side::Member, &counted, &bound, &form.answer, now).await? {
        Ok(shown) => shown,
        Err(sentence) => {
            let (actor, act) = (visitor.actor(), Act::SignInFailed);
            note_failure(&app, &actor, act, now).await?;
            return sign_in::pages::refuse_passkey(&app, &visitor, &sentence, now).await;
        }
    };
    // A passkey says who; whether he may come in here is the same question as ever.
    let place = visitor.establishment();
    let account = match shown.owner {
        Owner::Member(user) => sign_in::store::find_account_of(&app.db, user, place).await?,
        Owner::Staff(_) => None,
    };
    let mut tx = app.db.begin().await?;
    let account = match account {
        Some(account) if super::use_up(&mut tx, &shown, now).await? => account,
        Some(_) | None => {
            drop(tx);
            note_failure(&app, &visitor.actor(), Act::SignInFailed, now).await?;
            let sentence = PasskeyError::Wrong("").page_text().unwrap_or_default();
            return sign_in::pages::refuse_passkey(&app, &visitor, sentence, now).await;
        }
    };
    sign_in::store::forget_failures(&mut tx, &counted).await?;
    let token = sessions::begin_member(&mut tx, &app.keys, &visitor, account.user, now).await?;
    let actor = Actor::Member {
        user: account.user,
        device: visitor.device(),
        session: visitor.session(),
    };
    let (act, details) = (Act::SignedIn(account.user), serde_json::json!({}));
    audit::record_with(&mut tx, &app.keys, &actor, act, "passkey", &details, now).await?;
    Db::commit(tx).await?;
    let next = match account.password_is_initial {
        true => FIRST_PASSWORD_PATH,
        false => "/",
    };
    Ok(([session_cookie(&token)], Redirect::to(next)).into_response())
}

/// Counts and checks an answer; the sentence if it does not count.
pub(super) async fn try_to_show(
    app: &App,
    side: Side,
    counted: &Counted,
    bound: &Bound,
    answer: &str,
    now: OffsetDateTime,
) -> Result<Result<Shown, String>, PageError> {
    let mut tx = app.db.begin().await?;
    let attempt = sign_in::store::count_attempt(&mut tx, counted, now).await?;
    Db::commit(tx).await?;
    if let Some(sentence) = attempt.refusal() {
        return Ok(Err(sentence));
    }
    match super::check(app, side, Purpose::SignIn, bound, answer, now).await {
        Ok(shown) => Ok(Ok(shown)),
        Err(error) => match error.page_text() {
            Some(sentence) => Ok(Err(sentence.to_owned())),
            None => Err(page_error(error)),
        },
    }
}

pub(super) async fn note_failure(
    app: &App,
    actor: &Actor,
    act: Act,
    now: OffsetDateTime,
) -> Result<(), PageError> {
    let mut tx = app.db.begin().await?;
    let details = serde_json::json!({});
    audit::record_with(&mut tx, &app.keys, actor, act, "passkey", &details, now).await?;
    Ok(Db::commit(tx).await?)
}

/// `POST /step-up/question`, by members.
async fn ask_to_confirm(
    member: Member,
    State(app): State<App>,
    _: VerifiedScript,
) -> Result<Response, PageError> {
    let owner = Owner::Member(member.user());
    confirm(&app, Side::Member, owner, member.token_hash()).await
}

/// `POST /step-up/question`, by staff.
pub(super) async fn ask_staff_to_confirm(
    staff: Staff,
    _: Extension<OfficeConnection>,
    State(app): State<App>,
    _: VerifiedScript,
) -> Result<Response, PageError> {
    confirm(
        &app,
        Side::Office,
        Owner::Staff(staff.id()),
        staff.token_hash(),
    )
    .await
}

async fn confirm(
    app: &App,
    side: Side,
    owner: Owner,
    token_hash: &str,
) -> Result<Response, PageError> {
    let bound = Bound::to(app, token_hash);
    let now = app.clock.now();
    question(super::ask(app, side, Purpose::StepUp, Some(owner), &bound, now).await)
}
