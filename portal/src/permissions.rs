//! What an added user may do at an establishment, and what a delegate may do for one.
//!
//! An establishment's admin has every permission; an added user has those that the admin gave
//! (FEATURES S003-39); who acts for an establishment has those that both his own office and
//! the establishment gave. Principals in `web::principals` ask; nothing here does.

use std::fmt;

/// One thing that somebody may or may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// 届書の提出: uploads, hands in, withdraws his own.
    File,
    /// 通知書の受け取り: sees notices, downloads them, and the password of their zips.
    Fetch,
    /// 送受信履歴の閲覧: sees what others of the establishment sent.
    History,
}

impl Permission {
    /// All permissions, as pages list them.
    pub const ALL: [Self; 3] = [Self::File, Self::Fetch, Self::History];

    /// The word in the database and in forms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Fetch => "fetch",
            Self::History => "history",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|permission| permission.as_str() == word)
    }

    /// As people read it.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::File => "届書の提出",
            Self::Fetch => "通知書の受け取り",
            Self::History => "送受信履歴の閲覧",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Fetch => 2,
            Self::History => 4,
        }
    }
}

/// Some of the permissions, or all, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions(u8);

impl Permissions {
    /// No permission.
    pub const NONE: Self = Self(0);

    /// Every permission.
    pub fn all() -> Self {
        Permission::ALL.into_iter().collect()
    }

    /// Reads the words in the database, which spaces divide. `None` if one is unknown.
    pub fn from_words(words: &str) -> Option<Self> {
        words
            .split_ascii_whitespace()
            .map(Permission::from_word)
            .collect()
    }

    /// Whether `permission` is among them.
    pub fn allow(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// Those that both have.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there are none.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// They, in the order of [`Permission::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        let mut all = Permission::ALL.to_vec();
        all.retain(|permission| self.allow(*permission));
        all.into_iter()
    }

    /// As people read them: 「届書の提出、通知書の受け取り」.
    pub fn page_text(self) -> String {
        let texts: Vec<_> = self.iter().map(Permission::page_text).collect();
        if texts.is_empty() {
            "なし".to_owned()
        } else {
            texts.join("、")
        }
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |bits, one| bits | one.bit()))
    }
}

/// The words in the database.
impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(Permission::as_str).collect();
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests;
