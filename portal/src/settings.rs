//! What users set for themselves: password, authenticator app; and the establishment's zip
//! password, shown to its members and changed by its admin.
//!
//! Everything delicate asks for the password once more and is written in the audit log.

pub mod address;
pub mod address_pages;
pub mod authenticator_pages;
pub mod pages;
pub mod recovery;
pub mod recovery_pages;
pub mod store;

use crate::app::App;
use crate::passwords::{self, HashError};
use crate::web::forms::{FieldErrors, Typed};
use crate::web::principals::Member;

/// What is wrong with a new password that was typed twice; nothing if it may be taken.
/// `current_hash` is the password's that it replaces.
pub async fn check_new_password(
    app: &App,
    member: &Member,
    new: &Typed,
    again: &Typed,
    current_hash: &str,
) -> Result<FieldErrors, HashError> {
    let mut errors = FieldErrors::default();
    let close = [
        member.user_id(),
        member.name(),
        member.establishment_name(),
        &app.config.fund_name,
    ];
    if let Err(weak) = passwords::check_new(new, &close) {
        errors.add("new_password", weak.page_text());
    } else if **new != **again {
        errors.add(
            "new_password_again",
            "2回の入力が一致していません。もう一度入力してください。",
        );
    } else if passwords::verify(new, Some(current_hash)).await? {
        errors.add(
            "new_password",
            "いまのパスワードと同じものは使えません。別のパスワードにしてください。",
        );
    }
    Ok(errors)
}

#[cfg(test)]
mod tests;
