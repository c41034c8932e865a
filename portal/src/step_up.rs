//! Step-up: showing a second factor once more before something weighty (FEATURES R15).
//!
//! [`Fresh<P>`] is a principal `P` who showed a second factor in this web session within the
//! last [`FRESH_FOR`]; signing in counts. Allow a route for it, and the rest follows: who
//! opens the page too late is asked for a code first and led back; who sends its form too
//! late is asked for a code on a page that keeps what was typed, and the form goes on from
//! there. Use it for the page with the form *and* for the form.
//!
//! A form with files cannot be kept: its page must ask too. Never put a secret into a form
//! that is kept: it would stand in the page in between.

mod pages;

use std::ops::Deref;

use axum::extract::FromRequestParts;
use http::Method;
use http::request::Parts;
use time::{Duration, OffsetDateTime};

use crate::app::App;
use crate::audit::{self, Act};
use crate::authenticator::Authenticator;
use crate::db::Db;
use crate::ids::UserId;
use crate::one_time_codes::{self, Binding, ResendRefused};
use crate::passkeys::{self, Bound, Owner, PasskeyError, Purpose};
use crate::sign_in::{self, Counted};
use crate::staff;
use crate::web::layout::Side;
use crate::web::page_error::PageError;
use crate::web::principals::{
    EstablishmentAdmin, Fetcher, Filer, Member, OfficeConnection, Reviewer, Staff, Supervisor,
    SystemAdministrator, TunnelConnection,
};
use crate::web::router::Principal;
use crate::web::sessions;

pub(crate) use pages::{PATH, keep_form, member_routes, office_routes, safe_next};

/// How long a second factor counts as just shown.
pub const FRESH_FOR: Duration = Duration::minutes(5);

/// A principal who showed a second factor just now.
#[derive(Debug, Clone)]
pub struct Fresh<P>(P);

/// A principal whose web session knows when a second factor was last shown.
pub trait Confirmable: Principal {
    /// The word for the route table.
    const FRESH_NAME: &'static str;
    /// When a second factor was last shown.
    fn factor_shown(&self) -> OffsetDateTime;
}

impl<P> Deref for Fresh<P> {
    type Target = P;
    fn deref(&self) -> &P {
        &self.0
    }
}

impl<P: Confirmable> Principal for Fresh<P> {
    const NAME: &'static str = P::FRESH_NAME;
    const IS_FRESH: bool = true;
}

impl<P: Confirmable> FromRequestParts<App> for Fresh<P> {
    type Rejection = PageError;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        let principal = P::from_request_parts(parts, app).await?;
        if is_fresh(principal.factor_shown(), app.clock.now()) {
            return Ok(Self(principal));
        }
        let reads = [Method::GET, Method::HEAD].contains(&parts.method);
        let asked = parts.uri.path_and_query().map(ToString::to_string);
        Err(PageError::FactorRequired {
            next: asked.filter(|_| reads),
        })
    }
}

/// Says whether a factor shown then counts now. One from the future, after a clock was set
/// back, does not.
pub(crate) fn is_fresh(shown: OffsetDateTime, now: OffsetDateTime) -> bool {
    let age = now - shown;
    age <= FRESH_FOR && !age.is_negative()
}

macro_rules! confirmable {
    ($($principal:ident $word:literal |$it:ident| $shown:expr;)*) => { $(
        impl Confirmable for $principal {
            const FRESH_NAME: &'static str = $word;
            fn factor_shown(&self) -> OffsetDateTime {
                let $it = self;
                $shown
            }
        }
    )* };
}

confirmable! {
    Member "fresh member" |it| Member::factor_shown(it);
    EstablishmentAdmin "fresh establishment admin" |it| it.member().factor_shown();
    Filer "fresh filer" |it| Member::factor_shown(it);
    Fetcher "fresh fetcher" |it| Member::factor_shown(it);
    Staff "fresh staff" |it| Staff::factor_shown(it);
    Reviewer "fresh reviewer" |it| it.staff().factor_shown();
    Supervisor "fresh supervisor" |it| Staff::factor_shown(it);
    SystemAdministrator "fresh system administrator" |it| Staff::factor_shown(it);
}

/// Whose second factor is asked for.
#[derive(Debug, Clone)]
enum Who {
    /// A member, at her PC.
    Member(Box<Member>),
    /// Staff, at an address.
    Staff(Box<Staff>, OfficeConnection),
}

impl Who {
    async fn of(parts: &mut Parts, app: &App) -> Result<Self, PageError> {
        if parts.extensions.get::<TunnelConnection>().is_some() {
            let member = Member::from_request_parts(parts, app).await?;
            return Ok(Self::Member(Box::new(member)));
        }
        let staff = Staff::from_request_parts(parts, app).await?;
        let office = parts.extensions.get::<OfficeConnection>();
        let office = *office.ok_or(PageError::SignInRequired)?;
        Ok(Self::Staff(Box::new(staff), office))
    }

    /// Failures count together with those of signing in.
    fn counted(&self, app: &App) -> Counted {
        match self {
            Self::Member(member) => Counted::at_pc(&app.keys, member.user_id(), member.device()),
            Self::Staff(staff, office) => Counted::at_office(
                &app.keys,
                staff.user_id(),
                format!("office:{}", office.peer.ip()),
            ),
        }
    }

    fn token_hash(&self) -> &str {
        match self {
            Self::Member(member) => member.token_hash(),
            Self::Staff(staff, _) => staff.token_hash(),
        }
    }

    fn actor(&self) -> audit::Actor {
        match self {
            Self::Member(member) => member.actor(),
            Self::Staff(staff, _) => staff.actor(),
        }
    }

    /// The user who is told by mail; staff have no address here.
    fn user(&self) -> Option<UserId> {
        match self {
            Self::Member(member) => Some(member.user()),
            Self::Staff(..) => None,
        }
    }

    fn failure(&self) -> Act {
        match self {
            Self::Member(_) => Act::SignInFailed,
            Self::Staff(..) => Act::StaffSignInFailed,
        }
    }

    fn side_and_owner(&self) -> (Side, Owner) {
        match self {
            Self::Member(member) => (Side::Member, Owner::Member(member.user())),
            Self::Staff(staff, _) => (Side::Office, Owner::Staff(staff.id())),
        }
    }

    /// Whether a passkey may be shown in place of a code.
    async fn has_passkey(&self, app: &App) -> Result<bool, PageError> {
        let (side, owner) = self.side_and_owner();
        let offered = passkeys::are_offered(app, side);
        Ok(offered && !passkeys::store::list(&app.db, owner).await?.is_empty())
    }

    /// Whether the code comes by mail.
    async fn uses_mail(&self, app: &App) -> Result<bool, PageError> {
        Ok(match self {
            Self::Member(member) => sign_in::store::uses_mail(&app.db, member.user()).await?,
            Self::Staff(..) => false,
        })
    }
}

/// Takes a typed code: `None` if it was right, and the web session is fresh from now on; else
/// the sentence for the page. A failure counts like a failed sign-in.
async fn take_code(
    app: &App,
    who: &Who,
    typed: &str,
    now: OffsetDateTime,
) -> Result<Option<String>, PageError> {
    if one_time_codes::digits(typed).len() != 6 || sign_in::too_long([typed, "", ""]) {
        return Ok(Some("6桁の数字を入力してください。".to_owned()));
    }
    let counted = who.counted(app);
    let mut tx = app.db.begin().await?;
    let attempt = sign_in::store::count_attempt(&mut tx, &counted, now).await?;
    Db::commit(tx).await?;
    if let Some(sentence) = attempt.refusal() {
        return Ok(Some(sentence));
    }
    let mut tx = app.db.begin().await?;
    if let Some(sentence) = wrong(&mut tx, app, who, typed, now).await? {
        let act = who.failure();
        let (actor, details) = (who.actor(), serde_json::json!({}));
        audit::record_with(&mut tx, &app.keys, &actor, act, "step_up", &details, now).await?;
        sign_in::tell_if_stopped(&mut tx, app, attempt, who.user(), now).await?;
        // The try counts, so this is committed too.
        Db::commit(tx).await?;
        app.signals.mail_queued();
        return Ok(Some(sign_in::wrong_text(&sentence, attempt)));
    }
    sign_in::store::take_back(&mut tx, &counted).await?;
    if !sessions::note_factor(&mut tx, who.token_hash(), now).await? {
        return Err(PageError::SignInRequired);
    }
    audit::record(&mut tx, &app.keys, &who.actor(), Act::FactorShown, now).await?;
    Db::commit(tx).await?;
    Ok(None)
}

/// Takes the answer of a passkey: `None` if it was right, and the web session is fresh from now
/// on; else the sentence for the page. A failure counts like a failed sign-in.
async fn take_passkey(
    app: &App,
    who: &Who,
    answer: &str,
    now: OffsetDateTime,
) -> Result<Option<String>, PageError> {
    let counted = who.counted(app);
    let mut tx = app.db.begin().await?;
    let attempt = sign_in::store::count_attempt(&mut tx, &counted, now).await?;
    Db::commit(tx).await?;
    if let Some(sentence) = attempt.refusal() {
        return Ok(Some(sentence));
    }
    let (side, owner) = who.side_and_owner();
    let bound = Bound::to(app, who.token_hash());
    let checked = passkeys::check(app, side, Purpose::StepUp, &bound, answer, now).await;
    let mut tx = app.db.begin().await?;
    let refused = match checked {
        Ok(shown) if shown.owner == owner && passkeys::use_up(&mut tx, &shown, now).await? => None,
        Ok(_) => Some(PasskeyError::Wrong("another account's passkey")),
        Err(error) => Some(error),
    };
    if let Some(error) = refused {
        drop(tx);
        let Some(sentence) = error.page_text() else {
            return Err(passkeys::pages::page_error(error));
        };
        let mut tx = app.db.begin().await?;
        let (actor, details) = (who.actor(), serde_json::json!({}));
        let act = who.failure();
        audit::record_with(&mut tx, &app.keys, &actor, act, "step_up", &details, now).await?;
        sign_in::tell_if_stopped(&mut tx, app, attempt, who.user(), now).await?;
        Db::commit(tx).await?;
        app.signals.mail_queued();
        return Ok(Some(sign_in::wrong_text(sentence, attempt)));
    }
    sign_in::store::take_back(&mut tx, &counted).await?;
    if !sessions::note_factor(&mut tx, who.token_hash(), now).await? {
        return Err(PageError::SignInRequired);
    }
    let (actor, details) = (who.actor(), serde_json::json!({}));
    let act = Act::FactorShown;
    audit::record_with(&mut tx, &app.keys, &actor, act, "passkey", &details, now).await?;
    Db::commit(tx).await?;
    Ok(None)
}

/// Says what is wrong with a code, if anything; uses it up if nothing is.
async fn wrong(
    tx: &mut crate::db::Tx,
    app: &App,
    who: &Who,
    typed: &str,
    now: OffsetDateTime,
) -> Result<Option<String>, PageError> {
    match who {
        Who::Member(member) => {
            let visit = member.visit();
            let account =
                sign_in::store::find_account(&app.db, member.user_id(), visit.establishment())
                    .await?
                    .ok_or(PageError::SignInRequired)?;
            let wrong = sign_in::pages::wrong_code(tx, app, visit, &account, typed, now).await?;
            Ok(wrong.map(|(_, sentence)| sentence))
        }
        Who::Staff(staff, _) => {
            let account = staff::store::find_account(&app.db, staff.user_id())
                .await?
                .ok_or(PageError::SignInRequired)?;
            let place = account.id.to_string();
            let authenticator = Authenticator::open(&app.keys, &place, &account.totp_sealed)
                .map_err(PageError::doing("open an authenticator's secret"))?;
            let taken = match authenticator.check(typed, now) {
                Some(step) => staff::store::take_step(tx, account.id, step).await?,
                None => false,
            };
            Ok((!taken).then(|| {
                "認証アプリの数字が正しくないか、すでに使われています。次の数字が表示されたら、入力してください。"
                    .to_owned()
            }))
        }
    }
}

/// Mails a code to a member on codes by mail; the sentence for the page if none is sent.
async fn send_code(app: &App, who: &Who, now: OffsetDateTime) -> Result<Option<String>, PageError> {
    let Who::Member(member) = who else {
        return Err(PageError::NotFound);
    };
    let binding = Binding {
        user: member.user(),
        device: member.device(),
        session: member.session(),
    };
    let mut tx = app.db.begin().await?;
    match one_time_codes::may_resend(&mut tx, &binding, now).await? {
        Err(ResendRefused::TooSoon { at }) => Ok(Some(format!(
            "ワンタイムパスワードは先ほど送りました。あと{}秒お待ちになってから、もう一度お試しください。",
            (at - now).whole_seconds().max(1)
        ))),
        Err(ResendRefused::TooMany) => Ok(Some(
            "この接続で送れる回数を超えました。一度切断し、もう一度「接続」を押してください。"
                .to_owned(),
        )),
        Ok(()) => {
            let Binding {
                user,
                device,
                session,
            } = binding;
            one_time_codes::issue(&mut tx, app, user, device, session, now).await?;
            Db::commit(tx).await?;
            app.signals.mail_queued();
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests;
