//! Signing in, on both sides: what is asked, how failures are counted, what is answered.
//!
//! An attempt is counted *before* anything is checked and taken back when it succeeds, so
//! that parallel guesses cannot slip past the limit. It is counted per account and origin (a
//! PC; for the office, an address): who fails at one PC locks that pair and nobody else, and
//! nobody outside a tunnel can fail at all (DESIGN, Security properties 6). Unknown users are
//! counted, checked and answered like known ones.

pub mod office;
pub mod pages;
pub mod store;

use time::{Duration, OffsetDateTime};
use unicode_normalization::UnicodeNormalization as _;

use crate::app::App;
use crate::audit::{self, Act};
use crate::db::Db;
use crate::keys::{MasterKey, Purpose};
use crate::passwords;
use crate::web::page_error::PageError;
use crate::web::principals::Member;

/// Failures of one account at one origin before the pause.
pub const FAILURES_MAX: i64 = 5;
/// How long the pause lasts, from the last failure.
pub const PAUSE: Duration = Duration::minutes(15);
/// What is typed into a sign-in field, in bytes at most.
const TYPED_LIMIT_BYTES: usize = 512;

/// Whose failures are counted, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Keyed hash of the user ID as typed: no name of a stranger is kept.
    pub account: String,
    /// The PC, or the office's address.
    pub origin: String,
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It is counted; go on.
    Allowed,
    /// Not before this moment.
    Paused {
        /// When.
        until: OffsetDateTime,
    },
}

impl Counted {
    /// Counts `user_id` at `origin`.
    pub fn new(keys: &MasterKey, user_id: &str, origin: String) -> Self {
        Self {
            account: keys.hash(Purpose::AccountName, user_id.as_bytes()),
            origin,
        }
    }
}

/// What became of a password typed once more before something delicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// It is the user's.
    Yes,
    /// It is not; the failure is counted.
    No,
    /// Not asked before this moment.
    Paused {
        /// When.
        until: OffsetDateTime,
    },
}

impl Confirmed {
    /// What the user reads; `None` if the password was right.
    pub fn page_text(self, now: OffsetDateTime) -> Option<String> {
        match self {
            Self::Yes => None,
            Self::No => Some("パスワードが正しくありません。".to_owned()),
            Self::Paused { until } => Some(format!(
                "続けて正しく入力されなかったため、一時的に止めています。約{}分後に、もう一度お試しください。",
                minutes_until(until, now)
            )),
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
    let counted = Counted::new(&app.keys, member.user_id(), member.device().to_string());
    let mut tx = app.db.begin().await?;
    let attempt = store::count_attempt(&mut tx, &counted, now).await?;
    Db::commit(tx).await?;
    if let Attempt::Paused { until } = attempt {
        return Ok(Confirmed::Paused { until });
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
    }
    Db::commit(tx).await?;
    Ok(if fits { Confirmed::Yes } else { Confirmed::No })
}

/// One form of the ways to type the same user ID.
pub fn typed_user_id(typed: &str) -> String {
    typed.nfkc().collect::<String>().trim().to_lowercase()
}

/// Whether a sign-in form holds more than anybody types.
pub fn too_long(texts: [&str; 3]) -> bool {
    texts.iter().any(|text| text.len() > TYPED_LIMIT_BYTES)
}

/// Whole minutes until `until`, at least one, for the sentence.
pub fn minutes_until(until: OffsetDateTime, now: OffsetDateTime) -> i64 {
    ((until - now).whole_seconds() + 59).max(60) / 60
}

#[cfg(test)]
mod tests;
