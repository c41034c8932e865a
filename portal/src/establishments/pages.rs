//! The office's pages for establishments: list, registration, users, registration codes.
//!
//! A registration code and an initial password are shown once, on the page that answers the
//! form, to be printed and sent by post; they cannot be shown again, only made anew.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::store::{self, UserOfEstablishment};
use super::{
    AddError, DEVICE_LIMIT, DeviceLimit, Establishment, IssuedCode, LoginName, MailAddress, Name,
    NewEstablishment, NewUser, Role,
};
use crate::app::App;
use crate::approvals::{self, Kind, Reason, resets};
use crate::db::Db;
use crate::devices::store as devices;
use crate::gateways;
use crate::ids::{EstablishmentId, UserId};
use crate::passkeys::{self, Owner};
use crate::passwords;
use crate::people;
use crate::step_up::Fresh;
use crate::web::forms::{FieldErrors, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::PageError;
use crate::web::principals::{Reviewer, Staff};
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<Staff, _, _>(Method::GET, "/establishments", list)
        .allow::<Reviewer, _, _>(Method::GET, "/establishments/new", new)
        .allow::<Reviewer, _, _>(Method::POST, "/establishments/new", register)
        .allow::<Staff, _, _>(Method::GET, "/establishments/{id}", show)
        .allow::<Reviewer, _, _>(Method::GET, "/establishments/{id}/users/new", new_user)
        .allow::<Reviewer, _, _>(Method::POST, "/establishments/{id}/users/new", add_user)
        .allow::<Reviewer, _, _>(
            Method::POST,
            "/establishments/{id}/users/{user}/code",
            issue_code,
        )
        .allow::<Fresh<Reviewer>, _, _>(
            Method::POST,
            "/establishments/{id}/users/{user}/password",
            reset_password,
        )
        .allow::<Reviewer, _, _>(
            Method::POST,
            "/establishments/{id}/users/{user}/authenticator",
            remove_authenticator,
        )
        .allow::<Reviewer, _, _>(Method::POST, "/establishments/{id}/users/{user}/free", free)
        .allow::<Reviewer, _, _>(
            Method::POST,
            "/establishments/{id}/users/{user}/appoint",
            appoint,
        )
        .with(super::leaving::office_routes)
}

#[derive(Template)]
#[template(path = "establishments.html")]
struct ListPage {
    layout: Layout,
    establishments: Vec<Establishment>,
    may_change: bool,
}

/// `GET /establishments`
async fn list(staff: Staff, State(app): State<App>) -> Result<Html<String>, PageError> {
    page(&ListPage {
        layout: Layout::office(&app, &staff, OfficePage::Establishments),
        establishments: store::list(&app.db).await?,
        may_change: staff.may_decide(),
    })
}

/// What stands in the registration form.
#[derive(Deserialize, Default)]
struct EstablishmentForm {
    number: String,
    name: String,
    device_limit: String,
    #[serde(flatten)]
    user: UserForm,
}

#[derive(Deserialize, Default)]
struct UserForm {
    user_name: String,
    login: String,
    email: String,
}

#[derive(Template)]
#[template(path = "establishment_new.html")]
struct NewPage {
    layout: Layout,
    form: EstablishmentForm,
    errors: FieldErrors,
}

/// `GET /establishments/new`
async fn new(reviewer: Reviewer, State(app): State<App>) -> Result<Html<String>, PageError> {
    page(&NewPage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Establishments),
        form: EstablishmentForm {
            device_limit: DEVICE_LIMIT.to_string(),
            ..EstablishmentForm::default()
        },
        errors: FieldErrors::default(),
    })
}

/// The fields of a user, checked; what is wrong goes into `errors`.
fn read_user(form: &UserForm, password_hash: &str, errors: &mut FieldErrors) -> Option<NewUser> {
    let name = Name::new(&form.user_name)
        .map_err(|error| errors.add("user_name", error.page_text()))
        .ok();
    let login = LoginName::new(&form.login)
        .map_err(|error| errors.add("login", error.page_text()))
        .ok();
    let email = MailAddress::new(&form.email)
        .map_err(|error| errors.add("email", error.page_text()))
        .ok();
    Some(NewUser {
        login: login?,
        name: name?,
        email: email?,
        password_hash: password_hash.to_owned(),
    })
}

fn read_establishment(
    form: &EstablishmentForm,
    errors: &mut FieldErrors,
) -> Option<NewEstablishment> {
    let number = form
        .number
        .parse()
        .map_err(|_| {
            errors.add(
                "number",
                "事業所番号は1から9999までの数字で入力してください。",
            );
        })
        .ok();
    let name = Name::new(&form.name)
        .map_err(|error| errors.add("name", error.page_text()))
        .ok();
    let limit = crate::one_time_codes::digits(&form.device_limit)
        .parse()
        .map_err(|_| super::FieldError::DeviceLimit)
        .and_then(DeviceLimit::new)
        .map_err(|error| errors.add("device_limit", error.page_text()))
        .ok();
    Some(NewEstablishment {
        number: number?,
        name: name?,
        device_limit: limit?,
    })
}

/// `POST /establishments/new`
async fn register(
    reviewer: Reviewer,
    State(app): State<App>,
    Verified(form): Verified<EstablishmentForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let mut errors = FieldErrors::default();
    let password = passwords::initial();
    let hash = passwords::hash(&password)
        .await
        .map_err(PageError::doing("hash a password"))?;
    let establishment = read_establishment(&form, &mut errors);
    let admin = read_user(&form.user, &hash, &mut errors);
    let registered = match (establishment, admin) {
        (Some(establishment), Some(admin)) => {
            let actor = reviewer.actor();
            let mut tx = app.db.begin().await?;
            match super::register(&mut tx, &app.keys, &actor, &establishment, &admin, now).await {
                Ok((id, user)) => {
                    let code = super::issue_code(&mut tx, &app.keys, &actor, id, user, now).await?;
                    Db::commit(tx).await?;
                    code.map(|code| (id, user, code))
                }
                Err(AddError::Store(error)) => return Err(error.into()),
                Err(error) => {
                    errors.add(field_of(&error), error.page_text().unwrap_or_default());
                    None
                }
            }
        }
        (_, _) => None,
    };
    let Some((id, user, code)) = registered else {
        let page = NewPage {
            layout: Layout::office(&app, reviewer.staff(), OfficePage::Establishments),
            form,
            errors,
        };
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    };
    letter(&app, &reviewer, id, user, Some(&code), Some(&password)).await
}

fn field_of(error: &AddError) -> &'static str {
    match error {
        AddError::NumberTaken(_) => "number",
        AddError::LoginTaken | AddError::MemberAlready => "login",
        AddError::Store(_) => "",
    }
}

/// What goes into the letter to a user.
#[derive(Template)]
#[template(path = "letter.html")]
struct LetterPage {
    layout: Layout,
    today: String,
    establishment: Establishment,
    user: UserOfEstablishment,
    /// What the program is told to connect to.
    gateway: Option<String>,
    /// The registration code, and until when it is good.
    code: Option<(String, String)>,
    password: Option<String>,
}

async fn letter(
    app: &App,
    reviewer: &Reviewer,
    id: EstablishmentId,
    user: UserId,
    code: Option<&IssuedCode>,
    password: Option<&str>,
) -> Result<Response, PageError> {
    let (establishment, user) = find_user(app, id, user).await?;
    let page = LetterPage {
        layout: Layout::office(app, reviewer.staff(), OfficePage::Establishments),
        today: dates::day(app.clock.now()),
        establishment,
        user,
        gateway: gateways::store::urls(&app.db).await?.into_iter().next(),
        code: code.map(|code| (code.code.to_string(), dates::day(code.expires))),
        password: password.map(str::to_owned),
    };
    Ok(self::page(&page)?.into_response())
}

async fn find(app: &App, id: EstablishmentId) -> Result<Establishment, PageError> {
    store::find(&app.db, id).await?.ok_or(PageError::NotFound)
}

async fn find_user(
    app: &App,
    id: EstablishmentId,
    user: UserId,
) -> Result<(Establishment, UserOfEstablishment), PageError> {
    let establishment = find(app, id).await?;
    let users = store::users(&app.db, id).await?;
    let user = users.into_iter().find(|known| known.id == user);
    Ok((establishment, user.ok_or(PageError::NotFound)?))
}

/// Reads an id out of the path; what is none is not found.
fn id_of<T: std::str::FromStr>(text: &str) -> Result<T, PageError> {
    text.parse().map_err(|_| PageError::NotFound)
}

#[derive(Template)]
#[template(path = "establishment.html")]
struct ShowPage {
    layout: Layout,
    establishment: Establishment,
    users: Vec<UserRow>,
    codes: Vec<CodeRow>,
    devices: Vec<DeviceRow>,
    may_change: bool,
    done: &'static str,
}

struct UserRow {
    user: UserOfEstablishment,
    uses_authenticator: bool,
    has_passkeys: bool,
    /// Whether signing in is stopped at some PC.
    is_stopped: bool,
    /// Whether a new password was approved and waits to be printed.
    reset_allowed: bool,
}

struct CodeRow {
    user: String,
    issued: String,
    expires: String,
    state: (&'static str, &'static str),
}

struct DeviceRow {
    id: String,
    name: String,
    user: String,
    seen: String,
    state: (&'static str, &'static str),
}

#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

/// `GET /establishments/{id}`
async fn show(
    staff: Staff,
    State(app): State<App>,
    Path(id): Path<String>,
    Query(done): Query<Done>,
) -> Result<Html<String>, PageError> {
    let now = app.clock.now();
    let id = id_of(&id)?;
    let establishment = find(&app, id).await?;
    let users = store::users(&app.db, id).await?;
    let name_of = |user: UserId| {
        let user = users.iter().find(|known| known.id == user);
        user.map_or_else(|| "（登録解除）".to_owned(), |user| user.name.clone())
    };
    let codes = store::codes(&app.db, id).await?;
    let codes = codes.iter().map(|code| CodeRow {
        user: name_of(code.user),
        issued: dates::day(code.created),
        expires: dates::day(code.expires),
        state: match code.used {
            Some(_) => ("success", "使用済み"),
            None if code.expires <= now => ("neutral", "期限切れ"),
            None => ("info", "未使用"),
        },
    });
    let devices = devices::of_establishment(&app.db, id).await?;
    let devices = devices.into_iter().map(|device| DeviceRow {
        id: device.id.to_string(),
        user: device.user_name,
        seen: device
            .seen
            .map_or_else(|| "まだありません".to_owned(), dates::moment),
        state: if device.revoked.is_some() {
            ("neutral", "登録解除")
        } else {
            ("success", "利用中")
        },
        name: device.name,
    });
    let (codes, devices) = (codes.collect(), devices.collect());
    let mut rows = Vec::with_capacity(users.len());
    for user in users {
        let uses_mail = crate::sign_in::store::uses_mail(&app.db, user.id).await?;
        let passkeys = passkeys::store::list(&app.db, Owner::Member(user.id)).await?;
        let counted = crate::sign_in::account(&app.keys, &user.login);
        let subject = approvals::member_subject(id, user.id);
        let kind = Kind::PasswordReset;
        rows.push(UserRow {
            reset_allowed: resets::is_allowed(&app.db, kind, &subject, now).await?,
            is_stopped: crate::sign_in::store::is_stopped(&app.db, &counted, now).await?,
            user,
            uses_authenticator: !uses_mail,
            has_passkeys: !passkeys.is_empty(),
        });
    }
    page(&ShowPage {
        layout: Layout::office(&app, &staff, OfficePage::Establishments),
        establishment,
        users: rows,
        codes,
        devices,
        may_change: staff.may_decide(),
        done: match done.done.as_deref() {
            Some("authenticator") => {
                "認証アプリとパスキーを解除しました。次の接続から、メールでワンタイムパスワードを送ります。"
            }
            Some("freed") => "ログインの停止を解除しました。",
            Some(_) | None => "",
        },
    })
}

#[derive(Template)]
#[template(path = "user_new.html")]
struct NewUserPage {
    layout: Layout,
    establishment: Establishment,
    form: UserForm,
    errors: FieldErrors,
}

/// `GET /establishments/{id}/users/new`
async fn new_user(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    page(&NewUserPage {
        layout: Layout::office(&app, reviewer.staff(), OfficePage::Establishments),
        establishment: find(&app, id_of(&id)?).await?,
        form: UserForm::default(),
        errors: FieldErrors::default(),
    })
}

/// `POST /establishments/{id}/users/new`
async fn add_user(
    reviewer: Reviewer,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<UserForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let establishment = find(&app, id_of(&id)?).await?;
    let id = establishment.id;
    let mut errors = FieldErrors::default();
    let password = passwords::initial();
    let hash = passwords::hash(&password)
        .await
        .map_err(PageError::doing("hash a password"))?;
    let mut added = None;
    if let Some(user) = read_user(&form, &hash, &mut errors) {
        let actor = reviewer.actor();
        let mut tx = app.db.begin().await?;
        match super::add_user(&mut tx, &app.keys, &actor, id, &user, Role::Added, now).await {
            Ok(user) => {
                let code = super::issue_code(&mut tx, &app.keys, &actor, id, user, now).await?;
                Db::commit(tx).await?;
                added = Some((user, code));
            }
            Err(AddError::Store(error)) => return Err(error.into()),
            Err(error) => errors.add(field_of(&error), error.page_text().unwrap_or_default()),
        }
    }
    let Some((user, code)) = added else {
        let page = NewUserPage {
            layout: Layout::office(&app, reviewer.staff(), OfficePage::Establishments),
            establishment,
            form,
            errors,
        };
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    };
    letter(&app, &reviewer, id, user, code.as_ref(), Some(&password)).await
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /establishments/{id}/users/{user}/code`
async fn issue_code(
    reviewer: Reviewer,
    State(app): State<App>,
    Path((id, user)): Path<(String, String)>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let (id, user) = (id_of(&id)?, id_of(&user)?);
    let mut tx = app.db.begin().await?;
    let code = super::issue_code(&mut tx, &app.keys, &reviewer.actor(), id, user, now)
        .await?
        .ok_or(PageError::NotFound)?;
    Db::commit(tx).await?;
    letter(&app, &reviewer, id, user, Some(&code), None).await
}

/// `POST /establishments/{id}/users/{user}/password`: for an added user at once; for an admin a
/// second person decides, and who prints the letter carries it out.
async fn reset_password(
    reviewer: Fresh<Reviewer>,
    State(app): State<App>,
    Path((id, user)): Path<(String, String)>,
    Verified(form): Verified<ReasonForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let (id, user) = (id_of(&id)?, id_of(&user)?);
    let (_, known) = find_user(&app, id, user).await?;
    let (kind, subject) = (Kind::PasswordReset, approvals::member_subject(id, user));
    let by_two = known.role == Role::Admin;
    if by_two && !resets::is_allowed(&app.db, kind, &subject, now).await? {
        let proposed = propose(&app, &reviewer, kind, (id, user), &form).await?;
        return Ok(proposed.into_response());
    }
    let password = passwords::initial();
    let hash = passwords::hash(&password)
        .await
        .map_err(PageError::doing("hash a password"))?;
    let mut tx = app.db.begin().await?;
    if by_two && !resets::take(&mut tx, kind, &subject, now).await? {
        return Err(PageError::Refused(CARRIED_OUT.to_owned()));
    }
    people::reset_password(&mut tx, &app, &reviewer.actor(), (id, user), &hash, now)
        .await
        .map_err(people::pages::page_error)?;
    Db::commit(tx).await?;
    app.signals.mail_queued();
    letter(&app, &reviewer, id, user, None, Some(&password)).await
}

/// Somebody else was faster.
const CARRIED_OUT: &str =
    "この作り直しは、すでに行われています。もう一度必要なときは、承認を申請してください。";

#[derive(Deserialize)]
struct ReasonForm {
    #[serde(default)]
    reason: String,
}

/// `POST /establishments/{id}/users/{user}/authenticator`: a lost telephone. For an added
/// user at once; for an admin a second person decides.
async fn remove_authenticator(
    reviewer: Reviewer,
    State(app): State<App>,
    Path((id, user)): Path<(String, String)>,
    Verified(form): Verified<ReasonForm>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let (id, user) = (id_of(&id)?, id_of(&user)?);
    let (_, known) = find_user(&app, id, user).await?;
    if known.role == Role::Admin {
        return propose(&app, &reviewer, Kind::SecondFactorReset, (id, user), &form).await;
    }
    let mut tx = app.db.begin().await?;
    people::reset_second_factor(&mut tx, &app, &reviewer.actor(), id, user, now)
        .await
        .map_err(people::pages::page_error)?;
    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(Redirect::to(&format!(
        "/establishments/{id}?done=authenticator"
    )))
}

/// `POST /establishments/{id}/users/{user}/free`: signing in was stopped, and staff have made
/// sure by telephone who asks.
async fn free(
    reviewer: Reviewer,
    State(app): State<App>,
    Path((id, user)): Path<(String, String)>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let (id, user) = (id_of(&id)?, id_of(&user)?);
    let (_, known) = find_user(&app, id, user).await?;
    let mut tx = app.db.begin().await?;
    let whom = (user, known.login.as_str());
    crate::sign_in::free(&mut tx, &app, &reviewer.actor(), whom, now).await?;
    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(Redirect::to(&format!("/establishments/{id}?done=freed")))
}

/// `POST /establishments/{id}/users/{user}/appoint`: the admin is gone already. A second
/// person decides.
async fn appoint(
    reviewer: Reviewer,
    State(app): State<App>,
    Path((id, user)): Path<(String, String)>,
    Verified(form): Verified<ReasonForm>,
) -> Result<Redirect, PageError> {
    let (id, user) = (id_of(&id)?, id_of(&user)?);
    let (_, known) = find_user(&app, id, user).await?;
    if known.role == Role::Admin {
        return Err(PageError::NotFound);
    }
    propose(&app, &reviewer, Kind::AdminAppointment, (id, user), &form).await
}

async fn propose(
    app: &App,
    reviewer: &Reviewer,
    kind: Kind,
    (id, user): (EstablishmentId, UserId),
    form: &ReasonForm,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let reason =
        Reason::new(&form.reason).ok_or_else(|| PageError::Refused(Reason::page_text()))?;
    let subject = approvals::member_subject(id, user);
    let mut tx = app.db.begin().await?;
    approvals::propose(&mut tx, app, kind, &subject, &reason, reviewer.staff(), now)
        .await
        .map_err(approvals::refused)?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/approvals?done=proposed"))
}

#[cfg(test)]
mod tests;
