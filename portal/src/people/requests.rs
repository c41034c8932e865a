//! What an admin asks the fund for and staff decide: more PCs (増設届, FEATURES S003-25), and
//! another name of the establishment, which stands on notices and is therefore the fund's to
//! confirm.
//!
//! One request of each kind is open at a time; a later one of the same kind replaces what the
//! earlier one wanted.

pub mod pages;
pub mod store;

use time::OffsetDateTime;

use super::news::{self, News};
use super::store as people;
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::{StoreError, Tx};
use crate::establishments::{DeviceLimit, FieldError, Name};
use crate::ids::RowId;
use crate::web::principals::{Member, Reviewer};
pub use store::Request;

/// Longest reason and answer, in characters.
pub const TEXT_LIMIT: usize = 400;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Another name of the establishment.
    Name(Name),
    /// So many PCs.
    DeviceLimit(DeviceLimit),
}

impl Wish {
    /// The word in the database.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::DeviceLimit(_) => "device_limit",
        }
    }

    /// What is wanted, as it stands in the database.
    pub fn wanted(&self) -> String {
        match self {
            Self::Name(name) => name.as_str().to_owned(),
            Self::DeviceLimit(limit) => limit.as_u16().to_string(),
        }
    }

    /// Reads both back.
    pub fn read(kind: &str, wanted: &str) -> Result<Self, FieldError> {
        match kind {
            "name" => Name::new(wanted).map(Self::Name),
            "device_limit" => wanted
                .parse()
                .map_err(|_| FieldError::DeviceLimit)
                .and_then(DeviceLimit::new)
                .map(Self::DeviceLimit),
            _ => Err(FieldError::Name),
        }
    }

    /// What pages call it.
    pub fn title(&self) -> &'static str {
        match self {
            Self::Name(_) => "事業所名称の変更",
            Self::DeviceLimit(_) => "パソコンの増設（増設届）",
        }
    }

    /// What is wanted, as people read it.
    pub fn page_text(&self) -> String {
        match self {
            Self::Name(name) => format!("「{}」に変更", name.as_str()),
            Self::DeviceLimit(limit) => format!("{}台まで", limit.as_u16()),
        }
    }
}

/// What staff decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is done as asked.
    Approved,
    /// It is not.
    Refused,
}

impl Decision {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Refused => "refused",
        }
    }

    /// As people read it.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::Approved => "承認",
            Self::Refused => "見送り",
        }
    }
}

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// No such request, or somebody decided it.
    #[error("no open request {0}")]
    NotOpen(RowId),
    /// A request is refused with a reason.
    #[error("refused without an answer")]
    NoAnswer,
    /// The answer is too long.
    #[error("answer is longer than {TEXT_LIMIT} characters")]
    TooLong,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DecideError {
    /// What staff read; `None` if the fault is ours.
    pub fn page_text(&self) -> Option<String> {
        match self {
            Self::NotOpen(_) => {
                Some("この申出はすでに処理されています。一覧を更新してください。".to_owned())
            }
            Self::NoAnswer => Some("見送るときは、事業所への説明を入力してください。".to_owned()),
            Self::TooLong => Some(format!("{TEXT_LIMIT}文字以内で入力してください。")),
            Self::Store(_) => None,
        }
    }
}

/// Writes a request down, or changes the open one of the same kind.
pub async fn ask(
    tx: &mut Tx,
    app: &App,
    member: &Member,
    wish: &Wish,
    reason: &str,
    now: OffsetDateTime,
) -> Result<RowId, StoreError> {
    people::lock(tx, member.establishment()).await?;
    let id = store::put(tx, member, wish, reason, now).await?;
    audit::record(tx, &app.keys, &member.actor(), Act::RequestMade(id), now).await?;
    Ok(id)
}

/// Decides a request, and does what was asked for. All admins are told by mail; after the
/// commit, tell `signals.mail_queued()`.
pub async fn decide(
    tx: &mut Tx,
    app: &App,
    reviewer: &Reviewer,
    id: RowId,
    decision: Decision,
    answer: &str,
    now: OffsetDateTime,
) -> Result<(), DecideError> {
    let answer = answer.trim();
    if answer.chars().count() > TEXT_LIMIT {
        return Err(DecideError::TooLong);
    }
    if decision == Decision::Refused && answer.is_empty() {
        return Err(DecideError::NoAnswer);
    }
    let decided = store::close(tx, id, reviewer, decision, answer, now)
        .await?
        .ok_or(DecideError::NotOpen(id))?;
    match (decision, &decided.wish) {
        (Decision::Refused, _) => {}
        (Decision::Approved, Wish::Name(name)) => {
            store::set_name(tx, decided.establishment, name).await?;
        }
        (Decision::Approved, Wish::DeviceLimit(limit)) => {
            store::set_device_limit(tx, decided.establishment, *limit).await?;
        }
    }
    let act = Act::RequestClosed(id, decision.as_str());
    audit::record(tx, &app.keys, &reviewer.actor(), act, now).await?;
    news::tell(tx, app, decided.establishment, News::RequestDecided, now).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
