//! タスク: what a person at the office has to see to, because no program can.
//!
//! So far one kind: a mail that a server refused for good, at sending ([`crate::mail::outbox`])
//! or by a report that came back ([`crate::mail::bounces`]). The address counts as refused until
//! the user has another or staff say that mails arrive. Tasks hold ids and codes; whom they are
//! about is looked up when they are shown.

pub mod pages;
pub mod store;

use time::OffsetDateTime;

use crate::audit::{self, Act, Actor};
use crate::db::{StoreError, Tx};
use crate::keys::MasterKey;
use crate::mail::bounces::address_hash;

/// What a task asks for: the word in the database.
pub const MAIL_UNDELIVERED: &str = "mail_undelivered";

/// How staff saw to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The user has another address.
    AddressChanged,
    /// Mails to the address arrive after all.
    AddressConfirmed,
}

/// Why a task is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DoneError {
    /// The address is still the one that was refused.
    #[error("the user still has the refused address")]
    AddressUnchanged,
    /// No outcome was chosen.
    #[error("no outcome")]
    NoOutcome,
    /// A colleague was faster.
    #[error("the task is done already")]
    DoneAlready,
}

impl Outcome {
    /// The word in the database and in the form.
    pub fn code(self) -> &'static str {
        match self {
            Self::AddressChanged => "address_changed",
            Self::AddressConfirmed => "address_confirmed",
        }
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::AddressChanged, Self::AddressConfirmed]
            .into_iter()
            .find(|outcome| outcome.code() == code)
    }

    /// As people read it.
    pub fn label(self) -> &'static str {
        match self {
            Self::AddressChanged => "メールアドレスを変更した",
            Self::AddressConfirmed => "同じアドレスで届くことを確認した",
        }
    }
}

impl DoneError {
    /// For the page.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::AddressUnchanged => {
                "メールアドレスがまだ変わっていません。変更してから、もう一度押してください。"
            }
            Self::NoOutcome => "どのように対応したかを選んでください。",
            Self::DoneAlready => "このタスクは、ほかの職員がすでに対応済みにしています。",
        }
    }
}

/// What a status means for the person on the telephone (RFC 3463).
pub fn status_text(status: &str) -> &'static str {
    match status {
        "5.1.1" | "5.1.0" | "550" | "551" | "553" => "宛先のメールアドレスがありません。",
        "5.1.2" | "5.4.4" => "宛先のメールサーバーが見つかりません。",
        "5.2.1" => "宛先のメールボックスが使われていません。",
        "5.2.2" | "552" => "宛先のメールボックスがいっぱいです。",
        "5.7.1" | "5.7.0" | "554" => "宛先のメールサーバーが受け取りを拒みました。",
        "unreadable" => "メールアドレスの形が正しくありません。",
        _ => "宛先のメールサーバーが受け取りませんでした。",
    }
}

/// Marks an address as refused and raises a task for each user who has it. Returns how many are
/// new.
///
/// # Errors
/// If the database does not answer.
pub async fn mail_undelivered(
    tx: &mut Tx,
    keys: &MasterKey,
    address: &str,
    status: &str,
    now: OffsetDateTime,
) -> Result<usize, StoreError> {
    store::refuse_address(tx, &address_hash(keys, address), status, now).await?;
    let mut raised = 0;
    for user in store::users_with(tx, address).await? {
        if let Some(task) = store::raise(tx, user, status, now).await? {
            let act = Act::TaskRaised(task);
            audit::record(tx, keys, &Actor::System, act, now).await?;
            raised += 1;
        }
    }
    Ok(raised)
}

#[cfg(test)]
mod tests;
