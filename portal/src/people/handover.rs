//! 管理者の引継ぎ: a leaving admin names a successor, who accepts; the fund has no part in it
//! (FACTS R12).
//!
//! The successor becomes an admin in the same transaction in which the leaver becomes an
//! added user or goes, so that the establishment is never without one. One hand-over is open
//! at a time; it can be withdrawn and declined, and is good for [`VALIDITY`].

pub mod pages;
pub mod store;

use time::{Duration, OffsetDateTime};

use super::news::{self, News};
use super::store as people;
use super::{PeopleError, end};
use crate::app::App;
use crate::audit::{self, Act};
use crate::db::{StoreError, Tx};
use crate::establishments::Role;
use crate::ids::{RowId, UserId};
use crate::web::principals::{EstablishmentAdmin, Member};
pub use store::Handover;

/// How long a successor may think it over.
pub const VALIDITY: Duration = Duration::days(14);

/// What becomes of the admin who hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaverBecomes {
    /// 追加ユーザー.
    Added,
    /// No member any more.
    Ended,
}

impl LeaverBecomes {
    /// The word in the database and in the form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Ended => "ended",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Added, Self::Ended]
            .into_iter()
            .find(|becomes| becomes.as_str() == word)
    }

    /// As people read it.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::Added => "追加ユーザーとして残ります",
            Self::Ended => "利用者の登録を解除します",
        }
    }
}

/// Why a hand-over does not go on.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The successor is no added user of the establishment.
    #[error("the successor is no added user of this establishment")]
    NoSuccessor,
    /// Another one is open.
    #[error("a hand-over is open already")]
    OpenAlready,
    /// There is none (any more).
    #[error("no open hand-over")]
    NotOpen,
    /// There is one, between others.
    #[error("the hand-over is between others")]
    NotConcerned,
    /// The people cannot be changed so.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl HandoverError {
    /// What people read; `None` if the fault is ours.
    pub fn page_text(&self) -> Option<&'static str> {
        match self {
            Self::NoSuccessor => Some("後任の方を、追加ユーザーの中から選んでください。"),
            Self::OpenAlready => Some(
                "引継ぎがすでに申し込まれています。取り消してから、もう一度申し込んでください。",
            ),
            Self::NotOpen => {
                Some("この引継ぎは、取り消されたか、期限が切れたか、すでに終わっています。")
            }
            Self::People(error) => error.page_text(),
            Self::NotConcerned | Self::Store(_) => None,
        }
    }
}

/// Names the successor. All admins and the successor are told by mail.
pub async fn propose(
    tx: &mut Tx,
    app: &App,
    admin: &EstablishmentAdmin,
    successor: UserId,
    becomes: LeaverBecomes,
    now: OffsetDateTime,
) -> Result<RowId, HandoverError> {
    let member = admin.member();
    let here = member.establishment();
    people::lock(tx, here).await?;
    if store::find_open(tx, here, now).await?.is_some() {
        return Err(HandoverError::OpenAlready);
    }
    store::close_expired(tx, here, now).await?;
    let successor = people::find(tx, here, successor)
        .await?
        .filter(|person| person.role == Role::Added)
        .ok_or(HandoverError::NoSuccessor)?;
    let id = RowId::new();
    store::add(tx, id, member, successor.id, becomes, now).await?;
    let act = Act::HandoverProposed(id);
    audit::record(tx, &app.keys, &member.actor(), act, now).await?;
    news::tell(tx, app, here, News::HandoverProposed, now).await?;
    news::tell_one(tx, app, &successor.email, News::HandoverProposed, now).await?;
    Ok(id)
}

/// The successor accepts: from now on he is the admin. After the commit, tell
/// `signals.sessions_changed()` and `signals.mail_queued()`.
pub async fn accept(
    tx: &mut Tx,
    app: &App,
    successor: &Member,
    now: OffsetDateTime,
) -> Result<(), HandoverError> {
    let (here, actor) = (successor.establishment(), successor.actor());
    people::lock(tx, here).await?;
    let open = store::find_open(tx, here, now)
        .await?
        .ok_or(HandoverError::NotOpen)?;
    if open.successor != successor.user() {
        return Err(HandoverError::NotConcerned);
    }
    // Who is no admin any more has nothing to hand over.
    let leaver = people::find(tx, here, open.leaver)
        .await?
        .filter(|leaver| leaver.role == Role::Admin)
        .ok_or(HandoverError::NotOpen)?;
    store::close(tx, open.id, "accepted", now).await?;
    people::set_role(tx, here, successor.user(), Role::Admin).await?;
    let act = Act::RoleChanged(successor.user(), here, Role::Admin.as_str());
    audit::record(tx, &app.keys, &actor, act, now).await?;
    match open.becomes {
        LeaverBecomes::Added => {
            people::set_role(tx, here, leaver.id, Role::Added).await?;
            let act = Act::RoleChanged(leaver.id, here, Role::Added.as_str());
            audit::record(tx, &app.keys, &actor, act, now).await?;
        }
        LeaverBecomes::Ended => end(tx, app, &actor, here, leaver.id, now).await?,
    }
    let act = Act::HandoverClosed(open.id, "accepted");
    audit::record(tx, &app.keys, &actor, act, now).await?;
    news::tell(tx, app, here, News::HandoverDone, now).await?;
    news::tell_one(tx, app, &leaver.email, News::HandoverDone, now).await?;
    Ok(())
}

/// The successor declines, or an admin withdraws.
pub async fn close(
    tx: &mut Tx,
    app: &App,
    member: &Member,
    now: OffsetDateTime,
) -> Result<(), HandoverError> {
    let here = member.establishment();
    people::lock(tx, here).await?;
    let open = store::find_open(tx, here, now)
        .await?
        .ok_or(HandoverError::NotOpen)?;
    let outcome = match member.role() {
        Role::Admin => "withdrawn",
        Role::Added if open.successor == member.user() => "declined",
        Role::Added => return Err(HandoverError::NotConcerned),
    };
    store::close(tx, open.id, outcome, now).await?;
    let act = Act::HandoverClosed(open.id, outcome);
    audit::record(tx, &app.keys, &member.actor(), act, now).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
