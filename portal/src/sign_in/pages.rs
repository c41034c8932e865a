//! The members' sign-in page: user ID, password and code, inside the tunnel.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use time::OffsetDateTime;

use super::store::{self, Account, SecondFactor};
use super::{Attempt, Counted};
use crate::announcements::pages as announcements;
use crate::app::App;
use crate::audit::{self, Act};
use crate::authenticator::Authenticator;
use crate::db::{Db, StoreError, Tx};
use crate::ids::UserId;
use crate::mail::outbox::MailState;
use crate::one_time_codes::{self, Binding, LatestCode, Redeemed, ResendRefused};
use crate::passkeys;
use crate::passwords;
use crate::settings::recovery::{self, RecoveryCode};
use crate::web::forms::{FieldErrors, Typed, Verified};
use crate::web::layout::{Layout, Side};
use crate::web::page_error::{FIRST_PASSWORD_PATH, PageError};
use crate::web::principals::{AnyMember, Visitor};
use crate::web::router::Routes;
use crate::web::{dates, no_session_cookie, page, page_with, session_cookie, sessions};

/// Pages of the member listener.
pub fn member_routes(routes: Routes) -> Routes {
    routes
        .allow::<Visitor, _, _>(Method::GET, "/sign-in", show)
        .allow::<Visitor, _, _>(Method::POST, "/sign-in", sign_in)
        .allow::<Visitor, _, _>(Method::GET, "/sign-in/code", code_line)
        .allow::<AnyMember, _, _>(Method::POST, "/sign-out", sign_out)
        .allow::<Visitor, _, _>(Method::GET, "/signed-out", signed_out)
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    layout: Layout,
    user_id: String,
    errors: FieldErrors,
    /// Title, sentence and kind of a banner.
    banner: Option<Banner>,
    /// Where the code's mail stands.
    code: CodeLine,
    /// Whether somebody of the establishment signs in with a passkey.
    passkeys: bool,
    /// What the office tells everybody.
    announcements: Vec<announcements::Shown>,
}

/// The part of the page that says where the code's mail stands; the page's script fetches
/// it anew while the mail is on its way.
#[derive(Template)]
#[template(path = "sign_in_code.html")]
struct CodePart {
    code: CodeLine,
}

struct Banner {
    kind: &'static str,
    title: &'static str,
    text: String,
}

/// What the page says about the code, and whether it can be sent (again).
struct CodeLine {
    kind: &'static str,
    title: String,
    text: String,
    by_mail: bool,
    /// Whether the mail is still on its way, so that this line will change.
    under_way: bool,
}

/// What the person sent. The button says whether to sign in or to send a code.
#[derive(Deserialize)]
struct SignInForm {
    user_id: String,
    password: Typed,
    #[serde(default)]
    code: String,
    action: Action,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Action {
    SignIn,
    SendCode,
}

impl CodeLine {
    async fn of(app: &App, visitor: &Visitor, now: OffsetDateTime) -> Result<Self, StoreError> {
        match one_time_codes::latest(&app.db, visitor.session(), now).await? {
            Some(latest) => Ok(Self::of_mail(&latest, now)),
            None if store::uses_mail(&app.db, visitor.device_user()).await? => Ok(Self {
                kind: "info",
                title: "ワンタイムパスワードをメールで送ります".to_owned(),
                text: "ユーザーIDとパスワードを入力し、「ワンタイムパスワードを送る」を押してください。".to_owned(),
                by_mail: true,
                under_way: false,
            }),
            None => Ok(Self {
                kind: "info",
                title: "認証アプリの6桁の数字を入力してください".to_owned(),
                text: "認証アプリを使っていない方は、ユーザーIDとパスワードを入力し、「ワンタイムパスワードを送る」を押してください。".to_owned(),
                by_mail: false,
                under_way: false,
            }),
        }
    }

    /// Says truthfully where the mail stands.
    fn of_mail(latest: &LatestCode, now: OffsetDateTime) -> Self {
        let to = &latest.to;
        let until = dates::clock(latest.expires);
        let line = |kind, title: &str, text: String| Self {
            kind,
            title: title.to_owned(),
            text,
            by_mail: true,
            under_way: matches!(latest.mail, MailState::Waiting | MailState::Retrying { .. }),
        };
        match latest.mail {
            MailState::Sent { .. } => line(
                "success",
                "ワンタイムパスワードを送りました",
                format!(
                    "{to} に届いた6桁の数字を、{until}までに入力してください。届かないときは、迷惑メールのフォルダーもご確認ください。"
                ),
            ),
            MailState::Waiting => line(
                "info",
                "ワンタイムパスワードを送っています",
                format!("{to} に、まもなく6桁の数字が届きます。{until}まで使えます。"),
            ),
            MailState::Retrying { next } => line(
                "warning",
                "メールの送信に時間がかかっています",
                format!(
                    "メールサーバーにつながらないため、{to} への送信を自動でやり直しています（次は約{}秒後）。このままお待ちください。数字は{until}まで使えます。",
                    (next - now).whole_seconds().max(1)
                ),
            ),
            MailState::GivenUp => line(
                "error",
                "ワンタイムパスワードを送れませんでした",
                format!(
                    "{to} に送れませんでした。「ワンタイムパスワードを送る」でもう一度お試しください。続くときは、基金事務局へご連絡ください。"
                ),
            ),
        }
    }
}

/// `GET /sign-in`
async fn show(visitor: Visitor, State(app): State<App>) -> Result<Response, PageError> {
    let now = app.clock.now();
    answer(&app, &visitor, "", FieldErrors::default(), None, now).await
}

/// `GET /sign-in/code`
async fn code_line(visitor: Visitor, State(app): State<App>) -> Result<Response, PageError> {
    let code = CodeLine::of(&app, &visitor, app.clock.now()).await?;
    Ok(page(&CodePart { code })?.into_response())
}

/// The page for somebody whose web session has ended.
pub async fn show_again(app: &App, visitor: &Visitor) -> Result<Response, PageError> {
    let now = app.clock.now();
    let page = SignInPage {
        layout: Layout::visitor(app, visitor, now),
        user_id: String::new(),
        errors: FieldErrors::default(),
        banner: Some(Banner {
            kind: "info",
            title: "ログインしてください",
            text: "この画面を使うには、ログインが必要です。".to_owned(),
        }),
        code: CodeLine::of(app, visitor, now).await?,
        passkeys: offers_passkeys(app, visitor).await?,
        announcements: announcements::for_everybody(app, now).await?,
    };
    Ok(page_with(StatusCode::UNAUTHORIZED, &page)?.into_response())
}

/// Who has no passkey is not shown a way that leads nowhere.
async fn offers_passkeys(app: &App, visitor: &Visitor) -> Result<bool, StoreError> {
    if !passkeys::are_offered(app, Side::Member) {
        return Ok(false);
    }
    passkeys::store::anybody_has(&app.db, visitor.establishment()).await
}

/// The page after a passkey that does not count.
pub(crate) async fn refuse_passkey(
    app: &App,
    visitor: &Visitor,
    sentence: &str,
    now: OffsetDateTime,
) -> Result<Response, PageError> {
    let errors = FieldErrors::of_one("", sentence);
    answer(app, visitor, "", errors, None, now).await
}

/// `POST /sign-in`
async fn sign_in(
    visitor: Visitor,
    State(app): State<App>,
    Verified(form): Verified<SignInForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let user_id = super::typed_user_id(&form.user_id);
    let mut errors = FieldErrors::default();
    if user_id.is_empty() {
        errors.add("user_id", "ユーザーIDを入力してください。");
    }
    if form.password.is_empty() {
        errors.add("password", "パスワードを入力してください。");
    }
    let is_code = one_time_codes::digits(&form.code).len() == 6;
    if form.action == Action::SignIn && !is_code && RecoveryCode::read(&form.code).is_none() {
        errors.add(
            "code",
            "ワンタイムパスワードは6桁の数字を入力してください。",
        );
    }
    if super::too_long([&form.user_id, &form.password, &form.code]) {
        return Err(PageError::BadForm("sign-in fields too long".to_owned()));
    }
    if !errors.is_empty() {
        return answer(&app, &visitor, &form.user_id, errors, None, now).await;
    }

    let counted = Counted::at_pc(&app.keys, &user_id, visitor.device());
    let mut tx = app.db.begin().await?;
    let attempt = store::count_attempt(&mut tx, &counted, now).await?;
    Db::commit(tx).await?;
    if let Some(sentence) = attempt.refusal() {
        let errors = FieldErrors::of_one("", sentence);
        return answer(&app, &visitor, &form.user_id, errors, None, now).await;
    }

    let account = store::find_account(&app.db, &user_id, visitor.establishment()).await?;
    let hash = account
        .as_ref()
        .map(|account| account.password_hash.as_str());
    let fits = passwords::verify(&form.password, hash)
        .await
        .map_err(PageError::doing("verify a password"))?;
    let known = account.as_ref().map(|account| account.user);
    let Some(account) = account.filter(|_| fits) else {
        let wrong = ("password", WRONG_PASSWORD, "user_id");
        return failed(&app, &visitor, &form, wrong, (attempt, known), now).await;
    };
    match form.action {
        Action::SendCode => send_code(&app, &visitor, &form, &counted, &account, now).await,
        Action::SignIn => finish(&app, &visitor, &form, (&counted, attempt), &account, now).await,
    }
}

const WRONG_PASSWORD: &str = "ユーザーIDまたはパスワードが正しくありません。";

/// Sends a code to a user whose user ID and password were right.
async fn send_code(
    app: &App,
    visitor: &Visitor,
    form: &SignInForm,
    counted: &Counted,
    account: &Account,
    now: OffsetDateTime,
) -> Result<Response, PageError> {
    let binding = binding(visitor, account);
    let mut tx = app.db.begin().await?;
    store::take_back(&mut tx, counted).await?;
    let refused = match (
        &account.second_factor,
        one_time_codes::may_resend(&mut tx, &binding, now).await?,
    ) {
        (SecondFactor::Totp { .. }, _) => {
            Some("認証アプリをお使いのため、メールでは送りません。認証アプリに表示される6桁の数字を入力してください。".to_owned())
        }
        (SecondFactor::Email, Err(ResendRefused::TooSoon { at })) => Some(format!(
            "ワンタイムパスワードは先ほど送りました。あと{}秒お待ちになってから、もう一度お試しください。",
            (at - now).whole_seconds().max(1)
        )),
        (SecondFactor::Email, Err(ResendRefused::TooMany)) => Some(
            "この接続で送れる回数を超えました。一度切断し、もう一度「接続」を押してください。".to_owned(),
        ),
        (SecondFactor::Email, Ok(())) => {
            one_time_codes::issue(
                &mut tx,
                app,
                binding.user,
                binding.device,
                binding.session,
                now,
            )
            .await?;
            None
        }
    };
    Db::commit(tx).await?;
    app.signals.mail_queued();
    let (errors, banner) = match refused {
        Some(sentence) => (FieldErrors::of_one("code", sentence), None),
        None => (FieldErrors::default(), None),
    };
    answer(app, visitor, &form.user_id, errors, banner, now).await
}

/// Checks the second factor of a user whose password was right, and signs in.
async fn finish(
    app: &App,
    visitor: &Visitor,
    form: &SignInForm,
    (counted, attempt): (&Counted, Attempt),
    account: &Account,
    now: OffsetDateTime,
) -> Result<Response, PageError> {
    let mut tx = app.db.begin().await?;
    if let Some((reason, sentence)) =
        wrong_code(&mut tx, app, visitor, account, &form.code, now).await?
    {
        // The try of the code counts, so this is committed too.
        Db::commit(tx).await?;
        let (wrong, known) = ((reason, sentence.as_str(), "code"), Some(account.user));
        return failed(app, visitor, form, wrong, (attempt, known), now).await;
    }
    store::forget_failures(&mut tx, counted).await?;
    let token = sessions::begin_member(&mut tx, &app.keys, visitor, account.user, now).await?;
    let actor = audit::Actor::Member {
        user: account.user,
        device: visitor.device(),
        session: visitor.session(),
    };
    audit::record(&mut tx, &app.keys, &actor, Act::SignedIn(account.user), now).await?;
    Db::commit(tx).await?;
    // A recovery code is told about by mail.
    app.signals.mail_queued();
    let next = if account.password_is_initial {
        FIRST_PASSWORD_PATH
    } else {
        "/"
    };
    Ok(([session_cookie(&token)], Redirect::to(next)).into_response())
}

/// Returns why the second factor is not right: a word for the audit log, a sentence.
pub(crate) async fn wrong_code(
    tx: &mut Tx,
    app: &App,
    visitor: &Visitor,
    account: &Account,
    typed: &str,
    now: OffsetDateTime,
) -> Result<Option<(&'static str, String)>, PageError> {
    match &account.second_factor {
        SecondFactor::Email => {
            let binding = binding(visitor, account);
            let redeemed = one_time_codes::redeem(tx, &app.keys, &binding, typed, now).await?;
            Ok(match redeemed {
                Redeemed::Yes => None,
                Redeemed::Wrong { tries_left: 1.. } => Some((
                    "code",
                    "ワンタイムパスワードが正しくありません。最後に届いたメールの6桁の数字を入力してください。".to_owned(),
                )),
                Redeemed::Wrong { .. } | Redeemed::OutOfUse => Some((
                    "code out of use",
                    "このワンタイムパスワードは使えなくなりました。「ワンタイムパスワードを送る」を押して、新しい数字を受け取ってください。".to_owned(),
                )),
                Redeemed::NoCode => Some((
                    "no code",
                    "ワンタイムパスワードをまだ送っていません。「ワンタイムパスワードを送る」を押してください。".to_owned(),
                )),
            })
        }
        SecondFactor::Totp { sealed } => {
            let authenticator = Authenticator::open(&app.keys, &account.user.to_string(), sealed)
                .map_err(PageError::doing("open an authenticator's secret"))?;
            if let Some(code) = RecoveryCode::read(typed) {
                let actor = audit::Actor::Member {
                    user: account.user,
                    device: visitor.device(),
                    session: visitor.session(),
                };
                let good = recovery::redeem(tx, app, &actor, account.user, &code, now).await?;
                return Ok((!good).then(|| {
                    (
                        "recovery code",
                        "回復コードが正しくないか、すでに使われています。別の回復コードか、認証アプリの6桁の数字を入力してください。".to_owned(),
                    )
                }));
            }
            let Some(step) = authenticator.check(typed, now) else {
                return Ok(Some((
                    "totp",
                    "認証アプリの数字が正しくありません。スマートフォンの時刻が合っていることを確認し、表示中の6桁の数字を入力してください。".to_owned(),
                )));
            };
            if store::take_step(tx, account.user, step).await? {
                Ok(None)
            } else {
                Ok(Some((
                    "totp step used",
                    "この数字はすでに使われています。認証アプリに次の数字が表示されるまでお待ちください。".to_owned(),
                )))
            }
        }
    }
}

fn binding(visitor: &Visitor, account: &Account) -> Binding {
    Binding {
        user: account.user,
        device: visitor.device(),
        session: visitor.session(),
    }
}

/// Writes a failure down and shows the page again. If it was the last for now, the page says so,
/// and so does a mail to the user, if there is one of this name here.
async fn failed(
    app: &App,
    visitor: &Visitor,
    form: &SignInForm,
    (reason, sentence, field): (&'static str, &str, &'static str),
    (attempt, known): (Attempt, Option<UserId>),
    now: OffsetDateTime,
) -> Result<Response, PageError> {
    let mut tx = app.db.begin().await?;
    let (actor, act) = (visitor.actor(), Act::SignInFailed);
    let details = serde_json::json!({});
    audit::record_with(&mut tx, &app.keys, &actor, act, reason, &details, now).await?;
    super::tell_if_stopped(&mut tx, app, attempt, known, now).await?;
    Db::commit(tx).await?;
    app.signals.mail_queued();
    let errors = FieldErrors::of_one(field, super::wrong_text(sentence, attempt));
    answer(app, visitor, &form.user_id, errors, None, now).await
}

async fn answer(
    app: &App,
    visitor: &Visitor,
    user_id: &str,
    errors: FieldErrors,
    banner: Option<Banner>,
    now: OffsetDateTime,
) -> Result<Response, PageError> {
    let status = if errors.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    let page = SignInPage {
        layout: Layout::visitor(app, visitor, now),
        user_id: user_id.to_owned(),
        errors,
        banner,
        code: CodeLine::of(app, visitor, now).await?,
        passkeys: offers_passkeys(app, visitor).await?,
        announcements: announcements::for_everybody(app, now).await?,
    };
    Ok(page_with(status, &page)?.into_response())
}

/// `POST /sign-out`
async fn sign_out(
    leaver: AnyMember,
    State(app): State<App>,
    Verified(SignOutForm {}): Verified<SignOutForm>,
) -> Result<Response, PageError> {
    let now = app.clock.now();
    let member = leaver.member();
    let mut tx = app.db.begin().await?;
    sessions::end(&mut tx, member.token_hash(), now).await?;
    let act = Act::SignedOut(member.user());
    audit::record(&mut tx, &app.keys, &member.actor(), act, now).await?;
    Db::commit(tx).await?;
    Ok(([no_session_cookie()], Redirect::to("/signed-out")).into_response())
}

#[derive(Deserialize)]
struct SignOutForm {}

#[derive(Template)]
#[template(path = "signed_out.html")]
struct SignedOutPage {
    layout: Layout,
}

/// `GET /signed-out`
async fn signed_out(visitor: Visitor, State(app): State<App>) -> Result<Response, PageError> {
    let layout = Layout::visitor(&app, &visitor, app.clock.now());
    Ok(page(&SignedOutPage { layout })?.into_response())
}
