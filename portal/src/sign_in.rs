//! Signing in, on both sides: what is asked, how failures are counted, what is answered.
//!
//! An attempt is counted *before* anything is checked and taken back when it succeeds, so
//! that parallel guesses cannot slip past the limit. It is counted per account and origin (a
//! PC; for the office, an address): who fails at one PC locks that pair and nobody else, and
//! nobody outside a tunnel can fail at all (DESIGN, Security properties 6). Unknown users are
//! counted, checked and answered like known ones.
//!
//! At a PC the third failure in a row stops the pair for a day (FEATURES S000-26, FACTS R15);
//! at the office, where an address is shared and anybody on the fund's network can knock, the
//! fifth stops it for a quarter of an hour: a day there would be a weapon. Beside that, all
//! failures of an account since its last sign-in are summed up, and [`OVERALL_MAX`] of them stop
//! it everywhere until the fund says otherwise (NIST SP 800-63B, 3.2.2): at three a day and PC
//! that takes a colleague weeks, with a mail for every day. Staff free an account at any time,
//! and a passkey signs in all the while: there is nothing in it to guess.

pub mod office;
pub mod pages;
pub mod store;

use protocol::DeviceId;
use time::{Duration, OffsetDateTime};
use unicode_normalization::UnicodeNormalization as _;

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::db::{Db, StoreError, Tx};
use crate::ids::UserId;
use crate::keys::{MasterKey, Purpose};
use crate::passwords;
use crate::people::news::{self, News};
use crate::web::dates;
use crate::web::page_error::PageError;
use crate::web::principals::Member;

/// Failures of one account at one PC before the pause.
pub const FAILURES_MAX: i64 = 3;
/// How long the pause lasts there, from the last failure.
pub const PAUSE: Duration = Duration::hours(24);
/// Failures of one account at one address of the office before the pause.
pub const OFFICE_FAILURES_MAX: i64 = 5;
/// How long the pause lasts there, from the last failure.
pub const OFFICE_PAUSE: Duration = Duration::minutes(15);
/// Failures of one account anywhere, since it last signed in.
pub const OVERALL_MAX: i64 = 100;
/// What is typed into a sign-in field, in bytes at most.
const TYPED_LIMIT_BYTES: usize = 512;

/// Whose failures are counted, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Keyed hash of the user ID as typed: no name of a stranger is kept.
    pub account: String,
    /// The PC, or the office's address.
    pub origin: String,
    /// How many failures stop it, and for how long.
    limit: (i64, Duration),
    /// Whether the account's failures are summed up over all origins too.
    summed: bool,
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It is counted; go on.
    Allowed {
        /// When the next one may be made, if this one fails and was the last.
        stops_until: Option<OffsetDateTime>,
    },
    /// Not before this moment.
    Paused {
        /// When.
        until: OffsetDateTime,
    },
    /// Not before the fund says so.
    Stopped,
}

impl Counted {
    /// Counts `user_id` at a PC.
    pub fn at_pc(keys: &MasterKey, user_id: &str, device: DeviceId) -> Self {
        Self {
            account: account(keys, user_id),
            origin: device.to_string(),
            limit: (FAILURES_MAX, PAUSE),
            summed: true,
        }
    }

    /// Counts what is no guess at an account's password or code, at an origin.
    pub fn apart(keys: &MasterKey, what: &str, origin: String) -> Self {
        Self {
            account: account(keys, what),
            origin,
            limit: (OFFICE_FAILURES_MAX, OFFICE_PAUSE),
            summed: false,
        }
    }

    /// Counts staff at an address of the office.
    pub fn at_office(keys: &MasterKey, user_id: &str, origin: String) -> Self {
        Self::apart(keys, &format!("staff/{user_id}"), origin)
    }
}

/// Keyed hash of a user ID as it is counted under.
pub(crate) fn account(keys: &MasterKey, user_id: &str) -> String {
    keys.hash(Purpose::AccountName, user_id.as_bytes())
}

impl Attempt {
    /// What is read if the attempt may not be made; `None` if it may.
    pub fn refusal(self) -> Option<String> {
        match self {
            Self::Allowed { .. } => None,
            Self::Paused { until } => Some(paused_text(until)),
            Self::Stopped => Some(STOPPED_TEXT.to_owned()),
        }
    }
}

/// What is read while an account is stopped everywhere.
const STOPPED_TEXT: &str = "正しくない入力が重なったため、このユーザーIDでのログインを止めています。基金事務局へご連絡ください。ご本人の確認のうえ、解除します。";

/// Tells a user by mail that an attempt that failed was the last for now; after the commit,
/// tell `signals.mail_queued()`. Nobody is told of an account that does not exist.
pub(crate) async fn tell_if_stopped(
    tx: &mut Tx,
    app: &App,
    attempt: Attempt,
    user: Option<UserId>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    match (attempt, user) {
        (
            Attempt::Allowed {
                stops_until: Some(_),
            },
            Some(user),
        ) => {
            let address = store::address_of(tx, user).await?;
            news::tell_one(tx, app, &address, News::SignInStopped, now).await
        }
        (_, _) => Ok(()),
    }
}

/// Forgets a user's failures at every PC: the fund has made sure who asks. After the commit,
/// tell `signals.mail_queued()`.
pub async fn free(
    tx: &mut Tx,
    app: &App,
    actor: &Actor,
    (user, login): (UserId, &str),
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    store::forget_everywhere(tx, &account(&app.keys, login)).await?;
    audit::record(tx, &app.keys, actor, Act::SignInFreed(user), now).await?;
    let address = store::address_of(tx, user).await?;
    news::tell_one(tx, app, &address, News::SignInFreed, now).await
}

/// What became of a password typed once more before something delicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// It is the user's.
    Yes,
    /// It is not; the failure is counted, and stops the account if it was the last for now.
    No(Attempt),
    /// Not asked now.
    Refused(Attempt),
}

impl Confirmed {
    /// What the user reads; `None` if the password was right.
    pub fn page_text(self) -> Option<String> {
        match self {
            Self::Yes => None,
            Self::No(attempt) => Some(wrong_text("パスワードが正しくありません。", attempt)),
            Self::Refused(attempt) => attempt.refusal(),
        }
    }
}

/// Asks a member's password once more, counting failures like those of signing in.
pub async fn confirm_password(
    app: &App,
    member: &Member,
    typed: &str,
    now: OffsetDateTime,
) -> Result<Confirmed, PageError> {
    let counted = Counted::at_pc(&app.keys, member.user_id(), member.device());
    let mut tx = app.db.begin().await?;
    let attempt = store::count_attempt(&mut tx, &counted, now).await?;
    Db::commit(tx).await?;
    if attempt.refusal().is_some() {
        return Ok(Confirmed::Refused(attempt));
    }
    let account =
        store::find_account(&app.db, member.user_id(), member.home_establishment()).await?;
    let hash = account
        .as_ref()
        .map(|account| account.password_hash.as_str());
    let fits = !too_long([typed, "", ""])
        && passwords::verify(typed, hash)
            .await
            .map_err(PageError::doing("verify a password"))?;
    let mut tx = app.db.begin().await?;
    if fits {
        store::take_back(&mut tx, &counted).await?;
    } else {
        let (actor, details) = (member.actor(), serde_json::json!({}));
        let act = Act::SignInFailed;
        audit::record_with(&mut tx, &app.keys, &actor, act, "confirm", &details, now).await?;
        tell_if_stopped(&mut tx, app, attempt, Some(member.user()), now).await?;
    }
    Db::commit(tx).await?;
    app.signals.mail_queued();
    Ok(match fits {
        true => Confirmed::Yes,
        false => Confirmed::No(attempt),
    })
}

/// One form of the ways to type the same user ID.
pub fn typed_user_id(typed: &str) -> String {
    // No user ID has control characters, and PostgreSQL takes no NUL.
    let plain = typed.nfkc().filter(|c| !c.is_control());
    plain.collect::<String>().trim().to_lowercase()
}

/// Whether a sign-in form holds more than anybody types.
pub fn too_long(texts: [&str; 3]) -> bool {
    texts.iter().any(|text| text.len() > TYPED_LIMIT_BYTES)
}

/// What is read while attempts are stopped.
pub(crate) fn paused_text(until: OffsetDateTime) -> String {
    // Rounded up to what the sentence shows: who waits for it is not too early.
    let until = until + Duration::seconds(59);
    format!(
        "続けて正しく入力されなかったため、一時的に止めています。{}から、もう一度お試しいただけます。お急ぎのときは、基金事務局へご連絡ください。",
        dates::moment(until)
    )
}

/// What is read after a failure: what was wrong, and that it was the last try, if it was.
pub(crate) fn wrong_text(sentence: &str, attempt: Attempt) -> String {
    match attempt {
        Attempt::Allowed {
            stops_until: Some(until),
        } => format!("{sentence}{}", paused_text(until)),
        Attempt::Allowed { stops_until: None } | Attempt::Paused { .. } | Attempt::Stopped => {
            sentence.to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
