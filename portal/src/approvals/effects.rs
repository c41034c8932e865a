//! What each kind of proposal is about, and what happens when it is approved.
//!
//! Effects run in the transaction of the approval. They ask their feature's rules once more:
//! days may have passed since the proposal.

use time::OffsetDateTime;

use super::{Approval, Kind, resets};
use crate::app::App;
use crate::batches::{self, ReleaseError};
use crate::custody::destruction::{self, DestructionError};
use crate::db::{StoreError, Tx};
use crate::establishments;
use crate::ids::{EstablishmentId, UserId};
use crate::people::{self, PeopleError};
use crate::quarantine::{self, QuarantineError};
use crate::staff;
use crate::web::principals::Staff;

/// What was approved cannot be done now.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// A key is not to be destroyed.
    #[error(transparent)]
    Destruction(#[from] DestructionError),
    /// A held file is not to be released.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// A batch is not to be released.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// A member is not to be changed so.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// The member of staff has left.
    #[error("the staff account is out of use")]
    StaffGone,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The subject is no id of its kind.
    #[error("unreadable subject of a proposal")]
    Subject,
}

impl EffectError {
    /// What staff are told; `None` if the fault is ours.
    pub fn page_text(&self) -> Option<String> {
        match self {
            Self::Destruction(error) => error.page_text(),
            Self::Quarantine(error) => error.page_text(),
            Self::People(PeopleError::NoMember) => {
                Some("この利用者は、もうこの事業所に登録されていません。".to_owned())
            }
            Self::People(error) => error.page_text().map(str::to_owned),
            Self::Release(error) => error.page_text(),
            Self::StaffGone => Some("この職員の利用は、すでに停止されています。".to_owned()),
            Self::Subject | Self::Store(_) => None,
        }
    }
}

/// The subject of a proposal about a member: `establishment/user`.
pub(crate) fn member_subject(establishment: EstablishmentId, user: UserId) -> String {
    format!("{establishment}/{user}")
}

fn member_of(subject: &str) -> Option<(EstablishmentId, UserId)> {
    let (establishment, user) = subject.split_once('/')?;
    Some((establishment.parse().ok()?, user.parse().ok()?))
}

/// Names the subject, for the page.
pub(super) async fn describe(app: &App, approval: &Approval) -> Result<String, StoreError> {
    match approval.kind {
        Kind::QuarantineRelease => {
            let Ok(id) = approval.subject.parse() else {
                return Ok(String::new());
            };
            let found = quarantine::store::describe(&app.db, id).await?;
            Ok(found.unwrap_or_default())
        }
        Kind::SecondFactorReset | Kind::AdminAppointment | Kind::PasswordReset => {
            let Some((establishment, user)) = member_of(&approval.subject) else {
                return Ok(String::new());
            };
            let found = establishments::store::find(&app.db, establishment).await?;
            let mut tx = app.db.begin_snapshot().await?;
            let person = people::store::find(&mut tx, establishment, user).await?;
            drop(tx);
            Ok(match (found, person) {
                (Some(found), Some(person)) => format!(
                    "{} {} {}（{}）",
                    found.number, found.name, person.name, person.login
                ),
                (_, _) => String::new(),
            })
        }
        Kind::StaffReset | Kind::StaffAddition => {
            let Ok(id) = approval.subject.parse() else {
                return Ok(String::new());
            };
            let found = staff::store::name_of(&app.db, id).await?;
            Ok(found.unwrap_or_default())
        }
        Kind::KeyDestruction => {
            let Ok(id) = approval.subject.parse() else {
                return Ok(String::new());
            };
            let found = establishments::store::find(&app.db, id).await?;
            Ok(found.map_or_else(String::new, |found| {
                format!("{} {}", found.number, found.name)
            }))
        }
        Kind::BatchRelease => {
            let Ok(id) = approval.subject.parse() else {
                return Ok(String::new());
            };
            batches::store::description(&app.db, id).await
        }
    }
}

/// What is tidied up after an approval is committed. Failing is no loss.
pub(super) async fn clean_up(app: &App, approval: &Approval) {
    match approval.kind {
        Kind::QuarantineRelease
        | Kind::SecondFactorReset
        | Kind::AdminAppointment
        | Kind::PasswordReset
        | Kind::StaffReset
        | Kind::StaffAddition => {}
        Kind::KeyDestruction => {
            let Ok(id) = approval.subject.parse() else {
                return;
            };
            if let Err(error) = destruction::remove_objects(app, id).await {
                tracing::warn!(%id, %error, "objects of a destroyed key stay");
            }
        }
        Kind::BatchRelease => {
            let Ok(id) = approval.subject.parse() else {
                return;
            };
            // If this breaks off, the hourly round goes on.
            if let Err(error) = batches::mails::tell(app, id, app.clock.now()).await {
                tracing::warn!(%id, %error, "mails about a batch wait for the next round");
            }
        }
    }
}

/// Does what was proposed.
pub(super) async fn carry_out(
    tx: &mut Tx,
    app: &App,
    approval: &Approval,
    decider: &Staff,
    now: OffsetDateTime,
) -> Result<(), EffectError> {
    match approval.kind {
        Kind::QuarantineRelease => {
            let id = approval.subject.parse().map_err(|_| EffectError::Subject)?;
            quarantine::release(tx, app, id, decider, now).await?;
        }
        Kind::SecondFactorReset => {
            let (place, user) = member_of(&approval.subject).ok_or(EffectError::Subject)?;
            people::reset_second_factor(tx, app, &decider.actor(), place, user, now).await?;
        }
        Kind::AdminAppointment => {
            let (place, user) = member_of(&approval.subject).ok_or(EffectError::Subject)?;
            people::appoint(tx, app, &decider.actor(), place, user, now).await?;
        }
        Kind::PasswordReset => {
            let (place, user) = member_of(&approval.subject).ok_or(EffectError::Subject)?;
            let member = people::store::find(tx, place, user).await?;
            member.ok_or(PeopleError::NoMember)?;
            resets::allow(tx, approval, now).await?;
        }
        Kind::StaffReset => {
            let id = approval.subject.parse().map_err(|_| EffectError::Subject)?;
            if !staff::store::is_in_use(tx, id).await? {
                return Err(EffectError::StaffGone);
            }
            resets::allow(tx, approval, now).await?;
        }
        Kind::StaffAddition => {
            let id = approval.subject.parse().map_err(|_| EffectError::Subject)?;
            if !staff::store::is_in_use(tx, id).await? {
                return Err(EffectError::StaffGone);
            }
            staff::store::give_vote(tx, id).await?;
        }
        Kind::KeyDestruction => {
            let id = approval.subject.parse().map_err(|_| EffectError::Subject)?;
            destruction::destroy_key(tx, app, id, approval, decider, now).await?;
        }
        Kind::BatchRelease => {
            let id = approval.subject.parse().map_err(|_| EffectError::Subject)?;
            batches::release(tx, app, id, decider, now).await?;
        }
    }
    Ok(())
}
