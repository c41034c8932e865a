//! Changing staff accounts: role, leaving, coming back (issue of the fund's own people).
//!
//! The fund never loses its last system administrator, who alone makes accounts, nor its
//! last supervisor, without whom nothing is released: changes of staff take turns, so that
//! two who leave at the same moment cannot both be the last but one.

use time::OffsetDateTime;

use super::{StaffRole, store};
use crate::approvals::{Kind, resets};
use crate::audit::{self, Act, Actor};
use crate::authenticator::Authenticator;
use crate::db::{StoreError, Tx, next_number};
use crate::ids::StaffId;
use crate::keys::MasterKey;
use crate::passkeys::{self, Owner};
use crate::review::assignment::free_cases_of;

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No such account, or it is not in that state (any more).
    #[error("no such account in use")]
    NotFound,
    /// The fund would have nobody left in this role.
    #[error("the last of their role")]
    LastOfRole(StaffRole),
    /// Nobody has approved it, or it was carried out already.
    #[error("the reset is not allowed")]
    NotAllowed,
    /// One's own account.
    #[error("one's own account")]
    Own,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ChangeError {
    /// What the system administrator reads; `None` if the fault is ours or it does not exist.
    pub fn page_text(&self) -> Option<String> {
        match self {
            Self::LastOfRole(role) => Some(format!(
                "{}が1名もいなくなるため、変更できません。先に、ほかの方を{}にしてください。",
                role.page_text(),
                role.page_text()
            )),
            Self::Own => Some(
                "ご自分のアカウントは変更できません。ほかのシステム管理者が変更してください。"
                    .to_owned(),
            ),
            Self::NotAllowed => Some(
                "再発行は、ほかの方の承認のあと、一度だけ行えます。「承認」の画面でご確認ください。"
                    .to_owned(),
            ),
            Self::NotFound | Self::Store(_) => None,
        }
    }
}

/// Makes changes of staff take turns until the transaction ends.
async fn take_turn(tx: &mut Tx) -> Result<(), StoreError> {
    next_number(tx, "staff_changes").await.map(drop)
}

/// Refuses if nobody but `leaving` holds a role that must always be held.
async fn keep_one(tx: &mut Tx, leaving: StaffId, role: StaffRole) -> Result<(), ChangeError> {
    let needed = match role {
        StaffRole::Supervisor | StaffRole::SystemAdmin => true,
        StaffRole::Reviewer => false,
    };
    if needed && store::count_others(tx, leaving, role).await? == 0 {
        return Err(ChangeError::LastOfRole(role));
    }
    Ok(())
}

/// Gives an account another role. Its web sessions end: the pages are others.
pub async fn change_role(
    tx: &mut Tx,
    keys: &MasterKey,
    (id, by): (StaffId, StaffId),
    role: StaffRole,
    now: OffsetDateTime,
) -> Result<(), ChangeError> {
    take_turn(tx).await?;
    let before = store::role_in_use(tx, id).await?;
    let before = before.ok_or(ChangeError::NotFound)?;
    if id == by {
        return Err(ChangeError::Own);
    }
    if before == role {
        return Ok(());
    }
    keep_one(tx, id, before).await?;
    store::set_role(tx, id, role).await?;
    store::end_web_sessions(tx, id, now).await?;
    if role == StaffRole::SystemAdmin {
        // Who reads no document any more decides none.
        free_cases_of(tx, keys, &Actor::Staff(by), id, now).await?;
    }
    let act = Act::StaffRoleChanged(id, role.as_str());
    audit::record(tx, keys, &Actor::Staff(by), act, now).await?;
    Ok(())
}

/// Takes an account out of use; its web sessions end with it.
pub async fn disable(
    tx: &mut Tx,
    keys: &MasterKey,
    (id, by): (StaffId, StaffId),
    now: OffsetDateTime,
) -> Result<(), ChangeError> {
    take_turn(tx).await?;
    let role = store::role_in_use(tx, id).await?;
    let role = role.ok_or(ChangeError::NotFound)?;
    if id == by {
        return Err(ChangeError::Own);
    }
    keep_one(tx, id, role).await?;
    store::disable(tx, id, now).await?;
    passkeys::store::forget(tx, Owner::Staff(id)).await?;
    store::end_web_sessions(tx, id, now).await?;
    free_cases_of(tx, keys, &Actor::Staff(by), id, now).await?;
    let act = Act::StaffDisabled(id);
    audit::record(tx, keys, &Actor::Staff(by), act, now).await?;
    Ok(())
}

/// Finds an account whose sign-in may be proposed for a reset: somebody else's, in use.
pub async fn check_resettable(tx: &mut Tx, id: StaffId, by: StaffId) -> Result<(), ChangeError> {
    store::role_in_use(tx, id)
        .await?
        .ok_or(ChangeError::NotFound)?;
    match id == by {
        true => Err(ChangeError::Own),
        false => Ok(()),
    }
}

/// Gives an account a new password and authenticator, as two have agreed; passkeys and web
/// sessions end.
pub async fn reset(
    tx: &mut Tx,
    keys: &MasterKey,
    (id, by): (StaffId, StaffId),
    hash: &str,
    authenticator: &Authenticator,
    now: OffsetDateTime,
) -> Result<(), ChangeError> {
    take_turn(tx).await?;
    check_resettable(tx, id, by).await?;
    if !resets::take(tx, Kind::StaffReset, &id.to_string(), now).await? {
        return Err(ChangeError::NotAllowed);
    }
    let sealed = authenticator.seal(keys, &id.to_string());
    store::reset(tx, id, hash, &sealed, now).await?;
    passkeys::store::forget(tx, Owner::Staff(id)).await?;
    store::end_web_sessions(tx, id, now).await?;
    audit::record(tx, keys, &Actor::Staff(by), Act::StaffReset(id), now).await?;
    Ok(())
}
