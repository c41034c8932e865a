//! What happens between the first sign-in and the first piece of work: own password, terms of
//! use (利用規約), 事業所情報登録 and 管理者情報登録 (FEATURES S003-34, S003-35), and the offer
//! of an authenticator app.
//!
//! The steps are not kept anywhere as such: which is the next one follows from what was done
//! already ([`Standing`]), so that whoever is cut off goes on where it happened. Until the
//! last one is done, every other page leads here (`web::principals`). New terms ask everybody
//! once more.

pub mod contacts;
pub mod pages;
pub mod store;
pub mod terms;

use crate::establishments::Role;
use crate::web::page_error::FIRST_PASSWORD_PATH;

/// One step of the first sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An own password in place of the letter's.
    Password,
    /// The terms of use.
    Terms,
    /// 事業所情報登録, by an admin.
    Establishment,
    /// 管理者情報登録, by an admin.
    Profile,
    /// Whether to use an authenticator app.
    SecondFactor,
}

impl Step {
    /// The steps of somebody of this role, in their order.
    pub fn of(role: Role) -> &'static [Self] {
        match role {
            Role::Admin => &[
                Self::Password,
                Self::Terms,
                Self::Establishment,
                Self::Profile,
                Self::SecondFactor,
            ],
            Role::Added => &[Self::Password, Self::Terms, Self::SecondFactor],
        }
    }

    /// Where it is done.
    pub fn path(self) -> &'static str {
        match self {
            Self::Password => FIRST_PASSWORD_PATH,
            Self::Terms => "/terms",
            Self::Establishment => "/establishment",
            Self::Profile => "/profile",
            Self::SecondFactor => "/welcome",
        }
    }

    /// What the progress calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Password => "パスワード",
            Self::Terms => "利用規約",
            Self::Establishment => "事業所情報",
            Self::Profile => "管理者情報",
            Self::SecondFactor => "ログインの安全",
        }
    }
}

/// What a member has done of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether the password is still the letter's.
    pub password_is_initial: bool,
    /// The latest terms that were accepted; 0 for none.
    pub terms_accepted: i64,
    /// The terms in force.
    pub terms_current: i64,
    /// Whether 事業所情報 was confirmed by this admin.
    pub establishment_confirmed: bool,
    /// Whether 管理者情報 was confirmed by this admin.
    pub profile_confirmed: bool,
    /// Whether the last step was seen.
    pub introduced: bool,
}

impl Standing {
    /// Whether a step is done.
    pub fn is_done(&self, step: Step) -> bool {
        match step {
            Step::Password => !self.password_is_initial,
            Step::Terms => self.terms_accepted >= self.terms_current,
            Step::Establishment => self.establishment_confirmed,
            Step::Profile => self.profile_confirmed,
            Step::SecondFactor => self.introduced,
        }
    }

    /// The first step that is open; `None` if the pages are open instead.
    pub fn next(&self, role: Role) -> Option<Step> {
        Step::of(role)
            .iter()
            .copied()
            .find(|step| !self.is_done(*step))
    }
}

/// One step in the progress above its page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressStep {
    /// What it is called.
    pub title: &'static str,
    /// Whether it is done.
    pub done: bool,
    /// Whether it is the one that the page is for.
    pub here: bool,
}

/// The progress that a step's page shows; empty for whoever has gone through it all and only
/// changes something, or accepts new terms.
pub fn progress(standing: &Standing, role: Role, here: Step) -> Vec<ProgressStep> {
    if standing.introduced {
        return Vec::new();
    }
    let steps = Step::of(role).iter().map(|step| ProgressStep {
        title: step.title(),
        done: standing.is_done(*step) && *step != here,
        here: *step == here,
    });
    steps.collect()
}

#[cfg(test)]
mod tests;
