//! パスキー: signing in with the PC's own lock, by fingerprint, face or PIN (WebAuthn).
//!
//! A passkey is two factors in one: a key that does not leave its device, and the device's own
//! check of who uses it, which [`check`] insists on. So it stands in place of user ID, password
//! and code at sign-in, and in place of the code at a step-up. Nobody is made to have one, and
//! whoever has one keeps the other ways.
//!
//! A question (challenge) is made and kept here, never in the page: it belongs to one purpose
//! and one session, lives for [`QUESTION_LIFETIME`] and is taken out of the database before its
//! answer is looked at, so that an answer counts once whatever becomes of it. What the answer
//! must say of origin and relying party comes from the configured address of the pages.
//!
//! A passkey whose counter goes back exists twice, or once too often: it is removed, and its
//! owner told.

pub mod office;
pub(crate) mod pages;
pub mod store;

use time::{Duration, OffsetDateTime};
use url::Url;
use uuid::Uuid;
use webauthn_rs::prelude::{
    CreationChallengeResponse, CredentialID, DiscoverableAuthentication, Passkey,
    PasskeyRegistration, PublicKeyCredential, RegisterPublicKeyCredential,
    RequestChallengeResponse, WebauthnError,
};
use webauthn_rs::{Webauthn, WebauthnBuilder};

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::db::{Db, StoreError, Tx};
use crate::ids::{RowId, StaffId, UserId};
use crate::keys::Purpose as KeyPurpose;
use crate::people::news::{self, News};
use crate::sign_in;
use crate::web::layout::Side;
use store::Kept;

/// How long a question waits for its answer.
pub const QUESTION_LIFETIME: Duration = Duration::minutes(5);
/// Passkeys of one account at most.
pub const LIMIT: i64 = 10;
/// Longest name of a passkey, in characters.
const NAME_LIMIT: usize = 40;
/// Longest answer of a browser, in bytes.
const ANSWER_LIMIT_BYTES: usize = 32 * 1024;

/// Whose a passkey is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A user of an establishment.
    Member(UserId),
    /// Fund staff.
    Staff(StaffId),
}

impl Owner {
    /// The word in the database.
    fn kind(self) -> &'static str {
        match self {
            Self::Member(_) => MEMBER,
            Self::Staff(_) => STAFF,
        }
    }

    fn uuid(self) -> Uuid {
        match self {
            Self::Member(id) => *id.as_uuid(),
            Self::Staff(id) => *id.as_uuid(),
        }
    }
}

const MEMBER: &str = "member";
const STAFF: &str = "staff";

/// What an answer is for. An answer for one is none for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To register a passkey.
    Register,
    /// To sign in.
    SignIn,
    /// To confirm before something weighty.
    StepUp,
}

impl Purpose {
    /// The word in the database.
    fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::SignIn => "sign_in",
            Self::StepUp => "step_up",
        }
    }
}

/// The session that a question belongs to, hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound(String);

impl Bound {
    /// Binds to what names the session and is known to nobody else.
    pub fn to(app: &App, session: &str) -> Self {
        Self(app.keys.hash(KeyPurpose::Token, session.as_bytes()))
    }
}

/// What an owner calls a passkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyName(String);

impl PasskeyName {
    /// Trims and checks: neither empty nor longer than a line.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = (1..=NAME_LIMIT).contains(&text.chars().count());
        (fits && !text.chars().any(char::is_control)).then(|| Self(text.to_owned()))
    }

    /// What a form says if there is none.
    pub fn page_text() -> String {
        format!("パスキーの名前を{NAME_LIMIT}文字以内で入力してください。")
    }

    fn as_str(&self) -> &str {
        &self.0
    }
}

/// A passkey was not registered, or does not count.
#[derive(Debug, thiserror::Error)]
pub enum PasskeyError {
    /// These pages have no name that a passkey could belong to: an address of digits.
    #[error("no passkeys at this address")]
    NotOffered,
    /// The account has as many as it may have.
    #[error("too many passkeys")]
    TooMany,
    /// This passkey is registered already.
    #[error("the passkey is registered already")]
    Known,
    /// No question waits in this session, or it waited too long.
    #[error("no open question")]
    NoQuestion,
    /// The answer is not right; says how, for the log.
    #[error("wrong answer: {0}")]
    Wrong(&'static str),
    /// The counter of a passkey went back.
    #[error("the passkey {0} may have been copied")]
    Copied(RowId),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of ours failed.
    #[error("passkeys: {doing}")]
    Broken {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl PasskeyError {
    fn doing<E: std::error::Error + Send + Sync + 'static>(
        doing: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Broken {
            doing,
            source: Box::new(source),
        }
    }

    /// What the person reads; `None` if the fault is ours, or there is nothing here.
    pub fn page_text(&self) -> Option<&'static str> {
        match self {
            Self::TooMany => Some(
                "登録できるパスキーは10個までです。使っていないパスキーを削除してから、もう一度お試しください。",
            ),
            Self::Known => Some("このパスキーは、すでに登録されています。"),
            Self::NoQuestion => Some(
                "確認に時間がかかったため、やり直しが必要です。もう一度ボタンを押してください。",
            ),
            Self::Wrong(_) => Some(
                "パスキーで確認できませんでした。もう一度お試しになるか、ほかの方法で確認してください。",
            ),
            Self::Copied(_) => Some(
                "このパスキーは、複製された疑いがあるため使えなくしました。ほかの方法でログインし、基金事務局へご連絡ください。",
            ),
            Self::NotOffered | Self::Store(_) | Self::Broken { .. } => None,
        }
    }
}

/// A passkey that answered its question rightly; counts once it is put down with [`use_up`].
#[derive(Debug, Clone)]
pub struct Shown {
    /// Whose it is.
    pub owner: Owner,
    /// Its row.
    pub id: RowId,
    credential: Passkey,
    before: i64,
    counter: i64,
}

/// The relying party of one side's pages: the host of their configured address. `None` if that
/// is a bare number, for which browsers make no passkeys.
fn relying_party(app: &App, side: Side) -> Option<Webauthn> {
    let pages = match side {
        Side::Member => &app.config.member,
        Side::Office => &app.config.office,
    };
    let url = Url::parse(&pages.url).ok()?;
    let host = url.domain()?;
    WebauthnBuilder::new(host, &url)
        .ok()?
        .rp_name(&app.config.fund_name)
        .timeout(QUESTION_LIFETIME.unsigned_abs())
        .build()
        .ok()
}

/// Says whether passkeys can be had at one side's pages.
pub fn are_offered(app: &App, side: Side) -> bool {
    relying_party(app, side).is_some()
}

fn party(app: &App, side: Side) -> Result<Webauthn, PasskeyError> {
    relying_party(app, side).ok_or(PasskeyError::NotOffered)
}

/// Keeps a question and returns what the browser is asked.
async fn keep(
    app: &App,
    purpose: Purpose,
    bound: &Bound,
    state: &impl serde::Serialize,
    now: OffsetDateTime,
) -> Result<(), PasskeyError> {
    let state = serde_json::to_string(state).map_err(PasskeyError::doing("write a question"))?;
    let mut tx = app.db.begin().await?;
    store::keep_question(&mut tx, purpose, bound, &state, now).await?;
    Ok(Db::commit(tx).await?)
}

/// Takes the question out for good. What comes back is the question, if it may be answered now.
async fn take<T: serde::de::DeserializeOwned>(
    app: &App,
    purpose: Purpose,
    bound: &Bound,
    now: OffsetDateTime,
) -> Result<T, PasskeyError> {
    let mut tx = app.db.begin().await?;
    let state = store::take_question(&mut tx, purpose, bound, now).await?;
    Db::commit(tx).await?;
    let state = state.ok_or(PasskeyError::NoQuestion)?;
    serde_json::from_str(&state).map_err(PasskeyError::doing("read a question"))
}

/// Asks a browser to make a passkey: the options for `navigator.credentials.create`.
pub async fn ask_to_register(
    app: &App,
    side: Side,
    owner: Owner,
    (login, name): (&str, &str),
    bound: &Bound,
    now: OffsetDateTime,
) -> Result<serde_json::Value, PasskeyError> {
    let party = party(app, side)?;
    let known = store::list(&app.db, owner).await?;
    if i64::try_from(known.len()).unwrap_or(i64::MAX) >= LIMIT {
        return Err(PasskeyError::TooMany);
    }
    let known: Vec<CredentialID> = known
        .iter()
        .map(|line| line.credential.cred_id().clone())
        .collect();
    let (options, state): (CreationChallengeResponse, PasskeyRegistration) = party
        .start_passkey_registration(owner.uuid(), login, name, Some(known))
        .map_err(PasskeyError::doing("ask for a new passkey"))?;
    keep(app, Purpose::Register, bound, &state, now).await?;
    let mut options = serde_json::to_value(&options.public_key)
        .map_err(PasskeyError::doing("write the options"))?;
    // Kept by the authenticator itself, so that signing in needs no user ID.
    options["authenticatorSelection"]["residentKey"] = "required".into();
    options["authenticatorSelection"]["requireResidentKey"] = true.into();
    Ok(options)
}

/// Registers the passkey that a browser made; after the commit, tell `signals.mail_queued()`.
#[expect(
    clippy::too_many_arguments,
    reason = "who, where, what and when are all needed"
)]
pub async fn register(
    app: &App,
    side: Side,
    owner: Owner,
    actor: &Actor,
    bound: &Bound,
    name: &PasskeyName,
    answer: &str,
    now: OffsetDateTime,
) -> Result<RowId, PasskeyError> {
    let party = party(app, side)?;
    let state: PasskeyRegistration = take(app, Purpose::Register, bound, now).await?;
    let answer: RegisterPublicKeyCredential = read(answer)?;
    let passkey = party
        .finish_passkey_registration(&answer, &state)
        .map_err(|error| refused(&error))?;
    let mut tx = app.db.begin().await?;
    if store::count(&mut tx, owner).await? >= LIMIT {
        return Err(PasskeyError::TooMany);
    }
    let id = RowId::new();
    store::add(&mut tx, id, owner, name, &passkey, now)
        .await
        .map_err(|error| match error.is_unique_violation() {
            true => PasskeyError::Known,
            false => error.into(),
        })?;
    audit::record(&mut tx, &app.keys, actor, Act::PasskeyAdded(id), now).await?;
    tell(&mut tx, app, owner, News::PasskeyAdded, now).await?;
    Db::commit(tx).await?;
    Ok(id)
}

/// Asks a browser to show a passkey: the options for `navigator.credentials.get`. With an
/// owner, only his come into question.
pub async fn ask(
    app: &App,
    side: Side,
    purpose: Purpose,
    owner: Option<Owner>,
    bound: &Bound,
    now: OffsetDateTime,
) -> Result<serde_json::Value, PasskeyError> {
    let party = party(app, side)?;
    let (options, state): (RequestChallengeResponse, DiscoverableAuthentication) = party
        .start_discoverable_authentication()
        .map_err(PasskeyError::doing("ask for a passkey"))?;
    keep(app, purpose, bound, &state, now).await?;
    let mut options = serde_json::to_value(&options.public_key)
        .map_err(PasskeyError::doing("write the options"))?;
    if let Some(owner) = owner {
        let known = store::list(&app.db, owner).await?;
        let known = known.iter().map(|line| {
            serde_json::json!({ "type": "public-key", "id": store::text_of(line.credential.cred_id()) })
        });
        options["allowCredentials"] = known.collect();
    }
    Ok(options)
}

/// Checks an answer to [`ask`]. The question is used up whatever comes of it.
pub async fn check(
    app: &App,
    side: Side,
    purpose: Purpose,
    bound: &Bound,
    answer: &str,
    now: OffsetDateTime,
) -> Result<Shown, PasskeyError> {
    let party = party(app, side)?;
    let state: DiscoverableAuthentication = take(app, purpose, bound, now).await?;
    let answer: PublicKeyCredential = read(answer)?;
    let (user, credential) = party
        .identify_discoverable_authentication(&answer)
        .map_err(|error| refused(&error))?;
    let kind = match side {
        Side::Member => MEMBER,
        Side::Office => STAFF,
    };
    let found = store::find(&app.db, kind, credential).await?;
    let found = found.ok_or(PasskeyError::Wrong("unknown passkey"))?;
    if found.owner.uuid() != user {
        return Err(PasskeyError::Wrong("somebody else's passkey"));
    }
    let result =
        match party.finish_discoverable_authentication_v2(&answer, state, &found.credential) {
            Ok(result) if result.user_verified() => result,
            Ok(_) => return Err(PasskeyError::Wrong("the device did not check its user")),
            // The signature was right: whoever holds the key, holds an old copy of it.
            Err(WebauthnError::CredentialPossibleCompromise) => {
                remove_copied(app, &found, now).await?;
                return Err(PasskeyError::Copied(found.id));
            }
            Err(error) => return Err(refused(&error)),
        };
    let Kept {
        id,
        owner,
        mut credential,
        counter: before,
        ..
    } = found;
    credential.update_credential(&result);
    Ok(Shown {
        owner,
        id,
        credential,
        before,
        counter: i64::from(result.counter()),
    })
}

/// Puts down that a passkey was used, in the transaction of what it is used for. `false` if it
/// was removed or used meanwhile.
pub async fn use_up(tx: &mut Tx, shown: &Shown, now: OffsetDateTime) -> Result<bool, StoreError> {
    store::note_use(tx, shown, now).await
}

/// Removes a passkey of one's own. `false` if there is none; after the commit, tell
/// `signals.mail_queued()`.
pub async fn remove(
    tx: &mut Tx,
    app: &App,
    owner: Owner,
    actor: &Actor,
    id: RowId,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    if !store::remove(tx, owner, id).await? {
        return Ok(false);
    }
    audit::record(tx, &app.keys, actor, Act::PasskeyRemoved(id), now).await?;
    tell(tx, app, owner, News::PasskeyRemoved, now).await?;
    Ok(true)
}

async fn remove_copied(app: &App, found: &Kept, now: OffsetDateTime) -> Result<(), PasskeyError> {
    let mut tx = app.db.begin().await?;
    if store::remove(&mut tx, found.owner, found.id).await? {
        let act = Act::PasskeyCopied(found.id);
        audit::record(&mut tx, &app.keys, &Actor::System, act, now).await?;
        tell(&mut tx, app, found.owner, News::PasskeyCopied, now).await?;
    }
    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(())
}

/// Tells the owner by mail. Staff have no address here; the audit log has the row.
async fn tell(
    tx: &mut Tx,
    app: &App,
    owner: Owner,
    news: News,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    match owner {
        Owner::Staff(_) => Ok(()),
        Owner::Member(user) => {
            let address = sign_in::store::address_of(tx, user).await?;
            news::tell_one(tx, app, &address, news, now).await
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: &str) -> Result<T, PasskeyError> {
    if answer.len() > ANSWER_LIMIT_BYTES {
        return Err(PasskeyError::Wrong("too long"));
    }
    serde_json::from_str(answer).map_err(|_| PasskeyError::Wrong("not an answer of a browser"))
}

/// Whatever the library finds wrong is one answer for the person, and a line in the log.
fn refused(error: &WebauthnError) -> PasskeyError {
    tracing::info!(%error, "a passkey's answer was refused");
    PasskeyError::Wrong("refused")
}

#[cfg(test)]
mod tests;
