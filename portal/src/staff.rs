//! Fund staff (基金事務局): who they are and what they may do. The first
//! account is made at the command line, the others by a system administrator ([`pages`]).

pub mod accounts;
pub mod pages;
pub mod password_pages;
pub mod store;

use time::OffsetDateTime;

use crate::audit::{self, Act, Actor};
use crate::authenticator::Authenticator;
use crate::db::{StoreError, Tx};
use crate::establishments::{LoginName, Name};
use crate::ids::StaffId;
use crate::keys::MasterKey;

/// What a staff account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaffRole {
    /// 担当者 of 業務課: approves PCs, reviews filings, issues notices.
    Reviewer,
    /// 責任者 of 業務課: a reviewer who also releases and decides in doubt.
    Supervisor,
    /// システム管理者: watches and restores; never reads a document.
    SystemAdmin,
}

impl StaffRole {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Reviewer, Self::Supervisor, Self::SystemAdmin];

    /// The word in the database and at the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reviewer => "reviewer",
            Self::Supervisor => "supervisor",
            Self::SystemAdmin => "system_admin",
        }
    }

    /// Reads the word in the database.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// As people read it.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::Reviewer => "担当者",
            Self::Supervisor => "責任者",
            Self::SystemAdmin => "システム管理者",
        }
    }
}

/// A staff account to make.
#[derive(Debug, Clone)]
pub struct NewStaff {
    /// What is typed at sign-in.
    pub login: LoginName,
    /// The name.
    pub name: Name,
    /// What the account may do.
    pub role: StaffRole,
    /// The hash of the password ([`crate::passwords::hash`]).
    pub password_hash: String,
}

/// Staff could not be added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// An account with this user ID is there already.
    #[error("user ID is taken")]
    LoginTaken,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a staff account with its authenticator.
pub async fn add(
    tx: &mut Tx,
    keys: &MasterKey,
    actor: &Actor,
    new: &NewStaff,
    authenticator: &Authenticator,
    now: OffsetDateTime,
) -> Result<StaffId, AddError> {
    let id = StaffId::new();
    let sealed = authenticator.seal(keys, &id.to_string());
    store::add(tx, id, new, &sealed, now)
        .await
        .map_err(|error| {
            if error.is_unique_violation() {
                AddError::LoginTaken
            } else {
                error.into()
            }
        })?;
    audit::record(tx, keys, actor, Act::StaffAdded(id), now).await?;
    Ok(id)
}
