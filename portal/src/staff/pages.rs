//! 職員: the system administrator's pages for staff accounts, and the page where staff set
//! their own password at the first sign-in.
//!
//! A new account's initial password is shown once, its authenticator's picture until the
//! first sign-in; both are handed over in person. The account can do nothing before its
//! owner has set a password that nobody else knows.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode, header};
use serde::Deserialize;
use time::OffsetDateTime;

use super::accounts::{self, ChangeError};
use super::store::{self, Line};
use super::{AddError, NewStaff, StaffRole};
use crate::app::App;
use crate::approvals::{self, Kind, Reason, resets};
use crate::audit::{self, Act};
use crate::authenticator::Authenticator;
use crate::db::{Db, Tx};
use crate::establishments::{LoginName, Name};
use crate::ids::StaffId;
use crate::passwords;
use crate::step_up::Fresh;
use crate::web::forms::{FieldErrors, Typed, Verified};
use crate::web::layout::{Layout, OfficePage};
use crate::web::page_error::{FIRST_PASSWORD_PATH, PageError};
use crate::web::principals::{Staff, StaffNewcomer, SystemAdministrator};
use crate::web::router::Routes;
use crate::web::{dates, page_with};

/// Pages of the office listener.
pub fn office_routes(routes: Routes) -> Routes {
    routes
        .allow::<StaffNewcomer, _, _>(Method::GET, FIRST_PASSWORD_PATH, first_password)
        .allow::<StaffNewcomer, _, _>(Method::POST, FIRST_PASSWORD_PATH, set_first_password)
        .allow::<SystemAdministrator, _, _>(Method::GET, "/staff", list)
        .allow::<Fresh<SystemAdministrator>, _, _>(Method::GET, "/staff/new", new)
        .allow::<Fresh<SystemAdministrator>, _, _>(Method::POST, "/staff/new", add)
        .allow::<Fresh<SystemAdministrator>, _, _>(
            Method::GET,
            "/staff/{id}/authenticator.png",
            picture,
        )
        .allow::<Fresh<SystemAdministrator>, _, _>(Method::POST, "/staff/{id}/role", change_role)
        .allow::<Fresh<SystemAdministrator>, _, _>(Method::POST, "/staff/{id}/disable", disable)
        .allow::<Fresh<SystemAdministrator>, _, _>(
            Method::POST,
            "/staff/{id}/propose",
            propose_again,
        )
        .allow::<Fresh<SystemAdministrator>, _, _>(Method::POST, "/staff/{id}/reset", propose_reset)
        .allow::<Fresh<SystemAdministrator>, _, _>(Method::POST, "/staff/{id}/issue", issue)
}

#[derive(Template)]
#[template(path = "staff_list.html")]
struct ListPage {
    layout: Layout,
    rows: Vec<Row>,
    done: &'static str,
}

struct Row {
    id: StaffId,
    user_id: String,
    name: String,
    role: &'static str,
    added: String,
    disabled: Option<String>,
    waits: bool,
    /// Whether a second person has still to approve it.
    awaits_second: bool,
    own: bool,
    /// Whether a reset was approved and waits to be carried out.
    reset_allowed: bool,
    choices: Vec<RoleChoice>,
}

struct RoleChoice {
    word: &'static str,
    label: &'static str,
    chosen: bool,
}

fn choices(chosen: Option<StaffRole>) -> Vec<RoleChoice> {
    StaffRole::ALL
        .into_iter()
        .map(|role| RoleChoice {
            word: role.as_str(),
            label: role.page_text(),
            chosen: chosen == Some(role),
        })
        .collect()
}

#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

/// `GET /staff`
async fn list(
    admin: SystemAdministrator,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let mut allowed = Vec::new();
    let lines = store::list(&app.db).await?;
    for line in &lines {
        let subject = line.id.to_string();
        allowed.push(resets::is_allowed(&app.db, Kind::StaffReset, &subject, now).await?);
    }
    let row = |(line, reset_allowed): (Line, bool)| Row {
        reset_allowed,
        own: line.id == admin.id(),
        choices: choices(Some(line.role)),
        id: line.id,
        user_id: line.user_id,
        name: line.name,
        role: line.role.page_text(),
        added: dates::day(line.added),
        disabled: line.disabled.map(dates::day),
        waits: line.waits_for_first_sign_in,
        awaits_second: line.awaits_second,
    };
    let page = ListPage {
        layout: Layout::office(&app, &admin, OfficePage::Staff),
        rows: lines.into_iter().zip(allowed).map(row).collect(),
        done: match done.done.as_deref() {
            Some("role") => "役割を変更しました。",
            Some("disabled") => "利用を停止しました。",
            Some(_) | None => "",
        },
    };
    Ok(page_with(StatusCode::OK, &page)?.into_response())
}

#[derive(Template)]
#[template(path = "staff_new.html")]
struct NewPage {
    layout: Layout,
    form: NewForm,
    choices: Vec<RoleChoice>,
    errors: FieldErrors,
}

#[derive(Deserialize, Default)]
struct NewForm {
    user_id: String,
    name: String,
    role: String,
}

fn new_page(app: &App, admin: &SystemAdministrator, form: NewForm, errors: FieldErrors) -> NewPage {
    NewPage {
        layout: Layout::office(app, admin, OfficePage::Staff),
        choices: choices(StaffRole::from_word(&form.role)),
        form,
        errors,
    }
}

/// `GET /staff/new`
async fn new(
    admin: Fresh<SystemAdministrator>,
    State(app): State<App>,
) -> Result<Response, PageError> {
    let page = new_page(&app, &admin, NewForm::default(), FieldErrors::default());
    Ok(page_with(StatusCode::OK, &page)?.into_response())
}

#[derive(Template)]
#[template(path = "staff_made.html")]
struct MadePage {
    layout: Layout,
    title: &'static str,
    awaits_second: bool,
    name: String,
    user_id: String,
    role: &'static str,
    password: String,
    picture: String,
    secret: String,
}

/// `POST /staff/new`
async fn add(
    admin: Fresh<SystemAdministrator>,
    State(app): State<App>,
    Verified(form): Verified<NewForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let mut errors = FieldErrors::default();
    let login = LoginName::new(&form.user_id)
        .map_err(|error| errors.add("user_id", error.page_text()))
        .ok();
    let name = Name::new(&form.name)
        .map_err(|error| errors.add("name", error.page_text()))
        .ok();
    let role = StaffRole::from_word(&form.role);
    if role.is_none() {
        errors.add("role", "役割を選んでください。");
    }
    let (Some(login), Some(name), Some(role)) = (login, name, role) else {
        let page = new_page(&app, &admin, form, errors);
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    };
    let password = passwords::initial();
    let new = NewStaff {
        login,
        name,
        role,
        password_hash: passwords::hash(&password)
            .await
            .map_err(PageError::doing("hash a password"))?,
    };
    let authenticator = Authenticator::generate();
    let mut tx = app.db.begin().await?;
    let added = super::add(
        &mut tx,
        &app.keys,
        &admin.actor(),
        &new,
        &authenticator,
        now,
    )
    .await;
    let id = match added {
        Ok(id) => id,
        Err(AddError::Store(error)) => return Err(error.into()),
        Err(AddError::LoginTaken) => {
            drop(tx);
            errors.add(
                "user_id",
                "このユーザーIDはすでに使われています。別のユーザーIDを入力してください。",
            );
            let page = new_page(&app, &admin, form, errors);
            return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
        }
    };
    store::make_password_initial(&mut tx, id, now).await?;
    store::await_second(&mut tx, id, now).await?;
    propose_addition(&mut tx, &app, id, &admin, now).await?;
    Db::commit(tx).await?;
    let page = MadePage {
        layout: Layout::office(&app, &admin, OfficePage::Staff),
        title: "職員を追加しました",
        awaits_second: true,
        name: new.name.as_str().to_owned(),
        user_id: new.login.as_str().to_owned(),
        role: role.page_text(),
        password: password.to_string(),
        picture: format!("/staff/{id}/authenticator.png"),
        secret: authenticator.to_base32(),
    };
    Ok(page_with(StatusCode::OK, &page)?.into_response())
}

/// Asks a second person to give somebody who was added a vote.
async fn propose_addition(
    tx: &mut Tx,
    app: &App,
    id: StaffId,
    admin: &Staff,
    now: OffsetDateTime,
) -> Result<(), PageError> {
    let reason = Reason::new("職員の追加").ok_or(PageError::NotFound)?;
    let (kind, subject) = (Kind::StaffAddition, id.to_string());
    approvals::propose(tx, app, kind, &subject, &reason, admin, now)
        .await
        .map(drop)
        .map_err(approvals::refused)
}

/// `POST /staff/{id}/propose`: the proposal of the addition was refused, or nobody decided in time.
async fn propose_again(
    admin: Fresh<SystemAdministrator>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id: StaffId = id.parse().map_err(|_| PageError::NotFound)?;
    let mut tx = app.db.begin().await?;
    if !store::is_in_use(&mut tx, id).await? || store::has_vote(&mut tx, id).await? {
        return Err(PageError::NotFound);
    }
    propose_addition(&mut tx, &app, id, &admin, now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/approvals?done=proposed"))
}

/// `GET /staff/{id}/authenticator.png`: until the account's first sign-in.
async fn picture(
    _: Fresh<SystemAdministrator>,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let id: StaffId = id.parse().map_err(|_| PageError::NotFound)?;
    let (login, sealed) = store::unused_authenticator(&app.db, id)
        .await?
        .ok_or(PageError::NotFound)?;
    let authenticator = Authenticator::open(&app.keys, &id.to_string(), &sealed)
        .map_err(PageError::doing("open an authenticator's secret"))?;
    let picture = authenticator
        .picture(&app.config.fund_name, &login)
        .map_err(PageError::doing("draw an authenticator's picture"))?;
    Ok(([(header::CONTENT_TYPE, "image/png")], picture).into_response())
}

#[derive(Deserialize)]
struct RoleForm {
    role: String,
}

/// `POST /staff/{id}/role`
async fn change_role(
    admin: Fresh<SystemAdministrator>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<RoleForm>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let role = StaffRole::from_word(&form.role).ok_or(PageError::NotFound)?;
    let mut tx = app.db.begin().await?;
    accounts::change_role(&mut tx, &app.keys, (id, admin.id()), role, now)
        .await
        .map_err(refused)?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/staff?done=role"))
}

#[derive(Deserialize)]
struct Nothing {}

/// `POST /staff/{id}/disable`
async fn disable(
    admin: Fresh<SystemAdministrator>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let mut tx = app.db.begin().await?;
    accounts::disable(&mut tx, &app.keys, (id, admin.id()), now)
        .await
        .map_err(refused)?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/staff?done=disabled"))
}

#[derive(Deserialize)]
struct ReasonForm {
    #[serde(default)]
    reason: String,
}

/// `POST /staff/{id}/reset`: a forgotten password, a lost telephone. A second person decides.
async fn propose_reset(
    admin: Fresh<SystemAdministrator>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<ReasonForm>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let id: StaffId = id.parse().map_err(|_| PageError::NotFound)?;
    let reason =
        Reason::new(&form.reason).ok_or_else(|| PageError::Refused(Reason::page_text()))?;
    let mut tx = app.db.begin().await?;
    accounts::check_resettable(&mut tx, id, admin.id())
        .await
        .map_err(refused)?;
    let (kind, subject) = (Kind::StaffReset, id.to_string());
    approvals::propose(&mut tx, &app, kind, &subject, &reason, &admin, now)
        .await
        .map_err(approvals::refused)?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/approvals?done=proposed"))
}

/// `POST /staff/{id}/issue`: carries out an approved reset; what is shown is handed over in
/// person.
async fn issue(
    admin: Fresh<SystemAdministrator>,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(Nothing {}): Verified<Nothing>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let id: StaffId = id.parse().map_err(|_| PageError::NotFound)?;
    let lines = store::list(&app.db).await?;
    let line = lines.into_iter().find(|line| line.id == id);
    let line = line.ok_or(PageError::NotFound)?;
    let password = passwords::initial();
    let hash = passwords::hash(&password)
        .await
        .map_err(PageError::doing("hash a password"))?;
    let authenticator = Authenticator::generate();
    let mut tx = app.db.begin().await?;
    accounts::reset(
        &mut tx,
        &app.keys,
        (id, admin.id()),
        &hash,
        &authenticator,
        now,
    )
    .await
    .map_err(refused)?;
    Db::commit(tx).await?;
    let page = MadePage {
        layout: Layout::office(&app, &admin, OfficePage::Staff),
        title: "ログインを再発行しました",
        awaits_second: false,
        name: line.name,
        user_id: line.user_id,
        role: line.role.page_text(),
        password: password.to_string(),
        picture: format!("/staff/{id}/authenticator.png"),
        secret: authenticator.to_base32(),
    };
    Ok(page_with(StatusCode::OK, &page)?.into_response())
}

fn refused(error: ChangeError) -> PageError {
    match (error.page_text(), error) {
        (Some(sentence), _) => PageError::Refused(sentence),
        (None, ChangeError::Store(error)) => error.into(),
        (None, _) => PageError::NotFound,
    }
}

#[derive(Template)]
#[template(path = "staff_first_password.html")]
struct FirstPasswordPage {
    layout: Layout,
    user_id: String,
    errors: FieldErrors,
}

fn first_page(app: &App, newcomer: &StaffNewcomer, errors: FieldErrors) -> FirstPasswordPage {
    let staff = newcomer.staff();
    FirstPasswordPage {
        layout: Layout {
            menu: Vec::new(),
            ..Layout::office(app, staff, OfficePage::Staff)
        },
        user_id: staff.user_id().to_owned(),
        errors,
    }
}

/// `GET /first-password`
async fn first_password(
    newcomer: StaffNewcomer,
    State(app): State<App>,
) -> Result<Response, PageError> {
    let page = first_page(&app, &newcomer, FieldErrors::default());
    Ok(page_with(StatusCode::OK, &page)?.into_response())
}

#[derive(Deserialize)]
struct FirstPasswordForm {
    new_password: Typed,
    new_password_again: Typed,
}

/// `POST /first-password`
async fn set_first_password(
    newcomer: StaffNewcomer,
    State(app): State<App>,
    Verified(form): Verified<FirstPasswordForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let staff = newcomer.staff();
    let mut errors = FieldErrors::default();
    let close = [staff.user_id(), staff.name(), app.config.fund_name.as_str()];
    if let Err(weak) = passwords::check_new(&form.new_password, &close) {
        errors.add("new_password", weak.page_text());
    } else if *form.new_password != *form.new_password_again {
        errors.add(
            "new_password_again",
            "2回の入力が一致していません。もう一度入力してください。",
        );
    } else {
        let account = store::find_account(&app.db, staff.user_id()).await?;
        let hash = account.ok_or(PageError::SignInRequired)?.password_hash;
        let same = passwords::verify(&form.new_password, Some(&hash))
            .await
            .map_err(PageError::doing("compare passwords"))?;
        if same {
            errors.add(
                "new_password",
                "お渡ししたパスワードと同じものは使えません。別のパスワードにしてください。",
            );
        }
    }
    if !errors.is_empty() {
        let page = first_page(&app, &newcomer, errors);
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    }
    let hash = passwords::hash(&form.new_password)
        .await
        .map_err(PageError::doing("hash a password"))?;
    let mut tx = app.db.begin().await?;
    if !store::set_first_password(&mut tx, staff.id(), &hash).await? {
        return Err(PageError::NotFound);
    }
    let act = Act::StaffPasswordSet(staff.id());
    audit::record(&mut tx, &app.keys, &staff.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/").into_response())
}

#[cfg(test)]
mod tests;
