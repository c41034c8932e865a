//! Staff's own passkeys, and signing in with one at the office.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};

use super::pages::{
    self, AddForm, AnswerForm, COUNTED, Done, Nothing, Own, note_failure, question, remove_one,
    try_to_add, try_to_show,
};
use super::{Bound, Owner, PasskeyError, Purpose};
use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::db::Db;
use crate::sign_in::{self, Counted};
use crate::staff;
use crate::step_up::Fresh;
use crate::web::forms::{Verified, VerifiedScript};
use crate::web::layout::{Layout, Side};
use crate::web::page_error::PageError;
use crate::web::principals::{OfficeVisitor, Staff};
use crate::web::router::Routes;
use crate::web::{page_with, session_cookie, sessions};

/// Where one's own passkeys are.
const OWN: &str = "/passkeys";

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Fresh<Staff>, _, _>(Method::GET, OWN, show)
        .allow::<Fresh<Staff>, _, _>(Method::POST, OWN, add)
        .allow::<Fresh<Staff>, _, _>(Method::POST, "/passkeys/question", ask)
        .allow::<Fresh<Staff>, _, _>(Method::POST, "/passkeys/{id}/remove", remove)
        .allow::<OfficeVisitor, _, _>(Method::POST, "/sign-in/passkey", sign_in)
        .allow::<OfficeVisitor, _, _>(Method::POST, "/sign-in/passkey/question", ask_to_sign_in)
        .allow::<Staff, _, _>(
            Method::POST,
            "/step-up/question",
            pages::ask_staff_to_confirm,
        )
}

#[derive(Template)]
#[template(path = "passkeys_office.html")]
struct OwnPage {
    layout: Layout,
    own: Own,
}

fn render(app: &App, staff: &Staff, own: Own, status: StatusCode) -> Result<Response, PageError> {
    let layout = Layout::office_aside(app, staff);
    Ok(page_with(status, &OwnPage { layout, own })?.into_response())
}

/// `GET /passkeys`
async fn show(
    staff: Fresh<Staff>,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Response, PageError> {
    let own = Own::of(&app, Side::Office, Owner::Staff(staff.id()), OWN).await?;
    let own = own.done(done.done.as_deref());
    render(&app, &staff, own, StatusCode::OK)
}

/// `POST /passkeys/question`
async fn ask(
    staff: Fresh<Staff>,
    State(app): State<App>,
    _: VerifiedScript,
) -> Result<Response, PageError> {
    let bound = Bound::to(&app, staff.token_hash());
    let owner = Owner::Staff(staff.id());
    let names = (staff.user_id(), staff.name());
    let now = app.clock.now();
    question(super::ask_to_register(&app, Side::Office, owner, names, &bound, now).await)
}

/// `POST /passkeys`
async fn add(
    staff: Fresh<Staff>,
    State(app): State<App>,
    Verified(form): Verified<AddForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let owner = Owner::Staff(staff.id());
    let bound = Bound::to(&app, staff.token_hash());
    let session = (Side::Office, owner, &bound);
    let Some((field, sentence)) = try_to_add(&app, session, &staff.actor(), &form, now).await?
    else {
        return Ok(Redirect::to("/passkeys?done=added").into_response());
    };
    let own = Own::of(&app, Side::Office, owner, OWN).await?;
    let own = own.wrong(&form.name, field, sentence);
    render(&app, &staff, own, StatusCode::UNPROCESSABLE_ENTITY)
}

/// `POST /passkeys/{id}/remove`
async fn remove(
    staff: Fresh<Staff>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    remove_one(&app, Owner::Staff(staff.id()), &staff.actor(), &id).await?;
    Ok(Redirect::to("/passkeys?done=removed"))
}

fn bound_to_visit(app: &App, visitor: &OfficeVisitor) -> Bound {
    Bound::to(app, &format!("office visit {}", visitor.visit()))
}

/// `POST /sign-in/passkey/question`
async fn ask_to_sign_in(
    visitor: OfficeVisitor,
    State(app): State<App>,
    _: VerifiedScript,
) -> Result<Response, PageError> {
    let bound = bound_to_visit(&app, &visitor);
    let now = app.clock.now();
    question(super::ask(&app, Side::Office, Purpose::SignIn, None, &bound, now).await)
}

/// `POST /sign-in/passkey`
async fn sign_in(
    visitor: OfficeVisitor,
    State(app): State<App>,
    Verified(form): Verified<AnswerForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let origin = format!("office:{}", visitor.peer().ip());
    let counted = Counted::at_office(&app.keys, COUNTED, origin);
    let bound = bound_to_visit(&app, &visitor);
    let stranger = Actor::Stranger {
        device: None,
        session: None,
    };
    let shown = match try_to_show(&app, Side::Office, &counted, &bound, &form.answer, now).await? {
        Ok(shown) => shown,
        Err(sentence) => {
            note_failure(&app, &stranger, Act::StaffSignInFailed, now).await?;
            return sign_in::office::refuse_passkey(&app, &visitor, &sentence).await;
        }
    };
    let mut tx = app.db.begin().await?;
    let staff = match shown.owner {
        Owner::Staff(id) if staff::store::is_in_use(&mut tx, id).await? => Some(id),
        Owner::Staff(_) | Owner::Member(_) => None,
    };
    let staff = match staff {
        Some(id) if super::use_up(&mut tx, &shown, now).await? => id,
        Some(_) | None => {
            drop(tx);
            note_failure(&app, &stranger, Act::StaffSignInFailed, now).await?;
            let sentence = PasskeyError::Wrong("").page_text().unwrap_or_default();
            return sign_in::office::refuse_passkey(&app, &visitor, sentence).await;
        }
    };
    sign_in::store::forget_failures(&mut tx, &counted).await?;
    let token = sessions::begin_staff(&mut tx, &app.keys, staff, now).await?;
    let (actor, act) = (Actor::Staff(staff), Act::StaffSignedIn(staff));
    let details = serde_json::json!({});
    audit::record_with(&mut tx, &app.keys, &actor, act, "passkey", &details, now).await?;
    Db::commit(tx).await?;
    Ok(([session_cookie(&token)], Redirect::to("/")).into_response())
}
