//! The people and PCs of an establishment, as its admin (管理者) manages them (FEATURES
//! S003-19, S003-25, S003-36 to S003-39; FACTS R12).
//!
//! Here are the rules: an establishment that has an admin never loses the last one, whoever
//! acts at the same time; a person who leaves is out at once, with PCs, sessions and codes;
//! an admin changes accounts of added users of his own establishment only, never one that
//! works for another establishment too, and never another admin's. All admins are told by
//! mail, without a name, whenever one of these things happens.
//!
//! Everything here runs in the caller's transaction, which [`store::lock`] puts in a queue
//! with all others of the same establishment.

pub mod handover;
pub mod news;
pub mod pages;
pub mod requests;
pub mod store;

use time::OffsetDateTime;

use crate::app::App;
use crate::audit::{self, Act, Actor};
use crate::db::{StoreError, Tx};
use crate::devices::{self, DecideError};
use crate::establishments::{Name, Role};
use crate::ids::{EstablishmentId, UserId};
use crate::passkeys;
use crate::permissions::Permissions;
use crate::settings;
use crate::web::sessions;
use news::News;
use store::Colleague;

/// Why a PC is revoked whose user leaves; for the PC's row.
const LEFT: &str = "利用者の登録解除";

/// Why a change of an establishment's people was not made.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// No such member of this establishment (any more).
    #[error("no member of this establishment")]
    NoMember,
    /// The establishment would have no admin left.
    #[error("the last admin cannot be removed or demoted")]
    LastAdmin,
    /// Another admin's account is the fund's business.
    #[error("an admin's account is not changed by another admin")]
    OtherAdmin,
    /// The account works for other establishments too, which have a say in it.
    #[error("the account is a member of other establishments too")]
    Shared,
    /// The member has this role already.
    #[error("the member has this role already")]
    SameRole,
    /// The PC could not be revoked.
    #[error(transparent)]
    Device(#[from] DecideError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PeopleError {
    /// What the admin reads; `None` if the fault is ours, or the thing does not exist.
    pub fn page_text(&self) -> Option<&'static str> {
        match self {
            Self::LastAdmin => Some(
                "事業所には管理者が1名以上必要です。先に、ほかの方を管理者にするか、管理者を引き継いでください。",
            ),
            Self::OtherAdmin => Some(
                "ほかの管理者のログイン情報は、ここでは変更できません。ご本人が変更するか、基金事務局へご連絡ください。",
            ),
            Self::Shared => Some(
                "この利用者は、ほかの事業所のお仕事にも同じユーザーIDを使っています。ログイン情報は、ご本人が変更するか、基金事務局へご連絡ください。",
            ),
            Self::SameRole => Some(
                "この利用者の役割は、すでに変更されています。画面を更新して状態をご確認ください。",
            ),
            Self::Device(_) | Self::NoMember | Self::Store(_) => None,
        }
    }
}

/// Finds a member and makes changes of this establishment's people take turns.
async fn locked(
    tx: &mut Tx,
    establishment: EstablishmentId,
    user: UserId,
) -> Result<Colleague, PeopleError> {
    store::lock(tx, establishment).await?;
    let member = store::find(tx, establishment, user).await?;
    member.ok_or(PeopleError::NoMember)
}

/// Finds a member whose account an admin of the establishment may change.
pub async fn changeable(
    tx: &mut Tx,
    establishment: EstablishmentId,
    user: UserId,
    by: UserId,
) -> Result<Colleague, PeopleError> {
    let member = locked(tx, establishment, user).await?;
    if user == by {
        return Ok(member);
    }
    match member.role {
        Role::Admin => Err(PeopleError::OtherAdmin),
        Role::Added if member.works_elsewhere => Err(PeopleError::Shared),
        Role::Added => Ok(member),
    }
}

/// Ends a membership: web sessions, registration codes, PCs and their tunnel sessions with
/// it. After the commit, tell `signals.sessions_changed()` and `signals.mail_queued()`.
pub async fn remove(
    tx: &mut Tx,
    app: &App,
    actor: &Actor,
    establishment: EstablishmentId,
    user: UserId,
    now: OffsetDateTime,
) -> Result<(), PeopleError> {
    let member = locked(tx, establishment, user).await?;
    keep_an_admin(tx, establishment, &member).await?;
    end(tx, app, actor, establishment, user, now).await?;
    news::tell(tx, app, establishment, News::UserRemoved, now).await?;
    Ok(())
}

/// Ends a membership whose end was decided.
async fn end(
    tx: &mut Tx,
    app: &App,
    actor: &Actor,
    establishment: EstablishmentId,
    user: UserId,
    now: OffsetDateTime,
) -> Result<(), PeopleError> {
    store::end_membership(tx, establishment, user, now).await?;
    store::end_web_sessions(tx, establishment, user, now).await?;
    store::withdraw_codes(tx, establishment, user, now).await?;
    store::refuse_enrolments(tx, establishment, user, &actor.name_for_rows(), now).await?;
    store::close_handovers_of(tx, establishment, user, now).await?;
    for device in store::devices_of(tx, establishment, user).await? {
        devices::revoke(tx, &app.keys, actor, device, LEFT, now).await?;
    }
    passkeys::store::forget_without_membership(tx, user).await?;
    let act = Act::MembershipEnded(user, establishment);
    audit::record(tx, &app.keys, actor, act, now).await?;
    Ok(())
}

/// Makes an admin of an added user, or an added user of an admin.
pub async fn change_role(
    tx: &mut Tx,
    app: &App,
    actor: &Actor,
    establishment: EstablishmentId,
    user: UserId,
    role: Role,
    now: OffsetDateTime,
) -> Result<(), PeopleError> {
    let member = locked(tx, establishment, user).await?;
    if member.role == role {
        return Err(PeopleError::SameRole);
    }
    let news = match role {
        Role::Admin => News::AdminAdded,
        Role::Added => {
            keep_an_admin(tx, establishment, &member).await?;
            News::AdminEnded
        }
    };
    store::set_role(tx, establishment, user, role).await?;
    let act = Act::RoleChanged(user, establishment, role.as_str());
    audit::record(tx, &app.keys, actor, act, now).await?;
    news::tell(tx, app, establishment, news, now).await?;
    Ok(())
}

/// Refuses if nobody but `leaving` is an admin who can sign in.
async fn keep_an_admin(
    tx: &mut Tx,
    establishment: EstablishmentId,
    leaving: &Colleague,
) -> Result<(), PeopleError> {
    if leaving.role == Role::Added {
        return Ok(());
    }
    let admins = store::admins(tx, establishment).await?;
    if admins.iter().any(|admin| admin.user != leaving.id) {
        Ok(())
    } else {
        Err(PeopleError::LastAdmin)
    }
}

/// Sets what an added user may do. An admin has every permission.
pub async fn set_permissions(
    tx: &mut Tx,
    app: &App,
    actor: &Actor,
    (establishment, user): (EstablishmentId, UserId),
    permissions: Permissions,
    now: OffsetDateTime,
) -> Result<(), PeopleError> {
    let member = locked(tx, establishment, user).await?;
    if member.role == Role::Admin {
        return Err(PeopleError::SameRole);
    }
    if member.permissions == permissions {
        return Ok(());
    }
    store::set_permissions(tx, establishment, user, permissions).await?;
    let details = serde_json::json!({ "permissions": permissions.to_string() });
    let act = Act::PermissionsChanged(user, establishment);
    audit::record_with(tx, &app.keys, actor, act, "", &details, now).await?;
    news::tell(tx, app, establishment, News::PermissionsChanged, now).await?;
    Ok(())
}

/// Makes an admin of an added user by the fund's word: the admin is gone already.
pub async fn appoint(
    tx: &mut Tx,
    app: &App,
    actor: &Actor,
    establishment: EstablishmentId,
    user: UserId,
    now: OffsetDateTime,
) -> Result<(), PeopleError> {
    let member = locked(tx, establishment, user).await?;
    if member.role == Role::Admin {
        return Err(PeopleError::SameRole);
    }
    store::set_role(tx, establishment, user, Role::Admin).await?;
    let act = Act::RoleChanged(user, establishment, Role::Admin.as_str());
    audit::record(tx, &app.keys, actor, act, now).await?;
    news::tell(tx, app, establishment, News::AdminByFund, now).await?;
    Ok(())
}

/// Changes a member's name.
pub async fn rename(
    tx: &mut Tx,
    app: &App,
    actor: &Actor,
    establishment: EstablishmentId,
    (user, by): (UserId, UserId),
    name: &Name,
    now: OffsetDateTime,
) -> Result<(), PeopleError> {
    changeable(tx, establishment, user, by).await?;
    store::rename(tx, user, name).await?;
    audit::record(tx, &app.keys, actor, Act::UserRenamed(user), now).await?;
    Ok(())
}

/// Puts a member whose telephone is lost back on codes by mail, and ends the web sessions.
pub async fn reset_second_factor(
    tx: &mut Tx,
    app: &App,
    actor: &Actor,
    establishment: EstablishmentId,
    user: UserId,
    now: OffsetDateTime,
) -> Result<(), PeopleError> {
    locked(tx, establishment, user).await?;
    settings::store::remove_authenticator(tx, user).await?;
    sessions::end_others_of_user(tx, user, "", now).await?;
    audit::record(tx, &app.keys, actor, Act::AuthenticatorRemoved(user), now).await?;
    news::tell(tx, app, establishment, News::SecondFactorReset, now).await?;
    Ok(())
}

/// Gives a member a new initial password, and ends the web sessions.
pub async fn reset_password(
    tx: &mut Tx,
    app: &App,
    actor: &Actor,
    (establishment, user): (EstablishmentId, UserId),
    hash: &str,
    now: OffsetDateTime,
) -> Result<(), PeopleError> {
    locked(tx, establishment, user).await?;
    settings::store::set_initial_password(tx, user, hash, now).await?;
    audit::record(tx, &app.keys, actor, Act::PasswordReset(user), now).await?;
    let news = match actor {
        Actor::Staff(_) => News::PasswordResetByFund,
        _ => News::PasswordReset,
    };
    news::tell(tx, app, establishment, news, now).await?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
