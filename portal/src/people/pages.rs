//! The admin's pages 利用者 (FEATURES S003-39): who works for the establishment and on which
//! PCs; adding, changing and removing people; a lost telephone, password or PC.
//!
//! What cannot be taken back asks for the password once more, on a page of its own that says
//! what will happen. A registration code and an initial password are shown once.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use protocol::DeviceId;
use serde::Deserialize;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::news::{self, News};
use super::store::{self, Colleague};
use super::{PeopleError, changeable};
use crate::app::App;
use crate::db::{Db, Tx};
use crate::devices::store::{self as devices, Device};
use crate::devices::{self as pcs, DecideError};
use crate::establishments::{
    self, AddError, IssuedCode, LoginName, MailAddress, Name, NewUser, Role,
};
use crate::gateways;
use crate::ids::UserId;
use crate::passwords;
use crate::permissions::{Permission, Permissions};
use crate::sign_in::confirm_password;
use crate::web::forms::{FieldErrors, Typed, Verified};
use crate::web::layout::{Layout, MemberPage};
use crate::web::page_error::PageError;
use crate::web::principals::EstablishmentAdmin;
use crate::web::router::Routes;
use crate::web::{dates, page, page_with};

/// Why a PC is revoked that its establishment reports as lost; for the PC's row.
const LOST: &str = "事業所の管理者による登録解除";

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<EstablishmentAdmin, _, _>(Method::GET, "/users", list)
        .allow::<EstablishmentAdmin, _, _>(Method::GET, "/users/new", new)
        .allow::<EstablishmentAdmin, _, _>(Method::POST, "/users/new", add)
        .allow::<EstablishmentAdmin, _, _>(Method::GET, "/users/{id}", show)
        .allow::<EstablishmentAdmin, _, _>(Method::POST, "/users/{id}/name", rename)
        .allow::<EstablishmentAdmin, _, _>(Method::POST, "/users/{id}/permissions", permit)
        .allow::<EstablishmentAdmin, _, _>(Method::GET, "/users/{id}/{act}", ask)
        .allow::<EstablishmentAdmin, _, _>(Method::POST, "/users/{id}/{act}", act)
        .allow::<EstablishmentAdmin, _, _>(Method::GET, "/pcs/{id}/revoke", ask_revoke)
        .allow::<EstablishmentAdmin, _, _>(Method::POST, "/pcs/{id}/revoke", revoke)
}

#[derive(Template)]
#[template(path = "people.html")]
struct ListPage {
    layout: Layout,
    done: &'static str,
    people: Vec<PersonRow>,
    pcs: Vec<PcRow>,
    limit: i64,
    waiting: i64,
}

/// One line of the list of people.
struct PersonRow {
    id: String,
    name: String,
    login: String,
    role: &'static str,
    state: (&'static str, &'static str),
    second_factor: &'static str,
    devices: i64,
    signed_in: String,
    myself: bool,
}

/// One line of the list of PCs.
struct PcRow {
    id: String,
    name: String,
    os: String,
    user: String,
    seen: String,
    this_one: bool,
}

impl PersonRow {
    fn of(person: &Colleague, me: UserId) -> Self {
        Self {
            id: person.id.to_string(),
            name: person.name.clone(),
            login: person.login.clone(),
            role: person.role.page_text(),
            state: if person.is_new {
                ("neutral", "初回ログイン前")
            } else {
                ("success", "利用中")
            },
            second_factor: match (person.uses_authenticator, person.passkeys > 0) {
                (true, true) => "認証アプリ・パスキー",
                (true, false) => "認証アプリ",
                (false, true) => "メール・パスキー",
                (false, false) => "メール",
            },
            devices: person.devices,
            signed_in: ever(person.signed_in),
            myself: person.id == me,
        }
    }
}

impl PcRow {
    fn of(device: Device, here: DeviceId) -> Self {
        Self {
            id: device.id.to_string(),
            this_one: device.id == here,
            user: device.user_name,
            seen: ever(device.seen),
            os: device.os,
            name: device.name,
        }
    }
}

fn ever(at: Option<OffsetDateTime>) -> String {
    at.map_or_else(|| "まだありません".to_owned(), dates::moment)
}

/// What was just done, for the list's banner.
#[derive(Deserialize)]
struct Done {
    done: Option<String>,
}

impl Done {
    fn sentence(&self) -> &'static str {
        match self.done.as_deref() {
            Some("permissions") => "権限を変更しました。",
            Some("mail") => "メールアドレスを変更しました。",
            Some("name") => "氏名を変更しました。",
            Some("removed") => {
                "利用者の登録を解除しました。その利用者とパソコンは、もう接続できません。"
            }
            Some("promoted") => "管理者にしました。",
            Some("demoted") => "追加ユーザーにしました。",
            Some("authenticator") => {
                "認証アプリとパスキーを解除しました。次の接続から、メールでワンタイムパスワードを送ります。"
            }
            Some("establishment") => "事業所情報を変更しました。",
            Some("establishment-name") => {
                "事業所情報を変更しました。名称の変更は、基金事務局が確認したあとに反映されます。"
            }
            Some("handover") => "管理者を引き継ぎました。",
            Some("revoked") => "パソコンの登録を解除しました。そのパソコンは、もう接続できません。",
            Some(_) | None => "",
        }
    }
}

/// `GET /users`
async fn list(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Query(done): Query<Done>,
) -> Result<Html<String>, PageError> {
    let member = admin.member();
    let here = member.establishment();
    let people = store::list(&app.db, here).await?;
    let pcs = devices::of_establishment(&app.db, here).await?;
    let establishment = establishments::store::find(&app.db, here)
        .await?
        .ok_or(PageError::NotFound)?;
    page(&ListPage {
        layout: Layout::member(&app, member, MemberPage::People, app.clock.now()),
        done: done.sentence(),
        people: people
            .iter()
            .map(|person| PersonRow::of(person, member.user()))
            .collect(),
        pcs: pcs
            .into_iter()
            .filter(|pc| pc.revoked.is_none())
            .map(|pc| PcRow::of(pc, member.device()))
            .collect(),
        limit: establishment.device_limit,
        waiting: store::waiting_devices(&app.db, here).await?,
    })
}

#[derive(Deserialize, Default)]
struct NewForm {
    user_name: String,
    login: String,
    email: String,
    #[serde(default)]
    code: Option<String>,
}

#[derive(Template)]
#[template(path = "person_new.html")]
struct NewPage {
    layout: Layout,
    form: NewForm,
    errors: FieldErrors,
}

/// `GET /users/new`
async fn new(admin: EstablishmentAdmin, State(app): State<App>) -> Result<Html<String>, PageError> {
    page(&NewPage {
        layout: Layout::member(&app, admin.member(), MemberPage::People, app.clock.now()),
        form: NewForm::default(),
        errors: FieldErrors::default(),
    })
}

fn read_new(form: &NewForm, password_hash: &str, errors: &mut FieldErrors) -> Option<NewUser> {
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

/// `POST /users/new`
async fn add(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Verified(form): Verified<NewForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let (member, actor) = (admin.member(), admin.member().actor());
    let here = member.establishment();
    let mut errors = FieldErrors::default();
    let InitialPassword { password, hash } = InitialPassword::make().await?;
    let mut added = None;
    if let Some(new) = read_new(&form, &hash, &mut errors) {
        let mut tx = app.db.begin().await?;
        match establishments::add_user(&mut tx, &app.keys, &actor, here, &new, Role::Added, now)
            .await
        {
            Ok(user) => {
                let code = match form.code {
                    Some(_) => {
                        establishments::issue_code(&mut tx, &app.keys, &actor, here, user, now)
                            .await?
                    }
                    None => None,
                };
                news::tell(&mut tx, &app, here, News::UserAdded, now).await?;
                Db::commit(tx).await?;
                app.signals.mail_queued();
                added = Some((user, code));
            }
            Err(AddError::Store(error)) => return Err(error.into()),
            Err(error) => errors.add("login", error.page_text().unwrap_or_default()),
        }
    }
    let Some((user, code)) = added else {
        let page = NewPage {
            layout: Layout::member(&app, member, MemberPage::People, now),
            form,
            errors,
        };
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    };
    slip(&app, &admin, user, code.as_ref(), Some(&password)).await
}

/// What an admin hands to a colleague, shown once.
#[derive(Template)]
#[template(path = "person_slip.html")]
struct SlipPage {
    layout: Layout,
    today: String,
    person: Colleague,
    number: String,
    gateway: Option<String>,
    /// The registration code, and until when it is good.
    code: Option<(String, String)>,
    password: Option<String>,
}

async fn slip(
    app: &App,
    admin: &EstablishmentAdmin,
    user: UserId,
    code: Option<&IssuedCode>,
    password: Option<&str>,
) -> Result<Response, PageError> {
    let member = admin.member();
    let now = app.clock.now();
    let page = SlipPage {
        layout: Layout::member(app, member, MemberPage::People, now),
        today: dates::day(now),
        person: find(app, admin, user).await?,
        number: member.establishment_number().to_string(),
        gateway: gateways::store::urls(&app.db).await?.into_iter().next(),
        code: code.map(|code| (code.code.to_string(), dates::day(code.expires))),
        password: password.map(str::to_owned),
    };
    Ok(self::page(&page)?.into_response())
}

async fn find(app: &App, admin: &EstablishmentAdmin, user: UserId) -> Result<Colleague, PageError> {
    let mut tx = app.db.begin_snapshot().await?;
    let found = store::find(&mut tx, admin.member().establishment(), user).await?;
    found.ok_or(PageError::NotFound)
}

/// Reads an id out of the path; what is none is not found.
fn id_of<T: std::str::FromStr>(text: &str) -> Result<T, PageError> {
    text.parse().map_err(|_| PageError::NotFound)
}

#[derive(Template)]
#[template(path = "person.html")]
struct ShowPage {
    layout: Layout,
    person: Colleague,
    row: PersonRow,
    pcs: Vec<PcRow>,
    permissions: Vec<PermissionRow>,
    name: String,
    may_change: bool,
    errors: FieldErrors,
}

/// One permission on a person's page.
struct PermissionRow {
    word: &'static str,
    text: &'static str,
    given: bool,
}

async fn show_page(
    app: &App,
    admin: &EstablishmentAdmin,
    user: UserId,
    name: Option<String>,
    errors: FieldErrors,
) -> Result<ShowPage, PageError> {
    let member = admin.member();
    let person = find(app, admin, user).await?;
    let pcs = devices::of_establishment(&app.db, member.establishment()).await?;
    let myself = user == member.user();
    Ok(ShowPage {
        layout: Layout::member(app, member, MemberPage::People, app.clock.now()),
        row: PersonRow::of(&person, member.user()),
        pcs: pcs
            .into_iter()
            .filter(|pc| pc.revoked.is_none() && pc.user == user)
            .map(|pc| PcRow::of(pc, member.device()))
            .collect(),
        permissions: Permission::ALL
            .map(|permission| PermissionRow {
                word: permission.as_str(),
                text: permission.page_text(),
                given: person.permissions.allow(permission),
            })
            .into(),
        name: name.unwrap_or_else(|| person.name.clone()),
        may_change: myself || (person.role == Role::Added && !person.works_elsewhere),
        person,
        errors,
    })
}

/// `GET /users/{id}`
async fn show(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    let user = id_of(&id)?;
    page(&show_page(&app, &admin, user, None, FieldErrors::default()).await?)
}

#[derive(Deserialize)]
struct NameForm {
    user_name: String,
}

/// `POST /users/{id}/name`
async fn rename(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<NameForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let (member, user) = (admin.member(), id_of(&id)?);
    let name = match Name::new(&form.user_name) {
        Ok(name) => name,
        Err(error) => {
            let errors = FieldErrors::of_one("user_name", error.page_text());
            let page = show_page(&app, &admin, user, Some(form.user_name), errors).await?;
            return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
        }
    };
    let (actor, here) = (member.actor(), member.establishment());
    let mut tx = app.db.begin().await?;
    super::rename(
        &mut tx,
        &app,
        &actor,
        here,
        (user, member.user()),
        &name,
        now,
    )
    .await
    .map_err(page_error)?;
    Db::commit(tx).await?;
    Ok(Redirect::to("/users?done=name").into_response())
}

/// The boxes that were ticked: a browser sends nothing for the others.
#[derive(Deserialize)]
struct PermissionsForm {
    file: Option<String>,
    fetch: Option<String>,
    history: Option<String>,
}

/// `POST /users/{id}/permissions`
async fn permit(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<PermissionsForm>,
) -> Result<Redirect, PageError> {
    let now = app.clock.now();
    let (member, user) = (admin.member(), id_of(&id)?);
    let ticked = |permission: &Permission| match permission {
        Permission::File => form.file.is_some(),
        Permission::Fetch => form.fetch.is_some(),
        Permission::History => form.history.is_some(),
    };
    let given: Permissions = Permission::ALL.into_iter().filter(ticked).collect();
    let (actor, of) = (member.actor(), (member.establishment(), user));
    let mut tx = app.db.begin().await?;
    super::set_permissions(&mut tx, &app, &actor, of, given, now)
        .await
        .map_err(page_error)?;
    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(Redirect::to("/users?done=permissions"))
}

/// What an admin does with somebody, each on a page that asks for the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UserAct {
    Remove,
    Promote,
    Demote,
    ResetAuthenticator,
    ResetPassword,
    IssueCode,
}

impl UserAct {
    /// Reads the last part of the path.
    fn from_path(word: &str) -> Result<Self, PageError> {
        Ok(match word {
            "remove" => Self::Remove,
            "promote" => Self::Promote,
            "demote" => Self::Demote,
            "authenticator" => Self::ResetAuthenticator,
            "password" => Self::ResetPassword,
            "code" => Self::IssueCode,
            _ => return Err(PageError::NotFound),
        })
    }

    fn title(self) -> &'static str {
        match self {
            Self::Remove => "利用者の登録を解除する",
            Self::Promote => "管理者にする",
            Self::Demote => "追加ユーザーにする",
            Self::ResetAuthenticator => "認証アプリとパスキーを解除する",
            Self::ResetPassword => "パスワードを作り直す",
            Self::IssueCode => "パソコンの登録コードを発行する",
        }
    }

    /// What will happen.
    fn sentences(self) -> &'static [&'static str] {
        match self {
            Self::Remove => &[
                "この利用者は、すぐにログアウトされ、この事業所の画面をもう使えません。",
                "この利用者のパソコンは登録を解除され、接続中であれば切断されます。未使用の登録コードも使えなくなります。",
                "これまでに提出した届書や履歴は、そのまま残ります。",
            ],
            Self::Promote => &[
                "管理者は、利用者とパソコンの管理、届書の提出、通知書の受取りなど、すべてのことができます。",
                "管理者は2名以上でもかまいません。",
            ],
            Self::Demote => &[
                "追加ユーザーになると、利用者とパソコンの管理はできなくなります。",
                "事業所には、管理者が1名以上必要です。",
            ],
            Self::ResetAuthenticator => &[
                "スマートフォンをなくしたときなどに、認証アプリとパスキーを解除します。",
                "ログイン中の画面は終了し、次の接続からは、メールで届くワンタイムパスワードでログインします。",
            ],
            Self::ResetPassword => &[
                "ログイン中の画面は終了し、いまのパスワードは使えなくなります。",
                "新しい初期パスワードを一度だけ表示します。ご本人に直接お渡しください。最初のログインのときに、ご自身のパスワードに変えていただきます。",
            ],
            Self::IssueCode => &[
                "この利用者のパソコンを登録するためのコードを、一度だけ表示します。",
                "パソコンの画面に照合番号が表示されたら、基金事務局へお電話ください。基金が承認すると、接続できるようになります。",
            ],
        }
    }

    fn is_dangerous(self) -> bool {
        match self {
            Self::Remove | Self::Demote | Self::ResetAuthenticator | Self::ResetPassword => true,
            Self::Promote | Self::IssueCode => false,
        }
    }
}

/// A page that says what will happen and asks for the password.
#[derive(Template)]
#[template(path = "person_act.html")]
struct AskPage {
    layout: Layout,
    back: String,
    title: &'static str,
    about: Vec<(&'static str, String)>,
    sentences: Vec<String>,
    dangerous: bool,
    errors: FieldErrors,
}

fn ask_page(
    app: &App,
    admin: &EstablishmentAdmin,
    act: UserAct,
    person: &Colleague,
    errors: FieldErrors,
) -> AskPage {
    AskPage {
        layout: Layout::member(app, admin.member(), MemberPage::People, app.clock.now()),
        back: format!("/users/{}", person.id),
        title: act.title(),
        about: vec![
            ("利用者", person.name.clone()),
            ("ユーザーID", person.login.clone()),
        ],
        sentences: act
            .sentences()
            .iter()
            .map(|text| (*text).to_owned())
            .collect(),
        dangerous: act.is_dangerous(),
        errors,
    }
}

/// `GET /users/{id}/{act}`
async fn ask(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Path((id, act)): Path<(String, String)>,
) -> Result<Html<String>, PageError> {
    let act = UserAct::from_path(&act)?;
    let person = find(&app, &admin, id_of(&id)?).await?;
    page(&ask_page(
        &app,
        &admin,
        act,
        &person,
        FieldErrors::default(),
    ))
}

#[derive(Deserialize)]
struct PasswordForm {
    password: Typed,
}

/// `POST /users/{id}/{act}`
async fn act(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Path((id, act)): Path<(String, String)>,
    Verified(form): Verified<PasswordForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let act = UserAct::from_path(&act)?;
    let person = find(&app, &admin, id_of(&id)?).await?;
    let confirmed = confirm_password(&app, admin.member(), &form.password, now).await?;
    let refused = match confirmed.page_text() {
        Some(sentence) => FieldErrors::of_one("password", sentence),
        None => {
            // Hashing is slow on purpose: before the database is locked, not after.
            let secret = match act {
                UserAct::ResetPassword => Some(InitialPassword::make().await?),
                _ => None,
            };
            let mut tx = app.db.begin().await?;
            match carry_out(&mut tx, &app, &admin, (act, secret), &person, now).await {
                Ok(answer) => {
                    Db::commit(tx).await?;
                    app.signals.sessions_changed();
                    app.signals.mail_queued();
                    return answer.into_response(&app, &admin, person.id).await;
                }
                Err(error) => match error.page_text() {
                    Some(sentence) => FieldErrors::of_one("", sentence),
                    None => return Err(page_error(error)),
                },
            }
        }
    };
    let page = ask_page(&app, &admin, act, &person, refused);
    Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response())
}

/// A password for a slip of paper, with its hash.
struct InitialPassword {
    password: Zeroizing<String>,
    hash: String,
}

impl InitialPassword {
    async fn make() -> Result<Self, PageError> {
        let password = passwords::initial();
        let hash = passwords::hash(&password)
            .await
            .map_err(PageError::doing("hash a password"))?;
        Ok(Self { password, hash })
    }
}

/// What an act is answered with.
enum Carried {
    Done(&'static str),
    Code(Option<IssuedCode>),
    Password(Zeroizing<String>),
}

impl Carried {
    async fn into_response(
        self,
        app: &App,
        admin: &EstablishmentAdmin,
        user: UserId,
    ) -> Result<Response, PageError> {
        match self {
            Self::Done(word) => Ok(Redirect::to(&format!("/users?done={word}")).into_response()),
            Self::Code(code) => slip(app, admin, user, code.as_ref(), None).await,
            Self::Password(password) => slip(app, admin, user, None, Some(&password)).await,
        }
    }
}

async fn carry_out(
    tx: &mut Tx,
    app: &App,
    admin: &EstablishmentAdmin,
    (act, secret): (UserAct, Option<InitialPassword>),
    person: &Colleague,
    now: OffsetDateTime,
) -> Result<Carried, PeopleError> {
    let member = admin.member();
    let (here, actor, user) = (member.establishment(), member.actor(), person.id);
    match (act, secret) {
        (UserAct::ResetPassword, Some(InitialPassword { password, hash })) => {
            changeable(tx, here, user, member.user()).await?;
            super::reset_password(tx, app, &actor, (here, user), &hash, now).await?;
            Ok(Carried::Password(password))
        }
        (UserAct::ResetPassword, None) => Err(PeopleError::NoMember),
        (UserAct::Remove, _) => {
            super::remove(tx, app, &actor, here, user, now).await?;
            Ok(Carried::Done("removed"))
        }
        (UserAct::Promote, _) => {
            super::change_role(tx, app, &actor, here, user, Role::Admin, now).await?;
            Ok(Carried::Done("promoted"))
        }
        (UserAct::Demote, _) => {
            super::change_role(tx, app, &actor, here, user, Role::Added, now).await?;
            Ok(Carried::Done("demoted"))
        }
        (UserAct::ResetAuthenticator, _) => {
            changeable(tx, here, user, member.user()).await?;
            super::reset_second_factor(tx, app, &actor, here, user, now).await?;
            Ok(Carried::Done("authenticator"))
        }
        (UserAct::IssueCode, _) => {
            let code = establishments::issue_code(tx, &app.keys, &actor, here, user, now).await?;
            news::tell(tx, app, here, News::CodeIssued, now).await?;
            Ok(Carried::Code(code))
        }
    }
}

async fn revoke_page(
    app: &App,
    admin: &EstablishmentAdmin,
    device: DeviceId,
    errors: FieldErrors,
) -> Result<AskPage, PageError> {
    let member = admin.member();
    let pcs = devices::of_establishment(&app.db, member.establishment()).await?;
    let pc = pcs
        .into_iter()
        .find(|pc| pc.id == device && pc.revoked.is_none())
        .ok_or(PageError::NotFound)?;
    let mut sentences = vec![
        "パソコンをなくしたとき、入れ替えるときに解除します。".to_owned(),
        "接続中であればすぐに切断され、このパソコンはもう接続できません。元には戻せません。"
            .to_owned(),
    ];
    if device == member.device() {
        sentences.push(
            "これは、いまお使いのパソコンです。解除すると、この画面も終了します。".to_owned(),
        );
    }
    Ok(AskPage {
        layout: Layout::member(app, member, MemberPage::People, app.clock.now()),
        back: "/users".to_owned(),
        title: "パソコンの登録を解除する",
        about: vec![("パソコン", pc.name), ("利用者", pc.user_name)],
        sentences,
        dangerous: true,
        errors,
    })
}

/// `GET /pcs/{id}/revoke`
async fn ask_revoke(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Html<String>, PageError> {
    page(&revoke_page(&app, &admin, id_of(&id)?, FieldErrors::default()).await?)
}

/// `POST /pcs/{id}/revoke`
async fn revoke(
    admin: EstablishmentAdmin,
    State(app): State<App>,
    Path(id): Path<String>,
    Verified(form): Verified<PasswordForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let (member, device) = (admin.member(), id_of(&id)?);
    let here = member.establishment();
    let confirmed = confirm_password(&app, member, &form.password, now).await?;
    if let Some(sentence) = confirmed.page_text() {
        let errors = FieldErrors::of_one("password", sentence);
        let page = revoke_page(&app, &admin, device, errors).await?;
        return Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page)?.into_response());
    }
    let mut tx = app.db.begin().await?;
    if !store::has_device(&mut tx, here, device).await? {
        return Err(PageError::NotFound);
    }
    pcs::revoke(&mut tx, &app.keys, &member.actor(), device, LOST, now)
        .await
        .map_err(|error| match error {
            // Somebody else was faster.
            DecideError::NotRegistered(_) => PageError::NotFound,
            error => PageError::doing("revoke a PC")(error),
        })?;
    news::tell(&mut tx, &app, here, News::DeviceRevoked, now).await?;
    Db::commit(tx).await?;
    app.signals.sessions_changed();
    app.signals.mail_queued();
    Ok(Redirect::to("/users?done=revoked").into_response())
}

/// What the admin is told, or that the fault is ours.
pub(crate) fn page_error(error: PeopleError) -> PageError {
    match (error.page_text(), error) {
        (Some(sentence), _) => PageError::Refused(sentence.to_owned()),
        (None, PeopleError::NoMember) => PageError::NotFound,
        (None, PeopleError::Store(error)) => PageError::Store(error),
        (None, error) => PageError::doing("change an establishment's people")(error),
    }
}
